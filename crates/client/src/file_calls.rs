//! Calls on files: attributes, open, read, write, fsync, close.
//!
//! W1  A write through an O_APPEND handle goes to the true end of file (L4).
//! W2  fsync, and the close of one who wrote or locked, return after the commit (L1); a close after a good fsync has
//!     nothing to commit and cannot fail (L9).
//! W3  A dead handle never writes; its close, unlock and shrinking truncate succeed without effect (PROTOCOL 7.5).
//!
//! Not here: locks (`lock_calls`), dotlocks (`dot_calls`), the commit itself (`commit`).

use crate::{
    cache::BLOCK,
    calls::{Done, Pending, Wait},
    client::{Client, Handle, Kind},
    input::{CallId, Fh, KILLED, OpenFlags},
    link::For,
    output::{Answer, Event, Output},
    staging::Staging,
};
use alloc::{vec, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Attr, Errno, Ino, LockKind, Nanos, Owner, Timestamp,
    call::{Extent, Found, Intent, Mode, Op, Query, SetAttr},
    kept::Kept,
    limits,
    planted::Bug,
};

/// What the bytes on their way to a read are for: a lease may come or go meanwhile, and bytes asked for in one way are
/// no answer in the other.
const BLOCK_ASKED: u8 = 1;
const ONCE_ASKED: u8 = 2;

impl Client {
    pub(crate) fn get_attr(&mut self, id: CallId, p: &mut Pending, ino: Ino, out: &mut Vec<Output>) -> Done {
        if let Some(attr) = self.dot_attr(ino) {
            return Some(Ok(Answer::Attr { attr, ttl: Nanos(0) }));
        }
        if self.dot_groups.contains_key(&ino) {
            return self.foreign_dot_attr(id, p, ino, out);
        }
        let attr = self.want_inode(id, p, ino, Mode::R, Intent::Read, out)?;
        Some(Ok(self.attr_answer(p, attr)))
    }

    fn attr_answer(&mut self, p: &Pending, attr: Attr) -> Answer {
        let attr = self.shown(attr);
        let ttl = self.tell(&attr, p.caller.thread);
        Answer::Attr { attr, ttl }
    }

    pub(crate) fn open(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        flags: OpenFlags,
        out: &mut Vec<Output>,
    ) -> Done {
        if let Some(group) = self.dot_groups.get(&ino).cloned() {
            let fh = self.new_handle(id, ino, Kind::Dot(group));
            return Some(Ok(Answer::Opened { fh, dotlock: true }));
        }
        if self.lost_its_dotlock(id, p, ino, out)? {
            return Some(Err(Errno::ESTALE));
        }
        self.want_inode(id, p, ino, Mode::R, Intent::Read, out)?;
        let fh = self.new_handle(
            id,
            ino,
            Kind::File {
                append: flags.append,
                sync: flags.sync,
            },
        );
        Some(Ok(Answer::Opened { fh, dotlock: false }))
    }

    pub(crate) fn new_handle(&mut self, by: CallId, ino: Ino, kind: Kind) -> Fh {
        self.next_fh += 1;
        let fh = Fh(self.next_fh);
        if matches!(kind, Kind::File { .. }) {
            self.node(ino).opens += 1;
        }
        let handle = Handle {
            ino,
            kind,
            dead: false,
            lost: false,
            by,
        };
        self.handles.insert(fh, handle);
        self.keep_handle(fh);
        fh
    }

    /// Forgets a handle; if it was on a file, which one.
    pub(crate) fn close_handle(&mut self, fh: Fh) -> Option<Ino> {
        let handle = self.handles.remove(&fh)?;
        self.keep(Kept::Closed { fh: fh.0 });
        let Kind::File { .. } = handle.kind else { return None };
        let node = self.node(handle.ino);
        node.opens = node.opens.saturating_sub(1);
        Some(handle.ino)
    }

    /// A handle whose bytes are gone says so once: to a write or fsync each time, to an unlock or close if none of those
    /// came before (L1: what an unlock or close acknowledges is durable).
    pub(crate) fn tell_lost(&mut self, fh: Fh) -> bool {
        let lost = self.handles.get_mut(&fh).is_some_and(|h| core::mem::take(&mut h.lost));
        if lost {
            self.keep_handle(fh);
        }
        lost
    }

