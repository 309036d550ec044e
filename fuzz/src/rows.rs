//! Ops that look at a whole row: softmax, the norms, cross-entropy.

use candle_mps_cpu::{
    Element, cross_entropy as ce,
    layer_norm::{LayerNormGrads, layer_norm_backward},
    rms_norm::{RmsNormGrads, rms_norm_backward},
    softmax as soft,
};

use crate::input::{Input, Operand, layout};

pub fn softmax<T: Element>(input: &mut Input) {
    along_axis::<T>(input, false);
}

pub fn log_softmax<T: Element>(input: &mut Input) {
    along_axis::<T>(input, true);
}

fn along_axis<T: Element>(input: &mut Input, log: bool) {
    let dims = input.dims(1);
    let axis = if input.evil() {
        input.huge()
    } else {
        input.below(dims.len())
    };
    let (x, mask): (Operand<T>, Operand<T>) = (input.operand(&dims), input.operand(&dims));
    let (of_x, of_mask) = (layout!(input, x), layout!(input, mask));
    let masked = input.flag();
    let options = soft::Options {
        scale: input.option(&[1., 0.5, -1.]),
        mask: masked.then_some((&mask.data[..], of_mask)),
        hidden_rows_are_zero: input.flag(),
    };
    let mut out = input.out::<T>(&x.dims);
    let op = if log {
        soft::log_softmax
    } else {
        soft::softmax
    };
    let result = op(&x.data, &of_x, axis, &options, &mut out);
    input.expect(&result);
    if result.is_ok() {
        let mut values = x.values();
        let mask = if masked {
            mask.values()
        } else {
            vec![0.; values.len()]
        };
        for (x, mask) in values.iter_mut().zip(mask) {
            *x = *x * options.scale + mask;
        }
        let exact = each_line(&x.dims, axis, &values, |row| {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
            let one = |x: &f64| {
                if log {
                    x - largest - sum.ln()
                } else {
                    (x - largest).exp() / sum
                }
            };
            row.iter().map(one).collect()
        });
        input.check("out", &out, &exact, 8.);
    }

    let grad: Operand<T> = input.operand(&dims);
    let its = layout!(input, grad);
    let op = if log {
        soft::log_softmax_backward
    } else {
        soft::softmax_backward
    };
    let result = op(
        (&x.data, &of_x),
        (&grad.data, &its),
        axis,
        options.scale,
        &mut out,
    );
    input.expect(&result);
    if result.is_ok() && input.is_tame() {
        let both: Vec<(f64, f64)> = x.values().into_iter().zip(grad.values()).collect();
        let exact = each_line(&x.dims, axis, &both, |row| {
            let sum: f64 = row.iter().map(|(y, g)| if log { *g } else { y * g }).sum();
            let one = |(y, g): &(f64, f64)| {
                if log {
                    g - y.exp() * sum
                } else {
                    y * (g - sum)
                }
            };
            row.iter().map(|pair| one(pair) * options.scale).collect()
        });
        input.check("dx", &out, &exact, 500.);
    }
}

/// Applies `f` to the elements along `axis`, in row-major order.
fn each_line<V: Copy>(
    dims: &[usize],
    axis: usize,
    values: &[V],
    f: impl Fn(&[V]) -> Vec<f64>,
) -> Vec<f64> {
    let mut all = vec![0.; values.len()];
    if values.is_empty() {
        return all;
    }
    let inner: usize = dims[axis + 1..].iter().product();
    let length = dims[axis];
    for line in 0..values.len() / length {
        let at = |i| line / inner * length * inner + i * inner + line % inner;
        let row: Vec<V> = (0..length).map(|i| values[at(i)]).collect();
        for (i, y) in f(&row).into_iter().enumerate() {
            all[at(i)] = y;
        }
    }
    all
}

