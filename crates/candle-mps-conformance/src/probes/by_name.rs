//! Questions about classes that not everything has that claims to be Metal. They are looked up by their names, so that
//! a class that is not there is an answer and no error of linking.

use super::matrices::kind;
use super::{Answer, Probe};
use crate::machine::contents;
use crate::mps::{encode, floats, matrix};
use crate::{Machine, NotHere};
use objc2::msg_send;
use objc2::rc::{Allocated, Retained};
use objc2::runtime::{AnyClass, AnyObject};
use objc2_foundation::NSArray;
use objc2_metal::{
    MTLBarrierScope, MTLCommandBuffer, MTLCommandEncoder, MTLComputeCommandEncoder, MTLDispatchType,
};
use objc2_metal_performance_shaders::MPSDataType;
use std::ffi::{CStr, c_void};

pub(super) const PROBES: &[Probe] = &[
    Probe {
        id: "d2",
        question: "what does top-k make of equal values, and of a NaN?",
        body: top_k,
        if_it_ends: None,
    },
    Probe {
        id: "e",
        question: "are products of MPSNDArray right on a concurrent encoder?",
        body: concurrent_product,
        if_it_ends: None,
    },
    Probe {
        id: "i1",
        question: "does batch normalisation take a root of the variance?",
        body: normalisation,
        if_it_ends: None,
    },
    Probe {
        id: "i2",
        question: "is the bias of MPSMatrixSum one number for all, or one for each column?",
        body: bias_of_sum,
        if_it_ends: None,
    },
];

