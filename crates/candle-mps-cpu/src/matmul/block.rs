//! One block of C, which stays in cache: packed, multiplied tile by tile, and finished.
//!
//! What several products share is a kernel of its own (`Step`, `Multiply`): inlined into each it would be
//! most of the crate.

use std::ops::Range;

use super::{
    Factor, Mat, Output,
    epilogue::Epilogue,
    pack,
    product::{Left, Product, Right, Term},
    scratch::{Buffer, Scratch},
};
use crate::{
    Element, V,
    simd::{
        Isa, Simd, Vector, WithSimd,
        gemm::{Block, Lie, Tile, a_stride, depth, height},
    },
    threads,
};

/// How a product is cut for caches.
pub(super) struct Blocks {
    /// Bytes of a row of A.
    depth: usize,
    /// Columns of B that are packed at once.
    pub columns: usize,
    /// Tiles of A that are packed at once.
    tiles: usize,
}

impl Blocks {
    /// A packed block of B fills half of a 1 MiB cache.
    pub const COMMON: Self = Self {
        depth: 1024,
        columns: if cfg!(test) { 64 } else { 512 },
        tiles: 12,
    };

    /// For many rows and the wide vectors of machines whose second cache has 1 MiB: a packed block of A
    /// fills half of that, and B comes through it from the third.
    const LARGE: Self = Self {
        depth: if cfg!(test) { 1024 } else { 4096 },
        columns: if cfg!(test) { 64 } else { 1024 },
        tiles: 8,
    };

    pub fn of<R: crate::Real, S: Simd>(rows: usize) -> Self {
        match V::<R, S>::LANES * size_of::<R>() {
            64 if rows >= 256 => Self::LARGE,
            _ => Self::COMMON,
        }
    }
}

/// Bytes from end to end of rows of A that are not packed.
const SMALL: usize = if cfg!(test) { 1 << 10 } else { 32 << 10 };

/// Columns of B for which turning A does not pay.
const TURN: usize = if cfg!(test) { 48 } else { 512 };

/// Rows for which B is not packed.
const RARE: usize = 14;

/// One block of C: all terms, all of their depth, and the epilogue.
#[inline(always)]
pub(super) fn block<T: Factor, O: Output<Acc = T::Acc>, S: Simd, const N: usize>(
    s: S,
    product: &Product<'_, T, O, N>,
    isa: Isa,
    rows: Range<usize>,
    cols: Range<usize>,
    mut out: Block<'_, O>,
) {
    let (height, width) = (rows.len(), cols.len());
    let Epilogue { accumulate, .. } = product.epilogue;
    let plain = product.epilogue.is_plain();
    // Sums go straight into C, unless C is rounded or its old value is needed after them.
    let direct = O::acc_block(&mut out).is_some() && (plain || !accumulate);
    let mut sums = if direct {
        None
    } else {
        Some(Buffer::<T::Acc>::new(height * width))
    };
    let mut add = direct && accumulate;
    let Blocks { tiles, .. } = Blocks::of::<T::Acc, S>(product.m);
    for term in &product.terms {
        for (k, pairs) in steps::<T, S>(product.m, term, isa) {
            let part = Part {
                k,
                rows: rows.clone(),
                cols: cols.clone(),
                add,
            };
            let target = target(&mut sums, &mut out);
            match (pairs, term.a) {
                (Some(proof), Left::Own(a)) => s.with(PairStep {
                    proof,
                    a,
                    b: term.b,
                    deep: term.depth,
                    part,
                    c: target,
                }),
                (None, Left::Own(a)) => s.with(Step {
                    tiles,
                    a,
                    b: term.b,
                    part,
                    c: target,
                }),
                (_, Left::Wide(a)) => s.with(Step {
                    tiles,
                    a,
                    b: term.b,
                    part,
                    c: target,
                }),
            }
            add = true;
        }
    }
    if !add {
        let mut target = target(&mut sums, &mut out);
        (0..height).for_each(|row| target.row(row).fill(T::Acc::ZERO));
    }
    if !(direct && plain) {
        for row in 0..height {
            let sums = sums
                .as_deref()
                .map(|sums| &sums[row * width..(row + 1) * width]);
            product.epilogue.row(s, cols.start, sums, out.row(row));
        }
    }
}

