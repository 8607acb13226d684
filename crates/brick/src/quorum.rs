//! Who may authorise one brick alone (PROTOCOL.md 6.2, T4 to T13): the policy, and questions to the witness.
//!
//! A1  Under `witness` a brick goes on alone only by an own, fresh, successful swap of the register; never by what a failed
//!     one reports (T5; bug 1 of PROTOCOL.md 11). Of an answer to a question that was given up nothing follows.
//! A2  A policy is in force on a brick when its record is executed. While one is in the log and not executed nobody
//!     authorises anything: so the two bricks never act by the old and the new policy at the same time.
//! A3  A survivor that lets its peer join under `witness` answers from leases only with the peer's promise from then on,
//!     and has the first one before it asks for the swap: behind the swap the peer may go on alone.
//! A4  A register that does not fit the bricks' generation is put right while both work (T13; bug 2).
//!
//! Not here: what going on alone is (`view`), the register (`witness`).

use crate::{
    brick::Brick,
    output::{Event, Output},
    view::Stand,
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use mboxfs_types::{
    GenId, Nanos,
    admin::ScrubVerb,
    call::View,
    disk::Worth,
    limits,
    planted::Bug,
    quorum::{AskWitness, Policy, Quorum, Register, Settled, Waits, WitnessAt, WitnessTell, WitnessVerb},
    record::{Body, Members},
};

/// Who decides whether this brick may be alone.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Authority {
    Itself,
    Witness(WitnessAt),
    Nobody,
}

/// What a question to the witness is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// T4, T10, T11.
    Alone,
    /// T9.
    Join,
    /// T13.
    Repair,
    /// Is it there, and does it fit?
    Look,
}

