//! The index of a mailbox: everything a merge has to know of a file, without its bodies.
//!
//! X1  Made in one pass over the file, through a window; held in about 140 bytes per message and 12 per header that holds
//!     state, sent in about 80 and 3.
//! X2  It tells for two files, byte for byte, which parts of equal messages are the same in both, so that those need not
//!     be moved: `Head` and `Style`.
//!
//! Not here: which of two files is right (`merge`).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use crate::header::{self, Kind, Metadata};
use crate::identity::{Identity, identify_in};
use crate::line::{line_end_len, without_line_end};
use crate::manifest::{Entry, KEYWORDS_MAX, Numbering, decode_numbering, encode_numbering};
use crate::scan::{self, Scan, Span};
use crate::source::Source;
use crate::wire::{Decoder, Encoder, Undecodable};

/// Messages of one mailbox: four million, which take 600 MB. Beyond that a mailbox is merged as a whole (`files`).
pub const MESSAGES_MAX: usize = 1 << 22;
/// Headers that hold state, in one mailbox; four for each message are usual.
pub const STATE_LINES_MAX: usize = 1 << 24;

/// Bytes of a From_ line, of which nobody writes a thousand.
const FROM_LINE_MAX: u64 = 1 << 31;

/// All of a file that a merge has to know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    /// Bytes of the file.
    pub len: u64,
    /// CRC-32 (IEEE 802.3) of them.
    pub crc: u32,
    /// Bytes before the first message; not 0 means that the file is damaged, or no mailbox.
    pub junk_len: u64,
    /// X-IMAPbase of the first message, or X-IMAP of the pseudo message.
    pub numbering: Option<Numbering>,
    /// The pseudo message, if the file begins with one.
    pub(crate) pseudo: Option<Message>,
    /// The messages in the order of the file.
    pub(crate) messages: Vec<Message>,
    /// Of all messages, one after the other.
    pub(crate) lines: Vec<StateLine>,
}

/// One message of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) entry: Entry,
    pub(crate) from_offset: u64,
    pub(crate) body_len: u64,
    pub(crate) time_seconds: i64,
    pub(crate) head: Head,
    /// Bytes of the From_ line and of the headers.
    pub(crate) from_len: u32,
    pub(crate) header_len: u32,
    /// Its lines are `lines_count` from `lines_start` on.
    pub(crate) lines_start: u32,
    pub(crate) lines_count: u32,
    pub(crate) style: Style,
    /// Its From_ line ends with CRLF, and so do lines that are written into it.
    pub(crate) crlf: bool,
    /// Line ends that it ends with: 0, 1, or 2 for two and more.
    pub(crate) tail: u8,
    /// Length of the empty line that ends the headers: 0 (there is none), 1 or 2.
    pub(crate) blank: u8,
    pub(crate) length: Length,
}

/// Hash of From_ line and headers as they stand: equal if and only if these are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head(pub(crate) [u8; 16]);

/// Keeps these hashes apart from all other uses of BLAKE3.
const HEAD_CONTEXT: &str = "mboxfs 2026-11 message head 1";

/// How the lines of a message end. Two messages of one identity, one style and equal lengths have equal bodies, byte for
/// byte, unless the style is `Mixed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// No CR anywhere.
    Lf,
    /// Each LF has its CR, each CR its LF.
    Crlf,
    /// Anything else.
    Mixed,
}

/// What Content-Length says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Nothing.
    None,
    /// Where the message ends, and a reader believes it.
    Right,
    /// Something else.
    Wrong,
}

/// A header that holds state, with its continuation lines; counted from the start of the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StateLine {
    pub(crate) kind: Kind,
    pub(crate) offset: u32,
    pub(crate) len: u32,
}

/// Why a file has no index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unindexed<E> {
    /// It could not be read.
    Source(E),
    /// More than `MESSAGES_MAX` or `STATE_LINES_MAX`, or a From_ line of 2 GiB.
    TooMany,
}

impl<E: fmt::Display> fmt::Display for Unindexed<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(error) => error.fmt(f),
            Self::TooMany => write!(
                f,
                "it has more than {MESSAGES_MAX} messages or {STATE_LINES_MAX} state headers"
            ),
        }
    }
}

impl<E: core::error::Error> core::error::Error for Unindexed<E> {}