pub fn rms_norm<T: Element>(input: &mut Input) {
    let dims = input.dims(1);
    let width = dims[dims.len() - 1];
    let (x, grad): (Operand<T>, Operand<T>) = (input.operand(&dims), input.operand(&dims));
    let (of_x, of_grad) = (layout!(input, x), layout!(input, grad));
    let weight: Option<Vec<T>> = input.flag().then(|| input.values(width));
    let weight = weight.as_deref();
    let eps = input.option(&[1e-5, 1e-3, 0.5]);
    let mut out = input.out::<T>(&x.dims);
    let result = candle_mps_cpu::rms_norm::rms_norm(&x.data, &of_x, weight, eps, &mut out);
    input.expect(&result);
    let factor = |i: usize| weight.map_or(1., |weight| weight[i].to_f64());
    let root = |row: &[f64]| {
        let mean = row.iter().map(|x| x * x).sum::<f64>() / row.len() as f64;
        1. / (mean + eps).sqrt()
    };
    if result.is_ok() && input.is_tame() {
        let exact = each_line(&x.dims, x.dims.len() - 1, &x.values(), |row| {
            let r = root(row);
            row.iter()
                .enumerate()
                .map(|(i, x)| x * r * factor(i))
                .collect()
        });
        input.check("out", &out, &exact, 64.);
    }

    let mut to_weight = input.values::<T>(width);
    let wanted = input.flag();
    let grads = RmsNormGrads {
        x: &mut out,
        weight: wanted.then_some(&mut to_weight[..]),
    };
    let (x_in, grad_in) = ((&x.data[..], &of_x), (&grad.data[..], &of_grad));
    let result = rms_norm_backward(x_in, weight, grad_in, eps, grads);
    if !(wanted && weight.is_none()) {
        input.expect(&result);
    }
    if result.is_ok() && input.is_tame() {
        let both: Vec<(f64, f64)> = x.values().into_iter().zip(grad.values()).collect();
        let exact = each_line(&x.dims, x.dims.len() - 1, &both, |row| {
            let r = root(&row.iter().map(|both| both.0).collect::<Vec<_>>());
            let h = |i: usize| row[i].1 * factor(i);
            let mean = (0..row.len()).map(|i| row[i].0 * h(i)).sum::<f64>() / row.len() as f64;
            let one = |i| r * h(i) - row[i].0 * r * r * r * mean;
            (0..row.len()).map(one).collect()
        });
        input.check("dx", &out, &exact, 8. / eps.sqrt());
    }
}

pub fn layer_norm<T: Element>(input: &mut Input) {
    let dims = input.dims(1);
    let width = dims[dims.len() - 1];
    let (x, grad): (Operand<T>, Operand<T>) = (input.operand(&dims), input.operand(&dims));
    let (of_x, of_grad) = (layout!(input, x), layout!(input, grad));
    let weight: Option<Vec<T>> = input.flag().then(|| input.values(width));
    let bias: Option<Vec<T>> = input.flag().then(|| input.values(width));
    let (weight, bias) = (weight.as_deref(), bias.as_deref());
    let eps = input.option(&[1e-5, 1e-3, 0.5]);
    let mut out = input.out::<T>(&x.dims);
    let result =
        candle_mps_cpu::layer_norm::layer_norm(&x.data, &of_x, weight, bias, eps, &mut out);
    input.expect(&result);
    let factor = |i: usize| weight.map_or(1., |weight| weight[i].to_f64());
    let normal = |row: &[f64]| {
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let square = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / count;
        let r = 1. / (square + eps).sqrt();
        (r, row.iter().map(|x| (x - mean) * r).collect::<Vec<_>>())
    };
    if result.is_ok() && input.is_tame() {
        let plus = |i: usize| bias.map_or(0., |bias| bias[i].to_f64());
        let exact = each_line(&x.dims, x.dims.len() - 1, &x.values(), |row| {
            let (_, normal) = normal(row);
            let pairs = normal.iter().enumerate();
            pairs.map(|(i, x)| x * factor(i) + plus(i)).collect()
        });
        input.check("out", &out, &exact, 8. / eps.sqrt());
    }

    let (mut to_weight, mut to_bias) = (input.values::<T>(width), input.values::<T>(width));
    let (wanted, wanted_bias) = (input.flag(), input.flag());
    let grads = LayerNormGrads {
        x: &mut out,
        weight: wanted.then_some(&mut to_weight[..]),
        bias: wanted_bias.then_some(&mut to_bias[..]),
    };
    let (x_in, grad_in) = ((&x.data[..], &of_x), (&grad.data[..], &of_grad));
    let result = layer_norm_backward(x_in, weight, grad_in, eps, grads);
    if !(wanted && weight.is_none()) {
        input.expect(&result);
    }
    if result.is_ok() && input.is_tame() {
        let both: Vec<(f64, f64)> = x.values().into_iter().zip(grad.values()).collect();
        let exact = each_line(&x.dims, x.dims.len() - 1, &both, |row| {
            let (r, normal) = normal(&row.iter().map(|both| both.0).collect::<Vec<_>>());
            let h = |i: usize| row[i].1 * factor(i);
            let count = row.len() as f64;
            let mean = (0..row.len()).map(h).sum::<f64>() / count;
            let along = (0..row.len()).map(|i| h(i) * normal[i]).sum::<f64>() / count;
            let one = |i| r * (h(i) - mean - normal[i] * along);
            (0..row.len()).map(one).collect()
        });
        input.check("dx", &out, &exact, 64. / eps);
    }
}

