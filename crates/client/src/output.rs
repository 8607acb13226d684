//! What the brain of a mount wants done.
//!
//! Promises: outputs are carried out in the order given, except that answers to the kernel may overtake the rest.
//! Not here: doing them (`mount::driver`).

use crate::input::{CallId, Fh};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Attr, Errno, HeldLock, Ino, Kind, Name, Nanos,
    call::{Space, ToBrick},
};

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Answer the kernel.
    Done {
        /// Which call.
        id: CallId,
        /// The answer.
        result: Result<Answer, Errno>,
    },
    /// Open a stream to this brick (`host:port`); say `Input::Connected` or `Input::Disconnected`. Drops the one before.
    Connect {
        /// Where.
        address: String,
    },
    /// Drop the stream.
    Disconnect,
    /// Say this to the brick.
    Send(ToBrick),
    /// The kernel must forget the attributes of this inode. Carried out before what follows.
    Invalidate {
        /// Which.
        ino: Ino,
    },
    /// Raise IN_MODIFY for those who watch this file: a truncate to its own size through the mount, from a thread of its
    /// own. The brain ignores it when it comes back as a call.
    Poke {
        /// Path from the mount point.
        path: Vec<Name>,
    },
    /// The volume will never be served (`Attached::Refused`): before it was mounted, print this and exit.
    Refused {
        /// One line.
        why: String,
    },
    /// The volume is served: mounting may be reported as done.
    Ready,
    /// Shutdown is complete.
    Finished,
    /// For the log.
    Event(Event),
}

/// Answers to the kernel.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Nothing more to say.
    Empty,
    /// A name was found or made.
    Entry {
        /// What it names.
        attr: Attr,
        /// The kernel may keep the name this long.
        entry_ttl: Nanos,
        /// The kernel may keep the attributes this long.
        attr_ttl: Nanos,
    },
    /// Attributes.
    Attr {
        /// They.
        attr: Attr,
        /// The kernel may keep them this long.
        ttl: Nanos,
    },
    /// A file or directory is open.
    Opened {
        /// Its handle.
        fh: Fh,
        /// A dotlock: close need not be told (FOPEN_NOFLUSH).
        dotlock: bool,
    },
    /// A file was made and is open.
    Created {
        /// The file.
        attr: Attr,
        /// Its handle.
        fh: Fh,
        /// A dotlock: close need not be told (FOPEN_NOFLUSH).
        dotlock: bool,
        /// The kernel may keep the name this long.
        entry_ttl: Nanos,
        /// The kernel may keep the attributes this long.
        attr_ttl: Nanos,
    },
    /// Bytes.
    Data(Bytes),
    /// So many bytes were written.
    Written(u32),
    /// Names in a directory, each with the offset to go on from.
    Entries(Vec<Listed>),
    /// Attribute names.
    Names(Vec<Vec<u8>>),
    /// Space of the volume.
    Space(Space),
    /// A lock in the way.
    Lock(Option<HeldLock>),
}

/// A line of a directory listing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Inode.
    pub ino: Ino,
    /// Offset to go on after this entry.
    pub offset: u64,
    /// What it is.
    pub kind: Kind,
    /// Name; `.` and `..` included.
    pub name: Vec<u8>,
}

/// Events for the log and for counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Attached to this brick.
    Attached {
        /// Where.
        address: String,
    },
    /// Lost the brick.
    Lost,
    /// These calls had no answer within `limits::OP_TIMEOUT` though the brick was there; they answer ESTALE.
    Unanswered {
        /// How many.
        calls: usize,
        /// One of them was a change: the session, which may still make it, is given up.
        session: bool,
    },
    /// The session was expired; locks and staged writes are gone, handles that had any answer ESTALE.
    Expired {
        /// Handles that are dead.
        dead_handles: usize,
    },
    /// A dotlock was removed because its maker and that one's parent are gone.
    DotlockReaped {
        /// Its name.
        name: Name,
        /// The pid that made it.
        pid: u32,
    },
    /// A lock session was dropped because its process was killed in it.
    SessionDropped {
        /// The file.
        ino: Ino,
    },
    /// A lock session grew over the limit and was committed in pieces.
    SessionSplit {
        /// The file.
        ino: Ino,
    },
}
