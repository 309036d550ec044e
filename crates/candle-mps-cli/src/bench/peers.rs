//! Who takes part: our routes, Candle as it comes and configured, PyTorch and MLX. Each is a program with an
//! environment; who is not installed has a column all the same, with the reason.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::device::Place;
use super::plan::Planned;
use super::process::Program;
use super::python;
use crate::results::bench::Peer;

/// The version of Candle that this program is built with.
pub const CANDLE: &str = "0.11.1";

/// Names the same program built with `gemm-x86-v4`, whose Candle multiplies with AVX-512.
pub const X86_V4: &str = "CANDLE_MPS_X86_V4";

/// Overrules the table of routes on Metal.
pub const ROUTE: &str = "CANDLE_MPS_ROUTE";

/// The ops and types that have a kernel of MPS.
const MPS: Part = Part::OnMetal {
    ops: &["matmul", "softmax", "log_softmax"],
    dtypes: &["f32", "f16"],
};

/// The ops that the table of routes gives to Candle at some sizes: without a peer that overrules it, Candle would be
/// held against Candle there.
const TABLED: Part = Part::OnMetal {
    ops: &["matmul", "linear"],
    dtypes: &["f32", "f16", "bf16"],
};

/// What glibc is told so that it gives no memory back: 1 GiB at the end of its own, and the largest size that
/// it takes from there. How long fresh pages take is the system's business, and on virtual machines a lottery.
const KEEP_MEMORY: [(&str, &str); 2] = [
    ("MALLOC_TRIM_THRESHOLD_", "1073741824"),
    ("MALLOC_MMAP_THRESHOLD_", "33554432"),
];

/// A peer before it is started.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As `--against` takes it.
    pub id: &'static str,
    /// What it is, until it has said so itself.
    pub title: String,
    /// Whether a decision is taken against it.
    pub baseline: bool,
    /// Whether it takes part without being named.
    pub usual: bool,
    /// The rows that it is asked about.
    pub part: Part,
    /// How to start it, or why it cannot be.
    pub program: Result<Program, String>,
}

/// Which rows a peer can say something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    All,
    /// It is configured as the processor likes it, of which a GPU knows nothing.
    OnCpu,
    /// It overrules the table of routes, for these ops and types.
    OnMetal {
        ops: &'static [&'static str],
        dtypes: &'static [&'static str],
    },
}

impl Entry {
    /// Whether it takes part in a row.
    pub fn takes_part(&self, row: &Planned) -> bool {
        match self.part {
            Part::All => true,
            Part::OnCpu => row.device == Place::Cpu,
            Part::OnMetal { ops, dtypes } => {
                row.device == Place::Metal
                    && ops.contains(&row.op.as_str())
                    && dtypes.contains(&row.dtype.as_str())
            }
        }
    }

    /// Its column.
    pub fn column(&self) -> Peer {
        Peer {
            id: self.id.to_owned(),
            title: self.title.clone(),
            baseline: self.baseline,
            absent: self.program.as_ref().err().cloned(),
        }
    }
}

/// Every peer there can be; ours is first.
pub fn all() -> Vec<Entry> {
    let threads = candle_mps_cpu::threads::count();
    let own = |who: &str, program: Option<OsString>| Program {
        program: program.unwrap_or_else(this_program),
        arguments: vec!["peer".into(), who.into()],
        ..Program::default()
    };
    let configured = |mut program: Program| {
        program.set = vec![("RAYON_NUM_THREADS", threads.to_string())];
        for (name, value) in KEEP_MEMORY {
            program.set.push((name, value.to_owned()));
        }
        program
    };
    let installed = |mut program: Program| {
        program.unset = vec!["RAYON_NUM_THREADS", ROUTE];
        program.unset.extend(KEEP_MEMORY.map(|(name, _)| name));
        program
    };
    let mut ours = configured(own("ours", None));
    // As the table of routes says.
    ours.unset.push(ROUTE);
    let narrow = |isa: &str| {
        let mut program = ours.clone();
        program.set.push(("CANDLE_MPS_ISA", isa.to_owned()));
        program
    };
    let entry = |id, title: &str, baseline, usual, program| Entry {
        id,
        title: title.to_owned(),
        baseline,
        usual,
        part: Part::All,
        program,
    };
    let on_cpu = |entry: Entry| Entry {
        part: Part::OnCpu,
        ..entry
    };
    let mut all = vec![
        entry(
            "ours",
            "candle-mps, configured",
            false,
            true,
            Ok(ours.clone()),
        ),
        on_cpu(entry(
            "candle-installed",
            "Candle, as installed",
            false,
            true,
            Ok(installed(own("candle", None))),
        )),
        entry(
            "candle",
            "Candle, configured",
            true,
            true,
            Ok(configured(own("candle", None))),
        ),
    ];
    if would_gain_by_avx512() && !cfg!(feature = "gemm-x86-v4") {
        let program = match x86_v4() {
            Some(program) => Ok(configured(own("candle", Some(program.into())))),
            None => Err(format!(
                "its Candle needs a build of its own: run `cargo install candle-mps-cli --features \
                 gemm-x86-v4 --root FOLDER`, and set {X86_V4} to FOLDER/bin/candle-mps"
            )),
        };
        all.push(on_cpu(entry(
            "candle-v4",
            "Candle, configured, gemm/x86-v4",
            true,
            true,
            program,
        )));
    }
    if cfg!(feature = "metal") {
        let routes = [
            ("ours-kernels", "candle-mps, by its kernels", "ours", TABLED),
            ("ours-mps", "candle-mps, by MPS", "mps", MPS),
        ];
        for (id, title, route, part) in routes {
            let mut program = configured(own("ours", None));
            program.set.push((ROUTE, route.to_owned()));
            all.push(Entry {
                part,
                ..entry(id, title, false, true, Ok(program))
            });
        }
    }
    for peer in python::PEERS {
        let program = peer.program(threads);
        all.push(entry(peer.id, peer.title, false, true, program));
    }
    all.push(on_cpu(entry(
        "ours-installed",
        "candle-mps, as installed",
        false,
        false,
        Ok(installed(own("ours", None))),
    )));
    // The variants that this machine has below its best.
    let best = candle_mps_cpu::simd::isa()
        .map(|isa| isa.name())
        .unwrap_or_default();
    for (id, isa) in [("ours-avx2", "avx2"), ("ours-scalar", "scalar")] {
        let has = candle_mps_cpu::simd::available()
            .iter()
            .any(|it| it.name() == isa);
        if has && best != isa {
            let title = format!("candle-mps, configured, {isa} only");
            all.push(on_cpu(entry(id, &title, false, false, Ok(narrow(isa)))));
        }
    }
    all
}

