//! The conversation between a mount and a brick: one ordered stream each way.
//!
//! Promises
//! C1  The mount is the redo log: it keeps each [`Request`] until its [`Reply`] came, and sends it again, with the same
//!     `seq`, to whichever brick it is attached to. A reply means: durable on both bricks, or on the one that goes on alone.
//! C2  Locks live in the mount that owns them; a lock table is the union of what the mounts say ([`Reclaim`]).
//! C3  A lease that was given up is gone: everything changed under it was acknowledged before [`Answer`] was sent.
//!
//! Not here: the bytes on the wire (`rpc`), who answers what (`client`, `brick`).

use crate::{
    Attr, BrickId, Dotlock, Errno, GenId, Group, HeldLock, Ino, Key, LockKind, Name, Nanos, Owner, Range, SessionId,
    Timestamp,
};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a mount says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToBrick {
    /// First message of a stream.
    Attach(Attach),
    /// Change something.
    Request(Request),
    /// Give me a lease, or one answer without it.
    Lease(LeaseRequest),
    /// I no longer wait for that lease. It may have been granted meanwhile.
    Cancel {
        /// `LeaseRequest::req`.
        req: u64,
    },
    /// What I do about a recall.
    Answer(Answer),
    /// After [`ToMount::View`]: what I hold.
    Reclaim(Reclaim),
    /// Read something.
    Query {
        /// The mount's own number for the answer.
        id: u64,
        /// What.
        query: Query,
    },
    /// Are you there, and how long may I serve from leases?
    Ping {
        /// The mount's clock.
        sent: Nanos,
    },
    /// The mount ends, or moves to the other brick.
    Detach {
        /// It ends: its session may be expired at once.
        end: bool,
    },
}

/// What a brick says.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToMount {
    /// Answer to [`ToBrick::Attach`].
    Attached(Attached),
    /// A new view began: send [`ToBrick::Reclaim`] and then again whatever has no answer. Until the view is confirmed by
    /// [`ToMount::Reclaimed`] nothing may be served from leases.
    View {
        /// Generation and view.
        view: View,
        /// Both bricks work in it. If not, there is no use in trying the other one.
        together: bool,
    },
    /// The reclaimed leases that stand, and the lock tables that go with them. All others are void.
    Reclaimed(Reclaimed),
    /// Answer to a request.
    Reply(Reply),
    /// Answer to a lease request.
    Granted(Granted),
    /// Another one wants that key.
    Recall(Recall),
    /// Answer to a query.
    Found {
        /// `ToBrick::Query::id`.
        id: u64,
        /// The answer.
        result: Result<Found, Errno>,
    },
    /// Answer to a ping.
    Pong {
        /// As sent.
        sent: Nanos,
        /// From `sent` on the mount may serve from leases this long; 0 when the brick may not.
        serve: Nanos,
    },
    /// Content changed by another mount: wake those who watch the file. Never needed for correctness.
    Changed {
        /// The file.
        ino: Ino,
        /// A path to it from the root of the volume.
        path: Vec<Name>,
    },
    /// The last name of this file went: say [`Op::Free`] as soon as no handle is open.
    Orphaned {
        /// The file.
        ino: Ino,
    },
    /// That session is no more; its locks are gone.
    SessionGone {
        /// Which.
        session: SessionId,
    },
}

/// A view: a span of time in which the primary did not change.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct View {
    /// Generation.
    pub g: GenId,
    /// View in it.
    pub v: u32,
}

/// First message of a mount's stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Attach {
    /// `limits::PROTOCOL_VERSION` of the mount.
    pub protocol: u32,
    /// Name of the volume.
    pub volume: String,
    /// Session to begin or to go on with.
    pub session: SessionId,
    /// Counts the attachments of the session, so that late frames of an older one are told apart.
    pub attach_no: u64,
    /// Begin: the session is not known yet.
    pub fresh: bool,
}

