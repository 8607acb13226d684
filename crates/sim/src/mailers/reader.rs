//! mailx and POP3 STAT: look, open, read all, close, without a lock.
//!
//! Promises: it sees all that was acknowledged before it opened the mailbox, and never half of a lock session (L3, L6).
//! Not here: programs that change anything.

use super::{
    AGAIN, Answered, Around, Next, Program, Wrong,
    letterbox::{READ_ONLY, Reading, flush, look},
};
use crate::letter::{self, Id};
use mboxfs_client::{
    input::{Call, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begin,
    Look,
    Open,
    Stat,
    Read,
    StatAgain,
    Close,
    Release,
    Exit,
}

/// Reads a mailbox once.
#[derive(Clone, Debug)]
pub struct Reader {
    mailbox: String,
    step: Step,
    ino: Ino,
    fh: Fh,
    due: Vec<Id>,
    reading: Reading,
    version: Option<u64>,
    sessions: (u64, u64),
    done: bool,
}

impl Reader {
    #[must_use]
    pub fn new(mailbox: &str) -> Self {
        Self {
            mailbox: mailbox.into(),
            step: Step::Begin,
            ino: Ino(0),
            fh: Fh(0),
            due: Vec::new(),
            reading: Reading::default(),
            version: None,
            sessions: (0, 0),
            done: false,
        }
    }

    fn after(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Result<Step, Wrong> {
        Ok(match (self.step, answer) {
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Step::Open
            }
            (Step::Look, Err(Errno::ENOENT)) => {
                let missing = around.oracle.missing(&self.due, &[], around.mount);
                if !missing.is_empty() {
                    let why = format!(
                        "{} is not there at mount {} and has {missing:?}",
                        self.mailbox, around.mount
                    );
                    return Err(Wrong("I10", "L3", why));
                }
                self.done = true;
                Step::Exit
            }
            (Step::Open, Ok(Answer::Opened { fh, .. })) => {
                self.fh = fh;
                self.reading = Reading::default();
                Step::Stat
            }
            (Step::Stat, Ok(Answer::Attr { attr, .. })) => {
                self.version = Some(attr.version);
                Step::Read
            }
            (Step::Read, Ok(Answer::Data(bytes))) => {
                if self.reading.take(&bytes) {
                    Step::StatAgain
                } else {
                    Step::Read
                }
            }
            (Step::StatAgain, Ok(Answer::Attr { attr, .. })) => {
                self.done = true;
                let sessions = around.oracle.sessions(around.mount, &self.mailbox);
                let alone = sessions == self.sessions && sessions.1 == 0;
                if alone && self.version == Some(attr.version) && attr.size == self.reading.data.len() as u64 {
                    self.check(around)?;
                }
                Step::Close
            }
            (Step::Close, _) => Step::Release,
            (Step::Stat | Step::Read | Step::StatAgain, _) => Step::Close,
            _ => Step::Exit,
        })
    }

    /// Nobody changed it meanwhile: what was read is one state of it.
    fn check(&self, around: &Around<'_>) -> Result<(), Wrong> {
        let letters = letter::split(&self.reading.data)
            .map_err(|why| Wrong("I21", "L6", format!("in {}: {why}", self.mailbox)))?;
        let ids: Vec<Id> = letters.iter().map(|l| l.0).collect();
        let missing = around.oracle.missing(&self.due, &ids, around.mount);
        if !missing.is_empty() {
            let why = format!("{} lacks {missing:?} at mount {}", self.mailbox, around.mount);
            return Err(Wrong("I10", "L3", why));
        }
        Ok(())
    }

    fn call(&self, pid: u32) -> Option<Call> {
        let (ino, fh) = (self.ino, self.fh);
        Some(match self.step {
            Step::Begin | Step::Exit => return None,
            Step::Look => look(&self.mailbox),
            Step::Open => Call::Open { ino, flags: READ_ONLY },
            Step::Stat | Step::StatAgain => Call::GetAttr { ino },
            Step::Read => self.reading.call(ino, fh),
            Step::Close => flush(ino, fh, pid),
            Step::Release => Call::Release { ino, fh, flock: None },
        })
    }
}

impl Program for Reader {
    fn next(&mut self, around: &mut Around<'_>, answer: Answered) -> Result<Next, Wrong> {
        self.step = match answer {
            None => {
                self.due = around.oracle.due(&self.mailbox, around.mount);
                self.sessions = around.oracle.sessions(around.mount, &self.mailbox);
                Step::Look
            }
            Some(answer) => self.after(around, answer)?,
        };
        Ok(match self.call(around.pid) {
            Some(call) => Next::Call(call),
            None if self.done => Next::Exit,
            None => Next::Pause(AGAIN),
        })
    }

    fn name(&self) -> String {
        format!("reader of {}", self.mailbox)
    }
}
