//! Who is in the pool: probe, detach, and what the other side of them does.
//!
//! Promises: U1 of `cluster`: the other host is told first; one that refuses leaves nothing here.
//! Not here: who may say so (`cluster`), addresses (`names`).

use super::{ASK, Cluster, Outcome, Peer, STRANGER, names, refuse};
use mboxfs_rpc::{Caller, RpcError, admin};
use mboxfs_types::{
    Fingerprint,
    admin::{Ask, HostId, PEERS_MAX, Tell},
};
use std::net::IpAddr;

/// gluster's words.
const TAKEN: &str = "is either already part of another cluster or having volumes configured";
const DEAD: &str = "Probe returned with Transport endpoint is not connected";

/// Adds a name to a list of names.
fn learn(names: &mut Vec<String>, name: &str) {
    if names.len() < PEERS_MAX && !names.iter().any(|n| n == name) {
        names.push(name.to_owned());
    }
}

impl Cluster {
    /// `expected`: its key must be this one, whatever it was before.
    pub(super) async fn probe(&self, host: &str, port: u16, expected: Option<Fingerprint>) -> Outcome {
        if port == self.port && self.is_here(host).await {
            return Ok(Some("Probe on localhost not needed".to_owned()));
        }
        let known = self.peer_at(host, Some(port)).await;
        if known.is_none() && !self.config().peers.is_empty() {
            return refuse(
                "the pool has two hosts already, and a volume has two bricks",
                "mboxfs pool list",
            );
        }
        let already = known
            .as_ref()
            .is_some_and(|p| p.host == host || p.names.iter().any(|n| n == host));
        let in_list = || Ok(Some(format!("Host {host} port {port} already in peer list")));
        let key = expected.or(known.as_ref().map(|p| p.fingerprint));
        let (id, fingerprint) = match self.hello(host, port, key).await {
            Ok(met) => met,
            Err(refusal) if already && refusal.why == DEAD => return in_list(),
            Err(refusal) => return Err(refusal),
        };
        let is_new = known.as_ref().is_none_or(|p| p.fingerprint != fingerprint);
        // The one that is known may come with another identity: then it was installed anew.
        let former = known.map_or(id, |p| p.id);
        self.change(|c| match c.peers.iter_mut().find(|p| p.id == id || p.id == former) {
            Some(peer) => {
                (peer.id, peer.fingerprint) = (id, fingerprint);
                if peer.host != host {
                    learn(&mut peer.names, host);
                }
            }
            None => c.peers.push(Peer {
                id,
                host: host.to_owned(),
                port,
                fingerprint,
                names: Vec::new(),
            }),
        })
        .await?;
        if already && !is_new { in_list() } else { Ok(None) }
    }

    /// Who is there, with the key that is given if one is, and takes us into its pool.
    pub(super) async fn hello(
        &self,
        host: &str,
        port: u16,
        key: Option<Fingerprint>,
    ) -> Result<(HostId, Fingerprint), super::Refusal> {
        let own = self.config().id;
        let hello = Ask::Hello {
            from: own,
            port: self.port,
            called: host.to_owned(),
        };
        match admin::meet(&names::address(host, port), &self.trust.to(key), hello, ASK).await {
            Ok((Tell::Done(state), Some(key))) if state.id != own => Ok((state.id, key)),
            Ok((Tell::Done(_) | Tell::Already(_) | Tell::History(_) | Tell::Kept(_), _)) => refuse(
                format!("{host} has the identity of this brickd: its brick directory is a copy"),
                "start its brickd on an empty directory",
            ),
            Ok((Tell::Refused { why, hint }, _)) => refuse(format!("{host} {why}"), hint),
            Err(RpcError::WrongKey { fingerprint, .. }) => refuse(
                format!(
                    "{host} has the fingerprint {fingerprint}, not {}",
                    key.unwrap_or_default()
                ),
                format!(
                    "there: mboxfs pool list; if it was installed anew: mboxfs peer probe {host} --fingerprint {fingerprint}"
                ),
            ),
            // It lets strangers in while it is nobody's.
            Err(RpcError::Unwanted { .. }) => refuse(
                format!("{host} {TAKEN}"),
                "there: mboxfs peer status; if this host was installed anew: mboxfs peer probe --fingerprint",
            ),
            Err(_) => refuse(DEAD, format!("is brickd running on {host}, and port {port} open?")),
        }
    }

    /// The other side of a probe.
    pub(super) async fn on_hello(&self, caller: &Caller, from: HostId, port: u16, called: &str) -> Outcome {
        let Caller::Key { fingerprint, address } = caller else {
            return refuse("hosts say so by their keys only", "mboxfs peer probe");
        };
        let (stranger, busy) = {
            let config = self.config();
            if from == config.id {
                return refuse("has your identity: one brick directory is a copy of the other", "");
            }
            let stranger = !config.peers.iter().any(|p| p.id == from);
            (stranger, !config.peers.is_empty() || config.volume.is_some())
        };
        if stranger && busy {
            return refuse(TAKEN, "there: mboxfs peer status");
        }
        if !stranger && !self.trust.trusts(caller) {
            return refuse(STRANGER, ""); // an identity is no secret
        }
        let (ip, fingerprint) = (address.ip().to_canonical().to_string(), *fingerprint);
        self.change(|c| {
            if called.parse::<IpAddr>().is_err() {
                learn(&mut c.names, called);
            }
            match c.peers.iter_mut().find(|p| p.id == from) {
                Some(peer) => peer.port = port,
                // By its address until a volume is made, which names its host.
                None => c.peers.push(Peer {
                    id: from,
                    host: ip,
                    port,
                    fingerprint,
                    names: Vec::new(),
                }),
            }
        })
        .await?;
        Ok(None)
    }

    pub(super) async fn detach(&self, host: &str, port: Option<u16>, force: bool) -> Outcome {
        let Some(peer) = self.peer_at(host, port).await else {
            let here = port.is_none_or(|p| p == self.port) && self.is_here(host).await;
            let why = if here { "localhost" } else { "not part of cluster" };
            return refuse(format!("{host} is {why}"), "mboxfs peer status");
        };
        if let Some((volume, _)) = &self.config().volume {
            let hint = format!("mboxfs volume delete {}", volume.name);
            return refuse(format!("Peer {host} hosts one or more bricks."), hint);
        }
        let part = Ask::Part { from: self.config().id };
        match self.ask(&names::address(&peer.host, peer.port), part, ASK).await {
            Ok(Tell::Refused { why, hint }) if !force => return refuse(format!("{host}: {why}"), hint),
            Err(_) if !force => {
                let hint = format!("mboxfs peer detach {host} force");
                return refuse("One of the peers is probably down. Check with 'peer status'", hint);
            }
            _ => {}
        }
        self.change(|c| c.peers.retain(|p| p.id != peer.id)).await?;
        Ok(None)
    }

    /// The other side of a detach.
    pub(super) async fn on_part(&self, from: HostId) -> Outcome {
        if let Some((volume, _)) = &self.config().volume {
            return refuse(format!("it has a brick of volume {}", volume.name), "");
        }
        self.change(|c| c.peers.retain(|p| p.id != from)).await?;
        Ok(None)
    }
}
