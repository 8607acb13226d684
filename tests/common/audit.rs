//! The audit after a load: every message that was promised is there, once and whole, the same at both ends.
//!
//! A1  Accepted and never flagged for expunge: there exactly once, in its own mailbox, with its body byte for byte.
//! A2  EXPUNGE answered OK: gone.
//! A3  Answer lost, or flagged only: there once and whole, or not at all.
//! A4  Nothing else is there: no message that nobody sent (a bounce, a fragment), no dotlock, no stray file.
//! A5  Every mailbox is a well-formed mbox (`scan.py`) and both spools show the same bytes.
//! A6  Both Postfix queues ran empty; nothing bounced; Dovecot met no panic and no fatal error.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::time::Duration;

use serde_json::Value;

use super::load::{Ledger, Sent};
use super::mail::MailServer;
use super::wait::holds_within;

const SCAN: &str = include_str!("scan.py");

/// How long the queues may take to run empty: some rounds of Postfix's 20 s of lock attempts.
const DRAIN_MAX: Duration = Duration::from_secs(120);

/// Violations shown before the rest is only counted.
const SHOWN_MAX: usize = 40;

/// What was found. Some of it is worth a look though it is no failure.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) accepted: usize,
    pub(crate) expunged: usize,
    /// Messages now in the mailboxes.
    pub(crate) present: usize,
    /// IMAP and POP3 sessions that ended well.
    pub(crate) visits: usize,
    /// Delivery attempts that Postfix put off: locks it did not get within 20 s, temporary errors.
    pub(crate) deferrals: usize,
    /// Commands that a server refused, or sessions that it broke off.
    pub(crate) trouble: Vec<String>,
    /// Dovecot's error lines, by kind. Two Dovecots on one mbox repair their indexes now and then (MAIL.md 3.8).
    pub(crate) dovecot_errors: BTreeMap<String, usize>,
    /// UIDs that named two messages (see `Ledger`).
    pub(crate) uid_conflicts: Vec<String>,
    pub(crate) accept_seconds_max: f64,
    /// The longest way from Postfix's queue into the mailbox, by its own `delay=`.
    pub(crate) delivery_seconds_max: f64,
}

/// One message as `scan.py` found it.
#[derive(Debug)]
struct Found {
    mailbox: String,
    sum: String,
}

/// Panics with the list of all violations, if there are any.
#[track_caller]
pub(crate) fn audit(servers: [&MailServer; 2], ledger: &Ledger) -> Report {
    let (report, bad) = inspect(servers, ledger);
    assert!(
        bad.is_empty(),
        "the audit found {} violations:\n{}{report:#?}",
        bad.len(),
        shown(&bad)
    );
    report
}

/// Waits for the queues, reads both spools through their own hosts, compares them with the ledger and returns what was
/// found, and all violations, one line each.
#[track_caller]
pub(crate) fn inspect(servers: [&MailServer; 2], ledger: &Ledger) -> (Report, Vec<String>) {
    let mut bad: Vec<String> = ledger.wrong.clone();
    for server in servers {
        let mut queue = Vec::new();
        let mut empty = 0;
        // Postfix lists one directory of its queue after the other: what moves into one that it has passed is in none. The
        // next look finds it there.
        let drained = holds_within(DRAIN_MAX, || {
            queue = server.queue();
            empty = if queue.is_empty() { empty + 1 } else { 0 };
            empty == 2
        });
        if !drained {
            bad.push(format!(
                "{}: still queued after {DRAIN_MAX:?}: {queue:?}",
                server.host().name()
            ));
        }
    }
    let scans = servers.map(scan);
    compare_spools(&scans, &mut bad);
    let found = list(&scans[0]);
    compare_ledger(ledger, &found, &mut bad);
    for server in servers {
        check_logs(server, &mut bad);
    }
    (summary(servers, ledger, &found), bad)
}

#[track_caller]
fn scan(server: &MailServer) -> Value {
    let spool = server.spool().display().to_string();
    let text = server.host().run("/usr/bin/python3", &["-c", SCAN, &spool]);
    serde_json::from_str(&text).expect("scan.py prints JSON")
}

/// A5, and the part of A4 that concerns whole files.
fn compare_spools(scans: &[Value; 2], bad: &mut Vec<String>) {
    let [first, second] = scans.each_ref().map(mailboxes);
    for (host, boxes) in [("h1", &first), ("h2", &second)] {
        for (name, mailbox) in boxes {
            for problem in mailbox["problems"].as_array().into_iter().flatten() {
                bad.push(format!("{host}: {name}: {problem}"));
            }
        }
    }
    let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
    for name in names {
        let bytes =
            [&first, &second].map(|boxes| boxes.get(name).map(|mailbox| (&mailbox["size"], &mailbox["sha256"])));
        if bytes[0] != bytes[1] {
            bad.push(format!("{name}: h1 and h2 show different bytes: {bytes:?}"));
        }
    }
}

