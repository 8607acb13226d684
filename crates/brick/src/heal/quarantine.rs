//! Messages that are damaged on both bricks are taken out of their mailbox, and what is left of them is kept (law L12).
//!
//! Q1  Only what neither brick has, nor both together (`rot` T7), and only while both are in step: what the other brick has in
//!     that moment is asked for under the lock, and tried once more.
//! Q2  First the damaged messages, as each brick has them, become files in `.mboxfs-conflict`; then one record takes them
//!     out of the mailbox. A crash in between leaves the first part done: it is found by its name, and not done twice.
//! Q3  Done as a mail program would expunge them: under the lock of the file, in the same inode (L10), with a later mtime.
//!     All that follows moves up, because there is no filler that keeps UIDs as they are: a message that stands in the
//!     place would take the UID of another one, or, without a UID, have all that follow renumbered (MAIL.md 5.3); and as
//!     a part of the message in front it would change that one. So it costs what an expunge costs, and where more than
//!     `limits::QUARANTINE_BYTES_MAX` would have to move the file stays as it is.
//! Q4  Which messages: where the two copies of a block differ, those that have a byte there; where they are equal, those that
//!     have one in the sector or page with the damage (`store::locate`); if that cannot be told all that have a byte in the
//!     block.
//! Q5  A file that is no mailbox stays as it is, readable but for the bad blocks: nobody knows what a part of it is worth.
//!     Both copies lie in the brick directories; who writes it anew or removes it ends the matter.
//! Q6  The files in `.mboxfs-conflict` are the memory of it: as long as one is there the operator is told (`quarantined`).
//!
//! Not here: how a block is repaired (`rot`), what is left of a mailbox (`mbox::merge::expunge`).

use super::{
    decide::{Next, after, conflict_dir},
    gather::{Gather, Take, Wants},
    version_of,
};
use crate::{
    arbiter::Want,
    brick::Brick,
    output::{Event, Output},
    query::Asker,
    rot::At,
    view::Stand,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec,
    vec::Vec,
};
use bytes::Bytes;
use core::ops::Range;
use mboxfs_mbox::{
    files::{self, Rule},
    index::Index,
    merge::expunge::expunge,
};
use mboxfs_types::{
    Errno, Group, Ino, Key, Nanos, SessionId,
    admin::Quarantined,
    call::{Op, Request},
    disk::{DiskOp, Effect, Look, Seen},
    limits::{self, SUM_BLOCK_BYTES as BLOCK},
    peer::{Check, ToPeer},
    record::Body,
};

mod work;

use work::Work;
pub(super) use work::{kept_name, label};

/// In names of files in `.mboxfs-conflict`, in front of the number of messages.
const MARK: &str = ".damaged-";
/// Stands there for a slash.
const SLASH: &str = "%";

/// One file under way.
#[derive(Debug)]
pub(crate) struct Quarantine {
    ino: Ino,
    /// All of this is about this version.
    version: u64,
    /// Bad on both.
    blocks: BTreeSet<u64>,
    ours: BTreeMap<u64, Bytes>,
    theirs: BTreeMap<u64, Bytes>,
    /// Where in a block the damage is, if the disk can tell.
    places: BTreeMap<u64, Range<usize>>,
    work: Option<Work>,
    /// Q3: the keys of the file.
    held: Option<BTreeSet<Key>>,
    step: Step,
    /// Of the last question, or request.
    ticket: u64,
    /// It is given up then.
    until: Nanos,
}

/// What is waited for.
#[derive(Debug)]
enum Step {
    /// The file to be free.
    Hold,
    /// The other brick's copy of this block.
    Theirs(u64),
    /// Whether that makes it good.
    Tried(u64),
    /// The copy here.
    Ours(u64),
    /// Which messages there are.
    Index,
    /// All mounts to be out of the way of this.
    Leases { op: Op, then: Option<Gather> },
    /// A record with this position; `last`: that was all.
    Record { n: u64, then: Option<Gather>, last: bool },
    /// Bytes.
    Bytes(Gather),
}

