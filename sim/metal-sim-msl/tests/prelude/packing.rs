//! Packed colours: every code comes back, and numbers round to the nearest.

use std::sync::LazyLock;

use crate::{Numbers, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("packing", include_str!("packing.cpp")));

#[test]
fn every_code_survives_the_round_trip() {
    // Each byte takes every value; -128 and -127 are both -1.
    let codes: Vec<u32> = (0..=255u32)
        .map(|b| b | (255 - b) << 8 | (b ^ 0x55) << 16 | (b.rotate_left(1) & 255) << 24)
        .collect();
    for format in ["unorm4x8", "unorm4x8_half", "unorm4x8_srgb"] {
        assert_eq!(LIBRARY.map::<u32, u32>(format, &codes), codes, "{format}");
    }
    let bytes = |x: u32| x.to_le_bytes().map(|b| if b == 0x80 { 0x81 } else { b });
    for (code, got) in codes
        .iter()
        .zip(LIBRARY.map::<u32, u32>("snorm4x8", &codes))
    {
        assert_eq!(got.to_le_bytes(), bytes(*code));
    }
    let codes: Vec<u32> = (0..=u16::MAX)
        .map(|x| u32::from(x) | u32::from(!x) << 16)
        .collect();
    for format in ["unorm2x16", "unorm10a2"] {
        assert_eq!(LIBRARY.map::<u32, u32>(format, &codes), codes, "{format}");
    }
    let codes: Vec<u32> = (0..=u16::MAX.into()).collect();
    assert_eq!(LIBRARY.map::<u32, u32>("unorm565", &codes), codes);
}

#[test]
fn numbers_round_to_the_nearest_code() {
    let mut numbers = Numbers::new(12);
    let mut given: Vec<f32> = (0..5000).map(|_| numbers.between(-1.5, 1.5)).collect();
    given.extend([0.0, 1.0, -1.0, f32::NAN]);
    for (x, got) in given
        .iter()
        .zip(LIBRARY.map::<f32, [f32; 4]>("unpacked", &given))
    {
        let expected = [
            x.clamp(0.0, 1.0),
            x.clamp(-1.0, 1.0),
            x.clamp(0.0, 1.0),
            x.clamp(-1.0, 1.0),
        ];
        if x.is_nan() {
            continue;
        }
        for ((got, expected), top) in got
            .iter()
            .zip(expected)
            .zip([255.0, 127.0, 65535.0, 32767.0])
        {
            assert!(
                (got - expected).abs() <= 0.501 / top,
                "{x}: {got} with {top} steps"
            );
        }
    }
}
