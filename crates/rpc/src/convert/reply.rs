//! What a brick says to a mount.
//!
//! Promises: whole frames, checked.
//! Not here: the nouns in them (`base`), what the mount says (`call`).

use super::{Frame, Invalid, base, call::intent, check::Check, list, need, try_list, try_option};
use crate::wire as w;
use mboxfs_types::call::{
    Attached, DirEntry, Found, Grant, Granted, NameState, Recall, Reclaimed, Reply, ToMount, View,
};
use mboxfs_types::{Errno, Ino, Nanos};
use std::collections::VecDeque;
use w::{
    attached::Attached as WireAttached, found::Result as WireFound, granted::Result as WireGranted,
    reply::Result as WireReply, to_mount::Frame as FromBrick,
};

impl Frame for ToMount {
    type Wire = w::ToMount;

    fn to_wire(self, out: &mut VecDeque<w::ToMount>) -> Result<(), Invalid> {
        self.check()?;
        out.push_back(self.into());
        Ok(())
    }

    fn from_wire(wire: w::ToMount) -> Result<Self, Invalid> {
        let frame = Self::try_from(wire)?;
        frame.check()?;
        Ok(frame)
    }

    fn weight(&self) -> usize {
        match self {
            Self::Found {
                result: Ok(Found::Data(data)),
                ..
            } => data.len(),
            _ => 0,
        }
    }
}

impl From<ToMount> for w::ToMount {
    fn from(from: ToMount) -> Self {
        let frame = match from {
            ToMount::Attached(attached) => FromBrick::Attached(attached.into()),
            ToMount::View { view, together } => FromBrick::View(w::NewView {
                g: Some(view.g.into()),
                v: view.v,
                together,
            }),
            ToMount::Reclaimed(reclaimed) => FromBrick::Reclaimed(reclaimed.into()),
            ToMount::Reply(reply) => FromBrick::Reply(reply.into()),
            ToMount::Granted(granted) => FromBrick::Granted(granted.into()),
            ToMount::Recall(recall) => FromBrick::Recall(recall.into()),
            ToMount::Found { id, result } => FromBrick::Found(found_to_wire(id, result)),
            ToMount::Pong { sent, serve } => FromBrick::Pong(w::MountPong {
                sent: sent.0,
                serve: serve.0,
            }),
            ToMount::Changed { ino, path } => FromBrick::Changed(w::Changed {
                ino: ino.0,
                path: path.into_iter().map(base::name_bytes).collect(),
            }),
            ToMount::Orphaned { ino } => FromBrick::Orphaned(ino.0),
            ToMount::SessionGone { session } => FromBrick::SessionGone(session.into()),
        };
        Self { frame: Some(frame) }
    }
}

impl TryFrom<w::ToMount> for ToMount {
    type Error = Invalid;
    fn try_from(from: w::ToMount) -> Result<Self, Invalid> {
        Ok(match need(from.frame, "empty frame")? {
            FromBrick::Attached(attached) => Self::Attached(attached.try_into()?),
            FromBrick::View(new) => Self::View {
                view: View {
                    g: base::generation(new.g)?,
                    v: new.v,
                },
                together: new.together,
            },
            FromBrick::Reclaimed(reclaimed) => Self::Reclaimed(reclaimed.try_into()?),
            FromBrick::Reply(reply) => Self::Reply(reply.try_into()?),
            FromBrick::Granted(granted) => Self::Granted(granted.try_into()?),
            FromBrick::Recall(recall) => Self::Recall(recall.try_into()?),
            FromBrick::Found(found) => Self::Found {
                id: found.id,
                result: found_from_wire(need(found.result, "no result")?)?,
            },
            FromBrick::Pong(pong) => Self::Pong {
                sent: Nanos(pong.sent),
                serve: Nanos(pong.serve),
            },
            FromBrick::Changed(changed) => Self::Changed {
                ino: Ino(changed.ino),
                path: changed.path.iter().map(|n| base::name(n)).collect::<Result<_, _>>()?,
            },
            FromBrick::Orphaned(ino) => Self::Orphaned { ino: Ino(ino) },
            FromBrick::SessionGone(session) => Self::SessionGone {
                session: session.try_into()?,
            },
        })
    }
}

impl From<Attached> for w::Attached {
    fn from(from: Attached) -> Self {
        Self {
            attached: Some(match from {
                Attached::Ok { brick, bricks } => WireAttached::Ok(w::AttachedOk {
                    brick: base::brick_number(brick),
                    bricks,
                }),
                Attached::Expired => WireAttached::Expired(w::Nothing {}),
                Attached::NotServing { why, bricks } => WireAttached::NotServing(w::AttachedNotServing { why, bricks }),
                Attached::Refused { why } => WireAttached::Refused(w::AttachedRefused { why }),
            }),
        }
    }
}

impl TryFrom<w::Attached> for Attached {
    type Error = Invalid;
    fn try_from(from: w::Attached) -> Result<Self, Invalid> {
        Ok(match need(from.attached, "empty answer to attach")? {
            WireAttached::Ok(ok) => Self::Ok {
                brick: base::brick(ok.brick)?,
                bricks: ok.bricks,
            },
            WireAttached::Expired(_) => Self::Expired,
            WireAttached::NotServing(not) => Self::NotServing {
                why: not.why,
                bricks: not.bricks,
            },
            WireAttached::Refused(refused) => Self::Refused { why: refused.why },
        })
    }
}

impl From<Reclaimed> for w::Reclaimed {
    fn from(from: Reclaimed) -> Self {
        Self {
            view: Some(from.view.into()),
            leases: list(from.leases),
            locks: list(from.locks),
            dots: list(from.dots),
            lost: list(from.lost),
            entries: list(from.entries),
        }
    }
}