/// Why a file stays as it is.
const NO_MAILBOX: &str = "it is no mailbox: write it anew or remove it";
const TOO_LARGE: &str = "too much lies behind the damage: move the good messages to another mailbox and remove it";

impl Brick {
    /// The next file that has to be.
    pub(crate) fn tick_quarantine(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        if let Some(q) = &self.quarantine {
            if q.until <= now {
                let waits = matches!(q.step, Step::Hold);
                let time = if waits {
                    limits::LOCK_WAIT
                } else {
                    limits::REPAIR_RETRY_BOTH
                };
                self.put_off_quarantine(time, out);
            }
            return;
        }
        if self.stand != Stand::Normal || !self.is_primary() || !self.is_replayed() || self.heal.is_some() {
            return;
        }
        let Some(ino) = self.next_to_quarantine() else { return };
        let Ok(inode) = self.state.inode(ino) else { return };
        let names = inode.home.iter().map(|(dir, name)| Group::of(*dir, name)).collect();
        self.quarantine = Some(Quarantine {
            ino,
            version: inode.version,
            blocks: BTreeSet::new(),
            ours: BTreeMap::new(),
            theirs: BTreeMap::new(),
            places: BTreeMap::new(),
            work: None,
            held: None,
            step: Step::Hold,
            ticket: 0,
            until: now + limits::HOLD,
        });
        let dir = None;
        self.arbiter.want(SessionId::HEAL, Want::Hold { ino, names, dir });
        self.pump(out);
    }

    /// The file is free of leases, and of locks or not.
    pub(crate) fn on_quarantine_hold(&mut self, keys: BTreeSet<Key>, locked: bool, out: &mut Vec<Output>) {
        let Some(q) = self.quarantine.as_mut().filter(|q| matches!(q.step, Step::Hold)) else {
            return self.arbiter.executed(&keys);
        };
        q.held = Some(keys);
        let version = version_of(&self.state, q.ino);
        let (all, twice) = self.rot.blocks_of(q.ino);
        match version {
            Some(version) if !locked && all == twice.len() && !twice.is_empty() => {
                (q.version, q.blocks) = (version, twice);
                if q.blocks.len() > limits::QUARANTINE_BLOCKS_MAX {
                    return self.spare("too many of its blocks are bad", out);
                }
                self.next_question(out);
            }
            _ => self.put_off_quarantine(limits::LOCK_WAIT, out),
        }
    }

    /// Q1
    fn next_question(&mut self, out: &mut Vec<Output>) {
        let ticket = self.rot.ticket();
        let until = self.clock.mono + limits::QUARANTINE_PATIENCE;
        let Some(q) = &mut self.quarantine else { return };
        (q.ticket, q.until) = (ticket, until);
        let ino = q.ino;
        let missing = |copies: &BTreeMap<u64, Bytes>| q.blocks.iter().find(|b| !copies.contains_key(b)).copied();
        if let Some(block) = missing(&q.theirs) {
            q.step = Step::Theirs(block);
            let check = Check::Raw { ino, block };
            return out.push(Output::Peer(ToPeer::Check { ticket, check }));
        }
        if q.blocks.is_empty() {
            return self.end_quarantine(out);
        }
        q.step = Step::Index;
        self.look(Asker::Quarantine { ticket }, Look::RawIndex { ino }, out);
    }

    /// The other brick's copy. False: it is not for this.
    pub(crate) fn on_quarantine_copy(
        &mut self,
        ticket: u64,
        version: u64,
        data: &Result<Bytes, Errno>,
        out: &mut Vec<Output>,
    ) -> bool {
        let Some(q) = self.quarantine.as_mut().filter(|q| q.ticket == ticket) else {
            return false;
        };
        let Step::Theirs(block) = q.step else { return false };
        match data {
            Ok(theirs) if version == q.version => {
                let (ino, theirs) = (q.ino, theirs.clone());
                q.theirs.insert(block, theirs.clone());
                q.step = Step::Tried(block);
                let combine = Effect::Combine { ino, block, theirs };
                out.push(Output::Disk(DiskOp::Apply(vec![combine])));
                let deep = true;
                self.look(Asker::Quarantine { ticket }, Look::Block { ino, block, deep }, out);
            }
            _ => self.put_off_quarantine(limits::REPAIR_RETRY, out),
        }
        true
    }

