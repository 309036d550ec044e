//! Element types as they are named on the command line: numbers into bytes and back.

/// An element type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    F32,
    F16,
    Bf16,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    Bool,
}

const NAMES: [(&str, Type); 12] = [
    ("f32", Type::F32),
    ("f16", Type::F16),
    ("bf16", Type::Bf16),
    ("u8", Type::U8),
    ("i8", Type::I8),
    ("u16", Type::U16),
    ("i16", Type::I16),
    ("u32", Type::U32),
    ("i32", Type::I32),
    ("u64", Type::U64),
    ("i64", Type::I64),
    ("bool", Type::Bool),
];

impl std::str::FromStr for Type {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = NAMES.iter().find(|(name, _)| *name == text);
        found.map(|(_, it)| *it).ok_or_else(|| {
            let names: Vec<_> = NAMES.iter().map(|(name, _)| *name).collect();
            format!(
                "`{text}` is no element type; there are {}",
                names.join(", ")
            )
        })
    }
}

impl Type {
    /// As sources name it.
    pub fn in_metal(self) -> &'static str {
        match self {
            Self::F32 => "float",
            Self::F16 => "half",
            Self::Bf16 => "bfloat",
            Self::U8 => "uchar",
            Self::I8 => "char",
            Self::U16 => "ushort",
            Self::I16 => "short",
            Self::U32 => "uint",
            Self::I32 => "int",
            Self::U64 => "ulong",
            Self::I64 => "long",
            Self::Bool => "bool",
        }
    }

    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::F16 | Self::Bf16 | Self::U16 | Self::I16 => 2,
            Self::F32 | Self::U32 | Self::I32 => 4,
            Self::U64 | Self::I64 => 8,
        }
    }

    /// The bytes of the nearest number of this type.
    pub fn bytes(self, value: f64) -> Vec<u8> {
        match self {
            Self::F32 => (value as f32).to_le_bytes().to_vec(),
            Self::F16 => half::f16::from_f64(value).to_le_bytes().to_vec(),
            Self::Bf16 => half::bf16::from_f64(value).to_le_bytes().to_vec(),
            Self::U8 => vec![value as u8],
            Self::I8 => (value as i8).to_le_bytes().to_vec(),
            Self::U16 => (value as u16).to_le_bytes().to_vec(),
            Self::I16 => (value as i16).to_le_bytes().to_vec(),
            Self::U32 => (value as u32).to_le_bytes().to_vec(),
            Self::I32 => (value as i32).to_le_bytes().to_vec(),
            Self::U64 => (value as u64).to_le_bytes().to_vec(),
            Self::I64 => (value as i64).to_le_bytes().to_vec(),
            Self::Bool => vec![u8::from(value != 0.)],
        }
    }

    /// The number in the first bytes; `None` if there are too few.
    pub fn number(self, bytes: &[u8]) -> Option<f64> {
        let first = bytes.get(..self.size())?;
        let mut wide = [0; 8];
        wide[..first.len()].copy_from_slice(first);
        let bits = u64::from_le_bytes(wide);
        Some(match self {
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F16 => half::f16::from_bits(bits as u16).to_f64(),
            Self::Bf16 => half::bf16::from_bits(bits as u16).to_f64(),
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => bits as f64,
            Self::I8 => f64::from(bits as i8),
            Self::I16 => f64::from(bits as i16),
            Self::I32 => f64::from(bits as i32),
            Self::I64 => bits as i64 as f64,
            Self::Bool => f64::from(u8::from(bits != 0)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_their_bytes() {
        for (name, kind) in NAMES {
            assert_eq!(name.parse(), Ok(kind));
            for value in [0., 1., 100.] {
                let value = if kind == Type::Bool {
                    f64::min(value, 1.)
                } else {
                    value
                };
                let bytes = kind.bytes(value);
                assert_eq!(bytes.len(), kind.size());
                assert_eq!(kind.number(&bytes), Some(value), "{name}");
            }
            assert_eq!(kind.number(&[]), None);
        }
        assert_eq!(Type::I16.number(&Type::I16.bytes(-3.)), Some(-3.));
        assert!("f8".parse::<Type>().unwrap_err().contains("bf16"));
    }
}
