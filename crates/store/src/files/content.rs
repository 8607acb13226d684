//! A file as it is, or as it was at a fork: opened in its turn among the effects, read by another thread at leisure.
//!
//! R1  Every effect given before it was opened is in it. Later ones may be, in part: who asked tells by the file's version
//!     whether there were any. Whatever is read then, it ends: nothing beyond the size at the opening is looked at.
//! R2  At a fork it is the present content below the size of then, with what was kept in its place; all of that is checked
//!     first (law L12). It counts only if no effect changes the file meanwhile.
//! R3  Bytes that do not fit their sums are not read (law L12), unless for finding out which messages are damaged. An effect
//!     that changed the file meanwhile looks the same: who asked asks again.
//!
//! Not here: what the messages are (`mbox`).

use super::{
    Files,
    inode::errno,
    kept::{Entry, Key, entries},
};
use crate::{
    at_rest::{good_block, raw_block},
    medium::DirMedium,
    sums::FileSums,
};
use bytes::Bytes;
use mboxfs_mbox::{
    index::{Index, Unindexed},
    source::Source,
};
use mboxfs_types::{
    Errno, Ino,
    disk::{AtFork, Look, Seen},
    limits::{self, SUM_BLOCK_BYTES as BLOCK},
};
use rustix::{
    fd::OwnedFd,
    fs::{Mode, OFlags},
    io::Errno as Sys,
};
use std::{
    cell::Cell,
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
    /// As it is.
    sums: Option<Arc<FileSums>>,
    /// Also what does not fit them.
    raw: bool,
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
        let sums = self.at_rest.sums().get(ino).cloned();
        let Some(AtFork { fork, size }) = base else {
            let size = match &sums {
                Some(sums) => sums.size,
                None => file.metadata().map_err(|_| Errno::ESTALE)?.len(),
            };
            return Ok(Content {
                file,
                size,
                whole: false,
                journal: None,
                sums,
                raw: false,
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
            sums,
            raw: false,
        })
    }
}

/// A look that reads much: the file is open, the rest can be done by any thread.
#[derive(Debug)]
pub struct Leisure {
    content: Content,
    wanted: Wanted,
}

#[derive(Clone, Copy, Debug)]
enum Wanted {
    Index,
    Bytes { offset: u64, len: u32 },
    Digests { offset: u64, len: u64 },
}

impl Leisure {
    pub(super) fn open(files: &Files, look: &Look) -> Result<Self, Errno> {
        let (ino, base, wanted) = match *look {
            Look::Index { ino, base } => (ino, base, Wanted::Index),
            Look::RawIndex { ino } => (ino, None, Wanted::Index),
            Look::Copy { ino, base, offset, len } => (ino, base, Wanted::Bytes { offset, len }),
            Look::Digests { ino, offset, len } => (ino, None, Wanted::Digests { offset, len }),
            _ => return Err(Errno::EINVAL),
        };
        match files.content(ino, base) {
            Ok(mut content) => {
                content.raw = matches!(look, Look::RawIndex { .. });
                Ok(Self { content, wanted })
            }
            // A copy has to know: gone is not the same as unreadable.
            Err(Errno::ESTALE) if base.is_none() && files.is_there(ino) => Err(Errno::ENODATA),
            Err(errno) => Err(errno),
        }
    }

    /// The answer. An index takes some seconds for each GB, and memory for its messages, not its bytes; it is given up soon
    /// after `stop` is set.
    ///
    /// Errors: ENODATA if it cannot be read, or if what the file was at the fork is damaged or not there; EFBIG if it has more
    /// messages than `mbox` takes; ESTALE if there is no such file, or `stop` was set.
    pub fn answer(self, stop: &AtomicBool) -> Result<Seen, Errno> {
        match self.wanted {
            Wanted::Index => self.content.index(stop),
            Wanted::Bytes { offset, len } => self.content.bytes(offset, len, stop),
            Wanted::Digests { offset, len } => self.content.digests(offset, len, stop),
        }
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
        sums: None,
        raw: false,
    }))
}

impl Content {
    /// At most `len` bytes from `offset` on; of a file that is cut meanwhile, what is left. Or a block that is in the way (R3).
    fn bytes(self, offset: u64, len: u32, stop: &AtomicBool) -> Result<Seen, Errno> {
        let want = self.size.saturating_sub(offset).min(u64::from(len));
        let mut bytes = vec![0; usize::try_from(want).map_err(|_| Errno::EINVAL)?];
        self.checked(stop, |reader| {
            let filled = fill(reader, offset, &mut bytes)?;
            bytes.truncate(filled);
            Ok(bytes.into())
        })
    }

    fn digests(self, offset: u64, len: u64, stop: &AtomicBool) -> Result<Seen, Errno> {
        let end = self.size.min(offset.saturating_add(len));
        self.checked(stop, |reader| {
            let mut digests = Vec::new();
            let mut block = vec![0; limits::BLOCK_BYTES];
            for at in (offset..end).step_by(limits::BLOCK_BYTES) {
                let want = (end - at).min(limits::BLOCK_BYTES as u64) as usize;
                let filled = fill(reader, at, &mut block[..want])?;
                if filled == 0 {
                    break;
                }
                digests.extend_from_slice(&blake3::hash(&block[..filled]).as_bytes()[..limits::DIGEST_BYTES]);
            }
            Ok(digests.into())
        })
    }