    /// The own disk answers.
    pub(crate) fn on_quarantine_look(&mut self, ticket: u64, seen: Result<Seen, Errno>, out: &mut Vec<Output>) {
        let Some(q) = self.quarantine.as_mut().filter(|q| q.ticket == ticket) else {
            return;
        };
        let ino = q.ino;
        match (&mut q.step, seen) {
            (Step::Tried(block), Ok(Seen::Data(_) | Seen::Doubtful(_))) => {
                let block = *block;
                q.blocks.remove(&block);
                q.theirs.remove(&block);
                self.is_good_again((ino, block), false, out);
                self.next_question(out);
            }
            (Step::Tried(block), Ok(Seen::Rotten(_))) => {
                let block = *block;
                q.step = Step::Ours(block);
                self.look(Asker::Quarantine { ticket }, Look::Raw { ino, block }, out);
            }
            (Step::Ours(block), Ok(Seen::Raw { bytes, damaged })) => {
                q.ours.insert(*block, bytes);
                q.places.extend(damaged.map(|place| (*block, place)));
                self.next_question(out);
            }
            (Step::Index, Ok(Seen::Data(index))) => self.plan_quarantine(&index, out),
            (Step::Bytes(gather), Ok(Seen::Data(data))) => {
                if gather.take(data) {
                    self.gather_on(out);
                } else {
                    self.put_off_quarantine(limits::REPAIR_RETRY, out);
                }
            }
            _ => self.put_off_quarantine(limits::REPAIR_RETRY, out),
        }
    }

    fn plan_quarantine(&mut self, index: &Bytes, out: &mut Vec<Output>) {
        let Some(q) = &self.quarantine else { return };
        let Ok(inode) = self.state.inode(q.ino) else {
            return self.end_quarantine(out);
        };
        let name = inode.home.as_ref().map(|(_, name)| name.as_bytes());
        let is_mail = name.is_some_and(|name| files::rule(name) == Rule::Content);
        let index = Index::decode(index).ok().filter(|_| is_mail);
        let Some(expunged) = index.and_then(|index| expunge(&index, &q.doubtful())) else {
            return self.spare(NO_MAILBOX, out);
        };
        let path = self.shown_path(q.ino);
        let mtime = after(self.clock.real.max(inode.mtime));
        let work = q.work(&expunged, (&path, self.me), mtime);
        if work.moves() > limits::QUARANTINE_BYTES_MAX {
            return self.spare(TOO_LARGE, out);
        }
        if let Some(q) = &mut self.quarantine {
            q.work = Some(work);
        }
        self.next_step(out);
    }

    /// Q2: from the state as it is.
    fn next_step(&mut self, out: &mut Vec<Output>) {
        let Some(q) = &self.quarantine else { return };
        let Some(work) = &q.work else { return };
        let dir = match conflict_dir(&self.state) {
            Ok(dir) => dir,
            Err(Next::Conflict(op, _)) => return self.want_step(op, None, out),
            Err(_) => return self.put_off_quarantine(limits::REPAIR_RETRY, out),
        };
        let mut take = work.rest.clone();
        for copy in &work.copies {
            let Ok(Some(into)) = self.state.lookup(dir, &copy.name) else {
                let (uid, gid) = self.state.inode(q.ino).map_or((0, 0), |i| (i.uid, i.gid));
                let op = Op::Create {
                    dir,
                    name: copy.name.clone(),
                    mode: 0o600,
                    uid,
                    gid,
                    excl: true,
                };
                return self.want_step(op, None, out);
            };
            let (size, expect) = self.state.inode(into).map_or((0, 0), |i| (i.size, i.version));
            if size != copy.size {
                take = Take {
                    into,
                    expect,
                    cut: 0,
                    size: copy.size,
                    mtime: self.clock.real,
                    pieces: copy.pieces.clone(),
                    version: None,
                };
                break;
            }
        }
        let room = self.room().free;
        let gather = Gather::new(take);
        if gather.needs() > room {
            let path = self.shown_path(q.ino);
            let why = "no space left on the bricks";
            Self::event(Event::NotQuarantined { path, why }, out);
            return self.put_off_quarantine(limits::REPAIR_RETRY_BOTH, out);
        }
        self.spent.admit(gather.needs(), 0);
        if let Some(q) = &mut self.quarantine {
            q.step = Step::Bytes(gather);
        }
        self.gather_on(out);
    }

