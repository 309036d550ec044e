//! Which path each op takes on this machine, and why: ops with the same answer together.

use candle_mps_cpu::simd;
use serde::Serialize;

use super::Uses;

/// Ops that take one path.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Path {
    /// Where the tensors are: `cpu` or `metal`.
    pub device: &'static str,
    /// As the functions are named.
    pub ops: Vec<&'static str>,
    /// What computes them.
    pub route: String,
    pub why: String,
}

/// A pass over rows.
const ROWS: [&str; 14] = [
    "softmax",
    "softmax_last_dim",
    "log_softmax",
    "rms_norm",
    "rms_norm_no_weight",
    "layer_norm",
    "rope",
    "rope_i",
    "rope_thd",
    "swiglu",
    "geglu",
    "geglu_erf",
    "cross_entropy",
    "cross_entropy_with",
];
/// Products, with something before or after them.
const TILES: [&str; 4] = ["attention", "flash_attention", "lora", "lora_delta"];
/// Products alone, which other libraries have as well.
pub const PRODUCTS: [&str; 4] = ["matmul", "linear", "linear_with", "linear_add"];
const ADAMW: &str = "AdamW";
const MPS: [&str; 3] = ["matmul_mps", "softmax_mps", "log_softmax_mps"];

/// The paths of a machine that has this.
pub fn of(uses: &Uses) -> Vec<Path> {
    let mut paths = on_cpu();
    if let Uses::Metal { mps, .. } = uses {
        paths.extend(on_metal(*mps));
    }
    paths
}

fn on_cpu() -> Vec<Path> {
    let (kernels, why) = match simd::isa() {
        Ok(isa) => {
            let why = if std::env::var_os("CANDLE_MPS_ISA").is_some() {
                "CANDLE_MPS_ISA asks for it"
            } else {
                "the best instruction set here, forward and backward, on any strides"
            };
            (format!("our kernels for {}", isa.name()), why.to_owned())
        }
        Err(error) => ("an error".to_owned(), error.to_string()),
    };
    let path = |ops: Vec<&'static str>, route: String, why: &str| Path {
        device: "cpu",
        ops,
        route,
        why: why.to_owned(),
    };
    let accelerate = cfg!(all(feature = "accelerate", target_vendor = "apple"));
    let mut own = [&ROWS[..], &TILES, &[ADAMW]].concat();
    if accelerate {
        let products = path(
            PRODUCTS.to_vec(),
            format!("Accelerate for plain f32 and f64, else {kernels}"),
            "the feature `accelerate` is on, and only Apple reaches its matrix units",
        );
        return vec![path(own, kernels, &why), products];
    }
    own.extend(PRODUCTS);
    vec![path(own, kernels, &why)]
}

fn on_metal(mps: bool) -> Vec<Path> {
    let path = |ops: Vec<&'static str>, route: &str, why: &str| Path {
        device: "metal",
        ops,
        route: route.to_owned(),
        why: why.to_owned(),
    };
    let of_mps = if mps {
        path(
            MPS.to_vec(),
            "MPS on Candle's own buffers, with a wait in each call",
            "work of another queue is ordered with Candle's by waiting for both",
        )
    } else {
        path(MPS.to_vec(), "an error", "MPS has no kernels for this GPU")
    };
    let fused = path(
        [&ROWS[..], &TILES, &PRODUCTS].concat(),
        "our kernels on Candle's own stream, unless a route below says otherwise",
        "one table decides; what a kernel does not take goes to a composition of Candle's ops",
    );
    let adamw = path(
        vec![ADAMW],
        "a composition of Candle's ops",
        "there is no kernel of ours for it",
    );
    vec![fused, adamw, of_mps]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify;

    #[test]
    fn every_op_has_one_path_on_each_device() {
        let metal = Uses::Metal {
            device: "a GPU".to_owned(),
            mps: true,
        };
        let paths = of(&metal);
        for device in ["cpu", "metal"] {
            let on = paths.iter().filter(|path| path.device == device);
            let ops: Vec<_> = on.flat_map(|path| &path.ops).collect();
            for name in verify::names() {
                let count = ops.iter().filter(|op| ***op == name).count();
                assert_eq!(count, 1, "{name} on {device}");
            }
        }
        assert!(of(&Uses::Cpu).iter().all(|path| path.device == "cpu"));
    }

    #[test]
    fn without_mps_its_ops_are_errors() {
        let metal = Uses::Metal {
            device: "a GPU".to_owned(),
            mps: false,
        };
        let paths = of(&metal);
        let path = paths.iter().find(|path| path.ops.contains(&"matmul_mps"));
        assert_eq!(path.unwrap().route, "an error");
    }
}
