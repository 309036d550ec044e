//! The ops, a line each: what they are called with, ours, and Candle's own.
//!
//! To add one, add its line to [`ops()`]. Its goal is asked of it by `cargo xtask bench gpu-work` and by
//! `tests/goals.rs`, and its kernels are looked for races.

use candle_core::{D, Result, Tensor};
use candle_mps_ops::ops::{self, Activation, AttentionOptions};
use candle_nn::{loss, rotary_emb};

use super::Operand::{self, Classes, Given, Hidden, Trained};
use super::{Goal, Scale, candle, layer};

/// A forward pass.
pub type Call = fn(&[Tensor]) -> Result<Tensor>;

/// An op, and what stands for it in Candle.
#[derive(Clone, Copy)]
pub struct Op {
    /// Op and variant.
    pub name: &'static str,
    /// The files, without `.metal`, that its kernels are in, the most important first.
    pub kernels: &'static [&'static str],
    /// What it is called with.
    pub operands: fn(Scale) -> Vec<Operand>,
    /// By our op.
    pub ours: Call,
    /// Candle's function for inference, and its name, where there is one.
    pub fused: Option<(&'static str, Call)>,
    /// By Candle's ops that have a gradient.
    pub unfused: Call,
    /// What its work must not exceed.
    pub goal: Goal,
}

impl Op {
    /// Whether it is an op with kernels, and not a layer of ops.
    pub fn has_kernels(&self) -> bool {
        !self.kernels.is_empty()
    }

    fn fused(self, name: &'static str, call: Call) -> Self {
        Self {
            fused: Some((name, call)),
            ..self
        }
    }

    fn goal(self, goal: Goal) -> Self {
        Self { goal, ..self }
    }
}

/// A line.
fn op(
    name: &'static str,
    kernels: &'static [&'static str],
    operands: fn(Scale) -> Vec<Operand>,
    ours: Call,
    unfused: Call,
) -> Op {
    Op {
        name,
        kernels,
        operands,
        ours,
        fused: None,
        unfused,
        goal: Goal::None,
    }
}

const EPS: f64 = 1e-5;
const SCALING: f64 = 1.5;
const ONE: Goal = Goal::Dispatches(1);
const TWO: Goal = Goal::Dispatches(2);

/// Files of kernels that several ops use.
const PRODUCT: &[&str] = &["matmul", "gemv", "columns", "linear"];
const ATTENTION: &[&str] = &["attention", "attention_backward"];
const LORA: &[&str] = &["lora", "matmul", "gemv", "columns"];

