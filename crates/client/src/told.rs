//! Attributes that the kernel keeps: how long it may, and telling it when they have changed.
//!
//! T1  The kernel is told a time only under a lease that lets this mount answer by itself, and never beyond its own right
//!     to do so (E1).
//! T2  Attributes that the kernel may keep are those that this mount would answer now. Before that ends (the lease goes, a
//!     commit or a dropped session changes them) it is told to forget them: before the lease's new holder can change
//!     anything (L3). What the kernel's own calls change it forgets by itself, when it looks at the answer; if
//!     the lease goes first, it is told all the same.
//! T3  An answer that was asked for before and arrives after such word is not kept: the kernel compares versions
//!     (`attr_version` in fs/fuse). It has none of an inode that it does not know yet; so for those the time is 0.
//!
//! T4  Names are never kept: forgetting one takes the directory's lock, which a lookup that waits for this mount holds. But
//!     for an own dotlock, for the moment in which the kernel would ask what it has just made: its lease stays for
//!     as long as that can last (`recall`).
//!
//! The kernel gives stat(2) an answer that it does not keep, but lseek(2) to the end goes by the size that it has. Who appends
//! there, under a lock, must not overwrite what the other node has appended since:
//!
//! T5  T3 must cost nobody the size. So a file has no time before the kernel surely has its size: a thread was answered
//!     twice under this lease, and has asked for something else since. The second one was asked for after the lease came, hence
//!     after the last word to forget, and the thread has looked at it; what this kernel changes itself it knows. Until then it
//!     has nothing to forget.
//! T6  Of two answers the kernel keeps the one that it looks at first, and each is looked at by the thread that asked, when that
//!     has its turn. So nobody gets a lock on a file here before all threads have looked at what they were answered about it
//!     without its lease, or under an earlier one: at most `ATTR_LATE` later, when they surely have had their turn.

use crate::{
    calls::{Pending, Wait},
    client::Client,
    output::Output,
};
use alloc::vec::Vec;
use mboxfs_types::{Attr, Ino, Kind, Nanos, limits, planted::Bug};

/// Attributes that the kernel may keep.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Told {
    attr: Attr,
    /// It is about to forget them by itself.
    forgets: bool,
}

/// What a thread was last answered about a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    ino: Ino,
    at: Nanos,
    /// So many times under this lease without an answer about another file between.
    times: u32,
    /// Nothing was heard of the thread since: the kernel may not have looked at it.
    late: bool,
    /// There was no lease, or it has ended.
    past: bool,
}

impl Client {
    // ---- what the kernel may not have looked at

    /// A call of this thread: it has seen all answers to it.
    pub(crate) fn heard(&mut self, thread: u32) {
        let Some(seen) = self.seen.get_mut(&thread).filter(|s| s.late) else {
            return;
        };
        seen.late = false;
        let Seen { ino, times, past, .. } = *seen;
        if past {
            self.wake(|w| matches!(w, Wait::Settled(i, _) if *i == ino));
        } else if times > 1
            && let Some(node) = self.nodes.get_mut(&ino)
        {
            node.sized = true;
        }
    }

    fn shows(&mut self, ino: Ino, thread: u32) {
        if thread == 0 {
            return;
        }
        let past = self.nodes.get(&ino).is_none_or(|n| n.held.is_none());
        let before = self.seen.get(&thread).filter(|s| s.ino == ino && !s.past);
        let times = before.map_or(1, |s| s.times.saturating_add(1));
        let (at, late) = (self.clock.mono, true);
        self.seen.insert(
            thread,
            Seen {
                ino,
                at,
                times,
                late,
                past,
            },
        );
    }

    /// A lease on `ino`, where there was none.
    pub(crate) fn lease_begins(&mut self, ino: Ino) {
        self.node(ino).sized = false;
        for seen in self.seen.values_mut().filter(|s| s.ino == ino) {
            seen.past = true;
        }
    }

