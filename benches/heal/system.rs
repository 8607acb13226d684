//! A pair whose second brick misses something and comes back: mboxfs, or GlusterFS beside it.
//!
//! Promises: the same steps for both; a pair says itself when it is healed, and the bricks' files say whether that is true.
//! Not here: what is measured (`main`).

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::common::host::{Host, Lab};
use crate::common::pair::Pair;
use crate::gluster::Gluster;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Name {
    Mboxfs,
    Gluster,
}

pub(crate) enum System {
    Mboxfs(Box<Pair>, Lab),
    Gluster(Gluster),
}

impl System {
    /// `mib`: the size of each brick's disk. `kept_log`: bytes of log that the first brick of mboxfs keeps for the other one.
    pub(crate) fn start(name: Name, mib: u64, kept_log: Option<u32>) -> Self {
        if name == Name::Gluster {
            return Self::Gluster(Gluster::start(mib));
        }
        let lab = Lab::new();
        let mut pair = Pair::start_on_disks_of(&lab, mib);
        pair.one.kept_log = kept_log;
        pair.one.kill();
        pair.one.start();
        pair.wait_whole();
        Self::Mboxfs(Box::new(pair), lab)
    }

    pub(crate) fn hosts(&self) -> [&Host; 2] {
        match self {
            Self::Mboxfs(_, lab) => lab.hosts(),
            Self::Gluster(gluster) => gluster.hosts(),
        }
    }

    /// The mount that is written to, on the first host.
    pub(crate) fn spool(&self) -> &Path {
        match self {
            Self::Mboxfs(pair, _) => &pair.one.spool,
            Self::Gluster(gluster) => gluster.spools()[0],
        }
    }

    pub(crate) fn kill_second(&mut self) {
        match self {
            Self::Mboxfs(pair, _) => pair.two.kill(),
            Self::Gluster(gluster) => gluster.signal_brick(1, Signal::KILL),
        }
    }

    /// Its disk is a new one.
    pub(crate) fn empty_second(&self) {
        match self {
            Self::Mboxfs(pair, _) => pair.two.empty_disk(),
            Self::Gluster(gluster) => gluster.empty_second(),
        }
    }

    pub(crate) fn start_second(&mut self, emptied: bool) {
        match self {
            Self::Mboxfs(pair, _) => {
                pair.two.start();
                if emptied {
                    let brick = format!("h2:{}", pair.two.brick.display());
                    pair.one
                        .done(&format!("volume reset-brick gVol0 {brick} {brick} commit force"));
                }
            }
            Self::Gluster(gluster) if emptied => gluster.reset_second(),
            Self::Gluster(gluster) => gluster.start_bricks(),
        }
    }

    pub(crate) fn is_healed(&self) -> bool {
        match self {
            Self::Mboxfs(pair, _) => pair.one.cli("heal status").status.success(),
            Self::Gluster(gluster) => gluster.is_healed(),
        }
    }

    /// Do both bricks hold the same under these names?
    pub(crate) fn is_equal(&self, names: impl IntoIterator<Item = String>) -> bool {
        let bricks = match self {
            Self::Mboxfs(pair, _) => [pair.one.in_brick(""), pair.two.in_brick("")],
            Self::Gluster(gluster) => [0, 1].map(|i| gluster.hosts()[i].outside(&gluster.brick(i))),
        };
        names.into_iter().all(|name| {
            let [a, b] = [&bricks[0], &bricks[1]].map(|brick| fs::read(brick.join(&name)).ok());
            a.is_some() && a == b
        })
    }
}
