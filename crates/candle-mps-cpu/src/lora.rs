//! y = x·W + bias + s·(x·A)·B: a linear layer with a low-rank correction.
//! [LoRA](https://arxiv.org/abs/2106.09685)
//!
//! t = s·(x·A) is computed once, in the accumulator's type, and t·B is summed together with x·W: one
//! pass over y, no temporary of its size. Everything may have any strides, so a weight kept as
//! [out, in] is passed as its transposed view.
//!
//! **Backward**, with G the gradient of y and u = s·(G·Bᵀ):
//! dx = G·Wᵀ + u·Aᵀ in one pass, dW = xᵀ·G, dA = xᵀ·u, dB = tᵀ·G, dbias = Σ rows of G.

use crate::{
    Element, Error, Layout, Result,
    matmul::{
        Activation, Epilogue, Factor, Left, Mat, Right, Term, check_depth, check_len, matrix, run,
    },
    simd::isa,
};

/// The correction s·A·B.
#[derive(Debug, Clone, Copy)]
pub struct Adapter<'a, T> {
    /// A, [in, r].
    pub a: (&'a [T], Layout<'a>),
    /// B, [r, out].
    pub b: (&'a [T], Layout<'a>),
    /// s: α/r in the paper, which keeps the correction's size when the rank changes.
    pub scale: f64,
}

/// The linear layer under an [`Adapter`].
#[derive(Debug, Clone, Copy)]
pub struct Base<'a, T> {
    /// W, [in, out].
    pub w: (&'a [T], Layout<'a>),
    /// One element for each column of W.
    pub bias: Option<&'a [T]>,
}

/// Where gradients go; those that are not wanted are not computed. Each is row-major and is overwritten.
#[derive(Debug, Default)]
pub struct Gradients<'a, T> {
    /// `[rows, in]`
    pub x: Option<&'a mut [T]>,
    /// `[in, out]`
    pub w: Option<&'a mut [T]>,
    /// `[in, r]`
    pub a: Option<&'a mut [T]>,
    /// `[r, out]`
    pub b: Option<&'a mut [T]>,
    /// `[out]`
    pub bias: Option<&'a mut [T]>,
}

/// Checked operands and their sizes.
struct Parts<'a, T> {
    x: Mat<'a, T>,
    a: Mat<'a, T>,
    b: Mat<'a, T>,
    rows: usize,
    inner: usize,
    rank: usize,
    outer: usize,
    scale: f64,
}

impl<'a, T: Factor> Parts<'a, T> {
    fn new(op: &'static str, x: (&'a [T], &Layout), adapter: &Adapter<'a, T>) -> Result<Self> {
        let (x, [rows, inner]) = matrix(op, "x", x.0, x.1)?;
        let (a, [a_rows, rank]) = matrix(op, "a", adapter.a.0, &adapter.a.1)?;
        let (b, [b_rows, outer]) = matrix(op, "b", adapter.b.0, &adapter.b.1)?;
        same(op, "a", [inner, rank], [a_rows, rank])?;
        same(op, "b", [rank, outer], [b_rows, outer])?;
        check_depth("x", inner, [x.data.len(), a.data.len()])?;
        check_depth("a", rank, [a.data.len(), b.data.len()])?;
        if rank == 0 {
            return Err(Error::Option {
                op,
                argument: "rank",
                got: 0.,
                remedy: "A and B need at least one column and row; without them this is a matmul",
            });
        }
        let scale = adapter.scale;
        if rows
            .checked_mul(rank)
            .is_none_or(|t| t > isize::MAX as usize / 8)
        {
            return Err(Error::SizeOverflow {
                argument: "t",
                dims: vec![rows, rank],
            });
        }
        Ok(Self {
            x,
            a,
            b,
            rows,
            inner,
            rank,
            outer,
            scale,
        })
    }

    /// t = s·(x·A), [rows, r], not rounded.
    fn t(&self) -> Result<Vec<T::Acc>> {
        let mut t = crate::memory::vector(self.rows * self.rank);
        let terms = [Term {
            a: Left::Own(self.x),
            b: Right::Own(self.a),
            depth: self.inner,
        }];
        run(
            1,
            isa()?,
            &mut t,
            (self.rows, self.rank),
            &|_| terms,
            scaled(self.scale),
        );
        Ok(t)
    }

    fn t_mat<'t>(&self, t: &'t [T::Acc]) -> Mat<'t, T::Acc> {
        Mat {
            data: t,
            rs: self.rank,
            cs: 1,
        }
    }
}

fn same(
    op: &'static str,
    argument: &'static str,
    expected: [usize; 2],
    got: [usize; 2],
) -> Result<()> {
    if expected == got {
        return Ok(());
    }
    Err(Error::Dims {
        op,
        argument,
        expected: expected.to_vec(),
        got: got.to_vec(),
    })
}

