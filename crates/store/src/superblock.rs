//! The superblock: the brick's memory of who it is, in two slots.
//!
//! Promises: B1 and B2 of `slots`; the incarnation and the generation never go back.
//! Not here: what is in it (`mboxfs_types::disk`).

use crate::{
    error::StoreError,
    log::Guard,
    medium::{DirMedium, Medium},
    slots::{Kind, Slots},
};
use mboxfs_types::{codec, disk::Superblock};
use std::{fmt, io};

/// File of the superblock; the last one that formatting makes.
pub(crate) const SUPERBLOCK: &str = "superblock";
const KIND: Kind = Kind {
    file: SUPERBLOCK,
    magic: b"mboxfsB1",
    fits: |content| codec::decode::<Superblock>(content).is_ok(),
};

/// Writes the superblock; the only one who does.
pub struct SuperblockWriter<M: Medium = DirMedium> {
    slots: Slots<M>,
    _guard: Guard,
}

impl<M: Medium> fmt::Debug for SuperblockWriter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.slots.fmt(f)
    }
}

impl<M: Medium> SuperblockWriter<M> {
    /// Makes the file, all or nothing.
    pub(crate) fn format(medium: &M, superblock: &Superblock) -> io::Result<()> {
        Slots::format(medium, KIND, superblock.format, &codec::encode(superblock))
    }

    /// Reads the newest good slot.
    pub(crate) fn open(medium: M, guard: Guard) -> Result<(Superblock, Self), StoreError> {
        let (content, slots) = Slots::open(medium, KIND, StoreError::Superblock)?;
        let superblock = codec::decode(&content).map_err(|_| StoreError::Superblock)?;
        let _guard = guard;
        Ok((superblock, Self { slots, _guard }))
    }

    /// Replaces the superblock; durable on return. A failure ends the writer.
    pub fn write(&mut self, superblock: &Superblock) -> io::Result<()> {
        self.slots.write(superblock.format, &codec::encode(superblock))
    }
}
