//! What can be measured: each op with its sizes, its work, and how Candle's users and ours call it.
//!
//! An op is a line of a table, in the file of its kind. Candle has two ways for most: its best for inference, a fused op
//! where there is one, and the composition that has a backward for training, as its users must.

mod attention;
mod llama;
mod models;
mod products;
mod rows;

use candle_core::backprop::GradStore;
use candle_core::{DType, Device, Result, Tensor, Var};

use crate::results::Pass;

/// Whose op is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Ours,
    Candle,
}

/// An op.
pub struct Op {
    /// As our function is named.
    pub name: &'static str,
    /// What its sizes are, one text for each number of them.
    pub sizes: &'static [&'static str],
    pub passes: &'static [Pass],
    /// Whether its result can be its next argument.
    pub chains: bool,
    pub work: fn(&[usize]) -> Work,
    kind: Kind,
}

enum Kind {
    Function(Function),
    /// Something with a state: an optimizer, a model.
    Made(fn(Side, Pass, &[usize], &Device) -> Result<Call>),
}

/// A function of tensors; the first is the one that a chain replaces.
struct Function {
    operands: fn(&Operands, &[usize]) -> Result<Vec<Tensor>>,
    ours: fn(&[Tensor]) -> Result<Tensor>,
    /// Candle's best for inference.
    candle: fn(&[Tensor]) -> Result<Tensor>,
    /// Candle's with a backward.
    trained: fn(&[Tensor]) -> Result<Tensor>,
    /// How many of the operands want a gradient.
    wanted: usize,
}

/// What a call must do, whoever does it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    /// Elements that must be read or written once.
    pub elements: f64,
    /// Multiplications and additions.
    pub flops: f64,
}

impl Work {
    fn elements(elements: usize) -> Self {
        Self {
            elements: elements as f64,
            flops: 0.,
        }
    }

    /// The gradients of `inputs` operands: each is written once, and costs as much arithmetic as the result.
    pub fn of(op: &Op, pass: Pass, sizes: &[usize]) -> Self {
        let forward = (op.work)(sizes);
        match pass {
            Pass::Forward => forward,
            Pass::Backward => Self {
                elements: 1.5 * forward.elements,
                flops: 2. * forward.flops,
            },
            // An optimizer has but this; a model's step is three times its forward.
            Pass::Step if op.passes.len() == 1 => forward,
            Pass::Step => Self {
                elements: 3. * forward.elements,
                flops: 3. * forward.flops,
            },
        }
    }
}

/// What a call leaves. It is dropped when the clock has stopped, as by a caller who uses it first.
pub enum Outcome {
    Tensor(#[cfg_attr(not(test), expect(dead_code, reason = "kept to be dropped"))] Tensor),
    Grads(#[expect(dead_code, reason = "kept to be dropped")] GradStore),
    Nothing,
}

impl From<Tensor> for Outcome {
    fn from(tensor: Tensor) -> Self {
        Self::Tensor(tensor)
    }
}

/// An op with its operands, ready to be called again and again.
pub enum Call {
    Once(Box<dyn FnMut() -> Result<Outcome>>),
    Function {
        operands: Vec<Tensor>,
        function: fn(&[Tensor]) -> Result<Tensor>,
    },
}

impl Call {
    fn once(call: impl FnMut() -> Result<Outcome> + 'static) -> Self {
        Self::Once(Box::new(call))
    }

    /// One result.
    pub fn call(&mut self) -> Result<Outcome> {
        match self {
            Self::Once(call) => call(),
            Self::Function { operands, function } => Ok(function(operands)?.into()),
        }
    }

    /// The last of so many results, each computed from the one before.
    pub fn chain(&mut self, length: usize) -> Result<Outcome> {
        let Self::Function { operands, function } = self else {
            candle_core::bail!("a result of this op cannot be its next argument")
        };
        let first = operands[0].clone();
        let mut chained = || -> Result<Tensor> {
            for _ in 1..length {
                operands[0] = function(operands)?;
            }
            function(operands)
        };
        let result = chained();
        operands[0] = first;
        Ok(result?.into())
    }
}

/// Every op.
pub fn all() -> impl Iterator<Item = &'static Op> {
    [rows::OPS, products::OPS, attention::OPS, models::OPS]
        .into_iter()
        .flatten()
}

/// The op of this name.
pub fn find(name: &str) -> Option<&'static Op> {
    all().find(|op| op.name == name)
}

