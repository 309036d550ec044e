//! How the kernels of `attention.metal` and `attention_backward.metal` are called: one dispatch forward, two backward.

use candle_core::{DType, Layout, Tensor};

use super::LANES;
use crate::error::Result;
use crate::metal::library::{Kernel, Source, source};
use crate::metal::op::{Gradients, MetalOp, Pass, Stream};
use crate::metal::stream::Argument::{self, Absent, Read, Write};
use crate::metal::stream::Grid;
use crate::metal::view::{Owned, View};
use crate::ops::attention::Attention;
use crate::ops::fused::Kept;

static FORWARD: Source = source!("attention", with: ["attention_blocks"], flags: 6, numbers: 3);

static BACKWARD: Source =
    source!("attention_backward", with: ["attention_blocks"], flags: 6, numbers: 3);

/// So many queries have a kernel of their own: with more, the one in blocks fills a good part of its matrices.
const FEW: usize = 4;

/// The widest head, in features, of which threadgroup memory and registers hold blocks.
const WIDEST: usize = 128;

/// `Place` of the kernels.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Place {
    start: u64,
    stride: [u64; 4],
}

impl Place {
    fn of(layout: &Layout) -> Self {
        let (dims, strides) = (layout.dims(), layout.stride());
        // A dimension of one element may have any stride, and 0 is a multiple of everything.
        let stride = |at: usize| if dims[at] == 1 { 0 } else { strides[at] as u64 };
        Self {
            start: layout.start_offset() as u64,
            stride: std::array::from_fn(stride),
        }
    }
}

/// Whether four neighbours of a head can be read at once.
fn by_fours(layout: &Layout) -> bool {
    let Place { start, stride } = Place::of(layout);
    let [front @ .., step] = stride;
    let fours = |number: &u64| number.is_multiple_of(4);
    step == 1 && layout.dims()[3].is_multiple_of(4) && fours(&start) && front.iter().all(fours)
}

/// `AttentionShape` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct Parameters {
    q: Place,
    k: Place,
    v: Place,
    mask: Place,
    y: Place,
    rows: u32,
    shared: u32,
    queries: u32,
    keys: u32,
    size: u32,
    width: u32,
    scale: f32,
    cap: f32,
}

/// `AttentionGradientShape` of the kernels.
#[repr(C)]
#[derive(Clone, Copy)]
struct GradientParameters {
    of: Parameters,
    g: Place,
    dq: Place,
    dk: Place,
    dv: Place,
}

/// What a threadgroup has at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Blocks {
    /// Of 8 rows each.
    simdgroups: usize,
    /// Rows of the other side, which all simdgroups read.
    block: usize,
    /// Threadgroup memory, in numbers of four bytes.
    memory: usize,
}

impl Blocks {
    /// The first that fits is taken, and the last always does. Each staged row is read by all simdgroups, and a larger
    /// block takes fewer barriers. Which is best has not been measured on a GPU of Apple's.
    const CHOICES: [(usize, usize); 5] = [(4, 32), (4, 16), (4, 8), (2, 16), (2, 8)];
    /// As the kernels have it: 32 KB, which is all there is.
    const MEMORY: usize = 8192;

    /// For so many rows of q, whose heads and those of v have these features.
    fn forward(rows: usize, size: usize, width: usize) -> Self {
        // Rows of q, which y replaces, and 8x8 factors; scores; rows of k and v.
        Self::fit(rows, 8 * (size.max(width) + 8), 8, size + width)
    }

    /// For so many rows of q, or of k and v.
    fn backward(rows: usize, size: usize, width: usize) -> Self {
        // Two rows and two numbers, here and in the block; weights and slopes.
        Self::fit(rows, 8 * (size + width + 2), 16, size + width + 2)
    }

    /// A simdgroup needs `own` numbers for its rows, and `square` for each row of a block, which is `staged` numbers.
    fn fit(rows: usize, own: usize, square: usize, staged: usize) -> Self {
        let all = Self::CHOICES.map(|(simdgroups, block)| {
            let simdgroups = rows.div_ceil(8).min(simdgroups);
            Self {
                simdgroups,
                block,
                memory: block * staged + simdgroups * (own + square * block),
            }
        });
        let fits = |blocks: &&Self| blocks.memory <= Self::MEMORY;
        *all.iter().find(fits).unwrap_or(&all[all.len() - 1])
    }
}

