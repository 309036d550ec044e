// packed_vec<T, N>: the components of vec<T, N> without its alignment. An operator makes vectors of its operands.
#pragma once

namespace metal {

template <class T, int N>
struct packed_vec : msl_detail::components<T, N> {
  using base = msl_detail::components<T, N>;
  using base::base;
  packed_vec() = default;
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr packed_vec(S s) : packed_vec(vec<T, N>(s)) {}
  MSL_FN constexpr packed_vec(std::initializer_list<T> list) : packed_vec(vec<T, N>(list)) {}
  MSL_FN constexpr packed_vec(vec<T, N> v) : base{} {
    MSL_UNROLL
    for (int i = 0; i < N; i++) (*this)[i] = v[i];
  }
  template <class U, class = enable_if_t<!is_same_v<U, T>>>
  MSL_FN constexpr explicit packed_vec(vec<U, N> v) : packed_vec(vec<T, N>(v)) {}
  template <class U, class = enable_if_t<!is_same_v<U, T>>>
  MSL_FN constexpr explicit packed_vec(packed_vec<U, N> v) : packed_vec(vec<T, N>(v)) {}
  // From parts, as a vector is.
  template <class A, class B, class... C, class = decltype(vec<T, N>(declval<A>(), declval<B>(), declval<C>()...))>
  MSL_FN constexpr packed_vec(A a, B b, C... c) : packed_vec(vec<T, N>(a, b, c...)) {}
  MSL_FN constexpr operator vec<T, N>() const {
    vec<T, N> v(T(0));
    MSL_UNROLL
    for (int i = 0; i < N; i++) v[i] = (*this)[i];
    return v;
  }
};

#define MSL_BINARY(op)                                                                                    \
  template <class T, int N, class B>                                                                      \
  MSL_FN constexpr auto operator op(const packed_vec<T, N>& a, const B& b)->decltype(vec<T, N>(a) op b) { \
    return vec<T, N>(a) op b;                                                                             \
  }                                                                                                       \
  template <class A, class T, int N, class = msl_detail::if_number<A>>                                    \
  MSL_FN constexpr auto operator op(const A& a, const packed_vec<T, N>& b)->decltype(a op vec<T, N>(b)) { \
    return a op vec<T, N>(b);                                                                             \
  }
#define MSL_ASSIGNING(op)                                                              \
  MSL_BINARY(op)                                                                       \
  template <class T, int N, class B>                                                   \
  MSL_FN constexpr packed_vec<T, N>& operator op##=(packed_vec<T, N>& a, const B& b) { \
    return a = vec<T, N>(a) op vec<T, N>(b);                                           \
  }
MSL_ASSIGNING(+)
MSL_ASSIGNING(-)
MSL_ASSIGNING(*)
MSL_ASSIGNING(/)
MSL_ASSIGNING(%)
MSL_ASSIGNING(&)
MSL_ASSIGNING(|)
MSL_ASSIGNING(^)
MSL_ASSIGNING(<<)
MSL_ASSIGNING(>>)
MSL_BINARY(==)
MSL_BINARY(!=)
MSL_BINARY(<)
MSL_BINARY(>)
MSL_BINARY(<=)
MSL_BINARY(>=)
#undef MSL_BINARY
#undef MSL_ASSIGNING
#define MSL_UNARY(op)                                                                       \
  template <class T, int N>                                                                 \
  MSL_FN constexpr auto operator op(const packed_vec<T, N>& a)->decltype(op vec<T, N>(a)) { \
    return op vec<T, N>(a);                                                                 \
  }
MSL_UNARY(+)
MSL_UNARY(-)
MSL_UNARY(~)
MSL_UNARY(!)
#undef MSL_UNARY

template <class T>
struct is_packed_vector : false_type {};
template <class T, int N>
struct is_packed_vector<packed_vec<T, N>> : true_type {};
template <class T>
constexpr bool is_packed_vector_v = is_packed_vector<T>::value;

}  // namespace metal

#define MSL_VECTORS(T)                           \
  typedef metal::vec<T, 2> T##2;                 \
  typedef metal::vec<T, 3> T##3;                 \
  typedef metal::vec<T, 4> T##4;                 \
  typedef metal::packed_vec<T, 2> packed_##T##2; \
  typedef metal::packed_vec<T, 3> packed_##T##3; \
  typedef metal::packed_vec<T, 4> packed_##T##4;
MSL_VECTORS(bool)
MSL_VECTORS(char)
MSL_VECTORS(uchar)
MSL_VECTORS(short)
MSL_VECTORS(ushort)
MSL_VECTORS(int)
MSL_VECTORS(uint)
MSL_VECTORS(long)
MSL_VECTORS(ulong)
MSL_VECTORS(half)
MSL_VECTORS(bfloat)
MSL_VECTORS(float)
#undef MSL_VECTORS
