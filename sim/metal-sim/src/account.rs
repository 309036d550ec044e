//! How much work a stretch of code gave to the GPU: the measure of a GPU path that needs no
//! GPU. Counters only grow; two snapshots and a subtraction give a stretch.

use std::ops::Sub;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident),* $(,)?) => {
        /// Counts of GPU work.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Work {
            $($(#[$doc])* pub $name: u64,)*
        }

        struct Counters {
            $($name: AtomicU64,)*
        }

        static COUNTERS: Counters = Counters { $($name: AtomicU64::new(0),)* };

        impl Work {
            /// The counts so far.
            pub fn so_far() -> Self {
                Self { $($name: COUNTERS.$name.load(Ordering::Acquire),)* }
            }

            /// Adds to the counts.
            pub(crate) fn add(self) {
                $(if self.$name != 0 {
                    COUNTERS.$name.fetch_add(self.$name, Ordering::AcqRel);
                })*
            }
        }

        impl Sub for Work {
            type Output = Self;

            fn sub(self, earlier: Self) -> Self {
                Self { $($name: self.$name - earlier.$name,)* }
            }
        }
    };
}

counters! {
    /// Command buffers committed.
    command_buffers,
    /// Encoders ended, MPS's own included.
    encoders,
    /// Dispatches, blit commands and MPS kernels.
    dispatches,
    /// Of those, dispatches that the detector watched.
    watched,
    /// Memory barriers encoded.
    barriers,
    /// Fence updates and waits encoded.
    fences,
    /// Event signals and waits encoded.
    events,
    /// Times the CPU waited for the GPU.
    cpu_waits,
    /// Bytes that the work declared to read. With [`Rules::traffic`](crate::rules::Rules::traffic), of kernels: distinct
    /// bytes that each dispatch read, counted when it has run.
    bytes_read,
    /// Bytes to write, likewise.
    bytes_written,
}

impl Work {
    /// The work that `stretch` gave to the GPU. Exact when nothing else uses it meanwhile.
    pub fn of<R>(stretch: impl FnOnce() -> R) -> (Self, R) {
        let before = Self::so_far();
        let result = stretch();
        (Self::so_far() - before, result)
    }
}