/// A call, as all kernels see it.
struct Problem<'a> {
    op: &'a Attention,
    q: View<'a>,
    k: View<'a>,
    v: View<'a>,
    mask: Option<View<'a>>,
    batch: usize,
    kv_heads: usize,
    /// Of each head of k and v: the queries of all heads that share it.
    rows: usize,
    keys: usize,
    /// Features of a head of q and k and of one of v, in multiples of 8.
    size: usize,
    width: usize,
    parameters: Parameters,
}

impl<'a> Problem<'a> {
    fn new(op: &'a Attention, arguments: &[View<'a>], y: View<'_>) -> Result<Self> {
        let (q, k, v) = (arguments[0], arguments[1], arguments[2]);
        let mask = arguments.get(3).copied();
        let (batch, heads, queries, size) = q.layout.shape().dims4()?;
        let (_, kv_heads, keys, width) = v.layout.shape().dims4()?;
        let scores = [batch, heads, queries, keys];
        let repeated = mask.map(|mask| mask.layout.broadcast_as(&scores[..]));
        let repeated = repeated.transpose()?;
        let shared = heads / kv_heads;
        let parameters = Parameters {
            q: Place::of(q.layout),
            k: Place::of(k.layout),
            v: Place::of(v.layout),
            mask: repeated.as_ref().map(Place::of).unwrap_or_default(),
            y: Place::of(y.layout),
            rows: (shared * queries) as u32,
            shared: shared as u32,
            queries: queries as u32,
            keys: keys as u32,
            size: size as u32,
            width: width as u32,
            scale: op.scale as f32,
            cap: op.options.soft_cap.unwrap_or(1.) as f32,
        };
        Ok(Self {
            op,
            q,
            k,
            v,
            mask,
            batch,
            kv_heads,
            rows: shared * queries,
            keys,
            size: size.next_multiple_of(8),
            width: width.next_multiple_of(8),
            parameters,
        })
    }

    /// A kernel with its function constants, if it copies rows of these to threadgroup memory.
    fn kernel(
        &self,
        kernel: Kernel,
        [keep, of_keys]: [bool; 2],
        block: usize,
        read: &[View<'_>],
    ) -> Kernel {
        let options = &self.op.options;
        kernel
            .flags(&[
                options.causal,
                options.soft_cap.is_some(),
                self.mask.is_some(),
                read.iter().all(|view| by_fours(view.layout)),
                keep,
                of_keys,
            ])
            .numbers(&[self.size as u16, self.width as u16, block as u16])
    }

    fn mask(&self) -> Argument<'a> {
        self.mask.map_or(Absent, |mask| Read(mask.storage))
    }

    /// For so many rows of each head of k and v.
    fn grid(&self, rows: usize, blocks: &Blocks) -> Grid {
        let groups = rows.div_ceil(8 * blocks.simdgroups);
        Grid {
            groups: [groups, self.kv_heads, self.batch],
            threads: blocks.simdgroups * LANES,
        }
    }

    /// Memory for a number of each row.
    fn numbers(&self, stream: &Stream<'_>) -> Result<Owned> {
        stream.output(&[self.batch, self.kv_heads, self.rows], DType::F32)
    }
}

