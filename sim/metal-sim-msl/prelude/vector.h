// vec<T, N>: components by name and by index, every swizzle, constructors, operators. Swizzles are properties of the
// compiler (-fdeclspec): reading one builds a vector, writing one writes the components it names; one that names a
// component twice cannot be written.
#pragma once

namespace metal {
template <class T, int N>
struct vec;
template <class T, int N>
struct packed_vec;
}  // namespace metal

namespace msl_detail {
using namespace metal;

// What the names of components are called as colours.
#define MSL_COLOUR_x r
#define MSL_COLOUR_y g
#define MSL_COLOUR_z b
#define MSL_COLOUR_w a
#define MSL_JOIN2(a, b) a##b
#define MSL_JOIN3(a, b, c) a##b##c
#define MSL_JOIN4(a, b, c, d) a##b##c##d
#define MSL_NAME2(a, b) MSL_JOIN2(a, b)
#define MSL_NAME3(a, b, c) MSL_JOIN3(a, b, c)
#define MSL_NAME4(a, b, c, d) MSL_JOIN4(a, b, c, d)

#define MSL_GET2(a, b)                                                      \
  MSL_FN constexpr vec<T, 2> get_##a##b() const { return vec<T, 2>(a, b); } \
  __declspec(property(get = get_##a##b, put = put_##a##b)) vec<T, 2> a##b, MSL_NAME2(MSL_COLOUR_##a, MSL_COLOUR_##b);
#define MSL_GET3(a, b, c)                                                           \
  MSL_FN constexpr vec<T, 3> get_##a##b##c() const { return vec<T, 3>(a, b, c); }   \
  __declspec(property(get = get_##a##b##c, put = put_##a##b##c)) vec<T, 3> a##b##c, \
      MSL_NAME3(MSL_COLOUR_##a, MSL_COLOUR_##b, MSL_COLOUR_##c);
#define MSL_GET4(a, b, c, d)                                                                 \
  MSL_FN constexpr vec<T, 4> get_##a##b##c##d() const { return vec<T, 4>(a, b, c, d); }      \
  __declspec(property(get = get_##a##b##c##d, put = put_##a##b##c##d)) vec<T, 4> a##b##c##d, \
      MSL_NAME4(MSL_COLOUR_##a, MSL_COLOUR_##b, MSL_COLOUR_##c, MSL_COLOUR_##d);

#define MSL_PUT2(a, b) \
  MSL_FN constexpr void put_##a##b(vec<T, 2> v) { a = v.x, b = v.y; }
#define MSL_PUT3(a, b, c) \
  MSL_FN constexpr void put_##a##b##c(vec<T, 3> v) { a = v.x, b = v.y, c = v.z; }
#define MSL_PUT4(a, b, c, d) \
  MSL_FN constexpr void put_##a##b##c##d(vec<T, 4> v) { a = v.x, b = v.y, c = v.z, d = v.w; }

// All orders of two, three and four different components.
#define MSL_ORDERS2(a, b) MSL_PUT2(a, b) MSL_PUT2(b, a)
#define MSL_ORDERS3(a, b, c) \
  MSL_PUT3(a, b, c) MSL_PUT3(a, c, b) MSL_PUT3(b, a, c) MSL_PUT3(b, c, a) MSL_PUT3(c, a, b) MSL_PUT3(c, b, a)
#define MSL_FIRST4(a, b, c, d)                                                                             \
  MSL_PUT4(a, b, c, d) MSL_PUT4(a, b, d, c) MSL_PUT4(a, c, b, d) MSL_PUT4(a, c, d, b) MSL_PUT4(a, d, b, c) \
  MSL_PUT4(a, d, c, b)
#define MSL_ORDERS4(a, b, c, d) \
  MSL_FIRST4(a, b, c, d) MSL_FIRST4(b, a, c, d) MSL_FIRST4(c, a, b, d) MSL_FIRST4(d, a, b, c)

// All combinations, of two, three and four letters, out of the components that there are.
#define MSL_OF2(M, ...) M(__VA_ARGS__, x) M(__VA_ARGS__, y)
#define MSL_OF3(M, ...) MSL_OF2(M, __VA_ARGS__) M(__VA_ARGS__, z)
#define MSL_OF4(M, ...) MSL_OF3(M, __VA_ARGS__) M(__VA_ARGS__, w)

#define MSL_2_FROM2(a) MSL_OF2(MSL_GET2, a)
#define MSL_3_FROM2_(a, b) MSL_GET3(a, b, x) MSL_GET3(a, b, y)
#define MSL_3_FROM2(a) MSL_3_FROM2_(a, x) MSL_3_FROM2_(a, y)
#define MSL_4_FROM2__(a, b, c) MSL_GET4(a, b, c, x) MSL_GET4(a, b, c, y)
#define MSL_4_FROM2_(a, b) MSL_4_FROM2__(a, b, x) MSL_4_FROM2__(a, b, y)
#define MSL_4_FROM2(a) MSL_4_FROM2_(a, x) MSL_4_FROM2_(a, y)

#define MSL_2_FROM3(a) MSL_OF3(MSL_GET2, a)
#define MSL_3_FROM3_(a, b) MSL_3_FROM2_(a, b) MSL_GET3(a, b, z)
#define MSL_3_FROM3(a) MSL_3_FROM3_(a, x) MSL_3_FROM3_(a, y) MSL_3_FROM3_(a, z)
#define MSL_4_FROM3__(a, b, c) MSL_4_FROM2__(a, b, c) MSL_GET4(a, b, c, z)
#define MSL_4_FROM3_(a, b) MSL_4_FROM3__(a, b, x) MSL_4_FROM3__(a, b, y) MSL_4_FROM3__(a, b, z)
#define MSL_4_FROM3(a) MSL_4_FROM3_(a, x) MSL_4_FROM3_(a, y) MSL_4_FROM3_(a, z)

#define MSL_2_FROM4(a) MSL_OF4(MSL_GET2, a)
#define MSL_3_FROM4_(a, b) MSL_3_FROM3_(a, b) MSL_GET3(a, b, w)
#define MSL_3_FROM4(a) MSL_3_FROM4_(a, x) MSL_3_FROM4_(a, y) MSL_3_FROM4_(a, z) MSL_3_FROM4_(a, w)
#define MSL_4_FROM4__(a, b, c) MSL_4_FROM3__(a, b, c) MSL_GET4(a, b, c, w)
#define MSL_4_FROM4_(a, b) MSL_4_FROM4__(a, b, x) MSL_4_FROM4__(a, b, y) MSL_4_FROM4__(a, b, z) MSL_4_FROM4__(a, b, w)
#define MSL_4_FROM4(a) MSL_4_FROM4_(a, x) MSL_4_FROM4_(a, y) MSL_4_FROM4_(a, z) MSL_4_FROM4_(a, w)

#define MSL_ALL_FROM2(a) MSL_2_FROM2(a) MSL_3_FROM2(a) MSL_4_FROM2(a)
#define MSL_ALL_FROM3(a) MSL_2_FROM3(a) MSL_3_FROM3(a) MSL_4_FROM3(a)
#define MSL_ALL_FROM4(a) MSL_2_FROM4(a) MSL_3_FROM4(a) MSL_4_FROM4(a)

// A component by its two names.
#define MSL_COMPONENT(name) \
  union {                   \
    T name;                 \
    T MSL_COLOUR_##name;    \
  };
// By index. The compiler may not walk from one member to the next while it evaluates constants.
#define MSL_INDEX(...)                                      \
  MSL_FN constexpr T& operator[](int i) {                   \
    if (!__builtin_is_constant_evaluated()) return (&x)[i]; \
    T* all[] = {__VA_ARGS__};                               \
    return *all[i];                                         \
  }                                                         \
  MSL_FN constexpr const T& operator[](int i) const {       \
    if (!__builtin_is_constant_evaluated()) return (&x)[i]; \
    const T* all[] = {__VA_ARGS__};                         \
    return *all[i];                                         \
  }

// Components and swizzles, which vec and packed_vec share.
template <class T, int N>
struct components;

template <class T>
struct components<T, 2> {
  MSL_COMPONENT(x)
  MSL_COMPONENT(y)
  components() = default;
  MSL_FN constexpr components(T x, T y) : x(x), y(y) {}
  MSL_INDEX(&x, &y)
  MSL_ALL_FROM2(x) MSL_ALL_FROM2(y)
  MSL_ORDERS2(x, y)
};

template <class T>
struct components<T, 3> {
  MSL_COMPONENT(x)
  MSL_COMPONENT(y)
  MSL_COMPONENT(z)
  components() = default;
  MSL_FN constexpr components(T x, T y, T z) : x(x), y(y), z(z) {}
  MSL_INDEX(&x, &y, &z)
  MSL_ALL_FROM3(x) MSL_ALL_FROM3(y) MSL_ALL_FROM3(z)
  MSL_ORDERS2(x, y) MSL_ORDERS2(x, z) MSL_ORDERS2(y, z)
  MSL_ORDERS3(x, y, z)
};

template <class T>
struct components<T, 4> {
  MSL_COMPONENT(x)
  MSL_COMPONENT(y)
  MSL_COMPONENT(z)
  MSL_COMPONENT(w)
  components() = default;
  MSL_FN constexpr components(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
  MSL_INDEX(&x, &y, &z, &w)
  MSL_ALL_FROM4(x) MSL_ALL_FROM4(y) MSL_ALL_FROM4(z) MSL_ALL_FROM4(w)
  MSL_ORDERS2(x, y) MSL_ORDERS2(x, z) MSL_ORDERS2(x, w) MSL_ORDERS2(y, z) MSL_ORDERS2(y, w) MSL_ORDERS2(z, w)
  MSL_ORDERS3(x, y, z) MSL_ORDERS3(x, y, w) MSL_ORDERS3(x, z, w) MSL_ORDERS3(y, z, w)
  MSL_ORDERS4(x, y, z, w)
};

// No names: eight components have none in Metal either.
template <class T>
struct components<T, 8> {
  T all[8];
  MSL_FN constexpr T& operator[](int i) { return all[i]; }
  MSL_FN constexpr const T& operator[](int i) const { return all[i]; }
};

// Operators, found through their operands only: a scalar becomes a vector, two different vectors do not mix.
template <class V, class T, int N>
struct vector_operators {
#define MSL_ARITHMETIC(op)                              \
  friend MSL_FN constexpr V operator op(V a, V b) {     \
    MSL_UNROLL                                          \
    for (int i = 0; i < N; i++) a[i] = T(a[i] op b[i]); \
    return a;                                           \
  }                                                     \
  friend MSL_FN constexpr V& operator op##=(V& a, V b) { return a = a op b; }
  MSL_ARITHMETIC(+)
  MSL_ARITHMETIC(-)
  MSL_ARITHMETIC(*)
  MSL_ARITHMETIC(/)
  MSL_ARITHMETIC(%)
  MSL_ARITHMETIC(&)
  MSL_ARITHMETIC(|)
  MSL_ARITHMETIC(^)
#undef MSL_ARITHMETIC
// A shift counts modulo the width, as Metal says; in C++ a larger one means nothing.
#define MSL_SHIFT(op)                                                           \
  friend MSL_FN constexpr V operator op(V a, V b) {                             \
    MSL_UNROLL                                                                  \
    for (int i = 0; i < N; i++) a[i] = T(a[i] op(b[i] & T(8 * sizeof(T) - 1))); \
    return a;                                                                   \
  }                                                                             \
  friend MSL_FN constexpr V& operator op##=(V& a, V b) { return a = a op b; }
  MSL_SHIFT(<<)
  MSL_SHIFT(>>)
#undef MSL_SHIFT
#define MSL_COMPARISON(op)                                     \
  friend MSL_FN constexpr vec<bool, N> operator op(V a, V b) { \
    vec<bool, N> r(false);                                     \
    MSL_UNROLL                                                 \
    for (int i = 0; i < N; i++) r[i] = a[i] op b[i];           \
    return r;                                                  \
  }
  MSL_COMPARISON(==)
  MSL_COMPARISON(!=)
  MSL_COMPARISON(<)
  MSL_COMPARISON(>)
  MSL_COMPARISON(<=)
  MSL_COMPARISON(>=)
  MSL_COMPARISON(&&)
  MSL_COMPARISON(||)
#undef MSL_COMPARISON
  friend MSL_FN constexpr V operator+(V a) { return a; }
  friend MSL_FN constexpr V operator-(V a) {
    MSL_UNROLL
    for (int i = 0; i < N; i++) a[i] = T(-a[i]);
    return a;
  }
  friend MSL_FN constexpr V operator~(V a) {
    MSL_UNROLL
    for (int i = 0; i < N; i++) a[i] = T(~a[i]);
    return a;
  }
  friend MSL_FN constexpr vec<bool, N> operator!(V a) {
    vec<bool, N> r(false);
    MSL_UNROLL
    for (int i = 0; i < N; i++) r[i] = !a[i];
    return r;
  }
  friend MSL_FN constexpr V& operator++(V& a) { return a = a + V(T(1)); }
  friend MSL_FN constexpr V& operator--(V& a) { return a = a - V(T(1)); }
  friend MSL_FN constexpr V operator++(V& a, int) {
    V was = a;
    a = a + V(T(1));
    return was;
  }
  friend MSL_FN constexpr V operator--(V& a, int) {
    V was = a;
    a = a - V(T(1));
    return was;
  }
};

// Aligns what inherits from it. An attribute of the vector itself would be a promise to the compiler; this one is none
// under -fmax-type-align, so vectors are loaded and stored wherever a pointer points to. Apple's GPUs do not mind, and
// kernels depend on it.
template <int bytes>
struct alignas(bytes) aligned_as {};

// Numbers, enumerations, and what converts to a number, such as a function constant.
template <class S>
constexpr bool is_number = __is_convertible_to(S, float);
template <class S>
using if_number = enable_if_t<is_number<S>>;

}  // namespace msl_detail

namespace metal {

#define MSL_VECTOR(N, align)                                                                    \
  template <class T>                                                                            \
  struct vec<T, N> : msl_detail::aligned_as<align * sizeof(T)>,                                 \
                     msl_detail::components<T, N>,                                              \
                     msl_detail::vector_operators<vec<T, N>, T, N> {                            \
    using base = msl_detail::components<T, N>;                                                  \
    using base::base;                                                                           \
    vec() = default;                                                                            \
    /* In braces: numbers that are not there are zeros, one number too is not repeated. */      \
    MSL_FN constexpr vec(std::initializer_list<T> list) : base{} {                              \
      MSL_UNROLL                                                                                \
      for (int i = 0; i < N; i++)                                                               \
        if (i < int(list.size())) (*this)[i] = list.begin()[i];                                 \
    }                                                                                           \
    template <class U, class = enable_if_t<!is_same_v<U, T>>>                                   \
    MSL_FN constexpr explicit vec(vec<U, N> v) : base{} {                                       \
      MSL_UNROLL                                                                                \
      for (int i = 0; i < N; i++) (*this)[i] = msl_detail::convert<T>(v[i]);                    \
    }                                                                                           \
    template <class U, class = enable_if_t<!is_same_v<U, T>>>                                   \
    MSL_FN constexpr explicit vec(packed_vec<U, N> v) : base{} {                                \
      MSL_UNROLL                                                                                \
      for (int i = 0; i < N; i++) (*this)[i] = msl_detail::convert<T>(v[i]);                    \
    }

MSL_VECTOR(2, 2)
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr vec(S s) : base(msl_detail::convert<T>(s), msl_detail::convert<T>(s)) {}
};
MSL_VECTOR(3, 4)
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr vec(S s) : base(msl_detail::convert<T>(s), msl_detail::convert<T>(s), msl_detail::convert<T>(s)) {}
  MSL_FN constexpr vec(vec<T, 2> a, T b) : base(a.x, a.y, b) {}
  MSL_FN constexpr vec(T a, vec<T, 2> b) : base(a, b.x, b.y) {}
};
MSL_VECTOR(4, 4)
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr vec(S s) : base(msl_detail::convert<T>(s), T(0), T(0), T(0)) {
    (*this)[1] = (*this)[2] = (*this)[3] = (*this)[0];
  }
  MSL_FN constexpr vec(vec<T, 2> a, T b, T c) : base(a.x, a.y, b, c) {}
  MSL_FN constexpr vec(T a, vec<T, 2> b, T c) : base(a, b.x, b.y, c) {}
  MSL_FN constexpr vec(T a, T b, vec<T, 2> c) : base(a, b, c.x, c.y) {}
  MSL_FN constexpr vec(vec<T, 2> a, vec<T, 2> b) : base(a.x, a.y, b.x, b.y) {}
  MSL_FN constexpr vec(vec<T, 3> a, T b) : base(a.x, a.y, a.z, b) {}
  MSL_FN constexpr vec(T a, vec<T, 3> b) : base(a, b.x, b.y, b.z) {}
};
MSL_VECTOR(8, 8)
  template <class S, class = msl_detail::if_number<S>>
  MSL_FN constexpr vec(S s) : base{} {
    MSL_UNROLL
    for (int i = 0; i < 8; i++) (*this)[i] = msl_detail::convert<T>(s);
  }
};
#undef MSL_VECTOR

template <class T>
struct is_vector : false_type {};
template <class T, int N>
struct is_vector<vec<T, N>> : true_type {};
template <class T>
constexpr bool is_vector_v = is_vector<T>::value;

// How many components: 1 for a scalar.
template <class T>
struct vec_elements : integral_constant<uint, 1> {};
template <class T, int N>
struct vec_elements<vec<T, N>> : integral_constant<uint, N> {};
template <class T, int N>
struct vec_elements<packed_vec<T, N>> : integral_constant<uint, N> {};

}  // namespace metal
