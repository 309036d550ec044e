#define TRIP(name, pack, unpack) \
  extern "C" void name(const uint* x, uint* y, int n) { for (int i = 0; i < n; i++) y[i] = pack(unpack(x[i])); }
TRIP(unorm4x8, pack_float_to_unorm4x8, unpack_unorm4x8_to_float)
TRIP(unorm4x8_half, pack_half_to_unorm4x8, unpack_unorm4x8_to_half)
TRIP(unorm4x8_srgb, pack_float_to_srgb_unorm4x8, unpack_unorm4x8_srgb_to_float)
TRIP(snorm4x8, pack_float_to_snorm4x8, unpack_snorm4x8_to_float)
TRIP(unorm2x16, pack_float_to_unorm2x16, unpack_unorm2x16_to_float)
TRIP(unorm10a2, pack_float_to_unorm10a2, unpack_unorm10a2_to_float)
TRIP(unorm565, pack_float_to_unorm565, unpack_unorm565_to_float)

extern "C" void unpacked(const float* x, float (*y)[4], int n) {
  for (int i = 0; i < n; i++) {
    y[i][0] = unpack_unorm4x8_to_float(pack_float_to_unorm4x8(float4(0, x[i], 1, 0))).y;
    y[i][1] = unpack_snorm4x8_to_float(pack_float_to_snorm4x8(float4(0, 0, -1, x[i]))).w;
    y[i][2] = unpack_unorm2x16_to_float(pack_float_to_unorm2x16(float2(1, x[i]))).y;
    y[i][3] = unpack_snorm2x16_to_float(pack_float_to_snorm2x16(float2(-1, x[i]))).y;
  }
}
