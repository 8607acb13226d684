//! Peers and the volume: what operators decide, and both brickd remember.
//!
//! U1  A verb that needs both brickd is agreed on by both before either does it; what one cannot do, neither has done.
//! U2  Strangers are told nothing (L14): questions and orders are taken from this host and from peers only, who are known by
//!     their keys; a first `Hello` from elsewhere only while this brickd has neither peer nor volume. Both sides of it pin the
//!     key of the other one, and from then on nobody else is it.
//! U3  One change at a time, on both: two operators at two hosts never end up with two volumes.
//! U4  What is remembered is on disk before it is true here.
//!
//! Not here: the file (`file`), the pool (`pool`), verbs on the volume (`volume`, `options`, `replace`, `history`), hosts by name
//! (`names`), answers
//! (`state`), words for people (`cli`), running a brick (`driver`).

mod file;
mod history;
mod names;
mod options;
mod pool;
mod replace;
mod state;
#[cfg(test)]
mod tests;
mod volume;

use crate::{
    local::{Local, VolumeConfig},
    trust::Trust,
};
use file::{Config, Peer};
use mboxfs_rpc::{Caller, Routes, RpcError, admin};
use mboxfs_types::admin::{Ask, Phase, Tell};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::Mutex as AsyncMutex, task::spawn_blocking};

/// A peer says yes or no within this.
const ASK: Duration = Duration::from_millis(3000);

const STRANGER: &str = "your key is not known here";

/// What is remembered, and the brick that it is about.
pub(crate) struct Cluster {
    path: PathBuf,
    /// The brick's directory, without symbolic links.
    data: PathBuf,
    port: u16,
    /// What this host calls itself.
    host: String,
    local: Arc<dyn Local>,
    config: Mutex<Config>,
    trust: Arc<Trust>,
    /// U3. Held while a change is under way, and while a peer's plan waits for its word.
    changing: Arc<AsyncMutex<()>>,
    /// The plan of a peer that was agreed to, or that was done last.
    plan: Mutex<Option<volume::Agreed>>,
    /// Held while a peer's plan is done or undone: its word may come twice.
    doing: AsyncMutex<()>,
}

/// Why not, and what to do.
struct Refusal {
    why: String,
    hint: String,
}

impl From<String> for Refusal {
    fn from(why: String) -> Self {
        Self {
            why,
            hint: String::new(),
        }
    }
}

fn refuse<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        why: why.into(),
        hint: hint.into(),
    })
}

/// U2. Who is trusted follows from what is remembered.
fn pin(trust: &Trust, config: &Config) {
    let pinned: Vec<_> = config.peers.iter().map(|p| p.fingerprint).collect();
    let open = pinned.is_empty() && config.volume.is_none();
    trust.pin(pinned, open);
}

/// Text: nothing had to be done.
type Outcome = Result<Option<String>, Refusal>;

impl Cluster {
    /// What the file in `data` says. To be called on the runtime that serves.
    ///
    /// Errors: a file that cannot be believed or written; one line.
    pub(crate) fn open(
        data: &Path,
        listen: SocketAddr,
        local: Arc<dyn Local>,
        trust: Arc<Trust>,
    ) -> Result<Arc<Self>, String> {
        let path = data.join(".mboxfs/cluster.toml");
        let mut config = file::read(&path)?;
        if config.generation == 0 {
            config.generation = 1;
            file::write(&path, &config)?; // the identity must not change at the next start
        }
        pin(&trust, &config);
        let data = data.canonicalize().map_err(|e| format!("{}: {e}", data.display()))?;
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let host = Some(name).filter(|n| mboxfs_types::admin::is_host(n));
        let cluster = Arc::new(Self {
            path,
            data,
            port: listen.port(),
            host: host.unwrap_or_else(|| "localhost".to_string()),
            local,
            config: Mutex::new(config),
            trust,
            changing: Arc::default(),
            plan: Mutex::default(),
            doing: AsyncMutex::default(),
        });
        Ok(cluster)
    }

