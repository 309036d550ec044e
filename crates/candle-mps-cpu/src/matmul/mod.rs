//! C = act(scale · A·B + bias), or C += that: the product of matrices, batched.
//! <https://en.wikipedia.org/wiki/Matrix_multiplication>
//!
//! A and B have any strides: a transposed view is read as it lies, and dimensions that repeat (stride
//! 0, or a batch dimension of 1) are not copied. f16 and bf16 are summed in f32 and rounded once; on
//! AVX-512 with BF16, bf16 is multiplied in pairs. How it works and why no library does it:
//! `docs/gemm.md`.
//!
//! **Backward.** With G the gradient of A·B, dA = G·Bᵀ and dB = Aᵀ·G: two products of transposed views,
//! which cost no copy here, so there is no function for it.
//!
//! **Accuracy.** |error| ≤ 1e-5 · (|A|·|B|), elementwise, in f32. Results depend on the shape, the
//! strides and the instruction set, not on the number of threads.

pub(crate) mod block;
mod epilogue;
pub(crate) mod few;
pub(crate) mod pack;
pub(crate) mod product;
mod scratch;

use half::{bf16, f16};

use crate::{
    Element, Error, Layout, Result, V,
    simd::{Isa, Simd, Vector, WithSimd, gemm::Block, isa},
};

pub use epilogue::Activation;
pub(crate) use epilogue::Epilogue;
pub(crate) use product::{Left, Right, Term, run};
pub(crate) use scratch::Buffer;
pub use scratch::Scratch;

/// What else happens to a product before it is stored.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a, T> {
    /// The product is multiplied by this: attention's 1/√d, LoRA's α/r.
    pub scale: f64,
    /// Added to each row after scaling, one element for each column: a linear layer's bias.
    pub bias: Option<&'a [T]>,
    /// Applied after the bias.
    pub activation: Activation,
    /// The result is added to what is in the output, after everything else: gradients that add up.
    pub accumulate: bool,
}

impl<T> Default for Options<'_, T> {
    fn default() -> Self {
        Self {
            scale: 1.,
            bias: None,
            activation: Activation::None,
            accumulate: false,
        }
    }
}

impl<'a, T: Element> Options<'a, T> {
    fn epilogue(&self, op: &'static str, n: usize) -> Result<Epilogue<'a, T>> {
        if let Some(bias) = self.bias {
            check_len(op, "bias", n, bias.len())?;
        }
        Ok(Epilogue {
            scale: T::Acc::from_f64(self.scale),
            bias: self.bias,
            activation: self.activation,
            accumulate: self.accumulate,
        })
    }
}

/// Refuses a slice that has not exactly `expected` elements.
pub(crate) fn check_len(
    op: &'static str,
    argument: &'static str,
    expected: usize,
    got: usize,
) -> Result<()> {
    if expected == got {
        Ok(())
    } else {
        Err(Error::Length {
            op,
            argument,
            expected,
            got,
        })
    }
}

/// A type that matrices are made of.
pub trait Factor: Output<Acc: Scratch + Output> {
    #[doc(hidden)]
    fn as_bf16(_: &[Self]) -> Option<&[bf16]> {
        None
    }
    #[doc(hidden)]
    fn f32_block(_: Block<'_, Self::Acc>) -> Option<Block<'_, f32>> {
        None
    }
    /// Gives C = scale · A·B (+ C) to Accelerate, where there is one that takes it.
    #[doc(hidden)]
    fn accelerated(_: Plain<'_, Self>, _: &mut [Self]) -> bool {
        false
    }
}

/// The arguments of a product without bias and activation.
#[doc(hidden)]
#[derive(Debug)]
#[cfg_attr(
    not(any(test, all(feature = "accelerate", target_vendor = "apple"))),
    allow(dead_code, reason = "only Accelerate reads them")
)]
pub struct Plain<'a, T: Element> {
    sizes: (usize, usize, usize),
    scale: T::Acc,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    accumulate: bool,
}

