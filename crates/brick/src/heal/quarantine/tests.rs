//! A brick with a mailbox that is damaged here and there; its disk and its peer are played.

use super::*;
use crate::input::{Clock, Recovered};
use mboxfs_types::{
    Name, Tag, Timestamp,
    call::{Extent, Reclaim, SetAttr},
    history::{Act, Note, Who},
    record::Record,
};

const BOX: Ino = Ino(77);

fn mail(n: usize, len: usize) -> Vec<u8> {
    let head = if n == 1 {
        "X-IMAPbase: 1700000000 0000000030\n"
    } else {
        ""
    };
    let text = format!(
        "From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <{n}@t>\n{head}X-UID: {n}\n\nthis is {n} {}\n\n",
        "x".repeat(len)
    );
    text.into_bytes()
}

/// Messages of 4 kB each, some more than fit a block.
fn mailbox() -> Vec<u8> {
    (1..=20).flat_map(|n| mail(n, 4000)).collect()
}

fn place(mailbox: &[u8], text: &str) -> usize {
    let found = mailbox.windows(text.len()).position(|w| w == text.as_bytes());
    found.expect("it is there")
}

struct World {
    brick: Brick,
    files: BTreeMap<Ino, Vec<u8>>,
    bad: BTreeSet<At>,
    /// The mailbox as the peer has it.
    theirs: Vec<u8>,
    /// That makes the next attempt to combine a success.
    mends: bool,
    events: Vec<Event>,
    /// What the history is told.
    notes: Vec<Note>,
    /// Where the disk says that the damage is.
    place: Option<Range<usize>>,
    /// Steps of the disk until it is lost; none: never.
    left: Option<usize>,
}

impl World {
    /// Damaged here in these bytes, and there in those.
    fn new(mailbox: &[u8], ours: &[usize], theirs: &[usize]) -> Self {
        let damaged = |at: &[usize], with: u8| {
            let mut copy = mailbox.to_vec();
            at.iter().for_each(|at| copy[*at] ^= with);
            copy
        };
        let mut world = Self {
            brick: brick(mailbox),
            files: BTreeMap::from([(BOX, damaged(ours, 0x20))]),
            bad: ours.iter().chain(theirs).map(|at| (BOX, *at as u64 / BLOCK)).collect(),
            theirs: damaged(theirs, if ours == theirs { 0x20 } else { 0x40 }),
            mends: false,
            events: Vec::new(),
            notes: Vec::new(),
            place: None,
            left: None,
        };
        world.found();
        world
    }

    /// The brick is told what is bad.
    fn found(&mut self) {
        let mut out = Vec::new();
        self.brick
            .on_damage(self.bad.iter().copied().collect(), vec![], &mut out);
        self.play(out);
    }

    fn durable_here(&mut self, n: u64) -> Vec<Output> {
        let mut out = Vec::new();
        self.brick.on_appended(n, &mut out);
        self.brick.advance(&mut out);
        out
    }

    fn durable_there(&mut self, n: u64) -> Vec<Output> {
        let mut out = Vec::new();
        self.brick.on_durable(n, &mut out);
        self.brick.advance(&mut out);
        out
    }

    /// Time passes, until nothing happens any more.
    fn tick(&mut self, time: Nanos) {
        self.brick.clock.mono = self.brick.clock.mono + time;
        let mut out = Vec::new();
        self.brick.tick_rot(&mut out);
        self.play(out);
    }

    fn play(&mut self, mut todo: Vec<Output>) {
        while !todo.is_empty() {
            let mut next = Vec::new();
            for output in todo {
                // What is in the log is done, later at the latest.
                let done = matches!(output, Output::Disk(DiskOp::Apply(_)) | Output::Event(_));
                if self.left == Some(0) && !done {
                    continue;
                }
                match output {
                    Output::Disk(DiskOp::Look { ticket, look }) => {
                        let result = self.look(&look);
                        self.brick.on_look(ticket, result, &mut next);
                    }
                    Output::Disk(DiskOp::Append(record)) => {
                        self.left = self.left.map(|left| left - 1);
                        let n = record.tag.n;
                        next.extend(self.durable_here(n));
                        next.extend(self.durable_there(n));
                    }
                    Output::Disk(DiskOp::Apply(effects)) => effects.iter().for_each(|effect| self.apply(effect)),
                    Output::Peer(ToPeer::Check { ticket, check }) => {
                        let version = self.brick.state.inode(BOX).map_or(0, |i| i.version);
                        let data = match check {
                            Check::Raw { block, .. } => Ok(part(&self.theirs, block * BLOCK, BLOCK)),
                            _ => Err(Errno::ENODATA),
                        };
                        self.brick.on_checked(ticket, (version, true), data, &mut next);
                    }
                    Output::Event(event) => self.events.push(event),
                    _ => {}
                }
            }
            todo = next;
        }
    }

