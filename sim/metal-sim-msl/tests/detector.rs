//! Each class of bug: the wrong kernel is caught under every schedule, at its lines; its correct twin is silent.

mod support;

use metal_sim_msl::Written;
use metal_sim_msl::dispatch::{Binding, Dispatch, Grid, Schedule};
use metal_sim_msl::finding::{AccessKind, Finding, FindingKind};
use metal_sim_msl::library::Checks;
use metal_sim_msl::pipeline::Constants;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use support::{SCHEDULES, binding, groups, source};

const FILE: &str = "races.cpp";

fn library() -> &'static PathBuf {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| support::compile(FILE, true))
}

/// Lines marked with a role of a kernel, by comment.
fn marked(kernel: &str, role: &str) -> Vec<u32> {
    let text = fs::read_to_string(source(FILE)).unwrap();
    let mark = format!("// {kernel}:");
    let is_it = |line: &str| {
        line.split_once(&mark)
            .is_some_and(|(_, roles)| roles.contains(role))
    };
    (1..)
        .zip(text.lines())
        .filter(|(_, line)| is_it(line))
        .map(|(number, _)| number)
        .collect()
}

/// Runs every schedule.
fn findings(kernel: &str, grid: Grid, strict_flags: bool) -> Vec<Vec<Finding>> {
    let checks = Checks {
        races: true,
        strict_flags,
    };
    let pipeline = support::pipeline(library(), FILE, kernel, checks, &Constants::default());
    let run = |schedule| {
        // Far apart: just behind the one must not be the other.
        let mut memory = vec![3; 4096];
        let (out, input) = memory.split_at_mut(2048);
        out.fill(0);
        let buffers = [
            binding(&mut out[..512], "result"),
            binding(&mut input[1024..1088], ""),
        ];
        let dispatch = Dispatch {
            grid,
            buffers: &buffers,
            threadgroup_memory: &[],
            schedule,
            threads: 4,
        };
        pipeline.dispatch(&dispatch).unwrap().findings
    };
    SCHEDULES.map(run).into()
}

/// The wrong kernel has one finding, of this kind at the marked lines; the right one has none.
fn pair(name: &str, kind: FindingKind, grid: Grid) -> Finding {
    let wrong = format!("{name}_wrong");
    let mut any = None;
    for findings in findings(&wrong, grid, false) {
        let [finding] = &findings[..] else {
            panic!("{wrong}: {findings:#?}")
        };
        assert_eq!((finding.kind, &finding.kernel), (kind, &wrong), "{finding}");
        let mut lines = vec![finding.second.place.line];
        lines.extend(finding.first.as_ref().map(|access| access.place.line));
        let mut expected = marked(&wrong, "second");
        if finding.first.is_some() {
            expected.extend(marked(&wrong, "first"));
        }
        lines.sort_unstable();
        expected.sort_unstable();
        assert_eq!(lines, expected, "{finding}");
        assert_eq!(finding.second.place.file, FILE);
        any = Some(finding.clone());
    }
    silent(&format!("{name}_right"), grid);
    any.unwrap()
}

fn silent(kernel: &str, grid: Grid) {
    for findings in findings(kernel, grid, false) {
        assert!(findings.is_empty(), "{kernel}: {}", findings[0]);
    }
}

#[test]
fn a_missing_barrier() {
    let finding = pair("neighbour", FindingKind::Race, groups(1, 128));
    assert_eq!(finding.what, "threadgroup variable `cells`");
    pair("rounds", FindingKind::Race, groups(1, 64));
    pair("late", FindingKind::Race, groups(1, 64));
}

#[test]
fn a_race_between_simdgroups_says_which_barrier_is_missing() {
    let finding = pair("across", FindingKind::Race, groups(1, 64));
    assert!(
        finding
            .missing
            .contains("no threadgroup_barrier between them"),
        "{finding}"
    );
    let first = finding.first.unwrap();
    assert_eq!(first.thread.simdgroup, 1 - finding.second.thread.simdgroup);
    assert_eq!((first.offset, first.size), (finding.second.offset, 4));
}

#[test]
fn lanes_of_a_simdgroup_do_not_run_in_step() {
    let finding = pair("step", FindingKind::Race, groups(1, 64));
    assert!(
        finding.missing.contains("no simdgroup_barrier"),
        "{finding}"
    );
    pair("quad", FindingKind::Race, groups(1, 64));
}

