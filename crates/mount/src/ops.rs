//! Kernel requests: decode, hand to the driver. Nothing else.
//!
//! D1  Every request is answered once, by `reply`.
//! D2  What could block is never done here: this is the event thread (`driver` J1). /proc is read for dotlocks, as
//!     long as somebody has lost one, and for closes with staged bytes, only.
//!
//! Not here: what the answer is (`client`), how it is written (`reply`).

use crate::{
    driver::Driver,
    handover,
    lookout::Lookout,
    process,
    reply::{F_RDLCK, F_UNLCK, F_WRLCK, NOT_OFFERED, OFFSET_MAX, Reply, To, errno, timestamp, xattr},
};
use bytes::Bytes;
use fuser::{
    CopyFileRangeFlags, FileHandle, Filesystem, INodeNo, InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags,
    PollFlags, PollNotifier, RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyIoctl, ReplyLock, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite, ReplyXattr, Request,
    TimeOrNow, WriteFlags,
};
use mboxfs_client::input::{Call, CallId, Caller, Fh, Input, KILLED, OpenFlags as Flags};
use mboxfs_types::{Errno, Ino, LockKind, Name, Range, call::SetAttr, limits};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Path, time::SystemTime};

const O_ACCMODE: i32 = 3;
const O_WRONLY: i32 = 1;
const O_EXCL: i32 = 0o200;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
/// `O_SYNC` has this bit too.
const O_DSYNC: i32 = 0o10000;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
const XATTR_CREATE: i32 = 1;
const XATTR_REPLACE: i32 = 2;
/// Attribute of every file: how often the kernel asked for what since the mount began. Not listed, not counted.
const REQUESTS: &[u8] = b"user.mboxfs.requests";
/// Largest WRITE and READ: the brain passes either on in one piece.
const IO_BYTES_MAX: u32 = limits::EXTENT_BYTES_MAX as u32;

/// The filesystem as the FUSE library sees it.
pub(crate) struct Ops {
    driver: &'static Driver,
    lookout: Lookout,
}

impl Ops {
    pub(crate) fn new(driver: &'static Driver) -> Self {
        Self {
            driver,
            lookout: Lookout::new(),
        }
    }

    fn call(&self, req: &Request, call: Call, to: To) {
        self.call_as(req, self.driver.has_lost_dots(), call, to);
    }

    /// `known`: as the thread's process, and with that one's parent.
    fn call_as(&self, req: &Request, known: bool, call: Call, to: To) {
        let family = if known { process::family(req.pid()) } else { None };
        let (pid, ppid) = family.unwrap_or_else(|| (req.pid(), 0));
        self.call_by(req, pid, ppid, call, to);
    }

    fn call_by(&self, req: &Request, pid: u32, ppid: u32, call: Call, to: To) {
        let caller = Caller {
            uid: req.uid(),
            gid: req.gid(),
            pid,
            thread: req.pid(),
            ppid,
        };
        if self.driver.call(id_of(req), caller, call, Reply::new(to)) {
            self.lookout.wait(rustix::stdio::stdin());
        }
    }

    /// A call on `name` for which it matters, if that is a dotlock, who calls.
    fn call_on_dot(&self, req: &Request, name: &Name, call: Call, to: To) {
        self.call_as(req, name.is_dotlock(), call, to);
    }
}

fn id_of(req: &Request) -> CallId {
    CallId(handover::number(req.unique().0))
}

fn flags(bits: i32) -> Flags {
    Flags {
        read: bits & O_ACCMODE != O_WRONLY,
        write: bits & O_ACCMODE != 0,
        append: bits & O_APPEND != 0,
        truncate: bits & O_TRUNC != 0,
        sync: bits & O_DSYNC != 0,
    }
}

const fn lock_kind(typ: i32) -> Option<LockKind> {
    match typ {
        F_RDLCK => Some(LockKind::Shared),
        F_WRLCK => Some(LockKind::Exclusive),
        _ => None,
    }
}

fn range(start: u64, end: u64) -> Range {
    Range {
        start,
        end: if end >= OFFSET_MAX { u64::MAX } else { end.max(start) },
    }
}

