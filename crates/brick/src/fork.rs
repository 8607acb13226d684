//! What a brick that is alone keeps of the moment when it was left alone: the fork.
//!
//! K1  Everything as of the fork can be put back: the state is here, overwritten bytes are kept by the disk before they go
//!     (`Effect::Keep`), and no inode of the fork is freed before the fork ends.
//! K2  Appends cost nothing: only what lies below the size at the fork is kept.
//! K3  A restart finds the same fork again: no checkpoint is taken while alone, so the log leads from a snapshot at or
//!     before the fork to the present.
//!
//! Not here: what was merged of this line already (`marks`), who has read what (`readers`), who gives up which line
//! (`give_up`), how two are merged (`heal`).

mod marks;

use crate::{
    debt::Debt,
    owed::messages,
    state::{Data, Inode, State},
    tree::{Names, by_depth, make, names, resize, set_attr},
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use marks::Marks;
use mboxfs_types::{
    Ino, Key, Kind, Name, Timestamp,
    call::Op,
    disk::{AtFork, Effect},
    heal::{Change, Node, Of},
    record::{Body, Members, Record},
};

/// See above.
#[derive(Debug)]
pub(crate) struct Fork {
    /// As of the fork.
    base: State,
    /// Files written since: what was appended, and up to where they are as at the fork.
    written: BTreeMap<Ino, Written>,
    /// Extended attributes set or removed since, and when last.
    xattrs: BTreeMap<Ino, BTreeMap<Vec<u8>, Timestamp>>,
    marks: Marks,
    /// Without names, and kept from being freed (K1).
    held: BTreeSet<Ino>,
    /// What the records that were under way at the fork may have changed.
    under_way: BTreeSet<Ino>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Written {
    /// Messages, at most: clients may know each by a UID, also if it is gone.
    appended: u32,
    intact: u64,
}

impl Fork {
    /// The fork is where `state` is now.
    pub(crate) fn new(state: &State) -> Self {
        Self {
            base: state.clone(),
            written: BTreeMap::new(),
            xattrs: BTreeMap::new(),
            held: BTreeSet::new(),
            marks: Marks::default(),
            under_way: BTreeSet::new(),
        }
    }

    /// This record is about to be executed.
    pub(crate) fn follow(&mut self, record: &Record, before: &State) {
        let alone = matches!(
            record.body,
            Body::NewGen {
                members: Members::Only(_),
                ..
            }
        );
        if alone {
            let changed = self.changed(before).into_iter();
            let nodes = changed.filter_map(|c| Some((c.ino, c.now?))).collect();
            self.marks.go_alone(record.tag.n, nodes);
        } else if !self.marks.is_alone() {
            // Mail waits meanwhile: not all that there is is looked at, but what these records may have changed.
            let changed = self
                .under_way
                .iter()
                .filter_map(|ino| Some((*ino, self.changed_node(*ino, before)?)));
            let nodes = changed.collect();
            self.marks.set_early(record.tag.n, nodes);
            self.under_way.insert(record.ino);
            for op in record.body.ops() {
                let keys = before.keys(op).into_iter();
                self.under_way.extend(keys.filter_map(|key| match key {
                    Key::Inode(ino) => Some(ino),
                    Key::Name(_) => None,
                }));
            }
        }
    }

    /// An object as it is, if it is not as at the fork.
    fn changed_node(&self, ino: Ino, now: &State) -> Option<Node> {
        let node_in = |state: &State| node(state, ino, names_of(state, ino));
        let node = node_in(now)?;
        node_in(&self.base)
            .is_none_or(|base| !is_same(&base, &node))
            .then_some(node)
    }

    /// Where to find a file as it was, if that is known. `common`: last record that both lines share.
    pub(crate) fn find(&self, ino: Ino, of: Of, common: u64) -> Option<AtFork> {
        let at_fork = || AtFork {
            fork: self.at(),
            size: self.size_of(ino).unwrap_or(0),
        };
        let version = match of {
            Of::Now => return None,
            Of::Fork => self.marks.shared(ino, common).map(|node| node.attr.version),
            Of::Version(version) => Some(version),
        };
        // Too long ago: what both knew at the fork they knew then, too.
        Some(version.and_then(|v| self.marks.find(ino, v)).unwrap_or_else(at_fork))
    }

    /// The last record before it.
    pub(crate) const fn at(&self) -> u64 {
        self.base.applied
    }

    /// The state before it.
    pub(crate) const fn base(&self) -> &State {
        &self.base
    }

    /// Size of a file at the fork, if it was there.
    pub(crate) fn size_of(&self, ino: Ino) -> Option<u64> {
        self.file(ino).map(|inode| inode.size)
    }

    /// Messages appended to a file since.
    pub(crate) fn appended(&self, ino: Ino) -> u32 {
        self.written.get(&ino).map_or(0, |w| w.appended)
    }

    fn file(&self, ino: Ino) -> Option<&Inode> {
        self.base.inode(ino).ok().filter(|i| i.kind() == Kind::File)
    }

    /// Was the attribute changed at `time`, on the other line, later than here? No time: not if it was changed here.
    pub(crate) fn is_newer(&self, ino: Ino, name: &[u8], time: Option<Timestamp>) -> bool {
        let here = self.xattrs.get(&ino).and_then(|names| names.get(name));
        here.is_none_or(|here| time.is_some_and(|time| time > *here))
    }

    /// K1: what a record of this time, after the fork, does to the disk. `was`: size of the file that it writes to.
    pub(crate) fn guard(&mut self, effects: Vec<Effect>, was: u64, time: Timestamp) -> Vec<Effect> {
        let appended = u32::try_from(messages(&effects, was)).unwrap_or(u32::MAX);
        let mut guarded = Vec::with_capacity(effects.len());
        for effect in effects {
            match &effect {
                Effect::Free { ino } if self.base.inode(*ino).is_ok() || self.marks.knows(*ino) => {
                    self.held.insert(*ino);
                    continue;
                }
                Effect::Write {
                    ino,
                    cut,
                    extents,
                    size,
                    ..
                } => {
                    let old = self.size_of(*ino).unwrap_or(0);
                    let ranges = overwritten(
                        old,
                        (*cut).min(*size),
                        extents.iter().map(|e| (e.offset, e.offset + e.data.len() as u64)),
                    );
                    let intact = ranges.first().map_or(old, |r| r.0);
                    let entry = self.written.entry(*ino).or_insert(Written {
                        appended: 0,
                        intact: old,
                    });
                    entry.appended = entry.appended.saturating_add(appended);
                    entry.intact = entry.intact.min(intact);
                    if !ranges.is_empty() {
                        guarded.push(Effect::Keep {
                            fork: self.base.applied,
                            ino: *ino,
                            ranges,
                        });
                    }
                    let extents = || extents.iter().map(|e| (e.offset, e.offset + e.data.len() as u64));
                    guarded.extend(
                        self.marks
                            .keep(*ino, |old| overwritten(old, (*cut).min(*size), extents())),
                    );
                }
                Effect::Xattr { ino, name, .. } => {
                    self.xattrs.entry(*ino).or_default().insert(name.clone(), time);
                }
                _ => {}
            }
            // The file is kept as it was, and is a new one now.
            let again = match &effect {
                Effect::Make { ino, .. } if self.base.inode(*ino).is_ok() || self.marks.knows(*ino) => Some(*ino),
                _ => None,
            };
            guarded.push(effect);
            guarded.extend(again.map(|ino| Effect::AllXattrs { ino, all: vec![] }));
        }
        guarded
    }

    /// Everything that is not now as it was, in ascending order of inodes, and what was there in between and may have been
    /// merged: that is removed, not unknown. `common`: last record that both lines share.
    pub(crate) fn changes(&self, now: &State, common: u64) -> Vec<Change> {
        let changed = self.changed(now);
        let mut changes: BTreeMap<Ino, Change> = changed.into_iter().map(|c| (c.ino, c)).collect();
        for (ino, change) in &mut changes {
            change.marks = self.marks.of(*ino);
            if let Some(node) = self.marks.shared(*ino, common) {
                change.base = Some(node.clone()); // N4
            }
        }
        for (ino, node) in self.marks.nodes().filter(|(ino, _)| self.base.inode(**ino).is_err()) {
            changes.entry(*ino).or_insert_with(|| Change {
                ino: *ino,
                base: Some(node.clone()),
                marks: self.marks.of(*ino),
                now: None,
                appended: 0,
                observed: true,
                intact: 0,
                xattrs: vec![],
            });
        }
        changes.into_values().collect()
    }

    fn changed(&self, now: &State) -> Vec<Change> {
        let (names_then, names_now) = (names(&self.base), names(now));
        let mut changes = Vec::new();
        for ino in all_inodes(&self.base, now) {
            let base = node(&self.base, ino, of(&names_then, ino));
            let now = node(now, ino, of(&names_now, ino));
            let same = match (&base, &now) {
                (Some(b), Some(n)) => is_same(b, n),
                (None, None) => true,
                _ => false,
            };
            let xattrs = self.xattrs.get(&ino);
            // What is as it was again may have been merged in between.
            let may_differ = xattrs.is_some() || self.marks.knows(ino);
            if same && (now.is_none() || !may_differ) {
                continue;
            }
            let written = self.written.get(&ino);
            changes.push(Change {
                ino,
                intact: written.map_or(base.as_ref().map_or(0, |b| b.attr.size), |w| w.intact),
                appended: written.map_or(0, |w| w.appended),
                observed: true, // `readers` may know better
                xattrs: xattrs.map_or_else(Vec::new, |all| all.clone().into_iter().collect()),
                base,
                marks: vec![],
                now,
            });
        }
        changes
    }

    /// Without a fork: everything that may have changed since the peer left, as if it had been made since. What was removed is
    /// not told: nobody knows whether it was there.
    pub(crate) fn changes_without(now: &State, debt: &Debt) -> Vec<Change> {
        let names = names(now);
        let changed = now.inodes().map(|(ino, _)| *ino).filter(|ino| debt.has(*ino));
        changed
            .filter_map(|ino| {
                Some(Change {
                    ino,
                    base: None,
                    marks: vec![],
                    now: Some(node(now, ino, of(&names, ino))?),
                    appended: 0, // counts with an ancestor only
                    observed: true,
                    intact: 0,
                    xattrs: vec![], // nobody knows which
                })
            })
            .collect()
    }

    /// Inodes that were freed since, as far as the state goes, and that no merge has put back: their space is free when the
    /// fork ends.
    pub(crate) fn freed(&self, now: &State) -> Vec<Effect> {
        let gone = self.held.iter().filter(|ino| now.inode(**ino).is_err());
        gone.map(|ino| Effect::Free { ino: *ino }).collect()
    }

    /// Bytes that a commit would make the disk keep, at most (L11).
    pub(crate) fn keeps(&self, op: &Op) -> u64 {
        let Op::Commit {
            ino,
            cut,
            extents,
            size,
            ..
        } = op
        else {
            return 0;
        };
        let old = self.size_of(*ino).unwrap_or(0);
        let extents = extents.iter().map(|e| (e.offset, e.offset + e.data.len() as u64));
        overwritten(old, (*cut).min(*size), extents)
            .iter()
            .map(|(a, b)| b - a)
            .sum()
    }

    /// What makes files that are as of `now`, or anywhere between it and the fork, as they were at the fork (K1).
    pub(crate) fn undo(&self, now: &State) -> Vec<Effect> {
        let (then, late) = (names(&self.base), names(now));
        let mut out = Vec::new();
        for (ino, inode) in by_depth(&self.base) {
            if let Some((dir, name)) = of(&then, ino).into_iter().next() {
                out.push(make(ino, inode, dir, name));
            }
        }
        // Names that were not: first away, so that nothing is in the way of those that were.
        for (ino, inode) in now.inodes().filter(|(_, i)| i.kind() != Kind::Dir) {
            let old = of(&then, *ino);
            let new = of(&late, *ino).into_iter().filter(|n| !old.contains(n));
            out.extend(new.map(|(dir, name)| Effect::Unlink { ino: *ino, dir, name }));
            if self.base.inode(*ino).is_err() && inode.kind() != Kind::Dir {
                out.push(Effect::Free { ino: *ino });
            }
        }
        let new = |ino: &&Ino| self.base.inode(**ino).is_err() && now.inode(**ino).is_err();
        out.extend(self.held.iter().filter(new).map(|ino| Effect::Free { ino: *ino }));
        for (ino, _) in self.base.inodes().filter(|(_, i)| i.kind() == Kind::Dir) {
            if let Some((dir, name)) = of(&then, *ino).into_iter().next() {
                out.push(Effect::MoveDir { ino: *ino, dir, name });
            }
        }
        for (ino, inode) in self.base.inodes().filter(|(_, i)| i.kind() != Kind::Dir) {
            let (old, new) = (of(&then, *ino), of(&late, *ino));
            let lost = old.into_iter().filter(|n| !new.contains(n));
            out.extend(lost.map(|(dir, name)| Effect::Link { ino: *ino, dir, name }));
            if inode.kind() == Kind::File && self.written.contains_key(ino) {
                out.push(Effect::Revert {
                    fork: self.at(),
                    ino: *ino,
                });
                out.push(resize(*ino, inode));
            }
        }
        let new_dirs = by_depth(now).into_iter().rev();
        out.extend(
            new_dirs
                .filter(|(ino, _)| self.base.inode(*ino).is_err())
                .map(|(ino, _)| Effect::RemoveDir { ino }),
        );
        let changed = self.changes(now, self.at());
        for ino in changed.iter().map(|c| c.ino).chain(self.written.keys().copied()) {
            if let Ok(inode) = self.base.inode(ino) {
                out.push(set_attr(ino, inode));
            }
        }
        out
    }
}

/// What lies below `old` and is cut or overwritten: ascending, without overlap.
fn overwritten(old: u64, cut: u64, extents: impl Iterator<Item = (u64, u64)>) -> Vec<(u64, u64)> {
    let mut ranges: Vec<(u64, u64)> = extents.chain([(cut, old)]).map(|(a, b)| (a, b.min(old))).collect();
    ranges.retain(|(a, b)| a < b);
    ranges.sort_unstable();
    let mut merged: Vec<(u64, u64)> = Vec::new();
    for (a, b) in ranges {
        match merged.last_mut() {
            Some(last) if a <= last.1 => last.1 = last.1.max(b),
            _ => merged.push((a, b)),
        }
    }
    merged
}

fn all_inodes(a: &State, b: &State) -> BTreeSet<Ino> {
    a.inodes().chain(b.inodes()).map(|(ino, _)| *ino).collect()
}

fn of(names: &Names, ino: Ino) -> Vec<(Ino, Name)> {
    names.get(&ino).cloned().unwrap_or_default()
}

/// As `names`, of one object: without looking everywhere, as a rule.
fn names_of(state: &State, ino: Ino) -> Vec<(Ino, Name)> {
    let Ok(inode) = state.inode(ino) else { return vec![] };
    let home = inode
        .home
        .as_ref()
        .filter(|_| inode.nlink == 1 || inode.kind() == Kind::Dir);
    match home.filter(|(dir, name)| state.lookup(*dir, name) == Ok(Some(ino))) {
        Some(home) => vec![home.clone()],
        None if ino == Ino::ROOT => vec![],
        None => names(state).remove(&ino).unwrap_or_default(),
    }
}

/// None: it is not there, or has no name any more.
fn node(state: &State, ino: Ino, names: Vec<(Ino, Name)>) -> Option<Node> {
    let inode = state.inode(ino).ok()?;
    if inode.orphan.is_some() {
        return None;
    }
    let target = match &inode.data {
        Data::Symlink { target } => target.clone(),
        _ => vec![],
    };
    Some(Node {
        attr: inode.attr(ino),
        names,
        target,
    })
}

/// Times of directories and times of access are no changes.
fn is_same(a: &Node, b: &Node) -> bool {
    let who = |n: &Node| (n.attr.mode, n.attr.uid, n.attr.gid, n.attr.version);
    let mtime = |n: &Node| (n.kind() != Kind::Dir).then_some(n.attr.mtime);
    who(a) == who(b) && a.names == b.names && mtime(a) == mtime(b)
}
