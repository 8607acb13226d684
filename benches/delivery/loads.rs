//! The systems that are compared, and what is asked of each.
//!
//! Promises: every system is given the same work by the same worker; a system that has one host only is not asked for
//! what needs two.
//! Not here: the work itself (`worker`), what comes out of it (`table`).

use std::path::Path;
use std::time::Duration;

use crate::common::host::{Host, Lab};
use crate::common::image::Image;
use crate::common::pair::Pair;
use crate::counts::{self, Counters, Counts};
use crate::gluster::{BRICK_MIB, Gluster};
use crate::worker::{Sample, Worker};

/// What is asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Load {
    /// So many streams on the first host, each with a mailbox of its own.
    Streams(usize),
    /// One stream on the second host.
    OtherHost,
    /// One stream that delivers on the one host and the other in turn, into one mailbox.
    Alternating,
}

pub(crate) const LOADS: [Load; 5] = [
    Load::Streams(1),
    Load::Streams(8),
    Load::Streams(32),
    Load::OtherHost,
    Load::Alternating,
];

impl Load {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Streams(1) => "1 stream",
            Self::Streams(8) => "8 streams",
            Self::Streams(_) => "32 streams",
            Self::OtherHost => "1 stream, second host",
            Self::Alternating => "1 stream, hosts in turn",
        }
    }
}

enum Rig {
    Ext4(#[expect(dead_code, reason = "held until the end")] Image),
    Mboxfs(Pair),
    Gluster(#[expect(dead_code, reason = "held until the end")] Gluster),
}

/// One of the compared.
pub(crate) struct System {
    pub(crate) name: &'static str,
    /// One for each host that has it mounted. Before `rig`: a directory in use cannot be unmounted.
    workers: Vec<Worker>,
    counters: Counters,
    rig: Rig,
}

impl System {
    pub(crate) fn ext4(lab: &Lab) -> Self {
        let host = &lab.h1;
        let (file, at) = (host.dir().join("local.img"), host.dir().join("local"));
        let image = Image::create(Some(host), &file, 512, &at);
        Self {
            name: "ext4",
            workers: vec![Worker::start(host, &at)],
            counters: Counters::new(&[&file]),
            rig: Rig::Ext4(image),
        }
    }

    pub(crate) fn mboxfs(lab: &Lab) -> Self {
        let pair = Pair::start(lab);
        let nodes = [&pair.one, &pair.two];
        Self {
            name: "mboxfs",
            workers: nodes.map(|node| Worker::start(&node.host, &node.spool)).into(),
            counters: counters(lab.hosts()).of_daemons(lab.hosts(), &["brickd", "mount-mboxfs"]),
            rig: Rig::Mboxfs(pair),
        }
    }

    pub(crate) fn gluster() -> Self {
        let gluster = Gluster::start(BRICK_MIB);
        let both = gluster.hosts().into_iter().zip(gluster.spools());
        Self {
            name: "gluster",
            workers: both.map(|(host, spool)| Worker::start(host, spool)).collect(),
            counters: counters(gluster.hosts()).of_daemons(gluster.hosts(), &["glusterfsd", "glusterfs"]),
            rig: Rig::Gluster(gluster),
        }
    }

    /// None: this system cannot do that.
    pub(crate) fn run(&mut self, load: Load, time: Duration) -> Option<(Sample, Counts)> {
        let (worker, boxes, streams) = match load {
            Load::Streams(streams) => (0, "s", streams),
            Load::OtherHost => (1, "o", 1),
            Load::Alternating => (1, "a", 1),
        };
        self.workers.get_mut(worker)?.prepare(boxes, streams);
        let before = self.counts();
        let sample = if load == Load::Alternating {
            self.alternate(boxes, time)
        } else {
            self.workers[worker].run(boxes, streams, time)
        };
        let counts = counts::since(&before, &self.counts());
        Some((sample, counts))
    }

    fn alternate(&mut self, boxes: &str, time: Duration) -> Sample {
        let mut nanos = Vec::new();
        // Without the pauses between deliveries, which are the bench's own.
        let mut wall = Duration::ZERO;
        while wall < time {
            for worker in &mut self.workers {
                let one = worker.run(boxes, 1, Duration::ZERO);
                wall += one.nanos.iter().map(|n| Duration::from_nanos(*n)).sum::<Duration>();
                nanos.extend(one.nanos);
            }
        }
        Sample { wall, nanos }
    }

    fn counts(&self) -> Counts {
        let pair = if let Rig::Mboxfs(pair) = &self.rig {
            Some(pair)
        } else {
            None
        };
        self.counters.read(pair)
    }
}

fn counters(hosts: [&Host; 2]) -> Counters {
    let images = hosts.map(|host| host.dir().join("brick.img"));
    let images: Vec<&Path> = images.iter().map(AsRef::as_ref).collect();
    Counters::new(&images)
}
