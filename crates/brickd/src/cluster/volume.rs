//! Verbs on the volume: create, start, stop, delete, each on both brickd or on none.
//!
//! U1 is kept so: the peer is asked whether it could (`Prepare`; a yes reserves it), then told to do it (`Commit`), then it
//! is done here. If that fails here, the peer undoes it (`Abort`). A word that is lost is said again: each may be said twice.
//!
//! Promises: a half that was done at the peer while its answer was lost is no obstacle to giving the verb again.
//! Not here: who may say so (`cluster`), running the brick (`driver`).

use super::{ASK, Cluster, Outcome, Peer, Refusal, file::Config, names, refuse};
use mboxfs_rpc::RpcError;
use mboxfs_types::{
    BrickId, VolumeId,
    admin::{Ask, BrickAt, BrickReport, BrickSpec, Fault, HostId, Phase, Plan, Status, Tell, Volume, VolumeVerb},
};
use std::{
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::OwnedMutexGuard, task::spawn_blocking};
use uuid::Uuid;

/// A peer that starts a volume reads its log first.
const COMMIT: Duration = Duration::from_millis(8000);
/// A plan that was agreed to waits this long for its word.
const PLAN_WAIT: Duration = Duration::from_secs(30);
/// A commit whose answer is lost is said this often in all.
const COMMITS: u32 = 3;
const COMMIT_PAUSE: Duration = Duration::from_millis(300);

/// A peer's plan.
pub(super) struct Agreed {
    id: [u8; 16],
    plan: Plan,
    until: Instant,
    /// U3, until it is done. None: it is done.
    alone: Option<OwnedMutexGuard<()>>,
    /// What was before it.
    former: Config,
    /// `Config::generation` behind it: what was changed since must not be undone with it.
    after: u64,
}

#[cfg(test)]
impl Agreed {
    pub(super) fn expire(&mut self) {
        self.until = Instant::now() - Duration::from_millis(1);
    }
}

/// The state of the volume that a verb leads to.
const fn phase(verb: VolumeVerb) -> Option<Phase> {
    match verb {
        VolumeVerb::Start => Some(Phase::Started),
        VolumeVerb::Stop => Some(Phase::Stopped),
        VolumeVerb::Delete => None,
    }
}

fn is_started(config: &Config) -> bool {
    config.volume.as_ref().is_some_and(|(v, _)| v.phase == Phase::Started)
}

impl Cluster {
    pub(super) async fn create(&self, name: String, bricks: [BrickSpec; 2], force: bool) -> Outcome {
        if let Some((volume, _)) = &self.config().volume {
            if volume.name == name {
                return refuse(format!("Volume {name} already exists"), "mboxfs volume info");
            }
            let why = format!(
                "this brickd has volume {} already, and one brickd has one brick",
                volume.name
            );
            return refuse(why, "mboxfs volume info");
        }
        let [one, two] = bricks;
        let (one, first) = self.place(one).await?;
        let (two, second) = self.place(two).await?;
        let (own, peer) = match (first, second) {
            (None, Some(peer)) => (BrickId::A, peer),
            (Some(peer), None) => (BrickId::B, peer),
            _ => {
                return refuse(
                    "the two bricks must be on two hosts, one of them this one",
                    "mboxfs pool list",
                );
            }
        };
        let volume = Volume {
            name,
            id: VolumeId(*Uuid::new_v4().as_bytes()),
            phase: Phase::Created,
            bricks: [one, two],
        };
        self.check_brick(&volume, own, force)?;
        self.agree_and_do(&peer, Plan::Create { volume, force }).await
    }

    /// Completes a brick; none: it is here, else at that peer.
    async fn place(&self, spec: BrickSpec) -> Result<(BrickAt, Option<Peer>), Refusal> {
        let BrickSpec { host, port, path } = spec;
        let at = |host, port| BrickAt { host, port, path };
        if port.is_none_or(|p| p == self.port) && self.is_here(&host).await {
            return Ok((at(host, self.port), None));
        }
        match self.peer_at(&host, port).await {
            Some(peer) => Ok((at(host, peer.port), Some(peer))),
            None => refuse(
                format!("Host {host} is not in 'Peer in Cluster' state"),
                format!("mboxfs peer probe {host}"),
            ),
        }
    }

