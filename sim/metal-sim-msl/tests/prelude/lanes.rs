//! The smallest runtime: lanes are OS threads that wait for each other, as many as a test says are active. A thread
//! that belongs to no group is a group of its own.

use std::{
    cell::{Cell, RefCell},
    ffi::c_void,
    ptr, slice,
    sync::{Arc, Barrier, Mutex},
    thread,
};

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Thread {
    positions: [[u32; 3]; 7],
    thread_index_in_threadgroup: u32,
    thread_index_in_simdgroup: u32,
    simdgroup_index_in_threadgroup: u32,
    simdgroups_per_threadgroup: u32,
    threads_per_simdgroup: u32,
}

#[repr(C)]
pub struct Runtime {
    pub abi: u32,
    pub self_: extern "C" fn() -> *const Thread,
    pub exchange: unsafe extern "C" fn(*const c_void, u32, *mut c_void, u32) -> u32,
    pub simdgroup_barrier: extern "C" fn(u32),
    pub threadgroup_barrier: extern "C" fn(u32),
    pub threadgroup_variable: extern "C" fn(*const c_void) -> *mut c_void,
    pub threadgroup_argument: extern "C" fn(u32) -> *mut c_void,
    pub access: extern "C" fn(*const c_void, u64, u32, *const c_void),
    pub atomic: Option<extern "C" fn(*const c_void, u32, u32, u32, *const c_void)>,
    pub fence: Option<extern "C" fn(u32, u32, *const c_void)>,
}

pub static RUNTIME: Runtime = Runtime {
    abi: 1,
    self_,
    exchange,
    simdgroup_barrier,
    threadgroup_barrier: simdgroup_barrier,
    threadgroup_variable: no_variable,
    threadgroup_argument: no_argument,
    access,
    atomic: Some(atomic),
    fence: Some(fence),
};

/// What the library reported on this thread, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    Access {
        at: usize,
        size: u64,
        kind: u32,
        pc: usize,
    },
    Atomic {
        at: usize,
        size: u32,
        kind: u32,
        order: u32,
    },
    Fence {
        flags: u32,
        order: u32,
    },
    Barrier {
        flags: u32,
    },
}

/// The lanes that meet: all active ones of a simdgroup, or of one of its quads.
struct Group {
    barrier: Barrier,
    values: Mutex<[[u8; 64]; 32]>,
}

struct Simdgroup {
    active: u32,
    all: Group,
    quads: Vec<Group>,
}

impl Group {
    fn of(active: u32) -> Self {
        Self {
            barrier: Barrier::new(active.count_ones() as usize),
            values: Mutex::new([[0; 64]; 32]),
        }
    }
}

thread_local! {
    static OWN: Cell<Thread> = const { Cell::new(Thread {
        positions: [[0; 3]; 7],
        thread_index_in_threadgroup: 0,
        thread_index_in_simdgroup: 0,
        simdgroup_index_in_threadgroup: 0,
        simdgroups_per_threadgroup: 1,
        threads_per_simdgroup: 32,
    }) };
    static SIMDGROUP: RefCell<Arc<Simdgroup>> = RefCell::new(Arc::new(simdgroup(1)));
    static REPORTS: RefCell<Vec<Report>> = const { RefCell::new(Vec::new()) };
}

fn simdgroup(active: u32) -> Simdgroup {
    let quads = (0..8)
        .map(|quad| Group::of(active >> (4 * quad) & 15))
        .collect();
    Simdgroup {
        active,
        all: Group::of(active),
        quads,
    }
}

/// Runs `lane` for each bit of `active`, all at once; results by lane, none where none ran.
pub fn run<R: Send>(active: u32, lane: impl Fn(u32) -> R + Sync) -> Vec<Option<R>> {
    let shared = Arc::new(simdgroup(active));
    thread::scope(|scope| {
        let threads: Vec<_> = (0..32)
            .map(|number| {
                let (shared, lane) = (Arc::clone(&shared), &lane);
                (active >> number & 1 == 1).then(|| {
                    scope.spawn(move || {
                        SIMDGROUP.set(shared);
                        OWN.set(Thread {
                            thread_index_in_threadgroup: number,
                            thread_index_in_simdgroup: number,
                            ..OWN.get()
                        });
                        lane(number)
                    })
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|t| t.map(|t| t.join().expect("lanes do not panic")))
            .collect()
    })
}

/// What was reported on this thread since the last call.
pub fn reports() -> Vec<Report> {
    REPORTS.take()
}

fn report(report: Report) {
    REPORTS.with_borrow_mut(|all| all.push(report));
}

extern "C" fn self_() -> *const Thread {
    OWN.with(Cell::as_ptr)
}

unsafe extern "C" fn exchange(
    value: *const c_void,
    size: u32,
    all: *mut c_void,
    width: u32,
) -> u32 {
    assert!(size <= 64 && (width == 32 || width == 4));
    let shared = SIMDGROUP.with_borrow(Arc::clone);
    let lane = OWN.get().thread_index_in_simdgroup;
    let first = lane / width * width;
    let group = if width == 32 {
        &shared.all
    } else {
        &shared.quads[(lane / 4) as usize]
    };
    let size = size as usize;
    // SAFETY: the caller, the prelude, gives the address of a value of this size.
    let value = unsafe { slice::from_raw_parts(value.cast::<u8>(), size) };
    group.values.lock().expect("nobody panics with it")[lane as usize][..size]
        .copy_from_slice(value);
    group.barrier.wait();
    let values = *group.values.lock().expect("nobody panics with it");
    group.barrier.wait();
    let active = shared.active >> first & if width == 32 { !0 } else { 15 };
    // SAFETY: the prelude gives room for `width` values of this size.
    let all = unsafe { slice::from_raw_parts_mut(all.cast::<u8>(), size * width as usize) };
    for (i, place) in all.chunks_mut(size).enumerate() {
        if active >> i & 1 == 1 {
            place.copy_from_slice(&values[first as usize + i][..size]);
        } else {
            place.fill(0);
        }
    }
    active
}

extern "C" fn simdgroup_barrier(flags: u32) {
    report(Report::Barrier { flags });
    SIMDGROUP.with_borrow(Arc::clone).all.barrier.wait();
}

extern "C" fn no_variable(_: *const c_void) -> *mut c_void {
    ptr::null_mut()
}

extern "C" fn no_argument(_: u32) -> *mut c_void {
    ptr::null_mut()
}

extern "C" fn access(at: *const c_void, size: u64, kind: u32, pc: *const c_void) {
    report(Report::Access {
        at: at as usize,
        size,
        kind,
        pc: pc as usize,
    });
}

extern "C" fn atomic(at: *const c_void, size: u32, kind: u32, order: u32, _: *const c_void) {
    report(Report::Atomic {
        at: at as usize,
        size,
        kind,
        order,
    });
}

extern "C" fn fence(flags: u32, order: u32, _: *const c_void) {
    report(Report::Fence { flags, order });
}
