//! Content of files, checked against the sums of what effects made it (law L12).
//!
//! A1  Bytes that do not fit their sum are never given out, to nobody.
//! A2  Every change goes through [`AtRest::change`]: the sums follow the content.
//! A3  A repair is durable before it counts, and bytes that do not fit are no repair, as long as there is a sum to fit.
//!
//! Not here: the sums (`crate::sums`); where good bytes come from (`brick`).

use super::{Files, inode::errno};
use crate::{
    medium::{DirMedium, Medium, sync_content},
    mend,
    sums::{Change, FileSums, Fit, Marks, Sum, Sums},
};
use bytes::Bytes;
use mboxfs_types::{Errno, Ino, codec, disk::Seen, limits::SUM_BLOCK_BYTES as BLOCK};
use rustix::{
    fs::{Advice, OFlags},
    io::Errno as Sys,
};
use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::Arc,
};

/// In `.mboxfs`: blocks that were found bad.
const MARKS: &str = "rot";
/// Bytes that a device reads, or not.
const SECTOR: usize = 512;

/// The sums of a brick, and what is known to be bad.
pub(super) struct AtRest {
    sums: Sums,
    /// As on disk.
    marked: Marks,
    medium: DirMedium,
    /// Records up to here may have been in the files when the brick was opened.
    horizon: u64,
}

impl AtRest {
    /// `sums`: of the snapshot that was recovered; `horizon`: end of the log.
    pub(super) fn open(medium: DirMedium, sums: &[u8], horizon: u64) -> io::Result<Self> {
        let mut sums = match sums {
            [] => Sums::default(),
            bytes => Sums::decode(bytes).ok_or(ErrorKind::InvalidData)?,
        };
        let marked = load_marks(&medium)?;
        sums.mark(&marked);
        Ok(Self {
            sums,
            marked,
            medium,
            horizon,
        })
    }

    pub(super) const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// There is a file; one that is known stays as it is known.
    pub(super) fn begin(&mut self, ino: Ino) {
        self.sums.begin(ino);
    }

    pub(super) fn free(&mut self, ino: Ino) -> io::Result<()> {
        let bad = self.sums.get(ino).is_some_and(|sums| !sums.bad.is_empty());
        self.sums.remove(ino);
        if bad { self.save_marks() } else { Ok(()) }
    }

    /// A2. `n`: position of the record; none: not known. `write` does what `change` says.
    pub(super) fn change(
        &mut self,
        (ino, file): (Ino, &File),
        change: &Change<'_>,
        n: Option<u64>,
        write: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(sums) = self.sums.get(ino) else {
            return write(); // of a brick that knew no sums
        };
        let replay = n.is_none_or(|n| n <= self.horizon);
        let plan = sums.plan(change, |block, len| read_block(file, block, len).ok());
        let mut bad = !sums.bad.is_empty();
        let unknown = sums.unknown(&plan);
        if !replay && !unknown.is_empty() {
            self.mark(ino, &unknown, true)?; // C4, before the bytes that show it are gone
            bad = true;
        }
        write()?;
        let Some(sums) = self.sums.edit(ino) else {
            return Ok(());
        };
        sums.carry_out(plan, |block, len| {
            replay.then(|| read_block(file, block, len).ok()).flatten()
        });
        if bad || !sums.bad.is_empty() {
            self.save_marks()?;
        }
        Ok(())
    }

    /// Bytes of a file, all good, or which blocks are bad. None: no sums are known.
    fn read(&self, (ino, file): (Ino, &File), offset: u64, len: u32) -> io::Result<Option<Seen>> {
        let Some(sums) = self.sums.get(ino) else {
            return Ok(None);
        };
        let end = sums.size.min(offset.saturating_add(u64::from(len)));
        if offset >= end {
            return Ok(Some(Seen::Data(Bytes::new())));
        }
        let first = offset / BLOCK;
        let (mut bytes, mut bad) = (Vec::new(), Vec::new());
        for block in first..=(end - 1) / BLOCK {
            match good_block(sums, file, block)? {
                Some((_, good)) => bytes.extend_from_slice(&good),
                None => bad.push(block),
            }
        }
        if !bad.is_empty() {
            return Ok(Some(Seen::Rotten(bad)));
        }
        let skip = usize::try_from(offset - first * BLOCK).map_err(io::Error::other)?;
        let len = usize::try_from(end - offset).map_err(io::Error::other)?;
        Ok(Some(Seen::Data(Bytes::from(bytes).slice(skip..skip + len))))
    }

