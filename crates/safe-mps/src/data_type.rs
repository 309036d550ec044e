//! Element types of matrices: the enum [`DataType`], and [`Element`], the Rust types behind it.
//!
//! `MPSDataType` packs the width in bits into its low half and flags above it. Only the types that
//! `MPSMatrix` takes appear here; what a kernel does with them is the kernel's own table.

#![allow(unsafe_code)] // `Element` is an unsafe trait: host views reinterpret bytes by it.

use half::{bf16, f16};
use objc2_metal_performance_shaders::MPSDataType;

use crate::error::{Error, Result};

/// The element type of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataType {
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16. Matrices of it can be described, but no `MPSMatrix` kernel computes with it.
    BF16,
    /// Signed 8-bit integer.
    I8,
    /// Signed 16-bit integer.
    I16,
    /// Signed 32-bit integer.
    I32,
    /// Unsigned 8-bit integer.
    U8,
    /// Unsigned 16-bit integer.
    U16,
    /// Unsigned 32-bit integer.
    U32,
}

impl DataType {
    /// All of them, for tables and tests.
    pub const ALL: [DataType; 9] = [
        Self::F32,
        Self::F16,
        Self::BF16,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::U8,
        Self::U16,
        Self::U32,
    ];

    /// Bytes of one element.
    pub const fn size_in_bytes(self) -> usize {
        match self {
            Self::I8 | Self::U8 => 1,
            Self::F16 | Self::BF16 | Self::I16 | Self::U16 => 2,
            Self::F32 | Self::I32 | Self::U32 => 4,
        }
    }

    /// The value that MPS knows this type by.
    pub const fn to_mps(self) -> MPSDataType {
        match self {
            Self::F32 => MPSDataType::Float32,
            Self::F16 => MPSDataType::Float16,
            Self::BF16 => MPSDataType::BFloat16,
            Self::I8 => MPSDataType::Int8,
            Self::I16 => MPSDataType::Int16,
            Self::I32 => MPSDataType::Int32,
            Self::U8 => MPSDataType::UInt8,
            Self::U16 => MPSDataType::UInt16,
            Self::U32 => MPSDataType::UInt32,
        }
    }

    /// The type that MPS means by `raw`.
    pub fn from_mps(raw: MPSDataType) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|t| t.to_mps() == raw)
            .ok_or(Error::UnknownDataType { raw: raw.0 })
    }
}

impl std::fmt::Display for DataType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::I8 => "i8",
            Self::I16 => "i16",
            Self::I32 => "i32",
            Self::U8 => "u8",
            Self::U16 => "u16",
            Self::U32 => "u32",
        })
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that can be the element of a matrix. Implemented for `f32`, [`half::f16`],
/// [`half::bf16`] and the integers of 8, 16 and 32 bits; closed to other types.
///
/// # Safety
///
/// The type has the size of [`DATA_TYPE`](Self::DATA_TYPE), every bit pattern is a valid value of
/// it, and its alignment divides a page.
pub unsafe trait Element: sealed::Sealed + Copy + Default + Send + Sync + 'static {
    /// What MPS calls this type.
    const DATA_TYPE: DataType;
}

macro_rules! element {
    ($($rust:ty => $variant:ident),* $(,)?) => {$(
        impl sealed::Sealed for $rust {}

        // SAFETY: a plain number without padding or invalid bit patterns, at most 4 bytes wide;
        // the width is compared below when the crate is compiled.
        unsafe impl Element for $rust {
            const DATA_TYPE: DataType = DataType::$variant;
        }

        const _: () = assert!(size_of::<$rust>() == DataType::$variant.size_in_bytes());
    )*};
}

element! {
    f32 => F32,
    f16 => F16,
    bf16 => BF16,
    i8 => I8,
    i16 => I16,
    i32 => I32,
    u8 => U8,
    u16 => U16,
    u32 => U32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_is_the_width_that_mps_encodes() {
        for data_type in DataType::ALL {
            assert_eq!(
                data_type.to_mps().0 & 0xffff,
                8 * data_type.size_in_bytes() as u32
            );
        }
    }

    #[test]
    fn float32_and_float16_are_not_swapped() {
        assert_eq!(DataType::F32.to_mps().0, 0x1000_0020);
        assert_eq!(DataType::F16.to_mps().0, 0x1000_0010);
    }

    #[test]
    fn mps_and_back() {
        for data_type in DataType::ALL {
            assert_eq!(DataType::from_mps(data_type.to_mps()), Ok(data_type));
        }
        let complex = MPSDataType(0x1100_0040);
        assert_eq!(
            DataType::from_mps(complex),
            Err(Error::UnknownDataType { raw: 0x1100_0040 })
        );
    }
}
