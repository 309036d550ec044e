// Kernels whose results show that the runtime did what it promises.
#include "kernel.h"

// Every thread writes all that it is told.
KERNEL(builtins) {
  uint32_t* out = BUFFER(uint32_t, 0);
  const uint32_t* at = self->thread_position_in_grid;
  const uint32_t* grid = self->threads_per_grid;
  uint32_t index = at[0] + grid[0] * (at[1] + grid[1] * at[2]);
  const uint32_t* mine = (const uint32_t*)msl_rt->self();
  for (int i = 0; i < 26; i++) out[index * 26 + i] = mine[i];
}

// Each round, a thread passes its number to the one at the other end.
KERNEL(mirror) {
  SHARED(uint32_t[1024], cells);
  uint32_t me = self->thread_index_in_threadgroup, n = self->threads_per_threadgroup[0], value = me;
  for (int round = 0; round < 5; round++) {
    cells[me] = value + 1;
    barrier();
    value = cells[n - 1 - me];
    barrier();
  }
  BUFFER(uint32_t, 0)[self->thread_position_in_grid[0]] = value;
}

// Sums over all lanes, over those below a limit, over both sides of a branch, and after a loop that lanes leave apart.
KERNEL(sums) {
  uint32_t lane = self->thread_index_in_simdgroup, at = self->thread_position_in_grid[0];
  uint32_t* out = BUFFER(uint32_t, 0) + at * 6;
  uint32_t limit = *BUFFER(uint32_t, 1);
  out[0] = simd_sum(lane);
  if (lane < limit) out[1] = simd_sum(1);
  if (lane & 1) out[2] = simd_sum(lane);
  else out[2] = simd_sum(lane + 100);
  uint32_t rounds = 0;
  for (uint32_t i = 0; i < lane % 4; i++) rounds += simd_sum(1);
  out[3] = rounds;
  out[4] = exchange(lane).met;
  simd_barrier();
  out[5] = exchange((uint64_t)lane << 40).at[31 - lane] >> 40;
}

// Neighbours swap within their quad; then only half of each quad.
KERNEL(quads) {
  uint32_t lane = self->thread_index_in_simdgroup, at = self->thread_position_in_grid[0];
  auto all = quad_exchange(at);
  BUFFER(uint32_t, 0)[at * 3] = all.at[(lane & 3) ^ 1];
  if (lane & 2) {
    auto half = quad_exchange(at);
    BUFFER(uint32_t, 0)[at * 3 + 1] = half.met;
    BUFFER(uint32_t, 0)[at * 3 + 2] = half.at[0] + half.at[2];
  }
}

// Memory that the dispatch gives, and what it holds at the beginning.
KERNEL(borrowed) {
  uint32_t* one = (uint32_t*)msl_rt->threadgroup_argument(0);
  uint32_t* two = (uint32_t*)msl_rt->threadgroup_argument(1);
  SHARED(uint32_t[4], own);
  uint32_t me = self->thread_index_in_threadgroup;
  uint32_t fresh = one[me] == ~0u && two[me] == ~0u && own[0] == ~0u;
  barrier();
  one[me] = me;
  two[me] = me * 2;
  if (me == 0) own[0] = 7;
  barrier();
  BUFFER(uint32_t, 0)[self->thread_position_in_grid[0]] = fresh * 1000 + one[me ^ 1] + two[me ^ 1] + own[0];
}

static uint32_t scale;
static uint8_t scale_defined;
static bool extra;
static bool both;
KERNEL(constants) {
  uint32_t me = self->thread_position_in_grid[0];
  BUFFER(uint32_t, 0)[me] = BUFFER(uint32_t, 1)[0] * 1000 + (scale_defined ? scale : 1) * 10 + both;
}
extern "C" void msl_derive_1(void) { both = extra && scale_defined; }

__attribute__((noinline)) static uint32_t dive(volatile uint32_t* at, uint32_t depth) {
  volatile uint32_t here[64];
  here[depth % 64] = *at;
  return depth == ~0u ? 0 : dive(here, depth + 1) + here[1];
}
KERNEL(overflow) { BUFFER(uint32_t, 0)[0] = dive(BUFFER(uint32_t, 0), 0); }
KERNEL(divide) { BUFFER(uint32_t, 0)[0] = 5 / BUFFER(volatile uint32_t, 0)[1]; }
KERNEL(unbound) { BUFFER(uint32_t, 0)[self->thread_position_in_grid[0]] = BUFFER(uint32_t, 1)[5]; }
KERNEL(wild) { BUFFER(uint32_t, 0)[0] = *(uint32_t*)((uint64_t)1 << 46); }

// Thread 0 writes what thread 1 waits for.
KERNEL(wait) {
  uint32_t* flag = BUFFER(uint32_t, 0);
  if (self->thread_index_in_threadgroup == 0) atomic_store(flag, 1);
  else while (atomic_load(flag) == 0) {}
  atomic_add(flag + 1, 1);
}
KERNEL(forever) {
  while (atomic_load(BUFFER(uint32_t, 0)) == 0) {}
}

KERNEL(large) {
  SHARED(uint8_t[20000], a);
  SHARED(uint8_t[13000], b);
  a[0] = b[0] = 1;
}

#define OUT {MSL_BUFFER, 0, "out", "device uint *", 4, 1, ~0u, __LINE__}
static const msl_argument out_only[] = {OUT};
static const msl_argument whole[] = {{MSL_BUFFER, 0, "out", "device uint &", 4, 1, ~0u, __LINE__}};
static const msl_argument out_and_in[] = {OUT, {MSL_BUFFER, 1, "in", "device const uint *", 4, 0, ~0u, __LINE__}};
static const msl_argument optional[] = {OUT, {MSL_BUFFER, 1, "in", "device const uint *", 4, 0, 1, __LINE__}};
static const msl_argument lent[] = {OUT,
                                    {MSL_THREADGROUP, 0, "one", "threadgroup uint *", 4, 1, ~0u, __LINE__},
                                    {MSL_THREADGROUP, 1, "two", "threadgroup uint *", 4, 1, ~0u, __LINE__}};
static const msl_kernel kernels[] = {
    {"builtins", builtins, out_only, 1, 0, 1},   {"mirror", mirror, whole, 1, 0, 1},
    {"sums", sums, out_and_in, 2, 0, 1},         {"quads", quads, out_only, 1, 0, 1},
    {"borrowed", borrowed, lent, 3, 64, 1},      {"constants", constants, optional, 2, 0, 1},
    {"overflow", overflow, out_only, 1, 0, 1},   {"divide", divide, out_only, 1, 0, 1},
    {"unbound", unbound, out_and_in, 2, 0, 1},   {"wild", wild, out_only, 1, 0, 1},
    {"wait", wait, out_only, 1, 0, 1},           {"forever", forever, out_only, 1, 0, 1},
    {"large", large, out_only, 1, 0, 1},
};
static const msl_constant constant_table[] = {
    {"scale", "uint", 0, &scale, sizeof scale, &scale_defined},
    {"extra", "bool", 1, &extra, 1, nullptr},
    {"both", "bool", ~0u, &both, 1, nullptr},
};
static const msl_library library = {MSL_ABI, kernels, sizeof kernels / sizeof *kernels, constant_table, 3};
extern "C" const msl_library* msl_library_1(void) { return &library; }
static const msl_variable variables[] = {{"cells", 4096, 4, 1}, {"own", 16, 4, 1}};
extern "C" const msl_variable* msl_variables_1(uint32_t* count) { *count = 2; return variables; }
