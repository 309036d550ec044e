//! `MTLEvent` and `MTLSharedEvent`: a counter that passes wait for and set. The shared one
//! is also read, set and waited for by the CPU.

use super::device::SimDevice;
use super::{Kept, call_block};
use crate::check::{Finding, is_on, report};
use crate::fault::{fault, warn};
use crate::gpu::Gpu;
use crate::lock;
use crate::order::{self, Ids};
use crate::rules::rules;
use block2::{DynBlock, RcBlock};
use objc2::rc::{Allocated, Retained, Weak};
use objc2::runtime::{NSObject, NSObjectProtocol, ProtocolObject};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::{MTLEvent, MTLSharedEvent};
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// What a listener is to be told, and from which value on.
struct Note {
    at: u64,
    block: RcBlock<NoteBlock>,
}

// SAFETY: Metal's contract has the program pass blocks that may run on another thread.
unsafe impl Send for Note {}

type NoteBlock = dyn Fn(NonNull<ProtocolObject<dyn MTLSharedEvent>>, u64);

/// The state of an event.
pub struct EventCore {
    value: Mutex<u64>,
    /// What comes before each value that was signalled.
    before: Mutex<BTreeMap<u64, Ids>>,
    notes: Mutex<Vec<Note>>,
    /// The event object, for listeners; weak, because the object owns this.
    object: OnceLock<WeakObject>,
    changed: Condvar,
    gpu: Arc<Gpu>,
    label: Mutex<Option<String>>,
}

impl EventCore {
    fn new(gpu: Arc<Gpu>) -> Arc<Self> {
        Arc::new(Self {
            value: Mutex::new(0),
            before: Mutex::default(),
            notes: Mutex::default(),
            object: OnceLock::new(),
            changed: Condvar::new(),
            gpu,
            label: Mutex::new(None),
        })
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        *lock(&self.value)
    }

    /// The event's name in a message.
    pub(crate) fn title(&self) -> String {
        match &*lock(&self.label) {
            Some(label) => format!("event “{label}”"),
            None => format!("event {self:p}"),
        }
    }

    /// What comes before whoever waited for a value, if it is reached: what was before the signal that reached it.
    pub(crate) fn reached(&self, value: u64) -> Option<Ids> {
        if self.value() < value {
            return None;
        }
        let before = lock(&self.before);
        let signal = before.range(value..).next();
        Some(signal.map(|(_, ids)| ids.clone()).unwrap_or_default())
    }

    /// The program was shown that the event has this value.
    fn see(&self, value: u64) {
        if let Some((_, ids)) = lock(&self.before).range(..=value).next_back() {
            order::see(ids);
        }
    }

    /// Sets the value and lets those go on who waited for it. `before` has ended.
    pub fn signal(&self, value: u64, before: Ids) {
        /// So many values may be remembered before those are forgotten that order nothing.
        const MANY: usize = 256;
        let old = {
            let mut signals = lock(&self.before);
            let old = std::mem::replace(&mut *lock(&self.value), value);
            if value < old {
                // Who waits for more waits for another signal.
                signals.retain(|signalled, _| *signalled <= value);
            } else if value > old {
                // The first that reaches a value is the one that is waited for.
                signals.insert(value, before);
            }
            if signals.len() > MANY {
                let seen = order::seen();
                signals.retain(|_, before| !seen.has_all(before));
            }
            old
        };
        if value < old {
            self.goes_back(old, value);
        }
        self.changed.notify_all();
        self.gpu.wake();
        self.tell(value);
    }

    /// Values only grow, and who waits for one that was there may wait for ever.
    fn goes_back(&self, old: u64, value: u64) {
        let text = format!("{} goes back from {old} to {value}", self.title());
        match is_on() {
            true => report(Finding::new(format!("event: {text}"))),
            false => warn("event value", text),
        }
    }

    /// Tells the listeners whose value is reached, each once, on a thread of their own.
    fn tell(&self, value: u64) {
        let due: Vec<Note> = {
            let mut notes = lock(&self.notes);
            let (due, later) = notes.drain(..).partition(|note| note.at <= value);
            *notes = later;
            due
        };
        let object = self.object.get().and_then(|object| object.0.load());
        let (false, Some(object)) = (due.is_empty(), object) else {
            return;
        };
        self.see(value);
        let object = Kept(object);
        let tell = move || {
            let event: &ProtocolObject<dyn MTLSharedEvent> = ProtocolObject::from_ref(object.get());
            for note in &due {
                call_block("listener of an event", || {
                    note.block.call((NonNull::from(event), value));
                });
            }
        };
        let thread = std::thread::Builder::new()
            .name("metal-sim listener".to_owned())
            .spawn(tell);
        thread.expect("a listener's thread starts");
    }

    /// Waits until the value is reached; false when the time ran out first.
    pub fn wait(&self, value: u64, timeout: Duration) -> bool {
        let _waiting = self.gpu.hurry();
        let watchdog = Duration::from_millis(rules().watchdog_ms);
        let mut left = timeout;
        let reached = loop {
            let held = lock(&self.value);
            let part = left.min(watchdog);
            let waited = self
                .changed
                .wait_timeout_while(held, part, |held| *held < value);
            let reached = *waited.unwrap_or_else(PoisonError::into_inner).0 >= value;
            left -= part;
            if reached || left.is_zero() {
                break reached;
            }
            // Another thread may still do it, but nothing in a test should take so long.
            if is_on() && self.gpu.is_idle() {
                let at = self.value();
                fault(
                    "deadlock",
                    format!(
                        "waitUntilSignaledValue: the CPU waits for {} to reach {value}; it is at {at}, \
                         and nothing that was committed signals it",
                        self.title()
                    ),
                );
            }
        };
        if let Some(ids) = self.reached(value).filter(|_| reached) {
            order::see(&ids);
        }
        reached
    }
}

