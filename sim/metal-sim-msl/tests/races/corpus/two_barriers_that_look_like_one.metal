// The threads wait at different barriers: on some GPUs that works by chance.
// threads: 64, groups: 1, finds: barrier
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    if (i < 32) {
        shared[i] = in[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    } else {
        shared[i] = 2 * in[i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    out[i] = shared[63 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    if (i < 32) {
        shared[i] = in[i];
    } else {
        shared[i] = 2 * in[i];
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[63 - i];
}
