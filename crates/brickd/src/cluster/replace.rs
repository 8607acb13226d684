//! Another directory in the place of a brick: `volume replace-brick`, `volume reset-brick`.
//!
//! The order is given on the host whose brick stays. The brickd of the new directory is a fresh one: it has no volume, and
//! maybe the address of the one that is gone. It is taken into the pool, agrees to be that side of the volume, and marks its
//! directory as one that knows nothing before its brain begins: it can never be taken for the one that it replaces (I29).
//!
//! Promises: U1 of `cluster`; the brick that stays serves on, and only a change of addresses starts it anew.
//! Not here: how files get there (`brick::resync`), the words of plans (`volume`).

use super::{ASK, Cluster, Outcome, Peer, Refusal, file::Config, names, refuse, volume::rename};
use crate::local::VolumeConfig;
use mboxfs_types::{
    BrickId,
    admin::{Ask, BrickAt, BrickSpec, Phase, Plan, Status, Tell, Volume},
    quorum::Policy,
};

impl Cluster {
    pub(super) async fn replace(&self, name: &str, old: BrickSpec, new: BrickSpec, force: bool) -> Outcome {
        let (mut volume, own) = self.named(name)?;
        let before = volume.side(own.other()).clone();
        if self.side_of(&volume, own, &old).await? == own {
            let hint = format!("give the command on {}: its brick has to give everything", before.host);
            return refuse("the brick of this host cannot be replaced from here", hint);
        }
        let gives = |s| matches!(s, Status::Solo | Status::Normal);
        if !self.local.report().is_some_and(|r| gives(r.status)) {
            return refuse(
                "the brick of this host does not serve",
                format!("mboxfs volume status {name}"),
            );
        }
        if self.local.quorum().policy == Policy::Both && self.local.report().is_some_and(|r| r.status == Status::Normal)
        {
            let hint = format!("mboxfs volume set {name} quorum none");
            return refuse("under quorum both no brick serves while the other one is filled", hint);
        }
        let port = new.port.unwrap_or(before.port);
        if port == self.port && self.is_here(&new.host).await {
            return refuse("the two bricks must be on two hosts", "mboxfs pool list");
        }
        // Who is replaced may still be there, and knows nothing of it.
        let former = self.peer_at(&before.host, Some(before.port)).await;
        let peer = self.meet(&new.host, port).await?;
        let moved = former.filter(|p| p.id != peer.id && (&p.host, p.port) != (&peer.host, peer.port));
        volume.bricks[own.other().index() as usize] = BrickAt {
            host: new.host,
            port,
            path: new.path,
        };
        let done = self.agree_and_do(&peer, Plan::Replace { volume, force }).await;
        let gone = match (&done, &moved) {
            (Ok(_), Some(former)) => {
                let brick = BrickSpec {
                    host: before.host,
                    port: Some(before.port),
                    path: before.path,
                };
                let name = name.to_owned();
                let address = names::address(&former.host, former.port);
                let _ = self.ask(&address, Ask::Retire { name, brick }, ASK).await; // it may be dead
                Some(former.id)
            }
            (Err(_), Some(_)) => Some(peer.id),
            (_, None) => None,
        };
        self.change(|c| c.peers.retain(|p| Some(p.id) != gone)).await?;
        done
    }

    /// Takes the brickd of the new directory into the pool: beside the peer that there was, or in its place.
    async fn meet(&self, host: &str, port: u16) -> Result<Peer, Refusal> {
        let known = self.peer_at(host, Some(port)).await;
        let (id, fingerprint) = self.hello(host, port, known.as_ref().map(|p| p.fingerprint)).await?;
        let former = known.map_or(id, |p| p.id);
        let peer = Peer {
            id,
            host: host.to_owned(),
            port,
            fingerprint,
            names: Vec::new(),
        };
        let new = peer.clone();
        self.change(|c| match c.peers.iter_mut().find(|p| p.id == id || p.id == former) {
            Some(peer) => (peer.id, peer.fingerprint) = (id, fingerprint),
            None => c.peers.push(new),
        })
        .await?;
        Ok(peer)
    }

