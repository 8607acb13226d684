//! Two drivers on real directories and real streams in one process: they meet, serve mounts, lose each other, stop.
//!
//! Not here: the decisions as such (`brick`, `sim`), the program with its signals (root `tests/`).

use crate::{
    driver::Driver,
    fatal::Fatal,
    local::{Local, VolumeConfig},
    mounts, open, peers, telemetry,
    trust::Trust,
};
use mboxfs_rpc::{Acceptor, BeatHello, Caller, Credentials, Link, Listeners, dial_mount, serve};
use mboxfs_types::{
    BrickId, Ino, Key, Name, SessionId, VolumeId,
    admin::Status,
    call::{Attach, Attached, Intent, LeaseRequest, Mode, Op, Query, Reclaim, Request, ToBrick, ToMount},
    limits,
    peer::{Beat, ToPeer},
    quorum::Quorum,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::{mpsc::UnboundedReceiver, oneshot, watch},
    time::{sleep, timeout},
};

const SOON: Duration = Duration::from_secs(20);

/// As `Gate`, without hosts to check.
#[derive(Clone)]
struct Open(Arc<Driver>);

impl Acceptor for Open {
    fn mount(&self, _: Caller, link: Link<ToMount, ToBrick>) {
        tokio::spawn(mounts::serve(Arc::clone(&self.0), Some("gVol0".to_string()), link));
    }
    fn peer(&self, _: Caller, link: Link<ToPeer, ToPeer>) {
        tokio::spawn(peers::accept_peer(Arc::clone(&self.0), link));
    }
    fn beat(&self, _: Caller, hello: BeatHello, link: Link<Beat, Beat>) {
        tokio::spawn(peers::accept_beat(Arc::clone(&self.0), hello, link));
    }
}

/// Between Brick2 and Brick1: a wire that can be cut.
struct Wire {
    whole: watch::Sender<bool>,
}

impl Wire {
    /// Listens on `listener`, goes on to `to`.
    fn new(listener: TcpListener, to: String) -> Self {
        let (whole, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let mut state = state.clone();
                if !*state.borrow_and_update() {
                    continue; // dropped
                }
                let to = to.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(to).await.unwrap();
                    near.set_nodelay(true).unwrap();
                    far.set_nodelay(true).unwrap();
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = state.changed() => {}
                    }
                });
            }
        });
        Self { whole }
    }

    fn cut(&self) {
        self.whole.send_replace(false);
    }

    fn mend(&self) {
        self.whole.send_replace(true);
    }
}

struct Node {
    driver: Arc<Driver>,
    listen: String,
    wire: Arc<Wire>,
    volume: VolumeConfig,
    fatal: UnboundedReceiver<String>,
    _serving: oneshot::Sender<()>,
    data: TempDir,
}

impl Node {
    fn start(&self) {
        self.driver.start(self.volume.clone()).unwrap();
    }

    fn status(&self) -> Option<Status> {
        self.driver.report().map(|r| r.status)
    }

    async fn becomes(&self, status: Status) {
        self.is(Some(status)).await;
    }

