// The runtime as compiled code calls it: a table that the library is handed once. Each function that lanes meet at
// is a call of its own in the machine code of the kernel, never merged with another and never duplicated: where it
// returns to is how the runtime knows whether lanes met at the same place.
#pragma once

#include "abi.h"

// The body leaves by a jump, so that the runtime sees the kernel as its caller. `optnone` keeps the compiler from
// finding out that nothing inside is convergent, and from forgetting it at the calls.
#define MSL_MEETING \
  __attribute__((convergent, noduplicate, nomerge, noinline, optnone, visibility("hidden"), no_sanitize("thread")))
#define MSL_OUT_OF_LINE __attribute__((noinline, nodebug, visibility("hidden"), no_sanitize("thread")))

static const msl_runtime* msl_rt;

// Nothing here is instrumented: the table is not the kernel's.
extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void msl_bind_1(const msl_runtime* runtime) {
  msl_rt = runtime;
}

namespace msl_detail {

// Pointers do not escape, so that what is exchanged counts as private and is not reported to the detector.
MSL_MEETING uint32_t exchange(
    const void* value __attribute__((noescape)), uint32_t size, void* all __attribute__((noescape)), uint32_t width) {
  __attribute__((musttail)) return msl_rt->exchange(value, size, all, width);
}

MSL_MEETING void simdgroup_barrier(uint32_t flags) {
  __attribute__((musttail)) return msl_rt->simdgroup_barrier(flags);
}

MSL_MEETING void threadgroup_barrier(uint32_t flags) {
  __attribute__((musttail)) return msl_rt->threadgroup_barrier(flags);
}

// The same while a thread runs, so the compiler may ask once.
__attribute__((const)) MSL_OUT_OF_LINE uint32_t lane() { return msl_rt->self()->thread_index_in_simdgroup; }

// Without the detector a runtime may leave these two out.
MSL_OUT_OF_LINE void report_atomic(const void* at, uint32_t size, uint32_t kind, uint32_t order) {
  if (msl_rt->atomic) msl_rt->atomic(at, size, kind, order, __builtin_return_address(0));
}

MSL_OUT_OF_LINE void report_fence(uint32_t flags, uint32_t order) {
  if (msl_rt->fence) msl_rt->fence(flags, order, __builtin_return_address(0));
}

// The place of a threadgroup variable for the calling thread's threadgroup.
__attribute__((const)) MSL_OUT_OF_LINE void* threadgroup_variable(const msl_variable* variable) {
  return msl_rt->threadgroup_variable(variable);
}

}  // namespace msl_detail
