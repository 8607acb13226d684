//! Two servers as an operator sets them up: what one writes the other reads, locks exclude, a brick may die.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod actor;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use common::actor::Actor;
use common::host::Lab;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];

/// What a host does by itself goes on within this when the other one is dead or cut off. The goal is 3 s; a busy machine gets
/// more.
const GOES_ON: Duration = Duration::from_secs(10);

/// Appends one message, as a mailer that keeps to O_APPEND and fsync.
fn append(node: &Node, name: &str, text: &str) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(node.seen(name))
        .expect("the mailbox opens");
    file.write_all(text.as_bytes()).expect("it is written");
    file.sync_all().expect("it is durable");
}

fn both_read(pair: &Pair, name: &str, text: &str) {
    for node in [&pair.one, &pair.two] {
        assert_eq!(
            fs::read_to_string(node.seen(name)).expect("it can be read"),
            text,
            "on {}",
            node.host.name()
        );
    }
}

#[test]
fn the_seeds_commands() {
    if !have("the_seeds_commands", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::formed(&lab);
    assert!(
        pair.one
            .done("peer status")
            .contains("State: Peer in Cluster (Connected)")
    );
    assert!(pair.two.done("peer status").contains("Number of Peers: 1"));
    assert!(pair.two.done("volume info").contains("Volume Name: gVol0"));
    assert!(!pair.one.cli("volume status gVol0").status.success(), "not started yet");
    pair.one.done("volume start gVol0");
    wait_for("both bricks are online", Duration::from_secs(20), || {
        pair.two.cli("volume status gVol0").status.success()
    });
    pair.one.mount("h1");
    pair.two.mount("h2");
    append(&pair.one, "alice", "From a@b  Mon Nov 23 12:00:00 2026\n\nhello\n\n");
    both_read(&pair, "alice", "From a@b  Mon Nov 23 12:00:00 2026\n\nhello\n\n");
    assert!(
        pair.one
            .host
            .run("df", &["-h", pair.one.spool.to_str().expect("ASCII")])
            .contains("h1:/gVol0")
    );
    pair.two.unmount();
    pair.one.unmount();
}

#[test]
fn what_one_writes_the_other_reads_at_once() {
    if !have("what_one_writes_the_other_reads_at_once", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let mut all = String::new();
    for i in 0..20 {
        let text = format!("From a@b  Mon Nov 23 12:00:{i:02} 2026\n\nmessage {i}\n\n");
        append(if i % 2 == 0 { &pair.one } else { &pair.two }, "bob", &text);
        all.push_str(&text);
        let other = if i % 2 == 0 { &pair.two } else { &pair.one };
        let meta = fs::metadata(other.seen("bob")).expect("stat");
        assert_eq!((meta.len(), meta.nlink()), (all.len() as u64, 1), "L3 after {i}");
        both_read(&pair, "bob", &all);
    }
    wait_for("both bricks hold the plain file", Duration::from_secs(5), || {
        [&pair.one, &pair.two]
            .iter()
            .all(|n| fs::read_to_string(n.in_brick("bob")).is_ok_and(|t| t == all))
    });
}

#[test]
fn names_and_attributes() {
    if !have("names_and_attributes", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let (one, two) = (&pair.one, &pair.two);
    fs::create_dir(one.seen("dir")).expect("mkdir");
    fs::write(one.seen("dir/a"), "x").expect("write");
    fs::rename(one.seen("dir/a"), one.seen("dir/b")).expect("rename");
    assert!(!two.seen("dir/a").exists());
    assert_eq!(fs::read(two.seen("dir/b")).expect("read"), b"x");
    fs::hard_link(two.seen("dir/b"), two.seen("dir/c")).expect("link");
    assert_eq!(fs::metadata(one.seen("dir/b")).expect("stat").nlink(), 2);
    std::os::unix::fs::symlink("b", one.seen("dir/l")).expect("symlink");
    assert_eq!(fs::read_link(two.seen("dir/l")).expect("readlink").to_str(), Some("b"));
    let mut names: Vec<_> = fs::read_dir(two.seen("dir"))
        .expect("readdir")
        .map(|e| e.expect("entry").file_name())
        .collect();
    names.sort();
    assert_eq!(names, ["b", "c", "l"]);
    let open = fs::File::open(two.seen("dir/b")).expect("open");
    fs::remove_file(one.seen("dir/b")).expect("unlink");
    fs::remove_file(one.seen("dir/c")).expect("unlink");
    assert_eq!(open.metadata().expect("fstat").nlink(), 0);
    fs::remove_file(one.seen("dir/l")).expect("unlink");
    drop(open);
    fs::remove_dir(two.seen("dir")).expect("rmdir");
    // A dotlock excludes on both nodes and is never a file in a brick (L5, L7).
    let lock = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(one.seen("carol.lock"))
        .expect("dotlock");
    let again = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(two.seen("carol.lock"));
    assert_eq!(again.expect_err("one winner").kind(), std::io::ErrorKind::AlreadyExists);
    assert!(!one.in_brick("carol.lock").exists());
    drop(lock);
    fs::remove_file(one.seen("carol.lock")).expect("unlock");
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(two.seen("carol.lock"))
        .expect("free again");
    fs::remove_file(two.seen("carol.lock")).expect("unlock");
}

/// A spool may hold any number of mailboxes, and an admin lists it. MBOXFS_NAMES sets how many (20000; 100000 take minutes:
/// changes of one directory happen one after the other).
#[test]
fn a_directory_of_many_names() {
    const THREADS: usize = 32;
    /// Hard links to one file (`limits::LINKS_MAX` is 32000).
    const LINKS: usize = 10_000;
    if !have("a_directory_of_many_names", NEEDS) {
        return;
    }
    let count = std::env::var("MBOXFS_NAMES").map_or(20_000, |text| text.parse().expect("MBOXFS_NAMES is a number"));
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let dir = pair.one.seen("many");
    fs::create_dir(&dir).expect("mkdir");
    for file in 0..=count / LINKS {
        fs::write(pair.one.seen(&format!("file{file}")), "").expect("write");
    }
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (dir, one) = (&dir, &pair.one);
            scope.spawn(move || {
                for name in (thread..count).step_by(THREADS) {
                    let file = one.seen(&format!("file{}", name / LINKS));
                    fs::hard_link(file, dir.join(format!("{name:06}"))).expect("link");
                }
            });
        }
    });
    for node in [&pair.one, &pair.two] {
        let mut names: Vec<_> = fs::read_dir(node.seen("many"))
            .expect("readdir")
            .map(|e| e.expect("entry").file_name().into_string().expect("ASCII"))
            .collect();
        names.sort_unstable();
        assert_eq!(names.len(), count, "on {}", node.host.name());
        assert!(names.iter().enumerate().all(|(i, name)| *name == format!("{i:06}")));
    }
}

