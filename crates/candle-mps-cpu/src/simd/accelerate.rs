//! Plain products by Apple's Accelerate, which reaches the matrix units of Apple's processors that no
//! instruction of Rust's does: the feature `accelerate`, on Apple's systems only.
//! <https://developer.apple.com/documentation/accelerate/blas>
//!
//! Nobody here can run it, so tests run everything but Apple's two functions: in their place stand
//! loops with the arguments that the standard gives to `cblas_sgemm` and `cblas_dgemm`.

use std::ffi::c_int;

use crate::Real;

/// CBLAS's names for the order of a matrix's elements.
const ROW_MAJOR: c_int = 101;
const AS_IT_LIES: c_int = 111;
const TRANSPOSED: c_int = 112;

/// The arguments of a product of R, as CBLAS has them: C = alpha·A·B + beta·C.
type Gemm<R> = unsafe extern "C" fn(
    order: c_int,
    turn_a: c_int,
    turn_b: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: R,
    a: *const R,
    lda: c_int,
    b: *const R,
    ldb: c_int,
    beta: R,
    c: *mut R,
    ldc: c_int,
);

/// A type whose products Accelerate computes.
pub(crate) trait Blas: Real {
    /// Its function.
    const GEMM: Gemm<Self>;
}

#[cfg(not(test))]
macro_rules! functions {
    ($($name:ident: $t:ty;)*) => {
        #[link(name = "Accelerate", kind = "framework")]
        unsafe extern "C" {
            $(fn $name(
                order: c_int,
                turn_a: c_int,
                turn_b: c_int,
                m: c_int,
                n: c_int,
                k: c_int,
                alpha: $t,
                a: *const $t,
                lda: c_int,
                b: *const $t,
                ldb: c_int,
                beta: $t,
                c: *mut $t,
                ldc: c_int,
            );)*
        }
    };
}

#[cfg(not(test))]
functions! {
    cblas_sgemm: f32;
    cblas_dgemm: f64;
}

#[cfg(test)]
use stand_in::{gemm as cblas_dgemm, gemm as cblas_sgemm};

impl Blas for f32 {
    const GEMM: Gemm<f32> = cblas_sgemm;
}

impl Blas for f64 {
    const GEMM: Gemm<f64> = cblas_dgemm;
}

/// A factor: rows at `rs`, columns at `cs`, from the first element on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Factor<'a, R> {
    pub data: &'a [R],
    pub rs: usize,
    pub cs: usize,
}

impl<R> Factor<'_, R> {
    /// How CBLAS names these strides: turned or not, and the distance of its lines. `None` where it
    /// has no name for them, or the elements are not all there.
    fn order(&self, rows: usize, cols: usize) -> Option<(c_int, c_int)> {
        let (turn, lines, len, stride) = if self.cs == 1 || cols == 1 {
            (AS_IT_LIES, rows, cols, self.rs)
        } else if self.rs == 1 || rows == 1 {
            (TRANSPOSED, cols, rows, self.cs)
        } else {
            return None;
        };
        // The distance of one line from nothing may be anything, but not less than its length.
        let stride = if lines == 1 { len } else { stride };
        let end = (lines - 1).checked_mul(stride)?.checked_add(len)?;
        (stride >= len && end <= self.data.len()).then_some((turn, c_int::try_from(stride).ok()?))
    }
}

/// C = alpha·A·B + beta·C for a row-major C without gaps. False, and nothing done, where the arguments
/// are not CBLAS's: strides, sizes beyond 2³¹, or nothing to multiply.
pub(crate) fn product<R: Blas>(
    (m, n, k): (usize, usize, usize),
    alpha: R,
    a: Factor<'_, R>,
    b: Factor<'_, R>,
    beta: R,
    c: &mut [R],
) -> bool {
    // CBLAS skips a product by zero, and with it the NaN that it may have.
    if m == 0 || n == 0 || k == 0 || alpha == R::ZERO || m.checked_mul(n) != Some(c.len()) {
        return false;
    }
    let sizes = [m, n, k].map(c_int::try_from);
    let (orders, [Ok(rows), Ok(cols), Ok(depth)]) = ((a.order(m, k), b.order(k, n)), sizes) else {
        return false;
    };
    let (Some((turn_a, lda)), Some((turn_b, ldb))) = orders else {
        return false;
    };
    // SAFETY: `order` has checked that both factors have all elements at these strides, and C has
    // m x n of its own.
    unsafe {
        R::GEMM(
            ROW_MAJOR,
            turn_a,
            turn_b,
            rows,
            cols,
            depth,
            alpha,
            a.data.as_ptr(),
            lda,
            b.data.as_ptr(),
            ldb,
            beta,
            c.as_mut_ptr(),
            cols,
        );
    }
    true
}

