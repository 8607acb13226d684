//! Writers and readers on both hosts, the ledger of what they were promised, and the audit of what is there.
//!
//! Promises: `Drop` ends every process it started, by pid; a writer's or reader's complaint fails the test.
//! Not here: locks and messages (`letters.py`); real mail programs (`load`, `audit`).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use super::host::Host;
use super::pair::{Node, Pair};
use super::wait::{holds_within, wait_for};

const SCRIPT: &str = include_str!("letters.py");

/// After it was asked to stop, a process may still be in a call that waits for a brick (15 s) or a lock.
const STOP_MAX: Duration = Duration::from_secs(60);

/// What a committed change may take until it is in the plain file of a brick.
const APPLY_MAX: Duration = Duration::from_secs(10);

/// Mailboxes for each kind of lock that is taken anew for a message, and one that is appended to without any.
pub(crate) const EACH_LOCK: [(&str, &str); 5] = [
    ("fcntl", "fcntl"),
    ("flock", "flock"),
    ("create", "dotlock"),
    ("link", "link"),
    ("bare", "none"),
];

/// A test's mailboxes and who is at them.
pub(crate) struct Letters {
    /// Mailbox -> kind of lock: fcntl, range, flock, dotlock, link, none.
    boxes: BTreeMap<String, &'static str>,
    ledger: PathBuf,
    seed: u64,
    /// Whether writers take ESTALE, EAGAIN and ENOSPC for "later".
    pub(crate) later: bool,
    /// Whether a writer truncates the mailbox to its old size when a message was refused, as Postfix does.
    pub(crate) undo: bool,
    /// The largest message, in lines of 60 bytes and more.
    pub(crate) lines: u32,
    /// Part of the messages that are committed by unlocking alone.
    pub(crate) unsynced: f64,
    /// The hosts lose each other: what the one acknowledges the other one sees later.
    pub(crate) apart: bool,
    processes: Vec<Process>,
}

struct Process {
    name: String,
    child: Child,
    /// What it says before it ends.
    complaint: PathBuf,
}

impl Process {
    fn complaint(&self) -> String {
        let text = fs::read_to_string(&self.complaint).unwrap_or_default();
        format!("{}: {}", self.name, text.trim())
    }
}

/// What was promised, by mailbox.
#[derive(Default, Debug)]
pub(crate) struct Promised {
    pub(crate) tried: BTreeSet<String>,
    pub(crate) acknowledged: BTreeSet<String>,
    /// Refused, to be sent again later.
    pub(crate) later: BTreeSet<String>,
}

impl Letters {
    /// `dir` is outside the volume and shared by both hosts. Another seed has another ledger.
    pub(crate) fn new(dir: &Path, boxes: &[(&str, &'static str)], seed: u64) -> Self {
        Self {
            boxes: boxes.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
            ledger: dir.join(format!("ledger-{seed}")),
            seed,
            later: false,
            undo: false,
            lines: 200,
            unsynced: 0.0,
            apart: false,
            processes: Vec::new(),
        }
    }

    fn start(&mut self, host: &Host, spool: &Path, what: &str, count: Option<u32>) {
        let tag = format!("{}{what}{}", host.name(), self.processes.len());
        let mut plan = json!({
            "boxes": self.boxes, "spool": spool, "ledger": self.ledger, "tag": tag, "lines": self.lines,
            "later": self.later, "apart": self.apart, "undo": self.undo, "unsynced": self.unsynced, "seed": format!("{} {tag}", self.seed),
        });
        if let Some(count) = count {
            plan["count"] = json!(count);
        }
        let complaint = self.ledger.with_extension(&tag);
        let child = host
            .command("python3")
            .args(["-c", SCRIPT, what, &plan.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&complaint).expect("a file beside the ledger"))
            .spawn()
            .expect("python3 starts");
        let name = tag;
        self.processes.push(Process { name, child, complaint });
    }

    /// A writer of so many messages, or until `stop`.
    pub(crate) fn writer(&mut self, node: &Node, count: Option<u32>) {
        self.start(&node.host, &node.spool, "write", count);
    }

    /// So many writers on each host, until `stop`.
    pub(crate) fn writers(&mut self, pair: &Pair, each: usize) {
        for _ in 0..each {
            self.writer(&pair.one, None);
            self.writer(&pair.two, None);
        }
    }

    /// A reader, until `stop`.
    pub(crate) fn reader(&mut self, node: &Node) {
        self.start(&node.host, &node.spool, "read", None);
    }

    /// Waits until all writers with a count are through. They may take as long as the machine needs: one more message has to
    /// be acknowledged within each `patience`.
    pub(crate) fn wait_written(&mut self, patience: Duration) {
        let mut through = false;
        while !through {
            let before = self.acknowledged_count();
            wait_for("the writers are through, or get on", patience, || {
                let mut writers = self.processes.iter_mut().filter(|p| p.name.contains("write"));
                through = writers.all(|p| p.child.try_wait().expect("a child of ours").is_some());
                through || self.acknowledged_count() > before
            });
        }
    }

    /// Waits until so many more messages are acknowledged.
    pub(crate) fn wait_more(&self, count: usize, deadline: Duration) {
        let before = self.acknowledged_count();
        wait_for(&format!("{count} more messages are acknowledged"), deadline, || {
            self.acknowledged_count() >= before + count
        });
    }

    pub(crate) fn acknowledged_count(&self) -> usize {
        self.promised().values().map(|p| p.acknowledged.len()).sum()
    }

    /// Asks all to stop, waits for them and fails with their complaints.
    #[track_caller]
    pub(crate) fn stop(&mut self) {
        let mut complaints = Vec::new();
        for process in &mut self.processes {
            drop(process.child.stdin.take());
        }
        for mut process in std::mem::take(&mut self.processes) {
            let ended = holds_within(STOP_MAX, || !matches!(process.child.try_wait(), Ok(None)));
            if !ended {
                let _ = process.child.kill();
                complaints.push(format!("{}: does not end within {STOP_MAX:?}", process.name));
            }
            let status = process.child.wait().expect("a child of ours");
            if !status.success() {
                complaints.push(format!("{status}: {}", process.complaint()));
            }
        }
        assert!(
            complaints.is_empty(),
            "seed {}: complaints of {}:\n{}",
            self.seed,
            complaints.len(),
            complaints.join("\n")
        );
    }

    /// The ledger as it is now.
    pub(crate) fn promised(&self) -> BTreeMap<String, Promised> {
        let mut all: BTreeMap<String, Promised> = BTreeMap::new();
        let text = fs::read_to_string(&self.ledger).unwrap_or_default();
        // The last line may be in the middle of being written.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        for line in text[..whole].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            let [what, name, ident, _] = words[..] else {
                panic!("the ledger holds {line:?}")
            };
            let promised = all.entry(name.to_owned()).or_default();
            let list = match what {
                "try" => &mut promised.tried,
                "ack" => &mut promised.acknowledged,
                "later" => &mut promised.later,
                _ => panic!("the ledger holds {line:?}"),
            };
            list.insert(ident.to_owned());
        }
        all
    }

