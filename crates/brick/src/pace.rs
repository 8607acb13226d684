//! A disk that answers, but takes far longer than the peer's (PROTOCOL.md section 13, attack 2).
//!
//! W1  It leaves when half of its last syncs took `SLOW_SYNC` or longer, and `SLOW_RATIO` times what the peer's take: mail
//!     would crawl on both hosts, since every commit waits for both. One slow sync, or a load that slows both, is nothing.
//! W2  It leaves only if the other one may go on without it: slow mail is better than none.
//! W3  It comes back as one that was stalled: after a rest that grows, and as a learner, who holds up nobody. Is it slow at
//!     that too, it leaves again before it is a member.
//!
//! Not here: a disk that does not answer at all, and how a brick leaves (`stall`).

use crate::{
    brick::Brick,
    output::{Event, Output},
    view::Stand,
};
use alloc::{collections::VecDeque, format, string::ToString, vec::Vec};
use mboxfs_types::{Nanos, limits, quorum::Policy};

/// Syncs that are looked at: a slow disk is noticed after half as many slow ones.
const SYNCS: usize = 20;

/// How long syncs of the log take.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    last: VecDeque<Nanos>,
    /// The peer's median, as it says; 0: unknown.
    peer: Nanos,
    /// It left for that: more is needed to trust it again.
    wary_until: Nanos,
}

impl Pace {
    pub(crate) fn took(&mut self, time: Nanos) {
        if self.last.len() == SYNCS {
            self.last.pop_front();
        }
        self.last.push_back(time);
    }

    pub(crate) const fn peer_says(&mut self, median: Nanos) {
        self.peer = median;
    }

    /// Of the last syncs; 0 before there were enough.
    pub(crate) fn median(&self) -> Nanos {
        if self.last.len() < SYNCS {
            return Nanos(0);
        }
        let mut sorted: Vec<Nanos> = self.last.iter().copied().collect();
        sorted.sort_unstable();
        sorted[SYNCS / 2]
    }

    /// W1.
    fn is_slow(&self) -> bool {
        // Looked at in every step: the median is made only behind a slow sync.
        if self.last.back().is_none_or(|took| *took < limits::SLOW_SYNC) {
            return false;
        }
        let median = self.median();
        self.peer.0 > 0 && median >= limits::SLOW_SYNC && median.0 / limits::SLOW_RATIO >= self.peer.0
    }

    /// W3.
    fn is_still_slow(&self, now: Nanos) -> bool {
        now < self.wary_until && self.last.iter().any(|took| *took >= limits::SLOW_SYNC)
    }

    /// What was seen up to now counts no more.
    fn begin(&mut self, now: Nanos) {
        self.last.clear();
        self.wary_until = now + limits::REST_FORGOTTEN;
    }
}

impl Brick {
    /// After a step.
    pub(crate) fn watch_pace(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let slow = match self.stand {
            Stand::Normal => self.stall.pace.is_slow() && self.may_be_done_without(),
            Stand::Learner { .. } => self.stall.pace.is_still_slow(now),
            _ => false,
        };
        if !slow || self.stopping {
            return;
        }
        let (own, peer) = (self.stall.pace.median(), self.stall.pace.peer);
        self.stall.pace.begin(now);
        self.stall.leave_for_a_rest(now);
        Self::event(Event::Slow { own, peer }, out);
        let why = if own.0 == 0 {
            "its disk is slow still".to_string()
        } else {
            format!("its disk is slow, {} ms a sync", own.0 / 1_000_000)
        };
        self.leave(&why, out);
    }

    /// W2.
    fn may_be_done_without(&self) -> bool {
        match self.sb.quorum.quorum.policy {
            Policy::None => true,
            Policy::Witness => self.asking.heard == Some(true),
            Policy::Both => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Nanos {
        Nanos::from_millis(n)
    }

    fn pace(own: impl Iterator<Item = u64>, peer: u64) -> Pace {
        let mut pace = Pace::default();
        own.for_each(|took| pace.took(ms(took)));
        pace.peer_says(ms(peer));
        pace
    }

    #[test]
    fn w1_slow_is_what_is_slow_most_of_the_time_and_the_peer_is_not() {
        assert!(pace((0..20).map(|_| 600), 2).is_slow());
        assert!(!pace((0..19).map(|_| 600), 2).is_slow(), "too few to tell");
        assert!(!pace((0..20).map(|_| 600), 0).is_slow(), "nothing is known of the peer");
        assert!(
            !pace((0..20).map(|_| 600), 200).is_slow(),
            "the peer is not much better"
        );
        assert!(!pace((0..20).map(|_| 400), 1).is_slow(), "slow, but not that slow");
        let now_and_then = (0..40).map(|i| if i % 3 == 0 { 1900 } else { 3 });
        assert!(!pace(now_and_then, 2).is_slow());
        assert!(
            pace((0..40).map(|i| if i < 29 { 1 } else { 600 }), 2).is_slow(),
            "since lately"
        );
    }

    #[test]
    fn w3_who_was_slow_is_tried_as_a_learner_first() {
        let mut pace = pace((0..20).map(|_| 600), 2);
        pace.begin(ms(1000));
        assert!(!pace.is_slow() && !pace.is_still_slow(ms(1000)));
        pace.took(ms(3));
        assert!(!pace.is_still_slow(ms(2000)));
        pace.took(ms(700));
        assert!(pace.is_still_slow(ms(2000)));
        assert!(!pace.is_still_slow(ms(1000) + limits::REST_FORGOTTEN), "long ago");
    }
}
