//! Compiled kernels, once per process.
//!
//! A [`Source`] is one `.metal` file behind `kernels/common.metal`; a [`Kernel`] names one of its functions for one
//! element type, with the values of its function constants. Pipelines are kept in a table of [`PLACES`] places
//! that are written once each and never locked, so that a call costs a hash and a comparison. The table never grows:
//! variants are few, and what finds no place is compiled again, which `tracing` reports.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::{DType, MetalDevice};
use candle_metal_kernels::metal::{ComputePipeline, ConstantValues, Library, Value};
use objc2_metal::{MTLCompileOptions, MTLDevice, MTLGPUFamily, MTLLanguageVersion};

use crate::error::{Error, Result};

/// How many pipelines a process keeps. An op has a few variants in a program, products and attention some dozens: by
/// strides, epilogue and sizes of heads.
const PLACES: usize = 2048;

/// One file of kernels. No two have one name, which stands for the whole text where sources are compared.
#[derive(Debug)]
pub(crate) struct Source {
    /// The op, as in the file's name.
    pub(crate) name: &'static str,
    /// The file, with what it shares in front.
    pub(crate) text: &'static str,
    /// Its function constants of type `bool` have the indices from 0 to this.
    pub(crate) flags: usize,
    /// Those of type `ushort` have the indices from [`NUMBERS`] on, so many of them.
    pub(crate) numbers: usize,
}

impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Source {}

impl Hash for Source {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

/// The index of the first function constant that is a number.
pub(crate) const NUMBERS: usize = 16;

/// The text of a file of kernels, with what they share in front: `common.metal`, and what some of them share.
macro_rules! source {
    ($name:literal, $(with: [$($shared:literal),*],)? flags: $flags:expr, numbers: $numbers:expr) => {
        $crate::metal::library::Source {
            name: $name,
            text: concat!(
                include_str!("common.metal"),
                $($(include_str!(concat!($shared, ".metal")),)*)?
                include_str!(concat!($name, ".metal"))
            ),
            flags: $flags,
            numbers: $numbers,
        }
    };
}
pub(crate) use source;

/// A function of a source, specialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kernel {
    pub(crate) source: &'static Source,
    /// Without the type at its end: `softmax` for `softmax_f32`.
    pub(crate) function: &'static str,
    pub(crate) dtype: DType,
    /// The function constants of type `bool`, the first in the lowest bit.
    pub(crate) flags: u16,
    /// The function constants that are numbers.
    pub(crate) numbers: [u16; 4],
}

impl Kernel {
    /// A kernel whose function constants are all off.
    pub(crate) fn new(source: &'static Source, function: &'static str, dtype: DType) -> Self {
        Self {
            source,
            function,
            dtype,
            flags: 0,
            numbers: [0; 4],
        }
    }

    /// With these function constants of type `bool`, from the first on.
    pub(crate) fn flags(mut self, flags: &[bool]) -> Self {
        debug_assert!(flags.len() <= self.source.flags);
        let bits = flags.iter().rev();
        self.flags = bits.fold(0, |bits, flag| bits << 1 | u16::from(*flag));
        self
    }

    /// With these function constants that are numbers, from the first on.
    pub(crate) fn numbers(mut self, numbers: &[u16]) -> Self {
        debug_assert!(numbers.len() <= self.source.numbers);
        self.numbers[..numbers.len()].copy_from_slice(numbers);
        self
    }

    fn constants(&self) -> ConstantValues {
        let flags = (0..self.source.flags).map(|at| (at, Value::Bool(self.flags >> at & 1 == 1)));
        let numbers = self.numbers.iter().take(self.source.numbers).enumerate();
        let numbers = numbers.map(|(at, number)| (NUMBERS + at, Value::U16(*number)));
        ConstantValues::new(flags.chain(numbers).collect())
    }
}

/// A kernel, ready to be encoded.
#[derive(Clone, Debug)]
pub(crate) struct Pipeline {
    pub(crate) raw: ComputePipeline,
    /// With more threads in a threadgroup a dispatch computes nothing, in silence.
    pub(crate) most_threads: usize,
}

/// A pipeline of a GPU. Two Candle devices may be one GPU, which is why its registry id is the key.
struct Kept {
    gpu: u64,
    kernel: Kernel,
    pipeline: Pipeline,
}

static TABLE: [OnceLock<Kept>; PLACES] = [const { OnceLock::new() }; PLACES];

/// The pipeline of a kernel, compiled if this is the first call for it.
pub(crate) fn pipeline(device: &MetalDevice, kernel: &Kernel) -> Result<Pipeline> {
    let gpu = device.device().registry_id();
    let mut hasher = DefaultHasher::new();
    (gpu, kernel).hash(&mut hasher);
    let first = hasher.finish() as usize % PLACES;
    for step in 0..PLACES {
        let place = &TABLE[(first + step) % PLACES];
        if place.get().is_none() {
            let pipeline = compile(device, gpu, kernel)?;
            let kept = Kept {
                gpu,
                kernel: *kernel,
                pipeline,
            };
            // Another thread may have been faster, perhaps with another kernel: then the place is looked at again.
            let _ = place.set(kept);
        }
        if let Some(kept) = place.get()
            && kept.gpu == gpu
            && kept.kernel == *kernel
        {
            return Ok(kept.pipeline.clone());
        }
    }
    tracing::warn!(
        kernel = kernel.function,
        "the table of pipelines is full: it is compiled again"
    );
    compile(device, gpu, kernel)
}

