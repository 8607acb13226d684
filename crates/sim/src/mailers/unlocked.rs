//! A shell's `>>`: open with O_APPEND, write, fsync, close, without any lock.
//!
//! Promises: one write(2) is one message; each lands whole at the true end of the file (L4).
//! Not here: programs that lock.

use super::{
    AGAIN, Answered, Around, Next, Program, Wrong,
    letterbox::{APPEND, create, flush, look},
};
use crate::letter::{self, Id};
use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begin,
    Look,
    Create,
    Open,
    Write,
    Sync,
    Close,
    Release,
    Exit,
}

/// Appends one message to a file, which it makes if there is none.
#[derive(Clone, Debug)]
pub struct Unlocked {
    mailbox: String,
    lines: u32,
    step: Step,
    ino: Ino,
    fh: Fh,
    id: Id,
    done: bool,
}

impl Unlocked {
    #[must_use]
    pub fn new(mailbox: &str, lines: u32) -> Self {
        Self {
            mailbox: mailbox.into(),
            lines,
            step: Step::Begin,
            ino: Ino(0),
            fh: Fh(0),
            id: 0,
            done: false,
        }
    }

    fn after(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Step {
        match (self.step, answer) {
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Step::Open
            }
            (Step::Look, Err(Errno::ENOENT)) => Step::Create,
            (Step::Create, Ok(Answer::Created { attr, fh, .. })) => {
                (self.ino, self.fh) = (attr.ino, fh);
                self.id = around.oracle.begin(&self.mailbox, self.lines);
                Step::Write
            }
            (Step::Open, Ok(Answer::Opened { fh, .. })) => {
                self.fh = fh;
                self.id = around.oracle.begin(&self.mailbox, self.lines);
                Step::Write
            }
            (Step::Write, Ok(_)) => Step::Sync,
            (Step::Sync, answer) => {
                if answer.is_ok() {
                    around.oracle.keeps(self.id, around.now, around.mount);
                    self.done = true;
                }
                Step::Close
            }
            (Step::Write, Err(_)) => Step::Close,
            (Step::Close, _) => Step::Release,
            _ => Step::Exit,
        }
    }

    fn call(&self, pid: u32) -> Option<Call> {
        let (ino, fh) = (self.ino, self.fh);
        Some(match self.step {
            Step::Begin | Step::Exit => return None,
            Step::Look => look(&self.mailbox),
            Step::Create => create(&self.mailbox, 0o600, APPEND),
            Step::Open => Call::Open { ino, flags: APPEND },
            Step::Write => {
                let data = Bytes::from(letter::write(self.id, self.lines));
                Call::Write {
                    ino,
                    fh,
                    offset: 0,
                    data,
                }
            }
            Step::Sync => Call::Fsync { ino, fh },
            Step::Close => flush(ino, fh, pid),
            Step::Release => Call::Release { ino, fh, flock: None },
        })
    }
}

impl Program for Unlocked {
    fn next(&mut self, around: &mut Around<'_>, answer: Answered) -> Result<Next, Wrong> {
        self.step = match answer {
            None => Step::Look,
            Some(answer) => self.after(around, answer),
        };
        Ok(match self.call(around.pid) {
            Some(call) => Next::Call(call),
            None if self.done => Next::Exit,
            None => Next::Pause(AGAIN),
        })
    }

    fn name(&self) -> String {
        format!(">> {}", self.mailbox)
    }
}
