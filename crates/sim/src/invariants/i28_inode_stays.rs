//! I28, law L10: the inode behind a mailbox's name stays, whatever fails over, heals or merges. (Made on both sides of a
//! partition, one of the two stays.)

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_client::{input::Call, output::Answer};
use mboxfs_mbox::files::{self, Rule};
use mboxfs_types::{Ino, Name};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct InodeStays {
    seen: BTreeMap<Name, Ino>,
}

impl Watch for InodeStays {
    fn names(&self) -> (&'static str, &'static str) {
        ("I28", "L10")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Answers {
            call: Call::Lookup { name, .. },
            result: Ok(Answer::Entry { attr, .. }),
            ..
        } = fact
        else {
            return Ok(());
        };
        if files::rule(name.as_bytes()) != Rule::Content {
            return Ok(()); // programs make it anew
        }
        let apart = world.forks > 0;
        let ino = *self.seen.entry(name.clone()).or_insert(attr.ino);
        if ino == attr.ino {
            return Ok(());
        }
        if apart && world.made_apart.contains(name) {
            self.seen.insert(name.clone(), attr.ino);
            return Ok(());
        }
        Err(format!("{name} was {ino} and is {}", attr.ino))
    }
}
