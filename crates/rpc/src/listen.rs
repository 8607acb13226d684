//! Accepted connections: by TCP, and from this host by the unix socket.
//!
//! Promises: TCP_NODELAY on each (tonic does not set it on connections from an own listener). At most
//! `tune::CONNECTIONS_MAX`, and `tune::HANDSHAKES_MAX` that have not shown yet who they are; one that does not, or does not
//! begin to speak in time, is closed. No error of one ends the server (law L13).
//! Not here: what is spoken (`serve`), who may be behind a socket (`socket`), keys (`tls`).

use crate::host::HostStream;
use crate::identity::Identity;
use crate::io::Io;
use crate::tls::{self, Fault};
use crate::{RpcError, socket, tune};
use mboxfs_types::Fingerprint;
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Sleep, sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream};
use tokio_stream::Stream;
use tonic::transport::server::Connected;

/// Length of what an HTTP/2 client says first.
const PREFACE_BYTES: usize = 24;

/// Who is at the other end of a connection that was accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Caller {
    /// A process on this host, of root or of the user that this process runs as.
    Host,
    /// The host that holds this key.
    Key {
        /// Of the key.
        fingerprint: Fingerprint,
        /// Where it comes from.
        address: SocketAddr,
    },
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Host => f.write_str("this host"),
            Self::Key { address, .. } => address.fmt(f),
        }
    }
}

/// Who is let in by TCP. It is asked on the runtime's thread: it must not wait.
pub trait Door: Send + Sync + 'static {
    /// May the host whose key this is open a connection?
    fn admits(&self, key: &Fingerprint) -> bool;
    /// Somebody was not let in.
    fn refused(&self, who: IpAddr, why: &str);
}

/// How a server shows who it is, and whom it lets in.
#[derive(Clone)]
pub struct Guard {
    acceptor: TlsAcceptor,
    door: Arc<dyn Door>,
}

impl Guard {
    /// Of the host `identity`.
    ///
    /// Errors: none is known.
    pub fn new(identity: &Identity, door: Arc<dyn Door>) -> Result<Self, RpcError> {
        let asked = Arc::clone(&door);
        let acceptor = tls::acceptor(identity, Box::new(move |key| asked.admits(key)));
        let acceptor = acceptor.map_err(|why| RpcError::Serve { why: why.to_string() })?;
        Ok(Self { acceptor, door })
    }

    /// The handshake with one that came; none: it was not let in.
    async fn meet(self, stream: TcpStream, address: SocketAddr, patience: Duration) -> Option<(Io, Caller)> {
        let refuse = |why: &str| self.door.refused(address.ip().to_canonical(), why);
        let handshake = self.acceptor.accept(stream).into_fallible();
        let Ok(met) = timeout(patience, handshake).await else {
            refuse("it did not show who it is in time");
            return None;
        };
        match met {
            Ok(stream) => {
                let stream = TlsStream::from(stream);
                let fingerprint = tls::key_of(&stream)?;
                Some((Io::Tls(Box::new(stream)), Caller::Key { fingerprint, address }))
            }
            Err((error, stream)) => {
                match Fault::of(&error) {
                    Fault::Broken(_) => {} // it only looked whether somebody listens
                    fault => refuse(&fault.to_string()),
                }
                let _ = timeout(patience, hear_out(stream)).await;
                None
            }
        }
    }
}

/// Reads what the other end has sent meanwhile, else the reset that answers it may overtake the alert.
async fn hear_out(mut stream: TcpStream) {
    let _ = stream.shutdown().await;
    let mut rest = [0; 1024];
    while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
}

/// Where a brickd can be reached.
#[derive(Debug)]
pub struct Listeners {
    tcp: TcpListener,
    address: SocketAddr,
    socket: Socket,
}

#[derive(Debug)]
enum Socket {
    None,
    /// Somebody has the name; it is tried again.
    Taken(Pin<Box<Sleep>>),
    Ours(UnixListener),
}

impl Socket {
    fn listen(port: u16) -> Self {
        match socket::listen(port) {
            Ok(listener) => Self::Ours(listener),
            Err(_) => Self::Taken(Box::pin(sleep(tune::SOCKET_RETRY))),
        }
    }
}

