//! From the types to the wire and back.
//!
//! Promises
//! V1  What comes out of a `try_from` here has passed `check`: a frame that breaks the contract of `types` is [`Invalid`].
//! V2  Payloads are moved, never copied, in both directions; the exception are records, which travel as one checked blob.
//! V3  Arbitrary bytes are refused or converted, never a panic.
//!
//! Not here: streams and queues (`link`).

pub(crate) mod admin;
pub(crate) mod base;
pub(crate) mod call;
pub(crate) mod check;
pub(crate) mod op;
pub(crate) mod peer;
pub(crate) mod reply;
mod scrub;
pub(crate) mod witness;

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

/// A frame breaks the contract of `types`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("invalid frame: {what}")]
pub struct Invalid {
    /// What is wrong with it.
    pub what: &'static str,
}

/// A frame type of `types` and its message.
pub(crate) trait Frame: Sized + Send + 'static {
    /// The generated message.
    type Wire: prost::Message + Default + Send + 'static;

    /// Checks the frame and turns it into one message or, for a long batch, into several; they go to the end of `out`.
    fn to_wire(self, out: &mut VecDeque<Self::Wire>) -> Result<(), Invalid>;

    /// Turns a message into the frame, and checks it.
    fn from_wire(wire: Self::Wire) -> Result<Self, Invalid>;

    /// Bytes of payload, roughly: what a queue of frames counts.
    fn weight(&self) -> usize;
}

/// The oneof or message must be there.
fn need<T>(value: Option<T>, what: &'static str) -> Result<T, Invalid> {
    value.ok_or(Invalid { what })
}

fn list<A: Into<B>, B>(from: Vec<A>) -> Vec<B> {
    from.into_iter().map(Into::into).collect()
}

fn try_list<A, B: TryFrom<A, Error = Invalid>>(from: Vec<A>) -> Result<Vec<B>, Invalid> {
    from.into_iter().map(B::try_from).collect()
}

fn try_option<A, B: TryFrom<A, Error = Invalid>>(from: Option<A>) -> Result<Option<B>, Invalid> {
    from.map(B::try_from).transpose()
}
