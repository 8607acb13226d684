//! Content of files, checked against the sums of what effects made it (law L12).
//!
//! A1  Bytes that do not fit their sum are never given out, to nobody.
//! A2  Every change goes through [`AtRest::change`]: the sums follow the content.
//! A3  A repair is durable before it counts, and bytes that do not fit are no repair, as long as there is a sum to fit. If
//!     there is none, the other brick's bytes are taken even if they are in doubt there (it serves them): they are in doubt
//!     here as well, until both are found equal.
//!
//! Not here: the sums (`crate::sums`); where files are (`crate::files`; [`Resting`] is all that is asked of one); where good
//! bytes come from (`brick`).

use crate::{
    medium::{DirMedium, Medium, sync_content},
    mend,
    sums::{Change, FileSums, Fit, Marks, Sum, Sums},
    touched::Touched,
};
use bytes::Bytes;
use mboxfs_types::{Errno, Ino, codec, disk::Seen, limits::SUM_BLOCK_BYTES as BLOCK, planted::Bug};
use rustix::io::Errno as Sys;
use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
};

/// In `.mboxfs`: blocks that were found bad.
const MARKS: &str = "rot";
/// Bytes that a device reads, or not.
const SECTOR: usize = 512;

/// A file whose content is at rest.
pub trait Resting {
    /// Fills `buf` from `offset` on.
    ///
    /// Errors: `UnexpectedEof` beyond the end; the device's.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Bytes that are there, whatever it should have.
    fn size(&self) -> io::Result<u64>;
    /// Puts bytes in their place, durably; what lies behind `size` goes.
    fn restore(&mut self, offset: u64, bytes: &[u8], size: u64) -> io::Result<()>;
}

impl Resting for File {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.read_exact_at(buf, offset)
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn restore(&mut self, offset: u64, bytes: &[u8], size: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)?;
        if self.metadata()?.len() > size {
            self.set_len(size)?; // somebody else put it there
        }
        sync_content(self)
    }
}

/// The sums of a brick, and what is known to be bad.
pub struct AtRest<M: Medium = DirMedium> {
    sums: Sums,
    /// As on disk.
    marked: Marks,
    medium: M,
    /// Records up to here may have been in the files when the brick was opened.
    horizon: u64,
}

impl<M: Medium> fmt::Debug for AtRest<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AtRest")
            .field("bad", &self.marked.len())
            .field("horizon", &self.horizon)
            .finish_non_exhaustive()
    }
}

