//! Sick, not dead: a stopped process, a disk that stands still, a disk that has become read-only, under load. The other
//! brick goes on, nothing acknowledged is lost, and the sick one comes back by itself or says why it ended (L1, L3, L9).
//!
//! Not here: dead processes and power loss (`crash`), timings (`benches/failures.rs`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod actor;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use common::actor::Actor;
use common::host::Lab;
use common::letters::Letters;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::holds_within;
use rustix::process::Signal;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];
const SEED: u64 = 41;
/// Mail flows again within this, on both hosts. The goal is 3 s; a busy machine gets more.
const FLOWS_MAX: Duration = Duration::from_secs(10);
const HEALS_MAX: Duration = Duration::from_secs(40);

/// One writer on each host, until stopped; an error that defers mail is none.
fn load(pair: &Pair) -> Letters {
    let boxes = [("fcntl", "fcntl"), ("link", "link")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, SEED);
    letters.later = true;
    letters.writers(pair, 1);
    letters.wait_more(20, HEALS_MAX);
    letters
}

/// Every host's own mail flows, also that of the host whose brick is sick.
fn both_deliver(pair: &Pair, what: &str) {
    let begun = Instant::now();
    let mut actors = [&pair.one, &pair.two].map(|node| Actor::new(&node.host, &node.spool));
    for (i, actor) in actors.iter_mut().enumerate() {
        actor.tell(&format!("open {what}{i} WRONLY|CREAT|APPEND"));
    }
    for (i, actor) in actors.iter_mut().enumerate() {
        let answer = actor
            .answer(FLOWS_MAX)
            .unwrap_or_else(|| panic!("{what}: host {i} stands"));
        let fd = answer
            .strip_prefix("ok ")
            .unwrap_or_else(|| panic!("{what}: host {i}: {answer}"));
        actor.done(&format!("write {fd} x"));
        actor.done(&format!("fsync {fd}"));
    }
    eprintln!("{what}: both hosts deliver after {:?}", begun.elapsed());
}

fn settle(mut letters: Letters, pair: &Pair) {
    letters.wait_more(20, HEALS_MAX);
    letters.stop();
    pair.wait_whole();
    letters.audit(pair);
    eprintln!("acknowledged {}", letters.acknowledged_count());
}

/// What the healthy host's `volume status` says of the sick brick.
#[track_caller]
fn is_told(node: &Node, why: &str) {
    let told = || String::from_utf8_lossy(&node.cli("volume status gVol0").stdout).into_owned();
    let is_there = || told().lines().any(|l| l.starts_with("Brick ") && l.contains(why));
    if !holds_within(HEALS_MAX, is_there) {
        panic!("{why:?} is not told:\n{}", told());
    }
}

/// Freezes and thaws the file system of the brick at argv[1] in turn, until its stdin ends. In between one write to the log
/// gets through, and what else waits in that moment: more of them would be quick, and none at all is a disk that does not
/// answer.
const CRAWL: &str = "import fcntl, os, select, sys, time
FREEZE, THAW = 0xc0045877, 0xc0045878
disk = os.open(sys.argv[1], os.O_RDONLY)
written = lambda: max(file.stat().st_mtime_ns for file in os.scandir(sys.argv[1] + '/.mboxfs/log'))
over = []
while not over:
    fcntl.ioctl(disk, FREEZE, 0)
    over = select.select([0], [], [], 0.6)[0]
    before, idle = written(), time.monotonic() + 0.2
    fcntl.ioctl(disk, THAW, 0)
    while written() == before and time.monotonic() < idle:
        pass
    time.sleep(0.0003)";

/// Each sync of a brick's disk takes most of a second, until this is dropped.
struct SlowDisk(Child);

impl SlowDisk {
    fn of(node: &Node) -> Self {
        let mut crawl = node.host.command("python3");
        let crawl = crawl.args(["-c", CRAWL]).arg(&node.brick).stdin(Stdio::piped());
        Self(crawl.spawn().expect("python3 starts"))
    }
}

