//! The wire: gRPC on one TCP port, and for this host on a unix socket; typed and validated.
//!
//! Promises: what a caller receives is valid: names, ranges, lengths, enum numbers and checksums were checked here
//! (`convert`). Sending never blocks, and a link dies whole, with a reason (`link`).
//!
//! Not here: what the frames mean (`client`, `brick`), who may connect.

pub mod admin;
mod convert;
mod dial;
mod error;
mod host;
mod identity;
mod io;
mod link;
mod listen;
mod serve;
mod socket;
#[cfg(test)]
mod tests;
mod tls;
mod tune;
mod wire;
mod witness;

pub use convert::Invalid;
pub use dial::{Credentials, dial_beat, dial_mount, dial_peer};
pub use error::RpcError;
pub use identity::{IDENTITY, Identity, identity_path};
pub use link::{BeatHello, Closed, LINK_BYTES_MAX, LINK_FRAMES_MAX, Link, Receiver, Sender};
pub use listen::{Caller, Door, Guard, Listeners};
pub use serve::{Acceptor, serve};
pub use socket::is_own_address;
pub use tonic::service::Routes;
pub use witness::{Registrar, ask_witness, serve_witness};
