//! One record: from a numbered request to two durable copies, its execution and its reply.
//!
//! R1  In the step that numbers a record it goes to the own log *and* to the peer; both fsync at the same time (L1, L2).
//! R2  The backup passes requests on and logs what comes back with a number; it never numbers.
//! R3  A request is numbered at most once per view, and executed at most once ever (`state` S2).
//! R4  A commit is numbered only for the session that holds W on the file (L5).
//! R5  The primary says what it has durable with the next word to the backup, or at the next tick, unless somebody waits
//!     there: each word wakes the other host.
//!
//! Not here: leases (`arbiter`), who is primary (`view`), what execution does (`state`).

use crate::{
    arbiter::{Names, Ready, Want},
    brick::Brick,
    debt,
    output::{Event, Output},
    owed::{Sum, messages},
    state::{Outcome, Seen, State},
};
use alloc::{collections::BTreeSet, string::ToString, vec::Vec};
use mboxfs_types::{
    Attr, Errno, Group, Ino, Key, Kind, OpId, SessionId, Tag,
    call::{Grant, Granted, NameState, Op, Reply, Request, ToMount},
    disk::{DiskOp, Effect},
    peer::{Entry, ToPeer},
    record::{Body, Members, Record},
};

impl Names for State {
    fn named(&self, group: &Group) -> Option<Ino> {
        self.lookup(group.dir, &group.stem).ok().flatten()
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.inode(ino).is_ok_and(|i| i.kind() == Kind::Dir)
    }

    fn keys(&self, request: &Request) -> BTreeSet<Key> {
        Self::keys(self, &request.op)
    }
}

impl Brick {
    // ---- primary

    /// A mount wants something changed.
    pub(crate) fn on_request(&mut self, session: SessionId, request: Request, out: &mut Vec<Output>) {
        match self.state.seen(session, request.seq) {
            Seen::NoSession => return, // its expiry is on its way to it
            Seen::Done(result) => {
                let reply = ToMount::Reply(Reply {
                    seq: request.seq,
                    result,
                });
                return self.tell(session, reply, out);
            }
            Seen::New => {}
        }
        let id = OpId {
            session,
            seq: request.seq,
        };
        if self.busy.contains_key(&id) || self.arbiter.has_change(session, request.seq) {
            return; // R3: asked again while it is under way
        }
        if let Err(errno) = self.admit(session, &request.op, out) {
            let reply = ToMount::Reply(Reply {
                seq: request.seq,
                result: Err(errno),
            });
            return self.tell(session, reply, out);
        }
        self.arbiter.want(session, Want::Change(request));
        self.pump(out);
    }

    /// Refusals that need no record: nothing was changed, on either brick (L11).
    fn admit(&mut self, session: SessionId, op: &Op, out: &mut Vec<Output>) -> Result<(), Errno> {
        if let Op::Commit { ino, .. } | Op::Stage { ino, .. } = op
            && !self.arbiter.may_write(session, *ino)
        {
            Self::event(Event::Fenced { session }, out);
            return Err(Errno::ESTALE); // R4
        }
        let makes = matches!(
            op,
            Op::Create { .. } | Op::Mkdir { .. } | Op::Symlink { .. } | Op::Put { .. }
        );
        let need = match op {
            Op::Stage { extents, .. } => extents.iter().map(|e| e.data.len() as u64).sum(),
            Op::Commit { ino, size, .. } => {
                let grows = size.saturating_sub(self.state.inode(*ino).map_or(0, |i| i.size));
                grows + self.fork.as_ref().map_or(0, |f| f.keeps(op))
            }
            _ if makes => 4096,
            _ => 0,
        };
        let inodes = u64::from(makes);
        let room = self.room();
        if need > room.free || inodes > room.inodes_free {
            return Err(Errno::ENOSPC);
        }
        self.spent.admit(need, inodes);
        Ok(())
    }

