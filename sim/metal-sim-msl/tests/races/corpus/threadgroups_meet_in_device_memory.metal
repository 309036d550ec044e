// Two threadgroups add to one element without an atomic: nothing orders them.
// threads: 32, groups: 2, finds: race
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    float sum = simd_sum(in[group * 32 + i]);
    if (i == 0) {
        out[0] += sum;
    }
}

kernel void right(device const float* in [[buffer(0)]], device atomic_float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    float sum = simd_sum(in[group * 32 + i]);
    if (i == 0) {
        atomic_fetch_add_explicit(out, sum, memory_order_relaxed);
    }
}
