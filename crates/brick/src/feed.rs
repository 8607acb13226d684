//! The side of the one that serves: how much log it keeps for a peer that is away, and what a peer asks that gets files.
//!
//! E1  The log of one who is alone is bounded: past the limit the moment when it was left alone is given up, durably, and the
//!     log is trimmed at checkpoints. From then on the peer gets files first (`resync`), and a merge has no ancestor.
//! E2  While a peer copies files the log is kept from the state that it was told (types H3), up to a limit of its own; the
//!     log that a peer is being sent is kept, too.
//! E3  Mail goes first: an answer waits until nothing is owed to the log, for a bounded time.
//! E4  A damaged record counts as trimmed, with all before it: a peer that lacks one of them gets files. Since no start could
//!     execute it again, everything is made durable at once; for one who is alone that is the end of E1's log.
//!
//! Not here: what the peer makes of it (`resync`), sending the log (`view::catch_up`).

use crate::{
    brick::Brick,
    debt::Known,
    give_up::forget_forks,
    output::{Event, Output},
    query::Asker,
    view::Stand,
};
use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_types::{
    Errno, Ino, Nanos,
    disk::Look,
    heal::{Ask, Of},
    limits,
    peer::ToPeer,
    record::Members,
};

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// What the peer was told: position and bytes of the snapshot.
    told: Option<(u64, Bytes)>,
    /// Bytes executed since the peer began to be fed (E2).
    pub(crate) kept: usize,
    /// A question that waits (E3), and until when at most.
    held: Option<(u64, Ask, Nanos)>,
}

impl Brick {
    // ---- E1

