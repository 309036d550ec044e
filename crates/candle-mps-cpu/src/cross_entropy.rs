//! Cross-entropy of logits with class indices: the mean over the rows of ln Σⱼ exp(xⱼ) − x_target.
//! <https://en.wikipedia.org/wiki/Cross-entropy>
//!
//! Neither probabilities nor their logarithms are ever stored: the forward pass keeps one number for
//! each row, and the backward pass makes the gradient from it and the logits.

use std::ops::Range;

use crate::{
    Element, Error, Layout, Real, Result, V,
    layout::product,
    rows::{
        Rows, check_vector, first, last_axis, max_of_four, place, settle, sum_of_four, vectors,
    },
    simd::{Simd, Vector, WithSimd, exp, isa},
    threads,
};

/// Elements that are worth a thread: what one does in 30 µs with AVX-512; see [`threads::parts`].
const LEAST: usize = 200 << 10;

/// What [`cross_entropy`] gives.
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropy<R> {
    /// The mean over the rows that count; 0 when none does.
    pub loss: R,
    /// ln Σⱼ exp(xⱼ) of each row, for [`cross_entropy_backward`].
    pub log_sums: Vec<R>,
    /// The number of rows that count: those whose target is not ignored.
    pub counted: usize,
}

/// The loss of `x` (rows of logits along the last axis) for one target per row. Rows whose target is
/// `ignored` do not count: padding at the end of a text.
///
/// # Errors
/// When the layout does not fit `x` or has rank 0, there is not one target for each row, or a target
/// is no class.
pub fn cross_entropy<T: Element>(
    x: &[T],
    layout: &Layout,
    targets: &[u32],
    ignored: Option<u32>,
) -> Result<CrossEntropy<T::Acc>> {
    const OP: &str = "cross_entropy";
    let x = last_axis(OP, "x", x, layout)?;
    check_targets(OP, &x, layout, targets, ignored)?;
    let zero = T::Acc::ZERO;
    // The logarithm of the sum and the loss of each row. Their difference, the target's logit, may be
    // so large that the loss would drown in it: it is computed before that is added.
    let mut rows = vec![(zero, zero); targets.len()];
    let parts = threads::parts(layout.count(), LEAST).min(targets.len().max(1));
    let isa = isa()?;
    threads::rows(&mut rows, 1, parts, |range, out| {
        isa.run(Forward {
            x: &x,
            targets,
            ignored,
            rows: range,
            out,
        });
    });
    let counted = targets
        .iter()
        .filter(|&&target| Some(target) != ignored)
        .count();
    let sum: f64 = rows.iter().map(|(_, loss)| loss.to_f64()).sum();
    let loss = T::Acc::from_f64(sum / counted.max(1) as f64);
    Ok(CrossEntropy {
        loss,
        log_sums: rows.into_iter().map(|(sum, _)| sum).collect(),
        counted,
    })
}

/// The gradient of [`cross_entropy`], times `grad` (the gradient of the loss), to `out` in row-major
/// order: grad / counted · (softmax(x) − [the target]); 0 for ignored rows.
///
/// # Errors
/// As [`cross_entropy`], or when `forward` has not one logarithm for each row, or `out` has another
/// length.
pub fn cross_entropy_backward<T: Element>(
    (x, layout): (&[T], &Layout),
    targets: &[u32],
    ignored: Option<u32>,
    forward: &CrossEntropy<T::Acc>,
    grad: f64,
    out: &mut [T],
) -> Result<()> {
    const OP: &str = "cross_entropy_backward";
    let x = last_axis(OP, "x", x, layout)?;
    check_targets(OP, &x, layout, targets, ignored)?;
    check_vector(OP, "forward.log_sums", targets.len(), &forward.log_sums)?;
    layout.check_len(OP, "out", out.len())?;
    let scale = T::Acc::from_f64(grad / forward.counted.max(1) as f64);
    let parts = threads::parts(out.len(), LEAST).min(targets.len().max(1));
    let (isa, log_sums) = (isa()?, &forward.log_sums[..]);
    threads::rows(out, x.width, parts, |rows, out| {
        isa.run(Backward {
            x: &x,
            targets,
            ignored,
            log_sums,
            scale,
            rows,
            out,
        });
    });
    Ok(())
}

fn check_targets<T: Element>(
    op: &'static str,
    x: &Rows<T>,
    layout: &Layout,
    targets: &[u32],
    ignored: Option<u32>,
) -> Result<()> {
    // Not `x.count`: rows without classes have targets as well.
    let rows = product(&layout.dims()[..layout.rank() - 1]);
    check_vector(op, "targets", rows, targets)?;
    let bad = |&target: &u32| target as usize >= x.width && Some(target) != ignored;
    match targets.iter().position(bad) {
        None => Ok(()),
        Some(at) => Err(Error::Index {
            op,
            argument: "targets",
            at,
            got: targets[at] as usize,
            limit: x.width,
        }),
    }
}

