//! Merging: what a brick that diverged has changed is brought into the line of history of the one that goes on.
//!
//! Z1  One object after the other, each as ordinary records of this line: mail flows meanwhile, and a crash leaves whole
//!     objects. Nothing of the other line is dropped before all of it is here (`give_up`).
//! Z2  What to do next with an object is decided from the state as it is, again after each step (`decide`): whatever
//!     mounts did in between, and however often a merge was begun before, it comes to the same.
//! Z3  A mailbox is changed under a lock of the merge's own (L5): nobody has it locked, by fcntl, flock or dotlock, in the
//!     midst of a rewrite, say; nobody gets at it until the merged one is in its place, which was computed from what is
//!     there (L1, L6). What takes long is done before.
//! Z4  An object whose present version was merged already is not merged again; of one that changed since, what both knew
//!     is the version that was merged (`fork::marks`), not the fork: what was expunged since does not return.
//! Z5  What cannot be read, on either side, is put off, and asked of the other brick (`rot` T6); all else is merged first. What
//!     still cannot be read then, because it is damaged, does not hold up the rest (`damage`).
//!
//! Not here: which messages survive (`mbox`), the other side (`give_up`).

mod damage;
mod decide;
mod gather;
mod keywords;
mod mailbox;
mod names;
pub(crate) mod quarantine;
mod text;
mod xattrs;

use crate::{
    brick::Brick,
    output::{Event, Mended, Output},
    query::Asker,
    state::State,
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    format,
    string::String,
    vec::Vec,
};
use bytes::Bytes;
pub(crate) use decide::whose;
use decide::{Both, Next};
use gather::Gather;
use mboxfs_types::{
    Attr, Errno, Group, Ino, Key, Name, Nanos, SessionId,
    admin::{Healing, ScrubVerb},
    call::{Op, Request},
    codec,
    disk::Look,
    heal::{Ask, Change, Changes, Of},
    limits,
    peer::ToPeer,
    planted::Bug,
    record::Body,
};
use text::Texts;

/// Bytes of one answer: the index of a mailbox with a million messages.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Names in one report.
const NAMES_MAX: usize = 1000;
/// Steps that one object may take: enough for every name and attribute, and for mounts that keep changing it.
const TRIES_MAX: u32 = 1000;

/// A merge under way.
#[derive(Debug)]
pub(crate) struct Heal {
    /// Last record that both lines share.
    common: u64,
    /// Position of the last record of the peer.s line.
    at: u64,
    /// Of the last question.
    ticket: u64,
    answer: Vec<u8>,
    todo: VecDeque<Change>,
    /// How often the front of `todo` was looked at.
    tries: u32,
    /// Objects put off since something was done.
    put_off: usize,
    /// Objects that could not be read since something was merged.
    unreadable: usize,
    /// Objects of the other line that are another inode here: made on both sides under one name.
    alias: BTreeMap<Ino, Ino>,
    freed: BTreeMap<(Ino, Name), Ino>,
    /// Z5: objects of the other line that cannot be read, here or there.
    damaged: BTreeSet<Ino>,
    unread: keywords::Unread,
    before: text::Before,
    step: Step,
    /// Z3: the file that is locked, and its keys.
    held: Option<(Ino, BTreeSet<Key>)>,
    request: u64,
    /// When it began.
    since: Nanos,
    total: usize,
    mailboxes: u64,
    conflicts: u64,
    /// Extended attributes of the front of `todo`.
    xattrs: xattrs::Progress,
    /// It was made again here: it has none yet.
    made_again: bool,
    /// What became of the front of `todo`, as far as it is a file.
    did: Option<Mended>,
}

