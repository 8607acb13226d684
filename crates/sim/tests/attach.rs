//! One brick that is alone, and mounts that come and go at moments that seeds seldom hit.
//!
//! Promises: the real brain on the simulator's disk; every step is written down here. Not here: whole worlds (`worlds`).

use mboxfs_brick::{
    Brick,
    input::{Clock, Input, MountConn, Recovered},
    output::Output,
};
use mboxfs_sim::disk::{Disk, Thread};
use mboxfs_types::{
    Attr, BrickId, Dotlock, GenId, Group, HeldLock, Ino, Key, LockKind, Name, Nanos, Owner, Range, SessionId,
    Timestamp,
    admin::Status,
    call::{
        Answer, Attach, Attached, Extent, Intent, LeaseRequest, Mode, Op, Reclaim, Reclaimed, Request, ToBrick,
        ToMount, Verdict, View,
    },
    disk::{DiskOp, Done},
    limits,
};
use std::collections::{BTreeSet, VecDeque};

struct Alone {
    brick: Brick,
    disk: Disk,
    now: u64,
    said: Vec<(MountConn, ToMount)>,
    /// The disk does nothing.
    stalls: bool,
}

impl Alone {
    fn new() -> Self {
        Self::start(Disk::format(BrickId::A, 64 << 10), 0)
    }