impl Index {
    /// Reads a file from start to end.
    ///
    /// Errors: those of the source, and `TooMany`. No content is an error: what is no mailbox is junk from start to end.
    pub fn read<S: Source>(source: S) -> Result<Self, Unindexed<S::Error>> {
        let mut scan = Scan::open(source).map_err(Unindexed::Source)?;
        let mut index = Self {
            junk_len: scan.junk().end,
            len: scan.junk().end,
            ..Self::default()
        };
        let mut crc = crc32fast::Hasher::new();
        scan.window
            .pieces(scan.junk(), |piece| crc.update(piece))
            .map_err(Unindexed::Source)?;
        while let Some(span) = scan.next_span().map_err(Unindexed::Source)? {
            index.add(&mut scan, &span, &mut crc)?;
        }
        index.crc = crc.finalize();
        index.messages.shrink_to_fit();
        index.lines.shrink_to_fit();
        Ok(index)
    }

    /// Reads the next message, which is at `span`.
    fn add<S: Source>(
        &mut self,
        scan: &mut Scan<S>,
        span: &Span,
        crc: &mut crc32fast::Hasher,
    ) -> Result<(), Unindexed<S::Error>> {
        let mut raw = Raw::new(span.body_offset - span.from_offset);
        let (identity, _) = identify_in(&mut scan.window, span, |piece| {
            crc.update(piece);
            raw.add(piece);
        })
        .map_err(Unindexed::Source)?;
        let line = scan.window.at(span.from_offset, crate::from_line::LINE_MAX);
        let line = line.map_err(Unindexed::Source)?;
        let time_seconds = crate::from_line::parse(line).map_or(0, |line| line.time_seconds);
        let from_end = span.header_offset.saturating_sub(2).max(span.from_offset);
        let crlf = scan
            .window
            .at(from_end, 2)
            .map_err(Unindexed::Source)?
            .starts_with(b"\r\n");
        let block = scan::block(&mut scan.window, span.header_offset..span.body_offset).map_err(Unindexed::Source)?;
        let meta = Metadata::parse(block);
        let lines_start = self.lines.len();
        self.lines.extend(state_lines(block));
        if self.messages.len() >= MESSAGES_MAX || self.lines.len() > STATE_LINES_MAX {
            return Err(Unindexed::TooMany);
        }
        if span.header_offset - span.from_offset > FROM_LINE_MAX {
            return Err(Unindexed::TooMany);
        }
        let small = |len: u64| u32::try_from(len).map_err(|_| Unindexed::TooMany);
        let message = Message {
            entry: entry(identity, &meta),
            from_offset: span.from_offset,
            body_len: span.end - span.body_offset,
            time_seconds,
            head: raw.head(),
            from_len: small(span.header_offset - span.from_offset)?,
            header_len: small(span.body_offset - span.header_offset)?,
            lines_start: small(lines_start as u64)?,
            lines_count: small((self.lines.len() - lines_start) as u64)?,
            style: raw.style(),
            crlf,
            tail: raw.tail(),
            blank: blank(block),
            length: length(&meta, span, block, &raw.last),
        };
        self.len = span.end;
        if self.messages.is_empty() && self.pseudo.is_none() {
            self.numbering = meta.base.as_ref().map(Numbering::from);
        }
        if span.pseudo {
            self.pseudo = Some(message);
        } else {
            self.messages.push(message);
        }
        Ok(())
    }

    /// How many messages a mail reader shows.
    #[must_use]
    pub fn count(&self) -> usize {
        self.messages.len()
    }

    /// What is said of the messages, in the order of the file.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &Entry> {
        self.messages.iter().map(|message| &message.entry)
    }

    /// Where the messages are, in the order of the file.
    pub fn spans(&self) -> impl ExactSizeIterator<Item = Span> {
        self.messages.iter().map(Message::span)
    }

    pub(crate) fn lines_of(&self, message: &Message) -> &[StateLine] {
        let start = message.lines_start as usize;
        let lines = self.lines.get(start..start + message.lines_count as usize);
        lines.unwrap_or_default()
    }
}

impl Message {
    pub(crate) fn span(&self) -> Span {
        let header_offset = self.from_offset + u64::from(self.from_len);
        let body_offset = header_offset + u64::from(self.header_len);
        Span {
            from_offset: self.from_offset,
            header_offset,
            body_offset,
            end: body_offset + self.body_len,
            pseudo: false,
        }
    }
}

fn entry(identity: Identity, meta: &Metadata<'_>) -> Entry {
    let mut keywords: Vec<Box<[u8]>> = meta
        .keywords
        .iter()
        .take(KEYWORDS_MAX)
        .map(|&word| word.into())
        .collect();
    keywords.sort_unstable();
    keywords.dedup();
    Entry {
        identity,
        uid: meta.uid,
        status: meta.status,
        x_status: meta.x_status,
        keywords: keywords.into_boxed_slice(),
    }
}

