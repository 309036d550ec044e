//! What atomic functions and fences order: a release of one thread, and everything before it, before the acquire of
//! another that read what the first wrote.

use crate::abi;
use crate::detect::clock::Clock;
use crate::detect::knowledge::Knowledge;
use crate::detect::shadow::Deed;
use std::collections::HashMap;
use std::sync::Arc;

type Known = Option<Arc<Knowledge>>;

/// What is released at which address, and what fences wait for.
#[derive(Default)]
pub struct Atomics {
    released: HashMap<usize, Arc<Knowledge>>,
    /// By lane: what its release fence releases with the next atomic write.
    fenced: HashMap<u32, Arc<Knowledge>>,
    /// By lane: what it read without acquiring, for an acquire fence after it.
    pending: HashMap<u32, Arc<Knowledge>>,
}

fn acquires(order: u32) -> bool {
    matches!(order, abi::ACQUIRE | abi::ACQ_REL | abi::SEQ_CST)
}

fn releases(order: u32) -> bool {
    matches!(order, abi::RELEASE | abi::ACQ_REL | abi::SEQ_CST)
}

fn join(one: Known, other: Known) -> Known {
    match (one, other) {
        (Some(one), Some(other)) => Some(Knowledge::join(one, other)),
        (one, other) => one.or(other),
    }
}

impl Atomics {
    /// Fences are of a threadgroup's lanes; what was released stays for the next threadgroups.
    pub fn begin_threadgroup(&mut self) {
        self.fenced.clear();
        self.pending.clear();
    }

    /// Threadgroup memory is new.
    pub fn forget(&mut self, addresses: std::ops::Range<usize>) {
        self.released.retain(|at, _| !addresses.contains(at));
    }

    pub fn access(&mut self, clock: &mut Clock, at: usize, lane: u32, deed: Deed, order: u32) {
        let released = self.released.get(&at).filter(|_| deed.reads).cloned();
        if released.is_some() && !acquires(order) {
            let pending = join(self.pending.remove(&lane), released);
            self.pending.extend(pending.map(|known| (lane, known)));
        } else if let Some(released) = released {
            clock.acquire(lane, released);
        }
        if deed.writes {
            let mine = if releases(order) {
                Some(clock.release(lane))
            } else {
                self.fenced.get(&lane).cloned()
            };
            // An exchange continues what others released there; a store begins anew.
            let before = self.released.remove(&at).filter(|_| deed.reads);
            self.released
                .extend(join(before, mine).map(|known| (at, known)));
        }
    }

    pub fn fence(&mut self, clock: &mut Clock, lane: u32, order: u32) {
        let pending = if acquires(order) {
            self.pending.remove(&lane)
        } else {
            None
        };
        if let Some(pending) = pending {
            clock.acquire(lane, pending);
        }
        if releases(order) {
            self.fenced.insert(lane, clock.release(lane));
        }
    }
}