/// Where sums go: into memory of their own, or else straight into `out`.
#[inline(always)]
fn target<'a, O: Output<Acc: Scratch>>(
    sums: &'a mut Option<Buffer<O::Acc>>,
    out: &'a mut Block<'_, O>,
) -> Block<'a, O::Acc> {
    let (rows, cols) = (out.rows(), out.cols());
    match (sums, O::acc_block(out)) {
        (Some(sums), _) => Block::new(sums, rows, cols, cols),
        (None, Some(block)) => block,
        (None, None) => unreachable!("only a type that sums are kept in has none"),
    }
}

/// A block along k of a block of C.
struct Part {
    k: Range<usize>,
    rows: Range<usize>,
    cols: Range<usize>,
    add: bool,
}

/// Proof that bf16 is multiplied in pairs.
#[cfg(target_arch = "x86_64")]
pub(super) type Pairs = crate::simd::Avx512Bf16;
#[cfg(not(target_arch = "x86_64"))]
pub(super) type Pairs = std::convert::Infallible;

/// The proof for `isa` and `T`, where they have it.
pub(super) fn pairs_of<T: Factor>(isa: Isa) -> Option<Pairs> {
    match isa {
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(s) if T::as_bf16(&[]).is_some() => Pairs::detect(s),
        _ => None,
    }
}

/// The blocks along k of a depth: equal, and not longer than a tile takes. In pairs where those are used.
/// `rows` of A, or for packing ahead as many as there may be.
pub(super) fn cut<T: Factor, S: Simd>(
    rows: usize,
    deep: usize,
    pairs: Option<Pairs>,
) -> impl Iterator<Item = (Range<usize>, Option<Pairs>)> {
    let (units, most) = match pairs {
        Some(_) => (deep.div_ceil(2), depth::<u32>()),
        None => {
            let bytes = Blocks::of::<T::Acc, S>(rows).depth;
            (deep, bytes / size_of::<T::Acc>())
        }
    };
    let count = units.div_ceil(most);
    (0..count).map(move |index| (threads::part(units, count, index), pairs))
}

fn steps<T: Factor, S: Simd>(
    rows: usize,
    term: &Term<'_, T>,
    isa: Isa,
) -> impl Iterator<Item = (Range<usize>, Option<Pairs>)> {
    let pairs = match (term.a, term.b) {
        (Left::Wide(_), _) | (_, Right::Wide(_)) => None,
        _ => pairs_of::<T>(isa),
    };
    let rows = match term.b {
        Right::Packed(_) => usize::MAX,
        _ => rows,
    };
    cut::<T, S>(rows, term.depth, pairs)
}

/// The rows of a block in parts that fit the cache when packed, or a register tile.
fn parts_of(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let count = rows.div_ceil(most);
    (0..count).map(move |index| threads::part(rows, count, index))
}

/// C = A·B, or C + A·B, from packed rows and panels. A kernel of its own, which all callers share.
pub(crate) struct Multiply<'a, R> {
    /// At `a_stride`.
    pub rows: &'a [R],
    pub panels: &'a [R],
    /// The elements and columns that the panels hold. Used are the first ones: `depth` elements, and as
    /// many columns as C has.
    pub packed: (usize, usize),
    pub depth: usize,
    pub c: Block<'a, R>,
    pub add: bool,
}

