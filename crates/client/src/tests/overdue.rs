//! A brick that is there and does not answer (`calls` H3, law L13): no call waits for longer than `OP_TIMEOUT`.

use super::*;

const SECOND: Nanos = Nanos::from_millis(1000);

impl Mount {
    /// Until just before `OP_TIMEOUT` has passed, and over it.
    fn wait_it_out(&mut self) -> (Vec<Output>, Vec<Output>) {
        let mut before = Vec::new();
        for _ in 1..limits::OP_TIMEOUT.0 / SECOND.0 {
            before.extend(self.wait(SECOND));
        }
        (before, self.wait(SECOND))
    }
}

fn hangs_up(out: &[Output]) -> bool {
    out.iter().any(|o| matches!(o, Output::Disconnect))
}

#[test]
fn a_lease_that_never_comes_is_given_up() {
    let mut mount = Mount::ready(10);
    let (id, out) = mount.call(Call::GetAttr { ino: FILE });
    let wish = asked(&out).expect("asks for a lease");
    let (before, out) = mount.wait_it_out();
    assert_eq!(done(&before, id), None);
    assert_eq!(done(&out, id), Some(Err(Errno::ESTALE)));
    assert!(sent(&out).any(|f| *f == ToBrick::Cancel { req: wish.req }));
    assert!(!hangs_up(&out), "nothing was changed: the session goes on");
    // It comes after all, and counts: the brick believes that this mount holds it.
    let lease = Lease {
        key: Key::Inode(FILE),
        mode: Mode::W,
        seq: 3,
    };
    let grant = Grant {
        leases: vec![lease],
        attr: Some(mount.attr),
        ..Grant::default()
    };
    mount.says(ToMount::Granted(Granted {
        req: wish.req,
        result: Ok(grant),
    }));
    let (id, out) = mount.call(Call::GetAttr { ino: FILE });
    assert!(matches!(done(&out, id), Some(Ok(_))), "{out:?}");
}

#[test]
fn a_read_that_nobody_answers_is_given_up() {
    let mut mount = Mount::ready(10);
    let fh = mount.open();
    let (id, out) = mount.call(Call::Read {
        ino: FILE,
        fh,
        offset: 0,
        len: 10,
    });
    let (query, _) = looked(&out).expect("asks for bytes");
    let (before, out) = mount.wait_it_out();
    assert_eq!((done(&before, id), done(&out, id)), (None, Some(Err(Errno::ESTALE))));
    assert_eq!(mount.says(found(query, vec![0; 10])), [], "too late");
}

/// Who was told that an fsync failed sends the message again: whatever still becomes of the first one, no lock and no handle
/// of that session lives on.
#[test]
fn a_commit_without_a_reply_takes_the_session_with_it() {
    let mut mount = Mount::ready(10);
    let fh = mount.open();
    mount.call(mount.lock(1, Some(LockKind::Exclusive), true));
    let data = Bytes::from_static(b"From a");
    mount.call(Call::Write {
        ino: FILE,
        fh,
        offset: 10,
        data,
    });
    let (id, out) = mount.call(Call::Fsync { ino: FILE, fh });
    assert!(requested(&out).is_some());
    let (before, out) = mount.wait_it_out();
    assert_eq!(done(&before, id), None);
    assert_eq!(done(&out, id), Some(Err(Errno::ESTALE)));
    assert!(hangs_up(&out));
    let (id, out) = mount.call(Call::Fsync { ino: FILE, fh });
    assert_eq!(done(&out, id), Some(Err(Errno::ESTALE)), "the handle is dead");
    mount.wait(SECOND);
    let out = mount.step(Input::Connected);
    let attach = sent(&out).find_map(|f| {
        if let ToBrick::Attach(a) = f {
            Some(a.clone())
        } else {
            None
        }
    });
    assert!(
        attach.is_some_and(|a| a.fresh && a.session.nonce == 2),
        "another session begins"
    );
}

