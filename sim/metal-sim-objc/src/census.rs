//! The census: how many objects of each class are alive. Exact, because every allocation
//! and every end passes through [`object`](crate::object).

use crate::class;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

/// Live objects by class name; classes without any are left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census(pub BTreeMap<String, isize>);

impl Census {
    /// Counts now.
    pub fn take() -> Self {
        let mut counts = BTreeMap::new();
        for class in class::all() {
            let live = class.live.load(Ordering::Acquire);
            if live != 0 {
                *counts
                    .entry(class.name().to_string_lossy().into_owned())
                    .or_default() += live;
            }
        }
        Self(counts)
    }

    /// Live objects of one class.
    pub fn of(&self, class: &str) -> isize {
        self.0.get(class).copied().unwrap_or(0)
    }

    /// What is alive beyond an earlier census.
    pub fn since(&self, earlier: &Census) -> Self {
        let names = self.0.keys().chain(earlier.0.keys());
        let grown = names
            .map(|name| (name.clone(), self.of(name) - earlier.of(name)))
            .filter(|(_, more)| *more != 0)
            .collect();
        Self(grown)
    }

    /// Whether nothing is counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
