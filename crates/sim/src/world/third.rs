//! The witness and the wires to it, and an operator's words.
//!
//! Promises: a question takes its way also when the brick that asked has died; an answer reaches only the life that asked.
//! Not here: bricks, mounts, disks.

use super::{Event, MS, World};
use crate::plan::Policy;
use mboxfs_brick::{input::Input, quorum::Order, witness::Witness};
use mboxfs_types::{
    BrickId, VolumeId,
    admin::Status,
    quorum::{AskWitness, Quorum, WitnessAt, WitnessTell, WitnessVerb},
    record::Members,
};

/// See above.
#[derive(Debug, Default)]
pub struct Third {
    /// What is durable; nothing else survives a crash, and nothing is told before it is.
    disk: Witness,
    /// Until when, in ns.
    pub down_until: u64,
    /// Nothing gets from brick i to the witness, until then.
    pub deaf_to: [u64; 2],
    /// Nothing gets from the witness to brick i, until then.
    pub mute_to: [u64; 2],
    /// Longest way, in ms.
    pub slow: u64,
    /// Name of the register in force.
    name: u64,
    /// Swaps that succeeded.
    pub swaps: u32,
}

/// On a wire of the witness.
pub(crate) enum Word {
    Ask {
        from: usize,
        life: u64,
        ticket: u64,
        ask: AskWitness,
    },
    Tell {
        to: usize,
        life: u64,
        ticket: u64,
        tell: Option<WitnessTell>,
    },
}

impl World {
    fn way(&mut self) -> u64 {
        let most = self.third.slow * MS + 450_000;
        self.now + 50_000 + self.rng.below(most)
    }

    pub(crate) fn ask_third(&mut self, from: usize, ticket: u64, ask: AskWitness) {
        let life = self.hosts[from].life;
        let time = self.way();
        self.at(
            time,
            Event::Third(Word::Ask {
                from,
                life,
                ticket,
                ask,
            }),
        );
    }

    pub(crate) fn on_third(&mut self, word: Word) {
        match word {
            Word::Ask { from, .. } if self.now < self.third.down_until.max(self.third.deaf_to[from]) => {}
            Word::Ask {
                from: to,
                life,
                ticket,
                ask,
            } => {
                let (tell, changed) = self.third.disk.obey(&ask);
                self.third.swaps += u32::from(changed);
                if changed {
                    self.journal.event(self.now, format_args!("witness: {ask:?}"));
                }
                let time = self.way();
                let tell = Some(tell);
                self.at(time, Event::Third(Word::Tell { to, life, ticket, tell }));
            }
            Word::Tell { to, life, ticket, tell } => {
                if self.hosts[to].life == life && self.now >= self.third.mute_to[to] {
                    self.feed(to, Input::Witness { ticket, tell });
                }
            }
        }
    }

    /// Brick `i` and the witness do not reach each other, or do again.
    pub const fn cut_witness(&mut self, i: usize, cut: bool) {
        let until = if cut { u64::MAX } else { 0 };
        self.third.deaf_to[i] = until;
        self.third.mute_to[i] = until;
    }

    /// Sets the policy as an operator does.
    ///
    /// # Panics
    /// If that is refused, or is not in force on both bricks soon.
    pub fn set_policy(&mut self, policy: Policy) {
        for _ in 0..600 {
            if self.together() {
                break;
            }
            self.run(20);
        }
        let primary = (0..2).find(|i| self.hosts[*i].report().is_some_and(|r| r.primary));
        let i = primary.expect("a primary");
        let g = self.hosts[i].report().expect("it is up").view.g;
        let register = self.rng.below(u64::MAX);
        let witness = (policy == Policy::Witness).then(|| WitnessAt {
            host: "w".into(),
            port: 1,
            register,
            fingerprint: mboxfs_types::Fingerprint::default(),
        });
        if witness.is_some() {
            let verb = WitnessVerb::Create { g };
            let ask = AskWitness {
                volume: VolumeId([7; 16]),
                register,
                brick: BrickId::A,
                verb,
            };
            assert!(self.third.disk.obey(&ask).1, "the register is made");
            self.third.name = register;
        }
        let quorum = Quorum { policy, witness };
        let order = Order::Quorum {
            quorum: quorum.clone(),
            g: Some(g),
        };
        self.order(i, order).expect("the policy can be set");
        for _ in 0..200 {
            self.run(5);
            let set = |h: &super::Host| h.brick.as_ref().is_some_and(|b| *b.quorum() == quorum);
            if self.hosts.iter().all(set) {
                return;
            }
        }
        panic!("the policy is not in force");
    }

    /// Who is in the register's generation.
    ///
    /// # Panics
    /// If there is no register.
    #[must_use]
    pub fn named(&self) -> Members {
        let verb = WitnessVerb::Read;
        let ask = AskWitness {
            volume: VolumeId([7; 16]),
            register: self.third.name,
            brick: BrickId::A,
            verb,
        };
        match self.third.disk.clone().obey(&ask).0 {
            WitnessTell::Register { register, .. } => register.members,
            WitnessTell::Unknown => panic!("no register was made"),
        }
    }

    /// An operator's word to brick `i`.
    ///
    /// # Errors
    /// As the brick says.
    ///
    /// # Panics
    /// If it is down.
    pub fn order(&mut self, i: usize, order: Order) -> Result<(), String> {
        let clock = self.brick_clock(i);
        let mut out = Vec::new();
        let brick = self.hosts[i].brick.as_mut().expect("it is up");
        let result = brick.order(clock, order, &mut out);
        self.carry_out(i, out);
        result
    }

    #[must_use]
    pub fn status(&self, i: usize) -> Option<Status> {
        self.hosts[i].status()
    }

    /// Both bricks work together.
    #[must_use]
    pub fn together(&self) -> bool {
        (0..2).all(|i| self.status(i) == Some(Status::Normal))
    }
}