impl<M: Medium> AtRest<M> {
    /// `medium`: where what was found bad is written down; `sums`: of the snapshot that was recovered; `horizon`: end of the
    /// log.
    pub fn open(medium: M, sums: &[u8], horizon: u64) -> io::Result<Self> {
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

    pub(crate) const fn sums(&self) -> &Sums {
        &self.sums
    }

    /// For a checkpoint of files that are made durable by somebody else: nothing but what they hold now.
    #[must_use]
    pub fn touched(&self) -> Touched {
        Touched {
            sums: self.sums.clone(),
            ..Touched::default()
        }
    }

    /// There is a file; one that is known stays as it is known.
    pub fn begin(&mut self, ino: Ino) {
        self.sums.begin(ino);
    }

    /// The file is no more.
    pub fn free(&mut self, ino: Ino) -> io::Result<()> {
        let bad = self.sums.get(ino).is_some_and(|sums| !sums.bad.is_empty());
        self.sums.remove(ino);
        if bad { self.save_marks() } else { Ok(()) }
    }

    /// A2. `n`: position of the record; none: not known. `write` does what `change` says.
    pub fn change<F: Resting>(
        &mut self,
        (ino, file): (Ino, &mut F),
        change: &Change<'_>,
        n: Option<u64>,
        write: impl FnOnce(&mut F) -> io::Result<()>,
    ) -> io::Result<()> {
        let Some(sums) = self.sums.get(ino) else {
            return write(file); // of a brick that knew no sums
        };
        let replay = n.is_none_or(|n| n <= self.horizon);
        let plan = sums.plan(change, |block, len| read_block(file, block, len).ok());
        let mut bad = !sums.bad.is_empty();
        let unknown = sums.unknown(&plan);
        if !replay && !unknown.is_empty() {
            self.mark(ino, &unknown, true)?; // C4, before the bytes that show it are gone
            bad = true;
        }
        write(file)?;
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
    pub fn read(&self, (ino, file): (Ino, &impl Resting), offset: u64, len: u32) -> io::Result<Option<Seen>> {
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

    /// A whole block, and whether it is beyond doubt. None: no sums are known.
    pub fn block(&self, (ino, file): (Ino, &impl Resting), block: u64) -> io::Result<Option<Seen>> {
        let Some(sums) = self.sums.get(ino) else {
            return Ok(None);
        };
        Ok(Some(match good_block(sums, file, block)? {
            Some((Fit::Doubtful, bytes)) => Seen::Doubtful(bytes.into()),
            Some((_, bytes)) => Seen::Data(bytes.into()),
            None => Seen::Rotten(vec![block]),
        }))
    }

    /// A block as it is, good or not: to be compared with the other brick's, never to be given out.
    ///
    /// Errors: those of the file.
    pub fn raw(&self, (ino, file): (Ino, &impl Resting), block: u64) -> io::Result<Option<Seen>> {
        let Some(sums) = self.sums.get(ino) else {
            return Ok(None);
        };
        let bytes = raw_block(file, block, sums.len_of(block))?;
        Ok(Some(Seen::Raw {
            damaged: sums.damage(block, &bytes),
            bytes: bytes.into(),
        }))
    }

    /// Sums of blocks, for the other brick to compare.
    ///
    /// Errors: ESTALE if none are known.
    pub fn sums_of(&self, ino: Ino, first: u64, count: u64) -> Result<Seen, Errno> {
        let sums = self.sums.get(ino).ok_or(Errno::ESTALE)?;
        let blocks = first..first.saturating_add(count).min(sums.count());
        let bytes: Vec<u8> = blocks.flat_map(|block| sums.sum(block).to_le_bytes()).collect();
        Ok(Seen::Data(bytes.into()))
    }

    /// Marks those blocks that are bad indeed.
    pub fn rotten(&mut self, (ino, file): (Ino, &impl Resting), blocks: &[u64]) -> io::Result<()> {
        let Some(sums) = self.sums.get(ino) else {
            return Ok(());
        };
        let mut bad = Vec::new();
        for block in blocks.iter().filter(|block| **block < sums.count()) {
            if good_block(sums, file, *block)?.is_none() {
                bad.push(*block);
            }
        }
        self.mark(ino, &bad, false)
    }

    /// What a file holds, within one block, and whether that is sound; zeros stand for what cannot be read. `n`: position of
    /// the record; up to the horizon nobody can tell (sums C3).
    pub(crate) fn read_to_keep(
        &self,
        (ino, file): (Ino, &impl Resting),
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
        match file.read_at(offset, bytes) {
            Err(error) if is_damage(&error) => {
                bytes.copy_from_slice(&raw_block(file, block, end)?[from..]);
                Ok(false)
            }
            read => read.map(|()| true),
        }
    }

    /// Do all blocks fit in which the file has a byte of the range? `n`: position of the record; up to the horizon nobody can
    /// tell (sums C3).
    pub(crate) fn is_sound(
        &self,
        (ino, file): (Ino, &impl Resting),
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
    pub(crate) fn mark(&mut self, ino: Ino, blocks: &[u64], lost: bool) -> io::Result<()> {
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

    /// A3. `bytes`: all of the block, or its beginning, to be put before what is here behind it. False: that is not what the
    /// block has to hold.
    pub fn repair(
        &mut self,
        (ino, file): (Ino, &mut impl Resting),
        block: u64,
        bytes: &[u8],
        sure: bool,
    ) -> io::Result<bool> {
        let Some(sums) = self.sums.edit(ino) else {
            return Ok(false);
        };
        let len = sums.len_of(block);
        let rest = if bytes.len() < len {
            read_block(file, block, len).unwrap_or_default()
        } else {
            Vec::new()
        };
        let bytes = &[bytes, rest.get(bytes.len()..).unwrap_or_default()].concat()[..];
        let lost = sums.is_lost(block);
        let fits = !lost && crc32fast::hash(bytes) == sums.sum(block);
        let believed = (lost && rest.is_empty()) || (sure && sums.doubtful.contains(&block));
        if bytes.is_empty() || bytes.len() != len || !(fits || believed) {
            return Ok(false);
        }
        file.restore(block * BLOCK, bytes, sums.size)?;
        sums.settle(block, Sum::of(bytes));
        if lost && !sure {
            sums.doubtful.insert(block);
        }
        self.save_marks()?;
        Ok(true)
    }

    /// A3. `theirs`: the other brick's copy, which is damaged, too. False: the two do not make the block again.
    pub fn combine(&mut self, (ino, file): (Ino, &mut impl Resting), block: u64, theirs: &[u8]) -> io::Result<bool> {
        let Some(sums) = self.sums.get(ino).filter(|sums| !sums.is_lost(block)) else {
            return Ok(false);
        };
        let ours = raw_block(file, block, sums.len_of(block))?;
        match mend::combine(sums.sum(block), &ours, theirs) {
            Some(bytes) => self.repair((ino, file), block, &bytes, false),
            None => Ok(false),
        }
    }

    /// The other brick's bytes, within a block that is bad there. What it has to hold is not known here from now on.
    ///
    /// Returns whether they were put there: not if no sums are known.
    pub fn take_damaged(
        &mut self,
        (ino, file): (Ino, &mut impl Resting),
        offset: u64,
        bytes: &[u8],
    ) -> io::Result<bool> {
        let Some(size) = self.sums.get(ino).map(|sums| sums.size) else {
            return Ok(false);
        };
        self.mark(ino, &[offset / BLOCK], true)?;
        file.restore(offset, bytes, size)?;
        Ok(true)
    }

    /// Which of `count` blocks from `first` on do not fit.
    pub fn suspects(&self, (ino, file): (Ino, &impl Resting), first: u64, count: u64) -> io::Result<Vec<u64>> {
        self.sums
            .get(ino)
            .map_or(Ok(Vec::new()), |sums| suspects(sums, file, first, count))
    }

    /// File and block of all that is known to be bad, and of all that is in doubt.
    #[must_use]
    pub fn damage(&self) -> (Vec<(Ino, u64)>, Vec<(Ino, u64)>) {
        let marks = self.sums.marks();
        let bad = marks.into_iter().map(|(ino, block, _)| (ino, block)).collect();
        (bad, self.sums.doubts())
    }
}

pub(crate) fn suspects(sums: &FileSums, file: &impl Resting, first: u64, count: u64) -> io::Result<Vec<u64>> {
    let mut suspects = Vec::new();
    for block in first..first.saturating_add(count).min(sums.count()) {
        if good_block(sums, file, block)?.is_none() {
            suspects.push(block);
        }
    }
    Ok(suspects)
}

/// Damage to this list is as if nothing had been found bad since the last checkpoint: it will be found again, but for what
/// was lost meanwhile.
fn load_marks<M: Medium>(medium: &M) -> io::Result<Marks> {
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

fn read_block(file: &impl Resting, block: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    file.read_at(block * BLOCK, &mut bytes)?;
    Ok(bytes)
}

/// The block as it is, good or not: zeros stand for what cannot be read.
pub(crate) fn raw_block(file: &impl Resting, block: u64, len: usize) -> io::Result<Vec<u8>> {
    match read_block(file, block, len) {
        Err(error) if is_damage(&error) => {}
        result => return result,
    }
    let start = block * BLOCK;
    let there = usize::try_from(file.size()?.saturating_sub(start)).map_or(len, |there| there.min(len));
    let mut bytes = vec![0; len];
    for (at, sector) in (start..).step_by(SECTOR).zip(bytes[..there].chunks_mut(SECTOR)) {
        match file.read_at(at, sector) {
            Err(error) if is_damage(&error) => sector.fill(0),
            read => read?,
        }
    }
    Ok(bytes)
}

/// A file that is too short, or a sector that cannot be read: as bad as one that rotted.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    error.kind() == ErrorKind::UnexpectedEof || error.raw_os_error() == Some(Sys::IO.raw_os_error())
}

/// The block, if it is good.
pub(crate) fn good_block(sums: &FileSums, file: &impl Resting, block: u64) -> io::Result<Option<(Fit, Vec<u8>)>> {
    match read_block(file, block, sums.len_of(block)) {
        Ok(bytes) => Ok(match sums.fit(block, &bytes) {
            Fit::Bad if !Bug::RotServed.here() => None,
            fit => Some((fit, bytes)),
        }),
        Err(error) if is_damage(&error) => Ok(None),
        Err(error) => Err(error),
    }
}
