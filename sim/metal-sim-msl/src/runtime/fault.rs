//! Faults in kernels become errors. An access to memory that is not there, a stack that overflowed into its guard or a
//! division of integers by zero raises a signal; if a kernel was running, its threadgroup is abandoned, and the OS
//! thread goes on where it began to run it. Kernels own nothing, so nothing is lost. All other faults go to whoever
//! handled them before.

use crate::detect::loaded;
use crate::runtime::fiber;
use crate::runtime::stack::Place;
use crate::runtime::threadgroup::{Stop, current};
use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::mem::{self, MaybeUninit};
use std::ops::Range;
use std::ptr::{self, null_mut};
use std::sync::OnceLock;

/// A fault at an address below this is taken to come from an argument without a buffer.
pub const NEAR_NULL: usize = 1 << 32;

const SIGNALS: [c_int; 3] = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];

struct Installed {
    before: [libc::sigaction; 3],
    /// Where this crate's own code is: a fault there is not a kernel's.
    own: Range<usize>,
}

static INSTALLED: OnceLock<Installed> = OnceLock::new();

/// Prepares the process, once, and this OS thread: a signal needs a stack of its own when the fiber's overflowed.
pub fn prepare() {
    thread_local! {
        static READY: Cell<bool> = const { Cell::new(false) };
    }
    INSTALLED.get_or_init(install);
    if !READY.replace(true) {
        signal_stack();
    }
}

fn install() -> Installed {
    let own = loaded(handle as *const () as usize).map_or(0..0, |(_, range)| range);
    let before = SIGNALS.map(|signal| {
        // SAFETY: the handler has the signature that SA_SIGINFO wants; the structure is all zeros where not set.
        unsafe {
            let mut action: libc::sigaction = mem::zeroed();
            action.sa_sigaction = handle as *const () as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            let mut before = MaybeUninit::zeroed();
            libc::sigaction(signal, &raw const action, before.as_mut_ptr());
            before.assume_init()
        }
    });
    Installed { before, own }
}

fn signal_stack() {
    const SIZE: usize = 64 << 10;
    // SAFETY: the stack is mapped for this thread, and stays: threads that run kernels are few and live long.
    unsafe {
        let mut now: libc::stack_t = mem::zeroed();
        libc::sigaltstack(ptr::null(), &raw mut now);
        if now.ss_flags & libc::SS_DISABLE == 0 {
            return; // As all threads that Rust made.
        }
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let stack = libc::mmap(
            null_mut(),
            SIZE,
            libc::PROT_READ | libc::PROT_WRITE,
            flags,
            -1,
            0,
        );
        if stack != libc::MAP_FAILED {
            libc::sigaltstack(
                &libc::stack_t {
                    ss_sp: stack,
                    ss_flags: 0,
                    ss_size: SIZE,
                },
                null_mut(),
            );
        }
    }
}

unsafe extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let this = current();
    // SAFETY: the system calls with the fault and the registers of the thread it happened on. The threadgroup is that
    // thread's; the fault was in a kernel, so nobody is in the middle of changing it.
    unsafe {
        let context = context.cast::<libc::ucontext_t>();
        let site = *program_counter(context);
        let own = INSTALLED
            .get()
            .is_some_and(|installed| installed.own.contains(&site));
        if this.is_null() || own {
            return pass_on(signal, info, context.cast());
        }
        let address = if signal == libc::SIGFPE {
            None
        } else {
            Some((*info).si_addr().addr())
        };
        let overflow = address.is_some_and(|at| (*this).stacks.place(at) == Some(Place::Guard));
        (*this).stop(Stop::Fault {
            address,
            site,
            overflow,
        });
        *program_counter(context) = fiber::resume as *const () as usize;
        *stack_pointer(context) = (*this).host.addr();
    }
}

/// To the handler before this one.
unsafe fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let index = SIGNALS.iter().position(|&one| one == signal);
    let before = INSTALLED
        .get()
        .zip(index)
        .map(|(installed, index)| &installed.before[index]);
    // SAFETY: what sigaction returned: a default, or a function with the signature that its flags say.
    unsafe {
        match before {
            Some(before)
                if before.sa_sigaction != libc::SIG_DFL && before.sa_sigaction != libc::SIG_IGN =>
            {
                type Full = unsafe extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                type Short = unsafe extern "C" fn(c_int);
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    mem::transmute::<usize, Full>(before.sa_sigaction)(signal, info, context);
                } else {
                    mem::transmute::<usize, Short>(before.sa_sigaction)(signal);
                }
            }
            // The instruction faults again, and the process ends as it would have.
            _ => {
                libc::signal(signal, libc::SIG_DFL);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn program_counter(context: *mut libc::ucontext_t) -> *mut usize {
    // SAFETY: a context has its registers; only their place is computed.
    unsafe { (&raw mut (*context).uc_mcontext.gregs[libc::REG_RIP as usize]).cast() }
}

#[cfg(target_arch = "x86_64")]
fn stack_pointer(context: *mut libc::ucontext_t) -> *mut usize {
    // SAFETY: as above.
    unsafe { (&raw mut (*context).uc_mcontext.gregs[libc::REG_RSP as usize]).cast() }
}

#[cfg(target_arch = "aarch64")]
fn program_counter(context: *mut libc::ucontext_t) -> *mut usize {
    // SAFETY: a context has its registers; only their place is computed.
    unsafe { (&raw mut (*context).uc_mcontext.pc).cast() }
}

#[cfg(target_arch = "aarch64")]
fn stack_pointer(context: *mut libc::ucontext_t) -> *mut usize {
    // SAFETY: as above.
    unsafe { (&raw mut (*context).uc_mcontext.sp).cast() }
}
