//! What the types promise but do not enforce: bounds, order, ranges.
//!
//! Promises: a frame that passes keeps every promise written at its type in `types`. Applied to frames that arrive, to the
//! records in them, and to our own before they leave, so that a mistake is found where it was made.
//! Not here: what has an answer. A value that a person or program can cause (a file too large, an attribute too long) gets
//! its errno from the brain; refusing it here would end the stream, and the mount would come back with the same request.

use super::{Invalid, op};
use mboxfs_types::admin::is_host;
use mboxfs_types::call::{
    Answer, Attached, Extent, Found, Grant, Intent, Op, Query, Reclaim, Reclaimed, Request, SetAttr, ToBrick, ToMount,
    Verdict, View,
};
use mboxfs_types::heal::Ask;
use mboxfs_types::peer::{Beat, Check as PeerCheck, Entry, Hello, ToPeer};
use mboxfs_types::quorum::Policy;
use mboxfs_types::record::{Body, Record};
use mboxfs_types::{Attr, Dotlock, GenId, Group, HeldLock, Ino, Key, Range, Tag, Timestamp, limits};

/// Bytes of volume names, host names, reasons and addresses. They are for people; no honest one is near.
const TEXT_BYTES_MAX: usize = 4096;
/// Bytes of attribute values and link targets on the wire: what the kernel lets through. The brain answers beyond its own.
const VALUE_BYTES_MAX: usize = 64 << 10;
/// Bytes of the name of an extended attribute, as in the kernel.
const XATTR_NAME_BYTES_MAX: usize = 255;
/// Addresses in an answer to attach.
const ADDRESSES_MAX: usize = 16;
/// Changes in one record of a merge.
const MERGE_OPS_MAX: usize = 64;
/// Bytes of payload in one record of a merge: a full commit, and small changes that go with it.
const MERGE_BYTES_MAX: usize = limits::RECORD_BYTES_MAX + (64 << 10);
/// Bytes of one change beside its payload: numbers, and two names.
const OP_HEAD_BYTES_MAX: usize = 1 << 10;

const _: () = assert!(VALUE_BYTES_MAX >= limits::VALUE_BYTES_MAX);
const _: () = assert!(MERGE_BYTES_MAX + MERGE_OPS_MAX * OP_HEAD_BYTES_MAX < limits::MESSAGE_BYTES_MAX);

/// Does the value keep its promises?
pub(crate) trait Check {
    /// Errors: the first promise that is broken.
    fn check(&self) -> Result<(), Invalid>;
}

fn require(holds: bool, what: &'static str) -> Result<(), Invalid> {
    if holds { Ok(()) } else { Err(Invalid { what }) }
}

impl<T: Check> Check for Option<T> {
    fn check(&self) -> Result<(), Invalid> {
        self.as_ref().map_or(Ok(()), Check::check)
    }
}

impl<T: Check> Check for Vec<T> {
    fn check(&self) -> Result<(), Invalid> {
        self.iter().try_for_each(Check::check)
    }
}

impl Check for Timestamp {
    fn check(&self) -> Result<(), Invalid> {
        require(self.nanos < 1_000_000_000, "nanoseconds of a time")
    }
}

impl Check for GenId {
    fn check(&self) -> Result<(), Invalid> {
        require(self.brick <= 1, "brick index of a generation")
    }
}

impl Check for View {
    fn check(&self) -> Result<(), Invalid> {
        self.g.check()
    }
}

impl Check for Tag {
    fn check(&self) -> Result<(), Invalid> {
        require(self.n >= 1, "position of a record")?;
        self.g.check()
    }
}

impl Check for Range {
    fn check(&self) -> Result<(), Invalid> {
        require(self.start <= self.end, "range ends before it starts")
    }
}

impl Check for HeldLock {
    fn check(&self) -> Result<(), Invalid> {
        self.range.check()
    }
}

impl Check for (Ino, HeldLock) {
    fn check(&self) -> Result<(), Invalid> {
        self.1.check()
    }
}

impl Check for Dotlock {
    fn check(&self) -> Result<(), Invalid> {
        require(self.name.is_dotlock(), "name of a dotlock")?;
        require(self.content.len() <= limits::DOTLOCK_BYTES_MAX, "content of a dotlock")?;
        self.ctime.check()?;
        self.mtime.check()
    }
}

impl Check for (Group, Dotlock) {
    fn check(&self) -> Result<(), Invalid> {
        require(self.1.name.stem() == self.0.stem, "dotlock of another group")?;
        self.1.check()
    }
}

impl Check for Attr {
    fn check(&self) -> Result<(), Invalid> {
        require(self.mode <= 0o7777, "permission bits")?;
        self.atime.check()?;
        self.mtime.check()?;
        self.ctime.check()
    }
}

impl Check for Intent {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Lock { range, .. } => range.check(),
            Self::Read | Self::Write | Self::Unlock | Self::Excl | Self::Op => Ok(()),
        }
    }
}

fn text(text: &str) -> Result<(), Invalid> {
    require(text.len() <= TEXT_BYTES_MAX, "text too long")
}

