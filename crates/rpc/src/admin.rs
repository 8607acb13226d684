//! The operator's conversation: one question, one answer, on the same port as everything else.
//!
//! Promises: a question in another protocol version is refused in words. Not here: what the verbs do (`brickd::cluster`).

use crate::{RpcError, dial, error::refused, wire};
use mboxfs_types::limits;
use std::{future::Future, net::SocketAddr, pin::Pin, time::Duration};
use tonic::{Request, Response, Status, service::Routes};

pub use wire::{
    AdminAsk, AdminBrick, AdminCreate, AdminDetach, AdminHello, AdminPeer, AdminProbe, AdminReport, AdminSet,
    AdminState, AdminStatus, AdminTell, AdminVolume, AdminWhat, admin_ask::Verb,
};

/// Who answers.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to `verb`, asked from `remote`.
    fn answer(&self, remote: SocketAddr, verb: Verb) -> Pin<Box<dyn Future<Output = AdminTell> + Send + '_>>;
}

struct Service<A>(A);

#[tonic::async_trait]
impl<A: Answers> wire::admin_server::Admin for Service<A> {
    async fn ask(&self, request: Request<AdminAsk>) -> Result<Response<AdminTell>, Status> {
        let remote = request
            .remote_addr()
            .ok_or_else(|| Status::unauthenticated("an unknown address"))?;
        let ask = request.into_inner();
        if ask.protocol != limits::PROTOCOL_VERSION {
            let why = format!(
                "you speak protocol {}, this brickd speaks {}",
                ask.protocol,
                limits::PROTOCOL_VERSION
            );
            return Ok(Response::new(AdminTell {
                refused: why,
                ..AdminTell::default()
            }));
        }
        let verb = ask
            .verb
            .ok_or_else(|| Status::invalid_argument("a question without a verb"))?;
        Ok(Response::new(self.0.answer(remote, verb).await))
    }
}

/// The service, for `serve`.
pub fn routes<A: Answers>(answers: A) -> Routes {
    Routes::new(wire::admin_server::AdminServer::new(Service(answers)))
}

/// Asks the brickd at `address`.
///
/// Errors: unreachable, timed out, or not an mboxfs port.
pub async fn ask(address: &str, verb: Verb, timeout: Duration) -> Result<AdminTell, RpcError> {
    let asked = async {
        let channel = dial::connect(address).await?;
        let ask = AdminAsk {
            protocol: limits::PROTOCOL_VERSION,
            verb: Some(verb),
        };
        let mut client = wire::admin_client::AdminClient::new(channel);
        client
            .ask(ask)
            .await
            .map(Response::into_inner)
            .map_err(|status| refused(address, &status))
    };
    let late = |_| RpcError::TimedOut {
        address: address.to_owned(),
        after: timeout,
    };
    tokio::time::timeout(timeout, asked).await.map_err(late)?
}