struct Forward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    targets: &'a [u32],
    ignored: Option<u32>,
    rows: Range<usize>,
    out: &'a mut [(T::Acc, T::Acc)],
}

impl<T: Element> WithSimd for Forward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let mut buffer = Vec::new();
        for (row, out) in self.rows.zip(self.out) {
            let target = self.targets[row];
            if Some(target) == self.ignored {
                continue;
            }
            let (largest, log, of_target) = match self.x.repeated(row) {
                // Σ exp of so many equal ones.
                Some(x) => {
                    let x = x.to_acc();
                    let (largest, log) = s.with(LogSum(&[x]));
                    let count = T::Acc::from_f64(self.x.width as f64);
                    (largest, log + count.ln(), x)
                }
                None => {
                    let x = self.x.get(s, row, &mut buffer);
                    let (largest, log) = s.with(LogSum(x));
                    (largest, log, x[target as usize])
                }
            };
            *out = (largest + log, log + (largest - of_target));
        }
    }
}

/// The largest element m, and ln Σ exp(xⱼ − m).
struct LogSum<'a, R>(&'a [R]);

impl<R: Real> WithSimd for LogSum<'_, R> {
    type Output = (R, R);
    #[inline(always)]
    fn run<S: Simd>(self, s: S) -> (R, R) {
        let x = self.0;
        let (n, lanes) = (x.len(), V::<R, S>::LANES);
        let splat = |value| V::<R, S>::splat(s, value);
        let mut largest = [splat(R::NEG_INFINITY); 4];
        vectors!(n, lanes, |at, len, k| {
            largest[k] = R::get(s, &x[at..at + len], R::NEG_INFINITY).max(largest[k]);
        });
        let largest = max_of_four(largest);
        let base = splat(largest);
        let mut sums = [splat(R::ZERO); 4];
        vectors!(n, lanes, |at, len, k| {
            let e = exp::<R, S>(s, R::get(s, &x[at..at + len], R::NEG_INFINITY) - base);
            sums[k] = sums[k]
                + if len < lanes {
                    first::<R, S>(s, e, len, R::ZERO)
                } else {
                    e
                };
        });
        (largest, sum_of_four(sums).ln())
    }
}

struct Backward<'a, T: Element> {
    x: &'a Rows<'a, T>,
    targets: &'a [u32],
    ignored: Option<u32>,
    log_sums: &'a [T::Acc],
    scale: T::Acc,
    rows: Range<usize>,
    out: &'a mut [T],
}

impl<T: Element> WithSimd for Backward<'_, T> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (mut buffer, mut buffer_2) = (Vec::new(), Vec::new());
        for (row, out) in self.rows.zip(self.out.chunks_mut(self.x.width.max(1))) {
            let target = self.targets[row];
            if Some(target) == self.ignored {
                out.fill(T::ZERO);
                continue;
            }
            s.with(RowBackward {
                x: self.x.get(s, row, &mut buffer),
                target: target as usize,
                log_sum: self.log_sums[row],
                scale: self.scale,
                out: place(out, &mut buffer_2),
            });
            settle(s, &buffer_2, out);
        }
    }
}

/// The gradient of one row.
struct RowBackward<'a, R> {
    x: &'a [R],
    target: usize,
    log_sum: R,
    scale: R,
    out: &'a mut [R],
}

