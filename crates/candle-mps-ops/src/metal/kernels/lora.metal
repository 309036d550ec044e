// The low-rank correction of LoRA, y = s · (x · A) · B, in one dispatch, or its half t = s · (x · A) for products that
// take that up. t is in float, in threadgroup memory, and never rounded. Ranks go up to 64.
//
// By blocks of eight rows: 8 simdgroups share the inner dimension of x · A, DEPTH elements at a time, without waiting
// for each other, and add up what they have; then they share the columns of B. Eight rows are one simdgroup matrix, so
// that 128 rows make 16 blocks; with fewer blocks than a GPU needs, several threadgroups share the columns of one, and
// each computes t. The tiles of a simdgroup, 8 and 16 lines, fit into 2 KB, where its part of t goes as well: 18 KB for
// a threadgroup with t. The sums take up to 16 registers of a thread.
//
// By single rows, for a token or a few: a simdgroup matrix would be empty but for one row. 256 threads share the inner
// dimension, then the columns; 2.3 KB. Where y is wide, several threadgroups have a part of it and compute t each: at
// rank 8 that reads A once more for 1024 columns. Chosen by this arithmetic, not measured on a Mac.

constant bool X_ALONG_LINES [[function_constant(0)]];  // see `Reading`
constant bool X_FOURS [[function_constant(1)]];
constant bool A_ALONG_LINES [[function_constant(2)]];
constant bool A_FOURS [[function_constant(3)]];
constant bool B_ALONG_LINES [[function_constant(4)]];
constant bool B_FOURS [[function_constant(5)]];
constant bool DELTA [[function_constant(6)]];      // y; otherwise t, row-major and in float
constant ushort CHUNKS [[function_constant(16)]];  // of 16 that the rank takes

constant constexpr ushort MOST_RANK = 64;
constant constexpr ushort CHUNK = 16;
constant constexpr ushort SIMDGROUPS = 8;
constant constexpr ushort THREADS = SIMDGROUPS * 32;
constant constexpr ushort OWN = 8 * MOST_RANK;  // of a simdgroup in threadgroup memory
constant constexpr ushort LOW_PITCH = MOST_RANK + 4;

// Each of CHUNKS. With a bound that is known from the start the loop is unrolled and its sums stay in registers.
#define EACH_CHUNK(chunk) for (ushort chunk = 0; chunk < MOST_RANK / CHUNK; chunk++) if (chunk < CHUNKS)

struct LoraShape {
  Operand x;
  Operand a;
  Operand b;
  uint rows;
  uint inner;
  uint rank;
  uint columns;
  uint block;  // the columns of a threadgroup
  float scale;
};

template <typename T>
KERNEL(256) lora_block(device const T* x [[buffer(0)]],
                       device const T* a [[buffer(1)]],
                       device const T* b [[buffer(2), function_constant(DELTA)]],
                       device T* out [[buffer(3)]],
                       constant LoraShape& at [[buffer(4)]],
                       uint2 group [[threadgroup_position_in_grid]],
                       ushort place [[thread_index_in_threadgroup]],
                       ushort simdgroup [[simdgroup_index_in_threadgroup]],
                       ushort lane [[thread_index_in_simdgroup]]) {
  threadgroup float4 shared[SIMDGROUPS * OWN / 4];
  threadgroup float low[8 * LOW_PITCH];
  threadgroup float* parts = reinterpret_cast<threadgroup float*>(shared);
  threadgroup float* own = parts + simdgroup * OWN;
  threadgroup float* left = own;
  threadgroup float* right = own + 8 * PITCH;
  const uint row = group.y * 8, rank = at.rank;
  const Reading read_x = {X_ALONG_LINES, X_FOURS}, read_a = {A_ALONG_LINES, A_FOURS};
  const Inner along_x = {0, at.x.inner[1], 0}, along_a = {0, at.a.inner[1], 0};
  x += at.x.start;
  a += at.a.start;

  Accumulator<1, 2> low_sums[MOST_RANK / CHUNK];
  EACH_CHUNK(chunk) low_sums[chunk].clear();
  for (uint k = simdgroup * DEPTH; k < at.inner; k += SIMDGROUPS * DEPTH) {
    EACH_CHUNK(chunk) {
      // The simdgroup does not multiply the tiles of before any more.
      simdgroup_barrier(mem_flags::mem_threadgroup);
      if (chunk == 0) read_tile<8, 32>(left, x, at.x.line, along_x, read_x, row, at.rows, k, at.inner, lane);
      read_tile<CHUNK, 32>(right, a, at.a.line, along_a, read_a, chunk * CHUNK, rank, k, at.inner, lane);
      // The tiles are there.
      simdgroup_barrier(mem_flags::mem_threadgroup);
      low_sums[chunk].add(left, PITCH, right);
    }
  }
  // The simdgroup's part takes the place of its tiles.
  simdgroup_barrier(mem_flags::mem_threadgroup);
  EACH_CHUNK(chunk) low_sums[chunk].store(0, own + chunk * 8 * CHUNK);
  // All parts are there.
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (ushort item = place; item < CHUNKS * 8 * CHUNK; item += THREADS) {
    const ushort its_row = item / CHUNK % 8, its_rank = item / (8 * CHUNK) * CHUNK + item % CHUNK;
    float sum = 0;
    for (ushort part = 0; part < SIMDGROUPS; part++) sum += parts[part * OWN + item];
    // Behind the rank, infinity times nothing would be NaN.
    if (DELTA) {
      low[its_row * LOW_PITCH + its_rank] = its_rank < rank ? at.scale * sum : 0;
    } else if (row + its_row < at.rows && its_rank < rank) {
      reinterpret_cast<device float*>(out)[ulong(row + its_row) * rank + its_rank] = at.scale * sum;
    }
  }
  if (!DELTA) return;
  // t is there, and nobody reads the parts any more.
  threadgroup_barrier(mem_flags::mem_threadgroup);

  const Reading read_b = {B_ALONG_LINES, B_FOURS};
  const Inner along_b = {0, at.b.inner[1], 0};
  b += at.b.start;
  const uint first = group.x * at.block, end = min(first + at.block, at.columns);
  for (uint column = first + simdgroup * CHUNK; column < end; column += SIMDGROUPS * CHUNK) {
    Accumulator<1, 2> sums;
    sums.clear();
    EACH_CHUNK(chunk) {
      // The simdgroup does not use this memory any more.
      simdgroup_barrier(mem_flags::mem_threadgroup);
      read_tile<CHUNK, 32>(right, b, at.b.line, along_b, read_b, column, end, chunk * CHUNK, rank, lane);
      // The tile is there.
      simdgroup_barrier(mem_flags::mem_threadgroup);
      sums.add(low + chunk * CHUNK, LOW_PITCH, right);
    }
    // Where nothing has been read since the barriers above.
    sums.store(0, own);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (ushort item = lane; item < 8 * CHUNK; item += 32) {
      const uint its_row = row + item / CHUNK, its_column = column + item % CHUNK;
      if (its_row < at.rows && its_column < end) out[ulong(its_row) * at.columns + its_column] = T(own[item]);
    }
  }
}

