//! The conversation between an operator and a brickd: the state of the brick's brain, peers, and the volume; and what two
//! brickd say to one another so that both do what the operator wants, or neither.
//!
//! Promises: counts are exact at the moment of the answer.
//! Not here: words and tables (`cli`), who may ask and what is done (`brickd::cluster`).

use crate::{
    BrickId, Fingerprint, Nanos, SessionId, Timestamp, VolumeId,
    call::{Space, View},
    disk::ScrubMark,
    history::{Page, Place, Question},
    quorum::{Policy, Quorum, Waits},
};
use alloc::{boxed::Box, string::String, vec::Vec};
use bytes::Bytes;
use core::fmt;
use serde::{Deserialize, Serialize};

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
    /// Its disk does not answer, or did not a moment ago: it keeps out of the way.
    Stalled,
    /// Does not serve, and will not before what `BrickReport::waits` says.
    Waiting,
}

/// The other brick is not in step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Away {
    /// Wall clock of the one who says so.
    pub since: Timestamp,
    /// What it said itself when it left, or what was noticed here. At most `limits::REASON_BYTES_MAX` bytes.
    pub why: String,
}

/// A file of which blocks do not fit their checksums.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadFile {
    /// As users know it.
    pub path: String,
    /// How many blocks, of `limits::SUM_BLOCK_BYTES` each.
    pub blocks: u64,
    /// How many of them are bad on the other brick, too.
    pub both: u64,
}

/// Messages that were damaged on both bricks and were taken out of a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quarantined {
    /// The mailbox, as it was called then.
    pub path: String,
    /// How many messages, about: where one ends cannot always be told.
    pub messages: u64,
    /// When.
    pub since: Timestamp,
    /// What is left of them: a file for each brick, or one if both have the same. When they are gone all is forgotten.
    pub kept: Vec<String>,
}

/// Both bricks changed something while they were apart that cannot be merged: one stands in its place, the other one is kept.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct KeptTwice {
    /// Of the one that is kept.
    pub path: String,
    /// Of a file that is no mailbox: the brick that had changed it so. None: different things were given one name, or its
    /// directory is gone.
    pub of: Option<BrickId>,
    /// When it was put there.
    pub since: Timestamp,
}

/// What an operator wants of the search for rot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScrubVerb {
    /// A pass over all files, from the beginning.
    Start,
    /// Rest until told otherwise.
    Pause,
    /// Go on.
    Resume,
}

/// What is known of the files of a brick at rest.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScrubReport {
    /// How far the last pass has come.
    pub mark: ScrubMark,
    /// Bytes of all files.
    pub bytes: u64,
    /// Of them, looked at in this pass.
    pub checked: u64,
    /// Files with blocks that are bad here, at most `limits::BAD_FILES_MAX`.
    pub bad: Vec<BadFile>,
    /// Blocks that were bad and were repaired, since start.
    pub repaired: u64,
    /// What could not be repaired, at most `limits::BAD_FILES_MAX`.
    pub quarantined: Vec<Quarantined>,
}

/// A heal under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Healing {
    /// What the peer changed while both were apart is merged; else the peer gets what it lacks.
    pub merges: bool,
    /// Since it began.
    pub elapsed: Nanos,
    /// Files and directories of a merge, or records that the peer got.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// The one that is being merged.
    pub at: String,
    /// Those that are still to be merged, at most 1000 names.
    pub left: Vec<String>,
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
    /// Since when and why the peer is not in step, if it was once since this brick started.
    pub peer_away: Option<Away>,
    /// Last record in the log.
    pub last: u64,
    /// Last committed record.
    pub commit: u64,
    /// Records that the peer surely has.
    pub peer_durable: u64,
    /// All records up to here are on both bricks, as far as this one knows.
    pub on_both: u64,
    /// Committed records that are on this copy only.
    pub debt_records: u64,
    /// Bytes of messages and changes in them.
    pub debt_bytes: u64,
    /// Messages that they add to mailboxes.
    pub debt_messages: u64,
    /// Files that they change, at most 1000 names
    pub debt_files: Vec<String>,
    /// of so many files.
    pub files_pending: u64,
    /// It makes its files those of its peer: how far it is.
    pub resync: Option<ResyncReport>,
    /// What a merge kept beside what stands in its place; at most 1000.
    pub conflicts: Vec<KeptTwice>,
    /// What is being done about it.
    pub healing: Option<Healing>,
    /// Mailboxes changed on both bricks that were merged here since the brick started.
    pub merged: u64,
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
    /// Device flushes that the log waited for, since start.
    pub flushes: u64,
    /// Why it does not serve; none if it does, or gets what it lacks.
    pub waits: Option<Waits>,
    /// Checksums of files at rest.
    pub scrub: ScrubReport,
    /// Does the witness answer, with this volume's register? None: it was not asked.
    pub witness: Option<bool>,
}

