//! `MPSDataType`: how elements are encoded in a number, and how the simulator reads them.

use crate::memory::Memory;
use half::f16;
use objc2_metal_performance_shaders::MPSDataType;

/// An element type that matrices hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 8-bit signed integer.
    I8,
    /// 16-bit signed integer.
    I16,
    /// 32-bit signed integer.
    I32,
    /// 8-bit unsigned integer.
    U8,
    /// 16-bit unsigned integer.
    U16,
    /// 32-bit unsigned integer.
    U32,
    /// Brain float: descriptors take it, no matrix kernel does.
    BF16,
}

impl Element {
    /// The element type for Apple's number, if matrices can hold it.
    pub fn of(number: MPSDataType) -> Option<Self> {
        Some(match number {
            MPSDataType::Float32 => Self::F32,
            MPSDataType::Float16 => Self::F16,
            MPSDataType::Int8 => Self::I8,
            MPSDataType::Int16 => Self::I16,
            MPSDataType::Int32 => Self::I32,
            MPSDataType::UInt8 => Self::U8,
            MPSDataType::UInt16 => Self::U16,
            MPSDataType::UInt32 => Self::U32,
            MPSDataType::BFloat16 => Self::BF16,
            _ => return None,
        })
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 => 1,
        }
    }

    /// Reads an element.
    ///
    /// # Safety
    /// Nobody writes it meanwhile.
    pub unsafe fn read(self, memory: &Memory, at: usize) -> f64 {
        // SAFETY: the caller's promise; every bit pattern is a value of these types.
        unsafe {
            match self {
                Self::F32 => memory.read::<f32>(at).into(),
                Self::F16 => memory.read::<f16>(at).into(),
                Self::BF16 => memory.read::<half::bf16>(at).into(),
                Self::I8 => memory.read::<i8>(at).into(),
                Self::I16 => memory.read::<i16>(at).into(),
                Self::I32 => memory.read::<i32>(at).into(),
                Self::U8 => memory.read::<u8>(at).into(),
                Self::U16 => memory.read::<u16>(at).into(),
                Self::U32 => memory.read::<u32>(at).into(),
            }
        }
    }

    /// Writes an element, rounded once to nearest even. Only float results exist.
    ///
    /// # Safety
    /// Nobody else accesses it meanwhile.
    pub unsafe fn write(self, memory: &Memory, at: usize, value: f64) {
        // SAFETY: the caller's promise.
        unsafe {
            match self {
                Self::F32 => memory.write(at, value as f32),
                Self::F16 => memory.write(at, f16::from_f64(value)),
                other => unreachable!("kernels check for float results; this is {other:?}"),
            }
        }
    }
}
