//! What a mailbox says: its messages in order with their UIDs, flags and keywords. Frozen, it is the ancestor that a
//! later merge compares both sides with (MAIL.md 6.1).
//!
//! A brick freezes a manifest of each mailbox right before the first write to it that its peer does not see. Both held
//! the same bytes then, so both freeze the same manifest.
//!
//! Not here: where the messages are (`index`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use crate::header::{Base, Letters};
use crate::identity::Identity;
use crate::index::Index;
use crate::wire::{Decoder, Encoder, Undecodable};

/// Keywords of one message that count; more are passed over. No IMAP client offers that many.
pub const KEYWORDS_MAX: usize = 256;

/// One message, as far as it can change without becoming another message, and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which message.
    pub identity: Identity,
    /// X-UID as it stands in the file, trusted or not. Never 0.
    pub uid: Option<u32>,
    /// Letters of Status.
    pub status: Letters,
    /// Letters of X-Status.
    pub x_status: Letters,
    /// X-Keywords, sorted, each once; at most `KEYWORDS_MAX`.
    pub keywords: Box<[Box<[u8]>]>,
}

/// X-IMAPbase or X-IMAP of the first message: which UIDs are in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbering {
    /// Never 0. UIDs of different validities have nothing to do with each other (RFC 3501, 2.3.1.1).
    pub uid_validity: u32,
    /// The highest UID ever handed out.
    pub uid_last: u32,
    /// The keywords that messages may use, in their order. Dovecot drops an X-Keywords header that names another.
    pub keywords: Vec<Box<[u8]>>,
}

/// What a mailbox said at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Bytes of the file.
    pub len: u64,
    /// CRC-32 (IEEE 802.3) of them.
    pub crc: u32,
    /// None if no program has numbered the messages yet.
    pub numbering: Option<Numbering>,
    /// The messages in the order of the file; the pseudo message is none.
    pub entries: Vec<Entry>,
}

const MAGIC: &str = "MBXM";
const VERSION: u8 = 1;

impl Manifest {
    /// What the file behind `index` says.
    #[must_use]
    pub fn of(index: &Index) -> Self {
        Self {
            len: index.len,
            crc: index.crc,
            numbering: index.numbering.clone(),
            entries: index.messages.iter().map(|message| message.entry.clone()).collect(),
        }
    }

    /// Does the file behind `index` still say this? Its length, its checksum and all that it says are compared.
    #[must_use]
    pub fn describes(&self, index: &Index) -> bool {
        let entries = index.messages.iter().map(|message| &message.entry);
        (self.len, self.crc, &self.numbering) == (index.len, index.crc, &index.numbering)
            && self.entries.iter().eq(entries)
    }

    /// About 36 bytes per message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new(MAGIC, VERSION);
        to.number(self.len);
        to.number(self.crc.into());
        encode_numbering(self.numbering.as_ref(), &mut to);
        to.number(self.entries.len() as u64);
        self.entries.iter().for_each(|entry| entry.encode(&mut to));
        to.finish()
    }

    /// Errors: whatever `encode` would not have written.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut from = Decoder::new(bytes, MAGIC, VERSION)?;
        let len = from.number("length")?;
        let crc = from.number_as("checksum of the file")?;
        let numbering = decode_numbering(&mut from)?;
        let count = from.count(Entry::LEN_MIN, "count of messages")?;
        let entries = (0..count).map(|_| Entry::decode(&mut from)).collect::<Result<_, _>>()?;
        from.finish()?;
        Ok(Self {
            len,
            crc,
            numbering,
            entries,
        })
    }
}

impl Entry {
    /// Identity, UID, two sets of letters, count of keywords.
    pub(crate) const LEN_MIN: usize = 36;

    pub(crate) fn encode(&self, to: &mut Encoder) {
        to.raw(&self.identity.0);
        to.number(self.uid.unwrap_or(0).into());
        to.number(self.status.bits());
        to.number(self.x_status.bits());
        to.number(self.keywords.len() as u64);
        self.keywords.iter().for_each(|keyword| to.bytes(keyword));
    }

    pub(crate) fn decode(from: &mut Decoder<'_>) -> Result<Self, Undecodable> {
        let identity = Identity(from.array("identity")?);
        let uid: u32 = from.number_as("UID")?;
        let letters = [from.number("Status")?, from.number("X-Status")?].map(Letters::from_bits);
        let [Some(status), Some(x_status)] = letters else {
            return Err(Undecodable::Field("letters"));
        };
        let count = from.count(1, "count of keywords")?;
        let keywords: Box<[Box<[u8]>]> = (0..count).map(|_| keyword(from)).collect::<Result<_, _>>()?;
        if count > KEYWORDS_MAX || !keywords.is_sorted_by(|one, next| one < next) {
            return Err(Undecodable::Field("keywords"));
        }
        Ok(Self {
            identity,
            uid: Some(uid).filter(|&uid| uid > 0),
            status,
            x_status,
            keywords,
        })
    }
}

/// A keyword of the wire can be a word of a header, and nothing else.
fn keyword(from: &mut Decoder<'_>) -> Result<Box<[u8]>, Undecodable> {
    let word = from.bytes("keyword")?;
    let is_word = !word.is_empty() && !word.iter().any(u8::is_ascii_whitespace);
    is_word.then(|| word.into()).ok_or(Undecodable::Field("keyword"))
}

impl From<&Base<'_>> for Numbering {
    fn from(base: &Base<'_>) -> Self {
        Self {
            uid_validity: base.uid_validity,
            uid_last: base.uid_last,
            keywords: base.keywords.iter().map(|&keyword| keyword.into()).collect(),
        }
    }
}

pub(crate) fn encode_numbering(numbering: Option<&Numbering>, to: &mut Encoder) {
    to.number(numbering.map_or(0, |numbering| numbering.uid_validity).into());
    if let Some(numbering) = numbering {
        to.number(numbering.uid_last.into());
        to.number(numbering.keywords.len() as u64);
        numbering.keywords.iter().for_each(|keyword| to.bytes(keyword));
    }
}

pub(crate) fn decode_numbering(from: &mut Decoder<'_>) -> Result<Option<Numbering>, Undecodable> {
    let uid_validity = from.number_as("UIDVALIDITY")?;
    if uid_validity == 0 {
        return Ok(None);
    }
    let uid_last = from.number_as("last UID")?;
    let count = from.count(1, "count of keywords")?;
    let keywords = (0..count).map(|_| keyword(from)).collect::<Result<_, _>>()?;
    Ok(Some(Numbering {
        uid_validity,
        uid_last,
        keywords,
    }))
}