#[test]
fn a_killed_brick_loses_nothing() {
    if !have("a_killed_brick_loses_nothing", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    let mut all = String::new();
    let mut deliver = |pair: &Pair, n: u32| {
        for i in 0..n {
            let text = format!("From a@b  Mon Nov 23 12:00:00 2026\n\nmessage {} {i}\n\n", all.len());
            append(if i % 2 == 0 { &pair.one } else { &pair.two }, "dave", &text);
            all.push_str(&text);
        }
        all.clone()
    };
    deliver(&pair, 4);
    pair.two.kill();
    deliver(&pair, 6);
    pair.two.start();
    pair.wait_healed();
    let all = deliver(&pair, 4);
    both_read(&pair, "dave", &all);
    wait_for("both bricks hold the same", Duration::from_secs(5), || {
        [&pair.one, &pair.two]
            .iter()
            .all(|n| fs::read_to_string(n.in_brick("dave")).is_ok_and(|t| t == all))
    });
}

/// A host is gone, with all its processes and without a word. Who waited for its locks gets them (L5, L7), once.
#[test]
fn a_dead_host_frees_what_it_held() {
    if !have("a_dead_host_frees_what_it_held", &[NEEDS, &[Need::Python]].concat()) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    append(&pair.one, "erin", "before\n");
    let [mut dies, mut waits, mut other] =
        [&pair.one, &pair.two, &pair.two].map(|node| Actor::new(&node.host, &node.spool));
    let [held, waiting, late] = [&mut dies, &mut waits, &mut other].map(|actor| actor.done("open erin RDWR|APPEND"));
    dies.done(&format!("lock {held} w 0 0"));
    dies.done("open erin.lock WRONLY|CREAT|EXCL");
    waits.tell(&format!("lock {waiting} w 0 0 wait"));
    assert!(waits.answer(Duration::from_millis(200)).is_none(), "L5");
    assert_eq!(other.ask("open erin.lock WRONLY|CREAT|EXCL"), "error EEXIST");
    lab.cut_link();
    pair.one.host.kill_all();
    assert_eq!(waits.answer(GOES_ON).as_deref(), Some("ok"), "L7");
    wait_for("the dotlock is free", GOES_ON, || {
        other.ask("open erin.lock WRONLY|CREAT|EXCL").starts_with("ok")
    });
    assert_eq!(other.ask(&format!("lock {late} w 0 0")), "error EAGAIN", "granted once");
    waits.done(&format!("write {waiting} after"));
    waits.done(&format!("fsync {waiting}"));
    other.done("unlink erin.lock");
    // It boots again.
    lab.restore_link();
    pair.one.kill();
    pair.one
        .host
        .run("umount", &["-l", pair.one.spool.to_str().expect("ASCII")]);
    pair.one.start();
    pair.one.mount("h1");
    pair.wait_whole();
    both_read(&pair, "erin", "before\nafter");
}

/// Both bricks are restarted one after the other, as for an upgrade, and both at once, as by a power cut: who holds a lock
/// holds it, nobody else gets it, and nothing has to be mounted again.
#[test]
fn a_lock_outlives_its_bricks() {
    if !have("a_lock_outlives_its_bricks", &[NEEDS, &[Need::Python]].concat()) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    let [mut holds, mut asks] = [&pair.one, &pair.two].map(|node| Actor::new(&node.host, &node.spool));
    let [held, asked] = [&mut holds, &mut asks].map(|actor| actor.done("open frank RDWR|CREAT|APPEND"));
    holds.done(&format!("lock {held} w 0 0"));
    holds.done("open frank.lock WRONLY|CREAT|EXCL");
    let mut all = String::new();
    for round in ["one", "two", "both"] {
        for first in [true, false] {
            let node = if first { &mut pair.one } else { &mut pair.two };
            let hit = round == "both" || (round == "one") == first;
            if hit {
                node.kill();
            }
        }
        for node in [&mut pair.one, &mut pair.two] {
            if !node.is_running() {
                node.spawn();
            }
        }
        pair.wait_whole();
        assert_eq!(
            asks.ask(&format!("lock {asked} w 0 0")),
            "error EAGAIN",
            "L5 after {round}"
        );
        assert_eq!(
            asks.ask("open frank.lock WRONLY|CREAT|EXCL"),
            "error EEXIST",
            "L5 after {round}"
        );
        holds.done(&format!("write {held} {round},"));
        holds.done(&format!("fsync {held}"));
        all.push_str(&format!("{round},"));
        both_read(&pair, "frank", &all);
    }
    holds.kill();
    wait_for("the lock is free", GOES_ON, || {
        asks.ask(&format!("lock {asked} w 0 0")) == "ok"
    });
    wait_for("the dotlock is free", GOES_ON, || {
        asks.ask("open frank.lock WRONLY|CREAT|EXCL").starts_with("ok")
    });
}

/// `quorum none`: while the link is cut, also if only one way, each side takes mail, and both have all of it when it is
/// there again. What both did to one mailbox: `heal.rs`.
#[test]
fn both_sides_of_a_cut_go_on() {
    if !have("both_sides_of_a_cut_go_on", &[NEEDS, &[Need::Python]].concat()) {
        return;
    }
    for one_way in [true, false] {
        let lab = Lab::new();
        let pair = Pair::start(&lab);
        append(&pair.one, "grace", "before\n");
        both_read(&pair, "grace", "before\n");
        if one_way {
            lab.h1.cut_one_way(&lab.h2);
        } else {
            lab.cut_link();
        }
        let nodes = [&pair.one, &pair.two];
        let mut actors = nodes.map(|node| Actor::new(&node.host, &node.spool));
        for (i, actor) in actors.iter_mut().enumerate() {
            actor.tell(&format!("open side{i} WRONLY|CREAT|APPEND"));
        }
        for (i, actor) in actors.iter_mut().enumerate() {
            let answer = actor.answer(GOES_ON).unwrap_or_else(|| panic!("host {i} stands"));
            let fd = answer
                .strip_prefix("ok ")
                .unwrap_or_else(|| panic!("host {i}: {answer}"));
            actor.done(&format!("write {fd} mail"));
            actor.done(&format!("fsync {fd}"));
        }
        if one_way {
            lab.h1.mend_one_way(&lab.h2);
        } else {
            lab.restore_link();
        }
        pair.wait_whole();
        for name in ["side0", "side1"] {
            both_read(&pair, name, "mail");
        }
        both_read(&pair, "grace", "before\n");
    }
}
