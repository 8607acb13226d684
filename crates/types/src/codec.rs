//! Bytes of records, snapshots and superblocks: postcard, a stable format for serde types.
//!
//! Promises: `decode(encode(x)) == x`; bytes that are too short, too long or invalid are an error, never a panic.
//! Not here: checksums and framing (`store`), the gRPC messages (`rpc`).

use alloc::vec::Vec;
use serde::{Serialize, de::DeserializeOwned};

/// Why bytes could not be decoded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed;

impl core::fmt::Display for Malformed {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("malformed bytes")
    }
}

impl core::error::Error for Malformed {}

/// The bytes of `value`.
///
/// # Panics
/// Never for types of this crate: none of them has a serializer that can fail.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_allocvec(value).expect("types of this crate always serialize")
}

/// The value in `bytes`, all of them.
///
/// Errors: [`Malformed`] if bytes are missing, left over, or not valid for `T`.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Malformed),
    }
}
