//! The conversation between the bricks.
//!
//! Promises: log records travel as the bytes of the log with a CRC-32 (law L12); both are checked, and the record in them
//! too, before anyone sees it. So do the parts of an answer to [`Ask`]. A long batch or answer is split on the way out.
//! Not here: what mounts and bricks say to each other through the peer (`call`, `reply`).

use super::{Frame, Invalid, base, check::Check, list, need, op, scrub, try_list};
use crate::{link::BeatHello, wire as w};
use bytes::Bytes;
use mboxfs_types::call::{ToBrick, ToMount};
use mboxfs_types::disk::Epoch;
use mboxfs_types::heal::{Ask, Of};
use mboxfs_types::ids::BrickUuid;
use mboxfs_types::peer::{Beat, Entry, Hello, Ping, Pong, ToPeer};
use mboxfs_types::record::{Body, Members, Record};
use mboxfs_types::{Errno, Ino, Nanos, VolumeId, codec, limits};
use std::collections::VecDeque;
use w::to_peer::Frame as WireFrame;
use w::{
    append::Entry as WireEntry, ask::Ask as WireAsk, beat::Frame as WireBeat, members::Members as WireMembers,
    part::Data as WireData,
};

/// Room in a message for what is not record bytes.
const SUFFIX_BYTES_MAX: usize = limits::MESSAGE_BYTES_MAX - (64 << 10);
/// Tags and lengths around one record in a batch, at most.
const SEALED_OVERHEAD_BYTES: usize = 24;

impl Frame for ToPeer {
    type Wire = w::ToPeer;

    fn to_wire(self, out: &mut VecDeque<w::ToPeer>) -> Result<(), Invalid> {
        self.check()?;
        let frame = match self {
            Self::Suffix { records } => {
                split_suffix(records, out);
                return Ok(());
            }
            Self::Part { ticket, data, last } => {
                split_part(ticket, data, last, out);
                return Ok(());
            }
            Self::Hello(hello) => WireFrame::Hello(hello.into()),
            Self::Append { entry } => WireFrame::Append(w::Append {
                entry: Some(entry.into()),
            }),
            Self::Durable { n } => WireFrame::Durable(n),
            Self::Commit { n } => WireFrame::Commit(n),
            Self::Relay { session, frame } => WireFrame::Relay(w::Relay {
                session: Some(session.into()),
                frame: Some(frame.into()),
            }),
            Self::Deliver { session, frame } => WireFrame::Deliver(w::Deliver {
                session: Some(session.into()),
                frame: Some(frame.into()),
            }),
            Self::Lost { session } => WireFrame::Lost(w::Lost {
                session: Some(session.into()),
            }),
            Self::Ask { ticket, ask } => WireFrame::Ask(w::Ask {
                ticket,
                ask: Some(ask.into()),
            }),
            Self::Check { ticket, check } => WireFrame::Check(scrub::check(ticket, check)),
            Self::Checked {
                ticket,
                version,
                sure,
                data,
            } => WireFrame::Checked(scrub::checked(ticket, (version, sure), data)),
            Self::Merged => WireFrame::Merged(w::Nothing {}),
            Self::Copied { n } => WireFrame::Copied(n),
            Self::Goodbye { why } => WireFrame::Goodbye(w::Goodbye { why }),
        };
        out.push_back(w::ToPeer { frame: Some(frame) });
        Ok(())
    }

    fn from_wire(wire: w::ToPeer) -> Result<Self, Invalid> {
        let frame = Self::try_from(wire)?;
        frame.check()?;
        Ok(frame)
    }

    fn weight(&self) -> usize {
        match self {
            Self::Suffix { records } => records.iter().map(record_weight).sum(),
            Self::Append {
                entry: Entry::Whole(record),
            } => record_weight(record),
            Self::Relay { frame, .. } => frame.weight(),
            Self::Deliver { frame, .. } => frame.weight(),
            Self::Part { data: Ok(bytes), .. } | Self::Checked { data: Ok(bytes), .. } => bytes.len(),
            _ => 0,
        }
    }
}

impl Frame for Beat {
    type Wire = w::Beat;

