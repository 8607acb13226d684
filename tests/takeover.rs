//! The process that serves a mount dies, in the middle of whatever it does: programs notice a pause (laws L1, L5, L6, L7, L9).
//!
//! Not here: bricks that die (`crash`), interleavings (`client`'s own tests).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod actor;
    pub(crate) mod daemon;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs;
use std::time::{Duration, Instant};

use common::actor::Actor;
use common::daemon::{daemons, kill_daemon, only, send};
use common::host::Lab;
use common::letters::{EACH_LOCK, Letters};
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

/// Mail flows again within this.
const FLOWS_MAX: Duration = Duration::from_secs(40);

/// SIGKILL, until it has let go of its descriptors.
///
/// `/proc` is no measure of that: a process that ends loses its name there before it closes /dev/fuse. The pidfd
/// is readable when its last thread has (`pidfd_open(2)`).
#[track_caller]
fn kill(pid: Pid) {
    let process = pidfd_open(pid, PidfdFlags::empty()).expect("a process of ours");
    pidfd_send_signal(&process, Signal::KILL).expect("a process of ours");
    let limit = Timespec::try_from(FLOWS_MAX).expect("a short time");
    let ended = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit));
    assert_eq!(ended, Ok(1), "{pid:?} ends");
}

fn actor(node: &Node) -> Actor {
    Actor::new(&node.host, &node.spool)
}

#[track_caller]
fn both_hold(pair: &Pair, name: &str, text: &str) {
    for node in [&pair.one, &pair.two] {
        assert_eq!(
            fs::read_to_string(node.seen(name)).expect("it is read"),
            text,
            "on {}",
            node.host.name()
        );
        wait_for("the brick holds it", FLOWS_MAX, || {
            fs::read_to_string(node.in_brick(name)).is_ok_and(|t| t == text)
        });
    }
}

