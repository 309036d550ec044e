// The barrier names threadgroup memory, and the threads meet in device memory.
// threads: 64, groups: 1, finds: race, strict
#include <metal_stdlib>
using namespace metal;

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    out[i] = in[i];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    out[64 + i] = out[63 - i];
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    out[i] = in[i];
    threadgroup_barrier(mem_flags::mem_device);
    out[64 + i] = out[63 - i];
}
