//! The operator's conversation, both ways.
//!
//! Promises: V1 and V3 of `convert`: names, paths, ports, ids and lists that come out are what `types::admin` says they
//! are. Texts for people are cut, never refused, when they are sent: a long reason is better than none.
//! Not here: whether a host exists or a path is right (`brickd::cluster`).

mod report;

use super::{Invalid, base, list, need, scrub, try_list};
use crate::wire as w;
use bytes::Bytes;
use mboxfs_types::admin::{
    self as t, Ask, BrickAt, BrickSpec, Fault, HostId, HostState, Options, PeerState, Phase, Plan, Tell, Volume,
    VolumeVerb,
};
use mboxfs_types::history::{Place, Question};
use mboxfs_types::quorum::{Policy, Quorum, WitnessAt};
use mboxfs_types::{VolumeId, codec, limits};

/// Reasons, hints, directories, names of files.
const TEXT_BYTES_MAX: usize = 8192;
/// Names in a report, of files and of mounts.
const LIST_MAX: usize = 4096;

type Result<T> = std::result::Result<T, Invalid>;

fn require(holds: bool, what: &'static str) -> Result<()> {
    if holds { Ok(()) } else { Err(Invalid { what }) }
}

fn port(number: u32) -> Result<u16> {
    let port = u16::try_from(number).ok().filter(|p| *p != 0);
    need(port, "port is not 1 to 65535")
}

fn host(text: String) -> Result<String> {
    require(t::is_host(&text), "not a host name")?;
    Ok(text)
}

fn path(text: String) -> Result<String> {
    require(t::is_brick_path(&text), "not a brick's path")?;
    Ok(text)
}

fn volume_name(text: String) -> Result<String> {
    require(t::is_volume_name(&text), "not a volume's name")?;
    Ok(text)
}

fn text(text: String) -> Result<String> {
    require(text.len() <= TEXT_BYTES_MAX, "text is too long")?;
    Ok(text)
}

fn cut(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    }
    text
}

fn pair<T>(items: Vec<T>) -> Result<[T; 2]> {
    let pair = <[T; 2]>::try_from(items).ok();
    need(pair, "a volume has two bricks")
}

fn host_id(bytes: &[u8]) -> Result<HostId> {
    base::id16(bytes).map(HostId)
}

fn id_bytes(id: HostId) -> Bytes {
    base::id16_bytes(&id.0)
}

// ---- questions

