//! Checksums of mailboxes at rest (law L12): CRC-32 of each block of each file, as the effects made it.
//!
//! C1  A sum is worked out from what an effect brings and from bytes that fitted their own sum a moment ago: what lies on
//!     disk is believed only if it fits. An append reads nothing: it goes on from the sum of what is before it.
//! C2  The table is written with each snapshot, as of the same position (`checkpoint` C1): it is neither older nor newer
//!     than the state, whichever snapshot is used.
//! C3  A replay meets files that have seen the future; then bytes that do not fit are no rot, and whether a block that is
//!     changed in the middle was good cannot be known any more. Its new sum is taken from the disk and is *doubtful*: good
//!     enough to find later rot, not to contradict the other brick. Only records that were in the log when the brick was
//!     opened are replayed: up to the *horizon*.
//! C4  A block that was found bad stays bad until it is repaired, overwritten or cut off, also over a crash: `.mboxfs/rot`
//!     says so, durably, before anything is done to it. One that was then changed in the middle has no sum any more: it is
//!     *lost*, and only the other brick knows it.
//!
//! C5  Damage that both bricks have alike is looked for with two more sums (`locate`); no byte is believed for their sake.
//!
//! Memory: twelve bytes for each block, up to the last one that was ever written to. Not here: reading and repairing (`files`).

use crate::locate::{self, Places};
use bytes::Bytes;
use mboxfs_types::{Ino, codec, limits::SUM_BLOCK_BYTES as BLOCK};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

/// Of the bytes of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Sum {
    crc: u32,
    /// C5
    places: Places,
}

impl Sum {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            crc: crc32fast::hash(bytes),
            places: locate::places(0, bytes),
        }
    }

    /// Of what `self` is of, `len` bytes, with more behind.
    fn go_on(self, len: usize, more: &[u8]) -> Self {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.crc);
        hasher.update(more);
        Self {
            crc: hasher.finalize(),
            places: xor(self.places, locate::places(len, more)),
        }
    }
}

fn xor(a: Places, b: Places) -> Places {
    [a[0] ^ b[0], a[1] ^ b[1]]
}

/// Of one file.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct FileSums {
    /// Bytes that the file has.
    pub(crate) size: u64,
    /// Of its blocks; those behind hold only zeros.
    blocks: Vec<u32>,
    /// C5: as many.
    places: Vec<Places>,
    /// C3
    pub(crate) doubtful: BTreeSet<u64>,
    /// C4: found bad, and whether its sum is lost.
    pub(crate) bad: BTreeMap<u64, bool>,
}

/// What may be said of the bytes of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fit {
    Good,
    Doubtful,
    Bad,
}

impl FileSums {
    /// Bytes of a block that there are.
    pub(crate) fn len_of(&self, block: u64) -> usize {
        len_in(self.size, block)
    }

    /// Blocks that there are.
    pub(crate) const fn count(&self) -> u64 {
        self.size.div_ceil(BLOCK)
    }

    /// Of all bytes of the block that there are.
    pub(crate) fn sum(&self, block: u64) -> u32 {
        let known = usize::try_from(block).ok().and_then(|b| self.blocks.get(b));
        known.copied().unwrap_or_else(|| zeros(self.len_of(block)))
    }

    fn known(&self, block: u64) -> Sum {
        let places = usize::try_from(block).ok().and_then(|b| self.places.get(b));
        Sum {
            crc: self.sum(block),
            places: places.copied().unwrap_or_default(),
        }
    }

    /// C5: in which part of the block the damage is, if that can be told. `bytes`: all of it, as it is.
    pub(crate) fn damage(&self, block: u64, bytes: &[u8]) -> Option<Range<usize>> {
        let len = self.len_of(block);
        if self.is_lost(block) || bytes.len() != len {
            return None;
        }
        let (should, is) = (self.known(block), Sum::of(bytes));
        locate::locate(len, should.crc ^ is.crc, xor(should.places, is.places))
    }

    pub(crate) fn is_lost(&self, block: u64) -> bool {
        self.bad.get(&block) == Some(&true)
    }

    /// Is that what the block has to hold? `bytes`: all of it.
    pub(crate) fn fit(&self, block: u64, bytes: &[u8]) -> Fit {
        let fits = bytes.len() == self.len_of(block) && crc32fast::hash(bytes) == self.sum(block);
        match (fits && !self.is_lost(block), self.doubtful.contains(&block)) {
            (false, _) => Fit::Bad,
            (true, true) => Fit::Doubtful,
            (true, false) => Fit::Good,
        }
    }

    fn set(&mut self, block: u64, sum: Sum) {
        let at = usize::try_from(block).unwrap_or(usize::MAX);
        if at >= self.blocks.len() {
            self.blocks.resize(at, zeros(BLOCK as usize));
            self.blocks.push(sum.crc);
            self.places.resize(at, Places::default());
            self.places.push(sum.places);
        } else {
            (self.blocks[at], self.places[at]) = (sum.crc, sum.places);
        }
    }

