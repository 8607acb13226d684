//! Dotlocks made by link(2), after a new view took what the mount knew of the file.
//!
//! Not here: a lease on it that stays (`sim`).

use super::*;

/// The process 100 linked the file to `u.lock`; then all leases but those needed are gone.
fn linked() -> (Mount, Call) {
    let mut mount = Mount::ready(0);
    let name = Name::new(b"u.lock").expect("a name");
    let (dir, ino) = (Ino::ROOT, FILE);
    let link = Call::Link {
        ino,
        dir,
        name: name.clone(),
    };
    let (id, out) = mount.call_by(process(100, 50), link);
    let out = mount.grant_name(&out);
    let out = mount.grant(&out, 2);
    assert_eq!(nlink(&out, id), Some(2), "R6");
    mount.new_view();
    (mount, Call::Lookup { dir, name })
}

fn nlink(out: &[Output], id: CallId) -> Option<u32> {
    match done(out, id) {
        Some(Ok(Answer::Entry { attr, .. } | Answer::Attr { attr, .. })) => Some(attr.nlink),
        _ => None,
    }
}

/// A stranger looks at the dotlock, after its wait.
fn look(mount: &mut Mount, lookup: Call) -> (CallId, LeaseRequest, Vec<Output>) {
    let (id, _) = mount.call_by(process(200, 60), lookup);
    let out = mount.wait(limits::LOCK_WAIT);
    let request = asked(&out).expect("whether the file is there still");
    assert_eq!(request.key, Key::Inode(FILE));
    (id, request, out)
}

/// mutt and liblockfile found a link count of 1, held the lock and did not know it: nobody could deliver any more.
#[test]
fn who_looks_at_a_linked_dotlock_takes_no_link_from_its_file() {
    let (mut mount, lookup) = linked();
    let (stranger, _, out) = look(&mut mount, lookup);
    let out = mount.grant(&out, 3);
    assert_eq!(nlink(&out, stranger), Some(2), "O5: the same inode under both names");
    let (maker, out) = mount.call_by(process(100, 50), Call::GetAttr { ino: FILE });
    assert_eq!(nlink(&out, maker), Some(2));
}

#[test]
fn a_linked_dotlock_is_all_there_is_when_its_file_is_gone() {
    let (mut mount, lookup) = linked();
    let (stranger, request, _) = look(&mut mount, lookup.clone());
    let out = mount.says(ToMount::Granted(Granted {
        req: request.req,
        result: Err(Errno::ESTALE),
    }));
    assert_eq!(nlink(&out, stranger), Some(1));
    for call in [Call::GetAttr { ino: FILE }, lookup] {
        let (maker, out) = mount.call_by(process(100, 50), call);
        assert_eq!(nlink(&out, maker), Some(1), "and nobody is asked again");
    }
}