#[test]
fn threadgroups_are_not_ordered() {
    let finding = pair("groups", FindingKind::Race, groups(3, 32));
    assert_eq!(finding.what, "buffer 0 `out` (result)");
    assert_eq!(
        (finding.second.offset, finding.second.kind),
        (4, AccessKind::Write)
    );
    assert_ne!(
        finding.first.unwrap().thread.threadgroup,
        finding.second.thread.threadgroup
    );
    pair("readers", FindingKind::Race, groups(4, 32));
}

#[test]
fn races_are_exact_to_the_byte() {
    let finding = pair("bytes", FindingKind::Race, groups(1, 32));
    let sizes = [finding.first.unwrap().size, finding.second.size];
    assert!(sizes == [1, 4] || sizes == [4, 1]);
}

#[test]
fn atomics_race_with_plain_accesses_alone() {
    let finding = pair("counter", FindingKind::Race, groups(1, 64));
    assert!(
        finding.missing.contains("only one of them is atomic"),
        "{finding}"
    );
}

#[test]
fn release_and_acquire_order() {
    pair("message", FindingKind::Race, groups(1, 64));
    pair("fence", FindingKind::Race, groups(2, 32));
}

#[test]
fn accesses_out_of_bounds() {
    let finding = pair("end", FindingKind::OutOfBounds, groups(1, 64));
    assert_eq!(
        (&finding.what[..], finding.second.offset),
        ("buffer 1 `in`", 256)
    );
    assert_eq!(finding.missing, "the buffer has 256 bytes");
    let finding = pair("store", FindingKind::OutOfBounds, groups(1, 64));
    assert_eq!(finding.second.kind, AccessKind::Write);
    let finding = pair("overrun", FindingKind::OutOfBounds, groups(1, 64));
    assert_eq!(
        (&finding.what[..], finding.second.offset),
        ("threadgroup variable `small`", 256)
    );
}

#[test]
fn threadgroup_memory_that_nobody_wrote() {
    let finding = pair("unwritten", FindingKind::Uninitialised, groups(2, 64));
    assert!(finding.second.offset >= 128, "{finding}");
}

#[test]
fn barriers_and_simd_operations_that_not_all_come_to() {
    let finding = pair("skipped", FindingKind::DivergentBarrier, groups(1, 64));
    assert!(finding.missing.starts_with("40 of 64 threads"), "{finding}");
    pair("branches", FindingKind::DivergentBarrier, groups(1, 64));
    let finding = pair("half", FindingKind::DivergentSimd, groups(1, 64));
    assert!(
        finding.missing.starts_with("lanes 16-31 of the simdgroup"),
        "{finding}"
    );
}

#[test]
fn strict_mode_wants_the_flags() {
    let grid = groups(1, 64);
    silent("flags_wrong", grid);
    for findings in findings("flags_wrong", grid, true) {
        assert_eq!(findings.len(), 1, "{findings:#?}");
        assert!(
            findings[0].missing.contains("with mem_flags::mem_device"),
            "{}",
            findings[0]
        );
    }
    for findings in findings("flags_right", grid, true) {
        assert!(findings.is_empty(), "{}", findings[0]);
    }
}

#[test]
fn a_finding_reads_at_once() {
    let kernel = "neighbour_wrong";
    let finding = &findings(kernel, groups(1, 64), false)[0][0];
    let (first, second) = (marked(kernel, "first")[0], marked(kernel, "second")[0]);
    let expected = format!(
        "{FILE}:{second}: race in kernel `{kernel}`, threadgroup variable `cells`\n  \
         {FILE}:{first}: thread (1,0,0) of threadgroup (0,0,0), simdgroup 0 lane 1"
    );
    // Under fifo, thread 0 reads the cell of thread 1 before that wrote it: the write is the second.
    let text = finding.to_string();
    assert_eq!(text.lines().count(), 4, "{text}");
    assert!(
        text.contains(" writes 4 bytes at offset 4") && text.contains(" reads 4 bytes at offset 4"),
        "{text}\n{expected}"
    );
    assert!(text.starts_with(&format!(
        "{FILE}:{first}: race in kernel `{kernel}`, threadgroup variable `cells`\n"
    )));
    assert!(text.contains(&format!(
        "\n  {FILE}:{second}: thread (0,0,0) of threadgroup (0,0,0), simdgroup 0 lane 0 reads"
    )));
}

/// What a kernel finds that runs in one threadgroup with a private buffer 1 of 64 words.
fn with_private(
    kernel: &str,
    threads: u32,
    memory: &mut [u32],
    written: &Arc<Written>,
) -> Vec<Finding> {
    let checks = Checks {
        races: true,
        strict_flags: false,
    };
    let pipeline = support::pipeline(library(), FILE, kernel, checks, &Constants::default());
    let (out, private) = memory.split_at_mut(2048);
    let private = binding(&mut private[1024..1088], "private").map(|binding| Binding {
        written: Some(Arc::clone(written)),
        ..binding
    });
    let dispatch = Dispatch {
        grid: groups(1, threads),
        buffers: &[binding(&mut out[..512], ""), private],
        threadgroup_memory: &[],
        schedule: Schedule::Fifo,
        threads: 1,
    };
    pipeline.dispatch(&dispatch).unwrap().findings
}

