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
    limits,
    quorum::Settled,
    record::{Members, Record},
};
use alloc::vec::Vec;
use bytes::Bytes;
use core::ops::Range;
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
    /// Records from `from` on, at least one if there is one: `Done::Log`, or `Done::LogRot`.
    ReadLog {
        /// First position.
        from: u64,
        /// None begins behind so many bytes.
        bytes: usize,
    },
    /// What is known to be bad or in doubt: `Done::Damage`.
    Damage,
    /// Compare blocks of a file, as the device has them, with their checksums, when there is nothing else to do:
    /// `Done::Scrubbed`.
    Scrub {
        /// The file.
        ino: Ino,
        /// First block.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Records below this position are no longer needed.
    Trim {
        /// First position to keep.
        below: u64,
    },
    /// The log begins anew: no record is needed any more, the next one is `next`. No answer; a superblock given after this is
    /// written after it. The checkpoint of `next - 1` has to be durable before.
    Restart {
        /// Position of the next record.
        next: u64,
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
    /// A whole block of a file.
    Block {
        /// The file.
        ino: Ino,
        /// Which, of `limits::SUM_BLOCK_BYTES` each.
        block: u64,
        /// As the device has it, not as the kernel remembers it.
        deep: bool,
    },
    /// A whole block of a file as it is, good or not; zeros stand for what cannot be read. For bricks, never for mounts.
    Raw {
        /// The file.
        ino: Ino,
        /// Which, of `limits::SUM_BLOCK_BYTES` each.
        block: u64,
    },
    /// Checksums of blocks of a file, four bytes each, little-endian.
    Sums {
        /// The file.
        ino: Ino,
        /// First block.
        first: u64,
        /// At most so many.
        count: u64,
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
    /// As `Index`, of a file with bad blocks: these are read as they are.
    RawIndex {
        /// The file.
        ino: Ino,
    },
    /// As `Read`, without haste: for a copy of the whole file, behind all that mounts read.
    Copy {
        /// The file.
        ino: Ino,
        /// As it was at a fork; else as it is.
        base: Option<AtFork>,
        /// From.
        offset: u64,
        /// At most.
        len: u32,
    },
    /// Checksums of blocks, without haste: `Seen::Data` of `limits::DIGEST_BYTES` for each block of `limits::BLOCK_BYTES`,
    /// counted from `offset`; the last one may be shorter.
    Digests {
        /// The file.
        ino: Ino,
        /// From.
        offset: u64,
        /// At most; what is not there has no checksum.
        len: u64,
    },
    /// The user's extended attributes of several inodes: `Seen::Data` of `codec` bytes of [`Xattrs`], in this order.
    Xattrs {
        /// Which.
        inos: Vec<Ino>,
    },
}

/// Inodes with their user's extended attributes, in order of names.
pub type Xattrs = Vec<(Ino, Vec<(Vec<u8>, Vec<u8>)>)>;

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
    /// The log could not be read from where it was asked for: it is damaged up to this record.
    LogRot {
        /// Its position.
        n: u64,
    },
    /// What is known to be bad or in doubt.
    Damage {
        /// File and block.
        bad: Vec<(Ino, u64)>,
        /// File and block.
        doubtful: Vec<(Ino, u64)>,
    },
    /// What was found of the blocks that were to be compared.
    Scrubbed {
        /// The file.
        ino: Ino,
        /// Blocks that do not fit, or were changed meanwhile.
        suspects: Vec<u64>,
    },
    /// Room on the brick, said every `limits::SPACE_EVERY` at the latest, unless a change of files does not come to an end.
    Space(Space),
}

/// Answer to a look.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    /// Bytes, fewer than asked for at the end of a file.
    Data(Bytes),
    /// Attribute names.
    Names(Vec<Vec<u8>>),
    /// A block that fits its checksum, which a crash has left in doubt.
    Doubtful(Bytes),
    /// A block as it is.
    Raw {
        /// All of it.
        bytes: Bytes,
        /// The part of it with all of the damage, if that can be told.
        damaged: Option<Range<usize>>,
    },
    /// None of the bytes may be given out: these blocks (`limits::SUM_BLOCK_BYTES` each) do not fit their checksums, or cannot
    /// be read (law L12).
    Rotten(Vec<u64>),
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
    /// These are all extended attributes of the user that `ino` has.
    AllXattrs {
        /// Which inode.
        ino: Ino,
        /// Name and value.
        all: Vec<(Vec<u8>, Vec<u8>)>,
    },
    /// These are all names and inodes that the volume has: other ones of ours go. What is not ours stays where it is.
    Only {
        /// Directory, name and inode.
        names: Vec<(Ino, Name, Ino)>,
        /// Inodes without a name.
        nameless: Vec<Ino>,
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
    /// These blocks were found bad. Those that are bad indeed are known to be from now on, durably.
    Rotten {
        /// The file.
        ino: Ino,
        /// Which.
        blocks: Vec<u64>,
    },
    /// What a block has to hold, from the other brick: put in its place, durably, if it fits what is known of it. Nothing
    /// that users see changes.
    Repair {
        /// The file.
        ino: Ino,
        /// Which.
        block: u64,
        /// All of it, or its beginning: then what is here behind that stays, if all of it fits.
        bytes: Bytes,
        /// Beyond doubt there. If not, it counts only if it is what is here, or what should be, or if nobody knows here what
        /// that is.
        sure: bool,
    },
    /// A block that is bad on both bricks, made of both copies if they make one (law L12).
    Combine {
        /// The file.
        ino: Ino,
        /// Which.
        block: u64,
        /// The other brick's copy.
        theirs: Bytes,
    },
    /// What a block holds on the other brick, where it is bad: put in its place, and known to be bad here as well, durably,
    /// until it is overwritten, cut off or repaired.
    Damaged {
        /// The file.
        ino: Ino,
        /// First byte; all lie in one block of `limits::SUM_BLOCK_BYTES`.
        offset: u64,
        /// As they are there.
        bytes: Bytes,
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
    /// The log since `fork` has outgrown its limit: neither it nor what files held at the fork is kept any more.
    pub overrun: bool,
    /// What the files are worth.
    pub files: Worth,
    /// Process starts of the peer, as far as this brick has heard: a new directory in its place counts on from there, so
    /// that no inode number is given twice.
    pub peer_inc: u32,
    /// Directory of the peer, as far as this brick has met it: another one is let in only if it knows nothing.
    pub peer_uuid: Option<BrickUuid>,
    /// How far its files were looked at for rot.
    pub scrub: ScrubMark,
}

impl Superblock {
    /// Of a directory that was just made: of no volume yet, with nothing in it.
    #[must_use]
    pub fn new(uuid: BrickUuid) -> Self {
        Self {
            format: limits::FORMAT_VERSION,
            uuid,
            volume: None,
            brick: BrickId::A,
            inc: 0,
            g: GenId::default(),
            v: 0,
            members: Members::Both,
            primary: BrickId::A,
            history: Vec::new(),
            fork: None,
            diverged: None,
            giving_up: None,
            quorum: Settled::default(),
            forced: false,
            overrun: false,
            files: Worth::Whole,
            peer_inc: 0,
            peer_uuid: None,
            scrub: ScrubMark::default(),
        }
    }
}

/// How far the files of a brick were looked at for rot.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ScrubMark {
    /// When the last pass began.
    pub started: Option<Timestamp>,
    /// When it ended; before `started`, or none: it has not yet.
    pub ended: Option<Timestamp>,
    /// Files below this are done.
    pub next: Ino,
    /// The operator wants it to rest.
    pub paused: bool,
}

impl ScrubMark {
    /// A pass is under way, or paused.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.started.is_some() && self.ended < self.started
    }
}

/// What the files of a brick are worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Worth {
    /// They are what the log says.
    Whole,
    /// They are being made those of the peer: this brick knows nothing, and is nothing but a learner.
    Copying,
    /// They are those of the peer, and partly ahead of the log: right when both are together.
    Ahead,
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
