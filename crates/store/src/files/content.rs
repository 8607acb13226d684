//! A file as it is, or as it was at a fork: opened in its turn among the effects, read by another thread at leisure.
//!
//! R1  Every effect given before it was opened is in it. Later ones may be, in part: who asked tells by the file's version
//!     whether there were any. Whatever is read then, it ends: nothing beyond the size at the opening is looked at.
//! R2  At a fork it is the present content below the size of then, with what was kept in its place; all of that is checked
//!     first (law L12). It counts only if no effect changes the file meanwhile.
//!
//! Not here: what the messages are (`mbox`).

use super::{
    Files,
    inode::errno,
    kept::{Entry, Key, entries},
};
use crate::medium::DirMedium;
use bytes::Bytes;
use mboxfs_mbox::{
    index::{Index, Unindexed},
    source::Source,
};
use mboxfs_types::{Errno, Ino, disk::AtFork};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno as Sys,
};
use std::{
    fmt,
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// An open file.
pub struct Content {
    file: File,
    /// Nothing beyond is read.
    size: u64,
    /// As at a fork: then all of that has to be there.
    whole: bool,
    journal: Option<(Key, DirMedium, File)>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Files {
    /// Opens a file; sees every effect applied before.
    ///
    /// Errors: ESTALE if there is no such inode or it cannot be opened, EISDIR and EINVAL if it is a directory or a symbolic
    /// link.
    pub fn content(&self, ino: Ino, base: Option<AtFork>) -> Result<Content, Errno> {
        if self.dirs.contains_key(&ino) {
            return Err(Errno::EISDIR);
        }
        let file: File = self.open_to_read(ino).map_err(errno)?.into();
        let Some(AtFork { fork, size }) = base else {
            let size = file.metadata().map_err(|_| Errno::ESTALE)?.len();
            return Ok(Content {
                file,
                size,
                whole: false,
                journal: None,
            });
        };
        let key = Key { fork, ino };
        let kept = self.kept.file(key).map_err(|_| Errno::ESTALE)?;
        let medium = DirMedium::new(Arc::clone(&self.home));
        let journal = kept.map(|kept| (key, medium, kept));
        Ok(Content {
            file,
            size,
            whole: true,
            journal,
        })
    }
}

/// A plain file by its name; none if there is none.
///
/// Errors: ESTALE if it cannot be opened.
pub(super) fn at(dir: &OwnedFd, name: &str) -> Result<Option<Content>, Errno> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file: File = match rustix::fs::openat(dir, name, flags, Mode::empty()) {
        Ok(file) => file.into(),
        Err(Sys::NOENT | Sys::LOOP) => return Ok(None),
        Err(_) => return Err(Errno::ESTALE),
    };
    let stat = file.metadata().map_err(|_| Errno::ESTALE)?;
    let size = stat.len();
    Ok(stat.is_file().then_some(Content {
        file,
        size,
        whole: false,
        journal: None,
    }))
}

impl Content {
    /// What messages there are (`mbox::identity`), in their order. Else as [`Self::index`].
    ///
    /// Errors: as there.
    pub fn identities(self, stop: &AtomicBool) -> Result<Vec<[u8; 32]>, Errno> {
        let reader = self.reader(stop).map_err(|error| refusal(&error))?;
        match Index::read(reader) {
            Ok(index) => Ok(index.entries().map(|entry| entry.identity.0).collect()),
            Err(Unindexed::Source(error)) => Err(refusal(&error)),
            Err(Unindexed::TooMany) => Err(Errno::EFBIG),
        }
    }

    /// The index of its messages, as `mbox` encodes it. Takes some seconds for each GB, and memory for its messages, not
    /// its bytes. Gives up soon after `stop` is set.
    ///
    /// Errors: ENODATA if what the file was at the fork is damaged or not there; EFBIG if it has more messages than `mbox`
    /// takes; ESTALE if it cannot be read, or `stop` was set.
    pub fn index(self, stop: &AtomicBool) -> Result<Bytes, Errno> {
        let reader = self.reader(stop).map_err(|error| refusal(&error))?;
        match Index::read(reader) {
            Ok(index) => Ok(index.encode().into()),
            Err(Unindexed::Source(error)) => Err(refusal(&error)),
            Err(Unindexed::TooMany) => Err(Errno::EFBIG),
        }
    }

    fn reader(self, stop: &AtomicBool) -> io::Result<Reader<'_>> {
        let mut kept = Vec::new();
        if let Some((key, medium, journal)) = &self.journal {
            kept = entries(medium, journal, *key, || go_on(stop))?;
            kept.sort_unstable_by_key(|entry| entry.offset);
        }
        Ok(Reader {
            content: self,
            kept,
            stop,
        })
    }
}

fn refusal(error: &io::Error) -> Errno {
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::UnexpectedEof => Errno::ENODATA,
        _ => Errno::ESTALE,
    }
}

fn go_on(stop: &AtomicBool) -> io::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(ErrorKind::Interrupted.into());
    }
    Ok(())
}

struct Reader<'a> {
    content: Content,
    /// In ascending order, without overlap.
    kept: Vec<Entry>,
    stop: &'a AtomicBool,
}

impl Reader<'_> {
    /// R2: where `offset` is, in the journal or in the file itself, and up to which offset it goes on there.
    fn place(&self, offset: u64) -> (&File, u64, u64) {
        let behind = self.kept.partition_point(|entry| entry.offset <= offset);
        if let (Some(entry), Some((_, _, journal))) = (self.kept[..behind].last(), &self.content.journal) {
            let end = entry.offset + u64::from(entry.len);
            if offset < end {
                return (journal, entry.at + (offset - entry.offset), end);
            }
        }
        let end = self.kept.get(behind).map_or(u64::MAX, |entry| entry.offset);
        (&self.content.file, offset, end)
    }
}

impl Source for Reader<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        go_on(self.stop)?;
        if offset >= self.content.size || buf.is_empty() {
            return Ok(0);
        }
        let (file, at, end) = self.place(offset);
        let most = end.min(self.content.size) - offset;
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(buf.len());
        let read = file.read_at(&mut buf[..most], at)?;
        if read == 0 && self.content.whole {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}
