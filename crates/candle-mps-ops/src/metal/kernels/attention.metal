// softmax(cap(scale q kᵀ) + mask) v, without the matrix of scores: blocks of it come and go in threadgroup memory.
//
// The queries of all heads that share a head of k and v are its rows, those of one position side by side: what is read
// of k and v serves them all, and with few queries the heads fill the 8x8 matrices. Each simdgroup has 8 rows.
//
// Numbers in threadgroup memory and in matrices are floats, whatever T is: weights and slopes lose nothing, and the
// products of Apple's GPUs up to M4 are no faster in half. Heads are padded with zeros to multiples of 8. How many rows
// a threadgroup has at a time is a choice of the caller, see attention.rs.
//
// Which elements of a matrix a lane has is Apple's secret. What depends on the row goes through threadgroup memory;
// only products of two matrices element by element use what a lane has, which is the same for both.

constant bool CAUSAL [[function_constant(0)]];    // the last query sees all keys, the one before all but the last, ...
constant bool CAPPED [[function_constant(1)]];    // scores are c tanh(x / c)
constant bool MASKED [[function_constant(2)]];    // something is added to them
constant bool BY_FOURS [[function_constant(3)]];  // heads begin and end at multiples of four neighbours
constant bool KEEP [[function_constant(4)]];      // the logarithms of sums, for the backward pass
constant bool OF_KEYS [[function_constant(5)]];  // the gradients of k and v, not that of q
constant ushort SIZE [[function_constant(16)]];   // of a head of q and k, padded
constant ushort WIDTH [[function_constant(17)]];  // of a head of v, padded
constant ushort BLOCK [[function_constant(18)]];  // how many rows are staged at a time: a multiple of 8, 32 at most

// At most so many, in registers.
constant constexpr ushort HEAD_TILES = 16, BLOCK_TILES = 4;

// Where the elements of a tensor [batch, heads, positions, features] are.
struct Place {
  ulong start;
  ulong stride[4];
};

struct AttentionShape {
  Place q;
  Place k;
  Place v;
  Place mask;
  Place y;
  uint rows;    // of each head of k and v
  uint shared;  // heads of q for each of k and v
  uint queries;
  uint keys;
  uint size;
  uint width;
  float scale;
  float cap;
};

// The row of a head that `shared` heads share.
inline ulong row_place(constant Place& place, uint2 head, uint shared, uint row) {
  return place.start + head.y * place.stride[0] + (head.x * shared + row % shared) * place.stride[1] +
         row / shared * place.stride[2];
}

// How many keys a row sees.
inline uint seen_by(constant AttentionShape& at, uint row) {
  if (!CAUSAL) return at.keys;
  const uint query = row / at.shared + 1;
  return query + at.keys > at.queries ? min(query + at.keys - at.queries, at.keys) : 0;
}

// A score from a product of q and k, before the mask.
inline float score_of(constant AttentionShape& at, float product) {
  const float score = product * at.scale;
  return CAPPED ? at.cap * tanh(score / at.cap) : score;
}

// Who copies into threadgroup memory.
struct Copiers {
  uint2 head;  // of k and v, and its batch
  uint member;
  uint members;
};

// Copies `count` rows from `first` on, `padded` numbers of each; zeros beyond the last of `rows` and beyond `width`.
template <typename T>
inline void stage(threadgroup float* to, uint count, uint padded, device const T* from, constant Place& place,
                  uint shared, uint first, uint rows, uint width, Copiers by) {
  const uint step = BY_FOURS ? 4 : 1;
  for (uint i = step * by.member; i < count * padded; i += step * by.members) {
    const uint row = first + i / padded, column = i % padded;
    const bool there = row < rows && column < width;
    const ulong start = there ? row_place(place, by.head, shared, row) : 0;
    if (BY_FOURS) {
      *reinterpret_cast<threadgroup float4*>(to + i) = there ? load4(from + start + column) : float4(0);
    } else {
      to[i] = there ? float(from[start + column * place.stride[3]]) : 0;
    }
  }
}

// Matrices side by side in rows of `width` numbers.
inline void store_tiles(thread const simdgroup_float8x8* tiles, ushort count, threadgroup float* to, ushort width) {
#pragma clang loop unroll(full)
  for (ushort i = 0; i < count; i++) simdgroup_store(tiles[i], to + 8 * i, width);
}

