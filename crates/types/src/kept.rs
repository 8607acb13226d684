//! What a mount daemon leaves to the one that takes its place, while the mount and its programs stay.
//!
//! Promises: the words said so far, in order, give a successor whatever the kernel, a program or a brick was told and
//! counts on: open files, locks, dotlocks, staged bytes, requests that a brick may have. What a later word says of the
//! same thing replaces what an earlier one said.
//! Not here: what follows from them (`client`), where they are kept (`mount`).

use crate::{
    Attr, Dotlock, Group, HeldLock, Ino, SessionId, Timestamp,
    call::{Extent, Request, View},
};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Raised when a successor could not read an older daemon's words; it then begins a session of its own.
pub const KEPT_VERSION: u32 = 1;

/// One thing to remember.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Kept {
    /// The session, before the brick hears of it.
    Session {
        /// Which.
        session: SessionId,
        /// `Attach::fresh` of the next attachment.
        fresh: bool,
        /// `Reclaim::from` of the next attachment.
        from: View,
        /// The last attachment.
        attach_no: u64,
        /// The next request's number is not below this.
        next_seq: u64,
        /// Where the bricks are (`host:port`), in the order in which they are tried.
        bricks: Vec<String>,
    },
    /// A file or directory is open.
    Open {
        /// Its handle.
        fh: u64,
        /// What it is open on.
        ino: Ino,
        /// As what.
        what: Opened,
        /// It never writes again.
        dead: bool,
        /// Bytes written through it were lost, and nobody was told yet.
        lost: bool,
        /// The kernel's number of the call that opened it; asked again, that call opens it anew.
        call: u64,
    },
    /// It is closed.
    Closed {
        /// Its handle.
        fh: u64,
    },
    /// All locks that processes of this mount have on a file.
    Locks {
        /// The file.
        ino: Ino,
        /// None: an empty list.
        locks: Vec<HeldLock>,
    },
    /// A dotlock is there, or is no more.
    Dot {
        /// The names it belongs to.
        group: Group,
        /// As it is now.
        dot: Option<Dotlock>,
        /// The kernel's number of the call that made or removed it.
        call: u64,
    },
    /// All that is staged for a file.
    Staged {
        /// The file.
        ino: Ino,
        /// Its committed attributes, valid while the session's lease stands.
        attr: Option<Attr>,
        /// None: nothing any more.
        overlay: Option<Overlay>,
    },
    /// More of it.
    Wrote {
        /// The file.
        ino: Ino,
        /// Through this handle.
        fh: u64,
        /// Which bytes, where.
        extent: Extent,
        /// The file's time of the last write, as staged.
        mtime: Timestamp,
    },
    /// A write is staged, and its caller does not know it yet; asked again, it is not staged twice.
    Written {
        /// The kernel's number of the call.
        call: u64,
    },
    /// The last name of an open file is gone.
    Orphan {
        /// The file.
        ino: Ino,
    },
    /// Said to a brick, or about to be.
    Asked {
        /// The request, whole: said again, it must be the same.
        request: Request,
        /// For whom.
        whose: Whose,
    },
    /// The reply came, and who waited for it has it.
    Answered {
        /// `Request::seq`.
        seq: u64,
    },
    /// A dotlock was lost, and its maker thinks that it is there.
    Lost {
        /// Its group.
        group: Group,
        /// Its maker.
        pid: u32,
        /// The dotlock; none: the maker has removed it.
        dot: Option<Dotlock>,
    },
}

/// As what a file is open.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Opened {
    /// A file.
    File {
        /// `O_APPEND`.
        append: bool,
        /// `O_SYNC` or `O_DSYNC`.
        sync: bool,
    },
    /// A dotlock.
    Dot(Group),
    /// A directory.
    Dir,
}

/// Who waits for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Whose {
    /// The kernel's call of this number.
    Call(u64),
    /// The commit of this file.
    Commit(Ino),
    /// Nobody.
    Nobody,
}

/// What a lock session has written and not committed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Overlay {
    /// Size of the committed file.
    pub base: u64,
    /// The smallest size that the file had since.
    pub cut: u64,
    /// Size now.
    pub size: u64,
    /// Bytes by offset, without overlap.
    pub pieces: Vec<(u64, Bytes)>,
    /// Time of the last write, or the one set.
    pub mtime: Timestamp,
    /// Set by utimens.
    pub atime: Option<Timestamp>,
    /// Times were set.
    pub times_set: bool,
    /// Handles that wrote.
    pub writers: Vec<u64>,
}
