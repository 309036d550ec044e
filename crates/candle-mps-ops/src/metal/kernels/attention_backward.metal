// The gradients of attention. Weights are computed again from the logarithms of sums that the forward pass has kept.
//
// Blocks are as large as 32 KB of threadgroup memory allow. For heads of 64: 4 simdgroups with 8 rows of 64 and 64,
// 16 KB; a block of 16, 8 KB; weights and slopes, 4 KB. Heads of 128 leave room for 2 simdgroups and blocks of 8: 16, 8
// and 1 KB. Other divisions have not been measured on a Mac.

constant bool OF_QUERIES = !OF_KEYS;

struct AttentionGradientShape {
  AttentionShape of;
  Place g;
  Place dq;
  Place dk;
  Place dv;
};

// The logarithm of a row's sum. One that saw nothing, or is not there, gets infinity: its weights are 0 then.
inline float log_of(device const float* lse, uint row, uint rows) {
  return row < rows && lse[row] != -INFINITY ? lse[row] : INFINITY;
}

// Two kernels in one, as they differ only in who has 8 rows of his own and who comes by in blocks. A weight is
// exp(score - lse), and its slope g vᵀ - delta, where delta is the sum of g y of a row.
// - Own rows of q and g get dq = slopes k. They also compute delta, and leave it to the other kernel.
// - Own rows of k and v see the queries of all heads that share them, and get dk = slopesᵀ q and dv = weightsᵀ g.
// Each sum is one simdgroup's: nothing is atomic, and results do not change from run to run.
template <typename T>
KERNEL(128) attention_gradient(device const T* q [[buffer(0)]],
                               device const T* k [[buffer(1)]],
                               device const T* v [[buffer(2)]],
                               device const T* mask [[buffer(3), function_constant(MASKED)]],
                               device const T* g [[buffer(4)]],
                               device const T* y [[buffer(5), function_constant(OF_QUERIES)]],
                               device const float* lse [[buffer(6)]],
                               device float* delta [[buffer(7)]],
                               device T* dx [[buffer(8)]],  // dq or dk
                               device T* dv [[buffer(9), function_constant(OF_KEYS)]],
                               constant AttentionGradientShape& shape [[buffer(10)]],
                               uint3 group [[threadgroup_position_in_grid]],
                               uint3 groups [[threadgroups_per_grid]],
                               uint member [[thread_index_in_threadgroup]],
                               uint simdgroup [[simdgroup_index_in_threadgroup]],
                               ushort lane [[thread_index_in_simdgroup]],
                               uint simdgroups [[simdgroups_per_threadgroup]]) {
  constant AttentionShape& at = shape.of;
  threadgroup float4 fours[MEMORY / 4];  // aligned for four at once
  threadgroup float* memory = reinterpret_cast<threadgroup float*>(fours);
  const uint2 head = group.yz;
  const uint first_of_all = group.x * simdgroups * 8, first = first_of_all + 8 * simdgroup;
  lse += ulong(head.y * groups.y + head.x) * at.rows;
  delta += ulong(head.y * groups.y + head.x) * at.rows;

  // A block: q or k, g or v, numbers of the rows of q. Of this simdgroup: the same for its 8 rows, and of each of these
  // with the block the weights and their slopes. In the end, gradients.
  threadgroup float* block_x = memory;
  threadgroup float* block_y = block_x + BLOCK * SIZE;
  threadgroup float* block_numbers = block_y + BLOCK * WIDTH;
  threadgroup float* own_x = block_numbers + BLOCK * 2 + simdgroup * 8 * (SIZE + WIDTH + 2 + 2 * BLOCK);
  threadgroup float* own_y = own_x + 8 * SIZE;
  threadgroup float* own_numbers = own_y + 8 * WIDTH;
  threadgroup float* weights = own_numbers + 8 * 2;
  threadgroup float* slopes = weights + 8 * BLOCK;

  const Copiers all = {head, member, 32 * simdgroups}, alone = {head, lane, 32};
  if (OF_KEYS) {
    stage(own_x, 8, SIZE, k, at.k, 1, first, at.keys, at.size, alone);
    stage(own_y, 8, WIDTH, v, at.v, 1, first, at.keys, at.width, alone);
  } else {
    stage(own_x, 8, SIZE, q, at.q, at.shared, first, at.rows, at.size, alone);
    stage(own_y, 8, WIDTH, g, shape.g, at.shared, first, at.rows, at.width, alone);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = 0; i < 8; i++) {
      float part = 0;
      if (first + i < at.rows) {
        device const T* its_y = y + row_place(at.y, head, at.shared, first + i);
        for (uint w = lane; w < at.width; w += 32) part += own_y[i * WIDTH + w] * float(its_y[w * at.y.stride[3]]);
      }
      const float sum = simd_sum(part);
      if (lane == 0) {
        own_numbers[i] = log_of(lse, first + i, at.rows);
        own_numbers[8 + i] = sum;
        if (first + i < at.rows) delta[first + i] = sum;
      }
    }
  }
  simdgroup_float8x8 sums_x[HEAD_TILES], sums_y[HEAD_TILES];
  clear_tiles<HEAD_TILES>(sums_x);
  clear_tiles<HEAD_TILES>(sums_y);

  // From the first row that sees the first key, or to the last key that the last row sees.
  const bool late = OF_KEYS && CAUSAL && first_of_all + at.queries > at.keys;
  const uint begin = late ? (first_of_all + at.queries - at.keys) * at.shared : 0;
  const uint end = OF_KEYS ? at.rows : seen_by(at, min(first_of_all + 8 * simdgroups, at.rows) - 1);
  for (uint from = begin; from < end; from += BLOCK) {
    if (OF_KEYS) {
      stage(block_x, BLOCK, SIZE, q, at.q, at.shared, from, at.rows, at.size, all);
      stage(block_y, BLOCK, WIDTH, g, shape.g, at.shared, from, at.rows, at.width, all);
      for (uint i = member; i < BLOCK; i += 32 * simdgroups) {
        block_numbers[i] = log_of(lse, from + i, at.rows);
        block_numbers[BLOCK + i] = from + i < at.rows ? delta[from + i] : 0;
      }
    } else {
      stage(block_x, BLOCK, SIZE, k, at.k, 1, from, at.keys, at.size, all);
      stage(block_y, BLOCK, WIDTH, v, at.v, 1, from, at.keys, at.width, all);
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);

    turned_product(weights, own_x, block_x, SIZE);
    turned_product(slopes, own_y, block_y, WIDTH);
    simdgroup_barrier(mem_flags::mem_threadgroup);
    for (uint i = lane; i < 8 * BLOCK; i += 32) {
      const uint own = i / BLOCK, other = i % BLOCK;
      const uint row = OF_KEYS ? from + other : first + own, key = OF_KEYS ? first + own : from + other;
      threadgroup const float* numbers = OF_KEYS ? block_numbers + other : own_numbers + own;
      float weight = 0, slope = 0;
      if (row < at.rows && key < seen_by(at, row)) {
        const float capped = score_of(at, weights[i]);
        float score = capped;
        if (MASKED) score += float(mask[row_place(at.mask, head, at.shared, row) + key * at.mask.stride[3]]);
        weight = exp(score - numbers[0]);
        slope = weight * (slopes[i] - numbers[OF_KEYS ? BLOCK : 8]) * at.scale;
        if (CAPPED) slope *= 1 - (capped / at.cap) * (capped / at.cap);
      }
      weights[i] = weight;
      slopes[i] = slope;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    add_product(sums_x, slopes, block_x, SIZE);
    if (OF_KEYS) add_product(sums_y, weights, block_y, WIDTH);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  store_tiles<HEAD_TILES>(sums_x, SIZE / 8, own_x);
  if (OF_KEYS) store_tiles<HEAD_TILES>(sums_y, WIDTH / 8, own_y);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  if (OF_KEYS) {
    write(dx, shape.dk, own_x, SIZE, 1, first, at.keys, at.size, head, lane);
    write(dv, shape.dv, own_y, WIDTH, 1, first, at.keys, at.width, head, lane);
  } else {
    write(dx, shape.dq, own_x, SIZE, at.shared, first, at.rows, at.size, head, lane);
  }
}

INSTANTIATE(attention_gradient)
