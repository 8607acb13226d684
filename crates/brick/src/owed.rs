//! What is on this copy only: exactly, record by record, also while the peer gets it.
//!
//! Promises: what the peer has made durable is not counted any more. Beyond `MARKS_MAX` records it is paid in steps: the
//! whole and the end stay exact.
//! Not here: which records are a debt (`replicate`), what of each file the peer has (`debt`), words for operators (`cli`).

use crate::{
    brick::Brick,
    output::{Event, Mended, Output},
    view::Stand,
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    string::String,
    vec::Vec,
};
use mboxfs_mbox::scan::Scan;
use mboxfs_types::{Ino, disk::Effect};
use serde::{Deserialize, Serialize};

/// Steps in which a debt is paid: 3 MiB of memory.
const MARKS_MAX: usize = 1 << 16;
/// Names of files in one report.
const NAMES_MAX: usize = 1000;

/// Some records, one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Sum {
    /// Position of the last one.
    pub(crate) last: u64,
    pub(crate) records: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

impl Sum {
    const fn add(&mut self, more: &Self) {
        self.last = more.last;
        self.records += more.records;
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    const fn pay(&mut self, part: &Self) {
        self.records -= part.records;
        self.messages -= part.messages;
        self.bytes -= part.bytes;
    }
}

/// What is committed here and not known to be at the peer.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Owed {
    marks: VecDeque<Sum>,
    whole: Sum,
    /// Files, with the last record that changed each.
    files: BTreeMap<Ino, u64>,
}

impl Owed {
    pub(crate) fn add(&mut self, record: Sum, file: Option<Ino>) {
        self.whole.add(&record);
        self.marks.push_back(record);
        if let Some(ino) = file {
            self.files.insert(ino, record.last);
        }
        if self.marks.len() > MARKS_MAX {
            let mut halved = VecDeque::with_capacity(MARKS_MAX);
            while let Some(mut sum) = self.marks.pop_front() {
                if let Some(next) = self.marks.pop_front() {
                    sum.add(&next);
                }
                halved.push_back(sum);
            }
            self.marks = halved;
        }
    }

    /// The peer has everything up to `n`. Files of which it lacks nothing any more.
    pub(crate) fn pay(&mut self, n: u64) -> Vec<Ino> {
        while let Some(sum) = self.marks.front().filter(|s| s.last <= n) {
            self.whole.pay(sum);
            self.marks.pop_front();
        }
        let mut paid = Vec::new();
        self.files.retain(|ino, last| {
            if *last <= n {
                paid.push(*ino);
            }
            *last > n
        });
        paid
    }

    pub(crate) const fn whole(&self) -> Sum {
        self.whole
    }

    pub(crate) fn files(&self) -> u64 {
        self.files.len() as u64
    }
}

/// Messages that a change adds: those that begin behind what the file, of `was` bytes, held.
pub(crate) fn messages(effects: &[Effect], was: u64) -> u64 {
    let mut behind: Vec<u8> = Vec::new();
    for effect in effects {
        if let Effect::Write { extents, .. } = effect {
            for extent in extents {
                let skip = usize::try_from(was.saturating_sub(extent.offset)).unwrap_or(usize::MAX);
                behind.extend_from_slice(extent.data.get(skip..).unwrap_or_default());
            }
        }
    }
    Scan::new(&behind).filter(|span| !span.pseudo).count() as u64
}

impl Brick {
    /// The peer, which catches up, has made everything up to `n` durable.
    pub(crate) fn pay(&mut self, n: u64, out: &mut Vec<Output>) {
        if !matches!(self.stand, Stand::Solo { .. }) {
            return;
        }
        for ino in self.owed.pay(n) {
            if let Some(path) = self.path_text(ino) {
                let how = Mended::Sent;
                Self::event(Event::Mended { path, how }, out);
            }
        }
    }

    pub(crate) fn path_text(&self, ino: Ino) -> Option<String> {
        let path = self.state.path(ino)?;
        Some(path.iter().map(|name| alloc::format!("/{name}")).collect())
    }

    /// Names of files with a debt, as far as they have one and a report has room.
    pub(crate) fn owed_names(&self) -> Vec<String> {
        let files = self.owed.files.keys().take(NAMES_MAX);
        files.filter_map(|ino| self.path_text(*ino)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use mboxfs_types::{Tag, Timestamp, call::Extent};

    fn record(last: u64) -> Sum {
        Sum {
            last,
            records: 1,
            messages: 2,
            bytes: 100,
        }
    }

    #[test]
    fn what_the_peer_has_is_paid_record_by_record() {
        let mut owed = Owed::default();
        let (a, b) = (Ino(1), Ino(2));
        for (n, ino) in [(5, a), (6, b), (9, a)] {
            owed.add(record(n), Some(ino));
        }
        assert_eq!((owed.whole().records, owed.whole().messages, owed.files()), (3, 6, 2));
        assert!(owed.pay(5).is_empty(), "a changed again later");
        assert_eq!((owed.whole().records, owed.whole().bytes), (2, 200));
        assert_eq!(owed.pay(8), [b]);
        assert_eq!(owed.pay(9), [a]);
        assert_eq!((owed.whole().records, owed.whole().bytes, owed.files()), (0, 0, 0));
    }

    #[test]
    fn a_long_debt_is_exact_as_a_whole_and_at_its_end() {
        let mut owed = Owed::default();
        let count = MARKS_MAX as u64 * 3;
        for n in 1..=count {
            owed.add(record(n), None);
        }
        assert!(owed.marks.len() <= MARKS_MAX + 1);
        assert_eq!(owed.whole().bytes, count * 100);
        owed.pay(count / 2);
        assert!(owed.whole().records.abs_diff(count / 2) < 8);
        owed.pay(count);
        assert_eq!(owed.whole().records, 0);
    }

    #[test]
    fn only_what_lies_behind_the_old_end_is_new_mail() {
        let mail = "From a@b  Mon Nov 23 12:00:00 2026\n\nFrom me to you\n\n";
        let write = |extents: &[(u64, &str)]| Effect::Write {
            ino: Ino(7),
            cut: u64::MAX,
            extents: extents
                .iter()
                .map(|(offset, text)| Extent {
                    offset: *offset,
                    data: Bytes::copy_from_slice(text.as_bytes()),
                })
                .collect(),
            size: 0,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            stamp: Tag::default(),
        };
        let two = mail.repeat(2);
        assert_eq!(messages(&[write(&[(0, &two)])], 0), 2);
        assert_eq!(
            messages(&[write(&[(0, &two)])], mail.len() as u64),
            1,
            "the first was there"
        );
        assert_eq!(messages(&[write(&[(0, mail)])], 500), 0, "rewritten in place");
        let (head, tail) = mail.split_at(20);
        assert_eq!(messages(&[write(&[(90, head), (110, tail)])], 90), 1, "in two pieces");
        assert_eq!(messages(&[Effect::Free { ino: Ino(7) }], 0), 0);
        assert_eq!(messages(&[], 0), 0);
    }
}
