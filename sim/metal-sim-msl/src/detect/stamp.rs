//! Who made an access, and when on its own clock.

/// One access, small enough to be remembered for every byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Stamp {
    /// The threadgroup's number in the dispatch, from 1; 0: nobody.
    pub group: u32,
    /// On the thread's clock.
    pub time: u32,
    /// The place in code: an offset into the library.
    pub pc: u32,
    /// The thread's index in its threadgroup, and the logarithm of the access's size.
    who: u32,
}

const LANE: u32 = 0xffff;

impl Stamp {
    pub fn new(group: u32, time: u32, pc: u32, lane: u32, size: usize) -> Self {
        Self {
            group,
            time,
            pc,
            who: lane | size.ilog2() << 16,
        }
    }

    #[inline]
    pub fn lane(self) -> u32 {
        self.who & LANE
    }

    #[inline]
    pub fn simdgroup(self) -> u32 {
        self.lane() / 32
    }

    pub fn size(self) -> usize {
        1 << (self.who >> 16)
    }

    /// The same access by another lane.
    pub fn with_lane(self, lane: u32) -> Self {
        Self {
            who: self.who & !LANE | lane,
            ..self
        }
    }
}