    /// What a file holds, within one block, and whether that is sound; zeros stand for what cannot be read. `n`: position of
    /// the record; up to the horizon nobody can tell (sums C3).
    pub(super) fn read_to_keep(
        &self,
        (ino, file): (Ino, &File),
        n: Option<u64>,
        offset: u64,
        bytes: &mut [u8],
    ) -> io::Result<bool> {
        let block = offset / BLOCK;
        let from = usize::try_from(offset % BLOCK).map_err(io::Error::other)?;
        let end = from + bytes.len();
        let sums = self.sums.get(ino).filter(|_| n.is_some_and(|n| n > self.horizon));
        if let Some(sums) = sums.filter(|sums| end <= sums.len_of(block)) {
            let good = good_block(sums, file, block)?;
            let sound = good.is_some();
            let all = match good {
                Some((_, good)) => good,
                None => raw_block(file, block, sums.len_of(block))?,
            };
            bytes.copy_from_slice(&all[from..end]);
            return Ok(sound);
        }
        match file.read_exact_at(bytes, offset) {
            Err(error) if is_damage(&error) => {
                bytes.copy_from_slice(&raw_block(file, block, end)?[from..]);
                Ok(false)
            }
            read => read.map(|()| true),
        }
    }

    /// Do all blocks fit in which the file has a byte of the range? `n`: position of the record; up to the horizon nobody can
    /// tell (sums C3).
    pub(super) fn is_sound(
        &self,
        (ino, file): (Ino, &File),
        n: Option<u64>,
        (start, end): (u64, u64),
    ) -> io::Result<bool> {
        let sums = self.sums.get(ino).filter(|_| n.is_none_or(|n| n > self.horizon));
        let Some(sums) = sums.filter(|_| start < end) else {
            return Ok(true);
        };
        for block in start / BLOCK..=(end - 1) / BLOCK {
            if block < sums.count() && good_block(sums, file, block)?.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// C4. Durable when it returns.
    pub(super) fn mark(&mut self, ino: Ino, blocks: &[u64], lost: bool) -> io::Result<()> {
        if let Some(sums) = self.sums.edit(ino) {
            for block in blocks {
                *sums.bad.entry(*block).or_default() |= lost;
            }
        }
        self.save_marks()
    }

    fn save_marks(&mut self) -> io::Result<()> {
        let marks = self.sums.marks();
        if marks != self.marked {
            let body = codec::encode(&marks);
            let mut bytes = crc32fast::hash(&body).to_le_bytes().to_vec();
            bytes.extend_from_slice(&body);
            self.medium.replace("", MARKS, &bytes)?;
            self.marked = marks;
        }
        Ok(())
    }

    /// A3. False: they are not what the block has to hold.
    fn repair(&mut self, (ino, file): (Ino, &File), block: u64, bytes: &[u8], sure: bool) -> io::Result<bool> {
        let Some(sums) = self.sums.edit(ino) else {
            return Ok(false);
        };
        let lost = sums.is_lost(block);
        let fits = !lost && crc32fast::hash(bytes) == sums.sum(block);
        let believed = sure && (lost || sums.doubtful.contains(&block));
        if bytes.is_empty() || bytes.len() != sums.len_of(block) || !(fits || believed) {
            return Ok(false);
        }
        file.write_all_at(bytes, block * BLOCK)?;
        if file.metadata()?.len() > sums.size {
            file.set_len(sums.size)?; // somebody else put it there
        }
        sync_content(file)?;
        sums.settle(block, Sum::of(bytes));
        self.save_marks()?;
        Ok(true)
    }
}

impl AtRest {
    /// A3. `theirs`: the other brick's copy, which is damaged, too. False: the two do not make the block again.
    fn combine(&mut self, (ino, file): (Ino, &File), block: u64, theirs: &[u8]) -> io::Result<bool> {
        let Some(sums) = self.sums.get(ino).filter(|sums| !sums.is_lost(block)) else {
            return Ok(false);
        };
        let ours = raw_block(file, block, sums.len_of(block))?;
        match mend::combine(sums.sum(block), &ours, theirs) {
            Some(bytes) => self.repair((ino, file), block, &bytes, false),
            None => Ok(false),
        }
    }
}

/// Damage to this list is as if nothing had been found bad since the last checkpoint: it will be found again, but for what
/// was lost meanwhile.
fn load_marks(medium: &DirMedium) -> io::Result<Marks> {
    let file = match medium.open(MARKS) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Marks::new()),
        file => file?,
    };
    let mut bytes = vec![0; usize::try_from(medium.len(&file)?).map_err(io::Error::other)?];
    medium.read_at(&file, 0, &mut bytes)?;
    let marks = bytes.split_at_checked(4).and_then(|(crc, body)| {
        (crc == crc32fast::hash(body).to_le_bytes())
            .then(|| codec::decode(body).ok())
            .flatten()
    });
    Ok(marks.unwrap_or_default())
}

