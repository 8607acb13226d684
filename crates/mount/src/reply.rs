//! Answers to the kernel, and the one table of errors.
//!
//! A1  Of L9's list (EIO, ENOTCONN, EROFS, EACCES, ENOLCK, ETIMEDOUT, EDQUOT) nothing can be said here at all.
//! A2  Every request is answered once; one that is dropped without an answer gets ESTALE, where the FUSE library alone
//!     would say EIO, which bounces mail.
//!
//! Not here: which answer (`client`).

use fuser::{
    FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory,
    ReplyEmpty, ReplyEntry, ReplyLock, ReplyOpen, ReplyStatfs, ReplyWrite, ReplyXattr,
};
use mboxfs_client::output::{Answer, Listed};
use mboxfs_types::{Attr, Errno, HeldLock, Kind, LockKind, Nanos, Timestamp, call::Space};
use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    time::{Duration, SystemTime},
};

/// `l_type` of `struct flock`.
pub(crate) const F_RDLCK: i32 = 0;
pub(crate) const F_WRLCK: i32 = 1;
pub(crate) const F_UNLCK: i32 = 2;
/// End of a lock that reaches "to the end, however far it grows", as the kernel says it; a larger number is EIO to it.
pub(crate) const OFFSET_MAX: u64 = i64::MAX as u64;
/// What the kernel then does by itself, and never asks for again. No program ever sees it.
pub(crate) const NOT_OFFERED: fuser::Errno = fuser::Errno::ENOSYS;
/// Block size of stat(2) and statfs(2).
const BLOCK: u32 = 4096;

/// The kernel's number for an error of ours.
pub(crate) const fn errno(e: Errno) -> fuser::Errno {
    use fuser::Errno as K;
    match e {
        Errno::ENOENT => K::ENOENT,
        Errno::EEXIST => K::EEXIST,
        Errno::ENOTEMPTY => K::ENOTEMPTY,
        Errno::ENOTDIR => K::ENOTDIR,
        Errno::EISDIR => K::EISDIR,
        Errno::EAGAIN => K::EAGAIN,
        Errno::ESTALE => K::ESTALE,
        Errno::ENOSPC => K::ENOSPC,
        Errno::EINVAL => K::EINVAL,
        Errno::ENODATA => K::ENODATA,
        Errno::EXDEV => K::EXDEV,
        Errno::EMLINK => K::EMLINK,
        Errno::ENAMETOOLONG => K::ENAMETOOLONG,
        Errno::EFBIG => K::EFBIG,
        Errno::EDEADLK => K::EDEADLK,
        Errno::EPERM => K::EPERM,
        Errno::ERANGE => K::ERANGE,
        Errno::EINTR => K::EINTR,
        Errno::EOPNOTSUPP => K::EOPNOTSUPP,
        Errno::EBADF => K::EBADF,
        Errno::ELOOP => K::ELOOP,
    }
}

/// Where an answer goes, and what is needed to write it.
#[derive(Debug)]
pub(crate) enum To {
    Empty(ReplyEmpty),
    Entry(ReplyEntry),
    Attr(ReplyAttr),
    Data(ReplyData),
    Open(ReplyOpen),
    OpenDir(ReplyOpen),
    Create(ReplyCreate),
    Write(ReplyWrite),
    Dir(ReplyDirectory),
    Statfs(ReplyStatfs),
    /// With the size of the caller's buffer; 0 asks for the length.
    Xattr(ReplyXattr, u32),
    /// With the range that was asked about.
    Lock(ReplyLock, u64, u64),
}

impl To {
    fn fail(self, e: Errno) {
        let e = errno(e);
        match self {
            Self::Empty(to) => to.error(e),
            Self::Entry(to) => to.error(e),
            Self::Attr(to) => to.error(e),
            Self::Data(to) => to.error(e),
            Self::Open(to) | Self::OpenDir(to) => to.error(e),
            Self::Create(to) => to.error(e),
            Self::Write(to) => to.error(e),
            Self::Dir(to) => to.error(e),
            Self::Statfs(to) => to.error(e),
            Self::Xattr(to, _) => to.error(e),
            Self::Lock(to, ..) => to.error(e),
        }
    }

