//! Every op, forward and backward, against Candle's unfused ops in f64 and against differences: random
//! shapes, strides, offsets and dims, in every type.

mod support;

use candle_core::{D, DType, Device, Result, Tensor};
use candle_mps_ops::ops::{self, Activation, AttentionOptions};
use support::{Operands, Random, check, seeded};

fn dims(front: &[usize], last: &[usize]) -> Vec<usize> {
    [front, last].concat()
}

/// An operand in f64 of the CPU, of the type and device of another.
fn like(x: &Tensor, other: &Tensor) -> Result<Tensor> {
    x.to_dtype(other.dtype())?.to_device(other.device())
}

/// Where the ops under test compute.
fn there(x: &Tensor) -> Result<Tensor> {
    x.to_device(&support::device())
}

#[test]
fn softmax_of_any_dim() {
    seeded("softmax_of_any_dim", |random| {
        for _ in 0..support::rounds(12) {
            let last = random.between(1, 40);
            let shape = dims(&random.front(), &[random.between(1, 5), last]);
            let dim = random.below(shape.len());
            check(
                &format!("softmax over {dim}"),
                random,
                &[&shape],
                &|x| Ok(ops::softmax(&x[0], dim)?),
                &|x| candle_nn::ops::softmax(&x[0], dim),
            );
            check(
                &format!("log_softmax over {dim}"),
                random,
                &[&shape],
                &|x| Ok(ops::log_softmax(&x[0], dim)?),
                &|x| candle_nn::ops::log_softmax(&x[0], dim),
            );
        }
    });
}

#[test]
fn rms_norm() {
    seeded("rms_norm", |random| {
        for _ in 0..support::rounds(12) {
            let width = random.between(1, 40);
            let shape = dims(&random.front(), &[width]);
            check(
                "rms_norm",
                random,
                &[&shape, &[width]],
                &|x| Ok(ops::rms_norm(&x[0], &x[1], 1e-5)?),
                &|x| rms_norm_unfused(&x[0], 1e-5)?.broadcast_mul(&x[1]),
            );
            check(
                "rms_norm_no_weight",
                random,
                &[&shape],
                &|x| Ok(ops::rms_norm_no_weight(&x[0], 1e-5)?),
                &|x| rms_norm_unfused(&x[0], 1e-5),
            );
        }
    });
}

// candle_nn's slow one takes an f32 for ε.
fn rms_norm_unfused(x: &Tensor, eps: f64) -> Result<Tensor> {
    let mean = (x.sqr()?.sum_keepdim(D::Minus1)? / x.dim(D::Minus1)? as f64)?;
    x.broadcast_div(&(mean + eps)?.sqrt()?)
}

#[test]
fn layer_norm() {
    let unfused = |x: &Tensor| {
        let width = x.dim(D::Minus1)? as f64;
        let centred = x.broadcast_sub(&(x.sum_keepdim(D::Minus1)? / width)?)?;
        let variance = (centred.sqr()?.sum_keepdim(D::Minus1)? / width)?;
        centred.broadcast_div(&(variance + 1e-2)?.sqrt()?)
    };
    seeded("layer_norm", |random| {
        for _ in 0..support::rounds(12) {
            let width = random.between(1, 40);
            let shape = dims(&random.front(), &[width]);
            check(
                "layer_norm",
                random,
                &[&shape, &[width], &[width]],
                &|x| Ok(ops::layer_norm(&x[0], &x[1], Some(&x[2]), 1e-2)?),
                &|x| unfused(&x[0])?.broadcast_mul(&x[1])?.broadcast_add(&x[2]),
            );
            check(
                "layer_norm without bias",
                random,
                &[&shape, &[width]],
                &|x| Ok(ops::layer_norm(&x[0], &x[1], None, 1e-2)?),
                &|x| unfused(&x[0])?.broadcast_mul(&x[1]),
            );
        }
    });
}

