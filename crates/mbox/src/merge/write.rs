//! The bytes of the result, as a plan: what is right already is copied, only the lines that say otherwise are written.
//!
//! E1  From_ line, headers that hold no state, and body are copied from one side, whole.
//! E2  Each message ends with an empty line, except where a Content-Length says where it ends.
//! E3  X-IMAPbase is in the first message only, in front of its X-UID (MAIL.md 5.3); elsewhere it would lie in wait for
//!     the messages before it to go.
//! E4  A Content-Length that is wrong goes; no reader believes it, until by chance it points to a From_ line.
//!
//! Not here: which messages, and what they should say.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;

use crate::header::{Kind, Letters};
use crate::index::{Index, Length, Message, StateLine, Style};
use crate::manifest::{Entry, Numbering};
use crate::plan::{Segment, Side};

/// Blanks that a new X-UID line ends with, so that Dovecot can write flags and keywords into them later, without moving
/// all that follows. It would leave as many itself.
const PADDING_LEN: usize = 50;

/// What a message is to say.
pub(super) struct Wanted<'a> {
    pub(super) entry: &'a Entry,
    /// Only in the first message.
    pub(super) numbering: Option<&'a Numbering>,
    /// The mailbox is numbered; if not, X-UID headers stay as they are.
    pub(super) numbered: bool,
}

/// A change of a header block: `range` of it becomes `text`.
struct Edit {
    range: Range<u32>,
    text: Vec<u8>,
}

/// One message of one side.
#[derive(Clone, Copy)]
pub(super) struct Original<'a> {
    pub(super) side: Side,
    pub(super) index: &'a Index,
    pub(super) message: &'a Message,
    /// The index has its numbering from this message.
    pub(super) carrier: bool,
}

impl Original<'_> {
    fn lines(&self) -> &[StateLine] {
        self.index.lines_of(self.message)
    }

    fn first(&self, kind: Kind) -> Option<u32> {
        self.lines()
            .iter()
            .find(|line| line.kind == kind)
            .map(|line| line.offset)
    }

    fn line_end(&self) -> &'static [u8] {
        if self.message.crlf { b"\r\n" } else { b"\n" }
    }

    /// Says the message this already?
    fn is_right(&self, kind: Kind, wanted: &Wanted<'_>) -> bool {
        let entry = &self.message.entry;
        match kind {
            Kind::Base => self.is_base_right(wanted.numbering),
            Kind::Status => entry.status == wanted.entry.status,
            Kind::XStatus => entry.x_status == wanted.entry.x_status,
            Kind::Keywords => entry.keywords == wanted.entry.keywords,
            Kind::Uid => !wanted.numbered || entry.uid == wanted.entry.uid,
            Kind::Length => self.message.length != Length::Wrong, // E4
        }
    }

    fn is_base_right(&self, numbering: Option<&Numbering>) -> bool {
        let lines = self.lines().iter().filter(|line| line.kind == Kind::Base).count();
        match numbering {
            None => lines == 0, // E3
            Some(_) => self.carrier && lines == 1 && self.index.numbering.as_ref() == numbering,
        }
    }

    pub(super) fn is_all_right(&self, wanted: &Wanted<'_>) -> bool {
        Kind::ALL.iter().all(|&kind| self.is_right(kind, wanted))
    }

    /// The changes, in order.
    fn edits(&self, wanted: &Wanted<'_>) -> Vec<Edit> {
        let end = self.message.header_len - u32::from(self.message.blank);
        let mut edits = Vec::new();
        if self.message.body_len == 0 && self.message.tail == 0 {
            // Cut off within its From_ line or headers.
            edits.push(Edit {
                range: end..end,
                text: self.line_end().into(),
            });
        }
        for kind in Kind::ALL.into_iter().filter(|&kind| !self.is_right(kind, wanted)) {
            let old = self.lines().iter().filter(|line| line.kind == kind);
            let old_len: u32 = old.clone().map(|line| line.len).sum();
            let mut place = self.first(kind).unwrap_or(end);
            if kind == Kind::Base {
                place = place.min(self.first(Kind::Uid).unwrap_or(end)); // E3
            }
            let text = self.line(kind, wanted, old_len as usize);
            edits.push(Edit {
                range: place..place,
                text,
            });
            edits.extend(old.map(|line| Edit {
                range: line.offset..line.offset + line.len,
                text: Vec::new(),
            }));
        }
        edits.sort_by_key(|edit| edit.range.start);
        edits
    }

    /// The header line to be written; empty for none. `old_len`: bytes of the lines whose place it takes.
    fn line(&self, kind: Kind, wanted: &Wanted<'_>, old_len: usize) -> Vec<u8> {
        let (name, value) = match kind {
            Kind::Base => ("X-IMAPbase", wanted.numbering.map_or(Vec::new(), base_value)),
            Kind::Status => ("Status", letters(wanted.entry.status, b"RO")),
            Kind::XStatus => ("X-Status", letters(wanted.entry.x_status, b"AFTD")),
            Kind::Keywords => ("X-Keywords", wanted.entry.keywords.join(&b' ')),
            Kind::Uid => (
                "X-UID",
                wanted.entry.uid.map_or(Vec::new(), |uid| format!("{uid}").into_bytes()),
            ),
            Kind::Length => ("Content-Length", Vec::new()),
        };
        if value.is_empty() {
            return value;
        }
        let mut line = header_line(name, &value);
        let padded_len = match kind {
            Kind::Uid if old_len == 0 => line.len() + PADDING_LEN,
            Kind::Uid | Kind::Keywords => old_len.saturating_sub(self.line_end().len()),
            _ => 0,
        };
        line.resize(line.len().max(padded_len), b' ');
        line.extend_from_slice(self.line_end());
        line
    }
}

