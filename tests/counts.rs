//! What a delivery costs, counted exactly: requests of the kernel, inter-node round trips, device flushes.
//!
//! The delivery is the one of Postfix (local(8), existing mailbox): dotlock, open, fcntl lock, append, fsync, close. Times
//! are not here: they are noise on a shared machine (`benches/delivery.rs`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::time::Duration;

use common::host::Lab;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];

/// One delivery as strace(1) shows local(8) make it.
fn deliver(node: &Node, mailbox: &str) {
    let path = node.seen(mailbox);
    fs::metadata(path.parent().expect("the spool")).expect("stat of the spool");
    fs::metadata(&path).expect("stat of the mailbox");
    deliver_at_once(node, mailbox);
}

/// The same without a look before the dotlock, as virtual(8) makes it.
fn deliver_at_once(node: &Node, mailbox: &str) {
    let path = node.seen(mailbox);
    let lock = node.seen(&format!("{mailbox}.lock"));
    drop(
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&lock)
            .expect("dotlock"),
    );
    let mut file = OpenOptions::new().append(true).open(&path).expect("open");
    file.metadata().expect("fstat");
    fs::symlink_metadata(&path).expect("lstat");
    rustix::fs::fcntl_lock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).expect("fcntl lock");
    file.metadata().expect("fstat");
    file.seek(SeekFrom::End(0)).expect("lseek");
    file.write_all(&[b'x'; 3456]).expect("write");
    file.sync_all().expect("fsync");
    drop(file);
    fs::remove_file(&lock).expect("the dotlock goes");
}

/// Requests of the kernel to this node's mount so far, by kind.
fn requests(node: &Node) -> BTreeMap<String, u64> {
    let spool = File::open(node.seen("")).expect("the spool opens");
    let mut text = vec![0; 4096];
    let len = rustix::fs::fgetxattr(&spool, "user.mboxfs.requests", &mut text[..]).expect("the mount counts");
    let lines = String::from_utf8(text[..len].to_vec()).expect("ASCII");
    let pair = |line: &str| {
        line.split_once(' ')
            .map(|(k, n)| (k.to_owned(), n.parse().expect("a number")))
    };
    lines.lines().filter_map(pair).collect()
}

fn forgets(node: &Node) -> u64 {
    requests(node).get("forget").copied().unwrap_or(0)
}

/// The kernel waits for no answer to a FORGET: the last one may be on its way when a delivery is through.
fn wait_forgotten(node: &Node, count: u64) {
    wait_for("the dotlock is forgotten", Duration::from_secs(10), || {
        forgets(node) >= count
    });
}

/// What both bricks say of themselves: round trips that somebody waited for, flushes of the log, mounts attached.
#[derive(Clone, Copy)]
struct Told {
    trips: u64,
    flushes: [u64; 2],
    mounts: [u64; 2],
}

fn told(pair: &Pair) -> Told {
    let text = pair.one.done("volume status gVol0 --json");
    let status: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let both = |what: &str| {
        [0, 1].map(|brick| {
            let number = status["volumes"][0]["bricks"][brick][what].as_u64();
            number.unwrap_or_else(|| panic!("no {what} of brick {brick} in {text}"))
        })
    };
    Told {
        trips: both("round_trips").iter().sum(),
        flushes: both("flushes"),
        mounts: both("mounts"),
    }
}

/// A volume with one mailbox, each mount attached to the brick on its own host.
fn pair(lab: &Lab) -> Pair {
    let pair = Pair::start(lab);
    wait_for("each mount is at its own brick", Duration::from_secs(30), || {
        told(&pair).mounts == [1, 1]
    });
    fs::write(pair.one.seen("bob"), "From a@b  Mon Nov 23 12:00:00 2026\n\n\n").expect("a mailbox");
    pair
}

/// MAIL.md 2.4 counts 15 with attributes and names kept for ever; the three looks at the mailbox's name are ours (names are
/// never kept, `client::told`). The attributes are the spool's: a change of names in it makes the kernel forget them.
const REQUESTS: [(&str, u64); 10] = [
    ("create", 1),
    ("flush", 1),
    ("forget", 1),
    ("fsync", 1),
    ("getattr", 2),
    ("open", 1),
    ("release", 2),
    ("setlk", 1),
    ("unlink", 1),
    ("write", 1),
];

/// Names that are looked up: three times the mailbox, the dotlock before it is made, and before it goes unless that is
/// at once.
const LOOKUPS: std::ops::RangeInclusive<u64> = 4..=5;

/// The `n` deliveries of `deliver` cost, each: these round trips at most, one flush of each log; requests of the mount.
fn cost(pair: &Pair, node: &Node, n: u64, deliver: impl Fn()) -> (u64, BTreeMap<String, u64>) {
    let start = told(pair);
    let before = requests(node);
    for _ in 0..n {
        deliver();
    }
    let mut asked = requests(node);
    let end = told(pair);
    asked.retain(|kind, n| {
        *n -= before.get(kind).unwrap_or(&0);
        *n > 0 && !kind.ends_with("dir") // of the one who asks for the counts
    });
    assert_eq!(
        [0, 1].map(|i| end.flushes[i] - start.flushes[i]),
        [n, n],
        "flushes of {n} deliveries"
    );
    (end.trips - start.trips, asked)
}

#[test]
fn a_delivery_where_the_mailbox_was_used_last() {
    if !have("a_delivery_where_the_mailbox_was_used_last", NEEDS) {
        return;
    }
    const N: u64 = 10;
    let lab = Lab::new();
    let pair = pair(&lab);
    for node in [&pair.one, &pair.two] {
        let before = forgets(node);
        deliver(node, "bob"); // brings the lease here
        wait_forgotten(node, before + 1);
        let left = std::cell::Cell::new(N);
        let (trips, mut asked) = cost(&pair, node, N, || {
            deliver(node, "bob");
            left.set(left.get() - 1);
            if left.get() == 0 {
                wait_forgotten(node, before + 1 + N);
            }
        });
        let host = node.host.name();
        assert_eq!(trips, N, "round trips for {N} deliveries on {host}");
        let lookups = asked.remove("lookup").expect("names are looked up");
        assert!(
            (N * LOOKUPS.start()..=N * LOOKUPS.end()).contains(&lookups),
            "{lookups} lookups for {N} deliveries on {host}"
        );
        let wanted = REQUESTS.map(|(kind, n)| (kind.to_owned(), n * N));
        assert_eq!(asked, BTreeMap::from(wanted), "requests for {N} deliveries on {host}");
    }
}

#[test]
fn a_delivery_where_the_other_node_used_the_mailbox_last() {
    if !have("a_delivery_where_the_other_node_used_the_mailbox_last", NEEDS) {
        return;
    }
    const N: u64 = 10;
    let lab = Lab::new();
    let pair = pair(&lab);
    let turn = std::cell::Cell::new(false);
    let mailers: [(&str, fn(&Node, &str)); 2] = [("local(8)", deliver), ("virtual(8)", deliver_at_once)];
    for (mailer, deliver) in mailers {
        let (trips, _) = cost(&pair, &pair.one, N, || {
            let node = if turn.replace(!turn.get()) {
                &pair.two
            } else {
                &pair.one
            };
            deliver(node, "bob");
        });
        assert_eq!(
            trips,
            2 * N,
            "Y5, Y6: round trips for {N} deliveries of {mailer} that took turns"
        );
    }
}
