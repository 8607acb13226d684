//! What happened to mailboxes, and the messages that were removed from them: kept for some time, by size and age, so that
//! operators can look back and get messages back.
//!
//! Segments `.mboxfs/history/<number>-<seconds>`, of frames: the bytes of removed messages, then the entry that they belong to.
//!
//! Y1  An entry that removes messages, or moves any, is durable before the mailbox is changed, even in memory. So over any
//!     replay (disk D2) it is either there, and is not written again, or the file is still as it was.
//! Y2  It never costs mail anything: what the disk has no room for is let go here first, oldest first, and what still does
//!     not fit is left out. Its bytes count as free space.
//! Y3  Entries of records that the log does not have any more, because that line of history was dropped, are dropped too.
//! Y4  Only the end can be torn; it is cut there. Nothing needs the history: deleting it is always safe.
//!
//! Not here: which records there are (`brick`), what a write removes (`diff`), questions (`past`).

pub(crate) mod diff;
mod frame;
mod past;

use crate::medium::{DirMedium, Medium, is_full, join};
use frame::{Frame, HEAD_BYTES, Kind, PIECE_BYTES_MAX};
use mboxfs_types::{
    Ino, Timestamp, codec,
    history::{Did, Entry, Place},
    limits,
};
pub use past::Past;
use std::{
    collections::{BTreeMap, VecDeque},
    io::{self, ErrorKind},
};

/// Directory of the segments, in `.mboxfs`.
pub(crate) const HISTORY_DIR: &str = "history";
/// A segment that is larger is followed by another one.
const SEGMENT_BYTES: u64 = 16 << 20;
/// A segment covers this part of the time that is kept, at most.
const SEGMENT_SHARE: u64 = 24;
/// Bytes that are kept with one entry: more takes too long before a write (`limits::STALL`).
const ENTRY_BYTES_MAX: u64 = 128 << 20;
/// Files without a name, whose name is remembered until they are freed.
const UNNAMED_MAX: usize = 10_000;

/// How much is kept: what is older, and the oldest of what is more, is let go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// Seconds.
    pub age_secs: u64,
    /// Bytes. 0: nothing is kept.
    pub bytes: u64,
}

