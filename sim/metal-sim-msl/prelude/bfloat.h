// Rounding to bfloat, which the compiler calls out for and libgcc has from version 13 on only. In integers: written
// with the type's own conversion it would call itself.
#pragma once

#define MSL_HELPER extern "C" __attribute__((used, nodebug, visibility("hidden"), disable_sanitizer_instrumentation))

// To nearest, ties to even; a NaN stays one.
MSL_HELPER bfloat __truncsfbf2(float x) {
  uint32_t bits = __builtin_bit_cast(uint32_t, x);
  bool nan = (bits & 0x7fffffff) > 0x7f800000;
  uint32_t rounded = nan ? bits >> 16 | 0x40 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
  return __builtin_bit_cast(bfloat, (unsigned short)rounded);
}

// By way of a float rounded to odd, so that rounding twice does no harm.
MSL_HELPER bfloat __truncdfbf2(double x) {
  float f = float(x);
  uint32_t bits = __builtin_bit_cast(uint32_t, f);
  if (double(f) != x && x == x && (bits & 1) == 0) {
    bool away = __builtin_fabs(double(f)) > __builtin_fabs(x);
    bits = away ? bits - 1 : bits | 1;
  }
  return __truncsfbf2(__builtin_bit_cast(float, bits));
}

#undef MSL_HELPER
