//! What is said and done when a block is bad.

use super::*;
use crate::input::{Clock, MountConn, Recovered};
use alloc::string::ToString;
use mboxfs_types::{
    BrickId, Name, OpId, SessionId, Tag, Timestamp,
    admin::ScrubVerb,
    call::{Extent, Found, Op, ToMount},
    heal::Ask,
    record::{Body, Record},
};

const BOX: Ino = Ino(77);
const CONN: MountConn = MountConn(1);
const SESSION: SessionId = SessionId {
    client: [1; 16],
    nonce: 1,
};

/// A brick in step with its peer, with a file of version 3.
struct Bench {
    brick: Brick,
    out: Vec<Output>,
}

impl Bench {
    fn new() -> Self {
        let mut brick = Brick::new(Recovered::empty(), Clock::default(), &mut Vec::new()).unwrap();
        let host = "h".to_string();
        let session = SESSION;
        let open = Body::SessionOpen {
            session,
            brick: BrickId::A,
            host,
        };
        let op = |seq, op| Body::Op {
            id: OpId { session, seq },
            acked: 0,
            op,
        };
        let create = Op::Create {
            dir: Ino::ROOT,
            name: Name::new(b"box").unwrap(),
            mode: 0o600,
            uid: 0,
            gid: 0,
            excl: false,
        };
        let commit = Op::Commit {
            ino: BOX,
            staged: false,
            cut: 0,
            extents: vec![Extent {
                offset: 0,
                data: vec![1; 70_000].into(),
            }],
            size: 70_000,
            mtime: Timestamp::default(),
            atime: None,
        };
        for (n, body) in (1..).zip([open, op(1, create), op(2, commit)]) {
            brick.state.execute(&Record {
                tag: Tag { n, ..Tag::default() },
                time: Timestamp::default(),
                ino: BOX,
                body,
            });
        }
        brick.log.last = 3;
        brick.stand = Stand::Normal;
        brick.peer.up = true;
        Self { brick, out: Vec::new() }
    }

    fn said(&mut self) -> Vec<Output> {
        core::mem::take(&mut self.out)
    }

    fn ask(&mut self) -> u64 {
        let look = Look::Read {
            ino: BOX,
            offset: 66_000,
            len: 10,
        };
        self.brick.look(Asker::Mount { conn: CONN, id: 9 }, look, &mut self.out);
        ticket(&self.said())
    }

    fn answer(&mut self, ticket: u64, seen: Seen) -> Vec<Output> {
        self.brick.on_look(ticket, Ok(seen), &mut self.out);
        self.said()
    }

    /// A mount reads block 1, which is bad. The number of the question to the other brick.
    fn read_bad_block(&mut self) -> u64 {
        let ticket = self.ask();
        let said = self.answer(ticket, Seen::Rotten(vec![1]));
        let [
            Output::Event(Event::Rotten { path, .. }),
            mark,
            Output::Peer(ToPeer::Check { ticket, check }),
        ] = &said[..]
        else {
            panic!("{said:?}");
        };
        let (ino, block) = (BOX, 1);
        let marks = vec![Effect::Rotten { ino, blocks: vec![1] }];
        assert_eq!((path.as_str(), mark), ("/box", &Output::Disk(DiskOp::Apply(marks))));
        assert_eq!(*check, Check::Block { ino, block });
        *ticket
    }

    fn checked(&mut self, ticket: u64, version: u64, data: Result<Bytes, Errno>) -> Vec<Output> {
        self.brick.on_checked(ticket, (version, true), data, &mut self.out);
        self.said()
    }
}

fn ticket(said: &[Output]) -> u64 {
    match said {
        [.., Output::Disk(DiskOp::Look { ticket, .. })] => *ticket,
        other => panic!("no look: {other:?}"),
    }
}

fn found(result: Result<Found, Errno>) -> Output {
    Output::Mount {
        conn: CONN,
        frame: ToMount::Found { id: 9, result },
    }
}

fn good() -> Bytes {
    Bytes::from_static(b"good")
}