pub(crate) fn ask_message(ask: Ask) -> w::AdminAsk {
    use w::admin_ask::Ask as Wire;
    let ask = match ask {
        Ask::Status { deep } => Wire::Status(w::AdminStatus { deep }),
        Ask::Probe {
            host,
            port,
            fingerprint,
        } => Wire::Probe(w::AdminProbe {
            host,
            port: port.into(),
            fingerprint: fingerprint.map(base::fingerprint_bytes).unwrap_or_default(),
        }),
        Ask::Detach { host, port, force } => Wire::Detach(w::AdminDetach {
            host,
            port: port.map(Into::into),
            force,
        }),
        Ask::Create { name, bricks, force } => Wire::Create(w::AdminCreate {
            name,
            bricks: list(bricks.into()),
            force,
        }),
        Ask::Change { name, verb, force } => Wire::Change(w::AdminChange {
            name,
            verb: verb_number(verb),
            force,
        }),
        Ask::Replace { name, old, new, force } => Wire::Replace(w::AdminReplace {
            name,
            old: Some(old.into()),
            new: Some(new.into()),
            force,
        }),
        Ask::Retire { name, brick } => Wire::Retire(w::AdminRetire {
            name,
            brick: Some(brick.into()),
        }),
        Ask::Drill { name, fault, here } => Wire::Drill(w::AdminDrill {
            name,
            fault: fault_number(fault),
            here,
        }),
        Ask::Set { name, options, relayed } => Wire::Set(w::AdminSet {
            name,
            policy: options.policy.map_or(0, policy_number),
            witness: options.witness.map(|(host, port)| w::AdminWitnessAt {
                host,
                port: port.into(),
                register: 0,
                fingerprint: Bytes::new(),
            }),
            relayed,
        }),
        Ask::ForceSolo { name } => Wire::ForceSolo(w::AdminForceSolo { name }),
        Ask::Scrub { name, verb, relayed } => Wire::Scrub(w::AdminScrub {
            name,
            verb: scrub::verb_number(verb),
            relayed,
        }),
        Ask::History(question) => Wire::History(w::AdminHistory {
            path: question.path,
            id: question.id,
            since: Some(question.since.into()),
            gone: question.gone,
            from: Some(place_message(question.from)),
        }),
        Ask::Kept { place, len, skip } => Wire::Kept(w::AdminKept {
            place: Some(place_message(place)),
            len,
            skip,
        }),
        Ask::Heal { name, full, relayed } => Wire::Heal(w::AdminHeal { name, full, relayed }),
        Ask::Hello { from, port, called } => Wire::Hello(w::AdminHello {
            from: id_bytes(from),
            port: port.into(),
            called,
        }),
        Ask::Part { from } => Wire::Part(w::AdminPart { from: id_bytes(from) }),
        Ask::Prepare { from, id, plan } => Wire::Prepare(w::AdminPrepare {
            from: id_bytes(from),
            id: base::id16_bytes(&id),
            plan: Some(plan.into()),
        }),
        Ask::Commit { id } => Wire::Commit(w::AdminCommit {
            id: base::id16_bytes(&id),
        }),
        Ask::Abort { id } => Wire::Abort(w::AdminAbort {
            id: base::id16_bytes(&id),
        }),
    };
    w::AdminAsk {
        protocol: limits::PROTOCOL_VERSION,
        ask: Some(ask),
    }
}

/// The version was looked at before.
pub(crate) fn ask(message: w::AdminAsk) -> Result<Ask> {
    use w::admin_ask::Ask as Wire;
    Ok(match need(message.ask, "no question")? {
        Wire::Status(w::AdminStatus { deep }) => Ask::Status { deep },
        Wire::Probe(a) => Ask::Probe {
            host: host(a.host)?,
            port: port(a.port)?,
            fingerprint: match a.fingerprint.len() {
                0 => None,
                _ => Some(base::fingerprint(&a.fingerprint)?),
            },
        },
        Wire::Detach(a) => Ask::Detach {
            host: host(a.host)?,
            port: a.port.map(port).transpose()?,
            force: a.force,
        },
        Wire::Create(a) => Ask::Create {
            name: volume_name(a.name)?,
            bricks: pair(try_list(a.bricks)?)?,
            force: a.force,
        },
        Wire::Change(a) => Ask::Change {
            name: volume_name(a.name)?,
            verb: verb(a.verb)?,
            force: a.force,
        },
        Wire::Replace(a) => Ask::Replace {
            name: volume_name(a.name)?,
            old: need(a.old, "no brick")?.try_into()?,
            new: need(a.new, "no brick")?.try_into()?,
            force: a.force,
        },
        Wire::Retire(a) => Ask::Retire {
            name: volume_name(a.name)?,
            brick: need(a.brick, "no brick")?.try_into()?,
        },
        Wire::Drill(a) => Ask::Drill {
            name: volume_name(a.name)?,
            fault: fault(a.fault)?,
            here: a.here,
        },
        Wire::Set(a) => Ask::Set {
            name: volume_name(a.name)?,
            options: Options {
                policy: (a.policy != 0).then(|| policy(a.policy)).transpose()?,
                witness: a.witness.map(|at| Ok((host(at.host)?, port(at.port)?))).transpose()?,
            },
            relayed: a.relayed,
        },
        Wire::ForceSolo(a) => Ask::ForceSolo {
            name: volume_name(a.name)?,
        },
        Wire::Scrub(a) => Ask::Scrub {
            name: volume_name(a.name)?,
            verb: scrub::verb(a.verb)?,
            relayed: a.relayed,
        },
        Wire::History(a) => Ask::History(Question {
            path: a.path.map(text).transpose()?,
            id: a.id.map(text).transpose()?,
            since: base::time(a.since)?,
            gone: a.gone,
            from: place(a.from)?,
        }),
        Wire::Kept(a) => Ask::Kept {
            place: place(a.place)?,
            len: a.len,
            skip: a.skip,
        },
        Wire::Heal(a) => Ask::Heal {
            name: a.name.map(volume_name).transpose()?,
            full: a.full,
            relayed: a.relayed,
        },
        Wire::Hello(a) => Ask::Hello {
            from: host_id(&a.from)?,
            port: port(a.port)?,
            called: host(a.called)?,
        },
        Wire::Part(a) => Ask::Part {
            from: host_id(&a.from)?,
        },
        Wire::Prepare(a) => Ask::Prepare {
            from: host_id(&a.from)?,
            id: base::id16(&a.id)?,
            plan: need(a.plan, "no plan")?.try_into()?,
        },
        Wire::Commit(a) => Ask::Commit { id: base::id16(&a.id)? },
        Wire::Abort(a) => Ask::Abort { id: base::id16(&a.id)? },
    })
}

