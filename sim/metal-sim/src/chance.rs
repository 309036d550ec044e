//! Numbers that look like chance and that a seed decides (SplitMix64).

/// The distance of states: as many numbers come before one repeats as there are.
pub const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The number that a state decides.
pub fn mixed(mut state: u64) -> u64 {
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
