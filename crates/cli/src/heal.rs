//! `heal status`, which is ours, and `volume heal NAME info`, which is gluster's (RIVALS.md 1.1).
//!
//! Promises: counts are the bricks' own, at the moment of the answer; why a file is behind is said with it.
//! Not here: asking again and again (`watch`), JSON (`json`).

use crate::scrub;
use crate::show::{Side, clean, is_good, place, sides, silence, trouble, utc, words};
use mboxfs_types::{
    Nanos,
    admin::{BrickReport, Healing, HostState, KeptTwice, ResyncReport, Volume},
};
use std::{collections::BTreeSet, fmt::Write};

/// Columns of a progress bar.
const BAR: u64 = 20;

/// A file that is not the same on both bricks, and why.
pub(crate) struct Behind<'a> {
    pub(crate) path: &'a str,
    pub(crate) why: String,
    /// It is being healed at this moment.
    pub(crate) busy: bool,
}

/// How many files of a brick are in which state.
pub(crate) struct Counts {
    pub(crate) pending: u64,
    pub(crate) healing: u64,
    pub(crate) merged: u64,
    /// With blocks that do not fit their checksums, or that lost messages to such.
    pub(crate) quarantined: u64,
}

/// What one brick has to heal, in order of names; a report holds the first 1000.
pub(crate) fn behind<'a>(side: &Side<'a>) -> Vec<Behind<'a>> {
    let Some(report) = side.report else { return Vec::new() };
    let own: BTreeSet<&str> = pending(report).iter().map(String::as_str).collect();
    let theirs: BTreeSet<&str> = to_merge(report).iter().map(String::as_str).collect();
    let away = report
        .peer_away
        .as_ref()
        .map_or_else(String::new, |a| format!(": {}", a.why));
    let why = |path: &str| match (own.contains(path), theirs.contains(path)) {
        (true, true) => "changed on both bricks while they were apart".to_owned(),
        (false, _) => "changed on the other brick while they were apart".to_owned(),
        (true, false) => format!("changed while the other brick was away{away}"),
    };
    let is_busy = |path: &str| match &report.healing {
        Some(h) if h.merges => h.at == path,
        Some(_) => own.contains(path),
        None => false,
    };
    let all = own.union(&theirs);
    all.map(|path| Behind {
        path,
        why: why(path),
        busy: is_busy(path),
    })
    .collect()
}

/// Files of the debt; none if there is none any more.
fn pending(report: &BrickReport) -> &[String] {
    if report.debt_records == 0 {
        &[]
    } else {
        &report.debt_files
    }
}

fn to_merge(report: &BrickReport) -> &[String] {
    report.healing.as_ref().map_or(&[], |h| &h.left)
}

/// Exact, also where there are more names than a report holds.
pub(crate) fn counts(report: &BrickReport) -> Counts {
    let own = if report.debt_records == 0 {
        0
    } else {
        report.files_pending
    };
    let (pending, healing) = match &report.healing {
        Some(h) if h.merges => {
            let known: BTreeSet<&String> = pending(report).iter().collect();
            let more = h.left.iter().filter(|f| !known.contains(f)).count() as u64;
            ((own + more).saturating_sub(1), u64::from(h.done < h.total))
        }
        Some(_) => (0, own),
        None => (own, 0),
    };
    Counts {
        pending,
        healing,
        merged: report.merged,
        quarantined: (report.scrub.bad.len() + report.scrub.quarantined.len()) as u64,
    }
}

/// Things done in a second so far, and the seconds that the rest takes at this rate, if there is a rate.
pub(crate) fn rate(healing: &Healing) -> (f64, Option<u64>) {
    let seconds = healing.elapsed.0 as f64 / 1e9;
    let rate = if seconds > 0.0 {
        healing.done as f64 / seconds
    } else {
        0.0
    };
    let rest = healing.total.saturating_sub(healing.done) as f64;
    (rate, (rate > 0.0).then(|| (rest / rate).ceil() as u64))
}

