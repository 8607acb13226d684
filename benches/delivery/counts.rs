//! What a delivery costs in things that can be counted: they are exact where times are noisy.
//!
//! Promises: counters of the kernel and of the product, read before and after; nothing is estimated.
//! Not here: times.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::host::Host;
use crate::common::pair::{Node, Pair};

/// Counters by name; the same names in the same order whenever they are read from one source.
pub(crate) type Counts = Vec<(String, u64)>;

/// Where counters are read.
pub(crate) struct Counters {
    /// Loop devices under the filesystems, first host first.
    devices: Vec<String>,
    /// Daemons of both hosts, by program.
    daemons: Vec<(&'static str, Vec<i32>)>,
}

impl Counters {
    /// `images`: the files behind the loop devices.
    pub(crate) fn new(images: &[&Path]) -> Self {
        Self {
            devices: images.iter().map(|image| device(image)).collect(),
            daemons: Vec::new(),
        }
    }

    /// The daemons whose work is to be counted.
    pub(crate) fn of_daemons(mut self, hosts: [&Host; 2], programs: &[&'static str]) -> Self {
        let pids: Vec<i32> = hosts.iter().flat_map(|host| host.pids()).collect();
        let called = |program: &str| pids.iter().copied().filter(|pid| is_called(*pid, program)).collect();
        self.daemons = programs.iter().map(|program| (*program, called(program))).collect();
        self
    }

    pub(crate) fn read(&self, pair: Option<&Pair>) -> Counts {
        let mut all = Counts::new();
        if let Some(pair) = pair {
            all.extend(told(&pair.one));
            let requests = [&pair.one, &pair.two].map(|node| requests(&node.seen("")));
            all.push(("FUSE requests".to_owned(), requests.iter().sum()));
        }
        for (program, pids) in &self.daemons {
            let [micros, sleeps] = work(pids);
            all.push((format!("{program}, CPU us"), micros));
            all.push((format!("{program}, sleeps"), sleeps));
        }
        for (i, device) in self.devices.iter().enumerate() {
            let stat = fs::read_to_string(format!("/sys/block/{device}/stat")).expect("a loop device has counters");
            let fields: Vec<u64> = stat.split_whitespace().filter_map(|word| word.parse().ok()).collect();
            // Documentation/block/stat.rst: the 5th is write requests, the 16th flush requests. A flush of its own, without
            // data, is counted as both.
            all.push((format!("writes, disk {}", i + 1), fields.get(4).copied().unwrap_or(0)));
            all.push((format!("flushes, disk {}", i + 1), fields.get(15).copied().unwrap_or(0)));
        }
        all
    }
}

/// What has been added since `before`.
pub(crate) fn since(before: &Counts, after: &Counts) -> Counts {
    let added = |((name, b), (_, a)): (&(String, u64), &(String, u64))| (name.clone(), a.saturating_sub(*b));
    before.iter().zip(after).map(added).collect()
}

/// What the product itself counts, both bricks together; the records of one, since both have the same.
fn told(node: &Node) -> Counts {
    let text = node.done("volume status gVol0 --json");
    let json: serde_json::Value = serde_json::from_str(&text).expect("--json is JSON");
    let bricks = json["volumes"][0]["bricks"]
        .as_array()
        .expect("a list of bricks")
        .clone();
    let sum = |field: &str| bricks.iter().filter_map(|brick| brick[field].as_u64()).sum();
    let last = bricks.iter().filter_map(|brick| brick["last"].as_u64()).max();
    vec![
        ("round trips".to_owned(), sum("round_trips")),
        ("requests".to_owned(), sum("requests")),
        ("records".to_owned(), last.unwrap_or(0)),
    ]
}

/// The name of the loop device over `image`, without /dev.
fn device(image: &Path) -> String {
    let output = Command::new("losetup")
        .args(["--noheadings", "--output", "NAME", "--associated"])
        .arg(image)
        .output()
        .expect("losetup starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().trim_start_matches("/dev/").to_owned()
}

fn is_called(pid: i32, program: &str) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim_end() == program)
}

/// Processor time in microseconds, and how often a thread went to sleep: each time somebody had to wake it. The threads
/// of a daemon live as long as it does.
fn work(pids: &[i32]) -> [u64; 2] {
    let mut all = [0; 2];
    let tasks = pids
        .iter()
        .filter_map(|pid| fs::read_dir(format!("/proc/{pid}/task")).ok());
    for task in tasks.flat_map(|dir| dir.flatten()) {
        let read = |file: &str| fs::read_to_string(task.path().join(file)).unwrap_or_default();
        let (ran, status) = (read("schedstat"), read("status"));
        let nanos = ran.split(' ').next().and_then(|word| word.parse::<u64>().ok());
        let slept = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        all[0] += nanos.unwrap_or(0) / 1000;
        all[1] += slept.and_then(|n| n.trim().parse::<u64>().ok()).unwrap_or(0);
    }
    all
}

/// What the mount itself counts: requests of the kernel, of all kinds.
fn requests(spool: &Path) -> u64 {
    let spool = fs::File::open(spool).expect("the spool opens");
    let mut text = [0; 4096];
    let len = rustix::fs::fgetxattr(&spool, "user.mboxfs.requests", &mut text[..]).expect("the mount counts");
    let text = String::from_utf8_lossy(&text[..len]);
    let numbers = text
        .lines()
        .filter_map(|line| line.split(' ').nth(1)?.parse::<u64>().ok());
    numbers.sum()
}
