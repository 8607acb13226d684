//! The bytes of an mbox file: where its messages are, what their headers say, and when two messages are the same.
//!
//! Everything here is a pure function of a byte slice: no clock, no files, no locale. Any input is allowed; nothing
//! panics, and the work grows linearly with the input even if a sender chose every byte of it.
//!
//! The format has no standard that mail programs follow. RFC 4155 names it; what counts here is how Dovecot reads
//! it, since Dovecot serves the users; the modules say where that leaves RFC 4155.
//!
//! - [`from_line`]: is this line a separator, and of what time
//! - [`header`]: header lines, and the few headers in which mail programs keep state
//! - [`scan`]: the messages of a file as spans of offsets
//! - [`identity`]: the name of a message, which survives flag changes and line-end changes
//! - [`count`]: is this file sound, and how many messages has it
//!
//! Not here: locks, files, and anything that changes bytes.

#![no_std]
#![deny(missing_docs)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod count;
pub mod files;
pub mod from_line;
pub mod header;
pub mod identity;
pub mod index;
mod line;
pub mod manifest;
pub mod merge;
pub mod plan;
pub mod scan;
pub mod source;
pub mod wire;
