//! Which of the work that may run runs next. In order is what a naive emulator does, and hides every missing fence.
//! Apple's GPUs start later encoders as early as the rules allow, and so does the mode with that name, always in the
//! same way. A seed takes any order that the rules allow.

use crate::chance::{STEP, mixed};
use crate::order::{Reach, Steps};
use crate::rules::Rules;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// The order of the work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// As it was submitted.
    #[default]
    InOrder,
    /// The latest first.
    Apple,
    /// By chance; the same each time, as far as the program commits and waits in the same way.
    Seed(u64),
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "in-order" => Ok(Self::InOrder),
            "apple" => Ok(Self::Apple),
            seed => seed.parse().map(Self::Seed).map_err(|_| {
                format!("an order is in-order, apple or the number of a seed, not `{seed}`")
            }),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InOrder => f.write_str("in-order"),
            Self::Apple => f.write_str("apple"),
            Self::Seed(seed) => write!(f, "{seed}"),
        }
    }
}

/// Makes the choices of one mode.
pub struct Chooser {
    rules: &'static Rules,
    state: u64,
}

/// More steps than this between two barriers, some of them about single buffers, keep their order.
const MANY: usize = 64;

impl Chooser {
    /// Begins to choose as the switches say.
    pub fn new(rules: &'static Rules) -> Self {
        let state = match rules.order {
            Mode::Seed(seed) => seed.wrapping_mul(STEP) ^ 0x5851_f42d_4c95_7f2d,
            _ => 0,
        };
        Self { rules, state }
    }

    /// Begins anew if they are others, even with the same seed.
    pub fn follow(&mut self, rules: &'static Rules) {
        if !std::ptr::eq(self.rules, rules) {
            *self = Self::new(rules);
        }
    }

    /// The next random number. Only picks take one, so that nothing else changes what they are.
    fn random(&mut self) -> u64 {
        self.state = self.state.wrapping_add(STEP);
        mixed(self.state)
    }

    /// One of so many that are in order of submission.
    pub fn pick(&mut self, count: usize) -> usize {
        match self.rules.order {
            Mode::InOrder => 0,
            Mode::Apple => count - 1,
            Mode::Seed(_) => (self.random() % count as u64) as usize,
        }
    }

    /// Whether work starts although more may come, after so many commits.
    pub fn starts_early(&self, commits: u64) -> bool {
        match self.rules.order {
            Mode::InOrder | Mode::Apple => false,
            Mode::Seed(seed) => mixed(seed ^ commits.rotate_left(32)).is_multiple_of(8),
        }
    }

    /// An order of the steps of a pass; `touches` says which addresses each has to do with.
    pub fn steps(
        &mut self,
        order: &Steps,
        count: usize,
        touches: impl FnOnce() -> Vec<Vec<Range<usize>>>,
    ) -> Vec<usize> {
        let Steps::Concurrent(barriers) = order else {
            return (0..count).collect();
        };
        if self.rules.order == Mode::InOrder {
            return (0..count).collect();
        }
        let partial = barriers.iter().any(|(_, reach)| *reach != Reach::All);
        let touches = if partial { touches() } else { Vec::new() };
        let walls = barriers.iter().filter(|(_, reach)| *reach == Reach::All);
        let ends = walls.map(|(before, _)| *before).chain([count]);
        let (mut start, mut taken) = (0, Vec::with_capacity(count));
        for end in ends {
            let mut left: Vec<usize> = (start..end).collect();
            if partial && left.len() > MANY {
                taken.append(&mut left);
            }
            while !left.is_empty() {
                let free = |at: usize| {
                    let waits = |before: &usize| must_follow(order, &touches, *before, left[at]);
                    !partial || !left[..at].iter().any(waits)
                };
                let ready: Vec<usize> = match partial {
                    true => (0..left.len()).filter(|at| free(*at)).collect(),
                    false => Vec::new(),
                };
                let at = match partial {
                    true => ready[self.pick(ready.len())],
                    false => self.pick(left.len()),
                };
                taken.push(left.remove(at));
            }
            start = end;
        }
        taken
    }
}

/// Whether a barrier about something that both steps use is between them.
fn must_follow(order: &Steps, touches: &[Vec<Range<usize>>], first: usize, second: usize) -> bool {
    touches[first].iter().any(|one| {
        touches[second].iter().any(|other| {
            let shared = one.start.max(other.start);
            shared < one.end.min(other.end) && order.ordered(first, second, shared)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps touch bytes from `.0` to `.1`.
    fn steps(mode: Mode, order: &Steps, touches: &[(usize, usize)]) -> Vec<usize> {
        let range = |(start, end): &(usize, usize)| std::iter::once(*start..*end).collect();
        let all = || touches.iter().map(range).collect();
        let rules = Rules {
            order: mode,
            ..crate::rules::rules().clone()
        };
        Chooser::new(Box::leak(Box::new(rules))).steps(order, touches.len(), all)
    }

    #[test]
    fn modes_have_names() {
        for mode in [Mode::InOrder, Mode::Apple, Mode::Seed(7)] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("random".parse::<Mode>().unwrap_err().contains("`random`"));
    }

    #[test]
    fn steps_stay_between_their_barriers() {
        let order = Steps::Concurrent(vec![(2, Reach::All)]);
        let touches = [(0, 0); 4];
        assert_eq!(steps(Mode::InOrder, &order, &touches), [0, 1, 2, 3]);
        assert_eq!(steps(Mode::Apple, &order, &touches), [1, 0, 3, 2]);
        let mut seen = std::collections::BTreeSet::new();
        for seed in 0..100 {
            let taken = steps(Mode::Seed(seed), &order, &touches);
            assert!(taken[..2].iter().all(|step| *step < 2), "{taken:?}");
            seen.insert(taken);
        }
        assert_eq!(seen.len(), 4, "every order that there is");
        assert_eq!(steps(Mode::Apple, &Steps::Serial, &touches), [0, 1, 2, 3]);
    }

    #[test]
    fn a_barrier_about_a_buffer_orders_its_users() {
        let only = Reach::Only(std::iter::once(0..64).collect());
        let order = Steps::Concurrent(vec![(1, only)]);
        let (a, b) = ((0, 64), (64, 128));
        assert_eq!(steps(Mode::Apple, &order, &[a, a, b]), [2, 0, 1]);
        assert_eq!(steps(Mode::Apple, &order, &[b, a, b]), [2, 1, 0]);
    }
}
