//! One case of an op in one type, on one device: drawn, computed by us, and compared with what is exact.

use candle_core::{DType, Device, Result, Tensor, Var};

use super::cases::Case;
use super::compare::{bound, place, values, worst};
use super::exact::{Drawn, Expected, exact, shape};
use super::panics::answer;
use super::random::Random;
use super::tail::Tail;
use crate::results::Pass;

/// What became of one pass of a case.
#[derive(Clone, Debug, PartialEq)]
pub enum Passed {
    /// The largest error, as a part of the scale.
    Within(f64),
    /// An error beyond the bound, and where.
    Beyond { error: f64, what: String },
    /// No result.
    Failed(String),
}

impl Passed {
    /// What a comparison without a result is.
    pub fn of(answer: std::result::Result<Self, String>) -> Self {
        answer.unwrap_or_else(Self::Failed)
    }
}

/// Forward and backward.
pub fn check(case: &Case, dtype: DType, device: &Device, random: &mut Random) -> [Passed; 2] {
    let whole = match answer(|| Whole::draw(case, dtype, random)) {
        Ok(whole) => whole,
        Err(why) => {
            let why = Passed::Failed(format!("Candle's own composition in f64 failed: {why}"));
            return [why.clone(), why];
        }
    };
    let computed = match answer(|| whole.compute(case, dtype, device)) {
        Ok(computed) => computed,
        Err(why) => return [Passed::Failed(why.clone()), Passed::Failed(why)],
    };
    let forward = answer(|| {
        let bound = bound(dtype, Pass::Forward);
        compare("the result", &computed.result, dtype, &whole.result, bound)
    });
    let backward = answer(|| whole.backward(case, dtype, &computed));
    [Passed::of(forward), Passed::of(backward)]
}

/// A case with its numbers and what is to come of them.
struct Whole {
    operands: Vec<Drawn>,
    tail: Tail,
    weights: Tensor,
    result: Expected,
    gradients: Vec<Expected>,
}

struct Computed {
    vars: Vec<Option<Var>>,
    result: Tensor,
}

impl Whole {
    fn draw(case: &Case, dtype: DType, random: &mut Random) -> Result<Self> {
        let operands = case.operands.iter().map(|operand| {
            let view = if operand.trained {
                random.view(&operand.shape)
            } else {
                random.frozen_view(&operand.shape)
            };
            Ok(Drawn {
                base: random.tensor(&view.base(), dtype)?,
                view: Some(view),
                trained: operand.trained,
            })
        });
        let operands = operands.collect::<Result<Vec<_>>>()?;
        let shape = shape(case, &operands)?;
        let tail = Tail::draw(random, shape.len());
        let weights = random.tensor(&tail.shape(&shape), dtype)?;
        let (result, gradients) = exact(case, &operands, (&tail, &weights), dtype)?;
        Ok(Self {
            operands,
            tail,
            weights,
            result,
            gradients,
        })
    }

    fn compute(&self, case: &Case, dtype: DType, device: &Device) -> Result<Computed> {
        let mut vars = Vec::new();
        let mut arguments = Vec::new();
        for operand in &self.operands {
            let base = operand.base.to_dtype(dtype)?.to_device(device)?;
            let var = operand
                .trained
                .then(|| Var::from_tensor(&base))
                .transpose()?;
            arguments.push(operand.of(var.as_deref().unwrap_or(&base))?);
            vars.push(var);
        }
        let result = (case.ours)(&arguments)?;
        Ok(Computed { vars, result })
    }

    fn backward(&self, case: &Case, dtype: DType, computed: &Computed) -> Result<Passed> {
        let weights = self.weights.to_dtype(dtype)?;
        let weights = weights.to_device(computed.result.device())?;
        let loss = (self.tail.of(&computed.result)? * weights)?;
        let gradients = loss.sum_all()?.backward()?;
        let trained = case.operands.iter().zip(&computed.vars);
        let trained = trained.filter_map(|(operand, var)| Some((operand.name, var.as_ref()?)));
        let mut largest = 0f64;
        for ((name, var), expected) in trained.zip(&self.gradients) {
            let Some(gradient) = gradients.get(var) else {
                return Ok(Passed::Failed(format!("no gradient arrives at {name}")));
            };
            let what = format!("the gradient of {name}");
            let bound = bound(dtype, Pass::Backward);
            match compare(&what, gradient, dtype, expected, bound)? {
                Passed::Within(error) => largest = largest.max(error),
                beyond => return Ok(beyond),
            }
        }
        Ok(Passed::Within(largest))
    }
}

