// simdgroup_matrix<T, 8, 8>: two neighbours of a row in each lane, in the layout that Apple's GPUs are known to have
// (sources rely on it through thread_elements). Products are summed in float, first to last, and rounded once.
#pragma once

namespace msl_detail {

MSL_FN constexpr uint row_of(uint lane) { return (lane >> 2 & 4) | (lane >> 1 & 3); }
MSL_FN constexpr uint column_of(uint lane) { return (lane >> 1 & 4) | (lane << 1 & 2); }
MSL_FN constexpr uint lane_at(uint row, uint column) {
  return (row & 4) << 2 | (column & 4) << 1 | (row & 3) << 1 | (column >> 1 & 1);
}

struct factors {
  float a[2], b[2];
};

// Row by column: this lane's two elements of a product, added to `sum`.
MSL_OUT_OF_LINE void accumulate(const factors* all __attribute__((noescape)), uint lane,
                                float* sum __attribute__((noescape))) {
  uint row = row_of(lane), column = column_of(lane);
  for (uint k = 0; k < 8; k++) {
    float a = all[lane_at(row, k)].a[k & 1];
    const float* b = all[lane_at(k, column)].b;
    sum[0] += a * b[0];
    sum[1] += a * b[1];
  }
}

}  // namespace msl_detail

namespace metal {

template <class T, int C, int R>
struct simdgroup_matrix {
  static_assert(C == 8 && R == 8, "a simdgroup_matrix has 8 rows and 8 columns");
  typedef vec<T, 2> storage_type;
  storage_type elements;

  simdgroup_matrix() = default;
  // This value on the diagonal, zeros elsewhere.
  MSL_FN explicit simdgroup_matrix(T value) {
    uint lane = msl_detail::lane(), row = msl_detail::row_of(lane), column = msl_detail::column_of(lane);
    elements.x = row == column ? value : T(0);
    elements.y = row == column + 1 ? value : T(0);
  }
  MSL_FN storage_type& thread_elements() { return elements; }
  MSL_FN const storage_type& thread_elements() const { return elements; }
};

typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int C = 8, int R = 8, class S = T>
MSL_FN simdgroup_matrix<T, C, R> make_filled_simdgroup_matrix(S value) {
  simdgroup_matrix<T, C, R> m;
  m.elements = vec<T, 2>(value);
  return m;
}

// Both loads and stores happen for the simdgroup as a whole: lanes meet first.
template <class T, class U>
MSL_FN void simdgroup_load(simdgroup_matrix<T, 8, 8>& m, const U* from, ulong elements_per_row = 8,
                           vec<ulong, 2> origin = vec<ulong, 2>(0), bool transposed = false) {
  msl_detail::simdgroup_barrier(0);
  ulong lane = msl_detail::lane(), row = msl_detail::row_of(lane), column = msl_detail::column_of(lane);
  MSL_UNROLL
  for (int i = 0; i < 2; i++) {
    ulong y = origin.y + (transposed ? column + i : row), x = origin.x + (transposed ? row : column + i);
    m.elements[i] = T(from[y * elements_per_row + x]);
  }
}

template <class T, class U>
MSL_FN void simdgroup_store(const simdgroup_matrix<T, 8, 8>& m, U* to, ulong elements_per_row = 8,
                            vec<ulong, 2> origin = vec<ulong, 2>(0), bool transposed = false) {
  msl_detail::simdgroup_barrier(0);
  ulong lane = msl_detail::lane(), row = msl_detail::row_of(lane), column = msl_detail::column_of(lane);
  MSL_UNROLL
  for (int i = 0; i < 2; i++) {
    ulong y = origin.y + (transposed ? column + i : row), x = origin.x + (transposed ? row : column + i);
    to[y * elements_per_row + x] = U(m.elements[i]);
  }
}

// d = a b + c.
template <class D, class A, class B, class C>
MSL_FN void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                                          const simdgroup_matrix<B, 8, 8>& b, const simdgroup_matrix<C, 8, 8>& c) {
  msl_detail::factors own = {{float(a.elements.x), float(a.elements.y)}, {float(b.elements.x), float(b.elements.y)}};
  msl_detail::factors all[32];
  msl_detail::exchange(&own, sizeof own, all, 32);
  float sum[2] = {float(c.elements.x), float(c.elements.y)};
  msl_detail::accumulate(all, msl_detail::lane(), sum);
  d.elements = vec<D, 2>(D(sum[0]), D(sum[1]));
}

template <class D, class A, class B>
MSL_FN void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, const simdgroup_matrix<A, 8, 8>& a,
                               const simdgroup_matrix<B, 8, 8>& b) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D>(0));
}

template <class T>
MSL_FN simdgroup_matrix<T, 8, 8> operator*(const simdgroup_matrix<T, 8, 8>& a, const simdgroup_matrix<T, 8, 8>& b) {
  simdgroup_matrix<T, 8, 8> product;
  simdgroup_multiply(product, a, b);
  return product;
}

// The element types that sources test for.
template <class T>
struct __is_valid_simdgroup_type : bool_constant<is_arithmetic_v<T> && sizeof(T) <= 4> {};

}  // namespace metal