#[test]
fn who_reads_a_bad_block_gets_it_when_it_is_repaired() {
    let mut bench = Bench::new();
    let question = bench.read_bad_block();
    let said = bench.checked(question, 3, Ok(good()));
    let repair = Effect::Repair {
        ino: BOX,
        block: 1,
        bytes: good(),
        sure: true,
    };
    assert_eq!(said[0], Output::Disk(DiskOp::Apply(vec![repair])));
    assert_eq!(bench.brick.bad_files().len(), 1, "not before it is seen to be one");
    let said = bench.answer(ticket(&said), Seen::Data(good()));
    assert!(matches!(&said[0], Output::Event(Event::Repaired { block: 1, .. })));
    let said = bench.answer(ticket(&said), Seen::Data(good()));
    assert_eq!(said, [found(Ok(Found::Data(good())))]);
    assert_eq!((bench.brick.bad_files(), bench.brick.rot.repaired), (vec![], 1));
}

#[test]
fn a_block_of_another_version_is_asked_for_again() {
    let mut bench = Bench::new();
    let question = bench.read_bad_block();
    let said = bench.checked(question, 2, Ok(good()));
    let [Output::Peer(ToPeer::Check { ticket, .. })] = said[..] else {
        panic!("T2: {said:?}");
    };
    assert_eq!(bench.checked(question, 3, Ok(good())), [], "of an older question");
    assert_eq!(bench.checked(ticket, 3, Ok(good())).len(), 2);
}

#[test]
fn a_block_that_is_bad_on_both_is_a_temporary_error_and_named() {
    let mut bench = Bench::new();
    let question = bench.read_bad_block();
    let said = bench.checked(question, 3, Err(Errno::ENODATA));
    let [
        Output::Peer(ToPeer::Check {
            ticket: question,
            check,
        }),
    ] = said[..]
    else {
        panic!("T7: {said:?}");
    };
    let (ino, block, theirs) = (BOX, 1, Bytes::from_static(b"rotten"));
    assert_eq!(check, Check::Raw { ino, block });
    let said = bench.checked(question, 3, Ok(theirs.clone()));
    let combine = Effect::Combine { ino, block, theirs };
    assert_eq!(said[0], Output::Disk(DiskOp::Apply(vec![combine])));
    let said = bench.answer(ticket(&said), Seen::Rotten(vec![1]));
    assert!(matches!(&said[0], Output::Event(Event::RottenTwice { block: 1, .. })));
    assert_eq!(said[1..], [found(Err(Errno::ESTALE))]);
    assert_eq!(
        (bench.brick.bad_files()[0].blocks, bench.brick.bad_files()[0].both),
        (1, 1)
    );
    let again = bench.ask();
    assert_eq!(bench.answer(again, Seen::Rotten(vec![1])), [found(Err(Errno::ESTALE))]);
}

#[test]
fn bytes_that_are_no_repair_are_no_answer() {
    let mut bench = Bench::new();
    let question = bench.read_bad_block();
    let said = bench.checked(question, 3, Ok(good()));
    let said = bench.answer(ticket(&said), Seen::Rotten(vec![1]));
    assert_eq!(said[1..], [found(Err(Errno::ESTALE))]);
}

#[test]
fn what_is_repaired_with_a_doubtful_copy_is_served_and_in_doubt() {
    let mut bench = Bench::new();
    let question = bench.read_bad_block();
    let said = bench.checked(question, 3, Ok(good()));
    let said = bench.answer(ticket(&said), Seen::Doubtful(good()));
    assert!(matches!(&said[0], Output::Event(Event::Repaired { block: 1, .. })));
    assert_eq!(bench.brick.bad_files(), []);
    let [
        _,
        Output::Disk(DiskOp::Look { ticket, .. }),
        Output::Peer(ToPeer::Check { .. }),
    ] = said[..]
    else {
        panic!("it is served, and asked for again: {said:?}");
    };
    assert_eq!(
        bench.answer(ticket, Seen::Data(good())),
        [found(Ok(Found::Data(good())))]
    );
}

/// T6: whatever its version is there, what was there before the bricks parted is the same.
#[test]
fn a_brick_that_yields_asks_the_other_one_for_what_it_cannot_read() {
    let mut bench = Bench::new();
    bench.brick.stand = Stand::Yielding { asked: None };
    let question = bench.read_bad_block();
    let theirs = Bytes::from(vec![b'x'; 65_536]);
    let said = bench.checked(question, 99, Ok(theirs.clone()));
    let repair = Effect::Repair {
        ino: BOX,
        block: 1,
        bytes: theirs.slice(..70_000 - 65_536 - 1),
        sure: false,
    };
    assert_eq!(said[0], Output::Disk(DiskOp::Apply(vec![repair])));
    bench
        .brick
        .on_check(7, Check::Block { ino: BOX, block: 0 }, &mut bench.out);
    assert!(
        matches!(bench.said()[..], [Output::Disk(DiskOp::Look { .. })]),
        "it answers as well"
    );
}