impl Listeners {
    /// Listens at `address`, and for this host on the unix socket of its port. A socket whose name is taken is tried again for
    /// as long as it is served: until then those on this host connect as others do.
    ///
    /// Errors: the system's, about the TCP port.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        let socket = Socket::listen(address.port());
        Ok(Self { tcp, address, socket })
    }

    /// Listens at `address` only.
    ///
    /// Errors: the system's.
    pub async fn bind_tcp(address: SocketAddr) -> io::Result<Self> {
        let tcp = TcpListener::bind(address).await?;
        let address = tcp.local_addr()?;
        Ok(Self {
            tcp,
            address,
            socket: Socket::None,
        })
    }

    /// The TCP address, with the port that was given if none was asked for.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has somebody else the name of the socket?
    #[must_use]
    pub const fn is_socket_taken(&self) -> bool {
        matches!(self.socket, Socket::Taken(_))
    }
}

/// The connections of a listener. It never ends.
pub(crate) struct Incoming {
    listeners: Listeners,
    guard: Guard,
    handshakes: JoinSet<Option<(Io, Caller)>>,
    /// The same, the oldest first.
    under_way: VecDeque<AbortHandle>,
    permits: Arc<Semaphore>,
    pause: Option<Pin<Box<Sleep>>>,
    /// How long a connection may say nothing at first.
    patience: Duration,
}

impl Incoming {
    pub(crate) fn new(listeners: Listeners, guard: Guard) -> Self {
        Self {
            listeners,
            guard,
            handshakes: JoinSet::new(),
            under_way: VecDeque::new(),
            permits: Arc::new(Semaphore::new(tune::CONNECTIONS_MAX)),
            pause: None,
            patience: tune::HELLO_TIMEOUT,
        }
    }

    /// None: too many, or nobody that is spoken to; dropped, and on to the next.
    fn connection(&self, io: Io, caller: Caller) -> Option<Connection> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        Some(Connection::new(io, caller, permit, self.patience))
    }

    /// The next one of this host.
    fn poll_socket(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Connection>>> {
        loop {
            match &mut self.listeners.socket {
                Socket::None => return Poll::Pending,
                Socket::Taken(pause) => {
                    ready!(pause.as_mut().poll(cx));
                    self.listeners.socket = Socket::listen(self.listeners.address.port());
                }
                Socket::Ours(listener) => {
                    let (stream, _) = ready!(listener.poll_accept(cx))?;
                    if !stream.peer_cred().is_ok_and(socket::is_trusted) {
                        return Poll::Ready(Ok(None));
                    }
                    let io = Io::Unix(HostStream::new(stream)?);
                    return Poll::Ready(Ok(self.connection(io, Caller::Host)));
                }
            }
        }
    }

    /// Somebody has come by TCP: a handshake begins.
    fn begin(&mut self, stream: TcpStream, address: SocketAddr) {
        if stream.set_nodelay(true).is_err() {
            return; // gone already
        }
        self.under_way.retain(|task| !task.is_finished());
        if self.under_way.len() >= tune::HANDSHAKES_MAX
            && let Some(oldest) = self.under_way.pop_front()
        {
            oldest.abort();
        }
        let (guard, patience) = (self.guard.clone(), self.patience);
        let task = self.handshakes.spawn(guard.meet(stream, address, patience));
        self.under_way.push_back(task);
    }

    /// The next one that is known.
    fn poll_tcp(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Connection>>> {
        loop {
            if let Poll::Ready(Some(done)) = self.handshakes.poll_join_next(cx) {
                let met = done.unwrap_or_default(); // an error: it was given up
                return Poll::Ready(Ok(met.and_then(|(io, caller)| self.connection(io, caller))));
            }
            let (stream, address) = ready!(self.listeners.tcp.poll_accept(cx))?;
            self.begin(stream, address);
        }
    }
}

impl Stream for Incoming {
    type Item = Result<Connection, io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            let accepted = match self.poll_socket(cx) {
                Poll::Ready(accepted) => accepted,
                Poll::Pending => ready!(self.poll_tcp(cx)),
            };
            match accepted {
                Ok(Some(connection)) => return Poll::Ready(Some(Ok(connection))),
                Ok(None) => {}
                // One connection's fault, or no descriptors left; without a pause the latter would spin.
                Err(_) => self.pause = Some(Box::pin(sleep(tune::ACCEPT_PAUSE))),
            }
        }
    }
}

