//! Answering recalls: hand the lease over, answer once, or let the other one wait.
//!
//! Y1  A lease is given only when nothing is staged under it and no commit is under way (types C3).
//! Y2  A reader is never kept waiting for a lock session: it gets the committed state (L6, I10).
//! Y3  A lock in the way of another node's is waited for here: by F_SETLKW until it is free, by others for `LOCK_WAIT`. The
//!     lease and the lock table leave in one message.
//! Y4  Whatever is not a lock waits at most `HOLD` for a lock session, then what is staged is committed (L13).
//! Y5  A lease that was needed whole goes whole to a reader too, if nothing of it is in use: the other node delivers next, and
//!     would have to ask twice. One that was only read is shared.
//! Y6  Who is given a name for a dotlock is given the mailbox too, if it is not in use here: it will be locked next.
//!
//! Not here: the arbiter's side (`brick::arbiter`).

use crate::{calls::Wait, client::Client, lease::Node, locks, output::Output};
use alloc::vec::Vec;
use mboxfs_types::{
    Errno, Group, Ino, Key, LockKind, Nanos,
    call::{Answer, Intent, Mode, Recall, ToBrick, Verdict},
    limits,
    planted::Bug,
};

/// A recall that has no answer yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Asked {
    pub(crate) recall: Recall,
    pub(crate) since: Nanos,
}

/// What to do about one recall now.
enum Now {
    Give(Option<Mode>),
    Once(Option<Errno>),
    /// First commit what is staged.
    Commit,
    Later,
    /// Not held: a later grant, or given up already.
    Void,
}

impl Client {
    pub(crate) fn on_recall(&mut self, recall: Recall) {
        self.recalls.push(Asked {
            recall,
            since: self.clock.mono,
        });
    }

    pub(crate) fn answer_recalls(&mut self, out: &mut Vec<Output>) {
        if self.recalls.is_empty() || !self.link.confirmed {
            return;
        }
        for asked in core::mem::take(&mut self.recalls) {
            let recall = &asked.recall;
            let now = match &recall.key {
                Key::Name(group) => self.judge_name(group, &asked),
                Key::Inode(ino) => self.judge_inode(*ino, &asked),
            };
            match (now, &recall.key) {
                (Now::Give(keep), Key::Inode(ino)) => self.give_inode(*ino, recall.id, keep, out),
                (Now::Give(keep), Key::Name(group)) => {
                    if recall.intent == Intent::Excl {
                        self.give_named(&group.clone(), out);
                    }
                    self.give_name(&group.clone(), recall.id, keep, out);
                }
                (Now::Once(error), key) => {
                    let dot = match key {
                        Key::Name(group) => self.names.get(group).and_then(|l| l.dot.clone()),
                        Key::Inode(_) => None,
                    };
                    let verdict = Verdict::Once { error, dot };
                    let answer = Answer {
                        id: recall.id,
                        key: key.clone(),
                        seq: recall.seq,
                        verdict,
                    };
                    out.push(Output::Send(ToBrick::Answer(answer)));
                }
                (Now::Commit, Key::Inode(ino)) => {
                    self.start_commit(*ino, out);
                    self.recalls.push(asked);
                }
                (Now::Later | Now::Commit, _) => self.recalls.push(asked),
                (Now::Void, _) => {}
            }
        }
    }

    fn judge_name(&self, group: &Group, asked: &Asked) -> Now {
        let Some(lease) = self.names.get(group).filter(|l| l.held.seq == asked.recall.seq) else {
            return Now::Void;
        };
        if lease.held.mode == Mode::R {
            return Now::Give(None);
        }
        let own = self.own_dots.contains_key(group);
        match asked.recall.intent {
            Intent::Read if own => Now::Once(None),
            Intent::Read if lease.held.used == Mode::R => Now::Give(Some(Mode::R)), // Y5
            _ if own && self.clock.mono < lease.dot_told + limits::DOTLOCK_KEPT => Now::Later, // T4 of `told`
            Intent::Excl if own && self.clock.mono < asked.since + limits::LOCK_WAIT => Now::Later,
            Intent::Excl if own => Now::Once(None),
            _ => Now::Give(None),
        }
    }

