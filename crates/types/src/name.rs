//! Names in directories, and the unit of coherence that they form.
//!
//! Promises: a [`Name`] is one path component: 1 to 255 bytes, no slash, no NUL, not `.` or `..`. Every name belongs to
//! exactly one [`Group`]: a mailbox `M` and its dotlock `M.lock` share one, so that one lease covers a delivery.
//! Not here: which names exist (`brick`), what a dotlock does (`client`).

use crate::{Errno, Ino};
use alloc::vec::Vec;
use core::fmt;
use serde::{Deserialize, Serialize};

const DOTLOCK_SUFFIX: &[u8] = b".lock";

/// One component of a path.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Name(Vec<u8>);

impl Name {
    /// Checks and keeps `bytes`.
    ///
    /// Errors: `ENAMETOOLONG` over 255 bytes; `EINVAL` when empty, `.`, `..`, or with a slash or NUL inside.
    pub fn new(bytes: &[u8]) -> Result<Self, Errno> {
        if bytes.len() > 255 {
            return Err(Errno::ENAMETOOLONG);
        }
        if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.iter().any(|b| *b == b'/' || *b == 0) {
            return Err(Errno::EINVAL);
        }
        Ok(Self(bytes.to_vec()))
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// `M.lock`: an entry in the lock table, never a file. `.lock` alone is an ordinary name.
    #[must_use]
    pub fn is_dotlock(&self) -> bool {
        self.0.len() > DOTLOCK_SUFFIX.len() && self.0.ends_with(DOTLOCK_SUFFIX)
    }

    /// The mailbox name of the group: `M` for both `M` and `M.lock`. `M.lock.lock` belongs to no file's group but its own
    /// (only one suffix is taken off).
    #[must_use]
    pub fn stem(&self) -> Self {
        if self.is_dotlock() {
            Self(self.0[..self.0.len() - DOTLOCK_SUFFIX.len()].to_vec())
        } else {
            self.clone()
        }
    }
}

impl TryFrom<Vec<u8>> for Name {
    type Error = &'static str;
    fn try_from(bytes: Vec<u8>) -> Result<Self, Self::Error> {
        Self::new(&bytes).map_err(|_| "not a file name")
    }
}

impl From<Name> for Vec<u8> {
    fn from(name: Name) -> Self {
        name.0
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// A mailbox name in a directory, with its dotlock: what a name lease covers.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Group {
    /// Inode of the directory.
    pub dir: Ino,
    /// The mailbox name; never itself a dotlock of one level.
    pub stem: Name,
}

impl Group {
    /// The group that `name` in `dir` belongs to.
    #[must_use]
    pub fn of(dir: Ino, name: &Name) -> Self {
        Self { dir, stem: name.stem() }
    }
}

/// What a lease is held on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Key {
    /// The names of a group: does the mailbox exist, which inode is it, who holds its dotlock.
    Name(Group),
    /// An inode: attributes, content, fcntl and flock locks.
    Inode(Ino),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mailbox_and_its_dotlock_share_a_group() {
        let name = |s: &[u8]| Name::new(s).unwrap();
        assert_eq!(
            Group::of(Ino::ROOT, &name(b"alice")),
            Group::of(Ino::ROOT, &name(b"alice.lock"))
        );
        assert!(name(b"alice.lock").is_dotlock());
        assert!(!name(b".lock").is_dotlock());
        assert!(!name(b"alice.lock.tmp").is_dotlock());
    }

    #[test]
    fn names_that_are_no_component_are_refused() {
        for bad in [&b""[..], b".", b"..", b"a/b", b"a\0b"] {
            assert_eq!(Name::new(bad), Err(Errno::EINVAL));
        }
        assert_eq!(Name::new(&[b'x'; 256]), Err(Errno::ENAMETOOLONG));
        assert!(crate::codec::decode::<Name>(&crate::codec::encode(&alloc::vec![b'/'])).is_err());
    }
}
