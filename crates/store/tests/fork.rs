//! Files go back to the fork, byte for byte, whatever part of the future they have seen (disk law D2).
//!
//! The effects are those that the brain gives: before each change, a `Keep` of what it cuts or overwrites below the size at
//! the fork. No checkpoint is taken after the fork, so a replay begins at or before it.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use mboxfs_mbox::{index::Index, source::Source};
use mboxfs_store::{Files, Opened, Options, format_with};
use mboxfs_types::{
    Errno, Ino, Kind, Name, Tag, Timestamp,
    call::Extent,
    disk::{AtFork, Effect, Look, Seen},
    ids::BrickUuid,
};
use proptest::prelude::*;
use std::{convert::Infallible, os::unix::fs::MetadataExt, path::Path, sync::atomic::AtomicBool};

const OPTIONS: Options = Options {
    segment_bytes: 4096,
    force: false,
    at_most: u64::MAX,
};
const FORK: u64 = 50;
const INO: Ino = Ino(16);

fn open(data: &Path) -> Files {
    Opened::open_with(data, &OPTIONS).unwrap().files
}

fn brick() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    format_with(dir.path(), BrickUuid([1; 16]), &OPTIONS).unwrap();
    let files = open(dir.path());
    (dir, files)
}

fn make(ino: Ino) -> Effect {
    Effect::Make {
        ino,
        kind: Kind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        target: vec![],
        dir: Ino::ROOT,
        name: Name::new(format!("m{ino}").as_bytes()).unwrap(),
    }
}

fn write(ino: Ino, cut: u64, extents: Vec<Extent>, size: u64) -> Effect {
    Effect::Write {
        ino,
        cut,
        extents,
        size,
        mtime: Timestamp { secs: 7, nanos: 1 },
        atime: Timestamp { secs: 8, nanos: 2 },
        stamp: Tag::default(),
    }
}

fn keep(ino: Ino, ranges: Vec<(u64, u64)>) -> Effect {
    let fork = FORK;
    Effect::Keep { fork, ino, ranges }
}

/// A mailbox, and a change of it chosen by `dice`.
fn change(mail: &mut Vec<u8>, dice: [u16; 5]) -> Effect {
    let [what, a, b, len, byte] = dice.map(usize::from);
    let cut = if what % 3 == 0 {
        a % (mail.len() + 1)
    } else {
        mail.len()
    };
    mail.truncate(cut);
    let mut extents = Vec::new();
    let mut put = |offset: usize, data: Vec<u8>| {
        let end = offset + data.len();
        mail.resize(mail.len().max(end), 0);
        mail[offset..end].copy_from_slice(&data);
        let (offset, data) = (offset as u64, data.into());
        extents.push(Extent { offset, data });
    };
    match what % 4 {
        0 => {}
        1 => put(cut, vec![byte as u8 | 1; len % 9000 + 1]), // a delivery
        _ => {
            put(b % (cut + 1), vec![byte as u8 | 1; len % 3000 + 1]); // flags, or an expunge behind a cut
            put(a % (cut + 1), vec![byte as u8 | 2; len % 50 + 1]);
        }
    }
    if what % 5 == 0 {
        mail.resize(b % 12_000, 0);
    }
    write(INO, cut as u64, extents, mail.len() as u64)
}

/// What of a write lies below the size at the fork.
fn guarded(effect: Effect, old: u64) -> Vec<Effect> {
    let Effect::Write { cut, extents, size, .. } = &effect else {
        panic!("{effect:?}")
    };
    let mut ranges = vec![((*cut).min(*size), old)];
    ranges.extend(extents.iter().map(|e| (e.offset, e.offset + e.data.len() as u64)));
    for range in &mut ranges {
        range.1 = range.1.min(old);
    }
    ranges.retain(|(start, end)| start < end);
    if ranges.is_empty() {
        vec![effect]
    } else {
        vec![keep(INO, ranges), effect]
    }
}

fn index(files: &mut Files, base: Option<u64>) -> Result<Seen, Errno> {
    let base = base.map(|size| AtFork { fork: FORK, size });
    files.look(&Look::Index { ino: INO, base })
}

/// Holds a checksum of all bytes.
fn index_of(bytes: &[u8]) -> Result<Seen, Errno> {
    Ok(Seen::Data(Index::read(bytes).unwrap().encode().into()))
}

