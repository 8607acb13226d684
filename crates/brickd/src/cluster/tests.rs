//! Two clusters in one process, on loopback, with bricks that only say that they run.
//!
//! Not here: real bricks (`crate::tests`), the program and its words (`cli`, root `tests/`).

use super::*;
use crate::local::{HistoryAsk, HistoryJob, HistoryTell};
use mboxfs_brick::quorum::Order;
use mboxfs_rpc::{Acceptor, BeatHello, Credentials, Identity, Link, Listeners};
use mboxfs_types::{
    BrickId, Fingerprint, GenId, Timestamp,
    admin::{BrickReport, BrickSpec, Fault, HostId, HostState, Options, Plan, Status, VolumeVerb},
    call::{Space, ToBrick, ToMount, View},
    history::Page,
    peer::{Beat, ToPeer},
    quorum::{Policy, Quorum},
};
use std::fs;
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

const IDENTITY: &str = ".mboxfs/identity.pem";

#[derive(Default)]
struct Fake {
    running: Mutex<Option<VolumeConfig>>,
    broken: Mutex<bool>,
    /// Its brain says that the peer is away.
    alone: Mutex<bool>,
    drills: Mutex<Vec<Fault>>,
    quorum: Mutex<Quorum>,
}

impl Local for Fake {
    fn start(&self, volume: VolumeConfig) -> Result<(), String> {
        if *self.broken.lock().unwrap() {
            return Err("the disk is on fire".into());
        }
        *self.running.lock().unwrap() = Some(volume);
        Ok(())
    }
    fn stop(&self) -> Result<(), String> {
        *self.running.lock().unwrap() = None;
        Ok(())
    }
    fn take_over(&self, _: &VolumeConfig) -> Result<(), String> {
        Ok(())
    }
    fn report(&self) -> Option<BrickReport> {
        let brick = self.running.lock().unwrap().as_ref()?.own;
        Some(BrickReport {
            brick,
            status: if *self.alone.lock().unwrap() {
                Status::Solo
            } else {
                Status::Normal
            },
            primary: brick == BrickId::A,
            view: View {
                g: GenId::default(),
                v: 1,
            },
            peer_connected: true,
            peer_away: None,
            last: 1,
            commit: 1,
            peer_durable: 1,
            on_both: 9,
            debt_records: 0,
            debt_bytes: 0,
            debt_messages: 0,
            debt_files: Vec::new(),
            conflicts: Vec::new(),
            resync: None,
            files_pending: 0,
            healing: None,
            merged: 0,
            sessions: Vec::new(),
            space: Space {
                total: 0,
                free: 0,
                inodes: 0,
                inodes_free: 0,
            },
            inodes: 1,
            round_trips: 0,
            requests: 0,
            flushes: 0,
            waits: None,
            witness: None,
            scrub: mboxfs_types::admin::ScrubReport::default(),
        })
    }
    fn drill(&self, fault: Fault) -> Result<(), String> {
        self.drills.lock().unwrap().push(fault);
        Ok(())
    }

    fn quorum(&self) -> Quorum {
        self.quorum.lock().unwrap().clone()
    }
    fn order(&self, order: Order) -> Result<(), String> {
        if let Order::Quorum { quorum, .. } = order {
            *self.quorum.lock().unwrap() = quorum;
        }
        Ok(())
    }
    fn look_back(&self, job: HistoryJob) -> Result<(), String> {
        let page = Page {
            begins: Some(Timestamp::default()),
            ..Page::default()
        };
        let told = match job.ask {
            HistoryAsk::Page(_) => Ok(HistoryTell::Page(page)),
            HistoryAsk::Message { skip, .. } => Ok(HistoryTell::Message(vec![skip as u8])),
        };
        job.tell.send(told).map_err(|_| "nobody waits".to_string())
    }
    fn data_dir(&self) -> PathBuf {
        PathBuf::new()
    }
}

#[derive(Clone)]
struct Nobody;

impl Acceptor for Nobody {
    fn mount(&self, _: Caller, _: Link<ToMount, ToBrick>) {}
    fn peer(&self, _: Caller, _: Link<ToPeer, ToPeer>) {}
    fn beat(&self, _: Caller, _: BeatHello, _: Link<Beat, Beat>) {}
}

fn fresh_dir() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join(".mboxfs")).unwrap();
    dir
}

