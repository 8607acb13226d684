//! Files that become those of the peer: names that it does not have go, extended attributes become the same.
//!
//! P1  What goes is ours: it has an inode in `.mboxfs/ino`, or our mark. Everything else stays where it is (F2).
//! P2  A directory that the peer has stays, wherever it is now: an effect that moves it follows.
//!
//! Not here: what the peer has (`brick`), its files' content (`inode`).

use super::{
    Files, INO_DIR, bucket,
    dirs::{Spot, entries},
    names::stat,
};
use crate::{medium::open_dir, store::HOME_DIR};
use bytes::Bytes;
use mboxfs_types::{Errno, Ino, Name, codec, disk::Xattrs};
use rustix::fs::{AtFlags, FileType};
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

impl Files {
    /// P1, P2.
    pub(super) fn keep_only(&mut self, names: &[(Ino, Name, Ino)], nameless: &[Ino]) -> io::Result<()> {
        let mut wanted: BTreeMap<Ino, BTreeMap<&[u8], Ino>> = BTreeMap::new();
        let mut inodes: BTreeSet<Ino> = nameless.iter().copied().collect();
        for (dir, name, ino) in names {
            wanted.entry(*dir).or_default().insert(name.as_bytes(), *ino);
            inodes.insert(*ino);
        }
        let dirs: Vec<Ino> = self.dirs.keys().copied().collect();
        for dir in dirs {
            if dir == Ino::ROOT || inodes.contains(&dir) {
                let here = wanted.remove(&dir).unwrap_or_default();
                self.remove_names_but(dir, &here)?;
            }
        }
        let extra: Vec<Ino> = self.dirs.keys().copied().collect();
        for dir in extra.into_iter().filter(|d| *d != Ino::ROOT && !inodes.contains(d)) {
            self.remove_dir(dir)?;
        }
        self.free_all_but(&inodes)
    }

    /// Names of files in `dir` that are not `wanted`, or not what they should be.
    fn remove_names_but(&mut self, dir: Ino, wanted: &BTreeMap<&[u8], Ino>) -> io::Result<()> {
        let Some(fd) = self.dir_fd(dir)? else {
            return Ok(());
        };
        for name in entries(&fd)? {
            if dir == Ino::ROOT && name == HOME_DIR.as_bytes() {
                continue;
            }
            let Some(found) = stat(&fd, &name)? else { continue };
            let is_dir = FileType::from_raw_mode(found.st_mode) == FileType::Directory;
            if is_dir || found.st_nlink < 2 {
                continue; // P2; P1: a file of ours has one more name, in `ino/`
            }
            let right = match wanted.get(name.as_slice()) {
                Some(ino) => self.is_inode(*ino, (found.st_dev, found.st_ino))?,
                None => false,
            };
            if !right {
                rustix::fs::unlinkat(&fd, name.as_slice(), AtFlags::empty())?;
                self.touched_dirs.insert(dir);
            }
        }
        Ok(())
    }

    fn is_inode(&self, ino: Ino, id: (u64, u64)) -> io::Result<bool> {
        let found = stat(&self.home, super::ino_path(ino).as_bytes())?;
        Ok(found.is_some_and(|s| (s.st_dev, s.st_ino) == id))
    }

    fn free_all_but(&mut self, inodes: &BTreeSet<Ino>) -> io::Result<()> {
        for low in 0..=u8::MAX {
            let fd = open_dir(&self.home, &format!("{INO_DIR}/{low:02x}"))?;
            for name in entries(&fd)? {
                let number = std::str::from_utf8(&name).ok();
                let ino = number.and_then(|hex| u64::from_str_radix(hex, 16).ok()).map(Ino);
                if let Some(ino) = ino.filter(|ino| bucket(*ino) == low && !inodes.contains(ino)) {
                    self.free(ino)?;
                }
            }
        }
        // What waits in its parking place for a parent that never comes was removed above.
        debug_assert!(self.dirs.values().filter(|s| **s == Spot::Root).count() == 1);
        Ok(())
    }

    /// The user's extended attributes of `ino` are these.
    pub(super) fn set_all_xattrs(&mut self, ino: Ino, all: &[(Vec<u8>, Vec<u8>)]) -> io::Result<()> {
        let Ok(names) = self.list_xattrs(ino) else {
            return Ok(()); // F3
        };
        for name in names {
            if !all.iter().any(|(n, _)| *n == name) {
                self.set_xattr(ino, &name, None)?;
            }
        }
        for (name, value) in all {
            if self.get_xattr(ino, name).as_deref() != Ok(value) {
                self.set_xattr(ino, name, Some(value))?;
            }
        }
        Ok(())
    }

    /// Is there a file of this number, readable or not?
    pub(super) fn is_there(&self, ino: Ino) -> bool {
        !matches!(stat(&self.home, super::ino_path(ino).as_bytes()), Ok(None))
    }

    pub(super) fn xattrs_of(&self, inos: &[Ino]) -> Result<Bytes, Errno> {
        let mut found = Xattrs::new();
        for ino in inos {
            let mut all = Vec::new();
            for name in self.list_xattrs(*ino)? {
                match self.get_xattr(*ino, &name) {
                    Ok(value) => all.push((name, value.to_vec())),
                    Err(Errno::ENODATA) => {}
                    Err(error) => return Err(error),
                }
            }
            found.push((*ino, all));
        }
        Ok(codec::encode(&found).into())
    }
}
