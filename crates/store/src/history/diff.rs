//! What a write does to the messages of a mailbox, found out before it is done.
//!
//! F1  Only the part that is written is looked at, from the start of the message that the write begins in to the end of the
//!     one that it ends in: the cost is that of what the mail program wrote itself. Appends are not compared with anything.
//!     A session that is too large for one commit comes in pieces; where two of them meet, messages seem to go and come.
//! F2  Messages count as a multiset, by `mbox::identity`: whatever is gone is found, moved ones are none of it.
//!
//! Not here: keeping it (`history`).

use mboxfs_mbox::{
    from_line,
    header::headers,
    index::{Index, Unindexed},
    scan::{Scan, Span},
    source::Source,
};
use mboxfs_types::{
    call::Extent,
    history::{ADDED_MAX, Gone, TEXT_BYTES_MAX},
};
use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt};

const FROM: &[u8] = b"From ";
/// Bytes looked at once on the way back to the start of a message.
const BACK_BYTES: u64 = 64 << 10;
/// What is larger is not compared: other readers of the brick wait meanwhile (`limits::STALL`).
const COMPARED_BYTES_MAX: u64 = 512 << 20;
/// Headers of a message that are read for its summary.
const HEAD_BYTES: u64 = 256 << 10;

/// A write, before it is done.
#[derive(Clone, Copy)]
pub(crate) struct Change<'a> {
    /// The file as it is.
    pub(crate) file: &'a File,
    /// Its size.
    pub(crate) was: u64,
    pub(crate) cut: u64,
    pub(crate) extents: &'a [Extent],
    pub(crate) size: u64,
}

/// What it comes to.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) added: Vec<String>,
    pub(crate) added_count: u64,
    pub(crate) removed: Vec<Gone>,
    /// Where they are in the file.
    pub(crate) ranges: Vec<(u64, u64)>,
    pub(crate) changed: u64,
    /// Messages move, or go: what is found must be durable before it is done.
    pub(crate) moves: bool,
}

impl Found {
    fn add(&mut self, id: String) {
        self.added_count += 1;
        if self.added.len() < ADDED_MAX {
            self.added.push(id);
        }
    }
}