/// A brick that makes its files those of its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ResyncReport {
    /// Files of the volume. 0 until the peer has told.
    pub files: u64,
    /// Of them, those that are right.
    pub files_done: u64,
    /// Of them, those of which something was copied.
    pub files_copied: u64,
    /// Bytes in all files.
    pub bytes: u64,
    /// Of them, those that were compared or copied, or known to be right.
    pub bytes_done: u64,
    /// Bytes that were copied from the peer.
    pub copied: u64,
    /// Since it began.
    pub elapsed: Nanos,
}

impl ResyncReport {
    /// How long it will still take, if it goes on as it did. None: nobody can tell yet.
    #[must_use]
    pub fn left(&self) -> Option<Nanos> {
        let rest = self.bytes.saturating_sub(self.bytes_done);
        let done = u128::from(self.bytes_done);
        (done > 0)
            .then(|| Nanos(u64::try_from(u128::from(self.elapsed.0) * u128::from(rest) / done).unwrap_or(u64::MAX)))
    }
}

// ---- peers and the volume

/// Length of a host name (DNS), and of a volume's name.
pub const NAME_BYTES_MAX: usize = 255;
/// Length of a brick's path.
pub const PATH_BYTES_MAX: usize = 4096;
/// Hosts that one brickd may know; replica 2 needs one.
pub const PEERS_MAX: usize = 16;

/// Identity of a brickd in the pool: random, made with its brick directory's configuration.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct HostId(pub [u8; 16]);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dashed(&self.0, f)
    }
}

/// A volume's identity as people see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ShownVolumeId(pub VolumeId);

impl fmt::Display for ShownVolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        dashed(&self.0.0, f)
    }
}

/// As a UUID: 8-4-4-4-12 hexadecimal digits.
fn dashed(id: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, byte) in id.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            f.write_str("-")?;
        }
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// Letters, digits, `_`, `-` and `.`; not empty, no dot or dash in front.
#[must_use]
pub fn is_volume_name(name: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with(['.', '-']);
    fits && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// A host name or an address without its port. Whether it exists is for the resolver to say.
#[must_use]
pub fn is_host(host: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&host.len()) && !host.starts_with('-');
    fits && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.:%".contains(&b))
}

/// An absolute path without control characters.
#[must_use]
pub fn is_brick_path(path: &str) -> bool {
    path.len() <= PATH_BYTES_MAX && path.starts_with('/') && !path.chars().any(char::is_control)
}

/// A brick as the operator names it. Valid by `is_host` and `is_brick_path`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BrickSpec {
    /// Host name or address.
    pub host: String,
    /// None: the port on which that host's brickd listens.
    pub port: Option<u16>,
    /// The directory.
    pub path: String,
}

/// One side of a volume: where its brickd listens, and its directory.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct BrickAt {
    /// Host name or address, as given at `volume create`.
    pub host: String,
    /// Not 0.
    pub port: u16,
    /// The directory.
    pub path: String,
}

/// How far a volume has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Never started.
    Created,
    /// Served, also after a boot.
    Started,
    /// Not served.
    Stopped,
}

