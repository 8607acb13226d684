//! Exact outputs of the brain of a mount, step by step: the bugs that real mailers found, and what they must not do again.

use crate::{
    Client,
    input::{Call, CallId, Caller, Clock, Config, Fh, Input, KILLED, OpenFlags},
    output::{Answer, Output},
};
use alloc::{format, string::ToString, vec, vec::Vec};
use bytes::Bytes;
use mboxfs_types::{
    Attr, BrickId, Errno, Group, HeldLock, Ino, Key, Kind, LockKind, Name, Nanos, Owner, Range, SessionId, Timestamp,
    call::{
        Attached, Found, Grant, Granted, Intent, Lease, LeaseRequest, Mode, NameState, Query, Recall, Reclaim,
        Reclaimed, Reply, Request, SetAttr, ToBrick, ToMount, Verdict, View,
    },
    kept::Kept,
    limits,
};

mod linked;
mod moved;
mod overdue;
mod takeover;
mod told;

const FILE: Ino = Ino(7);

/// A mount that is attached and may serve, with one file.
struct Mount {
    client: Client,
    now: Clock,
    calls: u64,
    attr: Attr,
    /// What it would leave to a successor.
    words: Vec<Kept>,
}

impl Mount {
    fn ready(size: u64) -> Self {
        let config = Config {
            volume: "v".to_string(),
            client: [1; 16],
            nonce: 1,
            bricks: vec!["h:1".to_string()],
            local: vec![],
        };
        let now = Clock {
            mono: Nanos::from_millis(1000),
            real: Timestamp { secs: 100, nanos: 0 },
        };
        let attr = Attr {
            ino: FILE,
            kind: Kind::File,
            mode: 0o600,
            uid: 0,
            gid: 0,
            nlink: 1,
            size,
            atime: now.real,
            mtime: now.real,
            ctime: now.real,
            version: 1,
            writer: None,
        };
        let client = Client::new(config, now);
        let mut mount = Self {
            client,
            now,
            calls: 0,
            attr,
            words: Vec::new(),
        };
        mount.words = mount.client.kept_all();
        mount.step(Input::Tick);
        mount.step(Input::Connected);
        mount.says(ToMount::Attached(Attached::Ok {
            brick: BrickId::A,
            bricks: vec![],
        }));
        mount.says(ToMount::View {
            view: View::default(),
            together: true,
        });
        mount.says(ToMount::Reclaimed(Reclaimed::default()));
        mount.says(ToMount::Pong {
            sent: now.mono,
            serve: Nanos::from_millis(900),
        });
        mount
    }

    fn step(&mut self, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.client.step(self.now, input, &mut out);
        let (anew, words) = self.client.kept();
        if anew {
            self.words.clear();
        }
        self.words.extend(words);
        out
    }

    fn says(&mut self, frame: ToMount) -> Vec<Output> {
        self.step(Input::Frame(frame))
    }

    fn call(&mut self, call: Call) -> (CallId, Vec<Output>) {
        self.call_by(Caller::default(), call)
    }

    fn call_by(&mut self, caller: Caller, call: Call) -> (CallId, Vec<Output>) {
        self.calls += 1;
        let id = CallId(self.calls);
        let out = self.step(Input::Call { id, caller, call });
        (id, out)
    }

    /// Time passes; the brick goes on allowing to serve.
    fn wait(&mut self, time: Nanos) -> Vec<Output> {
        self.now.mono = self.now.mono + time;
        let mut out = self.says(ToMount::Pong {
            sent: self.now.mono,
            serve: Nanos::from_millis(900),
        });
        out.extend(self.step(Input::Tick));
        out
    }

    /// The lease on a group of names that `out` asks for is granted in mode W; nothing is there.
    fn grant_name(&mut self, out: &[Output]) -> Vec<Output> {
        let request = asked(out).expect("asks for a lease");
        let Key::Name(group) = request.key.clone() else {
            panic!("not of a name: {request:?}")
        };
        let name = NameState {
            group,
            entry: None,
            dot: None,
        };
        let lease = Lease {
            key: request.key,
            mode: Mode::W,
            seq: 1,
        };
        let grant = Grant {
            leases: vec![lease],
            name: Some(name),
            ..Grant::default()
        };
        self.says(ToMount::Granted(Granted {
            req: request.req,
            result: Ok(grant),
        }))
    }