    /// Nothing is read or written through it any more. It dies here if whoever uses it has lost the dotlock of this file (O4
    /// of `dot_calls`): when that was lost, this mount may not have known which file it stood for.
    fn is_dead(&mut self, id: CallId, p: &mut Pending, (ino, fh): (Ino, Fh), out: &mut Vec<Output>) -> Option<bool> {
        if self.handles.get(&fh).is_some_and(|h| h.dead) {
            return Some(true);
        }
        let dies = self.lost_its_dotlock(id, p, ino, out)?;
        if dies {
            self.end_handle(fh);
        }
        Some(dies)
    }

    /// It never writes again; what was written through it and is not committed may be half a message (L6).
    pub(crate) fn end_handle(&mut self, fh: Fh) {
        let Some(handle) = self.handles.get_mut(&fh) else {
            return;
        };
        handle.dead = true;
        let ino = handle.ino;
        self.keep_handle(fh);
        let staging = self.nodes.get(&ino).and_then(|n| n.staging.as_ref());
        if staging.is_some_and(|s| s.writers.contains(&fh)) {
            self.drop_staging(ino);
        }
    }

    // ---- reading

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn read(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Fh,
        offset: u64,
        len: u32,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.is_dead(id, p, (ino, fh), out)? {
            return Some(Err(Errno::ESTALE));
        }
        match self.handles.get(&fh) {
            None => return Some(Err(Errno::EBADF)),
            Some(Handle {
                kind: Kind::Dot(group), ..
            }) => return Some(Ok(self.read_dot(&group.clone(), offset, len))),
            Some(_) => {}
        }
        let committed = self.want_inode(id, p, ino, Mode::R, Intent::Read, out)?;
        let size = self.shown(committed).size;
        let end = offset.saturating_add(u64::from(len)).min(size);
        if offset >= end {
            return Some(Ok(Answer::Data(Bytes::new())));
        }
        if self.nodes.get(&ino).is_none_or(|n| n.held.is_none()) {
            return self.read_once(id, p, ino, offset, (end - offset) as u32, out);
        }
        if let Some(result) = p
            .found
            .take()
            .filter(|_| p.step == BLOCK_ASKED && p.drops == self.cache.drops(ino))
        {
            match result {
                Ok(Found::Data(data)) => self.cache.put(ino, p.block, data),
                Ok(_) => return Some(Err(Errno::ESTALE)),
                Err(errno) => return Some(Err(errno)),
            }
        }
        let holes = match self.nodes.get(&ino).and_then(|n| n.staging.as_ref()) {
            Some(staging) => staging.holes(offset, end),
            None => vec![(offset, end)],
        };
        let mut buffer = vec![0; (end - offset) as usize];
        for (from, to) in holes {
            for index in from / BLOCK..=(to - 1) / BLOCK {
                let Some(block) = self.cache.get(ino, index) else {
                    return self.fetch(id, p, ino, index, out);
                };
                let lo = from.max(index * BLOCK);
                let hi = to.min(index * BLOCK + block.len() as u64);
                if lo < hi {
                    let source = &block[(lo - index * BLOCK) as usize..(hi - index * BLOCK) as usize];
                    buffer[(lo - offset) as usize..(hi - offset) as usize].copy_from_slice(source);
                }
            }
        }
        if let Some(staging) = self.nodes.get(&ino).and_then(|n| n.staging.as_ref()) {
            staging.overlay(offset, &mut buffer);
        }
        Some(Ok(Answer::Data(Bytes::from(buffer))))
    }

    fn fetch(&mut self, id: CallId, p: &mut Pending, ino: Ino, index: u64, out: &mut Vec<Output>) -> Done {
        p.wait = self.query(
            Query::Read {
                ino,
                offset: index * BLOCK,
                len: BLOCK as u32,
            },
            id,
            out,
        );
        p.block = index;
        p.drops = self.cache.drops(ino);
        p.step = BLOCK_ASKED;
        None
    }

    /// Without a lease: exactly these committed bytes, kept nowhere.
    fn read_once(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        offset: u64,
        len: u32,
        out: &mut Vec<Output>,
    ) -> Done {
        match p.found.take().filter(|_| p.step == ONCE_ASKED) {
            None => {
                p.step = ONCE_ASKED;
                p.wait = self.query(
                    Query::Read {
                        ino,
                        offset,
                        len: len.min(limits::EXTENT_BYTES_MAX as u32),
                    },
                    id,
                    out,
                );
                None
            }
            Some(Ok(Found::Data(data))) => Some(Ok(Answer::Data(data))),
            Some(Ok(_)) => Some(Err(Errno::ESTALE)),
            Some(Err(errno)) => Some(Err(errno)),
        }
    }