fn compile(device: &MetalDevice, gpu: u64, kernel: &Kernel) -> Result<Pipeline> {
    let name = format!("{}_{}", kernel.function, kernel.dtype.as_str());
    let failed = |what: candle_metal_kernels::MetalKernelError| Error::Kernel {
        kernel: name.clone(),
        what: what.to_string(),
    };
    let _span = tracing::debug_span!("compile", kernel = name, flags = kernel.flags).entered();
    let library = library(device, gpu, kernel.source).map_err(failed)?;
    let function = library
        .get_function(&name, Some(&kernel.constants()))
        .map_err(failed)?;
    let device = device.device();
    let raw = device
        .new_compute_pipeline_state_with_function(&function)
        .map_err(failed)?;
    Ok(Pipeline {
        most_threads: raw.max_total_threads_per_threadgroup(),
        raw,
    })
}

/// The library of a source. Its lock is held while it is compiled, so that this happens once.
fn library(
    device: &MetalDevice,
    gpu: u64,
    source: &'static Source,
) -> std::result::Result<Library, candle_metal_kernels::MetalKernelError> {
    type Libraries = BTreeMap<(u64, &'static str), Library>;
    static LIBRARIES: Mutex<Libraries> = Mutex::new(BTreeMap::new());
    let mut libraries = LIBRARIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(library) = libraries.get(&(gpu, source.name)) {
        return Ok(library.clone());
    }
    let compile = |version: Option<MTLLanguageVersion>| {
        let options = MTLCompileOptions::new();
        // Infinity and NaN mean what they say in these kernels. The newer `mathMode` is missing before macOS 15.
        #[allow(deprecated)]
        options.setFastMathEnabled(false);
        if let Some(version) = version {
            options.setLanguageVersion(version);
        }
        let device = device.device();
        device.new_library_with_source(source.text, Some(&options))
    };
    // bf16 came with 3.1, and the default may be older than the system. A system that does not know 3.1 refuses it.
    let library = compile(Some(MTLLanguageVersion::Version3_1)).or_else(|_| compile(None))?;
    libraries.insert((gpu, source.name), library.clone());
    Ok(library)
}

/// What a GPU and its compiler can do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Abilities {
    /// Simdgroups of 32, and their matrices: every GPU of Apple's since the M1.
    pub(crate) simdgroups: bool,
    /// Metal 3.1, macOS 14.
    pub(crate) bf16: bool,
}

/// What the GPU of a device can do: found out once, and read without a lock.
pub(crate) fn abilities(device: &MetalDevice) -> Abilities {
    // More GPUs than any Mac has; one that finds no place is asked each time.
    static KNOWN: [OnceLock<(u64, Abilities)>; 16] = [const { OnceLock::new() }; 16];
    let gpu = device.device().registry_id();
    for place in &KNOWN {
        let (its, abilities) = place.get_or_init(|| (gpu, ask(device, gpu)));
        if *its == gpu {
            return *abilities;
        }
    }
    ask(device, gpu)
}

fn ask(device: &MetalDevice, gpu: u64) -> Abilities {
    static PROBE: Source = Source {
        name: "probe",
        text: concat!(
            include_str!("kernels/common.metal"),
            "\n#ifdef HAS_BF16\nkernel void probe_bf16() {}\n#endif\nkernel void probe_f32() {}\n"
        ),
        flags: 0,
        numbers: 0,
    };
    let kernel = Kernel::new(&PROBE, "probe", DType::BF16);
    let raw = device.device().as_ref();
    Abilities {
        simdgroups: raw.supportsFamily(MTLGPUFamily::Apple7),
        bf16: compile(device, gpu, &kernel).is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static NOTHING: Source = Source {
        name: "nothing",
        text: concat!(
            include_str!("kernels/common.metal"),
            "constant bool FIRST [[function_constant(0)]];\n",
            "constant bool SECOND [[function_constant(1)]];\n",
            "constant ushort COUNT [[function_constant(16)]];\n",
            "kernel void nothing_f32(device uint* out [[buffer(0)]]) {\n",
            "  out[0] = (FIRST ? 1 : 0) + (SECOND ? 2 : 0) + 4 * COUNT;\n}\n"
        ),
        flags: 2,
        numbers: 1,
    };

    fn device() -> MetalDevice {
        let device = crate::metal::device(0).unwrap();
        device.as_metal_device().unwrap().clone()
    }

    #[test]
    fn flags_are_bits_in_their_order() {
        let kernel = Kernel::new(&NOTHING, "nothing", DType::F32);
        assert_eq!(kernel.flags(&[true, false]).flags, 0b01);
        assert_eq!(kernel.flags(&[false, true]).flags, 0b10);
        assert_eq!(kernel.numbers(&[7]).numbers, [7, 0, 0, 0]);
    }

    #[test]
    fn a_pipeline_is_compiled_once() {
        let device = device();
        let kernel = Kernel::new(&NOTHING, "nothing", DType::F32).flags(&[true, true]);
        let raw = |kernel: &Kernel| {
            let pipeline = pipeline(&device, kernel).unwrap();
            std::ptr::from_ref(pipeline.raw.as_ref()).cast::<()>()
        };
        let (first, second) = (raw(&kernel), raw(&kernel));
        assert_eq!(first, second);
        assert_ne!(first, raw(&kernel.flags(&[true, false])));
    }

    #[test]
    fn a_kernel_that_is_not_there_is_an_error_that_names_it() {
        let error = pipeline(&device(), &Kernel::new(&NOTHING, "something", DType::F16));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("something_f16"), "{text}");
    }

    #[test]
    fn this_gpu_can_do_everything() {
        let Abilities { simdgroups, bf16 } = abilities(&device());
        assert!(simdgroups && bf16);
    }
}
