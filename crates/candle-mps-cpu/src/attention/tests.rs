//! Every option and type against attention in f64, and gradients against its derivative.

use super::*;
use crate::{
    oracle::{Operand, Rng, cases, each_type},
    simd::{available, with_isa},
};

/// One head in f64: values, and gradients of Σ out·g.
struct Exact {
    out: Vec<f64>,
    lse: Vec<f64>,
    dq: Vec<f64>,
    dk: Vec<f64>,
    dv: Vec<f64>,
}

struct Sizes {
    queries: usize,
    keys: usize,
    size: usize,
    width: usize,
}

/// The formula, one query after the other; `extra` is the mask's row-major matrix.
fn exact(
    [q, k, v, g]: [&[f64]; 4],
    extra: &[f64],
    dims: &Sizes,
    scale: f64,
    cap: Option<f64>,
    causal: bool,
) -> Exact {
    let &Sizes {
        queries,
        keys,
        size,
        width,
    } = dims;
    let mut all = Exact {
        out: vec![0.; queries * width],
        lse: vec![f64::NEG_INFINITY; queries],
        dq: vec![0.; queries * size],
        dk: vec![0.; keys * size],
        dv: vec![0.; keys * width],
    };
    for i in 0..queries {
        let capped: Vec<f64> = (0..keys)
            .map(|j| {
                let dot: f64 = (0..size).map(|d| q[i * size + d] * k[j * size + d]).sum();
                cap.map_or(scale * dot, |cap| cap * (scale * dot / cap).tanh())
            })
            .collect();
        let hidden = |j: usize| causal && j + queries > i + keys;
        let score = |j: usize| match hidden(j) {
            true => f64::NEG_INFINITY,
            false => capped[j] + extra[i * keys + j],
        };
        let largest = (0..keys).map(score).fold(f64::NEG_INFINITY, f64::max);
        if largest == f64::NEG_INFINITY {
            continue;
        }
        let total: f64 = (0..keys).map(|j| (score(j) - largest).exp()).sum();
        all.lse[i] = largest + total.ln();
        let p: Vec<f64> = (0..keys)
            .map(|j| (score(j) - largest).exp() / total)
            .collect();
        let slope: Vec<f64> = (0..keys)
            .map(|j| {
                (0..width)
                    .map(|d| g[i * width + d] * v[j * width + d])
                    .sum()
            })
            .collect();
        let mean: f64 = p.iter().zip(&slope).map(|(p, x)| p * x).sum();
        for j in 0..keys {
            let inner = cap.map_or(1., |cap| 1. - (capped[j] / cap).powi(2));
            let ds = p[j] * (slope[j] - mean) * inner * scale;
            for d in 0..width {
                all.out[i * width + d] += p[j] * v[j * width + d];
                all.dv[j * width + d] += p[j] * g[i * width + d];
            }
            for d in 0..size {
                all.dq[i * size + d] += ds * k[j * size + d];
                all.dk[j * size + d] += ds * q[i * size + d];
            }
        }
    }
    all
}

/// Refuses what is farther from the exact values than `slack` (of their largest, if that is above 1).
fn close<T: Element>(what: &str, got: &[T], exact: &[f64], slack: f64) {
    assert_eq!(got.len(), exact.len(), "{what}");
    let most = exact.iter().fold(1f64, |most, x| most.max(x.abs()));
    for (at, (got, exact)) in got.iter().zip(exact).enumerate() {
        let got = got.to_f64();
        let near = (got - exact).abs() <= slack * most || got == *exact;
        assert!(
            near,
            "{what}[{at}] = {got}, not {exact} (within {})",
            slack * most
        );
    }
}

fn pick(rng: &mut Rng, from: &[usize]) -> usize {
    from[rng.below(from.len())]
}

