//! What the kernel may keep, and what it may not have looked at (`told`).

use super::*;

impl Mount {
    /// The other node wants the file.
    fn recall(&mut self, seq: u64) -> Vec<Output> {
        self.says(ToMount::Recall(Recall {
            id: 9,
            key: Key::Inode(FILE),
            seq,
            intent: Intent::Op,
        }))
    }
}

fn thread(pid: u32) -> Caller {
    process(pid, 0)
}

/// What the kernel is told it may keep of the attributes of the file.
fn told(mount: &mut Mount) -> Nanos {
    told_to(mount, thread(1))
}

fn told_to(mount: &mut Mount, caller: Caller) -> Nanos {
    let (id, mut out) = mount.call_by(caller, Call::GetAttr { ino: FILE });
    if asked(&out).is_some() {
        out = mount.grant(&out, 1);
    }
    match done(&out, id) {
        Some(Ok(Answer::Attr { ttl, .. })) => ttl,
        other => panic!("getattr: {other:?}"),
    }
}

#[test]
fn the_kernel_keeps_attributes_no_longer_than_this_mount_may_serve() {
    let mut mount = Mount::ready(8);
    mount.open();
    assert_eq!(
        told(&mut mount),
        Nanos(0),
        "T3: an inode that the kernel never looked up"
    );
    mount.client.node(FILE).lookups = 1;
    assert_eq!(told(&mut mount), Nanos(0), "T5: who asks has not seen a second answer");
    // The brick's word is good for 900 ms; the kernel's knowledge ends 50 ms before it.
    for (passed, ttl) in [(0, 450), (400, 450), (300, 150), (151, 0)] {
        mount.now.mono = mount.now.mono + Nanos::from_millis(passed);
        mount.step(Input::Tick);
        assert_eq!(told(&mut mount), Nanos::from_millis(ttl), "T1 after {passed} ms more");
    }
}

#[test]
fn attributes_that_end_with_the_lease_are_forgotten_before_it_leaves() {
    let mut mount = Mount::ready(8);
    mount.open();
    mount.client.node(FILE).lookups = 1;
    (0..2).for_each(|_| assert_eq!(told(&mut mount), Nanos(0), "T5"));
    assert_ne!(told(&mut mount), Nanos(0));
    let out = mount.recall(1);
    let forgotten = out.iter().position(|o| *o == Output::Invalidate { ino: FILE });
    let given = out.iter().position(|o| matches!(o, Output::Send(ToBrick::Answer(_))));
    assert!(forgotten.is_some() && forgotten < given, "T2: {out:?}");
}

/// The kernel would not keep an answer that it looks at behind the word to forget: so there is no such word before it has
/// kept one. (A writer went to where the end had been under the lease before, and overwrote what had been appended since.)
#[test]
fn nothing_is_to_be_forgotten_before_the_kernel_has_the_size() {
    let mut mount = Mount::ready(8);
    mount.open();
    mount.client.node(FILE).lookups = 1;
    let forgets = |out: &[Output]| out.contains(&Output::Invalidate { ino: FILE });
    assert_eq!(told(&mut mount), Nanos(0), "not looked at yet");
    assert_eq!(
        told_to(&mut mount, thread(2)),
        Nanos(0),
        "it may have been asked before the lease came"
    );
    assert_eq!(told(&mut mount), Nanos(0), "the second answer is on its way");
    let out = mount.recall(1);
    assert!(!forgets(&out), "T5: {out:?}");
    let (id, out) = mount.call_by(thread(1), Call::GetAttr { ino: FILE });
    let out = mount.grant(&out, 2);
    assert!(
        matches!(done(&out, id), Some(Ok(Answer::Attr { ttl: Nanos(0), .. }))),
        "{out:?}"
    );
    assert_eq!(told(&mut mount), Nanos(0), "one answer under this lease");
    assert_ne!(told(&mut mount), Nanos(0), "two, and it has seen both");
    assert_ne!(told_to(&mut mount, thread(2)), Nanos(0), "whoever asks");
    let out = mount.recall(2);
    assert!(forgets(&out), "T2: {out:?}");
}

/// The kernel keeps of two answers the one that it looks at first: one from before would be what the writer goes by.
#[test]
fn nobody_gets_a_lock_before_older_answers_were_looked_at() {
    let mut mount = Mount::ready(8);
    mount.open();
    told_to(&mut mount, thread(2));
    mount.recall(1);
    let lock = mount.lock(5, Some(LockKind::Exclusive), true);
    let (id, out) = mount.call_by(thread(1), lock.clone());
    let out = mount.grant(&out, 2);
    assert_eq!(done(&out, id), None, "T6: thread 2 may not have had its turn");
    let (_, out) = mount.call_by(thread(2), Call::StatFs);
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)), "it has: {out:?}");

    let unlock = mount.lock(5, None, true);
    mount.call_by(thread(1), unlock);
    told_to(&mut mount, thread(3));
    mount.recall(2);
    let (id, out) = mount.call_by(thread(1), lock);
    let out = mount.grant(&out, 3);
    assert_eq!(done(&out, id), None);
    let out = mount.wait(limits::ATTR_LATE);
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)), "it has ended: {out:?}");
}

/// Another thread may ask for what the kernel keeps before the writer has had its turn.
#[test]
fn what_the_kernel_forgets_by_itself_it_is_told_to_when_the_lease_goes() {
    let mut mount = Mount::ready(4);
    let fh = mount.open();
    mount.client.node(FILE).lookups = 1;
    (0..3).for_each(|_| {
        told(&mut mount);
    });
    let data = Bytes::from_static(b"mail");
    let offset = 4;
    let ino = FILE;
    mount.call_by(thread(2), Call::Write { ino, fh, offset, data });
    let (id, out) = mount.call_by(thread(3), Call::Fsync { ino, fh });
    let seq = requested(&out).expect("a commit").seq;
    let attr = Attr {
        size: 8,
        version: 2,
        ..mount.attr
    };
    let out = mount.says(ToMount::Reply(Reply {
        seq,
        result: Ok(vec![attr]),
    }));
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    let forgets = |out: &[Output]| out.contains(&Output::Invalidate { ino: FILE });
    assert!(!forgets(&out), "it does by itself: {out:?}");
    let out = mount.recall(1);
    assert!(forgets(&out), "T2: {out:?}");
}
