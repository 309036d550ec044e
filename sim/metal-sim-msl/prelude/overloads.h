// How a function of scalars becomes one of vectors, halves and mixed arguments. The definitions for float and
// half are plain functions, as Apple's are; all else is a template, so that what a source defines itself is preferred.
#pragma once

namespace msl_detail {

// The vector that a call is about: all arguments are that vector, packed or not, or numbers. Else there is none.
template <class V, class... A>
struct vector_among_ {};
template <class V>
struct vector_among_<V> {
  typedef V type;
};
template <class V, class A, class... B>
struct vector_among_<V, A, B...> : conditional_t<is_number<A>, vector_among_<V, B...>, vector_among_<void, void>> {};
template <class T, int N, class... B>
struct vector_among_<void, vec<T, N>, B...> : vector_among_<vec<T, N>, B...> {};
template <class T, int N, class... B>
struct vector_among_<vec<T, N>, vec<T, N>, B...> : vector_among_<vec<T, N>, B...> {};
template <class T, int N, class... B>
struct vector_among_<void, packed_vec<T, N>, B...> : vector_among_<vec<T, N>, B...> {};
template <class T, int N, class... B>
struct vector_among_<vec<T, N>, packed_vec<T, N>, B...> : vector_among_<vec<T, N>, B...> {};
template <>
struct vector_among_<void> {};
template <class... A>
using vector_among = typename vector_among_<void, A...>::type;

template <class V>
struct element_;
template <class T, int N>
struct element_<vec<T, N>> {
  typedef T type;
  static constexpr int count = N;
};
template <class V>
using element = typename element_<V>::type;
template <class V>
constexpr int count = element_<V>::count;

// What a function of floating point numbers computes in, given these: halves stay halves, all else is float.
template <class... A>
using real = conditional_t<(is_same_v<A, half> && ...), half, float>;
// What mixed numbers become before a function such as `max` sees them.
template <class A, class... B>
struct mixed_ : type_identity<__decay(decltype((declval<A>() + ... + declval<B>())))> {};
template <class... A>
using mixed = typename mixed_<A...>::type;

template <class... A>
using if_numbers = enable_if_t<(is_number<A> && ...)>;
template <class A, class... B>
using if_unlike = enable_if_t<(is_number<A> && ... && is_number<B>) && !(is_same_v<A, B> && ...)>;

}  // namespace msl_detail

// name(vector) from name(scalar).
#define MSL_VECTOR_1(name)                                                                    \
  template <class A, class V = msl_detail::vector_among<A>>                                   \
  MSL_FN constexpr V name(A a) {                                                              \
    V x(a);                                                                                   \
    MSL_UNROLL                                                                                \
    for (int i = 0; i < msl_detail::count<V>; i++) x[i] = msl_detail::element<V>(name(x[i])); \
    return x;                                                                                 \
  }
#define MSL_VECTOR_2(name)                                                                          \
  template <class A, class B, class V = msl_detail::vector_among<A, B>>                             \
  MSL_FN constexpr V name(A a, B b) {                                                               \
    V x(a), y(b);                                                                                   \
    MSL_UNROLL                                                                                      \
    for (int i = 0; i < msl_detail::count<V>; i++) x[i] = msl_detail::element<V>(name(x[i], y[i])); \
    return x;                                                                                       \
  }
#define MSL_VECTOR_3(name)                                                                                \
  template <class A, class B, class C, class V = msl_detail::vector_among<A, B, C>>                       \
  MSL_FN constexpr V name(A a, B b, C c) {                                                                \
    V x(a), y(b), z(c);                                                                                   \
    MSL_UNROLL                                                                                            \
    for (int i = 0; i < msl_detail::count<V>; i++) x[i] = msl_detail::element<V>(name(x[i], y[i], z[i])); \
    return x;                                                                                             \
  }

// name for floating point scalars out of an expression in float, and for vectors of them. Results for halves are
// computed in float and rounded once.
#define MSL_FLOAT_1(name, expression)                   \
  MSL_FN float name(float x) { return expression; }     \
  MSL_FN half name(half h) {                            \
    float x = h;                                        \
    return half(expression);                            \
  }                                                     \
  template <class A, class = msl_detail::if_numbers<A>> \
  MSL_FN float name(A a) {                              \
    return name(float(a));                              \
  }                                                     \
  MSL_VECTOR_1(name)
#define MSL_FLOAT_2(name, expression)                                  \
  MSL_FN float name(float x, float y) { return expression; }           \
  MSL_FN half name(half h, half i) {                                   \
    float x = h, y = i;                                                \
    return half(expression);                                           \
  }                                                                    \
  template <class A, class B, class = msl_detail::if_numbers<A, B>>    \
  MSL_FN msl_detail::real<A, B> name(A a, B b) {                       \
    return name(msl_detail::real<A, B>(a), msl_detail::real<A, B>(b)); \
  }                                                                    \
  MSL_VECTOR_2(name)
#define MSL_FLOAT_3(name, expression)                                           \
  MSL_FN float name(float x, float y, float z) { return expression; }           \
  MSL_FN half name(half h, half i, half j) {                                    \
    float x = h, y = i, z = j;                                                  \
    return half(expression);                                                    \
  }                                                                             \
  template <class A, class B, class C, class = msl_detail::if_numbers<A, B, C>> \
  MSL_FN msl_detail::real<A, B, C> name(A a, B b, C c) {                        \
    using R = msl_detail::real<A, B, C>;                                        \
    return name(R(a), R(b), R(c));                                              \
  }                                                                             \
  MSL_VECTOR_3(name)

#define MSL_INTEGERS(M) M(char) M(int8_t) M(uchar) M(short) M(ushort) M(int) M(uint) M(long) M(ulong)
