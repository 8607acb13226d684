//! Identities: what is never reused and never guessed.
//!
//! Promises: each id is unique for the life of a volume, also across forks of its history.
//! Not here: how ids are handed out (`brick`).

use core::{fmt, str::FromStr};
use serde::{Deserialize, Serialize};

/// Which of the two bricks of a volume: 0 or 1, fixed when the volume is created.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum BrickId {
    /// Brick1 of `volume info`: the first one named at `volume create`; it accepts the peer stream.
    A,
    /// Brick2 of `volume info`; it dials the peer stream.
    B,
}

impl BrickId {
    /// The other brick of the pair.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    /// 0 for A, 1 for B.
    #[must_use]
    pub const fn index(self) -> u8 {
        match self {
            Self::A => 0,
            Self::B => 1,
        }
    }

    /// The brick with this index. Errors: none for anything but 0 and 1.
    #[must_use]
    pub const fn from_index(index: u32) -> Option<Self> {
        match index {
            0 => Some(Self::A),
            1 => Some(Self::B),
            _ => None,
        }
    }
}

/// Identity of a volume: random, 16 bytes, shown as a UUID.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct VolumeId(pub [u8; 16]);

/// Identity of a brick directory: random, made once when the directory is formatted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct BrickUuid(pub [u8; 16]);

/// SHA-256 of a host's public key (its SubjectPublicKeyInfo): by this hosts know one another. Shown as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Fingerprint {
    type Err = ();

    /// Errors: it is not 64 hex digits.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(());
        }
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).map_err(|_| ())?;
        }
        Ok(Self(bytes))
    }
}

/// Inode number (gfid): `brick:1 | incarnation:31 | counter:32`; 1 is the root. Never reused (PROTOCOL.md section 1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, Default)]
pub struct Ino(pub u64);

impl Ino {
    /// The root directory of the volume.
    pub const ROOT: Self = Self(1);

    /// The inode number number `counter` of incarnation `inc` (below 2^31) of `brick`.
    #[must_use]
    pub const fn new(brick: BrickId, inc: u32, counter: u32) -> Self {
        Self(((brick.index() as u64) << 63) | ((inc as u64 & 0x7fff_ffff) << 32) | counter as u64)
    }
}

impl fmt::Display for Ino {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One life of one mount: the client's id and a nonce drawn when it started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct SessionId {
    /// Stable for a mount point on a host.
    pub client: [u8; 16],
    /// Drawn anew each time that the mount starts, or finds itself expired.
    pub nonce: u64,
}

impl SessionId {
    /// The primary itself, when it merges or repairs. No mount has this id: theirs are drawn at random.
    pub const HEAL: Self = Self {
        client: [0; 16],
        nonce: 0,
    };
}

/// One request of one session; executed at most once, whichever brick it reaches and however often.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct OpId {
    /// Who asks.
    pub session: SessionId,
    /// The session's own count, from 1, without gaps.
    pub seq: u64,
}

/// A generation: who is a member. Users read it as *epoch*. A brick that goes on alone starts a new one with a nonce,
/// so that two bricks that each went on alone can never be mistaken for one another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct GenId {
    /// Counts up.
    pub num: u32,
    /// Index of the brick that started it.
    pub brick: u8,
    /// Random.
    pub nonce: u32,
}

/// The number of a log record: position, generation, view. `(n, g, v)` names one record, ever.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Tag {
    /// Position in the log, from 1, dense.
    pub n: u64,
    /// Generation.
    pub g: GenId,
    /// View inside the generation: counts the handshakes and restarts.
    pub v: u32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn a_fingerprint_is_64_hex_digits() {
        let shown = Fingerprint(core::array::from_fn(|i| i as u8 * 7)).to_string();
        assert_eq!((shown.len(), &shown[..6]), (64, "00070e"));
        assert_eq!(shown.parse::<Fingerprint>().map(|f| f.0[2]), Ok(14));
        for bad in ["", &shown[1..], "+f".repeat(32).as_str(), "\u{e4}".repeat(32).as_str()] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(()), "{bad}");
        }
    }
}