impl MetalOp for Attention {
    fn refuses(&self, operands: &[(&'static str, &Tensor)]) -> Option<&'static str> {
        let [q, _, v, ..] = operands else {
            return Some("it takes three operands");
        };
        let (q, v) = (q.1.dims(), v.1.dims());
        if q[3].max(v[3]) > WIDEST {
            return Some("heads are wider than 128");
        }
        if operands.get(3).is_some_and(|(_, mask)| mask.track_op()) {
            return Some("the mask is trained");
        }
        // Kernels count rows and keys in 32 bits, to the end of the last block.
        let most = (q[1] * q[2]).max(v[2]);
        (most > i32::MAX as usize).then_some("there are more positions than 31 bits count")
    }

    fn encode(
        &self,
        stream: &Stream<'_>,
        arguments: &[View<'_>],
        keep: bool,
        out: View<'_>,
    ) -> Result<Option<Kept>> {
        let problem = Problem::new(self, arguments, out)?;
        let Problem {
            q,
            k,
            v,
            rows,
            keys,
            ..
        } = problem;
        let lse = keep.then(|| problem.numbers(stream)).transpose()?;
        let arguments = [
            Read(q.storage),
            Read(k.storage),
            Read(v.storage),
            problem.mask(),
            Write(out.storage),
            lse.as_ref().map_or(Absent, |lse| Write(&lse.storage)),
        ];
        let parameters = &problem.parameters;
        if problem.parameters.queries as usize <= FEW {
            let kernel = Kernel::new(&FORWARD, "attention_few", q.dtype());
            let kernel = problem.kernel(kernel, [keep, false], 0, &[]);
            // The kernel has room for 16; each gets eight keys or more.
            let simdgroups = keys.div_ceil(8).min(16);
            let grid = Grid {
                groups: [rows, problem.kv_heads, problem.batch],
                threads: simdgroups * LANES,
            };
            stream.dispatch(&kernel, &arguments, parameters, grid)?;
        } else {
            let blocks = Blocks::forward(rows, problem.size, problem.width);
            let kernel = Kernel::new(&FORWARD, "attention", q.dtype());
            let kernel = problem.kernel(kernel, [keep, false], blocks.block, &[q, k, v]);
            stream.dispatch(&kernel, &arguments, parameters, problem.grid(rows, &blocks))?;
        }
        Ok(lse.map(|lse| Box::new(lse) as Kept))
    }

    fn encode_backward(&self, stream: &Stream<'_>, pass: &Pass<'_>) -> Result<Gradients> {
        let (y, g) = (pass.result, pass.gradient);
        let problem = Problem::new(self, pass.arguments, y)?;
        let Problem {
            q,
            k,
            v,
            rows,
            keys,
            ..
        } = problem;
        let lse: &Owned = pass.kept("attention")?;
        let delta = problem.numbers(stream)?;
        let (dq, dk, dv) = (stream.fresh(q)?, stream.fresh(k)?, stream.fresh(v)?);
        let parameters = GradientParameters {
            of: problem.parameters,
            g: Place::of(g.layout),
            dq: Place::of(&dq.layout),
            dk: Place::of(&dk.layout),
            dv: Place::of(&dv.layout),
        };
        let encode = |rows, of_keys, results: [Argument<'_>; 4]| {
            let [y, delta, first, second] = results;
            let blocks = Blocks::backward(rows, problem.size, problem.width);
            let kernel = Kernel::new(&BACKWARD, "attention_gradient", q.dtype());
            let kernel = problem.kernel(kernel, [false, of_keys], blocks.block, &[q, k, v, g]);
            let arguments = [
                Read(q.storage),
                Read(k.storage),
                Read(v.storage),
                problem.mask(),
                Read(g.storage),
                y,
                Read(&lse.storage),
                delta,
                first,
                second,
            ];
            stream.dispatch(
                &kernel,
                &arguments,
                &parameters,
                problem.grid(rows, &blocks),
            )
        };
        // The second needs what the first leaves in delta.
        let (y, dq_there) = (Read(y.storage), Write(&dq.storage));
        encode(rows, false, [y, Write(&delta.storage), dq_there, Absent])?;
        if pass.wants(1) || pass.wants(2) {
            let (dk, dv) = (Write(&dk.storage), Write(&dv.storage));
            encode(keys, true, [Absent, Read(&delta.storage), dk, dv])?;
        }
        Ok(vec![Some(dq), Some(dk), Some(dv)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_head_fits() {
        for size in (8..=WIDEST).step_by(8) {
            for width in (8..=WIDEST).step_by(8) {
                let forward = Blocks::forward(1000, size, width);
                let backward = Blocks::backward(1000, size, width);
                for blocks in [forward, backward] {
                    assert!(
                        blocks.memory <= Blocks::MEMORY,
                        "{size} {width}: {blocks:?}"
                    );
                }
            }
        }
        assert_eq!(Blocks::forward(3, 8, 8).simdgroups, 1);
        // As the kernels' comments say.
        let choice = |blocks: Blocks| (blocks.simdgroups, blocks.block);
        assert_eq!(choice(Blocks::forward(1000, 64, 64)), (4, 32));
        assert_eq!(choice(Blocks::forward(1000, 128, 128)), (4, 8));
        assert_eq!(choice(Blocks::backward(1000, 64, 64)), (4, 16));
        assert_eq!(choice(Blocks::backward(1000, 128, 128)), (2, 8));
    }
}