fn addresses(list: &[String]) -> Result<(), Invalid> {
    require(list.len() <= ADDRESSES_MAX, "too many addresses")?;
    list.iter().try_for_each(|address| text(address))
}

fn xattr_name(name: &[u8]) -> Result<(), Invalid> {
    require(
        !name.is_empty() && name.len() <= XATTR_NAME_BYTES_MAX && !name.contains(&0),
        "name of an extended attribute",
    )
}

impl Check for Extent {
    fn check(&self) -> Result<(), Invalid> {
        let len = self.data.len();
        require(len >= 1, "empty extent")?;
        require(len <= limits::EXTENT_BYTES_MAX, "extent too long")?;
        require(
            self.offset.checked_add(len as u64).is_some(),
            "extent beyond all offsets",
        )
    }
}

impl Check for SetAttr {
    fn check(&self) -> Result<(), Invalid> {
        self.atime.check()?;
        self.mtime.check()
    }
}

fn ascending(extents: &[Extent]) -> Result<(), Invalid> {
    // Ends do not overflow: each extent has been checked before.
    let in_order = |pair: &[Extent]| pair[0].offset + pair[0].data.len() as u64 <= pair[1].offset;
    require(extents.windows(2).all(in_order), "extents overlap or are out of order")
}

impl Check for Op {
    fn check(&self) -> Result<(), Invalid> {
        require(op::weight(self) <= limits::RECORD_BYTES_MAX, "change too large")?;
        match self {
            Self::Stage { extents, .. } => extents.check(),
            Self::Commit {
                extents, mtime, atime, ..
            } => {
                extents.check()?;
                ascending(extents)?;
                mtime.check()?;
                atime.check()
            }
            Self::Symlink { target, .. } => require(target.len() <= VALUE_BYTES_MAX, "link target too long"),
            Self::Put { content, .. } => require(content.len() <= limits::DOTLOCK_BYTES_MAX, "content too long"),
            Self::SetAttr { set, .. } => set.check(),
            Self::SetXattr { name, value, .. } => {
                xattr_name(name)?;
                require(value.len() <= VALUE_BYTES_MAX, "attribute value too long")
            }
            Self::RemoveXattr { name, .. } => xattr_name(name),
            Self::Create { .. }
            | Self::Mkdir { .. }
            | Self::Link { .. }
            | Self::Unlink { .. }
            | Self::Rmdir { .. }
            | Self::Rename { .. }
            | Self::Free { .. } => Ok(()),
        }
    }
}

impl Check for Request {
    fn check(&self) -> Result<(), Invalid> {
        require(self.seq >= 1, "number of a request")?;
        require(self.acked <= self.seq, "request acknowledges itself")?;
        self.op.check()
    }
}

impl Check for Answer {
    fn check(&self) -> Result<(), Invalid> {
        let dot = match &self.verdict {
            Verdict::Give { locks, dot, .. } => {
                locks.check()?;
                dot
            }
            Verdict::Once { dot, .. } => dot,
        };
        if let (Key::Name(group), Some(dot)) = (&self.key, dot) {
            require(dot.name.stem() == group.stem, "dotlock of another group")?;
        }
        dot.check()
    }
}

impl Check for Reclaim {
    fn check(&self) -> Result<(), Invalid> {
        self.view.check()?;
        self.from.check()?;
        self.locks.check()?;
        self.dots.check()?;
        self.known.check()
    }
}

impl Check for Reclaimed {
    fn check(&self) -> Result<(), Invalid> {
        self.view.check()?;
        self.locks.check()?;
        self.dots.check()
    }
}

fn read(offset: u64, len: u32) -> Result<(), Invalid> {
    require(len as usize <= limits::EXTENT_BYTES_MAX, "read too long")?;
    require(offset.checked_add(u64::from(len)).is_some(), "read beyond all offsets")
}

impl Check for Query {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Read { offset, len, .. } => read(*offset, *len),
            Self::GetXattr { name, .. } => xattr_name(name),
            Self::ReadDir { .. }
            | Self::ReadLink { .. }
            | Self::ListXattr { .. }
            | Self::StatFs
            | Self::Parent { .. } => Ok(()),
        }
    }
}

impl Check for ToBrick {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Attach(attach) => text(&attach.volume),
            Self::Request(request) => request.check(),
            Self::Lease(request) => request.intent.check(),
            Self::Answer(answer) => answer.check(),
            Self::Reclaim(reclaim) => reclaim.check(),
            Self::Query { query, .. } => query.check(),
            Self::Cancel { .. } | Self::Ping { .. } | Self::Detach { .. } => Ok(()),
        }
    }
}

impl Check for Attached {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Ok { bricks, .. } => addresses(bricks),
            Self::Expired => Ok(()),
            Self::NotServing { why, bricks } => {
                text(why)?;
                addresses(bricks)
            }
            Self::Refused { why } => text(why),
        }
    }
}

impl Check for Grant {
    fn check(&self) -> Result<(), Invalid> {
        if let Some(name) = &self.name
            && let Some(dot) = &name.dot
        {
            require(dot.name.stem() == name.group.stem, "dotlock of another group")?;
            dot.check()?;
        }
        self.attr.check()?;
        self.locks.check()
    }
}

