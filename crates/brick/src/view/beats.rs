//! Heartbeats and what follows from their absence (PROTOCOL.md section 6.1).
//!
//! Promises: G2 of `view`: who answered a ping does not go on alone before `PROMISE` is over; who got no answer stops serving
//! after `SERVE`.
//! Not here: a disk that stands still (`stall`), who may go on alone (`quorum`).

use super::Stand;
use crate::{brick::Brick, output::Output};
use alloc::vec::Vec;
use mboxfs_types::{
    limits,
    peer::{Beat, Ping, Pong},
};

impl Brick {
    pub(super) fn ping(&mut self, out: &mut Vec<Output>) {
        self.peer.next_ping = self.clock.mono + limits::BEAT;
        let ping = Ping {
            sent: self.clock.mono,
            view: self.view,
            real: self.clock.real,
            space: self.space,
            sync: self.stall.pace.median(),
        };
        out.push(Output::Beat(Beat::Ping(ping)));
    }

    pub(crate) fn on_beat(&mut self, beat: Beat, out: &mut Vec<Output>) {
        match beat {
            // One that learns promises too: the survivor may be about to make it a member.
            Beat::Ping(ping)
                if matches!(self.stand, Stand::Learner { .. })
                    || self.stand == Stand::Normal && ping.view == self.view =>
            {
                self.peer.promise_until = self.clock.mono + limits::PROMISE;
                self.peer_space = Some(ping.space);
                self.stall.pace.peer_says(ping.sync);
                out.push(Output::Beat(Beat::Pong(Pong {
                    sent: ping.sent,
                    view: ping.view,
                })));
            }
            Beat::Pong(pong) if (self.stand == Stand::Normal || self.is_joint()) && pong.view == self.view => {
                let until = pong.sent + limits::SERVE;
                self.peer.serve_until = self.peer.serve_until.max(until);
                self.peer.lapse_at = self.peer.lapse_at.max(until);
            }
            _ => {}
        }
    }

    pub(crate) fn on_goodbye(&mut self, why: &str, out: &mut Vec<Output>) {
        self.note_away(why, true);
        if self.stand == Stand::Normal {
            // It revokes its promise, and waits for none of ours.
            self.suspect(self.clock.mono, "the peer said goodbye", out);
            self.try_alone(out);
        }
    }

    /// Stops serving when the peer may have gone on alone (G2). Before every input: after a stop of this process too.
    pub(crate) fn check_lapse(&mut self, out: &mut Vec<Output>) {
        let lapsed = self.clock.mono >= self.peer.lapse_at;
        match self.stand {
            Stand::Normal if lapsed => self.suspect(self.alone_at(), "the peer does not answer", out),
            Stand::Solo { catch_up: Some(_) } if lapsed && self.is_witnessed() && self.is_joint() => {
                self.leave_joint("the peer does not answer while it is joining", out);
            }
            _ => {}
        }
    }

    pub(crate) fn tick_view(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        match &self.stand {
            Stand::Normal => {
                if now >= self.peer.next_ping {
                    self.ping(out);
                }
                self.tick_register(out);
            }
            Stand::Waiting { .. } if self.stall.keeps_away(now) => {}
            Stand::Waiting { alone_at } if now >= (*alone_at).max(self.stall.looks_until()) => self.try_alone(out),
            Stand::Solo { catch_up: Some(_) } if self.is_witnessed() => {
                if now >= self.peer.next_ping {
                    self.ping(out);
                }
                if self.is_joint() {
                    self.on_learner_durable(self.peer.durable, out);
                }
            }
            Stand::Rejoining(r) if now >= r.since + limits::REATTACH => {
                self.suspect(self.alone_at(), "the handshake takes too long", out);
            }
            _ => {}
        }
    }
}