macro_rules! accelerated {
    ($($t:ty)*) => {
        $(impl Factor for $t {
            #[cfg(any(test, all(feature = "accelerate", target_vendor = "apple")))]
            fn accelerated(plain: Plain<'_, $t>, c: &mut [$t]) -> bool {
                use crate::simd::accelerate::{Factor, product, wanted};

                let factor = |Mat { data, rs, cs }| Factor { data, rs, cs };
                let (a, b) = (factor(plain.a), factor(plain.b));
                let beta = if plain.accumulate { 1. } else { 0. };
                wanted() && product(plain.sizes, plain.scale, a, b, beta, c)
            }
        })*
    };
}
accelerated!(f32 f64);
impl Factor for f16 {}
impl Factor for bf16 {
    fn as_bf16(elements: &[bf16]) -> Option<&[bf16]> {
        Some(elements)
    }
    fn f32_block(block: Block<'_, f32>) -> Option<Block<'_, f32>> {
        Some(block)
    }
}

/// A type that results have.
pub trait Output: Element {
    /// The block itself, for a type in which sums are kept.
    #[doc(hidden)]
    fn acc_block<'a>(_: &'a mut Block<'_, Self>) -> Option<Block<'a, Self::Acc>> {
        None
    }
}

impl Output for f16 {}
impl Output for bf16 {}
impl Output for f32 {
    fn acc_block<'a>(block: &'a mut Block<'_, f32>) -> Option<Block<'a, f32>> {
        let (rows, cols) = (block.rows(), block.cols());
        Some(block.part(0..rows, 0..cols))
    }
}
impl Output for f64 {
    fn acc_block<'a>(block: &'a mut Block<'_, f64>) -> Option<Block<'a, f64>> {
        let (rows, cols) = (block.rows(), block.cols());
        Some(block.part(0..rows, 0..cols))
    }
}

/// A matrix in a slice, whose layout has been checked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mat<'a, E> {
    /// From the first element on.
    pub data: &'a [E],
    /// The distance of rows.
    pub rs: usize,
    /// The distance of columns.
    pub cs: usize,
}

impl<'a, E: Element> Mat<'a, E> {
    /// The matrix of two axes of a checked layout, from its first element on. A distance beyond the
    /// slice belongs to a row or a column that is alone, and leads nowhere: it is cut, so that counting
    /// with it does not overflow.
    pub fn new(data: &'a [E], layout: &Layout<'_>, [rows, cols]: [usize; 2]) -> Self {
        let distance = |axis| layout.stride(axis).min(data.len());
        Self {
            data,
            rs: distance(rows),
            cs: distance(cols),
        }
    }

    #[inline(always)]
    pub fn at(self, row: usize, col: usize) -> E {
        self.data[row * self.rs + col * self.cs]
    }

    #[inline(always)]
    pub fn run(self, start: usize, len: usize) -> &'a [E] {
        &self.data[start..start + len]
    }

    /// Without the rows before `row`; none may be left.
    pub fn below(self, row: usize) -> Self {
        Self {
            data: self.data.get(row * self.rs..).unwrap_or(&[]),
            ..self
        }
    }

    pub fn transposed(self) -> Self {
        Self {
            rs: self.cs,
            cs: self.rs,
            ..self
        }
    }
}

impl<'a, T: Factor> Mat<'a, T> {
    fn as_bf16(self) -> Option<Mat<'a, bf16>> {
        Some(Mat {
            data: T::as_bf16(self.data)?,
            rs: self.rs,
            cs: self.cs,
        })
    }
}

/// The matrices of a batched operand.
#[derive(Debug, Clone)]
struct Stack<'a, T> {
    data: &'a [T],
    layout: Layout<'a>,
    rows: usize,
    cols: usize,
}

impl<'a, T: Element> Stack<'a, T> {
    fn new(
        op: &'static str,
        argument: &'static str,
        data: &'a [T],
        layout: &Layout<'a>,
    ) -> Result<Self> {
        let rank = layout.rank();
        if rank < 2 {
            return Err(Error::Rank {
                op,
                argument,
                least: 2,
                got: rank,
            });
        }
        layout.check(op, argument, data.len())?;
        let [.., rows, cols] = *layout.dims() else {
            unreachable!("the rank is at least 2")
        };
        Ok(Self {
            data,
            layout: *layout,
            rows,
            cols,
        })
    }

