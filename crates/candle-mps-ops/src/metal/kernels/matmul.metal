// Products of matrices by tiles: C = act(A · B + M · N + bias) + added, see `product.metal`.
//
// Four simdgroups share a square of C, each with a quarter of it: of 64 rows and columns, or of 32 where that would
// leave most of the GPU without work. Per step, a simdgroup of the large square loads 8 matrices for 16 products, that
// of the small one 4 for 4. The tiles take 10 KB and 5 KB of threadgroup memory, so that three threadgroups and six fit
// into 32 KB and hide each other's waits; the sums take 32 and 8 registers of a thread, and the matrices being
// multiplied 16 and 8. Chosen by this arithmetic, not measured on a Mac.

template <typename T, ushort SIZE>
KERNEL(128) matmul(device const T* a [[buffer(0)]],
                   device const T* b [[buffer(1)]],
                   device T* c [[buffer(2)]],
                   device T* z [[buffer(3), function_constant(KEEP)]],
                   device const T* bias [[buffer(4), function_constant(BIAS)]],
                   device const float* m [[buffer(5), function_constant(MORE)]],
                   device const T* n [[buffer(6), function_constant(MORE)]],
                   device const T* added [[buffer(7), function_constant(ADD)]],
                   constant Product& at [[buffer(8)]],
                   uint3 group [[threadgroup_position_in_grid]],
                   ushort place [[thread_index_in_threadgroup]],
                   ushort simdgroup [[simdgroup_index_in_threadgroup]],
                   ushort lane [[thread_index_in_simdgroup]]) {
  constexpr ushort HALF = SIZE / 2;  // what a simdgroup has of the square
  threadgroup float4 shared[2 * SIZE * PITCH / 4];
  threadgroup float* left = reinterpret_cast<threadgroup float*>(shared);
  threadgroup float* right = left + SIZE * PITCH;
  const uint row = group.y * SIZE, column = group.x * SIZE;
  const ushort own_row = simdgroup / 2 * HALF, own_column = simdgroup % 2 * HALF;
  const Reading read_a = {A_ALONG_LINES, A_FOURS}, read_b = {B_ALONG_LINES, B_FOURS};
  const Inner along_a = {at.a.inner[0], at.a.inner[1], SPLIT ? at.split : 0};
  const Inner along_b = {at.b.inner[0], at.b.inner[1], SPLIT ? at.split : 0};
  const ulong start_a = start_of(at.a, at, group.z), start_b = start_of(at.b, at, group.z);

  Accumulator<HALF / 8, HALF / 8> sums;
  sums.clear();
  for (uint k = 0; k < at.inner; k += DEPTH) {
    // Nobody multiplies the tiles of the step before any more.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (A_FLOAT) {
      device const float* from = reinterpret_cast<device const float*>(a) + start_a;
      read_tile<SIZE, 128>(left, from, at.a.line, along_a, read_a, row, at.rows, k, at.inner, place);
    } else {
      read_tile<SIZE, 128>(left, a + start_a, at.a.line, along_a, read_a, row, at.rows, k, at.inner, place);
    }
    if (B_FLOAT) {
      device const float* from = reinterpret_cast<device const float*>(b) + start_b;
      read_tile<SIZE, 128>(right, from, at.b.line, along_b, read_b, column, at.columns, k, at.inner, place);
    } else {
      read_tile<SIZE, 128>(right, b + start_b, at.b.line, along_b, read_b, column, at.columns, k, at.inner, place);
    }
    // The tiles are there.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    sums.add(left + own_row * PITCH, PITCH, right + own_column * PITCH);
  }
  if (MORE) {
    const Reading read_m = {true, false}, read_n = {at.n.line != 1, false};
    const Inner along_m = {0, at.m.inner[1], 0}, along_n = {0, at.n.inner[1], 0};
    device const float* from_m = m + at.m.start;
    device const T* from_n = n + at.n.start;
    for (uint k = 0; k < at.more; k += DEPTH) {
      threadgroup_barrier(mem_flags::mem_threadgroup);
      read_tile<SIZE, 128>(left, from_m, at.m.line, along_m, read_m, row, at.rows, k, at.more, place);
      read_tile<SIZE, 128>(right, from_n, at.n.line, along_n, read_n, column, at.columns, k, at.more, place);
      threadgroup_barrier(mem_flags::mem_threadgroup);
      sums.add(left + own_row * PITCH, PITCH, right + own_column * PITCH);
    }
  }

  // The tiles' memory now takes the sums, eight rows of each simdgroup at a time: which lane has which element of a
  // simdgroup matrix is not for us to know.
  threadgroup_barrier(mem_flags::mem_threadgroup);
  threadgroup float* strip = left + simdgroup * 8 * HALF;
  const ulong start_c = start_of_result(at, group.z);
  for (ushort part = 0; part < HALF / 8; part++) {
    sums.store(part, strip);
    // The strip is there.
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (ushort item = lane; item < 8 * HALF; item += 32) {
      const uint its_row = row + own_row + part * 8 + item / HALF, its_column = column + own_column + item % HALF;
      if (its_row < at.rows && its_column < at.columns) {
        finish(c, z, bias, added, at, start_c + its_row * at.c_row + its_column, its_column, strip[item]);
      }
    }
    // And has been read, before the next one comes.
    simdgroup_barrier(mem_flags::mem_threadgroup);
  }
}

#define INSTANTIATE_SIZE(SIZE, SUFFIX, T)                                                                    \
  template [[host_name("matmul_" #SIZE "_" #SUFFIX)]] kernel decltype(matmul<T, SIZE>) matmul<T, SIZE>;
#define INSTANTIATE_SIZES(SUFFIX, T) INSTANTIATE_SIZE(32, SUFFIX, T) INSTANTIATE_SIZE(64, SUFFIX, T)
INSTANTIATE_SIZES(f32, float)
INSTANTIATE_SIZES(f16, half)
#ifdef HAS_BF16
INSTANTIATE_SIZES(bf16, bfloat)
#endif
