//! The two streams between the bricks: the ordered one, and the heartbeats on a connection of their own.
//!
//! S1  Brick2 dials both, for as long as the volume is served; Brick1 accepts them.
//! S2  A new ordered stream replaces the old one: `PeerLost`, then `PeerUp`; nothing of the old one is heard after that.
//! S3  Heartbeats are heard only from a stream that named the right volume, the other brick and our protocol.
//! S4  When the ordered stream has ended, it is looked whether anybody listens at the peer's port: nobody means that its
//!     process is dead, and the brain need not wait for it.
//! S5  While a drill cuts the link, no stream is taken, dialled or accepted; the brain hears nothing of any.
//!
//! Not here: what is said (`brick::view`, `brick::replicate`), which hosts may connect (`gate`).

use crate::{driver::Driver, local::VolumeConfig, running::Running};
use mboxfs_rpc::{BeatHello, Link, Receiver, RpcError, Sender, dial_beat, dial_peer};
use mboxfs_types::{
    BrickId, limits,
    peer::{Beat, ToPeer},
};
use std::{
    future::{Future, poll_fn},
    io::ErrorKind,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

/// One attempt to connect takes at most this.
const DIAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause after the first failed attempt; doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// Looks at the peer's port when its stream has ended: how many, how long each, and the pause between them.
const LOOKS: u32 = 3;
const LOOK_TIMEOUT: Duration = Duration::from_millis(200);
const LOOK_PAUSE: Duration = Duration::from_millis(20);

/// A stream that is in use.
struct Stream<T> {
    conn: u64,
    send: Sender<T>,
    /// Dropped with the stream: ends the task that reads.
    _gone: oneshot::Sender<()>,
}

/// One of the two streams of a brick: none or the newest.
pub(crate) struct Slot<T>(Option<Stream<T>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Slot<T> {
    /// S2. An older one ends. The receiver resolves when this one is dropped from this side.
    pub(crate) fn put(&mut self, conn: u64, send: Sender<T>) -> oneshot::Receiver<()> {
        let (gone, ended) = oneshot::channel();
        self.0 = Some(Stream {
            conn,
            send,
            _gone: gone,
        });
        ended
    }

    pub(crate) fn is(&self, conn: u64) -> bool {
        self.0.as_ref().is_some_and(|s| s.conn == conn)
    }

    /// False: the stream has just been found to be broken, and is gone.
    pub(crate) fn say(&mut self, word: T) -> bool
    where
        T: Send,
    {
        let Some(stream) = &self.0 else {
            return true; // lost already, and said so
        };
        let sent = stream.send.send(word).is_ok();
        if !sent {
            self.0 = None;
        }
        sent
    }

    /// False: there was none.
    pub(crate) fn clear(&mut self) -> bool {
        self.0.take().is_some()
    }
}

/// A stream that the brain knows now.
pub(crate) struct Taken {
    pub(crate) conn: u64,
    pub(crate) ended: oneshot::Receiver<()>,
}

/// An accepted ordered stream, to its end.
pub(crate) async fn accept_peer(driver: Arc<Driver>, link: Link<ToPeer, ToPeer>) {
    let remote = link.remote.clone();
    match driver.current(BrickId::A) {
        Ok(life) => hear_peer(&driver, life, link).await,
        Err(why) => debug!("peer stream from {remote} dropped: {why}"),
    }
}

/// An accepted heartbeat stream, to its end.
pub(crate) async fn accept_beat(driver: Arc<Driver>, hello: BeatHello, link: Link<Beat, Beat>) {
    let remote = link.remote.clone();
    let life = match driver.current(BrickId::A) {
        Ok(life) => life,
        Err(why) => return debug!("heartbeats from {remote} dropped: {why}"),
    };
    let volume = driver.with(life, |r| r.volume().id);
    // S3
    if hello.protocol != limits::PROTOCOL_VERSION || Some(hello.volume) != volume || hello.brick != BrickId::B {
        return warn!("heartbeats from {remote} dropped: not those of this volume's Brick2 in our protocol");
    }
    hear_beats(&driver, life, link).await;
}

async fn hear_peer(driver: &Driver, life: u64, link: Link<ToPeer, ToPeer>) {
    if driver.is_deaf() {
        return; // S5
    }
    let Link { send, recv, remote } = link;
    let Some(Some(taken)) = driver.with(life, |r| r.peer_up(send)) else {
        return;
    };
    // What follows from it for the volume is said by the brain's events.
    debug!("peer stream with {remote} is up");
    let conn = taken.conn;
    let on = |word| match word {
        Some(word) => driver.with(life, |r| r.peer_word(conn, word)) == Some(true),
        None => {
            debug!("peer stream with {remote} ended");
            driver.with(life, |r| r.peer_lost(conn));
            false
        }
    };
    let silence = || {
        driver.with(life, Running::heard);
    };
    hear(taken.ended, recv, on, silence).await;
    // Whoever noticed the end first: the reader, or one who had something to say.
    if is_dead(driver, life).await {
        driver.with(life, Running::peer_dead);
    }
}

/// S4. Several looks: a process that is being killed may lose its streams before its port.
async fn is_dead(driver: &Driver, life: u64) -> bool {
    let address = driver.with(life, |r| {
        let v = r.volume();
        v.bricks.get(v.own.other().index() as usize).cloned()
    });
    let Some(Some(address)) = address else {
        return false;
    };
    for _ in 0..LOOKS {
        match timeout(LOOK_TIMEOUT, TcpStream::connect(&address)).await {
            Ok(Err(e)) if e.kind() == ErrorKind::ConnectionRefused => return true,
            Ok(Ok(_)) => sleep(LOOK_PAUSE).await,
            Ok(Err(_)) | Err(_) => return false,
        }
    }
    false
}

async fn hear_beats(driver: &Driver, life: u64, link: Link<Beat, Beat>) {
    if driver.is_deaf() {
        return; // S5
    }
    let Link { send, recv, .. } = link;
    let Some(Some(taken)) = driver.with(life, |r| r.beat_up(send)) else {
        return;
    };
    let conn = taken.conn;
    let on = |beat| match beat {
        Some(beat) => driver.with(life, |r| r.beat(conn, beat)) == Some(true),
        None => {
            driver.with(life, |r| r.beat_lost(conn));
            false
        }
    };
    hear(taken.ended, recv, on, || {}).await;
}

/// Passes on what comes, until the stream ends (`None` is passed on too), `ended` resolves, or `on` says no. `silence`:
/// nothing more has come yet.
async fn hear<T>(
    mut ended: oneshot::Receiver<()>,
    mut recv: Receiver<T>,
    mut on: impl FnMut(Option<T>) -> bool,
    silence: impl Fn(),
) {
    loop {
        let next = poll_fn(|cx| {
            let word = recv.poll_recv(cx);
            if word.is_pending() {
                silence();
            }
            word
        });
        let word = tokio::select! {
            biased;
            _ = &mut ended => return,
            word = next => word,
        };
        let last = word.is_none();
        if !on(word) || last {
            return;
        }
    }
}

/// S1, the ordered stream. Ends with its life.
pub(crate) async fn dial_peers(driver: Arc<Driver>, life: u64, volume: VolumeConfig) {
    let Some(address) = volume.bricks.first().cloned() else {
        return;
    };
    keep("peer", &address, || async {
        let link = dial_peer(&address, &driver.trust().to_pinned(), DIAL_TIMEOUT).await?;
        hear_peer(&driver, life, link).await;
        Ok(())
    })
    .await;
}

/// S1, the heartbeats. Ends with its life.
pub(crate) async fn dial_beats(driver: Arc<Driver>, life: u64, volume: VolumeConfig) {
    let Some(address) = volume.bricks.first().cloned() else {
        return;
    };
    keep("heartbeat", &address, || async {
        let hello = BeatHello {
            protocol: limits::PROTOCOL_VERSION,
            volume: volume.id,
            brick: volume.own,
        };
        let link = dial_beat(&address, &driver.trust().to_pinned(), hello, DIAL_TIMEOUT).await?;
        hear_beats(&driver, life, link).await;
        Ok(())
    })
    .await;
}

/// Does `once` (connect and serve to the end) again and again.
async fn keep<F>(what: &str, address: &str, mut once: impl FnMut() -> F)
where
    F: Future<Output = Result<(), RpcError>>,
{
    let mut backoff = BACKOFF_MIN;
    // Said once per outage and reason.
    let mut said = None;
    loop {
        let began = Instant::now();
        match once().await {
            Ok(()) => {
                said = None;
                if began.elapsed() >= BACKOFF_MAX {
                    backoff = BACKOFF_MIN;
                }
            }
            Err(why) if said.as_ref() == Some(&why) => debug!("no {what} stream to {address}: {why}"),
            Err(why) => {
                match &why {
                    RpcError::WrongKey { .. } | RpcError::Unwanted { .. } => {
                        warn!(
                            "no {what} stream to {address}: {why}; was it installed anew? mboxfs peer probe --fingerprint"
                        );
                    }
                    _ => info!("no {what} stream to {address} yet: {why}"),
                }
                said = Some(why);
            }
        }
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}
