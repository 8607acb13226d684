//! Bytes that rot on a brick's disk: no reader ever sees them, they are repaired from the other brick, and the operator is
//! told (L9, L12). Rot is made behind the daemon's back: through the brick's directory, and below its file system.
//!
//! Not here: crashes in between (`crates/store/tests/rot.rs`).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod actor;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod mail;
    pub(crate) mod mail_conf;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use common::host::Lab;
use common::letters::Letters;
use common::mail::MailServer;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;
use mboxfs_mbox::scan::Scan;
use serde_json::Value;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];
const ESTALE: i32 = 116;
/// A busy machine.
const SOON: Duration = Duration::from_secs(60);

/// Four blocks of mail.
fn mailbox(seed: u64) -> Vec<u8> {
    let mut text = String::new();
    for n in 0.. {
        text += &format!(
            "From a@b.c Mon Jan  5 10:00:00 2026\nMessage-ID: <{seed}.{n}@x>\n\n{}\n\n",
            "body ".repeat(199)
        );
        if text.len() > 200_000 {
            return text.into_bytes();
        }
    }
    unreachable!("it grows");
}

/// Changes one byte in place.
fn flip(file: &Path, at: u64) {
    let file = fs::File::options()
        .read(true)
        .write(true)
        .open(file)
        .expect("a file of the brick");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("it is there");
    file.write_all_at(&[byte[0] ^ 0x20], at).expect("root may");
}

fn deliver(node: &Node, name: &str, content: &[u8]) {
    let mut file = fs::File::create(node.seen(name)).expect("it is made");
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .expect("it is written");
}

/// What `heal status` says of the brick of this host.
fn scrub_of(node: &Node) -> Value {
    let text = String::from_utf8(node.cli("--json heal status").stdout).expect("UTF-8");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let bricks = all["volumes"][0]["bricks"].as_array().expect("two bricks").clone();
    let mut own = bricks.into_iter().filter(|brick| brick["here"] == true);
    own.next().expect("one is here")["scrub"].take()
}

fn repaired(node: &Node) -> u64 {
    scrub_of(node)["blocks_repaired"].as_u64().expect("a number")
}

/// What was acknowledged is in the files of both bricks, too: they write them a moment later.
fn wait_written(pair: &Pair, name: &str, content: &[u8]) {
    for node in [&pair.one, &pair.two] {
        wait_for(&format!("{}: {name} is in the brick", node.host.name()), SOON, || {
            fs::read(node.in_brick(name)).is_ok_and(|held| held == content)
        });
    }
}

fn is_as_written(pair: &Pair, name: &str, content: &[u8]) {
    for node in [&pair.one, &pair.two] {
        assert!(
            fs::read(node.in_brick(name)).expect("a file of the brick") == content,
            "{}: {name}",
            node.host.name()
        );
    }
}