    /// None: it has stopped. A stop only begins when it is asked for.
    async fn is(&self, status: Option<Status>) {
        let began = Instant::now();
        while self.status() != status {
            assert!(began.elapsed() < SOON, "is {:?}, not {status:?}", self.status());
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Two nodes, formatted and listening.
async fn pair() -> [Node; 2] {
    telemetry::start(&std::env::var("RUST_LOG").unwrap_or_else(|_| "off".to_string()));
    let any = "127.0.0.1:0".parse().unwrap();
    let listeners = [any; 2].map(Listeners::bind);
    let [one, two] = listeners;
    let listeners = [one.await.unwrap(), two.await.unwrap()];
    let middle = TcpListener::bind(any).await.unwrap();
    let address = |l: &Listeners| l.address().to_string();
    let bricks = vec![middle.local_addr().unwrap().to_string(), address(&listeners[1])];
    let wire = Arc::new(Wire::new(middle, address(&listeners[0])));
    let keys = tempfile::tempdir().unwrap();
    let trusts = ["one", "two"].map(|name| Trust::open(&keys.path().join(name)).unwrap());
    for (own, other) in [(0, 1), (1, 0)] {
        trusts[own].pin(vec![trusts[other].fingerprint()], false);
    }
    let mut trusts = trusts.into_iter();
    let mut owns = [BrickId::A, BrickId::B].into_iter();
    let nodes = listeners.map(|listener| {
        let data = tempfile::tempdir().unwrap();
        open::directory(data.path()).unwrap();
        let (fatal, ended) = Fatal::channel();
        let trust = trusts.next().unwrap();
        let guard = trust.guard().unwrap();
        let driver = Driver::new(data.path(), Quorum::default(), limits::LOG_DEBT_BYTES_MAX, trust, fatal);
        let (close, closed) = oneshot::channel::<()>();
        let open = Open(Arc::clone(&driver));
        let listen = address(&listener);
        tokio::spawn(serve(listener, guard, open, None, async {
            let _ = closed.await;
        }));
        Node {
            driver,
            listen,
            wire: Arc::clone(&wire),
            volume: VolumeConfig {
                name: "gVol0".to_string(),
                id: VolumeId([7; 16]),
                bricks: bricks.clone(),
                own: owns.next().unwrap(),
                started: true,
            },
            fatal: ended,
            _serving: close,
            data,
        }
    });
    tokio::task::yield_now().await; // the servers begin
    nodes
}

/// A mount that answers nothing but what it is asked to.
struct Mount {
    link: Link<ToBrick, ToMount>,
}

impl Mount {
    async fn dial(node: &Node, nonce: u64, volume: &str) -> Self {
        let link = dial_mount(&node.listen, &Credentials::File("/".into()), SOON)
            .await
            .unwrap();
        let attach = Attach {
            protocol: limits::PROTOCOL_VERSION,
            volume: volume.to_string(),
            session: SessionId {
                client: [nonce as u8; 16],
                nonce,
            },
            attach_no: 1,
            fresh: true,
        };
        link.send.send(ToBrick::Attach(attach)).unwrap();
        Self { link }
    }

    async fn next(&mut self) -> Option<ToMount> {
        timeout(SOON, self.link.recv.recv()).await.expect("an answer in time")
    }

    /// Skips what is not wanted.
    async fn wait<T>(&mut self, want: impl Fn(ToMount) -> Option<T>) -> T {
        loop {
            let frame = self.next().await.expect("the stream goes on");
            if let Some(found) = want(frame) {
                return found;
            }
        }
    }

    /// Attached, with its view confirmed.
    async fn ready(node: &Node, nonce: u64) -> Self {
        let mut mount = Self::dial(node, nonce, "gVol0").await;
        let first = mount.next().await;
        assert!(
            matches!(first, Some(ToMount::Attached(Attached::Ok { .. }))),
            "{first:?}"
        );
        mount.reclaim().await;
        mount
    }

    /// Holds nothing; waits until the view that is announced is confirmed.
    async fn reclaim(&mut self) {
        let view = self
            .wait(|f| {
                if let ToMount::View { view, .. } = f {
                    Some(view)
                } else {
                    None
                }
            })
            .await;
        let reclaim = Reclaim {
            view,
            ..Reclaim::default()
        };
        self.link.send.send(ToBrick::Reclaim(reclaim)).unwrap();
        self.wait(|f| matches!(f, ToMount::Reclaimed(_)).then_some(())).await;
    }

    /// Makes a file; its inode number.
    async fn create(&mut self, seq: u64, name: &str) -> Ino {
        let op = Op::Create {
            dir: Ino::ROOT,
            name: Name::new(name.as_bytes()).unwrap(),
            mode: 0o600,
            uid: 8,
            gid: 8,
            excl: true,
        };
        self.link
            .send
            .send(ToBrick::Request(Request { seq, acked: seq, op }))
            .unwrap();
        let reply = self
            .wait(|f| if let ToMount::Reply(r) = f { Some(r) } else { None })
            .await;
        assert_eq!(reply.seq, seq);
        reply.result.unwrap()[0].ino
    }
}

async fn both_normal() -> [Node; 2] {
    let nodes = pair().await;
    nodes.iter().for_each(Node::start);
    for node in &nodes {
        node.becomes(Status::Normal).await;
    }
    nodes
}

#[tokio::test]
async fn two_bricks_meet_and_serve_a_mount_each() {
    let [a, b] = both_normal().await;
    let mut at_a = Mount::ready(&a, 1).await;
    let mut at_b = Mount::ready(&b, 2).await;
    at_a.create(1, "jane").await;
    at_b.create(1, "joe").await;
    let reports = [a.driver.report().unwrap(), b.driver.report().unwrap()];
    assert_eq!(reports[0].view, reports[1].view);
    assert_eq!(reports[0].sessions.len(), 2);
}

#[tokio::test]
async fn reads_and_heartbeats_reach_the_files_and_the_clock() {
    let [a, _b] = both_normal().await;
    let mut mount = Mount::ready(&a, 1).await;
    let ino = mount.create(1, "jane").await;
    let lease = LeaseRequest {
        req: 1,
        key: Key::Inode(ino),
        mode: Mode::R,
        intent: Intent::Read,
    };
    mount.link.send.send(ToBrick::Lease(lease)).unwrap();
    mount.wait(|f| matches!(f, ToMount::Granted(_)).then_some(())).await;
    let query = Query::Read {
        ino,
        offset: 0,
        len: 10,
    };
    mount.link.send.send(ToBrick::Query { id: 5, query }).unwrap();
    let found = mount
        .wait(|f| {
            if let ToMount::Found { id: 5, result } = f {
                Some(result)
            } else {
                None
            }
        })
        .await;
    assert!(found.is_ok(), "{found:?}");
    // Only heartbeats make this brick promise anything.
    let began = Instant::now();
    loop {
        mount.link.send.send(ToBrick::Ping { sent: limits::BEAT }).unwrap();
        let serve = mount
            .wait(|f| {
                if let ToMount::Pong { serve, .. } = f {
                    Some(serve)
                } else {
                    None
                }
            })
            .await;
        if serve.0 > 0 {
            break;
        }
        assert!(began.elapsed() < SOON);
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_is_not_served_is_refused_in_words() {
    let [a, _b] = pair().await;
    let mut mount = Mount::dial(&a, 1, "gVol0").await;
    let Some(ToMount::Attached(Attached::Refused { why })) = mount.next().await else {
        panic!("not refused");
    };
    assert_eq!(why, "volume gVol0 is not started");
    assert_eq!(mount.next().await, None);
    let mut mount = Mount::dial(&a, 1, "other").await;
    let Some(ToMount::Attached(Attached::Refused { why })) = mount.next().await else {
        panic!("not refused");
    };
    assert_eq!(why, "volume other does not exist on this brick");
    a.start();
    let mut mount = Mount::dial(&a, 1, "gVol0").await;
    assert!(matches!(
        mount.next().await,
        Some(ToMount::Attached(Attached::NotServing { .. }))
    ));
    assert_eq!(mount.next().await, None);
}

#[tokio::test]
async fn one_goes_on_alone_and_the_other_one_comes_back() {
    let [a, b] = both_normal().await;
    let mut mount = Mount::ready(&a, 1).await;
    mount.create(1, "jane").await;
    b.driver.stop().unwrap();
    a.becomes(Status::Solo).await;
    b.is(None).await;
    mount.reclaim().await; // the view is another one now
    mount.create(2, "joe").await;
    b.start();
    for node in [&a, &b] {
        node.becomes(Status::Normal).await;
    }
    assert_eq!(b.driver.report().unwrap().commit, a.driver.report().unwrap().commit);
}

#[tokio::test]
async fn after_a_cut_the_side_without_changes_is_opened_anew_and_learns() {
    let [a, b] = both_normal().await;
    let mut mount = Mount::ready(&a, 1).await;
    a.wire.cut();
    for node in [&a, &b] {
        node.becomes(Status::Solo).await;
    }
    mount.reclaim().await;
    mount.create(1, "jane").await;
    let mut other = Mount::dial(&b, 2, "gVol0").await;
    a.wire.mend();
    for node in [&a, &b] {
        node.becomes(Status::Normal).await;
    }
    // The life that this mount was attached to is over, and so is its stream.
    while other.next().await.is_some() {}
    let reports = [a.driver.report().unwrap(), b.driver.report().unwrap()];
    assert_eq!(reports[0].view, reports[1].view);
    assert_eq!(reports[0].inodes, reports[1].inodes);
}

#[tokio::test]
async fn stop_and_start_at_once_begins_a_second_life() {
    let [a, b] = both_normal().await;
    a.driver.stop().unwrap();
    a.start();
    for node in [&a, &b] {
        node.becomes(Status::Normal).await;
    }
    a.driver.quit().await;
    assert_eq!(a.status(), None);
    assert!(a.driver.start(a.volume.clone()).is_err());
}

#[tokio::test]
async fn a_directory_of_another_volume_is_refused() {
    let [a, _b] = pair().await;
    a.start();
    a.driver.stop().unwrap();
    a.driver.quit().await;
    let (fatal, _) = Fatal::channel();
    let trust = Trust::open(&a.data.path().join(".mboxfs/identity.pem")).unwrap();
    let second = Driver::new(
        a.data.path(),
        Quorum::default(),
        limits::LOG_DEBT_BYTES_MAX,
        trust,
        fatal,
    );
    let other = VolumeConfig {
        id: VolumeId([8; 16]),
        ..a.volume.clone()
    };
    let why = second.start(other).unwrap_err();
    assert!(why.contains("belongs to another volume"), "{why}");
    second.start(a.volume.clone()).unwrap();
}

#[tokio::test]
async fn a_streams_end_is_the_end_of_its_task_and_of_nothing_else() {
    let [mut a, b] = both_normal().await;
    for nonce in 1..20 {
        drop(Mount::dial(&a, nonce, "gVol0").await);
    }
    let mut mount = Mount::ready(&b, 99).await;
    mount.create(1, "jane").await;
    assert!(a.fatal.try_recv().is_err());
}
