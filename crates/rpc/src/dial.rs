//! Dialling: one connection for each link, by the unix socket to a brickd on this host, else by TCP.
//!
//! Promises: TCP_NODELAY, keep-alive and windows as in `tune`; an answer or an error within the time given. A link that is
//! returned has been answered by an mboxfs server.
//! Not here: dialling again (`brickd`, `mount`).

use crate::convert::Frame;
use crate::error::refused;
use crate::link::{self, BeatHello, Link};
use crate::wire::{fs_client::FsClient, peer_client::PeerClient};
use crate::{RpcError, io::Io, socket, tune, wire};
use hyper_util::rt::TokioIo;
use mboxfs_types::call::{ToBrick, ToMount};
use mboxfs_types::limits;
use mboxfs_types::peer::{Beat, ToPeer};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint, Uri};

/// Opens a mount's stream to the brick at `address` (`host:port`).
///
/// Errors: see [`RpcError`]. Whether the brick takes the mount is said by `Attached`, later.
pub async fn dial_mount(address: &str, timeout: Duration) -> Result<Link<ToBrick, ToMount>, RpcError> {
    within(address, timeout, async {
        let mut client = FsClient::new(connect(address).await?)
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
pub async fn dial_peer(address: &str, timeout: Duration) -> Result<Link<ToPeer, ToPeer>, RpcError> {
    within(address, timeout, async {
        let mut client = peer_client(address).await?;
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
pub async fn dial_beat(address: &str, hello: BeatHello, timeout: Duration) -> Result<Link<Beat, Beat>, RpcError> {
    within(address, timeout, async {
        let mut client = peer_client(address).await?;
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

async fn peer_client(address: &str) -> Result<PeerClient<Channel>, RpcError> {
    Ok(PeerClient::new(connect(address).await?)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX))
}

/// A channel over one connection. We connect, not tonic: so that what cannot be reached is told from what answers
/// garbage, TCP_NODELAY is certain, and a broken connection is never replaced behind a link's back.
pub(crate) async fn connect(address: &str) -> Result<Channel, RpcError> {
    let mut once = Some(TokioIo::new(open(address).await?));
    let connector = tower::service_fn(move |_: Uri| {
        let io = once.take();
        async move { io.ok_or_else(|| io::Error::other("a link has one connection")) }
    });
    // The name is never looked up; it only fills the request's authority.
    Endpoint::from_static("http://mboxfs")
        .initial_stream_window_size(tune::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(tune::CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(tune::KEEP_ALIVE)
        .keep_alive_timeout(tune::KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await
        .map_err(|error| refused(address, &tonic::Status::from_error(Box::new(error))))
}

async fn open(address: &str) -> Result<Io, RpcError> {
    let unreachable = |error: io::Error| RpcError::Unreachable {
        address: address.to_owned(),
        why: error.to_string(),
    };
    let all: Vec<SocketAddr> = lookup_host(address).await.map_err(unreachable)?.collect();
    if let Some(own) = all.iter().find(|a| socket::is_own_address(a.ip().to_canonical())) {
        match socket::connect(own.port()).await {
            socket::Met::Brickd(stream) => return Ok(Io::Unix(stream)),
            socket::Met::Nobody => {}
            socket::Met::Refused(why) => {
                return Err(RpcError::Refused {
                    address: address.to_owned(),
                    why,
                });
            }
        }
    }
    let stream = TcpStream::connect(&*all).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    Ok(Io::Tcp(stream))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::{Incoming, Listeners};
    use tokio_stream::StreamExt;

    async fn pair(listeners: Listeners) -> (Io, Io) {
        let address = listeners.address().to_string();
        let mut incoming = Incoming::new(listeners);
        let (dialled, accepted) = tokio::join!(open(&address), incoming.next());
        (dialled.unwrap(), accepted.unwrap().unwrap().into_io())
    }

    #[tokio::test]
    async fn nagle_is_off_at_both_ends() {
        let any = "127.0.0.1:0".parse().unwrap();
        match pair(Listeners::bind_tcp(any).await.unwrap()).await {
            (Io::Tcp(dialled), Io::Tcp(accepted)) => {
                assert!(dialled.nodelay().unwrap());
                assert!(accepted.nodelay().unwrap());
            }
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn on_the_host_itself_nothing_goes_by_tcp() {
        let any = "0.0.0.0:0".parse().unwrap();
        let pair = pair(Listeners::bind(any).await.unwrap()).await;
        assert!(matches!(pair, (Io::Unix(_), Io::Unix(_))), "{pair:?}");
    }
}
