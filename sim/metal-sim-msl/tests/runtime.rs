//! What the runtime promises to kernels, shown by kernels that are written by hand against the contract.

mod support;

use metal_sim_msl::dispatch::{Dispatch, Grid, Schedule};
use metal_sim_msl::error::Error;
use metal_sim_msl::library::Checks;
use metal_sim_msl::pipeline::{Code, Constants, Pipeline};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use support::{SCHEDULES, binding, groups, run};

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| support::compile("run.cpp", false))
}

fn pipeline(kernel: &str) -> Pipeline {
    support::pipeline(
        library(),
        "run.cpp",
        kernel,
        Checks::default(),
        &Constants::default(),
    )
}

#[test]
fn every_thread_is_told_its_place() {
    let grids = [
        (
            Grid::Threads {
                grid: [70, 3, 2],
                threads: [32, 2, 2],
            },
            [70, 3, 2],
            [32, 2, 2],
        ),
        (
            Grid::Threads {
                grid: [5, 7, 3],
                threads: [4, 4, 2],
            },
            [5, 7, 3],
            [4, 4, 2],
        ),
        (
            Grid::Threadgroups {
                groups: [2, 3, 1],
                threads: [8, 5, 1],
            },
            [16, 15, 1],
            [8, 5, 1],
        ),
    ];
    let pipeline = pipeline("builtins");
    for (grid, size, threads) in grids {
        let count = size.iter().product::<u32>() as usize;
        let mut out = vec![0; count * 26];
        run(&pipeline, grid, Schedule::Random(4), &mut [&mut out]).unwrap();
        for (index, told) in out.chunks(26).enumerate() {
            let index = index as u32;
            let at = [
                index % size[0],
                index / size[0] % size[1],
                index / size[0] / size[1],
            ];
            let mut expected = Vec::new();
            let group = [0, 1, 2].map(|axis| at[axis] / threads[axis]);
            let inside = [0, 1, 2].map(|axis| at[axis] % threads[axis]);
            let actual =
                [0, 1, 2].map(|axis| threads[axis].min(size[axis] - group[axis] * threads[axis]));
            let count = [0, 1, 2].map(|axis| size[axis].div_ceil(threads[axis]));
            for triple in [at, inside, group, actual, threads, count, size] {
                expected.extend(triple);
            }
            let linear = inside[0] + actual[0] * (inside[1] + actual[1] * inside[2]);
            let simdgroups = actual.iter().product::<u32>().div_ceil(32);
            expected.extend([linear, linear % 32, linear / 32, simdgroups, 32]);
            assert_eq!(told, expected, "{grid:?} thread {at:?}");
        }
    }
}

#[test]
fn barriers_hold_under_every_schedule_and_with_1024_threads() {
    let pipeline = pipeline("mirror");
    for schedule in SCHEDULES {
        for threads in [1, 31, 32, 33, 256, 1024] {
            let mut out = vec![0; 3 * threads as usize];
            run(&pipeline, groups(3, threads), schedule, &mut [&mut out]).unwrap();
            for (index, value) in (0..).zip(out) {
                assert_eq!(
                    value,
                    threads - 1 - index % threads + 5,
                    "{schedule:?} {threads} {index}"
                );
            }
        }
    }
}

#[test]
fn threadgroups_run_on_several_os_threads() {
    let pipeline = pipeline("mirror");
    let mut out = vec![0; 200 * 256];
    let buffers = [binding(&mut out, "")];
    let grid = groups(200, 256);
    for threads in [2, 4, 100] {
        let dispatch = Dispatch {
            grid,
            buffers: &buffers,
            threadgroup_memory: &[],
            schedule: Schedule::Fifo,
            threads,
        };
        pipeline.dispatch(&dispatch).unwrap();
    }
    assert!(
        (0..)
            .zip(&out)
            .all(|(index, &value)| value == 255 - index % 256 + 5)
    );
}

