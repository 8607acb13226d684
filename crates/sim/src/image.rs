//! The mailbox files of a brick, as ext4 would hold them: what is in memory, and what a power cut leaves of it.
//!
//! Promises: what a checkpoint covered is durable. Of what came after, a prefix of the changes of names, attributes and sizes
//! is left, and of the bytes any subset of pages; a file that grew in that prefix has its new bytes (data=ordered). What was
//! kept for a fork is durable at once (store J1). What lies on the device may rot ([`Image::rot`]); whoever reads it gets
//! what the real checksums (`store::AtRest`) let through.
//! Not here: bytes on a real filesystem (`store::Files`, shown by its own tests), the log (`disk`).

use crate::rng::Rng;
use bytes::Bytes;
use mboxfs_store::{AtRest, Change, LossyMedium, Resting, Touched};
use mboxfs_types::{Ino, Kind, Name, Timestamp, call::Extent, disk::Effect, limits};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

mod beside;
mod look;
mod rot;
use beside::Beside;
pub(crate) use rot::has_rot;

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

impl Resting for File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).map_err(io::Error::other)?;
        let bytes = from.checked_add(buf.len()).and_then(|to| self.data.get(from..to));
        buf.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.data.len() as u64)
    }

    /// (That it is durable: [`Image::apply`].)
    fn restore(&mut self, offset: u64, bytes: &[u8], size: u64) -> io::Result<()> {
        put_bytes(&mut self.data, offset, bytes);
        self.data.truncate(usize::try_from(size).map_err(io::Error::other)?);
        Ok(())
    }
}

impl File {
    /// (Of a file that was never written the volume knows when it was made, the filesystem something else.)
    pub(crate) fn is_like(&self, other: &Self) -> bool {
        let unset = Timestamp::default();
        let mtime = if other.mtime == unset { unset } else { self.mtime };
        let other_mtime = if self.mtime == unset { unset } else { other.mtime };
        mtime == other_mtime
            && self.data == other.data
            && (self.mode, self.owner) == (other.mode, other.owner)
            && (&self.target, &self.xattrs) == (&other.target, &other.xattrs)
    }

    fn write(&mut self, change: &Change<'_>) {
        self.data.truncate(usize::try_from(change.cut).unwrap_or(usize::MAX));
        for (offset, bytes) in &change.extents {
            put_bytes(&mut self.data, *offset, bytes);
        }
        self.data.resize(change.size as usize, 0);
    }
}

/// Files, directories and names.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Tree {
    pub files: BTreeMap<Ino, File>,
    pub names: BTreeMap<(Ino, Name), Ino>,
}

impl Tree {
    /// In a directory that is none it gets no name.
    fn name(&mut self, dir: Ino, name: &Name, ino: Ino) {
        if dir.0 > 0 {
            self.names.insert((dir, name.clone()), ino);
        }
    }

    fn apply(&mut self, effect: &Effect, kept: &Kept) {
        match effect {
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                mtime,
                ..
            } => {
                if let Some(file) = self.files.get_mut(ino) {
                    file.write(&change_of(*cut, extents, *size));
                    file.mtime = *mtime;
                }
            }
            Effect::Repair { ino, block, bytes, .. } => {
                if let Some(file) = self.files.get_mut(ino) {
                    put_bytes(&mut file.data, block * limits::SUM_BLOCK_BYTES, bytes);
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
            Effect::Revert { fork, ino } => {
                if let Some(file) = self.files.get_mut(ino) {
                    for (at, bytes) in runs(kept.get(&(*fork, *ino))) {
                        put_bytes(&mut file.data, at, &bytes);
                    }
                }
            }
            _ => self.apply_names(effect),
        }
    }

    /// Which files there are, and their names.
    fn apply_names(&mut self, effect: &Effect) {
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
                self.name(*dir, name, *ino);
            }
            Effect::Link { ino, dir, name } if self.files.contains_key(ino) => {
                self.name(*dir, name, *ino);
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
            Effect::Only { names, nameless } => {
                let files: BTreeSet<Ino> = names.iter().map(|n| n.2).chain(nameless.iter().copied()).collect();
                let names: BTreeSet<(Ino, Name)> = names.iter().map(|(dir, name, _)| (*dir, name.clone())).collect();
                self.files.retain(|ino, _| files.contains(ino));
                self.names.retain(|key, _| names.contains(key));
            }
            Effect::Free { ino } => {
                self.files.remove(ino);
            }
            _ => {}
        }
    }
}

