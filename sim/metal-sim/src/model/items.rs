//! What a command buffer holds, and how far it is: what may run next of it, and what is known to be before that.

use super::event::EventCore;
use crate::order::{Ids, Node, Part};
use crate::pass::{Item, Passes};
use std::collections::VecDeque;
use std::sync::Arc;

/// What could run next.
pub(crate) struct Ready {
    /// Its number, for [`Items::take`].
    pub at: usize,
    /// Passes in order of submission, and signals last.
    pub order: u64,
    /// A signal, and not a pass.
    pub signal: bool,
}

/// What a look at a command buffer showed.
pub(crate) struct Looked {
    /// All is done.
    pub empty: bool,
    /// What may be done now.
    pub ready: Vec<Ready>,
    /// There are signals to come.
    pub signals: bool,
}

/// No more of what is left is looked at to find what is next.
const WINDOW: usize = 256;

/// The items of a command buffer.
#[derive(Default)]
pub(crate) struct Items {
    /// What is left to do, with its number among all that was encoded.
    left: VecDeque<(usize, Item)>,
    encoded: usize,
    /// What the events say is over that were waited for, with the waits' numbers.
    waited: Vec<(usize, Ids)>,
    /// The passes that were started, with their numbers.
    started: Vec<(usize, Arc<Node>)>,
    failed: bool,
}

impl Items {
    /// The next one was encoded.
    pub fn push(&mut self, item: Item) {
        self.left.push_back((self.encoded, item));
        self.encoded += 1;
    }

    /// It is this buffer's turn to be submitted: what its passes come after is settled.
    pub fn submit(&mut self, queue: usize, passes: &mut Passes) {
        for (_, item) in &mut self.left {
            if let Item::Pass(pass) = item {
                pass.submit(queue, passes);
            }
        }
    }

    /// The buffer has failed: it waits for no event any more.
    pub fn fail(&mut self) {
        self.failed = true;
    }

    /// What can run next: the first item only, if they run in order. Waits that are over are taken off.
    pub fn ready(&mut self, in_order: bool) -> Looked {
        let window = if in_order { 1 } else { WINDOW };
        let mut ready = Vec::new();
        // A signal comes after everything that was encoded before it, other signals too.
        let (mut at, mut earlier) = (0, false);
        while at < self.left.len().min(window) {
            let (number, item) = &self.left[at];
            let number = *number;
            match item {
                Item::Wait(event, value) => {
                    let over = match self.failed {
                        true => Ids::default(),
                        false => match event.reached(*value) {
                            Some(over) => over,
                            None => break,
                        },
                    };
                    self.waited.push((number, over));
                    self.left.remove(at);
                    continue;
                }
                Item::Pass(pass) if pass.is_ready() => ready.push(Ready {
                    at: number,
                    order: pass.node.number(),
                    signal: false,
                }),
                Item::Signal(..) if !earlier => ready.push(Ready {
                    at: number,
                    order: u64::MAX,
                    signal: true,
                }),
                Item::Pass(_) | Item::Signal(..) => {}
            }
            earlier = true;
            at += 1;
        }
        let is_signal = |(_, item): &(usize, Item)| matches!(item, Item::Signal(..));
        Looked {
            empty: self.left.is_empty(),
            ready,
            signals: self.left.iter().any(is_signal),
        }
    }

    /// Takes what was said to be ready, and what is known to be before it.
    pub fn take(&mut self, number: usize) -> (Item, Ids) {
        let is_it = |(other, _): &(usize, Item)| *other == number;
        let at = self.left.iter().position(is_it);
        let (_, item) = at
            .and_then(|at| self.left.remove(at))
            .expect("only the GPU's thread takes items");
        let before = self.before(number, matches!(item, Item::Signal(..)));
        if let Item::Pass(pass) = &item {
            self.started.push((number, pass.node.clone()));
        }
        (item, before)
    }

    /// What is before a pass or a signal by the events and, for a signal, by the passes that came earlier here.
    fn before(&self, at: usize, passes: bool) -> Ids {
        let mut before = Ids::default();
        for (wait, ids) in &self.waited {
            if *wait < at {
                before.join(ids);
            }
        }
        for (pass, node) in self.started.iter().filter(|_| passes) {
            if *pass < at {
                before.join(&node.past(Part::Whole));
            }
        }
        before
    }

    /// All that is over when everything was done, and what is before it by a rule.
    pub fn past(&self) -> Ids {
        self.before(usize::MAX, true)
    }

    /// The event that is waited for first.
    pub fn awaited(&self) -> Option<(Arc<EventCore>, u64)> {
        self.left.iter().find_map(|(_, item)| match item {
            Item::Wait(event, value) => Some((event.clone(), *value)),
            _ => None,
        })
    }

    /// The events that are still to be signalled.
    pub fn signals(&self) -> Vec<(Arc<EventCore>, u64)> {
        let signal = |(_, item): &(usize, Item)| match item {
            Item::Signal(event, value) => Some((event.clone(), *value)),
            _ => None,
        };
        self.left.iter().filter_map(signal).collect()
    }
}
