//! The witness: registers of generation and members, one for each volume (PROTOCOL.md 6.7).
//!
//! T1  A register changes only by a successful compare-and-swap, from a member, to a higher generation (I6).
//! T2  The same question asked again while its answer is the latest gets that answer again: a reply may be lost.
//! T3  What changed is durable before it is told: that is the caller's part, and `obey` says whether there is something.
//! T4  A register answers one host for each brick: the first one that asked for it in that brick's name. Another register of a
//!     volume is made for one of these only.
//! T5  It never sees mail, names or sessions, and it knows no time.
//!
//! Not here: the file (`store`), the port (`brickd`), who asks when (`quorum`).

use alloc::vec::Vec;
use mboxfs_types::{
    Fingerprint, VolumeId, limits,
    quorum::{AskWitness, Register, WitnessTell, WitnessVerb},
    record::Members,
};
use serde::{Deserialize, Serialize};

/// A register and its name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Entry {
    volume: VolumeId,
    name: u64,
    register: Register,
    /// T4. By the index of the brick.
    keys: [Option<Fingerprint>; 2],
}

impl Entry {
    fn is(&self, ask: &AskWitness) -> bool {
        self.volume == ask.volume && self.name == ask.register
    }
}

/// Registers of one volume that are kept: the one in force, and the one that may follow it.
const PER_VOLUME: usize = 2;

/// All registers of one witness. Encoded, at most 64 KiB.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Witness {
    /// In the order in which they were made.
    entries: Vec<Entry>,
}

impl Witness {
    /// T4. May the host with this key ask that?
    #[must_use]
    pub fn admits(&self, key: Fingerprint, ask: &AskWitness) -> bool {
        let mut of_volume = self.entries.iter().filter(|e| e.volume == ask.volume).peekable();
        match self.entries.iter().find(|e| e.is(ask)) {
            Some(e) => e.keys[usize::from(ask.brick.index())].is_none_or(|k| k == key),
            None if matches!(ask.verb, WitnessVerb::Create { .. }) => {
                of_volume.peek().is_none() || of_volume.any(|e| e.keys.contains(&Some(key)))
            }
            None => true, // it is told that there is none
        }
    }

    /// T4. From now on the register answers this host in the name of the brick, and no other. True: as of `obey`.
    pub fn pin(&mut self, key: Fingerprint, ask: &AskWitness) -> bool {
        let Some(e) = self.entries.iter_mut().find(|e| e.is(ask)) else {
            return false;
        };
        let slot = &mut e.keys[usize::from(ask.brick.index())];
        slot.is_none() && slot.replace(key).is_none()
    }

    /// Answers one question. True: something changed; make it durable before the answer leaves (T3).
    pub fn obey(&mut self, ask: &AskWitness) -> (WitnessTell, bool) {
        let known = self.entries.iter_mut().find(|e| e.is(ask));
        let tell = |done, register| WitnessTell::Register { done, register };
        match (ask.verb, known) {
            (WitnessVerb::Create { g }, None) => {
                let register = Register {
                    g,
                    members: Members::Both,
                };
                if self.make(ask, register) {
                    (tell(true, register), true)
                } else {
                    (WitnessTell::Unknown, false)
                }
            }
            (_, None) => (WitnessTell::Unknown, false),
            (WitnessVerb::Create { g }, Some(e)) => {
                let same = e.register.g == g && e.register.members == Members::Both;
                (tell(same, e.register), false)
            }
            (WitnessVerb::Read, Some(e)) => (tell(true, e.register), false),
            (WitnessVerb::Cas { expect, want, members }, Some(e)) => {
                let wanted = Register { g: want, members };
                if e.register == wanted {
                    return (tell(true, wanted), false); // T2
                }
                let may = e.register.g == expect && e.register.members.contains(ask.brick) && want.num > expect.num;
                if may {
                    e.register = wanted;
                }
                (tell(may, e.register), may)
            }
        }
    }

    /// False: there is no room.
    fn make(&mut self, ask: &AskWitness, register: Register) -> bool {
        let of_volume = self.entries.iter().filter(|e| e.volume == ask.volume).count();
        if of_volume >= PER_VOLUME
            && let Some(oldest) = self.entries.iter().position(|e| e.volume == ask.volume)
        {
            self.entries.remove(oldest);
        }
        if self.entries.len() >= limits::REGISTERS_MAX {
            return false;
        }
        self.entries.push(Entry {
            volume: ask.volume,
            name: ask.register,
            register,
            keys: [None; 2],
        });
        true
    }

