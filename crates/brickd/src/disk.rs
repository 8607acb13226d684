//! Five threads do what the brain wants of its disk: one for the log, one for the files, one for checkpoints, one that reads
//! whole mailboxes, and the history (`index`), one that looks for rot (`scrub`).
//!
//! K1  Appends that wait share one write and one fdatasync; `Done::Appended` leaves after it returned (D3).
//! K2  What failed is never tried again: the daemon ends ([`Fatal`]). A record of the log that has rotted is no failure.
//! K3  A look sees every effect given before it, and a checkpoint covers exactly the effects given before it (D1).
//! K4  What waits is counted in bytes, so that mounts can be held back ([`Load`], L13).
//! K5  Work leaves for each thread in order, when it is released: waking a thread takes as long as sending a frame, and the
//!     frames of a step are what others wait for. The log's work goes first: others wait for that, too.
//! K6  A full disk is waited for: nothing has failed (`room`).
//!
//! Not here: bytes in files (`store`), what is asked for and why (`brick`).

mod index;
mod room;
mod scrub;

use crate::{
    fatal::{Fatal, Guard},
    local::HistoryJob,
};
use index::IndexJob;
use mboxfs_store::{Checkpointer, Durable, Files, Log, LogError, SuperblockWriter, Touched};
use mboxfs_types::{
    Errno, Ino,
    call::Op,
    disk::{DiskOp, Done, Effect, Look, Seen, Superblock},
    limits,
    record::{Body, Record},
};
use scrub::ScrubJob;
use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, Builder, JoinHandle},
    time::{Duration, Instant},
};
use tokio::sync::{Notify, mpsc::UnboundedSender};

/// Records in one group commit.
const BATCH_RECORDS_MAX: usize = 1024;
/// Bytes in one group commit, about.
const BATCH_BYTES_MAX: usize = 8 << 20;
/// How often the room on the brick is told.
const SPACE_EVERY: Duration = Duration::from_nanos(limits::SPACE_EVERY.0);
/// Bytes that may wait for the disk before mounts are held back.
const WAITING_BYTES_MAX: usize = 64 << 20;
/// What a job without data weighs.
const JOB_BYTES: usize = 256;

/// What the threads work on; handed over whole, handed back by [`Disk::halt`].
pub(crate) struct Parts {
    pub(crate) log: Log,
    pub(crate) superblock: SuperblockWriter,
    pub(crate) files: Files,
    pub(crate) checkpointer: Checkpointer,
}

enum LogJob {
    Append(Record, usize),
    Read {
        from: u64,
        bytes: usize,
    },
    Trim {
        below: u64,
    },
    Restart {
        next: u64,
    },
    Superblock(Superblock),
    /// Stand still (a drill).
    Sleep(Duration),
}

enum FilesJob {
    Apply(Vec<Effect>, usize),
    Look { ticket: u64, look: Look },
    History(HistoryJob),
    Checkpoint { n: u64, snapshot: bytes::Bytes },
    Damage,
    Scrub { ino: Ino, first: u64, count: u64 },
}

struct CheckpointJob {
    touched: Touched,
    n: u64,
    snapshot: bytes::Bytes,
}

/// Bytes that wait for the disk.
#[derive(Debug, Default)]
pub(crate) struct Load {
    bytes: AtomicUsize,
    lighter: Notify,
}

impl Load {
    fn add(&self, bytes: usize) {
        self.bytes.fetch_add(bytes, Ordering::SeqCst);
    }

    fn done(&self, bytes: usize) {
        let before = self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        if before >= WAITING_BYTES_MAX && before - bytes < WAITING_BYTES_MAX {
            self.lighter.notify_waiters();
        }
    }

    /// Returns when there is room for more work from mounts.
    pub(crate) async fn room(&self) {
        loop {
            // Made before the check, so that a change in between is not missed.
            let lighter = self.lighter.notified();
            if self.bytes.load(Ordering::SeqCst) < WAITING_BYTES_MAX {
                return;
            }
            lighter.await;
        }
    }
}

/// The threads.
pub(crate) struct Disk {
    /// Not released yet (K5).
    held_log: Vec<LogJob>,
    held_files: Vec<FilesJob>,
    log: Sender<LogJob>,
    files: Sender<FilesJob>,
    load: Arc<Load>,
    flushes: Arc<AtomicU64>,
    log_thread: JoinHandle<Log>,
    files_thread: JoinHandle<()>,
    checkpoint_thread: JoinHandle<()>,
    index_thread: JoinHandle<()>,
    scrub_thread: JoinHandle<()>,
    halted: Arc<AtomicBool>,
}

