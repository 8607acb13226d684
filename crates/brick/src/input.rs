//! What comes into the brain of a brick: mounts, the peer, the disk, the witness, time.
//!
//! Promises: everything that the brain knows of the world is in here.
//! Not here: streams and threads (`brickd`).

use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Nanos, Timestamp,
    call::ToBrick,
    disk::{Done, Superblock},
    peer::{Beat, ToPeer},
    quorum::WitnessTell,
    record::Record,
};

/// Both clocks at the moment of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Clock {
    /// Monotonic (CLOCK_BOOTTIME).
    pub mono: Nanos,
    /// Wall clock.
    pub real: Timestamp,
}

/// Number of a mount's stream, chosen by the driver, never reused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MountConn(pub u64);

/// One thing that happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Input {
    /// A mount says. Its first frame is `ToBrick::Attach`.
    Mount {
        /// On this stream.
        conn: MountConn,
        /// What.
        frame: ToBrick,
    },
    /// A mount's stream ended.
    MountLost {
        /// Which.
        conn: MountConn,
    },
    /// The ordered stream to the peer is up: say `ToPeer::Hello`.
    PeerUp,
    /// It ended.
    PeerLost,
    /// After that: its host answers, and nobody listens there. Its process is dead, or the link is cut by a rule that says so.
    PeerDead,
    /// The peer says.
    Peer(ToPeer),
    /// The peer says on the heartbeat stream.
    Beat(Beat),
    /// The disk says.
    Disk(Done),
    /// The witness says, or could not be reached.
    Witness {
        /// Of the question (`Output::Witness`).
        ticket: u64,
        /// None: no answer.
        tell: Option<WitnessTell>,
    },
    /// Time has passed.
    Tick,
    /// The driver cannot go on: leave, nothing more is asked of the disk.
    Failed {
        /// For the operator of the other brick.
        why: String,
    },
    /// Stop on purpose: tell the peer, checkpoint, say `Output::Stopped`.
    Stop,
}

/// What the disk held when the brick was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recovered {
    /// Of this directory; its `inc` is already that of this start.
    pub superblock: Superblock,
    /// Encoded state of the last checkpoint; empty for a new brick.
    pub snapshot: Bytes,
    /// Records after the checkpoint, in order.
    pub records: Vec<Record>,
    /// First position that the log still has.
    pub log_start: u64,
    /// Where both bricks listen, Brick1 first.
    pub bricks: Vec<String>,
    /// Bytes executed before a checkpoint is written; `limits::CHECKPOINT_BYTES` but in tests.
    pub checkpoint_bytes: usize,
    /// Bytes executed alone before the log is trimmed although the peer lacks it; `limits::LOG_DEBT_BYTES_MAX` as a rule.
    pub log_debt_bytes: usize,
    /// Random, for generations that this start may have to begin.
    pub nonce: u32,
}

#[cfg(test)]
impl Recovered {
    /// Of an empty brick of a volume, for tests.
    pub(crate) fn empty() -> Self {
        use mboxfs_types::{VolumeId, ids::BrickUuid, limits};
        Self {
            superblock: Superblock {
                volume: Some(VolumeId([7; 16])),
                inc: 1,
                ..Superblock::new(BrickUuid([0; 16]))
            },
            snapshot: Bytes::new(),
            records: Vec::new(),
            log_start: 1,
            bricks: Vec::new(),
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            log_debt_bytes: limits::LOG_DEBT_BYTES_MAX,
            nonce: 5,
        }
    }
}
