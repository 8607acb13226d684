//! What every mail program does with a mailbox: names, flags, reading all of it.
//!
//! Not here: locks, and in which order they are taken.

use bytes::Bytes;
use mboxfs_client::input::{Call, Fh, OpenFlags};
use mboxfs_types::{Ino, LockKind, Name, Range, Timestamp, call::SetAttr};

/// Bytes of one read(2).
const READ: u32 = 32 << 10;

pub(crate) const APPEND: OpenFlags = OpenFlags {
    read: false,
    write: true,
    append: true,
    truncate: false,
    sync: false,
};
pub(crate) const READ_WRITE: OpenFlags = OpenFlags {
    read: true,
    write: true,
    append: false,
    truncate: false,
    sync: false,
};
pub(crate) const READ_ONLY: OpenFlags = OpenFlags {
    read: true,
    write: false,
    append: false,
    truncate: false,
    sync: false,
};

/// # Panics
/// Never: worlds have short names.
pub(crate) fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).expect("names of a world are names")
}

pub(crate) fn create(file: &str, mode: u32, flags: OpenFlags) -> Call {
    Call::Create {
        dir: Ino::ROOT,
        name: name(file),
        mode,
        flags,
        excl: true,
    }
}

pub(crate) fn look(file: &str) -> Call {
    Call::Lookup {
        dir: Ino::ROOT,
        name: name(file),
    }
}

pub(crate) fn unlink(file: &str) -> Call {
    Call::Unlink {
        dir: Ino::ROOT,
        name: name(file),
    }
}

pub(crate) const fn lock(ino: Ino, pid: u32, kind: Option<LockKind>, wait: bool) -> Call {
    Call::SetLock {
        ino,
        owner: pid as u64,
        range: Range::ALL,
        kind,
        wait,
    }
}

pub(crate) const fn flush(ino: Ino, fh: Fh, pid: u32) -> Call {
    Call::Flush {
        ino,
        fh,
        owner: pid as u64,
    }
}

pub(crate) fn truncate(ino: Ino, fh: Fh, size: u64) -> Call {
    Call::SetAttr {
        ino,
        fh: Some(fh),
        set: SetAttr::default(),
        size: Some(size),
        own: false,
    }
}

/// utimes(2).
pub(crate) fn touch(ino: Ino) -> Call {
    let atime = Some(Timestamp { secs: 1, nanos: 0 });
    Call::SetAttr {
        ino,
        fh: None,
        set: SetAttr {
            atime,
            ..SetAttr::default()
        },
        size: None,
        own: false,
    }
}

/// A file is read to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reading {
    pub(crate) data: Vec<u8>,
}

impl Reading {
    pub(crate) const fn call(&self, ino: Ino, fh: Fh) -> Call {
        Call::Read {
            ino,
            fh,
            offset: self.data.len() as u64,
            len: READ,
        }
    }

    /// True: that was the end.
    pub(crate) fn take(&mut self, bytes: &Bytes) -> bool {
        self.data.extend_from_slice(bytes);
        bytes.is_empty()
    }
}
