//! Switches for behaviour that the sources about Apple's frameworks leave open or
//! contradict each other on. Each is an environment variable, read once; the default is the
//! reading that lets correct programs pass and incorrect ones be seen.

use crate::inject::Inject;
use crate::mutant::WithoutBarrier;
use crate::schedule::Mode;
use metal_sim_msl::{Checks, Schedule};
use std::fmt::Display;
use std::sync::{OnceLock, PoisonError, RwLock};

/// What to do about something doubtful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Accept,
    /// Tell it once.
    Warn,
    /// Treat it as misuse.
    Fault,
}

impl Verdict {
    /// Does it.
    pub(crate) fn on(self, rule: &str, detail: impl Display) {
        match self {
            Self::Accept => {}
            Self::Warn => crate::fault::warn(rule, detail),
            Self::Fault => crate::fault::fault(rule, detail),
        }
    }
}

/// The switches of this process.
#[derive(Clone, Debug)]
pub struct Rules {
    /// `METAL_SIM_READ_C`: an MPS product with beta = 0 reads C all the same, so that
    /// garbage in an output buffer shows (NaN × 0 is NaN). Default off, as BLAS reads.
    pub read_c_when_beta_is_zero: bool,
    /// `METAL_SIM_IGNORE_BATCH_START`: MPS kernels begin with the first matrix of a batch whatever `batchStart` says, as
    /// one report has it of macOS 26.5. Default off, as the header says.
    pub ignore_batch_start: bool,
    /// `METAL_SIM_DEVICES`: how many devices there are. Default 1.
    pub devices: usize,
    /// `METAL_SIM_HANDLER_WITH_OPEN_ENCODER` (`accept`, `warn` or `fault`): adding a completed
    /// handler while an encoder is open. Candle does; a report says that macOS 26.4 aborts on
    /// it, unconfirmed. Default warn.
    pub handler_with_open_encoder: Verdict,
    /// `METAL_SIM_EMPTY_BYTES` (`accept`, `warn` or `fault`): `setBytes` of no bytes, which Candle gives kernels for
    /// the dimensions of a scalar. Metal's debug layer stops on it: default fault with `MTL_DEBUG_LAYER=1`, as on a
    /// Mac, else warn.
    pub empty_bytes: Verdict,
    /// `METAL_SIM_EMPTY_GRID`: a dispatch of no threadgroups or threads. The debug layer stops on it, and without it
    /// nothing runs, so that programs may count on it. Default fault.
    pub empty_grid: Verdict,
    /// `METAL_SIM_OFFSET_ALIGNMENT`: a buffer bound at an offset that is no multiple of what the argument's type is
    /// aligned to. General knowledge, no page of Apple's. Default fault.
    pub offset_alignment: Verdict,
    /// `METAL_SIM_COPY_ALIGNMENT`: a copy between buffers at offsets or of sizes that are no multiple of 4, which Macs
    /// with an Intel GPU refused. Default warn.
    pub copy_alignment: Verdict,
    /// `METAL_SIM_WATCHDOG_MS`: after how long a command buffer that waits for an event is
    /// ended with a timeout. Default 10000.
    pub watchdog_ms: u64,
    /// `METAL_SIM_RACES` (`off`, `on` or `strict`): every kernel runs with the detector of races, accesses out
    /// of bounds, uninitialised reads and divergence; a finding is a fault. `strict` has a barrier order only
    /// the memory that its flags name. Default off.
    pub checks: Checks,
    /// `METAL_SIM_RACES_IN`: the detector is for kernels only whose source contains this text, so that what is known
    /// of others is not told. Default: for all.
    pub watched_text: String,
    /// `METAL_SIM_TRAFFIC` (`off` or `on`): [`Work`](crate::Work) has the bytes that kernels touch, and not the
    /// buffers that they could. The detector counts them; what it finds is a fault only if `checks` asks for it.
    /// Default off.
    pub traffic: bool,
    /// `METAL_SIM_SCHEDULE` (`fifo`, `reverse`, `lifo` or a seed): in which order the threads of a threadgroup
    /// take turns. Default fifo.
    pub schedule: Schedule,
    /// `METAL_SIM_ORDER` (`in-order`, `apple` or a seed): in which order work runs that nothing orders. Default in-order.
    pub order: Mode,
    /// Whether the environment says that order: checks then run no other.
    pub order_is_given: bool,
    /// `METAL_SIM_HAZARDS` (`off` or `on`): accesses of GPU work that nothing orders are faults. Kernels run with the
    /// detector, which knows what they touch. Default off.
    pub hazards: bool,
    /// `METAL_SIM_FENCES_ACROSS_QUEUES` (`off` or `on`): a fence orders passes of two queues. Apple's article on fences
    /// says so, the reference of encoders and an engineer say the contrary. Default off.
    pub fences_across_queues: bool,
    /// `METAL_SIM_LARGE_PRODUCT_DEFECT`: products with `(row + 2K) * resultRowBytes` of this
    /// many bytes or more come out wrong, as on M1 and M2 from 2³¹ on. Default off.
    pub large_product_defect: Option<u64>,
    /// `METAL_SIM_WITHOUT_BARRIER` (`N` or `N:TEXT`): barrier N behind TEXT, from 0, is taken out of the sources that
    /// contain it, to see whether the detector misses it. Default: none is.
    pub without_barrier: Option<WithoutBarrier>,
    /// `METAL_SIM_INJECT`: command buffers that fail, memory that runs out, a slow GPU. Default: none of it.
    pub inject: Inject,
}

