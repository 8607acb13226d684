//! Content of real files at rest, as the device has it: for reading, for repair, and to be compared with their sums.
//!
//! Promises: a repair changes nothing that users see; a comparison looks at the device, not at what the kernel remembers.
//! Not here: what is good (`crate::at_rest`).

use super::{Files, inode::errno};
use crate::{
    at_rest::{AtRest, suspects},
    sums::FileSums,
};
use mboxfs_types::{Errno, Ino, disk::Seen, limits::SUM_BLOCK_BYTES as BLOCK};
use rustix::{
    fs::{Advice, OFlags},
    io::Errno as Sys,
};
use std::{fmt, fs::File, io, sync::Arc};

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
        if deep {
            forget_cached(&file, block).map_err(errno)?;
        }
        match self.at_rest.block((ino, &file), block) {
            Ok(seen) => seen.ok_or(Errno::ESTALE),
            Err(error) => Err(self.fails(error)),
        }
    }

    pub(super) fn read_raw(&mut self, ino: Ino, block: u64) -> Result<Seen, Errno> {
        let file = self.file_to_read(ino)?;
        match self.at_rest.raw((ino, &file), block) {
            Ok(seen) => seen.ok_or(Errno::ESTALE),
            Err(error) => Err(self.fails(error)),
        }
    }

    /// Marks those blocks that are bad indeed.
    pub(super) fn rotten(&mut self, ino: Ino, blocks: &[u64]) -> io::Result<()> {
        let Ok(file) = self.open_to_read(ino) else {
            return Ok(());
        };
        self.at_rest.rotten((ino, &File::from(file)), blocks)
    }

    /// Puts good bytes in the place of a block.
    pub(super) fn repair(&mut self, ino: Ino, block: u64, bytes: &[u8], sure: bool) -> io::Result<()> {
        self.mend(ino, |at_rest, file| at_rest.repair(file, block, bytes, sure))
    }

    /// Makes a block of two damaged copies, if they make one.
    pub(super) fn combine(&mut self, ino: Ino, block: u64, theirs: &[u8]) -> io::Result<()> {
        self.mend(ino, |at_rest, file| at_rest.combine(file, block, theirs))
    }

    /// Takes the other brick's bytes, which are bad there.
    pub(super) fn take_damaged(&mut self, ino: Ino, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.mend(ino, |at_rest, file| at_rest.take_damaged(file, offset, bytes))
    }

    /// Nothing that users see changes. A file that is not there is skipped (F3).
    fn mend(
        &mut self,
        ino: Ino,
        mend: impl FnOnce(&mut AtRest, (Ino, &mut File)) -> io::Result<bool>,
    ) -> io::Result<()> {
        let mut file: File = match self.open_ino(ino, OFlags::RDWR) {
            Ok(file) => file.into(),
            Err(Sys::NOENT | Sys::LOOP) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        self.touched.insert(ino);
        let times = file.metadata()?;
        if mend(&mut self.at_rest, (ino, &mut file))? {
            keep_times(&file, &times)?;
        }
        Ok(())
    }

    /// Opens a file; sees every effect applied before. None: there is no such file, or nothing is known of it.
    pub fn scrub(&self, ino: Ino) -> Option<Scrub> {
        let sums = Arc::clone(self.at_rest.sums().get(ino)?);
        let file = self.open_to_read(ino).ok()?.into();
        Some(Scrub { ino, file, sums })
    }

    /// File and block of all that is known to be bad, and of all that is in doubt.
    #[must_use]
    pub fn damage(&self) -> (Vec<(Ino, u64)>, Vec<(Ino, u64)>) {
        self.at_rest.damage()
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
        for block in first..first.saturating_add(count).min(self.sums.count()) {
            forget_cached(&self.file, block)?;
        }
        suspects(&self.sums, &self.file, first, count)
    }
}

/// A repair changes nothing that users see.
fn keep_times(file: &File, before: &std::fs::Metadata) -> io::Result<()> {
    let times = std::fs::FileTimes::new()
        .set_accessed(before.accessed()?)
        .set_modified(before.modified()?);
    file.set_times(times)
}