    fn look(&self, look: &Look) -> Result<Seen, Errno> {
        let rotten = |ino: Ino, blocks: Range<u64>| {
            let bad: Vec<u64> = blocks.filter(|b| self.bad.contains(&(ino, *b))).collect();
            (!bad.is_empty()).then_some(Seen::Rotten(bad))
        };
        let of = |ino: &Ino| self.files.get(ino).ok_or(Errno::ESTALE);
        Ok(match look {
            Look::Block { ino, block, .. } => {
                let data = Seen::Data(part(of(ino)?, block * BLOCK, BLOCK));
                rotten(*ino, *block..block + 1).unwrap_or(data)
            }
            Look::Raw { ino, block } => Seen::Raw {
                bytes: part(of(ino)?, block * BLOCK, BLOCK),
                damaged: self.place.clone(),
            },
            Look::RawIndex { ino } => Seen::Data(Index::read(&of(ino)?[..]).unwrap().encode().into()),
            Look::Read { ino, offset, len } => {
                let end = offset + u64::from(*len);
                let data = Seen::Data(part(of(ino)?, *offset, u64::from(*len)));
                rotten(*ino, offset / BLOCK..end.div_ceil(BLOCK)).unwrap_or(data)
            }
            other => panic!("not asked for: {other:?}"),
        })
    }

    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Make { ino, kind, .. } if *kind == mboxfs_types::Kind::File => {
                self.files.entry(*ino).or_default();
            }
            Effect::Note(note) => self.notes.push(note.clone()),
            Effect::Combine { ino, block, .. } if self.mends => {
                self.bad.remove(&(*ino, *block));
            }
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                ..
            } => {
                let file = self.files.get_mut(ino).expect("a file");
                let cut = (*cut).min(file.len() as u64);
                file.truncate(cut as usize);
                file.resize(*size as usize, 0);
                for Extent { offset, data } in extents {
                    file[*offset as usize..*offset as usize + data.len()].copy_from_slice(data);
                }
                self.bad.retain(|(i, block)| i != ino || block * BLOCK < cut);
            }
            _ => {}
        }
    }

    /// Names and contents in `.mboxfs-conflict`.
    fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let Ok(dir) = conflict_dir(&self.brick.state) else {
            return Vec::new();
        };
        let entries = self.brick.state.inode(dir).unwrap().entries().unwrap();
        let content = |ino: &Ino| self.files.get(ino).cloned().unwrap_or_default();
        entries
            .iter()
            .map(|(name, ino)| (format!("{name}"), content(ino)))
            .collect()
    }

    fn was_quarantined(&self) -> usize {
        let is = |e: &&Event| matches!(e, Event::Quarantined { .. });
        self.events.iter().filter(is).count()
    }
}

fn part(bytes: &[u8], offset: u64, len: u64) -> Bytes {
    let start = (offset as usize).min(bytes.len());
    let end = (start + len as usize).min(bytes.len());
    Bytes::copy_from_slice(&bytes[start..end])
}

/// In step with its peer, and primary.
fn brick(mailbox: &[u8]) -> Brick {
    let mut brick = Brick::new(Recovered::empty(), Clock::default(), &mut Vec::new()).unwrap();
    let create = Op::Create {
        dir: Ino::ROOT,
        name: Name::new(b"alice").unwrap(),
        mode: 0o600,
        uid: 8,
        gid: 8,
        excl: true,
    };
    let commit = Op::Commit {
        ino: BOX,
        staged: false,
        cut: 0,
        extents: vec![],
        size: mailbox.len() as u64,
        mtime: Timestamp { secs: 5, nanos: 1 },
        atime: None,
    };
    let set = SetAttr::default();
    for (n, op) in (1..).zip([create, commit, Op::SetAttr { ino: BOX, set }]) {
        brick.state.execute(&Record {
            tag: Tag { n, ..Tag::default() },
            time: Timestamp::default(),
            ino: BOX,
            body: Body::Quarantine { op },
        });
    }
    (brick.log.last, brick.log.durable, brick.peer.durable) = (3, 3, 3);
    brick.stand = Stand::Normal;
    brick.peer.up = true;
    brick.mounts.open = true;
    // Far from the first pass of the scrub.
    brick.clock.mono = Nanos::from_millis(1000);
    brick
}

