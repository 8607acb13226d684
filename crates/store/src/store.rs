//! The brick's directory: made, looked at, locked, opened.
//!
//! The mailboxes are plain files under their own names; everything else is in `.mboxfs/`: `superblock`, `lock`, `log/`,
//! `snapshot/`, `ino/` (every file once more under its inode number), `lost/` (what was in the way and not ours), `fork/`
//! (what files held at a fork), `rot` (what was found bad), `history/` (what happened, and messages that were removed),
//! `reserve` (room for a full disk).
//!
//! Promises: formatting is all or nothing and never removes anything that it did not make; one process has a directory
//! open at a time, for as long as any part of [`Opened`] lives.
//!
//! Not here: what is in the files of `.mboxfs/`.

use crate::{
    checkpoint::{Checkpointer, SNAPSHOT_DIR},
    error::StoreError,
    files::{FORK_DIR, Files, INO_DIR, LOST_DIR, mark_root},
    log::{Log, SEGMENT_BYTES},
    medium::{DirMedium, Medium, make_dir, open_dir, sync_all},
    recover::{Recovery, format_medium, recover_guarded},
    register::REGISTERS,
    segment::LOG_DIR,
    superblock::{SUPERBLOCK, SuperblockWriter},
};
use bytes::Bytes;
use mboxfs_types::{disk::Superblock, ids::BrickUuid, record::Record};
use rustix::{
    fd::OwnedFd,
    fs::{Access, AtFlags, Dir, FlockOperation, Mode, OFlags},
    io::Errno,
};
use std::{io, path::Path, sync::Arc};

/// Everything of ours in the brick's directory.
pub(crate) const HOME_DIR: &str = ".mboxfs";
const LOCK: &str = "lock";
/// mkfs makes it; a brick may be a filesystem's top directory.
const LOST_AND_FOUND: &[u8] = b"lost+found";

/// How to format and open.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Bytes of a log segment that is made from now on.
    pub segment_bytes: u64,
    /// Format: files that are not ours stay where they are, unseen by the volume.
    pub force: bool,
    /// Open: take no snapshot above this position.
    pub at_most: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            segment_bytes: SEGMENT_BYTES,
            force: false,
            at_most: u64::MAX,
        }
    }
}

/// What a directory is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inspection {
    /// Nothing in it: may be formatted.
    Empty,
    /// A brick.
    Brick,
    /// Formatting was cut off; if `used`, it is more than that.
    HalfMade {
        /// There is data in it.
        used: bool,
    },
    /// The directory of a witness.
    Witness,
    /// No brick, and not empty.
    Foreign {
        /// One of the names in it.
        example: String,
    },
}

/// An open brick: parts for three threads.
#[derive(Debug)]
pub struct Opened {
    /// `inc` is already that of this start, durably.
    pub superblock: Superblock,
    /// Encoded state of the newest usable checkpoint; empty for a new brick.
    pub snapshot: Bytes,
    /// All records after the checkpoint.
    pub records: Vec<Record>,
    /// First position that the log still has.
    pub log_start: u64,
    /// The log.
    pub log: Log,
    /// The files.
    pub files: Files,
    /// Does checkpoints.
    pub checkpointer: Checkpointer,
    /// Writes the superblock.
    pub superblock_writer: SuperblockWriter,
}

pub(crate) fn open_data(data: &Path) -> Result<OwnedFd, StoreError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(data, flags, Mode::empty()).map_err(|source| StoreError::Unreachable {
        path: data.to_path_buf(),
        source: source.into(),
    })
}

