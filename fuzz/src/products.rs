//! Products of matrices: matmul with everything that it does on the way, and LoRA.

use candle_mps_cpu::{
    Layout,
    lora::{self as low, Adapter, Base, Gradients},
    matmul::{self as mm, Activation, Factor, PackedB},
};

use crate::input::{Input, Operand, layout};

pub fn matmul<T: Factor>(input: &mut Input) {
    let (m, depth, n) = (input.size(), input.size(), input.size());
    let batch: Vec<usize> = (0..input.below(3)).map(|_| input.below(4)).collect();
    let less = |input: &mut Input| -> Vec<usize> {
        let skip = input.below(batch.len() + 1);
        let rest = batch[skip..].iter();
        rest.map(|&dim| if input.flag() { 1 } else { dim })
            .collect()
    };
    let other = less(input);
    let (of_a, of_b) = if input.flag() {
        (batch.clone(), other)
    } else {
        (other, batch.clone())
    };
    let a: Operand<T> = input.operand(&[&of_a[..], &[m, depth]].concat());
    let b: Operand<T> = input.operand(&[&of_b[..], &[depth, n]].concat());
    let (a_layout, b_layout) = (layout!(input, a), layout!(input, b));
    let bias: Option<Vec<T>> = input.flag().then(|| input.values(n));
    let kinds = [
        Activation::None,
        Activation::Relu,
        Activation::Gelu,
        Activation::Silu,
    ];
    let options = mm::Options {
        scale: input.option(&[1., 0.5, -1.]),
        bias: bias.as_deref(),
        activation: kinds[input.below(4)],
        accumulate: input.flag(),
    };
    // Announced sizes may multiply with those of the other operand.
    let out_dims: Vec<usize> = match (a.dims.len(), b.dims.len()) {
        (2.., 2..) => {
            let (rows, cols) = (a.dims[a.dims.len() - 2], b.dims[b.dims.len() - 1]);
            [&batch[..], &[rows, cols]].concat()
        }
        _ => vec![m, n],
    };
    let mut out = input.out::<T>(&out_dims);
    let before = out.clone();
    let (a_in, b_in) = ((&a.data[..], &a_layout), (&b.data[..], &b_layout));
    let result = mm::matmul(a_in, b_in, &options, &mut out);
    input.expect(&result);
    let compare = input.is_tame() && result.is_ok() && out.len() <= 4096;
    let exact = if compare && a.dims[a.dims.len() - 2..] == [m, depth] {
        let (x, y) = (a.values(), b.values());
        let count: usize = batch.iter().product();
        let mut exact = vec![];
        for index in 0..count {
            let from = |dims: &[usize]| place(&batch, &dims[..dims.len() - 2], index);
            let a_start = from(&a.dims) * m * depth;
            let b_start = from(&b.dims) * depth * n;
            for i in 0..m {
                for j in 0..n {
                    let sum: f64 = (0..depth)
                        .map(|k| x[a_start + i * depth + k] * y[b_start + k * n + j])
                        .sum();
                    let bias = options.bias.map_or(0., |bias| bias[j].to_f64());
                    let value = activated(options.activation, sum * options.scale + bias);
                    let at = (index * m + i) * n + j;
                    let old = if options.accumulate {
                        before[at].to_f64()
                    } else {
                        0.
                    };
                    exact.push(value + old);
                }
            }
        }
        if exact.len() == out.len() {
            input.check("c", &out, &exact, 300.);
            Some(exact)
        } else {
            None
        }
    } else {
        None
    };

    if b.dims.len() == 2 {
        let packed = PackedB::new(&b.data, &b_layout);
        input.expect(&packed.as_ref().map(|_| ()).map_err(Clone::clone));
        if let Ok(packed) = packed {
            let mut out = before.clone();
            let result = mm::matmul_packed(a_in, &packed, &options, &mut out);
            input.expect(&result);
            if let (Ok(()), Some(exact)) = (result, exact) {
                input.check("packed c", &out, &exact, 300.);
            }
        }
    }
}

/// Which matrix of an operand with fewer or smaller dimensions belongs to the `index`-th result.
fn place(batch: &[usize], own: &[usize], mut index: usize) -> usize {
    let (mut at, mut step) = (0, 1);
    for back in 1..=batch.len() {
        let dim = batch[batch.len() - back];
        let position = index % dim;
        index /= dim;
        if back <= own.len() {
            let mine = own[own.len() - back];
            at += if mine == 1 { 0 } else { position * step };
            step *= mine;
        }
    }
    at
}

