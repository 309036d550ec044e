// Functions of a simdgroup (32 lanes) and of a quad (4 lanes). Each is one meeting: every lane gives its value, all
// of them come back with the mask of lanes that met, and the rest is plain code on copies. A value asked of a lane
// that is not there, which Metal leaves undefined, is the caller's own.
#pragma once

namespace msl_detail {

template <uint W>
MSL_FN uint lane_of() {
  return lane() % W;
}

// These are out of line, so that a kernel holds one copy for each type and operation. Nothing escapes, so that nothing
// of it is reported to the detector.

// From the first lane to the last; at least the caller is there.
template <class Operation, class T>
MSL_OUT_OF_LINE void fold(const T* all __attribute__((noescape)), uint mask, T* result __attribute__((noescape))) {
  T folded = all[__builtin_ctz(mask)];
  for (uint rest = mask & (mask - 1); rest; rest &= rest - 1) folded = Operation::of(folded, all[__builtin_ctz(rest)]);
  *result = folded;
}

// Of the lanes below `end`, on top of `neutral`.
template <class Operation, int neutral, class T>
MSL_OUT_OF_LINE void prefix(const T* all __attribute__((noescape)), uint mask, uint end,
                            T* result __attribute__((noescape))) {
  T folded = T(neutral);
  for (uint i = 0; i < end; i++)
    if (mask >> i & 1) folded = Operation::of(folded, all[i]);
  *result = folded;
}

// What lane `from` gave, if it is there; else `own` stays.
template <uint W, class T>
MSL_OUT_OF_LINE void take(const T* all __attribute__((noescape)), uint mask, uint from,
                          T* own __attribute__((noescape))) {
  if (from < W && (mask >> from & 1)) *own = all[from];
}

#define MSL_OPERATION(name, expression) \
  struct name {                         \
    template <class T>                  \
    static MSL_FN T of(T a, T b) {      \
      return T(expression);             \
    }                                   \
  };
MSL_OPERATION(add, a + b)
MSL_OPERATION(multiply, a * b)
MSL_OPERATION(larger, metal::max(a, b))
MSL_OPERATION(smaller, metal::min(a, b))
MSL_OPERATION(conjunct, a & b)
MSL_OPERATION(disjunct, a | b)
MSL_OPERATION(exclusive, a ^ b)
#undef MSL_OPERATION

// One bit for each lane that met and said yes.
MSL_OUT_OF_LINE uint votes(const bool* all __attribute__((noescape)), uint mask) {
  uint bits = 0;
  for (uint rest = mask; rest; rest &= rest - 1) {
    uint lane = __builtin_ctz(rest);
    bits |= uint(all[lane]) << lane;
  }
  return bits;
}

// What a ballot returns.
template <uint W>
struct vote {
  typedef conditional_t<W == 32, ulong, uint> vote_t;
  vote_t bits;
  vote() = default;
  MSL_FN constexpr explicit vote(vote_t bits) : bits(bits) {}
  MSL_FN constexpr explicit operator vote_t() const { return bits; }
  MSL_FN constexpr bool all() const { return (bits & ((1ul << W) - 1)) == (1ul << W) - 1; }
  MSL_FN constexpr bool any() const { return (bits & ((1ul << W) - 1)) != 0; }
};

template <class T>
struct data_and_filling {
  T data, filling;
};

}  // namespace msl_detail

namespace metal {

typedef msl_detail::vote<32> simd_vote;
typedef msl_detail::vote<4> quad_vote;

// T met[]: what lanes gave, on the stack, where the detector does not look; `mask`: who did.
#define MSL_MEET(T, value, W) \
  T met[W];                   \
  uint mask = msl_detail::exchange(&value, sizeof(value), met, W)

#define MSL_FOLD(group, W, name, operation)                 \
  template <class T>                                        \
  MSL_FN T group##_##name(T x) {                            \
    MSL_MEET(T, x, W);                                      \
    msl_detail::fold<msl_detail::operation>(met, mask, &x); \
    return x;                                               \
  }
#define MSL_PREFIX(group, W, name, operation, neutral)                                               \
  template <class T>                                                                                 \
  MSL_FN T group##_prefix_inclusive_##name(T x) {                                                    \
    MSL_MEET(T, x, W);                                                                               \
    msl_detail::prefix<msl_detail::operation, neutral>(met, mask, msl_detail::lane_of<W>() + 1, &x); \
    return x;                                                                                        \
  }                                                                                                  \
  template <class T>                                                                                 \
  MSL_FN T group##_prefix_exclusive_##name(T x) {                                                    \
    MSL_MEET(T, x, W);                                                                               \
    msl_detail::prefix<msl_detail::operation, neutral>(met, mask, msl_detail::lane_of<W>(), &x);     \
    return x;                                                                                        \
  }