impl Retention {
    /// A day, and a part of a disk of `total` bytes.
    #[must_use]
    pub fn of_disk(total: u64) -> Self {
        Self {
            age_secs: limits::RETAIN_AGE.0 / 1_000_000_000,
            bytes: (total / limits::RETAIN_SHARE).min(limits::RETAIN_BYTES_MAX),
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    /// Volume time of its first entry.
    pub(crate) start: i64,
    pub(crate) bytes: u64,
}

impl Segment {
    fn path(&self) -> String {
        join(HISTORY_DIR, &format!("{:016x}-{}", self.number, self.start))
    }

    fn of(name: &str) -> Option<Self> {
        let (number, start) = name.split_once('-')?;
        Some(Self {
            number: u64::from_str_radix(number, 16).ok()?,
            start: start.parse().ok()?,
            bytes: 0,
        })
    }
}

/// The end of the newest segment.
#[derive(Clone, Copy, Debug)]
struct End {
    at: u64,
    chain: u32,
}

/// The history of one brick.
pub(crate) struct History<M: Medium = DirMedium> {
    medium: M,
    retention: Retention,
    /// Oldest first; the last one is written to.
    segments: VecDeque<Segment>,
    active: Option<(M::File, End)>,
    /// Record of the last entry.
    last: u64,
    last_time: Timestamp,
    /// Where files without a name were.
    unnamed: BTreeMap<Ino, String>,
    dirty: bool,
}

/// Fills the buffer with bytes of the messages that an entry removes, one after the other, from an offset on.
pub(crate) type Read<'a> = dyn FnMut(u64, &mut [u8]) -> io::Result<()> + 'a;

impl<M: Medium> History<M> {
    /// What is there, of records up to `last` (Y3). The directory is made when there is something to write.
    pub(crate) fn open(medium: M, last: u64) -> io::Result<Self> {
        let mut history = Self {
            medium,
            retention: Retention { age_secs: 0, bytes: 0 },
            segments: VecDeque::new(),
            active: None,
            last: 0,
            last_time: Timestamp::default(),
            unnamed: BTreeMap::new(),
            dirty: false,
        };
        let names = match history.medium.names(HISTORY_DIR) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(history),
            names => names?,
        };
        for name in names {
            let Some(mut segment) = Segment::of(&name) else {
                continue;
            };
            let file = history.medium.open(&segment.path())?;
            segment.bytes = history.medium.len(&file)?;
            history.segments.push_back(segment);
        }
        // The newest one is read whole; older ones only if nothing of it counts.
        while let Some(segment) = history.segments.back().copied() {
            let file = history.medium.open(&segment.path())?;
            history.medium.settle(&file)?;
            let end = history.find_end(&file, segment, last)?;
            if end.at > 0 {
                if let Some(segment) = history.segments.back_mut() {
                    segment.bytes = end.at;
                }
                history.active = Some((file, end));
                break;
            }
            history.medium.remove(&segment.path())?;
            history.segments.pop_back();
        }
        Ok(history)
    }

    /// Behind the last entry that counts (Y3, Y4).
    fn find_end(&mut self, file: &M::File, segment: Segment, last: u64) -> io::Result<End> {
        let chain = frame::seed(segment.number);
        let (mut next, mut end) = (End { at: 0, chain }, End { at: 0, chain });
        while let Some(frame) = Frame::read(&self.medium, file, segment.bytes, next.at, next.chain)? {
            let Some(body) = frame.body(&self.medium, file)? else {
                break;
            };
            next = End {
                at: frame.end(),
                chain: frame.chain,
            };
            if frame.kind == Kind::Bytes {
                continue;
            }
            let Ok(entry) = codec::decode::<Entry>(&body) else {
                break;
            };
            if entry.n > last {
                break;
            }
            self.note(&entry);
            end = next;
        }
        Ok(end)
    }

    fn note(&mut self, entry: &Entry) {
        self.last = self.last.max(entry.n);
        self.last_time = self.last_time.max(entry.time);
        match &entry.did {
            Did::Unnamed if self.unnamed.len() < UNNAMED_MAX => {
                self.unnamed.insert(entry.ino, entry.path.clone());
            }
            Did::Freed { .. } | Did::Named => {
                self.unnamed.remove(&entry.ino);
            }
            _ => {}
        }
    }

    pub(crate) const fn retain(&mut self, retention: Retention) {
        self.retention = retention;
    }

    /// Is there an entry for this record already? (Y1)
    pub(crate) const fn has(&self, n: u64) -> bool {
        n <= self.last
    }

    pub(crate) const fn last(&self) -> (u64, Timestamp) {
        (self.last, self.last_time)
    }

    /// Where a file without a name was.
    pub(crate) fn unnamed(&self, ino: Ino) -> String {
        self.unnamed.get(&ino).cloned().unwrap_or_default()
    }

    /// Bytes that could be let go.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments.iter().map(|s| s.bytes).sum()
    }

    /// Lets the oldest segment go, the one that is written to at last. False: there is none.
    pub(crate) fn drop_oldest(&mut self) -> io::Result<bool> {
        let Some(oldest) = self.segments.pop_front() else {
            return Ok(false);
        };
        if self.segments.is_empty() {
            self.active = None;
        }
        self.medium.remove(&oldest.path())?;
        Ok(true)
    }

    /// Writes an entry, with the messages that it removes (their `place` is filled in); durably, if `sync`.
    ///
    /// Errors: those of the medium but for a lack of room, for which the oldest goes, and then this entry (Y2).
    pub(crate) fn write(&mut self, entry: &mut Entry, sync: bool, read: &mut Read<'_>) -> io::Result<()> {
        if self.retention.bytes == 0 {
            return Ok(());
        }
        loop {
            let before = self
                .segments
                .back()
                .zip(self.active.as_ref())
                .map(|(s, (_, end))| (s.number, *end));
            let result = self.try_write(entry, sync, read);
            match result {
                Err(error) if is_full(&error) => {
                    // What was begun is no frame that follows, and is written over.
                    if let (Some((_, end)), Some(segment)) = (&mut self.active, self.segments.back_mut()) {
                        let chain = frame::seed(segment.number);
                        let same = before.filter(|(number, _)| *number == segment.number);
                        *end = same.map_or(End { at: 0, chain }, |(_, end)| end);
                        segment.bytes = end.at;
                    }
                    // A segment made for this entry alone is no room to be gained.
                    let is_all = self.bytes() == 0;
                    if !self.drop_oldest()? || is_all {
                        return Ok(());
                    }
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    self.note(entry);
                    return self.trim(entry.time);
                }
            }
        }
    }

