//! The program: to the background, the mount itself, and a process that serves it for as long as it is mounted.
//!
//! G1  The exit code is 0 only when the filesystem answers; 1 for wrong usage, 32 for a failed mount (mount(8)).
//! G5  The mount lives as long as this process, which does next to nothing: it holds the kernel's stream of requests and
//!     the memory in which a daemon keeps what its successor must know, and starts a successor whenever a daemon dies.
//!     Programs wait meanwhile: no ENOTCONN, ever (L9). It never touches a request.
//! G6  Without this process the daemon serves on, alone; without both the mount is dead, and the next `mount` takes it away
//!     (`kernel` M3).
//!
//! It goes to the background without fork(2): it starts itself again as a child that says on stdout how it went.
//! Not here: serving (`daemon`), mount(2) itself (`kernel`).

use crate::{
    args::{self, Args, Asked, Failure},
    daemon::{self, FINISH, HANG_UP, NO_RESEND, SERVED},
    driver::News,
    handover::{self, Memory, ToWorker},
    kernel::{self, Mounted},
    poke,
};
use fuser::SessionACL;
use rustix::process::{Pid, Signal};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{ffi::OsStrExt, process::ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long files may stay open after SIGTERM.
pub(crate) const IN_USE: Duration = Duration::from_secs(5);
/// The first look through the mounted filesystem is allowed this much, even if no time is left for it.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// What the child says when the filesystem answers.
const READY: &str = "READY";
/// A daemon that dies by itself within this time of its start died of what it found there, as likely as not. (One that
/// is killed, by a person or for want of memory, did not.)
const YOUNG: Duration = Duration::from_secs(2);
/// After so many of those in a row nothing of what they left is given to the next one.
const YOUNG_MAX: u32 = 4;
/// Between two of those.
const PAUSE: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == poke::WORD) {
        return poke::main();
    }
    let args = match args::parse(std::env::args_os().skip(1)) {
        Ok(Asked::Mount(args)) => args,
        Ok(Asked::Print(text)) => {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        Err(failure) => {
            eprintln!("error: could not read the command line: {failure}");
            return ExitCode::from(1);
        }
    };
    let result = if args.worker {
        daemon::serve(&args)
    } else if args.foreground || args.child {
        supervise(&args).map(|()| ExitCode::SUCCESS)
    } else {
        background(&args).map(|()| ExitCode::SUCCESS)
    };
    let failure = match result {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    if args.child || args.worker {
        tracing::error!("could not mount: {}", failure.why);
        say(
            &one_line(&failure.why),
            failure.hint.as_deref().map(one_line).as_deref(),
        );
    } else {
        eprintln!(
            "error: could not mount {} on {}: {failure}",
            args.volume,
            args.dir.display()
        );
    }
    ExitCode::from(32)
}

// ---- the parent

/// Starts this program again as a child that stays, and waits for its word.
fn background(args: &Args) -> Result<(), Failure> {
    kernel::check(&args.dir)?;
    let program = std::env::current_exe().map_err(|e| format!("its own program: {e}"))?;
    let log = match &args.options.log_file {
        Some(path) => Stdio::from(open_log(path)?),
        None => Stdio::null(),
    };
    let mut command = Command::new(program);
    command.arg("--child").args(std::env::args_os().skip(1));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut child = command.spawn().map_err(|e| format!("a second process: {e}"))?;
    let patience = args.options.timeout + FIRST_LOOK + FINISH;
    heard_from(&mut child, READY, patience)
}

/// Waits until the child says `wanted`. Errors: what it says instead, or that it says nothing.
fn heard_from(child: &mut Child, wanted: &'static str, patience: Duration) -> Result<(), Failure> {
    match word_of(child, wanted, patience) {
        Ok(lines) if lines.last().is_some_and(|l| l == wanted) => Ok(()),
        Ok(lines) => {
            let mut lines = lines.into_iter();
            match (lines.next(), lines.next()) {
                (Some(why), hint) => Err(Failure { why, hint }),
                (None, _) => {
                    let end = child.wait().map_or_else(|e| e.to_string(), |status| status.to_string());
                    Err(Failure::new(
                        format!("the mount daemon ended without a word ({end})"),
                        "run it with -f to see why",
                    ))
                }
            }
        }
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            let _ = child.kill();
            Err(Failure::new(
                format!("no word within {} s", patience.as_secs()),
                "run it with -f to see why",
            ))
        }
    }
}

