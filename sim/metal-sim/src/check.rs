//! Runs a piece of a program in many orders, and says which orderings it lacks. To a program on Metal this is what loom
//! is to one with threads.
//!
//! ```no_run
//! metal_sim::check(|| {
//!     // Make a device, encode, commit, wait, look at the results.
//! });
//! ```

use crate::gpu;
use crate::hazards;
use crate::lock;
use crate::order;
use crate::rules::{Rules, rules, set};
use crate::schedule::Mode;
use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

pub use crate::schedule::Mode as Order;

/// What was found, ready to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    text: String,
}

impl Finding {
    /// With its last line: how to see it again.
    pub(crate) fn new(text: String) -> Self {
        let replay = format!(
            "  replay:  METAL_SIM_HAZARDS=on METAL_SIM_ORDER={}",
            rules().order
        );
        Self {
            text: format!("{text}\n{replay}"),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// So many are kept of one run: what comes after is mostly their consequence.
const MANY: usize = 16;

/// Where findings go while a check runs.
static COLLECTED: Mutex<Option<Vec<Finding>>> = Mutex::new(None);

/// A finding goes to the check that runs; without one it is a fault.
pub(crate) fn report(finding: Finding) {
    if let Some(found) = &mut *lock(&COLLECTED) {
        if found.len() < MANY {
            found.push(finding);
        }
        return;
    }
    let text = finding.text;
    let (rule, detail) = text.split_once(": ").unwrap_or(("finding", &text));
    crate::fault::fault(rule, detail)
}

/// Whether a check runs.
pub(crate) fn is_on() -> bool {
    lock(&COLLECTED).is_some()
}

/// Runs a piece of a program in order, as Apple's GPUs may, and by 32 seeds (`METAL_SIM_SEEDS`), or only as
/// `METAL_SIM_ORDER` says. Panics with the first finding.
pub fn check(piece: impl FnMut()) {
    Check::new().run(piece);
}

/// Does something at the end, however that comes.
struct Defer<F: FnMut()>(F);

impl<F: FnMut()> Drop for Defer<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// What a check runs and what it is to find.
#[derive(Clone, Debug)]
pub struct Check {
    orders: Vec<Mode>,
    expected: Option<String>,
    in_each: bool,
    watchdog_ms: Option<u64>,
}

/// What came of a check.
#[derive(Clone, Debug)]
pub struct Report {
    /// How often the piece was run.
    pub runs: usize,
    /// What was found, in all runs.
    pub found: Vec<Finding>,
}

impl Default for Check {
    fn default() -> Self {
        Self::new()
    }
}

impl Check {
    /// Every mode, and as many seeds as `METAL_SIM_SEEDS` says, or 32. Nothing is to be found.
    pub fn new() -> Self {
        let seeds = std::env::var("METAL_SIM_SEEDS").ok();
        let check = Self {
            orders: Vec::new(),
            expected: None,
            in_each: false,
            watchdog_ms: None,
        };
        check.seeds(0..seeds.and_then(|count| count.parse().ok()).unwrap_or(32))
    }

    /// Other seeds.
    pub fn seeds(self, seeds: std::ops::Range<u64>) -> Self {
        let modes = [Mode::InOrder, Mode::Apple];
        self.orders(modes.into_iter().chain(seeds.map(Mode::Seed)))
    }

    /// These orders only.
    pub fn orders(mut self, orders: impl IntoIterator<Item = Mode>) -> Self {
        self.orders = orders.into_iter().collect();
        self
    }

    /// The piece is wrong: at least one run must find something whose text contains this.
    pub fn expect(mut self, text: &str) -> Self {
        self.expected = Some(text.to_owned());
        self
    }

    /// The same of every run: what is found does not depend on the schedule, unless the program does.
    pub fn expect_in_each(self, text: &str) -> Self {
        Self {
            in_each: true,
            ..self.expect(text)
        }
    }

    /// After how long a wait that does not end is a deadlock.
    pub fn watchdog_ms(mut self, milliseconds: u64) -> Self {
        self.watchdog_ms = Some(milliseconds);
        self
    }

    /// Runs the piece in each order. One check at a time: the simulator's switches are the process's, and nothing else
    /// of the process should use the GPU meanwhile. Kernels that were made before the check are not watched, and use
    /// their buffers whole.
    pub fn run(self, mut piece: impl FnMut()) -> Report {
        static TURN: Mutex<()> = Mutex::new(());
        thread_local!(static INSIDE: Cell<bool> = const { Cell::new(false) });
        if INSIDE.get() {
            crate::fault::fault("check", "a check inside a check");
        }
        let _turn = lock(&TURN);
        INSIDE.set(true);
        let _inside = Defer(|| INSIDE.set(false));
        let before = rules();
        let only = before.order_is_given.then_some(before.order);
        let orders: Vec<Mode> = only.map_or_else(|| self.orders.clone(), |order| vec![order]);
        let mut report = Report {
            runs: 0,
            found: Vec::new(),
        };
        for order in orders {
            let found = self.once(before, order, &mut piece);
            report.runs += 1;
            if let Err(wrong) = self.judge(&order.to_string(), &found, self.in_each) {
                panic!("{wrong}");
            }
            report.found.extend(found);
        }
        if let Err(wrong) = self.judge("any", &report.found, true) {
            panic!("{wrong}");
        }
        report
    }

    /// One run, with its findings; a panic is one.
    fn once(&self, before: &'static Rules, order: Mode, piece: &mut impl FnMut()) -> Vec<Finding> {
        gpu::settle_all();
        hazards::reset();
        let rules = Rules {
            order,
            hazards: true,
            watchdog_ms: self.watchdog_ms.unwrap_or(before.watchdog_ms),
            inject: before.inject.afresh(),
            ..before.clone()
        };
        // Leaked, as all switches are: a few hundred bytes for each run of a test.
        set(Box::leak(Box::new(rules)));
        *lock(&COLLECTED) = Some(Vec::new());
        let outcome = catch_unwind(AssertUnwindSafe(piece));
        gpu::settle_all();
        let panicked = outcome.err().map(|panic| Finding::new(told(&*panic)));
        let found = lock(&COLLECTED).take().unwrap_or_default();
        set(before);
        order::see_all();
        found.into_iter().chain(panicked).collect()
    }

    fn judge(&self, order: &str, found: &[Finding], all_there: bool) -> Result<(), String> {
        match (&self.expected, found) {
            (None, []) => Ok(()),
            (None, [first, ..]) => Err(first.to_string()),
            (Some(text), found) if found.iter().any(|it| it.text.contains(text)) => Ok(()),
            (Some(_), _) if !all_there => Ok(()),
            (Some(text), []) => Err(format!(
                "order {order}: “{text}” was not found; nothing was"
            )),
            (Some(text), [first, ..]) => Err(format!(
                "order {order}: “{text}” was not found, but this:\n{first}"
            )),
        }
    }
}

/// The text of a panic, as a finding begins.
fn told(panic: &(dyn Any + Send)) -> String {
    format!("panic: {}", gpu::panic_text(panic))
}
