//! Looking after processes: signals for those who wait for a lock, and the end of those who made dotlocks.
//!
//! The FUSE library answers FUSE_INTERRUPT with ENOSYS, so nobody else would tell that a waiting process is to die, or
//! that its alarm(2) has gone off.
//!
//! V1  EINTR is asked for only while a signal is really pending: otherwise it would leak into the program as errno 512.
//! V2  A pid that was used again is told from the process that had it before, by its start time.
//!
//! Not here: who waits, who is watched, what follows (`client`).

use crate::{driver::Driver, process};
use mboxfs_client::input::Input;
use std::{collections::BTreeMap, io, time::Duration};

/// Between two looks at those who wait.
const LOOK: Duration = Duration::from_millis(100);
/// Makers of dotlocks are looked at every so many looks.
const MAKERS: u32 = 5;

/// Starts the thread.
pub(crate) fn start(driver: &'static Driver) -> io::Result<()> {
    std::thread::Builder::new().name("watch".into()).spawn(move || {
        let mut makers = Makers::default();
        for look in 1u32.. {
            std::thread::sleep(LOOK);
            for (id, pid) in driver.waiting() {
                // 0: a process of another pid namespace, which cannot be looked at.
                if pid != 0 && process::interrupted(pid) {
                    driver.input(Input::Interrupt(id)); // V1
                }
            }
            if look.is_multiple_of(MAKERS) {
                for pid in makers.gone(&driver.watched(), process::started) {
                    driver.input(Input::Gone { pid });
                }
            }
        }
    })?;
    Ok(())
}

/// Start times of the watched processes, as first seen.
#[derive(Default)]
struct Makers(BTreeMap<u32, Option<u64>>);

impl Makers {
    /// Those of `watched` that are no more (V2).
    fn gone(&mut self, watched: &[u32], started: impl Fn(u32) -> Option<u64>) -> Vec<u32> {
        // What is not watched any more must not be compared with a later process of that number.
        self.0.retain(|pid, _| watched.contains(pid));
        let mut gone = Vec::new();
        for pid in watched {
            let now = started(*pid);
            let first = *self.0.entry(*pid).or_insert(now);
            if now.is_none() || now != first {
                gone.push(*pid);
            }
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let mut makers = Makers::default();
        assert!(makers.gone(&[7, 8], |_| Some(100)).is_empty());
        assert_eq!(makers.gone(&[7, 8], |p| Some(if p == 8 { 200 } else { 100 })), [8]);
        assert_eq!(makers.gone(&[7], |_| None), [7]);
    }

    #[test]
    fn a_later_watch_of_a_pid_starts_anew() {
        let mut makers = Makers::default();
        assert!(makers.gone(&[7], |_| Some(100)).is_empty());
        assert!(makers.gone(&[], |_| None).is_empty());
        assert!(makers.gone(&[7], |_| Some(200)).is_empty());
    }
}