    /// Every acknowledged message is there exactly once and whole, every other one that was tried at most once, nothing
    /// else; the same in the same order on both mounts and in both bricks (L1, L2, L6, L8).
    #[track_caller]
    pub(crate) fn audit(&self, pair: &Pair) {
        let promised = self.promised();
        for (name, promised) in &promised {
            let what = format!("seed {}, mailbox {name} ({})", self.seed, self.boxes[name]);
            let [one, two] = [&pair.one, &pair.two].map(|node| list(&node.host, &node.spool.join(name)));
            assert_eq!(one, two, "{what}: what the two mounts show");
            let mut times: BTreeMap<&str, u32> = BTreeMap::new();
            for ident in &one {
                *times.entry(ident).or_default() += 1;
            }
            let lost: Vec<_> = promised
                .acknowledged
                .iter()
                .filter(|i| !times.contains_key(i.as_str()))
                .collect();
            assert!(lost.is_empty(), "{what}: acknowledged and lost: {lost:?}");
            let doubled: Vec<_> = times.iter().filter(|(_, n)| **n > 1).collect();
            assert!(doubled.is_empty(), "{what}: more than once: {doubled:?}");
            let strange: Vec<_> = times.keys().filter(|i| !promised.tried.contains(**i)).collect();
            assert!(strange.is_empty(), "{what}: nobody sent {strange:?}");
            let seen = fs::read(pair.one.seen(name)).expect("the mailbox can be read");
            for node in [&pair.one, &pair.two] {
                let place = format!(
                    "{what}: the file in the brick of {} is what the mounts show",
                    node.host.name()
                );
                wait_for(&place, APPLY_MAX, || {
                    fs::read(node.in_brick(name)).is_ok_and(|b| b == seen)
                });
            }
        }
        for node in [&pair.one, &pair.two] {
            let left: Vec<_> = fs::read_dir(node.seen(""))
                .expect("the spool can be listed")
                .map(|e| e.expect("an entry").file_name().to_string_lossy().into_owned())
                .filter(|name| name.contains(".lock") && !self.is_stray(name))
                .collect();
            assert!(
                left.is_empty(),
                "{}: locks that nobody removed: {left:?}",
                node.host.name()
            );
        }
    }

    /// The file of a link(2) lock stays on the one side of a partition if its maker has come to the other one.
    fn is_stray(&self, name: &str) -> bool {
        let of = name.split_once(".lock.").and_then(|(name, _)| self.boxes.get(name));
        self.apart && of == Some(&"link")
    }

    /// What a full disk refused is on neither copy (L11): the writer took it back and will send it again.
    #[track_caller]
    pub(crate) fn none_refused_is_there(&self, pair: &Pair) {
        for (name, promised) in self.promised() {
            let there = list(&pair.one.host, &pair.one.spool.join(&name));
            let kept: Vec<_> = there.iter().filter(|i| promised.later.contains(*i)).collect();
            assert!(kept.is_empty(), "mailbox {name}: refused and there: {kept:?}");
        }
    }
}

impl Drop for Letters {
    fn drop(&mut self) {
        // What was waited for in vain may be a writer that ended.
        for process in self.processes.iter().filter(|_| std::thread::panicking()) {
            eprintln!("{}", process.complaint());
        }
        for process in &mut self.processes {
            // An error means that it has ended already.
            let _ = process.child.kill();
            let _ = process.child.wait();
        }
    }
}

/// The messages of a file, in order. Panics if one is torn.
#[track_caller]
pub(crate) fn list(host: &Host, file: &Path) -> Vec<String> {
    let name = file.to_str().expect("test paths are ASCII");
    let text = host.run("python3", &["-c", SCRIPT, "list", name]);
    let report: Value = serde_json::from_str(&text).expect("the listing is JSON");
    let idents = report[name].as_array().expect("a list");
    idents
        .iter()
        .map(|i| i.as_str().expect("a string").to_owned())
        .collect()
}
