//! What a brick says to its mounts while a merge is under way, step by step.

use super::super::{Step, Then, gather::Take};
use super::*;
use crate::{
    arbiter::Want,
    brick::Brick,
    input::{Clock, Input, MountConn, Recovered},
    output::Output,
    view::Stand,
};
use mboxfs_types::{
    Group, Key, Nanos, SessionId,
    call::{Answer, Attach, Intent, LeaseRequest, Mode, Reclaim, Request, ToBrick, ToMount, Verdict},
    disk::{DiskOp, Done},
    limits,
};

/// A brick that is alone, whose disk does at once what it is told, and what it said to mounts.
struct Alone {
    brick: Brick,
    clock: Clock,
    said: Vec<(MountConn, ToMount)>,
}

impl Alone {
    fn new() -> Self {
        let mono = Nanos::from_millis(1000);
        let real = Timestamp { secs: 1000, nanos: 0 };
        let clock = Clock { mono, real };
        let mut out = vec![];
        let brick = Brick::new(Recovered::empty(), clock, &mut out).expect("recovers");
        let said = vec![];
        let mut alone = Self { brick, clock, said };
        alone.carry_out(out);
        while !matches!(alone.brick.stand, Stand::Solo { .. }) {
            alone.clock.mono = alone.clock.mono + limits::BEAT;
            alone.feed(Input::Tick);
        }
        alone
    }

    fn feed(&mut self, input: Input) {
        let mut out = vec![];
        self.brick.step(self.clock, input, &mut out);
        self.carry_out(out);
    }

    fn carry_out(&mut self, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Mount { conn, frame } => self.said.push((conn, frame)),
                Output::Disk(DiskOp::Append(record)) => self.feed(Input::Disk(Done::Appended { n: record.tag.n })),
                Output::Disk(DiskOp::Superblock(_)) => self.feed(Input::Disk(Done::Superblock)),
                _ => {}
            }
        }
    }

    fn says(&mut self, number: u64, frame: ToBrick) {
        let conn = MountConn(number);
        self.feed(Input::Mount { conn, frame });
    }

    /// A mount that holds nothing.
    fn attach(&mut self, number: u64) {
        let session = SessionId {
            client: [number as u8; 16],
            nonce: number,
        };
        self.says(
            number,
            ToBrick::Attach(Attach {
                protocol: limits::PROTOCOL_VERSION,
                volume: "v".into(),
                session,
                attach_no: 1,
                fresh: true,
            }),
        );
        let view = self.brick.view;
        let nothing = Reclaim::default();
        self.says(number, ToBrick::Reclaim(Reclaim { view, ..nothing }));
    }

    fn asks(&mut self, number: u64, req: u64, key: Key) {
        let (mode, intent) = (Mode::W, Intent::Write);
        self.says(number, ToBrick::Lease(LeaseRequest { req, key, mode, intent }));
    }

    /// The number of the last grant of this key to this mount.
    fn granted(&self, number: u64, wanted: &Key) -> Option<(usize, u64)> {
        let mut all = self.said.iter().enumerate().rev();
        all.find_map(|(at, (conn, frame))| match frame {
            ToMount::Granted(granted) if *conn == MountConn(number) => {
                let lease = granted.result.as_ref().ok()?.leases.iter().find(|l| l.key == *wanted)?;
                Some((at, lease.seq))
            }
            _ => None,
        })
    }
}

/// A3: the merge gets what it waits for in the same moment in which a mount is granted a file, finds nothing left to do
/// there and looks on; the other mount, which wants that file too, must not be heard before the grant has been said: a
/// recall of what a mount does not know of is void, and never repeated.
#[test]
fn a_recall_never_overtakes_the_grant_that_it_is_about() {
    let mut alone = Alone::new();
    for number in [1, 2] {
        alone.attach(number);
    }
    let name = Name::new(b"alice").expect("a name");
    let group = Key::Name(Group::of(Ino::ROOT, &name));
    let create = Op::Create {
        dir: Ino::ROOT,
        name: name.clone(),
        mode: 0o600,
        uid: 0,
        gid: 0,
        excl: true,
    };
    alone.says(
        1,
        ToBrick::Request(Request {
            seq: 1,
            acked: 1,
            op: create,
        }),
    );
    let ino = alone.brick.state.lookup(Ino::ROOT, &name).expect("a directory");
    let file = Key::Inode(ino.expect("it was made"));
    alone.asks(1, 1, group.clone());
    let (_, seq) = alone.granted(1, &file).expect("the file comes along");
    let verdict = Verdict::Give {
        keep: None,
        locks: vec![],
        dot: None,
    };
    let answer = Answer {
        id: 0,
        key: file.clone(),
        seq,
        verdict,
    };
    alone.says(1, ToBrick::Answer(answer));
    // The second mount waits for the name, which the first one still holds.
    alone.asks(2, 1, group);
    // The merge waits for a file that is gone by now; there is nothing more to do about it.
    let gone = Ino(99);
    alone.brick.begin_merge(&mut vec![]);
    let heal = alone.brick.heal.as_mut().expect("it has begun");
    let change = |now| Change {
        ino: gone,
        base: None,
        now,
        marks: vec![],
        appended: 0,
        observed: true,
        intact: 0,
        xattrs: vec![],
    };
    heal.todo = [change(None), change(None)].into();
    let take = Take {
        into: gone,
        expect: 0,
        cut: 0,
        size: 0,
        mtime: Timestamp::default(),
        pieces: vec![],
        version: None,
    };
    heal.step = Step::Hold {
        ino: gone,
        until: Nanos(u64::MAX),
        then: Then::Take(take),
    };
    let hold = Want::Hold {
        ino: gone,
        names: vec![],
        dir: None,
    };
    alone.brick.arbiter.want(SessionId::HEAL, hold);
    alone.said.clear();
    alone.asks(1, 2, file.clone());
    let (granted, seq) = alone.granted(1, &file).expect("the file is free");
    let recalled = alone.said.iter().position(|(conn, frame)| {
        *conn == MountConn(1) && matches!(frame, ToMount::Recall(r) if r.key == file && r.seq == seq)
    });
    assert!(recalled.is_some_and(|at| at > granted), "{:?}", alone.said);
    assert!(alone.brick.heal.is_none(), "the merge is through");
    alone.brick.check();
}
