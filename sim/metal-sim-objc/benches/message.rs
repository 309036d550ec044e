//! What a message costs: a send with a warm cache against a virtual call, and the end of an
//! object against a `Box`. Prints medians, spread and the ratio; run with
//! `cargo bench -p metal-sim-objc --bench message` in `sim/`.

// A program on the bindings, which are unsafe.
#![allow(unsafe_code)]

// The runtime; named because nothing here calls it except through its C functions.
use metal_sim_objc as _;
use objc2::rc::Retained;
use objc2::runtime::NSObject;
use objc2::{AnyThread, DefinedClass, define_class, msg_send};
use std::hint::black_box;
use std::time::Instant;

/// How many virtual calls a message may cost.
const LIMIT: f64 = 5.0;
const CALLS: u32 = 10_000;
const ROUNDS: usize = 2_000;

define_class!(
    // SAFETY: NSObject has no requirements on its subclasses, and there is no `Drop`.
    #[unsafe(super(NSObject))]
    #[name = "Counted"]
    #[ivars = u64]
    struct Counted;

    impl Counted {
        #[unsafe(method(plus:))]
        fn plus(&self, more: u64) -> u64 {
            self.ivars() + more
        }
    }
);

impl Counted {
    fn new(value: u64) -> Retained<Self> {
        // SAFETY: NSObject's `init` has this signature.
        unsafe { msg_send![super(Self::alloc().set_ivars(value)), init] }
    }
}

/// The same as a Rust trait, called through a table.
trait Plus {
    fn plus(&self, more: u64) -> u64;
}

struct Boxed(u64);

impl Plus for Boxed {
    #[inline(never)]
    fn plus(&self, more: u64) -> u64 {
        self.0 + more
    }
}

fn main() {
    let object = Counted::new(3);
    let boxed: Box<dyn Plus> = black_box(Box::new(Boxed(3)));
    let message = || {
        let object = black_box(&*object);
        // SAFETY: the method is defined above.
        black_box(unsafe { msg_send![object, plus: black_box(4_u64)] })
    };
    let call = || black_box(black_box(&*boxed).plus(black_box(4)));
    let messages = |calls: u32| (0..calls).map(|_| -> u64 { message() }).sum::<u64>();
    let calls = |calls: u32| (0..calls).map(|_| call()).sum::<u64>();
    let objects = |calls: u32| {
        (0..calls)
            .map(|n| *black_box(Counted::new(n.into())).ivars())
            .sum()
    };
    let boxes = |calls: u32| {
        (0..calls)
            .map(|n| black_box(Box::new(Boxed(n.into()))).0)
            .sum()
    };
    let peers: [(&str, &dyn Fn(u32) -> u64); 4] = [
        ("virtual call", &calls),
        ("message", &messages),
        ("box made and dropped", &boxes),
        ("object made and released", &objects),
    ];
    // In turn, so that a busy moment of the machine hits them all.
    let mut times = [const { Vec::new() }; 4];
    for round in 0..ROUNDS + 100 {
        for ((_, work), times) in peers.iter().zip(&mut times) {
            let start = Instant::now();
            black_box(work(CALLS));
            if round >= 100 {
                times.push(start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS));
            }
        }
    }
    let mut medians = [0.0; 4];
    for (((what, _), times), median) in peers.iter().zip(times).zip(&mut medians) {
        *median = report(what, times);
    }
    let ratio = medians[1] / medians[0];
    let verdict = if ratio <= LIMIT { "within" } else { "above" };
    println!("a message costs {ratio:.1} virtual calls, {verdict} the limit of {LIMIT}");
    println!("an object costs {:.1} boxes", medians[3] / medians[2]);
}

/// Prints the median and the middle half in nanoseconds; returns the median.
fn report(what: &str, mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    let at = |part: f64| times[(times.len() as f64 * part) as usize];
    println!(
        "{what}: median {:.2} ns, middle half {:.2} to {:.2} ns",
        at(0.5),
        at(0.25),
        at(0.75)
    );
    at(0.5)
}
