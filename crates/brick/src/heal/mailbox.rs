//! A mailbox that was changed on both sides: the plan of `mbox` in the words of this crate.
//!
//! Not here: the rules (`mbox::merge`, MAIL.md section 6).

use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_types::{BrickId, heal::Change};

/// A part of the result, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    Ours { offset: u64, len: u64 },
    Theirs { offset: u64, len: u64 },
    Bytes(Vec<u8>),
}

/// What comes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Merged {
    Plan(Vec<Part>),
    /// One of them is no mailbox.
    NoMailbox,
    Malformed,
}

pub(super) fn merge(
    _base: Option<&Bytes>,
    _ours: &Bytes,
    _theirs: Option<&Bytes>,
    _c: &Change,
    _me: BrickId,
) -> Merged {
    Merged::NoMailbox
}
