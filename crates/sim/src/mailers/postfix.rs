//! Postfix local(8): dotlock, open with O_APPEND or create with O_EXCL, fcntl lock, fstat, write, fsync, close (MAIL.md 2.1).
//!
//! Promises: what failed with EEXIST, EAGAIN, ESTALE or ENOSPC is tried again later, as a new message. What Postfix would
//! bounce is a broken law (L9): above all a mailbox that exists for the create and does not for the look behind it.
//! Not here: time.

use super::{
    AGAIN, Answered, Around, Next, Program, Wrong,
    letterbox::{APPEND, create, flush, lock, look, truncate, unlink},
};
use crate::{
    letter::{self, Id},
    oracle::Fate,
};
use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begin,
    Dotlock,
    Look,
    Open,
    Create,
    Lock,
    Stat,
    Write,
    Sync,
    Undo,
    Close,
    Release,
    Undot,
    Exit,
}

/// One message for one mailbox, until it is acknowledged.
#[derive(Clone, Debug)]
pub struct Postfix {
    mailbox: String,
    lines: u32,
    /// write(2) calls per message.
    writes: usize,
    step: Step,
    ino: Ino,
    fh: Option<Fh>,
    exists: bool,
    id: Id,
    size: u64,
    written: usize,
    /// fsync said yes.
    synced: bool,
    /// The disk is full, and nothing was left behind.
    refused: bool,
    /// The session is gone, it was told.
    given_up: bool,
    bytes: Vec<u8>,
}

impl Postfix {
    #[must_use]
    pub fn new(mailbox: &str, lines: u32, writes: usize) -> Self {
        Self {
            mailbox: mailbox.into(),
            lines,
            writes,
            step: Step::Begin,
            ino: Ino(0),
            fh: None,
            exists: false,
            id: 0,
            size: 0,
            written: 0,
            synced: false,
            refused: false,
            given_up: false,
            bytes: Vec::new(),
        }
    }

    fn begin(&mut self) {
        self.fh = None;
        self.exists = false;
        self.id = 0;
        self.written = 0;
        (self.refused, self.given_up) = (false, false);
    }

    fn after(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Result<Step, Wrong> {
        Ok(match (self.step, answer) {
            (Step::Dotlock, Ok(_)) => Step::Look,
            (Step::Dotlock, Err(_)) => Step::Exit,
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Step::Open
            }
            (Step::Look, Err(Errno::ENOENT)) if self.exists => {
                let why = format!("{} exists and is not found: a bounce", self.mailbox);
                return Err(Wrong("I24", "L9", why));
            }
            (Step::Look, Err(Errno::ENOENT)) => Step::Create,
            (Step::Create, Err(Errno::EEXIST)) => {
                self.exists = true;
                Step::Look
            }
            (Step::Create, Ok(Answer::Created { attr, fh, .. })) => self.opened(attr.ino, fh),
            (Step::Open, Ok(Answer::Opened { fh, .. })) => self.opened(self.ino, fh),
            (Step::Lock, Ok(_)) => {
                around.oracle.session_begins(around.mount, &self.mailbox, around.pid);
                Step::Stat
            }
            (Step::Stat, Ok(Answer::Attr { attr, .. })) => {
                self.size = attr.size;
                self.id = around.oracle.begin(&self.mailbox, self.lines);
                self.bytes = letter::write(self.id, self.lines);
                Step::Write
            }
            (Step::Write, Ok(Answer::Written(n))) => {
                self.written += n as usize;
                if self.written < self.bytes.len() {
                    Step::Write
                } else {
                    Step::Sync
                }
            }
            (Step::Write, Err(errno)) => {
                self.refused = errno == Errno::ENOSPC;
                self.given_up = errno == Errno::ESTALE;
                Step::Undo
            }
            (Step::Sync, Ok(_)) => {
                self.synced = true;
                around.oracle.keeps(self.id, around.now, around.mount);
                Step::Close
            }
            (Step::Sync | Step::Undo | Step::Close | Step::Release, answer) => self.after_writing(around, answer)?,
            (Step::Undot, Err(errno)) => {
                let why = format!("unlink of the own dotlock of {}: {errno:?}", self.mailbox);
                return Err(Wrong("I23", "L7", why));
            }
            (Step::Undot, Ok(_)) => Step::Exit,
            // Failed on the way: what is open is closed, the dotlock goes.
            _ if self.fh.is_some() => Step::Close,
            _ => Step::Undot,
        })
    }

