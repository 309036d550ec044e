//! What the detector's build reports: every access of the kernel's own memory once, with the line of the source, and
//! nothing of the prelude's. And where lanes meet: each place in the source is one in the code.

use std::{ffi::c_void, ptr};

use addr2line::Loader;

use crate::{
    lanes::{self, Report},
    library::{DETECT, Library},
};

const SOURCE: &str = include_str!("detector.cpp");
const READ: u32 = 0;
const WRITE: u32 = 1;
const READ_WRITE: u32 = 2;

/// What a function of detector.cpp reported: line, offset in its memory, size, kind.
fn accesses(name: &str) -> Vec<(u32, usize, u64, u32)> {
    let library = Library::with(&format!("detector_{name}"), SOURCE, &DETECT);
    let loader = Loader::new(
        concat!(env!("CARGO_TARGET_TMPDIR"), "/").to_string() + &format!("detector_{name}.so"),
    )
    .unwrap_or_else(|e| panic!("{e}"));
    // Room that is aligned as the widest vector is.
    let mut memory = vec![0u128; 64];
    let start = memory.as_mut_ptr() as usize;
    // SAFETY: every function of detector.cpp has this type and stays in the first 1024 bytes.
    let function = unsafe { library.get::<unsafe extern "C" fn(*mut u128)>(name) };
    lanes::reports();
    // SAFETY: as above.
    unsafe { function(memory.as_mut_ptr()) };
    let base = base_of(*function as *const c_void);
    let line = |pc: usize| {
        // The call ends where the address is, which may be on the next line.
        let place = loader
            .find_location((pc - 1 - base) as u64)
            .expect("the library has lines")
            .expect("at this place");
        assert_eq!(
            place
                .file
                .map(|f| f.rsplit('/').next() == Some(&format!("detector_{name}"))),
            Some(true),
            "{:?}",
            place.file
        );
        place.line.expect("it has a line")
    };
    lanes::reports()
        .into_iter()
        .filter_map(|report| match report {
            Report::Access { at, size, kind, pc } => Some((line(pc), at - start, size, kind)),
            _ => None,
        })
        .collect()
}

/// Where the library that holds this function was loaded.
fn base_of(function: *const c_void) -> usize {
    let mut info = libc::Dl_info {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    // SAFETY: `info` is written by the call, which only looks the address up.
    let found = unsafe { libc::dladdr(function, &mut info) };
    assert_ne!(found, 0, "the function is in a library");
    info.dli_fbase as usize
}

#[test]
fn accesses_are_reported_with_size_kind_and_line() {
    assert_eq!(
        accesses("sizes"),
        [
            (3, 0, 1, READ),
            (3, 16, 1, WRITE),
            (4, 2, 2, READ),
            (4, 18, 2, WRITE),
            (5, 4, 4, READ),
            (5, 20, 4, WRITE),
            (6, 8, 8, READ),
            (6, 24, 8, WRITE),
            (7, 32, 16, READ),
            (7, 48, 16, WRITE),
        ]
    );
    assert_eq!(
        accesses("updates"),
        [(12, 0, 4, READ_WRITE), (14, 4, 4, READ_WRITE)]
    );
    assert_eq!(
        accesses("copies"),
        [
            (19, 0, 256, READ),
            (19, 256, 256, WRITE),
            (20, 512, 256, WRITE)
        ]
    );
}

#[test]
fn accesses_in_the_prelude_have_the_line_of_the_call() {
    let got = accesses("functions");
    // Two neighbours are loaded and two stored, at once or one after the other.
    let bytes = |line: u32, kind: u32| {
        got.iter()
            .filter(|a| a.0 == line && a.3 == kind)
            .map(|a| a.2)
            .sum::<u64>()
    };
    assert_eq!(
        [
            bytes(26, READ),
            bytes(26, WRITE),
            bytes(27, READ),
            bytes(27, WRITE)
        ],
        [8, 0, 0, 8]
    );
    assert_eq!(
        got[got.len() - 2..],
        [(28, 520, 4, READ), (28, 512, 4, WRITE)]
    );
    assert!(
        got[..got.len() - 2].iter().all(|a| a.0 == 26 || a.0 == 27),
        "{got:?}"
    );
}

#[test]
fn simd_functions_and_locals_report_nothing() {
    assert_eq!(accesses("private_only"), []);
}

#[test]
fn each_place_of_the_source_is_one_of_the_code() {
    for flags in [&[][..], &DETECT] {
        let library = Library::with(
            if flags.is_empty() {
                "meetings"
            } else {
                "meetings_detect"
            },
            include_str!("meetings.cpp"),
            flags,
        );
        let sites = |name: &str, argument: i32| -> Vec<usize> {
            let mut sites = [0usize; 16];
            // SAFETY: every function of meetings.cpp has this type and writes at most 16 sites, and how many it did.
            let count = unsafe {
                library.get::<unsafe extern "C" fn(*mut usize, i32) -> i32>(name)(
                    sites.as_mut_ptr(),
                    argument,
                )
            };
            sites[..count as usize].to_vec()
        };
        for name in ["sums", "barriers", "matrices"] {
            let (left, right) = (sites(name, 1), sites(name, 0));
            assert!(
                left.len() == 1 && right.len() == 1 && left != right,
                "{name}: {left:x?} {right:x?}"
            );
        }
        // Even a loop that is to be unrolled stays one place.
        for name in ["looped", "unrolled"] {
            let sites = sites(name, 4);
            assert!(
                sites.len() == 4 && sites.iter().all(|site| *site == sites[0]),
                "{name}: {sites:x?}"
            );
        }
        let listed = sites("listed", 0);
        assert!(listed.len() == 2 && listed[0] != listed[1], "{listed:x?}");
    }
}
