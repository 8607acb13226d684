//! A brick that missed more than its peer's log keeps, or has a new disk, gets files first, while mail flows; then both
//! bricks are the same, byte for byte, attributes and extended attributes included (I27, I29, L10).

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs::{self, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::time::Duration;

use common::host::Lab;
use common::letters::Letters;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;
use serde_json::Value;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];
/// Writers get on, also through an outage of every brick.
const FLOWS_MAX: Duration = Duration::from_secs(90);
/// Until a heal begins, or a brick is in step, on a machine that does other things too.
const HEAL_MAX: Duration = Duration::from_secs(60);
const KEPT_LOG: u32 = 200_000;

/// Everything that a brick shows to users, as Python sees it: attributes, content, extended attributes.
const LIST: &str = r"
import hashlib, os, stat, sys
root = sys.argv[1]
for path, dirs, files in os.walk(root):
    if path == root:
        dirs[:] = [d for d in dirs if d not in ('.mboxfs', 'lost+found')]
    dirs.sort()
    for name in sorted(dirs + files):
        p = os.path.join(path, name)
        s = os.lstat(p)
        line = [os.path.relpath(p, root), oct(s.st_mode), s.st_uid, s.st_gid]
        if not stat.S_ISDIR(s.st_mode):
            line += [s.st_nlink, s.st_size]
        if stat.S_ISLNK(s.st_mode):
            line.append(os.readlink(p))
        if stat.S_ISREG(s.st_mode):
            line.append(s.st_mtime_ns)
            line.append(hashlib.md5(open(p, 'rb').read()).hexdigest())
        if not stat.S_ISLNK(s.st_mode):
            names = sorted(x for x in os.listxattr(p) if x.startswith('user.') and not x.startswith('user.mboxfs'))
            line += [(x, os.getxattr(p, x)) for x in names]
        print(*line)
";

fn brick(node: &Node) -> String {
    let dir = node.brick.to_str().expect("ASCII paths");
    node.host.run("python3", &["-c", LIST, dir])
}

fn bricks_are_equal(one: &Node, two: &Node) {
    let mut lists = (String::new(), String::new());
    let same = common::wait::holds_within(Duration::from_secs(20), || {
        lists = (brick(one), brick(two));
        lists.0 == lists.1
    });
    if !same {
        let only = |a: &str, b: &str| a.lines().filter(|l| !b.contains(l)).collect::<Vec<_>>().join("\n");
        panic!(
            "the bricks differ; only on {}:\n{}\nonly on {}:\n{}",
            one.host.name(),
            only(&lists.0, &lists.1),
            two.host.name(),
            only(&lists.1, &lists.0)
        );
    }
    assert!(lists.0.lines().count() > 4, "there is something to compare");
}

fn set_xattr(node: &Node, name: &str, key: &str, value: &str) {
    let set = "import os, sys; os.setxattr(sys.argv[1], sys.argv[2], sys.argv[3].encode())";
    let path = node.spool.join(name);
    let path = path.to_str().expect("ASCII paths");
    node.host.run("python3", &["-c", set, path, key, value]);
}

/// Writes `len` bytes at `offset`, durably.
fn put(node: &Node, name: &str, offset: u64, len: usize, with: u8) {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(node.seen(name))
        .expect("it opens");
    file.seek(SeekFrom::Start(offset)).expect("seek");
    for piece in vec![with; len].chunks(1 << 20) {
        file.write_all(piece).expect("it is written");
    }
    file.sync_all().expect("it is durable");
}

/// What this brick says about the files that it gets; none if it gets none.
fn healing(node: &Node) -> Option<Value> {
    let output = node.cli("--json heal status");
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    let bricks = status["volumes"][0]["bricks"].as_array()?.clone();
    let own = bricks.into_iter().find(|b| b["here"] == true)?;
    Some(own["copying"].clone()).filter(|h| !h.is_null())
}

/// Until something was copied.
fn wait_healing(node: &Node) {
    wait_for("files are being copied", HEAL_MAX, || {
        healing(node).is_some_and(|h| h["bytes_copied"].as_u64() > Some(0))
    });
}

fn writers(pair: &Pair, seed: u64) -> Letters {
    let boxes = [("u1", "fcntl"), ("u2", "flock"), ("u3", "dotlock"), ("u4", "fcntl")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, seed);
    (letters.later, letters.lines) = (true, 50);
    letters.writers(pair, 2);
    letters
}

fn keep_little_log(pair: &mut Pair) {
    for node in [&mut pair.one, &mut pair.two] {
        node.kept_log = Some(KEPT_LOG);
        node.kill();
        node.start();
    }
    pair.wait_whole();
}

