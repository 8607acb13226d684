//! Plans from seeds.
//!
//! Promises: swarm; of each kind of fault there are none in most worlds, and many in some.
//! Not here: what the actions mean.

use super::{Action, Job, Plan, Policy, Settings};
use crate::{mailers::DOTTED, rng::Rng};
use mboxfs_types::limits;

/// Longest time in which something is done, in ms.
const SPAN: u64 = 9_000;

/// Worlds (of 100) in which no brick is there for about as long as a mount waits for one.
const OUTAGES: u64 = 6;
/// Worlds (of 100) in which both servers write to one mailbox all the time, and look at it.
const CROWDS: u64 = 5;
/// One world in so many has real files, too: they take time.
const WITH_FILES: u64 = 16;

/// Kinds of faults, and how often each is drawn (of 100).
const KINDS: [(Fault, u64); 19] = [
    (Fault::Crash, 35),
    (Fault::Stop, 10),
    (Fault::Power, 25),
    (Fault::BothPower, 10),
    (Fault::Cut, 30),
    (Fault::OneWay, 15),
    (Fault::Flap, 12),
    (Fault::Break, 35),
    (Fault::SlowNet, 20),
    (Fault::Freeze, 15),
    (Fault::Disk, 25),
    (Fault::FailSync, 12),
    (Fault::Full, 12),
    (Fault::Clock, 20),
    (Fault::Mounts, 25),
    (Fault::Programs, 25),
    (Fault::Rot, 12),
    (Fault::RotBrick, 6),
    (Fault::Split, 8),
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Crash,
    Stop,
    Power,
    BothPower,
    Cut,
    OneWay,
    Flap,
    Break,
    SlowNet,
    Freeze,
    Disk,
    FailSync,
    Full,
    Clock,
    Mounts,
    Programs,
    Rot,
    RotBrick,
    /// A brick is cut off and comes up anew, while its peer may still serve from what it knows.
    Split,
}

struct Draw {
    rng: Rng,
    /// The files of one brick may become those of the other one: what only the other one knew is lost with them.
    small_log: bool,
    span: u64,
    actions: Vec<(u64, Action)>,
}

impl Plan {
    /// The plan of a seed.
    #[must_use]
    pub fn of(seed: u64) -> Self {
        let policy = match seed % 4 {
            0 => Policy::Witness,
            1 if seed % 8 == 1 => Policy::Both,
            _ => Policy::None,
        };
        Self::under(seed, policy)
    }

    /// The plan of a seed, under this policy.
    #[must_use]
    pub fn under(seed: u64, policy: Policy) -> Self {
        let mut rng = Rng::new(seed ^ 0x5EED_0000);
        let slow = rng.chance(20);
        let settings = Settings {
            seed,
            policy,
            net_us: if slow { (200, 5_000) } else { (30, 400) },
            disk_us: if rng.chance(20) { (1_000, 12_000) } else { (80, 900) },
            drift: [0, 1].map(|_| {
                if rng.chance(25) {
                    rng.below(80_000).cast_signed() - 40_000
                } else {
                    0
                }
            }),
            checkpoint_bytes: [2 << 10, 16 << 10, 32 << 20][rng.below(3) as usize],
            log_debt_bytes: if rng.chance(12) {
                1_000 + rng.below(8_000) as usize
            } else {
                limits::LOG_DEBT_BYTES_MAX
            },
            segment_bytes: [64 << 10, 128 << 10][rng.below(2) as usize],
            quiet: false,
            files: (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).is_multiple_of(WITH_FILES),
        };
        let span = 1_500 + rng.below(SPAN - 1_500);
        let mut draw = Draw {
            rng,
            small_log: settings.log_debt_bytes < limits::LOG_DEBT_BYTES_MAX,
            span,
            actions: Vec::new(),
        };
        draw.mail();
        draw.faults(policy);
        if draw.rng.chance(OUTAGES) {
            draw.outage();
        }
        if draw.rng.chance(CROWDS) {
            draw.crowd();
        }
        draw.actions.sort_by_key(|(at, _)| *at);
        Self {
            settings,
            actions: draw.actions,
        }
    }
}

impl Draw {
    fn push(&mut self, at: u64, action: Action) {
        self.actions.push((at, action));
    }

    fn time(&mut self) -> u64 {
        self.rng.below(self.span)
    }

