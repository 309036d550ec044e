//! Every class by name: how pairs of class and metaclass are built, registered and sent
//! `+initialize`.

use crate::class::{CUSTOM_OWNERSHIP, Class, INITIALISED, META, REGISTERED, UNCOUNTED};
use crate::fault::fault;
use crate::selector::Sel;
use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::thread::{self, ThreadId};

/// Held while classes are made or methods exchanged.
pub(crate) fn structure_lock() -> MutexGuard<'static, ()> {
    static STRUCTURE: Mutex<()> = Mutex::new(());
    STRUCTURE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Registry {
    by_name: HashMap<CString, &'static Class>,
    order: Vec<&'static Class>,
    statics: HashMap<CString, &'static Class>,
}

fn registry() -> &'static RwLock<Registry> {
    static REGISTRY: OnceLock<RwLock<Registry>> = OnceLock::new();
    REGISTRY.get_or_init(RwLock::default)
}

/// Looks a registered class up by name.
pub fn by_name(name: &CStr) -> Option<&'static Class> {
    let registry = registry().read().unwrap_or_else(PoisonError::into_inner);
    registry.by_name.get(name).copied()
}

/// Every registered class.
pub fn all() -> Vec<&'static Class> {
    registry()
        .read()
        .unwrap_or_else(PoisonError::into_inner)
        .order
        .clone()
}

