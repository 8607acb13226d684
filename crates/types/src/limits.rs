//! Every bound of the system, by name and unit (law L13).
//!
//! Promises: relations between the numbers are asserted here, at compile time.

use crate::Nanos;

/// Version spoken in the first message of each conversation; another one is refused.
pub const PROTOCOL_VERSION: u32 = 1;
/// Version of the brick directory; a newer one is refused.
pub const FORMAT_VERSION: u32 = 1;
/// Default TCP port.
pub const PORT: u16 = 24009;

/// Heartbeats between bricks, and between mount and brick.
pub const BEAT: Nanos = Nanos::from_millis(150);
/// A brick answers from leases this long after it sent a ping that was answered.
pub const SERVE: Nanos = Nanos::from_millis(900);
/// A brick that answered a ping does not go on alone for this long.
pub const PROMISE: Nanos = Nanos::from_millis(1000);
/// After taking over, how long sessions of the lost brick are awaited.
pub const GRACE: Nanos = Nanos::from_millis(1200);
/// After losing its connection, how long a session may re-attach before its locks go.
pub const REATTACH: Nanos = Nanos::from_millis(2000);
/// A mount gives up a brick that says nothing for so long: not before the other one can have decided to go on without it,
/// and in time for the grace there, so that its locks are kept.
pub const SILENCE: Nanos = Nanos::from_millis(1200);
/// A brick that was one of two and starts without its peer waits this long before it goes on alone.
pub const BOOT_WAIT: Nanos = Nanos::from_millis(10_000);
/// A brick whose disk has not answered for this long serves nobody until it does (PROTOCOL.md 9.2).
pub const STALL: Nanos = Nanos::from_millis(2000);
/// Whoever changes a brick's files says so often how much room there is, between two changes: so it is known not to be stuck.
pub const SPACE_EVERY: Nanos = Nanos::from_millis(1000);
/// After a stall the brick keeps away from its peer for this long; doubled by each further stall ...
pub const REST: Nanos = Nanos::from_millis(1000);
/// ... up to this,
pub const REST_MAX: Nanos = Nanos::from_millis(300_000);
/// until there was none for so long.
pub const REST_FORGOTTEN: Nanos = Nanos::from_millis(600_000);
/// A brick whose log takes this long for most syncs ...
pub const SLOW_SYNC: Nanos = Nanos::from_millis(500);
/// ... and so many times as long as its peer's leaves as well.
pub const SLOW_RATIO: u64 = 20;
/// What a drill breaks stays broken for this long: longer than every decision about it.
pub const DRILL: Nanos = Nanos::from_millis(5000);
/// Words of a brick about why it left.
pub const REASON_BYTES_MAX: usize = 500;
/// A mount that can reach no brick answers ESTALE after this long; longer than any session can live unattached.
pub const OP_TIMEOUT: Nanos = Nanos::from_millis(15_000);
/// The backup leaves the primary this much time at the witness, so that in a partition the one who numbers wins.
pub const BACKUP_DELAY: Nanos = Nanos::from_millis(250);
/// The witness answers within this, or is asked again.
pub const WITNESS_RETRY: Nanos = Nanos::from_millis(500);
/// A brick that works with its peer looks at the witness's register this often.
pub const WITNESS_LOOK: Nanos = Nanos::from_millis(30_000);
/// Registers that one witness keeps.
pub const REGISTERS_MAX: usize = 256;
/// Another node's unlocked write waits this long for a lock session to end.
pub const HOLD: Nanos = Nanos::from_millis(2000);
/// Who takes a lock without waiting (F_SETLK, LOCK_NB, a dotlock) waits this long for its release before EAGAIN or EEXIST:
/// mail programs hold locks for milliseconds and sleep for seconds between two tries (MAIL.md 8.3).
pub const LOCK_WAIT: Nanos = Nanos::from_millis(300);
/// A dotlock is removed when its maker and that one's parent have been gone for this long.
pub const DOTLOCK_ORPHAN: Nanos = Nanos::from_millis(2000);

/// A merge that failed is tried again after this long.
pub const MERGE_RETRY: Nanos = Nanos::from_millis(5000);

/// The kernel keeps attributes of a leased inode at most this long unasked ...
pub const ATTR_TTL: Nanos = Nanos::from_millis(500);
/// ... and forgets them this long before the right to serve ends: an answer needs time to reach it.
pub const ATTR_MARGIN: Nanos = Nanos::from_millis(50);

