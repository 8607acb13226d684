//! Header lines, and the few headers in which mail programs keep their state.
//!
//! H1  The parts are the whole: the `raw` of all headers, in order, is the header block up to its empty line.
//! H2  A number that is malformed or beyond its bound is no number: the header counts as absent, as in Dovecot, which
//!     removes such lines. The next header of that name may still be good.
//! H3  Of several good Content-Length, X-UID or X-IMAPbase headers the first counts (Dovecot); letters and keywords of
//!     several headers add up.
//!
//! Header blocks are those of RFC 5322, section 2.2, taken loosely: a line without colon does not end the block.
//!
//! Not here: whether a UID or keyword can be trusted. That takes the other messages of the file.

use alloc::vec::Vec;

use crate::line::{line_end_len, line_len};

/// One header with its continuation lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// All of its lines with their line ends, as they stand in the file.
    pub raw: &'a [u8],
    /// The name without colon or blanks. Empty if the first line has no colon, or begins with a blank.
    pub name: &'a [u8],
    /// What follows the colon, without blanks in front or blanks and line ends behind. Line ends within stay.
    pub value: &'a [u8],
}

impl<'a> Header<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let first_line = raw.get(..line_len(raw)).unwrap_or_default();
        let colon = first_line.iter().position(|&byte| byte == b':');
        let named = colon.filter(|_| !is_blank(raw.first()));
        let Some((name, value)) = named.and_then(|colon| Some((raw.get(..colon)?, raw.get(colon + 1..)?))) else {
            return Self {
                raw,
                name: &[],
                value: &[],
            };
        };
        let blanks = value.iter().take_while(|&byte| is_blank(Some(byte))).count();
        let value = value.get(blanks..).unwrap_or_default();
        Self {
            raw,
            name: name.trim_ascii_end(),
            value: value.trim_ascii_end(),
        }
    }

    /// Is this its name, whatever the case?
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }
}

/// The headers that `block` begins with, up to an empty line or the end of `block`.
#[must_use]
pub fn headers(block: &[u8]) -> Headers<'_> {
    Headers { rest: block }
}

/// Iterator over the headers of a block; see [`headers`].
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        if self.rest.is_empty() || line_end_len(self.rest) > 0 {
            return None;
        }
        let mut len = 0;
        let mut rest = self.rest;
        loop {
            let line = line_len(rest);
            len += line;
            rest = rest.get(line..).unwrap_or_default();
            if !is_blank(rest.first()) {
                break;
            }
        }
        let raw = self.rest.get(..len)?;
        self.rest = rest;
        Some(Header::new(raw)) // H1
    }
}

fn is_blank(byte: Option<&u8>) -> bool {
    matches!(byte, Some(b' ' | b'\t'))
}

/// The letters of a Status or X-Status header, as a set. ASCII letters only; case counts.
///
/// Programs know `R` (read) and `O` (old) in Status, and `A` (answered), `F` (flagged), `T` (draft) and `D` (deleted)
/// in X-Status. Letters that nobody knows are members like others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Letters(u64);

impl Letters {
    /// The letters in `text`; everything else in it is passed over.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let bits = text
            .iter()
            .filter(|byte| byte.is_ascii_alphabetic())
            .fold(0, |bits, &byte| bits | bit(byte));
        Self(bits)
    }

    /// Is `letter` a member? False for anything that is no ASCII letter.
    #[must_use]
    pub fn contains(self, letter: u8) -> bool {
        letter.is_ascii_alphabetic() && self.0 & bit(letter) != 0
    }

    /// The letters of both sets.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Three-way: of each letter what the side says that changed it since `base`. Without an ancestor the letters of
    /// both, except that D (deleted), the only one that costs mail, needs both (MAIL.md 6.6).
    #[must_use]
    pub fn merge(base: Option<Self>, left: Self, right: Self) -> Self {
        let (both, either) = (left.0 & right.0, left.0 | right.0);
        // A letter on which the sides differ was changed by one of them, so it is the contrary of what it was.
        Self(both | (either & !base.map_or(bit(b'D'), |base| base.0)))
    }

    /// As a number, for files and wires; see `from_bits`.
    pub(crate) fn bits(self) -> u64 {
        self.0
    }

    /// None if there is a bit that is no letter.
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let all = (b'A'..=b'Z')
            .chain(b'a'..=b'z')
            .fold(0, |all, letter| all | bit(letter));
        (bits & !all == 0).then_some(Self(bits))
    }

    /// All members in ASCII order.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (b'A'..=b'z').filter(move |&letter| self.contains(letter))
    }
}

/// `letter` is an ASCII letter; of these the distance between the first, `A`, and the last, `z`, is 57.
fn bit(letter: u8) -> u64 {
    1 << (letter - b'A')
}

/// X-IMAPbase or X-IMAP: what a mailbox knows about its UIDs, kept in its first message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Base<'a> {
    /// Never 0.
    pub uid_validity: u32,
    /// The highest UID ever handed out; 0 if not given, the largest UID if it says more than that.
    pub uid_last: u32,
    /// Keyword names in their order, as written.
    pub keywords: Vec<&'a [u8]>,
    /// Written as X-IMAP, which makes the first message the pseudo message.
    pub pseudo: bool,
}

