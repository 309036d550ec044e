//! What a thread knows through atomics: accesses of other simdgroups and threadgroups that are ordered before it because
//! it acquired what they released.

use crate::detect::stamp::Stamp;
use std::collections::HashMap;
use std::sync::Arc;

/// By threadgroup.
#[derive(Clone, Debug, Default)]
pub struct Knowledge(HashMap<u32, Known>);

/// Of one threadgroup: all accesses before a barrier, and those of some lanes up to a time.
#[derive(Clone, Debug, Default)]
pub struct Known {
    pub before: [u32; 2],
    pub lanes: HashMap<u32, u32>,
}

impl Knowledge {
    pub fn of(group: u32, known: Known) -> Arc<Self> {
        Arc::new(Self([(group, known)].into()))
    }

    /// Whether an access of a threadgroup is ordered before.
    pub fn has(&self, group: u32, earlier: Stamp, kind: usize) -> bool {
        self.0.get(&group).is_some_and(|known| {
            earlier.time < known.before[kind]
                || known
                    .lanes
                    .get(&earlier.lane())
                    .is_some_and(|&time| earlier.time <= time)
        })
    }

    /// What either knows.
    pub fn join(one: Arc<Self>, other: Arc<Self>) -> Arc<Self> {
        if Arc::ptr_eq(&one, &other) {
            return one;
        }
        let mut joined = Arc::unwrap_or_clone(one);
        for (&group, known) in &other.0 {
            let mine = joined.0.entry(group).or_default();
            for (mine, its) in mine.before.iter_mut().zip(known.before) {
                *mine = (*mine).max(its);
            }
            for (&lane, &time) in &known.lanes {
                let mine = mine.lanes.entry(lane).or_default();
                *mine = (*mine).max(time);
            }
        }
        Arc::new(joined)
    }
}
