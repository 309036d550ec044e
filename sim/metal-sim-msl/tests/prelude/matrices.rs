//! Matrices of every shape: products, transposes, determinants, against plain loops.

use crate::{Numbers, library::Library};

/// For one shape: `out` receives a sum, a transpose, products with vectors on either side and with a matrix.
fn source(columns: usize, rows: usize) -> String {
    let m = format!("float{columns}x{rows}");
    let determinant = if columns == rows {
        "*o++ = determinant(m);"
    } else {
        ""
    };
    format!(
        "extern \"C\" void m{columns}{rows}(const float (*in)[{size}], float (*out)[64], int n) {{
  for (int i = 0; i < n; i++) {{
    float* o = out[i];
    {m} m;
    for (int c = 0; c < {columns}; c++) for (int r = 0; r < {rows}; r++) m[c][r] = in[i][c * {rows} + r];
    auto put = [&](auto v) {{ for (int k = 0; k < vec_elements<decltype(v)>::value; k++) *o++ = v[k]; }};
    {m} sum = m + m * 2 - {m}(1) + -m;
    sum += 2.0f * m;
    for (int c = 0; c < {columns}; c++) put(sum[c]);
    auto t = transpose(m);
    for (int c = 0; c < {rows}; c++) put(t[c]);
    put(m * t[0]);
    put(m[1] * m);
    auto square = t * m;
    for (int c = 0; c < {columns}; c++) put(square[c]);
    {determinant}
  }}
}}\n",
        size = columns * rows
    )
}

/// By cofactors of the first column.
fn determinant(m: &[Vec<f64>]) -> f64 {
    if m.len() == 1 {
        return m[0][0];
    }
    (0..m.len())
        .map(|c| {
            let minor: Vec<Vec<f64>> = m
                .iter()
                .enumerate()
                .filter(|(i, _)| *i != c)
                .map(|(_, column)| column[1..].to_vec())
                .collect();
            (if c % 2 == 0 { 1.0 } else { -1.0 }) * m[c][0] * determinant(&minor)
        })
        .sum()
}

fn check<const SIZE: usize>(library: &Library, columns: usize, rows: usize) {
    let mut numbers = Numbers::new(SIZE as u64);
    let given: Vec<[f32; SIZE]> = (0..100)
        .map(|_| [0; SIZE].map(|_| numbers.between(-2.0, 2.0)))
        .collect();
    let got: Vec<Out> = library.map(&format!("m{columns}{rows}"), &given);
    for (given, got) in given.iter().zip(got) {
        let m: Vec<Vec<f64>> = given
            .chunks(rows)
            .map(|c| c.iter().map(|&x| x.into()).collect())
            .collect();
        let mut expected = Vec::new();
        for (c, column) in m.iter().enumerate() {
            expected.extend(
                column
                    .iter()
                    .enumerate()
                    .map(|(r, x)| 4.0 * x - f64::from(c == r)),
            );
        }
        expected.extend((0..rows).flat_map(|r| m.iter().map(move |column| column[r])));
        // The first row, as a vector.
        expected
            .extend((0..rows).map(|r| m.iter().map(|column| column[r] * column[0]).sum::<f64>()));
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        expected.extend(m.iter().map(|column| dot(&m[1], column)));
        expected.extend(m.iter().flat_map(|b| m.iter().map(move |a| dot(a, b))));
        if columns == rows {
            expected.push(determinant(&m));
        }
        for (i, expected) in expected.iter().enumerate() {
            assert!(
                (f64::from(got.0[i]) - expected).abs() < 1e-4,
                "{columns}x{rows}, {i}: {}, not {expected}",
                got.0[i]
            );
        }
    }
}

#[repr(transparent)]
#[derive(Clone)]
struct Out([f32; 64]);

impl Default for Out {
    fn default() -> Self {
        Self([f32::NAN; 64])
    }
}

#[test]
fn products_and_determinants_are_those_of_loops() {
    let shapes = (2..=4).flat_map(|c| (2..=4).map(move |r| (c, r)));
    let library = Library::new(
        "matrices",
        &shapes
            .clone()
            .map(|(c, r)| source(c, r))
            .collect::<String>(),
    );
    for (c, r) in shapes {
        match c * r {
            4 => check::<4>(&library, c, r),
            6 => check::<6>(&library, c, r),
            8 => check::<8>(&library, c, r),
            9 => check::<9>(&library, c, r),
            12 => check::<12>(&library, c, r),
            _ => check::<16>(&library, c, r),
        }
    }
}

#[test]
fn matrices_are_made_of_columns_numbers_or_each_other() {
    let library = Library::new(
        "matrices_made",
        "extern \"C\" void made(const int*, float* out, int) {
  auto put = [&](auto m) { for (int c = 0; c < 2; c++) for (int r = 0; r < 3; r++) *out++ = m[c][r]; };
  put(float2x3(float3(1, 2, 3), float3(4, 5, 6)));
  put(float2x3(1, 2, 3, 4, 5, 6));
  put(float2x3(half2x3(7)));
  float2x3 columns = {{1, 2, 3}, {4, 5, 6}}, all = {1, 2, 3, 4, 5, 6};
  put(columns), put(all);
  float2x2 m(1, 2, 3, 4);
  m *= m;
  *out++ = m[0][0], *out++ = m[0][1], *out++ = m[1].x, *out++ = m[1].y;
  half2x2 h(m);
  h *= 2;
  *out++ = h[1][1], *out++ = float2x2(h) == m * 2;
}",
    );
    let got: Vec<f32> = library.map("made", &[0; 36]);
    let mut expected = vec![
        1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.0, 0.0, 0.0, 7.0, 0.0,
    ];
    expected.extend_from_within(..12);
    expected.extend([7.0, 10.0, 15.0, 22.0, 44.0, 1.0]);
    assert_eq!(got, expected);
}