impl Op {
    /// Whether it can be asked for so many sizes.
    pub fn takes(&self, sizes: usize) -> bool {
        self.sizes.iter().any(|it| it.split('x').count() == sizes)
    }

    /// Whether making a call of it calls nothing: what comes first is then the first call of all. A backward pass has
    /// its forward before it, and a model may have read a prompt.
    pub fn is_made_without_a_call(&self, pass: Pass) -> bool {
        matches!(self.kind, Kind::Function(_)) && pass == Pass::Forward
    }

    /// A call of it on a device.
    pub fn make(
        &self,
        side: Side,
        pass: Pass,
        sizes: &[usize],
        dtype: DType,
        device: &Device,
    ) -> Result<Call> {
        let function = match &self.kind {
            Kind::Made(make) => return make(side, pass, sizes, device),
            Kind::Function(function) => function,
        };
        let mut operands = (function.operands)(&Operands { dtype, device }, sizes)?;
        let chosen = match (side, pass) {
            (Side::Ours, _) => function.ours,
            (Side::Candle, Pass::Forward) => function.candle,
            (Side::Candle, _) => function.trained,
        };
        if pass == Pass::Forward {
            return Ok(Call::Function {
                operands,
                function: chosen,
            });
        }
        // The backward alone, from ones: the graph stands.
        for operand in operands.iter_mut().take(function.wanted) {
            *operand = Var::from_tensor(operand)?.into_inner();
        }
        let result = chosen(&operands)?;
        Ok(Call::once(move || Ok(Outcome::Grads(result.backward()?))))
    }
}

/// The element type of this name.
pub fn dtype(name: &str) -> Option<DType> {
    match name {
        "f32" => Some(DType::F32),
        "f16" => Some(DType::F16),
        "bf16" => Some(DType::BF16),
        "f64" => Some(DType::F64),
        _ => None,
    }
}

/// Makes operands of an element type on a device. They are computed on the processor, wherever they go.
struct Operands<'a> {
    dtype: DType,
    device: &'a Device,
}

impl Operands<'_> {
    /// What was computed on the processor, as an operand.
    fn put(&self, values: &Tensor) -> Result<Tensor> {
        values.to_dtype(self.dtype)?.to_device(self.device)
    }

    /// The same numbers at every run, between -1 and 1.
    fn random(&self, dims: &[usize]) -> Result<Tensor> {
        self.put(&random(dims)?)
    }

    /// A factor that leaves the size of what it multiplies as it is, so that chains neither grow nor vanish; by
    /// `less`, if it is to be smaller.
    fn factor(&self, dims: &[usize], inner: usize, less: f64) -> Result<Tensor> {
        self.put(&(random(dims)? * ((3. / inner as f64).sqrt() / less))?)
    }
}