/// All of them.
#[rustfmt::skip]
pub fn ops() -> Vec<Op> {
    vec![
        op("softmax", &["softmax"], one_row, |x| Ok(ops::softmax(&x[0], D::Minus1)?), |x| candle::softmax(&x[0]))
            .fused("softmax_last_dim", |x| candle_nn::ops::softmax_last_dim(&x[0]))
            .goal(ONE),
        op("log_softmax", &["softmax"], one_row, |x| Ok(ops::log_softmax(&x[0], D::Minus1)?), |x| candle_nn::ops::log_softmax(&x[0], D::Minus1))
            .goal(ONE),
        op("rms_norm", &["rms_norm"], row_and_weight, |x| Ok(ops::rms_norm(&x[0], &x[1], EPS)?), |x| candle_nn::ops::rms_norm_slow(&x[0], &x[1], EPS as f32))
            .fused("rms_norm", |x| candle_nn::ops::rms_norm(&x[0], &x[1], EPS as f32))
            .goal(ONE),
        op("rms_norm_no_weight", &["rms_norm"], one_row, |x| Ok(ops::rms_norm_no_weight(&x[0], EPS)?), |x| candle::rms_norm_no_weight(&x[0], EPS))
            .goal(ONE),
        op("layer_norm", &["layer_norm"], row_weight_bias, |x| Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), EPS)?), |x| candle_nn::ops::layer_norm_slow(&x[0], &x[1], &x[2], EPS as f32))
            .fused("layer_norm", |x| candle_nn::ops::layer_norm(&x[0], &x[1], &x[2], EPS as f32))
            .goal(ONE),
        op("rope", &["rope"], heads_first, |x| Ok(ops::rope(&x[0], &x[1], &x[2])?), |x| rotary_emb::rope_slow(&x[0], &x[1], &x[2]))
            .fused("rope", |x| rotary_emb::rope(&x[0], &x[1], &x[2]))
            .goal(ONE),
        op("rope_i", &["rope"], heads_first, |x| Ok(ops::rope_i(&x[0], &x[1], &x[2])?), |x| rotary_emb::rope_i_slow(&x[0], &x[1], &x[2]))
            .fused("rope_i", |x| rotary_emb::rope_i(&x[0], &x[1], &x[2]))
            .goal(ONE),
        op("rope_thd", &["rope"], positions_first, |x| Ok(ops::rope_thd(&x[0], &x[1], &x[2])?), |x| candle::rope_thd_slow(&x[0], &x[1], &x[2]))
            .fused("rope_thd", |x| rotary_emb::rope_thd(&x[0], &x[1], &x[2]))
            .goal(ONE),
        op("attention", ATTENTION, |scale| qkv(scale, 1), |x| attention(x, None, false), |x| candle::attention([&x[0], &x[1], &x[2]], None, None, candle::softmax))
            .fused("sdpa", |x| candle::sdpa([&x[0], &x[1], &x[2]], false))
            .goal(ONE),
        op("attention causal", ATTENTION, hidden_qkv, |x| attention(x, None, true), |x| candle::attention([&x[0], &x[1], &x[2]], Some(&x[3]), None, candle::softmax))
            .fused("sdpa", |x| candle::sdpa([&x[0], &x[1], &x[2]], true))
            .goal(ONE),
        op("attention mask", ATTENTION, masked_qkv, |x| attention(x, Some(&x[3]), false), |x| candle::attention([&x[0], &x[1], &x[2]], None, Some(&x[3]), candle::softmax))
            .goal(ONE),
        op("attention shared", ATTENTION, |scale| qkv(scale, 2), |x| attention(x, None, true), |x| candle::attention([&x[0], &x[1], &x[2]], x.get(3), None, candle::softmax))
            .fused("sdpa", |x| candle::sdpa([&x[0], &x[1], &x[2]], true))
            .goal(ONE),
        op("lora_delta", LORA, low_rank, |x| Ok(ops::lora_delta(&x[0], &x[1], &x[2], SCALING)?), |x| candle::lora_delta(&x[0], &x[1], &x[2], SCALING))
            .goal(ONE),
        op("lora", LORA, low_rank_and_base, |x| Ok(ops::lora(&x[0], &x[3], Some(&x[4]), &x[1], &x[2], SCALING)?), |x| candle::linear(&x[0], &x[3], Some(&x[4]))? + candle::lora_delta(&x[0], &x[1], &x[2], SCALING)?)
            .goal(TWO),
        op("matmul", PRODUCT, factors, |x| Ok(ops::matmul(&x[0], &x[1])?), |x| x[0].matmul(&x[1])),
        op("linear", PRODUCT, projection, |x| linear(x, Activation::None), |x| candle::linear(&x[0], &x[1], Some(&x[2]))),
        op("linear relu", PRODUCT, projection, |x| linear(x, Activation::Relu), |x| candle::linear(&x[0], &x[1], Some(&x[2]))?.relu()),
        op("linear gelu", PRODUCT, projection, |x| linear(x, Activation::Gelu), |x| candle::linear(&x[0], &x[1], Some(&x[2]))?.gelu()),
        op("linear silu", PRODUCT, projection, |x| linear(x, Activation::Silu), |x| candle::linear(&x[0], &x[1], Some(&x[2]))?.silu()),
        op("linear add", PRODUCT, projection_and_residual, |x| Ok(ops::linear_add(&x[0], &x[1], Some(&x[2]), &x[3])?), |x| candle::linear(&x[0], &x[1], Some(&x[2]))? + &x[3]),
        op("swiglu", &["glu"], two_rows, |x| Ok(ops::swiglu(&x[0], &x[1])?), |x| x[0].silu()? * &x[1])
            .goal(ONE),
        op("geglu", &["glu"], two_rows, |x| Ok(ops::geglu(&x[0], &x[1])?), |x| x[0].gelu()? * &x[1])
            .goal(ONE),
        op("geglu_erf", &["glu"], two_rows, |x| Ok(ops::geglu_erf(&x[0], &x[1])?), |x| x[0].gelu_erf()? * &x[1])
            .goal(ONE),
        op("cross_entropy", &["cross_entropy"], logits, |x| Ok(ops::cross_entropy(&x[0], &x[1])?), |x| loss::cross_entropy(&x[0], &x[1]))
            .goal(ONE),
        op("cross_entropy large", &["cross_entropy"], many_logits, |x| Ok(ops::cross_entropy(&x[0], &x[1])?), |x| loss::cross_entropy(&x[0], &x[1]))
            .goal(TWO),
        op("llama layer", &[], layer::operands, layer::ours, layer::candle_training)
            .fused("as its Llama", layer::candle)
            .goal(Goal::HalfOfCandle),
        op("llama layer, sdpa", &[], layer::operands, layer::ours, layer::candle_training)
            .fused("with sdpa", layer::candle_sdpa),
    ]
}

