//! Faults on demand: what a program does when a command buffer fails, when there is no memory, when the GPU is slow or
//! gone, can be asked without waiting for it to happen. By position, to hit one place of a program; by seed, to hit
//! many, each of which can be hit again.

use crate::chance::{STEP, mixed};
use crate::lock;
use crate::model::command_buffer::Failure;
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The ways in which command buffers fail: how the switch calls them, Metal's code, and what the error says, by which
/// it can be searched for.
const ERRORS: [(&str, isize, &str); 10] = [
    ("internal", 1, "Internal Error"),
    (
        "timeout",
        2,
        "Caused GPU Timeout Error (00000002:kIOGPUCommandBufferCallbackErrorTimeout)",
    ),
    (
        "page-fault",
        3,
        "Caused GPU Address Fault Error (0000000b:kIOGPUCommandBufferCallbackErrorPageFault)",
    ),
    (
        "access-revoked",
        4,
        "Ignored (for causing prior/excessive GPU errors) \
         (00000004:kIOGPUCommandBufferCallbackErrorSubmissionsIgnored)",
    ),
    (
        "not-permitted",
        7,
        "Insufficient Permission (to submit GPU work from background)",
    ),
    (
        "out-of-memory",
        8,
        "Insufficient Memory (00000008:kIOGPUCommandBufferCallbackErrorOutOfMemory)",
    ),
    (
        "invalid-resource",
        9,
        "Invalid Resource (00000009:kIOGPUCommandBufferCallbackErrorInvalidResource)",
    ),
    (
        "memoryless",
        10,
        "Memoryless attachments exceed the GPU's memory",
    ),
    ("device-removed", REMOVED, "Device Removed"),
    ("stack-overflow", 12, "Caused GPU Stack Overflow Error"),
];

/// Metal's code for a device that is gone: it does not come back.
const REMOVED: isize = 11;

/// Without a number, one in so many is hit by a seed.
const ONE_IN: u64 = 16;

