//! Who may go on alone: the policy of a volume, and the conversation between a brick and the witness.
//!
//! Promises
//! W1  The witness keeps, per register, a generation and its members; nothing of mail, names or sessions.
//! W2  A register changes only by a `Cas` that names the generation it is in, from a member of that, to a higher one.
//! W3  The wanted generation names the question: asked again while it is the latest, it gets the first answer.
//!
//! Not here: when a brick asks (`brick::quorum`), keeping registers (`brick::witness`, `store`), the wire (`rpc`).

use crate::{BrickId, Fingerprint, GenId, VolumeId, record::Members};
use alloc::{format, string::String};
use serde::{Deserialize, Serialize};

/// Who may authorise a generation of one brick alone (PROTOCOL.md 6.2, T4).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub enum Policy {
    /// Each brick by itself: both sides go on in a partition; what diverges is merged.
    #[default]
    None,
    /// The witness: at most one side goes on, nothing diverges.
    Witness,
    /// Nobody: no writes while a brick is away.
    Both,
}

impl Policy {
    /// As operators write it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Witness => "witness",
            Self::Both => "both",
        }
    }

    /// What an operator wrote.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::None, Self::Witness, Self::Both]
            .into_iter()
            .find(|p| p.word() == word)
    }
}

/// Where the witness listens, and which register there is the volume's.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct WitnessAt {
    /// Valid by `admin::is_host`.
    pub host: String,
    /// Not 0.
    pub port: u16,
    /// Random, drawn when the register is made: one that was lost and made anew, or is another volume's, is not believed
    /// (PROTOCOL.md 6.7). 0: none was made yet.
    pub register: u64,
    /// Of the witness's key, as it was when the register was made: nobody else is believed.
    pub fingerprint: Fingerprint,
}

impl WitnessAt {
    /// `host:port`, as it is dialled.
    #[must_use]
    pub fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// The policy of a volume.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Quorum {
    /// Who decides.
    pub policy: Policy,
    /// With `Policy::Witness` always there; remembered under the others.
    pub witness: Option<WitnessAt>,
}

/// The policy, and the record that set it: it is in force on a brick from its execution on.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Settled {
    /// Position of the record; 0: never set.
    pub n: u64,
    /// What it said.
    pub quorum: Quorum,
}

/// One register of a witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Register {
    /// Generation.
    pub g: GenId,
    /// Who is in it.
    pub members: Members,
}

/// What a brick, or a brickd on an operator's behalf, says to the witness.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AskWitness {
    /// Volume.
    pub volume: VolumeId,
    /// `WitnessAt::register`.
    pub register: u64,
    /// Who asks.
    pub brick: BrickId,
    /// What.
    pub verb: WitnessVerb,
}

/// What is to be done with the register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WitnessVerb {
    /// Make it: both are members.
    Create {
        /// Their generation.
        g: GenId,
    },
    /// Say what it holds.
    Read,
    /// Compare and swap (W2, W3).
    Cas {
        /// Only if it is in this generation.
        expect: GenId,
        /// The new one.
        want: GenId,
        /// Its members.
        members: Members,
    },
}

/// The witness's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WitnessTell {
    /// There is no such register, or no room for a new one.
    Unknown,
    /// The register as it is now.
    Register {
        /// What was asked for is done, durably.
        done: bool,
        /// What it holds.
        register: Register,
    },
}

/// What a brick that does not serve waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Waits {
    /// For its peer, and goes on alone if that does not come soon.
    Soon,
    /// For its peer, which went on alone and has what this brick lacks.
    Survivor,
    /// For its peer: the policy is `both`.
    Both,
    /// For its peer, or for an answer of the witness.
    Witness,
    /// For its peer: the witness has lost this volume's register.
    Amnesia,
    /// For its peer: a change of the policy was cut off.
    Unsettled,
}
