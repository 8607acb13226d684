//! The clocks of this machine, read once per step of the brain.
//!
//! Promises: `mono` counts on while the machine sleeps (CLOCK_BOOTTIME), so that no lease outlives a suspend.
//! Not here: timers (`driver`).

use mboxfs_brick::input::Clock;
use mboxfs_types::{Nanos, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// Both clocks, now.
pub(crate) fn now() -> Clock {
    let mono = clock_gettime(ClockId::Boottime);
    let real = clock_gettime(ClockId::Realtime);
    Clock {
        mono: Nanos(mono.tv_sec.unsigned_abs() * 1_000_000_000 + mono.tv_nsec.unsigned_abs()),
        real: Timestamp {
            secs: real.tv_sec,
            nanos: u32::try_from(real.tv_nsec).unwrap_or(0),
        },
    }
}
