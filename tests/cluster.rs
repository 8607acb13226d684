//! Two servers as an operator sets them up: what one writes the other reads, locks exclude, a brick may die.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
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

use common::host::Lab;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];

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
