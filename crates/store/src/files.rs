//! The mailbox files of a brick: effects applied, looks answered.
//!
//! F1  Every inode that is not a directory lives at `.mboxfs/ino/<low byte>/<ino>`; its names in the volume are hard
//!     links to it. So no change of names can lose content: only `Free` can.
//! F2  A name that stands in the way and is not ours (the last link to its inode, a directory without our mark) is moved
//!     to `.mboxfs/lost/`, never removed.
//! F3  Effects are idempotent over any range (disk D2): they may be given again, from any point on, to files that have
//!     seen the future, in whole or in part. An effect on an inode that is no more is skipped: what freed it follows.
//! F4  Paths are made of inode numbers and of names in open directories; no symbolic link is ever followed.
//!
//! Not here: syncing (`medium`, through `touched`), directories (`dirs`), inodes (`inode`), names (`names`), what belongs to
//! a fork (`kept`), which messages there are (`content`), what is told to the history (`noted`).

mod at_rest;
mod content;
mod dirs;
mod foreign;
mod inode;
mod kept;
mod names;
mod noted;

use crate::{
    at_rest::AtRest,
    history::{History, Past, Retention},
    log::Guard,
    medium::{DirMedium, is_full, open_dir},
    reserve,
    touched::{DIRS_MAX, SYNC_EACH_MAX, Touched},
};
pub use at_rest::Scrub;
pub use content::{Content, Leisure};
use dirs::Spot;
pub(crate) use kept::FORK_DIR;
use kept::{Kept, Key};
use mboxfs_types::{
    Errno, Ino, Kind, Name, Tag,
    call::Space,
    codec,
    disk::{Effect, Look, Seen},
    history::Note,
    limits,
};
use rustix::{fd::OwnedFd, fs::XattrFlags};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::{Arc, atomic::AtomicBool},
};

/// Directory of all inodes, in `.mboxfs`.
pub(crate) const INO_DIR: &str = "ino";
/// Directory of what was in the way, in `.mboxfs`.
pub(crate) const LOST_DIR: &str = "lost";
/// Extended attribute with the inode number and the tag of the last write; users see none that begins like this.
const MARK: &[u8] = b"user.mboxfs";

/// The files.
pub struct Files {
    root: Arc<OwnedFd>,
    /// `.mboxfs`.
    home: Arc<OwnedFd>,
    /// Where each directory is.
    dirs: BTreeMap<Ino, Spot>,
    /// Parked directories that belong elsewhere as soon as that can be (see `dirs`).
    wishes: BTreeMap<Ino, (Ino, Name)>,
    touched: BTreeSet<Ino>,
    touched_dirs: BTreeSet<Ino>,
    /// Directories of ours in `.mboxfs` with changed names.
    touched_home: BTreeSet<&'static str>,
    buckets: BTreeSet<u8>,
    missing: BTreeSet<Ino>,
    /// What files held at the fork.
    kept: Kept,
    /// What they should hold.
    at_rest: AtRest,
    /// There is a directory for that, durably.
    has_fork_dir: bool,
    /// What happened, and what was removed.
    history: History,
    /// What the effects that follow do, unless that is in the history already.
    note: Option<Note>,
    /// It is.
    is_known: bool,
    /// Position of the record whose effects are done, if a write tells it.
    applying: Option<u64>,
    /// The device failed in a look.
    trouble: Option<io::Error>,
    /// This process may give files away.
    may_chown: bool,
    _guard: Guard,
}

impl fmt::Debug for Files {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Files")
            .field("dirs", &self.dirs.len())
            .finish_non_exhaustive()
    }
}

/// Where an inode lives, from `.mboxfs`.
pub(crate) fn ino_path(ino: Ino) -> String {
    format!("{INO_DIR}/{:02x}/{ino}", bucket(ino))
}

const fn bucket(ino: Ino) -> u8 {
    ino.0.to_le_bytes()[0]
}