/// Holds a tensor against what is expected of it.
pub fn compare(
    what: &str,
    got: &Tensor,
    dtype: DType,
    expected: &Expected,
    bound: f64,
) -> Result<Passed> {
    if got.dims() != expected.shape || got.dtype() != dtype {
        return Ok(Passed::Beyond {
            error: f64::INFINITY,
            what: format!(
                "{what} is {:?} in {}, expected {:?} in {}",
                got.dims(),
                got.dtype().as_str(),
                expected.shape,
                dtype.as_str()
            ),
        });
    }
    let Some(worst) = worst(&values(got)?, &expected.values, &expected.scales) else {
        return Ok(Passed::Within(0.));
    };
    if worst.error <= bound {
        return Ok(Passed::Within(worst.error));
    }
    let place = place(worst.index, &expected.shape);
    Ok(Passed::Beyond {
        error: worst.error,
        what: format!(
            "{what}: element {place} of {:?} is {}, expected {} (off by {:.1e} of the scale, {bound:.1e} \
             is allowed)",
            expected.shape, worst.got, worst.expected, worst.error
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::cases::{OPS, Op, Operand, Scale};

    const WIDTH: usize = 7;

    /// An op that doubles, changed by `ours`.
    fn doubled(ours: impl Fn(&Tensor) -> Result<Tensor> + 'static) -> [Passed; 2] {
        let case = Case {
            operands: vec![Operand {
                name: "x",
                shape: vec![2, WIDTH],
                trained: true,
            }],
            ours: Box::new(move |x| ours(&x[0])),
            oracle: Box::new(|x| &x[0] * 2.),
            scale: Scale::Largest,
        };
        check(&case, DType::F32, &Device::Cpu, &mut Random::of(1, &[]))
    }

    /// A wrong addend for one element, which has no gradient.
    fn nudge(x: &Tensor, by: f32) -> Result<Tensor> {
        let mut nudge = vec![0f32; 2 * WIDTH];
        nudge[9] = by;
        (x * 2.)? + Tensor::from_vec(nudge, (2, WIDTH), x.device())?
    }

    #[test]
    fn the_right_op_passes() {
        for passed in doubled(|x| x * 2.) {
            assert!(
                matches!(passed, Passed::Within(error) if error < 1e-6),
                "{passed:?}"
            );
        }
    }

    #[test]
    fn one_wrong_element_is_caught_with_its_place() {
        let [forward, backward] = doubled(|x| nudge(x, 1e-3));
        let Passed::Beyond { error, what } = forward else {
            panic!("{forward:?}");
        };
        assert!(error > 1e-4 && what.contains("[1, 2]"), "{error} {what}");
        assert!(matches!(backward, Passed::Within(_)), "{backward:?}");
        // The scale is at most 4, the bound 1e-5 of it.
        let [forward, _] = doubled(|x| nudge(x, 5e-6));
        assert!(matches!(forward, Passed::Within(_)), "{forward:?}");
    }

    #[test]
    fn wrong_gradients_shapes_and_types_are_caught() {
        let [forward, backward] = doubled(|x| (x * 3.)? - x.detach());
        assert!(matches!(forward, Passed::Within(_)), "{forward:?}");
        assert!(matches!(backward, Passed::Beyond { .. }), "{backward:?}");
        let [_, backward] = doubled(|x| x.detach() * 2.);
        assert_eq!(
            backward,
            Passed::Failed("no gradient arrives at x".to_owned())
        );
        let [forward, _] = doubled(|x| (x * 2.)?.t());
        assert!(matches!(forward, Passed::Beyond { .. }), "{forward:?}");
        let [forward, _] = doubled(|x| (x * 2.)?.to_dtype(DType::F64));
        assert!(matches!(forward, Passed::Beyond { .. }), "{forward:?}");
    }

    #[test]
    fn errors_and_panics_are_failures() {
        let refused = doubled(|x| x.narrow(0, 5, 9));
        let panicked = doubled(|_| panic!("out of range"));
        for passed in refused.into_iter().chain(panicked) {
            assert!(matches!(passed, Passed::Failed(_)), "{passed:?}");
        }
    }

    #[test]
    fn names_are_unique() {
        let names = |ops: &[Op]| -> Vec<&str> { ops.iter().map(|op| op.name).collect() };
        let mut unique = names(OPS);
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), OPS.len());
        for op in OPS {
            let mut variants: Vec<_> = op.variants.iter().map(|it| it.name).collect();
            variants.sort_unstable();
            variants.dedup();
            assert_eq!(variants.len(), op.variants.len(), "{}", op.name);
        }
    }
}
