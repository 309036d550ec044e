//! Descriptor objects: bags of settings that something else is made from.

use super::given;
use crate::lock;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use objc2_foundation::{NSRange, NSString};
use objc2_metal::{
    MTLCPUCacheMode, MTLCommandBufferErrorOption, MTLDataType, MTLDispatchType,
    MTLHazardTrackingMode, MTLHeapType, MTLLanguageVersion, MTLMathMode, MTLResourceOptions,
    MTLStorageMode,
};
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::Mutex;

/// A residency set descriptor's settings.
#[derive(Default)]
pub struct ResidencySettings {
    label: Mutex<Option<String>>,
    capacity: Mutex<usize>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLResidencySetDescriptor"]
    #[ivars = ResidencySettings]
    /// The class behind `MTLResidencySetDescriptor`.
    pub struct SimResidencySetDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimResidencySetDescriptor {}

    impl SimResidencySetDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(ResidencySettings::default())), init] }
        }

        #[unsafe(method_id(label))]
        fn label(&self) -> Option<Retained<NSString>> {
            self.label_text().as_deref().map(NSString::from_str)
        }

        #[unsafe(method(setLabel:))]
        fn set_label(&self, label: Option<&NSString>) {
            *lock(&self.ivars().label) = label.map(ToString::to_string);
        }

        #[unsafe(method(initialCapacity))]
        fn initial_capacity(&self) -> usize {
            *lock(&self.ivars().capacity)
        }

        #[unsafe(method(setInitialCapacity:))]
        fn set_initial_capacity(&self, capacity: usize) {
            *lock(&self.ivars().capacity) = capacity;
        }
    }
);

impl SimResidencySetDescriptor {
    pub(crate) fn label_text(&self) -> Option<String> {
        lock(&self.ivars().label).clone()
    }
}

/// A heap descriptor's settings.
pub struct HeapSettings {
    size: Mutex<usize>,
    options: Mutex<MTLResourceOptions>,
    kind: Mutex<MTLHeapType>,
}

/// Replaces the bits of one setting among resource options.
fn with_bits(
    options: MTLResourceOptions,
    shift: usize,
    mask: usize,
    bits: usize,
) -> MTLResourceOptions {
    MTLResourceOptions((options.0 & !(mask << shift)) | ((bits & mask) << shift))
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLHeapDescriptor"]
    #[ivars = HeapSettings]
    /// The class behind `MTLHeapDescriptor`.
    pub struct SimHeapDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimHeapDescriptor {}

    impl SimHeapDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            let settings = HeapSettings {
                size: Mutex::new(0),
                options: Mutex::new(MTLResourceOptions::StorageModePrivate),
                kind: Mutex::new(MTLHeapType::Automatic),
            };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(settings)), init] }
        }

        #[unsafe(method(size))]
        fn size(&self) -> usize {
            *lock(&self.ivars().size)
        }

        #[unsafe(method(setSize:))]
        fn set_size(&self, size: usize) {
            *lock(&self.ivars().size) = size;
        }

        #[unsafe(method(storageMode))]
        fn storage_mode(&self) -> MTLStorageMode {
            MTLStorageMode((lock(&self.ivars().options).0 >> 4) & 0xf)
        }

        #[unsafe(method(setStorageMode:))]
        fn set_storage_mode(&self, mode: MTLStorageMode) {
            let mut options = lock(&self.ivars().options);
            *options = with_bits(*options, 4, 0xf, mode.0);
        }

        #[unsafe(method(cpuCacheMode))]
        fn cpu_cache_mode(&self) -> MTLCPUCacheMode {
            MTLCPUCacheMode(lock(&self.ivars().options).0 & 0xf)
        }

        #[unsafe(method(setCpuCacheMode:))]
        fn set_cpu_cache_mode(&self, mode: MTLCPUCacheMode) {
            let mut options = lock(&self.ivars().options);
            *options = with_bits(*options, 0, 0xf, mode.0);
        }

        #[unsafe(method(hazardTrackingMode))]
        fn hazard_tracking_mode(&self) -> MTLHazardTrackingMode {
            MTLHazardTrackingMode((lock(&self.ivars().options).0 >> 8) & 0x3)
        }

        #[unsafe(method(setHazardTrackingMode:))]
        fn set_hazard_tracking_mode(&self, mode: MTLHazardTrackingMode) {
            let mut options = lock(&self.ivars().options);
            *options = with_bits(*options, 8, 0x3, mode.0);
        }

        #[unsafe(method(resourceOptions))]
        fn resource_options(&self) -> MTLResourceOptions {
            *lock(&self.ivars().options)
        }

        #[unsafe(method(setResourceOptions:))]
        fn set_resource_options(&self, options: MTLResourceOptions) {
            *lock(&self.ivars().options) = options;
        }

        #[unsafe(method(type))]
        fn kind(&self) -> MTLHeapType {
            *lock(&self.ivars().kind)
        }

        #[unsafe(method(setType:))]
        fn set_kind(&self, kind: MTLHeapType) {
            *lock(&self.ivars().kind) = kind;
        }
    }
);