fn activated(activation: Activation, x: f64) -> f64 {
    let gate = |t: f64| x / (1. + (-t).exp());
    match activation {
        Activation::Relu => x.max(0.),
        Activation::Gelu => gate(2. * 0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))),
        Activation::Silu => gate(x),
        _ => x,
    }
}

pub fn lora<T: Factor>(input: &mut Input) {
    let (rows, inner, outer) = (input.size(), input.size(), input.size());
    let rank = input.size().max(1);
    let x: Operand<T> = input.operand(&[rows, inner]);
    let w: Operand<T> = input.operand(&[inner, outer]);
    let a: Operand<T> = input.operand(&[inner, rank]);
    let b: Operand<T> = input.operand(&[rank, outer]);
    let grad: Operand<T> = input.operand(&[rows, outer]);
    let of_x = layout!(input, x);
    let of_w = layout!(input, w);
    let of_grad = layout!(input, grad);
    let adapter = Adapter {
        a: (&a.data[..], layout!(input, a)),
        b: (&b.data[..], layout!(input, b)),
        scale: input.option(&[1., 0.5, -1.]),
    };
    let bias: Option<Vec<T>> = input.flag().then(|| input.values(outer));
    let base = Base {
        w: (&w.data[..], of_w),
        bias: bias.as_deref(),
    };
    let x_in: (&[T], &Layout) = (&x.data, &of_x);
    let out_dims = [
        x.dims.first().copied().unwrap_or(rows),
        b.dims.last().copied().unwrap_or(outer),
    ];
    let mut delta = input.out::<T>(&out_dims);
    let mut full = input.out::<T>(&out_dims);
    let first = low::delta(x_in, &adapter, &mut delta);
    input.expect(&first);
    let second = low::forward(x_in, &base, &adapter, &mut full);
    input.expect(&second);

    let regular = x.dims == [rows, inner] && b.dims == [rank, outer];
    if regular && input.is_tame() && first.is_ok() {
        let t = product(&x.values(), &a.values(), [rows, inner, rank]);
        let mut exact = product(&t, &b.values(), [rows, rank, outer]);
        for y in &mut exact {
            *y *= adapter.scale;
        }
        // t may be hundreds, and as many of them are summed.
        let size = 1e4;
        input.check("delta", &delta, &exact, size);
        if second.is_ok() {
            let straight = product(&x.values(), &w.values(), [rows, inner, outer]);
            for (at, (y, straight)) in exact.iter_mut().zip(straight).enumerate() {
                *y += straight + base.bias.map_or(0., |bias| bias[at % outer].to_f64());
            }
            input.check("y", &full, &exact, size);
        }
    }

    let mut dx = input.values::<T>(rows * inner);
    let mut dw = input.values::<T>(inner * outer);
    let mut da = input.values::<T>(inner * rank);
    let mut db = input.values::<T>(rank * outer);
    let mut dbias = input.values::<T>(outer);
    let wanted = input.byte();
    let want = |bit: u8| wanted & (1 << bit) == 0;
    let gradients = Gradients {
        x: want(0).then_some(&mut dx[..]),
        w: want(1).then_some(&mut dw[..]),
        a: want(2).then_some(&mut da[..]),
        b: want(3).then_some(&mut db[..]),
        bias: want(4).then_some(&mut dbias[..]),
    };
    let w_in = want(5).then_some((&w.data[..], &of_w));
    let result = low::backward(x_in, w_in, &adapter, (&grad.data, &of_grad), gradients);
    input.expect(&result);
    let regular = regular && grad.dims == [rows, outer];
    if regular && input.is_tame() && result.is_ok() {
        let g = grad.values();
        if want(1) {
            let turned = turn(&x.values(), rows, inner);
            let exact = product(&turned, &g, [inner, rows, outer]);
            input.check("dw", &dw, &exact, 300.);
        }
        if want(3) {
            let t = product(&x.values(), &a.values(), [rows, inner, rank]);
            let mut exact = product(&turn(&t, rows, rank), &g, [rank, rows, outer]);
            for y in &mut exact {
                *y *= adapter.scale;
            }
            input.check("db", &db, &exact, 1e4);
        }
    }
}

fn product(a: &[f64], b: &[f64], [m, depth, n]: [usize; 3]) -> Vec<f64> {
    let mut c = vec![0.; m * n];
    for i in 0..m {
        for k in 0..depth {
            for j in 0..n {
                c[i * n + j] += a[i * depth + k] * b[k * n + j];
            }
        }
    }
    c
}

fn turn(a: &[f64], rows: usize, cols: usize) -> Vec<f64> {
    let all = (0..cols).flat_map(|j| (0..rows).map(move |i| i * cols + j));
    all.map(|at| a[at]).collect()
}
