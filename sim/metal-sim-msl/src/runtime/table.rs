//! The functions that compiled kernels call. They are thin: each takes the current threadgroup, does its part on it, and
//! switches to another lane if the calling one has to wait.
//!
//! A place in a kernel is known by the return address of the call, which Rust does not tell; so those that need it are
//! a few instructions that put it, and the stack pointer, into the arguments after the declared ones.

use crate::abi::{self, Runtime, Thread, Variable};
use crate::detect::Access;
use crate::runtime::threadgroup::{self, Stop, Threadgroup, current};
use std::arch::naked_asm;
use std::ffi::c_void;
use std::ptr::{null, null_mut};

/// The table, for kernels with or without the detector's callbacks.
pub static RUNTIME: Runtime = Runtime {
    abi: abi::ABI,
    self_: self_thread,
    exchange,
    simdgroup_barrier,
    threadgroup_barrier,
    threadgroup_variable,
    threadgroup_argument,
    access,
    atomic,
    fence,
};

/// A repeated read is more likely to be a wait than a repeated change. After 2^32 by this weight with nothing else
/// happening, nobody will ever change what the lanes wait for.
const READ_WEIGHT: u32 = 256;
/// After so much, a lane lets others run: it may be waiting for one of them.
const SPINS: u32 = 64 * READ_WEIGHT;

unsafe extern "C" fn self_thread() -> *const Thread {
    let this = current();
    // SAFETY: kernels run in a threadgroup; its threads do not move while it runs.
    unsafe { &raw const (&(*this).threads)[(*this).running as usize] }
}

#[unsafe(naked)]
unsafe extern "C" fn exchange(
    value: *const c_void,
    size: u32,
    all: *mut c_void,
    width: u32,
) -> u32 {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov r8, [rsp]", "mov r9, rsp", "jmp {}", sym exchange_at);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x4, x30", "mov x5, sp", "b {}", sym exchange_at)
}

#[unsafe(naked)]
unsafe extern "C" fn simdgroup_barrier(flags: u32) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov rsi, [rsp]", "mov rdx, rsp", "jmp {}", sym simdgroup_barrier_at);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x1, x30", "mov x2, sp", "b {}", sym simdgroup_barrier_at)
}

#[unsafe(naked)]
unsafe extern "C" fn threadgroup_barrier(flags: u32) {
    #[cfg(target_arch = "x86_64")]
    naked_asm!("mov rsi, [rsp]", "mov rdx, rsp", "jmp {}", sym threadgroup_barrier_at);
    #[cfg(target_arch = "aarch64")]
    naked_asm!("mov x1, x30", "mov x2, sp", "b {}", sym threadgroup_barrier_at)
}

unsafe extern "C" fn exchange_at(
    value: *const c_void,
    size: u32,
    all: *mut c_void,
    width: u32,
    site: usize,
    stack_pointer: usize,
) -> u32 {
    let this = current();
    // SAFETY: called by a kernel, on the fiber of the running lane; `value` and `all` stay until it goes on.
    unsafe {
        let me = (*this).running as usize;
        (*this).arrive(site, stack_pointer, 0);
        let give = |lane: &mut threadgroup::Lane| {
            (lane.value, lane.all, lane.size) =
                (value.cast(), all.cast(), (size as usize).min(abi::EXCHANGE));
        };
        (*this).arrive_simd(give, width);
        threadgroup::suspend(this);
        (&(*this).lanes)[me].met
    }
}

unsafe extern "C" fn simdgroup_barrier_at(flags: u32, site: usize, stack_pointer: usize) {
    let this = current();
    // SAFETY: called by a kernel, on the fiber of the running lane.
    unsafe {
        // Its address tells a barrier from an exchange.
        (*this).arrive(site, stack_pointer, flags | BARRIER);
        let nothing = |lane: &mut threadgroup::Lane| {
            (lane.value, lane.all, lane.size) = (null(), null_mut(), 0)
        };
        (*this).arrive_simd(nothing, abi::SIMD);
        threadgroup::suspend(this);
    }
}

/// In a lane's flags: it meets the others for the order of memory, not for values.
pub const BARRIER: u32 = 1 << 31;

unsafe extern "C" fn threadgroup_barrier_at(flags: u32, site: usize, stack_pointer: usize) {
    let this = current();
    // SAFETY: called by a kernel, on the fiber of the running lane.
    unsafe {
        (*this).arrive(site, stack_pointer, flags | BARRIER);
        (*this).arrive_barrier();
        threadgroup::suspend(this);
    }
}

unsafe extern "C" fn threadgroup_variable(variable: *const Variable) -> *mut c_void {
    let this = current();
    // SAFETY: called by a kernel with a static of its library.
    unsafe {
        match (*this).memory.variable(variable) {
            Some(place) => place.cast(),
            None => stop(this, Stop::Memory),
        }
    }
}

unsafe extern "C" fn threadgroup_argument(index: u32) -> *mut c_void {
    let this = current();
    // SAFETY: called by a kernel.
    unsafe {
        match (*this).memory.argument(index) {
            Some(place) => place.cast(),
            None => stop(this, Stop::Argument { index }),
        }
    }
}

unsafe extern "C" fn access(at: *const c_void, size: u64, kind: u32, pc: *const c_void) {
    let this = current();
    if this.is_null() {
        return; // The library's own functions are checked like kernels.
    }
    // SAFETY: called by a kernel; the detector is the threadgroup's own.
    unsafe {
        let Threadgroup {
            detector: Some(detector),
            memory,
            stacks,
            running,
            ..
        } = &mut *this
        else {
            return;
        };
        let access = Access {
            at: at.addr(),
            size: size as usize,
            kind,
            pc: pc.addr(),
            lane: *running,
        };
        if !detector.access(access, memory, stacks) {
            stop(this, Stop::Findings);
        }
    }
}

unsafe extern "C" fn atomic(
    at: *const c_void,
    size: u32,
    kind: u32,
    order: u32,
    pc: *const c_void,
) {
    let this = current();
    if this.is_null() {
        return;
    }
    // SAFETY: called by a kernel, on the fiber of the running lane.
    unsafe {
        let me = (*this).running;
        let weight = if kind == abi::READ { READ_WEIGHT } else { 1 };
        let spins = (*this).spin(at.addr(), weight);
        if spins == u32::MAX && (*this).alone {
            stop(this, Stop::Spinning { site: pc.addr() });
        }
        if spins % SPINS >= SPINS - weight && (*this).ready.step_back(me) {
            threadgroup::suspend(this);
        }
        // Last: what the detector is told here, the kernel does next, and nobody else comes in between.
        if let Threadgroup {
            detector: Some(detector),
            memory,
            stacks,
            ..
        } = &mut *this
        {
            let access = Access {
                at: at.addr(),
                size: size as usize,
                kind,
                pc: pc.addr(),
                lane: me,
            };
            if !detector.atomic(access, order, memory, stacks) {
                stop(this, Stop::Findings);
            }
        }
    }
}

unsafe extern "C" fn fence(_: u32, order: u32, _: *const c_void) {
    let this = current();
    // SAFETY: called by a kernel.
    unsafe {
        if let Threadgroup {
            detector: Some(detector),
            running,
            ..
        } = &mut *this
        {
            detector.fence(order, *running);
        }
    }
}

/// # Safety
/// As for [`threadgroup::suspend`].
pub unsafe fn stop(this: *mut Threadgroup, why: Stop) -> ! {
    // SAFETY: as the caller says.
    unsafe {
        (*this).stop(why);
        threadgroup::leave(this)
    }
}
