// What clang's -fsanitize=thread calls before each access. Most accesses are decided here, by what is shared with the
// detector (see abi.h): a cell that nobody else touched since a barrier, a word that all lanes only read. Whatever is
// not surely in order goes to the runtime, with the address that the access is at in the kernel's code. The rules are
// those of src/detect/cell.rs. Nothing of the sanitizer's own library is linked. Compiled with -DMSL_DETECT only.
#pragma once

#define MSL_UNWATCHED __attribute__((nodebug, disable_sanitizer_instrumentation))
#define MSL_CALLBACK extern "C" MSL_UNWATCHED __attribute__((noinline, used, visibility("hidden")))
#define MSL_QUICK static inline MSL_UNWATCHED __attribute__((always_inline))

static_assert(sizeof(msl_cell) == 32 && sizeof(msl_page) == 32, "as in src/abi.rs");
static_assert(sizeof(msl_watch) == 40 + 32 * MSL_PAGES, "as in src/abi.rs");

// While no dispatch is watched, no page is known.
static msl_watch msl_nobody;
static msl_watch* msl_watched = &msl_nobody;

extern "C" MSL_UNWATCHED __attribute__((visibility("default"))) void msl_watch_1(msl_watch* watch) {
  msl_watched = watch ? watch : &msl_nobody;
}

MSL_QUICK uint64_t msl_stamp(const msl_watch* w, const void* pc, uint32_t log) {
  uint32_t site = (uint32_t)((uint64_t)pc - w->base) >> MSL_SITE_STEP;
  return (uint64_t)(site << 13 | log << 10 | w->lane) << 32 | w->now;
}

// Below 32: a lane of the same simdgroup; 0: the same.
MSL_QUICK uint32_t msl_apart(const msl_watch* w, uint64_t stamp) {
  return ((uint32_t)(stamp >> 32) ^ w->lane) & 0x3ff;
}

// Whether a write is ordered before now; if it is nobody's, no.
MSL_QUICK bool msl_after(const msl_watch* w, uint64_t write, uint32_t kind) {
  uint32_t time = (uint32_t)write;
  if (time < w->start) return false;
  if (time < w->barrier[kind]) return true;
  uint32_t apart = msl_apart(w, write);
  return apart == 0 || (apart < 32 && time <= w->seen[kind]);
}

MSL_QUICK bool msl_read_cell(msl_cell* c, const msl_watch* w, const void* pc, uint32_t log, uint32_t kind) {
  if ((uint32_t)c->write != 0 && !msl_after(w, c->write, kind)) return false;
  uint32_t read = (uint32_t)c->read;
  if (read < w->foreign) return true;  // a reader of another threadgroup stands for all
  uint32_t kept = c->kept, readers = 0;
  if (kept > MSL_ENOUGH) return false;
  if (kept != MSL_NOWHERE) {
    if (read < w->start) return false;
    if (read >= w->barrier[kind]) {
      if (kept == MSL_ENOUGH) return true;
      if (msl_apart(w, c->read) >= 32) {
        if (w->foreign == 0) return false;
        c->other = msl_stamp(w, pc, log);
        c->kept = MSL_ENOUGH;
        return true;
      }
      if (read == w->now) {
        readers = c->readers;
      } else if (read > w->seen[kind]) {
        return false;
      }
    }
  }
  c->read = msl_stamp(w, pc, log);
  c->readers = readers | 1u << (w->lane & 31);
  c->kept = MSL_HERE;
  return true;
}

MSL_QUICK bool msl_write_cell(msl_cell* c, const msl_watch* w, const void* pc, uint32_t log, uint32_t kind) {
  if ((uint32_t)c->write > 1 && !msl_after(w, c->write, kind)) return false;
  uint32_t kept = c->kept, read = (uint32_t)c->read;
  if (kept != MSL_NOWHERE) {
    if (kept > MSL_ENOUGH || read < w->start) return false;
    if (read >= w->barrier[kind]) {
      if (kept == MSL_ENOUGH || msl_apart(w, c->read) >= 32) return false;
      bool alone = c->readers == 1u << (w->lane & 31);
      if (!alone && read > w->seen[kind]) return false;
    }
    c->kept = MSL_NOWHERE;
    c->read = c->other = ~0ull;
  }
  c->write = msl_stamp(w, pc, log);
  return true;
}

MSL_QUICK const msl_page* msl_find(const msl_watch* w, const void* at) {
  return &w->pages[(uint64_t)at / 4096 % MSL_PAGES];
}

