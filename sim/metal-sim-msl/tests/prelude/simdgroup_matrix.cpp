extern "C" void layout(const float* in, float* out) {
  simdgroup_float8x8 m;
  simdgroup_load(m, in, 8);
  uint lane = msl_detail::lane();
  out[2 * lane] = m.thread_elements()[0];
  out[2 * lane + 1] = m.thread_elements()[1];
}

extern "C" void moved(const float* in, float* out) {
  simdgroup_float8x8 plain, transposed;
  simdgroup_load(plain, in, 20, ulong2(3, 5));
  simdgroup_load(transposed, in, 20, ulong2(3, 5), true);
  simdgroup_store(plain, out);
  simdgroup_store(transposed, out + 64, 8);
  simdgroup_store(plain, out, 8, ulong2(0, 16), true);
}

#define PRODUCTS(T)                                                    \
  extern "C" void products_##T(const T* in, T* out) {                  \
    simdgroup_##T##8x8 a, b, c, d;                                     \
    simdgroup_load(a, in), simdgroup_load(b, in + 64), simdgroup_load(c, in + 128); \
    simdgroup_multiply_accumulate(d, a, b, c);                         \
    simdgroup_store(d, out);                                           \
    simdgroup_multiply(d, a, b);                                       \
    simdgroup_store(d, out + 64);                                      \
    a = a * b;                                                         \
    simdgroup_store(a, out + 128);                                     \
  }
PRODUCTS(float)
PRODUCTS(half)
PRODUCTS(bfloat)

extern "C" void mixed(const half* in, float* out) {
  simdgroup_half8x8 a, b;
  simdgroup_load(a, in), simdgroup_load(b, in + 64);
  auto sum = make_filled_simdgroup_matrix<float, 8, 8>(0.5f);
  simdgroup_multiply_accumulate(sum, a, b, sum);
  simdgroup_store(sum, out);
}

extern "C" void made(const float* in, float* out) {
  simdgroup_store(simdgroup_float8x8(in[0]), out);
  simdgroup_store(make_filled_simdgroup_matrix<float, 8, 8>(in[0]), out + 64);
}
