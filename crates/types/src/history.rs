//! The history of a volume: what changed which mailbox, when and through which node, and the messages that were removed.
//!
//! Promises
//! Y1  A brick writes an entry for each record that changed a named file, in the order of the log.
//! Y2  What removes messages from a mailbox has their bytes in its entry, unless those were let go for want of room.
//!
//! Not here: how long it is kept and how it is written (`store`), words for people (`cli`).

use crate::{Ino, Timestamp};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// Bytes of entries in one page, about.
pub const PAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes of a kept message in one answer.
pub const KEPT_BYTES_MAX: u32 = 4 << 20;
/// Bytes of a header's value that is remembered.
pub const TEXT_BYTES_MAX: usize = 250;
/// New messages that one entry names.
pub const ADDED_MAX: usize = 1000;

/// What a record does to a file with a name: said by the brain, before the effects that do it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    /// Position of the record.
    pub n: u64,
    /// Volume time.
    pub time: Timestamp,
    /// On whose behalf.
    pub who: Who,
    /// The file.
    pub ino: Ino,
    /// From the root of the volume, with a slash in front.
    pub path: String,
    /// What.
    pub act: Act,
}

/// On whose behalf a record is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Who {
    /// Programs on a host.
    Host(String),
    /// The merge of what both bricks did while apart.
    Merge,
    /// Space of a file that was still open when it lost its name, or was kept for a merge.
    Late,
    /// What takes damaged messages out of mailboxes.
    Quarantine,
}

/// See [`Note`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Act {
    /// Content: an `Effect::Write` of this file follows.
    Content {
        /// Its size before.
        was: u64,
    },
    /// It was made, or got this name.
    Named,
    /// It lost this name.
    Unnamed,
    /// It has another name now.
    Renamed {
        /// This one.
        to: String,
    },
    /// Damaged messages were taken out of it.
    Quarantined {
        /// How many, about.
        messages: u64,
        /// What is left of them, as long as nobody removes it: paths.
        kept: Vec<String>,
    },
}

/// One change.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Entry {
    /// Position of the record; of an older one, for `Who::Late`.
    pub n: u64,
    /// Volume time.
    pub time: Timestamp,
    /// On whose behalf.
    pub who: Who,
    /// The file.
    pub ino: Ino,
    /// Its name, or that of before; empty if it is not known.
    pub path: String,
    /// What.
    pub did: Did,
}

/// See [`Entry`].
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Did {
    /// It was made, or got this name.
    Named,
    /// It lost this name.
    Unnamed,
    /// It has another name now.
    Renamed {
        /// This one.
        to: String,
    },
    /// Its content changed.
    Content {
        /// Bytes before.
        before: u64,
        /// Bytes after.
        after: u64,
        /// Message-IDs of new messages, empty ones included; at most `ADDED_MAX`
        added: Vec<String>,
        /// of so many.
        added_count: u64,
        /// Messages that are not there any more.
        removed: Vec<Gone>,
        /// Places that were changed within what stayed: flags, UIDs, or the bytes of a file that is no mailbox.
        changed: u64,
    },
    /// It had lost all its names, and its space was freed.
    Freed {
        /// User, group and permission bits: for one who makes it anew.
        owner: (u32, u32, u32),
        /// The messages in it.
        removed: Vec<Gone>,
    },
    /// Damaged messages were taken out of it.
    Quarantined {
        /// How many, about.
        messages: u64,
        /// What was left of them then: paths.
        kept: Vec<String>,
    },
}

impl Did {
    /// Messages that it removed.
    #[must_use]
    pub fn removed(&self) -> &[Gone] {
        match self {
            Self::Content { removed, .. } | Self::Freed { removed, .. } => removed,
            Self::Named | Self::Unnamed | Self::Renamed { .. } | Self::Quarantined { .. } => &[],
        }
    }
}

/// A message that was removed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Gone {
    /// What it was (`mbox::identity`).
    pub identity: [u8; 32],
    /// Headers as they stood, at most `TEXT_BYTES_MAX` bytes each: From,
    pub from: String,
    /// Date,
    pub date: String,
    /// Subject,
    pub subject: String,
    /// and Message-ID, with its brackets.
    pub id: String,
    /// Bytes, From_ line and the empty line behind it included.
    pub len: u64,
    /// Where they are kept; none: there was no room.
    pub place: Option<Place>,
}

/// A place in the history of one brick.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, Serialize, Deserialize)]
pub struct Place {
    /// Number of the file.
    pub segment: u64,
    /// Byte in it.
    pub offset: u64,
}

/// What an operator wants to see of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Question {
    /// Of this file only.
    pub path: Option<String>,
    /// About the message with this Message-ID only, with its brackets.
    pub id: Option<String>,
    /// Not older.
    pub since: Timestamp,
    /// Only what removed messages, without those that the file (`path`) holds now.
    pub gone: bool,
    /// From there on: `Page::next`.
    pub from: Place,
}

/// A part of it, oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Page {
    /// Some entries.
    pub entries: Vec<Entry>,
    /// There may be more from here on.
    pub next: Option<Place>,
    /// When the oldest entry that is still there was written, about.
    pub begins: Option<Timestamp>,
}
