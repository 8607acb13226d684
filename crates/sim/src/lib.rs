//! A world from one seed: two servers with the real brains and the real store, mail programs, network, disks and time. Tests
//! only.
//!
//! - [`plan`]: what is done and what breaks, drawn from a seed or read from text (`text`, [`scenario`])
//! - [`world`]: what happens when; `world/faults.rs` breaks things
//! - [`mailers`]: Postfix, Dovecot, mutt, a shell, a reader; [`oracle`]: what they were promised
//! - [`invariants`]: what must be true, one file each
//! - [`run`](mod@run), [`shrink`]: a plan from beginning to end; a shorter one that fails too
//!
//! Promises: the same seed gives the same events in the same order.
//! Not here: FUSE, gRPC and threads (`mount`, `rpc`, `brickd`); mailbox files on a real filesystem (`store::Files`: the image
//! of `image` stands for them, all else of the store is the real one).

pub mod disk;
pub mod image;
pub mod invariants;
pub mod journal;
mod kernel;
pub mod letter;
pub mod mailers;
pub mod oracle;
pub mod plan;
mod rng;
pub mod run;
pub mod scenario;
pub mod shrink;
mod text;
pub mod world;