/// Puts the root's mark on the data directory. False: the filesystem has no user attributes.
pub(crate) fn mark_root(root: &OwnedFd) -> io::Result<bool> {
    match rustix::fs::fsetxattr(root, MARK, &mark(Ino::ROOT, Tag::default()), XattrFlags::empty()) {
        Err(rustix::io::Errno::OPNOTSUPP) => Ok(false),
        result => result.map(|()| true).map_err(Into::into),
    }
}

fn mark(ino: Ino, stamp: Tag) -> Vec<u8> {
    codec::encode(&(ino, stamp))
}

impl Files {
    /// Finds the directories of the volume. `root`: the data directory, `home`: its `.mboxfs`; `sums`: of the snapshot;
    /// `horizon`: end of the log (sums C3).
    pub(crate) fn open(
        (root, home): (Arc<OwnedFd>, Arc<OwnedFd>),
        guard: Guard,
        sums: &[u8],
        horizon: u64,
    ) -> io::Result<Self> {
        let medium = DirMedium::new(Arc::clone(&home));
        let kept = Kept::new(medium.clone());
        let at_rest = AtRest::open(medium.clone(), sums, horizon)?;
        let history = History::open(medium, horizon)?;
        let mut files = Self {
            root,
            home,
            dirs: BTreeMap::new(),
            wishes: BTreeMap::new(),
            touched: BTreeSet::new(),
            touched_dirs: BTreeSet::new(),
            touched_home: BTreeSet::new(),
            buckets: BTreeSet::new(),
            missing: BTreeSet::new(),
            kept,
            at_rest,
            has_fork_dir: false,
            history,
            note: None,
            is_known: false,
            applying: None,
            trouble: None,
            may_chown: rustix::process::geteuid().is_root(),
            _guard: guard,
        };
        files.crawl()?;
        files.retain(Retention::of_disk(files.space()?.total));
        Ok(files)
    }

    /// How much of the history is kept from now on.
    pub fn retain(&mut self, retention: Retention) {
        self.history.retain(retention);
    }

    /// Bytes of the brick's disk.
    ///
    /// Errors: the filesystem's.
    pub fn disk_bytes(&self) -> io::Result<u64> {
        Ok(self.space()?.total)
    }

    /// The history so far, for another thread.
    #[must_use]
    pub fn past(&self) -> Past {
        self.history.past()
    }

    /// Does all of `effects`, in order. Durable at the next checkpoint (`take_touched`).
    ///
    /// Errors: the filesystem's, with the effect; the rest was not done.
    pub fn apply(&mut self, effects: &[Effect]) -> io::Result<()> {
        (self.note, self.is_known) = (None, false);
        self.applying = effects.iter().find_map(|effect| match effect {
            Effect::Write { stamp, .. } => Some(stamp.n),
            _ => None,
        });
        for effect in effects {
            let mut result = self.apply_one(effect);
            // Mail goes first: an effect may be done again (F3).
            while result.as_ref().is_err_and(is_full)
                && (self.history.drop_oldest()? || reserve::give_up(&self.medium())?)
            {
                result = self.apply_one(effect);
            }
            result.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", describe(effect))))?;
        }
        self.end_note()
    }