/// What every thread has.
struct Common {
    done: UnboundedSender<Done>,
    fatal: Fatal,
    load: Arc<Load>,
    halted: Arc<AtomicBool>,
}

impl Common {
    /// The receiver is gone only when this life of the brick is over.
    fn say(&self, done: Done) {
        let _ = self.done.send(done);
    }
}

impl Disk {
    /// Starts the threads; completions go to `done`.
    pub(crate) fn start(parts: Parts, done: &UnboundedSender<Done>, fatal: &Fatal) -> io::Result<Self> {
        let load = Arc::new(Load::default());
        let halted = Arc::new(AtomicBool::new(false));
        let common = || Common {
            done: done.clone(),
            fatal: fatal.clone(),
            load: Arc::clone(&load),
            halted: Arc::clone(&halted),
        };
        let (log, log_jobs) = channel();
        let (files, files_jobs) = channel();
        let (checkpoints, checkpoint_jobs) = channel();
        let (indexes, index_jobs) = channel();
        let (scrubs, scrub_jobs) = channel();
        let Parts {
            log: store_log,
            superblock,
            files: store_files,
            checkpointer,
        } = parts;
        let (c1, c2, c3, c4, c5) = (common(), common(), common(), common(), common());
        let flushes = Arc::new(AtomicU64::new(0));
        let flushed = Arc::clone(&flushes);
        Ok(Self {
            log_thread: spawn("log", fatal, move || {
                LogThread {
                    log: store_log,
                    superblock,
                    flushes: flushed,
                    common: c1,
                }
                .run(&log_jobs)
            })?,
            files_thread: spawn("files", fatal, move || {
                FilesThread {
                    files: store_files,
                    checkpoints,
                    indexes,
                    scrubs,
                    common: c2,
                }
                .run(&files_jobs);
            })?,
            checkpoint_thread: spawn("checkpoint", fatal, move || {
                run_checkpoints(checkpointer, &checkpoint_jobs, &c3)
            })?,
            index_thread: spawn("index", fatal, move || index::run(&index_jobs, &c4))?,
            scrub_thread: spawn("scrub", fatal, move || scrub::run(&scrub_jobs, &c5))?,
            held_log: Vec::new(),
            held_files: Vec::new(),
            halted,
            log,
            files,
            load,
            flushes,
        })
    }

    /// One operation, to be given to its thread by `release`.
    pub(crate) fn submit(&mut self, op: DiskOp) {
        match op {
            DiskOp::Append(record) => {
                let weight = record_weight(&record);
                self.load.add(weight);
                self.held_log.push(LogJob::Append(record, weight));
            }
            DiskOp::ReadLog { from, bytes } => self.held_log.push(LogJob::Read { from, bytes }),
            DiskOp::Trim { below } => self.held_log.push(LogJob::Trim { below }),
            DiskOp::Restart { next } => self.held_log.push(LogJob::Restart { next }),
            DiskOp::Superblock(superblock) => self.held_log.push(LogJob::Superblock(superblock)),
            DiskOp::Apply(effects) => {
                let weight = effects_weight(&effects);
                self.load.add(weight);
                self.held_files.push(FilesJob::Apply(effects, weight));
            }
            DiskOp::Look { ticket, look } => self.held_files.push(FilesJob::Look { ticket, look }),
            DiskOp::Checkpoint { n, snapshot } => self.held_files.push(FilesJob::Checkpoint { n, snapshot }),
            DiskOp::Damage => self.held_files.push(FilesJob::Damage),
            DiskOp::Scrub { ino, first, count } => self.held_files.push(FilesJob::Scrub { ino, first, count }),
        }
    }

    /// Asks the history; the answer goes where the job says.
    pub(crate) fn look_back(&mut self, job: HistoryJob) {
        self.held_files.push(FilesJob::History(job));
    }

    /// The log's thread does nothing for so long, as if its disk did not answer.
    pub(crate) fn hold(&mut self, time: Duration) {
        self.held_log.push(LogJob::Sleep(time));
    }

    /// Is there anything to release?
    pub(crate) const fn holds(&self) -> bool {
        !(self.held_log.is_empty() && self.held_files.is_empty())
    }

    /// K5. Never blocks.
    pub(crate) fn release(&mut self) {
        self.release_log();
        for job in self.held_files.drain(..) {
            let _ = self.files.send(job);
        }
    }

    /// What is for the log alone.
    pub(crate) fn release_log(&mut self) {
        for job in self.held_log.drain(..) {
            // A thread that is gone has announced the end of the daemon (K2): nothing has to be said here.
            let _ = self.log.send(job);
        }
    }