    fn mail(&mut self) {
        let boxes = 1 + self.rng.below(3);
        let count = 10 + self.rng.below(40);
        let weights = [0, 1, 2, 3].map(|_| self.rng.below(20));
        let burst = self.rng.chance(50);
        let first = self.time();
        for _ in 0..count {
            let time = if burst && self.rng.chance(60) {
                first + self.rng.below(300)
            } else {
                self.time()
            };
            let mailbox = format!("user{}", self.rng.below(boxes));
            let lines = if self.rng.chance(5) {
                60
            } else {
                1 + self.rng.below(6) as u32
            };
            let nth = self.rng.below(40 + weights.iter().sum::<u64>());
            let [dovecot, mutt, unlocked, reader] = weights;
            let job = if nth < dovecot {
                let every = [0, 2, 3, 5, 7][self.rng.below(5) as usize];
                Job::Dovecot {
                    every,
                    how: self.rng.below(8) as u32,
                }
            } else if nth < dovecot + mutt {
                Job::Mutt { lines }
            } else if nth < dovecot + mutt + unlocked {
                Job::Unlocked { lines }
            } else if nth < dovecot + mutt + unlocked + reader {
                Job::Reader
            } else {
                Job::Postfix {
                    lines,
                    writes: 1 + self.rng.below(3) as u32,
                }
            };
            let at = self.rng.side();
            // Who writes without a lock, or with a dotlock only, has a mailbox of his own: the others would tear his messages
            // apart, on any disk.
            let mailbox = match job {
                Job::Unlocked { .. } => "notes".into(),
                Job::Mutt { lines } if lines % 2 == 0 => DOTTED.into(),
                _ => mailbox,
            };
            self.push(time, Action::Run { at, mailbox, job });
        }
    }

    fn faults(&mut self, policy: Policy) {
        for (fault, percent) in KINDS {
            if self.rng.chance(percent) {
                for _ in 0..=self.rng.below(3) {
                    self.fault(fault);
                }
            }
        }
        if policy == Policy::Witness {
            for _ in 0..self.rng.below(4) {
                self.witness();
            }
        }
    }

    /// Programs come before it, and at its end.
    fn outage(&mut self) {
        let time = self.time();
        let ms = limits::OP_TIMEOUT.0 / 1_000_000 - 1_500 + self.rng.below(2_500);
        for brick in 0..2 {
            let ms = ms + self.rng.below(200);
            self.push(time, Action::Crash { brick, ms });
        }
        let from = self.rng.below(2_000);
        for _ in 0..6 {
            let at = time + if self.rng.chance(50) { 0 } else { ms - from };
            let (at, side) = (at + self.rng.below(500), self.rng.side());
            let mailbox = format!("user{}", self.rng.below(2));
            let job = Job::Postfix { lines: 1, writes: 1 };
            self.push(at, Action::Run { at: side, mailbox, job });
        }
    }

    fn crowd(&mut self) {
        let begin = self.time();
        for _ in 0..60 {
            let (time, at) = (begin + self.rng.below(1_000), self.rng.side());
            let (mailbox, job) = (DOTTED.into(), Job::Mutt { lines: 2 });
            self.push(time, Action::Run { at, mailbox, job });
        }
    }

    fn fault(&mut self, fault: Fault) {
        let (time, side) = (self.time(), self.rng.side());
        let ms = [self.rng.below(60), self.rng.below(900), self.rng.below(5_000)][self.rng.below(3) as usize];
        let action = match fault {
            Fault::Crash => Action::Crash { brick: side, ms },
            Fault::Stop => Action::Stop {
                brick: side,
                ms: ms + 50,
            },
            Fault::Power => Action::Power { host: side, ms },
            Fault::BothPower => return self.both_power(time, side, ms),
            Fault::Cut => return self.cut(time, ms),
            Fault::OneWay => Action::Cut {
                from: side,
                to: 1 - side,
                ms,
                refuses: false,
            },
            Fault::Flap => return self.flap(time),
            Fault::Break => Action::Break {
                kind: self.rng.below(4),
            },
            Fault::SlowNet => Action::SlowNet {
                kind: self.rng.below(3),
                more: self.rng.below(1_500),
                ms,
            },
            Fault::Freeze | Fault::Disk => self.slow(fault, side, ms),
            Fault::FailSync => Action::FailSync {
                brick: side,
                after: self.rng.below(6),
            },
            Fault::Full => {
                self.push(time + ms, Action::Room { brick: side });
                Action::Full {
                    brick: side,
                    room: self.rng.below(4_000),
                }
            }
            Fault::Clock => Action::Clock {
                host: side,
                secs: self.rng.below(7_200).cast_signed() - 3_600,
            },
            Fault::Mounts if self.rng.chance(60) => Action::KillDaemon { at: side },
            Fault::Mounts => Action::Remount { at: side },
            Fault::Rot if self.small_log => return,
            Fault::Rot => Action::Rot { brick: side },
            Fault::Split => return self.split(time, side),
            Fault::RotBrick if self.rng.chance(50) => Action::RotLog { brick: side },
            Fault::RotBrick => Action::RotSuperblock { brick: side },
            Fault::Programs => Action::KillOne {
                at: side,
                nth: self.rng.below(100),
            },
        };
        self.push(time, action);
    }