    fn judge_inode(&self, ino: Ino, asked: &Asked) -> Now {
        let Some(node) = self.nodes.get(&ino) else {
            return Now::Void;
        };
        let Some(held) = node.held.filter(|h| h.seq == asked.recall.seq) else {
            return Now::Void;
        };
        if held.mode == Mode::R {
            return Now::Give(None);
        }
        if node.committing.is_some() {
            return Now::Later; // Y1: milliseconds
        }
        // Those who waited for a commit that failed come first: one of them may be the writer that takes its append back,
        // and would otherwise find the next commit of the same bytes under way, again and again.
        if self
            .calls
            .values()
            .any(|p| p.wait == Wait::Commit(ino) && p.committed.is_some())
        {
            return Now::Later;
        }
        let staged = node.staging.is_some();
        let own = self.own_locks.get(&ino).map_or(&[][..], Vec::as_slice);
        let exclusive = own.iter().any(|l| l.kind == LockKind::Exclusive);
        let overdue = self.clock.mono >= asked.since + limits::HOLD;
        match asked.recall.intent {
            Intent::Read if staged && exclusive => Now::Once(None), // Y2
            Intent::Read if staged => Now::Commit,
            Intent::Read if !own.is_empty() => Now::Once(None),
            Intent::Read if held.used == Mode::R || node.opens > 0 => Now::Give(Some(Mode::R)), // Y5
            Intent::Lock {
                owner,
                range,
                kind,
                wait,
            } if locks::conflict(own, owner, range, kind).is_some() && !Bug::LockGivenAway.here() => {
                if wait || self.clock.mono < asked.since + limits::LOCK_WAIT {
                    Now::Later
                } else {
                    Now::Once(Some(Errno::EAGAIN))
                } // Y3
            }
            Intent::Write | Intent::Op | Intent::Unlock if staged && exclusive && !overdue => Now::Later, // Y4
            _ if staged => Now::Commit,
            _ => Now::Give(None),
        }
    }

    /// Y6: unasked, and before the name, so that both leases leave the brick in one answer.
    fn give_named(&mut self, group: &Group, out: &mut Vec<Output>) {
        let entry = self.names.get(group).and_then(|lease| lease.entry);
        if let Some(ino) = entry
            && self.nodes.get(&ino).is_some_and(Node::is_idle)
            && !self.own_locks.contains_key(&ino)
        {
            self.give_inode(ino, 0, None, out);
        }
    }

    fn give_name(&mut self, group: &Group, id: u64, keep: Option<Mode>, out: &mut Vec<Output>) {
        let Some(lease) = self.names.get_mut(group) else { return };
        let seq = lease.held.seq;
        let dot = lease.dot.clone();
        match keep {
            Some(mode) => lease.held.mode = mode,
            None => {
                self.names.remove(group);
            }
        }
        let verdict = Verdict::Give {
            keep,
            locks: Vec::new(),
            dot,
        };
        out.push(Output::Send(ToBrick::Answer(Answer {
            id,
            key: Key::Name(group.clone()),
            seq,
            verdict,
        })));
    }

    pub(crate) fn give_inode(&mut self, ino: Ino, id: u64, keep: Option<Mode>, out: &mut Vec<Output>) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        let Some(held) = node.held.as_mut() else { return };
        assert!(node.staging.is_none() && node.committing.is_none(), "Y1");
        let seq = held.seq;
        let mut locks = core::mem::take(&mut node.locks);
        if Bug::LockGivenAway.here() {
            locks.clear();
        }
        match keep {
            Some(mode) => held.mode = mode,
            None => {
                node.held = None;
                node.attr = None;
                self.cache.clear(ino);
                self.changed(ino);
            }
        }
        let verdict = Verdict::Give { keep, locks, dot: None };
        out.push(Output::Send(ToBrick::Answer(Answer {
            id,
            key: Key::Inode(ino),
            seq,
            verdict,
        })));
        // Own processes that waited here for a lock have to ask for the lease again.
        self.wake(|w| matches!(w, Wait::Lock(i, _) if *i == ino));
    }
}
