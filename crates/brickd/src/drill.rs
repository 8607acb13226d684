//! A crash on purpose: the process is replaced by a new one of itself, which lies dead for a while and then starts.
//!
//! Promises: nothing is said to anybody and nothing is written before: memory, threads and sockets are gone at once, as with
//! SIGKILL. The process number stays, so whoever watches over the daemon has nothing to do.
//! Not here: who may ask for it (`cluster`), a disk that stands still (`disk`).

use mboxfs_types::limits;
use std::{env, os::unix::process::CommandExt, process::Command, thread, time::Duration};
use tracing::error;

/// In the environment of the new process.
const MARK: &str = "MBOXFS_DRILL";
/// The answer to the one who asked leaves first.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Begins it; returns.
pub(crate) fn crash() {
    thread::spawn(|| {
        thread::sleep(LAST_WORDS);
        let why = Command::new("/proc/self/exe")
            .args(env::args_os().skip(1))
            .env(MARK, "crash")
            .exec();
        error!("drill: the daemon could not be replaced by a new one: {why}");
    });
}

/// In the new process: the time between the crash and the start.
pub(crate) fn lie_dead() {
    if env::var_os(MARK).is_some() {
        thread::sleep(Duration::from_nanos(limits::DRILL.0));
    }
}