    /// The block holds what it has to, whatever was thought of it.
    pub(crate) fn settle(&mut self, block: u64, sum: Sum) {
        self.set(block, sum);
        self.doubtful.remove(&block);
        self.bad.remove(&block);
    }

    /// What a change makes of the blocks that it touches. `old`: the bytes of a block as they are on disk, if they can be
    /// read; asked for only where they are needed.
    pub(crate) fn plan(&self, change: &Change<'_>, mut old: impl FnMut(u64, usize) -> Option<Vec<u8>>) -> Plan {
        let kept = change.cut.min(self.size).min(change.size);
        let mut plan = Plan {
            kept,
            size: change.size,
            blocks: Vec::new(),
        };
        for block in change.blocks(self.size) {
            let len = len_in(change.size, block);
            if len == 0 {
                continue; // written, and cut off again
            }
            let (had, keeps) = (self.len_of(block), len_in(kept, block));
            let behind = change.first_in(block).is_none_or(|at| at >= keeps);
            let next = if keeps == 0 || change.covers(block, keeps) {
                Next::Fresh(Sum::of(&change.compose(block, 0, vec![0; len])))
            } else if keeps == had && behind {
                let more = change.compose(block, keeps, vec![0; len - keeps]);
                Next::Grown(self.known(block).go_on(keeps, &more))
            } else {
                match old(block, had).filter(|bytes| self.fit(block, bytes) != Fit::Bad) {
                    Some(mut bytes) => {
                        bytes.truncate(keeps);
                        bytes.resize(len, 0);
                        Next::Patched(Sum::of(&change.compose(block, 0, bytes)))
                    }
                    None => Next::Unknown,
                }
            };
            plan.blocks.push((block, next));
        }
        plan
    }

    /// Blocks of a plan that are not what they should be, and will have no sum.
    pub(crate) fn unknown(&self, plan: &Plan) -> Vec<u64> {
        let unknown = plan.blocks.iter().filter(|(_, next)| *next == Next::Unknown);
        unknown.map(|(block, _)| *block).collect()
    }

    /// The plan was carried out. `now`: the bytes of a block as they are on disk after a replayed change (C3); none: there is
    /// no replay, and what does not fit is rot.
    pub(crate) fn carry_out(&mut self, plan: Plan, mut now: impl FnMut(u64, usize) -> Option<Vec<u8>>) {
        self.size = plan.size;
        self.cut(plan.kept.div_ceil(BLOCK));
        for (block, next) in plan.blocks {
            match next {
                Next::Fresh(sum) => self.settle(block, sum),
                Next::Grown(sum) => self.set(block, sum),
                Next::Patched(sum) => {
                    self.set(block, sum);
                    self.bad.remove(&block);
                }
                Next::Unknown if self.is_lost(block) => {}
                Next::Unknown => match now(block, self.len_of(block)) {
                    Some(bytes) => {
                        self.set(block, Sum::of(&bytes));
                        self.doubtful.insert(block);
                    }
                    None => {
                        self.bad.insert(block, true);
                    }
                },
            }
        }
    }

    /// Nothing is known of blocks from this one on.
    fn cut(&mut self, count: u64) {
        self.doubtful.split_off(&count);
        self.bad.split_off(&count);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        self.blocks.truncate(count);
        self.places.truncate(count);
    }
}

/// A change of a file's content: `cut`, then extents, then `size`, as in `Effect::Write`.
#[derive(Clone, Debug)]
pub struct Change<'a> {
    /// Old bytes above this are gone.
    pub cut: u64,
    /// Offset and bytes; later ones win.
    pub extents: Vec<(u64, &'a [u8])>,
    /// At the end.
    pub size: u64,
}

impl Change<'_> {
    /// Blocks whose bytes change, ascending. `had`: size before.
    fn blocks(&self, had: u64) -> BTreeSet<u64> {
        let cut = self.cut.min(had);
        let mut blocks = BTreeSet::new();
        for edge in [cut, self.size] {
            if edge % BLOCK != 0 && (cut != had || self.size != had) {
                blocks.insert(edge / BLOCK);
            }
        }
        for (offset, bytes) in &self.extents {
            if let Some(last) = (offset + bytes.len() as u64)
                .checked_sub(1)
                .filter(|_| !bytes.is_empty())
            {
                blocks.extend(offset / BLOCK..=last / BLOCK);
            }
        }
        blocks
    }

    /// What of each extent lies in a block: first byte in it, and bytes.
    fn parts(&self, block: u64) -> impl Iterator<Item = (usize, &[u8])> {
        let (start, end) = (block * BLOCK, (block + 1) * BLOCK);
        self.extents.iter().filter_map(move |(offset, bytes)| {
            let (from, to) = ((*offset).max(start), (offset + bytes.len() as u64).min(end));
            // Less than a block, and within bytes in memory.
            (from < to).then(|| {
                let part = &bytes[(from - offset) as usize..(to - offset) as usize];
                ((from - start) as usize, part)
            })
        })
    }

    fn first_in(&self, block: u64) -> Option<usize> {
        self.parts(block).map(|(at, _)| at).min()
    }

    /// Does one extent replace all of the first `len` bytes? (Several that do so together cost a read.)
    fn covers(&self, block: u64, len: usize) -> bool {
        self.parts(block).any(|(at, bytes)| at == 0 && bytes.len() >= len)
    }

    /// Puts the extents over the block's bytes, those from its byte `from` on; what is beyond its new end is cut off.
    fn compose(&self, block: u64, from: usize, mut bytes: Vec<u8>) -> Vec<u8> {
        for (at, part) in self.parts(block) {
            let (start, end) = (at.max(from), (at + part.len()).min(from + bytes.len()));
            if start < end {
                bytes[start - from..end - from].copy_from_slice(&part[start - at..end - at]);
            }
        }
        bytes
    }
}

