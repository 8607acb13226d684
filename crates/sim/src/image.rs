//! The mailbox files of a brick, as ext4 would hold them: what is in memory, and what a power cut leaves of it.
//!
//! Promises: what a checkpoint covered is durable. Of what came after, a prefix of the changes of names, attributes and sizes
//! is left, and of the bytes any subset of pages; a file that grew in that prefix has its new bytes (data=ordered). What was
//! kept for a fork is durable at once (store J1).
//! Not here: bytes on a real filesystem (`store::Files`, shown by its own tests), the log (`disk`).

use crate::rng::Rng;
use bytes::Bytes;
use mboxfs_mbox::index::Index;
use mboxfs_types::{
    Errno, Ino, Kind, Name, Timestamp,
    call::Extent,
    codec,
    disk::{AtFork, Effect, Look, Seen, Xattrs},
    limits,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
};

const PAGE: usize = 4096;

/// A file or symbolic link.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct File {
    pub data: Vec<u8>,
    pub mode: u32,
    pub owner: (u32, u32),
    pub mtime: Timestamp,
    pub target: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Files, directories and names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    pub files: BTreeMap<Ino, File>,
    pub names: BTreeMap<(Ino, Name), Ino>,
}

impl Tree {
    fn apply(&mut self, effect: &Effect, kept: &Kept) {
        match effect {
            Effect::Make {
                ino,
                kind,
                mode,
                uid,
                gid,
                target,
                dir,
                name,
            } => {
                if *kind != Kind::Dir {
                    let file = self.files.entry(*ino).or_default();
                    file.mode = *mode;
                    file.owner = (*uid, *gid);
                    file.target.clone_from(target);
                }
                self.names.insert((*dir, name.clone()), *ino);
            }
            Effect::Link { ino, dir, name } if self.files.contains_key(ino) => {
                self.names.insert((*dir, name.clone()), *ino);
            }
            Effect::Unlink { ino, dir, name } => {
                let key = (*dir, name.clone());
                if self.names.get(&key) == Some(ino) {
                    self.names.remove(&key);
                }
            }
            Effect::MoveDir { ino, dir, name } => {
                self.names.retain(|_, named| named != ino);
                self.names.insert((*dir, name.clone()), *ino);
            }
            Effect::RemoveDir { ino } => self.names.retain(|_, named| named != ino),
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                mtime,
                ..
            } => {
                if let Some(file) = self.files.get_mut(ino) {
                    file.data.truncate(usize::try_from(*cut).unwrap_or(usize::MAX));
                    extents.iter().for_each(|e| put(&mut file.data, e));
                    file.data.resize(*size as usize, 0);
                    file.mtime = *mtime;
                }
            }
            Effect::SetAttr {
                ino,
                mode,
                uid,
                gid,
                mtime,
                ..
            } => {
                if let Some(file) = self.files.get_mut(ino) {
                    file.mode = *mode;
                    file.owner = (*uid, *gid);
                    file.mtime = *mtime;
                }
            }
            Effect::Xattr { ino, name, value } => {
                if let Some(file) = self.files.get_mut(ino) {
                    match value {
                        Some(value) => file.xattrs.insert(name.clone(), value.clone()),
                        None => file.xattrs.remove(name),
                    };
                }
            }
            Effect::AllXattrs { ino, all } => {
                if let Some(file) = self.files.get_mut(ino) {
                    file.xattrs = all.iter().cloned().collect();
                }
            }
            Effect::Only { names, nameless } => {
                let files: BTreeSet<Ino> = names.iter().map(|n| n.2).chain(nameless.iter().copied()).collect();
                let names: BTreeSet<(Ino, Name)> = names.iter().map(|(dir, name, _)| (*dir, name.clone())).collect();
                self.files.retain(|ino, _| files.contains(ino));
                self.names.retain(|key, _| names.contains(key));
            }
            Effect::Free { ino } => {
                self.files.remove(ino);
            }
            Effect::Revert { fork, ino } => {
                if let Some(file) = self.files.get_mut(ino) {
                    for (at, byte) in kept.get(&(*fork, *ino)).into_iter().flatten() {
                        put_byte(&mut file.data, *at, *byte);
                    }
                }
            }
            _ => {}
        }
    }
}