fn state_lines(block: &[u8]) -> impl Iterator<Item = StateLine> {
    let mut offset = 0;
    header::headers(block).filter_map(move |header| {
        let start = offset;
        offset += header.raw.len();
        Some(StateLine {
            kind: header::kind(&header)?,
            offset: u32::try_from(start).ok()?,
            len: u32::try_from(header.raw.len()).ok()?,
        })
    })
}

fn blank(block: &[u8]) -> u8 {
    let headers: usize = header::headers(block).map(|header| header.raw.len()).sum();
    let rest = block.get(headers..).unwrap_or_default();
    line_end_len(rest) as u8
}

/// The scanner believes a length or not; the body it found says which.
fn length(meta: &Metadata<'_>, span: &Span, block: &[u8], last: &[u8]) -> Length {
    let named = header::headers(block).any(|header| header::kind(&header) == Some(Kind::Length));
    let body_len = span.end - span.body_offset;
    match meta.content_length {
        Some(length) if last.ends_with(b"\n") && body_len.checked_sub(length) == Some(1) => Length::Right,
        Some(length) if last.ends_with(b"\r\n") && body_len.checked_sub(length) == Some(2) => Length::Right,
        _ if named => Length::Wrong,
        _ => Length::None,
    }
}

/// What is seen of a message while its bytes pass by.
struct Raw {
    head: blake3::Hasher,
    /// Bytes of From_ line and headers that are still to come.
    head_left: u64,
    /// The last four bytes, as many as there were.
    last: Vec<u8>,
    cr: bool,
    bare: bool,
}

impl Raw {
    fn new(head_len: u64) -> Self {
        Self {
            head: blake3::Hasher::new_derive_key(HEAD_CONTEXT),
            head_left: head_len,
            last: Vec::with_capacity(8),
            cr: false,
            bare: false,
        }
    }

    fn add(&mut self, piece: &[u8]) {
        let head_len = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(piece.len());
        self.head.update(piece.get(..head_len).unwrap_or_default());
        self.head_left -= head_len as u64;
        let after_cr = self.last.last() == Some(&b'\r');
        if after_cr || piece.contains(&b'\r') {
            self.cr = true;
            // Is there a CR or LF without the other?
            let mut before = if after_cr { b'\r' } else { 0 };
            for &byte in piece {
                self.bare |= (before == b'\r') != (byte == b'\n');
                before = byte;
            }
        } else {
            self.bare |= piece.contains(&b'\n');
        }
        let kept = piece.get(piece.len().saturating_sub(4)..).unwrap_or_default();
        self.last.extend_from_slice(kept);
        self.last.drain(..self.last.len().saturating_sub(4));
    }

    fn head(&self) -> Head {
        let mut head = [0; 16];
        self.head.finalize_xof().fill(&mut head);
        Head(head)
    }

    fn style(&self) -> Style {
        match (self.cr, self.bare || self.last.ends_with(b"\r")) {
            (false, _) => Style::Lf,
            (true, false) => Style::Crlf,
            (true, true) => Style::Mixed,
        }
    }

    fn tail(&self) -> u8 {
        let text = without_line_end(&self.last);
        let ends = [self.last.ends_with(b"\n"), text.ends_with(b"\n")];
        match ends {
            [true, true] => 2,
            [true, false] => 1,
            _ => 0,
        }
    }
}

const MAGIC: &str = "MBXI";
const VERSION: u8 = 1;

