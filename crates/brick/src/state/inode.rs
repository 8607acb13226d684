//! One inode of the replicated state.
//!
//! Promises: `attr` is what stat(2) shows on both nodes once the change that made it is committed.
//! Not here: content, extended attributes (on disk only).

use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use mboxfs_types::{Attr, Errno, Ino, Kind, Name, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// An inode.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) struct Inode {
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) nlink: u32,
    pub(crate) size: u64,
    pub(crate) atime: Timestamp,
    pub(crate) mtime: Timestamp,
    pub(crate) ctime: Timestamp,
    pub(crate) version: u64,
    pub(crate) writer: Option<SessionId>,
    /// One of its names; none when that one was removed.
    pub(crate) home: Option<(Ino, Name)>,
    /// Without a name: the sessions that may still have it open.
    pub(crate) orphan: Option<BTreeSet<SessionId>>,
    pub(crate) data: Data,
}

/// What differs by kind.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub(crate) enum Data {
    File,
    Symlink { target: Vec<u8> },
    Dir { parent: Ino, entries: BTreeMap<Name, Ino> },
}

impl Inode {
    pub(crate) fn new(data: Data, mode: u32, uid: u32, gid: u32, time: Timestamp, home: (Ino, Name)) -> Self {
        let (nlink, size) = match &data {
            Data::File => (1, 0),
            Data::Symlink { target } => (1, target.len() as u64),
            Data::Dir { .. } => (2, 4096),
        };
        Self {
            mode,
            uid,
            gid,
            nlink,
            size,
            atime: time,
            mtime: time,
            ctime: time,
            version: 0,
            writer: None,
            home: Some(home),
            orphan: None,
            data,
        }
    }

    /// The root: 2775 root:mail is what Debian makes of /var/mail; the group is set by the operator's chown.
    pub(crate) fn root() -> Self {
        Self {
            mode: 0o2775,
            uid: 0,
            gid: 8,
            nlink: 2,
            size: 4096,
            atime: Timestamp::default(),
            mtime: Timestamp::default(),
            ctime: Timestamp::default(),
            version: 0,
            writer: None,
            home: None,
            orphan: None,
            data: Data::Dir {
                parent: Ino::ROOT,
                entries: BTreeMap::new(),
            },
        }
    }

    pub(crate) const fn kind(&self) -> Kind {
        match self.data {
            Data::File => Kind::File,
            Data::Symlink { .. } => Kind::Symlink,
            Data::Dir { .. } => Kind::Dir,
        }
    }

    pub(crate) const fn attr(&self, ino: Ino) -> Attr {
        Attr {
            ino,
            kind: self.kind(),
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            nlink: self.nlink,
            size: self.size,
            atime: self.atime,
            mtime: self.mtime,
            ctime: self.ctime,
            version: self.version,
            writer: self.writer,
        }
    }

    pub(crate) const fn entries(&self) -> Result<&BTreeMap<Name, Ino>, Errno> {
        match &self.data {
            Data::Dir { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }

    pub(crate) const fn entries_mut(&mut self) -> Result<&mut BTreeMap<Name, Ino>, Errno> {
        match &mut self.data {
            Data::Dir { entries, .. } => Ok(entries),
            _ => Err(Errno::ENOTDIR),
        }
    }
}
