//! What atomic functions return and leave, and what the runtime is told of them.

use std::{sync::LazyLock, thread};

use crate::{
    lanes::{self, Report},
    library::Library,
};

static LIBRARY: LazyLock<Library> =
    LazyLock::new(|| Library::new("atomics", include_str!("atomics.cpp")));

#[test]
fn each_function_returns_what_was_there() {
    // Before and after: load, store, exchange, add, sub, and, or, xor, max, max, min, min.
    let got: Vec<i32> = LIBRARY.map("integers", &[0; 28]);
    let expected = [
        5, 5, 0, 7, 7, 9, 9, 12, 12, 4, 4, 4, 4, 7, 7, 2, 2, 2, 2, 3, 3, -1, -1,
        -1, // before, after
        1, 8, 0,
        8, // an exchange that compared equal, one that did not and learned what is there
    ];
    assert_eq!(got, expected);
    let got: Vec<f32> = LIBRARY.map("floats", &[0; 8]);
    assert_eq!(got, [1.5, 4.0, 4.0, 3.75, 3.75, 9.0, 1.0, 9.0]);
    let got: Vec<u64> = LIBRARY.map("wide", &[0; 5]);
    assert_eq!(got, [1 << 40, 1 << 40, 1 << 33, 0, 1]);
    let unsigned: Vec<u32> = LIBRARY.map("unsigned_extremes", &[0; 2]);
    assert_eq!(unsigned, [u32::MAX, 3]);
}

#[test]
fn additions_of_several_threads_are_all_counted() {
    let mut sums = [0u32, 0];
    let address = sums.as_mut_ptr() as usize;
    thread::scope(|scope| {
        for _ in 0..4 {
            // SAFETY: atomics.cpp defines it so; `sums` outlives the scope, and only atomic instructions touch it.
            scope.spawn(move || unsafe {
                LIBRARY.get::<unsafe extern "C" fn(*mut u32, u32)>("add")(
                    address as *mut u32,
                    20_000,
                )
            });
        }
    });
    assert_eq!([sums[0], f32::from_bits(sums[1]) as u32], [80_000, 80_000]);
}

#[test]
fn the_runtime_hears_of_each_with_its_order() {
    lanes::reports();
    let mut value = [0u64; 2];
    let at = value.as_mut_ptr() as usize;
    // SAFETY: atomics.cpp defines it so, and `value` is as large as what it touches.
    unsafe { LIBRARY.get::<unsafe extern "C" fn(*mut u64)>("orders")(value.as_mut_ptr()) };
    let atomic = |at, size, kind, order| Report::Atomic {
        at,
        size,
        kind,
        order,
    };
    assert_eq!(
        lanes::reports(),
        [
            atomic(at, 4, 0, 0),
            atomic(at, 4, 0, 1),
            atomic(at, 4, 1, 2),
            atomic(at, 4, 2, 3),
            atomic(at, 4, 2, 4),
            atomic(at, 4, 2, 0),
            atomic(at, 1, 1, 0),
            atomic(at + 8, 8, 2, 0),
            Report::Fence { flags: 3, order: 3 },
            Report::Fence { flags: 1, order: 4 },
        ]
    );
}

#[test]
fn a_runtime_without_a_detector_needs_no_report() {
    static SILENT: lanes::Runtime = lanes::Runtime {
        atomic: None,
        fence: None,
        ..lanes::RUNTIME
    };
    let library = Library::new("atomics_silent", include_str!("atomics.cpp"));
    library.bind(&SILENT);
    lanes::reports();
    let mut value = [0u64; 2];
    // SAFETY: atomics.cpp defines it so, and `value` is as large as what it touches.
    unsafe { library.get::<unsafe extern "C" fn(*mut u64)>("orders")(value.as_mut_ptr()) };
    assert_eq!((value[0] as u32, value[1]), (1, 7));
    assert_eq!(lanes::reports(), []);
}
