//! Looking for rot without being asked: a pass over all files, some blocks at a time, as slowly as was agreed.
//!
//! S-1  Mail comes first: at most `SCRUB_BYTES_PER_SECOND`, one question at a time, and the disk does it when it has nothing
//!      else to do.
//! S-2  What does not fit is looked at again in its turn among the effects before it is called rot: a change in between looks
//!      the same.
//! S-3  How far a pass has come is in the superblock, written whenever that is written anyway, and when a pass begins, ends or
//!      rests: after a crash some of it is done again.
//!
//! S-4  What is good by itself is compared with the other brick: both must have the same sums of a file of the same version.
//!     A file that changes in between is compared in the next pass.
//!
//! Not here: what becomes of what is found (`rot`).

use crate::{
    brick::Brick,
    output::{Event, Output},
    query::Asker,
    view::Stand,
};
use alloc::{string::String, string::ToString, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Errno, Ino, Kind, Nanos, Timestamp,
    admin::{ScrubReport, ScrubVerb},
    disk::{DiskOp, Look},
    limits,
    peer::{Check, ToPeer},
};

/// Nanoseconds that a block takes.
const BLOCK_TIME: Nanos = Nanos(limits::SUM_BLOCK_BYTES * 1_000_000_000 / limits::SCRUB_BYTES_PER_SECOND);

/// The pass under way.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    /// Next block of the file `next`, or of the first one above it.
    block: u64,
    /// Not before.
    pub(crate) due: Nanos,
    /// The disk is at it.
    asked: bool,
    /// Bytes since the pass began, or this brick was started.
    checked: u64,
    /// Asked of the other brick.
    comparing: Option<Comparing>,
}

/// Sums that the other brick should have, too.
#[derive(Debug)]
struct Comparing {
    ticket: u64,
    ino: Ino,
    version: u64,
    first: u64,
    sums: Bytes,
}

impl Brick {
    /// S-1
    pub(crate) fn tick_scrub(&mut self, out: &mut Vec<Output>) {
        let may = matches!(self.stand, Stand::Normal | Stand::Solo { .. }) && self.is_replayed();
        if !may || self.scrub.asked || self.sb.scrub.paused || self.clock.mono < self.scrub.due {
            return;
        }
        if !self.sb.scrub.is_on() {
            let rested = |ended: Timestamp| {
                let since = self.clock.real.secs.saturating_sub(ended.secs);
                since.unsigned_abs() >= limits::SCRUB_EVERY.0 / 1_000_000_000
            };
            if self.sb.scrub.ended.is_none_or(rested) {
                self.begin_pass(out);
            }
            return;
        }
        let next = self.next_to_scrub();
        match next {
            Some((ino, left)) => {
                let count = left.min(limits::SCRUB_BLOCKS);
                let first = self.scrub.block;
                self.scrub.asked = true;
                self.scrub.due = self.clock.mono + Nanos(BLOCK_TIME.0 * count);
                self.sb.scrub.next = ino;
                out.push(Output::Disk(DiskOp::Scrub { ino, first, count }));
            }
            None => self.end_pass(out),
        }
    }

    /// The next file that has blocks to be looked at, and how many.
    fn next_to_scrub(&mut self) -> Option<(Ino, u64)> {
        let at = self.sb.scrub.next;
        let (next, blocks) = self
            .state
            .files_from(at)
            .map(|(ino, size)| (ino, size.div_ceil(limits::SUM_BLOCK_BYTES)))
            .find(|(ino, blocks)| *blocks > if *ino == at { self.scrub.block } else { 0 })?;
        if next != at {
            self.scrub.block = 0;
        }
        Some((next, blocks - self.scrub.block))
    }

    fn begin_pass(&mut self, out: &mut Vec<Output>) {
        // Never before the last one: a clock that went back would look like a pass that has ended.
        let last = self.sb.scrub.ended.unwrap_or_default();
        self.sb.scrub.started = Some(self.clock.real.max(Timestamp {
            secs: last.secs + 1,
            nanos: 0,
        }));
        self.sb.scrub.next = Ino::default();
        (self.scrub.block, self.scrub.checked) = (0, 0);
        self.write_superblock(out);
    }

