//! I7, law L2: under `witness` and `both` what was executed once is never another record, on either brick.

use super::{Fact, Watch};
use crate::{plan::Policy, world::World};
use mboxfs_types::Tag;
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct OneLine {
    executed: BTreeMap<u64, Tag>,
    checked: [(u64, u64); 2],
}

impl Watch for OneLine {
    fn names(&self) -> (&'static str, &'static str) {
        ("I7", "L2")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Step { brick } = fact else { return Ok(()) };
        let host = &world.hosts[*brick];
        let Some(b) = &host.brick else { return Ok(()) };
        if b.quorum().policy == Policy::None || world.forced {
            return Ok(());
        }
        let commit = b.report().commit;
        let (life, checked) = self.checked[*brick];
        let from = if life == host.life { checked } else { 0 };
        for (n, record) in host.records.range(from + 1..).take_while(|(n, _)| **n <= commit) {
            let tag = *self.executed.entry(*n).or_insert(record.tag);
            if tag != record.tag {
                return Err(format!(
                    "brick {brick} has executed {:?}, somebody else {tag:?}",
                    record.tag
                ));
            }
        }
        self.checked[*brick] = (host.life, commit);
        Ok(())
    }
}
