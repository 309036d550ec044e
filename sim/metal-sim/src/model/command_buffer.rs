//! `MTLCommandBuffer`: recorded passes on their way through enqueue, commit, execution and
//! completion. Misuse that a Mac aborts on is a fault here, at the call that is wrong.

use super::blit::SimBlitEncoder;
use super::compute::SimComputeEncoder;
use super::descriptors::{SimBlitPassDescriptor, SimComputePassDescriptor};
use super::device::SimDevice;
use super::event::{SimEvent, SimSharedEvent};
use super::items::{Items, Looked};
use super::queue::{SimQueue, Slot};
use super::{Kept, call_block, given};
use crate::account::Work;
use crate::fault::fault;
use crate::gpu::{Gpu, look_for, panic_text};
use crate::lock;
use crate::model::event::EventCore;
use crate::order::{self, Ids};
use crate::pass::{Item, Kind, Op, Pass, Passes};
use crate::rules::{Verdict, rules};
use block2::{DynBlock, RcBlock};
use metal_sim_objc::foundation::error;
use objc2::rc::{Retained, autoreleasepool};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol, ProtocolObject};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_foundation::{NSError, NSString};
use objc2_metal::{
    MTLCommandBuffer, MTLCommandBufferErrorOption, MTLCommandBufferStatus, MTLDispatchType,
};
use std::any::Any;
use std::panic::resume_unwind;
use std::ptr::NonNull;
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

type Status = MTLCommandBufferStatus;
type HandlerBlock = dyn Fn(NonNull<ProtocolObject<dyn MTLCommandBuffer>>);

/// A handler, called on the GPU's thread.
struct Handler(RcBlock<HandlerBlock>);

// SAFETY: Metal's contract has the program pass blocks that may run on another thread.
unsafe impl Send for Handler {}

/// Why a command buffer failed.
pub struct Failure {
    /// The `MTLCommandBufferError` code.
    pub code: isize,
    /// What happened.
    pub message: String,
    /// A fault raised while the work ran; whoever waits for the buffer gets it.
    panic: Option<Box<dyn Any + Send>>,
}

impl Failure {
    pub(crate) fn new(code: isize, message: String) -> Self {
        Self {
            code,
            message,
            panic: None,
        }
    }

    /// The watchdog ended a wait.
    pub(crate) fn timeout(why: &str) -> Self {
        let message = format!("Caused GPU Timeout Error: a wait for an event did not end: {why}");
        Self::new(2, message)
    }

    /// Work of a buffer that retains nothing used memory whose buffer was gone.
    pub(crate) fn invalid_resource(label: &str) -> Self {
        let message = format!(
            "Invalid Resource: {label} uses a buffer that was released before the command buffer, \
             which does not retain what it uses, had completed"
        );
        Self::new(9, message)
    }

    /// The work panicked.
    pub(crate) fn panicked(panic: Box<dyn Any + Send>) -> Self {
        Self {
            code: 1,
            message: panic_text(&*panic),
            panic: Some(panic),
        }
    }
}

/// The state of a command buffer, shared with the GPU's thread.
pub struct CommandBufferCore {
    state: Mutex<State>,
    changed: Condvar,
    retains: bool,
}

#[derive(Default)]
struct State {
    progress: Stage,
    items: Items,
    /// All that is over when this has completed.
    over: Ids,
    open: Option<Kind>,
    scheduled: Vec<Handler>,
    completed: Vec<Handler>,
    failure: Option<Failure>,
    /// What was asked to happen to it.
    injected: Option<Failure>,
    kept: Vec<Kept<AnyObject>>,
    /// The object itself, from commit to completion.
    object: Option<Kept<SimCommandBuffer>>,
    slot: Option<Slot>,
    started: f64,
    ended: f64,
    label: Option<String>,
}

/// How far a command buffer is. `Finished` comes after the completed handlers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    #[default]
    NotEnqueued,
    Enqueued,
    Committed,
    Scheduled,
    Completed,
    Finished,
}

impl State {
    fn fail(&mut self, failure: Failure) {
        self.items.fail();
        self.failure.get_or_insert(failure);
    }

    fn status(&self) -> Status {
        match self.progress {
            Stage::NotEnqueued => Status::NotEnqueued,
            Stage::Enqueued => Status::Enqueued,
            Stage::Committed => Status::Committed,
            Stage::Scheduled => Status::Scheduled,
            Stage::Completed | Stage::Finished if self.failure.is_some() => Status::Error,
            Stage::Completed | Stage::Finished => Status::Completed,
        }
    }
}

