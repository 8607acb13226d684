//! The messages of a file, as spans of offsets.
//!
//! S1  The junk and the spans tile the file: no byte is left out, none counts twice, the order is that of the file.
//! S2  Each span begins with a valid From_ line, and at the start of a line.
//! S3  A Content-Length is believed only where the body it measures is followed by a line end and then by a valid
//!     From_ line or the end of the file. Otherwise the next valid From_ line ends the message, even within its
//!     headers, unless it follows the message's own From_ line directly. Measured with Dovecot 2.3.19; RFC 4155
//!     knows no Content-Length, and wants an empty line in front of each From_ line.
//! S4  Linear: every byte is read a bounded number of times, whatever the headers claim.
//! S5  Headers end with `HEADERS_MAX` bytes at the latest; lines which do not fit are taken for the body.
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
use crate::line::line_end_len;
use crate::source::{Source, Window};

/// Bytes of headers of one message. Postfix takes 100 KiB for one header (`header_size_limit`); what is larger than this
/// is an attack on whoever holds headers in memory.
pub const HEADERS_MAX: usize = 1 << 20;

/// Where one message is. All offsets count from the start of the file; each is at least the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    /// Its From_ line.
    pub from_offset: u64,
    /// Its headers, behind the From_ line.
    pub header_offset: u64,
    /// Its body, behind the empty line which ends the headers. `end` if there is no such line.
    pub body_offset: u64,
    /// The next message, or the end of the file. The empty line before it belongs to this one.
    pub end: u64,
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
        slice(bytes, self.from_offset..self.end)
    }

    /// The From_ line with its line end.
    #[must_use]
    pub fn from_line<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        slice(bytes, self.from_offset..self.header_offset)
    }

    /// The headers, and the empty line if there is one.
    #[must_use]
    pub fn headers<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        slice(bytes, self.header_offset..self.body_offset)
    }

    /// The body, and the empty line behind it.
    #[must_use]
    pub fn body<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        slice(bytes, self.body_offset..self.end)
    }
}

fn slice(bytes: &[u8], range: Range<u64>) -> &[u8] {
    let [start, end] = [range.start, range.end].map(|offset| usize::try_from(offset).unwrap_or(usize::MAX));
    bytes.get(start..end).unwrap_or_default()
}

/// Reader of the messages of a file. Of the bodies with a good Content-Length only the ends are read.
pub struct Scan<S> {
    pub(crate) window: Window<S>,
    /// Where the first message begins.
    first: u64,
    /// Where the next message begins; the length of the file behind the last one.
    next: u64,
    /// S4: lines to which a Content-Length pointed, and which are no separators. Without this memory many messages
    /// could point to one long line, each having it read again. Holds at most one entry per message.
    refuted: BTreeSet<u64>,
}

impl<'a> Scan<&'a [u8]> {
    /// Finds the first message of the file `bytes`; this reads the junk before it, if there is any.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        let Ok(scan) = Self::open(bytes);
        scan
    }
}

impl Iterator for Scan<&[u8]> {
    type Item = Span;

    fn next(&mut self) -> Option<Span> {
        let Ok(span) = self.next_span();
        span
    }
}

impl<S: Source> Scan<S> {
    /// Finds the first message of a file of any size; this reads the junk before it, if there is any.
    ///
    /// Errors: those of the source, here and below. After one the scan is at no certain place.
    pub fn open(source: S) -> Result<Self, S::Error> {
        let mut window = Window::new(source);
        let first = next_separator(&mut window, 0)?;
        Ok(Self {
            window,
            first,
            next: first,
            refuted: BTreeSet::new(),
        })
    }

    /// What precedes the first message: empty in a sound file, everything in a file that is no mbox.
    #[must_use]
    pub fn junk(&self) -> Range<u64> {
        0..self.first
    }