fn attention(x: &[Tensor], mask: Option<&Tensor>, causal: bool) -> Result<Tensor> {
    let options = AttentionOptions {
        causal,
        ..AttentionOptions::default()
    };
    Ok(ops::attention(&x[0], &x[1], &x[2], mask, &options)?)
}

fn linear(x: &[Tensor], activation: Activation) -> Result<Tensor> {
    Ok(ops::linear_with(&x[0], &x[1], Some(&x[2]), activation)?)
}

/// Rows, and how wide they are: many, each of one simdgroup, and few of several, odd and by fours.
fn rows(scale: Scale) -> [usize; 2] {
    let ragged = [[131, 33], [3, 1030], [2, 2052], [1, 4097]];
    scale.dims([64, 256], [3, 20], ragged, &[1])
}

fn one_row(scale: Scale) -> Vec<Operand> {
    vec![Trained(rows(scale).into())]
}

fn two_rows(scale: Scale) -> Vec<Operand> {
    let dims: Vec<_> = rows(scale).into();
    vec![Trained(dims.clone()), Trained(dims)]
}

fn row_and_weight(scale: Scale) -> Vec<Operand> {
    let [rows, width] = rows(scale);
    vec![Trained(vec![rows, width]), Trained(vec![width])]
}

fn row_weight_bias(scale: Scale) -> Vec<Operand> {
    let [rows, width] = rows(scale);
    let vector = || Trained(vec![width]);
    vec![Trained(vec![rows, width]), vector(), vector()]
}

fn logits(scale: Scale) -> Vec<Operand> {
    let [count, classes] = rows(scale);
    vec![Trained(vec![count, classes]), Classes { count, classes }]
}

/// As many as take two dispatches, on the bench.
fn many_logits(scale: Scale) -> Vec<Operand> {
    match scale {
        Scale::Bench => vec![
            Trained(vec![64, 2048]),
            Classes {
                count: 64,
                classes: 2048,
            },
        ],
        _ => logits(scale),
    }
}

/// Batch, heads, positions, size.
fn turned(scale: Scale) -> [usize; 4] {
    let ragged = [[2, 3, 5, 6], [1, 2, 33, 70], [3, 1, 1, 128], [1, 5, 17, 2]];
    scale.dims([1, 4, 64, 32], [1, 2, 5, 8], ragged, &[2])
}

fn with_angles([batch, one, other, size]: [usize; 4], positions: usize) -> Vec<Operand> {
    let angles = || Given(vec![positions, size / 2]);
    vec![Trained(vec![batch, one, other, size]), angles(), angles()]
}

fn heads_first(scale: Scale) -> Vec<Operand> {
    let dims = turned(scale);
    with_angles(dims, dims[2])
}

