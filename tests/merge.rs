//! Merged mailboxes as two real Dovecots see them, whose indexes and clients remember what was before the merge.
//!
//! The cases are those of `crates/mbox/tests/cases.txt` that have a D behind their number. Dovecot's mail access needs no
//! daemon: doveadm opens the mailbox by itself, under a configuration and a home of its own for each side.

#[allow(dead_code, reason = "each test program uses its own part of the rig")]
mod common {
    pub(crate) mod need;
}
#[path = "../crates/mbox/tests/common/notation.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod notation;

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use common::need::{Need, have};
use mboxfs_mbox::index::Index;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{Input, plan};
use notation::{Row, carry_out, describe, index};

/// UIDs and Message-IDs, in the order of the mailbox.
type List = Vec<(u32, String)>;

/// One Dovecot with its mailbox, and what its client knows.
struct Side {
    dir: PathBuf,
    known: BTreeMap<u32, String>,
    validity: u32,
    /// Counts the changes, so that each has an mtime of its own: Dovecot compares whole seconds.
    changes: u64,
}

impl Side {
    fn new(dir: &Path) -> Self {
        fs::create_dir(dir).expect("mkdir in an own dir");
        for file in ["box", "log"] {
            fs::write(dir.join(file), "").expect("write in an own dir");
            fs::set_permissions(dir.join(file), Permissions::from_mode(0o666)).expect("chmod in an own dir");
        }
        fs::set_permissions(dir, Permissions::from_mode(0o777)).expect("chmod in an own dir");
        let text = dir.display();
        let conf = format!(
            "base_dir = {text}/run\nstate_dir = {text}/run\nlog_path = {text}/log\nprotocols = imap\nssl = no\n\
             mail_location = mbox:~/mail:INBOX={text}/box\nmbox_write_locks = fcntl\nmbox_lazy_writes = no\n"
        );
        fs::write(dir.join("conf"), conf).expect("write in an own dir");
        Self {
            dir: dir.to_owned(),
            known: BTreeMap::new(),
            validity: 0,
            changes: 0,
        }
    }

    fn read(&self) -> Option<Vec<u8>> {
        fs::read(self.dir.join("box")).ok()
    }

    /// As a heal does it: the same inode, another mtime.
    fn write(&mut self, bytes: &[u8]) {
        let path = self.dir.join("box");
        fs::write(&path, bytes).expect("write in an own dir");
        fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("chmod in an own dir");
        self.changes += 1;
        let time = SystemTime::now() - Duration::from_secs(1000) + Duration::from_secs(10 * self.changes);
        File::options()
            .write(true)
            .open(&path)
            .and_then(|file| file.set_modified(time))
            .expect("utimens");
    }

    fn doveadm(&self, args: &[&str]) -> String {
        let user = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "doveadm",
            "-f",
            "tab",
            "-c",
        ];
        let mut command = Command::new("setpriv");
        command.args(user).arg(self.dir.join("conf")).args(args);
        let output = command
            .env("HOME", &self.dir)
            .env("USER", "nobody")
            .output()
            .expect("setpriv starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let wrong = said.lines().find(|line| is_wrong(line));
        assert!(output.status.success() && wrong.is_none(), "doveadm {args:?}: {said}");
        String::from_utf8(output.stdout).expect("ASCII")
    }

    /// What a client sees now.
    fn list(&self) -> (u32, List) {
        let status = self.doveadm(&["mailbox", "status", "uidvalidity", "INBOX"]);
        let validity = status.split_whitespace().last().and_then(|word| word.parse().ok());
        // Dovecot has the header in its cache, the body it has to read: both must be of one message.
        let text = self.doveadm(&["fetch", "uid hdr.message-id body", "mailbox", "INBOX", "all"]);
        let message = |line: &str| {
            let mut columns = line.split('\t');
            let mut next = || columns.next().expect("three columns");
            let (uid, header, body) = (next(), next(), next());
            let is_this = format!("this is {}", header.trim_matches(['<', '>']).trim_end_matches("@t"));
            let name = if body.starts_with(&is_this) {
                header.into()
            } else {
                format!("{header} with {body}")
            };
            (uid.parse().expect("a UID"), name)
        };
        (
            validity.expect("a number"),
            text.lines()
                .skip(1)
                .filter(|line| line.contains("\tthis is "))
                .map(message)
                .collect(),
        )
    }

    /// A client looks, and remembers.
    fn observe(&mut self) {
        let (validity, list) = self.list();
        if validity != self.validity {
            self.known.clear();
        }
        self.validity = validity;
        self.known.extend(list);
    }

    /// What a client that remembers would find wrong with what it sees now.
    fn complaints(&self) -> Vec<String> {
        let (validity, list) = self.list();
        let mut wrong = Vec::new();
        let highest = self.known.keys().next_back().copied().unwrap_or(0);
        for (uid, name) in list.iter().filter(|_| validity == self.validity) {
            match self.known.get(uid) {
                Some(known) if known != name => wrong.push(format!("UID {uid} was {known}, now is {name}")),
                None if !self.known.values().any(|known| known == name) && *uid <= highest => {
                    wrong.push(format!("{name} is new, with UID {uid}, but {highest} was known"));
                }
                _ => {}
            }
        }
        let log = fs::read_to_string(self.dir.join("log")).expect("the log can be read");
        wrong.extend(log.lines().filter(|line| is_wrong(line)).map(str::to_owned));
        wrong
    }
}

