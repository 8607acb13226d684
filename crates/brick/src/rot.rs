//! Blocks that rotted: found by whoever reads them, repaired from the other brick before anybody gets an answer (law L12).
//!
//! T1  Who asked for a bad block waits until it is repaired, or is told ESTALE: the other brick is away, both copies together
//!     do not make it, or it took too long. Never wrong bytes, never EIO (L9).
//! T2  A block of the other brick counts only if both are in step and its file is of the version that it has here. It is put
//!     in place in the order of effects, so no change comes in between.
//! T3  What is bad is known until it is good again; it is tried again as long as both bricks are in step.
//! T4  What a crash has left in doubt is served, and settled with the other brick's copy as soon as both are in step.
//! T5  While the log of before the start is not executed to its end the files may be of its future: what does not fit then is
//!     no rot.
//! T6  While one brick merges what the other one has, each asks the other for what it cannot read: what lies below the size
//!     at the fork is put before what is here behind it, and counts if all of it fits.
//! T7  If the other brick's copy is bad, too, and both are in step, it is asked for as it is: two damaged copies make a good
//!     one, as a rule (`store::mend`). Each brick does that for itself.
//! T8  While the other brick gets its files from here, it is asked for what it holds in the place of a bad block, as it is:
//!     whatever that is, it counts only if both copies make the block. If they do not, it gets the block as it is here, and
//!     knows it to be bad (`resync::copy` C4), so that both can be in step again.
//!
//! Not here: checksums (`store`), who looks for rot without being asked (`scrub`), what becomes of a block that both copies
//! do not make (`heal::quarantine`).

