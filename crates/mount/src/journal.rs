//! What this daemon leaves to the one that takes its place (`mboxfs_types::kept`), in memory that the supervisor holds.
//!
//! K1  Two memory files; one of them always has everything. Beginning anew fills the other one, and counts from the moment
//!     in which its head is written.
//! K2  A daemon may be killed at any instant: words that are not there whole were never said.
//! K3  Bounded: when the words are many times what is alive, they are said anew.
//!
//! Not here: what the words mean (`client`).

use mboxfs_types::{
    codec,
    kept::{KEPT_VERSION, Kept},
};
use rustix::fs::{MemfdFlags, memfd_create};
use std::{fs::File, io, os::unix::fs::FileExt};

/// Magic, version, count of beginnings; then frames: length (4 bytes), words.
const HEAD: u64 = 16;
const MAGIC: u32 = 0x6d62_6a31;
/// Words are said anew when there are more bytes of them, and more than twice those of the last beginning.
const LONG: u64 = 4 << 20;

/// The two files.
pub(crate) type Files = [File; 2];

/// New, empty ones.
pub(crate) fn files() -> io::Result<Files> {
    let one = |name: &str| io::Result::Ok(File::from(memfd_create(name, MemfdFlags::CLOEXEC)?));
    Ok([one("mboxfs-kept-0")?, one("mboxfs-kept-1")?])
}

/// The journal of a running daemon.
#[derive(Debug)]
pub(crate) struct Journal {
    files: Files,
    active: usize,
    begun: u64,
    /// Where the next frame goes.
    end: u64,
    /// Where the first one after the beginning went.
    full: u64,
    broken: bool,
}

impl Journal {
    /// The journal in these files, and the words that are in it; none if another version wrote them.
    pub(crate) fn open(files: Files) -> (Self, Vec<Kept>) {
        let begun = [0, 1].map(|i| begun(&files[i]));
        let active = usize::from(begun[1] > begun[0]);
        let words = begun[active].map_or_else(Vec::new, |_| words(&files[active]));
        let journal = Self {
            files,
            active,
            begun: begun[active].unwrap_or(0),
            end: HEAD,
            full: HEAD,
            broken: false,
        };
        (journal, words)
    }

    /// Everything, anew (K1). The first thing that a daemon does.
    pub(crate) fn begin(&mut self, words: &[Kept]) {
        self.active = 1 - self.active;
        self.begun += 1;
        self.end = HEAD;
        let file = &self.files[self.active];
        let done = file.set_len(0).and_then(|()| self.append(words)).and_then(|()| {
            let mut head = [0; HEAD as usize];
            head[..4].copy_from_slice(&MAGIC.to_le_bytes());
            head[4..8].copy_from_slice(&KEPT_VERSION.to_le_bytes());
            head[8..].copy_from_slice(&self.begun.to_le_bytes());
            self.files[self.active].write_all_at(&head, 0)?;
            self.files[1 - self.active].set_len(0)
        });
        self.full = self.end;
        self.check(done);
    }

    /// More words; all of them are said, or none (K2).
    pub(crate) fn add(&mut self, words: &[Kept]) {
        if !words.is_empty() && !self.broken {
            let done = self.append(words);
            self.check(done);
        }
    }

    /// Is it time to begin anew (K3)?
    pub(crate) const fn is_long(&self) -> bool {
        self.end > LONG && self.end > 3 * self.full
    }

    fn append(&mut self, words: &[Kept]) -> io::Result<()> {
        let bytes = codec::encode(&words);
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(bytes.len() + 4);
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&bytes);
        self.files[self.active].write_all_at(&frame, self.end)?;
        self.end += frame.len() as u64;
        Ok(())
    }

    /// Half a truth is worse than none: without memory for it a successor begins a session of its own.
    fn check(&mut self, done: io::Result<()>) {
        if let Err(e) = done {
            tracing::error!("could not keep what a successor needs: {e}");
            self.broken = true;
            for file in &self.files {
                let _ = file.set_len(0);
            }
        }
    }
}

fn begun(file: &File) -> Option<u64> {
    let mut head = [0; HEAD as usize];
    file.read_exact_at(&mut head, 0).ok()?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let count = u64::from(word(8)) | u64::from(word(12)) << 32;
    (word(0) == MAGIC && word(4) == KEPT_VERSION).then_some(count)
}

fn words(file: &File) -> Vec<Kept> {
    let mut all = Vec::new();
    let mut at = HEAD;
    let mut len = [0; 4];
    while file.read_exact_at(&mut len, at).is_ok() {
        let mut bytes = vec![0; u32::from_le_bytes(len) as usize];
        if file.read_exact_at(&mut bytes, at + 4).is_err() {
            break; // K2
        }
        let Ok(mut words) = codec::decode::<Vec<Kept>>(&bytes) else {
            break;
        };
        all.append(&mut words);
        at += 4 + bytes.len() as u64;
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn twins(files: &Files) -> Files {
        [files[0].try_clone().unwrap(), files[1].try_clone().unwrap()]
    }

    fn closed(fh: u64) -> Kept {
        Kept::Closed { fh }
    }

    #[test]
    fn a_successor_reads_what_was_said_last() {
        let files = files().unwrap();
        let (mut journal, words) = Journal::open(twins(&files));
        assert!(words.is_empty());
        journal.begin(&[closed(1)]);
        journal.add(&[closed(2), closed(3)]);
        assert_eq!(Journal::open(twins(&files)).1, [closed(1), closed(2), closed(3)]);
        journal.begin(&[closed(4)]);
        journal.add(&[closed(5)]);
        let (mut next, words) = Journal::open(twins(&files));
        assert_eq!(words, [closed(4), closed(5)]);
        next.begin(&words);
        assert_eq!(Journal::open(twins(&files)).1, [closed(4), closed(5)]);
    }

    #[test]
    fn a_torn_end_and_a_torn_beginning_were_never_said() {
        let files = files().unwrap();
        let (mut journal, _) = Journal::open(twins(&files));
        journal.begin(&[closed(1)]);
        journal.add(&[closed(2)]);
        let whole = journal.end;
        journal.add(&[closed(1 << 60)]);
        for cut in whole..journal.end {
            files[journal.active].set_len(cut).unwrap();
            assert_eq!(Journal::open(twins(&files)).1, [closed(1), closed(2)], "{cut}");
        }
        // Killed while it began anew: no head yet.
        files[1 - journal.active].write_all_at(&[7; 100], HEAD).unwrap();
        assert_eq!(Journal::open(twins(&files)).1, [closed(1), closed(2)]);
    }

    #[test]
    fn words_of_another_version_are_not_read() {
        let files = files().unwrap();
        let (mut journal, _) = Journal::open(twins(&files));
        journal.begin(&[closed(1)]);
        files[journal.active]
            .write_all_at(&(KEPT_VERSION + 1).to_le_bytes(), 4)
            .unwrap();
        assert!(Journal::open(twins(&files)).1.is_empty());
    }

    #[test]
    fn it_says_when_it_is_long() {
        let (mut journal, _) = Journal::open(files().unwrap());
        journal.begin(&[closed(1)]);
        let many = vec![closed(u64::MAX); 100_000];
        while !journal.is_long() {
            assert!(journal.end < 3 * LONG);
            journal.add(&many);
        }
        journal.begin(&many);
        assert!(!journal.is_long());
    }
}
