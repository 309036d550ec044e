//! The method cache of a class: a hash table from selector to function that is read without
//! a lock. Writers hold the class's lock; they publish an entry by storing its selector last.
//!
//! A table is never changed after it was replaced and never freed, because a reader may
//! still be in it: tables grow by doubling, so what is left behind is less than what is in
//! use, and replacing a method (rare, done by swizzling) leaves one small table behind.

use crate::selector::Sel;
use std::ffi::{c_char, c_void};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// The address of a method's function.
pub type Imp = *const c_void;

struct Entry {
    sel: AtomicPtr<c_char>,
    imp: AtomicPtr<c_void>,
}

struct Table {
    entries: Box<[Entry]>,
    used: AtomicUsize,
}

impl Table {
    fn leaked(slots: usize) -> &'static Table {
        let entries = (0..slots)
            .map(|_| Entry {
                sel: AtomicPtr::new(ptr::null_mut()),
                imp: AtomicPtr::new(ptr::null_mut()),
            })
            .collect();
        Box::leak(Box::new(Table {
            entries,
            used: AtomicUsize::new(0),
        }))
    }

    fn has_room(&self) -> bool {
        self.used.load(Ordering::Relaxed) * 4 < self.entries.len() * 3
    }

    fn filled(&self) -> impl Iterator<Item = (Sel, Imp)> {
        self.entries.iter().filter_map(|entry| {
            let sel = Sel::from_cached(entry.sel.load(Ordering::Relaxed))?;
            Some((sel, entry.imp.load(Ordering::Relaxed).cast_const()))
        })
    }

    fn insert(&self, sel: Sel, imp: Imp) {
        let mask = self.entries.len() - 1;
        let mut slot = hash(sel) & mask;
        loop {
            let entry = &self.entries[slot];
            let held = entry.sel.load(Ordering::Relaxed);
            if held.is_null() {
                entry.imp.store(imp.cast_mut(), Ordering::Relaxed);
                entry.sel.store(sel.as_ptr().cast_mut(), Ordering::Release);
                self.used.fetch_add(1, Ordering::Relaxed);
                return;
            }
            if ptr::eq(held, sel.as_ptr()) {
                return;
            }
            slot = (slot + 1) & mask;
        }
    }
}

#[inline]
fn hash(sel: Sel) -> usize {
    let address = sel.as_ptr() as usize;
    (address >> 4) ^ (address >> 11)
}

/// A class's cache; empty until the first message.
pub struct MethodCache(AtomicPtr<Table>);

impl MethodCache {
    /// A cache without entries.
    pub const fn empty() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    fn table(&self) -> Option<&'static Table> {
        // SAFETY: null, or a published table, which is never freed (module documentation).
        unsafe { self.0.load(Ordering::Acquire).as_ref() }
    }

    /// The cached function for `sel`, or null.
    #[inline]
    pub fn get(&self, sel: Sel) -> Imp {
        let Some(table) = self.table() else {
            return ptr::null();
        };
        let mask = table.entries.len() - 1;
        let mut slot = hash(sel) & mask;
        loop {
            // The table is never full, so a probe ends at an empty slot.
            // SAFETY: `mask` keeps the index below the power-of-two length.
            let entry = unsafe { table.entries.get_unchecked(slot) };
            let held = entry.sel.load(Ordering::Acquire);
            if ptr::eq(held, sel.as_ptr()) {
                return entry.imp.load(Ordering::Relaxed);
            }
            if held.is_null() {
                return ptr::null();
            }
            slot = (slot + 1) & mask;
        }
    }

    /// Adds an entry. The caller holds the class's lock, so there is one writer.
    pub fn insert(&self, sel: Sel, imp: Imp) {
        match self.table() {
            Some(table) if table.has_room() => table.insert(sel, imp),
            full => {
                let grown = Table::leaked(full.map_or(16, |table| table.entries.len() * 2));
                for (sel, imp) in full.into_iter().flat_map(Table::filled) {
                    grown.insert(sel, imp);
                }
                grown.insert(sel, imp);
                self.0
                    .store(ptr::from_ref(grown).cast_mut(), Ordering::Release);
            }
        }
    }

    /// Forgets every entry. The caller holds the class's lock.
    pub fn clear(&self) {
        self.0.store(ptr::null_mut(), Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;

    fn numbered(n: usize) -> Sel {
        Sel::new(&CString::new(format!("method{n}:")).unwrap())
    }

    #[test]
    fn keeps_every_entry_while_it_grows() {
        let cache = MethodCache::empty();
        for n in 1..200 {
            cache.insert(numbered(n), n as Imp);
            for m in 1..=n {
                assert_eq!(cache.get(numbered(m)), m as Imp);
            }
            assert!(cache.get(numbered(n + 1000)).is_null());
        }
    }

    #[test]
    fn readers_see_whole_entries_while_a_writer_adds() {
        let cache = MethodCache::empty();
        let sels: Vec<Sel> = (0..500).map(numbered).collect();
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        for (n, sel) in sels.iter().enumerate() {
                            let imp = cache.get(*sel) as usize;
                            assert!(imp == 0 || imp == n + 1, "{imp} for method {n}");
                        }
                    }
                });
            }
            scope.spawn(|| {
                for (n, sel) in sels.iter().enumerate() {
                    cache.insert(*sel, (n + 1) as Imp);
                }
            });
        });
    }
}