const fn place_message(from: Place) -> w::AdminPlace {
    w::AdminPlace {
        segment: from.segment,
        offset: from.offset,
    }
}

fn place(from: Option<w::AdminPlace>) -> Result<Place> {
    let from = need(from, "no place")?;
    Ok(Place {
        segment: from.segment,
        offset: from.offset,
    })
}

impl From<BrickSpec> for w::AdminBrickSpec {
    fn from(from: BrickSpec) -> Self {
        Self {
            host: from.host,
            port: from.port.map(Into::into),
            path: from.path,
        }
    }
}

impl TryFrom<w::AdminBrickSpec> for BrickSpec {
    type Error = Invalid;
    fn try_from(from: w::AdminBrickSpec) -> Result<Self> {
        Ok(Self {
            host: host(from.host)?,
            port: from.port.map(port).transpose()?,
            path: path(from.path)?,
        })
    }
}

impl From<Plan> for w::admin_prepare::Plan {
    fn from(from: Plan) -> Self {
        match from {
            Plan::Create { volume, force } => Self::Create(w::AdminPlanCreate {
                volume: Some(volume.into()),
                force,
            }),
            Plan::Replace { volume, force } => Self::Replace(w::AdminPlanCreate {
                volume: Some(volume.into()),
                force,
            }),
            Plan::Change { id, name, verb } => Self::Change(w::AdminPlanChange {
                id: base::id16_bytes(&id.0),
                name,
                verb: verb_number(verb),
            }),
        }
    }
}

impl TryFrom<w::admin_prepare::Plan> for Plan {
    type Error = Invalid;
    fn try_from(from: w::admin_prepare::Plan) -> Result<Self> {
        Ok(match from {
            w::admin_prepare::Plan::Create(plan) => {
                let volume: Volume = need(plan.volume, "no volume")?.try_into()?;
                require(volume.phase == Phase::Created, "a new volume is not started")?;
                Self::Create {
                    volume,
                    force: plan.force,
                }
            }
            w::admin_prepare::Plan::Replace(plan) => Self::Replace {
                volume: need(plan.volume, "no volume")?.try_into()?,
                force: plan.force,
            },
            w::admin_prepare::Plan::Change(plan) => Self::Change {
                id: VolumeId(base::id16(&plan.id)?),
                name: volume_name(plan.name)?,
                verb: verb(plan.verb)?,
            },
        })
    }
}

fn verb_number(verb: VolumeVerb) -> i32 {
    match verb {
        VolumeVerb::Start => w::AdminVerb::Start,
        VolumeVerb::Stop => w::AdminVerb::Stop,
        VolumeVerb::Delete => w::AdminVerb::Delete,
    }
    .into()
}

fn verb(number: i32) -> Result<VolumeVerb> {
    match w::AdminVerb::try_from(number) {
        Ok(w::AdminVerb::Start) => Ok(VolumeVerb::Start),
        Ok(w::AdminVerb::Stop) => Ok(VolumeVerb::Stop),
        Ok(w::AdminVerb::Delete) => Ok(VolumeVerb::Delete),
        Ok(w::AdminVerb::Unspecified) | Err(_) => Err(Invalid { what: "unknown verb" }),
    }
}

