//! Dotlocks: names that end in `.lock` are entries of the lock table, never files (DESIGN.md section 4, law L7).
//!
//! O1  Made only under W of the group, so one winner across both nodes, whether by O_EXCL or by link(2) (L5, I14).
//! O2  Gone with the mount, and `DOTLOCK_ORPHAN` after both its maker and that one's parent are gone (L7): lock helpers
//!     exit at once, and the lock belongs to the one who called them. A maker killed by a signal was no helper that was
//!     done: then its own end is enough (the parent of a Postfix process is a daemon that stays).
//! O3  Renamed onto a file's name it becomes that file, atomically: what programs do that write a new version that way.
//! O4  One that was lost with its session, or to the other side of a partition, is still there for its maker, and for him
//!     alone, until he removes it: the unlink succeeds and has no effect, on somebody else's of that name least of all
//!     (PROTOCOL 7.5). As long as it is, the mailbox it is named after is not opened for him, and what he has open of it is
//!     dead: he would change it without a lock (L6).
//! O5  One made by link(2) shows the inode of the file that it was linked to, with one link more, for as long as that is there;
//!     afterwards it is all that there is of that number.
//!
//! Not here: recalls for them (`recall`).

use crate::{
    calls::{Done, Pending, Wait},
    client::{Client, Kind},
    input::{Call, CallId, Caller},
    link::For,
    output::{Answer, Event, Output},
};
use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_types::{
    Attr, Dotlock, Errno, Group, Ino, Kind as InodeKind, Name, Nanos,
    call::{Intent, Mode, Op, SetAttr},
    kept::Kept,
    limits,
    planted::Bug,
};

/// Dotlocks remembered after they were lost.
const LOST_DOTS_MAX: usize = 1000;

/// Inode numbers of dotlocks have this bit, but for those made by link(2): those of bricks have it clear for 2^30 starts.
pub(crate) const DOT_BIT: u64 = 1 << 62;

pub(crate) fn attr_of(dot: &Dotlock) -> Attr {
    Attr {
        ino: dot.ino,
        kind: InodeKind::File,
        mode: dot.mode,
        uid: dot.uid,
        gid: dot.gid,
        nlink: 1,
        size: dot.content.len() as u64,
        atime: dot.mtime,
        mtime: dot.mtime,
        ctime: dot.ctime,
        version: 0,
        writer: None,
    }
}

impl Client {
    /// Under W of the group (O1): the dotlock of this name, if there is one.
    pub(crate) fn make_dot(
        &mut self,
        id: CallId,
        p: &Pending,
        dir: Ino,
        name: &Name,
        mode: u32,
        ino: Option<Ino>,
    ) -> Dotlock {
        let group = Group::of(dir, name);
        self.dots_made += 1;
        let fresh = Ino(DOT_BIT | (self.session.nonce & 0x3fff_ffff) << 32 | u64::from(self.dots_made));
        let dot = Dotlock {
            session: self.session,
            name: name.clone(),
            ino: ino.unwrap_or(fresh),
            mode,
            uid: p.caller.uid,
            gid: p.caller.gid,
            pid: p.caller.pid,
            ppid: p.caller.ppid,
            content: Vec::new(),
            ctime: self.clock.real,
            mtime: self.clock.real,
        };
        if ino.is_none() {
            self.dot_groups.insert(dot.ino, group.clone());
        }
        if let Some(lease) = self.names.get_mut(&group) {
            lease.dot = Some(dot.clone());
        }
        self.undo_loss(&group, dot.pid);
        self.own_dots.insert(group.clone(), dot.clone());
        self.keep_dot(&group, id);
        dot
    }

    pub(crate) fn remove_dot(&mut self, id: CallId, group: &Group) {
        if let Some(dot) = self.own_dots.remove(group) {
            self.keep_dot(group, id);
            self.changed(dot.ino); // nlink, if it was made by link(2)
        }
        if let Some(lease) = self.names.get_mut(group) {
            lease.dot = None;
        }
        self.wake(|w| matches!(w, Wait::Dot(g, _) if g == group));
    }

