//! Cross-entropy, with targets of every type of index and with rows that do not count.

use candle_core::{DType, Device, Result, Tensor};
use candle_mps::ops;

use super::{Case, Op, variant};
use crate::verify::random::Random;

pub const CROSS_ENTROPY: Op = Op {
    name: "cross_entropy",
    variants: &[
        variant("u32 targets", |random| case(random, DType::U32, None)),
        variant("i64 targets", |random| case(random, DType::I64, None)),
        variant("u8 targets", |random| case(random, DType::U8, None)),
    ],
};

pub const CROSS_ENTROPY_WITH: Op = Op {
    name: "cross_entropy_with",
    variants: &[
        variant("nothing ignored", |random| {
            case(random, DType::I64, Some(Ignored::Nowhere))
        }),
        variant("-100 ignored", |random| {
            case(random, DType::I64, Some(Ignored::Somewhere))
        }),
    ],
};

/// What `cross_entropy_with` is told.
#[derive(Clone, Copy, PartialEq)]
enum Ignored {
    Nowhere,
    Somewhere,
}

const IGNORED: i64 = -100;

fn case(random: &mut Random, dtype: DType, with: Option<Ignored>) -> Case {
    let (rows, classes) = (random.size(12, 60), random.size(40, 200));
    let classed: Vec<i64> = (0..rows).map(|_| random.below(classes) as i64).collect();
    // The mean of no rows is another question.
    let counts = |row: usize, random: &mut Random| {
        row == 0 || with != Some(Ignored::Somewhere) || random.chance()
    };
    let counts: Vec<bool> = (0..rows).map(|row| counts(row, random)).collect();
    let (kept, targets): (Vec<u32>, Vec<i64>) = counts
        .iter()
        .zip(&classed)
        .enumerate()
        .filter(|(_, (counts, _))| **counts)
        .map(|(row, (_, class))| (row as u32, class))
        .unzip();
    let marked: Vec<i64> = classed
        .iter()
        .zip(&counts)
        .map(|(class, counts)| if *counts { *class } else { IGNORED })
        .collect();
    let ours = move |x: &[Tensor]| -> Result<Tensor> {
        let targets = Tensor::new(&marked[..], &Device::Cpu)?.to_dtype(dtype)?;
        let targets = targets.to_device(x[0].device())?;
        Ok(match with {
            None => ops::cross_entropy(&x[0], &targets)?,
            Some(Ignored::Nowhere) => ops::cross_entropy_with(&x[0], &targets, None)?,
            Some(Ignored::Somewhere) => ops::cross_entropy_with(&x[0], &targets, Some(IGNORED))?,
        })
    };
    Case::new(vec![("logits", vec![rows, classes])], ours, move |x| {
        let kept = Tensor::new(&kept[..], &Device::Cpu)?;
        let rows = x[0].contiguous()?.index_select(&kept, 0)?;
        let targets = Tensor::new(&targets[..], &Device::Cpu)?.unsqueeze(1)?;
        let logs = candle_nn::ops::log_softmax(&rows, 1)?.gather(&targets, 1)?;
        logs.sum_all()? * (-1. / targets.elem_count() as f64)
    })
}