    fn say(self, answer: Answer) {
        match (self, answer) {
            (Self::Empty(to), Answer::Empty) => to.ok(),
            (
                Self::Entry(to),
                Answer::Entry {
                    attr: a,
                    entry_ttl,
                    attr_ttl,
                },
            ) => {
                to.entry_with_ttls(&ttl(attr_ttl), &ttl(entry_ttl), &attr(&a), Generation(0));
            }
            (Self::Attr(to), Answer::Attr { attr: a, ttl: t }) => to.attr(&ttl(t), &attr(&a)),
            (Self::Data(to), Answer::Data(bytes)) => to.data(&bytes),
            (Self::Open(to), Answer::Opened { fh, dotlock }) => to.opened(FileHandle(fh.0), open_flags(dotlock)),
            (Self::OpenDir(to), Answer::Opened { fh, .. }) => to.opened(FileHandle(fh.0), FopenFlags::empty()),
            (
                Self::Create(to),
                Answer::Created {
                    attr: a,
                    fh,
                    dotlock,
                    entry_ttl,
                    attr_ttl,
                },
            ) => {
                // The FUSE library has one time for both here.
                let t = ttl(entry_ttl.min(attr_ttl));
                to.created(&t, &attr(&a), Generation(0), FileHandle(fh.0), open_flags(dotlock));
            }
            (Self::Write(to), Answer::Written(n)) => to.written(n),
            (Self::Dir(to), Answer::Entries(entries)) => list(to, &entries),
            (Self::Statfs(to), Answer::Space(space)) => statfs(to, space),
            (Self::Xattr(to, size), Answer::Data(bytes)) => xattr(to, size, &bytes),
            (Self::Xattr(to, size), Answer::Names(names)) => {
                let text: Vec<u8> = names.iter().flat_map(|n| n.iter().copied().chain([0])).collect();
                xattr(to, size, &text);
            }
            (Self::Lock(to, start, end), Answer::Lock(None)) => to.locked(start, end, F_UNLCK, 0),
            (Self::Lock(to, ..), Answer::Lock(Some(held))) => locked(to, held),
            (to, odd) => {
                tracing::error!("an answer of the wrong kind: {odd:?} to {to:?}");
                to.fail(Errno::ESTALE);
            }
        }
    }
}

/// A request that waits for its answer (A2).
#[derive(Debug)]
pub(crate) struct Reply(Option<To>);

impl Reply {
    pub(crate) const fn new(to: To) -> Self {
        Self(Some(to))
    }

    pub(crate) fn answer(mut self, result: Result<Answer, Errno>) {
        let Some(to) = self.0.take() else { return };
        match result {
            Ok(answer) => to.say(answer),
            Err(e) => to.fail(e),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(to) = self.0.take() {
            to.fail(Errno::ESTALE);
        }
    }
}

fn open_flags(dotlock: bool) -> FopenFlags {
    // A dotlock has no content worth a FLUSH; for any other file FLUSH is what releases POSIX locks at close.
    if dotlock {
        FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH
    } else {
        FopenFlags::FOPEN_DIRECT_IO
    }
}

fn list(mut to: ReplyDirectory, entries: &[Listed]) {
    for e in entries {
        if to.add(INodeNo(e.ino.0), e.offset, kind(e.kind), OsStr::from_bytes(&e.name)) {
            break; // full; the kernel asks on from the last offset that fitted
        }
    }
    to.ok();
}

fn statfs(to: ReplyStatfs, s: Space) {
    let free = s.free / u64::from(BLOCK);
    to.statfs(
        s.total / u64::from(BLOCK),
        free,
        free,
        s.inodes,
        s.inodes_free,
        BLOCK,
        255,
        BLOCK,
    );
}

/// getxattr(2), listxattr(2): size 0 asks for the length; too little room is ERANGE.
pub(crate) fn xattr(to: ReplyXattr, size: u32, bytes: &[u8]) {
    match u32::try_from(bytes.len()) {
        Ok(len) if size == 0 => to.size(len),
        Ok(len) if len <= size => to.data(bytes),
        _ => to.error(errno(Errno::ERANGE)),
    }
}

fn locked(to: ReplyLock, held: HeldLock) {
    let typ = if held.kind == LockKind::Shared {
        F_RDLCK
    } else {
        F_WRLCK
    };
    to.locked(
        held.range.start.min(OFFSET_MAX),
        held.range.end.min(OFFSET_MAX),
        typ,
        held.pid,
    );
}

const fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
    }
}

