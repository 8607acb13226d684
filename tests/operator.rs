//! What an operator sees and can do while something is wrong, and afterwards: on two hosts, with real commands.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod letters;
    pub(crate) mod mail;
    pub(crate) mod mail_conf;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod wait;
}

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::process::Output;
use std::time::Duration;

use common::host::Lab;
use common::letters::Letters;
use common::mail::MailServer;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::wait::wait_for;
use serde_json::Value;

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse];
const SOON: Duration = Duration::from_secs(20);
const HEALS_MAX: Duration = Duration::from_secs(60);

fn message(text: &str) -> String {
    format!(
        "From a@b  Mon Nov 23 12:00:00 2026\nFrom: a@b\nSubject: about {text}\nMessage-ID: <{text}@test>\n\nthis is {text}\n\n"
    )
}

/// Appends messages, as a mailer that keeps to O_APPEND and fsync.
fn deliver(node: &Node, name: &str, texts: &[&str]) {
    for text in texts {
        let mut file = OpenOptions::new()
            .append(true)
            .create(true)
            .open(node.seen(name))
            .expect("the mailbox opens");
        file.write_all(message(text).as_bytes()).expect("it is written");
        file.sync_all().expect("it is durable");
    }
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|e| panic!("{e}: {text}"))
}

#[test]
fn heal_status_counts_what_is_on_one_copy() {
    if !have("heal_status_counts_what_is_on_one_copy", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    deliver(&pair.one, "alice", &["1", "2"]);
    pair.wait_whole();
    assert!(pair.one.done("volume heal gVol0").starts_with(
        "Launching heal operation to perform index self heal on volume gVol0 has been successful \nUse heal info commands"
    ));
    pair.two.kill();
    deliver(&pair.one, "alice", &["3", "4", "5"]);
    deliver(&pair.one, "bob", &["6", "7"]);
    let status = pair.one.cli("heal status");
    let text = stdout(&status);
    assert_eq!(status.status.code(), Some(1), "{text}");
    assert!(text.contains("\nOn one copy only: 5 messages, "), "{text}");
    assert!(
        text.contains("\nMailboxes: 2 pending, 0 healing, 0 merged, 0 quarantined\n"),
        "{text}"
    );
    assert!(
        text.contains("\n/alice: changed while the other brick was away: "),
        "{text}"
    );
    let told = json(&stdout(&pair.one.cli("--json heal status gVol0")));
    let brick = &told["volumes"][0]["bricks"][0];
    let bytes: usize = ["3", "4", "5", "6", "7"].map(|t| message(t).len()).iter().sum();
    assert_eq!(brick["messages_on_one_copy"], 5);
    assert_eq!(brick["bytes_on_one_copy"], bytes, "to the byte");
    assert_eq!(brick["mailboxes"]["pending"], 2);
    let info = pair.one.done("volume heal gVol0 info");
    assert!(
        info.contains("\n/alice\n/bob\nStatus: Connected\nNumber of entries: 2\n"),
        "{info}"
    );
    let refused = pair.one.cli("volume heal gVol0");
    assert_eq!(refused.status.code(), Some(1));
    assert!(
        stderr(&refused).contains("has been unsuccessful:\n"),
        "as gluster: {}",
        stderr(&refused)
    );
    pair.two.spawn();
    // Ends by itself when both bricks have everything.
    let watched = pair.one.done("heal status --watch");
    assert!(watched.trim_end().contains("Volume gVol0: healthy"), "{watched}");
    let end = watched.lines().last().unwrap_or_default();
    assert!(end.starts_with("Last scrub: "), "{watched}");
    let said = pair.one.said();
    assert!(
        said.contains("healed /alice: ") && said.contains("healed /bob: "),
        "{said}"
    );
}

#[test]
fn a_merge_is_told_mailbox_by_mailbox() {
    if !have("a_merge_is_told_mailbox_by_mailbox", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let (one, two) = (&pair.one, &pair.two);
    deliver(one, "alice", &["1"]);
    deliver(one, "bob", &["2"]);
    pair.wait_whole();
    lab.cut_link();
    deliver(one, "alice", &["3", "4"]);
    deliver(two, "alice", &["5"]);
    deliver(two, "bob", &["6"]);
    let told = json(&stdout(&one.cli("--json heal status")));
    assert_eq!(told["volumes"][0]["bricks"][0]["messages_on_one_copy"], 2);
    let told = json(&stdout(&two.cli("--json heal status")));
    assert_eq!(told["volumes"][0]["bricks"][1]["messages_on_one_copy"], 2);
    lab.restore_link();
    pair.wait_whole();
    let said = one.said() + &two.said();
    assert!(said.contains("merged /alice: changed on both bricks"), "{said}");
    assert!(said.contains("healed /bob: "), "{said}");
    assert_eq!(said.matches("merged /alice").count(), 1, "once");
    let merged = [one, two].map(|node| {
        let told = json(&node.done("--json heal status"));
        let bricks = told["volumes"][0]["bricks"].as_array().expect("two bricks").clone();
        bricks
            .iter()
            .filter_map(|b| b["mailboxes"]["merged"].as_u64())
            .sum::<u64>()
    });
    assert_eq!(merged, [1, 1], "one mailbox, whomever one asks");
}

/// The link is cut on purpose while mail flows on both hosts; what both accepted is there afterwards.
#[test]
fn a_drill_cuts_the_link() {
    if !have("a_drill_cuts_the_link", &[NEEDS, &[Need::Python]].concat()) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let boxes = [("u1", "fcntl"), ("u2", "dotlock")];
    let mut letters = Letters::new(pair.one.host.dir(), &boxes, 53);
    (letters.later, letters.apart, letters.lines) = (true, true, 20);
    letters.writers(&pair, 1);
    letters.wait_more(20, HEALS_MAX);
    let asked = pair.one.cli("drill partition --volume gVol0");
    assert_eq!(asked.status.code(), Some(2), "it asks, and nobody can answer");
    let report = pair.one.done("--yes drill partition --volume gVol0");
    eprintln!("{report}");
    assert!(
        report.starts_with("drill partition --volume gVol0: passed\n"),
        "{report}"
    );
    assert!(report.contains("0 lost, 0 twice"), "{report}");
    for node in [&pair.one, &pair.two] {
        let said = node.said();
        assert!(
            said.contains("brick is going on alone"),
            "quorum none: both go on\n{said}"
        );
    }
    letters.wait_more(20, HEALS_MAX);
    letters.stop();
    pair.wait_whole();
    letters.audit(&pair);
    wait_for("nothing of the drill is left", SOON, || {
        let names = fs::read_dir(pair.two.seen("")).expect("the spool can be listed");
        names
            .flatten()
            .all(|e| !e.file_name().to_string_lossy().contains("drill"))
    });
}

/// What Dovecot on a host says of INBOX: UID and Message-ID of each message.
fn inbox(node: &Node, user: &str) -> Vec<(u32, String)> {
    let text = doveadm(node, &["fetch", "-u", user, "uid hdr.message-id", "mailbox", "INBOX"]);
    let field = |name: &str| {
        let lines = text.lines().filter_map(|line| line.strip_prefix(name));
        lines.map(|value| value.trim().to_owned()).collect::<Vec<_>>()
    };
    let uids = field("uid: ").into_iter().map(|uid| uid.parse().expect("a number"));
    uids.zip(field("hdr.message-id: ")).collect()
}

fn doveadm(node: &Node, words: &[&str]) -> String {
    let conf = node.host.dir().join("dovecot/dovecot.conf").display().to_string();
    node.host.run("doveadm", &[&["-c", &conf], words].concat())
}

/// Whoever deletes the history loses nothing but the history.
fn forget_the_past(node: &mut Node) {
    node.stop();
    let _ = fs::remove_dir_all(node.in_brick(".mboxfs/history"));
    node.start();
}

/// Delivered and expunged by real programs, before and after the history began; back as a new message, once.
#[test]
fn what_dovecot_expunged_comes_back() {
    const USER: &str = "u01";
    if !have("what_dovecot_expunged_comes_back", &[NEEDS, &[Need::Mailers]].concat()) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    let servers = MailServer::start_both(&lab, &[pair.one.spool.clone(), pair.two.spool.clone()]);
    let letter = |id: &str| format!("From: a@b\nSubject: about {id}\nMessage-ID: <{id}@test>\n\nthis is {id}\n");
    for id in ["1", "2", "3"] {
        servers[0].lda_deliver(USER, &letter(id));
    }
    let before = inbox(&pair.two, USER);
    assert_eq!(before.len(), 3);
    pair.wait_whole();
    forget_the_past(&mut pair.one);
    pair.wait_whole();
    forget_the_past(&mut pair.two);
    pair.wait_whole();
    servers[1].lda_deliver(USER, &letter("4"));
    doveadm(
        &pair.two,
        &[
            "expunge",
            "-u",
            USER,
            "mailbox",
            "INBOX",
            "header",
            "message-id",
            "<2@test>",
        ],
    );
    doveadm(
        &pair.one,
        &[
            "expunge",
            "-u",
            USER,
            "mailbox",
            "INBOX",
            "header",
            "message-id",
            "<4@test>",
        ],
    );
    assert_eq!(inbox(&pair.one, USER).len(), 2);

    let listed = json(&pair.one.done("--json undelete u01 --since 1h --list"));
    let ids = |told: &Value| {
        let all = told["messages"].as_array().expect("a list").iter();
        all.map(|m| m["id"].as_str().expect("an id").to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids(&listed), ["<2@test>", "<4@test>"]);
    assert_eq!(listed["messages"][0]["subject"], "about 2");
    // Where its mount attached first: after a failover that need not be its own host.
    let host = listed["messages"][0]["host"].as_str().expect("a host");
    assert!(["h1", "h2"].contains(&host), "{host}");
    assert_eq!(
        ids(&json(&pair.two.done("--json undelete u01 --since 1h --list"))),
        ids(&listed),
        "on either host"
    );
    let log = pair.one.done("log u01");
    assert!(log.contains("append of 1 message, "), "{log}");
    assert!(
        log.contains("expunge of 1 message, ") && log.contains("\n    - <2@test> about 2"),
        "{log}"
    );
    let asked = pair.one.cli("undelete u01 --since 1h");
    assert_eq!(asked.status.code(), Some(2), "it asks, and nobody can answer");

    assert!(
        pair.one
            .done("--yes undelete u01 --since 1h")
            .contains("u01: 2 messages are back")
    );
    let again = pair.two.done("--yes undelete u01 --since 1h");
    assert!(
        again.starts_with("Nothing that was removed from /u01 is missing"),
        "brickd running L-4: {again}"
    );
    let after = [&pair.one, &pair.two].map(|node| inbox(node, USER));
    assert_eq!(after[0], after[1], "both Dovecots see the same");
    let last = before.iter().map(|(uid, _)| *uid).max().expect("three messages");
    assert_eq!(after[0].len(), 4, "{after:?}");
    for (uid, id) in &after[0] {
        match before.iter().find(|(_, old)| old == id).filter(|_| id != "<2@test>") {
            Some((old, _)) => assert_eq!(uid, old, "{id} is as it was"),
            None => assert!(*uid > last, "{id} is a new message"),
        }
    }
    let text = servers[0].imap_read(USER).concat();
    assert_eq!(text.matches("this is 2").count(), 1);

    let traced = pair.two.done("trace <4@test>");
    assert!(traced.contains(" accepted into /u01 through h"), "{traced}");
    assert!(traced.contains(" removed from /u01 through h"), "{traced}");
    let bricks = [&pair.one, &pair.two].map(|node| format!("{}:{}", node.host.name(), node.brick.display()));
    assert!(
        traced
            .trim_end()
            .ends_with(&format!("durable on {}", bricks.join(" and "))),
        "{traced}"
    );
    pair.two.kill();
    servers[0].lda_deliver(USER, &letter("5"));
    let alone = pair.one.cli("trace 5@test");
    assert_eq!(alone.status.code(), Some(1), "on one copy only");
    assert!(
        stdout(&alone).contains(&format!("not yet on {}", bricks[1])),
        "{}",
        stdout(&alone)
    );
    pair.two.start();
    pair.wait_whole();
    pair.one.done("trace 5@test");
    pair.two.done("trace 5@test");

    forget_the_past(&mut pair.one);
    pair.wait_whole();
    let forgotten = pair.one.cli("trace <4@test>");
    assert_eq!(forgotten.status.code(), Some(1));
    assert!(
        stderr(&forgotten).starts_with("error: could not trace <4@test>: it is not known; "),
        "{}",
        stderr(&forgotten)
    );
    assert_eq!(inbox(&pair.one, USER).len(), 5, "mail needs no history");
}

/// A mailbox that was removed whole, and one that a crash of its brick came across.
#[test]
fn a_removed_mailbox_comes_back_with_its_owner() {
    if !have("a_removed_mailbox_comes_back_with_its_owner", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let mut pair = Pair::start(&lab);
    deliver(&pair.one, "bob", &["1", "2"]);
    chown(pair.one.seen("bob"), Some(1234), Some(8)).expect("chown");
    fs::set_permissions(pair.one.seen("bob"), Permissions::from_mode(0o640)).expect("chmod");
    fs::remove_file(pair.two.seen("bob")).expect("unlink");
    deliver(&pair.one, "carol", &["3", "4"]);
    let kept = message("4");
    let file = OpenOptions::new()
        .write(true)
        .open(pair.one.seen("carol"))
        .expect("it opens");
    file.write_all_at(kept.as_bytes(), 0).expect("it is written");
    file.set_len(kept.len() as u64).expect("it is cut");
    file.sync_all().expect("it is durable");
    // Both bricks replay their logs over files that have seen the future.
    for node in [&mut pair.one, &mut pair.two] {
        node.kill();
        node.start();
    }
    pair.wait_whole();
    for node in [&pair.one, &pair.two] {
        for (user, count) in [("bob", 2), ("carol", 1)] {
            let told = json(&node.done(&format!("--json undelete {user} --since 1h --list")));
            assert_eq!(told["messages"].as_array().map(Vec::len), Some(count), "{user}: {told}");
        }
    }
    pair.one.done("--yes undelete bob --since 1h");
    pair.one.done("--yes undelete carol --since 1h");
    let bob = fs::read_to_string(pair.two.seen("bob")).expect("it is there");
    assert_eq!(bob, message("1") + &message("2"));
    let stat = fs::metadata(pair.two.seen("bob")).expect("stat");
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o777), (1234, 8, 0o640));
    let carol = fs::read_to_string(pair.two.seen("carol")).expect("it is there");
    assert_eq!(carol, message("4") + &message("3"));
}

/// What is kept of the past counts as room, and goes when mail needs it.
#[test]
fn the_past_makes_room_for_mail() {
    if !have("the_past_makes_room_for_mail", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let body = "x".repeat(79).repeat(1 << 15);
    let big = format!("From a@b  Mon Nov 23 12:00:00 2026\nMessage-ID: <big@test>\n\n{body}\n\n");
    for _ in 0..3 {
        fs::write(pair.one.seen("big"), &big).expect("it fits");
        fs::remove_file(pair.one.seen("big")).expect("unlink");
    }
    let kept = |node: &Node| {
        let files = fs::read_dir(node.in_brick(".mboxfs/history"))
            .into_iter()
            .flatten()
            .flatten();
        files.map(|f| f.metadata().map_or(0, |m| m.len())).sum::<u64>()
    };
    for node in [&pair.one, &pair.two] {
        wait_for("the past is kept", SOON, || kept(node) > 3 * body.len() as u64);
    }
    let mut full = fs::File::create(pair.one.seen("full")).expect("create");
    let chunk = vec![b'y'; 1 << 20];
    let refused = (0..2000).find_map(|_| full.write_all(&chunk).and_then(|()| full.sync_data()).err());
    assert_eq!(
        refused.and_then(|e| e.raw_os_error()),
        Some(28),
        "ENOSPC, once it is true"
    );
    // Its bytes count as free until they are needed: what wants to be written makes it go, on either brick.
    wait_for("the past goes", SOON, || {
        let _ = full.write_all(&chunk).and_then(|()| full.sync_data());
        [&pair.one, &pair.two].iter().all(|node| kept(node) < body.len() as u64)
    });
    drop(full);
    fs::remove_file(pair.one.seen("full")).expect("expunge is possible");
    wait_for("mail is accepted again", SOON, || {
        fs::write(pair.two.seen("alice"), message("1")).is_ok()
    });
}
