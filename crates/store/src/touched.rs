//! What has been changed in the brick's files since the last checkpoint.
//!
//! Promises: after [`Touched::sync`] everything in it is durable. It is small: above [`SYNC_EACH_MAX`] things the whole
//! filesystem is synced instead.
//!
//! Not here: when that has to be (`checkpoint`).

use crate::{
    files::ino_path,
    medium::{open_dir, sync_all, sync_filesystem},
    sums::Sums,
};
use mboxfs_types::Ino;
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{collections::BTreeSet, io, sync::Arc};

/// More files and directories than this are not synced one by one.
pub(crate) const SYNC_EACH_MAX: usize = 1000;
/// Directories that are held open until they are synced, since they may move meanwhile.
pub(crate) const DIRS_MAX: usize = 64;

/// Files and directories to be made durable. Nothing, by default.
#[derive(Debug, Default)]
pub struct Touched {
    /// `.mboxfs`; none if there is nothing.
    pub(crate) home: Option<Arc<OwnedFd>>,
    /// Files; one that is gone was freed later and needs nothing.
    pub(crate) files: BTreeSet<Ino>,
    /// Low bytes of the inodes that were made or freed: their directories.
    pub(crate) buckets: BTreeSet<u8>,
    /// Directories, open.
    pub(crate) dirs: Vec<OwnedFd>,
    /// Too many to tell: everything.
    pub(crate) everything: bool,
    /// What all files hold at this moment.
    pub(crate) sums: Sums,
}

impl Touched {
    /// Makes it all durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        let Some(home) = &self.home else {
            return Ok(());
        };
        if self.everything || self.len() > SYNC_EACH_MAX {
            return sync_filesystem(home);
        }
        for ino in &self.files {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            match rustix::fs::openat(home, ino_path(*ino), flags, Mode::empty()) {
                Ok(file) => sync_all(file)?,
                // Freed meanwhile; or a symbolic link, which its directory's sync covers.
                Err(Errno::NOENT | Errno::LOOP) => {}
                Err(error) => return Err(error.into()),
            }
        }
        for bucket in &self.buckets {
            sync_all(open_dir(home, &format!("ino/{bucket:02x}"))?)?;
        }
        for dir in &self.dirs {
            sync_all(dir)?;
        }
        Ok(())
    }

    /// Things in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len() + self.buckets.len() + self.dirs.len()
    }

    /// Is there nothing to do?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0 && !self.everything
    }
}
