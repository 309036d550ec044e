// Each half of the simdgroup shuffles in a branch of its own, and asks the other half, which is not there.
// threads: 32, groups: 1, finds: simd
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    float x = in[i];
    if (i < 16) {
        x += simd_shuffle_down(x, 16);
    } else {
        x -= simd_shuffle_up(x, 16);
    }
    out[i] = x;
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    float x = in[i];
    float y = simd_shuffle_xor(x, 16);
    if (i < 16) {
        x += y;
    } else {
        x -= y;
    }
    out[i] = x;
}
