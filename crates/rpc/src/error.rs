//! Why a conversation could not begin.
//!
//! Promises: one line each, fit for a log and for an operator.
//! Not here: why a running one ended (`Receiver::why_ended`).

use mboxfs_types::Fingerprint;
use std::time::Duration;

/// Why dialling or serving failed.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RpcError {
    /// No TCP connection: no such host, nothing listens, no route; or it broke before an answer.
    #[error("{address}: not reachable: {why}")]
    Unreachable {
        /// As dialled.
        address: String,
        /// One line.
        why: String,
    },
    /// No answer in time.
    #[error("{address}: no answer within {after:?}")]
    TimedOut {
        /// As dialled.
        address: String,
        /// The limit.
        after: Duration,
    },
    /// It is an mboxfs port, and it said no.
    #[error("{address}: refused: {why}")]
    Refused {
        /// As dialled.
        address: String,
        /// Its words.
        why: String,
    },
    /// Its key is not the one that it should be.
    #[error("{address}: it has an unknown key: {fingerprint}")]
    WrongKey {
        /// As dialled.
        address: String,
        /// Of the key that it has.
        fingerprint: Fingerprint,
    },
    /// It does not admit our key.
    #[error("{address}: it does not know the key of this host")]
    Unwanted {
        /// As dialled.
        address: String,
    },
    /// It is root's brickd on this host, and this process is not root's.
    #[error("{address}: only root may speak to it")]
    NotAllowed {
        /// As dialled.
        address: String,
    },
    /// This host's key cannot be read.
    #[error("{address}: by the key of this host only: {why}")]
    NoKey {
        /// As dialled.
        address: String,
        /// One line, with the path.
        why: String,
    },
    /// Something else listens there.
    #[error("{address}: not an mboxfs port: {why}")]
    NotMboxfs {
        /// As dialled.
        address: String,
        /// One line.
        why: String,
    },
    /// The server stopped by itself.
    #[error("could not serve: {why}")]
    Serve {
        /// One line.
        why: String,
    },
}

/// A status as one line, with the innermost cause, which is the one that helps.
pub(crate) fn one_line(status: &tonic::Status) -> String {
    let mut text = status.message().to_owned();
    let mut source = std::error::Error::source(status);
    while let Some(cause) = source {
        source = cause.source();
        if source.is_none() {
            let cause = cause.to_string();
            if !text.contains(&cause) {
                text = if text.is_empty() {
                    cause
                } else {
                    format!("{text}: {cause}")
                };
            }
        }
    }
    if text.is_empty() {
        text = status.code().description().to_owned();
    }
    text.replace(['\n', '\r'], " ")
}

/// Why a first call failed: the connection broke, something else listens, or the other side said no.
pub(crate) fn refused(address: &str, status: &tonic::Status) -> RpcError {
    let address = address.to_owned();
    let why = one_line(status);
    let mut source = std::error::Error::source(status);
    let mut transport = false;
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            if io.kind() == std::io::ErrorKind::PermissionDenied {
                return RpcError::Unwanted { address }; // `io` says so
            }
            return RpcError::Unreachable { address, why };
        }
        transport = true;
        source = cause.source();
    }
    // A gRPC server that does not know the call, an answer that is not gRPC, frames that are not HTTP/2.
    if transport || matches!(status.code(), tonic::Code::Unimplemented | tonic::Code::Unknown) {
        RpcError::NotMboxfs { address, why }
    } else {
        RpcError::Refused { address, why }
    }
}