/// Only `user.` attributes are kept. ENOSYS would end all questions of the kernel, those for `user.` included.
fn is_kept(name: &OsStr) -> bool {
    name.as_bytes().starts_with(b"user.")
}

/// The name, or the error that it deserves.
macro_rules! name {
    ($name:expr, $reply:expr) => {
        match Name::new($name.as_bytes()) {
            Ok(name) => name,
            Err(e) => return $reply.error(errno(e)),
        }
    };
}

impl Filesystem for Ops {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        // Without these, locks would exclude on one node only: better no mount.
        if config
            .add_capabilities(InitFlags::FUSE_POSIX_LOCKS | InitFlags::FUSE_FLOCK_LOCKS)
            .is_err()
        {
            return Err(std::io::Error::other(
                "the kernel cannot pass locks to a FUSE filesystem",
            ));
        }
        // Nothing that fuser 0.18.0 takes but cannot do (TECH.md 1.1), and no writeback cache: the kernel would be the
        // authority on size and mtime. ASYNC_READ, BIG_WRITES and MAX_PAGES are asked for by the library.
        let _ = config.add_capabilities(InitFlags::FUSE_PARALLEL_DIROPS);
        let _ = config.set_max_write(IO_BYTES_MAX);
        Ok(())
    }

    // ---- names

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let dir = Ino(parent.0);
        // `.` and `..` are sent for NFS export only, which is not asked for.
        match name.as_bytes() {
            b"." => reply.error(errno(Errno::ESTALE)),
            b".." => self.call(req, Call::LookupParent { ino: dir }, To::Entry(reply)),
            _ => {
                let name = name!(name, reply);
                let call = Call::Lookup {
                    dir,
                    name: name.clone(),
                };
                // Whose a dotlock is costs looks at /proc: only where one is in somebody else's way.
                let maker = name.is_dotlock().then(|| self.driver.dot_maker(dir, &name)).flatten();
                match maker.filter(|maker| *maker != req.pid()) {
                    None => self.call(req, call, To::Entry(reply)),
                    Some(maker) if process::is_thread_of(req.pid(), maker) => {
                        self.call_by(req, maker, 0, call, To::Entry(reply));
                    }
                    Some(maker) => {
                        if process::started(maker).is_none() {
                            self.driver.input(Input::Gone { pid: maker });
                        }
                        self.call_on_dot(req, &name, call, To::Entry(reply));
                    }
                }
            }
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        self.driver.forget(std::iter::once((Ino(ino.0), count)));
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        _rdev: u32,
        reply: ReplyEntry,
    ) {
        if mode & S_IFMT != S_IFREG && mode & S_IFMT != 0 {
            return reply.error(errno(Errno::EPERM)); // pipes, sockets and devices have no place in a mail spool
        }
        let name = name!(name, reply);
        let call = Call::Mknod {
            dir: Ino(parent.0),
            name: name.clone(),
            mode: mode & 0o7777,
        };
        self.call_on_dot(req, &name, call, To::Entry(reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let call = Call::Mkdir {
            dir: Ino(parent.0),
            name: name!(name, reply),
            mode: mode & 0o7777,
        };
        self.call(req, call, To::Entry(reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::Unlink {
            dir: Ino(parent.0),
            name: name!(name, reply),
        };
        self.call(req, call, To::Empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::Rmdir {
            dir: Ino(parent.0),
            name: name!(name, reply),
        };
        self.call(req, call, To::Empty(reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes().to_vec();
        let call = Call::Symlink {
            dir: Ino(parent.0),
            name: name!(name, reply),
            target,
        };
        self.call(req, call, To::Entry(reply));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.call(req, Call::ReadLink { ino: Ino(ino.0) }, To::Data(reply));
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(errno(Errno::EINVAL));
        }
        let call = Call::Rename {
            dir: Ino(parent.0),
            name: name!(name, reply),
            to_dir: Ino(newparent.0),
            to_name: name!(newname, reply),
            noreplace: flags.contains(RenameFlags::RENAME_NOREPLACE),
        };
        self.call(req, call, To::Empty(reply));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let name = name!(newname, reply);
        let call = Call::Link {
            ino: Ino(ino.0),
            dir: Ino(newparent.0),
            name: name.clone(),
        };
        self.call_on_dot(req, &name, call, To::Entry(reply));
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        bits: i32,
        reply: ReplyCreate,
    ) {
        let name = name!(name, reply);
        let call = Call::Create {
            dir: Ino(parent.0),
            name: name.clone(),
            mode: mode & 0o7777,
            flags: flags(bits),
            excl: bits & O_EXCL != 0,
        };
        self.call_on_dot(req, &name, call, To::Create(reply));
    }

    // ---- directories

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.call(req, Call::OpenDir { ino: Ino(ino.0) }, To::OpenDir(reply));
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, reply: ReplyDirectory) {
        self.call(
            req,
            Call::ReadDir {
                ino: Ino(ino.0),
                fh: Fh(fh.0),
                offset,
            },
            To::Dir(reply),
        );
    }

    fn releasedir(&self, req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.call(req, Call::ReleaseDir { fh: Fh(fh.0) }, To::Empty(reply));
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok(); // changes of names are durable when they are answered
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.call(req, Call::StatFs, To::Statfs(reply));
    }

    // ---- attributes

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.call(req, Call::GetAttr { ino: Ino(ino.0) }, To::Attr(reply));
    }

    fn setattr(
        &self,
        req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<fuser::BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let now = SystemTime::now();
        let time = |t: TimeOrNow| {
            timestamp(match t {
                TimeOrNow::SpecificTime(t) => t,
                TimeOrNow::Now => now,
            })
        };
        let mode = mode.map(|m| m & 0o7777);
        let set = SetAttr {
            mode,
            uid,
            gid,
            atime: atime.map(time),
            mtime: mtime.map(time),
        };
        // A truncate sends the times along; the brain stamps them itself.
        let set = if size.is_some() { SetAttr::default() } else { set };
        let own = self.driver.is_poker(req.pid());
        let call = Call::SetAttr {
            ino: Ino(ino.0),
            fh: fh.map(|f| Fh(f.0)),
            set,
            size,
            own,
        };
        self.call(req, call, To::Attr(reply));
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _at: u32,
        reply: ReplyEmpty,
    ) {
        if !is_kept(name) {
            return reply.error(errno(Errno::EOPNOTSUPP));
        }
        let call = Call::SetXattr {
            ino: Ino(ino.0),
            name: name.as_bytes().to_vec(),
            value: value.to_vec(),
            create: flags & XATTR_CREATE != 0,
            replace: flags & XATTR_REPLACE != 0,
        };
        self.call(req, call, To::Empty(reply));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        if name.as_bytes() == REQUESTS {
            return xattr(reply, size, self.driver.counts().as_bytes());
        }
        if !is_kept(name) {
            self.driver.count("getxattr");
            return reply.error(errno(Errno::ENODATA)); // security.capability, before each write
        }
        let call = Call::GetXattr {
            ino: Ino(ino.0),
            name: name.as_bytes().to_vec(),
        };
        self.call(req, call, To::Xattr(reply, size));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.call(req, Call::ListXattr { ino: Ino(ino.0) }, To::Xattr(reply, size));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !is_kept(name) {
            return reply.error(errno(Errno::ENODATA));
        }
        let call = Call::RemoveXattr {
            ino: Ino(ino.0),
            name: name.as_bytes().to_vec(),
        };
        self.call(req, call, To::Empty(reply));
    }

    // ---- files

    fn open(&self, req: &Request, ino: INodeNo, bits: OpenFlags, reply: ReplyOpen) {
        self.call(
            req,
            Call::Open {
                ino: Ino(ino.0),
                flags: flags(bits.0),
            },
            To::Open(reply),
        );
    }

    fn read(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let call = Call::Read {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            offset,
            len: size,
        };
        self.call(req, call, To::Data(reply));
    }

    fn write(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let call = Call::Write {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            offset,
            data: Bytes::copy_from_slice(data),
        };
        self.call(req, call, To::Write(reply));
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        let killed = self.driver.end_matters(Ino(ino.0), req.pid()) && process::killed(req.pid());
        let ppid = if killed { KILLED } else { 0 };
        let call = Call::Flush {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            owner: lock_owner.0,
        };
        self.call_by(req, req.pid(), ppid, call, To::Empty(reply));
    }

    fn release(
        &self,
        req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        // The library gives the owner only if the kernel says that flock locks are to be released.
        let call = Call::Release {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            flock: lock_owner.map(|o| o.0),
        };
        self.call(req, call, To::Empty(reply));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.call(
            req,
            Call::Fsync {
                ino: Ino(ino.0),
                fh: Fh(fh.0),
            },
            To::Empty(reply),
        );
    }

    // ---- locks

    fn getlk(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        _pid: u32,
        reply: ReplyLock,
    ) {
        let Some(kind) = lock_kind(typ) else {
            return reply.locked(start, end, F_UNLCK, 0);
        };
        let call = Call::GetLock {
            ino: Ino(ino.0),
            owner: lock_owner.0,
            range: range(start, end),
            kind,
        };
        self.call(req, call, To::Lock(reply, start, end));
    }

    fn setlk(
        &self,
        req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        lock_owner: LockOwner,
        start: u64,
        end: u64,
        typ: i32,
        _pid: u32,
        sleep: bool,
        reply: ReplyEmpty,
    ) {
        let call = Call::SetLock {
            ino: Ino(ino.0),
            owner: lock_owner.0,
            range: range(start, end),
            kind: lock_kind(typ),
            wait: sleep,
        };
        self.call(req, call, To::Empty(reply));
    }

    // ---- not offered: said without the library's warning in the log

    fn fallocate(&self, _: &Request, _: INodeNo, _: FileHandle, _: u64, _: u64, _: i32, reply: ReplyEmpty) {
        reply.error(NOT_OFFERED); // posix_fallocate(3) then writes zeros
    }

    fn lseek(&self, _: &Request, _: INodeNo, _: FileHandle, _: i64, _: i32, reply: ReplyLseek) {
        reply.error(NOT_OFFERED);
    }

    fn copy_file_range(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: INodeNo,
        _: FileHandle,
        _: u64,
        _: u64,
        _: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        reply.error(NOT_OFFERED);
    }

    fn bmap(&self, _: &Request, _: INodeNo, _: u32, _: u64, reply: ReplyBmap) {
        reply.error(NOT_OFFERED);
    }

    fn ioctl(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        _: u32,
        _: &[u8],
        _: u32,
        reply: ReplyIoctl,
    ) {
        reply.error(NOT_OFFERED);
    }

    fn poll(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        _: PollNotifier,
        _: fuser::PollEvents,
        _: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(NOT_OFFERED);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_as_the_kernel_says_them() {
        assert_eq!(range(0, OFFSET_MAX), Range::ALL);
        assert_eq!(range(0, u64::MAX), Range::ALL);
        assert_eq!(
            range(100, OFFSET_MAX),
            Range {
                start: 100,
                end: u64::MAX
            }
        );
        assert_eq!(range(5, 9), Range { start: 5, end: 9 });
        assert_eq!(range(9, 5), Range { start: 9, end: 9 }, "never empty");
    }

    #[test]
    fn open_flags_as_open_says_them() {
        // O_WRONLY|O_APPEND|O_SYNC, O_RDWR|O_TRUNC, O_RDONLY.
        let of = |bits| flags(bits);
        let append = Flags {
            write: true,
            append: true,
            sync: true,
            ..Flags::default()
        };
        assert_eq!(of(1 | 0o2000 | 0o4_010_000), append);
        assert_eq!(
            of(2 | 0o1000),
            Flags {
                read: true,
                write: true,
                truncate: true,
                ..Flags::default()
            }
        );
        assert_eq!(
            of(0),
            Flags {
                read: true,
                ..Flags::default()
            }
        );
    }

    #[test]
    fn kinds_of_locks() {
        assert_eq!(lock_kind(0), Some(LockKind::Shared));
        assert_eq!(lock_kind(1), Some(LockKind::Exclusive));
        assert_eq!(lock_kind(2), None);
    }

    #[test]
    fn only_user_attributes_reach_the_brain() {
        assert!(is_kept(OsStr::new("user.x")));
        for other in ["security.capability", "system.posix_acl_access", "trusted.x", "user"] {
            assert!(!is_kept(OsStr::new(other)));
        }
    }
}
