//! One file of the log: a head and records one after the other, then zeros or what an older use of the file left.
//!
//! Promises: a segment that has its name is complete: zero-written, head and size durable. What [`Window::step`] finds
//! is the record asked for, whole, and in the chain where the chain is known. Behind damaged records the chain is taken up
//! again ([`Segment::run`]).
//!
//! Not here: which segments there are (`log`).

use crate::{
    frame::{ALIGN_BYTES, HEAD_BYTES, Head, SEGMENT_HEAD_BYTES, Salt, SegmentHead, frame_bytes},
    medium::{Medium, TEMP_SUFFIX, join},
};
use mboxfs_types::{codec, record::Record};
use std::io;

/// Directory of the segments.
pub(crate) const LOG_DIR: &str = "log";
/// Zeros written at once.
const ZEROS_BYTES: usize = 1 << 20;
/// Bytes read at once.
const WINDOW_BYTES: u64 = 256 << 10;
/// Every so many records the offset is kept.
const MARK_EVERY: u64 = 64;

/// A segment.
pub(crate) struct Segment<F> {
    pub(crate) head: SegmentHead,
    pub(crate) file: F,
    /// Bytes of the file.
    pub(crate) len: u64,
    /// None until it was scanned.
    pub(crate) index: Option<Index>,
}

/// Records of a segment that can be read in order, up to its last one.
pub(crate) struct Index {
    /// Where they begin.
    pub(crate) from: Place,
    /// Where the next record goes.
    pub(crate) end: u64,
    /// Last record; the one before `from` if there is none.
    pub(crate) last: u64,
    /// Checksum of its head.
    pub(crate) chain: u32,
    /// Offset of every 64th record, from the first one on.
    marks: Vec<u64>,
}

impl Index {
    /// Nothing yet.
    fn new(from: Place) -> Self {
        Self {
            from,
            end: from.at,
            last: from.n - 1,
            chain: from.prev.unwrap_or_default(),
            marks: Vec::new(),
        }
    }

    /// The next record is at `at`.
    pub(crate) fn push(&mut self, at: u64) {
        self.last += 1;
        if (self.last - self.from.n).is_multiple_of(MARK_EVERY) {
            self.marks.push(at);
        }
    }
}

/// A place between records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Place {
    pub(crate) at: u64,
    /// Number of the record that begins here.
    pub(crate) n: u64,
    /// Checksum of the head before, where it is known.
    pub(crate) prev: Option<u32>,
}

/// What follows the last record of the chain.
pub(crate) struct Tail {
    /// A later record proves that the one missing here was durable once (frame G3).
    pub(crate) rotten: bool,
    /// The next record that is whole.
    pub(crate) resumes: Option<Place>,
    /// Bytes up to here are remains of writes that were never acknowledged.
    pub(crate) garbage_end: u64,
}

pub(crate) fn segment_name(first: u64) -> String {
    format!("{first:016x}")
}

/// The number in a name of 16 hex digits.
pub(crate) fn number_in(name: &str) -> Option<u64> {
    let plain = name.len() == 16 && name.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    if plain {
        u64::from_str_radix(name, 16).ok()
    } else {
        None
    }
}

impl<F> Segment<F> {
    fn fresh(head: SegmentHead, file: F, len: u64) -> Self {
        let mut segment = Self {
            head,
            file,
            len,
            index: None,
        };
        segment.index = Some(Index::new(segment.start()));
        segment
    }

    pub(crate) const fn start(&self) -> Place {
        Place {
            at: SEGMENT_HEAD_BYTES,
            n: self.head.first,
            prev: Some(self.head.chain),
        }
    }

    /// A new segment with the bytes of `content` after its head, in place of a file that has the name.
    pub(crate) fn create<M: Medium<File = F>>(
        medium: &M,
        name: &str,
        head: SegmentHead,
        len: u64,
        content: &[u8],
        salt: Salt,
    ) -> io::Result<Self> {
        let path = join(LOG_DIR, name);
        let temp = format!("{path}{TEMP_SUFFIX}");
        let file = medium.create(&temp)?;
        let zeros = vec![0; ZEROS_BYTES];
        let mut at = 0;
        while at < len {
            let part = (len - at).min(ZEROS_BYTES as u64);
            medium.write_at(&file, at, &zeros[..usize::try_from(part).expect("at most 1 MiB")])?;
            at += part;
        }
        medium.write_at(&file, SEGMENT_HEAD_BYTES, content)?;
        medium.append(&file, 0, &head.encode(salt))?;
        medium.rename(&temp, &path)?;
        medium.sync_dir(LOG_DIR)?;
        Ok(Self::fresh(head, file, len))
    }