/// One line is usual after any change by another program, and repaired at once (MAIL.md 6.11): Dovecot looks for the next
/// message where it was before.
fn is_wrong(line: &str) -> bool {
    line.contains(": ") && !line.contains("Next message unexpectedly corrupted in mbox file")
}

/// Both sides of a row after each Dovecot has seen the ancestor, then its own side; and the ancestor.
fn live(row: &Row, dir: &Path) -> ([Side; 2], Option<Manifest>) {
    let mut sides = ["a", "b"].map(|name| Side::new(&dir.join(name)));
    let mut ancestor = None;
    if let Some(base) = &row.base {
        for side in &mut sides {
            side.write(&base.render());
            side.observe();
        }
        let files = sides.each_ref().map(|side| index(&side.read().expect("a mailbox")));
        assert_eq!(files[0], files[1], "both Dovecots make the same of the ancestor");
        ancestor = Some(Manifest::of(&files[0]));
    }
    for (at, side) in sides.iter_mut().enumerate() {
        let wanted = &row.sides[at];
        if wanted.absent {
            fs::remove_file(side.dir.join("box")).expect("unlink");
            continue;
        }
        side.write(&row.files[at]);
        if !wanted.unobserved {
            side.observe();
        }
    }
    (sides, ancestor)
}

/// Merges what the Dovecots left, and lets both look. `expected` of the row holds if they left the UIDs alone.
fn play(number: &str, row: &Row) {
    let dir = temp_dir();
    let (mut sides, ancestor) = live(row, dir.path());
    let files = sides.each_ref().map(Side::read);
    let indexes = files.each_ref().map(|file| file.as_deref().map(index));
    let input = |at: usize| Input {
        observed: !row.sides[at].unobserved,
        appended: row.sides[at].appended,
        ..Input::new(indexes[at].as_ref())
    };
    let plan = plan(ancestor.as_ref(), &input(0), &input(1), 0).expect("mailboxes");
    let [left, right] = files.each_ref().map(|file| file.as_deref().unwrap_or_default());
    let merged = carry_out(&plan, left, right);
    let mut lists = Vec::new();
    for side in &mut sides {
        side.write(&merged);
        assert_eq!(side.complaints(), Vec::<String>::new(), "case {number}");
        lists.push(side.list());
    }
    assert_eq!(lists[0], lists[1], "case {number}: both see the same");
    let planned: Vec<u32> = plan.entries.iter().map(|entry| entry.uid.unwrap_or(0)).collect();
    let seen: Vec<u32> = lists[0].1.iter().map(|(uid, _)| *uid).collect();
    assert_eq!(seen, planned, "case {number}: Dovecot takes the UIDs as they are");
    let uids = |index: &Index| index.entries().map(|entry| entry.uid).collect::<Vec<_>>();
    let untouched = |at: usize| {
        indexes[at]
            .as_ref()
            .is_none_or(|now| uids(now) == uids(&index(&row.files[at])))
    };
    if untouched(0) && untouched(1) {
        assert_eq!(
            names(&describe(&merged, &[left, right])),
            names(&row.expected),
            "case {number}"
        );
    }
}

/// `m1:1 m2:2` of a description: Dovecot marks messages as old, which the table does not tell.
fn names(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .filter(|word| word.contains(':'))
        .map(|word| word.split(['/', '{']).next().unwrap_or(word))
        .collect()
}

fn temp_dir() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a temp dir");
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod of an own dir");
    dir
}

#[test]
fn dovecot_agrees() {
    if !have("dovecot_agrees", &[Need::Root, Need::Mailers]) {
        return;
    }
    let rows = include_str!("../crates/mbox/tests/cases.txt")
        .lines()
        .filter_map(|line| line.split_once('|'));
    let mut played = 0;
    for (number, row) in rows.filter(|(number, _)| number.trim_end().ends_with('D')) {
        play(number.trim(), &Row::parse(row));
        played += 1;
    }
    assert!(played >= 9, "{played} cases were found");
}

/// Case 54: the same eyes see what is wrong with the two files put one behind the other.
#[test]
fn dovecot_shows_what_a_concatenation_breaks() {
    if !have(
        "dovecot_shows_what_a_concatenation_breaks",
        &[Need::Root, Need::Mailers],
    ) {
        return;
    }
    let dir = temp_dir();
    let (mut sides, _) = live(&Row::parse(" | = a1:4 a2:5 L5 | = b1:4 L4 | "), dir.path());
    let naive = Row::parse(" | = a1:4 a2:5 b1:4 L5 | = | ").files[0].clone();
    sides[1].write(&naive);
    let complaints = sides[1].complaints();
    assert!(
        complaints
            .iter()
            .any(|said| said.starts_with("UID 4 was <b1@t>, now is <b1@t> with this is a1")),
        "{complaints:?}"
    );
}

/// Why the bound of case 30 counts messages with a bad X-UID: Dovecot gives the one that does not ascend a new UID.
#[test]
fn dovecot_renumbers_what_does_not_ascend() {
    if !have("dovecot_renumbers_what_does_not_ascend", &[Need::Root, Need::Mailers]) {
        return;
    }
    let dir = temp_dir();
    let (sides, _) = live(&Row::parse(" | m1:1 m3:3 m2:2 | m1:1 m2:2 m3:2 x1 | "), dir.path());
    let uids = |side: &Side| side.list().1.into_iter().map(|(uid, _)| uid).collect::<Vec<_>>();
    assert_eq!(uids(&sides[0]), [1, 3, 4]);
    assert_eq!(uids(&sides[1]), [1, 2, 4, 5]);
}
