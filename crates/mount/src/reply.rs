//! Answers to the kernel, and the one table of errors.
//!
//! Promises: of L9's list (EIO, ENOTCONN, EROFS, EACCES, ENOLCK, ETIMEDOUT, EDQUOT) nothing can be said here at all.
//! Not here: which answer (`client`).

use fuser::{FileAttr, FileType, INodeNo};
use mboxfs_client::output::Answer;
use mboxfs_types::{Attr, Errno, Kind, Nanos, Timestamp};
use std::time::{Duration, SystemTime};

/// Answers one call.
pub(crate) type Reply = Box<dyn FnOnce(Result<Answer, Errno>) + Send>;

/// The kernel's number.
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

fn time(t: Timestamp) -> SystemTime {
    // Times before 1970 are not kept right by the FUSE library; mail has none.
    SystemTime::UNIX_EPOCH + Duration::new(u64::try_from(t.secs).unwrap_or(0), t.nanos)
}

pub(crate) fn timestamp(t: SystemTime) -> Timestamp {
    let d = t.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        secs: i64::try_from(d.as_secs()).unwrap_or(i64::MAX),
        nanos: d.subsec_nanos(),
    }
}

pub(crate) const fn kind(kind: Kind) -> FileType {
    match kind {
        Kind::File => FileType::RegularFile,
        Kind::Dir => FileType::Directory,
        Kind::Symlink => FileType::Symlink,
    }
}

pub(crate) fn attr(a: &Attr) -> FileAttr {
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
        blksize: 4096,
        flags: 0,
    }
}

pub(crate) const fn ttl(t: Nanos) -> Duration {
    Duration::from_nanos(t.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_error_bounces_mail() {
        let bounces = [5, 107, 30, 13, 37, 110, 122];
        for e in Errno::ALL {
            assert!(!bounces.contains(&errno(e).code()), "L9: {e:?}");
        }
    }
}