    /// The lease that `out` asks for is granted in mode W with that number.
    fn grant(&mut self, out: &[Output], seq: u64) -> Vec<Output> {
        let request = asked(out).expect("asks for a lease");
        let lease = Lease {
            key: Key::Inode(FILE),
            mode: Mode::W,
            seq,
        };
        let grant = Grant {
            leases: vec![lease],
            attr: Some(self.attr),
            ..Grant::default()
        };
        let req = request.req;
        self.says(ToMount::Granted(Granted { req, result: Ok(grant) }))
    }

    /// A new view begins; all that the mount says that it holds stands.
    fn new_view(&mut self) -> Vec<Output> {
        let out = self.says(ToMount::View {
            view: View::default(),
            together: true,
        });
        let claim = claimed(&out).expect("claims");
        let stands = |(key, mode): (Key, Mode)| Lease { key, mode, seq: 1 };
        let mut out = self.says(ToMount::Reclaimed(Reclaimed {
            view: View::default(),
            leases: claim.leases.into_iter().map(stands).collect(),
            locks: claim.locks,
            dots: claim.dots,
            lost: Vec::new(),
            entries: Vec::new(),
        }));
        out.extend(self.wait(Nanos::from_millis(1)));
        out
    }

    fn open(&mut self) -> Fh {
        let flags = OpenFlags {
            read: true,
            write: true,
            ..OpenFlags::default()
        };
        let (id, mut out) = self.call(Call::Open { ino: FILE, flags });
        if asked(&out).is_some() {
            out = self.grant(&out, 1);
        }
        match done(&out, id) {
            Some(Ok(Answer::Opened { fh, .. })) => fh,
            other => panic!("open: {other:?}"),
        }
    }

    fn lock(&self, owner: u64, kind: Option<LockKind>, wait: bool) -> Call {
        Call::SetLock {
            ino: FILE,
            owner,
            range: Range::ALL,
            kind,
            wait,
        }
    }
}

fn sent(out: &[Output]) -> impl Iterator<Item = &ToBrick> {
    out.iter()
        .filter_map(|o| if let Output::Send(frame) = o { Some(frame) } else { None })
}

fn asked(out: &[Output]) -> Option<LeaseRequest> {
    sent(out).find_map(|f| {
        if let ToBrick::Lease(r) = f {
            Some(r.clone())
        } else {
            None
        }
    })
}

fn requested(out: &[Output]) -> Option<Request> {
    sent(out).find_map(|f| {
        if let ToBrick::Request(r) = f {
            Some(r.clone())
        } else {
            None
        }
    })
}

fn looked(out: &[Output]) -> Option<(u64, Query)> {
    sent(out).find_map(|f| {
        if let ToBrick::Query { id, query } = f {
            Some((*id, query.clone()))
        } else {
            None
        }
    })
}

fn done(out: &[Output], id: CallId) -> Option<Result<Answer, Errno>> {
    out.iter().find_map(|o| match o {
        Output::Done { id: of, result } if *of == id => Some(result.clone()),
        _ => None,
    })
}

fn answered(out: &[Output]) -> Option<Verdict> {
    sent(out).find_map(|f| {
        if let ToBrick::Answer(a) = f {
            Some(a.verdict.clone())
        } else {
            None
        }
    })
}

/// The other node wants a lock on the whole file.
fn lock_recall(wait: bool) -> ToMount {
    let session = SessionId {
        client: [2; 16],
        nonce: 2,
    };
    ToMount::Recall(Recall {
        id: 9,
        key: Key::Inode(FILE),
        seq: 1,
        intent: Intent::Lock {
            owner: Owner { session, id: 1 },
            range: Range::ALL,
            kind: LockKind::Exclusive,
            wait,
        },
    })
}

const ALMOST: Nanos = Nanos(limits::LOCK_WAIT.0 - 1);

/// What the mount says that it holds.
fn claimed(out: &[Output]) -> Option<Reclaim> {
    sent(out).find_map(|f| {
        if let ToBrick::Reclaim(r) = f {
            Some(r.clone())
        } else {
            None
        }
    })
}

