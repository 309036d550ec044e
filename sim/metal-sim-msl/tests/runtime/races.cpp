// Pairs of kernels: a wrong one, whose lines are marked with the kind of access, and its correct twin.
#include "kernel.h"

#define ME uint32_t me = self->thread_index_in_threadgroup, n = self->threads_per_threadgroup[0]; (void)n;

// A neighbour's cell without a barrier in between.
KERNEL(neighbour_wrong) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;  // neighbour_wrong: first
  BUFFER(uint32_t, 0)[me] = cells[(me + 1) % n];  // neighbour_wrong: second
}
KERNEL(neighbour_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  barrier();
  BUFFER(uint32_t, 0)[me] = cells[(me + 1) % n];
}

// A reduction that reuses its cells: the barrier at the end of a round is missing.
KERNEL(rounds_wrong) {
  ME SHARED(uint32_t[256], cells);
  for (uint32_t round = 0; round < 3; round++) {
    cells[me] = round;  // rounds_wrong: second
    barrier();
    BUFFER(uint32_t, 0)[me] += cells[n - 1 - me];  // rounds_wrong: first
  }
}
KERNEL(rounds_right) {
  ME SHARED(uint32_t[256], cells);
  for (uint32_t round = 0; round < 3; round++) {
    cells[me] = round;
    barrier();
    BUFFER(uint32_t, 0)[me] += cells[n - 1 - me];
    barrier();
  }
}

// Threadgroups write the same word of a buffer.
KERNEL(groups_wrong) {
  if (self->thread_index_in_threadgroup == 0) BUFFER(uint32_t, 0)[1] = 5;  // groups_wrong: first second
}
KERNEL(groups_right) {
  if (self->thread_index_in_threadgroup == 0) BUFFER(uint32_t, 0)[self->threadgroup_position_in_grid[0]] = 5;
}

// One threadgroup writes what all others read.
KERNEL(readers_wrong) {
  ME uint32_t* buffer = BUFFER(uint32_t, 0);
  uint32_t at = self->thread_position_in_grid[0];
  buffer[1 + at] = buffer[0];  // readers_wrong: first
  if (at == 64) buffer[0] = 1;  // readers_wrong: second
}
KERNEL(readers_right) {
  ME uint32_t* buffer = BUFFER(uint32_t, 0);
  buffer[1 + self->thread_position_in_grid[0]] = buffer[0];
}

// Lanes of a simdgroup do not run in step.
KERNEL(step_wrong) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;  // step_wrong: first
  BUFFER(uint32_t, 0)[me] = cells[me ^ 1];  // step_wrong: second
}
KERNEL(step_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  simd_barrier();
  BUFFER(uint32_t, 0)[me] = cells[me ^ 1];
}
// An exchange orders, too; a quad's orders the quad alone.
KERNEL(quad_wrong) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;  // quad_wrong: first
  quad_exchange(me);
  BUFFER(uint32_t, 0)[me] = cells[me ^ 4];  // quad_wrong: second
}
KERNEL(quad_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  quad_exchange(me);
  BUFFER(uint32_t, 0)[me] = cells[me ^ 1];
  simd_sum(me);
  cells[me ^ 4] = 1;
}
// A simdgroup_barrier does not order simdgroups.
KERNEL(across_wrong) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;  // across_wrong: first
  simd_barrier();
  BUFFER(uint32_t, 0)[me] = cells[me ^ 32];  // across_wrong: second
}
KERNEL(across_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  barrier();
  BUFFER(uint32_t, 0)[me] = cells[me ^ 32];
}

// Many lanes read, then one writes without waiting for all of them.
KERNEL(late_wrong) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  barrier();
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += cells[i];  // late_wrong: first
  if (me / 32 == 1) simd_barrier();
  if (me == 40) cells[40] = sum;  // late_wrong: second
  BUFFER(uint32_t, 0)[me] = sum;
}
KERNEL(late_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  barrier();
  uint32_t sum = 0;
  for (uint32_t i = 0; i < n; i++) sum += cells[i];
  barrier();
  if (me == 40) cells[40] = sum;
  BUFFER(uint32_t, 0)[me] = sum;
}

// Bytes and halves next to each other are not the same memory.
KERNEL(bytes_wrong) {
  ME SHARED(uint8_t[256], cells);
  cells[me] = me;  // bytes_wrong: first
  if (me == 7) BUFFER(uint32_t, 0)[0] = ((uint32_t*)cells)[1];  // bytes_wrong: second
}
KERNEL(bytes_right) {
  ME SHARED(uint8_t[256], cells);
  unsigned short* halves = BUFFER(unsigned short, 0);
  cells[me] = me;
  halves[me] = cells[me];
  barrier();
  if (me == 7) BUFFER(uint32_t, 0)[200] = ((uint32_t*)cells)[1];
}

