//! One delivery, as Postfix's local(8) makes it: dotlock, fcntl lock, append, fsync.
//!
//! Promises: `deliver` returns when the message is acknowledged as durable; both locks are free then.
//! Not here: on which server, and what is read back (`script`).

use rustix::fs::FlockOperation;
use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

/// Between two tries for a dotlock that somebody has, and how long to try: as Postfix does, only faster.
const AGAIN: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(20);

/// The bytes of message `number`.
pub(crate) fn message(number: usize) -> String {
    format!(
        "From demo@localhost  Thu Jan  1 00:00:00 1970\nFrom: demo@localhost\nTo: alice@localhost\n\
         Subject: message {number}\nMessage-ID: <{number}@demo.localhost>\n\nHello Alice, this is message {number}.\n\n"
    )
}

/// Appends `text` to `mailbox`; how long that took.
///
/// Errors: the filesystem's; a dotlock that stays.
pub(crate) fn deliver(mailbox: &Path, text: &str) -> io::Result<Duration> {
    let begun = Instant::now();
    locked(mailbox, |file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    })?;
    Ok(begun.elapsed())
}

/// Does something with a mailbox under both its locks: the file is open to append, and made if there is none.
///
/// Errors: as `deliver`, and those of `change`.
pub(crate) fn locked<T>(mailbox: &Path, change: impl FnOnce(&mut File) -> io::Result<T>) -> io::Result<T> {
    let dotlock = Dotlock::take(mailbox)?;
    let mut file = File::options().append(true).create(true).open(mailbox)?;
    rustix::fs::fcntl_lock(&file, FlockOperation::LockExclusive)?;
    let done = change(&mut file);
    drop(file); // and with it the fcntl lock
    dotlock.release()?;
    done
}

struct Dotlock(PathBuf);

impl Dotlock {
    fn take(mailbox: &Path) -> io::Result<Self> {
        let mut name = mailbox.as_os_str().to_owned();
        name.push(".lock");
        let path = PathBuf::from(name);
        let until = Instant::now() + PATIENCE;
        loop {
            match File::create_new(&path) {
                Ok(_) => return Ok(Self(path)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists && Instant::now() < until => thread::sleep(AGAIN),
                Err(e) => return Err(e),
            }
        }
    }

    fn release(self) -> io::Result<()> {
        fs::remove_file(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_appended_and_the_dotlock_goes() {
        let dir = tempfile::tempdir().unwrap();
        let mailbox = dir.path().join("alice");
        for number in [1, 2] {
            deliver(&mailbox, &message(number)).unwrap();
        }
        assert_eq!(fs::read_to_string(&mailbox).unwrap(), message(1) + &message(2));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }
}
