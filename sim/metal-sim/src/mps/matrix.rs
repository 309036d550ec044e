//! `MPSMatrixDescriptor` and `MPSMatrix`: shape, strides and a share in a buffer.

use super::data_type::Element;
use super::view::View;
use crate::fault::{fault, warn};
use crate::lock;
use crate::model::buffer::{BufferCore, SimBuffer};
use crate::model::device::SimDevice;
use crate::model::{Kept, given};
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{NSObject, NSObjectProtocol};
use objc2::{AnyThread, DefinedClass, Message, define_class, msg_send};
use objc2_metal::MTLResourceOptions;
use objc2_metal_performance_shaders::MPSDataType;
use std::sync::{Mutex, OnceLock};

/// A matrix's shape and strides.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Rows of one matrix.
    pub rows: usize,
    /// Columns of one matrix.
    pub columns: usize,
    /// How many matrices.
    pub matrices: usize,
    /// Bytes from a row to the next.
    pub row_bytes: usize,
    /// Bytes from a matrix to the next.
    pub matrix_bytes: usize,
    /// Apple's number of the element type.
    pub data_type: MPSDataType,
}

impl Shape {
    /// The element type; a fault when no matrix can hold it.
    pub fn element(&self) -> Element {
        Element::of(self.data_type).unwrap_or_else(|| {
            fault(
                "MPSMatrix data type",
                format!("{:#x} is not a type of matrix elements", self.data_type.0),
            )
        })
    }

    /// Bytes from the first element to the end of the last (rule 2).
    pub fn bytes(&self) -> usize {
        let last_matrix = self
            .matrices
            .saturating_sub(1)
            .saturating_mul(self.matrix_bytes);
        let last_row = self.rows.saturating_sub(1).saturating_mul(self.row_bytes);
        let row = self.columns.saturating_mul(self.element().size());
        last_matrix.saturating_add(last_row).saturating_add(row)
    }

    /// Apple's assertions at a matrix's creation (rules 3, 6, 10 and 23).
    fn check(&self) {
        let size = self.element().size();
        if self.rows == 0 || self.columns == 0 || self.matrices == 0 {
            fault("MPSMatrix size", format!("{self:?} has no elements"));
        }
        if !self.row_bytes.is_multiple_of(size) {
            fault(
                "MPSMatrix rowBytes",
                format!(
                    "{} is no multiple of the element size {size}",
                    self.row_bytes
                ),
            );
        }
        if self.row_bytes < self.columns.saturating_mul(size) {
            let need = self.columns.saturating_mul(size);
            fault(
                "MPSMatrix rowBytes",
                format!("{} is below the {need} bytes of a row", self.row_bytes),
            );
        }
        if self.matrices > 1 {
            if self.matrix_bytes == 0 {
                warn(
                    "MPSMatrix matrixBytes",
                    "0 broadcasts one matrix; Apple's header asks for more",
                );
            } else if !self.matrix_bytes.is_multiple_of(self.row_bytes)
                || self.matrix_bytes < self.rows.saturating_mul(self.row_bytes)
            {
                fault(
                    "MPSMatrix matrixBytes",
                    format!(
                        "{} is no multiple of rowBytes {} that holds {} rows",
                        self.matrix_bytes, self.row_bytes, self.rows
                    ),
                );
            }
        }
    }
}

