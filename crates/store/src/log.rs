//! The redo log: records in order, durable when `append` returns.
//!
//! R1  `append` returns after one write and one flush (per segment touched); what it returned for survives a power cut.
//! R2  Opened again, the log holds a prefix of what was written, and all of what was acknowledged. What a crash tore is
//!     cut and erased; what rotted is an error, never cut (frame G3, PROTOCOL.md section 9.1).
//! R3  Remains of an older use of a file, or of a line of history that was dropped, never pass as a continuation.
//! R4  A failed write or flush ends this log: every later change fails. A flush is never tried again. No room for the next
//!     segment is no failure: what was not written can be appended again.
//! R5  The directory holds, at every instant, segments without gaps that end with the newest: removal and recycling go
//!     from the oldest up, dropping goes from the newest down, each step durable before the next.
//! R6  A segment is begun only when all records of the one before are durable.
//! R7  Who needs no record below a damaged one goes on behind it: it is as if the log had been trimmed up to there. Nothing is
//!     removed for that.
//!
//! Not here: bytes (`frame`), one file (`segment`), which records are needed (`brick`).

use crate::{
    error::LogError,
    frame::{BODY_BYTES_MAX, Head, SEGMENT_HEAD_BYTES, Salt, SegmentHead, frame_bytes},
    medium::{DirMedium, Medium, TEMP_SUFFIX, is_full, join},
    reserve,
    segment::{Index, LOG_DIR, Place, Segment, number_in, segment_name},
};
use mboxfs_types::{codec, ids::BrickUuid, planted::Bug, record::Record};
use rustix::fd::OwnedFd;
use std::{collections::VecDeque, fmt, io, sync::Arc};

/// Bytes of a segment, unless told otherwise.
pub const SEGMENT_BYTES: u64 = 64 << 20;
/// Smallest segment that is of any use.
pub const SEGMENT_BYTES_MIN: u64 = 4 << 10;
/// Bytes of a segment on a full disk, unless a record needs more.
const SEGMENT_BYTES_FULL: u64 = 1 << 20;
/// Used segments kept for recycling.
const SPARES_MAX: usize = 2;
const SPARE_PREFIX: &str = "spare-";
const RESTART_PREFIX: &str = "restart-";

/// Keeps the brick's directory locked for as long as any part of the store lives.
pub(crate) type Guard = Option<Arc<OwnedFd>>;

/// The log.
pub struct Log<M: Medium = DirMedium> {
    medium: M,
    salt: Salt,
    segment_bytes: u64,
    /// Oldest first; never empty. The last one is scanned and written to.
    segments: VecDeque<Segment<M::File>>,
    spares: Vec<String>,
    last: u64,
    chain: u32,
    /// R7: the last record that is known to be damaged; 0: none.
    damaged: u64,
    failed: bool,
    flushes: u64,
    bytes: u64,
    buf: Vec<u8>,
    _guard: Guard,
}

impl<M: Medium> fmt::Debug for Log<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("start", &self.start())
            .field("last", &self.last)
            .field("segments", &self.segments.len())
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

impl<M: Medium> Log<M> {
    /// Makes an empty log whose first record is 1.
    pub(crate) fn format(medium: &M, uuid: BrickUuid, segment_bytes: u64) -> io::Result<()> {
        for name in medium.names(LOG_DIR)? {
            medium.remove(&join(LOG_DIR, &name))?;
        }
        let salt = Salt::new(uuid);
        let head = SegmentHead {
            first: 1,
            chain: salt.chain(),
        };
        let len = segment_bytes.max(SEGMENT_BYTES_MIN);
        Segment::create(medium, &segment_name(1), head, len, &[], salt)?;
        Ok(())
    }

