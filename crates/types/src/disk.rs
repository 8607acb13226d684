//! The conversation between the brain of a brick and its disk.
//!
//! Promises
//! D1  Operations on files take effect in the order given; a read sees every effect given before it.
//! D2  Effects are idempotent over any range: doing records k..m again on files that have seen k..m changes nothing in the
//!     end, since they name inodes, absolute offsets and resulting names, never deltas.
//! D3  `Done` of an append, superblock or checkpoint comes after the bytes are durable (fdatasync returned).
//!
//! Not here: how (`store`).

use crate::{
    BrickId, Errno, GenId, Ino, Kind, Name, Tag, Timestamp, VolumeId,
    call::{Extent, Space},
    history::Note,
    ids::BrickUuid,
    quorum::Settled,
    record::{Members, Record},
};
use alloc::vec::Vec;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What the brain wants of its disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskOp {
    /// Put a record at the end of the log and make it durable: `Done::Appended`.
    Append(Record),
    /// Replace the superblock durably: `Done::Superblock`.
    Superblock(Superblock),
    /// Change files. No answer; durable at the next checkpoint.
    Apply(Vec<Effect>),
    /// Read something: `Done::Answer`.
    Look {
        /// Number for the answer.
        ticket: u64,
        /// What.
        look: Look,
    },
    /// Make all files applied so far durable, then the snapshot of the state as of record `n`: `Done::Checkpoint`.
    Checkpoint {
        /// Position.
        n: u64,
        /// Encoded state.
        snapshot: Bytes,
    },
    /// Records from `from` on, up to about 1 MiB: `Done::Log`.
    ReadLog {
        /// First position.
        from: u64,
    },
    /// Records below this position are no longer needed.
    Trim {
        /// First position to keep.
        below: u64,
    },
}

/// A look at files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Look {
    /// Bytes of a file.
    Read {
        /// The file.
        ino: Ino,
        /// From.
        offset: u64,
        /// At most.
        len: u32,
    },
    /// Value of an extended attribute.
    GetXattr {
        /// Of.
        ino: Ino,
        /// Name.
        name: Vec<u8>,
    },
    /// Names of the user's extended attributes.
    ListXattr {
        /// Of.
        ino: Ino,
    },
    /// Which messages a file holds: `Seen::Data` of an index as `mbox` encodes it.
    Index {
        /// The file.
        ino: Ino,
        /// As it was at a fork; else as it is.
        base: Option<AtFork>,
    },
}

/// A file as it was at a fork.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AtFork {
    /// Which fork: position of the last record before it.
    pub fork: u64,
    /// Size of the file then.
    pub size: u64,
}

/// What the disk says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Done {
    /// All records up to this position are durable.
    Appended {
        /// Position.
        n: u64,
    },
    /// The last superblock given is durable.
    Superblock,
    /// Answer to a look.
    Answer {
        /// Its ticket.
        ticket: u64,
        /// The answer.
        result: Result<Seen, Errno>,
    },
    /// The checkpoint is durable.
    Checkpoint {
        /// Its position.
        n: u64,
    },
    /// Records in order, none if there are none.
    Log {
        /// First position asked for.
        from: u64,
        /// The records.
        records: Vec<Record>,
    },
    /// Room on the brick, said from time to time.
    Space(Space),
}

/// Answer to a look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Bytes, fewer than asked for at the end of a file.
    Data(Bytes),
    /// Attribute names.
    Names(Vec<Vec<u8>>),
}

