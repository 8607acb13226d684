//! The brain of one mount: handles, lock sessions, leases, locks and dotlocks, failover.
//!
//! Promises: pure. No clock, no I/O, no threads; `Client::step` takes what happened and says what to do.
//!
//! The path of a write: `file_calls` `write` -> [`staging`] -> (fsync, unlock, close) -> `commit` -> `Output::Send` ->
//! ... -> `link` `on_reply` -> answer. Calls are attempted again from the start whenever something that they wait for
//! has come: leases, replies, locks.
//!
//! Not here: FUSE (`mount`), what the brick does with a request (`brick`).
#![no_std]
extern crate alloc;

mod cache;
mod calls;
mod client;
mod commit;
mod dot_calls;
mod file_calls;
pub mod input;
mod keep;
mod lease;
mod link;
mod lock_calls;
mod locks;
mod name_calls;
pub mod output;
mod recall;
mod staging;
#[cfg(test)]
mod tests;
mod told;

pub use client::Client;
