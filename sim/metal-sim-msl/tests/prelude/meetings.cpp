// A runtime that notes where each call came from.
static ulong* note;
static int noted;
#define NOTE (note[noted++] = (ulong)__builtin_return_address(0))

static const msl_thread* self() {
  static msl_thread thread;
  return &thread;
}
static uint32_t exchange(const void* value, uint32_t size, void* all, uint32_t) {
  NOTE;
  __builtin_memcpy(all, value, size);
  return 1;
}
static void barrier(uint32_t) { NOTE; }
static void ignore(const void*, uint64_t, uint32_t, const void*) {}
static const msl_runtime notes = {MSL_ABI, self, exchange, barrier, barrier, nullptr, nullptr, ignore};

#define MEETINGS(name, body)                             \
  extern "C" int name(ulong* sites, int argument) {      \
    note = sites, noted = 0, msl_rt = &notes;            \
    int x = argument;                                    \
    body;                                                \
    volatile int used = x;                               \
    return noted;                                        \
  }

// The same on both ways: optimisers like to merge such code.
MEETINGS(sums, if (argument) x = simd_sum(x); else x = simd_sum(x))
MEETINGS(barriers, if (argument) threadgroup_barrier(mem_flags::mem_threadgroup); else threadgroup_barrier(mem_flags::mem_threadgroup))
MEETINGS(matrices, simdgroup_float8x8 m; m.elements = 1; if (argument) simdgroup_multiply(m, m, m); else simdgroup_multiply(m, m, m); x = int(m.elements.x))
MEETINGS(looped, for (int i = 0; i < 4; i++) x += simd_max(x))
MEETINGS(unrolled, _Pragma("clang loop unroll(full)") for (int i = 0; i < 4; i++) x += simd_max(x))
MEETINGS(listed, x += simd_shuffle(x, 0); x += simd_shuffle(x, 0))
