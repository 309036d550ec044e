//! Rotary embedding in three layouts, with angles for all sequences or for each, frozen as in a model and
//! trained as nobody does but may.

use candle_core::{Result, Tensor};
use candle_mps::ops;

use super::{Case, Op, variant};
use crate::verify::random::Random;

pub const ROPE: Op = Op {
    name: "rope",
    variants: &[
        variant("frozen angles", |random| {
            case(random, Layout::Halves, false)
        }),
        variant("trained angles", |random| {
            case(random, Layout::Halves, true)
        }),
    ],
};

pub const ROPE_I: Op = Op {
    name: "rope_i",
    variants: &[
        variant("frozen angles", |random| {
            case(random, Layout::Neighbours, false)
        }),
        variant("trained angles", |random| {
            case(random, Layout::Neighbours, true)
        }),
    ],
};

pub const ROPE_THD: Op = Op {
    name: "rope_thd",
    variants: &[
        variant("frozen angles", |random| {
            case(random, Layout::PositionsFirst, false)
        }),
        variant("trained angles", |random| {
            case(random, Layout::PositionsFirst, true)
        }),
    ],
};

/// What is turned together, and in which order the dimensions come.
#[derive(Clone, Copy, PartialEq)]
enum Layout {
    Halves,
    Neighbours,
    PositionsFirst,
}

fn case(random: &mut Random, layout: Layout, trained: bool) -> Case {
    let (batch, heads) = (random.between(1, 3), random.between(1, 3));
    let (count, half) = (random.between(1, 6), random.between(1, 20));
    // Tables are made once, for the longest text.
    let positions = count + random.below(3);
    let angles = if random.chance() {
        vec![positions, half]
    } else {
        vec![batch, positions, half]
    };
    let x = if layout == Layout::PositionsFirst {
        vec![batch, count, heads, 2 * half]
    } else {
        vec![batch, heads, count, 2 * half]
    };
    let ours = match layout {
        Layout::Halves => ops::rope,
        Layout::Neighbours => ops::rope_i,
        Layout::PositionsFirst => ops::rope_thd,
    };
    let case = Case::new(
        vec![("x", x), ("cos", angles.clone()), ("sin", angles)],
        move |x| Ok(ours(&x[0], &x[1], &x[2])?),
        move |x| match layout {
            Layout::PositionsFirst => {
                turned(&x[0].transpose(1, 2)?, &x[1], &x[2], false)?.transpose(1, 2)
            }
            _ => turned(&x[0], &x[1], &x[2], layout == Layout::Neighbours),
        },
    );
    if trained { case } else { case.frozen_from(1) }
}

/// Heads before positions: each pair of elements, times a matrix of two by two.
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
    let part = |start: usize, step: usize| -> Result<Tensor> {
        let index: Vec<u32> = (0..size / 2).map(|at| (start + at * step) as u32).collect();
        let index = Tensor::new(index, x.device())?;
        x.contiguous()?.index_select(&index, 3)
    };
    let (a, b) = if neighbours {
        (part(0, 2)?, part(1, 2)?)
    } else {
        (part(0, 1)?, part(size / 2, 1)?)
    };
    let first = ((&a * &cos)? - (&b * &sin)?)?;
    let second = ((&b * &cos)? + (&a * &sin)?)?;
    if neighbours {
        Tensor::stack(&[first, second], 4)?.reshape((batch, heads, count, size))
    } else {
        Tensor::cat(&[first, second], 3)
    }
}