impl Rules {
    /// What kernels run with: the detector if somebody asks for what it finds, or for what it counts.
    pub fn watched(&self) -> Checks {
        Checks {
            races: self.checks.races || self.traffic || self.hazards,
            ..self.checks
        }
    }

    /// The same for the kernels of a source.
    pub(crate) fn watched_in(&self, source: &str) -> Checks {
        match source.contains(&self.watched_text) {
            true => self.watched(),
            false => Checks::default(),
        }
    }
}

static RULES: OnceLock<RwLock<&'static Rules>> = OnceLock::new();

fn all() -> &'static RwLock<&'static Rules> {
    RULES.get_or_init(|| RwLock::new(Box::leak(Box::new(from_environment()))))
}

/// The switches of this process.
pub fn rules() -> &'static Rules {
    *all().read().unwrap_or_else(PoisonError::into_inner)
}

/// Changes switches in a program that is made to run on the simulator, before it uses a device. What the environment
/// says of others stays.
pub fn choose(change: impl FnOnce(&mut Rules)) {
    let mut all = all().write().unwrap_or_else(PoisonError::into_inner);
    let mut rules = (*all).clone();
    change(&mut rules);
    *all = Box::leak(Box::new(rules));
}

/// Changes all switches.
pub(crate) fn set(rules: &'static Rules) {
    *all().write().unwrap_or_else(PoisonError::into_inner) = rules;
}

fn from_environment() -> Rules {
    Rules {
        read_c_when_beta_is_zero: number("METAL_SIM_READ_C").is_some_and(|on| on != 0),
        ignore_batch_start: number("METAL_SIM_IGNORE_BATCH_START").is_some_and(|on| on != 0),
        devices: number("METAL_SIM_DEVICES").unwrap_or(1).max(1) as usize,
        handler_with_open_encoder: verdict("METAL_SIM_HANDLER_WITH_OPEN_ENCODER", Verdict::Warn),
        empty_bytes: verdict("METAL_SIM_EMPTY_BYTES", debug_layer()),
        empty_grid: verdict("METAL_SIM_EMPTY_GRID", Verdict::Fault),
        offset_alignment: verdict("METAL_SIM_OFFSET_ALIGNMENT", Verdict::Fault),
        copy_alignment: verdict("METAL_SIM_COPY_ALIGNMENT", Verdict::Warn),
        watchdog_ms: number("METAL_SIM_WATCHDOG_MS").unwrap_or(10_000),
        checks: checks(),
        watched_text: std::env::var("METAL_SIM_RACES_IN").unwrap_or_default(),
        traffic: on("METAL_SIM_TRAFFIC"),
        order: order(),
        order_is_given: std::env::var_os("METAL_SIM_ORDER").is_some(),
        hazards: on("METAL_SIM_HAZARDS"),
        fences_across_queues: on("METAL_SIM_FENCES_ACROSS_QUEUES"),
        schedule: schedule(),
        large_product_defect: number("METAL_SIM_LARGE_PRODUCT_DEFECT"),
        without_barrier: without_barrier(),
        inject: inject(),
    }
}

