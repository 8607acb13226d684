//! `mboxfs demo`: two servers on this machine, from empty directories to a killed brick that is whole again.
//!
//! E1  Whatever ends it (the end, a failure, SIGINT, SIGTERM, SIGHUP), nothing of it is left: no process, mount, directory.
//! E2  What it does is done with the programs and words that an operator uses, and each is shown before it is run.
//! E3  What it tells was measured or compared in this run; what cannot be shown ends it with code 1.
//!
//! SIGKILL leaves what runs then. Not here: the story (`script`), processes and mounts (`stage`), a delivery (`delivery`).

pub(crate) mod delivery;
mod programs;
mod script;
mod stage;

use crate::{DONE, REFUSED, SIGNALLED, hint_at, show, talk};
use programs::Programs;
use stage::Stage;
use std::{
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why it cannot go on.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Failure {
    why: String,
    hint: String,
}

impl Failure {
    fn new(why: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            why: why.into(),
            hint: hint.into(),
        }
    }
}

impl<T: Into<String>> From<T> for Failure {
    fn from(why: T) -> Self {
        Self::new(why, "")
    }
}

/// The whole demo; the exit code.
pub(crate) fn run() -> u8 {
    let ended = prepare().and_then(|programs| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|e| e.to_string())?;
        let ended = runtime.block_on(perform(programs));
        // A delivery that still waits has nobody who waits for it.
        runtime.shutdown_background();
        ended
    });
    ended.unwrap_or_else(|failure| {
        talk(format!("error: could not show the demo: {}", show::clean(&failure.why)));
        hint_at(&failure.hint);
        REFUSED
    })
}

/// What has to be there before anything is made. An ordinary user goes on as root of namespaces of his own.
fn prepare() -> Result<Programs, Failure> {
    let programs = Programs::find()?;
    fuse_opens()?;
    if rustix::process::geteuid().is_root() {
        return Ok(programs);
    }
    let own = ["--user", "--map-root-user", "--mount", "--"];
    let tried = Command::new("unshare")
        .args(own)
        .arg("true")
        .stdin(Stdio::null())
        .output();
    let refused = match tried {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(e) => Some(format!("unshare: {e}")),
    };
    if let Some(why) = refused {
        let why = format!("ordinary users may not mount here, not even in a namespace of their own ({why})");
        return Err(Failure::new(why, "run it as root"));
    }
    // In place of this program, so that signals reach the one who cleans up.
    let why = Command::new("unshare")
        .args(own)
        .arg(&programs.mboxfs)
        .arg("demo")
        .exec();
    Err(Failure::new(format!("unshare: {why}"), "run it as root"))
}

fn fuse_opens() -> Result<(), Failure> {
    let opened = std::fs::File::options().read(true).write(true).open("/dev/fuse");
    opened.map(|_| ()).map_err(|e| {
        let hint = if Path::new("/dev/fuse").exists() {
            "run it as root"
        } else {
            "modprobe fuse"
        };
        Failure::new(format!("/dev/fuse: {e}"), hint)
    })
}

async fn perform(programs: Programs) -> Result<u8, Failure> {
    let mut signals = Signals::new().map_err(|e| format!("its signals: {e}"))?;
    let mut stage = Stage::new(programs)?;
    let ended = tokio::select! {
        played = script::play(&mut stage) => played.map(|()| DONE),
        number = signals.next() => {
            script::tell("\nInterrupted.");
            Ok(SIGNALLED + number)
        }
    };
    if ended.is_err() {
        stage.show_logs();
    }
    stage.clear()?; // E1
    script::tell("Cleaned up: no process, no mount and no directory is left.");
    ended
}

/// What asks for the end. A second one while it cleans up changes nothing.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    pub(crate) fn new() -> std::io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Its number.
    pub(crate) async fn next(&mut self) -> u8 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hangup.recv() => 1,
        }
    }
}
