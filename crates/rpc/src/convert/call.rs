//! What a mount says to a brick.
//!
//! Promises: whole frames, checked.
//! Not here: the nouns in them (`base`), operations (`op`), what the brick says (`reply`).

use super::{Frame, Invalid, base, check::Check, list, need, op, try_list, try_option};
use crate::wire as w;
use mboxfs_types::call::{Answer, Attach, Intent, LeaseRequest, Query, Reclaim, ToBrick, Verdict};
use mboxfs_types::{Ino, Nanos};
use std::collections::VecDeque;
use w::{
    answer::Verdict as WireVerdict, intent::Intent as WireIntent, query::Query as WireQuery,
    to_brick::Frame as FromMount,
};

impl Frame for ToBrick {
    type Wire = w::ToBrick;

    fn to_wire(self, out: &mut VecDeque<w::ToBrick>) -> Result<(), Invalid> {
        self.check()?;
        out.push_back(self.into());
        Ok(())
    }

    fn from_wire(wire: w::ToBrick) -> Result<Self, Invalid> {
        let frame = Self::try_from(wire)?;
        frame.check()?;
        Ok(frame)
    }

    fn weight(&self) -> usize {
        match self {
            Self::Request(request) => op::weight(&request.op),
            _ => 0,
        }
    }
}

