//! Which accesses nothing orders. For every byte of GPU memory it is known who wrote it last and who has accessed it
//! since, each with its pass and step. An access that conflicts with one of those, and does not come after it by a rule
//! ([`order`](crate::order)), is a finding, even if this run's values came out right: detection does not depend on the
//! schedule.
//!
//! Exact for kernels that run with the detector, and otherwise as fine as what is declared: a kernel then uses its
//! buffers whole.

use crate::check::{Finding, report};
use crate::lock;
use crate::memory::Memory;
use crate::order::{Node, Steps, has_seen};
use crate::pass::{Access, Deed};
use crate::rules::rules;
use metal_sim_objc::origin::Place;
use std::collections::BTreeMap;
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
    /// Its number among all that was submitted, which others may share.
    fn id(&self) -> u64 {
        self.pass.id(self.step)
    }

    /// Whether the rules put this operation behind another, as far as this byte goes.
    fn is_after(&self, other: &Self, address: usize) -> bool {
        match Arc::ptr_eq(&self.pass, &other.pass) {
            true => self.order.ordered(self.step, other.step, address),
            false => self.pass.is_after(other.id(), self.step),
        }
    }

    /// Whether what is after this operation is after the other, and the other way round.
    fn is_equal(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.pass, &other.pass)
            && self.epoch == other.epoch
            && self.pass.are_alike(self.step, other.step)
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

impl Deed {
    /// Whether it matters which of the two comes first.
    fn conflicts(self, other: Self) -> bool {
        (self.writes || other.writes) && !(self.atomic && other.atomic)
    }

    /// Whether nothing that was known before it matters to what comes after it.
    fn replaces(self) -> bool {
        self.writes && !self.atomic
    }

    fn noun(self) -> &'static str {
        match self {
            Self { atomic: true, .. } => "atomic access",
            Self { writes: true, .. } => "write",
            _ => "read",
        }
    }

    fn verb(self) -> &'static str {
        match self {
            Self { atomic: true, .. } => "accessed by atomic functions",
            Self { writes: true, .. } => "written",
            _ => "read",
        }
    }
}

/// What is known of a range of bytes.
#[derive(Clone, Default)]
struct Cell {
    end: usize,
    /// The last plain one.
    write: Option<Arc<Site>>,
    /// The accesses since then: reads, and those by atomic functions.
    since: Vec<(Arc<Site>, Deed)>,
}

#[derive(Default)]
struct History {
    /// By the first address.
    cells: BTreeMap<usize, Cell>,
    /// By the first address of a memory: the submitted operations that use it, of which the CPU has not seen the end.
    in_flight: BTreeMap<usize, Vec<Arc<Site>>>,
}

static HISTORY: LazyLock<Mutex<History>> = LazyLock::new(Mutex::default);

/// An access that does not come after another one that it conflicts with.
struct Conflict {
    first: Arc<Site>,
    first_deed: Deed,
    second_deed: Deed,
    bytes: Range<usize>,
    /// Whose bytes, as a number among what the second declared.
    memory: Option<usize>,
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
            users.retain(|user| !has_seen(user.id()));
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
            .map(|it| (it.addresses(), Deed::plain(it.write)))
            .collect()
    };
    let touched = touched.unwrap_or_else(declared);
    let mut memories: Vec<&Arc<Memory>> = accesses.iter().map(|access| &access.memory).collect();
    // Rows of a matrix are many accesses to one memory.
    memories.dedup_by(|one, other| Arc::ptr_eq(one, other));
    memories.sort_by_key(|memory| memory.addresses().start);
    memories.dedup_by(|one, other| Arc::ptr_eq(one, other));
    let mut conflicts: Vec<Conflict> = Vec::new();
    {
        let mut history = lock(&HISTORY);
        // All is checked before anything is added: an operation's read may stand for another's, which its write
        // conflicts with.
        for (range, deed) in &touched {
            for (bytes, memory) in by_memory(range.clone(), &memories) {
                history.check(site, (bytes, memory), *deed, &mut conflicts);
            }
        }
        for (range, deed) in touched {
            history.add(site, range, deed);
        }
    }
    for conflict in conflicts {
        let memory = conflict.memory.map(|at| memories[at]);
        report(conflict.told(site, memory));
    }
}

