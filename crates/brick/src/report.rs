//! What operators may know of the brain.
//!
//! Promises: the numbers are those of this moment. Not here: words (`cli`).

use crate::brick::Brick;
use crate::view::Stand;
use alloc::vec::Vec;
use mboxfs_types::{
    admin::BrickReport,
    quorum::{Policy, Quorum, Waits},
    record::Members,
};

/// File names in a report.
const DEBT_FILES_MAX: usize = 1000;

impl Brick {
    /// A snapshot.
    #[must_use]
    pub fn report(&self) -> BrickReport {
        let together = self.sb.members == Members::Both;
        BrickReport {
            brick: self.me,
            status: self.status(),
            primary: self.is_primary(),
            view: self.view,
            peer_connected: self.peer.up,
            peer_away: self.peer.away.clone(),
            last: self.log.last,
            commit: self.state.applied,
            peer_durable: self.peer.durable,
            debt_records: if together { 0 } else { self.debt.records },
            debt_bytes: if together { 0 } else { self.debt.bytes },
            debt_files: if together {
                Vec::new()
            } else {
                self.debt.paths(&self.state, DEBT_FILES_MAX)
            },
            resync: self.resync_report(),
            sessions: self.session_list(),
            space: self.room(),
            inodes: self.state.inode_count(),
            round_trips: self.counters.round_trips,
            requests: self.counters.requests,
            scrub: self.scrub_report(),
            // The brain does not see the device: its driver knows.
            flushes: 0,
            waits: self.waits(),
            witness: self
                .asking
                .heard
                .filter(|_| self.sb.quorum.quorum.policy == Policy::Witness),
        }
    }

    /// The policy in force here.
    #[must_use]
    pub const fn quorum(&self) -> &Quorum {
        &self.sb.quorum.quorum
    }

    fn waits(&self) -> Option<Waits> {
        match self.stand {
            Stand::Waiting { .. } => Some(self.asking.waits.unwrap_or(Waits::Soon)),
            _ => self.asking.waits,
        }
    }
}