impl<R: crate::Real> WithSimd for Multiply<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (lanes, panel) = (V::<R, S>::LANES, pack::panel::<R, S>());
        let (tall, stride) = (height::<R, S>(), a_stride::<R>());
        let ((deepest, packed), mut c) = (self.packed, self.c);
        let (rows, cols) = (c.rows(), c.cols());
        for left in (0..cols).step_by(panel) {
            let right = cols.min(left + panel);
            let b_stride = pack::padded(panel.min(packed - left), lanes);
            let b = &self.panels[left * deepest..][..b_stride * deepest];
            for tile in parts_of(rows, tall) {
                let a = &self.rows[tile.start * stride..];
                let c = c.part(tile, left..right);
                Tile {
                    a,
                    lie: Lie::Rows(stride),
                    b,
                    b_stride,
                    depth: self.depth,
                    c,
                    add: self.add,
                }
                .run(s);
            }
        }
    }
}

/// A block of B that tiles may read where it is, with the distance of its rows: whole vectors, and so
/// small that it stays in cache, or used so little that packing would not pay.
#[inline(always)]
fn as_it_lies<'a, T: Factor>(
    b: Mat<'a, T>,
    k: &Range<usize>,
    cols: &Range<usize>,
    rows: usize,
    lanes: usize,
) -> Option<(&'a [T::Acc], usize)> {
    let small = rows <= 128 && k.len() * b.rs * size_of::<T>() <= 64 << 10;
    if b.cs == 1 && cols.len().is_multiple_of(lanes) && (small || rows <= RARE) {
        return Some((T::as_acc(&b.data[k.start * b.rs + cols.start..])?, b.rs));
    }
    None
}

/// Rows of A that tiles may read where they are, with their distance: few bytes from end to end.
#[inline(always)]
fn lying_rows<'a, E: Output>(
    a: Mat<'a, E>,
    rows: &Range<usize>,
    k: &Range<usize>,
) -> Option<(&'a [E::Acc], usize)> {
    if a.cs == 1 && rows.len() * a.rs * size_of::<E>() <= SMALL {
        return Some((E::as_acc(&a.data[rows.start * a.rs + k.start..])?, a.rs));
    }
    None
}

/// Packs and multiplies one block, widened. A kernel of its own, which all products share.
struct Step<'a, T: Factor, E> {
    /// Tiles of A that are packed at once.
    tiles: usize,
    a: Mat<'a, E>,
    b: Right<'a, T>,
    part: Part,
    c: Block<'a, T::Acc>,
}

impl<T: Factor, E: Output<Acc = T::Acc>> WithSimd for Step<'_, T, E> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Self {
            tiles,
            a,
            b,
            part,
            mut c,
        } = self;
        let Part { k, rows, cols, add } = part;
        let (lanes, panel) = (V::<T::Acc, S>::LANES, pack::panel::<T::Acc, S>());
        let mut own;
        let mut direct = None;
        let packed = match b {
            Right::Own(b) => {
                direct = as_it_lies(b, &k, &cols, rows.len(), lanes);
                let len = if direct.is_some() {
                    0
                } else {
                    pack::padded(cols.len(), lanes)
                };
                own = Buffer::new(k.len() * len);
                if direct.is_none() {
                    pack::cols(s, b, k.clone(), cols.clone(), &mut own);
                }
                &own[..]
            }
            Right::Wide(b) => {
                own = Buffer::new(k.len() * pack::padded(cols.len(), lanes));
                pack::cols(s, b, k.clone(), cols.clone(), &mut own);
                &own[..]
            }
            Right::Packed(b) => b.wide(k.clone(), cols.clone()),
        };
        let tall = height::<T::Acc, S>();
        let block = tiles * tall;
        let lying = lying_rows(a, &rows, &k);
        let turn = a.cs != 1 || cols.len() > TURN;
        let stride = pack::odd_lines::<T::Acc>(k.len());
        let mut a_packed = Buffer::new(match lying {
            Some(_) => 0,
            None if turn => rows.len().min(block) * k.len(),
            None => rows.len().min(block) * stride,
        });
        for few in parts_of(rows.len(), block) {
            let tiles = parts_of(few.len(), tall);
            let first = rows.start + few.start;
            match lying {
                Some(_) => {}
                None if turn => pack::tiles(s, a, first, tiles.clone(), k.clone(), &mut a_packed),
                None => {
                    let range = first..first + few.len();
                    pack::rows(s, a, range, k.clone(), stride, &mut a_packed);
                }
            }
            for left in (0..cols.len()).step_by(panel) {
                let right = cols.len().min(left + panel);
                let (b, b_stride) = match direct {
                    Some((b, stride)) => (&b[left..], stride),
                    None => {
                        let stride = pack::padded(right - left, lanes);
                        (&packed[left * k.len()..][..stride * k.len()], stride)
                    }
                };
                for tile in tiles.clone() {
                    let (a, lie) = match lying {
                        Some((a, stride)) => {
                            let start = (few.start + tile.start) * stride;
                            (&a[start..], Lie::Rows(stride))
                        }
                        None if turn => (&a_packed[tile.start * k.len()..], Lie::Columns),
                        None => (&a_packed[tile.start * stride..], Lie::Rows(stride)),
                    };
                    let c = c.part(few.start + tile.start..few.start + tile.end, left..right);
                    Tile {
                        a,
                        lie,
                        b,
                        b_stride,
                        depth: k.len(),
                        c,
                        add,
                    }
                    .run(s);
                }
            }
        }
    }
}

