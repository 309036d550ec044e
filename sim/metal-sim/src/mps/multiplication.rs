//! `MPSMatrixMultiplication`: C = alpha * op(A) * op(B) + beta * C, for every matrix of a
//! batch. Rules 14 to 24 of the semantics notes; products are accumulated in f32 and rounded
//! once at the store, as the sources lead one to expect.

use super::data_type::Element;
use super::kernel::{Batch, ORIGIN, SimKernel, checked_origin};
use super::matrix::SimMatrix;
use super::view::View;
use crate::fault::fault;
use crate::lock;
use crate::model::command_buffer::SimCommandBuffer;
use crate::model::device::SimDevice;
use crate::model::given;
use crate::pass::Op;
use crate::rules::rules;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyObject, NSObject, NSObjectProtocol};
use objc2::{DefinedClass, define_class, msg_send};
use objc2_metal::MTLOrigin;
use std::sync::Mutex;

/// What is fixed when the kernel is made.
#[derive(Clone, Copy, Debug)]
pub struct Product {
    transpose_left: bool,
    transpose_right: bool,
    rows: usize,
    columns: usize,
    interior: usize,
    alpha: f64,
    beta: f64,
}

/// What may be set on the kernel.
#[derive(Clone, Copy)]
pub struct Settings {
    left: MTLOrigin,
    right: MTLOrigin,
    result: MTLOrigin,
    batch: Batch,
}

/// A multiplication's instance variables.
pub struct Multiplication {
    product: Product,
    settings: Mutex<Settings>,
}

const CALL: &str = "MPSMatrixMultiplication encode";

