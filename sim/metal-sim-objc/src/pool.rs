//! Autorelease pools: one stack of objects per thread; a pool is a height in it. What is
//! autoreleased without a pool stays until the thread ends, as on Apple's runtime.

use crate::fault::fault;
use crate::object::Object;
use crate::ownership::objc_release;
use std::cell::RefCell;
use std::ffi::c_void;

#[derive(Default)]
struct Stack {
    objects: Vec<*mut Object>,
    /// Heights at which open pools begin.
    pools: Vec<usize>,
}

impl Drop for Stack {
    fn drop(&mut self) {
        // The thread ends: what no pool took goes now.
        while let Some(object) = self.objects.pop() {
            // SAFETY: the stack owns one reference of each object it holds.
            unsafe { objc_release(object) };
        }
    }
}

thread_local! {
    static STACK: RefCell<Stack> = RefCell::default();
}

/// Hands one ownership of a counted object to the innermost pool.
///
/// # Safety
/// The caller owns the reference it gives away.
pub(crate) unsafe fn add(object: *mut Object) {
    let taken = STACK.try_with(|stack| stack.borrow_mut().objects.push(object));
    if taken.is_err() {
        // The thread is ending and its stack is gone already.
        // SAFETY: the caller's promise.
        unsafe { objc_release(object) };
    }
}

/// Takes the object that was added last out of the innermost pool again, if it is this one.
/// Its ownership goes to the caller.
pub(crate) fn take_back(object: *mut Object) -> bool {
    let taken = STACK.try_with(|stack| {
        let mut stack = stack.borrow_mut();
        let floor = stack.pools.last().copied().unwrap_or(0);
        let last = stack.objects.last() == Some(&object) && stack.objects.len() > floor;
        last.then(|| stack.objects.pop()).is_some()
    });
    taken.unwrap_or(false)
}

/// Objects that wait in this thread's pools.
pub fn waiting() -> usize {
    STACK
        .try_with(|stack| stack.borrow().objects.len())
        .unwrap_or(0)
}

#[unsafe(no_mangle)]
extern "C" fn objc_autoreleasePoolPush() -> *mut c_void {
    let depth = STACK.try_with(|stack| {
        let mut stack = stack.borrow_mut();
        let height = stack.objects.len();
        stack.pools.push(height);
        stack.pools.len()
    });
    // A pool's token is its depth, from 1.
    std::ptr::without_provenance_mut(depth.unwrap_or(0))
}

#[unsafe(no_mangle)]
extern "C-unwind" fn objc_autoreleasePoolPop(token: *mut c_void) {
    let depth = token.addr();
    if depth == 0 {
        return;
    }
    let open = STACK
        .try_with(|stack| stack.borrow().pools.len())
        .unwrap_or(0);
    if depth > open {
        fault(
            "autorelease pool popped twice",
            format!("pool {depth} of {open} on this thread"),
        );
    }
    loop {
        // One at a time and without holding the borrow: a dealloc may autorelease more.
        let next = STACK.with(|stack| {
            let mut stack = stack.borrow_mut();
            let floor = stack.pools[depth - 1];
            if stack.objects.len() > floor {
                stack.objects.pop()
            } else {
                None
            }
        });
        match next {
            // SAFETY: the stack owned one reference.
            Some(object) => unsafe { objc_release(object) },
            None => break,
        }
    }
    // Pools inside this one end with it.
    STACK.with(|stack| stack.borrow_mut().pools.truncate(depth - 1));
}
