//! The conversation between the two bricks: one ordered stream, and heartbeats on a stream of their own.
//!
//! Promises
//! P1  The primary numbers; a record is committed when both have it durable, or the one member that is alone.
//! P2  Nothing of an older connection has an effect on a newer one: streams die whole, and [`Hello`] comes first.
//! P3  The primary is the arbiter of leases; the backup passes the words of its mounts on, unread, in order.
//!
//! Not here: bytes on the wire (`rpc`).

use crate::{
    BrickId, Errno, Ino, Nanos, SessionId, Tag, Timestamp, VolumeId,
    call::{Space, ToBrick, ToMount, View},
    disk::Epoch,
    heal::Ask,
    ids::BrickUuid,
    record::{Members, Record},
};
use alloc::{string::String, vec::Vec};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// What a brick says to the other on the ordered stream.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum ToPeer {
    /// First message, both ways.
    Hello(Hello),
    /// From the source of a catch-up: records that you lack. The last batch is empty.
    Suffix {
        /// In order.
        records: Vec<Record>,
    },
    /// From the one who numbers: log this record. Behind an empty `Suffix` it also ends a catch-up.
    Append {
        /// The record.
        entry: Entry,
    },
    /// My log is durable up to here.
    Durable {
        /// Position.
        n: u64,
    },
    /// Committed up to here: said by one who is alone to one who catches up.
    Commit {
        /// Position.
        n: u64,
    },
    /// A mount at the backup says this to the arbiter.
    Relay {
        /// The mount.
        session: SessionId,
        /// What.
        frame: ToBrick,
    },
    /// The arbiter says this to a mount at the backup.
    Deliver {
        /// The mount.
        session: SessionId,
        /// What.
        frame: ToMount,
    },
    /// A mount at the backup lost its connection.
    Lost {
        /// The mount.
        session: SessionId,
    },
    /// From the one who merges.
    Ask {
        /// Its number for the answer.
        ticket: u64,
        /// What.
        ask: Ask,
    },
    /// An answer, in parts.
    Part {
        /// As asked.
        ticket: u64,
        /// The next bytes, or why there are none.
        data: Result<Bytes, Errno>,
        /// There are no more.
        last: bool,
    },
    /// From one who is in step, and whose copy is bad.
    Check {
        /// Its number for the answer.
        ticket: u64,
        /// What it wants to know.
        check: Check,
    },
    /// The answer.
    Checked {
        /// As asked.
        ticket: u64,
        /// Version of the file that it is about.
        version: u64,
        /// Beyond doubt.
        sure: bool,
        /// At most `limits::SUM_BLOCK_BYTES`. ENODATA: this copy is bad, too. Another error: not now.
        data: Result<Bytes, Errno>,
    },
    /// All that you changed is here too: give up your line of history and learn mine.
    Merged,
    /// From the one that copied files: they are yours as of this record, as soon as your log after it is executed.
    Copied {
        /// Position of the state that was asked for.
        n: u64,
    },
    /// I serve nobody any more; go on without me at once.
    Goodbye {
        /// For the operator: stopped on purpose, or what has failed here. At most `limits::REASON_BYTES_MAX` bytes.
        why: String,
    },
}

/// What a brick asks of the other one's copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Check {
    /// A whole block of a file, good beyond doubt.
    Block {
        /// The file.
        ino: Ino,
        /// Which, of `limits::SUM_BLOCK_BYTES` each.
        block: u64,
    },
    /// A whole block of a file as it is, good or not: it is bad on the side that asks. One that gets files answers, too, with
    /// version 0.
    Raw {
        /// The file.
        ino: Ino,
        /// Which.
        block: u64,
    },
    /// Checksums of blocks, four bytes each, little-endian.
    Sums {
        /// The file.
        ino: Ino,
        /// First block.
        first: u64,
        /// At most `limits::SCRUB_BLOCKS`.
        count: u64,
    },
}

/// A numbered record on its way to the backup. The body of an operation that the backup itself relayed is not sent back.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Entry {
    /// Whole.
    Whole(Record),
    /// Number for a request that you relayed.
    Numbered {
        /// Number, generation, view.
        tag: Tag,
        /// Volume time.
        time: Timestamp,
        /// For a new inode.
        ino: Ino,
        /// Which session's
        session: SessionId,
        /// request.
        seq: u64,
    },
}

/// Who I am and what I have.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// `limits::PROTOCOL_VERSION`.
    pub protocol: u32,
    /// Volume.
    pub volume: VolumeId,
    /// Which brick I am.
    pub brick: BrickId,
    /// My directory.
    pub uuid: BrickUuid,
    /// My process starts.
    pub inc: u32,
    /// Generation and view.
    pub view: View,
    /// Members of it.
    pub members: Members,
    /// My line of history.
    pub history: Vec<Epoch>,
    /// Last record in my log.
    pub last: u64,
    /// First record that I can still send.
    pub log_start: u64,
    /// Position of the last record that changed what users see.
    pub last_change: u64,
    /// Started since I last worked with you: my memory of leases is gone.
    pub fresh: bool,
    /// I have recorded that both of us changed the volume while apart.
    pub diverged: bool,
    /// I have merged some of your line into mine already.
    pub merging: bool,
    /// I was alone and began to let you join: from this position on I commit nothing without you.
    pub joint: Option<u64>,
    /// My log since I was left alone outgrew its limit: what files held then is not known any more.
    pub overrun: bool,
    /// My files are half those of yours: what else this says of my log counts for nothing.
    pub incomplete: bool,
}

/// Heartbeat question.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ping {
    /// Sender's clock.
    pub sent: Nanos,
    /// Sender's generation and view.
    pub view: View,
    /// Sender's wall clock.
    pub real: Timestamp,
    /// Room on the sender's brick.
    pub space: Space,
    /// How long a sync of the sender's log takes, the median of the last ones; 0: not known.
    pub sync: Nanos,
}

/// Heartbeat answer: "I shall not go on alone for `limits::PROMISE` from now".
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Pong {
    /// As in the ping.
    pub sent: Nanos,
    /// Generation and view that the promise is for.
    pub view: View,
}

/// What the heartbeat stream carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Beat {
    /// Question.
    Ping(Ping),
    /// Answer.
    Pong(Pong),
}
