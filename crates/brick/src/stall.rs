//! A brick that is sick and not dead: its disk does not answer, its process was stopped, or it is about to end.
//!
//! T1  What the disk owes and does not give for `STALL` means: serve nobody, send the mounts to the other brick, tell that
//!     one to go on (PROTOCOL.md 9.2, section 13 attack 2). Only time in which this process ran counts. Changes of files are not
//!     answered: of them a sign is owed that comes between any two, each `SPACE_EVERY`. Much work is no stall.
//! T2  While it is so, and for a rest afterwards that grows with each stall, this brick keeps away from its peer: a member
//!     whose disk stands still would hold up every commit.
//! T3  A brick that was stopped notices it before it does anything else: what came meanwhile is not served (L3).
//!
//! Not here: errors of the disk (`brickd::fatal`), a slow one (`pace`), who goes on (`view`).

use crate::{
    brick::Brick,
    output::{Event, Output},
    pace::Pace,
    view::Stand,
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use mboxfs_types::{Nanos, admin::Away, limits, peer::ToPeer};

/// A longer time without a step means that this process did not run: a tick comes every 100 ms.
const PAUSE: Nanos = Nanos::from_millis(500);

/// What is known of the own disk.
#[derive(Debug, Default)]
pub(crate) struct Stall {
    /// The log owes something, and has given nothing since.
    log: Option<Nanos>,
    /// A mount waits for bytes of a file, and none has got any since.
    look: Option<Nanos>,
    /// Whoever changes files gives signs of life, ...
    signs: bool,
    /// ... and has given none since, in which somebody relied on the files.
    files: Option<Nanos>,
    stalled: bool,
    /// T2.
    rest_until: Nanos,
    rest: Nanos,
    /// When the last stall was noticed.
    last: Nanos,
    /// Of the last step.
    ran: Nanos,
    /// What the peer decided meanwhile was missed; it is looked for until then (see `met`).
    missed_until: Nanos,
    pub(crate) pace: Pace,
}

impl Stall {
    /// The log has done something.
    pub(crate) fn log_moved(&mut self, now: Nanos) {
        if let Some(since) = self.log.take() {
            self.pace.took(now - since);
        }
    }

    /// A question about a file was answered.
    pub(crate) const fn look_moved(&mut self) {
        self.look = None;
    }

    /// Whoever changes files is not stuck.
    pub(crate) const fn files_moved(&mut self) {
        (self.signs, self.files) = (true, None);
    }

    pub(crate) const fn is_stalled(&self) -> bool {
        self.stalled
    }

    /// T2.
    pub(crate) fn keeps_away(&self, now: Nanos) -> bool {
        self.stalled || now < self.rest_until
    }

    /// A brick that kept away, or was stopped, has missed what its peer decided: it looks for it for so long before it goes
    /// on alone, as one that starts.
    pub(crate) const fn looks_until(&self) -> Nanos {
        self.missed_until
    }

    /// The bricks are together.
    pub(crate) const fn met(&mut self) {
        self.missed_until = Nanos(0);
    }

    /// Takes in what is owed now. `serves`: somebody relies on the files. True: it has just become too much.
    fn watch(&mut self, now: Nanos, log_owes: bool, looks_owe: bool, serves: bool) -> bool {
        let files_owe = self.signs && (serves || self.stalled);
        for (since, owes) in [
            (&mut self.log, log_owes),
            (&mut self.look, looks_owe),
            (&mut self.files, files_owe),
        ] {
            *since = since.or(Some(now)).filter(|_| owes);
        }
        let files = self.files.map(|since| since + limits::SPACE_EVERY);
        let late = [self.log, self.look, files]
            .into_iter()
            .flatten()
            .any(|since| now >= since + limits::STALL);
        let was = core::mem::replace(&mut self.stalled, late);
        if was && !late {
            self.rest_from(now);
        }
        late && !was
    }

    fn rest_from(&mut self, now: Nanos) {
        self.rest_until = now + self.rest;
        self.missed_until = self.rest_until + limits::BOOT_WAIT;
    }

    /// Not stalled, and yet the peer is better off without this brick.
    pub(crate) fn leave_for_a_rest(&mut self, now: Nanos) {
        self.begin(now);
        self.rest_from(now);
    }

    fn begin(&mut self, now: Nanos) {
        let again = self.rest.0 > 0 && now < self.last + limits::REST_FORGOTTEN;
        self.rest = if again {
            Nanos(self.rest.0 * 2).min(limits::REST_MAX)
        } else {
            limits::REST
        };
        self.last = now;
    }

    /// T1: time in which the process stood still is not the disk's.
    fn pass(&mut self, now: Nanos) {
        let gone = now - self.ran;
        if self.ran.0 > 0 && gone >= PAUSE {
            for since in [&mut self.log, &mut self.look, &mut self.files].into_iter().flatten() {
                *since = *since + gone;
            }
        }
        if self.ran.0 > 0 && gone >= limits::SERVE {
            // The peer may have gone on alone.
            self.missed_until = now + limits::BOOT_WAIT;
        }
        self.ran = now;
    }
}

impl Brick {
    /// Before a step (T3).
    pub(crate) fn wake(&mut self, out: &mut Vec<Output>) {
        self.stall.pass(self.clock.mono);
        if !self.stopping {
            self.check_lapse(out);
        }
    }

    /// After a step (T1).
    pub(crate) fn watch_disk(&mut self, out: &mut Vec<Output>) {
        let log_owes = self.log.durable < self.log.last || self.sb_writes > 0;
        let looks_owe = self.looks.are_open();
        let serves = matches!(self.stand, Stand::Normal | Stand::Solo { .. });
        if !self.stopping && self.stall.watch(self.clock.mono, log_owes, looks_owe, serves) {
            self.stall.begin(self.clock.mono);
            Self::event(Event::Stalled, out);
            self.leave("its disk does not answer", out);
        }
        self.watch_pace(out);
    }

    /// Something of this brick has failed, and its process is about to end.
    pub(crate) fn on_failed(&mut self, why: &str, out: &mut Vec<Output>) {
        self.stopping = true;
        self.leave(why, out);
    }

    /// Serves nobody from now on; the peer goes on without waiting for the end of the promise. This brick goes on again only
    /// as that one's learner; if it is alone, when its disk answers.
    pub(crate) fn leave(&mut self, why: &str, out: &mut Vec<Output>) {
        self.drop_mounts(out);
        if self.peer.up {
            let why = cut(why);
            out.push(Output::Peer(ToPeer::Goodbye { why }));
            out.push(Output::DropPeer);
            self.peer.up = false;
        }
        match self.stand {
            // In a catch-up that has come to its end the peer may take itself for a member.
            Stand::Solo { .. } | Stand::Yielding { .. } | Stand::Copying => self.on_peer_lost(out),
            Stand::Normal | Stand::Rejoining(_) | Stand::Learner { .. } => {
                self.relayed.clear();
                self.set_stand(Stand::waiting(Nanos(u64::MAX)), "it keeps out of the way", out);
            }
            // Decides later: when its disk answers, and after it looked for its peer again.
            Stand::Waiting { .. } | Stand::GoingSolo | Stand::GivingUp => {}
        }
    }

    /// The peer is not in step any more. What was noticed first stays, but its own words are better.
    pub(crate) fn note_away(&mut self, why: &str, own_words: bool) {
        let mine = self.stall.keeps_away(self.clock.mono); // then it is not the peer who is away
        if !mine && (self.peer.away.is_none() || own_words) {
            self.peer.away = Some(Away {
                since: self.clock.real,
                why: cut(why),
            });
        }
    }
}

fn cut(why: &str) -> String {
    why[..why.floor_char_boundary(limits::REASON_BYTES_MAX.min(why.len()))].to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Nanos {
        Nanos::from_millis(n)
    }

    fn run(stall: &mut Stall, from: u64, to: u64, owes: bool) -> Option<u64> {
        (from..to).step_by(100).find(|t| {
            stall.pass(ms(*t));
            stall.watch(ms(*t), owes, false, true)
        })
    }

    #[test]
    fn t1_a_disk_that_gives_nothing_is_noticed_and_one_that_is_slow_is_not() {
        let mut stall = Stall::default();
        for begin in (1000..20_000).step_by(1900) {
            stall.log_moved(ms(begin));
            assert_eq!(run(&mut stall, begin, begin + 1900, true), None, "at {begin}");
        }
        assert_eq!(run(&mut stall, 20_000, 30_000, false), None, "nothing is owed");
        assert_eq!(run(&mut stall, 30_000, 40_000, true), Some(32_000));
        assert!(stall.is_stalled());
    }

    #[test]
    fn t1_files_that_are_stuck_are_noticed_though_nobody_waits_for_them() {
        let mut stall = Stall::default();
        for sign in (1000..10_000).step_by(2900) {
            stall.files_moved();
            assert_eq!(run(&mut stall, sign, sign + 2900, false), None, "at {sign}: much work");
        }
        assert_eq!(run(&mut stall, 12_600, 20_000, false), Some(12_700));
        stall.watch(ms(12_800), false, false, false);
        assert!(stall.is_stalled(), "also when it serves nobody any more");
        stall.files_moved();
        stall.watch(ms(20_000), false, false, false);
        assert!(!stall.is_stalled());
        assert!(!stall.watch(ms(30_000), false, false, false), "nobody relies on it");
    }

    #[test]
    fn t1_time_in_which_the_process_was_stopped_is_not_the_disks() {
        let mut stall = Stall::default();
        assert_eq!(run(&mut stall, 1000, 1500, true), None);
        assert_eq!(run(&mut stall, 9000, 10_000, true), None, "thawed");
        assert_eq!(run(&mut stall, 10_000, 12_000, true), Some(10_600));
    }

    #[test]
    fn t2_each_rest_is_longer_until_there_was_a_quiet_time() {
        let mut stall = Stall::default();
        let mut now = 1000;
        let mut rests = Vec::new();
        for _ in 0..3 {
            let at = run(&mut stall, now, now + 5000, true).expect("noticed");
            stall.begin(ms(at));
            stall.log_moved(ms(at));
            now = at + 100;
            stall.watch(ms(now), false, false, true);
            let end = (now..)
                .step_by(100)
                .find(|t| !stall.keeps_away(ms(*t)))
                .expect("an end");
            rests.push(end - now);
            now = end + if rests.len() == 2 { 700_000 } else { 0 };
        }
        assert_eq!(rests, [1000, 2000, 1000]);
    }
}