/// What is waited for.
#[derive(Debug)]
enum Step {
    /// The list of changes.
    List,
    /// All mounts to be out of the way of this.
    Leases(Wish),
    /// Z3: the lock of this file, until then; what to do with it.
    Hold { ino: Ino, until: Nanos, then: Then },
    /// Somebody has it locked: to be asked for again then.
    Locked { ino: Ino, until: Nanos, then: Then },
    /// A record, with this position.
    Record { n: u64, then: Option<Gather> },
    /// Indexes of a mailbox changed on both sides.
    Indexes(Indexes),
    /// Another file, changed on both sides.
    Texts(Texts),
    /// Bytes.
    Bytes(Gather),
    /// Extended attributes, to be those of this inode.
    Xattrs(Ino),
}

/// What a file is locked for.
#[derive(Debug)]
enum Then {
    /// To merge it, all of this being known.
    Merge(Indexes),
    /// The same for another file.
    Texts(Texts),
    /// To give it this content.
    Take(gather::Take),
}

/// A record to be.
#[derive(Debug)]
struct Wish {
    op: Op,
    /// For what it makes.
    ino: Option<Ino>,
    /// Done with it.
    also: Option<Op>,
    /// The version there that is merged with it.
    version: Option<u64>,
    /// An inode that has to have this version then.
    expect: Option<(Ino, u64)>,
    /// What it is a part of.
    then: Option<Gather>,
}

impl Wish {
    const fn plain(op: Op, ino: Option<Ino>) -> Self {
        Self::making(op, ino, None, None)
    }

    const fn making(op: Op, ino: Option<Ino>, version: Option<u64>, expect: Option<(Ino, u64)>) -> Self {
        Self {
            op,
            ino,
            also: None,
            version,
            expect,
            then: None,
        }
    }
}

#[derive(Debug)]
struct Indexes {
    both: Both,
    ours: Option<Bytes>,
    theirs: Option<Bytes>,
    base: Option<Bytes>,
}

impl Heal {
    fn look<'a>(&'a self, state: &'a State) -> decide::Look<'a> {
        decide::Look {
            state,
            alias: &self.alias,
            freed: &self.freed,
            common: self.common,
            at: self.at,
            stuck: self.put_off >= self.todo.len(),
        }
    }

    /// Another object is the front of `todo`.
    fn begin_front(&mut self) {
        (self.tries, self.made_again) = (0, false);
        self.xattrs = xattrs::Progress::default();
    }
}

impl Brick {
    /// This brick goes on; its peer yields and answers.
    pub(crate) fn begin_merge(&mut self, out: &mut Vec<Output>) {
        let common = self.sb.diverged.unwrap_or_default();
        self.merge_at = None;
        self.heal = Some(Heal {
            common,
            at: 0,
            ticket: 0,
            answer: Vec::new(),
            todo: VecDeque::new(),
            tries: 0,
            put_off: 0,
            unreadable: 0,
            alias: BTreeMap::new(),
            freed: BTreeMap::new(),
            damaged: BTreeSet::new(),
            unread: keywords::Unread::default(),
            before: text::Before::default(),
            step: Step::List,
            held: None,
            request: 0,
            since: self.clock.mono,
            total: 0,
            mailboxes: 0,
            conflicts: 0,
            xattrs: xattrs::Progress::default(),
            made_again: false,
            did: None,
        });
        self.ask_peer(Ask::Changes, out);
    }

    fn ask_peer(&mut self, ask: Ask, out: &mut Vec<Output>) {
        if let Some(heal) = &mut self.heal {
            heal.ticket += 1;
            heal.answer.clear();
            let ticket = heal.ticket;
            out.push(Output::Peer(ToPeer::Ask { ticket, ask }));
        }
    }

    /// The peer answers, in parts.
    pub(crate) fn on_part(&mut self, ticket: u64, data: Result<Bytes, Errno>, last: bool, out: &mut Vec<Output>) {
        if self.resync.is_some() {
            return self.on_copy_part(ticket, data, last, out);
        }
        let Some(heal) = self.heal.as_mut().filter(|h| h.ticket == ticket) else {
            return;
        };
        match data {
            Ok(data) if heal.answer.len() + data.len() <= ANSWER_BYTES_MAX => heal.answer.extend_from_slice(&data),
            Ok(_) => return self.stop_merge("an answer is too long", out),
            Err(errno) => return self.on_unread(errno, true, out),
        }
        if last {
            let answer = Bytes::from(core::mem::take(&mut heal.answer));
            self.on_answer(answer, true, out);
        }
    }

