//! The kernel of a mount: the cache of attributes as fs/fuse keeps what it is told, and the open files of each process.
//!
//! Promises: an answer that was asked for before the kernel was told to forget is not kept (`attr_version`); what the
//! kernel's own calls change it forgets. Not here: names (never kept), content (never cached: FOPEN_DIRECT_IO).

use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller},
    output::Answer,
};
use mboxfs_types::{Attr, Errno, Ino, Nanos};
use std::collections::BTreeMap;

/// Of one mount.
#[derive(Default)]
pub(crate) struct Kernel {
    /// Each call under way, and the version when it was asked.
    asked: BTreeMap<CallId, (Caller, Call, u64)>,
    kept: BTreeMap<Ino, (Attr, Nanos)>,
    forgot: BTreeMap<Ino, u64>,
    version: u64,
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

    pub(crate) fn forget(&mut self, ino: Ino) {
        self.version += 1;
        self.forgot.insert(ino, self.version);
        self.kept.remove(&ino);
    }

    /// What was asked, unless nobody waits for it any more.
    pub(crate) fn answered(&mut self, now: Nanos, id: CallId, result: &Result<Answer, Errno>) -> Option<Call> {
        let (_, call, version) = self.asked.remove(&id)?;
        match (&call, result) {
            (
                _,
                Ok(
                    Answer::Attr { attr, ttl }
                    | Answer::Entry {
                        attr, attr_ttl: ttl, ..
                    },
                ),
            ) => {
                let forgot = self.forgot.get(&attr.ino).is_some_and(|v| *v > version);
                if !forgot {
                    self.kept.insert(attr.ino, (*attr, now + *ttl));
                }
            }
            (Call::Write { ino, .. }, _) => self.forget(*ino),
            (_, Ok(Answer::Created { attr, .. })) => self.forget(attr.ino),
            (Call::Unlink { dir, .. }, _) => self.forget(*dir),
            _ => {}
        }
        Some(call)
    }

    /// T1, T2 (`client::told`): what the kernel would answer by itself is what the mount would answer. How many were looked
    /// at.
    ///
    /// # Errors
    /// What differs.
    pub(crate) fn check(&self, now: Nanos, client: &Client) -> Result<usize, String> {
        let mut count = 0;
        for (ino, (attr, until)) in self.kept.iter().filter(|(_, (_, until))| *until > now) {
            let true_one = client.answers(*ino);
            let key = |a: &Attr| (a.size, a.mtime, a.ctime, a.nlink, a.mode);
            if true_one.as_ref().map(key) != Some(key(attr)) {
                return Err(format!(
                    "the kernel keeps {attr:?} until {until:?}, the mount says {true_one:?}"
                ));
            }
            count += 1;
        }
        Ok(count)
    }
}
