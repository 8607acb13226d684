//! The world: what happens when, and what must always be true.
//!
//! Promises: events at one moment happen in the order they were caused. After `settle` both bricks hold the same bytes,
//! and every acknowledged message is there exactly once.
//! Not here: scripts of mailers (`mailer`), what a disk keeps (`disk`).

pub use crate::rng::Rng;
use crate::{
    disk::Disk,
    kernel::Kernel,
    mailer::{Delivery, Next},
    witness::{Third, Word},
};
use mboxfs_brick::{
    Brick,
    input::{Clock as BrickClock, Input as BrickInput, MountConn, Recovered},
    output::Output as BrickOutput,
};
use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller, Clock, Config, Input},
    output::Output,
};
use mboxfs_types::{
    BrickId, GenId, Ino, Name, Nanos, Timestamp, VolumeId,
    admin::Status,
    call::{ToBrick, ToMount},
    disk::{DiskOp, Done, Superblock},
    ids::BrickUuid,
    limits,
    peer::{Beat, ToPeer},
    quorum::Settled,
    record::Members,
};
use std::collections::BTreeMap;

pub(crate) enum Event {
    Witness(Word),
    Tick,
    Dial {
        mount: usize,
        conn: u64,
        address: String,
    },
    ToBrick {
        brick: usize,
        conn: u64,
        frame: ToBrick,
    },
    ToMount {
        mount: usize,
        conn: u64,
        frame: ToMount,
    },
    MountEnd {
        brick: usize,
        conn: u64,
    },
    BrickEnd {
        mount: usize,
        conn: u64,
    },
    Peer {
        to: usize,
        link: u64,
        message: ToPeer,
    },
    Beat {
        to: usize,
        link: u64,
        beat: Beat,
    },
    Disk {
        brick: usize,
        life: u64,
        done: Done,
    },
    Write {
        brick: usize,
        life: u64,
        op: DiskOp,
    },
    PeerDial,
    Resume {
        mailer: usize,
    },
    Start {
        brick: usize,
    },
    /// What came while the process was stopped.
    Late {
        brick: usize,
        life: u64,
        input: BrickInput,
    },
}

pub(crate) struct Node {
    pub(crate) brick: Option<Brick>,
    pub(crate) disk: Disk,
    pub(crate) life: u64,
    disk_busy_until: u64,
    stopped_until: u64,
}

pub(crate) struct Mount {
    client: Client,
    /// Stream: number, brick.
    pub(crate) conn: Option<(u64, usize)>,
    conns: u64,
    kernel: Kernel,
}

struct Mailer {
    mount: usize,
    delivery: Delivery,
    call: Option<CallId>,
    done: bool,
}

/// All of it.
pub struct World {
    pub now: u64,
    pub(crate) rng: Rng,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) nodes: Vec<Node>,
    pub(crate) mounts: Vec<Mount>,
    pub third: Third,
    /// What was executed once stays (I7).
    pub one_line: bool,
    /// Mounts may be cut off for longer than their sessions live.
    pub may_expire: bool,
    /// Words to this brick are lost.
    pub(crate) silent: [bool; 2],
    mailers: Vec<Mailer>,
    /// Attributes of the kernels that were found to be true: a check that never looked at any would be none.
    pub kept: usize,
    /// Number of the peer stream, if it is up.
    link: Option<u64>,
    links: u64,
    pub cut: bool,
    next_call: u64,
    /// Last arrival on each FIFO channel.
    fifo: BTreeMap<(u8, usize, u64), u64>,
    pub acknowledged: Vec<(String, Vec<u8>)>,
    pub trace: bool,
    /// How often a brick gave up a part of its line of history.
    pub reloads: u32,
}

const MS: u64 = 1_000_000;