    /// O4: it is nobody's any more, whatever its maker thinks.
    pub(crate) fn lose_dot(&mut self, group: &Group) {
        if let Some(dot) = self.own_dots.remove(group) {
            self.keep_dot(group, CallId(0));
            self.changed(dot.ino);
            let (group, pid) = (group.clone(), dot.pid);
            self.lost_dots.insert((group.clone(), pid), dot.clone());
            let dot = Some(dot);
            self.keep(Kept::Lost { group, pid, dot });
        }
        while self.lost_dots.len() > LOST_DOTS_MAX {
            self.lost_dots.pop_first();
        }
    }

    /// O4: its maker has removed it, or has another one. Was there one?
    fn undo_loss(&mut self, group: &Group, pid: u32) -> bool {
        let (group, dot) = (group.clone(), None);
        let was = self.lost_dots.remove(&(group.clone(), pid)).is_some();
        if was {
            self.keep(Kept::Lost { group, pid, dot });
        }
        was
    }

    /// O4: does whoever opens or uses this file take it for locked by a dotlock that was lost?
    pub(crate) fn lost_its_dotlock(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        out: &mut Vec<Output>,
    ) -> Option<bool> {
        let lost = self.lost_dots.iter();
        let own = lost.filter(|(_, dot)| dot.pid > 1 && self.owns(p.caller, dot));
        let groups: Vec<Group> = own.map(|((group, _), _)| group.clone()).collect();
        for group in groups {
            let state = self.want_name(id, p, &group, Mode::R, Intent::Read, out)?;
            if state.entry == Some(ino) {
                return Some(true);
            }
        }
        Some(false)
    }

    /// The name is free and held in mode W: `Some(Ok)`. Taken: EEXIST, after a short wait if a process here has it.
    fn dot_free(
        &mut self,
        id: CallId,
        p: &mut Pending,
        group: &Group,
        out: &mut Vec<Output>,
    ) -> Option<Result<(), Errno>> {
        if self.made_by(id, group) {
            return Some(Ok(())); // by a former daemon, which could not say so any more
        }
        let state = self.want_name(id, p, group, Mode::W, Intent::Excl, out)?;
        match state.dot {
            None => {
                if let Some(ino) = state.entry {
                    self.wait_settled(p, ino)?;
                }
                Some(Ok(()))
            }
            Some(dot) => {
                self.wait_for_release(p, group, &dot)?;
                Some(Err(Errno::EEXIST))
            }
        }
    }

    /// A dotlock of this mount is in the way: its end is worth a short wait. `Some(())`: it is there to stay.
    fn wait_for_release(&self, p: &mut Pending, group: &Group, dot: &Dotlock) -> Option<()> {
        let until = p.since + limits::LOCK_WAIT;
        if dot.session != self.session || self.clock.mono >= until {
            return Some(());
        }
        p.wait = Wait::Dot(group.clone(), until);
        None
    }

    /// Who made the dotlock of this name on this mount.
    #[must_use]
    pub fn dot_maker(&self, dir: Ino, name: &Name) -> Option<u32> {
        self.own_dots.get(&Group::of(dir, name)).map(|d| d.pid)
    }

    /// The owner of a dotlock: its maker, that one's parent or child, or, of lock helpers, who end at once, the next one
    /// that the same parent started.
    fn owns(&self, caller: Caller, dot: &Dotlock) -> bool {
        let kin = |a: u32, b: u32| a == b && a > 1;
        caller.pid == dot.pid
            || kin(caller.pid, dot.ppid)
            || kin(caller.ppid, dot.pid)
            || kin(caller.ppid, dot.ppid) && self.gone.contains_key(&dot.pid)
    }

