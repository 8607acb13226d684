//! Questions of one brick to the other about its files, and answers in parts.
//!
//! In a merge the brick that goes on asks the one whose line of history will be given up. In a resync the one whose files
//! are being made those of its peer asks the one that serves. `Digests`, `Read` and `Raw` may be asked whenever both work, too.
//!
//! Promises
//! H1  In a merge the one that answers serves no mount and changes nothing: all answers are of one moment.
//! H2  `base` is the object as both bricks knew it when they parted, `now` as this line left it.
//! H3  After `State` was asked from its beginning the one that answers keeps its log from that state on, and every further
//!     answer is of that moment or later: files copied after that, in whatever order, become right by executing the log.
//!
//! Not here: how two are merged (`brick::heal`, `mbox`), how files are compared (`brick::resync`).

use crate::{Attr, Ino, Kind, Name, Timestamp};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// All objects that changed since the fork: `codec` bytes of [`Changes`].
    Changes,
    /// What messages a file holds: an index as `mbox` encodes it.
    Index {
        /// The file.
        ino: Ino,
        /// As it was when.
        of: Of,
    },
    /// Bytes of a file.
    Read {
        /// The file.
        ino: Ino,
        /// As it was when: other than now in a merge only.
        of: Of,
        /// First byte.
        offset: u64,
        /// At most `limits::EXTENT_BYTES_MAX`.
        len: u32,
    },
    /// A whole block of a file as it is, good or not, of `limits::SUM_BLOCK_BYTES`; zeros stand for what cannot be read.
    Raw {
        /// The file.
        ino: Ino,
        /// Which.
        block: u64,
    },
    /// A snapshot of the brain, as its checkpoints have it, from this byte on; 0 takes a new one. An empty answer: that was all.
    State {
        /// First byte.
        offset: u64,
    },
    /// Checksums of the blocks of a file, as it is now: see `disk::Look::Digests`.
    Digests {
        /// The file.
        ino: Ino,
        /// First byte of the first block.
        offset: u64,
        /// At most `limits::DIGEST_SPAN`.
        len: u64,
    },
    /// Extended attributes of the next inodes: `codec` bytes of `disk::Xattrs`, also of those that have none. No inode: that
    /// was all.
    Xattrs {
        /// In ascending order, after this one; none: from the first one on.
        after: Option<Ino>,
    },
}

/// A moment in the life of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Of {
    /// As it is.
    Now,
    /// At the fork; empty if it was made later.
    Fork,
    /// In this version, which was merged; at the fork if that is not known any more.
    Version(u64),
}

/// Answer to `Ask::Changes`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Changes {
    /// Of this moment: position of the last record of that line.
    pub at: u64,
    /// In ascending order of inodes.
    pub list: Vec<Change>,
}

/// What one line of history did to one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its number on that line.
    pub ino: Ino,
    /// At the fork; none: it was made later. Of what was made later and is gone again: as it may have been merged.
    pub base: Option<Node>,
    /// As it was when the line went on alone again, after a merge that was interrupted: position of that record, ascending,
    /// and the object, if it was not as at the fork.
    pub marks: Vec<(u64, Option<Node>)>,
    /// Now; none: it is gone.
    pub now: Option<Node>,
    /// Messages appended to it since the fork, gone or not.
    pub appended: u32,
    /// Some program may have read it since the fork.
    pub observed: bool,
    /// Bytes below this are as they were at the fork.
    pub intact: u64,
    /// Extended attributes that were set or removed since the fork, and when last.
    pub xattrs: Vec<(Vec<u8>, Timestamp)>,
}

/// An object with all its names.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Node {
    /// Attributes.
    pub attr: Attr,
    /// Directory and name, in order.
    pub names: Vec<(Ino, Name)>,
    /// Of a symbolic link.
    pub target: Vec<u8>,
}

impl Node {
    /// What it is.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.attr.kind
    }

    /// Time of its last change.
    #[must_use]
    pub const fn mtime(&self) -> Timestamp {
        self.attr.mtime
    }
}
