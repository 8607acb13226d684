//! One life of the brain: it is stepped here, and what it wants is carried out here, at once and in order.
//!
//! L-1  Inputs are taken one after the other; outputs of a step are carried out before the next step.
//! L-2  What a step wants of the disk leaves after its frames (`release`), in order; records that the peer is not told of
//!      leave for the log before them (`heard`).
//! L-3  After `Stopped` or `Reload` nothing of this life has an effect any more.
//! L-4  A question to the history waits until the brick has executed what was in its log when it was asked: so it sees all that
//!      was acknowledged before, also at the backup, which executes a little later.
//!
//! Not here: how a life begins and what follows it (`driver`), streams (`mounts`, `peers`), threads (`disk`).

use crate::{
    clock,
    disk::{Disk, Load},
    local::{HistoryJob, VolumeConfig},
    mounts::MountTable,
    peers::{Slot, Taken},
    telemetry,
};
use mboxfs_brick::{
    Brick,
    input::{Input, MountConn},
    output::Output,
    quorum::Order,
};
use mboxfs_rpc::Sender;
use mboxfs_store::Log;
use mboxfs_types::{
    Nanos,
    admin::BrickReport,
    call::{Attach, ToBrick, ToMount},
    disk::Done,
    peer::{Beat, ToPeer},
    quorum::{AskWitness, Quorum, WitnessAt, WitnessTell},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Notify, mpsc::UnboundedSender, oneshot},
    task::AbortHandle,
};

/// How a life ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// On purpose.
    Stopped,
    /// The log above `keep` goes; then the next life begins.
    Reload {
        /// Last record to keep.
        keep: u64,
    },
}

/// A question to the witness.
pub(crate) struct Question {
    pub(crate) ticket: u64,
    pub(crate) at: WitnessAt,
    pub(crate) ask: AskWitness,
}

/// A brain with its disk and its streams.
pub(crate) struct Running {
    life: u64,
    born: Instant,
    volume: VolumeConfig,
    brain: Brick,
    disk: Disk,
    mounts: MountTable,
    peer: Slot<ToPeer>,
    beats: Slot<Beat>,
    /// Streams to the peer so far, both kinds.
    peer_conns: u64,
    asks: UnboundedSender<Question>,
    /// There is work for the disk.
    due: Arc<Notify>,
    /// The peer is told of what waits for the disk.
    said: bool,
    /// L-4, with the record that each waits for.
    looks: VecDeque<(u64, HistoryJob)>,
    inputs: VecDeque<Input>,
    out: Vec<Output>,
    stopping: bool,
    end: Option<End>,
    tasks: Vec<AbortHandle>,
}

impl Running {
    /// `out`: what the brain wanted when it was made.
    pub(crate) fn new(
        life: u64,
        volume: VolumeConfig,
        brain: Brick,
        disk: Disk,
        asks: UnboundedSender<Question>,
        out: Vec<Output>,
    ) -> Self {
        let mut running = Self {
            life,
            born: Instant::now(),
            volume,
            brain,
            disk,
            mounts: MountTable::default(),
            peer: Slot::default(),
            beats: Slot::default(),
            peer_conns: 0,
            asks,
            due: Arc::new(Notify::new()),
            said: false,
            looks: VecDeque::new(),
            inputs: VecDeque::new(),
            out,
            stopping: false,
            end: None,
            tasks: Vec::new(),
        };
        running.carry_out();
        running
    }

    pub(crate) const fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn age(&self) -> Duration {
        self.born.elapsed()
    }

    pub(crate) const fn volume(&self) -> &VolumeConfig {
        &self.volume
    }

    pub(crate) const fn is_stopping(&self) -> bool {
        self.stopping
    }

    pub(crate) fn report(&self) -> BrickReport {
        BrickReport {
            flushes: self.disk.flushes(),
            ..self.brain.report()
        }
    }

    /// Waits for the disk threads; for a thread that may block.
    pub(crate) fn halt(self) -> Result<Log, String> {
        self.disk.halt()
    }