    fn batch(&self) -> &'a [usize] {
        &self.layout.dims()[..self.layout.rank() - 2]
    }

    /// The matrix at `index` of the row-major order of `batch`, to which this operand is broadcast.
    fn at(&self, mut index: usize, batch: &[usize]) -> Mat<'a, T> {
        let rank = self.layout.rank();
        let mut start = self.layout.offset();
        let own = self.batch();
        for (axis, &dim) in batch.iter().enumerate().rev() {
            let place = index % dim;
            index /= dim;
            if let Some(axis) = (axis + own.len()).checked_sub(batch.len())
                && own[axis] != 1
            {
                start += place * self.layout.stride(axis);
            }
        }
        let data = self.data.get(start..).unwrap_or(&[]);
        Mat::new(data, &self.layout, [rank - 2, rank - 1])
    }
}

/// A matrix of exactly two dimensions, and those.
pub(crate) fn matrix<'a, T: Element>(
    op: &'static str,
    argument: &'static str,
    data: &'a [T],
    layout: &Layout<'_>,
) -> Result<(Mat<'a, T>, [usize; 2])> {
    let &[rows, cols] = layout.dims() else {
        if layout.rank() < 2 {
            let got = layout.rank();
            return Err(Error::Rank {
                op,
                argument,
                least: 2,
                got,
            });
        }
        let cols = layout.dims().last().map_or(1, |&cols| cols);
        let expected = vec![layout.count() / cols.max(1), cols];
        return Err(Error::Dims {
            op,
            argument,
            expected,
            got: layout.dims().to_vec(),
        });
    };
    layout.check(op, argument, data.len())?;
    let data = data.get(layout.offset()..).unwrap_or(&[]);
    Ok((Mat::new(data, layout, [0, 1]), [rows, cols]))
}

/// The batch dimensions of a product: right-aligned, equal or 1.
fn broadcast(op: &'static str, a: &[usize], b: &[usize]) -> Result<Vec<usize>> {
    let (long, short) = if a.len() >= b.len() { (a, b) } else { (b, a) };
    let ahead = long.len() - short.len();
    let mut dims = long.to_vec();
    for (dim, &other) in dims[ahead..].iter_mut().zip(short) {
        match (*dim, other) {
            (x, y) if x == y => {}
            (1, y) => *dim = y,
            (_, 1) => {}
            _ => {
                let (expected, got) = (a.to_vec(), b.to_vec());
                return Err(Error::Dims {
                    op,
                    argument: "b",
                    expected,
                    got,
                });
            }
        }
    }
    Ok(dims)
}

/// The length of the output: the batch times m x n.
fn output(dims: &[usize], m: usize, n: usize) -> Result<(usize, usize)> {
    let product = |dims: &[usize]| {
        dims.iter()
            .try_fold(1usize, |all, &dim| all.checked_mul(dim))
    };
    let empty = dims.contains(&0) || m == 0 || n == 0;
    let batch = if dims.contains(&0) {
        Some(0)
    } else {
        product(dims)
    };
    let len = batch.and_then(|batch| {
        if empty {
            Some(0)
        } else {
            product(&[batch, m, n])
        }
    });
    batch.zip(len).ok_or_else(|| Error::SizeOverflow {
        argument: "out",
        dims: [dims, &[m, n]].concat(),
    })
}