type Kept = BTreeMap<(u64, Ino), BTreeMap<u64, u8>>;

fn closed() -> io::Error {
    io::Error::other("the brick is not open")
}

fn change_of(cut: u64, extents: &[Extent], size: u64) -> Change<'_> {
    let extents = extents.iter().map(|e| (e.offset, &e.data[..])).collect();
    Change { cut, extents, size }
}

fn put_bytes(data: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let (from, to) = (offset as usize, offset as usize + bytes.len());
    if data.len() < to {
        data.resize(to, 0);
    }
    data[from..to].copy_from_slice(bytes);
}

/// Bytes that lie one behind the other, and where.
fn runs(bytes: Option<&BTreeMap<u64, u8>>) -> Vec<(u64, Vec<u8>)> {
    let mut runs: Vec<(u64, Vec<u8>)> = Vec::new();
    for (at, byte) in bytes.into_iter().flatten() {
        match runs.last_mut() {
            Some((from, run)) if *from + run.len() as u64 == *at => run.push(*byte),
            _ => runs.push((*at, vec![*byte])),
        }
    }
    runs
}

/// See above.
#[derive(Debug, Default)]
pub struct Image {
    pub now: Tree,
    durable: Tree,
    /// Applied since `durable`.
    since: Vec<Effect>,
    /// Effects before those.
    before: usize,
    /// Of a file: what was applied up to here is durable, wherever its checkpoint is (fdatasync of a repair).
    synced: BTreeMap<Ino, usize>,
    /// Bytes that were overwritten after a fork.
    kept: Kept,
    /// None: no process has it open.
    at_rest: Option<AtRest<LossyMedium>>,
    /// End of the log when it was opened.
    horizon: u64,
    /// Bytes that rotted, as they were.
    rotten: BTreeMap<(Ino, u64), u8>,
    beside: Option<Beside>,
}

impl Image {
    /// From here on there are real files beside it. For an empty one.
    pub fn add_files(&mut self) {
        self.beside = Some(Beside::new());
    }

    /// A process opens it. `sums`: of the snapshot that it found; `horizon`: end of its log.
    ///
    /// # Errors
    /// As the store's.
    pub fn open(&mut self, medium: LossyMedium, sums: &[u8], horizon: u64) -> io::Result<()> {
        self.at_rest = Some(AtRest::open(medium, sums, horizon)?);
        self.horizon = horizon;
        if let Some(beside) = &mut self.beside {
            beside.open(sums, horizon);
        }
        Ok(())
    }

    /// The process is gone.
    pub fn close(&mut self) {
        self.at_rest = None;
        if let Some(beside) = &mut self.beside {
            beside.close(&self.now);
        }
    }

    /// # Errors
    /// The device failed.
    pub fn apply(&mut self, effects: Vec<Effect>) -> io::Result<()> {
        if let Some(beside) = &mut self.beside {
            beside.apply(&effects);
        }
        for effect in effects {
            match &effect {
                Effect::Keep { fork, ino, ranges } => self.keep(*fork, *ino, ranges),
                Effect::Forget { below } => self.kept.retain(|(fork, _), _| fork >= below),
                Effect::Rotten { ino, blocks } => {
                    if let (Some(at_rest), Some(file)) = (&mut self.at_rest, self.now.files.get(ino)) {
                        at_rest.rotten((*ino, file), blocks)?;
                    }
                }
                Effect::Repair {
                    ino,
                    block,
                    bytes,
                    sure,
                } => self.mend(*ino, *block, |at_rest, file| at_rest.repair(file, *block, bytes, *sure))?,
                Effect::Combine { ino, block, theirs } => {
                    self.mend(*ino, *block, |at_rest, file| at_rest.combine(file, *block, theirs))?;
                }
                Effect::Damaged { ino, offset, bytes } => {
                    let block = offset / limits::SUM_BLOCK_BYTES;
                    self.mend(*ino, block, |at_rest, file| at_rest.take_damaged(file, *offset, bytes))?;
                }
                _ => {
                    self.apply_checked(&effect)?;
                    self.since.push(effect);
                }
            }
        }
        Ok(())
    }

    /// A block that `mend` changes is durable at once.
    fn mend(
        &mut self,
        ino: Ino,
        block: u64,
        mend: impl FnOnce(&mut AtRest<LossyMedium>, (Ino, &mut File)) -> io::Result<bool>,
    ) -> io::Result<()> {
        if let (Some(at_rest), Some(file)) = (&mut self.at_rest, self.now.files.get_mut(&ino))
            && mend(at_rest, (ino, file))?
        {
            let bytes = Bytes::copy_from_slice(rot::block_of(&file.data, block));
            let sure = true;
            self.since.push(Effect::Repair {
                ino,
                block,
                bytes,
                sure,
            });
            self.synced.insert(ino, self.before + self.since.len());
        }
        Ok(())
    }

