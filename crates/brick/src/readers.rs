//! Which files programs have read since this brick goes on alone: of the others no client of this side knows anything new
//! (`observed` of MAIL.md 6.1), and their messages on the other side keep their UIDs in a merge.
//!
//! Promises: a file that was read is named, or all count as read; mounts keep no bytes from before a view (`client`), so every
//! read of a program since is one of the brick. A brick that starts again does not know, and says that all were read.
//! Not here: what UIDs follow (`mbox::merge`).

use alloc::collections::BTreeSet;
use mboxfs_types::Ino;

/// None: not known.
#[derive(Debug, Default)]
pub(crate) struct Readers(Option<BTreeSet<Ino>>);

impl Readers {
    /// The fork is now.
    pub(crate) fn begin(&mut self) {
        self.0 = Some(BTreeSet::new());
    }

    /// Both are together.
    pub(crate) fn end(&mut self) {
        self.0 = None;
    }

    pub(crate) fn read(&mut self, ino: Ino) {
        if let Some(inodes) = &mut self.0 {
            inodes.insert(ino);
        }
    }

    pub(crate) fn may_have_read(&self, ino: Ino) -> bool {
        self.0.as_ref().is_none_or(|inodes| inodes.contains(&ino))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_may_have_been_read() {
        let mut readers = Readers::default();
        readers.read(Ino(1));
        assert!(readers.may_have_read(Ino(2)), "a brick that starts again");
        readers.begin();
        assert!(!readers.may_have_read(Ino(1)), "that was before the fork");
        readers.read(Ino(1));
        assert!(readers.may_have_read(Ino(1)) && !readers.may_have_read(Ino(2)));
    }
}
