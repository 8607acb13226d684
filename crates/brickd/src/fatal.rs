//! The end of the daemon when it cannot go on: a failed fsync, a record that cannot be read back.
//!
//! Promises: the first reason is logged at ERROR and the daemon exits with code 1; nothing that failed is tried again, since
//! after a failed fsync nobody knows what is on the disk (the next start finds out from the log).
//! Not here: refusals at the start (`failure`).

use std::fmt::Display;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tracing::error;

/// Where the end is announced. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Fatal(UnboundedSender<String>);

impl Fatal {
    pub(crate) fn channel() -> (Self, UnboundedReceiver<String>) {
        let (send, recv) = unbounded_channel();
        (Self(send), recv)
    }

    /// The daemon cannot go on: it could not `what`.
    pub(crate) fn end(&self, what: &str, why: impl Display) {
        error!("could not {what}: {why}");
        // If nobody listens any more the daemon is ending already.
        let _ = self.0.send(format!("could not {what}: {why}"));
    }
}

/// Announces the end if its thread panics: a brick with a dead disk thread must not go on.
pub(crate) struct Guard {
    pub(crate) fatal: Fatal,
    pub(crate) thread: &'static str,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.fatal
                .end("go on", format_args!("the {} thread panicked", self.thread));
        }
    }
}
