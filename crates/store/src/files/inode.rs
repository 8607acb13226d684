//! One inode: made, written, read, freed.
//!
//! Not here: its names (`names`).

use super::{Files, MARK, bucket, ino_path, mark};
use crate::sums::Change;
use bytes::Bytes;
use mboxfs_types::{Errno, Ino, Kind, Tag, Timestamp, call::Extent};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags},
    io::Errno as Sys,
};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Longest list of names, and longest value, that the kernel gives.
const XATTR_BYTES_MAX: usize = 64 << 10;

impl Files {
    pub(super) fn open_ino(&self, ino: Ino, flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        rustix::fs::openat(&self.home, ino_path(ino), flags, Mode::RUSR | Mode::WUSR)
    }

    /// Reading is not to change the time of access; who does not own the file may not ask for that.
    pub(super) fn open_to_read(&self, ino: Ino) -> rustix::io::Result<OwnedFd> {
        match self.open_ino(ino, OFlags::RDONLY | OFlags::NOATIME) {
            Err(Sys::PERM) => self.open_ino(ino, OFlags::RDONLY),
            file => file,
        }
    }

    /// Only root may give files away; a brick that another user runs keeps all files as his.
    fn owned(&self, result: rustix::io::Result<()>) -> io::Result<()> {
        match result {
            Err(Sys::PERM) if !self.may_chown => Ok(()),
            result => Ok(result?),
        }
    }

