// <metal_integer>: functions of integers of any width, one result for each component of a vector.
#pragma once

namespace msl_detail {

template <class T>
using unsigned_of = typename make_unsigned<T>::type;
template <class T>
constexpr int bits_of = 8 * sizeof(T);
// A type that holds any product of two T.
template <class T>
using wide = conditional_t<sizeof(T) == 8, conditional_t<__is_unsigned(T), unsigned __int128, __int128>,
                           conditional_t<__is_unsigned(T), ulong, long>>;
template <class T, class... A>
using if_integer = enable_if_t<__is_integral(T) && (is_same_v<T, A> && ...)>;

template <class T, class W>
MSL_FN constexpr T saturated(W x) {
  W low = W(numeric_limits<T>::min()), high = W(numeric_limits<T>::max());
  return T(x < low ? low : x > high ? high : x);
}

}  // namespace msl_detail

namespace metal {

#define MSL_INTEGER_1(name)                             \
  template <class T, class = msl_detail::if_integer<T>> \
  MSL_FN constexpr T name(T x)
#define MSL_INTEGER_2(name)                             \
  template <class T, class = msl_detail::if_integer<T>> \
  MSL_FN constexpr T name(T x, T y)
#define MSL_INTEGER_3(name)                             \
  template <class T, class = msl_detail::if_integer<T>> \
  MSL_FN constexpr T name(T x, T y, T z)
// Integers of different types, as their common type; and vectors.
#define MSL_MORE_2(name)                                                 \
  template <class A, class B, class = msl_detail::if_unlike<A, B>>       \
  MSL_FN constexpr msl_detail::mixed<A, B> name(A a, B b) {              \
    return name(msl_detail::mixed<A, B>(a), msl_detail::mixed<A, B>(b)); \
  }                                                                      \
  MSL_VECTOR_2(name)
#define MSL_MORE_3(name)                                                       \
  template <class A, class B, class C, class = msl_detail::if_unlike<A, B, C>> \
  MSL_FN constexpr msl_detail::mixed<A, B, C> name(A a, B b, C c) {            \
    using M = msl_detail::mixed<A, B, C>;                                      \
    return name(M(a), M(b), M(c));                                             \
  }                                                                            \
  MSL_VECTOR_3(name)

// The width where there is no bit.
MSL_INTEGER_1(clz) {
  using U = msl_detail::unsigned_of<T>;
  return x == 0 ? T(msl_detail::bits_of<T>) : T(__builtin_clzl(ulong(U(x))) - (64 - msl_detail::bits_of<T>));
}
MSL_INTEGER_1(ctz) {
  using U = msl_detail::unsigned_of<T>;
  return x == 0 ? T(msl_detail::bits_of<T>) : T(__builtin_ctzl(ulong(U(x))));
}
MSL_INTEGER_1(popcount) { return T(__builtin_popcountl(ulong(msl_detail::unsigned_of<T>(x)))); }
MSL_INTEGER_1(reverse_bits) {
  using U = msl_detail::unsigned_of<T>;
  return T(U(__builtin_bitreverse64(ulong(U(x))) >> (64 - msl_detail::bits_of<T>)));
}
MSL_VECTOR_1(clz)
MSL_VECTOR_1(ctz)
MSL_VECTOR_1(popcount)
MSL_VECTOR_1(reverse_bits)

MSL_INTEGER_2(absdiff) {
  using U = msl_detail::unsigned_of<T>;
  return T(x < y ? U(U(y) - U(x)) : U(U(x) - U(y)));
}
MSL_INTEGER_2(addsat) {
  T sum = 0;
  if (!__builtin_add_overflow(x, y, &sum)) return sum;
  return x < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();
}
MSL_INTEGER_2(subsat) {
  T difference = 0;
  if (!__builtin_sub_overflow(x, y, &difference)) return difference;
  return __is_unsigned(T) || x < 0 ? numeric_limits<T>::min() : numeric_limits<T>::max();
}
// Halves of sums that do not overflow, rounded down and up.
MSL_INTEGER_2(hadd) { return T((x >> 1) + (y >> 1) + (x & y & 1)); }
MSL_INTEGER_2(rhadd) { return T((x >> 1) + (y >> 1) + ((x | y) & 1)); }
MSL_INTEGER_2(mulhi) {
  using W = msl_detail::wide<T>;
  return T((W(x) * W(y)) >> msl_detail::bits_of<T>);
}
MSL_INTEGER_2(rotate) {
  using U = msl_detail::unsigned_of<T>;
  uint n = uint(y) & (msl_detail::bits_of<T> - 1);
  return n == 0 ? x : T(U(U(x) << n) | U(U(x) >> (msl_detail::bits_of<T> - n)));
}
MSL_MORE_2(absdiff)
MSL_MORE_2(addsat)
MSL_MORE_2(subsat)
MSL_MORE_2(hadd)
MSL_MORE_2(rhadd)
MSL_MORE_2(mulhi)
MSL_MORE_2(rotate)

MSL_INTEGER_3(madhi) {
  using U = msl_detail::unsigned_of<T>;
  return T(U(U(mulhi(x, y)) + U(z)));
}
MSL_INTEGER_3(madsat) {
  using W = msl_detail::wide<T>;
  if constexpr (sizeof(T) == 8) {
    W product = W(x) * W(y), sum = 0;
    if (__builtin_add_overflow(product, W(z), &sum)) return numeric_limits<T>::max();
    return msl_detail::saturated<T>(sum);
  } else {
    return msl_detail::saturated<T>(W(x) * W(y) + W(z));
  }
}
MSL_MORE_3(madhi)
MSL_MORE_3(madsat)

// Of the lower 24 bits, with their sign.
MSL_FN constexpr int mul24(int x, int y) { return int(uint((x << 8) >> 8) * uint((y << 8) >> 8)); }
MSL_FN constexpr uint mul24(uint x, uint y) { return (x & 0xffffff) * (y & 0xffffff); }
MSL_FN constexpr int mad24(int x, int y, int z) { return int(uint(mul24(x, y)) + uint(z)); }
MSL_FN constexpr uint mad24(uint x, uint y, uint z) { return mul24(x, y) + z; }
MSL_VECTOR_2(mul24)
MSL_VECTOR_3(mad24)

// `bits` bits from `offset` on; of a signed number the highest is its sign.
template <class T, class = msl_detail::if_integer<T>>
MSL_FN constexpr T extract_bits(T x, uint offset, uint bits) {
  using U = msl_detail::unsigned_of<T>;
  constexpr uint width = msl_detail::bits_of<T>;
  if (bits == 0 || offset >= width) return T(0);
  if (bits > width - offset) bits = width - offset;
  return T(T(U(U(x) << (width - bits - offset))) >> (width - bits));
}
template <class T, class = msl_detail::if_integer<T>>
MSL_FN constexpr T insert_bits(T base, T insert, uint offset, uint bits) {
  using U = msl_detail::unsigned_of<T>;
  constexpr uint width = msl_detail::bits_of<T>;
  if (bits == 0 || offset >= width) return base;
  U mask = U(U(bits >= width ? U(~U(0)) : U((U(1) << bits) - 1)) << offset);
  return T(U(U(base) & U(~mask)) | U(U(U(insert) << offset) & mask));
}
template <class T, int N>
MSL_FN constexpr vec<T, N> extract_bits(vec<T, N> x, uint offset, uint bits) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) x[i] = extract_bits(x[i], offset, bits);
  return x;
}
template <class T, int N>
MSL_FN constexpr vec<T, N> insert_bits(vec<T, N> base, vec<T, N> insert, uint offset, uint bits) {
  MSL_UNROLL
  for (int i = 0; i < N; i++) base[i] = insert_bits(base[i], insert[i], offset, bits);
  return base;
}

#undef MSL_INTEGER_1
#undef MSL_INTEGER_2
#undef MSL_INTEGER_3
#undef MSL_MORE_2
#undef MSL_MORE_3

}  // namespace metal