fn this_program() -> OsString {
    env::current_exe().map_or_else(|_| "candle-mps".into(), PathBuf::into)
}

/// The build whose Candle has AVX-512, as the variable says.
fn x86_v4() -> Option<PathBuf> {
    let named = env::var_os(X86_V4).filter(|value| !value.is_empty());
    named
        .map(PathBuf::from)
        .filter(|path| Path::new(path).exists())
}

/// Whether Candle would multiply faster here if it were built for it.
fn would_gain_by_avx512() -> bool {
    candle_mps_cpu::simd::available()
        .iter()
        .any(|isa| isa.name() == "avx512")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plan;

    #[test]
    fn ours_is_first_and_names_are_unique() {
        let all = all();
        assert_eq!(all[0].id, "ours");
        for entry in &all {
            assert_eq!(
                all.iter().filter(|it| it.id == entry.id).count(),
                1,
                "{}",
                entry.id
            );
        }
        let baselines: Vec<_> = all
            .iter()
            .filter(|it| it.baseline)
            .map(|it| it.id)
            .collect();
        assert!(baselines.contains(&"candle") && !baselines.contains(&"candle-installed"));
    }

    #[test]
    fn a_gpu_is_asked_of_those_who_use_it() {
        let (rows, _) = plan::read(
            r#"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            device = "metal"
            [[rows]]
            op = "softmax"
            shapes = ["2x8"]
            dtype = "bf16"
            device = "metal"
            [[rows]]
            op = "rope"
            shapes = ["1x1x2x8"]
            device = "metal"
            [[rows]]
            op = "matmul"
            shapes = ["2x2x2"]
            dtype = "bf16"
            device = "metal"
            "#,
        )
        .unwrap();
        for entry in all() {
            let part: Vec<_> = rows.iter().map(|row| entry.takes_part(row)).collect();
            let expected = match entry.id {
                "ours-mps" => [false, true, false, false, false],
                "ours-kernels" => [false, false, false, false, true],
                "ours" | "candle" | "pytorch" | "mlx" => [true; 5],
                _ => [true, false, false, false, false],
            };
            assert_eq!(part, expected, "{}", entry.id);
        }
    }

    #[test]
    fn the_version_of_candle_is_that_of_the_lock_file() {
        let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../Cargo.lock");
        let lock = std::fs::read_to_string(lock).unwrap();
        let entry = format!("name = \"candle-core\"\nversion = \"{CANDLE}\"\n");
        assert!(lock.contains(&entry), "{CANDLE}");
    }

    #[test]
    fn as_installed_means_without_what_configures() {
        let all = all();
        let find = |id: &str| {
            all.iter()
                .find(|it| it.id == id)
                .unwrap()
                .program
                .clone()
                .unwrap()
        };
        assert!(
            find("candle-installed")
                .unset
                .contains(&"RAYON_NUM_THREADS")
        );
        assert!(
            find("candle")
                .set
                .iter()
                .any(|(name, _)| *name == "RAYON_NUM_THREADS")
        );
        assert!(find("candle").unset.is_empty());
        assert_eq!(find("ours").unset, [ROUTE]);
    }
}