fn header_line(name: &str, value: &[u8]) -> Vec<u8> {
    let mut line = String::from(name).into_bytes();
    line.extend_from_slice(b": ");
    line.extend_from_slice(value);
    line
}

/// Ten digits, because Dovecot writes a new last UID over the old one.
fn base_value(numbering: &Numbering) -> Vec<u8> {
    let mut value = format!("{} {:010}", numbering.uid_validity, numbering.uid_last).into_bytes();
    for keyword in &numbering.keywords {
        value.push(b' ');
        value.extend_from_slice(keyword);
    }
    value
}

/// Those that are known in the order in which Dovecot writes them, then the others.
fn letters(set: Letters, known: &[u8]) -> Vec<u8> {
    let others = set.iter().filter(|letter| !known.contains(letter));
    known
        .iter()
        .copied()
        .filter(|&letter| set.contains(letter))
        .chain(others)
        .collect()
}

/// The segments of a plan, while it is made.
#[derive(Default)]
pub(super) struct Segments(Vec<Segment>);

impl Segments {
    pub(super) fn into_vec(mut self) -> Vec<Segment> {
        self.0.shrink_to_fit();
        self.0
    }

    fn bytes(&mut self, more: &[u8]) {
        if more.is_empty() {
            return;
        }
        if let Some(Segment::Bytes(bytes)) = self.0.last_mut() {
            bytes.extend_from_slice(more);
        } else {
            self.0.push(Segment::Bytes(more.into()));
        }
    }

    /// `len` bytes at the offsets given by side.
    pub(super) fn copy(&mut self, offsets: [Option<u64>; 2], more: u64) {
        if more == 0 {
            return;
        }
        if let Some(Segment::Copy { left, right, len }) = self.0.last_mut() {
            let ends = [*left, *right].map(|offset| offset.map(|offset| offset + *len));
            if ends == offsets {
                *len += more;
                return;
            }
        }
        let [left, right] = offsets;
        self.0.push(Segment::Copy { left, right, len: more });
    }

    /// Bytes of one side that the other has not.
    pub(super) fn copy_from(&mut self, side: Side, range: Range<u64>) {
        let offsets = [Side::Left, Side::Right].map(|one| (one == side).then_some(range.start));
        self.copy(offsets, range.end - range.start);
    }

