//! The kernel's cache of attributes, as far as fs/fuse keeps what it is told.
//!
//! Promises: an answer that was asked for before the kernel was told to forget is not kept (`attr_version`); what the
//! kernel's own calls change it forgets. Not here: names (never kept), content (never cached: FOPEN_DIRECT_IO).

use mboxfs_client::{
    Client,
    input::{Call, CallId},
    output::Answer,
};
use mboxfs_types::{Attr, Errno, Ino, Nanos};
use std::collections::BTreeMap;

/// Of one mount.
#[derive(Default)]
pub(crate) struct Kernel {
    /// Each call under way, and the version when it was asked.
    asked: BTreeMap<CallId, (Call, u64)>,
    kept: BTreeMap<Ino, (Attr, Nanos)>,
    forgot: BTreeMap<Ino, u64>,
    version: u64,
}

impl Kernel {
    pub(crate) fn ask(&mut self, id: CallId, call: &Call) {
        self.asked.insert(id, (call.clone(), self.version));
    }

    pub(crate) fn forget(&mut self, ino: Ino) {
        self.version += 1;
        self.forgot.insert(ino, self.version);
        self.kept.remove(&ino);
    }

    pub(crate) fn answered(&mut self, now: Nanos, id: CallId, result: &Result<Answer, Errno>) {
        let Some((call, version)) = self.asked.remove(&id) else {
            return;
        };
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
    }

    /// L3, T1, T2 (`client::told`): what the kernel would answer by itself is what the mount would answer.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check(&self, now: Nanos, client: &Client) {
        for (ino, (attr, until)) in self.kept.iter().filter(|(_, (_, until))| *until > now) {
            let true_one = client.answers(*ino);
            let key = |a: &Attr| (a.size, a.mtime, a.ctime, a.nlink, a.mode);
            assert_eq!(
                true_one.as_ref().map(key),
                Some(key(attr)),
                "L3, T2: the kernel keeps {ino} until {until:?}, it is {now:?}"
            );
        }
    }

    pub(crate) fn kept_count(&self, now: Nanos) -> usize {
        self.kept.values().filter(|(_, until)| *until > now).count()
    }
}