/// Seconds since the simulator's first look at the clock.
fn now() -> f64 {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed().as_secs_f64()
}

impl CommandBufferCore {
    fn new(slot: Slot, retains: bool) -> Arc<Self> {
        let state = State {
            slot: Some(slot),
            ..State::default()
        };
        Arc::new(Self {
            state: Mutex::new(state),
            changed: Condvar::new(),
            retains,
        })
    }

    /// Keeps an object alive until the work is done, unless the program promised to.
    pub(crate) fn keep(&self, object: &AnyObject) {
        if self.retains {
            lock(&self.state).kept.push(Kept::new(object));
        }
    }

    /// Takes an ended encoder's pass.
    pub(crate) fn close(&self, mut pass: Pass) {
        Work {
            encoders: 1,
            ..Work::default()
        }
        .add();
        pass.slow = rules().inject.slow();
        let mut state = lock(&self.state);
        state.open = None;
        state.items.push(Item::Pass(Box::new(pass)));
    }

    /// An encoder went without having been ended.
    pub(crate) fn forget_encoder(&self) {
        lock(&self.state).open = None;
    }

    pub(crate) fn fail(&self, failure: Failure) {
        lock(&self.state).fail(failure);
    }

    /// Whether something went wrong: what is left of it is not run.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.state).failure.is_some()
    }

    /// Whether the buffer keeps alive what its work uses.
    pub(crate) fn retains(&self) -> bool {
        self.retains
    }

    pub(crate) fn is_committed(&self) -> bool {
        lock(&self.state).progress >= Stage::Committed
    }

    /// It is this buffer's turn to be submitted: what its passes come after is settled.
    pub(crate) fn submit(&self, queue: usize, passes: &mut Passes) {
        let mut state = lock(&self.state);
        state.items.submit(queue, passes);
        // Its passes have their place in the order, for those who wait for their fences.
        if let Some(failure) = state.injected.take() {
            state.fail(failure);
        }
    }

    /// What can run next: the first item only, if they run in order. Waits that are over are taken off.
    pub(crate) fn ready(&self, in_order: bool) -> Looked {
        lock(&self.state).items.ready(in_order)
    }

    /// Takes what was said to be ready, and what is known to be before it.
    pub(crate) fn take(&self, number: usize) -> (Item, Ids) {
        let mut state = lock(&self.state);
        let taken = state.items.take(number);
        if state.started == 0.0 {
            state.started = now();
        }
        taken
    }

    /// All that has ended with this buffer, and before it by a rule.
    pub(crate) fn past(&self) -> Ids {
        lock(&self.state).items.past()
    }

    /// It is about to complete: this is what is over then.
    pub(crate) fn set_over(&self, over: Ids) {
        lock(&self.state).over = over;
    }

    /// The program was shown that this has completed.
    fn see(&self) {
        order::see(&lock(&self.state).over);
    }

    /// The event that it waits for first.
    pub(crate) fn awaited(&self) -> Option<(Arc<EventCore>, u64)> {
        lock(&self.state).items.awaited()
    }

    /// The events that it has still to signal.
    pub(crate) fn signals(&self) -> Vec<(Arc<EventCore>, u64)> {
        lock(&self.state).items.signals()
    }

    /// The buffer's name in a message.
    pub(crate) fn title(&self) -> String {
        match &lock(&self.state).label {
            Some(label) => format!("command buffer “{label}”"),
            None => format!("command buffer {self:p}"),
        }
    }

    /// Reports that the buffer is on its way to the GPU, once.
    pub(crate) fn schedule(&self) {
        let (handlers, object) = {
            let mut state = lock(&self.state);
            if state.progress != Stage::Committed {
                return;
            }
            state.progress = Stage::Scheduled;
            let object = state.object.as_ref().map(|object| Kept::new(object.get()));
            (std::mem::take(&mut state.scheduled), object)
        };
        self.changed.notify_all();
        call(handlers, object.as_ref());
    }

    /// Reports completion: status, handlers, then the threads that wait.
    pub(crate) fn complete(&self) {
        self.schedule();
        let (handlers, object, kept, slot) = {
            let mut state = lock(&self.state);
            state.ended = now();
            state.progress = Stage::Completed;
            let handlers = std::mem::take(&mut state.completed);
            let kept = std::mem::take(&mut state.kept);
            (handlers, state.object.take(), kept, state.slot.take())
        };
        if !handlers.is_empty() {
            self.see();
        }
        call(handlers, object.as_ref());
        // Before anyone who waits goes on, so that a census after a wait is exact.
        drop((kept, object, slot));
        lock(&self.state).progress = Stage::Finished;
        self.changed.notify_all();
    }

    fn wait_for(&self, gpu: &Gpu, stage: Stage, call: &str, title: impl Fn() -> String) {
        Work {
            cpu_waits: 1,
            ..Work::default()
        }
        .add();
        let state = lock(&self.state);
        if state.progress < Stage::Committed {
            drop(state);
            fault(
                call,
                format!("{} was not committed: the wait would never end", title()),
            );
        }
        drop(state);
        let _waiting = gpu.hurry();
        look_for(|| lock(&self.state).progress >= stage);
        let mut state = lock(&self.state);
        while state.progress < stage {
            let watchdog = Duration::from_millis(rules().watchdog_ms);
            let waited = self.changed.wait_timeout(state, watchdog);
            let (held, time) = waited.unwrap_or_else(PoisonError::into_inner);
            state = held;
            if time.timed_out() && state.progress < stage {
                drop(state);
                if let Some(other) = gpu.behind_uncommitted(self) {
                    fault(
                        "deadlock",
                        format!(
                            "{call}: {} is behind {other} in its queue, which was enqueued and not committed",
                            title()
                        ),
                    );
                }
                state = lock(&self.state);
            }
        }
        let panic = state
            .failure
            .as_mut()
            .and_then(|failure| failure.panic.take());
        drop(state);
        if stage >= Stage::Completed {
            self.see();
        }
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }
}