    /// A message as it is. `other`: the same message on the other side.
    pub(super) fn verbatim(&mut self, own: &Original<'_>, other: Option<&Message>) {
        let message = own.message;
        self.head(own, other, 0..message.from_len + message.header_len);
        self.body(own, other);
    }

    /// A message that says what is wanted.
    pub(super) fn message(&mut self, own: &Original<'_>, other: Option<&Message>, wanted: &Wanted<'_>) {
        self.edited(own, other, &own.edits(wanted));
        self.body(own, other);
        if own.message.length != Length::Right {
            let ends = match (own.message.tail, own.message.body_len) {
                (0, 0) => 1, // `edits` has written the other one.
                (tail, _) => 2 - tail,
            };
            (0..ends).for_each(|_| self.bytes(own.line_end())); // E2
        }
    }

    /// A pseudo message that tells this numbering.
    pub(super) fn pseudo(&mut self, own: &Original<'_>, other: Option<&Message>, numbering: &Numbering) {
        let mut text = header_line("X-IMAP", &base_value(numbering));
        text.extend_from_slice(own.line_end());
        let mut edits = Vec::new();
        if own.index.numbering.as_ref() != Some(numbering) {
            for line in own.lines().iter().filter(|line| line.kind == Kind::Base) {
                let text = core::mem::take(&mut text);
                edits.push(Edit {
                    range: line.offset..line.offset + line.len,
                    text,
                });
            }
        }
        self.edited(own, other, &edits);
        self.body(own, other);
    }

    /// From_ line and headers with changes.
    fn edited(&mut self, own: &Original<'_>, other: Option<&Message>, edits: &[Edit]) {
        let from_len = own.message.from_len;
        let mut at = 0;
        for edit in edits {
            let [start, end] = [edit.range.start, edit.range.end].map(|offset| offset + from_len);
            self.head(own, other, at..start);
            self.bytes(&edit.text);
            at = end;
        }
        self.head(own, other, at..from_len + own.message.header_len);
    }

    /// A part of From_ line and headers.
    fn head(&mut self, own: &Original<'_>, other: Option<&Message>, range: Range<u32>) {
        let other = other.filter(|other| other.head == own.message.head);
        self.shared(own, other, range.start.into(), (range.end - range.start).into());
    }

    fn body(&mut self, own: &Original<'_>, other: Option<&Message>) {
        let message = own.message;
        let same = |other: &&Message| {
            other.style == message.style && other.style != Style::Mixed && other.body_len == message.body_len
        };
        let head_len = |message: &Message| u64::from(message.from_len) + u64::from(message.header_len);
        let own_offset = message.from_offset + head_len(message);
        let other = other.filter(same).map(|other| other.from_offset + head_len(other));
        self.copy(by_side(own.side, own_offset, other), message.body_len);
    }

    /// Bytes at one place of equal heads.
    fn shared(&mut self, own: &Original<'_>, other: Option<&Message>, at: u64, len: u64) {
        let other = other.map(|other| other.from_offset + at);
        self.copy(by_side(own.side, own.message.from_offset + at, other), len);
    }
}

fn by_side(side: Side, own: u64, other: Option<u64>) -> [Option<u64>; 2] {
    match side {
        Side::Left => [Some(own), other],
        Side::Right => [other, Some(own)],
    }
}

/// Three-way: what the side says that differs from the ancestor; without ancestor all that is said (MAIL.md 6.6).
pub(super) fn merge_keywords(base: Option<&Entry>, left: &Entry, right: &Entry) -> Box<[Box<[u8]>]> {
    let has = |entry: &Entry, keyword: &[u8]| entry.keywords.binary_search_by(|own| (**own).cmp(keyword)).is_ok();
    let mut all: Vec<&[u8]> = left
        .keywords
        .iter()
        .chain(&right.keywords)
        .map(|keyword| &**keyword)
        .collect();
    all.sort_unstable();
    all.dedup();
    let stays = |keyword: &&[u8]| {
        let both = has(left, keyword) && has(right, keyword);
        both || !base.is_some_and(|base| has(base, keyword))
    };
    all.into_iter().filter(stays).map(Into::into).collect()
}
