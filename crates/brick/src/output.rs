//! What the brain of a brick wants done.
//!
//! Promises: outputs are carried out in the order given, each kind on its own ordered channel.
//! Not here: doing them (`brickd::driver`).

use crate::input::MountConn;
use alloc::{string::String, vec::Vec};
use mboxfs_types::{
    GenId, Nanos, SessionId,
    admin::Status,
    call::ToMount,
    disk::DiskOp,
    peer::{Beat, ToPeer},
    quorum::{AskWitness, Quorum, WitnessAt},
};

/// One thing to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Say this to a mount.
    Mount {
        /// On this stream.
        conn: MountConn,
        /// What.
        frame: ToMount,
    },
    /// Close a mount's stream after what was said.
    DropMount {
        /// Which.
        conn: MountConn,
    },
    /// Say this to the peer.
    Peer(ToPeer),
    /// Say this on the heartbeat stream, if it is up.
    Beat(Beat),
    /// Drop the peer's streams; new ones may be made at once.
    DropPeer,
    /// For the disk.
    Disk(DiskOp),
    /// Ask the witness; what it says, or that it says nothing, comes back as `Input::Witness`.
    Witness {
        /// Goes back with the answer.
        ticket: u64,
        /// Where it is, and whose key it has.
        at: WitnessAt,
        /// The question.
        ask: AskWitness,
    },
    /// This line of history ends at `keep`: drop the log above it, open the brick anew (as after a crash) and go on.
    Reload {
        /// Last record to keep.
        keep: u64,
    },
    /// The brick has stopped.
    Stopped,
    /// For the log.
    Event(Event),
}

/// Events for the log and for counters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// The brick stands elsewhere now.
    Status {
        /// Before.
        from: Status,
        /// Now.
        to: Status,
        /// Generation.
        g: GenId,
        /// View.
        v: u32,
        /// Why, in a few words.
        why: &'static str,
    },
    /// The peer's words make no sense; its streams are dropped.
    PeerRefused {
        /// Why.
        why: String,
    },
    /// The disk has not answered for `limits::STALL`.
    Stalled,
    /// The disk is too slow to go on with; medians of the last syncs of the log.
    Slow {
        /// Here; 0: there were few, and they were slow still.
        own: Nanos,
        /// Of the peer.
        peer: Nanos,
    },
    /// A session's locks are gone.
    SessionExpired {
        /// Which.
        session: SessionId,
    },
    /// Both sides changed the volume while apart. Nothing is lost; each keeps its own until they are merged.
    Diverged {
        /// Last common record.
        common: u64,
        /// Records here after it.
        here: u64,
        /// Records there after it.
        there: u64,
    },
    /// The peer has merged all of this brick's line of history; it is dropped.
    GivesUp {
        /// Records in it.
        records: u64,
    },
    /// Part of what the peer has is merged.
    Merged {
        /// Objects that the peer changed.
        objects: u64,
        /// Of them, mailboxes changed on both sides.
        mailboxes: u64,
        /// Of them, files that are no mailbox and were changed on both sides: one copy is in `.mboxfs-conflict`.
        conflicts: u64,
    },
    /// One file is whole again.
    Mended {
        /// Which.
        path: String,
        /// How.
        how: Mended,
    },
    /// Merging stopped; it begins again when the peer comes back.
    MergeFailed {
        /// Which object.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// The log since the peer left has outgrown its limit: it is not kept any more, nor is what files held then.
    Overrun,
    /// A record of the log cannot be read any more. Files hold what it did, and a peer that lacks it gets files.
    LogRotten {
        /// Its position.
        n: u64,
    },
    /// This brick's files are those of its peer; it gets what came meanwhile from the log.
    Resynced {
        /// Files of which something was copied.
        files: u64,
        /// Bytes copied.
        bytes: u64,
    },
    /// The peer has everything again.
    Healed {
        /// Records that it got.
        records: u64,
    },
    /// Blocks of a file do not hold what was written to them, or cannot be read. They are not given out.
    Rotten {
        /// Which file.
        path: String,
        /// Which blocks.
        blocks: Vec<u64>,
    },
    /// A bad block was repaired with the peer's copy.
    Repaired {
        /// Which file.
        path: String,
        /// Which block.
        block: u64,
    },
    /// The bricks hold different bytes in a block, and each of them what was written to it. It is a fault of this software.
    Differ {
        /// Which file.
        path: String,
        /// Which block.
        block: u64,
    },
    /// All files were looked at for rot.
    Scrubbed {
        /// Bytes.
        bytes: u64,
        /// Files that are damaged now.
        bad: u64,
    },
    /// A block is bad on both bricks, or they differ and both look good.
    RottenTwice {
        /// Which file.
        path: String,
        /// Which block.
        block: u64,
    },
    /// Messages that are damaged on both bricks were taken out of a mailbox.
    Quarantined {
        /// Which.
        path: String,
        /// How many, about.
        messages: u64,
        /// Names of files in `.mboxfs-conflict`: what is left of them.
        kept: Vec<String>,
    },
    /// A file that is damaged on both bricks stays as it is.
    NotQuarantined {
        /// Which.
        path: String,
        /// Why.
        why: &'static str,
    },
    /// Another policy is in force from now on.
    Quorum {
        /// Which.
        quorum: Quorum,
    },
    /// The witness does not answer. Said once.
    WitnessSilent,
    /// The witness has no register of this volume. Said once.
    WitnessForgot,
    /// A mount spoke of a lease that it does not hold; its request was refused.
    Fenced {
        /// Which session.
        session: SessionId,
    },
}

/// How a file became whole again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mended {
    /// The peer got what it lacked.
    Sent,
    /// Changed on both sides: its messages were merged.
    Merged,
    /// Changed on the peer only: taken from there.
    Taken,
    /// Changed on both sides and no mailbox: both copies are kept.
    KeptTwice,
    /// One of the copies is damaged: the one here stays, the other one is kept as it is.
    Damaged,
}
