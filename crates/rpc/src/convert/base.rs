//! Nouns: ids, times, attributes, locks, names.
//!
//! Promises: each `try_from` refuses what has no meaning at all: unknown enum numbers, ids of another length, bytes that
//! are no name, missing parts.
//! Not here: bounds (`check`).

use super::{Invalid, need};
use crate::wire as w;
use bytes::Bytes;
use mboxfs_types as t;
use mboxfs_types::call::{Lease, Mode, Space, View};

pub(crate) fn name_bytes(name: t::Name) -> Bytes {
    Bytes::from(Vec::from(name))
}

pub(crate) fn name(bytes: &[u8]) -> Result<t::Name, Invalid> {
    t::Name::new(bytes).map_err(|_| Invalid {
        what: "not a file name",
    })
}

pub(crate) fn id16(bytes: &[u8]) -> Result<[u8; 16], Invalid> {
    bytes.try_into().map_err(|_| Invalid {
        what: "id is not 16 bytes",
    })
}

pub(crate) fn id16_bytes(id: &[u8; 16]) -> Bytes {
    Bytes::copy_from_slice(id)
}

pub(crate) fn fingerprint(bytes: &[u8]) -> Result<t::Fingerprint, Invalid> {
    bytes.try_into().map(t::Fingerprint).map_err(|_| Invalid {
        what: "fingerprint is not 32 bytes",
    })
}

pub(crate) fn fingerprint_bytes(fingerprint: t::Fingerprint) -> Bytes {
    Bytes::copy_from_slice(&fingerprint.0)
}

pub(crate) fn errno_number(errno: t::Errno) -> i32 {
    errno.code().cast_signed()
}

pub(crate) fn errno(number: i32) -> Result<t::Errno, Invalid> {
    need(
        u32::try_from(number).ok().and_then(t::Errno::from_code),
        "unknown error number",
    )
}

pub(crate) fn kind_number(kind: t::Kind) -> i32 {
    match kind {
        t::Kind::File => w::Kind::File,
        t::Kind::Dir => w::Kind::Dir,
        t::Kind::Symlink => w::Kind::Symlink,
    }
    .into()
}

pub(crate) fn kind(number: i32) -> Result<t::Kind, Invalid> {
    match w::Kind::try_from(number) {
        Ok(w::Kind::File) => Ok(t::Kind::File),
        Ok(w::Kind::Dir) => Ok(t::Kind::Dir),
        Ok(w::Kind::Symlink) => Ok(t::Kind::Symlink),
        Ok(w::Kind::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown kind of inode",
        }),
    }
}

pub(crate) fn mode_number(mode: Mode) -> i32 {
    match mode {
        Mode::R => w::Mode::R,
        Mode::W => w::Mode::W,
    }
    .into()
}

pub(crate) fn mode(number: i32) -> Result<Mode, Invalid> {
    match w::Mode::try_from(number) {
        Ok(w::Mode::R) => Ok(Mode::R),
        Ok(w::Mode::W) => Ok(Mode::W),
        Ok(w::Mode::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown lease mode",
        }),
    }
}

pub(crate) fn lock_kind_number(kind: t::LockKind) -> i32 {
    match kind {
        t::LockKind::Shared => w::LockKind::Shared,
        t::LockKind::Exclusive => w::LockKind::Exclusive,
    }
    .into()
}

pub(crate) fn lock_kind(number: i32) -> Result<t::LockKind, Invalid> {
    match w::LockKind::try_from(number) {
        Ok(w::LockKind::Shared) => Ok(t::LockKind::Shared),
        Ok(w::LockKind::Exclusive) => Ok(t::LockKind::Exclusive),
        Ok(w::LockKind::Unspecified) | Err(_) => Err(Invalid {
            what: "unknown kind of lock",
        }),
    }
}

pub(crate) fn brick_number(brick: t::BrickId) -> i32 {
    match brick {
        t::BrickId::A => w::BrickId::A,
        t::BrickId::B => w::BrickId::B,
    }
    .into()
}

pub(crate) fn brick(number: i32) -> Result<t::BrickId, Invalid> {
    match w::BrickId::try_from(number) {
        Ok(w::BrickId::A) => Ok(t::BrickId::A),
        Ok(w::BrickId::B) => Ok(t::BrickId::B),
        Ok(w::BrickId::Unspecified) | Err(_) => Err(Invalid { what: "unknown brick" }),
    }
}

impl From<t::SessionId> for w::SessionId {
    fn from(from: t::SessionId) -> Self {
        Self {
            client: id16_bytes(&from.client),
            nonce: from.nonce,
        }
    }
}

impl TryFrom<w::SessionId> for t::SessionId {
    type Error = Invalid;
    fn try_from(from: w::SessionId) -> Result<Self, Invalid> {
        Ok(Self {
            client: id16(&from.client)?,
            nonce: from.nonce,
        })
    }
}

pub(crate) fn session(from: Option<w::SessionId>) -> Result<t::SessionId, Invalid> {
    need(from, "no session")?.try_into()
}

