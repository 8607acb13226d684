//! I4 and I18, laws L1 and L2: a request is numbered once in a line of history, however often it was sent.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{disk::DiskOp, record::Body};

pub(super) struct Once;

impl Watch for Once {
    fn names(&self) -> (&'static str, &'static str) {
        ("I4", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Disk(DiskOp::Append(record)),
        } = fact
        else {
            return Ok(());
        };
        let Body::Op { id, .. } = &record.body else {
            return Ok(());
        };
        match world.hosts[*brick].by_op.get(id) {
            Some(n) if *n < record.tag.n && world.hosts[*brick].report().is_none_or(|r| r.commit >= *n) => {
                Err(format!("{id:?} is record {n} and record {}", record.tag.n))
            }
            _ => Ok(()),
        }
    }
}
