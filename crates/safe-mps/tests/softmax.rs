//! Softmax, log softmax and their gradients on random shapes, strides, offsets and batches,
//! against f64.
#![cfg(feature = "metal")]

mod support;

use safe_mps::{
    CommandBuffer, DataType, Device, LogSoftMax, LogSoftMaxGradient, Matrix, SoftMax,
    SoftMaxGradient,
};
use support::{Field, compare, load, padding, seeded};

fn softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = x.iter().map(|v| (v - max).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.iter().map(|v| v / sum).collect()
}

fn log_softmax(x: &[f64]) -> Vec<f64> {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let log = x.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
    x.iter().map(|v| v - max - log).collect()
}

/// How far a result may be off, relative to its size plus one.
fn relative(data_type: DataType) -> f64 {
    if data_type == DataType::F16 {
        4e-3
    } else {
        1e-5
    }
}

fn forward(
    test: &str,
    oracle: fn(&[f64]) -> Vec<f64>,
    encode: impl Fn(&CommandBuffer, &Matrix, &mut Matrix),
) {
    seeded(test, |random| {
        let device = Device::system_default().unwrap();
        let queue = device.new_queue().unwrap();
        for round in 0..60 {
            let data_type = random.pick(&[DataType::F32, DataType::F16]);
            let (rows, columns) = (random.between(1, 20), random.between(1, 50));
            let matrices = random.pick(&[1, 1, 2, 4]);
            // Large scores overflow exp() unless the maximum is taken off first.
            let scale = random.pick(&[1.0, 10.0, 200.0]);
            let mut field = Field {
                device: &device,
                random,
            };
            let x = field.sample(data_type, matrices, rows, columns, scale);
            let mut y = field.sample(data_type, matrices, rows, columns, 1.0);
            let around = padding(&y.matrix);
            let commands = queue.command_buffer().unwrap();
            encode(&commands, &x.matrix, &mut y.matrix);
            commands.commit().wait().unwrap();

            let expected: Vec<f64> = x.values.chunks(columns).flat_map(oracle).collect();
            let what = format!("{test} round {round}: {data_type} {matrices}x{rows}x{columns}");
            let bound = |index: usize| relative(data_type) * (1.0 + expected[index].abs());
            compare(&what, &load(&y.matrix), &expected, bound);
            assert_eq!(
                padding(&y.matrix),
                around,
                "{what}: wrote beside the result"
            );
        }
    });
}

#[test]
fn softmax_of_rows() {
    let kernel = SoftMax::new(&Device::system_default().unwrap()).unwrap();
    forward("softmax_of_rows", softmax, |on, x, y| {
        kernel.encode(on, x, y).unwrap()
    });
}

#[test]
fn log_softmax_of_rows() {
    let kernel = LogSoftMax::new(&Device::system_default().unwrap()).unwrap();
    forward("log_softmax_of_rows", log_softmax, |on, x, y| {
        kernel.encode(on, x, y).unwrap()
    });
}

fn backward(
    test: &str,
    oracle: fn(&[f64]) -> Vec<f64>,
    encode: impl Fn(&CommandBuffer, &Matrix, &Matrix, &mut Matrix),
) {
    seeded(test, |random| {
        let device = Device::system_default().unwrap();
        let queue = device.new_queue().unwrap();
        for round in 0..60 {
            let data_type = random.pick(&[DataType::F32, DataType::F16]);
            let (rows, columns) = (random.between(1, 12), random.between(1, 30));
            let matrices = random.pick(&[1, 1, 3]);
            let x: Vec<f64> = (0..matrices * rows * columns)
                .map(|_| random.unit() * 2.0)
                .collect();
            let mut field = Field {
                device: &device,
                random,
            };
            let g = field.sample(data_type, matrices, rows, columns, 1.0);
            let mut y = field.sample(data_type, matrices, rows, columns, 1.0);
            let mut dx = field.sample(data_type, matrices, rows, columns, 1.0);
            let around = padding(&dx.matrix);
            let result: Vec<f64> = x.chunks(columns).flat_map(oracle).collect();
            support::store(&mut y.matrix, &result);
            let commands = queue.command_buffer().unwrap();
            encode(&commands, &g.matrix, &y.matrix, &mut dx.matrix);
            commands.commit().wait().unwrap();

            // Central differences of Σ g · oracle(x), of which the gradient is the derivative.
            let step = 1e-5;
            let mut expected = vec![];
            for (x, g) in x.chunks(columns).zip(g.values.chunks(columns)) {
                let value =
                    |x: &[f64]| -> f64 { oracle(x).iter().zip(g).map(|(y, g)| y * g).sum() };
                for j in 0..columns {
                    let (mut up, mut down) = (x.to_vec(), x.to_vec());
                    up[j] += step;
                    down[j] -= step;
                    expected.push((value(&up) - value(&down)) / (2.0 * step));
                }
            }
            let what = format!("{test} round {round}: {data_type} {matrices}x{rows}x{columns}");
            // The sum over a row, and y rounded to the type, enter every element.
            let bound = relative(data_type) * (1.0 + columns as f64 * 0.1);
            compare(&what, &load(&dx.matrix), &expected, |_| bound);
            assert_eq!(
                padding(&dx.matrix),
                around,
                "{what}: wrote beside the result"
            );
        }
    });
}

#[test]
fn softmax_gradient_of_rows() {
    let kernel = SoftMaxGradient::new(&Device::system_default().unwrap()).unwrap();
    let test = "softmax_gradient_of_rows";
    backward(test, softmax, |on, g, y, dx| {
        kernel.encode(on, g, y, dx).unwrap()
    });
}

#[test]
fn log_softmax_gradient_of_rows() {
    let kernel = LogSoftMaxGradient::new(&Device::system_default().unwrap()).unwrap();
    let test = "log_softmax_gradient_of_rows";
    backward(test, log_softmax, |on, g, y, dx| {
        kernel.encode(on, g, y, dx).unwrap()
    });
}
