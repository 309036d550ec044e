#define ALL(group)                                                                                                     \
  extern "C" void group##_all_functions(const int* in, int* out, int) {                                                \
    int x = in[0], filling = x + 1000;                                                                                 \
    *out++ = group##_sum(x), *out++ = group##_product(x), *out++ = group##_max(x), *out++ = group##_min(x);            \
    *out++ = group##_and(x), *out++ = group##_or(x), *out++ = group##_xor(x);                                          \
    *out++ = group##_prefix_inclusive_sum(x), *out++ = group##_prefix_exclusive_sum(x);                                \
    *out++ = group##_prefix_inclusive_product(x), *out++ = group##_prefix_exclusive_product(x);                        \
    *out++ = group##_shuffle(x, 3), *out++ = group##_broadcast(x, 2), *out++ = group##_shuffle_down(x, 1);             \
    *out++ = group##_shuffle_up(x, 2), *out++ = group##_shuffle_xor(x, 3), *out++ = group##_shuffle_rotate_down(x, 3); \
    *out++ = group##_shuffle_rotate_up(x, 1), *out++ = group##_broadcast_first(x);                                     \
    *out++ = int(group##_vote::vote_t(group##_ballot(x > 10)));                                                        \
    *out++ = int(group##_vote::vote_t(group##_active_threads_mask()));                                                 \
    *out++ = group##_all(x > -10), *out++ = group##_any(x > 30), *out++ = group##_is_first();                          \
    *out++ = group##_ballot(true).all(), *out++ = group##_ballot(x > 10).any();                                        \
    *out++ = group##_shuffle_and_fill_down(x, filling, 3), *out++ = group##_shuffle_and_fill_up(x, filling, 1);        \
    *out++ = group##_shuffle_and_fill_down(x, filling, 1, 2), *out++ = group##_shuffle_and_fill_up(x, filling, 1, 2);  \
  }
ALL(simd)
ALL(quad)

// Lane l gives numbers made of l; a shuffle by 5 brings those of lane (l ^ 5).
extern "C" void types(const uint* in, uint* out, int) {
  uint lane = in[0], other = lane ^ 5, bits = 0, bit = 0;
  auto check = [&](bool ok) { bits |= uint(!ok) << bit++; };
  check(simd_shuffle_xor(half(lane), 5) == half(other) && simd_sum(half(1)) == 32.0h);
  check(float(simd_shuffle_xor(bfloat(lane), 5)) == float(other) && float(simd_max(bfloat(lane))) == 31);
  check(simd_shuffle_xor(uchar(lane), 5) == uchar(other) && simd_sum(ushort(lane)) == 496);
  check(simd_shuffle_xor(lane % 2 == 0, 5) == (other % 2 == 0));
  check(simd_sum(ulong(lane) << 40) == 496ul << 40 && simd_min(long(lane) - 40) == -40);
  check(all(simd_shuffle_xor(float4(lane, 1, 2, lane * 2), 5) == float4(other, 1, 2, other * 2)));
  check(all(simd_sum(int3(lane, 1, 2)) == int3(496, 32, 64)) && all(simd_max(half2(lane, 31 - lane)) == half2(31, 31)));
  check(simd_shuffle_and_fill_up(ulong4(lane), ulong4(lane + 100), 16, 16).w == lane + 100);
  check(all(quad_sum(float2(lane % 4, 1)) == float2(6, 4)));
  check(__metal_simd_sum(1.0f) == 32 && __metal_simd_shuffle_xor(lane, 5) == other && __metal_simd_xor(float(lane < 2)) == 0);
  check(__metal_get_thread_index_in_simdgroup(ushort()) == lane && __metal_get_simdgroup_size(ushort()) == 32);
  check(__metal_simd_shuffle_and_fill_down(lane, 99u, 31, __metal_get_simdgroup_size(ushort())) == (lane == 0 ? 31 : 99));
  out[0] = bits;
}

extern "C" void sum(const float* in, float* out, int) { out[0] = simd_sum(in[0]); }
