//! What breaks, and how it is whole again.
//!
//! Promises: each fault has an end of its own; [`World::mend`] ends them all.
//! Not here: which faults there are in a world (`plan`).

use super::{Event, MS, World, net::Kind};
use crate::{
    disk::Disk,
    mailers::{Dovecot, Mutt, Postfix, Reader, Unlocked},
    plan::{Action, Job},
};
use mboxfs_brick::input::Input;

/// A session outlives two interruptions within this time, not any number: somebody has to be there for its grace.
const OUTLIVED: u64 = 2_000 * MS;

impl World {
    /// Carries out an action of the plan.
    pub(crate) fn act(&mut self, action: &Action) {
        self.journal.event(self.now, format_args!("# {action}"));
        self.gentle &= action.is_gentle();
        if action.interrupts() {
            let [earlier, last] = self.interrupted;
            self.gentle &= earlier.is_none_or(|at| self.now >= at + OUTLIVED);
            self.interrupted = [last, Some(self.now)];
        }
        match action {
            Action::Run { at, mailbox, job } => self.run_job(*at, mailbox, job),
            Action::KillOne { at, nth } => {
                let all = self.processes.iter().enumerate();
                let living: Vec<usize> = all.filter(|(_, p)| p.mount == *at && !p.over).map(|(i, _)| i).collect();
                if !living.is_empty() {
                    self.kill_process(living[*nth as usize % living.len()]);
                }
            }
            Action::Crash { brick, ms } => {
                self.kill(*brick);
                self.after(ms * MS, Event::Start { brick: *brick });
            }
            Action::Stop { brick, ms } => {
                self.hosts[*brick].again_after = Some(*ms);
                self.stop(*brick);
            }
            Action::Power { host, ms } => {
                self.power_off(*host);
                self.after(ms * MS, Event::Boot { host: *host });
            }
            Action::Cut { from, to, ms, refuses } => {
                self.net.refuses = *refuses;
                self.net.cut[*from][*to] = self.now + ms * MS;
            }
            Action::Break { kind } => {
                self.break_conn([Kind::Peer, Kind::Beat, Kind::Mount(0), Kind::Mount(1)][*kind as usize % 4])
            }
            Action::SlowNet { kind, more, ms } => self.net.slow[*kind as usize % 3] = (more * MS, self.now + ms * MS),
            Action::Freeze { brick, ms } => self.freeze(*brick, *ms),
            Action::FreezeMount { at, ms } => {
                self.mounts[*at].stopped_until = self.now + ms * MS;
                self.after(ms * MS, Event::WakeMount { mount: *at });
            }
            Action::Stall { brick, ms, files: true } => self.hosts[*brick].stuck_until = self.now + ms * MS,
            Action::Stall { brick, ms, .. } => self.stall_disk(*brick, *ms),
            Action::SlowDisk { brick, more, ms } => self.hosts[*brick].slow = (more * MS, self.now + ms * MS),
            Action::FailSync { brick, after } => self.hosts[*brick].disk.fail_sync(*after),
            Action::Rot { brick } => self.rot(*brick),
            Action::RotLog { brick } => self.rot_log(*brick),
            Action::RotSuperblock { brick } => {
                let _ = self.hosts[*brick].disk.rot_superblock(&mut self.rng);
            }
            Action::Full { brick, room } => self.hosts[*brick].disk.room = self.hosts[*brick].disk.image.bytes() + room,
            Action::Room { brick } => self.hosts[*brick].disk.room = 1 << 40,
            Action::Clock { host, secs } => self.hosts[*host].jump += secs,
            Action::KillDaemon { at } => self.kill_daemon(*at),
            Action::Remount { at } => {
                self.processes_vanish(*at);
                self.mount_anew(*at);
            }
            Action::WitnessDown { ms } => self.third.down_until = self.now + ms * MS,
            Action::WitnessCut { brick, asks, tells, ms } => {
                let until = self.now + ms * MS;
                if *asks {
                    self.third.deaf_to[*brick] = until;
                }
                if *tells {
                    self.third.mute_to[*brick] = until;
                }
            }
            Action::WitnessSlow { ms } => self.third.slow = *ms,
        }
    }

