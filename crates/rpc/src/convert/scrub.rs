//! What two bricks say of a block at rest, and what an operator hears of it.
//!
//! Promises: V1 and V3 of `convert`. Not here: the messages around it (`peer`, `admin`).

use super::{Invalid, base, need};
use crate::wire as w;
use mboxfs_types::{
    Ino,
    admin::{BadFile, Quarantined, ScrubReport, ScrubVerb},
    disk::ScrubMark,
    limits,
    peer::{Check, ToPeer},
};
use w::checked::Data as WireData;

/// Names of files, as in the rest of a report.
const PATH_BYTES_MAX: usize = 8192;

pub(super) fn check(ticket: u64, check: Check) -> w::Check {
    let raw = matches!(check, Check::Raw { .. });
    let (ino, block, sums) = match check {
        Check::Block { ino, block } | Check::Raw { ino, block } => (ino, block, 0),
        Check::Sums { ino, first, count } => (ino, first, count),
    };
    let ino = ino.0;
    w::Check {
        ticket,
        ino,
        block,
        sums,
        raw,
    }
}

impl From<w::Check> for ToPeer {
    fn from(from: w::Check) -> Self {
        let (ino, block, count) = (Ino(from.ino), from.block, from.sums);
        let check = match count {
            0 if from.raw => Check::Raw { ino, block },
            0 => Check::Block { ino, block },
            count => Check::Sums {
                ino,
                first: block,
                count,
            },
        };
        Self::Check {
            ticket: from.ticket,
            check,
        }
    }
}

pub(super) fn checked(
    ticket: u64,
    (version, sure): (u64, bool),
    data: Result<bytes::Bytes, mboxfs_types::Errno>,
) -> w::Checked {
    let crc = data.as_ref().map_or(0, |bytes| crc32fast::hash(bytes));
    let data = match data {
        Ok(bytes) => WireData::Bytes(bytes),
        Err(errno) => WireData::Error(base::errno_number(errno)),
    };
    w::Checked {
        ticket,
        version,
        sure,
        data: Some(data),
        crc,
    }
}

impl TryFrom<w::Checked> for ToPeer {
    type Error = Invalid;
    fn try_from(from: w::Checked) -> Result<Self, Invalid> {
        let data = match need(from.data, "nothing checked")? {
            WireData::Bytes(bytes) if bytes.len() as u64 > limits::SUM_BLOCK_BYTES => {
                return Err(Invalid { what: "block too long" });
            }
            WireData::Bytes(bytes) if crc32fast::hash(&bytes) != from.crc => {
                return Err(Invalid {
                    what: "checksum of a block",
                });
            }
            WireData::Bytes(bytes) => Ok(bytes),
            WireData::Error(number) => Err(base::errno(number)?),
        };
        Ok(Self::Checked {
            ticket: from.ticket,
            version: from.version,
            sure: from.sure,
            data,
        })
    }
}

pub(super) fn verb_number(verb: ScrubVerb) -> i32 {
    match verb {
        ScrubVerb::Start => w::AdminScrubVerb::Start,
        ScrubVerb::Pause => w::AdminScrubVerb::Pause,
        ScrubVerb::Resume => w::AdminScrubVerb::Resume,
    }
    .into()
}

pub(super) fn verb(number: i32) -> Result<ScrubVerb, Invalid> {
    match w::AdminScrubVerb::try_from(number) {
        Ok(w::AdminScrubVerb::Start) => Ok(ScrubVerb::Start),
        Ok(w::AdminScrubVerb::Pause) => Ok(ScrubVerb::Pause),
        Ok(w::AdminScrubVerb::Resume) => Ok(ScrubVerb::Resume),
        Ok(w::AdminScrubVerb::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown verb of a scrub",
        }),
    }
}

impl From<ScrubReport> for w::AdminScrubReport {
    fn from(from: ScrubReport) -> Self {
        let file = |file: BadFile| w::AdminBadFile {
            path: file.path.chars().take(PATH_BYTES_MAX / 4).collect(),
            blocks: file.blocks,
            both: file.both,
        };
        Self {
            started: from.mark.started.map(Into::into),
            ended: from.mark.ended.map(Into::into),
            next: from.mark.next.0,
            paused: from.mark.paused,
            bytes: from.bytes,
            checked: from.checked,
            bad: from.bad.into_iter().take(limits::BAD_FILES_MAX).map(file).collect(),
            repaired: from.repaired,
            quarantined: from
                .quarantined
                .into_iter()
                .take(limits::BAD_FILES_MAX)
                .map(Into::into)
                .collect(),
        }
    }
}

impl TryFrom<w::AdminScrubReport> for ScrubReport {
    type Error = Invalid;
    fn try_from(from: w::AdminScrubReport) -> Result<Self, Invalid> {
        let many = from.bad.len().max(from.quarantined.len()) > limits::BAD_FILES_MAX;
        if many || from.bad.iter().any(|file| file.path.len() > PATH_BYTES_MAX) {
            return Err(Invalid {
                what: "too many damaged files in a report",
            });
        }
        let time = |time: Option<w::Timestamp>| time.map(|time| base::time(Some(time))).transpose();
        let file = |file: w::AdminBadFile| BadFile {
            path: file.path,
            blocks: file.blocks,
            both: file.both,
        };
        Ok(Self {
            mark: ScrubMark {
                started: time(from.started)?,
                ended: time(from.ended)?,
                next: Ino(from.next),
                paused: from.paused,
            },
            bytes: from.bytes,
            checked: from.checked,
            bad: from.bad.into_iter().map(file).collect(),
            repaired: from.repaired,
            quarantined: from
                .quarantined
                .into_iter()
                .map(TryInto::try_into)
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Copies of damaged messages, one for each brick.
const COPIES_MAX: usize = 2;

impl From<Quarantined> for w::AdminQuarantined {
    fn from(from: Quarantined) -> Self {
        let short = |text: String| text.chars().take(PATH_BYTES_MAX / 4).collect();
        Self {
            path: short(from.path),
            messages: from.messages,
            since: Some(from.since.into()),
            kept: from.kept.into_iter().take(COPIES_MAX).map(short).collect(),
        }
    }
}

impl TryFrom<w::AdminQuarantined> for Quarantined {
    type Error = Invalid;
    fn try_from(from: w::AdminQuarantined) -> Result<Self, Invalid> {
        let texts = core::iter::once(&from.path).chain(&from.kept);
        if from.kept.len() > COPIES_MAX || texts.into_iter().any(|text| text.len() > PATH_BYTES_MAX) {
            return Err(Invalid {
                what: "names of damaged messages",
            });
        }
        Ok(Self {
            path: from.path,
            messages: from.messages,
            since: base::time(from.since)?,
            kept: from.kept,
        })
    }
}