    /// The file `spare` as a segment. Its old records are below `head.first` and thus never taken for new ones.
    pub(crate) fn recycle<M: Medium<File = F>>(
        medium: &M,
        spare: &str,
        head: SegmentHead,
        salt: Salt,
    ) -> io::Result<Self> {
        let from = join(LOG_DIR, spare);
        let file = medium.open(&from)?;
        let len = medium.len(&file)?;
        medium.append(&file, 0, &head.encode(salt))?;
        medium.rename(&from, &join(LOG_DIR, &segment_name(head.first)))?;
        medium.sync_dir(LOG_DIR)?;
        Ok(Self::fresh(head, file, len))
    }

    /// Opens the segment of this name. `settle` for the one that is written to. False: its head is rotten, and nothing in it can
    /// be read in order.
    pub(crate) fn open<M: Medium<File = F>>(
        medium: &M,
        first: u64,
        settle: bool,
        salt: Salt,
    ) -> io::Result<(Self, bool)> {
        let file = medium.open(&join(LOG_DIR, &segment_name(first)))?;
        if settle {
            medium.settle(&file)?;
        }
        let len = medium.len(&file)?;
        let mut bytes = vec![0; usize::try_from(SEGMENT_HEAD_BYTES).expect("one sector")];
        if len >= SEGMENT_HEAD_BYTES {
            medium.read_at(&file, 0, &mut bytes)?;
        }
        let head = SegmentHead::decode(&bytes, salt).filter(|head| head.first == first && first > 0);
        let segment = Self {
            head: head.unwrap_or(SegmentHead { first, chain: 0 }),
            file,
            len,
            index: None,
        };
        Ok((segment, head.is_some()))
    }

    pub(crate) const fn window<'a, M: Medium<File = F>>(&'a self, medium: &'a M) -> Window<'a, M> {
        Window {
            medium,
            file: &self.file,
            len: self.len,
            base: 0,
            buf: Vec::new(),
        }
    }

    /// Follows the chain from `from` to its end, or to record `last`.
    pub(crate) fn follow<M: Medium<File = F>>(
        &self,
        medium: &M,
        from: Place,
        last: u64,
        salt: Salt,
    ) -> io::Result<Index> {
        let mut index = Index::new(from);
        let mut window = self.window(medium);
        let mut place = from;
        while place.n <= last
            && let Some(next) = window.step(place, salt)?
        {
            index.push(place.at);
            (index.end, index.chain) = (next.at, next.prev.expect("of the record at `place`"));
            place = next;
        }
        Ok(index)
    }

    /// The records up to `last`, the last one of the segment, that can be read in order: from the first one on, or from the one
    /// behind the last damaged one.
    pub(crate) fn run<M: Medium<File = F>>(&self, medium: &M, last: u64, salt: Salt) -> io::Result<Index> {
        let mut index = self.follow(medium, self.start(), last, salt)?;
        while index.last < last {
            let tail = self.tail(medium, index.end, index.last + 1, salt)?;
            let none = Place {
                at: index.end,
                n: last + 1,
                prev: None,
            };
            let from = tail.resumes.filter(|place| place.n <= last).unwrap_or(none);
            index = self.follow(medium, from, last, salt)?;
        }
        Ok(index)
    }

    /// A place at or before record `n`, not far from it; needs the index.
    pub(crate) fn near(&self, n: u64) -> Place {
        let index = self.index.as_ref().expect("scanned before");
        let mark = (n - index.from.n) / MARK_EVERY;
        match usize::try_from(mark).ok().and_then(|mark| index.marks.get(mark)) {
            Some(at) if mark > 0 => Place {
                at: *at,
                n: index.from.n + mark * MARK_EVERY,
                prev: None,
            },
            _ => index.from,
        }
    }

