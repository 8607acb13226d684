//! Disk law D2 on a real filesystem: whatever part of the future the files have seen, a replay ends at the same tree.
//!
//! A small model of a namespace makes legal sequences of effects, as the brain does, with few names and many renames, so
//! that names collide and directories change places.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

mod namespace;

use mboxfs_store::{Files, Opened, Options, format_with};
use mboxfs_types::{
    Errno, Ino, Kind, Tag, Timestamp,
    call::Extent,
    disk::{Effect, Look, Seen},
    ids::BrickUuid,
};
use namespace::{Model, World, name};
use proptest::prelude::*;
use std::path::Path;

const OPTIONS: Options = Options {
    segment_bytes: 4096,
    force: false,
    at_most: u64::MAX,
};

fn open(data: &Path) -> Files {
    Opened::open_with(data, &OPTIONS).unwrap().files
}

fn brick() -> (tempfile::TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    format_with(dir.path(), BrickUuid([1; 16]), &OPTIONS).unwrap();
    let files = open(dir.path());
    (dir, files)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_over_any_future_ends_at_the_same_tree(
        steps in prop::collection::vec(any::<[u16; 5]>(), 1..60),
        cuts in any::<[prop::sample::Index; 3]>(),
        reopen in any::<[bool; 2]>(),
    ) {
        let mut model = Model::default();
        let ops: Vec<Vec<Effect>> = steps.iter().map(|step| model.step(*step)).collect();
        let seen = cuts[0].index(ops.len() + 1);
        let from = cuts[1].index(seen + 1);
        let stop = from + cuts[2].index(ops.len() - from + 1);

        let (dir, mut files) = brick();
        for op in &ops[..seen] {
            files.apply(op).unwrap();
        }
        if reopen[0] {
            drop(files);
            files = open(dir.path());
        }
        // A replay that is cut off by another crash, and then a whole one.
        for op in &ops[from..stop] {
            files.apply(op).unwrap();
        }
        if reopen[1] {
            drop(files);
            files = open(dir.path());
        }
        for op in &ops[from..] {
            files.apply(op).unwrap();
        }
        prop_assert_eq!(World::of_disk(dir.path(), &model), World::of_model(&model));
        prop_assert!(files.missing().is_empty());
        // Found again as it was left.
        drop(files);
        let mut files = open(dir.path());
        for op in &ops[from..] {
            files.apply(op).unwrap();
        }
        prop_assert_eq!(World::of_disk(dir.path(), &model), World::of_model(&model));
    }
}

fn make(ino: u64, kind: Kind, dir: Ino, called: &str) -> Effect {
    Effect::Make {
        ino: Ino(ino),
        kind,
        mode: 0o755,
        uid: 0,
        gid: 0,
        target: Vec::new(),
        dir,
        name: name(called),
    }
}

fn moved(ino: u64, dir: u64, called: &str) -> Effect {
    Effect::MoveDir {
        ino: Ino(ino),
        dir: Ino(dir),
        name: name(called),
    }
}

#[test]
fn two_directories_that_change_places_are_replayed() {
    let ops = [
        make(10, Kind::Dir, Ino::ROOT, "a"),
        make(11, Kind::Dir, Ino::ROOT, "b"),
        moved(10, 11, "a"), // b/a
        moved(10, 1, "a"),
        moved(11, 10, "b"), // a/b
    ];
    for from in 0..ops.len() {
        let (dir, mut files) = brick();
        files.apply(&ops).unwrap();
        files.apply(&ops[from..]).unwrap();
        assert!(dir.path().join("a/b").is_dir());
        assert!(!dir.path().join("b").exists());
    }
}

#[test]
fn a_directory_whose_place_is_below_itself_for_the_moment_gets_there_later() {
    let ops = [
        make(10, Kind::Dir, Ino::ROOT, "a"),
        make(11, Kind::Dir, Ino::ROOT, "b"),
        make(12, Kind::Dir, Ino::ROOT, "x"),
        moved(10, 1, "c"),
        moved(12, 10, "x"), // c/x
        moved(10, 11, "a"), // b/a/x; in a replay b is below x still, and so below a
        moved(12, 1, "x"),
        moved(11, 12, "b"), // x/b/a
    ];
    for from in 0..ops.len() {
        for again in (from..=ops.len()).step_by(3) {
            let (dir, mut files) = brick();
            files.apply(&ops).unwrap();
            files.apply(&ops[from..again]).unwrap();
            drop(files);
            let mut files = open(dir.path());
            files.apply(&ops[from..]).unwrap();
            assert!(dir.path().join("x/b/a").is_dir(), "from {from}, again from {again}");
            assert!(!dir.path().join(".mboxfs/ino/dir-000000000000000a").exists());
        }
    }
}

