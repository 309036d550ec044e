// The partial maxima of the simdgroups are read by all, then the slots take partial sums: a fast simdgroup writes its
// sum where a slow one has yet to read a maximum. As in MLX's layer norm (#2340, #3630) and the KL kernel of mlx-lm
// (#1714).
// threads: 128, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

template <bool between>
void normalise(device const float* in, device float* out, threadgroup float* slots, uint i, uint simdgroup, uint lane) {
    float x = in[i];
    float most = simd_max(x);
    if (lane == 0) {
        slots[simdgroup] = most;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint at = 0; at < 4; at++) {
        most = max(most, slots[at]);
    }
    if (between) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float part = simd_sum(exp(x - most));
    if (lane == 0) {
        slots[simdgroup] = part;
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    float sum = slots[0] + slots[1] + slots[2] + slots[3];
    out[i] = exp(x - most) / sum;
}

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint s [[simdgroup_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float slots[4];
    normalise<false>(in, out, slots, i, s, lane);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint s [[simdgroup_index_in_threadgroup]],
                  uint lane [[thread_index_in_simdgroup]]) {
    threadgroup float slots[4];
    normalise<true>(in, out, slots, i, s, lane);
}
