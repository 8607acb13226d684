//! What a lock session has written and not committed: an overlay over the committed file (law L6).
//!
//! T1  `read` gives what a local file would hold after the same writes and truncates (POSIX), for the mount that wrote.
//! T2  `changes` is the same in one commit: cut, extents in order and without overlap, size.
//! T3  A piece is at most `PIECE` bytes, so that no write costs more than copying one piece.
//!
//! Not here: when to commit (`commit`), whose lock it is (`locks`).

use crate::input::Fh;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_types::{Timestamp, call::Extent, kept::Overlay, limits};

const PIECE: usize = 64 << 10;

/// The overlay of one inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Staging {
    base: u64,
    cut: u64,
    pub(crate) size: u64,
    pieces: BTreeMap<u64, Vec<u8>>,
    bytes: usize,
    pub(crate) mtime: Timestamp,
    pub(crate) atime: Option<Timestamp>,
    /// Times were set by utimens: they count as a change of their own.
    pub(crate) times_set: bool,
    /// Handles that wrote.
    pub(crate) writers: BTreeSet<Fh>,
}

impl Staging {
    /// Nothing changed yet on a file of `base` bytes.
    pub(crate) const fn new(base: u64, mtime: Timestamp) -> Self {
        Self {
            base,
            cut: u64::MAX,
            size: base,
            pieces: BTreeMap::new(),
            bytes: 0,
            mtime,
            atime: None,
            times_set: false,
            writers: BTreeSet::new(),
        }
    }

    /// The same for a daemon that takes this one's place.
    pub(crate) fn kept(&self) -> Overlay {
        Overlay {
            base: self.base,
            cut: self.cut,
            size: self.size,
            pieces: self
                .pieces
                .iter()
                .map(|(at, bytes)| (*at, Bytes::copy_from_slice(bytes)))
                .collect(),
            mtime: self.mtime,
            atime: self.atime,
            times_set: self.times_set,
            writers: self.writers.iter().map(|fh| fh.0).collect(),
        }
    }

    pub(crate) fn resumed(kept: Overlay) -> Self {
        let mut staging = Self::new(kept.base, kept.mtime);
        for (offset, bytes) in &kept.pieces {
            staging.write(*offset, bytes);
        }
        (staging.cut, staging.size) = (kept.cut, kept.size);
        (staging.atime, staging.times_set) = (kept.atime, kept.times_set);
        staging.writers = kept.writers.into_iter().map(Fh).collect();
        staging
    }

    /// The file is as it was: an append that was undone, say.
    pub(crate) fn is_clean(&self) -> bool {
        self.pieces.is_empty() && self.size == self.base && self.cut >= self.base && !self.times_set
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        let end = offset + data.len() as u64;
        self.punch(offset, end);
        let mut at = offset;
        let mut rest = data;
        if let Some((start, piece)) = self.pieces.range_mut(..offset).next_back()
            && *start + piece.len() as u64 == offset
            && piece.len() < PIECE
        {
            let take = rest.len().min(PIECE - piece.len());
            piece.extend_from_slice(&rest[..take]);
            at += take as u64;
            rest = &rest[take..];
        }
        while !rest.is_empty() {
            let take = rest.len().min(PIECE);
            self.pieces.insert(at, rest[..take].to_vec());
            at += take as u64;
            rest = &rest[take..];
        }
        self.bytes += data.len();
        self.size = self.size.max(end);
    }

    pub(crate) fn truncate(&mut self, size: u64) {
        if size < self.size {
            self.punch(size, u64::MAX);
            self.cut = self.cut.min(size);
        }
        self.size = size;
    }

    /// Nothing is staged in `from..to` afterwards.
    fn punch(&mut self, from: u64, to: u64) {
        if let Some((start, piece)) = self.pieces.range_mut(..from).next_back() {
            let end = *start + piece.len() as u64;
            if end > from {
                let right = piece.split_off((from - *start) as usize);
                self.bytes -= right.len();
                if end > to {
                    let keep = right[(to - from) as usize..].to_vec();
                    self.bytes += keep.len();
                    self.pieces.insert(to, keep);
                }
            }
        }
        let inside: Vec<u64> = self.pieces.range(from..to).map(|(s, _)| *s).collect();
        for start in inside {
            let Some(mut piece) = self.pieces.remove(&start) else {
                continue;
            };
            self.bytes -= piece.len();
            let end = start + piece.len() as u64;
            if end > to {
                let keep = piece.split_off((to - start) as usize);
                self.bytes += keep.len();
                self.pieces.insert(to, keep);
            }
        }
    }

    /// Bytes of the committed file below this offset show through where nothing is staged.
    pub(crate) fn base_end(&self) -> u64 {
        self.cut.min(self.base)
    }

