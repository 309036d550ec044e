//! Selectors that Metal has and the simulator does not: textures, rendering, ray tracing,
//! counters, indirect command buffers. Each exists, with its right signature, and is a fault
//! that names it; a program that asks `respondsToSelector:` is told the truth by the fault.

use super::blit::SimBlitEncoder;
use super::command_buffer::SimCommandBuffer;
use super::compute::SimComputeEncoder;
use crate::fault::fault;
use metal_sim_objc::class::Class;
use metal_sim_objc::object::{self, Object};
use metal_sim_objc::selector::Sel;
use objc2::encode::Encode;
use objc2::runtime::{AnyClass, Bool};
use objc2::{ClassType, Encoding};
use objc2_foundation::NSRange;
use objc2_metal::{MTLOrigin, MTLRegion, MTLSize};
use std::ffi::CString;

/// A selector and its arguments, a letter each (see [`encoding`]).
type Refused = (&'static str, &'static str);

const BLIT: &[Refused] = &[
    ("synchronizeTexture:slice:level:", "@QQ"),
    (
        "copyFromTexture:sourceSlice:sourceLevel:sourceOrigin:sourceSize:toTexture:\
         destinationSlice:destinationLevel:destinationOrigin:",
        "@QQOS@QQO",
    ),
    (
        "copyFromBuffer:sourceOffset:sourceBytesPerRow:sourceBytesPerImage:sourceSize:toTexture:\
         destinationSlice:destinationLevel:destinationOrigin:",
        "@QQQS@QQO",
    ),
    (
        "copyFromBuffer:sourceOffset:sourceBytesPerRow:sourceBytesPerImage:sourceSize:toTexture:\
         destinationSlice:destinationLevel:destinationOrigin:options:",
        "@QQQS@QQOQ",
    ),
    (
        "copyFromTexture:sourceSlice:sourceLevel:sourceOrigin:sourceSize:toBuffer:\
         destinationOffset:destinationBytesPerRow:destinationBytesPerImage:",
        "@QQOS@QQQ",
    ),
    (
        "copyFromTexture:sourceSlice:sourceLevel:sourceOrigin:sourceSize:toBuffer:\
         destinationOffset:destinationBytesPerRow:destinationBytesPerImage:options:",
        "@QQOS@QQQQ",
    ),
    ("generateMipmapsForTexture:", "@"),
    (
        "copyFromTexture:sourceSlice:sourceLevel:toTexture:destinationSlice:destinationLevel:\
         sliceCount:levelCount:",
        "@QQ@QQQQ",
    ),
    ("copyFromTexture:toTexture:", "@@"),
    (
        "getTextureAccessCounters:region:mipLevel:slice:resetCounters:countersBuffer:\
         countersBufferOffset:",
        "@RQQB@Q",
    ),
    ("resetTextureAccessCounters:region:mipLevel:slice:", "@RQQ"),
    ("optimizeContentsForGPUAccess:", "@"),
    ("optimizeContentsForGPUAccess:slice:level:", "@QQ"),
    ("optimizeContentsForCPUAccess:", "@"),
    ("optimizeContentsForCPUAccess:slice:level:", "@QQ"),
    ("resetCommandsInBuffer:withRange:", "@N"),
    (
        "copyIndirectCommandBuffer:sourceRange:destination:destinationIndex:",
        "@N@Q",
    ),
    ("optimizeIndirectCommandBuffer:withRange:", "@N"),
    ("sampleCountersInBuffer:atSampleIndex:withBarrier:", "@QB"),
    (
        "resolveCounters:inRange:destinationBuffer:destinationOffset:",
        "@N@Q",
    ),
    (
        "copyFromTensor:sourceOrigin:sourceDimensions:toTensor:destinationOrigin:\
         destinationDimensions:",
        "@@@@@@",
    ),
];

const COMPUTE: &[Refused] = &[
    ("setBuffer:offset:attributeStride:atIndex:", "@QQQ"),
    ("setBuffers:offsets:attributeStrides:withRange:", "oqqN"),
    ("setBufferOffset:attributeStride:atIndex:", "QQQ"),
    ("setBytes:length:attributeStride:atIndex:", "vQQQ"),
    ("setVisibleFunctionTable:atBufferIndex:", "@Q"),
    ("setVisibleFunctionTables:withBufferRange:", "oN"),
    ("setIntersectionFunctionTable:atBufferIndex:", "@Q"),
    ("setIntersectionFunctionTables:withBufferRange:", "oN"),
    ("setAccelerationStructure:atBufferIndex:", "@Q"),
    ("setTexture:atIndex:", "@Q"),
    ("setTextures:withRange:", "oN"),
    ("setSamplerState:atIndex:", "@Q"),
    ("setSamplerStates:withRange:", "oN"),
    ("setSamplerState:lodMinClamp:lodMaxClamp:atIndex:", "@ffQ"),
    (
        "setSamplerStates:lodMinClamps:lodMaxClamps:withRange:",
        "oggN",
    ),
    ("setImageblockWidth:height:", "QQ"),
    ("setStageInRegion:", "R"),
    (
        "setStageInRegionWithIndirectBuffer:indirectBufferOffset:",
        "@Q",
    ),
    ("executeCommandsInBuffer:withRange:", "@N"),
    (
        "executeCommandsInBuffer:indirectBuffer:indirectBufferOffset:",
        "@@Q",
    ),
    ("sampleCountersInBuffer:atSampleIndex:withBarrier:", "@QB"),
];

