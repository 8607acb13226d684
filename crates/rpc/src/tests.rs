//! Links over loopback: what arrives, how they end, and who else may knock at the port.
//!
//! Promises: K1 to K3 of `link`, those of `serve`, `dial` and `listen`. Everything runs on one current_thread runtime, as in
//! brickd.
//! Not here: conversions (`convert/tests`).

use crate::wire::fs_client::FsClient;
use crate::*;
use bytes::Bytes;
use mboxfs_types::call::*;
use mboxfs_types::peer::{Beat, Ping, Pong, ToPeer};
use mboxfs_types::{BrickId, Errno, Fingerprint, Ino, Key, Name, Nanos, SessionId, Timestamp, VolumeId, limits};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::StreamExt;

mod door;

const SOON: Duration = Duration::from_secs(5);

fn goodbye() -> ToPeer {
    let why = "it was stopped on purpose".to_owned();
    ToPeer::Goodbye { why }
}

type MountLink = Link<ToMount, ToBrick>;
type PeerLink = Link<ToPeer, ToPeer>;
type BeatLink = Link<Beat, Beat>;

#[derive(Clone)]
struct Taker {
    mounts: mpsc::UnboundedSender<MountLink>,
    peers: mpsc::UnboundedSender<PeerLink>,
    beats: mpsc::UnboundedSender<(BeatHello, BeatLink)>,
}

impl Acceptor for Taker {
    fn mount(&self, _: Caller, link: MountLink) {
        let _ = self.mounts.send(link);
    }
    fn peer(&self, _: Caller, link: PeerLink) {
        let _ = self.peers.send(link);
    }
    fn beat(&self, _: Caller, hello: BeatHello, link: BeatLink) {
        let _ = self.beats.send((hello, link));
    }
}

struct Server {
    address: String,
    mounts: mpsc::UnboundedReceiver<MountLink>,
    peers: mpsc::UnboundedReceiver<PeerLink>,
    beats: mpsc::UnboundedReceiver<(BeatHello, BeatLink)>,
    porter: Arc<Porter>,
    stop: Option<oneshot::Sender<()>>,
    done: tokio::task::JoinHandle<Result<(), RpcError>>,
}

/// Keys that come up in these tests: of the host, and of a stranger.
fn identities() -> &'static [Identity; 2] {
    static IDENTITIES: OnceLock<[Identity; 2]> = OnceLock::new();
    IDENTITIES.get_or_init(|| [0; 2].map(|_| Identity::generate().unwrap()))
}

/// Admits the host's own key, and notes who else came.
#[derive(Default)]
struct Porter {
    refused: Mutex<Vec<String>>,
}

impl Door for Porter {
    fn admits(&self, key: &Fingerprint) -> bool {
        *key == identities()[0].fingerprint()
    }
    fn refused(&self, _: IpAddr, why: &str) {
        self.refused.lock().unwrap().push(why.to_owned());
    }
}

fn guard(porter: &Arc<Porter>) -> Guard {
    let door: Arc<dyn Door> = Arc::<Porter>::clone(porter);
    Guard::new(&identities()[0], door).unwrap()
}

/// By TLS, with one of the keys, to the host.
fn as_whom(at: usize) -> Credentials {
    Credentials::Hosts(Arc::new(identities()[at].clone()), vec![identities()[0].fingerprint()])
}

fn host() -> Credentials {
    as_whom(0)
}

async fn listeners() -> Listeners {
    Listeners::bind("127.0.0.1:0".parse().unwrap()).await.unwrap()
}

async fn start() -> Server {
    let listener = listeners().await;
    let address = listener.address().to_string();
    let (mounts_in, mounts) = mpsc::unbounded_channel();
    let (peers_in, peers) = mpsc::unbounded_channel();
    let (beats_in, beats) = mpsc::unbounded_channel();
    let (stop, stopped) = oneshot::channel();
    let taker = Taker {
        mounts: mounts_in,
        peers: peers_in,
        beats: beats_in,
    };
    let porter = Arc::<Porter>::default();
    let done = tokio::spawn(serve(listener, guard(&porter), taker, Some(Routes::default()), async {
        let _ = stopped.await;
    }));
    Server {
        address,
        mounts,
        peers,
        beats,
        porter,
        stop: Some(stop),
        done,
    }
}

