//! I2, law L2: a number, generation and view name one record, ever, on either brick; a log goes on without gaps.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{Tag, disk::DiskOp, record::Record};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct OneRecord {
    seen: BTreeMap<Tag, Record>,
}

impl Watch for OneRecord {
    fn names(&self) -> (&'static str, &'static str) {
        ("I2", "L2")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Disk(DiskOp::Append(record)),
        } = fact
        else {
            return Ok(());
        };
        let n = record.tag.n;
        let last = world.hosts[*brick].records.last_key_value().map_or(0, |(n, _)| *n);
        if n > last + 1 {
            return Err(format!("brick {brick} logs record {n} behind {last}"));
        }
        let first = self.seen.entry(record.tag).or_insert_with(|| record.clone());
        if first != record {
            return Err(format!("two records are {:?}: {first:?} and {record:?}", record.tag));
        }
        Ok(())
    }
}