fn call(handlers: Vec<Handler>, object: Option<&Kept<SimCommandBuffer>>) {
    let Some(object) = object else {
        return;
    };
    autoreleasepool(|_| {
        for handler in &handlers {
            let buffer: &ProtocolObject<dyn MTLCommandBuffer> =
                ProtocolObject::from_ref(object.get());
            call_block("handler of a command buffer", || {
                handler.0.call((NonNull::from(buffer),));
            });
        }
        drop(handlers);
    });
}

/// A command buffer's instance variables.
pub struct CommandBuffer {
    core: Arc<CommandBufferCore>,
    queue: Kept<SimQueue>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "SimCommandBuffer"]
    #[ivars = CommandBuffer]
    /// The class behind `MTLCommandBuffer`.
    pub struct SimCommandBuffer;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimCommandBuffer {}

    // SAFETY: implements the protocol's methods below.
    unsafe impl MTLCommandBuffer for SimCommandBuffer {}

    impl SimCommandBuffer {
        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.on().retain()
        }

        #[unsafe(method_id(commandQueue))]
        fn command_queue(&self) -> Retained<SimQueue> {
            self.ivars().queue.0.clone()
        }

        #[unsafe(method(retainedReferences))]
        fn retained_references(&self) -> bool {
            self.core().retains
        }

        #[unsafe(method(errorOptions))]
        fn error_options(&self) -> MTLCommandBufferErrorOption {
            MTLCommandBufferErrorOption(0)
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            lock(&self.core().state).label.as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            lock(&self.core().state).label = label.map(ToString::to_string);
        }

        #[unsafe(method(status))]
        fn status(&self) -> Status {
            let status = lock(&self.core().state).status();
            match status {
                Status::Completed | Status::Error => self.core().see(),
                Status::Committed | Status::Scheduled => self.on().gpu().look(),
                _ => {}
            }
            status
        }

        #[unsafe(method_id(error))]
        fn error(&self) -> Option<Retained<NSError>> {
            let state = lock(&self.core().state);
            state.failure.as_ref().map(|failure| {
                error::new("MTLCommandBufferErrorDomain", failure.code, &failure.message)
            })
        }

        #[unsafe(method(GPUStartTime))]
        fn gpu_start_time(&self) -> f64 {
            lock(&self.core().state).started
        }

        #[unsafe(method(GPUEndTime))]
        fn gpu_end_time(&self) -> f64 {
            lock(&self.core().state).ended
        }

        #[unsafe(method(kernelStartTime))]
        fn kernel_start_time(&self) -> f64 {
            lock(&self.core().state).started
        }

        #[unsafe(method(kernelEndTime))]
        fn kernel_end_time(&self) -> f64 {
            lock(&self.core().state).ended
        }

        #[unsafe(method(enqueue))]
        fn enqueue(&self) {
            self.reserve();
        }

        #[unsafe(method(commit))]
        fn commit(&self) {
            self.submit();
        }

        #[unsafe(method(waitUntilScheduled))]
        fn wait_until_scheduled(&self) {
            self.core().wait_for(self.on().gpu(), Stage::Scheduled, "waitUntilScheduled", || self.title());
        }

        #[unsafe(method(waitUntilCompleted))]
        fn wait_until_completed(&self) {
            self.core().wait_for(self.on().gpu(), Stage::Finished, "waitUntilCompleted", || self.title());
        }

        #[unsafe(method(addScheduledHandler:))]
        fn add_scheduled_handler(&self, block: *mut DynBlock<HandlerBlock>) {
            // SAFETY: the method's contract: a block.
            let handler = unsafe { self.handler("addScheduledHandler:", block) };
            lock(&self.core().state).scheduled.push(handler);
        }

        #[unsafe(method(addCompletedHandler:))]
        fn add_completed_handler(&self, block: *mut DynBlock<HandlerBlock>) {
            // SAFETY: the method's contract: a block.
            let handler = unsafe { self.handler("addCompletedHandler:", block) };
            lock(&self.core().state).completed.push(handler);
        }

        #[unsafe(method_id(blitCommandEncoder))]
        fn blit_command_encoder(&self) -> Option<Retained<SimBlitEncoder>> {
            self.open("blitCommandEncoder", Kind::Blit);
            Some(SimBlitEncoder::new(self))
        }

        #[unsafe(method_id(computeCommandEncoder))]
        fn compute_command_encoder(&self) -> Option<Retained<SimComputeEncoder>> {
            self.open("computeCommandEncoder", Kind::SerialCompute);
            Some(SimComputeEncoder::new(self, MTLDispatchType::Serial))
        }

        #[unsafe(method_id(computeCommandEncoderWithDispatchType:))]
        fn compute_command_encoder_with(
            &self,
            dispatch: MTLDispatchType,
        ) -> Option<Retained<SimComputeEncoder>> {
            self.open("computeCommandEncoderWithDispatchType:", Kind::ConcurrentCompute);
            Some(SimComputeEncoder::new(self, dispatch))
        }

        #[unsafe(method_id(computeCommandEncoderWithDescriptor:))]
        fn compute_command_encoder_described(
            &self,
            descriptor: Option<&SimComputePassDescriptor>,
        ) -> Option<Retained<SimComputeEncoder>> {
            let descriptor = given(descriptor, "computeCommandEncoderWithDescriptor:", "descriptor");
            self.open("computeCommandEncoderWithDescriptor:", Kind::ConcurrentCompute);
            Some(SimComputeEncoder::new(self, descriptor.dispatch()))
        }

        #[unsafe(method_id(blitCommandEncoderWithDescriptor:))]
        fn blit_command_encoder_described(
            &self,
            _descriptor: Option<&SimBlitPassDescriptor>,
        ) -> Option<Retained<SimBlitEncoder>> {
            self.open("blitCommandEncoderWithDescriptor:", Kind::Blit);
            Some(SimBlitEncoder::new(self))
        }

        #[unsafe(method(encodeWaitForEvent:value:))]
        fn encode_wait(&self, event: Option<&AnyObject>, value: u64) {
            let event = given(event, "encodeWaitForEvent:value:", "event");
            self.encode_event("encodeWaitForEvent:value:", event, value, Item::Wait);
        }

        #[unsafe(method(encodeSignalEvent:value:))]
        fn encode_signal(&self, event: Option<&AnyObject>, value: u64) {
            let event = given(event, "encodeSignalEvent:value:", "event");
            self.encode_event("encodeSignalEvent:value:", event, value, Item::Signal);
        }

        #[unsafe(method(useResidencySet:))]
        fn use_residency_set(&self, set: Option<&AnyObject>) {
            let set = given(set, "useResidencySet:", "set");
            self.core().keep(set);
        }

        #[unsafe(method(useResidencySets:count:))]
        fn use_residency_sets(&self, sets: *const NonNull<AnyObject>, count: usize) {
            for at in 0..count {
                // SAFETY: the method's contract: `count` sets.
                self.core().keep(unsafe { (*sets.add(at)).as_ref() });
            }
        }

        #[unsafe(method(pushDebugGroup:))]
        fn push_debug_group(&self, _text: Option<&NSString>) {}

        #[unsafe(method(popDebugGroup))]
        fn pop_debug_group(&self) {}
    }
);