    /// Alone for too long?
    pub(crate) fn limit_log(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.stand, Stand::Solo { .. }) {
            return;
        }
        let alone = usize::try_from(self.debt.bytes + 64 * self.debt.records).unwrap_or(usize::MAX);
        let joins = self.sb.members == Members::Both; // the peer is being made a member
        let too_much = alone > self.log_debt_bytes;
        if !self.sb.overrun && !joins && (too_much || self.log.is_broken()) {
            self.sb.overrun = true;
            self.write_superblock(out);
            if too_much {
                Self::event(Event::Overrun, out);
            }
        }
        if self.feeding_needs().is_some() && self.feed.kept > limits::LOG_DEBT_BYTES_MAX {
            self.refuse_peer("it takes too long to get in step", out);
        }
    }

    /// It is written down that nothing of the fork is kept any more.
    pub(crate) fn leave_fork(&mut self, out: &mut Vec<Output>) {
        if self.sb.overrun && self.fork.is_some() {
            self.end_fork(out);
            if !self.log.checkpointing {
                self.checkpoint(out);
            }
        }
    }

    /// At start: what a crash kept from being forgotten.
    pub(crate) fn forget_fork(&self, out: &mut Vec<Output>) {
        if self.sb.overrun {
            out.push(forget_forks());
        }
    }

    // ---- E4

    /// What the peer lacks cannot be read.
    pub(crate) fn on_log_rot(&mut self, n: u64, out: &mut Vec<Output>) {
        if n >= self.log.start {
            self.log.start = n + 1;
            Self::event(Event::LogRotten { n }, out);
        }
        if self.sending().is_some() || matches!(self.stand, Stand::Rejoining(_)) {
            // It comes again, and hears where the log begins now.
            out.push(Output::DropPeer);
            self.on_peer_lost(out);
        }
        self.mend_log(out);
    }

    /// As long as the log does not go on from a checkpoint.
    pub(crate) fn mend_log(&mut self, out: &mut Vec<Output>) {
        if self.log.is_broken() {
            self.limit_log(out);
            if self.may_checkpoint() && !self.log.checkpointing {
                self.checkpoint(out);
            }
        }
    }

    // ---- E2

    /// Last record that the log need not have any more for the peer's sake.
    pub(crate) fn needed_by_peer(&self) -> u64 {
        match self.stand {
            // It may lack what it has not reported durable.
            Stand::Normal => self.peer.durable,
            _ => self.feeding_needs().unwrap_or(u64::MAX),
        }
    }

    fn feeding_needs(&self) -> Option<u64> {
        match &self.stand {
            Stand::Solo { catch_up: Some(_) } => Some(self.peer.durable),
            _ => self.feed.told.as_ref().map(|(at, _)| *at),
        }
    }

    pub(crate) fn end_feed(&mut self) {
        self.feed = Feed::default();
    }

    /// The peer has the files of the state that it was told.
    pub(crate) fn on_copied(&mut self, n: u64, out: &mut Vec<Output>) {
        let told = self.feed.told.take().map(|(at, _)| at);
        if told == Some(n) && matches!(self.stand, Stand::Solo { catch_up: None }) && self.log.start <= n + 1 {
            return self.feed_log(n, out);
        }
        self.refuse_peer("the peer copied files of another moment", out);
    }

    // ---- questions

    /// From one that gets files, or compares them.
    pub(crate) fn on_copy_ask(&mut self, ticket: u64, ask: Ask, out: &mut Vec<Output>) {
        if self.log.durable < self.log.last {
            self.feed.held = Some((ticket, ask, self.clock.mono + limits::COPY_YIELD));
        } else {
            self.answer_copy_ask(ticket, ask, out);
        }
    }

    /// E3: at each end of a write, and from time to time.
    pub(crate) fn release_ask(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let quiet = self.log.durable >= self.log.last;
        if let Some((ticket, ask, _)) = self.feed.held.take_if(|(.., until)| quiet || now >= *until) {
            self.answer_copy_ask(ticket, ask, out);
        }
    }

    fn answer_copy_ask(&mut self, ticket: u64, ask: Ask, out: &mut Vec<Output>) {
        let look = match ask {
            Ask::State { offset } => {
                let data = self.tell_state(offset, out);
                let last = true;
                return out.push(Output::Peer(ToPeer::Part { ticket, data, last }));
            }
            Ask::Read {
                ino,
                of: Of::Now,
                offset,
                len,
            } => Look::Copy {
                ino,
                base: None,
                offset,
                len,
            },
            Ask::Digests { ino, offset, len } => Look::Digests { ino, offset, len },
            Ask::Xattrs { after } => Look::Xattrs {
                inos: self.inodes_after(after),
            },
            Ask::Changes | Ask::Index { .. } | Ask::Read { .. } | Ask::Raw { .. } => {
                let data = Err(Errno::EINVAL); // of a merge, and there is none
                let last = true;
                return out.push(Output::Peer(ToPeer::Part { ticket, data, last }));
            }
        };
        self.look(Asker::Peer { ticket }, look, out);
    }

    /// The next part; from the beginning it is a new one (types H3).
    fn tell_state(&mut self, offset: u64, out: &mut Vec<Output>) -> Result<Bytes, Errno> {
        if !matches!(self.stand, Stand::Solo { catch_up: None }) {
            return Err(Errno::ESTALE);
        }
        if offset == 0 {
            let snapshot = self.snapshot_of(&self.state, &Known::new());
            self.feed.told = Some((self.state.applied, snapshot));
            self.feed.kept = 0;
            let uuid = self.peer.hello.as_ref().map(|h| h.uuid);
            if self.sb.peer_uuid != uuid {
                // From now on this is the peer, whoever was before.
                self.sb.peer_uuid = uuid;
                self.write_superblock(out);
            }
        }
        let (_, bytes) = self.feed.told.as_ref().ok_or(Errno::ESTALE)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let to = bytes.len().min(from + limits::STATE_PART_BYTES);
        Ok(bytes.slice(from..to))
    }

    pub(crate) fn inodes_after(&self, after: Option<Ino>) -> Vec<Ino> {
        let later = self.state.inodes().map(|(ino, _)| *ino);
        later
            .filter(|ino| after.is_none_or(|after| *ino > after))
            .take(limits::XATTR_INODES_MAX)
            .collect()
    }
}
