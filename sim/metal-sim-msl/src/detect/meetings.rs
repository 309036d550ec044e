//! Simd operations and barriers: the orderings they make, and whether those who should have met did.

use super::stamp::Stamp;
use super::{Detector, Raw, RawAccess};
use crate::abi::{MEM_DEVICE, MEM_THREADGROUP, QUAD};
use crate::finding::{AccessKind, FindingKind};
use crate::runtime::simdgroup::{Simdgroup, lanes};
use crate::runtime::table::BARRIER;
use crate::runtime::threadgroup::Lane;

impl Detector {
    /// `met` of a simdgroup met; the rest of `members` is alive and waits elsewhere.
    pub fn meet(
        &mut self,
        all: &[Lane],
        simdgroup: &Simdgroup,
        met: u32,
        members: u32,
        width: u32,
    ) {
        let flags = lanes(met)
            .map(|lane| all[(simdgroup.first + lane) as usize].flags)
            .reduce(|a, b| a & b);
        let flags = flags.filter(|flags| flags & BARRIER != 0);
        let elsewhere = members & !met;
        if elsewhere != 0 {
            let group = if width == QUAD { "quad" } else { "simdgroup" };
            let operation = if flags.is_some() {
                "simdgroup_barrier"
            } else {
                "simd operation"
            };
            let missing = format!(
                "lanes {} of the {group} wait elsewhere: all its live lanes must come to the same place",
                named(elsewhere)
            );
            let (here, there) = (met.trailing_zeros(), elsewhere.trailing_zeros());
            let [here, there] = [here, there].map(|lane| simdgroup.first + lane);
            self.tell_divergent(
                FindingKind::DivergentSimd,
                operation,
                all,
                here,
                Some(there),
                missing,
            );
        }
        self.clock.meet(simdgroup, met, flags);
    }

    /// All live lanes pass the barriers they wait at.
    pub fn pass_barrier(&mut self, all: &[Lane], simdgroups: &[Simdgroup]) {
        let live = || {
            simdgroups
                .iter()
                .flat_map(|one| lanes(one.live).map(|lane| one.first + lane))
        };
        let mut flags = MEM_DEVICE | MEM_THREADGROUP;
        let mut first = None;
        let mut other = None;
        for lane in live() {
            let waiting = &all[lane as usize];
            flags &= waiting.flags;
            let here = *first.get_or_insert(lane);
            if other.is_none() && waiting.site != all[here as usize].site {
                other = Some(lane);
            }
        }
        let ended = all.len() - live().count();
        if let Some(here) = first {
            if other.is_some() {
                let missing = "these threads wait at different barriers: all threads of the threadgroup must come to \
                               the same one";
                self.tell_divergent(
                    FindingKind::DivergentBarrier,
                    "threadgroup_barrier",
                    all,
                    here,
                    other,
                    missing.into(),
                );
            } else if ended > 0 {
                let missing = format!(
                    "{ended} of {} threads of the threadgroup ended without it: all must come to the same barrier",
                    all.len()
                );
                self.tell_divergent(
                    FindingKind::DivergentBarrier,
                    "threadgroup_barrier",
                    all,
                    here,
                    None,
                    missing,
                );
            }
        }
        self.clock.pass_barrier(flags);
    }

    fn tell_divergent(
        &mut self,
        kind: FindingKind,
        what: &str,
        all: &[Lane],
        here: u32,
        there: Option<u32>,
        missing: String,
    ) {
        let meets = |lane: u32| RawAccess {
            kind: AccessKind::Meets,
            stamp: Stamp::new(
                self.clock.start,
                all[lane as usize].site.wrapping_sub(self.base) as u32,
                lane,
                1,
            ),
            offset: 0,
            size: 0,
        };
        let (first, second) = (there.map(meets), meets(here));
        if self
            .report
            .is_new(kind, first.map(|first| first.stamp.pc()), second.stamp.pc())
        {
            let raw = Raw {
                kind,
                what: what.to_owned(),
                first,
                second,
                missing,
            };
            self.report.add(raw, &self.clock);
        }
    }
}

/// Lanes as ranges: `0-15, 31`.
fn named(mask: u32) -> String {
    let mut names = Vec::new();
    let mut lanes = lanes(mask).peekable();
    while let Some(first) = lanes.next() {
        let mut last = first;
        while lanes.peek() == Some(&(last + 1)) {
            last += 1;
            lanes.next();
        }
        names.push(if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        });
    }
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::named;

    #[test]
    fn lanes_are_named_in_ranges() {
        assert_eq!(named(0x8000_ff01), "0, 8-15, 31");
        assert_eq!(named(u32::MAX), "0-31");
    }
}