/// A change of the brick's files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// There is a file, directory or symbolic link `ino` with these attributes, named `name` in `dir`.
    Make {
        /// Its number.
        ino: Ino,
        /// What.
        kind: Kind,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// For a symbolic link.
        target: Vec<u8>,
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
    },
    /// `name` in `dir` is `ino`, a file or symbolic link.
    Link {
        /// Which inode.
        ino: Ino,
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
    },
    /// `name` in `dir` is not `ino` any more. The inode itself stays until `Free`.
    Unlink {
        /// Which inode.
        ino: Ino,
        /// Directory.
        dir: Ino,
        /// Name.
        name: Name,
    },
    /// The directory `ino` is at `name` in `dir`.
    MoveDir {
        /// Which directory.
        ino: Ino,
        /// New parent.
        dir: Ino,
        /// New name.
        name: Name,
    },
    /// The directory `ino` is gone.
    RemoveDir {
        /// Which directory.
        ino: Ino,
    },
    /// The content of `ino`: cut, then extents, then size.
    Write {
        /// The file.
        ino: Ino,
        /// Old bytes above this are gone.
        cut: u64,
        /// Bytes; later ones win.
        extents: Vec<Extent>,
        /// Size at the end.
        size: u64,
        /// Times of the file afterwards.
        mtime: Timestamp,
        /// Access time afterwards.
        atime: Timestamp,
        /// Tag of the record, kept in the inode.
        stamp: Tag,
    },
    /// Attributes of `ino`.
    SetAttr {
        /// Which inode.
        ino: Ino,
        /// Permission bits.
        mode: u32,
        /// Owner.
        uid: u32,
        /// Group.
        gid: u32,
        /// Access time.
        atime: Timestamp,
        /// Modification time.
        mtime: Timestamp,
    },
    /// Extended attribute, or its removal.
    Xattr {
        /// Which inode.
        ino: Ino,
        /// Name.
        name: Vec<u8>,
        /// Value; none removes it.
        value: Option<Vec<u8>>,
    },
    /// `ino` has no name and no user: free its space.
    Free {
        /// Which inode.
        ino: Ino,
    },
    /// What `ino` holds in these ranges belongs to the fork point: keep it, durably, before it is overwritten. What was kept
    /// before stays as it was kept (D2). Only for records above `fork`, as long as the superblock has that fork: over files
    /// of the future nothing else tells the truth than what was kept in time.
    Keep {
        /// Position of the last record before the fork. What a file held there never changes any more: so what is left of an
        /// older fork is never taken for that of a newer one.
        fork: u64,
        /// The file.
        ino: Ino,
        /// First byte and end (exclusive) of each, within the file.
        ranges: Vec<(u64, u64)>,
    },
    /// Put back what was kept of `ino`; a `Write` that sets size and times has to follow.
    Revert {
        /// Of which fork.
        fork: u64,
        /// The file.
        ino: Ino,
    },
    /// What the effects that follow do, for the history. Changes no file.
    Note(Note),
    /// Nothing that was kept for forks below this position is needed any more. Not before the superblock that knows no such
    /// fork is durable, nor before files that were put back are.
    Forget {
        /// Position of the oldest fork that is still needed.
        below: u64,
    },
}

/// A brick's own memory of who it is and where it stands; written a few times per failover, never per operation.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Superblock {
    /// `limits::FORMAT_VERSION`.
    pub format: u32,
    /// Identity of the directory.
    pub uuid: BrickUuid,
    /// Volume that it belongs to; none before `volume create`.
    pub volume: Option<VolumeId>,
    /// Which of the two.
    pub brick: BrickId,
    /// Process starts so far.
    pub inc: u32,
    /// Generation.
    pub g: GenId,
    /// View.
    pub v: u32,
    /// Members of the generation.
    pub members: Members,
    /// Who numbers in this view.
    pub primary: BrickId,
    /// Tags in force from a position on: the line of history that this brick's log belongs to. Ascending.
    pub history: Vec<Epoch>,
    /// Set when going on alone: the last position surely common with the peer. Cleared when both are together again.
    pub fork: Option<u64>,
    /// Set when both sides changed the volume while apart: position of the last common record. Cleared by a merge.
    pub diverged: Option<u64>,
    /// Everything above this position is being given up: the files go back to it, then the log does.
    pub giving_up: Option<u64>,
    /// Who may go on alone.
    pub quorum: Settled,
    /// The operator made this brick go on alone, whatever the policy says; until both are together again.
    pub forced: bool,
}

/// A stretch of the log numbered under one generation and view.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Epoch {
    /// Generation.
    pub g: GenId,
    /// View.
    pub v: u32,
    /// First position.
    pub first: u64,
}