/// Writes act(scale · A·B + bias) to `out`, in row-major order, or adds it.
///
/// `a` is [.., m, k] and `b` [.., k, n]; the dimensions before the last two are equal, 1 or missing,
/// and `out` has the larger ones.
///
/// # Errors
/// When an operand has fewer than two dimensions or a layout that does not fit its slice, when
/// dimensions or the lengths of `bias` or `out` do not match.
pub fn matmul<T: Factor>(
    a: (&[T], &Layout),
    b: (&[T], &Layout),
    options: &Options<T>,
    out: &mut [T],
) -> Result<()> {
    let op = "matmul";
    let (a, b) = (
        Stack::new(op, "a", a.0, a.1)?,
        Stack::new(op, "b", b.0, b.1)?,
    );
    let (m, depth, n) = (a.rows, a.cols, b.cols);
    if b.rows != depth {
        let (expected, got) = (vec![depth, n], vec![b.rows, n]);
        return Err(Error::Dims {
            op,
            argument: "b",
            expected,
            got,
        });
    }
    check_depth("a", depth, [a.data.len(), b.data.len()])?;
    let dims = broadcast(op, a.batch(), b.batch())?;
    let (batch, len) = output(&dims, m, n)?;
    check_len(op, "out", len, out.len())?;
    let epilogue = options.epilogue(op, n)?;
    let isa = isa()?;

    // One B for all, and the rows of A's matrices in one row of rows: one product.
    let folded = batch > 1 && b.batch().iter().all(|&dim| dim == 1) && folds(&a, &dims);
    let (batch, m) = if folded { (1, batch * m) } else { (batch, m) };

    let dims = if folded { &[][..] } else { &dims[..] };
    let plain = |index| Plain {
        sizes: (m, n, depth),
        scale: epilogue.scale,
        a: a.at(index, dims),
        b: b.at(index, dims),
        accumulate: epilogue.accumulate,
    };
    // The matrices of a batch have the same strides, so Accelerate takes all of them or none.
    let mut matrices = out.chunks_exact_mut((m * n).max(1)).enumerate();
    if epilogue.is_linear() && matrices.all(|(index, c)| T::accelerated(plain(index), c)) {
        return Ok(());
    }
    // A column is computed as a row, which reads A in its order.
    if n == 1 && m > 1 && epilogue.bias.is_none() {
        let terms = |index| {
            let (a, b) = (a.at(index, dims), b.at(index, dims));
            let (a, b) = (Left::Own(b.transposed()), Right::Own(a.transposed()));
            [Term { a, b, depth }]
        };
        run(batch, isa, out, (1, m), &terms, epilogue);
    } else {
        let terms = |index| {
            let (a, b) = (Left::Own(a.at(index, dims)), Right::Own(b.at(index, dims)));
            [Term { a, b, depth }]
        };
        run(batch, isa, out, (m, n), &terms, epilogue);
    }
    Ok(())
}

/// Refuses a depth that both factors only repeat, by strides of 0: no slice bounds it, and a row of it may
/// be copied.
pub(crate) fn check_depth(argument: &'static str, depth: usize, lens: [usize; 2]) -> Result<()> {
    const MOST: usize = 1 << 28;
    if depth > MOST && lens.iter().all(|&len| depth > len) {
        let dims = vec![depth];
        return Err(Error::SizeOverflow { argument, dims });
    }
    Ok(())
}

/// Whether the matrices of `a` follow each other at the distance of m rows.
fn folds<T: Element>(a: &Stack<'_, T>, dims: &[usize]) -> bool {
    if a.batch() != dims {
        return false;
    }
    let rank = a.layout.rank();
    // Strides of dimensions of size 1 may be anything, so the products may not fit: wrapped, they
    // are no stride of a checked layout unless they are the right one.
    let mut expected = a.layout.stride(rank - 2).wrapping_mul(a.rows);
    (0..rank - 2).rev().all(|axis| {
        let dim = a.layout.dims()[axis];
        let fits = dim == 1 || a.layout.stride(axis) == expected;
        expected = expected.wrapping_mul(dim);
        fits
    })
}

/// A matrix with no more elements than this is packed even if it repeats those of a shorter slice.
const MOST_PACKED: usize = 1 << 28;

/// A matrix in the order in which products read it: for weights that are used many times.
#[derive(Debug, Clone)]
pub struct PackedB<T: Factor> {
    rows: usize,
    cols: usize,
    /// The columns as packed: whole vectors.
    padded: usize,
    isa: Isa,
    data: Packed<T::Acc>,
}

#[derive(Debug, Clone)]
enum Packed<R> {
    Wide(Vec<R>),
    #[cfg_attr(
        not(target_arch = "x86_64"),
        allow(dead_code, reason = "only AVX-512 multiplies pairs")
    )]
    Pairs(Vec<u32>),
}