/// What is injected: `METAL_SIM_INJECT`, a list with commas between.
///
/// | | |
/// |---|---|
/// | `timeout@3` | the third command buffer that is committed fails, and none of its work is done; the names are `internal`, `timeout`, `page-fault`, `access-revoked`, `not-permitted`, `out-of-memory`, `invalid-resource`, `memoryless`, `device-removed`, `stack-overflow` |
/// | `timeout@3+` | that one and all later ones; `device-removed` is always so |
/// | `timeout~7` | one in 16, as the seed 7 draws them |
/// | `timeout~7/100` | one in 100 |
/// | `nil@3`, `nil@3+`, `nil~7`, `nil~7/100` | the same for allocations of buffers and heaps, which answer nil |
/// | `nil>1000000` | every allocation of more bytes |
/// | `slow=5` | every pass takes 5 ms longer |
///
/// Positions are counted from 1, from when the list was parsed.
#[derive(Clone, Debug, Default)]
pub struct Inject {
    faults: Vec<Fault>,
    slow: Duration,
    so_far: Arc<Mutex<SoFar>>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Fault {
    what: What,
    when: When,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum What {
    /// A command buffer fails, in one of [`ERRORS`].
    Error(usize),
    /// An allocation fails.
    Nil,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum When {
    At(u64),
    From(u64),
    Drawn { seed: u64, one_in: u64 },
    Above(usize),
}

/// What has happened since the list was parsed.
#[derive(Debug, Default)]
struct SoFar {
    commits: u64,
    allocations: u64,
    removed: bool,
}

impl When {
    fn is_now(self, number: u64, bytes: usize) -> bool {
        match self {
            Self::At(at) => number == at,
            Self::From(from) => number >= from,
            Self::Drawn { seed, one_in } => drawn(seed, number).is_multiple_of(one_in),
            Self::Above(most) => bytes > most,
        }
    }
}

/// A number that depends on both and on nothing else, so that threads do not change what is drawn.
fn drawn(seed: u64, number: u64) -> u64 {
    mixed(seed.wrapping_add(number.wrapping_mul(STEP)))
}

impl Inject {
    /// Counts a commit, and says how the command buffer fails, if it does.
    pub(crate) fn commit(&self) -> Option<Failure> {
        if self.faults.is_empty() {
            return None;
        }
        let mut so_far = lock(&self.so_far);
        so_far.commits += 1;
        let number = so_far.commits;
        let hit = self.faults.iter().find_map(|fault| match fault.what {
            What::Error(which) => {
                let (_, code, _) = ERRORS[which];
                let stays = so_far.removed && code == REMOVED;
                (stays || fault.when.is_now(number, 0)).then_some(which)
            }
            What::Nil => None,
        })?;
        let (_, code, text) = ERRORS[hit];
        so_far.removed |= code == REMOVED;
        let told = format!("{text}; injected at command buffer {number}");
        Some(Failure::new(code, told))
    }

    /// Counts an allocation, and says whether there is no memory for it.
    pub(crate) fn refuses(&self, bytes: usize) -> bool {
        if self.faults.is_empty() {
            return false;
        }
        let mut so_far = lock(&self.so_far);
        so_far.allocations += 1;
        let number = so_far.allocations;
        self.faults
            .iter()
            .any(|fault| fault.what == What::Nil && fault.when.is_now(number, bytes))
    }

    /// How many command buffers were committed, and allocations asked for, since the list was parsed. An empty list
    /// does not count.
    pub fn so_far(&self) -> (u64, u64) {
        let so_far = lock(&self.so_far);
        (so_far.commits, so_far.allocations)
    }

    /// The same list, with nothing counted so far.
    pub(crate) fn afresh(&self) -> Self {
        Self {
            so_far: Arc::default(),
            ..self.clone()
        }
    }

    /// How much longer a pass takes.
    pub(crate) fn slow(&self) -> Option<Duration> {
        (!self.slow.is_zero()).then_some(self.slow)
    }
}

impl FromStr for Inject {
    type Err = String;

    fn from_str(list: &str) -> Result<Self, String> {
        let mut inject = Self::default();
        for one in list.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            if let Some(millis) = one.strip_prefix("slow=") {
                inject.slow = Duration::from_millis(number(millis, one)?);
            } else {
                inject.faults.push(one.parse()?);
            }
        }
        Ok(inject)
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(one: &str) -> Result<Self, String> {
        let place = one.find(['@', '~', '>']).ok_or_else(|| {
            format!("`{one}` does not say when: NAME@N, NAME@N+, NAME~SEED, NAME~SEED/N, nil>BYTES")
        })?;
        let (name, when) = one.split_at(place);
        let (sign, when) = when.split_at(1);
        let what = match name {
            "nil" => What::Nil,
            _ => What::Error(error_named(name)?),
        };
        let when = match sign {
            ">" if what == What::Nil => When::Above(number(when, one)? as usize),
            ">" => return Err(format!("`{one}`: only `nil` knows sizes")),
            "~" => {
                let (seed, one_in) = when.split_once('/').unwrap_or((when, ""));
                let one_in = match one_in {
                    "" => ONE_IN,
                    some => number(some, one)?.max(1),
                };
                let seed = number(seed, one)?;
                When::Drawn { seed, one_in }
            }
            _ => match when.strip_suffix('+') {
                Some(from) => When::From(number(from, one)?),
                None => When::At(number(when, one)?),
            },
        };
        Ok(Self { what, when })
    }
}

fn error_named(name: &str) -> Result<usize, String> {
    let found = ERRORS.iter().position(|(known, ..)| *known == name);
    found.ok_or_else(|| {
        let known: Vec<_> = ERRORS.iter().map(|(known, ..)| *known).collect();
        format!(
            "there is no fault `{name}`; there are nil, slow, {}",
            known.join(", ")
        )
    })
}

fn number(text: &str, of: &str) -> Result<u64, String> {
    text.parse()
        .map_err(|_| format!("`{of}`: `{text}` is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(list: &str, commits: usize) -> Vec<isize> {
        let inject: Inject = list.parse().unwrap();
        let code = |_| inject.commit().map_or(0, |failure| failure.code);
        (0..commits).map(code).collect()
    }

    #[test]
    fn positions_are_counted_from_one() {
        assert_eq!(codes("timeout@2", 4), [0, 2, 0, 0]);
        assert_eq!(codes("timeout@2, out-of-memory@3+", 5), [0, 2, 8, 8, 8]);
        assert_eq!(codes("device-removed@2", 4), [0, 11, 11, 11]);
        assert_eq!(codes("nil@1", 3), [0; 3]);
    }

    #[test]
    fn a_seed_draws_the_same_again_and_another_one_others() {
        let drawn = codes("page-fault~7", 1000);
        assert_eq!(drawn, codes("page-fault~7", 1000));
        assert_ne!(drawn, codes("page-fault~8", 1000));
        let hits = drawn.iter().filter(|code| **code == 3).count();
        assert!((40..90).contains(&hits), "{hits} of 1000, one in 16");
        assert_eq!(codes("page-fault~7/1", 3), [3; 3]);
    }

    #[test]
    fn allocations_fail_by_number_and_by_size() {
        let inject: Inject = "nil@2,nil>100".parse().unwrap();
        let refused = [100, 100, 100, 101, 7].map(|bytes| inject.refuses(bytes));
        assert_eq!(refused, [false, true, false, true, false]);
        assert_eq!(inject.so_far(), (0, 5));
    }

    #[test]
    fn what_is_no_fault_says_what_is() {
        for (wrong, says) in [
            ("timeout", "does not say when"),
            ("tiemout@1", "page-fault"),
            ("timeout@x", "`x` is not a number"),
            ("timeout>5", "only `nil`"),
            ("slow=soon", "not a number"),
        ] {
            let why = wrong.parse::<Inject>().unwrap_err();
            assert!(why.contains(says), "{why}");
        }
    }
}
