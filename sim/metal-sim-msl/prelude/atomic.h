// <metal_atomic>: atomic types and functions. Each access is reported with its order, then done by the host's own
// atomic instruction, since threadgroups may run on several OS threads. The host's is never weaker than the order that
// was asked for; only the detector tells orders apart.
#pragma once

namespace metal {

// Aligned by an attribute, so that the host's instructions are atomic.
template <class T>
struct alignas(sizeof(T)) atomic {
  static_assert(is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8 || is_same_v<T, bool>),
                "atomic<T>: T is int, uint, ulong, float or bool");
  T value;
};
template <class T>
using _atomic = atomic<T>;

typedef atomic<int> atomic_int;
typedef atomic<uint> atomic_uint;
typedef atomic<bool> atomic_bool;
typedef atomic<float> atomic_float;
typedef atomic<ulong> atomic_ulong;

}  // namespace metal

namespace msl_detail {

template <class T>
MSL_FN void atomically(const volatile atomic<T>* at, uint32_t kind, memory_order order) {
  report_atomic(const_cast<const T*>(&at->value), sizeof(T), kind, order);
}

template <class T, class F>
MSL_FN T modify(volatile atomic<T>* at, memory_order order, F&& changed) {
  atomically(at, MSL_READ_WRITE, order);
  T was, now;
  __atomic_load(&at->value, &was, __ATOMIC_RELAXED);
  do {
    now = changed(was);
  } while (!__atomic_compare_exchange(&at->value, &was, &now, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
  return was;
}

}  // namespace msl_detail

namespace metal {

template <class T>
MSL_FN T atomic_load_explicit(const volatile atomic<T>* at, memory_order order) {
  msl_detail::atomically(at, MSL_READ, order);
  T value;
  int host = order == memory_order_relaxed ? __ATOMIC_RELAXED : __ATOMIC_SEQ_CST;
  __atomic_load(const_cast<T*>(&at->value), &value, host);
  return value;
}

template <class T>
MSL_FN void atomic_store_explicit(volatile atomic<T>* at, type_identity_t<T> value, memory_order order) {
  msl_detail::atomically(at, MSL_WRITE, order);
  __atomic_store(&at->value, &value, order == memory_order_relaxed ? __ATOMIC_RELAXED : __ATOMIC_SEQ_CST);
}

template <class T>
MSL_FN T atomic_exchange_explicit(volatile atomic<T>* at, type_identity_t<T> value, memory_order order) {
  return msl_detail::modify(at, order, [&](T) { return value; });
}

// Never fails without a reason, which Metal allows it to.
template <class T>
MSL_FN bool atomic_compare_exchange_weak_explicit(volatile atomic<T>* at, type_identity_t<T>* expected,
                                                  type_identity_t<T> desired, memory_order success, memory_order) {
  msl_detail::atomically(at, MSL_READ_WRITE, success);
  return __atomic_compare_exchange(&at->value, expected, &desired, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

#define MSL_ATOMIC(name, expression)                                                                    \
  template <class T>                                                                                    \
  MSL_FN T atomic_##name##_explicit(volatile atomic<T>* at, type_identity_t<T> b, memory_order order) { \
    return msl_detail::modify(at, order, [&](T a) { return T(expression); });                           \
  }
MSL_ATOMIC(fetch_add, a + b)
MSL_ATOMIC(fetch_sub, a - b)
MSL_ATOMIC(fetch_and, a & b)
MSL_ATOMIC(fetch_or, a | b)
MSL_ATOMIC(fetch_xor, a ^ b)
MSL_ATOMIC(fetch_max, metal::max(a, b))
MSL_ATOMIC(fetch_min, metal::min(a, b))
#undef MSL_ATOMIC

// For ulong, without what was there before.
MSL_FN void atomic_max_explicit(volatile atomic<ulong>* at, ulong value, memory_order order) {
  atomic_fetch_max_explicit(at, value, order);
}
MSL_FN void atomic_min_explicit(volatile atomic<ulong>* at, ulong value, memory_order order) {
  atomic_fetch_min_explicit(at, value, order);
}

MSL_FN void atomic_thread_fence(mem_flags flags, memory_order order, thread_scope = thread_scope_device) {
  msl_detail::report_fence(uint(flags), order);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

}  // namespace metal
