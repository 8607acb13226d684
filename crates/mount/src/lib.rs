//! The FUSE edge: kernel -> brain of the mount -> brick, and back; the program `mount.mboxfs`.
//!
//! Promises: no logic about mail, leases or replication here; `ops` decodes, `driver` steps the brain, `reply` answers.
//! Not here: the brain (`client`), the wire (`rpc`).

mod args;
mod daemon;
mod driver;
mod ops;
mod process;
mod reply;

pub use daemon::main;