    /// Parts of `from..to` that have to come from the committed file.
    pub(crate) fn holes(&self, from: u64, to: u64) -> Vec<(u64, u64)> {
        let to = to.min(self.base_end());
        let mut holes = Vec::new();
        let mut at = from;
        let before = self.pieces.range(..=from).next_back();
        let after = self.pieces.range(from..).filter(|(s, _)| **s > from);
        for (start, piece) in before.into_iter().chain(after) {
            if *start >= to {
                break;
            }
            if *start > at {
                holes.push((at, *start));
            }
            at = at.max(*start + piece.len() as u64);
        }
        if at < to {
            holes.push((at, to));
        }
        holes
    }

    /// Lays what is staged over `buffer`, which begins at `from` and holds committed bytes, zeros where there are none.
    pub(crate) fn overlay(&self, from: u64, buffer: &mut [u8]) {
        let to = from + buffer.len() as u64;
        let zero_from = self.base_end().clamp(from, to);
        buffer[(zero_from - from) as usize..].fill(0);
        let before = self.pieces.range(..from).next_back();
        for (start, piece) in before.into_iter().chain(self.pieces.range(from..to)) {
            let lo = (*start).max(from);
            let hi = (*start + piece.len() as u64).min(to);
            if lo < hi {
                let source = &piece[(lo - *start) as usize..(hi - *start) as usize];
                buffer[(lo - from) as usize..(hi - from) as usize].copy_from_slice(source);
            }
        }
    }

    /// T2: where the old file is cut, and extents of at most `EXTENT_BYTES_MAX`, adjacent pieces joined.
    pub(crate) fn changes(&self) -> (u64, Vec<Extent>) {
        let mut extents: Vec<(u64, Vec<u8>)> = Vec::new();
        for (start, piece) in &self.pieces {
            match extents.last_mut() {
                Some((s, data))
                    if *s + data.len() as u64 == *start
                        && data.len() + piece.len() + limits::EXTENT_HEAD_BYTES <= limits::EXTENT_BYTES_MAX =>
                {
                    data.extend_from_slice(piece);
                }
                _ => extents.push((*start, piece.clone())),
            }
        }
        let extents = extents
            .into_iter()
            .map(|(offset, data)| Extent {
                offset,
                data: Bytes::from(data),
            })
            .collect();
        (self.cut, extents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Do {
        Write(u64, Vec<u8>),
        Truncate(u64),
    }

    fn step() -> impl Strategy<Value = Do> {
        prop_oneof![
            (0u64..300_000, prop::collection::vec(any::<u8>(), 1..70_000)).prop_map(|(o, d)| Do::Write(o, d)),
            (0u64..300).prop_map(|o| Do::Write(o, alloc::vec![7; 40])),
            (0u64..350_000).prop_map(Do::Truncate),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// T1, T2, T3: the overlay and its commit are what a plain file would be.
        #[test]
        fn staging_is_a_file(base in prop::collection::vec(any::<u8>(), 0..200_000), steps in prop::collection::vec(step(), 0..20)) {
            let mut file = base.clone();
            let mut staging = Staging::new(base.len() as u64, Timestamp::default());
            for s in steps {
                match s {
                    Do::Write(offset, data) => {
                        let end = offset as usize + data.len();
                        if file.len() < end { file.resize(end, 0); }
                        file[offset as usize..end].copy_from_slice(&data);
                        staging.write(offset, &data);
                    }
                    Do::Truncate(size) => { file.resize(size as usize, 0); staging.truncate(size); }
                }
                prop_assert_eq!(staging.size, file.len() as u64);
                prop_assert_eq!(staging.bytes(), staging.pieces.values().map(Vec::len).sum::<usize>());
                prop_assert!(staging.pieces.values().all(|p| p.len() <= PIECE && !p.is_empty()), "T3");
                let mut seen = alloc::vec![0u8; file.len()];
                let n = base.len().min(seen.len());
                seen[..n].copy_from_slice(&base[..n]);
                staging.overlay(0, &mut seen);
                prop_assert_eq!(&seen, &file, "T1");
                // What is not in a hole needs no committed bytes.
                let mut seen = alloc::vec![0xEEu8; file.len()];
                for (a, b) in staging.holes(0, file.len() as u64) {
                    seen[a as usize..b as usize].copy_from_slice(&base[a as usize..b as usize]);
                }
                staging.overlay(0, &mut seen);
                prop_assert_eq!(&seen, &file, "holes");
            }
            let (cut, extents) = staging.changes();
            let mut committed = base;
            if (cut as usize) < committed.len() { committed.truncate(cut as usize); }
            let mut end = 0;
            for e in extents {
                prop_assert!(e.offset >= end, "T2: in order, without overlap");
                end = e.offset + e.data.len() as u64;
                if committed.len() < end as usize { committed.resize(end as usize, 0); }
                committed[e.offset as usize..end as usize].copy_from_slice(&e.data);
            }
            committed.resize(staging.size as usize, 0);
            prop_assert_eq!(committed, file, "T2");
        }
    }
}