/// A good stride for rows (rule 4): floats to 16 bytes, integers to 4 elements.
fn row_bytes_for(columns: usize, data_type: MPSDataType) -> usize {
    let Some(element) = Element::of(data_type) else {
        fault(
            "rowBytesForColumns",
            format!("{:#x} is not a type of matrix elements", data_type.0),
        );
    };
    let tight = columns * element.size();
    match (columns, element) {
        (0 | 1, _) => tight,
        (_, Element::F32 | Element::F16 | Element::BF16) => tight.next_multiple_of(16),
        _ => tight.next_multiple_of(4 * element.size()),
    }
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MPSMatrixDescriptor"]
    #[ivars = Mutex<Shape>]
    /// The class behind `MPSMatrixDescriptor`.
    pub struct SimMatrixDescriptor;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMatrixDescriptor {}

    impl SimMatrixDescriptor {
        #[unsafe(method_id(matrixDescriptorWithRows:columns:rowBytes:dataType:))]
        fn with_rows(
            rows: usize,
            columns: usize,
            row_bytes: usize,
            data_type: MPSDataType,
        ) -> Retained<Self> {
            // matrixBytes is settled here and not by later setters (rule 5).
            let matrix_bytes = rows.saturating_mul(row_bytes);
            Self::new(Shape { rows, columns, matrices: 1, row_bytes, matrix_bytes, data_type })
        }

        #[unsafe(method_id(matrixDescriptorWithDimensions:columns:rowBytes:dataType:))]
        fn with_dimensions(
            rows: usize,
            columns: usize,
            row_bytes: usize,
            data_type: MPSDataType,
        ) -> Retained<Self> {
            let matrix_bytes = rows.saturating_mul(row_bytes);
            Self::new(Shape { rows, columns, matrices: 1, row_bytes, matrix_bytes, data_type })
        }

        #[unsafe(method_id(matrixDescriptorWithRows:columns:matrices:rowBytes:matrixBytes:dataType:))]
        fn with_matrices(
            rows: usize,
            columns: usize,
            matrices: usize,
            row_bytes: usize,
            matrix_bytes: usize,
            data_type: MPSDataType,
        ) -> Retained<Self> {
            Self::new(Shape { rows, columns, matrices, row_bytes, matrix_bytes, data_type })
        }

        #[unsafe(method(rowBytesForColumns:dataType:))]
        fn row_bytes_for_columns(columns: usize, data_type: MPSDataType) -> usize {
            row_bytes_for(columns, data_type)
        }

        #[unsafe(method(rowBytesFromColumns:dataType:))]
        fn row_bytes_from_columns(columns: usize, data_type: MPSDataType) -> usize {
            row_bytes_for(columns, data_type)
        }

        #[unsafe(method(rows))]
        fn rows(&self) -> usize {
            self.shape().rows
        }

        #[unsafe(method(setRows:))]
        fn set_rows(&self, rows: usize) {
            lock(self.ivars()).rows = rows;
        }

        #[unsafe(method(columns))]
        fn columns(&self) -> usize {
            self.shape().columns
        }

        #[unsafe(method(setColumns:))]
        fn set_columns(&self, columns: usize) {
            lock(self.ivars()).columns = columns;
        }

        #[unsafe(method(matrices))]
        fn matrices(&self) -> usize {
            self.shape().matrices
        }

        #[unsafe(method(dataType))]
        fn data_type(&self) -> MPSDataType {
            self.shape().data_type
        }

        #[unsafe(method(setDataType:))]
        fn set_data_type(&self, data_type: MPSDataType) {
            lock(self.ivars()).data_type = data_type;
        }

        #[unsafe(method(rowBytes))]
        fn row_bytes(&self) -> usize {
            self.shape().row_bytes
        }

        #[unsafe(method(setRowBytes:))]
        fn set_row_bytes(&self, row_bytes: usize) {
            lock(self.ivars()).row_bytes = row_bytes;
        }

        #[unsafe(method(matrixBytes))]
        fn matrix_bytes(&self) -> usize {
            self.shape().matrix_bytes
        }
    }
);

impl SimMatrixDescriptor {
    fn new(shape: Shape) -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(Mutex::new(shape))), init] }
    }

    /// The described shape.
    pub fn shape(&self) -> Shape {
        *lock(self.ivars())
    }
}

