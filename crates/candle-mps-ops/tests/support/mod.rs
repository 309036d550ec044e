//! What the tests share: a seeded generator, operands that are views of something else, and the
//! comparison of an op with an oracle in f64, forward and backward.

// Each test file compiles this for itself and uses its part.
#![allow(dead_code)]

use candle_core::{DType, Device, Result, Tensor, Var};
pub use candle_mps_seeds::Random;

/// Runs `body` with a generator, and prints how to repeat the run if it fails.
pub fn seeded(test: &str, body: impl FnOnce(&mut Random)) {
    let command = match cfg!(feature = "metal") {
        true => "cargo xtask test sim",
        false => "cargo test -p candle-mps-ops",
    };
    candle_mps_seeds::seeded(command, test, body);
}

/// Where the ops under test compute: on Metal if that is built.
#[cfg(feature = "metal")]
pub fn device() -> Device {
    static DEVICE: std::sync::OnceLock<Device> = std::sync::OnceLock::new();
    let device = DEVICE.get_or_init(|| candle_mps_ops::metal::device(0).expect("a GPU"));
    device.clone()
}

/// Where the ops under test compute.
#[cfg(not(feature = "metal"))]
pub fn device() -> Device {
    Device::Cpu
}

/// Operands out of a generator.
pub trait Operands {
    /// A contiguous tensor of elements between -2 and 2, in f64 but rounded to `dtype`.
    fn tensor(&mut self, shape: &[usize], dtype: DType) -> Tensor;

    /// Dimensions in front of those that an op wants: none, one or two.
    fn front(&mut self) -> Vec<usize>;

    /// How to get at a tensor of this shape as a view of another.
    fn view(&mut self, shape: &[usize]) -> View;
}

impl Operands for Random {
    fn tensor(&mut self, shape: &[usize], dtype: DType) -> Tensor {
        let data: Vec<f64> = (0..shape.iter().product())
            .map(|_| 2. * self.unit())
            .collect();
        let tensor = Tensor::from_vec(data, shape, &Device::Cpu).unwrap();
        tensor
            .to_dtype(dtype)
            .unwrap()
            .to_dtype(DType::F64)
            .unwrap()
    }

    fn front(&mut self) -> Vec<usize> {
        (0..self.below(3)).map(|_| self.between(1, 4)).collect()
    }

    fn view(&mut self, shape: &[usize]) -> View {
        let rank = shape.len();
        let mut order: Vec<usize> = (0..rank).collect();
        if rank > 1 && self.chance() {
            let (a, b) = (self.below(rank), self.below(rank));
            order.swap(a, b);
        }
        let gaps = self.chance();
        let cuts = shape
            .iter()
            .map(|_| {
                if gaps {
                    (self.below(3), self.below(2))
                } else {
                    (0, 0)
                }
            })
            .collect();
        let shape = shape.to_vec();
        View { shape, order, cuts }
    }
}

/// The way from a contiguous tensor to a view of it: parts of its dimensions, two of them swapped.
/// Candle's ops on the way have a backward.
pub struct View {
    shape: Vec<usize>,
    order: Vec<usize>,
    cuts: Vec<(usize, usize)>,
}

impl View {
    /// The shape of the tensor underneath.
    pub fn base(&self) -> Vec<usize> {
        let mut base = vec![0; self.shape.len()];
        for (at, &axis) in self.order.iter().enumerate() {
            base[axis] = self.cuts[at].0 + self.shape[at] + self.cuts[at].1;
        }
        base
    }

    pub fn of(&self, base: &Tensor) -> Result<Tensor> {
        let mut view = base.permute(&self.order[..])?;
        for (axis, (&size, &(before, _))) in self.shape.iter().zip(&self.cuts).enumerate() {
            view = view.narrow(axis, before, size)?;
        }
        assert_eq!(view.dims(), self.shape);
        Ok(view)
    }
}

/// Rounds of random cases. Fewer on Metal, where each runs in three types and under the simulator's detector.
pub fn rounds(count: usize) -> usize {
    match device().is_metal() {
        true => count.div_ceil(3),
        false => count,
    }
}

/// A tensor of the CPU, of another type, where the ops under test compute.
pub fn there(x: &Tensor, dtype: DType) -> Tensor {
    x.to_dtype(dtype).unwrap().to_device(&device()).unwrap()
}

/// The most exact type there, and how far apart two ways to the same number may be in it.
pub fn finest() -> (DType, f64) {
    match device().is_metal() {
        true => (DType::F32, 1e-5),
        false => (DType::F64, 1e-12),
    }
}

/// Set where the ops shall take their compositions: Candle then keeps the graph of a backward pass.
pub const COMPOSED: &str = "CANDLE_GRAD_DO_NOT_DETACH";

/// The types that the ops compute with, and how far a result may be from the exact one, as a part of
/// its scale.
pub fn types() -> &'static [(DType, f64)] {
    if device().is_metal() {
        return &[
            (DType::F32, 1e-5),
            (DType::F16, 2e-3),
            (DType::BF16, 1.6e-2),
        ];
    }
    if std::env::var(COMPOSED).is_ok() {
        // Candle's gelu has a backward with constants of seven digits.
        return &[(DType::F32, 1e-5), (DType::F64, 1e-6)];
    }
    &[
        (DType::F32, 1e-5),
        (DType::F64, 1e-12),
        (DType::F16, 2e-3),
        (DType::BF16, 1.6e-2),
    ]
}

/// What happens to a result before it is weighed and summed up: it decides in which layout the
/// gradient arrives.
pub enum Tail {
    /// The gradient has strides.
    Permuted(Vec<usize>),
    /// The gradient repeats elements along a dimension.
    Summed(usize),
}

