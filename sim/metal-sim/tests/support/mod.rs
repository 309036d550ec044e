//! What several of these tests begin with.

use objc2_metal::MTLSize;

/// So many in a line.
pub fn size(width: usize) -> MTLSize {
    MTLSize {
        width,
        height: 1,
        depth: 1,
    }
}
