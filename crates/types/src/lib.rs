//! The four conversations of mboxfs and their vocabulary.
//!
//! Promises: every type here is said between two rooms (mount-brick in [`call`], brick-brick in [`peer`], brick-disk in
//! [`disk`], operator-brick in [`admin`], brick-witness in [`quorum`]; a mount daemon to its successor in [`kept`]) or names
//! something in such a sentence. Values that can be built are valid:
//! names, ranges and records check themselves on construction and when decoded.
//!
//! Not here: behaviour. Who may say what, and when, is decided by the brains (`brick`, `client`).
#![no_std]
#![deny(missing_docs)]
extern crate alloc;

pub mod admin;
pub mod attr;
pub mod call;
pub mod codec;
pub mod disk;
pub mod error;
pub mod heal;
pub mod history;
pub mod ids;
pub mod kept;
pub mod limits;
pub mod lock;
pub mod name;
pub mod peer;
pub mod planted;
pub mod quorum;
pub mod record;
pub mod time;

pub use attr::{Attr, Kind};
pub use error::Errno;
pub use ids::{BrickId, Fingerprint, GenId, Ino, OpId, SessionId, Tag, VolumeId};
pub use lock::{Dotlock, HeldLock, LockKind, Owner, Range};
pub use name::{Group, Key, Name};
pub use time::{Nanos, Timestamp};