    /// T6, for who is about to get a lock. None: it waits.
    pub(crate) fn wait_settled(&self, p: &mut Pending, ino: Ino) -> Option<()> {
        let leased = self.nodes.get(&ino).is_some_and(|n| n.held.is_some());
        let late = self
            .seen
            .values()
            .filter(|s| s.ino == ino && s.late && (s.past || !leased));
        let until = late.map(|s| s.at + limits::ATTR_LATE).max();
        let now = self.clock.mono;
        let Some(until) = until.filter(|until| *until > now) else {
            return Some(());
        };
        p.wait = Wait::Settled(ino, until);
        None
    }

    /// Threads that were not heard of for long: most are gone.
    pub(crate) fn forget_threads(&mut self) {
        let now = self.clock.mono;
        self.seen.retain(|_, s| now < s.at + limits::THREAD_KNOWN);
    }

    // ---- what it is told

    /// How long the kernel may keep `attr`, as shown, of an inode that it knows (T1).
    pub(crate) fn tell(&mut self, attr: &Attr, thread: u32) -> Nanos {
        let is_file = attr.kind == Kind::File;
        if is_file {
            self.shows(attr.ino, thread);
        }
        let until = self.link.serve_until.min(self.clock.mono + limits::ATTR_TTL);
        let left = Nanos(until.0.saturating_sub(self.clock.mono.0 + limits::ATTR_MARGIN.0));
        let known = |lookups| attr.ino == Ino::ROOT || lookups > 0;
        let node = self.nodes.get(&attr.ino);
        let sized = |sized| sized || !is_file || Bug::SizeNotSeen.here(); // T5
        let mine = node.is_some_and(|n| n.held.is_some() && known(n.lookups) && sized(n.sized));
        if !mine || !self.may_serve() || left == Nanos(0) {
            return Nanos(0);
        }
        let (attr, forgets) = (*attr, false);
        self.told.insert(attr.ino, Told { attr, forgets });
        left
    }

    /// How long the kernel may keep a dotlock that is made now (T4).
    pub(crate) fn tell_dot(&self) -> Nanos {
        let sure = self.clock.mono + limits::DOTLOCK_KEPT < self.link.serve_until;
        if sure && self.may_serve() {
            limits::DOTLOCK_TTL
        } else {
            Nanos(0)
        }
    }

    /// The kernel's own call changed `ino`: it forgets by itself, when it looks at the answer.
    pub(crate) fn untold(&mut self, ino: Ino) {
        if let Some(told) = self.told.get_mut(&ino) {
            told.forgets = true;
        }
        // An answer that it now does not look at any more counts for nothing.
        if !self.nodes.get(&ino).is_some_and(|n| n.sized) {
            for seen in self.seen.values_mut().filter(|s| s.ino == ino) {
                seen.times = 0;
            }
        }
    }

    /// Something about `ino` may have changed; looked at when the step is over.
    pub(crate) fn changed(&mut self, ino: Ino) {
        if self.told.contains_key(&ino) {
            self.changed.push(ino);
        }
    }

    /// T2: ahead of all that this step says.
    pub(crate) fn untell(&mut self, out: &mut Vec<Output>) {
        if Bug::KernelNotTold.here() {
            self.changed.clear();
        }
        let mut stale = Vec::new();
        for ino in core::mem::take(&mut self.changed) {
            let answers = self.answers(ino);
            if let Some(told) = self.told.get(&ino)
                && !answers.is_some_and(|now| told.forgets || same(&now, &told.attr))
            {
                self.told.remove(&ino);
                stale.push(Output::Invalidate { ino });
            }
        }
        stale.extend(self.keep.doubtful.drain(..).map(|ino| Output::Invalidate { ino }));
        out.splice(0..0, stale);
    }

    /// What this mount would answer by itself now. For checkers too.
    #[must_use]
    pub fn answers(&self, ino: Ino) -> Option<Attr> {
        let node = self.nodes.get(&ino).filter(|n| n.held.is_some())?;
        node.attr.map(|attr| self.shown(attr))
    }
}

/// As far as stat(2) shows.
fn same(a: &Attr, b: &Attr) -> bool {
    let shown = |attr: &Attr| Attr {
        version: 0,
        writer: None,
        ..*attr
    };
    shown(a) == shown(b)
}
