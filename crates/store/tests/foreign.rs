//! A brick's files become those of its peer: what the peer does not have goes, what is not ours stays, copies are exact.
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use mboxfs_store::{Opened, Options, format_with};
use mboxfs_types::{
    Ino, Kind, Name, Tag, Timestamp,
    call::Extent,
    codec,
    disk::{Effect, Look, Seen, Worth, Xattrs},
    ids::BrickUuid,
    limits,
};
use std::{collections::BTreeSet, fs, path::Path};

const SMALL: Options = Options {
    segment_bytes: 64 << 10,
    force: true,
    at_most: u64::MAX,
};
const NOWHERE: Ino = Ino(0);

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn make(ino: u64, kind: Kind, dir: Ino, called: &str) -> Effect {
    let own = rustix::process::geteuid().as_raw();
    Effect::Make {
        ino: Ino(ino),
        kind,
        mode: 0o770,
        uid: own,
        gid: own,
        target: b"target".to_vec(),
        dir,
        name: name(called),
    }
}

fn write(ino: u64, data: &[u8]) -> Effect {
    let extent = Extent {
        offset: 0,
        data: data.to_vec().into(),
    };
    Effect::Write {
        ino: Ino(ino),
        cut: 0,
        extents: vec![extent],
        size: data.len() as u64,
        mtime: Timestamp::default(),
        atime: Timestamp::default(),
        stamp: Tag::default(),
    }
}

fn open(data: &Path) -> Opened {
    Opened::open_with(data, &SMALL).unwrap()
}

fn brick() -> (tempfile::TempDir, Opened) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("not ours"), "x").unwrap();
    format_with(dir.path(), BrickUuid([5; 16]), &SMALL).unwrap();
    let opened = open(dir.path());
    (dir, opened)
}

/// Paths below `root`, ours aside.
fn tree(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut at = vec![root.to_path_buf()];
    while let Some(dir) = at.pop() {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            let path = entry.path();
            let shown = path.strip_prefix(root).unwrap().display().to_string();
            if shown == ".mboxfs" {
                continue;
            }
            found.insert(shown);
            if entry.file_type().unwrap().is_dir() {
                at.push(path);
            }
        }
    }
    found
}

#[test]
fn what_the_peer_does_not_have_goes() {
    let (dir, mut opened) = brick();
    let files = &mut opened.files;
    let here = [
        make(10, Kind::Dir, Ino::ROOT, "stays"),
        make(11, Kind::Dir, Ino(10), "moves"),
        make(12, Kind::Dir, Ino::ROOT, "goes"),
        make(13, Kind::Dir, Ino(12), "too"),
        make(20, Kind::File, Ino::ROOT, "alice"),
        make(21, Kind::File, Ino(10), "bob"),
        make(22, Kind::File, Ino(13), "carol"),
        make(23, Kind::Symlink, Ino::ROOT, "link"),
        write(20, b"alice's"),
        write(21, b"bob's"),
        write(22, b"carol's"),
    ];
    files.apply(&here).unwrap();
    fs::write(dir.path().join("goes/stranger"), "y").unwrap();
    // There: "alice" is another file, bob has a second name and moved with his directory, 20 has no name any more.
    let names = vec![
        (Ino::ROOT, name("stays"), Ino(10)),
        (Ino::ROOT, name("moved"), Ino(11)),
        (Ino(11), name("bob"), Ino(21)),
        (Ino::ROOT, name("bob"), Ino(21)),
        (Ino::ROOT, name("alice"), Ino(30)),
    ];
    let there = [
        Effect::Only {
            names,
            nameless: vec![Ino(20)],
        },
        make(10, Kind::Dir, Ino::ROOT, "stays"),
        make(11, Kind::Dir, Ino::ROOT, "moved"),
        make(21, Kind::File, Ino(11), "bob"),
        Effect::Link {
            ino: Ino(21),
            dir: Ino::ROOT,
            name: name("bob"),
        },
        make(30, Kind::File, Ino::ROOT, "alice"),
        make(20, Kind::File, NOWHERE, "nameless"),
    ];
    for _ in 0..2 {
        files.apply(&there).unwrap(); // F3
        let want = ["alice", "bob", "moved", "moved/bob", "not ours", "stays"];
        assert_eq!(tree(dir.path()), want.map(String::from).into());
    }
    assert_eq!(fs::read(dir.path().join("bob")).unwrap(), b"bob's", "its content stays");
    assert_eq!(fs::read(dir.path().join("alice")).unwrap(), b"", "another file");
    let read = |files: &mut mboxfs_store::Files, ino| {
        files.look(&Look::Read {
            ino: Ino(ino),
            offset: 0,
            len: 99,
        })
    };
    assert_eq!(
        read(files, 20),
        Ok(Seen::Data(b"alice's".to_vec().into())),
        "somebody may have it open"
    );
    assert!(read(files, 22).is_err(), "freed");
    assert_eq!(fs::read(dir.path().join(".mboxfs/lost/stranger")).unwrap(), b"y");
    drop(opened);
    assert_eq!(
        open(dir.path()).files.look(&Look::Read {
            ino: Ino(21),
            offset: 0,
            len: 3
        }),
        Ok(Seen::Data(b"bob".to_vec().into()))
    );
}

