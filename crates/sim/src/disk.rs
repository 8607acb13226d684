//! The disk of a brick: the real log, superblock and snapshots (`store`) on a medium that forgets, files as an image, and the
//! queues that the daemon's threads work off.
//!
//! Promises
//! K1  Appends that wait share one flush; a record is durable only when it was answered (types D3).
//! K2  A killed process loses its queues; what it was writing may be there, in part or whole. A power cut loses what was not
//!     synced, sector by sector.
//! K3  What a brick finds when it starts is what `store::recover` finds.
//!
//! Not here: when things are done (`world::disks`).

use crate::{
    image::{Image, Tree},
    rng::Rng,
};
use bytes::Bytes;
use mboxfs_store::{
    Checkpointer, Log, LogError, LossyMedium, Options, StoreError, SuperblockWriter, Touched, format_medium, recover,
};
use mboxfs_types::{
    BrickId, VolumeId,
    call::Space,
    disk::{DiskOp, Done, Superblock, Worth},
    ids::BrickUuid,
    limits,
    record::{Members, Record},
};
use std::{collections::VecDeque, sync::Once};

mod rot;

/// Of records, in one answer: less than bricks ask for, so that a world sees many batches.
const READ_LOG_BYTES: usize = 2 << 10;

/// Which of the daemon's threads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thread {
    /// Log and superblock.
    Log,
    /// Files.
    Files,
    /// Checkpoints.
    Checkpoint,
}

impl Thread {
    pub const ALL: [Self; 3] = [Self::Log, Self::Files, Self::Checkpoint];
}

struct Parts {
    log: Log<LossyMedium>,
    superblock: SuperblockWriter<LossyMedium>,
    checkpointer: Checkpointer<LossyMedium>,
}

/// What a brick starts with.
pub struct Found {
    pub superblock: Superblock,
    pub snapshot: Bytes,
    pub records: Vec<Record>,
    pub log_start: u64,
}

/// One brick's disk.
pub struct Disk {
    medium: LossyMedium,
    options: Options,
    parts: Option<Parts>,
    pub image: Image,
    /// As it is on the medium.
    pub superblock: Superblock,
    /// One that is being written.
    attempt: Option<Superblock>,
    /// The log has its records, durably, up to here.
    pub durable: u64,
    proved: u64,
    /// Records are being dropped: some may be there, or not.
    dropping: bool,
    rotten: Option<rot::Rotten>,
    /// One copy of the superblock has rotted since it was written.
    has_one_superblock: bool,
    queues: [VecDeque<DiskOp>; 3],
    /// What the checkpoints that wait will cover.
    marks: VecDeque<(usize, Touched)>,
    /// Operations in the batch that each thread works on.
    batch: [usize; 3],
    /// Room for mail, in bytes.
    pub room: u64,
    pub flushes: u64,
    failing: bool,
    /// What was found at the last start is what was written.
    pub sound: Result<(), String>,
}

