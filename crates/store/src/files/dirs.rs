//! Directories: real ones at their place, each marked with its number; found again by a crawl.
//!
//! A replay meets the tree of a later time. Then a move can be impossible for the moment: its new parent lies, in that
//! later tree, below the directory itself, or is gone. Such a directory is *parked* in `.mboxfs/ino/dir-<ino>` with the
//! wish to be at its place, and gets there as soon as another move has made that possible. A directory that stands in
//! the way of another one is of the later tree; it is parked without a wish, since its own move comes later in the replay.
//!
//! D-1  The map says where each directory is on disk, always; it has no cycles, since the disk has none.
//! D-2  A new directory is made and marked in its parking place and then moved: none is ever at its place without mark.
//!
//! Not here: files in them (`names`).

use super::{
    Files, INO_DIR, MARK,
    inode::marked,
    mark,
    names::{refuse_home, stat},
};
use crate::{medium::open_dir, store::HOME_DIR};
use mboxfs_types::{Ino, Name, Tag};
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, XattrFlags},
    io::Errno as Sys,
};
use std::{collections::btree_map::Entry, io};

const PARKED_PREFIX: &str = "dir-";

/// Where a directory is on disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Spot {
    Root,
    At(Ino, Name),
    Parked,
}

fn parking(ino: Ino) -> String {
    format!("{INO_DIR}/{PARKED_PREFIX}{ino}")
}

impl Files {
    /// The directory, open; none if there is no such directory.
    pub(super) fn dir_fd(&self, ino: Ino) -> io::Result<Option<OwnedFd>> {
        let mut names = Vec::new();
        let mut at = ino;
        let mut fd = loop {
            match self.dirs.get(&at) {
                None => return Ok(None),
                Some(Spot::Root) => break open_dir(&self.root, ".")?,
                Some(Spot::Parked) => break open_dir(&self.home, &parking(at))?,
                Some(Spot::At(dir, name)) => {
                    names.push(name.as_bytes());
                    at = *dir;
                }
            }
        };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        for name in names.into_iter().rev() {
            fd = rustix::fs::openat(&fd, name, flags, Mode::empty())?;
        }
        Ok(Some(fd))
    }

