//! The bytes of one file's new content: asked for piece by piece, staged, committed.
//!
//! Promises: no more than one record's bytes are held; readers see the old content until the commit (L6).
//! Not here: which pieces (`decide`, `mailbox`).

use super::{Step, Wish, version_of};
use crate::{brick::Brick, output::Output, query::Asker};
use alloc::{collections::VecDeque, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Ino, Timestamp,
    call::{Extent, Op},
    disk::Look,
    heal::{Ask, Of},
    limits,
};

/// Bytes asked for at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// New content of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Take {
    /// The file here
    pub(super) into: Ino,
    /// and the version that this was worked out from.
    pub(super) expect: u64,
    /// As in `Op::Commit`.
    pub(super) cut: u64,
    /// As in `Op::Commit`.
    pub(super) size: u64,
    /// As in `Op::Commit`.
    pub(super) mtime: Timestamp,
    /// Ascending.
    pub(super) pieces: Vec<Piece>,
    /// The version there that is merged with it.
    pub(super) version: Option<u64>,
}

/// Bytes that come from somewhere.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Piece {
    /// Where they go.
    pub(super) at: u64,
    /// Where they are.
    pub(super) offset: u64,
    /// How many.
    pub(super) len: u64,
    /// In which file.
    pub(super) from: From,
}

/// See `Piece`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum From {
    /// A file here.
    Ours(Ino),
    /// The file there.
    Theirs,
    /// The file there as it is, damaged or not.
    TheirsRaw,
    /// These.
    Bytes(Bytes),
}

/// What is needed next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Wants {
    Ours {
        ino: Ino,
        offset: u64,
        len: u32,
    },
    Theirs {
        offset: u64,
        len: u32,
    },
    /// A whole block; a piece of these begins where one does.
    TheirsRaw {
        block: u64,
    },
    Stage(Op),
    Commit(Op),
}

/// See above.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Gather {
    take: Take,
    todo: VecDeque<Piece>,
    extents: Vec<Extent>,
    bytes: usize,
    staged: bool,
    wanted: u64,
}

impl Gather {
    pub(super) fn new(mut take: Take) -> Self {
        let todo = core::mem::take(&mut take.pieces).into();
        Self {
            take,
            todo,
            extents: Vec::new(),
            bytes: 0,
            staged: false,
            wanted: 0,
        }
    }

    /// The file and the version that it must still have.
    pub(super) const fn expect(&self) -> (Ino, u64) {
        (self.take.into, self.take.expect)
    }

    pub(super) const fn version(&self) -> Option<u64> {
        self.take.version
    }

    /// Bytes still to be written.
    pub(super) fn needs(&self) -> u64 {
        self.todo.iter().map(|p| p.len).sum()
    }

    pub(super) fn next(&mut self) -> Wants {
        while let Some(piece) = self.todo.front() {
            let room = limits::RECORD_BYTES_MAX - self.bytes;
            if room < limits::EXTENT_HEAD_BYTES + 1 {
                return Wants::Stage(self.stage());
            }
            let room = (room - limits::EXTENT_HEAD_BYTES) as u64;
            let len = match piece.from {
                From::TheirsRaw => piece.len.min(limits::SUM_BLOCK_BYTES),
                _ => piece.len.min(CHUNK_BYTES).min(room),
            };
            if len > room {
                return Wants::Stage(self.stage());
            }
            self.wanted = len;
            let offset = piece.offset;
            let short = len as u32; // at most CHUNK_BYTES
            match &piece.from {
                From::Ours(ino) => {
                    return Wants::Ours {
                        ino: *ino,
                        offset,
                        len: short,
                    };
                }
                From::Theirs => return Wants::Theirs { offset, len: short },
                From::TheirsRaw => {
                    let block = offset / limits::SUM_BLOCK_BYTES;
                    return Wants::TheirsRaw { block };
                }
                From::Bytes(bytes) => {
                    let start = offset as usize; // within bytes in memory
                    let data = bytes.slice(start..start + len as usize);
                    self.take(data);
                }
            }
        }
        Wants::Commit(self.commit())
    }

    /// The bytes that were wanted. False: there are fewer than the file was said to have.
    pub(super) fn take(&mut self, data: Bytes) -> bool {
        let Some(piece) = self.todo.front_mut() else {
            return false;
        };
        let len = data.len() as u64;
        if len != self.wanted {
            return false;
        }
        self.bytes += data.len() + limits::EXTENT_HEAD_BYTES;
        self.extents.push(Extent { offset: piece.at, data });
        piece.at += len;
        piece.offset += len;
        piece.len -= len;
        if piece.len == 0 {
            self.todo.pop_front();
        }
        true
    }

    fn stage(&mut self) -> Op {
        self.bytes = 0;
        let first = !core::mem::replace(&mut self.staged, true);
        Op::Stage {
            ino: self.take.into,
            first,
            extents: core::mem::take(&mut self.extents),
        }
    }

    fn commit(&mut self) -> Op {
        Op::Commit {
            ino: self.take.into,
            staged: self.staged,
            cut: self.take.cut,
            extents: core::mem::take(&mut self.extents),
            size: self.take.size,
            mtime: self.take.mtime,
            atime: None,
        }
    }
}

impl Brick {
    /// The next piece of new content.
    pub(super) fn gather_bytes(&mut self, out: &mut Vec<Output>) {
        let room = self.room().free;
        let Some(heal) = &mut self.heal else { return };
        let Some(ino) = heal.todo.front().map(|c| c.ino) else {
            return;
        };
        let step = core::mem::replace(&mut heal.step, Step::List);
        let Step::Bytes(mut gather) = step else {
            heal.step = step;
            return;
        };
        if gather.needs() > room {
            return self.stop_merge("no space left on the bricks", out);
        }
        match gather.next() {
            Wants::Ours { ino, offset, len } => {
                heal.step = Step::Bytes(gather);
                self.look(Asker::Heal, Look::Read { ino, offset, len }, out);
            }
            Wants::Theirs { offset, len } => {
                heal.step = Step::Bytes(gather);
                let of = Of::Now;
                self.ask_peer(Ask::Read { ino, of, offset, len }, out);
            }
            Wants::TheirsRaw { block } => {
                heal.step = Step::Bytes(gather);
                self.ask_peer(Ask::Raw { ino, block }, out);
            }
            Wants::Stage(op) => {
                let wish = Wish {
                    then: Some(gather),
                    ..Wish::plain(op, None)
                };
                self.request(wish, out);
            }
            Wants::Commit(op) => {
                let Some((held, keys)) = heal.held.take() else { return };
                let (into, version) = gather.expect();
                debug_assert!(held == into && version_of(&self.state, into) == Some(version), "Z3");
                self.number_wish(ino, Wish::making(op, None, gather.version(), None), keys, out);
            }
        }
    }
}
