//! The conversation with the witness, both ways.
//!
//! Promises: V1 and V3 of `convert`. Not here: the calls (`crate::witness`).

use super::{Invalid, base, need, peer};
use crate::wire as w;
use mboxfs_types::{
    VolumeId, limits,
    quorum::{AskWitness, Register, WitnessTell, WitnessVerb},
};

/// A question as it is called.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Call {
    Read(w::WitnessRead),
    Cas(w::WitnessCas),
    Create(w::WitnessCreate),
}

impl From<AskWitness> for Call {
    fn from(from: AskWitness) -> Self {
        let name = Some(w::WitnessName {
            protocol: limits::PROTOCOL_VERSION,
            volume: base::id16_bytes(&from.volume.0),
            register: from.register,
            brick: base::brick_number(from.brick),
        });
        match from.verb {
            WitnessVerb::Read => Self::Read(w::WitnessRead { name }),
            WitnessVerb::Cas { expect, want, members } => Self::Cas(w::WitnessCas {
                name,
                expect: Some(expect.into()),
                want: Some(want.into()),
                members: Some(members.into()),
            }),
            WitnessVerb::Create { g } => Self::Create(w::WitnessCreate {
                name,
                g: Some(g.into()),
            }),
        }
    }
}

impl TryFrom<Call> for AskWitness {
    type Error = Invalid;
    fn try_from(from: Call) -> Result<Self, Invalid> {
        let (name, verb) = match from {
            Call::Read(a) => (a.name, WitnessVerb::Read),
            Call::Cas(a) => {
                let verb = WitnessVerb::Cas {
                    expect: base::generation(a.expect)?,
                    want: base::generation(a.want)?,
                    members: peer::members(a.members)?,
                };
                (a.name, verb)
            }
            Call::Create(a) => {
                let g = base::generation(a.g)?;
                (a.name, WitnessVerb::Create { g })
            }
        };
        let name = need(name, "no register is named")?;
        if name.protocol != limits::PROTOCOL_VERSION {
            return Err(Invalid {
                what: "another version of the protocol",
            });
        }
        Ok(Self {
            volume: VolumeId(base::id16(&name.volume)?),
            register: name.register,
            brick: base::brick(name.brick)?,
            verb,
        })
    }
}

impl From<WitnessTell> for w::WitnessTell {
    fn from(from: WitnessTell) -> Self {
        match from {
            WitnessTell::Unknown => Self {
                register: None,
                done: false,
            },
            WitnessTell::Register { done, register } => Self {
                register: Some(w::WitnessRegister {
                    g: Some(register.g.into()),
                    members: Some(register.members.into()),
                }),
                done,
            },
        }
    }
}

impl TryFrom<w::WitnessTell> for WitnessTell {
    type Error = Invalid;
    fn try_from(from: w::WitnessTell) -> Result<Self, Invalid> {
        let Some(register) = from.register else {
            return Ok(Self::Unknown);
        };
        Ok(Self::Register {
            done: from.done,
            register: Register {
                g: base::generation(register.g)?,
                members: peer::members(register.members)?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::{BrickId, GenId, record::Members};

    #[test]
    fn questions_and_answers_cross_the_wire_unchanged() {
        let g = |num| GenId {
            num,
            brick: 1,
            nonce: 7,
        };
        for members in [Members::Both, Members::Only(BrickId::A), Members::Only(BrickId::B)] {
            let (expect, want) = (g(1), g(2));
            for verb in [
                WitnessVerb::Read,
                WitnessVerb::Create { g: want },
                WitnessVerb::Cas { expect, want, members },
            ] {
                let ask = AskWitness {
                    volume: VolumeId([3; 16]),
                    register: u64::MAX,
                    brick: BrickId::B,
                    verb,
                };
                assert_eq!(AskWitness::try_from(Call::from(ask)), Ok(ask));
            }
            let register = Register { g: want, members };
            for tell in [WitnessTell::Unknown, WitnessTell::Register { done: true, register }] {
                assert_eq!(WitnessTell::try_from(w::WitnessTell::from(tell)), Ok(tell));
            }
        }
    }

    #[test]
    fn another_version_and_nonsense_are_refused() {
        let ask = AskWitness {
            volume: VolumeId([3; 16]),
            register: 1,
            brick: BrickId::B,
            verb: WitnessVerb::Read,
        };
        let broken = |change: fn(&mut w::WitnessName)| {
            let Call::Read(mut read) = Call::from(ask) else {
                panic!("a read");
            };
            change(read.name.as_mut().expect("a name"));
            AskWitness::try_from(Call::Read(read)).expect_err("refused").what
        };
        assert_eq!(broken(|n| n.protocol += 1), "another version of the protocol");
        assert_eq!(broken(|n| n.volume.clear()), "id is not 16 bytes");
        assert_eq!(broken(|n| n.brick = 9), "unknown brick");
        assert!(AskWitness::try_from(Call::Read(w::WitnessRead::default())).is_err());
        assert!(AskWitness::try_from(Call::Cas(w::WitnessCas::default())).is_err());
    }
}
