//! [`MatrixMultiplication`]: C = alpha · op(A) · op(B) + beta · C, where op is the matrix or its
//! transpose. See Apple's page on
//! [MPSMatrixMultiplication](https://developer.apple.com/documentation/metalperformanceshaders/mpsmatrixmultiplication).
//!
//! Sizes, transposes and factors belong to the kernel and are fixed when it is built. Element
//! types belong to the matrices, and only some go together ([`MatrixMultiplication::encode`]).
//! Products large enough for Apple's wrong results (`limits`) are cut into tiles in silence.

#![allow(unsafe_code)] // MPS's methods are bound as unsafe

use objc2::AllocAnyThread;
use objc2::rc::{Retained, autoreleasepool};
use objc2_metal_performance_shaders::MPSMatrixMultiplication;

use super::{Check, types};
use crate::command_buffer::CommandBuffer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::limits::{self, OFFSET_LIMIT, Product, Tile};
use crate::matrix::Matrix;

const CHECK: Check = Check {
    op: "matrix multiplication",
};

/// What a [`MatrixMultiplication`] is to compute.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "a description does nothing until it is built"]
pub struct MatrixMultiplicationBuilder {
    m: usize,
    n: usize,
    k: usize,
    transpose_left: bool,
    transpose_right: bool,
    alpha: f64,
    beta: f64,
}

impl MatrixMultiplicationBuilder {
    /// The left matrix is stored as k × m and read transposed. Default false.
    pub fn transpose_left(mut self, transpose: bool) -> Self {
        self.transpose_left = transpose;
        self
    }

    /// The right matrix is stored as n × k and read transposed. Default false.
    pub fn transpose_right(mut self, transpose: bool) -> Self {
        self.transpose_right = transpose;
        self
    }

    /// Factor of the product, rounded to the precision of the result. Default 1.
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// Factor of what the result holds before. With 0, the default, that may be undefined.
    pub fn beta(mut self, beta: f64) -> Self {
        self.beta = beta;
        self
    }

    /// The kernel, for use on `device`.
    pub fn build(self, device: &Device) -> Result<MatrixMultiplication> {
        CHECK.not_zero("result rows", self.m)?;
        CHECK.not_zero("result columns", self.n)?;
        CHECK.not_zero("inner dimension", self.k)?;
        device.require_mps(CHECK.op)?;
        let raw = self.to_mps(device, self.m, self.n);
        Ok(MatrixMultiplication {
            raw,
            is: self,
            device: device.clone(),
            limit: OFFSET_LIMIT,
        })
    }

    /// The MPS kernel for a result of `m` rows and `n` columns.
    fn to_mps(&self, device: &Device, m: usize, n: usize) -> Retained<MPSMatrixMultiplication> {
        // SAFETY: the device is valid and supported and no size is zero, which `build` has seen
        // to; the initialiser has no other preconditions.
        autoreleasepool(|_| unsafe {
            MPSMatrixMultiplication::initWithDevice_transposeLeft_transposeRight_resultRows_resultColumns_interiorColumns_alpha_beta(
                MPSMatrixMultiplication::alloc(),
                device.metal(),
                self.transpose_left,
                self.transpose_right,
                m,
                n,
                self.k,
                self.alpha,
                self.beta,
            )
        })
    }
}

/// C = alpha · op(A) · op(B) + beta · C.
///
/// ```
/// use safe_mps::{DataType, Device, Error, Matrix, MatrixMultiplication};
///
/// fn main() -> Result<(), Error> {
///     let device = Device::system_default()?;
///     let queue = device.new_queue()?;
///     let a = Matrix::from_slice(&device, 2, 3, &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0])?;
///     let b = Matrix::from_slice(&device, 3, 1, &[1.0f32, 0.0, -1.0])?;
///     let mut c = Matrix::zeros(&device, 2, 1, DataType::F32)?;
///
///     let product = MatrixMultiplication::new(2, 1, 3).alpha(0.5).build(&device)?;
///     let commands = queue.command_buffer()?;
///     product.encode(&commands, &a, &b, &mut c)?;
///     commands.commit().wait()?;
///
///     assert_eq!(c.to_vec::<f32>()?, [-1.0, -1.0]);
///     Ok(())
/// }
/// ```
///
/// A kernel may move to another thread, but not be used by two:
///
/// ```compile_fail,E0277
/// fn shared<T: Sync>() {}
/// shared::<safe_mps::MatrixMultiplication>();
/// ```
pub struct MatrixMultiplication {
    raw: Retained<MPSMatrixMultiplication>,
    is: MatrixMultiplicationBuilder,
    device: Device,
    limit: u64,
}

