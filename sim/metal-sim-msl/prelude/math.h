// <metal_math>, <metal_common> and <metal_relational>. `fast` and `precise` are the same functions: results of the
// host's math library, mostly within one unit in the last place, rounded once for halves.
#pragma once

#include "overloads.h"

namespace msl_detail {

// Reduced exactly before it is multiplied by pi, whose bits are given: in sources of Metal no literal is a double.
MSL_FN double half_turns(float x) {
  double pi = __builtin_bit_cast(double, 0x400921fb54442d18ul);
  return pi * (x - 2.0 * __builtin_rint(x / 2.0));
}
MSL_FN float sinpi(float x) {
  if (__builtin_rintf(x) == x) return __builtin_isfinite(x) ? __builtin_copysignf(0.0f, x) : __builtin_nanf("");
  return float(__builtin_sin(half_turns(x)));
}
MSL_FN float cospi(float x) {
  if (__builtin_fabs(x - __builtin_rint(x)) == 0.5) return 0.0f;
  return float(__builtin_cos(half_turns(x)));
}
MSL_FN float fract(float x) { return __builtin_fminf(x - __builtin_floorf(x), 0x1.fffffep-1f); }
MSL_FN float sign(float x) { return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x == 0.0f ? x : 0.0f; }
MSL_FN float mix(float x, float y, float a) { return x + (y - x) * a; }
MSL_FN float saturate(float x) { return __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f); }
MSL_FN float step(float edge, float x) { return x < edge ? 0.0f : 1.0f; }
MSL_FN float smoothstep(float low, float high, float x) {
  float t = saturate((x - low) / (high - low));
  return t * t * (3.0f - 2.0f * t);
}
template <class T>
MSL_FN constexpr T min_of(T a, T b) {
  return a != a || b < a ? b : a;
}
template <class T>
MSL_FN constexpr T max_of(T a, T b) {
  return a != a || a < b ? b : a;
}
template <class T>
MSL_FN constexpr T clamp_of(T x, T low, T high) {
  return min_of(max_of(x, low), high);
}
template <class T>
MSL_FN constexpr T min3_of(T a, T b, T c) {
  return min_of(a, min_of(b, c));
}
template <class T>
MSL_FN constexpr T max3_of(T a, T b, T c) {
  return max_of(a, max_of(b, c));
}
template <class T>
MSL_FN constexpr T median3_of(T a, T b, T c) {
  return max_of(min_of(a, b), min_of(max_of(a, b), c));
}
MSL_FN float powr(float x, float y) { return x < 0.0f ? __builtin_nanf("") : __builtin_powf(x, y); }

}  // namespace msl_detail