async fn mount_pair(server: &mut Server) -> (Link<ToBrick, ToMount>, MountLink) {
    let near = dial_mount(&server.address, &host(), SOON).await.unwrap();
    let far = timeout(SOON, server.mounts.recv()).await.unwrap().unwrap();
    (near, far)
}

async fn next<T>(recv: &mut Receiver<T>) -> Option<T> {
    timeout(SOON, recv.recv()).await.expect("nothing came")
}

fn ping(n: u64) -> ToBrick {
    ToBrick::Ping { sent: Nanos(n) }
}

fn pong(n: u64) -> ToMount {
    ToMount::Pong {
        sent: Nanos(n),
        serve: limits::SERVE,
    }
}

fn commit(bytes: usize) -> ToBrick {
    ToBrick::Request(Request {
        seq: 1,
        acked: 0,
        op: Op::Commit {
            ino: Ino(7),
            staged: false,
            cut: u64::MAX,
            extents: vec![Extent {
                offset: 0,
                data: Bytes::from(vec![b'x'; bytes]),
            }],
            size: bytes as u64,
            mtime: Timestamp::default(),
            atime: None,
        },
    })
}

/// Valid, and longer than a message may be.
fn too_long() -> ToBrick {
    let key = Key::Inode(Ino(u64::MAX));
    ToBrick::Reclaim(Reclaim {
        leases: vec![(key, Mode::W); 200_000],
        ..Reclaim::default()
    })
}

#[tokio::test]
async fn frames_arrive_in_order_both_ways() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    for n in 0..1000 {
        near.send.send(ping(n)).unwrap();
    }
    near.send.send(commit(limits::EXTENT_BYTES_MAX)).unwrap();
    for n in 0..1000 {
        assert_eq!(next(&mut far.recv).await, Some(ping(n)));
        far.send.send(pong(n)).unwrap();
    }
    assert_eq!(next(&mut far.recv).await, Some(commit(limits::EXTENT_BYTES_MAX)));
    let reply = ToMount::Reply(Reply {
        seq: 1,
        result: Err(Errno::ENOSPC),
    });
    far.send.send(reply.clone()).unwrap();
    for n in 0..1000 {
        assert_eq!(next(&mut near.recv).await, Some(pong(n)));
    }
    assert_eq!(next(&mut near.recv).await, Some(reply));
    assert_eq!(near.send.backlog(), (0, 0));
    assert_eq!(near.remote, server.address);
    assert!(far.remote.starts_with("127.0.0.1:"));
    assert_eq!(far.recv.why_ended(), None);
}

#[tokio::test]
async fn bricks_talk_and_beat() {
    let mut server = start().await;
    let mut near = dial_peer(&server.address, &host(), SOON).await.unwrap();
    let mut far = timeout(SOON, server.peers.recv()).await.unwrap().unwrap();
    let relay = ToPeer::Relay {
        session: SessionId {
            client: [3; 16],
            nonce: 4,
        },
        frame: commit(100),
    };
    near.send.send(relay.clone()).unwrap();
    assert_eq!(next(&mut far.recv).await, Some(relay));
    far.send.send(goodbye()).unwrap();
    assert_eq!(next(&mut near.recv).await, Some(goodbye()));

    let hello = BeatHello {
        protocol: limits::PROTOCOL_VERSION,
        volume: VolumeId([9; 16]),
        brick: BrickId::B,
    };
    let mut near = dial_beat(&server.address, &host(), hello, SOON).await.unwrap();
    let (said, mut far) = timeout(SOON, server.beats.recv()).await.unwrap().unwrap();
    assert_eq!(said, hello);
    let ping = Beat::Ping(Ping {
        sent: Nanos(1),
        view: View::default(),
        real: Timestamp::default(),
        space: Space::default(),
        sync: Nanos(1),
    });
    near.send.send(ping).unwrap();
    assert_eq!(next(&mut far.recv).await, Some(ping));
    let pong = Beat::Pong(Pong {
        sent: Nanos(1),
        view: View::default(),
    });
    far.send.send(pong).unwrap();
    assert_eq!(next(&mut near.recv).await, Some(pong));
}

