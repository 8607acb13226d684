//! The brain of one brick: order, leases, sessions, views, the namespace. And that of the witness, which is tiny.
//!
//! Promises: pure. No clock, no I/O, no threads; `Brick::step` takes what happened and says what to do. The daemon
//! (`brickd`) and the simulator drive it alike.
//!
//! The path of a write: [`replicate`] `on_request` -> `arbiter` -> `number` -> (disk and peer) -> `on_appended` and
//! `on_durable` -> `advance` -> `state` `execute` -> reply.
//!
//! Not here: bytes on disk (`store`), on the wire (`rpc`), what a mount does with a lease (`client`).
#![no_std]
extern crate alloc;

mod arbiter;
mod attach;
mod brick;
mod debt;
mod feed;
mod fork;
mod give_up;
mod heal;
pub mod input;
mod line;
mod note;
pub mod output;
mod owed;
mod pace;
mod query;
pub mod quorum;
mod readers;
mod replicate;
mod report;
mod resync;
mod rot;
mod scrub;
mod stall;
mod state;
mod tree;
mod view;
pub mod witness;

pub use brick::Brick;