    /// The own disk answers.
    pub(crate) fn on_own_look(&mut self, data: Result<Bytes, Errno>, out: &mut Vec<Output>) {
        if self.resync.is_some() {
            return self.on_own_digests(data, out);
        }
        match data {
            Ok(data) => self.on_answer(data, false, out),
            Err(errno) => self.on_unread(errno, false, out),
        }
    }

    fn on_answer(&mut self, data: Bytes, from_peer: bool, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        match &mut heal.step {
            Step::List => {
                let Ok(Changes { at, list }) = codec::decode::<Changes>(&data) else {
                    return self.stop_merge("the list of changes is malformed", out);
                };
                (heal.at, heal.total) = (at, list.len());
                heal.freed = decide::freed(&list);
                let base = self.fork.as_ref().map_or(&self.state, |fork| fork.base());
                heal.unread = keywords::Unread::of(&list, base);
                heal.before = text::Before::of(&heal.look(&self.state), &list);
                heal.todo = if Bug::OneSideWins.here() {
                    VecDeque::new()
                } else {
                    decide::in_order(list)
                };
                self.mark(State::MERGE, at, out);
            }
            Step::Indexes(i) => {
                if !from_peer {
                    i.ours = Some(data);
                } else if i.theirs.is_none() && !i.both.gone {
                    i.theirs = Some(data);
                } else {
                    i.base = Some(data);
                }
                self.gather_indexes(out);
            }
            Step::Texts(texts) => {
                texts.take(data, from_peer);
                self.gather_texts(out);
            }
            Step::Xattrs(target) => {
                let target = *target;
                self.on_xattrs_told(&data, target, from_peer, out);
            }
            Step::Bytes(gather) => {
                if !gather.take(data) {
                    return self.stop_merge("it is shorter than it was said to be", out);
                }
                self.gather_bytes(out);
            }
            Step::Leases(_) | Step::Hold { .. } | Step::Locked { .. } | Step::Record { .. } => {}
        }
    }

    /// Nothing is lost by this: both lines stay as they are.
    fn stop_merge(&mut self, why: &'static str, out: &mut Vec<Output>) {
        self.release(out);
        let Some(heal) = self.heal.take() else { return };
        let path = heal.todo.front().map_or_else(String::new, |c| self.path_of(c));
        Self::event(Event::MergeFailed { path, why }, out);
        self.arbiter.remove(SessionId::HEAL);
        self.looks.forget_bricks();
        self.merge_at = Some(self.clock.mono + limits::MERGE_RETRY);
    }

    /// What failed is tried again, as long as the peer waits for it; what is locked is put off.
    pub(crate) fn tick_heal(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        if let Some(heal) = &mut self.heal {
            let alone = heal.todo.len() == 1;
            match &mut heal.step {
                Step::Hold { until, .. } | Step::Locked { until, .. } if now < *until => return,
                Step::Hold { .. } | Step::Locked { .. } if !alone => {}
                Step::Locked { .. } => {
                    if let Step::Locked { ino, then, .. } = core::mem::replace(&mut heal.step, Step::List) {
                        self.hold(ino, then, out);
                    }
                    return;
                }
                _ => return,
            }
            heal.todo.rotate_left(1);
            heal.begin_front();
            self.arbiter.remove(SessionId::HEAL);
            return self.next_object(out);
        }
        if self.merge_at.is_some_and(|at| self.clock.mono >= at) {
            self.merge_at = None;
            self.begin_merge(out);
        }
    }

