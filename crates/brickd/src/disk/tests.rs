//! The threads on a real brick directory.

use super::*;
use mboxfs_store::Opened;
use mboxfs_types::{
    GenId, Ino, Kind, Name, Tag, Timestamp, call::Extent, disk::AtFork, disk::Seen, ids::BrickUuid, record::Members,
};
use tempfile::TempDir;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

struct World {
    disk: Disk,
    done: UnboundedReceiver<Done>,
    fatal: UnboundedReceiver<String>,
    data: TempDir,
}

impl World {
    fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        mboxfs_store::format(data.path(), BrickUuid([1; 16])).unwrap();
        Self::open(data)
    }

    fn open(data: TempDir) -> Self {
        let opened = Opened::open(data.path()).unwrap();
        let parts = Parts {
            log: opened.log,
            superblock: opened.superblock_writer,
            files: opened.files,
            checkpointer: opened.checkpointer,
        };
        let (send, done) = unbounded_channel();
        let (fatal, ended) = Fatal::channel();
        Self {
            disk: Disk::start(parts, &send, &fatal).unwrap(),
            done,
            fatal: ended,
            data,
        }
    }

    /// The next completion that is not about room, of all that was submitted.
    fn next(&mut self) -> Done {
        self.disk.release();
        loop {
            match self.done.blocking_recv().unwrap() {
                Done::Space(_) => {}
                other => return other,
            }
        }
    }
}

fn record(n: u64) -> Record {
    Record {
        tag: Tag {
            n,
            g: GenId::default(),
            v: 1,
        },
        time: Timestamp::default(),
        ino: Ino(77),
        body: Body::NewGen {
            g: GenId::default(),
            members: Members::Both,
            primary: mboxfs_types::BrickId::A,
        },
    }
}

fn make_and_write(ino: Ino, name: &str, text: &'static [u8]) -> Vec<Effect> {
    vec![
        Effect::Make {
            ino,
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            target: Vec::new(),
            dir: Ino::ROOT,
            name: Name::new(name.as_bytes()).unwrap(),
        },
        Effect::Write {
            ino,
            cut: u64::MAX,
            extents: vec![Extent {
                offset: 0,
                data: bytes::Bytes::from_static(text),
            }],
            size: text.len() as u64,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            stamp: record(1).tag,
        },
    ]
}

#[test]
fn appends_that_wait_are_durable_together_and_in_order() {
    let mut world = World::new();
    for n in 1..=500 {
        world.disk.submit(DiskOp::Append(record(n)));
    }
    let (mut last, mut commits) = (0, 0);
    while last < 500 {
        let Done::Appended { n } = world.next() else {
            panic!("only appends were asked for");
        };
        assert!(n > last);
        (last, commits) = (n, commits + 1);
    }
    assert!(commits < 500, "K1: {commits} commits");
    world.disk.submit(DiskOp::ReadLog { from: 499, bytes: 1000 });
    let records = vec![record(499), record(500)];
    assert_eq!(world.next(), Done::Log { from: 499, records });
    let log = world.disk.halt().unwrap();
    drop(log);
    // What was reported is there after a start.
    assert_eq!(Opened::open(world.data.path()).unwrap().records.len(), 500);
}

