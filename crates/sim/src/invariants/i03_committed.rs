//! I3, laws L1 and L2: nothing is executed that is not durable; at rest both bricks hold the same files, byte for byte.

use super::{Broken, Fact, Watch};
use crate::world::World;

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
    if a == b {
        return Ok(());
    }
    let names = a.names.iter().chain(&b.names);
    let differs = names
        .filter(|(key, _)| {
            let file = |t: &crate::image::Tree| t.names.get(*key).and_then(|ino| t.files.get(ino)).cloned();
            a.names.get(*key) != b.names.get(*key) || file(a) != file(b)
        })
        .map(|((_, name), _)| name.to_string())
        .next();
    let why = format!(
        "the bricks differ in {}",
        differs.unwrap_or_else(|| "files without a name".into())
    );
    Err(Broken::new("I3", "L2", why))
}