impl From<t::GenId> for w::GenId {
    fn from(from: t::GenId) -> Self {
        Self {
            num: from.num,
            brick: from.brick.into(),
            nonce: from.nonce,
        }
    }
}

impl TryFrom<w::GenId> for t::GenId {
    type Error = Invalid;
    fn try_from(from: w::GenId) -> Result<Self, Invalid> {
        Ok(Self {
            num: from.num,
            brick: u8::try_from(from.brick).map_err(|_| Invalid {
                what: "brick index of a generation",
            })?,
            nonce: from.nonce,
        })
    }
}

pub(crate) fn generation(from: Option<w::GenId>) -> Result<t::GenId, Invalid> {
    need(from, "no generation")?.try_into()
}

impl From<View> for w::View {
    fn from(from: View) -> Self {
        Self {
            g: Some(from.g.into()),
            v: from.v,
        }
    }
}

impl TryFrom<w::View> for View {
    type Error = Invalid;
    fn try_from(from: w::View) -> Result<Self, Invalid> {
        Ok(Self {
            g: generation(from.g)?,
            v: from.v,
        })
    }
}

pub(crate) fn view(from: Option<w::View>) -> Result<View, Invalid> {
    need(from, "no view")?.try_into()
}

impl From<t::Tag> for w::Tag {
    fn from(from: t::Tag) -> Self {
        Self {
            n: from.n,
            g: Some(from.g.into()),
            v: from.v,
        }
    }
}

impl TryFrom<w::Tag> for t::Tag {
    type Error = Invalid;
    fn try_from(from: w::Tag) -> Result<Self, Invalid> {
        Ok(Self {
            n: from.n,
            g: generation(from.g)?,
            v: from.v,
        })
    }
}

impl From<t::Timestamp> for w::Timestamp {
    fn from(from: t::Timestamp) -> Self {
        Self {
            secs: from.secs,
            nanos: from.nanos,
        }
    }
}

impl From<w::Timestamp> for t::Timestamp {
    fn from(from: w::Timestamp) -> Self {
        Self {
            secs: from.secs,
            nanos: from.nanos,
        }
    }
}

pub(crate) fn time(from: Option<w::Timestamp>) -> Result<t::Timestamp, Invalid> {
    Ok(need(from, "no time")?.into())
}

impl From<t::Owner> for w::Owner {
    fn from(from: t::Owner) -> Self {
        Self {
            session: Some(from.session.into()),
            id: from.id,
        }
    }
}

pub(crate) fn owner(from: Option<w::Owner>) -> Result<t::Owner, Invalid> {
    let from = need(from, "no owner")?;
    Ok(t::Owner {
        session: session(from.session)?,
        id: from.id,
    })
}

impl From<t::Range> for w::Range {
    fn from(from: t::Range) -> Self {
        Self {
            start: from.start,
            end: from.end,
        }
    }
}

pub(crate) fn range(from: Option<w::Range>) -> Result<t::Range, Invalid> {
    let from = need(from, "no range")?;
    Ok(t::Range {
        start: from.start,
        end: from.end,
    })
}

impl From<t::HeldLock> for w::HeldLock {
    fn from(from: t::HeldLock) -> Self {
        Self {
            owner: Some(from.owner.into()),
            range: Some(from.range.into()),
            kind: lock_kind_number(from.kind),
            pid: from.pid,
        }
    }
}

impl TryFrom<w::HeldLock> for t::HeldLock {
    type Error = Invalid;
    fn try_from(from: w::HeldLock) -> Result<Self, Invalid> {
        Ok(Self {
            owner: owner(from.owner)?,
            range: range(from.range)?,
            kind: lock_kind(from.kind)?,
            pid: from.pid,
        })
    }
}

impl From<t::Dotlock> for w::Dotlock {
    fn from(from: t::Dotlock) -> Self {
        Self {
            session: Some(from.session.into()),
            name: name_bytes(from.name),
            ino: from.ino.0,
            mode: from.mode,
            uid: from.uid,
            gid: from.gid,
            pid: from.pid,
            ppid: from.ppid,
            content: from.content.into(),
            ctime: Some(from.ctime.into()),
            mtime: Some(from.mtime.into()),
        }
    }
}

impl TryFrom<w::Dotlock> for t::Dotlock {
    type Error = Invalid;
    fn try_from(from: w::Dotlock) -> Result<Self, Invalid> {
        Ok(Self {
            session: session(from.session)?,
            name: name(&from.name)?,
            ino: t::Ino(from.ino),
            mode: from.mode,
            uid: from.uid,
            gid: from.gid,
            pid: from.pid,
            ppid: from.ppid,
            content: from.content.into(),
            ctime: time(from.ctime)?,
            mtime: time(from.mtime)?,
        })
    }
}

impl From<t::Group> for w::Group {
    fn from(from: t::Group) -> Self {
        Self {
            dir: from.dir.0,
            stem: name_bytes(from.stem),
        }
    }
}

