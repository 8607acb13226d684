//! The errors that cross a room's border, by their POSIX names.
//!
//! Promises: each name means what `errno(3)` says. Of the errors that are not true POSIX results of the call itself only
//! `ESTALE`, `EAGAIN` and `ENOSPC` exist, since mail software defers on those and bounces on others (law L9).
//! Not here: the numbers (`mount::reply` has the one table).

use serde::{Deserialize, Serialize};

/// A POSIX error name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[allow(missing_docs)]
#[repr(u8)]
pub enum Errno {
    ENOENT = 1,
    EEXIST,
    ENOTEMPTY,
    ENOTDIR,
    EISDIR,
    EAGAIN,
    ESTALE,
    ENOSPC,
    EINVAL,
    ENODATA,
    EXDEV,
    EMLINK,
    ENAMETOOLONG,
    EFBIG,
    EDEADLK,
    EPERM,
    ERANGE,
    EINTR,
    EOPNOTSUPP,
    EBADF,
    ELOOP,
}

impl Errno {
    /// All of them, in order: position + 1 is the number on the wire.
    pub const ALL: [Self; 21] = [
        Self::ENOENT,
        Self::EEXIST,
        Self::ENOTEMPTY,
        Self::ENOTDIR,
        Self::EISDIR,
        Self::EAGAIN,
        Self::ESTALE,
        Self::ENOSPC,
        Self::EINVAL,
        Self::ENODATA,
        Self::EXDEV,
        Self::EMLINK,
        Self::ENAMETOOLONG,
        Self::EFBIG,
        Self::EDEADLK,
        Self::EPERM,
        Self::ERANGE,
        Self::EINTR,
        Self::EOPNOTSUPP,
        Self::EBADF,
        Self::ELOOP,
    ];

    /// The number on the wire (not the kernel's).
    #[must_use]
    pub const fn code(self) -> u32 {
        self as u32
    }

    /// The error with this wire number, if there is one.
    #[must_use]
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.get(usize::try_from(code).ok()?.checked_sub(1)?).copied()
    }
}