/// The same numbers at every run, between -1 and 1, on the processor.
fn random(dims: &[usize]) -> Result<Tensor> {
    let mut state = 1u32;
    let values = (0..dims.iter().product()).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.
    });
    Tensor::from_iter(values, &Device::Cpu)?.reshape(dims)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Small sizes for each number of them.
    fn small(op: &Op) -> Vec<Vec<usize>> {
        op.sizes
            .iter()
            .map(|sizes| match (op.name, sizes.split('x').count()) {
                // Heads are 64 wide.
                ("llama", _) => vec![1, 64, 4],
                // The least that Candle's kernel takes.
                ("attention" | "attention_causal", _) => vec![1, 2, 4, 32],
                (_, count) => vec![4; count],
            })
            .collect()
    }

    #[test]
    fn both_sides_compute_the_same() {
        // The models of a fixed size take seconds each in a debug build.
        for op in all().filter(|op| !op.name.starts_with("smollm2")) {
            for sizes in small(op) {
                let result = |side| {
                    let mut call = op
                        .make(side, op.passes[0], &sizes, DType::F32, &Device::Cpu)
                        .unwrap();
                    match call.call().unwrap() {
                        Outcome::Tensor(tensor) => {
                            tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap()
                        }
                        _ => Vec::new(),
                    }
                };
                let (ours, candle) = (result(Side::Ours), result(Side::Candle));
                assert_eq!(ours.len(), candle.len(), "{}", op.name);
                for (ours, candle) in ours.iter().zip(&candle) {
                    assert!(
                        (ours - candle).abs() <= 1e-4 * candle.abs().max(1.),
                        "{}",
                        op.name
                    );
                }
            }
        }
    }

    #[test]
    fn every_pass_of_every_op_runs_on_both_sides() {
        for op in all().filter(|op| !op.name.starts_with("smollm2")) {
            for sizes in small(op) {
                for &pass in op.passes {
                    for side in [Side::Ours, Side::Candle] {
                        let mut call = op
                            .make(side, pass, &sizes, DType::F32, &Device::Cpu)
                            .unwrap();
                        let outcome = call.call().unwrap();
                        let expected = match pass {
                            Pass::Forward => matches!(outcome, Outcome::Tensor(_)),
                            Pass::Backward => matches!(outcome, Outcome::Grads(_)),
                            Pass::Step => matches!(outcome, Outcome::Nothing),
                        };
                        assert!(expected, "{} {pass}", op.name);
                        let work = Work::of(op, pass, &sizes);
                        assert!(work.elements > 0., "{} {pass}", op.name);
                    }
                }
            }
        }
    }

    #[test]
    #[cfg(feature = "metal")]
    fn a_gpu_gives_what_the_processor_gives() {
        let gpu = candle_mps::metal::device(0).unwrap();
        for op in all().filter(|op| !op.name.starts_with("smollm2")) {
            let sizes = &small(op)[0];
            for (&pass, side) in op
                .passes
                .iter()
                .flat_map(|pass| [(pass, Side::Ours), (pass, Side::Candle)])
            {
                let run = |device: &Device| {
                    let mut call = op.make(side, pass, sizes, DType::F32, device).unwrap();
                    match call.call().unwrap() {
                        Outcome::Tensor(it) => it.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                        _ => Vec::new(),
                    }
                };
                let (here, there) = (run(&Device::Cpu), run(&gpu));
                gpu.synchronize().unwrap();
                assert_eq!(here.len(), there.len(), "{} {pass}", op.name);
                for (here, there) in here.iter().zip(&there) {
                    let far = (here - there).abs();
                    assert!(far <= 1e-4 * here.abs().max(1.), "{} {pass}", op.name);
                }
            }
        }
    }

    #[test]
    fn chains_go_on_from_their_results_and_begin_anew() {
        for op in all().filter(|op| op.chains) {
            let sizes = &small(op)[0];
            for side in [Side::Ours, Side::Candle] {
                let mut call = op
                    .make(side, Pass::Forward, sizes, DType::F32, &Device::Cpu)
                    .unwrap();
                let read = |outcome: Outcome| match outcome {
                    Outcome::Tensor(it) => it.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
                    _ => panic!("{}", op.name),
                };
                let once = read(call.call().unwrap());
                let chained = read(call.chain(16).unwrap());
                assert!(chained.iter().all(|it| it.is_finite()), "{}", op.name);
                assert_eq!(read(call.chain(1).unwrap()), once, "{}", op.name);
                assert_eq!(read(call.chain(16).unwrap()), chained, "{}", op.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_sizes_are_counted() {
        let names: Vec<_> = all().map(|op| op.name).collect();
        for name in &names {
            assert_eq!(names.iter().filter(|it| *it == name).count(), 1, "{name}");
        }
        let matmul = find("matmul").unwrap();
        assert!(matmul.takes(3) && matmul.takes(4) && !matmul.takes(2));
        assert!(find("no_such_op").is_none());
    }
}
