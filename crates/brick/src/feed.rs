//! The side of the one that serves: how much log it keeps for a peer that is away, and what a peer asks that gets files.
//!
//! E1  The log of one who is alone is bounded: past the limit the moment when it was left alone is given up, durably, and the
//!     log is trimmed at checkpoints. From then on the peer gets files first (`resync`), and a merge has no ancestor.
//! E2  While a peer copies files the log is kept from the state that it was told (types H3), up to a limit of its own; the
//!     log that a peer is being sent is kept, too.
//! E3  Mail goes first: an answer, and the next records of the log, wait until nothing is owed to the log, for a bounded
//!     time. There is one of them at a time, of not many more bytes than `limits::COPY_BYTES_MAX`: what mounts wait for
//!     stands behind no more.
//! E4  While mail is written there is a pause between answers, too: a small one costs both bricks as much work as a delivery
//!     does. And one between records and records, which is longer: each batch costs both bricks a flush. Unless
//!     the peer has got less than twice what was written meanwhile: then the next ones go at once, and more of them. So under
//!     any load that it could keep up with it comes to the end, and what is numbered after that never waits here.
//! E5  Files and records have one rate, `limits::COPY_RATE`.
//! E6  A damaged record counts as trimmed, with all before it: a peer that lacks one of them gets files. Since no start could
//!     execute it again, everything is made durable at once; for one who is alone that is the end of E1's log.
//!
//! Not here: what the peer makes of it (`resync`), when it has everything (`view::catch_up`).

use crate::{
    brick::Brick,
    debt::Known,
    give_up::forget_forks,
    output::{Event, Output},
    query::Asker,
    replicate::size_of_changes,
    view::Stand,
};
use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_types::{
    Errno, Ino, Nanos,
    disk::{DiskOp, Look},
    heal::{Ask, Of},
    limits,
    peer::ToPeer,
    record::{Members, Record},
};

/// See above.
#[derive(Debug, Default)]
pub(crate) struct Feed {
    /// What the peer was told: position and bytes of the snapshot.
    told: Option<(u64, Bytes)>,
    /// Bytes executed since the peer began to be fed (E2).
    pub(crate) kept: usize,
    /// Bytes of records that it got.
    sent: usize,
    /// When it got the last ones.
    sent_at: Nanos,
    /// When it got the last answer, and until when mail counts as being written.
    answered_at: Nanos,
    busy_until: Nanos,
    /// Last record of the log when the last of either was due.
    newest: u64,
    rate: Rate,
    held: Option<Held>,
}

/// What waits (E3): from when on it need not, and until when at most.
#[derive(Debug)]
struct Held {
    turn: Turn,
    from: Nanos,
    until: Nanos,
}

/// What waits for its turn.
#[derive(Debug)]
enum Turn {
    /// A question of the peer.
    Answer { ticket: u64, ask: Ask },
    /// The log, from here on, so many bytes.
    Records { from: u64, bytes: usize },
}

/// E5: when all that was sent so far would be through at the highest rate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rate(Nanos);

impl Rate {
    pub(crate) fn is_used_up(self, now: Nanos) -> bool {
        self.0 > now + limits::COPY_BURST
    }

    pub(crate) fn use_up(&mut self, bytes: u64, now: Nanos) {
        self.0 = self.0.max(now) + Nanos(bytes * 1_000_000_000 / limits::COPY_RATE);
    }
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

    // ---- E6

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

    /// It is to start anew with the log up to `common`, and would not find its way: that has to wait for a checkpoint. (If one
    /// helps: else its operator has to know.)
    pub(crate) fn saves_first(&mut self, common: u64, out: &mut Vec<Output>) -> bool {
        let applied = self.state.applied;
        let helps = self.log.is_broken() && applied + 1 >= self.log.start && applied <= common;
        if helps {
            if !self.log.checkpointing {
                self.checkpoint(out);
            }
            out.push(Output::DropPeer);
            self.peer.up = false;
        }
        helps
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

    /// It gets files from here.
    pub(crate) const fn feeds_files(&self) -> bool {
        matches!(self.stand, Stand::Solo { catch_up: None }) && self.feed.told.is_some()
    }

    // ---- questions

    /// From one that gets files, or compares them.
    pub(crate) fn on_copy_ask(&mut self, ticket: u64, ask: Ask, out: &mut Vec<Output>) {
        let (now, last) = (self.clock.mono, self.log.last);
        if core::mem::replace(&mut self.feed.newest, last) != last {
            self.feed.busy_until = now + limits::COPY_PAUSE;
        }
        let from = if now < self.feed.busy_until {
            now.max(self.feed.answered_at + limits::ANSWER_PAUSE)
        } else {
            now
        };
        self.feed.held = Some(Held {
            turn: Turn::Answer { ticket, ask },
            from,
            until: from + limits::COPY_YIELD,
        });
        self.take_turn(out);
    }

    /// The records of the log after `common` will be sent.
    pub(crate) fn begin_feed(&mut self, common: u64) {
        self.feed = Feed {
            newest: common,
            ..Feed::default()
        };
    }

    /// The next records of the log are to be sent, when it is their turn (E4).
    pub(crate) fn feed_records(&mut self, from: u64, out: &mut Vec<Output>) {
        let (now, last) = (self.clock.mono, self.log.last);
        let idle = core::mem::replace(&mut self.feed.newest, last) == last && self.log.durable == last;
        let late = self.feed.sent < 2 * self.feed.kept;
        self.feed.held = Some(if idle || late {
            let bytes = limits::SUFFIX_BYTES_MAX;
            Held {
                turn: Turn::Records { from, bytes },
                from: now,
                until: now,
            }
        } else {
            let bytes = limits::COPY_BYTES_MAX;
            let due = now.max(self.feed.sent_at + limits::COPY_PAUSE);
            Held {
                turn: Turn::Records { from, bytes },
                from: due,
                until: due + limits::COPY_YIELD,
            }
        });
        self.take_turn(out);
    }

    /// These leave now.
    pub(crate) fn fed(&mut self, records: &[Record]) {
        let bytes: usize = records.iter().map(|record| size_of_changes(record) + 64).sum();
        self.feed.sent += bytes;
        self.feed.sent_at = self.clock.mono;
        self.feed.rate.use_up(bytes as u64, self.clock.mono);
    }

    /// E3: when something comes, at each end of a write, and from time to time.
    pub(crate) fn take_turn(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let quiet = self.log.durable >= self.log.last;
        let slow = self.feed.rate.is_used_up(now);
        let may = |held: &mut Held| {
            let has_time = quiet && now >= held.from || now >= held.until;
            has_time && !(slow && matches!(held.turn, Turn::Records { .. }))
        };
        match self.feed.held.take_if(may).map(|held| held.turn) {
            Some(Turn::Answer { ticket, ask }) => {
                self.feed.answered_at = now;
                self.answer_copy_ask(ticket, ask, out);
            }
            Some(Turn::Records { from, bytes }) => out.push(Output::Disk(DiskOp::ReadLog { from, bytes })),
            None => {}
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
            Ask::Raw { ino, block } => Look::Raw { ino, block },
            Ask::Changes | Ask::Index { .. } | Ask::Read { .. } => {
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

#[cfg(test)]
mod tests;