/// L7: the close said yes after 15 s, and the lock stayed for ever.
#[test]
fn an_unlock_that_nobody_hears_takes_the_session_with_it() {
    for close in [true, false] {
        let mut mount = Mount::ready(10);
        let fh = mount.open();
        mount.call(mount.lock(7, Some(LockKind::Exclusive), false));
        let (view, together) = (View::default(), true);
        mount.says(ToMount::View { view, together });
        mount.says(ToMount::Reclaimed(Reclaimed::default())); // the lease is in other hands
        mount.wait(Nanos::from_millis(1));
        let (ino, owner) = (FILE, 7);
        let (id, out) = mount.call(if close {
            Call::Flush { ino, fh, owner }
        } else {
            mount.lock(owner, None, false)
        });
        assert!(asked(&out).is_some(), "the lock is in a table elsewhere");
        let (_, out) = mount.wait_it_out();
        assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
        assert!(hangs_up(&out));
    }
}

/// L1, L6: no brick was there for so long that the session ended, while a brick that had just come back was about to confirm
/// it. The new session's requests went on over the old one's stream, and were taken for those that it had been told the
/// replies of. (Seed 365967.)
#[test]
fn a_session_that_ends_on_a_stream_takes_that_with_it() {
    let mut mount = Mount::ready(10);
    let later = |mount: &mut Mount, time: Nanos| {
        mount.now.mono = mount.now.mono + time;
        mount.step(Input::Tick)
    };
    mount.step(Input::Disconnected);
    later(&mut mount, Nanos(limits::OP_TIMEOUT.0 - 100));
    mount.step(Input::Connected);
    let (brick, bricks) = (BrickId::A, vec![]);
    mount.says(ToMount::Attached(Attached::Ok { brick, bricks }));
    let (view, together) = (View::default(), true);
    let out = mount.says(ToMount::View { view, together });
    assert!(claimed(&out).is_some());
    let (id, _) = mount.call(Call::GetAttr { ino: FILE });
    let out = later(&mut mount, Nanos(100));
    assert_eq!(done(&out, id), Some(Err(Errno::ESTALE)));
    assert!(hangs_up(&out));
    later(&mut mount, SECOND);
    let out = mount.step(Input::Connected);
    let mut attaches = sent(&out);
    assert!(matches!(attaches.next(), Some(ToBrick::Attach(a)) if a.fresh && a.session.nonce == 2));
}

#[test]
fn who_waits_for_a_lock_may_wait_for_ever() {
    let mut mount = Mount::ready(10);
    let (here, out) = mount.call(mount.lock(1, Some(LockKind::Exclusive), true));
    assert!(asked(&out).is_some(), "the other node may hold the lock");
    let (before, after) = mount.wait_it_out();
    assert_eq!((done(&before, here), done(&after, here)), (None, None));
    mount.grant(&out, 1);
    let (there, _) = mount.call(mount.lock(2, Some(LockKind::Exclusive), true));
    let (before, after) = mount.wait_it_out();
    assert_eq!((done(&before, there), done(&after, there)), (None, None));
}

#[test]
fn a_machine_that_slept_has_not_waited() {
    let mut mount = Mount::ready(10);
    let (id, _) = mount.call(Call::GetAttr { ino: FILE });
    let out = mount.wait(Nanos(limits::OP_TIMEOUT.0 * 100));
    assert_eq!(done(&out, id), None);
}

/// I23: Postfix and Dovecot do not expect that their own dotlock cannot be removed.
#[test]
fn an_own_dotlock_can_always_be_removed() {
    let (mut mount, name, _) = with_dotlock();
    mount.step(Input::Disconnected);
    mount.now.mono = mount.now.mono + SECOND; // it may not answer by itself any more
    let unlink = Call::Unlink { dir: Ino::ROOT, name };
    let (id, before) = mount.call_by(process(100, 50), unlink);
    let mut out = before;
    for _ in 0..=limits::OP_TIMEOUT.0 / SECOND.0 {
        assert_eq!(done(&out, id), None);
        mount.now.mono = mount.now.mono + SECOND;
        out = mount.step(Input::Tick);
        if done(&out, id).is_some() {
            break;
        }
    }
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
}