impl Tail {
    fn new(random: &mut Random, rank: usize) -> Self {
        if rank > 0 && random.below(3) == 0 {
            return Self::Summed(random.below(rank));
        }
        let mut order: Vec<usize> = (0..rank).collect();
        for at in 1..rank {
            order.swap(at, random.below(at + 1));
        }
        Self::Permuted(order)
    }

    fn of(&self, result: &Tensor) -> Result<Tensor> {
        match self {
            Self::Permuted(order) => result.permute(&order[..]),
            Self::Summed(dim) => result.sum_keepdim(*dim),
        }
    }
}

/// The elements in f64, in the order of the tensor's indices.
pub fn values(tensor: &Tensor) -> Vec<f64> {
    let tensor = tensor.to_device(&Device::Cpu).unwrap();
    let tensor = tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap();
    tensor.to_vec1().unwrap()
}

/// Fails on the first element that is further from the expected one than `part` of the largest
/// expected one, or of 1.
pub fn close(what: &str, got: &Tensor, expected: &Tensor, part: f64) {
    assert_eq!(got.dims(), expected.dims(), "{what}: shape");
    let (got, expected) = (values(got), values(expected));
    let bound = part
        * expected
            .iter()
            .fold(1f64, |largest, value| largest.max(value.abs()));
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        let error = (got - expected).abs();
        // A NaN is on no side of the bound.
        assert!(
            error <= bound,
            "{what}: element {index} is {got}, expected {expected} within {bound:e}"
        );
    }
}

/// An op under test: from its arguments to its result.
pub type Function<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Compares an op with an oracle that is computed in f64 by ops of Candle with a backward: the result,
/// and the gradient of each argument, for arguments that are random views of the given shapes. The
/// gradient of the result is random and a view, too.
pub fn check(what: &str, random: &mut Random, shapes: &[&[usize]], op: Function, oracle: Function) {
    for &(dtype, part) in types() {
        let what = format!("{what} in {dtype:?} of {shapes:?}");
        let views: Vec<View> = shapes.iter().map(|shape| random.view(shape)).collect();
        let exact: Vec<Tensor> = views
            .iter()
            .map(|view| random.tensor(&view.base(), dtype))
            .collect();
        let run = |device: &Device, dtype, function: Function, tail: Option<(&Tail, &Tensor)>| {
            let there = |x: &Tensor| x.to_dtype(dtype).unwrap().to_device(device).unwrap();
            let vars: Vec<Var> = exact
                .iter()
                .map(|exact| Var::from_tensor(&there(exact)).unwrap())
                .collect();
            let arguments: Vec<Tensor> = views
                .iter()
                .zip(&vars)
                .map(|(view, var)| view.of(var).unwrap())
                .collect();
            let result = function(&arguments).unwrap();
            let Some((tail, weights)) = tail else {
                return (result, vec![]);
            };
            let weights = there(weights);
            let loss = (tail.of(&result).unwrap() * weights).unwrap();
            let gradients = loss.sum_all().unwrap().backward().unwrap();
            let of = |var: &Var| gradients.get(var).expect("a gradient").clone();
            (result, vars.iter().map(of).collect())
        };
        // Candle's products refuse most gradients with strides; a reshape makes them contiguous.
        let oracle: Function = &|x| oracle(x).and_then(|y| y.reshape(y.shape()));
        let (expected, _) = run(&Device::Cpu, DType::F64, oracle, None);
        let tail = Tail::new(random, expected.rank());
        let weights = random.tensor(tail.of(&expected).unwrap().dims(), dtype);
        let tail = (&tail, &weights);
        let (_, gradients) = run(&Device::Cpu, DType::F64, oracle, Some(tail));
        let (result, ours) = run(&device(), dtype, op, Some(tail));
        assert_eq!(result.dtype(), dtype);
        close(&what, &result, &expected, part);
        for (at, (ours, gradient)) in ours.iter().zip(&gradients).enumerate() {
            // Sums over many rows of numbers that were rounded to the type.
            close(&format!("{what}, gradient {at}"), ours, gradient, 8. * part);
        }
        if dtype == DType::F64 {
            numeric(&what, &views, &exact, tail, op, &ours);
        }
    }
}

/// Compares gradients with central differences of the op itself, at a few elements of each argument.
fn numeric(
    what: &str,
    views: &[View],
    exact: &[Tensor],
    (tail, weights): (&Tail, &Tensor),
    op: Function,
    gradients: &[Tensor],
) {
    const STEP: f64 = 1e-5;
    let loss = |bases: &[Tensor]| {
        let arguments: Vec<Tensor> = views
            .iter()
            .zip(bases)
            .map(|(view, base)| view.of(base).unwrap())
            .collect();
        let result = tail.of(&op(&arguments).unwrap()).unwrap();
        values(&(result * weights).unwrap()).iter().sum::<f64>()
    };
    for (at, gradient) in gradients.iter().enumerate() {
        let (base, gradient) = (values(&exact[at]), values(gradient));
        for element in (0..base.len()).step_by(1 + base.len() / 7) {
            let moved = |step: f64| {
                let mut values = base.clone();
                values[element] += step;
                let mut bases = exact.to_vec();
                bases[at] = Tensor::from_vec(values, exact[at].dims(), &Device::Cpu).unwrap();
                loss(&bases)
            };
            let slope = (moved(STEP) - moved(-STEP)) / (2. * STEP);
            let (got, bound) = (gradient[element], 1e-5 * slope.abs().max(1.));
            assert!(
                (got - slope).abs() <= bound,
                "{what}: gradient {at}, element {element} is {got}, by differences {slope}"
            );
        }
    }
}
