//! Room that a brick keeps on its disk for what must not fail: a file of zeros, given up when the disk is full.
//!
//! Promises: what is acknowledged, expunged or healed finds room for some time on a disk that something else has filled to its
//! last block; the file is made again when there is room again.
//!
//! Not here: refusing mail before that (`brick`), which is told of the room without the reserve.

use crate::medium::{Medium, is_full};
use mboxfs_types::limits::RESERVE_BYTES;
use std::io::{self, ErrorKind};

const RESERVE: &str = "reserve";
/// Zeros written at once.
const ZEROS_BYTES: usize = 1 << 20;

/// Is it there, whole?
pub(crate) fn is_held<M: Medium>(medium: &M) -> io::Result<bool> {
    match medium.open(RESERVE) {
        Ok(file) => Ok(medium.len(&file)? >= RESERVE_BYTES),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes it, as far as there is room. Not synced: after a crash it may be shorter, and is made again.
pub(crate) fn hold<M: Medium>(medium: &M) -> io::Result<()> {
    let zeros = vec![0; ZEROS_BYTES];
    let make = || {
        let file = medium.create(RESERVE)?;
        (0..RESERVE_BYTES)
            .step_by(ZEROS_BYTES)
            .try_for_each(|at| medium.write_at(&file, at, &zeros))
    };
    match make() {
        Err(error) if is_full(&error) => give_up(medium).map(drop),
        result => result,
    }
}

/// Makes room. False: it was given up before.
pub(crate) fn give_up<M: Medium>(medium: &M) -> io::Result<bool> {
    match medium.open(RESERVE) {
        Ok(_) => medium.remove(RESERVE).map(|()| true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Does `change`, which can be done again, and gives up the reserve if there is no room for it otherwise.
pub(crate) fn with<M: Medium, T>(medium: &M, mut change: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match change() {
        Err(error) if is_full(&error) && give_up(medium)? => change(),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DirMedium;
    use std::sync::Arc;

    fn medium() -> (tempfile::TempDir, DirMedium) {
        let dir = tempfile::tempdir().unwrap();
        let fd = std::fs::File::open(dir.path()).unwrap().into();
        (dir, DirMedium::new(Arc::new(fd)))
    }

    #[test]
    fn it_is_given_up_once_and_only_when_the_disk_is_full() {
        let (_dir, medium) = medium();
        assert!(!is_held(&medium).unwrap());
        hold(&medium).unwrap();
        assert!(is_held(&medium).unwrap());
        let other = with(&medium, || Err::<(), _>(ErrorKind::PermissionDenied.into()));
        assert_eq!(other.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(is_held(&medium).unwrap(), "another failure costs nothing");
        let mut tries = 0;
        let full = with(&medium, || {
            tries += 1;
            if tries == 1 {
                Err(ErrorKind::StorageFull.into())
            } else {
                Ok(tries)
            }
        });
        assert_eq!(full.unwrap(), 2);
        assert!(!is_held(&medium).unwrap());
        let full = with(&medium, || Err::<(), _>(ErrorKind::StorageFull.into()));
        assert_eq!(
            full.unwrap_err().kind(),
            ErrorKind::StorageFull,
            "there is none any more"
        );
    }

    #[test]
    fn a_part_of_it_is_none() {
        let (dir, medium) = medium();
        hold(&medium).unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(dir.path().join(RESERVE))
            .unwrap();
        file.set_len(RESERVE_BYTES - 1).unwrap();
        assert!(!is_held(&medium).unwrap());
    }
}
