//! Leases: who may answer for a key, and who may change it.
//!
//! A1  W held by one session excludes every lease of any other on that key (I11). Leases give locality, never order.
//! A2  No grant while a conflicting lease is held: recalls go out, and the request waits for the answers (PROTOCOL 4.2.3).
//! A3  `seq` is raised by every grant; answers to an older one are void (PROTOCOL 4.2, bugs 4 and 5).
//! A4  A request holds nothing while it waits: all its keys are free at one moment, or it looks again later (no deadlock).
//! A5  While a change of a key is numbered and not executed the key is busy: nobody is granted anything on it (L3).
//! A6  The lock table here is right about every session that holds no lease: only the W holder changes its own locks.
//! A7  Who holds a lease and asks for it again gets no new grant: a new `seq` would void the answer to a recall that is on
//!     its way, and a node whose processes keep asking would never give the lease away.
//! A8  A claim meets another one's hold only where a mount comes from the other side of a partition: what it has locked under
//!     that, or under a lease that others hold here without anybody knowing of the lock, is lost, and it is told (L5, I14).
//!     So is what it has locked and claims no lease for: whether the file is the same one here, only a claim says (L6).
//!
//! One table, at the primary; the backup passes words on. Volatile: a new view starts empty and the mounts say what they
//! hold (`attach`). Not here: lock conflicts (the W holder decides, in `client`), sessions, the log.

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use mboxfs_types::{
    Dotlock, Errno, Group, HeldLock, Ino, Key, LockKind, Owner, Range, SessionId,
    call::{Answer, Intent, Lease, Mode, Recall, Reclaim, Request, Verdict},
};

/// A lease as the arbiter knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Hold {
    mode: Mode,
    seq: u64,
}

/// All about one key.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Entry {
    holders: BTreeMap<SessionId, Hold>,
    locks: Vec<HeldLock>,
    dot: Option<Dotlock>,
    /// Numbered changes that are not executed yet (A5).
    busy: u32,
}

impl Entry {
    fn is_void(&self) -> bool {
        self.holders.is_empty() && self.locks.is_empty() && self.dot.is_none() && self.busy == 0
    }

    /// What another one holds excludes this.
    fn excludes(&self, session: SessionId, mode: Mode) -> bool {
        let mut others = self.holders.iter().filter(|(holder, _)| **holder != session);
        others.any(|(_, hold)| hold.mode == Mode::W || mode == Mode::W)
    }

    /// Were there any?
    fn forget_locks_of(&mut self, session: SessionId) -> bool {
        let before = self.locks.len();
        self.locks.retain(|l| l.owner.session != session);
        let dot = self.dot.take_if(|dot| dot.session == session);
        self.locks.len() < before || dot.is_some()
    }
}

/// What waits for keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// A mount wants a lease.
    Lease {
        /// Its number for it.
        req: u64,
        /// What it asked for; a name brings its inode along.
        key: Key,
        /// In which mode.
        mode: Mode,
        /// What for.
        intent: Intent,
    },
    /// A change wants everybody else out of the way.
    Change(Request),
    /// The merge wants a file for itself: nobody has a lock on it, nor a dotlock of one of these names.
    Hold {
        /// The file
        ino: Ino,
        /// and its name, with others under whose dotlock it is changed.
        names: Vec<Group>,
        /// Its directory, if that changes, too.
        dir: Option<Ino>,
    },
}

/// As a mount sees the merge when it holds a lock: another one that waits for it.
const HOLD: Intent = Intent::Lock {
    owner: Owner {
        session: SessionId::HEAL,
        id: 0,
    },
    range: Range::ALL,
    kind: LockKind::Exclusive,
    wait: true,
};

#[derive(Clone, PartialEq, Eq, Debug)]
struct Waiter {
    session: SessionId,
    want: Want,
    /// Recalls sent for it: key, holder and grant.
    asked: BTreeSet<(Key, SessionId, u64)>,
    /// Answers "once" from holders that keep their lease.
    once: BTreeMap<Key, (Option<Errno>, Option<Dotlock>)>,
}

