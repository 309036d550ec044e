//! Integer functions: all pairs of 8-bit numbers, samples of wider ones, against 128-bit arithmetic.

use std::sync::LazyLock;

use crate::{Numbers, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("integers", include_str!("integers.cpp")));

/// A type of Metal as its numbers in an i128.
#[derive(Clone, Copy)]
struct Type {
    name: &'static str,
    bits: u32,
    signed: bool,
}

const TYPES: [Type; 8] = [
    Type {
        name: "char",
        bits: 8,
        signed: true,
    },
    Type {
        name: "uchar",
        bits: 8,
        signed: false,
    },
    Type {
        name: "short",
        bits: 16,
        signed: true,
    },
    Type {
        name: "ushort",
        bits: 16,
        signed: false,
    },
    Type {
        name: "int",
        bits: 32,
        signed: true,
    },
    Type {
        name: "uint",
        bits: 32,
        signed: false,
    },
    Type {
        name: "long",
        bits: 64,
        signed: true,
    },
    Type {
        name: "ulong",
        bits: 64,
        signed: false,
    },
];

impl Type {
    fn min(self) -> i128 {
        if self.signed {
            -(1 << (self.bits - 1))
        } else {
            0
        }
    }

    fn max(self) -> i128 {
        self.min() + (1 << self.bits) - 1
    }

    fn saturated(self, x: i128) -> i128 {
        x.clamp(self.min(), self.max())
    }

    fn wrapped(self, x: i128) -> i128 {
        let low = self.unsigned(x);
        if self.signed && low > self.max() {
            low - (1 << self.bits)
        } else {
            low
        }
    }

    fn unsigned(self, x: i128) -> i128 {
        x & ((1 << self.bits) - 1)
    }
}

