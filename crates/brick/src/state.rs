//! The replicated state: names, inodes, sessions. A pure function of the committed records.
//!
//! S1  Same snapshot, same records: same state, same replies, same effects, on either brick.
//! S2  A request is executed at most once; asked again it gets its first answer (`sessions`).
//! S3  A refused request changes nothing, neither here nor on disk.
//! S4  An inode without a name stays until no session that may have it open is left.
//!
//! Not here: leases, order, what is committed (`arbiter`, `replicate`); file content (`store` has it, effects carry it).

mod exec;
mod inode;
mod names;

pub(crate) use exec::Outcome;
pub(crate) use inode::{Data, Inode};

use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use mboxfs_types::{
    Attr, BrickId, Errno, Group, Ino, Key, Name, SessionId,
    call::{DirEntry, Extent, Op},
    limits,
    planted::Bug,
};
use serde::{Deserialize, Serialize};

/// Expired sessions remembered, so that a late mount learns that it is over and does not begin anew by mistake.
const EXPIRED_MAX: usize = 1024;

/// One mount, as both bricks know it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) host: String,
    pub(crate) brick: BrickId,
    /// Replies below this are forgotten: the mount has them.
    pub(crate) acked: u64,
    pub(crate) replies: BTreeMap<u64, Result<Vec<Attr>, Errno>>,
}

/// The whole of it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    /// Last executed record.
    pub(crate) applied: u64,
    /// Last executed record that changed what users see.
    pub(crate) last_change: u64,
    inodes: BTreeMap<Ino, Inode>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    expired: Vec<SessionId>,
    staged: BTreeMap<(SessionId, Ino), Vec<Extent>>,
    /// Objects of the other line of history that were merged into this one. Until that line is given up.
    pub(crate) merged: BTreeMap<Ino, Merged>,
}

/// An object of the other line was merged. That of [`State::MERGE`] stands for the last merge that was begun: its `version` is
/// the position of that line then.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Merged {
    /// In this version of that line.
    pub(crate) version: u64,
    /// Names and attributes as of this position of that line; 0: not yet.
    pub(crate) at: u64,
    /// By this record of this one.
    pub(crate) by: u64,
}

/// What is known of a request before it is numbered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// Executed: this was the reply.
    Done(Result<Vec<Attr>, Errno>),
    /// Not executed.
    New,
    /// The session is not known (any more).
    NoSession,
}

impl State {
    /// No object has this number.
    pub(crate) const MERGE: Ino = Ino(0);

    /// An empty volume: a root directory like Debian's /var/mail.
    pub(crate) fn new() -> Self {
        let mut inodes = BTreeMap::new();
        inodes.insert(Ino::ROOT, Inode::root());
        Self {
            applied: 0,
            last_change: 0,
            inodes,
            sessions: BTreeMap::new(),
            expired: Vec::new(),
            staged: BTreeMap::new(),
            merged: BTreeMap::new(),
        }
    }

    pub(crate) fn inodes(&self) -> impl Iterator<Item = (&Ino, &Inode)> {
        self.inodes.iter()
    }

    pub(crate) fn inodes_from(&self, first: Ino) -> impl Iterator<Item = (&Ino, &Inode)> {
        self.inodes.range(first..)
    }

    pub(crate) fn inode(&self, ino: Ino) -> Result<&Inode, Errno> {
        self.inodes.get(&ino).ok_or(Errno::ESTALE)
    }

    pub(crate) fn inode_count(&self) -> u64 {
        self.inodes.len() as u64
    }

    pub(crate) fn attr(&self, ino: Ino) -> Result<Attr, Errno> {
        Ok(self.inode(ino)?.attr(ino))
    }

    pub(crate) fn lookup(&self, dir: Ino, name: &Name) -> Result<Option<Ino>, Errno> {
        Ok(self.inode(dir)?.entries()?.get(name).copied())
    }

    pub(crate) fn is_expired(&self, session: SessionId) -> bool {
        self.expired.contains(&session)
    }

