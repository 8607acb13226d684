//! Two mounts behave as one machine's filesystem would: no stale size, no lost append, locks that exclude and that die
//! with their owners (laws L3, L4, L5, L6, L7).
//!
//! The random part prints its seed; MBOXFS_COHERENCE_SEED=N plays another one. Not here: crashes (`crash`), real mail
//! programs (`mailers`).

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

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use common::actor::Actor;
use common::host::Lab;
use common::letters::Letters;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::{holds_within, wait_for};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

const SEED: u64 = 20_261_123;

/// A lock whose owner was killed has to be free "at once"; the machine has two shared cores.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Writers get on within this.
const FLOWS_MAX: Duration = Duration::from_secs(60);

/// A program that hangs does so for longer.
const EXEC_MAX: Duration = Duration::from_secs(20);

/// How long a call is watched that has to stay blocked.
const BLOCKED: Duration = Duration::from_millis(400);

/// A dotlock outlives its maker and that one's parent by 3 s at most (L7); one more for a slow machine.
const ORPHAN_MAX: Duration = Duration::from_secs(4);

/// `None`, and a line that says so, if the machine lacks something.
fn rig(test: &str) -> Option<Pair> {
    have(test, NEEDS).then(|| Pair::start(&Lab::new()))
}

fn actor(node: &Node) -> Actor {
    Actor::new(&node.host, &node.spool)
}

#[track_caller]
fn stays_blocked(who: &mut Actor, what: &str) {
    let said = who.answer(BLOCKED);
    assert_eq!(said, None, "{what} has to wait");
}

/// The answer to a call that was blocked until now.
#[track_caller]
fn comes_at_once(who: &mut Actor, what: &str) -> String {
    let begun = Instant::now();
    let said = who.answer(AT_ONCE);
    eprintln!("{what}: {said:?} after {:?}", begun.elapsed());
    said.unwrap_or_else(|| panic!("{what}: not within {AT_ONCE:?}"))
}

#[test]
fn random_writers_and_readers_on_both_hosts() {
    let Some(pair) = rig("random_writers_and_readers_on_both_hosts") else {
        return;
    };
    let seed = std::env::var("MBOXFS_COHERENCE_SEED").map_or(SEED, |s| s.parse().expect("a number"));
    eprintln!("MBOXFS_COHERENCE_SEED={seed}");
    let boxes = [
        ("fcntl", "fcntl"),
        ("range", "range"),
        ("flock", "flock"),
        ("dot", "dotlock"),
        ("link", "link"),
        ("bare", "none"),
    ];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, seed);
    letters.unsynced = 0.3;
    for _ in 0..3 {
        for node in [&pair.one, &pair.two] {
            letters.writer(node, Some(60));
        }
    }
    for node in [&pair.one, &pair.two] {
        letters.reader(node);
    }
    letters.wait_written(FLOWS_MAX);
    letters.stop();
    assert_eq!(letters.acknowledged_count(), 6 * 60, "every message was acknowledged");
    letters.audit(&pair);
}

#[test]
fn one_mailbox_and_every_writer() {
    let Some(pair) = rig("one_mailbox_and_every_writer") else {
        return;
    };
    // The hottest case there is, once for each kind of lock that a mailer waits for in the kernel and once for dotlocks.
    for (round, kind) in ["fcntl", "flock", "link"].into_iter().enumerate() {
        let mut letters = Letters::new(pair.one.host.dir(), &[(kind, kind)], SEED + round as u64);
        for _ in 0..2 {
            for node in [&pair.one, &pair.two] {
                letters.writer(node, Some(25));
            }
        }
        letters.reader(&pair.one);
        letters.wait_written(FLOWS_MAX);
        letters.stop();
        assert_eq!(letters.acknowledged_count(), 4 * 25, "{kind}");
        letters.audit(&pair);
    }
}