/// A volume, as both its brickd remember it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Valid by `is_volume_name`.
    pub name: String,
    /// Random.
    pub id: VolumeId,
    /// Created, started, stopped.
    pub phase: Phase,
    /// Brick1 and Brick2: `BrickId::A` and `B`.
    pub bricks: [BrickAt; 2],
}

impl Volume {
    /// The side that `brick` is.
    #[must_use]
    pub const fn side(&self, brick: BrickId) -> &BrickAt {
        &self.bricks[brick.index() as usize]
    }
}

/// What may be done with a volume that exists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VolumeVerb {
    /// Serve it.
    Start,
    /// Serve it no more.
    Stop,
    /// Forget it; the files stay.
    Delete,
}

/// What a drill does to one brick. Each ends by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The process is gone without a word, for `limits::DRILL`, and then starts as after a crash.
    Crash,
    /// The log's next flush takes `limits::DRILL`.
    SlowDisk,
    /// The bricks do not hear one another for `limits::DRILL`; on both.
    Partition,
}

/// A change that both brickd agree on before either does it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Plan {
    /// The volume that is to be; `Phase::Created`.
    Create {
        /// All of it.
        volume: Volume,
        /// Also on the root file system.
        force: bool,
    },
    /// Something about the volume that is.
    Change {
        /// Which.
        id: VolumeId,
        /// Its name, for messages.
        name: String,
        /// What.
        verb: VolumeVerb,
    },
    /// An empty directory takes the place of the brick that was there, in a volume that is served.
    Replace {
        /// The volume as it is to be.
        volume: Volume,
        /// Also on the root file system.
        force: bool,
    },
}

/// Options to be set; what is not named stays.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// `quorum`.
    pub policy: Option<Policy>,
    /// `witness`: host and port.
    pub witness: Option<(String, u16)>,
}

/// A question to a brickd, or an order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// The state; `deep`: of the peers too, who are asked now.
    Status {
        /// Peers too.
        deep: bool,
    },
    /// Take a host into the pool.
    Probe {
        /// Host name or address.
        host: String,
        /// Its brickd's port.
        port: u16,
        /// Its key must be this one. None: whichever it has at the first meeting, and the same one from then on.
        fingerprint: Option<Fingerprint>,
    },
    /// Take it out again.
    Detach {
        /// Any of its names.
        host: String,
        /// None: whichever it has.
        port: Option<u16>,
        /// Also if it does not answer.
        force: bool,
    },
    /// Make a volume of two bricks; the first one is Brick1.
    Create {
        /// Its name.
        name: String,
        /// One on this host, one on a peer.
        bricks: [BrickSpec; 2],
        /// Also on the root file system.
        force: bool,
    },
    /// Start, stop or delete a volume.
    Change {
        /// Its name.
        name: String,
        /// What.
        verb: VolumeVerb,
        /// For a start: also if it is started already.
        force: bool,
    },
    /// Put an empty directory in the place of the other brick; the brick of this brickd gives it everything.
    Replace {
        /// The volume.
        name: String,
        /// The brick that is replaced, as the volume has it.
        old: BrickSpec,
        /// The empty one.
        new: BrickSpec,
        /// Also on the root file system.
        force: bool,
    },
    /// Serve a brick no more: another directory is about to take its place.
    Retire {
        /// The volume.
        name: String,
        /// On this host, or on the peer.
        brick: BrickSpec,
    },
    /// Let the brick of this brickd, or of its peer, fail for a while: a drill (`mboxfs drill`).
    Drill {
        /// Name of the volume.
        name: String,
        /// How.
        fault: Fault,
        /// On the brickd that is asked; if not, on its peer.
        here: bool,
    },
    /// Set options of a volume that both bricks serve.
    Set {
        /// Its name.
        name: String,
        /// What is to change.
        options: Options,
        /// Asked by the other brickd: its brick is not the primary.
        relayed: bool,
    },
    /// Look for rot in the files of both bricks, or rest.
    Scrub {
        /// The volume.
        name: String,
        /// What to do.
        verb: ScrubVerb,
        /// Asked by the other brickd: for its own brick only.
        relayed: bool,
    },
    /// Begin at once what a heal would begin by itself.
    Heal {
        /// The volume; none: whichever there is.
        name: Option<String>,
        /// Compare all content, not only what is known to differ.
        full: bool,
        /// Asked by the other brickd.
        relayed: bool,
    },
    /// What happened to mailboxes, as this brick remembers it.
    History(Question),
    /// Bytes of a message that was removed: `Tell::Kept`.
    Kept {
        /// Where it is.
        place: Place,
        /// How long it is.
        len: u64,
        /// From there on, at most `history::KEPT_BYTES_MAX` bytes.
        skip: u64,
    },
    /// Let the brick of this host go on alone, whatever the policy says.
    ForceSolo {
        /// The volume.
        name: String,
    },
    /// Brickd to brickd: I take you into my pool, take me into yours.
    Hello {
        /// Who I am.
        from: HostId,
        /// Where I listen, on the address that this comes from.
        port: u16,
        /// What I call you.
        called: String,
    },
    /// Brickd to brickd: I forget you, forget me.
    Part {
        /// Who I am.
        from: HostId,
    },
    /// Brickd to brickd: could you do this? A yes reserves you for a while.
    Prepare {
        /// Who I am.
        from: HostId,
        /// Random; names the plan from now on.
        id: [u8; 16],
        /// What.
        plan: Plan,
    },
    /// Brickd to brickd: do it. May be said again.
    Commit {
        /// The plan.
        id: [u8; 16],
    },
    /// Brickd to brickd: do not do it, or undo it if it is done.
    Abort {
        /// The plan.
        id: [u8; 16],
    },
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Tell {
    /// Done; this is how things are now.
    Done(Box<HostState>),
    /// Answer to `Ask::History`.
    History(Page),
    /// Answer to `Ask::Kept`.
    Kept(Bytes),
    /// Nothing had to be done, and why.
    Already(String),
    /// Not done.
    Refused {
        /// One line.
        why: String,
        /// What to do instead; may be empty.
        hint: String,
    },
}

