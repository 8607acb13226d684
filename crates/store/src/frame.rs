//! Bytes of the log: the head of a segment, the head of a record.
//!
//! G1  A head is believed only with its checksum, which is seeded with the brick's identity: neither the log of another
//!     brick nor a letter that looks like a record is taken for one.
//! G2  `prev` is the checksum of the head before; it covers the body's checksum: equal chains are equal logs.
//! G3  `synced` is the last position that was durable when the record was written. A good record that says `synced >= n`
//!     proves that record n once was durable: if n is bad now, it has rotted. Without such a proof it was torn by a
//!     crash, since the sectors of one write reach the device in any order.
//!
//! Not here: files (`segment`), order (`log`).

use crc32fast::Hasher;
use mboxfs_types::ids::BrickUuid;

/// Bytes of the head of a record.
pub(crate) const HEAD_BYTES: usize = 40;
/// Where the first record of a segment begins: one sector for the segment's own head.
pub(crate) const SEGMENT_HEAD_BYTES: u64 = 512;
/// Records begin at multiples of this.
pub(crate) const ALIGN_BYTES: u64 = 8;
/// Longest body: a record of the largest size, with room.
pub(crate) const BODY_BYTES_MAX: usize = 4 << 20;

const RECORD_MAGIC: u32 = 0x6d62_7852;
const SEGMENT_MAGIC: &[u8; 8] = b"mboxfsL1";
const SEGMENT_HEAD_USED: usize = 28;

const _: () = assert!(BODY_BYTES_MAX > mboxfs_types::limits::MESSAGE_BYTES_MAX);
const _: () = assert!(SEGMENT_HEAD_BYTES.is_multiple_of(ALIGN_BYTES));

/// Seed of all checksums of one brick's log (G1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Salt(u32);

impl Salt {
    pub(crate) fn new(uuid: BrickUuid) -> Self {
        Self(crc32fast::hash(&uuid.0))
    }

    /// `prev` of the first record ever.
    pub(crate) const fn chain(self) -> u32 {
        self.0
    }

    fn crc(self, bytes: &[u8]) -> u32 {
        let mut hasher = Hasher::new_with_initial(self.0);
        hasher.update(bytes);
        hasher.finalize()
    }
}

/// Head of a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    /// Bytes of the body.
    pub(crate) len: u32,
    /// Position.
    pub(crate) n: u64,
    /// G3.
    pub(crate) synced: u64,
    /// G2.
    pub(crate) prev: u32,
    /// Checksum of the body.
    pub(crate) body: u32,
}

impl Head {
    /// Appends head and body to `out`; the checksum of the head, the next record's `prev`, is returned.
    pub(crate) fn put(self, body: &[u8], salt: Salt, out: &mut Vec<u8>) -> u32 {
        debug_assert_eq!(self.len as usize, body.len());
        let from = out.len();
        out.extend_from_slice(&RECORD_MAGIC.to_le_bytes());
        out.extend_from_slice(&self.len.to_le_bytes());
        out.extend_from_slice(&self.n.to_le_bytes());
        out.extend_from_slice(&self.synced.to_le_bytes());
        out.extend_from_slice(&self.prev.to_le_bytes());
        out.extend_from_slice(&self.body.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = salt.crc(&out[from..]);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(body);
        let frame = usize::try_from(frame_bytes(body.len())).expect("a body is a few MiB at most");
        out.resize(from + frame, 0);
        crc
    }

    /// The head in `bytes` and its checksum, if it is one.
    pub(crate) fn get(bytes: &[u8], salt: Salt) -> Option<(Self, u32)> {
        let bytes: &[u8; HEAD_BYTES] = bytes.get(..HEAD_BYTES)?.try_into().ok()?;
        if u32_at(bytes, 0) != RECORD_MAGIC {
            return None;
        }
        let crc = u32_at(bytes, 36);
        let head = Self {
            len: u32_at(bytes, 4),
            n: u64_at(bytes, 8),
            synced: u64_at(bytes, 16),
            prev: u32_at(bytes, 24),
            body: u32_at(bytes, 28),
        };
        let good = salt.crc(&bytes[..36]) == crc && head.len as usize <= BODY_BYTES_MAX;
        good.then_some((head, crc))
    }
}

/// Bytes that a record takes in a segment.
pub(crate) const fn frame_bytes(body: usize) -> u64 {
    (HEAD_BYTES as u64 + body as u64).next_multiple_of(ALIGN_BYTES)
}

/// Head of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHead {
    /// Position of its first record.
    pub(crate) first: u64,
    /// `prev` of its first record.
    pub(crate) chain: u32,
}

impl SegmentHead {
    /// One sector.
    pub(crate) fn encode(self, salt: Salt) -> Vec<u8> {
        let mut out = Vec::from(SEGMENT_MAGIC);
        out.extend_from_slice(&self.first.to_le_bytes());
        out.extend_from_slice(&self.chain.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        let crc = salt.crc(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        debug_assert_eq!(out.len(), SEGMENT_HEAD_USED);
        out.resize(usize::try_from(SEGMENT_HEAD_BYTES).expect("one sector"), 0);
        out
    }

    /// None: it is no segment of this brick.
    pub(crate) fn decode(bytes: &[u8], salt: Salt) -> Option<Self> {
        let bytes: &[u8; SEGMENT_HEAD_USED] = bytes.get(..SEGMENT_HEAD_USED)?.try_into().ok()?;
        let good = bytes.starts_with(SEGMENT_MAGIC) && salt.crc(&bytes[..24]) == u32_at(bytes, 24);
        good.then(|| Self {
            first: u64_at(bytes, 8),
            chain: u32_at(bytes, 16),
        })
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_survive_and_notice_any_changed_bit() {
        let salt = Salt::new(BrickUuid([7; 16]));
        let head = Head {
            len: 3,
            n: 9,
            synced: 8,
            prev: 5,
            body: crc32fast::hash(b"abc"),
        };
        let mut out = Vec::new();
        let crc = head.put(b"abc", salt, &mut out);
        assert_eq!(out.len() as u64, frame_bytes(3));
        assert_eq!(Head::get(&out, salt), Some((head, crc)));
        assert_eq!(Head::get(&out, Salt::new(BrickUuid([8; 16]))), None, "G1");
        for bit in 0..HEAD_BYTES * 8 {
            let mut bad = out.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Head::get(&bad, salt), None);
        }
        let segment = SegmentHead { first: 77, chain: 5 };
        let mut bytes = segment.encode(salt);
        assert_eq!(SegmentHead::decode(&bytes, salt), Some(segment));
        bytes[9] ^= 1;
        assert_eq!(SegmentHead::decode(&bytes, salt), None);
    }
}