INSTANTIATE(lora_block)

template <typename T>
KERNEL(256) lora_row(device const T* x [[buffer(0)]],
                     device const T* a [[buffer(1)]],
                     device const T* b [[buffer(2), function_constant(DELTA)]],
                     device T* out [[buffer(3)]],
                     constant LoraShape& at [[buffer(4)]],
                     uint2 group [[threadgroup_position_in_grid]],
                     ushort place [[thread_index_in_threadgroup]],
                     ushort simdgroup [[simdgroup_index_in_threadgroup]],
                     ushort lane [[thread_index_in_simdgroup]]) {
  threadgroup float parts[SIMDGROUPS * MOST_RANK];
  threadgroup float low[MOST_RANK];
  x += at.x.start + group.y * at.x.line;
  a += at.a.start;
  const uint rank = at.rank;

  for (uint first = 0; first < rank; first += 8) {
    // Loops with bounds that are known from the start are unrolled, and the sums stay in registers.
    const uint count = rank - first;
    float sums[8] = {};
    for (uint k = place; k < at.inner; k += THREADS) {
      const float value = float(x[k * at.x.inner[1]]);
      device const T* from = a + k * at.a.inner[1] + first * at.a.line;
      if (A_FOURS && !A_ALONG_LINES) {
        for (ushort j = 0; j < 8; j += 4) {
          if (j >= count) break;
          const float4 product = value * load4(from + j);
          for (ushort i = 0; i < 4; i++) sums[j + i] += product[i];
        }
      } else {
        for (ushort j = 0; j < 8; j++) {
          if (j < count) sums[j] += value * float(from[j * at.a.line]);
        }
      }
    }
    for (ushort j = 0; j < 8; j++) {
      const float sum = simd_sum(sums[j]);
      if (lane == j) parts[simdgroup * MOST_RANK + first + j] = sum;
    }
  }
  // All parts are there.
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (place < rank) {
    float sum = 0;
    for (ushort part = 0; part < SIMDGROUPS; part++) sum += parts[part * MOST_RANK + place];
    if (DELTA) {
      low[place] = at.scale * sum;
    } else {
      reinterpret_cast<device float*>(out)[group.y * rank + place] = at.scale * sum;
    }
  }
  if (!DELTA) return;
  // t is there.
  threadgroup_barrier(mem_flags::mem_threadgroup);

  b += at.b.start;
  out += ulong(group.y) * at.columns;
  const uint first = group.x * at.block, end = min(first + at.block, at.columns);
  if (B_FOURS && !B_ALONG_LINES) {
    for (uint column = first + 4 * place; column < end; column += 4 * THREADS) {
      float4 sum = 0;
      for (uint k = 0; k < rank; k++) sum += low[k] * load4(b + k * at.b.inner[1] + column);
      store4(out + column, sum);
    }
  } else {
    for (uint column = first + place; column < end; column += THREADS) {
      float sum = 0;
      for (uint k = 0; k < rank; k++) sum += low[k] * float(b[k * at.b.inner[1] + column * at.b.line]);
      out[column] = T(sum);
    }
  }
}

INSTANTIATE(lora_row)
