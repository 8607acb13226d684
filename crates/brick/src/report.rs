//! What operators may know of the brain.
//!
//! Promises: the numbers are those of this moment. Not here: words (`cli`).

use crate::brick::Brick;
use crate::heal::whose;
use crate::state::State;
use crate::view::Stand;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use mboxfs_mbox::files;
use mboxfs_types::{
    Ino, Name,
    admin::{BrickReport, Healing, KeptTwice},
    quorum::{Policy, Quorum, Waits},
    record::Members,
};

/// Names in one report.
const NAMES_MAX: usize = 1000;

impl Brick {
    /// A snapshot.
    #[must_use]
    pub fn report(&self) -> BrickReport {
        let together = self.sb.members == Members::Both;
        let owed = self.owed.whole();
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
            on_both: self.on_both(),
            debt_records: if together { 0 } else { owed.records },
            debt_bytes: if together { 0 } else { owed.bytes },
            debt_messages: if together { 0 } else { owed.messages },
            debt_files: self.owed_names(),
            files_pending: self.owed.files(),
            conflicts: self.kept_twice(),
            healing: self.healing(),
            merged: self.counters.merged,
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

    /// Last record executed here, and last one of the log. While this brick is in step, or alone, nothing above that one was
    /// acknowledged to anybody yet.
    #[must_use]
    pub const fn positions(&self) -> (u64, u64) {
        (self.state.applied, self.log.last)
    }

    /// The policy in force here.
    #[must_use]
    pub const fn quorum(&self) -> &Quorum {
        &self.sb.quorum.quorum
    }

    /// What it does for the peer, or with what the peer has.
    fn healing(&self) -> Option<Healing> {
        if let Some(heal) = &self.heal {
            return Some(self.merging(heal));
        }
        let (done, total, since) = self.sending()?;
        Some(Healing {
            merges: false,
            elapsed: self.clock.mono - since,
            done,
            total,
            at: String::new(),
            left: Vec::new(),
        })
    }

    fn kept_twice(&self) -> Vec<KeptTwice> {
        let Some(entries) = conflicts(&self.state) else {
            return Vec::new();
        };
        let dir = files::CONFLICT_DIR;
        let taken_out: BTreeSet<String> = self.quarantined().into_iter().flat_map(|q| q.kept).collect();
        entries
            .iter()
            .map(|(name, ino)| (format!("/{dir}/{name}"), *ino))
            .filter(|(path, _)| !taken_out.contains(path))
            .take(NAMES_MAX)
            .map(|(path, ino)| KeptTwice {
                of: whose(&path),
                since: self.state.inode(ino).map_or(self.clock.real, |i| i.ctime),
                path,
            })
            .collect()
    }

    fn on_both(&self) -> u64 {
        let known = match &self.stand {
            Stand::Normal | Stand::Learner { .. } => self.state.applied,
            _ => self.sb.fork.unwrap_or(self.state.applied),
        };
        let sent = self.sending().map_or(0, |_| self.peer.durable);
        known.max(sent).min(self.state.applied)
    }

    fn waits(&self) -> Option<Waits> {
        match self.stand {
            Stand::Waiting { .. } => Some(self.asking.waits.unwrap_or(Waits::Soon)),
            _ => self.asking.waits,
        }
    }
}

/// What is in the directory of what lost; none if there is no such directory.
fn conflicts(state: &State) -> Option<&BTreeMap<Name, Ino>> {
    let name = Name::new(files::CONFLICT_DIR.as_bytes()).ok()?;
    let dir = state.lookup(Ino::ROOT, &name).ok()??;
    state.inode(dir).ok()?.entries().ok()
}