impl Check for Found {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Data(data) => require(data.len() <= limits::EXTENT_BYTES_MAX, "data too long"),
            Self::Entries { entries, .. } => {
                require(entries.len() <= limits::DIR_ENTRIES_MAX, "too many directory entries")?;
                require(
                    entries.windows(2).all(|pair| pair[0].name < pair[1].name),
                    "directory entries out of order",
                )
            }
            Self::Names(names) => names.iter().try_for_each(|name| xattr_name(name)),
            Self::Space(_) | Self::Ino(_) => Ok(()),
        }
    }
}

impl Check for ToMount {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Attached(attached) => attached.check(),
            Self::View { view, .. } => view.check(),
            Self::Reclaimed(reclaimed) => reclaimed.check(),
            Self::Reply(reply) => reply.result.as_ref().map_or(Ok(()), Check::check),
            Self::Granted(granted) => granted.result.as_ref().map_or(Ok(()), Check::check),
            Self::Recall(recall) => recall.intent.check(),
            Self::Found { result, .. } => result.as_ref().map_or(Ok(()), Check::check),
            Self::Pong { .. } | Self::Changed { .. } | Self::Orphaned { .. } | Self::SessionGone { .. } => Ok(()),
        }
    }
}

impl Check for Record {
    fn check(&self) -> Result<(), Invalid> {
        self.tag.check()?;
        self.time.check()?;
        match &self.body {
            Body::NewGen { g, .. } => g.check(),
            Body::SessionOpen { host, .. } => text(host),
            Body::SessionExpire { .. } => Ok(()),
            Body::Quorum { quorum } => match &quorum.witness {
                Some(at) => {
                    require(is_host(&at.host), "host of the witness")?;
                    require(at.port != 0, "port of the witness")
                }
                None => require(quorum.policy != Policy::Witness, "no witness"),
            },
            Body::Op { id, acked, op } => {
                require(id.seq >= 1, "number of a request")?;
                require(*acked <= id.seq, "request acknowledges itself")?;
                op.check()
            }
            Body::Quarantine { op } => op.check(),
            Body::Merge { ops, .. } => {
                require(ops.len() <= MERGE_OPS_MAX, "too many changes in a merge")?;
                let bytes: usize = ops.iter().map(op::weight).sum();
                require(bytes <= MERGE_BYTES_MAX, "merge too large")?;
                ops.check()
            }
        }
    }
}

impl Check for Ask {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Read { offset, len, .. } => read(*offset, *len),
            Self::Digests { offset, len, .. } => {
                require(*len <= limits::DIGEST_SPAN, "too many blocks")?;
                require(offset.checked_add(*len).is_some(), "end of a read")
            }
            Self::Changes | Self::Index { .. } | Self::Raw { .. } | Self::State { .. } | Self::Xattrs { .. } => Ok(()),
        }
    }
}

impl Check for Entry {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Whole(record) => record.check(),
            Self::Numbered { tag, time, seq, .. } => {
                require(*seq >= 1, "number of a request")?;
                tag.check()?;
                time.check()
            }
        }
    }
}

impl Check for Hello {
    fn check(&self) -> Result<(), Invalid> {
        self.view.check()?;
        self.history.iter().try_for_each(|epoch| epoch.g.check())?;
        require(
            self.history.windows(2).all(|pair| pair[0].first <= pair[1].first),
            "history out of order",
        )
    }
}

impl Check for ToPeer {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Hello(hello) => hello.check(),
            Self::Suffix { records } => {
                require(
                    records.windows(2).all(|pair| pair[0].tag.n < pair[1].tag.n),
                    "records out of order",
                )?;
                records.check()
            }
            Self::Append { entry } => entry.check(),
            Self::Relay { frame, .. } => frame.check(),
            Self::Deliver { frame, .. } => frame.check(),
            Self::Ask { ask, .. } => ask.check(),
            Self::Part { data, last, .. } => require(data.is_ok() || *last, "answer goes on after an error"),
            Self::Checked { data: Ok(bytes), .. } => {
                require(bytes.len() as u64 <= limits::SUM_BLOCK_BYTES, "block too long")
            }
            Self::Check {
                check: PeerCheck::Sums { count, .. },
                ..
            } => require(
                (1..=limits::SCRUB_BLOCKS).contains(count),
                "too many checksums asked for",
            ),
            Self::Durable { .. }
            | Self::Commit { .. }
            | Self::Lost { .. }
            | Self::Check { .. }
            | Self::Checked { .. }
            | Self::Copied { .. }
            | Self::Merged => Ok(()),
            Self::Goodbye { why } => require(why.len() <= limits::REASON_BYTES_MAX, "reason too long"),
        }
    }
}

impl Check for Beat {
    fn check(&self) -> Result<(), Invalid> {
        match self {
            Self::Ping(ping) => {
                ping.view.check()?;
                ping.real.check()
            }
            Self::Pong(pong) => pong.view.check(),
        }
    }
}
