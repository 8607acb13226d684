//! I3, laws L1 and L2: nothing is executed that is not durable; at rest both bricks hold the same files, byte for byte.

use super::{Broken, Fact, Watch};
use crate::{image::Tree, world::World};
use mboxfs_types::Ino;

pub(super) struct Committed;

impl Watch for Committed {
    fn names(&self) -> (&'static str, &'static str) {
        ("I3", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Step { brick } = fact else { return Ok(()) };
        let host = &world.hosts[*brick];
        let commit = host.report().map_or(0, |r| r.commit);
        if commit > host.disk.durable {
            return Err(format!(
                "brick {brick} has executed {commit}; its log is durable up to {}",
                host.disk.durable
            ));
        }
        Ok(())
    }
}

/// At rest.
pub(crate) fn bricks_are_equal(world: &World) -> Result<(), Broken> {
    let [a, b] = [0, 1].map(|i| &world.hosts[i].disk.image.now);
    match difference(a, b) {
        None => Ok(()),
        Some(what) => Err(Broken::new("I3", "L2", format!("the bricks differ in {what}"))),
    }
}

/// Between the files of two bricks.
pub(crate) fn difference(a: &Tree, b: &Tree) -> Option<String> {
    let alike = |ino| match (a.files.get(ino), b.files.get(ino)) {
        (Some(a), Some(b)) => a.is_like(b),
        (a, b) => a.is_none() && b.is_none(),
    };
    let name = a.names.iter().chain(&b.names).find(|((dir, name), ino)| {
        let key = (*dir, name.clone());
        a.names.get(&key) != b.names.get(&key) || !alike(ino)
    });
    let file = || a.files.keys().chain(b.files.keys()).find(|ino| !alike(ino));
    let told = |ino: &Ino| {
        let [a, b] = [a, b].map(|tree| tree.files.get(ino).map(|f| (f.data.len(), f.mtime, f.mode, f.owner)));
        format!("{a:?} and {b:?}")
    };
    name.map(|((_, name), ino)| format!("{name}: {}", told(ino)))
        .or_else(|| file().map(|ino| format!("{ino}, which has no name: {}", told(ino))))
}
