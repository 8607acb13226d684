//! The brain of a brick: one step per thing that happens.
//!
//! B1  `step` never blocks, reads no clock, does no I/O; all it knows comes in `Input`, all it wants goes out in `Output`.
//! B2  A reply leaves only when the record is committed: durable on both bricks, or on the one that is alone (L1).
//! B3  Records are executed in order and only when committed; nothing ever has to be undone (I3).
//!
//! Here: the parts and who gets which input. Not here: the parts (`view`, `quorum`, `replicate`, `attach`, `query`, `arbiter`).

use crate::{
    arbiter::Arbiter,
    attach::Mounts,
    debt::{Debt, Known, Snapshot},
    feed::Feed,
    fork::Fork,
    heal::{Heal, quarantine::Quarantine},
    input::{Clock, Input, Recovered},
    line,
    output::{Event, Output},
    owed::Owed,
    query::Looks,
    quorum::Asking,
    readers::Readers,
    resync::Resync,
    rot::Rot,
    scrub::Scrub,
    stall::Stall,
    state::State,
    view::{Peer, Stand},
};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::{String, ToString},
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_types::{
    BrickId, Key, Nanos, OpId, SessionId, Timestamp,
    call::{Op, Space, View},
    codec,
    disk::{DiskOp, Done, Effect, Superblock, Worth},
    limits,
    peer::ToPeer,
    record::Record,
};

/// What is written to the log and not yet executed, and what is known of its durability.
#[derive(Debug, Default)]
pub(crate) struct LogTail {
    /// Last record given to the disk.
    pub(crate) last: u64,
    /// Last durable one.
    pub(crate) durable: u64,
    /// Not executed yet, in order.
    pub(crate) pending: VecDeque<Record>,
    /// First position still on disk, and all that follow.
    pub(crate) start: u64,
    /// Position of the last durable checkpoint.
    saved: u64,
    /// Bytes executed since the last checkpoint.
    pub(crate) since_checkpoint: usize,
    /// A checkpoint is being written.
    pub(crate) checkpointing: bool,
    /// Its position and state, as long as the superblock that goes with it is not durable.
    pub(crate) held: Option<(u64, Bytes)>,
    /// Latest volume time given to a record: it never goes back.
    pub(crate) time: Timestamp,
}

impl LogTail {
    /// Would a start find that the log does not go on from its checkpoint?
    pub(crate) const fn is_broken(&self) -> bool {
        self.start > self.saved + 1
    }
}

/// Counters for operators and tests.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) round_trips: u64,
    pub(crate) requests: u64,
    /// Mailboxes changed on both bricks that were merged here.
    pub(crate) merged: u64,
}

/// The brain.
#[derive(Debug)]
pub struct Brick {
    pub(crate) me: BrickId,
    pub(crate) bricks: Vec<String>,
    pub(crate) checkpoint_bytes: usize,
    pub(crate) log_debt_bytes: usize,
    pub(crate) clock: Clock,
    pub(crate) sb: Superblock,
    /// Superblocks on their way to the disk.
    pub(crate) sb_writes: u32,
    /// Generation and view that records are numbered under.
    pub(crate) view: View,
    pub(crate) nonce: u32,
    pub(crate) next_ino: u32,
    pub(crate) stand: Stand,
    pub(crate) peer: Peer,
    pub(crate) asking: Asking,
    pub(crate) state: State,
    pub(crate) log: LogTail,
    pub(crate) arbiter: Arbiter,
    pub(crate) mounts: Mounts,
    pub(crate) looks: Looks,
    pub(crate) rot: Rot,
    pub(crate) scrub: Scrub,
    /// Requests of own mounts passed to the primary and not numbered yet.
    pub(crate) relayed: BTreeMap<(SessionId, u64), (u64, Op)>,
    /// Keys kept busy by numbered changes.
    pub(crate) busy: BTreeMap<OpId, BTreeSet<Key>>,
    pub(crate) debt: Debt,
    pub(crate) owed: Owed,
    pub(crate) counters: Counters,
    pub(crate) space: Space,
    pub(crate) peer_space: Option<Space>,
    pub(crate) spent: Spent,
    pub(crate) stall: Stall,
    pub(crate) stopping: bool,
    /// Alone: the moment at which it was left alone.
    pub(crate) fork: Option<Fork>,
    pub(crate) readers: Readers,
    /// Files that are freed when the superblock knows of no fork that needs them.
    pub(crate) unfreed: Vec<Effect>,
    /// What is ready is being said.
    pub(crate) pumping: bool,
    /// Merging what the peer has.
    pub(crate) heal: Option<Heal>,
    /// Taking damaged messages out of a mailbox.
    pub(crate) quarantine: Option<Quarantine>,
    /// When to try to merge again.
    pub(crate) merge_at: Option<Nanos>,
    /// Making the files those of the peer.
    pub(crate) resync: Option<Resync>,
    /// Of an earlier attempt at that: files that need not be looked at again.
    pub(crate) known: Known,
    /// The peer does that.
    pub(crate) feed: Feed,
}