fn against_f64<T: Factor>() {
    let (slack, lse_slack) = match (size_of::<T>(), T::from_f64(1e10).to_f64().is_infinite()) {
        (8, _) => (1e-12, 1e-12),
        (4, _) => (2e-5, 1e-5),
        (_, true) => (2e-3, 1e-5),
        // The result is rounded to 8 bits before the backward pass reads it.
        (_, false) => (2e-2, 1e-5),
    };
    cases("attention", |rng: &mut Rng| {
        // More keys than one block holds are rare here, because they are slow.
        let long = rng.below(6) == 0;
        let (batch, kv_heads) = if long {
            (1, 1)
        } else {
            (1 + rng.below(2), 1 + rng.below(2))
        };
        let group = pick(rng, &[1, 1, 2, 3]);
        let heads = kv_heads * group;
        let queries = pick(rng, &[1, 2, 4, 5, 28, 29, 60]);
        let keys = if long {
            pick(rng, &[140, 270])
        } else {
            pick(rng, &[1, 3, 16, 33, 60])
        };
        let size = match rng.below(20) {
            0 if !long => 300,
            _ => pick(rng, &[1, 4, 16, 20]),
        };
        let width = pick(rng, &[1, 8, 16, 33]);
        let dims = Sizes {
            queries,
            keys,
            size,
            width,
        };
        let q: Operand<T> = rng.operand(&[batch, heads, queries, size]);
        let k: Operand<T> = rng.operand(&[batch, kv_heads, keys, size]);
        let v: Operand<T> = rng.operand(&[batch, kv_heads, keys, width]);
        let g: Operand<T> = rng.operand(&[batch, heads, queries, width]);
        let mut mask: Operand<T> = rng.operand(&[batch, heads, queries, keys]);
        if rng.below(2) == 0 {
            for x in &mut mask.data {
                *x = T::from_f64(if rng.below(3) == 0 {
                    f64::NEG_INFINITY
                } else {
                    0.
                });
            }
        }
        let with_mask = rng.below(3) == 0;
        let options = Options {
            scale: 1. / (size as f64).sqrt(),
            soft_cap: [None, None, Some(0.8), Some(30.)][rng.below(4)],
            mask: with_mask.then(|| (&mask.data[..], mask.layout())),
            causal: rng.below(2) == 0,
        };
        let operands = Operands {
            q: (&q.data, q.layout()),
            k: (&k.data, k.layout()),
            v: (&v.data, v.layout()),
        };
        let rows = batch * heads * queries;
        let mut out = rng.values::<T>(rows * width);
        let mut lse = rng.values::<T::Acc>(rows);
        forward(&operands, &options, &mut out, Some(&mut lse)).unwrap();
        let mut dq = rng.values::<T>(rows * size);
        let mut dk = rng.values::<T>(batch * kv_heads * keys * size);
        let mut dv = rng.values::<T>(batch * kv_heads * keys * width);
        let gradients = Gradients {
            q: &mut dq,
            k: &mut dk,
            v: &mut dv,
        };
        backward(
            &operands,
            &options,
            (&out, &lse),
            (&g.data, g.layout()),
            gradients,
        )
        .unwrap();

        let values = [&q, &k, &v, &g].map(|operand| operand.values());
        let extra = if with_mask {
            mask.values()
        } else {
            vec![0.; rows * keys]
        };
        let (mut out_exact, mut lse_exact, mut dq_exact) = (vec![], vec![], vec![]);
        let mut dk_exact = vec![0.; dk.len()];
        let mut dv_exact = vec![0.; dv.len()];
        for head in 0..batch * heads {
            let kv = head / group;
            let part = |x: &'_ [f64], at: usize, len: usize| x[at * len..(at + 1) * len].to_vec();
            let [q, k, v, g] = [
                part(&values[0], head, queries * size),
                part(&values[1], kv, keys * size),
                part(&values[2], kv, keys * width),
                part(&values[3], head, queries * width),
            ];
            let extra = part(&extra, head, queries * keys);
            let Options {
                scale,
                soft_cap,
                causal,
                ..
            } = options;
            let one = exact([&q, &k, &v, &g], &extra, &dims, scale, soft_cap, causal);
            out_exact.extend(one.out);
            lse_exact.extend(one.lse);
            dq_exact.extend(one.dq);
            for (sum, x) in dk_exact[kv * keys * size..].iter_mut().zip(one.dk) {
                *sum += x;
            }
            for (sum, x) in dv_exact[kv * keys * width..].iter_mut().zip(one.dv) {
                *sum += x;
            }
        }
        close("out", &out, &out_exact, slack);
        close("lse", &lse, &lse_exact, lse_slack);
        close("dq", &dq, &dq_exact, slack);
        close("dk", &dk, &dk_exact, slack);
        close("dv", &dv, &dv_exact, slack);
        [out, dq, dk, dv].concat()
    });
}
each_type!(against_f64);

/// Attention of one head without options but a mask, on every instruction set.
fn small(q: &[f32], k: &[f32], v: &[f32], mask: &[f32]) -> Vec<(Vec<f32>, Vec<f32>)> {
    let (queries, keys) = (q.len(), k.len());
    let (q_dims, k_dims, mask_dims) = ([1, 1, queries, 1], [1, 1, keys, 1], [1, 1, queries, keys]);
    let layout = |dims| Layout::contiguous(dims).unwrap();
    let options = Options {
        mask: Some((mask, layout(&mask_dims))),
        scale: 1.,
        ..Options::default()
    };
    let operands = Operands {
        q: (q, layout(&q_dims)),
        k: (k, layout(&k_dims)),
        v: (v, layout(&k_dims)),
    };
    let one = |isa| {
        let (mut out, mut lse) = (vec![9f32; queries], vec![9f32; queries]);
        with_isa(isa, || {
            forward(&operands, &options, &mut out, Some(&mut lse))
        })
        .unwrap();
        (out, lse)
    };
    available().into_iter().map(one).collect()
}

