//! Private buffers begin with anything: with the detector on, a kernel that reads what neither a kernel, a blit nor an
//! MPS kernel wrote is found out, and one that reads what was written is not.

// The kernels are run as a Metal program would.
#![allow(unsafe_code)]

mod support;

use metal_sim as _;
use objc2::AnyThread;
use objc2::rc::Retained;
use objc2::runtime::ProtocolObject;
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLBlitCommandEncoder, MTLBuffer, MTLCommandBuffer, MTLCommandBufferStatus, MTLCommandEncoder,
    MTLCommandQueue, MTLComputeCommandEncoder, MTLCreateSystemDefaultDevice, MTLDevice, MTLLibrary,
    MTLResourceOptions,
};
use objc2_metal_performance_shaders::{
    MPSDataType, MPSMatrix, MPSMatrixDescriptor, MPSMatrixSoftMax,
};
use std::panic::{AssertUnwindSafe, catch_unwind};
use support::size;

type Buffer = Retained<ProtocolObject<dyn MTLBuffer>>;

const SOURCE: &str = "#include <metal_stdlib>
kernel void fill(device float *out [[buffer(0)]], uint i [[thread_position_in_grid]]) { out[i] = i; }
kernel void add(device float *in [[buffer(0)]], device float *out [[buffer(1)]], uint i [[thread_position_in_grid]]) {
  out[i] += in[i];
}
";
const WORDS: usize = 64;

#[test]
fn reads_of_what_nobody_wrote() {
    let program = std::env::current_exe().unwrap();
    let output = std::process::Command::new(program)
        .args(["--exact", "with_the_detector", "--ignored", "--nocapture"])
        .env("METAL_SIM_RACES", "on")
        .env_remove("METAL_SIM_FAULTS")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
}

struct Machine {
    device: Retained<ProtocolObject<dyn MTLDevice>>,
    queue: Retained<ProtocolObject<dyn MTLCommandQueue>>,
    library: Retained<ProtocolObject<dyn MTLLibrary>>,
}

impl Machine {
    fn buffer(&self, options: MTLResourceOptions) -> Buffer {
        let made = self.device.newBufferWithLength_options(WORDS * 4, options);
        made.unwrap()
    }

    fn private(&self) -> Buffer {
        self.buffer(MTLResourceOptions::StorageModePrivate)
    }

    /// Runs a kernel on threads; what the GPU says if it cannot.
    fn run(&self, kernel: &str, threads: usize, buffers: &[&Buffer]) -> Result<(), String> {
        let function = self
            .library
            .newFunctionWithName(&NSString::from_str(kernel));
        let pipeline = self
            .device
            .newComputePipelineStateWithFunction_error(&function.unwrap());
        self.commands(|commands| {
            let encoder = commands.computeCommandEncoder().unwrap();
            encoder.setComputePipelineState(&pipeline.unwrap());
            for (index, buffer) in buffers.iter().enumerate() {
                // SAFETY: the buffer is as long as the kernel needs.
                unsafe { encoder.setBuffer_offset_atIndex(Some(buffer), 0, index) };
            }
            encoder.dispatchThreads_threadsPerThreadgroup(size(threads), size(32));
            encoder.endEncoding();
        })
    }

    fn commands(
        &self,
        encode: impl FnOnce(&ProtocolObject<dyn MTLCommandBuffer>),
    ) -> Result<(), String> {
        let commands = self.queue.commandBuffer().unwrap();
        encode(&commands);
        commands.commit();
        let waited = catch_unwind(AssertUnwindSafe(|| commands.waitUntilCompleted()));
        match commands.status() {
            MTLCommandBufferStatus::Completed => Ok(()),
            _ => {
                let panic = waited.err().and_then(|it| it.downcast::<String>().ok());
                let error = commands.error().map(|error| error.localizedDescription());
                Err(panic.map_or_else(|| error.map(|it| it.to_string()).unwrap(), |it| *it))
            }
        }
    }
}

#[test]
#[ignore = "started by reads_of_what_nobody_wrote, with the detector on"]
fn with_the_detector() {
    let device = MTLCreateSystemDefaultDevice().unwrap();
    let library = device.newLibraryWithSource_options_error(&NSString::from_str(SOURCE), None);
    let machine = Machine {
        queue: device.newCommandQueue().unwrap(),
        library: library.unwrap(),
        device,
    };
    let out = machine.buffer(MTLResourceOptions::StorageModeShared);

    let nothing = machine.private();
    let told = machine.run("add", WORDS, &[&nothing, &out]).unwrap_err();
    assert!(
        told.contains("uninitialised") && told.contains("buffer 0 `in`") && told.contains(":4"),
        "{told}"
    );

    // A kernel writes a half of it.
    let half = machine.private();
    assert_eq!(machine.run("fill", WORDS / 2, &[&half]), Ok(()));
    assert_eq!(machine.run("add", WORDS / 2, &[&half, &out]), Ok(()));
    let told = machine.run("add", WORDS, &[&half, &out]).unwrap_err();
    assert!(told.contains("reads 4 bytes at offset 128"), "{told}");

    // A blit fills one, and copies it to another.
    let [filled, copied] = [machine.private(), machine.private()];
    let blitted = machine.commands(|commands| {
        let blit = commands.blitCommandEncoder().unwrap();
        let whole = NSRange {
            location: 0,
            length: WORDS * 4,
        };
        blit.fillBuffer_range_value(&filled, whole, 0);
        // SAFETY: the ranges are inside both buffers.
        unsafe {
            blit.copyFromBuffer_sourceOffset_toBuffer_destinationOffset_size(
                &filled,
                0,
                &copied,
                0,
                WORDS * 4,
            );
        }
        blit.endEncoding();
    });
    assert_eq!(blitted, Ok(()));
    assert_eq!(machine.run("add", WORDS, &[&filled, &out]), Ok(()));
    assert_eq!(machine.run("add", WORDS, &[&copied, &out]), Ok(()));

    // An MPS kernel writes the result.
    let result = machine.private();
    let made = machine.commands(|commands| {
        // SAFETY: the matrices are inside their buffers, which are kept.
        unsafe {
            let descriptor =
                MPSMatrixDescriptor::matrixDescriptorWithRows_columns_rowBytes_dataType(
                    4,
                    WORDS / 4,
                    WORDS,
                    MPSDataType::Float32,
                );
            let matrix = |buffer: &Buffer| {
                MPSMatrix::initWithBuffer_descriptor(MPSMatrix::alloc(), buffer, &descriptor)
            };
            let kernel =
                MPSMatrixSoftMax::initWithDevice(MPSMatrixSoftMax::alloc(), &machine.device);
            kernel.encodeToCommandBuffer_inputMatrix_resultMatrix(
                commands,
                &matrix(&filled),
                &matrix(&result),
            );
        }
    });
    assert_eq!(made, Ok(()));
    assert_eq!(machine.run("add", WORDS, &[&result, &out]), Ok(()));
}
