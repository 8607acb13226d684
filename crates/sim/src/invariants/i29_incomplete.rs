//! I29, law L1: a brick whose files are not whole has no say: it serves nobody, and asks the witness for nothing.
//!
//! Of one in repair that is true because it is not there at all: a log that has rotted is refused (`world::disks`). That a log
//! is not shorter than it was told to be is looked at whenever a brick starts (`disk`, K3).

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{admin::Status, disk::Worth, quorum::WitnessVerb};

pub(super) struct Incomplete;

impl Watch for Incomplete {
    fn names(&self) -> (&'static str, &'static str) {
        ("I29", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let copies = |brick: &usize| world.hosts[*brick].disk.superblock.files == Worth::Copying;
        match fact {
            Fact::Says {
                brick,
                output: Output::Witness { ask, .. },
            } if copies(brick) && matches!(ask.verb, WitnessVerb::Cas { .. }) => Err(format!(
                "brick {brick} has not got all files, and asks the witness for {ask:?}"
            )),
            Fact::Step { brick } if copies(brick) => match world.hosts[*brick].status() {
                Some(status @ (Status::Solo | Status::Normal | Status::Diverged)) => {
                    Err(format!("brick {brick} has not got all files, and is {status:?}"))
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
