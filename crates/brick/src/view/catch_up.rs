//! Catching up: the survivor sends what the other one lacks, then lets it join (PROTOCOL.md sections 6.3, 6.4).
//!
//! Promises: G4 of `view`: a brick becomes a member only by a record that both have, written down by the survivor first.
//! Not here: who is to learn from whom (`line`), what a line that is given up leaves (`give_up`).

use super::{CatchUp, Stand};
use crate::{brick::Brick, line, output::Output};
use alloc::vec::Vec;
use mboxfs_types::{
    BrickId, GenId, Nanos,
    call::View,
    disk::Worth,
    limits,
    peer::{Hello, ToPeer},
    planted::Bug,
    record::{Body, Members},
};

impl Brick {
    /// The peer lacks what came after `common`, or gets files first.
    pub(super) fn on_learner(&mut self, common: u64, whole: bool, theirs: &Hello, out: &mut Vec<Output>) {
        if !matches!(self.stand, Stand::Solo { .. }) || whole || theirs.last > common {
            // Not serving yet, or it will ask, or it first drops what never counted: it comes again.
            return;
        }
        if self.log.start > common + 1 {
            return self.refuse_peer("the log was trimmed meanwhile", out);
        }
        self.feed_log(common, out);
    }

    /// Sends the log after `common`.
    pub(crate) fn feed_log(&mut self, common: u64, out: &mut Vec<Output>) {
        self.begin_feed(common);
        let catch_up = CatchUp {
            next: common + 1,
            began: common + 1,
            since: self.clock.mono,
            reading: false,
            joint: None,
            promoting: false,
        };
        self.peer.durable = common;
        self.stand = Stand::Solo {
            catch_up: Some(catch_up),
        };
        self.sb.diverged = None; // written with the next superblock; until then its peer says that it learns
        if common < self.log.last {
            self.send_more(out);
        } else {
            self.join(out);
        }
    }

    pub(super) fn learn(&mut self, common: u64, whole: bool, theirs: &Hello, out: &mut Vec<Output>) {
        let of_its_own = self.sb.files != Worth::Copying && self.log.start <= common + 1;
        if of_its_own && (self.log.last > common || matches!(self.stand, Stand::Solo { .. })) {
            // Above the common point are records that nobody relies on (V2); as after a crash, without them.
            if !self.saves_first(common, out) {
                out.push(Output::Reload { keep: common });
            }
            return;
        }
        if whole {
            return self.begin_resync(common, theirs, out);
        }
        self.drop_mounts(out);
        self.follow(theirs.brick, theirs.view);
        self.write_superblock(out);
        self.set_stand(
            Stand::Learner { commit: common },
            "gets what it lacks from its peer",
            out,
        );
    }

    /// Everything was sent: from the next record on commits need both.
    pub(super) fn join(&mut self, out: &mut Vec<Output>) {
        let g = self.new_generation();
        self.view = View { g, v: 0 };
        // A promise for the generation that is joined, and none before it (`quorum` A3).
        self.peer.serve_until = Nanos(0);
        self.peer.lapse_at = self.clock.mono + limits::SERVE;
        let joint = self.log.last + 1;
        line::extend_empty(&mut self.sb.history, self.view, joint);
        if let Stand::Solo { catch_up: Some(c) } = &mut self.stand {
            c.joint = Some(joint);
        }
        out.push(Output::Peer(ToPeer::Suffix { records: Vec::new() }));
        self.number(
            Body::NewGen {
                g,
                members: Members::Both,
                primary: self.me,
            },
            out,
        );
    }

    /// How far a catch-up is: records that the peer got, of how many, and when it began.
    pub(crate) fn sending(&self) -> Option<(u64, u64, Nanos)> {
        let Stand::Solo { catch_up: Some(c) } = &self.stand else {
            return None;
        };
        let before = c.began - 1;
        let done = self.peer.durable.saturating_sub(before);
        Some((done, self.log.last - before, c.since))
    }

    /// Source of a catch-up: the learner reported progress.
    pub(crate) fn on_learner_durable(&mut self, n: u64, out: &mut Vec<Output>) {
        let last = self.log.last;
        if self.sending().is_some() {
            self.pay(n.min(last), out);
        }
        let Stand::Solo { catch_up: Some(c) } = &mut self.stand else {
            return;
        };
        match c.joint {
            None if n + 1 == c.next && c.next <= last && !c.reading => self.send_more(out),
            Some(joint) if !c.promoting && (n >= joint || Bug::LearnerEarly.here()) && self.log.durable >= joint => {
                if self.is_witnessed() {
                    self.ask_join(out);
                } else {
                    self.promote(out);
                }
            }
            _ => {}
        }
    }

    /// The peer has all that was sent, and lacks more.
    fn send_more(&mut self, out: &mut Vec<Output>) {
        let Stand::Solo { catch_up: Some(c) } = &mut self.stand else {
            return;
        };
        c.reading = true;
        let from = c.next;
        self.feed_records(from, out);
    }

    /// The peer has everything, and may be a member.
    pub(crate) fn promote(&mut self, out: &mut Vec<Output>) {
        let Stand::Solo { catch_up: Some(c) } = &mut self.stand else {
            return;
        };
        c.promoting = true;
        self.write_both(self.me, out);
    }

    /// Alone, and the peer has begun to join: commits need both.
    pub(crate) const fn is_joint(&self) -> bool {
        matches!(
            self.stand,
            Stand::Solo {
                catch_up: Some(CatchUp { joint: Some(_), .. })
            }
        )
    }

    /// Learner: the survivor says what is committed.
    pub(crate) fn on_commit(&mut self, n: u64) {
        if let Stand::Learner { commit } = &mut self.stand {
            *commit = (*commit).max(n);
        }
    }

    /// A generation began in the log, and the record is committed.
    pub(crate) fn on_new_gen(&mut self, g: GenId, members: Members, primary: BrickId, out: &mut Vec<Output>) {
        // What is caught up with may hold older generations of both. This brick became a member of none of them: the one
        // that counts was begun by the survivor for this catch-up, after the generation that it is alone in.
        if matches!(self.stand, Stand::Learner { .. }) && members == Members::Both && g.num > self.view.g.num {
            self.view = View { g, v: 0 };
            self.sb.g = g;
            self.sb.v = 0;
            self.sb.members = members;
            self.sb.primary = primary;
            self.sb.files = Worth::Whole; // the log up to here makes copied files right
            self.write_superblock(out);
        }
    }

    /// Last committed position.
    pub(crate) fn commit_index(&self) -> u64 {
        match &self.stand {
            Stand::Normal | Stand::Solo { .. } if Bug::AckBeforeSync.here() => self.log.last,
            Stand::Normal if Bug::ReplyBeforePeer.here() => self.log.durable,
            Stand::Solo { .. } if Bug::JointAlone.here() => self.log.durable,
            Stand::Normal => self.log.durable.min(self.peer.durable),
            Stand::Solo {
                catch_up: Some(CatchUp { joint: Some(joint), .. }),
            } => {
                // Records before the joint one were committed alone.
                let both = self.log.durable.min(self.peer.durable);
                both.max(self.log.durable.min(joint - 1))
            }
            Stand::Solo { .. } | Stand::Yielding { .. } => self.log.durable,
            Stand::Learner { commit } => self.log.durable.min(*commit),
            _ => self.state.applied,
        }
    }

    /// Are records sent to the peer as they are numbered?
    pub(crate) fn peer_is_live(&self) -> bool {
        match &self.stand {
            Stand::Normal => true,
            Stand::Solo { catch_up: Some(c) } => c.joint.is_some(),
            _ => false,
        }
    }
}
