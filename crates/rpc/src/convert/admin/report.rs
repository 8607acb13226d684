//! What a brick reports of itself, both ways.
//!
//! Promises: as `admin`. Not here: what is asked and done (`admin`), its scrub (`scrub`).

use super::super::{Invalid, base, need, try_list};
use super::{LIST_MAX, Result, cut, require, text};
use crate::wire as w;
use mboxfs_types::Nanos;
use mboxfs_types::admin::{Away, BrickReport, Healing, KeptTwice, ResyncReport, Status};
use mboxfs_types::quorum::Waits;

impl From<KeptTwice> for w::AdminKeptTwice {
    fn from(from: KeptTwice) -> Self {
        Self {
            path: cut(from.path),
            of: from.of.map(base::brick_number),
            since: Some(from.since.into()),
        }
    }
}

impl TryFrom<w::AdminKeptTwice> for KeptTwice {
    type Error = Invalid;
    fn try_from(from: w::AdminKeptTwice) -> Result<Self> {
        Ok(Self {
            path: text(from.path)?,
            of: from.of.map(base::brick).transpose()?,
            since: base::time(from.since)?,
        })
    }
}

impl From<BrickReport> for w::AdminReport {
    fn from(from: BrickReport) -> Self {
        let sessions = from.sessions.into_iter().take(LIST_MAX);
        let session = |(session, host, here): (mboxfs_types::SessionId, String, bool)| w::AdminSession {
            session: Some(session.into()),
            host: cut(host),
            here,
        };
        Self {
            brick: base::brick_number(from.brick),
            status: status_number(from.status),
            primary: from.primary,
            view: Some(from.view.into()),
            peer_connected: from.peer_connected,
            last: from.last,
            commit: from.commit,
            peer_durable: from.peer_durable,
            on_both: from.on_both,
            debt_records: from.debt_records,
            debt_bytes: from.debt_bytes,
            debt_files: from.debt_files.into_iter().take(LIST_MAX).map(cut).collect(),
            sessions: sessions.map(session).collect(),
            space: Some(from.space.into()),
            inodes: from.inodes,
            round_trips: from.round_trips,
            requests: from.requests,
            flushes: from.flushes,
            peer_away: from.peer_away.map(|away| w::AdminAway {
                since: Some(away.since.into()),
                why: cut(away.why),
            }),
            waits: from.waits.map_or(0, waits_number),
            witness: from.witness,
            resync: from.resync.map(|r| w::AdminResync {
                files: r.files,
                files_done: r.files_done,
                files_copied: r.files_copied,
                bytes: r.bytes,
                bytes_done: r.bytes_done,
                copied: r.copied,
                elapsed: r.elapsed.0,
            }),
            scrub: Some(from.scrub.into()),
            debt_messages: from.debt_messages,
            files_pending: from.files_pending,
            healing: from.healing.map(|h| w::AdminHealing {
                merges: h.merges,
                elapsed_nanos: h.elapsed.0,
                done: h.done,
                total: h.total,
                at: cut(h.at),
                left: h.left.into_iter().take(LIST_MAX).map(cut).collect(),
            }),
            merged: from.merged,
            conflicts: from.conflicts.into_iter().take(LIST_MAX).map(Into::into).collect(),
        }
    }
}

impl TryFrom<w::AdminReport> for BrickReport {
    type Error = Invalid;
    fn try_from(from: w::AdminReport) -> Result<Self> {
        require(from.debt_files.len() <= LIST_MAX, "too many files in a report")?;
        require(from.sessions.len() <= LIST_MAX, "too many mounts in a report")?;
        require(from.conflicts.len() <= LIST_MAX, "too many conflicts in a report")?;
        let session = |s: w::AdminSession| Ok((base::session(s.session)?, text(s.host)?, s.here));
        Ok(Self {
            brick: base::brick(from.brick)?,
            status: status(from.status)?,
            primary: from.primary,
            view: base::view(from.view)?,
            peer_connected: from.peer_connected,
            last: from.last,
            commit: from.commit,
            peer_durable: from.peer_durable,
            on_both: from.on_both,
            debt_records: from.debt_records,
            debt_bytes: from.debt_bytes,
            debt_files: from.debt_files.into_iter().map(text).collect::<Result<_>>()?,
            sessions: from.sessions.into_iter().map(session).collect::<Result<_>>()?,
            space: need(from.space, "no space")?.into(),
            inodes: from.inodes,
            round_trips: from.round_trips,
            requests: from.requests,
            flushes: from.flushes,
            peer_away: from.peer_away.map(away).transpose()?,
            waits: (from.waits != 0).then(|| waits(from.waits)).transpose()?,
            witness: from.witness,
            resync: from.resync.map(|r| ResyncReport {
                files: r.files,
                files_done: r.files_done,
                files_copied: r.files_copied,
                bytes: r.bytes,
                bytes_done: r.bytes_done,
                copied: r.copied,
                elapsed: Nanos(r.elapsed),
            }),
            scrub: from.scrub.map(TryInto::try_into).transpose()?.unwrap_or_default(),
            debt_messages: from.debt_messages,
            files_pending: from.files_pending,
            healing: from.healing.map(healing).transpose()?,
            merged: from.merged,
            conflicts: try_list(from.conflicts)?,
        })
    }
}

