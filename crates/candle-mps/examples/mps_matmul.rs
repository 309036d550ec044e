//! The smallest use of MPS on Candle tensors: a product, printed and compared with the CPU's.
//!
//! `cargo run --example mps_matmul --features metal`

use candle_core::{Device, Tensor};
use candle_mps::FusedOps;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let metal = candle_mps::metal::device(0)?;
    let a = Tensor::arange(0f32, 6., &Device::Cpu)?.reshape((2, 3))?;
    let b = Tensor::arange(0f32, 12., &Device::Cpu)?.reshape((3, 4))?;

    let on_mps = a
        .to_device(&metal)?
        .matmul_mps(&b.to_device(&metal)?)?
        .to_vec2::<f32>()?;
    println!("{on_mps:?}");

    let on_cpu = a.matmul(&b)?.to_vec2::<f32>()?;
    if on_mps != on_cpu {
        return Err(format!("MPS and CPU differ: the CPU has {on_cpu:?}").into());
    }
    println!("the same as on the CPU");
    Ok(())
}