    /// The operator does not want to wait for the next try.
    pub(crate) fn heal_now(&mut self, full: bool, out: &mut Vec<Output>) -> Result<(), String> {
        self.merge_at = self.merge_at.map(|_| self.clock.mono);
        if full {
            return self.order_scrub(ScrubVerb::Start, out);
        }
        Ok(())
    }

    /// Whole, unless its directory was made on the other line.
    fn path_of(&self, change: &Change) -> String {
        let name = change
            .now
            .as_ref()
            .or(change.base.as_ref())
            .and_then(|n| n.names.first());
        name.map_or_else(String::new, |(dir, name)| {
            let dir = self.path_text(*dir).unwrap_or_default();
            format!("{dir}/{name}")
        })
    }

    /// How far it is.
    pub(crate) fn merging(&self, heal: &Heal) -> Healing {
        let at = heal.todo.front().map_or_else(String::new, |c| self.path_of(c));
        Healing {
            merges: true,
            elapsed: self.clock.mono - heal.since,
            done: (heal.total - heal.todo.len()) as u64,
            total: heal.total as u64,
            at,
            left: heal.todo.iter().take(NAMES_MAX).map(|c| self.path_of(c)).collect(),
        }
    }

    // ---- one object

    /// Z2.
    fn next_object(&mut self, out: &mut Vec<Output>) {
        loop {
            let Some(heal) = &mut self.heal else { return };
            let Some(change) = heal.todo.front() else {
                return self.end_merge(out);
            };
            let target = heal.alias.get(&change.ino).copied().unwrap_or(change.ino);
            let expect = self.state.inode(target).ok().map(|i| (target, i.version));
            heal.tries += 1;
            if heal.tries > TRIES_MAX {
                return self.stop_merge("it keeps changing", out);
            }
            let next = decide::next(&heal.look(&self.state), change);
            let next = self.unless_replaced(next);
            let next = self.unless_unread(next);
            let next = self.unless_damaged(next);
            let Some(heal) = &mut self.heal else { return };
            let Some(change) = heal.todo.front() else { return };
            match next {
                Next::Done => {
                    if !self.xattrs_done(out) {
                        return;
                    }
                    let Some(heal) = &mut self.heal else { return };
                    let done = heal.todo.pop_front();
                    heal.put_off = 0;
                    if heal.did != Some(Mended::Damaged) {
                        heal.unreadable = 0;
                    }
                    heal.begin_front();
                    done.iter().for_each(|done| heal.unread.forget(done.ino));
                    if let (Some(how), Some(change)) = (heal.did.take(), done) {
                        self.counters.merged += u64::from(how == Mended::Merged);
                        let path = self.path_of(&change);
                        Self::event(Event::Mended { path, how }, out);
                    }
                    self.release(out);
                }
                Next::Alias(ino) => {
                    heal.alias.insert(change.ino, ino);
                }
                Next::Later => {
                    heal.todo.rotate_left(1);
                    heal.put_off += 1;
                    heal.begin_front();
                    if heal.put_off == heal.todo.len() {
                        heal.todo = decide::in_order(core::mem::take(&mut heal.todo).into());
                    }
                    self.release(out);
                }
                Next::Conflict(op, ino) => {
                    heal.conflicts += u64::from(matches!(op, Op::Create { .. }));
                    let damaged = heal.did.filter(|did| *did == Mended::Damaged);
                    heal.did = damaged.or(Some(Mended::KeptTwice));
                    let version = decide::made(ino, change);
                    return self.request(Wish::making(op, ino, version, expect), out);
                }
                Next::Op(op, ino) => {
                    let version = decide::made(ino, change);
                    return self.request(Wish::making(op, ino, version, expect), out);
                }
                Next::Again(op, ino) => return self.make_again(op, ino, None, out),
                Next::Moved(op, ino) => return self.make_again(op, ino, Some(0), out),
                Next::Mark(version) => return self.mark_front(version, out),
                Next::Take(take) => return self.take(take, out),
                Next::Both(both) if let Some(rule) = heal.text_rule(change) => {
                    return self.begin_texts(both, rule, out);
                }
                Next::Both(both) => {
                    heal.step = Step::Indexes(Indexes {
                        ours: None,
                        theirs: both.gone.then(Bytes::new),
                        base: both.base.is_none().then(Bytes::new),
                        both,
                    });
                    let look = Look::Index {
                        ino: both.into,
                        base: None,
                    };
                    return self.look(Asker::Heal, look, out);
                }
            }
        }
    }

