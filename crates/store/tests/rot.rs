//! Law L12 on a real filesystem: bytes that rotted are never read, whatever crash came in between; and no crash makes good
//! ones look bad.
//!
//! A crash is played on the files: each sector is as it was at the last checkpoint or as it was last, and so is the size.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use mboxfs_store::{Opened, Options, format_with};
use mboxfs_types::{
    Ino, Kind, Name, OpId, SessionId, Tag, Timestamp,
    call::{Extent, Op},
    disk::{Effect, Look, Seen},
    history::{Act, Note, Question, Who},
    ids::BrickUuid,
    limits::SUM_BLOCK_BYTES as BLOCK,
    record::{Body, Record},
};
use proptest::prelude::*;
use std::{
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

const BOX: Ino = Ino(0x105);
const SECTOR: usize = 512;
const OPTIONS: Options = Options {
    segment_bytes: 64 << 10,
    force: false,
    at_most: u64::MAX,
};

fn make() -> Effect {
    Effect::Make {
        ino: BOX,
        kind: Kind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        target: Vec::new(),
        dir: Ino::ROOT,
        name: Name::new(b"box").unwrap(),
    }
}

fn write(n: u64, cut: u64, extents: Vec<(u64, Vec<u8>)>, size: u64) -> Effect {
    let extents = extents.into_iter().map(|(offset, data)| Extent {
        offset,
        data: data.into(),
    });
    Effect::Write {
        ino: BOX,
        cut,
        extents: extents.collect(),
        size,
        mtime: Timestamp { secs: 9, nanos: 0 },
        atime: Timestamp { secs: 8, nanos: 0 },
        stamp: Tag { n, ..Tag::default() },
    }
}

fn record(n: u64) -> Record {
    let session = SessionId {
        client: [0; 16],
        nonce: 1,
    };
    Record {
        tag: Tag { n, ..Tag::default() },
        time: Timestamp::default(),
        ino: Ino(0),
        body: Body::Op {
            id: OpId { session, seq: n },
            acked: 0,
            op: Op::Free { ino: Ino(0) },
        },
    }
}

/// What the file has to hold.
fn model(file: &mut Vec<u8>, effect: &Effect) {
    let Effect::Write { cut, extents, size, .. } = effect else {
        return;
    };
    file.truncate(usize::try_from(*cut).unwrap_or(usize::MAX));
    for extent in extents {
        let (from, to) = (extent.offset as usize, extent.offset as usize + extent.data.len());
        file.resize(file.len().max(to), 0);
        file[from..to].copy_from_slice(&extent.data);
    }
    file.resize(*size as usize, 0);
}

struct Brick {
    dir: tempfile::TempDir,
    opened: Option<Opened>,
}

impl Brick {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        format_with(dir.path(), BrickUuid([3; 16]), &OPTIONS).unwrap();
        let mut brick = Self { dir, opened: None };
        brick.open();
        brick
    }

    fn open(&mut self) -> &mut Opened {
        self.opened = None;
        self.opened
            .insert(Opened::open_with(self.dir.path(), &OPTIONS).unwrap())
    }

    fn path(&self) -> PathBuf {
        Path::new(self.dir.path()).join("box")
    }

    fn bytes(&self) -> Vec<u8> {
        std::fs::read(self.path()).unwrap()
    }

    fn now(&mut self) -> &mut Opened {
        self.opened.as_mut().unwrap()
    }

    /// Durable in the log, then in the file's cache.
    fn apply(&mut self, n: u64, effect: &Effect) {
        self.now().log.append(&[record(n)]).unwrap();
        self.now().files.apply(std::slice::from_ref(effect)).unwrap();
    }

    fn checkpoint(&mut self, n: u64) {
        let opened = self.now();
        let touched = opened.files.take_touched();
        opened.checkpointer.checkpoint(touched, n, b"state").unwrap();
    }

    fn read(&mut self, offset: u64, len: u32) -> Seen {
        let look = Look::Read { ino: BOX, offset, len };
        self.now().files.look(&look).unwrap()
    }

    fn block(&mut self, block: u64) -> Seen {
        self.now()
            .files
            .look(&Look::Block {
                ino: BOX,
                block,
                deep: true,
            })
            .unwrap()
    }

    fn flip(&self, at: usize) {
        let mut bytes = self.bytes();
        bytes[at] ^= 0x20;
        std::fs::write(self.path(), bytes).unwrap();
    }
}

