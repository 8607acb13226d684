//! The brick's directory on a real filesystem: formatted, refused, locked, checkpointed, opened again.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use mboxfs_store::{Inspection, Opened, Options, StoreError, format, format_with, inspect};
use mboxfs_types::{
    Ino, Kind, Name, OpId, SessionId, Tag, Timestamp,
    call::{Extent, Op},
    disk::{Effect, Look, Seen},
    ids::BrickUuid,
    limits,
    record::{Body, Record},
};
use std::path::Path;

const UUID: BrickUuid = BrickUuid([5; 16]);
const SMALL: Options = Options {
    segment_bytes: 64 << 10,
    force: false,
    at_most: u64::MAX,
};

fn brick() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    format_with(dir.path(), UUID, &SMALL).unwrap();
    dir
}

fn record(n: u64, bytes: usize) -> Record {
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
            op: Op::Stage {
                ino: Ino(5),
                first: true,
                extents: vec![Extent {
                    offset: 0,
                    data: vec![7; bytes].into(),
                }],
            },
        },
    }
}

fn make(ino: u64, kind: Kind, name: &str) -> Effect {
    Effect::Make {
        ino: Ino(ino),
        kind,
        mode: 0o660,
        uid: 0,
        gid: 0,
        target: b"target".to_vec(),
        dir: Ino::ROOT,
        name: Name::new(name.as_bytes()).unwrap(),
    }
}

fn open(data: &Path) -> Opened {
    Opened::open_with(data, &SMALL).unwrap()
}

#[test]
fn an_empty_directory_becomes_a_brick_once() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("lost+found")).unwrap(); // mkfs made it
    assert_eq!(inspect(dir.path()).unwrap(), Inspection::Empty);
    let error = Opened::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::NotABrick { .. }) && error.hint().is_some());
    format(dir.path(), UUID).unwrap();
    assert_eq!(inspect(dir.path()).unwrap(), Inspection::Brick);
    assert!(matches!(
        format(dir.path(), UUID),
        Err(StoreError::AlreadyABrick { .. })
    ));
    let opened = Opened::open(dir.path()).unwrap();
    assert_eq!(
        (opened.superblock.uuid, opened.superblock.inc, opened.log_start),
        (UUID, 1, 1)
    );
    assert_eq!(
        (opened.superblock.format, opened.snapshot.len()),
        (limits::FORMAT_VERSION, 0)
    );
    drop(opened);
    assert_eq!(Opened::open(dir.path()).unwrap().superblock.inc, 2);
    let error = inspect(&dir.path().join("nowhere")).unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }));
}

#[test]
fn files_that_are_not_ours_are_refused_and_with_force_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("alice"), "From a@b\n").unwrap();
    let error = format_with(dir.path(), UUID, &SMALL).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("{} is not empty: it holds alice", dir.path().display())
    );
    assert!(error.hint().is_some());
    format_with(dir.path(), UUID, &Options { force: true, ..SMALL }).unwrap();
    drop(open(dir.path()));
    assert_eq!(std::fs::read(dir.path().join("alice")).unwrap(), b"From a@b\n");
}

#[test]
fn a_format_that_was_cut_off_is_told_and_can_be_done_again() {
    let dir = brick();
    std::fs::remove_file(dir.path().join(".mboxfs/superblock")).unwrap();
    assert!(matches!(
        Opened::open(dir.path()),
        Err(StoreError::HalfMade { used: false, .. })
    ));
    format_with(dir.path(), UUID, &SMALL).unwrap();
    open(dir.path()).files.apply(&[make(10, Kind::File, "alice")]).unwrap();
    // With data in it, it was no format that was cut off.
    std::fs::remove_file(dir.path().join(".mboxfs/superblock")).unwrap();
    assert!(matches!(
        format_with(dir.path(), UUID, &SMALL),
        Err(StoreError::HalfMade { used: true, .. })
    ));
}

