//! Kernel requests: decode, hand to the driver, encode the answer. Nothing else.
//!
//! Promises: every request is answered once. Not here: what the answer is (`client`).

use crate::{
    driver::Driver,
    process,
    reply::{attr, errno, kind, timestamp, ttl},
};
use bytes::Bytes;
use fuser::{
    Errno as K, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig, LockOwner, OpenFlags,
    RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyEmpty, ReplyEntry, ReplyLock, ReplyOpen,
    ReplyStatfs, ReplyWrite, ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use mboxfs_client::{
    input::{Call, Caller, Fh, OpenFlags as Flags},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind, Name, Range, call::SetAttr};
use std::{ffi::OsStr, os::unix::ffi::OsStrExt, time::SystemTime};

const O_ACCMODE: i32 = 3;
const O_WRONLY: i32 = 1;
const O_EXCL: i32 = 0o200;
const O_TRUNC: i32 = 0o1000;
const O_APPEND: i32 = 0o2000;
const O_DSYNC: i32 = 0o10000;
const F_RDLCK: i32 = 0;
const F_WRLCK: i32 = 1;
const F_UNLCK: i32 = 2;
const S_IFMT: u32 = 0o170_000;
const S_IFREG: u32 = 0o100_000;
/// `Caller::ppid` of a FLUSH by a process that a signal kills: agreed with the brain (`client::file_calls::KILLED`).
const KILLED: u32 = u32::MAX;
/// What answers, but not as a known answer should.
const ODD: K = K::ESTALE;

/// The filesystem as the FUSE library sees it.
pub(crate) struct Ops {
    driver: &'static Driver,
    own_pid: u32,
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

fn open_flags(dotlock: bool) -> FopenFlags {
    // A dotlock has no content worth a FLUSH; for any other file FLUSH is what releases POSIX locks at close.
    if dotlock {
        FopenFlags::FOPEN_DIRECT_IO | FopenFlags::FOPEN_NOFLUSH
    } else {
        FopenFlags::FOPEN_DIRECT_IO
    }
}

fn caller(req: &Request) -> (u32, u32, u32) {
    (req.uid(), req.gid(), req.pid())
}

impl Ops {
    pub(crate) fn new(driver: &'static Driver) -> Self {
        Self {
            driver,
            own_pid: std::process::id(),
        }
    }

    fn call(&self, req: &Request, call: Call, answer: impl FnOnce(Result<Answer, Errno>) + Send + 'static) {
        let (uid, gid, pid) = caller(req);
        self.driver
            .call(Caller { uid, gid, pid, ppid: 0 }, call, Box::new(answer));
    }

    /// With the parent, for calls that may make a dotlock.
    fn call_with_parent(&self, req: &Request, call: Call, answer: impl FnOnce(Result<Answer, Errno>) + Send + 'static) {
        let (uid, gid, pid) = caller(req);
        let ppid = process::parent(pid);
        self.driver.call(Caller { uid, gid, pid, ppid }, call, Box::new(answer));
    }
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

fn empty(reply: ReplyEmpty) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| match result {
        Ok(_) => reply.ok(),
        Err(e) => reply.error(errno(e)),
    }
}

fn entry(reply: ReplyEntry) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| match result {
        Ok(Answer::Entry {
            attr: a,
            entry_ttl,
            attr_ttl,
        }) => {
            reply.entry_with_ttls(&ttl(attr_ttl), &ttl(entry_ttl), &attr(&a), Generation(0));
        }
        Ok(_) => reply.error(ODD),
        Err(e) => reply.error(errno(e)),
    }
}

fn attributes(reply: ReplyAttr) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| match result {
        Ok(Answer::Attr { attr: a, ttl: t }) => reply.attr(&ttl(t), &attr(&a)),
        Ok(_) => reply.error(ODD),
        Err(e) => reply.error(errno(e)),
    }
}

fn data(reply: ReplyData) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| match result {
        Ok(Answer::Data(bytes)) => reply.data(&bytes),
        Ok(_) => reply.error(ODD),
        Err(e) => reply.error(errno(e)),
    }
}

fn opened(reply: ReplyOpen, dir: bool) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| match result {
        Ok(Answer::Opened { fh, dotlock }) => {
            reply.opened(
                FileHandle(fh.0),
                if dir { FopenFlags::empty() } else { open_flags(dotlock) },
            );
        }
        Ok(_) => reply.error(ODD),
        Err(e) => reply.error(errno(e)),
    }
}