    fn run_job(&mut self, at: usize, mailbox: &str, job: &Job) {
        if !self.hosts[at].power {
            return;
        }
        self.oracle.mailboxes.insert(mailbox.into());
        match *job {
            Job::Postfix { lines, writes } => self.spawn(at, Box::new(Postfix::new(mailbox, lines, writes as usize))),
            Job::Dovecot { every, how } => self.spawn(at, Box::new(Dovecot::new(mailbox, every, how))),
            Job::Mutt { lines } => {
                let temp = format!("{mailbox}.tmp.{}", self.begun());
                self.spawn(at, Box::new(Mutt::new(mailbox, &temp, lines)));
            }
            Job::Unlocked { lines } => self.spawn(at, Box::new(Unlocked::new(mailbox, lines))),
            Job::Reader => self.spawn(at, Box::new(Reader::new(mailbox))),
        }
    }

    /// SIGKILL of a daemon: memory is gone, also what was on its way to the disk.
    pub fn kill(&mut self, i: usize) {
        if self.hosts[i].brick.is_some() {
            self.journal.event(self.now, format_args!("brick{i} is killed"));
            let mut rng = self.rng.clone();
            self.hosts[i].disk.kill(&mut rng);
            self.rng = rng;
            self.forget_life(i);
        }
    }

    /// SIGTERM: the brick tells its peer, writes a checkpoint and ends.
    pub fn stop(&mut self, i: usize) {
        self.feed(i, Input::Stop);
    }

    /// A server loses power: brick, mount and programs are gone, and what its disk had not synced.
    pub fn power_off(&mut self, i: usize) {
        if !self.hosts[i].power {
            return;
        }
        self.kill(i);
        let mut rng = self.rng.clone();
        self.hosts[i].disk.power_off(&mut rng);
        self.rng = rng;
        self.processes_vanish(i);
        self.mount_anew(i);
        // Nobody hears anything from it, not even that its streams ended.
        self.hosts[i].power = false;
    }

    pub(crate) fn boot(&mut self, i: usize) {
        self.hosts[i].power = true;
        self.start(i);
    }

    /// A new directory in the place of a brick that is down, for a volume that it belongs to by an operator's word.
    pub fn replace_disk(&mut self, i: usize) {
        self.journal
            .event(self.now, format_args!("brick{i} gets a new directory"));
        let host = &mut self.hosts[i];
        let brick = host.disk.superblock.brick;
        host.disk = Disk::replacement(brick, self.settings.segment_bytes).with_files(self.settings.files);
        host.drop_above(0);
    }

    /// SIGSTOP, and SIGCONT later: what comes meanwhile waits.
    pub fn freeze(&mut self, i: usize, ms: u64) {
        self.hosts[i].stopped_until = self.now + ms * MS;
        self.after(ms * MS, Event::Wake { brick: i });
    }

    /// The disk does nothing for so long.
    pub fn stall_disk(&mut self, i: usize, ms: u64) {
        let host = &mut self.hosts[i];
        host.stalled_until = host.stalled_until.max(self.now) + ms * MS;
    }

    #[must_use]
    pub fn is_up(&self, i: usize) -> bool {
        self.hosts[i].brick.is_some()
    }

    pub fn restart_later(&mut self, i: usize, ms: u64) {
        self.after(ms * MS, Event::Start { brick: i });
    }

    /// The two servers do not reach each other, until [`Self::mend`].
    pub fn part(&mut self) {
        self.silence(0);
        self.silence(1);
    }

    /// Nothing from the other server reaches this one.
    pub const fn silence(&mut self, to: usize) {
        self.net.cut[1 - to][to] = u64::MAX;
    }

    /// The stream between the bricks breaks.
    pub fn drop_link(&mut self) {
        self.break_conn(Kind::Peer);
    }

    /// The stream of a mount to its brick breaks.
    pub fn break_stream(&mut self, m: usize) {
        self.break_conn(Kind::Mount(m));
    }

    /// All wires are whole again.
    pub const fn mend_wires(&mut self) {
        self.net.cut = [[0; 2]; 2];
        self.net.refuses = false;
        self.net.slow = [(0, 0); 3];
        self.third.down_until = 0;
        self.third.deaf_to = [0; 2];
        self.third.mute_to = [0; 2];
        self.third.slow = 0;
    }

    /// Everything is whole again, and runs.
    pub fn mend(&mut self) {
        self.mend_wires();
        for i in 0..2 {
            let host = &mut self.hosts[i];
            host.slow = (0, 0);
            host.stalled_until = host.stalled_until.min(self.now);
            host.stuck_until = host.stuck_until.min(self.now);
            host.disk.room = 1 << 40;
            host.disk.repair();
            if !host.power {
                self.boot(i);
            }
            self.start(i);
            self.hosts[i].stopped_until = self.hosts[i].stopped_until.min(self.now);
            self.wake(i);
            self.mounts[i].stopped_until = self.mounts[i].stopped_until.min(self.now);
            self.wake_mount(i);
        }
    }
}
