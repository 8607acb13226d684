//! The conversation of a merge: the brick that goes on asks, the one whose line of history will be given up answers.
//!
//! Promises
//! H1  The one that answers serves no mount and changes nothing while it answers: all answers are of one moment.
//! H2  `base` is the object as both bricks knew it when they parted, `now` as this line left it.
//!
//! Not here: how the two are merged (`brick::heal`, `mbox`).

use crate::{Attr, Ino, Kind, Name, Timestamp};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Ask {
    /// All objects that changed since the fork: [`Change`]s, in ascending order of inodes (`codec` bytes of a `Vec`).
    Changes,
    /// What messages a file holds: an index as `mbox` encodes it.
    Index {
        /// The file.
        ino: Ino,
        /// As it was when.
        of: Of,
    },
    /// Bytes of a file, as it is now.
    Read {
        /// The file.
        ino: Ino,
        /// First byte.
        offset: u64,
        /// At most `limits::EXTENT_BYTES_MAX`.
        len: u32,
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

/// What one line of history did to one object.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Change {
    /// Its number on that line.
    pub ino: Ino,
    /// At the fork; none: it was made later. Of what was made later and is gone again: as it may have been merged.
    pub base: Option<Node>,
    /// Now; none: it is gone.
    pub now: Option<Node>,
    /// Commits to its content since the fork: an upper bound of what deliveries added.
    pub commits: u32,
    /// Bytes below this are as they were at the fork.
    pub intact: u64,
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
