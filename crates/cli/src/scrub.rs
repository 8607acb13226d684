//! What is known of rot: `volume scrub NAME status`, in the order and the words of gluster's `volume bitrot NAME scrub status`.
//!
//! Not here: asking, JSON (`json`).

use crate::show::{clean, place, sides, utc};
use mboxfs_types::{
    admin::{HostState, ScrubReport, Volume},
    limits,
};
use std::fmt::Write;

const LINE: &str = "=========================================================";

/// Whole answer.
pub(crate) fn status(state: &HostState, v: &Volume) -> String {
    let mut text = format!("Volume name : {}", v.name);
    let _ = write!(
        text,
        "\nScrub impact: at most {} MiB/s, low priority\nScrub frequency: every {} days",
        limits::SCRUB_BYTES_PER_SECOND >> 20,
        limits::SCRUB_EVERY.0 / 1_000_000_000 / 86_400
    );
    for side in sides(state, v) {
        let _ = write!(text, "\n\n{LINE}\n\nNode: {}", place(side.brick));
        match side.report {
            None => text.push_str("\nState of scrub: unknown, the brick does not answer"),
            Some(report) => brick(&report.scrub, &mut text),
        }
    }
    text
}

fn brick(scrub: &ScrubReport, text: &mut String) {
    let mark = scrub.mark;
    let _ = write!(text, "\nState of scrub: {}", word(scrub));
    if mark.is_on() {
        let _ = write!(text, "\nScrubbed bytes: {} of {}", scrub.checked, scrub.bytes);
    }
    let _ = write!(text, "\nLast completed scrub time: {}", last(scrub));
    let _ = write!(text, "\nRepaired blocks since start: {}", scrub.repaired);
    let _ = write!(text, "\nError count: {}", scrub.bad.len() + scrub.quarantined.len());
    damaged(scrub, text);
}

/// Active, idle or paused.
pub(crate) fn word(scrub: &ScrubReport) -> &'static str {
    match (scrub.mark.paused, scrub.mark.is_on()) {
        (true, _) => "Paused",
        (false, true) => "Active (In Progress)",
        (false, false) => "Active (Idle)",
    }
}

/// When the last pass ended.
pub(crate) fn last(scrub: &ScrubReport) -> String {
    scrub.mark.ended.map_or_else(|| "never".to_owned(), utc)
}

/// A line for each damaged file, and for each mailbox that lost messages so.
pub(crate) fn damaged(scrub: &ScrubReport, text: &mut String) {
    for file in &scrub.bad {
        let _ = write!(
            text,
            "\nDamaged: {}: {} blocks of 64 KiB",
            clean(&file.path),
            file.blocks
        );
        if file.both > 0 {
            let _ = write!(text, ", {} of them on both bricks", file.both);
        }
    }
    for lost in &scrub.quarantined {
        let _ = write!(
            text,
            "\nQuarantined: {}: {} damaged messages are not in it, since {}\nWhat is left of them: {}",
            clean(&lost.path),
            lost.messages,
            utc(lost.since),
            clean(&lost.kept.join(" and ")),
        );
    }
    if !scrub.quarantined.is_empty() {
        text.push_str("\nRemove these files when they are dealt with.");
    }
}