#[test]
fn rope_in_three_layouts() {
    seeded("rope_in_three_layouts", |random| {
        for round in 0..support::rounds(10) {
            let (batch, heads, count) = (
                random.between(1, 3),
                random.between(1, 3),
                random.between(1, 6),
            );
            let half = random.between(1, 20);
            let more = count + random.below(3);
            let angles = if round % 2 == 0 {
                vec![more, half]
            } else {
                vec![batch, more, half]
            };
            let first = [batch, heads, count, 2 * half];
            let positions_first = [batch, count, heads, 2 * half];
            // The angles' gradients are checked as well.
            check(
                "rope",
                random,
                &[&first, &angles, &angles],
                &|x| Ok(ops::rope(&x[0], &x[1], &x[2])?),
                &|x| turned(&x[0], &x[1], &x[2], false),
            );
            check(
                "rope_i",
                random,
                &[&first, &angles, &angles],
                &|x| Ok(ops::rope_i(&x[0], &x[1], &x[2])?),
                &|x| turned(&x[0], &x[1], &x[2], true),
            );
            check(
                "rope_thd",
                random,
                &[&positions_first, &angles, &angles],
                &|x| Ok(ops::rope_thd(&x[0], &x[1], &x[2])?),
                &|x| turned(&x[0].transpose(1, 2)?, &x[1], &x[2], false)?.transpose(1, 2),
            );
            // And the kernel, which runs where the angles are constants.
            let cos = random.tensor(&angles, DType::F16);
            let sin = random.tensor(&angles, DType::F16);
            for (name, neighbours, op) in [
                (
                    "rope, frozen angles",
                    false,
                    ops::rope as fn(&_, &_, &_) -> _,
                ),
                ("rope_i, frozen angles", true, ops::rope_i),
            ] {
                check(
                    name,
                    random,
                    &[&first],
                    &|x| {
                        let of = |angles: &Tensor| like(angles, &x[0]);
                        Ok(op(&x[0], &of(&cos)?, &of(&sin)?)?)
                    },
                    &|x| turned(&x[0], &cos, &sin, neighbours),
                );
            }
            check(
                "rope_thd, frozen angles",
                random,
                &[&positions_first],
                &|x| {
                    let of = |angles: &Tensor| like(angles, &x[0]);
                    Ok(ops::rope_thd(&x[0], &of(&cos)?, &of(&sin)?)?)
                },
                &|x| turned(&x[0].transpose(1, 2)?, &cos, &sin, false)?.transpose(1, 2),
            );
        }
    });
}

/// Heads before positions. By matrices of two by two rather than halves.
fn turned(x: &Tensor, cos: &Tensor, sin: &Tensor, neighbours: bool) -> Result<Tensor> {
    let (batch, heads, count, size) = x.dims4()?;
    let angles = |angles: &Tensor| -> Result<Tensor> {
        let angles = match angles.rank() {
            2 => angles.unsqueeze(0)?,
            _ => angles.clone(),
        };
        let angles = angles.narrow(1, 0, count)?.unsqueeze(1)?;
        angles.broadcast_as((batch, heads, count, size / 2))
    };
    let (cos, sin) = (angles(cos)?, angles(sin)?);
    let index = |start: usize, step: usize| -> Result<Tensor> {
        let index: Vec<u32> = (0..size / 2).map(|at| (start + at * step) as u32).collect();
        x.contiguous()?
            .index_select(&Tensor::new(index, &Device::Cpu)?, 3)
    };
    let (a, b) = match neighbours {
        true => (index(0, 2)?, index(1, 2)?),
        false => (index(0, 1)?, index(size / 2, 1)?),
    };
    let first = ((&a * &cos)? - (&b * &sin)?)?;
    let second = ((&b * &cos)? + (&a * &sin)?)?;
    match neighbours {
        true => Tensor::stack(&[first, second], 4)?.reshape((batch, heads, count, size)),
        false => Tensor::cat(&[first, second], 3),
    }
}

#[test]
fn matmul_with_broadcast_batches() {
    seeded("matmul_with_broadcast_batches", |random| {
        for _ in 0..support::rounds(24) {
            let (m, k, n) = (
                random.between(1, 9),
                random.between(1, 9),
                random.between(1, 9),
            );
            let whole: Vec<usize> = (0..random.below(4)).map(|_| random.between(1, 3)).collect();
            let front = |random: &mut Random| -> Vec<usize> {
                let from = if random.chance() {
                    0
                } else {
                    random.below(whole.len() + 1)
                };
                whole[from..]
                    .iter()
                    .map(|&dim| if random.below(3) == 0 { 1 } else { dim })
                    .collect()
            };
            let (a, b) = (front(random), front(random));
            check(
                "matmul",
                random,
                &[&dims(&a, &[m, k]), &dims(&b, &[k, n])],
                &|x| Ok(ops::matmul(&x[0], &x[1])?),
                &|x| product(&x[0], &x[1]),
            );
        }
    });
}

