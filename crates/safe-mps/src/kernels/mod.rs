//! The kernels, one family per file, and the checks that all of them share.
//!
//! Each `encode` checks its operands in full before it touches Metal, because MPS answers a wrong
//! one with an assertion that ends the process. What it checks is in the order that helps most:
//! element types, sizes, batches, memory.

pub mod multiplication;
pub mod softmax;
pub mod softmax_gradient;
mod types;

use crate::command_buffer::CommandBuffer;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::matrix::Matrix;

/// The name of a kernel together with what it is being given, for errors.
#[derive(Clone, Copy)]
struct Check {
    op: &'static str,
}

impl Check {
    /// The kernel's own GPU must be the command buffer's.
    fn kernel_device(self, on: &CommandBuffer, device: &Device) -> Result<()> {
        on.check_device(self.op, "kernel", device.registry_id())
    }

    fn size(
        self,
        operand: &'static str,
        matrix: &Matrix,
        rows: usize,
        columns: usize,
    ) -> Result<()> {
        let sizes = [
            ("rows", rows, matrix.rows()),
            ("columns", columns, matrix.columns()),
        ];
        for (dimension, expected, got) in sizes {
            if expected != got {
                return Err(Error::Dimension {
                    op: self.op,
                    operand,
                    dimension,
                    expected,
                    got,
                });
            }
        }
        Ok(())
    }

    fn batch(self, operand: &'static str, matrix: &Matrix, result: &Matrix) -> Result<()> {
        let (expected, got) = (result.matrices(), matrix.matrices());
        if expected == got {
            Ok(())
        } else {
            Err(Error::Batch {
                op: self.op,
                operand,
                expected,
                got,
            })
        }
    }

    /// MPS says nothing about results that share memory with an input, so none may.
    fn disjoint(self, operand: &'static str, matrix: &Matrix, result: &Matrix) -> Result<()> {
        if matrix.overlaps(result) {
            Err(Error::Overlap {
                op: self.op,
                operand,
            })
        } else {
            Ok(())
        }
    }

    fn not_zero(self, dimension: &'static str, size: usize) -> Result<()> {
        if size == 0 {
            Err(Error::ZeroSize {
                op: self.op,
                dimension,
            })
        } else {
            Ok(())
        }
    }
}
