//! Checkpoints: files made durable, then a snapshot of the state that needs no older record.
//!
//! C1  A snapshot of position `n` is in place only after every effect of the records up to `n` is durable. It comes with the
//!     sums of what the files held at that moment (`sums` C2).
//! C2  The newest two snapshots stay, and those that are pinned.
//! C3  A snapshot is used only if its checksum is good, its position lies in this log, and the log goes on from it.
//!
//! Not here: what a snapshot says (`brick`).

use crate::{
    error::{LogError, StoreError},
    log::{Guard, Log},
    medium::{DirMedium, Medium, TEMP_SUFFIX, join},
    reserve,
    segment::{number_in, segment_name},
    touched::Touched,
};
use bytes::Bytes;
use std::{collections::BTreeSet, fmt, io};

/// Directory of the snapshots.
pub(crate) const SNAPSHOT_DIR: &str = "snapshot";
const MAGIC: &[u8; 8] = b"mboxfsS2";
const HEAD_BYTES: usize = 36;
const KEEP: usize = 2;

/// Does checkpoints.
pub struct Checkpointer<M: Medium = DirMedium> {
    medium: M,
    pinned: BTreeSet<u64>,
    _guard: Guard,
}

impl<M: Medium> fmt::Debug for Checkpointer<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Checkpointer")
            .field("pinned", &self.pinned)
            .finish_non_exhaustive()
    }
}

impl<M: Medium> Checkpointer<M> {
    pub(crate) const fn new(medium: M, guard: Guard) -> Self {
        Self {
            medium,
            pinned: BTreeSet::new(),
            _guard: guard,
        }
    }

    /// C1. `touched`: all that was changed since the last checkpoint, up to `n` at least.
    pub fn checkpoint(&mut self, touched: Touched, n: u64, snapshot: &[u8]) -> io::Result<()> {
        let durable = Durable::make(&touched)?;
        self.write(&durable, n, snapshot)
    }

    /// The second half of [`Self::checkpoint`].
    ///
    /// Errors: the medium's; after `StorageFull` it can be tried again.
    pub fn write(&mut self, Durable { sums }: &Durable, n: u64, snapshot: &[u8]) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + snapshot.len() + sums.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&n.to_le_bytes());
        bytes.extend_from_slice(&(snapshot.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&(sums.len() as u64).to_le_bytes());
        let crc = checksum(&bytes, &[snapshot, sums]);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(snapshot);
        bytes.extend_from_slice(sums);
        reserve::with(&self.medium, || {
            self.medium.replace(SNAPSHOT_DIR, &segment_name(n), &bytes)
        })?;
        let old = positions(&self.medium)?;
        for n in old.iter().rev().skip(KEEP).filter(|n| !self.pinned.contains(n)) {
            self.medium.remove(&path(*n))?; // C2
        }
        Ok(())
    }

    /// The snapshot of position `n` stays until [`Self::unpin`]. False: there is none. Not remembered over a restart;
    /// opening never removes a snapshot that could be used.
    pub fn pin(&mut self, n: u64) -> io::Result<bool> {
        let there = positions(&self.medium)?.contains(&n);
        if there {
            self.pinned.insert(n);
        }
        Ok(there)
    }

    /// The next checkpoint may remove it.
    pub fn unpin(&mut self, n: u64) {
        self.pinned.remove(&n);
    }

    /// Positions of the snapshots that there are, ascending.
    pub fn positions(&self) -> io::Result<Vec<u64>> {
        positions(&self.medium)
    }
}

/// Files are durable: a snapshot may follow.
#[derive(Debug)]
pub struct Durable {
    /// Of what they held.
    sums: Vec<u8>,
}

impl Durable {
    /// The first half of [`Checkpointer::checkpoint`]. Not to be tried again (medium M3).
    ///
    /// Errors: the filesystem's.
    pub fn make(touched: &Touched) -> io::Result<Self> {
        touched.sync()?;
        let sums = touched.sums.encode();
        Ok(Self { sums })
    }
}

fn path(n: u64) -> String {
    join(SNAPSHOT_DIR, &segment_name(n))
}

fn positions<M: Medium>(medium: &M) -> io::Result<Vec<u64>> {
    Ok(medium
        .names(SNAPSHOT_DIR)?
        .iter()
        .filter_map(|name| number_in(name))
        .collect())
}

fn checksum(head: &[u8], body: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    for part in body {
        hasher.update(part);
    }
    hasher.finalize()
}

/// A snapshot that can be used. All empty: there is none yet.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) position: u64,
    pub(crate) state: Bytes,
    pub(crate) sums: Bytes,
}

/// Snapshot `n`, if it is whole.
fn load<M: Medium>(medium: &M, n: u64) -> io::Result<Option<Found>> {
    let file = medium.open(&path(n))?;
    medium.settle(&file)?;
    let mut bytes = vec![0; usize::try_from(medium.len(&file)?).map_err(io::Error::other)?];
    medium.read_at(&file, 0, &mut bytes)?;
    let Some((head, body)) = bytes.split_at_checked(HEAD_BYTES) else {
        return Ok(None);
    };
    let number = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    let good = head.starts_with(MAGIC)
        && number(8) == n
        && number(16).checked_add(number(24)) == Some(body.len() as u64)
        && head[32..] == checksum(&head[..32], &[body]).to_le_bytes();
    if !good {
        return Ok(None);
    }
    let end = HEAD_BYTES + usize::try_from(number(16)).map_err(io::Error::other)?;
    let bytes = Bytes::from(bytes);
    Ok(Some(Found {
        position: n,
        state: bytes.slice(HEAD_BYTES..end),
        sums: bytes.slice(end..),
    }))
}

/// C3: the newest usable snapshot at or below `at_most`. Position 0: a brick without any snapshot whose log has its first
/// record. Those above the end of the log belong to a line of history that was dropped:
/// they are removed, before new records can reach their positions.
pub(crate) fn recover<M: Medium>(medium: &M, log: &Log<M>, at_most: u64) -> Result<Found, StoreError> {
    let io = |source| StoreError::Io { verb: "opened", source };
    for name in medium.names(SNAPSHOT_DIR).map_err(io)? {
        if name.ends_with(TEMP_SUFFIX) {
            medium.remove(&join(SNAPSHOT_DIR, &name)).map_err(io)?;
        }
    }
    medium.sync_dir(SNAPSHOT_DIR).map_err(io)?;
    let all = positions(medium).map_err(io)?;
    let mut bad = Vec::new();
    let mut found = None;
    for n in all.iter().rev().copied().filter(|n| *n <= at_most.min(log.last())) {
        found = load(medium, n).map_err(io)?;
        if found.is_some() {
            break;
        }
        bad.push(n);
    }
    let found = found.unwrap_or_default();
    let n = found.position;
    if n < log.damaged() {
        return Err(LogError::Rot { n: log.damaged() }.into());
    }
    if n + 1 < log.start() {
        let damaged = if bad.is_empty() {
            ""
        } else {
            ", newer snapshots are damaged"
        };
        let from = if n == 0 {
            "the beginning".to_string()
        } else {
            format!("snapshot {n}")
        };
        let why = format!(
            "the log begins at {} and does not go on from {from}{damaged}",
            log.start()
        );
        return Err(StoreError::Snapshot { why });
    }
    bad.extend(all.into_iter().filter(|n| *n > log.last()));
    for n in &bad {
        medium.remove(&path(*n)).map_err(io)?;
    }
    if !bad.is_empty() {
        medium.sync_dir(SNAPSHOT_DIR).map_err(io)?;
    }
    Ok(found)
}