    /// Does what has become possible for leases and changes.
    pub(crate) fn pump(&mut self, out: &mut Vec<Output>) {
        // What is ready is said in order: a recall must not overtake the grant that it is about. The merge asks from within.
        if !self.mounts.open || core::mem::replace(&mut self.pumping, true) {
            return;
        }
        loop {
            let ready = self.arbiter.pump(&self.state);
            if ready.is_empty() {
                self.pumping = false;
                return;
            }
            let mut counted = BTreeSet::new();
            for item in ready {
                match item {
                    Ready::Recall { session, recall } => {
                        // A name and its inode are asked for side by side: one trip.
                        if self.mounts.is_at_peer(session) && counted.insert(recall.id) {
                            self.counters.round_trips += 1;
                        }
                        self.tell(session, ToMount::Recall(recall), out);
                    }
                    Ready::Held { session, req } => {
                        let result = Ok(Grant::default());
                        self.tell(session, ToMount::Granted(Granted { req, result }), out);
                    }
                    Ready::Hold { keys, locked } => self.on_hold(keys, locked, out),
                    Ready::Change { session, request, keys } if session == SessionId::HEAL => {
                        self.on_heal_ready(request, keys, out);
                    }
                    Ready::Change {
                        session,
                        request,
                        mut keys,
                    } => {
                        let id = OpId {
                            session,
                            seq: request.seq,
                        };
                        let body = Body::Op {
                            id,
                            acked: request.acked,
                            op: request.op,
                        };
                        // The backup may have executed it before, and told its mount of the inode.
                        let made = Key::Inode(self.number(body, out));
                        self.arbiter.coming(made.clone());
                        keys.insert(made);
                        self.busy.insert(id, keys);
                    }
                    Ready::Lease {
                        session,
                        req,
                        key,
                        leases,
                        inode,
                        dot,
                        locks,
                        error,
                    } => {
                        let attr = match &key {
                            Key::Inode(ino) => self.state.attr(*ino).map(Some),
                            Key::Name(_) => Ok(inode.and_then(|i| self.state.attr(i).ok())),
                        };
                        let name = match key {
                            // What the name is, whether or not a lease on its inode could come along.
                            Key::Name(group) => Some(NameState {
                                entry: self.state.named(&group),
                                dot,
                                group,
                            }),
                            Key::Inode(_) => None,
                        };
                        let result = match (error, attr) {
                            (Some(errno), _) | (None, Err(errno)) => {
                                self.arbiter.ungrant(session, &leases);
                                Err(errno)
                            }
                            (None, Ok(attr)) => Ok(Grant {
                                leases,
                                name,
                                attr,
                                locks,
                            }),
                        };
                        self.tell(session, ToMount::Granted(Granted { req, result }), out);
                    }
                }
            }
        }
    }

    /// R1. Returns the number of the inode that it may make.
    pub(crate) fn number(&mut self, body: Body, out: &mut Vec<Output>) -> Ino {
        self.number_as(body, None, out).1
    }

    /// Numbers a change of the bricks' own, whose keys are held. Returns the record's position.
    pub(crate) fn number_held(
        &mut self,
        body: Body,
        ino: Option<Ino>,
        mut keys: BTreeSet<Key>,
        out: &mut Vec<Output>,
    ) -> u64 {
        let (n, made) = self.number_as(body, ino, out);
        let made = Key::Inode(made);
        self.arbiter.coming(made.clone());
        keys.insert(made);
        let id = OpId {
            session: SessionId::HEAL,
            seq: n,
        };
        self.busy.insert(id, keys);
        n
    }

    /// Number of what the next record makes.
    pub(crate) fn ino_to_come(&self) -> Ino {
        Ino::new(self.me, self.sb.inc, self.next_ino + 1)
    }

    /// With a number of one's own for what it makes. Returns the record's position too.
    pub(crate) fn number_as(&mut self, body: Body, ino: Option<Ino>, out: &mut Vec<Output>) -> (u64, Ino) {
        assert!(self.is_primary(), "R2: only the primary numbers");
        let n = self.log.last + 1;
        let made = self.ino_to_come();
        self.next_ino += 1;
        let record = Record {
            tag: Tag {
                n,
                g: self.view.g,
                v: self.view.v,
            },
            time: self.stamp(),
            ino: ino.unwrap_or(made),
            body,
        };
        self.log.last = n;
        out.push(Output::Disk(DiskOp::Append(record.clone())));
        if self.peer_is_live() {
            let entry = match &record.body {
                Body::Op { id, .. } if self.mounts.is_at_peer(id.session) => Entry::Numbered {
                    tag: record.tag,
                    time: record.time,
                    ino: record.ino,
                    session: id.session,
                    seq: id.seq,
                },
                _ => Entry::Whole(record.clone()),
            };
            if !matches!(&record.body, Body::Op { id, .. } if self.mounts.conn_of(id.session).is_some()) {
                self.peer.waits_for = n;
            }
            out.push(Output::Peer(ToPeer::Append { entry }));
        }
        let ino = record.ino;
        self.log.pending.push_back(record);
        (n, ino)
    }