fn found(id: u64, data: Vec<u8>) -> ToMount {
    ToMount::Found {
        id,
        result: Ok(Found::Data(Bytes::from(data))),
    }
}

/// Dovecot rewrote mail from a block that was asked for before a commit and arrived after it.
#[test]
fn a_block_asked_for_before_a_commit_is_not_kept_after_it() {
    let mut mount = Mount::ready(8);
    let fh = mount.open();
    let read = Call::Read {
        ino: FILE,
        fh,
        offset: 0,
        len: 8,
    };
    let (reader, out) = mount.call(read);
    let (early, _) = looked(&out).expect("asks for the block");
    mount.call(Call::Write {
        ino: FILE,
        fh,
        offset: 0,
        data: Bytes::from_static(b"NEW"),
    });
    let (_, out) = mount.call(Call::Fsync { ino: FILE, fh });
    let commit = requested(&out).expect("commits");
    let attr = mount.attr;
    mount.says(ToMount::Reply(Reply {
        seq: commit.seq,
        result: Ok(vec![attr]),
    }));
    // The old bytes arrive only now.
    let out = mount.says(found(early, b"old-byte".to_vec()));
    assert_eq!(done(&out, reader), None, "L3: stale bytes are no answer");
    let (late, _) = looked(&out).expect("asks again");
    let out = mount.says(found(late, b"NEW-byte".to_vec()));
    assert_eq!(
        done(&out, reader),
        Some(Ok(Answer::Data(Bytes::from_static(b"NEW-byte"))))
    );
}

/// A whole block was the answer to a small read without a lease: the kernel refused it and the reader hung.
#[test]
fn a_block_is_no_answer_to_a_read_without_a_lease() {
    let mut mount = Mount::ready(300_000);
    let fh = mount.open();
    let read = Call::Read {
        ino: FILE,
        fh,
        offset: 4096,
        len: 100,
    };
    let (reader, out) = mount.call(read);
    let (block, _) = looked(&out).expect("asks for the block");
    let recall = Recall {
        id: 1,
        key: Key::Inode(FILE),
        seq: 1,
        intent: Intent::Op,
    };
    let out = mount.says(ToMount::Recall(recall));
    assert!(sent(&out).any(|f| matches!(f, ToBrick::Answer(a) if matches!(a.verdict, Verdict::Give { .. }))));
    let out = mount.says(found(block, vec![b'x'; 128 << 10]));
    let wish = asked(&out).expect("the lease is gone: asks again");
    let once = Grant {
        attr: Some(mount.attr),
        ..Grant::default()
    };
    let out = mount.says(ToMount::Granted(Granted {
        req: wish.req,
        result: Ok(once),
    }));
    assert_eq!(done(&out, reader), None, "the block is no answer");
    let (id, query) = looked(&out).expect("asks for just these bytes");
    let wanted = Query::Read {
        ino: FILE,
        offset: 4096,
        len: 100,
    };
    assert_eq!(query, wanted);
    let out = mount.says(found(id, vec![b'y'; 100]));
    assert_eq!(done(&out, reader), Some(Ok(Answer::Data(Bytes::from(vec![b'y'; 100])))));
}

/// Two busy nodes starved each other: a freed lock always went to the next process of the same node.
#[test]
fn a_freed_lock_goes_to_the_node_that_waits() {
    let mut mount = Mount::ready(8);
    mount.open();
    let (first, out) = mount.call(mount.lock(1, Some(LockKind::Exclusive), true));
    assert_eq!(done(&out, first), Some(Ok(Answer::Empty)));
    let out = mount.says(lock_recall(true));
    assert_eq!(sent(&out).count(), 0, "Y3: it waits for the lock");
    let (second, out) = mount.call(mount.lock(2, Some(LockKind::Exclusive), true));
    assert_eq!(done(&out, second), None);
    let (unlock, out) = mount.call(mount.lock(1, None, false));
    assert_eq!(done(&out, unlock), Some(Ok(Answer::Empty)));
    assert_eq!(done(&out, second), None, "the other node was first");
    let locks: Vec<HeldLock> = vec![];
    let give = Verdict::Give {
        keep: None,
        locks,
        dot: None,
    };
    assert_eq!(answered(&out), Some(give));
    assert!(asked(&out).is_some(), "the local waiter asks for the lease again");
}

