//! Why the store refuses or fails, each in one line, with what to do about it.
//!
//! Not here: errors of users' requests (`mboxfs_types::Errno`).

use std::{io, path::PathBuf};

/// Why records of the log cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// A record that once was durable is damaged; it has to come from the peer.
    #[error("record {n} of the log is damaged, and later ones are not: the disk has lost acknowledged data")]
    Rot {
        /// Position of a damaged record; behind it the log can be read again, if at all.
        n: u64,
    },
    /// Records that were trimmed.
    #[error("record {from} is no longer in the log, which begins at {start}")]
    Gone {
        /// Asked for.
        from: u64,
        /// First one that is there.
        start: u64,
    },
    /// There is no segment.
    #[error("the log has no segment")]
    Missing,
    /// The device or the filesystem failed.
    #[error("the log cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Why a brick directory cannot be made or opened.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory itself cannot be opened.
    #[error("{}: {source}", path.display())]
    Unreachable {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It has no `.mboxfs`.
    #[error("{} is not a brick", path.display())]
    NotABrick {
        /// The directory.
        path: PathBuf,
    },
    /// It is one already.
    #[error("{} is a brick already", path.display())]
    AlreadyABrick {
        /// The directory.
        path: PathBuf,
    },
    /// Formatting was cut off, or the superblock was removed.
    #[error("{} is only half a brick: its superblock is missing", path.display())]
    HalfMade {
        /// The directory.
        path: PathBuf,
        /// Something besides an empty layout is in there: formatting does not touch it.
        used: bool,
    },
    /// There are files that are not ours.
    #[error("{} is not empty: it holds {example}", path.display())]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of them.
        example: String,
    },
    /// Another process has it open.
    #[error("{} is in use by another brickd", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Written by a later version of this program.
    #[error("the brick has format {found}; this program knows formats up to {known}")]
    Newer {
        /// Of the directory.
        found: u32,
        /// `limits::FORMAT_VERSION`.
        known: u32,
    },
    /// The filesystem cannot keep extended attributes.
    #[error("the filesystem of {} has no user extended attributes", path.display())]
    NoXattr {
        /// The directory.
        path: PathBuf,
    },
    /// Both slots are bad.
    #[error("both copies of the superblock are damaged")]
    Superblock,
    /// Both slots of a witness are bad.
    #[error("both copies of the witness's registers are damaged")]
    Registers,
    /// It is a witness's.
    #[error("{} is the directory of a witness", path.display())]
    Witness {
        /// The directory.
        path: PathBuf,
    },
    /// No snapshot can be used with the log that there is.
    #[error("no usable snapshot: {why}")]
    Snapshot {
        /// What was tried.
        why: String,
    },
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The device or the filesystem failed.
    #[error("the brick cannot be {verb}: {source}")]
    Io {
        /// `opened`, `formatted`.
        verb: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl StoreError {
    /// What the operator may do next, if there is something.
    #[must_use]
    pub const fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NotABrick { .. } => Some("name the brick's own directory; an empty one is formatted at first start"),
            Self::HalfMade { used: false, .. } => Some("format it again"),
            Self::HalfMade { used: true, .. } => Some("it holds data: keep a copy of it before anything else"),
            Self::Foreign { .. } => Some("use an empty directory, or force to leave these files where they are"),
            Self::Locked { .. } => Some("stop the other brickd, or choose another directory"),
            Self::Newer { .. } => Some("install the version of mboxfs that last ran here, or a later one"),
            Self::NoXattr { .. } => Some("use ext4, made with mkfs.ext4 -I 512"),
            Self::Superblock | Self::Snapshot { .. } | Self::Log(LogError::Rot { .. } | LogError::Missing) => Some(
                "the disk has lost data: the peer can fill an empty directory in its place (on its host: mboxfs volume reset-brick); \
                     if this brick was alone, its mailboxes hold mail that the peer lacks: keep a copy of them first",
            ),
            Self::Registers => {
                Some("use an empty directory; then, with both bricks online: mboxfs volume set NAME witness HOST")
            }
            Self::Witness { .. } => Some("a brick needs a directory of its own"),
            Self::Unreachable { .. } | Self::AlreadyABrick { .. } | Self::Log(_) | Self::Io { .. } => None,
        }
    }
}