/// The lines that the child says until the wanted one, or its end.
fn word_of(child: &mut Child, wanted: &'static str, patience: Duration) -> Result<Vec<String>, RecvTimeoutError> {
    let (said, heard) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in stdout
            .into_iter()
            .flat_map(|s| BufReader::new(s).lines())
            .map_while(Result::ok)
        {
            let ready = line == wanted;
            lines.push(line);
            if ready {
                break;
            }
        }
        let _ = said.send(lines);
    });
    heard.recv_timeout(patience)
}

/// To the parent: that it is done, or why not and a hint.
pub(crate) fn say(line: &str, hint: Option<&str>) {
    let mut out = io::stdout();
    // A parent that is gone needs no word.
    let _ = writeln!(out, "{line}")
        .and_then(|()| hint.map_or(Ok(()), |h| writeln!(out, "{h}")))
        .and_then(|()| out.flush());
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

// ---- the one who stays

/// A daemon that serves, or did.
struct Worker {
    pid: Pid,
    socket: OwnedFd,
    since: Instant,
}

/// What the supervisor hears.
enum Heard {
    Signal,
    Ended(ExitStatus),
}

/// What it keeps for all its daemons.
struct Keeper<'a> {
    args: &'a Args,
    program: PathBuf,
    dir: PathBuf,
    memory: Memory,
    heard: mpsc::Sender<Heard>,
}

impl Keeper<'_> {
    /// Starts daemon number `life`. Its stdout is the child's, if its words are wanted.
    fn start(&self, life: u32, words: bool) -> io::Result<(Child, OwnedFd)> {
        let (ours, theirs) = handover::pair()?;
        let mut command = Command::new(&self.program);
        command.arg("--worker").args(std::env::args_os().skip(1));
        command.stdin(Stdio::from(theirs));
        command.stdout(if words { Stdio::piped() } else { Stdio::null() });
        let child = command.spawn()?;
        let dir = self.dir.as_os_str().as_bytes().to_vec();
        handover::send(&ours, &ToWorker::Begin { life, dir }, &self.memory.fds())?;
        Ok((child, ours))
    }

    /// From here on its end is heard of.
    fn watch(&self, mut child: Child, socket: OwnedFd) -> io::Result<Worker> {
        let pid = Pid::from_child(&child);
        let heard = self.heard.clone();
        std::thread::Builder::new().name("worker".into()).spawn(move || {
            if let Ok(status) = child.wait() {
                let _ = heard.send(Heard::Ended(status));
            }
        })?;
        Ok(Worker {
            pid,
            socket,
            since: Instant::now(),
        })
    }
}

