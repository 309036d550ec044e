//! What functions make of NaN, infinities and zeros with a sign.

use std::sync::LazyLock;

use half::f16;

use crate::library::Library;

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("relational", include_str!("relational.cpp")));

const INF: f32 = f32::INFINITY;
const NAN: f32 = f32::NAN;

#[test]
fn numbers_are_classified() {
    // finite, infinite, NaN, normal, negative sign
    let cases = [
        (1.0f32, 0b01001),
        (-1.0, 0b11001),
        (0.0, 0b00001),
        (-0.0, 0b10001),
        (1e-40, 0b00001),
        (f32::MIN_POSITIVE, 0b01001),
        (INF, 0b00010),
        (-INF, 0b10010),
        (NAN, 0b00100),
        (-NAN, 0b10100),
    ];
    let got: Vec<i32> = LIBRARY.map("classes", &cases.map(|c| c.0));
    assert_eq!(got, cases.map(|c| c.1));
    // The smallest normal half is a normal float long before.
    let cases = [
        (f16::from_bits(0x3ff), 0b00001),
        (f16::from_bits(0x400), 0b01001),
        (f16::INFINITY, 0b00010),
        (f16::NAN, 0b00100),
    ];
    let got: Vec<i32> = LIBRARY.map("classes_half", &cases.map(|c| c.0));
    assert_eq!(got, cases.map(|c| c.1));
}

#[test]
fn nan_is_the_other_number_to_min_and_max() {
    for suffix in ["", "_half", "_bfloat", "_vector"] {
        let pairs = [[1.0, NAN], [NAN, 1.0], [NAN, NAN], [-INF, 2.0], [3.0, 2.0]];
        let min: Vec<f32> = LIBRARY.map(&format!("min{suffix}"), &pairs);
        let max: Vec<f32> = LIBRARY.map(&format!("max{suffix}"), &pairs);
        assert_eq!(
            [min[0], min[1], min[3], min[4]],
            [1.0, 1.0, -INF, 2.0],
            "min{suffix}"
        );
        assert_eq!(
            [max[0], max[1], max[3], max[4]],
            [1.0, 1.0, 2.0, 3.0],
            "max{suffix}"
        );
        assert!(min[2].is_nan() && max[2].is_nan());
    }
    let clamped: Vec<f32> = LIBRARY.map(
        "clamp",
        &[
            [NAN, 1.0, 2.0],
            [INF, 1.0, 2.0],
            [-INF, 1.0, 2.0],
            [1.5, 1.0, 2.0],
        ],
    );
    assert_eq!(clamped, [1.0, 2.0, 1.0, 1.5]);
    let saturated: Vec<f32> = LIBRARY.map("saturate", &[NAN, -0.5, 0.25, INF]);
    assert_eq!(saturated, [0.0, 0.0, 0.25, 1.0]);
    let signs: Vec<u32> = LIBRARY.map("sign_bits", &[NAN, -0.0, 0.0, -5.0, INF]);
    assert_eq!(signs, [0.0f32, -0.0, 0.0, -1.0, 1.0].map(f32::to_bits));
}

#[test]
fn selection_takes_the_second_where_it_is_true() {
    let got: Vec<f32> = LIBRARY.map("selected", &[0; 14]);
    assert_eq!(
        got,
        [
            1.0, 2.0, 1.0, 20.0, 3.0, 40.0, 10.0, 20.0, 30.0, 40.0, 5.0, 20.0, 5.0, 40.0
        ]
    );
}

#[test]
fn comparisons_know_what_is_unordered() {
    let got: Vec<i32> = LIBRARY.map("orders", &[[1.0, 2.0], [NAN, 1.0], [1.0, NAN], [2.0, 2.0]]);
    // less, equal, not equal, ordered, unordered, any of a vector, all of it
    assert_eq!(got, [0b0001101, 0b0010100, 0b0010100, 0b1101010]);
}