/// Declares link-time statics for classes that are built later under these names.
pub fn declare_statics(statics: &[(&CStr, &'static Class)]) {
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    for (name, class) in statics {
        registry.statics.insert((*name).to_owned(), class);
    }
}

/// Builds an unregistered pair. `None` when the name is taken.
pub fn build(name: &CStr, superclass: Option<&'static Class>) -> Option<&'static Class> {
    let _serial = structure_lock();
    if by_name(name).is_some() {
        return None;
    }
    let place = {
        let registry = registry().read().unwrap_or_else(PoisonError::into_inner);
        registry.statics.get(name).copied()
    };
    let class = place.unwrap_or_else(|| Box::leak(Box::new(Class::unbuilt())));
    let meta: &'static Class = Box::leak(Box::new(Class::unbuilt()));
    let leaked_name = Box::leak(name.to_owned().into_boxed_c_str())
        .as_ptr()
        .cast_mut();
    class.flags.store(0, Ordering::Release);
    for half in [class, meta] {
        half.name.store(leaked_name, Ordering::Release);
        half.tables
            .store(Box::into_raw(Box::default()), Ordering::Release);
    }
    let address = |class: &'static Class| ptr::from_ref(class).cast_mut();
    class.isa.store(address(meta), Ordering::Release);
    meta.set(META | REGISTERED | INITIALISED);
    meta.size.store(size_of::<Class>(), Ordering::Release);
    match superclass {
        Some(parent) => {
            let parent_meta = parent.metaclass().expect("a built class has a metaclass");
            class.superclass.store(address(parent), Ordering::Release);
            let inherited_size = parent.size.load(Ordering::Acquire);
            class.size.store(inherited_size, Ordering::Release);
            let inherited = parent.flags.load(Ordering::Acquire) & (CUSTOM_OWNERSHIP | UNCOUNTED);
            class.set(inherited);
            meta.superclass
                .store(address(parent_meta), Ordering::Release);
            // The metaclass of every metaclass is the root's.
            meta.isa
                .store(parent_meta.isa.load(Ordering::Acquire), Ordering::Release);
            parent.write(|tables| tables.subclasses.push(class));
            parent_meta.write(|tables| tables.subclasses.push(meta));
        }
        None => {
            // A root class: class methods are looked for among its instance methods, last,
            // and ownership is its own affair.
            class.set(CUSTOM_OWNERSHIP);
            class
                .size
                .store(size_of::<*const Class>(), Ordering::Release);
            meta.superclass.store(address(class), Ordering::Release);
            meta.isa.store(address(meta), Ordering::Release);
            class.write(|tables| tables.subclasses.push(meta));
        }
    }
    Some(class)
}

/// Registers a built pair under its name.
pub fn register(class: &'static Class) {
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    class.set(REGISTERED);
    registry.by_name.insert(class.name().to_owned(), class);
    registry.order.push(class);
}

/// Takes a pair out of the registry. Its memory stays: somebody may hold the address.
pub(crate) fn dispose(class: &'static Class) {
    let live = class.live.load(Ordering::Acquire);
    if live != 0 {
        fault(
            "class disposed with instances",
            format!("{} has {live}", class.name().to_string_lossy()),
        );
    }
    let mut registry = registry().write().unwrap_or_else(PoisonError::into_inner);
    registry.order.retain(|other| !ptr::eq(*other, class));
    registry.by_name.retain(|_, other| !ptr::eq(*other, class));
    for half in [Some(class), class.metaclass()].into_iter().flatten() {
        if let Some(parent) = half.superclass() {
            parent.write(|tables| tables.subclasses.retain(|other| !ptr::eq(*other, half)));
        }
    }
}

/// Classes whose `+initialize` is running, and the thread it runs on.
static INITIALISING: Mutex<Vec<(usize, ThreadId)>> = Mutex::new(Vec::new());
static INITIALISATION_ENDED: Condvar = Condvar::new();

/// Marks the end of `+initialize`, whether it returned or unwound.
struct Initialising(&'static Class);

impl Drop for Initialising {
    fn drop(&mut self) {
        self.0.set(INITIALISED);
        let mut running = INITIALISING.lock().unwrap_or_else(PoisonError::into_inner);
        running.retain(|(class, _)| *class != ptr::from_ref(self.0).addr());
        INITIALISATION_ENDED.notify_all();
    }
}

/// Whether this thread is to send `+initialize`. Another thread's is waited for; the own one
/// goes on, since `+initialize` may send to its class.
fn begin_initialise(class: &'static Class) -> Option<Initialising> {
    let (key, me) = (ptr::from_ref(class).addr(), thread::current().id());
    let mut running = INITIALISING.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if class.has(INITIALISED) {
            return None;
        }
        match running.iter().find(|(class, _)| *class == key) {
            None => {
                running.push((key, me));
                return Some(Initialising(class));
            }
            Some((_, thread)) if *thread == me => return None,
            Some(_) => {
                running = INITIALISATION_ENDED
                    .wait(running)
                    .unwrap_or_else(PoisonError::into_inner);
            }
        }
    }
}

/// Sends `+initialize` to the class and its superclasses, each once, superclasses first.
/// Nobody else sends to the class before that has returned.
pub(crate) fn initialise(class: &'static Class) {
    if class.has(INITIALISED) {
        return;
    }
    if let Some(parent) = class.superclass() {
        initialise(parent);
    }
    let Some(_running) = begin_initialise(class) else {
        return;
    };
    let sel = Sel::new(c"initialize");
    let method = class.metaclass().and_then(|meta| meta.method(sel));
    if let Some(method) = method {
        // SAFETY: `+initialize` takes no arguments and returns nothing.
        let send: unsafe extern "C-unwind" fn(*const Class, Sel) =
            unsafe { std::mem::transmute(method.imp()) };
        // SAFETY: as above; the receiver is a class.
        unsafe { send(class, sel) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;
    use std::time::Duration;

    #[test]
    fn initialize_is_sent_once_and_awaited_by_other_threads() {
        static STATE: AtomicUsize = AtomicUsize::new(0);
        unsafe extern "C-unwind" fn slow(_: *const Class, _: Sel) {
            STATE.fetch_add(1, Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
            STATE.fetch_add(1, Ordering::SeqCst);
        }
        crate::start();
        let class = build(c"SlowlyInitialised", by_name(c"NSObject")).unwrap();
        let meta = class.metaclass().unwrap();
        meta.add_method(Sel::new(c"initialize"), slow as *const _, c"v@:");
        register(class);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    initialise(class);
                    assert_eq!(STATE.load(Ordering::SeqCst), 2);
                });
            }
        });
    }

    #[test]
    fn a_disposed_pair_frees_its_name() {
        crate::start();
        let parent = by_name(c"NSObject").unwrap();
        for _ in 0..2 {
            let class = build(c"ForAWhile", Some(parent)).unwrap();
            register(class);
            assert!(build(c"ForAWhile", Some(parent)).is_none());
            dispose(class);
            assert!(by_name(c"ForAWhile").is_none());
            assert!(parent.read(|tables| tables.subclasses.iter().all(|it| !ptr::eq(*it, class))));
        }
    }
}