/// What a brickd says of itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostState {
    /// Who it is.
    pub id: HostId,
    /// Of its key.
    pub fingerprint: Fingerprint,
    /// What its host calls itself.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// Its process.
    pub pid: u32,
    /// Its brick's directory.
    pub data: String,
    /// The other hosts of the pool.
    pub peers: Vec<PeerState>,
    /// The volume, and which side of it is here.
    pub volume: Option<(Volume, BrickId)>,
    /// The brain, if the volume is served here.
    pub report: Option<BrickReport>,
    /// The policy of the volume as this brick knows it.
    pub quorum: Quorum,
}

/// A host of the pool as another one knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerState {
    /// Who it is.
    pub id: HostId,
    /// Of the key by which it is known.
    pub fingerprint: Fingerprint,
    /// The name by which it is dialled.
    pub host: String,
    /// Where it listens.
    pub port: u16,
    /// What else it was called, and the address it came from.
    pub names: Vec<String>,
    /// Its own words, if it was asked and answered.
    pub state: Option<Box<HostState>>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn ids_look_like_uuids() {
        let id = HostId([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 255]);
        assert_eq!(id.to_string(), "00010203-0405-0607-0809-0a0b0c0d0eff");
        assert_eq!(ShownVolumeId(VolumeId(id.0)).to_string(), id.to_string());
    }

    #[test]
    fn names_are_told_from_nonsense() {
        assert!(is_volume_name("gVol0") && is_volume_name("a_b-c.d"));
        for bad in ["", ".x", "-x", "a/b", "a b", "a\n", "\u{fc}"] {
            assert!(!is_volume_name(bad), "{bad:?}");
        }
        assert!(is_host("h1") && is_host("10.0.0.1") && is_host("fe80::1%eth0"));
        assert!(!is_host("") && !is_host("a b") && !is_host("--json") && !is_host("h/x"));
        assert!(is_brick_path("/glusterfs/vol0") && !is_brick_path("vol0") && !is_brick_path("/a\u{1b}"));
    }
}
