//! The brick whose line of history is given up, after both went on alone and changed the volume.
//!
//! U1  It yields: serves nobody, changes nothing, and answers what the other one asks, until all of it is merged there.
//!     Whatever ends the conversation before that leaves it with all that it has; it goes on alone again.
//! U2  It gives up its line only on the other's word that everything is there, durably. That decision is written down
//!     first; from then on nothing but its completion follows, also after a crash.
//! U3  Files go back to the fork and a snapshot of the fork is durable before the log above it is dropped.
//!
//! Not here: what is put back (`fork`), merging (`heal`), what comes next: it learns like any brick that was away (`view`).

use crate::{
    brick::Brick,
    debt::Known,
    fork::Fork,
    line,
    output::{Event, Output},
    query::Asker,
    state::Outcome,
    tree::batches,
    view::Stand,
};
use alloc::{vec, vec::Vec};
use bytes::Bytes;
use mboxfs_mbox::index::Index;
use mboxfs_types::{
    BrickId, Errno, codec,
    disk::{DiskOp, Effect, Look},
    heal::{Ask, Changes, Of},
    limits,
    peer::{Hello, ToPeer},
    record::Members,
};

impl Brick {
    /// Both changed the volume while apart. One goes on and merges, the other one yields.
    pub(crate) fn on_diverged(&mut self, common: u64, said: &Hello, theirs: &Hello, out: &mut Vec<Output>) {
        if self.sb.diverged.is_none() {
            self.sb.diverged = Some(common);
            self.write_superblock(out);
            Self::event(
                Event::Diverged {
                    common,
                    here: self.log.last - common,
                    there: theirs.last.saturating_sub(common),
                },
                out,
            );
        }
        let apart = theirs.members == Members::Only(theirs.brick) && self.sb.members == Members::Only(self.me);
        if !apart || self.sb.fork.is_none() {
            return; // not from one common point: an operator has to say which one counts
        }
        if self.sb.fork > Some(common) && !self.sb.overrun {
            // It had records from before a crash that the peer never got: it cannot go back to where they parted.
            self.sb.overrun = true;
            self.write_superblock(out);
            return self.refuse_peer("the bricks did not part where this one can go back to", out);
        }
        if line::leader(said, theirs, common) != self.me {
            self.yield_to(out);
        } else if matches!(self.stand, Stand::Solo { .. }) {
            self.begin_merge(out);
        }
    }

    /// U1. What is numbered is still answered: who has no answer would ask the other brick, and be done twice.
    fn yield_to(&mut self, out: &mut Vec<Output>) {
        if !matches!(self.stand, Stand::Yielding { .. }) {
            self.set_stand(Stand::Yielding { asked: None }, "its peer merges what it has", out);
        }
    }

    /// The leader of a merge asks, or one that compares or copies files (`feed`).
    pub(crate) fn on_ask(&mut self, ticket: u64, ask: Ask, out: &mut Vec<Output>) {
        match &mut self.stand {
            Stand::Yielding { asked } => {
                *asked = Some((ticket, ask));
                self.quiet(out);
            }
            Stand::Solo { .. } | Stand::Normal => self.on_copy_ask(ticket, ask, out),
            _ => {}
        }
    }

    /// Everything that was numbered is executed: the mounts go to the other brick, and questions are answered (H1).
    pub(crate) fn quiet(&mut self, out: &mut Vec<Output>) {
        let Stand::Yielding { asked } = &mut self.stand else {
            return;
        };
        if self.state.applied < self.log.last {
            return;
        }
        let asked = asked.take();
        self.drop_mounts(out);
        let Some((ticket, ask)) = asked else {
            return;
        };
        let common = self.sb.diverged.unwrap_or_default();
        let look = match ask {
            Ask::Changes => {
                let mut list = match &self.fork {
                    Some(fork) => fork.changes(&self.state, common),
                    None => Fork::changes_without(&self.state, &self.debt),
                };
                for change in &mut list {
                    change.observed = self.readers.may_have_read(change.ino);
                }
                let at = self.state.applied;
                let changes = Changes { at, list };
                let data = Ok(codec::encode(&changes).into());
                return out.push(Output::Peer(ToPeer::Part {
                    ticket,
                    data,
                    last: true,
                }));
            }
            // Without an ancestor nothing was removed: all that either side has is there afterwards.
            Ask::Index { of, .. } | Ask::Read { of, .. } if of != Of::Now && self.fork.is_none() => {
                let empty = match ask {
                    Ask::Index { .. } => Index::read(&b""[..]).map(|index| index.encode().into()),
                    _ => Ok(Bytes::new()),
                };
                let data = empty.map_err(|_| Errno::ENODATA);
                let last = true;
                return out.push(Output::Peer(ToPeer::Part { ticket, data, last }));
            }
            Ask::Index { ino, of } => Look::Index {
                ino,
                base: self.fork.as_ref().and_then(|f| f.find(ino, of, common)),
            },
            Ask::Read { ino, of, offset, len } => match self.fork.as_ref().and_then(|f| f.find(ino, of, common)) {
                None => Look::Read { ino, offset, len },
                base => Look::Copy { ino, base, offset, len },
            },
            Ask::Xattrs { after } => Look::Xattrs {
                inos: self.inodes_after(after),
            },
            Ask::Raw { ino, block } => Look::Raw { ino, block },
            Ask::State { .. } | Ask::Digests { .. } => {
                let data = Err(Errno::EINVAL);
                let last = true;
                return out.push(Output::Peer(ToPeer::Part { ticket, data, last }));
            }
        };
        self.look(Asker::Peer { ticket }, look, out);
    }