#[test]
fn a_brick_that_missed_more_than_the_log_keeps() {
    if !have("a_brick_that_missed_more_than_the_log_keeps", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    keep_little_log(&mut pair);
    let one = &pair.one;
    put(one, "big", 0, 3 << 20, b'a');
    put(one, "short", 0, 300_000, b'b');
    put(one, "gone", 0, 100_000, b'c');
    put(one, "renamed", 0, 1000, b'd');
    put(one, "touched", 0, 1000, b'e');
    fs::create_dir_all(one.seen("old/deep")).expect("mkdir");
    put(one, "old/deep/x", 0, 10, b'f');
    set_xattr(one, "big", "user.a", "before");
    set_xattr(one, "big", "user.b", "stays");
    let mut letters = writers(&pair, 41);
    letters.wait_more(30, FLOWS_MAX);
    pair.wait_whole();
    let inode = |node: &Node, name| fs::metadata(node.in_brick(name)).expect("stat").ino();
    let before = inode(&pair.two, "big");

    pair.two.kill();
    let one = &pair.one;
    letters.wait_more(50, FLOWS_MAX);
    put(one, "big", 1 << 20, 10, b'z'); // in the middle
    put(one, "big", 3 << 20, 100_000, b'y'); // and behind the end
    let short = OpenOptions::new().write(true).open(one.seen("short")).expect("open");
    short.set_len(1000).expect("cut");
    short.sync_all().expect("durable");
    fs::remove_file(one.seen("gone")).expect("unlink");
    fs::rename(one.seen("renamed"), one.seen("old/other name")).expect("rename");
    fs::rename(one.seen("old"), one.seen("new")).expect("rename");
    fs::remove_file(one.seen("new/deep/x")).expect("unlink");
    fs::remove_dir(one.seen("new/deep")).expect("rmdir");
    fs::set_permissions(one.seen("touched"), fs::Permissions::from_mode(0o640)).expect("chmod");
    fs::hard_link(one.seen("touched"), one.seen("new/link")).expect("link");
    symlink("big", one.seen("symlink")).expect("symlink");
    put(one, "made", 0, 200_000, b'm');
    set_xattr(one, "big", "user.a", "after");
    set_xattr(one, "made", "user.c", "new");
    letters.wait_more(200, FLOWS_MAX);
    wait_for("the log is not kept any more", FLOWS_MAX, || {
        one.said().contains("has reached its limit")
    });

    pair.two.start();
    letters.wait_more(50, FLOWS_MAX);
    pair.wait_whole();
    assert!(
        pair.two.said().contains("has the files of its peer"),
        "by files, not by the log"
    );
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    bricks_are_equal(&pair.one, &pair.two);
    for gone in ["gone", "renamed", "old"] {
        assert!(!pair.two.in_brick(gone).exists(), "{gone} is back");
    }
    assert_eq!(inode(&pair.two, "big"), before, "L10");
    // Nothing of 3 MiB that are the same travels: two blocks of `big`, what is new, and the letters.
    let line = pair.two.said();
    let copied = line.lines().find_map(|l| {
        let (_, rest) = l.split_once("has the files of its peer: ")?;
        rest.split(' ').next()?.parse::<u64>().ok()
    });
    let copied = copied.expect("it says how much");
    eprintln!("copied {copied} bytes");
    assert!(copied < 3_000_000, "{copied} bytes were copied");
}

/// An empty disk behind the old path, mail in flight, and either side dies in the middle of it.
#[test]
fn an_empty_disk_is_filled() {
    if !have("an_empty_disk_is_filled", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start_on_disks_of(&lab, 1024);
    for i in 0..60 {
        put(&pair.one, &format!("full{i:02}"), 0, 3 << 20, b'a' + (i % 26) as u8);
    }
    set_xattr(&pair.one, "full00", "user.x", "y");
    let mut letters = writers(&pair, 42);
    letters.wait_more(30, FLOWS_MAX);
    pair.two.kill();
    pair.two.empty_disk();
    pair.two.start();
    assert!(pair.two.said().contains("volume reset-brick"), "it says what to do");
    letters.wait_more(20, FLOWS_MAX);

    let path = pair.two.brick.to_str().expect("ASCII paths").to_owned();
    let reset = format!("volume reset-brick gVol0 h2:{path} h2:{path} commit force");
    let said = pair.one.done(&reset);
    assert_eq!(
        said,
        "volume reset-brick: success: reset-brick commit force operation successful\n"
    );
    wait_healing(&pair.two);
    pair.two.kill();
    pair.two.start();
    wait_healing(&pair.two);
    pair.one.kill();
    // It has nobody's word and nothing whole: it serves nobody, and goes on for nobody (I29).
    let refused = pair.two.cli("--yes volume force-solo gVol0");
    assert!(!refused.status.success(), "a part of the mail is not served");
    pair.one.start();
    letters.wait_more(30, FLOWS_MAX);
    pair.wait_whole();
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    bricks_are_equal(&pair.one, &pair.two);
    // As good as any other: alone it has everything.
    pair.one.kill();
    put(&pair.two, "after", 0, 10, b'x');
    pair.one.start();
    pair.wait_whole();
    bricks_are_equal(&pair.one, &pair.two);
}

/// The other server is gone for good; a third one takes its place.
#[test]
fn another_host_takes_the_place() {
    if !have("another_host_takes_the_place", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let third = lab.third();
    let net = lab.h1.addr().octets()[2];
    let h1 = format!("10.78.{net}.1 h1\n10.78.{net}.3 h3\n");
    let names = third.dir().join("etc/hosts");
    let text = fs::read_to_string(&names).expect("it was written at first") + &h1;
    fs::write(&names, text).expect("in place: it is mounted over the machine's own");

    let mut pair = Pair::start(&lab);
    for i in 0..10 {
        put(&pair.one, &format!("full{i}"), 0, 100_000, b'a' + i as u8);
    }
    pair.two.kill();
    put(&pair.one, "alone", 0, 1000, b'x');
    let mut new = Node::on_disk(&third);
    let (old, now) = [&pair.two, &new]
        .map(|n| n.brick.to_str().expect("ASCII paths").to_owned())
        .into();
    let wrong = pair
        .one
        .cli(&format!("volume replace-brick gVol0 h2:{old}x h3:{now} commit force"));
    let complaint = String::from_utf8_lossy(&wrong.stderr).into_owned();
    assert!(
        complaint.contains(&format!("brick: h2:{old}x does not exist in volume: gVol0")),
        "{complaint}"
    );
    let said = pair
        .one
        .done(&format!("volume replace-brick gVol0 h2:{old} h3:{now} commit force"));
    assert_eq!(
        said,
        "volume replace-brick: success: replace-brick commit force operation successful\n"
    );
    put(&pair.one, "meanwhile", 0, 1000, b'y');
    wait_for("both are in step", HEAL_MAX, || {
        pair.one.cli("heal status").status.success()
    });
    assert!(
        pair.one
            .done("volume info gVol0")
            .contains(&format!("Brick2: h3:{now}"))
    );
    bricks_are_equal(&pair.one, &new);
    new.mount("h3");
    assert_eq!(fs::read(new.seen("meanwhile")).expect("it is there"), [b'y'; 1000]);
    put(&new, "by the new one", 0, 10, b'z');
    assert_eq!(
        fs::read(pair.one.seen("by the new one")).expect("it is there"),
        [b'z'; 10]
    );
    // Who was replaced is let in no more.
    pair.two.start();
    put(&new, "and on", 0, 10, b'z');
    bricks_are_equal(&pair.one, &new);
    new.unmount();
    new.kill();
}

/// The only copy of a mailbox is damaged in one place when the other host gets a new disk. That costs the message in that
/// place, not the second copy of all mail.
#[test]
fn a_damaged_mailbox_keeps_a_new_disk_from_nothing_else() {
    if !have("a_damaged_mailbox_keeps_a_new_disk_from_nothing_else", NEEDS) {
        return;
    }
    let messages: Vec<String> = (0..100)
        .map(|n| {
            let words = "many words on a line\n".repeat(100);
            format!("From a@b.c Mon Jan  5 10:00:00 2026\nMessage-ID: <{n}@x>\n\nThis is {n}.\n{words}\n")
        })
        .collect();
    let content = messages.concat();
    let mut pair = Pair::start(&Lab::new());
    fs::write(pair.one.seen("damaged"), &content).expect("it is written");
    for i in 0..4 {
        put(&pair.one, &format!("sound{i}"), 0, 300_000, b's');
    }
    pair.wait_whole();
    pair.two.kill();
    let at = content.find("This is 50.").expect("it is there") as u64 + 1000; // in no sector with another message
    let file = OpenOptions::new().write(true).open(pair.one.in_brick("damaged"));
    file.and_then(|file| file.write_all_at(b"\xff\xfe\xfd\xfc", at))
        .expect("root may");
    put(&pair.one, "alone", 0, 10, b's'); // only one that goes on alone may fill another one
    pair.two.empty_disk();
    pair.two.start();
    let path = pair.two.brick.to_str().expect("ASCII paths").to_owned();
    pair.one
        .done(&format!("volume reset-brick gVol0 h2:{path} h2:{path} commit force"));

    let left = [&messages[..50], &messages[51..]].concat().concat();
    for node in [&pair.one, &pair.two] {
        wait_for("all other messages are served", HEAL_MAX, || {
            fs::read_to_string(node.seen("damaged")).is_ok_and(|text| {
                assert!(text == left, "{}: other messages are served", node.host.name());
                true
            })
        });
    }
    // What is left of it is kept, and told.
    let told = String::from_utf8(pair.two.cli("heal status").stdout).expect("UTF-8");
    assert!(told.contains("Quarantined: /damaged: 1 damaged messages"), "{told}");
    let kept = fs::read_dir(pair.two.seen(".mboxfs-conflict")).expect("it is there");
    for file in kept.map(|entry| entry.expect("an entry").path()) {
        let text = fs::read(&file).expect("it is good");
        assert!(text.windows(11).any(|w| w == b"This is 50."), "{file:?}");
        fs::remove_file(file).expect("root may");
    }
    pair.wait_whole();
    bricks_are_equal(&pair.one, &pair.two);
}