/// What became possible.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Ready {
    /// Tell the mount.
    Lease {
        session: SessionId,
        req: u64,
        key: Key,
        /// Granted leases: a subset of the keys.
        leases: Vec<Lease>,
        /// Inode that came along.
        inode: Option<Ino>,
        /// As the group stands.
        dot: Option<Dotlock>,
        /// As the inode stands.
        locks: Vec<HeldLock>,
        /// EAGAIN or EEXIST from a holder.
        error: Option<Errno>,
    },
    /// Tell the mount that it holds the lease already (A7): the grant, or the end of the lease, is on its way.
    Held { session: SessionId, req: u64 },
    /// Number it. The keys are busy until `executed`.
    Change {
        session: SessionId,
        request: Request,
        keys: BTreeSet<Key>,
    },
    /// The merge has the file: the keys are busy until `executed`. `locked`: somebody has a lock on it all the same.
    Hold { keys: BTreeSet<Key>, locked: bool },
    /// Ask a holder.
    Recall { session: SessionId, recall: Recall },
}

/// The table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Arbiter {
    keys: BTreeMap<Key, Entry>,
    waiters: BTreeMap<u64, Waiter>,
    next_waiter: u64,
    next_seq: u64,
}

/// What the arbiter must know of the state: which inode a group names, which keys a change touches.
pub(crate) trait Names {
    fn named(&self, group: &Group) -> Option<Ino>;
    fn is_dir(&self, ino: Ino) -> bool;
    fn keys(&self, request: &Request) -> BTreeSet<Key>;
}

impl Arbiter {
    /// A mount or a change wants something; `pump` says what came of it.
    pub(crate) fn want(&mut self, session: SessionId, want: Want) {
        self.next_waiter += 1;
        let waiter = Waiter {
            session,
            want,
            asked: BTreeSet::new(),
            once: BTreeMap::new(),
        };
        self.waiters.insert(self.next_waiter, waiter);
    }

    /// Is this change already waiting? A mount that re-attached asks again.
    pub(crate) fn has_change(&self, session: SessionId, seq: u64) -> bool {
        self.waiters
            .values()
            .any(|w| w.session == session && matches!(&w.want, Want::Change(r) if r.seq == seq))
    }

    /// The mount no longer waits for that lease.
    pub(crate) fn cancel(&mut self, session: SessionId, req: u64) {
        self.waiters
            .retain(|_, w| w.session != session || !matches!(w.want, Want::Lease { req: r, .. } if r == req));
    }

    /// Does `session` hold W on this inode? Anyone else's commit is refused (L5).
    pub(crate) fn may_write(&self, session: SessionId, ino: Ino) -> bool {
        self.holds(session, &Key::Inode(ino), Mode::W)
    }

    fn holds(&self, session: SessionId, key: &Key, mode: Mode) -> bool {
        let hold = self.keys.get(key).and_then(|e| e.holders.get(&session));
        hold.is_some_and(|h| h.mode >= mode)
    }

    /// A holder's answer to a recall. The recall's id is the number of the waiter it was sent for.
    pub(crate) fn answer(&mut self, session: SessionId, answer: Answer) {
        let Some(entry) = self.keys.get_mut(&answer.key) else {
            return;
        };
        let Some(hold) = entry.holders.get_mut(&session) else {
            return;
        };
        if hold.seq != answer.seq {
            return; // A3
        }
        match answer.verdict {
            Verdict::Give { keep, locks, dot } => {
                if hold.mode == Mode::W {
                    // The holder's word counts for its own locks only (A6).
                    entry.locks.retain(|l| l.owner.session != session);
                    entry
                        .locks
                        .extend(locks.into_iter().filter(|l| l.owner.session == session));
                    // Another one's it can only have removed: if that is gone here its session has ended meanwhile (L7).
                    entry.dot = dot.filter(|dot| dot.session == session || entry.dot.as_ref() == Some(dot));
                }
                match keep {
                    Some(Mode::R) => hold.mode = Mode::R,
                    Some(Mode::W) => {}
                    None => {
                        entry.holders.remove(&session);
                    }
                }
                self.forget_void(&answer.key);
            }
            Verdict::Once { error, dot } => {
                if let Some(waiter) = self.waiters.get_mut(&answer.id) {
                    waiter.once.insert(answer.key, (error, dot));
                }
            }
        }
    }

