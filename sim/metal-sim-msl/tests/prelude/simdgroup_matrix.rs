//! 8x8 matrices held by 32 lanes, against plain loops: loads, stores, products, and the layout that sources rely on.

use std::sync::LazyLock;

use half::{bf16, f16};

use crate::{Numbers, lanes, library::Library};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("simdgroup_matrix", include_str!("simdgroup_matrix.cpp")));

/// Runs a function of simdgroup_matrix.cpp in all lanes, on numbers that they share.
fn run<T: Clone + Default + Sync + Send>(name: &str, given: &[T], results: usize) -> Vec<T> {
    let mut out = vec![T::default(); results];
    let address = out.as_mut_ptr() as usize;
    lanes::run(!0, |_| {
        // SAFETY: the function writes at most `results` elements, each lane its own; `out` outlives the lanes.
        unsafe {
            LIBRARY.get::<unsafe extern "C" fn(*const T, *mut T)>(name)(
                given.as_ptr(),
                address as *mut T,
            )
        }
    });
    out
}

#[test]
fn lanes_hold_two_neighbours_of_a_row() {
    let given: Vec<f32> = (0..64).map(|i| i as f32).collect();
    let got = run("layout", &given, 64);
    // By lane: row and column of its first element, as MLX and llama.cpp compute them.
    for lane in 0..32u32 {
        let quad = lane / 4;
        let (row, column) = ((quad & 4) + (lane / 2) % 4, (quad & 2) * 2 + (lane % 2) * 2);
        let first = (row * 8 + column) as f32;
        assert_eq!(
            got[2 * lane as usize..][..2],
            [first, first + 1.0],
            "lane {lane}"
        );
    }
}

#[test]
fn loads_and_stores_take_origin_stride_and_transposition() {
    let given: Vec<f32> = (0..32 * 20).map(|i| i as f32).collect();
    let got = run("moved", &given, 64 * 3);
    for row in 0..8 {
        for column in 0..8 {
            let at = row * 8 + column;
            // Of a matrix of 20 columns, from column 3 and row 5 on.
            let expected = ((row + 5) * 20 + column + 3) as f32;
            assert_eq!(got[at], expected, "plain");
            assert_eq!(got[64 + column * 8 + row], expected, "loaded transposed");
            assert_eq!(got[128 + column * 8 + row], expected, "stored transposed");
        }
    }
}

fn product(a: &[f32], b: &[f32], row: usize, column: usize, start: f32) -> f32 {
    (0..8).fold(start, |sum, k| sum + a[row * 8 + k] * b[k * 8 + column])
}

#[test]
fn products_are_those_of_loops() {
    let mut numbers = Numbers::new(64);
    let given: Vec<f32> = (0..192).map(|_| numbers.between(-2.0, 2.0)).collect();
    let got = run("products_float", &given, 192);
    check(&given, &got, |x| x);
    let halves: Vec<f16> = given.iter().map(|&x| f16::from_f32(x)).collect();
    let got: Vec<f32> = run("products_half", &halves, 192)
        .iter()
        .map(|x| x.to_f32())
        .collect();
    check(
        &halves.iter().map(|x| x.to_f32()).collect::<Vec<_>>(),
        &got,
        |x| f16::from_f32(x).to_f32(),
    );
    let bfloats: Vec<bf16> = given.iter().map(|&x| bf16::from_f32(x)).collect();
    let got: Vec<f32> = run("products_bfloat", &bfloats, 192)
        .iter()
        .map(|x| x.to_f32())
        .collect();
    check(
        &bfloats.iter().map(|x| x.to_f32()).collect::<Vec<_>>(),
        &got,
        |x| bf16::from_f32(x).to_f32(),
    );
}

/// a b + c, a b, and a b into the place of a.
fn check(given: &[f32], got: &[f32], rounded: fn(f32) -> f32) {
    let (a, b, c) = (&given[..64], &given[64..128], &given[128..]);
    for at in 0..64 {
        let (row, column) = (at / 8, at % 8);
        assert_eq!(
            got[at],
            rounded(product(a, b, row, column, c[at])),
            "a b + c at {row}, {column}"
        );
        assert_eq!(
            got[64 + at],
            rounded(product(a, b, row, column, 0.0)),
            "a b at {row}, {column}"
        );
        assert_eq!(got[128 + at], got[64 + at], "in place, at {row}, {column}");
    }
}

#[test]
fn halves_are_summed_in_float_for_a_matrix_of_floats() {
    let halves: Vec<f16> = (0..128u16)
        .map(|i| f16::from_f32(f32::from(i % 23) * 0.37))
        .collect();
    let floats: Vec<f32> = halves.iter().map(|x| x.to_f32()).collect();
    let mut out = vec![0f32; 64];
    let address = out.as_mut_ptr() as usize;
    lanes::run(!0, |_| {
        // SAFETY: as in `run`, with results of another type.
        unsafe {
            LIBRARY.get::<unsafe extern "C" fn(*const f16, *mut f32)>("mixed")(
                halves.as_ptr(),
                address as *mut f32,
            )
        }
    });
    for (at, got) in out.iter().enumerate() {
        assert_eq!(
            *got,
            product(&floats[..64], &floats[64..], at / 8, at % 8, 0.5)
        );
    }
}

#[test]
fn one_number_makes_a_diagonal_or_fills() {
    let got = run("made", &[3.0f32], 128);
    for at in 0..64 {
        assert_eq!(got[at], if at / 8 == at % 8 { 3.0 } else { 0.0 });
        assert_eq!(got[64 + at], 3.0);
    }
}