/// Bytes that lie next to each other may be of several memories, of a heap's parts say: cut where those end.
fn by_memory(range: Range<usize>, memories: &[&Arc<Memory>]) -> Vec<(Range<usize>, Option<usize>)> {
    let mut cut = Vec::new();
    let mut reached = range.start;
    for (at, memory) in memories.iter().enumerate() {
        let own = memory.addresses();
        let (start, end) = (own.start.max(reached), own.end.min(range.end));
        if start >= end {
            continue;
        }
        if reached < start {
            // It is reached by an address in another buffer.
            cut.push((reached..start, None));
        }
        cut.push((start..end, Some(at)));
        reached = end;
    }
    if reached < range.end {
        cut.push((reached..range.end, None));
    }
    cut
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
        users.find(|user| !has_seen(user.id())).cloned()
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

/// The program asks for the address of memory that the CPU has none of. Apple gives NULL.
pub(crate) fn private_for_cpu(memory: &Memory) {
    if !rules().hazards {
        return;
    }
    let place = Place::here().text();
    let place = place.as_deref().unwrap_or("a place that is not known");
    let text = format!(
        "hazard: private memory has no address for the CPU, {}\n  first:   contents, called at {place}\n  \
         missing: a blit into shared memory, and a wait for it",
        memory.title(),
    );
    report(Finding::new(text));
}

/// This memory is gone; what is at its addresses next has nothing to do with it.
pub(crate) fn forget(addresses: Range<usize>) {
    let mut history = lock(&HISTORY);
    let gone = keys(&history.in_flight, &addresses);
    gone.iter().for_each(|at| {
        history.in_flight.remove(at);
    });
    history.cut(&addresses);
    let gone = keys(&history.cells, &addresses);
    gone.iter().for_each(|at| {
        history.cells.remove(at);
    });
}

fn keys<V>(map: &BTreeMap<usize, V>, addresses: &Range<usize>) -> Vec<usize> {
    map.range(addresses.clone()).map(|(at, _)| *at).collect()
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

    /// Finds what an access conflicts with.
    fn check(
        &self,
        site: &Arc<Site>,
        (range, memory): (Range<usize>, Option<usize>),
        deed: Deed,
        conflicts: &mut Vec<Conflict>,
    ) {
        // The first may have begun earlier.
        let first = self.cells.range(..range.start).next_back();
        let first = first.filter(|(_, cell)| cell.end > range.start);
        for (start, cell) in first.into_iter().chain(self.cells.range(range.clone())) {
            let bytes = range.start.max(*start)..range.end.min(cell.end);
            cell.check(site, (bytes, memory), deed, conflicts);
        }
    }

    /// Adds an access to what is known.
    fn add(&mut self, site: &Arc<Site>, range: Range<usize>, deed: Deed) {
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
            if !deed.replaces() {
                cell.add(site, *start, deed);
            }
        }
        if deed.replaces() {
            // Whatever was known of parts is the same for the whole now.
            starts.iter().for_each(|start| {
                self.cells.remove(start);
            });
            gaps = vec![range];
        } else if reached < range.end {
            gaps.push(reached..range.end);
        }
        for gap in gaps {
            let (write, since) = match deed.replaces() {
                true => (Some(site.clone()), Vec::new()),
                false => (None, vec![(site.clone(), deed)]),
            };
            let cell = Cell {
                end: gap.end,
                write,
                since,
            };
            self.cells.insert(gap.start, cell);
        }
    }
}

impl Cell {
    fn check(
        &self,
        site: &Arc<Site>,
        (bytes, memory): (Range<usize>, Option<usize>),
        deed: Deed,
        conflicts: &mut Vec<Conflict>,
    ) {
        let since = self.since.iter().map(|(other, deed)| (other, *deed));
        let write = self.write.iter().map(|write| (write, Deed::plain(true)));
        for (other, other_deed) in since.chain(write) {
            if !deed.conflicts(other_deed)
                || Arc::ptr_eq(other, site)
                || site.is_after(other, bytes.start)
            {
                continue;
            }
            let same =
                |told: &&mut Conflict| Arc::ptr_eq(&told.first, other) && told.memory == memory;
            match conflicts.iter_mut().find(same) {
                // One pair of operations is told once.
                Some(told) => told.bytes.end = told.bytes.end.max(bytes.end),
                None => conflicts.push(Conflict {
                    first: other.clone(),
                    first_deed: other_deed,
                    second_deed: deed,
                    bytes: bytes.clone(),
                    memory,
                }),
            }
        }
    }

    /// Adds an access. Who comes after it comes after the same ones before it, too, so those are forgotten.
    fn add(&mut self, site: &Arc<Site>, start: usize, deed: Deed) {
        self.since.retain(|(other, before)| {
            *before != deed
                || !Arc::ptr_eq(other, site)
                    && !other.is_equal(site)
                    && !site.is_after(other, start)
        });
        self.since.push((site.clone(), deed));
    }
}

impl Conflict {
    /// In the order of submission, so that every schedule tells the same.
    fn told(&self, second: &Arc<Site>, memory: Option<&Arc<Memory>>) -> Finding {
        let number = |site: &Site| (site.pass.number(), site.step);
        let mut both = [(&self.first, self.first_deed), (second, self.second_deed)];
        both.sort_by_key(|(site, _)| number(site));
        let [(first, first_deed), (second, second_deed)] = both;
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
            second_deed.noun(),
            first_deed.noun(),
            bytes.start,
            bytes.end,
            first.told(first_deed.verb()),
            second.told(second_deed.verb()),
        ))
    }
}
