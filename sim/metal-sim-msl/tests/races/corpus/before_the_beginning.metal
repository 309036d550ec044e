// An index that goes below 0 as an unsigned number.
// threads: 32, groups: 1, finds: bounds
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    device const float* before = in + i;
    out[i] = before[-1];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    device const float* before = in + i;
    out[i] = i > 0 ? before[-1] : 0;
}
