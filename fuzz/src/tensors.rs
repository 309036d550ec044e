//! The ops on Candle tensors: any shapes, strides and types, forward and backward. An op returns a
//! tensor or an error and never panics, arguments that fit give a tensor, and every variable behind one
//! that is not empty gets a gradient of its own shape.

use candle_core::{DType, Device, Tensor, Var, WithDType};
use candle_mps_ops::{Result, ops};

use crate::input::Input;

/// One op, on arguments of the type `T`.
pub fn tensors<T: WithDType>(input: &mut Input) {
    let mut made = Made {
        input,
        dtype: T::DTYPE,
        vars: Vec::new(),
    };
    let op = made.input.below(12);
    let result = call(op, &mut made);
    let Made { input, vars, .. } = made;
    let y = match result {
        Ok(y) => y,
        Err(error) => {
            assert!(!input.is_good(), "op {op}: arguments that fit: {error}");
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    // A gradient of any layout: that of the sum repeats one element, that of the square does not.
    let loss = match input.flag() {
        true => y.sum_all(),
        false => y.sqr().and_then(|y| y.sum_all()),
    };
    let grads = loss.and_then(|loss| loss.backward()).expect("a backward");
    // An empty result depends on nothing.
    let empty = y.elem_count() == 0;
    for var in vars.iter().filter(|_| !empty) {
        let Some(gradient) = grads.get(var) else {
            panic!(
                "op {op}: no gradient for {:?}, the result is {:?}",
                var.dims(),
                y.dims()
            );
        };
        assert_eq!(gradient.dims(), var.dims());
        assert_eq!(gradient.dtype(), var.dtype());
    }
}

/// Arguments in the making.
struct Made<'a, 'b> {
    input: &'a mut Input<'b>,
    dtype: DType,
    vars: Vec<Var>,
}

impl Made<'_, '_> {
    /// A tensor of these dimensions, laid out in any way; in hostile inputs of others, or of another
    /// type.
    fn tensor(&mut self, dims: &[usize]) -> Tensor {
        let dims = self.spoiled(dims);
        let dtype = match self.input.evil() {
            true => {
                [DType::F32, DType::F64, DType::BF16, DType::U32, DType::I64][self.input.below(5)]
            }
            false => self.dtype,
        };
        // How the elements lie is Candle's doing, so that the tensor is always a valid one.
        let kind = match dims.iter().product::<usize>() {
            0 => 0,
            _ => self.input.below(5),
        };
        let leaf = |made: &mut Self, dims: &[usize]| {
            let len = dims.iter().product();
            let values = made.input.numbers(len);
            let tensor = Tensor::from_vec(values, dims, &Device::Cpu);
            let tensor = tensor
                .and_then(|tensor| tensor.to_dtype(dtype))
                .expect("a tensor");
            if dtype.is_float() && made.input.flag() {
                let var = Var::from_tensor(&tensor).expect("a variable");
                made.vars.push(var.clone());
                return var.into_inner();
            }
            tensor
        };
        let axis = |made: &mut Self| made.input.below(dims.len().max(1));
        let view = match kind {
            1 if dims.len() >= 2 => {
                let turned: Vec<usize> = dims.iter().rev().copied().collect();
                let order: Vec<usize> = (0..dims.len()).rev().collect();
                leaf(self, &turned).permute(order)
            }
            2 if !dims.is_empty() => {
                let axis = axis(self);
                let mut wide = dims.clone();
                wide[axis] += 2;
                leaf(self, &wide).narrow(axis, 1, dims[axis])
            }
            3 if !dims.is_empty() => {
                let axis = axis(self);
                let mut one = dims.clone();
                one[axis] = 1;
                leaf(self, &one).broadcast_as(&dims[..])
            }
            _ => Ok(leaf(self, &dims)),
        };
        view.expect("a view")
    }

    fn spoiled(&mut self, dims: &[usize]) -> Vec<usize> {
        let mut dims = dims.to_vec();
        if self.input.evil() {
            match self.input.below(4) {
                0 => drop(dims.pop()),
                1 => dims.push(self.input.below(4)),
                2 if !dims.is_empty() => {
                    let at = self.input.below(dims.len());
                    dims[at] = self.input.below(9);
                }
                _ => dims.reverse(),
            }
        }
        dims
    }

    /// Small, at times nothing.
    fn size(&mut self) -> usize {
        self.input.size().min(40)
    }

    /// `count` dimensions before the last ones.
    fn front(&mut self, least: usize, most: usize) -> Vec<usize> {
        let count = least + self.input.below(most - least + 1);
        (0..count).map(|_| self.input.below(4)).collect()
    }

    fn optional(&mut self, dims: &[usize]) -> Option<Tensor> {
        match self.input.flag() {
            true => Some(self.tensor(dims)),
            false => None,
        }
    }
}

/// An axis of a tensor of this rank; in hostile inputs any.
fn axis(made: &mut Made, rank: usize) -> usize {
    match made.input.evil() {
        true => made.input.below(6),
        false => made.input.below(rank.max(1)),
    }
}

fn call(op: usize, made: &mut Made) -> Result<Tensor> {
    let mut dims = made.front(0, 3);
    let (width, other, rank) = (made.size(), made.size(), 1 + made.input.below(9));
    let with = |dims: &[usize], last: usize| [dims, &[last]].concat();
    match op {
        0 => {
            dims.push(width);
            let x = made.tensor(&dims);
            let axis = axis(made, dims.len());
            match made.input.flag() {
                true => ops::softmax(&x, axis),
                false => ops::log_softmax(&x, axis),
            }
        }
        1 => {
            let (x, w) = (made.tensor(&with(&dims, width)), made.tensor(&[width]));
            ops::rms_norm(&x, &w, 1e-5)
        }
        2 => {
            let (x, w) = (made.tensor(&with(&dims, width)), made.tensor(&[width]));
            let bias = made.optional(&[width]);
            ops::layer_norm(&x, &w, bias.as_ref(), 1e-5)
        }
        3 => {
            let [batch, heads, length] = [0; 3].map(|_| made.input.below(4));
            let pairs = width.min(9);
            let (kind, longer) = (made.input.below(3), made.input.below(2));
            let order = match kind {
                2 => [batch, length, heads, 2 * pairs],
                _ => [batch, heads, length, 2 * pairs],
            };
            let x = made.tensor(&order);
            let angles = [length + longer, pairs];
            let (cos, sin) = (made.tensor(&angles), made.tensor(&angles));
            let op = [ops::rope, ops::rope_i, ops::rope_thd][kind];
            op(&x, &cos, &sin)
        }
        4 | 5 => attention(made),
        6 => {
            let (x, w) = (
                made.tensor(&with(&dims, width)),
                made.tensor(&[other, width]),
            );
            let bias = made.optional(&[other]);
            ops::linear(&x, &w, bias.as_ref())
        }
        7 => {
            let rows = made.size();
            // Either may have fewer dimensions, or 1 in the place of one.
            let mut second = dims[made.input.below(dims.len() + 1)..].to_vec();
            for dim in &mut second {
                if made.input.flag() {
                    *dim = 1;
                }
            }
            let a = made.tensor(&[&dims[..], &[rows, width]].concat());
            let b = made.tensor(&[&second[..], &[width, other]].concat());
            ops::matmul(&a, &b)
        }
        8 => {
            let x = made.tensor(&with(&dims, width));
            let (a, b) = (made.tensor(&[width, rank]), made.tensor(&[rank, other]));
            ops::lora_delta(&x, &a, &b, 0.5)
        }
        9 => {
            let (x, w) = (
                made.tensor(&with(&dims, width)),
                made.tensor(&[other, width]),
            );
            let bias = made.optional(&[other]);
            let (a, b) = (made.tensor(&[width, rank]), made.tensor(&[rank, other]));
            ops::lora(&x, &w, bias.as_ref(), &a, &b, 0.5)
        }
        10 => {
            dims.push(width);
            let (gate, up) = (made.tensor(&dims), made.tensor(&dims));
            match made.input.flag() {
                true => ops::swiglu(&gate, &up),
                false => ops::geglu(&gate, &up),
            }
        }
        _ => {
            let (rows, classes) = (made.size().max(1), width.max(1));
            let logits = made.tensor(&[rows, classes]);
            let most = if made.input.evil() {
                classes + 1
            } else {
                classes
            };
            let targets = (0..rows)
                .map(|_| made.input.below(most.min(256)) as u32)
                .collect();
            let targets = Tensor::from_vec(targets, rows, &Device::Cpu).expect("targets");
            ops::cross_entropy(&logits, &targets)
        }
    }
}

fn attention(made: &mut Made) -> Result<Tensor> {
    let (batch, kv_heads) = (made.input.below(3), 1 + made.input.below(3));
    let (groups, queries) = (1 + made.input.below(3), made.input.below(20));
    let keys = queries + made.input.below(3) * made.input.below(20);
    let size = 1 + made.input.below(17);
    let heads = kv_heads * groups;
    let q = made.tensor(&[batch, heads, queries, size]);
    let (k, v) = (
        made.tensor(&[batch, kv_heads, keys, size]),
        made.tensor(&[batch, kv_heads, keys, size]),
    );
    let mask = match made.input.below(4) {
        0 => Some(vec![batch, heads, queries, keys]),
        1 => Some(vec![queries, keys]),
        _ => None,
    };
    let mask = mask.map(|dims| made.tensor(&dims));
    let options = ops::AttentionOptions {
        scale: made.input.flag().then_some(0.3),
        causal: made.input.flag(),
        soft_cap: made.input.flag().then_some(2.),
    };
    ops::attention(&q, &k, &v, mask.as_ref(), &options)
}