    fn to_wire(self, out: &mut VecDeque<w::Beat>) -> Result<(), Invalid> {
        self.check()?;
        let frame = match self {
            Self::Ping(ping) => WireBeat::Ping(w::Ping {
                sent: ping.sent.0,
                view: Some(ping.view.into()),
                real: Some(ping.real.into()),
                space: Some(ping.space.into()),
                sync: ping.sync.0,
            }),
            Self::Pong(pong) => WireBeat::Pong(w::Pong {
                sent: pong.sent.0,
                view: Some(pong.view.into()),
            }),
        };
        out.push_back(w::Beat { frame: Some(frame) });
        Ok(())
    }

    fn from_wire(wire: w::Beat) -> Result<Self, Invalid> {
        let beat = match need(wire.frame, "empty frame")? {
            WireBeat::Ping(ping) => Self::Ping(Ping {
                sent: Nanos(ping.sent),
                view: base::view(ping.view)?,
                real: base::time(ping.real)?,
                space: need(ping.space, "no space")?.into(),
                sync: Nanos(ping.sync),
            }),
            WireBeat::Pong(pong) => Self::Pong(Pong {
                sent: Nanos(pong.sent),
                view: base::view(pong.view)?,
            }),
            WireBeat::Hello(_) => return Err(Invalid { what: "second hello" }),
        };
        beat.check()?;
        Ok(beat)
    }

    fn weight(&self) -> usize {
        0
    }
}

impl From<BeatHello> for w::Beat {
    fn from(from: BeatHello) -> Self {
        Self {
            frame: Some(WireBeat::Hello(w::BeatHello {
                protocol: from.protocol,
                volume: base::id16_bytes(&from.volume.0),
                brick: base::brick_number(from.brick),
            })),
        }
    }
}

impl TryFrom<w::Beat> for BeatHello {
    type Error = Invalid;
    fn try_from(from: w::Beat) -> Result<Self, Invalid> {
        let Some(WireBeat::Hello(hello)) = from.frame else {
            return Err(Invalid { what: "no hello" });
        };
        Ok(Self {
            protocol: hello.protocol,
            volume: VolumeId(base::id16(&hello.volume)?),
            brick: base::brick(hello.brick)?,
        })
    }
}

fn record_weight(record: &Record) -> usize {
    match &record.body {
        Body::Op { op, .. } => op::weight(op),
        Body::Merge { ops, .. } => ops.iter().map(op::weight).sum(),
        Body::Quarantine { op } => op::weight(op),
        _ => 0,
    }
}

/// A batch may be longer than a message may be; an empty one means something and stays one message.
fn split_suffix(records: Vec<Record>, out: &mut VecDeque<w::ToPeer>) {
    let message = |records| w::ToPeer {
        frame: Some(WireFrame::Suffix(w::Suffix { records })),
    };
    let mut batch = Vec::new();
    let mut bytes = 0;
    for record in records {
        let sealed = w::SealedRecord::from(record);
        let more = sealed.record.len() + SEALED_OVERHEAD_BYTES;
        if bytes + more > SUFFIX_BYTES_MAX && !batch.is_empty() {
            out.push_back(message(std::mem::take(&mut batch)));
            bytes = 0;
        }
        bytes += more;
        batch.push(sealed);
    }
    out.push_back(message(batch));
}

/// An answer may be longer than a message may be; only the final message is the last part.
fn split_part(ticket: u64, data: Result<Bytes, Errno>, last: bool, out: &mut VecDeque<w::ToPeer>) {
    let mut push = |data, crc, last| {
        let frame = Some(WireFrame::Part(w::Part {
            ticket,
            data: Some(data),
            last,
            crc,
        }));
        out.push_back(w::ToPeer { frame });
    };
    let mut rest = match data {
        Ok(bytes) => bytes,
        Err(errno) => return push(WireData::Error(base::errno_number(errno)), 0, last),
    };
    loop {
        let piece = rest.split_to(rest.len().min(limits::EXTENT_BYTES_MAX));
        let crc = crc32fast::hash(&piece);
        push(WireData::Bytes(piece), crc, last && rest.is_empty());
        if rest.is_empty() {
            return;
        }
    }
}

