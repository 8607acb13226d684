//! Dovecot: fcntl lock, read all, move what stays over what goes with pwrite, set flags, cut, unlock, close (MAIL.md 2.2).
//!
//! Promises: nobody ever sees half of it (L6); what it removed and was told so stays away (L8); it sees all that was
//! acknowledged before it got its lock (L3).
//! Not here: its dotlocks (`mutt` makes them).

use super::{
    AGAIN, Answered, Around, Next, Program, Wrong,
    letterbox::{READ_WRITE, Reading, flush, lock, look, truncate},
};
use crate::letter::{self, Id};
use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind};

/// Bytes of one pwrite(2).
const PIECE: usize = 700;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begin,
    Look,
    Open,
    Lock,
    Stat,
    Read,
    Write,
    Cut,
    Sync,
    Unlock,
    Close,
    Release,
    Exit,
}

/// Expunges every n-th message and marks the others as read, until it was told that it has.
#[derive(Clone, Debug)]
pub struct Dovecot {
    mailbox: String,
    /// Removes messages whose number leaves 0 when divided by this; 0: none.
    every: u32,
    flags: bool,
    sync: bool,
    unlocks: bool,
    step: Step,
    ino: Ino,
    fh: Fh,
    size: u64,
    due: Vec<Id>,
    reading: Reading,
    new: Vec<u8>,
    at: usize,
    gone: Vec<Id>,
    good: bool,
    done: bool,
}

impl Dovecot {
    /// `how`: bits, whether it sets flags, syncs, unlocks before it closes.
    #[must_use]
    pub fn new(mailbox: &str, every: u32, how: u32) -> Self {
        Self {
            mailbox: mailbox.into(),
            every,
            flags: how & 1 != 0,
            sync: how & 2 != 0,
            unlocks: how & 4 != 0,
            step: Step::Begin,
            ino: Ino(0),
            fh: Fh(0),
            size: 0,
            due: Vec::new(),
            reading: Reading::default(),
            new: Vec::new(),
            at: 0,
            gone: Vec::new(),
            good: true,
            done: false,
        }
    }

    fn after(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Result<Step, Wrong> {
        Ok(match (self.step, answer) {
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Step::Open
            }
            (Step::Open, Ok(Answer::Opened { fh, .. })) => {
                self.fh = fh;
                Step::Lock
            }
            // What was promised before the lock is there when it is granted (L3).
            (Step::Lock, Ok(_)) => {
                around.oracle.session_begins(around.mount, &self.mailbox, around.pid);
                self.due = around.oracle.due(&self.mailbox, around.mount);
                Step::Stat
            }
            (Step::Stat, Ok(Answer::Attr { attr, .. })) => {
                self.size = attr.size;
                self.reading = Reading::default();
                Step::Read
            }
            (Step::Read, Ok(Answer::Data(bytes))) => {
                if self.reading.take(&bytes) {
                    self.plan(around)?
                } else {
                    Step::Read
                }
            }
            (Step::Write, Ok(_)) => {
                self.at = (self.at + PIECE).min(self.new.len());
                if self.at < self.new.len() {
                    Step::Write
                } else {
                    Step::Cut
                }
            }
            (Step::Cut, Ok(_)) if self.sync => Step::Sync,
            (Step::Cut, Ok(_)) if self.unlocks => Step::Unlock,
            (Step::Cut, Ok(_)) => Step::Close,
            (Step::Sync, answer) => {
                self.good &= answer.is_ok();
                if self.unlocks { Step::Unlock } else { Step::Close }
            }
            (Step::Unlock, answer) => {
                self.good &= answer.is_ok();
                Step::Close
            }
            (Step::Close, answer) => {
                if self.good && answer.is_ok() {
                    self.done = true;
                    around.oracle.removes(&self.gone, true);
                }
                Step::Release
            }
            (Step::Release, _) => {
                around.oracle.session_ends(around.mount, &self.mailbox, around.pid);
                Step::Exit
            }
            (Step::Look | Step::Open, _) => Step::Exit,
            _ => {
                self.good = false;
                Step::Close
            }
        })
    }

    fn plan(&mut self, around: &mut Around<'_>) -> Result<Step, Wrong> {
        let read = std::mem::take(&mut self.reading.data);
        if read.len() as u64 != self.size {
            let why = format!("stat says {} bytes under the lock, read {}", self.size, read.len());
            return Err(Wrong("I16", "L3", why));
        }
        let letters = letter::split(&read).map_err(|why| Wrong("I21", "L6", format!("in {}: {why}", self.mailbox)))?;
        let ids: Vec<Id> = letters.iter().map(|l| l.0).collect();
        let missing = around.oracle.missing(&self.due, &ids, around.mount);
        if !missing.is_empty() {
            let why = format!(
                "under its lock {} lacks {missing:?} at mount {}",
                self.mailbox, around.mount
            );
            return Err(Wrong("I10", "L3", why));
        }
        self.new.clear();
        self.gone.clear();
        for (id, text) in letters {
            if self.every > 0 && id % self.every == 0 {
                self.gone.push(id);
            } else if self.flags {
                self.new.extend(letter::with_status(text, "RO"));
                around
                    .oracle
                    .letters
                    .get_mut(&id)
                    .into_iter()
                    .for_each(|l| l.flagged = true);
            } else {
                self.new.extend_from_slice(text);
            }
        }
        self.at = self.new.iter().zip(&read).take_while(|(a, b)| a == b).count();
        if self.new == read {
            self.done = true;
            return Ok(Step::Close);
        }
        around.oracle.removes(&self.gone, false);
        Ok(if self.at < self.new.len() {
            Step::Write
        } else {
            Step::Cut
        })
    }

    fn call(&self, pid: u32) -> Option<Call> {
        let (ino, fh) = (self.ino, self.fh);
        Some(match self.step {
            Step::Begin | Step::Exit => return None,
            Step::Look => look(&self.mailbox),
            Step::Open => Call::Open { ino, flags: READ_WRITE },
            Step::Lock => lock(ino, pid, Some(LockKind::Exclusive), true),
            Step::Stat => Call::GetAttr { ino },
            Step::Read => self.reading.call(ino, fh),
            Step::Write => {
                let to = (self.at + PIECE).min(self.new.len());
                let data = Bytes::copy_from_slice(&self.new[self.at..to]);
                Call::Write {
                    ino,
                    fh,
                    offset: self.at as u64,
                    data,
                }
            }
            Step::Cut => truncate(ino, fh, self.new.len() as u64),
            Step::Sync => Call::Fsync { ino, fh },
            Step::Unlock => lock(ino, pid, None, false),
            Step::Close => flush(ino, fh, pid),
            Step::Release => Call::Release { ino, fh, flock: None },
        })
    }
}

impl Program for Dovecot {
    fn next(&mut self, around: &mut Around<'_>, answer: Answered) -> Result<Next, Wrong> {
        let first = matches!(&answer, Some(Err(Errno::ENOENT)) if self.step == Step::Look);
        self.step = match answer {
            None => {
                self.good = true;
                Step::Look
            }
            Some(answer) => self.after(around, answer)?,
        };
        Ok(match self.call(around.pid) {
            Some(call) => Next::Call(call),
            None if self.done || first => Next::Exit,
            None => Next::Pause(AGAIN),
        })
    }

    fn name(&self) -> String {
        format!("dovecot on {}", self.mailbox)
    }
}