/// Postfix sleeps for a second after each EAGAIN, and was starved for 20 s by sessions of a few milliseconds.
#[test]
fn a_lock_taken_without_waiting_waits_a_little() {
    let mut mount = Mount::ready(8);
    mount.open();
    mount.call(mount.lock(1, Some(LockKind::Exclusive), true));
    let (polls, out) = mount.call(mount.lock(2, Some(LockKind::Exclusive), false));
    assert_eq!(done(&out, polls), None);
    assert_eq!(done(&mount.wait(ALMOST), polls), None);
    let (_, out) = mount.call(mount.lock(1, None, false));
    assert_eq!(done(&out, polls), Some(Ok(Answer::Empty)), "it is free in time");

    let (polls, _) = mount.call(mount.lock(3, Some(LockKind::Shared), false));
    assert_eq!(done(&mount.wait(ALMOST), polls), None);
    let out = mount.wait(Nanos(1));
    assert_eq!(done(&out, polls), Some(Err(Errno::EAGAIN)), "Y3, L13");
}

#[test]
fn a_lock_taken_on_the_other_node_without_waiting_waits_a_little() {
    for freed in [true, false] {
        let mut mount = Mount::ready(8);
        mount.open();
        mount.call(mount.lock(1, Some(LockKind::Exclusive), true));
        assert_eq!(answered(&mount.says(lock_recall(false))), None);
        assert_eq!(answered(&mount.wait(ALMOST)), None);
        if freed {
            let (_, out) = mount.call(mount.lock(1, None, false));
            assert!(matches!(answered(&out), Some(Verdict::Give { keep: None, .. })));
        } else {
            let refused = Verdict::Once {
                error: Some(Errno::EAGAIN),
                dot: None,
            };
            assert_eq!(answered(&mount.wait(Nanos(1))), Some(refused));
        }
    }
}

/// A dotlock made by the process 100, a child of 50.
/// What makes `u.lock`, and its name.
fn make_dotlock() -> (Name, Call) {
    let name = Name::new(b"u.lock").expect("a name");
    let create = Call::Create {
        dir: Ino::ROOT,
        name: name.clone(),
        mode: 0o600,
        flags: OpenFlags::default(),
        excl: true,
    };
    (name, create)
}

fn with_dotlock() -> (Mount, Name, Call) {
    let mut mount = Mount::ready(8);
    let (name, create) = make_dotlock();
    let (id, out) = mount.call_by(process(100, 50), create);
    let out = mount.grant_name(&out);
    match done(&out, id) {
        Some(Ok(Answer::Created { attr_ttl, .. })) => assert_eq!(attr_ttl, limits::DOTLOCK_TTL, "T4"),
        other => panic!("create: {other:?}"),
    }
    let lookup = Call::Lookup {
        dir: Ino::ROOT,
        name: name.clone(),
    };
    (mount, name, lookup)
}

fn process(pid: u32, ppid: u32) -> Caller {
    Caller {
        pid,
        thread: pid,
        ppid,
        ..Caller::default()
    }
}

/// The other node removes it as stale, or whoever is root there by mistake.
#[test]
fn a_dotlock_that_the_kernel_knows_does_not_leave() {
    let (mut mount, name, _) = with_dotlock();
    let recall = Recall {
        id: 9,
        key: Key::Name(Group::of(Ino::ROOT, &name)),
        seq: 1,
        intent: Intent::Unlock,
    };
    let out = mount.says(ToMount::Recall(recall));
    assert_eq!(answered(&out), None, "T4: the kernel may answer for it still");
    assert_eq!(answered(&mount.wait(Nanos(limits::DOTLOCK_KEPT.0 - 1))), None);
    assert!(matches!(answered(&mount.wait(Nanos(1))), Some(Verdict::Give { .. })));
}

