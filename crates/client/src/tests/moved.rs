//! A mount comes from the other side of a partition, where it had locked what is in other hands on this one.
//!
//! Not here: which locks these are (`brick`), whole worlds (`sim`).

use super::*;

const MAKER: u32 = 100;

/// The name of the mailbox, as the brick tells it.
fn grant_mailbox(mount: &mut Mount, out: &[Output]) -> Vec<Output> {
    let request = asked(out).expect("asks for the name");
    let Key::Name(group) = request.key.clone() else {
        panic!("not of a name: {request:?}")
    };
    let (key, mode, seq) = (request.key, request.mode, 1);
    let grant = Grant {
        leases: vec![Lease { key, mode, seq }],
        name: Some(NameState {
            group,
            entry: Some(FILE),
            dot: None,
        }),
        ..Grant::default()
    };
    mount.says(ToMount::Granted(Granted {
        req: request.req,
        result: Ok(grant),
    }))
}

/// The process made a dotlock and has the mailbox open.
fn holder() -> (Mount, Fh) {
    let mut mount = Mount::ready(8);
    let (_, create) = make_dotlock();
    let (id, out) = mount.call_by(process(MAKER, 50), create);
    let out = grant_mailbox(&mut mount, &out);
    assert!(matches!(done(&out, id), Some(Ok(Answer::Created { .. }))));
    let fh = mount.open();
    (mount, fh)
}

impl Mount {
    fn loses_its_dotlock(&mut self) {
        let view = View {
            v: 9,
            ..View::default()
        };
        let out = self.says(ToMount::View { view, together: true });
        assert_eq!(claimed(&out).expect("claims").dots.len(), 1);
        self.says(ToMount::Reclaimed(Reclaimed {
            view,
            lost: vec![Key::Name(Group::of(Ino::ROOT, &make_dotlock().0))],
            ..Reclaimed::default()
        }));
        self.wait(Nanos::from_millis(1));
    }
}

/// It lost it. What unlinks it.
fn moved() -> (Mount, Fh, Call) {
    let (mut mount, fh) = holder();
    mount.loses_its_dotlock();
    let (dir, name) = (Ino::ROOT, make_dotlock().0);
    (mount, fh, Call::Unlink { dir, name })
}

fn opens(mount: &mut Mount, pid: u32) -> Result<Answer, Errno> {
    let flags = OpenFlags::default();
    let (id, mut out) = mount.call_by(process(pid, 1), Call::Open { ino: FILE, flags });
    while done(&out, id).is_none() {
        out = match asked(&out).expect("asks for a lease").key {
            Key::Name(_) => grant_mailbox(mount, &out),
            Key::Inode(_) => mount.grant(&out, 5),
        };
    }
    done(&out, id).expect("it ended")
}

/// L6: it wrote to a mailbox that others had locked.
#[test]
fn who_lost_its_dotlock_changes_the_mailbox_no_more() {
    let (mut mount, fh, _) = moved();
    let (ino, offset, len) = (FILE, 0, 4);
    let (id, out) = mount.call(Call::Read { ino, fh, offset, len });
    assert_eq!(done(&out, id), Some(Err(Errno::ESTALE)), "what is open");
    assert_eq!(opens(&mut mount, MAKER), Err(Errno::ESTALE), "and what it opens");
    assert!(opens(&mut mount, 300).is_ok(), "others can");
}

/// O4, L6: the next daemon did not know which mailbox the dotlock stood for when that was lost, and let its maker write on: into
/// another one's message.
#[test]
fn who_loses_its_dotlock_under_the_next_daemon_changes_the_mailbox_no_more() {
    let (mut mount, fh) = holder();
    let others = mount.open();
    (mount, _) = mount.succeeded();
    mount.loses_its_dotlock();
    for (pid, fh, fails) in [(300, others, false), (MAKER, fh, true)] {
        let data = Bytes::from_static(b"mail");
        let (ino, offset) = (FILE, 8);
        let write = Call::Write { ino, fh, offset, data };
        let (id, mut out) = mount.call_by(process(pid, 1), write);
        while done(&out, id).is_none() {
            out = match asked(&out).expect("asks for a lease").key {
                Key::Name(_) => grant_mailbox(&mut mount, &out),
                Key::Inode(_) => mount.grant(&out, 5),
            };
        }
        assert_eq!(done(&out, id) == Some(Err(Errno::ESTALE)), fails, "{pid}: {out:?}");
    }
}

/// L5 (seed 400254): the next daemon removed the dotlock of another program, which had made it since.
#[test]
fn a_dotlock_that_was_lost_is_lost_under_the_next_daemon_too() {
    let (mount, _, unlink) = moved();
    let (mut mount, _) = mount.succeeded();
    let (id, out) = mount.call_by(process(MAKER, 50), unlink.clone());
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    let (id, out) = mount.call_by(process(MAKER, 50), unlink);
    let out = grant_mailbox(&mut mount, &out);
    assert_eq!(done(&out, id), Some(Err(Errno::ENOENT)), "that was all");
}

/// L9: the mailbox was made on this side. The name was held, and the mount went on saying that there is none: a bounce. (Seed
/// 509395.)
#[test]
fn who_comes_from_the_other_side_learns_what_names_are_here() {
    let (mut mount, _, _) = with_dotlock();
    let (dir, name) = (Ino::ROOT, Name::new(b"u").expect("a name"));
    let lookup = || Call::Lookup {
        dir,
        name: name.clone(),
    };
    let (id, out) = mount.call(lookup());
    assert_eq!(done(&out, id), Some(Err(Errno::ENOENT)));
    let view = View {
        v: 9,
        ..View::default()
    };
    let (key, mode, seq) = (Key::Name(Group::of(dir, &name)), Mode::W, 1);
    let out = mount.says(ToMount::View { view, together: true });
    let dots = claimed(&out).expect("claims").dots;
    mount.says(ToMount::Reclaimed(Reclaimed {
        view,
        leases: vec![Lease { key, mode, seq }],
        dots,
        entries: vec![(Group::of(dir, &name), FILE)],
        ..Reclaimed::default()
    }));
    mount.wait(Nanos::from_millis(1));
    let (id, out) = mount.call(lookup());
    let out = mount.grant(&out, 5);
    assert!(matches!(done(&out, id), Some(Ok(Answer::Entry { .. }))), "{out:?}");
}

/// L7 (seed 220042): its unlink said ENOENT. And on the next view the mount claimed the dotlock again.
#[test]
fn who_lost_its_dotlock_removes_it_like_any_other() {
    let (mut mount, _, unlink) = moved();
    let view = View {
        v: 10,
        ..View::default()
    };
    let out = mount.says(ToMount::View { view, together: true });
    assert_eq!(claimed(&out).expect("claims").dots, []);
    mount.says(ToMount::Reclaimed(Reclaimed {
        view,
        ..Reclaimed::default()
    }));
    mount.wait(Nanos::from_millis(1));
    let (id, out) = mount.call_by(process(MAKER, 50), unlink);
    assert_eq!(done(&out, id), Some(Ok(Answer::Empty)));
    assert!(opens(&mut mount, MAKER).is_ok());
}
