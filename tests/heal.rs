//! Two servers that lost each other, both went on, and become one again (law L8): what either side accepted is there,
//! once, and what either side removed stays removed.

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
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::process::Stdio;
use std::time::Duration;

use common::host::Lab;
use common::letters::Letters;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::{holds_within, wait_for};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];

fn message(text: &str) -> String {
    format!("From a@b  Mon Nov 23 12:00:00 2026\nMessage-ID: <{text}@test>\n\n{text}\n\n")
}

/// Appends messages, as a mailer that keeps to O_APPEND and fsync.
fn deliver(node: &Node, name: &str, texts: &[&str]) {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .open(node.seen(name))
        .expect("the mailbox opens");
    for text in texts {
        file.write_all(message(text).as_bytes()).expect("it is written");
    }
    file.sync_all().expect("it is durable");
}

/// As a mail reader rewrites a mailbox: in place, then cut.
fn rewrite(node: &Node, name: &str, content: &str) {
    let mut file = OpenOptions::new().write(true).open(node.seen(name)).expect("it opens");
    file.write_all(content.as_bytes()).expect("it is written");
    file.set_len(content.len() as u64).expect("it is cut");
    file.sync_all().expect("it is durable");
}

fn read(node: &Node, name: &str) -> String {
    fs::read_to_string(node.seen(name)).unwrap_or_else(|e| panic!("{name} on {}: {e}", node.host.name()))
}

/// The texts of the messages, in order of the alphabet.
fn texts(content: &str) -> Vec<&str> {
    let mut found: Vec<&str> = content
        .lines()
        .filter_map(|l| l.strip_prefix("Message-ID: <")?.strip_suffix("@test>"))
        .collect();
    found.sort_unstable();
    found
}

fn both(pair: &Pair) -> [&Node; 2] {
    [&pair.one, &pair.two]
}

/// Everything in a directory of the volume, as it looks from a node: path, kind, mode, size.
fn tree(node: &Node, dir: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(node.seen(dir)).expect("readdir") {
        let entry = entry.expect("entry");
        let name = format!("{dir}/{}", entry.file_name().to_str().expect("ASCII"));
        let meta = fs::symlink_metadata(entry.path()).expect("lstat");
        let size = if meta.is_dir() { 0 } else { meta.len() };
        found.push(format!("{name} {:o} {size}", meta.mode()));
        if meta.is_dir() {
            found.extend(tree(node, &name));
        }
    }
    found.sort();
    found
}

