//! Products on Metal, of shapes that no tile fits: each element, and each element of each gradient, is within
//! 1e-5 · (|A| · |B|) of the exact one, and half types are rounded once on top of that.
#![cfg(feature = "metal")]

mod support;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_mps_ops::ops;
use support::{Function, Operands, Random, device, seeded, values};

/// What rounding to a type may change, half the distance of neighbours: as a part of a number, and at least.
const TYPES: [(DType, f64, f64); 3] = [
    (DType::F32, 0., 0.),
    (DType::F16, 4.9e-4, 3e-8),
    (DType::BF16, 3.92e-3, 0.),
];

/// How an operand lies in memory.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Row-major.
    Plain,
    /// Its last two dimensions swapped.
    Turned,
    /// Part of a larger one.
    Part,
}

impl Lie {
    const ALL: [Self; 3] = [Self::Plain, Self::Turned, Self::Part];

    fn base(self, shape: &[usize]) -> Vec<usize> {
        let (mut base, last) = (shape.to_vec(), shape.len() - 1);
        match self {
            Self::Plain => {}
            Self::Turned => base.swap(last - 1, last),
            Self::Part => base[last] += 3,
        }
        base
    }

    fn of(self, base: &Tensor) -> Result<Tensor> {
        match self {
            Self::Plain => Ok(base.clone()),
            Self::Turned => base.transpose(D::Minus1, D::Minus2),
            Self::Part => base.narrow(D::Minus1, 1, base.dim(D::Minus1)? - 3),
        }
    }
}

/// A result and the gradients of its sum, weighted.
fn run(function: Function, arguments: &[Tensor], lies: &[Lie], weights: &Tensor) -> Vec<Tensor> {
    let vars: Vec<Var> = arguments
        .iter()
        .map(|argument| Var::from_tensor(argument).unwrap())
        .collect();
    let views: Vec<Tensor> = vars
        .iter()
        .zip(lies)
        .map(|(var, lie)| lie.of(var).unwrap())
        .collect();
    let result = function(&views).unwrap();
    let gradients = (&result * weights).unwrap().sum_all().unwrap();
    let gradients = gradients.backward().unwrap();
    let of = |var: &Var| gradients.get(var).expect("a gradient").clone();
    [result].into_iter().chain(vars.iter().map(of)).collect()
}

/// Compares an op that only multiplies and adds with the same in f64: of the numbers, and of their magnitudes, which
/// is the scale of each element's error.
fn check(
    what: &str,
    random: &mut Random,
    shapes: &[(&[usize], Lie)],
    result: &[usize],
    op: Function,
    exact: Function,
) {
    for (dtype, part, least) in TYPES {
        let what = format!("{what} in {dtype:?} of {shapes:?}");
        let lies: Vec<Lie> = shapes.iter().map(|(_, lie)| *lie).collect();
        let arguments: Vec<Tensor> = shapes
            .iter()
            .map(|(shape, lie)| random.tensor(&lie.base(shape), dtype))
            .collect();
        let weights = random.tensor(result, dtype);
        let abs = |x: &Tensor| x.abs().unwrap();
        let magnitudes: Vec<Tensor> = arguments.iter().map(abs).collect();
        let there = |x: &Tensor| x.to_dtype(dtype).unwrap().to_device(&device()).unwrap();
        let ours: Vec<Tensor> = arguments.iter().map(there).collect();
        let ours = run(op, &ours, &lies, &there(&weights));
        let expected = run(exact, &arguments, &lies, &weights);
        let scales = run(exact, &magnitudes, &lies, &abs(&weights));
        for (at, ((ours, expected), scale)) in ours.iter().zip(&expected).zip(&scales).enumerate() {
            assert_eq!(ours.dims(), expected.dims(), "{what}: shape of {at}");
            let (ours, expected, scale) = (values(ours), values(expected), values(scale));
            for (index, ((got, exact), scale)) in ours.iter().zip(&expected).zip(&scale).enumerate()
            {
                let bound = 1e-5 * scale + least.max(part * exact.abs());
                assert!(
                    (got - exact).abs() <= bound,
                    "{what}: element {index} of {at} is {got}, expected {exact} within {bound:e}"
                );
            }
        }
    }
}

/// By Candle, which wants its operands contiguous.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let product = a.contiguous()?.broadcast_matmul(&b.contiguous()?)?;
    product.reshape(product.shape())
}

fn matmul(random: &mut Random, front: &[usize], [m, k, n]: [usize; 3], lies: [Lie; 2]) {
    let dims = |matrix: &[usize]| [front, matrix].concat();
    check(
        "matmul",
        random,
        &[(&dims(&[m, k]), lies[0]), (&dims(&[k, n]), lies[1])],
        &dims(&[m, n]),
        &|x| Ok(ops::matmul(&x[0], &x[1])?),
        &|x| product(&x[0], &x[1]),
    );
}

#[test]
fn ragged_tiles() {
    seeded("ragged_tiles", |random| {
        for sizes in [[33, 65, 47], [70, 130, 40], [1, 1, 1], [40, 17, 36]] {
            for (a, b) in [(0, 0), (1, 2), (2, 1), (1, 1)] {
                matmul(random, &[], sizes, [Lie::ALL[a], Lie::ALL[b]]);
            }
        }
        matmul(random, &[2], [33, 20, 35], [Lie::Plain, Lie::Turned]);
    });
}

#[test]
fn large_tiles() {
    seeded("large_tiles", |random| {
        matmul(random, &[8], [65, 18, 66], [Lie::Plain, Lie::Plain]);
        matmul(random, &[8], [68, 20, 72], [Lie::Turned, Lie::Plain]);
    });
}

