//! Peers and the volume: what operators decide, and both brickd remember.
//!
//! U1  A verb that needs both brickd is done at the peer first; if that fails nothing is changed here.
//! U2  Changing verbs are taken from this host and from peers only (L14); a first `hello` from a stranger only while this
//!     brickd has neither peer nor volume.
//!
//! Not here: the file (`cluster::file`), words for people (`cli`), running a brick (`driver`).

mod file;

use crate::local::{Local, VolumeConfig};
use file::{Brick, Config, Peer, Volume};
use mboxfs_rpc::{
    Routes,
    admin::{
        self, AdminBrick, AdminHello, AdminPeer, AdminReport, AdminSet, AdminState, AdminStatus, AdminTell,
        AdminVolume, AdminWhat, Verb,
    },
};
use mboxfs_types::{BrickId, VolumeId, limits};
use std::{
    future::Future,
    net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// A peer on the same network answers within this.
const PEER: Duration = Duration::from_millis(2000);

/// What is remembered, and the brick that it is about.
pub(crate) struct Cluster {
    path: PathBuf,
    data: PathBuf,
    port: u16,
    local: Arc<dyn Local>,
    config: Mutex<Config>,
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

type Outcome = Result<(), Refusal>;

impl Cluster {
    pub(crate) fn open(data: &Path, listen: SocketAddr, local: Arc<dyn Local>) -> Result<Arc<Self>, String> {
        let path = data.join(".mboxfs/cluster.toml");
        let config = file::read(&path)?;
        let data = data.canonicalize().map_err(|e| format!("{}: {e}", data.display()))?;
        let cluster = Self {
            path,
            data,
            port: listen.port(),
            local,
            config: Mutex::new(config),
        };
        cluster.save()?;
        Ok(Arc::new(cluster))
    }

    pub(crate) fn routes(self: &Arc<Self>) -> Routes {
        admin::routes(Answers(Arc::clone(self)))
    }

    fn config(&self) -> MutexGuard<'_, Config> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn save(&self) -> Result<(), String> {
        file::write(&self.path, &self.config())
    }

    pub(crate) fn volume(&self) -> Option<VolumeConfig> {
        let config = self.config();
        let volume = config.volume.as_ref()?;
        Some(VolumeConfig {
            name: volume.name.clone(),
            id: VolumeId(volume.id),
            bricks: volume.bricks.iter().map(|b| format!("{}:{}", b.host, b.port)).collect(),
            own: BrickId::from_index(volume.own)?,
            started: volume.started,
        })
    }

    /// Is this an address of this host, or of a peer?
    pub(crate) fn knows(&self, ip: IpAddr) -> bool {
        if is_own(&ip.to_string()) {
            return true;
        }
        let peers: Vec<(String, u16)> = self.config().peers.iter().map(|p| (p.host.clone(), p.port)).collect();
        peers.iter().any(|(host, port)| {
            (host.as_str(), *port)
                .to_socket_addrs()
                .is_ok_and(|mut all| all.any(|a| a.ip() == ip))
        })
    }

    async fn answer(&self, remote: SocketAddr, verb: Verb) -> AdminTell {
        let ip = remote.ip().to_canonical();
        let trusted = ip.is_loopback() || self.knows(ip);
        let deep = matches!(&verb, Verb::Status(s) if s.deep);
        let outcome = match verb {
            Verb::Status(_) => Ok(()),
            Verb::Hello(hello) => self.hello(ip, trusted, &hello),
            _ if !trusted => refuse("your address is not known here", "ask from this host, or from a peer"),
            Verb::Probe(p) => self.probe(&p.host).await,
            Verb::Detach(d) => self.detach(&d.host).await,
            Verb::Create(c) => self.create(c.name, c.bricks, c.force).await,
            Verb::Adopt(volume) => self.adopt(&volume),
            Verb::Set(set) => self.set(&set).await,
        };
        match outcome {
            Ok(()) => AdminTell {
                state: Some(self.state(deep).await),
                ..AdminTell::default()
            },
            Err(Refusal { why, hint }) => AdminTell {
                refused: why,
                hint,
                state: None,
            },
        }
    }

    // ---- the pool

    fn hello(&self, ip: IpAddr, trusted: bool, hello: &AdminHello) -> Outcome {
        let port = u16::try_from(hello.port).unwrap_or(limits::PORT);
        let mut config = self.config();
        if hello.part {
            if trusted && config.volume.is_none() {
                config.peers.retain(|p| p.uuid != hello.uuid);
            }
        } else {
            let stranger = !config.peers.iter().any(|p| p.uuid == hello.uuid);
            if stranger && (!config.peers.is_empty() || config.volume.is_some()) {
                return refuse(
                    "is either already part of another cluster or having volumes configured",
                    "",
                );
            }
            if stranger {
                // By its address until a volume is made, which names its host.
                config.peers.push(Peer {
                    uuid: hello.uuid.clone(),
                    host: ip.to_string(),
                    port,
                });
            }
        }
        drop(config);
        Ok(self.save()?)
    }

    async fn probe(&self, host: &str) -> Outcome {
        let (name, port) = split(host);
        if is_own(&name) && port == self.port {
            return refuse("Probe on localhost not needed", "");
        }
        if self.config().peers.iter().any(|p| p.host == name && p.port == port) {
            return refuse(format!("Host {name} port {port} already in peer list"), "");
        }
        let hello = AdminHello {
            uuid: self.config().uuid.clone(),
            port: u32::from(self.port),
            part: false,
        };
        let state = match admin::ask(&format!("{name}:{port}"), Verb::Hello(hello), PEER).await {
            Ok(AdminTell { refused, .. }) if !refused.is_empty() => return refuse(format!("{name} {refused}"), ""),
            Ok(tell) => tell.state.unwrap_or_default(),
            Err(_) => {
                let hint = format!("is brickd running on {name}, and port {port} open?");
                return refuse("Probe returned with Transport endpoint is not connected", hint);
            }
        };
        let mut config = self.config();
        config.peers.retain(|p| p.uuid != state.uuid);
        config.peers.push(Peer {
            uuid: state.uuid,
            host: name,
            port,
        });
        drop(config);
        Ok(self.save()?)
    }

    async fn detach(&self, host: &str) -> Outcome {
        let (name, port) = split(host);
        if self.config().volume.is_some() {
            return refuse(
                format!("Peer {name} hosts one or more bricks"),
                "mboxfs volume delete VOLUME",
            );
        }
        let known = self.config().peers.iter().any(|p| p.host == name && p.port == port);
        if !known {
            return refuse(format!("{name} is not part of cluster"), "mboxfs peer status");
        }
        let hello = AdminHello {
            uuid: self.config().uuid.clone(),
            port: u32::from(self.port),
            part: true,
        };
        // It may be gone for good: then it does not need to know.
        let _ = admin::ask(&format!("{name}:{port}"), Verb::Hello(hello), PEER).await;
        self.config().peers.retain(|p| p.host != name || p.port != port);
        Ok(self.save()?)
    }

    // ---- the volume

    async fn create(&self, name: String, bricks: Vec<AdminBrick>, force: bool) -> Outcome {
        if let Some(volume) = &self.config().volume {
            let why = if volume.name == name {
                format!("Volume {name} already exists")
            } else {
                format!("this brickd's brick belongs to volume {} already", volume.name)
            };
            return refuse(why, "mboxfs volume info");
        }
        let own = bricks
            .iter()
            .position(|b| is_own(&b.host) && b.port == u32::from(self.port));
        let (Some(own), 2) = (own, bricks.len()) else {
            return refuse("one of the two bricks must be on this host", "mboxfs peer status");
        };
        let other = &bricks[1 - own];
        let peer = self.peer_at(&other.host, other.port);
        let Some(address) = peer else {
            return refuse(
                format!("Host {} is not in 'Peer in Cluster' state", other.host),
                format!("mboxfs peer probe {}", other.host),
            );
        };
        let mut volume = AdminVolume {
            name,
            id: uuid::Uuid::new_v4().as_bytes().to_vec().into(),
            bricks,
            started: false,
            own: own as u32,
            force,
        };
        self.check(&volume)?;
        volume.own = 1 - own as u32;
        tell(&address, Verb::Adopt(volume.clone())).await?; // U1
        volume.own = own as u32;
        self.adopt(&volume)
    }

    /// Address of the peer whose host this is.
    fn peer_at(&self, host: &str, port: u32) -> Option<String> {
        let ips = |h: &str| -> Vec<IpAddr> {
            (h, 0)
                .to_socket_addrs()
                .map(|all| all.map(|a| a.ip()).collect())
                .unwrap_or_default()
        };
        let wanted = ips(host);
        let config = self.config();
        let peer = config.peers.iter().find(|p| {
            u32::from(p.port) == port && (p.host == host || ips(&p.host).iter().any(|i| wanted.contains(i)))
        })?;
        Some(format!("{}:{}", peer.host, peer.port))
    }

    fn check(&self, volume: &AdminVolume) -> Outcome {
        let Some(brick) = volume
            .bricks
            .get(volume.own as usize)
            .filter(|_| volume.bricks.len() == 2)
        else {
            return refuse("a volume of two bricks is needed", "");
        };
        let path = Path::new(&brick.path);
        if path.canonicalize().ok().as_deref() != Some(&self.data) {
            let hint = format!("brickd on {} runs with --data {}", brick.host, self.data.display());
            return refuse(format!("Brick: {}:{} not available", brick.host, brick.path), hint);
        }
        let device = |p: &Path| std::fs::metadata(p).map(|m| m.dev()).ok();
        if !volume.force && device(path) == device(Path::new("/")) {
            let why = format!(
                "The brick {}:{} is being created in the root partition. It is recommended that you don't use the \
                 system's root partition for storage backend. Or use 'force' at the end of the command if you want to \
                 override this behavior.",
                brick.host, brick.path
            );
            return refuse(why, "");
        }
        Ok(())
    }

    fn adopt(&self, volume: &AdminVolume) -> Outcome {
        self.check(volume)?;
        let id = <[u8; 16]>::try_from(&volume.id[..]).map_err(|_| "a volume id has 16 bytes".to_owned())?;
        let mut config = self.config();
        if config.volume.as_ref().is_some_and(|v| v.id != id) {
            return refuse("this brickd's brick belongs to a volume already", "");
        }
        let bricks: Vec<Brick> = volume
            .bricks
            .iter()
            .map(|b| Brick {
                host: b.host.clone(),
                port: b.port as u16,
                path: b.path.clone(),
            })
            .collect();
        let other = &bricks[1 - volume.own as usize];
        if let [peer] = config.peers.as_mut_slice() {
            other.host.clone_into(&mut peer.host);
        }
        config.volume = Some(Volume {
            name: volume.name.clone(),
            id,
            bricks,
            own: volume.own,
            started: false,
        });
        drop(config);
        Ok(self.save()?)
    }

    async fn set(&self, set: &AdminSet) -> Outcome {
        let volume = self.config().volume.clone();
        let Some(volume) = volume.filter(|v| v.name == set.name) else {
            return refuse(format!("Volume {} does not exist", set.name), "mboxfs volume list");
        };
        let what = set.what();
        match what {
            AdminWhat::AdminStart if volume.started && !set.here => {
                return refuse(format!("Volume {} already started", set.name), "");
            }
            AdminWhat::AdminStop if !volume.started && !set.here => {
                return refuse(format!("Volume {} is not in the started state", set.name), "");
            }
            AdminWhat::AdminDelete if volume.started => {
                let hint = format!("mboxfs volume stop {}", set.name);
                return refuse(
                    format!(
                        "Volume {} has been started. Volume needs to be stopped before deletion.",
                        set.name
                    ),
                    hint,
                );
            }
            AdminWhat::AdminUnknown => return refuse("an unknown verb", ""),
            _ => {}
        }
        if !set.here {
            let other = &volume.bricks[1 - volume.own as usize];
            let verb = Verb::Set(AdminSet {
                here: true,
                ..set.clone()
            });
            tell(&format!("{}:{}", other.host, other.port), verb).await?; // U1
        }
        match what {
            AdminWhat::AdminDelete => self.config().volume = None,
            _ => {
                if let Some(v) = self.config().volume.as_mut() {
                    v.started = what == AdminWhat::AdminStart;
                }
            }
        }
        self.save()?;
        match (what, self.volume()) {
            (AdminWhat::AdminStart, Some(volume)) => self.local.start(volume)?,
            (AdminWhat::AdminStop, _) => self.local.stop()?,
            _ => {}
        }
        Ok(())
    }

    // ---- the state

    async fn state(&self, deep: bool) -> AdminState {
        let config = self.config().clone();
        let mut peers = Vec::new();
        for peer in config.peers {
            let address = format!("{}:{}", peer.host, peer.port);
            let mut shown = AdminPeer {
                uuid: peer.uuid,
                host: peer.host,
                port: u32::from(peer.port),
                state: None,
            };
            if deep {
                let asked = admin::ask(&address, Verb::Status(AdminStatus { deep: false }), PEER).await;
                shown.state = asked.ok().and_then(|tell| tell.state);
            }
            peers.push(shown);
        }
        let brick = |b: &Brick| AdminBrick {
            host: b.host.clone(),
            port: u32::from(b.port),
            path: b.path.clone(),
        };
        let volume = config.volume.map(|v| AdminVolume {
            name: v.name,
            id: v.id.to_vec().into(),
            bricks: v.bricks.iter().map(brick).collect(),
            started: v.started,
            own: v.own,
            force: false,
        });
        let report = self.local.report().map(|r| AdminReport {
            status: format!("{:?}", r.status).to_lowercase(),
            peer_connected: r.peer_connected,
            debt_records: r.debt_records,
            debt_bytes: r.debt_bytes,
            debt_files: r.debt_files,
            round_trips: r.round_trips,
            requests: r.requests,
            mounts: r.sessions.iter().filter(|s| s.2).count() as u64,
        });
        AdminState {
            uuid: config.uuid,
            port: u32::from(self.port),
            pid: std::process::id(),
            data: self.data.display().to_string(),
            peers,
            volume,
            report,
        }
    }
}

/// Asks the peer to do its half.
async fn tell(address: &str, verb: Verb) -> Outcome {
    match admin::ask(address, verb, PEER * 5).await {
        Ok(tell) if tell.refused.is_empty() => Ok(()),
        Ok(tell) => refuse(tell.refused, tell.hint),
        Err(error) => refuse(error.to_string(), "mboxfs peer status"),
    }
}

fn split(host: &str) -> (String, u16) {
    match host.rsplit_once(':') {
        Some((name, port)) => port
            .parse()
            .map_or((host.to_owned(), limits::PORT), |p| (name.to_owned(), p)),
        None => (host.to_owned(), limits::PORT),
    }
}

/// A socket can be bound to an own address only.
fn is_own(host: &str) -> bool {
    (host, 0)
        .to_socket_addrs()
        .is_ok_and(|mut all| all.any(|a| UdpSocket::bind(a).is_ok()))
}

#[derive(Clone)]
struct Answers(Arc<Cluster>);

impl admin::Answers for Answers {
    fn answer(&self, remote: SocketAddr, verb: Verb) -> Pin<Box<dyn Future<Output = AdminTell> + Send + '_>> {
        Box::pin(self.0.answer(remote, verb))
    }
}