fn positions_first(scale: Scale) -> Vec<Operand> {
    let [batch, heads, positions, size] = turned(scale);
    with_angles([batch, positions, heads, size], positions)
}

/// Batch, heads, queries, keys, size.
fn attended(scale: Scale) -> [usize; 5] {
    let ragged = [
        [1, 2, 5, 7, 8],
        [2, 4, 37, 37, 40],
        [1, 4, 1, 130, 64],
        [1, 2, 70, 71, 128],
    ];
    scale.dims([1, 4, 64, 64, 32], [1, 2, 5, 5, 8], ragged, &[2, 3])
}

/// Where so many heads of queries share one of keys. What Candle hides comes last if heads are shared.
fn qkv(scale: Scale, sharing: usize) -> Vec<Operand> {
    let [batch, heads, queries, keys, size] = attended(scale);
    let other = || Trained(vec![batch, heads / sharing, keys, size]);
    let mut operands = vec![Trained(vec![batch, heads, queries, size]), other(), other()];
    if sharing > 1 {
        operands.push(Hidden(keys));
    }
    operands
}

fn hidden_qkv(scale: Scale) -> Vec<Operand> {
    let mut operands = qkv(scale, 1);
    operands.push(Hidden(attended(scale)[3]));
    operands
}

fn masked_qkv(scale: Scale) -> Vec<Operand> {
    let mut operands = qkv(scale, 1);
    let [_, _, queries, keys, _] = attended(scale);
    operands.push(Given(vec![queries, keys]));
    operands
}

/// Rows, inner, columns.
fn product(scale: Scale) -> [usize; 3] {
    let ragged = [[7, 33, 19], [33, 65, 70], [1, 130, 257], [70, 31, 129]];
    scale.dims([64, 128, 96], [3, 8, 5], ragged, &[0, 2])
}

fn factors(scale: Scale) -> Vec<Operand> {
    let [rows, inner, columns] = product(scale);
    vec![
        Trained(vec![2, rows, inner]),
        Trained(vec![2, inner, columns]),
    ]
}

fn projection(scale: Scale) -> Vec<Operand> {
    let [rows, inner, columns] = product(scale);
    vec![
        Trained(vec![rows, inner]),
        Trained(vec![columns, inner]),
        Trained(vec![columns]),
    ]
}

fn projection_and_residual(scale: Scale) -> Vec<Operand> {
    let [rows, _, columns] = product(scale);
    let mut operands = projection(scale);
    operands.push(Trained(vec![rows, columns]));
    operands
}

fn low_rank(scale: Scale) -> Vec<Operand> {
    around(scale, product(scale))
}

/// Of a product of this size: x, and its factors of low rank.
fn around(scale: Scale, [rows, inner, columns]: [usize; 3]) -> Vec<Operand> {
    let [rank] = scale.dims([8], [2], [[3], [37], [8], [20]], &[]);
    vec![
        Trained(vec![rows, inner]),
        Trained(vec![inner, rank]),
        Trained(vec![rank, columns]),
    ]
}

/// Like a layer's: square, and larger than what goes through it.
fn low_rank_and_base(scale: Scale) -> Vec<Operand> {
    let ragged = [[7, 33, 19], [33, 65, 70], [1, 130, 257], [70, 31, 129]];
    let [rows, inner, columns] = scale.dims([32, 512, 512], [3, 8, 5], ragged, &[0, 2]);
    let mut operands = around(scale, [rows, inner, columns]);
    operands.push(Trained(vec![columns, inner]));
    operands.push(Trained(vec![columns]));
    operands
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sources;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_different_and_every_file_of_kernels_has_an_op() {
        let ops = ops();
        let names: BTreeSet<_> = ops.iter().map(|op| op.name).collect();
        assert_eq!(names.len(), ops.len());
        for file in sources::files() {
            let used = ops
                .iter()
                .any(|op| op.kernels.contains(&file.name.as_str()));
            assert!(
                used || file.is_shared(),
                "no op of the table has {}.metal",
                file.name
            );
        }
    }
}
