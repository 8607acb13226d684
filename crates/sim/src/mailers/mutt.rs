//! mutt and procmail: a temporary file linked to the name of the dotlock; whoever finds two links has it (MAIL.md 2.4).
//!
//! Promises: it appends under the dotlock and an fcntl lock, where lseek(2) finds the end, and looks at the whole mailbox
//! before it does. One that was built without fcntl locks has the mailbox `DOTTED`, makes it, looks at it
//! before it has the lock, too, and sets its atime, as mutt does where it has found new mail.
//! Not here: programs that make their dotlock with O_EXCL.

use super::{
    AGAIN, Answered, Around, Next, Program, Wrong,
    letterbox::{READ_WRITE, Reading, create, flush, lock, look, name, touch, unlink},
};
use crate::letter::{self, Id};
use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind};

/// Mailbox that is locked by dotlocks only.
pub const DOTTED: &str = "dotted";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Begin,
    Peek,
    Stat,
    Touch,
    Temp,
    CloseTemp,
    ReleaseTemp,
    Link,
    Count,
    Untemp,
    Look,
    Create,
    Open,
    Lock,
    Read,
    Seek,
    Write,
    Close,
    Release,
    Undot,
    Exit,
}

/// Saves one message to a mailbox that exists.
#[derive(Clone, Debug)]
pub struct Mutt {
    mailbox: String,
    temp: String,
    lines: u32,
    step: Step,
    temp_ino: Ino,
    ino: Ino,
    fh: Fh,
    owns: bool,
    id: Id,
    due: Vec<Id>,
    reading: Reading,
    end: u64,
    done: bool,
}

impl Mutt {
    /// `temp`: a name of its own.
    #[must_use]
    pub fn new(mailbox: &str, temp: &str, lines: u32) -> Self {
        Self {
            mailbox: mailbox.into(),
            temp: temp.into(),
            lines,
            step: Step::Begin,
            temp_ino: Ino(0),
            ino: Ino(0),
            fh: Fh(0),
            owns: false,
            id: 0,
            due: Vec::new(),
            reading: Reading::default(),
            end: 0,
            done: false,
        }
    }

