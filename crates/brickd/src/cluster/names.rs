//! Hosts by name: which are here, and which peer is meant. Names prove nothing: hosts are known by their keys (`trust`).
//!
//! Promises: the resolver is never waited for on the thread that beats, and for `LOOK_UP` at most.
//! Not here: who may say what (`cluster`).

use super::{Cluster, Peer};
use mboxfs_rpc::is_own_address;
use std::{
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// The resolver gets this long.
const LOOK_UP: Duration = Duration::from_millis(2000);
impl Cluster {
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
