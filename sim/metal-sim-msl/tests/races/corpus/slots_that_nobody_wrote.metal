// 32 slots are summed, and only as many are written as there are simdgroups.
// threads: 64, groups: 1, finds: uninitialised
#include <metal_stdlib>
using namespace metal;

template <bool all>
void total(device const float* in, device float* out, threadgroup float* slots, uint i, uint s, uint lane) {
    if (all && i < 32) {
        slots[i] = 0;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = simd_sum(in[i]);
    if (lane == 0) {
        slots[s] = sum;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (s == 0) {
        float whole = simd_sum(slots[lane]);
        if (lane == 0) {
            out[0] = whole;
        }
    }
}

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint s [[simdgroup_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float slots[32];
    total<false>(in, out, slots, i, s, lane);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint s [[simdgroup_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float slots[32];
    total<true>(in, out, slots, i, s, lane);
}