namespace metal {

MSL_FLOAT_1(acos, __builtin_acosf(x))
MSL_FLOAT_1(acosh, __builtin_acoshf(x))
MSL_FLOAT_1(asin, __builtin_asinf(x))
MSL_FLOAT_1(asinh, __builtin_asinhf(x))
MSL_FLOAT_1(atan, __builtin_atanf(x))
MSL_FLOAT_1(atanh, __builtin_atanhf(x))
MSL_FLOAT_1(ceil, __builtin_ceilf(x))
MSL_FLOAT_1(cos, __builtin_cosf(x))
MSL_FLOAT_1(cosh, __builtin_coshf(x))
MSL_FLOAT_1(cospi, msl_detail::cospi(x))
MSL_FLOAT_1(exp, __builtin_expf(x))
MSL_FLOAT_1(exp2, __builtin_exp2f(x))
MSL_FLOAT_1(exp10, __builtin_exp10f(x))
MSL_FLOAT_1(fabs, __builtin_fabsf(x))
MSL_FLOAT_1(floor, __builtin_floorf(x))
MSL_FLOAT_1(log, __builtin_logf(x))
MSL_FLOAT_1(log2, __builtin_log2f(x))
MSL_FLOAT_1(log10, __builtin_log10f(x))
MSL_FLOAT_1(rint, __builtin_rintf(x))
MSL_FLOAT_1(round, __builtin_roundf(x))
MSL_FLOAT_1(rsqrt, float(1.0 / __builtin_sqrt(double(x))))
MSL_FLOAT_1(saturate, msl_detail::saturate(x))
MSL_FLOAT_1(sign, msl_detail::sign(x))
MSL_FLOAT_1(sin, __builtin_sinf(x))
MSL_FLOAT_1(sinh, __builtin_sinhf(x))
MSL_FLOAT_1(sinpi, msl_detail::sinpi(x))
MSL_FLOAT_1(sqrt, __builtin_sqrtf(x))
MSL_FLOAT_1(tan, __builtin_tanf(x))
MSL_FLOAT_1(tanh, __builtin_tanhf(x))
MSL_FLOAT_1(tanpi, msl_detail::sinpi(x) / msl_detail::cospi(x))
MSL_FLOAT_1(trunc, __builtin_truncf(x))

MSL_FLOAT_2(atan2, __builtin_atan2f(x, y))
MSL_FLOAT_2(copysign, __builtin_copysignf(x, y))
MSL_FLOAT_2(divide, x / y)
MSL_FLOAT_2(fdim, __builtin_fdimf(x, y))
MSL_FLOAT_2(fmax, __builtin_fmaxf(x, y))
MSL_FLOAT_2(fmin, __builtin_fminf(x, y))
MSL_FLOAT_2(fmod, __builtin_fmodf(x, y))
MSL_FLOAT_2(pow, __builtin_powf(x, y))
MSL_FLOAT_2(powr, msl_detail::powr(x, y))
MSL_FLOAT_2(step, msl_detail::step(x, y))

MSL_FLOAT_3(fmax3, __builtin_fmaxf(x, __builtin_fmaxf(y, z)))
MSL_FLOAT_3(fmedian3, __builtin_fmaxf(__builtin_fminf(x, y), __builtin_fminf(__builtin_fmaxf(x, y), z)))
MSL_FLOAT_3(fmin3, __builtin_fminf(x, __builtin_fminf(y, z)))
MSL_FLOAT_3(mix, msl_detail::mix(x, y, z))
MSL_FLOAT_3(smoothstep, msl_detail::smoothstep(x, y, z))

// The largest half below one, where rounding would give one.
MSL_FN float fract(float x) { return msl_detail::fract(x); }
MSL_FN half fract(half x) { return half(__builtin_fminf(x - __builtin_floorf(x), 0x1.ffcp-1f)); }
template <class A, class = msl_detail::if_numbers<A>>
MSL_FN float fract(A x) {
  return msl_detail::fract(float(x));
}
MSL_VECTOR_1(fract)

// Rounded once: products of halves are exact in double.
MSL_FN float fma(float x, float y, float z) { return __builtin_fmaf(x, y, z); }
MSL_FN half fma(half x, half y, half z) { return half(double(x) * double(y) + double(z)); }
template <class A, class B, class C, class = msl_detail::if_numbers<A, B, C>>
MSL_FN msl_detail::real<A, B, C> fma(A a, B b, C c) {
  using R = msl_detail::real<A, B, C>;
  return fma(R(a), R(b), R(c));
}
MSL_VECTOR_3(fma)

// Of two numbers the one that is not NaN, as fmin and fmax. For bfloat these are templates, like all else here: sources
// define their own in this namespace.
#define MSL_EXTREMA(T)                                                                        \
  MSL_FN constexpr T min(T a, T b) { return msl_detail::min_of(a, b); }                       \
  MSL_FN constexpr T max(T a, T b) { return msl_detail::max_of(a, b); }                       \
  MSL_FN constexpr T clamp(T x, T low, T high) { return msl_detail::clamp_of(x, low, high); } \
  MSL_FN constexpr T min3(T a, T b, T c) { return msl_detail::min3_of(a, b, c); }             \
  MSL_FN constexpr T max3(T a, T b, T c) { return msl_detail::max3_of(a, b, c); }             \
  MSL_FN constexpr T median3(T a, T b, T c) { return msl_detail::median3_of(a, b, c); }
MSL_INTEGERS(MSL_EXTREMA)
MSL_EXTREMA(half)
MSL_EXTREMA(float)
MSL_EXTREMA(bool)
#undef MSL_EXTREMA
#define MSL_MIXED_2(name)                                           \
  template <class A, class B, class = msl_detail::if_numbers<A, B>> \
  MSL_FN constexpr msl_detail::mixed<A, B> name(A a, B b) {         \
    using M = msl_detail::mixed<A, B>;                              \
    return msl_detail::name##_of(M(a), M(b));                       \
  }                                                                 \
  MSL_VECTOR_2(name)
#define MSL_MIXED_3(name)                                                       \
  template <class A, class B, class C, class = msl_detail::if_numbers<A, B, C>> \
  MSL_FN constexpr msl_detail::mixed<A, B, C> name(A a, B b, C c) {             \
    using M = msl_detail::mixed<A, B, C>;                                       \
    return msl_detail::name##_of(M(a), M(b), M(c));                             \
  }                                                                             \
  MSL_VECTOR_3(name)
MSL_MIXED_2(min)
MSL_MIXED_2(max)
MSL_MIXED_3(clamp)
MSL_MIXED_3(min3)
MSL_MIXED_3(max3)
MSL_MIXED_3(median3)
#undef MSL_MIXED_2
#undef MSL_MIXED_3

#define MSL_ABS(T) \
  MSL_FN constexpr T abs(T x) { return T(x < T(0) ? -x : x); }
MSL_INTEGERS(MSL_ABS)
#undef MSL_ABS
MSL_FN float abs(float x) { return __builtin_fabsf(x); }
MSL_FN half abs(half x) { return half(__builtin_fabsf(x)); }
template <class A, class = enable_if_t<is_same_v<A, bfloat>>>
MSL_FN bfloat abs(A x) {
  return bfloat(__builtin_fabsf(x));
}
MSL_VECTOR_1(abs)

// Those that give a second result, or an integer.
#define MSL_SPLITTING(T)                                                                                 \
  MSL_FN T frexp(T x, int& exponent) { return T(__builtin_frexpf(x, &exponent)); }                       \
  MSL_FN int ilogb(T x) { return __builtin_ilogbf(x); }                                                  \
  MSL_FN T ldexp(T x, int k) { return T(__builtin_ldexp(double(x), k)); }                                \
  MSL_FN T modf(T x, T& whole) {                                                                         \
    whole = T(__builtin_truncf(x));                                                                      \
    return T(__builtin_copysignf(__builtin_isinf(float(x)) ? 0.0f : float(x) - float(whole), float(x))); \
  }                                                                                                      \
  MSL_FN T sincos(T x, T& cosine) {                                                                      \
    cosine = T(__builtin_cosf(x));                                                                       \
    return T(__builtin_sinf(x));                                                                         \
  }
MSL_SPLITTING(float)
MSL_SPLITTING(half)
#undef MSL_SPLITTING
template <class T, int N>
MSL_FN vec<T, N> frexp(vec<T, N> x, vec<int, N>& exponent) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) x[i] = frexp(x[i], exponent[i]);
  return x;
}
template <class T, int N>
MSL_FN vec<int, N> ilogb(vec<T, N> x) {
  vec<int, N> r;
  MSL_UNROLL
  for (int i = 0; i < N; i++) r[i] = ilogb(x[i]);
  return r;
}
template <class T, int N>
MSL_FN vec<T, N> ldexp(vec<T, N> x, vec<int, N> k) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) x[i] = ldexp(x[i], k[i]);
  return x;
}
template <class T, int N>
MSL_FN vec<T, N> modf(vec<T, N> x, vec<T, N>& whole) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) x[i] = modf(x[i], whole[i]);
  return x;
}
template <class T, int N>
MSL_FN vec<T, N> sincos(vec<T, N> x, vec<T, N>& cosine) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) x[i] = sincos(x[i], cosine[i]);
  return x;
}
MSL_FN float nextafter(float x, float y) { return __builtin_nextafterf(x, y); }
// The bits of a half count up with its magnitude.
MSL_FN half nextafter(half x, half y) {
  if (x != x || y != y) return x + y;
  if (x == y) return y;
  ushort bits = as_type<ushort>(x);
  if ((bits & 0x7fff) == 0) return as_type<half>(ushort(y > x ? 1 : 0x8001));
  return as_type<half>(ushort((y > x) == (bits < 0x8000) ? bits + 1 : bits - 1));
}
MSL_VECTOR_2(nextafter)

