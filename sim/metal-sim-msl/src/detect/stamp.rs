//! Who made an access, when, and where in code: eight bytes, as `prelude/abi.h` lays them out.

use crate::abi::{SITE_STEP, SITES};

/// One access, small enough to be remembered for every byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Stamp {
    /// On the detector's clock, which tells the threadgroup as well. See [`Stamp::is_time`].
    pub time: u32,
    /// The thread's index in its threadgroup, the logarithm of the access's size, the place in code.
    place: u32,
}

const LANE: u32 = 0x3ff;

/// In place of a time: nobody, and a read of that is a finding.
const UNWRITTEN: u32 = 1;
/// The first time.
pub const FIRST: u32 = 2;

impl Stamp {
    pub const NOBODY: Self = Self { time: 0, place: 0 };
    /// Where there is no reader, or more than a cell has room for.
    pub const NEVER: Self = Self {
        time: u32::MAX,
        place: u32::MAX,
    };
    pub const UNWRITTEN: Self = Self {
        time: UNWRITTEN,
        place: 0,
    };

    /// `pc` is an offset into the library.
    pub fn new(time: u32, pc: u32, lane: u32, size: usize) -> Self {
        let site = (pc >> SITE_STEP).min(SITES - 1);
        Self {
            time,
            place: site << 13 | size.ilog2().min(7) << 10 | lane,
        }
    }

    /// Whether it is an access at all.
    #[inline]
    pub fn is_time(self) -> bool {
        self.time >= FIRST
    }

    #[inline]
    pub fn lane(self) -> u32 {
        self.place & LANE
    }

    #[inline]
    pub fn simdgroup(self) -> u32 {
        self.lane() / 32
    }

    /// An offset into the library, at most three bytes before the one it was made with: still in the call that returns
    /// there. Beyond what fits it is no place, and the kernel's line stands for it.
    pub fn pc(self) -> u32 {
        match self.place >> 13 {
            site if site < SITES - 1 => site << SITE_STEP,
            _ => u32::MAX,
        }
    }

    pub fn size(self) -> usize {
        1 << (self.place >> 10 & 7)
    }

    /// The same access by another lane.
    pub fn with_lane(self, lane: u32) -> Self {
        Self {
            place: self.place & !LANE | lane,
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_keeps_what_it_was_made_of() {
        let stamp = Stamp::new(7, 0x1237, 1023, 16);
        assert_eq!(
            (stamp.time, stamp.lane(), stamp.size(), stamp.pc()),
            (7, 1023, 16, 0x1234)
        );
        assert_eq!(stamp.with_lane(31).pc(), 0x1234);
        assert_eq!(Stamp::new(7, u32::MAX - 9, 0, 4).pc(), u32::MAX);
    }
}
