//! A process on a test host that does system calls on the mounted volume one at a time, as the test says.
//!
//! Promises: a call that blocks does not block the test (`tell`, then `answer`); `Drop` kills the process by its pid.
//! Not here: what the calls are (`actor.py`).

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use super::host::Host;

const SCRIPT: &str = include_str!("actor.py");

/// Longer than anything that is not meant to block may take: the mount itself gives up after 15 s.
const ANSWER_MAX: Duration = Duration::from_secs(20);

pub(crate) struct Actor {
    child: Child,
    answers: Receiver<String>,
}

impl Actor {
    pub(crate) fn new(host: &Host, spool: &Path) -> Self {
        Self::running(host, SCRIPT, spool.as_os_str())
    }

    /// Another script that answers lines with lines.
    pub(crate) fn running(host: &Host, script: &str, word: &OsStr) -> Self {
        let mut child = host
            .command("python3")
            .args(["-u", "-c", script])
            .arg(word)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (said, answers) = channel();
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        Self { child, answers }
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Has a call made whose answer may be long in coming.
    pub(crate) fn tell(&mut self, words: &str) {
        let stdin = self.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin, "{words}").expect("the actor listens");
    }

    /// The answer to the last `tell`; `None` if it does not come in time or the actor is dead.
    pub(crate) fn answer(&mut self, within: Duration) -> Option<String> {
        self.answers.recv_timeout(within).ok()
    }

    /// `ok ...` or `error ERRNO`.
    #[track_caller]
    pub(crate) fn ask(&mut self, words: &str) -> String {
        self.tell(words);
        self.answer(ANSWER_MAX)
            .unwrap_or_else(|| panic!("no answer to {words:?} within {ANSWER_MAX:?}"))
    }

    /// What follows `ok`. Panics on an error.
    #[track_caller]
    pub(crate) fn done(&mut self, words: &str) -> String {
        let said = self.ask(words);
        let rest = said.strip_prefix("ok").unwrap_or_else(|| panic!("{words:?}: {said}"));
        rest.trim_start().to_owned()
    }

    /// SIGKILL, and the process is gone when this returns.
    pub(crate) fn kill(&mut self) {
        // An error means that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        self.kill();
    }
}