    /// What fails once there is something to lose.
    fn after_writing(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Result<Step, Wrong> {
        Ok(match (self.step, answer) {
            // What is there now nobody knows, as on a local disk.
            (Step::Sync, Err(errno)) => {
                self.given_up = errno == Errno::ESTALE;
                Step::Undo
            }
            (Step::Undo, answer) => {
                // What was staged went with a session that was given up. A mailbox that was made in a line of history of its
                // own may not be there any more.
                let lost = self.given_up || around.oracle.forked || around.oracle.own_line != [false; 2];
                if let Err(errno) = answer
                    && !(lost && errno == Errno::ESTALE)
                {
                    return Err(Wrong("I23", "L9", format!("ftruncate to what it was: {errno:?}")));
                }
                Step::Close
            }
            (Step::Close, answer) => {
                if let (true, Err(errno)) = (self.synced, &answer) {
                    return Err(Wrong("I23", "L9", format!("close after a good fsync: {errno:?}")));
                }
                if self.refused && answer.is_ok() {
                    let refused = around.oracle.letters.get_mut(&self.id);
                    refused.into_iter().for_each(|l| l.fate = Fate::Refused);
                }
                Step::Release
            }
            (Step::Release, _) => {
                around.oracle.session_ends(around.mount, &self.mailbox, around.pid);
                self.fh = None;
                Step::Undot
            }
            (step, _) => step,
        })
    }

    fn opened(&mut self, ino: Ino, fh: Fh) -> Step {
        self.ino = ino;
        self.fh = Some(fh);
        Step::Lock
    }

    fn call(&self, pid: u32) -> Option<Call> {
        let (ino, fh) = (self.ino, self.fh.unwrap_or(Fh(0)));
        let dotlock = format!("{}.lock", self.mailbox);
        Some(match self.step {
            Step::Begin | Step::Exit => return None,
            Step::Dotlock => create(&dotlock, 0, APPEND),
            Step::Look => look(&self.mailbox),
            Step::Open => Call::Open { ino, flags: APPEND },
            Step::Create => create(&self.mailbox, 0o600, APPEND),
            Step::Lock => lock(ino, pid, Some(LockKind::Exclusive), false),
            Step::Stat => Call::GetAttr { ino },
            Step::Write => {
                let piece = self.bytes.len().div_ceil(self.writes);
                let to = (self.written + piece).min(self.bytes.len());
                // The kernel's offset may be old: O_APPEND decides (L4).
                let data = Bytes::copy_from_slice(&self.bytes[self.written..to]);
                Call::Write {
                    ino,
                    fh,
                    offset: 0,
                    data,
                }
            }
            Step::Sync => Call::Fsync { ino, fh },
            Step::Undo => truncate(ino, fh, self.size),
            Step::Close => flush(ino, fh, pid),
            Step::Release => Call::Release { ino, fh, flock: None },
            Step::Undot => unlink(&dotlock),
        })
    }
}

impl Program for Postfix {
    fn next(&mut self, around: &mut Around<'_>, answer: Answered) -> Result<Next, Wrong> {
        self.step = match answer {
            None => {
                self.begin();
                Step::Dotlock
            }
            Some(answer) => self.after(around, answer)?,
        };
        Ok(match self.call(around.pid) {
            Some(call) => Next::Call(call),
            None if self.synced => Next::Exit,
            None => Next::Pause(AGAIN),
        })
    }

    fn name(&self) -> String {
        format!("postfix to {}", self.mailbox)
    }
}