    /// Could the brick of this host be that side of the volume? Where RIVALS.md has gluster's words, they are used.
    pub(super) fn check_brick(&self, volume: &Volume, own: BrickId, force: bool) -> Result<(), Refusal> {
        let BrickAt { host, path, .. } = volume.side(own);
        let place = Path::new(path);
        let whole = place.canonicalize().unwrap_or_else(|_| place.to_path_buf());
        if whole != self.data {
            let hint = format!(
                "brickd on {host} was started with --data {0}: name {host}:{0}",
                self.data.display()
            );
            let why = if whole.starts_with(&self.data) || self.data.starts_with(&whole) {
                format!(
                    "Brick: {host}:{path} not available. Brick may be containing or be contained by an existing brick."
                )
            } else {
                format!("Brick: {host}:{path} not available. It is not the directory of the brickd on {host}.")
            };
            return refuse(why, hint);
        }
        if self.config().claimed.is_some_and(|id| id != volume.id) {
            let hint =
                format!("start brickd on {host} on an empty directory; the mail in {path} is of a deleted volume");
            return refuse(format!("{path} is already part of a volume"), hint);
        }
        let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
        if !force && device(&self.data) == device(Path::new("/")) {
            let why = format!(
                "The brick {host}:{path} is being created in the root partition. It is recommended that you don't use \
                 the system's root partition for storage backend. Or use 'force' at the end of the command if you want \
                 to override this behavior."
            );
            return refuse(why, "");
        }
        Ok(())
    }

    pub(super) async fn change_volume(&self, name: &str, verb: VolumeVerb, force: bool) -> Outcome {
        let found = self.config().volume.clone().filter(|(v, _)| v.name == name);
        let Some((volume, own)) = found else {
            return refuse(format!("Volume {name} does not exist"), "mboxfs volume list");
        };
        let started = volume.phase == Phase::Started;
        match verb {
            VolumeVerb::Start if started && !force => return refuse(format!("Volume {name} already started"), ""),
            VolumeVerb::Stop if !started => return refuse(format!("Volume {name} is not in the started state"), ""),
            VolumeVerb::Delete => not_started(&volume)?,
            _ => {}
        }
        let BrickAt { host, port, .. } = volume.side(own.other());
        let Some(peer) = self.peer_at(host, Some(*port)).await else {
            let hint = format!("mboxfs peer probe {host}");
            return refuse(format!("Host {host} is not in 'Peer in Cluster' state"), hint);
        };
        let plan = Plan::Change {
            id: volume.id,
            name: name.to_owned(),
            verb,
        };
        self.agree_and_do(&peer, plan).await
    }

    /// A brick fails on purpose, here or at the peer: only one of two that are whole, so that the other one goes on.
    pub(super) async fn drill(&self, name: String, fault: Fault, here: bool) -> Outcome {
        let found = self.config().volume.clone().filter(|(v, _)| v.name == name);
        let Some((volume, own)) = found else {
            return refuse(format!("Volume {name} does not exist"), "mboxfs volume list");
        };
        let whole = |r: &BrickReport| r.status == Status::Normal && r.debt_records == 0;
        if !self.local.report().as_ref().is_some_and(whole) {
            let why = "the bricks are not both online and healed";
            return refuse(why, format!("mboxfs heal status {name}"));
        }
        if here {
            return self.local.drill(fault).map(|()| None).map_err(Into::into);
        }
        let BrickAt { host, port, .. } = volume.side(own.other());
        let there = Ask::Drill {
            name,
            fault,
            here: true,
        };
        match self.ask(&names::address(host, *port), there, ASK).await {
            Ok(Tell::Refused { why, hint }) => refuse(format!("on {host}: {why}"), hint),
            // Both sides of a cut link are deaf.
            Ok(_) if fault == Fault::Partition => self.local.drill(fault).map(|()| None).map_err(Into::into),
            Ok(_) => Ok(None),
            Err(error) => refuse(error.to_string(), "mboxfs peer status"),
        }
    }

    /// U1.
    pub(super) async fn agree_and_do(&self, peer: &Peer, plan: Plan) -> Outcome {
        let address = names::address(&peer.host, peer.port);
        let id = *Uuid::new_v4().as_bytes();
        let prepare = Ask::Prepare {
            from: self.config().id,
            id,
            plan: plan.clone(),
        };
        match self.ask(&address, prepare, ASK).await {
            // Words about a brick name its host: they stay as gluster's scripts know them.
            Ok(Tell::Refused { why, hint }) if why.contains(&peer.host) => return refuse(why, hint),
            Ok(Tell::Refused { why, hint }) => return refuse(format!("on {}: {why}", peer.host), hint),
            Ok(_) => {}
            Err(error) => {
                self.abort(&address, id, ASK).await; // it may have said yes
                return refuse(
                    format!("Host {} not connected: {error}", peer.host),
                    "mboxfs peer status",
                );
            }
        }
        if let Err(refusal) = self.commit(peer, &address, id).await {
            self.abort(&address, id, COMMIT).await;
            return Err(refusal);
        }
        match self.carry_out(&plan, None).await {
            Ok(()) => Ok(None),
            Err(why) if self.abort(&address, id, COMMIT).await => Err(why.into()),
            Err(why) => refuse(
                format!("{why}; {} has done it and could not be told to undo it", peer.host),
                "mboxfs volume info, on both hosts",
            ),
        }
    }

