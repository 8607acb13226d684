//! A model of a namespace that makes legal effects, and the tree as model and disk have it.

use mboxfs_types::{GenId, Ino, Kind, Name, Tag, Timestamp, call::Extent, disk::Effect};
use std::{
    collections::BTreeMap,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::Path,
};

const NAMES: [&str; 5] = ["a", "b", "c", "d", "\u{e9}"];

/// A name of the volume.
pub(crate) fn name(s: &str) -> Name {
    Name::new(s.as_bytes()).unwrap()
}

/// One inode.
#[derive(Clone, Debug)]
struct Node {
    kind: Kind,
    mode: u32,
    content: Vec<u8>,
    mtime: Option<Timestamp>,
    links: u32,
    /// Held open without a name: freed later.
    orphan: bool,
}

/// The namespace.
#[derive(Debug)]
pub(crate) struct Model {
    nodes: BTreeMap<Ino, Node>,
    dirs: BTreeMap<Ino, BTreeMap<Name, Ino>>,
    next: u64,
    clock: i64,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            nodes: BTreeMap::new(),
            dirs: BTreeMap::from([(Ino::ROOT, BTreeMap::new())]),
            next: 100,
            clock: 1_000_000,
        }
    }
}

impl Model {
    /// One operation chosen by `dice`; the effects are none if it is not possible.
    pub(crate) fn step(&mut self, dice: [u16; 5]) -> Vec<Effect> {
        self.clock += 1;
        let [what, a, b, c, d] = dice;
        let dir = pick(&self.dirs, a);
        let to = pick(&self.dirs, b);
        let (from_name, to_name) = (name(NAMES[usize::from(c) % 5]), name(NAMES[usize::from(d) % 5]));
        let mut out = Vec::new();
        match what % 16 {
            0 | 1 => self.make(Kind::File, dir, &from_name, &mut out),
            2 | 3 => self.make(Kind::Dir, dir, &from_name, &mut out),
            4 => self.make(Kind::Symlink, dir, &from_name, &mut out),
            5 => self.link((dir, &from_name), (to, &to_name), &mut out),
            6 => self.remove(dir, &from_name, d % 2 == 0, &mut out),
            7 => self.free_an_orphan(a, &mut out),
            8 => self.set_attr(a, b, &mut out),
            9..=11 => self.write(a, [b, c, d], &mut out),
            _ => self.rename((dir, &from_name), (to, &to_name), &mut out),
        }
        out
    }

    fn now(&self) -> Timestamp {
        Timestamp {
            secs: self.clock,
            nanos: 123_456_789,
        }
    }

    fn at(&self, dir: Ino, name: &Name) -> Option<Ino> {
        self.dirs[&dir].get(name).copied()
    }

    fn set(&mut self, dir: Ino, name: &Name, ino: Option<Ino>) {
        let entries = self.dirs.get_mut(&dir).unwrap();
        match ino {
            Some(ino) => entries.insert(name.clone(), ino),
            None => entries.remove(name),
        };
    }

    fn make(&mut self, kind: Kind, dir: Ino, name: &Name, out: &mut Vec<Effect>) {
        if self.at(dir, name).is_some() {
            return;
        }
        let ino = Ino(self.next);
        self.next += 1;
        let mode = if kind == Kind::Symlink {
            0o777
        } else {
            0o700 | (self.next % 0o70) as u32
        };
        let target = if kind == Kind::Symlink {
            b"no/where".to_vec()
        } else {
            Vec::new()
        };
        let node = Node {
            kind,
            mode,
            content: target.clone(),
            mtime: None,
            links: 1,
            orphan: false,
        };
        self.nodes.insert(ino, node);
        if kind == Kind::Dir {
            self.dirs.insert(ino, BTreeMap::new());
        }
        self.set(dir, name, Some(ino));
        out.push(Effect::Make {
            ino,
            kind,
            mode,
            uid: 0,
            gid: 0,
            target,
            dir,
            name: name.clone(),
        });
    }

    fn link(&mut self, from: (Ino, &Name), to: (Ino, &Name), out: &mut Vec<Effect>) {
        let Some(ino) = self.at(from.0, from.1) else { return };
        if self.nodes[&ino].kind == Kind::Dir || self.at(to.0, to.1).is_some() {
            return;
        }
        self.nodes.get_mut(&ino).unwrap().links += 1;
        self.set(to.0, to.1, Some(ino));
        out.push(Effect::Link {
            ino,
            dir: to.0,
            name: to.1.clone(),
        });
    }

