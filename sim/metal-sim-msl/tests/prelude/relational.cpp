template <class T>
int classes_of(T x) {
  int c = isfinite(x) | isinf(x) << 1 | isnan(x) << 2 | isnormal(x) << 3 | signbit(x) << 4;
  vec<T, 3> v(0, x, x);
  int d = isfinite(v).y | isinf(v).y << 1 | isnan(v).z << 2 | isnormal(v).y << 3 | signbit(v).z << 4;
  return c == d ? c : -1;
}
#define MAP(name, A, R, expression) \
  extern "C" void name(const A* in, R* out, int n) { for (int i = 0; i < n; i++) { A x = in[i]; out[i] = expression; } }
struct Two { float a, b; };
struct Three { float a, b, c; };

MAP(classes, float, int, classes_of(x))
MAP(classes_half, half, int, classes_of(x))
MAP(min, Two, float, metal::min(x.a, x.b))
MAP(max, Two, float, metal::max(x.a, x.b))
MAP(min_half, Two, float, metal::min(half(x.a), half(x.b)))
MAP(max_half, Two, float, metal::max(half(x.a), half(x.b)))
MAP(min_bfloat, Two, float, metal::min(bfloat(x.a), bfloat(x.b)))
MAP(max_bfloat, Two, float, metal::max(bfloat(x.a), bfloat(x.b)))
MAP(min_vector, Two, float, metal::min(float2(x.a), float2(x.b)).y)
MAP(max_vector, Two, float, metal::max(float2(x.a), x.b).x)
MAP(clamp, Three, float, metal::clamp(x.a, x.b, x.c))
MAP(saturate, float, float, metal::saturate(x))
MAP(sign_bits, float, uint, as_type<uint>(metal::sign(x)))
MAP(orders, Two, int, (x.a < x.b) | (x.a == x.b) << 1 | (x.a != x.b) << 2 | isordered(x.a, x.b) << 3 | isunordered(x.a, x.b) << 4 |
    any(float2(x.a, 0) == float2(x.b, 1)) << 5 | all(float2(x.a) == x.b) << 6)

extern "C" void selected(const int*, float* out, int) {
  *out++ = select(1.0f, 2.0f, false), *out++ = select(1, 2, true);
  float4 a(1, 2, 3, 4), b(10, 20, 30, 40);
  float4 some = select(a, b, bool4(false, true, false, true)), all = select(a, b, true), one = select(float4(5), b, int4(0, 1, 0, 7));
  const float4 vectors[] = {some, all, one};
  for (float4 v : vectors)
    for (int i = 0; i < 4; i++) *out++ = v[i];
}