    /// D-1: finds all directories.
    pub(super) fn crawl(&mut self) -> io::Result<()> {
        self.dirs.insert(Ino::ROOT, Spot::Root);
        let mut open = vec![Ino::ROOT];
        let home = open_dir(&self.home, INO_DIR)?;
        for name in subdirectories(&home)? {
            let number = name
                .strip_prefix(PARKED_PREFIX.as_bytes())
                .and_then(|hex| std::str::from_utf8(hex).ok());
            if let Some(ino) = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Ino) {
                // The name says it: a crash may have come before the mark (D-2).
                set_mark(&open_dir(&self.home, &parking(ino))?, ino)?;
                self.dirs.insert(ino, Spot::Parked);
                open.push(ino);
            }
        }
        while let Some(dir) = open.pop() {
            let fd = self.dir_fd(dir)?.expect("put in the map before");
            for name in subdirectories(&fd)? {
                if dir == Ino::ROOT && name == HOME_DIR.as_bytes() {
                    continue;
                }
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
                let child = rustix::fs::openat(&fd, name.as_slice(), flags, Mode::empty())?;
                let (Some(ino), Ok(name)) = (marked(child)?, Name::new(&name)) else {
                    continue; // not ours
                };
                // A copy that somebody made, with its mark, is not ours either.
                if let Entry::Vacant(free) = self.dirs.entry(ino) {
                    free.insert(Spot::At(dir, name));
                    open.push(ino);
                }
            }
        }
        Ok(())
    }

    /// There is a directory `ino`, somewhere.
    pub(super) fn make_dir(&mut self, ino: Ino) -> io::Result<()> {
        if self.dirs.contains_key(&ino) {
            return Ok(());
        }
        match rustix::fs::mkdirat(&self.home, parking(ino), Mode::RWXU) {
            Ok(()) | Err(Sys::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        set_mark(&open_dir(&self.home, &parking(ino))?, ino)?;
        self.missing.remove(&ino);
        self.touched_home.insert(INO_DIR);
        self.touched_dirs.insert(ino);
        self.dirs.insert(ino, Spot::Parked);
        Ok(())
    }

    /// The directory `ino` is at `name` in `dir`. Nothing happens if it is no more (F3).
    pub(super) fn place(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<()> {
        refuse_home(dir, name)?;
        if ino == Ino::ROOT || !self.dirs.contains_key(&ino) {
            return Ok(());
        }
        self.wishes.remove(&ino);
        if matches!(&self.dirs[&ino], Spot::At(d, n) if *d == dir && n == name) {
            return Ok(());
        }
        if !self.move_to(ino, dir, name)? {
            self.park(ino, Some((dir, name.clone())))?;
        }
        self.settle()
    }

    /// False: it cannot be there now.
    fn move_to(&mut self, ino: Ino, dir: Ino, name: &Name) -> io::Result<bool> {
        if !self.dirs.contains_key(&dir) || self.is_below(dir, ino) {
            return Ok(false);
        }
        if let Some(fd) = self.dir_fd(dir)? {
            self.displace(&fd, dir, name.as_bytes())?;
        }
        // Opened after that: what was displaced may have been above either of them.
        let to = self.dir_fd(dir)?.expect("looked up above");
        let (from, old) = self.holder(ino)?;
        rustix::fs::renameat_with(&from, &*old, &to, name.as_bytes(), RenameFlags::NOREPLACE)?;
        self.moved(ino, Spot::At(dir, name.clone()));
        Ok(true)
    }

    /// The directory that holds `ino`, and its name there.
    fn holder(&self, ino: Ino) -> io::Result<(OwnedFd, Vec<u8>)> {
        match &self.dirs[&ino] {
            Spot::Root => Err(io::Error::new(io::ErrorKind::InvalidInput, "the root directory stays")),
            Spot::Parked => Ok((open_dir(&self.home, ".")?, parking(ino).into_bytes())),
            Spot::At(dir, name) => {
                let fd = self.dir_fd(*dir)?.ok_or(io::ErrorKind::NotFound)?;
                Ok((fd, name.as_bytes().to_vec()))
            }
        }
    }

    fn moved(&mut self, ino: Ino, to: Spot) {
        let from = self.dirs.insert(ino, to.clone());
        for spot in from.into_iter().chain([to]) {
            match spot {
                Spot::Root => {}
                Spot::At(dir, _) => {
                    self.touched_dirs.insert(dir);
                }
                Spot::Parked => {
                    self.touched_home.insert(INO_DIR);
                }
            }
        }
        self.touched_dirs.insert(ino);
    }

    /// Out of the way.
    pub(super) fn park(&mut self, ino: Ino, wish: Option<(Ino, Name)>) -> io::Result<()> {
        if self.dirs[&ino] != Spot::Parked {
            let (from, old) = self.holder(ino)?;
            rustix::fs::renameat_with(&from, &*old, &self.home, parking(ino), RenameFlags::NOREPLACE)?;
            self.moved(ino, Spot::Parked);
        }
        if let Some(wish) = wish {
            self.wishes.insert(ino, wish);
        }
        Ok(())
    }

    /// Fulfils the wishes that can be fulfilled.
    fn settle(&mut self) -> io::Result<()> {
        while let Some((ino, dir, name)) = self.possible_wish() {
            self.wishes.remove(&ino);
            let done = self.move_to(ino, dir, &name)?;
            assert!(done, "was found possible");
        }
        Ok(())
    }

    fn possible_wish(&self) -> Option<(Ino, Ino, Name)> {
        let possible = |ino: Ino, dir: Ino| self.dirs.contains_key(&dir) && !self.is_below(dir, ino);
        let (ino, (dir, name)) = self.wishes.iter().find(|(ino, (dir, _))| possible(**ino, *dir))?;
        Some((*ino, *dir, name.clone()))
    }

    /// Is `dir` the directory `ino` or below it, on disk?
    fn is_below(&self, dir: Ino, ino: Ino) -> bool {
        let mut at = dir;
        loop {
            if at == ino {
                return true;
            }
            match self.dirs.get(&at) {
                Some(Spot::At(parent, _)) => at = *parent,
                _ => return false,
            }
        }
    }

    /// The directory `ino` is gone. What is still in it is of the future, or not ours.
    pub(super) fn remove_dir(&mut self, ino: Ino) -> io::Result<()> {
        self.missing.remove(&ino);
        let Some(fd) = self.dir_fd(ino)? else {
            return Ok(());
        };
        let (holder, name) = self.holder(ino)?;
        match rustix::fs::unlinkat(&holder, &*name, AtFlags::REMOVEDIR) {
            Err(Sys::NOTEMPTY) => {
                for entry in entries(&fd)? {
                    self.displace(&fd, ino, &entry)?;
                }
                rustix::fs::unlinkat(&holder, &*name, AtFlags::REMOVEDIR)?;
            }
            result => result?,
        }
        self.moved(ino, Spot::Parked);
        self.dirs.remove(&ino);
        self.wishes.remove(&ino);
        self.touched_dirs.remove(&ino);
        self.settle()
    }
}

fn set_mark(fd: &OwnedFd, ino: Ino) -> io::Result<()> {
    Ok(rustix::fs::fsetxattr(
        fd,
        MARK,
        &mark(ino, Tag::default()),
        XattrFlags::empty(),
    )?)
}

/// Names in a directory, in byte order.
pub(super) fn entries(fd: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    list(fd, |_, _| Ok(true))
}

fn subdirectories(fd: &OwnedFd) -> io::Result<Vec<Vec<u8>>> {
    list(fd, |name, kind| match kind {
        FileType::Directory => Ok(true),
        // Some filesystems do not say.
        FileType::Unknown => {
            Ok(stat(fd, name)?.is_some_and(|s| FileType::from_raw_mode(s.st_mode) == FileType::Directory))
        }
        _ => Ok(false),
    })
}

fn list(fd: &OwnedFd, mut wanted: impl FnMut(&[u8], FileType) -> io::Result<bool>) -> io::Result<Vec<Vec<u8>>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(fd)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") && wanted(name, entry.file_type())? {
            names.push(name.to_vec());
        }
    }
    names.sort_unstable();
    Ok(names)
}
