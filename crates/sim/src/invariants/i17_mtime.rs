//! I17, law L3: a mailbox's mtime is larger by a whole second at least after a change by the other node: programs that compare
//! only seconds see it (R10 of MAIL.md), whatever the clocks say.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{
    Ino, Tag, Timestamp,
    disk::{DiskOp, Effect},
    record::Body,
};
use std::collections::BTreeMap;

/// A change, and the mount that made it.
struct Change {
    tag: Tag,
    client: [u8; 16],
    mtime: Timestamp,
}

#[derive(Default)]
pub(super) struct Mtime {
    last: [BTreeMap<Ino, Change>; 2],
}

impl Watch for Mtime {
    fn names(&self) -> (&'static str, &'static str) {
        ("I17", "L3")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Disk(DiskOp::Apply(effects)),
        } = fact
        else {
            return Ok(());
        };
        for effect in effects {
            if let Effect::Write { ino, mtime, stamp, .. } = effect {
                self.changed(world, *brick, *ino, (*stamp, *mtime))?;
            }
        }
        Ok(())
    }
}

impl Mtime {
    fn changed(&mut self, world: &World, brick: usize, ino: Ino, (tag, mtime): (Tag, Timestamp)) -> Result<(), String> {
        let host = &world.hosts[brick];
        let record = host.records.get(&tag.n).filter(|record| record.tag == tag);
        let Some(Body::Op { id, .. }) = record.map(|record| &record.body) else {
            self.last[brick].remove(&ino); // a merge, or files that were put back
            return Ok(());
        };
        let client = id.session.client;
        let change = Change { tag, client, mtime };
        let Some(last) = self.last[brick].insert(ino, change) else {
            return Ok(());
        };
        // (A replay begins again from below; and a line that was given up does not count.)
        let follows = last.tag.n < tag.n && host.tag(last.tag.n) == Some(last.tag);
        if follows && last.client != client && mtime.secs <= last.mtime.secs {
            return Err(format!(
                "brick {brick}: {ino} has mtime {mtime:?} after a change by the other node, and had {:?}",
                last.mtime
            ));
        }
        Ok(())
    }
}