    /// The kernel looks a name up before it makes it, and answers EEXIST itself: so a lookup waits as a create would.
    pub(crate) fn lookup_dot(
        &mut self,
        id: CallId,
        p: &mut Pending,
        dir: Ino,
        name: &Name,
        out: &mut Vec<Output>,
    ) -> Done {
        let group = Group::of(dir, name);
        if let Some(lost) = self.lost_dots.get(&(group.clone(), p.caller.pid)) {
            let attr = attr_of(lost); // O4
            self.dot_groups.insert(attr.ino, group);
            return Some(Ok(self.entry(p, attr)));
        }
        let Some(dot) = self.want_name(id, p, &group, Mode::W, Intent::Excl, out)?.dot else {
            return Some(Err(Errno::ENOENT));
        };
        if !self.owns(p.caller, &dot) {
            self.wait_for_release(p, &group, &dot)?;
        }
        let is_linked = dot.ino.0 & DOT_BIT == 0 && !self.dot_groups.contains_key(&dot.ino);
        if is_linked && dot.session == self.session {
            let attr = self.want_inode(id, p, dot.ino, Mode::R, Intent::Read, out)?;
            return Some(Ok(self.entry(p, attr))); // O5
        }
        let known = self
            .nodes
            .get(&dot.ino)
            .filter(|n| n.held.is_some())
            .and_then(|n| n.attr);
        if known.is_none() {
            self.dot_groups.insert(dot.ino, group);
        }
        Some(Ok(self.entry(p, known.unwrap_or_else(|| attr_of(&dot)))))
    }

    /// O5: the file is not there any more that the dotlock looked up was linked to. True: the lookup goes on without it.
    pub(crate) fn is_all_there_is(&mut self, call: &Call, errno: Errno) -> bool {
        let Call::Lookup { dir, name } = call else { return false };
        let group = Group::of(*dir, name);
        let dot = self.own_dots.get(&group).filter(|_| name.is_dotlock());
        let Some(ino) = dot.map(|dot| dot.ino) else {
            return false;
        };
        matches!(errno, Errno::ENOENT | Errno::ESTALE) && self.dot_groups.insert(ino, group).is_none()
    }

    #[allow(clippy::too_many_arguments)]
    pub(crate) fn create_dot(
        &mut self,
        id: CallId,
        p: &mut Pending,
        dir: Ino,
        name: &Name,
        mode: u32,
        excl: bool,
        out: &mut Vec<Output>,
    ) -> Done {
        let group = Group::of(dir, name);
        let dot = match self.dot_free(id, p, &group, out)? {
            Ok(()) if self.made_by(id, &group) => self.own_dots[&group].clone(),
            Ok(()) => self.make_dot(id, p, dir, name, mode, None),
            Err(errno) if excl => return Some(Err(errno)),
            Err(errno) => match self.own_dots.get(&group) {
                Some(dot) => dot.clone(),
                None => return Some(Err(errno)),
            },
        };
        let ttl = self.tell_dot();
        if let Some(lease) = self.names.get_mut(&group) {
            lease.dot_told = self.clock.mono;
        }
        let fh = self.new_handle(id, dot.ino, Kind::Dot(group));
        Some(Ok(Answer::Created {
            attr: attr_of(&dot),
            fh,
            dotlock: true,
            entry_ttl: ttl,
            attr_ttl: ttl,
        }))
    }

    pub(crate) fn link_dot(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        dir: Ino,
        name: &Name,
        out: &mut Vec<Output>,
    ) -> Done {
        if self.dot_groups.contains_key(&ino) {
            return Some(Err(Errno::EPERM));
        }
        let group = Group::of(dir, name);
        if let Err(errno) = self.dot_free(id, p, &group, out)? {
            return Some(Err(errno));
        }
        let attr = self.want_inode(id, p, ino, Mode::R, Intent::Read, out)?;
        if !self.made_by(id, &group) {
            self.make_dot(id, p, dir, name, attr.mode, Some(ino));
        }
        // link(2) shows nlink 2 at once: mutt, s-nail and liblockfile look (R6).
        Some(Ok(Answer::Entry {
            attr: self.shown(attr),
            entry_ttl: Nanos(0),
            attr_ttl: Nanos(0),
        }))
    }