type Kept = BTreeMap<(u64, Ino), BTreeMap<u64, u8>>;

fn put(data: &mut Vec<u8>, extent: &Extent) {
    let (from, to) = (extent.offset as usize, extent.offset as usize + extent.data.len());
    if data.len() < to {
        data.resize(to, 0);
    }
    data[from..to].copy_from_slice(&extent.data);
}

fn put_byte(data: &mut Vec<u8>, at: u64, byte: u8) {
    let at = at as usize;
    if data.len() <= at {
        data.resize(at + 1, 0);
    }
    data[at] = byte;
}

/// See above.
#[derive(Clone, Debug, Default)]
pub struct Image {
    pub now: Tree,
    durable: Tree,
    /// Applied since `durable`.
    since: Vec<Effect>,
    /// Effects before those.
    before: usize,
    /// Bytes that were overwritten after a fork.
    kept: Kept,
}

impl Image {
    pub fn apply(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match &effect {
                Effect::Keep { fork, ino, ranges } => self.keep(*fork, *ino, ranges),
                Effect::Forget { below } => self.kept.retain(|(fork, _), _| fork >= below),
                _ => {
                    self.now.apply(&effect, &self.kept);
                    self.since.push(effect);
                }
            }
        }
    }

    fn keep(&mut self, fork: u64, ino: Ino, ranges: &[(u64, u64)]) {
        let Some(file) = self.now.files.get(&ino) else {
            return;
        };
        let kept = self.kept.entry((fork, ino)).or_default();
        for (from, to) in ranges {
            for at in *from..(*to).min(file.data.len() as u64) {
                kept.entry(at).or_insert(file.data[at as usize]);
            }
        }
    }

    /// What a checkpoint that begins now will cover.
    #[must_use]
    pub fn mark(&self) -> usize {
        self.before + self.since.len()
    }

    /// It is done.
    pub fn checkpointed(&mut self, mark: usize) {
        let count = mark.saturating_sub(self.before);
        for effect in self.since.drain(..count) {
            self.durable.apply(&effect, &self.kept);
        }
        self.before += count;
    }

    /// The power goes.
    pub fn crash(&mut self, rng: &mut Rng) {
        let since = std::mem::take(&mut self.since);
        self.before += since.len();
        let prefix = rng.below(since.len() as u64 + 1) as usize;
        let mut left = self.durable.clone();
        for (i, effect) in since.iter().enumerate() {
            if i < prefix && !matches!(effect, Effect::Write { .. }) {
                left.apply(effect, &self.kept);
            } else if let Effect::Write {
                ino,
                cut,
                extents,
                size,
                mtime,
                ..
            } = effect
            {
                let Some(file) = left.files.get_mut(ino) else { continue };
                if i < prefix {
                    file.data.truncate(usize::try_from(*cut).unwrap_or(usize::MAX));
                    file.mtime = *mtime;
                }
                let before = file.data.len();
                for extent in extents {
                    put_some(&mut file.data, extent, i < prefix, rng);
                }
                file.data.resize(if i < prefix { *size as usize } else { before }, 0);
            }
        }
        self.durable = left.clone();
        self.now = left;
    }

    /// The answer to a look.
    ///
    /// # Errors
    /// As `store::Files`.
    pub fn look(&self, look: &Look) -> Result<Seen, Errno> {
        match look {
            Look::Read { ino, offset, len } | Look::Copy { ino, offset, len } => {
                let bytes = self.bytes_at(*ino, *offset, u64::from(*len))?;
                Ok(Seen::Data(Bytes::copy_from_slice(bytes)))
            }
            Look::Digests { ino, offset, len } => {
                let blocks = self.bytes_at(*ino, *offset, *len)?.chunks(limits::BLOCK_BYTES);
                Ok(Seen::Data(blocks.flat_map(digest).collect()))
            }
            Look::Raw { ino, block } => {
                let bytes = self.bytes_at(*ino, block * limits::SUM_BLOCK_BYTES, limits::SUM_BLOCK_BYTES)?;
                Ok(Seen::Raw {
                    bytes: Bytes::copy_from_slice(bytes),
                    damaged: None,
                })
            }
            Look::Block { ino, block, .. } => {
                let bytes = self.bytes_at(*ino, block * limits::SUM_BLOCK_BYTES, limits::SUM_BLOCK_BYTES)?;
                Ok(Seen::Data(Bytes::copy_from_slice(bytes)))
            }
            Look::Sums { ino, first, count } => {
                let len = count * limits::SUM_BLOCK_BYTES;
                let bytes = self.bytes_at(*ino, first * limits::SUM_BLOCK_BYTES, len)?;
                let sums = bytes.chunks(limits::SUM_BLOCK_BYTES as usize);
                Ok(Seen::Data(sums.flat_map(|block| digest(block)[..4].to_vec()).collect()))
            }
            Look::Xattrs { inos } => {
                let of = |ino: &Ino| self.now.files.get(ino).map(|f| f.xattrs.clone().into_iter().collect());
                let all: Xattrs = inos.iter().map(|ino| (*ino, of(ino).unwrap_or_default())).collect();
                Ok(Seen::Data(codec::encode(&all).into()))
            }
            Look::Index { ino, base } => {
                let mut file = self.now.files.get(ino).ok_or(Errno::ESTALE)?.data.clone();
                if let Some(AtFork { fork, size }) = base {
                    file.resize(*size as usize, 0);
                    for (at, byte) in self.kept.get(&(*fork, *ino)).into_iter().flatten() {
                        file[*at as usize] = *byte;
                    }
                }
                let index = Index::read(file.as_slice()).map_err(|_| Errno::ESTALE)?;
                Ok(Seen::Data(index.encode().into()))
            }
            Look::RawIndex { ino } => self.look(&Look::Index { ino: *ino, base: None }),
            Look::GetXattr { ino, name } => {
                let file = self.now.files.get(ino).ok_or(Errno::ESTALE)?;
                let value = file.xattrs.get(name).ok_or(Errno::ENODATA)?;
                Ok(Seen::Data(Bytes::copy_from_slice(value)))
            }
            Look::ListXattr { ino } => {
                let file = self.now.files.get(ino).ok_or(Errno::ESTALE)?;
                Ok(Seen::Names(file.xattrs.keys().cloned().collect()))
            }
        }
    }

    fn bytes_at(&self, ino: Ino, offset: u64, len: u64) -> Result<&[u8], Errno> {
        let file = &self.now.files.get(&ino).ok_or(Errno::ESTALE)?.data;
        let from = (offset as usize).min(file.len());
        let to = from.saturating_add(len as usize).min(file.len());
        Ok(&file[from..to])
    }

    /// Bytes in all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.now.files.values().map(|f| f.data.len() as u64).sum()
    }

    /// The content of a file in the top directory.
    #[must_use]
    pub fn mailbox(&self, name: &str) -> Option<&[u8]> {
        let name = Name::new(name.as_bytes()).ok()?;
        let ino = self.now.names.get(&(Ino::ROOT, name))?;
        self.now.files.get(ino).map(|f| f.data.as_slice())
    }
}

/// Each page of the extent, or not; what made the file longer is there when its size is (`sized`).
fn put_some(data: &mut Vec<u8>, extent: &Extent, sized: bool, rng: &mut Rng) {
    let old = data.len();
    let mut at = extent.offset as usize;
    let end = at + extent.data.len();
    while at < end {
        let to = ((at / PAGE + 1) * PAGE).min(end);
        let grows = to > old;
        if (grows && sized) || rng.chance(50) {
            let from = at - extent.offset as usize;
            let piece = Extent {
                offset: at as u64,
                data: extent.data.slice(from..from + (to - at)),
            };
            put(data, &piece);
        }
        at = to;
    }
}

/// As long as a real one, and good enough for a world without malice.
fn digest(block: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    block.hash(&mut hasher);
    let mut digest = vec![0; limits::DIGEST_BYTES];
    digest[..8].copy_from_slice(&hasher.finish().to_le_bytes());
    digest
}