type Three = (&'static str, fn(Type, i128, i128, i128) -> i128);

/// Of three numbers; those that need fewer ignore the rest.
const ALL: [Three; 21] = [
    ("abs", |t, a, _, _| t.wrapped(a.abs())),
    ("absdiff", |t, a, b, _| t.wrapped((a - b).abs())),
    ("addsat", |t, a, b, _| t.saturated(a + b)),
    ("subsat", |t, a, b, _| t.saturated(a - b)),
    ("hadd", |_, a, b, _| (a + b) >> 1),
    ("rhadd", |_, a, b, _| (a + b + 1) >> 1),
    ("mulhi", |t, a, b, _| high(t, a, b)),
    ("madhi", |t, a, b, c| t.wrapped(high(t, a, b) + c)),
    ("madsat", |t, a, b, c| {
        match a.checked_mul(b).and_then(|p| p.checked_add(c)) {
            Some(sum) => t.saturated(sum),
            None => t.max(),
        }
    }),
    ("rotate", |t, a, b, _| {
        let (x, n) = (t.unsigned(a), b.rem_euclid(t.bits.into()) as u32);
        if n == 0 {
            a
        } else {
            t.wrapped((x << n) | (x >> (t.bits - n)))
        }
    }),
    ("clz", |t, a, _, _| {
        i128::from(t.unsigned(a).leading_zeros() - (128 - t.bits))
    }),
    ("ctz", |t, a, _, _| {
        i128::from(t.unsigned(a).trailing_zeros().min(t.bits))
    }),
    ("popcount", |t, a, _, _| t.unsigned(a).count_ones().into()),
    ("reverse_bits", |t, a, _, _| {
        t.wrapped(
            (t.unsigned(a) as u128).reverse_bits() as i128 >> (128 - t.bits) & ((1 << t.bits) - 1),
        )
    }),
    ("min", |_, a, b, _| a.min(b)),
    ("max", |_, a, b, _| a.max(b)),
    ("clamp", |_, a, b, c| a.max(b).min(c)),
    ("min3", |_, a, b, c| a.min(b).min(c)),
    ("max3", |_, a, b, c| a.max(b).max(c)),
    ("median3", |_, a, b, c| a.min(b).max(a.max(b).min(c))),
    ("select", |_, a, b, c| if c > 0 { b } else { a }),
];

fn high(t: Type, a: i128, b: i128) -> i128 {
    // Of two ulongs the product needs all 128 bits.
    if t.signed {
        (a * b) >> t.bits
    } else {
        ((a as u128 * b as u128) >> t.bits) as i128
    }
}

#[test]
fn integer_functions_are_exact() {
    for t in TYPES {
        let mut numbers = Numbers::new(t.bits.into());
        let edges = [
            t.min(),
            t.max(),
            0,
            1,
            t.max() / 2,
            t.min() / 2 - i128::from(t.signed),
        ];
        let mut triples: Vec<[i128; 3]> = Vec::new();
        if t.bits == 8 {
            for a in t.min()..=t.max() {
                triples.extend((t.min()..=t.max()).map(|b| [a, b, t.wrapped(a * 31 + b * 17)]));
            }
        }
        for a in edges {
            triples.extend(edges.iter().flat_map(|&b| edges.map(|c| [a, b, c])));
        }
        for i in 0..20_000 {
            triples.push([0, 1, 2].map(|_| t.wrapped(i128::from(numbers.bits()) >> (i % t.bits))));
        }
        for (name, exact) in ALL {
            let name = format!("{name}_{}", t.name);
            for ([a, b, c], got) in triples.iter().zip(call(t, &name, &triples)) {
                assert_eq!(got, exact(t, *a, *b, *c), "{name}({a}, {b}, {c})");
            }
        }
    }
}

/// Numbers as this type's bytes, and results back.
fn call(t: Type, name: &str, triples: &[[i128; 3]]) -> Vec<i128> {
    macro_rules! by {
        ($type:ty) => {{
            let given: Vec<[$type; 3]> = triples.iter().map(|x| x.map(|v| v as $type)).collect();
            LIBRARY
                .map::<[$type; 3], $type>(name, &given)
                .into_iter()
                .map(i128::from)
                .collect()
        }};
    }
    match (t.bits, t.signed) {
        (8, true) => by!(i8),
        (8, false) => by!(u8),
        (16, true) => by!(i16),
        (16, false) => by!(u16),
        (32, true) => by!(i32),
        (32, false) => by!(u32),
        (_, true) => by!(i64),
        (_, false) => by!(u64),
    }
}

#[test]
fn bits_are_extracted_and_inserted() {
    let mut numbers = Numbers::new(4);
    for (name, width, signed) in [
        ("uchar", 8, false),
        ("int", 32, true),
        ("uint", 32, false),
        ("long", 64, true),
    ] {
        let given: Vec<[u64; 4]> = (0..5000)
            .map(|_| {
                let offset = numbers.bits() % width;
                [
                    numbers.bits(),
                    numbers.bits(),
                    offset,
                    numbers.bits() % (width - offset + 1),
                ]
            })
            .collect();
        let mask = |bits: u64| {
            if bits == 64 {
                u64::MAX
            } else {
                (1 << bits) - 1
            }
        };
        let got: Vec<[i64; 2]> = LIBRARY.map(&format!("fields_{name}"), &given);
        for ([base, insert, offset, bits], [extracted, inserted]) in given.into_iter().zip(got) {
            let base = base & mask(width);
            let field = if bits == 0 {
                0
            } else {
                base >> offset & mask(bits)
            };
            let negative = signed && bits > 0 && field >> (bits - 1) == 1;
            let expected = if negative { field | !mask(bits) } else { field };
            assert_eq!(
                extracted as u64, expected,
                "extract_bits({name} {base:#x}, {offset}, {bits})"
            );
            let expected = if bits == 0 {
                base
            } else {
                base & !(mask(bits) << offset) | (insert & mask(bits)) << offset
            };
            assert_eq!(
                inserted as u64 & mask(width),
                expected,
                "insert_bits({name} {base:#x}, {insert:#x}, {offset}, {bits})"
            );
        }
    }
}

#[test]
fn products_of_24_bits_ignore_the_upper_8() {
    let mut numbers = Numbers::new(9);
    let given: Vec<[u32; 3]> = (0..5000)
        .map(|_| [0; 3].map(|_| numbers.bits() as u32))
        .collect();
    let got: Vec<[u32; 4]> = LIBRARY.map("products", &given);
    for ([a, b, c], got) in given.into_iter().zip(got) {
        let unsigned = (a & 0xff_ffff).wrapping_mul(b & 0xff_ffff);
        let signed = (((a << 8) as i32 >> 8).wrapping_mul((b << 8) as i32 >> 8)) as u32;
        assert_eq!(
            got,
            [
                unsigned,
                unsigned.wrapping_add(c),
                signed,
                signed.wrapping_add(c)
            ]
        );
    }
}

#[test]
fn vectors_and_mixed_integers_agree_with_scalars() {
    let got: Vec<i32> = LIBRARY.map("agree", &[1, 77, -5, i32::MIN]);
    assert_eq!(got, [0; 4], "bits of the checks of agree() that failed");
}