    /// Tells the peer to do it, again if the answer is lost.
    async fn commit(&self, peer: &Peer, address: &str, id: [u8; 16]) -> Result<(), Refusal> {
        let mut last: Option<RpcError> = None;
        for _ in 0..COMMITS {
            match self.ask(address, Ask::Commit { id }, COMMIT).await {
                Ok(Tell::Refused { why, hint }) => return refuse(format!("on {}: {why}", peer.host), hint),
                Ok(_) => return Ok(()),
                Err(error) => last = Some(error),
            }
            tokio::time::sleep(COMMIT_PAUSE).await;
        }
        let why = last.map_or_else(String::new, |e| e.to_string());
        refuse(
            format!("Host {} agreed and was lost: {why}", peer.host),
            "mboxfs peer status; then give the command again",
        )
    }

    /// True: the peer has not done it, or has undone it.
    async fn abort(&self, address: &str, id: [u8; 16], within: Duration) -> bool {
        matches!(self.ask(address, Ask::Abort { id }, within).await, Ok(Tell::Done(_)))
    }

    // ---- the peer's half

    pub(super) async fn on_prepare(
        &self,
        alone: OwnedMutexGuard<()>,
        from: HostId,
        id: [u8; 16],
        plan: Plan,
    ) -> Outcome {
        let asker = self.config().peers.iter().find(|p| p.id == from).cloned();
        let Some(asker) = asker else {
            return refuse("you are not in the peer list here", "mboxfs peer probe");
        };
        match &plan {
            Plan::Create { volume, force } => self.could_create(&asker, volume, *force).await?,
            Plan::Replace { volume, force } => self.could_replace(&asker, volume, *force).await?,
            Plan::Change { id, name, verb } => match &self.config().volume {
                Some((volume, _)) if volume.id != *id => {
                    return refuse(
                        format!("volume {} is another one", volume.name),
                        "mboxfs volume info, on both hosts",
                    );
                }
                Some((volume, _)) if *verb == VolumeVerb::Delete => not_started(volume)?,
                None if *verb != VolumeVerb::Delete => {
                    return refuse(
                        format!("Volume {name} does not exist"),
                        format!("mboxfs volume delete {name}"),
                    );
                }
                _ => {}
            },
        }
        let agreed = Agreed {
            id,
            plan,
            until: Instant::now() + PLAN_WAIT,
            alone: Some(alone),
            former: self.config().clone(),
            after: 0,
        };
        *self.plan.lock().unwrap_or_else(PoisonError::into_inner) = Some(agreed);
        Ok(None)
    }

    async fn could_create(&self, asker: &Peer, volume: &Volume, force: bool) -> Result<(), Refusal> {
        // The same one again: its creation was done here and got lost there. It was never started.
        let same = |v: &Volume| v.name == volume.name && v.bricks == volume.bricks && v.phase == Phase::Created;
        if let Some((there, _)) = self.config().volume.as_ref().filter(|(v, _)| !same(v)) {
            return refuse(format!("it has volume {} already", there.name), "mboxfs volume info");
        }
        let own = self.own_side(volume).await?;
        let other = volume.side(own.other());
        if self
            .peer_at(&other.host, Some(other.port))
            .await
            .is_none_or(|p| p.id != asker.id)
        {
            let why = format!("{} is not known by that name here", other.host);
            return refuse(why, format!("there: mboxfs peer probe {}", other.host));
        }
        self.check_brick(volume, own, force)
    }

    /// Which brick of `volume` is here.
    pub(super) async fn own_side(&self, volume: &Volume) -> Result<BrickId, Refusal> {
        for own in [BrickId::A, BrickId::B] {
            let brick = volume.side(own);
            if brick.port == self.port && self.is_here(&brick.host).await {
                return Ok(own);
            }
        }
        refuse("none of the bricks is here", "mboxfs pool list")
    }

    pub(super) async fn on_commit(&self, id: [u8; 16]) -> Outcome {
        let _doing = self.doing.lock().await;
        let plan = {
            let agreed = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = agreed.as_ref().filter(|a| a.id == id && a.alone.is_some());
            waiting.map(|a| a.plan.clone())
        };
        let Some(plan) = plan else {
            if self.config().last_plan == Some(id) {
                return Ok(None); // said again
            }
            return refuse("that plan is not known any more", "give the command again");
        };
        let result = self.carry_out(&plan, Some(id)).await;
        let mut agreed = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        if result.is_err() {
            *agreed = None;
        } else if let Some(agreed) = agreed.as_mut() {
            agreed.after = self.config().generation;
            agreed.alone = None;
        }
        drop(agreed);
        result.map(|()| None).map_err(Into::into)
    }

