//! Products of matrices, linear layers and LoRA. Their errors are parts of the same product of absolute
//! values, element by element: how far sums of products may be off does not depend on how much cancels.

use candle_core::{D, Result, Shape, Tensor};
use candle_mps::ops::{self, Activation};

use super::{Case, Op, gated::gelu, rows, variant};
use crate::verify::random::Random;

pub const MATMUL: Op = Op {
    name: "matmul",
    variants: &[
        variant("matrices", |random| matmul(random, &[])),
        variant("broadcast batches", |random| {
            let batches: Vec<usize> = (0..random.between(1, 3))
                .map(|_| random.between(1, 3))
                .collect();
            matmul(random, &batches)
        }),
    ],
};

pub const LINEAR: Op = Op {
    name: "linear",
    variants: &[
        variant("with a bias", |random| linear(random, None, true)),
        variant("without a bias", |random| linear(random, None, false)),
    ],
};

pub const LINEAR_WITH: Op = Op {
    name: "linear_with",
    variants: &[
        variant("no activation", |random| with(random, Activation::None)),
        variant("relu", |random| with(random, Activation::Relu)),
        variant("gelu", |random| with(random, Activation::Gelu)),
        variant("silu", |random| with(random, Activation::Silu)),
    ],
};

pub const LINEAR_ADD: Op = Op {
    name: "linear_add",
    variants: &[
        variant("with a bias", |random| linear_add(random, true)),
        variant("without a bias", |random| linear_add(random, false)),
    ],
};

pub const LORA: Op = Op {
    name: "lora",
    variants: &[
        variant("with a bias", |random| lora(random, true, true)),
        variant("without a bias", |random| lora(random, true, false)),
    ],
};

pub const LORA_DELTA: Op = Op {
    name: "lora_delta",
    variants: &[variant("", |random| lora(random, false, false))],
};

const SCALING: f64 = 1.5;

fn matmul(random: &mut Random, batches: &[usize]) -> Case {
    let [m, k, n] = [0; 3].map(|_| random.size(9, 90));
    // Each side may lack leading dimensions or have ones in them; one of them has all.
    let front = |random: &mut Random, whole: bool| -> Vec<usize> {
        let from = if whole {
            0
        } else {
            random.below(batches.len() + 1)
        };
        let repeat = |dim: &usize| {
            if !whole && random.below(3) == 0 {
                1
            } else {
                *dim
            }
        };
        batches[from..].iter().map(repeat).collect()
    };
    let left_whole = random.chance();
    let (mut a, mut b) = (front(random, left_whole), front(random, !left_whole));
    a.extend([m, k]);
    b.extend([k, n]);
    Case::new(
        vec![("a", a), ("b", b)],
        |x| Ok(ops::matmul(&x[0], &x[1])?),
        |x| product(&x[0], &x[1]),
    )
    .measured_by(|x| product(&x[0], &x[1]), true)
}

fn with(random: &mut Random, activation: Activation) -> Case {
    let bias = random.chance();
    linear(random, Some(activation), bias)
}

/// `linear` without an activation to name, `linear_with` with one.
fn linear(random: &mut Random, activation: Option<Activation>, bias: bool) -> Case {
    let (inner, out) = (random.size(20, 90), random.size(20, 90));
    let mut operands = vec![("x", rows(random, inner)), ("weight", vec![out, inner])];
    if bias {
        operands.push(("bias", vec![out]));
    }
    Case::new(
        operands,
        move |x| {
            Ok(match activation {
                Some(activation) => ops::linear_with(&x[0], &x[1], x.get(2), activation)?,
                None => ops::linear(&x[0], &x[1], x.get(2))?,
            })
        },
        move |x| {
            let z = affine(x)?;
            match activation.unwrap_or(Activation::None) {
                Activation::None => Ok(z),
                Activation::Relu => z.relu(),
                Activation::Gelu => gelu(&z),
                Activation::Silu => z.silu(),
            }
        },
    )
    // No activation makes more of an error than 1.13 times, but their slopes are no sums of products.
    .measured_by(affine, matches!(activation, None | Some(Activation::None)))
}

/// Behind x and the weight, the residual, and the bias if there is one.
fn linear_add(random: &mut Random, bias: bool) -> Case {
    let (inner, out) = (random.size(20, 90), random.size(20, 90));
    let x = rows(random, inner);
    let result = [&x[..x.len() - 1], &[out]].concat();
    let mut operands = vec![("x", x), ("weight", vec![out, inner]), ("residual", result)];
    if bias {
        operands.push(("bias", vec![out]));
    }
    let exact = |x: &[Tensor]| {
        let mut layer = vec![x[0].clone(), x[1].clone()];
        layer.extend(x.get(3).cloned());
        affine(&layer)? + &x[2]
    };
    Case::new(
        operands,
        |x| Ok(ops::linear_add(&x[0], &x[1], x.get(3), &x[2])?),
        exact,
    )
    .measured_by(exact, true)
}

fn lora(random: &mut Random, full: bool, bias: bool) -> Case {
    let (inner, rank, out) = (
        random.size(20, 90),
        random.between(1, 8),
        random.size(20, 90),
    );
    let mut operands = vec![
        ("x", rows(random, inner)),
        ("a", vec![inner, rank]),
        ("b", vec![rank, out]),
    ];
    if full {
        operands.push(("w", vec![out, inner]));
    }
    if bias {
        operands.push(("bias", vec![out]));
    }
    let exact = |x: &[Tensor]| {
        let delta = (product(&product(&x[0], &x[1])?, &x[2])? * SCALING)?;
        let Some(w) = x.get(3) else {
            return Ok(delta);
        };
        let y = (product(&x[0], &w.t()?)? + delta)?;
        match x.get(4) {
            Some(bias) => y.broadcast_add(bias),
            None => Ok(y),
        }
    };
    Case::new(
        operands,
        |x| {
            Ok(match x.get(3) {
                Some(w) => ops::lora(&x[0], w, x.get(4), &x[1], &x[2], SCALING)?,
                None => ops::lora_delta(&x[0], &x[1], &x[2], SCALING)?,
            })
        },
        exact,
    )
    .measured_by(exact, true)
}

/// x · Wᵀ + b.
fn affine(x: &[Tensor]) -> Result<Tensor> {
    let z = product(&x[0], &x[1].t()?)?;
    match x.get(2) {
        Some(bias) => z.broadcast_add(bias),
        None => Ok(z),
    }
}

/// a · b, broadcast over the dimensions in front. Candle multiplies contiguous matrices with one
/// dimension in front, so that is what it gets.
pub fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    // A vector is a row, and stays one.
    if a.rank() == 1 {
        return product(&a.unsqueeze(0)?, b)?.squeeze(0);
    }
    let (m, k, n) = (a.dim(D::Minus2)?, a.dim(D::Minus1)?, b.dim(D::Minus1)?);
    let front = |x: &Tensor| Shape::from(&x.dims()[..x.rank() - 2]);
    let batches = front(a).broadcast_shape_binary_op(&front(b), "product")?;
    let flat = |x: &Tensor, rows: usize, columns: usize| {
        let shape = [batches.dims(), &[rows, columns]].concat();
        x.broadcast_as(shape)?
            .reshape((batches.elem_count(), rows, columns))?
            .contiguous()
    };
    let product = flat(a, m, k)?.matmul(&flat(b, k, n)?)?;
    product.reshape([batches.dims(), &[m, n]].concat())
}
