#define FUNCTION(name, T, expression)                     \
  extern "C" void name##_##T(const T (*x)[3], T* y, int n) { \
    for (int i = 0; i < n; i++) {                         \
      T a = x[i][0], b = x[i][1], c = x[i][2];            \
      y[i] = expression;                                  \
    }                                                     \
  }
#define FUNCTIONS(T)                                                                                              \
  FUNCTION(abs, T, abs(a)) FUNCTION(absdiff, T, absdiff(a, b)) FUNCTION(addsat, T, addsat(a, b))                  \
  FUNCTION(subsat, T, subsat(a, b)) FUNCTION(hadd, T, hadd(a, b)) FUNCTION(rhadd, T, rhadd(a, b))                 \
  FUNCTION(mulhi, T, mulhi(a, b)) FUNCTION(madhi, T, madhi(a, b, c)) FUNCTION(madsat, T, madsat(a, b, c))         \
  FUNCTION(rotate, T, rotate(a, b)) FUNCTION(clz, T, clz(a)) FUNCTION(ctz, T, ctz(a))                             \
  FUNCTION(popcount, T, popcount(a)) FUNCTION(reverse_bits, T, reverse_bits(a)) FUNCTION(min, T, min(a, b))       \
  FUNCTION(max, T, max(a, b)) FUNCTION(clamp, T, clamp(a, b, c)) FUNCTION(min3, T, min3(a, b, c))                 \
  FUNCTION(max3, T, max3(a, b, c)) FUNCTION(median3, T, median3(a, b, c)) FUNCTION(select, T, select(a, b, c > 0)) \
  extern "C" void fields_##T(const ulong (*x)[4], long (*y)[2], int n) {                                          \
    for (int i = 0; i < n; i++) {                                                                                 \
      y[i][0] = extract_bits(T(x[i][0]), uint(x[i][2]), uint(x[i][3]));                                           \
      y[i][1] = insert_bits(T(x[i][0]), T(x[i][1]), uint(x[i][2]), uint(x[i][3]));                                \
    }                                                                                                             \
  }
FUNCTIONS(char)
FUNCTIONS(uchar)
FUNCTIONS(short)
FUNCTIONS(ushort)
FUNCTIONS(int)
FUNCTIONS(uint)
FUNCTIONS(long)
FUNCTIONS(ulong)

extern "C" void products(const uint (*x)[3], uint (*y)[4], int n) {
  for (int i = 0; i < n; i++) {
    uint a = x[i][0], b = x[i][1], c = x[i][2];
    y[i][0] = mul24(a, b), y[i][1] = mad24(a, b, c);
    y[i][2] = mul24(int(a), int(b)), y[i][3] = mad24(int(a), int(b), int(c));
  }
}

extern "C" void agree(const int* x, int* y, int n) {
  for (int i = 0; i < n; i++) {
    int4 v(x[i], 3, -9, 1 << 20);
    uint2 u(x[i], 12);
    int bits = 0, bit = 0;
    auto check = [&](bool ok) { bits |= int(!ok) << bit++; };
    check(all(clz(u) == uint2(clz(u.x), clz(u.y))) && all(popcount(v) == int4(popcount(v.x), 2, popcount(-9), 1)));
    check(all(max(v, 3) == int4(max(v.x, 3), 3, 3, 1 << 20)) && all(min(v, v.yyyy) == min(v, 3)));
    check(all(mulhi(v, v).w == 256) && all(rotate(u, 4).y == 192) && all(addsat(v, INT_MAX).w == INT_MAX));
    check(all(madsat(v, v, v) == int4(madsat(v.x, v.x, v.x), 12, 72, INT_MAX)) && all(abs(v).yz == int2(3, 9)));
    check(all(extract_bits(u, 2, 2) == uint2(extract_bits(u.x, 2, 2), 3)) && all(insert_bits(u, uint2(0), 0, 31).y == 0));
    check(max(1, 2u) == 2 && clamp(uint(7), 1, 5) == 5 && min(uchar(200), 100) == 100 && max(short(-3), 2L) == 2);
    check(rotate(0x80000001u, x[i] * 0 + 4) == 0x18 && mulhi(-1, 1u) == 0 && hadd(uchar(255), 255) == 255 && madsat(3, 4l, 5) == 17);
    check(all(select(v, int4(0), v > 2) == int4(v.x > 2 ? 0 : v.x, 0, -9, 0)) && any(v == 3) && !all(v == 3));
    y[i] = bits;
  }
}