define_class!(
    // SAFETY: SimKernel has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(SimKernel, NSObject))]
    #[name = "MPSMatrixMultiplication"]
    #[ivars = Multiplication]
    /// The class behind `MPSMatrixMultiplication`.
    pub struct SimMultiplication;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMultiplication {}

    impl SimMultiplication {
        #[unsafe(method_id(initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:alpha:beta:))]
        fn init_full(
            this: Allocated<Self>,
            device: Option<&SimDevice>,
            transpose_left: bool,
            transpose_right: bool,
            rows: usize,
            columns: usize,
            interior: usize,
            alpha: f64,
            beta: f64,
        ) -> Retained<Self> {
            let device = given(device, "initWithDevice:transposeLeft:transposeRight:resultRows:resultColumns:interiorColumns:alpha:beta:", "device");
            let product =
                Product { transpose_left, transpose_right, rows, columns, interior, alpha, beta };
            init(this, device, product)
        }

        #[unsafe(method_id(initWithDevice:resultRows:resultColumns:interiorColumns:))]
        fn init_short(
            this: Allocated<Self>,
            device: Option<&SimDevice>,
            rows: usize,
            columns: usize,
            interior: usize,
        ) -> Retained<Self> {
            let device = given(device, "initWithDevice:resultRows:resultColumns:interiorColumns:", "device");
            let product = Product {
                transpose_left: false,
                transpose_right: false,
                rows,
                columns,
                interior,
                alpha: 1.0,
                beta: 0.0,
            };
            init(this, device, product)
        }

        #[unsafe(method(leftMatrixOrigin))]
        fn left_origin(&self) -> MTLOrigin {
            self.settings().left
        }

        #[unsafe(method(setLeftMatrixOrigin:))]
        fn set_left_origin(&self, origin: MTLOrigin) {
            lock(&self.ivars().settings).left = origin;
        }

        #[unsafe(method(rightMatrixOrigin))]
        fn right_origin(&self) -> MTLOrigin {
            self.settings().right
        }

        #[unsafe(method(setRightMatrixOrigin:))]
        fn set_right_origin(&self, origin: MTLOrigin) {
            lock(&self.ivars().settings).right = origin;
        }

        #[unsafe(method(resultMatrixOrigin))]
        fn result_origin(&self) -> MTLOrigin {
            self.settings().result
        }

        #[unsafe(method(setResultMatrixOrigin:))]
        fn set_result_origin(&self, origin: MTLOrigin) {
            lock(&self.ivars().settings).result = origin;
        }

        #[unsafe(method(batchStart))]
        fn batch_start(&self) -> usize {
            self.settings().batch.start
        }

        #[unsafe(method(setBatchStart:))]
        fn set_batch_start(&self, start: usize) {
            lock(&self.ivars().settings).batch.start = start;
        }

        #[unsafe(method(batchSize))]
        fn batch_size(&self) -> usize {
            self.settings().batch.size_or_all()
        }

        #[unsafe(method(setBatchSize:))]
        fn set_batch_size(&self, size: usize) {
            lock(&self.ivars().settings).batch.size = Some(size);
        }

        #[unsafe(method(encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:))]
        fn encode(
            &self,
            buffer: Option<&SimCommandBuffer>,
            left: Option<&SimMatrix>,
            right: Option<&SimMatrix>,
            result: Option<&SimMatrix>,
        ) {
            let buffer = given(buffer, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", "buffer");
            let left = given(left, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", "left");
            let right = given(right, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", "right");
            let result = given(result, "encodeToCommandBuffer:leftMatrix:rightMatrix:resultMatrix:", "result");
            self.encode_to(buffer, left, right, result);
        }
    }
);

fn init(
    this: Allocated<SimMultiplication>,
    device: &SimDevice,
    product: Product,
) -> Retained<SimMultiplication> {
    if product.rows == 0 || product.columns == 0 || product.interior == 0 {
        fault(
            "MPSMatrixMultiplication init",
            format!("{product:?} has an empty dimension"),
        );
    }
    let settings = Settings {
        left: ORIGIN,
        right: ORIGIN,
        result: ORIGIN,
        batch: Batch::ALL,
    };
    let this = this.set_ivars(Multiplication {
        product,
        settings: Mutex::new(settings),
    });
    // SAFETY: MPSKernel's designated initialiser has this signature.
    unsafe { msg_send![super(this), initWithDevice: device] }
}

impl SimMultiplication {
    fn settings(&self) -> Settings {
        *lock(&self.ivars().settings)
    }

    fn encode_to(
        &self,
        buffer: &SimCommandBuffer,
        left: &SimMatrix,
        right: &SimMatrix,
        result: &SimMatrix,
    ) {
        let (product, settings) = (self.ivars().product, self.settings());
        let kernel: &SimKernel = self;
        kernel.check_devices(CALL, buffer, &[left, right, result]);
        check_types(
            left.shape().element(),
            right.shape().element(),
            result.shape().element(),
        );
        let stored = |transposed, rows, columns| {
            if transposed {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let left_size = stored(product.transpose_left, product.rows, product.interior);
        let right_size = stored(product.transpose_right, product.interior, product.columns);
        let a = region("leftMatrix", left, settings.left, left_size);
        let b = region("rightMatrix", right, settings.right, right_size);
        let c = region(
            "resultMatrix",
            result,
            settings.result,
            (product.rows, product.columns),
        );
        if c.overlaps(&a) || c.overlaps(&b) {
            fault(CALL, "resultMatrix shares memory with an input");
        }
        let batch = settings.batch.indices(CALL, &[&a, &b, &c]);
        let reads_c = product.beta != 0.0 || rules().read_c_when_beta_is_zero;
        let mut accesses = [a.accesses(false), b.accesses(false), c.accesses(true)].concat();
        if reads_c {
            accesses.extend(c.accesses(false));
        }
        let defect = rules().large_product_defect;
        let op = Op {
            label: format!(
                "MPSMatrixMultiplication {}x{}x{}",
                product.rows, product.columns, product.interior
            ),
            accesses,
            run: Box::new(move || {
                for index in batch {
                    // SAFETY: the GPU's rules order these accesses; A, B and C are checked.
                    unsafe { multiply(&product, &a, &b, &c, index, reads_c) };
                }
                if let Some(limit) = defect {
                    // SAFETY: as above.
                    unsafe { spoil_large_rows(&product, &c, limit) };
                }
                None
            }),
        };
        let uses: [&AnyObject; 3] = [left.buffer(), right.buffer(), result.buffer()];
        buffer.encode_own(CALL, op, uses);
    }
}

/// The pairs of types that Apple accepts (rule 18).
fn check_types(left: Element, right: Element, result: Element) {
    use Element::{F16, F32, I8, I16};
    let accepted = matches!(
        (left, right, result),
        (F32, F32, F32)
            | (F16, F16, F16 | F32)
            | (I8, I8, F32 | F16)
            | (I16, I16, F32)
            | (F32, F16, F32)
    );
    if !accepted {
        fault(
            CALL,
            format!("data types {left:?} * {right:?} -> {result:?} are not supported"),
        );
    }
}

fn region(operand: &str, matrix: &SimMatrix, origin: MTLOrigin, size: (usize, usize)) -> View {
    let origin = checked_origin(CALL, operand, origin, matrix);
    let view = matrix.view().from(origin);
    let (rows, columns) = size;
    if view.rows() < rows {
        fault(
            CALL,
            format!(
                "{operand} has {} rows from its origin, the product needs {rows}",
                view.rows()
            ),
        );
    }
    if view.columns() < columns {
        fault(
            CALL,
            format!(
                "{operand} has {} columns from its origin, the product needs {columns}",
                view.columns()
            ),
        );
    }
    view.cut(rows, columns)
}

/// # Safety
/// Nobody else writes A or B, or accesses C, meanwhile.
unsafe fn multiply(product: &Product, a: &View, b: &View, c: &View, batch: usize, reads_c: bool) {
    let Product {
        rows,
        columns,
        interior,
        ..
    } = *product;
    let (alpha, beta) = (product.alpha as f32, product.beta as f32);
    // SAFETY: the caller's promise.
    unsafe {
        // B once, as rows of op(B): the inner loop then runs along memory.
        let right: Vec<f32> = (0..interior)
            .flat_map(|k| (0..columns).map(move |j| (k, j)))
            .map(|(k, j)| {
                let (row, column) = if product.transpose_right {
                    (j, k)
                } else {
                    (k, j)
                };
                b.get(batch, row, column) as f32
            })
            .collect();
        let mut sums = vec![0f32; columns];
        for i in 0..rows {
            sums.fill(0.0);
            for k in 0..interior {
                let (row, column) = if product.transpose_left {
                    (k, i)
                } else {
                    (i, k)
                };
                let left = a.get(batch, row, column) as f32;
                for (sum, right) in sums.iter_mut().zip(&right[k * columns..]) {
                    *sum += left * right;
                }
            }
            for (j, sum) in sums.iter().enumerate() {
                let old = if reads_c {
                    beta * c.get(batch, i, j) as f32
                } else {
                    0.0
                };
                c.set(batch, i, j, (alpha * sum + old).into());
            }
        }
    }
}

/// Apple's defect with very large results (rule 24), for tests of the guards against it:
/// a band of 32 rows behind the limit comes out as NaN.
///
/// # Safety
/// Nobody else accesses C meanwhile.
unsafe fn spoil_large_rows(product: &Product, c: &View, limit: u64) {
    let row_bytes = (product.columns * c.element().size()) as u64;
    let first = (0..product.rows)
        .find(|row| (*row as u64 + 2 * product.interior as u64) * row_bytes >= limit);
    let Some(first) = first else {
        return;
    };
    for batch in 0..c.matrices() {
        for row in first..product.rows.min(first + 32) {
            for column in 0..product.columns {
                // SAFETY: the caller's promise.
                unsafe { c.set(batch, row, column, f64::NAN) };
            }
        }
    }
}