    fn end_merge(&mut self, out: &mut Vec<Output>) {
        self.release(out);
        let Some(heal) = self.heal.take() else { return };
        Self::event(
            Event::Merged {
                objects: heal.total as u64,
                mailboxes: heal.mailboxes,
                conflicts: heal.conflicts,
            },
            out,
        );
        out.push(Output::Peer(ToPeer::Merged));
    }

    // ---- records

    /// An inode that was removed here and is kept for the fork.
    fn make_again(&mut self, op: Op, ino: Ino, version: Option<u64>, out: &mut Vec<Output>) {
        let wish = Wish {
            also: Some(decide::emptied(ino, self.clock.real)),
            ..Wish::making(op, Some(ino), version, None)
        };
        if let Some(heal) = &mut self.heal {
            heal.made_again = true;
        }
        self.request(wish, out);
    }

    /// Waits for all mounts to be out of the way, like any change.
    fn request(&mut self, wish: Wish, out: &mut Vec<Output>) {
        if !matches!(wish.op, Op::Stage { .. }) {
            self.release(out);
        }
        let Some(heal) = &mut self.heal else { return };
        heal.request += 1;
        heal.put_off = 0;
        let request = Request {
            seq: heal.request,
            acked: heal.request,
            op: wish.op.clone(),
        };
        heal.step = Step::Leases(wish);
        self.arbiter
            .want(SessionId::HEAL, crate::arbiter::Want::Change(request));
        self.pump(out);
    }

    /// All are out of the way: the keys are busy until the record is executed.
    pub(crate) fn on_heal_ready(&mut self, request: Request, keys: BTreeSet<Key>, out: &mut Vec<Output>) {
        if self.quarantine.is_some() {
            return self.on_quarantine_ready(request.seq, keys, out);
        }
        let front = self.heal.as_ref().and_then(|h| h.todo.front()).map(|c| c.ino);
        let wanted = self.heal.as_mut().filter(|h| h.request == request.seq);
        let (Some(theirs), Some(heal)) = (front, wanted) else {
            return self.arbiter.executed(&keys);
        };
        let Step::Leases(wish) = core::mem::replace(&mut heal.step, Step::List) else {
            return self.arbiter.executed(&keys);
        };
        let is_not = |(ino, version)| version_of(&self.state, ino) != Some(version);
        if wish.expect.is_some_and(is_not) {
            self.arbiter.executed(&keys);
            return self.next_object(out); // somebody was faster
        }
        self.number_wish(theirs, wish, keys, out);
    }

    fn number_wish(&mut self, theirs: Ino, wish: Wish, keys: BTreeSet<Key>, out: &mut Vec<Output>) {
        let body = Body::Merge {
            theirs,
            version: wish.version,
            ops: [Some(wish.op), wish.also].into_iter().flatten().collect(),
        };
        let (ino, then) = (wish.ino, wish.then);
        let n = self.number_held(body, ino, keys, out);
        if let Some(heal) = &mut self.heal {
            heal.step = Step::Record { n, then };
        }
    }

    /// Z4, when nothing else has to be done.
    fn mark_front(&mut self, version: u64, out: &mut Vec<Output>) {
        if let Some(theirs) = self.heal.as_ref().and_then(|h| h.todo.front()).map(|c| c.ino) {
            self.mark(theirs, version, out);
        }
    }