#[test]
fn blocks_are_told_apart_and_copied() {
    let (_dir, mut opened) = brick();
    let files = &mut opened.files;
    let content: Vec<u8> = (0..limits::BLOCK_BYTES * 2 + 100).map(|i| (i / 7) as u8).collect();
    let mut other = content.clone();
    other[limits::BLOCK_BYTES + 5] ^= 1;
    for (ino, data) in [(20, &content), (21, &other)] {
        files
            .apply(&[make(ino, Kind::File, Ino::ROOT, &ino.to_string()), write(ino, data)])
            .unwrap();
    }
    let mut digests = |ino, offset| {
        let len = limits::DIGEST_SPAN;
        let Ok(Seen::Data(bytes)) = files.look(&Look::Digests {
            ino: Ino(ino),
            offset,
            len,
        }) else {
            panic!("no digests of {ino}");
        };
        bytes
            .chunks(limits::DIGEST_BYTES)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    let (a, b) = (digests(20, 0), digests(21, 0));
    assert_eq!(a.len(), 3, "the last block is a short one");
    assert_eq!((a[0] == b[0], a[1] == b[1], a[2] == b[2]), (true, false, true));
    assert_eq!(digests(20, content.len() as u64 - 1).len(), 1);
    assert_eq!(digests(20, content.len() as u64), Vec::<Vec<u8>>::new());
    let copy = Look::Copy {
        ino: Ino(21),
        base: None,
        offset: limits::BLOCK_BYTES as u64,
        len: limits::BLOCK_BYTES as u32,
    };
    let want = other[limits::BLOCK_BYTES..][..limits::BLOCK_BYTES].to_vec();
    assert_eq!(files.look(&copy), Ok(Seen::Data(want.into())));
    let gone = Look::Copy {
        ino: Ino(99),
        base: None,
        offset: 0,
        len: 1,
    };
    assert_eq!(
        files.look(&gone),
        Err(mboxfs_types::Errno::ESTALE),
        "gone is not unreadable"
    );
}

#[test]
fn extended_attributes_become_the_same() {
    let (_dir, mut opened) = brick();
    let files = &mut opened.files;
    let pair = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    files
        .apply(&[
            make(20, Kind::File, Ino::ROOT, "a"),
            make(21, Kind::Symlink, Ino::ROOT, "b"),
        ])
        .unwrap();
    for all in [
        vec![pair("user.a", "1"), pair("user.b", "2")],
        vec![pair("user.b", "3"), pair("user.c", "4")],
        vec![],
    ] {
        files
            .apply(&[Effect::AllXattrs {
                ino: Ino(20),
                all: all.clone(),
            }])
            .unwrap();
        let inos = vec![Ino(20), Ino(21)];
        let Ok(Seen::Data(bytes)) = files.look(&Look::Xattrs { inos }) else {
            panic!("no attributes");
        };
        assert_eq!(
            codec::decode::<Xattrs>(&bytes),
            Ok(vec![(Ino(20), all), (Ino(21), vec![])])
        );
    }
}

/// The end of a resync, cut off by a crash after each of its steps.
#[test]
fn a_log_that_begins_anew_goes_on_from_its_snapshot() {
    let (dir, mut opened) = brick();
    let checkpoint = |opened: &mut Opened, n, snapshot: &[u8]| {
        let touched = opened.files.take_touched();
        opened.checkpointer.checkpoint(touched, n, snapshot).unwrap();
    };
    opened.superblock.files = Worth::Copying;
    opened.superblock_writer.write(&opened.superblock).unwrap();
    checkpoint(&mut opened, 0, b"known so far");
    checkpoint(&mut opened, 70, b"the peer's state");
    drop(opened);
    let mut opened = open(dir.path());
    assert_eq!(
        opened.snapshot,
        b"known so far"[..],
        "the log does not go on from 70 yet"
    );
    checkpoint(&mut opened, 80, b"a later state");
    opened.log.restart(81).unwrap();
    drop(opened);
    let opened = open(dir.path());
    assert_eq!((opened.log_start, opened.log.last()), (81, 80));
    assert_eq!(opened.snapshot, b"a later state"[..]);
    assert_eq!(
        opened.superblock.files,
        Worth::Copying,
        "until the superblock says otherwise"
    );
}
