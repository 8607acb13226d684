//! Keywords of a Maildir that both lines numbered: messages of both are called by the numbers of the merged list.
//!
//! W1  Those of the other line before any of them is looked at: in what it told. Those here right after the list, which
//!     says of their old numbers what they were (mbox `keywords` K3).
//! W2  Until the lists of a Maildir are merged nothing else of it is: what is called by numbers of the other line, or stands
//!     in the list's place.
//! W3  Each merge goes through this again, also if the list was merged before: what it says of letters is not kept.
//!
//! Not here: reading and writing the lists (`text`), what becomes of names then (`names`).

use super::{
    Heal,
    decide::{Both, Next},
};
use crate::{brick::Brick, state::State};
use alloc::{collections::BTreeMap, vec::Vec};
use core::ops::Bound::{Excluded, Unbounded};
use mboxfs_mbox::{
    files::{self, Rule},
    keywords::Letters,
};
use mboxfs_types::{
    Ino, Kind, Name,
    call::Op,
    heal::{Change, Node},
};

/// Directory and name.
type Place = (Ino, Name);

/// Lists that the other line changed, and that are not merged yet.
#[derive(Debug, Default)]
pub(super) struct Unread {
    /// By the place of each.
    lists: BTreeMap<Place, Ino>,
    /// By the directories whose messages are called by its numbers.
    folders: BTreeMap<Ino, Ino>,
    /// Messages here that are called by old numbers of this list, which was merged last.
    own: Option<(Ino, Own)>,
}

/// Messages here, one after the other.
#[derive(Debug)]
struct Own {
    letters: Letters,
    /// To be looked through, the last one first.
    dirs: Vec<Ino>,
    /// In it, so far.
    after: Option<Name>,
}

impl Own {
    fn next(&mut self, state: &State) -> Option<Op> {
        while let Some(dir) = self.dirs.last().copied() {
            let from = self.after.take().map_or(Unbounded, Excluded);
            let entries = state.inode(dir).ok().and_then(|inode| inode.entries().ok());
            let mut names = entries.into_iter().flat_map(|all| all.range((from.clone(), Unbounded)));
            let found = names.find_map(|(name, _)| {
                let renamed = Name::new(&self.letters.rename(name.as_bytes())?).ok()?;
                (state.lookup(dir, &renamed) == Ok(None)).then(|| (name.clone(), renamed))
            });
            let Some((name, to_name)) = found else {
                self.dirs.pop();
                continue;
            };
            self.after = Some(name.clone());
            let (to_dir, noreplace) = (dir, true);
            return Some(Op::Rename {
                dir,
                name,
                to_dir,
                to_name,
                noreplace,
            });
        }
        None
    }
}

impl Unread {
    /// `base`: what both knew, or what is here.
    pub(super) fn of(changes: &[Change], base: &State) -> Self {
        let now = |kind| {
            let nodes = changes.iter().filter_map(|c| Some((c.ino, c.now.as_ref()?)));
            let nodes = nodes.filter(move |(_, node)| node.kind() == kind);
            nodes.flat_map(|(ino, node)| node.names.iter().map(move |name| (name.clone(), ino)))
        };
        let is_list = |(_, name): &Place| files::rule(name.as_bytes()) == Rule::Keywords;
        let mut lists: BTreeMap<Place, Ino> = now(Kind::File).filter(|(place, _)| is_list(place)).collect();
        if lists.is_empty() {
            return Self::default();
        }
        let dirs: BTreeMap<Place, Ino> = now(Kind::Dir).collect();
        let folder = |maildir: Ino, name: &[u8]| {
            let place = (maildir, Name::new(name).ok()?);
            let made = dirs.get(&place).copied();
            made.or_else(|| base.lookup(maildir, &place.1).ok()?)
        };
        let mut folders = BTreeMap::new();
        for ((maildir, _), list) in &lists {
            let both = [&b"new"[..], b"cur"]
                .into_iter()
                .filter_map(|name| folder(*maildir, name));
            folders.extend(both.map(|folder| (folder, *list)));
        }
        // Among messages it is no list; so none ever waits for another one.
        lists.retain(|(dir, _), _| !folders.contains_key(dir));
        folders.retain(|_, list| lists.values().any(|known| known == list));
        let own = None;
        Self { lists, folders, own }
    }

