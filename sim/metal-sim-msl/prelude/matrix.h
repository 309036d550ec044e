// matrix<T, C, R>: C columns of R rows, as Metal stores and indexes them.
#pragma once

namespace metal {

template <class T, int C, int R>
struct matrix {
  vec<T, R> columns[C];

  matrix() = default;
  // This value on the diagonal, zeros elsewhere.
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr explicit matrix(S s) : columns{} {
    MSL_UNROLL
    for (int c = 0; c < C; c++)
      MSL_UNROLL
      for (int r = 0; r < R; r++) columns[c][r] = c == r ? T(s) : T(0);
  }
  template <class U, class = enable_if_t<!is_same_v<U, T>>>
  MSL_FN constexpr explicit matrix(const matrix<U, C, R>& m) : columns{} {
    MSL_UNROLL
    for (int c = 0; c < C; c++) columns[c] = vec<T, R>(m[c]);
  }
  // Columns, or all components one column after the other.
  template <class... A, class = enable_if_t<sizeof...(A) == C || sizeof...(A) == C * R>>
  MSL_FN constexpr matrix(A... a) : columns{} {
    if constexpr (sizeof...(A) == C) {
      vec<T, R> given[] = {vec<T, R>(a)...};
      MSL_UNROLL
      for (int c = 0; c < C; c++) columns[c] = given[c];
    } else {
      T given[] = {T(a)...};
      MSL_UNROLL
      for (int i = 0; i < C * R; i++) columns[i / R][i % R] = given[i];
    }
  }
  // In braces: columns, or all components, each of which stands here as a vector of its own.
  MSL_FN constexpr matrix(std::initializer_list<vec<T, R>> list) : columns{} {
    if (list.size() == C * R) {
      MSL_UNROLL
      for (int i = 0; i < C * R; i++) columns[i / R][i % R] = list.begin()[i].x;
    } else {
      MSL_UNROLL
      for (int c = 0; c < C; c++)
        if (c < int(list.size())) columns[c] = list.begin()[c];
    }
  }

  MSL_FN constexpr vec<T, R>& operator[](int i) { return columns[i]; }
  MSL_FN constexpr const vec<T, R>& operator[](int i) const { return columns[i]; }

  friend MSL_FN constexpr matrix operator+(matrix a, const matrix& b) {
    MSL_UNROLL
    for (int c = 0; c < C; c++) a[c] = a[c] + b[c];
    return a;
  }
  friend MSL_FN constexpr matrix operator-(matrix a, const matrix& b) {
    MSL_UNROLL
    for (int c = 0; c < C; c++) a[c] = a[c] - b[c];
    return a;
  }
  friend MSL_FN constexpr matrix operator-(matrix a) {
    MSL_UNROLL
    for (int c = 0; c < C; c++) a[c] = -a[c];
    return a;
  }
  friend MSL_FN constexpr matrix operator*(matrix a, T s) {
    MSL_UNROLL
    for (int c = 0; c < C; c++) a[c] = a[c] * s;
    return a;
  }
  friend MSL_FN constexpr matrix operator*(T s, const matrix& a) { return a * s; }
  friend MSL_FN constexpr vec<T, R> operator*(const matrix& m, vec<T, C> v) {
    vec<T, R> r(T(0));
    MSL_UNROLL
    for (int c = 0; c < C; c++) r = r + m[c] * v[c];
    return r;
  }
  friend MSL_FN constexpr vec<T, C> operator*(vec<T, R> v, const matrix& m) {
    vec<T, C> r(T(0));
    MSL_UNROLL
    for (int c = 0; c < C; c++)
      MSL_UNROLL
      for (int i = 0; i < R; i++) r[c] = T(r[c] + v[i] * m[c][i]);
    return r;
  }
  friend MSL_FN constexpr bool operator==(const matrix& a, const matrix& b) {
    MSL_UNROLL
    for (int c = 0; c < C; c++)
      MSL_UNROLL
      for (int r = 0; r < R; r++)
        if (a[c][r] != b[c][r]) return false;
    return true;
  }
  friend MSL_FN constexpr bool operator!=(const matrix& a, const matrix& b) { return !(a == b); }
  MSL_FN constexpr matrix& operator+=(const matrix& b) { return *this = *this + b; }
  MSL_FN constexpr matrix& operator-=(const matrix& b) { return *this = *this - b; }
  MSL_FN constexpr matrix& operator*=(T s) { return *this = *this * s; }
  template <class M, class = enable_if_t<is_same_v<M, matrix> && C == R>>
  MSL_FN constexpr matrix& operator*=(const M& b) {
    return *this = *this * b;
  }
};

// K columns of R rows by C columns of K rows.
template <class T, int C, int K, int R>
MSL_FN constexpr matrix<T, C, R> operator*(const matrix<T, K, R>& a, const matrix<T, C, K>& b) {
  matrix<T, C, R> product;
  MSL_UNROLL
  for (int c = 0; c < C; c++) product[c] = a * b[c];
  return product;
}

template <class T, int C, int R>
MSL_FN constexpr matrix<T, R, C> transpose(const matrix<T, C, R>& m) {
  matrix<T, R, C> t;
  MSL_UNROLL
  for (int c = 0; c < C; c++)
    MSL_UNROLL
    for (int r = 0; r < R; r++) t[r][c] = m[c][r];
  return t;
}

// By the first column. Halves are computed in float.
template <class T>
MSL_FN constexpr T determinant(const matrix<T, 2, 2>& m) {
  return T(float(m[0][0]) * float(m[1][1]) - float(m[1][0]) * float(m[0][1]));
}
template <class T>
MSL_FN constexpr T determinant(const matrix<T, 3, 3>& m) {
  float sum = 0;
  MSL_UNROLL
  for (int c = 0; c < 3; c++) {
    int a = (c + 1) % 3, b = (c + 2) % 3;
    sum += float(m[c][0]) * (float(m[a][1]) * float(m[b][2]) - float(m[b][1]) * float(m[a][2]));
  }
  return T(sum);
}
template <class T>
MSL_FN constexpr T determinant(const matrix<T, 4, 4>& m) {
  float sum = 0;
  MSL_UNROLL
  for (int c = 0; c < 4; c++) {
    matrix<float, 3, 3> minor;
    MSL_UNROLL
    for (int i = 0; i < 3; i++) {
      int column = i + (i >= c);
      minor[i] = vec<float, 3>(float(m[column][1]), float(m[column][2]), float(m[column][3]));
    }
    float term = float(m[c][0]) * determinant(minor);
    sum += c % 2 ? -term : term;
  }
  return T(sum);
}

template <class T>
struct is_matrix : false_type {};
template <class T, int C, int R>
struct is_matrix<matrix<T, C, R>> : true_type {};
template <class T>
constexpr bool is_matrix_v = is_matrix<T>::value;

}  // namespace metal

#define MSL_MATRICES(T)                  \
  typedef metal::matrix<T, 2, 2> T##2x2; \
  typedef metal::matrix<T, 2, 3> T##2x3; \
  typedef metal::matrix<T, 2, 4> T##2x4; \
  typedef metal::matrix<T, 3, 2> T##3x2; \
  typedef metal::matrix<T, 3, 3> T##3x3; \
  typedef metal::matrix<T, 3, 4> T##3x4; \
  typedef metal::matrix<T, 4, 2> T##4x2; \
  typedef metal::matrix<T, 4, 3> T##4x3; \
  typedef metal::matrix<T, 4, 4> T##4x4;
MSL_MATRICES(half)
MSL_MATRICES(bfloat)
MSL_MATRICES(float)
#undef MSL_MATRICES
