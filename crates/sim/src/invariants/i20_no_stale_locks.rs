//! I19 and I20, law L7: at rest nobody holds a dotlock or a lock: all owners have ended.

use super::Broken;
use crate::world::{MS, World};
use mboxfs_types::Ino;

/// A dotlock of a program that has ended is gone after so long, in ms; I20 leaves it 10 s.
const WITHIN: u64 = 10_000;

/// At rest.
pub(crate) fn no_locks_left(world: &mut World) -> Result<(), Broken> {
    let end = world.now + WITHIN * MS;
    loop {
        match look(world) {
            Err(broken) if broken.invariant == "I20" && world.now < end => world.run(500),
            result => return result,
        }
    }
}

/// As a look at each dotlock and a try to lock each mailbox tells, at each mount.
fn look(world: &mut World) -> Result<(), Broken> {
    for mount in 0..2 {
        for mailbox in world.oracle.mailboxes.clone() {
            let name = format!("{mailbox}.lock");
            if let Some(ino) = world.look_now(mount, &name)? {
                let why = format!("{name} is there at mount {mount} ({ino}), and its owner has ended");
                return Err(Broken::new("I20", "L7", why));
            }
            if let Some(ino) = world.look_now(mount, &mailbox)?
                && !world.lock_now(mount, ino)?
            {
                let why =
                    format!("{mailbox} is locked for mount {mount}, and nobody is there who could have locked it");
                return Err(Broken::new("I20", "L7", why));
            }
        }
    }
    let dots = world
        .hosts
        .iter()
        .flat_map(|h| h.disk.image.now.names.keys())
        .find(|(_, n)| n.is_dotlock());
    match dots {
        Some((dir, name)) if *dir == Ino::ROOT => Err(Broken::new("I20", "L7", format!("{name} is a file in a brick"))),
        _ => Ok(()),
    }
}