/// A connection whose other end must say something soon.
pub(crate) struct Connection {
    io: Io,
    caller: Caller,
    _permit: OwnedSemaphorePermit,
    /// Until this many bytes came, and no longer than that.
    greeting: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Connection {
    fn new(io: Io, caller: Caller, permit: OwnedSemaphorePermit, patience: Duration) -> Self {
        Self {
            io,
            caller,
            _permit: permit,
            greeting: Some((PREFACE_BYTES, Box::pin(sleep(patience)))),
        }
    }

    #[cfg(test)]
    pub(crate) fn into_io(self) -> Io {
        self.io
    }
}

impl Connected for Connection {
    type ConnectInfo = Caller;
    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        let Some((missing, deadline)) = &mut self.greeting else {
            return read;
        };
        if read.is_pending() {
            ready!(deadline.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            self.greeting = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UnixStream;
    use tokio_stream::StreamExt;

    fn any_port() -> SocketAddr {
        "127.0.0.1:0".parse().unwrap()
    }

    #[derive(Default)]
    struct Nobody(std::sync::Mutex<Vec<String>>);

    impl Door for Nobody {
        fn admits(&self, _: &Fingerprint) -> bool {
            false
        }
        fn refused(&self, _: IpAddr, why: &str) {
            self.0.lock().unwrap().push(why.to_owned());
        }
    }

    fn incoming(listeners: Listeners, door: &Arc<Nobody>) -> Incoming {
        let door: Arc<dyn Door> = Arc::<Nobody>::clone(door);
        Incoming::new(listeners, Guard::new(&Identity::generate().unwrap(), door).unwrap())
    }

    async fn dialled(port: u16) -> UnixStream {
        loop {
            match socket::connect(port).await {
                socket::Met::Brickd(stream) => return stream,
                _ => sleep(Duration::from_millis(10)).await,
            }
        }
    }

    #[tokio::test]
    async fn who_says_nothing_is_not_waited_for() {
        let listeners = Listeners::bind(any_port()).await.unwrap();
        let port = listeners.address().port();
        let mut incoming = incoming(listeners, &Arc::default());
        incoming.patience = Duration::from_millis(50);
        let (mut client, server) = tokio::join!(dialled(port), incoming.next());
        let mut server = server.unwrap().unwrap();
        client.write_all(&[b'x'; PREFACE_BYTES - 1]).await.unwrap();
        let mut bytes = [0; 100];
        assert_eq!(server.read(&mut bytes).await.unwrap(), PREFACE_BYTES - 1);
        let error = server.read(&mut bytes).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);

        let (mut client, server) = tokio::join!(dialled(port), incoming.next());
        let mut server = server.unwrap().unwrap();
        client.write_all(&[b'x'; PREFACE_BYTES]).await.unwrap();
        assert_eq!(server.read(&mut bytes).await.unwrap(), PREFACE_BYTES);
        let silence = timeout(Duration::from_millis(150), server.read(&mut bytes));
        assert!(silence.await.is_err(), "once it spoke it may be silent");
    }

    #[tokio::test]
    async fn a_handshake_that_is_not_done_in_time_is_given_up() {
        let listeners = Listeners::bind(any_port()).await.unwrap();
        let address = listeners.address();
        let door = Arc::default();
        let mut incoming = incoming(listeners, &door);
        incoming.patience = Duration::from_millis(50);
        let accepting = tokio::spawn(async move { incoming.next().await.is_some() });
        let mut client = TcpStream::connect(address).await.unwrap();
        let mut rest = Vec::new();
        let ended = timeout(Duration::from_secs(5), client.read_to_end(&mut rest)).await;
        assert!(ended.is_ok() && rest.is_empty(), "closed without a word");
        assert_eq!(*door.0.lock().unwrap(), ["it did not show who it is in time"]);
        accepting.abort();
    }

    #[tokio::test]
    async fn a_name_that_was_taken_is_taken_back_when_it_is_free() {
        let first = Listeners::bind(any_port()).await.unwrap();
        assert!(!first.is_socket_taken());
        let port = first.address().port();
        drop(first);
        let squatter = socket::listen(port).unwrap();
        let listeners = Listeners::bind((any_port().ip(), port).into()).await.unwrap();
        assert!(listeners.is_socket_taken(), "and yet it serves");
        let mut incoming = incoming(listeners, &Arc::default());
        drop(squatter);
        let (accepted, _dialled) = tokio::join!(incoming.next(), dialled(port));
        assert_eq!(accepted.unwrap().unwrap().caller, Caller::Host);
    }
}