fn data(bytes: &[u8]) -> Seen {
    Seen::Data(bytes.to_vec().into())
}

/// Sectors and size of before or after.
fn torn(before: &[u8], after: &[u8], mut newer: impl FnMut() -> bool) -> Vec<u8> {
    let len = if newer() { after.len() } else { before.len() };
    let mut bytes = vec![0; len];
    for from in (0..len).step_by(SECTOR) {
        let to = (from + SECTOR).min(len);
        let side = if newer() { after } else { before };
        let end = side.len().clamp(from, to);
        if from < end {
            bytes[from..end].copy_from_slice(&side[from..end]);
        }
    }
    bytes
}

/// One change: an append mostly, else one in the middle or a rewrite from somewhere on.
fn step(n: u64, size: u64, (kind, at, len, byte): (u8, u32, u32, u8)) -> Effect {
    let bytes = |len: u32| vec![byte; len as usize];
    let at = u64::from(at).min(size);
    match kind % 4 {
        0 | 1 => write(n, size, vec![(size, bytes(len))], size + u64::from(len)),
        2 => {
            let len = len.min(u32::try_from(size - at).unwrap()).min(900);
            write(n, size, vec![(at, bytes(len))], size)
        }
        _ => write(n, at, vec![(at, bytes(len / 2))], at + u64::from(len / 2)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_crash_makes_good_bytes_look_bad_nor_bad_ones_good(
        steps in prop::collection::vec((any::<u8>(), 0_u32..200_000, 1_u32..70_000, any::<u8>()), 1..14),
        checkpoint in any::<prop::sample::Index>(),
        coins in prop::collection::vec(any::<bool>(), 64),
        rot in prop::option::of(any::<prop::sample::Index>()),
        again in any::<prop::sample::Index>(),
    ) {
        let mut brick = Brick::new();
        brick.apply(1, &make());
        let (mut file, mut durable, mut at) = (Vec::new(), Vec::new(), 0);
        let mut effects = vec![make()];
        let checkpoint = checkpoint.index(steps.len() + 1);
        for (i, s) in steps.iter().enumerate() {
            if i == checkpoint {
                brick.checkpoint(i as u64 + 1);
                (durable, at) = (file.clone(), i + 1);
            }
            let effect = step(i as u64 + 2, file.len() as u64, *s);
            brick.apply(i as u64 + 2, &effect);
            model(&mut file, &effect);
            effects.push(effect);
        }
        prop_assert_eq!(&brick.bytes(), &file);
        let mut toss = coins.iter().cycle();
        let mut left = torn(&durable, &file, || *toss.next().unwrap());
        if let Some(rot) = rot && !left.is_empty() {
            let place = rot.index(left.len());
            left[place] ^= 0x10;
        }
        // A replay that is cut off, too.
        let part = at + again.index(effects.len() - at + 1);
        for upto in [part, effects.len()] {
            brick.opened = None;
            std::fs::write(brick.path(), &left).unwrap();
            brick.open();
            for effect in &effects[at..upto] {
                brick.now().files.apply(std::slice::from_ref(effect)).unwrap();
            }
            left = brick.bytes();
        }
        for block in 0..(file.len() as u64).div_ceil(BLOCK) {
            let from = (block * BLOCK) as usize;
            let right = data(&file[from..file.len().min(from + BLOCK as usize)]);
            let (read, sure) = (brick.read(block * BLOCK, BLOCK as u32), brick.block(block));
            if rot.is_none() {
                prop_assert_eq!(&read, &right, "no false alarm in block {}", block);
            }
            // What is beyond doubt is right; what is in doubt is never given to the other brick.
            let good = matches!(sure, Seen::Rotten(_) | Seen::Doubtful(_)) || sure == right;
            prop_assert!(good, "rot was blessed in block {}", block);
            prop_assert!(read == right || sure != right);
        }
        // It stays so with the next checkpoint and start.
        let before: Vec<Seen> = (0..4).filter(|b| b * BLOCK < file.len() as u64).map(|b| brick.block(b)).collect();
        brick.checkpoint(effects.len() as u64);
        brick.open();
        let after: Vec<Seen> = (0..4).filter(|b| b * BLOCK < file.len() as u64).map(|b| brick.block(b)).collect();
        prop_assert_eq!(before, after);
    }
}

fn three_blocks() -> (Brick, Vec<u8>) {
    let mut brick = Brick::new();
    let content: Vec<u8> = (0..150_000_u32).map(|i| (i % 251) as u8).collect();
    brick.apply(1, &make());
    brick.apply(2, &write(2, 0, vec![(0, content.clone())], 150_000));
    (brick, content)
}

#[test]
fn rotten_blocks_are_named_and_good_ones_are_read() {
    let (mut brick, content) = three_blocks();
    brick.flip(70_000);
    assert_eq!(brick.read(0, 150_000), Seen::Rotten(vec![1]));
    assert_eq!(brick.read(65_530, 10), Seen::Rotten(vec![1]));
    assert_eq!(brick.read(10, 60_000), data(&content[10..60_010]));
    assert_eq!(brick.read(131_072, 99_999), data(&content[131_072..]));
    assert_eq!(
        (brick.read(150_000, 5), brick.block(1)),
        (data(b""), Seen::Rotten(vec![1]))
    );
    // Cut off behind our back, and put behind.
    std::fs::write(brick.path(), &content[..140_000]).unwrap();
    assert_eq!(brick.read(131_072, 10), Seen::Rotten(vec![2]));
    std::fs::write(brick.path(), [&content[..], b"more"].concat()).unwrap();
    assert_eq!(brick.read(131_072, 99_999), data(&content[131_072..]));
}

#[test]
fn an_append_to_a_rotten_block_hides_nothing() {
    let (mut brick, content) = three_blocks();
    brick.flip(140_000);
    brick.apply(3, &write(3, 150_000, vec![(150_000, b"mail".to_vec())], 150_004));
    assert_eq!(brick.read(150_000, 4), Seen::Rotten(vec![2]));
    let good = [&content[131_072..], b"mail"].concat();
    let repair = |bytes: &[u8]| repair(2, bytes, true);
    let (rotten, meta) = (brick.bytes(), std::fs::metadata(brick.path()).unwrap());
    brick
        .now()
        .files
        .apply(&[repair(&content[131_073..]), repair(b"else")])
        .unwrap();
    assert_eq!(brick.bytes(), rotten, "nothing else is a repair");
    brick.now().files.apply(&[repair(&good)]).unwrap();
    assert_eq!(brick.read(131_072, 99_999), data(&good));
    let repaired = std::fs::metadata(brick.path()).unwrap();
    assert_eq!(repaired.modified().unwrap(), meta.modified().unwrap());
    assert_eq!(brick.bytes(), [&content[..], b"mail"].concat());
}

fn repair(block: u64, bytes: &[u8], sure: bool) -> Effect {
    Effect::Repair {
        ino: BOX,
        block,
        bytes: bytes.to_vec().into(),
        sure,
    }
}

/// The other brick has the same beginning, and something else behind it.
#[test]
fn a_repair_may_be_the_beginning_of_a_block() {
    let (mut brick, content) = three_blocks();
    brick.apply(3, &write(3, 150_000, vec![(150_000, b"mail".to_vec())], 150_004));
    brick.flip(140_000);
    let repairs = [
        repair(2, &content[131_072..140_000], false),
        repair(2, &content[131_073..], false),
    ];
    brick.now().files.apply(&repairs).unwrap();
    assert_eq!(brick.read(150_000, 4), Seen::Rotten(vec![2]), "these do not fit");
    brick
        .now()
        .files
        .apply(&[repair(2, &content[131_072..], false)])
        .unwrap();
    assert_eq!(brick.read(150_000, 4), data(b"mail"));
    assert_eq!(brick.bytes(), [&content[..], b"mail"].concat());
}

/// A3: else it would be unreadable here for ever, and served there.
#[test]
fn of_what_nobody_knows_the_doubtful_copy_is_taken() {
    let (mut brick, mut content) = three_blocks();
    brick.flip(70_000);
    brick.apply(3, &write(3, 150_000, vec![(80_000, b"RO".to_vec())], 150_000));
    assert_eq!(brick.block(1), Seen::Rotten(vec![1]));
    content[80_000..80_002].copy_from_slice(b"RO");
    let bytes = &content[65_536..131_072];
    brick.now().files.apply(&[repair(1, &bytes[..60_000], false)]).unwrap();
    assert_eq!(brick.block(1), Seen::Rotten(vec![1]), "nobody knows the rest of it");
    brick.now().files.apply(&[repair(1, bytes, false)]).unwrap();
    assert_eq!(brick.block(1), Seen::Doubtful(bytes.to_vec().into()));
    assert_eq!(brick.read(0, 150_000), data(&content));
    brick.now().files.apply(&[repair(1, bytes, false)]).unwrap();
    assert_eq!(brick.block(1), data(bytes), "both have the same");
}

/// The brick knew before the crash; what it then wrote into the block must not make it forget.
#[test]
fn what_was_found_before_a_crash_is_known_after_it() {
    let (mut brick, mut content) = three_blocks();
    brick.checkpoint(2);
    brick.flip(70_000);
    let patch = write(3, 150_000, vec![(80_000, b"RO".to_vec())], 150_000);
    brick.apply(3, &patch);
    assert_eq!(brick.read(70_000, 1), Seen::Rotten(vec![1]));
    brick.open();
    brick.now().files.apply(&[patch]).unwrap();
    assert_eq!(brick.read(70_000, 1), Seen::Rotten(vec![1]));
    content[80_000..80_002].copy_from_slice(b"RO");
    let repair = repair(1, &content[65_536..131_072], true);
    brick.now().files.apply(&[repair]).unwrap();
    assert_eq!(
        (brick.read(0, 150_000), brick.bytes()),
        (data(&content), content.clone())
    );
    brick.open();
    assert_eq!(brick.block(0), data(&content[..65_536]));
}

#[test]
fn a_mailbox_that_is_written_anew_is_good_again() {
    let (mut brick, content) = three_blocks();
    brick.flip(5);
    brick
        .now()
        .files
        .apply(&[Effect::Rotten {
            ino: BOX,
            blocks: vec![0, 1, 9],
        }])
        .unwrap();
    assert!(brick.dir.path().join(".mboxfs/rot").exists());
    brick.apply(3, &write(3, 0, vec![(0, content.clone())], 150_000));
    assert_eq!(brick.read(0, 150_000), data(&content));
}

#[test]
fn an_index_of_a_rotten_mailbox_is_none() {
    let (mut brick, _) = three_blocks();
    let look = Look::Index { ino: BOX, base: None };
    assert!(matches!(brick.now().files.look(&look), Ok(Seen::Data(_))));
    brick.flip(149_000);
    assert_eq!(brick.now().files.look(&look), Ok(Seen::Rotten(vec![2])));
}

#[test]
fn two_damaged_copies_make_a_good_one() {
    let (mut brick, content) = three_blocks();
    brick.flip(70_000);
    brick.flip(90_000);
    let combine = |theirs: &[u8]| Effect::Combine {
        ino: BOX,
        block: 1,
        theirs: theirs.to_vec().into(),
    };
    let mut theirs = content[65_536..131_072].to_vec();
    theirs[4464] ^= 0x40; // the same byte as here
    let bad = brick.bytes();
    brick.now().files.apply(&[combine(&theirs), combine(b"short")]).unwrap();
    assert_eq!((brick.block(1), brick.bytes()), (Seen::Rotten(vec![1]), bad));
    theirs[4464] ^= 0x40;
    theirs[5] ^= 1;
    let before = std::fs::metadata(brick.path()).unwrap().modified().unwrap();
    brick.now().files.apply(&[combine(&theirs)]).unwrap();
    assert_eq!((brick.read(0, 150_000), brick.bytes()), (data(&content), content));
    let after = std::fs::metadata(brick.path()).unwrap().modified().unwrap();
    assert_eq!(before, after);
}

/// A brick that gets files takes what is bad on the other one; it is believed of nobody, not even of itself.
#[test]
fn what_was_bad_on_the_other_brick_is_bad_until_it_is_repaired() {
    let (mut brick, content) = three_blocks();
    brick.checkpoint(2);
    let damaged = Effect::Damaged {
        ino: BOX,
        offset: 70_000,
        bytes: vec![9; 1000].into(),
    };
    brick.now().files.apply(&[damaged]).unwrap();
    let there = [&content[..70_000], &[9; 1000], &content[71_000..]].concat();
    assert!(brick.bytes() == there);
    for _ in 0..2 {
        assert_eq!(brick.block(1), Seen::Rotten(vec![1]));
        assert_eq!(brick.read(0, 65_536), data(&content[..65_536]));
        assert_eq!(brick.now().files.damage().0, [(BOX, 1)]);
        brick.open(); // it is still known after a crash
    }
    // What is bad on both sides in the same way is no proof of anything.
    let combine = Effect::Combine {
        ino: BOX,
        block: 1,
        theirs: there[65_536..131_072].to_vec().into(),
    };
    brick.now().files.apply(&[combine]).unwrap();
    assert_eq!(brick.block(1), Seen::Rotten(vec![1]));
    brick
        .now()
        .files
        .apply(&[repair(1, &content[65_536..131_072], true)])
        .unwrap();
    assert_eq!(brick.read(0, 150_000), data(&content));
}

#[test]
fn what_is_damaged_is_read_as_it_is_only_by_who_asks_for_that() {
    let (mut brick, content) = three_blocks();
    let mut damaged = content.clone();
    damaged[140_000] ^= 0x20;
    damaged.truncate(149_000);
    std::fs::write(brick.path(), &damaged).unwrap();
    assert_eq!(brick.block(2), Seen::Rotten(vec![2]));
    damaged.resize(150_000, 0);
    let raw = Look::Raw { ino: BOX, block: 2 };
    let Ok(Seen::Raw { bytes, damaged: place }) = brick.now().files.look(&raw) else {
        panic!("it can be read as it is");
    };
    assert!((&bytes[..], place) == (&damaged[131_072..], None));
    // Damage of one kind, in one place: it can be told where.
    let mut damaged = content.clone();
    damaged[140_000..140_020].fill(0);
    std::fs::write(brick.path(), &damaged).unwrap();
    let place = match brick.now().files.look(&raw) {
        Ok(Seen::Raw { damaged, .. }) => damaged,
        other => panic!("{other:?}"),
    };
    assert_eq!(place, Some(8704..9216));
    damaged.truncate(149_000);
    damaged.resize(150_000, 0);
    let index = Look::RawIndex { ino: BOX };
    assert!(matches!(brick.now().files.look(&index), Ok(Seen::Data(_))));
    assert_eq!(brick.block(2), Seen::Rotten(vec![2]));
}

/// A brick that is alone overwrites a block that rotted: what it keeps for the fork is not believed when it is put back.
#[test]
fn rot_that_was_kept_for_a_fork_is_still_known_when_it_is_put_back() {
    let (mut brick, content) = three_blocks();
    brick.flip(70_000);
    let keep = Effect::Keep {
        fork: 2,
        ino: BOX,
        ranges: vec![(0, 150_000)],
    };
    brick.now().log.append(&[record(3)]).unwrap();
    let files = &mut brick.now().files;
    files
        .apply(&[keep, write(3, 0, vec![(0, vec![7; 150_000])], 150_000)])
        .unwrap();
    assert_eq!(brick.read(0, 150_000), data(&[7; 150_000]));
    let revert = Effect::Revert { fork: 2, ino: BOX };
    brick
        .now()
        .files
        .apply(&[revert, write(2, 150_000, vec![], 150_000)])
        .unwrap();
    assert_eq!(brick.read(0, 150_000), Seen::Rotten(vec![1]));
    assert_eq!(brick.read(0, 65_536), data(&content[..65_536]));
    brick
        .now()
        .files
        .apply(&[repair(1, &content[65_536..131_072], true)])
        .unwrap();
    assert_eq!(brick.read(0, 150_000), data(&content));
}

/// What is left of a mailbox without its damaged messages is written from the start of the bad block on. A crash comes after
/// the record was durable, at any point of its being done.
#[test]
fn a_bad_block_that_is_written_anew_is_good_after_any_crash() {
    let (mut brick, content) = three_blocks();
    brick.checkpoint(2);
    brick.flip(70_000);
    let rotten = Effect::Rotten {
        ino: BOX,
        blocks: vec![1],
    };
    brick.now().files.apply(&[rotten]).unwrap();
    let damaged = brick.bytes();
    let left = [&content[..66_000], &content[75_000..]].concat();
    let rest = vec![(65_536, left[65_536..].to_vec())];
    let expunge = write(3, 65_536, rest, left.len() as u64);
    brick.now().log.append(&[record(3)]).unwrap();
    for turn in 0..8_u32 {
        let mut sector = 0;
        let torn = torn(&damaged, &left, || {
            sector += 1;
            turn == 7 || (turn > 0 && sector % turn == 0)
        });
        std::fs::write(brick.path(), torn).unwrap();
        brick.open();
        brick.now().files.apply(std::slice::from_ref(&expunge)).unwrap();
        assert_eq!(brick.read(0, 150_000), data(&left), "turn {turn}");
        assert!(brick.bytes() == left);
    }
}

/// Who takes back a removed message gets no wrong bytes.
#[test]
fn a_damaged_message_that_is_removed_is_not_kept_in_the_history() {
    let mut brick = Brick::new();
    let mail = |n: u32| {
        let body = "x".repeat(70_000);
        format!("From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <{n}@t>\n\n{body}\n\n").into_bytes()
    };
    let content = [mail(1), mail(2), mail(3), mail(4)].concat();
    let size = content.len() as u64;
    brick.apply(1, &make());
    brick.apply(2, &write(2, 0, vec![(0, content.clone())], size));
    // In the second one, in a block of which the first one has nothing.
    brick.flip(131_072 + 5);
    let note = Note {
        n: 3,
        time: Timestamp { secs: 3, nanos: 0 },
        who: Who::Host("h1".into()),
        ino: BOX,
        path: "/box".into(),
        act: Act::Content { was: size },
    };
    let files = &mut brick.now().files;
    files.apply(&[Effect::Note(note), write(3, 0, vec![], 0)]).unwrap();
    let page = files.past().page(&Question::default(), &[], &AtomicBool::new(false));
    let entries = page.unwrap().entries;
    let gone: Vec<&str> = entries[0].did.removed().iter().map(|gone| gone.id.as_str()).collect();
    assert_eq!(gone, ["<1@t>", "<4@t>"], "the third one begins in that block");
}