    // ---- writing

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn write(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Fh,
        offset: u64,
        data: &Bytes,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.is_dead(id, p, (ino, fh), out)? {
            self.tell_lost(fh);
            return Some(Err(Errno::ESTALE)); // W3
        }
        let (append, sync) = match self.handles.get(&fh) {
            None => return Some(Err(Errno::EBADF)),
            Some(Handle {
                kind: Kind::Dot(group), ..
            }) => {
                return Some(self.write_dot(&group.clone(), offset, data));
            }
            Some(Handle { kind: Kind::Dir(_), .. }) => return Some(Err(Errno::EBADF)),
            Some(Handle {
                kind: Kind::File { append, sync },
                ..
            }) => (*append, *sync),
        };
        let written = Answer::Written(data.len() as u32);
        if self.was_written(id) && !Bug::WrittenTwice.here() {
            if !sync {
                return Some(Ok(written));
            }
            p.step = 1;
        }
        if p.step == 1 {
            // O_SYNC: staged in the attempt before, now committed.
            return match p.committed.take() {
                Some(result) => Some(result.map(|()| written)),
                None => self.wait_commit(p, ino, out).map(|()| Ok(written)),
            };
        }
        if let Some(Err(errno)) = p.committed.take() {
            return Some(Err(errno));
        }
        self.want_inode(id, p, ino, Mode::W, Intent::Write, out)?;
        let full = self
            .nodes
            .get(&ino)
            .and_then(|n| n.staging.as_ref())
            .is_some_and(|s| s.bytes() + data.len() > limits::STAGED_BYTES_MAX);
        if self.node(ino).committing.is_some() || full {
            if full {
                Self::event(Event::SessionSplit { ino }, out);
            }
            self.wait_commit(p, ino, out)?;
        }
        let end = if append { self.staging(ino).size } else { offset }.saturating_add(data.len() as u64);
        if end > limits::FILE_BYTES_MAX {
            return Some(Err(Errno::EFBIG));
        }
        let now = self.clock.real;
        let staging = self.staging(ino);
        let offset = if append && !Bug::OffsetBelieved.here() {
            staging.size
        } else {
            offset
        }; // W1
        staging.write(offset, data);
        staging.mtime = staging.mtime.max(now);
        staging.writers.insert(fh);
        let (mtime, extent) = (
            staging.mtime,
            Extent {
                offset,
                data: data.clone(),
            },
        );
        let fh = fh.0;
        self.keep(Kept::Wrote { ino, fh, extent, mtime });
        self.keep_written(id);
        self.untold(ino);
        if sync {
            p.step = 1;
            return self.wait_commit(p, ino, out).map(|()| Ok(written));
        }
        Some(Ok(written))
    }

    /// The overlay of an inode held in mode W, begun if there is none.
    pub(crate) fn staging(&mut self, ino: Ino) -> &mut Staging {
        let (now, session) = (self.clock.real, self.session);
        let node = self.nodes.entry(ino).or_default();
        let attr = node.attr;
        if node.staging.is_none() {
            let size = attr.map_or(0, |a| a.size);
            node.staging = Some(Staging::new(size, first_mtime(attr, session, now)));
            self.keep_staged(ino);
        }
        self.node(ino).staging.as_mut().expect("set above")
    }

    /// Starts the commit of `ino` and waits for it. `Some(())`: there is nothing to wait for.
    pub(crate) fn wait_commit(&mut self, p: &mut Pending, ino: Ino, out: &mut Vec<Output>) -> Option<()> {
        if self.start_commit(ino, out) {
            p.wait = Wait::Commit(ino);
            return None;
        }
        Some(())
    }

    pub(crate) fn fsync(&mut self, _id: CallId, p: &mut Pending, ino: Ino, fh: Fh, out: &mut Vec<Output>) -> Done {
        if self.handles.get(&fh).is_some_and(|h| h.dead) {
            self.tell_lost(fh);
            return Some(Err(Errno::ESTALE));
        }
        if let Some(result) = p.committed.take() {
            if result.is_err() {
                self.tell_lost(fh);
            }
            return Some(result.map(|()| Answer::Empty));
        }
        if !Bug::FsyncLies.here() {
            self.wait_commit(p, ino, out)?;
        }
        Some(Ok(Answer::Empty)) // W2
    }