/// What became of an [`Attach`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Attached {
    /// Go on; a [`ToMount::View`] follows.
    Ok {
        /// The brick that answers.
        brick: BrickId,
        /// Where both bricks of the volume listen (`host:port`), Brick1 first.
        bricks: Vec<String>,
    },
    /// The session is known and over: its locks and staged writes are gone. Begin another one.
    Expired,
    /// This brick does not serve now (starting, behind, cut off); try the other one, and this one again later.
    NotServing {
        /// One line for a log.
        why: String,
        /// Where both bricks listen.
        bricks: Vec<String>,
    },
    /// It never will: wrong protocol, no such volume, volume not started.
    Refused {
        /// One line for the person who mounts.
        why: String,
    },
}

/// A change, to be executed once.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The session's count.
    pub seq: u64,
    /// All replies below this were received; the bricks may forget them.
    pub acked: u64,
    /// What to do.
    pub op: Op,
}

/// Bytes at an offset.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Extent {
    /// First byte.
    pub offset: u64,
    /// At most `limits::EXTENT_BYTES_MAX` bytes, never none.
    pub data: Bytes,
}

/// The changes. Each is all or nothing (law L6), and refused without effect if it is refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Op {
    /// A part of a large lock session; has no effect before its [`Op::Commit`].
    Stage {
        /// The file.
        ino: Ino,
        /// Forget what this session staged for the file before.
        first: bool,
        /// Later extents win over earlier ones.
        extents: Vec<Extent>,
    },
    /// The writes of a lock session. Needs the W lease of the file.
    Commit {
        /// The file.
        ino: Ino,
        /// Use the [`Op::Stage`]d extents first.
        staged: bool,
        /// The smallest size that the file had in the session: old bytes above it are gone. `u64::MAX`: never cut.
        cut: u64,
        /// In ascending order, without overlap.
        extents: Vec<Extent>,
        /// Size at the end; a gap reads as zeros.
        size: u64,
        /// Time of the last write, or the one set by utimens.
        mtime: Timestamp,
        /// Set by utimens, else as it was.
        atime: Option<Timestamp>,
    },
    /// Make a file, or open the one that exists (unless `excl`: EEXIST).
    Create {
        /// Directory.
        dir: Ino,
        /// Name, no dotlock.
        name: Name,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group (of the caller; a setgid directory overrides it).
        gid: u32,
        /// Fail if it exists.
        excl: bool,
    },
    /// Make a directory.
    Mkdir {
        /// Parent.
        dir: Ino,
        /// Name.
        name: Name,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group of the caller.
        gid: u32,
    },
    /// Make a symbolic link.
    Symlink {
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
        /// What it says.
        target: Vec<u8>,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
    },
    /// Another name for a file.
    Link {
        /// The file.
        ino: Ino,
        /// Directory.
        dir: Ino,
        /// New name.
        name: Name,
    },
    /// Remove a name of a file or symbolic link.
    Unlink {
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
    },
    /// Remove an empty directory.
    Rmdir {
        /// Parent.
        dir: Ino,
        /// Name.
        name: Name,
    },
    /// Rename, over an existing name unless `noreplace`.
    Rename {
        /// From this directory
        dir: Ino,
        /// and name
        name: Name,
        /// to this directory
        to_dir: Ino,
        /// and name.
        to_name: Name,
        /// `RENAME_NOREPLACE`.
        noreplace: bool,
    },
    /// Make a file with this content, in place of whatever file has the name: what renaming a dotlock onto a file means.
    Put {
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// At most `limits::DOTLOCK_BYTES_MAX`.
        content: Bytes,
    },
    /// chmod, chown, utimens.
    SetAttr {
        /// Of this inode.
        ino: Ino,
        /// What to set.
        set: SetAttr,
    },
    /// setxattr(2).
    SetXattr {
        /// Of this inode.
        ino: Ino,
        /// Name, `user.` and so on.
        name: Vec<u8>,
        /// Value, at most `limits::VALUE_BYTES_MAX`.
        value: Vec<u8>,
        /// `XATTR_CREATE`: EEXIST if there.
        create: bool,
        /// `XATTR_REPLACE`: ENODATA if not.
        replace: bool,
    },
    /// removexattr(2).
    RemoveXattr {
        /// Of this inode.
        ino: Ino,
        /// Name.
        name: Vec<u8>,
    },
    /// This session has no handle on the orphan (any more).
    Free {
        /// The orphan.
        ino: Ino,
    },
}