    fn apply_one(&mut self, effect: &Effect) -> io::Result<()> {
        match effect {
            Effect::Make {
                ino,
                kind: Kind::Dir,
                mode,
                uid,
                gid,
                dir,
                name,
                ..
            } => {
                self.make_dir(*ino)?;
                self.set_dir_owner_mode(*ino, (*uid, *gid), *mode)?;
                self.place(*ino, *dir, name)
            }
            Effect::Make {
                ino,
                kind,
                mode,
                uid,
                gid,
                target,
                dir,
                name,
            } => {
                self.make_inode(*ino, *kind, target, (*uid, *gid), *mode)?;
                self.link(*ino, *dir, name)
            }
            Effect::Link { ino, dir, name } => self.link(*ino, *dir, name),
            Effect::Unlink { ino, dir, name } => self.unlink(*ino, *dir, name),
            Effect::MoveDir { ino, dir, name } => self.place(*ino, *dir, name),
            Effect::RemoveDir { ino } => self.remove_dir(*ino),
            Effect::Write {
                ino,
                cut,
                extents,
                size,
                mtime,
                atime,
                stamp,
            } => {
                self.note_write(*ino, *cut, extents, *size)?;
                self.write(*ino, (*cut, extents, *size), (*atime, *mtime), *stamp)
            }
            Effect::SetAttr {
                ino,
                mode,
                uid,
                gid,
                atime,
                mtime,
            } => self.set_attr(*ino, (*uid, *gid), *mode, (*atime, *mtime)),
            Effect::Xattr { ino, name, value } => self.set_xattr(*ino, name, value.as_deref()),
            Effect::AllXattrs { ino, all } => self.set_all_xattrs(*ino, all),
            Effect::Only { names, nameless } => self.keep_only(names, nameless),
            Effect::Free { ino } => {
                self.note_free(*ino)?;
                self.free(*ino)
            }
            Effect::Keep { fork, ino, ranges } => self.keep(Key { fork: *fork, ino: *ino }, ranges),
            Effect::Revert { fork, ino } => self.revert(Key { fork: *fork, ino: *ino }),
            Effect::Forget { below } => self.kept.forget(*below),
            Effect::Rotten { ino, blocks } => self.rotten(*ino, blocks),
            Effect::Repair {
                ino,
                block,
                bytes,
                sure,
            } => self.repair(*ino, *block, bytes, *sure),
            Effect::Combine { ino, block, theirs } => self.combine(*ino, *block, theirs),
            Effect::Damaged { ino, offset, bytes } => self.take_damaged(*ino, *offset, bytes),
            Effect::Note(note) => {
                self.begin_note(note);
                Ok(())
            }
        }
    }

    /// Answers a question; sees every effect applied before.
    ///
    /// Errors: ESTALE if there is no such inode, or if it cannot be read; EISDIR, EINVAL, ENODATA as read(2) and
    /// getxattr(2) say; of an index see [`Leisure::answer`], which another thread can do.
    pub fn look(&mut self, look: &Look) -> Result<Seen, Errno> {
        match look {
            Look::Read { ino, offset, len } => self.read(*ino, *offset, *len),
            Look::Sums { ino, first, count } => self.at_rest.sums_of(*ino, *first, *count),
            Look::Block { ino, block, deep } => self.read_block(*ino, *block, *deep),
            Look::Raw { ino, block } => self.read_raw(*ino, *block),
            Look::GetXattr { ino, name } => self.get_xattr(*ino, name).map(Seen::Data),
            Look::ListXattr { ino } => self.list_xattrs(*ino).map(Seen::Names),
            Look::Index { .. } | Look::RawIndex { .. } | Look::Copy { .. } | Look::Digests { .. } => {
                self.leisure(look)?.answer(&AtomicBool::new(false))
            }
            Look::Xattrs { inos } => self.xattrs_of(inos).map(Seen::Data),
        }
    }

    /// Opens what another thread can read at leisure: for `Look::Index`, `RawIndex`, `Copy` and `Digests`.
    ///
    /// Errors: as [`Self::content`]; EINVAL for other looks.
    pub fn leisure(&self, look: &Look) -> Result<Leisure, Errno> {
        Leisure::open(self, look)
    }

    /// Why the device could not be read in the last look. Its answer must not be given then: the other copy is good.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }

    fn medium(&self) -> DirMedium {
        DirMedium::new(Arc::clone(&self.home))
    }

    /// Free bytes of the filesystem beside the reserve, and what the reserve lacks.
    fn unused(&self) -> io::Result<(u64, u64)> {
        let fs = rustix::fs::fstatvfs(&self.root)?;
        let lacks = if reserve::is_held(&self.medium())? {
            0
        } else {
            limits::RESERVE_BYTES
        };
        Ok((fs.f_bavail.saturating_mul(fs.f_frsize), lacks))
    }

    /// Lets history go until there is room for the log, and makes the reserve again when there is room for it.
    ///
    /// Errors: the filesystem's.
    pub fn make_room(&mut self) -> io::Result<()> {
        loop {
            let (free, lacks) = self.unused()?;
            if free >= lacks + limits::RETAIN_FREE_MIN || !self.history.drop_oldest()? {
                if lacks > 0 && free >= 2 * lacks {
                    return reserve::hold(&self.medium());
                }
                return Ok(());
            }
        }
    }

