//! Names that the kernel keeps (`told` T4): no longer than they are true.

use super::{FILE, Mount, asked, done, requested, sent};
use crate::{
    input::{Call, Caller, Input, OpenFlags},
    output::{Answer, Output},
};
use alloc::{vec, vec::Vec};
use mboxfs_types::{
    Group, Ino, Key, Name, Nanos,
    call::{Grant, Granted, Intent, Lease, Mode, NameState, Recall, Reply, ToBrick, ToMount},
    limits,
};

fn bob() -> Name {
    Name::new(b"bob").expect("a name")
}

/// Looks up a mailbox that is there; both leases come. What the kernel may keep of the name.
fn look_up(mount: &mut Mount) -> Nanos {
    let call = Call::Lookup {
        dir: Ino::ROOT,
        name: bob(),
    };
    let (id, mut out) = mount.call(call);
    if let Some(request) = asked(&out) {
        let lease = |key| Lease {
            key,
            mode: Mode::W,
            seq: 1,
        };
        let group = Group::of(Ino::ROOT, &bob());
        let grant = Grant {
            leases: vec![lease(Key::Name(group.clone())), lease(Key::Inode(FILE))],
            name: Some(NameState {
                group,
                entry: Some(FILE),
                dot: None,
            }),
            attr: Some(mount.attr),
            ..Grant::default()
        };
        out = mount.says(ToMount::Granted(Granted {
            req: request.req,
            result: Ok(grant),
        }));
    }
    match done(&out, id) {
        Some(Ok(Answer::Entry { entry_ttl, .. })) => entry_ttl,
        other => panic!("lookup: {other:?}"),
    }
}

fn ready() -> Mount {
    let mut mount = Mount::ready(8);
    mount.client.kernel_forgets_names();
    mount
}

fn recall(mount: &mut Mount, intent: Intent) -> Vec<Output> {
    mount.says(ToMount::Recall(Recall {
        id: 9,
        key: Key::Name(Group::of(Ino::ROOT, &bob())),
        seq: 1,
        intent,
    }))
}

fn forgets(out: &[Output]) -> Option<usize> {
    out.iter().position(|o| *o == Output::ForgetNames)
}

#[test]
fn a_name_is_kept_no_longer_than_this_mount_may_serve() {
    let mut mount = ready();
    // The brick's word is good for 900 ms; the kernel's knowledge ends 50 ms before it.
    for (passed, ttl) in [(0, 450), (400, 450), (300, 150), (151, 0)] {
        mount.now.mono = mount.now.mono + Nanos::from_millis(passed);
        mount.step(Input::Tick);
        assert_eq!(look_up(&mut mount), Nanos::from_millis(ttl), "after {passed} ms more");
    }
}

#[test]
fn an_old_kernel_keeps_no_names() {
    let mut mount = Mount::ready(8);
    assert_eq!(look_up(&mut mount), Nanos(0));
    assert_eq!(forgets(&recall(&mut mount, Intent::Op)), None);
}

#[test]
fn names_are_forgotten_before_their_lease_leaves_and_only_if_they_were_told() {
    let mut mount = ready();
    look_up(&mut mount);
    let out = recall(&mut mount, Intent::Op);
    let given = out.iter().position(|o| matches!(o, Output::Send(ToBrick::Answer(_))));
    assert!(forgets(&out).is_some() && forgets(&out) < given, "{out:?}");
    // Told again, but this time nothing that the kernel knows.
    let (_, out) = mount.call(Call::Lookup {
        dir: Ino::ROOT,
        name: bob(),
    });
    mount.grant_name(&out);
    let out = recall(&mut mount, Intent::Op);
    assert!(sent(&out).next().is_some() && forgets(&out).is_none(), "{out:?}");
}

/// The kernel moves what it knows of the old name to the new one, for which there may be no lease.
#[test]
fn a_renamed_name_is_forgotten() {
    let mut mount = ready();
    look_up(&mut mount);
    let (id, out) = mount.call(Call::Rename {
        dir: Ino::ROOT,
        name: bob(),
        to_dir: Ino::ROOT,
        to_name: Name::new(b"eve").expect("a name"),
        noreplace: false,
    });
    let seq = requested(&out).expect("the brick renames").seq;
    let attr = mount.attr;
    let result = Ok(vec![attr, attr]);
    let out = mount.says(ToMount::Reply(Reply { seq, result }));
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    assert!(forgets(&out).is_some(), "{out:?}");
}

/// A dotlock of the mailbox, made here.
fn lock(mount: &mut Mount) -> Name {
    look_up(mount);
    let name = Name::new(b"bob.lock").expect("a name");
    let (id, out) = mount.call(Call::Create {
        dir: Ino::ROOT,
        name: name.clone(),
        mode: 0,
        flags: OpenFlags::default(),
        excl: true,
    });
    let ttl = match done(&out, id) {
        Some(Ok(Answer::Created {
            entry_ttl, attr_ttl, ..
        })) => [entry_ttl, attr_ttl],
        other => panic!("create: {other:?}"),
    };
    assert_eq!(ttl, [Nanos::from_millis(450); 2]);
    name
}

#[test]
fn an_own_dotlock_is_kept_until_its_maker_removes_it() {
    let mut mount = ready();
    let name = lock(&mut mount);
    let unlink = Call::Unlink { dir: Ino::ROOT, name };
    let (id, out) = mount.call(unlink);
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    assert_eq!(forgets(&out), None, "the kernel's own unlink: {out:?}");
}

#[test]
fn an_own_dotlock_is_forgotten_when_others_may_remove_it() {
    let mut mount = ready();
    lock(&mut mount);
    let out = recall(&mut mount, Intent::Unlock);
    let given = out.iter().position(|o| matches!(o, Output::Send(ToBrick::Answer(_))));
    assert!(forgets(&out).is_some() && forgets(&out) < given, "{out:?}");
}

#[test]
fn an_own_dotlock_that_is_reaped_is_forgotten() {
    let mut mount = ready();
    let name = Name::new(b"bob.lock").expect("a name");
    look_up(&mut mount);
    let by = Caller {
        pid: 100,
        ppid: 50,
        ..Caller::default()
    };
    mount.call_by(
        by,
        Call::Create {
            dir: Ino::ROOT,
            name: name.clone(),
            mode: 0,
            flags: OpenFlags::default(),
            excl: true,
        },
    );
    mount.step(Input::Gone { pid: 100 });
    mount.step(Input::Gone { pid: 50 });
    let out = mount.wait(limits::DOTLOCK_ORPHAN);
    assert_eq!(mount.client.names_now(Ino::ROOT, &name), None);
    assert!(forgets(&out).is_some(), "{out:?}");
}