#[tokio::test]
async fn k3_what_was_sent_before_the_link_was_dropped_arrives_and_then_the_end() {
    let mut server = start().await;
    for from_mount in [true, false] {
        let (near, far) = mount_pair(&mut server).await;
        let began = Instant::now();
        if from_mount {
            let mut far = far;
            for _ in 0..20 {
                near.send.send(commit(100_000)).unwrap();
            }
            near.send.send(ToBrick::Detach { end: true }).unwrap();
            drop(near);
            for n in 0..20 {
                let frame = next(&mut far.recv).await;
                assert!(frame == Some(commit(100_000)), "{n}: {:?}", far.recv.why_ended());
            }
            assert_eq!(next(&mut far.recv).await, Some(ToBrick::Detach { end: true }));
            assert_eq!(next(&mut far.recv).await, None);
            assert!(far.recv.why_ended().is_some());
            assert_eq!(far.send.send(pong(1)), Err(Closed));
        } else {
            let mut near = near;
            for n in 0..100 {
                far.send.send(pong(n)).unwrap();
            }
            drop(far);
            for n in 0..100 {
                assert_eq!(next(&mut near.recv).await, Some(pong(n)));
            }
            assert_eq!(next(&mut near.recv).await, None);
            assert!(near.recv.why_ended().is_some());
            assert_eq!(near.send.send(ping(1)), Err(Closed));
        }
        assert!(began.elapsed() < Duration::from_secs(2), "promptly");
    }
}

#[tokio::test]
async fn k2_a_link_that_is_idle_learns_that_the_other_end_dropped_it() {
    let mut server = start().await;
    let (near, mut far) = mount_pair(&mut server).await;
    let clone = near.send.clone();
    drop(near.send);
    clone.send(ping(1)).unwrap();
    assert_eq!(next(&mut far.recv).await, Some(ping(1)), "a clone keeps it open");
    drop(clone);
    assert_eq!(next(&mut far.recv).await, None, "the last sender was dropped");
    assert_eq!(
        far.recv.why_ended().unwrap(),
        "closed by the other side, or connection lost"
    );

    let (near, mut far) = mount_pair(&mut server).await;
    let sender = near.send.clone();
    drop(near.recv);
    assert!(
        sender.is_closed() && sender.send(ping(1)) == Err(Closed),
        "the receiver was dropped"
    );
    assert_eq!(next(&mut far.recv).await, None);
}

#[tokio::test]
async fn k1_a_full_queue_ends_the_link() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    for n in 0..LINK_FRAMES_MAX as u64 {
        near.send.send(ping(n)).unwrap(); // nothing leaves meanwhile: this thread does not yield
    }
    assert_eq!(near.send.backlog().0, LINK_FRAMES_MAX);
    assert_eq!(near.send.send(ping(0)), Err(Closed));
    assert_eq!(next(&mut near.recv).await, None);
    assert_eq!(
        near.recv.why_ended().unwrap(),
        "the other side does not read: 4096 frames, 0 bytes wait"
    );
    assert_eq!(next(&mut far.recv).await, None);

    let (near, _far) = mount_pair(&mut server).await;
    let mut sent = 0;
    while near.send.send(commit(limits::EXTENT_BYTES_MAX)).is_ok() {
        sent += limits::EXTENT_BYTES_MAX;
    }
    assert_eq!(sent, LINK_BYTES_MAX);
}

#[tokio::test]
async fn k2_a_frame_too_long_is_not_sent_and_ends_the_link() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    near.send.send(too_long()).unwrap();
    assert_eq!(next(&mut near.recv).await, None);
    assert!(
        near.recv.why_ended().unwrap().starts_with("own frame too long"),
        "{near:?}"
    );
    assert_eq!(next(&mut far.recv).await, None);
}

#[tokio::test]
async fn k2_an_invalid_frame_of_ones_own_is_not_sent_and_ends_the_link() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    near.send.send(commit(0)).unwrap();
    assert_eq!(next(&mut near.recv).await, None);
    assert_eq!(near.recv.why_ended().unwrap(), "own frame: invalid frame: empty extent");
    assert_eq!(next(&mut far.recv).await, None);
}

