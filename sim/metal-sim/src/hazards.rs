//! Which accesses nothing orders. For every byte of GPU memory it is known who wrote it last and who has read it since,
//! each with its pass and step. An access that conflicts with one of those, and does not come after it by a rule
//! ([`order`](crate::order)), is a finding, even if this run's values came out right: detection does not depend on the
//! schedule.
//!
//! Exact for kernels that run with the detector, and otherwise as fine as what is declared: a kernel then uses its
//! buffers whole.

use crate::check::{Finding, report};
use crate::lock;
use crate::memory::Memory;
use crate::order::{Node, Steps, has_seen};
use crate::pass::Access;
use crate::rules::rules;
use metal_sim_objc::origin::Place;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::{Arc, LazyLock, Mutex};

/// An operation, as reports know it.
#[derive(Debug)]
pub struct Site {
    /// Its pass in the graph.
    pub pass: Arc<Node>,
    /// What orders the operations of that pass.
    pub order: Arc<Steps>,
    /// Its number among them.
    pub step: usize,
    /// How many barriers are before it.
    pub epoch: usize,
    /// The kernel or the command.
    pub what: String,
    /// Of which encoder.
    pub encoder: Arc<str>,
    /// Where it was encoded.
    pub place: Arc<Place>,
}

impl Site {
    /// Whether the rules put this operation behind another, as far as this byte goes.
    fn is_after(&self, other: &Self, address: usize) -> bool {
        match Arc::ptr_eq(&self.pass, &other.pass) {
            true => self.order.ordered(self.step, other.step, address),
            false => self.pass.is_after(other.pass.id(), self.step),
        }
    }

    /// Whether what is after this operation is after the other, and the other way round.
    fn is_equal(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pass, &other.pass) && self.epoch == other.epoch
    }

    fn told(&self, verb: &str) -> String {
        let place = self.place.text();
        let place = place.as_deref().unwrap_or("a place that is not known");
        format!(
            "{verb} by `{}` in {}, encoded at {place}",
            self.what, self.encoder
        )
    }
}

/// What is known of a range of bytes.
#[derive(Clone, Default)]
struct Cell {
    end: usize,
    write: Option<Arc<Site>>,
    reads: Vec<Arc<Site>>,
}

#[derive(Default)]
struct History {
    /// By the first address.
    cells: BTreeMap<usize, Cell>,
    /// By the first address of a memory: the submitted operations that use it, of which the CPU has not seen the end.
    in_flight: HashMap<usize, Vec<Arc<Site>>>,
}

static HISTORY: LazyLock<Mutex<History>> = LazyLock::new(Mutex::default);

/// An access that does not come after another one that it conflicts with.
struct Conflict {
    first: Arc<Site>,
    first_writes: bool,
    second_writes: bool,
    bytes: Range<usize>,
}

/// An operation was submitted.
pub(crate) fn submitted(site: &Arc<Site>, accesses: &[Access]) {
    let mut history = lock(&HISTORY);
    let mut before = None;
    for access in accesses {
        let base = access.memory.base().addr();
        // Rows of a matrix are many accesses to one memory.
        if before.replace(base) == Some(base) {
            continue;
        }
        let users = history.in_flight.entry(base).or_default();
        if users.len() >= 16 && users.len().is_power_of_two() {
            users.retain(|user| !has_seen(user.pass.id()));
        }
        match users.last() {
            Some(user) if Arc::ptr_eq(&user.pass, &site.pass) => {}
            _ => users.push(site.clone()),
        }
    }
}

/// An operation has run.
pub(crate) fn ran(site: &Arc<Site>, accesses: &[Access], touched: crate::pass::Touched) {
    let declared = || {
        accesses
            .iter()
            .map(|it| (it.addresses(), it.write))
            .collect()
    };
    let touched = touched.unwrap_or_else(declared);
    let mut conflicts: Vec<Conflict> = Vec::new();
    {
        let mut history = lock(&HISTORY);
        for (range, write) in touched {
            history.access(site, range, write, &mut conflicts);
        }
    }
    for conflict in conflicts {
        let of = |it: &&Access| it.addresses().contains(&conflict.bytes.start);
        let memory = accesses.iter().find(of).map(|access| &access.memory);
        report(conflict.told(site, memory));
    }
}

/// The program asks for the address of memory that submitted work may be using.
pub(crate) fn touched_by_cpu(memory: &Memory) {
    if !rules().hazards {
        return;
    }
    let user = {
        let history = lock(&HISTORY);
        let users = history.in_flight.get(&memory.base().addr());
        let mut users = users.into_iter().flatten();
        users.find(|user| !has_seen(user.pass.id())).cloned()
    };
    let Some(user) = user else {
        return;
    };
    let place = Place::here().text();
    let place = place.as_deref().unwrap_or("a place that is not known");
    let text = format!(
        "hazard: the CPU uses {} while the GPU may\n  first:   {}\n  second:  contents, called at {place}\n  \
         missing: nobody has waited for the command buffer with {} since it was committed",
        memory.title(),
        user.told("used"),
        user.encoder,
    );
    report(Finding::new(text));
}