/// What was admitted and may not be in what the disks last told of their room (L11): since the word before the last one,
/// because what was admitted shortly before the last was not in the files yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Spent {
    now: (u64, u64),
    before: (u64, u64),
}

impl Spent {
    pub(crate) const fn admit(&mut self, bytes: u64, inodes: u64) {
        self.now = (self.now.0 + bytes, self.now.1 + inodes);
    }

    const fn told(&mut self) {
        self.before = self.now;
        self.now = (0, 0);
    }

    const fn bytes(&self) -> u64 {
        self.now.0 + self.before.0
    }

    const fn inodes(&self) -> u64 {
        self.now.1 + self.before.1
    }
}

impl Brick {
    /// Opens the brain on what the disk held.
    ///
    /// Errors: one line, if the snapshot cannot be read or the records do not follow it.
    pub fn new(recovered: Recovered, clock: Clock, out: &mut Vec<Output>) -> Result<Self, String> {
        let (state, debt, owed, known) = if recovered.snapshot.is_empty() {
            (State::new(), Debt::default(), Owed::default(), Known::new())
        } else {
            let Snapshot {
                state,
                debt,
                owed,
                known,
                ..
            } = codec::decode(&recovered.snapshot)
                .map_err(|_| "the snapshot of the brick cannot be decoded".to_string())?;
            (state, debt, owed, known)
        };
        let mut log = LogTail {
            last: state.applied,
            saved: state.applied,
            start: recovered.log_start,
            ..LogTail::default()
        };
        let mut sb = recovered.superblock;
        if sb.overrun {
            // Segments may still hold what was trimmed; the snapshots that it followed are gone: no way back (`line::decide`).
            log.start = log.start.max(log.saved + 1);
        }
        for record in recovered.records {
            if record.tag.n <= state.applied {
                continue;
            }
            if record.tag.n != log.last + 1 {
                return Err("the log does not go on where the snapshot ends".to_string());
            }
            log.last = record.tag.n;
            line::extend(&mut sb.history, record.tag);
            log.pending.push_back(record);
        }
        log.durable = log.last;
        let newest = sb.history.last().map_or(View::default(), |e| View { g: e.g, v: e.v });
        let view = newest.max(View { g: sb.g, v: sb.v });
        let mut brick = Self {
            me: sb.brick,
            bricks: recovered.bricks,
            checkpoint_bytes: recovered.checkpoint_bytes,
            log_debt_bytes: recovered.log_debt_bytes,
            clock,
            sb,
            sb_writes: 0,
            view,
            nonce: recovered.nonce,
            next_ino: 0,
            stand: Stand::waiting(clock.mono),
            peer: Peer::default(),
            asking: Asking::default(),
            state,
            log,
            arbiter: Arbiter::default(),
            mounts: Mounts::default(),
            looks: Looks::default(),
            rot: Rot::default(),
            scrub: Scrub::default(),
            relayed: BTreeMap::new(),
            busy: BTreeMap::new(),
            debt,
            owed,
            counters: Counters::default(),
            space: Space {
                total: 0,
                free: u64::MAX,
                inodes: u64::MAX,
                inodes_free: u64::MAX,
            },
            peer_space: None,
            spent: Spent::default(),
            stall: Stall::default(),
            stopping: false,
            fork: None,
            readers: Readers::default(),
            unfreed: Vec::new(),
            pumping: false,
            heal: None,
            quarantine: None,
            merge_at: None,
            resync: None,
            known,
            feed: Feed::default(),
        };
        if brick.sb.fork.is_none_or(|fork| brick.state.applied <= fork) {
            brick.forget_debt(); // all of it is executed again
        }
        if brick.sb.files == Worth::Copying {
            // Not these files' log.
            brick.log.pending.clear();
        }
        brick.rot.replay_end = brick.log.last;
        brick.scrub.due = clock.mono + limits::SCRUB_FIRST;
        brick.boot(out);
        Ok(brick)
    }

    /// One thing happened at `now`; what follows from it is appended to `out`.
    pub fn step(&mut self, now: Clock, input: Input, out: &mut Vec<Output>) {
        self.clock = now;
        self.wake(out);
        let tick = matches!(input, Input::Tick);
        match input {
            Input::Mount { conn, frame } => self.on_mount(conn, frame, out),
            Input::MountLost { conn } => self.on_mount_lost(conn, out),
            Input::PeerUp => self.on_peer_up(out),
            Input::PeerLost => self.on_peer_lost(out),
            Input::PeerDead => self.on_peer_dead(),
            Input::Peer(message) => self.on_peer(message, out),
            Input::Beat(beat) => self.on_beat(beat, out),
            Input::Disk(done) => self.on_disk(done, out),
            Input::Witness { ticket, tell } => self.on_witness(ticket, tell, out),
            Input::Tick => self.on_tick(out),
            Input::Stop => self.on_stop(out),
            Input::Failed { why } => self.on_failed(&why, out),
        }
        self.advance(out);
        self.say_durable(tick, out);
        self.watch_disk(out);
    }