    pub(crate) fn unlink_dot(
        &mut self,
        id: CallId,
        p: &mut Pending,
        dir: Ino,
        name: &Name,
        out: &mut Vec<Output>,
    ) -> Done {
        let group = Group::of(dir, name);
        if self.undo_loss(&group, p.caller.pid) {
            // O4
            return Some(Ok(Answer::Empty));
        }
        let state = self.want_name(id, p, &group, Mode::W, Intent::Unlock, out)?;
        if state.dot.is_none() {
            return Some(Err(Errno::ENOENT));
        }
        self.remove_dot(id, &group);
        Some(Ok(Answer::Empty))
    }

    /// O3.
    pub(crate) fn rename_dot(
        &mut self,
        id: CallId,
        p: &mut Pending,
        from: (Ino, &Name),
        to: (Ino, &Name),
        out: &mut Vec<Output>,
    ) -> Done {
        let group = Group::of(from.0, from.1);
        if let Some(reply) = p.reply.take() {
            return Some(reply.map(|attrs| {
                self.remove_dot(id, &group);
                self.name_is(to.0, to.1, attrs.first().map(|a| a.ino));
                Answer::Empty
            }));
        }
        let state = self.want_name(id, p, &group, Mode::W, Intent::Unlock, out)?;
        let Some(dot) = state.dot.filter(|d| d.session == self.session) else {
            return Some(Err(Errno::ENOENT));
        };
        if to.1.is_dotlock() {
            return Some(Err(Errno::EXDEV));
        }
        let op = Op::Put {
            dir: to.0,
            name: to.1.clone(),
            mode: dot.mode,
            uid: dot.uid,
            gid: dot.gid,
            content: Bytes::from(dot.content),
        };
        let seq = self.request(op, For::Call(id), out);
        p.wait = Wait::Request(seq);
        None
    }

    // ---- as files

    /// Attributes of an own dotlock that has an inode number of its own.
    pub(crate) fn dot_attr(&self, ino: Ino) -> Option<Attr> {
        let group = self.dot_groups.get(&ino)?;
        self.own_dots.get(group).filter(|d| d.ino == ino).map(attr_of)
    }

    /// Of another mount's: ask who has the name now.
    pub(crate) fn foreign_dot_attr(&mut self, id: CallId, p: &mut Pending, ino: Ino, out: &mut Vec<Output>) -> Done {
        let group = self.dot_groups.get(&ino)?.clone();
        let state = self.want_name(id, p, &group, Mode::R, Intent::Read, out)?;
        Some(match state.dot.filter(|d| d.ino == ino) {
            Some(dot) => Ok(Answer::Attr {
                attr: attr_of(&dot),
                ttl: Nanos(0),
            }),
            None => Err(Errno::ESTALE),
        })
    }

    pub(crate) fn read_dot(&self, group: &Group, offset: u64, len: u32) -> Answer {
        let dot = self
            .own_dots
            .get(group)
            .or_else(|| self.names.get(group).and_then(|l| l.dot.as_ref()));
        let content = dot.map_or(&[][..], |d| d.content.as_slice());
        let from = (offset as usize).min(content.len());
        let to = from.saturating_add(len as usize).min(content.len());
        Answer::Data(Bytes::copy_from_slice(&content[from..to]))
    }

    fn change_dot(&mut self, group: &Group, change: impl FnOnce(&mut Dotlock)) -> Result<Attr, Errno> {
        let now = self.clock.real;
        let dot = self.own_dots.get_mut(group).ok_or(Errno::ESTALE)?;
        change(dot);
        dot.ctime = dot.ctime.max(now);
        let dot = dot.clone();
        if let Some(lease) = self.names.get_mut(group) {
            lease.dot = Some(dot.clone());
        }
        self.keep_dot(group, CallId(0));
        Ok(attr_of(&dot))
    }

