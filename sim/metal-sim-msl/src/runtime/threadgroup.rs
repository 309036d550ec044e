//! One threadgroup: its lanes, who of them waits where, and who goes on. A lane that has to wait takes the next one that
//! is ready and switches to it directly; only when none is left does the OS thread get its own stack back.
//!
//! A lane has a stack from when it first runs until it ends, so a kernel without barriers runs on one stack throughout.

use crate::abi;
use crate::detect::Detector;
use crate::dispatch::Schedule;
use crate::runtime::fiber::{self, Suspended};
use crate::runtime::memory::Memory;
use crate::runtime::ready::Ready;
use crate::runtime::simdgroup::Simdgroup;
use crate::runtime::stack::Stacks;
use std::cell::Cell;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

thread_local! {
    /// The threadgroup that this OS thread runs.
    static CURRENT: Cell<*mut Threadgroup> = const { Cell::new(null_mut()) };
}

/// The running threadgroup, or null.
#[inline]
pub fn current() -> *mut Threadgroup {
    CURRENT.get()
}

/// What a lane waits for, and where.
#[derive(Clone, Copy)]
pub struct Lane {
    pub(super) saved: Suspended,
    pub(super) stack: Option<u32>,
    /// Where it meets the others: the return address.
    pub site: usize,
    /// How deep in calls it is there, in bytes of stack.
    pub depth: usize,
    pub flags: u32,
    pub(super) value: *const u8,
    pub(super) all: *mut u8,
    pub(super) size: usize,
    /// Who met.
    pub(super) met: u32,
    /// The address of its last atomic operation.
    spins_at: usize,
}

impl Lane {
    const NEW: Self = Self {
        saved: null_mut(),
        stack: None,
        site: 0,
        depth: 0,
        flags: 0,
        value: null(),
        all: null_mut(),
        size: 0,
        met: 0,
        spins_at: 0,
    };
}

/// Why a threadgroup did not come to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The detector saw an access that must not be made.
    Findings,
    /// A lane waits for memory that nobody is left to change.
    Spinning { site: usize },
    /// Threadgroup memory beyond the limit.
    Memory,
    /// A threadgroup argument that has no length.
    Argument { index: u32 },
    /// The kernel accessed memory that is not there, or divided by zero.
    Fault {
        address: Option<usize>,
        site: usize,
        overflow: bool,
    },
}

/// Who goes on: the OS thread, a lane that waited, or one that did not run yet.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Host,
    Lane(Suspended),
    New,
}

/// What a kernel is called with.
#[derive(Clone, Copy)]
pub struct Call {
    pub entry: abi::Entry,
    pub buffers: *const *mut c_void,
}

/// The state of an OS thread that runs threadgroups, one after the other.
pub struct Threadgroup {
    pub lanes: Vec<Lane>,
    pub threads: Vec<abi::Thread>,
    pub simdgroups: Vec<Simdgroup>,
    pub memory: Memory,
    pub stacks: Stacks,
    pub detector: Option<Box<Detector>>,
    pub(super) ready: Ready,
    pub(super) running: u32,
    pub(super) live: u32,
    pub(super) at_barrier: u32,
    call: Option<Call>,
    /// Stacks that no lane has.
    free: Vec<u32>,
    /// What lanes that meet give each other.
    pub(super) values: Vec<u8>,
    /// The OS thread's own stack, while lanes run.
    pub(super) host: Suspended,
    stop: Option<Stop>,
    spins: u32,
    /// Nobody else can change memory while this threadgroup runs.
    pub alone: bool,
}

// SAFETY: the pointers in it lead to its own stacks and to memory of the dispatch; it is used by one thread at a time.
unsafe impl Send for Threadgroup {}

impl Threadgroup {
    pub fn new() -> Self {
        Self {
            lanes: Vec::new(),
            threads: Vec::new(),
            simdgroups: Vec::new(),
            memory: Memory::new(),
            stacks: Stacks::default(),
            detector: None,
            ready: Ready::new(),
            running: 0,
            live: 0,
            at_barrier: 0,
            call: None,
            free: Vec::new(),
            values: Vec::new(),
            host: null_mut(),
            stop: None,
            spins: 0,
            alone: true,
        }
    }

    /// Runs the threads in `self.threads` to their end, or until something stops them.
    ///
    /// # Safety
    /// `this` is not in use by anyone else and has stacks for its threads, and `call` is a kernel with the buffers it may be called with.
    pub unsafe fn run(
        this: *mut Self,
        call: Call,
        schedule: Schedule,
        number: u64,
    ) -> Option<Stop> {
        // SAFETY: exclusive, as the caller says; no reference is held across the switch.
        unsafe {
            (*this).begin(call, schedule, number);
            let outer = CURRENT.replace(this);
            let first = (*this).next();
            let first = (*this).place(first);
            fiber::switch(&raw mut (*this).host, first);
            CURRENT.set(outer);
            (*this).stop
        }
    }