impl<R: Real> WithSimd for RowBackward<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let (x, out) = (self.x, self.out);
        let (scale, base) = (
            V::<R, S>::splat(s, self.scale),
            V::<R, S>::splat(s, self.log_sum),
        );
        vectors!(x.len(), V::<R, S>::LANES, |at, len, _k| {
            let p = exp::<R, S>(s, R::get(s, &x[at..at + len], R::ZERO) - base);
            R::put(s, p * scale, &mut out[at..at + len]);
        });
        let at = V::<R, S>::splat(s, x[self.target]);
        let p = exp::<R, S>(s, at - base) - V::<R, S>::splat(s, R::ONE);
        R::put(s, p * scale, &mut out[self.target..=self.target]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{Rng, cases, check, each_type};

    fn both<T: Element>() {
        cases("cross_entropy", |rng: &mut Rng| {
            let dims = rng.dims();
            let width = dims[dims.len() - 1];
            let x = rng.operand::<T>(&dims);
            let rows = dims.iter().product::<usize>() / width;
            let ignored = (rng.below(2) == 0).then_some(99_999);
            let targets: Vec<u32> = (0..rows)
                .map(|_| match ignored {
                    Some(ignored) if rng.below(4) == 0 => ignored,
                    _ => rng.below(width) as u32,
                })
                .collect();
            let forward = cross_entropy(&x.data, &x.layout(), &targets, ignored).unwrap();
            let mut dx = rng.values(dims.iter().product());
            let its = x.layout();
            cross_entropy_backward((&x.data, &its), &targets, ignored, &forward, 0.5, &mut dx)
                .unwrap();
            let counted = targets.iter().filter(|&&t| Some(t) != ignored).count();
            let (mut loss, mut expected) = (0., Vec::new());
            for (x, &target) in x.values().chunks(width).zip(&targets) {
                if Some(target) == ignored {
                    expected.extend(vec![0.; width]);
                    continue;
                }
                let sum: f64 = x.iter().map(|x| x.exp()).sum();
                loss += sum.ln() - x[target as usize];
                expected.extend(x.iter().enumerate().map(|(i, x)| {
                    (x.exp() / sum - f64::from(i == target as usize)) * 0.5 / counted as f64
                }));
            }
            assert_eq!(forward.counted, counted);
            check(
                "loss",
                &[forward.loss],
                &[loss / counted.max(1) as f64],
                8.,
                8.,
            );
            check("dx", &dx, &expected, 1. / counted.max(1) as f64, 16.);
            dx.push(T::from_acc(forward.loss));
            dx
        });
    }

    each_type!(both);

    /// Found by fuzzing: one element for as many classes as there are numbers, and not one too many.
    #[test]
    fn more_classes_than_memory() {
        let most = isize::MAX as usize;
        for classes in [2, 1000, most] {
            let (dims, strides) = ([2, classes], [1, 0]);
            let Ok(layout) = Layout::new(&dims, &strides, 0) else {
                panic!("{classes} classes")
            };
            let forward = cross_entropy(&[3f32, -1.], &layout, &[0, 1], None).unwrap();
            let expected = (classes as f32).ln();
            assert!(
                (forward.loss - expected).abs() < 1e-5,
                "{classes}: {}",
                forward.loss
            );
        }
    }

    #[test]
    fn a_sure_answer_has_a_small_loss_and_not_zero() {
        let dims = [1, 2];
        let layout = Layout::contiguous(&dims).unwrap();
        let forward = cross_entropy(&[1000f32, 990.], &layout, &[0], None).unwrap();
        assert!((forward.loss - 4.5399e-5).abs() < 1e-7, "{}", forward.loss);
    }

    #[test]
    fn nothing_counts() {
        let dims = [2, 2];
        let layout = Layout::contiguous(&dims).unwrap();
        let x = [1f32, 2., 3., 4.];
        let forward = cross_entropy(&x, &layout, &[7, 7], Some(7)).unwrap();
        assert_eq!((forward.loss, forward.counted), (0., 0));
        let mut dx = [9f32; 4];
        cross_entropy_backward((&x, &layout), &[7, 7], Some(7), &forward, 1., &mut dx).unwrap();
        assert_eq!(dx, [0.; 4]);
        let none = Layout::contiguous(&[0, 2]).unwrap();
        assert_eq!(
            cross_entropy::<f32>(&[], &none, &[], None).unwrap().loss,
            0.
        );
    }

    /// `count` does not multiply what a zero makes empty; neither may the number of targets.
    #[test]
    fn dimensions_beyond_the_address_space_without_classes() {
        let dims = [1 << 62, 8, 0];
        let layout = Layout::contiguous(&dims).expect("an empty layout");
        assert!(cross_entropy::<f32>(&[], &layout, &[], None).is_err());
    }

    #[test]
    fn refusals_name_the_argument() {
        let dims = [2, 3];
        let layout = Layout::contiguous(&dims).unwrap();
        let x = [0f32; 6];
        let refusal = |targets: &[u32]| {
            cross_entropy(&x, &layout, targets, None)
                .unwrap_err()
                .to_string()
        };
        assert!(refusal(&[0]).contains("`targets`"));
        assert!(refusal(&[0, 3]).contains("`targets`[1] is 3"));
        let forward = cross_entropy(&x, &layout, &[0, 1], None).unwrap();
        let short = CrossEntropy {
            log_sums: vec![0.],
            ..forward.clone()
        };
        let mut out = [0f32; 6];
        let result = cross_entropy_backward((&x, &layout), &[0, 1], None, &short, 1., &mut out);
        assert!(
            result
                .unwrap_err()
                .to_string()
                .contains("`forward.log_sums`")
        );
        let at = (&x[..], &layout);
        let result = cross_entropy_backward(at, &[0, 1], None, &forward, 1., &mut out[..5]);
        assert!(result.unwrap_err().to_string().contains("`out`"));
        let empty = Layout::contiguous(&[2, 0]).unwrap();
        assert!(cross_entropy::<f32>(&[], &empty, &[0, 0], None).is_err());
    }
}