impl Disk {
    /// An empty brick of the volume.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn format(brick: BrickId, segment_bytes: u64) -> Self {
        Self::made(BrickUuid([brick.index() + 1; 16]), brick, segment_bytes, |_| {})
    }

    /// One that takes the place of a former brick, whose peer has everything.
    #[must_use]
    pub fn replacement(brick: BrickId, segment_bytes: u64) -> Self {
        Self::made(
            BrickUuid([brick.index() + 77; 16]),
            brick,
            segment_bytes,
            |superblock| {
                superblock.members = Members::Only(brick.other());
                superblock.files = Worth::Copying;
            },
        )
    }

    /// There are real files, too, if they are `wanted`; as root only, since others cannot give files away.
    #[must_use]
    pub fn with_files(mut self, wanted: bool) -> Self {
        static TOLD: Once = Once::new();
        if wanted && rustix::process::geteuid().is_root() {
            self.image.add_files();
        } else if wanted {
            TOLD.call_once(|| eprintln!("real files are left out: not root"));
        }
        self
    }

    fn made(uuid: BrickUuid, brick: BrickId, segment_bytes: u64, change: impl FnOnce(&mut Superblock)) -> Self {
        let medium = LossyMedium::new();
        let options = Options {
            segment_bytes,
            ..Options::default()
        };
        format_medium(&medium, uuid, &options).expect("an empty medium can be formatted");
        let mut found = recover(&medium, &options).expect("what was formatted can be opened");
        found.superblock.volume = Some(VolumeId([7; 16]));
        found.superblock.brick = brick;
        change(&mut found.superblock);
        found
            .superblock_writer
            .write(&found.superblock)
            .expect("it can be claimed");
        Self {
            medium,
            options,
            parts: None,
            image: Image::default(),
            superblock: found.superblock,
            attempt: None,
            durable: 0,
            proved: 0,
            dropping: false,
            rotten: None,
            has_one_superblock: false,
            queues: Default::default(),
            marks: VecDeque::new(),
            batch: [0; 3],
            room: 1 << 40,
            flushes: 0,
            failing: false,
            sound: Ok(()),
        }
    }

    /// K3.
    ///
    /// # Errors
    /// As the store's.
    pub fn open(&mut self) -> Result<Found, StoreError> {
        // What a life left undone whose disk failed as it ended is not done in the next one.
        self.queues.iter_mut().for_each(VecDeque::clear);
        self.batch = [0; 3];
        self.marks.clear();
        let found = recover(&self.medium, &self.options)?;
        self.sound = self.is_sound(&found.superblock, found.log.last());
        self.superblock = found.superblock.clone();
        self.attempt = None;
        (self.has_one_superblock, self.dropping) = (false, false);
        self.durable = found.log.last();
        self.proved = self.proved.min(self.durable);
        let log_start = found.log.start();
        self.image
            .open(self.medium.clone(), &found.sums, found.horizon())
            .map_err(|source| StoreError::Io { verb: "opened", source })?;
        self.parts = Some(Parts {
            log: found.log,
            superblock: found.superblock_writer,
            checkpointer: found.checkpointer,
        });
        Ok(Found {
            superblock: found.superblock,
            snapshot: found.snapshot,
            records: found.records,
            log_start,
        })
    }

    /// May this be what a start finds, after all that was written?
    fn is_sound(&self, superblock: &Superblock, last: u64) -> Result<(), String> {
        let counted = |was: &Superblock| Superblock {
            inc: was.inc.max(superblock.inc),
            ..was.clone()
        };
        let known = [Some(&self.superblock), self.attempt.as_ref()];
        if superblock.inc <= self.superblock.inc || !known.into_iter().flatten().any(|was| counted(was) == *superblock)
        {
            return Err(format!("its superblock is {superblock:?} and was {known:?}"));
        }
        if last < self.durable && !self.dropping {
            return Err(format!("its log ends at {last}; it was durable up to {}", self.durable));
        }
        Ok(())
    }

    /// Takes an operation in. The thread that was idle and has to begin, if any.
    pub fn submit(&mut self, op: DiskOp) -> Option<Thread> {
        let thread = match op {
            DiskOp::Append(_)
            | DiskOp::Superblock(_)
            | DiskOp::ReadLog { .. }
            | DiskOp::Trim { .. }
            | DiskOp::Restart { .. } => Thread::Log,
            DiskOp::Apply(_)
            | DiskOp::Look { .. }
            | DiskOp::Checkpoint { .. }
            | DiskOp::Damage
            | DiskOp::Scrub { .. } => Thread::Files,
        };
        self.put(thread, op)
    }

    fn put(&mut self, thread: Thread, op: DiskOp) -> Option<Thread> {
        self.queues[thread as usize].push_back(op);
        (self.batch[thread as usize] == 0).then_some(thread)
    }

    /// The thread takes what it does next (K1). False: there is nothing. Second: is it a flush?
    pub fn begin(&mut self, thread: Thread) -> (bool, bool) {
        let queue = &self.queues[thread as usize];
        let appends = queue.iter().take_while(|op| matches!(op, DiskOp::Append(_))).count();
        self.batch[thread as usize] = appends.max(1).min(queue.len());
        let flush = !matches!(
            queue.front(),
            Some(
                DiskOp::Apply(_)
                    | DiskOp::Look { .. }
                    | DiskOp::ReadLog { .. }
                    | DiskOp::Trim { .. }
                    | DiskOp::Damage
                    | DiskOp::Scrub { .. }
            )
        );
        (!queue.is_empty(), flush)
    }

    /// It is through: what it says, and a thread that has to begin.
    ///
    /// # Errors
    /// The device failed: the daemon ends.
    pub fn finish(&mut self, thread: Thread) -> Result<(Vec<Done>, Option<Thread>), String> {
        let count = std::mem::take(&mut self.batch[thread as usize]);
        let ops: Vec<DiskOp> = self.queues[thread as usize].drain(..count).collect();
        if matches!(ops.first(), Some(DiskOp::Append(_))) {
            return Ok((vec![self.append(ops)?], None));
        }
        let Some(op) = ops.into_iter().next() else {
            return Ok((Vec::new(), None));
        };
        self.work(thread, op)
    }

    fn append(&mut self, ops: Vec<DiskOp>) -> Result<Done, String> {
        let records: Vec<Record> = ops
            .into_iter()
            .filter_map(|op| {
                if let DiskOp::Append(record) = op {
                    Some(record)
                } else {
                    None
                }
            })
            .collect();
        let log = &mut self.parts.as_mut().ok_or("the brick is not open")?.log;
        let n = log.append(&records).map_err(|e| e.to_string())?;
        self.flushes += 1;
        self.proved = self.durable;
        self.durable = n;
        Ok(Done::Appended { n })
    }

    fn work(&mut self, thread: Thread, op: DiskOp) -> Result<(Vec<Done>, Option<Thread>), String> {
        let parts = self.parts.as_mut().ok_or("the brick is not open")?;
        let done = match op {
            DiskOp::Append(_) => Vec::new(),
            DiskOp::Superblock(superblock) => {
                self.attempt.get_or_insert_with(|| superblock.clone()); // a failed writer writes nothing more
                parts.superblock.write(&superblock).map_err(|e| e.to_string())?;
                self.attempt = None;
                self.has_one_superblock = false;
                self.superblock = superblock;
                vec![Done::Superblock]
            }
            DiskOp::ReadLog { from, bytes } => {
                vec![match parts.log.read(from, bytes.min(READ_LOG_BYTES)) {
                    Ok(records) => Done::Log { from, records },
                    Err(LogError::Rot { n }) => Done::LogRot { n },
                    Err(why) => return Err(why.to_string()),
                }]
            }
            DiskOp::Damage => {
                let (bad, doubtful) = self.image.damage();
                vec![Done::Damage { bad, doubtful }]
            }
            DiskOp::Scrub { ino, first, count } => {
                let suspects = self.image.scrub(ino, first, count).map_err(|e| e.to_string())?;
                vec![Done::Scrubbed { ino, suspects }]
            }
            DiskOp::Trim { below } => {
                parts.log.trim(below).map_err(|e| e.to_string())?;
                self.forget_rot(u64::MAX);
                Vec::new()
            }
            DiskOp::Restart { next } => {
                (self.proved, self.rotten, self.dropping) = (0, None, true);
                parts.log.restart(next).map_err(|e| e.to_string())?;
                self.durable = next - 1;
                self.dropping = false;
                Vec::new()
            }
            DiskOp::Apply(effects) => {
                self.image.apply(effects).map_err(|e| e.to_string())?;
                Vec::new()
            }
            DiskOp::Look { ticket, look } => {
                let result = self.image.look(&look);
                vec![Done::Answer { ticket, result }]
            }
            DiskOp::Checkpoint { .. } if thread == Thread::Files => {
                self.marks.push_back(self.image.mark());
                return Ok((Vec::new(), self.put(Thread::Checkpoint, op)));
            }
            DiskOp::Checkpoint { n, snapshot } => {
                let (mark, touched) = self.marks.pop_front().unwrap_or_default();
                self.image.checkpointed(mark);
                parts
                    .checkpointer
                    .checkpoint(touched, n, &snapshot)
                    .map_err(|e| e.to_string())?;
                vec![Done::Checkpoint { n }]
            }
        };
        Ok((done, None))
    }

    fn close(&mut self) {
        self.parts = None;
        self.image.close();
    }

    /// Nothing waits for it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.queues.iter().all(VecDeque::is_empty)
    }

    /// What files hold when all that was given is done.
    #[must_use]
    pub fn files_to_come(&self) -> Tree {
        let mut tree = self.image.now.clone();
        for op in &self.queues[Thread::Files as usize] {
            if let DiskOp::Apply(effects) = op {
                effects.iter().for_each(|effect| self.image.apply_to(&mut tree, effect));
            }
        }
        tree
    }

    /// SIGKILL (K2): what was under way got to the page cache, or did not.
    pub fn kill(&mut self, rng: &mut Rng) {
        for thread in Thread::ALL {
            if self.batch[thread as usize] > 0 && rng.chance(50) {
                self.medium.fail_sync_after(rng.below(2));
                let _ = self.finish(thread);
                self.repair();
            }
            self.batch[thread as usize] = 0;
            self.queues[thread as usize].clear();
        }
        self.marks.clear();
        self.close();
    }

    /// The life ends in order: everything that was given is done.
    ///
    /// # Errors
    /// The device failed.
    pub fn halt(&mut self) -> Result<(), String> {
        for thread in [Thread::Log, Thread::Files, Thread::Checkpoint] {
            while self.begin(thread).0 {
                self.finish(thread)?;
            }
            self.batch[thread as usize] = 0;
        }
        Ok(())
    }

    /// After [`Self::halt`]: the log above `keep` is dropped.
    ///
    /// # Errors
    /// The device failed.
    pub fn drop_above(&mut self, keep: u64) -> Result<(), String> {
        let parts = self.parts.as_mut().ok_or("the brick is not open")?;
        self.proved = 0; // what proves the last ones may be dropped
        self.dropping = true;
        parts.log.drop_above(keep).map_err(|e| e.to_string())?;
        self.forget_rot(keep);
        self.dropping = false;
        self.durable = self.durable.min(keep);
        self.close();
        Ok(())
    }

    /// The power goes (K2). Sectors and pages that were not synced are there, or not; `none`: not one of them is.
    pub fn power_off(&mut self, rng: &mut Rng) {
        self.kill(rng);
        if rng.chance(50) && !self.has_one_superblock {
            self.medium.tear("superblock", || rng.below(256) as u8);
        }
        let percent = [0, 50, 100][rng.below(3) as usize];
        self.medium.crash(|| rng.chance(percent));
        self.image.crash(rng);
    }

    /// The next sync after so many good ones fails.
    pub fn fail_sync(&mut self, after: u64) {
        self.failing = true;
        self.medium.fail_sync_after(after);
    }

    /// A sync was made to fail, or will.
    #[must_use]
    pub const fn is_failing(&self) -> bool {
        self.failing
    }

    /// It works again.
    pub fn repair(&mut self) {
        self.failing = false;
        self.medium.repair();
    }

    /// Room as the daemon tells it.
    #[must_use]
    pub fn space(&self) -> Space {
        Space {
            total: 1 << 40,
            free: self
                .room
                .saturating_sub(self.image.bytes())
                .saturating_sub(limits::RESERVE_BYTES),
            inodes: 1 << 20,
            inodes_free: 1 << 20,
        }
    }
}