#[test]
fn fcntl_ranges() {
    let Some(pair) = rig("fcntl_ranges") else { return };
    let (mut one, mut two, mut third) = (actor(&pair.one), actor(&pair.two), actor(&pair.two));
    let [a, b, c] = [&mut one, &mut two, &mut third].map(|who| who.done("open box RDWR|CREAT"));
    one.done(&format!("lock {a} w 0 100"));
    two.done(&format!("lock {b} w 100 100"));
    assert_eq!(
        two.ask(&format!("lock {b} w 99 1")),
        "error EAGAIN",
        "overlap by one byte"
    );
    assert_eq!(two.ask(&format!("lock {b} r 50 10")), "error EAGAIN", "a reader inside");
    assert_eq!(
        one.ask(&format!("lock {a} w 150 0")),
        "error EAGAIN",
        "to the end of file"
    );
    // F_GETLK tells of locks on either host, and nothing of one's own. What it says of another host's lock is that there
    // is one: its exact range stays there.
    assert_eq!(third.done(&format!("getlk {c} r 120 5")), "w 100 100", "this host's");
    for asked in ["w 0 0", "w 99 1", "r 50 10"] {
        let said = two.done(&format!("getlk {b} {asked}"));
        assert!(said.starts_with("w "), "{asked}: {said}");
    }
    let said = one.done(&format!("getlk {a} r 120 5"));
    assert!(said.starts_with("w "), "the other host's: {said}");
    assert_eq!(one.done(&format!("getlk {a} w 0 100")), "u");
    assert_eq!(third.done(&format!("getlk {c} w 300 0")), "u");
    // Read locks share, on either host; a write lock waits for both.
    one.done(&format!("lock {a} r 1000 10"));
    two.done(&format!("lock {b} r 1005 10"));
    assert_eq!(
        third.done(&format!("getlk {c} r 1000 20")),
        "u",
        "a reader among readers"
    );
    assert_eq!(
        third.ask(&format!("lock {c} w 1012 1")),
        "error EAGAIN",
        "the other host's reader"
    );
    assert_eq!(
        third.ask(&format!("lock {c} w 1002 1")),
        "error EAGAIN",
        "this host's reader"
    );
    third.tell(&format!("lock {c} w 1007 1 wait"));
    stays_blocked(&mut third, "a writer, for two readers");
    one.done(&format!("lock {a} u 1000 10"));
    stays_blocked(&mut third, "a writer, for one reader");
    two.done(&format!("lock {b} u 1005 10"));
    assert_eq!(comes_at_once(&mut third, "the last reader went"), "ok");
    third.done(&format!("lock {c} u 0 0"));
    // A hole in the middle is free, what is left is not; closing any descriptor of the file frees all.
    one.done(&format!("lock {a} u 40 20"));
    two.done(&format!("lock {b} w 45 5"));
    assert_eq!(two.ask(&format!("lock {b} w 30 5")), "error EAGAIN");
    let again = one.done("open box RDONLY");
    one.done(&format!("close {again}"));
    two.done(&format!("lock {b} w 0 0"));
}

#[test]
fn flock_across_hosts() {
    let Some(pair) = rig("flock_across_hosts") else { return };
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let [a, b] = [&mut one, &mut two].map(|who| who.done("open box RDWR|CREAT"));
    one.done(&format!("flock {a} sh"));
    two.done(&format!("flock {b} sh"));
    assert_eq!(
        two.ask(&format!("flock {b} ex")),
        "error EAGAIN",
        "LOCK_EX|LOCK_NB beside a reader"
    );
    // A conversion that fails may lose the lock that was there (flock(2)): both begin anew.
    two.done(&format!("flock {b} un"));
    one.done(&format!("flock {a} ex"));
    assert_eq!(two.ask(&format!("flock {b} sh")), "error EAGAIN");
    two.tell(&format!("flock {b} sh wait"));
    stays_blocked(&mut two, "LOCK_SH, for LOCK_EX");
    one.done(&format!("flock {a} sh"));
    assert_eq!(comes_at_once(&mut two, "LOCK_EX became LOCK_SH"), "ok");
    two.done(&format!("flock {b} un"));
    // The lock belongs to the open file, not to the process: another descriptor of the same process is another owner.
    one.done(&format!("flock {a} ex"));
    let other = one.done("open box RDWR");
    assert_eq!(one.ask(&format!("flock {other} sh")), "error EAGAIN");
    one.done(&format!("close {a}"));
    // close(2) does not wait until the mount has heard of it: LOCK_NB may come before that.
    two.tell(&format!("flock {b} ex wait"));
    assert_eq!(comes_at_once(&mut two, "the open file is closed"), "ok");
}

