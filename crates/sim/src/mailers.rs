//! Programs that use a mount: one system call after the other, as MAIL.md section 2 saw them.
//!
//! Promises: a program knows only what it was answered. What it was promised it tells the oracle when it was promised; so a
//! program that is killed has promised nothing more.
//! Not here: what the kernel does for it (`kernel`, `world::programs`).

mod dovecot;
mod letterbox;
mod mutt;
mod postfix;
mod reader;
mod unlocked;

pub use dovecot::Dovecot;
pub use mutt::{DOTTED, Mutt};
pub use postfix::Postfix;
pub use reader::Reader;
pub use unlocked::Unlocked;

use crate::{kernel::Kernel, oracle::Oracle};
use mboxfs_client::{input::Call, output::Answer};
use mboxfs_types::{Errno, Ino, Nanos};

/// What a program does next.
#[derive(Debug)]
pub enum Next {
    /// This system call.
    Call(Call),
    /// The kernel asks for the size, for lseek(2) to the end of this file.
    Seek(Ino),
    /// It sleeps for so many ms.
    Pause(u64),
    /// It ends.
    Exit,
}

/// What a program may look at, and tell.
pub struct Around<'a> {
    pub oracle: &'a mut Oracle,
    pub(crate) kernel: &'a Kernel,
    /// Its clock.
    pub(crate) mono: Nanos,
    /// In ns.
    pub now: u64,
    /// The mount that it uses.
    pub mount: usize,
    /// Number of the process; the kernel's owner number of its locks, too.
    pub pid: u32,
}

/// A program.
pub trait Program {
    /// The next step, given the answer to the one before; none after a pause and at the start.
    ///
    /// # Errors
    /// The invariant that the answer breaks, and how.
    fn next(&mut self, around: &mut Around<'_>, answer: Option<Result<Answer, Errno>>) -> Result<Next, Wrong>;

    /// For the journal.
    fn name(&self) -> String;
}

/// An answer that no program may get: invariant, law, and why.
#[derive(Clone, Debug)]
pub struct Wrong(pub &'static str, pub &'static str, pub String);

pub(crate) type Answered = Option<Result<Answer, Errno>>;

/// Sleeps of a program that has to try again, in ms: Postfix and Dovecot do it once a second.
pub(crate) const AGAIN: u64 = 250;
