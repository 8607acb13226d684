//! What comes into the brain of a mount: calls of the kernel, words of the brick, time.
//!
//! Promises: everything that the brain knows of the world is in here.
//! Not here: FUSE numbers and structures (`mount`).

use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{Ino, LockKind, Name, Nanos, Range, Timestamp, call::SetAttr, call::ToMount};

/// Both clocks at the moment of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// Monotonic (CLOCK_BOOTTIME).
    pub mono: Nanos,
    /// Wall clock.
    pub real: Timestamp,
}

/// Number of a kernel call that waits for an answer; chosen by the driver, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct CallId(pub u64);

/// Number of an open file or directory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Fh(pub u64);

/// Who calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Thread or process, in the pid namespace of the mount daemon; 0 if unknown.
    pub pid: u32,
    /// The thread itself, whatever `pid` is; 0 if unknown. It has no two calls under way.
    pub thread: u32,
    /// Its parent, 0 if unknown. Only looked up for calls on dotlocks. Of a FLUSH: [`KILLED`] or 0.
    pub ppid: u32,
}

/// `Caller::ppid` of a FLUSH by a process that a signal kills.
pub const KILLED: u32 = u32::MAX;

/// How a file is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// `O_APPEND`: each write goes to the end, whatever offset the kernel sends (law L4).
    pub append: bool,
    /// `O_TRUNC`.
    pub truncate: bool,
    /// `O_SYNC` or `O_DSYNC`.
    pub sync: bool,
}

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// The kernel asks. Answered once by `Output::Done` (except [`Call::Forget`]).
    Call {
        /// Number for the answer.
        id: CallId,
        /// Who asks.
        caller: Caller,
        /// What.
        call: Call,
    },
    /// A signal is pending for the process that waits in this call: answer EINTR if it still waits for a lock.
    Interrupt(CallId),
    /// The stream asked for by `Output::Connect` is up.
    Connected,
    /// It could not be had, or broke.
    Disconnected,
    /// The brick says.
    Frame(ToMount),
    /// This process, watched since `Client::watched` named it, does not exist any more.
    Gone {
        /// Its pid.
        pid: u32,
    },
    /// Time has passed.
    Tick,
    /// The volume is being unmounted: commit what is staged, detach, say `Output::Finished`.
    Shutdown,
}

