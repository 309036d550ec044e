//! Ops whose results depend on a few elements each: rope, the gated units, AdamW.

use candle_mps_cpu::{
    Element, Layout, Result,
    adamw::{self as adam, AdamW, Moments},
    geglu::{self as ge, Gelu},
    rope::{self as turn, Pairs},
    swiglu as swi,
};

use crate::input::{Input, Operand, layout};

pub fn rope<T: Element>(input: &mut Input) {
    let dims = input.dims(1);
    let last = dims.len() - 1;
    let mut angles = dims.clone();
    angles[last] = if input.flag() {
        dims[last] / 2
    } else {
        input.below(dims[last] / 2 + 1)
    };
    let x: Operand<T> = input.operand(&dims);
    let (cos, sin): (Operand<T>, Operand<T>) = (input.operand(&angles), input.operand(&angles));
    let (of_x, of_cos, of_sin) = (layout!(input, x), layout!(input, cos), layout!(input, sin));
    let pairs = if input.flag() {
        Pairs::Neighbours
    } else {
        Pairs::Halves
    };
    let back = input.flag();
    let mut out = input.out::<T>(&x.dims);
    let op = if back {
        turn::rope_backward
    } else {
        turn::rope
    };
    let (x_in, cos_in, sin_in) = (
        (&x.data[..], &of_x),
        (&cos.data[..], &of_cos),
        (&sin.data[..], &of_sin),
    );
    let result = op(x_in, cos_in, sin_in, pairs, &mut out);
    input.expect(&result);
    if result.is_err() || !input.is_tame() {
        return;
    }
    let (mut exact, cos_values, sin_values) = (x.values(), cos.values(), sin.values());
    let last = x.dims.len() - 1;
    let (width, half) = (x.dims[last], cos.dims[last]);
    for (row, line) in exact.chunks_mut(width.max(1)).enumerate() {
        for i in 0..half {
            let (first, second) = match pairs {
                Pairs::Neighbours => (2 * i, 2 * i + 1),
                Pairs::Halves => (i, i + half),
            };
            let (c, s) = (cos_values[row * half + i], sin_values[row * half + i]);
            let s = if back { -s } else { s };
            let (a, b) = (line[first], line[second]);
            (line[first], line[second]) = (a * c - b * s, a * s + b * c);
        }
    }
    input.check("out", &out, &exact, 16.);
}

pub fn swiglu<T: Element>(input: &mut Input) {
    gated::<T>(input, swi::swiglu, swi::swiglu_backward, |x| {
        x / (1. + (-x).exp())
    });
}

pub fn geglu<T: Element>(input: &mut Input) {
    let gelu = if input.flag() {
        Gelu::Exact
    } else {
        Gelu::Tanh
    };
    gated::<T>(
        input,
        |gate, up, out| ge::geglu(gate, up, gelu, out),
        |gate, up, grad, out| ge::geglu_backward(gate, up, grad, gelu, out),
        |x| match gelu {
            Gelu::Exact => x * below(x),
            Gelu::Tanh => {
                x / (1. + (-2. * 0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).exp())
            }
        },
    );
}

/// The normal distribution, by its power series.
fn below(x: f64) -> f64 {
    let (mut term, mut sum, mut k) = (x, 0., 1.);
    while f64::abs(term) > 1e-18 {
        sum += term;
        k += 2.;
        term *= x * x / k;
    }
    0.5 + sum * (-x * x / 2.).exp() / (2. * std::f64::consts::PI).sqrt()
}

type In<'a, T> = (&'a [T], &'a Layout<'a>);