const COMMAND_BUFFER: &[Refused] = &[
    ("presentDrawable:", "@"),
    ("presentDrawable:atTime:", "@d"),
    ("presentDrawable:afterMinimumDuration:", "@d"),
];

/// These return an object.
const COMMAND_BUFFER_OBJECTS: &[Refused] = &[
    ("renderCommandEncoderWithDescriptor:", "@"),
    ("parallelRenderCommandEncoderWithDescriptor:", "@"),
    ("resourceStateCommandEncoder", ""),
    ("resourceStateCommandEncoderWithDescriptor:", "@"),
    ("accelerationStructureCommandEncoder", ""),
    ("accelerationStructureCommandEncoderWithDescriptor:", "@"),
    ("logs", ""),
];

/// The encoding of an argument's letter.
fn encoding(letter: char) -> String {
    let known = |encoding: Encoding| encoding.to_string();
    match letter {
        '@' | 'Q' | 'f' | 'd' => letter.to_string(),
        'B' => known(Bool::ENCODING),
        'N' => known(NSRange::ENCODING),
        'O' => known(MTLOrigin::ENCODING),
        'S' => known(MTLSize::ENCODING),
        'R' => known(MTLRegion::ENCODING),
        // Pointers: to objects, integers, floats, anything.
        'o' => "^@".to_owned(),
        'q' => "^Q".to_owned(),
        'g' => "^f".to_owned(),
        'v' => "^v".to_owned(),
        other => unreachable!("no argument letter {other}"),
    }
}

/// The function behind every refused selector. Its further arguments are left unread, which
/// every calling convention in use allows.
unsafe extern "C-unwind" fn refuse(receiver: *mut Object, sel: Sel) {
    // SAFETY: called as a method, so the receiver is an object.
    let class = unsafe { object::class_name(receiver) };
    fault(
        "not simulated",
        format!("-[{} {sel}]", class.to_string_lossy()),
    )
}

fn add(class: &'static AnyClass, returns: &str, refused: &[Refused]) {
    // SAFETY: every class of this process is one of the runtime's.
    let class: &'static Class = unsafe { &*std::ptr::from_ref(class).cast() };
    for (selector, arguments) in refused {
        let types: String = arguments.chars().map(encoding).collect();
        let types = CString::new(format!("{returns}@:{types}")).expect("no NUL in an encoding");
        let name = CString::new(*selector).expect("no NUL in a selector");
        class.add_method(Sel::new(&name), refuse as *const _, &types);
    }
}

/// Adds the refused selectors to the classes that Metal has them on.
pub(super) fn register() {
    add(SimBlitEncoder::class(), "v", BLIT);
    add(SimComputeEncoder::class(), "v", COMPUTE);
    add(SimCommandBuffer::class(), "v", COMMAND_BUFFER);
    add(SimCommandBuffer::class(), "@", COMMAND_BUFFER_OBJECTS);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_selector_has_as_many_arguments_as_colons() {
        for (selector, arguments) in
            [BLIT, COMPUTE, COMMAND_BUFFER, COMMAND_BUFFER_OBJECTS].concat()
        {
            let colons = selector.matches(':').count();
            assert_eq!(colons, arguments.chars().count(), "{selector}");
        }
    }

    #[test]
    fn a_refused_selector_is_named() {
        use objc2_metal::{MTLCommandBuffer, MTLCommandQueue, MTLDevice};
        crate::start();
        let commands = crate::model::device::devices()[0]
            .newCommandQueue()
            .and_then(|queue| queue.commandBuffer())
            .expect("a command buffer");
        let asked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            commands.resourceStateCommandEncoder()
        }));
        let panic = asked.expect_err("a fault");
        let text = panic.downcast_ref::<String>().expect("a message");
        assert!(
            text.contains("-[SimCommandBuffer resourceStateCommandEncoder]"),
            "{text}"
        );
    }
}
