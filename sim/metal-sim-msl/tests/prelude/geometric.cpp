extern "C" void geometry(const float (*in)[6], float (*out)[16], int n) {
  for (int i = 0; i < n; i++) {
    float* o = out[i];
    float3 a(in[i][0], in[i][1], in[i][2]), b(in[i][3], in[i][4], in[i][5]);
    packed_float3 p = a;
    *o++ = dot(p, b), *o++ = length(p), *o++ = length_squared(a), *o++ = fast::distance(a, b), *o++ = distance_squared(p, b);
    float3 unit = precise::normalize(a), c = cross(p, b), mirrored = reflect(b, unit);
    const float3 vectors[] = {c, unit, mirrored};
    for (float3 v : vectors) *o++ = v.x, *o++ = v.y, *o++ = v.z;
    *o++ = faceforward(a, b, a).x;
    *o++ = length(float4(a, 0));
  }
}

extern "C" void bent(const float (*in)[3], float (*out)[2], int n) {
  for (int i = 0; i < n; i++) {
    float2 r = refract(float2(in[i][0], in[i][1]), float2(0, 1), in[i][2]);
    out[i][0] = r.x, out[i][1] = r.y;
  }
}
