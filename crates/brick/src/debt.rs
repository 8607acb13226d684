//! What the peer lacks, as far as the one that goes on without it has to remember; and what a checkpoint has of the brain.
//!
//! N1  Of every file written since the peer left: which version it was, and up to where its bytes are still those. A peer
//!     whose file is that version, or a later one, lacks only what comes after.
//! N2  Bounded: past `limits::DEBT_OBJECTS_MAX` objects nothing is remembered but that; files are then told apart by their
//!     versions, and compared.
//!
//! Not here: how much it is, exactly (`owed`), what is kept of the moment when the peer left (`fork`), how it gets what it
//! lacks (`view::catch_up`, `resync`).

use crate::{brick::Brick, owed::Owed, state::State};
use alloc::collections::BTreeMap;
use bytes::Bytes;
use mboxfs_types::{Ino, call::Op, codec, disk::Effect, limits, quorum::Settled, record::Body};
use serde::{Deserialize, Serialize};

/// One object that was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
struct Changed {
    /// Version of its content before the first change.
    was: u64,
    /// Bytes below this are as they were then.
    intact: u64,
}

/// What is committed here and not known to be at the peer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Debt {
    /// Records that change what users see.
    pub(crate) records: u64,
    /// Bytes of content in them.
    pub(crate) bytes: u64,
    objects: BTreeMap<Ino, Changed>,
    /// There were too many of them (N2).
    all: bool,
}

impl Debt {
    /// A record was executed. `was`: the file that it commits to, and its version before.
    pub(crate) fn note(&mut self, bytes: usize, touched: Option<Ino>, was: Option<(Ino, u64)>, effects: &[Effect]) {
        self.records += 1;
        self.bytes += bytes as u64;
        if self.all {
            return;
        }
        let unwritten = Changed {
            was: u64::MAX,
            intact: u64::MAX,
        };
        if let Some(ino) = touched {
            self.objects.entry(ino).or_insert(unwritten);
        }
        for effect in effects {
            let Effect::Write {
                ino,
                cut,
                extents,
                size,
                ..
            } = effect
            else {
                continue;
            };
            let from = extents.iter().map(|e| e.offset).min().unwrap_or(*size);
            let changed = self.objects.entry(*ino).or_insert(unwritten);
            changed.intact = changed.intact.min(from).min(*cut).min(*size);
            if changed.was == u64::MAX {
                // What is not told about (a merge, a file made with its content) is compared.
                let told = was.filter(|(file, _)| file == ino);
                (changed.was, changed.intact) = told.map_or((0, 0), |(_, version)| (version, changed.intact));
            }
        }
        if self.objects.len() > limits::DEBT_OBJECTS_MAX {
            self.objects.clear();
            self.all = true;
        }
    }

    /// N1: bytes that a file which is as of `version` surely shares with the present one.
    pub(crate) fn shared(&self, ino: Ino, version: u64) -> u64 {
        let changed = self.objects.get(&ino).filter(|c| version >= c.was);
        changed.map_or(0, |c| c.intact)
    }

    /// Was it changed, or may it have been?
    pub(crate) fn has(&self, ino: Ino) -> bool {
        self.all || self.objects.contains_key(&ino)
    }
}

/// The file that a record commits to.
pub(crate) const fn committed(body: &Body) -> Option<Ino> {
    match body {
        Body::Op {
            op: Op::Commit { ino, .. },
            ..
        }
        | Body::Quarantine {
            op: Op::Commit { ino, .. },
        } => Some(*ino),
        _ => None,
    }
}

/// Files that are known to be as of a version, while the rest is not known.
pub(crate) type Known = BTreeMap<Ino, u64>;

/// What a checkpoint holds, and what a peer is told that gets everything anew.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) debt: Debt,
    /// Says nothing to the peer.
    pub(crate) owed: Owed,
    /// Only of a brick whose files are being made those of its peer.
    pub(crate) known: Known,
    /// For the peer; the superblock has it too.
    pub(crate) quorum: Settled,
    /// Process starts of the one that is told.
    pub(crate) peer_inc: u32,
}

impl Brick {
    /// Nothing is lacking, or all of it is executed again.
    pub(crate) fn forget_debt(&mut self) {
        self.debt = Debt::default();
        self.owed = Owed::default();
    }

    /// As `Snapshot`.
    pub(crate) fn snapshot_of(&self, state: &State, known: &Known) -> Bytes {
        let Self { debt, owed, sb, .. } = self;
        codec::encode(&(state, debt, owed, known, &sb.quorum, sb.peer_inc)).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use mboxfs_types::{Tag, Timestamp, call::Extent};

    fn write(ino: u64, cut: u64, at: u64, len: usize, size: u64) -> Effect {
        let data = Bytes::from(vec![0; len]);
        let extents = if len == 0 {
            vec![]
        } else {
            vec![Extent { offset: at, data }]
        };
        Effect::Write {
            ino: Ino(ino),
            cut,
            extents,
            size,
            mtime: Timestamp::default(),
            atime: Timestamp::default(),
            stamp: Tag::default(),
        }
    }

    #[test]
    fn of_a_file_that_only_grew_the_peer_lacks_what_was_appended() {
        let mut debt = Debt::default();
        debt.note(10, Some(Ino(7)), Some((Ino(7), 5)), &[write(7, 100, 100, 10, 110)]);
        debt.note(10, Some(Ino(7)), Some((Ino(7), 9)), &[write(7, 110, 110, 10, 120)]);
        assert_eq!(debt.shared(Ino(7), 5), 100);
        assert_eq!(debt.shared(Ino(7), 4), 0, "an older version is another file");
        assert_eq!((debt.records, debt.bytes), (2, 20));
        debt.note(3, Some(Ino(7)), Some((Ino(7), 10)), &[write(7, 120, 40, 3, 120)]);
        assert_eq!(debt.shared(Ino(7), 5), 40);
        debt.note(0, Some(Ino(7)), Some((Ino(7), 11)), &[write(7, 20, 0, 0, 20)]);
        assert_eq!(debt.shared(Ino(7), 5), 20);
    }

    #[test]
    fn what_is_not_told_about_is_compared() {
        let mut debt = Debt::default();
        debt.note(10, Some(Ino(7)), None, &[write(7, 100, 100, 10, 110)]);
        assert_eq!(debt.shared(Ino(7), 99), 0);
        assert!(debt.has(Ino(7)) && !debt.has(Ino(8)));
    }

    #[test]
    fn it_is_bounded() {
        let mut debt = Debt::default();
        for ino in 0..=limits::DEBT_OBJECTS_MAX as u64 {
            debt.note(1, Some(Ino(ino)), None, &[]);
        }
        assert!(debt.has(Ino(u64::MAX)), "all of them may have changed");
        assert_eq!(debt.objects.len(), 0);
    }

    #[test]
    fn a_snapshot_is_read_as_it_was_written() {
        let known = Known::from([(Ino(3), 4)]);
        let (state, debt, owed) = (State::new(), Debt::default(), Owed::default());
        let bytes = codec::encode(&(&state, &debt, &owed, &known, &Settled::default(), 7_u32));
        let snapshot: Snapshot = codec::decode(&bytes).expect("the same shape");
        assert_eq!((snapshot.state, snapshot.known, snapshot.peer_inc), (state, known, 7));
    }
}
