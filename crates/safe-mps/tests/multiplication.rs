//! Products of random shapes, strides, offsets, batches, transposes, factors and types, against
//! f64: |error| ≤ 1e-5 · (|α| |A| |B| + |β| |C|), elementwise, for f32 results.
#![cfg(feature = "metal")]

mod support;

use safe_mps::{DataType, Device, MatrixMultiplication};
use support::{Field, compare, load, padding, seeded};

const TYPES: [(DataType, DataType, DataType); 7] = [
    (DataType::F32, DataType::F32, DataType::F32),
    (DataType::F16, DataType::F16, DataType::F16),
    (DataType::F16, DataType::F16, DataType::F32),
    (DataType::F32, DataType::F16, DataType::F32),
    (DataType::I8, DataType::I8, DataType::F32),
    (DataType::I8, DataType::I8, DataType::F16),
    (DataType::I16, DataType::I16, DataType::F32),
];

/// Element (i, j) of op(M), for a matrix that is stored with `columns` columns.
fn at(values: &[f64], columns: usize, transposed: bool, i: usize, j: usize) -> f64 {
    if transposed {
        values[j * columns + i]
    } else {
        values[i * columns + j]
    }
}

fn products(test: &str, types: &[(DataType, DataType, DataType)], rounds: usize) {
    seeded(test, |random| {
        let device = Device::system_default().unwrap();
        let queue = device.new_queue().unwrap();
        for round in 0..rounds {
            let (left_type, right_type, result_type) = random.pick(types);
            let [m, n, k] = [0; 3].map(|_| random.between(1, 40));
            let matrices = random.pick(&[1, 1, 2, 3, 5]);
            let (transpose_left, transpose_right) = (random.chance(), random.chance());
            let alpha = random.pick(&[1.0, 0.5, -2.0]);
            let beta = random.pick(&[0.0, 0.0, 1.0, -0.5]);
            let scale = match left_type {
                DataType::I8 => 9.0,
                DataType::I16 => 300.0,
                _ => 1.0,
            };
            let mut field = Field {
                device: &device,
                random,
            };
            let stored = |rows, columns, swap| {
                if swap {
                    (columns, rows)
                } else {
                    (rows, columns)
                }
            };
            let (rows, left_columns) = stored(m, k, transpose_left);
            let a = field.sample(left_type, matrices, rows, left_columns, scale);
            let (rows, right_columns) = stored(k, n, transpose_right);
            let b = field.sample(right_type, matrices, rows, right_columns, scale);
            let mut c = field.sample(result_type, matrices, m, n, 1.0);
            let around = padding(&c.matrix);

            let kernel = MatrixMultiplication::new(m, n, k)
                .transpose_left(transpose_left)
                .transpose_right(transpose_right)
                .alpha(alpha)
                .beta(beta)
                .build(&device)
                .unwrap();
            let commands = queue.command_buffer().unwrap();
            kernel
                .encode(&commands, &a.matrix, &b.matrix, &mut c.matrix)
                .unwrap();
            commands.commit().wait().unwrap();

            let mut expected = vec![];
            let mut magnitude = vec![];
            for batch in 0..matrices {
                let left = &a.values[batch * m * k..(batch + 1) * m * k];
                let right = &b.values[batch * k * n..(batch + 1) * k * n];
                for i in 0..m {
                    for j in 0..n {
                        let terms = (0..k).map(|l| {
                            at(left, left_columns, transpose_left, i, l)
                                * at(right, right_columns, transpose_right, l, j)
                        });
                        let old = beta * c.values[(batch * m + i) * n + j];
                        expected.push(alpha * terms.clone().sum::<f64>() + old);
                        let sum = terms.map(f64::abs).sum::<f64>();
                        magnitude.push(alpha.abs() * sum + old.abs());
                    }
                }
            }
            // An f16 result is rounded at least once, to steps of 2^-24 near zero; how wide the sum is
            // kept, nobody promises.
            let steps = (k + 2) as f64;
            let (relative, absolute) = if result_type == DataType::F16 {
                (steps * 2f64.powi(-11), steps * 2f64.powi(-24))
            } else {
                (1e-5, f64::from(f32::MIN_POSITIVE))
            };
            let what = format!(
                "{test} round {round}: {left_type}x{right_type}->{result_type} m {m} n {n} k {k} \
                 batch {matrices} transposed {transpose_left} {transpose_right}"
            );
            let bound = |index: usize| relative * magnitude[index] + absolute;
            compare(&what, &load(&c.matrix), &expected, bound);
            assert_eq!(
                padding(&c.matrix),
                around,
                "{what}: wrote beside the result"
            );
        }
    });
}

#[test]
fn f32_products() {
    products("f32_products", &TYPES[..1], 60);
}

#[test]
fn products_of_every_type() {
    products("products_of_every_type", &TYPES, 120);
}

/// The squares of a matrix, A·A and A·Aᵀ: both inputs may be the same memory.
#[test]
fn left_and_right_may_be_the_same() {
    let device = Device::system_default().unwrap();
    let a = safe_mps::Matrix::from_slice(&device, 2, 2, &[1.0f32, 2.0, 3.0, 4.0]).unwrap();
    for (transpose, expected) in [
        (false, [7.0, 10.0, 15.0, 22.0]),
        (true, [5.0, 11.0, 11.0, 25.0]),
    ] {
        let mut c = safe_mps::Matrix::zeros(&device, 2, 2, DataType::F32).unwrap();
        let kernel = MatrixMultiplication::new(2, 2, 2)
            .transpose_right(transpose)
            .build(&device)
            .unwrap();
        let commands = device.new_queue().unwrap().command_buffer().unwrap();
        kernel.encode(&commands, &a, &a, &mut c).unwrap();
        commands.commit().wait().unwrap();
        assert_eq!(c.to_vec::<f32>().unwrap(), expected);
    }
}

/// One half of a matrix times another into a third part of the same buffer.
#[test]
fn views_of_one_buffer() {
    let device = Device::system_default().unwrap();
    let all = safe_mps::Matrix::from_slice(
        &device,
        2,
        6,
        &[
            1.0f32, 2.0, 5.0, 6.0, 0.0, 0.0, 3.0, 4.0, 7.0, 8.0, 0.0, 0.0,
        ],
    )
    .unwrap();
    let part = |from| all.sub_matrix(0..2, from..from + 2).unwrap();
    let kernel = MatrixMultiplication::new(2, 2, 2).build(&device).unwrap();
    let commands = device.new_queue().unwrap().command_buffer().unwrap();
    kernel
        .encode(&commands, &part(0), &part(2), &mut part(4))
        .unwrap();
    commands.commit().wait().unwrap();
    assert_eq!(
        all.to_vec::<f32>().unwrap(),
        [
            1.0, 2.0, 5.0, 6.0, 19.0, 22.0, 3.0, 4.0, 7.0, 8.0, 43.0, 50.0
        ]
    );
}
