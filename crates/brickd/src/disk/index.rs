//! The thread that reads much: whole mailboxes for a merge, seconds for a large one, and blocks for a resync. The files thread
//! goes on meanwhile.
//!
//! Promises: one after the other, in the order asked for; a file is as the effects given before the look left it, since the
//! files thread opened it (K3); it stops soon when the disk is halted.
//!
//! Not here: whether the file changed meanwhile (`brick` tells by its version).

use super::Common;
use mboxfs_store::Leisure;
use mboxfs_types::disk::Done;
use std::sync::{atomic::AtomicBool, mpsc::Receiver};

/// A file to be read.
pub(super) struct IndexJob {
    pub(super) ticket: u64,
    pub(super) leisure: Leisure,
}

pub(super) fn run(jobs: &Receiver<IndexJob>, halted: &AtomicBool, common: &Common) {
    for IndexJob { ticket, leisure } in jobs {
        let result = leisure.answer(halted);
        common.say(Done::Answer { ticket, result });
    }
}
