//! fcntl and flock: taking, testing, releasing (law L5).
//!
//! Z1  A lock is granted only under W of the inode, with the attributes that the lease covers: size and mtime are fresh
//!     at every grant (L3, R3).
//! Z2  Releasing an exclusive lock commits what was staged under it first (L6, R9).
//! Z3  Waiting in a circle among processes of this mount is EDEADLK (fcntl(2)).
//!
//! Not here: the table (`locks`), waiting for other mounts (`recall`).

use crate::{
    calls::{Done, Pending, Wait},
    client::{Client, Kind},
    input::{Call, CallId},
    locks,
    output::{Answer, Output},
};
use alloc::{collections::BTreeSet, vec::Vec};
use mboxfs_types::{
    Errno, HeldLock, Ino, LockKind, Owner, Range,
    call::{Intent, Mode},
    limits,
};

impl Client {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn get_lock(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        owner: u64,
        range: Range,
        kind: LockKind,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.dot_groups.contains_key(&ino) {
            return Some(Ok(Answer::Lock(None)));
        }
        let owner = Owner {
            session: self.session,
            id: owner,
        };
        // A write lease for a question: the table is complete nowhere else. A holder with a conflicting lock keeps it and
        // says EAGAIN; `calls` turns that into an answer.
        self.want_inode(
            id,
            p,
            ino,
            Mode::W,
            Intent::Lock {
                owner,
                range,
                kind,
                wait: false,
            },
            out,
        )?;
        let table = self.nodes.get(&ino).map_or(&[][..], |n| n.locks.as_slice());
        Some(Ok(Answer::Lock(locks::conflict(table, owner, range, kind))))
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn set_lock(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        owner: u64,
        range: Range,
        kind: Option<LockKind>,
        wait: bool,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.dot_groups.contains_key(&ino) {
            return Some(Ok(Answer::Empty));
        }
        let owner = Owner {
            session: self.session,
            id: owner,
        };
        let Some(kind) = kind else {
            self.unlock(id, p, ino, owner, range, out)?;
            // What is gone was written under this lock: not to be taken for committed (L1).
            let lost = self.handles.values().any(|h| h.ino == ino && h.lost);
            let failure = p.failure.or(lost.then_some(Errno::ESTALE));
            return Some(failure.map_or(Ok(Answer::Empty), Err));
        };
        self.want_inode(
            id,
            p,
            ino,
            Mode::W,
            Intent::Lock {
                owner,
                range,
                kind,
                wait,
            },
            out,
        )?;
        let node = self.node(ino);
        if let Some(held) = locks::conflict(&node.locks, owner, range, kind) {
            let until = (!wait).then_some(p.since + limits::LOCK_WAIT);
            if until.is_some_and(|until| self.clock.mono >= until) {
                return Some(Err(Errno::EAGAIN));
            }
            if wait && self.waits_in_circle(owner, held.owner) {
                return Some(Err(Errno::EDEADLK));
            }
            p.wait = Wait::Lock(ino, until);
            return None;
        }
        if node.committing.is_some() {
            // The attributes of the grant are those after the commit (Z1).
            p.wait = Wait::Commit(ino);
            return None;
        }
        self.wait_settled(p, ino)?;
        let lock = HeldLock {
            owner,
            range,
            kind,
            pid: p.caller.pid,
        };
        locks::set(&mut self.node(ino).locks, lock);
        locks::set(self.own_locks.entry(ino).or_default(), lock);
        self.keep_locks(ino);
        // A lock made shared, or smaller, may let others in.
        self.wake(|w| matches!(w, Wait::Lock(i, _) if *i == ino));
        Some(Ok(Answer::Empty))
    }

    /// Z3: would `owner` waiting for `holder` close a circle?
    fn waits_in_circle(&self, owner: Owner, holder: Owner) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo = Vec::from([holder]);
        while let Some(at) = todo.pop() {
            if at == owner {
                return true;
            }
            if at.session != self.session || !seen.insert(at) {
                continue;
            }
            for p in self.calls.values() {
                let Wait::Lock(ino, None) = p.wait else { continue };
                let Call::SetLock {
                    owner: id,
                    range,
                    kind: Some(kind),
                    ..
                } = p.call
                else {
                    continue;
                };
                if id == at.id
                    && let Some(next) = self
                        .nodes
                        .get(&ino)
                        .and_then(|n| locks::conflict(&n.locks, at, range, kind))
                {
                    todo.push(next.owner);
                }
            }
        }
        false
    }

    /// Releases `range` of `owner`. `None`: waits. What could not be committed is in `p.failure`.
    fn unlock(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        owner: Owner,
        range: Range,
        out: &mut Vec<Output>,
    ) -> Option<()> {
        let has = |l: &HeldLock| l.owner == owner && l.range.overlaps(range);
        let own = self.own_locks.get(&ino).map_or(&[][..], Vec::as_slice);
        if !own.iter().any(has) {
            return Some(());
        }
        let exclusive = own.iter().any(|l| has(l) && l.kind == LockKind::Exclusive);
        if exclusive && p.step < 2 && self.has_staged(ino) {
            match p.committed.take() {
                Some(Ok(())) => {}
                Some(Err(errno)) => {
                    self.drop_staging(ino);
                    for handle in self.handles.values_mut().filter(|h| h.ino == ino) {
                        handle.lost = false; // said here
                    }
                    p.failure = Some(errno);
                }
                None => self.wait_commit(p, ino, out)?, // Z2
            }
        }
        p.step = 2;
        self.want_inode(id, p, ino, Mode::W, Intent::Unlock, out)?;
        self.disown_lock(ino, owner, range);
        Some(())
    }

    /// False: there was none.
    pub(crate) fn disown_lock(&mut self, ino: Ino, owner: Owner, range: Range) -> bool {
        locks::clear(&mut self.node(ino).locks, owner, range);
        let Some(own) = self.own_locks.get_mut(&ino) else {
            return false;
        };
        let cleared = locks::clear(own, owner, range);
        if own.is_empty() {
            self.own_locks.remove(&ino);
        }
        self.keep_locks(ino);
        self.wake(|w| matches!(w, Wait::Lock(i, _) if *i == ino));
        cleared
    }

    /// Close releases everything that the owner has on the inode (fcntl(2), R5).
    pub(crate) fn unlock_all(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        owner: Owner,
        out: &mut Vec<Output>,
    ) -> Option<()> {
        let is_file = |k: &Kind| matches!(k, Kind::File { .. });
        debug_assert!(
            self.handles
                .values()
                .all(|h| h.ino != ino || is_file(&h.kind) || !self.own_locks.contains_key(&ino))
        );
        self.unlock(id, p, ino, owner, Range::ALL, out)
    }
}