    /// A process on what is on the disk, until it goes on alone.
    fn start(mut disk: Disk, now: u64) -> Self {
        let found = disk.open().expect("it can be opened");
        let recovered = Recovered {
            superblock: found.superblock,
            snapshot: found.snapshot,
            records: found.records,
            log_start: found.log_start,
            bricks: vec!["h0:24009".into(), "h1:24009".into()],
            checkpoint_bytes: limits::CHECKPOINT_BYTES,
            log_debt_bytes: limits::LOG_DEBT_BYTES_MAX,
            nonce: 5,
        };
        let mut out = Vec::new();
        let brick = Brick::new(recovered, clock(now), &mut out).expect("recovers");
        let space = disk.space();
        let said = Vec::new();
        let mut alone = Self {
            brick,
            disk,
            now,
            said,
            stalls: false,
        };
        alone.carry_out(out);
        alone.feed(Input::Disk(Done::Space(space)));
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
                Output::Disk(_) if self.stalls => {}
                Output::Disk(op) => {
                    for done in at_once(&mut self.disk, op) {
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
        self.reclaim_all(conn, Reclaim::default());
    }

    fn reclaim_all(&mut self, conn: u64, held: Reclaim) {
        let view = self.view(conn).expect("it was told of a view");
        let from = if held.from == View::default() { view } else { held.from };
        self.say(conn, ToBrick::Reclaim(Reclaim { view, from, ..held }));
    }

    /// A lease for a mount that is alone.
    fn lease(&mut self, conn: u64, key: Key) {
        let (req, mode, intent) = (1, Mode::W, Intent::Write);
        self.say(conn, ToBrick::Lease(LeaseRequest { req, key, mode, intent }));
    }

    /// What it answers.
    fn request(&mut self, conn: u64, seq: u64, op: Op) -> Vec<Attr> {
        self.say(conn, ToBrick::Request(Request { seq, acked: seq, op }));
        match self.said.last() {
            Some((_, ToMount::Reply(reply))) if reply.seq == seq => reply.result.clone().expect("it is executed"),
            other => panic!("no answer: {other:?}"),
        }
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

/// A disk that takes no time.
fn at_once(disk: &mut Disk, op: DiskOp) -> Vec<Done> {
    disk.submit(op);
    let mut all = Vec::new();
    for thread in Thread::ALL {
        while disk.begin(thread).0 {
            all.extend(disk.finish(thread).expect("the disk works").0);
        }
    }
    all
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

/// L5: a mount came back while the end of its session was on its way to the disks; what it was granted then was somebody
/// else's a moment later.
#[test]
fn a_session_whose_end_is_numbered_is_not_served_any_more() {
    let mut alone = Alone::new();
    alone.attach(1, session(1), 1);
    alone.reclaim(1);
    alone.stalls = true;
    alone.feed(Input::MountLost { conn: MountConn(1) });
    for _ in 0..5 {
        alone.now += 499; // not longer than a disk may take
        alone.feed(Input::Tick);
    }
    alone.attach(2, session(1), 2);
    let last = alone.said.last();
    assert!(
        matches!(last, Some((MountConn(2), ToMount::Attached(Attached::Expired)))),
        "{last:?}"
    );
}

fn append(ino: Ino, at: u64) -> Op {
    Op::Commit {
        ino,
        staged: false,
        cut: u64::MAX,
        extents: vec![Extent {
            offset: at,
            data: vec![b'x'; 10].into(),
        }],
        size: at + 10,
        mtime: Timestamp::default(),
        atime: None,
    }
}

/// A mailbox at a mount, which it knows as it was before its own last request, 3, was executed here. What it holds then
/// when it comes back with requests from `unanswered` on.
fn comes_back_to_a_mailbox(unanswered: u64) -> usize {
    let mut alone = Alone::new();
    alone.attach(1, session(1), 1);
    alone.reclaim(1);
    let name = Name::new(b"box").expect("a name");
    alone.lease(1, Key::Name(Group::of(Ino::ROOT, &name)));
    let create = Op::Create {
        dir: Ino::ROOT,
        name,
        mode: 0o600,
        uid: 0,
        gid: 0,
        excl: false,
    };
    let ino = alone.request(1, 1, create)[0].ino;
    alone.lease(1, Key::Inode(ino));
    let known = alone.request(1, 2, append(ino, 0));
    alone.request(1, 3, append(ino, 10));
    let mut alone = alone.restarted();
    alone.attach(11, session(1), 2);
    let held = Reclaim {
        leases: vec![(Key::Inode(ino), Mode::W)],
        known,
        unanswered,
        ..Reclaim::default()
    };
    alone.reclaim_all(11, held);
    match alone.said.last() {
        Some((_, ToMount::Reclaimed(Reclaimed { leases, lost, .. }))) => {
            assert_eq!(
                leases.len() + lost.len(),
                1,
                "it is the mount's mailbox, or another one"
            );
            leases.len()
        }
        other => panic!("not confirmed: {other:?}"),
    }
}

/// L1, L6: bytes that were written for the mailbox of the other side of a partition landed in this one's, on top of mail: its
/// last change here was the mount's own, from before, and the other side had said of it that it was refused. (Seed 3139.)
#[test]
fn an_own_change_that_was_answered_elsewhere_makes_it_another_mailbox() {
    assert_eq!(
        comes_back_to_a_mailbox(4),
        0,
        "the mount knows all that it did, but not this mailbox"
    );
    assert_eq!(
        comes_back_to_a_mailbox(3),
        1,
        "its request was executed, the answer was lost"
    );
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

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

/// Two mounts, and two empty mailboxes.
fn two_mounts() -> (Alone, [Ino; 2]) {
    let mut alone = Alone::new();
    for number in [1, 2] {
        alone.attach(u64::from(number), session(number), 1);
    }
    alone.reclaim(1);
    alone.reclaim(2);
    let mailboxes = [(1, "one"), (2, "two")].map(|(seq, text)| {
        let create = Op::Create {
            dir: Ino::ROOT,
            name: name(text),
            mode: 0o600,
            uid: 0,
            gid: 0,
            excl: false,
        };
        alone.request(1, seq, create)[0].ino
    });
    (alone, mailboxes)
}

/// Of the second mount.
fn lock() -> HeldLock {
    let owner = Owner {
        session: session(2),
        id: 7,
    };
    HeldLock {
        owner,
        range: Range::ALL,
        kind: LockKind::Exclusive,
        pid: 100,
    }
}

/// Of the second mount.
fn dotlock(stem: &str) -> Dotlock {
    Dotlock {
        session: session(2),
        name: name(&format!("{stem}.lock")),
        ino: Ino(8),
        mode: 0o600,
        uid: 0,
        gid: 0,
        pid: 100,
        ppid: 50,
        content: Vec::new(),
        ctime: Timestamp::default(),
        mtime: Timestamp::default(),
    }
}

fn last_reclaimed(alone: &Alone) -> &Reclaimed {
    match alone.said.last() {
        Some((_, ToMount::Reclaimed(said))) => said,
        other => panic!("not confirmed: {other:?}"),
    }
}

/// L5, L6: a mount comes back from the other side of a partition, where it had locked what another mount holds on this one: two
/// processes would have the same lock.
#[test]
fn locks_from_the_other_side_of_a_partition_are_lost_to_who_holds_the_lease_here() {
    let group = |stem: &str| Group::of(Ino::ROOT, &name(stem));
    let dots = ["held", "free"].map(|stem| (group(stem), dotlock(stem)));
    for claims in [true, false] {
        let (mut alone, [one, two]) = two_mounts();
        alone.feed(Input::MountLost { conn: MountConn(2) });
        let held = [Key::Name(group("held")), Key::Inode(one)];
        let free = [Key::Name(group("free")), Key::Inode(two), Key::Name(group("two"))];
        for key in held.clone() {
            alone.lease(1, key);
        }
        let claimed = held.iter().filter(|_| claims).chain(&free);
        let claim = Reclaim {
            leases: claimed.map(|key| (key.clone(), Mode::W)).collect(),
            locks: vec![(one, lock()), (two, lock())],
            dots: dots.to_vec(),
            ..Reclaim::default()
        };
        alone.attach(12, session(2), 2);
        alone.reclaim_all(12, claim);
        let said = last_reclaimed(&alone);
        let keys: BTreeSet<&Key> = said.leases.iter().map(|lease| &lease.key).collect();
        assert_eq!(keys, free.iter().collect());
        assert_eq!(said.lost.iter().collect::<BTreeSet<_>>(), held.iter().collect());
        assert_eq!((&said.locks, &said.dots), (&vec![(two, lock())], &dots[1..].to_vec()));
        assert_eq!(
            said.entries,
            [(group("two"), two)],
            "what it knew of the name may be of the other side"
        );
    }
}

/// L7: a session ended while the table with its dotlock was on its way back from another mount: that brought it back, for ever.
/// (Seed 116815.)
#[test]
fn a_dotlock_is_gone_with_its_session_also_from_a_table_on_its_way() {
    let (mut alone, _) = two_mounts();
    let key = Key::Name(Group::of(Ino::ROOT, &name("u")));
    let dot = dotlock("u");
    alone.lease(2, key.clone());
    for (holder, next) in [(2, 1), (1, 3)] {
        if next == 3 {
            alone.feed(Input::MountLost { conn: MountConn(2) });
            alone.now += 3_000;
            alone.feed(Input::Tick);
            alone.attach(3, session(3), 1);
            alone.reclaim(3);
        }
        alone.lease(next, key.clone());
        let recalls = alone.said.iter().rev();
        let mut recalls = recalls.filter_map(|(to, frame)| match frame {
            ToMount::Recall(recall) if *to == MountConn(holder) => Some(recall.clone()),
            _ => None,
        });
        let recall = recalls.next().expect("the holder is asked");
        let verdict = Verdict::Give {
            keep: None,
            locks: vec![],
            dot: Some(dot.clone()),
        };
        let (id, seq, key) = (recall.id, recall.seq, key.clone());
        alone.say(holder, ToBrick::Answer(Answer { id, key, seq, verdict }));
        let Some((_, ToMount::Granted(granted))) = alone.said.last() else {
            panic!("not granted: {:?}", alone.said.last());
        };
        let state = granted.result.as_ref().ok().and_then(|grant| grant.name.clone());
        let seen = state.expect("a grant of a name says what it is").dot;
        assert_eq!(seen, Some(dot.clone()).filter(|_| next == 1));
    }
}

/// A8, L6: a daemon dies while a program has a mailbox locked, and the next one comes to the other side of a partition. It claims
/// no lease, so nobody can say that the mailbox is the same one there. (Seed 572263.)
#[test]
fn a_lock_from_another_line_of_history_stands_only_under_a_lease() {
    let other = View {
        g: GenId {
            num: 9,
            brick: 1,
            nonce: 9,
        },
        v: 0,
    };
    let dot = (Group::of(Ino::ROOT, &name("two")), dotlock("two"));
    for crossed in [true, false] {
        let (mut alone, [one, two]) = two_mounts();
        alone.feed(Input::MountLost { conn: MountConn(2) });
        let claim = Reclaim {
            from: if crossed { other } else { View::default() },
            leases: vec![(Key::Inode(one), Mode::W)],
            locks: vec![(one, lock()), (two, lock())],
            dots: vec![dot.clone()],
            ..Reclaim::default()
        };
        alone.attach(12, session(2), 2);
        alone.reclaim_all(12, claim);
        let said = last_reclaimed(&alone);
        assert_eq!((said.leases.len(), &said.locks), (1, &vec![(one, lock())]));
        let lost = vec![Key::Inode(two), Key::Name(dot.0.clone())];
        assert_eq!(said.lost, if crossed { lost } else { vec![] });
    }
}

/// L5: what a mount has locked stays locked when the lease is in other hands and its stream breaks.
#[test]
fn a_lock_that_was_handed_over_with_its_lease_outlives_the_stream() {
    let (mut alone, [mailbox, _]) = two_mounts();
    let key = Key::Inode(mailbox);
    alone.lease(2, key.clone());
    alone.lease(1, key.clone());
    let Some((MountConn(2), ToMount::Recall(recall))) = alone.said.last().cloned() else {
        panic!("no recall: {:?}", alone.said.last());
    };
    let verdict = Verdict::Give {
        keep: None,
        locks: vec![lock()],
        dot: None,
    };
    let (id, seq) = (recall.id, recall.seq);
    alone.say(2, ToBrick::Answer(Answer { id, key, seq, verdict }));
    assert!(matches!(alone.said.last(), Some((MountConn(1), ToMount::Granted(_)))));
    alone.feed(Input::MountLost { conn: MountConn(2) });
    let claim = Reclaim {
        locks: vec![(mailbox, lock())],
        ..Reclaim::default()
    };
    alone.attach(12, session(2), 2);
    alone.reclaim_all(12, claim);
    assert_eq!(last_reclaimed(&alone).lost, []);
}