    /// The next message, or None at the end of the file.
    pub fn next_span(&mut self) -> Result<Option<Span>, S::Error> {
        let from_offset = self.next;
        let header_offset = self.window.line_end(from_offset)?;
        if header_offset == from_offset {
            return Ok(None);
        }
        let (body_offset, has_body) = headers_end(&mut self.window, header_offset)?;
        let block = block(&mut self.window, header_offset..body_offset)?;
        let pseudo = from_offset == self.first && header::is_pseudo(block);
        let end = if has_body {
            let content_length = header::block_content_length(block);
            match self.believed_end(body_offset, content_length)? {
                Some(end) => end,
                None => next_separator(&mut self.window, body_offset)?,
            }
        } else {
            // Cut short by a separator or by the end of the file: there is no body that could have a length.
            body_offset
        };
        debug_assert!(from_offset < header_offset && header_offset <= body_offset && body_offset <= end); // S1
        self.next = end;
        Ok(Some(Span {
            from_offset,
            header_offset,
            body_offset,
            end,
            pseudo,
        }))
    }

    /// S3. The end of the message whose body begins at `body_offset`, if `content_length` can be believed.
    fn believed_end(&mut self, body_offset: u64, content_length: Option<u64>) -> Result<Option<u64>, S::Error> {
        let body_end = content_length.and_then(|length| body_offset.checked_add(length));
        // Larger offsets are none to a Unix system, which would answer with an error.
        let Some(body_end) = body_end.filter(|&end| i64::try_from(end).is_ok()) else {
            return Ok(None);
        };
        let behind = self.window.glance(body_end, b"\r\nFrom ".len())?;
        let line_end = line_end_len(behind);
        let end = body_end + line_end as u64;
        if line_end == 0 {
            return Ok(None);
        }
        let next = behind.get(line_end..).unwrap_or_default();
        if next.is_empty() {
            return Ok(Some(end)); // The end of the file: else there would be more of it.
        }
        if !next.starts_with(from_line::FROM) || self.refuted.contains(&end) {
            return Ok(None);
        }
        if from_line::parse(self.window.glance(end, from_line::LINE_MAX)?).is_none() {
            self.refuted.insert(end); // S4
            return Ok(None);
        }
        Ok(Some(end))
    }
}

/// The header block at `range`, which is at most `HEADERS_MAX` bytes long.
pub(crate) fn block<S: Source>(window: &mut Window<S>, range: Range<u64>) -> Result<&[u8], S::Error> {
    let len = usize::try_from(range.end - range.start).unwrap_or(HEADERS_MAX);
    let held = window.at(range.start, len)?;
    Ok(held.get(..len).unwrap_or(held))
}

/// Offset behind the empty line that ends the headers at `offset`, and true; or, if there is none, offset of the
/// separator or file end that ends them, and false. S5: or offset of the line that does not fit, and true.
///
/// The first line is no separator, whatever it says: Dovecot looks for a line end and a From_ line, and the line end
/// in front of the first line belongs to this message's own From_ line.
fn headers_end<S: Source>(window: &mut Window<S>, header_offset: u64) -> Result<(u64, bool), S::Error> {
    let mut offset = header_offset;
    loop {
        let rest = window.at(offset, from_line::LINE_MAX)?;
        let line_end = line_end_len(rest) as u64;
        if line_end > 0 {
            return Ok((offset + line_end, true));
        }
        if rest.is_empty() || (offset > header_offset && from_line::parse(rest).is_some()) {
            return Ok((offset, false));
        }
        let next = window.line_end(offset)?;
        if next - header_offset > HEADERS_MAX as u64 {
            return Ok((offset, true));
        }
        offset = next;
    }
}

/// Offset of the first valid From_ line at or behind `offset`, which must be the start of a line; else the file's end.
fn next_separator<S: Source>(window: &mut Window<S>, mut offset: u64) -> Result<u64, S::Error> {
    loop {
        let rest = window.at(offset, from_line::LINE_MAX)?;
        if rest.is_empty() || from_line::parse(rest).is_some() {
            return Ok(offset); // S2
        }
        offset = window.line_end(offset)?;
    }
}

#[cfg(test)]
mod tests;
