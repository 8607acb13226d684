//! Calls of the kernel under way: begun, waiting, attempted again, answered.
//!
//! H1  A call holds nothing while it waits: whatever woke it, it looks at everything anew from its start (PROTOCOL 4.2.5).
//! H2  What was sent is not sent again by a second attempt: the answer that came is kept with the call.
//! H3  No call takes longer than `OP_TIMEOUT`, whatever the brick does or leaves undone (L13), but a wait for a lock. A change
//!     without a reply may still be made, and a lock that could not be freed would stay: its session ends with it, so that no
//!     lock or handle lives on in doubt (PROTOCOL 7.2).
//!
//! Not here: what each call does (`file_calls`, `name_calls`, `lock_calls`, `dot_calls`).

use crate::{
    client::Client,
    input::{Call, CallId, Caller},
    output::{Answer, Event, Listed, Output},
};
use alloc::{collections::BTreeMap, vec::Vec};
use mboxfs_types::{
    Attr, Errno, Group, HeldLock, Ino, LockKind, Nanos, Owner, Range,
    call::{Found, Grant},
    limits,
};

/// A longer time between two ticks was not spent waiting.
const AWAKE_MAX: Nanos = Nanos::from_millis(1000);

/// What a call waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Wait {
    /// Nothing: it is about to be attempted.
    Nothing,
    Lease(u64),
    Request(u64),
    Query(u64),
    /// A lock on this inode to go, until then.
    Lock(Ino, Option<Nanos>),
    /// A dotlock of this mount to go, until then.
    Dot(Group, Nanos),
    /// The commit of this inode.
    Commit(Ino),
    /// The right to serve from leases.
    Service,
    /// Threads to have looked at older answers about this inode, until then at most (`told` T6).
    Settled(Ino, Nanos),
}

/// A call that has no answer yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Pending {
    pub(crate) caller: Caller,
    pub(crate) call: Call,
    pub(crate) since: Nanos,
    /// How long this mount was awake meanwhile; 0 as long as it waits for a lock.
    pub(crate) waited: Nanos,
    pub(crate) wait: Wait,
    /// Answers that came for it (H2).
    pub(crate) reply: Option<Result<Vec<Attr>, Errno>>,
    pub(crate) found: Option<Result<Found, Errno>>,
    pub(crate) once: Option<Grant>,
    pub(crate) failed: Option<Errno>,
    pub(crate) committed: Option<Result<(), Errno>>,
    pub(crate) listing: Vec<Listed>,
    pub(crate) step: u8,
    /// Block of the file that was asked for.
    pub(crate) block: u64,
    /// `Cache::drops` when the block was asked for.
    pub(crate) drops: u64,
    /// What the call will answer when it is through.
    pub(crate) failure: Option<Errno>,
}

impl Pending {
    pub(crate) const fn new(caller: Caller, call: Call, since: Nanos) -> Self {
        Self {
            caller,
            call,
            since,
            waited: Nanos(0),
            wait: Wait::Nothing,
            reply: None,
            found: None,
            once: None,
            failed: None,
            committed: None,
            listing: Vec::new(),
            step: 0,
            block: 0,
            drops: 0,
            failure: None,
        }
    }
}

impl Pending {
    /// F_SETLKW, or flock without LOCK_NB, while another one may hold the lock: that may take for ever.
    const fn waits_for_lock(&self) -> bool {
        matches!(self.call, Call::SetLock { wait: true, .. }) && matches!(self.wait, Wait::Lock(..) | Wait::Lease(_))
    }
}

/// The answer, if there is one now.
pub(crate) type Done = Option<Result<Answer, Errno>>;

impl Client {
    pub(crate) fn attempt(&mut self, id: CallId, out: &mut Vec<Output>) {
        let Some(mut pending) = self.calls.remove(&id) else {
            return;
        };
        pending.wait = Wait::Nothing;
        let done = match pending.failed.take() {
            Some(Errno::EAGAIN) => Some(self.refused(&pending)),
            Some(errno) if self.is_all_there_is(&pending.call, errno) => self.run(id, &mut pending, out),
            Some(Errno::ESTALE) if self.unlocks_what_is_gone(&pending) => self.run(id, &mut pending, out),
            Some(errno) => Some(Err(errno)),
            None => self.run(id, &mut pending, out),
        };
        match done {
            Some(result) => out.push(Output::Done { id, result }),
            None => {
                debug_assert!(
                    pending.wait != Wait::Nothing,
                    "N2: a call without an answer waits for something"
                );
                self.calls.insert(id, pending);
            }
        }
    }

