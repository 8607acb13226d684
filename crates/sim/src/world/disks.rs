//! Disks: how long they take, and that they fail.
//!
//! Promises: nothing is durable before it is answered; a daemon whose disk fails says goodbye and ends (K2 of `brickd::disk`).
//! Not here: what they hold (`disk`, `image`).

use super::{Event, MS, US, World};
use crate::{disk::Thread, invariants::Fact};
use mboxfs_brick::input::Input;
use mboxfs_types::disk::DiskOp;

/// systemd starts a failed daemon again after so long.
const RESTART: u64 = 500 * MS;

impl World {
    pub(crate) fn give_disk(&mut self, i: usize, op: DiskOp) {
        if let Some(thread) = self.hosts[i].disk.submit(op) {
            self.begin_disk(i, thread);
        }
    }

    fn begin_disk(&mut self, i: usize, thread: Thread) {
        let (some, flush) = self.hosts[i].disk.begin(thread);
        if !some {
            return;
        }
        let (low, high) = self.settings.disk_us;
        let mut time = if flush {
            self.rng.between(low, high) * US
        } else {
            self.rng.between(2, 40) * US
        };
        let host = &self.hosts[i];
        let (more, until) = host.slow;
        if self.now < until && flush {
            time += self.rng.below(more + 1);
        }
        let begin = self.hosts[i].stalled_until.max(self.now);
        let life = self.hosts[i].life;
        self.at(begin + time, Event::Disk { brick: i, life, thread });
    }

    pub(crate) fn on_disk(&mut self, i: usize, life: u64, thread: Thread) {
        if self.hosts[i].life != life {
            return;
        }
        if self.now < self.hosts[i].stalled_until {
            let until = self.hosts[i].stalled_until;
            return self.at(until, Event::Disk { brick: i, life, thread });
        }
        match self.hosts[i].disk.finish(thread) {
            Ok((done, next)) => {
                self.begin_disk(i, thread);
                if let Some(next) = next {
                    self.begin_disk(i, next);
                }
                self.see(&Fact::Written { brick: i });
                for done in done {
                    self.feed(i, Input::Disk(done));
                }
            }
            Err(why) => self.disk_failed(i, why),
        }
    }

    pub(crate) fn disk_failed(&mut self, i: usize, why: String) {
        self.journal.event(self.now, format_args!("brick{i} disk fails: {why}"));
        self.feed(i, Input::Failed { why });
        self.kill(i);
        self.hosts[i].disk.repair();
        self.after(RESTART, Event::Start { brick: i });
    }
}