#[test]
fn one_winner_of_each_race() {
    let Some(pair) = rig("one_winner_of_each_race") else {
        return;
    };
    let mut all: Vec<Actor> = (0..8)
        .map(|i| actor(if i % 2 == 0 { &pair.one } else { &pair.two }))
        .collect();
    let mut wins = [0_u32; 2];
    // Odd rounds are races for a dotlock, even ones for a mailbox.
    for round in 0..30_usize {
        let name = if round % 2 == 0 {
            format!("box{round}")
        } else {
            "box.lock".to_owned()
        };
        for who in &mut all {
            who.tell(&format!("open {name} WRONLY|CREAT|EXCL"));
        }
        let said: Vec<String> = all
            .iter_mut()
            .map(|who| who.answer(Duration::from_secs(20)).expect("an answer"))
            .collect();
        let winners: Vec<usize> = (0..all.len()).filter(|i| said[*i].starts_with("ok")).collect();
        assert_eq!(winners.len(), 1, "round {round}, {name}: {said:?}");
        assert_eq!(said.iter().filter(|s| *s == "error EEXIST").count(), 7, "{said:?}");
        wins[winners[0] % 2] += 1;
        let fd = said[winners[0]].trim_start_matches("ok ").to_owned();
        all[winners[0]].done(&format!("close {fd}"));
        // Removed on the host that did not win.
        all[1 - winners[0] % 2].done(&format!("unlink {name}"));
    }
    eprintln!("rounds won by h1 and h2: {wins:?}");
}

#[test]
fn a_killed_process_frees_its_locks() {
    let Some(pair) = rig("a_killed_process_frees_its_locks") else {
        return;
    };
    for lock in ["lock FD w 0 0", "lock FD w 10 5", "flock FD ex"] {
        for (from, to) in [(&pair.one, &pair.two), (&pair.two, &pair.one), (&pair.one, &pair.one)] {
            let (mut holder, mut waiter) = (actor(from), actor(to));
            let a = holder.done("open box RDWR|CREAT");
            let b = waiter.done("open box RDWR|CREAT");
            holder.done(&lock.replace("FD", &a));
            waiter.tell(&format!("{} wait", lock.replace("FD", &b)));
            stays_blocked(&mut waiter, lock);
            holder.kill();
            let what = format!("{lock}: {} died, {} waits", from.host.name(), to.host.name());
            assert_eq!(comes_at_once(&mut waiter, &what), "ok");
        }
    }
}

#[test]
fn a_killed_process_frees_its_dotlock() {
    let Some(pair) = rig("a_killed_process_frees_its_dotlock") else {
        return;
    };
    let mut two = actor(&pair.two);
    for maker_first in [true, false] {
        let mut parent = actor(&pair.one);
        let said = parent.done("fork open box.lock WRONLY|CREAT|EXCL");
        let (maker, rest) = said.split_once(' ').expect("a pid and an answer");
        assert!(rest.starts_with("ok"), "{said}");
        let maker = Pid::from_raw(maker.parse().expect("a pid")).expect("not 0");
        assert_eq!(two.ask("open box.lock WRONLY|CREAT|EXCL"), "error EEXIST");
        if maker_first {
            // mutt's dotlock program ends long before mutt does: the lock is still wanted.
            kill_process(maker, Signal::KILL).expect("the maker is ours");
            assert!(
                !holds_within(Duration::from_secs(3), || !pair.two.seen("box.lock").exists()),
                "the maker's parent lives, and the lock went"
            );
            parent.kill();
        } else {
            parent.kill();
            assert!(pair.two.seen("box.lock").exists(), "the maker lives");
            kill_process(maker, Signal::KILL).expect("the maker is ours");
        }
        let begun = Instant::now();
        wait_for("the orphaned dotlock goes", ORPHAN_MAX, || {
            !pair.two.seen("box.lock").exists()
        });
        eprintln!("maker first: {maker_first}: gone after {:?}", begun.elapsed());
        let fd = two.done("open box.lock WRONLY|CREAT|EXCL");
        two.done(&format!("close {fd}"));
        two.done("unlink box.lock");
    }
}

/// execve closes what is open, and waits for that; the mount looked at the process meanwhile and waited for execve.
#[test]
fn who_becomes_another_program_hangs_nobody() {
    let Some(pair) = rig("who_becomes_another_program_hangs_nobody") else {
        return;
    };
    let script = "import os, sys\nfd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)\nos.write(fd, b'whole')\n\
                  os.execv('/bin/true', ['true'])";
    let spool = pair.one.spool.join("box");
    let path = spool.to_str().expect("ASCII paths");
    let mut child = pair.one.host.command("python3");
    let mut child = child.args(["-c", script, path]).spawn().expect("python3 starts");
    let mut ended = None;
    wait_for("it is the other program", EXEC_MAX, || {
        ended = child.try_wait().expect("a child of ours");
        ended.is_some()
    });
    assert!(ended.is_some_and(|status| status.success()), "{ended:?}");
    let read = fs::read(pair.two.seen("box")).expect("the other host sees it");
    assert_eq!(read, b"whole", "it ended its session in good order (L1)");
}

