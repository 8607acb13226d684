//! One frame of the history: a head of 16 bytes and a body.
//!
//! Promises: a frame is read only where it follows the one before; what an older, longer end of the file left behind never does.
//!
//! Not here: what frames say (`history`).

use crate::medium::Medium;
use std::io;

pub(super) const HEAD_BYTES: usize = 16;
/// Bytes of a message in one frame.
pub(super) const PIECE_BYTES_MAX: usize = 256 << 10;
/// Entries are small, but for those that remove very many messages.
const BODY_BYTES_MAX: u32 = 1 << 30;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `types::history::Entry`.
    Entry,
    /// Of a removed message.
    Bytes,
}

/// A frame whose head is good.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) kind: Kind,
    /// Of its body.
    pub(super) at: u64,
    pub(super) len: u32,
    crc: u32,
    /// What the next head is chained to.
    pub(super) chain: u32,
}

/// What the first head of a segment is chained to.
pub(super) fn seed(segment: u64) -> u32 {
    crc32fast::hash(&segment.to_le_bytes())
}

fn chained(chain: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(chain);
    hasher.update(bytes);
    hasher.finalize()
}

/// The bytes, and what the next one is chained to.
pub(super) fn encode(kind: Kind, body: &[u8], chain: u32) -> (Vec<u8>, u32) {
    let mut bytes = Vec::with_capacity(HEAD_BYTES + body.len());
    let number: u32 = match kind {
        Kind::Entry => 1,
        Kind::Bytes => 2,
    };
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
    let chain = chained(chain, &bytes);
    bytes.extend_from_slice(&chain.to_le_bytes());
    bytes.extend_from_slice(body);
    (bytes, chain)
}

impl Frame {
    /// The frame at `at` of a file that counts up to `end`; none if there is none that follows `chain`.
    pub(super) fn read<M: Medium>(
        medium: &M,
        file: &M::File,
        end: u64,
        at: u64,
        chain: u32,
    ) -> io::Result<Option<Self>> {
        if at + HEAD_BYTES as u64 > end {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        medium.read_at(file, at, &mut head)?;
        let number = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let (len, next) = (number(0), number(12));
        let kind = match number(4) {
            1 => Kind::Entry,
            2 => Kind::Bytes,
            _ => return Ok(None),
        };
        let frame = Self {
            kind,
            at: at + HEAD_BYTES as u64,
            len,
            crc: number(8),
            chain: next,
        };
        let good = next == chained(chain, &head[..12]) && len <= BODY_BYTES_MAX && frame.end() <= end;
        Ok(good.then_some(frame))
    }

    /// Where the next frame begins.
    pub(super) const fn end(&self) -> u64 {
        self.at + self.len as u64
    }

    /// None: it is damaged.
    pub(super) fn body<M: Medium>(&self, medium: &M, file: &M::File) -> io::Result<Option<Vec<u8>>> {
        let mut body = vec![0; self.len as usize];
        medium.read_at(file, self.at, &mut body)?;
        Ok((crc32fast::hash(&body) == self.crc).then_some(body))
    }

    /// As `read`, of a message's bytes at `at`, whose chain is not known.
    pub(super) fn anywhere<M: Medium>(medium: &M, file: &M::File, end: u64, at: u64) -> io::Result<Option<Self>> {
        if at + HEAD_BYTES as u64 > end {
            return Ok(None);
        }
        let mut head = [0; HEAD_BYTES];
        medium.read_at(file, at, &mut head)?;
        let number = |i: usize| u32::from_le_bytes([head[i], head[i + 1], head[i + 2], head[i + 3]]);
        let frame = Self {
            kind: Kind::Bytes,
            at: at + HEAD_BYTES as u64,
            len: number(0),
            crc: number(8),
            chain: number(12),
        };
        let good = number(4) == 2 && frame.len as usize <= PIECE_BYTES_MAX && frame.end() <= end;
        Ok(good.then_some(frame))
    }
}
