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
    /// Mount daemons.
    mounts: Vec<i32>,
}

impl Counters {
    /// `images`: the files behind the loop devices.
    pub(crate) fn new(images: &[&Path]) -> Self {
        Self {
            devices: images.iter().map(|image| device(image)).collect(),
            mounts: Vec::new(),
        }
    }

    pub(crate) fn of_mounts(mut self, hosts: [&Host; 2]) -> Self {
        self.mounts = hosts.iter().filter_map(|host| mount_daemon(host)).collect();
        self
    }

    pub(crate) fn read(&self, pair: Option<&Pair>) -> Counts {
        let mut all = Counts::new();
        if let Some(pair) = pair {
            all.extend(told(&pair.one));
        }
        let requests: Vec<u64> = self.mounts.iter().filter_map(|pid| requests(*pid)).collect();
        if requests.len() == 2 {
            all.push(("FUSE requests".to_owned(), requests.iter().sum()));
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

fn mount_daemon(host: &Host) -> Option<i32> {
    let is_it = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c == "mount-mboxfs\n");
    host.pids().into_iter().find(is_it)
}

/// Writes of the threads that serve /dev/fuse: each request is answered with one, or handed on with one (a wake-up) if the
/// brick has to be asked. Only FORGET, which has no answer, is not among them. Reads would not do: /proc is read too.
fn requests(pid: i32) -> Option<u64> {
    let mut all = None;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if !name.starts_with("fuse") {
            continue;
        }
        let io = fs::read_to_string(task.path().join("io")).ok()?;
        let writes = io.lines().find_map(|line| line.strip_prefix("syscw: "))?;
        *all.get_or_insert(0) += writes.parse::<u64>().ok()?;
    }
    all
}
