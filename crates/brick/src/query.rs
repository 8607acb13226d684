//! Questions that change nothing.
//!
//! Q1  File content is read at the mount's own brick: the lease that the mount holds was granted after everything before
//!     it was executed there (FIFO of the peer stream), so nothing staler than the lease can be seen (L3).
//! Q2  Directory listings have no lease: the primary answers, after all that was numbered before the question.
//!
//! Not here: bytes (`store`).

use crate::{brick::Brick, input::MountConn, output::Output};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_types::{
    Errno, SessionId,
    call::{Found, Query, ToBrick, ToMount},
    disk::{DiskOp, Look, Seen},
    peer::ToPeer,
};

/// Who waits for a look.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Asker {
    /// A mount, with its own number for it.
    Mount { conn: MountConn, id: u64 },
    /// The brick that merges, or gets files, with its number.
    Peer { ticket: u64 },
    /// The merge here, or the resync.
    Heal,
}

/// Looks under way, and listings that wait for the log.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    next_ticket: u64,
    tickets: BTreeMap<u64, Asker>,
    barriers: VecDeque<(u64, SessionId, u64, Query)>,
}

impl Looks {
    pub(crate) fn forget(&mut self, conn: MountConn) {
        self.tickets
            .retain(|_, asker| !matches!(asker, Asker::Mount { conn: c, .. } if *c == conn));
    }

    /// The other brick, or the merge, does not wait any more.
    pub(crate) fn forget_bricks(&mut self) {
        self.tickets.retain(|_, asker| matches!(asker, Asker::Mount { .. }));
    }

    /// Does the disk owe a mount an answer? What bricks ask for may take long.
    pub(crate) fn are_open(&self) -> bool {
        self.tickets.values().any(|asker| matches!(asker, Asker::Mount { .. }))
    }

    pub(crate) fn clear_barriers(&mut self) {
        self.barriers.clear();
    }
}

impl Brick {
    pub(crate) fn on_query(&mut self, conn: MountConn, id: u64, query: Query, out: &mut Vec<Output>) {
        let look = match query {
            Query::Read { ino, offset, len } => Look::Read { ino, offset, len },
            Query::GetXattr { ino, name } => Look::GetXattr { ino, name },
            Query::ListXattr { ino } => Look::ListXattr { ino },
            Query::StatFs => {
                let frame = ToMount::Found {
                    id,
                    result: Ok(Found::Space(self.room())),
                };
                return out.push(Output::Mount { conn, frame });
            }
            Query::ReadDir { .. } | Query::ReadLink { .. } | Query::Parent { .. } => {
                let Some(session) = self.mounts.session_of(conn) else {
                    return;
                };
                if self.is_primary() {
                    self.on_session_query(session, id, query, out);
                } else {
                    self.counters.round_trips += 1;
                    let frame = ToBrick::Query { id, query };
                    out.push(Output::Peer(ToPeer::Relay { session, frame }));
                }
                return;
            }
        };
        self.look(Asker::Mount { conn, id }, look, out);
    }

    pub(crate) fn look(&mut self, asker: Asker, look: Look, out: &mut Vec<Output>) {
        self.looks.next_ticket += 1;
        let ticket = self.looks.next_ticket;
        self.looks.tickets.insert(ticket, asker);
        out.push(Output::Disk(DiskOp::Look { ticket, look }));
    }

    pub(crate) fn on_look(&mut self, ticket: u64, result: Result<Seen, Errno>, out: &mut Vec<Output>) {
        let (conn, id) = match self.looks.tickets.remove(&ticket) {
            Some(Asker::Mount { conn, id }) => (conn, id),
            Some(Asker::Peer { ticket }) => {
                let data = result.map(data_of);
                return out.push(Output::Peer(ToPeer::Part {
                    ticket,
                    data,
                    last: true,
                }));
            }
            Some(Asker::Heal) => return self.on_own_look(result.map(data_of), out),
            None => return,
        };
        let result = result.map(|seen| match seen {
            Seen::Data(data) => Found::Data(data),
            Seen::Names(names) => Found::Names(names),
        });
        out.push(Output::Mount {
            conn,
            frame: ToMount::Found { id, result },
        });
    }

    /// Primary (Q2).
    pub(crate) fn on_session_query(&mut self, session: SessionId, id: u64, query: Query, out: &mut Vec<Output>) {
        self.looks.barriers.push_back((self.log.last, session, id, query));
        self.answer_barriers(out);
    }

    pub(crate) fn answer_barriers(&mut self, out: &mut Vec<Output>) {
        while self.looks.barriers.front().is_some_and(|b| b.0 <= self.state.applied) {
            let Some((_, session, id, query)) = self.looks.barriers.pop_front() else {
                return;
            };
            let result = self.answer(&query);
            self.tell(session, ToMount::Found { id, result }, out);
        }
    }

    fn answer(&self, query: &Query) -> Result<Found, Errno> {
        match query {
            Query::ReadDir { dir, after } => {
                let (entries, end) = self.state.read_dir(*dir, after.as_ref())?;
                Ok(Found::Entries { entries, end })
            }
            Query::ReadLink { ino } => match &self.state.inode(*ino)?.data {
                crate::state::Data::Symlink { target } => Ok(Found::Data(target.clone().into())),
                _ => Err(Errno::EINVAL),
            },
            Query::Parent { ino } => match &self.state.inode(*ino)?.data {
                crate::state::Data::Dir { parent, .. } => Ok(Found::Ino(*parent)),
                _ => Err(Errno::ENOTDIR),
            },
            _ => Err(Errno::EINVAL),
        }
    }
}

/// Bytes that were asked for; a look for bytes never finds names.
fn data_of(seen: Seen) -> Bytes {
    match seen {
        Seen::Data(data) => data,
        Seen::Names(_) => Bytes::new(),
    }
}
