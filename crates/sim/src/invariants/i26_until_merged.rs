//! I26, law L8: a brick gives up its line of history only when everything that it has of it is on the other one's disk.

use super::{Fact, Watch};
use crate::{
    image::Tree,
    letter::{self, Id},
    oracle::{Fate, Removal},
    world::World,
};
use mboxfs_brick::output::Output;
use mboxfs_types::{
    admin::Status,
    disk::{DiskOp, Superblock, Worth},
};
use std::collections::BTreeSet;

#[derive(Default)]
pub(super) struct UntilMerged {
    gives_up: [bool; 2],
}

impl Watch for UntilMerged {
    fn names(&self) -> (&'static str, &'static str) {
        ("I26", "L8")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Disk(DiskOp::Superblock(superblock)),
        } = fact
        else {
            return Ok(());
        };
        let now = is_giving_up(superblock);
        if !std::mem::replace(&mut self.gives_up[*brick], now) && now && world.oracle.own_line == [true; 2] {
            return everything_is_there(world, *brick);
        }
        Ok(())
    }
}

fn is_giving_up(superblock: &Superblock) -> bool {
    superblock.giving_up.is_some() || superblock.files == Worth::Copying
}

/// What is executed is durable (I3), though its effects may be on their way to the files. (Where something has rotted that
/// nobody has read yet, nothing is told from the files; nor of a brick that has just started, which has executed nothing of
/// its log.)
fn everything_is_there(world: &World, brick: usize) -> Result<(), String> {
    let starts = world.hosts[1 - brick].status() == Some(Status::Boot);
    if starts || world.hosts.iter().any(|host| host.disk.image.rots()) {
        return Ok(());
    }
    let [here, there] = [brick, 1 - brick].map(|i| letters(&world.hosts[i].disk.files_to_come()));
    let lost = here.difference(&there).find(|id| {
        let letter = world.oracle.letters.get(id);
        letter.is_some_and(|l| l.fate == Fate::Kept && l.removal == Removal::No)
    });
    lost.map_or(Ok(()), |id| {
        Err(format!(
            "brick {brick} gives up its line of history, and the other one does not have message {id}"
        ))
    })
}

fn letters(tree: &Tree) -> BTreeSet<Id> {
    let whole = |file: &crate::image::File| letter::split(&file.data).map(|all| all.iter().map(|l| l.0).collect());
    let all = tree.files.values().filter_map(|file| whole(file).ok());
    all.flat_map(|ids: Vec<Id>| ids).collect()
}
