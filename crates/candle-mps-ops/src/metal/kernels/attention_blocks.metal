// What the kernels of attention share: where things are, blocks of rows in threadgroup memory, products of them.
//
// The queries of all heads that share a head of k and v are its rows, those of one position side by side: what is read
// of k and v serves them all, and with few queries the heads fill the 8x8 matrices. Each simdgroup has 8 rows.
//
// Numbers in threadgroup memory and in matrices are floats, whatever T is, so that weights and slopes lose nothing.
// Heads are padded with zeros to multiples of 8, and so are the rows that are missing in the last block. How many rows
// a threadgroup has at a time is the caller's choice: attention.rs.
//
// Which elements of a matrix a lane has is not documented. So what depends on rows and columns goes through threadgroup
// memory; only products element by element use what a lane has, which is the same of both matrices. Loops over
// matrices in registers have constant bounds, so that the compiler can unroll them, and function constants end them.

constant bool CAUSAL [[function_constant(0)]];    // the last query sees all keys, the one before all but the last, ...
constant bool CAPPED [[function_constant(1)]];    // scores are c tanh(x / c)
constant bool MASKED [[function_constant(2)]];    // something is added to them
constant bool BY_FOURS [[function_constant(3)]];  // heads begin and end at multiples of four neighbours
constant bool KEEP [[function_constant(4)]];      // the logarithms of sums, for the backward pass
constant bool OF_KEYS [[function_constant(5)]];   // the gradients of k and v, not that of q
constant ushort SIZE [[function_constant(16)]];   // of a head of q and k, padded
constant ushort WIDTH [[function_constant(17)]];  // of a head of v, padded
constant ushort BLOCK [[function_constant(18)]];  // how many rows are staged at a time: a multiple of 8, 32 at most

constant constexpr ushort HEAD_TILES = 16, BLOCK_TILES = 4;  // at most so many matrices in registers
constant constexpr ushort MEMORY = 8192;                     // numbers in threadgroup memory: 32 KB, all there is

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

// The first `count` matrices, side by side in rows of `8 count` numbers.
template <ushort MOST>
inline void store_tiles(thread const simdgroup_float8x8* tiles, ushort count, threadgroup float* to) {
#pragma clang loop unroll(full)
  for (ushort i = 0; i < MOST; i++) {
    if (i < count) simdgroup_store(tiles[i], to + 8 * i, 8 * count);
  }
}

template <ushort MOST>
inline void clear_tiles(thread simdgroup_float8x8* tiles) {
#pragma clang loop unroll(full)
  for (ushort i = 0; i < MOST; i++) tiles[i] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

// Each row by its factor, which is in all columns of 8x8 numbers.
template <ushort MOST>
inline void scale_tiles(thread simdgroup_float8x8* tiles, ushort count, threadgroup const float* factors) {
  simdgroup_float8x8 factor;
  simdgroup_load(factor, factors, 8);
#pragma clang loop unroll(full)
  for (ushort i = 0; i < MOST; i++) {
    if (i < count) {
      tiles[i].thread_elements()[0] *= factor.thread_elements()[0];
      tiles[i].thread_elements()[1] *= factor.thread_elements()[1];
    }
  }
}

// sums += a b, of 8 rows of BLOCK numbers and BLOCK rows of `width`.
inline void add_product(thread simdgroup_float8x8* sums, threadgroup const float* a, threadgroup const float* b,
                        ushort width) {
  for (ushort i = 0; i < BLOCK; i += 8) {
    simdgroup_float8x8 left, right;
    simdgroup_load(left, a + i, BLOCK);
#pragma clang loop unroll(full)
    for (ushort j = 0; j < HEAD_TILES; j++) {
      if (8 * j < width) {
        simdgroup_load(right, b + i * width + 8 * j, width);
        simdgroup_multiply_accumulate(sums[j], left, right, sums[j]);
      }
    }
  }
}

// to = a bᵀ, 8 rows of BLOCK numbers, of 8 rows and BLOCK rows of `width`.
inline void turned_product(threadgroup float* to, threadgroup const float* a, threadgroup const float* b,
                           ushort width) {
  simdgroup_float8x8 products[BLOCK_TILES];
  clear_tiles<BLOCK_TILES>(products);
  for (ushort j = 0; j < width; j += 8) {
    simdgroup_float8x8 left, right;
    simdgroup_load(left, a + j, width);
#pragma clang loop unroll(full)
    for (ushort i = 0; i < BLOCK_TILES; i++) {
      if (8 * i < BLOCK) {
        simdgroup_load(right, b + 8 * i * width + j, width, ulong2(0), true);
        simdgroup_multiply_accumulate(products[i], left, right, products[i]);
      }
    }
  }
  store_tiles<BLOCK_TILES>(products, BLOCK / 8, to);
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
