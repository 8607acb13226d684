//! The process that serves: a driver on the kernel's stream, until the volume is unmounted.
//!
//! G2  Nothing is mounted before a brick serves the volume: an unreachable or stopped one never hangs the mount point.
//! G3  Whoever unmounts, what was written is committed before the end, and the session is given up, in bounded time.
//! G4  However else it ends, another one can go on with what it leaves: the session is not given up then.
//!
//! Not here: what starts it, and mounts (`supervisor`); what happens on the mounted filesystem (`ops`).

use crate::{
    args::{Args, Failure},
    driver::{self, Driver, News},
    handover::{self, Memory, Notes, ToWorker},
    host,
    journal::Journal,
    kernel::Mounted,
    ops::Ops,
    poke, stream,
    supervisor::{say, start_log, tell_signals},
    watch,
};
use fuser::SessionACL;
use mboxfs_client::{
    Client,
    input::{Config, Input},
};
use mboxfs_rpc::Credentials;
use rustix::io::Errno;
use std::{
    ffi::OsString,
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::ffi::OsStringExt,
    },
    path::{Path, PathBuf},
    process::ExitCode,
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    time::{Duration, Instant},
};

/// How long the commit of what is staged, and the goodbye, may take at the end.
pub(crate) const FINISH: Duration = Duration::from_secs(5);
/// How long the last frames may take to the brick.
pub(crate) const HANG_UP: Duration = Duration::from_millis(500);
/// What it says when the volume is served and may be mounted.
pub(crate) const SERVED: &str = "SERVED";
/// Exit code: the kernel cannot hand over what the former daemon was asked (Linux before 6.9).
pub(crate) const NO_RESEND: u8 = 3;
/// Exit code: its stream of requests failed, for a reason that another daemon may not have.
const BROKEN: i32 = 4;

/// /dev/fuse; it may be used by all, or by the mount's owner only; fusermount3 mounted it.
type Stream = (OwnedFd, bool, bool);

/// The whole process. Its stdin is the socket to the supervisor.
pub(crate) fn serve(args: &Args) -> Result<ExitCode, Failure> {
    let until = Instant::now() + args.options.timeout;
    start_log(args)?;
    let socket = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| e.to_string())?;
    let (life, dir, memory) = match handover::receive(&socket) {
        Ok((ToWorker::Begin { life, dir }, fds)) => {
            let memory = Memory::received(fds).map_err(|e| e.to_string())?;
            (life, PathBuf::from(OsString::from_vec(dir)), memory)
        }
        other => return Err(Failure::from(format!("this is no supervisor: {other:?}"))),
    };
    if args.child {
        let _ = std::env::set_current_dir("/"); // no directory is kept busy
    }
    let (news, heard) = mpsc::channel();
    let (to, streams) = mpsc::channel();
    listen(socket, to, news.clone()).map_err(|e| format!("its threads: {e}"))?;
    let driver = start(args, &dir, life, memory.journal, &memory.notes, news.clone())
        .map_err(|e| format!("its threads: {e}"))?;
    if life == 0 {
        await_ready(args, driver, &heard, until)?; // G2
        say(SERVED, None);
    }
    // Without a word: it could not mount, says so itself, and is gone.
    let Ok((fuse, all, by_helper)) = streams.recv() else {
        return Ok(ExitCode::SUCCESS);
    };
    let acl = if all { SessionACL::All } else { SessionACL::Owner };
    let mounted = Mounted::here(&dir, by_helper);
    silence();
    tell_signals(news.clone()).map_err(|e| format!("its signals: {e}"))?;
    let session = handover::session(Ops::new(driver), &fuse, acl, &memory.notes)
        .map_err(|e| format!("the kernel's handshake: {e}"))?;
    driver.mounted(session.notifier());
    if life > 0 {
        match handover::ask_again(&fuse) {
            Ok(()) => {}
            // Nobody reads any more: that is found below.
            Err(Errno::NOTCONN | Errno::NODEV) => {}
            Err(e) => {
                tracing::error!("could not have the kernel ask again what the former daemon was asked: {e}");
                return Ok(ExitCode::from(NO_RESEND));
            }
        }
    }
    drop(fuse);
    let events = std::thread::Builder::new().name("fuse".into()).spawn(move || {
        if let Err(e) = session.run() {
            tracing::error!("the kernel's stream of requests failed: {e}");
            std::process::exit(BROKEN); // G4
        }
        let _ = news.send(News::Unmounted);
    });
    events.map_err(|e| format!("its threads: {e}"))?;
    await_end(&mounted, &heard);
    finish(driver, &heard); // G3
    Ok(ExitCode::SUCCESS)
}