    /// These tasks belong to this life.
    pub(crate) fn own(&mut self, tasks: impl IntoIterator<Item = AbortHandle>) {
        self.tasks.extend(tasks);
    }

    /// How it ended, once. All streams and tasks of this life are let go.
    pub(crate) fn take_end(&mut self) -> Option<End> {
        let end = self.end.take()?;
        for task in self.tasks.drain(..) {
            task.abort();
        }
        self.mounts = MountTable::default();
        self.peer.clear();
        self.beats.clear();
        Some(end)
    }

    // ---- the brain

    /// L-1. Carrying an output out may lead to more inputs (a stream turns out to be broken): they follow in order.
    fn feed(&mut self, input: Input) {
        self.inputs.push_back(input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(input) = self.inputs.pop_front() {
            if self.end.is_some() {
                self.inputs.clear();
                return;
            }
            self.brain.step(clock::now(), input, &mut self.out);
            self.carry_out();
        }
    }

    fn carry_out(&mut self) {
        let mut out = std::mem::take(&mut self.out);
        for output in out.drain(..) {
            if self.end.is_some() {
                break; // L-3
            }
            match output {
                Output::Mount { conn, frame } => self.say_to_mount(conn, frame),
                Output::DropMount { conn } => {
                    self.mounts.remove(conn);
                }
                Output::Peer(word) => {
                    self.said |= self.disk.holds();
                    if !self.peer.say(word) {
                        self.inputs.push_back(Input::PeerLost);
                    }
                }
                Output::Beat(beat) => {
                    self.beats.say(beat); // a broken one is noticed by its reader, and by the brain's clock
                }
                Output::DropPeer => {
                    self.beats.clear();
                    if self.peer.clear() {
                        self.inputs.push_back(Input::PeerLost);
                    }
                }
                Output::Disk(op) => self.disk.submit(op),
                Output::Witness { ticket, at, ask } => {
                    // Its task lives as long as this life.
                    let _ = self.asks.send(Question { ticket, at, ask });
                }
                Output::Reload { keep } => self.end = Some(End::Reload { keep }),
                Output::Stopped => self.end = Some(End::Stopped),
                Output::Event(event) => telemetry::event(&event),
            }
        }
        out.clear();
        self.out = out; // keeps its capacity
        self.pass_looks();
    }

    fn push(&self) {
        if self.disk.holds() {
            self.due.notify_one();
        }
    }

    /// Notified when there is something to release.
    pub(crate) fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.due)
    }

    /// L-2.
    pub(crate) fn release(&mut self) {
        self.said = false;
        self.disk.release();
    }

    /// The peer has said all that it has to say for now. Its records go to the log at once: what the backup tells its own
    /// mounts of older ones can wait.
    pub(crate) fn heard(&mut self) {
        if !self.said {
            self.disk.release_log();
        }
    }

    fn say_to_mount(&mut self, conn: MountConn, frame: ToMount) {
        if !self.mounts.say(conn, frame) {
            self.inputs.push_back(Input::MountLost { conn });
        }
    }

    // ---- what happens

    pub(crate) fn done(&mut self, done: Done) {
        self.feed(Input::Disk(done));
    }

    pub(crate) fn witness(&mut self, ticket: u64, tell: Option<WitnessTell>) {
        self.feed(Input::Witness { ticket, tell });
    }

    /// An operator's word. Errors: why not.
    pub(crate) fn order(&mut self, order: Order) -> Result<(), String> {
        if self.stopping || self.end.is_some() {
            return Err("this brick is about to stop".to_string());
        }
        let result = self.brain.order(clock::now(), order, &mut self.out);
        self.carry_out();
        self.drain();
        result
    }

    pub(crate) fn quorum(&self) -> Quorum {
        self.brain.quorum().clone()
    }

    /// Time has passed. Returns how long nothing has to be done.
    pub(crate) fn tick(&mut self) -> Option<Nanos> {
        self.feed(Input::Tick);
        let next = self.brain.next_deadline()?;
        Some(next - clock::now().mono)
    }

    pub(crate) fn stop(&mut self) {
        if !self.stopping {
            self.stopping = true;
            self.feed(Input::Stop);
        }
    }

    /// Says goodbye for a daemon that cannot go on. Nothing more is done in this life.
    pub(crate) fn fail(&mut self, why: String) {
        self.stopping = true;
        self.feed(Input::Failed { why });
    }

    /// Asks the history of this brick (L-4).
    pub(crate) fn look_back(&mut self, job: HistoryJob) {
        let (_, last) = self.brain.positions();
        self.looks.push_back((last, job));
        self.pass_looks();
    }

    fn pass_looks(&mut self) {
        while let Some((_, job)) = self.looks.pop_front_if(|(last, _)| *last <= self.brain.positions().0) {
            self.disk.look_back(job);
        }
        self.push();
    }

    /// A drill: the log stands still for a while.
    pub(crate) fn hold_log(&mut self, time: Duration) {
        self.disk.hold(time);
        self.push();
    }

    /// A drill: both streams to the peer break.
    pub(crate) fn drop_peer(&mut self) {
        self.beats.clear();
        if self.peer.clear() {
            self.feed(Input::PeerLost);
        }
    }

    /// A mount that was found fit to attach.
    pub(crate) fn mount_up(
        &mut self,
        conn: MountConn,
        attach: Attach,
        send: Sender<ToMount>,
    ) -> (oneshot::Receiver<()>, Arc<Load>) {
        let ended = self.mounts.insert(conn, send);
        self.feed(Input::Mount {
            conn,
            frame: ToBrick::Attach(attach),
        });
        (ended, self.disk.load())
    }

    /// False: that stream is none of ours any more.
    pub(crate) fn mount_frame(&mut self, conn: MountConn, frame: ToBrick) -> bool {
        let known = self.mounts.contains(conn);
        if known {
            self.feed(Input::Mount { conn, frame });
        }
        known
    }

    pub(crate) fn mount_lost(&mut self, conn: MountConn) {
        if self.mounts.remove(conn) {
            self.feed(Input::MountLost { conn });
        }
    }

    /// None: this brick is about to stop.
    pub(crate) fn peer_up(&mut self, send: Sender<ToPeer>) -> Option<Taken> {
        if self.stopping {
            return None;
        }
        self.peer_conns += 1;
        let conn = self.peer_conns;
        if self.peer.clear() {
            self.feed(Input::PeerLost);
        }
        let ended = self.peer.put(conn, send);
        self.feed(Input::PeerUp);
        Some(Taken { conn, ended })
    }

    /// False: that stream is none of ours any more.
    pub(crate) fn peer_word(&mut self, conn: u64, word: ToPeer) -> bool {
        let known = self.peer.is(conn);
        if known {
            self.feed(Input::Peer(word));
        }
        known
    }

    pub(crate) fn peer_lost(&mut self, conn: u64) {
        if self.peer.is(conn) {
            self.peer.clear();
            self.feed(Input::PeerLost);
        }
    }

    pub(crate) fn peer_dead(&mut self) {
        self.feed(Input::PeerDead);
    }

    /// None: this brick is about to stop.
    pub(crate) fn beat_up(&mut self, send: Sender<Beat>) -> Option<Taken> {
        if self.stopping {
            return None;
        }
        self.peer_conns += 1;
        let conn = self.peer_conns;
        let ended = self.beats.put(conn, send);
        Some(Taken { conn, ended })
    }

    /// False: that stream is none of ours any more.
    pub(crate) fn beat(&mut self, conn: u64, beat: Beat) -> bool {
        let known = self.beats.is(conn);
        if known {
            self.feed(Input::Beat(beat));
        }
        known
    }

    pub(crate) fn beat_lost(&mut self, conn: u64) {
        if self.beats.is(conn) {
            self.beats.clear();
        }
    }
}