fn scaled<'a, T: Element>(scale: f64) -> Epilogue<'a, T> {
    let scale = T::Acc::from_f64(scale);
    Epilogue {
        scale,
        bias: None,
        activation: Activation::None,
        accumulate: false,
    }
}

/// Writes s·(x·A)·B, [rows, out], to `out`. `x` is [rows, in].
///
/// # Errors
/// When an operand has not two dimensions or a layout that does not fit its slice, when dimensions or
/// the length of `out` do not match, or the rank is 0.
pub fn delta<T: Factor>(x: (&[T], &Layout), adapter: &Adapter<T>, out: &mut [T]) -> Result<()> {
    let op = "lora_delta";
    let parts = Parts::new(op, x, adapter)?;
    check_len(op, "out", parts.rows.saturating_mul(parts.outer), out.len())?;
    let t = parts.t()?;
    let terms = [Term {
        a: Left::Wide(parts.t_mat(&t)),
        b: Right::Own(parts.b),
        depth: parts.rank,
    }];
    run(
        1,
        isa()?,
        out,
        (parts.rows, parts.outer),
        &|_| terms,
        scaled(1.),
    );
    Ok(())
}

/// Writes x·W + bias + s·(x·A)·B, [rows, out], to `out`. `x` is [rows, in].
///
/// # Errors
/// As [`delta`], and when `bias` has another length.
pub fn forward<T: Factor>(
    x: (&[T], &Layout),
    base: &Base<T>,
    adapter: &Adapter<T>,
    out: &mut [T],
) -> Result<()> {
    let op = "lora";
    let parts = Parts::new(op, x, adapter)?;
    let (w, dims) = matrix(op, "w", base.w.0, &base.w.1)?;
    same(op, "w", [parts.inner, parts.outer], dims)?;
    if let Some(bias) = base.bias {
        check_len(op, "bias", parts.outer, bias.len())?;
    }
    check_len(op, "out", parts.rows.saturating_mul(parts.outer), out.len())?;
    let t = parts.t()?;
    let terms = [
        Term {
            a: Left::Own(parts.x),
            b: Right::Own(w),
            depth: parts.inner,
        },
        Term {
            a: Left::Wide(parts.t_mat(&t)),
            b: Right::Own(parts.b),
            depth: parts.rank,
        },
    ];
    let epilogue = Epilogue {
        bias: base.bias,
        ..scaled(1.)
    };
    run(
        1,
        isa()?,
        out,
        (parts.rows, parts.outer),
        &|_| terms,
        epilogue,
    );
    Ok(())
}

