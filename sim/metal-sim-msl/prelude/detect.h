// What clang's -fsanitize=thread calls before each access, handed on to the runtime with the address that the access
// is at in the kernel's code. Nothing of the sanitizer's own library is linked. Compiled with -DMSL_DETECT only.
#pragma once

#define MSL_CALLBACK \
  extern "C" __attribute__((noinline, nodebug, used, visibility("hidden"), disable_sanitizer_instrumentation))
#define MSL_REPORT(at, size, kind) msl_rt->access(at, size, kind, __builtin_return_address(0))

#define MSL_ACCESSES(size)                                                                      \
  MSL_CALLBACK void __tsan_read##size(void* at) { MSL_REPORT(at, size, MSL_READ); }             \
  MSL_CALLBACK void __tsan_write##size(void* at) { MSL_REPORT(at, size, MSL_WRITE); }           \
  MSL_CALLBACK void __tsan_read_write##size(void* at) { MSL_REPORT(at, size, MSL_READ_WRITE); } \
  MSL_CALLBACK void __tsan_unaligned_read##size(void* at) { MSL_REPORT(at, size, MSL_READ); }   \
  MSL_CALLBACK void __tsan_unaligned_write##size(void* at) { MSL_REPORT(at, size, MSL_WRITE); } \
  MSL_CALLBACK void __tsan_unaligned_read_write##size(void* at) { MSL_REPORT(at, size, MSL_READ_WRITE); }
MSL_ACCESSES(1)
MSL_ACCESSES(2)
MSL_ACCESSES(4)
MSL_ACCESSES(8)
MSL_ACCESSES(16)

MSL_CALLBACK void __tsan_read_range(void* at, size_t size) { MSL_REPORT(at, size, MSL_READ); }
MSL_CALLBACK void __tsan_write_range(void* at, size_t size) { MSL_REPORT(at, size, MSL_WRITE); }

MSL_CALLBACK void* __tsan_memcpy(void* to, const void* from, size_t size) {
  MSL_REPORT(from, size, MSL_READ);
  MSL_REPORT(to, size, MSL_WRITE);
  return __builtin_memcpy(to, from, size);
}
MSL_CALLBACK void* __tsan_memmove(void* to, const void* from, size_t size) {
  MSL_REPORT(from, size, MSL_READ);
  MSL_REPORT(to, size, MSL_WRITE);
  return __builtin_memmove(to, from, size);
}
MSL_CALLBACK void* __tsan_memset(void* to, int value, size_t size) {
  MSL_REPORT(to, size, MSL_WRITE);
  return __builtin_memset(to, value, size);
}

// Called or declared by the instrumentation, of no interest here.
MSL_CALLBACK void __tsan_init() {}
MSL_CALLBACK void __tsan_func_entry(void*) {}
MSL_CALLBACK void __tsan_func_exit() {}
MSL_CALLBACK void __tsan_vptr_read(void**) {}
MSL_CALLBACK void __tsan_vptr_update(void**, void*) {}

#undef MSL_ACCESSES
#undef MSL_REPORT
#undef MSL_CALLBACK