impl TryFrom<w::ToPeer> for ToPeer {
    type Error = Invalid;
    fn try_from(from: w::ToPeer) -> Result<Self, Invalid> {
        Ok(match need(from.frame, "empty frame")? {
            WireFrame::Hello(hello) => Self::Hello(hello.try_into()?),
            WireFrame::Suffix(suffix) => Self::Suffix {
                records: try_list(suffix.records)?,
            },
            WireFrame::Append(append) => Self::Append {
                entry: append.try_into()?,
            },
            WireFrame::Durable(n) => Self::Durable { n },
            WireFrame::Commit(n) => Self::Commit { n },
            WireFrame::Relay(relay) => Self::Relay {
                session: base::session(relay.session)?,
                frame: ToBrick::try_from(need(relay.frame, "nothing relayed")?)?,
            },
            WireFrame::Deliver(deliver) => Self::Deliver {
                session: base::session(deliver.session)?,
                frame: ToMount::try_from(need(deliver.frame, "nothing delivered")?)?,
            },
            WireFrame::Lost(lost) => Self::Lost {
                session: base::session(lost.session)?,
            },
            WireFrame::Ask(ask) => Self::Ask {
                ticket: ask.ticket,
                ask: need(ask.ask, "nothing asked")?.into(),
            },
            WireFrame::Part(part) => part.try_into()?,
            WireFrame::Check(check) => check.into(),
            WireFrame::Checked(checked) => checked.try_into()?,
            WireFrame::Merged(_) => Self::Merged,
            WireFrame::Copied(n) => Self::Copied { n },
            WireFrame::Goodbye(bye) => Self::Goodbye { why: bye.why },
        })
    }
}

impl From<Record> for w::SealedRecord {
    fn from(from: Record) -> Self {
        let record = Bytes::from(codec::encode(&from));
        let crc = crc32fast::hash(&record);
        Self { record, crc }
    }
}

impl TryFrom<w::SealedRecord> for Record {
    type Error = Invalid;
    fn try_from(from: w::SealedRecord) -> Result<Self, Invalid> {
        if crc32fast::hash(&from.record) != from.crc {
            return Err(Invalid {
                what: "checksum of a record",
            });
        }
        codec::decode(&from.record).map_err(|_| Invalid {
            what: "malformed record",
        })
    }
}

impl From<Entry> for WireEntry {
    fn from(from: Entry) -> Self {
        match from {
            Entry::Whole(record) => Self::Whole(record.into()),
            Entry::Numbered {
                tag,
                time,
                ino,
                session,
                seq,
            } => Self::Numbered(w::Numbered {
                tag: Some(tag.into()),
                time: Some(time.into()),
                ino: ino.0,
                session: Some(session.into()),
                seq,
            }),
        }
    }
}

impl TryFrom<w::Append> for Entry {
    type Error = Invalid;
    fn try_from(from: w::Append) -> Result<Self, Invalid> {
        Ok(match need(from.entry, "nothing appended")? {
            WireEntry::Whole(record) => Self::Whole(record.try_into()?),
            WireEntry::Numbered(numbered) => Self::Numbered {
                tag: need(numbered.tag, "no tag")?.try_into()?,
                time: base::time(numbered.time)?,
                ino: Ino(numbered.ino),
                session: base::session(numbered.session)?,
                seq: numbered.seq,
            },
        })
    }
}

const fn version_of(of: Of) -> u64 {
    if let Of::Version(version) = of { version } else { 0 }
}

const fn moment(base: bool, version: u64) -> Of {
    match (base, version) {
        (false, _) => Of::Now,
        (true, 0) => Of::Fork,
        (true, version) => Of::Version(version),
    }
}

impl From<Ask> for WireAsk {
    fn from(from: Ask) -> Self {
        match from {
            Ask::Changes => Self::Changes(w::Nothing {}),
            Ask::Index { ino, of } => Self::Index(w::AskIndex {
                ino: ino.0,
                base: of != Of::Now,
                version: version_of(of),
            }),
            Ask::Read { ino, of, offset, len } => Self::Read(w::AskRead {
                ino: ino.0,
                offset,
                len,
                base: of != Of::Now,
                version: version_of(of),
            }),
            Ask::State { offset } => Self::State(offset),
            Ask::Digests { ino, offset, len } => Self::Digests(w::AskDigests {
                ino: ino.0,
                offset,
                len,
            }),
            Ask::Xattrs { after } => Self::Xattrs(w::AskXattrs {
                after: after.map(|ino| ino.0),
            }),
            Ask::Raw { ino, block } => Self::Raw(w::AskRaw { ino: ino.0, block }),
        }
    }
}