fn content(data: &Path, ino: Ino) -> Vec<u8> {
    std::fs::read(data.join(format!("m{ino}"))).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_file_goes_back_to_the_fork_from_anywhere_in_the_future(
        before in prop::collection::vec(any::<[u16; 5]>(), 1..6),
        after in prop::collection::vec(any::<[u16; 5]>(), 1..12),
        lives in prop::collection::vec(any::<[prop::sample::Index; 2]>(), 1..4),
    ) {
        let mut mail = Vec::new();
        let mut line = vec![make(INO)];
        line.extend(before.iter().map(|dice| change(&mut mail, *dice)));
        let fork = line.len();
        let at_fork = mail.clone();
        for dice in &after {
            line.extend(guarded(change(&mut mail, *dice), at_fork.len() as u64));
        }
        let undo = [
            Effect::Revert { fork: FORK, ino: INO },
            write(INO, at_fork.len() as u64, vec![], at_fork.len() as u64),
        ];

        let (dir, mut files) = brick();
        files.apply(&line[..fork]).unwrap();
        let mut seen = fork;
        for [from, upto] in lives {
            // Killed anywhere; the replay begins at or before the fork and ends anywhere, then again.
            drop(files);
            files = open(dir.path());
            let from = from.index(fork + 1);
            seen = seen.max(from + upto.index(line.len() - from + 1));
            files.apply(&line[from..seen]).unwrap();
            prop_assert!(index(&mut files, Some(at_fork.len() as u64)) == index_of(&at_fork));
            prop_assert!(index(&mut files, None) == index_of(&content(dir.path(), INO)));
        }
        drop(files);
        files = open(dir.path());
        // Given up at the end, and once more from the middle of that.
        files.apply(&line[..fork]).unwrap();
        files.apply(&undo).unwrap();
        prop_assert!(content(dir.path(), INO) == at_fork);
        files.apply(&line[..fork]).unwrap();
        files.apply(&undo[..1]).unwrap();
        files.apply(&undo).unwrap();
        prop_assert!(content(dir.path(), INO) == at_fork);
        prop_assert_eq!(std::fs::metadata(dir.path().join(format!("m{INO}"))).unwrap().mtime(), 7);

        // Or not given up: the line is there still, and what was at the fork too.
        files.apply(&line).unwrap();
        prop_assert!(content(dir.path(), INO) == mail);
        files.apply(&undo).unwrap();
        prop_assert!(content(dir.path(), INO) == at_fork);
    }
}

fn text(offset: u64, data: &'static [u8]) -> Vec<Extent> {
    let data = data.into();
    vec![Extent { offset, data }]
}

#[test]
fn an_append_leaves_no_trace_and_an_overwrite_does() {
    let (dir, mut files) = brick();
    files.apply(&[make(INO), write(INO, 0, text(0, b"hello"), 5)]).unwrap();
    let journals = || std::fs::read_dir(dir.path().join(".mboxfs/fork")).unwrap().count();
    // Beyond the end there is nothing to keep.
    files.apply(&[keep(INO, vec![(5, 90)]), keep(INO, vec![])]).unwrap();
    assert_eq!(journals(), 0);
    files.apply(&[keep(INO, vec![(3, 90)])]).unwrap();
    assert_eq!(journals(), 1);
    files.apply(&[Effect::Forget { below: FORK }]).unwrap();
    assert_eq!(journals(), 1, "needed still");
    files.apply(&[Effect::Forget { below: FORK + 1 }]).unwrap();
    assert_eq!(journals(), 0);
}

#[test]
fn a_brick_of_an_older_version_gets_the_directory_when_it_needs_it() {
    let (dir, mut files) = brick();
    let fork = dir.path().join(".mboxfs/fork");
    std::fs::remove_dir(&fork).unwrap();
    files.apply(&[Effect::Forget { below: 1 }]).unwrap();
    let revert = Effect::Revert { fork: FORK, ino: INO };
    files
        .apply(&[make(INO), write(INO, 0, text(0, b"old"), 3), revert.clone()])
        .unwrap();
    assert!(!fork.exists());
    files
        .apply(&[keep(INO, vec![(0, 3)]), write(INO, 0, text(0, b"new"), 3), revert])
        .unwrap();
    assert_eq!(content(dir.path(), INO), b"old");
}

#[test]
fn an_inode_that_is_no_more_is_skipped() {
    let (dir, mut files) = brick();
    let revert = Effect::Revert { fork: FORK, ino: INO };
    files.apply(&[keep(INO, vec![(0, 3)]), revert.clone()]).unwrap();
    assert!(!dir.path().join(format!(".mboxfs/ino/10/{INO}")).exists());
    // What was kept outlives the inode.
    files
        .apply(&[
            make(INO),
            write(INO, 0, text(0, b"old"), 3),
            keep(INO, vec![(0, 3)]),
            Effect::Free { ino: INO },
            revert.clone(),
        ])
        .unwrap();
    files.apply(&[make(Ino(17))]).unwrap();
    std::fs::remove_file(dir.path().join(format!("m{INO}"))).unwrap();
    files.apply(&[make(INO), revert, write(INO, 3, vec![], 3)]).unwrap();
    assert_eq!(content(dir.path(), INO), b"old");
}

#[test]
fn a_checkpoint_covers_what_was_put_back() {
    let (_dir, mut files) = brick();
    files.apply(&[make(INO), write(INO, 0, text(0, b"old"), 3)]).unwrap();
    files.apply(&[keep(INO, vec![(0, 3)])]).unwrap();
    assert!(!files.take_touched().is_empty());
    files.apply(&[Effect::Revert { fork: FORK, ino: INO }]).unwrap();
    assert_eq!(files.take_touched().len(), 1);
}

