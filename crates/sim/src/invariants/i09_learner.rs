//! I8 and I9, law L1: a survivor writes down that both are members only when the other one's disk has all that it has executed;
//! from then on it commits nothing alone.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_types::{BrickId, admin::Status, record::Members};

#[derive(Default)]
pub(super) struct Learner {
    alone: [bool; 2],
}

impl Watch for Learner {
    fn names(&self) -> (&'static str, &'static str) {
        ("I9", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Written { brick } = fact else { return Ok(()) };
        let (me, other) = (&world.hosts[*brick], &world.hosts[1 - brick]);
        let members = me.disk.superblock.members;
        let alone = matches!(members, Members::Only(one) if Some(one) == BrickId::from_index(*brick as u32));
        let was = std::mem::replace(&mut self.alone[*brick], alone);
        let Some(report) = me.report() else { return Ok(()) };
        let lacks = other.disk.durable < report.commit || other.tag(report.commit) != me.tag(report.commit);
        // (Two that make their logs equal first, after a joining that was cut off, are no members before that: I8.)
        if was && members == Members::Both && report.status == Status::Solo && lacks {
            return Err(format!(
                "brick {brick} makes the other one a member: it has executed {}, the other one's log is durable up to {}",
                report.commit, other.disk.durable
            ));
        }
        Ok(())
    }
}
