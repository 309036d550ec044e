// A tree over threadgroup memory whose levels are not separated: a thread adds what its neighbour may not have
// written yet.
// threads: 128, groups: 2, finds: race
#include <metal_stdlib>
using namespace metal;

template <bool between>
void reduce(device const float* in, device float* out, threadgroup float* shared, uint i, uint group) {
    shared[i] = in[group * 128 + i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint half_ = 64; half_ > 0; half_ /= 2) {
        if (i < half_) {
            shared[i] += shared[i + half_];
        }
        if (between) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
    }
    if (i == 0) {
        out[group] = shared[0];
    }
}

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    threadgroup float shared[128];
    reduce<false>(in, out, shared, i, group);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]], uint group [[threadgroup_position_in_grid]]) {
    threadgroup float shared[128];
    reduce<true>(in, out, shared, i, group);
}
