//! What this brickd says about itself and, if asked to, its peers.
//!
//! Promises: changes nothing; a peer that does not answer within `PEER` is shown without a state.
//! Not here: tables (`cli`).

use super::{Cluster, names};
use mboxfs_types::admin::{Ask, HostState, PeerState, Tell};
use std::time::Duration;

/// A peer answers a question about its state within this.
const PEER: Duration = Duration::from_millis(1000);

impl Cluster {
    pub(super) async fn state(&self, deep: bool) -> HostState {
        let config = self.config().clone();
        let mut peers = Vec::new();
        for peer in config.peers {
            let mut shown = PeerState {
                id: peer.id,
                fingerprint: peer.fingerprint,
                host: peer.host,
                port: peer.port,
                names: peer.names,
                state: None,
            };
            if deep {
                let address = names::address(&shown.host, shown.port);
                if let Ok(Tell::Done(state)) = self.ask(&address, Ask::Status { deep: false }, PEER).await {
                    // Another brickd may have taken the address over.
                    shown.state = Some(state).filter(|s| s.id == shown.id);
                }
            }
            peers.push(shown);
        }
        HostState {
            id: config.id,
            fingerprint: self.trust.fingerprint(),
            host: self.host.clone(),
            port: self.port,
            pid: std::process::id(),
            data: self.data.display().to_string(),
            peers,
            volume: config.volume,
            report: self.local.report(),
            quorum: self.local.quorum(),
        }
    }
}