    /// The operators' service, for `mboxfs_rpc::serve`.
    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        admin::routes(Answers(Arc::clone(self)))
    }

    /// The volume that this brick belongs to.
    pub(crate) fn volume(&self) -> Option<VolumeConfig> {
        let config = self.config();
        let (volume, own) = config.volume.as_ref()?;
        Some(VolumeConfig {
            name: volume.name.clone(),
            id: volume.id,
            bricks: volume.bricks.iter().map(|b| names::address(&b.host, b.port)).collect(),
            own: *own,
            started: volume.phase == Phase::Started,
        })
    }

    fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// U4. Whoever calls it has U3's lock: nobody else changes it in between.
    ///
    /// Errors: it could not be written; nothing is changed.
    async fn change(&self, f: impl FnOnce(&mut Config)) -> Result<(), String> {
        let mut next = self.config().clone();
        f(&mut next);
        next.generation += 1;
        let (path, saved, trust) = (self.path.clone(), next.clone(), Arc::clone(&self.trust));
        // An fsync can take long, and this is the thread that beats.
        let write = move || file::write(&path, &saved).map(|()| pin(&trust, &saved));
        spawn_blocking(write).await.map_err(|e| e.to_string())??;
        *self.config() = next;
        Ok(())
    }

    /// A question to a peer.
    async fn ask(&self, address: &str, ask: Ask, within: Duration) -> Result<Tell, RpcError> {
        admin::ask(address, &self.trust.to_pinned(), ask, within).await
    }

    async fn answer(&self, caller: Caller, ask: Ask) -> Tell {
        let deep = matches!(ask, Ask::Status { deep: true });
        if let Some(ask) = history::question(&ask).filter(|_| self.trust.trusts(&caller)) {
            return self.look_back(ask).await;
        }
        match self.obey(caller, ask).await {
            Ok(None) => Tell::Done(Box::new(self.state(deep).await)),
            Ok(Some(why)) => Tell::Already(why),
            Err(Refusal { why, hint }) => Tell::Refused { why, hint },
        }
    }

    async fn obey(&self, caller: Caller, ask: Ask) -> Outcome {
        let trusted = self.trust.trusts(&caller);
        if !trusted && !matches!(ask, Ask::Hello { .. }) {
            return refuse(STRANGER, "ask on the host itself, or on its peer"); // U2
        }
        // Words about a plan come while it holds U3's lock.
        match ask {
            Ask::Status { .. } => return Ok(None),
            Ask::Commit { id } => return self.on_commit(id).await,
            Ask::Abort { id } => return self.on_abort(id).await,
            _ => self.forget_stale_plan(),
        }
        let Ok(alone) = Arc::clone(&self.changing).try_lock_owned() else {
            return refuse("another change is under way", "try again in a moment");
        };
        match ask {
            Ask::Prepare { from, id, plan } => self.on_prepare(alone, from, id, plan).await,
            Ask::Hello { from, port, called } => self.on_hello(&caller, from, port, &called).await,
            Ask::Part { from } => self.on_part(from).await,
            Ask::Probe {
                host,
                port,
                fingerprint,
            } => self.probe(&host, port, fingerprint).await,
            Ask::Detach { host, port, force } => self.detach(&host, port, force).await,
            Ask::Create { name, bricks, force } => self.create(name, bricks, force).await,
            Ask::Change { name, verb, force } => self.change_volume(&name, verb, force).await,
            Ask::Replace { name, old, new, force } => self.replace(&name, old, new, force).await,
            Ask::Retire { name, brick } => self.retire(&name, brick).await,
            Ask::Drill { name, fault, here } => self.drill(name, fault, here).await,
            Ask::Set { name, options, relayed } => self.set_options(&name, options, relayed).await,
            Ask::ForceSolo { name } => self.force_solo(&name),
            Ask::Scrub { name, verb, relayed } => self.scrub(&name, verb, relayed).await,
            Ask::Heal { name, full, relayed } => self.heal(name, full, relayed).await,
            Ask::Status { .. } | Ask::Commit { .. } | Ask::Abort { .. } => Ok(None), // above
            Ask::History(_) | Ask::Kept { .. } => Ok(None),                          // in `answer`
        }
    }
}

#[derive(Clone)]
struct Answers(Arc<Cluster>);

impl admin::Answers for Answers {
    /// In a task of its own: an operator who goes away in the middle of a change must not leave half of it.
    async fn answer(&self, caller: Caller, ask: Ask) -> Tell {
        let cluster = Arc::clone(&self.0);
        let task = tokio::spawn(async move { cluster.answer(caller, ask).await });
        task.await.unwrap_or_else(|e| Tell::Refused {
            why: format!("brickd failed: {e}"),
            hint: String::new(),
        })
    }
}