    fn gather_on(&mut self, out: &mut Vec<Output>) {
        let ticket = self.rot.ticket();
        let until = self.clock.mono + limits::QUARANTINE_PATIENCE;
        let Some(q) = &mut self.quarantine else { return };
        (q.ticket, q.until) = (ticket, until);
        let Step::Bytes(mut gather) = core::mem::replace(&mut q.step, Step::Index) else {
            return;
        };
        match gather.next() {
            Wants::Ours { ino, offset, len } => {
                q.step = Step::Bytes(gather);
                self.look(Asker::Quarantine { ticket }, Look::Read { ino, offset, len }, out);
            }
            Wants::Stage(op) => self.want_step(op, Some(gather), out),
            Wants::Commit(op) => {
                let (into, version) = gather.expect();
                if version_of(&self.state, into) != Some(version) {
                    return self.put_off_quarantine(limits::REPAIR_RETRY, out);
                }
                match q.held.take_if(|_| into == q.ino) {
                    Some(keys) => self.number_step(op, None, (keys, true), out),
                    None => self.want_step(op, None, out),
                }
            }
            Wants::Theirs { .. } | Wants::TheirsRaw { .. } => self.put_off_quarantine(limits::REPAIR_RETRY, out), // never asked for
        }
    }

    // ---- records

    /// Waits for all mounts to be out of the way, like any change.
    fn want_step(&mut self, op: Op, then: Option<Gather>, out: &mut Vec<Output>) {
        let ticket = self.rot.ticket();
        let until = self.clock.mono + limits::QUARANTINE_PATIENCE;
        let Some(q) = &mut self.quarantine else { return };
        (q.ticket, q.until) = (ticket, until);
        let request = Request {
            seq: ticket,
            acked: ticket,
            op: op.clone(),
        };
        q.step = Step::Leases { op, then };
        self.arbiter.want(SessionId::HEAL, Want::Change(request));
        self.pump(out);
    }

    /// All are out of the way.
    pub(crate) fn on_quarantine_ready(&mut self, seq: u64, keys: BTreeSet<Key>, out: &mut Vec<Output>) {
        let Some(q) = self.quarantine.as_mut().filter(|q| q.ticket == seq) else {
            return self.arbiter.executed(&keys);
        };
        let step = core::mem::replace(&mut q.step, Step::Index);
        let Step::Leases { op, then } = step else {
            q.step = step;
            return self.arbiter.executed(&keys);
        };
        self.number_step(op, then, (keys, false), out);
    }

    fn number_step(
        &mut self,
        op: Op,
        then: Option<Gather>,
        (keys, last): (BTreeSet<Key>, bool),
        out: &mut Vec<Output>,
    ) {
        let n = self.number_held(Body::Quarantine { op }, None, keys, out);
        if let Some(q) = &mut self.quarantine {
            q.step = Step::Record { n, then, last };
        }
    }