    pub(crate) fn flush(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Fh,
        owner: u64,
        out: &mut Vec<Output>,
    ) -> Done {
        let owner = Owner {
            session: self.session,
            id: owner,
        };
        if p.caller.ppid == KILLED {
            self.disown_dots(p.caller.pid);
        }
        let Some(handle) = self.handles.get(&fh) else {
            return Some(Ok(Answer::Empty));
        };
        if !matches!(handle.kind, Kind::File { .. }) {
            return Some(Ok(Answer::Empty));
        }
        let exclusive = self
            .own_locks
            .get(&ino)
            .is_some_and(|l| l.iter().any(|l| l.owner == owner && l.kind == LockKind::Exclusive));
        let mine = exclusive
            || self
                .nodes
                .get(&ino)
                .and_then(|n| n.staging.as_ref())
                .is_some_and(|s| s.writers.contains(&fh));
        let killed = p.caller.ppid == KILLED;
        if mine && exclusive && killed && self.nodes.get(&ino).is_some_and(|n| n.committing.is_none()) {
            // Killed in the middle of its lock session: the session never existed (L6, PROTOCOL 0.6).
            self.drop_staging(ino);
            Self::event(Event::SessionDropped { ino }, out);
        }
        if p.step == 0 && mine {
            match p.committed.take() {
                Some(Ok(())) => {}
                Some(Err(errno)) => {
                    // The bytes cannot be kept, and this is the last chance to say so.
                    self.drop_staging(ino);
                    p.failure = Some(errno);
                }
                None => self.wait_commit(p, ino, out)?,
            }
        }
        if self.tell_lost(fh) {
            p.failure = p.failure.or(Some(Errno::ESTALE));
        }
        p.step = 1;
        self.unlock_all(id, p, ino, owner, out)?;
        Some(p.failure.map_or(Ok(Answer::Empty), Err))
    }

    pub(crate) fn release(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Fh,
        flock: Option<u64>,
        out: &mut Vec<Output>,
    ) -> Done {
        if let Some(owner) = flock {
            let owner = Owner {
                session: self.session,
                id: owner,
            };
            self.unlock_all(id, p, ino, owner, out)?;
        }
        if self.close_handle(fh).is_some() {
            let node = self.node(ino);
            if node.opens == 0 && core::mem::take(&mut node.orphan) {
                self.request(Op::Free { ino }, For::Nobody, out);
            }
        }
        Some(Ok(Answer::Empty))
    }

    // ---- attributes

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn set_attr(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Option<Fh>,
        set: SetAttr,
        size: Option<u64>,
        own: bool,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.dot_groups.contains_key(&ino) {
            return Some(self.set_dot_attr(ino, set, size));
        }
        if own {
            return self.get_attr(id, p, ino, out);
        }
        if let Some(size) = size {
            return self.truncate(id, p, ino, fh, size, out);
        }
        if let Some(result) = p.reply.take() {
            return Some(
                result
                    .and_then(|attrs| Self::subject(&attrs))
                    .map(|attr| self.attr_answer(p, attr)),
            );
        }
        let times_only = set.mode.is_none() && set.uid.is_none() && set.gid.is_none();
        if self.has_staged(ino) {
            if times_only && self.node(ino).committing.is_none() {
                // Dovecot sets times in the middle of its lock session: they go with it.
                let attr = self.want_inode(id, p, ino, Mode::W, Intent::Write, out)?;
                let staging = self.staging(ino);
                staging.mtime = set.mtime.unwrap_or(staging.mtime);
                staging.atime = set.atime.or(staging.atime);
                staging.times_set = true;
                self.keep_staged(ino);
                return Some(Ok(self.attr_answer(p, attr)));
            }
            if let Some(Err(errno)) = p.committed.take() {
                return Some(Err(errno));
            }
            self.wait_commit(p, ino, out)?;
        }
        let seq = self.request(Op::SetAttr { ino, set }, For::Call(id), out);
        p.wait = Wait::Request(seq);
        None
    }

