//! One brick that is alone, and mounts that come and go at moments that seeds seldom hit.
//!
//! Promises: the real brain on the simulator's disk; every step is written down here. Not here: whole worlds (`worlds`).

use mboxfs_brick::{
    Brick,
    input::{Clock, Input, MountConn, Recovered},
    output::Output,
};
use mboxfs_sim::disk::Disk;
use mboxfs_types::{
    BrickId, GenId, Nanos, SessionId, Timestamp, VolumeId,
    admin::Status,
    call::{Attach, Reclaim, ToBrick, ToMount, View},
    disk::{Done, Superblock},
    ids::BrickUuid,
    limits,
    quorum::Settled,
    record::Members,
};
use std::collections::VecDeque;

struct Alone {
    brick: Brick,
    disk: Disk,
    now: u64,
    said: Vec<(MountConn, ToMount)>,
}

impl Alone {
    fn new() -> Self {
        let superblock = Superblock {
            format: limits::FORMAT_VERSION,
            uuid: BrickUuid([0; 16]),
            volume: Some(VolumeId([7; 16])),
            brick: BrickId::A,
            inc: 0,
            g: GenId::default(),
            v: 0,
            members: Members::Both,
            primary: BrickId::A,
            history: Vec::new(),
            fork: None,
            diverged: None,
            giving_up: None,
            quorum: Settled::default(),
            forced: false,
            scrub: mboxfs_types::disk::ScrubMark::default(),
        };
        let mut disk = Disk::default();
        disk.superblock = Some(superblock);
        Self::start(disk, 0)
    }

    /// A process on what is on the disk, until it goes on alone.
    fn start(mut disk: Disk, now: u64) -> Self {
        let mut superblock = disk.superblock.clone().expect("formatted");
        superblock.inc += 1;
        disk.superblock = Some(superblock.clone());
        let (snapshot, records, log_start) = disk.recover(u64::MAX);
        let recovered = Recovered {
            superblock,
            snapshot,
            records,
            log_start,
            bricks: vec!["h0:24009".into(), "h1:24009".into()],
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            nonce: 5,
        };
        let mut out = Vec::new();
        let brick = Brick::new(recovered, clock(now), &mut out).expect("recovers");
        let said = Vec::new();
        let mut alone = Self { brick, disk, now, said };
        alone.carry_out(out);
        alone.feed(Input::Disk(Done::Space(Disk::space())));
        while alone.brick.report().status != Status::Solo {
            assert!(alone.now < now + 60_000, "it never goes on alone");
            alone.now += 20;
            alone.feed(Input::Tick);
        }
        alone
    }

    fn restarted(self) -> Self {
        Self::start(self.disk, self.now)
    }

    fn feed(&mut self, input: Input) {
        let mut out = Vec::new();
        self.brick.step(clock(self.now), input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        let mut todo = VecDeque::from(out);
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Mount { conn, frame } => self.said.push((conn, frame)),
                Output::Disk(op) => {
                    if let Some(done) = self.disk.apply(op) {
                        let mut more = Vec::new();
                        self.brick.step(clock(self.now), Input::Disk(done), &mut more);
                        todo.extend(more);
                    }
                }
                _ => {}
            }
        }
    }

    fn attach(&mut self, conn: u64, session: SessionId, attach_no: u64) {
        let attach = Attach {
            protocol: limits::PROTOCOL_VERSION,
            volume: "gVol0".into(),
            session,
            attach_no,
            fresh: attach_no == 1,
        };
        self.say(conn, ToBrick::Attach(attach));
    }

    fn say(&mut self, conn: u64, frame: ToBrick) {
        let conn = MountConn(conn);
        self.feed(Input::Mount { conn, frame });
    }

    /// Holds nothing, in the view that this stream was told of.
    fn reclaim(&mut self, conn: u64) {
        let view = self.view(conn).expect("it was told of a view");
        let reclaim = Reclaim {
            view,
            leases: vec![],
            locks: vec![],
            dots: vec![],
        };
        self.say(conn, ToBrick::Reclaim(reclaim));
    }

    fn view(&self, conn: u64) -> Option<View> {
        self.said.iter().find_map(|(to, frame)| match frame {
            ToMount::View { view, .. } if *to == MountConn(conn) => Some(*view),
            _ => None,
        })
    }

    fn reclaimed(&self, conn: u64) -> usize {
        let of = |(to, frame): &&(MountConn, ToMount)| *to == MountConn(conn) && matches!(frame, ToMount::Reclaimed(_));
        self.said.iter().filter(of).count()
    }
}

fn clock(ms: u64) -> Clock {
    Clock {
        mono: Nanos::from_millis(1_000 + ms),
        real: Timestamp {
            secs: 1_700_000_000 + (ms / 1_000).cast_signed(),
            nanos: 0,
        },
    }
}

fn session(number: u8) -> SessionId {
    SessionId {
        client: [number; 16],
        nonce: u64::from(number),
    }
}

/// Two mounts known to a brick that has just begun a view and waits for both.
fn before_a_view_opens() -> Alone {
    let mut alone = Alone::new();
    for number in [1, 2] {
        alone.attach(u64::from(number), session(number), 1);
        alone.reclaim(u64::from(number));
        assert_eq!(alone.reclaimed(u64::from(number)), 1);
    }
    alone.restarted()
}

/// L5: who comes first after a start gets nothing before all others have said what they hold. (That two bricks know all of
/// them: `both_bricks_die_at_once` in `worlds`.)
#[test]
fn a_view_opens_when_all_have_said_what_they_hold() {
    let mut alone = before_a_view_opens();
    alone.attach(11, session(1), 2);
    alone.reclaim(11);
    assert_eq!(alone.reclaimed(11), 0, "the other mount has not said what it holds");
    alone.attach(12, session(2), 2);
    alone.reclaim(12);
    assert_eq!((alone.reclaimed(11), alone.reclaimed(12)), (1, 1));
}

/// L5, L7: the answer to what a mount said on its first stream came before what it says on its second one was heard: what it
/// took in between was forgotten.
#[test]
fn a_mount_that_comes_again_before_the_view_opens_is_awaited_again() {
    let mut alone = before_a_view_opens();
    alone.attach(11, session(1), 2);
    alone.reclaim(11);
    alone.feed(Input::MountLost { conn: MountConn(11) });
    alone.attach(21, session(1), 3);
    alone.attach(12, session(2), 2);
    alone.reclaim(12);
    assert_eq!(alone.reclaimed(21), 0, "nothing was said on this stream yet");
    alone.reclaim(21);
    assert_eq!((alone.reclaimed(21), alone.reclaimed(12)), (1, 1));
}
