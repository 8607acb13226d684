//! Who this host is, and which hosts it trusts: the door for all that comes by the port.
//!
//! R1  The default is closed (L14): hosts get in by a key that is pinned, and processes of this host by the socket or by its
//!     own key. While nothing is pinned and there is no volume any key may say `Hello`, and nothing else (`cluster` U2).
//! R2  The file of the identity names the hosts that are pinned, so that mounts know them while no brickd runs.
//! R3  Whoever is not let in is named in the log once an hour for each reason, and not more than `SAID_MAX` of them.
//!
//! Not here: what is pinned and when (`cluster`), keys and handshakes (`rpc`).

use mboxfs_rpc::{Caller, Credentials, Door, Guard, Identity, RpcError};
use mboxfs_types::Fingerprint;
use std::{
    collections::BTreeSet,
    net::IpAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

/// R3.
const SAID_MAX: usize = 32;
const SAID_AGAIN: Duration = Duration::from_secs(3600);

/// See above. Shared by all that listen or dial.
pub(crate) struct Trust {
    identity: Arc<Identity>,
    path: PathBuf,
    state: Mutex<State>,
}

struct State {
    pinned: Vec<Fingerprint>,
    /// R1. Strangers are met.
    open: bool,
    said: BTreeSet<(IpAddr, String)>,
    said_since: Instant,
}

impl Trust {
    /// Of the host whose identity is in `path`; a new one is made if there is none. Strangers are met until `pin` says no.
    ///
    /// Errors: one line.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>, String> {
        let (identity, pinned) = Identity::load_or_make(path)?;
        let state = State {
            pinned,
            open: true,
            said: BTreeSet::new(),
            said_since: Instant::now(),
        };
        Ok(Arc::new(Self {
            identity: Arc::new(identity),
            path: path.to_owned(),
            state: Mutex::new(state),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.identity.fingerprint()
    }

    /// These are trusted from now on, and no others; `open`: strangers are met. R2: may wait for the disk.
    pub(crate) fn pin(&self, pinned: Vec<Fingerprint>, open: bool) {
        let is_new = {
            let mut state = self.state();
            state.open = open;
            std::mem::replace(&mut state.pinned, pinned.clone()) != pinned
        };
        if is_new && let Err(why) = self.identity.save(&self.path, &pinned) {
            warn!("mounts of this host do not know its peers: {why}");
        }
    }

    /// Whoever else may come in, what does this one say that is believed?
    pub(crate) fn trusts(&self, caller: &Caller) -> bool {
        match caller {
            Caller::Host => true,
            Caller::Key { fingerprint, .. } => self.knows(fingerprint),
        }
    }

    fn knows(&self, key: &Fingerprint) -> bool {
        *key == self.fingerprint() || self.state().pinned.contains(key)
    }

    /// To speak to the hosts that are pinned.
    pub(crate) fn to_pinned(&self) -> Credentials {
        Credentials::Hosts(Arc::clone(&self.identity), self.state().pinned.clone())
    }

    /// To speak to a host that has this key; none: to one that was never met.
    pub(crate) fn to(&self, key: Option<Fingerprint>) -> Credentials {
        let identity = Arc::clone(&self.identity);
        match key {
            Some(key) => Credentials::Hosts(identity, vec![key]),
            None => Credentials::Stranger(identity),
        }
    }

    /// For a server.
    ///
    /// Errors: none is known.
    pub(crate) fn guard(self: &Arc<Self>) -> Result<Guard, RpcError> {
        let door: Arc<dyn Door> = Arc::<Self>::clone(self);
        Guard::new(&self.identity, door)
    }
}

impl Door for Trust {
    fn admits(&self, key: &Fingerprint) -> bool {
        self.state().open || self.knows(key)
    }

    fn refused(&self, who: IpAddr, why: &str) {
        let mut state = self.state();
        if state.said_since.elapsed() > SAID_AGAIN {
            state.said.clear();
            state.said_since = Instant::now();
        }
        if state.said.len() < SAID_MAX && state.said.insert((who, why.to_owned())) {
            warn!("{who} was not let in: {why}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r1_who_is_not_pinned_stays_out_once_somebody_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("identity.pem");
        let trust = Trust::open(&path).unwrap();
        let [peer, stranger] = [1, 2].map(|n| Fingerprint([n; 32]));
        let comes = |fingerprint| Caller::Key {
            fingerprint,
            address: "10.0.0.2:4000".parse().unwrap(),
        };
        assert!(
            trust.admits(&stranger) && !trust.trusts(&comes(stranger)),
            "it is met, and no more"
        );
        trust.pin(vec![peer], false);
        assert!(trust.admits(&peer) && trust.trusts(&comes(peer)));
        assert!(!trust.admits(&stranger) && !trust.trusts(&comes(stranger)));
        assert!(trust.admits(&trust.fingerprint()) && trust.trusts(&Caller::Host));
        assert_eq!(Identity::load(&path).unwrap().1, [peer], "R2");
        trust.pin(vec![stranger], false);
        assert!(!trust.admits(&peer), "what is given up stays out");
    }

    #[test]
    fn r3_the_log_is_no_flood() {
        let dir = tempfile::tempdir().unwrap();
        let trust = Trust::open(&dir.path().join("identity.pem")).unwrap();
        for n in 0..1000u32 {
            trust.refused(IpAddr::from(n.to_be_bytes()), "noise");
        }
        assert_eq!(trust.state().said.len(), SAID_MAX);
    }
}
