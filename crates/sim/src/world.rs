//! The world: what happens when.
//!
//! Promises: events at one moment happen in the order they were caused; the same seed and actions give the same events. The
//! first broken invariant ends the world.
//! Not here: bricks (`bricks`), their disks (`disks`), mounts (`mounts`), programs (`programs`), wires (`net`), what breaks
//! (`faults`), what must be true (`invariants`).

mod bricks;
mod disks;
mod faults;
mod mounts;
mod net;
mod programs;
mod third;

pub use crate::rng::Rng;
pub use bricks::Host;
pub use mounts::Mount;
pub use programs::Process;
pub use third::Third;

use crate::{
    disk::Thread,
    invariants::{Broken, Fact, Watch},
    journal::{Journal, Show},
    oracle::Oracle,
    plan::{Action, Settings},
};
use mboxfs_client::{
    input::{CallId, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, Name, Nanos, SessionId, Timestamp};
use net::Net;
use std::collections::{BTreeMap, BTreeSet};

pub(crate) const US: u64 = 1_000;
pub(crate) const MS: u64 = 1_000_000;
/// Brains hear of time at least this often.
const TICK: u64 = 20 * MS;

pub(crate) enum Event {
    Tick {
        host: usize,
    },
    /// The next word of a stream, in one direction, arrives.
    Word {
        conn: u64,
        way: u8,
    },
    Dial {
        mount: usize,
        dial: u64,
        address: String,
    },
    /// A dial of a mount came to nothing.
    Refused {
        mount: usize,
        dial: u64,
    },
    DialPeer,
    LookAtStreams,
    /// Somebody looks whether the peer's port is open.
    LookAtPort {
        brick: usize,
        life: u64,
    },
    Disk {
        brick: usize,
        life: u64,
        thread: Thread,
    },
    Resume {
        process: usize,
    },
    Start {
        brick: usize,
    },
    /// A server has power again.
    Boot {
        host: usize,
    },
    /// A stopped process goes on.
    Wake {
        brick: usize,
    },
    WakeMount {
        mount: usize,
    },
    NextDaemon {
        mount: usize,
    },
    Third(third::Word),
    /// An action of the plan.
    Act(Action),
    /// The kernel closes a dotlock that was made.
    CloseDotlock {
        mount: usize,
        ino: Ino,
        fh: Fh,
    },
    /// The program has its answer.
    Answer {
        process: usize,
        answer: Result<Answer, Errno>,
    },
}

/// All of it.
pub struct World {
    /// In ns.
    pub now: u64,
    pub settings: Settings,
    order: u64,
    queue: BTreeMap<(u64, u64), Event>,
    pub(crate) rng: Rng,
    pub hosts: [Host; 2],
    pub mounts: [Mount; 2],
    pub(crate) net: Net,
    pub third: Third,
    pub(crate) processes: Vec<Process>,
    next_call: u64,
    /// Attributes kept by kernels that were found to be true.
    pub kept: usize,
    pub oracle: Oracle,
    watches: Vec<Box<dyn Watch>>,
    /// What broke first.
    pub broken: Option<Broken>,
    pub journal: Journal,
    /// How often a brick gave up a part of its line of history.
    pub reloads: u32,
    /// How often a brick got the files of its peer.
    pub resyncs: u32,
    /// How often both bricks had lines of their own at the same time.
    pub forks: u32,
    /// Bytes of mailboxes that rotted.
    pub rots: u32,
    /// The operator made a brick go on alone.
    pub forced: bool,
    /// A plan is carried out, and nothing was done yet but what programs learn of as a pause at most.
    pub gentle: bool,
    /// When the last two actions were that interrupt something.
    interrupted: [Option<u64>; 2],
    /// Mailboxes that were made while a brick had a line of its own.
    pub made_apart: BTreeSet<Name>,
    /// Who attached on which stream.
    sessions: BTreeMap<u64, SessionId>,
    /// A call of the world's own, and its answer.
    probe: (CallId, Option<Result<Answer, Errno>>),
}

impl World {
    /// Two servers that have just been switched on, with an empty volume.
    #[must_use]
    pub fn with(settings: Settings, show: Show) -> Self {
        let rng = Rng::new(settings.seed);
        let mut world = Self {
            now: 0,
            order: 0,
            queue: BTreeMap::new(),
            rng,
            hosts: [0, 1].map(|i| Host::new(i, &settings)),
            mounts: [0, 1].map(|i| Mount::new(i, 1)),
            net: Net::default(),
            third: Third::default(),
            processes: Vec::new(),
            next_call: 0,
            kept: 0,
            oracle: Oracle::default(),
            watches: crate::invariants::all(),
            broken: None,
            journal: Journal::new(show),
            reloads: 0,
            resyncs: 0,
            forks: 0,
            rots: 0,
            forced: false,
            gentle: false,
            interrupted: [None; 2],
            made_apart: BTreeSet::new(),
            sessions: BTreeMap::new(),
            probe: (CallId(0), None),
            settings,
        };
        for i in 0..2 {
            world.start(i);
            world.at(i as u64, Event::Tick { host: i });
        }
        world.at(0, Event::DialPeer);
        world.at(net::LOOK, Event::LookAtStreams);
        world
    }

    /// As [`Self::with`], with a calm network and calm disks.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let show = if std::env::var_os("SIM_TRACE").is_some() {
            Show::Trace
        } else {
            Show::Nothing
        };
        Self::with(Settings::calm(seed), show)
    }

    pub(crate) fn at(&mut self, time: u64, event: Event) {
        self.order += 1;
        self.queue.insert((time.max(self.now), self.order), event);
    }

    pub(crate) fn after(&mut self, time: u64, event: Event) {
        self.at(self.now + time, event);
    }

    /// The clocks of a server: each runs at its own rate, and wall clocks are set.
    pub(crate) fn clock(&self, host: usize) -> (Nanos, Timestamp) {
        let host = &self.hosts[host];
        let ahead = i128::from(self.now) * i128::from(host.drift) / 1_000_000;
        let mono = (self.now.cast_signed() + ahead as i64).cast_unsigned() + 1_000 * MS;
        let secs = 1_700_000_000 + (mono / (1000 * MS)).cast_signed() + host.jump;
        let nanos = (mono % (1000 * MS)) as u32;
        (Nanos(mono), Timestamp { secs, nanos })
    }

    // ---- what must be true

    pub(crate) fn fails(&mut self, broken: Broken) {
        if self.broken.is_none() {
            self.journal.event(self.now, format_args!("BROKEN {broken}"));
            self.broken = Some(broken);
        }
    }

    pub(crate) fn see(&mut self, fact: &Fact<'_>) {
        if self.broken.is_some() {
            return;
        }
        let mut watches = std::mem::take(&mut self.watches);
        let broken = watches.iter_mut().find_map(|watch| {
            let why = watch.see(self, fact).err()?;
            let (invariant, law) = watch.names();
            Some(Broken { invariant, law, why })
        });
        self.watches = watches;
        if let Some(broken) = broken {
            self.fails(broken);
        }
    }

    // ---- time

    /// Lets time pass.
    pub fn run(&mut self, ms: u64) {
        self.run_until(self.now + ms * MS);
    }

    /// Up to this moment, in ns, or to the first broken invariant.
    pub fn run_until(&mut self, end: u64) {
        while let Some(entry) = self.queue.first_entry() {
            if entry.key().0 > end || self.broken.is_some() {
                break;
            }
            let ((time, _), event) = entry.remove_entry();
            self.now = time;
            self.happen(event);
        }
        self.now = self.now.max(end);
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick { host } => self.tick(host),
            Event::Word { conn, way } => self.on_word(conn, way),
            Event::Dial { mount, dial, address } => self.on_dial(mount, dial, &address),
            Event::Refused { mount, dial } => self.on_refused(mount, dial),
            Event::DialPeer => self.on_dial_peer(),
            Event::LookAtStreams => self.look_at_streams(),
            Event::LookAtPort { brick, life } => self.look_at_port(brick, life),
            Event::Disk { brick, life, thread } => self.on_disk(brick, life, thread),
            Event::Resume { process } => self.resume(process),
            Event::Start { brick } => self.start(brick),
            Event::Boot { host } => self.boot(host),
            Event::Wake { brick } => self.wake(brick),
            Event::WakeMount { mount } => self.wake_mount(mount),
            Event::NextDaemon { mount } => self.next_daemon(mount),
            Event::Third(word) => self.on_third(word),
            Event::Act(action) => self.act(&action),
            Event::CloseDotlock { mount, ino, fh } => self.close_dotlock(mount, ino, fh),
            Event::Answer { process, answer } => self.on_answer(process, answer),
        }
    }

    fn tick(&mut self, host: usize) {
        let late = self.rng.below(TICK / 4);
        self.after(TICK + late, Event::Tick { host });
        if !self.hosts[host].power {
            return;
        }
        self.tick_brick(host);
        self.tick_mount(host);
        self.see(&Fact::Tick);
    }
}
