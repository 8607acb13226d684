//! Bugs that can be planted, to see that the simulator finds them.
//!
//! Promises: without the feature `planted` there are none, and asking costs nothing. No product build has it.
//! Not here: the bugs: each is one line at the place that it breaks.

/// A bug.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Bug {
    /// Replies leave before the peer has the record durable (L1).
    ReplyBeforePeer = 1,
    /// Records are executed before the own log is synced (L1).
    AckBeforeSync,
    /// The log is written and not synced (L1).
    SyncForgotten,
    /// The survivor makes its peer a member before that one has everything (L1).
    LearnerEarly,
    /// The survivor goes on alone while its peer joins (L1).
    JointAlone,
    /// A brick goes on alone without having written it down (L1).
    SoloUnrecorded,
    /// A brick goes on alone without asking the witness (L2).
    WitnessUnasked,
    /// A view opens before all mounts have said what they hold (L5).
    GraceSkipped,
    /// A request that was executed is executed again when it comes again (L1).
    RetriedTwice,
    /// A write that the next daemon is asked again is staged again (L1).
    WrittenTwice,
    /// Locks of a session stay when it ends (L7).
    LocksOutlive,
    /// What the peer changed is not merged (L8).
    OneSideWins,
    /// A mount serves from its leases in a view that did not confirm them (L3).
    LeaseKept,
    /// The kernel keeps attributes of leases that are gone (L3).
    KernelNotTold,
    /// The kernel is told a time before it surely has the size (L6).
    SizeNotSeen,
    /// Dotlocks of dead programs stay (L7).
    DotlockNotReaped,
    /// fsync answers before the commit (L1).
    FsyncLies,
    /// Appends land where the kernel thought the end was (L4).
    OffsetBelieved,
    /// Blocks are kept after their lease is gone (L3).
    CacheKept,
    /// A lease is given away without the locks that are held under it (L5).
    LockGivenAway,
    /// mtime need not move by a second when another node writes (L3).
    SecondsStand,
    /// Bytes that do not fit their checksum are given out (L12).
    RotServed,
    /// A log is cut where it has rotted (L12).
    RotCut,
}

#[cfg(feature = "planted")]
static PLANTED: core::sync::atomic::AtomicU8 = core::sync::atomic::AtomicU8::new(0);

impl Bug {
    /// Is this bug planted?
    #[cfg(feature = "planted")]
    #[must_use]
    pub fn here(self) -> bool {
        PLANTED.load(core::sync::atomic::Ordering::Relaxed) == self as u8
    }

    /// Is this bug planted?
    #[cfg(not(feature = "planted"))]
    #[must_use]
    pub const fn here(self) -> bool {
        false
    }

    /// Plants one bug, or none, in the whole process.
    #[cfg(feature = "planted")]
    pub fn plant(bug: Option<Self>) {
        PLANTED.store(bug.map_or(0, |b| b as u8), core::sync::atomic::Ordering::Relaxed);
    }
}