#[test]
fn what_is_not_ours_is_put_aside_and_never_removed() {
    let (dir, mut files) = brick();
    std::fs::write(dir.path().join("alice"), "a letter that nobody else has").unwrap();
    std::fs::create_dir(dir.path().join("bob")).unwrap();
    std::fs::write(dir.path().join("bob/letter"), "another one").unwrap();
    files
        .apply(&[
            make(10, Kind::File, Ino::ROOT, "alice"),
            make(11, Kind::File, Ino::ROOT, "bob"),
        ])
        .unwrap();
    let lost = dir.path().join(".mboxfs/lost");
    assert_eq!(
        std::fs::read(lost.join("alice")).unwrap(),
        b"a letter that nobody else has"
    );
    assert_eq!(std::fs::read(lost.join("bob/letter")).unwrap(), b"another one");
    assert_eq!(std::fs::read(dir.path().join("alice")).unwrap(), b"");
}

#[test]
fn a_removed_directory_leaves_what_is_not_ours() {
    let (dir, mut files) = brick();
    files.apply(&[make(10, Kind::Dir, Ino::ROOT, "d")]).unwrap();
    std::fs::write(dir.path().join("d/stray"), "x").unwrap();
    files.apply(&[Effect::RemoveDir { ino: Ino(10) }]).unwrap();
    assert!(!dir.path().join("d").exists());
    assert!(dir.path().join(".mboxfs/lost/stray").exists());
}

fn write(ino: u64, data: &'static [u8]) -> Effect {
    Effect::Write {
        ino: Ino(ino),
        cut: u64::MAX,
        extents: vec![Extent {
            offset: 0,
            data: data.into(),
        }],
        size: data.len() as u64,
        mtime: Timestamp { secs: 7, nanos: 1 },
        atime: Timestamp { secs: 8, nanos: 2 },
        stamp: Tag::default(),
    }
}

#[test]
fn looks_see_content_and_the_users_attributes_only() {
    let (_dir, mut files) = brick();
    let xattr = |name: &[u8], value: Option<&[u8]>| Effect::Xattr {
        ino: Ino(10),
        name: name.to_vec(),
        value: value.map(<[u8]>::to_vec),
    };
    files
        .apply(&[
            make(10, Kind::File, Ino::ROOT, "alice"),
            write(10, b"hello"),
            xattr(b"user.color", Some(b"red")),
            xattr(b"user.mboxfs", Some(b"not yours")),
            xattr(b"user.gone", Some(b"1")),
            xattr(b"user.gone", None),
            xattr(b"user.gone", None),
            xattr(b"user.huge", Some(&[1; 4096])),
            make(11, Kind::Dir, Ino::ROOT, "d"),
        ])
        .unwrap();
    let read = |ino, offset, len| Look::Read { ino, offset, len };
    let get = |name: &[u8]| Look::GetXattr {
        ino: Ino(10),
        name: name.to_vec(),
    };
    assert_eq!(files.look(&read(Ino(10), 1, 3)), Ok(Seen::Data("ell".into())));
    assert_eq!(files.look(&read(Ino(10), 3, 100)), Ok(Seen::Data("lo".into())));
    assert_eq!(files.look(&read(Ino(10), 100, 100)), Ok(Seen::Data("".into())));
    assert_eq!(files.look(&read(Ino(11), 0, 1)), Err(Errno::EISDIR));
    assert_eq!(files.look(&read(Ino(99), 0, 1)), Err(Errno::ESTALE));
    assert_eq!(files.look(&get(b"user.color")), Ok(Seen::Data("red".into())));
    assert_eq!(files.look(&get(b"user.gone")), Err(Errno::ENODATA));
    assert_eq!(files.look(&get(b"user.mboxfs")), Err(Errno::ENODATA));
    let Ok(Seen::Names(names)) = files.look(&Look::ListXattr { ino: Ino(10) }) else {
        panic!("names wanted");
    };
    assert!(names.contains(&b"user.color".to_vec()));
    assert!(!names.iter().any(|name| name.starts_with(b"user.mboxfs")));
    let Ok(Seen::Names(names)) = files.look(&Look::ListXattr { ino: Ino::ROOT }) else {
        panic!("names wanted");
    };
    assert!(names.is_empty());
}

#[test]
fn the_store_itself_cannot_be_named() {
    let (dir, mut files) = brick();
    assert!(files.apply(&[make(10, Kind::File, Ino::ROOT, ".mboxfs")]).is_err());
    assert!(files.apply(&[make(11, Kind::Dir, Ino::ROOT, ".mboxfs")]).is_err());
    assert!(dir.path().join(".mboxfs/superblock").exists());
}

#[test]
fn writes_to_what_is_not_there_are_noticed() {
    let (_dir, mut files) = brick();
    files.apply(&[write(10, b"x")]).unwrap();
    assert_eq!(files.missing().iter().copied().collect::<Vec<_>>(), [Ino(10)]);
    files.apply(&[Effect::Free { ino: Ino(10) }]).unwrap();
    assert!(files.missing().is_empty());
    // Replayed over a future in which the directory is gone.
    let set_mode = Effect::SetAttr {
        ino: Ino(11),
        mode: 0o700,
        uid: 0,
        gid: 0,
        atime: Timestamp::default(),
        mtime: Timestamp::default(),
    };
    files.apply(&[set_mode, Effect::RemoveDir { ino: Ino(11) }]).unwrap();
    assert!(files.missing().is_empty());
}
