// softmax(cap(scale q kᵀ) + mask) v, without the matrix of scores: blocks of it come and go in threadgroup memory.
//
// Blocks are as large as 32 KB of threadgroup memory allow. For heads of 64: 4 simdgroups with 8 rows of 64 each, 8 KB;
// 32 keys and values, 16 KB; scores and factors, 5 KB. For heads of 128 the block is of 8 keys: 16, 8 and 2 KB. Every
// threadgroup takes the 32 KB: a length that is set on the encoder would stay there for Candle's next dispatch. One that
// took half would leave room for a second one to work while the first waits at a barrier; which is faster has not been
// measured on a Mac.
//
// A value that is not a number reaches all queries whose block it is in, also those that do not see it, and so does such
// a key in the backward pass.

// Online softmax: a block of keys may have a larger score than all before, and what has been summed up is then scaled
// down. Each lane has a quarter of the scores of one row; four neighbours have its largest score and its sum.
template <typename T>
KERNEL(128) attention(device const T* q [[buffer(0)]],
                      device const T* k [[buffer(1)]],
                      device const T* v [[buffer(2)]],
                      device const T* mask [[buffer(3), function_constant(MASKED)]],
                      device T* y [[buffer(4)]],
                      device float* lse [[buffer(5), function_constant(KEEP)]],
                      constant AttentionShape& at [[buffer(6)]],
                      uint3 group [[threadgroup_position_in_grid]],
                      uint3 groups [[threadgroups_per_grid]],
                      uint member [[thread_index_in_threadgroup]],
                      uint simdgroup [[simdgroup_index_in_threadgroup]],
                      ushort lane [[thread_index_in_simdgroup]],
                      uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float4 fours[MEMORY / 4];  // aligned for four at once
  threadgroup float* memory = reinterpret_cast<threadgroup float*>(fours);
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
  clear_tiles<HEAD_TILES>(sums);

  // This lane's row, of which it has every fourth score.
  const ushort place = lane / 4, quarter = lane % 4;
  const uint row = first + place;
  const uint seen = row < at.rows ? seen_by(at, row) : 0;
  if (MASKED && row < at.rows) mask += row_place(at.mask, head, at.shared, row);
  float largest = -INFINITY, sum = 0;

  // The last row sees most.
  const uint end = seen_by(at, last);
  for (uint from = 0; from < end; from += BLOCK) {
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

    scale_tiles<HEAD_TILES>(sums, WIDTH / 8, factors);
    add_product(sums, scores, values, WIDTH);
    threadgroup_barrier(mem_flags::mem_threadgroup);
  }

  // A row that saw nothing is 0.
  const float factor = sum == 0 ? 0 : 1 / sum;
  for (ushort i = quarter; i < 8; i += 4) factors[8 * place + i] = factor;
  if (KEEP && quarter == 0 && row < at.rows) {
    lse[ulong(head.y * groups.y + head.x) * at.rows + row] = largest + log(sum);
  }
  simdgroup_barrier(mem_flags::mem_threadgroup);
  scale_tiles<HEAD_TILES>(sums, WIDTH / 8, factors);
  store_tiles<HEAD_TILES>(sums, WIDTH / 8, own);
  simdgroup_barrier(mem_flags::mem_threadgroup);
  write(y, at.y, own, WIDTH, at.shared, first, at.rows, at.width, head, lane);
}

INSTANTIATE(attention)

constant constexpr ushort FEW_SIMDGROUPS = 16;  // at most
constant constexpr ushort FEATURES = 4;         // of a head in each lane

// For few queries: a threadgroup for each row, whose simdgroups share its keys. They are read where they lie, a lane has
// every 32nd feature, and all that happens in threadgroup memory is that the simdgroups' sums meet in the end. Heads
// that share keys read them each for itself, at about the same time.
template <typename T>
KERNEL(512) attention_few(device const T* q [[buffer(0)]],
                          device const T* k [[buffer(1)]],
                          device const T* v [[buffer(2)]],
                          device const T* mask [[buffer(3), function_constant(MASKED)]],
                          device T* y [[buffer(4)]],
                          device float* lse [[buffer(5), function_constant(KEEP)]],
                          constant AttentionShape& at [[buffer(6)]],
                          uint3 group [[threadgroup_position_in_grid]],
                          uint3 groups [[threadgroups_per_grid]],
                          uint simdgroup [[simdgroup_index_in_threadgroup]],
                          uint lane [[thread_index_in_simdgroup]],
                          uint simdgroups [[simdgroups_per_threadgroup]]) {
  threadgroup float largests[FEW_SIMDGROUPS], totals[FEW_SIMDGROUPS], parts[FEW_SIMDGROUPS][8 * HEAD_TILES];
  const uint2 head = group.yz;
  const uint row = group.x;
  q += row_place(at.q, head, at.shared, row);
  y += row_place(at.y, head, at.shared, row);
  if (MASKED) mask += row_place(at.mask, head, at.shared, row);

  float own_q[FEATURES], sums[FEATURES];
  for (ushort i = 0; i < FEATURES; i++) {
    const uint feature = lane + 32 * i;
    own_q[i] = feature < at.size ? float(q[feature * at.q.stride[3]]) : 0;
    sums[i] = 0;
  }
  float largest = -INFINITY, total = 0;
  const uint seen = seen_by(at, row);
  for (uint key = simdgroup; key < seen; key += simdgroups) {
    device const T* its_k = k + row_place(at.k, head, 1, key);
    device const T* its_v = v + row_place(at.v, head, 1, key);
    float product = 0;
    for (ushort i = 0; i < FEATURES; i++) {
      const uint feature = lane + 32 * i;
      if (feature < at.size) product += own_q[i] * float(its_k[feature * at.k.stride[3]]);
    }
    float score = score_of(at, simd_sum(product));
    if (MASKED) score += float(mask[key * at.mask.stride[3]]);
    const float now = max(largest, score), base = now == -INFINITY ? 0 : now;
    const float factor = exp(largest - base), weight = exp(score - base);
    largest = now;
    total = total * factor + weight;
    for (ushort i = 0; i < FEATURES; i++) {
      const uint feature = lane + 32 * i;
      if (feature < at.width) sums[i] = sums[i] * factor + weight * float(its_v[feature * at.v.stride[3]]);
    }
  }

  if (lane == 0) {
    largests[simdgroup] = largest;
    totals[simdgroup] = total;
  }
  for (ushort i = 0; i < FEATURES; i++) parts[simdgroup][lane + 32 * i] = sums[i];
  threadgroup_barrier(mem_flags::mem_threadgroup);
  largest = -INFINITY;
  for (uint other = 0; other < simdgroups; other++) largest = max(largest, largests[other]);
  const float base = largest == -INFINITY ? 0 : largest;
  total = 0;
  for (uint other = 0; other < simdgroups; other++) total += totals[other] * exp(largests[other] - base);
  for (uint feature = lane + 32 * simdgroup; feature < at.width; feature += 32 * simdgroups) {
    float sum = 0;
    for (uint other = 0; other < simdgroups; other++) sum += parts[other][feature] * exp(largests[other] - base);
    y[feature] = T(total == 0 ? 0 : sum / total);
  }
  if (KEEP && lane + simdgroup == 0) lse[ulong(head.y * groups.y + head.x) * at.rows + row] = largest + log(total);
}

INSTANTIATE(attention_few)