    /// Has this request been executed? (S2)
    pub(crate) fn seen(&self, session: SessionId, seq: u64) -> Seen {
        match self.sessions.get(&session) {
            None => Seen::NoSession,
            Some(_) if Bug::RetriedTwice.here() => Seen::New,
            Some(s) if seq < s.acked => Seen::Done(Err(Errno::ESTALE)),
            Some(s) => s.replies.get(&seq).map_or(Seen::New, |r| Seen::Done(r.clone())),
        }
    }

    /// Did a request of this session make the file what it is, this one or a later one?
    pub(crate) fn made_by(&self, session: SessionId, from: u64, file: &Attr) -> bool {
        let made = |attr: &Attr| (attr.ino, attr.version) == (file.ino, file.version);
        file.writer == Some(session)
            && self.sessions.get(&session).is_some_and(|s| {
                let mut replies = s.replies.range(from..);
                replies.any(|(_, reply)| reply.as_ref().is_ok_and(|attrs| attrs.iter().any(made)))
            })
    }

    /// The keys that nobody else may hold a lease on while `op` executes: everything whose answer it changes.
    pub(crate) fn keys(&self, op: &Op) -> BTreeSet<Key> {
        let mut keys = BTreeSet::new();
        let name_in = |dir: Ino, name: &Name, keys: &mut BTreeSet<Key>| {
            keys.insert(Key::Name(Group::of(dir, name)));
            keys.insert(Key::Inode(dir));
            if let Ok(Some(ino)) = self.lookup(dir, name) {
                keys.insert(Key::Inode(ino));
            }
        };
        for (dir, name) in op.takes().into_iter().chain(op.gives()) {
            name_in(dir, name, &mut keys);
        }
        if let Op::Commit { ino, .. }
        | Op::SetAttr { ino, .. }
        | Op::SetXattr { ino, .. }
        | Op::RemoveXattr { ino, .. }
        | Op::Link { ino, .. } = op
        {
            keys.insert(Key::Inode(*ino));
        }
        keys
    }

    /// Names of `dir` after `after`, and whether these are all.
    pub(crate) fn read_dir(&self, dir: Ino, after: Option<&Name>) -> Result<(Vec<DirEntry>, bool), Errno> {
        use core::ops::Bound::{Excluded, Unbounded};
        let entries = self.inode(dir)?.entries()?;
        let mut rest = entries.range((after.map_or(Unbounded, Excluded), Unbounded));
        let mut found = Vec::new();
        for (name, ino) in rest.by_ref().take(limits::DIR_ENTRIES_MAX) {
            found.push(DirEntry {
                name: name.clone(),
                ino: *ino,
                kind: self.inode(*ino)?.kind(),
            });
        }
        let end = rest.next().is_none();
        Ok((found, end))
    }

    /// A path from the root to `ino`, if its last known name still stands.
    pub(crate) fn path(&self, ino: Ino) -> Option<Vec<Name>> {
        let mut path = Vec::new();
        let mut at = ino;
        while at != Ino::ROOT {
            let (dir, name) = self.inodes.get(&at)?.home.clone()?;
            if path.len() > 256 {
                return None;
            }
            path.push(name);
            at = dir;
        }
        path.reverse();
        Some(path)
    }

    /// S4, and that names and links agree.
    pub(crate) fn check(&self) {
        let mut links: BTreeMap<Ino, u32> = BTreeMap::new();
        for inode in self.inodes.values() {
            if let Data::Dir { entries, .. } = &inode.data {
                for child in entries.values() {
                    assert!(self.inodes.contains_key(child), "dangling name");
                    *links.entry(*child).or_default() += 1;
                }
            }
        }
        for (ino, inode) in &self.inodes {
            if inode.kind() != mboxfs_types::Kind::Dir {
                assert_eq!(inode.nlink, links.get(ino).copied().unwrap_or(0), "nlink of {ino}");
                assert_eq!(inode.nlink == 0, inode.orphan.is_some(), "S4: orphan state of {ino}");
            }
        }
    }
}
