// A counter is added to by atomics and read as a plain number before anything orders the two.
// threads: 64, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint count;
    if (i == 0) {
        atomic_store_explicit(&count, 0, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (in[i] >= 0) {
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    }
    out[i] = float(*(threadgroup uint*)&count);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup atomic_uint count;
    if (i == 0) {
        atomic_store_explicit(&count, 0, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (in[i] >= 0) {
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = float(*(threadgroup uint*)&count);
}
