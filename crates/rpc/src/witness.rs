//! The witness's calls: one question, one answer, on a port of its own.
//!
//! Promises: what is handed over was validated; a question in another protocol version is refused in words.
//! Not here: registers (`brick::witness`), their file (`store`), when to ask (`brick::quorum`).

use crate::{
    Caller, Credentials, Guard, Listeners, RpcError,
    convert::{Invalid, witness::Call},
    dial,
    error::refused,
    serve, wire,
};
use mboxfs_types::{
    Fingerprint,
    quorum::{AskWitness, WitnessTell},
};
use std::{future::Future, time::Duration};
use tonic::{Request, Response, Status, service::Routes};
use wire::{witness_client::WitnessClient, witness_server as server};

/// Who keeps registers.
pub trait Registrar: Clone + Send + Sync + 'static {
    /// The answer to `ask` of the host that has this key; what it says is durable.
    ///
    /// Errors: why there is none, in one line.
    fn obey(&self, caller: Fingerprint, ask: AskWitness) -> impl Future<Output = Result<WitnessTell, String>> + Send;
}

struct Service<R>(R);

impl<R: Registrar> Service<R> {
    async fn obey(&self, caller: Caller, call: Call) -> Result<Response<wire::WitnessTell>, Status> {
        let Caller::Key { fingerprint, .. } = caller else {
            return Err(Status::unauthenticated("bricks have keys"));
        };
        let invalid = |invalid: Invalid| Status::invalid_argument(invalid.to_string());
        let ask = AskWitness::try_from(call).map_err(invalid)?;
        let tell = self.0.obey(fingerprint, ask).await.map_err(Status::internal)?;
        Ok(Response::new(tell.into()))
    }
}

#[tonic::async_trait]
impl<R: Registrar> server::Witness for Service<R> {
    async fn read(&self, request: Request<wire::WitnessRead>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(serve::caller(&request)?, Call::Read(request.into_inner()))
            .await
    }

    async fn cas(&self, request: Request<wire::WitnessCas>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(serve::caller(&request)?, Call::Cas(request.into_inner()))
            .await
    }

    async fn create(&self, request: Request<wire::WitnessCreate>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(serve::caller(&request)?, Call::Create(request.into_inner()))
            .await
    }
}

/// Serves registers, and nothing else, on `listeners` until `shutdown`.
///
/// Errors: `Serve` if the server stopped by itself.
pub async fn serve_witness<R: Registrar>(
    listeners: Listeners,
    guard: Guard,
    registrar: R,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RpcError> {
    let routes = Routes::new(server::WitnessServer::new(Service(registrar)));
    serve::routes(listeners, guard, routes, shutdown, || {}).await
}

/// Asks the witness at `address` (`host:port`). Returns its key, too.
///
/// Errors: as [`RpcError`] says; `Refused` if it refuses, or its answer is invalid.
pub async fn ask_witness(
    address: &str,
    as_whom: &Credentials,
    ask: AskWitness,
    timeout: Duration,
) -> Result<(WitnessTell, Fingerprint), RpcError> {
    dial::within(address, timeout, async {
        let invalid = |why: String| RpcError::Refused {
            address: address.to_owned(),
            why,
        };
        let (channel, key) = dial::connect(address, as_whom).await?;
        let key = key.ok_or_else(|| invalid("it has no key".to_owned()))?;
        let mut client = WitnessClient::new(channel);
        let answer = match Call::from(ask) {
            Call::Read(read) => client.read(read).await,
            Call::Cas(cas) => client.cas(cas).await,
            Call::Create(create) => client.create(create).await,
        };
        let message = answer.map_err(|status| refused(address, &status))?.into_inner();
        let tell = message.try_into().map_err(|why: Invalid| invalid(why.to_string()))?;
        Ok((tell, key))
    })
    .await
}