/// A client that sends whatever it likes; its stream stays open.
async fn rogue(address: &str, message: wire::ToBrick) -> tonic::Streaming<wire::ToMount> {
    let mut client = FsClient::new(dial::connect(address, &host()).await.unwrap().0);
    let stream = tokio_stream::once(message).chain(tokio_stream::pending());
    client.session(stream).await.unwrap().into_inner()
}

#[tokio::test]
async fn k2_messages_that_are_too_long_or_invalid_end_the_link_of_their_sender_only() {
    let mut server = start().await;
    let (_near, mut other) = mount_pair(&mut server).await;
    let cases = [
        (wire::ToBrick::from(too_long()), "too large"),
        (wire::ToBrick::default(), "invalid frame: empty frame"),
        (wire::ToBrick::from(commit(0)), "invalid frame: empty extent"),
    ];
    for (message, why) in cases {
        let mut answers = rogue(&server.address, message).await;
        let mut far = timeout(SOON, server.mounts.recv()).await.unwrap().unwrap();
        assert_eq!(next(&mut far.recv).await, None);
        let ended = far.recv.why_ended().unwrap();
        assert!(ended.contains(why), "{ended}");
        assert!(!matches!(
            timeout(SOON, answers.message()).await,
            Ok(Ok(Some(_))) | Err(_)
        ));
    }
    assert!(timeout(Duration::from_millis(20), other.recv.recv()).await.is_err());
}

#[tokio::test]
async fn garbage_on_the_port_disturbs_nobody() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    for junk in [
        &b"\0\xff\x13garbage garbage garbage garbage"[..],
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"PRI * HT",
    ] {
        let mut socket = TcpStream::connect(&server.address).await.unwrap();
        socket.write_all(junk).await.unwrap();
        if junk.len() > 24 {
            let mut answer = Vec::new();
            let _ = timeout(SOON, socket.read_to_end(&mut answer)).await.expect("closed");
        }
    }
    near.send.send(ping(1)).unwrap();
    assert_eq!(next(&mut far.recv).await, Some(ping(1)));
    far.send.send(pong(1)).unwrap();
    assert_eq!(next(&mut near.recv).await, Some(pong(1)));
    mount_pair(&mut server).await;
}

#[tokio::test]
async fn a_server_that_stops_ends_its_links_and_returns() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    let began = Instant::now();
    server.stop.take().unwrap().send(()).unwrap();
    assert_eq!(next(&mut far.recv).await, None);
    assert_eq!(far.recv.why_ended().unwrap(), "this brick stops");
    assert_eq!(next(&mut near.recv).await, None);
    assert_eq!(timeout(SOON, &mut server.done).await.unwrap().unwrap(), Ok(()));
    println!("stopped within {:?}", began.elapsed());
    let error = dial_mount(&server.address, &host(), SOON).await.unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
}

/// A port that answers every connection with `bytes` and keeps it open.
async fn answers_with(bytes: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut socket, _)) = listener.accept().await {
            let _ = socket.write_all(bytes).await;
            open.push(socket);
        }
    });
    address
}

#[tokio::test]
async fn dialling_tells_one_failure_from_another() {
    let short = Duration::from_millis(300);
    let unused = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nobody = unused.local_addr().unwrap().to_string();
    drop(unused);
    let error = dial_mount(&nobody, &host(), SOON).await.unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");
    println!("{error}");
    let error = dial_mount("no port", &host(), SOON).await.unwrap_err();
    assert!(matches!(error, RpcError::Unreachable { .. }), "{error}");

    let silent = answers_with(b"").await;
    let error = dial_peer(&silent, &host(), short).await.unwrap_err();
    assert!(matches!(error, RpcError::TimedOut { .. }), "{error}");
    println!("{error}");

    for banner in [
        &b"220 mail.example.org ESMTP Postfix\r\n"[..],
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-x\r\n",
    ] {
        let error = dial_mount(&answers_with(banner).await, &host(), SOON)
            .await
            .unwrap_err();
        println!("{error}");
        assert!(matches!(error, RpcError::NotMboxfs { .. }), "{error:?}");
        assert!(!error.to_string().contains('\n'));
    }

    let mut server = start().await;
    let hello = BeatHello {
        protocol: 99,
        volume: VolumeId([9; 16]),
        brick: BrickId::A,
    };
    let error = dial_beat(&server.address, &host(), hello, SOON).await.unwrap_err();
    assert!(
        matches!(&error, RpcError::Refused { why, .. } if why.contains("protocol")),
        "{error:?}"
    );
    println!("{error}");
    assert!(server.beats.try_recv().is_err());
}