/// Packs and multiplies one block in pairs of bf16.
#[cfg_attr(
    not(target_arch = "x86_64"),
    allow(dead_code, reason = "only AVX-512 multiplies pairs")
)]
struct PairStep<'a, T: Factor> {
    proof: Pairs,
    a: Mat<'a, T>,
    b: Right<'a, T>,
    /// In elements.
    deep: usize,
    part: Part,
    c: Block<'a, T::Acc>,
}

#[cfg(not(target_arch = "x86_64"))]
impl<T: Factor> WithSimd for PairStep<'_, T> {
    type Output = ();

    fn run<S: Simd>(self, _: S) {
        match self.proof {}
    }
}

#[cfg(target_arch = "x86_64")]
impl<T: Factor> WithSimd for PairStep<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        use crate::simd::{PAIR_HEIGHT, PairTile};

        let Self {
            proof,
            a,
            b,
            deep,
            part,
            c,
        } = self;
        let Part { k, rows, cols, add } = part;
        let (lanes, panel) = (16, 32);
        let (Some(a), Some(mut c)) = (a.as_bf16(), T::f32_block(c)) else {
            unreachable!("pairs are of bf16, which is summed in f32");
        };
        let mut own;
        let packed = match b {
            Right::Own(b) => {
                let Some(b) = b.as_bf16() else {
                    unreachable!("of the same type as A")
                };
                own = Buffer::new(k.len() * pack::padded(cols.len(), lanes));
                pack::pair_cols(b, deep, k.clone(), cols.clone(), &mut own);
                &own[..]
            }
            Right::Wide(_) => unreachable!("not multiplied in pairs"),
            Right::Packed(b) => b.pairs(k.clone(), cols.clone()),
        };
        let (tall, stride) = (PAIR_HEIGHT, a_stride::<u32>());
        let mut a_packed = Buffer::new(rows.len().min(12 * tall) * stride);
        for few in parts_of(rows.len(), 12 * tall) {
            let range = rows.start + few.start..rows.start + few.end;
            pack::pair_rows(a, deep, range, k.clone(), &mut a_packed);
            for left in (0..cols.len()).step_by(panel) {
                let right = cols.len().min(left + panel);
                let b_stride = pack::padded(right - left, lanes);
                let b = &packed[left * k.len()..][..b_stride * k.len()];
                for tile in parts_of(few.len(), tall) {
                    let a = &a_packed[tile.start * stride..];
                    let c = c.part(few.start + tile.start..few.start + tile.end, left..right);
                    PairTile {
                        a,
                        b,
                        b_stride,
                        depth: k.len(),
                        c,
                        add,
                    }
                    .run(proof);
                }
            }
        }
    }
}
