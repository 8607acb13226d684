//! Committed bytes of files, kept while a lease covers them.
//!
//! Promises: bounded; what was cut, overwritten or lost with a lease is never served (the caller says so: `drop_from`,
//! `drop_range`, `clear`). Not here: staged bytes (`staging`).

use alloc::{collections::BTreeMap, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{Ino, planted::Bug};

/// Bytes fetched at a time; reads of mail programs are small and in sequence.
pub(crate) const BLOCK: u64 = 128 << 10;
/// Bytes kept in all.
const CACHE_BYTES_MAX: usize = 64 << 20;

/// Blocks of all inodes.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    blocks: BTreeMap<(Ino, u64), Bytes>,
    bytes: usize,
    /// How often bytes of an inode were dropped: a block that was asked for before the last time is not to be kept.
    drops: BTreeMap<Ino, u64>,
}

impl Cache {
    /// Block number `index`; shorter than `BLOCK` at the end of the file.
    pub(crate) fn get(&self, ino: Ino, index: u64) -> Option<&Bytes> {
        self.blocks.get(&(ino, index))
    }

    pub(crate) fn put(&mut self, ino: Ino, index: u64, data: Bytes) {
        if self.bytes + data.len() > CACHE_BYTES_MAX {
            // Simple and bounded: mailboxes are read in one go and seldom again.
            self.blocks.clear();
            self.bytes = 0;
        }
        self.bytes += data.len();
        if let Some(old) = self.blocks.insert((ino, index), data) {
            self.bytes -= old.len();
        }
    }

    /// To be compared when a block arrives with what it was when the block was asked for.
    pub(crate) fn drops(&self, ino: Ino) -> u64 {
        self.drops.get(&ino).copied().unwrap_or(0)
    }

    /// Forgets `from..to` of a file.
    pub(crate) fn drop_range(&mut self, ino: Ino, from: u64, to: u64) {
        *self.drops.entry(ino).or_default() += 1;
        let (lo, hi) = (from / BLOCK, to / BLOCK);
        let gone: Vec<(Ino, u64)> = self.blocks.range((ino, lo)..=(ino, hi)).map(|(k, _)| *k).collect();
        for key in gone {
            if let Some(old) = self.blocks.remove(&key) {
                self.bytes -= old.len();
            }
        }
    }

    pub(crate) fn clear(&mut self, ino: Ino) {
        if Bug::CacheKept.here() {
            return;
        }
        self.drop_range(ino, 0, u64::MAX);
    }
}