impl Change<'_> {
    /// Errors: the file cannot be read.
    pub(crate) fn examine(&self) -> io::Result<Found> {
        let kept = self.cut.min(self.size).min(self.was);
        let below = self.extents.iter().filter(|e| e.offset < self.was);
        let first = below.clone().map(|e| e.offset).fold(kept, u64::min);
        let mut found = Found {
            changed: below.count() as u64,
            ..Found::default()
        };
        if first >= self.was {
            self.appended(&mut found);
            return Ok(found);
        }
        if !self.is_mailbox()? {
            return Ok(found);
        }
        if !self.moves(kept)? {
            self.appended(&mut found);
            return Ok(found);
        }
        found.moves = true;
        found.changed = 0;
        let start = self.message_start(first)?;
        let over = self.extents.iter().filter(|e| e.offset < self.was);
        let last = over.map(|e| e.offset + e.data.len() as u64).fold(first, u64::max);
        if kept == self.was && last < self.was {
            let end = self.message_end(last)?;
            self.compare(start, (end, end), &mut found)?;
            self.appended(&mut found);
        } else {
            self.compare(start, (self.was, self.size), &mut found)?;
        }
        Ok(found)
    }

    /// Messages that begin behind the old end.
    fn appended(&self, found: &mut Found) {
        let mut bytes = Vec::new();
        for extent in self.extents {
            let skip = usize::try_from(self.was.saturating_sub(extent.offset)).unwrap_or(usize::MAX);
            bytes.extend_from_slice(extent.data.get(skip..).unwrap_or_default());
        }
        for span in Scan::new(&bytes).filter(|span| !span.pseudo) {
            found.add(text(span.headers(&bytes), "Message-ID"));
        }
    }

    fn is_mailbox(&self) -> io::Result<bool> {
        let mut start = [0; FROM.len()];
        let len = FROM.len().min(usize::try_from(self.was).unwrap_or(usize::MAX));
        self.file.read_exact_at(&mut start[..len], 0)?;
        Ok(start == FROM)
    }

    /// Could the start of a message be in what is overwritten, cut off, or written over it? Rather yes than no.
    fn moves(&self, kept: u64) -> io::Result<bool> {
        let cut = (kept < self.was).then_some((kept, self.was));
        let over = self.extents.iter().map(|e| (e.offset, e.offset + e.data.len() as u64));
        for (from, to) in over.chain(cut) {
            let (mut at, end) = (from, to.min(self.was));
            while at < end {
                let len = (end - at).min(BACK_BYTES);
                let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
                self.file.read_exact_at(&mut bytes, at)?;
                if holds_from(&bytes) {
                    return Ok(true);
                }
                // A start may lie across two pieces.
                at = if at + len < end {
                    at + len - FROM.len() as u64
                } else {
                    end
                };
            }
        }
        let mut written = self.extents.iter().filter(|e| e.offset < self.was);
        Ok(written.any(|e| holds_from(&e.data)))
    }

    /// Where the message begins that byte `first` is in.
    fn message_start(&self, first: u64) -> io::Result<u64> {
        let mut end = (first + from_line::LINE_MAX as u64).min(self.was);
        loop {
            let from = end.saturating_sub(BACK_BYTES);
            let mut bytes = vec![0; usize::try_from(end - from).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, from)?;
            let most = usize::try_from((first + 1).saturating_sub(from))
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            for at in (0..most).rev() {
                let at_start = if at == 0 { from == 0 } else { bytes[at - 1] == b'\n' };
                if at_start && bytes[at..].starts_with(FROM) && from_line::parse(&bytes[at..]).is_some() {
                    return Ok(from + at as u64);
                }
            }
            if from == 0 {
                return Ok(0);
            }
            // Pieces overlap by a From_ line, so that each is seen whole, and in front of it a line end.
            end = from + from_line::LINE_MAX as u64 + 1;
        }
    }

    /// Where the first message begins at or behind byte `last`, from which on nothing changes.
    fn message_end(&self, last: u64) -> io::Result<u64> {
        let mut from = last.saturating_sub(1); // the line end in front of it
        while from < self.was {
            let end = (from + BACK_BYTES).min(self.was);
            let mut bytes = vec![0; usize::try_from(end - from).map_err(io::Error::other)?];
            self.file.read_exact_at(&mut bytes, from)?;
            let found = (1..bytes.len()).find(|at| {
                let rest = &bytes[*at..];
                bytes[at - 1] == b'\n' && rest.starts_with(FROM) && from_line::parse(rest).is_some()
            });
            match found {
                Some(at) => return Ok(from + at as u64),
                None if end == self.was => break,
                None => from = end - from_line::LINE_MAX as u64 - 1,
            }
        }
        Ok(self.was)
    }

    /// F2. `ends`: of what is compared, before and after.
    fn compare(&self, start: u64, ends: (u64, u64), found: &mut Found) -> io::Result<()> {
        if ends.0.max(ends.1) - start > COMPARED_BYTES_MAX {
            return Ok(());
        }
        let region = |now: bool| Region {
            change: *self,
            start,
            end: if now { ends.1 } else { ends.0 },
            now,
        };
        let (old, new) = (index(region(false))?, index(region(true))?);
        let (Some(old), Some(new)) = (old, new) else {
            return Ok(());
        };
        let mut left: BTreeMap<[u8; 32], Vec<usize>> = BTreeMap::new();
        for (i, entry) in new.entries().enumerate() {
            left.entry(entry.identity.0).or_default().push(i);
        }
        let news: Vec<_> = new.entries().collect();
        for (entry, span) in old.entries().zip(old.spans()) {
            match left.get_mut(&entry.identity.0).and_then(Vec::pop) {
                Some(i) => found.changed += u64::from(news[i] != entry),
                None => {
                    found.removed.push(region(false).gone(entry.identity.0, &span)?);
                    found.ranges.push((start + span.from_offset, start + span.end));
                }
            }
        }
        let spans: Vec<Span> = new.spans().collect();
        let mut added: Vec<usize> = left.into_values().flatten().collect();
        added.sort_unstable();
        for i in added {
            let head = region(true).head(&spans[i])?;
            found.add(text(&head, "Message-ID"));
        }
        Ok(())
    }
}