fn fault_number(fault: Fault) -> i32 {
    match fault {
        Fault::Crash => w::AdminFault::Crash,
        Fault::SlowDisk => w::AdminFault::SlowDisk,
        Fault::Partition => w::AdminFault::Partition,
    }
    .into()
}

fn policy_number(policy: Policy) -> i32 {
    match policy {
        Policy::None => w::AdminPolicy::None,
        Policy::Witness => w::AdminPolicy::Witness,
        Policy::Both => w::AdminPolicy::Both,
    }
    .into()
}

fn fault(number: i32) -> Result<Fault> {
    match w::AdminFault::try_from(number) {
        Ok(w::AdminFault::Crash) => Ok(Fault::Crash),
        Ok(w::AdminFault::SlowDisk) => Ok(Fault::SlowDisk),
        Ok(w::AdminFault::Partition) => Ok(Fault::Partition),
        Ok(w::AdminFault::Unspecified) | Err(_) => Err(Invalid { what: "unknown fault" }),
    }
}

fn policy(number: i32) -> Result<Policy> {
    match w::AdminPolicy::try_from(number) {
        Ok(w::AdminPolicy::None) => Ok(Policy::None),
        Ok(w::AdminPolicy::Witness) => Ok(Policy::Witness),
        Ok(w::AdminPolicy::Both) => Ok(Policy::Both),
        Ok(w::AdminPolicy::Unspecified) | Err(_) => Err(Invalid { what: "unknown quorum" }),
    }
}

// ---- answers

impl From<Quorum> for w::AdminQuorum {
    fn from(from: Quorum) -> Self {
        Self {
            policy: policy_number(from.policy),
            witness: from.witness.map(|at| w::AdminWitnessAt {
                host: at.host,
                port: at.port.into(),
                register: at.register,
                fingerprint: base::fingerprint_bytes(at.fingerprint),
            }),
        }
    }
}

impl TryFrom<w::AdminQuorum> for Quorum {
    type Error = Invalid;
    fn try_from(from: w::AdminQuorum) -> Result<Self> {
        let witness = |at: w::AdminWitnessAt| {
            Ok(WitnessAt {
                host: host(at.host)?,
                port: port(at.port)?,
                register: at.register,
                fingerprint: base::fingerprint(&at.fingerprint)?,
            })
        };
        Ok(Self {
            policy: policy(from.policy)?,
            witness: from.witness.map(witness).transpose()?,
        })
    }
}

pub(crate) fn tell_message(tell: Tell) -> w::AdminTell {
    use w::admin_tell::Tell as Wire;
    let tell = match tell {
        Tell::Done(state) => Wire::Done((*state).into()),
        Tell::History(page) => Wire::History(codec::encode(&page).into()),
        Tell::Kept(bytes) => Wire::Kept(bytes),
        Tell::Already(why) => Wire::Already(cut(why)),
        Tell::Refused { why, hint } => Wire::Refused(w::AdminRefused {
            why: cut(why),
            hint: cut(hint),
        }),
    };
    w::AdminTell { tell: Some(tell) }
}

pub(crate) fn tell(message: w::AdminTell) -> Result<Tell> {
    use w::admin_tell::Tell as Wire;
    Ok(match need(message.tell, "no answer")? {
        Wire::Done(state) => Tell::Done(Box::new(state.try_into()?)),
        Wire::History(bytes) => Tell::History(need(codec::decode(&bytes).ok(), "a malformed history")?),
        Wire::Kept(bytes) => Tell::Kept(bytes),
        Wire::Already(why) => Tell::Already(text(why)?),
        Wire::Refused(a) => {
            require(!a.why.is_empty(), "refused without a reason")?;
            Tell::Refused {
                why: text(a.why)?,
                hint: text(a.hint)?,
            }
        }
    })
}

impl From<BrickAt> for w::AdminBrick {
    fn from(from: BrickAt) -> Self {
        Self {
            host: from.host,
            port: from.port.into(),
            path: from.path,
        }
    }
}