fn read_block(file: &File, block: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, block * BLOCK)?;
    Ok(bytes)
}

/// The block as it is, good or not: zeros stand for what cannot be read.
pub(super) fn raw_block(file: &File, block: u64, len: usize) -> io::Result<Vec<u8>> {
    match read_block(file, block, len) {
        Err(error) if is_damage(&error) => {}
        result => return result,
    }
    let mut bytes = vec![0; len];
    for (at, sector) in (block * BLOCK..).step_by(SECTOR).zip(bytes.chunks_mut(SECTOR)) {
        let mut rest = &mut sector[..];
        let mut offset = at;
        while !rest.is_empty() {
            match file.read_at(rest, offset) {
                Ok(0) => break,
                Ok(n) => (rest, offset) = (&mut rest[n..], offset + n as u64),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_damage(&error) => {
                    rest.fill(0);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(bytes)
}

/// A file that is too short, or a sector that cannot be read: as bad as one that rotted.
pub(super) fn is_damage(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof || error.raw_os_error() == Some(Sys::IO.raw_os_error())
}

/// The block, if it is good.
pub(super) fn good_block(sums: &FileSums, file: &File, block: u64) -> io::Result<Option<(Fit, Vec<u8>)>> {
    match read_block(file, block, sums.len_of(block)) {
        Ok(bytes) => Ok(match sums.fit(block, &bytes) {
            Fit::Bad => None,
            fit => Some((fit, bytes)),
        }),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Files {
    pub(super) fn read(&mut self, ino: Ino, offset: u64, len: u32) -> Result<Seen, Errno> {
        let file = self.file_to_read(ino)?;
        match self.at_rest.read((ino, &file), offset, len) {
            Ok(Some(seen)) => Ok(seen),
            Ok(None) => self.read_unchecked(&file, offset, len).map(Seen::Data),
            Err(error) => Err(self.fails(error)),
        }
    }

    pub(super) fn read_block(&mut self, ino: Ino, block: u64, deep: bool) -> Result<Seen, Errno> {
        let file = self.file_to_read(ino)?;
        let sums = self.at_rest.sums.get(ino).ok_or(Errno::ESTALE)?;
        if deep {
            forget_cached(&file, block).map_err(errno)?;
        }
        match good_block(sums, &file, block) {
            Ok(Some((Fit::Doubtful, bytes))) => Ok(Seen::Doubtful(bytes.into())),
            Ok(Some((_, bytes))) => Ok(Seen::Data(bytes.into())),
            Ok(None) => Ok(Seen::Rotten(vec![block])),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// A block as it is, good or not: to be compared with the other brick's, never to be given out.
    pub(super) fn read_raw(&mut self, ino: Ino, block: u64) -> Result<Seen, Errno> {
        let file = self.file_to_read(ino)?;
        let sums = self.at_rest.sums.get(ino).ok_or(Errno::ESTALE)?;
        match raw_block(&file, block, sums.len_of(block)) {
            Ok(bytes) => Ok(Seen::Raw {
                damaged: sums.damage(block, &bytes),
                bytes: bytes.into(),
            }),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// For the other brick to compare.
    pub(super) fn sums(&self, ino: Ino, first: u64, count: u64) -> Result<Seen, Errno> {
        let sums = self.at_rest.sums.get(ino).ok_or(Errno::ESTALE)?;
        let blocks = first..first.saturating_add(count).min(sums.count());
        let bytes: Vec<u8> = blocks.flat_map(|block| sums.sum(block).to_le_bytes()).collect();
        Ok(Seen::Data(bytes.into()))
    }

    /// Marks those blocks that are bad indeed.
    pub(super) fn rotten(&mut self, ino: Ino, blocks: &[u64]) -> io::Result<()> {
        let Ok(file) = self.open_to_read(ino) else {
            return Ok(());
        };
        let file = File::from(file);
        let Some(sums) = self.at_rest.sums.get(ino) else {
            return Ok(());
        };
        let mut bad = Vec::new();
        for block in blocks.iter().filter(|block| **block < sums.count()) {
            if good_block(sums, &file, *block)?.is_none() {
                bad.push(*block);
            }
        }
        self.at_rest.mark(ino, &bad, false)
    }

    /// Puts good bytes in the place of a block.
    pub(super) fn repair(&mut self, ino: Ino, block: u64, bytes: &[u8], sure: bool) -> io::Result<()> {
        self.mend(ino, |at_rest, file| at_rest.repair(file, block, bytes, sure))
    }

    /// Makes a block of two damaged copies, if they make one.
    pub(super) fn combine(&mut self, ino: Ino, block: u64, theirs: &[u8]) -> io::Result<()> {
        self.mend(ino, |at_rest, file| at_rest.combine(file, block, theirs))
    }

    /// Nothing that users see changes. A file that is not there is skipped (F3).
    fn mend(&mut self, ino: Ino, mend: impl FnOnce(&mut AtRest, (Ino, &File)) -> io::Result<bool>) -> io::Result<()> {
        let file: File = match self.open_ino(ino, OFlags::RDWR) {
            Ok(file) => file.into(),
            Err(Sys::NOENT | Sys::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.touched.insert(ino);
        let times = file.metadata()?;
        if mend(&mut self.at_rest, (ino, &file))? {
            keep_times(&file, &times)?;
        }
        Ok(())
    }
}

/// What the kernel remembers of a block and has written is read from the device again.
fn forget_cached(file: &File, block: u64) -> rustix::io::Result<()> {
    let len = std::num::NonZeroU64::new(BLOCK);
    rustix::fs::fadvise(file, block * BLOCK, len, Advice::DontNeed)
}

/// Blocks of a file, to be compared with their sums at leisure.
pub struct Scrub {
    ino: Ino,
    file: File,
    sums: Arc<FileSums>,
}

impl fmt::Debug for Scrub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrub").field("ino", &self.ino).finish_non_exhaustive()
    }
}

impl Scrub {
    /// Which of `count` blocks from `first` on, as the device has them, do not fit the sums of the moment at which the file was
    /// opened. Effects since then look the same as rot.
    ///
    /// Errors: the device's, but for what it cannot read.
    pub fn suspects(&self, first: u64, count: u64) -> io::Result<Vec<u64>> {
        let mut suspects = Vec::new();
        for block in first..first.saturating_add(count).min(self.sums.count()) {
            forget_cached(&self.file, block)?;
            if good_block(&self.sums, &self.file, block)?.is_none() {
                suspects.push(block);
            }
        }
        Ok(suspects)
    }
}

impl Files {
    /// Opens a file; sees every effect applied before. None: there is no such file, or nothing is known of it.
    pub fn scrub(&self, ino: Ino) -> Option<Scrub> {
        let sums = Arc::clone(self.at_rest.sums.get(ino)?);
        let file = self.open_to_read(ino).ok()?.into();
        Some(Scrub { ino, file, sums })
    }

    /// File and block of all that is known to be bad, and of all that is in doubt.
    #[must_use]
    pub fn damage(&self) -> (Vec<(Ino, u64)>, Vec<(Ino, u64)>) {
        let marks = self.at_rest.sums.marks();
        let bad = marks.into_iter().map(|(ino, block, _)| (ino, block)).collect();
        (bad, self.at_rest.sums.doubts())
    }
}

/// A repair changes nothing that users see.
fn keep_times(file: &File, before: &std::fs::Metadata) -> io::Result<()> {
    let times = std::fs::FileTimes::new()
        .set_accessed(before.accessed()?)
        .set_modified(before.modified()?);
    file.set_times(times)
}
