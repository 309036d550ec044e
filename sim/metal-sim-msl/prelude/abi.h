// What a compiled library and the runtime know of each other: plain structs, no C++ in them. A library has no
// undefined symbols: it is handed the table `msl_runtime` once, right after it was loaded, and calls through it.
// The twin of this file is src/abi.rs; `MSL_ABI` changes when either does.
#pragma once
// The prelude is compiled without the system's headers.
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define MSL_ABI 1

// One GPU thread, as its kernel's attributes ask for it. Constant while the thread runs.
typedef struct {
  uint32_t thread_position_in_grid[3];
  uint32_t thread_position_in_threadgroup[3];
  uint32_t threadgroup_position_in_grid[3];
  uint32_t threads_per_threadgroup[3];           // of this threadgroup: smaller at the edges of a grid of threads
  uint32_t dispatch_threads_per_threadgroup[3];  // as dispatched
  uint32_t threadgroups_per_grid[3];
  uint32_t threads_per_grid[3];
  uint32_t thread_index_in_threadgroup;
  uint32_t thread_index_in_simdgroup;
  uint32_t simdgroup_index_in_threadgroup;
  uint32_t simdgroups_per_threadgroup;
  uint32_t threads_per_simdgroup;                // 32
} msl_thread;

// A variable in threadgroup memory: a static of the library, one for each `threadgroup T name[N];`.
typedef struct {
  const char* name;
  uint32_t size, align, line;  // of the .metal file
} msl_variable;

enum { MSL_READ = 0, MSL_WRITE = 1, MSL_READ_WRITE = 2 };
// mem_flags as in Metal: 0 none, 1 device, 2 threadgroup, 4 texture.

typedef struct {
  uint32_t abi;
  // The calling GPU thread.
  const msl_thread* (*self)(void);
  // Each active lane of the simdgroup (width 32) or of the quad (width 4) gives `size` bytes, at most 64. Returns the
  // mask of lanes that met here, bit i for lane i of the simdgroup or of the quad; `all` receives width x size bytes,
  // of lanes that did not meet: zeros.
  uint32_t (*exchange)(const void* value, uint32_t size, void* all, uint32_t width);
  void (*simdgroup_barrier)(uint32_t mem_flags);
  void (*threadgroup_barrier)(uint32_t mem_flags);
  // The place of a variable for the calling thread's threadgroup. The same for all of its threads.
  void* (*threadgroup_variable)(const msl_variable* variable);
  // The place of a threadgroup argument [[threadgroup(index)]].
  void* (*threadgroup_argument)(uint32_t index);
  // Detector: a plain access, and an atomic one (order: 0 relaxed, 1 acquire, 2 release, 3 acq_rel, 4 seq_cst).
  // `pc` is the return address in kernel code, for the line.
  void (*access)(const void* at, uint64_t size, uint32_t kind, const void* pc);
  void (*atomic)(const void* at, uint32_t size, uint32_t kind, uint32_t order, const void* pc);
  void (*fence)(uint32_t mem_flags, uint32_t order, const void* pc);  // atomic_thread_fence
} msl_runtime;

// Where the value of an argument comes from.
enum {
  MSL_BUFFER = 0,               // index: [[buffer(index)]]; entry gets its address
  MSL_THREADGROUP = 1,          // index: [[threadgroup(index)]]
  MSL_BUILTIN = 2,              // a field of msl_thread; index unused
};

typedef struct {
  uint32_t kind, index;
  const char* name;
  const char* type;     // as written, such as "device const float *"
  uint32_t size;        // of what it points at, if known; a buffer must have this much. 0: unknown
  uint32_t writable;    // a device buffer without const
  uint32_t constant;    // [[function_constant(name)]]: index into the library's constants table, or ~0
  uint32_t line;
} msl_argument;

typedef struct {
  const char* name;     // host_name
  // Runs one GPU thread to its end. `buffers` by buffer index.
  void (*entry)(void* const* buffers, const msl_thread* self);
  const msl_argument* arguments;
  uint32_t argument_count;
  uint32_t max_total_threads;  // [[max_total_threads_per_threadgroup(n)]], or 0
  uint32_t line;
} msl_kernel;

typedef struct {
  const char* name;
  const char* type;       // "bool", "int", ...
  uint32_t index;         // [[function_constant(index)]], or ~0: derived from others, see msl_derive_1
  void* value;            // where the value is written before a dispatch
  uint32_t size;
  uint8_t* defined;       // written 1 if a value was given: is_function_constant_defined
} msl_constant;

typedef struct {
  uint32_t abi;
  const msl_kernel* kernels;
  uint32_t kernel_count;
  const msl_constant* constants;
  uint32_t constant_count;
} msl_library;

// Exported by a library (extern "C"):
//   const msl_library* msl_library_1(void);
//   void msl_bind_1(const msl_runtime*);
//   void msl_derive_1(void);
//     Computes the constants that are derived from others (index ~0). Call it after the values were written and before
//     the first dispatch; an argument whose constant is derived is on if that constant is then true.
//   const msl_variable* msl_variables_1(uint32_t* count);
//     Every variable in threadgroup memory that the compiled kernels have: the static threadgroup memory.