    // ---- backup

    pub(crate) fn on_append(&mut self, entry: Entry, out: &mut Vec<Output>) {
        let record = match entry {
            Entry::Whole(record) => record,
            Entry::Numbered {
                tag,
                time,
                ino,
                session,
                seq,
            } => {
                let Some((acked, op)) = self.relayed.remove(&(session, seq)) else {
                    return self.refuse_peer("the peer numbered a request that was not passed to it", out);
                };
                Record {
                    tag,
                    time,
                    ino,
                    body: Body::Op {
                        id: OpId { session, seq },
                        acked,
                        op,
                    },
                }
            }
        };
        self.append_foreign(record, out);
    }

    /// A record that the other brick numbered.
    pub(crate) fn append_foreign(&mut self, record: Record, out: &mut Vec<Output>) {
        if record.tag.n != self.log.last + 1 {
            return self.refuse_peer("the peer's records have a gap", out);
        }
        self.log.last = record.tag.n;
        self.log.time = self.log.time.max(record.time);
        crate::line::extend(&mut self.sb.history, record.tag);
        out.push(Output::Disk(DiskOp::Append(record.clone())));
        self.log.pending.push_back(record);
    }

    pub(crate) fn refuse_peer(&mut self, why: &str, out: &mut Vec<Output>) {
        Self::event(Event::PeerRefused { why: why.to_string() }, out);
        out.push(Output::DropPeer);
        self.peer.up = false;
        self.on_peer_lost(out);
    }

    // ---- both

    pub(crate) fn on_appended(&mut self, n: u64, out: &mut Vec<Output>) {
        self.log.durable = self.log.durable.max(n);
        self.say_hello(out);
        self.take_turn(out);
        let can_wait = self.is_primary()
            && matches!(self.stand, crate::view::Stand::Normal)
            && self.peer.waits_for <= self.peer.told;
        if can_wait {
            self.peer.owed = true; // R5
        } else if self.peer.up && self.peer.hello.is_some() {
            self.peer.told = n;
            out.push(Output::Peer(ToPeer::Durable { n }));
        }
        let durable = self.peer.durable;
        self.on_learner_durable(durable, out);
    }

    /// R5: at the end of a step, which was a tick or not.
    pub(crate) fn say_durable(&mut self, tick: bool, out: &mut Vec<Output>) {
        if !self.peer.owed {
            return;
        }
        let word = out.iter().position(|o| matches!(o, Output::Peer(_)));
        let normal = matches!(self.stand, crate::view::Stand::Normal);
        if word.is_none() && normal && !tick {
            return;
        }
        self.peer.owed = false;
        if self.peer.up && self.peer.hello.is_some() {
            let n = self.log.durable;
            self.peer.told = n;
            let at = word.filter(|_| normal).unwrap_or(out.len());
            out.insert(at, Output::Peer(ToPeer::Durable { n }));
        }
    }

    pub(crate) fn on_durable(&mut self, n: u64, out: &mut Vec<Output>) {
        if n > self.log.last && self.stand == crate::view::Stand::Normal {
            return self.refuse_peer("the peer has records that were not sent to it", out);
        }
        self.peer.durable = self.peer.durable.max(n);
        self.on_learner_durable(n, out);
    }

    /// Executes what is committed, in order (B3).
    pub(crate) fn advance(&mut self, out: &mut Vec<Output>) {
        self.try_rejoin(out);
        self.catch_fork();
        if self.state.applied >= self.commit_index() {
            return self.quiet(out);
        }
        self.execute_committed(out);
        self.quiet(out);
        if self.is_primary() && !matches!(self.stand, crate::view::Stand::Normal) && self.peer_is_learning() {
            out.push(Output::Peer(ToPeer::Commit {
                n: self.state.applied.min(self.committed_alone()),
            }));
        }
        self.settle(out);
        self.limit_log(out);
        if self.log.since_checkpoint > self.checkpoint_bytes && self.may_checkpoint() && !self.log.checkpointing {
            self.checkpoint(out);
        }
    }