    /// These grants are not told to anybody: the request has an error for an answer.
    pub(crate) fn ungrant(&mut self, session: SessionId, leases: &[Lease]) {
        for lease in leases {
            if let Some(entry) = self.keys.get_mut(&lease.key) {
                entry.holders.remove(&session);
            }
            self.forget_void(&lease.key);
        }
    }

    /// A5: a numbered change is about to make this key.
    pub(crate) fn coming(&mut self, key: Key) {
        self.keys.entry(key).or_default().busy += 1;
    }

    fn forget_void(&mut self, key: &Key) {
        if self.keys.get(key).is_some_and(Entry::is_void) {
            self.keys.remove(key);
        }
    }

    /// A numbered change was executed or given up: its keys are free again.
    pub(crate) fn executed(&mut self, keys: &BTreeSet<Key>) {
        for key in keys {
            if let Some(entry) = self.keys.get_mut(key) {
                entry.busy -= 1;
            }
            self.forget_void(key);
        }
    }

    /// The session is no more: its leases, locks, dotlocks and wishes go (L7).
    pub(crate) fn remove(&mut self, session: SessionId) {
        self.waiters.retain(|_, w| w.session != session);
        let keys: Vec<Key> = self.keys.keys().cloned().collect();
        for key in keys {
            if let Some(entry) = self.keys.get_mut(&key) {
                entry.holders.remove(&session);
                entry.forget_locks_of(session);
            }
            self.forget_void(&key);
        }
    }

    /// The session lost its stream and came back: what it asked for it asks again, what it was asked it is asked again.
    pub(crate) fn reattached(&mut self, session: SessionId) {
        self.waiters
            .retain(|_, w| w.session != session || matches!(w.want, Want::Change(_)));
        for waiter in self.waiters.values_mut() {
            waiter.asked.retain(|(_, holder, _)| *holder != session);
        }
    }

