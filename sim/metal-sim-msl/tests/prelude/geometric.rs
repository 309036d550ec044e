//! Lengths, products and directions against f64.

use std::sync::LazyLock;

use crate::{Numbers, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("geometric", include_str!("geometric.cpp")));

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn geometry_is_that_of_f64() {
    let mut numbers = Numbers::new(2);
    let given: Vec<[f32; 6]> = (0..2000)
        .map(|_| [0; 6].map(|_| numbers.between(-4.0, 4.0)))
        .collect();
    let got: Vec<[f32; 16]> = LIBRARY.map("geometry", &given);
    for (given, got) in given.iter().zip(got) {
        let (a, b) = given.split_at(3);
        let (a, b) = (
            [0, 1, 2].map(|i| f64::from(a[i])),
            [0, 1, 2].map(|i| f64::from(b[i])),
        );
        let length = dot(&a, &a).sqrt();
        let apart: [f64; 3] = [0, 1, 2].map(|i| a[i] - b[i]);
        let cross =
            [0, 1, 2].map(|i| a[(i + 1) % 3] * b[(i + 2) % 3] - a[(i + 2) % 3] * b[(i + 1) % 3]);
        let unit = a.map(|x| x / length);
        let mirrored = [0, 1, 2].map(|i| b[i] - 2.0 * dot(&unit, &b) * unit[i]);
        let facing = if dot(&b, &a) < 0.0 { 1.0 } else { -1.0 };
        let mut expected = vec![
            dot(&a, &b),
            length,
            dot(&a, &a),
            dot(&apart, &apart).sqrt(),
            dot(&apart, &apart),
        ];
        expected.extend(cross);
        expected.extend(unit);
        expected.extend(mirrored);
        expected.extend([facing * a[0], length]);
        for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
            assert!(
                (f64::from(*got) - expected).abs() <= 1e-4,
                "{i}: {got}, not {expected}, of {given:?}"
            );
        }
    }
}

#[test]
fn light_bends_by_snells_law() {
    // Straight on; at 45 degrees into glass; totally reflected.
    let slope = 0.5f32.sqrt();
    let got: Vec<[f32; 2]> = LIBRARY.map(
        "bent",
        &[
            [0.0, -1.0, 0.5],
            [slope, -slope, 1.0 / 1.5],
            [slope, -slope, 1.5],
        ],
    );
    assert_eq!(got[0], [0.0, -1.0]);
    assert!(
        (got[1][0] - slope / 1.5).abs() < 1e-6
            && (got[1][0].hypot(got[1][1]) - 1.0).abs() < 1e-6
            && got[1][1] < 0.0
    );
    assert_eq!(got[2], [0.0, 0.0]);
}
