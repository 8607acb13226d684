//! What a brick that is alone keeps of files before they are overwritten: their bytes as of the fork.
//!
//! A journal per fork and file, `.mboxfs/fork/<fork>-<ino>`: entries of a head and bytes, only ever appended.
//!
//! J1  An entry says what the file held at the fork, and is durable before `keep` returns: before the bytes can be
//!     overwritten, even in memory. What has an entry is not kept again.
//! J2  This holds over any replay (disk D2), over files that have seen the future. Take a byte below the size at the fork. If a
//!     record above the fork has changed it, the `Keep` before that had returned: there is an entry, and `keep` leaves it
//!     alone. If none has, the byte is what the records up to the fork made of it; the replay has given them again, if a
//!     checkpoint does not cover them, before it comes to this `Keep`: reading it now is as good as it was the first time.
//!     A file of the future may be shorter: what was cut off was kept first.
//! J3  Only the last `keep` can be torn; it never returned, so nothing was overwritten, and its entries count as far as they
//!     are whole. Damage to bytes that a later `keep` followed is rot: an error, and nothing is put back (law L12).
//! J4  What is left of an older fork has its position in its name and its checksums, and its removal is durable: it is never
//!     taken for a newer one's, not even if the line that it was of was given up and its positions came again.
//! J5  Bytes go through in pieces: memory does not grow with the size of mailboxes.
//! J6  What does not fit its checksum, or cannot be read, is kept as it is and known to be damaged: it is put back as a block
//!     that is bad and whose sum is lost, which only the other brick can repair (law L12). A replay cannot tell (`sums` C3).
//!
//! Not here: which bytes belong to the fork (`brick`).

use super::Files;
use crate::{
    medium::{DirMedium, Medium, join, make_dir, sync_all},
    sums::Change,
};
use mboxfs_types::{Ino, limits::SUM_BLOCK_BYTES as BLOCK};
use rustix::{fs::OFlags, io::Errno as Sys};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

/// Directory of all journals, in `.mboxfs`.
pub(crate) const FORK_DIR: &str = "fork";
/// Bytes of the file in one entry, at most. Entries end where blocks with a checksum end.
const PIECE_BYTES_MAX: usize = 256 << 10;
const HEAD_BYTES: usize = 24;
/// Journals whose ranges are remembered; those of more files are read again.
const OPEN_MAX: usize = 64;

/// Which journal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Key {
    /// Position of the last record before the fork.
    pub(crate) fork: u64,
    /// The file.
    pub(crate) ino: Ino,
}

impl Key {
    fn path(self) -> String {
        join(FORK_DIR, &format!("{:016x}-{}", self.fork, self.ino))
    }

    /// The fork in the name of a journal.
    fn fork_in(name: &str) -> Option<u64> {
        u64::from_str_radix(name.split_once('-')?.0, 16).ok()
    }

    /// What the first head is chained to (J4).
    fn seed(self) -> u32 {
        crc32fast::hash(&[self.fork.to_le_bytes(), self.ino.0.to_le_bytes()].concat())
    }
}

/// Where bytes of the file are in the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    /// In the file.
    pub(super) offset: u64,
    pub(super) len: u32,
    /// In the journal.
    pub(super) at: u64,
    /// J6: not damaged.
    pub(super) sound: bool,
}

struct Head {
    offset: u64,
    len: u32,
    /// The first entry of one `keep`: everything before it is durable.
    first: bool,
    sound: bool,
    crc: u32,
}

/// Bits of a head.
const FIRST: u32 = 1;
const DAMAGED: u32 = 2;

impl Head {
    /// The bytes, and what the next head is chained to: nothing that an older, torn `keep` left there can follow.
    fn encode(&self, chain: u32) -> ([u8; HEAD_BYTES], u32) {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.len.to_le_bytes());
        let first = if self.first { FIRST } else { 0 };
        let bits = first | if self.sound { 0 } else { DAMAGED };
        bytes[12..16].copy_from_slice(&bits.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.crc.to_le_bytes());
        let crc = chained(chain, &bytes[..20]);
        bytes[20..].copy_from_slice(&crc.to_le_bytes());
        (bytes, crc)
    }

    fn decode(bytes: &[u8; HEAD_BYTES], chain: u32) -> Option<(Self, u32)> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let head = Self {
            offset: u64::from(number(0)) | u64::from(number(4)) << 32,
            len: number(8),
            first: number(12) & FIRST != 0,
            sound: number(12) & DAMAGED == 0,
            crc: number(16),
        };
        let crc = number(20);
        let good = crc == chained(chain, &bytes[..20]) && (1..=PIECE_BYTES_MAX).contains(&(head.len as usize));
        good.then_some((head, crc))
    }
}

fn chained(chain: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(bytes);
    hasher.finalize()
}

/// Where the next entry goes.
#[derive(Clone, Copy, Debug)]
struct End {
    at: u64,
    chain: u32,
}

