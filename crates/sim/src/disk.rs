//! A disk that forgets what was not made durable: log, superblock, snapshots and files of one brick.
//!
//! Promises: a crash keeps exactly what `Done` was said for; files come back as of the last checkpoint, replay does the rest.
//! Not here: torn or rotten sectors, latency (the world delays the answers).

use bytes::Bytes;
use mboxfs_mbox::index::Index;
use mboxfs_types::{
    Errno, Ino,
    call::Space,
    disk::{AtFork, DiskOp, Done, Effect, Look, Seen, Superblock},
    limits,
    record::Record,
};
use std::collections::BTreeMap;

/// One brick's disk.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    pub superblock: Option<Superblock>,
    pub log: Vec<Record>,
    pub(crate) snapshots: BTreeMap<u64, Bytes>,
    pub files: BTreeMap<Ino, Vec<u8>>,
    /// Bytes that were overwritten after a fork: by fork and file.
    pub(crate) kept: BTreeMap<(u64, Ino), BTreeMap<u64, u8>>,
    /// Device flushes of the log.
    pub flushes: u64,
}

impl Disk {
    /// Carries out `op`; what it answers, if anything, is durable when the world delivers it.
    pub fn apply(&mut self, op: DiskOp) -> Option<Done> {
        match op {
            DiskOp::Append(record) => {
                let n = record.tag.n;
                self.log.retain(|r| r.tag.n < n);
                self.log.push(record);
                self.flushes += 1;
                Some(Done::Appended { n })
            }
            DiskOp::Superblock(sb) => {
                self.superblock = Some(sb);
                Some(Done::Superblock)
            }
            DiskOp::Apply(effects) => {
                for effect in effects {
                    self.effect(effect);
                }
                None
            }
            DiskOp::Look { ticket, look } => Some(Done::Answer {
                ticket,
                result: self.look(&look),
            }),
            DiskOp::Checkpoint { n, snapshot } => {
                self.snapshots.insert(n, snapshot);
                Some(Done::Checkpoint { n })
            }
            DiskOp::ReadLog { from } => {
                let records = self.log.iter().filter(|r| r.tag.n >= from).take(3).cloned().collect();
                Some(Done::Log { from, records })
            }
            DiskOp::Damage => Some(Done::Damage {
                bad: Vec::new(),
                doubtful: Vec::new(),
            }),
            DiskOp::Scrub { ino, .. } => Some(Done::Scrubbed {
                ino,
                suspects: Vec::new(),
            }),
            DiskOp::Trim { below } => {
                self.log.retain(|r| r.tag.n >= below);
                None
            }
        }
    }

    fn effect(&mut self, effect: Effect) {
        match effect {
            Effect::Make { ino, .. } => {
                self.files.entry(ino).or_default();
            }
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                ..
            } => {
                let file = self.files.entry(ino).or_default();
                file.truncate(usize::try_from(cut).unwrap_or(usize::MAX));
                for e in extents {
                    let (from, to) = (e.offset as usize, e.offset as usize + e.data.len());
                    if file.len() < to {
                        file.resize(to, 0);
                    }
                    file[from..to].copy_from_slice(&e.data);
                }
                file.resize(size as usize, 0);
            }
            Effect::Free { ino } => {
                self.files.remove(&ino);
            }
            Effect::Keep { fork, ino, ranges } => {
                let file = self.files.get(&ino).cloned().unwrap_or_default();
                let kept = self.kept.entry((fork, ino)).or_default();
                for (from, to) in ranges {
                    for at in from..to.min(file.len() as u64) {
                        kept.entry(at).or_insert(file[at as usize]);
                    }
                }
            }
            Effect::Revert { fork, ino } => {
                let file = self.files.entry(ino).or_default();
                for (at, byte) in self.kept.get(&(fork, ino)).into_iter().flatten() {
                    let at = *at as usize;
                    if file.len() <= at {
                        file.resize(at + 1, 0);
                    }
                    file[at] = *byte;
                }
            }
            Effect::Forget { below } => self.kept.retain(|(fork, _), _| *fork >= below),
            _ => {}
        }
    }

    fn look(&self, look: &Look) -> Result<Seen, Errno> {
        match look {
            Look::Read { ino, offset, len } => {
                let file = self.files.get(ino).ok_or(Errno::ESTALE)?;
                let from = (*offset as usize).min(file.len());
                let to = (from + *len as usize).min(file.len());
                Ok(Seen::Data(Bytes::copy_from_slice(&file[from..to])))
            }
            Look::Index { ino, base } => {
                let mut file = self.files.get(ino).cloned().unwrap_or_default();
                if let Some(AtFork { fork, size }) = base {
                    file.resize(*size as usize, 0);
                    for (at, byte) in self.kept.get(&(*fork, *ino)).into_iter().flatten() {
                        file[*at as usize] = *byte;
                    }
                }
                let index = Index::read(file.as_slice()).map_err(|_| Errno::ESTALE)?;
                Ok(Seen::Data(index.encode().into()))
            }
            Look::Block { ino, block, .. } => {
                let file = self.files.get(ino).ok_or(Errno::ESTALE)?;
                let from = ((block * limits::SUM_BLOCK_BYTES) as usize).min(file.len());
                let to = (from + limits::SUM_BLOCK_BYTES as usize).min(file.len());
                Ok(Seen::Data(Bytes::copy_from_slice(&file[from..to])))
            }
            Look::Sums { .. } => Ok(Seen::Data(Bytes::new())),
            Look::GetXattr { .. } => Err(Errno::ENODATA),
            Look::ListXattr { .. } => Ok(Seen::Names(Vec::new())),
        }
    }

    /// Newest snapshot at or below `at_most`, and the log after it.
    #[must_use]
    pub fn recover(&self, at_most: u64) -> (Bytes, Vec<Record>, u64) {
        let snapshot = self
            .snapshots
            .range(..=at_most)
            .next_back()
            .map(|(_, s)| s.clone())
            .unwrap_or_default();
        let start = self.log.first().map_or(1, |r| r.tag.n);
        (snapshot, self.log.clone(), start)
    }

    /// Drops the log above `keep`.
    pub fn drop_above(&mut self, keep: u64) {
        self.log.retain(|r| r.tag.n <= keep);
        self.snapshots.retain(|n, _| *n <= keep);
    }

    /// Room enough.
    #[must_use]
    pub const fn space() -> Space {
        Space {
            total: 1 << 40,
            free: 1 << 39,
            inodes: 1 << 20,
            inodes_free: 1 << 20,
        }
    }
}
