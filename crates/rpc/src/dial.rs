//! Dialling: one connection for each link, by the unix socket to a brickd on this host, else by TLS.
//!
//! Promises: TCP_NODELAY, keep-alive and windows as in `tune`; an answer or an error within the time given. A link that is
//! returned has been answered by an mboxfs server.
//! Not here: dialling again (`brickd`, `mount`).

use crate::convert::Frame;
use crate::error::refused;
use crate::host::HostStream;
use crate::identity::Identity;
use crate::io::Io;
use crate::link::{self, BeatHello, Link};
use crate::socket::{self, Met, is_own_address};
use crate::tls::{self, Fault};
use crate::wire::{fs_client::FsClient, peer_client::PeerClient};
use crate::{RpcError, tune, wire};
use hyper_util::rt::TokioIo;
use mboxfs_types::call::{ToBrick, ToMount};
use mboxfs_types::peer::{Beat, ToPeer};
use mboxfs_types::{Fingerprint, limits};
use rustls::pki_types::ServerName;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

/// As whom one dials, and whom one believes.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// A program on a host of the cluster. A brickd on the same host is reached by its socket; others by the key of the host
    /// in this file, and believed if the file says so. It is read for each connection: it changes with the cluster.
    File(PathBuf),
    /// A brickd to a host whose key is one of these.
    Hosts(Arc<Identity>, Vec<Fingerprint>),
    /// A brickd to a host that it has not met yet.
    Stranger(Arc<Identity>),
}

impl Credentials {
    /// Errors: the file; one line with its path.
    fn connector(&self) -> Result<TlsConnector, String> {
        let connector = match self {
            Self::File(path) => {
                let (identity, mut trusted) = Identity::load(path)?;
                trusted.push(identity.fingerprint()); // the socket's name may be taken
                tls::connector(&identity, Box::new(move |key| trusted.contains(key)))
            }
            Self::Hosts(identity, known) => {
                let known = known.clone();
                tls::connector(identity, Box::new(move |key| known.contains(key)))
            }
            Self::Stranger(identity) => tls::connector(identity, Box::new(|_| true)),
        };
        connector.map_err(|e| e.to_string())
    }
}

/// Opens a mount's stream to the brick at `address` (`host:port`).
///
/// Errors: see [`RpcError`]. Whether the brick takes the mount is said by `Attached`, later.
pub async fn dial_mount(
    address: &str,
    as_whom: &Credentials,
    timeout: Duration,
) -> Result<Link<ToBrick, ToMount>, RpcError> {
    within(address, timeout, async {
        let mut client = FsClient::new(connect(address, as_whom).await?.0)
            .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
            .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
        let (send, outbound) = link::outbound::<ToBrick>(None);
        let answer = client
            .session(outbound)
            .await
            .map_err(|status| refused(address, &status))?;
        Ok(link::assemble(send, answer.into_inner(), address.to_owned()).0)
    })
    .await
}

/// Opens the ordered stream to the other brick.
///
/// Errors: see [`RpcError`].
pub async fn dial_peer(
    address: &str,
    as_whom: &Credentials,
    timeout: Duration,
) -> Result<Link<ToPeer, ToPeer>, RpcError> {
    within(address, timeout, async {
        let mut client = peer_client(address, as_whom).await?;
        let (send, outbound) = link::outbound::<ToPeer>(None);
        let answer = client
            .replicate(outbound)
            .await
            .map_err(|status| refused(address, &status))?;
        Ok(link::assemble(send, answer.into_inner(), address.to_owned()).0)
    })
    .await
}

/// Opens the heartbeat stream to the other brick, on a TCP connection of its own, so that bulk never delays a beat.
///
/// Errors: see [`RpcError`]; `Refused` also if the one who answers is not the other brick of that volume.
pub async fn dial_beat(
    address: &str,
    as_whom: &Credentials,
    hello: BeatHello,
    timeout: Duration,
) -> Result<Link<Beat, Beat>, RpcError> {
    within(address, timeout, async {
        let mut client = peer_client(address, as_whom).await?;
        let (send, outbound) = link::outbound::<Beat>(Some(hello.into()));
        let answer = client
            .beat(outbound)
            .await
            .map_err(|status| refused(address, &status))?;
        let mut source = answer.into_inner();
        check_hello(hello, first::<Beat>(address, &mut source).await?).map_err(|why| RpcError::Refused {
            address: address.to_owned(),
            why,
        })?;
        Ok(link::assemble(send, source, address.to_owned()).0)
    })
    .await
}

async fn first<In: Frame>(address: &str, source: &mut Streaming<In::Wire>) -> Result<In::Wire, RpcError> {
    match source.message().await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(RpcError::Refused {
            address: address.to_owned(),
            why: "closed without a word".to_owned(),
        }),
        Err(status) => Err(refused(address, &status)),
    }
}

fn check_hello(mine: BeatHello, message: wire::Beat) -> Result<(), String> {
    let other = BeatHello::try_from(message).map_err(|invalid| invalid.to_string())?;
    if other.protocol != mine.protocol {
        Err(format!("it speaks protocol {}, we {}", other.protocol, mine.protocol))
    } else if other.volume != mine.volume {
        Err("another volume".to_owned())
    } else if other.brick != mine.brick.other() {
        Err("it is not the other brick".to_owned())
    } else {
        Ok(())
    }
}

