//! `MTLBlitCommandEncoder`: fills and copies of buffers.

use super::buffer::SimBuffer;
use super::command_buffer::SimCommandBuffer;
use super::encoder::EncoderCore;
use super::given;
use crate::encoder_class;
use crate::fault::fault;
use crate::pass::{Access, Kind, Op};
use crate::rules::rules;
use objc2::rc::Retained;
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, msg_send};
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{MTLBlitCommandEncoder, MTLCommandEncoder};

encoder_class!(
    SimBlitEncoder,
    "SimBlitEncoder",
    MTLBlitCommandEncoder,
    EncoderCore,
    ivars,
    {
        #[unsafe(method(fillBuffer:range:value:))]
        fn fill_buffer(&self, buffer: Option<&SimBuffer>, range: NSRange, value: u8) {
            let buffer = given(buffer, "fillBuffer:range:value:", "buffer");
            self.fill(buffer, range, value);
        }

        #[unsafe(method(copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:))]
        fn copy_from_buffer(
            &self,
            source: Option<&SimBuffer>,
            source_offset: usize,
            destination: Option<&SimBuffer>,
            destination_offset: usize,
            size: usize,
        ) {
            let source = given(
                source,
                "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
                "source",
            );
            let destination = given(
                destination,
                "copyFromBuffer:sourceOffset:toBuffer:destinationOffset:size:",
                "destination",
            );
            self.copy(
                (source, source_offset),
                (destination, destination_offset),
                size,
            );
        }

        #[unsafe(method(synchronizeResource:))]
        fn synchronize_resource(&self, resource: Option<&SimBuffer>) {
            let resource = given(resource, "synchronizeResource:", "resource");
            self.synchronize(resource);
        }
    }
);

// SAFETY: the recorded pass is behind a lock.
unsafe impl Send for SimBlitEncoder {}
// SAFETY: as above.
unsafe impl Sync for SimBlitEncoder {}

impl SimBlitEncoder {
    pub(crate) fn new(buffer: &SimCommandBuffer) -> Retained<Self> {
        let core = EncoderCore::new(buffer, Kind::Blit);
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(core)), init] }
    }

    fn fill(&self, buffer: &SimBuffer, range: NSRange, value: u8) {
        self.ivars()
            .buffer()
            .check_device("fillBuffer", buffer.on());
        let range = buffer.range("fillBuffer range", range.location, range.length);
        let memory = buffer.core().memory().clone();
        let op = Op {
            label: "fillBuffer:range:value:".to_owned(),
            accesses: vec![Access::write(&memory, range.clone())],
            run: Box::new(move || {
                // SAFETY: the GPU's rules order this access.
                unsafe { memory.fill(range, value) };
                None
            }),
        };
        let object: &AnyObject = buffer;
        self.ivars().push(op, [object]);
    }

    fn copy(&self, source: (&SimBuffer, usize), destination: (&SimBuffer, usize), size: usize) {
        const RULE: &str = "copyFromBuffer range";
        for (buffer, _) in [source, destination] {
            self.ivars()
                .buffer()
                .check_device("copyFromBuffer", buffer.on());
        }
        let read = source.0.range(RULE, source.1, size);
        let written = destination.0.range(RULE, destination.1, size);
        if std::ptr::eq(source.0, destination.0)
            && read.start < written.end
            && written.start < read.end
        {
            fault(
                "copyFromBuffer overlap",
                format!("{read:?} to {written:?} of {}", source.0.title()),
            );
        }
        if [read.start, written.start, size]
            .iter()
            .any(|at| !at.is_multiple_of(4))
        {
            rules().copy_alignment.on(
                "copyFromBuffer alignment",
                "offsets and sizes that are no multiple of 4 bytes are refused by Macs with an Intel GPU",
            );
        }
        let (from, into) = (
            source.0.core().memory().clone(),
            destination.0.core().memory().clone(),
        );
        let op = Op {
            label: "copyFromBuffer:toBuffer:".to_owned(),
            accesses: vec![
                Access::read(&from, read.clone()),
                Access::write(&into, written.clone()),
            ],
            run: Box::new(move || {
                // SAFETY: the GPU's rules order these accesses.
                unsafe { from.copy_to(read.start, &into, written.start, size) };
                None
            }),
        };
        let objects: [&AnyObject; 2] = [source.0, destination.0];
        self.ivars().push(op, objects);
    }

    fn synchronize(&self, resource: &SimBuffer) {
        if resource.core().storage_mode() != objc2_metal::MTLStorageMode::Managed {
            fault(
                "synchronizeResource",
                format!("{} is not managed", resource.title()),
            );
        }
        self.ivars().record("synchronizeResource:", |_| ());
    }
}
