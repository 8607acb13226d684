//! The thread that compares blocks with their checksums, when there is nothing else to do.
//!
//! Promises: the least of the processor's time and of the disk's that the kernel gives (nice 19); one question at a time, as
//! the brain asks; a device that fails as a whole ends the daemon (K2).
//!
//! Not here: how fast (`brick::scrub`).

use super::Common;
use mboxfs_store::Scrub;
use mboxfs_types::{Ino, disk::Done};
use std::sync::mpsc::Receiver;
use tracing::warn;

/// Blocks of a file to be compared; no file: there is nothing to compare any more.
pub(super) struct ScrubJob {
    pub(super) ino: Ino,
    pub(super) scrub: Option<Scrub>,
    pub(super) first: u64,
    pub(super) count: u64,
}

pub(super) fn run(jobs: &Receiver<ScrubJob>, common: &Common) {
    let me = rustix::thread::gettid();
    if let Err(why) = rustix::process::setpriority_process(Some(me), 19) {
        warn!("scrub: no low priority: {why}");
    }
    for ScrubJob {
        ino,
        scrub,
        first,
        count,
    } in jobs
    {
        let suspects = match scrub.map(|scrub| scrub.suspects(first, count)) {
            None => Vec::new(),
            Some(Ok(suspects)) => suspects,
            Some(Err(why)) => return common.fatal.end("read the brick's files", why),
        };
        common.say(Done::Scrubbed { ino, suspects });
    }
}