pub fn cross_entropy<T: Element>(input: &mut Input) {
    let mut dims = input.dims(1);
    let last = dims.len() - 1;
    dims[last] = dims[last].max(1);
    let x: Operand<T> = input.operand(&dims);
    let layout = layout!(input, x);
    let rows = input.len(dims[..last].iter().product());
    let targets: Vec<u32> = (0..rows)
        .map(|_| {
            if input.evil() {
                u32::MAX - u32::from(input.byte())
            } else {
                input.below(dims[last].min(255)) as u32
            }
        })
        .collect();
    let ignored = input.flag().then(|| u32::from(input.byte() % 4));
    let result = ce::cross_entropy(&x.data, &layout, &targets, ignored);
    input.expect(&result.as_ref().map(|_| ()).map_err(Clone::clone));
    let Ok(forward) = result else { return };
    // More classes than memory, of one element that is repeated: an answer, but no list of them.
    if layout.count() > 1 << 20 {
        return;
    }
    let counts = |row: usize| Some(targets[row]) != ignored;
    let counted = (0..targets.len()).filter(|&row| counts(row)).count();
    assert_eq!(forward.counted, counted);
    let values = x.values();
    let width = x.dims.last().copied().unwrap_or_default();
    let lines: Vec<&[f64]> = values.chunks(width.max(1)).collect();
    let sum = |row: &[f64]| row.iter().map(|x| x.exp()).sum::<f64>();
    if input.is_tame() && lines.len() == targets.len() {
        let all = lines.iter().zip(&targets).enumerate();
        let loss: f64 = all
            .filter(|(row, _)| counts(*row))
            .map(|(_, (line, &target))| sum(line).ln() - line[target as usize])
            .sum();
        let mean = loss / counted.max(1) as f64;
        input.check("loss", &[forward.loss], &[mean], 8.);
    }

    let grad = input.option(&[1., -2.]);
    let mut out = input.out::<T>(&x.dims);
    let at = (&x.data[..], &layout);
    let result = ce::cross_entropy_backward(at, &targets, ignored, &forward, grad, &mut out);
    input.expect(&result);
    if result.is_ok() && input.is_tame() && lines.len() == targets.len() {
        let mut exact = vec![];
        for (row, line) in lines.iter().enumerate() {
            let factor = if counts(row) {
                grad / counted as f64
            } else {
                0.
            };
            let sum = sum(line);
            exact.extend(
                line.iter().enumerate().map(|(at, x)| {
                    (x.exp() / sum - f64::from(at == targets[row] as usize)) * factor
                }),
            );
        }
        input.check("dx", &out, &exact, 4.);
    }
}