// A plain read of a counter that others still change.
KERNEL(counter_wrong) {
  ME atomic_add(BUFFER(uint32_t, 0), 1);  // counter_wrong: first
  if (me == 3) BUFFER(uint32_t, 0)[1] = BUFFER(uint32_t, 0)[0];  // counter_wrong: second
}
KERNEL(counter_right) {
  ME atomic_add(BUFFER(uint32_t, 0), 1);
  barrier(DEVICE);
  if (me == 3) BUFFER(uint32_t, 0)[1] = BUFFER(uint32_t, 0)[0];
}

// A message to another simdgroup: the flag orders only if it is released and acquired.
KERNEL(message_wrong) {
  ME SHARED(uint32_t, data);
  uint32_t* flag = BUFFER(uint32_t, 0);
  if (me == 0) { data = 7; atomic_store(flag, 1); }  // message_wrong: first
  if (me == 32) { while (atomic_load(flag) == 0) {} flag[1] = data; }  // message_wrong: second
}
KERNEL(message_right) {
  ME SHARED(uint32_t, data);
  uint32_t* flag = BUFFER(uint32_t, 0);
  if (me == 0) { data = 7; atomic_store(flag, 1, RELEASE); }
  if (me == 32) { while (atomic_load(flag, ACQUIRE) == 0) {} flag[1] = data; }
}
// The same between threadgroups, with fences: whoever comes second reads.
KERNEL(fence_wrong) {
  uint32_t* flag = BUFFER(uint32_t, 0);
  uint32_t group = self->threadgroup_position_in_grid[0];
  if (self->thread_index_in_threadgroup != 0) return;
  flag[4 + group] = 9;  // fence_wrong: first
  uint32_t before = atomic_add(flag, 1);
  if (before == 1) flag[1] = flag[4] + flag[5];  // fence_wrong: second
}
KERNEL(fence_right) {
  uint32_t* flag = BUFFER(uint32_t, 0);
  uint32_t group = self->threadgroup_position_in_grid[0];
  if (self->thread_index_in_threadgroup != 0) return;
  flag[4 + group] = 9;
  atomic_fence(RELEASE);
  uint32_t before = atomic_add(flag, 1);
  atomic_fence(ACQUIRE);
  if (before == 1) flag[1] = flag[4] + flag[5];
}

// One element past the end.
KERNEL(end_wrong) {
  ME BUFFER(uint32_t, 0)[me] = BUFFER(uint32_t, 1)[me + 1];  // end_wrong: second
}
KERNEL(end_right) {
  ME BUFFER(uint32_t, 0)[me] = BUFFER(uint32_t, 1)[me];
}
KERNEL(store_wrong) {
  ME BUFFER(uint32_t, 1)[me + 1] = me;  // store_wrong: second
}
KERNEL(store_right) {
  ME BUFFER(uint32_t, 1)[me] = me;
}
KERNEL(overrun_wrong) {
  ME SHARED(uint32_t[64], small);
  small[me + 1] = me;  // overrun_wrong: second
}
KERNEL(overrun_right) {
  ME SHARED(uint32_t[64], small);
  small[me] = me;
}

// Only half of the cells are written before all are read.
KERNEL(unwritten_wrong) {
  ME SHARED(uint32_t[256], cells);
  if (me < 32) cells[me] = me;
  barrier();
  BUFFER(uint32_t, 0)[self->thread_position_in_grid[0]] = cells[me];  // unwritten_wrong: second
}
KERNEL(unwritten_right) {
  ME SHARED(uint32_t[256], cells);
  cells[me] = me;
  barrier();
  BUFFER(uint32_t, 0)[self->thread_position_in_grid[0]] = cells[me];
}

// A barrier that some threads do not come to; one in each of two branches.
KERNEL(skipped_wrong) {
  ME if (me < 40) return;
  barrier();  // skipped_wrong: second
  BUFFER(uint32_t, 0)[me] = me;
}
KERNEL(skipped_right) {
  ME barrier();
  if (me < 40) return;
  BUFFER(uint32_t, 0)[me] = me;
}
KERNEL(branches_wrong) {
  ME if (me < 32) {
    BUFFER(uint32_t, 0)[me] = me;
    barrier();  // branches_wrong: second
  } else {
    BUFFER(uint32_t, 0)[me] = 1;
    barrier();  // branches_wrong: first
  }
}
KERNEL(branches_right) {
  ME BUFFER(uint32_t, 0)[me] = me < 32 ? me : 1;
  barrier();
}