    pub(crate) fn write_dot(&mut self, group: &Group, offset: u64, data: &[u8]) -> Result<Answer, Errno> {
        let end = offset.saturating_add(data.len() as u64);
        if end > limits::DOTLOCK_BYTES_MAX as u64 {
            return Err(Errno::ENOSPC);
        }
        let now = self.clock.real;
        self.change_dot(group, |dot| {
            let (from, to) = (offset as usize, end as usize);
            if dot.content.len() < to {
                dot.content.resize(to, 0);
            }
            dot.content[from..to].copy_from_slice(data);
            dot.mtime = dot.mtime.max(now);
        })?;
        Ok(Answer::Written(data.len() as u32))
    }

    pub(crate) fn set_dot_attr(&mut self, ino: Ino, set: SetAttr, size: Option<u64>) -> Result<Answer, Errno> {
        let group = self.dot_groups.get(&ino).cloned().ok_or(Errno::ESTALE)?;
        if size.is_some_and(|s| s > limits::DOTLOCK_BYTES_MAX as u64) {
            return Err(Errno::ENOSPC);
        }
        let attr = self.change_dot(&group, |dot| {
            dot.mode = set.mode.unwrap_or(dot.mode);
            dot.uid = set.uid.unwrap_or(dot.uid);
            dot.gid = set.gid.unwrap_or(dot.gid);
            dot.mtime = set.mtime.unwrap_or(dot.mtime);
            if let Some(size) = size {
                dot.content.resize(size as usize, 0);
            }
        })?;
        Ok(Answer::Attr { attr, ttl: Nanos(0) })
    }

    /// O2: the maker was killed by a signal.
    pub(crate) fn disown_dots(&mut self, pid: u32) {
        let disowned: Vec<Group> = self
            .own_dots
            .iter_mut()
            .filter(|(_, d)| d.pid == pid)
            .map(|(group, dot)| {
                dot.ppid = 0;
                group.clone()
            })
            .collect();
        for group in disowned {
            self.keep_dot(&group, CallId(0));
        }
    }

    /// O2.
    pub(crate) fn reap_dotlocks(&mut self, out: &mut Vec<Output>) {
        if !self.link.confirmed || Bug::DotlockNotReaped.here() {
            return; // claimed for the next view already, whose answer would bring it back
        }
        let now = self.clock.mono;
        let gone = |pid: u32| pid <= 1 || self.gone.get(&pid).is_some_and(|t| now >= *t + limits::DOTLOCK_ORPHAN);
        let known = |d: &Dotlock| d.pid > 1;
        let dead: Vec<(Group, Name, u32)> = self
            .own_dots
            .iter()
            .filter(|(_, d)| known(d) && gone(d.pid) && gone(d.ppid))
            .map(|(g, d)| (g.clone(), d.name.clone(), d.pid))
            .collect();
        for (group, name, pid) in dead {
            Self::event(Event::DotlockReaped { name, pid }, out);
            self.remove_dot(CallId(0), &group);
            // Under another mount's lease the entry would live on: ask for it, which takes it out (`lease::install`).
            if self.names.get(&group).is_none_or(|l| l.held.mode < Mode::W) {
                self.reap_elsewhere(&group, out);
            }
        }
        self.lost_dots.retain(|_, d| !self.gone.contains_key(&d.pid));
        let dots = self.own_dots.values().chain(self.lost_dots.values());
        let live: Vec<u32> = dots.flat_map(|d| [d.pid, d.ppid]).collect();
        self.gone.retain(|pid, _| live.contains(pid));
    }

    /// The dotlock's entry is in a table elsewhere: an unlink as the process itself would have done it.
    fn reap_elsewhere(&mut self, group: &Group, out: &mut Vec<Output>) {
        let mut name = group.stem.as_bytes().to_vec();
        name.extend_from_slice(b".lock");
        if let Ok(name) = Name::new(&name) {
            // No kernel call has this number: the driver counts up from 1.
            let id = CallId(u64::MAX - u64::from(self.dots_made) - self.calls.len() as u64);
            let call = Call::Unlink { dir: group.dir, name };
            let caller = Caller::default();
            self.calls.insert(id, Pending::new(caller, call, self.clock.mono));
            self.attempt(id, out);
        }
    }
}