/// All messages of a file that is about to go.
///
/// Errors: it cannot be read.
pub(crate) fn whole(file: &File, len: u64) -> io::Result<Found> {
    let change = Change {
        file,
        was: len,
        cut: 0,
        extents: &[],
        size: 0,
    };
    let mut found = Found::default();
    if len > 0 && change.is_mailbox()? {
        change.compare(0, (len, 0), &mut found)?;
    }
    Ok(found)
}

/// None: more messages than can be told apart.
fn index(region: Region<'_>) -> io::Result<Option<Index>> {
    match Index::read(region) {
        Ok(index) => Ok(Some(index)),
        Err(Unindexed::TooMany) => Ok(None),
        Err(Unindexed::Source(error)) => Err(error),
    }
}

fn holds_from(bytes: &[u8]) -> bool {
    bytes.windows(FROM.len()).any(|window| window == FROM)
}

/// The value of a header, on one line, not too long.
fn text(block: &[u8], name: &str) -> String {
    let value = headers(block).find(|h| h.is(name)).map_or(&b""[..], |h| h.value);
    let mut text = String::from_utf8_lossy(value)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// A part of the file, before the write or after it.
#[derive(Clone, Copy)]
struct Region<'a> {
    change: Change<'a>,
    start: u64,
    end: u64,
    now: bool,
}

impl Region<'_> {
    fn head(&mut self, span: &Span) -> io::Result<Vec<u8>> {
        let len = (span.body_offset - span.header_offset).min(HEAD_BYTES);
        let mut head = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        let mut done = 0;
        while done < head.len() {
            match self.read_at(span.header_offset + done as u64, &mut head[done..])? {
                0 => break,
                n => done += n,
            }
        }
        head.truncate(done);
        Ok(head)
    }

    fn gone(&mut self, identity: [u8; 32], span: &Span) -> io::Result<Gone> {
        let head = self.head(span)?;
        Ok(Gone {
            identity,
            from: text(&head, "From"),
            date: text(&head, "Date"),
            subject: text(&head, "Subject"),
            id: text(&head, "Message-ID"),
            len: span.end - span.from_offset,
            place: None,
        })
    }
}

impl Source for Region<'_> {
    type Error = io::Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let Change {
            file,
            was,
            cut,
            extents,
            ..
        } = self.change;
        let at = self.start + offset;
        let mut end = (at + buf.len() as u64).min(self.end);
        let old = if self.now {
            // Later extents win: what covers this byte, and where something more important begins.
            for extent in extents.iter().rev() {
                let stop = extent.offset + extent.data.len() as u64;
                if (extent.offset..stop).contains(&at) && at < end {
                    let from = usize::try_from(at - extent.offset).map_err(io::Error::other)?;
                    let len = usize::try_from(end.min(stop) - at).map_err(io::Error::other)?;
                    buf[..len].copy_from_slice(&extent.data[from..from + len]);
                    return Ok(len);
                }
                if extent.offset > at {
                    end = end.min(extent.offset);
                }
            }
            cut.min(was)
        } else {
            was
        };
        if at >= end {
            return Ok(0);
        }
        let len = if at < old { end.min(old) - at } else { end - at };
        let part = &mut buf[..usize::try_from(len).map_err(io::Error::other)?];
        if at < old {
            file.read_exact_at(part, at)?;
        } else {
            part.fill(0); // a hole
        }
        Ok(part.len())
    }
}

#[cfg(test)]
mod tests;
