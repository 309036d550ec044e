//! The ops on rows beside Candle's own: forward beside its fused ops, backward beside the composition
//! that its users must train with.
//!
//!     cargo bench -p candle-mps --bench rows [-- <part of a row's name>...]
//!
//! `--as-installed` leaves Candle as it comes. PyTorch joins in when `CANDLE_MPS_PYTORCH` names a Python
//! that has it. How rows are measured: `harness`.

mod harness;

use candle_core::{D, Result, Tensor, Var};
use candle_mps::{nn, ops};
use candle_nn::Optimizer;

use harness::{Bench, Work, random};

fn main() {
    harness::main(|bench| {
        forward(bench)?;
        backward(bench)?;
        optimizer(bench, 4096)?;
        optimizer(bench, 128)
    });
}

fn forward(bench: &Bench) -> Result<()> {
    for (rows, width) in [(1, 1024), (128, 1024), (4096, 4096)] {
        let name = |op: &str| format!("{op} {rows}x{width}");
        let x = random(&[rows, width])?;
        let (w, b) = (random(&[width])?, random(&[width])?);
        let work = Work::Bytes(8 * rows * width);
        bench.row(
            &name("softmax"),
            work,
            || candle_nn::ops::softmax_last_dim(&x),
            || Ok(ops::softmax_last_dim(&x)?),
        )?;
        bench.row(
            &name("RMS norm"),
            work,
            || candle_nn::ops::rms_norm(&x, &w, 1e-5),
            || Ok(ops::rms_norm(&x, &w, 1e-5)?),
        )?;
        bench.row(
            &name("layer norm"),
            work,
            || candle_nn::ops::layer_norm(&x, &w, &b, 1e-5),
            || Ok(ops::layer_norm(&x, &w, Some(&b), 1e-5)?),
        )?;
    }
    let rows = Rows::new()?;
    bench.row(
        "log-softmax 128x1024",
        Work::Bytes(8 * ELEMENTS),
        || candle_nn::ops::log_softmax(&rows.x, D::Minus1),
        || Ok(ops::log_softmax(&rows.x, D::Minus1)?),
    )?;
    bench.row(
        "swiglu 128x1024",
        Work::Bytes(12 * ELEMENTS),
        || rows.x.silu()? * rows.up.as_tensor(),
        || Ok(ops::swiglu(&rows.x, &rows.up)?),
    )?;
    bench.row(
        "geglu 128x1024",
        Work::Bytes(12 * ELEMENTS),
        || rows.x.gelu()? * rows.up.as_tensor(),
        || Ok(ops::geglu(&rows.x, &rows.up)?),
    )?;
    bench.row(
        "cross-entropy 128x1024",
        Work::Bytes(4 * ELEMENTS),
        || candle_nn::loss::cross_entropy(&rows.x, &rows.targets),
        || Ok(ops::cross_entropy(&rows.x, &rows.targets)?),
    )?;
    let (heads, cos, sin) = angles()?;
    bench.row(
        "rope 1x8x256x64",
        Work::Bytes(8 * ELEMENTS),
        || candle_nn::rotary_emb::rope(&heads, &cos, &sin),
        || Ok(ops::rope(&heads, &cos, &sin)?),
    )
}

/// Elements of the rows that are not in the name: 128x1024, and as many in 8 heads of 256x64.
const ELEMENTS: usize = 128 * 1024;

/// 128 rows of 1024, and what goes with them.
struct Rows {
    x: Var,
    up: Var,
    weight: Var,
    bias: Var,
    targets: Tensor,
}

impl Rows {
    fn new() -> Result<Self> {
        let x = Var::from_tensor(&random(&[128, 1024])?)?;
        let targets = (0..128u32).map(|row| row * 7);
        Ok(Self {
            up: Var::from_tensor(&random(&[128, 1024])?)?,
            weight: Var::from_tensor(&random(&[1024])?)?,
            bias: Var::from_tensor(&random(&[1024])?)?,
            targets: Tensor::from_iter(targets, x.device())?,
            x,
        })
    }
}

fn angles() -> Result<(Var, Tensor, Tensor)> {
    let heads = Var::from_tensor(&random(&[1, 8, 256, 64])?)?;
    Ok((
        heads,
        random(&[256, 32])?.cos()?,
        random(&[256, 32])?.sin()?,
    ))
}

/// Backward of the op alone, from ones, the graph standing. Three passes over the elements: argument
/// and gradient in, gradient out.
fn backward(bench: &Bench) -> Result<()> {
    let row = |name: &str, candle: Tensor, ours: Tensor| {
        let name = format!("{name} backward 128x1024");
        let work = Work::Bytes(12 * ELEMENTS);
        bench.row(&name, work, || candle.backward(), || ours.backward())
    };
    let Rows {
        x,
        up,
        weight,
        bias,
        targets,
    } = Rows::new()?;
    row(
        "softmax",
        candle_nn::ops::softmax(&x, 1)?,
        ops::softmax_last_dim(&x)?,
    )?;
    row(
        "log-softmax",
        candle_nn::ops::log_softmax(&x, 1)?,
        ops::log_softmax(&x, 1)?,
    )?;
    row(
        "RMS norm",
        candle_nn::ops::rms_norm_slow(&x, &weight, 1e-5)?,
        ops::rms_norm(&x, &weight, 1e-5)?,
    )?;
    row(
        "layer norm",
        candle_nn::ops::layer_norm_slow(&x, &weight, &bias, 1e-5)?,
        ops::layer_norm(&x, &weight, Some(&bias), 1e-5)?,
    )?;
    row("swiglu", (x.silu()? * &*up)?, ops::swiglu(&x, &up)?)?;
    row("geglu", (x.gelu()? * &*up)?, ops::geglu(&x, &up)?)?;
    row(
        "cross-entropy",
        candle_nn::loss::cross_entropy(&x, &targets)?,
        ops::cross_entropy(&x, &targets)?,
    )?;
    let (heads, cos, sin) = angles()?;
    let (candle, ours) = (
        candle_nn::rotary_emb::rope_slow(&heads, &cos, &sin)?,
        ops::rope(&heads, &cos, &sin)?,
    );
    bench.row(
        "rope backward 1x8x256x64",
        Work::Bytes(8 * ELEMENTS),
        || candle.backward(),
        || ours.backward(),
    )
}

/// One step of AdamW on a square matrix: four passes read, three written.
fn optimizer(bench: &Bench, width: usize) -> Result<()> {
    let parameter = || Var::from_tensor(&random(&[width, width])?);
    let (theirs, ours) = (parameter()?, parameter()?);
    let g = random(&[width, width])?;
    let grads = |var: &Var| (var.as_tensor() * &g)?.sum_all()?.backward();
    let (for_theirs, for_ours) = (grads(&theirs)?, grads(&ours)?);
    let mut candle = candle_nn::AdamW::new_lr(vec![theirs], 1e-3)?;
    let mut adamw = nn::AdamW::new_lr(vec![ours], 1e-3)?;
    bench.row(
        &format!("AdamW {width}x{width}"),
        Work::Bytes(28 * width * width),
        || candle.step(&for_theirs),
        || adamw.step(&for_ours),
    )
}
