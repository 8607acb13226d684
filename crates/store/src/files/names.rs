//! Names of files and symbolic links: hard links to their inodes.
//!
//! Promises: a name is removed only while its inode has another link (F1); what is not ours is put aside (F2).
//!
//! Not here: directories (`dirs`).

use super::{Files, LOST_DIR, dirs::Spot, ino_path, inode::marked};
use crate::{medium::open_dir, store::HOME_DIR};
use mboxfs_types::{Ino, Name};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, FileType, RenameFlags, Stat},
    io::Errno as Sys,
};
use std::io;

/// A name is shortened to this before a number is put behind it.
const LOST_NAME_BYTES_MAX: usize = 240;

impl Files {
    fn stat_ino(&self, ino: Ino) -> io::Result<Option<Stat>> {
        stat(&self.home, ino_path(ino).as_bytes())
    }

    /// `name` in `dir` is `ino`. Nothing happens if either is no more (F3).
    pub(super) fn link(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        refuse_home(dir, name)?;
        let Some(target) = self.stat_ino(ino)? else {
            self.missing.insert(ino);
            return Ok(());
        };
        let Some(to) = self.dir_fd(dir)? else {
            return Ok(());
        };
        self.touched_dirs.insert(dir);
        if let Some(found) = stat(&to, name.as_bytes())? {
            if same(&found, &target) {
                return Ok(());
            }
            self.displace(&to, dir, name.as_bytes())?;
        }
        Ok(rustix::fs::linkat(
            &self.home,
            ino_path(ino),
            &to,
            name.as_bytes(),
            AtFlags::empty(),
        )?)
    }

    /// `name` in `dir` is not `ino`.
    pub(super) fn unlink(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        refuse_home(dir, name)?;
        let (Some(target), Some(from)) = (self.stat_ino(ino)?, self.dir_fd(dir)?) else {
            return Ok(());
        };
        self.touched_dirs.insert(dir);
        if let Some(found) = stat(&from, name.as_bytes())?
            && same(&found, &target)
        {
            rustix::fs::unlinkat(&from, name.as_bytes(), AtFlags::empty())?;
        }
        Ok(())
    }

    /// What `name` in the open directory `dir` is has to go from there. In a replay that is something of the future,
    /// which will come again.
    pub(super) fn displace(&mut self, fd: &OwnedFd, dir: Ino, name: &[u8]) -> io::Result<()> {
        let Some(found) = stat(fd, name)? else {
            return Ok(());
        };
        if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
            let ino = marked(open_dir_bytes(fd, name)?)?;
            if let Some(ino) = ino
                && matches!(self.dirs.get(&ino), Some(Spot::At(d, n)) if *d == dir && n.as_bytes() == name)
            {
                return self.park(ino, None);
            }
            match rustix::fs::unlinkat(fd, name, AtFlags::REMOVEDIR) {
                Err(Sys::NOTEMPTY | Sys::BUSY) => return self.put_aside(fd, name),
                result => return Ok(result?),
            }
        }
        if found.st_nlink > 1 {
            return Ok(rustix::fs::unlinkat(fd, name, AtFlags::empty())?); // F1
        }
        self.put_aside(fd, name)
    }

    /// F2
    fn put_aside(&mut self, fd: &OwnedFd, name: &[u8]) -> io::Result<()> {
        let lost = open_dir(&self.home, LOST_DIR)?;
        self.touched_home.insert(LOST_DIR);
        let kept = &name[..name.len().min(LOST_NAME_BYTES_MAX)];
        for number in 0_u32.. {
            let mut to = kept.to_vec();
            if number > 0 || kept.len() < name.len() {
                to.extend_from_slice(format!(".{number}").as_bytes());
            }
            match rustix::fs::renameat_with(fd, name, &lost, to, RenameFlags::NOREPLACE) {
                Err(Sys::EXIST) => {}
                result => return Ok(result?),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }
}

fn open_dir_bytes(fd: &OwnedFd, name: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(fd, name, flags, Mode::empty())?)
}

pub(super) fn stat(fd: &OwnedFd, name: &[u8]) -> io::Result<Option<Stat>> {
    match rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Sys::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

const fn same(a: &Stat, b: &Stat) -> bool {
    a.st_ino == b.st_ino && a.st_dev == b.st_dev
}

/// The brain never says such a name; if it did, the store itself would be moved away.
pub(super) fn refuse_home(dir: Ino, name: &Name) -> io::Result<()> {
    if dir == Ino::ROOT && name.as_bytes() == HOME_DIR.as_bytes() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            ".mboxfs is no name in the volume",
        ));
    }
    Ok(())
}
