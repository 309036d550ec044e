//! How work is divided among the threads of rayon's pool.
//!
//! Parts are static and equal: rows of these ops cost the same, so stealing would only add
//! synchronisation. The calling thread does the first part itself, which spares one wake-up, and work
//! below an op's break-even stays on it altogether. Nothing spins beyond what rayon does.
//!
//! Results do not depend on the number of threads: where an op sums over rows, it sums over blocks
//! whose bounds depend on the shape only, and adds the blocks up in order.

use std::{
    cell::Cell,
    ops::Range,
    sync::{Mutex, OnceLock},
};

thread_local! {
    static FORCED: Cell<usize> = const { Cell::new(0) };
}

/// The number of threads that large work is divided among: that of rayon's pool, read once.
///
/// Candle asks for it on every matmul, and without `RAYON_NUM_THREADS` that reads `/proc/cpuinfo`.
pub fn count() -> usize {
    static COUNT: OnceLock<usize> = OnceLock::new();
    match FORCED.get() {
        0 => *COUNT.get_or_init(rayon::current_num_threads),
        forced => forced,
    }
}

/// Runs `f` with exactly `threads` (at least 1) for ops that this thread calls, also where their work
/// is too small for it to pay: to find out where it does, and to show that results stay the same.
pub fn with_count<R>(threads: usize, f: impl FnOnce() -> R) -> R {
    struct Restore(usize);
    impl Drop for Restore {
        fn drop(&mut self) {
            FORCED.set(self.0);
        }
    }
    let _restore = Restore(FORCED.replace(threads.max(1)));
    f()
}

/// The number of parts for `work` units when a part of fewer than `least` is not worth a thread.
///
/// Handing a part over and waiting for it cost 11 µs in a loop of nothing else, where the other thread has
/// hardly gone to sleep, and 25 to 35 µs between calls of a model on a virtual machine, where it has:
/// softmax of 128x1024 took one thread 30 µs and two 45, its backward 44 and 58. So each op's `least` is
/// what one thread does in about 30 µs: two threads then lose nothing.
pub fn parts(work: usize, least: usize) -> usize {
    let least = if FORCED.get() == 0 { least.max(1) } else { 1 };
    (work / least).clamp(1, count())
}

/// The `part`-th of `parts` equal ranges of `0..total`; the first ones are longer by one.
pub fn part(total: usize, parts: usize, part: usize) -> Range<usize> {
    let (each, more) = (total / parts, total % parts);
    let start = part * each + part.min(more);
    start..start + each + usize::from(part < more)
}

/// Runs `f(0)`, …, `f(parts - 1)`: the first on this thread, the others on the pool.
pub fn run(parts: usize, f: impl Fn(usize) + Sync) {
    if parts <= 1 {
        return f(0);
    }
    shared(parts, &f);
}

/// [`run`] for several parts: one function for all `f`, whose calls cost nothing beside a wake-up.
fn shared(parts: usize, f: &(dyn Fn(usize) + Sync)) {
    rayon::in_place_scope(|scope| {
        for part in 1..parts {
            scope.spawn(move |_| f(part));
        }
        f(0);
    });
}

/// Divides `items` (one per part) and runs `f` on each with its index, as [`run`] does.
pub fn run_with<I: Send>(items: Vec<I>, f: impl Fn(usize, I) + Sync) {
    let mut items = items.into_iter().enumerate();
    let Some((_, first)) = items.next() else {
        return;
    };
    if items.len() == 0 {
        return f(0, first);
    }
    // Each part takes its item.
    let items: Vec<_> = std::iter::once(first)
        .chain(items.map(|(_, item)| item))
        .map(|item| Mutex::new(Some(item)))
        .collect();
    shared(items.len(), &|part| {
        let item = items[part].lock().map_or(None, |mut item| item.take());
        if let Some(item) = item {
            f(part, item);
        }
    });
}

/// Divides `out`, rows of `width` elements, into `parts` and runs `f` with the rows' numbers and their
/// elements. Elements beyond the last whole row belong to no part.
pub fn rows<T: Send>(
    out: &mut [T],
    width: usize,
    parts: usize,
    f: impl Fn(Range<usize>, &mut [T]) + Sync,
) {
    let total = out.len().checked_div(width).unwrap_or(0);
    if parts <= 1 {
        return f(0..total, &mut out[..total * width]);
    }
    let mut items = Vec::with_capacity(parts);
    let mut rest = out;
    for index in 0..parts {
        let range = part(total, parts, index);
        let (mine, others) = rest.split_at_mut(range.len() * width);
        rest = others;
        items.push((range, mine));
    }
    run_with(items, |_, (range, mine)| f(range, mine));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn parts_cover_everything_once() {
        for total in [0, 1, 5, 64, 101] {
            for parts in 1..9 {
                let all: Vec<_> = (0..parts)
                    .flat_map(|index| part(total, parts, index))
                    .collect();
                assert_eq!(all, (0..total).collect::<Vec<_>>(), "{total} in {parts}");
            }
        }
    }

    #[test]
    fn small_work_has_one_part() {
        assert_eq!([0, 99, 100].map(|work| parts(work, 100)), [1, 1, 1]);
        assert_eq!(parts(usize::MAX, 100), count());
        assert_eq!(
            with_count(4, || [0, 1, 3, 99].map(|work| parts(work, 100))),
            [1, 1, 3, 4]
        );
    }

    #[test]
    fn every_part_runs_once() {
        for parts in [1, 2, 7] {
            let ran = AtomicUsize::new(0);
            run(parts, |index| {
                ran.fetch_add(1 << (8 * index), Ordering::Relaxed);
            });
            assert_eq!(
                ran.into_inner(),
                (0..parts).map(|index| 1 << (8 * index)).sum()
            );
            let ran = AtomicUsize::new(0);
            run_with((0..parts).collect(), |index, item: usize| {
                assert_eq!(index, item);
                ran.fetch_add(1 << (8 * item), Ordering::Relaxed);
            });
            assert_eq!(
                ran.into_inner(),
                (0..parts).map(|index| 1 << (8 * index)).sum()
            );
        }
    }

    #[test]
    fn rows_reach_their_place() {
        for parts in [1, 2, 3, 8] {
            let mut out = vec![0; 5 * 3];
            rows(&mut out, 3, parts, |range, rows| {
                for (row, elements) in range.zip(rows.chunks_mut(3)) {
                    elements.fill(row + 1);
                }
            });
            let expected: Vec<_> = (0..15).map(|at| at / 3 + 1).collect();
            assert_eq!(out, expected);
        }
    }

    #[test]
    fn the_count_is_restored() {
        let before = count();
        with_count(3, || with_count(0, || assert_eq!(count(), 1)));
        assert_eq!(count(), before);
    }
}