// One bool for each component.
#define MSL_CLASSIFICATION(name, expression)            \
  template <class A, class = msl_detail::if_numbers<A>> \
  MSL_FN bool name(A a) {                               \
    [[maybe_unused]] float x = float(a);                \
    return expression;                                  \
  }                                                     \
  template <class T, int N>                             \
  MSL_FN vec<bool, N> name(vec<T, N> v) {               \
    vec<bool, N> r;                                     \
    MSL_UNROLL                                          \
    for (int i = 0; i < N; i++) r[i] = name(v[i]);      \
    return r;                                           \
  }
MSL_CLASSIFICATION(isfinite, __builtin_isfinite(x))
MSL_CLASSIFICATION(isinf, __builtin_isinf(x))
MSL_CLASSIFICATION(isnan, __builtin_isnan(x))
MSL_CLASSIFICATION(isnormal, __builtin_isfinite(x) && __builtin_fabsf(x) >= float(numeric_limits<A>::min()))
MSL_CLASSIFICATION(signbit, __builtin_signbit(x) != 0)
#undef MSL_CLASSIFICATION
template <class A, class B, class = msl_detail::if_numbers<A, B>>
MSL_FN bool isunordered(A a, B b) {
  return a != a || b != b;
}
template <class T, int N>
MSL_FN vec<bool, N> isunordered(vec<T, N> a, vec<T, N> b) {
  return (a != a) || (b != b);
}
template <class A, class B>
MSL_FN auto isordered(A a, B b) -> decltype(!isunordered(a, b)) {
  return !isunordered(a, b);
}