impl From<ToBrick> for w::ToBrick {
    fn from(from: ToBrick) -> Self {
        let frame = match from {
            ToBrick::Attach(attach) => FromMount::Attach(attach.into()),
            ToBrick::Request(request) => FromMount::Request(request.into()),
            ToBrick::Lease(request) => FromMount::Lease(request.into()),
            ToBrick::Cancel { req } => FromMount::Cancel(w::Cancel { req }),
            ToBrick::Answer(answer) => FromMount::Answer(answer.into()),
            ToBrick::Reclaim(reclaim) => FromMount::Reclaim(reclaim.into()),
            ToBrick::Query { id, query } => FromMount::Query(w::Query {
                id,
                query: Some(query.into()),
            }),
            ToBrick::Ping { sent } => FromMount::Ping(w::MountPing { sent: sent.0 }),
            ToBrick::Detach { end } => FromMount::Detach(w::Detach { end }),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<w::ToBrick> for ToBrick {
    type Error = Invalid;
    fn try_from(from: w::ToBrick) -> Result<Self, Invalid> {
        Ok(match need(from.frame, "empty frame")? {
            FromMount::Attach(attach) => Self::Attach(attach.try_into()?),
            FromMount::Request(request) => Self::Request(request.try_into()?),
            FromMount::Lease(request) => Self::Lease(request.try_into()?),
            FromMount::Cancel(cancel) => Self::Cancel { req: cancel.req },
            FromMount::Answer(answer) => Self::Answer(answer.try_into()?),
            FromMount::Reclaim(reclaim) => Self::Reclaim(reclaim.try_into()?),
            FromMount::Query(ask) => Self::Query {
                id: ask.id,
                query: need(ask.query, "empty query")?.try_into()?,
            },
            FromMount::Ping(ping) => Self::Ping { sent: Nanos(ping.sent) },
            FromMount::Detach(detach) => Self::Detach { end: detach.end },
        })
    }
}

impl From<Attach> for w::Attach {
    fn from(from: Attach) -> Self {
        Self {
            protocol: from.protocol,
            volume: from.volume,
            session: Some(from.session.into()),
            attach_no: from.attach_no,
            fresh: from.fresh,
        }
    }
}

impl TryFrom<w::Attach> for Attach {
    type Error = Invalid;
    fn try_from(from: w::Attach) -> Result<Self, Invalid> {
        Ok(Self {
            protocol: from.protocol,
            volume: from.volume,
            session: base::session(from.session)?,
            attach_no: from.attach_no,
            fresh: from.fresh,
        })
    }
}

impl From<Intent> for w::Intent {
    fn from(from: Intent) -> Self {
        let nothing = w::Nothing {};
        Self {
            intent: Some(match from {
                Intent::Read => WireIntent::Read(nothing),
                Intent::Write => WireIntent::Write(nothing),
                Intent::Lock {
                    owner,
                    range,
                    kind,
                    wait,
                } => WireIntent::Lock(w::IntentLock {
                    owner: Some(owner.into()),
                    range: Some(range.into()),
                    kind: base::lock_kind_number(kind),
                    wait,
                }),
                Intent::Unlock => WireIntent::Unlock(nothing),
                Intent::Excl => WireIntent::Excl(nothing),
                Intent::Op => WireIntent::Op(nothing),
            }),
        }
    }
}

pub(crate) fn intent(from: Option<w::Intent>) -> Result<Intent, Invalid> {
    Ok(match need(from.and_then(|from| from.intent), "no intent")? {
        WireIntent::Read(_) => Intent::Read,
        WireIntent::Write(_) => Intent::Write,
        WireIntent::Lock(lock) => Intent::Lock {
            owner: base::owner(lock.owner)?,
            range: base::range(lock.range)?,
            kind: base::lock_kind(lock.kind)?,
            wait: lock.wait,
        },
        WireIntent::Unlock(_) => Intent::Unlock,
        WireIntent::Excl(_) => Intent::Excl,
        WireIntent::Op(_) => Intent::Op,
    })
}

impl From<LeaseRequest> for w::LeaseRequest {
    fn from(from: LeaseRequest) -> Self {
        Self {
            req: from.req,
            key: Some(from.key.into()),
            mode: base::mode_number(from.mode),
            intent: Some(from.intent.into()),
        }
    }
}

impl TryFrom<w::LeaseRequest> for LeaseRequest {
    type Error = Invalid;
    fn try_from(from: w::LeaseRequest) -> Result<Self, Invalid> {
        Ok(Self {
            req: from.req,
            key: base::key(from.key)?,
            mode: base::mode(from.mode)?,
            intent: intent(from.intent)?,
        })
    }
}

impl From<Answer> for w::Answer {
    fn from(from: Answer) -> Self {
        Self {
            id: from.id,
            key: Some(from.key.into()),
            seq: from.seq,
            verdict: Some(match from.verdict {
                Verdict::Give { keep, locks, dot } => WireVerdict::Give(w::Give {
                    keep: keep.map(base::mode_number),
                    locks: list(locks),
                    dot: dot.map(Into::into),
                }),
                Verdict::Once { error, dot } => WireVerdict::Once(w::Once {
                    error: error.map(base::errno_number),
                    dot: dot.map(Into::into),
                }),
            }),
        }
    }
}

impl TryFrom<w::Answer> for Answer {
    type Error = Invalid;
    fn try_from(from: w::Answer) -> Result<Self, Invalid> {
        Ok(Self {
            id: from.id,
            key: base::key(from.key)?,
            seq: from.seq,
            verdict: match need(from.verdict, "no verdict")? {
                WireVerdict::Give(give) => Verdict::Give {
                    keep: give.keep.map(base::mode).transpose()?,
                    locks: try_list(give.locks)?,
                    dot: try_option(give.dot)?,
                },
                WireVerdict::Once(once) => Verdict::Once {
                    error: once.error.map(base::errno).transpose()?,
                    dot: try_option(once.dot)?,
                },
            },
        })
    }
}

impl From<Reclaim> for w::Reclaim {
    fn from(from: Reclaim) -> Self {
        Self {
            view: Some(from.view.into()),
            from: Some(from.from.into()),
            leases: list(from.leases),
            locks: list(from.locks),
            dots: list(from.dots),
            known: list(from.known),
            unanswered: from.unanswered,
        }
    }
}

impl TryFrom<w::Reclaim> for Reclaim {
    type Error = Invalid;
    fn try_from(from: w::Reclaim) -> Result<Self, Invalid> {
        Ok(Self {
            view: base::view(from.view)?,
            from: base::view(from.from)?,
            leases: try_list(from.leases)?,
            locks: try_list(from.locks)?,
            dots: try_list(from.dots)?,
            known: try_list(from.known)?,
            unanswered: from.unanswered,
        })
    }
}

impl From<Query> for WireQuery {
    fn from(from: Query) -> Self {
        match from {
            Query::Read { ino, offset, len } => Self::Read(w::QueryRead {
                ino: ino.0,
                offset,
                len,
            }),
            Query::ReadDir { dir, after } => Self::ReadDir(w::QueryReadDir {
                dir: dir.0,
                after: after.map(base::name_bytes),
            }),
            Query::ReadLink { ino } => Self::ReadLink(ino.0),
            Query::GetXattr { ino, name } => Self::GetXattr(w::QueryGetXattr {
                ino: ino.0,
                name: name.into(),
            }),
            Query::ListXattr { ino } => Self::ListXattr(ino.0),
            Query::StatFs => Self::StatFs(w::Nothing {}),
            Query::Parent { ino } => Self::Parent(ino.0),
        }
    }
}

impl TryFrom<WireQuery> for Query {
    type Error = Invalid;
    fn try_from(from: WireQuery) -> Result<Self, Invalid> {
        Ok(match from {
            WireQuery::Read(read) => Self::Read {
                ino: Ino(read.ino),
                offset: read.offset,
                len: read.len,
            },
            WireQuery::ReadDir(dir) => Self::ReadDir {
                dir: Ino(dir.dir),
                after: dir.after.map(|after| base::name(&after)).transpose()?,
            },
            WireQuery::ReadLink(ino) => Self::ReadLink { ino: Ino(ino) },
            WireQuery::GetXattr(get) => Self::GetXattr {
                ino: Ino(get.ino),
                name: get.name.into(),
            },
            WireQuery::ListXattr(ino) => Self::ListXattr { ino: Ino(ino) },
            WireQuery::StatFs(_) => Self::StatFs,
            WireQuery::Parent(ino) => Self::Parent { ino: Ino(ino) },
        })
    }
}
