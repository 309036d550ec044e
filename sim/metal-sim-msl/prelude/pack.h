// <metal_pack>: numbers between 0 and 1, or -1 and 1, in a few bits. Packing clamps and rounds to nearest.
#pragma once

namespace msl_detail {

MSL_FN uint unorm(float x, uint bits) {
  float top = float((1u << bits) - 1);
  return uint(__builtin_rintf(metal::clamp(x, 0.0f, 1.0f) * top));
}
MSL_FN uint snorm(float x, uint bits) {
  float top = float((1u << (bits - 1)) - 1);
  return uint(int(__builtin_rintf(metal::clamp(x, -1.0f, 1.0f) * top))) & ((1u << bits) - 1);
}
MSL_FN float from_unorm(uint x, uint shift, uint bits) {
  return float(x >> shift & ((1u << bits) - 1)) / float((1u << bits) - 1);
}
MSL_FN float from_snorm(uint x, uint shift, uint bits) {
  int value = int(x << (32 - bits - shift)) >> (32 - bits);
  return metal::max(float(value) / float((1u << (bits - 1)) - 1), -1.0f);
}
MSL_FN float to_srgb(float x) {
  x = metal::saturate(x);
  return x < 0.0031308f ? 12.92f * x : 1.055f * __builtin_powf(x, 1.0f / 2.4f) - 0.055f;
}
MSL_FN float from_srgb(float x) {
  return x <= 0.04045f ? x / 12.92f : __builtin_powf((x + 0.055f) / 1.055f, 2.4f);
}

}  // namespace msl_detail

namespace metal {

MSL_FN float4 unpack_unorm4x8_to_float(uint x) {
  using msl_detail::from_unorm;
  return float4(from_unorm(x, 0, 8), from_unorm(x, 8, 8), from_unorm(x, 16, 8), from_unorm(x, 24, 8));
}
MSL_FN float4 unpack_snorm4x8_to_float(uint x) {
  using msl_detail::from_snorm;
  return float4(from_snorm(x, 0, 8), from_snorm(x, 8, 8), from_snorm(x, 16, 8), from_snorm(x, 24, 8));
}
MSL_FN float4 unpack_unorm4x8_srgb_to_float(uint x) {
  float4 v = unpack_unorm4x8_to_float(x);
  return float4(msl_detail::from_srgb(v.x), msl_detail::from_srgb(v.y), msl_detail::from_srgb(v.z), v.w);
}
MSL_FN float2 unpack_unorm2x16_to_float(uint x) {
  return float2(msl_detail::from_unorm(x, 0, 16), msl_detail::from_unorm(x, 16, 16));
}
MSL_FN float2 unpack_snorm2x16_to_float(uint x) {
  return float2(msl_detail::from_snorm(x, 0, 16), msl_detail::from_snorm(x, 16, 16));
}
MSL_FN float4 unpack_unorm10a2_to_float(uint x) {
  using msl_detail::from_unorm;
  return float4(from_unorm(x, 0, 10), from_unorm(x, 10, 10), from_unorm(x, 20, 10), from_unorm(x, 30, 2));
}
MSL_FN float3 unpack_unorm565_to_float(ushort x) {
  using msl_detail::from_unorm;
  return float3(from_unorm(x, 11, 5), from_unorm(x, 5, 6), from_unorm(x, 0, 5));
}

MSL_FN uint pack_float_to_unorm4x8(float4 v) {
  using msl_detail::unorm;
  return unorm(v.x, 8) | unorm(v.y, 8) << 8 | unorm(v.z, 8) << 16 | unorm(v.w, 8) << 24;
}
MSL_FN uint pack_float_to_snorm4x8(float4 v) {
  using msl_detail::snorm;
  return snorm(v.x, 8) | snorm(v.y, 8) << 8 | snorm(v.z, 8) << 16 | snorm(v.w, 8) << 24;
}
MSL_FN uint pack_float_to_srgb_unorm4x8(float4 v) {
  using msl_detail::to_srgb;
  return pack_float_to_unorm4x8(float4(to_srgb(v.x), to_srgb(v.y), to_srgb(v.z), v.w));
}
MSL_FN uint pack_float_to_unorm2x16(float2 v) { return msl_detail::unorm(v.x, 16) | msl_detail::unorm(v.y, 16) << 16; }
MSL_FN uint pack_float_to_snorm2x16(float2 v) { return msl_detail::snorm(v.x, 16) | msl_detail::snorm(v.y, 16) << 16; }
MSL_FN uint pack_float_to_unorm10a2(float4 v) {
  using msl_detail::unorm;
  return unorm(v.x, 10) | unorm(v.y, 10) << 10 | unorm(v.z, 10) << 20 | unorm(v.w, 2) << 30;
}
MSL_FN ushort pack_float_to_unorm565(float3 v) {
  using msl_detail::unorm;
  return ushort(unorm(v.x, 5) << 11 | unorm(v.y, 6) << 5 | unorm(v.z, 5));
}

// The same by way of float for halves.
#define MSL_HALVES(name, V, packed)                                                                 \
  MSL_FN half##V unpack_##name##_to_half(packed x) { return half##V(unpack_##name##_to_float(x)); } \
  MSL_FN packed pack_half_to_##name(half##V v) { return pack_float_to_##name(float##V(v)); }
MSL_HALVES(unorm4x8, 4, uint)
MSL_HALVES(snorm4x8, 4, uint)
MSL_HALVES(unorm2x16, 2, uint)
MSL_HALVES(snorm2x16, 2, uint)
MSL_HALVES(unorm10a2, 4, uint)
MSL_HALVES(unorm565, 3, ushort)
#undef MSL_HALVES
MSL_FN half4 unpack_unorm4x8_srgb_to_half(uint x) { return half4(unpack_unorm4x8_srgb_to_float(x)); }
MSL_FN uint pack_half_to_srgb_unorm4x8(half4 v) { return pack_float_to_srgb_unorm4x8(float4(v)); }

}  // namespace metal