#[test]
fn few_rows() {
    seeded("few_rows", |random| {
        for rows in 1..=9 {
            for (inner, out) in [(96, 70), (67, 5), (132, 64)] {
                let lie = Lie::ALL[rows % 3];
                check(
                    "linear",
                    random,
                    &[
                        (&[rows, inner], Lie::Plain),
                        (&[out, inner], lie),
                        (&[1, out], Lie::Plain),
                    ],
                    &[rows, out],
                    &|x| Ok(ops::linear(&x[0], &x[1], Some(&x[2].flatten_all()?))?),
                    &|x| product(&x[0], &x[1].t()?)?.broadcast_add(&x[2]),
                );
            }
        }
    });
}

/// Dimensions in front that no stride joins: more than kernels count, and sums over several of them.
#[test]
fn irregular_dimensions() {
    seeded("irregular_dimensions", |random| {
        check(
            "matmul",
            random,
            &[
                (&[2, 1, 3, 1, 2, 5, 6], Lie::Plain),
                (&[1, 2, 1, 2, 1, 6, 7], Lie::Part),
            ],
            &[2, 2, 3, 2, 2, 5, 7],
            &|x| Ok(ops::matmul(&x[0], &x[1])?),
            &|x| by_columns(&x[0], &x[1]),
        );
        check(
            "matmul",
            random,
            &[
                (&[2, 3, 2, 2, 3, 4], Lie::Plain),
                (&[2, 2, 3, 2, 4, 3], Lie::Plain),
            ],
            &[2, 2, 3, 2, 3, 3],
            &|x| Ok(ops::matmul(&x[0].permute((3, 2, 1, 0, 4, 5))?, &x[1])?),
            &|x| by_columns(&x[0].permute((3, 2, 1, 0, 4, 5))?, &x[1]),
        );
    });
}

/// By a sum of outer products: Candle's has two dimensions in front at most.
fn by_columns(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let outer = |at| {
        let column = a.narrow(D::Minus1, at, 1)?;
        column.broadcast_mul(&b.narrow(D::Minus2, at, 1)?)
    };
    let mut sum = outer(0)?;
    for at in 1..a.dim(D::Minus1)? {
        sum = (sum + outer(at)?)?;
    }
    sum.reshape(sum.shape())
}

#[test]
fn lora_of_every_rank() {
    seeded("lora_of_every_rank", |random| {
        for (rows, inner, rank, out) in [
            (1, 512, 8, 520),
            (1, 70, 3, 1100),
            (3, 65, 17, 33),
            (4, 64, 64, 64),
            (5, 96, 16, 300),
            (9, 130, 33, 130),
            (33, 70, 8, 47),
            (12, 260, 64, 20),
        ] {
            let lies = [Lie::Plain, Lie::ALL[rows % 3], Lie::ALL[rank % 3]];
            let shapes = [vec![rows, inner], vec![inner, rank], vec![rank, out]];
            let weight = [out, inner];
            let shapes: Vec<(&[usize], Lie)> = shapes
                .iter()
                .zip(lies)
                .map(|(shape, lie)| (&shape[..], lie))
                .collect();
            let delta = |x: &[Tensor]| product(&product(&x[0], &x[1])?, &x[2])? * 0.5;
            check(
                "lora_delta",
                random,
                &shapes,
                &[rows, out],
                &|x| Ok(ops::lora_delta(&x[0], &x[1], &x[2], 0.5)?),
                &delta,
            );
            check(
                "lora",
                random,
                &[&shapes[..], &[(&weight, Lie::Plain)]].concat(),
                &[rows, out],
                &|x| Ok(ops::lora(&x[0], &x[3], None, &x[1], &x[2], 0.5)?),
                &|x| product(&x[0], &x[3].t()?)? + delta(x)?,
            );
        }
    });
}

/// A rank for which there is no kernel goes to Candle.
#[test]
fn lora_of_a_rank_above_64() -> Result<()> {
    let ones = |rows, columns| Tensor::ones((rows, columns), DType::F32, &device());
    let y = ops::lora_delta(&ones(2, 3)?, &ones(3, 65)?, &ones(65, 4)?, 1.)?;
    assert_eq!(values(&y), [195.; 8]);
    Ok(())
}

/// What fills up a tile is no part of any sum: infinity times nothing would be NaN.
#[test]
fn infinity_stays_where_it_is() -> Result<()> {
    for rows in [2, 9] {
        let x = Tensor::ones((rows, 35), DType::F32, &Device::Cpu)?;
        let row = Tensor::full(f32::INFINITY, (1, 35), &Device::Cpu)?;
        let x = x.slice_assign(&[1..2, 0..35], &row)?.to_device(&device())?;
        let ones = |rows, columns| Tensor::ones((rows, columns), DType::F32, &device());
        let (weight, a, b) = (ones(37, 35)?, ones(35, 3)?, ones(3, 37)?);
        for (what, y) in [
            ("matmul", ops::matmul(&x, &weight.t()?)?),
            ("linear", ops::linear(&x, &weight, None)?),
            ("lora_delta", ops::lora_delta(&x, &a, &b, 1.)?),
            ("lora", ops::lora(&x, &weight, None, &a, &b, 1.)?),
        ] {
            let infinite = values(&y)
                .iter()
                .map(|y| *y == f64::INFINITY)
                .collect::<Vec<_>>();
            let finite = values(&y).iter().all(|y| !y.is_nan());
            let expected: Vec<bool> = (0..rows * 37).map(|at| at / 37 == 1).collect();
            assert!(finite && infinite == expected, "{what} of {rows} rows");
        }
    }
    Ok(())
}
