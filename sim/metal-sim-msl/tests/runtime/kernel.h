// What the prelude and the rewriter would make around a kernel, by hand: these tests are of the runtime alone.
#pragma once
#include "../../prelude/abi.h"
typedef __SIZE_TYPE__ size;

#define INLINE static inline __attribute__((always_inline))
#define UNCHECKED __attribute__((disable_sanitizer_instrumentation, noinline))

static const msl_runtime* msl_rt;
extern "C" UNCHECKED void msl_bind_1(const msl_runtime* table) { msl_rt = table; }
extern "C" void msl_derive_1(void);

// Calls that lanes meet at: none may be merged with another, and the runtime sees the kernel as the caller.
#define MEETS UNCHECKED static __attribute__((convergent, noduplicate, nomerge, optnone))
MEETS uint32_t meet(const void* mine, uint32_t size, void* all, uint32_t width) {
  __attribute__((musttail)) return msl_rt->exchange(mine, size, all, width);
}
MEETS void barrier_(uint32_t flags) { __attribute__((musttail)) return msl_rt->threadgroup_barrier(flags); }
MEETS void simd_barrier_(uint32_t flags) { __attribute__((musttail)) return msl_rt->simdgroup_barrier(flags); }

template <class T, int N> struct values { T at[N]; uint32_t met; };
template <class T> INLINE values<T, 32> exchange(T mine) {
  values<T, 32> all;
  all.met = meet(&mine, sizeof(T), all.at, 32);
  return all;
}
template <class T> INLINE values<T, 4> quad_exchange(T mine) {
  values<T, 4> all;
  all.met = meet(&mine, sizeof(T), all.at, 4);
  return all;
}
INLINE uint32_t simd_sum(uint32_t mine) {
  auto all = exchange(mine);
  uint32_t sum = 0;
  for (int i = 0; i < 32; i++) sum += all.at[i];
  return sum;
}
enum { DEVICE = 1, THREADGROUP = 2 };
INLINE void barrier(uint32_t flags = THREADGROUP) { barrier_(flags); }
INLINE void simd_barrier(uint32_t flags = THREADGROUP) { simd_barrier_(flags); }

// Atomics: told to the detector, then made. Orders as in the contract.
enum { RELAXED, ACQUIRE, RELEASE };
UNCHECKED static uint32_t atomic_add(uint32_t* at, uint32_t by, uint32_t order = RELAXED) {
  msl_rt->atomic(at, 4, MSL_READ_WRITE, order, __builtin_return_address(0));
  return __atomic_fetch_add(at, by, __ATOMIC_SEQ_CST);
}
UNCHECKED static uint32_t atomic_load(uint32_t* at, uint32_t order = RELAXED) {
  msl_rt->atomic(at, 4, MSL_READ, order, __builtin_return_address(0));
  return __atomic_load_n(at, __ATOMIC_SEQ_CST);
}
UNCHECKED static void atomic_store(uint32_t* at, uint32_t value, uint32_t order = RELAXED) {
  msl_rt->atomic(at, 4, MSL_WRITE, order, __builtin_return_address(0));
  __atomic_store_n(at, value, __ATOMIC_SEQ_CST);
}
UNCHECKED static void atomic_fence(uint32_t order) { msl_rt->fence(3, order, __builtin_return_address(0)); }

#define SHARED(T, name)                                                                 \
  using name##_type = __typeof__(T);                                                    \
  static const msl_variable name##_variable = {#name, sizeof(T), alignof(T), __LINE__}; \
  name##_type& name = *(name##_type*)msl_rt->threadgroup_variable(&name##_variable)

#define KERNEL(name) static void name(void* const* buffers, const msl_thread* self)
#define BUFFER(T, index) ((T*)buffers[index])

#ifdef MSL_DETECT
#ifdef MSL_ASK  // Without what the library is told to watch, the runtime is asked about every access.
#define msl_watch_1 msl_unused
#endif
#include "../../prelude/detect.h"
#endif
