//! Time as the brains see it: always an argument, never read.
//!
//! Promises: [`Nanos`] is a monotonic clock of one process; [`Timestamp`] is what files carry.
//! Not here: clocks.

use core::ops::{Add, Sub};
use serde::{Deserialize, Serialize};

/// Monotonic time of one process in nanoseconds since an origin of its own (CLOCK_BOOTTIME in the daemons).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Nanos(pub u64);

impl Nanos {
    /// So many milliseconds.
    #[must_use]
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms * 1_000_000)
    }
}

impl Add for Nanos {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl Sub for Nanos {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

/// Seconds and nanoseconds since 1970-01-01 UTC, as in `struct timespec`; `nanos` is below 10^9.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds; may be negative.
    pub secs: i64,
    /// Rest, 0 to 999 999 999.
    pub nanos: u32,
}

impl Timestamp {
    /// The next whole second above this time.
    #[must_use]
    pub const fn next_second(self) -> Self {
        Self {
            secs: self.secs + 1,
            nanos: 0,
        }
    }
}