    /// At the start of a view, or after a re-attachment: the session says what it holds. Returns the leases that stand.
    /// A lease is refused if another session's claim or hold conflicts with it; never two of them stand (A1). Also returned:
    /// the keys of the locks that are lost (A8). `open`: all others have said what they hold. `crossed`: it comes from another
    /// line of history.
    pub(crate) fn reclaim(
        &mut self,
        session: SessionId,
        reclaim: &Reclaim,
        open: bool,
        crossed: bool,
    ) -> (Vec<Lease>, Vec<Key>) {
        let claimed: BTreeMap<&Key, Mode> = reclaim.leases.iter().map(|(k, m)| (k, *m)).collect();
        let held: Vec<Key> = self
            .keys
            .iter()
            .filter(|(_, e)| e.holders.contains_key(&session))
            .map(|(k, _)| k.clone())
            .collect();
        for key in held {
            // What it held in mode W it may have changed since this table was handed to it: only its own word counts now.
            let entry = self.keys.get_mut(&key).expect("listed above");
            entry.forget_locks_of(session);
            if !claimed.contains_key(&key) {
                entry.holders.remove(&session);
            }
            self.forget_void(&key);
        }
        let mut lost = Vec::new();
        for (ino, lock) in reclaim.locks.iter().filter(|(_, l)| l.owner.session == session) {
            let entry = self.keys.entry(Key::Inode(*ino)).or_default();
            if entry.locks.contains(lock) {
                continue;
            }
            let mut others = entry.locks.iter().filter(|l| l.owner.session != session);
            let taken = others.any(|l| l.conflicts(lock.owner, lock.range, lock.kind));
            if taken || open && entry.excludes(session, Mode::R) {
                lost.push(Key::Inode(*ino));
            } else {
                entry.locks.push(*lock);
            }
        }
        for (group, dot) in reclaim.dots.iter().filter(|(_, d)| d.session == session) {
            let key = Key::Name(group.clone());
            let entry = self.keys.entry(key.clone()).or_default();
            match &entry.dot {
                Some(other) if other.session != session => lost.push(key),
                None if open && entry.excludes(session, Mode::R) => lost.push(key),
                _ => entry.dot = Some(dot.clone()),
            }
        }
        let mut stand = Vec::new();
        for (key, mode) in claimed {
            let entry = self.keys.entry(key.clone()).or_default();
            let taken = entry.excludes(session, mode);
            if taken && entry.forget_locks_of(session) {
                lost.push(key.clone());
            }
            if taken || entry.busy > 0 {
                entry.holders.remove(&session);
            } else {
                self.next_seq += 1;
                entry.holders.insert(
                    session,
                    Hold {
                        mode,
                        seq: self.next_seq,
                    },
                );
                stand.push(Lease {
                    key: key.clone(),
                    mode,
                    seq: self.next_seq,
                });
            }
            self.forget_void(key);
        }
        if crossed {
            let locks = reclaim.locks.iter().map(|(ino, _)| Key::Inode(*ino));
            let locked = locks.chain(reclaim.dots.iter().map(|(group, _)| Key::Name(group.clone())));
            for key in locked.filter(|key| stand.iter().all(|lease| lease.key != *key)) {
                if self.keys.get_mut(&key).is_some_and(|e| e.forget_locks_of(session)) {
                    self.forget_void(&key);
                    lost.push(key);
                }
            }
        }
        (stand, lost)
    }

    /// Lock tables and dotlocks of the keys that `session` holds.
    pub(crate) fn tables(&self, session: SessionId) -> (Vec<(Ino, HeldLock)>, Vec<(Group, Dotlock)>) {
        let mut locks = Vec::new();
        let mut dots = Vec::new();
        for (key, entry) in self.keys.iter().filter(|(_, e)| e.holders.contains_key(&session)) {
            match key {
                Key::Inode(ino) => locks.extend(entry.locks.iter().map(|l| (*ino, *l))),
                Key::Name(group) => dots.extend(entry.dot.iter().map(|d| (group.clone(), d.clone()))),
            }
        }
        (locks, dots)
    }

    /// Looks at every waiter, oldest first, and says what can be done now.
    pub(crate) fn pump(&mut self, names: &impl Names) -> Vec<Ready> {
        let mut ready = Vec::new();
        let ids: Vec<u64> = self.waiters.keys().copied().collect();
        for id in ids {
            let waiter = self.waiters.remove(&id).expect("listed above");
            if let Some(waiter) = self.try_waiter(id, waiter, names, &mut ready) {
                self.waiters.insert(id, waiter);
            }
        }
        ready
    }

