//! The messages of a file, as spans of offsets.
//!
//! S1  The junk and the spans tile the file: no byte is left out, none counts twice, the order is that of the file.
//! S2  Each span begins with a valid From_ line, and at the start of a line.
//! S3  A Content-Length is believed only where the body it measures is followed by a line end and then by a valid
//!     From_ line or the end of the file. Otherwise the next valid From_ line ends the message, even within its
//!     headers, unless it follows the message's own From_ line directly. Measured with Dovecot 2.3.19; RFC 4155
//!     knows no Content-Length, and wants an empty line in front of each From_ line.
//! S4  Linear: every byte is read a bounded number of times, whatever the headers claim.
//!
//! Where this differs from Dovecot it finds more messages: those behind junk, where Dovecot would not open the file;
//! one whose From_ line lacks its line end; and those which a Content-Length covers although its own headers are cut
//! short by a separator. (One exception finds less: F2 in `from_line`.) Of 8,000 random files 7 were counted
//! differently, all of the last kind.
//!
//! Not here: whether the messages are whole. A file cut off at any point has spans.

use alloc::collections::BTreeSet;
use core::ops::Range;

use crate::from_line;
use crate::header;
use crate::line::{line_end_len, line_len};

/// Where one message is. All offsets count from the start of the file; each is at least the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Its From_ line.
    pub from_offset: usize,
    /// Its headers, behind the From_ line.
    pub header_offset: usize,
    /// Its body, behind the empty line which ends the headers. `end` if there is no such line.
    pub body_offset: usize,
    /// The next message, or the end of the file. The empty line before it belongs to this one.
    pub end: usize,
    /// The message is none, but the mailbox's notes to itself ("DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA").
    /// Can be true of the first message of a file only. No mail program shows it.
    pub pseudo: bool,
}

/// The parts of a message in `bytes`, which are those of the file that the span is from. If they are not, and too
/// short, the answer is an empty slice.
impl Span {
    /// The whole message.
    #[must_use]
    pub fn raw<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.from_offset..self.end).unwrap_or_default()
    }

    /// The From_ line with its line end.
    #[must_use]
    pub fn from_line<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.from_offset..self.header_offset).unwrap_or_default()
    }

    /// The headers, and the empty line if there is one.
    #[must_use]
    pub fn headers<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.header_offset..self.body_offset).unwrap_or_default()
    }

    /// The body, and the empty line behind it.
    #[must_use]
    pub fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(self.body_offset..self.end).unwrap_or_default()
    }
}

/// Iterator over the messages of a file. Bodies with a good Content-Length are skipped, not read.
#[derive(Clone, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    /// Where the first message begins.
    first: usize,
    /// Where the next message begins; the length of the file behind the last one.
    next: usize,
    /// S4: lines to which a Content-Length pointed, and which are no separators. Without this memory many messages
    /// could point to one long line, each having it read again. Holds at most one entry per line of the file.
    refuted: BTreeSet<usize>,
}

impl<'a> Scan<'a> {
    /// Finds the first message of the file `bytes`; this reads the junk before it, if there is any.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let first = next_separator(bytes, 0);
        Self {
            bytes,
            first,
            next: first,
            refuted: BTreeSet::new(),
        }
    }

    /// What precedes the first message: empty in a sound file, everything in a file that is no mbox.
    #[must_use]
    pub fn junk(&self) -> Range<usize> {
        0..self.first
    }

    /// S3. The end of the message whose body begins at `body_offset`, if `content_length` can be believed.
    fn believed_end(&mut self, body_offset: usize, content_length: u64) -> Option<usize> {
        let body_end = body_offset.checked_add(usize::try_from(content_length).ok()?)?;
        let behind = self.bytes.get(body_end..)?;
        let end = match line_end_len(behind) {
            0 => return None,
            line_end => body_end + line_end,
        };
        if end == self.bytes.len() {
            return Some(end);
        }
        let line = self.bytes.get(end..)?;
        if !line.starts_with(from_line::FROM) || self.refuted.contains(&end) {
            return None;
        }
        if from_line::parse(line).is_none() {
            self.refuted.insert(end); // S4
            return None;
        }
        Some(end)
    }
}

impl Iterator for Scan<'_> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let from_offset = self.next;
        let message = self.bytes.get(from_offset..).filter(|message| !message.is_empty())?;
        let header_offset = from_offset + line_len(message);
        let (body_offset, has_body) = headers_end(self.bytes, header_offset);
        let block = self.bytes.get(header_offset..body_offset).unwrap_or_default();
        let end = if has_body {
            let content_length = header::block_content_length(block);
            let believed = content_length.and_then(|length| self.believed_end(body_offset, length));
            believed.unwrap_or_else(|| next_separator(self.bytes, body_offset))
        } else {
            // Cut short by a separator or by the end of the file: there is no body that could have a length.
            body_offset
        };
        let pseudo = from_offset == self.first && header::is_pseudo(block);
        debug_assert!(from_offset < header_offset && header_offset <= body_offset && body_offset <= end); // S1
        self.next = end;
        Some(Span {
            from_offset,
            header_offset,
            body_offset,
            end,
            pseudo,
        })
    }
}

/// Offset behind the empty line that ends the headers at `offset`, and true; or, if there is none, offset of the
/// separator or file end that ends them, and false.
///
/// The first line is no separator, whatever it says: Dovecot looks for a line end and a From_ line, and the line end
/// in front of the first line belongs to this message's own From_ line.
fn headers_end(bytes: &[u8], header_offset: usize) -> (usize, bool) {
    let mut offset = header_offset;
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        let line_end = line_end_len(rest);
        if line_end > 0 {
            return (offset + line_end, true);
        }
        if offset > header_offset && from_line::parse(rest).is_some() {
            return (offset, false);
        }
        offset += line_len(rest);
    }
    (offset, false)
}

/// Offset of the first valid From_ line at or behind `offset`, which must be the start of a line; else the file's end.
fn next_separator(bytes: &[u8], mut offset: usize) -> usize {
    while let Some(rest) = bytes.get(offset..).filter(|rest| !rest.is_empty()) {
        if from_line::parse(rest).is_some() {
            return offset; // S2
        }
        offset += line_len(rest);
    }
    offset
}

#[cfg(test)]
mod tests;
