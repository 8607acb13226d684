//! I1, law L1: a change is acknowledged when its record is durable on every member: both bricks' disks, or the one that its
//! own disk says is alone.

use super::{Fact, Watch};
use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_types::{BrickId, OpId, admin::Status, call::ToMount, record::Members};

pub(super) struct Durable;

impl Watch for Durable {
    fn names(&self) -> (&'static str, &'static str) {
        ("I1", "L1")
    }

    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String> {
        let Fact::Says {
            brick,
            output: Output::Mount {
                conn,
                frame: ToMount::Reply(reply),
            },
        } = fact
        else {
            return Ok(());
        };
        let host = &world.hosts[*brick];
        let (Ok(_), Some(report)) = (&reply.result, host.report()) else {
            return Ok(());
        };
        let Some(session) = world.session_of(conn.0) else {
            return Ok(());
        };
        let id = OpId {
            session,
            seq: reply.seq,
        };
        let Some(n) = host.by_op.get(&id).copied() else {
            return Err(format!("brick {brick} acknowledges {id:?}, which is in no record"));
        };
        if host.disk.durable < n {
            return Err(format!(
                "brick {brick} acknowledges record {n}; its log is durable up to {}",
                host.disk.durable
            ));
        }
        let other = &world.hosts[1 - brick];
        let there = other.disk.durable >= n && other.tag(n) == host.tag(n);
        let me = BrickId::from_index(*brick as u32);
        let alone = matches!(host.disk.superblock.members, Members::Only(one) if Some(one) == me);
        match report.status {
            // One that stalls may have noticed in this very step.
            Status::Solo | Status::Diverged | Status::Stalled if alone || there => Ok(()),
            Status::Normal if there => Ok(()),
            status => Err(format!(
                "brick {brick} ({status:?}, alone on its disk: {alone}) acknowledges record {n}; the other one's log is \
                 durable up to {} and has {:?} there, not {:?}",
                other.disk.durable,
                other.tag(n),
                host.tag(n)
            )),
        }
    }
}
