//! Which names an object shall have, given what the other line made of them.
//!
//! Promises: a name that the other line gave is given, one that it took is taken, if that is possible; a name that
//! something else has here stays with that. A message of a Maildir that is called otherwise on both lines, because a mail
//! program saw it or changed its flags, is one message with the flags of both (mbox `maildir`).
//!
//! Not here: content, attributes, what is made or removed as a whole (`decide`).

use super::decide::{Look, Next};
use crate::state::Data;
use alloc::vec::Vec;
use core::ops::Bound::{Included, Unbounded};
use mboxfs_mbox::maildir::{self, MessageName};
use mboxfs_types::{Ino, Kind, Name, call::Op, heal::Node};

/// Directory and name.
type Place = (Ino, Name);

/// The two directories of a Maildir that hold messages.
#[derive(Clone, Copy)]
struct Folder {
    new: Ino,
    cur: Ino,
}

impl Look<'_> {
    /// The next step towards the names of `ino`, which is there under the same number.
    pub(super) fn names(&self, ino: Ino, old: &[Place], now: &Node) -> Option<Next> {
        let known: Vec<_> = old.iter().map(|base| (base, self.name_there(base, now))).collect();
        for (base, there) in &known {
            if let (Some(there), Some(here)) = (there, self.name_here(ino, base))
                && let Some(next) = self.rename_message(base, there, here)
            {
                return Some(next);
            }
        }
        let is_new = |name: &&Place| !known.iter().any(|(_, there)| *there == Some(*name));
        let added: Vec<_> = now.names.iter().filter(is_new).collect();
        let mut free = None;
        for (dir, name) in &added {
            let dir = match self.dir(*dir) {
                Ok(dir) => dir,
                Err(next) => return Some(next),
            };
            match self.holder(dir, name) {
                Ok(None) => {
                    free = Some((dir, name.clone()));
                    break;
                }
                Ok(_) => {}
                Err(next) => return Some(next),
            }
        }
        let removed = known.iter().filter(|(_, there)| there.is_none());
        let lost = removed.clone().find_map(|(base, _)| self.name_here(ino, base));
        let op = match (lost, free) {
            // Here it was moved into itself.
            (_, Some((to_dir, _))) if now.kind() == Kind::Dir && self.state.is_below(to_dir, ino) => return None,
            (Some((dir, name)), Some((to_dir, to_name))) => Op::Rename {
                dir,
                name,
                to_dir,
                to_name,
                noreplace: true,
            },
            // Renamed on both sides: the name here stays. More names than before are more names here too.
            (None, Some((dir, name))) if now.kind() != Kind::Dir && added.len() > removed.count() => {
                Op::Link { ino, dir, name }
            }
            (Some((dir, name)), None) if now.kind() != Kind::Dir && self.here(ino)?.nlink > 1 => {
                Op::Unlink { dir, name }
            }
            _ => return None,
        };
        Some(Next::Op(op, None))
    }

    /// A name that it has there and did not have, as another message or in another place.
    pub(super) fn moved<'a>(&self, old: &[Place], now: &'a Node) -> Option<&'a Place> {
        let is_known = |name: &Place| old.iter().any(|base| self.name_there(base, now) == Some(name));
        now.names.iter().find(|name| !is_known(name))
    }

    /// What this name is there.
    fn name_there<'a>(&self, base: &Place, now: &'a Node) -> Option<&'a Place> {
        let exact = now.names.iter().find(|name| *name == base);
        exact.or_else(|| {
            let (folder, unique) = self.message(base)?;
            let is_it = |(dir, name): &&Place| folder.has(self.number(*dir)) && unique_of(name) == unique;
            now.names.iter().find(is_it)
        })
    }

    /// What this name is here, if it is still the name of `ino`.
    pub(super) fn name_here(&self, ino: Ino, base: &Place) -> Option<Place> {
        if self.state.lookup(base.0, &base.1) == Ok(Some(ino)) {
            return Some(base.clone());
        }
        let (folder, unique) = self.message(base)?;
        let first = Name::new(unique).ok()?;
        [folder.cur, folder.new].into_iter().find_map(|dir| {
            let entries = self.state.inode(dir).ok()?.entries().ok()?;
            let alike = entries.range((Included(first.clone()), Unbounded));
            let mut alike = alike.take_while(|(name, _)| name.as_bytes().starts_with(unique));
            let (name, _) = alike.find(|(name, of)| **of == ino && unique_of(name) == unique)?;
            Some((dir, name.clone()))
        })
    }

    /// Both have the message: in `cur` if one side moved it there, with the flags of both.
    fn rename_message(&self, base: &Place, there: &Place, here: Place) -> Option<Next> {
        let (folder, _) = self.message(base)?;
        let [before, theirs, ours] = [base, there, &here].map(|(_, name)| name.as_bytes());
        let name = Name::new(&maildir::merge(Some(before), ours, theirs)).ok()?;
        let to_dir = if self.number(there.0) == folder.cur || here.0 == folder.cur {
            folder.cur
        } else {
            folder.new
        };
        if (to_dir, &name) == (here.0, &here.1) {
            return None;
        }
        match self.holder(to_dir, &name) {
            Ok(None) => {}
            Ok(Some(_)) => return None,
            Err(next) => return Some(next),
        }
        let op = Op::Rename {
            dir: here.0,
            name: here.1,
            to_dir,
            to_name: name,
            noreplace: true,
        };
        Some(Next::Op(op, None))
    }

    /// The Maildir of a name, if it is the name of a message of one.
    fn message<'a>(&self, (dir, name): &'a Place) -> Option<(Folder, &'a [u8])> {
        let (parent, own) = self.state.inode(*dir).ok()?.home.clone()?;
        if !matches!(own.as_bytes(), b"new" | b"cur") {
            return None;
        }
        let dir = |name: &[u8]| {
            let ino = self.state.lookup(parent, &Name::new(name).ok()?).ok()??;
            matches!(self.state.inode(ino).ok()?.data, Data::Dir { .. }).then_some(ino)
        };
        let (new, cur) = (dir(b"new")?, dir(b"cur")?);
        Some((Folder { new, cur }, unique_of(name)))
    }
}

impl Folder {
    fn has(self, dir: Ino) -> bool {
        dir == self.new || dir == self.cur
    }
}

fn unique_of(name: &Name) -> &[u8] {
    let MessageName { unique, .. } = maildir::parse(name.as_bytes());
    unique
}
