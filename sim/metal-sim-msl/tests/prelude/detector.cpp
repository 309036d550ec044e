// Line numbers count: detector.rs names them.
extern "C" void sizes(uchar* p) {
  p[16] = p[0];
  *(ushort*)(p + 18) = *(ushort*)(p + 2);
  *(uint*)(p + 20) = *(uint*)(p + 4);
  *(ulong*)(p + 24) = *(ulong*)(p + 8);
  *(float4*)(p + 48) = *(float4*)(p + 32);
}

extern "C" void updates(int* p) {
  // A read and a write of one place are one report, at the write.
  p[0] += 1;
  int x = p[1];
  p[1] = x * 2;
}

struct Block { int words[64]; };
extern "C" void copies(Block* p) {
  p[1] = p[0];
  p[2] = Block{};
}

extern "C" void functions(float* p) {
  simdgroup_float8x8 m;
  float2 v;
  simdgroup_load(m, p, 8);
  simdgroup_store(m, p + 64, 8);
  ((float4*)p)[32].x = max(((float4*)p)[32].b, 1.0f);
}

extern "C" void private_only(float*) {
  float4 v(1, 2, 3, 4);
  v.xy += simd_sum(v).zw;
  v = simd_shuffle_down(v, 1) * quad_max(v) + simd_prefix_inclusive_sum(v);
  simdgroup_float8x8 m(v.x);
  simdgroup_multiply(m, m, m);
  simdgroup_barrier(mem_flags::mem_none);
  if (simd_any(m.thread_elements().x > v.y) && simd_ballot(v.x > 0).any() && quad_is_first()) simdgroup_barrier(mem_flags::mem_none);
}
