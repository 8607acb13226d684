//! What to make of two files: a list of byte ranges to copy and of bytes to write, and what the result will say.
//!
//! P1  A plan holds no body. It is as large as what changes, at most in proportion to the number of messages.
//! P2  Bytes that both sides hold are named on both, so that nobody fetches what he has.
//!
//! Not here: how a plan is made (`merge`); locks, inodes and times of the file it is carried out on (MAIL.md 6.11).

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use crate::index::Index;
use crate::manifest::{Entry, Numbering};
use crate::source::Source;

/// One of the two copies of a mailbox. Which brick is which does not matter, as long as both agree: by custom the left
/// one is that with the lower id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Side {
    /// A in MAIL.md.
    Left,
    /// B in MAIL.md.
    Right,
}

impl Side {
    /// The side across.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
        }
    }
}

/// A piece of the result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// `len` bytes, not 0, from the offset given. If both sides have one, both hold these bytes there.
    Copy {
        /// Where the left file holds them.
        left: Option<u64>,
        /// Where the right file holds them.
        right: Option<u64>,
        /// How many.
        len: u64,
    },
    /// These bytes, at least one.
    Bytes(Vec<u8>),
}

impl Segment {
    /// Bytes of the result that it stands for.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Copy { len, .. } => *len,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }

    /// Never.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of these bytes in that side's file, if it holds them.
    #[must_use]
    pub fn offset_in(&self, side: Side) -> Option<u64> {
        match (self, side) {
            (Self::Copy { left, .. }, Side::Left) => *left,
            (Self::Copy { right, .. }, Side::Right) => *right,
            (Self::Bytes(_), _) => None,
        }
    }
}

/// How the result came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// Both sides hold it already, byte for byte (F1).
    Same,
    /// It is that side's file, byte for byte (F2, F3, Rule 0).
    Took(Side),
    /// Both sides had something to say.
    Merged,
}

/// The result of a merge: the same for both bricks, whoever computes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// How it came about.
    pub how: How,
    /// False: the mailbox was removed, and the file is to be unlinked. Nothing else is said then.
    pub exists: bool,
    /// The result, from start to end. Neighbours are joined where they can be.
    pub segments: Vec<Segment>,
    /// Bytes at the start of the left and the right file that are no mail. They are not in the result, and go to
    /// quarantine; 0 for none.
    pub junk: [u64; 2],
    /// What the result will say of its UIDs; None if no header says anything.
    pub numbering: Option<Numbering>,
    /// What it will say of its messages.
    pub entries: Vec<Entry>,
}

/// A file is not what its plan says. Holds the first thing that differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Differs(pub &'static str);

impl fmt::Display for Differs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the merged mailbox has another {} than was planned", self.0)
    }
}

impl core::error::Error for Differs {}

/// A plan could not be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undone<L, R, W> {
    /// The left file could not be read.
    Left(L),
    /// The right file could not be read.
    Right(R),
    /// A file was shorter than its index says.
    Short(Side),
    /// The result could not be written.
    Write(W),
}

/// Bytes that are copied at once.
const COPY_LEN: usize = 64 << 10;

impl Plan {
    /// Bytes of the result.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.segments.iter().map(Segment::len).sum()
    }

    /// True if the result is an empty file, or none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The ranges of the other side's file that `own` has to fetch, in the order of the result. Each is needed once.
    pub fn needs(&self, own: Side) -> impl Iterator<Item = Range<u64>> {
        self.segments.iter().filter_map(move |segment| {
            let offset = segment.offset_in(own.other())?;
            segment.offset_in(own).is_none().then(|| offset..offset + segment.len())
        })
    }

    /// Writes the result to `write`, piece by piece. What `own` holds is read there, the rest from the other side.
    ///
    /// Errors: `Undone`. What was written then is to be thrown away.
    pub fn carry_out<L: Source, R: Source, W>(
        &self,
        own: Side,
        mut left: L,
        mut right: R,
        mut write: impl FnMut(&[u8]) -> Result<(), W>,
    ) -> Result<(), Undone<L::Error, R::Error, W>> {
        let mut buf = alloc::vec![0; COPY_LEN];
        for segment in &self.segments {
            if let Segment::Bytes(bytes) = segment {
                write(bytes).map_err(Undone::Write)?;
            }
            let from = [own, own.other()]
                .into_iter()
                .find(|&side| segment.offset_in(side).is_some());
            let Some(from) = from else { continue };
            let mut offset = segment.offset_in(from).unwrap_or_default();
            let end = offset + segment.len();
            while offset < end {
                let len = usize::try_from(end - offset).unwrap_or(COPY_LEN).min(COPY_LEN);
                let room = buf.get_mut(..len).unwrap_or_default();
                let read = match from {
                    Side::Left => left.read_at(offset, room).map_err(Undone::Left)?,
                    Side::Right => right.read_at(offset, room).map_err(Undone::Right)?,
                };
                if read == 0 {
                    return Err(Undone::Short(from));
                }
                write(buf.get(..read).unwrap_or_default()).map_err(Undone::Write)?;
                offset += read as u64;
            }
        }
        Ok(())
    }

    /// Is the file behind `index` what was planned? To be asked of the result before it takes the place of anything.
    ///
    /// Errors: what differs. Unused X-UID headers of a mailbox that nobody has numbered do not.
    pub fn check(&self, index: &Index) -> Result<(), Differs> {
        let same_entry = |(one, other): (&Entry, &Entry)| {
            let unused = self.numbering.is_none();
            (unused || one.uid == other.uid)
                && (one.identity, one.status, one.x_status) == (other.identity, other.status, other.x_status)
                && one.keywords == other.keywords
        };
        let found = if self.entries.len() != index.count() {
            "number of messages"
        } else if self.numbering != index.numbering {
            "X-IMAPbase"
        } else if !self.entries.iter().zip(index.entries()).all(same_entry) {
            "message"
        } else if self.len() != index.len {
            "length"
        } else {
            return Ok(());
        };
        Err(Differs(found))
    }
}
