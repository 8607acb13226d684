//! The FUSE edge: kernel -> brain of the mount -> brick, and back; the program `mount.mboxfs`.
//!
//! Promises: no logic about mail, leases or replication here. The way of a call: `ops` decodes, `driver` steps the brain,
//! `reply` answers; `stream` carries frames to and from the brick; `watch` and `poke` look after what the FUSE library
//! and the kernel do not tell. `daemon` is the program around it, `kernel` mounts and unmounts. The mount outlives the daemon: `supervisor`
//! starts another one, which finds in `journal` what it must know, and by `handover` the kernel's stream.
//!
//! Not here: the brain (`client`), the wire (`rpc`).

mod args;
mod daemon;
mod driver;
mod fstab;
mod handover;
mod host;
mod journal;
mod kernel;
mod lookout;
mod ops;
mod poke;
mod process;
mod reply;
mod stream;
mod supervisor;
mod watch;

pub use supervisor::main;
