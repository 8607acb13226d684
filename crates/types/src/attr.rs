//! Attributes of an inode, as `stat(2)` shows them.
//!
//! Promises: an [`Attr`] is a value, valid at the moment that the lease protocol gave it for (law L3).
//! Not here: block counts and device numbers, which the mount makes up.

use crate::{Ino, SessionId, Timestamp};
use serde::{Deserialize, Serialize};

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file, a mailbox as a rule.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
}

/// Attributes of one inode.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 0 to 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names that point here; 0 for a file that was removed and is still open.
    pub nlink: u32,
    /// Bytes; length of the target for a symbolic link, 4096 for a directory.
    pub size: u64,
    /// Last read, as far as known (soft state).
    pub atime: Timestamp,
    /// Last change of content.
    pub mtime: Timestamp,
    /// Last change of content or attributes by a user; never moved by replication or heal.
    pub ctime: Timestamp,
    /// Log position of the last change of content.
    pub version: u64,
    /// Session of the last change of content: when another one writes, mtime moves by a whole second (MAIL.md R10).
    pub writer: Option<SessionId>,
}
