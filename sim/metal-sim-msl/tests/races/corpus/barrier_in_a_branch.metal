// Half of the threads wait at a barrier that the other half never reaches.
// threads: 64, groups: 1, finds: barrier
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    if (i < 32) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
        out[i] = shared[i];
    }
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (i < 32) {
        out[i] = shared[i];
    }
}
