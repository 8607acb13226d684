//! Attributes and names that the kernel keeps: how long it may, and telling it when they have changed.
//!
//! T1  The kernel is told a time only under a lease that lets this mount answer by itself, and never beyond its own right
//!     to do so (E1).
//! T2  Attributes that the kernel may keep are those that this mount would answer now. Before that ends (the lease goes, a
//!     commit or a dropped session changes them) it is told to forget them: before the lease's new holder can change
//!     anything (L3). What the kernel's own calls change it forgets by itself.
//! T3  An answer that was computed before and arrives after such word is not kept: the kernel compares versions
//!     (`attr_version` in fs/fuse). It has none of an inode that it does not know yet; so for those the time is 0.
//!
//! T4  Names are kept likewise, under the lease of their group, where the kernel can forget all of them without a lock (its
//!     epoch, Linux 6.16). Forgetting a single one takes the directory's lock, which a lookup that waits for this mount
//!     holds: an older kernel keeps none. An own dotlock is kept too: who wants to make one of that name asks all the same
//!     (LOOKUP_EXCL), and may wait.

use crate::{client::Client, output::Output};
use alloc::{collections::BTreeMap, vec::Vec};
use mboxfs_types::{Attr, Group, Ino, Name, Nanos, limits};

/// Names that the kernel may keep, and what they are.
#[derive(Debug, Default)]
pub(crate) struct Names {
    /// It can forget them (T4).
    can_forget: bool,
    /// The mailbox of a group, and its dotlock (`true`).
    told: BTreeMap<(Group, bool), Ino>,
    changed: Vec<(Group, bool)>,
}

impl Client {
    /// How long the kernel may keep `attr`, as shown, of an inode that it knows (T1).
    pub(crate) fn tell(&mut self, attr: &Attr) -> Nanos {
        let left = self.may_be_kept();
        let known = |lookups| attr.ino == Ino::ROOT || lookups > 0;
        let node = self.nodes.get(&attr.ino);
        let mine = node.is_some_and(|n| n.held.is_some() && known(n.lookups));
        if !mine || left == Nanos(0) {
            return Nanos(0);
        }
        self.told.insert(attr.ino, *attr);
        left
    }

    /// T1.
    fn may_be_kept(&self) -> Nanos {
        let until = self.link.serve_until.min(self.clock.mono + limits::ATTR_TTL);
        let left = Nanos(until.0.saturating_sub(self.clock.mono.0 + limits::ATTR_MARGIN.0));
        if self.may_serve() { left } else { Nanos(0) }
    }

    // ---- names (T4)

    /// The kernel forgets all names when it is told `Output::ForgetNames`: it may keep some.
    pub fn kernel_forgets_names(&mut self) {
        self.told_names.can_forget = true;
    }

    /// How long the kernel may keep that `name` in `dir` is `ino`.
    pub(crate) fn tell_name(&mut self, dir: Ino, name: &Name, ino: Ino) -> Nanos {
        let left = self.may_be_kept();
        if !self.told_names.can_forget || self.names_now(dir, name) != Some(ino) || left == Nanos(0) {
            return Nanos(0);
        }
        self.told_names.told.insert(key(dir, name), ino);
        left
    }

    /// What the names of a group are may have changed, or is covered by no lease any more; looked at when the step is over.
    pub(crate) fn name_changed(&mut self, group: &Group) {
        let keys = [false, true].map(|dot| (group.clone(), dot));
        let told = keys.into_iter().filter(|key| self.told_names.told.contains_key(key));
        self.told_names.changed.extend(told);
    }

    /// Any of them.
    pub(crate) fn names_changed(&mut self) {
        let Names { told, changed, .. } = &mut self.told_names;
        changed.extend(told.keys().cloned());
    }

    /// A rename of the kernel's own moves what it keeps of the old name to the new one.
    pub(crate) fn name_moved(&mut self, dir: Ino, name: &Name) {
        let key = key(dir, name);
        if let Some(ino) = self.told_names.told.get_mut(&key) {
            *ino = Ino(0); // none has this number
            self.told_names.changed.push(key);
        }
    }

    /// The kernel's own call removed it: it forgets by itself.
    pub(crate) fn name_removed(&mut self, dir: Ino, name: &Name) {
        self.told_names.told.remove(&key(dir, name));
    }

    /// Which file, or own dotlock, this mount would find by itself now. For checkers too.
    #[must_use]
    pub fn names_now(&self, dir: Ino, name: &Name) -> Option<Ino> {
        self.now(&key(dir, name))
    }

    fn now(&self, (group, dot): &(Group, bool)) -> Option<Ino> {
        let lease = self.names.get(group)?;
        if *dot {
            self.own_dots.get(group).map(|d| d.ino)
        } else {
            lease.entry
        }
    }

    /// Has the kernel to forget them?
    fn names_are_stale(&mut self) -> bool {
        let changed = core::mem::take(&mut self.told_names.changed);
        let stale = changed.iter().any(|key| {
            let told = self.told_names.told.get(key);
            told.is_some_and(|ino| self.now(key) != Some(*ino))
        });
        if stale {
            self.told_names.told.clear();
        }
        stale
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
        let mut stale = Vec::new();
        for ino in core::mem::take(&mut self.changed) {
            if let Some(told) = self.told.get(&ino)
                && !self.answers(ino).is_some_and(|now| same(&now, told))
            {
                self.told.remove(&ino);
                stale.push(Output::Invalidate { ino });
            }
        }
        if self.names_are_stale() {
            stale.push(Output::ForgetNames);
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

fn key(dir: Ino, name: &Name) -> (Group, bool) {
    (Group::of(dir, name), name.is_dotlock())
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