/// The kernel looks a name up before it makes it, and then answers EEXIST by itself: the wait has to be in the lookup.
#[test]
fn a_stranger_who_looks_at_a_dotlock_waits_for_its_end() {
    let (mut mount, name, lookup) = with_dotlock();
    let (stranger, out) = mount.call_by(process(200, 50), lookup.clone());
    assert_eq!(done(&out, stranger), None);
    let unlink = Call::Unlink { dir: Ino::ROOT, name };
    let (owner, out) = mount.call_by(process(100, 50), unlink);
    assert_eq!(done(&out, owner), Some(Ok(Answer::Empty)));
    assert_eq!(done(&out, stranger), Some(Err(Errno::ENOENT)));

    let (mut mount, _, lookup) = with_dotlock();
    let (stranger, _) = mount.call_by(process(200, 50), lookup);
    assert_eq!(done(&mount.wait(ALMOST), stranger), None);
    let out = mount.wait(Nanos(1));
    assert!(
        matches!(done(&out, stranger), Some(Ok(Answer::Entry { .. }))),
        "L13: {out:?}"
    );
}

#[test]
fn an_owner_sees_its_dotlock_at_once() {
    let (mut mount, _, lookup) = with_dotlock();
    for owner in [process(100, 50), process(50, 1), process(300, 100)] {
        let (id, out) = mount.call_by(owner, lookup.clone());
        assert!(
            matches!(done(&out, id), Some(Ok(Answer::Entry { .. }))),
            "{owner:?}: {out:?}"
        );
    }
    mount.step(Input::Gone { pid: 100 });
    let (helper, out) = mount.call_by(process(400, 50), lookup);
    assert!(
        matches!(done(&out, helper), Some(Ok(Answer::Entry { .. }))),
        "the next lock helper of the same program: {out:?}"
    );
}

/// L6, L9: made or changed on both sides of a partition, and the other side's goes on. The lock session is over; but the close
/// of what was fsynced said ESTALE.
#[test]
fn a_close_of_a_file_that_goes_on_as_another_one_is_fine() {
    for close in [true, false] {
        let mut mount = Mount::ready(8);
        let fh = mount.open();
        let (_, out) = mount.call(mount.lock(5, Some(LockKind::Exclusive), false));
        assert!(matches!(out[..], [.., Output::Done { result: Ok(_), .. }]));
        let view = View {
            v: 9,
            ..View::default()
        };
        mount.says(ToMount::View { view, together: true });
        mount.says(ToMount::Reclaimed(Reclaimed {
            view,
            lost: vec![Key::Inode(FILE)],
            ..Reclaimed::default()
        }));
        let (read, out) = mount.call(Call::Read {
            ino: FILE,
            fh,
            offset: 0,
            len: 4,
        });
        assert_eq!(
            done(&out, read),
            Some(Err(Errno::ESTALE)),
            "L6: half of it was read elsewhere"
        );
        let owner = 5;
        let (id, out) = mount.call(if close {
            Call::Flush { ino: FILE, fh, owner }
        } else {
            mount.lock(owner, None, false)
        });
        let req = asked(&out).expect("asks for the lease").req;
        let result = Err(Errno::ESTALE);
        let out = mount.says(ToMount::Granted(Granted { req, result }));
        assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    }
}

/// L3: mutt counts the links of what it made, in whichever way it looks; the kernel was told one link more.
#[test]
fn a_dotlock_made_by_link_is_counted_once() {
    let mut mount = Mount::ready(8);
    mount.open();
    let (dir, name) = (Ino::ROOT, Name::new(b"u.lock").expect("a name"));
    let link = Call::Link {
        ino: FILE,
        dir,
        name: name.clone(),
    };
    let (_, out) = mount.call_by(process(100, 50), link);
    mount.grant_name(&out);
    for (names, shown) in [(1, 2), (0, 1)] {
        if names == 0 {
            mount.attr.nlink = names; // its first name was removed
            mount.client.absorb(&[mount.attr]);
        }
        let lookup = Call::Lookup {
            dir,
            name: name.clone(),
        };
        let (id, out) = mount.call_by(process(100, 50), lookup);
        let Some(Ok(Answer::Entry { attr, .. })) = done(&out, id) else {
            panic!("no entry: {out:?}");
        };
        assert_eq!((attr.ino, attr.nlink), (FILE, shown));
        assert_eq!(mount.client.answers(FILE).map(|a| a.nlink), Some(shown), "T2");
    }
}