impl Op {
    /// Directory and name of what has no such name afterwards.
    #[must_use]
    pub const fn takes(&self) -> Option<(Ino, &Name)> {
        match self {
            Self::Unlink { dir, name } | Self::Rmdir { dir, name } | Self::Rename { dir, name, .. } => {
                Some((*dir, name))
            }
            _ => None,
        }
    }

    /// Directory and name of what has that name afterwards.
    #[must_use]
    pub const fn gives(&self) -> Option<(Ino, &Name)> {
        match self {
            Self::Create { dir, name, .. }
            | Self::Mkdir { dir, name, .. }
            | Self::Symlink { dir, name, .. }
            | Self::Link { dir, name, .. }
            | Self::Put { dir, name, .. }
            | Self::Rename {
                to_dir: dir,
                to_name: name,
                ..
            } => Some((*dir, name)),
            _ => None,
        }
    }
}

/// Attributes to set; `None` leaves one as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Access time.
    pub atime: Option<Timestamp>,
    /// Modification time, exactly.
    pub mtime: Option<Timestamp>,
}

/// Outcome of a request.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// `Request::seq`.
    pub seq: u64,
    /// Attributes of all inodes that changed, the subject first; or why nothing did.
    pub result: Result<Vec<Attr>, Errno>,
}

/// Lease modes. W on one mount excludes everything on any other.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Mode {
    /// Shared: may answer from what it knows.
    R,
    /// Exclusive: may change it, and is the authority for locks.
    W,
}

/// Why a lease is wanted: it decides whether a holder that uses it hands it over, answers once, or lets wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Intent {
    /// Look at it.
    Read,
    /// Write without a lock.
    Write,
    /// Take or test a lock.
    Lock {
        /// For whom.
        owner: Owner,
        /// Which bytes.
        range: Range,
        /// Which kind.
        kind: LockKind,
        /// Wait until it is free; else `LOCK_WAIT` at most, then EAGAIN.
        wait: bool,
    },
    /// Give up a lock of one's own. Never refused.
    Unlock,
    /// Make a dotlock, or look at it.
    Excl,
    /// A change of names or attributes by the brick itself.
    Op,
}

/// Wish for a lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LeaseRequest {
    /// The session's own number.
    pub req: u64,
    /// On what. For a name, the inode that it names comes along in the same mode.
    pub key: Key,
    /// Which mode.
    pub mode: Mode,
    /// What for.
    pub intent: Intent,
}

/// A lease.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Lease {
    /// On what.
    pub key: Key,
    /// Mode.
    pub mode: Mode,
    /// Raised by each grant of the key; answers to recalls of another number are void.
    pub seq: u64,
}

/// What is known of a group.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct NameState {
    /// The group.
    pub group: Group,
    /// Inode of the stem's file or directory, if it exists.
    pub entry: Option<Ino>,
    /// The dotlock, if somebody holds it.
    pub dot: Option<Dotlock>,
}

/// Answer to a [`LeaseRequest`]. State of a key that is not among `leases` is valid for one answer only; neither leases nor
/// state: the session holds the lease already, or has just given it back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Granted {
    /// `LeaseRequest::req`.
    pub req: u64,
    /// What, or why not.
    pub result: Result<Grant, Errno>,
}

/// Leases with the state that they cover.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Grant {
    /// Leases that the session now holds.
    pub leases: Vec<Lease>,
    /// For a name key.
    pub name: Option<NameState>,
    /// Of the inode asked for or named.
    pub attr: Option<Attr>,
    /// Lock table of that inode; complete if it was granted in mode W.
    pub locks: Vec<HeldLock>,
}

/// The brick wants a lease back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Recall {
    /// The brick's number for this recall.
    pub id: u64,
    /// Which lease.
    pub key: Key,
    /// Of which grant.
    pub seq: u64,
    /// For what.
    pub intent: Intent,
}