use crate::{
    brick::Brick,
    output::{Event, Output},
    query::{Asker, Question},
    view::Stand,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec,
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_types::{
    Errno, Ino, Nanos,
    admin::BadFile,
    disk::{DiskOp, Effect, Look, Seen},
    limits,
    peer::{Check, ToPeer},
};

/// Tries to read a whole mailbox that changes all the time.
const INDEX_TRIES_MAX: u32 = 8;
/// Repairs that one look waits for, one after the other.
const LOOK_TRIES_MAX: u32 = 20;
/// Times that a block of a file that changes all the time is asked for in a row.
const ASKS_MAX: u32 = 20;
/// Looks that wait; more are refused.
const WAITING_MAX: usize = 1000;

/// Where a block is.
pub(crate) type At = (Ino, u64);

/// A bad block.
#[derive(Debug)]
struct Bad {
    /// Of the question to the other brick, or of the look that shows whether the repair was one.
    ticket: Option<u64>,
    /// When to ask again.
    again: Nanos,
    asks: u32,
    /// T7: the other brick was asked for its copy as it is.
    raw: bool,
    /// The other brick's copy is bad, too, or does not fit.
    both: bool,
    /// Both were tried together.
    twice: bool,
    /// T4: it is only in doubt.
    doubtful: bool,
}

impl Bad {
    const fn new(again: Nanos, doubtful: bool) -> Self {
        Self {
            ticket: None,
            again,
            asks: 0,
            raw: false,
            both: false,
            twice: false,
            doubtful,
        }
    }
}

/// A look that waits for blocks.
#[derive(Debug)]
struct Waiting {
    question: Question,
    blocks: BTreeSet<At>,
    until: Nanos,
}

/// What is bad here.
#[derive(Debug, Default)]
pub(crate) struct Rot {
    bad: BTreeMap<At, Bad>,
    waiting: Vec<Waiting>,
    tickets: u64,
    pub(crate) repaired: u64,
    /// Files that are not quarantined before that.
    pub(crate) put_off: BTreeMap<Ino, Nanos>,
    /// Files that cannot be, as they are in this version.
    pub(crate) spared: BTreeMap<Ino, u64>,
    /// T5: last record of the log at the start.
    pub(crate) replay_end: u64,
    /// The disk was asked what it knows to be bad.
    asked: bool,
}

impl Rot {
    /// Who asked does not wait any more.
    pub(crate) fn forget(&mut self, gone: impl Fn(&Asker) -> bool) {
        self.waiting.retain(|w| !gone(&w.question.asker));
    }

    /// The other brick's bytes were taken, which are bad there.
    pub(crate) fn take_damaged(&mut self, at: At, now: Nanos) {
        self.bad.insert(at, Bad::new(now, false));
    }

    pub(crate) fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// How many blocks of a file are bad here, and those that both copies do not make.
    pub(crate) fn blocks_of(&self, ino: Ino) -> (usize, BTreeSet<u64>) {
        let all = self.bad.range((ino, 0)..=(ino, u64::MAX));
        let bad: Vec<_> = all.filter(|(_, bad)| !bad.doubtful || bad.both).collect();
        let twice = bad.iter().filter(|(_, bad)| bad.twice).map(|((_, block), _)| *block);
        (bad.len(), twice.collect())
    }

    /// Bad blocks of a file from this one on.
    pub(crate) fn bad_above(&self, ino: Ino, block: u64) -> Vec<At> {
        let all = self.bad.range((ino, block)..=(ino, u64::MAX));
        all.map(|(at, _)| *at).collect()
    }

    /// It is not bad any more.
    pub(crate) fn forget_block(&mut self, at: At) {
        self.bad.remove(&at);
    }

    fn of_ticket(&mut self, ticket: u64) -> Option<(At, &mut Bad)> {
        let found = self.bad.iter_mut().find(|(_, bad)| bad.ticket == Some(ticket));
        found.map(|(at, bad)| (*at, bad))
    }
}

impl Brick {
    /// A look met bad blocks.
    pub(crate) fn on_rotten(&mut self, mut question: Question, ino: Ino, blocks: &[u64], out: &mut Vec<Output>) {
        question.tries += 1;
        if !self.is_replayed() {
            return self.deny(&question, not_now(&question), out); // T5
        }
        let at_leisure = matches!(
            question.look,
            Look::Index { .. } | Look::Copy { .. } | Look::Digests { .. }
        );
        if at_leisure && question.tries < INDEX_TRIES_MAX {
            return self.ask_disk(question, out); // a change in between looks the same
        }
        self.found_rotten(ino, blocks, out);
        let hopeless = |at: &At| self.rot.bad.get(at).is_none_or(|bad| bad.both);
        let waits = self.may_repair()
            && question.tries < LOOK_TRIES_MAX
            && self.rot.waiting.len() < WAITING_MAX
            && !matches!(question.asker, Asker::Check { .. } | Asker::Suspect)
            && !blocks.iter().any(|block| hopeless(&(ino, *block)));
        if !waits {
            return self.deny(&question, unreadable(&question), out); // T1
        }
        self.rot.waiting.push(Waiting {
            question,
            blocks: blocks.iter().map(|block| (ino, *block)).collect(),
            until: self.clock.mono + limits::REPAIR_WAIT,
        });
    }

    /// These blocks are bad: that is written down, and the other brick is asked.
    pub(crate) fn found_rotten(&mut self, ino: Ino, blocks: &[u64], out: &mut Vec<Output>) {
        let new: Vec<u64> = blocks
            .iter()
            .copied()
            .filter(|block| self.rot.bad.get(&(ino, *block)).is_none_or(|bad| bad.doubtful))
            .collect();
        if new.is_empty() {
            return;
        }
        let path = self.shown_path(ino);
        let blocks = new.clone();
        Self::event(Event::Rotten { path, blocks }, out);
        for block in &new {
            self.note_bad((ino, *block), false);
        }
        out.push(Output::Disk(DiskOp::Apply(vec![Effect::Rotten { ino, blocks: new }])));
        self.ask_for_blocks(out);
    }

    fn note_bad(&mut self, at: At, doubtful: bool) {
        self.rot.bad.insert(at, Bad::new(self.clock.mono, doubtful));
    }

    /// T5
    pub(crate) const fn is_replayed(&self) -> bool {
        self.state.applied >= self.rot.replay_end
    }

    /// What the disk knows from before the start.
    pub(crate) fn on_damage(&mut self, bad: Vec<At>, doubtful: Vec<At>, out: &mut Vec<Output>) {
        let mut files: BTreeMap<Ino, Vec<u64>> = BTreeMap::new();
        for (ino, block) in bad {
            files.entry(ino).or_default().push(block);
        }
        for (ino, blocks) in files {
            self.found_rotten(ino, &blocks, out);
        }
        for at in doubtful {
            if !self.rot.bad.contains_key(&at) {
                self.note_bad(at, true);
            }
        }
    }

    /// Bad, or in doubt.
    pub(crate) fn is_bad(&self, at: At) -> bool {
        self.rot.bad.contains_key(&at)
    }

    /// T6
    fn merges(&self) -> bool {
        self.heal.is_some() || matches!(self.stand, Stand::Yielding { .. })
    }

    /// The other brick can be asked.
    fn may_repair(&self) -> bool {
        self.stand == Stand::Normal || self.merges() || self.feeds_files()
    }

    /// T3
    fn ask_for_blocks(&mut self, out: &mut Vec<Output>) {
        if !self.may_repair() {
            return;
        }
        let raw = self.feeds_files(); // T8
        let now = self.clock.mono;
        let due: Vec<At> = self
            .rot
            .bad
            .iter()
            .filter(|(_, bad)| bad.again <= now)
            .map(|(at, _)| *at)
            .take(limits::REPAIRS_MAX)
            .collect();
        for at in due {
            self.ask_for_block(at, raw, out);
        }
    }

    /// `raw`: T7, T8.
    fn ask_for_block(&mut self, (ino, block): At, raw: bool, out: &mut Vec<Output>) {
        if self.state.inode(ino).is_err() {
            self.rot.bad.remove(&(ino, block)); // freed meanwhile
            return self.let_go_of((ino, block), out);
        }
        let (ticket, again) = (self.rot.ticket(), self.clock.mono + limits::REPAIR_WAIT);
        if let Some(bad) = self.rot.bad.get_mut(&(ino, block)) {
            bad.ticket = Some(ticket);
            bad.again = again; // an answer that does not come is not waited for
            bad.asks += 1;
            bad.raw = raw;
            let check = if raw {
                Check::Raw { ino, block }
            } else {
                Check::Block { ino, block }
            };
            out.push(Output::Peer(ToPeer::Check { ticket, check }));
        }
    }

    /// The other brick asks.
    pub(crate) fn on_check(&mut self, ticket: u64, check: Check, out: &mut Vec<Output>) {
        let (ino, look) = match check {
            Check::Block { ino, block } => {
                let deep = false;
                (ino, Look::Block { ino, block, deep })
            }
            Check::Raw { ino, block } => (ino, Look::Raw { ino, block }),
            Check::Sums { ino, first, count } => (ino, Look::Sums { ino, first, count }),
        };
        let version = self.state.inode(ino).map(|inode| inode.version);
        match version {
            Ok(version) if self.stand == Stand::Normal || self.merges() => {
                self.look(Asker::Check { ticket, version }, look, out);
            }
            _ if self.stand == Stand::Copying && matches!(check, Check::Raw { .. }) => {
                self.look(Asker::Check { ticket, version: 0 }, look, out); // T8
            }
            _ => out.push(Output::Peer(ToPeer::Checked {
                ticket,
                version: 0,
                sure: false,
                data: Err(Errno::ESTALE),
            })),
        }
    }

    /// The other brick answers.
    pub(crate) fn on_checked(
        &mut self,
        ticket: u64,
        (version, sure): (u64, bool),
        data: Result<Bytes, Errno>,
        out: &mut Vec<Output>,
    ) {
        if self.on_quarantine_copy(ticket, version, &data, out) {
            return;
        }
        let now = self.clock.mono;
        let next = self.rot.tickets + 1;
        let (together, merges, feeds) = (self.stand == Stand::Normal, self.merges(), self.feeds_files());
        let Some(((ino, block), bad)) = self.rot.of_ticket(ticket) else {
            return self.on_compared(ticket, version, data, out);
        };
        bad.ticket = None;
        bad.again = now + limits::REPAIR_RETRY;
        let same = self.state.inode(ino).is_ok_and(|inode| inode.version == version);
        match data {
            Ok(bytes) if together && same => {
                bad.ticket = Some(next);
                let theirs = bytes;
                let effect = if bad.raw {
                    Effect::Combine { ino, block, theirs }
                } else {
                    repair((ino, block), theirs, sure)
                };
                self.restore_block((ino, block), effect, out);
            }
            Ok(theirs) if feeds && bad.raw => {
                bad.ticket = Some(next);
                self.restore_block((ino, block), Effect::Combine { ino, block, theirs }, out);
            }
            Err(_) if feeds && bad.raw => self.both_are_bad((ino, block), out), // T8: it has nothing there
            Ok(bytes) if merges && !bad.raw => {
                bad.ticket = Some(next);
                let common = self.common_part((ino, block), bytes.len());
                self.restore_block((ino, block), repair((ino, block), bytes.slice(..common), false), out);
            }
            Ok(_) if bad.asks < ASKS_MAX => {
                let raw = bad.raw && together;
                self.ask_for_block((ino, block), raw, out); // T2: it changed
            }
            Ok(_) => {
                bad.asks = 0;
                self.give_up_on((ino, block), out);
            }
            // It is marked there too, and will be asked for from here.
            Err(Errno::ENODATA) if together && !bad.raw => self.ask_for_block((ino, block), true, out),
            Err(Errno::ENODATA) if !bad.raw => self.both_are_bad((ino, block), out),
            Err(_) => self.give_up_on((ino, block), out),
        }
    }

    /// What the other brick has is put in place, and looked at.
    fn restore_block(&mut self, (ino, block): At, effect: Effect, out: &mut Vec<Output>) {
        out.push(Output::Disk(DiskOp::Apply(vec![effect])));
        let (ticket, deep) = (self.rot.ticket(), true);
        self.look(Asker::Repair { ticket }, Look::Block { ino, block, deep }, out);
    }

    /// T6: so many bytes of a block were there before the bricks parted. Never all of it: a whole block is believed where
    /// nobody knows what it has to hold, and this one is of another version.
    fn common_part(&self, (ino, block): At, len: usize) -> usize {
        let start = block * limits::SUM_BLOCK_BYTES;
        let here = self.state.inode(ino).map_or(0, |inode| inode.size);
        let size = self.fork.as_ref().map_or(here, |fork| fork.size_of(ino).unwrap_or(0));
        let own = here.saturating_sub(start).min(limits::SUM_BLOCK_BYTES);
        let part = size.saturating_sub(start).min(own.saturating_sub(1));
        usize::try_from(part).map_or(len, |part| part.min(len))
    }

    /// Whether a repair was one.
    pub(crate) fn on_repaired(&mut self, ticket: u64, seen: Result<Seen, Errno>, out: &mut Vec<Output>) {
        let Some((at, bad)) = self.rot.of_ticket(ticket) else {
            return;
        };
        bad.ticket = None;
        let left_in_doubt = matches!(seen, Ok(Seen::Doubtful(_))) && !bad.doubtful;
        if !left_in_doubt && !matches!(seen, Ok(Seen::Data(_))) {
            // The other brick's bytes do not fit what is known here.
            return self.both_are_bad(at, out);
        }
        self.is_good_again(at, left_in_doubt, out);
        self.ask_for_blocks(out);
    }

    pub(crate) fn is_good_again(&mut self, at: At, left_in_doubt: bool, out: &mut Vec<Output>) {
        let was = self.rot.bad.remove(&at);
        if left_in_doubt {
            self.note_bad(at, true); // T4
        }
        if was.is_some_and(|bad| !bad.doubtful) {
            self.rot.repaired += 1;
            let (path, block) = (self.shown_path(at.0), at.1);
            Self::event(Event::Repaired { path, block }, out);
        }
        self.let_go_of(at, out);
    }

    /// A file with a block that both copies do not make, if it is time for one.
    pub(crate) fn next_to_quarantine(&self) -> Option<Ino> {
        let now = self.clock.mono;
        let version = |ino: &Ino| self.state.inode(*ino).map(|inode| inode.version).ok();
        let spared = |ino: &Ino| self.rot.spared.get(ino).is_some_and(|v| Some(*v) == version(ino));
        let due = |ino: &Ino| self.rot.put_off.get(ino).is_none_or(|at| *at <= now) && !spared(ino);
        let twice = self
            .rot
            .bad
            .iter()
            .filter(|(_, bad)| bad.twice)
            .map(|((ino, _), _)| *ino);
        // The one that waits longest.
        twice.filter(due).min_by_key(|ino| self.rot.put_off.get(ino).copied())
    }

    fn both_are_bad(&mut self, at: At, out: &mut Vec<Output>) {
        let (now, path) = (self.clock.mono, self.shown_path(at.0));
        let wait = if self.merges() {
            limits::REPAIR_RETRY // the line that yields will soon have what is here
        } else {
            limits::REPAIR_RETRY_BOTH
        };
        let Some(bad) = self.rot.bad.get_mut(&at) else {
            return;
        };
        bad.again = now + wait;
        bad.twice = bad.raw;
        if !core::mem::replace(&mut bad.both, true) {
            let block = at.1;
            Self::event(Event::RottenTwice { path, block }, out);
        }
        self.give_up_on(at, out);
    }

    /// Who waits for this block is told.
    fn give_up_on(&mut self, at: At, out: &mut Vec<Output>) {
        self.give_up_waiting(|w| w.blocks.contains(&at), out);
    }

    fn give_up_waiting(&mut self, which: impl Fn(&Waiting) -> bool, out: &mut Vec<Output>) {
        let (gone, stay) = core::mem::take(&mut self.rot.waiting).into_iter().partition(which);
        self.rot.waiting = stay;
        let gone: Vec<Waiting> = gone;
        for waiting in gone {
            let both = |at: &At| self.rot.bad.get(at).is_some_and(|bad| bad.both);
            let errno = if waiting.blocks.iter().any(both) {
                unreadable(&waiting.question)
            } else {
                not_now(&waiting.question) // perhaps it can be repaired yet
            };
            self.deny(&waiting.question, errno, out);
        }
    }

    /// A block is good: who waited for nothing else asks again.
    pub(crate) fn let_go_of(&mut self, at: At, out: &mut Vec<Output>) {
        for waiting in &mut self.rot.waiting {
            waiting.blocks.remove(&at);
        }
        let (ready, stay) = core::mem::take(&mut self.rot.waiting)
            .into_iter()
            .partition(|w| w.blocks.is_empty());
        self.rot.waiting = stay;
        let ready: Vec<Waiting> = ready;
        for waiting in ready {
            self.ask_disk(waiting.question, out);
        }
    }

    pub(crate) fn tick_rot(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        if !self.rot.waiting.is_empty() {
            self.give_up_waiting(|w| w.until <= now, out);
        }
        if self.is_replayed() && !core::mem::replace(&mut self.rot.asked, true) {
            out.push(Output::Disk(DiskOp::Damage));
        }
        self.ask_for_blocks(out);
        self.tick_quarantine(out);
    }

    /// The bricks are not in step any more: nobody answers.
    pub(crate) fn stop_repairs(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        for bad in self.rot.bad.values_mut() {
            (bad.ticket, bad.asks, bad.again) = (None, 0, now);
            (bad.raw, bad.twice) = (false, false);
        }
        self.give_up_waiting(|_| true, out);
    }

    /// All that is bad here, by file.
    pub(crate) fn bad_files(&self) -> Vec<BadFile> {
        let mut files: BTreeMap<Ino, BadFile> = BTreeMap::new();
        for ((ino, _), bad) in self.rot.bad.iter().filter(|(_, bad)| !bad.doubtful || bad.both) {
            let file = files.entry(*ino).or_insert_with(|| BadFile {
                path: self.shown_path(*ino),
                blocks: 0,
                both: 0,
            });
            file.blocks += 1;
            file.both += u64::from(bad.both);
        }
        files.into_values().take(limits::BAD_FILES_MAX).collect()
    }

    /// As users know it.
    pub(crate) fn shown_path(&self, ino: Ino) -> String {
        match self.state.path(ino) {
            Some(path) => path.iter().map(|name| alloc::format!("/{name}")).collect(),
            None => alloc::format!("<inode {ino}>"),
        }
    }
}

const fn repair((ino, block): At, bytes: Bytes, sure: bool) -> Effect {
    Effect::Repair {
        ino,
        block,
        bytes,
        sure,
    }
}

/// For a mount it is as if the file were not there now; the other brick has to know that it is, and cannot be read.
const fn unreadable(question: &Question) -> Errno {
    if matches!(question.asker, Asker::Check { .. } | Asker::Peer { .. } | Asker::Heal) {
        Errno::ENODATA
    } else {
        Errno::ESTALE
    }
}

/// Who copies files would take ESTALE for gone.
const fn not_now(question: &Question) -> Errno {
    if matches!(question.look, Look::Copy { .. } | Look::Digests { .. }) {
        Errno::EAGAIN
    } else {
        Errno::ESTALE
    }
}

#[cfg(test)]
mod tests;