/// A matrix's instance variables.
pub struct Matrix {
    shape: Shape,
    offset: usize,
    device: Kept<SimDevice>,
    /// Made at the first use when the matrix was made without a buffer (rule 9).
    buffer: OnceLock<Kept<SimBuffer>>,
}

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "MPSMatrix"]
    #[ivars = Matrix]
    /// The class behind `MPSMatrix`.
    pub struct SimMatrix;

    // SAFETY: no further requirements.
    unsafe impl NSObjectProtocol for SimMatrix {}

    impl SimMatrix {
        #[unsafe(method_id(initWithBuffer:descriptor:))]
        fn init_with_buffer(
            this: Allocated<Self>,
            buffer: Option<&SimBuffer>,
            descriptor: Option<&SimMatrixDescriptor>,
        ) -> Retained<Self> {
            let descriptor = given(descriptor, "initWithBuffer:descriptor:", "descriptor");
            init_over(this, buffer, 0, descriptor.shape())
        }

        #[unsafe(method_id(initWithBuffer:offset:descriptor:))]
        fn init_with_offset(
            this: Allocated<Self>,
            buffer: Option<&SimBuffer>,
            offset: usize,
            descriptor: Option<&SimMatrixDescriptor>,
        ) -> Retained<Self> {
            let descriptor = given(descriptor, "initWithBuffer:offset:descriptor:", "descriptor");
            init_over(this, buffer, offset, descriptor.shape())
        }

        #[unsafe(method_id(initWithDevice:descriptor:))]
        fn init_with_device(
            this: Allocated<Self>,
            device: Option<&SimDevice>,
            descriptor: Option<&SimMatrixDescriptor>,
        ) -> Retained<Self> {
            let device = given(device, "initWithDevice:descriptor:", "device");
            let descriptor = given(descriptor, "initWithDevice:descriptor:", "descriptor");
            let shape = descriptor.shape();
            shape.check();
            let matrix =
                Matrix { shape, offset: 0, device: Kept::new(device), buffer: OnceLock::new() };
            // SAFETY: NSObject's `init` has this signature.
            unsafe { msg_send![super(this.set_ivars(matrix)), init] }
        }

        #[unsafe(method_id(device))]
        fn device(&self) -> Retained<SimDevice> {
            self.on().retain()
        }

        #[unsafe(method_id(data))]
        fn data(&self) -> Retained<SimBuffer> {
            self.buffer().retain()
        }

        #[unsafe(method(rows))]
        fn rows(&self) -> usize {
            self.ivars().shape.rows
        }

        #[unsafe(method(columns))]
        fn columns(&self) -> usize {
            self.ivars().shape.columns
        }

        #[unsafe(method(matrices))]
        fn matrices(&self) -> usize {
            self.ivars().shape.matrices
        }

        #[unsafe(method(dataType))]
        fn data_type(&self) -> MPSDataType {
            self.ivars().shape.data_type
        }

        #[unsafe(method(rowBytes))]
        fn row_bytes(&self) -> usize {
            self.ivars().shape.row_bytes
        }

        #[unsafe(method(matrixBytes))]
        fn matrix_bytes(&self) -> usize {
            self.ivars().shape.matrix_bytes
        }

        #[unsafe(method(offset))]
        fn offset(&self) -> usize {
            self.ivars().offset
        }

        #[unsafe(method(resourceSize))]
        fn resource_size(&self) -> usize {
            self.ivars().shape.bytes()
        }

        #[unsafe(method(synchronizeOnCommandBuffer:))]
        fn synchronize(&self, _buffer: Option<&crate::model::command_buffer::SimCommandBuffer>) {
            // Only managed storage has a second copy to bring up to date (rule 12).
        }
    }
);

fn init_over(
    this: Allocated<SimMatrix>,
    buffer: Option<&SimBuffer>,
    offset: usize,
    shape: Shape,
) -> Retained<SimMatrix> {
    let Some(buffer) = buffer else {
        fault("MPSMatrix initWithBuffer", "the buffer is nil");
    };
    shape.check();
    if !offset.is_multiple_of(shape.element().size()) {
        fault(
            "MPSMatrix offset",
            format!("{offset} is no multiple of the element size"),
        );
    }
    buffer.range("MPSMatrix buffer length", offset, shape.bytes());
    let matrix = Matrix {
        shape,
        offset,
        device: Kept::new(buffer.on()),
        buffer: OnceLock::from(Kept::new(buffer)),
    };
    // SAFETY: NSObject's `init` has this signature.
    unsafe { msg_send![super(this.set_ivars(matrix)), init] }
}

impl SimMatrix {
    pub(crate) fn on(&self) -> &SimDevice {
        self.ivars().device.get()
    }

    /// The shape and strides.
    pub fn shape(&self) -> Shape {
        self.ivars().shape
    }

    /// The buffer, made now if need be.
    pub fn buffer(&self) -> &SimBuffer {
        let matrix = self.ivars();
        let kept = matrix.buffer.get_or_init(|| {
            let bytes = matrix.shape.bytes();
            let core =
                BufferCore::allocate(self.on(), bytes, MTLResourceOptions::StorageModeShared);
            match core {
                Some(core) => Kept(SimBuffer::new(core)),
                None => fault(
                    "MPSMatrix allocation",
                    format!("{bytes} bytes are not to be had"),
                ),
            }
        });
        kept.get()
    }

    /// How a kernel reads and writes the matrix.
    pub(crate) fn view(&self) -> View {
        View::new(
            self.buffer().core().memory().clone(),
            self.ivars().offset,
            self.shape(),
        )
    }
}