    /// Gives the waiter back if it has to go on waiting.
    fn try_waiter(
        &mut self,
        id: u64,
        mut waiter: Waiter,
        names: &impl Names,
        ready: &mut Vec<Ready>,
    ) -> Option<Waiter> {
        if let Want::Lease { req, key, mode, .. } = &waiter.want
            && self.holds(waiter.session, key, *mode)
        {
            let (session, req) = (waiter.session, *req);
            ready.push(Ready::Held { session, req }); // A7
            return None;
        }
        let (keys, mode, intent): (BTreeSet<Key>, Mode, Intent) = match &waiter.want {
            Want::Change(request) => (names.keys(request), Mode::W, Intent::Op),
            Want::Hold { ino, names, dir } => {
                let names = names.iter().map(|group| Key::Name(group.clone()));
                let inodes = dir.iter().chain([ino]).map(|ino| Key::Inode(*ino));
                (names.chain(inodes).collect(), Mode::W, HOLD)
            }
            Want::Lease { key, mode, intent, .. } => {
                let mut keys = BTreeSet::from([key.clone()]);
                if let Key::Name(group) = key
                    && let Some(ino) = names.named(group)
                {
                    keys.insert(Key::Inode(ino));
                }
                (keys, *mode, *intent)
            }
        };
        let mut blocked = false;
        let mut keys = keys;
        if matches!(intent, Intent::Excl) {
            // Making a dotlock needs the name only; the inode comes along if it is free, and is not waited for.
            keys.retain(|k| matches!(k, Key::Name(_)) || self.is_free(k, waiter.session));
        }
        for key in &keys {
            let Some(entry) = self.keys.get(key) else { continue };
            blocked |= entry.busy > 0;
            if waiter.once.contains_key(key) {
                continue;
            }
            for (holder, hold) in &entry.holders {
                if *holder == waiter.session || (hold.mode == Mode::R && mode == Mode::R) {
                    continue;
                }
                blocked = true;
                if waiter.asked.insert((key.clone(), *holder, hold.seq)) {
                    // Who has a dotlock keeps it, and says so.
                    let dotlock = matches!((&waiter.want, key), (Want::Hold { .. }, Key::Name(_)));
                    let recall = Recall {
                        id,
                        key: key.clone(),
                        seq: hold.seq,
                        intent: if dotlock { Intent::Excl } else { intent },
                    };
                    ready.push(Ready::Recall {
                        session: *holder,
                        recall,
                    });
                }
            }
        }
        if blocked {
            return Some(waiter);
        }
        ready.push(self.fulfil(waiter, keys, names));
        None
    }

    fn is_free(&self, key: &Key, session: SessionId) -> bool {
        self.keys
            .get(key)
            .is_none_or(|e| e.busy == 0 && e.holders.keys().all(|s| *s == session))
    }

    /// A reader that finds itself alone gets the whole lease: it will want to write next, as mail programs do. Not for
    /// directories, which both nodes look at all the time.
    fn mode_for(entry: &Entry, session: SessionId, asked: Mode, is_dir: bool) -> Mode {
        let held = entry.holders.get(&session).map(|h| h.mode);
        let alone = entry.holders.keys().all(|s| *s == session)
            && entry.locks.iter().all(|l| l.owner.session == session)
            && entry.dot.as_ref().is_none_or(|d| d.session == session);
        let best = if alone && !is_dir { Mode::W } else { asked };
        held.map_or(best, |h| h.max(best))
    }

    fn fulfil(&mut self, waiter: Waiter, keys: BTreeSet<Key>, names: &impl Names) -> Ready {
        let session = waiter.session;
        match waiter.want {
            Want::Change(request) => {
                for key in &keys {
                    self.keys.entry(key.clone()).or_default().busy += 1;
                }
                Ready::Change { session, request, keys }
            }
            Want::Hold { .. } => {
                let mut locked = false;
                let mut held = BTreeSet::new();
                for key in keys {
                    if waiter.once.contains_key(&key) {
                        locked = true;
                        continue;
                    }
                    let entry = self.keys.entry(key.clone()).or_default();
                    locked |= entry.dot.is_some() || !entry.locks.is_empty();
                    entry.busy += 1;
                    held.insert(key);
                }
                Ready::Hold { keys: held, locked }
            }
            Want::Lease { req, key, mode, .. } => {
                let mut error = None;
                let mut leases = Vec::new();
                let mut dot = None;
                let mut locks = Vec::new();
                let mut inode = None;
                for k in keys {
                    let entry = self.keys.entry(k.clone()).or_default();
                    if let Key::Inode(ino) = k {
                        inode = Some(ino);
                        locks.clone_from(&entry.locks);
                    } else {
                        dot.clone_from(&entry.dot);
                    }
                    if let Some((e, d)) = waiter.once.get(&k) {
                        error = error.or(*e);
                        if matches!(k, Key::Name(_)) {
                            dot.clone_from(d);
                        }
                        self.forget_void(&k); // the holder may have given it up since
                        continue;
                    }
                    let held = entry.holders.get(&session).map(|h| h.mode);
                    let mode = Self::mode_for(entry, session, mode, inode.is_some_and(|i| names.is_dir(i)));
                    if held >= Some(mode) {
                        continue; // A7: an inode that would have come along with its name
                    }
                    self.next_seq += 1;
                    entry.holders.insert(
                        session,
                        Hold {
                            mode,
                            seq: self.next_seq,
                        },
                    );
                    leases.push(Lease {
                        key: k,
                        mode,
                        seq: self.next_seq,
                    });
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
                }
            }
        }
    }