    /// As `store::Files`: whatever changes a file's content changes its sums.
    fn apply_checked(&mut self, effect: &Effect) -> io::Result<()> {
        match effect {
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                mtime,
                stamp,
                ..
            } => {
                self.write(*ino, &change_of(*cut, extents, *size), Some(stamp.n))?;
                if let Some(file) = self.now.files.get_mut(ino) {
                    file.mtime = *mtime;
                }
            }
            Effect::Revert { fork, ino } => {
                for (offset, bytes) in runs(self.kept.get(&(*fork, *ino))) {
                    let had = self.now.files.get(ino).map_or(0, |file| file.data.len() as u64);
                    let change = Change {
                        cut: u64::MAX,
                        extents: vec![(offset, &bytes)],
                        size: had.max(offset + bytes.len() as u64),
                    };
                    self.write(*ino, &change, None)?;
                }
            }
            _ => {
                let had: Vec<Ino> = self.now.files.keys().copied().collect();
                self.now.apply(effect, &self.kept);
                let at_rest = self.at_rest.as_mut().ok_or_else(closed)?;
                match effect {
                    Effect::Make {
                        ino, kind: Kind::File, ..
                    } => at_rest.begin(*ino),
                    Effect::Only { .. } | Effect::Free { .. } => {
                        for ino in had.iter().filter(|ino| !self.now.files.contains_key(ino)) {
                            at_rest.free(*ino)?;
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// `n`: position of the record; none: not known.
    fn write(&mut self, ino: Ino, change: &Change<'_>, n: Option<u64>) -> io::Result<()> {
        if n.is_none_or(|n| n <= self.horizon) {
            self.forget_what_is_in_doubt(ino, change);
        }
        let at_rest = self.at_rest.as_mut().ok_or_else(closed)?;
        let Some(file) = self.now.files.get_mut(&ino) else {
            return Ok(());
        };
        at_rest.change((ino, file), change, n, |file| {
            file.write(change);
            Ok(())
        })
    }

    /// An effect that is on its way.
    pub(crate) fn apply_to(&self, tree: &mut Tree, effect: &Effect) {
        tree.apply(effect, &self.kept);
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

    /// What a checkpoint that begins now will cover, and what files hold then.
    #[must_use]
    pub fn mark(&self) -> (usize, Touched) {
        let touched = self.at_rest.as_ref().map(AtRest::touched);
        (self.before + self.since.len(), touched.unwrap_or_default())
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
        let first = self.before - since.len();
        let synced = std::mem::take(&mut self.synced);
        let is_synced = |i: usize, ino: &Ino| synced.get(ino).is_some_and(|end| first + i < *end);
        for (i, effect) in since.iter().enumerate() {
            if let Effect::Write { ino, .. } | Effect::Repair { ino, .. } = effect
                && is_synced(i, ino)
            {
                left.apply(effect, &self.kept);
            } else if i < prefix && !matches!(effect, Effect::Write { .. }) {
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
        if let Some(beside) = &mut self.beside {
            beside.left(&self.now);
        }
    }

    /// At rest.
    pub fn compare_files(&mut self) {
        if let Some(beside) = &mut self.beside {
            beside.compare(&self.now);
        }
    }

    /// Bytes in all files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.now.files.values().map(|f| f.data.len() as u64).sum()
    }

    /// How many messages of a mailbox were taken out because they rotted on both bricks: their files say so by their names,
    /// `NAME.damaged-COUNT.VERSION.BRICK` (`brick::heal::quarantine` Q6).
    #[must_use]
    pub fn taken_out(&self, mailbox: &str) -> u32 {
        let prefix = format!("{mailbox}.damaged-");
        let of = |name: &Name| {
            let name = name.to_string();
            let mut parts = name.strip_prefix(&prefix)?.split('.');
            Some((parts.next()?.parse().ok()?, parts.next()?.to_owned()))
        };
        let all: BTreeMap<String, u32> = self
            .now
            .names
            .keys()
            .filter_map(|(_, name)| of(name))
            .map(|(count, version): (u32, String)| (version, count))
            .collect();
        all.values().sum()
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
            put_bytes(data, piece.offset, &piece.data);
        }
        at = to;
    }
}