    /// Looks at all that follows `end`, where record `n` is missing.
    pub(crate) fn tail<M: Medium<File = F>>(&self, medium: &M, end: u64, n: u64, salt: Salt) -> io::Result<Tail> {
        let mut window = self.window(medium);
        let mut tail = Tail {
            rotten: false,
            resumes: None,
            garbage_end: end,
        };
        let mut at = end;
        while at < self.len {
            let Some(bytes) = window.get(at, HEAD_BYTES)? else {
                // Too short for a head: garbage at most.
                if window
                    .get(at, usize::try_from(self.len - at).expect("below 40"))?
                    .is_some_and(any)
                {
                    tail.garbage_end = self.len;
                }
                break;
            };
            if at == end && any(bytes) {
                tail.garbage_end = at + HEAD_BYTES as u64;
            }
            if let Some((head, _)) = Head::get(bytes, salt)
                && head.n >= n
            {
                let frame = frame_bytes(head.len as usize);
                tail.garbage_end = tail.garbage_end.max((at + frame).min(self.len));
                tail.rotten |= head.synced >= n;
                let place = Place {
                    at,
                    n: head.n,
                    prev: Some(head.prev),
                };
                if head.n > n && tail.resumes.is_none() && window.step(place, salt)?.is_some() {
                    tail.resumes = Some(place);
                }
            }
            at += ALIGN_BYTES;
        }
        Ok(tail)
    }
}

fn any(bytes: &[u8]) -> bool {
    bytes.iter().any(|b| *b != 0)
}

/// A piece of a segment in memory.
pub(crate) struct Window<'a, M: Medium> {
    medium: &'a M,
    file: &'a M::File,
    len: u64,
    base: u64,
    buf: Vec<u8>,
}

impl<M: Medium> Window<'_, M> {
    /// `want` bytes from `at` on; none beyond the end of the file.
    fn get(&mut self, at: u64, want: usize) -> io::Result<Option<&[u8]>> {
        let end = at + want as u64;
        if end > self.len {
            return Ok(None);
        }
        if at < self.base || end > self.base + self.buf.len() as u64 {
            let size = (want as u64).max(WINDOW_BYTES).min(self.len - at);
            self.buf.resize(usize::try_from(size).map_err(io::Error::other)?, 0);
            self.base = at;
            if let Err(error) = self.medium.read_at(self.file, at, &mut self.buf) {
                self.buf.clear();
                return Err(error);
            }
        }
        let from = usize::try_from(at - self.base).expect("inside the buffer");
        Ok(Some(&self.buf[from..from + want]))
    }

    /// The place after the record at `place`; none if there is no such record.
    pub(crate) fn step(&mut self, place: Place, salt: Salt) -> io::Result<Option<Place>> {
        let Some((head, crc)) = self.get(place.at, HEAD_BYTES)?.and_then(|bytes| Head::get(bytes, salt)) else {
            return Ok(None);
        };
        if head.n != place.n || place.prev.is_some_and(|prev| prev != head.prev) {
            return Ok(None);
        }
        let Some(frame) = self.get(place.at, HEAD_BYTES + head.len as usize)? else {
            return Ok(None);
        };
        if crc32fast::hash(&frame[HEAD_BYTES..]) != head.body {
            return Ok(None);
        }
        Ok(Some(Place {
            at: place.at + frame_bytes(head.len as usize),
            n: place.n + 1,
            prev: Some(crc),
        }))
    }

    /// The record at a place that [`Self::step`] accepted. None: its bytes are whole and make no sense.
    pub(crate) fn record(&mut self, place: Place, salt: Salt) -> io::Result<Option<Record>> {
        let Some((head, _)) = self.get(place.at, HEAD_BYTES)?.and_then(|bytes| Head::get(bytes, salt)) else {
            return Ok(None);
        };
        let frame = self.get(place.at, HEAD_BYTES + head.len as usize)?;
        Ok(frame.and_then(|frame| codec::decode(&frame[HEAD_BYTES..]).ok()))
    }

    /// All bytes of these records.
    pub(crate) fn content(&mut self, run: &Index) -> io::Result<Vec<u8>> {
        let want = usize::try_from(run.end - run.from.at).map_err(io::Error::other)?;
        let bytes = self.get(run.from.at, want)?.ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(bytes.to_vec())
    }
}