/// Writes the gradients that are wanted, from the gradient `grad` of y, [rows, out].
///
/// `w` is W, or None for the gradients of [`delta`]. Gradients of `w` and `bias` do not need it.
///
/// # Errors
/// As [`forward`], for `grad` and each gradient's length as well.
pub fn backward<T: Factor>(
    x: (&[T], &Layout),
    w: Option<(&[T], &Layout)>,
    adapter: &Adapter<T>,
    grad: (&[T], &Layout),
    gradients: Gradients<T>,
) -> Result<()> {
    let op = "lora_backward";
    let parts = Parts::new(op, x, adapter)?;
    let &Parts {
        x,
        a,
        b,
        rows,
        inner,
        rank,
        outer,
        scale,
    } = &parts;
    let (grad, dims) = matrix(op, "grad", grad.0, grad.1)?;
    same(op, "grad", [rows, outer], dims)?;
    let w = w.map(|w| matrix(op, "w", w.0, w.1)).transpose()?;
    if let Some((_, dims)) = w {
        same(op, "w", [inner, outer], dims)?;
    }
    for (name, expected, got) in [
        ("gradients.x", rows.saturating_mul(inner), &gradients.x),
        ("gradients.w", inner.saturating_mul(outer), &gradients.w),
        ("gradients.a", inner.saturating_mul(rank), &gradients.a),
        ("gradients.b", rank.saturating_mul(outer), &gradients.b),
        ("gradients.bias", outer, &gradients.bias),
    ] {
        got.as_ref()
            .map_or(Ok(()), |got| check_len(op, name, expected, got.len()))?;
    }

    let isa = isa()?;
    let mut u = Vec::new();
    if gradients.x.is_some() || gradients.a.is_some() {
        u = crate::memory::vector(rows * rank);
        let terms = [Term {
            a: Left::Own(grad),
            b: Right::Own(b.transposed()),
            depth: outer,
        }];
        run(1, isa, &mut u, (rows, rank), &|_| terms, scaled(scale));
    }
    let u = Mat {
        data: &u[..],
        rs: rank,
        cs: 1,
    };
    if let Some(dx) = gradients.x {
        let low = Term {
            a: Left::Wide(u),
            b: Right::Own(a.transposed()),
            depth: rank,
        };
        match w {
            Some((w, _)) => {
                let w = Right::Own(w.transposed());
                let terms = [
                    Term {
                        a: Left::Own(grad),
                        b: w,
                        depth: outer,
                    },
                    low,
                ];
                run(1, isa, dx, (rows, inner), &|_| terms, scaled(1.));
            }
            None => run(1, isa, dx, (rows, inner), &|_| [low], scaled(1.)),
        }
    }
    if let Some(dw) = gradients.w {
        let terms = [Term {
            a: Left::Own(x.transposed()),
            b: Right::Own(grad),
            depth: rows,
        }];
        run(1, isa, dw, (inner, outer), &|_| terms, scaled(1.));
    }
    if let Some(da) = gradients.a {
        let terms = [Term {
            a: Left::Own(x.transposed()),
            b: Right::Wide(u),
            depth: rows,
        }];
        run(1, isa, da, (inner, rank), &|_| terms, scaled(1.));
    }
    if let Some(db) = gradients.b {
        let t = parts.t()?;
        let t = parts.t_mat(&t).transposed();
        let terms = [Term {
            a: Left::Wide(t),
            b: Right::Own(grad),
            depth: rows,
        }];
        run(1, isa, db, (rank, outer), &|_| terms, scaled(1.));
    }
    if let Some(dbias) = gradients.bias {
        let ones = Mat {
            data: &[T::Acc::from_f64(1.)][..],
            rs: 0,
            cs: 0,
        };
        let terms = [Term {
            a: Left::Wide(ones),
            b: Right::Own(grad),
            depth: rows,
        }];
        run(1, isa, dbias, (1, outer), &|_| terms, scaled(1.));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        matmul::tests::{close, exact},
        oracle::{Operand, Rng, cases, each_type},
    };

    fn turn(x: &[f64], (m, n): (usize, usize)) -> Vec<f64> {
        (0..m * n).map(|at| x[at % m * n + at / m]).collect()
    }

    /// Σ of products and of their magnitudes.
    fn add(sums: &mut [Vec<f64>; 2], more: &[Vec<f64>; 2], scale: f64) {
        for (x, y) in sums[0].iter_mut().zip(&more[0]) {
            *x += scale * y;
        }
        for (x, y) in sums[1].iter_mut().zip(&more[1]) {
            *x += scale.abs() * y;
        }
    }

    /// a·b, with the magnitudes of `a` given.
    fn chain(a: &[Vec<f64>; 2], b: &[f64], dims: (usize, usize, usize)) -> [Vec<f64>; 2] {
        let magnitude: Vec<f64> = b.iter().map(|x| x.abs()).collect();
        [
            exact(&a[0], b, dims)[0].clone(),
            exact(&a[1], &magnitude, dims)[0].clone(),
        ]
    }

    fn against_f64<T: Factor>() {
        cases("lora", |rng: &mut Rng| {
            let pick = |rng: &mut Rng, from: &[usize]| from[rng.below(from.len())];
            let rows = pick(rng, &[1, 1, 3, 4, 7, 20]);
            let inner = pick(rng, &[1, 5, 16, 33, 70]);
            let outer = pick(rng, &[1, 8, 17, 40, 90]);
            let rank = pick(rng, &[1, 2, 3, 8, 16, 20, 256]);
            let x: Operand<T> = rng.operand(&[rows, inner]);
            let w: Operand<T> = rng.operand(&[inner, outer]);
            let a: Operand<T> = rng.operand(&[inner, rank]);
            let b: Operand<T> = rng.operand(&[rank, outer]);
            let g: Operand<T> = rng.operand(&[rows, outer]);
            let bias = rng.values::<T>(outer);
            let with_bias = rng.below(2) == 0;
            let scale = [1., 0.25, -2.][rng.below(3)];
            let adapter = Adapter {
                a: (&a.data, a.layout()),
                b: (&b.data, b.layout()),
                scale,
            };
            let base = Base {
                w: (&w.data, w.layout()),
                bias: with_bias.then_some(&bias[..]),
            };
            let [xv, wv, av, bv, gv] = [&x, &w, &a, &b, &g].map(|operand| operand.values());

            let mut all = rng.values::<T>(rows * outer);
            delta((&x.data, &x.layout()), &adapter, &mut all).unwrap();
            let mut t = [vec![0.; rows * rank], vec![0.; rows * rank]];
            add(&mut t, &exact(&xv, &av, (rows, inner, rank)), scale);
            let low = chain(&t, &bv, (rows, rank, outer));
            close("delta", &all, &low[0], &low[1]);

            let mut y = rng.values::<T>(rows * outer);
            forward((&x.data, &x.layout()), &base, &adapter, &mut y).unwrap();
            let mut sums = exact(&xv, &wv, (rows, inner, outer));
            add(&mut sums, &low, 1.);
            if with_bias {
                let row: Vec<f64> = bias.iter().map(|x| x.to_f64()).collect();
                let row = [
                    row.repeat(rows),
                    row.iter().map(|x| x.abs()).collect::<Vec<_>>().repeat(rows),
                ];
                add(&mut sums, &row, 1.);
            }
            close("y", &y, &sums[0], &sums[1]);
            all.extend(y);

            let with_w = rng.below(2) == 0;
            let sizes = [
                rows * inner,
                inner * outer,
                inner * rank,
                rank * outer,
                outer,
            ];
            let [mut dx, mut dw, mut da, mut db, mut dbias] = sizes.map(|len| rng.values::<T>(len));
            let gradients = Gradients {
                x: Some(&mut dx),
                w: Some(&mut dw),
                a: Some(&mut da),
                b: Some(&mut db),
                bias: Some(&mut dbias),
            };
            let (w_layout, g_layout) = (w.layout(), g.layout());
            let w = with_w.then_some((&w.data[..], &w_layout));
            backward(
                (&x.data, &x.layout()),
                w,
                &adapter,
                (&g.data, &g_layout),
                gradients,
            )
            .unwrap();
            let mut u = [vec![0.; rows * rank], vec![0.; rows * rank]];
            add(
                &mut u,
                &exact(&gv, &turn(&bv, (rank, outer)), (rows, outer, rank)),
                scale,
            );
            let mut sums = chain(&u, &turn(&av, (inner, rank)), (rows, rank, inner));
            if with_w {
                let base = exact(&gv, &turn(&wv, (inner, outer)), (rows, outer, inner));
                add(&mut sums, &base, 1.);
            }
            close("dx", &dx, &sums[0], &sums[1]);
            let turned = turn(&xv, (rows, inner));
            let sums = exact(&turned, &gv, (inner, rows, outer));
            close("dw", &dw, &sums[0], &sums[1]);
            let magnitude: Vec<f64> = turned.iter().map(|x| x.abs()).collect();
            let sizes = &exact(&magnitude, &u[1], (inner, rows, rank))[0];
            close(
                "da",
                &da,
                &exact(&turned, &u[0], (inner, rows, rank))[0],
                sizes,
            );
            let sums = chain(
                &t.each_ref().map(|t| turn(t, (rows, rank))),
                &gv,
                (rank, rows, outer),
            );
            close("db", &db, &sums[0], &sums[1]);
            let sums = exact(&vec![1.; rows], &gv, (1, rows, outer));
            close("dbias", &dbias, &sums[0], &sums[1]);
            [all, dx, dw, da, db, dbias].concat()
        });
    }
    each_type!(against_f64);

    #[test]
    fn refusals_name_the_argument() {
        let data = [0f32; 12];
        let layout = |dims: &'static [usize]| Layout::contiguous(dims).unwrap();
        let x = layout(&[2, 3]);
        let go = |a: &'static [usize], b: &'static [usize], w: &'static [usize], len: usize| {
            let adapter = Adapter {
                a: (&data, layout(a)),
                b: (&data, layout(b)),
                scale: 1.,
            };
            let base = Base {
                w: (&data, layout(w)),
                bias: None,
            };
            forward((&data, &x), &base, &adapter, &mut vec![0.; len])
                .map_err(|error| error.to_string())
        };
        go(&[3, 1], &[1, 4], &[3, 4], 8).unwrap();
        for (result, part) in [
            (go(&[2, 1], &[1, 4], &[3, 4], 8), "`a` is [2, 1], [3, 1]"),
            (go(&[3, 1], &[2, 4], &[3, 4], 8), "`b` is [2, 4], [1, 4]"),
            (go(&[3, 1], &[1, 4], &[4, 3], 8), "`w` is [4, 3], [3, 4]"),
            (go(&[3, 0], &[0, 4], &[3, 4], 8), "`rank` is 0"),
            (go(&[3], &[1, 4], &[3, 4], 8), "`a` has rank 1"),
            (go(&[3, 1], &[1, 4], &[3, 4], 9), "`out` has 9 elements, 8"),
            (go(&[3, 5], &[5, 2], &[3, 2], 4), "`a` reaches element 14"),
        ] {
            let message = result.unwrap_err();
            assert!(
                message.contains(part) && message.starts_with("lora:"),
                "{message}"
            );
        }
        let adapter = Adapter {
            a: (&data, layout(&[3, 1])),
            b: (&data, layout(&[1, 4])),
            scale: 1.,
        };
        let gradients = Gradients {
            b: Some(&mut [0f32; 3][..]),
            ..Gradients::default()
        };
        let error = backward(
            (&data, &x),
            None,
            &adapter,
            (&data, &layout(&[2, 4])),
            gradients,
        );
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("`gradients.b` has 3 elements, 4")
        );
    }
}
