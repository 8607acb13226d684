//! Records: what the log holds and the bricks exchange.
//!
//! Promises: executing the same records in the same order on the same state gives the same state, replies and effects on
//! either brick. A record holds whatever execution needs to know of time and chance.
//! Not here: framing and checksums (`store`), execution (`brick`).

use crate::{BrickId, GenId, Ino, OpId, SessionId, Tag, Timestamp, call::Op, quorum::Quorum};
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// One numbered entry of the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// Number, generation, view.
    pub tag: Tag,
    /// Volume time at numbering.
    pub time: Timestamp,
    /// Inode number for an operation that makes an inode.
    pub ino: Ino,
    /// What is to be done.
    pub body: Body,
}

/// What a record does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Body {
    /// First record of a generation.
    NewGen {
        /// The generation.
        g: GenId,
        /// Who is in it.
        members: Members,
        /// Who numbers.
        primary: BrickId,
    },
    /// A mount begins. Older sessions of the same client end.
    SessionOpen {
        /// Which.
        session: SessionId,
        /// Where it attached first.
        brick: BrickId,
        /// Host name, for operators.
        host: String,
    },
    /// A mount has ended or is taken to be dead: staged data dropped, orphans released.
    SessionExpire {
        /// Which.
        session: SessionId,
    },
    /// Who may go on alone, from its execution on (PROTOCOL.md 6.2).
    Quorum {
        /// The policy.
        quorum: Quorum,
    },
    /// A change asked for by a mount.
    Op {
        /// Who asked.
        id: OpId,
        /// Replies below this may be forgotten.
        acked: u64,
        /// The change.
        op: Op,
    },
    /// What the other line of history did to one object, merged into this one.
    Merge {
        /// The object there
        theirs: Ino,
        /// and which version of it: what was merged is not merged again. None: more records of this merge follow.
        version: Option<u64>,
        /// What that comes to here; what one of them makes gets the record's inode number.
        ops: Vec<Op>,
    },
    /// Damaged messages are taken out of a mailbox; what is left of them is kept beside it.
    Quarantine {
        /// A step of that.
        op: Op,
    },
}

impl Body {
    /// The changes that it makes, in order.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        match self {
            Self::Op { op, .. } | Self::Quarantine { op } => core::slice::from_ref(op),
            Self::Merge { ops, .. } => ops,
            _ => &[],
        }
    }
}

impl Body {
    /// Does this record change what users see? A line without such records has not diverged.
    #[must_use]
    pub const fn is_bookkeeping(&self) -> bool {
        !matches!(self, Self::Op { .. } | Self::Merge { .. } | Self::Quarantine { .. })
    }
}

/// Who has to have a record before it is committed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Members {
    /// Both bricks.
    Both,
    /// This one alone.
    Only(BrickId),
}

impl Members {
    /// Is `brick` one of them?
    #[must_use]
    pub fn contains(self, brick: BrickId) -> bool {
        match self {
            Self::Both => true,
            Self::Only(one) => one == brick,
        }
    }
}
