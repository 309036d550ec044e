//! What costs a user of Candle time on this machine today, each with its remedy: measured where that takes
//! no time, otherwise found out from the build and the environment.

use std::env;
use std::time::Instant;

use candle_core::utils::get_num_threads;
use serde::Serialize;

use super::cpu::Cpu;
use crate::bench::stats::quartiles;

/// Something that costs time.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cost {
    /// What is so.
    pub text: String,
    /// What to do about it.
    pub remedy: String,
    /// What it takes each time, where that was measured.
    pub microseconds: Option<f64>,
}

/// What costs depend on.
struct Facts {
    /// `RAYON_NUM_THREADS`.
    threads_asked: Option<usize>,
    /// How many threads Candle uses.
    threads: usize,
    /// What asking for their number takes.
    microseconds: f64,
    /// Cores of the machine, and threads that this process may run at once.
    cores: Option<usize>,
    allowed: Option<usize>,
    avx512: bool,
    /// AVX-512 in Candle's own matmul.
    x86_v4: bool,
    /// A C library that returns freed memory to the system.
    returns_memory: bool,
    debug: bool,
    /// An Apple system without Accelerate.
    no_accelerate: bool,
}

/// The costs on the machine that runs this program.
pub fn of_this_machine(cpu: &Cpu) -> Vec<Cost> {
    let asked = |name: &str| env::var(name).ok();
    let tuned = asked("GLIBC_TUNABLES").is_some_and(|it| it.contains("trim_threshold"));
    costs(&Facts {
        threads_asked: asked("RAYON_NUM_THREADS").and_then(|it| it.parse().ok()),
        threads: get_num_threads(),
        microseconds: asking(),
        cores: cpu.physical_cores,
        allowed: cpu.logical_cores,
        avx512: cpu.has("avx512f"),
        x86_v4: cfg!(feature = "gemm-x86-v4"),
        returns_memory: cfg!(target_env = "gnu")
            && asked("MALLOC_TRIM_THRESHOLD_").is_none()
            && !tuned,
        debug: cfg!(debug_assertions),
        no_accelerate: cfg!(target_vendor = "apple") && !cfg!(feature = "accelerate"),
    })
}

/// What it takes Candle to ask for the number of threads: the median of many times, in microseconds.
fn asking() -> f64 {
    let mut times = [0f64; 101];
    for time in &mut times {
        let began = Instant::now();
        std::hint::black_box(get_num_threads());
        *time = began.elapsed().as_secs_f64() * 1e6;
    }
    let [_, median, _] = quartiles(&times).expect("there are times");
    median
}

fn costs(facts: &Facts) -> Vec<Cost> {
    let Facts {
        threads_asked,
        threads,
        microseconds,
        cores,
        allowed,
        ..
    } = *facts;
    let cost = |text: String, remedy: String| Cost {
        text,
        remedy,
        microseconds: None,
    };
    let mut costs = Vec::new();
    if facts.debug {
        costs.push(cost(
            "this program is a debug build, many times slower than a release".to_owned(),
            "build with --release before you measure anything".to_owned(),
        ));
    }
    // A variable that is read takes a tenth of that.
    if threads_asked.is_none() && microseconds > 1. {
        costs.push(Cost {
            text: "on every matmul, Candle finds out again how many cores there are".to_owned(),
            remedy: format!("set RAYON_NUM_THREADS={threads}, which it asks first"),
            microseconds: Some(microseconds),
        });
    }
    if let (Some(asked), Some(allowed)) = (threads_asked, allowed)
        && asked > 0
        && asked < allowed.min(cores.unwrap_or(allowed))
    {
        costs.push(cost(
            format!("RAYON_NUM_THREADS={asked} leaves cores idle"),
            format!("set it to {}", allowed.min(cores.unwrap_or(allowed))),
        ));
    }
    if let (Some(cores), Some(allowed)) = (cores, allowed)
        && allowed < cores
    {
        costs.push(cost(
            format!("this process may run {allowed} threads at once on {cores} cores"),
            "raise the limit of the container, or of taskset".to_owned(),
        ));
    }
    if facts.avx512 && !facts.x86_v4 {
        costs.push(cost(
            "Candle's own matmul leaves AVX-512 unused as it comes: about half the speed for large \
             matrices"
                .to_owned(),
            "build with the feature `gemm-x86-v4` of candle-mps; it changes every matmul of the program, \
             and single rows do not gain (docs/gemm.md)"
                .to_owned(),
        ));
    }
    if facts.returns_memory {
        costs.push(cost(
            "the C library returns freed memory, and fresh pages cost more than arithmetic: a training \
             step of Candle's took 604 ms instead of 253 (docs/benchmarks.md)"
                .to_owned(),
            "set MALLOC_TRIM_THRESHOLD_=1073741824 and MALLOC_MMAP_THRESHOLD_=33554432, if memory \
             allows"
                .to_owned(),
        ));
    }
    if facts.no_accelerate {
        costs.push(cost(
            "products on the processor do not use Apple's matrix units".to_owned(),
            "build with the feature `accelerate` of candle-mps, for plain f32 and f64 products"
                .to_owned(),
        ));
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    const WELL: Facts = Facts {
        threads_asked: Some(4),
        threads: 4,
        microseconds: 0.1,
        cores: Some(4),
        allowed: Some(8),
        avx512: true,
        x86_v4: true,
        returns_memory: false,
        debug: false,
        no_accelerate: false,
    };

    fn only(facts: &Facts) -> Cost {
        let costs = costs(facts);
        assert_eq!(costs.len(), 1, "{costs:?}");
        costs[0].clone()
    }

    #[test]
    fn a_machine_that_is_set_up_costs_nothing() {
        assert_eq!(costs(&WELL), []);
    }

    #[test]
    fn asking_for_threads_costs_what_was_measured() {
        let slow = Facts {
            threads_asked: None,
            microseconds: 24.,
            ..WELL
        };
        let cost = only(&slow);
        assert_eq!(cost.microseconds, Some(24.));
        assert!(cost.remedy.contains("RAYON_NUM_THREADS=4"), "{cost:?}");
        let quick = Facts {
            threads_asked: None,
            ..WELL
        };
        assert_eq!(costs(&quick), []);
    }

    #[test]
    fn idle_cores_are_noticed() {
        let few = Facts {
            threads_asked: Some(2),
            ..WELL
        };
        assert!(only(&few).remedy.ends_with('4'));
        let limited = Facts {
            allowed: Some(2),
            threads_asked: Some(2),
            ..WELL
        };
        assert!(only(&limited).text.contains("2 threads at once on 4 cores"));
    }

    #[test]
    fn the_build_and_the_environment_are_noticed() {
        let each = [
            (
                Facts {
                    x86_v4: false,
                    ..WELL
                },
                "gemm-x86-v4",
            ),
            (
                Facts {
                    returns_memory: true,
                    ..WELL
                },
                "MALLOC_TRIM_THRESHOLD_",
            ),
            (
                Facts {
                    debug: true,
                    ..WELL
                },
                "--release",
            ),
            (
                Facts {
                    no_accelerate: true,
                    ..WELL
                },
                "accelerate",
            ),
        ];
        for (facts, remedy) in each {
            assert!(only(&facts).remedy.contains(remedy), "{remedy}");
        }
        let narrow = Facts {
            x86_v4: false,
            avx512: false,
            ..WELL
        };
        assert_eq!(costs(&narrow), []);
    }

    #[test]
    fn asking_takes_some_time() {
        assert!(asking() > 0.);
    }
}
