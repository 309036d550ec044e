//! `MTLEvent` and `MTLSharedEvent`: a counter that passes wait for and set. The shared one
//! is also read, set and waited for by the CPU.

use super::Kept;
use super::device::SimDevice;
use crate::gpu::Gpu;
use crate::lock;
use objc2::rc::Retained;
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::NSString;
use objc2_metal::{MTLEvent, MTLSharedEvent};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// The state of an event.
pub struct EventCore {
    value: Mutex<u64>,
    changed: Condvar,
    gpu: Arc<Gpu>,
    label: Mutex<Option<String>>,
}

impl EventCore {
    fn new(gpu: Arc<Gpu>) -> Arc<Self> {
        Arc::new(Self {
            value: Mutex::new(0),
            changed: Condvar::new(),
            gpu,
            label: Mutex::new(None),
        })
    }

    /// The value now.
    pub fn value(&self) -> u64 {
        *lock(&self.value)
    }

    /// Sets the value and lets those go on who waited for it.
    pub fn signal(&self, value: u64) {
        *lock(&self.value) = value;
        self.changed.notify_all();
        self.gpu.wake();
    }

    /// Waits until the value is reached; false when the time ran out first.
    pub fn wait(&self, value: u64, timeout: Duration) -> bool {
        let held = lock(&self.value);
        let waited = self
            .changed
            .wait_timeout_while(held, timeout, |held| *held < value);
        *waited.unwrap_or_else(PoisonError::into_inner).0 >= value
    }
}

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
            self.ivars().core.value()
        }

        #[unsafe(method(setSignaledValue:))]
        fn set_signaled_value(&self, value: u64) {
            self.ivars().core.signal(value);
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
    }
);