    /// A1.
    pub(crate) fn check(&self) {
        for (key, entry) in &self.keys {
            let writers = entry.holders.values().filter(|h| h.mode == Mode::W).count();
            assert!(
                writers == 0 || entry.holders.len() == 1,
                "A1: {key:?} {:?}",
                entry.holders
            );
            assert!(!entry.is_void(), "void entry kept for {key:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const FILE: Key = Key::Inode(Ino(7));

    struct NoNames;

    impl Names for NoNames {
        fn named(&self, _: &Group) -> Option<Ino> {
            None
        }
        fn is_dir(&self, _: Ino) -> bool {
            false
        }
        fn keys(&self, _: &Request) -> BTreeSet<Key> {
            BTreeSet::new()
        }
    }

    fn session(nonce: u64) -> SessionId {
        SessionId {
            client: [nonce as u8; 16],
            nonce,
        }
    }

    fn wish(req: u64, of: u64) -> Want {
        let owner = Owner {
            session: session(of),
            id: req,
        };
        Want::Lease {
            req,
            key: FILE,
            mode: Mode::W,
            intent: Intent::Lock {
                owner,
                range: Range::ALL,
                kind: LockKind::Exclusive,
                wait: true,
            },
        }
    }

    /// The grants in `ready`: whose, and with which number.
    fn grants(ready: &[Ready]) -> Vec<(SessionId, u64)> {
        let leases = ready.iter().filter_map(|r| match r {
            Ready::Lease { session, leases, .. } => Some(leases.iter().map(|l| (*session, l.seq))),
            _ => None,
        });
        leases.flatten().collect()
    }

    /// A7: four processes of one node that kept asking for a lock kept the other node from ever getting the lease.
    #[test]
    fn a_node_that_keeps_asking_gives_the_lease_away_all_the_same() {
        let mut arbiter = Arbiter::default();
        let (busy, other) = (session(1), session(2));
        arbiter.want(busy, wish(1, 1));
        let ready = arbiter.pump(&NoNames);
        let [(_, seq)] = grants(&ready)[..] else {
            panic!("not granted: {ready:?}")
        };
        arbiter.want(other, wish(1, 2));
        let ready = arbiter.pump(&NoNames);
        assert!(matches!(&ready[..], [Ready::Recall { session, recall }] if *session == busy && recall.seq == seq));
        // These were sent before the recall was heard.
        for req in 2..6 {
            arbiter.want(busy, wish(req, 1));
            let ready = arbiter.pump(&NoNames);
            assert_eq!(ready, [Ready::Held { session: busy, req }]);
        }
        let give = Answer {
            id: 2,
            key: FILE,
            seq,
            verdict: Verdict::Give {
                keep: None,
                locks: Vec::new(),
                dot: None,
            },
        };
        arbiter.answer(busy, give);
        let ready = arbiter.pump(&NoNames);
        assert_eq!(grants(&ready).iter().map(|g| g.0).collect::<Vec<_>>(), [other]);
    }

    /// A5: the backup executes a create, and its mount moves to the primary, before the primary has executed it. The mount was
    /// refused a lease on what it had just made; the refused lease counted as held, and was asked for without end.
    #[test]
    fn an_inode_that_is_about_to_be_is_waited_for() {
        let mut arbiter = Arbiter::default();
        arbiter.coming(FILE);
        arbiter.want(session(1), wish(1, 1));
        assert_eq!(arbiter.pump(&NoNames), []);
        arbiter.executed(&BTreeSet::from([FILE]));
        assert_eq!(grants(&arbiter.pump(&NoNames)).len(), 1);
    }

    /// L5: a merge that took a mailbox from under a lock tore what the lock's holder wrote next.
    #[test]
    fn a_merge_waits_for_locks_of_every_kind() {
        let group = Group::of(Ino::ROOT, &mboxfs_types::Name::new(b"alice").unwrap());
        let hold = || Want::Hold {
            ino: Ino(7),
            names: vec![group.clone()],
            dir: None,
        };
        let name = Key::Name(group.clone());
        let mut arbiter = Arbiter::default();
        arbiter.want(session(1), wish(1, 1));
        let [(_, seq)] = grants(&arbiter.pump(&NoNames))[..] else {
            panic!("not granted")
        };
        arbiter.want(
            session(1),
            Want::Lease {
                req: 2,
                key: name.clone(),
                mode: Mode::W,
                intent: Intent::Excl,
            },
        );
        let [(_, dot_seq)] = grants(&arbiter.pump(&NoNames))[..] else {
            panic!("not granted")
        };
        arbiter.want(SessionId::HEAL, hold());
        let asked: Vec<Intent> = arbiter
            .pump(&NoNames)
            .into_iter()
            .filter_map(|r| {
                if let Ready::Recall { recall, .. } = r {
                    Some(recall.intent)
                } else {
                    None
                }
            })
            .collect();
        assert!(
            asked.len() == 2 && asked.contains(&Intent::Excl) && asked.contains(&HOLD),
            "{asked:?}"
        );
        // The holder keeps its dotlock and gives the file away, whose lock another mount had before.
        let keeps = Verdict::Once { error: None, dot: None };
        arbiter.answer(
            session(1),
            Answer {
                id: 3,
                key: name,
                seq: dot_seq,
                verdict: keeps,
            },
        );
        assert_eq!(arbiter.pump(&NoNames), []);
        let gives = Verdict::Give {
            keep: None,
            locks: vec![],
            dot: None,
        };
        arbiter.answer(
            session(1),
            Answer {
                id: 3,
                key: FILE,
                seq,
                verdict: gives,
            },
        );
        let [Ready::Hold { keys, locked: true }] = &arbiter.pump(&NoNames)[..] else {
            panic!("it has a dotlock")
        };
        arbiter.executed(keys);
        // Without any lock it is the merge's alone.
        arbiter.remove(session(1));
        arbiter.want(SessionId::HEAL, hold());
        let [Ready::Hold { keys, locked: false }] = &arbiter.pump(&NoNames)[..] else {
            panic!("it is free")
        };
        arbiter.want(session(2), wish(1, 2));
        assert_eq!(arbiter.pump(&NoNames), [], "nobody gets at it");
        arbiter.executed(keys);
        assert_eq!(grants(&arbiter.pump(&NoNames)).len(), 1);
        arbiter.check();
    }

    #[test]
    fn a_lease_that_nobody_was_told_of_is_not_held() {
        let mut arbiter = Arbiter::default();
        arbiter.want(session(1), wish(1, 1));
        let ready = arbiter.pump(&NoNames);
        let [Ready::Lease { leases, .. }] = &ready[..] else {
            panic!("not granted: {ready:?}")
        };
        arbiter.ungrant(session(1), leases);
        arbiter.check();
        arbiter.want(session(1), wish(2, 1));
        assert_eq!(grants(&arbiter.pump(&NoNames)).len(), 1, "granted anew");
    }
}