fn class(name: &'static CStr) -> Result<&'static AnyClass, NotHere> {
    AnyClass::get(name).ok_or(NotHere("there is no such class"))
}

/// A kernel that is made of a device alone.
fn kernel(machine: &Machine, name: &'static CStr) -> Result<Retained<AnyObject>, NotHere> {
    let class = class(name)?;
    // SAFETY: the signature is the header's.
    Ok(unsafe {
        let new: Allocated<AnyObject> = msg_send![class, alloc];
        msg_send![new, initWithDevice: machine.device()]
    })
}

/// An f32 `MPSVector`.
fn vector(machine: &Machine, values: &[f32]) -> Result<Retained<AnyObject>, NotHere> {
    let (class, descriptor) = (class(c"MPSVector")?, class(c"MPSVectorDescriptor")?);
    let buffer = machine.filled(values);
    let (length, kind) = (values.len(), MPSDataType::Float32);
    // SAFETY: the signatures are the header's; the buffer has the elements.
    Ok(unsafe {
        let described: Retained<AnyObject> =
            msg_send![descriptor, vectorDescriptorWithLength: length, dataType: kind];
        let new: Allocated<AnyObject> = msg_send![class, alloc];
        msg_send![new, initWithBuffer: &*buffer, descriptor: &*described]
    })
}

const NONE: Option<&AnyObject> = None;

fn top_k(machine: &Machine) -> Result<Answer, NotHere> {
    let class = class(c"MPSMatrixFindTopK")?;
    const COLUMNS: usize = 8;
    let find = |values: [f32; COLUMNS]| {
        let (_, x) = floats(machine, 1, COLUMNS, &values);
        let indices = machine.filled(&[u32::MAX; 4]);
        let at = matrix(&indices, 1, 3, 16, MPSDataType::UInt32);
        let (best, found) = floats(machine, 1, 4, &[0.0; 4]);
        // SAFETY: the signatures are those of the header; three values are found, with room for four.
        unsafe {
            let new: Allocated<AnyObject> = msg_send![class, alloc];
            let kernel: Retained<AnyObject> = msg_send![
                new, initWithDevice: machine.device(), numberOfTopKValues: 3usize
            ];
            encode(machine, |commands| {
                let _: () = msg_send![
                    &*kernel, encodeToCommandBuffer: &**commands, inputMatrix: &*x,
                    resultIndexMatrix: &*at, resultValueMatrix: &*found
                ];
            });
        }
        let places: Vec<u32> = contents::<u32>(&indices)[..3].to_vec();
        let values: Vec<_> = contents::<f32>(&best)[..3]
            .iter()
            .map(|it| kind(*it))
            .collect();
        format!("indices {places:?}, values {values:?}")
    };
    Ok(Answer::new(format!(
        "equal values: {}; a NaN at 2: {}",
        find([5.0; COLUMNS]),
        find([1.0, 2.0, f32::NAN, 3.0, 4.0, 5.0, 6.0, 7.0])
    )))
}

fn normalisation(machine: &Machine) -> Result<Answer, NotHere> {
    let kernel = kernel(machine, c"MPSMatrixBatchNormalization")?;
    let (mean, variance) = (vector(machine, &[0.0])?, vector(machine, &[4.0])?);
    let (_, x) = floats(machine, 1, 1, &[4.0]);
    let (result, y) = floats(machine, 1, 1, &[0.0]);
    // SAFETY: the signature is the header's; one row of one column.
    encode(machine, |commands| unsafe {
        let _: () = msg_send![
            &*kernel, encodeToCommandBuffer: &**commands, inputMatrix: &*x, meanVector: &*mean,
            varianceVector: &*variance, gammaVector: NONE, betaVector: NONE, resultMatrix: &*y
        ];
    });
    // 4 by a variance of 4.
    Ok(Answer::new(match contents::<f32>(&result)[0] {
        it if (it - 2.0).abs() < 1e-3 => "it divides by the root".to_owned(),
        it if (it - 1.0).abs() < 1e-3 => "it divides by the variance".to_owned(),
        it => format!("4 by a variance of 4 is {it}"),
    }))
}

fn bias_of_sum(machine: &Machine) -> Result<Answer, NotHere> {
    let class = class(c"MPSMatrixSum")?;
    let bias = vector(machine, &[1.0, 2.0])?;
    let sources: Vec<_> = [(); 2].map(|()| floats(machine, 2, 2, &[0.0; 4]).1).into();
    let sources = NSArray::from_retained_slice(&sources);
    let (result, sum) = floats(machine, 2, 2, &[0.0; 4]);
    // SAFETY: the signatures are the header's; two sources of two rows and columns.
    unsafe {
        let new: Allocated<AnyObject> = msg_send![class, alloc];
        let kernel: Retained<AnyObject> = msg_send![
            new, initWithDevice: machine.device(), count: 2usize, rows: 2usize, columns: 2usize,
            transpose: false
        ];
        encode(machine, |commands| {
            let _: () = msg_send![
                &*kernel, encodeToCommandBuffer: &**commands, sourceMatrices: &*sources, resultMatrix: &*sum,
                scaleVector: NONE, offsetVector: NONE, biasVector: &*bias, startIndex: 0usize
            ];
        });
    }
    let values = contents::<f32>(&result);
    Ok(Answer::new(match values.as_slice() {
        [1.0, 2.0, 1.0, 2.0] => "one for each column".to_owned(),
        [1.0, 1.0, 2.0, 2.0] => "one for each row".to_owned(),
        [1.0, 1.0, 1.0, 1.0] => "the first for all".to_owned(),
        _ => format!("zeros and a bias of [1, 2] are {values:?}"),
    }))
}

/// Side of the square matrices of the product.
const SIDE: usize = 256;

/// A square f32 `MPSNDArray` of one value.
fn array(machine: &Machine, value: f32) -> Result<Retained<AnyObject>, NotHere> {
    let (class, descriptor) = (class(c"MPSNDArray")?, class(c"MPSNDArrayDescriptor")?);
    let mut sizes = [SIDE; 2];
    let mut values = vec![value; SIDE * SIDE];
    let tight: *mut isize = std::ptr::null_mut();
    // SAFETY: the signatures are the header's; the values are as many as the array has.
    Ok(unsafe {
        let described: Retained<AnyObject> = msg_send![
            descriptor, descriptorWithDataType: MPSDataType::Float32, dimensionCount: 2usize,
            dimensionSizes: sizes.as_mut_ptr()
        ];
        let new: Allocated<AnyObject> = msg_send![class, alloc];
        let array: Retained<AnyObject> =
            msg_send![new, initWithDevice: machine.device(), descriptor: &*described];
        let bytes = values.as_mut_ptr().cast::<c_void>();
        let _: () = msg_send![&*array, writeBytes: bytes, strideBytes: tight];
        array
    })
}

/// Three products, each of the one before, on one concurrent encoder, with barriers between them: whether what one kernel
/// encodes in several dispatches is in order by itself.
fn concurrent_product(machine: &Machine) -> Result<Answer, NotHere> {
    let class = class(c"MPSNDArrayMatrixMultiplication")?;
    let by = array(machine, 1.0 / SIDE as f32)?;
    let chain = [1.0, 0.0, 0.0, 0.0].map(|value| array(machine, value));
    let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
    let commands = machine.commands();
    let encoder = commands
        .computeCommandEncoderWithDispatchType(MTLDispatchType::Concurrent)
        .expect("an encoder");
    let mut values = vec![0f32; SIDE * SIDE];
    let tight: *mut isize = std::ptr::null_mut();
    // SAFETY: the signatures are the header's; all arrays have one size.
    unsafe {
        let new: Allocated<AnyObject> = msg_send![class, alloc];
        let kernel: Retained<AnyObject> =
            msg_send![new, initWithDevice: machine.device(), sourceCount: 2usize];
        for pair in chain.windows(2) {
            let sources = NSArray::from_retained_slice(&[pair[0].clone(), by.clone()]);
            let _: () = msg_send![
                &*kernel, encodeToCommandEncoder: &*encoder, commandBuffer: &*commands,
                sourceArrays: &*sources, destinationArray: &*pair[1]
            ];
            encoder.memoryBarrierWithScope(MTLBarrierScope::Buffers);
        }
        encoder.endEncoding();
        commands.commit();
        commands.waitUntilCompleted();
        let bytes = values.as_mut_ptr().cast::<c_void>();
        let _: () = msg_send![&*chain[3], readBytes: bytes, strideBytes: tight];
    }
    // Each product of ones by 1/n is ones.
    let wrong = values.iter().filter(|it| (**it - 1.0).abs() > 1e-3).count();
    Ok(match wrong {
        0 => Answer::new("they are right"),
        _ => Answer::new("they are wrong").detail(format!("{wrong} of {} elements", values.len())),
    })
}