    /// Serves a brick no more, here or at the peer. One that does not answer does not serve.
    pub(super) async fn retire(&self, name: &str, brick: BrickSpec) -> Outcome {
        let (volume, own) = self.named(name)?;
        let side = self.side_of(&volume, own, &brick).await?;
        if side != own {
            let BrickAt { host, port, .. } = volume.side(side);
            let retire = Ask::Retire {
                name: name.to_owned(),
                brick,
            };
            if let Ok(Tell::Refused { why, hint }) = self.ask(&names::address(host, *port), retire, ASK).await {
                return refuse(format!("on {host}: {why}"), hint);
            }
            return Ok(None);
        }
        self.change(|c| {
            if let Some((volume, _)) = &mut c.volume {
                volume.phase = Phase::Stopped;
            }
        })
        .await?;
        self.local.stop()?;
        Ok(None)
    }

    fn named(&self, name: &str) -> Result<(Volume, BrickId), Refusal> {
        let found = self.config().volume.clone().filter(|(v, _)| v.name == name);
        found.map_or_else(
            || refuse(format!("Volume {name} does not exist"), "mboxfs volume list"),
            Ok,
        )
    }

    /// Which brick of the volume that is.
    async fn side_of(&self, volume: &Volume, own: BrickId, spec: &BrickSpec) -> Result<BrickId, Refusal> {
        for side in [own, own.other()] {
            let BrickAt { host, port, path } = volume.side(side);
            let same_host = *host == spec.host
                || side == own && self.is_here(&spec.host).await
                || self
                    .peer_at(&spec.host, Some(*port))
                    .await
                    .is_some_and(|p| p.host == *host);
            if same_host && *path == spec.path && spec.port.is_none_or(|p| p == *port) {
                return Ok(side);
            }
        }
        let BrickSpec { host, path, .. } = spec;
        refuse(
            format!("brick: {host}:{path} does not exist in volume: {}", volume.name),
            format!("mboxfs volume info {}", volume.name),
        )
    }

    /// The fresh brickd: could it be that side?
    pub(super) async fn could_replace(&self, asker: &Peer, volume: &Volume, force: bool) -> Result<(), Refusal> {
        if let Some((there, _)) = &self.config().volume {
            let hint = "start its brickd on an empty directory";
            return refuse(format!("it has volume {} already", there.name), hint);
        }
        let own = self.own_side(volume).await?;
        let again = self.config().claimed == Some(volume.id);
        if asker.port != volume.side(own.other()).port {
            return refuse("the volume has its other brick elsewhere", "mboxfs volume info");
        }
        self.check_brick(volume, own, force || again)
    }

    /// What will be remembered, on either host.
    pub(super) async fn replaced(&self, former: &Config, volume: &Volume) -> Result<Config, Refusal> {
        let mut next = former.clone();
        let own = self.own_side(volume).await?;
        if former.volume.is_none() {
            // Of the one peer of a fresh brickd only the address is known so far.
            let other = volume.side(own.other());
            if let Some(asker) = next.peers.first().map(|p| p.id) {
                rename(&mut next, asker, &other.host);
            }
            next.claimed = Some(volume.id);
        }
        next.volume = Some((volume.clone(), own));
        Ok(next)
    }

    /// After that was written down: the fresh directory is marked; a brick whose peer has another address starts anew.
    pub(super) fn make_way(&self, former: &Config, now: &VolumeConfig) -> Result<(), String> {
        match &former.volume {
            None => self.local.take_over(now),
            Some((before, own)) => {
                let BrickAt { host, port, .. } = before.side(own.other());
                let moved = now.bricks.get(own.other().index() as usize) != Some(&names::address(host, *port));
                if moved { self.local.stop() } else { Ok(()) }
            }
        }
    }
}