// SAFETY: Apple allows one thread at a time to use a kernel object, not a particular one. There is
// no `Sync`: that is the "one at a time".
unsafe impl Send for MatrixMultiplication {}

impl MatrixMultiplication {
    /// Describes a product of an m × k by a k × n matrix.
    #[expect(
        clippy::new_ret_no_self,
        reason = "the kernel exists once a device is known"
    )]
    pub fn new(m: usize, n: usize, k: usize) -> MatrixMultiplicationBuilder {
        MatrixMultiplicationBuilder {
            m,
            n,
            k,
            transpose_left: false,
            transpose_right: false,
            alpha: 1.0,
            beta: 0.0,
        }
    }

    /// The GPU that this kernel was built for.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Encodes the product of `left` and `right` into `result`.
    ///
    /// Left and right have the same type, except for left f32 with right f16. In and out: f32 to
    /// f32; f16 to f16 or f32; i8 to f16 or f32; i16 to f32; f32 with f16 to f32. All three
    /// hold the same number of matrices, and the result shares no memory with the other two.
    pub fn encode(
        &self,
        on: &CommandBuffer,
        left: &Matrix,
        right: &Matrix,
        result: &mut Matrix,
    ) -> Result<()> {
        CHECK.kernel_device(on, &self.device)?;
        types::check_product(
            CHECK.op,
            left.data_type(),
            right.data_type(),
            result.data_type(),
        )?;
        let MatrixMultiplicationBuilder {
            m,
            n,
            k,
            transpose_left,
            transpose_right,
            ..
        } = self.is;
        let stored = |rows, columns, transposed| {
            if transposed {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let (left_rows, left_columns) = stored(m, k, transpose_left);
        let (right_rows, right_columns) = stored(k, n, transpose_right);
        CHECK.size("left", left, left_rows, left_columns)?;
        CHECK.size("right", right, right_rows, right_columns)?;
        CHECK.size("result", result, m, n)?;
        CHECK.batch("left", left, result)?;
        CHECK.batch("right", right, result)?;
        CHECK.disjoint("left", left, result)?;
        CHECK.disjoint("right", right, result)?;

        let element = result.data_type().size_in_bytes();
        let row_bytes = result.descriptor().row_bytes();
        let tiles = limits::tiles(
            Product {
                m,
                n,
                k,
                element,
                row_bytes,
            },
            self.limit,
        )
        .ok_or(Error::ProductTooLarge {
            rows: m,
            columns: n,
            inner: k,
        })?;
        let pieces: Vec<Piece> = tiles
            .iter()
            .map(|tile| self.piece(tile, left, right, result))
            .collect::<Result<_>>()?;

        let uses = [
            left.input("left"),
            right.input("right"),
            result.output("result"),
        ];
        on.record(CHECK.op, &uses, |commands| {
            for piece in &pieces {
                let [left, right, result] =
                    [&piece.left, &piece.right, &piece.result].map(Matrix::to_mps);
                // SAFETY: types, sizes, batches, devices and memory have been checked above, and
                // no encoder is open: this crate ends each within one call. The command buffer
                // retains what the GPU will use.
                unsafe {
                    piece
                        .kernel
                        .encodeToCommandBuffer_leftMatrix_rightMatrix_resultMatrix(
                            commands, &left, &right, &result,
                        );
                }
            }
            Ok(())
        })
    }

    /// What to encode for one tile. Views move the origin, as the kernel's own origins would.
    fn piece(&self, tile: &Tile, left: &Matrix, right: &Matrix, result: &Matrix) -> Result<Piece> {
        let MatrixMultiplicationBuilder {
            m,
            n,
            k,
            transpose_left,
            transpose_right,
            ..
        } = self.is;
        let Tile { rows, columns } = tile.clone();
        let kernel = if (rows.len(), columns.len()) == (m, n) {
            self.raw.clone()
        } else {
            self.is.to_mps(&self.device, rows.len(), columns.len())
        };
        let left = if transpose_left {
            left.sub_matrix(0..k, rows.clone())
        } else {
            left.sub_matrix(rows.clone(), 0..k)
        }?;
        let right = if transpose_right {
            right.sub_matrix(columns.clone(), 0..k)
        } else {
            right.sub_matrix(0..k, columns.clone())
        }?;
        Ok(Piece {
            kernel,
            left,
            right,
            result: result.sub_matrix(rows, columns)?,
        })
    }
}

impl std::fmt::Debug for MatrixMultiplication {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MatrixMultiplication")
            .field("is", &self.is)
            .finish_non_exhaustive()
    }
}

