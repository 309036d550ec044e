//! What the detector saw, in words: which buffer or variable, and which ordering is missing.

use super::stamp::Stamp;
use super::{Access, Conflict, Deed, Detector, Raw, RawAccess, Seen, bounds, clock};
use crate::finding::{AccessKind, FindingKind};
use crate::runtime::memory::{Key, Memory, Placed};
use std::ffi::CStr;

/// What is accessed, and where it begins.
struct What {
    name: String,
    start: usize,
    threadgroup: bool,
}

impl Detector {
    pub(super) fn tell_device(&mut self, place: Access, stamp: Stamp, seen: Seen) {
        let bounds::Owner::Buffer(index) = self.bounds.owner(place.at) else {
            return;
        };
        let buffer = &self.bounds.buffers[index];
        let what = What {
            name: buffer.name.clone(),
            start: buffer.start,
            threadgroup: false,
        };
        let page = place.at / super::PAGE * super::PAGE;
        self.tell(place, stamp, seen, page, &what);
    }

    pub(super) fn tell_threadgroup(
        &mut self,
        place: Access,
        stamp: Stamp,
        seen: Seen,
        memory: &Memory,
        owner: &Placed,
        page: usize,
    ) {
        let start = memory.address() + owner.start;
        let what = What {
            name: name(owner.key),
            start,
            threadgroup: true,
        };
        self.tell(place, stamp, seen, memory.address() + page, &what);
    }

    /// What an access to a page at this address came to; each place once.
    fn tell(&mut self, place: Access, stamp: Stamp, seen: Seen, page: usize, what: &What) {
        let race = seen.conflict.filter(|(conflict, ..)| {
            self.report
                .is_new(FindingKind::Race, Some(conflict.first.pc()), stamp.pc())
        });
        if let Some((conflict, kind, offset)) = race {
            self.tell_race(place, stamp, conflict, kind, page + offset, what);
        }
        let unwritten = seen.unwritten.is_some()
            && self
                .report
                .is_new(FindingKind::Uninitialised, None, stamp.pc());
        if unwritten {
            let missing = if what.threadgroup {
                "no thread of the threadgroup wrote it before; threadgroup memory begins with anything"
            } else {
                "nobody wrote it before; a private buffer begins with anything"
            };
            let raw = Raw {
                kind: FindingKind::Uninitialised,
                second: access(place, stamp, AccessKind::Read, what.start),
                what: what.name.clone(),
                first: None,
                missing: missing.into(),
            };
            self.report.add(raw, &self.clock);
        }
    }

    fn tell_race(
        &mut self,
        place: Access,
        stamp: Stamp,
        conflict: Conflict,
        kind: AccessKind,
        byte: usize,
        what: &What,
    ) {
        let Conflict {
            first,
            kind: first_kind,
        } = conflict;
        // Accesses are aligned to their size, mostly: the first began at or before the byte they share.
        let first_at = byte / first.size() * first.size();
        let raw = Raw {
            kind: FindingKind::Race,
            what: what.name.clone(),
            first: Some(RawAccess {
                kind: first_kind,
                stamp: first,
                offset: first_at as i64 - what.start as i64,
                size: first.size(),
            }),
            second: access(place, stamp, kind, what.start),
            missing: self.missing(first, stamp, first_kind, kind, what.threadgroup),
        };
        self.report.add(raw, &self.clock);
    }

    fn missing(
        &self,
        first: Stamp,
        second: Stamp,
        one: AccessKind,
        other: AccessKind,
        threadgroup: bool,
    ) -> String {
        let flags = match (self.clock.strict, threadgroup) {
            (false, _) => "",
            (true, true) => " with mem_flags::mem_threadgroup",
            (true, false) => " with mem_flags::mem_device",
        };
        let missing = if self.clock.group(first) != self.clock.group(second) {
            "threadgroups of one dispatch are not ordered: give each its own part, make both accesses atomic, \
             or use two dispatches"
                .into()
        } else if first.simdgroup() != second.simdgroup() {
            format!(
                "no threadgroup_barrier{flags} between them: the two simdgroups run on their own"
            )
        } else {
            format!(
                "no simdgroup_barrier or threadgroup_barrier{flags} between them: lanes of a simdgroup do not run in step"
            )
        };
        let mixed = (one == AccessKind::Atomic) != (other == AccessKind::Atomic);
        if mixed {
            format!("{missing} (only one of them is atomic)")
        } else {
            missing
        }
    }

    pub(super) fn out_of_bounds(&mut self, place: Access, deed: Deed) -> bool {
        let (what, start, missing) = match self.bounds.nearest(place.at) {
            Some(buffer) => (
                buffer.name.clone(),
                buffer.start,
                format!("the buffer has {} bytes", buffer.length),
            ),
            None => ("no buffer".into(), 0, "the dispatch has no buffers".into()),
        };
        self.tell_out_of_bounds(place, deed, what, start, missing);
        // A write there would hit someone else's memory.
        !deed.writes && bounds::readable(place.at, place.size)
    }

    pub(super) fn out_of_threadgroup_bounds(
        &mut self,
        place: Access,
        deed: Deed,
        memory: &Memory,
    ) -> bool {
        let offset = place.at - memory.address();
        let distance = |placed: &&Placed| {
            placed
                .start
                .saturating_sub(offset)
                .max(offset.saturating_sub(placed.start + placed.size))
        };
        let (what, start, missing) = match memory.placed().iter().min_by_key(distance) {
            Some(placed) => (
                name(placed.key),
                placed.start,
                format!("the variable has {} bytes", placed.size),
            ),
            None => (
                "threadgroup memory".into(),
                0,
                "the kernel has no threadgroup memory".into(),
            ),
        };
        self.tell_out_of_bounds(place, deed, what, memory.address() + start, missing);
        true
    }

    fn tell_out_of_bounds(
        &mut self,
        place: Access,
        deed: Deed,
        what: String,
        start: usize,
        missing: String,
    ) {
        let (stamp, _) = self.now(place, clock::DEVICE);
        if !self
            .report
            .is_new(FindingKind::OutOfBounds, None, stamp.pc())
        {
            return;
        }
        let kind = match deed {
            Deed { atomic: true, .. } => AccessKind::Atomic,
            Deed { writes: true, .. } => AccessKind::Write,
            Deed { .. } => AccessKind::Read,
        };
        let second = access(place, stamp, kind, start);
        let raw = Raw {
            kind: FindingKind::OutOfBounds,
            what,
            first: None,
            second,
            missing,
        };
        self.report.add(raw, &self.clock);
    }
}

fn access(place: Access, stamp: Stamp, kind: AccessKind, start: usize) -> RawAccess {
    RawAccess {
        kind,
        stamp,
        offset: place.at.wrapping_sub(start) as i64,
        size: place.size,
    }
}

fn name(key: Key) -> String {
    match key {
        Key::Argument(index) => format!("[[threadgroup({index})]]"),
        // SAFETY: a static of the library that the kernel gave the runtime; libraries stay loaded.
        Key::Variable(variable) => unsafe {
            format!(
                "threadgroup variable `{}`",
                CStr::from_ptr((*variable).name).to_string_lossy()
            )
        },
    }
}