#[test]
fn one_process_at_a_time_for_as_long_as_any_part_lives() {
    let dir = brick();
    let Opened {
        log,
        files,
        checkpointer,
        superblock_writer,
        ..
    } = open(dir.path());
    let refused = || matches!(Opened::open_with(dir.path(), &SMALL), Err(StoreError::Locked { .. }));
    assert!(refused());
    drop(log);
    assert!(refused());
    drop(files);
    assert!(refused());
    drop(checkpointer);
    assert!(refused());
    drop(superblock_writer);
    assert_eq!(open(dir.path()).superblock.inc, 2, "a refused start is not counted");
}

#[test]
fn the_parts_can_go_to_threads() {
    fn is_send<T: Send + 'static>() {}
    is_send::<Opened>();
    is_send::<mboxfs_store::Touched>();
}

#[test]
fn a_checkpoint_covers_files_and_directories_and_is_found_again() {
    let dir = brick();
    let mut opened = open(dir.path());
    for n in 1..=40 {
        opened.log.append(&[record(n, 4000)]).unwrap();
    }
    opened
        .files
        .apply(&[
            make(10, Kind::File, "alice"),
            make(11, Kind::Dir, "folder"),
            make(12, Kind::Symlink, "link"),
            make(13, Kind::File, "gone"),
        ])
        .unwrap();
    let touched = opened.files.take_touched();
    assert!(!touched.is_empty());
    assert!(opened.files.take_touched().is_empty());
    // What goes on while the checkpoint is written does not disturb it.
    let name = Name::new(b"gone").unwrap();
    opened
        .files
        .apply(&[
            Effect::Unlink {
                ino: Ino(13),
                dir: Ino::ROOT,
                name,
            },
            Effect::Free { ino: Ino(13) },
            Effect::RemoveDir { ino: Ino(11) },
        ])
        .unwrap();
    opened.checkpointer.checkpoint(touched, 30, b"state of 30").unwrap();
    opened.log.trim(31).unwrap();
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(&*opened.snapshot, b"state of 30");
    assert_eq!(
        opened.records.iter().map(|r| r.tag.n).collect::<Vec<_>>(),
        (31..=40).collect::<Vec<_>>()
    );
    assert!(opened.log_start > 1 && opened.log_start <= 31);
    drop(opened);
    assert!(matches!(
        Opened::open_at_most(dir.path(), 29),
        Err(StoreError::Snapshot { .. })
    ));
}

#[test]
fn many_touched_files_are_synced_at_once() {
    let dir = brick();
    let mut opened = open(dir.path());
    let effects: Vec<Effect> = (100..1200)
        .map(|ino| make(ino, Kind::File, &format!("u{ino}")))
        .collect();
    opened.files.apply(&effects).unwrap();
    opened.log.append(&[record(1, 1)]).unwrap();
    let touched = opened.files.take_touched();
    opened.checkpointer.checkpoint(touched, 1, b"x").unwrap();
    drop(opened);
    let mut opened = open(dir.path());
    let look = Look::Read {
        ino: Ino(1199),
        offset: 0,
        len: 1,
    };
    assert_eq!(opened.files.look(&look), Ok(Seen::Data("".into())));
}

#[test]
fn a_reload_drops_the_end_and_takes_the_older_snapshot() {
    let dir = brick();
    let mut opened = open(dir.path());
    for n in 1..=40 {
        opened.log.append(&[record(n, 4000)]).unwrap();
        if n % 10 == 0 {
            let touched = opened.files.take_touched();
            opened
                .checkpointer
                .checkpoint(touched, n, format!("{n}").as_bytes())
                .unwrap();
        }
    }
    opened.log.drop_above(35).unwrap();
    drop(opened);
    let opened = open(dir.path());
    assert_eq!(
        (&*opened.snapshot, opened.log.last(), opened.records.len()),
        (&b"30"[..], 35, 5)
    );
}

#[test]
fn the_reserve_is_not_free() {
    let dir = brick();
    let space = open(dir.path()).files.space().unwrap();
    assert!(space.total > 0 && space.free < space.total && space.inodes_free <= space.inodes);
}
