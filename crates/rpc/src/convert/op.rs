//! Changes: a mount's requests.
//!
//! Promises: extents pass by reference count.
//! Not here: whether extents are in order and short enough (`check`).

use super::{Invalid, base, list, need};
use crate::wire as w;
use base::{name, name_bytes, time};
use mboxfs_types::Ino;
use mboxfs_types::call::{Extent, Op, Request, SetAttr};
use w::request::Op as WireOp;

impl From<Extent> for w::Extent {
    fn from(from: Extent) -> Self {
        Self {
            offset: from.offset,
            data: from.data,
        }
    }
}

impl From<w::Extent> for Extent {
    fn from(from: w::Extent) -> Self {
        Self {
            offset: from.offset,
            data: from.data,
        }
    }
}

impl From<Request> for w::Request {
    fn from(from: Request) -> Self {
        Self {
            seq: from.seq,
            acked: from.acked,
            op: Some(op_to_wire(from.op)),
        }
    }
}

impl TryFrom<w::Request> for Request {
    type Error = Invalid;
    fn try_from(from: w::Request) -> Result<Self, Invalid> {
        Ok(Self {
            seq: from.seq,
            acked: from.acked,
            op: op_from_wire(need(from.op, "no operation")?)?,
        })
    }
}

// One line per operation: a table, not prose.
#[rustfmt::skip]
fn op_to_wire(op: Op) -> WireOp {
    match op {
        Op::Stage { ino, first, extents } =>
            WireOp::Stage(w::OpStage { ino: ino.0, first, extents: list(extents) }),
        Op::Commit { ino, staged, cut, extents, size, mtime, atime } =>
            WireOp::Commit(w::OpCommit {
                ino: ino.0, staged, cut, extents: list(extents), size,
                mtime: Some(mtime.into()), atime: atime.map(Into::into),
            }),
        Op::Create { dir, name, mode, uid, gid, excl } =>
            WireOp::Create(w::OpCreate { dir: dir.0, name: name_bytes(name), mode, uid, gid, excl }),
        Op::Mkdir { dir, name, mode, uid, gid } =>
            WireOp::Mkdir(w::OpMkdir { dir: dir.0, name: name_bytes(name), mode, uid, gid }),
        Op::Symlink { dir, name, target, uid, gid } =>
            WireOp::Symlink(w::OpSymlink { dir: dir.0, name: name_bytes(name), target: target.into(), uid, gid }),
        Op::Link { ino, dir, name } =>
            WireOp::Link(w::OpLink { ino: ino.0, dir: dir.0, name: name_bytes(name) }),
        Op::Unlink { dir, name } =>
            WireOp::Unlink(w::OpUnlink { dir: dir.0, name: name_bytes(name) }),
        Op::Rmdir { dir, name } =>
            WireOp::Rmdir(w::OpRmdir { dir: dir.0, name: name_bytes(name) }),
        Op::Rename { dir, name, to_dir, to_name, noreplace } =>
            WireOp::Rename(w::OpRename {
                dir: dir.0, name: name_bytes(name), to_dir: to_dir.0, to_name: name_bytes(to_name), noreplace,
            }),
        Op::Put { dir, name, mode, uid, gid, content } =>
            WireOp::Put(w::OpPut { dir: dir.0, name: name_bytes(name), mode, uid, gid, content }),
        Op::SetAttr { ino, set } =>
            WireOp::SetAttr(w::OpSetAttr {
                ino: ino.0, mode: set.mode, uid: set.uid, gid: set.gid,
                atime: set.atime.map(Into::into), mtime: set.mtime.map(Into::into),
            }),
        Op::SetXattr { ino, name, value, create, replace } =>
            WireOp::SetXattr(w::OpSetXattr { ino: ino.0, name: name.into(), value: value.into(), create, replace }),
        Op::RemoveXattr { ino, name } =>
            WireOp::RemoveXattr(w::OpRemoveXattr { ino: ino.0, name: name.into() }),
        Op::Free { ino } =>
            WireOp::Free(w::OpFree { ino: ino.0 }),
    }
}

#[rustfmt::skip]
fn op_from_wire(op: WireOp) -> Result<Op, Invalid> {
    Ok(match op {
        WireOp::Stage(w::OpStage { ino, first, extents }) =>
            Op::Stage { ino: Ino(ino), first, extents: list(extents) },
        WireOp::Commit(w::OpCommit { ino, staged, cut, extents, size, mtime, atime }) =>
            Op::Commit {
                ino: Ino(ino), staged, cut, extents: list(extents), size,
                mtime: time(mtime)?, atime: atime.map(Into::into),
            },
        WireOp::Create(w::OpCreate { dir, name: n, mode, uid, gid, excl }) =>
            Op::Create { dir: Ino(dir), name: name(&n)?, mode, uid, gid, excl },
        WireOp::Mkdir(w::OpMkdir { dir, name: n, mode, uid, gid }) =>
            Op::Mkdir { dir: Ino(dir), name: name(&n)?, mode, uid, gid },
        WireOp::Symlink(w::OpSymlink { dir, name: n, target, uid, gid }) =>
            Op::Symlink { dir: Ino(dir), name: name(&n)?, target: target.into(), uid, gid },
        WireOp::Link(w::OpLink { ino, dir, name: n }) =>
            Op::Link { ino: Ino(ino), dir: Ino(dir), name: name(&n)? },
        WireOp::Unlink(w::OpUnlink { dir, name: n }) =>
            Op::Unlink { dir: Ino(dir), name: name(&n)? },
        WireOp::Rmdir(w::OpRmdir { dir, name: n }) =>
            Op::Rmdir { dir: Ino(dir), name: name(&n)? },
        WireOp::Rename(w::OpRename { dir, name: n, to_dir, to_name, noreplace }) =>
            Op::Rename { dir: Ino(dir), name: name(&n)?, to_dir: Ino(to_dir), to_name: name(&to_name)?, noreplace },
        WireOp::Put(w::OpPut { dir, name: n, mode, uid, gid, content }) =>
            Op::Put { dir: Ino(dir), name: name(&n)?, mode, uid, gid, content },
        WireOp::SetAttr(w::OpSetAttr { ino, mode, uid, gid, atime, mtime }) =>
            Op::SetAttr {
                ino: Ino(ino),
                set: SetAttr { mode, uid, gid, atime: atime.map(Into::into), mtime: mtime.map(Into::into) },
            },
        WireOp::SetXattr(w::OpSetXattr { ino, name, value, create, replace }) =>
            Op::SetXattr { ino: Ino(ino), name: name.into(), value: value.into(), create, replace },
        WireOp::RemoveXattr(w::OpRemoveXattr { ino, name }) =>
            Op::RemoveXattr { ino: Ino(ino), name: name.into() },
        WireOp::Free(w::OpFree { ino }) =>
            Op::Free { ino: Ino(ino) },
    })
}

/// Bytes of payload.
pub(crate) fn weight(op: &Op) -> usize {
    match op {
        Op::Stage { extents, .. } | Op::Commit { extents, .. } => extents.iter().map(|extent| extent.data.len()).sum(),
        Op::Put { content, .. } => content.len(),
        Op::SetXattr { value, .. } => value.len(),
        Op::Symlink { target, .. } => target.len(),
        _ => 0,
    }
}