    fn mark(&mut self, theirs: Ino, version: u64, out: &mut Vec<Output>) {
        let body = Body::Merge {
            theirs,
            version: Some(version),
            ops: Vec::new(),
        };
        let (n, _) = self.number_as(body, None, out);
        if let Some(heal) = &mut self.heal {
            heal.step = Step::Record { n, then: None };
        }
    }

    /// A record of a merge, or of a quarantine, was executed.
    pub(crate) fn on_heal_done(
        &mut self,
        n: u64,
        result: Result<Vec<Attr>, Errno>,
        changed: Option<Ino>,
        out: &mut Vec<Output>,
    ) {
        if let Some(ino) = changed.filter(|_| result.is_ok())
            && let Some(path) = self.state.path(ino)
        {
            self.tell_local(&mboxfs_types::call::ToMount::Changed { ino, path }, None, out);
        }
        if self.quarantine.is_some() {
            return self.on_quarantine_done(n, result.is_ok(), out);
        }
        let Some(heal) = self.heal.as_mut() else { return };
        let Step::Record { n: mine, then } = &mut heal.step else {
            return;
        };
        if *mine != n {
            return;
        }
        match then.take().filter(|_| result.is_ok()) {
            Some(gather) => {
                heal.step = Step::Bytes(gather);
                self.gather_bytes(out);
            }
            None => self.next_object(out), // Z2, also when it could not be done
        }
    }

    // ---- content

    /// Z3: asks for the lock of a file.
    fn hold(&mut self, ino: Ino, then: Then, out: &mut Vec<Output>) {
        self.release(out);
        let home = self.state.inode(ino).ok().and_then(|i| i.home.clone());
        let mut names: Vec<Group> = home.iter().map(|(dir, name)| Group::of(*dir, name)).collect();
        // What takes the place of it changes its directory.
        let (dir, texts) = match (&then, home) {
            (Then::Texts(texts), Some((dir, _))) => (Some(dir), Some(texts)),
            _ => (None, None),
        };
        names.extend(dir.and_then(|dir| texts?.locked_by(dir)));
        let until = self.clock.mono + limits::HOLD;
        if let Some(heal) = &mut self.heal {
            heal.step = Step::Hold { ino, until, then };
            self.arbiter
                .want(SessionId::HEAL, crate::arbiter::Want::Hold { ino, names, dir });
            self.pump(out);
        }
    }

    /// The file is free of leases, and of locks or not.
    pub(crate) fn on_hold(&mut self, keys: BTreeSet<Key>, locked: bool, out: &mut Vec<Output>) {
        if self.quarantine.is_some() {
            return self.on_quarantine_hold(keys, locked, out);
        }
        let until = self.clock.mono + limits::LOCK_WAIT;
        let Some(heal) = self.heal.as_mut().filter(|h| matches!(h.step, Step::Hold { .. })) else {
            return self.arbiter.executed(&keys);
        };
        let Step::Hold { ino, then, .. } = core::mem::replace(&mut heal.step, Step::List) else {
            return;
        };
        if locked {
            heal.step = Step::Locked { ino, until, then };
            return self.arbiter.executed(&keys);
        }
        heal.held = Some((ino, keys));
        match (then, version_of(&self.state, ino)) {
            (Then::Merge(indexes), Some(version)) if indexes.both.version == version => {
                heal.step = Step::Indexes(indexes);
                self.gather_indexes(out);
            }
            (Then::Merge(mut indexes), Some(version)) => {
                // It changed meanwhile: the part that is quickly read is read again.
                (indexes.both.version, indexes.ours) = (version, None);
                heal.step = Step::Indexes(indexes);
                self.look(Asker::Heal, Look::Index { ino, base: None }, out);
            }
            (Then::Texts(mut texts), Some(version)) => {
                texts.both.version = version;
                heal.step = Step::Texts(texts);
                self.gather_texts(out);
            }
            (Then::Take(take), Some(version)) if take.expect == version => {
                heal.step = Step::Bytes(Gather::new(take));
                self.gather_bytes(out);
            }
            _ => self.next_object(out),
        }
    }