    pub(crate) fn execute_committed(&mut self, out: &mut Vec<Output>) {
        let commit = self.commit_index();
        while self.log.pending.front().is_some_and(|r| r.tag.n <= commit) {
            if let Some(record) = self.log.pending.pop_front() {
                self.execute(&record, out);
                self.catch_fork();
            }
        }
    }

    /// After execution: keys are free, sessions may have begun or ended, queries may be answered.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.answer_barriers(out);
        if self.is_primary() {
            self.try_open(out);
            self.pump(out);
        }
    }

    fn execute(&mut self, record: &Record, out: &mut Vec<Output>) {
        let was = debt::committed(&record.body).and_then(|ino| Some((ino, self.state.inode(ino).ok()?.version)));
        if let Some(fork) = &mut self.fork {
            fork.follow(record, &self.state);
        }
        let outcome = self.state.execute(record);
        if let Body::NewGen { g, members, primary } = record.body {
            self.on_new_gen(g, members, primary, out);
        }
        if let Body::Quorum { quorum } = &record.body {
            self.on_quorum(record.tag.n, quorum.clone(), out);
        }
        if let Body::Quarantine { op } = &record.body {
            self.forget_rot(op, out);
        }
        let bytes = size_of_changes(record);
        self.log.since_checkpoint += bytes + 64;
        self.feed.kept += bytes + 64;
        self.note_debt(record, bytes, was, &outcome);
        let note = self.note(record, was, &outcome);
        let Outcome {
            reply,
            effects,
            changed,
            was,
            orphaned,
            opened,
            ended,
        } = outcome;
        let effects = match &mut self.fork {
            Some(fork) => fork.guard(effects, was, record.time),
            None => effects,
        };
        let effects: Vec<Effect> = note.map(Effect::Note).into_iter().chain(effects).collect();
        if !effects.is_empty() {
            out.push(Output::Disk(DiskOp::Apply(effects)));
        }
        if let Some((id, result)) = reply {
            self.finish(id, result, changed, out);
        }
        for ino in orphaned {
            self.tell_local(&ToMount::Orphaned { ino }, None, out);
        }
        if let Some(session) = opened {
            self.on_opened(session, out);
        }
        for session in ended {
            self.on_ended(session, out);
        }
    }

    /// The reply leaves from the brick that the mount is attached to, when that one knows that both are durable (B2).
    fn finish(&mut self, id: OpId, result: Result<Vec<Attr>, Errno>, changed: Option<Ino>, out: &mut Vec<Output>) {
        if let Some(keys) = self.busy.remove(&id) {
            self.arbiter.executed(&keys);
        }
        if id.session == SessionId::HEAL {
            return self.on_heal_done(id.seq, result, changed, out);
        }
        if let Some(ino) = changed.filter(|_| result.is_ok())
            && let Some(path) = self.state.path(ino)
        {
            self.tell_local(&ToMount::Changed { ino, path }, Some(id.session), out);
        }
        if let Some(conn) = self.mounts.conn_of(id.session) {
            self.counters.requests += 1;
            self.counters.round_trips += u64::from(matches!(self.stand, crate::view::Stand::Normal));
            out.push(Output::Mount {
                conn,
                frame: ToMount::Reply(Reply { seq: id.seq, result }),
            });
        }
    }

    fn note_debt(&mut self, record: &Record, bytes: usize, was: Option<(Ino, u64)>, outcome: &Outcome) {
        // (Too many are noted if the log had some at the start that the peer has as well: that costs a comparison.)
        if self.sb.members == Members::Both || self.sb.fork.is_none() || record.body.is_bookkeeping() {
            return;
        }
        let touched = outcome.changed.or_else(|| match &outcome.reply {
            Some((_, Ok(attrs))) => attrs.first().map(|a| a.ino),
            _ => None,
        });
        self.debt.note(bytes, touched, was, &outcome.effects);
        let sum = Sum {
            last: record.tag.n,
            records: 1,
            messages: messages(&outcome.effects, outcome.was),
            bytes: bytes as u64,
        };
        self.owed.add(sum, touched);
    }
}

/// Bytes of content that a record carries.
pub(crate) fn size_of_changes(record: &Record) -> usize {
    let of = |op: &Op| match op {
        Op::Commit { extents, .. } | Op::Stage { extents, .. } => extents.iter().map(|e| e.data.len()).sum(),
        Op::Put { content, .. } => content.len(),
        _ => 0,
    };
    record.body.ops().iter().map(of).sum()
}