    fn remove(&mut self, dir: Ino, name: &Name, open: bool, out: &mut Vec<Effect>) {
        let Some(ino) = self.at(dir, name) else { return };
        if self.nodes[&ino].kind == Kind::Dir {
            if self.dirs[&ino].is_empty() {
                self.set(dir, name, None);
                self.dirs.remove(&ino);
                self.nodes.remove(&ino);
                out.push(Effect::RemoveDir { ino });
            }
            return;
        }
        self.set(dir, name, None);
        out.push(Effect::Unlink {
            ino,
            dir,
            name: name.clone(),
        });
        let node = self.nodes.get_mut(&ino).unwrap();
        node.links -= 1;
        if node.links == 0 {
            if open {
                node.orphan = true;
            } else {
                self.nodes.remove(&ino);
                out.push(Effect::Free { ino });
            }
        }
    }

    fn free_an_orphan(&mut self, dice: u16, out: &mut Vec<Effect>) {
        let orphans: Vec<Ino> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.orphan)
            .map(|(ino, _)| *ino)
            .collect();
        if !orphans.is_empty() {
            let ino = orphans[usize::from(dice) % orphans.len()];
            self.nodes.remove(&ino);
            out.push(Effect::Free { ino });
        }
    }

    fn set_attr(&mut self, which: u16, mode: u16, out: &mut Vec<Effect>) {
        let now = self.now();
        if self.nodes.is_empty() {
            return;
        }
        let ino = pick(&self.nodes, which);
        let node = self.nodes.get_mut(&ino).unwrap();
        if node.kind != Kind::Symlink {
            node.mode = 0o700 | (u32::from(mode) % 0o100);
        }
        // What happens in a directory later moves its time; nobody asks the brick's files for that.
        node.mtime = (node.kind != Kind::Dir).then_some(now);
        out.push(Effect::SetAttr {
            ino,
            mode: node.mode,
            uid: 0,
            gid: 0,
            atime: now,
            mtime: now,
        });
    }

    fn write(&mut self, which: u16, [a, b, c]: [u16; 3], out: &mut Vec<Effect>) {
        let now = self.now();
        let files: Vec<Ino> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.kind == Kind::File)
            .map(|(ino, _)| *ino)
            .collect();
        if files.is_empty() {
            return;
        }
        let ino = files[usize::from(which) % files.len()];
        let content = &mut self.nodes.get_mut(&ino).unwrap().content;
        let cut = if a % 3 == 0 { u64::from(a) % 200 } else { u64::MAX };
        content.truncate(usize::try_from(cut).unwrap_or(usize::MAX));
        let mut extents = Vec::new();
        if b % 4 != 0 {
            let offset = usize::from(b) % 300;
            let data = vec![c.to_le_bytes()[0] | 1; usize::from(c) % 100 + 1];
            if content.len() < offset + data.len() {
                content.resize(offset + data.len(), 0);
            }
            content[offset..offset + data.len()].copy_from_slice(&data);
            extents.push(Extent {
                offset: offset as u64,
                data: data.into(),
            });
        }
        if a % 5 == 0 {
            content.resize(usize::from(c) % 400, 0);
        }
        let size = content.len() as u64;
        self.nodes.get_mut(&ino).unwrap().mtime = Some(now);
        out.push(Effect::Write {
            ino,
            cut,
            extents,
            size,
            mtime: now,
            atime: now,
            stamp: Tag {
                n: self.clock.unsigned_abs(),
                g: GenId::default(),
                v: 0,
            },
        });
    }

    fn is_below(&self, dir: Ino, ino: Ino) -> bool {
        dir == ino
            || self.dirs.get(&ino).is_some_and(|entries| {
                entries
                    .values()
                    .any(|child| self.dirs.contains_key(child) && self.is_below(dir, *child))
            })
    }

    fn rename(&mut self, from: (Ino, &Name), to: (Ino, &Name), out: &mut Vec<Effect>) {
        let Some(ino) = self.at(from.0, from.1) else { return };
        let is_dir = self.nodes[&ino].kind == Kind::Dir;
        if is_dir && self.is_below(to.0, ino) {
            return;
        }
        if let Some(old) = self.at(to.0, to.1) {
            let old_is_dir = self.nodes[&old].kind == Kind::Dir;
            if old == ino || is_dir != old_is_dir || (is_dir && !self.dirs[&old].is_empty()) {
                return;
            }
            self.remove(to.0, to.1, false, out);
        }
        self.set(from.0, from.1, None);
        self.set(to.0, to.1, Some(ino));
        let (dir, name) = (to.0, to.1.clone());
        if is_dir {
            out.push(Effect::MoveDir { ino, dir, name });
        } else {
            out.push(Effect::Link { ino, dir, name });
            out.push(Effect::Unlink {
                ino,
                dir: from.0,
                name: from.1.clone(),
            });
        }
    }
}

