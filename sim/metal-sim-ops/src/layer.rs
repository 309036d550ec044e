//! A layer as Llama has them: RMS norm, projections to queries, keys and values, rope, causal attention with shared
//! heads, the output's projection, and a gated unit behind another norm, each half added to what came in.

use candle_core::{Result, Tensor};
use candle_mps_ops::ops::{self, AttentionOptions};

use super::candle;
use super::operand::{Operand, Scale};

const EPS: f64 = 1e-5;
const CAUSAL: AttentionOptions = AttentionOptions {
    scale: None,
    causal: true,
    soft_cap: None,
};

/// The sizes that the shapes of the operands do not tell.
struct Sizes {
    batch: usize,
    length: usize,
    hidden: usize,
    head: usize,
}

/// x, norm, q, k, v, o, norm, gate, up, down, cos, sin, and what Candle hides.
pub fn operands(scale: Scale) -> Vec<Operand> {
    // Heads of 32 are the smallest that Candle's fused attention takes.
    let small = [1, 8, 64, 32, 32, 40];
    let [batch, length, hidden, shared, head, inner] = scale.dims(
        [1, 64, 128, 64, 32, 344],
        small,
        [small; Scale::RAGGED],
        &[1],
    );
    vec![
        Operand::Trained(vec![batch, length, hidden]),
        Operand::Trained(vec![hidden]),
        Operand::Trained(vec![hidden, hidden]),
        Operand::Trained(vec![shared, hidden]),
        Operand::Trained(vec![shared, hidden]),
        Operand::Trained(vec![hidden, hidden]),
        Operand::Trained(vec![hidden]),
        Operand::Trained(vec![inner, hidden]),
        Operand::Trained(vec![inner, hidden]),
        Operand::Trained(vec![hidden, inner]),
        Operand::Given(vec![length, head / 2]),
        Operand::Given(vec![length, head / 2]),
        Operand::Hidden(length),
    ]
}

/// What the two sides do differently.
struct Ways {
    rms_norm: fn(&Tensor, &Tensor) -> Result<Tensor>,
    linear: fn(&Tensor, &Tensor) -> Result<Tensor>,
    /// A projection, and what it is added to.
    linear_add: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    /// Whether the heads are copied to where rope wants them.
    contiguous: bool,
    rope: fn(&Tensor, &Tensor, &Tensor) -> Result<Tensor>,
    attention: fn([&Tensor; 3], &Tensor) -> Result<Tensor>,
    swiglu: fn(&Tensor, &Tensor) -> Result<Tensor>,
}

/// By our ops.
pub fn ours(x: &[Tensor]) -> Result<Tensor> {
    let ways = Ways {
        rms_norm: |x, w| Ok(ops::rms_norm(x, w, EPS)?),
        linear: |x, w| Ok(ops::linear(x, w, None)?),
        linear_add: |x, w, residual| Ok(ops::linear_add(x, w, None, residual)?),
        contiguous: false,
        rope: |x, cos, sin| Ok(ops::rope(x, cos, sin)?),
        attention: |[q, k, v], _| Ok(ops::attention(q, k, v, None, &CAUSAL)?),
        swiglu: |gate, up| Ok(ops::swiglu(gate, up)?),
    };
    ways.layer(x)
}

/// By Candle's, as candle-transformers' Llama does on Metal.
pub fn candle(x: &[Tensor]) -> Result<Tensor> {
    fused(|qkv, hidden| {
        candle::attention(qkv, Some(hidden), None, candle_nn::ops::softmax_last_dim)
    })
    .layer(x)
}

/// By Candle's, with its fused attention.
pub fn candle_sdpa(x: &[Tensor]) -> Result<Tensor> {
    fused(|qkv, _| candle::sdpa(qkv, true)).layer(x)
}

/// By Candle's, with a gradient.
pub fn candle_training(x: &[Tensor]) -> Result<Tensor> {
    let ways = Ways {
        rms_norm: |x, w| candle_nn::ops::rms_norm_slow(x, w, EPS as f32),
        rope: candle_nn::rotary_emb::rope_slow,
        ..fused(|qkv, hidden| candle::attention(qkv, Some(hidden), None, candle::softmax))
    };
    ways.layer(x)
}

fn fused(attention: fn([&Tensor; 3], &Tensor) -> Result<Tensor>) -> Ways {
    Ways {
        rms_norm: |x, w| candle_nn::ops::rms_norm(x, w, EPS as f32),
        linear: |x, w| candle::linear(x, w, None),
        linear_add: |x, w, residual| residual + candle::linear(x, w, None)?,
        contiguous: true,
        rope: candle_nn::rotary_emb::rope,
        attention,
        swiglu: |gate, up| candle_nn::ops::silu(gate)? * up,
    }
}

impl Ways {
    fn layer(&self, operands: &[Tensor]) -> Result<Tensor> {
        let [
            x,
            first,
            q,
            k,
            v,
            o,
            second,
            gate,
            up,
            down,
            cos,
            sin,
            hidden,
        ] = operands
        else {
            candle_core::bail!("a layer has 13 operands, not {}", operands.len())
        };
        let (batch, length, width) = x.dims3()?;
        let sizes = Sizes {
            batch,
            length,
            hidden: width,
            head: 2 * cos.dim(1)?,
        };
        let normed = (self.rms_norm)(x, first)?;
        let [q, k, v] = [q, k, v].map(|w| self.heads(&normed, w, &sizes));
        let (q, k) = (self.turned(&q?, cos, sin)?, self.turned(&k?, cos, sin)?);
        let attended = (self.attention)([&q, &k, &v?], hidden)?;
        let attended =
            attended
                .transpose(1, 2)?
                .reshape((sizes.batch, sizes.length, sizes.hidden))?;
        let x = (self.linear_add)(&attended, o, x)?;
        let normed = (self.rms_norm)(&x, second)?;
        let gated = (self.swiglu)(&(self.linear)(&normed, gate)?, &(self.linear)(&normed, up)?)?;
        (self.linear_add)(&gated, down, &x)
    }

    /// A projection as [batch, heads, length, size].
    fn heads(&self, x: &Tensor, w: &Tensor, sizes: &Sizes) -> Result<Tensor> {
        let heads = w.dim(0)? / sizes.head;
        let shape = (sizes.batch, sizes.length, heads, sizes.head);
        (self.linear)(x, w)?.reshape(shape)?.transpose(1, 2)
    }

    fn turned(&self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
        match self.contiguous {
            true => (self.rope)(&x.contiguous()?, cos, sin),
            false => (self.rope)(x, cos, sin),
        }
    }
}