    /// What was locked is free for all.
    pub(crate) fn release(&mut self, out: &mut Vec<Output>) {
        if let Some((_, keys)) = self.heal.as_mut().and_then(|h| h.held.take()) {
            self.arbiter.executed(&keys);
            self.pump(out);
        }
    }

    /// New content, under the lock.
    fn take(&mut self, take: gather::Take, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        heal.did = heal.did.or(Some(Mended::Taken));
        if heal.held.as_ref().is_some_and(|(ino, _)| *ino == take.into) {
            heal.step = Step::Bytes(Gather::new(take));
            return self.gather_bytes(out);
        }
        let into = take.into;
        self.hold(into, Then::Take(take), out);
    }

    fn gather_indexes(&mut self, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let Some(change) = heal.todo.front() else { return };
        let Step::Indexes(i) = &heal.step else { return };
        let (ino, both) = (change.ino, i.both);
        if i.theirs.is_none() {
            return self.ask_peer(Ask::Index { ino, of: Of::Now }, out);
        }
        if let (None, Some(of)) = (&i.base, both.base) {
            return self.ask_peer(Ask::Index { ino, of }, out);
        }
        if i.ours.is_some() && heal.held.as_ref().is_none_or(|(ino, _)| *ino != both.into) {
            let Step::Indexes(indexes) = core::mem::replace(&mut heal.step, Step::List) else {
                return;
            };
            return self.hold(both.into, Then::Merge(indexes), out);
        }
        let (Some(ours), Some(theirs), Some(base)) = (&i.ours, &i.theirs, &i.base) else {
            return;
        };
        let copies = mailbox::Copies {
            base: both.base.is_some().then_some(base),
            ours,
            theirs: (!both.gone).then_some(theirs),
            appended: self.fork.as_ref().map_or(0, |f| f.appended(both.into)),
            observed: self.readers.may_have_read(both.into),
        };
        match mailbox::merge(&copies, change, self.me, self.clock.real) {
            mailbox::Merged::Plan(plan) => {
                heal.mailboxes += 1;
                heal.did = Some(Mended::Merged);
                let take = decide::take_plan(&self.state, change, both, plan, self.clock.real);
                heal.step = Step::Bytes(Gather::new(take));
                self.gather_bytes(out);
            }
            mailbox::Merged::NoMailbox => self.conflict(both, out),
            mailbox::Merged::Malformed => self.stop_merge("an index is malformed", out),
        }
    }

    /// No mailbox, changed on both sides: the later one stays, the other one is kept in `.mboxfs-conflict`.
    fn conflict(&mut self, both: Both, out: &mut Vec<Output>) {
        let Some(change) = self.heal.as_ref().and_then(|h| h.todo.front()) else {
            return;
        };
        let next = decide::conflict(&self.state, change, both, self.me.other());
        match next {
            Next::Conflict(op, ino) => {
                if let Some(heal) = &mut self.heal {
                    heal.conflicts += u64::from(matches!(op, Op::Create { .. }));
                    heal.did = Some(Mended::KeptTwice);
                }
                self.request(Wish::plain(op, ino), out);
            }
            Next::Take(take) => self.take(take, out),
            Next::Op(op, ino) => self.request(Wish::making(op, ino, None, Some((both.into, both.version))), out),
            Next::Mark(version) => self.mark_front(version, out),
            _ => self.next_object(out),
        }
    }
}

/// None: it has no name here.
fn version_of(state: &State, ino: Ino) -> Option<u64> {
    let inode = state.inode(ino).ok().filter(|i| i.orphan.is_none());
    inode.map(|i| i.version)
}

const _: () = assert!(limits::EXTENT_BYTES_MAX <= ANSWER_BYTES_MAX);

#[cfg(test)]
mod tests;
