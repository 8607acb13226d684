//! What is broken, on which system, and how it is put right again.
//!
//! Promises: a fault hits the first host (its brick, its disk, its link); processes are ended by pid only.
//! Not here: how long mail stood (`main`).

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use crate::common::host::{Host, Lab};
use crate::common::pair::Pair;
use crate::common::wait::wait_for;
use crate::gluster::{BRICK_MIB, Gluster};

/// GlusterFS looks for what to heal each minute or when a brick connects.
const HEAL_MAX: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    Kill,
    Stop,
    Host,
    Cut,
    CutOneWay,
    FrozenDisk,
    FailedDisk,
    FullDisk,
    BothBricks,
    Rolling,
}

pub(crate) const FAULTS: [Fault; 10] = [
    Fault::Kill,
    Fault::BothBricks,
    Fault::Rolling,
    Fault::Stop,
    Fault::FailedDisk,
    Fault::FrozenDisk,
    Fault::FullDisk,
    Fault::Host,
    Fault::CutOneWay,
    Fault::Cut,
];

impl Fault {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Kill => "brick process killed",
            Self::Stop => "brick process stopped (SIGSTOP)",
            Self::Host => "host dead: processes and link",
            Self::Cut => "link cut both ways",
            Self::CutOneWay => "link cut one way",
            Self::FrozenDisk => "disk stands still",
            Self::FailedDisk => "disk fails (ext4 shutdown)",
            Self::FullDisk => "disk full",
            Self::BothBricks => "both brick processes killed, started at once",
            Self::Rolling => "bricks restarted one after the other",
        }
    }

    /// Do mailers of the first host go on?
    pub(crate) const fn spares_host(self) -> bool {
        !matches!(self, Self::Host)
    }

    /// Do both sides go on without the other one (quorum none)?
    pub(crate) const fn parts(self) -> bool {
        matches!(self, Self::Cut | Self::CutOneWay)
    }

    /// GlusterFS waits for its ping-timeout of 42 s.
    pub(crate) const fn gluster_window(self) -> Duration {
        match self {
            Self::Kill | Self::FailedDisk | Self::FullDisk | Self::BothBricks => Duration::from_secs(10),
            _ => Duration::from_secs(55),
        }
    }
}

pub(crate) enum System {
    Mboxfs(Pair, Lab),
    Gluster(Gluster),
}

impl System {
    pub(crate) fn mboxfs() -> Self {
        let lab = Lab::new();
        Self::Mboxfs(Pair::start(&lab), lab)
    }

    pub(crate) fn gluster() -> Self {
        Self::Gluster(Gluster::start(BRICK_MIB))
    }

    pub(crate) fn hosts(&self) -> [&Host; 2] {
        match self {
            Self::Mboxfs(_, lab) => lab.hosts(),
            Self::Gluster(gluster) => gluster.hosts(),
        }
    }

    pub(crate) fn spools(&self) -> [&Path; 2] {
        match self {
            Self::Mboxfs(pair, _) => [&pair.one.spool, &pair.two.spool],
            Self::Gluster(gluster) => gluster.spools(),
        }
    }

    fn brick_dir(&self) -> std::path::PathBuf {
        match self {
            Self::Mboxfs(pair, _) => pair.one.brick.clone(),
            Self::Gluster(gluster) => gluster.brick(0),
        }
    }

    fn signal(&self, signal: Signal) {
        match self {
            Self::Mboxfs(pair, _) => pair.one.signal(signal),
            Self::Gluster(gluster) => gluster.signal_brick(0, signal),
        }
    }

    fn link(&self, state: &str) {
        self.hosts()[0].run("ip", &["link", "set", "eth0", state]);
    }

    pub(crate) fn break_by(&mut self, fault: Fault) {
        let brick = self.brick_dir();
        let brick = brick.to_str().expect("ASCII paths");
        match fault {
            Fault::Kill => match self {
                Self::Mboxfs(pair, _) => pair.one.kill(),
                Self::Gluster(_) => self.signal(Signal::KILL),
            },
            Fault::Stop => self.signal(Signal::STOP),
            Fault::Host => {
                // First the link: nothing that dies says goodbye.
                self.link("down");
                self.hosts()[0].kill_all();
            }
            Fault::Cut => self.link("down"),
            Fault::CutOneWay => self.hosts()[0].cut_one_way(self.hosts()[1]),
            Fault::FrozenDisk => drop(self.hosts()[0].run("fsfreeze", &["--freeze", brick])),
            Fault::FailedDisk => match self {
                Self::Mboxfs(pair, _) => pair.one.fail_disk(),
                Self::Gluster(_) => crate::common::image::shut_down(Some(self.hosts()[0]), Path::new(brick)),
            },
            // All of it: the reserve that a brick keeps too.
            Fault::FullDisk => {
                let filler = format!("cat /dev/zero >{brick}/lost+found/filler 2>/dev/null; true");
                self.hosts()[0].run("sh", &["-c", &filler]);
            }
            Fault::BothBricks => match self {
                Self::Mboxfs(pair, _) => {
                    pair.one.kill();
                    pair.two.kill();
                    pair.one.spawn();
                    pair.two.spawn();
                }
                Self::Gluster(gluster) => {
                    for host in 0..2 {
                        gluster.signal_brick(host, Signal::KILL);
                    }
                    gluster.start_bricks();
                }
            },
            Fault::Rolling => match self {
                Self::Mboxfs(pair, _) => {
                    for first in [true, false] {
                        let node = if first { &mut pair.one } else { &mut pair.two };
                        node.stop();
                        node.start();
                        pair.wait_whole();
                    }
                }
                Self::Gluster(gluster) => {
                    for host in 0..2 {
                        gluster.signal_brick(host, Signal::TERM);
                        gluster.start_bricks();
                        wait_for("nothing is left to heal", HEAL_MAX, || gluster.is_healed());
                    }
                }
            },
        }
    }

    /// What ends by itself in life: the process goes on, the link is there again, the disk answers.
    pub(crate) fn mend(&mut self, fault: Fault) {
        let brick = self.brick_dir();
        match fault {
            Fault::Kill | Fault::FailedDisk | Fault::BothBricks | Fault::Rolling => {}
            Fault::FullDisk => {
                fs::remove_file(self.hosts()[0].outside(&brick.join("lost+found/filler"))).expect("the filler is ours");
            }
            Fault::Stop => self.signal(Signal::CONT),
            Fault::Host | Fault::Cut => self.link("up"),
            Fault::CutOneWay => self.hosts()[0].mend_one_way(self.hosts()[1]),
            Fault::FrozenDisk => {
                self.hosts()[0].run("fsfreeze", &["--unfreeze", brick.to_str().expect("ASCII paths")]);
            }
        }
        if let Self::Mboxfs(pair, _) = self {
            match fault {
                // Filled to its last block within a second it ends, and systemd starts it again.
                Fault::FullDisk if pair.one.is_running() => {}
                Fault::Kill | Fault::Host | Fault::FullDisk => {
                    pair.one.kill(); // waits for what is dead already
                    pair.one.start();
                }
                Fault::FailedDisk => {
                    pair.one.power_off();
                    pair.one.power_on();
                    pair.one.start();
                }
                _ => {}
            }
        }
    }
}