    /// Number of registers.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.entries.len()
    }

    /// No register was made yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::{BrickId, GenId, codec};

    const V: VolumeId = VolumeId([7; 16]);

    fn g(num: u32, brick: BrickId) -> GenId {
        GenId {
            num,
            brick: brick.index(),
            nonce: num * 10,
        }
    }

    fn ask(brick: BrickId, verb: WitnessVerb) -> AskWitness {
        AskWitness {
            volume: V,
            register: 99,
            brick,
            verb,
        }
    }

    fn alone(brick: BrickId, expect: GenId, want: GenId) -> AskWitness {
        let members = Members::Only(brick);
        ask(brick, WitnessVerb::Cas { expect, want, members })
    }

    fn made() -> Witness {
        let mut w = Witness::default();
        let g = GenId::default();
        let (tell, changed) = w.obey(&ask(BrickId::A, WitnessVerb::Create { g }));
        assert!(changed);
        assert_eq!(tell, told(true, g, Members::Both));
        w
    }

    fn told(done: bool, g: GenId, members: Members) -> WitnessTell {
        WitnessTell::Register {
            done,
            register: Register { g, members },
        }
    }

    #[test]
    fn of_two_that_want_to_go_on_alone_one_may() {
        let mut w = made();
        let (one, two) = (g(1, BrickId::A), g(1, BrickId::B));
        let a = alone(BrickId::A, GenId::default(), one);
        assert_eq!(w.obey(&a), (told(true, one, Members::Only(BrickId::A)), true));
        let refused = told(false, one, Members::Only(BrickId::A));
        let b = alone(BrickId::B, GenId::default(), two);
        assert_eq!(w.obey(&b), (refused, false));
        // Not even by naming the generation that it was told: it is no member of that (T1).
        assert_eq!(w.obey(&alone(BrickId::B, one, g(2, BrickId::B))), (refused, false));
        // The winner may ask again (T2), and lets the other one in.
        assert_eq!(w.obey(&a), (told(true, one, Members::Only(BrickId::A)), false));
        let want = g(2, BrickId::A);
        let members = Members::Both;
        let join = ask(
            BrickId::A,
            WitnessVerb::Cas {
                expect: one,
                want,
                members,
            },
        );
        assert_eq!(w.obey(&join), (told(true, want, Members::Both), true));
        // An old question that arrives late changes nothing.
        assert_eq!(w.obey(&a), (told(false, want, Members::Both), false));
        assert!(w.obey(&alone(BrickId::B, want, g(3, BrickId::B))).1);
    }

    #[test]
    fn a_generation_never_goes_back() {
        let mut w = made();
        let high = g(5, BrickId::A);
        assert!(w.obey(&alone(BrickId::A, GenId::default(), high)).1);
        for num in [4, 5] {
            assert!(!w.obey(&alone(BrickId::A, high, g(num, BrickId::B))).1, "{num}");
        }
    }

    #[test]
    fn another_register_of_the_volume_or_another_volume_is_unknown() {
        let mut w = made();
        for (volume, register) in [(V, 98), (VolumeId([8; 16]), 99)] {
            for verb in [
                WitnessVerb::Read,
                alone(BrickId::A, GenId::default(), g(1, BrickId::A)).verb,
            ] {
                let ask = AskWitness {
                    volume,
                    register,
                    brick: BrickId::A,
                    verb,
                };
                assert_eq!(w.obey(&ask), (WitnessTell::Unknown, false));
            }
        }
    }

    #[test]
    fn t4_each_brick_is_the_host_that_came_first() {
        let mut w = Witness::default();
        let [one, two, stranger] = [1, 2, 3].map(|n| Fingerprint([n; 32]));
        let create = ask(BrickId::A, WitnessVerb::Create { g: GenId::default() });
        assert!(w.admits(one, &create));
        w.obey(&create);
        assert!(w.pin(one, &create) && !w.pin(one, &create), "once");
        let read = |brick| ask(brick, WitnessVerb::Read);
        assert!(w.admits(one, &read(BrickId::A)) && !w.admits(two, &read(BrickId::A)));
        assert!(w.pin(two, &read(BrickId::B)));
        assert!(w.admits(two, &read(BrickId::B)) && !w.admits(stranger, &read(BrickId::B)));
        // Strangers do not push the registers of a volume out.
        let next = AskWitness {
            register: 100,
            ..create
        };
        assert!(!w.admits(stranger, &next) && w.admits(two, &next));
        let other = AskWitness {
            volume: VolumeId([8; 16]),
            ..create
        };
        assert!(w.admits(stranger, &other));
        let kept: Witness = codec::decode(&codec::encode(&w)).unwrap();
        assert!(!kept.admits(stranger, &read(BrickId::B)));
    }

    #[test]
    fn what_is_made_anew_does_not_wipe_out_what_was() {
        let mut w = made();
        let first = g(1, BrickId::A);
        w.obey(&alone(BrickId::A, GenId::default(), first));
        let again = ask(BrickId::A, WitnessVerb::Create { g: GenId::default() });
        assert_eq!(w.obey(&again), (told(false, first, Members::Only(BrickId::A)), false));
    }

    #[test]
    fn registers_are_bounded_and_fit_a_slot() {
        let mut w = Witness::default();
        let mut create = |volume: u16, register| {
            let mut id = [0; 16];
            id[..2].copy_from_slice(&volume.to_le_bytes());
            let ask = AskWitness {
                volume: VolumeId(id),
                register,
                brick: BrickId::A,
                verb: WitnessVerb::Create {
                    g: g(u32::MAX / 10, BrickId::B),
                },
            };
            let made = w.obey(&ask).1;
            for brick in [BrickId::A, BrickId::B] {
                w.pin(Fingerprint([0xff; 32]), &AskWitness { brick, ..ask });
            }
            made
        };
        for register in 1..10 {
            assert!(create(0, register), "the oldest of a volume makes room");
        }
        let count = u16::try_from(limits::REGISTERS_MAX - PER_VOLUME).expect("few");
        for volume in 1..=count {
            assert!(create(volume, u64::MAX));
        }
        assert!(!create(count + 1, 1), "L13");
        assert_eq!(w.len(), limits::REGISTERS_MAX);
        assert!(codec::encode(&w).len() < 60 << 10);
    }
}
