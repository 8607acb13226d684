//! The superblock: two copies in one file, each whole or not there.
//!
//! B1  A slot is magic, format, counter, length, checksum, encoded [`Superblock`]; the newest good one counts.
//! B2  A write goes first to the slot that is not known to be durable, and is durable when `write` returns; the other slot
//!     follows without a flush of its own. So a torn write leaves the one before, and a slot that rots leaves its twin:
//!     the incarnation and the generation never go back.
//!
//! Not here: what is in it (`mboxfs_types::disk`).

use crate::{
    error::StoreError,
    log::Guard,
    medium::{DirMedium, Medium},
};
use mboxfs_types::{codec, disk::Superblock, limits};
use std::{fmt, io};

/// File of the superblock; the last one that formatting makes.
pub(crate) const SUPERBLOCK: &str = "superblock";
const MAGIC: &[u8; 8] = b"mboxfsB1";
/// Bytes of one slot.
const SLOT_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 28;

/// Writes the superblock; the only one who does.
pub struct SuperblockWriter<M: Medium = DirMedium> {
    medium: M,
    file: M::File,
    /// Of the last write.
    counter: u64,
    /// Slot written first next time.
    next: usize,
    failed: bool,
    _guard: Guard,
}

impl<M: Medium> fmt::Debug for SuperblockWriter<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SuperblockWriter")
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// What a slot holds.
enum Slot {
    Good { counter: u64, superblock: Superblock },
    Newer { counter: u64, format: u32 },
    Bad,
}

impl Slot {
    const fn counter(&self) -> Option<u64> {
        match self {
            Self::Good { counter, .. } | Self::Newer { counter, .. } => Some(*counter),
            Self::Bad => None,
        }
    }
}

fn encode(counter: u64, superblock: &Superblock) -> io::Result<Vec<u8>> {
    let body = codec::encode(superblock);
    if body.len() > SLOT_BYTES - HEAD_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the superblock is too long: its history was not pruned",
        ));
    }
    let mut out = Vec::from(MAGIC);
    out.extend_from_slice(&superblock.format.to_le_bytes());
    out.extend_from_slice(&counter.to_le_bytes());
    out.extend_from_slice(&u32::try_from(body.len()).expect("below 64 KiB").to_le_bytes());
    let crc = checksum(&out, &body);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(&body);
    Ok(out)
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

fn decode(slot: &[u8]) -> Slot {
    let number = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().expect("four bytes"));
    if !slot.starts_with(MAGIC) {
        return Slot::Bad;
    }
    let format = number(8);
    let counter = u64::from_le_bytes(slot[12..20].try_into().expect("eight bytes"));
    let Some(body) = slot.get(HEAD_BYTES..HEAD_BYTES.saturating_add(number(20) as usize)) else {
        return Slot::Bad;
    };
    if checksum(&slot[..24], body) != number(24) {
        return Slot::Bad;
    }
    if format > limits::FORMAT_VERSION {
        return Slot::Newer { counter, format };
    }
    // Bricks of before merges know of no `giving_up`, the last field: it is none there, which is a zero.
    let superblock = codec::decode(body).or_else(|_| codec::decode(&[body, &[0]].concat()));
    superblock.map_or(Slot::Bad, |superblock| Slot::Good { counter, superblock })
}

impl<M: Medium> SuperblockWriter<M> {
    /// Makes the file, all or nothing.
    pub(crate) fn format(medium: &M, superblock: &Superblock) -> io::Result<()> {
        let mut both = encode(1, superblock)?;
        both.resize(SLOT_BYTES, 0);
        both.extend_from_within(..);
        medium.replace("", SUPERBLOCK, &both)
    }

    /// Reads the newest good slot.
    pub(crate) fn open(medium: M, guard: Guard) -> Result<(Superblock, Self), StoreError> {
        let io = |source| StoreError::Io { verb: "opened", source };
        let file = medium.open(SUPERBLOCK).map_err(io)?;
        medium.settle(&file).map_err(io)?; // then both slots are durable, whatever they hold (B2)
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        if medium.len(&file).map_err(io)? < bytes.len() as u64 {
            return Err(StoreError::Superblock);
        }
        medium.read_at(&file, 0, &mut bytes).map_err(io)?;
        let (first, second) = bytes.split_at(SLOT_BYTES);
        let (first, second) = (decode(first), decode(second));
        let newest_is_second = second.counter() > first.counter();
        let newest = if newest_is_second { second } else { first };
        match newest {
            Slot::Good { counter, superblock } => {
                let writer = Self {
                    medium,
                    file,
                    counter,
                    next: usize::from(!newest_is_second),
                    failed: false,
                    _guard: guard,
                };
                Ok((superblock, writer))
            }
            Slot::Newer { format, .. } => Err(StoreError::Newer {
                found: format,
                known: limits::FORMAT_VERSION,
            }),
            Slot::Bad => Err(StoreError::Superblock),
        }
    }

    /// Replaces the superblock; durable on return. A failure ends the writer.
    pub fn write(&mut self, superblock: &Superblock) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "the superblock could not be written before and is not tried again",
            ));
        }
        self.failed = true; // until the flush has returned
        let bytes = encode(self.counter + 1, superblock)?;
        let offset = |slot: usize| (slot * SLOT_BYTES) as u64;
        self.medium.append(&self.file, offset(self.next), &bytes)?;
        self.counter += 1;
        self.next = 1 - self.next;
        // B2: no flush; if this one is torn the one above stands, and it is the first to be written next time.
        self.medium.write_at(&self.file, offset(self.next), &bytes)?;
        self.failed = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Options, format_medium, lossy::LossyMedium};
    use mboxfs_types::ids::BrickUuid;

    #[test]
    fn a_superblock_of_before_merges_is_read() {
        let medium = LossyMedium::new();
        format_medium(&medium, BrickUuid([1; 16]), &Options::default()).unwrap();
        let (superblock, _) = SuperblockWriter::open(medium.clone(), None).unwrap();
        let mut slot = encode(7, &superblock).unwrap();
        let body = slot.len() - 1;
        assert_eq!(slot.pop(), Some(0), "giving_up, none");
        slot[20..24].copy_from_slice(&u32::try_from(body - HEAD_BYTES).unwrap().to_le_bytes());
        let crc = checksum(&slot[..24], &slot[HEAD_BYTES..]);
        slot[24..28].copy_from_slice(&crc.to_le_bytes());
        slot.resize(SLOT_BYTES, 0);
        let file = medium.open(SUPERBLOCK).unwrap();
        medium.append(&file, SLOT_BYTES as u64, &slot).unwrap();
        let (old, writer) = SuperblockWriter::open(medium, None).unwrap();
        assert_eq!((old, writer.counter), (superblock, 7));
    }
}
