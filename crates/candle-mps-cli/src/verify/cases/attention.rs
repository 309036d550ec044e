//! Attention in all its options. The oracle has a matrix of scores, and repeats keys and values for the
//! heads that share them.

use candle_core::{D, Result, Tensor};
use candle_mps::ops::{self, AttentionOptions};

use super::{Case, Op, product, variant};
use crate::verify::random::Random;

pub const ATTENTION: Op = Op {
    name: "attention",
    variants: &[
        variant("plain", |random| case(random, |_| {})),
        variant("causal", |random| case(random, |kind| kind.causal = true)),
        variant("grouped heads", |random| {
            case(random, |kind| kind.grouped = true)
        }),
        variant("soft cap", |random| case(random, |kind| kind.capped = true)),
        variant("mask", |random| {
            case(random, |kind| kind.mask = Mask::Frozen)
        }),
        variant("trained mask", |random| {
            case(random, |kind| kind.mask = Mask::Trained)
        }),
        variant("everything at once", |random| {
            case(random, |kind| {
                (kind.causal, kind.grouped, kind.capped) = (true, true, true);
                kind.mask = Mask::Frozen;
            })
        }),
    ],
};

pub const FLASH_ATTENTION: Op = Op {
    name: "flash_attention",
    variants: &[variant("causal", |random| {
        case(random, |kind| {
            (kind.causal, kind.by_its_other_name) = (true, true)
        })
    })],
};

/// Which of the options a case has: none, until it is told.
#[derive(Clone, Copy, Default)]
struct Kind {
    causal: bool,
    grouped: bool,
    capped: bool,
    mask: Mask,
    by_its_other_name: bool,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Mask {
    #[default]
    None,
    Frozen,
    Trained,
}

fn case(random: &mut Random, has: impl FnOnce(&mut Kind)) -> Case {
    let mut kind = Kind::default();
    has(&mut kind);
    let (batch, kv_heads) = (random.between(1, 2), random.between(1, 2));
    let shared = if kind.grouped {
        random.between(2, 3)
    } else {
        1
    };
    let heads = kv_heads * shared;
    let (size, width) = (random.between(1, 12), random.between(1, 12));
    let queries = random.size(9, 40);
    let keys = queries + random.below(5);
    let options = AttentionOptions {
        scale: random.chance().then_some(0.3),
        causal: kind.causal,
        soft_cap: kind.capped.then_some(1.5),
    };
    let mut operands = vec![
        ("q", vec![batch, heads, queries, size]),
        ("k", vec![batch, kv_heads, keys, size]),
        ("v", vec![batch, kv_heads, keys, width]),
    ];
    if kind.mask != Mask::None {
        let masks = [
            vec![batch, heads, queries, keys],
            vec![batch, 1, queries, keys],
            vec![heads, 1, keys],
            vec![queries, keys],
        ];
        operands.push(("mask", masks[random.below(masks.len())].clone()));
    }
    let ours = if kind.by_its_other_name {
        ops::flash_attention
    } else {
        ops::attention
    };
    let case = Case::new(
        operands,
        move |x| Ok(ours(&x[0], &x[1], &x[2], x.get(3), &options)?),
        move |x| attention(x, &options),
    );
    if kind.mask == Mask::Trained {
        case
    } else {
        case.frozen_from(3)
    }
}

fn attention(x: &[Tensor], options: &AttentionOptions) -> Result<Tensor> {
    let (q, k, v) = (&x[0], &x[1], &x[2]);
    let (batch, heads, queries, size) = q.dims4()?;
    let (_, kv_heads, keys, width) = v.dims4()?;
    let repeat = |x: &Tensor, last: usize| {
        x.unsqueeze(2)?
            .broadcast_as((batch, kv_heads, heads / kv_heads, keys, last))?
            .reshape((batch, heads, keys, last))
    };
    let scale = options.scale.unwrap_or(1. / (size as f64).sqrt());
    let mut scores = (product(q, &repeat(k, size)?.t()?)? * scale)?;
    if let Some(cap) = options.soft_cap {
        scores = ((scores / cap)?.tanh()? * cap)?;
    }
    if let Some(mask) = x.get(3) {
        scores = scores.broadcast_add(mask)?;
    }
    if options.causal {
        // The last query sees all keys.
        let hidden = |at: usize| at % keys > at / keys + keys - queries;
        let mask: Vec<f64> = (0..queries * keys)
            .map(|at| if hidden(at) { f64::NEG_INFINITY } else { 0. })
            .collect();
        let mask = Tensor::from_vec(mask, (queries, keys), q.device())?;
        scores = scores.broadcast_add(&mask)?;
    }
    product(
        &candle_nn::ops::softmax(&scores, D::Minus1)?,
        &repeat(v, width)?,
    )
}
