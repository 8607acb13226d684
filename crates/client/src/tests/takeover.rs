//! A daemon dies at a bad moment; what the next one says and answers (`keep`).

use super::*;
use mboxfs_types::call::Op;

impl Mount {
    /// The daemon is killed; another one has begun with what it kept, and is attached. What it said from then on.
    pub(super) fn succeeded(mut self) -> (Self, Vec<Output>) {
        let now = self.now;
        let words = core::mem::take(&mut self.words);
        let config = self.client.config.clone();
        self.client = Client::resume(config, now, 1, words);
        let early = self.step(Input::Tick);
        assert!(early.is_empty(), "B4: {early:?}");
        self.now.mono = now.mono + limits::ATTR_TTL;
        let out = self.step(Input::Tick);
        assert!(matches!(out[..], [Output::Connect { .. }]), "{out:?}");
        let out = self.step(Input::Connected);
        let attach = sent(&out).find_map(|f| {
            if let ToBrick::Attach(a) = f {
                Some(a.clone())
            } else {
                None
            }
        });
        let attach = attach.expect("attaches");
        assert!(
            !attach.fresh && attach.session.nonce == 1 && attach.attach_no == 2,
            "{attach:?}"
        );
        self.says(ToMount::Attached(Attached::Ok {
            brick: BrickId::A,
            bricks: vec![],
        }));
        let out = self.new_view();
        (self, out)
    }

    fn again(&mut self, id: CallId, call: Call) -> Vec<Output> {
        let caller = Caller::default();
        self.step(Input::Call { id, caller, call })
    }
}

fn write(fh: Fh, offset: u64, text: &'static str) -> Call {
    let data = Bytes::from_static(text.as_bytes());
    Call::Write {
        ino: FILE,
        fh,
        offset,
        data,
    }
}

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("a name")
}

/// L9: it had written nothing yet, so no lease was kept for it; its first write said ESTALE.
#[test]
fn who_has_locked_a_file_writes_to_it_under_the_next_daemon() {
    let mut mount = Mount::ready(4);
    let fh = mount.open();
    let (id, out) = mount.call(mount.lock(7, Some(LockKind::Exclusive), false));
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    let (mut mount, _) = mount.succeeded();
    let (id, out) = mount.call(write(fh, 4, "mail"));
    let out = mount.grant(&out, 2);
    assert_eq!(done(&out, id), Some(Ok(Answer::Written(4))));
}

#[test]
fn what_is_staged_and_locked_is_still_there() {
    let mut mount = Mount::ready(4);
    let fh = mount.open();
    let (id, out) = mount.call(mount.lock(7, Some(LockKind::Exclusive), false));
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    mount.call(write(fh, 4, "half,"));
    let (mut mount, _) = mount.succeeded();
    let (id, out) = mount.call(mount.lock(8, Some(LockKind::Exclusive), true));
    assert_eq!(done(&out, id), None, "L5");
    mount.call(write(fh, 9, "whole"));
    let (_, out) = mount.call(Call::Fsync { ino: FILE, fh });
    let Some(Request {
        op: Op::Commit { extents, size, .. },
        ..
    }) = requested(&out)
    else {
        panic!("no commit: {out:?}")
    };
    assert_eq!(size, 14);
    let bytes: Vec<u8> = extents.iter().flat_map(|e| e.data.to_vec()).collect();
    assert_eq!(bytes, b"half,whole");
}

#[test]
fn a_commit_under_way_is_said_again_as_it_was() {
    let mut mount = Mount::ready(4);
    let fh = mount.open();
    mount.call(write(fh, 4, "mail"));
    let (id, out) = mount.call(Call::Fsync { ino: FILE, fh });
    let commit = requested(&out).expect("commits");
    let (mut mount, out) = mount.succeeded();
    assert_eq!(requested(&out), Some(commit.clone()), "F1");
    let out = mount.again(id, Call::Fsync { ino: FILE, fh });
    assert_eq!((requested(&out), done(&out, id)), (None, None), "B3: once");
    let out = mount.says(ToMount::Reply(Reply {
        seq: commit.seq,
        result: Ok(vec![Attr { size: 8, ..mount.attr }]),
    }));
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    // The next one has another number.
    mount.call(write(fh, 8, "more"));
    let (_, out) = mount.call(Call::Fsync { ino: FILE, fh });
    assert_eq!(requested(&out).map(|r| r.seq), Some(commit.seq + 1));
}