    /// Opens the log; only the newest segment is read (R2), the others when they are needed.
    pub(crate) fn open(medium: M, uuid: BrickUuid, segment_bytes: u64, guard: Guard) -> Result<Self, LogError> {
        let salt = Salt::new(uuid);
        medium.sync_dir(LOG_DIR)?;
        for name in medium.names(LOG_DIR)? {
            if let Some(next) = name.strip_prefix(RESTART_PREFIX).and_then(number_in) {
                finish_restart(&medium, next)?;
            }
        }
        let mut firsts = Vec::new();
        let mut spares = Vec::new();
        for name in medium.names(LOG_DIR)? {
            if name.ends_with(TEMP_SUFFIX) {
                medium.remove(&join(LOG_DIR, &name))?;
            } else if name.starts_with(SPARE_PREFIX) {
                spares.push(name);
            } else if let Some(first) = number_in(&name) {
                firsts.push(first);
            }
        }
        let newest = *firsts.last().ok_or(LogError::Missing)?;
        let mut segments = VecDeque::new();
        let mut damaged = 0;
        for (i, first) in firsts.iter().copied().enumerate() {
            let (segment, is_good) = Segment::open(&medium, first, first == newest, salt)?;
            if !is_good {
                let next = firsts.get(i + 1).ok_or(LogError::Rot { n: first })?;
                damaged = next - 1;
            }
            segments.push_back(segment);
        }
        let mut log = Self {
            medium,
            salt,
            segment_bytes: segment_bytes.max(SEGMENT_BYTES_MIN),
            segments,
            spares,
            last: 0,
            chain: 0,
            damaged,
            failed: false,
            flushes: 0,
            bytes: 0,
            buf: Vec::new(),
            _guard: guard,
        };
        log.recover_tail()?;
        Ok(log)
    }

    /// R2, R3: finds the end of the newest segment and erases what follows it.
    fn recover_tail(&mut self) -> Result<(), LogError> {
        let segment = self.segments.back_mut().expect("never empty");
        let mut from = segment.start();
        let (index, tail) = loop {
            let index = segment.follow(&self.medium, from, u64::MAX, self.salt)?;
            let (end, n) = (index.end, index.last + 1);
            let tail = segment.tail(&self.medium, end, n, self.salt)?;
            if !tail.rotten || Bug::RotCut.here() {
                break (index, tail);
            }
            from = tail.resumes.ok_or(LogError::Rot { n })?;
            self.damaged = from.n - 1;
        };
        if tail.garbage_end > index.end {
            let zeros = vec![0; usize::try_from(tail.garbage_end - index.end).map_err(io::Error::other)?];
            self.medium.append(&segment.file, index.end, &zeros)?;
        }
        (self.last, self.chain) = (index.last, index.chain);
        segment.index = Some(index);
        Ok(())
    }