    fn end_pass(&mut self, out: &mut Vec<Output>) {
        self.sb.scrub.ended = self.sb.scrub.started.max(Some(self.clock.real));
        let (bytes, bad) = (self.scrub.checked, self.bad_files().len() as u64);
        Self::event(Event::Scrubbed { bytes, bad }, out);
        self.write_superblock(out);
    }

    /// The disk has compared some blocks.
    pub(crate) fn on_scrubbed(&mut self, ino: Ino, suspects: &[u64], out: &mut Vec<Output>) {
        self.scrub.asked = false;
        let first = self.scrub.block;
        self.scrub.block += limits::SCRUB_BLOCKS;
        self.scrub.checked += limits::SCRUB_BLOCKS * limits::SUM_BLOCK_BYTES;
        for block in suspects {
            let (block, deep) = (*block, true);
            self.look(Asker::Suspect, Look::Block { ino, block, deep }, out); // S-2
        }
        if self.stand == Stand::Normal
            && let Ok(version) = self.state.inode(ino).map(|inode| inode.version)
        {
            let count = limits::SCRUB_BLOCKS;
            self.look(Asker::Sums { version }, Look::Sums { ino, first, count }, out);
        }
    }

    /// S-4
    pub(crate) fn compare(
        &mut self,
        (ino, version): (Ino, u64),
        (first, count): (u64, u64),
        sums: Bytes,
        out: &mut Vec<Output>,
    ) {
        let ticket = self.rot.ticket();
        self.scrub.comparing = Some(Comparing {
            ticket,
            ino,
            version,
            first,
            sums,
        });
        let check = Check::Sums { ino, first, count };
        out.push(Output::Peer(ToPeer::Check { ticket, check }));
    }

    /// The other brick has said its sums.
    pub(crate) fn on_compared(&mut self, ticket: u64, version: u64, data: Result<Bytes, Errno>, out: &mut Vec<Output>) {
        let Some(ours) = self.scrub.comparing.take_if(|ours| ours.ticket == ticket) else {
            return;
        };
        let Ok(theirs) = data else { return };
        if version != ours.version {
            return;
        }
        for (at, (a, b)) in (ours.first..).zip(ours.sums.chunks(4).zip(theirs.chunks(4))) {
            if a != b && !self.is_bad((ours.ino, at)) {
                let path = self.shown_path(ours.ino);
                Self::event(Event::Differ { path, block: at }, out);
            }
        }
    }

    /// An operator's word.
    pub(crate) fn order_scrub(&mut self, verb: ScrubVerb, out: &mut Vec<Output>) -> Result<(), String> {
        let mark = self.sb.scrub;
        self.scrub.due = self.clock.mono;
        match verb {
            ScrubVerb::Start if mark.is_on() && !mark.paused => return Err("a scrub is under way already".to_string()),
            ScrubVerb::Start => {
                self.sb.scrub.paused = false;
                self.begin_pass(out);
            }
            ScrubVerb::Pause if mark.paused => return Err("the scrub is paused already".to_string()),
            ScrubVerb::Pause => {
                self.sb.scrub.paused = true;
                self.write_superblock(out);
            }
            ScrubVerb::Resume if !mark.paused => return Err("the scrub is not paused".to_string()),
            ScrubVerb::Resume => {
                self.sb.scrub.paused = false;
                self.write_superblock(out);
            }
        }
        Ok(())
    }

    pub(crate) fn scrub_report(&self) -> ScrubReport {
        let bytes = self.state.files_from(Ino::default()).map(|(_, size)| size).sum();
        ScrubReport {
            mark: self.sb.scrub,
            bytes,
            checked: self.scrub.checked.min(bytes),
            bad: self.bad_files(),
            repaired: self.rot.repaired,
            quarantined: self.quarantined(),
        }
    }
}

impl crate::state::State {
    /// Files and their sizes, from this number on.
    fn files_from(&self, first: Ino) -> impl Iterator<Item = (Ino, u64)> {
        self.inodes_from(first)
            .filter(|(_, inode)| inode.kind() == Kind::File)
            .map(|(ino, inode)| (*ino, inode.size))
    }
}