impl SimHeapDescriptor {
    pub(crate) fn settings(&self) -> (usize, MTLResourceOptions, MTLHeapType) {
        let settings = self.ivars();
        (
            *lock(&settings.size),
            *lock(&settings.options),
            *lock(&settings.kind),
        )
    }
}

/// A command buffer descriptor's settings.
pub struct CommandBufferSettings {
    retains: Mutex<bool>,
    errors: Mutex<usize>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLCommandBufferDescriptor"]
    #[ivars = CommandBufferSettings]
    /// The class behind `MTLCommandBufferDescriptor`.
    pub struct SimCommandBufferDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimCommandBufferDescriptor {}

    impl SimCommandBufferDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            let settings =
                CommandBufferSettings { retains: Mutex::new(true), errors: Mutex::new(0) };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(settings)), init] }
        }

        #[unsafe(method(retainedReferences))]
        fn retained_references(&self) -> bool {
            self.retains()
        }

        #[unsafe(method(setRetainedReferences:))]
        fn set_retained_references(&self, retains: bool) {
            *lock(&self.ivars().retains) = retains;
        }

        #[unsafe(method(errorOptions))]
        fn error_options(&self) -> MTLCommandBufferErrorOption {
            MTLCommandBufferErrorOption(*lock(&self.ivars().errors))
        }

        #[unsafe(method(setErrorOptions:))]
        fn set_error_options(&self, options: MTLCommandBufferErrorOption) {
            *lock(&self.ivars().errors) = options.0;
        }
    }
);

impl SimCommandBufferDescriptor {
    pub(crate) fn retains(&self) -> bool {
        *lock(&self.ivars().retains)
    }
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLComputePassDescriptor"]
    #[ivars = Mutex<usize>]
    /// The class behind `MTLComputePassDescriptor`.
    pub struct SimComputePassDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimComputePassDescriptor {}

    impl SimComputePassDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(Mutex::new(0))), init] }
        }

        #[unsafe(method_id(computePassDescriptor))]
        fn descriptor() -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(Self::alloc().set_ivars(Mutex::new(0))), init] }
        }

        #[unsafe(method(dispatchType))]
        fn dispatch_type(&self) -> MTLDispatchType {
            self.dispatch()
        }

        #[unsafe(method(setDispatchType:))]
        fn set_dispatch_type(&self, dispatch: MTLDispatchType) {
            *lock(self.ivars()) = dispatch.0;
        }
    }
);

impl SimComputePassDescriptor {
    pub(crate) fn dispatch(&self) -> MTLDispatchType {
        MTLDispatchType(*lock(self.ivars()))
    }
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLBlitPassDescriptor"]
    /// The class behind `MTLBlitPassDescriptor`: it has nothing to set but counters.
    pub struct SimBlitPassDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimBlitPassDescriptor {}

    impl SimBlitPassDescriptor {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(())), init] }
        }

        #[unsafe(method_id(blitPassDescriptor))]
        fn descriptor() -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(Self::alloc().set_ivars(())), init] }
        }
    }
);

/// Compile options' settings.
pub struct CompileSettings {
    fast_math: Mutex<bool>,
    math_mode: Mutex<isize>,
    version: Mutex<usize>,
    macros: Mutex<Option<super::Kept<AnyObject>>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLCompileOptions"]
    #[ivars = CompileSettings]
    /// The class behind `MTLCompileOptions`.
    pub struct SimCompileOptions;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimCompileOptions {}

    impl SimCompileOptions {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            let settings = CompileSettings {
                fast_math: Mutex::new(true),
                math_mode: Mutex::new(MTLMathMode::Fast.0),
                version: Mutex::new(MTLLanguageVersion::Version3_1.0),
                macros: Mutex::new(None),
            };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(settings)), init] }
        }

        #[unsafe(method(fastMathEnabled))]
        fn fast_math_enabled(&self) -> bool {
            *lock(&self.ivars().fast_math)
        }

        #[unsafe(method(setFastMathEnabled:))]
        fn set_fast_math_enabled(&self, enabled: bool) {
            *lock(&self.ivars().fast_math) = enabled;
        }

        #[unsafe(method(mathMode))]
        fn math_mode(&self) -> MTLMathMode {
            MTLMathMode(*lock(&self.ivars().math_mode))
        }

        #[unsafe(method(setMathMode:))]
        fn set_math_mode(&self, mode: MTLMathMode) {
            *lock(&self.ivars().math_mode) = mode.0;
        }

        #[unsafe(method(languageVersion))]
        fn language_version(&self) -> MTLLanguageVersion {
            MTLLanguageVersion(*lock(&self.ivars().version))
        }

        #[unsafe(method(setLanguageVersion:))]
        fn set_language_version(&self, version: MTLLanguageVersion) {
            *lock(&self.ivars().version) = version.0;
        }

        #[unsafe(method_id(preprocessorMacros))]
        fn macros(&self) -> Option<Retained<AnyObject>> {
            lock(&self.ivars().macros).as_ref().map(|kept| kept.0.clone())
        }

        #[unsafe(method(setPreprocessorMacros:))]
        fn set_macros(&self, macros: Option<&AnyObject>) {
            *lock(&self.ivars().macros) = macros.map(super::Kept::new);
        }
    }
);