/// The reply came, and the daemon died before the kernel had it. Asked again, O_EXCL would find its own file.
#[test]
fn a_reply_that_did_not_reach_its_caller_is_had_again() {
    let create = || Call::Mkdir {
        dir: Ino::ROOT,
        name: name("new"),
        mode: 0o700,
    };
    for arrived in [false, true] {
        let mut mount = Mount::ready(4);
        let (id, out) = mount.call(create());
        let request = requested(&out).expect("asks the brick");
        let reply = ToMount::Reply(Reply {
            seq: request.seq,
            result: Ok(vec![mount.attr]),
        });
        let out = mount.says(reply.clone());
        assert!(matches!(done(&out, id), Some(Ok(Answer::Entry { .. }))), "{out:?}");
        if arrived {
            mount.client.answered(&[id]);
            let (_, out) = mount.call(create());
            assert_eq!(
                requested(&out).map(|r| r.acked),
                Some(request.seq + 1),
                "the brick may forget it"
            );
            continue;
        }
        let (_, out) = mount.call(create());
        assert_eq!(
            requested(&out).map(|r| r.acked),
            Some(request.seq),
            "the brick must not forget it yet"
        );
        let (mut mount, out) = mount.succeeded();
        assert_eq!(requested(&out), Some(request), "F1");
        // The reply comes before or after the kernel asks again.
        let out = mount.says(reply);
        assert_eq!(done(&out, id), None);
        let out = mount.again(id, create());
        assert!(matches!(done(&out, id), Some(Ok(Answer::Entry { .. }))), "{out:?}");
        assert_eq!(requested(&out), None, "B3: once");
    }
}

/// L11: a program was told that there is no room, and the next daemon asked once more, when there was. (Seed 364513.)
#[test]
fn what_was_refused_is_not_asked_for_by_the_next_daemon() {
    let create = || Call::Mkdir {
        dir: Ino::ROOT,
        name: name("new"),
        mode: 0o700,
    };
    let mut mount = Mount::ready(4);
    let (id, out) = mount.call(create());
    let seq = requested(&out).expect("asks the brick").seq;
    let result = Err(Errno::ENOSPC);
    let out = mount.says(ToMount::Reply(Reply { seq, result }));
    assert_eq!(done(&out, id), Some(Err(Errno::ENOSPC)));
    let (mut mount, out) = mount.succeeded();
    assert_eq!(requested(&out), None);
    let out = mount.again(id, create()); // the answer did not arrive
    assert_eq!(requested(&out).map(|r| r.seq), Some(seq + 1));
}

/// L3: the caller was killed meanwhile, and the mount went on saying that there is no such name. (Seed 364513.)
#[test]
fn a_name_that_is_made_when_nobody_waits_for_it_any_more_is_there() {
    let mut mount = Mount::ready(4);
    let (dir, mode) = (Ino::ROOT, 0o700);
    let (_, out) = mount.call(Call::Mkdir {
        dir,
        name: name("new"),
        mode,
    });
    let seq = requested(&out).expect("asks the brick").seq;
    let (mut mount, _) = mount.succeeded();
    let lookup = || Call::Lookup { dir, name: name("new") };
    let (before, out) = mount.call(lookup());
    let out = mount.grant_name(&out);
    assert_eq!(done(&out, before), Some(Err(Errno::ENOENT)));
    let result = Ok(vec![mount.attr]);
    mount.says(ToMount::Reply(Reply { seq, result }));
    let (after, out) = mount.call(lookup());
    let out = mount.grant(&out, 2);
    assert!(matches!(done(&out, after), Some(Ok(Answer::Entry { .. }))), "{out:?}");
}