fn supervise(args: &Args) -> Result<(), Failure> {
    let until = Instant::now() + args.options.timeout;
    start_log(args)?;
    let dir = kernel::check(&args.dir)?;
    if args.child {
        let _ = rustix::process::setsid(); // fails for a group leader only, which a child is not
    }
    let (tell, heard) = mpsc::channel();
    let keeper = Keeper {
        args,
        program: std::env::current_exe().map_err(|e| format!("its own program: {e}"))?,
        dir: dir.clone(),
        memory: Memory::new().map_err(|e| format!("memory: {e}"))?,
        heard: tell.clone(),
    };
    let (mut child, socket) = keeper.start(0, true).map_err(|e| format!("a second process: {e}"))?;
    heard_from(&mut child, SERVED, args.options.timeout + FIRST_LOOK)?;
    let worker = keeper.watch(child, socket).map_err(|e| format!("its threads: {e}"))?;
    let (news, signals) = mpsc::channel();
    tell_signals(news).map_err(|e| format!("its signals: {e}"))?;
    std::thread::spawn(move || signals.iter().all(|_| tell.send(Heard::Signal).is_ok()));

    kernel::check(&dir)?;
    let (fuse, acl, mounted) = kernel::mount(args, &dir)?;
    let serve = ToWorker::Serve {
        all: acl == SessionACL::All,
        by_helper: mounted.is_by_helper(),
    };
    let left = until.saturating_duration_since(Instant::now()).max(FIRST_LOOK);
    let looked = handover::send(&worker.socket, &serve, &[fuse.as_fd()])
        .map_err(|e| Failure::from(format!("the process that serves: {e}")))
        .and_then(|()| first_look(&dir, left));
    if looked.is_err() {
        mounted.unmount();
        let _ = rustix::process::kill_process(worker.pid, Signal::KILL);
        return looked;
    }
    tracing::info!("{} is mounted on {}", args.source, dir.display());
    if args.child {
        let _ = std::env::set_current_dir("/"); // no directory is kept busy
        say(READY, None);
        let null = File::options().write(true).open("/dev/null");
        let _ = null.map(|null| rustix::stdio::dup2_stdout(&null));
    }
    stay(&keeper, worker, &fuse, &serve, &mounted, &heard)
}

/// Until the volume is unmounted (G5).
fn stay(
    keeper: &Keeper<'_>,
    mut worker: Worker,
    fuse: &OwnedFd,
    serve: &ToWorker,
    mounted: &Mounted,
    heard: &Receiver<Heard>,
) -> Result<(), Failure> {
    let mut life = 0;
    let mut young = 0;
    let mut end: Option<Instant> = None;
    let mut asked = false;
    loop {
        let word = match end {
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(end) => heard.recv_timeout(end.saturating_duration_since(Instant::now())),
        };
        match word {
            Ok(Heard::Signal) => {
                tracing::info!("a signal asks for the end");
                mounted.unmount();
                end = end.or_else(|| Some(Instant::now() + IN_USE));
            }
            Ok(Heard::Ended(status)) if status.success() => {
                mounted.unmount(); // if it was asked to end, it may still be there
                return Ok(());
            }
            Ok(Heard::Ended(status)) if status.code() == Some(NO_RESEND.into()) => {
                mounted.unmount();
                let why = "the daemon died, and this kernel cannot hand over what it was asked (Linux before 6.9)";
                tracing::error!("{why}; unmounted");
                return Err(Failure::new(why, "mount it again"));
            }
            Ok(Heard::Ended(status)) => {
                let early = worker.since.elapsed() < YOUNG;
                young = match status.signal() {
                    Some(signal) if signal == Signal::KILL.as_raw() => u32::from(early),
                    _ if early => young + 1,
                    _ => 0,
                };
                life += 1;
                tracing::error!("the process that serves ended ({status}); number {life} takes its place");
                worker = succeed(keeper, life, young, fuse, serve);
            }
            Err(_) if !asked => {
                tracing::warn!(
                    "files are still open {} s after the signal; they are lost",
                    IN_USE.as_secs()
                );
                let _ = handover::send(&worker.socket, &ToWorker::End, &[]);
                asked = true;
                end = Some(Instant::now() + FINISH + HANG_UP + HANG_UP);
            }
            Err(_) => {
                let _ = rustix::process::kill_process(worker.pid, Signal::KILL);
                return Ok(());
            }
        }
    }
}

/// Starts daemon number `life`; tries until it can.
fn succeed(keeper: &Keeper<'_>, life: u32, young: u32, fuse: &OwnedFd, serve: &ToWorker) -> Worker {
    let mut pause = match young {
        0 => Duration::ZERO,
        n => PAUSE * 2u32.pow(n.min(8) - 1),
    };
    if young >= YOUNG_MAX {
        tracing::error!("{young} daemons died young: the next one gets nothing of what they left");
        for file in &keeper.memory.journal {
            let _ = file.set_len(0);
        }
    }
    loop {
        std::thread::sleep(pause.min(PAUSE_MAX));
        let started = keeper.start(life, false).and_then(|(child, socket)| {
            // Also if it cannot be told: then its end is heard of.
            let _ = handover::send(&socket, serve, &[fuse.as_fd()]);
            keeper.watch(child, socket)
        });
        match started {
            Ok(worker) => return worker,
            Err(e) => tracing::error!(
                "could not start {} {}: {e}",
                keeper.program.display(),
                keeper.args.source
            ),
        }
        pause = (pause * 2).max(PAUSE);
    }
}

