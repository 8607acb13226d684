//! The third node of a world, and what it is for: policies, cuts of each of the three wires, one line of history.
//!
//! Promises: a question takes its way also when the brick that asked has died; an answer reaches only the life that asked.
//! With `one_line` set, a record that a brick has executed is never another one on either brick (I7).
//! Not here: bricks, mounts, disks (`world`).

use crate::world::{Event, World};
use mboxfs_brick::{
    input::{Clock, Input, MountConn},
    quorum::Order,
    witness::Witness,
};
use mboxfs_types::{
    Nanos, Tag, VolumeId,
    admin::Status,
    quorum::{AskWitness, Policy, Quorum, WitnessAt, WitnessTell, WitnessVerb},
    record::Members,
};
use std::collections::BTreeMap;

const MS: u64 = 1_000_000;

/// The witness and the wires to it.
#[derive(Debug, Default)]
pub struct Third {
    /// What is durable; nothing else survives a crash, and nothing is told before it is.
    disk: Witness,
    pub down: bool,
    /// Nothing gets from brick i to the witness.
    pub deaf_to: [bool; 2],
    /// Nothing gets from the witness to brick i.
    pub mute_to: [bool; 2],
    /// Longest way, in ms.
    pub slow: u64,
    /// Name of the register in force.
    name: u64,
    /// Swaps that succeeded.
    pub swaps: u32,
    /// Tags of what was executed, by position.
    executed: BTreeMap<u64, Tag>,
    /// Checked up to here, on each brick.
    checked: [u64; 2],
}

/// On a wire of the witness.
pub enum Word {
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

    pub(crate) fn ask_witness(&mut self, from: usize, ticket: u64, ask: AskWitness) {
        let life = self.nodes[from].life;
        let time = self.way();
        let word = Word::Ask {
            from,
            life,
            ticket,
            ask,
        };
        self.at(time, Event::Witness(word));
    }

    pub(crate) fn on_witness_wire(&mut self, word: Word) {
        match word {
            Word::Ask { from, .. } if self.third.down || self.third.deaf_to[from] => {}
            Word::Ask {
                from,
                life,
                ticket,
                ask,
            } => {
                let (tell, changed) = self.third.disk.obey(&ask);
                self.third.swaps += u32::from(changed);
                let time = self.way();
                let tell = Some(tell);
                let to = from;
                self.at(time, Event::Witness(Word::Tell { to, life, ticket, tell }));
            }
            Word::Tell { to, life, ticket, tell } => {
                if self.nodes[to].life == life && !self.third.mute_to[to] {
                    self.brick_step(to, Input::Witness { ticket, tell });
                }
            }
        }
    }

    /// Brick `i` and the witness do not reach each other, or do again.
    pub const fn cut_witness(&mut self, i: usize, cut: bool) {
        self.third.deaf_to[i] = cut;
        self.third.mute_to[i] = cut;
    }

    /// The two servers do not reach each other: neither the bricks nor a mount the other one's brick.
    pub fn part(&mut self) {
        self.cut = true;
        self.drop_link();
        for m in 0..2 {
            if let Some((conn, brick)) = self.mounts[m].conn
                && brick != m
            {
                self.brick_step(brick, Input::MountLost { conn: MountConn(conn) });
                self.at(self.now, Event::BrickEnd { mount: m, conn });
            }
        }
    }

    /// What brick `1 - to` says does not reach brick `to`, and nobody tells either of them.
    pub const fn silence(&mut self, to: usize) {
        self.silent[to] = true;
    }

    /// All wires are whole again.
    pub fn mend(&mut self) {
        self.cut = false;
        if std::mem::take(&mut self.silent) != [false; 2] {
            self.drop_link(); // words are missing in it
        }
        for i in 0..2 {
            self.cut_witness(i, false);
        }
        self.third.down = false;
    }

    /// Sets the policy as an operator does.
    ///
    /// # Panics
    /// If that is refused, or is not in force on both bricks soon.
    pub fn set_policy(&mut self, policy: Policy) {
        let settled = |w: &Self| (0..2).all(|i| w.status(i) == Some(Status::Normal));
        for _ in 0..600 {
            if settled(self) {
                break;
            }
            self.run(20);
        }
        let primary = (0..2).find(|i| self.nodes[*i].brick.as_ref().is_some_and(|b| b.report().primary));
        let i = primary.expect("a primary");
        let g = self.nodes[i].brick.as_ref().expect("up").report().view.g;
        let register = self.rng.below(u64::MAX);
        let witness = (policy == Policy::Witness).then(|| WitnessAt {
            host: "w".into(),
            port: 1,
            register,
            fingerprint: mboxfs_types::Fingerprint::default(),
        });
        if witness.is_some() {
            let ask = AskWitness {
                volume: VolumeId([7; 16]),
                register,
                brick: mboxfs_types::BrickId::A,
                verb: WitnessVerb::Create { g },
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
        for _ in 0..100 {
            self.run(5);
            if (0..2).all(|i| self.nodes[i].brick.as_ref().is_some_and(|b| *b.quorum() == quorum)) {
                self.one_line = policy != Policy::None;
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
        let ask = AskWitness {
            volume: VolumeId([7; 16]),
            register: self.third.name,
            brick: mboxfs_types::BrickId::A,
            verb: WitnessVerb::Read,
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
    pub fn order(&mut self, i: usize, order: Order) -> Result<(), String> {
        let now = Clock {
            mono: Nanos(self.now),
            real: self.real(),
        };
        let mut out = Vec::new();
        let result = self.nodes[i]
            .brick
            .as_mut()
            .expect("it is up")
            .order(now, order, &mut out);
        self.brick_outputs(i, out);
        result
    }

    #[must_use]
    pub fn status(&self, i: usize) -> Option<Status> {
        self.nodes[i].brick.as_ref().map(|b| b.report().status)
    }

    #[must_use]
    pub fn report(&self, i: usize) -> Option<mboxfs_types::admin::BrickReport> {
        self.nodes[i].brick.as_ref().map(mboxfs_brick::Brick::report)
    }

    /// I7.
    pub(crate) fn check_line(&mut self) {
        if !self.one_line {
            return;
        }
        for i in 0..2 {
            let Some(brick) = &self.nodes[i].brick else {
                self.third.checked[i] = 0; // a new life executes its log again
                continue;
            };
            let commit = brick.report().commit;
            let from = self.third.checked[i];
            for record in self.nodes[i]
                .disk
                .log
                .iter()
                .filter(|r| r.tag.n > from && r.tag.n <= commit)
            {
                let tag = *self.third.executed.entry(record.tag.n).or_insert(record.tag);
                assert_eq!(tag, record.tag, "I7: two lines, seen on brick {i}");
            }
            self.third.checked[i] = commit;
        }
    }
}
