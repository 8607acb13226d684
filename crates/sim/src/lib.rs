//! A world from one seed: two bricks, two mounts and their mailers, with the real brains; network, disks and time are made
//! here. Tests only.
//!
//! Promises: the same seed gives the same events in the same order.
//! Not here: the real store (later), faults of single sectors.

pub mod disk;
mod kernel;
pub mod mailer;
mod rng;
pub mod witness;
pub mod world;
