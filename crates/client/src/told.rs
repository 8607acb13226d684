//! Attributes that the kernel keeps: how long it may, and telling it when they have changed.
//!
//! T1  The kernel is told a time only under a lease that lets this mount answer by itself, and never beyond its own right
//!     to do so (E1).
//! T2  Attributes that the kernel may keep are those that this mount would answer now. Before that ends (the lease goes, a
//!     commit or a dropped session changes them) it is told to forget them: before the lease's new holder can change
//!     anything (L3). What the kernel's own calls change it forgets by itself.
//! T3  An answer that was computed before and arrives after such word is not kept: the kernel compares versions
//!     (`attr_version` in fs/fuse). It has none of an inode that it does not know yet; so for those the time is 0.
//!
//! T4  Names are never kept: forgetting one takes the directory's lock, which a lookup that waits for this mount holds. But
//!     for an own dotlock, for the moment in which the kernel would ask what it has just made: its lease stays for
//!     as long as that can last (`recall`).

use crate::{client::Client, output::Output};
use alloc::vec::Vec;
use mboxfs_types::{Attr, Ino, Nanos, limits, planted::Bug};

impl Client {
    /// How long the kernel may keep `attr`, as shown, of an inode that it knows (T1).
    pub(crate) fn tell(&mut self, attr: &Attr) -> Nanos {
        let until = self.link.serve_until.min(self.clock.mono + limits::ATTR_TTL);
        let left = Nanos(until.0.saturating_sub(self.clock.mono.0 + limits::ATTR_MARGIN.0));
        let known = |lookups| attr.ino == Ino::ROOT || lookups > 0;
        let node = self.nodes.get(&attr.ino);
        let mine = node.is_some_and(|n| n.held.is_some() && known(n.lookups));
        if !mine || !self.may_serve() || left == Nanos(0) {
            return Nanos(0);
        }
        self.told.insert(attr.ino, *attr);
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

    /// The kernel's own call changed `ino`: it forgets by itself.
    pub(crate) fn untold(&mut self, ino: Ino) {
        self.told.remove(&ino);
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
            if let Some(told) = self.told.get(&ino)
                && !self.answers(ino).is_some_and(|now| same(&now, told))
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
