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
    /// The other brick, about a block that is bad there; the file has this version here.
    Check { ticket: u64, version: u64 },
    /// The repair of a block here.
    Repair { ticket: u64 },
    /// What takes damaged messages out, with its number.
    Quarantine { ticket: u64 },
    /// The scrub, about a block that looked bad.
    Suspect,
    /// The scrub, for the sums here of a file that has this version.
    Sums { version: u64 },
}

/// A look under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Question {
    pub(crate) asker: Asker,
    pub(crate) look: Look,
    /// How often it met bad blocks.
    pub(crate) tries: u32,
}

/// Looks under way, and listings that wait for the log.
#[derive(Debug, Default)]
pub(crate) struct Looks {
    next_ticket: u64,
    tickets: BTreeMap<u64, Question>,
    barriers: VecDeque<(u64, SessionId, u64, Query)>,
}

impl Looks {
    pub(crate) fn forget(&mut self, conn: MountConn) {
        self.tickets
            .retain(|_, q| !matches!(q.asker, Asker::Mount { conn: c, .. } if c == conn));
    }

    /// The other brick, or the merge, does not wait any more.
    pub(crate) fn forget_bricks(&mut self) {
        self.tickets.retain(|_, q| matches!(q.asker, Asker::Mount { .. }));
    }

    /// Does the disk owe a mount an answer? What bricks ask for may take long.
    pub(crate) fn are_open(&self) -> bool {
        self.tickets.values().any(|q| matches!(q.asker, Asker::Mount { .. }))
    }

    pub(crate) fn clear_barriers(&mut self) {
        self.barriers.clear();
    }
}

impl Brick {
    pub(crate) fn on_query(&mut self, conn: MountConn, id: u64, query: Query, out: &mut Vec<Output>) {
        let look = match query {
            Query::Read { ino, offset, len } => {
                self.readers.read(ino);
                Look::Read { ino, offset, len }
            }
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

    /// A mount's stream is gone.
    pub(crate) fn forget_looks(&mut self, conn: MountConn) {
        self.looks.forget(conn);
        self.rot
            .forget(|asker| matches!(asker, Asker::Mount { conn: c, .. } if *c == conn));
    }

    pub(crate) fn look(&mut self, asker: Asker, look: Look, out: &mut Vec<Output>) {
        self.ask_disk(Question { asker, look, tries: 0 }, out);
    }

    pub(crate) fn ask_disk(&mut self, question: Question, out: &mut Vec<Output>) {
        let look = question.look.clone();
        self.looks.next_ticket += 1;
        let ticket = self.looks.next_ticket;
        self.looks.tickets.insert(ticket, question);
        out.push(Output::Disk(DiskOp::Look { ticket, look }));
    }

    pub(crate) fn on_look(&mut self, ticket: u64, result: Result<Seen, Errno>, out: &mut Vec<Output>) {
        let Some(question) = self.looks.tickets.remove(&ticket) else {
            return;
        };
        if let (Asker::Repair { ticket }, result) = (question.asker, &result) {
            return self.on_repaired(ticket, result.clone(), out);
        }
        if let Asker::Quarantine { ticket } = question.asker {
            return self.on_quarantine_look(ticket, result, out);
        }
        match (result, &question.look) {
            (
                Ok(Seen::Rotten(blocks)),
                Look::Read { ino, .. }
                | Look::Block { ino, .. }
                | Look::Index { ino, .. }
                | Look::Copy { ino, .. }
                | Look::Digests { ino, .. },
            ) => {
                let ino = *ino;
                self.on_rotten(question, ino, &blocks, out);
            }
            (Ok(Seen::Rotten(_)), _) => self.deny(&question, Errno::ESTALE, out),
            (Ok(Seen::Doubtful(data)), _) => self.give_block(&question, data, out),
            (Ok(Seen::Data(data) | Seen::Raw { bytes: data, .. }), _) => {
                self.give(&question, Ok(Found::Data(data)), out)
            }
            (Ok(Seen::Names(names)), _) => self.give(&question, Ok(Found::Names(names)), out),
            (Err(errno), _) => self.deny(&question, errno, out),
        }
    }

    /// A block that fits and is in doubt.
    fn give_block(&mut self, question: &Question, data: Bytes, out: &mut Vec<Output>) {
        if let Asker::Check { ticket, version } = question.asker {
            out.push(Output::Peer(ToPeer::Checked {
                ticket,
                version,
                sure: false,
                data: Ok(data),
            }));
        }
    }

    /// There is no answer.
    pub(crate) fn deny(&mut self, question: &Question, errno: Errno, out: &mut Vec<Output>) {
        self.give(question, Err(errno), out);
    }

    fn give(&mut self, question: &Question, result: Result<Found, Errno>, out: &mut Vec<Output>) {
        match question.asker {
            Asker::Mount { conn, id } => out.push(Output::Mount {
                conn,
                frame: ToMount::Found { id, result },
            }),
            Asker::Peer { ticket } => out.push(Output::Peer(ToPeer::Part {
                ticket,
                data: result.map(data_of),
                last: true,
            })),
            Asker::Check { ticket, version } => out.push(Output::Peer(ToPeer::Checked {
                ticket,
                version,
                sure: true,
                data: result.map(data_of),
            })),
            Asker::Heal => self.on_own_look(result.map(data_of), out),
            Asker::Sums { version } => {
                if let (Ok(found), Look::Sums { ino, first, count }) = (result, &question.look) {
                    let (ino, first, count) = (*ino, *first, *count);
                    self.compare((ino, version), (first, count), data_of(found), out);
                }
            }
            Asker::Repair { .. } | Asker::Quarantine { .. } | Asker::Suspect => {}
        }
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
fn data_of(found: Found) -> Bytes {
    match found {
        Found::Data(data) => data,
        _ => Bytes::new(),
    }
}