/// By a sum of outer products, since Candle refuses most strides and more than two dimensions in front.
fn product(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let last = a.dim(D::Minus1)?;
    let mut sum = None;
    for at in 0..last {
        let column = a.narrow(D::Minus1, at, 1)?;
        let outer = column.broadcast_mul(&b.narrow(D::Minus2, at, 1)?)?;
        sum = Some(match sum {
            Some(sum) => (sum + outer)?,
            None => outer,
        });
    }
    Ok(sum.expect("a column"))
}

#[test]
fn linear_with_every_activation() {
    let unfused = |x: &[Tensor], activation| -> Result<Tensor> {
        let (out, inner) = x[1].dims2()?;
        let front = x[0].elem_count() / inner;
        let mut dims = x[0].dims().to_vec();
        dims.pop();
        dims.push(out);
        let z = x[0]
            .reshape((front, inner))?
            .matmul(&x[1].t()?)?
            .reshape(dims)?;
        let z = match x.get(2) {
            Some(bias) => z.broadcast_add(bias)?,
            None => z,
        };
        match activation {
            Activation::None => Ok(z),
            Activation::Relu => z.relu(),
            Activation::Gelu => gelu(&z),
            Activation::Silu => z.silu(),
        }
    };
    seeded("linear_with_every_activation", |random| {
        for _ in 0..support::rounds(4) {
            let activations = [
                Activation::None,
                Activation::Relu,
                Activation::Gelu,
                Activation::Silu,
            ];
            for activation in activations {
                let (inner, out) = (random.between(1, 20), random.between(1, 20));
                let shape = dims(&random.front(), &[inner]);
                check(
                    &format!("linear with {activation:?}"),
                    random,
                    &[&shape, &[out, inner], &[out]],
                    &|x| Ok(ops::linear_with(&x[0], &x[1], Some(&x[2]), activation)?),
                    &|x| unfused(x, activation),
                );
                check(
                    &format!("linear with {activation:?} and no bias"),
                    random,
                    &[&shape, &[out, inner]],
                    &|x| Ok(ops::linear_with(&x[0], &x[1], None, activation)?),
                    &|x| unfused(x, activation),
                );
            }
            let (inner, out) = (random.between(1, 20), random.between(1, 20));
            let front = random.front();
            let (shape, result) = (dims(&front, &[inner]), dims(&front, &[out]));
            check(
                "linear_add",
                random,
                &[&shape, &[out, inner], &[out], &result],
                &|x| Ok(ops::linear_add(&x[0], &x[1], Some(&x[2]), &x[3])?),
                &|x| unfused(&x[..3], Activation::None)? + &x[3],
            );
            check(
                "linear_add without bias",
                random,
                &[&shape, &[out, inner], &result],
                &|x| Ok(ops::linear_add(&x[0], &x[1], None, &x[2])?),
                &|x| unfused(&x[..2], Activation::None)? + &x[2],
            );
        }
    });
}

/// Candle's own has a backward with constants of seven digits.
fn gelu(x: &Tensor) -> Result<Tensor> {
    let cubic = ((x.sqr()? * 0.044_715)? + 1.)?;
    let inner = ((x * cubic)? * (2. / std::f64::consts::PI).sqrt())?;
    (x * 0.5)? * (inner.tanh()? + 1.)?
}

/// Likewise.
fn gelu_erf(x: &Tensor) -> Result<Tensor> {
    (x * 0.5)? * ((x * 0.5f64.sqrt())?.erf()? + 1.)?
}

