//! Options of the volume, and the operator's word to go on alone.
//!
//! Promises: a policy is set on both bricks or on neither, by a record that both have (`brick::quorum` A2); a witness is
//! asked before it is relied on.
//! Not here: what a policy means (`brick::quorum`), words for people (`cli`).

use super::{ASK, Cluster, Outcome, names, refuse};
use mboxfs_brick::quorum::Order;
use mboxfs_rpc::{RpcError, ask_witness};
use mboxfs_types::{
    BrickId, Fingerprint, VolumeId,
    admin::{Ask, BrickReport, Options, Phase, ScrubVerb, Status, Tell, Volume},
    quorum::{AskWitness, Policy, Quorum, WitnessAt, WitnessTell, WitnessVerb},
};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use uuid::Uuid;

/// The witness answers an operator within this.
const WITNESS: Duration = Duration::from_millis(2000);
/// A record is executed within this, or the operator is told that it is not known.
const IN_FORCE: Duration = Duration::from_millis(5000);

impl Cluster {
    fn started_volume(&self, name: &str) -> Result<(Volume, BrickId), super::Refusal> {
        let found = self.config().volume.clone().filter(|(v, _)| v.name == name);
        let Some((volume, own)) = found else {
            return refuse(format!("Volume {name} does not exist"), "mboxfs volume list");
        };
        if volume.phase != Phase::Started {
            let hint = format!("mboxfs volume start {name}");
            return refuse(format!("Volume {name} is not started"), hint);
        }
        Ok((volume, own))
    }

