//! The program: going to the background, the mount itself, the end.
//!
//! G1  The exit code is 0 only when the filesystem answers; 1 for wrong usage, 32 for a failed mount (mount(8)).
//! G2  Nothing is mounted before a brick serves the volume: an unreachable or stopped one never hangs the mount point.
//! G3  Whoever unmounts, what was written is committed before the end, and the session is given up, in bounded time.
//!
//! It goes to the background without fork(2): it starts itself again as a child that says on stdout how it went.
//!
//! Not here: what happens on the mounted filesystem (`ops`), mount(2) itself (`kernel`).

use crate::{
    args::{self, Args, Asked, Failure},
    driver::{Driver, News},
    host, kernel,
    ops::Ops,
    poke, stream, watch,
};
use mboxfs_client::input::{Config, Input};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long the commit of what is staged, and the goodbye, may take at the end.
const FINISH: Duration = Duration::from_secs(5);
/// How long the last frames may take to the brick.
const HANG_UP: Duration = Duration::from_millis(500);
/// How long files may stay open after SIGTERM.
const IN_USE: Duration = Duration::from_secs(5);
/// The first look through the mounted filesystem is allowed this much, even if no time is left for it.
const FIRST_LOOK: Duration = Duration::from_secs(3);
/// What the child says when the filesystem answers.
const READY: &str = "READY";

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
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
    let result = if args.foreground || args.child {
        serve(&args)
    } else {
        background(&args)
    };
    let Err(failure) = result else { return ExitCode::SUCCESS };
    if args.child {
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
    match word_of(&mut child, patience) {
        Ok(lines) if lines.first().is_some_and(|l| l == READY) => Ok(()),
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

/// The lines that the child says until it is ready, or ends.
fn word_of(child: &mut Child, patience: Duration) -> Result<Vec<String>, RecvTimeoutError> {
    let (said, heard) = mpsc::channel();
    let stdout = child.stdout.take();
    std::thread::spawn(move || {
        let mut lines = Vec::new();
        for line in stdout
            .into_iter()
            .flat_map(|s| BufReader::new(s).lines())
            .map_while(Result::ok)
        {
            let ready = line == READY;
            lines.push(line);
            if ready {
                break;
            }
        }
        let _ = said.send(lines);
    });
    heard.recv_timeout(patience)
}

/// To the parent: READY, or why not and a hint.
fn say(line: &str, hint: Option<&str>) {
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

fn serve(args: &Args) -> Result<(), Failure> {
    let until = Instant::now() + args.options.timeout;
    let dir = kernel::check(&args.dir)?;
    start_log(args)?;
    if args.child {
        let _ = rustix::process::setsid(); // fails for a group leader only, which a child is not
        let _ = std::env::set_current_dir("/"); // no directory is kept busy
    }
    let (news, heard) = mpsc::channel();
    let driver = start(args, &dir, news.clone()).map_err(|e| format!("its threads: {e}"))?;
    await_ready(args, driver, &heard, until)?; // G2
    tell_signals(news.clone()).map_err(|e| format!("its signals: {e}"))?;

    kernel::check(&dir)?;
    let (fd, acl, mounted) = kernel::mount(args, &dir)?;
    let session = fuser::Session::from_fd(Ops::new(driver), fd, acl, fuser::Config::default()).map_err(|e| {
        mounted.unmount();
        format!("the kernel's handshake: {e}")
    })?;
    driver.mounted(session.notifier());
    let events = std::thread::Builder::new().name("fuse".into()).spawn(move || {
        if let Err(e) = session.run() {
            tracing::error!("the kernel's stream of requests ended: {e}");
        }
        let _ = news.send(News::Unmounted);
    });
    let left = until.saturating_duration_since(Instant::now()).max(FIRST_LOOK);
    let looked = events
        .map_err(|e| format!("its threads: {e}").into())
        .and_then(|_| first_look(&dir, left));
    if looked.is_err() {
        mounted.unmount();
    } else {
        tracing::info!("{} is mounted on {}", args.source, dir.display());
        if args.child {
            say(READY, None);
            let _ = File::options()
                .write(true)
                .open("/dev/null")
                .map(|null| rustix::stdio::dup2_stdout(&null));
        }
        await_end(&mounted, &heard);
    }
    finish(driver, &heard); // G3
    looked
}

fn start(args: &Args, dir: &Path, news: mpsc::Sender<News>) -> io::Result<&'static Driver> {
    let (pokes, poked) = mpsc::sync_channel(poke::POKES_MAX);
    let (driver, wanted) = Driver::new(config(args, dir), pokes, news);
    let driver: &'static Driver = Box::leak(Box::new(driver));
    poke::start(driver, poked, dir.to_owned())?;
    watch::start(driver)?;
    stream::start(driver, wanted)?;
    Ok(driver)
}

fn config(args: &Args, dir: &Path) -> Config {
    let hosts: Vec<String> = args
        .bricks
        .iter()
        .filter_map(|b| Some(b.rsplit_once(':')?.0.to_owned()))
        .collect();
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    Config {
        volume: args.volume.clone(),
        client: host::client_id(dir),
        // Each half has a few fixed bits, at different places.
        nonce: high ^ low.rotate_left(32),
        bricks: args.bricks.clone(),
        local: host::own_names(&hosts),
    }
}

fn await_ready(args: &Args, driver: &Driver, heard: &Receiver<News>, until: Instant) -> Result<(), Failure> {
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(News::Ready) => return Ok(()),
            Ok(News::Refused(why)) => return Err(Failure::new(why, "mboxfs volume info")),
            Ok(_) => {}
            Err(_) => {
                let seconds = args.options.timeout.as_secs();
                let trouble = driver.trouble().map_or_else(String::new, |why| format!(" ({why})"));
                let why = format!("no brick serves it within {seconds} s{trouble}");
                return Err(Failure::new(why, format!("mboxfs volume status {}", args.volume)));
            }
        }
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

/// Until somebody unmounts, or a signal asks for it.
fn await_end(mounted: &kernel::Mounted, heard: &Receiver<News>) {
    let mut until: Option<Instant> = None;
    loop {
        let news = match until {
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => heard.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match news {
            Ok(News::Signal) => {
                tracing::info!("a signal asks for the end");
                mounted.unmount();
                until = until.or_else(|| Some(Instant::now() + IN_USE));
            }
            Ok(News::Unmounted) => return tracing::info!("unmounted"),
            Ok(_) => {}
            Err(_) => {
                return tracing::warn!(
                    "files are still open {} s after the signal; they are lost",
                    IN_USE.as_secs()
                );
            }
        }
    }
}

/// G3.
fn finish(driver: &Driver, heard: &Receiver<News>) {
    driver.input(Input::Shutdown);
    for (wanted, patience) in [(News::Finished, FINISH), (News::HungUp, HANG_UP)] {
        let until = Instant::now() + patience;
        loop {
            match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(news) if news == wanted => break,
                Ok(_) => {}
                Err(_) if wanted == News::Finished => {
                    return tracing::warn!("no brick took the goodbye within {} s", patience.as_secs());
                }
                Err(_) => return,
            }
        }
    }
}

/// SIGTERM, SIGINT and SIGHUP as news.
fn tell_signals(news: mpsc::Sender<News>) -> io::Result<()> {
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
fn start_log(args: &Args) -> Result<(), Failure> {
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
            let lines = word_of(&mut child, patience).unwrap();
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
            word_of(&mut child, Duration::from_millis(50)),
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