#[test]
fn gated_units() {
    seeded("gated_units", |random| {
        for _ in 0..support::rounds(8) {
            let shape = dims(&random.front(), &[random.between(1, 40)]);
            check(
                "swiglu",
                random,
                &[&shape, &shape],
                &|x| Ok(ops::swiglu(&x[0], &x[1])?),
                &|x| x[0].silu()? * &x[1],
            );
            check(
                "geglu",
                random,
                &[&shape, &shape],
                &|x| Ok(ops::geglu(&x[0], &x[1])?),
                &|x| gelu(&x[0])? * &x[1],
            );
            check(
                "geglu_erf",
                random,
                &[&shape, &shape],
                &|x| Ok(ops::geglu_erf(&x[0], &x[1])?),
                &|x| gelu_erf(&x[0])? * &x[1],
            );
        }
    });
}

#[test]
fn lora_with_five_gradients() {
    seeded("lora_with_five_gradients", |random| {
        for _ in 0..support::rounds(10) {
            let (inner, rank, out) = (
                random.between(1, 20),
                random.between(1, 8),
                random.between(1, 20),
            );
            let shape = dims(&random.front(), &[inner]);
            let (a, b) = ([inner, rank], [rank, out]);
            let product = |x: &Tensor, w: &Tensor| {
                let (x, w) = (x.unsqueeze(0)?, w.broadcast_left(1)?);
                x.unsqueeze(0)?.broadcast_matmul(&w)?.squeeze(0)?.squeeze(0)
            };
            let delta = |x: &Tensor, a: &Tensor, b: &Tensor| {
                let flat = x.reshape((x.elem_count() / inner, inner))?;
                product(&product(&flat, a)?, b)? * 1.5
            };
            let full = |x: &[Tensor]| {
                let flat = x[0].reshape((x[0].elem_count() / inner, inner))?;
                let y = (flat.matmul(&x[3].t()?)? + delta(&x[0], &x[1], &x[2])?)?;
                let y = match x.get(4) {
                    Some(bias) => y.broadcast_add(bias)?,
                    None => y,
                };
                y.reshape(dims(&x[0].dims()[..x[0].rank() - 1], &[out]))
            };
            check(
                "lora",
                random,
                &[&shape, &a, &b, &[out, inner], &[out]],
                &|x| Ok(ops::lora(&x[0], &x[3], Some(&x[4]), &x[1], &x[2], 1.5)?),
                &full,
            );
            check(
                "lora without bias",
                random,
                &[&shape, &a, &b, &[out, inner]],
                &|x| Ok(ops::lora(&x[0], &x[3], None, &x[1], &x[2], 1.5)?),
                &full,
            );
            check(
                "lora_delta",
                random,
                &[&shape, &a, &b],
                &|x| Ok(ops::lora_delta(&x[0], &x[1], &x[2], 1.5)?),
                &|x| {
                    let y = delta(&x[0], &x[1], &x[2])?;
                    y.reshape(dims(&x[0].dims()[..x[0].rank() - 1], &[out]))
                },
            );
        }
    });
}

#[test]
fn cross_entropy() {
    seeded("cross_entropy", |random| {
        for _ in 0..support::rounds(10) {
            let (rows, classes) = (random.between(1, 12), random.between(1, 40));
            let targets: Vec<u32> = (0..rows).map(|_| random.below(classes) as u32).collect();
            let targets = Tensor::new(&targets[..], &Device::Cpu).unwrap();
            check(
                "cross_entropy",
                random,
                &[&[rows, classes]],
                &|x| Ok(ops::cross_entropy(&x[0], &there(&targets)?)?),
                &|x| candle_nn::loss::cross_entropy(&x[0], &targets),
            );
            // Some rows do not count: the mean is over the others.
            let counts: Vec<bool> = (0..rows).map(|row| row == 0 || random.chance()).collect();
            let marked: Vec<i64> = targets
                .to_vec1::<u32>()
                .unwrap()
                .into_iter()
                .zip(&counts)
                .map(|(target, counts)| if *counts { i64::from(target) } else { -100 })
                .collect();
            let marked = Tensor::new(&marked[..], &Device::Cpu).unwrap();
            let kept: Vec<u32> = (0..rows as u32)
                .filter(|row| counts[*row as usize])
                .collect();
            let kept = Tensor::new(&kept[..], &Device::Cpu).unwrap();
            check(
                "cross_entropy_with",
                random,
                &[&[rows, classes]],
                &|x| {
                    Ok(ops::cross_entropy_with(
                        &x[0],
                        &there(&marked)?,
                        Some(-100),
                    )?)
                },
                &|x| {
                    let x = x[0].contiguous()?.index_select(&kept, 0)?;
                    candle_nn::loss::cross_entropy(&x, &targets.index_select(&kept, 0)?)
                },
            );
        }
    });
}