/// The parent of a Postfix process is `master`, which stays: its dotlock was never taken for orphaned.
#[test]
fn a_dotlock_of_a_killed_process_goes_though_its_parent_lives() {
    let (mut mount, name, lookup) = with_dotlock();
    let fh = mount.open();
    mount.step(Input::Gone { pid: 100 });
    mount.wait(limits::DOTLOCK_ORPHAN);
    assert_eq!(
        mount.client.dot_maker(Ino::ROOT, &name),
        Some(100),
        "a helper that was done"
    );
    let flush = Call::Flush {
        ino: FILE,
        fh,
        owner: 1,
    };
    mount.call_by(process(100, KILLED), flush);
    mount.wait(Nanos(1));
    assert_eq!(mount.client.dot_maker(Ino::ROOT, &name), None);
    let (id, out) = mount.call_by(process(200, 50), lookup);
    assert_eq!(done(&out, id), Some(Err(Errno::ENOENT)));
}

/// On a full disk a writer without a kernel lock never got to take its append back: for the other node that waited, the
/// same bytes were sent to be refused again and again, and both hung.
#[test]
fn a_refused_append_can_be_taken_back_while_the_other_node_waits() {
    let mut mount = Mount::ready(8);
    let fh = mount.open();
    let write = Call::Write {
        ino: FILE,
        fh,
        offset: 8,
        data: Bytes::from_static(b"too much"),
    };
    mount.call(write);
    let (fsync, out) = mount.call(Call::Fsync { ino: FILE, fh });
    let commit = requested(&out).expect("commits");
    let recall = Recall {
        id: 9,
        key: Key::Inode(FILE),
        seq: 1,
        intent: Intent::Read,
    };
    mount.says(ToMount::Recall(recall));
    let undo = Call::SetAttr {
        ino: FILE,
        fh: Some(fh),
        set: SetAttr::default(),
        size: Some(8),
        own: false,
    };
    let (undo, _) = mount.call(undo);
    let out = mount.says(ToMount::Reply(Reply {
        seq: commit.seq,
        result: Err(Errno::ENOSPC),
    }));
    assert_eq!(done(&out, fsync), Some(Err(Errno::ENOSPC)));
    assert!(matches!(done(&out, undo), Some(Ok(Answer::Attr { attr, .. })) if attr.size == 8));
    assert_eq!(requested(&out), None, "what was refused is not sent again");
}

/// A mount that had looked at tens of thousands of mailboxes claimed them all in one message, too long for the stream.
#[test]
fn a_view_is_told_of_what_is_needed_only() {
    let claimed = |out: &[Output]| claimed(out).map(|claim| claim.leases);
    let mut mount = Mount::ready(8);
    mount.open();
    let out = mount.says(ToMount::View {
        view: View::default(),
        together: true,
    });
    assert_eq!(claimed(&out), Some(vec![]), "E3: nobody needs the lease");
    mount.says(ToMount::Reclaimed(Reclaimed::default()));
    mount.wait(Nanos(1));

    let (lock, out) = mount.call(mount.lock(1, Some(LockKind::Shared), true));
    let out = mount.grant(&out, 2);
    assert_eq!(done(&out, lock), Some(Ok(Answer::Empty)));
    let out = mount.says(ToMount::View {
        view: View::default(),
        together: true,
    });
    assert_eq!(claimed(&out), Some(vec![(Key::Inode(FILE), Mode::W)]));
}

/// A stream holds 4096 messages: who gave back more at once lost it, and its session with it.
#[test]
fn leases_that_nobody_used_for_long_are_given_back_a_few_at_a_time() {
    const COUNT: usize = 5_000;
    let mut mount = Mount::ready(8);
    for i in 0..COUNT {
        let name = Name::new(format!("box{i}").as_bytes()).expect("a name");
        let (id, out) = mount.call(Call::Lookup { dir: Ino::ROOT, name });
        let out = mount.grant_name(&out);
        assert_eq!(done(&out, id), Some(Err(Errno::ENOENT)));
    }
    let given = |out: &[Output]| sent(out).filter(|f| matches!(f, ToBrick::Answer(_))).count();
    assert_eq!(given(&mount.wait(Nanos::from_millis(10_000))), 0, "used a moment ago");
    let mut left = COUNT;
    let mut first = given(&mount.wait(Nanos::from_millis(600_000)));
    while left > 0 {
        assert!(first > 0 && first <= 1_000, "{first} at once, {left} left");
        left -= first;
        first = given(&mount.wait(Nanos::from_millis(100)));
    }
}
