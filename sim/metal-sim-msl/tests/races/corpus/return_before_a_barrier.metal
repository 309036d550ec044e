// Threads beyond the data return early, and the others wait at the barrier for ever.
// threads: 64, groups: 1, finds: barrier
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    if (i >= 50) {
        return;
    }
    shared[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[49 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    if (i < 50) {
        shared[i] = in[i];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < 50) {
        out[i] = shared[49 - i];
    }
}