// From another lane, by its number.
#define MSL_FROM(group, W, name, source)                   \
  template <class T>                                       \
  MSL_FN T group##_##name(T x, ushort n) {                 \
    MSL_MEET(T, x, W);                                     \
    [[maybe_unused]] uint lane = msl_detail::lane_of<W>(); \
    msl_detail::take<W>(met, mask, source, &x);            \
    return x;                                              \
  }
// `filling` comes in where the shift leaves its part of `modulo` lanes.
#define MSL_FILL(group, W, name, shifted)                                                 \
  template <class T>                                                                      \
  MSL_FN T group##_shuffle_and_fill_##name(T x, T filling, ushort n, ushort modulo = W) { \
    msl_detail::data_and_filling<T> both = {x, filling};                                  \
    MSL_MEET(msl_detail::data_and_filling<T>, both, W);                                   \
    uint lane = msl_detail::lane_of<W>(), first = lane - lane % modulo;                   \
    int at = int(lane % modulo) shifted int(n);                                           \
    bool inside = at >= 0 && at < int(modulo);                                            \
    both.filling = x;                                                                     \
    msl_detail::take<W>(met, mask, first + (uint(at) + modulo) % modulo, &both);          \
    return inside ? both.data : both.filling;                                             \
  }

#define MSL_GROUP(group, W)                                                          \
  MSL_FOLD(group, W, sum, add)                                                       \
  MSL_FOLD(group, W, product, multiply)                                              \
  MSL_FOLD(group, W, max, larger)                                                    \
  MSL_FOLD(group, W, min, smaller)                                                   \
  MSL_FOLD(group, W, and, conjunct)                                                  \
  MSL_FOLD(group, W, or, disjunct)                                                   \
  MSL_FOLD(group, W, xor, exclusive)                                                 \
  MSL_PREFIX(group, W, sum, add, 0)                                                  \
  MSL_PREFIX(group, W, product, multiply, 1)                                         \
  MSL_FROM(group, W, shuffle, n)                                                     \
  MSL_FROM(group, W, broadcast, n)                                                   \
  MSL_FROM(group, W, shuffle_down, lane + n)                                         \
  MSL_FROM(group, W, shuffle_up, lane - n)                                           \
  MSL_FROM(group, W, shuffle_xor, lane ^ n)                                          \
  MSL_FROM(group, W, shuffle_rotate_down, (lane + n) % W)                            \
  MSL_FROM(group, W, shuffle_rotate_up, (lane - n) % W)                              \
  MSL_FILL(group, W, down, +)                                                        \
  MSL_FILL(group, W, up, -)                                                          \
  template <class T>                                                                 \
  MSL_FN T group##_broadcast_first(T x) {                                            \
    MSL_MEET(T, x, W);                                                               \
    msl_detail::take<W>(met, mask, __builtin_ctz(mask), &x);                         \
    return x;                                                                        \
  }                                                                                  \
  MSL_FN group##_vote group##_ballot(bool x) {                                       \
    MSL_MEET(bool, x, W);                                                            \
    return group##_vote(msl_detail::votes(met, mask));                               \
  }                                                                                  \
  MSL_FN bool group##_all(bool x) {                                                  \
    MSL_MEET(bool, x, W);                                                            \
    return msl_detail::votes(met, mask) == mask;                                     \
  }                                                                                  \
  MSL_FN bool group##_any(bool x) {                                                  \
    MSL_MEET(bool, x, W);                                                            \
    return msl_detail::votes(met, mask) != 0;                                        \
  }                                                                                  \
  MSL_FN group##_vote group##_active_threads_mask() { return group##_ballot(true); } \
  MSL_FN bool group##_is_first() {                                                   \
    bool x = true;                                                                   \
    MSL_MEET(bool, x, W);                                                            \
    return msl_detail::lane_of<W>() == uint(__builtin_ctz(mask));                    \
  }                                                                                  \
  /* Helpers are of fragment shaders. */                                             \
  MSL_FN bool group##_is_helper_thread() { return false; }

MSL_GROUP(simd, 32)
MSL_GROUP(quad, 4)

#undef MSL_GROUP
#undef MSL_FILL
#undef MSL_FROM
#undef MSL_PREFIX
#undef MSL_FOLD
#undef MSL_MEET

}  // namespace metal