/// Attention with a matrix of scores, k and v repeated for the heads that share them.
fn unfused_attention(
    x: &[Tensor],
    mask: Option<&Tensor>,
    options: &AttentionOptions,
) -> Result<Tensor> {
    let (q, k, v) = (&x[0], &x[1], &x[2]);
    let (batch, heads, queries, size) = q.dims4()?;
    let (_, kv_heads, keys, width) = v.dims4()?;
    let shared = heads / kv_heads;
    let repeat = |x: &Tensor, last: usize| {
        x.unsqueeze(2)?
            .broadcast_as((batch, kv_heads, shared, keys, last))?
            .reshape((batch, heads, keys, last))
    };
    let scale = options.scale.unwrap_or(1. / (size as f64).sqrt());
    let q = q.contiguous()?;
    let mut scores = (q.matmul(&repeat(k, size)?.t()?)? * scale)?;
    if let Some(cap) = options.soft_cap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = mask {
        scores = scores.broadcast_add(mask)?;
    }
    if options.causal {
        let hide = |at: usize| at % keys > at / keys + keys - queries;
        let mask: Vec<f64> = (0..queries * keys)
            .map(|at| if hide(at) { f64::NEG_INFINITY } else { 0. })
            .collect();
        scores = scores.broadcast_add(&Tensor::from_vec(mask, (queries, keys), &Device::Cpu)?)?;
    }
    candle_nn::ops::softmax(&scores, D::Minus1)?.matmul(&repeat(v, width)?)
}

#[test]
fn attention_of_every_kind() {
    seeded("attention_of_every_kind", |random| {
        for round in 0..support::rounds(24) {
            let (batch, kv_heads, shared) = (
                random.between(1, 2),
                random.between(1, 2),
                random.between(1, 3),
            );
            let (size, width) = (random.between(1, 12), random.between(1, 12));
            let queries = random.between(1, 9);
            let keys = queries + random.below(5);
            let options = AttentionOptions {
                scale: random.chance().then_some(0.3),
                causal: random.chance(),
                soft_cap: random.chance().then_some(1.5),
            };
            let heads = kv_heads * shared;
            let q = [batch, heads, queries, size];
            let (k, v) = (
                [batch, kv_heads, keys, size],
                [batch, kv_heads, keys, width],
            );
            let masks = [
                vec![batch, heads, queries, keys],
                vec![batch, 1, queries, keys],
                vec![heads, 1, keys],
                vec![queries, keys],
            ];
            let mask = &masks[random.below(masks.len())];
            let what = format!("attention with {options:?}");
            check(
                &what,
                random,
                &[&q, &k, &v],
                &|x| Ok(ops::attention(&x[0], &x[1], &x[2], None, &options)?),
                &|x| unfused_attention(x, None, &options),
            );
            let frozen = random.tensor(mask, DType::F16);
            check(
                &format!("{what} and a mask"),
                random,
                &[&q, &k, &v],
                &|x| {
                    let mask = like(&frozen, &x[0])?;
                    Ok(ops::attention(&x[0], &x[1], &x[2], Some(&mask), &options)?)
                },
                &|x| unfused_attention(x, Some(&frozen), &options),
            );
            if round % 3 == 0 {
                check(
                    &format!("{what} and a mask that is trained"),
                    random,
                    &[&q, &k, &v, mask],
                    &|x| Ok(ops::attention(&x[0], &x[1], &x[2], Some(&x[3]), &options)?),
                    &|x| unfused_attention(x, Some(&x[3]), &options),
                );
            }
        }
    });
}

/// The compositions that other devices take, on this one: all tests of this file once more, in a
/// process where the ops take them. Not on Metal, where Candle's own kernels round more than the bound allows.
#[cfg(not(feature = "metal"))]
#[test]
fn compositions_agree_too() {
    if std::env::var(support::COMPOSED).is_ok() {
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .env(support::COMPOSED, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(text.contains("11 passed"), "{text}");
}
