//! The witness's calls: one question, one answer, on a port of its own.
//!
//! Promises: what is handed over was validated; a question in another protocol version is refused in words.
//! Not here: registers (`brick::witness`), their file (`store`), when to ask (`brick::quorum`).

use crate::{
    RpcError,
    convert::{Invalid, witness::Call},
    dial,
    error::refused,
    serve, wire,
};
use mboxfs_types::quorum::{AskWitness, WitnessTell};
use std::{future::Future, time::Duration};
use tonic::{Request, Response, Status, service::Routes};
use wire::{witness_client::WitnessClient, witness_server as server};

/// Who keeps registers.
pub trait Registrar: Clone + Send + Sync + 'static {
    /// The answer to `ask`; what it says is durable.
    ///
    /// Errors: why there is none, in one line.
    fn obey(&self, ask: AskWitness) -> impl Future<Output = Result<WitnessTell, String>> + Send;
}

struct Service<R>(R);

impl<R: Registrar> Service<R> {
    async fn obey(&self, call: Call) -> Result<Response<wire::WitnessTell>, Status> {
        let invalid = |invalid: Invalid| Status::invalid_argument(invalid.to_string());
        let ask = AskWitness::try_from(call).map_err(invalid)?;
        let tell = self.0.obey(ask).await.map_err(Status::internal)?;
        Ok(Response::new(tell.into()))
    }
}

#[tonic::async_trait]
impl<R: Registrar> server::Witness for Service<R> {
    async fn read(&self, request: Request<wire::WitnessRead>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(Call::Read(request.into_inner())).await
    }

    async fn cas(&self, request: Request<wire::WitnessCas>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(Call::Cas(request.into_inner())).await
    }

    async fn create(&self, request: Request<wire::WitnessCreate>) -> Result<Response<wire::WitnessTell>, Status> {
        self.obey(Call::Create(request.into_inner())).await
    }
}

/// Serves registers, and nothing else, on `listeners` until `shutdown`.
///
/// Errors: `Serve` if the server stopped by itself.
pub async fn serve_witness<R: Registrar>(
    listeners: crate::Listeners,
    registrar: R,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RpcError> {
    let routes = Routes::new(server::WitnessServer::new(Service(registrar)));
    serve::routes(listeners, routes, shutdown, || {}).await
}

/// Asks the witness at `address` (`host:port`).
///
/// Errors: unreachable, timed out, no witness there; `Refused` if it refuses, or its answer is invalid.
pub async fn ask_witness(address: &str, ask: AskWitness, timeout: Duration) -> Result<WitnessTell, RpcError> {
    dial::within(address, timeout, async {
        let mut client = WitnessClient::new(dial::connect(address).await?);
        let answer = match Call::from(ask) {
            Call::Read(read) => client.read(read).await,
            Call::Cas(cas) => client.cas(cas).await,
            Call::Create(create) => client.create(create).await,
        };
        let message = answer.map_err(|status| refused(address, &status))?.into_inner();
        message.try_into().map_err(|invalid: Invalid| RpcError::Refused {
            address: address.to_owned(),
            why: invalid.to_string(),
        })
    })
    .await
}
