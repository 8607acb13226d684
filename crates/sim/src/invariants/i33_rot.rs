//! I33 (PROTOCOL.md 9.1 and 9.6), law L12: a byte that rotted is given to nobody: no mount, and no file as content or repair,
//! but for those that are named after what they are: what is left of damaged messages. At rest, when both bricks have looked through their files, none is left.

use super::{Broken, Fact, Watch};
use crate::{
    image::has_rot,
    world::{MS, World},
};
use mboxfs_brick::{output::Output, quorum::Order};
use mboxfs_types::{
    Ino,
    admin::ScrubVerb,
    call::{Found, ToMount},
    disk::{DiskOp, Effect},
};
use std::collections::BTreeSet;

/// A pass takes far less, in ms; but what was bad on both sides is asked for again only after a minute.
const WITHIN: u64 = 100_000;

#[derive(Default)]
pub(super) struct Rot {
    /// What is left of damaged messages.
    damaged: BTreeSet<Ino>,
}

impl Watch for Rot {
    fn names(&self) -> (&'static str, &'static str) {
        ("I33", "L12")
    }

    fn see(&mut self, _: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says { brick, output } = fact else {
            return Ok(());
        };
        match output {
            Output::Mount {
                frame:
                    ToMount::Found {
                        result: Ok(Found::Data(bytes)),
                        ..
                    },
                ..
            } if has_rot(bytes) => Err(format!("brick {brick} serves what has rotted")),
            Output::Disk(DiskOp::Apply(effects)) => effects.iter().try_for_each(|effect| match effect {
                Effect::Make { ino, name, .. } if name.to_string().contains(".damaged-") => {
                    self.damaged.insert(*ino);
                    Ok(())
                }
                Effect::Write { ino, extents, .. }
                    if extents.iter().any(|e| has_rot(&e.data)) && !self.damaged.contains(ino) =>
                {
                    Err(format!("brick {brick} writes to {ino} what has rotted"))
                }
                Effect::Repair { ino, bytes, .. } if has_rot(bytes) => {
                    Err(format!("brick {brick} repairs {ino} with what has rotted"))
                }
                _ => Ok(()),
            }),
            _ => Ok(()),
        }
    }
}

/// At rest.
pub(crate) fn no_rot_left(world: &mut World) -> Result<(), Broken> {
    if world.hosts.iter().all(|host| !host.disk.image.has_rotted()) {
        return Ok(());
    }
    for brick in 0..2 {
        // (One that is under way already comes to its end as well.)
        let _ = world.order(brick, Order::Scrub(ScrubVerb::Start));
    }
    let end = world.now + WITHIN * MS;
    while world.now < end {
        world.run(50);
        world.ok()?;
        let is_clean = |host: &crate::world::Host| {
            let scrub = host.report().map(|report| report.scrub);
            scrub.is_some_and(|scrub| !scrub.mark.is_on() && scrub.bad.is_empty()) && !host.disk.image.rots()
        };
        if world.hosts.iter().all(is_clean) {
            return Ok(());
        }
    }
    let left = [0, 1].map(|i| {
        let host = &world.hosts[i];
        let bad = host.report().map(|report| report.scrub.bad);
        (host.disk.image.rots(), bad)
    });
    let why = format!("after a scrub of both bricks something is rotten: {left:?}");
    Err(Broken::new("I33", "L12", why))
}
