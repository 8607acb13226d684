//! Two servers with real mail programs lose each other, both go on, and become one again: what each mail client saw before,
//! meanwhile and afterwards (laws L8 and L10, MAIL.md section 7).
//!
//! Each row is a mailbox of its own, so that one partition plays them all. IMAP sessions are opened before the cut and stay
//! open through all of it. UIDs must contradict no client's memory, and both hosts must show the same; where the table of MAIL.md and
//! the programs leave no choice, they are told.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod actor;
    pub(crate) mod host;
    pub(crate) mod image;
    pub(crate) mod mail;
    pub(crate) mod mail_conf;
    pub(crate) mod need;
    pub(crate) mod pair;
    pub(crate) mod sessions;
    pub(crate) mod wait;
}

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use common::host::{Lab, users};
use common::mail::MailServer;
use common::need::{Need, have};
use common::pair::{Node, Pair};
use common::sessions::{Orders, Sessions, View, at_once};

const NEEDS: &[Need] = &[Need::Root, Need::Netns, Need::Loop, Need::Fuse, Need::Mailers];

/// One row of MAIL.md section 7. Verbs are those of `sessions.py`.
struct Row {
    number: &'static str,
    /// What both knew.
    base: &'static str,
    /// What each side's clients do before the cut (a mailbox without sessions is one that nobody reads),
    open: [&'static str; 2],
    /// while the sides are apart,
    apart: [&'static str; 2],
    /// and what must be there in the end, in any order.
    left: &'static str,
}

const ALL: &str = "base m1 m2 m3";
/// Its dotlock is there, on one side, until the bricks have met again; then its owner dies.
const LOCKED: &str = "47";
const OPEN: [&str; 2] = ["open", "open idle"];
const NOBODY: [&str; 2] = ["", ""];

#[rustfmt::skip] // a table
const ROWS: &[Row] = &[
    row("3", ALL, OPEN, ["lda a1; lda a2; look", "lda b1; look"], "m1:1 m2:2 m3:3 a1 a2:5 b1"),
    row("4", ALL, ["open idle", ""], ["lda a1; look", "smtp b1"], "m1:1 m2:2 m3:3 a1:4 b1:5"),
    row("5", ALL, OPEN, ["expunge m2", "lda b1; look"], "m1:1 m3:3 b1:4"),
    row("6", ALL, OPEN, ["expunge m1", "flag m1 \\Seen; flag m3 \\Flagged"], "m2:2 m3:3/F"),
    row("7", ALL, OPEN, ["flag m2 \\Seen", "flag m2 \\Answered; flag m2 Work"], "m1:1 m2:2/AS{Work} m3:3"),
    row("8", ALL, ["open; flag m1 \\Seen; flag m1 \\Flagged", "open"], ["unflag m1 \\Flagged", "flag m1 \\Answered"], "m1:1/AS m2:2 m3:3"),
    row("9", ALL, OPEN, ["pop", "lda b1; look"], "b1:4"),
    row("10", ALL, OPEN, ["pop", "pop"], ""),
    row("11", ALL, NOBODY, ["unlink", "open; lda b1; look"], "b1:4"),
    row("14", "base m1 m2", NOBODY, ["smtp a1", "smtp b1"], "m1 m2 a1 b1"),
    row("15", "base m1 m2", NOBODY, ["open; lda a1; look; close", "open; lda b1; look; close"], "m1:1 m2:2 a1 b1"),
    row("16", "base m1 m2", NOBODY, ["open; lda a1; look", "smtp b1"], "m1:1 m2:2 a1 b1"),
    row("17", ALL, OPEN, ["append x1; lda a1; look", "append x1; lda b1; look"], "m1:1 m2:2 m3:3 x1:4 a1 b1"),
    row("19", ALL, OPEN, ["expunge m2; lda a1; look", "expunge m2"], "m1:1 m3:3 a1:4"),
    // Two-way: both sides get the mailbox while they are apart, from the same backup, say.
    row("20", "", NOBODY, ["restore m1:1 m2:2 m3:3; open; lda a1; lda a2; look", "restore m1:1 m2:2 m3:3; open; lda b1; look"], "m1:1 m2:2 m3:3 a1 a2:5 b1"),
    row("21", "", NOBODY, ["restore m1:1 m2:2 m3:3; open; expunge m2", "restore m1:1 m2:2 m3:3; open; lda b1; look"], "m1:1 m3:3 b1:4 m2:5"),
    row("22", "", NOBODY, ["restore m1:1 m2:2 m3:3; open; flag m1 \\Seen; flag m1 \\Deleted", "restore m1:1 m2:2 m3:3; open; flag m1 \\Answered"], "m1:1/AS m2:2 m3:3"),
    row("26b", "base m1 z z", OPEN, ["expunge z", "lda b1; look"], "m1:1 z:3 b1:4"),
    row("27", ALL, OPEN, ["put crlf; look", "lda b1; look"], "m1:1 m2:2 m3:3 crlf b1"),
    row("29", ALL, OPEN, ["lda inner; look", "lda b1; look"], "m1:1 m2:2 m3:3 inner b1"),
    row("30", ALL, ["open", "open"], ["edit swap m2 m3; look", "lda b1; look"], "m1:1 m2 m3 b1"),
    row("34", ALL, OPEN, ["lda a1; lda a2; look", "edit stripe; lda b1; look"], "m1:1 m2:2 m3:3 b1:65540 a1:65541 a2:65542"),
    row("35", ALL, ["open lazy", "open"], ["smtp a1; look", "lda b1; look"], "m1:1 m2:2 m3:3 a1 b1"),
    row("36", ALL, OPEN, ["lda a1; look; expunge a1; lda a2; look", "lda b1; look"], "m1:1 m2:2 m3:3 a2 b1"),
    row("38", ALL, OPEN, ["pop", "flag m1 \\Seen"], ""),
    row("39", ALL, OPEN, ["pop; lda a1; look", "lda b1; lda b2; look"], "a1 b1 b2"),
    row("41", ALL, ["open", "open"], ["lda a1; look", "edit uid m3 2; smtp b1"], "m1:1 m2:2 m3:6 a1 b1"),
    row("42", ALL, OPEN, ["flag m1 \\Deleted", "flag m1 \\Seen"], "m1:1/DS m2:2 m3:3"),
    row("43", ALL, OPEN, ["edit lines m2; look", "lda b1; look"], "m1:1 m2:2 m3:3 b1:4"),
    row(LOCKED, ALL, ["", "open idle"], ["lock", "unlocked; lda b1; look"], "m1:1 m2:2 m3:3 b1:4"),
    row("52", ALL, ["open lazy", "open lazy idle"], ["smtp a1; look; smtp a2; look", "smtp b1; look"], "m1:1 m2:2 m3:3 a1 a2 b1"),
    // What is in one index only cannot be merged; that Dovecot goes on to show it.
    row("53", ALL, ["open lazy", "open"], ["flag m2 \\Seen", "flag m2 \\Answered"], "m1:1 m2:2? m3:3"),
    row("new on both", "", NOBODY, ["smtp a1; open; look; close", "lda b1; open; look; close"], "a1 b1"),
    row("new on one", "", NOBODY, ["", "smtp b1; smtp b2"], "b1 b2"),
];

const fn row(
    number: &'static str,
    base: &'static str,
    open: [&'static str; 2],
    apart: [&'static str; 2],
    left: &'static str,
) -> Row {
    Row {
        number,
        base,
        open,
        apart,
        left,
    }
}

impl Row {
    /// Two UIDVALIDITYs become one: a Dovecot sends such a session away, as it should. Where that may be, the session is
    /// closed before.
    fn has_session(&self, side: usize) -> bool {
        let said = [self.open[side], self.apart[side]].concat();
        said.contains("open") && !said.contains("close")
    }
}

/// Rows and the mailboxes that they are played in.
struct Cast(Vec<(String, &'static Row)>);

impl Cast {
    /// One user for each row, whose mailbox has this name.
    fn new(rows: &'static [Row], mailbox: &str) -> Self {
        let rows = rows.iter().enumerate();
        Self(
            rows.map(|(at, row)| (format!("u{:02}{mailbox}", at + 1), row))
                .collect(),
        )
    }

    /// For one side, from each row.
    fn orders(&self, of: impl Fn(&Row) -> String) -> Orders {
        self.0.iter().map(|(user, row)| (user.clone(), of(row))).collect()
    }

    /// Whoever is in IDLE is told of so many more messages without asking.
    fn look(&self, side: usize, more: usize) -> Orders {
        self.orders(|row| {
            let idle = row.open[side].contains("idle") || row.apart[side].contains("idle");
            let count = wanted(row, "").len() + more;
            match (row.has_session(side), idle) {
                (true, true) => format!("until {count}; look; fresh"),
                (true, false) => "look; fresh".into(),
                (false, _) => "fresh".into(),
            }
        })
    }

    /// From the first message to the cut, by both sides at once but for the first look: the first one gives the UIDs.
    #[track_caller]
    fn play(&self, clients: &mut [Sessions; 2], lab: &Lab) {
        let nothing = Orders::new();
        let open = |side: usize| self.orders(|row| row.open[side].into());
        at_once(clients, [&self.orders(|row| row.base.into()), &nothing]);
        at_once(clients, [&open(0), &nothing]);
        at_once(clients, [&nothing, &open(1)]);
        lab.cut_link();
        let apart = |side: usize| self.orders(|row| row.apart[side].into());
        at_once(clients, [&apart(0), &apart(1)]);
    }

    /// When all is healed: what is there, and that new mail comes on top of it.
    #[track_caller]
    fn check(&self, clients: &mut [Sessions; 2]) {
        let seen = at_once(clients, [&self.look(0, 0), &self.look(1, 0)]);
        compare(self, &seen, "healed", "");
        let (nothing, deliver) = (Orders::new(), |name: &str| self.orders(|_| format!("lda {name}")));
        at_once(clients, [&deliver("late1"), &nothing]);
        at_once(clients, [&nothing, &deliver("late2")]);
        let seen = at_once(clients, [&self.look(0, 2), &self.look(1, 2)]);
        compare(self, &seen, "with new mail", "late1 late2");
    }
}

/// `NAME:UID/FLAGS{KEYWORD,KEYWORD}`: the UID where it is the same in every run, `?` for flags that are not compared.
fn is(found: &(u64, String), wanted: &str) -> bool {
    let (wanted, lenient) = wanted.strip_suffix('?').map_or((wanted, false), |rest| (rest, true));
    let (head, flags) = wanted.find(['/', '{']).map_or((wanted, ""), |at| wanted.split_at(at));
    let (name, uid) = head.split_once(':').unwrap_or((head, ""));
    let (found_name, found_flags) = split(&found.1);
    found_name == name && (lenient || found_flags == flags) && (uid.is_empty() || uid == found.0.to_string())
}

fn split(shown: &str) -> (&str, &str) {
    shown.find(['/', '{']).map_or((shown, ""), |at| shown.split_at(at))
}

/// In order of the alphabet.
fn wanted<'a>(row: &'a Row, more: &'a str) -> Vec<&'a str> {
    let mut words: Vec<&str> = row.left.split_whitespace().chain(more.split_whitespace()).collect();
    words.sort_unstable();
    words
}

/// Every view of either host shows what must be there, and all show the same UIDs in the same order.
#[track_caller]
fn compare(cast: &Cast, seen: &[BTreeMap<String, Vec<View>>; 2], when: &str, more: &str) {
    let mut wrong = Vec::new();
    for (user, row) in &cast.0 {
        let wanted = wanted(row, more);
        let views: Vec<&View> = seen.iter().flat_map(|side| &side[user]).collect();
        let order = |view: &View| {
            view.iter()
                .map(|(uid, shown)| (*uid, split(shown).0.to_owned()))
                .collect::<Vec<_>>()
        };
        for view in &views {
            let mut sorted = view.to_vec();
            sorted.sort_by(|a, b| split(&a.1).0.cmp(split(&b.1).0));
            let all =
                sorted.len() == wanted.len() && sorted.iter().zip(&wanted).all(|(found, wanted)| is(found, wanted));
            if !all || order(view) != order(views[0]) {
                wrong.push(format!("case {} ({user}), {when}: {view:?}", row.number));
            }
        }
    }
    assert!(wrong.is_empty(), "expected something else:\n{}", wrong.join("\n"));
}

/// Lines that a Dovecot should not have had to write. One is usual after any change by another program, and repaired at
/// once (MAIL.md 6.11).
fn complaints(servers: &[MailServer; 2]) -> Vec<String> {
    let is_wrong = |line: &&str| {
        let bad = ["Error: ", "Panic: ", "Fatal: "].iter().any(|word| line.contains(word));
        bad && !line.contains("Next message unexpectedly corrupted in mbox file")
    };
    let mut found = Vec::new();
    for server in servers {
        let log = server.dovecot_log();
        found.extend(
            log.lines()
                .filter(is_wrong)
                .map(|line| format!("{}: {line}", server.host().name())),
        );
        let log = server.maillog();
        let bounced = log.lines().filter(|line| line.contains("status=bounced"));
        found.extend(bounced.map(str::to_owned));
    }
    found
}

fn inodes(node: &Node, cast: &Cast) -> BTreeMap<String, u64> {
    let stat = |user: &String| Some((user.clone(), fs::metadata(node.seen(user)).ok()?.ino()));
    cast.0.iter().filter_map(|(user, _)| stat(user)).collect()
}

fn dotlocks(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir)
        .expect("readdir")
        .map(|entry| entry.expect("an entry").file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".lock")).collect()
}

#[test]
fn mail_clients_stay_through_a_partition() {
    if !have("mail_clients_stay_through_a_partition", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let spools = [&pair.one, &pair.two].map(|node| node.spool.clone());
    let lazy = "local 127.0.0.1 {\n  mbox_lazy_writes = yes\n}\n";
    let servers = MailServer::start_both_with(&lab, &spools, lazy);
    let mut clients = servers.each_ref().map(Sessions::new);
    let cast = Cast::new(ROWS, "");
    cast.play(&mut clients, &lab);
    // Nothing but a removal makes another file of a mailbox, on either side.
    let before = [&pair.one, &pair.two].map(|node| inodes(node, &cast));
    lab.restore_link();
    let owner_dies = cast.orders(|row| if row.number == LOCKED { "die" } else { "" }.into());
    at_once(&mut clients, [&owner_dies, &Orders::new()]);
    pair.wait_whole();
    cast.check(&mut clients);
    for place in [&pair.one, &pair.two]
        .iter()
        .flat_map(|node| [&node.spool, &node.brick])
    {
        assert_eq!(dotlocks(place), Vec::<String>::new(), "case 47, in {}", place.display());
    }
    let after = [&pair.one, &pair.two].map(|node| inodes(node, &cast));
    assert_eq!(after[0], after[1]);
    for (user, row) in cast.0.iter().filter(|(_, row)| !row.base.is_empty()) {
        let known = before.iter().filter_map(|side| side.get(user));
        assert!(
            known.clone().all(|ino| after[0].get(user) == Some(ino)),
            "L10, case {}",
            row.number
        );
    }
    pair.bricks_are_equal();
    assert_eq!(complaints(&servers), Vec::<String>::new());
}

/// Maildirs in the volume, `dovecot-uidlist` and `subscriptions` with them, indexes at home.
const MAILDIR_CONF: &str = "
namespace inbox {
  inbox = yes
  separator = /
}
namespace md {
  prefix = md/
  separator = /
  location = maildir:SPOOL/md/%u:INDEX=~/md-index
}
protocol lda {
  lda_mailbox_autocreate = yes
}
";

#[rustfmt::skip] // a table
const MAILDIRS: &[Row] = &[
    row("deliveries", THREE, OPEN, ["lda a1; lda a2; look", "lda b1; look"], "m1:1 m2:2 m3:3 a1 a2 b1"),
    row("flags", THREE, OPEN, ["flag m2 \\Seen; flag m3 \\Deleted", "flag m2 \\Flagged; flag m3 \\Answered"], "m1:1 m2:2/FS m3:3/AD"),
    row("a flag less", THREE, ["open; flag m1 \\Seen; flag m1 \\Flagged", "open"], ["unflag m1 \\Flagged", "flag m1 \\Answered"], "m1:1/AS m2:2 m3:3"),
    row("expunged here, flagged there", THREE, OPEN, ["expunge m2", "flag m2 \\Seen"], "m1:1 m3:3"),
    row("flagged here, expunged there", THREE, OPEN, ["flag m2 \\Seen", "expunge m2"], "m1:1 m3:3"),
    row("expunged on both", THREE, OPEN, ["expunge m2", "expunge m2"], "m1:1 m3:3"),
    row("expunged, delivered", THREE, OPEN, ["lda a1; look; expunge a1; lda a2; look", "lda b1; look"], "m1:1 m2:2 m3:3 a2 b1"),
    row("seen on both first", THREE, NOBODY, ["open; flag m1 \\Seen", "open; flag m2 \\Seen"], "m1/S m2/S m3"),
    row("moved", THREE, OPEN, ["flag m2 \\Seen", "move m2"], "m1:1 m3:3"),
    // Each side's first keyword has the same letter in its `dovecot-keywords`; then each side's second one.
    row("keywords", THREE, OPEN, ["flag m1 Work; flag m2 Work", "flag m1 Home; flag m3 Home"], "m1:1{Home,Work} m2:2{Work} m3:3{Home}"),
    row("more keywords", THREE, ["open; flag m1 Old", "open"], ["flag m2 Work; lda a1; look; flag a1 Work", "unflag m1 Old; flag m2 Home; flag m3 Old; lda b1; look; flag b1 Home; flag b1 Old"], "m1:1 m2:2{Home,Work} m3:3{Old} a1{Work} b1{Home,Old}"),
    row("new on both", "", NOBODY, ["lda a1; open; look; close", "lda b1; open; look; close"], "a1 b1"),
];
const THREE: &str = "lda m1; lda m2; lda m3";

#[test]
fn maildirs_and_other_files_stay_whole() {
    if !have("maildirs_and_other_files_stay_whole", NEEDS) {
        return;
    }
    let lab = Lab::new();
    let pair = Pair::start(&lab);
    let spools = [&pair.one, &pair.two].map(|node| node.spool.clone());
    for user in users() {
        let dir = pair.one.seen("md").join(&user.name);
        fs::create_dir_all(&dir).expect("mkdir");
        chown(&dir, Some(user.uid), Some(user.uid)).expect("chown");
    }
    let servers = MailServer::start_both_with(&lab, &spools, MAILDIR_CONF);
    let mut clients = servers.each_ref().map(Sessions::new);
    let mut cast = Cast::new(MAILDIRS, "/md/box");
    // In a user's own directory, so that the file with the subscriptions is that of one user.
    cast.0.push(("u40/md/box".into(), &SUBSCRIPTIONS));
    before_the_cut(&pair.one);
    cast.play(&mut clients, &lab);
    while_apart(&pair);
    lab.restore_link();
    pair.wait_whole();
    cast.check(&mut clients);
    pair.bricks_are_equal();
    for node in [&pair.one, &pair.two] {
        afterwards(node);
    }
    assert_eq!(xattrs(&pair.one, &pair.one.brick), xattrs(&pair.two, &pair.two.brick));
    assert_eq!(complaints(&servers), Vec::<String>::new());
}

const SUBSCRIPTIONS: Row = row(
    "49, by Dovecot",
    "lda m1; open; subscribe md/x; subscribe md/y",
    ["", "open"],
    ["subscribe md/z", "unsubscribe md/x"],
    "m1:1",
);

fn python(node: &Node, dir: &Path, script: &str) -> String {
    let dir = dir.to_str().expect("ASCII paths");
    let script = format!("import os, sys\nos.chdir(sys.argv[1])\n{script}");
    node.host.run("python3", &["-c", &script, dir])
}

/// Extended attributes of the users, of everything below a directory, one line each.
fn xattrs(node: &Node, dir: &Path) -> String {
    let script = r#"
for dir, dirs, files in sorted(os.walk(".")):
    dirs[:] = [name for name in dirs if name not in (".mboxfs", "lost+found")]
    for path in [dir] + [os.path.join(dir, name) for name in sorted(files)]:
        for name in sorted(os.listxattr(path, follow_symlinks=False)):
            if name.startswith("user.") and not name.startswith("user.mboxfs"):
                print(os.path.normpath(path), name, os.getxattr(path, name).decode())
"#;
    let text = python(node, dir, script);
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines.join("\n")
}

/// Files that are no mailboxes, and attributes.
fn before_the_cut(node: &Node) {
    let script = r#"
open(".subscriptions", "w").write("x\ny\n")
open("old.gz", "wb").write(b"\x1f\x8b common")
open("dovecot.index.log", "w").write("common")
os.mkdir("shared")
for name in "tagged", "removed", "moved", "removed2", "moved2":
    open(name, "w").write("From s@t  Mon Nov 23 12:00:00 2026\nMessage-ID: <1@t>\n\none\n\n")
    for attr in "abcd":
        os.setxattr(name, f"user.{attr}", b"common")
"#;
    python(node, &node.spool, script);
}

fn while_apart(pair: &Pair) {
    let one = r#"
open(".subscriptions", "w").write("x\ny\nz\n")
open("old.gz", "wb").write(b"\x1f\x8b from one")
open("dovecot.index.log", "w").write("from one")
os.symlink("one", "link")
os.mkdir("box")
os.setxattr("tagged", "user.a", b"one")
os.setxattr("tagged", "user.d", b"one")
os.chmod("tagged", 0o640)
open("removed", "a").write("From s@t  Mon Nov 23 12:00:01 2026\nMessage-ID: <2@t>\n\ntwo\n\n")
os.setxattr("shared", "user.of-one", b"1")
os.unlink("moved")
os.setxattr("removed2", "user.a", b"one")
os.unlink("removed2")
os.rename("moved2", "shared/moved2")
"#;
    let two = r#"
open(".subscriptions", "w").write("y\n")
open("old.gz", "wb").write(b"\x1f\x8b from two")
open("dovecot.index.log", "w").write("from two")
os.symlink("two", "link")
open("box", "w").write("From s@t  Mon Nov 23 12:00:00 2026\nMessage-ID: <1@t>\n\none\n\n")
os.setxattr("tagged", "user.b", b"two")
os.removexattr("tagged", "user.c")
os.setxattr("tagged", "user.d", b"two")
os.chown("tagged", 20001, -1)
os.setxattr("removed", "user.a", b"two")
os.unlink("removed")
os.setxattr("shared", "user.of-two", b"2")
open("shared/new", "w").write("new")
os.setxattr("shared/new", "user.a", b"two")
os.rename("moved", "shared/moved")
open("removed2", "a").write("From s@t  Mon Nov 23 12:00:01 2026\nMessage-ID: <2@t>\n\ntwo\n\n")
os.unlink("moved2")
"#;
    // One after the other: of two changes the later one counts.
    python(&pair.one, &pair.one.spool, one);
    python(&pair.two, &pair.two.spool, two);
}

/// What a host sees.
fn afterwards(node: &Node) {
    let on = node.host.name();
    let read = |name: &str| fs::read_to_string(node.seen(name)).unwrap_or_else(|e| panic!("{name} on {on}: {e}"));
    assert_eq!(read(".subscriptions"), "y\nz\n", "case 49, on {on}");
    assert_eq!(read("md/u40/subscriptions"), "V\t2\n\ny\nz\n", "case 49, on {on}");
    let common = ["removed", "removed2", "shared/moved", "shared/moved2"];
    let mut expected: Vec<String> = ["a", "b", "c", "d"]
        .iter()
        .flat_map(|attr| common.map(|name| format!("{name} user.{attr} common")))
        .collect();
    let merged = ["shared user.of-one 1", "shared user.of-two 2", "shared/new user.a two"];
    let tagged = ["tagged user.a one", "tagged user.b two", "tagged user.d two"];
    expected.extend(merged.into_iter().chain(tagged).map(str::to_owned));
    expected.sort_unstable();
    assert_eq!(xattrs(node, &node.spool), expected.join("\n"), "{on}");
    let tagged = fs::metadata(node.seen("tagged")).expect("stat");
    assert_eq!((tagged.mode() & 0o777, tagged.uid()), (0o640, 20_001), "{on}");
    for [old, new] in [["moved", "shared/moved"], ["moved2", "shared/moved2"]] {
        assert!(read(new).contains("<1@t>") && !node.seen(old).exists(), "{old} on {on}");
    }
    for name in ["removed", "removed2"] {
        let text = read(name);
        assert!(
            text.contains("<2@t>") && !text.contains("<1@t>"),
            "{name} on {on}: {text}"
        );
    }
    assert!(!node.seen("dovecot.index.log").exists(), "case 48, on {on}");
    // Case 50: both are there, and the operator sees which one lost.
    let kept: BTreeMap<String, Vec<u8>> = fs::read_dir(node.seen(".mboxfs-conflict"))
        .expect("readdir")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| {
            let link = fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes());
            let content = link.or_else(|_| fs::read(&path)).unwrap_or_default();
            (
                path.file_name().expect("a name").to_string_lossy().into_owned(),
                content,
            )
        })
        .collect();
    let (status, info) = (node.done("heal status"), node.done("heal info"));
    for (name, [a, b]) in [
        ("old.gz", [&b"\x1f\x8b from one"[..], b"\x1f\x8b from two"]),
        ("link", [b"one", b"two"]),
    ] {
        let (lost, content) = kept.iter().find(|(kept, _)| kept.starts_with(name)).expect(name);
        let path = node.seen(name);
        let link = fs::read_link(&path).map(|to| to.into_os_string().into_encoded_bytes());
        let stays = link.unwrap_or_else(|_| fs::read(&path).expect("read"));
        assert!(
            [&stays[..], content] == [a, b] || [&stays[..], content] == [b, a],
            "{name} on {on}: {stays:?}, {content:?}"
        );
        assert!(
            status.contains(&format!("Kept twice: /.mboxfs-conflict/{lost}")),
            "{status}"
        );
        let why = match lost.split('.').nth(2) {
            Some(brick @ ("Brick1" | "Brick2")) => {
                assert_eq!(brick == "Brick1", *content == a, "{lost} on {on}");
                format!("both bricks changed it while they were apart, and this is how {brick} had it")
            }
            _ => "both bricks made something of its name while they were apart, or its directory is gone".to_owned(),
        };
        let line = format!("\nKept twice: /.mboxfs-conflict/{lost}: {why}, since 20");
        assert!(info.contains(&line), "{info}");
    }
    // A directory and a mailbox of one name.
    assert!(kept.keys().any(|name| name.starts_with("box")), "{on}: {kept:?}");
    let own = |name: &String| name.starts_with("dovecot-") || name.starts_with("subscriptions");
    assert!(!kept.keys().any(own), "{on}: {kept:?}");
}