/// Calls `each` with all entries that count, in order, and their bytes, checked (J3).
///
/// Errors: `InvalidData` for rot; those of `each` and of the medium.
fn scan<M: Medium>(
    medium: &M,
    file: &M::File,
    key: Key,
    mut each: impl FnMut(Entry, &[u8]) -> io::Result<()>,
) -> io::Result<End> {
    let len = medium.len(file)?;
    let chain = key.seed();
    let (mut next, mut end) = (End { at: 0, chain }, End { at: 0, chain });
    let mut damaged = false;
    let mut bytes = Vec::new();
    while next.at + HEAD_BYTES as u64 <= len {
        let mut head = [0; HEAD_BYTES];
        medium.read_at(file, next.at, &mut head)?;
        let Some((head, chain)) = Head::decode(&head, next.chain) else {
            break;
        };
        if damaged && head.first {
            let why = format!("what was kept of {} for the fork at {} is damaged", key.ino, key.fork);
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        let at = next.at + HEAD_BYTES as u64;
        if at + u64::from(head.len) > len {
            break;
        }
        bytes.resize(head.len as usize, 0);
        medium.read_at(file, at, &mut bytes)?;
        damaged |= crc32fast::hash(&bytes) != head.crc;
        next = End {
            at: at + u64::from(head.len),
            chain,
        };
        if !damaged {
            let Head { offset, len, sound, .. } = head;
            each(Entry { offset, len, at, sound }, &bytes)?;
            end = next;
        }
    }
    Ok(end)
}

/// All entries that count, checked; `go_on` can end it.
///
/// Errors: rot; those of `go_on` and of the medium.
pub(super) fn entries<M: Medium>(
    medium: &M,
    journal: &M::File,
    key: Key,
    go_on: impl Fn() -> io::Result<()>,
) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    scan(medium, journal, key, |entry, _| {
        entries.push(entry);
        go_on()
    })?;
    Ok(entries)
}

/// A journal that was read: what was not durable when it was opened is now (M4), so all of it may be believed.
struct Journal<F> {
    file: F,
    ranges: Ranges,
    end: End,
}

/// The journals.
pub(super) struct Kept<M: Medium = DirMedium> {
    medium: M,
    open: BTreeMap<Key, Journal<M::File>>,
}

impl<M: Medium> Kept<M> {
    pub(super) const fn new(medium: M) -> Self {
        Self {
            medium,
            open: BTreeMap::new(),
        }
    }

