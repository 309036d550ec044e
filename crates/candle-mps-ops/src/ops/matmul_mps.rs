//! [`matmul_mps`]: C = A · B by
//! [MPSMatrixMultiplication](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixmultiplication),
//! for each pair of matrices in the last two dimensions.
//!
//! Transposed views, offsets and batches cost nothing: MPS reads them where they are. Only strides
//! that MPS cannot express are copied first (`metal/operand.rs`). Each call waits for the GPU, so
//! this pays for large products; for small ones Candle's own matmul is faster.

use candle_core::{CpuStorage, CustomOp2, DType, Layout, Shape, Tensor};

use super::{check_float, check_on_metal, check_rank, not_on_cpu};
use crate::error::{Error, Result};

const OP: &str = "matmul_mps";

/// The product of the matrices in the last two dimensions of `left` and `right`, on MPS.
///
/// Both are f32 or both f16, on the same Metal device, of equal rank with equal dimensions in
/// front, as for `Tensor::matmul`. An empty product is empty, and one over an inner dimension of 0
/// is zero. Gradients flow to both.
pub fn matmul_mps(left: &Tensor, right: &Tensor) -> Result<Tensor> {
    check_on_metal(OP, "left", left)?;
    check_on_metal(OP, "right", right)?;
    if !left.device().same_device(right.device()) {
        let (left, right) = (left.device().location(), right.device().location());
        return Err(Error::DeviceMismatch {
            op: OP,
            left,
            right,
        });
    }
    Product::of(left.shape(), left.dtype(), right.shape(), right.dtype())?;
    #[cfg(feature = "metal")]
    let (left, right) = {
        use crate::metal::operand::{Operand, addressable};
        let describe = |layout: &Layout| Operand::matrices(layout, true);
        (
            &addressable(left, describe)?,
            &addressable(right, describe)?,
        )
    };
    Ok(left.apply_op2(right, MatmulMps)?)
}

/// The op behind [`matmul_mps`]. Applied directly it copies nothing: strides that MPS cannot
/// address are an error.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatmulMps;

impl CustomOp2 for MatmulMps {
    fn name(&self) -> &'static str {
        OP
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> candle_core::Result<(CpuStorage, Shape)> {
        not_on_cpu(OP, "left")
    }

    #[cfg(feature = "metal")]
    fn metal_fwd(
        &self,
        left: &candle_core::MetalStorage,
        left_layout: &Layout,
        right: &candle_core::MetalStorage,
        right_layout: &Layout,
    ) -> candle_core::Result<(candle_core::MetalStorage, Shape)> {
        Ok(forward((left, left_layout), (right, right_layout))?)
    }

    /// dA = G · Bᵀ and dB = Aᵀ · G. The transposes are views.
    fn bwd(
        &self,
        left: &Tensor,
        right: &Tensor,
        _: &Tensor,
        gradient: &Tensor,
    ) -> candle_core::Result<(Option<Tensor>, Option<Tensor>)> {
        let left_gradient = matmul_mps(gradient, &right.t()?)?;
        let right_gradient = matmul_mps(&left.t()?, gradient)?;
        Ok((Some(left_gradient), Some(right_gradient)))
    }
}

/// The sizes of a product whose operands go together.
#[cfg_attr(
    not(feature = "metal"),
    allow(dead_code, reason = "only Metal computes with them")
)]
struct Product {
    shape: Shape,
    m: usize,
    n: usize,
    k: usize,
}

impl Product {
    fn of(left: &Shape, left_dtype: DType, right: &Shape, right_dtype: DType) -> Result<Self> {
        check_float(OP, "left", left_dtype)?;
        check_float(OP, "right", right_dtype)?;
        if left_dtype != right_dtype {
            return Err(Error::DTypeMismatch {
                op: OP,
                left: left_dtype,
                right: right_dtype,
            });
        }
        check_rank(OP, "left", left, 2)?;
        check_rank(OP, "right", right, 2)?;
        let mismatch = |why| Error::Shapes {
            op: OP,
            left: left.clone(),
            right: right.clone(),
            why,
        };
        let (left_batch, left_matrix) = left.dims().split_at(left.rank() - 2);
        let (right_batch, right_matrix) = right.dims().split_at(right.rank() - 2);
        if left_batch != right_batch {
            return Err(mismatch(
                "the dimensions before the last two must be equal: use Tensor::broadcast_as",
            ));
        }
        let (&[m, k], &[inner, n]) = (left_matrix, right_matrix) else {
            return Err(mismatch("two dimensions are needed"));
        };
        if k != inner {
            return Err(mismatch(
                "the last dimension of left must equal the second to last of right: transpose one",
            ));
        }
        let shape = Shape::from(left_batch.iter().copied().chain([m, n]).collect::<Vec<_>>());
        Ok(Self { shape, m, n, k })
    }
}

#[cfg(feature = "metal")]
fn forward(
    (left, left_layout): (&candle_core::MetalStorage, &Layout),
    (right, right_layout): (&candle_core::MetalStorage, &Layout),
) -> Result<(candle_core::MetalStorage, Shape)> {
    use candle_core::MetalStorage;
    use candle_core::backend::BackendStorage;
    use safe_mps::MatrixMultiplication;

    use crate::metal::operand::{Bound, Operand, data_type, steps, strides_error};
    use crate::metal::stream;

    let dtype = left.dtype();
    let Product { shape, m, n, k } = Product::of(
        left_layout.shape(),
        dtype,
        right_layout.shape(),
        right.dtype(),
    )?;
    let (device, count) = (left.device(), shape.elem_count());
    if count > 0 && k == 0 {
        let zeros = device.allocate_zeros(count * dtype.size_in_bytes())?;
        return Ok((
            MetalStorage::new(zeros, device.clone(), count, dtype),
            shape,
        ));
    }
    let result = stream::output(device, count, dtype)?;
    if count == 0 {
        return Ok((result, shape));
    }
    let data_type = data_type(OP, "left", dtype)?;
    let bind = |operand, storage, layout, may_transpose| {
        Operand::matrices(layout, may_transpose)
            .map(|described| Bound::new(described, storage, data_type))
            .ok_or_else(|| strides_error(OP, operand, layout))
    };
    let a = bind("left", left, left_layout, true)?;
    let b = bind("right", right, right_layout, true)?;
    let c = bind("result", &result, &Layout::contiguous(&shape), false)?;
    let steps = steps(&[&a, &b, &c]);
    stream::blocking(OP, device, |gpu, commands| {
        let product = MatrixMultiplication::new(m, n, k)
            .transpose_left(a.operand.transposed)
            .transpose_right(b.operand.transposed)
            .build(gpu)?;
        for &step in &steps {
            product.encode(commands, &a.at(step)?, &b.at(step)?, &mut c.at(step)?)?;
        }
        Ok(())
    })?;
    Ok((result, shape))
}
