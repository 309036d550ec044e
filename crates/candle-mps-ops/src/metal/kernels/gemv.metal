// Products with few rows of A, such as one token of a model: see `product.metal`. What counts is that B, the weight, is
// read once and by neighbours; A is small and stays in the cache.
//
// `gemv` is for a B whose columns have neighbouring elements, a weight [out, in] as it is. A simdgroup has four
// columns, so that what it reads of A serves four times. The sums take 4 registers of a thread for each row, 32 at
// most, and no threadgroup memory; four simdgroups to a threadgroup only save threadgroups.
//
// `gemv_across` is for a B whose rows have them, as in the gradient of x. A threadgroup has 128 columns, four for each
// lane; its simdgroups share the inner dimension and meet once for each row of A, in 8 KB. Chosen by this arithmetic,
// not measured on a Mac.

constant constexpr ushort OWN_COLUMNS = 4;
constant constexpr ushort MOST_ROWS = 8;
constant constexpr ushort MOST_SIMDGROUPS = 16;

// Each of FEW rows. With a bound that is known from the start the loop is unrolled and its sums stay in registers.
#define EACH_ROW(i) for (ushort i = 0; i < MOST_ROWS; i++) if (i < FEW)

template <typename T>
KERNEL(128) gemv(device const T* a [[buffer(0)]],
                 device const T* b [[buffer(1)]],
                 device T* c [[buffer(2)]],
                 device T* z [[buffer(3), function_constant(KEEP)]],
                 device const T* bias [[buffer(4), function_constant(BIAS)]],
                 device const float* m [[buffer(5), function_constant(MORE)]],
                 device const T* n [[buffer(6), function_constant(MORE)]],
                 device const T* added [[buffer(7), function_constant(ADD)]],
                 constant Product& at [[buffer(8)]],
                 uint3 group [[threadgroup_position_in_grid]],
                 ushort simdgroup [[simdgroup_index_in_threadgroup]],
                 ushort lane [[thread_index_in_simdgroup]],
                 uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint first = (group.x * simdgroups + simdgroup) * OWN_COLUMNS;
  if (first >= at.columns) return;
  a += start_of(at.a, at, group.z);
  b += start_of(at.b, at, group.z);
  // Behind the last column there is that column again, which is then not written.
  ulong columns[OWN_COLUMNS];
  for (ushort j = 0; j < OWN_COLUMNS; j++) columns[j] = min(first + j, at.columns - 1);

  float sums[MOST_ROWS][OWN_COLUMNS] = {};
  if (A_FOURS && B_FOURS) {
    for (uint k = 4 * lane; k < at.inner; k += 4 * 32) {
      float4 weights[OWN_COLUMNS];
      for (ushort j = 0; j < OWN_COLUMNS; j++) weights[j] = load4(b + columns[j] * at.b.line + k);
      EACH_ROW(i) {
        const float4 x = load4(a + i * at.a.line + k);
        for (ushort j = 0; j < OWN_COLUMNS; j++) sums[i][j] += dot(x, weights[j]);
      }
    }
  } else {
    for (uint k = lane; k < at.inner; k += 32) {
      float weights[OWN_COLUMNS];
      for (ushort j = 0; j < OWN_COLUMNS; j++) weights[j] = float(b[columns[j] * at.b.line + k * at.b.inner[1]]);
      EACH_ROW(i) {
        const float x = float(a[i * at.a.line + k * at.a.inner[1]]);
        for (ushort j = 0; j < OWN_COLUMNS; j++) sums[i][j] += x * weights[j];
      }
    }
  }
  if (MORE) {
    for (uint k = lane; k < at.more; k += 32) {
      for (ushort j = 0; j < OWN_COLUMNS; j++) {
        const float weight = float(n[at.n.start + columns[j] * at.n.line + k * at.n.inner[1]]);
        EACH_ROW(i) {
          sums[i][j] += m[at.m.start + i * at.m.line + k * at.m.inner[1]] * weight;
        }
      }
    }
  }

  // Each lane keeps the sum that it writes.
  float own = 0;
  EACH_ROW(i) {
    for (ushort j = 0; j < OWN_COLUMNS; j++) {
      const float sum = simd_sum(sums[i][j]);
      if (lane == i * OWN_COLUMNS + j) own = sum;
    }
  }
  const uint row = lane / OWN_COLUMNS, column = first + lane % OWN_COLUMNS;
  if (row < FEW && column < at.columns) {
    finish(c, z, bias, added, at, start_of_result(at, group.z) + row * at.c_row + column, column, own);
  }
}

INSTANTIATE(gemv)

template <typename T>
KERNEL(512) gemv_across(device const T* a [[buffer(0)]],
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
                        ushort lane [[thread_index_in_simdgroup]],
                        uint simdgroups [[simdgroups_per_threadgroup]]) {
  constexpr ushort WIDTH = 32 * OWN_COLUMNS;
  threadgroup float parts[MOST_SIMDGROUPS * WIDTH];
  const uint first = group.x * WIDTH;
  a += start_of(at.a, at, group.z);
  b += start_of(at.b, at, group.z);
  // A lane's columns: neighbours if they are read together, or else those of all lanes in turn. Behind the last column
  // there is that column again, which is then not written.
  ushort own[OWN_COLUMNS];
  uint columns[OWN_COLUMNS];
  for (ushort j = 0; j < OWN_COLUMNS; j++) {
    own[j] = B_FOURS ? lane * OWN_COLUMNS + j : lane + j * 32;
    columns[j] = min(first + own[j], at.columns - 1);
  }

  float4 sums[MOST_ROWS] = {};
  for (uint k = simdgroup; k < at.inner; k += simdgroups) {
    device const T* from = b + k * at.b.inner[1];
    // Four columns are there or none is; the last four stand in for them.
    const float4 weights = B_FOURS ? load4(from + columns[3] - 3)
                                   : float4(float(from[columns[0]]), float(from[columns[1]]), float(from[columns[2]]),
                                            float(from[columns[3]]));
    EACH_ROW(i) sums[i] += float(a[i * at.a.line + k * at.a.inner[1]]) * weights;
  }
  if (MORE) {
    for (uint k = simdgroup; k < at.more; k += simdgroups) {
      float4 weights;
      for (ushort j = 0; j < OWN_COLUMNS; j++) {
        weights[j] = float(n[at.n.start + columns[j] * at.n.line + k * at.n.inner[1]]);
      }
      EACH_ROW(i) sums[i] += m[at.m.start + i * at.m.line + k * at.m.inner[1]] * weights;
    }
  }

  EACH_ROW(i) {
    // Nobody reads the parts of the row before any more.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (ushort j = 0; j < OWN_COLUMNS; j++) parts[simdgroup * WIDTH + own[j]] = sums[i][j];
    // The parts are there.
    threadgroup_barrier(mem_flags::mem_threadgroup);
    const uint column = first + place;
    if (place < WIDTH && column < at.columns) {
      float sum = 0;
      for (uint part = 0; part < simdgroups; part++) sum += parts[part * WIDTH + place];
      finish(c, z, bias, added, at, start_of_result(at, group.z) + i * at.c_row + column, column, sum);
    }
  }
}

INSTANTIATE(gemv_across)