fn there(dir: &OwnedFd, name: &str) -> io::Result<bool> {
    match rustix::fs::accessat(dir, name, Access::EXISTS, AtFlags::empty()) {
        Ok(()) => Ok(true),
        Err(Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Looks at `data` without changing it.
///
/// Errors: it cannot be opened or read.
pub fn inspect(data: &Path) -> Result<Inspection, StoreError> {
    let root = open_data(data)?;
    look_at(&root).map_err(|source| StoreError::Io {
        verb: "looked at",
        source,
    })
}

fn look_at(root: &OwnedFd) -> io::Result<Inspection> {
    if there(root, HOME_DIR)? {
        let home = open_dir(root, HOME_DIR)?;
        if there(&home, SUPERBLOCK)? {
            return Ok(Inspection::Brick);
        }
        let mut used = has_entries(&home, SNAPSHOT_DIR)?;
        for bucket in 0..=u8::MAX {
            used = used || has_entries(&home, &format!("{INO_DIR}/{bucket:02x}"))?;
        }
        return Ok(Inspection::HalfMade { used });
    }
    if there(root, REGISTERS)? {
        return Ok(Inspection::Witness);
    }
    let mut example: Option<String> = None;
    for entry in Dir::read_from(root)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." && name != LOST_AND_FOUND {
            let name = String::from_utf8_lossy(&name).into_owned();
            example = Some(example.map_or_else(|| name.clone(), |other| other.min(name.clone())));
        }
    }
    Ok(example.map_or(Inspection::Empty, |example| Inspection::Foreign { example }))
}

fn has_entries(home: &OwnedFd, path: &str) -> io::Result<bool> {
    let dir = match open_dir(home, path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        dir => dir?,
    };
    for entry in Dir::read_from(&dir)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes `data`, an empty directory, a brick.
///
/// Errors: [`StoreError::AlreadyABrick`], [`StoreError::Foreign`], [`StoreError::Locked`], [`StoreError::NoXattr`], or
/// the filesystem's.
pub fn format(data: &Path, uuid: BrickUuid) -> Result<(), StoreError> {
    format_with(data, uuid, &Options::default())
}

/// As [`format`], with options.
///
/// Errors: as [`format`].
pub fn format_with(data: &Path, uuid: BrickUuid, options: &Options) -> Result<(), StoreError> {
    let path = || data.to_path_buf();
    match inspect(data)? {
        Inspection::Brick => return Err(StoreError::AlreadyABrick { path: path() }),
        Inspection::Witness => return Err(StoreError::Witness { path: path() }),
        Inspection::HalfMade { used: true } => {
            return Err(StoreError::HalfMade {
                path: path(),
                used: true,
            });
        }
        Inspection::Foreign { example } if !options.force => {
            return Err(StoreError::Foreign { path: path(), example });
        }
        _ => {}
    }
    let io = |source| StoreError::Io {
        verb: "formatted",
        source,
    };
    let root = open_data(data)?;
    if !mark_root(&root).map_err(io)? {
        return Err(StoreError::NoXattr { path: path() });
    }
    make_dir(&root, HOME_DIR).map_err(io)?;
    let home = Arc::new(open_dir(&root, HOME_DIR).map_err(io)?);
    let _guard = lock(&home, data)?;
    for dir in [LOG_DIR, SNAPSHOT_DIR, INO_DIR, LOST_DIR, FORK_DIR] {
        make_dir(&home, dir).map_err(io)?;
    }
    for bucket in 0..=u8::MAX {
        make_dir(&home, &format!("{INO_DIR}/{bucket:02x}")).map_err(io)?;
    }
    sync_all(open_dir(&home, INO_DIR).map_err(io)?).map_err(io)?;
    sync_all(&*home).map_err(io)?;
    sync_all(&root).map_err(io)?;
    format_medium(&DirMedium::new(home), uuid, options)
}

/// The files alone of the brick in `data`, whose log is on another medium: `sums` and `horizon` are what [`crate::recover`] found there.
/// For the simulator.
///
/// Errors: [`StoreError::Locked`], or the filesystem's.
pub fn open_files(data: &Path, sums: &[u8], horizon: u64) -> Result<Files, StoreError> {
    let io = |source| StoreError::Io { verb: "opened", source };
    let root = Arc::new(open_data(data)?);
    let home = Arc::new(open_dir(&root, HOME_DIR).map_err(io)?);
    let guard = Some(lock(&home, data)?);
    Files::open((root, home), guard, sums, horizon).map_err(io)
}

fn lock(home: &OwnedFd, data: &Path) -> Result<Arc<OwnedFd>, StoreError> {
    let io = |source: Errno| StoreError::Io {
        verb: "locked",
        source: source.into(),
    };
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(home, LOCK, flags, Mode::RUSR | Mode::WUSR).map_err(io)?;
    lock_dir(&file, data)?;
    Ok(Arc::new(file))
}

/// Takes a file or directory for this process alone, for as long as it is open.
pub(crate) fn lock_dir(file: &OwnedFd, data: &Path) -> Result<(), StoreError> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(StoreError::Locked {
            path: data.to_path_buf(),
        }),
        Err(error) => Err(StoreError::Io {
            verb: "locked",
            source: error.into(),
        }),
    }
}

impl Opened {
    /// Opens the brick in `data` for this process alone and counts the start.
    ///
    /// Errors: see [`StoreError`]; those that an operator can do something about have a hint.
    pub fn open(data: &Path) -> Result<Self, StoreError> {
        Self::open_with(data, &Options::default())
    }

    /// As [`Self::open`], with no snapshot above `n`.
    ///
    /// Errors: as [`Self::open`].
    pub fn open_at_most(data: &Path, n: u64) -> Result<Self, StoreError> {
        let options = Options {
            at_most: n,
            ..Options::default()
        };
        Self::open_with(data, &options)
    }

    /// As [`Self::open`], with options.
    ///
    /// Errors: as [`Self::open`].
    pub fn open_with(data: &Path, options: &Options) -> Result<Self, StoreError> {
        let path = data.to_path_buf();
        match inspect(data)? {
            Inspection::Brick => {}
            Inspection::HalfMade { used } => return Err(StoreError::HalfMade { path, used }),
            Inspection::Witness => return Err(StoreError::Witness { path }),
            Inspection::Empty | Inspection::Foreign { .. } => return Err(StoreError::NotABrick { path }),
        }
        let io = |source| StoreError::Io { verb: "opened", source };
        let root = Arc::new(open_data(data)?);
        let home = Arc::new(open_dir(&root, HOME_DIR).map_err(io)?);
        let guard = Some(lock(&home, data)?);
        let medium = DirMedium::new(Arc::clone(&home));
        medium.sync_dir("").map_err(io)?;
        let recovery = recover_guarded(&medium, options, &guard)?;
        let horizon = recovery.horizon();
        let Recovery {
            superblock,
            position: _,
            snapshot,
            sums,
            records,
            log,
            superblock_writer,
            checkpointer,
        } = recovery;
        let files = Files::open((root, home), guard, &sums, horizon).map_err(io)?;
        Ok(Self {
            superblock,
            snapshot,
            records,
            log_start: log.start(),
            log,
            files,
            checkpointer,
            superblock_writer,
        })
    }
}