/// Does the filesystem answer (G1)? Asked on a thread of its own, since it might not.
fn first_look(dir: &Path, patience: Duration) -> Result<(), Failure> {
    let (said, heard) = mpsc::channel();
    let dir = dir.to_owned();
    std::thread::spawn(move || {
        let _ = said.send(std::fs::metadata(dir).map(|_| ()));
    });
    match heard.recv_timeout(patience) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(e)) => Err(format!("the mounted filesystem says: {e}").into()),
        Err(_) => Err("the mounted filesystem does not answer".to_owned().into()),
    }
}

/// SIGTERM, SIGINT and SIGHUP as news.
pub(crate) fn tell_signals(news: mpsc::Sender<News>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let streams = {
        let _here = runtime.enter();
        [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal)
    };
    let [mut terminate, mut interrupt, mut hangup] = streams;
    for failed in [&mut terminate, &mut interrupt, &mut hangup] {
        if let Err(e) = failed {
            return Err(io::Error::new(e.kind(), e.to_string()));
        }
    }
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (terminate, interrupt, hangup) else {
                return;
            };
            loop {
                tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {}, _ = hangup.recv() => {} }
                if news.send(News::Signal).is_err() {
                    return;
                }
            }
        });
    })?;
    Ok(())
}

// ---- the log

fn open_log(path: &PathBuf) -> Result<File, Failure> {
    let file = File::options().append(true).create(true).open(path);
    file.map_err(|e| {
        Failure::new(
            format!("the log file {}: {e}", path.display()),
            "give a file in a directory that exists",
        )
    })
}

/// To stderr, which the parent has pointed to the log file already; in the foreground to the log file itself.
pub(crate) fn start_log(args: &Args) -> Result<(), Failure> {
    let level = args.options.log_level;
    // The FUSE library complains of requests that the kernel has given up meanwhile; the others log their own matters.
    let filter = format!("{level},fuser=off,h2=warn,hyper=warn,hyper_util=warn,tonic=warn,tower=warn");
    let filter = if level == "off" { "off".to_owned() } else { filter };
    let log = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_ansi(false);
    let _ = match &args.options.log_file {
        Some(path) if !args.child => log.with_writer(open_log(path)?).try_init(),
        _ => log.with_writer(io::stderr).try_init(),
    };
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(script: &str) -> Child {
        Command::new("sh")
            .args(["-c", script])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    #[test]
    fn the_word_of_a_child() {
        let patience = Duration::from_secs(10);
        let word = |script| {
            let mut child = child(script);
            let lines = word_of(&mut child, READY, patience).unwrap();
            let _ = child.wait();
            lines
        };
        assert_eq!(word("echo READY; exec >/dev/null; exec sleep 0.1"), [READY]);
        assert_eq!(word("echo why; echo hint"), ["why", "hint"]);
        assert!(word("exit 3").is_empty());
    }

    #[test]
    fn a_child_that_says_nothing_is_not_awaited_for_ever() {
        let mut child = child("exec sleep 60");
        assert_eq!(
            word_of(&mut child, READY, Duration::from_millis(50)),
            Err(RecvTimeoutError::Timeout)
        );
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn the_first_look() {
        assert_eq!(first_look(Path::new("/"), Duration::from_secs(10)), Ok(()));
        assert!(first_look(Path::new("/no/such/place"), Duration::from_secs(10)).is_err());
    }

    #[test]
    fn words_to_the_parent_are_one_line() {
        assert_eq!(one_line("a\n  b\tc "), "a b c");
    }
}