/// Whether products come here at all: in tests, when they say so.
pub(crate) fn wanted() -> bool {
    #[cfg(test)]
    return stand_in::TAKEN.get().is_some();
    #[cfg(not(test))]
    true
}

#[cfg(test)]
pub(crate) mod stand_in {
    use std::cell::Cell;

    use super::*;

    thread_local! {
        /// How many products came here since this thread asked for it.
        pub(super) static TAKEN: Cell<Option<usize>> = const { Cell::new(None) };
    }

    /// Runs `f` with this thread's products in these loops, and tells how many there were.
    pub fn with(f: impl FnOnce()) -> usize {
        TAKEN.set(Some(0));
        f();
        TAKEN.take().unwrap_or(0)
    }

    /// What CBLAS documents, in loops.
    pub unsafe extern "C" fn gemm<R: Real>(
        order: c_int,
        turn_a: c_int,
        turn_b: c_int,
        m: c_int,
        n: c_int,
        k: c_int,
        alpha: R,
        a: *const R,
        lda: c_int,
        b: *const R,
        ldb: c_int,
        beta: R,
        c: *mut R,
        ldc: c_int,
    ) {
        TAKEN.set(TAKEN.get().map(|taken| taken + 1));
        assert_eq!(order, ROW_MAJOR);
        assert!(lda >= if turn_a == TRANSPOSED { m } else { k });
        assert!(ldb >= if turn_b == TRANSPOSED { k } else { n });
        assert!(ldc >= n);
        let at = |turn, row: c_int, col: c_int, stride: c_int| match turn {
            AS_IT_LIES => (row * stride + col) as usize,
            TRANSPOSED => (col * stride + row) as usize,
            _ => panic!("{turn} is no order"),
        };
        for i in 0..m {
            for j in 0..n {
                let mut sum = R::ZERO;
                for l in 0..k {
                    // SAFETY: the caller's: both factors have their elements.
                    let (x, y) =
                        unsafe { (*a.add(at(turn_a, i, l, lda)), *b.add(at(turn_b, l, j, ldb))) };
                    sum = sum + x * y;
                }
                // SAFETY: the caller's: C has its elements.
                let place = unsafe { &mut *c.add((i * ldc + j) as usize) };
                let old = if beta == R::ZERO {
                    R::ZERO
                } else {
                    beta * *place
                };
                *place = alpha * sum + old;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::Rng;

    fn sum(factor: &Factor<'_, f64>, other: &Factor<'_, f64>, at: (usize, usize), k: usize) -> f64 {
        (0..k)
            .map(|l| {
                let x = factor.data[at.0 * factor.rs + l * factor.cs];
                x * other.data[l * other.rs + at.1 * other.cs]
            })
            .sum()
    }

    #[test]
    fn every_order_is_named_right() {
        let mut rng = Rng::new(1);
        for case in 0..400 {
            let [m, n, k] = [0; 3].map(|_| 1 + rng.below(5));
            let values = rng.values::<f64>(200);
            let mut factor = |rows: usize, cols: usize| {
                let gap = rng.below(3);
                let (rs, cs) = [(cols + gap, 1), (1, rows + gap)][rng.below(2)];
                let data = &values[rng.below(50)..];
                Factor { data, rs, cs }
            };
            let (a, b) = (factor(m, k), factor(k, n));
            let old = rng.values::<f64>(m * n);
            let (alpha, beta) = ([1., -0.5][case % 2], [0., 1.][case / 2 % 2]);
            let mut c = old.clone();
            assert!(product((m, n, k), alpha, a, b, beta, &mut c));
            for (at, (got, old)) in c.iter().zip(old).enumerate() {
                let exact = alpha * sum(&a, &b, (at / n, at % n), k) + beta * old;
                assert!((got - exact).abs() < 1e-12, "case {case}: {got}, {exact}");
            }
        }
    }

    #[test]
    fn what_has_no_name_is_left_alone() {
        let data = [1f32; 12];
        let at = |rs, cs| Factor {
            data: &data,
            rs,
            cs,
        };
        let mut c = [7f32; 4];
        let mut go = |alpha, a, b, sizes| product(sizes, alpha, a, b, 0., &mut c);
        for (why, done) in [
            ("gaps", go(1., at(4, 2), at(2, 1), (2, 2, 2))),
            ("repeated rows", go(1., at(0, 1), at(2, 1), (2, 2, 2))),
            ("too short", go(1., at(11, 1), at(2, 1), (2, 2, 2))),
            ("no depth", go(1., at(2, 1), at(2, 1), (2, 2, 0))),
            ("by zero", go(0., at(2, 1), at(2, 1), (2, 2, 2))),
            ("another size", go(1., at(2, 1), at(2, 1), (2, 1, 2))),
        ] {
            assert!(!done, "{why}");
        }
        assert_eq!(c, [7.; 4]);
    }
}