impl TryFrom<w::AdminBrick> for BrickAt {
    type Error = Invalid;
    fn try_from(from: w::AdminBrick) -> Result<Self> {
        Ok(Self {
            host: host(from.host)?,
            port: port(from.port)?,
            path: path(from.path)?,
        })
    }
}

impl From<Volume> for w::AdminVolume {
    fn from(from: Volume) -> Self {
        let phase = match from.phase {
            Phase::Created => w::AdminPhase::Created,
            Phase::Started => w::AdminPhase::Started,
            Phase::Stopped => w::AdminPhase::Stopped,
        };
        Self {
            name: from.name,
            id: base::id16_bytes(&from.id.0),
            phase: phase.into(),
            bricks: list(from.bricks.into()),
        }
    }
}

impl TryFrom<w::AdminVolume> for Volume {
    type Error = Invalid;
    fn try_from(from: w::AdminVolume) -> Result<Self> {
        let phase = match w::AdminPhase::try_from(from.phase) {
            Ok(w::AdminPhase::Created) => Phase::Created,
            Ok(w::AdminPhase::Started) => Phase::Started,
            Ok(w::AdminPhase::Stopped) => Phase::Stopped,
            Ok(w::AdminPhase::Unspecified) | Err(_) => return Err(Invalid { what: "unknown phase" }),
        };
        Ok(Self {
            name: volume_name(from.name)?,
            id: VolumeId(base::id16(&from.id)?),
            phase,
            bricks: pair(try_list(from.bricks)?)?,
        })
    }
}

impl From<HostState> for w::AdminHost {
    fn from(from: HostState) -> Self {
        let (volume, own) = match from.volume {
            Some((volume, own)) => (Some(volume.into()), base::brick_number(own)),
            None => (None, w::BrickId::Unspecified.into()),
        };
        Self {
            id: id_bytes(from.id),
            host: from.host,
            port: from.port.into(),
            pid: from.pid,
            data: cut(from.data),
            peers: list(from.peers),
            volume,
            own,
            report: from.report.map(Into::into),
            quorum: Some(from.quorum.into()),
            fingerprint: base::fingerprint_bytes(from.fingerprint),
        }
    }
}

impl TryFrom<w::AdminHost> for HostState {
    type Error = Invalid;
    fn try_from(from: w::AdminHost) -> Result<Self> {
        require(from.peers.len() <= t::PEERS_MAX, "too many peers")?;
        let volume = match from.volume {
            Some(volume) => Some((volume.try_into()?, base::brick(from.own)?)),
            None => None,
        };
        Ok(Self {
            id: host_id(&from.id)?,
            fingerprint: base::fingerprint(&from.fingerprint)?,
            host: host(from.host)?,
            port: port(from.port)?,
            pid: from.pid,
            data: text(from.data)?,
            peers: try_list(from.peers)?,
            volume,
            report: from.report.map(TryInto::try_into).transpose()?,
            quorum: need(from.quorum, "no quorum")?.try_into()?,
        })
    }
}

impl From<PeerState> for w::AdminPeer {
    fn from(from: PeerState) -> Self {
        Self {
            id: id_bytes(from.id),
            host: from.host,
            port: from.port.into(),
            names: from.names,
            state: from.state.map(|state| (*state).into()),
            fingerprint: base::fingerprint_bytes(from.fingerprint),
        }
    }
}

impl TryFrom<w::AdminPeer> for PeerState {
    type Error = Invalid;
    fn try_from(from: w::AdminPeer) -> Result<Self> {
        require(from.names.len() <= t::PEERS_MAX, "too many names of a peer")?;
        Ok(Self {
            id: host_id(&from.id)?,
            fingerprint: base::fingerprint(&from.fingerprint)?,
            host: host(from.host)?,
            port: port(from.port)?,
            names: from.names.into_iter().map(host).collect::<Result<_>>()?,
            state: from.state.map(|s| s.try_into().map(Box::new)).transpose()?,
        })
    }
}

#[cfg(test)]
mod tests;
