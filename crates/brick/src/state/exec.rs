//! Execution of one committed record.
//!
//! Promises: S1-S3 of `state`. `execute` never fails: a request that cannot be done has an error as its reply.
//! Not here: changes of names (`names`).

use super::{Data, EXPIRED_MAX, Merged, Session, State};
use alloc::{collections::BTreeMap, vec, vec::Vec};
use mboxfs_types::{
    Attr, Errno, Ino, Kind, OpId, SessionId, Tag, Timestamp,
    call::{Extent, Op, SetAttr},
    disk::Effect,
    limits,
    record::{Body, Members, Record},
};

/// What the execution of a record came to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Outcome {
    /// Whose request, with its reply.
    pub(crate) reply: Option<(OpId, Result<Vec<Attr>, Errno>)>,
    /// For the disk, in order.
    pub(crate) effects: Vec<Effect>,
    /// File whose content changed,
    pub(crate) changed: Option<Ino>,
    /// and its size before.
    pub(crate) was: u64,
    /// Files that lost their last name and may be open.
    pub(crate) orphaned: Vec<Ino>,
    /// Session that began.
    pub(crate) opened: Option<SessionId>,
    /// Sessions that ended.
    pub(crate) ended: Vec<SessionId>,
}

/// What a handler needs to know of its record.
#[derive(Clone, Copy)]
pub(super) struct Context {
    pub(super) session: SessionId,
    pub(super) tag: Tag,
    pub(super) time: Timestamp,
    pub(super) ino: Ino,
}

impl State {
    /// Executes the record after the last one.
    ///
    /// # Panics
    /// If `record` is not the next one: order is the caller's first duty (law L2).
    pub(crate) fn execute(&mut self, record: &Record) -> Outcome {
        assert_eq!(
            record.tag.n,
            self.applied + 1,
            "L2: records are executed in order, without gaps"
        );
        self.applied = record.tag.n;
        if !record.body.is_bookkeeping() {
            self.last_change = record.tag.n;
        }
        let mut out = Outcome::default();
        match &record.body {
            Body::NewGen { members, .. } => {
                if *members == Members::Both {
                    self.merged.clear(); // the other line was given up
                }
            }
            Body::Quorum { .. } => {}
            Body::SessionOpen { session, brick, host } => {
                let older: Vec<SessionId> = self
                    .sessions
                    .keys()
                    .filter(|s| s.client == session.client && *s != session)
                    .copied()
                    .collect();
                for old in older {
                    self.expire(old, &mut out);
                }
                if !self.is_expired(*session) {
                    let new = Session {
                        host: host.clone(),
                        brick: *brick,
                        acked: 0,
                        replies: BTreeMap::new(),
                    };
                    self.sessions.entry(*session).or_insert(new);
                    out.opened = Some(*session);
                }
            }
            Body::SessionExpire { session } => self.expire(*session, &mut out),
            Body::Op { id, acked, op } => self.execute_op(record, *id, *acked, op, &mut out),
            Body::Merge { theirs, version, ops } => {
                let done = self.run_own(record, ops, &mut out);
                if let (Some(version), true) = (*version, done) {
                    self.note_merged(record, *theirs, version, ops);
                }
            }
            Body::Quarantine { op } => {
                self.run_own(record, core::slice::from_ref(op), &mut out);
            }
        }
        out
    }

    fn execute_op(&mut self, record: &Record, id: OpId, acked: u64, op: &Op, out: &mut Outcome) {
        let result = match self.seen(id.session, id.seq) {
            super::Seen::NoSession => Err(Errno::ESTALE),
            super::Seen::Done(reply) => reply,
            super::Seen::New => {
                let context = Context {
                    session: id.session,
                    tag: record.tag,
                    time: record.time,
                    ino: record.ino,
                };
                let result = self.run(context, op, out);
                let session = self.sessions.get_mut(&id.session).expect("seen() found the session");
                session.replies.insert(id.seq, result.clone());
                session.acked = session.acked.max(acked);
                session.replies = session.replies.split_off(&session.acked);
                result
            }
        };
        out.reply = Some((id, result));
    }

