//! The thread that reads whole mailboxes, for a merge: seconds for a large one, in which the files thread goes on.
//!
//! Promises: one after the other, in the order asked for; a file is as the effects given before the look left it, since the
//! files thread opened it (K3); it stops soon when the disk is halted.
//!
//! Not here: whether the file changed meanwhile (`brick` tells by its version).

use super::Common;
use mboxfs_store::Content;
use mboxfs_types::disk::Done;
use std::sync::{atomic::AtomicBool, mpsc::Receiver};

/// A file to be read.
pub(super) struct IndexJob {
    pub(super) ticket: u64,
    pub(super) content: Content,
}

pub(super) fn run(jobs: &Receiver<IndexJob>, halted: &AtomicBool, common: &Common) {
    for IndexJob { ticket, content } in jobs {
        let result = content.index(halted);
        common.say(Done::Answer { ticket, result });
    }
}