#[test]
fn private_buffers_that_nobody_wrote() {
    let mut memory = vec![3; 4096];
    let private = memory[3072..].as_ptr().cast();
    let written = Arc::new(Written::nothing(private, 256));
    for kernel in ["take", "count"] {
        let found = with_private(kernel, 64, &mut memory, &written);
        let [finding] = &found[..] else {
            panic!("{found:#?}")
        };
        assert_eq!(finding.kind, FindingKind::Uninitialised);
        assert_eq!(finding.what, "buffer 1 `in` (private)");
        assert_eq!(finding.second.place.line, marked(kernel, "second")[0]);
        assert_eq!((finding.second.offset, finding.second.size), (0, 4));
        if kernel == "count" {
            // It has written all the same, and that is known.
            assert_eq!(with_private("take", 64, &mut memory, &written), []);
        }
    }
    // What one dispatch wrote, another may read, and no more.
    let written = Arc::new(Written::nothing(private, 256));
    assert_eq!(with_private("fill", 32, &mut memory, &written), []);
    assert_eq!(with_private("take", 32, &mut memory, &written), []);
    let found = with_private("take", 64, &mut memory, &written);
    assert_eq!(
        (found.len(), found[0].second.offset),
        (1, 128),
        "{found:#?}"
    );
    // So it is with what others than kernels wrote, to the byte.
    written.mark(128..255);
    let found = with_private("take", 64, &mut memory, &written);
    assert_eq!(
        (found.len(), found[0].second.offset),
        (1, 252),
        "{found:#?}"
    );
    written.mark(255..256);
    assert_eq!(with_private("take", 64, &mut memory, &written), []);
    let written = Arc::new(Written::nothing(private, 256));
    assert_eq!(with_private("fill_and_take", 64, &mut memory, &written), []);
}

/// Compiled accesses decide most by themselves: never otherwise than the detector would.
#[test]
fn what_compiled_accesses_decide_is_what_the_detector_would() {
    let asking = support::compile_with(FILE, true, &["-DMSL_ASK"]);
    let both = [library(), &asking].map(|library| {
        [false, true].map(|strict_flags| {
            let checks = Checks {
                races: true,
                strict_flags,
            };
            support::pipeline(library, FILE, "table", checks, &Constants::default())
        })
    });
    let mut random = 1_u64;
    let mut below = |end: u64| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (random >> 33) % end
    };
    let mut found = [0; 2];
    for round in 0..600_u64 {
        let mut memory = vec![0_u32; 8192];
        let (out, steps) = memory.split_at_mut(4096);
        // Few words, one of its own for each lane, or another's; most steps are the same for all lanes.
        let words = 1 << below(7);
        for step in 0..12 {
            let (together, what, other) = (below(4) > 0, below(13), 1 << below(6));
            for lane in 0..64 {
                let what = if together { what } else { below(8) };
                let at = match round % 3 {
                    0 => below(words),
                    1 => lane,
                    _ => lane ^ other,
                };
                steps[step * 64 + lane as usize] = (what | at << 4) as u32;
            }
        }
        let buffers = [binding(&mut out[..64], ""), binding(&mut steps[..768], "")];
        let schedule = SCHEDULES[round as usize % SCHEDULES.len()];
        let strict = usize::from(round % 5 == 0);
        let [quick, asked] = both.each_ref().map(|pipelines| {
            let dispatch = Dispatch {
                grid: groups(1 + (round % 4 / 3) as u32, 64),
                buffers: &buffers,
                threadgroup_memory: &[],
                schedule,
                threads: 1,
            };
            let findings = pipelines[strict].dispatch(&dispatch).unwrap().findings;
            let mut kinds: Vec<_> = findings
                .iter()
                .map(|one| {
                    let mut lines = [
                        one.second.place.line,
                        one.first.as_ref().map_or(0, |first| first.place.line),
                    ];
                    lines.sort_unstable();
                    (format!("{:?}", one.kind), one.what.clone(), lines)
                })
                .collect();
            kinds.sort();
            kinds
        });
        found[usize::from(!asked.is_empty())] += 1;
        assert_eq!(quick, asked, "round {round}, {schedule:?}");
    }
    assert!(found.iter().all(|&count| count > 20), "{found:?}");
}