/// One line of progress.
fn progress(healing: &Healing, bar: bool) -> String {
    let (verb, things) = if healing.merges {
        ("Merging", "files")
    } else {
        ("Sending", "records")
    };
    let (rate, left) = rate(healing);
    let mut text = format!("{verb}: ");
    if bar {
        let full = (healing.done * BAR).checked_div(healing.total).unwrap_or(BAR).min(BAR);
        let (full, rest) = (full as usize, (BAR - full) as usize);
        let _ = write!(text, "[{}{}] ", "#".repeat(full), "-".repeat(rest));
    }
    let _ = write!(
        text,
        "{} of {} {things}, {rate:.1} per second",
        healing.done, healing.total
    );
    if let Some(left) = left {
        let _ = write!(text, ", {left} s left");
    }
    if !healing.at.is_empty() {
        let _ = write!(text, ", now {}", clean(&healing.at));
    }
    text
}

/// A brick that gets the files of its peer.
fn copying(r: &ResyncReport) -> String {
    const MIB: f64 = (1 << 20) as f64;
    let mib = |bytes: u64| bytes as f64 / MIB;
    let secs = |t: Nanos| t.0 as f64 / 1e9;
    let left = r
        .left()
        .map_or_else(|| "unknown".to_owned(), |t| format!("{:.0} s", secs(t)));
    format!(
        "Copying: {} of {} files, {:.1} of {:.1} MiB compared, {:.1} MiB copied, {:.1} MiB/s, time left: {left}",
        r.files_done,
        r.files,
        mib(r.bytes_done),
        mib(r.bytes),
        mib(r.copied),
        mib(r.bytes_done) / secs(r.elapsed).max(0.001),
    )
}

/// Copies that did not become the file, each once: both bricks have the same.
fn kept_twice<'a>(sides: &[Side<'a>]) -> BTreeSet<&'a KeptTwice> {
    let reports = sides.iter().filter_map(|s| s.report);
    reports.flat_map(|r| &r.conflicts).collect()
}

pub(crate) fn why_twice(kept: &KeptTwice) -> String {
    kept.of.map_or_else(
        || "both bricks made something of its name while they were apart, or its directory is gone".to_owned(),
        |brick| {
            let n = brick.index() + 1;
            format!("both bricks changed it while they were apart, and this is how Brick{n} had it")
        },
    )
}

/// `heal status`. `bar`: for a terminal that is drawn anew.
pub(crate) fn status(state: &HostState, v: &Volume, bar: bool) -> String {
    let sides = sides(state, v);
    let good = sides.iter().all(|s| s.report.is_some_and(is_good));
    let verdict = if good { "healthy" } else { "degraded" };
    let mut text = format!("Volume {}: {verdict}", v.name);
    for (i, side) in sides.iter().enumerate() {
        let _ = write!(text, "\n\nBrick {}", place(side.brick));
        let Some(report) = side.report else {
            let _ = write!(text, "\nStatus: {}\nOn one copy only: unknown", silence(side));
            if let Some(why) = trouble(side, &sides[1 - i]) {
                let _ = write!(text, "\nTrouble: {why}");
            }
            continue;
        };
        let n = counts(report);
        let _ = write!(
            text,
            "\nStatus: Connected, {}\nOn one copy only: {} messages, {} bytes in {} records\n\
             Mailboxes: {} pending, {} healing, {} merged, {} quarantined\nLast scrub: {}",
            words(report.status),
            report.debt_messages,
            report.debt_bytes,
            report.debt_records,
            n.pending,
            n.healing,
            n.merged,
            n.quarantined,
            scrub::last(&report.scrub),
        );
        scrub::damaged(&report.scrub, &mut text);
        if let Some(healing) = &report.healing {
            let _ = write!(text, "\n{}", progress(healing, bar));
        }
        if let Some(resync) = &report.resync {
            let _ = write!(text, "\n{}", copying(resync));
        }
        for file in behind(side) {
            let _ = write!(text, "\n{}: {}", clean(file.path), clean(&file.why));
        }
    }
    for (i, kept) in kept_twice(&sides).into_iter().enumerate() {
        let gap = if i == 0 { "\n" } else { "" };
        let _ = write!(text, "{gap}\nKept twice: {}", clean(&kept.path));
    }
    text
}

/// gluster's list, and behind it what gluster would not have.
pub(crate) fn info(state: &HostState, v: &Volume) -> String {
    let mut text = entries(state, v);
    let kept = kept_twice(&sides(state, v));
    for one in &kept {
        let _ = write!(
            text,
            "\nKept twice: {}: {}, since {}",
            clean(&one.path),
            why_twice(one),
            utc(one.since)
        );
    }
    if !kept.is_empty() {
        text.push_str("\nTake what is needed from these and remove them, through a mount.");
    }
    text
}

