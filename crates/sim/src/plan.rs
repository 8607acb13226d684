//! What a world is made of, and what is done in it and to it: drawn from a seed, or written down as text (`text`).
//!
//! Promises: the same seed gives the same plan. Swarm: each seed draws which kinds of faults there are, and how many; each
//! action can be left out without touching the others.
//! Not here: doing it (`world::faults`).

mod draw;

use mboxfs_types::limits;
pub use mboxfs_types::quorum::Policy;

/// How a world is, for all of its time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// Of all that is left to chance in the world.
    pub seed: u64,
    /// Who may go on alone.
    pub policy: Policy,
    /// A word's way between the servers, in us: least, most.
    pub net_us: (u64, u64),
    /// A flush, in us.
    pub disk_us: (u64, u64),
    /// How much faster than time each server's clocks run, in 1/1 000 000.
    pub drift: [i64; 2],
    /// Bytes executed before a checkpoint.
    pub checkpoint_bytes: usize,
    /// Bytes of the log that are kept for a peer that is away.
    pub log_debt_bytes: usize,
    /// Of a log segment.
    pub segment_bytes: u64,
    /// Nobody looks at mailboxes but the programs that are run.
    pub quiet: bool,
    /// Both bricks have real files beside the simulated ones.
    pub files: bool,
}

impl Settings {
    /// Nothing is unusual.
    #[must_use]
    pub const fn calm(seed: u64) -> Self {
        Self {
            seed,
            policy: Policy::None,
            net_us: (50, 500),
            disk_us: (100, 1000),
            drift: [0, 0],
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            log_debt_bytes: limits::LOG_DEBT_BYTES_MAX,
            segment_bytes: 64 << 10,
            quiet: false,
            files: false,
        }
    }
}

/// What a program does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Job {
    /// A delivery: lines of the message, write(2) calls.
    Postfix {
        lines: u32,
        writes: u32,
    },
    /// Messages whose number `every` divides are removed; `how`: see `Dovecot::new`.
    Dovecot {
        every: u32,
        how: u32,
    },
    Mutt {
        lines: u32,
    },
    Unlocked {
        lines: u32,
    },
    Reader,
}

/// Something that is done. `at`: at which mount; `ms`: for how long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    Run {
        at: usize,
        mailbox: String,
        job: Job,
    },
    /// SIGKILL of one of the programs that run.
    KillOne {
        at: usize,
        nth: u64,
    },
    /// SIGKILL of a brick's daemon.
    Crash {
        brick: usize,
        ms: u64,
    },
    /// SIGTERM.
    Stop {
        brick: usize,
        ms: u64,
    },
    /// A server loses power.
    Power {
        host: usize,
        ms: u64,
    },
    /// Nothing gets from one server to the other; `refuses`: who dials is told so.
    Cut {
        from: usize,
        to: usize,
        ms: u64,
        refuses: bool,
    },
    /// A stream breaks: 0 peer, 1 beats, 2 and 3 that of a mount.
    Break {
        kind: u64,
    },
    /// Streams of a kind (0 peer, 1 beats, 2 mounts) take up to `more` ms longer.
    SlowNet {
        kind: u64,
        more: u64,
        ms: u64,
    },
    /// SIGSTOP of a brick's daemon.
    Freeze {
        brick: usize,
        ms: u64,
    },
    /// SIGSTOP of a mount's daemon.
    FreezeMount {
        at: usize,
        ms: u64,
    },
    /// A disk stands still, or only whoever changes its files.
    Stall {
        brick: usize,
        ms: u64,
        files: bool,
    },
    /// Its flushes take up to `more` ms longer.
    SlowDisk {
        brick: usize,
        more: u64,
        ms: u64,
    },
    /// A flush fails after so many good ones.
    FailSync {
        brick: usize,
        after: u64,
    },
    /// A byte of a mailbox rots.
    Rot {
        brick: usize,
    },
    /// A byte of a record in its log does.
    RotLog {
        brick: usize,
    },
    /// One copy of its superblock does.
    RotSuperblock {
        brick: usize,
    },
    /// So many bytes are left for mail.
    Full {
        brick: usize,
        room: u64,
    },
    /// There is room again.
    Room {
        brick: usize,
    },
    /// Somebody sets a server's wall clock.
    Clock {
        host: usize,
        secs: i64,
    },
    /// A mount's daemon is killed, and succeeded.
    KillDaemon {
        at: usize,
    },
    /// A mount and all its programs end; it is mounted anew.
    Remount {
        at: usize,
    },
    WitnessDown {
        ms: u64,
    },
    /// Its wires to and from a brick.
    WitnessCut {
        brick: usize,
        asks: bool,
        tells: bool,
        ms: u64,
    },
    /// Longest way to it, in ms.
    WitnessSlow {
        ms: u64,
    },
}

/// A brick that is away for so long may be the last one that was there: programs are told, in ms.
const OUTAGE: u64 = 10_000;

impl Action {
    /// Whoever is on the way to a brick has to find another way, or another daemon.
    pub(crate) const fn interrupts(&self) -> bool {
        matches!(
            self,
            Self::KillDaemon { .. } | Self::Break { .. } | Self::Crash { .. } | Self::Stop { .. }
        )
    }

    /// Programs learn nothing of it, but a pause.
    #[must_use]
    pub const fn is_gentle(&self) -> bool {
        if let Self::Crash { ms, .. } = self
            && *ms >= OUTAGE
        {
            return false;
        }
        matches!(
            self,
            Self::Run { .. }
                | Self::KillDaemon { .. }
                | Self::Break { .. }
                | Self::Crash { .. }
                | Self::Stop { .. }
                | Self::Clock { .. }
                | Self::SlowDisk { .. }
                | Self::WitnessDown { .. }
                | Self::WitnessCut { .. }
                | Self::WitnessSlow { .. }
        )
    }
}

/// A world and what happens to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub settings: Settings,
    /// In order of their time, in ms from the moment at which both bricks work.
    pub actions: Vec<(u64, Action)>,
}
