//! Waking those who watch a mailbox on this host after another host changed it (MAIL.md R12).
//!
//! Promises: one thread, which may be held up without harm to anything else; pokes that find no room are dropped: who
//! watches then looks by itself, later.
//! Not here: which files, and how often (`client`).

use crate::driver::Driver;
use std::{
    fs::OpenOptions,
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::mpsc::Receiver,
};

/// Pokes that may wait for the thread.
pub(crate) const POKES_MAX: usize = 64;

/// Starts the thread. `dir`: the mount point; `poked`: paths in it.
pub(crate) fn start(driver: &'static Driver, poked: Receiver<PathBuf>, dir: PathBuf) -> io::Result<()> {
    std::thread::Builder::new().name("poke".into()).spawn(move || {
        // The kernel names the caller of a request by its thread, not by its process.
        driver.poker_is(rustix::thread::gettid().as_raw_nonzero().get() as u32);
        for path in poked {
            let path = dir.join(path);
            if let Err(e) = poke(&path) {
                tracing::debug!("could not wake who watches {}: {e}", path.display());
            }
        }
    })?;
    Ok(())
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