    /// U2: the leader has everything.
    pub(crate) fn on_merged(&mut self, out: &mut Vec<Output>) {
        let (Stand::Yielding { .. }, Some(theirs)) = (&self.stand, &self.peer.hello) else {
            return;
        };
        let Some(at) = self.fork.as_ref().map(Fork::at) else {
            // There is nothing to go back to: the leader's files take the place of all.
            let theirs = theirs.clone();
            let records = self.debt.records;
            Self::event(Event::GivesUp { records }, out);
            self.sb.diverged = None;
            return self.begin_resync(0, &theirs, out);
        };
        let leader: BrickId = theirs.brick;
        self.view = theirs.view;
        self.sb.g = theirs.view.g;
        self.sb.v = theirs.view.v;
        self.sb.members = Members::Only(leader);
        self.sb.primary = leader;
        self.sb.diverged = None;
        self.sb.overrun = false; // it is still there, and needed
        self.sb.giving_up = Some(at);
        self.write_superblock(out);
        Self::event(
            Event::GivesUp {
                records: self.log.last - at,
            },
            out,
        );
        self.set_stand(Stand::GivingUp, "all it has is merged", out);
    }

    /// U3: it is written down.
    pub(crate) fn put_back(&mut self, out: &mut Vec<Output>) {
        let Some(fork) = &self.fork else { return };
        out.push(Output::Disk(DiskOp::Apply(fork.undo(&self.state))));
        self.log.checkpointing = true;
        out.push(Output::Disk(DiskOp::Checkpoint {
            n: fork.at(),
            snapshot: self.snapshot_of(fork.base(), &Known::new()),
        }));
    }

    /// At start, if a line was being given up: goes on with that, or ends it.
    pub(crate) fn resume_giving_up(&mut self, at: u64, out: &mut Vec<Output>) {
        if self.log.last > at {
            self.catch_fork();
            while let Some(record) = self.log.pending.pop_front() {
                let late = record.tag.n > at;
                if let Some(fork) = self.fork.as_mut().filter(|_| late) {
                    fork.follow(&record, &self.state);
                }
                let Outcome { effects, was, .. } = self.state.execute(&record);
                let effects = match &mut self.fork {
                    Some(fork) if late => {
                        fork.guard(effects, was, record.time);
                        continue;
                    }
                    _ => effects,
                };
                out.push(Output::Disk(DiskOp::Apply(effects)));
                self.catch_fork();
            }
            self.stand = Stand::GivingUp;
            self.put_back(out);
            return;
        }
        self.sb.giving_up = None;
        self.sb.fork = None;
        out.push(forget_forks());
        self.write_superblock(out);
    }

    /// The fork is here: from the next record on it is guarded.
    pub(crate) fn catch_fork(&mut self) {
        if self.sb.fork == Some(self.state.applied) && self.fork.is_none() && !self.sb.overrun {
            self.fork = Some(Fork::new(&self.state));
        }
    }

    /// Both are together again: nothing of the fork is needed any more.
    pub(crate) fn end_fork(&mut self, out: &mut Vec<Output>) {
        if let Some(fork) = self.fork.take() {
            let freed = batches(fork.freed(&self.state)).into_iter();
            out.extend(freed.map(|effects| Output::Disk(DiskOp::Apply(effects))));
            out.push(forget_forks());
        }
    }

    /// The leader is gone before it was done: on alone, with all that there is (U1).
    pub(crate) fn yield_in_vain(&mut self, out: &mut Vec<Output>) {
        let alone_at = self.clock.mono + limits::PROMISE;
        self.set_stand(Stand::waiting(alone_at), "the peer went away while it merged", out);
    }
}

/// Whatever was kept for forks and marks: none counts any more.
pub(crate) fn forget_forks() -> Output {
    Output::Disk(DiskOp::Apply(vec![Effect::Forget { below: u64::MAX }]))
}