    fn try_write(&mut self, entry: &mut Entry, sync: bool, read: &mut Read<'_>) -> io::Result<()> {
        self.roll(entry.time)?;
        let number = self.segments.back().map_or(0, |s| s.number);
        let mut room = (self.retention.bytes / 2).min(ENTRY_BYTES_MAX);
        let mut from = 0; // bytes of all messages, one after the other
        if let Did::Content { removed, .. } | Did::Freed { removed, .. } = &mut entry.did {
            for gone in removed {
                gone.place = None;
                if gone.len <= room {
                    room -= gone.len;
                    let offset = self.put_message(from, gone.len, read)?;
                    gone.place = Some(Place {
                        segment: number,
                        offset,
                    });
                }
                from += gone.len;
            }
        }
        self.put(Kind::Entry, &codec::encode(entry))?;
        self.dirty = !sync;
        if sync && let Some((file, _)) = &self.active {
            self.medium.sync(file)?;
        }
        Ok(())
    }

    fn put_message(&mut self, from: u64, len: u64, read: &mut Read<'_>) -> io::Result<u64> {
        let first = self.active.as_ref().map_or(0, |(_, end)| end.at);
        let mut done = 0;
        let mut piece = Vec::new();
        while done < len {
            let size = (len - done).min(PIECE_BYTES_MAX as u64);
            piece.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
            read(from + done, &mut piece)?;
            self.put(Kind::Bytes, &piece)?;
            done += size;
        }
        Ok(first)
    }

    fn put(&mut self, kind: Kind, body: &[u8]) -> io::Result<()> {
        let Some((file, end)) = &mut self.active else {
            return Err(ErrorKind::StorageFull.into());
        };
        let (bytes, chain) = frame::encode(kind, body, end.chain);
        self.medium.write_at(file, end.at, &bytes)?;
        *end = End {
            at: end.at + bytes.len() as u64,
            chain,
        };
        if let Some(segment) = self.segments.back_mut() {
            segment.bytes = end.at;
        }
        Ok(())
    }

    /// There is a segment to write to, not too large and not too old.
    fn roll(&mut self, now: Timestamp) -> io::Result<()> {
        let newest = self.segments.back().copied();
        let span = i64::try_from(self.retention.age_secs / SEGMENT_SHARE).unwrap_or(i64::MAX);
        let size = SEGMENT_BYTES.min(self.retention.bytes / 4);
        if let (Some(newest), true) = (newest, self.active.is_some())
            && newest.bytes < size
            && now.secs.saturating_sub(newest.start) <= span
        {
            return Ok(());
        }
        if let Some((file, _)) = self.active.take() {
            self.medium.sync(&file)?;
        }
        if newest.is_none() {
            self.medium.make_dir(HISTORY_DIR)?;
        }
        let number = newest.map_or(1, |s| s.number + 1);
        let segment = Segment {
            number,
            start: now.secs,
            bytes: 0,
        };
        let file = self.medium.create(&segment.path())?;
        self.medium.sync_dir(HISTORY_DIR)?;
        self.segments.push_back(segment);
        let chain = frame::seed(number);
        self.active = Some((file, End { at: 0, chain }));
        Ok(())
    }

    /// Lets go what is too old, or too much.
    fn trim(&mut self, now: Timestamp) -> io::Result<()> {
        let age = i64::try_from(self.retention.age_secs).unwrap_or(i64::MAX);
        loop {
            // All of a segment is older than the start of the next one.
            let old = self
                .segments
                .get(1)
                .is_some_and(|next| now.secs.saturating_sub(next.start) > age);
            let much = self.segments.len() > 1 && self.bytes() > self.retention.bytes;
            if !old && !much {
                return Ok(());
            }
            self.drop_oldest()?;
        }
    }

    /// The file that is to be synced at the next checkpoint, if it is not durable.
    pub(crate) fn take_dirty(&mut self) -> Option<&M::File> {
        if std::mem::take(&mut self.dirty) {
            return self.active.as_ref().map(|(file, _)| file);
        }
        None
    }
}

const _: () = assert!(HEAD_BYTES < PIECE_BYTES_MAX);

#[cfg(test)]
mod tests;
