// One C function for each function of Metal and type: from an array of arguments to one of results.
#define ONE(name, T, suffix) \
  extern "C" void name##_##suffix(const T* x, T* y, int n) { for (int i = 0; i < n; i++) y[i] = metal::name(x[i]); }
#define TWO(name, T, suffix) \
  extern "C" void name##_##suffix(const T (*x)[2], T* y, int n) { for (int i = 0; i < n; i++) y[i] = metal::name(x[i][0], x[i][1]); }
#define THREE(name, T, suffix) \
  extern "C" void name##_##suffix(const T (*x)[3], T* y, int n) { for (int i = 0; i < n; i++) y[i] = metal::name(x[i][0], x[i][1], x[i][2]); }
#define BOTH(M, name) M(name, float, f) M(name, half, h)

BOTH(ONE, acos) BOTH(ONE, acosh) BOTH(ONE, asin) BOTH(ONE, asinh) BOTH(ONE, atan) BOTH(ONE, atanh) BOTH(ONE, ceil)
BOTH(ONE, cos) BOTH(ONE, cosh) BOTH(ONE, cospi) BOTH(ONE, exp) BOTH(ONE, exp2) BOTH(ONE, exp10) BOTH(ONE, fabs)
BOTH(ONE, abs) BOTH(ONE, floor) BOTH(ONE, fract) BOTH(ONE, log) BOTH(ONE, log2) BOTH(ONE, log10) BOTH(ONE, rint)
BOTH(ONE, round) BOTH(ONE, rsqrt) BOTH(ONE, saturate) BOTH(ONE, sign) BOTH(ONE, sin) BOTH(ONE, sinh)
BOTH(ONE, sinpi) BOTH(ONE, sqrt) BOTH(ONE, tan) BOTH(ONE, tanh) BOTH(ONE, tanpi) BOTH(ONE, trunc)
BOTH(TWO, atan2) BOTH(TWO, copysign) BOTH(TWO, divide) BOTH(TWO, fdim) BOTH(TWO, fmax) BOTH(TWO, fmin)
BOTH(TWO, fmod) BOTH(TWO, pow) BOTH(TWO, powr) BOTH(TWO, step) BOTH(TWO, max) BOTH(TWO, min) BOTH(TWO, nextafter)
BOTH(THREE, fma) BOTH(THREE, mix) BOTH(THREE, smoothstep) BOTH(THREE, clamp) BOTH(THREE, fmax3) BOTH(THREE, fmin3)
BOTH(THREE, fmedian3) BOTH(THREE, max3) BOTH(THREE, min3) BOTH(THREE, median3)

// Two results: the first, then the second.
#define SPLIT(T, suffix)                                                                                            \
  extern "C" void modf_##suffix(const T* x, T (*y)[2], int n) { for (int i = 0; i < n; i++) y[i][0] = modf(x[i], y[i][1]); }     \
  extern "C" void sincos_##suffix(const T* x, T (*y)[2], int n) { for (int i = 0; i < n; i++) y[i][0] = sincos(x[i], y[i][1]); } \
  extern "C" void frexp_##suffix(const T* x, float (*y)[2], int n) {                                                \
    for (int i = 0; i < n; i++) { int e; y[i][0] = frexp(x[i], e); y[i][1] = e; }                                   \
  }                                                                                                                 \
  extern "C" void ilogb_##suffix(const T* x, int* y, int n) { for (int i = 0; i < n; i++) y[i] = ilogb(x[i]); }      \
  extern "C" void ldexp_##suffix(const T (*x)[2], T* y, int n) { for (int i = 0; i < n; i++) y[i] = ldexp(x[i][0], int(x[i][1])); }
SPLIT(float, f)
SPLIT(half, h)

// Vectors, mixed arguments, namespaces, other types: the same numbers as the scalar functions give.
extern "C" void agree(const float* x, int* y, int n) {
  for (int i = 0; i < n; i++) {
    float a = x[i];
    float4 v(a, a / 2, -a, a + 1);
    half2 h = half2(half(a), 1);
    int bits = 0, bit = 0;
    auto check = [&](bool ok) { bits |= int(!ok) << bit++; };
    check(all(exp(v) == float4(exp(v.x), exp(v.y), exp(v.z), exp(v.w))));
    check(all(fast::sin(v) == precise::sin(v)) && all(sin(v).zw == float2(sin(v.z), sin(v.w))));
    check(all(max(v, 0.5) == max(v, float4(0.5))) && all(clamp(v, -1, 1.0) == float4(clamp(v.x, -1.0f, 1.0f), clamp(v.y, -1.0f, 1.0f), clamp(v.z, -1.0f, 1.0f), clamp(v.w, -1.0f, 1.0f))));
    check(all(mix(v, v * 2, 0.5) == mix(v, v * 2, float4(0.5))) && all(step(0.5, v) == step(float4(0.5), v)));
    check(all(pow(abs(v), 2.0).xy == float2(pow(abs(v.x), 2.0f), pow(abs(v.y), 2.0f))));
    check(all(floor(h) == half2(floor(h.x), 1)) && is_same_v<decltype(floor(h)), half2> && is_same_v<decltype(exp(h.x)), half>);
    check(is_same_v<decltype(exp(bfloat(1))), float> && is_same_v<decltype(exp(1)), float> && is_same_v<decltype(pow(h.x, a)), float>);
    check(exp(2) == exp(2.0f) && max(h.x, 3.0f) == max(float(h.x), 3.0f) && is_same_v<decltype(max(bfloat(1), bfloat(2))), bfloat>);
    packed_float3 p(v.xyz);
    check(all(sqrt(abs(p)) == sqrt(abs(v.xyz))) && all(fma(p, p, 1.0) == fma(v.xyz, v.xyz, float3(1))));
    int4 e;
    float4 f = frexp(v, e);
    check(all(ldexp(f, e) == v) && all(ilogb(float4(8, 4, 2, 1)) == int4(3, 2, 1, 0)));
    float4 whole, cosine;
    float4 part = modf(v, whole), sine = sincos(v, cosine);
    check(all(part + whole == v) && all(cosine == cos(v)) && all(sine == sin(v)));
    // The inner names of Apple's headers.
    check(__metal_exp(a, __METAL_FAST_MATH__) == exp(a) && __metal_fma(a, a, a) == fma(a, a, a) && __metal_pow(4.0f, a, __METAL_PRECISE_MATH__) == pow(4.0f, a));
    int exponent;
    check(__metal_ldexp(__metal_frexp(a, &exponent), exponent, __METAL_MAYBE_FAST_MATH__) == a);
    y[i] = bits;
  }
}