    pub(super) fn has(&self, list: Ino) -> bool {
        self.lists.values().any(|ino| *ino == list)
    }

    pub(super) fn forget(&mut self, list: Ino) {
        self.lists.retain(|_, ino| *ino != list);
        self.folders.retain(|_, ino| *ino != list);
    }

    /// W2
    fn concerns(&self, change: &Change) -> bool {
        let names = change
            .now
            .as_ref()
            .or(change.base.as_ref())
            .map_or(&[][..], |n| &n.names);
        names.iter().any(|place| {
            let in_place = self.lists.get(place).is_some_and(|list| *list != change.ino);
            in_place || self.folders.contains_key(&place.0)
        })
    }
}

impl Heal {
    /// The list is merged: W1. False: it cannot be, as the messages lie elsewhere.
    pub(super) fn renumber(&mut self, list: Ino, own: Letters, letters: &Letters) -> bool {
        let mut folders = self.unread.folders.clone();
        folders.retain(|_, of| *of == list);
        self.unread.forget(list);
        if folders.is_empty() {
            return letters.is_same() && own.is_same();
        }
        if !own.is_same() {
            let here = |dir: &Ino| self.alias.get(dir).copied().unwrap_or(*dir);
            let dirs: Vec<Ino> = folders.keys().map(here).collect();
            // Twice: a mail program may have renamed one under our hands.
            let (dirs, after) = (dirs.repeat(2), None);
            let letters = own;
            self.unread.own = Some((list, Own { letters, dirs, after }));
        }
        let rename = |node: &mut Node| {
            for (_, name) in node.names.iter_mut().filter(|(dir, _)| folders.contains_key(dir)) {
                let renamed = letters.rename(name.as_bytes()).and_then(|name| Name::new(&name).ok());
                *name = renamed.unwrap_or_else(|| name.clone());
            }
        };
        for change in &mut self.todo {
            let then = change.marks.iter_mut().filter_map(|(_, node)| node.as_mut());
            change.now.iter_mut().chain(then).for_each(rename);
        }
        true
    }
}

impl Brick {
    /// W2: what to do next with the front of the list.
    pub(super) fn unless_unread(&mut self, next: Next) -> Next {
        let Some(heal) = &mut self.heal else { return next };
        let Some(change) = heal.todo.front() else { return next };
        let own = heal.unread.own.take().filter(|(list, _)| *list == change.ino);
        if let Some((list, mut own)) = own
            && let Some(op) = own.next(&self.state)
        {
            heal.unread.own = Some((list, own));
            heal.tries = 0;
            return Next::Op(op, None);
        }
        if heal.unread.concerns(change) {
            return Next::Later;
        }
        // Names and attributes of its own come first.
        let is_own = matches!(
            next,
            Next::Op(Op::SetAttr { .. } | Op::Rename { .. } | Op::Link { .. }, _)
        );
        if is_own || !heal.unread.has(change.ino) || heal.damaged.contains(&change.ino) {
            return next;
        }
        let (state, alias) = (&self.state, &heal.alias);
        let here = change.now.as_ref().and_then(|now| {
            let (dir, name) = now.names.first()?;
            let dir = alias.get(dir).copied().unwrap_or(*dir);
            let into = state.lookup(dir, name).ok()??;
            let inode = state.inode(into).ok().filter(|inode| inode.kind() == Kind::File)?;
            let (version, base, gone) = (inode.version, None, false);
            Some(Both {
                into,
                version,
                base,
                gone,
            })
        });
        here.map_or(next, Next::Both)
    }
}