/// Whoever reads gets the right bytes, on either host, and the brick has them again, in the same inode.
#[test]
fn rot_is_repaired_before_it_is_read() {
    if !have("rot_is_repaired_before_it_is_read", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let boxes = ["running", "stopped", "below", "cut"].map(|name| (name, mailbox(name.len() as u64)));
    for (name, content) in &boxes {
        deliver(&pair.one, name, content);
    }
    pair.wait_whole();
    pair.wait_at_home();
    for (name, content) in &boxes {
        wait_written(&pair, name, content);
    }
    let [(running, first), (stopped, second), (below, third), (cut, fourth)] = &boxes;
    // The time as mail programs see it: the test itself moves that of the brick's file.
    let inode = || {
        let there = fs::metadata(pair.two.in_brick(running)).expect("it is there");
        let seen = fs::metadata(pair.two.seen(running)).expect("it is there");
        (there.ino(), seen.mtime())
    };
    let before = inode();
    for at in [3, 70_000, 200_000] {
        flip(&pair.two.in_brick(running), at);
    }
    let read = pair
        .two
        .host
        .run("cat", &[pair.two.spool.join(running).to_str().expect("ASCII")]);
    assert!(read.as_bytes() == first, "the right bytes");
    assert_eq!(inode(), before, "L10");
    is_as_written(&pair, running, first);
    assert_eq!((repaired(&pair.two), repaired(&pair.one)), (3, 0));
    let said = pair.two.said();
    assert!(
        said.contains("ERROR /running: bytes 0-65535") && said.contains("do not hold what was written"),
        "{said}"
    );
    assert!(said.contains("/running: bytes 0-65535 repaired"), "{said}");

    // Below the file system, and the kernel has forgotten what it read.
    flip_below(&pair.two, below, 100_000);
    assert!(fs::read(pair.two.in_brick(below)).expect("it is there") != *third);
    assert!(fs::read(pair.two.seen(below)).expect("never an error") == *third);
    is_as_written(&pair, below, third);

    // Somebody edits mailboxes while brickd is stopped: the daemon's word counts.
    pair.two.stop();
    flip(&pair.two.in_brick(stopped), 131_080);
    let file = fs::File::options()
        .write(true)
        .open(pair.two.in_brick(cut))
        .expect("it is there");
    file.set_len(150_000).expect("root may");
    pair.two.start();
    pair.wait_whole();
    pair.wait_at_home();
    assert!(fs::read(pair.two.seen(stopped)).expect("never an error") == *second);
    assert!(fs::read(pair.two.seen(cut)).expect("never an error") == *fourth);
    is_as_written(&pair, stopped, second);
    is_as_written(&pair, cut, fourth);
    pair.wait_whole();
}

/// Flips a byte on the device and lets the kernel forget the file.
fn flip_below(node: &Node, name: &str, at: u64) {
    const WHERE: &str = "import fcntl, os, struct, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.fsync(fd)
print(struct.unpack('i', fcntl.ioctl(fd, 1, struct.pack('i', int(sys.argv[2]) // 4096)))[0])";
    const FORGET: &str = "import os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)";
    let file = node.brick.join(name);
    let file = file.to_str().expect("ASCII");
    let block = node.host.run("python3", &["-c", WHERE, file, &at.to_string()]);
    let block: u64 = block.trim().parse().expect("FIBMAP gives a number");
    let image = node.host.dir().join("brick.img");
    let mut image = fs::File::options()
        .read(true)
        .write(true)
        .open(image)
        .expect("the image");
    let place = block * 4096 + at % 4096;
    let mut byte = [0];
    image
        .seek(SeekFrom::Start(place))
        .and_then(|_| image.read_exact(&mut byte))
        .expect("it is there");
    image
        .seek(SeekFrom::Start(place))
        .and_then(|_| image.write_all(&[byte[0] ^ 0x20]))
        .expect("root may");
    node.host.run("python3", &["-c", FORGET, file]);
}

/// The only good copy is away: a temporary error, never wrong bytes, and everything else goes on.
#[test]
fn without_the_good_copy_the_reader_is_told_to_come_back() {
    if !have("without_the_good_copy_the_reader_is_told_to_come_back", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let (content, other) = (mailbox(1), mailbox(2));
    deliver(&pair.one, "bad", &content);
    deliver(&pair.one, "good", &other);
    pair.wait_whole();
    wait_written(&pair, "bad", &content);
    pair.one.kill();
    flip(&pair.two.in_brick("bad"), 70_000);
    let error = fs::read(pair.two.seen("bad")).expect_err("never wrong bytes");
    assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
    let damaged = &scrub_of(&pair.two)["damaged"][0];
    assert_eq!((&damaged["path"], &damaged["blocks"]), (&"/bad".into(), &1.into()));
    let status = pair.two.cli("heal status");
    assert!(String::from_utf8_lossy(&status.stdout).contains("Damaged: /bad: 1 blocks"));
    assert_eq!(status.status.code(), Some(1));
    assert!(fs::read(pair.two.seen("good")).expect("it is good") == other);
    // Mail still comes in, also there.
    let mut all = content.clone();
    for name in ["bad", "good"] {
        let mut file = fs::File::options()
            .append(true)
            .open(pair.two.seen(name))
            .expect("it is there");
        file.write_all(b"From x\n\nnew\n\n")
            .and_then(|()| file.sync_all())
            .expect("it is delivered");
    }
    all.extend_from_slice(b"From x\n\nnew\n\n");
    // A restart does not make it forget, and the peer's return mends it without a reader.
    pair.two.kill();
    pair.two.start();
    pair.one.start();
    pair.wait_whole();
    assert_eq!(scrub_of(&pair.two)["damaged"].as_array().map(Vec::len), Some(0));
    assert!(fs::read(pair.two.seen("bad")).expect("it is good again") == all);
    wait_written(&pair, "bad", &all);
}

/// Damages the record of the log that wrote these words.
fn damage_log(node: &Node, words: &str) {
    let dir = fs::read_dir(node.in_brick(".mboxfs/log")).expect("the brick has a log");
    for file in dir.map(|entry| entry.expect("an entry").path()) {
        let bytes = fs::read(&file).expect("root may");
        if let Some(at) = bytes.windows(words.len()).position(|w| w == words.as_bytes()) {
            return flip(&file, at as u64);
        }
    }
    panic!("the words are in the log");
}

/// A record of the log rots on the brick that is alone, among those that its peer lacks: the peer gets files when it is back, mail
/// goes on, and the operator is told.
#[test]
fn rot_in_the_log_of_a_survivor_costs_its_peer_no_mail() {
    if !have("rot_in_the_log_of_a_survivor_costs_its_peer_no_mail", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let mut letters = Letters::new(pair.one.host.dir(), &[("fcntl", "fcntl"), ("link", "link")], 47);
    letters.later = true;
    letters.writers(&pair, 1);
    letters.wait_more(20, SOON);
    pair.two.kill();
    letters.wait_more(20, SOON);
    let content = b"From a@b.c Mon Jan  5 10:00:00 2026\n\nThis is in a record that rots.\n\n";
    deliver(&pair.one, "alone", content);
    letters.wait_more(20, SOON);
    damage_log(&pair.one, "in a record that rots");
    pair.two.start();
    pair.wait_whole();
    letters.wait_more(20, SOON);
    letters.stop();
    letters.audit(&pair);
    pair.bricks_are_equal();
    is_as_written(&pair, "alone", content);
    assert!(pair.one.is_running(), "it has never ended");
    let said = pair.one.said();
    assert_eq!(
        said.matches("of the log is damaged: the disk is failing").count(),
        1,
        "{said}"
    );
    assert!(
        pair.two.said().contains("has the files of its peer"),
        "{}",
        pair.two.said()
    );
    // A start needs nothing of what rotted.
    pair.one.kill();
    pair.one.start();
    pair.wait_whole();
}

/// Under `quorum both` a record rots that the next start of its brick would have to execute: the start is refused. The peer, which
/// has all that was acknowledged, is told to go on, and fills the brick's directory anew; mail flows meanwhile.
#[test]
fn a_brick_that_its_own_log_refuses_is_filled_by_its_peer() {
    if !have("a_brick_that_its_own_log_refuses_is_filled_by_its_peer", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    pair.one.done("volume set gVol0 quorum both");
    for node in [&pair.one, &pair.two] {
        wait_for("the policy is in force on both", SOON, || {
            node.done("volume get gVol0 quorum").contains("both")
        });
    }
    let content = b"From a@b.c Mon Jan  5 10:00:00 2026\n\nThis is in a record that rots.\n\n";
    for name in ["before", "rots", "after"] {
        deliver(&pair.two, name, content);
        wait_written(&pair, name, content);
    }
    pair.two.kill();
    damage_log(&pair.two, "in a record that rots");
    pair.two.spawn();
    assert_eq!(pair.two.exit_code(), Some(1), "its start is refused");
    let said = pair.two.said();
    assert!(said.contains("the disk has lost acknowledged data"), "{said}");
    assert!(said.contains("mboxfs volume reset-brick"), "it says what to do: {said}");

    // What is said leads on, from one command to the next.
    let path = pair.two.brick.to_str().expect("ASCII paths").to_owned();
    let reset = format!("volume reset-brick gVol0 h2:{path} h2:{path} commit force");
    let refused = pair.one.cli(&reset);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{complaint}");
    assert!(complaint.contains("mboxfs volume status gVol0"), "{complaint}");
    let status = pair.one.cli("volume status gVol0");
    let status = String::from_utf8_lossy(&status.stdout);
    assert!(status.contains("mboxfs volume force-solo gVol0"), "{status}");
    pair.one.done("--yes volume force-solo gVol0");
    deliver(&pair.one, "alone", content);
    pair.two.empty_disk();
    pair.two.start();
    pair.one.done(&reset);
    pair.wait_whole();
    deliver(&pair.two, "together", content);
    for name in ["before", "rots", "after", "alone", "together"] {
        wait_written(&pair, name, content);
    }
    pair.bricks_are_equal();
    assert!(
        pair.one.done("volume get gVol0 quorum").contains("both"),
        "it is the policy still"
    );
}

/// Nobody reads: the scrub finds it, on both bricks, while mail flows; and what is bad on both is named, its other parts served.
#[test]
fn a_scrub_finds_what_nobody_reads() {
    if !have("a_scrub_finds_what_nobody_reads", NEEDS) {
        return;
    }
    let pair = Pair::start(&Lab::new());
    let content = mailbox(1);
    for name in ["a", "b"] {
        deliver(&pair.one, name, &content);
    }
    let mut letters = Letters::new(pair.one.host.dir(), &[("fcntl", "fcntl"), ("link", "link")], 43);
    letters.writers(&pair, 1);
    letters.wait_more(20, SOON);
    for name in ["a", "b"] {
        wait_written(&pair, name, &content);
    }
    wait_for("mail is in the file", SOON, || {
        fs::metadata(pair.two.in_brick("fcntl")).is_ok_and(|file| file.len() > 20)
    });
    flip(&pair.one.in_brick("a"), 10);
    flip(&pair.two.in_brick("b"), 140_000);
    flip(&pair.two.in_brick("fcntl"), 20); // mail comes into it
    let done = pair.one.done("volume scrub gVol0 start");
    assert_eq!(done, "volume scrub: gVol0: success\n");
    wait_for("the scrub ends on both", SOON, || {
        [&pair.one, &pair.two]
            .iter()
            .all(|node| scrub_of(node)["last_completed"].is_number())
    });
    wait_for("all is repaired", SOON, || {
        pair.one.cli("volume scrub gVol0 status").status.success()
    });
    assert_eq!((repaired(&pair.one), repaired(&pair.two)), (1, 2));
    is_as_written(&pair, "a", &content);
    is_as_written(&pair, "b", &content);
    letters.wait_more(20, SOON);
    letters.stop();
    letters.audit(&pair);

    // A file that is no mailbox: what is bad on both is named, its other parts are served.
    let other = vec![b'x'; 200_000];
    deliver(&pair.one, "c", &other);
    pair.wait_whole();
    pair.wait_at_home(); // each brick is to find out by itself
    wait_written(&pair, "c", &other);
    for node in [&pair.one, &pair.two] {
        flip(&node.in_brick("c"), 70_000);
    }
    for node in [&pair.one, &pair.two] {
        let error = fs::read(node.seen("c")).expect_err("never wrong bytes");
        assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
        let file = fs::File::open(node.seen("c")).expect("it is there");
        let mut rest = vec![0; 60_000];
        file.read_exact_at(&mut rest, 131_072).expect("that part is good");
        assert!(rest == other[131_072..191_072]);
    }
    let status = pair.one.cli("volume scrub gVol0 status");
    let text = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(
        text.contains("Damaged: /c: 1 blocks of 64 KiB, 1 of them on both bricks"),
        "{text}"
    );
    assert_eq!(status.status.code(), Some(1));
    assert!(pair.two.said().contains("bad on both bricks"));
    wait_for("the operator is told what to do", SOON, || {
        let said = pair.one.said() + &pair.two.said();
        said.contains("/c is damaged on both bricks and stays as it is: it is no mailbox")
    });
    pair.one.done("volume scrub gVol0 pause");
    assert!(
        pair.two
            .cli("volume scrub gVol0 status")
            .stdout
            .windows(6)
            .any(|w| w == b"Paused")
    );
    assert_eq!(pair.two.cli("volume scrub gVol0 pause").status.code(), Some(1));
    pair.two.done("volume scrub gVol0 resume");
}

/// Changes some bytes behind these words of a mailbox.
fn damage(node: &Node, name: &str, words: &str, with: u8) {
    let file = node.in_brick(name);
    let bytes = fs::read(&file).expect("a file of the brick");
    let at = bytes.windows(words.len()).position(|w| w == words.as_bytes());
    let at = at.expect("the words are there") + words.len();
    let file = fs::File::options().write(true).open(file).expect("root may");
    let damaged: Vec<u8> = bytes[at..at + 9].iter().map(|byte| byte ^ with).collect();
    file.write_all_at(&damaged, at as u64).expect("root may");
}

/// Ends both. No log writes again what was written before: each brick has ended once while both worked together, and no
/// checkpoint was under way.
fn stop(pair: &mut Pair) {
    pair.two.stop();
    pair.two.start();
    pair.wait_at_home();
    pair.one.stop();
    pair.two.stop();
}

fn start(pair: &mut Pair) {
    pair.one.start();
    pair.two.start();
    pair.wait_at_home();
}

/// Message-ID and X-UID of each message.
fn numbers(mailbox: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(mailbox).into_owned();
    let value = |mail: &str, name: &str| {
        let mut lines = mail.lines();
        let line = lines.find_map(|line| line.strip_prefix(name));
        line.map(|value| value.trim().to_owned()).unwrap_or_default()
    };
    Scan::new(mailbox)
        .map(|span| &text[span.from_offset as usize..span.end as usize])
        .map(|mail| (value(mail, "Message-ID:"), value(mail, "X-UID:")))
        .collect()
}

/// Files that the volume keeps of damaged messages, as one brick has them.
fn kept(node: &Node) -> Vec<(String, Vec<u8>)> {
    let dir = fs::read_dir(node.in_brick(".mboxfs-conflict"));
    let mut all: Vec<_> = dir
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| {
            let name = entry.file_name().into_string().expect("ASCII");
            (name, fs::read(entry.path()).expect("a file of the brick"))
        })
        .collect();
    all.sort();
    all
}

/// The whole mailbox is one block. One message of it is damaged on both bricks, in one place: that one is taken out, all
/// others are served, on both hosts, with the UIDs that they had; and the operator hears of it until he has dealt with it.
#[test]
fn a_message_that_is_damaged_on_both_bricks_costs_no_other() {
    const USER: &str = "u01";
    let needs = [NEEDS, &[Need::Mailers]].concat();
    if !have("a_message_that_is_damaged_on_both_bricks_costs_no_other", &needs) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    let servers = MailServer::start_both(&lab, &[pair.one.spool.clone(), pair.two.spool.clone()]);
    for n in 0..10 {
        let lines = "many words on many lines\n".repeat(40);
        let text = format!("{lines}This is {n}: some words\n{lines}");
        let letter = format!("From: a@b\nMessage-ID: <{n}@test>\nSubject: {n}\n\n{text}");
        servers[n % 2].lda_deliver(USER, &letter);
    }
    let before = servers[0].imap_read(USER);
    assert_eq!((before.len(), servers[1].imap_read(USER) == before), (10, true));
    pair.wait_whole();
    let inode = fs::metadata(pair.one.in_brick(USER)).expect("it is there").ino();
    stop(&mut pair);
    let good = fs::read(pair.one.in_brick(USER)).expect("a file of the brick");
    assert!(good.len() < 65_536, "one block");
    // In different places: both copies together make a good one.
    damage(&pair.one, USER, "This is 2: ", 0x13);
    damage(&pair.two, USER, "This is 7: ", 0x14);
    start(&mut pair);
    for node in [&pair.one, &pair.two] {
        wait_for("two damaged copies are a good one", SOON, || {
            fs::read(node.seen(USER)).is_ok_and(|bytes| bytes == good)
        });
    }
    pair.wait_whole();
    is_as_written(&pair, USER, &good);
    assert_eq!(
        (kept(&pair.one).len(), repaired(&pair.one), repaired(&pair.two)),
        (0, 1, 1)
    );
    // In one place.
    stop(&mut pair);
    damage(&pair.one, USER, "This is 4: ", 0x11);
    damage(&pair.two, USER, "This is 4: ", 0x12);
    let damaged = [&pair.one, &pair.two].map(|node| fs::read(node.in_brick(USER)).expect("a file of the brick"));
    start(&mut pair);

    let left = [0, 1, 2, 3, 5, 6, 7, 8, 9];
    let is_left = |text: &&String| {
        left.iter()
            .any(|n| text.contains(&format!("This is {n}: some words\n")))
    };
    for node in [&pair.one, &pair.two] {
        wait_for("the mailbox is served", SOON, || match fs::read(node.seen(USER)) {
            Ok(bytes) => {
                let texts: Vec<String> = Scan::new(&bytes)
                    .map(|span| String::from_utf8_lossy(span.raw(&bytes)).into_owned())
                    .collect();
                let wrong = texts.iter().find(|text| !is_left(text));
                assert_eq!(wrong, None, "nothing wrong is ever served");
                true
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
                false
            }
        });
    }
    let expected: Vec<String> = before.iter().filter(is_left).cloned().collect();
    assert_eq!(expected.len(), left.len());
    for server in &servers {
        assert_eq!(server.imap_read(USER), expected);
    }
    // No UID names another message than before.
    let old = numbers(&good);
    let now = numbers(&fs::read(pair.two.in_brick(USER)).expect("a file of the brick"));
    assert_eq!(now.len(), left.len());
    assert!(now.iter().all(|one| old.contains(one)), "{old:?} {now:?}");
    assert_eq!(
        fs::metadata(pair.one.in_brick(USER)).expect("it is there").ino(),
        inode,
        "L10"
    );

    // What is left of it, as each brick had it.
    let [ours, theirs] = [kept(&pair.one), kept(&pair.two)];
    assert_eq!((ours.len(), ours == theirs), (2, true), "{ours:?}");
    for ((name, bytes), (brick, damaged)) in ours.iter().zip([("Brick1", &damaged[0]), ("Brick2", &damaged[1])]) {
        assert!(name.starts_with("u01.damaged-1.") && name.ends_with(brick), "{name}");
        let spans: Vec<_> = Scan::new(damaged).collect();
        assert!(bytes == spans[4].raw(damaged), "{name}");
    }

    let said = pair.one.said() + &pair.two.said();
    let loud = said
        .lines()
        .filter(|line| line.contains("ERROR /u01: 1 messages were damaged on both bricks"));
    assert_eq!(loud.count(), 1, "{said}");
    // Loud, also after a restart, until somebody has dealt with it. Mail goes on.
    pair.two.kill();
    pair.two.start();
    pair.wait_at_home();
    for node in [&pair.one, &pair.two] {
        let status = node.cli("heal status");
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert_eq!(status.status.code(), Some(1), "{text}");
        assert!(text.contains("Quarantined: /u01: 1 damaged messages"), "{text}");
        assert!(text.contains(".mboxfs-conflict/u01.damaged-1."), "{text}");
        assert_eq!(node.cli("volume status gVol0").status.code(), Some(1));
        let told = &scrub_of(node)["quarantined"][0];
        assert_eq!((&told["path"], &told["messages"]), (&"/u01".into(), &1.into()));
        let log = node.done("log u01");
        let places: Vec<String> = ours
            .iter()
            .map(|(name, _)| format!("/.mboxfs-conflict/{name}"))
            .collect();
        let line = format!(" (damage) 1 damaged message was put to {}", places.join(" and "));
        assert_eq!(log.lines().filter(|l| l.ends_with(&line)).count(), 1, "{log}");
    }
    servers[1].lda_deliver(USER, "From: a@b\nMessage-ID: <new@test>\nSubject: new\n\nThis is new\n");
    for server in &servers {
        let all = server.imap_read(USER);
        assert_eq!(all[..left.len()], expected);
        assert!(all.len() == left.len() + 1 && all[left.len()].contains("This is new"));
    }
    for (name, _) in ours {
        fs::remove_file(pair.two.seen(&format!(".mboxfs-conflict/{name}"))).expect("root may");
    }
    pair.wait_whole();

    // The first message tells the UIDVALIDITY: the next one does now. And if the bytes are the same wrong ones on both bricks
    // it can be told where they are.
    for (words, with, at) in [("This is 0: ", [0x11, 0x12], 0), ("This is 6: ", [0x11, 0x11], 4)] {
        let mut before = servers[0].imap_read(USER);
        let mut old = numbers(&fs::read(pair.one.seen(USER)).expect("it is good"));
        let count = kept(&pair.one).len();
        stop(&mut pair);
        damage(&pair.one, USER, words, with[0]);
        damage(&pair.two, USER, words, with[1]);
        start(&mut pair);
        wait_for("the mailbox is served", SOON, || {
            fs::read(pair.two.seen(USER)).is_ok_and(|bytes| bytes.starts_with(b"From "))
        });
        assert!(before.remove(at).contains(words));
        for server in &servers {
            assert_eq!(server.imap_read(USER), before);
        }
        let bytes = fs::read(pair.one.seen(USER)).expect("it is good");
        old.remove(at);
        assert_eq!(numbers(&bytes), old, "no UID is another one's");
        assert!(base(&bytes).is_some() && base(&bytes) == base(&good), "the UIDVALIDITY");
        let files = if with[0] == with[1] { 1 } else { 2 };
        assert_eq!(kept(&pair.one).len(), count + files);
    }
}

/// The UIDVALIDITY of a mailbox.
fn base(mailbox: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(mailbox).into_owned();
    let line = text.lines().find_map(|line| line.strip_prefix("X-IMAPbase: "));
    line.and_then(|base| base.split(' ').next()).map(str::to_owned)
}

/// Both bricks are killed while much is being written for it.
#[test]
fn killed_in_the_midst_it_is_done_once() {
    if !have("killed_in_the_midst_it_is_done_once", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let mut content = Vec::new();
    for seed in 0..300 {
        content.extend(mailbox(seed)); // 60 MB
    }
    deliver(&pair.one, "erin", &content);
    pair.wait_whole();
    // So much was written that a checkpoint may be under way. Who is stopped then executes the rest again when it starts, and
    // puts right what is damaged meanwhile. The second stop finds nothing under way.
    stop(&mut pair);
    start(&mut pair);
    stop(&mut pair);
    for (node, with) in [(&pair.one, 0x11), (&pair.two, 0x12)] {
        damage(node, "erin", "<0.3@x>\n\n", with);
    }
    start(&mut pair);
    let read = fs::read(pair.one.seen("erin"));
    let error = read.map(|bytes| bytes.len()).expect_err("never wrong bytes");
    assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
    wait_for("it has begun", SOON, || kept(&pair.one).len() == 2);
    assert_eq!(
        fs::metadata(pair.one.in_brick("erin")).expect("it is there").len(),
        content.len() as u64
    );
    pair.one.kill();
    pair.two.kill();
    start(&mut pair);
    let spans: Vec<_> = Scan::new(&content).take(5).collect();
    let gone = spans[3].raw(&content);
    let left = [
        &content[..spans[3].from_offset as usize],
        &content[spans[3].end as usize..],
    ]
    .concat();
    for node in [&pair.one, &pair.two] {
        wait_for("the mailbox is served", SOON, || match fs::read(node.seen("erin")) {
            Ok(bytes) => {
                assert!(bytes == left, "nothing wrong is ever served");
                true
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
                false
            }
        });
        let all = kept(node);
        assert_eq!(all.len(), 2);
        assert!(all.iter().all(|(_, bytes)| bytes.len() == gone.len() && bytes != gone));
    }
    is_as_written(&pair, "erin", &left);
}

/// The same bytes are wrong on both bricks: what is in the sector goes, and if it cannot be told which all of the block.
#[test]
fn what_is_damaged_alike_on_both_bricks_costs_a_sector_or_a_block() {
    if !have("what_is_damaged_alike_on_both_bricks_costs_a_sector_or_a_block", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let content = mailbox(3);
    for name in ["dora", "emil"] {
        deliver(&pair.one, name, &content);
        // Nothing of it is to be written again later: that would repair it.
        assert!(fs::read(pair.two.seen(name)).expect("it is read") == content);
    }
    pair.wait_whole();
    stop(&mut pair);
    for (name, at) in [("dora", 70_000), ("emil", 70_000), ("emil", 90_000)] {
        for node in [&pair.one, &pair.two] {
            let file = fs::File::options().write(true).open(node.in_brick(name));
            let file = file.expect("root may");
            file.write_all_at(b"who wrote this?", at).expect("root may");
        }
    }
    start(&mut pair);
    for (name, from, to) in [("dora", 69_632, 70_144), ("emil", 65_536, 131_072)] {
        let in_doubt = |span: &mboxfs_mbox::scan::Span| span.from_offset < to && span.end > from;
        let (gone, left): (Vec<_>, Vec<_>) = Scan::new(&content).partition(in_doubt);
        let left: Vec<u8> = left.iter().flat_map(|span| span.raw(&content).to_vec()).collect();
        for node in [&pair.one, &pair.two] {
            wait_for("the rest of the mailbox is served", SOON, || {
                match fs::read(node.seen(name)) {
                    Ok(bytes) => {
                        assert!(bytes == left, "{name}: nothing wrong is ever served");
                        true
                    }
                    Err(error) => {
                        assert_eq!(error.raw_os_error(), Some(ESTALE), "{error}");
                        false
                    }
                }
            });
            let mut all = kept(node);
            all.retain(|(kept, _)| kept.starts_with(name));
            assert_eq!(all.len(), 1);
            let (kept, bytes) = &all[0];
            assert!(kept.starts_with(&format!("{name}.damaged-{}.", gone.len())), "{kept}");
            assert!(kept.ends_with(".Bricks"), "{kept}");
            assert_eq!(
                bytes.len(),
                gone.iter().map(|span| span.raw(&content).len()).sum::<usize>()
            );
            assert!(bytes.windows(15).any(|w| w == b"who wrote this?"));
        }
        is_as_written(&pair, name, &left);
    }
}