fn attr(a: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(a.ino.0),
        size: a.size,
        blocks: a.size.div_ceil(512),
        atime: time(a.atime),
        mtime: time(a.mtime),
        ctime: time(a.ctime),
        crtime: time(a.ctime),
        kind: kind(a.kind),
        perm: (a.mode & 0o7777) as u16,
        nlink: a.nlink,
        uid: a.uid,
        gid: a.gid,
        rdev: 0,
        blksize: BLOCK,
        flags: 0,
    }
}

const fn ttl(t: Nanos) -> Duration {
    Duration::from_nanos(t.0)
}

/// Times that do not fit (no file has them) become 1970.
fn time(t: Timestamp) -> SystemTime {
    let whole = Duration::from_secs(t.secs.unsigned_abs());
    let epoch = SystemTime::UNIX_EPOCH;
    let secs = if t.secs < 0 {
        epoch.checked_sub(whole)
    } else {
        epoch.checked_add(whole)
    };
    secs.and_then(|s| s.checked_add(Duration::from_nanos(t.nanos.into())))
        .unwrap_or(epoch)
}

/// A time that the FUSE library decoded. Before 1970 it takes `nanos` off where the kernel meant them added: undone here.
pub(crate) fn timestamp(t: SystemTime) -> Timestamp {
    let (sign, d) = match t.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => (1, after),
        Err(before) => (-1, before.duration()),
    };
    Timestamp {
        secs: i64::try_from(d.as_secs()).map_or(i64::MAX, |s| sign * s),
        nanos: d.subsec_nanos(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_number_of_its_own_and_none_bounces_mail() {
        // EIO, ENOTCONN, EROFS, EACCES, ENOLCK, ETIMEDOUT, EDQUOT
        let bounces = [5, 107, 30, 13, 37, 110, 122];
        let mut seen = Vec::new();
        for e in Errno::ALL {
            let code = errno(e).code();
            assert!(!bounces.contains(&code), "L9: {e:?}");
            assert_eq!(std::io::Error::from_raw_os_error(code).raw_os_error(), Some(code));
            assert!(!seen.contains(&code), "{e:?} has the number of another one");
            seen.push(code);
        }
        assert_eq!(errno(Errno::ESTALE).code(), 116);
        assert_eq!(errno(Errno::EAGAIN).code(), 11);
        assert_eq!(errno(Errno::ENOSPC).code(), 28);
        assert_eq!(errno(Errno::ENODATA).code(), 61);
    }

    #[test]
    fn times_go_both_ways() {
        for (secs, nanos) in [(0, 0), (1_790_000_000, 999_999_999), (-2, 0)] {
            let t = Timestamp { secs, nanos };
            assert_eq!(timestamp(time(t)), t);
        }
        let early = time(Timestamp {
            secs: -2,
            nanos: 800_000_000,
        });
        assert_eq!(
            SystemTime::UNIX_EPOCH.duration_since(early).unwrap(),
            Duration::from_millis(1200)
        );
        // As `fuser::time::system_time_from_time(-2, 800_000_000)` says it.
        let decoded = SystemTime::UNIX_EPOCH - Duration::new(2, 800_000_000);
        assert_eq!(
            timestamp(decoded),
            Timestamp {
                secs: -2,
                nanos: 800_000_000
            }
        );
        for secs in [i64::MIN, i64::MAX] {
            let _ = time(Timestamp {
                secs,
                nanos: 999_999_999,
            });
        }
    }

    #[test]
    fn only_dotlocks_are_closed_unheard() {
        assert!(open_flags(true).contains(FopenFlags::FOPEN_NOFLUSH));
        assert_eq!(open_flags(false), FopenFlags::FOPEN_DIRECT_IO);
    }
}