    /// On the brickd whose brick is the primary; the other one passes it on, once.
    pub(super) async fn set_options(&self, name: &str, options: Options, relayed: bool) -> Outcome {
        let (volume, own) = self.started_volume(name)?;
        let hint = format!("mboxfs volume status {name}");
        let Some(report) = self.local.report().filter(|r| r.status == Status::Normal) else {
            return refuse("both bricks must be online and in step", hint);
        };
        if !report.primary {
            if relayed {
                return refuse("the bricks have just changed roles", "try again in a moment");
            }
            return self.pass_on(&volume, own, options).await;
        }
        let now = self.local.quorum();
        let Some(wanted) = self.wanted(&now, &options, &volume, own, &report).await? else {
            return Ok(Some("nothing to change".to_string()));
        };
        let g = (wanted.policy == Policy::Witness).then_some(report.view.g);
        let quorum = wanted.clone();
        if let Err(why) = self.local.order(Order::Quorum { quorum, g }) {
            return refuse(why, hint);
        }
        let began = Instant::now();
        while self.local.quorum() != wanted {
            if began.elapsed() > IN_FORCE {
                let why = "the bricks lost each other in the middle of it; it is in force when they are together again";
                return refuse(why, format!("mboxfs volume get {name} all"));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(None)
    }

    async fn pass_on(&self, volume: &Volume, own: BrickId, options: Options) -> Outcome {
        let ask = Ask::Set {
            name: volume.name.clone(),
            options,
            relayed: true,
        };
        self.ask_other(volume, own, ask, ASK + WITNESS + IN_FORCE).await
    }

    async fn ask_other(&self, volume: &Volume, own: BrickId, ask: Ask, within: Duration) -> Outcome {
        let brick = volume.side(own.other());
        let address = names::address(&brick.host, brick.port);
        match self.ask(&address, ask, within).await {
            Ok(Tell::Done(_)) => Ok(None),
            Ok(Tell::Already(why)) => Ok(Some(why)),
            Ok(Tell::History(_) | Tell::Kept(_)) => refuse("that is no answer", ""),
            Ok(Tell::Refused { why, hint }) => refuse(why, hint),
            Err(error) => refuse(
                format!("Host {} not connected: {error}", brick.host),
                "mboxfs peer status",
            ),
        }
    }

    /// What the policy will be, its register made; none: it is so already.
    async fn wanted(
        &self,
        now: &Quorum,
        options: &Options,
        volume: &Volume,
        own: BrickId,
        report: &BrickReport,
    ) -> Result<Option<Quorum>, super::Refusal> {
        let policy = options.policy.unwrap_or(now.policy);
        let named = options.witness.as_ref().map(|(host, port)| WitnessAt {
            host: host.clone(),
            port: *port,
            register: 0,
            fingerprint: Fingerprint::default(), // not met yet
        });
        let met = options.witness.is_none();
        if options.witness.is_none() && policy == now.policy {
            return Ok(None);
        }
        let Some(mut at) = named.or_else(|| now.witness.clone()) else {
            if policy == Policy::Witness {
                let hint = format!(
                    "mboxfs volume set {0} witness HOST; then mboxfs volume set {0} quorum witness",
                    volume.name
                );
                return refuse("no witness is known", hint);
            }
            return Ok(Some(Quorum { policy, witness: None }));
        };
        for brick in &volume.bricks {
            if brick.host == at.host && brick.port == at.port {
                return refuse(
                    format!("{} is a brick of this volume, it cannot be its witness", brick.host),
                    "",
                );
            }
        }
        let is_needed = policy == Policy::Witness || options.witness.is_some();
        if is_needed {
            at.register = Uuid::new_v4().as_u64_pair().0;
            let verb = WitnessVerb::Create { g: report.view.g };
            at.fingerprint = self.make_register(&at, met, volume.id, own, verb).await?;
        }
        let witness = Some(at);
        Ok(Some(Quorum { policy, witness }))
    }

    /// Both bricks do it, each for its own files; the one that is away is told, not waited for.
    pub(super) async fn scrub(&self, name: &str, verb: ScrubVerb, relayed: bool) -> Outcome {
        let (volume, own) = self.started_volume(name)?;
        let here = self.local.order(Order::Scrub(verb));
        if relayed {
            return match here {
                Ok(()) => Ok(None),
                Err(why) => refuse(why, ""),
            };
        }
        let ask = Ask::Scrub {
            name: name.to_string(),
            verb,
            relayed: true,
        };
        let there = self.ask_other(&volume, own, ask, ASK).await;
        match (here, there) {
            (Ok(()), Ok(_)) => Ok(None),
            (Ok(()), Err(other)) => {
                let why = format!("the brick of this host does, the other one does not: {}", other.why);
                refuse(why, format!("mboxfs volume scrub {name} status"))
            }
            (Err(why), _) => refuse(why, format!("mboxfs volume scrub {name} status")),
        }
    }

    /// gluster's way: refused while a brick is down.
    pub(super) async fn heal(&self, name: Option<String>, full: bool, relayed: bool) -> Outcome {
        let known = self.config().volume.as_ref().map(|(v, _)| v.name.clone());
        let Some(name) = name.or(known) else {
            return refuse("there is no volume", "mboxfs volume list");
        };
        let (volume, own) = self.started_volume(&name)?;
        if !relayed {
            let brick = volume.side(own.other());
            let address = names::address(&brick.host, brick.port);
            let ask = Ask::Heal {
                name: Some(name.clone()),
                full,
                relayed: true,
            };
            match self.ask(&address, ask, ASK).await {
                Ok(Tell::Done(_) | Tell::Already(_) | Tell::History(_) | Tell::Kept(_)) => {}
                Ok(Tell::Refused { why, hint }) => return refuse(format!("on {}: {why}", brick.host), hint),
                Err(error) => {
                    let why = format!("Brick {}:{} is not connected: {error}", brick.host, brick.path);
                    return refuse(why, format!("mboxfs volume status {name}"));
                }
            }
        }
        match self.local.order(Order::Heal { full }) {
            Ok(()) => Ok(None),
            Err(why) => refuse(why, format!("mboxfs heal status {name}")),
        }
    }

    pub(super) fn force_solo(&self, name: &str) -> Outcome {
        self.started_volume(name)?;
        match self.local.order(Order::ForceSolo) {
            Ok(()) => Ok(None),
            Err(why) => refuse(why, format!("mboxfs volume status {name}")),
        }
    }

    /// Returns the key of the witness: if it was `met` before it must be the one it had. A new register each time that the policy is set: of an older one nobody knows whether its disk was restored meanwhile.
    async fn make_register(
        &self,
        at: &WitnessAt,
        met: bool,
        volume: VolumeId,
        brick: BrickId,
        verb: WitnessVerb,
    ) -> Result<Fingerprint, super::Refusal> {
        let address = at.address();
        let ask = AskWitness {
            volume,
            register: at.register,
            brick,
            verb,
        };
        let as_whom = self.trust.to(met.then_some(at.fingerprint));
        match ask_witness(&address, &as_whom, ask, WITNESS).await {
            Ok((WitnessTell::Register { done: true, .. }, key)) => Ok(key),
            Ok(_) => refuse(format!("the witness {address} has no room for one more volume"), ""),
            Err(error @ RpcError::WrongKey { .. }) => {
                let hint = format!("if it was installed anew: mboxfs volume set NAME witness {}", at.host);
                refuse(format!("the witness is not the one it was: {error}"), hint)
            }
            Err(error) => refuse(
                format!("the witness does not answer: {error}"),
                format!("on {}: brickd --witness --data DIR", at.host),
            ),
        }
    }
}
