// Kernels as they usually are, and one that is nothing but loads.
#include <metal_stdlib>
#include <metal_simdgroup_matrix>
using namespace metal;

kernel void loads(device const float *a [[buffer(0)]], device const float *b [[buffer(1)]],
                device float *out [[buffer(2)]], uint at [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint i = 0; i < 256; i++) sum += a[at % 64 * 256 + i] * b[i];
  out[at] = sum;
}

kernel void vectors(device const float4 *a [[buffer(0)]], device const float4 *b [[buffer(1)]],
                    device float *out [[buffer(2)]], uint at [[thread_position_in_grid]]) {
  float4 sum = 0;
  for (uint i = 0; i < 64; i++) sum += a[at % 64 * 64 + i] * b[i];
  out[at] = sum.x + sum.y + sum.z + sum.w;
}

kernel void halves(device const half *a [[buffer(0)]], device const half *b [[buffer(1)]],
                   device float *out [[buffer(2)]], uint at [[thread_position_in_grid]]) {
  float sum = 0;
  for (uint i = 0; i < 256; i++) sum += float(a[at % 64 * 256 + i]) * float(b[i]);
  out[at] = sum;
}

kernel void copy(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                 uint at [[thread_position_in_grid]]) {
  for (uint i = 0; i < 64; i++) out[i * 4096 + at] = in[i * 4096 + at];
}

kernel void rows(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                 uint me [[thread_index_in_threadgroup]], uint lane [[thread_index_in_simdgroup]],
                 uint simdgroup [[simdgroup_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]]) {
  threadgroup float parts[8];
  float most = -INFINITY;
  for (uint i = me; i < 1024; i += 256) most = max(most, in[row * 1024 + i]);
  most = simd_max(most);
  if (lane == 0) parts[simdgroup] = most;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  most = simd_max(parts[lane % 8]);
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0;
  for (uint i = me; i < 1024; i += 256) sum += exp(in[row * 1024 + i] - most);
  sum = simd_sum(sum);
  if (lane == 0) parts[simdgroup] = sum;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (simdgroup == 0) {
    sum = simd_sum(lane < 8 ? parts[lane] : 0.0f);
    if (lane == 0) out[row] = sum;
  }
}

// The greatest so far, and the sum of exponentials relative to it.
struct Partial {
  float most, sum;
};

static Partial join(Partial one, Partial other) {
  bool less = one.most < other.most;
  Partial high = less ? other : one, low = less ? one : other;
  return {high.most, high.sum + low.sum * exp(low.most - high.most)};
}

kernel void softmax(device const float *in [[buffer(0)]], device float *out [[buffer(1)]],
                    uint me [[thread_index_in_threadgroup]], uint row [[threadgroup_position_in_grid]]) {
  threadgroup Partial parts[256];
  Partial mine = {-INFINITY, 0};
  for (uint i = me; i < 1024; i += 256) mine = join(mine, {in[row * 1024 + i], 1});
  parts[me] = mine;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (uint half = 128; half > 0; half /= 2) {
    if (me < half) parts[me] = join(parts[me], parts[me + half]);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  float most = parts[0].most, scale = 1 / parts[0].sum;
  for (uint i = me; i < 1024; i += 256) out[row * 1024 + i] = exp(in[row * 1024 + i] - most) * scale;
}

kernel void tiles(device const float *a [[buffer(0)]], device const float *b [[buffer(1)]],
                  device float *c [[buffer(2)]], uint me [[thread_index_in_threadgroup]],
                  uint2 tile [[threadgroup_position_in_grid]]) {
  threadgroup float left[16][16], right[16][16];
  uint row = me / 16, column = me % 16;
  float sum = 0;
  for (uint k = 0; k < 64; k += 16) {
    left[row][column] = a[(tile.y * 16 + row) * 64 + k + column];
    right[row][column] = b[(k + row) * 64 + tile.x * 16 + column];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < 16; i++) sum += left[row][i] * right[i][column];
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  c[(tile.y * 16 + row) * 64 + tile.x * 16 + column] = sum;
}

// Four simdgroups make 32x32, each a quarter of it: loads of four floats, two by two matrices.
kernel void matrices(device const float *a [[buffer(0)]], device const float *b [[buffer(1)]],
                     device float *c [[buffer(2)]], uint me [[thread_index_in_threadgroup]],
                     uint simdgroup [[simdgroup_index_in_threadgroup]], uint2 tile [[threadgroup_position_in_grid]]) {
  threadgroup float left[32 * 20], right[16 * 36];
  uint top = simdgroup / 2 * 16, side = simdgroup % 2 * 16;
  simdgroup_matrix<float, 8, 8> sums[2][2];
  for (uint y = 0; y < 2; y++)
    for (uint x = 0; x < 2; x++) sums[y][x] = simdgroup_matrix<float, 8, 8>(0);
  for (uint k = 0; k < 64; k += 16) {
    uint row = me / 4, column = me % 4 * 4;
    *(threadgroup float4 *)&left[row * 20 + column] =
        *(device const float4 *)&a[(tile.y * 32 + row) * 64 + k + column];
    row = me / 8, column = me % 8 * 4;
    *(threadgroup float4 *)&right[row * 36 + column] =
        *(device const float4 *)&b[(k + row) * 64 + tile.x * 32 + column];
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < 16; i += 8) {
      simdgroup_matrix<float, 8, 8> l[2], r[2];
      for (uint n = 0; n < 2; n++) {
        simdgroup_load(l[n], &left[(top + n * 8) * 20 + i], 20);
        simdgroup_load(r[n], &right[i * 36 + side + n * 8], 36);
      }
      for (uint y = 0; y < 2; y++)
        for (uint x = 0; x < 2; x++) simdgroup_multiply_accumulate(sums[y][x], l[y], r[x], sums[y][x]);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }
  for (uint y = 0; y < 2; y++)
    for (uint x = 0; x < 2; x++)
      simdgroup_store(sums[y][x], &c[(tile.y * 32 + top + y * 8) * 64 + tile.x * 32 + side + x * 8], 64);
}