/// A thread that was answered has its turn, and the kernel looks at the answer, within this.
pub const ATTR_LATE: Nanos = Nanos::from_millis(100);
/// A thread that has not called for so long is forgotten.
pub const THREAD_KNOWN: Nanos = Nanos::from_millis(2000);

/// The kernel keeps a dotlock that it has just made for this long, and need not ask for its attributes to open it ...
pub const DOTLOCK_TTL: Nanos = Nanos::from_millis(1);
/// ... which can last, since it counts in jiffies, of 10 ms at most, up to this.
pub const DOTLOCK_KEPT: Nanos = Nanos::from_millis(25);

/// A mount that holds more leases gives those back that were not used for a second; it never refuses to hold one.
pub const LEASES_MAX: usize = 20_000;

/// Content of a dotlock.
pub const DOTLOCK_BYTES_MAX: usize = 4 << 10;
/// Bytes in one extent of a commit, and in one read.
pub const EXTENT_BYTES_MAX: usize = 1 << 20;
/// Room that an extent takes in a message beside its bytes.
pub const EXTENT_HEAD_BYTES: usize = 32;
/// Bytes of changes in one record, heads of extents included; a larger lock session is sent in several `Stage` records.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Bytes that a lock session may stage before it is committed in pieces.
pub const STAGED_BYTES_MAX: usize = 32 << 20;
/// Who reads a bad block waits this long for its repair.
pub const REPAIR_WAIT: Nanos = Nanos::from_millis(5000);
/// A bad block that the peer could not give is asked for again after this long,
pub const REPAIR_RETRY: Nanos = Nanos::from_millis(1000);
/// or this, if it is bad there, too.
pub const REPAIR_RETRY_BOTH: Nanos = Nanos::from_millis(60_000);
/// Bad blocks that are asked for at the same time.
pub const REPAIRS_MAX: usize = 16;
/// A file with more blocks that are bad on both bricks stays as it is: its disk is failing as a whole.
pub const QUARANTINE_BLOCKS_MAX: usize = 256;
/// What has to be written to take damaged messages out of a mailbox is held in memory; with more the file stays as it is.
pub const QUARANTINE_BYTES_MAX: u64 = 256 << 20;
/// A step of taking damaged messages out of a mailbox that makes no progress is given up after this long.
pub const QUARANTINE_PATIENCE: Nanos = Nanos::from_millis(30_000);
/// Damaged files that a report names.
pub const BAD_FILES_MAX: usize = 1000;
/// A pass over all files looks for rot this often,
pub const SCRUB_EVERY: Nanos = Nanos::from_millis(7 * 24 * 3600 * 1000);
/// not in the first minutes after a start,
pub const SCRUB_FIRST: Nanos = Nanos::from_millis(600_000);
/// with at most so many bytes a second,
pub const SCRUB_BYTES_PER_SECOND: u64 = 4 << 20;
/// so many blocks at a time.
pub const SCRUB_BLOCKS: u64 = 16;
/// Bytes that one checksum of a file at rest is of.
pub const SUM_BLOCK_BYTES: u64 = 64 << 10;
/// Bytes executed before a checkpoint is written.
pub const CHECKPOINT_BYTES: usize = 32 << 20;
/// Longest gRPC message: a record, its head, and room.
pub const MESSAGE_BYTES_MAX: usize = RECORD_BYTES_MAX + (256 << 10);
/// Largest file.
pub const FILE_BYTES_MAX: u64 = 1 << 40;
/// Names in one answer to a directory query.
pub const DIR_ENTRIES_MAX: usize = 4096;
/// Symbolic link targets and extended attribute values.
pub const VALUE_BYTES_MAX: usize = 4096;
/// Hard links to one inode.
pub const LINKS_MAX: u32 = 32_000;
/// The history of changes, and messages that were removed, are kept this long, unless brickd is told otherwise,
pub const RETAIN_AGE: Nanos = Nanos::from_millis(86_400_000);
/// in at most this part of the brick's disk,
pub const RETAIN_SHARE: u64 = 20;
/// and not more than this.
pub const RETAIN_BYTES_MAX: u64 = 8 << 30;
/// When less than this is free on a brick's disk beside its reserve, history is let go: two segments of the log fit.
pub const RETAIN_FREE_MIN: u64 = 128 << 20;
/// Bytes of the log kept for an absent peer before it has to be healed by comparing files. A start reads all of it. Also for
/// one that is being healed: when it has not come to its end by then it begins again, with what it has.
pub const LOG_DEBT_BYTES_MAX: usize = 1 << 30;
/// Objects that are known to have changed since the peer left; when there are more, all are compared.
pub const DEBT_OBJECTS_MAX: usize = 100_000;
/// Files are compared in blocks of so many bytes ...
pub const BLOCK_BYTES: usize = 64 << 10;
/// ... by checksums of so many bytes (BLAKE3) ...
pub const DIGEST_BYTES: usize = 16;
/// ... of so many bytes of the file at a time.
pub const DIGEST_SPAN: u64 = 16 << 20;
/// Bytes of a file that one question of a resync asks for, and of records that are sent at a time while mail is written, but
/// for the last one: nothing that mounts wait for stands behind more than these.
pub const COPY_BYTES_MAX: usize = 256 << 10;
/// Bytes of the state in one answer.
pub const STATE_PART_BYTES: usize = 512 << 10;
/// Inodes in one answer about extended attributes.
pub const XATTR_INODES_MAX: usize = 128;
/// Bytes of records that are sent at a time while nobody waits for anything else.
pub const SUFFIX_BYTES_MAX: usize = 1 << 20;
/// Bytes of mail that a brick gets from its peer in a second, at most, as files or as records that it missed.
pub const COPY_RATE: u64 = 96 << 20;
/// What it may be ahead of that rate.
pub const COPY_BURST: Nanos = Nanos::from_millis(100);
/// While mail is being written the one that serves lets it wait up to this long for each answer, and for each batch ...
pub const COPY_YIELD: Nanos = Nanos::from_millis(10);
/// ... and between two batches is at least this much time ...
pub const COPY_PAUSE: Nanos = Nanos::from_millis(20);
/// ... and this between two answers.
pub const ANSWER_PAUSE: Nanos = Nanos(1_500_000);
/// An answer that does not come within this ends a resync; it begins again, with what it has.
pub const COPY_PATIENCE: Nanos = Nanos::from_millis(30_000);
/// Free bytes that a brick keeps for expunge and heal; below them writes get ENOSPC.
pub const RESERVE_BYTES: u64 = 16 << 20;
/// Free inodes that a brick keeps for its own files; below them new files get ENOSPC.
pub const RESERVE_INODES: u64 = 256;