// Half of a simdgroup sums, half waits at a barrier.
KERNEL(half_wrong) {
  ME uint32_t sum = 0;
  if (me % 32 < 16) sum = simd_sum(me);  // half_wrong: second
  barrier();  // half_wrong: first
  BUFFER(uint32_t, 0)[me] = sum;
}
KERNEL(half_right) {
  ME uint32_t sum = simd_sum(me % 32 < 16 ? me : 0);
  barrier();
  BUFFER(uint32_t, 0)[me] = sum;
}

// In strict mode a barrier orders what it names.
KERNEL(flags_wrong) {
  ME BUFFER(uint32_t, 0)[me] = me;  // flags_wrong: first
  barrier(THREADGROUP);
  BUFFER(uint32_t, 1)[me] = BUFFER(uint32_t, 0)[n - 1 - me];  // flags_wrong: second
}
KERNEL(flags_right) {
  ME BUFFER(uint32_t, 0)[me] = me;
  barrier(DEVICE);
  BUFFER(uint32_t, 1)[me] = BUFFER(uint32_t, 0)[n - 1 - me];
}

// A private buffer: whoever reads it must have had it written before, by this kernel or by another.
KERNEL(take) {
  ME BUFFER(uint32_t, 0)[me] = BUFFER(uint32_t, 1)[me];  // take: second
}
KERNEL(fill) {
  ME BUFFER(uint32_t, 1)[me] = me;
}
KERNEL(fill_and_take) {
  ME BUFFER(uint32_t, 1)[me] = me;
  BUFFER(uint32_t, 0)[me] = BUFFER(uint32_t, 1)[me];
}
KERNEL(count) {
  ME BUFFER(uint32_t, 0)[me] = atomic_add(&BUFFER(uint32_t, 1)[me], 1);  // count: second
}

// Threads do what a table says, each step a word: what, and where. See `tests/detector.rs`.
KERNEL(table) {
  ME SHARED(uint32_t[64], cells);
  cells[me] = 0;
  barrier();
  uint32_t *out = BUFFER(uint32_t, 0), *steps = BUFFER(uint32_t, 1);
  for (uint32_t step = 0; step < 12; step++) {
    uint32_t what = steps[step * 64 + me] & 15, at = steps[step * 64 + me] >> 4 & 63;
    if (what < 4) (void)*(volatile uint32_t*)(what < 2 ? &cells[at] : &out[at]);
    else if (what < 6) *(volatile uint32_t*)(what < 5 ? &cells[at] : &out[at]) = step;
    else if (what == 6) (void)*(volatile uint16_t*)&out[at];
    else if (what == 7) *((volatile uint8_t*)&cells[at] + 1) = step;
    else if (what == 8) barrier();
    else if (what == 9) simd_barrier();
    else if (what == 10) quad_exchange(me);
    else if (what == 11) atomic_add(&out[at], 1, RELEASE);
    else if (what == 12) atomic_load(&out[at], ACQUIRE);
  }
}

// For the benchmark: nothing but switches.
KERNEL(switches) {
  for (int i = 0; i < 1000; i++) barrier();
}

#define B(index, name) {MSL_BUFFER, index, name, "device uint *", 4, 1, ~0u, __LINE__}
static const msl_argument buffers_[] = {B(0, "out"), B(1, "in")};
#define PAIR(name) {#name "_wrong", name##_wrong, buffers_, 2, 0, 1}, {#name "_right", name##_right, buffers_, 2, 0, 1}
static const msl_kernel kernels[] = {
    PAIR(neighbour), PAIR(rounds),  PAIR(groups),  PAIR(readers), PAIR(step),      PAIR(quad),    PAIR(across),
    PAIR(late),      PAIR(bytes),   PAIR(counter), PAIR(message), PAIR(fence),     PAIR(end),     PAIR(store),
    PAIR(overrun),   PAIR(skipped), PAIR(half),    PAIR(flags),   PAIR(unwritten), PAIR(branches),
    {"take", take, buffers_, 2, 0, 1}, {"fill", fill, buffers_, 2, 0, 1}, {"count", count, buffers_, 2, 0, 1},
    {"fill_and_take", fill_and_take, buffers_, 2, 0, 1}, {"table", table, buffers_, 2, 0, 1},
    {"switches", switches, buffers_, 2, 0, 1},
};
static const msl_library library = {MSL_ABI, kernels, sizeof kernels / sizeof *kernels, nullptr, 0};
extern "C" const msl_library* msl_library_1(void) { return &library; }
extern "C" void msl_derive_1(void) {}
extern "C" const msl_variable* msl_variables_1(uint32_t* count) { *count = 0; return nullptr; }