impl Index {
    /// For the peer: about 80 bytes per message.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut to = Encoder::new(MAGIC, VERSION);
        to.number(self.len);
        to.number(self.crc.into());
        to.number(self.junk_len);
        encode_numbering(self.numbering.as_ref(), &mut to);
        to.number(self.pseudo.is_some().into());
        to.number(self.messages.len() as u64);
        for message in self.pseudo.iter().chain(&self.messages) {
            message.encode(self.lines_of(message), &mut to);
        }
        to.finish()
    }

    /// Errors: whatever `encode` would not have written; messages that do not tile a file of `len` bytes, too.
    pub fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut from = Decoder::new(bytes, MAGIC, VERSION)?;
        let mut index = Self {
            len: from.number("length")?,
            crc: from.number_as("checksum of the file")?,
            junk_len: from.number("length of junk")?,
            numbering: decode_numbering(&mut from)?,
            ..Self::default()
        };
        let has_pseudo = match from.number("pseudo message")? {
            0 => false,
            1 => true,
            _ => return Err(Undecodable::Field("pseudo message")),
        };
        let count = from.count(Message::LEN_MIN, "count of messages")?;
        if count > MESSAGES_MAX {
            return Err(Undecodable::Field("count of messages"));
        }
        let mut offset = index.junk_len;
        index.messages.reserve_exact(count);
        for at in 0..count + usize::from(has_pseudo) {
            let message = Message::decode(offset, &mut index.lines, &mut from)?;
            offset = message.span().end;
            if offset > index.len || index.lines.len() > STATE_LINES_MAX {
                return Err(Undecodable::Field("length of a message"));
            }
            if has_pseudo && at == 0 {
                index.pseudo = Some(message);
            } else {
                index.messages.push(message);
            }
        }
        if offset != index.len {
            return Err(Undecodable::Field("length"));
        }
        from.finish()?;
        Ok(index)
    }
}

impl Message {
    const LEN_MIN: usize = Entry::LEN_MIN + 16 + 6;

    fn encode(&self, lines: &[StateLine], to: &mut Encoder) {
        self.entry.encode(to);
        to.raw(&self.head.0);
        to.number((self.time_seconds << 1 ^ self.time_seconds >> 63).cast_unsigned()); // Small for both signs.
        to.number(self.from_len.into());
        to.number(self.header_len.into());
        to.number(self.body_len);
        let marks = [
            self.style as u64,
            self.crlf.into(),
            self.tail.into(),
            self.blank.into(),
            self.length as u64,
        ];
        to.number(marks.into_iter().fold(0, |all, mark| all << 2 | mark));
        to.number(lines.len() as u64);
        let mut end = 0;
        for line in lines {
            to.number(line.kind as u64);
            to.number((line.offset - end).into());
            to.number(line.len.into());
            end = line.offset + line.len;
        }
    }

    fn decode(offset: u64, lines: &mut Vec<StateLine>, from: &mut Decoder<'_>) -> Result<Self, Undecodable> {
        let entry = Entry::decode(from)?;
        let head = Head(from.array("head")?);
        let time = from.number("time")?;
        let time_seconds = (time >> 1).cast_signed() ^ -((time & 1).cast_signed());
        let [from_len, header_len]: [u32; 2] = [from.number_as("From_ line")?, from.number_as("headers")?];
        let body_len = from.number("body")?;
        let whole = u64::from(from_len) + u64::from(header_len);
        let end = offset.checked_add(whole).and_then(|end| end.checked_add(body_len));
        let from_fits = (1..=FROM_LINE_MAX).contains(&from_len.into());
        if header_len as usize > scan::HEADERS_MAX || !from_fits || end.is_none() {
            return Err(Undecodable::Field("length of a message"));
        }
        let marks = from.number("marks")?;
        let [crlf, tail, blank] = [6, 4, 2].map(|shift| (marks >> shift & 3) as u8);
        let style = [Style::Lf, Style::Crlf, Style::Mixed]
            .get((marks >> 8) as usize)
            .copied();
        let length = [Length::None, Length::Right, Length::Wrong]
            .get((marks & 3) as usize)
            .copied();
        let (Some(style), Some(length), 0..=1, 0..=2, 0..=2) = (style, length, crlf, tail, blank) else {
            return Err(Undecodable::Field("marks"));
        };
        if u32::from(blank) > header_len {
            return Err(Undecodable::Field("marks"));
        }
        let lines_start = lines.len() as u32;
        let lines_count = from.count(3, "count of state headers")?;
        let mut end = 0_u32;
        for _ in 0..lines_count {
            let kind = Kind::ALL.get(from.number_as::<usize>("kind")?).copied();
            let kind = kind.ok_or(Undecodable::Field("kind"))?;
            let gap: u32 = from.number_as("place of a header")?;
            let len: u32 = from.number_as("length of a header")?;
            let offset = end.checked_add(gap).ok_or(Undecodable::Field("place of a header"))?;
            let fits = offset.checked_add(len).filter(|&end| end <= header_len && len > 0);
            end = fits.ok_or(Undecodable::Field("length of a header"))?;
            lines.push(StateLine { kind, offset, len });
        }
        Ok(Self {
            entry,
            from_offset: offset,
            body_len,
            time_seconds,
            head,
            from_len,
            header_len,
            lines_start,
            lines_count: lines_count as u32,
            style,
            crlf: crlf == 1,
            tail,
            blank,
            length,
        })
    }
}