    /// There is an inode `ino`. Its content, if it has any, stays: it is of a future that will be replayed.
    pub(super) fn make_inode(
        &mut self,
        ino: Ino,
        kind: Kind,
        target: &[u8],
        owner: (u32, u32),
        mode: u32,
    ) -> io::Result<()> {
        self.missing.remove(&ino);
        self.buckets.insert(bucket(ino));
        if kind == Kind::Symlink {
            match rustix::fs::symlinkat(target, &self.home, ino_path(ino)) {
                Ok(()) | Err(Sys::EXIST) => {}
                Err(error) => return Err(error.into()),
            }
            return self.set_link_owner(ino, owner);
        }
        self.touched.insert(ino);
        self.at_rest.begin(ino);
        let file = self.open_ino(ino, OFlags::RDWR | OFlags::CREATE)?;
        // First the owner: giving a file away clears its setuid bits.
        self.owned(rustix::fs::fchown(
            &file,
            Some(Uid::from_raw(owner.0)),
            Some(Gid::from_raw(owner.1)),
        ))?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode))?;
        match rustix::fs::fsetxattr(&file, MARK, &mark(ino, Tag::default()), XattrFlags::CREATE) {
            Ok(()) | Err(Sys::EXIST) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn set_link_owner(&self, ino: Ino, owner: (u32, u32)) -> io::Result<()> {
        let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        self.owned(rustix::fs::chownat(
            &self.home,
            ino_path(ino),
            Some(uid),
            Some(gid),
            flags,
        ))
    }

    pub(super) fn write(
        &mut self,
        ino: Ino,
        content: (u64, &[Extent], u64),
        times: (Timestamp, Timestamp),
        stamp: Tag,
    ) -> io::Result<()> {
        let (cut, extents, size) = content;
        let mut file: File = match self.open_ino(ino, OFlags::RDWR) {
            Ok(file) => file.into(),
            Err(Sys::NOENT) => {
                self.missing.insert(ino); // F3
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.touched.insert(ino);
        let change = Change {
            cut,
            extents: extents.iter().map(|e| (e.offset, &e.data[..])).collect(),
            size,
        };
        self.at_rest
            .change((ino, &mut file), &change, Some(stamp.n), |file| put(file, &change))?;
        rustix::fs::fsetxattr(&file, MARK, &mark(ino, stamp), XattrFlags::empty())?;
        rustix::fs::futimens(&file, &timestamps(times))?;
        Ok(())
    }

    pub(super) fn set_dir_owner_mode(&mut self, ino: Ino, owner: (u32, u32), mode: u32) -> io::Result<()> {
        if let Some(fd) = self.dir_fd(ino)? {
            self.owned(rustix::fs::fchown(
                &fd,
                Some(Uid::from_raw(owner.0)),
                Some(Gid::from_raw(owner.1)),
            ))?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(mode))?;
            self.touched_dirs.insert(ino);
        }
        Ok(())
    }

    pub(super) fn set_attr(
        &mut self,
        ino: Ino,
        owner: (u32, u32),
        mode: u32,
        times: (Timestamp, Timestamp),
    ) -> io::Result<()> {
        if let Some(fd) = self.dir_fd(ino)? {
            self.set_dir_owner_mode(ino, owner, mode)?;
            return Ok(rustix::fs::futimens(&fd, &timestamps(times))?);
        }
        let path = ino_path(ino);
        let stat = match rustix::fs::statat(&self.home, &path, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Sys::NOENT) => {
                self.missing.insert(ino);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        self.touched.insert(ino);
        self.set_link_owner(ino, owner)?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            rustix::fs::chmodat(&self.home, &path, Mode::from_raw_mode(mode), AtFlags::empty())?;
        }
        Ok(rustix::fs::utimensat(
            &self.home,
            &path,
            &timestamps(times),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    }

    /// A value that the filesystem has no room for (ext4: about 4 KiB for all of a file) is not kept: attributes are no
    /// mail, and an error would stop the brick at this record for ever.
    pub(super) fn set_xattr(&mut self, ino: Ino, name: &[u8], value: Option<&[u8]>) -> io::Result<()> {
        if name.starts_with(MARK) {
            return Ok(()); // ours; the brain refuses such requests
        }
        let is_dir = self.dirs.contains_key(&ino);
        let Some(fd) = self.any_fd(ino)? else {
            self.missing.insert(ino);
            return Ok(());
        };
        let result = match value {
            Some(value) => rustix::fs::fsetxattr(&fd, name, value, XattrFlags::empty()),
            None => rustix::fs::fremovexattr(&fd, name),
        };
        match result {
            Ok(()) | Err(Sys::NODATA | Sys::NOSPC | Sys::TOOBIG | Sys::RANGE | Sys::OPNOTSUPP) => {}
            Err(error) => return Err(error.into()),
        }
        if is_dir {
            self.touched_dirs.insert(ino);
        } else {
            self.touched.insert(ino);
        }
        Ok(())
    }

    /// A file or directory, open to read; none if it is not there or a symbolic link.
    fn any_fd(&self, ino: Ino) -> io::Result<Option<OwnedFd>> {
        if let Some(fd) = self.dir_fd(ino)? {
            return Ok(Some(fd));
        }
        match self.open_ino(ino, OFlags::RDONLY) {
            Ok(fd) => Ok(Some(fd)),
            Err(Sys::NOENT | Sys::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn free(&mut self, ino: Ino) -> io::Result<()> {
        self.missing.remove(&ino);
        self.touched.remove(&ino);
        self.buckets.insert(bucket(ino));
        match rustix::fs::unlinkat(&self.home, ino_path(ino), AtFlags::empty()) {
            Ok(()) | Err(Sys::NOENT) => self.at_rest.free(ino),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn file_to_read(&mut self, ino: Ino) -> Result<File, Errno> {
        if self.dirs.contains_key(&ino) {
            return Err(Errno::EISDIR);
        }
        match self.open_to_read(ino) {
            Ok(fd) => Ok(fd.into()),
            Err(Sys::IO) => Err(self.fails(Sys::IO.into())),
            Err(error) => Err(errno(error)),
        }
    }

    pub(super) fn read_unchecked(&mut self, file: &File, offset: u64, len: u32) -> Result<Bytes, Errno> {
        let size = file.metadata().map_err(|e| self.fails(e))?.len();
        let want = size.saturating_sub(offset).min(u64::from(len));
        let mut buf = vec![0; usize::try_from(want).map_err(|_| Errno::EINVAL)?];
        // Nobody else changes files while we look: shorter than its size means that the disk is in trouble.
        file.read_exact_at(&mut buf, offset).map_err(|e| self.fails(e))?;
        Ok(buf.into())
    }

    pub(super) fn fails(&mut self, error: io::Error) -> Errno {
        self.trouble = Some(error);
        Errno::ESTALE
    }

    pub(super) fn get_xattr(&self, ino: Ino, name: &[u8]) -> Result<Bytes, Errno> {
        if !is_users(name) {
            return Err(Errno::ENODATA);
        }
        let fd = self.any_fd(ino).map_err(|_| Errno::ESTALE)?.ok_or(Errno::ENODATA)?;
        let mut buf = vec![0; XATTR_BYTES_MAX];
        let len = rustix::fs::fgetxattr(&fd, name, &mut buf[..]).map_err(errno)?;
        buf.truncate(len);
        Ok(buf.into())
    }

    pub(super) fn list_xattrs(&self, ino: Ino) -> Result<Vec<Vec<u8>>, Errno> {
        let Some(fd) = self.any_fd(ino).map_err(|_| Errno::ESTALE)? else {
            return Ok(Vec::new());
        };
        let mut buf = vec![0; XATTR_BYTES_MAX];
        let len = rustix::fs::flistxattr(&fd, &mut buf[..]).map_err(errno)?;
        let mut names: Vec<Vec<u8>> = buf[..len]
            .split(|b| *b == 0)
            .filter(|name| is_users(name))
            .map(<[u8]>::to_vec)
            .collect();
        names.sort_unstable();
        Ok(names)
    }
}

/// Cut, extents, size.
fn put(file: &File, change: &Change<'_>) -> io::Result<()> {
    let mut len = file.metadata()?.len();
    if change.cut < len {
        file.set_len(change.cut)?;
        len = change.cut;
    }
    for (offset, bytes) in &change.extents {
        file.write_all_at(bytes, *offset)?;
        len = len.max(offset + bytes.len() as u64);
    }
    if len != change.size {
        file.set_len(change.size)?;
    }
    Ok(())
}

/// The number in the mark of a directory, if it has one.
pub(super) fn marked(fd: impl AsFd) -> io::Result<Option<Ino>> {
    let mut buf = [0; 256];
    match rustix::fs::fgetxattr(fd, MARK, &mut buf[..]) {
        Ok(len) => Ok(mboxfs_types::codec::decode::<(Ino, Tag)>(&buf[..len])
            .ok()
            .map(|(ino, _)| ino)),
        Err(Sys::NODATA | Sys::RANGE) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn is_users(name: &[u8]) -> bool {
    name.starts_with(b"user.") && !name.starts_with(MARK)
}

fn timestamps((atime, mtime): (Timestamp, Timestamp)) -> Timestamps {
    let spec = |t: Timestamp| Timespec {
        tv_sec: t.secs,
        tv_nsec: t.nanos.into(),
    };
    Timestamps {
        last_access: spec(atime),
        last_modification: spec(mtime),
    }
}

/// What a mail program may see: never EIO (law L9).
pub(super) fn errno(error: Sys) -> Errno {
    match error {
        Sys::NODATA => Errno::ENODATA,
        Sys::LOOP => Errno::EINVAL, // read(2) of a symbolic link
        Sys::ISDIR => Errno::EISDIR,
        Sys::RANGE => Errno::ERANGE,
        _ => Errno::ESTALE,
    }
}