impl SimCompileOptions {
    pub(crate) fn has_macros(&self) -> bool {
        lock(&self.ivars().macros).is_some()
    }

    /// Whether arithmetic may be reordered: either of the two ways to say so.
    pub(crate) fn is_fast(&self) -> bool {
        let mode = MTLMathMode(*lock(&self.ivars().math_mode));
        *lock(&self.ivars().fast_math) && mode != MTLMathMode::Safe
    }
}

/// Function constants by index and by name: type and bytes.
#[derive(Default)]
pub struct Constants {
    by_index: Mutex<BTreeMap<usize, (MTLDataType, Vec<u8>)>>,
    by_name: Mutex<BTreeMap<String, (MTLDataType, Vec<u8>)>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MTLFunctionConstantValues"]
    #[ivars = Constants]
    /// The class behind `MTLFunctionConstantValues`.
    pub struct SimFunctionConstants;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimFunctionConstants {}

    impl SimFunctionConstants {
        #[unsafe(method_id(init))]
        fn init(this: Allocated<Self>) -> Retained<Self> {
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(Constants::default())), init] }
        }

        #[unsafe(method(setConstantValue:type:atIndex:))]
        fn set_value(&self, value: *const c_void, kind: MTLDataType, index: usize) {
            // SAFETY: the method's contract: a value of that type.
            let bytes = unsafe { constant_bytes(value, kind) };
            lock(&self.ivars().by_index).insert(index, (kind, bytes));
        }

        #[unsafe(method(setConstantValues:type:withRange:))]
        fn set_values(&self, values: *const c_void, kind: MTLDataType, range: NSRange) {
            for at in 0..range.length {
                // SAFETY: the method's contract: as many values of that type.
                let bytes = unsafe { constant_bytes(values.byte_add(at * type_of(kind).1), kind) };
                lock(&self.ivars().by_index).insert(range.location + at, (kind, bytes));
            }
        }

        #[unsafe(method(setConstantValue:type:withName:))]
        fn set_named(&self, value: *const c_void, kind: MTLDataType, name: Option<&NSString>) {
            let name = given(name, "setConstantValue:type:withName:", "name");
            // SAFETY: the method's contract: a value of that type.
            let bytes = unsafe { constant_bytes(value, kind) };
            lock(&self.ivars().by_name).insert(name.to_string(), (kind, bytes));
        }

        #[unsafe(method(reset))]
        fn reset(&self) {
            lock(&self.ivars().by_index).clear();
            lock(&self.ivars().by_name).clear();
        }
    }
);

impl SimFunctionConstants {
    /// As the compiler takes them.
    pub(crate) fn values(&self) -> metal_sim_msl::Constants {
        let mut constants = metal_sim_msl::Constants::default();
        for (index, (kind, bytes)) in &*lock(&self.ivars().by_index) {
            constants.set_index(*index as u32, type_of(*kind).0, bytes);
        }
        for (name, (kind, bytes)) in &*lock(&self.ivars().by_name) {
            constants.set_name(name, type_of(*kind).0, bytes);
        }
        constants
    }
}

/// A function constant's type as sources name it, and its bytes; vectors are not used as constants by anyone here.
fn type_of(kind: MTLDataType) -> (&'static str, usize) {
    match kind {
        MTLDataType::Bool => ("bool", 1),
        MTLDataType::Char => ("char", 1),
        MTLDataType::UChar => ("uchar", 1),
        MTLDataType::Half => ("half", 2),
        MTLDataType::BFloat => ("bfloat", 2),
        MTLDataType::Short => ("short", 2),
        MTLDataType::UShort => ("ushort", 2),
        MTLDataType::Float => ("float", 4),
        MTLDataType::Int => ("int", 4),
        MTLDataType::UInt => ("uint", 4),
        MTLDataType::Long => ("long", 8),
        MTLDataType::ULong => ("ulong", 8),
        other => crate::fault::fault(
            "function constant",
            format!("type {} is not simulated", other.0),
        ),
    }
}

/// # Safety
/// `value` points to a value of that type.
unsafe fn constant_bytes(value: *const c_void, kind: MTLDataType) -> Vec<u8> {
    // SAFETY: the caller's promise.
    unsafe { std::slice::from_raw_parts(value.cast::<u8>(), type_of(kind).1) }.to_vec()
}
