//! A mailbox that was changed on both sides: the plan of `mbox` in the words of this crate.
//!
//! Promises: both bricks would make the same plan of it, since the brick with the lower id is the left side on either.
//! Not here: the rules (`mbox::merge`, MAIL.md section 6), other files (`decide`).

use alloc::vec::Vec;
use bytes::Bytes;
use mboxfs_mbox::{
    files::{self, Rule},
    index::Index,
    manifest::Manifest,
    merge::{self, Input},
    plan::{Segment, Side},
};
use mboxfs_types::{BrickId, Timestamp, heal::Change};

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
    /// New content.
    Plan(Vec<Part>),
    /// One of them is no mailbox.
    NoMailbox,
    /// An index that no index was encoded to.
    Malformed,
}

/// The two copies, as indexes that `mbox` encoded.
pub(super) struct Copies<'a> {
    /// As both knew it, if both did.
    pub(super) base: Option<&'a Bytes>,
    pub(super) ours: &'a Bytes,
    /// None: it was removed there.
    pub(super) theirs: Option<&'a Bytes>,
    /// Messages appended to ours since the fork.
    pub(super) appended: u32,
    /// Some program may have read ours since the fork.
    pub(super) observed: bool,
}

/// `now`: for a UIDVALIDITY, should UIDs run out.
pub(super) fn merge(copies: &Copies<'_>, change: &Change, me: BrickId, now: Timestamp) -> Merged {
    let name = [&change.now, &change.base]
        .into_iter()
        .flatten()
        .find_map(|n| n.names.first());
    if name.is_some_and(|(_, name)| files::rule(name.as_bytes()) != Rule::Content) {
        return Merged::NoMailbox;
    }
    let decode = |bytes: &Bytes| Index::decode(bytes).ok();
    let (Some(ours), Some(theirs), Some(base)) = (decode(copies.ours), optional(copies.theirs), optional(copies.base))
    else {
        return Merged::Malformed;
    };
    let base = base.as_ref().map(Manifest::of);
    let mine = Input {
        appended: u64::from(copies.appended),
        observed: copies.observed,
        ..Input::new(Some(&ours))
    };
    let other = Input {
        appended: u64::from(change.appended),
        observed: change.observed,
        ..Input::new(theirs.as_ref())
    };
    let (own, left, right) = match me {
        BrickId::A => (Side::Left, mine, other),
        BrickId::B => (Side::Right, other, mine),
    };
    let seconds = u32::try_from(now.secs).unwrap_or(u32::MAX);
    let Ok(plan) = merge::plan(base.as_ref(), &left, &right, seconds) else {
        return Merged::NoMailbox;
    };
    if plan.junk != [0; 2] {
        return Merged::NoMailbox; // whole, so that nothing has to be cut out of it
    }
    let part = |segment: Segment| {
        let len = segment.len();
        match (segment.offset_in(own), segment.offset_in(own.other()), segment) {
            (_, _, Segment::Bytes(bytes)) => Part::Bytes(bytes),
            (Some(offset), ..) => Part::Ours { offset, len },
            (None, offset, _) => Part::Theirs {
                offset: offset.unwrap_or_default(),
                len,
            },
        }
    };
    Merged::Plan(plan.segments.into_iter().map(part).collect())
}

/// Of an index that need not be there. None: it is there and malformed.
fn optional(bytes: Option<&Bytes>) -> Option<Option<Index>> {
    bytes.map_or(Some(None), |b| Index::decode(b).ok().map(Some))
}