#[test]
fn what_both_sides_did_is_merged() {
    if !have("what_both_sides_did_is_merged", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let (one, two) = (&pair.one, &pair.two);
    for name in ["alice", "bob", "carol", "dave", "erin"] {
        deliver(one, name, &["1", "2", "3"]);
    }
    fs::write(one.seen("notes"), "common").expect("write");
    fs::create_dir(one.seen("old")).expect("mkdir");
    fs::write(one.seen("old/x"), "x").expect("write");
    fs::write(one.seen("moved"), message("m")).expect("write");
    let inode = fs::metadata(one.seen("bob")).expect("stat").ino();
    lab.cut_link();

    // Each side waits until it knows that it is alone, and goes on.
    deliver(one, "alice", &["a1"]);
    deliver(two, "bob", &["b1"]);
    deliver(one, "bob", &["b2", "b3"]);
    // An expunge on one side, a delivery on the other.
    rewrite(two, "carol", &(message("1") + &message("3")));
    deliver(one, "carol", &["c1"]);
    // An expunge on one side only.
    rewrite(two, "dave", &message("2"));
    // A removed mailbox into which the other side delivers.
    fs::remove_file(one.seen("erin")).expect("unlink");
    deliver(two, "erin", &["e1"]);
    // New on both sides, and new on one.
    deliver(one, "frank", &["f1"]);
    deliver(two, "frank", &["f2"]);
    deliver(two, "grace", &["g1"]);
    // No mailbox.
    fs::write(one.seen("notes"), "from one").expect("write");
    fs::write(two.seen("notes"), "from two!").expect("write");
    // Names.
    for node in [one, two] {
        fs::create_dir(node.seen("dir")).expect("mkdir");
        fs::write(node.seen(&format!("dir/{}", node.host.name())), "x").expect("write");
    }
    fs::remove_file(two.seen("old/x")).expect("unlink");
    fs::remove_dir(two.seen("old")).expect("rmdir");
    fs::rename(two.seen("moved"), two.seen("dir/moved")).expect("rename");
    symlink("bob", two.seen("link")).expect("symlink");
    fs::set_permissions(two.seen("alice"), fs::Permissions::from_mode(0o640)).expect("chmod");

    lab.restore_link();
    pair.wait_whole();
    for node in both(&pair) {
        let on = node.host.name();
        assert_eq!(texts(&read(node, "alice")), ["1", "2", "3", "a1"], "{on}");
        assert_eq!(
            fs::metadata(node.seen("alice")).expect("stat").mode() & 0o777,
            0o640,
            "{on}"
        );
        assert_eq!(texts(&read(node, "bob")), ["1", "2", "3", "b1", "b2", "b3"], "{on}");
        assert_eq!(
            fs::metadata(node.seen("bob")).expect("stat").ino(),
            inode,
            "L10 on {on}"
        );
        assert_eq!(texts(&read(node, "carol")), ["1", "3", "c1"], "{on}");
        assert_eq!(texts(&read(node, "dave")), ["2"], "{on}");
        assert_eq!(texts(&read(node, "erin")), ["e1"], "{on}");
        assert_eq!(texts(&read(node, "frank")), ["f1", "f2"], "{on}");
        assert_eq!(texts(&read(node, "grace")), ["g1"], "{on}");
        let mut notes = vec![read(node, "notes")];
        for entry in fs::read_dir(node.seen(".mboxfs-conflict")).expect("readdir") {
            notes.push(fs::read_to_string(entry.expect("entry").path()).expect("read"));
        }
        notes.sort();
        assert_eq!(notes, ["from one", "from two!"], "both are kept, on {on}");
        assert_eq!(read(node, "dir/h1") + &read(node, "dir/h2"), "xx", "{on}");
        assert_eq!(texts(&read(node, "dir/moved")), ["m"], "{on}");
        assert!(!node.seen("moved").exists() && !node.seen("old").exists(), "{on}");
        assert_eq!(
            fs::read_link(node.seen("link")).expect("readlink").to_str(),
            Some("bob"),
            "{on}"
        );
    }
    assert_eq!(tree(one, "."), tree(two, "."));
    pair.bricks_are_equal();
    deliver(one, "bob", &["later"]);
    assert_eq!(texts(&read(two, "bob")).len(), 7);
}

/// Writers on both hosts to the same mailboxes, through a partition and the merge behind it.
#[test]
fn a_partition_under_load() {
    const FLOWS_MAX: Duration = Duration::from_secs(60);
    if !have("a_partition_under_load", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let boxes = [("u1", "fcntl"), ("u2", "flock"), ("u3", "dotlock"), ("u4", "fcntl")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, 31);
    (letters.later, letters.apart, letters.lines) = (true, true, 50);
    letters.writers(&pair, 2);
    letters.wait_more(50, FLOWS_MAX);
    for _ in 0..2 {
        lab.cut_link();
        letters.wait_more(200, FLOWS_MAX);
        lab.restore_link();
        pair.wait_whole();
        letters.wait_more(50, FLOWS_MAX);
    }
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    eprintln!("acknowledged {}", letters.acknowledged_count());
}

/// A program on a node's host, with the mount's directory and the given words as arguments. What does not end in time is
/// killed, and the test fails with what both bricks say of themselves (and the logs, see `Pair`).
fn run_within(pair: &Pair, node: &Node, script: &str, words: &[&str], deadline: Duration) {
    let mut child = node
        .host
        .command("python3")
        .args(["-c", script])
        .arg(&node.spool)
        .args(words)
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let ended = holds_within(deadline, || !matches!(child.try_wait(), Ok(None)));
    if !ended {
        let _ = child.kill();
    }
    let output = child.wait_with_output().expect("a child of ours");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(
        ended && output.status.success(),
        "{}: {words:?}: {}: {complaint}\n{}",
        node.host.name(),
        if ended { "failed" } else { "does not end" },
        state(pair)
    );
}

/// Hundreds of mailboxes take their time on a machine that has other things to do.
fn wait_merged(pair: &Pair) {
    wait_for("all is merged", Duration::from_secs(150), || {
        pair.one.cli("heal status").status.success() && pair.two.cli("heal status").status.success()
    });
    pair.wait_whole();
}

/// What both bricks say of themselves.
fn state(pair: &Pair) -> String {
    let of = |node: &Node| {
        let say = |words| String::from_utf8_lossy(&node.cli(words).stdout).into_owned();
        format!(
            "{}:\n{}{}",
            node.host.name(),
            say("volume status gVol0"),
            say("heal status")
        )
    };
    both(pair).map(of).concat()
}

/// As Postfix delivers, to many mailboxes one after the other: SPOOL FIRST LAST BYTES TEXT.
const DELIVER_MANY: &str = r#"
import fcntl, os, sys
spool, first, last, size, text = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
body = ("x" * 59 + "\n") * (size // 60)
for i in range(first, last):
    fd = os.open(f"{spool}/m{i:04}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    os.write(fd, f"From a@b  Mon Nov 23 12:00:00 2026\nMessage-ID: <{text}@test>\n\n{text}\n{body}\n".encode())
    os.fsync(fd)
    os.close(fd)
"#;

/// Mail goes on through both mounts while many mailboxes are merged, and one that both write to: no call waits for longer
/// than a mount may (`OP_TIMEOUT`), nobody's lock is broken into, and all of it is there, whole.
#[test]
fn mail_flows_while_many_mailboxes_are_merged() {
    const BOXES: usize = 300;
    const FLOWS_MAX: Duration = Duration::from_secs(40);
    const BATCH_MAX: Duration = Duration::from_secs(240);
    if !have("mail_flows_while_many_mailboxes_are_merged", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let last = BOXES.to_string();
    let batch = |node, bytes, text| run_within(&pair, node, DELIVER_MANY, &["0", &last, bytes, text], BATCH_MAX);
    batch(&pair.one, "100000", "old");
    let mut letters = Letters::new(pair.one.host.dir(), &[("flow", "fcntl")], 47);
    (letters.later, letters.apart, letters.lines) = (true, true, 50);
    lab.cut_link();
    std::thread::scope(|scope| {
        scope.spawn(|| batch(&pair.one, "600", "one"));
        scope.spawn(|| batch(&pair.two, "600", "two"));
    });
    letters.writers(&pair, 1);
    letters.wait_more(20, FLOWS_MAX);
    lab.restore_link();
    for _ in 0..10 {
        letters.wait_more(20, FLOWS_MAX);
    }
    wait_merged(&pair);
    letters.wait_more(50, FLOWS_MAX);
    letters.stop();
    letters.audit(&pair);
    run_within(&pair, &pair.two, COUNT_ALL, &["old one two"], BATCH_MAX);
    pair.bricks_are_equal();
}

/// Every m* of the spool holds these messages and no others: SPOOL TEXTS.
const COUNT_ALL: &str = r#"
import glob, re, sys
for name in sorted(glob.glob(sys.argv[1] + "/m*")):
    found = re.findall(r"^Message-ID: <(.*)@test>$", open(name).read(), re.M)
    if sorted(found) != sorted(sys.argv[2].split()):
        sys.exit(f"{name}: {found}")
"#;

/// The link breaks in the middle of a merge; what had come over by then is expunged, and its mailbox changes on the other
/// side before the merge goes on: it does not return.
#[test]
fn an_interrupted_merge_brings_nothing_back() {
    const BOXES: usize = 1000;
    const BATCH_MAX: Duration = Duration::from_secs(240);
    if !have("an_interrupted_merge_brings_nothing_back", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let (one, two) = (&pair.one, &pair.two);
    let last = BOXES.to_string();
    let batch = |node, text| run_within(&pair, node, DELIVER_MANY, &["0", &last, "60", text], BATCH_MAX);
    batch(one, "old");
    lab.cut_link();
    std::thread::scope(|scope| {
        scope.spawn(|| batch(one, "one"));
        scope.spawn(|| batch(two, "two"));
    });
    // Who has more to lose goes on: the first one.
    for _ in 0..5 {
        deliver(one, "m0999", &["more"]);
    }
    deliver(two, "made-there", &["a", "b"]);
    lab.restore_link();
    wait_for("the first mailbox is merged", Duration::from_secs(40), || {
        texts(&read(one, "m0000")).contains(&"two")
    });
    lab.cut_link();
    wait_for(
        "the second mount is back at its own brick, which has not given up",
        Duration::from_secs(20),
        || fs::read_to_string(two.seen("m0000")).is_ok_and(|content| texts(&content) == ["old", "two"]),
    );
    let kept: String = ["old", "one"].map(message).concat();
    rewrite(one, "m0000", &kept);
    deliver(two, "m0000", &["later"]);
    lab.restore_link();
    wait_merged(&pair);
    for node in both(&pair) {
        let on = node.host.name();
        assert_eq!(texts(&read(node, "m0000")), ["later", "old", "one"], "{on}");
        assert_eq!(texts(&read(node, "m0001")), ["old", "one", "two"], "{on}");
        assert_eq!(texts(&read(node, "made-there")), ["a", "b"], "{on}");
    }
    pair.bricks_are_equal();
}

/// A mailbox of which one copy is damaged is merged if the other brick has what is missing; else it is not, and holds up none
/// of the others; nothing of it is lost.
#[test]
fn damage_holds_up_no_merge() {
    if !have("damage_holds_up_no_merge", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let (lost, repaired) = (["alice", "bob"], ["carol", "dave", "erin"]);
    let boxes = [lost.as_slice(), &repaired].concat();
    for name in &boxes {
        deliver(&pair.one, name, &["1", "2", "3"]);
    }
    pair.wait_whole();
    let common = read(&pair.one, "alice").len();
    lab.cut_link();
    for name in &boxes {
        deliver(&pair.one, name, &["a"]);
        deliver(&pair.two, name, &["b"]);
    }
    // A brick acknowledges from its log, and writes its files a moment later.
    for node in both(&pair) {
        for name in &boxes {
            let seen = read(node, name);
            wait_for("it is in the brick", Duration::from_secs(20), || {
                fs::read_to_string(node.in_brick(name)).is_ok_and(|held| held == seen)
            });
        }
    }
    // Whoever of them leads the merge: a copy here and one there cannot be read. Not where a message says its name.
    let (old, new) = (5, common + 5);
    let (one, two) = (&pair.one, &pair.two);
    for (node, name, at) in [
        (one, "alice", new),
        (two, "bob", new),
        (one, "dave", old),
        (two, "erin", old),
    ] {
        let file = node.in_brick(name);
        let mut bytes = fs::read(&file).expect("a file of the brick");
        bytes[at] ^= 0x01;
        let file = OpenOptions::new().write(true).open(file).expect("root may");
        file.write_all_at(&bytes[at..=at], at as u64).expect("root may");
    }
    lab.restore_link();
    for node in both(&pair) {
        wait_for("both bricks work together", Duration::from_secs(60), || {
            let status = node.cli("heal status");
            let text = String::from_utf8_lossy(&status.stdout).into_owned();
            text.matches("Status: Connected, normal").count() == 2
        });
        wait_for("all is served", Duration::from_secs(60), || {
            boxes.iter().all(|name| fs::read(node.seen(name)).is_ok())
        });
        let status = node.cli("heal status");
        let text = String::from_utf8_lossy(&status.stdout).into_owned();
        assert_eq!(status.status.code(), Some(1), "{text}");
        for name in repaired {
            assert_eq!(texts(&read(node, name)), ["1", "2", "3", "a", "b"], "{name}");
            assert!(!text.contains(&format!("/{name}")), "{text}");
        }
        for name in lost {
            assert!(text.contains(&format!("Quarantined: /{name}: ")), "{text}");
            let mut all = read(node, name);
            for entry in fs::read_dir(node.seen(".mboxfs-conflict")).expect("readdir") {
                let path = entry.expect("entry").path();
                if path
                    .file_name()
                    .is_some_and(|n| n.to_str().is_some_and(|n| n.starts_with(name)))
                {
                    all += &fs::read_to_string(path).expect("read");
                }
            }
            let mut found = texts(&all);
            found.dedup();
            assert_eq!(found, ["1", "2", "3", "a", "b"], "{name}");
        }
    }
    pair.bricks_are_equal();
}