// 5 % clock drift each way must not let a brick serve after its peer has gone on alone.
const _: () = assert!(SERVE.0 * 105 < PROMISE.0 * 95);
const _: () = assert!(BEAT.0 * 4 < SERVE.0 && SLOW_SYNC.0 < STALL.0);
const _: () = assert!(PROMISE.0 < SILENCE.0 && SILENCE.0 < SERVE.0 + GRACE.0);
// What the kernel may yet look at was answered by this daemon: a successor takes no lease before `ATTR_TTL`.
const _: () = assert!(ATTR_LATE.0 < ATTR_TTL.0 && ATTR_LATE.0 < THREAD_KNOWN.0);
const _: () = assert!(DRILL.0 > 2 * STALL.0 && DRILL.0 > PROMISE.0 + GRACE.0);
// I31: a failover that the witness decides stays below 3 s, one unanswered question included.
const _: () = assert!(PROMISE.0 + BACKUP_DELAY.0 + WITNESS_RETRY.0 + GRACE.0 < 3_000_000_000);
const _: () = assert!(OP_TIMEOUT.0 > PROMISE.0 + GRACE.0 + REATTACH.0);
const _: () = assert!(CHECKPOINT_BYTES >= STAGED_BYTES_MAX);
const _: () = assert!(COPY_BYTES_MAX <= EXTENT_BYTES_MAX && STATE_PART_BYTES <= EXTENT_BYTES_MAX);
const _: () = assert!(COPY_BYTES_MAX < SUFFIX_BYTES_MAX);
const _: () = assert!(COPY_BYTES_MAX.is_multiple_of(BLOCK_BYTES) && DIGEST_SPAN.is_multiple_of(BLOCK_BYTES as u64));
const _: () = assert!(STAGED_BYTES_MAX >= RECORD_BYTES_MAX && RECORD_BYTES_MAX >= EXTENT_BYTES_MAX);
