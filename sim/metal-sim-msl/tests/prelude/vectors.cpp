struct Out {
  float* at;
  void operator()(float x) { *at++ = x; }
  template <class T, int N>
  void operator()(vec<T, N> v) {
    for (int i = 0; i < N; i++) *at++ = float(v[i]);
  }
  template <class T, int N>
  void operator()(packed_vec<T, N> v) {
    (*this)(vec<T, N>(v));
  }
};

extern "C" void made(const int*, float* at, int) {
  Out out{at};
  float2 low(1, 2), high(3, 4);
  out(float3(low, 3)), out(float3(1, float2(2, 3))), out(float3(1, 2, 3));
  out(float4(low, 3, 4)), out(float4(1, float2(2, 3), 4)), out(float4(1, 2, high)), out(float4(low, high));
  out(float4(float3(1, 2, 3), 4)), out(float4(1, float3(2, 3, 4))), out(float4(1, 2, 3, 4));
  float3 all = 7;
  out(all);
}

extern "C" void converted(const int*, float* at, int) {
  Out out{at};
  out(int2(float2(-3.7f, 3.7f)));
  out(uchar2(uint2(250, 257)));
  out(bool2(float2(0, 0.5f)).x);
  out(half2(bfloat2(float2(2.5f, 1))));
  out(float(float2(packed_half2(half2(2, 3))).x));
}

extern "C" void computed(const int*, float* at, int) {
  Out out{at};
  float2 a(4, 6), b(1, 2);
  out(a + b), out(a.x - b.x), out((b - a).y), out(a * b), out(a / b);
  out(b + 2.0f), out(9 * b.x), out((6.5f * b).y), out(b * 2 - 1), out(a / 2 - float2(0, 1.5f));
  out(b < a.x - 2.5f), out(a == float2(4, 6)), out(a != float2(4, 1));
  out(-b);
  float2 c = b;
  ++c;
  out(c);
  out(b++);
}

extern "C" void integers(const int*, float* at, int) {
  Out out{at};
  uint2 a(7, 14), b(3, 4);
  out(a % b), out(a / b - uint2(0, 2)), out(uint2(a & uint2(4, 6))), out(a | b & 2u), out(int2(3, 5) << int2(2, 3));
  // A count of the width or more is taken modulo it.
  out(uint2(1) << uint2(32, 64));
  out(float((~uchar2(4)).x)), out((a ^ 15u).x);
  out(!bool2(false, true));
}

extern "C" void packed(const int*, float* at, int) {
  Out out{at};
  packed_float3 p(1, 2, 3);
  out(p * 2), out(2 * (p + p)), out(p + p + float3(p));
  packed_float3 q = p;
  q += 4;
  out(q.x);
  q.xy = float2(1, 1);
  out(q.xy);
  p *= float3(12, 10, 1);
  out(p);
  packed_short2 s(short2(3, 2));
  s.x = 0;
  out(s);
}

extern "C" void indexed(const int*, float* at, int) {
  Out out{at};
  float4 v;
  for (int i = 0; i < 4; i++) v[i] = 10 * (i + 1);
  out(v);
  v.a = 100;
  out(v[3]);
  float& third = v.z;
  third = 3;
  out(v.b);
  vec<float, 8> eight = 4;
  eight[1] = 5;
  eight += eight[0];
  out(eight[0]), out(eight[1]), out(eight[2] - 8);
}

extern "C" void braced(const int*, float* at, int) {
  Out out{at};
  float4 v = {1, 2, 3};
  out(v), out(float3{5}), out(float4{v.xy, 8, 9}), out(packed_float3{1, 2, 3});
  half2 pairs[] = {{1, 2}, {3}};
  v = {4};
  out(pairs[0]), out(pairs[1]), out(v), out(float2{});
}
