//! Serving: all conversations on one port.
//!
//! Promises: a link is handed over as soon as it is open. What is no gRPC, or no call of ours, disturbs nobody. When
//! `shutdown` comes, links end, and `serve` returns within `tune::STOP_TIMEOUT`.
//! Not here: who may connect, answers to operators (`admin`), sockets (`listen`).

use crate::convert::Frame;
use crate::error::one_line;
use crate::link::{self, BeatHello, Ends, Link, Replies};
use crate::listen::{Caller, Guard, Incoming, Listeners};
use crate::wire::fs_server::{Fs, FsServer};
use crate::wire::peer_server::{Peer, PeerServer};
use crate::{RpcError, tune, wire};
use mboxfs_types::call::{ToBrick, ToMount};
use mboxfs_types::limits;
use mboxfs_types::peer::{Beat, ToPeer};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

/// Who takes the links that others dial. Called inside the runtime: hand the link on, do not wait. Dropping a link
/// refuses it.
pub trait Acceptor: Clone + Send + Sync + 'static {
    /// A mount; nothing was said yet.
    fn mount(&self, caller: Caller, link: Link<ToMount, ToBrick>);
    /// The other brick, or one that takes itself for it; nothing was said yet.
    fn peer(&self, caller: Caller, link: Link<ToPeer, ToPeer>);
    /// The other brick's heartbeat. It speaks our protocol version and has been answered as the other brick of the volume
    /// that it named: drop the link if that is wrong.
    fn beat(&self, caller: Caller, hello: BeatHello, link: Link<Beat, Beat>);
}

/// Serves on `listeners` until `shutdown`. `admin` are further services for the same port.
///
/// Errors: `Serve` if the server stopped by itself.
pub async fn serve<A: Acceptor>(
    listeners: Listeners,
    guard: Guard,
    acceptor: A,
    admin: Option<Routes>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RpcError> {
    let open = Arc::new(Open::default());
    let service = Service {
        acceptor,
        open: Arc::clone(&open),
    };
    let fs = FsServer::new(service.clone())
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let peer = PeerServer::new(service)
        .max_decoding_message_size(limits::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(limits::MESSAGE_BYTES_MAX);
    let all = admin.unwrap_or_default().add_service(fs).add_service(peer);
    routes(listeners, guard, all, shutdown, move || open.end_all()).await
}

/// Serves `routes` on `listeners` until `shutdown`; then does `end`, so that nothing that is open is waited for.
pub(crate) async fn routes(
    listeners: Listeners,
    guard: Guard,
    routes: Routes,
    shutdown: impl Future<Output = ()> + Send + 'static,
    end: impl FnOnce(),
) -> Result<(), RpcError> {
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = Server::builder()
        .initial_stream_window_size(tune::STREAM_WINDOW_BYTES)
        .initial_connection_window_size(tune::CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(tune::KEEP_ALIVE))
        .http2_keepalive_timeout(Some(tune::KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(tune::STREAMS_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(Incoming::new(listeners, guard), async {
            let _ = stopped.await; // a dropped sender stops it just as well
        });
    tokio::pin!(server);
    let why = |error: tonic::transport::Error| RpcError::Serve { why: error.to_string() };
    tokio::select! {
        ended = &mut server => return ended.map_err(why),
        () = shutdown => {}
    }
    end();
    let _ = stop.send(());
    // Connections whose other end does not answer are left behind: they have no link any more.
    tokio::time::timeout(tune::STOP_TIMEOUT, server)
        .await
        .map_or(Ok(()), |ended| ended.map_err(why))
}

/// The links that are open, so that a server that stops can end them: gRPC would wait for each of them.
#[derive(Default)]
struct Open {
    state: Mutex<OpenState>,
}

#[derive(Default)]
struct OpenState {
    stopping: bool,
    links: Vec<Weak<dyn Ends>>,
    /// Number of links at which the dead ones are forgotten.
    sweep: usize,
}

const STOPS: &str = "this brick stops";

impl Open {
    fn add(&self, link: Weak<dyn Ends>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.stopping {
            drop(state);
            if let Some(link) = link.upgrade() {
                link.end(STOPS.to_owned());
            }
            return;
        }
        if state.links.len() >= state.sweep {
            state.links.retain(|link| link.strong_count() > 0);
            state.sweep = 2 * state.links.len() + 16;
        }
        state.links.push(link);
    }

    fn end_all(&self) {
        let links = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.stopping = true;
            std::mem::take(&mut state.links)
        };
        for link in links.iter().filter_map(Weak::upgrade) {
            link.end(STOPS.to_owned());
        }
    }
}

#[derive(Clone)]
struct Service<A> {
    acceptor: A,
    open: Arc<Open>,
}

impl<A> Service<A> {
    fn link<Out: Frame, In: Frame>(
        &self,
        source: Streaming<In::Wire>,
        remote: String,
        first: Option<Out::Wire>,
    ) -> (Link<Out, In>, Replies<Out>) {
        let (send, outbound) = link::outbound(first);
        let (link, ends) = link::assemble(send, source, remote);
        self.open.add(ends);
        (link, Replies(outbound))
    }
}

/// Who called.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get::<Caller>();
    caller.cloned().ok_or_else(|| Status::unauthenticated("nobody"))
}

#[tonic::async_trait]
impl<A: Acceptor> Fs for Service<A> {
    type SessionStream = Replies<ToMount>;

    async fn session(
        &self,
        request: Request<Streaming<wire::ToBrick>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let caller = caller(&request)?;
        let (link, replies) = self.link(request.into_inner(), caller.to_string(), None);
        self.acceptor.mount(caller, link);
        Ok(Response::new(replies))
    }
}

#[tonic::async_trait]
impl<A: Acceptor> Peer for Service<A> {
    type ReplicateStream = Replies<ToPeer>;
    type BeatStream = Replies<Beat>;

    async fn replicate(
        &self,
        request: Request<Streaming<wire::ToPeer>>,
    ) -> Result<Response<Self::ReplicateStream>, Status> {
        let caller = caller(&request)?;
        let (link, replies) = self.link(request.into_inner(), caller.to_string(), None);
        self.acceptor.peer(caller, link);
        Ok(Response::new(replies))
    }

    async fn beat(&self, request: Request<Streaming<wire::Beat>>) -> Result<Response<Self::BeatStream>, Status> {
        let caller = caller(&request)?;
        let mut source = request.into_inner();
        let message = tokio::time::timeout(tune::HELLO_TIMEOUT, source.message())
            .await
            .map_err(|_| Status::deadline_exceeded("no hello"))?
            .map_err(|status| Status::invalid_argument(one_line(&status)))?
            .ok_or_else(|| Status::invalid_argument("no hello"))?;
        let hello = BeatHello::try_from(message).map_err(|invalid| Status::invalid_argument(invalid.to_string()))?;
        let ours = limits::PROTOCOL_VERSION;
        if hello.protocol != ours {
            let theirs = hello.protocol;
            return Err(Status::failed_precondition(format!(
                "this brick speaks protocol {ours}, not {theirs}"
            )));
        }
        let answer = BeatHello {
            brick: hello.brick.other(),
            ..hello
        };
        let (link, replies) = self.link(source, caller.to_string(), Some(answer.into()));
        self.acceptor.beat(caller, hello, link);
        Ok(Response::new(replies))
    }
}