fn pick<V>(map: &BTreeMap<Ino, V>, dice: u16) -> Ino {
    *map.keys().nth(usize::from(dice) % map.len()).unwrap()
}

/// What a name leads to: inode, kind, mode, content or target, time if it was ever set.
type Seen = (u64, &'static str, u32, Vec<u8>, Option<(i64, i64)>);

/// A tree, and the inodes kept beside it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct World {
    paths: BTreeMap<Vec<u8>, Seen>,
    inodes: Vec<String>,
    lost: usize,
}

fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "file",
        Kind::Dir => "dir",
        Kind::Symlink => "symlink",
    }
}

impl World {
    /// As it should be.
    pub(crate) fn of_model(model: &Model) -> Self {
        let mut paths = BTreeMap::new();
        let mut open = vec![(Ino::ROOT, Vec::new())];
        while let Some((dir, path)) = open.pop() {
            for (name, ino) in &model.dirs[&dir] {
                let node = &model.nodes[ino];
                let mut path: Vec<u8> = path.clone();
                path.push(b'/');
                path.extend_from_slice(name.as_bytes());
                let mtime = node.mtime.map(|t| (t.secs, i64::from(t.nanos)));
                paths.insert(
                    path.clone(),
                    (ino.0, kind_name(node.kind), node.mode, node.content.clone(), mtime),
                );
                if node.kind == Kind::Dir {
                    open.push((*ino, path));
                }
            }
        }
        let inodes = model
            .nodes
            .iter()
            .filter(|(_, n)| n.kind != Kind::Dir)
            .map(|(ino, _)| ino.to_string());
        Self {
            paths,
            inodes: inodes.collect(),
            lost: 0,
        }
    }

    /// As it is. The model only says which times were ever set.
    pub(crate) fn of_disk(data: &Path, model: &Model) -> Self {
        let mut inodes = Vec::new();
        let mut numbers = BTreeMap::new();
        for bucket in std::fs::read_dir(data.join(".mboxfs/ino")).unwrap() {
            let bucket = bucket.unwrap();
            if bucket.file_name().as_bytes().len() != 2 {
                inodes.push(format!("parked {:?}", bucket.file_name()));
                continue;
            }
            for file in std::fs::read_dir(bucket.path()).unwrap() {
                let file = file.unwrap();
                let number = file.file_name().into_string().unwrap();
                numbers.insert(
                    file.metadata().unwrap().ino(),
                    u64::from_str_radix(&number, 16).unwrap(),
                );
                inodes.push(number);
            }
        }
        inodes.sort();
        let mut paths = BTreeMap::new();
        let mut open = vec![(data.to_path_buf(), Vec::new())];
        while let Some((dir, path)) = open.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let entry = entry.unwrap();
                if path.is_empty() && entry.file_name() == ".mboxfs" {
                    continue;
                }
                let meta = entry.path().symlink_metadata().unwrap();
                let mut path: Vec<u8> = path.clone();
                path.push(b'/');
                path.extend_from_slice(entry.file_name().as_bytes());
                let ino = numbers
                    .get(&meta.ino())
                    .copied()
                    .unwrap_or_else(|| marked(&entry.path()));
                let (kind, content) = if meta.is_dir() {
                    open.push((entry.path(), path.clone()));
                    ("dir", Vec::new())
                } else if meta.is_symlink() {
                    let target = std::fs::read_link(entry.path()).unwrap();
                    ("symlink", target.as_os_str().as_bytes().to_vec())
                } else {
                    ("file", std::fs::read(entry.path()).unwrap())
                };
                let set = model.nodes.get(&Ino(ino)).and_then(|node| node.mtime).is_some();
                let mtime = set.then(|| (meta.mtime(), meta.mtime_nsec()));
                paths.insert(path, (ino, kind, meta.mode() & 0o7777, content, mtime));
            }
        }
        let lost = std::fs::read_dir(data.join(".mboxfs/lost")).unwrap().count();
        Self { paths, inodes, lost }
    }
}

fn marked(dir: &Path) -> u64 {
    let mut buf = [0; 64];
    let len = rustix::fs::getxattr(dir, "user.mboxfs", &mut buf[..]).unwrap();
    mboxfs_types::codec::decode::<(Ino, Tag)>(&buf[..len]).unwrap().0.0
}
