//! [`grads`]: names the variables that a backward pass did not reach.
//!
//! Candle's fused ops (softmax_last_dim, rms_norm, layer_norm, sdpa, rope) and ops that store a tensor
//! instead of taking it drop gradients without a word. Then part of a model is never trained, and only
//! the loss may tell. One call after `backward` does.

use std::fmt;

use candle_core::backprop::GradStore;
use candle_nn::VarMap;

/// The variables that got no gradient, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingGradients {
    /// Names, each with the op that probably dropped its gradient.
    pub missing: Vec<Missing>,
    /// How many variables there are.
    pub of: usize,
}

/// A variable without a gradient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name in the `VarMap`.
    pub name: String,
    /// The likely op, from the part that variables of such names play in a model.
    pub likely: &'static str,
}

/// Says whether every variable of `varmap` got a gradient.
///
/// # Errors
/// [`MissingGradients`], which names the others.
///
/// ```
/// use candle_core::{D, DType, Device, Module, Tensor};
/// use candle_mps::{check, nn};
///
/// # fn main() -> candle_core::Result<()> {
/// let varmap = nn::VarMap::new();
/// let vb = nn::VarBuilder::from_varmap(&varmap, DType::F32, &Device::Cpu);
/// let layer = nn::linear(4, 3, vb.pp("proj"))?;
/// let x = Tensor::ones((2, 4), DType::F32, &Device::Cpu)?;
///
/// let lost = candle_nn::ops::softmax_last_dim(&layer.forward(&x)?)?;
/// let error = check::grads(&varmap, &lost.sqr()?.sum_all()?.backward()?).unwrap_err();
/// assert_eq!(error.missing.len(), 2);
///
/// let kept = nn::ops::softmax_last_dim(&layer.forward(&x)?)?;
/// check::grads(&varmap, &kept.sqr()?.sum_all()?.backward()?)?;
/// # Ok(()) }
/// ```
pub fn grads(varmap: &VarMap, grads: &GradStore) -> Result<(), MissingGradients> {
    // A thread that panicked while it held the map left it as it was.
    let vars = match varmap.data().lock() {
        Ok(vars) => vars,
        Err(poisoned) => poisoned.into_inner(),
    };
    let mut missing: Vec<Missing> = vars
        .iter()
        .filter(|(_, var)| grads.get(var).is_none())
        .map(|(name, _)| Missing {
            name: name.clone(),
            likely: likely(name),
        })
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    missing.sort_by(|a, b| a.name.cmp(&b.name));
    Err(MissingGradients {
        missing,
        of: vars.len(),
    })
}

/// What variables are called, in lower case, and which op stands between them and the loss.
const LIKELY: &[(&[&str], &str)] = &[
    (
        &["lora"],
        "an op that stores the tensor in its struct instead of taking it as an argument",
    ),
    (
        &["norm", "ln_", ".ln", "gamma", "beta"],
        "candle_nn's rms_norm or layer_norm, or a fused op behind it",
    ),
    (
        &[
            "q_proj", "k_proj", "query", "key", "qkv", "c_attn", "to_q", "to_k", "attn",
        ],
        "candle_nn's softmax_last_dim, sdpa or rope in the attention",
    ),
];

fn likely(name: &str) -> &'static str {
    let name = name.to_lowercase();
    let known = LIKELY
        .iter()
        .find(|(parts, _)| parts.iter().any(|part| name.contains(part)));
    known.map_or(
        "a fused op of candle_nn behind it, or it is not used",
        |(_, likely)| likely,
    )
}

impl fmt::Display for MissingGradients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { missing, of } = self;
        write!(f, "{} of {of} variables got no gradient:", missing.len())?;
        for Missing { name, likely } in missing {
            write!(f, "\n  {name}: likely {likely}")?;
        }
        write!(
            f,
            "\nuse the functions and layers of candle_mps::nn, or run `candle-mps patch`"
        )
    }
}

impl std::error::Error for MissingGradients {}

/// So that `?` works in functions that return Candle's result. The text stays the same.
impl From<MissingGradients> for candle_core::Error {
    fn from(error: MissingGradients) -> Self {
        Self::Wrapped(Box::new(error))
    }
}
