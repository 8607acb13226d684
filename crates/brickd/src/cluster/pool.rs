//! Who is in the pool: probe, detach, and what the other side of them does.
//!
//! Promises: U1 of `cluster`: the other host is told first; one that refuses leaves nothing here.
//! Not here: who may say so (`cluster`), addresses (`names`).

use super::{ASK, Cluster, Outcome, Peer, UNKNOWN_ADDRESS, names, refuse};
use mboxfs_rpc::{Caller, admin};
use mboxfs_types::admin::{Ask, HostId, PEERS_MAX, Tell};
use std::net::{IpAddr, Ipv4Addr};

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
    pub(super) async fn probe(&self, host: &str, port: u16) -> Outcome {
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
        let already = known.is_some_and(|p| p.host == host || p.names.iter().any(|n| n == host));
        let in_list = || Ok(Some(format!("Host {host} port {port} already in peer list")));
        let id = match self.hello(host, port).await {
            Ok(id) => id,
            Err(refusal) if already && refusal.why == DEAD => return in_list(),
            Err(refusal) => return Err(refusal),
        };
        self.change(|c| match c.peers.iter_mut().find(|p| p.id == id) {
            Some(peer) if peer.host != host => learn(&mut peer.names, host),
            Some(_) => {}
            None => c.peers.push(Peer {
                id,
                host: host.to_owned(),
                port,
                names: Vec::new(),
            }),
        })
        .await?;
        self.look_up_peers().await;
        if already { in_list() } else { Ok(None) }
    }

    /// Who is there, and takes us into its pool.
    async fn hello(&self, host: &str, port: u16) -> Result<HostId, super::Refusal> {
        let own = self.config().id;
        let hello = Ask::Hello {
            from: own,
            port: self.port,
            called: host.to_owned(),
        };
        match admin::ask(&names::address(host, port), hello, ASK).await {
            Ok(Tell::Done(state)) if state.id != own => Ok(state.id),
            Ok(Tell::Done(_) | Tell::Already(_)) => refuse(
                format!("{host} has the identity of this brickd: its brick directory is a copy"),
                "start its brickd on an empty directory",
            ),
            Ok(Tell::Refused { why, hint }) => refuse(format!("{host} {why}"), hint),
            Err(_) => refuse(DEAD, format!("is brickd running on {host}, and port {port} open?")),
        }
    }

    /// The other side of a probe.
    pub(super) async fn on_hello(
        &self,
        caller: &Caller,
        trusted: bool,
        from: HostId,
        port: u16,
        called: &str,
    ) -> Outcome {
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
        if !stranger && !trusted {
            return refuse(UNKNOWN_ADDRESS, ""); // an identity is no secret
        }
        let ip = match caller {
            Caller::Host => IpAddr::from(Ipv4Addr::LOCALHOST),
            Caller::Address(address) => address.ip().to_canonical(),
        };
        let ip = ip.to_string();
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
                    names: Vec::new(),
                }),
            }
        })
        .await?;
        self.look_up_peers().await;
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
        match admin::ask(&names::address(&peer.host, peer.port), part, ASK).await {
            Ok(Tell::Refused { why, hint }) if !force => return refuse(format!("{host}: {why}"), hint),
            Err(_) if !force => {
                let hint = format!("mboxfs peer detach {host} force");
                return refuse("One of the peers is probably down. Check with 'peer status'", hint);
            }
            _ => {}
        }
        self.change(|c| c.peers.retain(|p| p.id != peer.id)).await?;
        self.look_up_peers().await;
        Ok(None)
    }

    /// The other side of a detach.
    pub(super) async fn on_part(&self, from: HostId) -> Outcome {
        if let Some((volume, _)) = &self.config().volume {
            return refuse(format!("it has a brick of volume {}", volume.name), "");
        }
        self.change(|c| c.peers.retain(|p| p.id != from)).await?;
        self.look_up_peers().await;
        Ok(None)
    }
}
