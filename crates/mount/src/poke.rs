//! Waking those who watch a mailbox on this host after another host changed it (MAIL.md R12).
//!
//! Promises
//! P1  One process, which may be held up without harm to anything else; pokes that find no room are dropped: who watches
//!     then looks by itself, later. It is a process of its own and has no descriptor of the kernel's stream: a thread of the
//!     daemon that waits for an answer through the own mount could not be killed, and the daemon would never be gone.
//! P2  Whatever it asks for changes nothing, also when a later daemon is asked it again: all of a mount's pokers are known
//!     by pid and start time.
//!
//! Not here: which files, and how often (`client`).

use crate::{driver::Driver, handover::Notes, process};
use std::{
    ffi::OsStr,
    fs::{File, OpenOptions},
    io::{self, BufRead, Write},
    os::unix::{ffi::OsStrExt, fs::OpenOptionsExt},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitCode, Stdio},
    sync::mpsc::Receiver,
};

/// Pokes that may wait for the thread.
pub(crate) const POKES_MAX: usize = 64;
/// Only argument of the process.
pub(crate) const WORD: &str = "--poke";

/// Starts the thread that hands pokes over. `dir`: the mount point; `poked`: paths in it.
pub(crate) fn start(driver: &'static Driver, poked: Receiver<PathBuf>, dir: PathBuf, notes: File) -> io::Result<()> {
    std::thread::Builder::new().name("poke".into()).spawn(move || {
        let mut poker: Option<(Child, ChildStdin)> = None;
        for path in poked {
            if poker.is_none() {
                poker = begin(driver, &notes)
                    .inspect_err(|e| tracing::warn!("could not start who wakes watchers: {e}"))
                    .ok();
            }
            let path = dir.join(path);
            let bytes = [path.as_os_str().as_bytes(), b"\0"].concat();
            if let Some((child, to)) = &mut poker
                && to.write_all(&bytes).is_err()
            {
                let _ = child.wait();
                poker = None;
            }
        }
    })?;
    Ok(())
}

/// P2: it is known before it is told anything.
fn begin(driver: &Driver, notes: &File) -> io::Result<(Child, ChildStdin)> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(WORD).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn()?;
    let to = child.stdin.take().ok_or_else(|| io::Error::other("no stdin"))?;
    let pid = child.id();
    let mut noted = Notes::read(notes);
    noted
        .pokers
        .retain(|(pid, since)| process::started(*pid) == Some(*since));
    noted.pokers.push((pid, process::started(pid).unwrap_or(0)));
    noted.write(notes)?;
    driver.poker_is(pid);
    Ok((child, to))
}

/// The process: paths on stdin, each with a NUL byte after it, until its end.
pub(crate) fn main() -> ExitCode {
    for path in io::stdin().lock().split(0).map_while(Result::ok) {
        // A file that is gone, or read-only for root even: nobody can be woken.
        let _ = poke(Path::new(OsStr::from_bytes(&path)));
    }
    ExitCode::SUCCESS
}

/// Raises IN_MODIFY: a truncate to the own size. The brain changes nothing for it, whatever the size is by then.
fn poke(path: &Path) -> io::Result<()> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = OpenOptions::new()
        .write(true)
        .custom_flags(flags.bits() as i32)
        .open(path)?;
    file.set_len(file.metadata()?.len())
}