fn gated<T: Element>(
    input: &mut Input,
    forward: impl Fn(In<T>, In<T>, &mut [T]) -> Result<()>,
    backward: impl Fn(In<T>, In<T>, In<T>, (&mut [T], &mut [T])) -> Result<()>,
    value: impl Fn(f64) -> f64,
) {
    let dims = input.dims(1);
    let (gate, up): (Operand<T>, Operand<T>) = (input.operand(&dims), input.operand(&dims));
    let grad: Operand<T> = input.operand(&dims);
    let (of_gate, of_up, of_grad) = (
        layout!(input, gate),
        layout!(input, up),
        layout!(input, grad),
    );
    let (mut out, mut out_2) = (input.out::<T>(&gate.dims), input.out::<T>(&gate.dims));
    let (gate_in, up_in) = ((&gate.data[..], &of_gate), (&up.data[..], &of_up));
    let result = forward(gate_in, up_in, &mut out);
    input.expect(&result);
    if result.is_ok() && input.is_tame() {
        let both = gate.values().into_iter().zip(up.values());
        let exact: Vec<f64> = both.map(|(gate, up)| value(gate) * up).collect();
        input.check("out", &out, &exact, 8.);
    }
    let result = backward(
        gate_in,
        up_in,
        (&grad.data, &of_grad),
        (&mut out, &mut out_2),
    );
    input.expect(&result);
    if result.is_ok() && input.is_tame() {
        let (gates, ups, grads) = (gate.values(), up.values(), grad.values());
        let exact: Vec<f64> = grads
            .iter()
            .zip(&gates)
            .map(|(g, x)| g * value(*x))
            .collect();
        input.check("up's", &out_2, &exact, 8.);
        let slope = |x: f64| (value(x + 1e-4) - value(x - 1e-4)) / 2e-4;
        let each = gates.iter().zip(&ups).zip(&grads);
        let exact: Vec<f64> = each.map(|((x, up), g)| g * up * slope(*x)).collect();
        // The difference quotient is right to seven digits.
        let size = if size_of::<T>() == 8 { 1e5 } else { 8. };
        input.check("gate's", &out, &exact, size);
    }
}

pub fn adamw<T: Element>(input: &mut Input) {
    let dims = input.dims(0);
    let grad: Operand<T> = input.operand(&dims);
    let layout = layout!(input, grad);
    let mut parameter = input.out::<T>(&grad.dims);
    let mut first = input.out::<T>(&grad.dims);
    let mut second = input.out::<T>(&grad.dims);
    // A mean of squares is not negative.
    let negative = input.evil();
    if !negative {
        for v in &mut second {
            *v = T::from_f64(v.to_f64().abs());
        }
    }
    let with = AdamW {
        lr: input.option(&[0.1, 1e-3]),
        beta1: input.option(&[0.9, 0.5, 0.]),
        beta2: input.option(&[0.9, 0.5, 0.]),
        eps: input.option(&[1e-3, 0.5]),
        weight_decay: input.option(&[0.1, 0.]),
    };
    let t = if input.evil() {
        input.huge()
    } else {
        1 + input.below(9)
    };
    let before: Vec<[f64; 3]> = (parameter.iter().zip(&first).zip(&second))
        .map(|((x, m), v)| [x.to_f64(), m.to_f64(), v.to_f64()])
        .collect();
    let state = Moments {
        parameter: &mut parameter,
        first: &mut first,
        second: &mut second,
    };
    let result = adam::adamw(state, (&grad.data, &layout), t, &with);
    input.expect(&result);
    if result.is_err() || !input.is_tame() || negative || t > 1000 {
        return;
    }
    let steps = t as i32;
    let (mut x, mut m, mut v) = (vec![], vec![], vec![]);
    for (g, [theta, mean, square]) in grad.values().into_iter().zip(before) {
        let mean = with.beta1 * mean + (1. - with.beta1) * g;
        let square = with.beta2 * square + (1. - with.beta2) * g * g;
        let up = mean / (1. - with.beta1.powi(steps));
        let down = (square / (1. - with.beta2.powi(steps))).sqrt() + with.eps;
        x.push(theta * (1. - with.lr * with.weight_decay) - with.lr * up / down);
        m.push(mean);
        v.push(square);
    }
    input.check("parameter", &parameter, &x, 400.);
    input.check("first", &first, &m, 4.);
    input.check("second", &second, &v, 8.);
}
