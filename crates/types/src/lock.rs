//! Locks: byte ranges, their owners, and dotlocks.
//!
//! Promises: a [`Range`] is not empty. Two locks conflict exactly when `fcntl(2)` says so.
//! Not here: lock tables and waiting (`client`), which lease guards them (`brick`).

use crate::{Ino, Name, SessionId, Timestamp};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Bytes `start..=end` of a file; `end` is `u64::MAX` for "to the end, however far it grows".
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// Last byte, not below `start`.
    pub end: u64,
}

impl Range {
    /// The whole file.
    pub const ALL: Self = Self {
        start: 0,
        end: u64::MAX,
    };

    /// Do the two share a byte?
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start <= other.end && other.start <= self.end
    }
}

/// Shared or exclusive.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum LockKind {
    /// `F_RDLCK`, `LOCK_SH`.
    Shared,
    /// `F_WRLCK`, `LOCK_EX`.
    Exclusive,
}

/// Who owns a lock: a mount and the kernel's owner number in it (for fcntl the process's file table, for flock the open
/// file). The FUSE library does not tell the two apart, and neither do we: flock is a lock of the whole file, as in NFS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Owner {
    /// The mount.
    pub session: SessionId,
    /// The kernel's number.
    pub id: u64,
}

/// A lock that is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct HeldLock {
    /// Whose it is.
    pub owner: Owner,
    /// Which bytes.
    pub range: Range,
    /// Shared or exclusive.
    pub kind: LockKind,
    /// Process that took it, for `F_GETLK` and operators; a number of the owner's host.
    pub pid: u32,
}

impl HeldLock {
    /// Would `owner` taking `kind` on `range` have to wait for this lock?
    #[must_use]
    pub fn conflicts(&self, owner: Owner, range: Range, kind: LockKind) -> bool {
        self.owner != owner
            && self.range.overlaps(range)
            && (self.kind == LockKind::Exclusive || kind == LockKind::Exclusive)
    }
}

/// A dotlock: an entry of the lock table that looks like a file and goes with its owner (law L7).
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Dotlock {
    /// Mount on which it was made.
    pub session: SessionId,
    /// The name, `M.lock`.
    pub name: Name,
    /// Inode number that stat shows: its own, or that of the temporary file that link(2) gave the name to.
    pub ino: Ino,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Process that made it, on its own host.
    pub pid: u32,
    /// Parent of that process: lock helpers exit at once, and the lock belongs to the one who called them.
    pub ppid: u32,
    /// Content, `PID:HOST` as a rule; at most `limits::DOTLOCK_BYTES_MAX`.
    pub content: Vec<u8>,
    /// When it was made.
    pub ctime: Timestamp,
    /// Last write or utimens.
    pub mtime: Timestamp,
}