    fn truncate(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        fh: Option<Fh>,
        size: u64,
        out: &mut Vec<Output>,
    ) -> Done {
        let dead = match fh {
            Some(fh) => self.is_dead(id, p, (ino, fh), out)?,
            None => false,
        };
        let attr = self.want_inode(
            id,
            p,
            ino,
            if dead { Mode::R } else { Mode::W },
            if dead { Intent::Read } else { Intent::Write },
            out,
        )?;
        let shown = self.shown(attr);
        if dead {
            // Postfix's undo: the append is gone already, and nobody else's message may be cut off (W3).
            return Some(if size <= shown.size {
                Ok(Answer::Attr {
                    attr: shown,
                    ttl: Nanos(0),
                })
            } else {
                Err(Errno::ESTALE)
            });
        }
        if size > limits::FILE_BYTES_MAX {
            return Some(Err(Errno::EFBIG));
        }
        if p.step == 0 {
            if self.node(ino).committing.is_some() {
                self.wait_commit(p, ino, out)?;
            }
            let now = self.clock.real;
            let staging = self.staging(ino);
            if staging.size != size || size == 0 {
                staging.truncate(size);
                staging.mtime = staging.mtime.max(now);
            }
            staging.writers.extend(fh);
            self.keep_staged(ino);
            p.step = 1;
        }
        if fh.is_none() {
            // truncate(2): no close will follow.
            match p.committed.take() {
                Some(Err(errno)) => {
                    self.drop_staging(ino);
                    return Some(Err(errno));
                }
                Some(Ok(())) => {}
                None => self.wait_commit(p, ino, out)?,
            }
        }
        let attr = self.nodes.get(&ino).and_then(|n| n.attr).unwrap_or(attr);
        Some(Ok(self.attr_answer(p, attr)))
    }

    // ---- extended attributes, statfs

    pub(crate) fn simple_query(&mut self, id: CallId, p: &mut Pending, out: &mut Vec<Output>) -> Done {
        use crate::input::Call;
        let Some(result) = p.found.take() else {
            let query = match p.call.clone() {
                Call::GetXattr { ino, .. } | Call::ListXattr { ino } if self.dot_groups.contains_key(&ino) => {
                    return Some(Err(Errno::ENODATA));
                }
                Call::GetXattr { ino, name } => Query::GetXattr { ino, name },
                Call::ListXattr { ino } => Query::ListXattr { ino },
                _ => Query::StatFs,
            };
            p.wait = self.query(query, id, out);
            return None;
        };
        Some(result.and_then(|found| match found {
            Found::Data(data) => Ok(Answer::Data(data)),
            Found::Names(names) => Ok(Answer::Names(names)),
            Found::Space(space) => Ok(Answer::Space(space)),
            _ => Err(Errno::ESTALE),
        }))
    }

    pub(crate) fn change_xattr(&mut self, id: CallId, p: &mut Pending, out: &mut Vec<Output>) -> Done {
        use crate::input::Call;
        if let Some(result) = p.reply.take() {
            return Some(result.map(|_| Answer::Empty));
        }
        let op = match p.call.clone() {
            Call::SetXattr {
                ino,
                name,
                value,
                create,
                replace,
            } => {
                if create || replace {
                    // Attributes live on disk only: look before.
                    let there = match p.found.take() {
                        None => {
                            p.wait = self.query(Query::GetXattr { ino, name }, id, out);
                            return None;
                        }
                        Some(result) => result.is_ok(),
                    };
                    if create && there {
                        return Some(Err(Errno::EEXIST));
                    }
                    if replace && !there {
                        return Some(Err(Errno::ENODATA));
                    }
                }
                Op::SetXattr {
                    ino,
                    name,
                    value,
                    create,
                    replace,
                }
            }
            Call::RemoveXattr { ino, name } => Op::RemoveXattr { ino, name },
            _ => return Some(Err(Errno::EINVAL)),
        };
        let seq = self.request(op, For::Call(id), out);
        p.wait = Wait::Request(seq);
        None
    }
}

/// mtime is compared in whole seconds together with size: it must move by one when another mount wrote last (R10).
fn first_mtime(attr: Option<Attr>, session: mboxfs_types::SessionId, now: Timestamp) -> Timestamp {
    match attr {
        Some(a) if a.writer.is_some_and(|w| w != session) && now.secs <= a.mtime.secs && !Bug::SecondsStand.here() => {
            a.mtime.next_second()
        }
        Some(a) => now.max(a.mtime),
        None => now,
    }
}