    /// First position still here, and all that follow; `last() + 1` if there is none.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.first().max(self.damaged + 1)
    }

    /// The last record that is known to be damaged (R7); 0: none is.
    #[must_use]
    pub const fn damaged(&self) -> u64 {
        self.damaged
    }

    /// First position that was not trimmed.
    fn first(&self) -> u64 {
        self.segments.front().expect("never empty").head.first
    }

    /// Last durable position; 0 before the first record ever.
    #[must_use]
    pub const fn last(&self) -> u64 {
        self.last
    }

    /// Device flushes that `append` asked for since the log was opened.
    #[must_use]
    pub const fn flushes(&self) -> u64 {
        self.flushes
    }

    /// Bytes that `append` wrote since the log was opened.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Puts `records` at the end and makes them durable; returns the last durable position.
    ///
    /// Errors: `InvalidInput`, with nothing changed, if the first is not `last() + 1` or they are not dense; `StorageFull` if
    /// there is no room for those behind `last()`. Whatever else fails ends this log (R4), also a record too long for a segment.
    pub fn append(&mut self, records: &[Record]) -> io::Result<u64> {
        self.trusted()?;
        let dense = records.iter().zip(self.last + 1..).all(|(record, n)| record.tag.n == n);
        if !dense {
            let first = records.first().map_or(0, |r| r.tag.n);
            let why = format!("records from {first} on do not follow record {} of the log", self.last);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let result = self.write(records);
        // With nothing left to write it was the next segment that found no room.
        let full = |error: &io::Error| is_full(error) && self.buf.is_empty();
        self.failed = result.as_ref().is_err_and(|error| !full(error));
        result
    }

    /// R4
    fn trusted(&self) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "the log failed before and is not trusted again in this start",
            ));
        }
        Ok(())
    }

    fn write(&mut self, records: &[Record]) -> io::Result<u64> {
        self.buf.clear();
        for record in records {
            let body = codec::encode(record);
            let frame = frame_bytes(body.len());
            if body.len() > BODY_BYTES_MAX || frame > self.segment_bytes - SEGMENT_HEAD_BYTES {
                let why = format!(
                    "record {} has {} bytes: more than a segment holds",
                    record.tag.n,
                    body.len()
                );
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            if !self.fits(frame) {
                self.flush()?; // R6
                self.roll(frame)?;
            }
            self.put(record.tag.n, &body);
        }
        self.flush()?;
        Ok(self.last)
    }

    fn fits(&self, frame: u64) -> bool {
        let active = self.segments.back().expect("never empty");
        let end = active.index.as_ref().expect("the newest is scanned").end;
        end + self.buf.len() as u64 + frame <= active.len
    }

    fn put(&mut self, n: u64, body: &[u8]) {
        let head = Head {
            len: u32::try_from(body.len()).expect("checked by the caller"),
            n,
            synced: self.last,
            prev: self.chain,
            body: crc32fast::hash(body),
        };
        let active = self.segments.back_mut().expect("never empty");
        let index = active.index.as_mut().expect("the newest is scanned");
        index.push(index.end + self.buf.len() as u64);
        self.chain = head.put(body, self.salt, &mut self.buf);
    }

    /// Writes and syncs what was put.
    fn flush(&mut self) -> io::Result<()> {
        if self.buf.is_empty() {
            return Ok(());
        }
        let active = self.segments.back_mut().expect("never empty");
        let index = active.index.as_mut().expect("the newest is scanned");
        if Bug::SyncForgotten.here() {
            self.medium.write_at(&active.file, index.end, &self.buf)?;
        } else {
            self.medium.append(&active.file, index.end, &self.buf)?;
        }
        index.end += self.buf.len() as u64;
        index.chain = self.chain;
        self.last = index.last;
        self.flushes += 1;
        self.bytes += self.buf.len() as u64;
        self.buf.clear();
        Ok(())
    }

    /// Makes a segment that holds a record of `need` bytes. On a full disk it is smaller than others, and only for the smallest
    /// the reserve is given up.
    fn create(&self, head: SegmentHead, need: u64) -> io::Result<Segment<M::File>> {
        let least = (SEGMENT_HEAD_BYTES + need)
            .max(SEGMENT_BYTES_FULL)
            .min(self.segment_bytes);
        let name = segment_name(head.first);
        let of_size = |len| Segment::create(&self.medium, &name, head, len, &[], self.salt);
        let mut len = self.segment_bytes;
        loop {
            match of_size(len) {
                Err(error) if is_full(&error) && len > least => len = (len / 4).max(least),
                Err(error) if is_full(&error) && reserve::give_up(&self.medium)? => {}
                Err(error) => {
                    // What was begun takes no room.
                    self.medium.remove(&format!("{}{TEMP_SUFFIX}", join(LOG_DIR, &name)))?;
                    return Err(error);
                }
                made => return made,
            }
        }
    }

    /// Begins the next segment, for a record of `need` bytes. All records so far are durable (R6).
    fn roll(&mut self, need: u64) -> io::Result<()> {
        let head = SegmentHead {
            first: self.last + 1,
            chain: self.chain,
        };
        let empty = self
            .segments
            .back()
            .is_some_and(|segment| segment.head.first == head.first);
        while let Some(spare) = self.spares.pop() {
            let path = join(LOG_DIR, &spare);
            if !empty && self.medium.len(&self.medium.open(&path)?)? == self.segment_bytes {
                let segment = Segment::recycle(&self.medium, &spare, head, self.salt)?;
                self.segments.push_back(segment);
                return Ok(());
            }
            self.medium.remove(&path)?;
        }
        let segment = self.create(head, need)?;
        if empty {
            // It was made with another size, too small for the record: replaced under the same name.
            self.segments.pop_back();
        }
        self.segments.push_back(segment);
        Ok(())
    }

    /// Records from `from` on, up to about `bytes_max` bytes of them, at least one if there is one.
    ///
    /// Errors: [`LogError::Gone`] of what was trimmed; [`LogError::Rot`] if one cannot be read. Then [`Self::start`] lies
    /// above that one (R7).
    pub fn read(&mut self, from: u64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        match self.read_in_order(from, bytes_max) {
            Err(LogError::Rot { n }) => {
                self.give_up(n)?;
                Err(LogError::Rot { n: self.damaged })
            }
            read => read,
        }
    }

    fn read_in_order(&mut self, from: u64, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        let mut records = Vec::new();
        if from > self.last {
            return Ok(records);
        }
        let mut bytes = 0;
        let (mut at, mut place) = self.locate(from)?;
        loop {
            let segment = &self.segments[at];
            let last = segment.index.as_ref().map_or(0, |index| index.last);
            let mut window = segment.window(&self.medium);
            while place.n <= last && bytes < bytes_max {
                let rot = LogError::Rot { n: place.n };
                let Some(next) = window.step(place, self.salt)? else {
                    return Err(rot);
                };
                let Some(record) = window.record(place, self.salt)? else {
                    return Err(rot);
                };
                if record.tag.n != place.n {
                    return Err(rot);
                }
                records.push(record);
                bytes += usize::try_from(next.at - place.at).map_err(io::Error::other)?;
                place = next;
            }
            if bytes >= bytes_max || place.n > self.last {
                return Ok(records);
            }
            at += 1;
            let start = self.index(at)?.from;
            if start.n != place.n || start.prev != place.prev {
                return Err(LogError::Rot { n: place.n }); // R3, R6
            }
            place = start;
        }
    }

    /// R7: record `n` turned out to be damaged.
    fn give_up(&mut self, n: u64) -> io::Result<()> {
        if n > self.damaged {
            let at = self.segments.partition_point(|segment| segment.head.first <= n) - 1;
            self.scan(at)?;
            self.damaged = self.damaged.max(n);
        }
        Ok(())
    }

    /// All records from `from` on.
    pub(crate) fn read_all(&mut self, from: u64) -> Result<Vec<Record>, LogError> {
        self.read(from, usize::MAX)
    }

    /// Segment and place of record `n`, which is not above `last()`.
    fn locate(&mut self, n: u64) -> Result<(usize, Place), LogError> {
        let start = self.first();
        if n < start {
            return Err(LogError::Gone { from: n, start });
        }
        let at = self.segments.partition_point(|segment| segment.head.first <= n) - 1;
        self.index(at)?;
        if n <= self.damaged {
            return Err(LogError::Rot { n: self.damaged });
        }
        let segment = &self.segments[at];
        let mut place = segment.near(n);
        let mut window = segment.window(&self.medium);
        while place.n < n {
            place = window.step(place, self.salt)?.ok_or(LogError::Rot { n: place.n })?;
        }
        Ok((at, place))
    }

    /// What can be read of segment `at`; it is scanned unless that was done.
    fn index(&mut self, at: usize) -> io::Result<&Index> {
        if self.segments[at].index.is_none() {
            self.scan(at)?;
        }
        Ok(self.segments[at].index.as_ref().expect("scanned above"))
    }

    /// By R6 a segment reaches up to the next one.
    fn scan(&mut self, at: usize) -> io::Result<()> {
        let next = self.segments.get(at + 1).map(|segment| segment.head.first);
        let last = next.map_or(self.last, |next| next - 1);
        let segment = &mut self.segments[at];
        let mut run = segment.run(&self.medium, last, self.salt)?;
        if let Some(known) = &segment.index {
            // It is, or was, written to: where it ends is known, whatever its last records have become.
            if run.from.n > last {
                run.from.at = known.end;
                run.from.prev = Some(known.chain);
            }
            (run.end, run.chain) = (known.end, known.chain);
        }
        if run.from.n > segment.head.first {
            self.damaged = self.damaged.max(run.from.n - 1);
        }
        segment.index = Some(run);
        Ok(())
    }

    /// Lets go of the segments that lie wholly below `below`; some are kept for reuse.
    pub fn trim(&mut self, below: u64) -> io::Result<()> {
        self.trusted()?;
        let result = self.trim_segments(below);
        self.failed = result.is_err();
        result
    }

    fn trim_segments(&mut self, below: u64) -> io::Result<()> {
        while self.segments.get(1).is_some_and(|next| next.head.first <= below) {
            let name = segment_name(self.first());
            let path = join(LOG_DIR, &name);
            if self.spares.len() < SPARES_MAX {
                let spare = format!("{SPARE_PREFIX}{name}");
                self.medium.rename(&path, &join(LOG_DIR, &spare))?;
                self.spares.push(spare);
            } else {
                self.medium.remove(&path)?;
            }
            self.medium.sync_dir(LOG_DIR)?; // R5
            self.segments.pop_front();
        }
        Ok(())
    }

    /// Erases all records above `keep`, durably. The brick must be opened anew afterwards, with [`crate::Opened::open`]:
    /// that also removes the snapshots that lie above.
    ///
    /// Errors: [`LogError::Gone`] if `keep` lies below the log; [`LogError::Rot`] if it cannot be found.
    pub fn drop_above(&mut self, keep: u64) -> Result<(), LogError> {
        self.trusted()?;
        if keep >= self.last {
            return Ok(());
        }
        let start = self.start();
        if keep + 1 < start {
            return Err(LogError::Gone { from: keep + 1, start });
        }
        self.failed = true; // until it is whole again
        while self.segments.len() > 1 && self.segments.back().is_some_and(|segment| segment.head.first > keep) {
            let first = self.segments.back().expect("more than one").head.first;
            self.medium.remove(&join(LOG_DIR, &segment_name(first)))?;
            self.medium.sync_dir(LOG_DIR)?; // R5
            self.segments.pop_back();
        }
        // The kept part goes into a new file: erasing in place could be torn and look like rot.
        let old = self.segments.back().expect("never empty");
        let run = old.run(&self.medium, keep, self.salt)?;
        if run.from.n > start.max(old.head.first) {
            return Err(LogError::Rot { n: run.from.n - 1 }); // R7: nobody said that it is not needed
        }
        let content = old.window(&self.medium).content(&run)?;
        let head = SegmentHead {
            first: run.from.n,
            chain: run.from.prev.unwrap_or(self.salt.chain()),
        };
        let name = segment_name(head.first);
        let mut new = Segment::create(&self.medium, &name, head, old.len, &content, self.salt)?;
        let index = new.follow(&self.medium, new.start(), keep, self.salt)?;
        if index.last != keep {
            return Err(LogError::Rot { n: index.last + 1 });
        }
        if head.first > old.head.first {
            // It began with records that were damaged.
            self.medium.remove(&join(LOG_DIR, &segment_name(old.head.first)))?;
            self.medium.sync_dir(LOG_DIR)?;
        }
        (self.last, self.chain) = (keep, index.chain);
        new.index = Some(index);
        *self.segments.back_mut().expect("never empty") = new;
        self.failed = false;
        Ok(())
    }

    /// Forgets all records; the next one is `next`. For a brick that got its state from its peer: the checkpoint of
    /// `next - 1` has to be durable before.
    pub fn restart(&mut self, next: u64) -> io::Result<()> {
        assert!(next > 0, "positions begin at 1");
        self.trusted()?;
        self.failed = true; // until it is whole again
        let head = SegmentHead {
            first: next,
            chain: self.salt.chain(),
        };
        let name = format!("{RESTART_PREFIX}{}", segment_name(next));
        let segment = Segment::create(&self.medium, &name, head, self.segment_bytes, &[], self.salt)?;
        finish_restart(&self.medium, next)?;
        self.segments = VecDeque::from([segment]);
        self.spares.clear();
        (self.last, self.damaged) = (next - 1, 0);
        self.chain = head.chain;
        self.failed = false;
        Ok(())
    }
}

/// Every other segment and spare goes, then the new one gets its name. Begun anew by `open` if a crash cut it off.
fn finish_restart<M: Medium>(medium: &M, next: u64) -> io::Result<()> {
    let restart = format!("{RESTART_PREFIX}{}", segment_name(next));
    for name in medium.names(LOG_DIR)? {
        if name != restart {
            medium.remove(&join(LOG_DIR, &name))?;
        }
    }
    medium.sync_dir(LOG_DIR)?;
    medium.rename(&join(LOG_DIR, &restart), &join(LOG_DIR, &segment_name(next)))?;
    medium.sync_dir(LOG_DIR)
}
