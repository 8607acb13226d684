//! Disks: how long they take, and that they fail.
//!
//! Promises: nothing is durable before it is answered; a daemon whose disk fails says goodbye and ends (K2 of `brickd::disk`).
//! Not here: what they hold (`disk`, `image`).

use super::{Event, MS, US, World};
use crate::{disk::Thread, invariants::Fact, plan::Policy};
use mboxfs_brick::{input::Input, quorum::Order};
use mboxfs_types::{
    admin::Status,
    disk::{DiskOp, Worth},
};

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
        let begin = self.hosts[i].stands_until(thread).max(self.now);
        let life = self.hosts[i].life;
        self.at(begin + time, Event::Disk { brick: i, life, thread });
    }

    pub(crate) fn on_disk(&mut self, i: usize, life: u64, thread: Thread) {
        if self.hosts[i].life != life {
            return;
        }
        let until = self.hosts[i].stands_until(thread);
        if self.now < until {
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

    /// A byte of a mailbox rots, of which the other brick has a good copy.
    pub(crate) fn rot(&mut self, i: usize) {
        let [a, b] = &mut self.hosts;
        let (here, other) = if i == 0 { (a, b) } else { (b, a) };
        if let Some((ino, at)) = here.disk.image.rot(&other.disk.image, &mut self.rng) {
            self.rots += 1;
            self.journal
                .event(self.now, format_args!("brick{i}: byte {at} of {ino} rots"));
        }
    }

    /// A byte of a record rots, in one log at a time.
    pub(crate) fn rot_log(&mut self, i: usize) {
        let (host, other) = (&self.hosts[i], &self.hosts[1 - i]);
        let proved = host.records.range(..=host.disk.proved()).count() as u64;
        if proved == 0 || host.disk.log_rots() || other.disk.log_rots() {
            return;
        }
        let nth = self.rng.below(proved) as usize;
        let Some(record) = host.records.values().nth(nth).cloned() else {
            return;
        };
        if self.hosts[i].disk.rot_log(&record, &mut self.rng) {
            let n = record.tag.n;
            self.journal
                .event(self.now, format_args!("brick{i}: record {n} of the log rots"));
        }
    }

    /// A brick cannot be opened: its log rots, and must not be cut (store R2). Its operator gives it a new directory, if the
    /// other brick has everything and goes on, if need be by his word; else somebody has to make the device give the byte back.
    pub(crate) fn refused(&mut self, i: usize, why: &str) {
        self.journal.event(
            self.now,
            format_args!("brick{i} is refused by its operator's own tool: {why}"),
        );
        let both = self.settings.policy == Policy::Both;
        match self.status(1 - i) {
            Some(Status::Solo) if self.knows_all(1 - i) => self.replace_disk(i),
            // What is there goes when the other one has gone on, and not before.
            Some(Status::Waiting) if both && self.knows_all(1 - i) && self.order(1 - i, Order::ForceSolo).is_ok() => {}
            _ => self.hosts[i].disk.restore_log(),
        }
        self.after(RESTART, Event::Start { brick: i });
    }

    /// Has this brick all that was acknowledged, and may the other one's directory go? Under `quorum both` nobody was told of
    /// what only one has, unless it had gone on alone: that begins another generation.
    fn knows_all(&self, i: usize) -> bool {
        let [here, gone] = [i, 1 - i].map(|i| &self.hosts[i]);
        let last = gone.disk.durable;
        let same = here.disk.durable >= last && here.tag(last) == gone.tag(last);
        let never_alone = gone.disk.superblock.g.num == 0;
        let pair = self.settings.policy == Policy::Both && never_alone;
        (same || pair) && here.disk.image.is_clean() && gone.disk.superblock.files == Worth::Whole
    }

    pub(crate) fn disk_failed(&mut self, i: usize, why: String) {
        self.journal.event(self.now, format_args!("brick{i} disk fails: {why}"));
        self.feed(i, Input::Failed { why });
        self.kill(i);
        self.hosts[i].disk.repair();
        self.after(RESTART, Event::Start { brick: i });
    }
}
