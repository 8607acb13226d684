//! I27, law L2: when a brick has got the files of its peer, and both are together and have executed the same, their files are
//! the same, byte for byte: at that moment, not only in the end.
//!
//! Its second half, that no reader waits for the heal, cannot be seen from outside: a reader may wait for a lease, a disk, a
//! wire or a stopped process, and nothing that leaves a brick says for which. What is seen is that all programs come to their
//! end (I32).

use super::{Fact, Watch, i03_committed::difference};
use crate::world::World;
use mboxfs_brick::output::{Event, Output};

#[derive(Default)]
pub(super) struct Healed {
    looks: bool,
}

impl Watch for Healed {
    fn names(&self) -> (&'static str, &'static str) {
        ("I27", "L2")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        match fact {
            Fact::Says {
                output: Output::Event(Event::Resynced { .. }),
                ..
            } => {
                self.looks = true;
                Ok(())
            }
            Fact::Tick if self.looks && world.is_even() => {
                self.looks = false;
                let [a, b] = [0, 1].map(|i| &world.hosts[i].disk.image);
                if a.rots() || b.rots() {
                    return Ok(());
                }
                difference(&a.now, &b.now)
                    .map_or(Ok(()), |what| Err(format!("after a heal the bricks differ in {what}")))
            }
            _ => Ok(()),
        }
    }
}
