//! The conversation between an operator and a brickd: state of the brick's brain. Verbs on peers and volumes are added
//! beside it.
//!
//! Promises: counts are exact at the moment of the answer.
//! Not here: words and tables (`cli`).

use crate::{
    BrickId, SessionId,
    call::{Space, View},
};
use alloc::{string::String, vec::Vec};

/// Where a brick stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Status {
    /// Started; waits for its peer.
    Boot,
    /// Lost its peer a moment ago; decides.
    Suspect,
    /// Both bricks work.
    Normal,
    /// Goes on alone; the peer lacks what came since.
    Solo,
    /// Gets what it lacks from its peer.
    Learner,
    /// Both changed the volume while apart; each side serves its own copy until they are merged.
    Diverged,
}

/// Snapshot of a brick's brain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrickReport {
    /// Which brick.
    pub brick: BrickId,
    /// Where it stands.
    pub status: Status,
    /// Is it the primary of its view?
    pub primary: bool,
    /// Generation and view.
    pub view: View,
    /// Is the peer's stream up?
    pub peer_connected: bool,
    /// Last record in the log.
    pub last: u64,
    /// Last committed record.
    pub commit: u64,
    /// Records that the peer surely has.
    pub peer_durable: u64,
    /// Committed records that are on this copy only.
    pub debt_records: u64,
    /// Bytes of messages and changes in them.
    pub debt_bytes: u64,
    /// Files that they change, at most 1000 names.
    pub debt_files: Vec<String>,
    /// Mounts: session, host, attached here?
    pub sessions: Vec<(SessionId, String, bool)>,
    /// Room.
    pub space: Space,
    /// Inodes.
    pub inodes: u64,
    /// Inter-node round trips that a reply waited for, since start.
    pub round_trips: u64,
    /// Requests answered, since start.
    pub requests: u64,
}