    /// A record was executed.
    pub(crate) fn on_quarantine_done(&mut self, n: u64, done: bool, out: &mut Vec<Output>) {
        let Some(q) = &mut self.quarantine else { return };
        let Step::Record { n: mine, then, last } = &mut q.step else {
            return;
        };
        let last = *last;
        if *mine != n {
            return;
        }
        match then.take() {
            _ if !done => self.put_off_quarantine(limits::REPAIR_RETRY, out),
            Some(gather) => {
                q.step = Step::Bytes(gather);
                self.gather_on(out);
            }
            None if last => {
                let (ino, work) = (q.ino, q.work.take());
                let path = self.shown_path(ino);
                let (messages, copies) = work.map_or((0, Vec::new()), |work| (work.messages, work.copies));
                let kept = copies.iter().map(|copy| format!("{}", copy.name)).collect();
                Self::event(Event::Quarantined { path, messages, kept }, out);
                self.end_quarantine(out);
            }
            None => self.next_step(out),
        }
    }

    // ---- ends

    /// It is tried again: somebody has it locked, or something changed meanwhile.
    fn put_off_quarantine(&mut self, time: Nanos, out: &mut Vec<Output>) {
        if let Some(q) = &self.quarantine {
            self.rot.put_off.insert(q.ino, self.clock.mono + time);
        }
        self.end_quarantine(out);
    }

    /// It stays as it is, until somebody changes it.
    fn spare(&mut self, why: &'static str, out: &mut Vec<Output>) {
        if let Some(q) = &self.quarantine {
            let path = self.shown_path(q.ino);
            self.rot.spared.insert(q.ino, q.version);
            Self::event(Event::NotQuarantined { path, why }, out);
        }
        self.end_quarantine(out);
    }

    /// Done, or no more in step.
    pub(crate) fn end_quarantine(&mut self, out: &mut Vec<Output>) {
        let Some(q) = self.quarantine.take() else { return };
        self.arbiter.remove(SessionId::HEAL);
        if let Some(keys) = q.held {
            self.arbiter.executed(&keys);
        }
        self.pump(out);
    }

    /// Q6: what was taken out and not dealt with yet.
    pub(crate) fn quarantined(&self) -> Vec<Quarantined> {
        let all = self.taken_out_of_all();
        all.into_values().take(limits::BAD_FILES_MAX).collect()
    }

    /// What was taken out of a mailbox when it had this version.
    pub(crate) fn quarantined_from(&self, path: &str, version: u64) -> Option<Quarantined> {
        let mut all = self.taken_out_of_all().into_iter();
        all.find_map(|((p, v, _), taken)| (p == path && v == version).then_some(taken))
    }

    /// By mailbox, its version, and how many messages.
    fn taken_out_of_all(&self) -> BTreeMap<(String, u64, u64), Quarantined> {
        let mut all: BTreeMap<(String, u64, u64), Quarantined> = BTreeMap::new();
        let Ok(dir) = conflict_dir(&self.state) else {
            return all;
        };
        let entries = self.state.inode(dir).and_then(|inode| inode.entries());
        for (name, ino) in entries.into_iter().flatten() {
            let name = format!("{name}");
            let Some((stem, rest)) = name.rsplit_once(MARK) else {
                continue;
            };
            let mut parts = rest.splitn(3, '.');
            let (Some(count), Some(version), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let (Ok(messages), Ok(version)) = (count.parse(), version.parse()) else {
                continue;
            };
            let path = format!("/{}", stem.replace(SLASH, "/"));
            let since = self.state.inode(*ino).map_or_else(|_| self.clock.real, |i| i.mtime);
            let one = all
                .entry((path.clone(), version, messages))
                .or_insert_with(|| Quarantined {
                    path,
                    messages,
                    since,
                    kept: Vec::new(),
                });
            one.kept.push(self.shown_path(*ino));
        }
        all
    }
}

impl Brick {
    /// What becomes of a file's bad blocks is in this record: above its cut nothing is left of them.
    pub(crate) fn forget_rot(&mut self, op: &Op, out: &mut Vec<Output>) {
        let Op::Commit { ino, cut, .. } = op else { return };
        let gone: Vec<At> = self.rot.bad_above(*ino, cut / BLOCK);
        for at in gone {
            self.rot.forget_block(at);
            self.let_go_of(at, out);
        }
        self.rot.put_off.remove(ino);
        self.rot.spared.remove(ino);
    }
}

#[cfg(test)]
mod tests;