fn start(
    args: &Args,
    dir: &Path,
    life: u32,
    files: crate::journal::Files,
    notes: &File,
    news: mpsc::Sender<News>,
) -> std::io::Result<&'static Driver> {
    let (pokes, poked) = mpsc::sync_channel(poke::POKES_MAX);
    let (journal, words) = Journal::open(files);
    let mut noted = Notes::read(notes);
    if noted.local.is_empty() {
        noted.local = own_names(args);
        noted.write(notes)?;
    }
    let config = config(args, dir, noted.local);
    let client = if life == 0 {
        Client::new(config, driver::clock())
    } else {
        let words_count = words.len();
        let client = Client::resume(config, driver::clock(), life, words);
        let (session, [open, staged, locked, dots, asked]) = client.inheritance();
        tracing::warn!(
            "daemon {life} of this mount goes on with session {:016x}: {open} open files, {staged} with bytes to commit, \
             {locked} locked, {dots} dotlocks, {asked} requests under way ({words_count} words)",
            session.nonce
        );
        client
    };
    let (driver, wanted) = Driver::new(client, journal, noted.pokers, pokes, news);
    let driver: &'static Driver = Box::leak(Box::new(driver));
    poke::start(driver, poked, dir.to_owned(), notes.try_clone()?)?;
    watch::start(driver)?;
    stream::start(driver, wanted, Credentials::File(args.options.identity.clone()))?;
    Ok(driver)
}

fn own_names(args: &Args) -> Vec<String> {
    let hosts = args
        .bricks
        .iter()
        .filter_map(|b| Some(b.rsplit_once(':')?.0.to_owned()));
    host::own_names(&hosts.collect::<Vec<_>>())
}

fn config(args: &Args, dir: &Path, local: Vec<String>) -> Config {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    Config {
        volume: args.volume.clone(),
        client: host::client_id(dir),
        // Each half has a few fixed bits, at different places.
        nonce: high ^ low.rotate_left(32),
        bricks: args.bricks.clone(),
        local,
    }
}

fn await_ready(args: &Args, driver: &Driver, heard: &Receiver<News>, until: Instant) -> Result<(), Failure> {
    loop {
        match heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(News::Ready) => return Ok(()),
            Ok(News::Alone) => return Err(Failure::from("its supervisor is gone".to_owned())),
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

/// Nobody listens to its words any more, and stdin gets another use.
fn silence() {
    let null = File::options().read(true).write(true).open("/dev/null");
    let _ = null.map(|null| rustix::stdio::dup2_stdout(&null));
}

/// What the supervisor says: the kernel's stream, and news.
fn listen(socket: OwnedFd, stream: mpsc::Sender<Stream>, news: mpsc::Sender<News>) -> std::io::Result<()> {
    std::thread::Builder::new().name("supervisor".into()).spawn(move || {
        let mut stream = Some(stream);
        while let Ok((word, mut fds)) = handover::receive(&socket) {
            match word {
                ToWorker::Serve { all, by_helper } if fds.len() == 1 => {
                    let _ = stream.take().map(|to| to.send((fds.remove(0), all, by_helper)));
                }
                ToWorker::End => {
                    let _ = news.send(News::EndNow);
                }
                other => tracing::error!("the supervisor says {other:?}"),
            }
        }
        let _ = news.send(News::Alone);
    })?;
    Ok(())
}

/// Until somebody unmounts, or the end is asked for. A signal is the supervisor's business as long as there is one.
fn await_end(mounted: &Mounted, heard: &Receiver<News>) {
    let mut alone = false;
    let mut until: Option<Instant> = None;
    loop {
        let news = match until {
            None => heard.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(until) => heard.recv_timeout(until.saturating_duration_since(Instant::now())),
        };
        match news {
            Ok(News::Unmounted) => return tracing::info!("unmounted"),
            Ok(News::EndNow) => return tracing::warn!("files are still open; they are lost"),
            Ok(News::Alone) => {
                tracing::warn!(
                    "the supervisor is gone: the next crash would end the mount; mount again when nobody uses it"
                );
                alone = true;
            }
            Ok(News::Signal) if alone => {
                mounted.unmount();
                until = until.or_else(|| Some(Instant::now() + crate::supervisor::IN_USE));
            }
            Ok(_) => {}
            Err(_) => return tracing::warn!("files are still open; they are lost"),
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