impl World {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut world = Self {
            now: 0,
            rng: Rng::new(seed),
            order: 0,
            queue: BTreeMap::new(),
            nodes: Vec::new(),
            mounts: Vec::new(),
            third: Third::default(),
            one_line: false,
            may_expire: false,
            silent: [false; 2],
            mailers: Vec::new(),
            kept: 0,
            link: None,
            links: 0,
            cut: false,
            next_call: 0,
            fifo: BTreeMap::new(),
            acknowledged: Vec::new(),
            trace: std::env::var("SIM_TRACE").is_ok(),
            reloads: 0,
        };
        for i in 0..2u8 {
            let brick = BrickId::from_index(u32::from(i)).expect("two bricks");
            let superblock = Superblock {
                format: limits::FORMAT_VERSION,
                uuid: BrickUuid([i; 16]),
                volume: Some(VolumeId([7; 16])),
                brick,
                inc: 0,
                g: GenId::default(),
                v: 0,
                members: Members::Both,
                primary: BrickId::A,
                history: Vec::new(),
                fork: None,
                diverged: None,
                giving_up: None,
                quorum: Settled::default(),
                forced: false,
                scrub: mboxfs_types::disk::ScrubMark::default(),
            };
            let disk = Disk {
                superblock: Some(superblock),
                ..Disk::default()
            };
            world.nodes.push(Node {
                brick: None,
                disk,
                life: 0,
                disk_busy_until: 0,
                stopped_until: 0,
            });
            let config = Config {
                volume: "gVol0".into(),
                client: [i + 1; 16],
                nonce: 1000 * u64::from(i + 1),
                bricks: vec![format!("h{i}:24009"), format!("h{}:24009", 1 - i)],
                local: vec![format!("h{i}")],
            };
            world.mounts.push(Mount {
                client: Client::new(config, Clock::default()),
                conn: None,
                conns: 0,
                kernel: Kernel::default(),
            });
        }
        for brick in 0..2 {
            world.start(brick, u64::MAX);
        }
        world.at(0, Event::Tick);
        world.at(0, Event::PeerDial);
        world
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.insert((time.max(self.now), self.order), event);
    }

    /// Arrival on a FIFO channel after 0.05 to 0.5 ms.
    fn send(&mut self, channel: (u8, usize, u64), event: Event) {
        let delay = 50_000 + self.rng.below(450_000);
        let time = (self.now + delay).max(self.fifo.get(&channel).copied().unwrap_or(0));
        self.fifo.insert(channel, time);
        self.at(time, event);
    }

    pub(crate) const fn real(&self) -> Timestamp {
        Timestamp {
            secs: 1_700_000_000 + (self.now / 1_000_000_000) as i64,
            nanos: (self.now % 1_000_000_000) as u32,
        }
    }

    // ---- bricks

    pub fn start(&mut self, i: usize, at_most: u64) {
        let nonce = self.rng.below(u64::from(u32::MAX)) as u32;
        let clock = BrickClock {
            mono: Nanos(self.now),
            real: self.real(),
        };
        let node = &mut self.nodes[i];
        let mut superblock = node.disk.superblock.clone().expect("formatted");
        superblock.inc += 1;
        node.disk.superblock = Some(superblock.clone());
        node.life += 1;
        node.disk_busy_until = self.now;
        let (snapshot, records, log_start) = node.disk.recover(at_most);
        let recovered = Recovered {
            superblock,
            snapshot,
            records,
            log_start,
            bricks: vec!["h0:24009".into(), "h1:24009".into()],
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            nonce,
        };
        let mut out = Vec::new();
        node.brick = Some(Brick::new(recovered, clock, &mut out).expect("recovers"));
        self.brick_outputs(i, out);
        let space = Done::Space(Disk::space());
        self.brick_step(i, BrickInput::Disk(space));
    }

    /// SIGKILL: memory is gone, also what was on its way to the disk.
    pub fn kill(&mut self, i: usize) {
        self.nodes[i].brick = None;
        self.nodes[i].life += 1;
        self.drop_link();
        for m in 0..self.mounts.len() {
            if let Some((conn, brick)) = self.mounts[m].conn
                && brick == i
            {
                self.send((2, m, conn), Event::BrickEnd { mount: m, conn });
            }
        }
    }

    /// SIGSTOP, and SIGCONT later: what comes meanwhile waits.
    pub fn stop_process(&mut self, i: usize, ms: u64) {
        self.nodes[i].stopped_until = self.now + ms * MS;
    }

    /// The disk does nothing for so long.
    pub fn stall_disk(&mut self, i: usize, ms: u64) {
        let node = &mut self.nodes[i];
        node.disk_busy_until = node.disk_busy_until.max(self.now) + ms * MS;
    }

    /// SIGTERM: the brick tells its peer, writes a checkpoint and ends.
    pub fn stop(&mut self, i: usize) {
        self.brick_step(i, BrickInput::Stop);
    }

    #[must_use]
    pub fn is_up(&self, i: usize) -> bool {
        self.nodes[i].brick.is_some()
    }

    pub fn restart_later(&mut self, i: usize, ms: u64) {
        self.at(self.now + ms * MS, Event::Start { brick: i });
    }

    /// Cuts the link: bricks lose each other, and mounts the brick on the other side, until `cut` is taken back.
    pub fn partition(&mut self) {
        self.cut = true;
        self.drop_link();
        for m in 0..self.mounts.len() {
            if self.mounts[m].conn.is_some_and(|(_, brick)| brick != m) {
                self.break_stream(m);
            }
        }
    }

    pub fn drop_link(&mut self) {
        if self.link.take().is_some() {
            for i in 0..2 {
                self.brick_step(i, BrickInput::PeerLost);
            }
        }
    }

    pub(crate) fn brick_step(&mut self, i: usize, input: BrickInput) {
        let Node {
            stopped_until, life, ..
        } = self.nodes[i];
        // What comes at the moment of its waking comes behind what has waited.
        if self.now <= stopped_until && stopped_until > 0 {
            if input != BrickInput::Tick {
                self.at(stopped_until, Event::Late { brick: i, life, input });
            }
            return;
        }
        self.brick_step_now(i, input);
    }

    fn brick_step_now(&mut self, i: usize, input: BrickInput) {
        let clock = BrickClock {
            mono: Nanos(self.now),
            real: self.real(),
        };
        let Some(brick) = self.nodes[i].brick.as_mut() else {
            return;
        };
        if self.trace && !matches!(input, BrickInput::Tick | BrickInput::Beat(_)) {
            eprintln!("{:9} brick{i} <- {input:?}", self.now / 1000);
        }
        let mut out = Vec::new();
        brick.step(clock, input, &mut out);
        brick.check();
        self.brick_outputs(i, out);
    }

    pub(crate) fn brick_outputs(&mut self, i: usize, out: Vec<BrickOutput>) {
        for output in out {
            match output {
                BrickOutput::Mount { conn, frame } => {
                    let mount = self
                        .mounts
                        .iter()
                        .position(|m| m.conn.is_some_and(|c| c.0 == conn.0 && c.1 == i));
                    if let Some(mount) = mount {
                        self.send(
                            (2, mount, conn.0),
                            Event::ToMount {
                                mount,
                                conn: conn.0,
                                frame,
                            },
                        );
                    }
                }
                BrickOutput::DropMount { conn } => {
                    let mount = self
                        .mounts
                        .iter()
                        .position(|m| m.conn.is_some_and(|c| c.0 == conn.0 && c.1 == i));
                    if let Some(mount) = mount {
                        self.send((2, mount, conn.0), Event::BrickEnd { mount, conn: conn.0 });
                    }
                }
                BrickOutput::Peer(message) => {
                    if let Some(link) = self.link {
                        self.send(
                            (3, 1 - i, link),
                            Event::Peer {
                                to: 1 - i,
                                link,
                                message,
                            },
                        );
                    }
                }
                BrickOutput::Beat(beat) => {
                    if let Some(link) = self.link {
                        self.send((4, 1 - i, link), Event::Beat { to: 1 - i, link, beat });
                    }
                }
                BrickOutput::DropPeer => self.drop_link(),
                BrickOutput::Disk(op) => self.disk(i, op),
                BrickOutput::Witness { ticket, ask, .. } => self.ask_witness(i, ticket, ask),
                BrickOutput::Reload { keep } => {
                    self.reloads += 1;
                    self.nodes[i].disk.drop_above(keep);
                    self.kill(i);
                    self.start(i, keep);
                    return;
                }
                BrickOutput::Stopped => self.kill(i),
                BrickOutput::Event(event) => {
                    if self.trace {
                        eprintln!("{:9} brick{i} ** {event:?}", self.now / 1000);
                    }
                }
            }
        }
    }

    /// The disk does one thing after another; appends cost 0.1 to 1 ms. Nothing is durable before it was answered.
    fn disk(&mut self, i: usize, op: DiskOp) {
        let slow = matches!(
            op,
            DiskOp::Append(_) | DiskOp::Superblock(_) | DiskOp::Checkpoint { .. }
        );
        let delay = if slow { 100_000 + self.rng.below(900_000) } else { 1 };
        let node = &mut self.nodes[i];
        let time = node.disk_busy_until.max(self.now) + delay;
        node.disk_busy_until = time;
        let life = node.life;
        match op {
            // Effects and looks act at once, in order; what a crash loses of effects the log brings back.
            DiskOp::Apply(_) => {
                node.disk.apply(op);
            }
            DiskOp::Look { .. } => {
                if let Some(done) = node.disk.apply(op) {
                    self.at(time, Event::Disk { brick: i, life, done });
                }
            }
            op => self.at(time, Event::Write { brick: i, life, op }),
        }
    }

    // ---- mounts

    fn mount_step(&mut self, m: usize, input: Input) {
        let clock = Clock {
            mono: Nanos(self.now),
            real: self.real(),
        };
        if self.trace && !matches!(input, Input::Tick | Input::Frame(ToMount::Pong { .. })) {
            eprintln!("{:9} mount{m} <- {input:?}", self.now / 1000);
        }
        let mut out = Vec::new();
        if let Input::Call { id, call, .. } = &input {
            self.mounts[m].kernel.ask(*id, call);
        }
        self.mounts[m].client.step(clock, input, &mut out);
        let _ = self.mounts[m].client.kept(); // nobody succeeds it here
        for output in out {
            match output {
                Output::Done { id, result } => {
                    if self.trace {
                        eprintln!("{:9} mount{m} -> {id:?} {result:?}", self.now / 1000);
                    }
                    self.mounts[m].kernel.answered(Nanos(self.now), id, &result);
                    self.answered(id, result);
                }
                Output::Connect { address } => {
                    self.mounts[m].conns += 1;
                    let conn = self.mounts[m].conns * 2 + m as u64;
                    self.close(m);
                    self.at(
                        self.now + 100_000,
                        Event::Dial {
                            mount: m,
                            conn,
                            address,
                        },
                    );
                }
                Output::Invalidate { ino } => self.mounts[m].kernel.forget(ino),
                Output::Disconnect => self.close(m),
                Output::Send(frame) => {
                    if let Some((conn, brick)) = self.mounts[m].conn {
                        self.send((1, brick, conn), Event::ToBrick { brick, conn, frame });
                    }
                }
                _ => {}
            }
        }
    }

    fn close(&mut self, m: usize) {
        if let Some((conn, brick)) = self.mounts[m].conn.take() {
            self.send((1, brick, conn), Event::MountEnd { brick, conn });
        }
    }

    fn call(&mut self, mailer: usize, next: Next) {
        let m = self.mailers[mailer].mount;
        match next {
            Next::Call(call) => {
                self.next_call += 1;
                let id = CallId(self.next_call);
                self.mailers[mailer].call = Some(id);
                let caller = Caller {
                    uid: 0,
                    gid: 8,
                    pid: 100 + mailer as u32,
                    ppid: 1,
                };
                self.mount_step(m, Input::Call { id, caller, call });
            }
            Next::Again => {
                let wait = 5 + self.rng.below(50);
                self.at(self.now + wait * MS, Event::Resume { mailer });
            }
            Next::Delivered => {
                let d = &self.mailers[mailer].delivery;
                self.acknowledged.push((d.mailbox.clone(), d.message.clone()));
                self.mailers[mailer].done = true;
            }
        }
    }

    fn answered(&mut self, id: CallId, result: Result<mboxfs_client::output::Answer, mboxfs_types::Errno>) {
        let Some(mailer) = self.mailers.iter().position(|m| m.call == Some(id)) else {
            return;
        };
        self.mailers[mailer].call = None;
        let next = self.mailers[mailer].delivery.next(Some(result));
        self.call(mailer, next);
    }

    /// The stream of a mount to its brick breaks; as with TCP, one end hears of it some time after the other.
    pub fn break_stream(&mut self, m: usize) {
        let Some((conn, brick)) = self.mounts[m].conn else {
            return;
        };
        if self.rng.below(2) == 0 {
            self.send((2, m, conn), Event::BrickEnd { mount: m, conn });
            self.brick_step(brick, BrickInput::MountLost { conn: MountConn(conn) });
        } else {
            self.mounts[m].conn = None;
            let late = self.rng.below(1000) * MS;
            self.at(self.now + late, Event::MountEnd { brick, conn });
            self.mount_step(m, Input::Disconnected);
        }
    }

    /// Somebody at a mount looks at one of the mailboxes, as Dovecot does in IDLE.
    fn look_around(&mut self, m: usize) {
        if self.mailers.is_empty() {
            return;
        }
        let mailer = self.rng.below(self.mailers.len() as u64) as usize;
        let name = Name::new(self.mailers[mailer].delivery.mailbox.as_bytes()).expect("mailbox names are names");
        self.next_call += 1;
        let id = CallId(self.next_call);
        let call = Call::Lookup { dir: Ino::ROOT, name };
        let caller = Caller::default();
        self.mount_step(m, Input::Call { id, caller, call });
    }

    /// Messages handed over so far.
    #[must_use]
    pub const fn handed_over(&self) -> usize {
        self.mailers.len()
    }

    /// A message is handed to the mailer at a mount.
    pub fn deliver(&mut self, mount: usize, mailbox: &str, message: &[u8]) {
        let owner = self.mailers.len() as u64 + 1;
        let mut delivery = Delivery::new(mailbox, message, owner);
        delivery.may_expire = self.may_expire;
        self.mailers.push(Mailer {
            mount,
            delivery,
            call: None,
            done: false,
        });
        let mailer = self.mailers.len() - 1;
        self.at(self.now, Event::Resume { mailer });
    }

    // ---- time

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        self.run_until(self.now + ms * MS);
    }

    /// Up to this moment, in ns.
    pub fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.happen(event);
            for mount in &self.mounts {
                mount.kernel.check(Nanos(self.now), &mount.client);
                self.kept += mount.kernel.kept_count(Nanos(self.now));
            }
        }
        self.now = end;
    }

    /// Until all deliveries are done and both bricks work together.
    ///
    /// # Panics
    /// If that does not happen in `ms`.
    pub fn settle(&mut self, ms: u64) {
        let end = self.now + ms * MS;
        while self.now < end {
            self.run(20);
            let together = self
                .nodes
                .iter()
                .all(|n| n.brick.as_ref().is_some_and(|b| b.report().status == Status::Normal));
            if together && self.mailers.iter().all(|m| m.done) {
                self.run(100);
                return;
            }
        }
        let left = self.mailers.iter().filter(|m| !m.done).count();
        let stands: Vec<_> = self
            .nodes
            .iter()
            .map(|n| n.brick.as_ref().map(|b| b.report().status))
            .collect();
        panic!("I32: not settled after {ms} ms: {left} deliveries left, bricks {stands:?}");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Witness(word) => self.on_witness_wire(word),
            Event::Tick => {
                self.check_line();
                for i in 0..2 {
                    self.brick_step(i, BrickInput::Tick);
                    self.mount_step(i, Input::Tick);
                    self.look_around(i);
                }
                self.at(self.now + 10 * MS, Event::Tick);
            }
            Event::Dial { mount, conn, address } => {
                let brick = usize::from(address.starts_with("h1"));
                let reachable = self.nodes[brick].brick.is_some() && (brick == mount || !self.cut);
                if reachable {
                    self.mounts[mount].conn = Some((conn, brick));
                    self.mount_step(mount, Input::Connected);
                } else {
                    self.mount_step(mount, Input::Disconnected);
                }
            }
            Event::ToBrick { brick, conn, frame } => {
                self.brick_step(
                    brick,
                    BrickInput::Mount {
                        conn: MountConn(conn),
                        frame,
                    },
                );
            }
            Event::ToMount { mount, conn, frame } => {
                if self.mounts[mount].conn.is_some_and(|c| c.0 == conn) {
                    self.mount_step(mount, Input::Frame(frame));
                }
            }
            Event::MountEnd { brick, conn } => self.brick_step(brick, BrickInput::MountLost { conn: MountConn(conn) }),
            Event::BrickEnd { mount, conn } => {
                if self.mounts[mount].conn.is_some_and(|c| c.0 == conn) {
                    self.close(mount);
                    self.mount_step(mount, Input::Disconnected);
                }
            }
            Event::Peer { to, link, message } => {
                if self.link == Some(link) && !self.silent[to] {
                    self.brick_step(to, BrickInput::Peer(message));
                }
            }
            Event::Beat { to, link, beat } => {
                if self.link == Some(link) && !self.silent[to] {
                    self.brick_step(to, BrickInput::Beat(beat));
                }
            }
            Event::Disk { brick, life, done } => {
                if self.nodes[brick].life == life {
                    self.brick_step(brick, BrickInput::Disk(done));
                }
            }
            Event::Write { brick, life, op } => {
                if self.nodes[brick].life == life
                    && let Some(done) = self.nodes[brick].disk.apply(op)
                {
                    self.brick_step(brick, BrickInput::Disk(done));
                }
            }
            Event::Late { brick, life, input } => {
                if self.nodes[brick].life == life {
                    self.brick_step_now(brick, input);
                }
            }
            Event::PeerDial => {
                if self.link.is_none() && !self.cut && self.nodes.iter().all(|n| n.brick.is_some()) {
                    self.links += 1;
                    self.link = Some(self.links);
                    for i in 0..2 {
                        self.brick_step(i, BrickInput::PeerUp);
                    }
                }
                self.at(self.now + 50 * MS, Event::PeerDial);
            }
            Event::Resume { mailer } => {
                let next = self.mailers[mailer].delivery.next(None);
                self.call(mailer, next);
            }
            Event::Start { brick } => {
                if self.nodes[brick].brick.is_none() {
                    self.start(brick, u64::MAX);
                }
            }
        }
    }

    // ---- what must be true

    /// Every acknowledged message is in its mailbox exactly once, whole, on both bricks, and both hold the same bytes.
    ///
    /// # Panics
    /// With the law that is broken.
    pub fn audit(&self) {
        let boxes = |i: usize| -> Vec<&Vec<u8>> { self.nodes[i].disk.files.values().collect() };
        assert_eq!(self.nodes[0].disk.files, self.nodes[1].disk.files, "I3: bricks differ");
        let doubts = |message: &Vec<u8>| {
            let tries = self.mailers.iter().filter(|m| m.delivery.message == *message);
            tries.map(|m| m.delivery.doubts as usize).sum::<usize>()
        };
        for (mailbox, message) in &self.acknowledged {
            for i in 0..2 {
                let all: Vec<u8> = boxes(i).into_iter().flatten().copied().collect();
                let count = all.windows(message.len()).filter(|w| w == message).count();
                assert!(
                    (1..=1 + doubts(message)).contains(&count),
                    "I22: {} copies in {mailbox} on brick {i} of {:?}",
                    count,
                    String::from_utf8_lossy(message)
                );
            }
        }
        let total: usize = self.acknowledged.iter().map(|(_, m)| m.len()).sum();
        let held: usize = boxes(0).iter().map(|b| b.len()).sum();
        let most = |(_, m): &(String, Vec<u8>)| m.len() * (1 + doubts(m));
        let most: usize = self.acknowledged.iter().map(most).sum();
        assert!(
            (total..=most).contains(&held),
            "I21: bytes that nobody delivered: {held} of {total}"
        );
    }

    /// Round trips between the bricks that somebody waited for, since start.
    #[must_use]
    pub fn round_trips(&self) -> u64 {
        self.nodes
            .iter()
            .filter_map(|n| n.brick.as_ref())
            .map(|b| b.report().round_trips)
            .sum()
    }

    /// Flushes of each brick's log.
    #[must_use]
    pub fn flushes(&self) -> [u64; 2] {
        [self.nodes[0].disk.flushes, self.nodes[1].disk.flushes]
    }
}
