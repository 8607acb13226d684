//! Crashes under load: acknowledged mail is there exactly once, nothing is torn, both copies are the same (laws L1, L2, L6,
//! L11, L12).
//!
//! Power loss is the shutdown ioctl of ext4: what was not flushed is gone. Not here: what a broken log holds byte by byte
//! (`store/tests`), every interleaving (`sim`).

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
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use common::actor::Actor;
use common::host::Lab;
use common::letters::Letters;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Python];

const SEED: u64 = 9;

/// With both bricks up, or the other one alone, mail flows again within this.
const FLOWS_MAX: Duration = Duration::from_secs(40);

/// Two writers on each host and one reader on each, until stopped. An error that defers mail is none.
fn load(pair: &Pair) -> Letters {
    let boxes = [
        ("fcntl", "fcntl"),
        ("flock", "flock"),
        ("link", "link"),
        ("bare", "none"),
    ];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, SEED);
    letters.later = true;
    letters.unsynced = 0.2;
    letters.writers(pair, 2);
    letters.wait_more(20, FLOWS_MAX);
    letters
}

/// The end of a load: all that was promised, on both copies.
#[track_caller]
fn settle(mut letters: Letters, pair: &Pair) {
    letters.wait_more(20, FLOWS_MAX);
    letters.stop();
    pair.wait_whole();
    letters.audit(pair);
    let promised = letters.promised();
    let later: usize = promised.values().map(|p| p.later.len()).sum();
    eprintln!("acknowledged {}, deferred {later}", letters.acknowledged_count());
}

