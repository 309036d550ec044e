// A barrier of the simdgroup orders its own lanes, not those of another one.
// threads: 64, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    simdgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[63 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float shared[64];
    shared[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[i] = shared[63 - i];
}