impl TryFrom<w::Group> for t::Group {
    type Error = Invalid;
    fn try_from(from: w::Group) -> Result<Self, Invalid> {
        Ok(Self {
            dir: t::Ino(from.dir),
            stem: name(&from.stem)?,
        })
    }
}

pub(crate) fn group(from: Option<w::Group>) -> Result<t::Group, Invalid> {
    need(from, "no group")?.try_into()
}

impl From<t::Key> for w::Key {
    fn from(from: t::Key) -> Self {
        Self {
            key: Some(match from {
                t::Key::Name(group) => w::key::Key::Name(group.into()),
                t::Key::Inode(ino) => w::key::Key::Inode(ino.0),
            }),
        }
    }
}

pub(crate) fn key(from: Option<w::Key>) -> Result<t::Key, Invalid> {
    Ok(match need(from.and_then(|from| from.key), "no key")? {
        w::key::Key::Name(group) => t::Key::Name(group.try_into()?),
        w::key::Key::Inode(ino) => t::Key::Inode(t::Ino(ino)),
    })
}

impl From<t::Attr> for w::Attr {
    fn from(from: t::Attr) -> Self {
        Self {
            ino: from.ino.0,
            kind: kind_number(from.kind),
            mode: from.mode,
            uid: from.uid,
            gid: from.gid,
            nlink: from.nlink,
            size: from.size,
            atime: Some(from.atime.into()),
            mtime: Some(from.mtime.into()),
            ctime: Some(from.ctime.into()),
            version: from.version,
            writer: from.writer.map(Into::into),
        }
    }
}

impl TryFrom<w::Attr> for t::Attr {
    type Error = Invalid;
    fn try_from(from: w::Attr) -> Result<Self, Invalid> {
        Ok(Self {
            ino: t::Ino(from.ino),
            kind: kind(from.kind)?,
            mode: from.mode,
            uid: from.uid,
            gid: from.gid,
            nlink: from.nlink,
            size: from.size,
            atime: time(from.atime)?,
            mtime: time(from.mtime)?,
            ctime: time(from.ctime)?,
            version: from.version,
            writer: super::try_option(from.writer)?,
        })
    }
}

impl From<Space> for w::Space {
    fn from(from: Space) -> Self {
        Self {
            total: from.total,
            free: from.free,
            inodes: from.inodes,
            inodes_free: from.inodes_free,
        }
    }
}

impl From<w::Space> for Space {
    fn from(from: w::Space) -> Self {
        Self {
            total: from.total,
            free: from.free,
            inodes: from.inodes,
            inodes_free: from.inodes_free,
        }
    }
}

impl From<Lease> for w::Lease {
    fn from(from: Lease) -> Self {
        Self {
            key: Some(from.key.into()),
            mode: mode_number(from.mode),
            seq: from.seq,
        }
    }
}

impl TryFrom<w::Lease> for Lease {
    type Error = Invalid;
    fn try_from(from: w::Lease) -> Result<Self, Invalid> {
        Ok(Self {
            key: key(from.key)?,
            mode: mode(from.mode)?,
            seq: from.seq,
        })
    }
}

impl From<(t::Key, Mode)> for w::KeyMode {
    fn from((key, mode): (t::Key, Mode)) -> Self {
        Self {
            key: Some(key.into()),
            mode: mode_number(mode),
        }
    }
}

impl TryFrom<w::KeyMode> for (t::Key, Mode) {
    type Error = Invalid;
    fn try_from(from: w::KeyMode) -> Result<Self, Invalid> {
        Ok((key(from.key)?, mode(from.mode)?))
    }
}

impl From<(t::Ino, t::HeldLock)> for w::InoLock {
    fn from((ino, lock): (t::Ino, t::HeldLock)) -> Self {
        Self {
            ino: ino.0,
            lock: Some(lock.into()),
        }
    }
}

impl TryFrom<w::InoLock> for (t::Ino, t::HeldLock) {
    type Error = Invalid;
    fn try_from(from: w::InoLock) -> Result<Self, Invalid> {
        Ok((t::Ino(from.ino), need(from.lock, "no lock")?.try_into()?))
    }
}

impl From<(t::Group, t::Dotlock)> for w::GroupDot {
    fn from((group, dot): (t::Group, t::Dotlock)) -> Self {
        Self {
            group: Some(group.into()),
            dot: Some(dot.into()),
        }
    }
}

impl TryFrom<w::GroupDot> for (t::Group, t::Dotlock) {
    type Error = Invalid;
    fn try_from(from: w::GroupDot) -> Result<Self, Invalid> {
        Ok((group(from.group)?, need(from.dot, "no dotlock")?.try_into()?))
    }
}

impl From<(t::Group, t::Ino)> for w::GroupInode {
    fn from((group, ino): (t::Group, t::Ino)) -> Self {
        Self {
            group: Some(group.into()),
            ino: ino.0,
        }
    }
}

impl TryFrom<w::GroupInode> for (t::Group, t::Ino) {
    type Error = Invalid;
    fn try_from(from: w::GroupInode) -> Result<Self, Invalid> {
        Ok((group(from.group)?, t::Ino(from.ino)))
    }
}