pub(crate) async fn within<T>(
    address: &str,
    timeout: Duration,
    dialling: impl Future<Output = Result<T, RpcError>>,
) -> Result<T, RpcError> {
    tokio::time::timeout(timeout, dialling).await.unwrap_or_else(|_| {
        Err(RpcError::TimedOut {
            address: address.to_owned(),
            after: timeout,
        })
    })
}

async fn peer_client(address: &str, as_whom: &Credentials) -> Result<PeerClient<Channel>, RpcError> {
    Ok(PeerClient::new(connect(address, as_whom).await?.0)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX))
}

/// A channel over one connection. We connect, not tonic: so that what cannot be reached is told from what answers
/// garbage, TCP_NODELAY is certain, and a broken connection is never replaced behind a link's back.
///
/// Returns whose key the other end has, too; none on the socket.
pub(crate) async fn connect(address: &str, as_whom: &Credentials) -> Result<(Channel, Option<Fingerprint>), RpcError> {
    let io = open(address, as_whom).await?;
    let key = match &io {
        Io::Tls(stream) => tls::key_of(stream),
        Io::Unix(_) => None,
    };
    let mut once = Some(TokioIo::new(io));
    let connector = tower::service_fn(move |_: Uri| {
        let io = once.take();
        async move { io.ok_or_else(|| io::Error::other("a link has one connection")) }
    });
    // The name is never looked up; it only fills the request's authority.
    let channel = Endpoint::from_static("http://mboxfs")
        .initial_stream_window_size(tune::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(tune::CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(tune::KEEP_ALIVE)
        .keep_alive_timeout(tune::KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| refused(address, &tonic::Status::from_error(Box::new(error))))?;
    Ok((channel, key))
}

async fn open(address: &str, as_whom: &Credentials) -> Result<Io, RpcError> {
    let unreachable = |error: io::Error| RpcError::Unreachable {
        address: address.to_owned(),
        why: error.to_string(),
    };
    let all: Vec<SocketAddr> = lookup_host(address).await.map_err(unreachable)?.collect();
    let own = all.iter().find(|a| is_own_address(a.ip().to_canonical()));
    if let (Some(own), Credentials::File(_)) = (own, as_whom) {
        match socket::connect(own.port()).await {
            Met::Brickd(stream) => return HostStream::new(stream).map(Io::Unix).map_err(unreachable),
            Met::Nobody => {} // or the name is taken
            Met::NotAllowed => {
                return Err(RpcError::NotAllowed {
                    address: address.to_owned(),
                });
            }
        }
    }
    let stream = TcpStream::connect(&*all).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    let connector = as_whom.connector().map_err(|why| RpcError::NoKey {
        address: address.to_owned(),
        why,
    })?;
    let name = ServerName::try_from("mboxfs").expect("it is a name; it is not sent");
    let met = connector.connect(name, stream).await;
    let address = || address.to_owned();
    met.map(|stream| Io::Tls(Box::new(stream.into())))
        .map_err(|error| match Fault::of(&error) {
            Fault::NotAdmitted(fingerprint) => RpcError::WrongKey {
                address: address(),
                fingerprint,
            },
            Fault::Unwanted => RpcError::Unwanted { address: address() },
            Fault::NotTls(why) => RpcError::NotMboxfs {
                address: address(),
                why,
            },
            Fault::Broken(why) => RpcError::Unreachable {
                address: address(),
                why,
            },
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{Door, Guard, Incoming, Listeners};
    use std::net::IpAddr;
    use tokio_stream::StreamExt;

    struct Open;

    impl Door for Open {
        fn admits(&self, _: &Fingerprint) -> bool {
            true
        }
        fn refused(&self, who: IpAddr, why: &str) {
            panic!("{who}: {why}");
        }
    }

    async fn pair(listeners: Listeners, as_whom: &Credentials) -> (Io, Io) {
        let address = listeners.address().to_string();
        let guard = Guard::new(&Identity::generate().unwrap(), Arc::new(Open)).unwrap();
        let mut incoming = Incoming::new(listeners, guard);
        let (dialled, accepted) = tokio::join!(open(&address, as_whom), incoming.next());
        (dialled.unwrap(), accepted.unwrap().unwrap().into_io())
    }

    #[tokio::test]
    async fn nagle_is_off_at_both_ends() {
        let any = "127.0.0.1:0".parse().unwrap();
        let stranger = Credentials::Stranger(Arc::new(Identity::generate().unwrap()));
        match pair(Listeners::bind(any).await.unwrap(), &stranger).await {
            (Io::Tls(dialled), Io::Tls(accepted)) => {
                assert!(dialled.get_ref().0.nodelay().unwrap());
                assert!(accepted.get_ref().0.nodelay().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn on_the_host_itself_nothing_goes_by_tcp() {
        let any = "127.0.0.1:0".parse().unwrap();
        let no_file_is_read = Credentials::File("/nowhere".into());
        let pair = pair(Listeners::bind(any).await.unwrap(), &no_file_is_read).await;
        assert!(matches!(pair, (Io::Unix(_), Io::Unix(_))), "{pair:?}");
    }
}