#[test]
fn a_job_behind_a_batch_is_done_after_it() {
    let mut world = World::new();
    for n in 1..=20 {
        world.disk.submit(DiskOp::Append(record(n)));
    }
    world.disk.submit(DiskOp::ReadLog { from: 20, bytes: 1000 });
    world.disk.submit(DiskOp::Append(record(21)));
    let mut appended = 0;
    loop {
        match world.next() {
            Done::Appended { n } => appended = n,
            Done::Log { records, .. } => {
                assert_eq!((appended, records), (20, vec![record(20)]));
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.next(), Done::Appended { n: 21 });
}

#[test]
fn a_look_sees_what_was_applied_before_it() {
    let mut world = World::new();
    let ino = Ino(5);
    world
        .disk
        .submit(DiskOp::Apply(make_and_write(ino, "jane", b"From me")));
    let look = Look::Read {
        ino,
        offset: 5,
        len: 10,
    };
    world.disk.submit(DiskOp::Look { ticket: 9, look });
    let result = Ok(Seen::Data(bytes::Bytes::from_static(b"me")));
    assert_eq!(world.next(), Done::Answer { ticket: 9, result }); // K3
    assert_eq!(world.disk.load.bytes.load(Ordering::SeqCst), 0);
}

fn index(ticket: u64, ino: Ino, base: Option<AtFork>) -> DiskOp {
    let look = Look::Index { ino, base };
    DiskOp::Look { ticket, look }
}

/// What one mailbox with this text comes to, asked of the store itself.
fn index_of(text: &'static [u8]) -> Result<Seen, Errno> {
    let data = tempfile::tempdir().unwrap();
    mboxfs_store::format(data.path(), BrickUuid([1; 16])).unwrap();
    let mut files = Opened::open(data.path()).unwrap().files;
    files.apply(&make_and_write(Ino(5), "jane", text)).unwrap();
    files.look(&Look::Index {
        ino: Ino(5),
        base: None,
    })
}

#[test]
fn indexes_are_of_the_file_and_of_the_fork_and_come_in_order() {
    let (old, new): (&[u8], &[u8]) = (b"From a@b\n\nold\n", b"From a@b\n\nnew\n");
    let (ino, size) = (Ino(5), old.len() as u64);
    let keep = Effect::Keep {
        fork: 9,
        ino,
        ranges: vec![(0, size)],
    };
    let mut world = World::new();
    world.disk.submit(DiskOp::Apply(make_and_write(ino, "jane", old)));
    world.disk.submit(DiskOp::Apply(vec![keep]));
    world.disk.submit(DiskOp::Apply(make_and_write(ino, "jane", new)));
    world.disk.submit(index(1, ino, None));
    world.disk.submit(index(2, ino, Some(AtFork { fork: 9, size })));
    let answer = |ticket, result| Done::Answer { ticket, result };
    assert_eq!(world.next(), answer(1, index_of(new)));
    assert_eq!(world.next(), answer(2, index_of(old)));
    world.disk.submit(index(3, Ino(99), None));
    assert_eq!(world.next(), answer(3, Err(Errno::ESTALE)));
}

#[test]
fn an_index_that_takes_hours_holds_nobody_up() {
    let huge = Effect::Write {
        ino: Ino(6),
        cut: 0,
        extents: Vec::new(),
        size: 1 << 40, // nothing of it is on the disk
        mtime: Timestamp::default(),
        atime: Timestamp::default(),
        stamp: record(1).tag,
    };
    let mut world = World::new();
    world.disk.submit(DiskOp::Apply(make_and_write(Ino(6), "huge", b"x")));
    world.disk.submit(DiskOp::Apply(vec![huge]));
    world.disk.submit(index(1, Ino(6), None));
    world
        .disk
        .submit(DiskOp::Apply(make_and_write(Ino(5), "jane", b"mail")));
    let look = Look::Read {
        ino: Ino(5),
        offset: 0,
        len: 10,
    };
    world.disk.submit(DiskOp::Look { ticket: 2, look });
    let result = Ok(Seen::Data(bytes::Bytes::from_static(b"mail")));
    assert_eq!(world.next(), Done::Answer { ticket: 2, result });
    // Nor the end of this life.
    drop(world.disk.halt().unwrap());
}

#[test]
fn a_checkpoint_is_what_the_next_start_begins_with() {
    let mut world = World::new();
    world.disk.submit(DiskOp::Append(record(1)));
    assert_eq!(world.next(), Done::Appended { n: 1 });
    world
        .disk
        .submit(DiskOp::Apply(make_and_write(Ino(5), "jane", b"mail")));
    let snapshot = bytes::Bytes::from_static(b"state");
    world.disk.submit(DiskOp::Checkpoint { n: 1, snapshot });
    assert_eq!(world.next(), Done::Checkpoint { n: 1 });
    drop(world.disk.halt().unwrap());
    let opened = Opened::open(world.data.path()).unwrap();
    assert_eq!((&opened.snapshot[..], opened.records.len()), (&b"state"[..], 0));
}

#[test]
fn a_failed_append_ends_the_daemon_and_is_not_acknowledged() {
    let mut world = World::new();
    // Stands for a disk that fails: the log refuses what does not follow.
    world.disk.submit(DiskOp::Append(record(7)));
    world.disk.release();
    let why = world.fatal.blocking_recv().unwrap();
    assert!(!why.is_empty());
    world.disk.submit(DiskOp::Append(record(1)));
    let _ = world.disk.halt();
    while let Some(done) = world.done.blocking_recv() {
        assert!(matches!(done, Done::Space(_)), "K2: {done:?}");
    }
}

#[tokio::test]
async fn mounts_are_held_back_while_too_much_waits() {
    let load = Arc::new(Load::default());
    load.add(WAITING_BYTES_MAX + 10);
    let waiter = tokio::spawn({
        let load = Arc::clone(&load);
        async move { load.room().await }
    });
    tokio::task::yield_now().await;
    assert!(!waiter.is_finished(), "K4");
    load.done(11);
    waiter.await.unwrap();
}
