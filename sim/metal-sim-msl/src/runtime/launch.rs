//! Runs a grid: its threadgroups one after the other, or several at once on OS threads. What a thread needs to run
//! threadgroups, stacks above all, is kept for the next dispatch.

use crate::detect::Detector;
use crate::dispatch::Schedule;
use crate::runtime::fault;
use crate::runtime::ready::Order;
use crate::runtime::shape::Shape;
use crate::runtime::threadgroup::{Call, Stop, Threadgroup};
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

/// More would not fit into the mappings a process may have: two for each of their stacks.
const OS_THREADS: usize = 16;
/// Below so many GPU threads, starting an OS thread takes longer than it saves.
const WORTH_A_THREAD: u64 = 4096;

static IDLE: Mutex<Vec<Threadgroup>> = Mutex::new(Vec::new());

/// A dispatch, checked and ready to run.
pub struct Launch<'a> {
    pub call: Call,
    pub shape: Shape,
    pub schedule: Schedule,
    pub os_threads: usize,
    /// By index of `[[threadgroup(index)]]`; together within the limit.
    pub threadgroup_memory: &'a [usize],
}

// SAFETY: the pointers in a call are to the buffers of the dispatch, which whoever dispatches keeps until its end.
unsafe impl Sync for Launch<'_> {}

/// What came of it.
pub struct Ran {
    pub stop: Option<Stop>,
    pub detector: Option<Box<Detector>>,
}

impl Launch<'_> {
    /// Runs it to its end, or until something stops it. With a detector, on this OS thread alone.
    ///
    /// # Safety
    /// The call is a kernel with buffers that it may use; a kernel is trusted as much as any other code.
    pub unsafe fn run(&self, detector: Option<Box<Detector>>) -> io::Result<Ran> {
        let count = self.shape.group_count();
        let lanes = self
            .shape
            .threads
            .iter()
            .map(|&axis| u64::from(axis))
            .product::<u64>();
        let worth = (count * lanes / WORTH_A_THREAD).min(count) as usize;
        let os_threads = if detector.is_some() {
            1
        } else {
            self.os_threads.min(worth).clamp(1, OS_THREADS)
        };

        let mut workers = (0..os_threads)
            .map(|_| self.worker(lanes as usize))
            .collect::<io::Result<Vec<_>>>()?;
        for worker in &mut workers {
            worker.alone = os_threads == 1;
        }
        workers[0]
            .memory
            .begin_dispatch(self.threadgroup_memory, detector.is_some());
        workers[0].detector = detector;
        let (next, stopped) = (AtomicU64::new(0), AtomicBool::new(false));
        let (first, others) = workers.split_at_mut(1);
        let stop = thread::scope(|scope| {
            let running: Vec<_> = others
                .iter_mut()
                .map(|worker| {
                    worker.memory.begin_dispatch(self.threadgroup_memory, false);
                    scope.spawn(|| {
                        // SAFETY: as the caller says.
                        unsafe { self.work(worker, &next, &stopped) }
                    })
                })
                .collect();
            // SAFETY: as the caller says.
            let mine = unsafe { self.work(&mut first[0], &next, &stopped) };
            let theirs = running
                .into_iter()
                .filter_map(|one| one.join().ok().flatten());
            theirs.fold(mine, |stop, other| stop.or(Some(other)))
        });
        let detector = workers[0].detector.take();
        IDLE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .append(&mut workers);
        Ok(Ran { stop, detector })
    }

    fn worker(&self, lanes: usize) -> io::Result<Threadgroup> {
        let idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut worker = idle.unwrap_or_else(Threadgroup::new);
        worker.stacks.ensure(lanes)?;
        // The detector takes the place of the threads as known.
        worker.threads.clear();
        worker.threads.reserve(lanes);
        Ok(worker)
    }

    unsafe fn work(
        &self,
        worker: &mut Threadgroup,
        next: &AtomicU64,
        stopped: &AtomicBool,
    ) -> Option<Stop> {
        fault::prepare();
        let count = self.shape.group_count();
        let order = Order::new(self.schedule, count);
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || stopped.load(Ordering::Relaxed) {
                return None;
            }
            let number = order.at(index);
            self.shape.fill(number, &mut worker.threads);
            // SAFETY: the worker is this thread's; the call is as the caller of `run` says.
            let stop = unsafe {
                Threadgroup::run(ptr::from_mut(worker), self.call, self.schedule, number)
            };
            if stop.is_some() {
                stopped.store(true, Ordering::Relaxed);
                return stop;
            }
        }
    }
}