    fn begin(&mut self, call: Call, schedule: Schedule, number: u64) {
        let count = self.threads.len() as u32;
        self.lanes.clear();
        self.lanes.resize(count as usize, Lane::NEW);
        self.simdgroups.clear();
        self.simdgroups
            .extend((0..count.div_ceil(abi::SIMD)).map(|index| Simdgroup::new(index, count)));
        self.memory.begin_threadgroup();
        self.call = Some(call);
        self.stop = None;
        (self.live, self.at_barrier) = (count, 0);
        // From the highest, so that the first stacks are taken first; none is in use.
        self.free.clear();
        self.free.extend((0..count).rev());
        self.ready.begin(schedule, number);
        self.ready.release(0..count);
        if let Some(detector) = &mut self.detector {
            detector.begin_threadgroup(&self.threads, number, self.memory.address());
        }
    }

    /// Who goes on.
    fn next(&mut self) -> Next {
        let Some(lane) = self.ready.next() else {
            return Next::Host;
        };
        self.running = lane;
        if let Some(detector) = &mut self.detector {
            detector.enter(lane);
        }
        let lane = &self.lanes[lane as usize];
        if lane.stack.is_some() {
            Next::Lane(lane.saved)
        } else {
            Next::New
        }
    }

    /// Where that is, from a stack that stays in use: a new lane gets one of its own.
    fn place(&mut self, next: Next) -> Suspended {
        match next {
            Next::Host => self.host,
            Next::Lane(saved) => saved,
            Next::New => {
                // There are as many stacks as lanes, so one is free.
                let stack = self.free.pop().unwrap_or_default();
                self.lanes[self.running as usize].stack = Some(stack);
                // SAFETY: the stack is nobody's, and `run_lanes` takes what it needs from the current threadgroup.
                unsafe { fiber::prepare(self.stacks.top(stack as usize), run_lanes, null_mut()) }
            }
        }
    }

    /// The running lane's end, as far as the others are concerned.
    fn finish(&mut self) {
        let simdgroup = self.running / abi::SIMD;
        self.live -= 1;
        self.spins = 0;
        self.simdgroups[simdgroup as usize].leave(self.running % abi::SIMD);
        self.settle(simdgroup as usize);
    }

    /// Ends the run. The lanes are left where they are: kernels own nothing that must be given back.
    pub fn stop(&mut self, stop: Stop) {
        self.stop.get_or_insert(stop);
    }

    /// The number of bytes between the top of the running lane's stack and `stack_pointer`.
    fn depth(&self, stack_pointer: usize) -> usize {
        let stack = self.lanes[self.running as usize].stack.unwrap_or_default();
        self.stacks
            .top(stack as usize)
            .addr()
            .wrapping_sub(stack_pointer)
    }

    /// The running lane makes an atomic operation. Many in which every lane only repeats itself are lanes that wait for
    /// each other; those that only read weigh more.
    pub(super) fn spin(&mut self, at: usize, weight: u32) -> u32 {
        let lane = &mut self.lanes[self.running as usize];
        self.spins = if lane.spins_at == at {
            self.spins.saturating_add(weight)
        } else {
            0
        };
        lane.spins_at = at;
        self.spins
    }

    /// The running lane comes to a place where it meets others.
    pub(super) fn arrive(&mut self, site: usize, stack_pointer: usize, flags: u32) {
        let depth = self.depth(stack_pointer);
        let lane = &mut self.lanes[self.running as usize];
        (lane.site, lane.depth, lane.flags) = (site, depth, flags);
        self.spins = 0;
    }
}

/// The running lane waits; others run until it is ready.
///
/// # Safety
/// Called on a lane's fiber, with `this` the current threadgroup and no reference into it.
pub unsafe fn suspend(this: *mut Threadgroup) {
    // SAFETY: as the caller says. Switching is the only thing that lets others at the threadgroup.
    unsafe {
        let me = (*this).running;
        let next = (*this).next();
        if (*this).running == me && next != Next::Host {
            return; // It was made ready at once, and is next.
        }
        let to = (*this).place(next);
        fiber::switch(&raw mut (&mut (*this).lanes)[me as usize].saved, to);
    }
}

/// Leaves the run for good.
///
/// # Safety
/// As for [`suspend`]; the fiber is not continued.
pub unsafe fn leave(this: *mut Threadgroup) -> ! {
    let mut forgotten = null_mut();
    // SAFETY: the host waits in `run`.
    unsafe { fiber::switch(&raw mut forgotten, (*this).host) };
    unreachable!("nobody continues a fiber that left")
}

/// A fiber: runs its lane, and then, on the same stack, those that are next as long as they are new.
unsafe extern "C" fn run_lanes(_: *mut c_void) -> ! {
    let this = current();
    loop {
        // SAFETY: the threadgroup runs, so it and its call are there; references end before the kernel is entered.
        unsafe {
            let lane = (*this).running as usize;
            if let Some(call) = (*this).call {
                (call.entry)(call.buffers, &raw const (&(*this).threads)[lane]);
            }
            (*this).finish();
            let stack = (&mut (*this).lanes)[lane].stack.take();
            let next = (*this).next();
            if next == Next::New {
                let lane = (*this).running as usize;
                (&mut (*this).lanes)[lane].stack = stack;
                continue;
            }
            (*this).free.extend(stack);
            let to = (*this).place(next);
            let mut forgotten = null_mut();
            fiber::switch(&raw mut forgotten, to);
            unreachable!("nobody continues a lane that ended");
        }
    }
}
