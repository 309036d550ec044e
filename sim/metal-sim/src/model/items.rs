//! What a command buffer holds, and how far it is: what may run next of it, and what is known to be before that.

use super::event::EventCore;
use crate::order::{Group, Ids, Node};
use crate::pass::Item;
use std::collections::VecDeque;
use std::sync::Arc;

/// What could run next.
pub(crate) struct Ready {
    /// Its number, for [`Items::take`].
    pub at: usize,
    /// Passes in order of submission, and signals last.
    pub order: u64,
}

/// What a look at a command buffer showed.
pub(crate) struct Looked {
    /// All is done.
    pub empty: bool,
    /// What may be done now.
    pub ready: Vec<Ready>,
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
}

impl Items {
    /// The next one was encoded.
    pub fn push(&mut self, item: Item) {
        self.left.push_back((self.encoded, item));
        self.encoded += 1;
    }

    /// It is this buffer's turn to be submitted: what its passes come after is settled.
    pub fn submit(&mut self, queue: usize, passes: &mut Group) {
        for (_, item) in &mut self.left {
            if let Item::Pass(pass) = item {
                pass.submit(queue, passes);
            }
        }
    }

    /// What is left is not run, and whoever waits for its passes goes on.
    pub fn give_up(&mut self) {
        for (_, item) in self.left.drain(..) {
            if let Item::Pass(pass) = item {
                pass.node.end();
            }
        }
    }

    /// What can run next: the first item only, if they run in order. Waits that are over are taken off.
    pub fn ready(&mut self, in_order: bool) -> Looked {
        let window = if in_order { 1 } else { WINDOW };
        let mut ready = Vec::new();
        let (mut at, mut passes) = (0, false);
        while at < self.left.len().min(window) {
            let (number, item) = &self.left[at];
            let (number, order) = match item {
                Item::Wait(event, value) => match event.reached(*value) {
                    Some(over) => {
                        self.waited.push((*number, over));
                        self.left.remove(at);
                        continue;
                    }
                    None => break,
                },
                Item::Pass(pass) => {
                    passes = true;
                    (*number, pass.is_ready().then(|| pass.node.id()))
                }
                Item::Signal(..) => (*number, (!passes).then_some(u64::MAX)),
            };
            ready.extend(order.map(|order| Ready { at: number, order }));
            at += 1;
        }
        Looked {
            empty: self.left.is_empty(),
            ready,
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
                before.join(&node.past());
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