/// T6: copies of two lines are not combined; the brick that merges has to know that neither has it.
#[test]
fn what_neither_line_has_is_told_to_the_brick_that_merges() {
    let mut bench = Bench::new();
    bench.brick.stand = Stand::Yielding { asked: None };
    let ino = BOX;
    let asker = Asker::Peer { ticket: 4 };
    bench
        .brick
        .look(asker, Look::Read { ino, offset: 0, len: 9 }, &mut bench.out);
    let look = ticket(&bench.said());
    let said = bench.answer(look, Seen::Rotten(vec![0]));
    let [_, _, Output::Peer(ToPeer::Check { ticket, .. })] = said[..] else {
        panic!("{said:?}");
    };
    let said = bench.checked(ticket, 99, Err(Errno::ENODATA));
    assert!(matches!(&said[0], Output::Event(Event::RottenTwice { block: 0, .. })));
    let part = ToPeer::Part {
        ticket: 4,
        data: Err(Errno::ENODATA),
        last: true,
    };
    assert_eq!(said[1..], [Output::Peer(part)]);
}

#[test]
fn alone_a_bad_block_is_a_temporary_error_and_repaired_later() {
    let mut bench = Bench::new();
    bench.brick.stand = Stand::Solo { catch_up: None };
    let asked = bench.ask();
    let said = bench.answer(asked, Seen::Rotten(vec![1]));
    assert_eq!(said[2..], [found(Err(Errno::ESTALE))]);
    bench.brick.stand = Stand::Normal;
    bench.brick.tick_rot(&mut bench.out);
    let said = bench.said();
    assert!(
        matches!(&said[..], [.., Output::Peer(ToPeer::Check { .. })]),
        "T3: {said:?}"
    );
}

/// T8: it holds what it had when it went away, or nothing.
#[test]
fn who_gets_files_is_asked_for_what_it_holds_in_the_place_of_a_bad_block() {
    let (ino, block, raw) = (BOX, 1, Check::Raw { ino: BOX, block: 1 });
    for (theirs, seen, data) in [
        (Ok(good()), Seen::Data(good()), Ok(good())),
        (Ok(good()), Seen::Rotten(vec![1]), Err(Errno::ENODATA)),
        (Err(Errno::ESTALE), Seen::Rotten(vec![1]), Err(Errno::ENODATA)),
    ] {
        let mut bench = Bench::new();
        bench.brick.stand = Stand::Solo { catch_up: None };
        bench.brick.log.durable = 3;
        bench.brick.clock.mono = Nanos::from_millis(1000);
        bench.brick.on_ask(1, Ask::State { offset: 0 }, &mut bench.out);
        bench.said();
        let look = Look::Digests {
            ino,
            offset: 0,
            len: 70_000,
        };
        bench.brick.look(Asker::Peer { ticket: 2 }, look, &mut bench.out);
        let mut said = bench.said();
        for _ in 0..INDEX_TRIES_MAX {
            said = bench.answer(ticket(&said), Seen::Rotten(vec![1])); // a change in between looks the same
        }
        let [
            _,
            _,
            Output::Peer(ToPeer::Check {
                ticket: question,
                check,
            }),
        ] = said[..]
        else {
            panic!("{said:?}");
        };
        assert_eq!(check, raw);
        let mut said = bench.checked(question, 0, theirs.clone());
        if let Ok(theirs) = theirs {
            let combine = Effect::Combine { ino, block, theirs };
            assert_eq!(said[0], Output::Disk(DiskOp::Apply(vec![combine])));
            said = bench.answer(ticket(&said), seen);
        }
        if data.is_ok() {
            said = bench.answer(ticket(&said), Seen::Data(good()));
        }
        let part = ToPeer::Part {
            ticket: 2,
            data,
            last: true,
        };
        assert_eq!(said.last(), Some(&Output::Peer(part)));
    }
}