// SAFETY: the state is behind a lock.
unsafe impl Send for SimCommandBuffer {}
// SAFETY: as above.
unsafe impl Sync for SimCommandBuffer {}

impl SimCommandBuffer {
    pub(crate) fn new(queue: &SimQueue, slot: Slot, retains: bool) -> Retained<Self> {
        let core = CommandBufferCore::new(slot, retains);
        let buffer = CommandBuffer {
            core,
            queue: Kept::new(queue),
        };
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(buffer)), init] }
    }

    /// The shared state.
    pub fn core(&self) -> &Arc<CommandBufferCore> {
        &self.ivars().core
    }

    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().queue.get().on()
    }

    /// The buffer's name in a message.
    pub(crate) fn title(&self) -> String {
        self.core().title()
    }

    /// A fault unless the resource belongs to this buffer's device.
    pub(crate) fn check_device(&self, call: &str, device: &SimDevice) {
        if self.on().id() != device.id() {
            fault(
                call,
                format!("{} is of another device than the resource", self.title()),
            );
        }
    }

    /// A fault unless new work may be encoded now.
    fn check_open(&self, call: &str) {
        let state = lock(&self.core().state);
        let (progress, open) = (state.progress, state.open);
        drop(state);
        if progress >= Stage::Committed {
            fault("encode after commit", format!("{call} on {}", self.title()));
        }
        if let Some(kind) = open {
            fault(
                "encoder already open",
                format!(
                    "{call} on {}: a {kind:?} encoder was not ended",
                    self.title()
                ),
            );
        }
    }

    fn open(&self, call: &str, kind: Kind) {
        self.check_open(call);
        lock(&self.core().state).open = Some(kind);
    }

    /// Encodes work that opens and closes its own encoder, as MPS does.
    pub(crate) fn encode_own<'a>(
        &self,
        call: &str,
        op: Op,
        uses: impl IntoIterator<Item = &'a AnyObject>,
    ) {
        self.check_open(call);
        for object in uses {
            self.core().keep(object);
        }
        let mut pass = Pass::new(Kind::Mps);
        pass.label.clone_from(&op.label);
        pass.push(op);
        self.core().close(pass);
    }

    fn encode_event(
        &self,
        call: &str,
        event: &AnyObject,
        value: u64,
        item: fn(Arc<crate::model::event::EventCore>, u64) -> Item,
    ) {
        self.check_open(call);
        Work {
            events: 1,
            ..Work::default()
        }
        .add();
        let (core, device) = if let Some(event) = event.downcast_ref::<SimEvent>() {
            (event.core(), event.on())
        } else if let Some(event) = event.downcast_ref::<SimSharedEvent>() {
            (event.core(), event.on())
        } else {
            fault(call, "the argument is not an event")
        };
        self.check_device(call, device);
        self.core().keep(event);
        lock(&self.core().state)
            .items
            .push(item(core.clone(), value));
    }

    /// # Safety
    /// `block` is null or a block.
    unsafe fn handler(&self, call: &str, block: *mut DynBlock<HandlerBlock>) -> Handler {
        if self.core().is_committed() {
            fault(
                "handler after commit",
                format!("{call} on {}", self.title()),
            );
        }
        if lock(&self.core().state).open.is_some() {
            let verdict = rules().handler_with_open_encoder;
            // A warning is told once, and not for each buffer.
            let told = match verdict {
                Verdict::Fault => format!("{call} on {}", self.title()),
                _ => "some systems abort on it".to_owned(),
            };
            verdict.on("handler with an open encoder", told);
        }
        // SAFETY: the caller's promise.
        match unsafe { RcBlock::copy(block) } {
            Some(block) => Handler(block),
            None => fault(call, "the block is nil"),
        }
    }

    /// Takes the buffer's place in its queue's order; again does nothing.
    fn reserve(&self) {
        {
            let mut state = lock(&self.core().state);
            if state.progress != Stage::NotEnqueued {
                return;
            }
            state.progress = Stage::Enqueued;
        }
        let queue = self.ivars().queue.get();
        self.on().gpu().enqueue(queue.id(), self.core().clone());
    }

    fn submit(&self) {
        let (progress, open) = {
            let state = lock(&self.core().state);
            (state.progress, state.open)
        };
        if progress >= Stage::Committed {
            fault("commit twice", self.title());
        }
        if let Some(kind) = open {
            fault(
                "commit with an open encoder",
                format!("{}: a {kind:?} encoder was not ended", self.title()),
            );
        }
        Work {
            command_buffers: 1,
            ..Work::default()
        }
        .add();
        self.reserve();
        {
            let mut state = lock(&self.core().state);
            state.object = Some(Kept::new(self));
            state.injected = rules().inject.commit();
            state.progress = Stage::Committed;
        }
        self.on().gpu().submit(self.ivars().queue.get().id());
    }
}
