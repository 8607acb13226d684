//! The event thread between two requests of the kernel: it stays awake for the next one for a moment.
//!
//! V1  Only when the last one was answered at once and nobody waits for another answer: that is a program which makes one
//!     call after the other, and to wake the thread takes longer than most of its calls. With several programs at work the
//!     next request is there already, or they need the processor.
//! V2  Never with one processor, and ever more rarely after waiting in vain.
//!
//! Not here: reading requests (the FUSE library).

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
};
use std::{
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

/// A program that makes the next call at once has made it by then.
const PATIENCE: Duration = Duration::from_micros(20);
/// After so many times in vain only each 2^8th request is followed by a look.
const MISSES_MAX: u32 = 8;

/// Written by the event thread alone.
pub(crate) struct Lookout {
    /// Is there a second processor?
    pays: bool,
    /// In vain, one after the other.
    misses: AtomicU32,
    /// So many requests pass without a look.
    skip: AtomicU32,
}

impl Lookout {
    pub(crate) fn new() -> Self {
        Self {
            pays: thread::available_parallelism().is_ok_and(|n| n.get() > 1),
            misses: AtomicU32::new(0),
            skip: AtomicU32::new(0),
        }
    }

    /// Returns when `stream` has a request, or soon.
    pub(crate) fn wait(&self, stream: impl AsFd) {
        if !self.pays {
            return;
        }
        let skip = self.skip.load(Ordering::Relaxed);
        if skip > 0 {
            return self.skip.store(skip - 1, Ordering::Relaxed);
        }
        let misses = if comes(stream) {
            0
        } else {
            MISSES_MAX.min(self.misses.load(Ordering::Relaxed) + 1)
        };
        self.misses.store(misses, Ordering::Relaxed);
        self.skip.store((1 << misses) - 1, Ordering::Relaxed);
    }
}

fn comes(stream: impl AsFd) -> bool {
    let until = Instant::now() + PATIENCE;
    let at_once = Timespec::default();
    let mut stream = [PollFd::new(&stream, PollFlags::IN)];
    loop {
        // An error is for the library to find.
        if poll(&mut stream, Some(&at_once)) != Ok(0) {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::pipe;

    fn lookout(pays: bool) -> Lookout {
        Lookout { pays, ..Lookout::new() }
    }

    fn state(lookout: &Lookout) -> (u32, u32) {
        (
            lookout.misses.load(Ordering::Relaxed),
            lookout.skip.load(Ordering::Relaxed),
        )
    }

    #[test]
    fn v2_in_vain_ever_more_rarely() {
        let (requests, kernel) = pipe().unwrap();
        let lookout = lookout(true);
        lookout.wait(&requests);
        assert_eq!(state(&lookout), (1, 1));
        for _ in 0..1000 {
            lookout.wait(&requests);
        }
        assert_eq!(state(&lookout).0, MISSES_MAX);
        rustix::io::write(&kernel, b"x").unwrap();
        for _ in 0..1 << MISSES_MAX {
            lookout.wait(&requests);
        }
        assert_eq!(state(&lookout), (0, 0), "one that came is enough");
    }

    #[test]
    fn v2_one_processor_is_for_the_programs() {
        let (requests, _kernel) = pipe().unwrap();
        let lookout = lookout(false);
        lookout.wait(&requests);
        assert_eq!(state(&lookout), (0, 0));
    }
}
