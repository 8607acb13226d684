//! I6, law L1: in a generation of one brick, only that brick acknowledges; and its disk said so before it did.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{GenId, admin::Status, call::ToMount};
use std::collections::BTreeMap;

#[derive(Default)]
pub(super) struct Alone {
    by: BTreeMap<GenId, usize>,
}

impl Watch for Alone {
    fn names(&self) -> (&'static str, &'static str) {
        ("I6", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Mount {
                frame: ToMount::Reply(_),
                ..
            },
        } = fact
        else {
            return Ok(());
        };
        let Some(report) = world.hosts[*brick].report() else {
            return Ok(());
        };
        if report.status != Status::Solo {
            return Ok(());
        }
        let on_disk = world.hosts[*brick].disk.superblock.g;
        let by = *self.by.entry(report.view.g).or_insert(*brick);
        if by != *brick {
            return Err(format!("both bricks acknowledge alone in {:?}", report.view.g));
        }
        if on_disk.num + 1 < report.view.g.num {
            return Err(format!(
                "brick {brick} goes on alone in {:?}; its disk says {on_disk:?}",
                report.view.g
            ));
        }
        Ok(())
    }
}