#[test]
fn lanes_meet_who_are_at_the_same_place() {
    let pipeline = pipeline("sums");
    for schedule in SCHEDULES {
        for limit in [1, 7, 32] {
            let mut out = vec![0; 64 * 6];
            run(
                &pipeline,
                groups(1, 64),
                schedule,
                &mut [&mut out, &mut [limit]],
            )
            .unwrap();
            for (index, values) in (0..).zip(out.chunks(6)) {
                let lane = index % 32;
                let partial = if lane < limit { limit } else { 0 };
                let odd = if lane % 2 == 1 { 256 } else { 240 + 1600 };
                // In round i, those with more than i rounds: 24, 16, 8.
                let rounds = [0, 24, 40, 48][lane as usize % 4];
                assert_eq!(
                    values,
                    [496, partial, odd, rounds, u32::MAX, 31 - lane],
                    "{schedule:?} {limit} {index}"
                );
            }
        }
    }
}

#[test]
fn a_short_simdgroup_meets_who_is_there() {
    let mut out = vec![0; 40 * 6];
    run(
        &pipeline("sums"),
        groups(1, 40),
        Schedule::Fifo,
        &mut [&mut out, &mut [32]],
    )
    .unwrap();
    let last = &out[39 * 6..];
    assert_eq!(last[..2], [28, 8]);
    assert_eq!(last[4], 0xff);
}

#[test]
fn quads_meet_among_themselves() {
    let pipeline = pipeline("quads");
    for schedule in SCHEDULES {
        let mut out = vec![0; 64 * 3];
        run(&pipeline, groups(1, 64), schedule, &mut [&mut out]).unwrap();
        for (index, values) in (0..).zip(out.chunks(3)) {
            assert_eq!(values[0], index ^ 1);
            let half = if index & 2 != 0 {
                [0b1100, index & !1]
            } else {
                [0, 0]
            };
            assert_eq!(values[1..], half, "{schedule:?} {index}");
        }
    }
}

