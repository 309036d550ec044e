//! What every encoder has: a command buffer it belongs to, a pass it records, and an end.

use super::Kept;
use super::command_buffer::SimCommandBuffer;
use super::fence::SimFence;
use crate::account::Work;
use crate::fault::fault;
use crate::lock;
use crate::pass::{Kind, Op, Pass, Scope, Step};
use objc2::runtime::AnyObject;
use objc2_metal::MTLStages;
use std::sync::Mutex;

/// The state of an open encoder.
pub struct EncoderCore {
    buffer: Kept<SimCommandBuffer>,
    kind: Kind,
    pass: Mutex<Option<Pass>>,
}

impl EncoderCore {
    /// Opens an encoder; the command buffer has made sure that no other is open.
    pub(crate) fn new(buffer: &SimCommandBuffer, kind: Kind) -> Self {
        Self {
            buffer: Kept::new(buffer),
            kind,
            pass: Mutex::new(Some(Pass::new(kind))),
        }
    }

    /// The command buffer.
    pub(crate) fn buffer(&self) -> &SimCommandBuffer {
        self.buffer.get()
    }

    /// Changes the recorded pass; a fault when encoding has ended.
    pub(crate) fn record<R>(&self, call: &str, change: impl FnOnce(&mut Pass) -> R) -> R {
        match &mut *lock(&self.pass) {
            Some(pass) => change(pass),
            None => fault(
                "use after endEncoding",
                format!("{call} on a {:?} encoder", self.kind),
            ),
        }
    }

    /// Records an operation and keeps what it uses alive until it has run.
    pub(crate) fn push<'a>(&self, op: Op, uses: impl IntoIterator<Item = &'a AnyObject>) {
        let label = op.label.clone();
        self.record(&label, |pass| pass.push(op));
        for object in uses {
            self.buffer().core().keep(object);
        }
    }

    pub(crate) fn barrier(&self, call: &str, scope: Scope) {
        Work {
            barriers: 1,
            ..Work::default()
        }
        .add();
        self.record(call, |pass| {
            // A serial encoder has its order anyway.
            if pass.kind == Kind::ConcurrentCompute {
                pass.steps.push(Step::Barrier(scope));
            }
        });
    }

    /// Later work of this pass waits for everything that the queue was given before.
    pub(crate) fn queue_barrier(&self, earlier: MTLStages, later: MTLStages) {
        Work {
            barriers: 1,
            ..Work::default()
        }
        .add();
        self.record("barrierAfterQueueStages:beforeStages:", |pass| {
            pass.queue_barrier(earlier, later);
        });
    }

    pub(crate) fn wait_for(&self, fence: &SimFence) {
        self.check_fence(fence, "waitForFence:");
        self.record("waitForFence:", |pass| {
            if pass.updates(fence.core()) {
                fault(
                    "waitForFence",
                    "the same encoder has updated this fence: the GPU may deadlock",
                );
            }
            pass.wait(fence.core());
        });
    }

    pub(crate) fn update(&self, fence: &SimFence) {
        self.check_fence(fence, "updateFence:");
        self.record("updateFence:", |pass| pass.update(fence.core()));
    }

    fn check_fence(&self, fence: &SimFence, call: &str) {
        Work {
            fences: 1,
            ..Work::default()
        }
        .add();
        self.buffer().check_device(call, fence.on());
        let object: &AnyObject = fence;
        self.buffer().core().keep(object);
    }

    pub(crate) fn set_label(&self, label: Option<String>) {
        self.record("setLabel:", |pass| pass.label = label.unwrap_or_default());
    }

    pub(crate) fn label(&self) -> Option<String> {
        lock(&self.pass)
            .as_ref()
            .map(|pass| pass.label.clone())
            .filter(|label| !label.is_empty())
    }

    /// `endEncoding`: hands the pass to the command buffer.
    pub(crate) fn end(&self) {
        let pass = lock(&self.pass).take();
        match pass {
            Some(pass) => self.buffer().core().close(pass),
            None => fault(
                "endEncoding",
                format!("a {:?} encoder was ended twice", self.kind),
            ),
        }
    }
}

impl Drop for EncoderCore {
    fn drop(&mut self) {
        if lock(&self.pass).is_some() && !std::thread::panicking() {
            self.buffer().core().forget_encoder();
            fault(
                "encoder released without endEncoding",
                format!("a {:?} encoder of {}", self.kind, self.buffer().title()),
            );
        }
    }
}

/// The methods that every encoder class has, for use inside `define_class!`.
#[macro_export]
macro_rules! encoder_class {
    ($class:ident, $name:literal, $protocol:ident, $core:ty, $encoder:ident, { $($methods:tt)* }) => {
        objc2::define_class!(
            // SAFETY: NSObject has no requirements on its subclasses; there is no `Drop`.
            #[unsafe(super(NSObject))]
            #[name = $name]
            #[ivars = $core]
            #[doc = concat!("The class behind `", stringify!($protocol), "`.")]
            pub struct $class;

            // SAFETY: no further requirements.
            unsafe impl NSObjectProtocol for $class {}

            // SAFETY: implements the protocol's methods below.
            unsafe impl MTLCommandEncoder for $class {}

            // SAFETY: implements the protocol's methods below.
            unsafe impl $protocol for $class {}

            impl $class {
                #[unsafe(method_id(device))]
                fn device(&self) -> Retained<$crate::model::device::SimDevice> {
                    self.$encoder().buffer().on().retain()
                }

                #[unsafe(method_id(label))]
                fn label(&self) -> Option<Retained<NSString>> {
                    self.$encoder().label().as_deref().map(NSString::from_str)
                }

                #[unsafe(method(setLabel:))]
                fn set_label(&self, label: Option<&NSString>) {
                    self.$encoder().set_label(label.map(ToString::to_string));
                }

                #[unsafe(method(endEncoding))]
                fn end_encoding(&self) {
                    self.$encoder().end();
                }

                #[unsafe(method(insertDebugSignpost:))]
                fn insert_debug_signpost(&self, _text: Option<&NSString>) {
                    self.$encoder().record("insertDebugSignpost:", |_| ());
                }

                #[unsafe(method(pushDebugGroup:))]
                fn push_debug_group(&self, _text: Option<&NSString>) {
                    self.$encoder().record("pushDebugGroup:", |_| ());
                }

                #[unsafe(method(popDebugGroup))]
                fn pop_debug_group(&self) {
                    self.$encoder().record("popDebugGroup", |_| ());
                }

                #[unsafe(method(barrierAfterQueueStages:beforeStages:))]
                fn barrier_after_queue(
                    &self,
                    earlier: objc2_metal::MTLStages,
                    later: objc2_metal::MTLStages,
                ) {
                    self.$encoder().queue_barrier(earlier, later);
                }

                #[unsafe(method(updateFence:))]
                fn update_fence(&self, fence: Option<&$crate::model::fence::SimFence>) {
                    let fence = $crate::model::given(fence, "updateFence:", "fence");
                    self.$encoder().update(fence);
                }

                #[unsafe(method(waitForFence:))]
                fn wait_for_fence(&self, fence: Option<&$crate::model::fence::SimFence>) {
                    let fence = $crate::model::given(fence, "waitForFence:", "fence");
                    self.$encoder().wait_for(fence);
                }

                $($methods)*
            }
        );
    };
}
