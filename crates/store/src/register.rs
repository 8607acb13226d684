//! The witness's directory: one file with its registers, in two slots.
//!
//! Promises: B1 and B2 of `slots`; a directory is a brick's or a witness's, never both; one process has it open at a time.
//! Not here: what the registers say (`brick::witness`), the port (`brickd`).

use crate::{
    error::StoreError,
    medium::{DirMedium, Medium},
    slots::{Kind, Slots},
    store::{Inspection, inspect, lock_dir, open_data},
};
use mboxfs_types::limits;
use rustix::fd::OwnedFd;
use std::{io, path::Path, sync::Arc};

/// The only file in the directory.
pub(crate) const REGISTERS: &str = "mboxfs-witness";
const KIND: Kind = Kind {
    file: REGISTERS,
    magic: b"mboxfsW1",
    fits: |_| true,
};

/// The registers of a witness on its disk. Its directory is this process's for as long as this lives.
#[derive(Debug)]
pub struct RegisterFile {
    slots: Slots,
    _lock: Arc<OwnedFd>,
}

impl RegisterFile {
    /// Opens the witness's directory; an empty one becomes one, with `empty` in it. Returns what was written last.
    ///
    /// Errors: [`StoreError::AlreadyABrick`], [`StoreError::Foreign`], [`StoreError::Locked`],
    /// [`StoreError::Registers`] if both copies are damaged, or the filesystem's.
    pub fn open(data: &Path, empty: &[u8]) -> Result<(Vec<u8>, Self), StoreError> {
        let io = |source| StoreError::Io { verb: "opened", source };
        let path = || data.to_path_buf();
        let dir = Arc::new(open_data(data)?);
        lock_dir(&dir, data)?;
        let medium = DirMedium::new(Arc::clone(&dir));
        match inspect(data)? {
            Inspection::Witness => {}
            Inspection::Empty => Slots::format(&medium, KIND, limits::FORMAT_VERSION, empty).map_err(io)?,
            Inspection::Brick | Inspection::HalfMade { .. } => return Err(StoreError::AlreadyABrick { path: path() }),
            // What a cut-off start left.
            Inspection::Foreign { example } if example == format!("{REGISTERS}{}", crate::medium::TEMP_SUFFIX) => {
                Slots::format(&medium, KIND, limits::FORMAT_VERSION, empty).map_err(io)?;
            }
            Inspection::Foreign { example } => return Err(StoreError::Foreign { path: path(), example }),
        }
        medium.sync_dir("").map_err(io)?;
        let (content, slots) = Slots::open(medium, KIND, StoreError::Registers)?;
        Ok((content, Self { slots, _lock: dir }))
    }

    /// Replaces them; durable on return. After an error nothing may be told any more: the process ends.
    ///
    /// Errors: the filesystem's; more than 64 KiB.
    pub fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.slots.write(limits::FORMAT_VERSION, content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::ids::BrickUuid;
    use std::{fs, os::unix::fs::FileExt};

    fn open(data: &Path) -> Result<(Vec<u8>, RegisterFile), StoreError> {
        RegisterFile::open(data, b"empty")
    }

    #[test]
    fn what_was_written_last_is_read_also_with_a_torn_slot() {
        let dir = tempfile::tempdir().unwrap();
        let (content, mut file) = open(dir.path()).unwrap();
        assert_eq!(content, b"empty");
        file.write(b"one").unwrap();
        file.write(b"two").unwrap();
        assert!(matches!(open(dir.path()), Err(StoreError::Locked { .. })));
        drop(file);
        let path = dir.path().join(REGISTERS);
        for slot in [0, 64 << 10] {
            let whole = fs::read(&path).unwrap();
            let raw = fs::File::options().write(true).open(&path).unwrap();
            raw.write_all_at(&[0xff; 9], slot + 25).unwrap();
            assert_eq!(open(dir.path()).unwrap().0, b"two", "slot at {slot}");
            raw.write_all_at(&whole, 0).unwrap();
        }
        let raw = fs::File::options().write(true).open(&path).unwrap();
        for slot in [0, 64 << 10] {
            raw.write_all_at(&[0xff; 9], slot + 25).unwrap();
        }
        // Never taken for a fresh one: an amnesiac witness would let both go on.
        assert!(matches!(open(dir.path()), Err(StoreError::Registers)));
    }

    #[test]
    fn a_brick_is_no_witness_and_a_witness_no_brick() {
        let brick = tempfile::tempdir().unwrap();
        crate::format(brick.path(), BrickUuid([1; 16])).unwrap();
        assert!(matches!(open(brick.path()), Err(StoreError::AlreadyABrick { .. })));
        let witness = tempfile::tempdir().unwrap();
        drop(open(witness.path()).unwrap());
        for refused in [
            crate::format(witness.path(), BrickUuid([1; 16])).unwrap_err(),
            crate::Opened::open(witness.path()).unwrap_err(),
        ] {
            assert!(matches!(refused, StoreError::Witness { .. }), "{refused}");
        }
        let other = tempfile::tempdir().unwrap();
        fs::write(other.path().join("x"), "").unwrap();
        assert!(matches!(open(other.path()), Err(StoreError::Foreign { .. })));
    }
}
