//! The kernel of a mount: attributes and sizes as fs/fuse keeps what it is told.
//!
//! Promises: an answer is looked at by the thread that asked, when that has its turn; one that was asked for before something
//! newer was looked at, or before the word to forget, changes nothing (`attr_version`). stat(2) gets it all the same, lseek(2)
//! to the end goes by the size that is kept. What the kernel's own calls change it forgets.
//! Who seeks to the end, writes or sets attributes of a file waits for the others to have looked at their answers (`i_rwsem`).
//! Not here: names (never kept), content (never cached: FOPEN_DIRECT_IO).

use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller},
    output::Answer,
};
use mboxfs_types::{Attr, Errno, Ino, Nanos};
use std::collections::{BTreeMap, BTreeSet};

/// A call that was answered, and not looked at yet; the version when it was asked.
#[derive(Clone, Debug)]
pub(crate) struct Asked(pub(crate) Call, u64);

/// What is kept of an inode.
#[derive(Default)]
struct Inode {
    size: u64,
    version: u64,
    /// May be answered from until then.
    kept: Option<(Attr, Nanos)>,
    /// Own calls that have changed it, and were not looked at yet.
    changing: usize,
}

/// Of one mount.
#[derive(Default)]
pub(crate) struct Kernel {
    /// Each call under way, and the version when it was asked.
    asked: BTreeMap<CallId, (Caller, Call, u64)>,
    inodes: BTreeMap<Ino, Inode>,
    version: u64,
    /// Locked files (`i_rwsem`).
    locked: BTreeSet<Ino>,
}

impl Kernel {
    pub(crate) fn ask(&mut self, id: CallId, caller: Caller, call: &Call) {
        self.asked.insert(id, (caller, call.clone(), self.version));
    }

    /// Calls under way: a daemon that takes over is asked them again.
    #[must_use]
    pub(crate) fn under_way(&self) -> Vec<(CallId, Caller, Call)> {
        let asked = self.asked.iter();
        asked
            .map(|(id, (caller, call, _))| (*id, *caller, call.clone()))
            .collect()
    }

    /// A look of the world's own has no answer yet.
    pub(crate) fn asks_for_nobody(&self) -> bool {
        self.asked
            .values()
            .any(|(caller, call, _)| caller.pid == 0 && matches!(call, Call::Lookup { .. }))
    }

    /// Locks a file, or says that somebody else has.
    pub(crate) fn lock(&mut self, ino: Ino) -> bool {
        self.locked.insert(ino)
    }

    pub(crate) fn unlock(&mut self, ino: Ino) {
        self.locked.remove(&ino);
    }

    fn newer(&mut self, ino: Ino) -> &mut Inode {
        self.version += 1;
        let inode = self.inodes.entry(ino).or_default();
        inode.version = self.version;
        inode
    }

    /// The word to forget.
    pub(crate) fn forget(&mut self, ino: Ino) {
        self.newer(ino).kept = None;
    }

    /// What was asked, unless nobody waits for it any more.
    pub(crate) fn answered(&mut self, id: CallId) -> Option<Asked> {
        let (_, call, version) = self.asked.remove(&id)?;
        if let Some(ino) = changes(&call) {
            self.inodes.entry(ino).or_default().changing += 1;
        }
        Some(Asked(call, version))
    }

    /// The thread that asked has its turn.
    pub(crate) fn looks(&mut self, now: Nanos, Asked(call, version): &Asked, result: &Result<Answer, Errno>) {
        if let Some(ino) = changes(call) {
            let inode = self.newer(ino);
            inode.changing -= 1;
            inode.kept = None;
            if let (Call::Write { offset, .. }, Ok(Answer::Written(count))) = (call, result) {
                inode.size = inode.size.max(offset + u64::from(*count));
            }
        }
        match (call, result) {
            // These it looks at always.
            (Call::SetAttr { .. }, Ok(Answer::Attr { attr, .. })) | (_, Ok(Answer::Created { attr, .. })) => {
                let inode = self.newer(attr.ino);
                (inode.size, inode.kept) = (attr.size, None);
            }
            (
                _,
                Ok(
                    Answer::Attr { attr, ttl }
                    | Answer::Entry {
                        attr, attr_ttl: ttl, ..
                    },
                ),
            ) if self.inodes.get(&attr.ino).is_none_or(|i| i.version <= *version) => {
                let inode = self.newer(attr.ino);
                (inode.size, inode.kept) = (attr.size, Some((*attr, now + *ttl)));
            }
            _ => {}
        }
    }

    /// Where lseek(2) finds the end, without a question if `asked` or the attributes are kept; else none.
    pub(crate) fn end(&self, now: Nanos, ino: Ino, asked: bool) -> Option<u64> {
        let inode = self.inodes.get(&ino)?;
        let kept = inode.kept.is_some_and(|(_, until)| until > now);
        (asked || kept).then_some(inode.size)
    }

    /// T1, T2 (`client::told`): what the kernel would answer by itself is what the mount would answer. How many were looked
    /// at.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, now: Nanos, client: &Client) -> Result<usize, String> {
        let mut count = 0;
        for (ino, inode) in &self.inodes {
            let Some((attr, until)) = inode.kept.filter(|(_, until)| *until > now) else {
                continue;
            };
            let true_one = client.answers(*ino);
            let key = |a: &Attr| (a.size, a.mtime, a.ctime, a.nlink, a.mode);
            if true_one.is_some() && inode.changing > 0 {
                continue;
            }
            if true_one.as_ref().map(key) != Some(key(&attr)) {
                return Err(format!(
                    "the kernel keeps {attr:?} until {until:?}, the mount says {true_one:?}"
                ));
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Which inode's attributes this kernel knows to be others behind it.
const fn changes(call: &Call) -> Option<Ino> {
    match call {
        Call::Write { ino, .. } | Call::SetAttr { ino, .. } => Some(*ino),
        Call::Unlink { dir, .. } => Some(*dir),
        _ => None,
    }
}