impl<'a> Base<'a> {
    /// Reads `V [L keyword...]`. None if it is malformed; Dovecot wants a blank, not a tab, behind V.
    fn new(value: &'a [u8], pseudo: bool) -> Option<Self> {
        let (validity, rest) = split_digits(value);
        let uid_validity = u32::try_from(number(validity)?).ok().filter(|&validity| validity > 0)?;
        if rest.is_empty() {
            return Some(Self {
                uid_validity,
                uid_last: 0,
                keywords: Vec::new(),
                pseudo,
            });
        }
        let (last, rest) = split_digits(rest.strip_prefix(b" ")?.trim_ascii_start());
        if last.is_empty() || rest.first().is_some_and(|byte| !byte.is_ascii_whitespace()) {
            return None;
        }
        // Dovecot takes an overlong last UID too. The bound keeps UIDs that may be in use from being used again.
        let uid_last = number(last)
            .and_then(|last| u32::try_from(last).ok())
            .unwrap_or(u32::MAX);
        Some(Self {
            uid_validity,
            uid_last,
            keywords: words(rest).collect(),
            pseudo,
        })
    }
}

/// The state that mail programs keep in the headers of one message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metadata<'a> {
    /// Bytes of body, if believed; see `scan` for when it is.
    pub content_length: Option<u64>,
    /// Letters of Status.
    pub status: Letters,
    /// Letters of X-Status.
    pub x_status: Letters,
    /// X-UID, never 0. Blanks behind the number are padding for later rewrites.
    pub uid: Option<u32>,
    /// X-IMAPbase or X-IMAP. Counts only in the first message of a file. One that follows X-UID is passed over,
    /// X-IMAP excepted: Dovecot hides the message all the same.
    pub base: Option<Base<'a>>,
    /// The words of X-Keywords, as written.
    pub keywords: Vec<&'a [u8]>,
}

impl<'a> Metadata<'a> {
    /// Reads the header block that `block` begins with. Never fails: what is broken counts as absent (H2).
    #[must_use]
    pub fn parse(block: &'a [u8]) -> Self {
        let mut meta = Self::default();
        let mut base_seen = false;
        for header in headers(block) {
            let value = header.value;
            match kind(&header) {
                Some(Kind::Length) => meta.content_length = meta.content_length.or_else(|| content_length(value)), // H3
                Some(Kind::Status) => meta.status = meta.status.union(Letters::new(value)),
                Some(Kind::XStatus) => meta.x_status = meta.x_status.union(Letters::new(value)),
                Some(Kind::Uid) => {
                    let uid = number(value)
                        .and_then(|uid| u32::try_from(uid).ok())
                        .filter(|&uid| uid > 0);
                    meta.uid = meta.uid.or(uid); // H3
                }
                Some(Kind::Keywords) => meta.keywords.extend(words(value)),
                Some(Kind::Base) => {
                    if let Some(base) = base(&header).filter(|_| !base_seen) {
                        base_seen = true; // H3
                        meta.base = Some(base).filter(|base| base.pseudo || meta.uid.is_none());
                    }
                }
                None => {}
            }
        }
        meta
    }
}

/// The headers that hold state, as far as it is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// X-IMAPbase or X-IMAP.
    Base,
    Status,
    XStatus,
    Keywords,
    Uid,
    Length,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Base,
        Self::Status,
        Self::XStatus,
        Self::Keywords,
        Self::Uid,
        Self::Length,
    ];
}

pub(crate) fn kind(header: &Header<'_>) -> Option<Kind> {
    const NAMES: [(&str, Kind); 7] = [
        ("Status", Kind::Status),
        ("X-UID", Kind::Uid),
        ("X-Status", Kind::XStatus),
        ("Content-Length", Kind::Length),
        ("X-Keywords", Kind::Keywords),
        ("X-IMAPbase", Kind::Base),
        ("X-IMAP", Kind::Base),
    ];
    NAMES.iter().find(|(name, _)| header.is(name)).map(|&(_, kind)| kind)
}

/// The first good Content-Length of a header block, for those who need nothing else.
pub(crate) fn block_content_length(block: &[u8]) -> Option<u64> {
    headers(block)
        .filter(|header| header.is("Content-Length"))
        .find_map(|header| content_length(header.value))
}

/// Is this the header block of a pseudo message, if it is the first of its file?
///
/// As in Dovecot the header X-IMAP decides, unless a good X-IMAPbase stands before it; the text "DON'T DELETE THIS
/// MESSAGE" does not count.
pub(crate) fn is_pseudo(block: &[u8]) -> bool {
    headers(block)
        .find_map(|header| base(&header))
        .is_some_and(|base| base.pseudo)
}

fn base<'a>(header: &Header<'a>) -> Option<Base<'a>> {
    let pseudo = header.is("X-IMAP");
    (pseudo || header.is("X-IMAPbase")).then(|| Base::new(header.value, pseudo))?
}

/// An empty value is 0 in Dovecot, and harmless: it is believed only where a separator follows.
fn content_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() { Some(0) } else { number(value) }
}

/// `text` as a decimal number; None unless it is digits only and fits.
fn number(text: &[u8]) -> Option<u64> {
    let (&first, _) = text.split_first()?;
    // A sign would pass for a number below.
    first
        .is_ascii_digit()
        .then(|| core::str::from_utf8(text).ok()?.parse().ok())?
}

fn split_digits(text: &[u8]) -> (&[u8], &[u8]) {
    let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    text.split_at_checked(len).unwrap_or((text, &[]))
}

/// The parts of `text` between white space.
fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| byte.is_ascii_whitespace())
        .filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests;
