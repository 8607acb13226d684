//! Superblock, log and snapshots of one brick, on any medium: how they are made and how they are found again.
//!
//! V1  A brick exists when its superblock does: formatting writes it last.
//! V2  The incarnation of this start is durable before anything else is done.
//!
//! Not here: the directory and its lock (`store`), mailbox files (`files`).

use crate::{
    checkpoint::{self, Checkpointer, Found},
    error::StoreError,
    log::{Guard, Log},
    medium::Medium,
    store::Options,
    superblock::SuperblockWriter,
};
use bytes::Bytes;
use mboxfs_types::{
    disk::{Superblock, Worth},
    ids::BrickUuid,
    record::Record,
};

/// What was found, and who goes on from there.
#[derive(Debug)]
pub struct Recovery<M: Medium> {
    /// `inc` is already that of this start.
    pub superblock: Superblock,
    /// Position of the snapshot; 0 if there is none yet.
    pub position: u64,
    /// Encoded state; empty if there is none yet.
    pub snapshot: Bytes,
    /// What the files held at `position`.
    pub sums: Bytes,
    /// All records above `position`.
    pub records: Vec<Record>,
    /// The log.
    pub log: Log<M>,
    /// Writes the superblock.
    pub superblock_writer: SuperblockWriter<M>,
    /// Does checkpoints.
    pub checkpointer: Checkpointer<M>,
}

impl<M: Medium> Recovery<M> {
    /// Up to which record files may have seen it already (`sums` C3). While they are made those of the peer they may have seen
    /// anything: a crash leaves what was copied, and the sums of before.
    #[must_use]
    pub fn horizon(&self) -> u64 {
        match self.superblock.files {
            Worth::Whole => self.log.last(),
            Worth::Copying | Worth::Ahead => u64::MAX,
        }
    }
}

/// Makes an empty brick on `medium`, whose directories exist already (V1).
pub fn format_medium<M: Medium>(medium: &M, uuid: BrickUuid, options: &Options) -> Result<(), StoreError> {
    let superblock = Superblock::new(uuid);
    Log::format(medium, uuid, options.segment_bytes)
        .and_then(|()| SuperblockWriter::format(medium, &superblock))
        .map_err(|source| StoreError::Io {
            verb: "formatted",
            source,
        })
}

/// Opens the brick on `medium`.
pub fn recover<M: Medium>(medium: &M, options: &Options) -> Result<Recovery<M>, StoreError> {
    recover_guarded(medium, options, &None)
}

pub(crate) fn recover_guarded<M: Medium>(
    medium: &M,
    options: &Options,
    guard: &Guard,
) -> Result<Recovery<M>, StoreError> {
    let (mut superblock, mut superblock_writer) = SuperblockWriter::open(medium.clone(), guard.clone())?;
    superblock.inc += 1;
    superblock_writer
        .write(&superblock)
        .map_err(|source| StoreError::Io { verb: "opened", source })?; // V2
    let mut log = Log::open(medium.clone(), superblock.uuid, options.segment_bytes, guard.clone())?;
    let Found { position, state, sums } = checkpoint::recover(medium, &log, options.at_most)?;
    let records = log.read_all(position + 1)?;
    Ok(Recovery {
        superblock,
        position,
        snapshot: state,
        sums,
        records,
        log,
        superblock_writer,
        checkpointer: Checkpointer::new(medium.clone(), guard.clone()),
    })
}
