//! The switch between fibers: it saves what a function call must preserve and takes the same from another stack. It
//! costs a few nanoseconds; kernels switch at every barrier and at every simd operation, so this is what they wait for.
//!
//! Floating-point modes are not saved: kernels do not change them.

use std::arch::naked_asm;
use std::ffi::c_void;

/// Where a fiber that does not run goes on: its stack pointer.
pub type Suspended = *mut u8;

/// What a new fiber calls. It never returns: its last act is a [`switch`].
pub type Main = unsafe extern "C" fn(*mut c_void) -> !;

/// Words on a new stack: the registers that [`switch`] takes from it, and the address it returns to.
#[cfg(target_arch = "x86_64")]
const FRAME: usize = 7;
#[cfg(target_arch = "aarch64")]
const FRAME: usize = 20;

/// Makes a fiber that will call `main(argument)`.
///
/// # Safety
/// `top` is the end of a writable stack, aligned to 16.
pub unsafe fn prepare(top: *mut u8, main: Main, argument: *mut c_void) -> Suspended {
    // After the switch the stack pointer is `top` again, as aligned as a call wants it.
    let frame = top.cast::<usize>().wrapping_sub(FRAME);
    // SAFETY: as above.
    unsafe {
        frame.write_bytes(0, FRAME);
        #[cfg(target_arch = "x86_64")]
        {
            frame.add(3).write(argument.addr()); // r12
            frame.add(4).write(main as usize); // rbx
            frame.add(6).write(start as *const () as usize); // the return address
        }
        #[cfg(target_arch = "aarch64")]
        {
            frame.write(argument.addr()); // x19
            frame.add(1).write(main as usize); // x20
            frame.add(11).write(start as *const () as usize); // x30
        }
    }
    frame.cast()
}

/// Leaves the running fiber in `save` and goes on with `to`.
///
/// # Safety
/// `to` came from [`prepare`] or from a `switch` that saved it, its stack still exists, and it was not continued since.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut Suspended, to: Suspended) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbx",
        "pop rbp",
        "ret",
    )
}

#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!("mov rdi, r12", "call rbx", "ud2")
}

/// The second half of a [`switch`], for a signal handler that makes a thread continue here with the stack pointer of a
/// suspended fiber.
///
/// # Safety
/// As for `switch`, and only by jumping to it.
#[cfg(target_arch = "x86_64")]
#[unsafe(naked)]
pub unsafe extern "C" fn resume() {
    naked_asm!(
        "pop r15", "pop r14", "pop r13", "pop r12", "pop rbx", "pop rbp", "ret"
    )
}

/// Leaves the running fiber in `save` and goes on with `to`.
///
/// # Safety
/// `to` came from [`prepare`] or from a `switch` that saved it, its stack still exists, and it was not continued since.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn switch(save: *mut Suspended, to: Suspended) {
    naked_asm!(
        "sub sp, sp, #160",
        "stp x19, x20, [sp]",
        "stp x21, x22, [sp, #16]",
        "stp x23, x24, [sp, #32]",
        "stp x25, x26, [sp, #48]",
        "stp x27, x28, [sp, #64]",
        "stp x29, x30, [sp, #80]",
        "stp d8, d9, [sp, #96]",
        "stp d10, d11, [sp, #112]",
        "stp d12, d13, [sp, #128]",
        "stp d14, d15, [sp, #144]",
        "mov x9, sp",
        "str x9, [x0]",
        "mov sp, x1",
        "b {}",
        sym resume,
    )
}

/// The second half of a [`switch`], for a signal handler that makes a thread continue here with the stack pointer of a
/// suspended fiber.
///
/// # Safety
/// As for `switch`, and only by jumping to it.
#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
pub unsafe extern "C" fn resume() {
    naked_asm!(
        "ldp x19, x20, [sp]",
        "ldp x21, x22, [sp, #16]",
        "ldp x23, x24, [sp, #32]",
        "ldp x25, x26, [sp, #48]",
        "ldp x27, x28, [sp, #64]",
        "ldp x29, x30, [sp, #80]",
        "ldp d8, d9, [sp, #96]",
        "ldp d10, d11, [sp, #112]",
        "ldp d12, d13, [sp, #128]",
        "ldp d14, d15, [sp, #144]",
        "add sp, sp, #160",
        "ret",
    )
}

#[cfg(target_arch = "aarch64")]
#[unsafe(naked)]
unsafe extern "C" fn start() {
    naked_asm!("mov x0, x19", "blr x20", "brk #1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::stack::Stacks;
    use std::ptr::null_mut;

    struct Pair {
        main: Suspended,
        fiber: Suspended,
        turns: u32,
    }

    unsafe extern "C" fn count(pair: *mut c_void) -> ! {
        let pair = pair.cast::<Pair>();
        loop {
            // SAFETY: the test waits in its own switch; nobody else has the pair.
            unsafe {
                (*pair).turns += 1;
                switch(&raw mut (*pair).fiber, (*pair).main);
            }
        }
    }

    #[test]
    fn a_fiber_keeps_its_place_and_its_callers_registers() {
        let mut stacks = Stacks::default();
        stacks.ensure(1).unwrap();
        let mut pair = Pair {
            main: null_mut(),
            fiber: null_mut(),
            turns: 0,
        };
        let place = &raw mut pair;
        let mut sums = [0_u64; 4];
        // SAFETY: the stack outlives the fiber, which is left behind suspended.
        unsafe {
            (*place).fiber = prepare(stacks.top(0), count, place.cast());
            for turn in 0..1000_u64 {
                switch(&raw mut (*place).main, (*place).fiber);
                for (sum, by) in sums.iter_mut().zip(1..) {
                    *sum += by * turn;
                }
            }
            assert_eq!((*place).turns, 1000);
        }
        assert_eq!(sums, [499_500, 999_000, 1_498_500, 1_998_000]);
    }
}
