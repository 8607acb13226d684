//! Hosts by name: which are here, and which addresses the peers have.
//!
//! H1  The resolver is never waited for on the thread that beats: a name server that is away must not look like a dead brick.
//! H2  A resolver that is away makes no peer a stranger: what it said last holds.
//!
//! Not here: who may say what (`cluster`).

use super::{Cluster, Peer};
use mboxfs_rpc::{Caller, is_own_address};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, PoisonError},
    time::Duration,
};
use tokio::{net::lookup_host, runtime::Handle, time::timeout};

/// The resolver gets this long.
const LOOK_UP: Duration = Duration::from_millis(2000);
/// Names of peers are looked up this often: hosts are renumbered seldom, but then brickd must not need a restart.
const REFRESH: Duration = Duration::from_secs(10);
/// And this often while one has no address yet.
const RETRY: Duration = Duration::from_secs(1);

/// Host to its addresses, as the resolver said last.
pub(super) type Addresses = BTreeMap<String, Vec<IpAddr>>;

impl Cluster {
    /// May it speak: is it of this host, or at an address of a peer? Answered at once.
    pub(crate) fn trusts(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Host => true,
            Caller::Address(address) => self.knows(address.ip()),
        }
    }

    /// Is this an address of a peer?
    pub(super) fn knows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        let addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let config = self.config();
        let is = |name: &String| {
            let looked_up = addresses.get(name).is_some_and(|all| all.contains(&ip));
            looked_up || name.parse::<IpAddr>().is_ok_and(|literal| literal.to_canonical() == ip)
        };
        config.peers.iter().any(|p| is(&p.host) || p.names.iter().any(is))
    }

    /// Keeps the addresses of the peers known for as long as the cluster is there.
    pub(super) fn keep_looking(self: &Arc<Self>) {
        let Ok(runtime) = Handle::try_current() else {
            return; // nothing can be served without one either
        };
        let me = Arc::downgrade(self);
        runtime.spawn(async move {
            while let Some(cluster) = me.upgrade() {
                let pause = if cluster.look_up_peers().await { REFRESH } else { RETRY };
                drop(cluster);
                tokio::time::sleep(pause).await;
            }
        });
    }

    /// H1, H2. False: a peer has no address yet.
    pub(super) async fn look_up_peers(&self) -> bool {
        let mut names: Vec<String> = Vec::new();
        for peer in &self.config().peers {
            names.push(peer.host.clone());
            names.extend(peer.names.iter().cloned());
        }
        let mut found = Addresses::new();
        for name in &names {
            let now = addresses(name).await;
            if !now.is_empty() {
                found.insert(name.clone(), now);
            }
        }
        let mut known = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|name, _| names.contains(name));
        known.extend(found);
        names.iter().all(|name| known.contains_key(name))
    }

    /// Is this host meant?
    pub(super) async fn is_here(&self, host: &str) -> bool {
        let called = host.eq_ignore_ascii_case(&self.host) || self.config().names.iter().any(|n| n == host);
        called || addresses(host).await.into_iter().any(is_own_address)
    }

    /// The peer that is meant, under whatever name it is known.
    pub(super) async fn peer_at(&self, host: &str, port: Option<u16>) -> Option<Peer> {
        let mut peers = self.config().peers.clone();
        peers.retain(|p| port.is_none_or(|port| p.port == port));
        let named = |p: &&Peer| p.host == host || p.names.iter().any(|n| n == host);
        if let Some(peer) = peers.iter().find(named) {
            return Some(peer.clone());
        }
        let wanted = addresses(host).await;
        for peer in peers {
            if addresses(&peer.host).await.iter().any(|ip| wanted.contains(ip)) {
                return Some(peer);
            }
        }
        None
    }
}

/// What the resolver says; nothing if it does not answer.
async fn addresses(host: &str) -> Vec<IpAddr> {
    match timeout(LOOK_UP, lookup_host((host, 0))).await {
        Ok(Ok(all)) => all.map(|a| a.ip().to_canonical()).collect(),
        _ => Vec::new(),
    }
}

/// `host:port`, as it is dialled.
pub(super) fn address(host: &str, port: u16) -> String {
    match host.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{host}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_dialled() {
        assert_eq!(address("fe80::1", 7), "[fe80::1]:7");
        assert_eq!(address("h2", 7), "h2:7");
        assert_eq!(address("10.0.0.2", 7), "10.0.0.2:7");
    }
}