/// A1 to A4.
fn compare_ledger(ledger: &Ledger, found: &BTreeMap<String, Vec<Found>>, bad: &mut Vec<String>) {
    for (ident, sent) in &ledger.sent {
        let places = found.get(ident).map(Vec::as_slice).unwrap_or_default();
        let wanted = if ledger.expunged.contains(ident) {
            0..=0
        } else if !sent.accepted || ledger.undecided.contains(ident) {
            0..=1
        } else {
            1..=1
        };
        if !wanted.contains(&places.len()) {
            bad.push(format!(
                "{ident} for {}: {} times instead of {wanted:?}",
                sent.user,
                places.len()
            ));
        }
        bad.extend(places.iter().filter_map(|place| misplaced(ident, sent, place)));
    }
    for (ident, places) in found.iter().filter(|(ident, _)| !ledger.sent.contains_key(*ident)) {
        bad.push(format!("{ident}: nobody sent it, yet it is there: {places:?}"));
    }
}

fn misplaced(ident: &str, sent: &Sent, place: &Found) -> Option<String> {
    if place.mailbox != sent.user {
        return Some(format!("{ident}: in {} instead of {}", place.mailbox, sent.user));
    }
    (place.sum != sent.sum).then(|| format!("{ident}: its body in {} is not what was sent", place.mailbox))
}

/// The logs' part of A6.
fn check_logs(server: &MailServer, bad: &mut Vec<String>) {
    let host = server.host().name();
    let (maillog, dovecot_log) = (server.maillog(), server.dovecot_log());
    if maillog.is_empty() {
        bad.push(format!("{host}: no maillog: what Postfix did cannot be checked"));
    }
    let not_allowed = ["status=bounced", "status=expired", "fatal:", "panic:", ": error:"];
    bad.extend(lines_with(&maillog, &not_allowed).map(|line| format!("{host}: maillog: {line}")));
    bad.extend(lines_with(&dovecot_log, &["Panic:", "Fatal:"]).map(|line| format!("{host}: dovecot: {line}")));
}

fn summary(servers: [&MailServer; 2], ledger: &Ledger, found: &BTreeMap<String, Vec<Found>>) -> Report {
    let maillogs = servers.map(MailServer::maillog);
    let delays = maillogs
        .iter()
        .flat_map(|log| lines_with(log, &["status=sent"]))
        .filter_map(|line| {
            let (_, rest) = line.split_once(" delay=")?;
            rest.split(',').next()?.parse::<f64>().ok()
        });
    Report {
        accepted: ledger.accepted_count(),
        expunged: ledger.expunged.len(),
        present: found.values().map(Vec::len).sum(),
        visits: ledger.visits,
        deferrals: maillogs
            .iter()
            .flat_map(|log| lines_with(log, &["status=deferred"]))
            .count(),
        trouble: ledger.trouble.clone(),
        dovecot_errors: error_kinds(servers),
        uid_conflicts: ledger.uid_conflicts.clone(),
        accept_seconds_max: ledger.accept_seconds_max,
        delivery_seconds_max: delays.fold(0.0, f64::max),
    }
}

/// Dovecot's error lines without what differs from one to the next: time, process, numbers, paths.
fn error_kinds(servers: [&MailServer; 2]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for log in servers.map(MailServer::dovecot_log) {
        for text in log.lines().filter_map(|line| Some(line.split_once("Error: ")?.1)) {
            let words = text
                .split(' ')
                .map(|word| if word.starts_with('/') { "PATH" } else { word });
            let kind = words
                .collect::<Vec<_>>()
                .join(" ")
                .replace(|c: char| c.is_ascii_digit(), "#");
            *kinds.entry(kind).or_default() += 1;
        }
    }
    kinds
}

fn mailboxes(scan: &Value) -> BTreeMap<String, Value> {
    scan.as_object()
        .into_iter()
        .flatten()
        .map(|(name, mailbox)| (name.clone(), mailbox.clone()))
        .collect()
}

fn list(scan: &Value) -> BTreeMap<String, Vec<Found>> {
    let mut found: BTreeMap<String, Vec<Found>> = BTreeMap::new();
    for (mailbox, content) in mailboxes(scan) {
        for message in content["messages"].as_array().into_iter().flatten() {
            let word = |key: &str| message[key].as_str().unwrap_or_default().to_owned();
            found.entry(word("id")).or_default().push(Found {
                mailbox: mailbox.clone(),
                sum: word("sum"),
            });
        }
    }
    found
}

fn lines_with<'a>(log: &'a str, words: &'a [&str]) -> impl Iterator<Item = &'a str> {
    log.lines().filter(|line| words.iter().any(|word| line.contains(word)))
}

fn shown(bad: &[String]) -> String {
    let mut text = String::new();
    for line in bad.iter().take(SHOWN_MAX) {
        writeln!(text, "  {line}").expect("a String takes all");
    }
    if bad.len() > SHOWN_MAX {
        writeln!(text, "  ... and {} more", bad.len() - SHOWN_MAX).expect("a String takes all");
    }
    text
}
