//! Files that are too large for memory: read in pieces, at any offset.
//!
//! Promises: of a file of any size one window is held, `WINDOW_LEN` bytes or what was asked for at once.
//!
//! Not here: what the bytes mean.

use alloc::vec::Vec;
use core::convert::Infallible;

/// Bytes that can be read at any offset and do not change meanwhile: whoever reads a mailbox holds its lock.
pub trait Source {
    /// Why a read failed.
    type Error;

    /// Reads bytes from `offset` on into `buf`: at least 1 and at most `buf.len()`, or 0 at the end of the file only.
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Self::Error>;
}

impl Source for &[u8] {
    type Error = Infallible;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.get(offset..));
        let rest = rest.unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(len)
    }
}

impl<S: Source> Source for &mut S {
    type Error = S::Error;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, S::Error> {
        (**self).read_at(offset, buf)
    }
}

/// Bytes of a file held at once, unless more are asked for.
const WINDOW_LEN: usize = 256 << 10;
/// The first window: most mailboxes of a test, and many of a spool, need no more.
const FIRST_LEN: usize = 8 << 10;
/// Bytes of a look ahead that mostly tell enough.
const GLANCE_LEN: usize = 128;

/// The part of a file that is in memory. It moves forward with the reader; going back costs a read.
pub(crate) struct Window<S> {
    source: S,
    buf: Vec<u8>,
    /// Offset of the first byte of `buf`.
    start: u64,
    /// Bytes of `buf` that are read.
    filled: usize,
    /// The file ends behind them.
    at_end: bool,
    /// Bytes looked at ahead of the window.
    ahead: Vec<u8>,
}

impl<S: Source> Window<S> {
    pub(crate) fn new(source: S) -> Self {
        Self {
            source,
            buf: Vec::new(),
            start: 0,
            filled: 0,
            at_end: false,
            ahead: Vec::new(),
        }
    }

    /// Offset in `buf`, if that byte is held or the next one to be read.
    fn held(&self, offset: u64) -> Option<usize> {
        let at = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        (at <= self.filled).then_some(at)
    }

    /// What is held from `offset` on: at least `want` bytes, fewer only where the file ends.
    pub(crate) fn at(&mut self, offset: u64, want: usize) -> Result<&[u8], S::Error> {
        let mut at = self.held(offset).unwrap_or(usize::MAX);
        if at == usize::MAX {
            (self.start, self.filled, self.at_end, at) = (offset, 0, false, 0);
        }
        while self.filled - at < want && !self.at_end {
            if self.filled == self.buf.len() || self.buf.len() - at < want {
                self.buf.copy_within(at..self.filled, 0);
                (self.start, self.filled, at) = (offset, self.filled - at, 0);
                let len = (self.buf.len() * 4).clamp(FIRST_LEN, WINDOW_LEN).max(want);
                if self.buf.len() < len {
                    self.buf.resize(len, 0);
                }
            }
            let room = self.buf.get_mut(self.filled..).unwrap_or_default();
            let next = self.start + self.filled as u64;
            let read = self.source.read_at(next, room)?;
            self.at_end = read == 0;
            self.filled += read;
        }
        Ok(self.buf.get(at..self.filled).unwrap_or_default())
    }

    /// The line at `offset`, as far as `max` bytes of it, without moving the window there. More may follow it.
    ///
    /// Costs about the length of the line: whoever makes others look ahead has to pay with bytes of his own.
    pub(crate) fn glance(&mut self, offset: u64, max: usize) -> Result<&[u8], S::Error> {
        let held = self.held(offset).filter(|&at| self.at_end || self.filled - at >= max);
        if let Some(at) = held {
            return Ok(self.buf.get(at..self.filled).unwrap_or_default());
        }
        self.ahead.clear();
        for want in [GLANCE_LEN.min(max), max] {
            while self.ahead.len() < want {
                let have = self.ahead.len();
                self.ahead.resize(want, 0);
                let room = self.ahead.get_mut(have..).unwrap_or_default();
                let read = self.source.read_at(offset.saturating_add(have as u64), room)?;
                self.ahead.truncate(have + read);
                if read == 0 {
                    return Ok(&self.ahead);
                }
            }
            if self.ahead.contains(&b'\n') {
                break;
            }
        }
        Ok(&self.ahead)
    }

    /// Offset behind the line that `offset` is in: behind its LF, or the end of the file.
    pub(crate) fn line_end(&mut self, mut offset: u64) -> Result<u64, S::Error> {
        loop {
            let rest = self.at(offset, 1)?;
            let line = rest.get(..crate::line::line_len(rest)).unwrap_or_default();
            offset += line.len() as u64;
            if line.is_empty() || line.ends_with(b"\n") {
                return Ok(offset);
            }
        }
    }

    /// Hands the bytes of `range`, piece by piece, to `each`; fewer if the file ends before.
    pub(crate) fn pieces(&mut self, range: core::ops::Range<u64>, mut each: impl FnMut(&[u8])) -> Result<(), S::Error> {
        let mut offset = range.start;
        while offset < range.end {
            let rest = self.at(offset, 1)?;
            let len = usize::try_from(range.end - offset)
                .unwrap_or(usize::MAX)
                .min(rest.len());
            let piece = rest.get(..len).unwrap_or_default();
            if piece.is_empty() {
                break;
            }
            each(piece);
            offset += len as u64;
        }
        Ok(())
    }
}