fn entries(state: &HostState, v: &Volume) -> String {
    per_brick(state, v, |side, report| {
        let files = behind(side);
        let mut text = String::new();
        for file in &files {
            let busy = if file.busy { " - Possibly undergoing heal" } else { "" };
            let _ = writeln!(text, "{}{busy}", clean(file.path));
        }
        let damaged = report.scrub.bad.iter().map(|file| (&file.path, "damaged"));
        let quarantined = report.scrub.quarantined.iter().map(|q| (&q.path, "quarantined"));
        let mut entries = files.len();
        for (path, what) in damaged.chain(quarantined) {
            let _ = writeln!(text, "{} - Is {what}", clean(path));
            entries += 1;
        }
        text + &format!("Status: Connected\nNumber of entries: {entries}\n")
    })
}

/// gluster's counts.
pub(crate) fn summary(state: &HostState, v: &Volume) -> String {
    per_brick(state, v, |_, report| {
        let n = counts(report);
        format!(
            "Status: Connected\nTotal Number of entries: {}\nNumber of entries in heal pending: {}\n\
             Number of entries in split-brain: 0\nNumber of entries possibly healing: {}\n",
            n.pending + n.healing,
            n.pending,
            n.healing
        )
    })
}

/// There is none: what differs is merged.
pub(crate) fn split_brain(state: &HostState, v: &Volume) -> String {
    per_brick(state, v, |_, _| {
        "Status: Connected\nNumber of entries in split-brain: 0\n".to_owned()
    })
}