#[test]
fn threadgroup_memory_is_lent_and_begins_unwritten() {
    let pipeline = pipeline("borrowed");
    assert_eq!(pipeline.max_total_threads_per_threadgroup(), 64);
    assert_eq!(pipeline.static_threadgroup_memory_length(), 4096 + 16);
    let mut out = vec![0; 4 * 64];
    let buffers = [binding(&mut out, "")];
    let mut dispatch = Dispatch {
        grid: groups(4, 64),
        buffers: &buffers,
        threadgroup_memory: &[256, 300],
        schedule: Schedule::Fifo,
        threads: 1,
    };
    pipeline.dispatch(&dispatch).unwrap();
    assert!(
        (0..)
            .zip(&out)
            .all(|(index, &value)| value == 1000 + 3 * ((index % 64) ^ 1) + 7)
    );

    dispatch.threadgroup_memory = &[256];
    let error = pipeline.dispatch(&dispatch).unwrap_err();
    assert!(
        matches!(&error, Error::NoThreadgroupMemory { argument, index: 1, .. } if argument == "two"),
        "{error}"
    );
    dispatch.threadgroup_memory = &[16384, 16384];
    let error = pipeline.dispatch(&dispatch).unwrap_err();
    assert!(
        matches!(error, Error::ThreadgroupMemory { needed: 36880, .. }),
        "{error}"
    );
    dispatch.threadgroup_memory = &[256, 300];
    dispatch.grid = groups(1, 65);
    let error = pipeline.dispatch(&dispatch).unwrap_err();
    assert!(
        matches!(
            error,
            Error::ThreadgroupTooLarge {
                threads: 65,
                limit: 64,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn function_constants_and_arguments_that_are_off() {
    let with = |scale: Option<u32>, extra: bool| {
        let mut constants = Constants::default();
        if let Some(scale) = scale {
            constants.set_index(0, "uint", &scale.to_ne_bytes());
        }
        constants.set_name("extra", "bool", &[extra.into()]);
        support::pipeline(
            library(),
            "run.cpp",
            "constants",
            Checks::default(),
            &constants,
        )
    };
    let (plain, scaled, both) = (with(None, false), with(Some(3), false), with(Some(4), true));
    // Pipelines of one library do not see each other's values, whoever was dispatched last.
    for _ in 0..2 {
        for (pipeline, expected) in [(&plain, 10), (&scaled, 30), (&both, 9041)] {
            let mut out = [0; 2];
            let input = &mut [9][..];
            let buffers: &mut [&mut [u32]] = if expected > 9000 {
                &mut [&mut out, input]
            } else {
                &mut [&mut out]
            };
            run(pipeline, groups(1, 2), Schedule::Fifo, buffers).unwrap();
            assert_eq!(out, [expected; 2]);
        }
    }
    let mut wrong = Constants::default();
    wrong.set_index(0, "float", &[0; 4]);
    wrong.set_index(1, "bool", &[1]);
    let code = |kernel| Code {
        path: library(),
        kernel,
        source: "run.cpp",
        prelude: Path::new("/nowhere"),
        arguments: vec![],
        checks: Checks::default(),
    };
    let error = Pipeline::open(code("constants"), &wrong).err().unwrap();
    assert!(matches!(error, Error::BadConstant { .. }), "{error}");
    let error = Pipeline::open(code("constants"), &Constants::default())
        .err()
        .unwrap();
    assert!(
        matches!(&error, Error::MissingConstant { name, index: 1, .. } if name == "extra"),
        "{error}"
    );
    let error = Pipeline::open(code("constant"), &Constants::default())
        .err()
        .unwrap();
    assert!(matches!(error, Error::NoFunction { .. }), "{error}");
}

#[test]
fn faults_are_errors_and_the_next_dispatch_runs() {
    for _ in 0..3 {
        for (kernel, expected) in [
            ("overflow", "overflowed its stack at run.cpp:"),
            ("divide", "divided an integer by zero at run.cpp:"),
            (
                "wild",
                "accessed memory that is not there, at address 0x400000000000, at run.cpp:",
            ),
            ("unbound", "argument `in` [[buffer(1)]] is not bound"),
        ] {
            let error = run(
                &pipeline(kernel),
                groups(3, 64),
                Schedule::Fifo,
                &mut [&mut [0; 256]],
            )
            .unwrap_err();
            assert!(error.to_string().contains(expected), "{kernel}: {error}");
        }
        let mut out = vec![0; 64];
        run(
            &pipeline("mirror"),
            groups(1, 64),
            Schedule::Fifo,
            &mut [&mut out],
        )
        .unwrap();
        assert_eq!(out[0], 68);
    }
}

#[test]
fn a_thread_that_waits_lets_others_run_and_not_forever() {
    for schedule in SCHEDULES {
        let mut out = [0; 2];
        run(&pipeline("wait"), groups(1, 64), schedule, &mut [&mut out]).unwrap();
        assert_eq!(out, [1, 64]);
    }
    let error = run(
        &pipeline("forever"),
        groups(1, 2),
        Schedule::Fifo,
        &mut [&mut [0]],
    )
    .unwrap_err();
    assert!(matches!(error, Error::Stuck { .. }), "{error}");
    assert!(error.to_string().contains("at run.cpp:"), "{error}");
}

#[test]
fn bad_dispatches_are_refused() {
    let pipeline = pipeline("mirror");
    let error = run(&pipeline, groups(1, 0), Schedule::Fifo, &mut [&mut [0]]).unwrap_err();
    assert!(matches!(error, Error::BadGrid { .. }), "{error}");
    let error = run(&pipeline, groups(1, 1), Schedule::Fifo, &mut [&mut []]).unwrap_err();
    assert!(
        matches!(
            error,
            Error::SmallBuffer {
                needed: 4,
                length: 0,
                ..
            }
        ),
        "{error}"
    );
    let error = run(
        &self::pipeline("large"),
        groups(1, 1),
        Schedule::Fifo,
        &mut [&mut [0]],
    )
    .unwrap_err();
    assert!(matches!(error, Error::ThreadgroupMemory { .. }), "{error}");
    run(&pipeline, groups(0, 8), Schedule::Fifo, &mut [&mut [0]]).unwrap();
}
