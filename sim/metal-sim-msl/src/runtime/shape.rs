//! A grid as threadgroups: how many, how large each is, and what each of its threads is told about itself.

use crate::abi::{SIMD, Thread};
use crate::dispatch::Grid;

/// A grid that was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Threadgroups.
    pub groups: [u32; 3],
    /// Threads of one that is not at an edge.
    pub threads: [u32; 3],
    /// Threads of all of them.
    pub grid: [u32; 3],
}

/// The most threadgroups: the detector numbers them.
const GROUPS: u64 = 1 << 31;

impl Shape {
    /// The error says what is wrong with the grid.
    pub fn new(grid: Grid) -> Result<Self, String> {
        let (groups, threads, grid) = match grid {
            Grid::Threadgroups { groups, threads } => {
                let mut grid = [0; 3];
                for axis in 0..3 {
                    grid[axis] = groups[axis].checked_mul(threads[axis]).ok_or_else(|| {
                        format!(
                            "{groups:?} threadgroups of {threads:?} threads are too many to number"
                        )
                    })?;
                }
                (groups, threads, grid)
            }
            Grid::Threads { grid, threads } => {
                let group = |axis: usize| {
                    if threads[axis] == 0 {
                        0
                    } else {
                        grid[axis].div_ceil(threads[axis])
                    }
                };
                ([group(0), group(1), group(2)], threads, grid)
            }
        };
        if threads.contains(&0) {
            return Err(format!(
                "a threadgroup of {threads:?} threads has none; each number is at least 1"
            ));
        }
        let shape = Self {
            groups,
            threads,
            grid,
        };
        let count = groups
            .iter()
            .try_fold(1_u64, |count, &axis| count.checked_mul(u64::from(axis)));
        if count.is_none_or(|count| count > GROUPS) {
            return Err(format!(
                "{groups:?} threadgroups are too many; split the dispatch"
            ));
        }
        Ok(shape)
    }

    pub fn group_count(&self) -> u64 {
        self.groups.iter().map(|&axis| u64::from(axis)).product()
    }

    /// The position of a threadgroup by its number.
    pub fn group(&self, number: u64) -> [u32; 3] {
        position(number, self.groups)
    }

    /// Threads of a threadgroup: fewer at the edges.
    pub fn size(&self, group: [u32; 3]) -> [u32; 3] {
        [0, 1, 2]
            .map(|axis| self.threads[axis].min(self.grid[axis] - group[axis] * self.threads[axis]))
    }

    /// Replaces `threads` by those of a threadgroup.
    pub fn fill(&self, number: u64, threads: &mut Vec<Thread>) {
        let group = self.group(number);
        let size = self.size(group);
        let count: u32 = size.iter().product();
        threads.clear();
        threads.extend((0..count).map(|index| {
            let place = position(index.into(), size);
            Thread {
                thread_position_in_grid: [0, 1, 2]
                    .map(|axis| group[axis] * self.threads[axis] + place[axis]),
                thread_position_in_threadgroup: place,
                threadgroup_position_in_grid: group,
                threads_per_threadgroup: size,
                dispatch_threads_per_threadgroup: self.threads,
                threadgroups_per_grid: self.groups,
                threads_per_grid: self.grid,
                thread_index_in_threadgroup: index,
                thread_index_in_simdgroup: index % SIMD,
                simdgroup_index_in_threadgroup: index / SIMD,
                simdgroups_per_threadgroup: count.div_ceil(SIMD),
                threads_per_simdgroup: SIMD,
            }
        }));
    }

    /// The position of a thread by its index in a threadgroup.
    pub fn thread(&self, group: u64, index: u32) -> [u32; 3] {
        position(index.into(), self.size(self.group(group)))
    }
}

fn position(number: u64, size: [u32; 3]) -> [u32; 3] {
    let [x, y, _] = size.map(u64::from);
    [number % x, number / x % y, number / x / y].map(|axis| axis as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_are_smaller() {
        let shape = Shape::new(Grid::Threads {
            grid: [10, 3, 1],
            threads: [4, 2, 1],
        })
        .unwrap();
        assert_eq!((shape.groups, shape.group_count()), ([3, 2, 1], 6));
        assert_eq!(shape.size([0, 0, 0]), [4, 2, 1]);
        assert_eq!(shape.size([2, 1, 0]), [2, 1, 1]);
        assert_eq!(shape.thread(5, 1), [1, 0, 0]);
    }

    #[test]
    fn bad_grids_are_refused() {
        assert!(
            Shape::new(Grid::Threads {
                grid: [1, 1, 1],
                threads: [1, 0, 1]
            })
            .is_err()
        );
        let many = [1 << 20, 1 << 20, 1];
        assert!(
            Shape::new(Grid::Threadgroups {
                groups: many,
                threads: [1, 1, 1]
            })
            .is_err()
        );
        assert!(
            Shape::new(Grid::Threadgroups {
                groups: [1 << 31, 1, 1],
                threads: [2, 1, 1]
            })
            .is_err()
        );
        let none = Shape::new(Grid::Threadgroups {
            groups: [0, 1, 1],
            threads: [2, 1, 1],
        })
        .unwrap();
        assert_eq!(none.group_count(), 0);
    }
}
