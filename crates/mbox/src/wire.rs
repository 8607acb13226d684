//! The byte form of what bricks keep and send: magic, version, fields, checksum.
//!
//! W1  One value has one form, and a form that decodes gives back the value it was made from.
//! W2  Any bytes may come; what is not whole, not ours or not possible is refused, before memory is taken for it.
//!
//! Numbers are LEB128 varints, least significant group first; byte strings carry their length in front; the checksum is
//! CRC-32 (IEEE 802.3) of everything before it, little endian.
//!
//! Not here: the fields.

use alloc::vec::Vec;
use core::fmt;

const CHECKSUM_LEN: usize = 4;

/// Why bytes were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Undecodable {
    /// They do not begin as this kind of thing does; holds the four letters they should begin with.
    NotOne(&'static str),
    /// They were written by a later version than this one, which this holds.
    Version(u8),
    /// The checksum says otherwise: cut off, or changed on disk or on the way.
    Checksum,
    /// The named field holds what cannot be. With a right checksum this is a bug of the writer.
    Field(&'static str),
}

impl fmt::Display for Undecodable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOne(magic) => write!(f, "it does not begin with {magic}"),
            Self::Version(version) => write!(f, "version {version} is not known here"),
            Self::Checksum => f.write_str("the checksum does not match"),
            Self::Field(field) => write!(f, "impossible {field}"),
        }
    }
}

impl core::error::Error for Undecodable {}

/// A form being written.
pub(crate) struct Encoder(Vec<u8>);

impl Encoder {
    pub(crate) fn new(magic: &'static str, version: u8) -> Self {
        let mut out = Vec::from(magic.as_bytes());
        out.push(version);
        Self(out)
    }

    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.0.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.raw(bytes);
    }

    pub(crate) fn finish(mut self) -> Vec<u8> {
        let checksum = crc32fast::hash(&self.0);
        self.raw(&checksum.to_le_bytes());
        self.0
    }
}

/// A form being read.
pub(crate) struct Decoder<'a> {
    rest: &'a [u8],
}

impl<'a> Decoder<'a> {
    /// Errors: all but `Field`.
    pub(crate) fn new(bytes: &'a [u8], magic: &'static str, version: u8) -> Result<Self, Undecodable> {
        let rest = bytes.strip_prefix(magic.as_bytes()).ok_or(Undecodable::NotOne(magic))?;
        let &written = rest.first().ok_or(Undecodable::Checksum)?;
        if written != version {
            return Err(Undecodable::Version(written));
        }
        let (covered, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>().ok_or(Undecodable::Checksum)?;
        if crc32fast::hash(covered) != u32::from_le_bytes(*checksum) {
            return Err(Undecodable::Checksum);
        }
        let rest = covered.get(magic.len() + 1..).ok_or(Undecodable::Checksum)?;
        Ok(Self { rest })
    }

    pub(crate) fn number(&mut self, field: &'static str) -> Result<u64, Undecodable> {
        let mut number = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.rest.split_first().ok_or(Undecodable::Field(field))?;
            self.rest = rest;
            let group = u64::from(byte & 0x7f);
            // W1: no bits beyond the 64th, no empty group at the end.
            if group << shift >> shift != group || (byte == 0 && shift > 0) {
                break;
            }
            number |= group << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Undecodable::Field(field))
    }

    pub(crate) fn number_as<T: TryFrom<u64>>(&mut self, field: &'static str) -> Result<T, Undecodable> {
        T::try_from(self.number(field)?).map_err(|_| Undecodable::Field(field))
    }

    /// A number of things of at least `len` bytes each that follow (W2).
    pub(crate) fn count(&mut self, len: usize, field: &'static str) -> Result<usize, Undecodable> {
        let count: usize = self.number_as(field)?;
        let fits = count.checked_mul(len).is_some_and(|len| len <= self.rest.len());
        fits.then_some(count).ok_or(Undecodable::Field(field))
    }

    pub(crate) fn raw(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], Undecodable> {
        let (bytes, rest) = self.rest.split_at_checked(len).ok_or(Undecodable::Field(field))?;
        self.rest = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], Undecodable> {
        let (bytes, rest) = self.rest.split_first_chunk().ok_or(Undecodable::Field(field))?;
        self.rest = rest;
        Ok(*bytes)
    }

    pub(crate) fn bytes(&mut self, field: &'static str) -> Result<&'a [u8], Undecodable> {
        let len = self.number_as(field)?;
        self.raw(len, field)
    }

    /// Errors: `Field` if something is left.
    pub(crate) fn finish(self) -> Result<(), Undecodable> {
        self.rest.is_empty().then_some(()).ok_or(Undecodable::Field("end"))
    }
}