/// A weak reference that may go to another thread.
struct WeakObject(Weak<SimSharedEvent>);

// SAFETY: loading a weak reference is atomic in this runtime.
unsafe impl Send for WeakObject {}
// SAFETY: as above.
unsafe impl Sync for WeakObject {}

/// An event's instance variables.
pub struct Event {
    core: Arc<EventCore>,
    device: Kept<SimDevice>,
}

macro_rules! event_class {
    ($class:ident, $name:literal, { $($protocols:tt)* }, { $($methods:tt)* }) => {
        define_class!(
            // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
            #[unsafe(super(NSObject))]
            #[name = $name]
            #[ivars = Event]
            #[doc = concat!("The class behind ", $name, ".")]
            pub struct $class;

            // SAFETY: no further requirements.
            unsafe impl NSObjectProtocol for $class {}

            // SAFETY: implements the protocol's methods below.
            unsafe impl MTLEvent for $class {}

            $($protocols)*

            impl $class {
                #[unsafe(method_id(device))]
                fn device(&self) -> Retained<SimDevice> {
                    self.ivars().device.0.clone()
                }

                #[unsafe(method_id(label))]
                fn label(&self) -> Option<Retained<NSString>> {
                    lock(&self.ivars().core.label).as_deref().map(NSString::from_str)
                }

                #[unsafe(method(setLabel:))]
                fn set_label(&self, label: Option<&NSString>) {
                    *lock(&self.ivars().core.label) = label.map(ToString::to_string);
                }

                $($methods)*
            }
        );

        // SAFETY: the state is behind locks.
        unsafe impl Send for $class {}
        // SAFETY: as above.
        unsafe impl Sync for $class {}

        impl $class {
            pub(crate) fn new(device: &SimDevice) -> Retained<Self> {
                let core = EventCore::new(device.gpu().clone());
                let event = Event { core, device: Kept::new(device) };
                // SAFETY: NSObject's `init` has this signature.
                unsafe { msg_send![super(Self::alloc().set_ivars(event)), init] }
            }

            pub(crate) fn core(&self) -> &Arc<EventCore> {
                &self.ivars().core
            }

            pub(crate) fn on(&self) -> &SimDevice {
                self.ivars().device.get()
            }
        }
    };
}

event_class!(SimEvent, "SimEvent", {}, {});

event_class!(
    SimSharedEvent,
    "SimSharedEvent",
    {
        // SAFETY: implements the protocol's methods below.
        unsafe impl MTLSharedEvent for SimSharedEvent {}
    },
    {
        #[unsafe(method(signaledValue))]
        fn signaled_value(&self) -> u64 {
            let core = &self.ivars().core;
            core.gpu.look();
            let value = core.value();
            core.see(value);
            value
        }

        #[unsafe(method(setSignaledValue:))]
        fn set_signaled_value(&self, value: u64) {
            self.ivars().core.signal(value, order::seen());
        }

        #[unsafe(method(waitUntilSignaledValue:timeoutMS:))]
        fn wait_until(&self, value: u64, timeout_ms: u64) -> bool {
            crate::Work {
                cpu_waits: 1,
                ..Default::default()
            }
            .add();
            self.ivars()
                .core
                .wait(value, Duration::from_millis(timeout_ms))
        }

        #[unsafe(method(notifyListener:atValue:block:))]
        fn notify_listener(
            &self,
            _listener: Option<&SimListener>,
            value: u64,
            block: *mut DynBlock<NoteBlock>,
        ) {
            // SAFETY: the method's contract: a block.
            unsafe { self.add_note(value, block) };
        }

        #[unsafe(method_id(newSharedEventHandle))]
        fn new_handle(&self) -> Retained<SimSharedEventHandle> {
            SimSharedEventHandle::new(self)
        }
    }
);

impl SimSharedEvent {
    /// # Safety
    /// `block` is null or a block.
    unsafe fn add_note(&self, at: u64, block: *mut DynBlock<NoteBlock>) {
        // SAFETY: the caller's promise.
        let Some(block) = (unsafe { RcBlock::copy(block) }) else {
            fault("notifyListener:atValue:block:", "the block is nil");
        };
        let core = self.core();
        core.object.get_or_init(|| WeakObject(Weak::from(self)));
        lock(&core.notes).push(Note { at, block });
        // It may be there already.
        core.tell(core.value());
    }
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLSharedEventListener"]
    /// The class behind `MTLSharedEventListener`. Listeners are told on threads of their own; a
    /// dispatch queue to be told on is not simulated.
    pub struct SimListener;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimListener {}

    impl SimListener {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(())), init] }
        }

        #[unsafe(method_id(sharedListener))]
        fn shared() -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(Self::alloc().set_ivars(())), init] }
        }
    }
);

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLSharedEventHandle"]
    #[ivars = Kept<SimSharedEvent>]
    /// The class behind `MTLSharedEventHandle`: an event on its way to another device object.
    pub struct SimSharedEventHandle;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimSharedEventHandle {}

    impl SimSharedEventHandle {
        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.event().core().label).as_deref().map(NSString::from_str)
        }
    }
);

impl SimSharedEventHandle {
    fn new(event: &SimSharedEvent) -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(Kept::new(event))), init] }
    }

    pub(crate) fn event(&self) -> &SimSharedEvent {
        self.ivars().get()
    }
}
