//! Attention on Metal at sizes that fill no block evenly, against the CPU in f64, which `oracle.rs` tests.
#![cfg(feature = "metal")]

mod support;

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_mps_ops::ops::{self, AttentionOptions};
use support::{Operands, Random, check, close, device, seeded, types};

/// A call. Heads of q and of k and v.
struct Case {
    heads: (usize, usize),
    queries: usize,
    keys: usize,
    size: usize,
    width: usize,
    options: AttentionOptions,
}

const PLAIN: AttentionOptions = AttentionOptions {
    scale: None,
    causal: false,
    soft_cap: None,
};

const CAUSAL: AttentionOptions = AttentionOptions {
    causal: true,
    ..PLAIN
};

const CAPPED: AttentionOptions = AttentionOptions {
    scale: Some(0.4),
    causal: true,
    soft_cap: Some(1.5),
};

impl Case {
    /// One head, of this size.
    fn new(queries: usize, keys: usize, size: usize, options: AttentionOptions) -> Self {
        Self {
            heads: (1, 1),
            queries,
            keys,
            size,
            width: size,
            options,
        }
    }

    fn heads(self, heads: usize, kv_heads: usize) -> Self {
        let heads = (heads, kv_heads);
        Self { heads, ..self }
    }

    fn width(self, width: usize) -> Self {
        Self { width, ..self }
    }

    /// Of q, k and v: [1, heads, positions, features].
    fn shapes(&self) -> [[usize; 4]; 3] {
        let (heads, kv_heads) = self.heads;
        [
            [1, heads, self.queries, self.size],
            [1, kv_heads, self.keys, self.size],
            [1, kv_heads, self.keys, self.width],
        ]
    }

    fn run(&self, x: &[Tensor], mask: Option<&Tensor>) -> Result<Tensor> {
        let there = |mask: &Tensor| mask.to_dtype(x[0].dtype())?.to_device(x[0].device());
        let mask = mask.map(there).transpose()?;
        let [q, k, v] = x else {
            panic!("q, k and v");
        };
        Ok(ops::attention(q, k, v, mask.as_ref(), &self.options)?)
    }

    /// The result and the gradients, as models have their operands: positions in front of heads.
    fn agree(&self, random: &mut Random, mask: Option<&Tensor>) {
        for &(dtype, part) in types() {
            let bases = self.shapes().map(|[batch, heads, positions, size]| {
                random.tensor(&[batch, positions, heads, size], dtype)
            });
            let [[batch, heads, queries, _], _, [.., width]] = self.shapes();
            let weights = random.tensor(&[batch, heads, queries, width], dtype);
            let run = |device: &Device, dtype: DType| -> Result<Vec<Tensor>> {
                let there = |x: &Tensor| x.to_dtype(dtype)?.to_device(device);
                let vars = bases.iter().map(|base| Var::from_tensor(&there(base)?));
                let vars = vars.collect::<Result<Vec<_>>>()?;
                let views = vars.iter().map(|var| var.transpose(1, 2));
                let y = self.run(&views.collect::<Result<Vec<_>>>()?, mask)?;
                let gradients = (&y * there(&weights)?)?.sum_all()?.backward()?;
                let gradient = |var: &Var| gradients.get(var).unwrap().clone();
                Ok([y].into_iter().chain(vars.iter().map(gradient)).collect())
            };
            let expected = run(&Device::Cpu, DType::F64).unwrap();
            let got = run(&device(), dtype).unwrap();
            let names = ["y", "dq", "dk", "dv"].into_iter();
            for ((name, got), expected) in names.zip(&got).zip(&expected) {
                let what = format!(
                    "{name} in {dtype:?} of {:?} {:?}",
                    self.shapes(),
                    self.options
                );
                // Gradients are sums of numbers that were rounded to the type.
                let part = if name == "y" { part } else { 8. * part };
                close(&what, got, expected, part);
            }
        }
    }
}

#[test]
fn blocks_that_are_not_full() {
    seeded("blocks_that_are_not_full", |random| {
        Case::new(33, 65, 64, CAUSAL).agree(random, None);
        Case::new(9, 33, 8, PLAIN).width(128).agree(random, None);
        Case::new(35, 24, 80, PLAIN).width(20).agree(random, None);
    });
}

