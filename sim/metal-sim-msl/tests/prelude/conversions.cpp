#define CONVERSION(name, From, To, expression) \
  extern "C" void name(const From* in, To* out, int n) { for (int i = 0; i < n; i++) { From x = in[i]; out[i] = expression; } }
CONVERSION(float_to_half, float, half, half(x))
CONVERSION(half_to_float, half, float, float(x))
CONVERSION(float_to_bfloat, float, bfloat, bfloat(x))
CONVERSION(bfloat_to_float, bfloat, float, float(x))
CONVERSION(double_to_bfloat, double, bfloat, bfloat(x))
CONVERSION(bfloat_to_half, bfloat, half, half2(bfloat2(0, x)).y)
CONVERSION(half_to_bfloat, half, bfloat, bfloat3(half3(x)).z)
CONVERSION(to_char, float, char, char(x))
CONVERSION(to_uchar, float, uchar, uchar(x))
CONVERSION(to_short, float, short, short(x))
CONVERSION(to_ushort, float, ushort, ushort2(float2(x)).y)
CONVERSION(to_int, float, int, int(x))
CONVERSION(to_uint, float, uint, uint(x))
CONVERSION(to_long, float, long, long(x))
CONVERSION(to_ulong, float, ulong, ulong4(float4(x)).w)
CONVERSION(long_to_float, long, float, float(x))
CONVERSION(long_to_half, long, half, half(float(x)))
CONVERSION(bits, uint, uint, as_type<uint>(as_type<half2>(as_type<uchar4>(as_type<float>(x)))))

template <class T>
struct Three {
  T a, b, c;
};
CONVERSION(half_steps, Three<half>, half, x.a* x.b + x.c)
CONVERSION(bfloat_steps, Three<bfloat>, bfloat, x.a* x.b + x.c)
