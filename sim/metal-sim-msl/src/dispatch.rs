//! What a pipeline is asked to run: a grid, buffers, threadgroup memory, and in which order.

use std::env;
use std::ops::Range;
use std::sync::Arc;

use crate::finding::Finding;
use crate::written::Written;

/// How many threads, and how they are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grid {
    /// So many threadgroups, all of the same size.
    Threadgroups { groups: [u32; 3], threads: [u32; 3] },
    /// So many threads; threadgroups at the edges are smaller.
    Threads { grid: [u32; 3], threads: [u32; 3] },
}

/// A buffer from its offset to its end.
#[derive(Clone, Debug)]
pub struct Binding {
    pub address: *mut u8,
    pub length: usize,
    /// As findings call it.
    pub label: String,
    /// Of a private buffer: which bytes of it were written so far. A read of others is a finding. The detector adds
    /// what the kernel writes.
    pub written: Option<Arc<Written>>,
}

/// The order in which the threads of a threadgroup take turns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Schedule {
    /// In the order of their numbers, as they become ready.
    #[default]
    Fifo,
    /// The last first.
    Reverse,
    /// Whoever became ready last goes on: one thread runs as far as it can.
    Lifo,
    /// By a seed.
    Random(u64),
}

/// Names a schedule: `fifo`, `reverse`, `lifo`, or a number for a random one.
pub const SCHEDULE: &str = "METAL_SIM_SCHEDULE";

impl Schedule {
    /// As [`SCHEDULE`] says; what it does not understand is an error that names what it does.
    pub fn from_env() -> Result<Self, String> {
        env::var(SCHEDULE).map_or(Ok(Self::default()), |text| text.parse())
    }
}

impl std::str::FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "fifo" => Ok(Self::Fifo),
            "reverse" => Ok(Self::Reverse),
            "lifo" => Ok(Self::Lifo),
            seed => seed.parse().map(Self::Random).map_err(|_| {
                format!("a schedule is fifo, reverse, lifo or the number of a seed, not `{seed}`")
            }),
        }
    }
}

/// One dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch<'a> {
    pub grid: Grid,
    /// By index; an argument whose function constant is off needs none.
    pub buffers: &'a [Option<Binding>],
    /// Bytes by index of `[[threadgroup(index)]]`.
    pub threadgroup_memory: &'a [usize],
    pub schedule: Schedule,
    /// OS threads that threadgroups are spread over. The detector uses one.
    pub threads: usize,
}

/// What came of a dispatch, beside what it wrote.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Without the detector, none. Each place once.
    pub findings: Vec<Finding>,
    /// If it was asked for.
    pub traffic: Traffic,
    /// If it was asked for: which bytes those are.
    pub touched: Touched,
}

/// The bytes of the buffers that a dispatch read and wrote, by address and in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub read: Vec<Range<usize>>,
    pub written: Vec<Range<usize>>,
    /// What atomic functions alone accessed is here and not there.
    pub atomic_read: Vec<Range<usize>>,
    pub atomic_written: Vec<Range<usize>>,
}

/// Distinct bytes of the buffers that a dispatch read and wrote: what it must move at least, however often it looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub bytes_read: u64,
    pub bytes_written: u64,
}
