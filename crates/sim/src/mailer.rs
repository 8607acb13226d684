//! Programs that use a mount: scripts of kernel calls, one at a time.
//!
//! Promises: a delivery does what Postfix local(8) does (MAIL.md 2.1, T1/T2): dotlock, open with O_APPEND, fcntl lock,
//! fstat, write, fsync, close, unlink. What failed with EEXIST or EAGAIN is tried again later, as Postfix does.
//! Not here: time (the world runs the scripts).

use bytes::Bytes;
use mboxfs_client::{
    input::{Call, Fh, OpenFlags},
    output::Answer,
};
use mboxfs_types::{Errno, Ino, LockKind, Name, Range};

/// What became of a step.
pub enum Next {
    /// Ask the kernel this.
    Call(Call),
    /// The whole is tried again after a while.
    Again,
    /// Done; the message was acknowledged.
    Delivered,
}

/// One delivery of one message to one mailbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub mailbox: String,
    pub message: Vec<u8>,
    pub owner: u64,
    step: u32,
    ino: Ino,
    fh: Fh,
    size: u64,
    synced: bool,
    undo: bool,
}

impl Delivery {
    #[must_use]
    pub fn new(mailbox: &str, message: &[u8], owner: u64) -> Self {
        Self {
            mailbox: mailbox.into(),
            message: message.to_vec(),
            owner,
            step: 0,
            ino: Ino(0),
            fh: Fh(0),
            size: 0,
            synced: false,
            undo: false,
        }
    }

    fn name(&self, suffix: &str) -> Name {
        Name::new(format!("{}{suffix}", self.mailbox).as_bytes()).expect("mailbox names are names")
    }

    /// The next step, given the answer to the one before (none at the start).
    pub fn next(&mut self, answer: Option<Result<Answer, Errno>>) -> Next {
        if let Some(answer) = answer
            && !self.take(answer)
        {
            if self.step <= 1 {
                self.step = 0;
                return Next::Again;
            }
            self.undo = true;
        }
        let append = OpenFlags {
            write: true,
            append: true,
            ..OpenFlags::default()
        };
        loop {
            self.step += 1;
            let call = match self.step {
                1 => Call::Create {
                    dir: Ino::ROOT,
                    name: self.name(".lock"),
                    mode: 0,
                    flags: append,
                    excl: true,
                },
                2 if !self.undo => Call::Create {
                    dir: Ino::ROOT,
                    name: self.name(""),
                    mode: 0o600,
                    flags: append,
                    excl: false,
                },
                3 if !self.undo => self.lock(Some(LockKind::Exclusive)),
                4 if !self.undo => Call::GetAttr { ino: self.ino },
                5 if !self.undo => Call::Write {
                    ino: self.ino,
                    fh: self.fh,
                    offset: 0,
                    data: Bytes::from(self.message.clone()),
                },
                6 if !self.undo => Call::Fsync {
                    ino: self.ino,
                    fh: self.fh,
                },
                7 if self.fh != Fh(0) => Call::Flush {
                    ino: self.ino,
                    fh: self.fh,
                    owner: self.owner,
                },
                8 if self.fh != Fh(0) => Call::Release {
                    ino: self.ino,
                    fh: self.fh,
                    flock: None,
                },
                9 => Call::Unlink {
                    dir: Ino::ROOT,
                    name: self.name(".lock"),
                },
                0..9 => continue,
                _ => {
                    self.step = 0;
                    let (synced, undone) = (self.synced, self.undo);
                    self.undo = false;
                    self.fh = Fh(0);
                    return if synced {
                        Next::Delivered
                    } else {
                        assert!(undone);
                        Next::Again
                    };
                }
            };
            return Next::Call(call);
        }
    }

    fn lock(&self, kind: Option<LockKind>) -> Call {
        Call::SetLock {
            ino: self.ino,
            owner: self.owner,
            range: Range::ALL,
            kind,
            wait: false,
        }
    }

    /// False: this step failed.
    fn take(&mut self, answer: Result<Answer, Errno>) -> bool {
        match (self.step, answer) {
            (2, Ok(Answer::Created { attr, fh, .. })) => {
                self.ino = attr.ino;
                self.fh = fh;
                true
            }
            (4, Ok(Answer::Attr { attr, .. })) => {
                self.size = attr.size;
                true
            }
            (6, Ok(_)) => {
                self.synced = true;
                true
            }
            (7..=9, answer) => {
                assert!(
                    !self.synced || answer.is_ok() || self.step == 9,
                    "I23: close after fsync failed: {answer:?}"
                );
                true
            }
            (_, answer) => answer.is_ok(),
        }
    }
}
