//! Makes bytes durable: the redo log, the superblock, snapshots, and the mailbox files of one brick.
//!
//! It is synchronous and threadless, reads no clock and draws no random numbers. `brickd` gives each part a thread.
//!
//! - [`Opened`], [`format`], [`inspect`]: the brick's directory
//! - [`Log`]: records in order; durable when `append` returns
//! - [`Files`]: effects on mailbox files, and looks at them; durable at the next checkpoint
//! - [`Content`]: a file as it is or was at a fork, and the index of its messages
//! - [`Scrub`]: blocks of a file, compared with their checksums
//! - [`AtRest`]: content of files, checked against its checksums, wherever they are
//! - [`Past`]: what happened to mailboxes, and the messages that were removed from them
//! - [`Checkpointer`]: makes files durable, then writes a snapshot
//! - [`SuperblockWriter`]: the brick's memory of who it is
//! - [`RegisterFile`]: the witness's memory
//! - [`Medium`], [`recover`], [`LossyMedium`]: the same log, superblock and snapshots on a simulated disk
//!
//! Not here: what records mean and when they are committed (`brick`), threads (`brickd`).
#![deny(missing_docs)]

mod at_rest;
mod checkpoint;
mod error;
mod files;
mod frame;
mod history;
mod locate;
mod log;
pub mod lossy;
pub mod medium;
mod mend;
mod recover;
mod register;
mod reserve;
mod segment;
mod slots;
mod store;
mod sums;
mod superblock;
mod touched;

pub use at_rest::{AtRest, Resting};
pub use checkpoint::{Checkpointer, Durable};
pub use error::{LogError, StoreError};
pub use files::{Content, Files, Leisure, Scrub};
pub use history::{Past, Retention};
pub use log::{Log, SEGMENT_BYTES, SEGMENT_BYTES_MIN};
pub use lossy::LossyMedium;
pub use medium::{DirMedium, Medium, is_full};
pub use recover::{Recovery, format_medium, recover};
pub use register::RegisterFile;
pub use store::{Inspection, Opened, Options, format, format_with, inspect, open_files};
pub use sums::Change;
pub use superblock::SuperblockWriter;
pub use touched::Touched;
