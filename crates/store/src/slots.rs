//! A few bytes that must never be lost nor go back: two copies in one file, each whole or not there.
//!
//! B1  A slot is magic, format, counter, length, checksum, content; the newest good one counts.
//! B2  A write goes first to the slot that is not known to be durable, and is durable when `write` returns; the other slot
//!     follows without a flush of its own. So a torn write leaves the one before, and a slot that rots leaves its twin:
//!     what was written last never goes back.
//!
//! Not here: what is in it (`superblock`, `register`).

use crate::{
    error::StoreError,
    medium::{DirMedium, Medium},
};
use mboxfs_types::limits;
use std::{fmt, io};

/// Bytes of one slot.
const SLOT_BYTES: usize = 64 << 10;
const HEAD_BYTES: usize = 28;
/// Bytes of content that fit.
pub(crate) const CONTENT_BYTES_MAX: usize = SLOT_BYTES - HEAD_BYTES;

/// What a file of slots is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    /// Its name.
    pub(crate) file: &'static str,
    /// First bytes of each slot.
    pub(crate) magic: &'static [u8; 8],
    /// Can this content be understood? If not, the slot is as good as damaged.
    pub(crate) fits: fn(&[u8]) -> bool,
}

/// Writes one file of slots; the only one who does.
pub(crate) struct Slots<M: Medium = DirMedium> {
    kind: Kind,
    medium: M,
    file: M::File,
    /// Of the last write.
    counter: u64,
    /// Slot written first next time.
    next: usize,
    failed: bool,
}

impl<M: Medium> fmt::Debug for Slots<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slots")
            .field("kind", &self.kind.file)
            .field("counter", &self.counter)
            .finish_non_exhaustive()
    }
}

/// What a slot holds.
enum Slot {
    Good { counter: u64, content: Vec<u8> },
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

fn encode(kind: Kind, counter: u64, format: u32, content: &[u8]) -> io::Result<Vec<u8>> {
    if content.len() > CONTENT_BYTES_MAX {
        let why = format!("{} bytes do not fit into the {}", content.len(), kind.file);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
    }
    let mut out = Vec::from(kind.magic);
    out.extend_from_slice(&format.to_le_bytes());
    out.extend_from_slice(&counter.to_le_bytes());
    out.extend_from_slice(&u32::try_from(content.len()).expect("below 64 KiB").to_le_bytes());
    let crc = checksum(&out, content);
    out.extend_from_slice(&crc.to_le_bytes());
    out.extend_from_slice(content);
    Ok(out)
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

fn decode(kind: Kind, slot: &[u8]) -> Slot {
    let number = |at: usize| u32::from_le_bytes(slot[at..at + 4].try_into().expect("four bytes"));
    if !slot.starts_with(kind.magic) {
        return Slot::Bad;
    }
    let format = number(8);
    let counter = u64::from_le_bytes(slot[12..20].try_into().expect("eight bytes"));
    let Some(content) = slot.get(HEAD_BYTES..HEAD_BYTES.saturating_add(number(20) as usize)) else {
        return Slot::Bad;
    };
    if checksum(&slot[..24], content) != number(24) {
        return Slot::Bad;
    }
    if format > limits::FORMAT_VERSION {
        return Slot::Newer { counter, format };
    }
    if !(kind.fits)(content) {
        return Slot::Bad;
    }
    let content = content.to_vec();
    Slot::Good { counter, content }
}

impl<M: Medium> Slots<M> {
    /// Makes the file, all or nothing.
    pub(crate) fn format(medium: &M, kind: Kind, format: u32, content: &[u8]) -> io::Result<()> {
        let mut both = encode(kind, 1, format, content)?;
        both.resize(SLOT_BYTES, 0);
        both.extend_from_within(..);
        medium.replace("", kind.file, &both)
    }

    /// Reads the newest good slot.
    ///
    /// Errors: [`StoreError::Newer`], or `bad` if there is no good one.
    pub(crate) fn open(medium: M, kind: Kind, bad: StoreError) -> Result<(Vec<u8>, Self), StoreError> {
        let io = |source| StoreError::Io { verb: "opened", source };
        let file = medium.open(kind.file).map_err(io)?;
        medium.settle(&file).map_err(io)?; // then both slots are durable, whatever they hold (B2)
        let mut bytes = vec![0; 2 * SLOT_BYTES];
        if medium.len(&file).map_err(io)? < bytes.len() as u64 {
            return Err(bad);
        }
        medium.read_at(&file, 0, &mut bytes).map_err(io)?;
        let (first, second) = bytes.split_at(SLOT_BYTES);
        let (first, second) = (decode(kind, first), decode(kind, second));
        let newest_is_second = second.counter() > first.counter();
        match if newest_is_second { second } else { first } {
            Slot::Good { counter, content } => {
                let slots = Self {
                    kind,
                    medium,
                    file,
                    counter,
                    next: usize::from(!newest_is_second),
                    failed: false,
                };
                Ok((content, slots))
            }
            Slot::Newer { format, .. } => Err(StoreError::Newer {
                found: format,
                known: limits::FORMAT_VERSION,
            }),
            Slot::Bad => Err(bad),
        }
    }

    /// Replaces the content; durable on return. A failure ends the writer.
    pub(crate) fn write(&mut self, format: u32, content: &[u8]) -> io::Result<()> {
        if self.failed {
            let why = format!(
                "the {} could not be written before and is not tried again",
                self.kind.file
            );
            return Err(io::Error::other(why));
        }
        self.failed = true; // until the flush has returned
        let bytes = encode(self.kind, self.counter + 1, format, content)?;
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
