//! One file becomes that of the peer: what may differ is found by checksums of blocks, and only that travels.
//!
//! C1  What the file surely shares with the peer's is not looked at: all of a known version, and what lies below the first
//!     byte that was written since (`debt`).
//! C2  It is cut to its size in the state first, and never longer (Y3 of `resync`).
//! C3  Bytes are written into the file that is there: its inode stays (L10).
//! C4  What the peer cannot read, and both cannot make together (`rot` T8), is taken as it is there, block by block, and known
//!     to be bad here as well. Once both are in step they deal with it. The rest of the file comes as ever.
//!
//! Not here: in which order files come (`resync`).

use super::{Resync, Step};
use crate::{brick::Brick, output::Output, tree};
use alloc::{collections::VecDeque, vec, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Errno, Ino,
    call::Extent,
    disk::{DiskOp, Effect, Look},
    heal::{Ask, Of},
    limits,
};

const BLOCK: u64 = limits::BLOCK_BYTES as u64;
const SUM_BLOCK: u64 = limits::SUM_BLOCK_BYTES;

/// A file under way.
#[derive(Debug)]
pub(super) struct Copy {
    ino: Ino,
    size: u64,
    version: u64,
    /// Below this it is compared.
    at: u64,
    wait: Wait,
    /// To be fetched: from and to, ascending.
    ranges: VecDeque<(u64, u64)>,
    fetched: bool,
}

#[derive(Debug)]
enum Wait {
    /// Checksums of the file here.
    Own,
    /// Those of the peer; the ones here, and up to where they go.
    Theirs(Bytes, u64),
    /// Bytes, from and to.
    Bytes(u64, u64),
    /// C4: the block with these, as it is.
    Damaged(u64, u64),
    /// Time, or room on the disk.
    Turn,
}

impl Copy {
    pub(super) const fn waits(&self) -> bool {
        matches!(self.wait, Wait::Turn)
    }

    fn take_range(&mut self) -> Option<(u64, u64)> {
        let (from, to) = self.ranges.pop_front()?;
        let end = to.min(from + limits::COPY_BYTES_MAX as u64);
        if end < to {
            self.ranges.push_front((end, to));
        }
        Some((from, end))
    }

    /// Blocks from `at` up to `end` that are not the same. Returns how many bytes are.
    fn compare(&mut self, own: &[u8], theirs: &[u8], end: u64) -> u64 {
        let mut theirs = theirs.chunks(limits::DIGEST_BYTES);
        let mut same = 0;
        for digest in own.chunks(limits::DIGEST_BYTES) {
            let to = (self.at + BLOCK).min(end);
            if theirs.next() == Some(digest) {
                same += to - self.at;
                self.at = to;
            } else {
                self.want(to);
            }
        }
        same
    }

    /// C4: these cannot be read there. True: they lie in one block, which is the bad one. Else its blocks are asked for one by
    /// one.
    fn split(&mut self, from: u64, to: u64) -> bool {
        let edge = (from / SUM_BLOCK + 1) * SUM_BLOCK;
        if edge < to {
            self.ranges.push_front((edge, to));
            self.ranges.push_front((from, edge));
        }
        edge >= to
    }

    /// Everything from `at` up to `to` has to be fetched.
    fn want(&mut self, to: u64) {
        match self.ranges.back_mut() {
            Some(last) if last.1 == self.at => last.1 = to,
            _ if self.at < to => self.ranges.push_back((self.at, to)),
            _ => {}
        }
        self.at = to;
    }
}

impl Brick {
    /// The next file that is not known to be right.
    pub(super) fn next_file(&mut self, out: &mut Vec<Output>) {
        loop {
            let Some(resync) = &mut self.resync else { return };
            if resync.unsaved > self.checkpoint_bytes {
                resync.step = Step::Settling;
                return self.save(out);
            }
            let Some(ino) = resync.todo.pop_front() else {
                return self.end_copying(out);
            };
            let Some(target) = &resync.target else { return };
            let Ok(inode) = target.state.inode(ino) else { continue };
            let known = resync.known.get(&ino);
            let shared = known.map_or(0, |version| target.debt.shared(ino, *version));
            let copy = Copy {
                ino,
                size: inode.size,
                version: inode.version,
                at: shared.min(inode.size),
                wait: Wait::Own,
                ranges: VecDeque::new(),
                fetched: false,
            };
            resync.report.bytes_done += copy.at;
            let cut = tree::resize(ino, inode);
            let compares = copy.at < copy.size;
            resync.step = Step::File(copy);
            if compares {
                self.look_at_next(out);
            }
            out.push(Output::Disk(DiskOp::Apply(vec![cut]))); // C2, after the file here was opened to be looked at
            if compares {
                return;
            }
            self.finish_file();
        }
    }

    fn copy(&mut self) -> Option<&mut Copy> {
        match self.resync.as_mut().map(|r| &mut r.step) {
            Some(Step::File(copy)) => Some(copy),
            _ => None,
        }
    }

    /// The next blocks of the file here.
    fn look_at_next(&mut self, out: &mut Vec<Output>) {
        let Some(copy) = self.copy() else { return };
        copy.wait = Wait::Own;
        let (ino, offset) = (copy.ino, copy.at);
        let len = (copy.size - offset).min(limits::DIGEST_SPAN);
        self.look_here(Look::Digests { ino, offset, len }, out);
    }

