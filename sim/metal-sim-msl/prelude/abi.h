// What a compiled library and the runtime know of each other: plain structs, no C++ in them. A library has no
// undefined symbols: it is handed the table `msl_runtime` once, right after it was loaded, and calls through it.
// The twin of this file is src/abi.rs; `MSL_ABI` changes when either does.
#pragma once
// The prelude is compiled without the system's headers.
typedef __UINT8_TYPE__ uint8_t;
typedef __UINT16_TYPE__ uint16_t;
typedef __UINT32_TYPE__ uint32_t;
typedef __UINT64_TYPE__ uint64_t;

#define MSL_ABI 2

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

// What the detector shares with the library that it watches, so that most accesses need no call: a compiled access
// (detect.h) decides the usual cases itself. An access is a stamp: its time in the low half, where and by whom in the
// high half: bits 0 to 9 the thread's index in its threadgroup, 10 to 12 the logarithm of the size, 13 to 31 the place
// in code, in steps of 4 bytes. Times only grow: those of a threadgroup are above those of all that ran before it. In
// place of a time, 0 is nobody, and 1 nobody where a read of that is a finding.
enum { MSL_SITES = 1 << 19, MSL_SITE_STEP = 2 };

// What is known of 1 to 16 bytes. A read by one lane or by several of a simdgroup at the same time is in `read` and
// `readers`; for readers of two simdgroups, `read` and `other` stand for all. In all other cases
// the time in `read` is the last there is. That `other` is not 0 says that there was a read at all.
typedef struct {
  uint64_t write, read, other;
  uint32_t readers;  // lanes of the reader's simdgroup
  uint32_t kept;
} msl_cell;
enum { MSL_NOWHERE = 0, MSL_HERE = 1, MSL_ENOUGH = 2, MSL_ELSEWHERE = 3, MSL_OUTSIDE = 4 };

// A page of 4096 bytes.
typedef struct {
  uint64_t tag;       // its address, and from bit 5 the logarithm of a cell's bytes or MSL_QUIET
  uint64_t cells;     // the address of its cells, less what makes it that of memory at address 0
  uint16_t from, to;  // quiet: accesses between these offsets mean nothing
  uint32_t kind;      // of memory, for `barrier` and `seen`
  uint64_t unused;
} msl_page;
enum { MSL_PAGES = 1024, MSL_QUIET = 7 };

typedef struct {
  uint64_t base;        // of the library
  uint32_t now, lane;   // of the running thread
  uint32_t start;       // when its threadgroup began
  uint32_t foreign;     // readers before this time stand for all: `start`, or 0 if a thread learnt of others by acquire
  uint32_t barrier[2];  // earlier times of this threadgroup are ordered before now
  uint32_t seen[2];     // so are those of its simdgroup up to here
  msl_page pages[MSL_PAGES];
} msl_watch;

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
//   void msl_watch_1(msl_watch*);
//     With the detector only: what it shares during a dispatch, or null after it. One dispatch at a time.
//   void msl_derive_1(void);
//     Computes the constants that are derived from others (index ~0). Call it after the values were written and before
//     the first dispatch; an argument whose constant is derived is on if that constant is then true.
//   const msl_variable* msl_variables_1(uint32_t* count);
//     Every variable in threadgroup memory that the compiled kernels have: the static threadgroup memory.