#[tokio::test]
async fn a_grpc_server_without_our_service_is_not_mboxfs() {
    let listener = listeners().await;
    let address = listener.address().to_string();
    let incoming = listen::Incoming::new(listener, guard(&Arc::default()));
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_routes(Routes::default())
            .serve_with_incoming(incoming),
    );
    let error = dial_mount(&address, &host(), SOON).await.unwrap_err();
    println!("{error}");
    assert!(matches!(error, RpcError::NotMboxfs { .. }), "{error:?}");
}

/// Passes bytes on until told to freeze: then it holds the connections and says nothing, as a dead network does.
async fn relay(to: String) -> (String, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (freeze, frozen) = oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(to).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = frozen => std::future::pending().await,
        }
    });
    (address, freeze)
}

#[tokio::test]
async fn k2_a_dead_network_ends_an_idle_link_at_both_ends() {
    let mut server = start().await;
    let (address, freeze) = relay(server.address.clone()).await;
    let mut near = dial_mount(&address, &host(), SOON).await.unwrap();
    let mut far = timeout(SOON, server.mounts.recv()).await.unwrap().unwrap();
    tokio::time::sleep(2 * (tune::KEEP_ALIVE + tune::KEEP_ALIVE_TIMEOUT)).await;
    assert_eq!(near.recv.why_ended(), None, "silence alone is no end");
    let began = Instant::now();
    freeze.send(()).unwrap();
    assert_eq!(next(&mut near.recv).await, None);
    assert_eq!(next(&mut far.recv).await, None);
    let after = began.elapsed();
    println!(
        "noticed after {after:?}: {:?} / {:?}",
        near.recv.why_ended(),
        far.recv.why_ended()
    );
    assert!(after < Duration::from_secs(3));
}

#[tokio::test]
async fn latency_smoke() {
    let mut server = start().await;
    let (mut near, mut far) = mount_pair(&mut server).await;
    tokio::spawn(async move {
        while let Some(frame) = far.recv.recv().await {
            let ToBrick::Request(request) = frame else { continue };
            let reply = Reply {
                seq: request.seq,
                result: Ok(Vec::new()),
            };
            let _ = far.send.send(ToMount::Reply(reply));
        }
    });
    let mut times = Vec::new();
    for _ in 0..5000 {
        let began = Instant::now();
        near.send.send(commit(4096)).unwrap();
        next(&mut near.recv).await.unwrap();
        times.push(began.elapsed());
    }
    times.sort();
    println!("4 KiB commit and reply: p50 {:?}, p99 {:?}", times[2500], times[4950]);
    let began = Instant::now();
    let mut waiting = 0;
    for _ in 0..100_000 {
        near.send.send(commit(4096)).unwrap();
        waiting += 1;
        if waiting == 32 {
            next(&mut near.recv).await.unwrap();
            waiting -= 1;
        }
    }
    let rate = 100_000.0 / began.elapsed().as_secs_f64();
    println!("depth 32: {rate:.0} commits a second");
    let began = Instant::now();
    for _ in 0..200 {
        near.send.send(commit(1 << 20)).unwrap();
    }
    for _ in 0..200 + waiting {
        next(&mut near.recv).await.unwrap();
    }
    println!(
        "1 MiB commits: {:.0} MB/s",
        200.0 * 1.048_576 / began.elapsed().as_secs_f64()
    );
}

#[tokio::test]
async fn changed_paths_arrive() {
    let mut server = start().await;
    let (mut near, far) = mount_pair(&mut server).await;
    let changed = ToMount::Changed {
        ino: Ino(3),
        path: vec![Name::new(b"alice").unwrap()],
    };
    far.send.send(changed.clone()).unwrap();
    assert_eq!(next(&mut near.recv).await, Some(changed));
}