/// Whether a switch is on; a word that is none is told once and is on.
fn on(name: &str) -> bool {
    match std::env::var(name).as_deref() {
        Ok("off" | "0") | Err(_) => false,
        Ok("on" | "1") => true,
        Ok(other) => {
            let told = format!("{name}={other} is neither on nor off; it is on");
            crate::fault::warn("switch", told);
            true
        }
    }
}

/// The barrier that is taken away. A mutant that is none would look like one that nobody misses, so that is misuse.
fn without_barrier() -> Option<WithoutBarrier> {
    let text = std::env::var("METAL_SIM_WITHOUT_BARRIER").ok()?;
    Some(text.parse().unwrap_or_else(|why: String| {
        crate::fault::fault("switch", format!("METAL_SIM_WITHOUT_BARRIER: {why}"))
    }))
}

/// What is injected. A fault that is none would look like one that does no harm, so that is misuse.
fn inject() -> Inject {
    let text = std::env::var("METAL_SIM_INJECT").unwrap_or_default();
    text.parse().unwrap_or_else(|why: String| {
        crate::fault::fault("switch", format!("METAL_SIM_INJECT: {why}"))
    })
}

/// A switch's number; a value that is none is told once and counts as absent.
fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    let number = value.trim().parse().ok();
    if number.is_none() {
        crate::fault::warn(
            "switch",
            format!("{name}={value} is not a number; the default is used"),
        );
    }
    number
}

/// What to do about what only Metal's debug layer stops: Apple's own variable says whether somebody wants to know.
fn debug_layer() -> Verdict {
    match std::env::var("MTL_DEBUG_LAYER").as_deref() {
        Ok("" | "0") | Err(_) => Verdict::Warn,
        Ok(_) => Verdict::Fault,
    }
}

/// A switch's verdict, or else the default; a word that is none is told once and is a warning.
fn verdict(name: &str, default: Verdict) -> Verdict {
    match std::env::var(name).as_deref() {
        Ok("accept") => Verdict::Accept,
        Ok("fault") => Verdict::Fault,
        Ok("warn") => Verdict::Warn,
        Err(_) => default,
        Ok(other) => {
            let told = format!("{name}={other} is none of accept, warn, fault; warn is used");
            crate::fault::warn("switch", told);
            Verdict::Warn
        }
    }
}

/// What kernels are checked for; a word that is none is told once and is as strict as can be.
fn checks() -> Checks {
    let (races, strict_flags) = match std::env::var("METAL_SIM_RACES").as_deref() {
        Ok("off" | "0") | Err(_) => (false, false),
        Ok("on" | "1") => (true, false),
        Ok("strict") => (true, true),
        Ok(other) => {
            let told =
                format!("METAL_SIM_RACES={other} is none of off, on, strict; strict is used");
            crate::fault::warn("switch", told);
            (true, true)
        }
    };
    Checks {
        races,
        strict_flags,
    }
}

/// The order of GPU work. One that is none would pass for one that finds nothing, so that is misuse.
fn order() -> Mode {
    let text = std::env::var("METAL_SIM_ORDER").ok();
    text.map_or(Mode::InOrder, |text| {
        text.parse().unwrap_or_else(|why: String| {
            crate::fault::fault("switch", format!("METAL_SIM_ORDER: {why}"))
        })
    })
}

/// The order of GPU threads; what is none is told once.
fn schedule() -> Schedule {
    Schedule::from_env().unwrap_or_else(|why| {
        crate::fault::warn("switch", format!("METAL_SIM_SCHEDULE: {why}"));
        Schedule::default()
    })
}
