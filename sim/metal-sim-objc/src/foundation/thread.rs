//! `NSThread`: who runs. Threads are made by Rust; this is what Foundation knows about them.

use super::string;
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use std::cell::OnceCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What is known about a thread.
pub struct Known {
    /// 1 is the main thread.
    number: usize,
    name: Mutex<Option<Retained<NSString>>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "NSThread"]
    #[ivars = Known]
    /// The class behind `NSThread`.
    pub struct SimThread;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimThread {}

    impl SimThread {
        #[unsafe(method_id(currentThread))]
        fn current() -> Retained<Self> {
            current()
        }

        #[unsafe(method_id(mainThread))]
        fn main() -> Retained<Self> {
            main().clone()
        }

        #[unsafe(method(isMainThread))]
        fn runs_on_main() -> bool {
            is_main()
        }

        #[unsafe(method(isMultiThreaded))]
        fn is_multi_threaded() -> bool {
            true
        }

        #[unsafe(method(sleepForTimeInterval:))]
        fn sleep(seconds: f64) {
            std::thread::sleep(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        }

        #[unsafe(method(isMainThread))]
        fn is_main_thread(&self) -> bool {
            self.ivars().number == 1
        }

        #[unsafe(method_id(name))]
        fn name(&self) -> Option<Retained<NSString>> {
            self.ivars().name()
        }

        #[unsafe(method(setName:))]
        fn set_name(&self, name: Option<&NSString>) {
            let name = name.map(|name| string::new(&name.to_string()));
            *self.ivars().name.lock().unwrap_or_else(PoisonError::into_inner) = name;
        }

        #[unsafe(method_id(description))]
        fn description(&self) -> Retained<NSString> {
            let name = self.ivars().name();
            let name = name.map_or("(null)".to_owned(), |name| name.to_string());
            let number = self.ivars().number;
            string::new(&format!("<NSThread: {self:p}>{{number = {number}, name = {name}}}"))
        }
    }
);

// SAFETY: the number never changes and the name is behind a lock; strings are immutable.
unsafe impl Send for SimThread {}
// SAFETY: as above.
unsafe impl Sync for SimThread {}

impl Known {
    fn name(&self) -> Option<Retained<NSString>> {
        self.name
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// The main thread is the one whose number is the process's.
fn is_main() -> bool {
    // SAFETY: neither call has preconditions.
    unsafe { libc::gettid() == libc::getpid() }
}

fn main() -> &'static Retained<SimThread> {
    static MAIN: OnceLock<Retained<SimThread>> = OnceLock::new();
    MAIN.get_or_init(|| new(1))
}

fn current() -> Retained<SimThread> {
    thread_local! {
        static CURRENT: OnceCell<Retained<SimThread>> = const { OnceCell::new() };
    }
    static THREADS: AtomicUsize = AtomicUsize::new(2);
    let numbered = || new(THREADS.fetch_add(1, Ordering::Relaxed));
    if is_main() {
        return main().clone();
    }
    CURRENT
        .try_with(|current| current.get_or_init(numbered).clone())
        // The thread is ending; its own object is gone.
        .unwrap_or_else(|_| numbered())
}

fn new(number: usize) -> Retained<SimThread> {
    let this = SimThread::alloc().set_ivars(Known {
        number,
        name: Mutex::new(None),
    });
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this), init] }
}

#[cfg(test)]
mod tests {
    use objc2_foundation::{NSString, NSThread};

    #[test]
    fn each_thread_is_one_object_with_a_name() {
        let here = NSThread::currentThread();
        assert_eq!(here, NSThread::currentThread());
        assert!(!here.isMainThread());
        here.setName(Some(&NSString::from_str("worker")));
        assert!(format!("{here:?}").ends_with("name = worker}"));
        let other = std::thread::spawn(NSThread::currentThread).join().unwrap();
        assert_ne!(here, other);
        assert!(NSThread::mainThread().isMainThread());
    }
}
