//! The door: who may open a stream to this brick.
//!
//! The default is closed (L14): mounts of this host and of the peer, and the peer itself. Operators' verbs are checked by
//! `cluster`.
//!
//! Not here: who is trusted (`trust`), what a stream may say (`mounts`, `peers`).

use crate::{cluster::Cluster, driver::Driver, mounts, peers, trust::Trust};
use mboxfs_rpc::{Acceptor, BeatHello, Caller, Link};
use mboxfs_types::{
    call::{ToBrick, ToMount},
    peer::{Beat, ToPeer},
};
use std::sync::Arc;
use tracing::warn;

/// Takes the streams that others open.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) driver: Arc<Driver>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) trust: Arc<Trust>,
}

impl Gate {
    fn admits(&self, what: &str, caller: &Caller) -> bool {
        let ok = self.trust.trusts(caller);
        if !ok {
            warn!("{what} stream from {caller} dropped: that host is not of this cluster");
        }
        ok
    }
}

impl Acceptor for Gate {
    fn mount(&self, caller: Caller, link: Link<ToMount, ToBrick>) {
        if self.admits("mount", &caller) {
            let known = self.cluster.volume().map(|v| v.name);
            tokio::spawn(mounts::serve(Arc::clone(&self.driver), known, link));
        }
    }

    fn peer(&self, caller: Caller, link: Link<ToPeer, ToPeer>) {
        if self.admits("peer", &caller) {
            tokio::spawn(peers::accept_peer(Arc::clone(&self.driver), link));
        }
    }

    fn beat(&self, caller: Caller, hello: BeatHello, link: Link<Beat, Beat>) {
        if self.admits("heartbeat", &caller) {
            tokio::spawn(peers::accept_beat(Arc::clone(&self.driver), hello, link));
        }
    }
}
