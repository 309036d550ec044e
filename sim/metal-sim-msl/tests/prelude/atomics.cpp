extern "C" void integers(const int*, int* out, int) {
  atomic_int a;
  constexpr memory_order relaxed = memory_order_relaxed;
  auto put = [&](int before) { *out++ = before, *out++ = atomic_load_explicit(&a, relaxed); };
  atomic_store_explicit(&a, 5, relaxed);
  put(atomic_load_explicit(&a, relaxed));
  atomic_store_explicit(&a, 7, relaxed);
  put(0);
  put(atomic_exchange_explicit(&a, 9, relaxed));
  put(atomic_fetch_add_explicit(&a, 3, relaxed));
  put(atomic_fetch_sub_explicit(&a, 8, relaxed));
  put(atomic_fetch_and_explicit(&a, 6, relaxed));
  put(atomic_fetch_or_explicit(&a, 3, relaxed));
  put(atomic_fetch_xor_explicit(&a, 5, relaxed));
  put(atomic_fetch_max_explicit(&a, -9, relaxed));
  put(atomic_fetch_max_explicit(&a, 3, relaxed));
  put(atomic_fetch_min_explicit(&a, -1, relaxed));
  put(atomic_fetch_min_explicit(&a, 4, relaxed));
  int expected = -1;
  *out++ = atomic_compare_exchange_weak_explicit(&a, &expected, 8, relaxed, relaxed);
  *out++ = atomic_load_explicit(&a, relaxed);
  *out++ = atomic_compare_exchange_weak_explicit(&a, &expected, 1, relaxed, relaxed);
  *out++ = expected;
}

extern "C" void floats(const int*, float* out, int) {
  volatile atomic<float> a;
  auto put = [&](float before) { *out++ = before, *out++ = atomic_load_explicit(&a, memory_order_relaxed); };
  atomic_store_explicit(&a, 1.5, memory_order_relaxed);
  put(atomic_fetch_add_explicit(&a, 2.5, memory_order_relaxed));
  put(atomic_fetch_sub_explicit(&a, 0.25, memory_order_relaxed));
  put(atomic_exchange_explicit(&a, 9, memory_order_relaxed));
  float expected = 9;
  *out++ = atomic_compare_exchange_weak_explicit(&a, &expected, 9, memory_order_relaxed, memory_order_relaxed);
  *out++ = expected;
}

extern "C" void wide(const int*, ulong* out, int) {
  atomic_ulong a;
  atomic_store_explicit(&a, 1ul << 33, memory_order_relaxed);
  atomic_max_explicit(&a, 1ul << 40, memory_order_relaxed);
  *out++ = atomic_load_explicit(&a, memory_order_relaxed);
  atomic_max_explicit(&a, 5, memory_order_relaxed);
  *out++ = atomic_load_explicit(&a, memory_order_relaxed);
  atomic_min_explicit(&a, 1ul << 33, memory_order_relaxed);
  *out++ = atomic_load_explicit(&a, memory_order_relaxed);
  atomic_bool b;
  atomic_store_explicit(&b, false, memory_order_relaxed);
  *out++ = atomic_exchange_explicit(&b, true, memory_order_relaxed);
  *out++ = atomic_load_explicit(&b, memory_order_relaxed);
}

extern "C" void unsigned_extremes(const int*, uint* out, int) {
  atomic_uint a;
  atomic_store_explicit(&a, 3, memory_order_relaxed);
  atomic_fetch_max_explicit(&a, UINT_MAX, memory_order_relaxed);
  *out++ = atomic_load_explicit(&a, memory_order_relaxed);
  atomic_fetch_min_explicit(&a, 3, memory_order_relaxed);
  *out++ = atomic_load_explicit(&a, memory_order_relaxed);
}

extern "C" void add(void* at, uint times) {
  auto count = (atomic_uint*)at;
  auto sum = (atomic_float*)at + 1;
  for (uint i = 0; i < times; i++) {
    atomic_fetch_add_explicit(count, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(sum, 1, memory_order_relaxed);
  }
}

extern "C" void orders(void* at) {
  auto a = (atomic_uint*)at;
  atomic_load_explicit(a, memory_order_relaxed);
  atomic_load_explicit(a, memory_order_acquire);
  atomic_store_explicit(a, 1, memory_order_release);
  atomic_fetch_add_explicit(a, 1, memory_order_acq_rel);
  atomic_exchange_explicit(a, 2, memory_order_seq_cst);
  uint expected = 2;
  atomic_compare_exchange_weak_explicit(a, &expected, 3, memory_order_relaxed, memory_order_relaxed);
  atomic_store_explicit((atomic_bool*)at, true, memory_order_relaxed);
  atomic_max_explicit((atomic_ulong*)at + 1, 7, memory_order_relaxed);
  atomic_thread_fence(mem_flags::mem_device | mem_flags::mem_threadgroup, memory_order_acq_rel);
  atomic_thread_fence(mem_flags::mem_device, memory_order_seq_cst, thread_scope_device);
}