    pub(crate) fn load(&self) -> Arc<Load> {
        Arc::clone(&self.load)
    }

    /// Device flushes of the log since the threads were started.
    pub(crate) fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// Lets the threads finish what they were given, but for indexes, which nobody waits for any more, and hands the log
    /// back. Blocks for as long as that takes.
    ///
    /// Errors: a thread panicked.
    pub(crate) fn halt(mut self) -> Result<Log, String> {
        self.release();
        self.halted.store(true, Ordering::Relaxed);
        drop((self.log, self.files));
        let log = self.log_thread.join();
        let files = self.files_thread.join();
        let checkpoint = self.checkpoint_thread.join();
        let index = self.index_thread.join();
        let scrub = self.scrub_thread.join();
        match (log, files, checkpoint, index, scrub) {
            (Ok(log), Ok(()), Ok(()), Ok(()), Ok(())) => Ok(log),
            _ => Err("a disk thread panicked".to_string()),
        }
    }
}

fn spawn<T: Send + 'static>(
    thread: &'static str,
    fatal: &Fatal,
    run: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let fatal = fatal.clone();
    Builder::new().name(format!("brickd-{thread}")).spawn(move || {
        let _guard = Guard { fatal, thread };
        run()
    })
}

struct LogThread {
    log: Log,
    superblock: SuperblockWriter,
    flushes: Arc<AtomicU64>,
    common: Common,
}

impl LogThread {
    fn run(mut self, jobs: &Receiver<LogJob>) -> Log {
        let mut ahead = None;
        while let Some(job) = ahead.take().or_else(|| jobs.recv().ok()) {
            let result = match job {
                LogJob::Append(record, weight) => match self.append(record, weight, jobs, &mut ahead) {
                    Ok(false) => break,
                    appended => appended.map(drop),
                },
                LogJob::Read { from, bytes } => self.read(from, bytes),
                LogJob::Trim { below } => self.log.trim(below).map_err(|e| ("trim the log", e.to_string())),
                LogJob::Restart { next } => self
                    .log
                    .restart(next)
                    .map_err(|e| ("begin the log anew", e.to_string())),
                LogJob::Superblock(superblock) => self.write_superblock(&superblock),
                LogJob::Sleep(time) => {
                    thread::sleep(time);
                    Ok(())
                }
            };
            if let Err((what, why)) = result {
                self.common.fatal.end(what, why);
                break;
            }
        }
        self.log
    }