#[test]
fn the_damaged_message_is_taken_out_and_all_others_stay() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at, at + 9], &[at, at + 100]);
    world.tick(Nanos(0));
    let gone = mail(7, 4000);
    let from = place(&all, "From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <7@t>");
    let left = [&all[..from], &all[from + gone.len()..]].concat();
    assert!(world.files[&BOX] == left, "byte for byte");
    assert_eq!(world.bad, BTreeSet::new());
    let inode = world.brick.state.inode(BOX).unwrap();
    assert_eq!((inode.size, inode.mtime.secs), (left.len() as u64, 7));
    let kept = world.kept();
    let names: Vec<&str> = kept.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["alice.damaged-1.2.Brick1", "alice.damaged-1.2.Brick2"]);
    let mut ours = gone.clone();
    let mut theirs = gone;
    let start = at - from;
    (ours[start], ours[start + 9]) = (ours[start] ^ 0x20, ours[start + 9] ^ 0x20);
    (theirs[start], theirs[start + 100]) = (theirs[start] ^ 0x40, theirs[start + 100] ^ 0x40);
    assert!((&kept[0].1, &kept[1].1) == (&ours, &theirs), "as each brick has it");
    let [.., Event::Quarantined { path, messages, kept }] = &world.events[..] else {
        panic!("{:?}", world.events);
    };
    assert_eq!((path.as_str(), *messages, kept.len()), ("/alice", 1, 2));
    let kept = kept.iter().map(|name| format!("/.mboxfs-conflict/{name}")).collect();
    let messages = 1;
    let [
        Note {
            who, ino, path, act, ..
        },
    ] = &world.notes[..]
    else {
        panic!("{:?}", world.notes);
    };
    assert_eq!((who, *ino, path.as_str()), (&Who::Quarantine, BOX, "/alice"));
    assert_eq!(act, &Act::Quarantined { messages, kept });
    assert_eq!(world.brick.bad_files(), []);
    let told = world.brick.quarantined();
    assert_eq!((told.len(), told[0].path.as_str(), told[0].messages), (1, "/alice", 1));
    assert_eq!(told[0].kept.len(), 2);
    // Nothing more happens, and when the files are gone nothing is told.
    world.tick(Nanos::from_millis(100_000));
    assert_eq!(world.was_quarantined(), 1);
    let dir = conflict_dir(&world.brick.state).unwrap();
    for name in names {
        let name = Name::new(name.as_bytes()).unwrap();
        let n = world.brick.state.applied + 1;
        world.brick.state.execute(&Record {
            tag: Tag { n, ..Tag::default() },
            time: Timestamp::default(),
            ino: BOX,
            body: Body::Quarantine {
                op: Op::Unlink { dir, name },
            },
        });
    }
    assert_eq!(world.brick.quarantined(), []);
}

#[test]
fn where_nobody_knows_which_is_damaged_all_of_the_block_go() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at], &[at]);
    world.tick(Nanos(0));
    let index = Index::read(&world.files[&BOX][..]).unwrap();
    let uids: Vec<u32> = index.entries().filter_map(|e| e.uid).collect();
    // The one that reaches into the block goes, too; what is behind keeps its numbers.
    assert_eq!(uids, [18, 19, 20]);
    assert_eq!(index.numbering.as_ref().map(|n| n.uid_last), Some(30));
    let kept = world.kept();
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].0, "alice.damaged-17.2.Bricks");
    let mut damaged = all.clone();
    damaged[at] ^= 0x20;
    assert!(damaged.starts_with(&kept[0].1));
}

#[test]
fn where_the_disk_knows_the_place_only_what_is_there_goes() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at], &[at]);
    let sector = at / 512 * 512;
    world.place = Some(sector..sector + 512);
    world.tick(Nanos(0));
    let index = Index::read(&world.files[&BOX][..]).unwrap();
    let uids: Vec<u32> = index.entries().filter_map(|e| e.uid).collect();
    // The sector may begin in the message before.
    let from = place(&all, "From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <7@t>");
    let gone = if sector < from { 6..=7 } else { 7..=7 };
    let expected: Vec<u32> = (1..=20).filter(|uid| !gone.contains(uid)).collect();
    assert_eq!(uids, expected);
    assert!(world.kept()[0].0.ends_with(".Bricks"));
}