    /// An unlock, or a close, of a file that is no more where this mount is now: made on both sides of a partition, it goes
    /// on as another one. There is nothing to be unlocked, and what was acknowledged is in that one (R2 of MAIL.md). True: it
    /// was that.
    fn unlocks_what_is_gone(&mut self, p: &Pending) -> bool {
        let (ino, owner, range) = match p.call {
            Call::Flush { ino, owner, .. } => (ino, owner, Range::ALL),
            Call::SetLock {
                ino,
                owner,
                range,
                kind: None,
                ..
            } => (ino, owner, range),
            _ => return false,
        };
        let owner = Owner {
            session: self.session,
            id: owner,
        };
        self.disown_lock(ino, owner, range)
    }

    /// Another mount holds a lock in the way. To `F_GETLK` that is an answer; whose it is its mount alone knows.
    fn refused(&self, p: &Pending) -> Result<Answer, Errno> {
        let Call::GetLock { range, .. } = p.call else {
            return Err(Errno::EAGAIN);
        };
        let owner = Owner {
            session: self.session,
            id: 0,
        };
        Ok(Answer::Lock(Some(HeldLock {
            owner,
            range,
            kind: LockKind::Exclusive,
            pid: 0,
        })))
    }

    fn run(&mut self, id: CallId, p: &mut Pending, out: &mut Vec<Output>) -> Done {
        match p.call.clone() {
            Call::Lookup { dir, name } => self.lookup(id, p, dir, &name, out),
            Call::LookupParent { ino } => self.lookup_parent(id, p, ino, out),
            Call::Forget { .. } => Some(Ok(Answer::Empty)),
            Call::GetAttr { ino } => self.get_attr(id, p, ino, out),
            Call::SetAttr {
                ino,
                fh,
                set,
                size,
                own,
            } => self.set_attr(id, p, ino, fh, set, size, own, out),
            Call::ReadLink { ino } => self.read_link(id, p, ino, out),
            Call::Mkdir { .. } | Call::Symlink { .. } | Call::Rmdir { .. } => self.change_names(id, p, out),
            Call::Link { ino, dir, name } => self.link_name(id, p, ino, dir, &name, out),
            Call::Unlink { dir, name } => self.unlink(id, p, dir, &name, out),
            Call::Rename {
                dir,
                name,
                to_dir,
                to_name,
                noreplace,
            } => self.rename(id, p, (dir, &name), (to_dir, &to_name), noreplace, out),
            Call::Open { ino, flags } => self.open(id, p, ino, flags, out),
            Call::Create {
                dir,
                name,
                mode,
                flags,
                excl,
            } => self.create(id, p, dir, &name, mode, flags, excl, out),
            Call::Mknod { dir, name, mode } => self.mknod(id, p, dir, &name, mode, out),
            Call::Read { ino, fh, offset, len } => self.read(id, p, ino, fh, offset, len, out),
            Call::Write { ino, fh, offset, data } => self.write(id, p, ino, fh, offset, &data, out),
            Call::Flush { ino, fh, owner } => self.flush(id, p, ino, fh, owner, out),
            Call::Release { ino, fh, flock } => self.release(id, p, ino, fh, flock, out),
            Call::Fsync { ino, fh } => self.fsync(id, p, ino, fh, out),
            Call::OpenDir { ino } => self.open_dir(id, ino),
            Call::ReadDir { ino, fh, offset } => self.read_dir(id, p, ino, fh, offset, out),
            Call::ReleaseDir { fh } => {
                self.close_handle(fh);
                Some(Ok(Answer::Empty))
            }
            Call::StatFs | Call::GetXattr { .. } | Call::ListXattr { .. } => self.simple_query(id, p, out),
            Call::SetXattr { .. } | Call::RemoveXattr { .. } => self.change_xattr(id, p, out),
            Call::GetLock {
                ino,
                owner,
                range,
                kind,
            } => self.get_lock(id, p, ino, owner, range, kind, out),
            Call::SetLock {
                ino,
                owner,
                range,
                kind,
                wait,
            } => self.set_lock(id, p, ino, owner, range, kind, wait, out),
        }
    }