    /// K1. What is not an append ends the batch and comes next, through `ahead`. False: halted before there was room (K6).
    fn append(
        &mut self,
        first: Record,
        weight: usize,
        jobs: &Receiver<LogJob>,
        ahead: &mut Option<LogJob>,
    ) -> Result<bool, (&'static str, String)> {
        let mut batch = vec![first];
        let mut bytes = weight;
        while batch.len() < BATCH_RECORDS_MAX && bytes < BATCH_BYTES_MAX {
            match jobs.try_recv() {
                Ok(LogJob::Append(record, weight)) => {
                    batch.push(record);
                    bytes += weight;
                }
                Ok(other) => {
                    *ahead = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        let append = |log: &mut Log| {
            batch.retain(|record| record.tag.n > log.last());
            log.append(&batch)
        };
        let appended = room::wait(&self.common.halted, &mut self.log, append, |_| Ok(()));
        let Some(n) = appended.map_err(|e| ("append to the log", e.to_string()))? else {
            return Ok(false);
        };
        self.flushes.store(self.log.flushes(), Ordering::Relaxed);
        self.common.say(Done::Appended { n });
        self.common.load.done(bytes);
        Ok(true)
    }

    fn read(&mut self, from: u64, bytes: usize) -> Result<(), (&'static str, String)> {
        let done = match self.log.read(from, bytes) {
            Ok(records) => Done::Log { from, records },
            Err(LogError::Rot { n }) => Done::LogRot { n },
            Err(why) => return Err(("read the log", why.to_string())),
        };
        self.common.say(done);
        Ok(())
    }

    fn write_superblock(&mut self, superblock: &Superblock) -> Result<(), (&'static str, String)> {
        self.superblock
            .write(superblock)
            .map_err(|e| ("write the superblock", e.to_string()))?;
        self.common.say(Done::Superblock);
        Ok(())
    }
}

struct FilesThread {
    files: Files,
    checkpoints: Sender<CheckpointJob>,
    indexes: Sender<IndexJob>,
    scrubs: Sender<ScrubJob>,
    common: Common,
}

impl FilesThread {
    fn run(mut self, jobs: &Receiver<FilesJob>) {
        let mut next_space = Instant::now();
        loop {
            let now = Instant::now();
            if now >= next_space {
                next_space = now + SPACE_EVERY;
                if let Err(why) = self.look_for_space() {
                    return self.common.fatal.end("ask for the room on the brick", why);
                }
            }
            match jobs.recv_timeout(next_space.saturating_duration_since(now)) {
                Ok(job) => {
                    if !self.work(job) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// False: it failed and the daemon ends, or the disk is halted.
    fn work(&mut self, job: FilesJob) -> bool {
        match job {
            FilesJob::Apply(effects, weight) => {
                let halted = Arc::clone(&self.common.halted);
                let apply = |this: &mut Self| this.files.apply(&effects);
                let applied = room::wait(&halted, self, apply, Self::look_for_space);
                self.common.load.done(weight);
                match applied {
                    Ok(Some(())) => {}
                    Ok(None) => return false,
                    Err(why) => {
                        self.common.fatal.end("change the brick's files", why);
                        return false;
                    }
                }
            }
            FilesJob::Look {
                ticket,
                look: look @ (Look::Index { .. } | Look::RawIndex { .. } | Look::Copy { .. } | Look::Digests { .. }),
            } => match self.files.leisure(&look) {
                Ok(leisure) => drop(self.indexes.send(IndexJob::Look { ticket, leisure })),
                Err(errno) => self.answer(ticket, Err(errno)),
            },
            FilesJob::Look { ticket, look } => {
                let result = self.files.look(&look);
                if let Some(why) = self.files.take_trouble() {
                    self.common.fatal.end("read the brick's files", why);
                    return false;
                }
                self.answer(ticket, result);
            }
            FilesJob::Damage => {
                let (bad, doubtful) = self.files.damage();
                self.common.say(Done::Damage { bad, doubtful });
            }
            FilesJob::Scrub { ino, first, count } => {
                let scrub = self.files.scrub(ino);
                let job = ScrubJob {
                    ino,
                    scrub,
                    first,
                    count,
                };
                drop(self.scrubs.send(job));
            }
            FilesJob::History(job) => drop(self.indexes.send(IndexJob::history(&self.files, job))),
            FilesJob::Checkpoint { n, snapshot } => {
                let touched = self.files.take_touched();
                let _ = self.checkpoints.send(CheckpointJob { touched, n, snapshot });
            }
        }
        true
    }

    fn answer(&self, ticket: u64, result: Result<Seen, Errno>) {
        self.common.say(Done::Answer { ticket, result });
    }

    fn look_for_space(&mut self) -> io::Result<()> {
        self.files.make_room()?;
        self.common.say(Done::Space(self.files.space()?));
        Ok(())
    }
}

fn run_checkpoints(mut checkpointer: Checkpointer, jobs: &Receiver<CheckpointJob>, common: &Common) {
    for CheckpointJob { touched, n, snapshot } in jobs {
        let written = Durable::make(&touched).and_then(|durable| {
            let write = |checkpointer: &mut Checkpointer| checkpointer.write(&durable, n, &snapshot);
            room::wait(&common.halted, &mut checkpointer, write, |_| Ok(()))
        });
        match written {
            Ok(Some(())) => common.say(Done::Checkpoint { n }),
            Ok(None) => return,
            Err(why) => return common.fatal.end("write a checkpoint", why),
        }
    }
}

fn record_weight(record: &Record) -> usize {
    let data = match &record.body {
        Body::Op { op, .. } => op_weight(op),
        Body::Merge { ops, .. } => ops.iter().map(op_weight).sum(),
        Body::Quarantine { op } => op_weight(op),
        _ => 0,
    };
    JOB_BYTES + data
}

fn op_weight(op: &Op) -> usize {
    match op {
        Op::Stage { extents, .. } | Op::Commit { extents, .. } => extents.iter().map(|e| e.data.len()).sum(),
        _ => 0,
    }
}

fn effects_weight(effects: &[Effect]) -> usize {
    let data = effects.iter().map(|effect| match effect {
        Effect::Write { extents, .. } => extents.iter().map(|e| e.data.len()).sum(),
        Effect::Repair { bytes, .. } | Effect::Combine { theirs: bytes, .. } | Effect::Damaged { bytes, .. } => {
            bytes.len()
        }
        _ => 0,
    });
    JOB_BYTES + data.sum::<usize>()
}

#[cfg(test)]
mod tests;