struct Side {
    dir: TempDir,
    fake: Arc<Fake>,
    cluster: Arc<Cluster>,
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    server: JoinHandle<()>,
}

impl Side {
    async fn new() -> Self {
        Self::on(fresh_dir(), "127.0.0.1:0".parse().unwrap()).await
    }

    async fn on(dir: TempDir, address: SocketAddr) -> Self {
        let listeners = Listeners::bind(address).await.unwrap();
        let address = listeners.address();
        let fake = Arc::new(Fake::default());
        let local: Arc<dyn Local> = Arc::<Fake>::clone(&fake);
        let trust = Trust::open(&dir.path().join(IDENTITY)).unwrap();
        let guard = trust.guard().unwrap();
        let cluster = Cluster::open(dir.path(), address, local, trust).unwrap();
        let routes = Cluster::routes(&cluster);
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            mboxfs_rpc::serve(listeners, guard, Nobody, Some(routes), stopped)
                .await
                .unwrap();
        });
        Self {
            dir,
            fake,
            cluster,
            address,
            stop,
            server,
        }
    }

    async fn down(self) -> (TempDir, SocketAddr) {
        self.stop.send(()).unwrap();
        self.server.await.unwrap();
        (self.dir, self.address)
    }

    fn port(&self) -> u16 {
        self.address.port()
    }

    fn brick(&self) -> BrickSpec {
        BrickSpec {
            host: "127.0.0.1".into(),
            port: Some(self.port()),
            path: self.dir.path().display().to_string(),
        }
    }

    async fn tell(&self, ask: Ask) -> Tell {
        // By the socket, as mboxfs does.
        let as_whom = Credentials::File(self.dir.path().join(IDENTITY));
        admin::ask(&self.address.to_string(), &as_whom, ask, ASK * 4)
            .await
            .unwrap()
    }

    async fn done(&self, ask: Ask) -> HostState {
        match self.tell(ask).await {
            Tell::Done(state) => *state,
            other => panic!("{other:?}"),
        }
    }

    async fn refused(&self, ask: Ask) -> String {
        match self.tell(ask).await {
            Tell::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    fn is_idle(&self) -> bool {
        self.cluster.changing.try_lock().is_ok()
    }
}

fn probe(side: &Side) -> Ask {
    Ask::Probe {
        host: "127.0.0.1".into(),
        port: side.port(),
        fingerprint: None,
    }
}

fn create(one: BrickSpec, two: BrickSpec, force: bool) -> Ask {
    Ask::Create {
        name: "gVol0".into(),
        bricks: [one, two],
        force,
    }
}

fn change(verb: VolumeVerb) -> Ask {
    Ask::Change {
        name: "gVol0".into(),
        verb,
        force: false,
    }
}

fn detach(side: &Side, force: bool) -> Ask {
    Ask::Detach {
        host: "127.0.0.1".into(),
        port: Some(side.port()),
        force,
    }
}

/// Two hosts with a volume that is not started.
async fn pair() -> (Side, Side) {
    let (one, two) = (Side::new().await, Side::new().await);
    one.done(probe(&two)).await;
    one.done(create(one.brick(), two.brick(), true)).await;
    (one, two)
}

#[tokio::test]
async fn from_strangers_to_a_volume() {
    let (one, two) = (Side::new().await, Side::new().await);
    let early = one.refused(create(one.brick(), two.brick(), true)).await;
    assert_eq!(early, "Host 127.0.0.1 is not in 'Peer in Cluster' state");
    assert_eq!(
        one.tell(probe(&one)).await,
        Tell::Already("Probe on localhost not needed".into())
    );
    one.done(probe(&two)).await;
    let again = format!("Host 127.0.0.1 port {} already in peer list", two.port());
    assert_eq!(one.tell(probe(&two)).await, Tell::Already(again));
    let status = two.done(Ask::Status { deep: true }).await;
    assert_eq!(status.peers.len(), 1, "the probed side knows the prober");
    assert_eq!(status.peers[0].state.as_ref().unwrap().id, one.cluster.config().id);

    let state = one.done(create(one.brick(), two.brick(), true)).await;
    assert_eq!(state.volume.unwrap().0.phase, Phase::Created);
    let (a, b) = (one.cluster.volume().unwrap(), two.cluster.volume().unwrap());
    assert_eq!(
        (a.own, b.own, a.id == b.id, a.started),
        (BrickId::A, BrickId::B, true, false)
    );
    assert_eq!(a.bricks, [one.address.to_string(), two.address.to_string()]);
    assert_eq!(
        one.refused(create(one.brick(), two.brick(), true)).await,
        "Volume gVol0 already exists"
    );
}

#[tokio::test]
async fn from_a_volume_to_strangers() {
    let (one, two) = pair().await;
    two.done(change(VolumeVerb::Start)).await;
    assert_eq!(
        one.refused(change(VolumeVerb::Start)).await,
        "Volume gVol0 already started"
    );
    let state = one.done(Ask::Status { deep: true }).await;
    assert_eq!(state.report.unwrap().status, Status::Normal);
    assert_eq!(
        state.peers[0].state.as_ref().unwrap().report.as_ref().unwrap().brick,
        BrickId::B
    );
    let reopened = Cluster::open(
        one.dir.path(),
        one.address,
        Arc::<Fake>::default(),
        Arc::clone(&one.cluster.trust),
    )
    .unwrap();
    assert!(reopened.volume().unwrap().started, "U4");

    assert!(
        one.refused(change(VolumeVerb::Delete))
            .await
            .contains("needs to be stopped")
    );
    one.done(change(VolumeVerb::Stop)).await;
    assert_eq!((one.fake.report(), two.fake.report()), (None, None));
    assert!(
        one.refused(change(VolumeVerb::Stop))
            .await
            .contains("not in the started state")
    );
    assert_eq!(
        two.done(Ask::Status { deep: false }).await.volume.unwrap().0.phase,
        Phase::Stopped
    );
    assert!(
        one.refused(detach(&two, false))
            .await
            .contains("hosts one or more bricks")
    );
    two.done(change(VolumeVerb::Delete)).await;
    assert_eq!((one.cluster.volume(), two.cluster.volume()), (None, None));
    let used = one.refused(create(one.brick(), two.brick(), true)).await;
    assert!(
        used.ends_with("is already part of a volume"),
        "its mail is still there: {used}"
    );
    one.done(detach(&two, false)).await;
    assert!(two.cluster.config().peers.is_empty() && one.cluster.config().peers.is_empty());
    assert!(
        one.refused(detach(&two, false))
            .await
            .contains("is not part of cluster")
    );
}

#[tokio::test]
async fn bricks_are_checked_on_both_sides() {
    let (one, two) = (Side::new().await, Side::new().await);
    one.done(probe(&two)).await;
    let at = |side: &Side, path: &str| BrickSpec {
        path: path.into(),
        ..side.brick()
    };
    for (a, b) in [(at(&one, "/nowhere"), two.brick()), (one.brick(), at(&two, "/nowhere"))] {
        let Tell::Refused { why, hint } = one.tell(create(a, b, true)).await else {
            panic!()
        };
        assert!(why.contains("not available. It is not the directory"), "{why}");
        assert!(hint.contains("--data /"), "{hint}");
    }
    let inside = format!("{}/.mboxfs", two.dir.path().display());
    let why = one.refused(create(one.brick(), at(&two, &inside), true)).await;
    assert!(
        why.contains("may be containing or be contained by an existing brick."),
        "{why}"
    );
    assert!(
        one.refused(create(one.brick(), one.brick(), true))
            .await
            .contains("on two hosts")
    );
    let unknown = BrickSpec {
        host: "192.0.2.1".into(),
        ..two.brick()
    };
    let why = one.refused(create(one.brick(), unknown, true)).await;
    assert_eq!(why, "Host 192.0.2.1 is not in 'Peer in Cluster' state");
    let device = |p: &Path| std::os::unix::fs::MetadataExt::dev(&fs::metadata(p).unwrap());
    if device(one.dir.path()) == device(Path::new("/")) {
        let why = one.refused(create(one.brick(), two.brick(), false)).await;
        assert_eq!(
            why,
            format!(
                "The brick 127.0.0.1:{} is being created in the root partition. It is recommended that you don't use \
                 the system's root partition for storage backend. Or use 'force' at the end of the command if you want \
                 to override this behavior.",
                one.dir.path().display()
            )
        );
    }
    for side in [&one, &two] {
        assert_eq!(side.cluster.volume(), None, "U1");
        assert!(side.is_idle(), "U3: nothing is reserved any more");
    }
    // The other order of bricks: the asker is Brick2.
    one.done(create(two.brick(), one.brick(), true)).await;
    assert_eq!(one.cluster.volume().unwrap().own, BrickId::B);
    assert_eq!(two.cluster.volume().unwrap().own, BrickId::A);
}

#[tokio::test]
async fn u1_what_fails_on_one_side_is_done_on_none() {
    let (one, two) = pair().await;
    for broken in [&two, &one] {
        *broken.fake.broken.lock().unwrap() = true;
        let why = one.refused(change(VolumeVerb::Start)).await;
        assert!(why.contains("the disk is on fire"), "{why}");
        for side in [&one, &two] {
            assert!(!side.cluster.volume().unwrap().started);
            assert_eq!(side.fake.report(), None);
            assert!(side.is_idle());
        }
        *broken.fake.broken.lock().unwrap() = false;
    }
    one.done(change(VolumeVerb::Start)).await;
    let (dir, address) = two.down().await;
    let why = one.refused(change(VolumeVerb::Stop)).await;
    assert!(why.starts_with("Host 127.0.0.1 not connected"), "{why}");
    assert!(one.cluster.volume().unwrap().started && one.fake.report().is_some());
    let two = Side::on(dir, address).await;
    assert!(two.cluster.volume().unwrap().started);
    one.done(change(VolumeVerb::Stop)).await;
    assert!(!two.cluster.volume().unwrap().started);
}

#[tokio::test]
async fn words_about_a_plan_may_come_twice_late_or_never() {
    let (one, two) = pair().await;
    let from = one.cluster.config().id;
    let volume = one.cluster.volume().unwrap().id;
    let prepare = |id: [u8; 16]| Ask::Prepare {
        from,
        id,
        plan: Plan::Change {
            id: volume,
            name: "gVol0".into(),
            verb: VolumeVerb::Start,
        },
    };
    two.done(prepare([1; 16])).await;
    assert!(two.refused(change(VolumeVerb::Start)).await.contains("under way"), "U3");
    two.done(Ask::Commit { id: [1; 16] }).await;
    two.done(Ask::Commit { id: [1; 16] }).await;
    assert!(two.fake.report().is_some() && two.is_idle());
    // The asker failed: the peer undoes it. The asker gives the verb again later.
    two.done(Ask::Abort { id: [1; 16] }).await;
    two.done(Ask::Abort { id: [1; 16] }).await;
    assert_eq!(two.fake.report(), None);
    assert!(!two.cluster.volume().unwrap().started);

    two.done(prepare([2; 16])).await;
    two.done(Ask::Abort { id: [2; 16] }).await;
    assert!(two.is_idle());
    assert!(
        two.refused(Ask::Commit { id: [2; 16] })
            .await
            .contains("not known any more")
    );
    // The asker is gone for good: its plan is forgotten.
    two.done(prepare([3; 16])).await;
    two.cluster.plan.lock().unwrap().as_mut().unwrap().expire();
    one.done(change(VolumeVerb::Start)).await;
    // Done there, answer lost here: the verb can be given again.
    let id = [4; 16];
    let stop = Plan::Change {
        id: volume,
        name: "gVol0".into(),
        verb: VolumeVerb::Stop,
    };
    two.done(Ask::Prepare { from, id, plan: stop }).await;
    two.done(Ask::Commit { id }).await;
    one.done(change(VolumeVerb::Stop)).await;
}

#[tokio::test]
async fn a_volume_whose_creation_was_lost_on_the_way_can_be_created_again() {
    let (one, two) = pair().await;
    let before = two.cluster.volume().unwrap().id;
    one.cluster.change(|c| c.volume = None).await.unwrap();
    one.done(create(one.brick(), two.brick(), true)).await;
    let id = one.cluster.volume().unwrap().id;
    assert!(id != before && two.cluster.volume().unwrap().id == id);
}

#[tokio::test]
async fn a_third_host_is_refused_on_both_ways() {
    let (one, two, three) = (Side::new().await, Side::new().await, Side::new().await);
    one.done(probe(&two)).await;
    assert!(one.refused(probe(&three)).await.contains("two hosts already"));
    assert!(three.cluster.config().peers.is_empty(), "it was not asked");
    let why = three.refused(probe(&two)).await;
    assert_eq!(
        why,
        "127.0.0.1 is either already part of another cluster or having volumes configured"
    );
    let dead = Ask::Probe {
        host: "127.0.0.1".into(),
        port: 1,
        fingerprint: None,
    };
    assert_eq!(
        three.refused(dead).await,
        "Probe returned with Transport endpoint is not connected"
    );
}

#[tokio::test]
async fn u2_strangers_learn_and_change_nothing() {
    let (one, two) = (Side::new().await, Side::new().await);
    let stranger = Caller::Key {
        fingerprint: Fingerprint([9; 32]),
        address: "192.0.2.7:4000".parse().unwrap(),
    };
    let hello = |from: HostId| Ask::Hello {
        from,
        port: 1,
        called: "h1".into(),
    };
    let asks = |one: &Side| {
        let id = [0; 16];
        [
            Ask::Status { deep: true },
            probe(one),
            detach(one, true),
            change(VolumeVerb::Stop),
            create(one.brick(), one.brick(), true),
            Ask::Part { from: HostId([0; 16]) },
            Ask::Commit { id },
            Ask::Abort { id },
        ]
    };
    for ask in asks(&one) {
        let tell = one.cluster.answer(stranger.clone(), ask.clone()).await;
        assert!(matches!(&tell, Tell::Refused { why, .. } if why == STRANGER), "{ask:?}");
    }
    one.done(probe(&two)).await;
    let known = two.cluster.config().id;
    let own = one.cluster.config().id;
    for from in [HostId([9; 16]), known, own] {
        let tell = one.cluster.answer(stranger.clone(), hello(from)).await;
        assert!(matches!(tell, Tell::Refused { .. }), "an identity is no secret");
    }
    assert_eq!(one.cluster.config().peers.len(), 1);
    // A first one is taken, and its key is known from then on.
    let three = Side::new().await;
    assert!(!three.cluster.trust.trusts(&stranger));
    assert!(matches!(
        three.cluster.answer(stranger.clone(), hello(HostId([9; 16]))).await,
        Tell::Done(_)
    ));
    assert!(three.cluster.trust.trusts(&stranger) && three.cluster.config().names == ["h1"]);
}

#[tokio::test]
async fn a_peer_that_is_gone_can_be_detached_by_force() {
    let (one, two) = (Side::new().await, Side::new().await);
    one.done(probe(&two)).await;
    let (dir, address) = two.down().await;
    let state = one.done(Ask::Status { deep: true }).await;
    assert_eq!(state.peers[0].state, None);
    let gone = Ask::Detach {
        host: "127.0.0.1".into(),
        port: Some(address.port()),
        force: false,
    };
    assert!(
        one.refused(gone.clone())
            .await
            .contains("One of the peers is probably down")
    );
    let Ask::Detach { host, port, .. } = gone else {
        unreachable!()
    };
    one.done(Ask::Detach {
        host,
        port,
        force: true,
    })
    .await;
    assert!(one.cluster.config().peers.is_empty());
    let two = Side::on(dir, address).await;
    assert_eq!(two.cluster.config().peers.len(), 1, "it was not told");
    one.done(probe(&two)).await; // and is found again
}

#[tokio::test]
async fn a_drill_takes_one_of_two_that_are_whole() {
    let (one, two) = pair().await;
    let drill = |fault, here| {
        let name = "gVol0".to_owned();
        Ask::Drill { name, fault, here }
    };
    let not_whole = "the bricks are not both online and healed";
    assert_eq!(one.refused(drill(Fault::Crash, true)).await, not_whole, "not started");
    one.done(change(VolumeVerb::Start)).await;
    one.done(drill(Fault::SlowDisk, false)).await;
    one.done(drill(Fault::Crash, true)).await;
    let drills = |side: &Side| side.fake.drills.lock().unwrap().clone();
    assert_eq!(
        (drills(&one), drills(&two)),
        (vec![Fault::Crash], vec![Fault::SlowDisk])
    );
    *two.fake.alone.lock().unwrap() = true;
    let there = format!("on 127.0.0.1: {not_whole}");
    assert_eq!(one.refused(drill(Fault::Crash, false)).await, there);
    let name = "other".to_owned();
    let (fault, here) = (Fault::Crash, true);
    assert_eq!(
        one.refused(Ask::Drill { name, fault, here }).await,
        "Volume other does not exist"
    );
    assert_eq!(drills(&one).len() + drills(&two).len(), 2);
}

#[tokio::test]
async fn options_are_set_at_the_primary_whoever_is_asked() {
    let (one, two) = pair().await;
    let set = |policy, witness: Option<(&str, u16)>| Ask::Set {
        name: "gVol0".into(),
        options: Options {
            policy,
            witness: witness.map(|(host, port)| (host.to_owned(), port)),
        },
        relayed: false,
    };
    let both = || set(Some(Policy::Both), None);
    assert_eq!(one.refused(both()).await, "Volume gVol0 is not started");
    one.done(change(VolumeVerb::Start)).await;
    // Brick1 is the primary of the fakes.
    let policy = |side: &Side| side.fake.quorum.lock().unwrap().policy;
    two.done(both()).await;
    assert_eq!(policy(&one), Policy::Both);
    assert_eq!(one.tell(both()).await, Tell::Already("nothing to change".into()));
    let unknown = two.refused(set(Some(Policy::Witness), None)).await;
    assert_eq!(unknown, "no witness is known");
    let dead = one.refused(set(Some(Policy::Witness), Some(("127.0.0.1", 9)))).await;
    assert!(dead.starts_with("the witness does not answer: "), "{dead}");
    let brick = one.refused(set(None, Some(("127.0.0.1", two.port())))).await;
    assert_eq!(brick, "127.0.0.1 is a brick of this volume, it cannot be its witness");
    assert_eq!(policy(&one), Policy::Both, "what is refused changes nothing");
    assert!(one.is_idle() && two.is_idle());
}

#[tokio::test]
async fn u2_hosts_are_known_by_their_keys() {
    let (one, two) = pair().await;
    let key = |side: &Side| side.cluster.trust.fingerprint();
    assert_eq!(one.cluster.config().peers[0].fingerprint, key(&two));
    assert_eq!(two.cluster.config().peers[0].fingerprint, key(&one));
    let trusted = |side: &Side| Identity::load(&side.dir.path().join(IDENTITY)).unwrap().1;
    assert_eq!((trusted(&one), trusted(&two)), (vec![key(&two)], vec![key(&one)]));

    // Another one at the peer's address is not spoken to.
    let (dir, address) = two.down().await;
    let impostor = Side::on(fresh_dir(), address).await;
    let why = one.refused(change(VolumeVerb::Start)).await;
    assert!(
        why.contains("it has an unknown key") && why.contains(&key(&impostor).to_string()),
        "{why}"
    );
    let Tell::Refused { why, hint } = one.tell(probe(&impostor)).await else {
        panic!()
    };
    assert!(why.contains("has the fingerprint"), "{why}");
    assert!(hint.contains(&format!("--fingerprint {}", key(&impostor))), "{hint}");
    assert_eq!(impostor.cluster.config().peers, [], "it was told nothing");
    // And is told no by the peer itself.
    let why = impostor.refused(probe(&one)).await;
    assert!(why.ends_with("having volumes configured"), "{why}");
    impostor.down().await;
    // The peer with its own key is as good as before; an operator may name another one.
    let two = Side::on(dir, address).await;
    one.done(change(VolumeVerb::Start)).await;
    assert!(two.fake.report().is_some());
    two.down().await;
    let anew = Side::on(fresh_dir(), address).await;
    let mut named = probe(&anew);
    if let Ask::Probe { fingerprint, .. } = &mut named {
        *fingerprint = Some(key(&anew));
    }
    one.done(named).await;
    assert_eq!(one.cluster.config().peers.len(), 1);
    assert_eq!(one.cluster.config().peers[0].fingerprint, key(&anew));
    assert!(one.done(Ask::Status { deep: true }).await.peers[0].state.is_some());
}

#[tokio::test]
async fn a_probe_that_names_another_key_changes_nothing() {
    let (one, two) = (Side::new().await, Side::new().await);
    let mut named = probe(&two);
    if let Ask::Probe { fingerprint, .. } = &mut named {
        *fingerprint = Some(Fingerprint([1; 32]));
    }
    let why = one.refused(named).await;
    assert!(why.contains("has the fingerprint"), "{why}");
    assert_eq!(
        (one.cluster.config().peers.len(), two.cluster.config().peers.len()),
        (0, 0)
    );
}