/// A holder's answer to a recall. A recall for a lock that has to wait is answered when the lock is free.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// `Recall::id`.
    pub id: u64,
    /// Which lease.
    pub key: Key,
    /// Of which grant.
    pub seq: u64,
    /// What the holder decided.
    pub verdict: Verdict,
}

/// A holder's decision.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Verdict {
    /// Given up down to `keep`, with the tables if it was mode W.
    Give {
        /// What is kept.
        keep: Option<Mode>,
        /// All locks on the inode, of all mounts.
        locks: Vec<HeldLock>,
        /// The dotlock of the group.
        dot: Option<Dotlock>,
    },
    /// Kept: in use. Answer this one request from the committed state, or with the error.
    Once {
        /// EAGAIN, EEXIST.
        error: Option<Errno>,
        /// The dotlock of the group.
        dot: Option<Dotlock>,
    },
}

/// What a mount holds, said at the start of a view.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reclaim {
    /// For this view.
    pub view: View,
    /// In which what is held was confirmed last. If that is of another line of history, so may be what was locked meanwhile.
    pub from: View,
    /// Leases held.
    pub leases: Vec<(Key, Mode)>,
    /// Locks owned, with their files.
    pub locks: Vec<(Ino, HeldLock)>,
    /// Dotlocks owned, with their groups.
    pub dots: Vec<(Group, Dotlock)>,
    /// What is known of the files under those leases. One that is another in the brick's line of history is not held there:
    /// what was staged for it belongs to the line that the mount comes from.
    pub known: Vec<Attr>,
    /// Requests from this one on have no answer yet: what they did is not in `known`.
    pub unanswered: u64,
}

/// Answer to [`Reclaim`].
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reclaimed {
    /// The view.
    pub view: View,
    /// Leases that stand.
    pub leases: Vec<Lease>,
    /// Lock tables of the inodes held in mode W.
    pub locks: Vec<(Ino, HeldLock)>,
    /// Dotlocks of the groups held.
    pub dots: Vec<(Group, Dotlock)>,
    /// What was claimed and is another file by now, or was locked and is in other hands by now: it went on on the other side
    /// of a partition. Lock sessions and dotlocks of these are over.
    pub lost: Vec<Key>,
    /// Which inodes have the names that are held; those that are not here have none. A mount that comes from the other side of
    /// a partition knows others.
    pub entries: Vec<(Group, Ino)>,
}

/// A question that changes nothing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Query {
    /// Bytes of a file: committed ones.
    Read {
        /// The file.
        ino: Ino,
        /// From here.
        offset: u64,
        /// At most `limits::EXTENT_BYTES_MAX`.
        len: u32,
    },
    /// Names in a directory, in byte order, after `after`.
    ReadDir {
        /// The directory.
        dir: Ino,
        /// Last name already seen.
        after: Option<Name>,
    },
    /// Target of a symbolic link.
    ReadLink {
        /// The link.
        ino: Ino,
    },
    /// One extended attribute.
    GetXattr {
        /// Of this inode.
        ino: Ino,
        /// Name.
        name: Vec<u8>,
    },
    /// Names of the extended attributes.
    ListXattr {
        /// Of this inode.
        ino: Ino,
    },
    /// Space on the bricks.
    StatFs,
    /// Parent directory of a directory.
    Parent {
        /// The directory.
        ino: Ino,
    },
}

/// Answer to a query.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Found {
    /// File content, attribute value or link target.
    Data(Bytes),
    /// Directory entries in byte order, at most `limits::DIR_ENTRIES_MAX`.
    Entries {
        /// Name, inode, kind.
        entries: Vec<DirEntry>,
        /// There are no more.
        end: bool,
    },
    /// Attribute names.
    Names(Vec<Vec<u8>>),
    /// Space.
    Space(Space),
    /// An inode.
    Ino(Ino),
}

/// One name in a directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DirEntry {
    /// Name.
    pub name: Name,
    /// Inode.
    pub ino: Ino,
    /// What it is.
    pub kind: crate::Kind,
}

/// Room on a brick, or the smaller of both.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Space {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free to users.
    pub free: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Inodes free.
    pub inodes_free: u64,
}
