//! What must be true: one file for each, with its number in PROTOCOL.md section 12 and the law that it serves.
//!
//! Promises: they see what leaves the brains and what is on the disks; they ask the brains nothing that could be wrong in the
//! same way. Answers to programs are checked by the programs themselves (`mailers`: I10, I14, I16, I21, I23), assertions of
//! the brains by themselves (I3, I11, I12).
//! Not here: the end of a world (`run`).

mod i01_durable;
mod i02_one_record;
mod i03_committed;
mod i04_once;
mod i06_alone;
mod i07_one_line;
mod i09_learner;
mod i14_exclusive;
mod i17_mtime;
mod i20_no_stale_locks;
mod i22_once_in_the_box;
mod i24_errors;
mod i26_until_merged;
mod i27_healed;
mod i28_inode_stays;
mod i29_incomplete;
mod i33_rot;

pub(crate) use i03_committed::{bricks_are_equal, difference};
pub(crate) use i20_no_stale_locks::no_locks_left;
pub(crate) use i22_once_in_the_box::mailboxes_are_right;
pub(crate) use i33_rot::no_rot_left;

use crate::world::World;
use mboxfs_brick::output::Output;
use mboxfs_client::{
    input::{Call, Caller},
    output::Answer,
};
use mboxfs_types::{Errno, call::ToMount};
use std::fmt;

/// What broke.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    pub invariant: &'static str,
    pub law: &'static str,
    pub why: String,
}

impl Broken {
    #[must_use]
    pub const fn new(invariant: &'static str, law: &'static str, why: String) -> Self {
        Self { invariant, law, why }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (law {}): {}", self.invariant, self.law, self.why)
    }
}

/// What a checker is told.
#[derive(Debug)]
pub enum Fact<'a> {
    /// A brick says something; it has not left yet.
    Says {
        brick: usize,
        output: &'a Output,
    },
    /// A brick has taken a step.
    Step {
        brick: usize,
    },
    /// A disk has done something.
    Written {
        brick: usize,
    },
    /// A brick's word has come to a mount.
    Hears {
        mount: usize,
        frame: &'a ToMount,
    },
    /// The kernel of a mount asks.
    Asks {
        mount: usize,
        caller: Caller,
        call: &'a Call,
    },
    /// It is answered. `pid` 0: nobody waits for it.
    Answers {
        mount: usize,
        pid: u32,
        call: &'a Call,
        result: &'a Result<Answer, Errno>,
    },
    Tick,
}

/// A checker.
pub trait Watch {
    /// Invariant and law.
    fn names(&self) -> (&'static str, &'static str);

    /// # Errors
    /// Why it does not hold.
    fn see(&mut self, world: &World, fact: &Fact<'_>) -> Result<(), String>;
}

/// All of them.
#[must_use]
pub fn all() -> Vec<Box<dyn Watch>> {
    vec![
        Box::new(i01_durable::Durable),
        Box::new(i02_one_record::OneRecord::default()),
        Box::new(i03_committed::Committed),
        Box::new(i04_once::Once),
        Box::new(i06_alone::Alone::default()),
        Box::new(i07_one_line::OneLine::default()),
        Box::new(i09_learner::Learner::default()),
        Box::new(i14_exclusive::Exclusive::default()),
        Box::new(i17_mtime::Mtime::default()),
        Box::new(i24_errors::Errors),
        Box::new(i26_until_merged::UntilMerged::default()),
        Box::new(i27_healed::Healed::default()),
        Box::new(i28_inode_stays::InodeStays::default()),
        Box::new(i29_incomplete::Incomplete),
        Box::new(i33_rot::Rot::default()),
    ]
}
