//! Programs that use a mount: scripts of kernel calls, one at a time.
//!
//! Promises: a delivery does what Postfix local(8) and the kernel do (MAIL.md 2.1, T1/T2): dotlock, look the mailbox up, open
//! it with O_APPEND or create it with O_EXCL, fcntl lock, fstat, write, fsync, close, unlink. What failed with EEXIST or
//! EAGAIN is tried again later, as Postfix does. What Postfix would bounce is a failure of the world (L9): above all a
//! mailbox that exists for the create and does not for the look behind it.
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
    Close,
    Release,
    Undot,
}

const APPEND: OpenFlags = OpenFlags {
    read: false,
    write: true,
    append: true,
    truncate: false,
    sync: false,
};

/// One delivery of one message to one mailbox.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub mailbox: String,
    pub message: Vec<u8>,
    pub owner: u64,
    step: Step,
    ino: Ino,
    fh: Option<Fh>,
    synced: bool,
    /// The create said EEXIST.
    exists: bool,
    /// Its mount may be cut off for so long that its session ends, and with it its dotlocks (L7).
    pub may_expire: bool,
    /// Attempts whose fsync failed: each may have left a copy all the same, as on a local disk.
    pub doubts: u32,
}

impl Delivery {
    #[must_use]
    pub fn new(mailbox: &str, message: &[u8], owner: u64) -> Self {
        Self {
            mailbox: mailbox.into(),
            message: message.to_vec(),
            owner,
            step: Step::Begin,
            ino: Ino(0),
            fh: None,
            synced: false,
            exists: false,
            may_expire: false,
            doubts: 0,
        }
    }

    fn name(&self, suffix: &str) -> Name {
        Name::new(format!("{}{suffix}", self.mailbox).as_bytes()).expect("mailbox names are names")
    }

    /// The next step, given the answer to the one before (none at the start).
    ///
    /// # Panics
    /// With the law that an answer breaks.
    pub fn next(&mut self, answer: Option<Result<Answer, Errno>>) -> Next {
        let next = match answer {
            None => Some(Step::Dotlock),
            Some(answer) => self.after(answer),
        };
        match next {
            Some(step) => {
                self.step = step;
                Next::Call(self.call(step))
            }
            None => {
                self.step = Step::Begin;
                if self.synced { Next::Delivered } else { Next::Again }
            }
        }
    }

    /// What to do behind the current step; none: the delivery is over, for now or for good.
    fn after(&mut self, answer: Result<Answer, Errno>) -> Option<Step> {
        if self.step == Step::Sync && answer.is_err() {
            self.doubts += u32::from(self.may_expire);
        }
        match (self.step, answer) {
            (Step::Dotlock, Ok(_)) => Some(Step::Look),
            (Step::Dotlock, Err(_)) => None,
            (Step::Look, Ok(Answer::Entry { attr, .. })) => {
                self.ino = attr.ino;
                Some(Step::Open)
            }
            (Step::Look, Err(Errno::ENOENT)) => {
                assert!(!self.exists, "L3: {} exists and is not found: a bounce", self.mailbox);
                Some(Step::Create)
            }
            (Step::Create, Err(Errno::EEXIST)) => {
                self.exists = true;
                Some(Step::Look)
            }
            (Step::Create, Ok(Answer::Created { attr, fh, .. })) => {
                self.ino = attr.ino;
                self.fh = Some(fh);
                Some(Step::Lock)
            }
            (Step::Open, Ok(Answer::Opened { fh, .. })) => {
                self.fh = Some(fh);
                Some(Step::Lock)
            }
            (Step::Lock, Ok(_)) => Some(Step::Stat),
            (Step::Stat, Ok(_)) => Some(Step::Write),
            (Step::Write, Ok(_)) => Some(Step::Sync),
            (Step::Sync, Ok(_)) => {
                self.synced = true;
                Some(Step::Close)
            }
            (Step::Close, answer) => {
                assert!(
                    !self.synced || answer.is_ok(),
                    "I23: close after a good fsync: {answer:?}"
                );
                Some(Step::Release)
            }
            (Step::Release, _) => {
                self.fh = None;
                Some(Step::Undot)
            }
            (Step::Undot, answer) => {
                assert!(
                    answer.is_ok() || self.may_expire,
                    "L7: the dotlock of {} is gone: {answer:?}",
                    self.mailbox
                );
                None
            }
            (Step::Begin, _) => None,
            // Failed on the way: what is open is closed, the dotlock goes.
            _ if self.fh.is_some() => Some(Step::Close),
            _ => Some(Step::Undot),
        }
    }

    fn call(&self, step: Step) -> Call {
        let (ino, dir, fh) = (self.ino, Ino::ROOT, self.fh.unwrap_or(Fh(0)));
        let create = |name, mode| Call::Create {
            dir,
            name,
            mode,
            flags: APPEND,
            excl: true,
        };
        match step {
            Step::Begin | Step::Dotlock => create(self.name(".lock"), 0),
            Step::Look => Call::Lookup {
                dir,
                name: self.name(""),
            },
            Step::Open => Call::Open { ino, flags: APPEND },
            Step::Create => create(self.name(""), 0o600),
            Step::Lock => Call::SetLock {
                ino,
                owner: self.owner,
                range: Range::ALL,
                kind: Some(LockKind::Exclusive),
                wait: false,
            },
            Step::Stat => Call::GetAttr { ino },
            Step::Write => Call::Write {
                ino,
                fh,
                offset: 0,
                data: Bytes::from(self.message.clone()),
            },
            Step::Sync => Call::Fsync { ino, fh },
            Step::Close => Call::Flush {
                ino,
                fh,
                owner: self.owner,
            },
            Step::Release => Call::Release { ino, fh, flock: None },
            Step::Undot => Call::Unlink {
                dir,
                name: self.name(".lock"),
            },
        }
    }
}