/// What becomes of a file's sums when a change is carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Plan {
    /// Bytes of before that stay in place.
    kept: u64,
    size: u64,
    blocks: Vec<(u64, Next)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// Nothing of before is in it.
    Fresh(Sum),
    /// All of before, and more behind.
    Grown(Sum),
    /// Some of before, which was checked.
    Patched(Sum),
    /// Some of before, which did not fit or could not be read.
    Unknown,
}

fn zeros(len: usize) -> u32 {
    crc32fast::hash(&[0; BLOCK as usize][..len])
}

/// Bytes of a block in a file of this size.
fn len_in(size: u64, block: u64) -> usize {
    size.saturating_sub(block * BLOCK).min(BLOCK) as usize // at most BLOCK
}

/// The table. Clones share what does not change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Sums(BTreeMap<Ino, Arc<FileSums>>);

/// As encoded: number, size, sums of blocks (three of four bytes, little-endian), doubtful, bad.
type Encoded = (Ino, u64, Bytes, BTreeSet<u64>, BTreeMap<u64, bool>);
/// Bytes of the sums of a block.
const SUM_BYTES: usize = 12;
/// C4, as encoded.
pub(crate) type Marks = Vec<(Ino, u64, bool)>;

impl Sums {
    pub(crate) fn get(&self, ino: Ino) -> Option<&Arc<FileSums>> {
        self.0.get(&ino)
    }

    /// To be changed.
    pub(crate) fn edit(&mut self, ino: Ino) -> Option<&mut FileSums> {
        self.0.get_mut(&ino).map(Arc::make_mut)
    }

    /// A new file, or one whose sums were not known.
    pub(crate) fn begin(&mut self, ino: Ino) -> &mut FileSums {
        Arc::make_mut(self.0.entry(ino).or_default())
    }

    pub(crate) fn remove(&mut self, ino: Ino) {
        self.0.remove(&ino);
    }

    /// What is known to be bad (C4).
    pub(crate) fn marks(&self) -> Marks {
        let of = |(ino, file): (&Ino, &Arc<FileSums>)| {
            let bad = file.bad.clone().into_iter();
            let ino = *ino;
            bad.map(move |(block, lost)| (ino, block, lost))
        };
        self.0.iter().flat_map(of).collect()
    }

    /// What is in doubt (C3): file and block.
    pub(crate) fn doubts(&self) -> Vec<(Ino, u64)> {
        let of = |(ino, file): (&Ino, &Arc<FileSums>)| {
            let ino = *ino;
            file.doubtful.clone().into_iter().map(move |block| (ino, block))
        };
        self.0.iter().flat_map(of).collect()
    }

    /// Takes over what was found bad before a crash.
    pub(crate) fn mark(&mut self, marks: &Marks) {
        for (ino, block, lost) in marks {
            if let Some(file) = self.edit(*ino).filter(|file| *block < file.count()) {
                *file.bad.entry(*block).or_default() |= lost;
            }
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let all: Vec<Encoded> = self
            .0
            .iter()
            .map(|(ino, file)| {
                let sums = file.blocks.iter().zip(&file.places);
                let sums = sums.flat_map(|(crc, [sectors, pages])| [crc, sectors, pages]);
                let blocks: Vec<u8> = sums.flat_map(|sum| sum.to_le_bytes()).collect();
                let FileSums {
                    size, doubtful, bad, ..
                } = &**file;
                (*ino, *size, blocks.into(), doubtful.clone(), bad.clone())
            })
            .collect();
        codec::encode(&all)
    }

    /// None: malformed.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let all: Vec<Encoded> = codec::decode(bytes).ok()?;
        let files = all.into_iter().map(|(ino, size, blocks, doubtful, bad)| {
            let number = |b: &[u8], at: usize| u32::from_le_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
            let sums = blocks.chunks_exact(SUM_BYTES);
            let (blocks, places) = sums.map(|b| (number(b, 0), [number(b, 4), number(b, 8)])).unzip();
            let file = FileSums {
                size,
                blocks,
                places,
                doubtful,
                bad,
            };
            (ino, Arc::new(file))
        });
        Some(Self(files.collect()))
    }
}

#[cfg(test)]
mod tests;