    /// All operations of the bricks' own, up to one that cannot be done: then they count as not done.
    fn run_own(&mut self, record: &Record, ops: &[Op], out: &mut Outcome) -> bool {
        let context = Context {
            session: SessionId::HEAL,
            tag: record.tag,
            time: record.time,
            ino: record.ino,
        };
        let result = ops.iter().try_fold(vec![], |_, op| self.run(context, op, out));
        let done = result.is_ok();
        let id = OpId {
            session: SessionId::HEAL,
            seq: record.tag.n,
        };
        out.reply = Some((id, result));
        done
    }

    fn note_merged(&mut self, record: &Record, theirs: Ino, version: u64, ops: &[Op]) {
        let by = record.tag.n;
        // What is made has its other names and attributes still to come.
        let whole = !matches!(
            ops.first(),
            Some(Op::Create { .. } | Op::Mkdir { .. } | Op::Symlink { .. })
        );
        let of = if whole { Self::MERGE } else { theirs };
        let at = self.merged.get(&of).map_or(0, |m| if whole { m.version } else { m.at });
        self.merged.insert(theirs, Merged { version, at, by });
    }

    fn run(&mut self, cx: Context, op: &Op, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        match op {
            Op::Stage { ino, first, extents } => self.stage(cx, *ino, *first, extents),
            Op::Commit {
                ino,
                staged,
                cut,
                extents,
                size,
                mtime,
                atime,
            } => {
                let mut all = if *staged {
                    self.staged.remove(&(cx.session, *ino)).unwrap_or_default()
                } else {
                    vec![]
                };
                all.extend(extents.iter().cloned());
                self.commit(cx, *ino, *cut, all, *size, *mtime, *atime, out)
            }
            Op::SetAttr { ino, set } => self.set_attr(cx, *ino, *set, out),
            Op::SetXattr { ino, name, value, .. } => self.xattr(cx, *ino, name, Some(value), out),
            Op::RemoveXattr { ino, name } => self.xattr(cx, *ino, name, None, out),
            Op::Free { ino } => {
                self.release(cx.session, *ino, out);
                Ok(vec![])
            }
            _ => self.run_names(cx, op, out),
        }
    }

    fn file(&mut self, ino: Ino) -> Result<&mut super::Inode, Errno> {
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        match inode.kind() {
            Kind::File => Ok(inode),
            Kind::Dir => Err(Errno::EISDIR),
            Kind::Symlink => Err(Errno::EINVAL),
        }
    }

    fn stage(&mut self, cx: Context, ino: Ino, first: bool, extents: &[Extent]) -> Result<Vec<Attr>, Errno> {
        self.file(ino)?;
        let staged = self.staged.entry((cx.session, ino)).or_default();
        if first {
            staged.clear();
        }
        staged.extend(extents.iter().cloned());
        Ok(vec![])
    }

    #[allow(clippy::too_many_arguments)]
    fn commit(
        &mut self,
        cx: Context,
        ino: Ino,
        cut: u64,
        extents: Vec<Extent>,
        size: u64,
        mtime: Timestamp,
        atime: Option<Timestamp>,
        out: &mut Outcome,
    ) -> Result<Vec<Attr>, Errno> {
        if size > limits::FILE_BYTES_MAX {
            return Err(Errno::EFBIG);
        }
        let inode = self.file(ino)?;
        out.was = inode.size;
        inode.size = size;
        inode.mtime = mtime;
        inode.ctime = inode.ctime.max(cx.time);
        if let Some(atime) = atime {
            inode.atime = atime;
        }
        inode.version = cx.tag.n;
        inode.writer = Some(cx.session);
        let atime = inode.atime;
        let attr = inode.attr(ino);
        out.effects.push(Effect::Write {
            ino,
            cut,
            extents,
            size,
            mtime,
            atime,
            stamp: cx.tag,
        });
        out.changed = Some(ino);
        Ok(vec![attr])
    }

