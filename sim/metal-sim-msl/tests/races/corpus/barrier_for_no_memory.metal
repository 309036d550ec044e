// mem_none stops the threads and orders nothing. As in the KL kernel of mlx-lm (#1714).
// threads: 64, groups: 1, finds: race, strict
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    threadgroup_barrier(mem_flags::mem_none);
    out[i] = shared[63 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[63 - i];
}