    /// Attempts all calls that wait for something of this kind again.
    pub(crate) fn wake(&mut self, what: impl Fn(&Wait) -> bool) {
        let ids: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, p)| what(&p.wait))
            .map(|(id, _)| *id)
            .collect();
        self.ready.extend(ids);
    }

    /// Calls that wait for a lock, with the process that waits: signals have to be looked for on their behalf.
    #[must_use]
    pub fn waiting(&self) -> Vec<(CallId, u32)> {
        let waits = self
            .calls
            .iter()
            .filter(|(_, p)| matches!(p.call, Call::SetLock { wait: true, .. }));
        waits.map(|(id, p)| (*id, p.caller.pid)).collect()
    }

    /// A signal is pending for the process: if it still waits for a lock it gets EINTR (R5).
    pub(crate) fn interrupt(&mut self, id: CallId, out: &mut Vec<Output>) {
        let Some(p) = self.calls.get(&id) else { return };
        if !matches!(p.call, Call::SetLock { wait: true, .. }) {
            return;
        }
        match p.wait {
            Wait::Lock(..) => {}
            Wait::Lease(req) => self.cancel_wish(req, out),
            // A commit or an unlock under way is waited for: it is bounded.
            _ => return,
        }
        self.calls.remove(&id);
        out.push(Output::Done {
            id,
            result: Err(Errno::EINTR),
        });
    }

    pub(crate) fn tick_calls(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        self.wake(|w| matches!(w, Wait::Dot(_, until) | Wait::Lock(_, Some(until)) | Wait::Settled(_, until) if *until <= now));
        let lost = self
            .link
            .lost_since
            .is_some_and(|since| now >= since + limits::OP_TIMEOUT);
        if lost && !self.calls.is_empty() {
            // Nobody can have the session any more: what it held is gone, and so is what these calls asked for.
            self.abandon(out);
            self.link.lost_since = Some(now);
        }
        self.give_up_overdue(out);
    }

    /// H3.
    fn give_up_overdue(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        // A machine that slept, or a daemon that was stopped, did not wait.
        let passed = (now - self.ticked).min(AWAKE_MAX);
        self.ticked = now;
        for p in self.calls.values_mut() {
            p.waited = if p.waits_for_lock() {
                Nanos(0)
            } else {
                p.waited + passed
            };
        }
        let late = |p: &&Pending| p.waited >= limits::OP_TIMEOUT;
        if !self.calls.values().any(|p| late(&p)) {
            return;
        }
        let asked = |p: &Pending| {
            matches!(p.wait, Wait::Request(_) | Wait::Commit(_)) || self.frees_dot(p).is_some() || self.frees_lock(p)
        };
        let session = self.calls.values().filter(late).any(asked);
        let calls = self.calls.values().filter(late).count();
        Self::event(Event::Unanswered { calls, session }, out);
        if session {
            return self.abandon(out);
        }
        let (late, rest) = core::mem::take(&mut self.calls)
            .into_iter()
            .partition(|(_, p)| late(&p));
        self.calls = rest;
        let late: BTreeMap<CallId, Pending> = late;
        for (id, p) in late {
            match p.wait {
                Wait::Lease(req) => self.cancel_wish(req, out),
                Wait::Query(query) => {
                    self.queries.remove(&query);
                }
                _ => {}
            }
            self.fail_call(id, &p, out);
        }
    }

    /// Ends every call under way.
    pub(crate) fn fail_calls(&mut self, out: &mut Vec<Output>) {
        for (id, p) in core::mem::take(&mut self.calls) {
            self.fail_call(id, &p, out);
        }
        self.ready.clear();
    }

    /// The own dotlock that a call removes.
    fn frees_dot(&self, p: &Pending) -> Option<Group> {
        let Call::Unlink { dir, name } = &p.call else {
            return None;
        };
        let group = name.is_dotlock().then(|| Group::of(*dir, name))?;
        let mine = self.own_dots.get(&group).is_some_and(|dot| dot.pid == p.caller.pid);
        mine.then_some(group)
    }

    /// Is the call the end of a lock?
    fn frees_lock(&self, p: &Pending) -> bool {
        let (ino, owner) = match p.call {
            Call::SetLock {
                ino, owner, kind: None, ..
            }
            | Call::Flush { ino, owner, .. } => (ino, Some(owner)),
            Call::Release { ino, flock, .. } => (ino, flock),
            _ => return false,
        };
        let mut own = self.own_locks.get(&ino).into_iter().flatten();
        own.any(|lock| Some(lock.owner.id) == owner)
    }

    /// Ends a call with ESTALE, but one that has nothing to lose: what close and unlock were to commit is gone, and they are
    /// the last to say so (L1). A dotlock goes with its session: who removes his own one has what he wants (I23).
    fn fail_call(&mut self, id: CallId, p: &Pending, out: &mut Vec<Output>) {
        let freed = self.frees_dot(p);
        if let Some(group) = &freed {
            self.remove_dot(id, group);
        }
        let staging = |ino: &Ino| self.nodes.get(ino).and_then(|n| n.staging.as_ref());
        let harmless = match &p.call {
            Call::Flush { ino, fh, .. } => staging(ino).is_none_or(|s| !s.writers.contains(fh)),
            Call::SetLock { ino, kind: None, .. } => staging(ino).is_none(),
            call => freed.is_some() || matches!(call, Call::Release { .. }),
        };
        let result = if harmless {
            Ok(Answer::Empty)
        } else {
            Err(Errno::ESTALE)
        };
        if let Call::Release { fh, .. } = p.call {
            self.close_handle(fh);
        }
        out.push(Output::Done { id, result });
    }
}