#[test]
fn what_was_kept_and_is_damaged_is_not_put_back() {
    let (dir, mut files) = brick();
    files
        .apply(&[make(INO), write(INO, 0, text(0, b"old mail"), 8)])
        .unwrap();
    files
        .apply(&[keep(INO, vec![(0, 3)]), keep(INO, vec![(3, 8)])])
        .unwrap();
    files.apply(&[write(INO, 0, text(0, b"new"), 3)]).unwrap();
    let journal = dir.path().join(format!(".mboxfs/fork/{FORK:016x}-{INO}"));
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[24] ^= 1; // the first byte of the first entry
    std::fs::write(&journal, bytes).unwrap();
    let error = files
        .apply(&[Effect::Revert { fork: FORK, ino: INO }])
        .unwrap_err()
        .to_string();
    assert!(error.contains("is damaged"), "{error}");
    assert_eq!(content(dir.path(), INO), b"new");
    assert_eq!(index(&mut files, Some(8)), Err(Errno::ENODATA));
    let read = Look::Read {
        ino: INO,
        offset: 0,
        len: 9,
    };
    assert_eq!(files.look(&read), Ok(Seen::Data("new".into())));
}

const LETTERS: &[u8] = b"From a@b Mon Nov 23 10:00:00 2026\nStatus: RO\nX-UID: 7\n\nhello\nFrom here on\n\n\
    From c@d Mon Nov 23 11:00:00 2026\nContent-Length: 3\n\nhi\n\n";

#[test]
fn an_index_is_of_the_file_as_it_is_or_as_it_was_at_the_fork() {
    let (_dir, mut files) = brick();
    let size = LETTERS.len() as u64;
    files
        .apply(&[make(INO), write(INO, 0, text(0, LETTERS), size)])
        .unwrap();
    assert_eq!(index(&mut files, None), index_of(LETTERS));
    // Flags, in the middle; then an expunge of all, a delivery, and nothing that was kept is taken for the present.
    files
        .apply(&[keep(INO, vec![(42, 44)]), write(INO, size, text(42, b"NN"), size)])
        .unwrap();
    files
        .apply(&[keep(INO, vec![(0, size)]), write(INO, 0, text(0, b"From x@y"), 8)])
        .unwrap();
    assert_eq!(index(&mut files, Some(size)), index_of(LETTERS));
    assert_eq!(index(&mut files, Some(0)), index_of(b""));
    assert_eq!(index(&mut files, None), index_of(b"From x@y"));
    assert_eq!(
        index(&mut files, Some(size + 1)),
        Err(Errno::ENODATA),
        "no byte is made up"
    );
}

#[test]
fn an_index_of_what_is_no_file_is_refused() {
    let (_dir, mut files) = brick();
    assert_eq!(index(&mut files, None), Err(Errno::ESTALE));
    assert_eq!(index(&mut files, Some(9)), Err(Errno::ESTALE));
    let root = Look::Index {
        ino: Ino::ROOT,
        base: None,
    };
    assert_eq!(files.look(&root), Err(Errno::EISDIR));
    files.apply(&[make(INO), write(INO, 0, text(0, b"x"), 1)]).unwrap();
    let look = Look::Index { ino: INO, base: None };
    let opened = files.leisure(&look).unwrap();
    assert_eq!(
        opened.answer(&AtomicBool::new(true)),
        Err(Errno::ESTALE),
        "it was stopped"
    );
    // Opened before, read after.
    let opened = files.leisure(&look).unwrap();
    files.apply(&[write(INO, 1, text(1, LETTERS), 200)]).unwrap();
    assert_eq!(
        opened.answer(&AtomicBool::new(false)),
        index_of(b"x"),
        "nothing beyond the size of then"
    );
}

/// Another file at each look.
struct Changing {
    dice: u64,
    size: u64,
}

impl Source for Changing {
    type Error = Infallible;

    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, Infallible> {
        let mut roll = |sides: usize| {
            self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (self.dice >> 33) as usize % sides
        };
        let most = usize::try_from(self.size.saturating_sub(offset))
            .unwrap()
            .min(buf.len());
        if most == 0 || roll(50) == 0 {
            return Ok(0);
        }
        let len = roll(most.min(300)) + 1;
        let shift = roll(LETTERS.len());
        for (at, byte) in buf[..len].iter_mut().enumerate() {
            *byte = LETTERS[(at + shift) % LETTERS.len()];
        }
        Ok(len)
    }
}

proptest! {
    /// A file may change while it is read (R1): the answer means nothing then, but there is one.
    #[test]
    fn a_file_that_changes_while_it_is_indexed_does_no_harm(dice in any::<u64>(), size in 0..20_000u64) {
        let index = Index::read(Changing { dice, size }).unwrap();
        let _ = index.encode();
    }
}
