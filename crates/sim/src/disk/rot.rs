//! Rot in the log and in the superblock.
//!
//! Promises: a record rots only when a later one proves that it was durable (of the last ones nobody can tell rot from what a
//! crash tore: store R2); of the superblock one of two good copies.
//! Not here: files (`image`); what becomes of a brick that cannot be opened (`world`).

use super::Disk;
use crate::rng::Rng;
use mboxfs_store::Medium;
use mboxfs_types::{codec, record::Record};

const LOG: &str = "log";
const SUPERBLOCK: &str = "superblock";
/// Bytes before the body of a record that belong to it.
const HEAD: u64 = 40;

/// A byte that rotted, as it was.
#[derive(Clone, Debug)]
pub(super) struct Rotten {
    n: u64,
    path: String,
    at: u64,
    was: u8,
}

impl Disk {
    fn bytes(&self, path: &str) -> Vec<u8> {
        let file = self.medium.open(path).expect("it is there");
        let mut bytes = vec![0; self.medium.len(&file).expect("a medium in memory") as usize];
        self.medium
            .read_at(&file, 0, &mut bytes)
            .expect("it is as long as that");
        bytes
    }

    /// Durable at once.
    fn change_byte(&self, path: &str, at: u64, byte: u8) {
        let file = self.medium.open(path).expect("it is there");
        self.medium.write_at(&file, at, &[byte]).expect("a medium in memory");
        self.medium.overlook_sync(&file);
    }

    /// Last record that is proved to be durable.
    #[must_use]
    pub const fn proved(&self) -> u64 {
        self.proved
    }

    /// A byte of a record rots. False: it is not in the log any more.
    pub fn rot_log(&mut self, record: &Record, rng: &mut Rng) -> bool {
        let body = codec::encode(record);
        let names = self.medium.names(LOG).expect("a medium in memory");
        for path in names.iter().filter(|n| !n.contains('-')).map(|n| format!("{LOG}/{n}")) {
            let bytes = self.bytes(&path);
            if let Some(start) = bytes.windows(body.len()).position(|window| window == body) {
                let (start, end) = (start as u64, (start + body.len()) as u64);
                let at = rng.between(start - HEAD, end - 1);
                let was = bytes[at as usize];
                self.change_byte(&path, at, was ^ (1 << rng.below(8)));
                let n = record.tag.n;
                self.rotten = Some(Rotten { n, path, at, was });
                return true;
            }
        }
        false
    }

    /// Something in the log is rotten.
    #[must_use]
    pub const fn log_rots(&self) -> bool {
        self.rotten.is_some()
    }

    /// The device has read it at last.
    pub fn restore_log(&mut self) {
        if let Some(Rotten { path, at, was, .. }) = self.rotten.take()
            && self.medium.open(&path).is_ok()
        {
            self.change_byte(&path, at, was);
        }
    }

    /// Segments have gone, and all records above `last`.
    pub(super) fn forget_rot(&mut self, last: u64) {
        let medium = &self.medium;
        self.rotten.take_if(|r| r.n > last || medium.open(&r.path).is_err());
    }

    /// One of the two copies of the superblock rots. False: there is one only.
    pub fn rot_superblock(&mut self, rng: &mut Rng) -> bool {
        let bytes = self.bytes(SUPERBLOCK);
        let half = bytes.len() / 2;
        if bytes[..half] != bytes[half..] {
            return false;
        }
        let used = bytes[..half].iter().rposition(|byte| *byte != 0).map_or(1, |at| at + 1) as u64;
        let at = rng.below(used) + rng.side() as u64 * half as u64;
        self.has_one_superblock = true;
        self.change_byte(SUPERBLOCK, at, bytes[at as usize] ^ (1 << rng.below(8)));
        true
    }
}
