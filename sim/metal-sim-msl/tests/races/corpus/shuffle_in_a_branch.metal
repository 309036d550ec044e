// A shuffle in a branch that only some lanes take: the others have nothing to give.
// threads: 32, groups: 1, finds: simd
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    float x = in[i];
    if (i < 16) {
        x += simd_shuffle_down(x, 16);
    }
    out[i] = x;
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    float x = in[i];
    float y = simd_shuffle_down(x, 16);
    if (i < 16) {
        x += y;
    }
    out[i] = x;
}
