//! What is sent to a peer that returns, and when, counted in records and bytes.

use super::*;
use crate::input::{Clock, Input, Recovered};
use alloc::{format, string::ToString};
use mboxfs_types::{
    BrickId, Name, OpId, SessionId, Tag, Timestamp,
    call::Op,
    disk::Done,
    record::{Body, Record},
};

const SESSION: SessionId = SessionId {
    client: [1; 16],
    nonce: 1,
};
const START: Nanos = Nanos::from_millis(1000);
/// Records that fit in a batch.
const BATCH: u64 = 60;

/// A brick that is alone, with a log that its peer lacks.
struct Bench {
    brick: Brick,
    out: Vec<Output>,
    now: Nanos,
}

impl Bench {
    fn new(lacked: u64) -> Self {
        let mut brick = Brick::new(Recovered::empty(), Clock::default(), &mut Vec::new()).unwrap();
        let open = Body::SessionOpen {
            session: SESSION,
            brick: BrickId::A,
            host: "h".to_string(),
        };
        brick.state.execute(&record(1, open));
        brick.state.applied = lacked;
        (brick.log.last, brick.log.durable) = (lacked, lacked);
        brick.stand = Stand::Solo { catch_up: None };
        brick.peer.up = true;
        brick.clock.mono = START;
        Self {
            brick,
            out: Vec::new(),
            now: START,
        }
    }

    fn step(&mut self, input: Input) {
        let clock = Clock {
            mono: self.now,
            ..Clock::default()
        };
        self.brick.step(clock, input, &mut self.out);
    }

    fn pass(&mut self, millis: u64) {
        self.now = self.now + Nanos::from_millis(millis);
        self.step(Input::Tick);
    }

    /// A mount's change is numbered, and waits for the disk.
    fn write(&mut self) {
        let n = self.brick.log.last + 1;
        self.brick.number(change(n), &mut self.out);
    }

    /// All but the last `left` are durable.
    fn written(&mut self, left: u64) {
        let n = self.brick.log.last - left;
        self.step(Input::Disk(Done::Appended { n }));
    }

    fn peer_has(&mut self, n: u64) {
        self.step(Input::Peer(ToPeer::Durable { n }));
    }

    /// What the log is asked for since the last time.
    fn asked(&mut self) -> Vec<(u64, usize)> {
        let all = core::mem::take(&mut self.out);
        let reads = all.into_iter().filter_map(|o| match o {
            Output::Disk(DiskOp::ReadLog { from, bytes }) => Some((from, bytes)),
            _ => None,
        });
        reads.collect()
    }

    /// The log answers. Last record that is sent.
    fn read(&mut self, from: u64) -> u64 {
        let last = self.brick.log.last.min(from + BATCH - 1);
        let records = (from..=last).map(|n| record(n, change(n))).collect();
        self.step(Input::Disk(Done::Log { from, records }));
        last
    }

