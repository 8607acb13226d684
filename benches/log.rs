//! What durability costs on this disk: `cargo bench --bench log`, in a temporary directory (TMPDIR chooses the disk).
//!
//! Promises: prints times, asserts none. Not here: whole deliveries.

use bytes::Bytes;
use mboxfs_store::{Opened, format};
use mboxfs_types::{
    Ino, Kind, Name, OpId, SessionId, Tag, Timestamp,
    call::{Extent, Op},
    disk::Effect,
    ids::BrickUuid,
    record::{Body, Record},
};
use std::time::Instant;

const APPENDS: u64 = 3000;
const WRITES: u64 = 1000;
const FILE: Ino = Ino(10);

fn extent(offset: u64) -> Extent {
    Extent {
        offset,
        data: Bytes::from(vec![1; 4096]),
    }
}

fn record(n: u64) -> Record {
    let session = SessionId {
        client: [0; 16],
        nonce: 1,
    };
    let op = Op::Stage {
        ino: FILE,
        first: true,
        extents: vec![extent(0)],
    };
    Record {
        tag: Tag { n, ..Tag::default() },
        time: Timestamp::default(),
        ino: Ino(0),
        body: Body::Op {
            id: OpId { session, seq: n },
            acked: 0,
            op,
        },
    }
}

fn main() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    format(dir.path(), BrickUuid([5; 16])).expect("an empty brick");
    let mut opened = Opened::open(dir.path()).expect("a brick");
    let mut micros: Vec<u128> = (1..=APPENDS)
        .map(|n| {
            let start = Instant::now();
            opened.log.append(&[record(n)]).expect("durable");
            start.elapsed().as_micros()
        })
        .collect();
    micros.sort_unstable();
    let at = |percent: usize| micros[micros.len() * percent / 100];
    println!(
        "append of one 4 KiB record: p50 {} us, p90 {} us, p99 {} us",
        at(50),
        at(90),
        at(99)
    );
    let make = Effect::Make {
        ino: FILE,
        kind: Kind::File,
        mode: 0o600,
        uid: 0,
        gid: 0,
        target: vec![],
        dir: Ino::ROOT,
        name: Name::new(b"alice").expect("a name"),
    };
    opened.files.apply(&[make]).expect("made");
    let start = Instant::now();
    for n in 0..WRITES {
        let write = Effect::Write {
            ino: FILE,
            cut: u64::MAX,
            extents: vec![extent(n * 4096)],
            size: (n + 1) * 4096,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            stamp: Tag::default(),
        };
        opened.files.apply(&[write]).expect("written");
    }
    println!(
        "apply of a 4 KiB write: {} us",
        start.elapsed().as_micros() / u128::from(WRITES)
    );
    drop(opened);
    let start = Instant::now();
    let opened = Opened::open(dir.path()).expect("opens again");
    println!(
        "open with {} records: {} ms",
        opened.records.len(),
        start.elapsed().as_millis()
    );
}
