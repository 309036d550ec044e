// What Apple's headers are made of and some sources (MLX) call by itself, to add functions of their own types: the
// functions of metal_stdlib under their inner names, with a mode that changes nothing here.
#pragma once

#define __METAL_MAYBE_FAST_MATH__ 2
#define __METAL_FAST_MATH__ 1
#define __METAL_PRECISE_MATH__ 0

#define MSL_INNER_1(name)                    \
  template <class A>                         \
  MSL_FN auto __metal_##name(A x, int = 0) { \
    return metal::name(x);                   \
  }
#define MSL_INNER_2(name)                         \
  template <class A, class B>                     \
  MSL_FN auto __metal_##name(A x, B y, int = 0) { \
    return metal::name(x, y);                     \
  }
#define MSL_INNER_3(name)                              \
  template <class A, class B, class C>                 \
  MSL_FN auto __metal_##name(A x, B y, C z, int = 0) { \
    return metal::name(x, y, z);                       \
  }
MSL_INNER_1(acos)
MSL_INNER_1(acosh)
MSL_INNER_1(asin)
MSL_INNER_1(asinh)
MSL_INNER_1(atan)
MSL_INNER_1(atanh)
MSL_INNER_1(ceil)
MSL_INNER_1(cos)
MSL_INNER_1(cosh)
MSL_INNER_1(cospi)
MSL_INNER_1(exp)
MSL_INNER_1(exp10)
MSL_INNER_1(exp2)
MSL_INNER_1(fabs)
MSL_INNER_1(floor)
MSL_INNER_1(fract)
MSL_INNER_1(log)
MSL_INNER_1(log10)
MSL_INNER_1(log2)
MSL_INNER_1(rint)
MSL_INNER_1(round)
MSL_INNER_1(rsqrt)
MSL_INNER_1(sin)
MSL_INNER_1(sinh)
MSL_INNER_1(sinpi)
MSL_INNER_1(sqrt)
MSL_INNER_1(tan)
MSL_INNER_1(tanh)
MSL_INNER_1(tanpi)
MSL_INNER_1(trunc)
MSL_INNER_2(atan2)
MSL_INNER_2(divide)
MSL_INNER_2(fmax)
MSL_INNER_2(fmin)
MSL_INNER_2(fmod)
MSL_INNER_2(ldexp)
MSL_INNER_2(pow)
MSL_INNER_2(powr)
MSL_INNER_2(nextafter)
MSL_INNER_3(fma)
MSL_INNER_3(fmax3)
MSL_INNER_3(fmedian3)
MSL_INNER_3(fmin3)
template <class A>
MSL_FN A __metal_frexp(A x, int* exponent) {
  return metal::frexp(x, *exponent);
}

MSL_INNER_1(simd_sum)
MSL_INNER_1(simd_product)
MSL_INNER_1(simd_max)
MSL_INNER_1(simd_min)
MSL_INNER_1(simd_and)
MSL_INNER_1(simd_or)
MSL_INNER_1(simd_xor)
MSL_INNER_1(simd_prefix_inclusive_sum)
MSL_INNER_1(simd_prefix_exclusive_sum)
MSL_INNER_1(simd_prefix_inclusive_product)
MSL_INNER_1(simd_prefix_exclusive_product)
MSL_INNER_2(simd_shuffle)
MSL_INNER_2(simd_broadcast)
MSL_INNER_2(simd_shuffle_down)
MSL_INNER_2(simd_shuffle_up)
MSL_INNER_2(simd_shuffle_xor)
MSL_INNER_2(simd_shuffle_rotate_down)
MSL_INNER_2(simd_shuffle_rotate_up)
#undef MSL_INNER_1
#undef MSL_INNER_2
#undef MSL_INNER_3

template <class A>
MSL_FN A __metal_simd_shuffle_and_fill_down(A x, A filling, ushort n, ushort modulo = 32) {
  return metal::simd_shuffle_and_fill_down(x, filling, n, modulo);
}
template <class A>
MSL_FN A __metal_simd_shuffle_and_fill_up(A x, A filling, ushort n, ushort modulo = 32) {
  return metal::simd_shuffle_and_fill_up(x, filling, n, modulo);
}
// Of the bits, where a source asks for it.
MSL_FN float __metal_simd_xor(float x) { return metal::as_type<float>(metal::simd_xor(metal::as_type<uint>(x))); }
// Of the type that is asked for.
template <class T>
MSL_FN T __metal_get_simdgroup_size(T) {
  return T(32);
}
template <class T>
MSL_FN T __metal_get_thread_index_in_simdgroup(T) {
  return T(msl_detail::lane());
}
