//! The kernel's cache of attributes and names, as far as fs/fuse keeps what it is told.
//!
//! Promises: an answer that was asked for before the kernel was told to forget is not kept (`attr_version`); what the
//! kernel's own calls change it forgets. A name lives in the epoch in which it was asked for. Not here: content (never
//! cached: FOPEN_DIRECT_IO).

use mboxfs_client::{
    Client,
    input::{Call, CallId, Clock, Config},
    output::Answer,
};
use mboxfs_types::{Attr, Errno, Ino, Name, Nanos};
use std::collections::BTreeMap;

/// A mount on a kernel like this one.
pub(crate) fn client(config: Config) -> Client {
    let mut client = Client::new(config, Clock::default());
    client.kernel_forgets_names();
    client
}

/// Of one mount.
#[derive(Default)]
pub(crate) struct Kernel {
    /// Each call under way, with the version and the epoch when it was asked.
    asked: BTreeMap<CallId, (Call, u64, u64)>,
    kept: BTreeMap<Ino, (Attr, Nanos)>,
    forgot: BTreeMap<Ino, u64>,
    version: u64,
    names: BTreeMap<(Ino, Name), (Ino, Nanos)>,
    epoch: u64,
}

impl Kernel {
    pub(crate) fn ask(&mut self, id: CallId, call: &Call) {
        self.asked.insert(id, (call.clone(), self.version, self.epoch));
    }

    pub(crate) fn forget_names(&mut self) {
        self.epoch += 1;
        self.names.clear();
    }

    fn learn(&mut self, dir: Ino, name: &Name, ino: Ino, until: Nanos) {
        self.names.insert((dir, name.clone()), (ino, until));
    }

    pub(crate) fn forget(&mut self, ino: Ino) {
        self.version += 1;
        self.forgot.insert(ino, self.version);
        self.kept.remove(&ino);
    }

    pub(crate) fn answered(&mut self, now: Nanos, id: CallId, result: &Result<Answer, Errno>) {
        let Some((call, version, epoch)) = self.asked.remove(&id) else {
            return;
        };
        match (&call, result) {
            (Call::Lookup { dir, name }, Ok(Answer::Entry { attr, entry_ttl, .. })) if epoch == self.epoch => {
                self.learn(*dir, name, attr.ino, now + *entry_ttl);
            }
            (Call::Create { dir, name, .. }, Ok(Answer::Created { attr, entry_ttl, .. })) if epoch == self.epoch => {
                self.learn(*dir, name, attr.ino, now + *entry_ttl);
            }
            (Call::Lookup { dir, name } | Call::Unlink { dir, name } | Call::Create { dir, name, .. }, _) => {
                self.names.remove(&(*dir, name.clone()));
            }
            _ => {}
        }
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
        for ((dir, name), (ino, until)) in self.names.iter().filter(|(_, (_, until))| *until > now) {
            assert_eq!(
                client.names_now(*dir, name),
                Some(*ino),
                "L3, T4: the kernel keeps {name} until {until:?}, it is {now:?}"
            );
        }
    }

    /// Attributes and names that it would answer by itself.
    pub(crate) fn kept_count(&self, now: Nanos) -> [usize; 2] {
        [
            self.kept.values().filter(|(_, until)| *until > now).count(),
            self.names.values().filter(|(_, until)| *until > now).count(),
        ]
    }
}
