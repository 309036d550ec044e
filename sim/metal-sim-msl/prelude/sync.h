// Barriers, memory scopes, and what the runtime knows of a simdgroup.
#pragma once

namespace metal {

enum class mem_flags : uint {
  mem_none = 0,
  mem_device = 1,
  mem_threadgroup = 2,
  mem_device_and_threadgroup = 3,
  mem_texture = 4,
  mem_threadgroup_imageblock = 8,
  mem_object_data = 16,
};
MSL_FN constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }
MSL_FN constexpr mem_flags operator&(mem_flags a, mem_flags b) { return mem_flags(uint(a) & uint(b)); }
MSL_FN constexpr mem_flags& operator|=(mem_flags& a, mem_flags b) { return a = a | b; }

enum memory_order : int {
  memory_order_relaxed = 0,
  memory_order_acquire = 1,
  memory_order_release = 2,
  memory_order_acq_rel = 3,
  memory_order_seq_cst = 4,
};

enum thread_scope : int {
  thread_scope_thread = 0,
  thread_scope_simdgroup = 1,
  thread_scope_threadgroup = 2,
  thread_scope_device = 3,
  thread_scope_system = 4,
};

MSL_FN void threadgroup_barrier(mem_flags flags) { msl_detail::threadgroup_barrier(uint(flags)); }
MSL_FN void threadgroup_barrier(mem_flags flags, thread_scope) { msl_detail::threadgroup_barrier(uint(flags)); }
MSL_FN void simdgroup_barrier(mem_flags flags) { msl_detail::simdgroup_barrier(uint(flags)); }
MSL_FN void simdgroup_barrier(mem_flags flags, thread_scope) { msl_detail::simdgroup_barrier(uint(flags)); }

}  // namespace metal
