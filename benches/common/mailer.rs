//! The mailers of the bench: two streams on one host, one into the host's own mailbox and one into a mailbox that both
//! hosts share, each delivery as Postfix makes it; what is refused is tried again under another name.
//!
//! Promises: every delivery is reported with its begin (CLOCK_MONOTONIC, the same for all processes) and its time; `Drop`
//! ends the process. Not here: what a report means (`audit`).

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{FlockOperation, fcntl_lock, fstat};
use rustix::time::{ClockId, clock_gettime};

use crate::common::host::Host;

/// Makes the bench executable a mailer in the directory that follows, with the tag that comes then.
pub(crate) const ARGUMENT: &str = "--fail-in";
/// Between two deliveries of a stream: a load, not a flood.
const PAUSE: Duration = Duration::from_millis(5);
/// Between two tries for a dotlock, and how long to try. Postfix sleeps for a second; a stall is measured finer.
const AGAIN: Duration = Duration::from_millis(10);
const PATIENCE: u64 = 60_000_000_000;

/// One delivery.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) mailbox: String,
    pub(crate) ident: String,
    pub(crate) begun: u64,
    pub(crate) nanos: u64,
    /// Why it was not acknowledged.
    pub(crate) refused: Option<String>,
}

pub(crate) fn now() -> u64 {
    let t = clock_gettime(ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

/// The bytes of one message.
pub(crate) fn message(ident: &str) -> String {
    format!(
        "From {ident}@bench Mon Nov  2 10:00:00 2026\nMessage-ID: <{ident}>\n\n{}\n\n",
        "x".repeat(1000)
    )
}

pub(crate) struct Mailer(Child);

impl Mailer {
    pub(crate) fn start(host: &Host, spool: &Path) -> Self {
        let own = std::env::current_exe().expect("the bench knows its own file");
        let mut command = host.command(own.to_str().expect("ASCII paths"));
        command.arg(ARGUMENT).arg(spool).arg(host.name());
        let report = File::create(report_of(host)).expect("a file in an own directory");
        Self(
            command
                .stdin(Stdio::piped())
                .stdout(report)
                .spawn()
                .expect("nsenter starts"),
        )
    }

    /// Asks it to end and waits so long. False: it hangs.
    pub(crate) fn stop(&mut self, within: Duration) -> bool {
        drop(self.0.stdin.take());
        crate::common::wait::holds_within(within, || !matches!(self.0.try_wait(), Ok(None)))
    }
}

impl Drop for Mailer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        // One that hangs in the kernel is not waited for.
        crate::common::wait::holds_within(Duration::from_secs(2), || !matches!(self.0.try_wait(), Ok(None)));
    }
}

fn report_of(host: &Host) -> PathBuf {
    host.dir().join("deliveries")
}

/// What the mailer of a host has reported so far.
pub(crate) fn reported(host: &Host) -> Vec<Delivery> {
    let file = File::open(report_of(host)).expect("the report is there");
    let line = |line: String| {
        let words: Vec<&str> = line.splitn(5, ' ').collect();
        let [mailbox, ident, begun, nanos, refused] = words[..] else {
            return None; // cut off by a kill
        };
        Some(Delivery {
            mailbox: mailbox.to_owned(),
            ident: ident.to_owned(),
            begun: begun.parse().ok()?,
            nanos: nanos.parse().ok()?,
            refused: (refused != "-").then(|| refused.to_owned()),
        })
    };
    BufReader::new(file)
        .lines()
        .map_while(Result::ok)
        .filter_map(line)
        .collect()
}

/// The mailer's side, until stdin ends.
pub(crate) fn main(spool: &Path, tag: &str) {
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mailbox in [format!("own-{tag}"), "shared".to_owned()] {
            let (stop, path) = (&stop, spool.join(&mailbox));
            scope.spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::SeqCst) {
                    number += 1;
                    let ident = format!("{tag}.{mailbox}.{number}");
                    let begun = now();
                    let refused = deliver(&path, message(&ident).as_bytes()).err();
                    let why = refused.map_or_else(|| "-".to_owned(), |e| e.to_string());
                    // One write: lines of two threads must not mix.
                    let line = format!("{mailbox} {ident} {begun} {} {why}\n", now() - begun);
                    io::stdout()
                        .write_all(line.as_bytes())
                        .expect("the report takes a line");
                    std::thread::sleep(PAUSE);
                }
            });
        }
        let _ = io::stdin().read_to_end(&mut Vec::new());
        stop.store(true, Ordering::SeqCst);
    });
}

fn deliver(mailbox: &Path, message: &[u8]) -> io::Result<()> {
    let mut dotlock = mailbox.as_os_str().to_owned();
    dotlock.push(".lock");
    let begun = now();
    loop {
        match File::create_new(&dotlock) {
            Ok(_) => break,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && now() - begun < PATIENCE => std::thread::sleep(AGAIN),
            Err(e) => return Err(e),
        }
    }
    let written = append(mailbox, message);
    let released = remove_file(&dotlock);
    written?;
    // The message is in: a lock that could not be removed is no reason to send it again.
    if let Err(e) = released {
        eprintln!("{}: {e}", dotlock.display());
    }
    Ok(())
}

fn append(mailbox: &Path, message: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).create(true).open(mailbox)?;
    fcntl_lock(&file, FlockOperation::LockExclusive)?;
    let size = fstat(&file)?.st_size;
    let written = file.write_all(message).and_then(|()| file.sync_all());
    if written.is_err() {
        // As Postfix does (MAIL.md 4): what was refused is taken back.
        let _ = file.set_len(u64::try_from(size).unwrap_or(0));
    }
    fcntl_lock(&file, FlockOperation::Unlock)?;
    written
}
