//! I14, law L5: of two programs that may act on it at the same moment only one believes that it has an exclusive lock on a
//! mailbox, or its dotlock. (What one believes whose mount is cut off cannot land: I15, I21.)

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_client::{input::Call, output::Answer};
use mboxfs_types::{Errno, Ino, Key, Name, SessionId, call::ToMount};
use std::collections::BTreeMap;

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum What {
    File(Ino),
    Dot(Name),
}

#[derive(Default)]
pub(super) struct Exclusive {
    held: BTreeMap<What, Vec<Belief>>,
}

/// Who, and in which session: what went with a session is not held any more, though its program may not know yet.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Belief {
    mount: usize,
    pid: u32,
    session: SessionId,
}

impl Watch for Exclusive {
    fn names(&self) -> (&'static str, &'static str) {
        ("I14", "L5")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let (mount, pid, call, result) = match fact {
            Fact::Hears {
                mount,
                frame: ToMount::Reclaimed(reclaimed),
            } => {
                self.lose(*mount, &reclaimed.lost);
                return Ok(());
            }
            Fact::Answers {
                mount,
                pid,
                call,
                result,
            } => (mount, pid, call, result),
            _ => return Ok(()),
        };
        let who = (*mount, *pid);
        match (call, result) {
            (Call::SetLock { ino, kind: Some(_), .. }, Ok(_)) => self.take(world, What::File(*ino), who),
            (Call::SetLock { ino, kind: None, .. } | Call::Flush { ino, .. }, _) => {
                self.drop(&What::File(*ino), who);
                Ok(())
            }
            (Call::Create { name, .. }, Ok(Answer::Created { .. })) if name.is_dotlock() => {
                self.take(world, What::Dot(name.clone()), who)
            }
            (Call::Link { name, .. }, Ok(_)) if name.is_dotlock() => self.take(world, What::Dot(name.clone()), who),
            (Call::Unlink { name, .. }, Ok(_) | Err(Errno::ENOENT)) if name.is_dotlock() => {
                self.drop(&What::Dot(name.clone()), who);
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl Exclusive {
    /// Its programs cannot act on them any more.
    fn lose(&mut self, mount: usize, lost: &[Key]) {
        for key in lost {
            let what = match key {
                Key::Inode(ino) => What::File(*ino),
                Key::Name(group) => match Name::new(format!("{}.lock", group.stem).as_bytes()) {
                    Ok(name) => What::Dot(name),
                    Err(_) => continue,
                },
            };
            if let Some(held) = self.held.get_mut(&what) {
                held.retain(|h| h.mount != mount);
            }
        }
    }

    fn drop(&mut self, what: &What, (mount, pid): (usize, u32)) {
        if let Some(held) = self.held.get_mut(what) {
            held.retain(|h| (h.mount, h.pid) != (mount, pid));
        }
    }

    fn take(&mut self, world: &World, what: What, (mount, pid): (usize, u32)) -> Result<(), String> {
        // (Who is stopped acts on nothing, and finds out before he does.)
        let acts = |m: usize| world.now >= world.mounts[m].stopped_until;
        let serves = |m: usize| {
            let client = world.mounts[m].client.as_ref().filter(|_| acts(m));
            client.and_then(mboxfs_client::Client::serves)
        };
        self.drop(&what, (mount, pid));
        let held = self.held.entry(what.clone()).or_default();
        held.retain(|h| world.lives(h.mount, h.pid));
        let Some((session, view)) = serves(mount) else {
            return Ok(());
        };
        let other = held.iter().find(|h| serves(h.mount) == Some((h.session, view)));
        if let Some(other) = other {
            let (there, whose) = (other.mount, other.pid);
            return Err(format!(
                "{what:?} is locked by {pid} at mount {mount}, and by {whose} at mount {there}"
            ));
        }
        held.push(Belief { mount, pid, session });
        Ok(())
    }
}