    /// With mail on both sides just then.
    fn split(&mut self, time: u64, side: usize) {
        let ms = 1_200 + self.rng.below(2_500);
        let end = time + ms;
        let soon = time + self.rng.below(200);
        if self.rng.chance(50) {
            self.cut(time, ms);
            let ms = self.rng.below(60);
            self.push(soon, Action::Crash { brick: side, ms });
        } else {
            // Only this side hears that the stream between them has ended.
            let (from, to, refuses) = (side, 1 - side, false);
            self.push(time, Action::Cut { from, to, ms, refuses });
            self.push(soon, Action::Break { kind: 0 });
        }
        // And once more when they meet again: what was on its way goes to the other one, which knows something else.
        let crash = end - self.rng.below(60);
        let (brick, ms) = (self.rng.side(), 100 + self.rng.below(900));
        self.push(crash, Action::Crash { brick, ms });
        let mailbox = format!("user{}", self.rng.below(2));
        for nth in 0..12 {
            let (at, job) = match nth % 4 {
                0 => (side, Job::Postfix { lines: 1, writes: 1 }),
                1 => (1 - side, Job::Reader),
                2 => (1 - side, Job::Dovecot { every: 0, how: 3 }),
                _ => (1 - side, Job::Postfix { lines: 1, writes: 1 }),
            };
            let when = if nth < 8 {
                time + self.rng.below(1_100)
            } else {
                end - self.rng.below(150)
            };
            let mailbox = mailbox.clone();
            self.push(when, Action::Run { at, mailbox, job });
        }
        // And while it is merged.
        for nth in 0..16 {
            let when = if nth < 6 {
                time + self.rng.below(ms)
            } else {
                end + self.rng.below(2_500)
            };
            let (at, mailbox, job) = (nth % 2, DOTTED.into(), Job::Mutt { lines: 2 });
            self.push(when, Action::Run { at, mailbox, job });
        }
    }

    fn both_power(&mut self, time: u64, side: usize, ms: u64) {
        let later = time + self.rng.below(300);
        let (first, second) = (side, 1 - side);
        self.push(
            later,
            Action::Power {
                host: second,
                ms: ms / 2 + 10,
            },
        );
        self.push(time, Action::Power { host: first, ms });
    }

    fn cut(&mut self, time: u64, ms: u64) {
        let refuses = self.rng.chance(15);
        for (from, to) in [(0, 1), (1, 0)] {
            self.push(time, Action::Cut { from, to, ms, refuses });
        }
    }

    /// What stands still, or is slow.
    fn slow(&mut self, fault: Fault, side: usize, ms: u64) -> Action {
        match fault {
            Fault::Freeze if self.rng.chance(50) => Action::FreezeMount {
                at: side,
                ms: self.rng.below(3_000),
            },
            Fault::Freeze => Action::Freeze {
                brick: side,
                ms: self.rng.below(3_000),
            },
            Fault::Disk if self.rng.chance(30) => Action::Stall {
                brick: side,
                ms: self.rng.below(6_000),
                files: self.rng.chance(50),
            },
            _ => Action::SlowDisk {
                brick: side,
                more: self.rng.below(400),
                ms,
            },
        }
    }

    /// The link comes and goes, every 0.2 to 3 s.
    fn flap(&mut self, mut time: u64) {
        for _ in 0..3 {
            let ms = 200 + self.rng.below(2_500);
            let refuses = false;
            self.push(
                time,
                Action::Cut {
                    from: 0,
                    to: 1,
                    ms,
                    refuses,
                },
            );
            self.push(
                time,
                Action::Cut {
                    from: 1,
                    to: 0,
                    ms,
                    refuses,
                },
            );
            time += ms + 30 + self.rng.below(400);
        }
    }

    fn witness(&mut self) {
        let (time, ms) = (self.time(), self.rng.below(4_000));
        let action = match self.rng.below(3) {
            0 => Action::WitnessDown { ms },
            1 => Action::WitnessSlow {
                ms: self.rng.below(1_500),
            },
            _ => Action::WitnessCut {
                brick: self.rng.side(),
                asks: self.rng.chance(60),
                tells: self.rng.chance(60),
                ms,
            },
        };
        self.push(time, action);
    }
}