MSL_FN constexpr bool all(bool b) { return b; }
MSL_FN constexpr bool any(bool b) { return b; }
template <int N>
MSL_FN constexpr bool all(vec<bool, N> v) {
  MSL_UNROLL
  for (int i = 0; i < N; i++)
    if (!v[i]) return false;
  return true;
}
template <int N>
MSL_FN constexpr bool any(vec<bool, N> v) {
  return !all(!v);
}

// The second where the condition holds.
template <class A, class B, class C, class = msl_detail::if_numbers<A, B, C>>
MSL_FN constexpr auto select(A a, B b, C c) -> __decay(decltype(c ? b : a)) {
  return c ? b : a;
}
template <class A, class B, class C, int N, class V = msl_detail::vector_among<A, B>>
MSL_FN constexpr V select(A a, B b, vec<C, N> c) {
  V x(a), y(b);
  MSL_UNROLL
  for (int i = 0; i < N; i++)
    if (c[i]) x[i] = y[i];
  return x;
}
template <class A, class B, class V = msl_detail::vector_among<A, B>>
MSL_FN constexpr V select(A a, B b, bool c) {
  return c ? V(b) : V(a);
}

#define MSL_BOTH                                                                                                    \
  using metal::abs, metal::acos, metal::acosh, metal::asin, metal::asinh, metal::atan, metal::atan2, metal::atanh,  \
      metal::ceil, metal::clamp, metal::copysign, metal::cos, metal::cosh, metal::cospi, metal::divide, metal::exp, \
      metal::exp10, metal::exp2, metal::fabs, metal::fdim, metal::floor, metal::fma, metal::fmax, metal::fmax3,     \
      metal::fmedian3, metal::fmin, metal::fmin3, metal::fmod, metal::fract, metal::frexp, metal::ilogb,            \
      metal::ldexp, metal::log, metal::log10, metal::log2, metal::max, metal::max3, metal::median3, metal::min,     \
      metal::min3, metal::mix, metal::modf, metal::nextafter, metal::pow, metal::powr, metal::rint, metal::round,   \
      metal::rsqrt, metal::saturate, metal::sign, metal::sin, metal::sincos, metal::sinh, metal::sinpi,             \
      metal::smoothstep, metal::sqrt, metal::step, metal::tan, metal::tanh, metal::tanpi, metal::trunc;
namespace fast {
MSL_BOTH
}
namespace precise {
MSL_BOTH
}
#undef MSL_BOTH

}  // namespace metal