impl Purpose {
    /// Without an answer the same is asked again after this.
    const fn patience(self) -> Nanos {
        match self {
            Self::Look => Nanos(limits::WITNESS_LOOK.0 / 10), // nobody waits for it
            _ => limits::WITNESS_RETRY,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Asked {
    ticket: u64,
    purpose: Purpose,
    verb: WitnessVerb,
    again_at: Nanos,
}

/// What this brick asked the witness, and what hinders it.
#[derive(Debug, Default)]
pub(crate) struct Asking {
    tickets: u64,
    asked: Option<Asked>,
    /// After an answer that led nowhere.
    not_before: Nanos,
    /// The generation that the register was in when a swap failed: where the next one begins.
    told: Option<GenId>,
    /// Why this brick does not go on.
    pub(crate) waits: Option<Waits>,
    /// It answered, with our register.
    pub(crate) heard: Option<bool>,
    look_at: Nanos,
}

/// An operator's word to one brick.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Order {
    /// From now on this policy. `g`: the generation that a new register was made for, if one was.
    Quorum {
        /// The policy.
        quorum: Quorum,
        /// Of the register.
        g: Option<GenId>,
    },
    /// Go on alone, whatever the policy says.
    ForceSolo,
    /// Look for rot, or rest.
    Scrub(ScrubVerb),
    /// Begin at once to heal what is to be healed.
    Heal {
        /// Compare all content.
        full: bool,
    },
}

impl Brick {
    /// Obeys an operator.
    ///
    /// Errors: why not, in one line; nothing is changed.
    pub fn order(&mut self, now: crate::input::Clock, order: Order, out: &mut Vec<Output>) -> Result<(), String> {
        self.clock = now;
        match order {
            Order::Quorum { quorum, g } => self.set_quorum(quorum, g, out),
            Order::ForceSolo => self.force_solo(out),
            Order::Scrub(verb) => self.order_scrub(verb, out),
            Order::Heal { full } => self.heal_now(full, out),
        }?;
        self.advance(out);
        Ok(())
    }

    fn set_quorum(&mut self, quorum: Quorum, g: Option<GenId>, out: &mut Vec<Output>) -> Result<(), String> {
        if self.stand != Stand::Normal {
            return Err("both bricks must be online and in step".to_string());
        }
        if !self.is_primary() {
            return Err("the other brick is the primary".to_string());
        }
        if self.unsettled() {
            return Err("another change of the policy is under way".to_string());
        }
        if quorum.policy == Policy::Witness && g.is_some_and(|g| g != self.view.g) {
            return Err("the bricks began another epoch meanwhile".to_string());
        }
        self.number(Body::Quorum { quorum }, out);
        Ok(())
    }

    fn force_solo(&mut self, out: &mut Vec<Output>) -> Result<(), String> {
        let ahead = self.sb.files == Worth::Ahead && self.joint().is_none();
        match &self.stand {
            _ if self.sb.files == Worth::Copying || ahead => {
                Err("this brick does not have all of the volume: it would serve torn mailboxes".to_string())
            }
            Stand::Waiting { .. } => {
                self.sb.forced = true;
                self.go_solo("the operator says so", out);
                Ok(())
            }
            // The witness does not let the peer in, and never will: the operator does.
            Stand::Solo { .. } if self.is_joint() && self.asking.waits.is_some() => {
                self.sb.forced = true;
                self.asking = Asking::default();
                Ok(())
            }
            Stand::Solo { .. } => Err("this brick goes on alone already".to_string()),
            Stand::Normal => Err("both bricks work; nobody has to be alone".to_string()),
            Stand::Learner { .. } | Stand::Copying | Stand::Rejoining(_) | Stand::Yielding { .. } | Stand::GivingUp => {
                Err("its peer is here, and they are getting in step".to_string())
            }
            Stand::GoingSolo => Err("this brick is about to go on alone".to_string()),
        }
    }

    // ---- the policy

    /// A2. Both bricks get here.
    pub(crate) fn on_quorum(&mut self, n: u64, quorum: Quorum, out: &mut Vec<Output>) {
        if n <= self.sb.quorum.n {
            return; // replayed
        }
        Self::event(Event::Quorum { quorum: quorum.clone() }, out);
        self.sb.quorum = Settled { n, quorum };
        self.asking = Asking::default();
        self.write_superblock(out);
    }

    /// A2: is there a policy in the log that is not in force yet?
    fn unsettled(&self) -> bool {
        let settled = self.sb.quorum.n;
        let is_new = |r: &mboxfs_types::record::Record| r.tag.n > settled && matches!(r.body, Body::Quorum { .. });
        self.log.pending.iter().any(is_new)
    }

    fn authority(&self) -> Authority {
        let Settled { quorum, .. } = &self.sb.quorum;
        match (quorum.policy, &quorum.witness) {
            _ if self.sb.forced => Authority::Itself,
            _ if self.unsettled() => Authority::Nobody,
            (Policy::None, _) => Authority::Itself,
            (Policy::Witness, Some(at)) => Authority::Witness(at.clone()),
            (Policy::Witness, None) | (Policy::Both, _) => Authority::Nobody,
        }
    }

    /// Does the witness have a say in how this brick and its peer come together?
    pub(crate) fn is_witnessed(&self) -> bool {
        matches!(self.authority(), Authority::Witness(_))
    }

    /// How long a brick that starts without its peer waits before it tries to go on without it.
    pub(crate) fn boot_wait(&self) -> Nanos {
        let alone = self.sb.members == Members::Both && self.authority() == Authority::Itself;
        if alone { limits::BOOT_WAIT } else { limits::PROMISE }
    }

    // ---- alone

    /// Waited long enough: may this brick go on?
    pub(crate) fn try_alone(&mut self, out: &mut Vec<Output>) {
        let mine = self.sb.members == Members::Only(self.me);
        let joint = self.joint().is_some();
        match (self.authority(), self.sb.members) {
            _ if self.sb.files == Worth::Copying => self.wait_for(Waits::Survivor, out),
            // What the survivor began to let in is complete, and may be a member by now (T11).
            (Authority::Witness(_), Members::Only(_)) if !mine && joint => self.ask_alone(out),
            (_, Members::Only(_)) if !mine => self.wait_for(Waits::Survivor, out),
            (Authority::Itself, _) => self.go_solo("no peer", out),
            // T12: nobody else can have become a member.
            (_, Members::Only(_)) if !joint => {
                let v = self.view.v + 1;
                self.go_on(View { g: self.view.g, v }, "it was alone before", out);
            }
            (Authority::Witness(_), _) if Bug::WitnessUnasked.here() => self.go_solo("no peer", out),
            (Authority::Witness(_), _) => self.ask_alone(out),
            (Authority::Nobody, _) if self.unsettled() => self.wait_for(Waits::Unsettled, out),
            (Authority::Nobody, Members::Only(_)) => self.go_solo("it was alone before", out),
            (Authority::Nobody, Members::Both) => self.wait_for(Waits::Both, out),
        }
    }

    fn ask_alone(&mut self, out: &mut Vec<Output>) {
        if self.asking.asked.is_some() {
            return self.ask_again(out);
        }
        if self.clock.mono < self.asking.not_before {
            return;
        }
        let expect = self.asking.told.unwrap_or(self.newest());
        let want = self.new_generation();
        let members = Members::Only(self.me);
        self.ask(Purpose::Alone, WitnessVerb::Cas { expect, want, members }, out);
    }

    /// Newest generation in the log, or of this view: one that learns reads of the next one in the log first.
    fn newest(&self) -> GenId {
        let logged = self.sb.history.last().map_or(GenId::default(), |e| e.g);
        logged.max(self.view.g)
    }

    /// Higher than all that this brick knows of, and never drawn before.
    pub(crate) fn new_generation(&mut self) -> GenId {
        self.peer.generations += 1;
        let told = self.asking.told.map_or(0, |g| g.num);
        GenId {
            num: self.newest().num.max(told) + 1,
            brick: self.me.index(),
            nonce: self.nonce.wrapping_add(self.peer.generations),
        }
    }

    /// This brick does not go on: its mounts go to the other one, if they can.
    fn wait_for(&mut self, what: Waits, out: &mut Vec<Output>) {
        if self.asking.waits == Some(what) {
            return;
        }
        let first = self.asking.waits.is_none();
        let from = self.status();
        self.asking.waits = Some(what);
        let (to, View { g, v }) = (self.status(), self.view);
        let why = why(what);
        Self::event(Event::Status { from, to, g, v, why }, out);
        if first && !self.serving() {
            self.drop_mounts(out);
        }
    }

    // ---- together

    /// From which position on this brick, which was alone, or the one that it learns from, commits nothing alone: the
    /// superblock says "alone", and the log goes on in the generation of both.
    pub(crate) fn joint(&self) -> Option<u64> {
        if self.sb.members == Members::Both || self.sb.files == Worth::Copying {
            return None;
        }
        let newer = |e: &&mboxfs_types::disk::Epoch| e.g > self.sb.g && e.first <= self.log.last;
        self.sb.history.iter().find(newer).map(|e| e.first)
    }

    /// T9, as soon as the peer has everything and promised (A3).
    pub(crate) fn ask_join(&mut self, out: &mut Vec<Output>) {
        if self.asking.asked.is_some() {
            return self.ask_again(out);
        }
        if self.peer.serve_until <= self.clock.mono || self.clock.mono < self.asking.not_before {
            return;
        }
        let (expect, want) = (self.sb.g, self.view.g);
        let members = Members::Both;
        self.ask(Purpose::Join, WitnessVerb::Cas { expect, want, members }, out);
    }

    /// The bricks work together: how does the register look?
    pub(crate) fn tick_register(&mut self, out: &mut Vec<Output>) {
        if self.asking.asked.is_some() {
            self.ask_again(out);
        } else if self.clock.mono >= self.asking.look_at && self.is_witnessed() {
            self.asking.look_at = self.clock.mono + limits::WITNESS_LOOK;
            self.ask(Purpose::Look, WitnessVerb::Read, out);
        }
    }

    /// A4.
    fn repair(&mut self, register: Register, out: &mut Vec<Output>) {
        let named = match register.members {
            Members::Both => self.is_primary(),
            one => one.contains(self.me),
        };
        if register.g != self.view.g && named {
            self.asking.told = Some(register.g);
            let (expect, want) = (register.g, self.new_generation());
            let members = Members::Both;
            self.ask(Purpose::Repair, WitnessVerb::Cas { expect, want, members }, out);
        }
    }

    // ---- questions

    fn ask(&mut self, purpose: Purpose, verb: WitnessVerb, out: &mut Vec<Output>) {
        self.asking.tickets += 1;
        self.asking.asked = Some(Asked {
            ticket: self.asking.tickets,
            purpose,
            verb,
            again_at: self.clock.mono + purpose.patience(),
        });
        self.say_asked(out);
    }

    /// No answer yet: the same question once more (types W3).
    fn ask_again(&mut self, out: &mut Vec<Output>) {
        let Some(asked) = &mut self.asking.asked else { return };
        if self.clock.mono < asked.again_at {
            return;
        }
        asked.again_at = self.clock.mono + asked.purpose.patience();
        self.on_silence(out);
        self.say_asked(out);
    }

    fn say_asked(&self, out: &mut Vec<Output>) {
        let (Some(asked), Some(at)) = (self.asking.asked, &self.sb.quorum.quorum.witness) else {
            return;
        };
        let ask = AskWitness {
            volume: self.sb.volume.unwrap_or_default(),
            register: at.register,
            brick: self.me,
            verb: asked.verb,
        };
        let (ticket, at) = (asked.ticket, at.clone());
        out.push(Output::Witness { ticket, at, ask });
    }

    /// The peer is here: first see what the two make of each other (T2). What was asked has no effect any more (A1).
    pub(crate) fn give_up_asking(&mut self) {
        self.asking.asked = None;
        self.asking.not_before = self.clock.mono + limits::WITNESS_RETRY;
    }

    /// A wait begins or is over.
    pub(crate) fn forget_waits(&mut self) {
        self.asking.asked = None;
        self.asking.waits = None;
        self.asking.told = None;
        self.asking.not_before = Nanos(0);
        self.asking.look_at = self.clock.mono;
    }

    fn on_silence(&mut self, out: &mut Vec<Output>) {
        if self.asking.heard.replace(false) != Some(false) {
            Self::event(Event::WitnessSilent, out);
        }
        if matches!(self.stand, Stand::Waiting { .. }) {
            self.wait_for(Waits::Witness, out);
        }
    }

    /// `tell`: none if the witness could not be reached.
    pub(crate) fn on_witness(&mut self, ticket: u64, tell: Option<WitnessTell>, out: &mut Vec<Output>) {
        let Some(asked) = self.asking.asked.filter(|a| a.ticket == ticket) else {
            return;
        };
        let Some(tell) = tell else {
            return self.on_silence(out); // it is asked again
        };
        self.asking.asked = None;
        let WitnessTell::Register { done, register } = tell else {
            return self.on_amnesia(out);
        };
        self.asking.heard = Some(true);
        match (asked.purpose, asked.verb) {
            (Purpose::Alone, WitnessVerb::Cas { want, .. }) if done => {
                self.go_on(View { g: want, v: 0 }, "the witness agrees", out);
            }
            (Purpose::Alone, _) => self.on_refused(register, out),
            (Purpose::Join, _) if done => self.promote(out),
            (Purpose::Join, _) => self.leave_joint("the witness's register has gone on", out),
            (Purpose::Repair, WitnessVerb::Cas { want, .. }) if done => {
                self.view = View { g: want, v: 0 };
                self.sb.g = want;
                self.sb.v = 0;
                self.write_superblock(out);
                // The peer is well: it is waited for as if it had promised just now.
                self.suspect(
                    self.clock.mono + limits::PROMISE,
                    "the witness's register was put right",
                    out,
                );
            }
            (Purpose::Look, _) => self.repair(register, out),
            (Purpose::Repair, _) => {}
        }
    }

    /// T5, T6.
    fn on_refused(&mut self, register: Register, out: &mut Vec<Output>) {
        let learner = self.sb.members == Members::Only(self.me.other());
        if register.members.contains(self.me) && !learner {
            // An own question of an earlier time was answered: try again from there, with a new one.
            self.asking.told = Some(register.g);
            return self.ask_alone(out);
        }
        self.asking.not_before = self.clock.mono + limits::WITNESS_RETRY;
        self.wait_for(Waits::Survivor, out);
    }

    fn on_amnesia(&mut self, out: &mut Vec<Output>) {
        self.asking.not_before = self.clock.mono + limits::WITNESS_RETRY;
        if self.asking.heard.replace(false) != Some(false) {
            Self::event(Event::WitnessForgot, out);
        }
        if !matches!(self.stand, Stand::Normal) {
            self.wait_for(Waits::Amnesia, out);
        }
    }
}

const fn why(waits: Waits) -> &'static str {
    match waits {
        Waits::Soon => "it has just started",
        Waits::Survivor => "its peer was alone last: waits for it",
        Waits::Both => "quorum both: waits for its peer",
        Waits::Witness => "the witness does not answer: waits for it, or for its peer",
        Waits::Amnesia => "the witness has lost this volume's register: waits for its peer",
        Waits::Unsettled => "a change of the quorum was cut off: waits for its peer",
    }
}