/// A product that is small enough for MPS.
struct Piece {
    kernel: Retained<MPSMatrixMultiplication>,
    left: Matrix,
    right: Matrix,
    result: Matrix,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_type::DataType;
    use crate::descriptor::MatrixDescriptor;

    #[test]
    fn test_mps_matmul_creation() {
        let device = Device::system_default().unwrap();
        let kernel = MatrixMultiplication::new(2, 4, 3)
            .transpose_left(true)
            .build(&device)
            .unwrap();
        assert_eq!(kernel.device(), &device);
    }

    #[test]
    fn sizes_of_zero_are_refused() {
        let device = Device::system_default().unwrap();
        for (m, n, k, dimension) in [
            (0, 1, 1, "result rows"),
            (1, 0, 1, "result columns"),
            (1, 1, 0, "inner dimension"),
        ] {
            let error = MatrixMultiplication::new(m, n, k).build(&device).err();
            assert_eq!(
                error,
                Some(Error::ZeroSize {
                    op: "matrix multiplication",
                    dimension
                })
            );
        }
    }

    /// What a product looks like to a Mac whose wrong results begin at `limit` instead of 2^31.
    fn product(limit: u64, transpose: bool, batch: usize) -> (Vec<f32>, Vec<f32>, Error) {
        let device = Device::system_default().unwrap();
        let (m, n, k) = (150, 60, 7);
        let stored = |rows, columns| {
            if transpose {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let matrix = |(rows, columns), step: usize| {
            let count = batch * rows * columns;
            let descriptor = MatrixDescriptor::new(rows, columns, DataType::F32)
                .and_then(|d| d.with_tight_matrices(batch))
                .unwrap();
            let mut matrix = Matrix::allocate(&device, descriptor).unwrap();
            let data: Vec<_> = (0..count).map(|i| (i * step % 17) as f32 - 8.0).collect();
            matrix.copy_from_slice(&data).unwrap();
            matrix
        };
        let (a, b) = (matrix(stored(m, k), 5), matrix(stored(k, n), 3));
        let queue = device.new_queue().unwrap();
        let run = |limit| {
            let mut c = matrix((m, n), 1);
            let mut kernel = MatrixMultiplication::new(m, n, k)
                .transpose_left(transpose)
                .transpose_right(transpose)
                .beta(2.0)
                .build(&device)
                .unwrap();
            kernel.limit = limit;
            let commands = queue.command_buffer().unwrap();
            kernel.encode(&commands, &a, &b, &mut c)?;
            commands.commit().wait().unwrap();
            c.to_vec::<f32>()
        };
        (
            run(limit).unwrap(),
            run(OFFSET_LIMIT).unwrap(),
            run(4 * (1 + 2 * k as u64)).unwrap_err(),
        )
    }

    #[test]
    fn tiles_compute_the_same_product() {
        // Rows only; columns only; both.
        for limit in [240 * (130 + 14) + 1, 2_000, 200] {
            for transpose in [false, true] {
                for batch in [1, 2] {
                    let (tiled, whole, too_deep) = product(limit, transpose, batch);
                    assert_eq!(tiled, whole, "limit {limit}");
                    let expected = Error::ProductTooLarge {
                        rows: 150,
                        columns: 60,
                        inner: 7,
                    };
                    assert_eq!(too_deep, expected);
                }
            }
        }
    }

    #[test]
    fn kernels_may_move_to_another_thread() {
        fn moves<T: Send>() {}
        moves::<MatrixMultiplication>();
    }
}