fn per_brick(state: &HostState, v: &Volume, each: impl Fn(&Side<'_>, &BrickReport) -> String) -> String {
    let mut text = String::new();
    for side in sides(state, v) {
        let said = side.report.map_or_else(
            || format!("Status: {}\nNumber of entries: -\n", silence(&side)),
            |report| each(&side, report),
        );
        let _ = writeln!(text, "Brick {}\n{said}", place(side.brick));
    }
    text.pop(); // `say` ends the last line
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{alone, serving};
    use mboxfs_types::{
        BrickId, Timestamp,
        admin::{Phase, Quarantined, Status},
    };

    fn merging() -> HostState {
        let mut state = serving(Phase::Started, Some((Status::Solo, Status::Diverged)));
        let report = state.report.as_mut().unwrap();
        (report.debt_records, report.debt_messages, report.debt_bytes) = (2, 1, 700);
        report.debt_files = vec!["/alice".into(), "/bob".into()];
        report.files_pending = 2;
        report.merged = 4;
        report.healing = Some(Healing {
            merges: true,
            elapsed: Nanos::from_millis(2000),
            done: 5,
            total: 7,
            at: "/bob".into(),
            left: vec!["/bob".into(), "/carol".into()],
        });
        state
    }

    fn shown(state: &HostState, show: impl Fn(&HostState, &Volume) -> String) -> String {
        show(state, &state.volume.as_ref().unwrap().0)
    }

    #[test]
    fn a_merge_is_seen_while_it_goes_on() {
        let text = shown(&merging(), |s, v| status(s, v, false));
        let brick = text.split("\n\n").nth(1).unwrap();
        assert_eq!(
            brick,
            "\
Brick H1:/glusterfs/vol0
Status: Connected, alone
On one copy only: 1 messages, 700 bytes in 2 records
Mailboxes: 2 pending, 1 healing, 4 merged, 0 quarantined
Last scrub: never
Merging: 5 of 7 files, 2.5 per second, 1 s left, now /bob
/alice: changed while the other brick was away
/bob: changed on both bricks while they were apart
/carol: changed on the other brick while they were apart"
        );
        let bar = shown(&merging(), |s, v| status(s, v, true));
        assert!(bar.contains("\nMerging: [##############------] 5 of 7 files"), "{bar}");
    }

    #[test]
    fn what_was_taken_out_is_told_until_it_is_dealt_with() {
        let mut state = serving(Phase::Started, Some((Status::Normal, Status::Normal)));
        assert!(shown(&state, |s, v| status(s, v, false)).starts_with("Volume gVol0: healthy"));
        state.report.as_mut().unwrap().scrub.quarantined = vec![Quarantined {
            path: "/al\u{1b}ice".into(),
            messages: 1,
            since: Timestamp { secs: 0, nanos: 0 },
            kept: vec!["/.mboxfs-conflict/alice.damaged-1.7.Brick1".into()],
        }];
        let text = shown(&state, |s, v| status(s, v, false));
        assert!(text.starts_with("Volume gVol0: degraded"), "{text}");
        assert!(text.contains(", 1 quarantined\n"), "{text}");
        assert!(
            text.contains(
                "\nQuarantined: /al\\u{1b}ice: 1 damaged messages are not in it, since 1970-01-01 00:00:00 UTC\n\
                 What is left of them: /.mboxfs-conflict/alice.damaged-1.7.Brick1\nRemove these files"
            ),
            "{text}"
        );
        let info = shown(&state, info);
        assert!(
            info.contains("\n/al\\u{1b}ice - Is quarantined\nStatus: Connected\nNumber of entries: 1\n"),
            "{info}"
        );
    }

    #[test]
    fn what_was_kept_twice_is_shown_once() {
        let mut state = serving(Phase::Started, Some((Status::Normal, Status::Normal)));
        let since = Timestamp { secs: 0, nanos: 0 };
        let kept = |path: &str, of| KeptTwice {
            path: path.into(),
            of,
            since,
        };
        let all = vec![
            kept("/.mboxfs-conflict/a.Brick2.7", Some(BrickId::B)),
            kept("/.mboxfs-conflict/b\u{1b}.1", None),
        ];
        state.report.as_mut().unwrap().conflicts.clone_from(&all);
        let peer = state.peers[0].state.as_mut().unwrap();
        peer.report.as_mut().unwrap().conflicts = all;
        let text = shown(&state, |s, v| status(s, v, false));
        assert!(text.starts_with("Volume gVol0: healthy"), "{text}");
        assert!(
            text.ends_with("\n\nKept twice: /.mboxfs-conflict/a.Brick2.7\nKept twice: /.mboxfs-conflict/b\\u{1b}.1"),
            "{text}"
        );
        let text = shown(&state, info);
        let (list, twice) = text.split_once("\n\nKept twice: ").unwrap();
        assert!(list.ends_with("\nNumber of entries: 0"), "{text}");
        assert_eq!(
            twice,
            "\
/.mboxfs-conflict/a.Brick2.7: both bricks changed it while they were apart, and this is how Brick2 had it, since 1970-01-01 00:00:00 UTC
Kept twice: /.mboxfs-conflict/b\\u{1b}.1: both bricks made something of its name while they were apart, or its directory is gone, since 1970-01-01 00:00:00 UTC
Take what is needed from these and remove them, through a mount."
        );
    }

    #[test]
    fn gluster_would_say_it_so() {
        let info = shown(&merging(), info);
        assert!(
            info.starts_with("Brick H1:/glusterfs/vol0\n/alice\n/bob - Possibly undergoing heal\n/carol\nStatus: Connected\nNumber of entries: 3\n"),
            "{info}"
        );
        let summary = shown(&alone(), summary);
        assert_eq!(
            summary,
            "\
Brick H1:/glusterfs/vol0
Status: Connected
Total Number of entries: 2
Number of entries in heal pending: 2
Number of entries in split-brain: 0
Number of entries possibly healing: 0

Brick H2:/glusterfs/vol0
Status: Transport endpoint is not connected
Number of entries: -
"
        );
        let split = shown(&merging(), split_brain);
        assert!(
            split.starts_with("Brick H1:/glusterfs/vol0\nStatus: Connected\nNumber of entries in split-brain: 0\n")
        );
    }

    #[test]
    fn a_catch_up_counts_its_records() {
        let mut state = alone();
        let report = state.report.as_mut().unwrap();
        report.healing = Some(Healing {
            merges: false,
            elapsed: Nanos::from_millis(0),
            done: 0,
            total: 0,
            at: String::new(),
            left: Vec::new(),
        });
        let text = shown(&state, |s, v| status(s, v, true));
        assert!(
            text.contains("\nMailboxes: 0 pending, 2 healing, 0 merged, 0 quarantined\n"),
            "{text}"
        );
        assert!(
            text.contains("\nSending: [####################] 0 of 0 records, 0.0 per second\n"),
            "{text}"
        );
    }
}