    /// J1. `read` fills its buffer, which lies within a block, from an offset of the file on, and says whether that is sound;
    /// `ranges` lie within the file.
    ///
    /// Errors: rot; those of `read` and of the medium. Then the file must not be changed.
    pub(super) fn keep(
        &mut self,
        key: Key,
        ranges: &[(u64, u64)],
        mut read: impl FnMut(u64, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        // Taken out: what failed half-way is not believed afterwards (M3).
        let journal = match self.open.remove(&key) {
            None => self.journal(key)?,
            known => known,
        };
        let mut journal = match journal {
            None => self.create(key)?,
            Some(journal) => journal,
        };
        let mut first = true;
        for (start, end) in ranges {
            for (mut offset, end) in journal.ranges.gaps(*start, *end) {
                while offset < end {
                    let len = (end - offset).min(BLOCK - offset % BLOCK);
                    self.append(&mut journal, (offset, len), first, &mut read)?;
                    (offset, first) = (offset + len, false);
                }
            }
        }
        if !first {
            self.medium.sync(&journal.file)?;
        }
        if self.open.len() >= OPEN_MAX {
            self.open.clear();
        }
        self.open.insert(key, journal);
        Ok(())
    }

    fn append(
        &self,
        journal: &mut Journal<M::File>,
        (offset, len): (u64, u64),
        first: bool,
        read: &mut impl FnMut(u64, &mut [u8]) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut entry = vec![0; HEAD_BYTES + usize::try_from(len).map_err(io::Error::other)?];
        let (head, bytes) = entry.split_at_mut(HEAD_BYTES);
        let sound = read(offset, bytes)?;
        let crc = crc32fast::hash(bytes);
        let len = u32::try_from(len).map_err(io::Error::other)?;
        let (encoded, chain) = Head {
            offset,
            len,
            first,
            sound,
            crc,
        }
        .encode(journal.end.chain);
        head.copy_from_slice(&encoded);
        self.medium.write_at(&journal.file, journal.end.at, &entry)?;
        journal.ranges.add(offset, offset + u64::from(len));
        journal.end = End {
            at: journal.end.at + entry.len() as u64,
            chain,
        };
        Ok(())
    }

    fn create(&self, key: Key) -> io::Result<Journal<M::File>> {
        let file = self.medium.create(&key.path())?;
        self.medium.sync_dir(FORK_DIR)?;
        Ok(Journal {
            file,
            ranges: Ranges::default(),
            end: End {
                at: 0,
                chain: key.seed(),
            },
        })
    }

    /// The journal, to be read; none if nothing was kept.
    pub(super) fn file(&self, key: Key) -> io::Result<Option<M::File>> {
        match self.medium.open(&key.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            file => file.map(Some),
        }
    }

    fn journal(&self, key: Key) -> io::Result<Option<Journal<M::File>>> {
        let Some(file) = self.file(key)? else {
            return Ok(None);
        };
        self.medium.settle(&file)?;
        self.medium.sync_dir(FORK_DIR)?;
        let mut ranges = Ranges::default();
        let end = scan(&self.medium, &file, key, |entry, _| {
            ranges.add(entry.offset, entry.offset + u64::from(entry.len));
            Ok(())
        })?;
        Ok(Some(Journal { file, ranges, end }))
    }

    /// Calls `write` with all that was kept: offset in the file, bytes, and whether they are sound.
    ///
    /// Errors: rot; those of `write` and of the medium.
    pub(super) fn put_back(
        &self,
        key: Key,
        mut write: impl FnMut(u64, &[u8], bool) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some(file) = self.file(key)? {
            scan(&self.medium, &file, key, |entry, bytes| {
                write(entry.offset, bytes, entry.sound)
            })?;
        }
        Ok(())
    }

    /// Removes what was kept for forks below this position (J4).
    pub(super) fn forget(&mut self, below: u64) -> io::Result<()> {
        self.open.retain(|key, _| key.fork >= below);
        let names = match self.medium.names(FORK_DIR) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        let old = |name: &String| Key::fork_in(name).is_some_and(|fork| fork < below);
        let mut removed = false;
        for name in names.into_iter().filter(old) {
            self.medium.remove(&join(FORK_DIR, &name))?;
            removed = true;
        }
        if removed {
            self.medium.sync_dir(FORK_DIR)
        } else {
            Ok(())
        }
    }
}

/// Ranges of bytes, joined where they touch.
#[derive(Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, mut start: u64, mut end: u64) {
        if let Some((a, b)) = self.0.range(..start).next_back()
            && *b >= start
        {
            start = *a;
        }
        while let Some((a, b)) = self.0.range(start..=end).next().map(|(a, b)| (*a, *b)) {
            self.0.remove(&a);
            end = end.max(b);
        }
        self.0.insert(start, end);
    }

    /// What of a range is in none of them.
    fn gaps(&self, start: u64, end: u64) -> Vec<(u64, u64)> {
        let mut gaps = Vec::new();
        let mut at = start;
        let before = self.0.range(..start).next_back();
        for (a, b) in before.into_iter().chain(self.0.range(start.min(end)..end)) {
            if *a > at {
                gaps.push((at, *a));
            }
            at = at.max(*b);
        }
        if at < end {
            gaps.push((at, end));
        }
        gaps
    }
}

impl Files {
    /// Keeps what the file holds in `ranges`, as far as it reaches. A file that is not there is skipped (F3).
    pub(super) fn keep(&mut self, key: Key, ranges: &[(u64, u64)]) -> io::Result<()> {
        let file: File = match self.open_to_read(key.ino) {
            Ok(file) => file.into(),
            Err(Sys::NOENT | Sys::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let len = file.metadata()?.len();
        let within = ranges.iter().map(|(start, end)| (*start, len.min(*end)));
        let within: Vec<(u64, u64)> = within.filter(|(start, end)| start < end).collect();
        if within.is_empty() {
            return Ok(());
        }
        if !self.has_fork_dir {
            make_dir(&self.home, FORK_DIR)?; // a brick of an older version has none
            sync_all(&*self.home)?;
            self.has_fork_dir = true;
        }
        let at_rest = &self.at_rest;
        let n = self.applying;
        self.kept.keep(key, &within, |offset, bytes| {
            at_rest.read_to_keep((key.ino, &file), n, offset, bytes)
        })
    }

    /// Writes back what was kept. A file that is not there is skipped (F3).
    pub(super) fn revert(&mut self, key: Key) -> io::Result<()> {
        let mut file: File = match self.open_ino(key.ino, OFlags::RDWR) {
            Ok(file) => file.into(),
            Err(Sys::NOENT | Sys::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.touched.insert(key.ino);
        let at_rest = &mut self.at_rest;
        self.kept.put_back(key, |offset, bytes, sound| {
            let end = offset + bytes.len() as u64;
            let size = at_rest.sums().get(key.ino).map_or(end, |sums| sums.size.max(end));
            let change = Change {
                cut: u64::MAX,
                extents: vec![(offset, bytes)],
                size,
            };
            // Whether there was a crash in between is not known here: as in a replay.
            at_rest.change((key.ino, &mut file), &change, None, |file| {
                file.write_all_at(bytes, offset)
            })?;
            if sound {
                Ok(())
            } else {
                at_rest.mark(key.ino, &[offset / BLOCK], true) // J6
            }
        })
    }
}

#[cfg(test)]
mod tests;