impl From<WireAsk> for Ask {
    fn from(from: WireAsk) -> Self {
        match from {
            WireAsk::Changes(_) => Self::Changes,
            WireAsk::Index(index) => Self::Index {
                ino: Ino(index.ino),
                of: moment(index.base, index.version),
            },
            WireAsk::Read(read) => Self::Read {
                ino: Ino(read.ino),
                of: moment(read.base, read.version),
                offset: read.offset,
                len: read.len,
            },
            WireAsk::State(offset) => Self::State { offset },
            WireAsk::Digests(digests) => Self::Digests {
                ino: Ino(digests.ino),
                offset: digests.offset,
                len: digests.len,
            },
            WireAsk::Xattrs(xattrs) => Self::Xattrs {
                after: xattrs.after.map(Ino),
            },
            WireAsk::Raw(raw) => Self::Raw {
                ino: Ino(raw.ino),
                block: raw.block,
            },
        }
    }
}

impl TryFrom<w::Part> for ToPeer {
    type Error = Invalid;
    fn try_from(from: w::Part) -> Result<Self, Invalid> {
        let data = match need(from.data, "empty part")? {
            WireData::Bytes(bytes) if bytes.len() > limits::EXTENT_BYTES_MAX => {
                return Err(Invalid { what: "part too long" });
            }
            WireData::Bytes(bytes) if crc32fast::hash(&bytes) != from.crc => {
                return Err(Invalid {
                    what: "checksum of a part",
                });
            }
            WireData::Bytes(bytes) => Ok(bytes),
            WireData::Error(number) => Err(base::errno(number)?),
        };
        Ok(Self::Part {
            ticket: from.ticket,
            data,
            last: from.last,
        })
    }
}

impl From<Members> for w::Members {
    fn from(from: Members) -> Self {
        Self {
            members: Some(match from {
                Members::Both => WireMembers::Both(w::Nothing {}),
                Members::Only(brick) => WireMembers::Only(base::brick_number(brick)),
            }),
        }
    }
}

pub(super) fn members(from: Option<w::Members>) -> Result<Members, Invalid> {
    Ok(match need(from.and_then(|from| from.members), "no members")? {
        WireMembers::Both(_) => Members::Both,
        WireMembers::Only(number) => Members::Only(base::brick(number)?),
    })
}

impl From<Epoch> for w::Epoch {
    fn from(from: Epoch) -> Self {
        Self {
            g: Some(from.g.into()),
            v: from.v,
            first: from.first,
        }
    }
}

impl TryFrom<w::Epoch> for Epoch {
    type Error = Invalid;
    fn try_from(from: w::Epoch) -> Result<Self, Invalid> {
        Ok(Self {
            g: base::generation(from.g)?,
            v: from.v,
            first: from.first,
        })
    }
}

impl From<Hello> for w::Hello {
    fn from(from: Hello) -> Self {
        Self {
            protocol: from.protocol,
            volume: base::id16_bytes(&from.volume.0),
            brick: base::brick_number(from.brick),
            uuid: base::id16_bytes(&from.uuid.0),
            inc: from.inc,
            view: Some(from.view.into()),
            members: Some(from.members.into()),
            history: list(from.history),
            last: from.last,
            log_start: from.log_start,
            last_change: from.last_change,
            fresh: from.fresh,
            diverged: from.diverged,
            merging: from.merging,
            joint: from.joint,
            overrun: from.overrun,
            incomplete: from.incomplete,
        }
    }
}

impl TryFrom<w::Hello> for Hello {
    type Error = Invalid;
    fn try_from(from: w::Hello) -> Result<Self, Invalid> {
        Ok(Self {
            protocol: from.protocol,
            volume: VolumeId(base::id16(&from.volume)?),
            brick: base::brick(from.brick)?,
            uuid: BrickUuid(base::id16(&from.uuid)?),
            inc: from.inc,
            view: base::view(from.view)?,
            members: members(from.members)?,
            history: try_list(from.history)?,
            last: from.last,
            log_start: from.log_start,
            last_change: from.last_change,
            fresh: from.fresh,
            diverged: from.diverged,
            merging: from.merging,
            joint: from.joint,
            overrun: from.overrun,
            incomplete: from.incomplete,
        })
    }
}