    /// Room on the brick; what is kept in reserve is not free, what is kept of the past is.
    pub fn space(&self) -> io::Result<Space> {
        let fs = rustix::fs::fstatvfs(&self.root)?;
        let (free, lacks) = self.unused()?;
        Ok(Space {
            total: fs.f_blocks.saturating_mul(fs.f_frsize),
            free: (free + self.history.bytes()).saturating_sub(lacks),
            inodes: fs.f_files,
            inodes_free: fs.f_favail.saturating_sub(limits::RESERVE_INODES),
        })
    }

    /// Inodes that were written to, were not there, and have not been freed since. After a replay there are none, unless
    /// files of `.mboxfs/ino` got lost: they need healing.
    #[must_use]
    pub const fn missing(&self) -> &BTreeSet<Ino> {
        &self.missing
    }

    /// What changed since this was last asked: for [`crate::Checkpointer::checkpoint`].
    pub fn take_touched(&mut self) -> Touched {
        let files = std::mem::take(&mut self.touched);
        let dirs = std::mem::take(&mut self.touched_dirs);
        let home = std::mem::take(&mut self.touched_home);
        let buckets = std::mem::take(&mut self.buckets);
        let mut touched = Touched {
            home: Some(Arc::clone(&self.home)),
            files,
            buckets,
            sums: self.at_rest.sums().clone(),
            ..Touched::default()
        };
        if touched.len() + dirs.len() > SYNC_EACH_MAX || dirs.len() > DIRS_MAX {
            touched.everything = true;
            return touched;
        }
        // Opened here, since their paths may change before they are synced. One that cannot be opened: sync everything.
        for dir in dirs {
            match self.dir_fd(dir) {
                Ok(Some(fd)) => touched.dirs.push(fd),
                Ok(None) => {}
                Err(_) => touched.everything = true,
            }
        }
        match self.history.take_dirty().map(std::fs::File::try_clone) {
            Some(Ok(file)) => touched.dirs.push(file.into()),
            Some(Err(_)) => touched.everything = true,
            None => {}
        }
        for name in home {
            match open_dir(&self.home, name) {
                Ok(fd) => touched.dirs.push(fd),
                Err(_) => touched.everything = true,
            }
        }
        touched
    }
}

fn describe(effect: &Effect) -> String {
    match effect {
        Effect::Make { ino, name, .. } => format!("make {ino} as {name}"),
        Effect::Link { ino, name, .. } => format!("link {ino} as {name}"),
        Effect::Unlink { ino, name, .. } => format!("unlink {ino} at {name}"),
        Effect::MoveDir { ino, name, .. } => format!("move directory {ino} to {name}"),
        Effect::RemoveDir { ino } => format!("remove directory {ino}"),
        Effect::Write { ino, .. } => format!("write {ino}"),
        Effect::SetAttr { ino, .. } => format!("set attributes of {ino}"),
        Effect::Xattr { ino, .. } => format!("set extended attribute of {ino}"),
        Effect::AllXattrs { ino, .. } => format!("set all extended attributes of {ino}"),
        Effect::Only { .. } => "remove what the peer does not have".to_string(),
        Effect::Free { ino } => format!("free {ino}"),
        Effect::Keep { ino, .. } => format!("keep what {ino} held at the fork"),
        Effect::Revert { ino, .. } => format!("put {ino} back to the fork"),
        Effect::Rotten { ino, .. } => format!("mark {ino} as damaged"),
        Effect::Combine { ino, block, .. } => format!("mend block {block} of {ino}"),
        Effect::Repair { ino, block, .. } => format!("repair block {block} of {ino}"),
        Effect::Damaged { ino, offset, .. } => format!("take what is damaged at {offset} of {ino}"),
        Effect::Forget { .. } => "forget what was kept for a fork".to_string(),
        Effect::Note(note) => format!("note what happens to {}", note.ino),
    }
}
