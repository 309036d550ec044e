// Causal attention in blocks: the number of blocks is taken from the diagonal, and the last one reaches past the last
// key when there are fewer keys than a whole block. As in Candle 0.11.1's steel attention; MLX clamps.
// threads: 40, groups: 1, finds: bounds
#include <metal_stdlib>
using namespace metal;

template <bool clamped>
void attend(device const float* keys, device float* out, uint query) {
    const uint length = 250, block = 16;
    uint last = (length - 40 + query) / block + 1;
    uint end = last * block;
    if (clamped) {
        end = min(end, length);
    }
    float sum = 0;
    for (uint key = 0; key < end; key++) {
        float k = keys[6 + key];
        sum += k * float(key <= length - 40 + query);
    }
    out[query] = sum;
}

kernel void wrong(device const float* keys [[buffer(0)]], device float* out [[buffer(1)]],
                  uint query [[thread_index_in_threadgroup]]) {
    attend<false>(keys, out, query);
}

kernel void right(device const float* keys [[buffer(0)]], device float* out [[buffer(1)]],
                  uint query [[thread_index_in_threadgroup]]) {
    attend<true>(keys, out, query);
}