impl<T: Factor> PackedB<T> {
    /// Packs `b`, [k, n], for the instruction set in use.
    ///
    /// # Errors
    /// When `b` has not two dimensions, a layout that does not fit its slice, or is a large one that
    /// mostly repeats elements by strides of 0: its packed copy would repeat them in memory.
    pub fn new(b: &[T], layout: &Layout) -> Result<Self> {
        let stack = Stack::new("pack", "b", b, layout)?;
        layout.check_dims("pack", "b", &[stack.rows, stack.cols])?;
        if layout.count() > MOST_PACKED.max(b.len()) {
            let (argument, dims) = ("b", layout.dims().to_vec());
            return Err(Error::SizeOverflow { argument, dims });
        }
        let isa = isa()?;
        Ok(isa.run(Packing {
            b: stack.at(0, &[]),
            rows: stack.rows,
            cols: stack.cols,
            isa,
        }))
    }

    /// k.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// n.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// A block whose columns start at a panel: `k` is one of the blocks of the depth.
    fn wide(&self, k: std::ops::Range<usize>, cols: std::ops::Range<usize>) -> &[T::Acc] {
        let Packed::Wide(data) = &self.data else {
            unreachable!("packed by the same rule")
        };
        &data[k.start * self.padded + cols.start * k.len()..]
    }

    #[cfg(target_arch = "x86_64")]
    fn pairs(&self, k: std::ops::Range<usize>, cols: std::ops::Range<usize>) -> &[u32] {
        let Packed::Pairs(data) = &self.data else {
            unreachable!("packed by the same rule")
        };
        &data[k.start * self.padded + cols.start * k.len()..]
    }
}

struct Packing<'a, T> {
    b: Mat<'a, T>,
    rows: usize,
    cols: usize,
    isa: Isa,
}

impl<T: Factor> WithSimd for Packing<'_, T> {
    type Output = PackedB<T>;

    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> PackedB<T> {
        let Self { b, rows, cols, isa } = self;
        let padded = pack::padded(cols, V::<T::Acc, S>::LANES);
        let pairs = block::pairs_of::<T>(isa);
        // A matrix without columns may have any number of rows.
        let filled = if cols == 0 { 0 } else { rows };
        let blocks = block::cut::<T, S>(usize::MAX, filled, pairs);
        let data = match (pairs, b.as_bf16()) {
            (Some(_), Some(b)) => {
                let mut data = vec![0; rows.div_ceil(2) * padded];
                for (k, _) in blocks {
                    let block = &mut data[k.start * padded..k.end * padded];
                    pack::pair_cols(b, rows, k, 0..cols, block);
                }
                Packed::Pairs(data)
            }
            _ => {
                let mut data = vec![T::Acc::ZERO; rows * padded];
                for (k, _) in blocks {
                    let block = &mut data[k.start * padded..k.end * padded];
                    pack::cols(s, b, k, 0..cols, block);
                }
                Packed::Wide(data)
            }
        };
        PackedB {
            rows,
            cols,
            padded,
            isa,
            data,
        }
    }
}

/// As [`matmul`], with a `b` that was packed before: no packing, and B's memory read in its order.
///
/// `a` is [.., m, k]; `out` is [.., m, n]. The instruction set is the one that `b` was packed for.
///
/// # Errors
/// As [`matmul`].
pub fn matmul_packed<T: Factor>(
    a: (&[T], &Layout),
    b: &PackedB<T>,
    options: &Options<T>,
    out: &mut [T],
) -> Result<()> {
    let op = "matmul_packed";
    let a = Stack::new(op, "a", a.0, a.1)?;
    let (m, depth, n) = (a.rows, a.cols, b.cols);
    if depth != b.rows {
        let (expected, got) = (vec![m, b.rows], vec![m, depth]);
        return Err(Error::Dims {
            op,
            argument: "a",
            expected,
            got,
        });
    }
    let dims = a.batch();
    let (batch, len) = output(dims, m, n)?;
    check_len(op, "out", len, out.len())?;
    let epilogue = options.epilogue(op, n)?;
    let folded = batch > 1 && folds(&a, dims);
    let (batch, m, dims) = if folded {
        (1, batch * m, &[][..])
    } else {
        (batch, m, dims)
    };
    let terms = |index| {
        [Term {
            a: Left::Own(a.at(index, dims)),
            b: Right::Packed(b),
            depth,
        }]
    };
    run(batch, b.isa, out, (m, n), &terms, epilogue);
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
