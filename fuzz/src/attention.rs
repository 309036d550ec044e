//! Attention and its gradients.

use candle_mps_cpu::{
    attention::{Gradients, Operands, Options, backward, forward},
    matmul::Factor,
};

use crate::input::{Input, Operand, layout};

pub fn attention<T: Factor>(input: &mut Input) {
    let (batch, kv_heads, groups) = (input.below(3), input.below(3), 1 + input.below(2));
    let heads = kv_heads * groups;
    let [mut queries, keys, size, width] = [(); 4].map(|()| input.size());
    // Each product of this size takes seconds here, and nothing more is seen.
    while batch * heads * queries * keys * (size + width) > 1 << 20 {
        queries /= 2;
    }
    let q: Operand<T> = input.operand(&[batch, heads, queries, size]);
    let k: Operand<T> = input.operand(&[batch, kv_heads, keys, size]);
    let v: Operand<T> = input.operand(&[batch, kv_heads, keys, width]);
    let mask: Operand<T> = input.operand(&[batch, heads, queries, keys]);
    let grad: Operand<T> = input.operand(&[batch, heads, queries, width]);
    let operands = Operands {
        q: (&q.data[..], layout!(input, q)),
        k: (&k.data[..], layout!(input, k)),
        v: (&v.data[..], layout!(input, v)),
    };
    let of_mask = layout!(input, mask);
    let masked = input.flag();
    let options = Options {
        scale: input.option(&[0.5, 1., 0.125]),
        soft_cap: input.flag().then(|| input.option(&[5., 50.])),
        mask: masked.then_some((&mask.data[..], of_mask)),
        causal: input.flag(),
    };
    let mut out = input.values::<T>(batch * heads * queries * width);
    let mut lse = input.values::<T::Acc>(batch * heads * queries);
    let kept = input.flag();
    let result = forward(&operands, &options, &mut out, kept.then_some(&mut lse[..]));
    input.expect(&result);
    let regular =
        q.dims == [batch, heads, queries, size] && k.dims == [batch, kv_heads, keys, size];
    if result.is_ok() && regular && input.is_tame() {
        let (q, k, v) = (q.values(), k.values(), v.values());
        let mask = masked.then(|| mask.values());
        let mut exact = vec![];
        for row in 0..batch * heads * queries {
            let (place, query) = (row / queries, row % queries);
            let head = place / heads * kv_heads + place % heads / groups;
            let scores: Vec<f64> = (0..keys)
                .map(|key| {
                    let dot: f64 = (0..size)
                        .map(|i| q[row * size + i] * k[(head * keys + key) * size + i])
                        .sum();
                    let score = dot * options.scale;
                    let score = options
                        .soft_cap
                        .map_or(score, |cap| cap * (score / cap).tanh());
                    let hidden = options.causal && key + queries > query + keys;
                    let mask = mask.as_ref().map_or(0., |mask| mask[row * keys + key]);
                    if hidden {
                        f64::NEG_INFINITY
                    } else {
                        score + mask
                    }
                })
                .collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores
                .iter()
                .map(|score| {
                    if score.is_finite() {
                        (score - largest).exp()
                    } else {
                        0.
                    }
                })
                .collect();
            let sum: f64 = weights.iter().sum();
            for i in 0..width {
                let total: f64 = (0..keys)
                    .map(|key| weights[key] * v[(head * keys + key) * width + i])
                    .sum();
                exact.push(if sum == 0. { 0. } else { total / sum });
            }
        }
        input.check("out", &out, &exact, 100.);
    }
    if !kept {
        return;
    }

    let mut dq = input.values::<T>(batch * heads * queries * size);
    let mut dk = input.values::<T>(batch * kv_heads * keys * size);
    let mut dv = input.values::<T>(batch * kv_heads * keys * width);
    let gradients = Gradients {
        q: &mut dq,
        k: &mut dk,
        v: &mut dv,
    };
    let of_grad = layout!(input, grad);
    let result = backward(
        &operands,
        &options,
        (&out, &lse),
        (&grad.data, of_grad),
        gradients,
    );
    input.expect(&result);
    if result.is_ok() && input.is_tame() && regular {
        let finite = |gradient: &[T]| gradient.iter().all(|x| x.to_f64().is_finite());
        assert!(
            finite(&dq) && finite(&dk) && finite(&dv),
            "a gradient is not finite"
        );
    }
}