    /// For a copy: what cannot be read is not gone.
    fn checked(
        self,
        stop: &AtomicBool,
        read: impl FnOnce(&mut Reader<'_>) -> io::Result<Bytes>,
    ) -> Result<Seen, Errno> {
        let rotten = Cell::new(None);
        let bytes = self.reader(stop, &rotten).and_then(|mut reader| read(&mut reader));
        match (rotten.get(), bytes) {
            (Some(block), _) => Ok(Seen::Rotten(vec![block])),
            (None, Ok(bytes)) => Ok(Seen::Data(bytes)),
            (None, Err(error)) if error.kind() == ErrorKind::Interrupted => Err(Errno::ESTALE),
            (None, Err(_)) => Err(Errno::ENODATA),
        }
    }

    /// What messages there are (`mbox::identity`), in their order. Else as [`Leisure::answer`] of an index.
    ///
    /// Errors: as there.
    pub fn identities(self, stop: &AtomicBool) -> Result<Vec<[u8; 32]>, Errno> {
        let rotten = Cell::new(None);
        let reader = self.reader(stop, &rotten).map_err(|error| refusal(&error))?;
        match Index::read(reader) {
            Ok(index) => Ok(index.entries().map(|entry| entry.identity.0).collect()),
            Err(Unindexed::Source(error)) => Err(refusal(&error)),
            Err(Unindexed::TooMany) => Err(Errno::EFBIG),
        }
    }

    /// The index of its messages, as `mbox` encodes it, or a block that is in the way (R3). Takes some seconds for each GB, and
    /// memory for its messages, not
    /// its bytes. Gives up soon after `stop` is set.
    ///
    /// Errors: ENODATA if what the file was at the fork is damaged or not there; EFBIG if it has more messages than `mbox`
    /// takes; ESTALE if it cannot be read, or `stop` was set.
    fn index(self, stop: &AtomicBool) -> Result<Seen, Errno> {
        let rotten = Cell::new(None);
        let reader = self.reader(stop, &rotten).map_err(|error| refusal(&error))?;
        let index = Index::read(reader);
        if let Some(block) = rotten.get() {
            return Ok(Seen::Rotten(vec![block]));
        }
        match index {
            Ok(index) => Ok(Seen::Data(Bytes::from(index.encode()))),
            Err(Unindexed::Source(error)) => Err(refusal(&error)),
            Err(Unindexed::TooMany) => Err(Errno::EFBIG),
        }
    }

    fn reader<'a>(self, stop: &'a AtomicBool, rotten: &'a Cell<Option<u64>>) -> io::Result<Reader<'a>> {
        let mut kept = Vec::new();
        if let Some((key, medium, journal)) = &self.journal {
            kept = entries(medium, journal, *key, || go_on(stop))?;
            if kept.iter().any(|entry| !entry.sound) {
                return Err(ErrorKind::InvalidData.into());
            }
            kept.sort_unstable_by_key(|entry| entry.offset);
        }
        Ok(Reader {
            content: self,
            kept,
            block: None,
            rotten,
            stop,
        })
    }
}

/// Up to the end of the file.
fn fill(reader: &mut Reader<'_>, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buf.len() {
        match reader.read_at(offset + filled as u64, &mut buf[filled..])? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(filled)
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
    /// The last one that was checked.
    block: Option<(u64, Vec<u8>)>,
    /// R3
    rotten: &'a Cell<Option<u64>>,
    stop: &'a AtomicBool,
}

impl Reader<'_> {
    /// R3: bytes of the file itself, within one block.
    fn read_checked(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Some(sums) = &self.content.sums else {
            return self.content.file.read_at(buf, offset);
        };
        let number = offset / BLOCK;
        if self.block.as_ref().is_none_or(|(block, _)| *block != number) {
            let file = &self.content.file;
            let bytes = match good_block(sums, file, number)? {
                Some((_, good)) => good,
                None if self.content.raw => raw_block(file, number, sums.len_of(number))?,
                None => {
                    self.rotten.set(Some(number));
                    return Err(ErrorKind::InvalidData.into());
                }
            };
            self.block = Some((number, bytes));
        }
        let from = (offset % BLOCK) as usize; // less than BLOCK
        let rest = self
            .block
            .as_ref()
            .and_then(|(_, good)| good.get(from..))
            .unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }

    /// R2: where `offset` is, in the journal or (none) in the file itself, and up to which offset it goes on there.
    fn place(&self, offset: u64) -> (Option<&File>, u64, u64) {
        let behind = self.kept.partition_point(|entry| entry.offset <= offset);
        if let (Some(entry), Some((_, _, journal))) = (self.kept[..behind].last(), &self.content.journal) {
            let end = entry.offset + u64::from(entry.len);
            if offset < end {
                return (Some(journal), entry.at + (offset - entry.offset), end);
            }
        }
        let end = self.kept.get(behind).map_or(u64::MAX, |entry| entry.offset);
        (None, offset, end)
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
        let read = match file {
            Some(journal) => journal.read_at(&mut buf[..most], at)?,
            None => self.read_checked(at, &mut buf[..most])?,
        };
        if read == 0 && self.content.whole {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(read)
    }
}