/// Candle's own kernel reads past the last key here.
#[test]
fn as_many_queries_as_keys() {
    seeded("as_many_queries_as_keys", |random| {
        Case::new(40, 40, 128, CAUSAL).agree(random, None);
    });
}

#[test]
fn heads_that_share_keys() {
    seeded("heads_that_share_keys", |random| {
        let case = Case::new(11, 19, 20, CAPPED).heads(6, 2);
        case.agree(random, None);
    });
}

#[test]
fn one_query_and_a_few() {
    seeded("one_query_and_a_few", |random| {
        Case::new(1, 70, 64, CAUSAL).heads(6, 2).agree(random, None);
        Case::new(4, 33, 128, CAPPED).agree(random, None);
        Case::new(3, 2, 5, CAUSAL).agree(random, None);
    });
}

/// The last query sees all keys, so the first see none.
#[test]
fn more_queries_than_keys() {
    seeded("more_queries_than_keys", |random| {
        Case::new(70, 33, 20, CAUSAL).agree(random, None);
        Case::new(70, 1, 8, CAPPED).heads(3, 1).agree(random, None);
    });
}

/// A mask may hide all keys, some blocks of them, or one.
#[test]
fn hidden_keys() {
    seeded("hidden_keys", |random| {
        for queries in [2, 21] {
            let keys = 43;
            let hidden = |at: usize| match at / keys % 4 {
                0 => true,
                1 => at % keys < 36,
                2 => at % keys > 3,
                _ => at.is_multiple_of(7),
            };
            let mask: Vec<f32> = (0..queries * keys)
                .map(|at| if hidden(at) { f32::NEG_INFINITY } else { 0.25 })
                .collect();
            let mask = Tensor::from_vec(mask, (queries, keys), &Device::Cpu).unwrap();
            let case = Case::new(queries, keys, 16, CAPPED).heads(2, 1);
            case.agree(random, Some(&mask));
        }
    });
}

#[test]
fn any_strides() {
    seeded("any_strides", |random| {
        let case = Case::new(18, 37, 24, CAUSAL).heads(2, 1).width(10);
        let run = |x: &[Tensor]| case.run(x, None);
        let shapes = case.shapes();
        let shapes = shapes.each_ref().map(|shape| &shape[..]);
        check("attention", random, &shapes, &run, &run);
    });
}

/// No kernel of ours takes them.
#[test]
fn heads_that_are_too_wide() {
    seeded("heads_that_are_too_wide", |random| {
        Case::new(3, 4, 136, CAUSAL).agree(random, None);
    });
}

/// Rows that share an 8x8 matrix do not share what is wrong with one of them.
#[test]
fn a_query_that_is_not_a_number() {
    seeded("a_query_that_is_not_a_number", |random| {
        let case = Case::new(12, 20, 16, CAUSAL);
        let [q, k, v] = case.shapes().map(|shape| random.tensor(&shape, DType::F32));
        let row = |at: usize| if at == 5 { f64::NAN } else { 0. };
        let bad: Vec<f64> = (0..12).map(row).collect();
        let bad = Tensor::from_vec(bad, (12, 1), &Device::Cpu).unwrap();
        let run = |q: &Tensor, device: &Device, dtype| {
            let there = |x: &Tensor| x.to_dtype(dtype).unwrap().to_device(device).unwrap();
            case.run(&[there(q), there(&k), there(&v)], None).unwrap()
        };
        let expected = run(&q, &Device::Cpu, DType::F64);
        let got = run(&q.broadcast_add(&bad).unwrap(), &device(), DType::F32);
        for (from, count) in [(0, 5), (6, 6)] {
            let part = |x: &Tensor| x.narrow(2, from, count).unwrap();
            close("the others", &part(&got), &part(&expected), 1e-5);
        }
        let it = got.narrow(2, 5, 1).unwrap();
        assert!(support::values(&it).iter().all(|value| value.is_nan()));
    });
}