#[test]
fn a_dotlock_made_or_removed_without_an_answer() {
    let caller = Caller {
        pid: 40,
        ..Caller::default()
    };
    let create = || Call::Create {
        dir: Ino::ROOT,
        name: name("box.lock"),
        mode: 0,
        flags: OpenFlags::default(),
        excl: true,
    };
    let mut mount = Mount::ready(4);
    let (made, out) = mount.call_by(caller, create());
    let out = mount.grant_name(&out);
    assert!(matches!(done(&out, made), Some(Ok(Answer::Created { .. }))), "{out:?}");
    let (mut mount, _) = mount.succeeded();
    let out = mount.again(made, create());
    assert!(
        matches!(done(&out, made), Some(Ok(Answer::Created { .. }))),
        "it is its own: {out:?}"
    );
    let unlink = || Call::Unlink {
        dir: Ino::ROOT,
        name: name("box.lock"),
    };
    let (removed, out) = mount.call_by(caller, unlink());
    let request = asked(&out).expect("asks for the name");
    let Key::Name(group) = request.key.clone() else {
        panic!("{request:?}")
    };
    let state = NameState {
        dot: mount.client.own_dots.get(&group).cloned(),
        entry: None,
        group,
    };
    let lease = Lease {
        key: request.key,
        mode: Mode::W,
        seq: 2,
    };
    let out = mount.says(ToMount::Granted(Granted {
        req: request.req,
        result: Ok(Grant {
            leases: vec![lease],
            name: Some(state),
            ..Grant::default()
        }),
    }));
    assert_eq!(done(&out, removed), Some(Ok(Answer::Empty)), "{out:?}");
    assert!(mount.client.own_dots.is_empty());
    assert!(mount.words.iter().any(|w| matches!(w, Kept::Dot { dot: None, .. })));
    let words = mount.words.clone();
    let mut next = Client::resume(mount.client.config.clone(), mount.now, 2, words);
    let mut out = Vec::new();
    let input = Input::Call {
        id: removed,
        caller,
        call: unlink(),
    };
    next.step(mount.now, input, &mut out);
    assert_eq!(done(&out, removed), Some(Ok(Answer::Empty)), "it was done: {out:?}");
}

/// L6: only a brick knows whether what was locked in that view is the same file in its own line of history.
#[test]
fn the_next_daemon_says_in_which_view_it_held_what_it_holds() {
    let mut mount = Mount::ready(4);
    let [confirmed, begun] = [1, 2].map(|v| View { v, ..View::default() });
    for view in [confirmed, begun] {
        mount.says(ToMount::View { view, together: false });
        if view == confirmed {
            mount.says(ToMount::Reclaimed(Reclaimed {
                view,
                ..Reclaimed::default()
            }));
        }
    }
    let anew = mount.client.kept_all();
    for words in [mount.words.clone(), anew] {
        let mut next = Client::resume(mount.client.config.clone(), mount.now, 1, words);
        let mut out = Vec::new();
        let view = ToMount::View {
            view: begun,
            together: false,
        };
        next.step(mount.now, Input::Frame(view), &mut out);
        assert_eq!(claimed(&out).map(|claim| claim.from), Some(confirmed));
    }
}

/// Words one by one, or all anew: the same inheritance.
#[test]
fn all_that_is_kept_is_what_was_said() {
    let mut mount = Mount::ready(4);
    let fh = mount.open();
    mount.call(mount.lock(7, Some(LockKind::Exclusive), false));
    mount.call(write(fh, 4, "one"));
    mount.call(write(fh, 7, "two"));
    mount.call(Call::SetAttr {
        ino: FILE,
        fh: Some(fh),
        set: SetAttr::default(),
        size: Some(9),
        own: false,
    });
    mount.call(Call::Fsync { ino: FILE, fh });
    let again = |words| Client::resume(mount.client.config.clone(), mount.now, 1, words).kept_all();
    let one_by_one = again(mount.words.clone());
    assert_eq!(one_by_one, again(mount.client.kept_all()));
    assert_eq!(
        one_by_one.len(),
        7,
        "session, file, lock, bytes, two writes without an answer, commit: {one_by_one:?}"
    );
}

/// B3, L1: two messages would be in the mailbox, or one over what the other node has appended since.
#[test]
fn a_write_without_an_answer_is_staged_once() {
    for sync in [false, true] {
        let mut mount = Mount::ready(4);
        let flags = OpenFlags {
            write: true,
            append: true,
            sync,
            ..OpenFlags::default()
        };
        let (id, out) = mount.call(Call::Open { ino: FILE, flags });
        let out = mount.grant(&out, 1);
        let Some(Ok(Answer::Opened { fh, .. })) = done(&out, id) else {
            panic!("open: {out:?}")
        };
        let (id, _) = mount.call(write(fh, 4, "mail"));
        let (mut mount, mut out) = mount.succeeded();
        let again = mount.again(id, write(fh, 4, "mail"));
        let answer = (!sync).then_some(Ok(Answer::Written(4)));
        assert_eq!(done(&again, id), answer, "O_SYNC waits for the commit: {again:?}");
        if !sync {
            (_, out) = mount.call(Call::Fsync { ino: FILE, fh });
        }
        let Some(Op::Commit { extents, size, .. }) = requested(&out).map(|r| r.op) else {
            panic!("nothing to commit: {out:?}")
        };
        assert_eq!((extents.len(), size), (1, 8), "{extents:?}");
    }
}