impl TryFrom<w::Reclaimed> for Reclaimed {
    type Error = Invalid;
    fn try_from(from: w::Reclaimed) -> Result<Self, Invalid> {
        Ok(Self {
            view: base::view(from.view)?,
            leases: try_list(from.leases)?,
            locks: try_list(from.locks)?,
            dots: try_list(from.dots)?,
            lost: from
                .lost
                .into_iter()
                .map(|key| base::key(Some(key)))
                .collect::<Result<_, _>>()?,
            entries: try_list(from.entries)?,
        })
    }
}

impl From<Reply> for w::Reply {
    fn from(from: Reply) -> Self {
        Self {
            seq: from.seq,
            result: Some(match from.result {
                Ok(attrs) => WireReply::Ok(w::Attrs { attrs: list(attrs) }),
                Err(errno) => WireReply::Error(base::errno_number(errno)),
            }),
        }
    }
}

impl TryFrom<w::Reply> for Reply {
    type Error = Invalid;
    fn try_from(from: w::Reply) -> Result<Self, Invalid> {
        Ok(Self {
            seq: from.seq,
            result: match need(from.result, "no result")? {
                WireReply::Ok(ok) => Ok(try_list(ok.attrs)?),
                WireReply::Error(number) => Err(base::errno(number)?),
            },
        })
    }
}

impl From<Granted> for w::Granted {
    fn from(from: Granted) -> Self {
        Self {
            req: from.req,
            result: Some(match from.result {
                Ok(grant) => WireGranted::Ok(grant.into()),
                Err(errno) => WireGranted::Error(base::errno_number(errno)),
            }),
        }
    }
}

impl TryFrom<w::Granted> for Granted {
    type Error = Invalid;
    fn try_from(from: w::Granted) -> Result<Self, Invalid> {
        Ok(Self {
            req: from.req,
            result: match need(from.result, "no result")? {
                WireGranted::Ok(grant) => Ok(grant.try_into()?),
                WireGranted::Error(number) => Err(base::errno(number)?),
            },
        })
    }
}

impl From<Grant> for w::Grant {
    fn from(from: Grant) -> Self {
        Self {
            leases: list(from.leases),
            name: from.name.map(|name| w::NameState {
                group: Some(name.group.into()),
                entry: name.entry.map(|ino| ino.0),
                dot: name.dot.map(Into::into),
            }),
            attr: from.attr.map(Into::into),
            locks: list(from.locks),
        }
    }
}

impl TryFrom<w::NameState> for NameState {
    type Error = Invalid;
    fn try_from(from: w::NameState) -> Result<Self, Invalid> {
        Ok(Self {
            group: base::group(from.group)?,
            entry: from.entry.map(Ino),
            dot: try_option(from.dot)?,
        })
    }
}

impl TryFrom<w::Grant> for Grant {
    type Error = Invalid;
    fn try_from(from: w::Grant) -> Result<Self, Invalid> {
        Ok(Self {
            leases: try_list(from.leases)?,
            name: try_option(from.name)?,
            attr: try_option(from.attr)?,
            locks: try_list(from.locks)?,
        })
    }
}

impl From<Recall> for w::Recall {
    fn from(from: Recall) -> Self {
        Self {
            id: from.id,
            key: Some(from.key.into()),
            seq: from.seq,
            intent: Some(from.intent.into()),
        }
    }
}

impl TryFrom<w::Recall> for Recall {
    type Error = Invalid;
    fn try_from(from: w::Recall) -> Result<Self, Invalid> {
        Ok(Self {
            id: from.id,
            key: base::key(from.key)?,
            seq: from.seq,
            intent: intent(from.intent)?,
        })
    }
}

fn found_to_wire(id: u64, result: Result<Found, Errno>) -> w::Found {
    let result = match result {
        Ok(Found::Data(data)) => WireFound::Data(data),
        Ok(Found::Entries { entries, end }) => WireFound::Entries(w::FoundEntries {
            entries: entries
                .into_iter()
                .map(|entry| w::DirEntry {
                    name: base::name_bytes(entry.name),
                    ino: entry.ino.0,
                    kind: base::kind_number(entry.kind),
                })
                .collect(),
            end,
        }),
        Ok(Found::Names(names)) => WireFound::Names(w::FoundNames { names: list(names) }),
        Ok(Found::Space(space)) => WireFound::Space(space.into()),
        Ok(Found::Ino(ino)) => WireFound::Ino(ino.0),
        Err(errno) => WireFound::Error(base::errno_number(errno)),
    };
    w::Found {
        id,
        result: Some(result),
    }
}

impl TryFrom<w::DirEntry> for DirEntry {
    type Error = Invalid;
    fn try_from(from: w::DirEntry) -> Result<Self, Invalid> {
        Ok(Self {
            name: base::name(&from.name)?,
            ino: Ino(from.ino),
            kind: base::kind(from.kind)?,
        })
    }
}

fn found_from_wire(result: WireFound) -> Result<Result<Found, Errno>, Invalid> {
    Ok(Ok(match result {
        WireFound::Data(data) => Found::Data(data),
        WireFound::Entries(found) => Found::Entries {
            entries: try_list(found.entries)?,
            end: found.end,
        },
        WireFound::Names(found) => Found::Names(list(found.names)),
        WireFound::Space(space) => Found::Space(space.into()),
        WireFound::Ino(ino) => Found::Ino(Ino(ino)),
        WireFound::Error(number) => return Ok(Err(base::errno(number)?)),
    }))
}