impl Drop for SlowDisk {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_or_frozen_brick_does_not_hold_up_mail() {
    if !have("a_stopped_or_frozen_brick_does_not_hold_up_mail", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    // The primary and the backup, each by the one fault and by the other.
    for (sick, well) in [(&pair.one, &pair.two), (&pair.two, &pair.one)] {
        sick.signal(Signal::STOP);
        both_deliver(&pair, "stopped");
        letters.wait_more(20, FLOWS_MAX);
        is_told(well, "does not answer");
        sick.signal(Signal::CONT);
        pair.wait_whole();
        sick.freeze_disk();
        both_deliver(&pair, "frozen");
        letters.wait_more(20, FLOWS_MAX);
        is_told(well, "its disk does not answer");
        is_told(sick, "disk stalled");
        sick.thaw_disk();
        pair.wait_whole();
    }
    settle(letters, &pair);
}

/// It answers, again and again, but every answer takes most of a second: both hosts' mail would crawl for ever.
#[test]
fn a_slow_disk_does_not_hold_up_mail() {
    if !have("a_slow_disk_does_not_hold_up_mail", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    let slow = SlowDisk::of(&pair.two);
    is_told(&pair.one, "its disk is slow");
    both_deliver(&pair, "slow");
    letters.wait_more(20, FLOWS_MAX);
    drop(slow);
    settle(letters, &pair);
}

#[test]
fn a_disk_that_turns_read_only_takes_its_brick_out() {
    if !have("a_disk_that_turns_read_only_takes_its_brick_out", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    pair.two.damage_disk();
    both_deliver(&pair, "read-only");
    assert_eq!(pair.two.exit_code(), Some(1));
    let said = pair.two.said();
    // Which write of the brick the disk refused first, the log's or a mailbox's, is chance.
    assert!(said.contains("error: could not go on: could not "), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
    is_told(&pair.one, "Read-only file system");
    pair.two.power_off();
    pair.two.power_on();
    pair.two.start();
    settle(letters, &pair);
}

/// A drill breaks what it says, mail goes on, nothing of it is left; and what it must not begin it refuses.
#[test]
fn drills_on_a_live_pair() {
    if !have("drills_on_a_live_pair", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    let asked = pair.one.cli("drill crash --volume gVol0");
    assert_eq!(asked.status.code(), Some(2), "it asks, and nobody can answer");
    let text = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        text.ends_with("hint: mboxfs --yes drill crash --volume gVol0\n"),
        "{text}"
    );
    // The one brick is that of the other host, the other one that of this host.
    for words in [
        "--yes drill crash --volume gVol0",
        "--yes drill slow-disk --volume gVol0 --here",
    ] {
        let report = pair.one.done(words);
        eprintln!("{report}");
        assert!(
            report.contains("passed\n") && report.contains("0 lost, 0 twice"),
            "{report}"
        );
    }
    assert!(pair.two.is_running(), "the same process for who watches over it");
    assert!(pair.two.said().matches("READY").count() == 2, "it started anew");
    assert!(pair.one.said().contains("the disk has not answered"));
    let left: Vec<_> = std::fs::read_dir(pair.one.seen(""))
        .expect("the spool can be listed")
        .filter(|e| {
            e.as_ref()
                .is_ok_and(|e| e.file_name().to_string_lossy().contains("drill"))
        })
        .collect();
    assert!(left.is_empty(), "{left:?}");
    settle(letters, &pair);
    pair.two.kill();
    let refused = pair.one.cli("--yes drill crash --volume gVol0 --here");
    assert_eq!(refused.status.code(), Some(1), "the last good brick is not broken");
    let partition = pair.one.cli("drill partition --volume gVol0");
    assert_eq!(partition.status.code(), Some(1));
}

/// Nothing is being written, and what was written cannot be read any more: the reader gets it from the other copy (L9, L12).
#[test]
fn a_disk_that_cannot_be_read_is_not_asked_again() {
    if !have("a_disk_that_cannot_be_read_is_not_asked_again", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    std::fs::write(pair.one.seen("box"), "mail").expect("it is written");
    pair.wait_whole();
    pair.wait_at_home(); // else the other brick is read, and this one has nothing to find out
    pair.two.fail_disk();
    assert_eq!(
        std::fs::read_to_string(pair.two.seen("box")).expect("never an error"),
        "mail"
    );
    assert_eq!(pair.two.exit_code(), Some(1));
    is_told(&pair.one, "could not ");
    assert_eq!(std::fs::read_to_string(pair.two.seen("box")).expect("L9"), "mail");
    pair.two.power_off();
    pair.two.power_on();
    pair.two.start();
    pair.wait_whole();
}
