//! All of a state as effects: what makes a brick's files, whatever they are, those of that state, but for their content.
//!
//! Promises: effects come in batches of a bounded number; names that the state does not have go first.
//! Not here: content and extended attributes (`resync`), what has to be undone (`fork`).

use crate::state::{Data, Inode, State};
use alloc::{collections::BTreeMap, vec, vec::Vec};
use mboxfs_types::{Ino, Kind, Name, Tag, disk::Effect};

/// Effects in one batch.
const BATCH: usize = 1000;
/// No directory has this number: what is made in it gets no name.
const NOWHERE: Ino = Ino(0);

/// All names of all inodes.
pub(crate) type Names = BTreeMap<Ino, Vec<(Ino, Name)>>;

pub(crate) fn names(state: &State) -> Names {
    let mut names = Names::new();
    for (dir, inode) in state.inodes() {
        if let Data::Dir { entries, .. } = &inode.data {
            for (name, ino) in entries {
                names.entry(*ino).or_default().push((*dir, name.clone()));
            }
        }
    }
    names
}

/// Directories but the root, parents before children.
pub(crate) fn by_depth(state: &State) -> Vec<(Ino, &Inode)> {
    let mut found = Vec::new();
    let mut at = vec![Ino::ROOT];
    while let Some(dir) = at.pop() {
        let Ok(entries) = state.inode(dir).and_then(Inode::entries) else {
            continue;
        };
        for ino in entries.values() {
            if let Ok(inode) = state.inode(*ino)
                && inode.kind() == Kind::Dir
            {
                found.push((*ino, inode));
                at.push(*ino);
            }
        }
    }
    found
}

pub(crate) fn make(ino: Ino, inode: &Inode, dir: Ino, name: Name) -> Effect {
    let target = match &inode.data {
        Data::Symlink { target } => target.clone(),
        _ => vec![],
    };
    Effect::Make {
        ino,
        kind: inode.kind(),
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        target,
        dir,
        name,
    }
}

/// Its size and times; what lies beyond is cut.
pub(crate) fn resize(ino: Ino, inode: &Inode) -> Effect {
    Effect::Write {
        ino,
        cut: inode.size,
        extents: vec![],
        size: inode.size,
        mtime: inode.mtime,
        atime: inode.atime,
        stamp: Tag {
            n: inode.version,
            ..Tag::default()
        },
    }
}

pub(crate) const fn set_attr(ino: Ino, inode: &Inode) -> Effect {
    Effect::SetAttr {
        ino,
        mode: inode.mode,
        uid: inode.uid,
        gid: inode.gid,
        atime: inode.atime,
        mtime: inode.mtime,
    }
}

/// See above.
pub(crate) fn all(state: &State) -> Vec<Vec<Effect>> {
    let names = names(state);
    let only = Effect::Only {
        names: names
            .iter()
            .flat_map(|(ino, all)| all.iter().map(|(dir, name)| (*dir, name.clone(), *ino)))
            .collect(),
        nameless: state
            .inodes()
            .filter(|(ino, inode)| inode.kind() != Kind::Dir && !names.contains_key(ino))
            .map(|(ino, _)| *ino)
            .collect(),
    };
    let mut effects = vec![only];
    for (ino, inode) in by_depth(state) {
        if let Some((dir, name)) = names.get(&ino).and_then(|all| all.first()) {
            effects.push(make(ino, inode, *dir, name.clone()));
        }
    }
    for (ino, inode) in state.inodes().filter(|(_, i)| i.kind() != Kind::Dir) {
        let mut all = names.get(ino).into_iter().flatten();
        let first = all.next().cloned();
        let (dir, name) = first.unwrap_or_else(|| (NOWHERE, nameless()));
        effects.push(make(*ino, inode, dir, name));
        effects.extend(all.map(|(dir, name)| Effect::Link {
            ino: *ino,
            dir: *dir,
            name: name.clone(),
        }));
    }
    effects.extend(state.inodes().map(|(ino, inode)| set_attr(*ino, inode)));
    batches(effects)
}

/// So that no change of files takes long (`stall` T1).
pub(crate) fn batches(effects: Vec<Effect>) -> Vec<Vec<Effect>> {
    let mut batches = Vec::new();
    let mut rest = effects.into_iter().peekable();
    while rest.peek().is_some() {
        batches.push(rest.by_ref().take(BATCH).collect());
    }
    batches
}

fn nameless() -> Name {
    Name::new(b"nameless").expect("a good name")
}
