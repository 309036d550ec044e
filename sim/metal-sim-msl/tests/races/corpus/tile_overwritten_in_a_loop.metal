// A tile is loaded, used and loaded anew: without a barrier at the end of the loop, a fast thread loads the next tile
// over the one that others still use.
// threads: 64, groups: 1, finds: race
#include <metal_stdlib>
using namespace metal;

template <bool between>
void accumulate(device const float* in, device float* out, threadgroup float* tile, uint i) {
    float sum = 0;
    for (uint block = 0; block < 4; block++) {
        tile[i] = in[block * 64 + i];
        threadgroup_barrier(mem_flags::mem_threadgroup);
        for (uint at = 0; at < 64; at++) {
            sum += tile[at] * float(at ^ i);
        }
        if (between) {
            threadgroup_barrier(mem_flags::mem_threadgroup);
        }
    }
    out[i] = sum;
}

kernel void wrong(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    accumulate<false>(in, out, tile, i);
}

kernel void right(device const float* in [[buffer(0)]], device float* out [[buffer(1)]],
                  uint i [[thread_index_in_threadgroup]]) {
    threadgroup float tile[64];
    accumulate<true>(in, out, tile, i);
}
