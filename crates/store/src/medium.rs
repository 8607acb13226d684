//! The one place that makes bytes durable.
//!
//! M1  Nothing else in the tree calls fsync, fdatasync or syncfs.
//! M2  `append` and `replace` return only when what they wrote survives a power cut; the name too, for `replace`.
//! M3  A failed sync is never tried again here: what it covered may be lost although a second sync would say "fine".
//! M4  What a killed process wrote and did not sync is made durable by `settle` before anybody believes it.
//!
//! Not here: what the bytes mean (`log`, `superblock`, `snapshot`); mailbox files are changed elsewhere (`files`), only
//! their syncing is here.

use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{Advice, AtFlags, Dir, Mode, OFlags},
};
use std::{fs::File, io, os::unix::fs::FileExt, sync::Arc};

/// Suffix of a file that is being written; left over by a crash, it means nothing.
pub(crate) const TEMP_SUFFIX: &str = ".tmp";

/// A small directory tree that can make things durable: the real one is [`DirMedium`], the simulated one
/// [`crate::lossy::LossyMedium`]. Paths are relative, one directory deep at most.
pub trait Medium: Clone + Send + 'static {
    /// An open file.
    type File: Send;

    /// Names in `dir`, in byte order.
    fn names(&self, dir: &str) -> io::Result<Vec<String>>;
    /// Opens a file that exists, to read and write.
    fn open(&self, path: &str) -> io::Result<Self::File>;
    /// Makes an empty file, in place of one that may be there.
    fn create(&self, path: &str) -> io::Result<Self::File>;
    /// Gives a file another name, in place of one that may have it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes a file; one that is not there is fine.
    fn remove(&self, path: &str) -> io::Result<()>;
    /// There is a directory of this name, durably.
    fn make_dir(&self, dir: &str) -> io::Result<()>;
    /// Makes the names in `dir` durable.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;
    /// Bytes in the file.
    fn len(&self, file: &Self::File) -> io::Result<u64>;
    /// Fills `buf` from `offset` on. Errors: `UnexpectedEof` beyond the end.
    fn read_at(&self, file: &Self::File, offset: u64, buf: &mut [u8]) -> io::Result<()>;
    /// Writes all of `bytes`; durable at the next [`Self::sync`].
    fn write_at(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes content and size durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;
    /// Makes durable what another process wrote, and forgets what is only cached (M4): after a failed sync the kernel
    /// keeps pages that never reached the device and calls them clean.
    fn settle(&self, file: &Self::File) -> io::Result<()>;

    /// Writes and syncs.
    fn append(&self, file: &Self::File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_at(file, offset, bytes)?;
        self.sync(file)
    }

    /// The file `name` in `dir` has this content, durably and all or nothing: temp, sync, rename, sync directory.
    fn replace(&self, dir: &str, name: &str, content: &[u8]) -> io::Result<()> {
        let path = join(dir, name);
        let temp = format!("{path}{TEMP_SUFFIX}");
        let file = self.create(&temp)?;
        self.append(&file, 0, content)?;
        self.rename(&temp, &path)?;
        self.sync_dir(dir)
    }
}

/// There was no room for it: another try may find some.
#[must_use]
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// `dir/name`; the top directory is `""`.
pub(crate) fn join(dir: &str, name: &str) -> String {
    if dir.is_empty() {
        name.to_string()
    } else {
        format!("{dir}/{name}")
    }
}

/// A directory of this machine.
#[derive(Clone, Debug)]
pub struct DirMedium {
    dir: Arc<OwnedFd>,
}

impl DirMedium {
    /// The tree below `dir`.
    #[must_use]
    pub const fn new(dir: Arc<OwnedFd>) -> Self {
        Self { dir }
    }

    fn dir_fd(&self, dir: &str) -> io::Result<OwnedFd> {
        let path = if dir.is_empty() { "." } else { dir };
        open_dir(&self.dir, path)
    }

    fn file(&self, path: &str, more: OFlags) -> io::Result<File> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW | more;
        Ok(rustix::fs::openat(&self.dir, path, flags, Mode::from_raw_mode(0o600))?.into())
    }
}

impl Medium for DirMedium {
    type File = File;

    fn names(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::new(self.dir_fd(dir)?)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn open(&self, path: &str) -> io::Result<File> {
        self.file(path, OFlags::empty())
    }

    fn create(&self, path: &str) -> io::Result<File> {
        self.file(path, OFlags::CREATE | OFlags::TRUNC)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, from, &self.dir, to)?)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        match rustix::fs::unlinkat(&self.dir, path, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            result => Ok(result?),
        }
    }

    fn make_dir(&self, dir: &str) -> io::Result<()> {
        make_dir(&self.dir, dir)?;
        self.sync_dir("")
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        sync_all(self.dir_fd(dir)?)
    }

    fn len(&self, file: &File) -> io::Result<u64> {
        Ok(file.metadata()?.len())
    }

    fn read_at(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        file.read_exact_at(buf, offset)
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    fn settle(&self, file: &File) -> io::Result<()> {
        self.sync(file)?;
        Ok(rustix::fs::fadvise(file, 0, None, Advice::DontNeed)?)
    }
}

/// Opens a directory below `dir`, never through a symbolic link at its end.
pub(crate) fn open_dir(dir: &OwnedFd, path: &str) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::openat(dir, path, flags, Mode::empty())?)
}

/// There is a directory `name` in `dir`.
pub(crate) fn make_dir(dir: &OwnedFd, name: &str) -> io::Result<()> {
    // Nobody but us may look: it holds all mail once more.
    match rustix::fs::mkdirat(dir, name, Mode::RWXU) {
        Err(rustix::io::Errno::EXIST) => Ok(()),
        result => Ok(result?),
    }
}

/// Content, size, attributes and names of one file or directory.
pub(crate) fn sync_all(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fsync(fd)?)
}

/// Content of one file.
pub(crate) fn sync_content(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::fdatasync(fd)?)
}

/// Everything on the filesystem of `fd`.
pub(crate) fn sync_filesystem(fd: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(fd)?)
}