    /// Records that left for the peer since the last time, in catch-up and live.
    fn sent(&mut self) -> (usize, usize) {
        let all = core::mem::take(&mut self.out);
        let count = |o: &Output| match o {
            Output::Peer(ToPeer::Suffix { records }) => (records.len(), 0),
            Output::Peer(ToPeer::Append { .. }) => (0, 1),
            _ => (0, 0),
        };
        all.iter().map(count).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

fn record(n: u64, body: Body) -> Record {
    Record {
        tag: Tag { n, ..Tag::default() },
        time: Timestamp::default(),
        ino: Ino(1000 + n),
        body,
    }
}

fn change(seq: u64) -> Body {
    Body::Op {
        id: OpId { session: SESSION, seq },
        acked: 0,
        op: Op::Mkdir {
            dir: Ino::ROOT,
            name: Name::new(format!("n{seq}").as_bytes()).unwrap(),
            mode: 0o700,
            uid: 0,
            gid: 0,
        },
    }
}

const SHARE: usize = limits::COPY_BYTES_MAX;
const WHOLE: usize = limits::SUFFIX_BYTES_MAX;

#[test]
fn e4_while_mail_is_written_there_is_a_pause_between_answers() {
    let mut bench = Bench::new(150);
    let ask = |bench: &mut Bench| {
        let (ino, offset, len) = (Ino(7), 0, 10);
        let ask = Ask::Digests { ino, offset, len };
        bench.step(Input::Peer(ToPeer::Ask { ticket: 1, ask }));
    };
    let answers = |bench: &mut Bench| {
        let all = core::mem::take(&mut bench.out);
        all.iter()
            .filter(|o| matches!(o, Output::Disk(DiskOp::Look { .. })))
            .count()
    };
    bench.brick.begin_feed(150);
    for _ in 0..3 {
        ask(&mut bench);
        assert_eq!(answers(&mut bench), 1, "nobody writes: at once");
    }
    for writes in [true, false, true] {
        if writes {
            bench.write();
            bench.written(0);
        }
        ask(&mut bench);
        assert_eq!(answers(&mut bench), 0, "too soon after the last one");
        for answered in [0, 1] {
            bench.pass(1);
            bench.written(0); // what the brick wrote on its own
            assert_eq!(answers(&mut bench), answered);
        }
    }
}

#[test]
fn e3_while_nobody_waits_nothing_does() {
    let mut bench = Bench::new(150);
    bench.brick.feed_log(0, &mut bench.out);
    assert_eq!(bench.asked(), [(1, SHARE)], "nobody knows yet");
    for (from, to, sent) in [(1, 60, 60), (61, 120, 60)] {
        assert_eq!(bench.read(from), to);
        assert_eq!(bench.sent(), (sent, 0));
        bench.peer_has(to);
        assert_eq!(bench.asked(), [(to + 1, WHOLE)], "in the same step");
    }
    assert_eq!(bench.read(121), 150);
    assert!(bench.brick.is_joint());
    assert_eq!(bench.sent(), (30, 1), "the last ones, and the record that lets it join");
}

#[test]
fn e3_a_commit_goes_first_and_behind_it_one_batch() {
    let mut bench = Bench::new(300);
    bench.write();
    bench.brick.feed_log(0, &mut bench.out);
    assert_eq!(bench.asked(), [], "a commit waits");
    bench.written(0);
    assert_eq!(bench.asked(), [(1, SHARE)]);
    for _ in 0..5 {
        bench.write();
        bench.written(0);
    }
    assert_eq!(bench.asked(), [], "one batch at a time: it is being read");
    assert_eq!(bench.read(1), 60);
    for _ in 0..5 {
        bench.write();
        bench.written(0);
    }
    assert_eq!(bench.sent(), (60, 0), "one batch at a time: it is on its way");
    bench.peer_has(60);
    bench.pass(19);
    assert_eq!(bench.asked(), [], "mail is written: a pause");
    bench.write();
    bench.pass(10);
    assert_eq!(bench.asked(), [], "a commit waits");
    bench.pass(1);
    assert_eq!(bench.asked(), [(61, SHARE)], "for a bounded time");
}

#[test]
fn e4_under_a_load_that_never_rests_the_peer_comes_to_the_end() {
    let mut bench = Bench::new(1000);
    bench.brick.feed_log(0, &mut bench.out);
    let (mut reads, mut has) = (0, 0);
    while !bench.brick.is_joint() {
        // In the time of one wait more is written than a batch holds.
        for _ in 0..7 {
            bench.write();
        }
        bench.written(1);
        let asked = bench.asked();
        if let [(from, _)] = asked[..] {
            reads += 1;
            has = bench.read(from);
        } else if has > 0 {
            bench.peer_has(has);
        }
        bench.pass(1);
        assert!(
            bench.now < START + Nanos::from_millis(1000),
            "it lacks {} records",
            bench.brick.log.last - has
        );
    }
    assert!(
        bench.now > START + Nanos::from_millis(2 * reads + 20),
        "it never waited"
    );
    bench.sent();
    bench.write();
    assert_eq!(bench.sent(), (0, 1), "what comes now is sent in the same step");
}

#[test]
fn e5_a_rate_and_a_burst() {
    let (mut rate, now) = (Rate::default(), Nanos::from_millis(5000));
    let burst = limits::COPY_RATE / 10;
    rate.use_up(burst, now);
    assert!(!rate.is_used_up(now));
    rate.use_up(limits::COPY_RATE / 1000, now);
    assert!(rate.is_used_up(now));
    assert!(!rate.is_used_up(now + Nanos::from_millis(1)));

    let mut bench = Bench::new(100);
    bench.brick.feed_log(0, &mut bench.out);
    bench.read(1);
    bench.brick.feed.rate = Rate(bench.now + Nanos::from_millis(200));
    bench.asked();
    bench.peer_has(60);
    bench.pass(99);
    assert_eq!(bench.asked(), []);
    bench.pass(1);
    assert_eq!(bench.asked(), [(61, WHOLE)]);
}
