//! The door: who may open a stream to this brick.
//!
//! The default is closed (L14): mounts and the peer are let in from this host and from hosts that the cluster knows.
//! Operators' verbs are checked by `cluster`.
//!
//! Not here: what a stream may say (`mounts`, `peers`).

use crate::{cluster::Cluster, driver::Driver, mounts, peers};
use mboxfs_rpc::{Acceptor, BeatHello, Link};
use mboxfs_types::{
    call::{ToBrick, ToMount},
    peer::{Beat, ToPeer},
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};
use tracing::warn;

/// Takes the streams that others open.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) driver: Arc<Driver>,
    pub(crate) cluster: Arc<Cluster>,
}

impl Gate {
    fn admits(&self, what: &str, remote: &str) -> bool {
        let ok = address(remote).is_some_and(|ip| ip.is_loopback() || self.cluster.knows(ip));
        if !ok {
            warn!("{what} stream from {remote} dropped: that host is not of this cluster");
        }
        ok
    }
}

/// The host of `remote`, an IPv4 one also if it came through an IPv6 socket.
fn address(remote: &str) -> Option<IpAddr> {
    let socket: SocketAddr = remote.parse().ok()?;
    Some(socket.ip().to_canonical())
}

impl Acceptor for Gate {
    fn mount(&self, link: Link<ToMount, ToBrick>) {
        if self.admits("mount", &link.remote) {
            let known = self.cluster.volume().map(|v| v.name);
            tokio::spawn(mounts::serve(Arc::clone(&self.driver), known, link));
        }
    }

    fn peer(&self, link: Link<ToPeer, ToPeer>) {
        if self.admits("peer", &link.remote) {
            tokio::spawn(peers::accept_peer(Arc::clone(&self.driver), link));
        }
    }

    fn beat(&self, hello: BeatHello, link: Link<Beat, Beat>) {
        if self.admits("heartbeat", &link.remote) {
            tokio::spawn(peers::accept_beat(Arc::clone(&self.driver), hello, link));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_told_apart_whatever_the_socket() {
        assert_eq!(address("10.0.0.7:4000"), "10.0.0.7".parse().ok());
        assert_eq!(address("[::ffff:10.0.0.7]:4000"), "10.0.0.7".parse().ok());
        assert_eq!(address("[fe80::1]:4000"), "fe80::1".parse().ok());
        assert_eq!(address("somewhere"), None);
    }
}