/// No program gets any error at all: a message is not even deferred.
#[test]
fn the_daemon_is_killed_under_load() {
    if !have("the_daemon_is_killed_under_load", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let mut letters = Letters::new(pair.one.host.dir(), &EACH_LOCK, 11);
    letters.unsynced = 0.2;
    letters.writers(&pair, 2);
    letters.wait_more(20, FLOWS_MAX);
    let mut longest = Duration::ZERO;
    for round in 0..8 {
        let node = if round % 2 == 0 { &pair.one } else { &pair.two };
        let begun = Instant::now();
        kill_daemon(node);
        letters.wait_more(20, FLOWS_MAX);
        longest = longest.max(begun.elapsed());
    }
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    let all = letters.acknowledged_count();
    eprintln!(
        "acknowledged {all}; 20 more after a kill took {} ms at most",
        longest.as_millis()
    );
}

/// An upgrade, as an operator does it: one brickd after the other ends and starts again, under load, and nobody gets an
/// error; what is locked stays locked (L5).
#[test]
fn bricks_are_restarted_under_load() {
    if !have("bricks_are_restarted_under_load", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let boxes = [("fcntl", "fcntl"), ("create", "dotlock"), ("bare", "none")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, 12);
    letters.unsynced = 0.2;
    letters.writers(&pair, 1);
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let fd = one.done("open box RDWR|CREAT|APPEND");
    let dot = one.done("open box.lock WRONLY|CREAT|EXCL 000");
    one.done(&format!("close {dot}"));
    one.done(&format!("lock {fd} w 0 0"));
    one.done(&format!("write {fd} half,"));
    let other = two.done("open box RDWR");
    for first in [true, false] {
        let node = if first { &mut pair.one } else { &mut pair.two };
        node.stop();
        letters.wait_more(10, FLOWS_MAX);
        node.start();
        pair.wait_healed();
        letters.wait_more(10, FLOWS_MAX);
        assert_eq!(two.ask(&format!("lock {other} w 0 0")), "error EAGAIN");
        assert_eq!(two.ask("open box.lock WRONLY|CREAT|EXCL 000"), "error EEXIST");
        assert_eq!(two.done(&format!("size {other}")), "0");
    }
    one.done(&format!("write {fd} whole"));
    one.done(&format!("fsync {fd}"));
    one.done(&format!("close {fd}"));
    one.done("unlink box.lock");
    two.done(&format!("lock {other} w 0 0"));
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    both_hold(&pair, "box", "half,whole");
}

/// L6: the mount stood still for so long that its host was taken for dead. Whoever had a dotlock does not know, and may write
/// no more; it can take away what it believes to have, as mail programs want, whichever of its threads does.
#[test]
fn who_lost_its_dotlock_writes_no_more() {
    if !have("who_lost_its_dotlock_writes_no_more", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    for (who, name) in [("", "one"), ("thread ", "many")] {
        let (mut loser, mut other) = (actor(&pair.one), actor(&pair.two));
        let make = format!("open {name}.lock WRONLY|CREAT|EXCL");
        other.done(&format!("open {name} WRONLY|CREAT"));
        loser.done(&format!("{who}{make}"));
        let fd = loser.done(&format!("{who}open {name} RDWR"));
        let daemon = only(&daemons(&pair.one.host, true));
        send(daemon, Signal::STOP);
        wait_for("its dotlock is free", FLOWS_MAX, || other.ask(&make).starts_with("ok"));
        send(daemon, Signal::CONT);
        assert_eq!(loser.ask(&format!("{who}write {fd} lost")), "error ESTALE", "{who}");
        assert_eq!(loser.ask(&format!("{who}unlink {name}.lock")), "ok", "{who}");
        assert_eq!(
            other.ask(&format!("unlink {name}.lock")),
            "ok",
            "it is the other one's: {who}"
        );
        both_hold(&pair, name, "");
    }
}

/// A delivery with everything that it may hold: a dotlock, a lock, half a message.
#[test]
fn a_lock_session_outlives_the_daemon() {
    if !have("a_lock_session_outlives_the_daemon", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let fd = one.done("open box RDWR|CREAT|APPEND");
    one.done(&format!("write {fd} old,"));
    one.done(&format!("fsync {fd}"));
    let dot = one.done("open box.lock WRONLY|CREAT|EXCL 000");
    one.done(&format!("close {dot}"));
    one.done(&format!("lock {fd} w 0 0"));
    one.done(&format!("write {fd} first,"));
    let listing = fs::read_dir(pair.one.seen("")).expect("a directory that is open meanwhile");
    for _ in 0..2 {
        kill_daemon(&pair.one);
        // Excluded (L5), and nothing of the half message is to be seen (L6).
        let other = two.done("open box RDWR");
        assert_eq!(two.ask(&format!("lock {other} w 0 0")), "error EAGAIN");
        assert_eq!(two.ask("open box.lock WRONLY|CREAT|EXCL 000"), "error EEXIST");
        assert_eq!(two.done(&format!("read {other} 0 100")), "old,");
        two.done(&format!("close {other}"));
        assert_eq!(
            one.done(&format!("read {fd} 0 100")),
            "old,first,",
            "as it has written it"
        );
    }
    one.done(&format!("write {fd} second,"));
    // Neither descriptor nor lock was handed out a second time.
    let again = one.done("open other RDWR|CREAT");
    one.done(&format!("write {again} x"));
    one.done(&format!("close {again}"));
    one.done(&format!("fsync {fd}"));
    let other = two.done("open box RDWR");
    two.tell(&format!("lock {other} w 0 0 wait"));
    assert_eq!(two.answer(Duration::from_millis(500)), None, "the lock is held");
    one.done(&format!("close {fd}"));
    assert_eq!(two.answer(FLOWS_MAX).as_deref(), Some("ok"), "and free with the close");
    one.done("unlink box.lock");
    let dot = two.done("open box.lock WRONLY|CREAT|EXCL 000");
    two.done(&format!("close {dot}"));
    two.done("unlink box.lock");
    two.done(&format!("close {other}"));
    both_hold(&pair, "box", "old,first,second,");
    drop(listing);
}

/// A holder whose daemon stays away for longer than a session lives: the other node goes on without it (L5, L7).
#[test]
fn a_daemon_that_comes_back_too_late_is_fenced() {
    if !have("a_daemon_that_comes_back_too_late_is_fenced", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let (mut one, mut two) = (actor(&pair.one), actor(&pair.two));
    let fd = one.done("open box RDWR|CREAT|APPEND");
    one.done(&format!("write {fd} old,"));
    one.done(&format!("fsync {fd}"));
    let clean = one.done("open other RDWR|CREAT|APPEND");
    let dot = one.done("open box.lock WRONLY|CREAT|EXCL 000");
    one.done(&format!("close {dot}"));
    one.done(&format!("lock {fd} w 0 0"));
    one.done(&format!("write {fd} half,"));
    let unlocked = one.done("open third RDWR|CREAT");
    one.done(&format!("write {unlocked} unlocked"));

    let supervisor = only(&daemons(&pair.one.host, false));
    send(supervisor, Signal::STOP);
    send(only(&daemons(&pair.one.host, true)), Signal::KILL);
    let other = two.done("open box RDWR|APPEND");
    two.tell(&format!("lock {other} w 0 0 wait"));
    assert_eq!(
        two.answer(FLOWS_MAX).as_deref(),
        Some("ok"),
        "the lock goes with the session"
    );
    let dot = two.done("open box.lock WRONLY|CREAT|EXCL 000");
    two.done(&format!("close {dot}"));
    two.done(&format!("write {other} whole,"));
    two.done(&format!("fsync {other}"));

    send(supervisor, Signal::CONT);
    // Told at once what it has lost; what it does to clean up succeeds and touches nothing (PROTOCOL 7.5).
    assert_eq!(one.ask(&format!("write {fd} more,")), "error ESTALE");
    assert_eq!(one.ask(&format!("fsync {fd}")), "error ESTALE");
    one.done(&format!("truncate {fd} 4"));
    one.done(&format!("close {fd}"));
    one.done("unlink box.lock");
    assert_eq!(
        one.ask("open box.lock WRONLY|CREAT|EXCL 000"),
        "error EEXIST",
        "the other node's is still there"
    );
    // Nothing else would tell it that these bytes are gone (L1).
    assert_eq!(one.ask(&format!("close {unlocked}")), "error ESTALE");
    // What was clean goes on.
    one.done(&format!("write {clean} new,"));
    one.done(&format!("fsync {clean}"));
    two.done("unlink box.lock");
    two.done(&format!("close {other}"));
    both_hold(&pair, "box", "old,whole,");
    both_hold(&pair, "other", "new,");
    both_hold(&pair, "third", "");
}

/// What an admin sees when all of it is killed, and how the mount comes back.
#[test]
fn without_its_supervisor() {
    if !have("without_its_supervisor", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let mut one = actor(&pair.one);
    let fd = one.done("open box RDWR|CREAT|APPEND");
    one.done(&format!("write {fd} a,"));
    one.done(&format!("fsync {fd}"));
    // The daemon serves on, and ends with the mount as ever.
    kill(only(&daemons(&pair.one.host, false)));
    one.done(&format!("write {fd} b,"));
    one.done(&format!("fsync {fd}"));
    // A second mount there is refused: this one lives.
    let dir = pair.one.spool.to_str().expect("ASCII paths");
    let mount = env!("CARGO_BIN_EXE_mount-mboxfs");
    let again = pair
        .one
        .host
        .command(mount)
        .args(["h1:/gVol0", dir])
        .output()
        .expect("nsenter starts");
    assert_eq!(again.status.code(), Some(32), "{again:?}");
    // Now it is dead, and says so to everybody, until it is mounted again in the ordinary way.
    kill(only(&daemons(&pair.one.host, true)));
    assert_eq!(one.ask("open box RDONLY"), "error ENOTCONN");
    pair.one.mount("h1");
    let fd = one.done("open box RDWR|APPEND");
    one.done(&format!("write {fd} c,"));
    one.done(&format!("fsync {fd}"));
    one.done(&format!("close {fd}"));
    both_hold(&pair, "box", "a,b,c,");
    drop(one);
    // SIGTERM to the supervisor unmounts and ends both.
    send(only(&daemons(&pair.one.host, false)), Signal::TERM);
    wait_for("both end", FLOWS_MAX, || {
        daemons(&pair.one.host, false).is_empty() && daemons(&pair.one.host, true).is_empty()
    });
    assert!(!pair.one.seen("box").exists(), "nothing is mounted any more");
}