    /// Checksums of the file here. One that cannot be read is as good as none.
    pub(crate) fn on_own_digests(&mut self, own: Result<Bytes, Errno>, out: &mut Vec<Output>) {
        let Some(copy) = self.copy().filter(|c| matches!(c.wait, Wait::Own)) else {
            return;
        };
        let own = own.unwrap_or_default();
        if own.is_empty() {
            copy.want(copy.size); // the file here ends
            return self.go_on_copying(out);
        }
        let blocks = (own.len() / limits::DIGEST_BYTES) as u64;
        let (ino, offset) = (copy.ino, copy.at);
        let len = (blocks * BLOCK).min(copy.size - offset);
        copy.wait = Wait::Theirs(own, offset + len);
        self.ask_source(Ask::Digests { ino, offset, len }, out);
    }

    /// The peer answers about the file.
    pub(super) fn on_file_answer(&mut self, data: Result<Bytes, Errno>, out: &mut Vec<Output>) {
        let Some(copy) = self.copy() else { return };
        match (&copy.wait, data) {
            (Wait::Theirs(_, end), Err(Errno::ENODATA)) => {
                copy.want(*end);
                self.go_on_copying(out);
            }
            (Wait::Bytes(from, to), Err(Errno::ENODATA)) => {
                let (from, to) = (*from, *to);
                if !copy.split(from, to) {
                    return self.go_on_copying(out);
                }
                copy.wait = Wait::Damaged(from, to);
                let (ino, block) = (copy.ino, from / SUM_BLOCK);
                self.ask_source(Ask::Raw { ino, block }, out);
            }
            (Wait::Theirs(..) | Wait::Bytes(..) | Wait::Damaged(..), Err(Errno::ESTALE)) => {
                // It is gone there: its log will tell.
                self.finish_file();
                self.next_file(out);
            }
            (Wait::Theirs(..) | Wait::Bytes(..) | Wait::Damaged(..), Err(_)) => {
                self.fail_resync("it cannot read a file", out)
            }
            (Wait::Theirs(own, end), Ok(theirs)) => {
                let (own, end) = (own.clone(), *end);
                // The file here did not go on, or the look did not.
                let ended = end < copy.size && end - copy.at < limits::DIGEST_SPAN;
                let same = copy.compare(&own, &theirs, end);
                if ended {
                    copy.want(copy.size);
                }
                if let Some(resync) = &mut self.resync {
                    resync.report.bytes_done += same;
                }
                self.go_on_copying(out);
            }
            (Wait::Bytes(from, _), Ok(data)) => {
                let from = *from;
                self.take_bytes(from, data, out);
                self.go_on_copying(out);
            }
            (Wait::Damaged(from, to), Ok(data)) => {
                let (from, to) = (*from, *to);
                self.take_damaged((from, to), &data, out);
                self.go_on_copying(out);
            }
            (Wait::Own | Wait::Turn, _) => {}
        }
    }

    fn take_bytes(&mut self, offset: u64, data: Bytes, out: &mut Vec<Output>) {
        let Some(resync) = &mut self.resync else { return };
        let (Step::File(copy), Some(target)) = (&mut resync.step, &resync.target) else {
            return;
        };
        copy.fetched = true;
        let ino = copy.ino;
        let Ok(inode) = target.state.inode(ino) else { return };
        if data.is_empty() {
            return; // it is shorter there by now: its log will tell
        }
        let bytes = data.len();
        let mut effect = tree::resize(ino, inode);
        if let Effect::Write { extents, .. } = &mut effect {
            extents.push(Extent { offset, data }); // C3
        }
        out.push(Output::Disk(DiskOp::Apply(vec![effect])));
        resync.came(bytes);
    }

    /// C4. `block`: all of it, as it is there.
    fn take_damaged(&mut self, (from, to): (u64, u64), block: &Bytes, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let Some(resync) = &mut self.resync else { return };
        let Step::File(copy) = &mut resync.step else { return };
        copy.fetched = true;
        let ino = copy.ino;
        let in_block = |at: u64| usize::try_from(at - from / SUM_BLOCK * SUM_BLOCK).unwrap_or(usize::MAX);
        let range = in_block(from).min(block.len())..in_block(to).min(block.len());
        let bytes = block.slice(range);
        if bytes.is_empty() {
            return; // it is shorter there by now: its log will tell
        }
        resync.came(bytes.len());
        let offset = from;
        out.push(Output::Disk(DiskOp::Apply(vec![Effect::Damaged {
            ino,
            offset,
            bytes,
        }])));
        self.rot.take_damaged((ino, from / SUM_BLOCK), now);
    }

    /// Asks for the next bytes that are missing, or goes on comparing, or to the next file.
    pub(super) fn go_on_copying(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let room = self.room().free >= limits::COPY_BYTES_MAX as u64;
        let Some(Resync {
            step: Step::File(copy),
            rate,
            ..
        }) = &mut self.resync
        else {
            return;
        };
        if !copy.ranges.is_empty() {
            if !room || rate.is_used_up(now) {
                copy.wait = Wait::Turn;
                return;
            }
            let Some((from, to)) = copy.take_range() else { return };
            let bytes = to - from;
            copy.wait = Wait::Bytes(from, to);
            rate.use_up(bytes, now); // Y5
            let ask = Ask::Read {
                ino: copy.ino,
                of: Of::Now,
                offset: from,
                len: u32::try_from(bytes).unwrap_or(u32::MAX),
            };
            self.spent.admit(bytes, 0);
            return self.ask_source(ask, out);
        }
        if copy.at < copy.size {
            return self.look_at_next(out);
        }
        self.finish_file();
        self.next_file(out);
    }

    /// All of it is here, or will be when the log is executed.
    fn finish_file(&mut self) {
        let Some(resync) = &mut self.resync else { return };
        let Step::File(copy) = core::mem::replace(&mut resync.step, Step::Settling) else {
            return;
        };
        resync.known.insert(copy.ino, copy.version);
        resync.report.files_done += 1;
        resync.report.files_copied += u64::from(copy.fetched);
    }
}