#[test]
fn who_waits_can_be_interrupted_and_killed() {
    let Some(pair) = rig("who_waits_can_be_interrupted_and_killed") else {
        return;
    };
    let mut holder = actor(&pair.one);
    let a = holder.done("open box RDWR|CREAT");
    for lock in ["lock FD w 0 0", "flock FD ex"] {
        holder.done(&lock.replace("FD", &a));
        for node in [&pair.one, &pair.two] {
            let mut waiter = actor(node);
            let b = waiter.done("open box RDWR");
            waiter.tell(&format!("alarm 0.7 {} wait", lock.replace("FD", &b)));
            let said = waiter.answer(Duration::from_millis(700) + AT_ONCE);
            assert_eq!(
                said.as_deref(),
                Some("error EINTR"),
                "alarm(2) on {}, {lock}",
                node.host.name()
            );
            waiter.tell(&format!("{} wait", lock.replace("FD", &b)));
            stays_blocked(&mut waiter, "a second attempt");
            let begun = Instant::now();
            waiter.kill();
            assert!(
                begun.elapsed() < AT_ONCE,
                "SIGKILL of a waiter took {:?}",
                begun.elapsed()
            );
        }
        // Neither of the dead waiters got the lock later.
        let unlock = if lock.starts_with("flock") {
            format!("flock {a} un")
        } else {
            format!("lock {a} u 0 0")
        };
        holder.done(&unlock);
        for node in [&pair.one, &pair.two] {
            let mut next = actor(node);
            let c = next.done("open box RDWR");
            next.done(&lock.replace("FD", &c));
        }
    }
}

#[test]
fn an_open_file_follows_the_other_host() {
    let Some(pair) = rig("an_open_file_follows_the_other_host") else {
        return;
    };
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let a = one.done("open box RDWR|CREAT|APPEND");
    let b = two.done("open box RDWR");
    for (text, all) in [("hello,", "hello,"), ("world", "hello,world")] {
        one.done(&format!("write {a} {text}"));
        one.done(&format!("fsync {a}"));
        assert_eq!(two.done(&format!("size {b}")), all.len().to_string());
        assert_eq!(two.done(&format!("end {b}")), all.len().to_string());
        assert_eq!(two.done(&format!("read {b} 0 100")), all);
    }
    one.done(&format!("truncate {a} 5"));
    assert_eq!(two.done(&format!("size {b}")), "5");
    assert_eq!(two.done(&format!("read {b} 0 100")), "hello");
    assert_eq!(two.done(&format!("read {b} 5 100")), "");
    // An append that the other host made in between moves the end for this one.
    two.done(&format!("pwrite {b} 5 -two"));
    two.done(&format!("fsync {b}"));
    one.done(&format!("write {a} -one"));
    one.done(&format!("fsync {a}"));
    assert_eq!(two.done(&format!("read {b} 0 100")), "hello-two-one");
    // Rename over an open file: who has it open keeps it, with no name; who opens it now gets the new one.
    let old = two.done(&format!("inode {b}"));
    let n = one.done("open new RDWR|CREAT");
    one.done(&format!("write {n} fresh"));
    one.done(&format!("fsync {n}"));
    one.done("rename new box");
    assert_eq!(two.done(&format!("links {b}")), "0");
    assert_eq!(two.done(&format!("inode {b}")), old);
    assert_eq!(two.done(&format!("read {b} 0 100")), "hello-two-one");
    assert_ne!(two.done("path-inode box"), old);
    let c = two.done("open box RDONLY");
    assert_eq!(two.done(&format!("read {c} 0 100")), "fresh");
    assert_eq!(one.done(&format!("links {n}")), "1");
    // Both write to the file without a name, and both see it.
    one.done(&format!("write {a} !"));
    one.done(&format!("fsync {a}"));
    assert_eq!(two.done(&format!("read {b} 0 100")), "hello-two-one!");
    two.done("unlink box");
    assert_eq!(one.done(&format!("links {n}")), "0");
}

#[test]
fn a_mapped_file_is_read_fresh() {
    let Some(pair) = rig("a_mapped_file_is_read_fresh") else {
        return;
    };
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let a = one.done("open box RDWR|CREAT");
    let b = two.done("open box RDONLY");
    for text in ["first", "again", "third"] {
        one.done(&format!("pwrite {a} 0 {text}"));
        one.done(&format!("fsync {a}"));
        assert_eq!(two.done(&format!("mmap {b} 5")), text);
    }
}
