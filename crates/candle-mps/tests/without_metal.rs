//! Without the feature `metal` the ops are there, and say what to turn on.
#![cfg(not(feature = "metal"))]

use candle_core::{DType, Device, Tensor};
use candle_mps::{FusedOps, compat};

#[test]
fn every_op_names_the_feature() {
    let x = Tensor::zeros((2, 2), DType::F32, &Device::Cpu).unwrap();
    let errors = [
        x.matmul_mps(&x).unwrap_err(),
        x.softmax_mps().unwrap_err(),
        x.log_softmax_mps().unwrap_err(),
        compat::mps_matmul(&x, &x).unwrap_err(),
        compat::validate_tensor_for_mps(&x).unwrap_err(),
    ];
    for error in errors {
        assert!(
            error.to_string().contains("build with the feature `metal`"),
            "{error}"
        );
    }
}