/// getxattr(2), listxattr(2): size 0 asks for the length; too little room is ERANGE.
fn value(reply: ReplyXattr, size: u32) -> impl FnOnce(Result<Answer, Errno>) + Send {
    move |result| {
        let bytes = match result {
            Ok(Answer::Data(bytes)) => bytes.to_vec(),
            Ok(Answer::Names(names)) => names.iter().flat_map(|n| n.iter().copied().chain([0])).collect(),
            Ok(_) => return reply.error(ODD),
            Err(e) => return reply.error(errno(e)),
        };
        match u32::try_from(bytes.len()) {
            Ok(len) if size == 0 => reply.size(len),
            Ok(len) if len <= size => reply.data(&bytes),
            _ => reply.error(K::ERANGE),
        }
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
    // The kernel says OFFSET_MAX for "to the end, however far it grows".
    Range {
        start,
        end: if end >= i64::MAX as u64 {
            u64::MAX
        } else {
            end.max(start)
        },
    }
}

impl Filesystem for Ops {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let wanted = [
            InitFlags::FUSE_POSIX_LOCKS,
            InitFlags::FUSE_FLOCK_LOCKS,
            InitFlags::FUSE_BIG_WRITES,
            InitFlags::FUSE_ASYNC_READ,
            InitFlags::FUSE_PARALLEL_DIROPS,
        ];
        for capability in wanted {
            // Without one of them the kernel does without: locks would be of one node only, so those must be there.
            let missing = config.add_capabilities(capability).is_err();
            if missing && (capability == InitFlags::FUSE_POSIX_LOCKS || capability == InitFlags::FUSE_FLOCK_LOCKS) {
                return Err(std::io::Error::other(
                    "the kernel cannot pass locks to a FUSE filesystem",
                ));
            }
        }
        let _ = config.set_max_write(1 << 20);
        Ok(())
    }

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let dir = Ino(parent.0);
        let call = match name.as_bytes() {
            b"." => return reply.error(K::EINVAL),
            b".." => Call::LookupParent { ino: dir },
            _ => Call::Lookup {
                dir,
                name: name!(name, reply),
            },
        };
        self.call(req, call, entry(reply));
    }

    fn forget(&self, _req: &Request, ino: INodeNo, count: u64) {
        self.driver.tell(Call::Forget { ino: Ino(ino.0), count });
    }

    fn getattr(&self, req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.call(req, Call::GetAttr { ino: Ino(ino.0) }, attributes(reply));
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
        let set = SetAttr {
            mode,
            uid,
            gid,
            atime: atime.map(time),
            mtime: mtime.map(time),
        };
        let own = req.pid() == self.own_pid;
        // A truncate sends the times along; the brain stamps them itself.
        let set = if size.is_some() { SetAttr::default() } else { set };
        let call = Call::SetAttr {
            ino: Ino(ino.0),
            fh: fh.map(|f| Fh(f.0)),
            set,
            size,
            own,
        };
        self.call(req, call, attributes(reply));
    }

    fn readlink(&self, req: &Request, ino: INodeNo, reply: ReplyData) {
        self.call(req, Call::ReadLink { ino: Ino(ino.0) }, data(reply));
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
            return reply.error(K::EPERM); // pipes, sockets and devices have no place in a mail spool
        }
        let call = Call::Mknod {
            dir: Ino(parent.0),
            name: name!(name, reply),
            mode: mode & 0o7777,
        };
        self.call_with_parent(req, call, entry(reply));
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        let call = Call::Mkdir {
            dir: Ino(parent.0),
            name: name!(name, reply),
            mode: mode & 0o7777,
        };
        self.call(req, call, entry(reply));
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::Unlink {
            dir: Ino(parent.0),
            name: name!(name, reply),
        };
        self.call(req, call, empty(reply));
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let call = Call::Rmdir {
            dir: Ino(parent.0),
            name: name!(name, reply),
        };
        self.call(req, call, empty(reply));
    }

    fn symlink(&self, req: &Request, parent: INodeNo, link_name: &OsStr, target: &std::path::Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes().to_vec();
        let call = Call::Symlink {
            dir: Ino(parent.0),
            name: name!(link_name, reply),
            target,
        };
        self.call(req, call, entry(reply));
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
        let noreplace = flags.contains(RenameFlags::RENAME_NOREPLACE);
        if !(flags - RenameFlags::RENAME_NOREPLACE).is_empty() {
            return reply.error(K::EINVAL);
        }
        let call = Call::Rename {
            dir: Ino(parent.0),
            name: name!(name, reply),
            to_dir: Ino(newparent.0),
            to_name: name!(newname, reply),
            noreplace,
        };
        self.call(req, call, empty(reply));
    }

    fn link(&self, req: &Request, ino: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let call = Call::Link {
            ino: Ino(ino.0),
            dir: Ino(newparent.0),
            name: name!(newname, reply),
        };
        self.call_with_parent(req, call, entry(reply));
    }

    fn open(&self, req: &Request, ino: INodeNo, flags_: OpenFlags, reply: ReplyOpen) {
        let call = Call::Open {
            ino: Ino(ino.0),
            flags: flags(flags_.0),
        };
        self.call(req, call, opened(reply, false));
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
        self.call(req, call, data(reply));
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
        self.call(req, call, move |result| match result {
            Ok(Answer::Written(n)) => reply.written(n),
            Ok(_) => reply.error(ODD),
            Err(e) => reply.error(errno(e)),
        });
    }

    fn flush(&self, req: &Request, ino: INodeNo, fh: FileHandle, lock_owner: LockOwner, reply: ReplyEmpty) {
        let (uid, gid, pid) = caller(req);
        let killed = self.driver.has_staged(Ino(ino.0)) && process::killed(pid);
        let caller = Caller {
            uid,
            gid,
            pid,
            ppid: if killed { KILLED } else { 0 },
        };
        let call = Call::Flush {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            owner: lock_owner.0,
        };
        self.driver.call(caller, call, Box::new(empty(reply)));
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
        let call = Call::Release {
            ino: Ino(ino.0),
            fh: Fh(fh.0),
            flock: lock_owner.map(|o| o.0),
        };
        self.call(req, call, empty(reply));
    }

    fn fsync(&self, req: &Request, ino: INodeNo, fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.call(
            req,
            Call::Fsync {
                ino: Ino(ino.0),
                fh: Fh(fh.0),
            },
            empty(reply),
        );
    }

    fn opendir(&self, req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.call(req, Call::OpenDir { ino: Ino(ino.0) }, opened(reply, true));
    }

    fn readdir(&self, req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        self.call(
            req,
            Call::ReadDir {
                ino: Ino(ino.0),
                fh: Fh(fh.0),
                offset,
            },
            move |result| match result {
                Ok(Answer::Entries(entries)) => {
                    for e in entries {
                        if reply.add(INodeNo(e.ino.0), e.offset, kind(e.kind), OsStr::from_bytes(&e.name)) {
                            break;
                        }
                    }
                    reply.ok();
                }
                Ok(_) => reply.error(ODD),
                Err(e) => reply.error(errno(e)),
            },
        );
    }

    fn releasedir(&self, req: &Request, _ino: INodeNo, fh: FileHandle, _flags: OpenFlags, reply: ReplyEmpty) {
        self.call(req, Call::ReleaseDir { fh: Fh(fh.0) }, empty(reply));
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok(); // changes of names are durable when they are answered
    }

    fn statfs(&self, req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        self.call(req, Call::StatFs, move |result| match result {
            Ok(Answer::Space(s)) => {
                let free = s.free / 4096;
                reply.statfs(s.total / 4096, free, free, s.inodes, s.inodes_free, 4096, 255, 4096);
            }
            Ok(_) => reply.error(ODD),
            Err(e) => reply.error(errno(e)),
        });
    }

    fn setxattr(
        &self,
        req: &Request,
        ino: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        let name = name.as_bytes().to_vec();
        if !name.starts_with(b"user.") {
            return reply.error(K::EOPNOTSUPP);
        }
        let (create, replace) = (flags & 1 != 0, flags & 2 != 0);
        let call = Call::SetXattr {
            ino: Ino(ino.0),
            name,
            value: value.to_vec(),
            create,
            replace,
        };
        self.call(req, call, empty(reply));
    }

    fn getxattr(&self, req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        // security.capability is asked for before writes. ENOSYS would end the question, and all other attributes with it.
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(K::ENODATA);
        }
        let call = Call::GetXattr {
            ino: Ino(ino.0),
            name: name.as_bytes().to_vec(),
        };
        self.call(req, call, value(reply, size));
    }

    fn listxattr(&self, req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        self.call(req, Call::ListXattr { ino: Ino(ino.0) }, value(reply, size));
    }

    fn removexattr(&self, req: &Request, ino: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        if !name.as_bytes().starts_with(b"user.") {
            return reply.error(K::EOPNOTSUPP);
        }
        let call = Call::RemoveXattr {
            ino: Ino(ino.0),
            name: name.as_bytes().to_vec(),
        };
        self.call(req, call, empty(reply));
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
        let call = Call::Create {
            dir: Ino(parent.0),
            name: name!(name, reply),
            mode: mode & 0o7777,
            flags: flags(bits),
            excl: bits & O_EXCL != 0,
        };
        self.call_with_parent(req, call, move |result| match result {
            Ok(Answer::Created {
                attr: a,
                fh,
                dotlock,
                attr_ttl,
                ..
            }) => {
                reply.created(
                    &ttl(attr_ttl),
                    &attr(&a),
                    Generation(0),
                    FileHandle(fh.0),
                    open_flags(dotlock),
                );
            }
            Ok(_) => reply.error(ODD),
            Err(e) => reply.error(errno(e)),
        });
    }

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
        self.call(req, call, move |result| match result {
            Ok(Answer::Lock(None)) => reply.locked(start, end, F_UNLCK, 0),
            Ok(Answer::Lock(Some(held))) => {
                let typ = if held.kind == LockKind::Shared {
                    F_RDLCK
                } else {
                    F_WRLCK
                };
                reply.locked(held.range.start, held.range.end.min(i64::MAX as u64), typ, held.pid);
            }
            Ok(_) => reply.error(ODD),
            Err(e) => reply.error(errno(e)),
        });
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
        self.call(req, call, empty(reply));
    }
}