/// What the kernel asks.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Call {
    /// `Answer::Entry` or ENOENT.
    Lookup { dir: Ino, name: Name },
    /// `Answer::Entry` of the parent of a directory (`..`).
    LookupParent { ino: Ino },
    /// The kernel forgets so many lookups. Has no answer.
    Forget { ino: Ino, count: u64 },
    /// `Answer::Attr`.
    GetAttr { ino: Ino },
    /// `Answer::Attr`. `own`: made by the mount daemon itself to raise an inotify event; changes nothing.
    SetAttr {
        ino: Ino,
        fh: Option<Fh>,
        set: SetAttr,
        size: Option<u64>,
        own: bool,
    },
    /// `Answer::Data`.
    ReadLink { ino: Ino },
    /// `Answer::Entry`.
    Mkdir { dir: Ino, name: Name, mode: u32 },
    /// `Answer::Entry`.
    Symlink { dir: Ino, name: Name, target: Vec<u8> },
    /// `Answer::Entry`.
    Link { ino: Ino, dir: Ino, name: Name },
    /// `Answer::Empty`.
    Unlink { dir: Ino, name: Name },
    /// `Answer::Empty`.
    Rmdir { dir: Ino, name: Name },
    /// `Answer::Empty`.
    Rename {
        dir: Ino,
        name: Name,
        to_dir: Ino,
        to_name: Name,
        noreplace: bool,
    },
    /// `Answer::Opened`.
    Open { ino: Ino, flags: OpenFlags },
    /// `Answer::Created`.
    Create {
        dir: Ino,
        name: Name,
        mode: u32,
        flags: OpenFlags,
        excl: bool,
    },
    /// `Answer::Entry`: mknod of a regular file.
    Mknod { dir: Ino, name: Name, mode: u32 },
    /// `Answer::Data`.
    Read { ino: Ino, fh: Fh, offset: u64, len: u32 },
    /// `Answer::Written`.
    Write { ino: Ino, fh: Fh, offset: u64, data: Bytes },
    /// `Answer::Empty`. Each close(2): releases the POSIX locks of `owner`.
    Flush { ino: Ino, fh: Fh, owner: u64 },
    /// `Answer::Empty`. Last close. `flock`: release the flock locks of this owner.
    Release { ino: Ino, fh: Fh, flock: Option<u64> },
    /// `Answer::Empty`.
    Fsync { ino: Ino, fh: Fh },
    /// `Answer::Opened`.
    OpenDir { ino: Ino },
    /// `Answer::Entries`: names after `offset` (0 at the start, else that of the last entry seen).
    ReadDir { ino: Ino, fh: Fh, offset: u64 },
    /// `Answer::Empty`.
    ReleaseDir { fh: Fh },
    /// `Answer::Space`.
    StatFs,
    /// `Answer::Empty`.
    SetXattr {
        ino: Ino,
        name: Vec<u8>,
        value: Vec<u8>,
        create: bool,
        replace: bool,
    },
    /// `Answer::Data`, or ENODATA.
    GetXattr { ino: Ino, name: Vec<u8> },
    /// `Answer::Names`.
    ListXattr { ino: Ino },
    /// `Answer::Empty`.
    RemoveXattr { ino: Ino, name: Vec<u8> },
    /// `Answer::Lock`: the lock in the way, if any.
    GetLock {
        ino: Ino,
        owner: u64,
        range: Range,
        kind: LockKind,
    },
    /// `Answer::Empty`; EAGAIN when it conflicts and `wait` is not set. `kind` none unlocks.
    SetLock {
        ino: Ino,
        owner: u64,
        range: Range,
        kind: Option<LockKind>,
        wait: bool,
    },
}

impl Call {
    /// What FUSE calls it, in small letters.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Lookup { .. } | Self::LookupParent { .. } => "lookup",
            Self::Forget { .. } => "forget",
            Self::GetAttr { .. } => "getattr",
            Self::SetAttr { .. } => "setattr",
            Self::ReadLink { .. } => "readlink",
            Self::Mkdir { .. } => "mkdir",
            Self::Symlink { .. } => "symlink",
            Self::Link { .. } => "link",
            Self::Unlink { .. } => "unlink",
            Self::Rmdir { .. } => "rmdir",
            Self::Rename { .. } => "rename",
            Self::Open { .. } => "open",
            Self::Create { .. } => "create",
            Self::Mknod { .. } => "mknod",
            Self::Read { .. } => "read",
            Self::Write { .. } => "write",
            Self::Flush { .. } => "flush",
            Self::Release { .. } => "release",
            Self::Fsync { .. } => "fsync",
            Self::OpenDir { .. } => "opendir",
            Self::ReadDir { .. } => "readdir",
            Self::ReleaseDir { .. } => "releasedir",
            Self::StatFs => "statfs",
            Self::SetXattr { .. } => "setxattr",
            Self::GetXattr { .. } => "getxattr",
            Self::ListXattr { .. } => "listxattr",
            Self::RemoveXattr { .. } => "removexattr",
            Self::GetLock { .. } => "getlk",
            Self::SetLock { .. } => "setlk",
        }
    }
}

/// How a mount begins.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Name of the volume.
    pub volume: String,
    /// Stable id of this mount point on this host.
    pub client: [u8; 16],
    /// Random, new at each start.
    pub nonce: u64,
    /// `host:port` of bricks to try, the preferred one first. More are learnt from the volume.
    pub bricks: Vec<String>,
    /// Addresses (without port) that are this host's own: a brick at one of them is preferred.
    pub local: Vec<String>,
}
