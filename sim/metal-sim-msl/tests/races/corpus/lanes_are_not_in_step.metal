// The lanes of a simdgroup exchange through threadgroup memory as if they ran in step. They need not.
// threads: 32, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[32];
    shared[i] = in[i];
    out[i] = shared[31 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[32];
    shared[i] = in[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[31 - i];
}