// Whether there is nothing to tell. If not, what was remembered so far does no harm when the runtime does all of it.
// Memory that is accessed as it mostly is, by whole cells.
template <uint32_t log, bool write>
MSL_QUICK bool msl_is_usual(const void* at, const void* pc) {
  const msl_watch* w = msl_watched;
  const msl_page* page = msl_find(w, at);
  // A tag has zeros where addresses that are not aligned differ from it.
  if (page->tag != ((uint64_t)at & (~4095ull | ((1u << log) - 1))) + (log << 5)) return false;
  msl_cell* cell = (msl_cell*)(page->cells + ((uint64_t)at << (5 - log)));
  return write ? msl_write_cell(cell, w, pc, log, page->kind) : msl_read_cell(cell, w, pc, log, page->kind);
}

// Memory that was divided into smaller cells, or that is nobody's business.
template <uint32_t log, bool write>
MSL_QUICK bool msl_is_quick(const void* at, const void* pc) {
  const uint32_t size = 1u << log;
  const msl_watch* w = msl_watched;
  const msl_page* page = msl_find(w, at);
  uint32_t offset = (uint32_t)((uint64_t)at % 4096), shift = page->tag >> 5 & 7;
  if (page->tag / 4096 != (uint64_t)at / 4096) return false;
  if (shift == MSL_QUIET) return offset >= page->from && offset + size <= page->to;
  if (log < shift || offset % (1u << shift) != 0 || offset + size > 4096) return false;
  msl_cell* cell = (msl_cell*)(page->cells + ((uint64_t)at >> shift << 5));
  for (msl_cell* end = cell + (size >> shift); cell != end; cell++) {
    bool quick = write ? msl_write_cell(cell, w, pc, log, page->kind) : msl_read_cell(cell, w, pc, log, page->kind);
    if (!quick) return false;
  }
  return true;
}

#define MSL_PC __builtin_return_address(0)
#define MSL_REPORT(at, size, kind) msl_rt->access(at, size, kind, MSL_PC)

// By a jump, so that the usual case has no stack frame, and the return address stays the kernel's.
template <uint32_t log, bool write>
static MSL_UNWATCHED __attribute__((noinline)) void msl_rest(void* at) {
  if (!msl_is_quick<log, write>(at, MSL_PC)) MSL_REPORT(at, 1u << log, write ? MSL_WRITE : MSL_READ);
}

#define MSL_ACCESS(name, log, write)                                        \
  MSL_CALLBACK void name(void* at) {                                        \
    if (__builtin_expect(msl_is_usual<log, write>(at, MSL_PC), 1)) return;  \
    __attribute__((musttail)) return msl_rest<log, write>(at);              \
  }
#define MSL_ACCESSES(size, log)                                                                 \
  MSL_ACCESS(__tsan_read##size, log, false)                                                     \
  MSL_ACCESS(__tsan_write##size, log, true)                                                     \
  MSL_ACCESS(__tsan_unaligned_read##size, log, false)                                           \
  MSL_ACCESS(__tsan_unaligned_write##size, log, true)                                           \
  MSL_CALLBACK void __tsan_read_write##size(void* at) { MSL_REPORT(at, size, MSL_READ_WRITE); } \
  MSL_CALLBACK void __tsan_unaligned_read_write##size(void* at) { MSL_REPORT(at, size, MSL_READ_WRITE); }
MSL_ACCESSES(1, 0)
MSL_ACCESSES(2, 1)
MSL_ACCESSES(4, 2)
MSL_ACCESSES(8, 3)
MSL_ACCESSES(16, 4)

MSL_CALLBACK void __tsan_read_range(void* at, __SIZE_TYPE__ size) { MSL_REPORT(at, size, MSL_READ); }
MSL_CALLBACK void __tsan_write_range(void* at, __SIZE_TYPE__ size) { MSL_REPORT(at, size, MSL_WRITE); }

MSL_CALLBACK void* __tsan_memcpy(void* to, const void* from, __SIZE_TYPE__ size) {
  MSL_REPORT(from, size, MSL_READ);
  MSL_REPORT(to, size, MSL_WRITE);
  return __builtin_memcpy(to, from, size);
}
MSL_CALLBACK void* __tsan_memmove(void* to, const void* from, __SIZE_TYPE__ size) {
  MSL_REPORT(from, size, MSL_READ);
  MSL_REPORT(to, size, MSL_WRITE);
  return __builtin_memmove(to, from, size);
}
MSL_CALLBACK void* __tsan_memset(void* to, int value, __SIZE_TYPE__ size) {
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
#undef MSL_ACCESS
#undef MSL_REPORT
#undef MSL_PC
#undef MSL_QUICK
#undef MSL_CALLBACK
#undef MSL_UNWATCHED