inline void clear_tiles(thread simdgroup_float8x8* tiles, ushort count) {
#pragma clang loop unroll(full)
  for (ushort i = 0; i < count; i++) tiles[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// Each row by its factor.
inline void scale_tiles(thread simdgroup_float8x8* tiles, ushort count, threadgroup const float* factors) {
  simdgroup_float8x8 factor;
  simdgroup_load(factor, factors, 8);
#pragma clang loop unroll(full)
  for (ushort i = 0; i < count; i++) {
    tiles[i].thread_elements()[0] *= factor.thread_elements()[0];
    tiles[i].thread_elements()[1] *= factor.thread_elements()[1];
  }
}

// sums += a b, of 8 rows of BLOCK numbers and BLOCK rows of `width`.
inline void add_product(thread simdgroup_float8x8* sums, threadgroup const float* a, threadgroup const float* b,
                        ushort width) {
#pragma clang loop unroll(full)
  for (ushort i = 0; i < BLOCK; i += 8) {
    simdgroup_float8x8 left, right;
    simdgroup_load(left, a + i, BLOCK);
#pragma clang loop unroll(full)
    for (ushort j = 0; j < width; j += 8) {
      simdgroup_load(right, b + i * width + j, width);
      simdgroup_multiply_accumulate(sums[j / 8], left, right, sums[j / 8]);
    }
  }
}

// to = a bᵀ, 8 rows of BLOCK numbers, of 8 rows and BLOCK rows of `width`.
inline void turned_product(threadgroup float* to, threadgroup const float* a, threadgroup const float* b,
                           ushort width) {
  simdgroup_float8x8 products[BLOCK_TILES];
  clear_tiles(products, BLOCK / 8);
#pragma clang loop unroll(full)
  for (ushort j = 0; j < width; j += 8) {
    simdgroup_float8x8 left, right;
    simdgroup_load(left, a + j, width);
#pragma clang loop unroll(full)
    for (ushort i = 0; i < BLOCK; i += 8) {
      simdgroup_load(right, b + i * width + j, width, ulong2(0), true);
      simdgroup_multiply_accumulate(products[i / 8], left, right, products[i / 8]);
    }
  }
  store_tiles(products, BLOCK / 8, to, BLOCK);
}

// Writes 8 rows of a simdgroup, those that are there.
template <typename T>
inline void write(device T* to, constant Place& place, threadgroup const float* from, uint padded, uint shared,
                  uint first, uint rows, uint width, uint2 head, ushort lane) {
  for (uint i = lane; i < 8 * padded; i += 32) {
    const uint row = first + i / padded, column = i % padded;
    if (row < rows && column < width) to[row_place(place, head, shared, row) + column] = T(from[i]);
  }
}

// Online softmax: a block of keys may have a larger score than all before, and what has been summed up is then scaled
// down. Each lane has a quarter of the scores of one row; four neighbours have its largest score and its sum.
template <typename T>
kernel void attention(device const T* q [[buffer(0)]],
                      device const T* k [[buffer(1)]],
                      device const T* v [[buffer(2)]],
                      device const T* mask [[buffer(3), function_constant(MASKED)]],
                      device T* y [[buffer(4)]],
                      device float* lse [[buffer(5), function_constant(KEEP)]],
                      constant AttentionShape& at [[buffer(6)]],
                      threadgroup float* memory [[threadgroup(0)]],
                      uint3 group [[threadgroup_position_in_grid]],
                      uint3 groups [[threadgroups_per_grid]],
                      uint member [[thread_index_in_threadgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      ushort lane [[thread_index_in_simdgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  const uint2 head = group.yz;
  const uint first = (group.x * simdgroups + simdgroup) * 8, last = min((group.x + 1) * simdgroups * 8, at.rows) - 1;
  threadgroup float* keys = memory;
  threadgroup float* values = keys + BLOCK * SIZE;
  // Of this simdgroup: its rows of q and in the end of y, their scores, and 8x8 factors, the same in all of a row.
  threadgroup float* own = values + BLOCK * WIDTH + simdgroup * 8 * (max(SIZE, WIDTH) + BLOCK + 8);
  threadgroup float* scores = own + 8 * max(SIZE, WIDTH);
  threadgroup float* factors = scores + 8 * BLOCK;
  const Copiers all = {head, member, 32 * simdgroups}, alone = {head, lane, 32};
  stage(own, 8, SIZE, q, at.q, at.shared, first, at.rows, at.size, alone);
  simdgroup_float8x8 sums[HEAD_TILES];
  clear_tiles(sums, WIDTH / 8);

  // This lane's row, of which it has every fourth score.
  const ushort place = lane / 4, quarter = lane % 4;
  const uint row = first + place;
  const uint seen = row < at.rows ? seen_by(at, row) : 0;
  if (MASKED && row < at.rows) mask += row_place(at.mask, head, at.shared, row);
  float largest = -INFINITY, sum = 0;

  // The last row sees most.
  const uint end = seen_by(at, last);
  for (uint from = 0; from < end; from += BLOCK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    stage(keys, BLOCK, SIZE, k, at.k, 1, from, at.keys, at.size, all);
    stage(values, BLOCK, WIDTH, v, at.v, 1, from, at.keys, at.width, all);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    turned_product(scores, own, keys, SIZE);
    simdgroup_barrier(mem_flags::mem_threadgroup);

    float now = largest;
    for (ushort i = quarter; i < BLOCK; i += 4) {
      float score = -INFINITY;
      if (from + i < seen) {
        score = score_of(at, scores[place * BLOCK + i]);
        if (MASKED) score += float(mask[(from + i) * at.mask.stride[3]]);
      }
      scores[place * BLOCK + i] = score;
      now = max(now, score);
    }
    now = max(now, simd_shuffle_xor(now, 1));
    now = max(now, simd_shuffle_xor(now, 2));
    // While there is nothing but -inf, weights are exp(-inf).
    const float base = now == -INFINITY ? 0 : now;
    float part = 0;
    for (ushort i = quarter; i < BLOCK; i += 4) {
      const float weight = exp(scores[place * BLOCK + i] - base);
      scores[place * BLOCK + i] = weight;
      part += weight;
    }
    part += simd_shuffle_xor(part, 1);
    part += simd_shuffle_xor(part, 2);
    const float factor = exp(largest - base);
    sum = sum * factor + part;
    largest = now;
    for (ushort i = quarter; i < 8; i += 4) factors[8 * place + i] = factor;
    simdgroup_barrier(mem_flags::mem_threadgroup);

    scale_tiles(sums, WIDTH / 8, factors);
    add_product(sums, scores, values, WIDTH);
  }

  // A row that saw nothing is 0.
  const float factor = sum == 0 ? 0 : 1 / sum;
  for (ushort i = quarter; i < 8; i += 4) factors[8 * place + i] = factor;
  if (KEEP && quarter == 0 && row < at.rows) {
    lse[ulong(head.y * groups.y + head.x) * at.rows + row] = largest + log(sum);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  scale_tiles(sums, WIDTH / 8, factors);
  store_tiles(sums, WIDTH / 8, own, WIDTH);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  write(y, at.y, own, WIDTH, at.shared, first, at.rows, at.width, head, lane);
}

INSTANTIATE(attention)

struct AttentionGradientShape {
  AttentionShape of;
  Place g;
  Place dq;
  Place dk;
  Place dv;
};

// delta = sum of g y for each row: what the softmax takes from the slopes of all its weights. A simdgroup has 8 rows.
template <typename T>
kernel void attention_delta(device const T* y [[buffer(0)]],
                            device const T* g [[buffer(1)]],
                            device float* delta [[buffer(2)]],
                            constant AttentionGradientShape& shape [[buffer(3)]],
                            uint3 group [[threadgroup_position_in_grid]],
                            uint3 groups [[threadgroups_per_grid]],
                            uint simdgroup [[simdgroup_index_in_threadgroup]],
                            ushort lane [[thread_index_in_simdgroup]],
                            uint simdgroups [[simdgroups_per_threadgroup]]) {
  constant AttentionShape& at = shape.of;
  const uint2 head = group.yz;
  const uint first = (group.x * simdgroups + simdgroup) * 8;
  for (uint row = first; row < min(first + 8, at.rows); row++) {
    device const T* its_y = y + row_place(at.y, head, at.shared, row);
    device const T* its_g = g + row_place(shape.g, head, at.shared, row);
    float sum = 0;
    for (uint i = lane; i < at.width; i += 32) {
      sum += float(its_y[i * at.y.stride[3]]) * float(its_g[i * shape.g.stride[3]]);
    }
    sum = simd_sum(sum);
    if (lane == 0) delta[ulong(head.y * groups.y + head.x) * at.rows + row] = sum;
  }
}

INSTANTIATE(attention_delta)

// For `count` rows: the logarithm of the sum, and delta behind them all. A row that saw nothing gets a sum so large that
// all its weights are 0, and so does one that is not there.
inline void stage_numbers(threadgroup float* to, uint count, device const float* lse, device const float* delta,
                          uint first, uint rows, Copiers by) {
  for (uint i = by.member; i < count; i += by.members) {
    const bool seeing = first + i < rows && lse[first + i] != -INFINITY;
    to[i] = seeing ? lse[first + i] : INFINITY;
    to[count + i] = seeing ? delta[first + i] : 0;
  }
}

// Two kernels in one, as they differ only in who has rows of his own and who passes by in blocks. Weights are computed
// again as exp(score - lse), of a block and 8 own rows at a time; a weight's slope is g vᵀ - delta. Own rows of q and g get
// dq = slopes k. Own rows of k and v see the heads that share them one after the other, and get dk = slopes q and
// dv = weights g. Each sum is one simdgroup's, so nothing is atomic and the result is always the same.
template <typename T>
kernel void attention_gradient(device const T* q [[buffer(0)]],
                               device const T* k [[buffer(1)]],
                               device const T* v [[buffer(2)]],
                               device const T* mask [[buffer(3), function_constant(MASKED)]],
                               device const T* g [[buffer(4)]],
                               device const float* lse [[buffer(5)]],
                               device const float* delta [[buffer(6)]],
                               device T* dx [[buffer(7)]],  // dk or dq
                               device T* dv [[buffer(8), function_constant(OF_KEYS)]],
                               constant AttentionGradientShape& shape [[buffer(9)]],
                               threadgroup float* memory [[threadgroup(0)]],
                               uint3 group [[threadgroup_position_in_grid]],
                               uint3 groups [[threadgroups_per_grid]],
                               uint member [[thread_index_in_threadgroup]],
                               uint simdgroup [[simdgroup_index_in_threadgroup]],
                               ushort lane [[thread_index_in_simdgroup]],
                               uint simdgroups [[simdgroups_per_threadgroup]]) {
  constant AttentionShape& at = shape.of;
  const uint2 head = group.yz;
  const uint rows = OF_KEYS ? at.keys : at.rows, shared = OF_KEYS ? 1 : at.shared;
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
    stage_numbers(own_numbers, 8, lse, delta, first, at.rows, alone);
  }
  simdgroup_float8x8 sums_x[HEAD_TILES], sums_y[HEAD_TILES];
  clear_tiles(sums_x, SIZE / 8);
  clear_tiles(sums_y, WIDTH / 8);

  // From the first row that sees the first key, or to the last key that the last row sees.
  const bool late = OF_KEYS && CAUSAL && first_of_all + at.queries > at.keys;
  const uint begin = late ? (first_of_all + at.queries - at.keys) * at.shared : 0;
  const uint end = OF_KEYS ? at.rows : seen_by(at, min(first_of_all + 8 * simdgroups, rows) - 1);
  for (uint from = begin; from < end; from += BLOCK) {
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (OF_KEYS) {
      stage(block_x, BLOCK, SIZE, q, at.q, at.shared, from, at.rows, at.size, all);
      stage(block_y, BLOCK, WIDTH, g, shape.g, at.shared, from, at.rows, at.width, all);
      stage_numbers(block_numbers, BLOCK, lse, delta, from, at.rows, all);
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
      threadgroup const float* log = OF_KEYS ? block_numbers + other : own_numbers + own;
      float weight = 0, slope = 0;
      if (row < at.rows && key < seen_by(at, row)) {
        const float capped = score_of(at, weights[i]);
        float score = capped;
        if (MASKED) score += float(mask[row_place(at.mask, head, at.shared, row) + key * at.mask.stride[3]]);
        weight = exp(score - log[0]);
        slope = weight * (slopes[i] - log[OF_KEYS ? BLOCK : 8]) * at.scale;
        if (CAPPED) slope *= 1 - (capped / at.cap) * (capped / at.cap);
      }
      weights[i] = weight;
      slopes[i] = slope;
    }
    simdgroup_barrier(mem_flags::mem_threadgroup);
    add_product(sums_x, slopes, block_x, SIZE);
    if (OF_KEYS) add_product(sums_y, weights, block_y, WIDTH);
  }

  store_tiles(sums_x, SIZE / 8, own_x, SIZE);
  if (OF_KEYS) store_tiles(sums_y, WIDTH / 8, own_y, WIDTH);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  if (OF_KEYS) {
    write(dx, shape.dk, own_x, SIZE, 1, first, at.keys, at.size, head, lane);
    write(dv, shape.dv, own_y, WIDTH, 1, first, at.keys, at.width, head, lane);
  } else {
    write(dx, shape.dq, own_x, SIZE, at.shared, first, at.rows, at.size, head, lane);
  }
}

INSTANTIATE(attention_gradient)