    pub(super) async fn on_abort(&self, id: [u8; 16]) -> Outcome {
        let _doing = self.doing.lock().await;
        let mine = {
            let mut agreed = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
            agreed.take_if(|a| a.id == id)
        };
        match mine {
            // Not done: the guard in it is dropped, and that was all.
            Some(Agreed { alone: Some(_), .. }) => Ok(None),
            Some(Agreed { former, after, .. }) => {
                let alone = Arc::clone(&self.changing).try_lock_owned();
                if alone.is_err() || self.config().generation != after {
                    return refuse("another change came in between", "");
                }
                self.undo(former).await?;
                Ok(None)
            }
            // Restarted since: what was done stays, and the asker says so.
            None if self.config().last_plan == Some(id) => refuse("it is done, and what was before is forgotten", ""),
            None => Ok(None),
        }
    }

    pub(super) fn forget_stale_plan(&self) {
        let Ok(_idle) = self.doing.try_lock() else { return };
        let mut agreed = self.plan.lock().unwrap_or_else(PoisonError::into_inner);
        agreed.take_if(|a| a.until < Instant::now());
    }

    // ---- doing it

    /// Does this host's half. `id`: it was a peer's plan.
    ///
    /// Errors: one line; nothing is changed.
    async fn carry_out(&self, plan: &Plan, id: Option<[u8; 16]>) -> Result<(), String> {
        let former = self.config().clone();
        let mut next = former.clone();
        next.last_plan = id.or(next.last_plan);
        match plan {
            Plan::Create { volume, .. } => {
                let own = self.own_side(volume).await.map_err(|r| r.why)?;
                let other = volume.side(own.other());
                if let Some(asker) = self.peer_at(&other.host, Some(other.port)).await {
                    rename(&mut next, asker.id, &other.host);
                }
                next.volume = Some((volume.clone(), own));
            }
            Plan::Replace { volume, .. } => {
                let last_plan = next.last_plan;
                next = self.replaced(&former, volume).await.map_err(|r| r.why)?;
                next.last_plan = last_plan;
            }
            Plan::Change { verb, .. } => match (phase(*verb), &mut next.volume) {
                (None, volume) => *volume = None,
                (Some(phase), Some((volume, _))) => {
                    volume.phase = phase;
                    if phase == Phase::Started {
                        next.claimed = Some(volume.id);
                    }
                }
                (Some(_), None) => return Err("the volume is gone".to_string()),
            },
        }
        let started = is_started(&next);
        // U4: first the file, then the brick; if that fails, the file again.
        self.change(|c| {
            *c = Config {
                generation: c.generation,
                ..next
            }
        })
        .await?;
        let made_way = match (plan, self.volume()) {
            (Plan::Replace { .. }, Some(now)) => self.make_way(&former, &now),
            _ => Ok(()),
        };
        let ran = match made_way {
            Ok(()) => self.run_or_stop(started).await,
            Err(why) => Err(why),
        };
        if let Err(why) = ran {
            self.change(|c| {
                *c = Config {
                    generation: c.generation,
                    ..former
                }
            })
            .await?;
            return Err(why);
        }
        Ok(())
    }

    async fn undo(&self, former: Config) -> Result<(), String> {
        let started = is_started(&former);
        // The directory may have been claimed on disk meanwhile; that is not undone.
        self.change(|c| {
            let (generation, claimed) = (c.generation, c.claimed);
            *c = Config {
                generation,
                claimed,
                ..former
            };
        })
        .await?;
        self.run_or_stop(started).await
    }

    /// Both have no effect if it is so already. Off the runtime's thread: a start reads the log.
    async fn run_or_stop(&self, started: bool) -> Result<(), String> {
        let volume = self.volume().filter(|_| started);
        let local = Arc::clone(&self.local);
        let job = spawn_blocking(move || volume.map_or_else(|| local.stop(), |v| local.start(v)));
        job.await.map_err(|e| e.to_string())?
    }
}

/// The name that the operator gave the peer's host at create is the one by which it is dialled from now on.
pub(super) fn rename(config: &mut Config, id: HostId, host: &str) {
    let Some(peer) = config.peers.iter_mut().find(|p| p.id == id && p.host != host) else {
        return;
    };
    let before = std::mem::replace(&mut peer.host, host.to_owned());
    peer.names.retain(|n| n != host);
    peer.names.push(before);
}

fn not_started(volume: &Volume) -> Result<(), Refusal> {
    if volume.phase != Phase::Started {
        return Ok(());
    }
    let name = &volume.name;
    let why = format!("Volume {name} has been started. Volume needs to be stopped before deletion.");
    refuse(why, format!("mboxfs volume stop {name}"))
}
