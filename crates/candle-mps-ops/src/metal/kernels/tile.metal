// Tiles of matrices in threadgroup memory, and their products by simdgroup matrices.
//
// A tile has lines of DEPTH neighbours along the dimension that a product sums over: lines are the rows of the left
// operand and the columns of the right one, so that both are read by one function. Tiles are in float for every type:
// bf16 has no arithmetic of its own on most of Apple's GPUs, and what is no tensor, such as the x·A of LoRA, is never
// rounded. A line takes PITCH places: in 32 banks, 8 lines of 4 places each then lie side by side, which is what a
// transposed load of a simdgroup matrix asks for. Not measured on a Mac.

constant constexpr ushort DEPTH = 16;
constant constexpr ushort PITCH = 20;

// Where the elements of an operand lie.
struct Operand {
  ulong start;
  ulong batch[3];  // from product to product, the outermost dimension first
  ulong line;      // from line to line
  ulong inner[2];  // from element to element of a line, which may have two dimensions
};

// How the elements of lines follow each other.
struct Inner {
  ulong outer;  // the stride of the outer of two dimensions
  ulong step;   // the stride of the inner one
  uint split;   // its size; 0 if it is the only one

  ulong operator()(uint at) const { return split == 0 ? at * step : at / split * outer + at % split * step; }
};

// How threads share the reading of a tile. By fours, both the operand's start and all of its strides but one, which
// is 1, are multiples of four, and so is the number of elements in that direction.
struct Reading {
  bool along_lines;  // neighbouring threads read neighbouring elements of a line, or those of neighbouring lines
  bool fours;        // in that direction
};

// Reads elements [k, k + DEPTH) of lines [first, first + LINES) into a tile, as `place` of THREADS threads. What the
// operand does not have, behind its `lines` and the `end` of each, is zero.
template <ushort LINES, ushort THREADS, typename T>
inline void read_tile(threadgroup float* tile, device const T* from, ulong stride, Inner inner, Reading how, uint first,
                      uint lines, uint k, uint end, ushort place) {
  if (how.fours && how.along_lines) {
    for (ushort item = place; item < LINES * DEPTH / 4; item += THREADS) {
      const ushort line = item / (DEPTH / 4), at = item % (DEPTH / 4) * 4;
      const bool there = first + line < lines && k + at < end;
      const float4 value = there ? load4(from + (first + line) * stride + inner(k + at)) : float4(0);
      *reinterpret_cast<threadgroup float4*>(tile + line * PITCH + at) = value;
    }
  } else if (how.fours) {
    for (ushort item = place; item < LINES * DEPTH / 4; item += THREADS) {
      const ushort line = item % (LINES / 4) * 4, at = item / (LINES / 4);
      const bool there = first + line < lines && k + at < end;
      const float4 value = there ? load4(from + (first + line) * stride + inner(k + at)) : float4(0);
      for (ushort i = 0; i < 4; i++) tile[(line + i) * PITCH + at] = value[i];
    }
  } else {
    for (ushort item = place; item < LINES * DEPTH; item += THREADS) {
      const ushort line = how.along_lines ? item / DEPTH : item % LINES;
      const ushort at = how.along_lines ? item % DEPTH : item / LINES;
      const bool there = first + line < lines && k + at < end;
      tile[line * PITCH + at] = there ? float(from[(first + line) * stride + inner(k + at)]) : 0;
    }
  }
}

// The sums of a simdgroup: ROWS by COLUMNS matrices of 8 by 8.
template <ushort ROWS, ushort COLUMNS>
struct Accumulator {
  simdgroup_float8x8 part[ROWS][COLUMNS];

  void clear() {
    for (ushort row = 0; row < ROWS; row++) {
      for (ushort column = 0; column < COLUMNS; column++) {
        part[row][column] = make_filled_simdgroup_matrix<float, 8, 8>(0.f);
      }
    }
  }

  // Adds left · rightᵀ, of tiles whose lines are `left_pitch` and PITCH apart.
  void add(threadgroup const float* left, ushort left_pitch, threadgroup const float* right) {
    for (ushort k = 0; k < DEPTH; k += 8) {
      simdgroup_float8x8 rows[ROWS], columns[COLUMNS];
      for (ushort row = 0; row < ROWS; row++) simdgroup_load(rows[row], left + row * 8 * left_pitch + k, left_pitch);
      for (ushort column = 0; column < COLUMNS; column++) {
        simdgroup_load(columns[column], right + column * 8 * PITCH + k, PITCH, ulong2(0), true);
      }
      for (ushort row = 0; row < ROWS; row++) {
        for (ushort column = 0; column < COLUMNS; column++) {
          simdgroup_multiply_accumulate(part[row][column], rows[row], columns[column], part[row][column]);
        }
      }
    }
  }

  // Writes eight rows, to lines of 8 COLUMNS.
  void store(ushort row, threadgroup float* to) const {
    for (ushort column = 0; column < COLUMNS; column++) {
      simdgroup_store(part[row][column], to + column * 8, 8 * COLUMNS);
    }
  }
};

