//! The operator's conversation: one question, one answer, on the same port as everything else.
//!
//! Promises: what is handed over was validated (`convert::admin`); a question in another protocol version, or one that is
//! invalid, is refused in words.
//! Not here: what the verbs do and who may say them (`brickd::cluster`).

use crate::{Caller, Credentials, RpcError, convert::admin as convert, dial, error::refused, serve, wire};
use mboxfs_types::{
    Fingerprint,
    admin::{Ask, Tell},
    limits,
};
use std::{future::Future, time::Duration};
use tonic::{Request, Response, Status, service::Routes};

/// Longest message: two reports of a thousand names each, and room.
const ADMIN_BYTES_MAX: usize = 16 << 20;

/// Who answers.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to `ask`, which came from `caller`.
    fn answer(&self, caller: Caller, ask: Ask) -> impl Future<Output = Tell> + Send;
}

struct Service<A>(A);

#[tonic::async_trait]
impl<A: Answers> wire::admin_server::Admin for Service<A> {
    async fn ask(&self, request: Request<wire::AdminAsk>) -> Result<Response<wire::AdminTell>, Status> {
        let caller = serve::caller(&request)?;
        let message = request.into_inner();
        let own = limits::PROTOCOL_VERSION;
        // Before anything else is looked at: another version may mean other things by the same fields.
        let tell = if message.protocol == own {
            match convert::ask(message) {
                Ok(ask) => self.0.answer(caller, ask).await,
                Err(invalid) => refusal(invalid.to_string(), ""),
            }
        } else {
            let why = format!("you speak protocol {}, this brickd speaks {own}", message.protocol);
            refusal(why, "use the mboxfs and the brickd of one release")
        };
        Ok(Response::new(convert::tell_message(tell)))
    }
}

fn refusal(why: String, hint: &str) -> Tell {
    Tell::Refused {
        why,
        hint: hint.to_owned(),
    }
}

/// The service, for `serve`.
pub fn routes<A: Answers>(answers: A) -> Routes {
    let server = wire::admin_server::AdminServer::new(Service(answers))
        .max_decoding_message_size(ADMIN_BYTES_MAX)
        .max_encoding_message_size(ADMIN_BYTES_MAX);
    Routes::new(server)
}

/// A brickd that is there takes a connection within this, however long its answer may take.
const CONNECT: Duration = Duration::from_secs(5);

/// Asks the brickd at `address` (`host:port`).
///
/// Errors: as [`RpcError`] says; `Refused` also if its answer is invalid.
pub async fn ask(address: &str, as_whom: &Credentials, ask: Ask, timeout: Duration) -> Result<Tell, RpcError> {
    let met = meet(address, as_whom, ask, timeout).await;
    met.map(|(tell, _)| tell)
}

/// As [`ask`]; returns the key of the host that answered, too. None: it is this host, and answered on its socket.
///
/// Errors: as `ask`.
pub async fn meet(
    address: &str,
    as_whom: &Credentials,
    ask: Ask,
    timeout: Duration,
) -> Result<(Tell, Option<Fingerprint>), RpcError> {
    let late = |after| RpcError::TimedOut {
        address: address.to_owned(),
        after,
    };
    let asked = async {
        let connected = tokio::time::timeout(CONNECT.min(timeout), dial::connect(address, as_whom)).await;
        let (channel, key) = connected.map_err(|_| late(CONNECT.min(timeout)))??;
        let mut client = wire::admin_client::AdminClient::new(channel)
            .max_decoding_message_size(ADMIN_BYTES_MAX)
            .max_encoding_message_size(ADMIN_BYTES_MAX);
        let answer = client.ask(convert::ask_message(ask)).await;
        let message = answer.map_err(|status| refused(address, &status))?.into_inner();
        let tell = convert::tell(message).map_err(|invalid| RpcError::Refused {
            address: address.to_owned(),
            why: invalid.to_string(),
        })?;
        Ok((tell, key))
    };
    tokio::time::timeout(timeout, asked).await.map_err(|_| late(timeout))?
}