fn healing(from: w::AdminHealing) -> Result<Healing> {
    require(from.left.len() <= LIST_MAX, "too many files in a heal")?;
    require(from.done <= from.total, "more healed than there was")?;
    Ok(Healing {
        merges: from.merges,
        elapsed: Nanos(from.elapsed_nanos),
        done: from.done,
        total: from.total,
        at: text(from.at)?,
        left: from.left.into_iter().map(text).collect::<Result<_>>()?,
    })
}

fn away(from: w::AdminAway) -> Result<Away> {
    Ok(Away {
        since: base::time(from.since)?,
        why: text(from.why)?,
    })
}

fn status_number(status: Status) -> i32 {
    match status {
        Status::Boot => w::AdminBrickStatus::Boot,
        Status::Suspect => w::AdminBrickStatus::Suspect,
        Status::Normal => w::AdminBrickStatus::Normal,
        Status::Solo => w::AdminBrickStatus::Solo,
        Status::Learner => w::AdminBrickStatus::Learner,
        Status::Diverged => w::AdminBrickStatus::Diverged,
        Status::Stalled => w::AdminBrickStatus::Stalled,
        Status::Waiting => w::AdminBrickStatus::Waiting,
    }
    .into()
}

fn status(number: i32) -> Result<Status> {
    match w::AdminBrickStatus::try_from(number) {
        Ok(w::AdminBrickStatus::Boot) => Ok(Status::Boot),
        Ok(w::AdminBrickStatus::Suspect) => Ok(Status::Suspect),
        Ok(w::AdminBrickStatus::Normal) => Ok(Status::Normal),
        Ok(w::AdminBrickStatus::Solo) => Ok(Status::Solo),
        Ok(w::AdminBrickStatus::Learner) => Ok(Status::Learner),
        Ok(w::AdminBrickStatus::Diverged) => Ok(Status::Diverged),
        Ok(w::AdminBrickStatus::Stalled) => Ok(Status::Stalled),
        Ok(w::AdminBrickStatus::Waiting) => Ok(Status::Waiting),
        Ok(w::AdminBrickStatus::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown status of a brick",
        }),
    }
}

fn waits_number(waits: Waits) -> i32 {
    match waits {
        Waits::Soon => w::AdminWaits::Soon,
        Waits::Survivor => w::AdminWaits::Survivor,
        Waits::Both => w::AdminWaits::Both,
        Waits::Witness => w::AdminWaits::Witness,
        Waits::Amnesia => w::AdminWaits::Amnesia,
        Waits::Unsettled => w::AdminWaits::Unsettled,
    }
    .into()
}

fn waits(number: i32) -> Result<Waits> {
    match w::AdminWaits::try_from(number) {
        Ok(w::AdminWaits::Soon) => Ok(Waits::Soon),
        Ok(w::AdminWaits::Survivor) => Ok(Waits::Survivor),
        Ok(w::AdminWaits::Both) => Ok(Waits::Both),
        Ok(w::AdminWaits::Witness) => Ok(Waits::Witness),
        Ok(w::AdminWaits::Amnesia) => Ok(Waits::Amnesia),
        Ok(w::AdminWaits::Unsettled) => Ok(Waits::Unsettled),
        Ok(w::AdminWaits::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown reason to wait",
        }),
    }
}
