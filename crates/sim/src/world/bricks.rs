//! Bricks: their processes, their streams, and what they say.
//!
//! Promises: as `brickd::running`: inputs are taken one after the other, outputs of a step are carried out before the next;
//! after `Stopped` or `Reload` nothing of that life has an effect any more.
//! Not here: their disks (`disks`).

use super::{
    Event, MS, World,
    net::{Kind, Word},
};
use crate::{
    disk::{Disk, Thread},
    invariants::{Broken, Fact},
    plan::Settings,
};
use mboxfs_brick::{
    Brick,
    input::{Clock, Input, MountConn, Recovered},
    output::{Event as Said, Output},
};
use mboxfs_types::{
    BrickId, Name, OpId, SessionId, Tag,
    admin::{BrickReport, Status},
    call::{Op, ToBrick},
    disk::{DiskOp, Done},
    limits,
    record::{Body, Record},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Between two tries to reach the peer.
const REDIAL: u64 = 60 * MS;

/// A server: its clock, its brick.
pub struct Host {
    pub power: bool,
    /// In 1/1 000 000.
    pub(crate) drift: i64,
    /// Of the wall clock, in s.
    pub(crate) jump: i64,
    pub brick: Option<Brick>,
    pub disk: Disk,
    pub(crate) life: u64,
    inputs: VecDeque<Input>,
    stepping: bool,
    /// The process is stopped until then.
    pub(crate) stopped_until: u64,
    late: VecDeque<Input>,
    peer: Option<u64>,
    beats: Option<u64>,
    mounts: BTreeSet<u64>,
    /// Each record that was given to the disk and was not dropped since.
    pub records: BTreeMap<u64, Record>,
    /// Where each operation is among them.
    pub by_op: BTreeMap<OpId, u64>,
    pub(crate) next_space: u64,
    /// The disk: answers after so many ns more, until then.
    pub(crate) slow: (u64, u64),
    pub(crate) stalled_until: u64,
    /// Its files alone stand still until then.
    pub(crate) stuck_until: u64,
    /// It is started again so many ms after it has stopped.
    pub(crate) again_after: Option<u64>,
    /// What a checker has seen of it last.
    pub last_status: Option<Status>,
}

impl Host {
    pub(crate) fn new(i: usize, settings: &Settings) -> Self {
        let brick = BrickId::from_index(i as u32).expect("two bricks");
        Self {
            power: true,
            drift: settings.drift[i],
            jump: 0,
            brick: None,
            disk: Disk::format(brick, settings.segment_bytes).with_files(settings.files),
            life: 0,
            inputs: VecDeque::new(),
            stepping: false,
            stopped_until: 0,
            late: VecDeque::new(),
            peer: None,
            beats: None,
            mounts: BTreeSet::new(),
            records: BTreeMap::new(),
            by_op: BTreeMap::new(),
            next_space: 0,
            slow: (0, 0),
            stalled_until: 0,
            stuck_until: 0,
            again_after: None,
            last_status: None,
        }
    }

    fn note(&mut self, record: &Record) {
        self.drop_above(record.tag.n - 1);
        if let Body::Op { id, .. } = &record.body {
            self.by_op.insert(*id, record.tag.n);
        }
        self.records.insert(record.tag.n, record.clone());
    }

    pub(crate) fn drop_above(&mut self, keep: u64) {
        let gone = self.records.split_off(&(keep + 1));
        for record in gone.values() {
            if let Body::Op { id, .. } = &record.body {
                self.by_op.remove(id);
            }
        }
    }

    /// The thread does nothing before that.
    pub(crate) fn stands_until(&self, thread: Thread) -> u64 {
        match thread {
            Thread::Files => self.stalled_until.max(self.stuck_until),
            Thread::Log | Thread::Checkpoint => self.stalled_until,
        }
    }

    /// Tag of a record.
    #[must_use]
    pub fn tag(&self, n: u64) -> Option<Tag> {
        self.records.get(&n).map(|r| r.tag)
    }

    #[must_use]
    pub fn report(&self) -> Option<BrickReport> {
        self.brick.as_ref().map(Brick::report)
    }

    #[must_use]
    pub fn status(&self) -> Option<Status> {
        self.report().map(|r| r.status)
    }
}

impl World {
    /// The daemon starts.
    pub fn start(&mut self, i: usize) {
        if self.hosts[i].brick.is_some() || !self.hosts[i].power {
            return;
        }
        let nonce = self.rng.below(u64::from(u32::MAX)) as u32;
        let clock = self.brick_clock(i);
        let (checkpoint_bytes, log_debt_bytes) = (self.settings.checkpoint_bytes, self.settings.log_debt_bytes);
        let host = &mut self.hosts[i];
        let found = match host.disk.open() {
            Ok(found) => found,
            Err(why) if host.disk.is_failing() => {
                host.disk.repair();
                self.journal
                    .event(self.now, format_args!("brick{i} cannot be opened: {why}"));
                return self.after(500 * MS, Event::Start { brick: i });
            }
            Err(why) if host.disk.log_rots() => return self.refused(i, &why.to_string()),
            Err(why) => return self.fails(Broken::new("K3", "L1", format!("brick {i} cannot be opened: {why}"))),
        };
        if let Err(why) = host.disk.sound.clone() {
            return self.fails(Broken::new("K3", "L1", format!("brick {i} starts: {why}")));
        }
        host.life += 1;
        host.drop_above(host.disk.durable);
        for record in &found.records {
            host.note(record);
        }
        let recovered = Recovered {
            superblock: found.superblock,
            snapshot: found.snapshot,
            records: found.records,
            log_start: found.log_start,
            bricks: vec!["h0:24009".into(), "h1:24009".into()],
            checkpoint_bytes,
            log_debt_bytes,
            nonce,
        };
        let mut out = Vec::new();
        match Brick::new(recovered, clock, &mut out) {
            Ok(brick) => host.brick = Some(brick),
            Err(why) => return self.fails(Broken::new("K3", "L1", format!("brick {i} cannot begin: {why}"))),
        }
        host.next_space = 0;
        host.stopped_until = 0;
        host.late.clear();
        self.journal.event(self.now, format_args!("brick{i} starts"));
        self.carry_out(i, out);
    }

    pub(crate) fn brick_clock(&self, i: usize) -> Clock {
        let (mono, real) = self.clock(i);
        Clock { mono, real }
    }

    pub(crate) fn tick_brick(&mut self, i: usize) {
        let host = &self.hosts[i];
        if self.now >= host.next_space.max(host.stands_until(Thread::Files)) && host.brick.is_some() {
            self.hosts[i].next_space = self.now + limits::SPACE_EVERY.0;
            let space = self.hosts[i].disk.space();
            self.feed(i, Input::Disk(Done::Space(space)));
        }
        self.feed(i, Input::Tick);
    }

    /// One thing happens to a brick.
    pub(crate) fn feed(&mut self, i: usize, input: Input) {
        let now = self.now;
        let host = &mut self.hosts[i];
        if host.brick.is_none() {
            return;
        }
        if now < host.stopped_until {
            if input != Input::Tick {
                host.late.push_back(input);
            }
            return;
        }
        host.inputs.push_back(input);
        if !std::mem::replace(&mut host.stepping, true) {
            self.drain(i);
            self.hosts[i].stepping = false;
        }
    }

    fn drain(&mut self, i: usize) {
        while let Some(input) = self.hosts[i].inputs.pop_front() {
            let clock = self.brick_clock(i);
            let quiet = matches!(input, Input::Tick | Input::Beat(_) | Input::Disk(Done::Space(_)));
            let Some(brick) = self.hosts[i].brick.as_mut() else {
                self.hosts[i].inputs.clear();
                return;
            };
            let mut out = Vec::new();
            if !quiet && self.journal.traces() {
                self.journal.trace(self.now, format_args!("brick{i} <- {input:?}"));
            }
            brick.step(clock, input, &mut out);
            if !quiet {
                brick.check();
            }
            let said = !out.is_empty();
            self.carry_out(i, out);
            if said {
                self.look_at_status(i);
                self.see(&Fact::Step { brick: i });
            }
        }
    }

    fn look_at_status(&mut self, i: usize) {
        let status = self.hosts[i].status();
        if status != self.hosts[i].last_status {
            self.hosts[i].last_status = status;
            let other = &self.hosts[1 - i];
            if matches!(status, Some(Status::Solo | Status::Diverged)) && !self.oracle.own_line[i] {
                self.oracle.own_line[i] = true;
                self.forks += u32::from(self.oracle.own_line[1 - i]);
                self.oracle.forked = self.forks > 0;
            }
            let together = |s: Option<Status>| s == Some(Status::Normal);
            if together(status) && together(other.status()) {
                self.oracle.joined();
            }
        }
    }

    pub(crate) fn carry_out(&mut self, i: usize, out: Vec<Output>) {
        for output in out {
            self.see(&Fact::Says {
                brick: i,
                output: &output,
            });
            match output {
                Output::Mount { conn, frame } if self.hosts[i].mounts.contains(&conn.0) => {
                    self.send(conn.0, 1, Word::ToMount(frame));
                }
                Output::Mount { .. } => {}
                Output::DropMount { conn } => {
                    self.hosts[i].mounts.remove(&conn.0);
                    self.send(conn.0, 1, Word::End);
                }
                Output::Peer(word) => self.say_to_peer(i, self.hosts[i].peer, Word::Peer(word)),
                Output::Beat(beat) => self.say_to_peer(i, self.hosts[i].beats, Word::Beat(beat)),
                Output::DropPeer => self.drop_peer(i),
                Output::Disk(op) => self.submit(i, op),
                Output::Witness { ticket, ask, .. } => self.ask_third(i, ticket, ask),
                Output::Reload { keep } => return self.reload(i, keep),
                Output::Stopped => return self.stopped(i),
                Output::Event(event) => self.on_event(i, &event),
            }
        }
    }

    fn on_event(&mut self, i: usize, event: &Said) {
        self.resyncs += u32::from(matches!(event, Said::Resynced { .. }));
        self.journal.event(self.now, format_args!("brick{i} ** {event:?}"));
    }

    fn submit(&mut self, i: usize, op: DiskOp) {
        match &op {
            DiskOp::Append(record) => {
                self.hosts[i].note(record);
                // The answer may reach nobody.
                if let Body::Op {
                    op: Op::Create { name, .. },
                    ..
                } = &record.body
                {
                    self.note_made(name);
                }
            }
            // It takes over what the other one knows.
            DiskOp::Restart { next } => {
                let known = self.hosts[1 - i]
                    .records
                    .range(..next)
                    .map(|(_, record)| record.clone());
                let known: Vec<Record> = known.collect();
                self.hosts[i].drop_above(0);
                known.iter().for_each(|record| self.hosts[i].note(record));
            }
            _ => {}
        }
        self.give_disk(i, op);
    }

    pub(super) fn note_made(&mut self, name: &Name) {
        if self.oracle.own_line != [false; 2] {
            self.made_apart.insert(name.clone());
        }
    }

    fn reload(&mut self, i: usize, keep: u64) {
        self.reloads += 1;
        self.journal
            .event(self.now, format_args!("brick{i} drops what is above {keep}"));
        let disk = &mut self.hosts[i].disk;
        if let Err(why) = disk.halt().and_then(|()| disk.drop_above(keep)) {
            return self.disk_failed(i, why);
        }
        self.hosts[i].drop_above(keep);
        self.end_life(i);
        self.after(2 * MS, Event::Start { brick: i });
    }

    fn stopped(&mut self, i: usize) {
        self.end_life(i);
        if let Some(ms) = self.hosts[i].again_after.take() {
            self.after(ms * MS, Event::Start { brick: i });
        }
    }

    /// The process is gone, in order.
    pub(crate) fn end_life(&mut self, i: usize) {
        let _ = self.hosts[i].disk.halt();
        self.forget_life(i);
    }

    /// Its streams end, from its kernel's side.
    pub(crate) fn forget_life(&mut self, i: usize) {
        let host = &mut self.hosts[i];
        host.brick = None;
        host.life += 1;
        host.inputs.clear();
        host.late.clear();
        let mounts = std::mem::take(&mut host.mounts);
        let peers = [host.peer.take(), host.beats.take()];
        host.last_status = None;
        for conn in mounts {
            self.send(conn, 1, Word::End);
        }
        for conn in peers.into_iter().flatten() {
            self.send(conn, Self::peer_way(i), Word::End);
        }
    }

    pub(crate) fn has_stream(&self, i: usize, conn: u64) -> bool {
        let host = &self.hosts[i];
        host.peer == Some(conn) || host.beats == Some(conn) || host.mounts.contains(&conn)
    }

    // ---- the peer: Brick2 dials

    const fn peer_way(i: usize) -> u8 {
        (i == 0) as u8
    }

    fn say_to_peer(&mut self, i: usize, conn: Option<u64>, word: Word) {
        if let Some(conn) = conn {
            self.send(conn, Self::peer_way(i), word);
        }
    }

    fn drop_peer(&mut self, i: usize) {
        if let Some(conn) = self.hosts[i].beats.take() {
            self.send(conn, Self::peer_way(i), Word::End);
        }
        if let Some(conn) = self.hosts[i].peer.take() {
            self.send(conn, Self::peer_way(i), Word::End);
            self.peer_ended(i);
        }
    }

    /// `brickd::peers` S4.
    fn peer_ended(&mut self, i: usize) {
        let life = self.hosts[i].life;
        let late = self.delay(Kind::Peer, false) * 2;
        self.after(late, Event::LookAtPort { brick: i, life });
        self.feed(i, Input::PeerLost);
    }

    pub(crate) fn look_at_port(&mut self, i: usize, life: u64) {
        let other = &self.hosts[1 - i];
        let closed = other.brick.is_none() && self.both_ways(i, 1 - i);
        let ruled = self.net.refuses && other.power && !self.open(i, 1 - i);
        if self.hosts[i].life == life && (closed || ruled) {
            self.journal
                .event(self.now, format_args!("brick{i} finds the peer's port closed"));
            self.feed(i, Input::PeerDead);
        }
    }

    pub(crate) fn on_dial_peer(&mut self) {
        let late = self.rng.below(REDIAL / 2);
        self.after(REDIAL + late, Event::DialPeer);
        let ready = |h: &Host| h.brick.is_some();
        let awake = self.hosts.iter().all(|h| ready(h) && self.now >= h.stopped_until);
        if !awake || !self.both_ways(0, 1) {
            return;
        }
        if self.hosts[1].peer.is_none() {
            let conn = self.open_conn(Kind::Peer, 1, 0);
            if let Some(old) = self.hosts[0].peer.replace(conn) {
                self.send(old, 1, Word::End);
                self.feed(0, Input::PeerLost);
            }
            self.hosts[1].peer = Some(conn);
            self.send(conn, 1, Word::Open);
            self.feed(0, Input::PeerUp);
        }
        if self.hosts[1].beats.is_none() {
            let conn = self.open_conn(Kind::Beat, 1, 0);
            if let Some(old) = self.hosts[0].beats.replace(conn) {
                self.send(old, 1, Word::End);
            }
            self.hosts[1].beats = Some(conn);
        }
    }

    /// False: not the stream that this brick has.
    pub(crate) fn on_peer_word(&mut self, i: usize, conn: u64, word: Word) -> bool {
        if self.hosts[i].peer != Some(conn) {
            return false;
        }
        match word {
            Word::Open => self.feed(i, Input::PeerUp),
            Word::Peer(word) => self.feed(i, Input::Peer(word)),
            Word::End => {
                self.hosts[i].peer = None;
                self.send(conn, Self::peer_way(i), Word::End);
                self.peer_ended(i);
            }
            _ => {}
        }
        true
    }

    pub(crate) fn on_beat_word(&mut self, i: usize, conn: u64, word: Word) -> bool {
        if self.hosts[i].beats != Some(conn) {
            return false;
        }
        match word {
            Word::Beat(beat) => self.feed(i, Input::Beat(beat)),
            Word::End => {
                self.hosts[i].beats = None;
                self.send(conn, Self::peer_way(i), Word::End);
            }
            _ => {}
        }
        true
    }

    // ---- mounts

    pub(crate) fn on_mount_frame(&mut self, i: usize, conn: u64, frame: ToBrick) -> bool {
        if self.hosts[i].brick.is_none() {
            return false;
        }
        if let ToBrick::Attach(attach) = &frame {
            self.hosts[i].mounts.insert(conn);
            self.sessions.insert(conn, attach.session);
        }
        let known = self.hosts[i].mounts.contains(&conn);
        if known {
            let conn = MountConn(conn);
            self.feed(i, Input::Mount { conn, frame });
        }
        known
    }

    /// Who is at the other end of a stream.
    pub(crate) fn session_of(&self, conn: u64) -> Option<SessionId> {
        self.sessions.get(&conn).copied()
    }

    pub(crate) fn on_mount_end(&mut self, i: usize, conn: u64) -> bool {
        self.send(conn, 1, Word::End);
        if self.hosts[i].mounts.remove(&conn) {
            self.feed(i, Input::MountLost { conn: MountConn(conn) });
        }
        true
    }

    /// SIGCONT.
    pub(crate) fn wake(&mut self, i: usize) {
        if self.now >= self.hosts[i].stopped_until {
            let late = std::mem::take(&mut self.hosts[i].late);
            for input in late {
                self.feed(i, input);
            }
        }
    }
}
