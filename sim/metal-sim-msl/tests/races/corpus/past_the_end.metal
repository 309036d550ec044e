// The last threadgroup is not full, and nobody asks. As where Candle's causal attention reads keys past the last one.
// threads: 64, groups: 5, finds: bounds
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
    if (in[i] >= 0) {
        if (i < 256) {
            out[i] = 1;
        }
    }
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_position_in_grid]]) {
    if (i < 256) {
        if (in[i] >= 0) {
            out[i] = 1;
        }
    }
}