#[test]
fn what_is_larger_than_a_record_is_done_at_once_all_the_same() {
    let all: Vec<u8> = (1..=700).flat_map(|n| mail(n, 4000)).collect();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at, at + 9], &[at, at + 100]);
    world.tick(Nanos(0));
    let from = place(&all, "From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <7@t>");
    let left = [&all[..from], &all[from + mail(7, 4000).len()..]].concat();
    assert!(world.files[&BOX] == left);
    let stages = world.brick.state.applied - 3;
    assert!(stages >= 8, "{stages} records");
    assert_eq!((world.was_quarantined(), world.kept().len()), (1, 2));
}

/// Q2: whatever was done before the brick is lost, the next attempt comes to the same, once.
#[test]
fn a_crash_at_any_point_neither_loses_nor_doubles() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let damaged = || World::new(&all, &[at, at + 9], &[at, at + 100]);
    let mut whole = damaged();
    whole.tick(Nanos(0));
    for steps in 0..7 {
        let mut world = damaged();
        world.left = Some(steps);
        world.tick(Nanos(0));
        assert_eq!(world.was_quarantined(), usize::from(steps > 5), "{steps} steps");
        // The stream to the peer breaks, and is there again.
        let mut out = Vec::new();
        world.brick.end_quarantine(&mut out);
        world.brick.stop_repairs(&mut out);
        world.brick.arbiter = crate::arbiter::Arbiter::default();
        world.brick.busy.clear();
        world.left = None;
        for record in core::mem::take(&mut world.brick.log.pending) {
            // Durable here, and the peer said so: it counts.
            let n = record.tag.n;
            world.brick.log.pending.push_back(record);
            let out = world.durable_here(n);
            world.play(out);
            let out = world.durable_there(n);
            world.play(out);
        }
        world.tick(Nanos(0));
        world.tick(Nanos::from_millis(100_000));
        assert!(world.files[&BOX] == whole.files[&BOX], "{steps} steps");
        assert!(world.kept() == whole.kept(), "{steps} steps");
    }
}

#[test]
fn what_the_other_brick_has_repaired_meanwhile_is_taken() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at, at + 9], &[at, at + 100]);
    world.mends = true;
    world.tick(Nanos(0));
    assert_eq!((world.kept(), world.was_quarantined()), (vec![], 0), "Q1");
    assert_eq!((world.bad.len(), world.brick.bad_files()), (0, vec![]));
}

#[test]
fn a_file_that_is_no_mailbox_stays_as_it_is_and_that_is_said_once() {
    let all = vec![b'x'; 70_000];
    let mut world = World::new(&all, &[5, 900], &[5, 901]);
    let before = world.files.clone();
    for _ in 0..3 {
        world.tick(Nanos::from_millis(100_000));
    }
    assert_eq!((world.kept().len(), &world.files), (0, &before), "Q5");
    let said = |e: &&Event| matches!(e, Event::NotQuarantined { why: NO_MAILBOX, .. });
    assert_eq!(world.events.iter().filter(said).count(), 1);
    assert_eq!(world.brick.bad_files()[0].both, 1);
    // Somebody changes it.
    let append = Op::Commit {
        ino: BOX,
        staged: false,
        cut: u64::MAX,
        extents: vec![],
        size: 70_000,
        mtime: Timestamp::default(),
        atime: None,
    };
    let n = world.brick.state.applied + 1;
    world.brick.state.execute(&Record {
        tag: Tag { n, ..Tag::default() },
        time: Timestamp::default(),
        ino: BOX,
        body: Body::Quarantine { op: append },
    });
    world.tick(Nanos::from_millis(100_000));
    assert_eq!(world.events.iter().filter(said).count(), 2);
}

#[test]
fn a_mailbox_that_is_in_use_is_put_off() {
    let all = mailbox();
    let at = place(&all, "this is 7 ");
    let mut world = World::new(&all, &[at, at + 9], &[at, at + 100]);
    let reader = SessionId {
        client: [9; 16],
        nonce: 1,
    };
    let lock = mboxfs_types::HeldLock {
        owner: mboxfs_types::Owner { session: reader, id: 1 },
        range: mboxfs_types::Range::ALL,
        kind: mboxfs_types::LockKind::Shared,
        pid: 1,
    };
    let claim = Reclaim {
        locks: vec![(BOX, lock)],
        ..Reclaim::default()
    };
    world.brick.arbiter.reclaim(reader, &claim, false, false);
    world.tick(Nanos(0));
    world.tick(limits::LOCK_WAIT);
    assert_eq!((world.kept(), world.was_quarantined()), (vec![], 0), "Q3");
    world.brick.arbiter.remove(reader);
    world.tick(limits::LOCK_WAIT);
    assert_eq!(world.was_quarantined(), 1);
}