    fn set_attr(&mut self, cx: Context, ino: Ino, set: SetAttr, out: &mut Outcome) -> Result<Vec<Attr>, Errno> {
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        inode.mode = set.mode.map_or(inode.mode, |m| m & 0o7777);
        inode.uid = set.uid.unwrap_or(inode.uid);
        inode.gid = set.gid.unwrap_or(inode.gid);
        inode.atime = set.atime.unwrap_or(inode.atime);
        inode.mtime = set.mtime.unwrap_or(inode.mtime);
        inode.ctime = inode.ctime.max(cx.time);
        let attr = inode.attr(ino);
        out.effects.push(Effect::SetAttr {
            ino,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            atime: attr.atime,
            mtime: attr.mtime,
        });
        Ok(vec![attr])
    }

    // XATTR_CREATE and XATTR_REPLACE are checked by the mount, which asks first: attributes live on disk only.
    fn xattr(
        &mut self,
        cx: Context,
        ino: Ino,
        name: &[u8],
        value: Option<&Vec<u8>>,
        out: &mut Outcome,
    ) -> Result<Vec<Attr>, Errno> {
        let inode = self.inodes.get_mut(&ino).ok_or(Errno::ESTALE)?;
        if !name.starts_with(b"user.") || name.starts_with(b"user.mboxfs") || inode.kind() == Kind::Symlink {
            return Err(Errno::EOPNOTSUPP);
        }
        if value.is_some_and(|v| v.len() > limits::VALUE_BYTES_MAX) {
            return Err(Errno::ENOSPC);
        }
        inode.ctime = inode.ctime.max(cx.time);
        out.effects.push(Effect::Xattr {
            ino,
            name: name.to_vec(),
            value: value.cloned(),
        });
        Ok(vec![inode.attr(ino)])
    }

    /// `session` has no handle on the orphan: the last one frees it (S4).
    fn release(&mut self, session: SessionId, ino: Ino, out: &mut Outcome) {
        let Some(inode) = self.inodes.get_mut(&ino) else { return };
        let Some(holders) = inode.orphan.as_mut() else { return };
        holders.remove(&session);
        if holders.is_empty() {
            self.inodes.remove(&ino);
            out.effects.push(Effect::Free { ino });
        }
    }

    fn expire(&mut self, session: SessionId, out: &mut Outcome) {
        if self.sessions.remove(&session).is_none() {
            return;
        }
        self.staged.retain(|(s, _), _| *s != session);
        let orphans: Vec<Ino> = self
            .inodes
            .iter()
            .filter(|(_, i)| i.orphan.is_some())
            .map(|(ino, _)| *ino)
            .collect();
        for ino in orphans {
            self.release(session, ino, out);
        }
        if self.expired.len() == EXPIRED_MAX {
            self.expired.remove(0);
        }
        self.expired.push(session);
        out.ended.push(session);
    }

    /// A name of `ino` went. Without any left the inode stays for those who may have it open (S4).
    pub(super) fn unlinked(&mut self, ino: Ino, time: Timestamp, out: &mut Outcome) -> Option<Attr> {
        let holders: alloc::collections::BTreeSet<SessionId> = self.sessions.keys().copied().collect();
        let inode = self.inodes.get_mut(&ino)?;
        inode.nlink -= 1;
        inode.ctime = inode.ctime.max(time);
        if inode.nlink == 0 {
            inode.home = None;
            if matches!(inode.data, Data::File) && !holders.is_empty() {
                inode.orphan = Some(holders);
                out.orphaned.push(ino);
            } else {
                let attr = inode.attr(ino);
                self.inodes.remove(&ino);
                out.effects.push(Effect::Free { ino });
                return Some(attr);
            }
        }
        self.inodes.get(&ino).map(|i| i.attr(ino))
    }
}
