// What all kernels share. Each file of kernels is compiled with this in front of it.
//
// Numbers are read as T and computed in float. Infinity and NaN are meant: these files are compiled without fast
// math. Offsets and strides count elements.
#include <metal_stdlib>
using namespace metal;

#if defined(__HAVE_BFLOAT__)
#define HAS_BF16
#endif

// A kernel that is never called with more threads in a threadgroup. Metal then leaves each as many registers as so
// many can have; without it a kernel that needs more registers may refuse them, and what is refused is not computed.
#define KERNEL(THREADS) [[kernel, max_total_threads_per_threadgroup(THREADS)]] void

// Makes kernel NAME_f32 of the template NAME, and those of the half types.
#define INSTANTIATE_AS(NAME, SUFFIX, T) \
  template [[host_name(#NAME "_" #SUFFIX)]] kernel decltype(NAME<T>) NAME<T>;
#ifdef HAS_BF16
#define INSTANTIATE(NAME) \
  INSTANTIATE_AS(NAME, f32, float) INSTANTIATE_AS(NAME, f16, half) INSTANTIATE_AS(NAME, bf16, bfloat)
#else
#define INSTANTIATE(NAME) INSTANTIATE_AS(NAME, f32, float) INSTANTIATE_AS(NAME, f16, half)
#endif

// Rows of a tensor, counted through up to three dimensions, and the elements of each.
struct Rows {
  ulong start;
  ulong stride[3];  // from row to row, the outermost dimension first
  ulong step;       // from element to element
};

// The dimensions that count rows: the outermost needs no size.
struct Shape {
  uint rows;
  uint width;
  uint dims[2];  // of the middle and the innermost
};

// Where a row begins.
inline ulong row_start(constant Rows& rows, constant Shape& shape, uint row) {
  uint inner = row % shape.dims[1], rest = row / shape.dims[1];
  uint middle = rest % shape.dims[0], outer = rest / shape.dims[0];
  return rows.start + outer * rows.stride[0] + middle * rows.stride[1] + inner * rows.stride[2];
}

// A tensor of one dimension.
struct Vector {
  ulong start;
  ulong step;
};

// The place of a thread among those that share a row: a simdgroup, each with a row of its own, or the threadgroup.
struct Team {
  uint row;
  uint first;  // the thread's first element; the next is `size` further
  uint size;
};

inline Team team_of(ushort simdgroups, uint group, ushort place, ushort simdgroup, ushort lane, uint all_simdgroups) {
  if (simdgroups == 1) return {group * all_simdgroups + simdgroup, lane, 32};
  return {group, place, uint(simdgroups) * 32};
}

// Where a thread is, in the order that `team_of` takes it.
#define PLACES                                              \
  uint group [[threadgroup_position_in_grid]],              \
  ushort place [[thread_index_in_threadgroup]],             \
  ushort simdgroup [[simdgroup_index_in_threadgroup]],      \
  ushort lane [[thread_index_in_simdgroup]],                \
  uint all_simdgroups [[simdgroups_per_threadgroup]]
#define TEAM(simdgroups) team_of(simdgroups, group, place, simdgroup, lane, all_simdgroups)

// Four neighbours at once, or one.
template <typename T>
inline float4 load4(device const T* from) {
  return float4(*reinterpret_cast<device const vec<T, 4>*>(from));
}

template <typename T>
inline void store4(device T* to, float4 value) {
  *reinterpret_cast<device vec<T, 4>*>(to) = vec<T, 4>(value);
}

inline float sum4(float4 v) { return (v.x + v.y) + (v.z + v.w); }

// A function of two numbers, over all threads that share a row, and back to all of them. One simdgroup needs no
// memory; more leave a number each in `shared`: 32 places that nobody uses before or after, so that one barrier does.
struct Add {
  static float of(float a, float b) { return a + b; }
  static float of_simdgroup(float a) { return simd_sum(a); }
};

struct Max {
  static float of(float a, float b) { return max(a, b); }
  static float of_simdgroup(float a) { return simd_max(a); }
};

template <typename F>
inline float reduce(float value, ushort simdgroups, ushort simdgroup, ushort lane, threadgroup float* shared) {
  value = F::of_simdgroup(value);
  if (simdgroups == 1) return value;
  if (lane == 0) shared[simdgroup] = value;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  value = shared[0];
  for (ushort at = 1; at < simdgroups; at++) value = F::of(value, shared[at]);
  return value;
}

// The sum of a column: each simdgroup of a threadgroup adds up some of its rows, lane by lane, and leaves the sums in
// `shared` (32 for each simdgroup, nobody uses them before or after). The first simdgroup gets all of it.
inline float sum_of_column(float part, uint simdgroups, ushort simdgroup, ushort lane, threadgroup float* shared) {
  shared[simdgroup * 32 + lane] = part;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float sum = 0;
  if (simdgroup == 0) {
    for (uint at = 0; at < simdgroups; at++) sum += shared[at * 32 + lane];
  }
  return sum;
}

// For softmax in one pass: the largest element so far and the sum of exp(element - largest).
struct Sums {
  float largest = -INFINITY;
  float sum = 0;

  void add(float value) {
    float now = max(largest, value);
    // While there is nothing but -inf the sum stays 0. A NaN is never the largest, and makes the sum NaN.
    if (now != -INFINITY || isnan(value)) sum = sum * exp(largest - now) + exp(value - now);
    largest = now;
  }

  void add4(float4 v) {
    float now = max(largest, max(max(v.x, v.y), max(v.z, v.w)));
    if (now != -INFINITY || any(isnan(v))) sum = sum * exp(largest - now) + sum4(exp(v - now));
    largest = now;
  }

  // The sum as it were with another largest element. A thread that saw nothing, or -inf only, has the sum 0.
  float relative_to(float other) const { return sum == 0 ? 0 : sum * exp(largest - other); }
};

// A thread's part of a row that begins at x.
template <typename T>
inline Sums sums_of_row(device const T* x, ulong step, uint width, bool by_fours, Team team) {
  Sums sums;
  if (by_fours) {
    for (uint i = 4 * team.first; i < width; i += 4 * team.size) sums.add4(load4(x + i));
  } else {
    for (uint i = team.first; i < width; i += team.size) sums.add(float(x[i * step]));
  }
  return sums;
}

