// The mean is in the first slot; the first thread goes on and overwrites the slot with its part of the variance
// while others have yet to read the mean. As in llama.cpp's norm (#3057).
// threads: 64, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

template <bool between>
void norm(device const float* in, device float* out, threadgroup float* sums, uint i) {
    sums[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint half_ = 32; half_ > 0; half_ /= 2) {
        if (i < half_) {
            sums[i] += sums[i + half_];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float mean = sums[0] / 64;
    if (between) {
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float centred = in[i] - mean;
    sums[i] = centred * centred;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint half_ = 32; half_ > 0; half_ /= 2) {
        if (i < half_) {
            sums[i] += sums[i + half_];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    out[i] = centred * rsqrt(sums[0] / 64 + 1e-5f);
}

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float sums[64];
    norm<false>(in, out, sums, i);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float sums[64];
    norm<true>(in, out, sums, i);
}
