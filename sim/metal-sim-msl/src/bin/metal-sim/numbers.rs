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

    /// The bytes of a number as it is written; an error if the type does not have it.
    pub fn parse(self, text: &str) -> Result<Vec<u8>, String> {
        let none = || format!("`{text}` is no number");
        let float = || text.parse::<f64>().map_err(|_| none());
        let whole = |least: i128, most: i128| {
            let number: i128 = text.parse().map_err(|_| none())?;
            if (least..=most).contains(&number) {
                Ok(number.to_le_bytes()[..self.size()].to_vec())
            } else {
                Err(format!("{text} is not within {least} and {most}"))
            }
        };
        match self {
            Self::F32 => Ok((float()? as f32).to_le_bytes().to_vec()),
            Self::F16 => Ok(half::f16::from_f64(float()?).to_le_bytes().to_vec()),
            Self::Bf16 => Ok(half::bf16::from_f64(float()?).to_le_bytes().to_vec()),
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => whole(0, (1 << (8 * self.size())) - 1),
            Self::I8 | Self::I16 | Self::I32 | Self::I64 => {
                let half = 1 << (8 * self.size() - 1);
                whole(-half, half - 1)
            }
            Self::Bool => match text {
                "true" => Ok(vec![1]),
                "false" => Ok(vec![0]),
                _ => whole(0, 1),
            },
        }
    }

    /// The bytes of a count's element: whole numbers begin again where the type ends.
    pub fn counted(self, at: usize) -> Vec<u8> {
        match self {
            Self::F32 => (at as f32).to_le_bytes().to_vec(),
            Self::F16 => half::f16::from_f64(at as f64).to_le_bytes().to_vec(),
            Self::Bf16 => half::bf16::from_f64(at as f64).to_le_bytes().to_vec(),
            Self::Bool => vec![(at % 2) as u8],
            _ => (at as u64).to_le_bytes()[..self.size()].to_vec(),
        }
    }

    /// The bytes of the next of numbers without an order, the same at every run: of floats from -1 to below 1, of whole
    /// numbers from all.
    pub fn random(self, seed: &mut u64) -> Vec<u8> {
        // A linear congruential generator: its high bits are the good ones.
        *seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let bits = *seed >> 32;
        let unit = (bits >> 8) as f32 / (1 << 23) as f32 - 1.;
        match self {
            Self::F32 => unit.to_le_bytes().to_vec(),
            Self::F16 => half::f16::from_f32(unit).to_le_bytes().to_vec(),
            Self::Bf16 => half::bf16::from_f32(unit).to_le_bytes().to_vec(),
            Self::Bool => vec![(bits >> 31) as u8],
            _ => seed.to_be_bytes()[..self.size()].to_vec(),
        }
    }

    /// The number in the first bytes; `None` if there are too few.
    pub fn number(self, bytes: &[u8]) -> Option<Number> {
        let first = bytes.get(..self.size())?;
        let mut wide = [0; 8];
        wide[..first.len()].copy_from_slice(first);
        let bits = u64::from_le_bytes(wide);
        Some(match self {
            Self::F32 => Number::Float(f32::from_bits(bits as u32)),
            Self::F16 => Number::Float(half::f16::from_bits(bits as u16).to_f32()),
            Self::Bf16 => Number::Float(half::bf16::from_bits(bits as u16).to_f32()),
            Self::U8 | Self::U16 | Self::U32 | Self::U64 => Number::Natural(bits),
            Self::I8 => Number::Whole(bits as i8 as i64),
            Self::I16 => Number::Whole(bits as i16 as i64),
            Self::I32 => Number::Whole(bits as i32 as i64),
            Self::I64 => Number::Whole(bits as i64),
            Self::Bool => Number::Natural(u64::from(bits != 0)),
        })
    }
}

/// A number that was read.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(untagged)]
pub enum Number {
    Float(f32),
    Natural(u64),
    Whole(i64),
}

impl std::fmt::Display for Number {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Float(it) => it.fmt(f),
            Self::Natural(it) => it.fmt(f),
            Self::Whole(it) => it.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_survive_their_bytes() {
        for (name, kind) in NAMES {
            assert_eq!(name.parse(), Ok(kind));
            for text in ["0", "1", "100"] {
                if kind == Type::Bool && text == "100" {
                    continue;
                }
                let bytes = kind.parse(text).unwrap();
                assert_eq!(bytes.len(), kind.size());
                assert_eq!(kind.number(&bytes).unwrap().to_string(), text, "{name}");
                assert_eq!(kind.counted(0).len(), kind.size());
            }
            assert_eq!(kind.number(&[]), None);
        }
        for (kind, text) in [
            (Type::I16, "-3"),
            (Type::U64, "18446744073709551615"),
            (Type::I64, "-9223372036854775808"),
            (Type::F32, "0.1"),
            (Type::F32, "-inf"),
            (Type::F16, "NaN"),
        ] {
            let bytes = kind.parse(text).unwrap();
            assert_eq!(kind.number(&bytes).unwrap().to_string(), text);
        }
        assert!("f8".parse::<Type>().unwrap_err().contains("bf16"));
    }

    #[test]
    fn what_a_type_does_not_have_is_refused() {
        for (kind, text) in [
            (Type::U8, "256"),
            (Type::U32, "-1"),
            (Type::I8, "128"),
            (Type::I64, "9223372036854775808"),
            (Type::I32, "0.5"),
            (Type::Bool, "2"),
            (Type::F32, "one"),
        ] {
            assert!(kind.parse(text).is_err(), "{kind:?} {text}");
        }
        assert_eq!(Type::U8.counted(257), [1]);
        assert_eq!(Type::Bool.counted(3), [1]);
    }
}
