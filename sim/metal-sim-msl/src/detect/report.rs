//! Findings: from stamps and offsets to names and lines, each place once.

use crate::detect::clock::Clock;
use crate::detect::lines::Lines;
use crate::detect::stamp::Stamp;
use crate::finding::{Access, AccessKind, Finding, FindingKind, Place, ThreadName};
use crate::runtime::shape::Shape;
use std::collections::HashSet;

/// What a finding is about, before it has names.
#[derive(Clone, Debug)]
pub struct Raw {
    pub kind: FindingKind,
    pub what: String,
    pub first: Option<RawAccess>,
    pub second: RawAccess,
    pub missing: String,
}

#[derive(Clone, Copy, Debug)]
pub struct RawAccess {
    pub kind: AccessKind,
    pub stamp: Stamp,
    pub offset: i64,
    pub size: usize,
}

pub struct Report {
    kernel: String,
    lines: Lines,
    shape: Shape,
    findings: Vec<Finding>,
    /// By places in code: a race of a whole grid is symbolised once.
    seen: HashSet<(FindingKind, Option<u32>, u32)>,
    told: HashSet<(FindingKind, Option<Place>, Place, String)>,
}

impl Report {
    pub fn new(kernel: &str, lines: Lines, shape: Shape) -> Self {
        Self {
            kernel: kernel.to_owned(),
            lines,
            shape,
            findings: Vec::new(),
            seen: HashSet::new(),
            told: HashSet::new(),
        }
    }

    /// Whether such a finding at these places in code is known already.
    pub fn is_new(&mut self, kind: FindingKind, first: Option<u32>, second: u32) -> bool {
        self.seen.insert((kind, first, second))
    }

    pub fn add(&mut self, raw: Raw, clock: &Clock) {
        let first = raw.first.map(|access| self.access(access, clock));
        let second = self.access(raw.second, clock);
        // Which of two came first is the schedule's choice.
        let mut places = [
            first.as_ref().map(|access| access.place.clone()),
            Some(second.place.clone()),
        ];
        places.sort_by_key(|place| place.as_ref().map(|place| (place.file.clone(), place.line)));
        let [earlier, later] = places;
        let later = later.unwrap_or_else(|| second.place.clone());
        if self
            .told
            .insert((raw.kind, earlier, later, raw.what.clone()))
        {
            self.findings.push(Finding {
                kind: raw.kind,
                kernel: self.kernel.clone(),
                what: raw.what,
                first,
                second,
                missing: raw.missing,
            });
        }
    }

    fn access(&mut self, access: RawAccess, clock: &Clock) -> Access {
        let RawAccess {
            kind,
            stamp,
            offset,
            size,
        } = access;
        Access {
            kind,
            thread: self.thread(stamp, clock.group(stamp)),
            place: self.lines.place(stamp.pc()),
            offset,
            size: size as u64,
        }
    }

    fn thread(&self, stamp: Stamp, group: u32) -> ThreadName {
        let group = u64::from(group);
        ThreadName {
            threadgroup: self.shape.group(group),
            in_threadgroup: self.shape.thread(group, stamp.lane()),
            simdgroup: stamp.simdgroup(),
            lane: stamp.lane() % 32,
        }
    }

    /// A read that came before the write it races with read what nobody wrote; the race says more.
    pub fn into_findings(self) -> Vec<Finding> {
        let races: Vec<_> = self
            .findings
            .iter()
            .filter(|one| one.kind == FindingKind::Race)
            .cloned()
            .collect();
        let explained = |finding: &Finding| {
            let same = |access: &Access| access.place == finding.second.place;
            finding.kind == FindingKind::Uninitialised
                && races.iter().any(|race| {
                    race.what == finding.what
                        && (same(&race.second) || race.first.as_ref().is_some_and(same))
                })
        };
        self.findings
            .into_iter()
            .filter(|finding| !explained(finding))
            .collect()
    }
}
