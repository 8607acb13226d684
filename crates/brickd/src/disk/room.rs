//! A full disk is waited for, by the thread that met it (K6).
//!
//! Promises: what found no room is tried again until there is some or the disk is halted; what was acknowledged is in the log.
//! Meanwhile the brain is told that there is no room, and refuses what grows (L11); if the log, or who wants to read, has to
//! wait for too long, the brick leaves as with a disk that stands still (`brick::stall` T1).
//!
//! Not here: what can be tried again (`store`).

use mboxfs_store::is_full;
use std::{
    io,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};
use tracing::{info, warn};

/// Between two tries.
const AGAIN: Duration = Duration::from_millis(200);

/// What `change` comes to when there is room for it; `between` two tries. None: the disk is halted.
///
/// Errors: all others of `change`, and those of `between`.
pub(super) fn wait<S, T>(
    halted: &AtomicBool,
    state: &mut S,
    mut change: impl FnMut(&mut S) -> io::Result<T>,
    mut between: impl FnMut(&mut S) -> io::Result<()>,
) -> io::Result<Option<T>> {
    let mut is_waiting = false;
    loop {
        match change(state) {
            Err(why) if is_full(&why) => {
                if !std::mem::replace(&mut is_waiting, true) {
                    warn!("the brick's disk is full, and so is its reserve: waits for room ({why})");
                }
            }
            result => {
                if is_waiting {
                    info!("there is room on the brick's disk again");
                }
                return result.map(Some);
            }
        }
        if halted.load(Ordering::Relaxed) {
            return Ok(None);
        }
        between(state)?;
        thread::sleep(AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> io::Result<u32> {
        Err(io::ErrorKind::StorageFull.into())
    }

    #[test]
    fn only_a_full_disk_is_waited_for_and_not_when_halted() {
        let halted = AtomicBool::new(false);
        let mut tries = 0;
        let third = |tries: &mut u32| {
            *tries += 1;
            if *tries < 3 { full() } else { Ok(*tries) }
        };
        assert_eq!(wait(&halted, &mut tries, third, |_| Ok(())).unwrap(), Some(3), "K6");
        let failed = wait(
            &halted,
            &mut (),
            |()| Err::<(), _>(io::Error::other("broken")),
            |()| Ok(()),
        );
        assert_eq!(failed.unwrap_err().to_string(), "broken", "K2");
        halted.store(true, Ordering::Relaxed);
        assert_eq!(wait(&halted, &mut (), |()| full(), |()| Ok(())).unwrap(), None);
    }
}