    fn on_disk(&mut self, done: Done, out: &mut Vec<Output>) {
        match done {
            Done::Appended { .. } | Done::Superblock | Done::Log { .. } | Done::LogRot { .. } => {
                self.stall.log_moved(self.clock.mono);
            }
            Done::Answer { .. } => self.stall.look_moved(),
            Done::Space(_) => self.stall.files_moved(),
            Done::Checkpoint { .. } | Done::Damage { .. } | Done::Scrubbed { .. } => {}
        }
        match done {
            Done::Appended { n } => self.on_appended(n, out),
            Done::Superblock => self.on_superblock(out),
            Done::Answer { ticket, result } => self.on_look(ticket, result, out),
            Done::Checkpoint { n } => self.on_checkpoint(n, out),
            Done::Log { from, records } => self.on_log_read(from, records, out),
            Done::LogRot { n } => self.on_log_rot(n, out),
            Done::Damage { bad, doubtful } => self.on_damage(bad, doubtful, out),
            Done::Scrubbed { ino, suspects } => self.on_scrubbed(ino, &suspects, out),
            Done::Space(space) => {
                self.space = space;
                self.spent.told();
            }
        }
    }

    fn on_stop(&mut self, out: &mut Vec<Output>) {
        self.stopping = true;
        // From the goodbye on the peer may serve alone: no mount may be answered here any more.
        self.drop_mounts(out);
        if self.peer.up {
            let why = "it was stopped on purpose".to_string();
            out.push(Output::Peer(ToPeer::Goodbye { why }));
        }
        if self.log.checkpointing {
            return; // on_checkpoint goes on from here
        }
        if self.may_checkpoint() {
            self.checkpoint(out);
        } else {
            out.push(Output::Stopped);
        }
    }

    pub(crate) fn on_checkpoint(&mut self, n: u64, out: &mut Vec<Output>) {
        self.log.checkpointing = false;
        self.log.saved = n;
        if self.stand == Stand::GivingUp && !self.stopping {
            // U3
            return out.push(Output::Reload { keep: n });
        }
        if self.resync.is_some() {
            return self.on_saved(out);
        }
        if self.may_checkpoint() {
            let below = n.min(self.needed_by_peer()) + 1;
            if below > self.log.start {
                self.log.start = below;
                out.push(Output::Disk(DiskOp::Trim { below }));
            }
        }
        if self.stopping {
            out.push(Output::Stopped);
        }
    }

    /// While this brick is alone, or behind, it keeps the last common snapshot and the whole log after it: its line may
    /// have to be given up, or shipped. Until that becomes too much (`feed`).
    pub(crate) fn may_checkpoint(&self) -> bool {
        match self.stand {
            Stand::Normal => true,
            Stand::Solo { .. } => self.sb.overrun && self.fork.is_none(),
            _ => false,
        }
    }

    pub(crate) fn checkpoint(&mut self, out: &mut Vec<Output>) {
        self.log.checkpointing = true;
        self.log.since_checkpoint = 0;
        // The log below the checkpoint will not tell the line of history any more: the superblock must (V1), and before that:
        // the two are written by different threads.
        self.write_superblock(out);
        let snapshot = self.snapshot_of(&self.state, &Known::new());
        self.log.held = Some((self.state.applied, snapshot));
    }

    /// All superblocks that were written are durable.
    pub(crate) fn write_checkpoint(&mut self, out: &mut Vec<Output>) {
        if let Some((n, snapshot)) = self.log.held.take() {
            out.push(Output::Disk(DiskOp::Checkpoint { n, snapshot }));
        }
    }

    pub(crate) fn write_superblock(&mut self, out: &mut Vec<Output>) {
        self.sb_writes += 1;
        out.push(Output::Disk(DiskOp::Superblock(self.sb.clone())));
    }

    /// Volume time: never goes back, also when the clock does.
    pub(crate) fn stamp(&mut self) -> Timestamp {
        self.log.time = self.log.time.max(self.clock.real);
        self.log.time
    }

    pub(crate) fn event(event: Event, out: &mut Vec<Output>) {
        out.push(Output::Event(event));
    }

    /// Asserts the invariants. Costs time in proportion to all that the brick knows: for the simulator, after every step.
    ///
    /// # Panics
    /// With the invariant that is broken.
    pub fn check(&self) {
        self.state.check();
        self.arbiter.check();
        assert!(
            self.state.applied <= self.log.last,
            "I3: executed what is not in the log"
        );
    }

    /// When `Input::Tick` is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        Some(self.clock.mono + Nanos::from_millis(20))
    }

    /// Room on both bricks.
    pub(crate) fn room(&self) -> Space {
        let peer = self.peer_space.filter(|_| matches!(self.stand, Stand::Normal));
        let p = peer.unwrap_or(self.space);
        Space {
            total: self.space.total.min(p.total),
            free: self.space.free.min(p.free).saturating_sub(self.spent.bytes()),
            inodes: self.space.inodes.min(p.inodes),
            inodes_free: self
                .space
                .inodes_free
                .min(p.inodes_free)
                .saturating_sub(self.spent.inodes()),
        }
    }
}