/// This memory is gone; what is at its addresses next has nothing to do with it.
pub(crate) fn forget(addresses: Range<usize>) {
    let mut history = lock(&HISTORY);
    history.in_flight.remove(&addresses.start);
    history.cut(&addresses);
    let gone: Vec<usize> = history.cells.range(addresses).map(|(at, _)| *at).collect();
    gone.iter().for_each(|at| {
        history.cells.remove(at);
    });
}

/// Begins anew.
pub(crate) fn reset() {
    *lock(&HISTORY) = History::default();
}

impl History {
    /// Divides the cells at both ends of a range.
    fn cut(&mut self, range: &Range<usize>) {
        for at in [range.start, range.end] {
            let before = self.cells.range_mut(..at).next_back();
            if let Some((_, cell)) = before.filter(|(_, cell)| cell.end > at) {
                let rest = cell.clone();
                cell.end = at;
                self.cells.insert(at, rest);
            }
        }
    }

    fn access(
        &mut self,
        site: &Arc<Site>,
        range: Range<usize>,
        write: bool,
        conflicts: &mut Vec<Conflict>,
    ) {
        if range.is_empty() {
            return;
        }
        self.cut(&range);
        let mut starts = Vec::new();
        let mut gaps = Vec::new();
        let mut reached = range.start;
        for (start, cell) in self.cells.range_mut(range.clone()) {
            if reached < *start {
                gaps.push(reached..*start);
            }
            reached = cell.end;
            starts.push(*start);
            cell.check(site, *start, write, conflicts);
            if !write {
                cell.read(site, *start);
            }
        }
        if write {
            // Whatever was known of parts is the same for the whole now.
            starts.iter().for_each(|start| {
                self.cells.remove(start);
            });
            gaps = vec![range];
        } else if reached < range.end {
            gaps.push(reached..range.end);
        }
        for gap in gaps {
            let (write, reads) = match write {
                true => (Some(site.clone()), Vec::new()),
                false => (None, vec![site.clone()]),
            };
            let cell = Cell {
                end: gap.end,
                write,
                reads,
            };
            self.cells.insert(gap.start, cell);
        }
    }
}

impl Cell {
    fn check(&self, site: &Arc<Site>, start: usize, write: bool, conflicts: &mut Vec<Conflict>) {
        let reads = self.reads.iter().map(|read| (read, false));
        let writes = self.write.iter().map(|write| (write, true));
        for (other, other_writes) in reads.filter(|_| write).chain(writes) {
            if Arc::ptr_eq(other, site) || site.is_after(other, start) {
                continue;
            }
            let same = |told: &&mut Conflict| Arc::ptr_eq(&told.first, other);
            match conflicts.iter_mut().find(same) {
                // One pair of operations is told once.
                Some(told) => told.bytes.end = told.bytes.end.max(self.end),
                None => conflicts.push(Conflict {
                    first: other.clone(),
                    first_writes: other_writes,
                    second_writes: write,
                    bytes: start..self.end,
                }),
            }
        }
    }

    /// Adds a reader. Who comes after it comes after the readers before it, too, so those are forgotten.
    fn read(&mut self, site: &Arc<Site>, start: usize) {
        self.reads.retain(|read| {
            !Arc::ptr_eq(read, site) && !read.is_equal(site) && !site.is_after(read, start)
        });
        self.reads.push(site.clone());
    }
}

impl Conflict {
    /// In the order of submission, so that every schedule tells the same.
    fn told(&self, second: &Arc<Site>, memory: Option<&Arc<Memory>>) -> Finding {
        let number = |site: &Site| (site.pass.id(), site.step);
        let mut both = [
            (&self.first, self.first_writes),
            (second, self.second_writes),
        ];
        both.sort_by_key(|(site, _)| number(site));
        let [(first, first_writes), (second, second_writes)] = both;
        let noun = |writes| if writes { "write" } else { "read" };
        let verb = |writes| if writes { "written" } else { "read" };
        let (title, base) = memory.map_or(("memory".to_owned(), 0), |memory| {
            (memory.title(), memory.base().addr())
        });
        let bytes = self.bytes.start - base..self.bytes.end - base;
        let missing = match Arc::ptr_eq(&first.pass, &second.pass) {
            true => format!("no barrier is between the two in {}", first.encoder),
            false => format!(
                "no fence, event or barrier orders {} after {}",
                second.encoder, first.encoder
            ),
        };
        Finding::new(format!(
            "hazard: {} after {} on {title} (bytes {}..{})\n  first:   {}\n  second:  {}\n  missing: {missing}",
            noun(second_writes),
            noun(first_writes),
            bytes.start,
            bytes.end,
            first.told(verb(first_writes)),
            second.told(verb(second_writes)),
        ))
    }
}
