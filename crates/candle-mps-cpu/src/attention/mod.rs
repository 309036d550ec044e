//! softmax(cap(scale · Q·Kᵀ) + mask) · V: attention, without the matrix of scores.
//! [Attention](https://arxiv.org/abs/1706.03762), in blocks as in
//! [FlashAttention-2](https://arxiv.org/abs/2307.08691).
//!
//! For a block of queries and a block of keys the scores fit the cache. Each row keeps its largest score
//! and the sum of its exponentials so far; when the largest grows, what was summed is scaled down.
//! The backward pass computes the blocks again from the logarithm of that sum.
//!
//! Q is [batch, heads, queries, size], K [batch, kv heads, keys, size], V [batch, kv heads, keys, width];
//! `heads` is a multiple of `kv heads`, and neighbouring heads share one (GQA, MQA). Any strides.
//!
//! A row that may see nothing is 0 (softmax would be NaN), and so are its gradients. A score of NaN or
//! +∞ makes its row NaN. A hidden key counts with weight 0, so its value must be finite.

mod backward;
mod blocks;
mod forward;

use crate::{
    Element, Error, Layout, Result,
    matmul::{Factor, Mat, check_len},
};

pub use backward::{Gradients, backward};
pub use forward::forward;

/// What else happens to scores.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a, T> {
    /// Scores are multiplied by this, usually 1/√size.
    pub scale: f64,
    /// cap(x) = c·tanh(x/c), which bounds scores softly: Gemma 2.
    pub soft_cap: Option<f64>,
    /// Added to the scores after the cap: [batch, heads, queries, keys], broadcast by strides of 0.
    pub mask: Option<(&'a [T], Layout<'a>)>,
    /// The last query sees all keys, the one before all but the last, and so on. With fewer queries
    /// than keys that is a continued text, whose earlier keys are in a cache. Blocks that nobody sees
    /// are not computed.
    pub causal: bool,
}

impl<T> Default for Options<'_, T> {
    fn default() -> Self {
        Self {
            scale: 1.,
            soft_cap: None,
            mask: None,
            causal: false,
        }
    }
}

/// Q, K and V.
#[derive(Debug, Clone, Copy)]
pub struct Operands<'a, T> {
    /// `[batch, heads, queries, size]`
    pub q: (&'a [T], Layout<'a>),
    /// `[batch, kv heads, keys, size]`
    pub k: (&'a [T], Layout<'a>),
    /// `[batch, kv heads, keys, width]`
    pub v: (&'a [T], Layout<'a>),
}

/// An operand of four dimensions, checked.
#[derive(Debug, Clone, Copy)]
struct Four<'a, T> {
    data: &'a [T],
    layout: Layout<'a>,
}

impl<'a, T: Element> Four<'a, T> {
    fn new(
        op: &'static str,
        argument: &'static str,
        (data, layout): (&'a [T], Layout<'a>),
        dims: Option<[usize; 4]>,
    ) -> Result<Self> {
        let got = layout.rank();
        if got < 4 {
            return Err(Error::Rank {
                op,
                argument,
                least: 4,
                got,
            });
        }
        let own = [0, 1, 2, 3].map(|axis| layout.dims()[axis]);
        layout.check_dims(op, argument, &dims.unwrap_or(own))?;
        layout.check(op, argument, data.len())?;
        Ok(Self { data, layout })
    }

    fn dim(&self, axis: usize) -> usize {
        self.layout.dims()[axis]
    }

    /// The matrix of one head.
    fn at(&self, batch: usize, head: usize) -> Mat<'a, T> {
        let start =
            self.layout.offset() + batch * self.layout.stride(0) + head * self.layout.stride(1);
        let data = self.data.get(start..).unwrap_or(&[]);
        Mat::new(data, &self.layout, [2, 3])
    }
}

/// Checked operands and options.
#[derive(Debug, Clone, Copy)]
struct Problem<'a, T: Element> {
    q: Four<'a, T>,
    k: Four<'a, T>,
    v: Four<'a, T>,
    mask: Option<Four<'a, T>>,
    scale: T::Acc,
    /// c and 2/c.
    cap: Option<[T::Acc; 2]>,
    causal: bool,
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    size: usize,
    width: usize,
}

impl<'a, T: Factor> Problem<'a, T> {
    fn new(op: &'static str, operands: &Operands<'a, T>, options: &Options<'a, T>) -> Result<Self> {
        let q = Four::new(op, "q", operands.q, None)?;
        let k = Four::new(op, "k", operands.k, None)?;
        let [batch, heads, queries, size] = [0, 1, 2, 3].map(|axis| q.dim(axis));
        let (kv_heads, keys) = (k.dim(1), k.dim(2));
        k.layout
            .check_dims(op, "k", &[batch, kv_heads, keys, size])?;
        let width = operands.v.1.dims().last().map_or(0, |&width| width);
        let v = Four::new(op, "v", operands.v, Some([batch, kv_heads, keys, width]))?;
        if heads > 0 && (kv_heads == 0 || !heads.is_multiple_of(kv_heads)) {
            return Err(Error::Option {
                op,
                argument: "kv heads",
                got: kv_heads as f64,
                remedy: "the number of heads of q must be a multiple of it",
            });
        }
        let mask = options
            .mask
            .map(|mask| Four::new(op, "mask", mask, Some([batch, heads, queries, keys])))
            .transpose()?;
        if let Some(got) = options
            .soft_cap
            .filter(|cap| !(*cap > 0. && cap.is_finite()))
        {
            let remedy = "pass a positive number, or None for no cap";
            return Err(Error::Option {
                op,
                argument: "soft_cap",
                got,
                remedy,
            });
        }
        let cap = options
            .soft_cap
            .map(|cap| [cap, 2. / cap].map(T::Acc::from_f64));
        let (scale, causal) = (T::Acc::from_f64(options.scale), options.causal);
        Ok(Self {
            q,
            k,
            v,
            mask,
            scale,
            cap,
            causal,
            batch,
            heads,
            kv_heads,
            queries,
            keys,
            size,
            width,
        })
    }

    /// The number of elements of a result with these last dimensions.
    fn len(&self, last: &[usize]) -> usize {
        let product = |sum: usize, &dim: &usize| sum.saturating_mul(dim);
        last.iter()
            .fold(self.batch.saturating_mul(self.heads), product)
    }

    /// The keys that a query sees: the first so many.
    fn seen(&self, query: usize) -> usize {
        match self.causal {
            true => (self.keys + query + 1)
                .saturating_sub(self.queries)
                .min(self.keys),
            false => self.keys,
        }
    }

    fn check_out(&self, op: &'static str, out: &[T], lse: Option<&[T::Acc]>) -> Result<()> {
        check_len(op, "out", self.len(&[self.queries, self.width]), out.len())?;
        lse.map_or(Ok(()), |lse| {
            check_len(op, "lse", self.len(&[self.queries]), lse.len())
        })
    }
}

#[cfg(test)]
mod tests;