/// T8: whatever it holds; but nobody gets a good block from it.
#[test]
fn who_gets_files_says_what_it_holds_as_it_is() {
    let mut bench = Bench::new();
    bench.brick.stand = Stand::Copying;
    let (ino, block) = (BOX, 1);
    bench.brick.on_check(7, Check::Block { ino, block }, &mut bench.out);
    assert!(matches!(
        bench.said()[..],
        [Output::Peer(ToPeer::Checked {
            data: Err(Errno::ESTALE),
            ..
        })]
    ));
    bench.brick.on_check(8, Check::Raw { ino, block }, &mut bench.out);
    let said = bench.said();
    let bytes = good();
    let said = bench.answer(ticket(&said), Seen::Raw { bytes, damaged: None });
    let [Output::Peer(ToPeer::Checked { ticket: 8, data, .. })] = &said[..] else {
        panic!("{said:?}");
    };
    assert_eq!(*data, Ok(good()));
}

#[test]
fn files_of_a_future_that_is_not_replayed_yet_are_not_called_rotten() {
    let mut bench = Bench::new();
    bench.brick.rot.replay_end = 4;
    let asked = bench.ask();
    assert_eq!(bench.answer(asked, Seen::Rotten(vec![1])), [found(Err(Errno::ESTALE))]);
    assert_eq!(bench.brick.bad_files(), []);
}

#[test]
fn a_stream_that_breaks_lets_nobody_wait() {
    let mut bench = Bench::new();
    bench.read_bad_block();
    bench.brick.stop_repairs(&mut bench.out);
    assert_eq!(bench.said(), [found(Err(Errno::ESTALE))]);
}

#[test]
fn what_a_crash_left_in_doubt_is_settled_quietly() {
    let mut bench = Bench::new();
    bench.brick.on_damage(vec![], vec![(BOX, 0)], &mut bench.out);
    assert_eq!((bench.said(), bench.brick.bad_files()), (vec![], vec![]));
    bench.brick.tick_rot(&mut bench.out);
    let said = bench.said();
    let [_, Output::Peer(ToPeer::Check { ticket: question, .. })] = said[..] else {
        panic!("{said:?}");
    };
    let said = bench.checked(question, 3, Ok(good()));
    assert_eq!(bench.answer(ticket(&said), Seen::Data(good())), []);
    assert_eq!(bench.brick.rot.repaired, 0);
}

#[test]
fn a_pass_looks_at_all_blocks_and_what_is_suspect_is_looked_at_again() {
    let mut bench = Bench::new();
    bench.brick.tick_scrub(&mut bench.out);
    assert_eq!(bench.said(), [], "not in the first minutes");
    bench.brick.order_scrub(ScrubVerb::Start, &mut bench.out).unwrap();
    bench.brick.order_scrub(ScrubVerb::Start, &mut bench.out).unwrap_err();
    bench.said();
    bench.brick.tick_scrub(&mut bench.out);
    let (ino, first, count) = (BOX, 0, 2);
    assert_eq!(bench.said(), [Output::Disk(DiskOp::Scrub { ino, first, count })]);
    bench.brick.on_scrubbed(ino, &[1], &mut bench.out);
    let said = bench.said();
    let look = Look::Block {
        ino,
        block: 1,
        deep: true,
    };
    let [
        Output::Disk(DiskOp::Look {
            ticket: suspect,
            look: l,
        }),
        sums,
    ] = &said[..]
    else {
        panic!("S-2, S-4: {said:?}");
    };
    assert_eq!(*l, look);
    assert_eq!(bench.answer(*suspect, Seen::Data(good())), [], "it had changed");
    let ours = Seen::Data(Bytes::from_static(b"1234abcd"));
    let said = bench.answer(ticket(core::slice::from_ref(sums)), ours);
    let [Output::Peer(ToPeer::Check { ticket: question, .. })] = said[..] else {
        panic!("S-4: {said:?}");
    };
    let said = bench.checked(question, 3, Ok(Bytes::from_static(b"1234abce")));
    assert!(matches!(&said[..], [Output::Event(Event::Differ { block: 1, .. })]));
    bench.brick.tick_scrub(&mut bench.out);
    assert_eq!(bench.said(), [], "S-1");
    bench.brick.clock.mono = bench.brick.clock.mono + Nanos::from_millis(100);
    bench.brick.tick_scrub(&mut bench.out);
    assert!(matches!(
        &bench.said()[0],
        Output::Event(Event::Scrubbed { bad: 0, .. })
    ));
    assert!(!bench.brick.sb.scrub.is_on());
}
