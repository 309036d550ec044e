// Two threads write parts of a word that overlap by a byte: a race that an eye for whole words does not see.
// threads: 2, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    device uchar* bytes = (device uchar*)out;
    bytes[i] = 1;
    bytes[i + 1] = uchar(in[0]);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    device uchar* bytes = (device uchar*)out;
    bytes[2 * i] = 1;
    bytes[2 * i + 1] = uchar(in[0]);
}