#[test]
fn brickd_is_killed_under_load() {
    if !have("brickd_is_killed_under_load", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    // The primary, then what was the backup; while one is away the other one serves.
    for first in [true, false] {
        let node = if first { &mut pair.one } else { &mut pair.two };
        node.kill();
        letters.wait_more(20, FLOWS_MAX);
        node.start();
        pair.wait_healed();
        letters.wait_more(20, FLOWS_MAX);
    }
    for _ in 0..2 {
        pair.one.kill();
        pair.two.kill();
        pair.two.spawn();
        pair.one.start();
        letters.wait_more(20, FLOWS_MAX);
    }
    settle(letters, &pair);
}

#[test]
fn the_power_of_one_disk_goes_under_load() {
    if !have("the_power_of_one_disk_goes_under_load", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    for first in [true, false] {
        let node = if first { &mut pair.one } else { &mut pair.two };
        node.power_off();
        letters.wait_more(20, FLOWS_MAX);
        node.power_on();
        node.start();
        pair.wait_healed();
        letters.wait_more(20, FLOWS_MAX);
    }
    settle(letters, &pair);
}

#[test]
fn the_power_of_both_disks_goes_under_load() {
    if !have("the_power_of_both_disks_goes_under_load", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    for _ in 0..2 {
        pair.one.power_off();
        pair.two.power_off();
        for node in [&mut pair.two, &mut pair.one] {
            node.power_on();
            node.spawn();
        }
        letters.wait_more(20, FLOWS_MAX);
        pair.wait_healed();
    }
    // The survivor that took mail alone goes down too: what it promised is on its disk only, and it is enough.
    pair.one.kill();
    letters.wait_more(20, FLOWS_MAX);
    pair.two.power_off();
    pair.two.power_on();
    pair.two.spawn();
    pair.one.spawn();
    letters.wait_more(20, FLOWS_MAX);
    settle(letters, &pair);
}

#[test]
fn a_disk_that_fails_under_a_running_brick() {
    if !have("a_disk_that_fails_under_a_running_brick", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let letters = load(&pair);
    pair.two.fail_disk();
    assert_eq!(
        pair.two.exit_code(),
        Some(1),
        "a brick whose flush failed does not go on"
    );
    let said = pair.two.said();
    assert!(said.contains("error: could not go on: could not "), "{said}");
    letters.wait_more(20, FLOWS_MAX);
    pair.two.power_off();
    pair.two.power_on();
    pair.two.start();
    settle(letters, &pair);
}

/// The newest segment of a brick's log and where in it each record begins; the last number is where the next one would.
fn records(node: &Node) -> (PathBuf, Vec<u64>) {
    let dir = node.in_brick(".mboxfs/log");
    let newest = fs::read_dir(&dir)
        .expect("the log's directory")
        .map(|e| e.expect("an entry").file_name().into_string().expect("ASCII"))
        .filter(|name| name.len() == 16)
        .max()
        .expect("a segment");
    let path = dir.join(newest);
    let bytes = fs::read(&path).expect("the segment");
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
    let mut places = vec![512];
    let mut at = 512;
    // Magic, then the length of the body, in a head of 40 bytes; records begin at multiples of 8.
    while word(at) == 0x6d62_7852 {
        at = (at + 40 + word(at + 4) as usize).next_multiple_of(8);
        places.push(at as u64);
    }
    (path, places)
}

fn overwrite(node: &Node, at: u64, bytes: &[u8]) {
    let (path, _) = records(node);
    let file = fs::File::options().write(true).open(path).expect("the segment");
    file.write_all_at(bytes, at).expect("it is written");
}

fn append(node: &Node, text: &str) {
    let mut actor = Actor::new(&node.host, &node.spool);
    let fd = actor.done("open box WRONLY|CREAT|APPEND");
    actor.done(&format!("write {fd} {text}"));
    actor.done(&format!("fsync {fd}"));
}

#[track_caller]
fn both_hold(pair: &Pair, text: &str) {
    for node in [&pair.one, &pair.two] {
        let name = node.host.name();
        assert_eq!(
            fs::read_to_string(node.seen("box")).expect("it can be read"),
            text,
            "on {name}"
        );
        wait_for(&format!("the brick of {name} holds {text:?}"), FLOWS_MAX, || {
            fs::read_to_string(node.in_brick("box")).is_ok_and(|t| t == text)
        });
    }
}

#[test]
fn a_torn_end_of_the_log_is_no_obstacle() {
    if !have("a_torn_end_of_the_log_is_no_obstacle", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let mut all = String::new();
    for (round, what) in ["garbage", "half a record", "the last record"].into_iter().enumerate() {
        for i in 0..5 {
            append(if i % 2 == 0 { &pair.one } else { &pair.two }, &format!("{round}.{i},"));
            all.push_str(&format!("{round}.{i},"));
        }
        pair.two.kill();
        let (path, places) = records(&pair.two);
        let [.., last, end] = places[..] else {
            panic!("no record in {}", path.display())
        };
        eprintln!("{what}: {} records, the last one at {last}..{end}", places.len() - 1);
        match what {
            "garbage" => overwrite(&pair.two, end, &[0xa5; 5000]),
            "half a record" => {
                let bytes = fs::read(&path).expect("the segment");
                // The beginning of a record that was being written when the power went: its head, without the rest.
                let torn = &bytes[usize::try_from(last).expect("small")..][..32];
                overwrite(&pair.two, end, torn);
            }
            // Nothing behind it proves that it was ever durable here: it comes from the peer.
            _ => overwrite(&pair.two, end - 16, &[0xa5; 16]),
        }
        pair.two.start();
        pair.wait_whole();
        both_hold(&pair, &all);
    }
    append(&pair.two, "end");
    both_hold(&pair, &format!("{all}end"));
}

#[test]
fn a_record_that_rotted_is_refused() {
    if !have("a_record_that_rotted_is_refused", NEEDS) {
        return;
    }
    let mut pair = Pair::start(&Lab::new());
    let mut all = String::new();
    for i in 0..10 {
        append(&pair.one, &format!("{i},"));
        all.push_str(&format!("{i},"));
    }
    both_hold(&pair, &all);
    pair.two.kill();
    let (path, places) = records(&pair.two);
    let middle = places[places.len() - 5];
    let mut byte = [0];
    let file = fs::File::open(&path).expect("the segment");
    file.read_exact_at(&mut byte, middle + 48).expect("a byte of its body");
    overwrite(&pair.two, middle + 48, &[byte[0] ^ 1]);
    pair.two.spawn();
    assert_eq!(pair.two.exit_code(), Some(1));
    let said = pair.two.said();
    let complaint = said
        .lines()
        .find(|l| l.starts_with("error: "))
        .unwrap_or_else(|| panic!("{said}"));
    assert!(complaint.contains("of the log is damaged"), "{said}");
    assert!(said.lines().any(|l| l.starts_with("hint: ")), "{said}");
    // The good copy serves alone, and it is told so.
    append(&pair.one, "on");
    assert!(!pair.one.cli("volume status gVol0").status.success());
    assert_eq!(
        fs::read_to_string(pair.two.seen("box")).expect("by way of the other brick"),
        format!("{all}on")
    );
    // The byte is put right again: nothing was changed by the refusal, and the brick catches up.
    overwrite(&pair.two, middle + 48, &byte);
    pair.two.start();
    pair.wait_whole();
    both_hold(&pair, &format!("{all}on"));
}

/// Writers on both hosts that take a refusal for "later", as Postfix does.
fn load_that_waits(pair: &Pair) -> Letters {
    let boxes = [("fcntl", "fcntl"), ("flock", "flock"), ("link", "link")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, SEED);
    (letters.later, letters.undo) = (true, true);
    letters.writers(pair, 1);
    letters.wait_more(20, FLOWS_MAX);
    letters
}

fn refused(letters: &Letters) -> usize {
    letters.promised().values().map(|p| p.later.len()).sum()
}

/// Takes all but so many bytes of the brick's disk.
fn fill(node: &Node, but: u64) -> PathBuf {
    let at = node.in_brick("lost+found/filler");
    let disk = rustix::fs::statvfs(node.in_brick("")).expect("statvfs of the brick");
    let free = disk.f_bfree * disk.f_frsize;
    let file = fs::File::create(&at).expect("a file on the brick's disk");
    rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, free - but).expect("there is room for that");
    at
}

#[test]
fn a_full_disk_refuses_on_both_or_neither() {
    if !have("a_full_disk_refuses_on_both_or_neither", NEEDS) {
        return;
    }
    let pair = Pair::start_on_disks_of(&Lab::new(), 256);
    let mut letters = load_that_waits(&pair);
    for full in [&pair.one, &pair.two] {
        let mut actor = Actor::new(&pair.two.host, &pair.two.spool);
        let fd = actor.done("open large WRONLY|CREAT|APPEND");
        let before = refused(&letters);
        // Less than ext4 keeps for root; with the brick's reserve it is room enough for what it has promised already.
        let filler = fill(full, 8 << 20);
        wait_for("messages are refused", FLOWS_MAX, || refused(&letters) > before + 10);
        // The errno that defers mail and says why (L9), for a new mailbox as for an old one.
        assert_eq!(actor.ask("open fresh WRONLY|CREAT|APPEND"), "error ENOSPC");
        actor.done(&format!("write {fd} {}", "x".repeat(100_000)));
        assert_eq!(actor.ask(&format!("fsync {fd}")), "error ENOSPC");
        actor.done(&format!("truncate {fd} 0"));
        actor.done(&format!("close {fd}"));
        fs::remove_file(filler).expect("the filler is ours");
        letters.wait_more(20, FLOWS_MAX);
    }
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    letters.none_refused_is_there(&pair);
    for node in [&pair.one, &pair.two] {
        assert_eq!(fs::metadata(node.seen("large")).expect("stat").len(), 0, "taken back");
    }
}

/// Takes all that is free of the brick's disk, to the last block.
fn fill_up(node: &Node) -> PathBuf {
    let at = node.in_brick("lost+found/filler");
    let filler = fs::File::options().create(true).append(true).open(&at);
    let mut filler = filler.expect("a file on the brick's disk");
    let full = std::io::copy(&mut std::io::repeat(0), &mut filler).expect_err("the disk ends");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    at
}

/// The brick whose disk it was ended: what it had promised had no room.
#[test]
fn a_disk_filled_to_its_last_block_ends_no_brick() {
    if !have("a_disk_filled_to_its_last_block_ends_no_brick", NEEDS) {
        return;
    }
    let mut pair = Pair::start_on_disks_of(&Lab::new(), 256);
    let mut letters = load_that_waits(&pair);
    for on_second in [false, true] {
        let full = if on_second { &pair.two } else { &pair.one };
        let before = refused(&letters);
        let old = full.seen("old");
        fs::write(&old, vec![b'x'; 1 << 20]).expect("there is room yet");
        let filler = fill_up(full);
        // What the brick lets go of is taken, too. If that is all of its reserve it waits, and the other one may go on alone.
        wait_for("messages are refused, or wait", FLOWS_MAX, || {
            fill_up(full);
            refused(&letters) > before + 10 || full.said().contains("waits for room")
        });
        // Removing goes on: that is how one gets room.
        fs::File::options()
            .write(true)
            .open(&old)
            .expect("it opens")
            .set_len(10)
            .expect("cut");
        fs::remove_file(&old).expect("removed");
        fs::remove_file(filler).expect("the filler is ours");
        assert!(pair.one.is_running() && pair.two.is_running());
        letters.wait_more(20, FLOWS_MAX);
    }
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    letters.none_refused_is_there(&pair);
}

/// Both bricks died of it: the files of what they had promised could not be made.
#[test]
fn a_disk_without_inodes_refuses_on_both_or_neither() {
    if !have("a_disk_without_inodes_refuses_on_both_or_neither", NEEDS) {
        return;
    }
    const MADE_MAX: u32 = 2_000;
    let pair = Pair::start_on_disks_of(&Lab::new(), 256);
    let fillers = pair.two.in_brick("lost+found/fillers");
    fs::create_dir(&fillers).expect("a directory on the brick's disk");
    let left = || rustix::fs::statvfs(&fillers).expect("statvfs of the brick").f_ffree;
    for i in 0.. {
        if left() <= 700 {
            break;
        }
        fs::File::create(fillers.join(i.to_string())).expect("an empty file on the brick's disk");
    }
    let make = |node: &Node, i: u32| std::os::unix::fs::symlink("x", node.seen(&format!("made{i}")));
    let refused = (0..MADE_MAX).find_map(|i| make(&pair.one, i).err().map(|e| (i, e)));
    let (made, error) = refused.expect("no inodes are left at some time");
    assert_eq!(
        error.raw_os_error(),
        Some(rustix::io::Errno::NOSPC.raw_os_error()),
        "L9"
    );
    assert!(make(&pair.two, made).is_err(), "neither takes it");
    for node in [&pair.one, &pair.two] {
        node.done("volume status gVol0"); // both live
        let names = fs::read_dir(node.seen("")).expect("readdir");
        let seen = names.filter(|e| {
            e.as_ref()
                .is_ok_and(|e| e.file_name().to_string_lossy().starts_with("made"))
        });
        assert_eq!(seen.count(), made as usize, "on {}", node.host.name());
    }
    fs::remove_dir_all(&fillers).expect("the fillers are ours");
    wait_for("there is room again", FLOWS_MAX, || make(&pair.two, made).is_ok());
}