    fn after(&mut self, around: &mut Around<'_>, answer: Result<Answer, Errno>) -> Result<Step, Wrong> {
        Ok(match (self.step, answer) {
            (Step::Peek, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Step::Stat
            }
            (Step::Stat, Ok(_)) => Step::Touch,
            (Step::Peek | Step::Stat | Step::Touch, _) => Step::Temp,
            (Step::Temp, Ok(Answer::Created { attr, fh, .. })) => {
                (self.temp_ino, self.fh) = (attr.ino, fh);
                Step::CloseTemp
            }
            (Step::Temp, Err(Errno::EEXIST)) => Step::Untemp,
            (Step::CloseTemp, _) => Step::ReleaseTemp,
            (Step::ReleaseTemp, _) => Step::Link,
            (Step::Link, Ok(_)) => {
                self.owns = true;
                Step::Count
            }
            (Step::Count, Ok(Answer::Attr { attr, .. })) if attr.nlink < 2 => {
                let (name, links) = (&self.mailbox, attr.nlink);
                let why = format!("link(2) of the dotlock of {name} said yes: {links} links");
                return Err(Wrong("I14", "L5", why));
            }
            (Step::Link | Step::Count, _) => Step::Untemp,
            (Step::Untemp, _) if self.owns => Step::Look,
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                let end = around.kernel.end(around.mono, attr.ino, true);
                if self.is_dotted() && end != Some(attr.size) {
                    let why = format!(
                        "{} under its lock has {} bytes, and the kernel keeps {end:?}",
                        self.mailbox, attr.size
                    );
                    return Err(Wrong("I10", "L3", why));
                }
                Step::Open
            }
            (Step::Look, Err(Errno::ENOENT)) if self.is_dotted() => Step::Create,
            (Step::Look, Err(Errno::ENOENT)) => {
                self.done = true;
                Step::Undot
            }
            (Step::Create, Ok(Answer::Created { attr, fh, .. })) => {
                (self.ino, self.fh) = (attr.ino, fh);
                self.locked(around)
            }
            (Step::Open, Ok(Answer::Opened { fh, .. })) => {
                self.fh = fh;
                if self.is_dotted() {
                    self.locked(around)
                } else {
                    Step::Lock
                }
            }
            (Step::Lock, Ok(_)) => self.locked(around),
            (Step::Read, Ok(Answer::Data(bytes))) => {
                if self.reading.take(&bytes) {
                    self.check(around)?
                } else {
                    Step::Read
                }
            }
            (Step::Seek, Ok(_)) => self.seek(around, true),
            (Step::Write, Ok(_)) => Step::Close,
            (Step::Close, answer) => {
                if self.id > 0 && answer.is_ok() {
                    around.oracle.keeps(self.id, around.now, around.mount);
                    self.done = true;
                }
                Step::Release
            }
            (Step::Lock | Step::Read | Step::Seek | Step::Write, _) => {
                self.id = 0;
                Step::Close
            }
            (Step::Release, _) => {
                around.oracle.session_ends(around.mount, &self.mailbox, around.pid);
                Step::Undot
            }
            (Step::Look | Step::Create | Step::Open, _) => Step::Undot,
            (Step::Undot, Err(errno)) => {
                let why = format!("unlink of the own dotlock of {}: {errno:?}", self.mailbox);
                return Err(Wrong("I23", "L7", why));
            }
            _ => Step::Exit,
        })
    }

    fn is_dotted(&self) -> bool {
        self.mailbox == DOTTED
    }

    fn locked(&mut self, around: &mut Around<'_>) -> Step {
        around.oracle.session_begins(around.mount, &self.mailbox, around.pid);
        self.due = around.oracle.due(&self.mailbox, around.mount);
        self.reading = Reading::default();
        Step::Read
    }

    fn check(&mut self, around: &mut Around<'_>) -> Result<Step, Wrong> {
        let letters = letter::split(&self.reading.data)
            .map_err(|why| Wrong("I21", "L6", format!("in {}: {why}", self.mailbox)))?;
        let ids: Vec<Id> = letters.iter().map(|l| l.0).collect();
        let missing = around.oracle.missing(&self.due, &ids, around.mount);
        if !missing.is_empty() {
            let why = format!("{} lacks {missing:?} at mount {}", self.mailbox, around.mount);
            return Err(Wrong("I10", "L3", why));
        }
        self.id = around.oracle.begin(&self.mailbox, self.lines);
        Ok(self.seek(around, false))
    }

    /// The kernel asks for the size only if it does not know it, and then goes by what it knows.
    fn seek(&mut self, around: &Around<'_>, asked: bool) -> Step {
        around
            .kernel
            .end(around.mono, self.ino, asked)
            .map_or(Step::Seek, |end| {
                self.end = end;
                Step::Write
            })
    }

    fn call(&self, pid: u32) -> Option<Call> {
        let (ino, fh) = (self.ino, self.fh);
        let dotlock = format!("{}.lock", self.mailbox);
        Some(match self.step {
            Step::Begin | Step::Seek | Step::Exit => return None,
            Step::Peek => look(&self.mailbox),
            Step::Stat => Call::GetAttr { ino },
            Step::Touch => touch(ino),
            Step::Temp => create(&self.temp, 0o600, READ_WRITE),
            Step::CloseTemp => flush(self.temp_ino, fh, pid),
            Step::ReleaseTemp => Call::Release {
                ino: self.temp_ino,
                fh,
                flock: None,
            },
            Step::Link => Call::Link {
                ino: self.temp_ino,
                dir: Ino::ROOT,
                name: name(&dotlock),
            },
            Step::Count => Call::GetAttr { ino: self.temp_ino },
            Step::Untemp => unlink(&self.temp),
            Step::Look => look(&self.mailbox),
            Step::Create => create(&self.mailbox, 0o600, READ_WRITE),
            Step::Open => Call::Open { ino, flags: READ_WRITE },
            Step::Lock => lock(ino, pid, Some(LockKind::Exclusive), false),
            Step::Read => self.reading.call(ino, fh),
            Step::Write => {
                let data = Bytes::from(letter::write(self.id, self.lines));
                Call::Write {
                    ino,
                    fh,
                    offset: self.end,
                    data,
                }
            }
            Step::Close => flush(ino, fh, pid),
            Step::Release => Call::Release { ino, fh, flock: None },
            Step::Undot => unlink(&dotlock),
        })
    }
}

impl Program for Mutt {
    fn next(&mut self, around: &mut Around<'_>, answer: Answered) -> Result<Next, Wrong> {
        self.step = match answer {
            None => {
                self.owns = false;
                self.id = 0;
                if self.is_dotted() { Step::Peek } else { Step::Temp }
            }
            Some(answer) => self.after(around, answer)?,
        };
        Ok(match self.call(around.pid) {
            Some(call) => Next::Call(call),
            None if self.step == Step::Seek => Next::Seek(self.ino),
            None if self.done => Next::Exit,
            None => Next::Pause(AGAIN),
        })
    }

    fn name(&self) -> String {
        format!("mutt to {}", self.mailbox)
    }
}