#[test]
fn hidden_rows_are_zero_and_nan_stays_in_its_row() {
    let hidden = f32::NEG_INFINITY;
    for queries in [2, 6] {
        let mut q = vec![1f32; queries];
        q[1] = f32::NAN;
        let mut mask = vec![0f32; queries * 2];
        mask[..2].fill(hidden);
        mask[2 * queries - 1] = f32::INFINITY;
        for (out, lse) in small(&q, &[1., 2.], &[3., 5.], &mask) {
            assert_eq!((out[0], lse[0]), (0., hidden));
            assert!(out[1].is_nan() && out[queries - 1].is_nan(), "{out:?}");
            assert!(
                out[2.min(queries - 1)..queries - 1]
                    .iter()
                    .all(|x| (3. ..5.).contains(x))
            );
        }
    }
}

#[test]
fn hidden_rows_have_no_gradient() {
    let dims = [1, 1, 5, 2];
    let (x, layout) = (vec![0.5f32; 10], Layout::contiguous(&dims).unwrap());
    let mask = [f32::NEG_INFINITY];
    let mask_dims = [1, 1, 5, 5];
    let mask = (&mask[..], Layout::new(&mask_dims, &[0; 4], 0).unwrap());
    let operands = Operands {
        q: (&x[..], layout),
        k: (&x[..], layout),
        v: (&x[..], layout),
    };
    let options = Options {
        mask: Some(mask),
        ..Options::default()
    };
    let (mut out, mut lse) = (vec![1.; 10], vec![1.; 5]);
    forward(&operands, &options, &mut out, Some(&mut lse)).unwrap();
    let [mut q, mut k, mut v] = [(); 3].map(|()| vec![7f32; 10]);
    let gradients = Gradients {
        q: &mut q,
        k: &mut k,
        v: &mut v,
    };
    backward(&operands, &options, (&out, &lse), (&x, layout), gradients).unwrap();
    assert_eq!([out, q, k, v], [(); 4].map(|()| vec![0.; 10]));
}

#[test]
fn nothing_to_see_is_zero() {
    let q_dims = [1, 2, 3, 4];
    let k_dims = [1, 1, 0, 4];
    let (q, k) = (
        Layout::contiguous(&q_dims).unwrap(),
        Layout::contiguous(&k_dims).unwrap(),
    );
    let x = [1f32; 24];
    let operands = Operands {
        q: (&x[..], q),
        k: (&[], k),
        v: (&[], k),
    };
    let mut out = [5f32; 24];
    forward(&operands, &Options::default(), &mut out, None).unwrap();
    assert_eq!(out, [0.; 24]);
    let empty_dims = [0, 2, 3, 4];
    let none = Layout::contiguous(&empty_dims).unwrap();
    let operands = Operands {
        q: (&x[..], none),
        k: (&x[..], none),
        v: (&x[..], none),
    };
    forward(&operands, &Options::default(), &mut [], Some(&mut [])).unwrap();
}

#[test]
fn refusals_name_the_argument() {
    let x = [0f32; 64];
    let layout = |dims: &'static [usize]| Layout::contiguous(dims).unwrap();
    let go = |q: &'static [usize], k: &'static [usize], v: &'static [usize], len: usize, cap| {
        let operands = Operands {
            q: (&x[..], layout(q)),
            k: (&x[..], layout(k)),
            v: (&x[..], layout(v)),
        };
        let options = Options {
            soft_cap: cap,
            ..Options::default()
        };
        forward(&operands, &options, &mut vec![0f32; len], None).map_err(|error| error.to_string())
    };
    go(&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 2], 12, None).unwrap();
    for (result, part) in [
        (
            go(&[2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 2], 12, None),
            "`q` has rank 3",
        ),
        (
            go(&[1, 2, 3, 4], &[1, 5, 4], &[1, 1, 5, 2], 12, None),
            "`k` has rank 3",
        ),
        (
            go(&[1, 2, 3, 4], &[1, 1, 5, 3], &[1, 1, 5, 2], 12, None),
            "`k` is [1, 1, 5, 3], [1, 1, 5, 4]",
        ),
        (
            go(&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 4, 2], 12, None),
            "`v` is [1, 1, 4, 2], [1, 1, 5, 2]",
        ),
        (
            go(&[1, 3, 3, 4], &[1, 2, 5, 4], &[1, 2, 5, 2], 18, None),
            "`kv heads` is 2",
        ),
        (
            go(&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 2], 11, None),
            "`out` has 11 elements, 12",
        ),
        (
            go(&[1, 2, 3, 4], &[1, 1, 5, 4], &[1, 1, 5, 2], 12, Some(0.)),
            "`soft_cap` is 0",
        ),
        (
            go(&[1, 2, 9, 4], &[1, 1, 5, 4], &[1, 1, 5, 2], 36, None),
            "`q` reaches element 71",
        ),
    ] {
        let message = result.unwrap_err();
        assert!(
            message.contains(part) && message.starts_with("attention:"),
            "{message}"
        );
    }
}
