//! The loop around the brain of the mount: the only place with its lock, its stream and its timers.
//!
//! Promises
//! J1  The event thread never waits: it steps the brain, and answers what can be answered at once.
//! J2  The lock is never held over an answer to the kernel or a system call on the own mount.
//!
//! Not here: decoding calls (`ops`).

use crate::{process, reply::Reply};
use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller, Clock, Config, Input},
    output::{Answer, Event, Output},
};
use mboxfs_rpc::Sender;
use mboxfs_types::{Errno, Nanos, Timestamp, call::ToBrick};
use rustix::time::{ClockId, clock_gettime};
use std::{
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};
use tokio::sync::mpsc as async_mpsc;

/// How long a brick may take to accept a stream.
const DIAL: Duration = Duration::from_millis(1000);

/// What the program wants to know of the mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    Ready,
    Refused(String),
    Finished,
}

struct Inner {
    client: Client,
    replies: BTreeMap<CallId, Reply>,
    next_call: u64,
    /// Number of the stream wanted now; words of an older one are dropped.
    stream: u64,
    link: Option<Sender<ToBrick>>,
    /// Start times of watched processes.
    started: BTreeMap<u32, Option<u64>>,
}

/// The brain with everything that it needs.
pub(crate) struct Driver {
    inner: Mutex<Inner>,
    dials: async_mpsc::UnboundedSender<(u64, String)>,
    pokes: mpsc::SyncSender<PathBuf>,
    news: mpsc::Sender<News>,
}

fn clock() -> Clock {
    let mono = clock_gettime(ClockId::Boottime);
    let real = clock_gettime(ClockId::Realtime);
    Clock {
        mono: Nanos(mono.tv_sec as u64 * 1_000_000_000 + mono.tv_nsec as u64),
        real: Timestamp {
            secs: real.tv_sec,
            nanos: real.tv_nsec as u32,
        },
    }
}

impl Driver {
    /// The driver, and the ends that `run` and the poke thread need.
    pub(crate) fn new(config: Config, news: mpsc::Sender<News>) -> (Self, Ends) {
        let (dials, dialled) = async_mpsc::unbounded_channel();
        let (pokes, poked) = mpsc::sync_channel(64);
        let inner = Inner {
            client: Client::new(config, clock()),
            replies: BTreeMap::new(),
            next_call: 0,
            stream: 0,
            link: None,
            started: BTreeMap::new(),
        };
        (
            Self {
                inner: Mutex::new(inner),
                dials,
                pokes,
                news,
            },
            Ends { dialled, poked },
        )
    }

    // A panic in a step poisons the lock; mail must go on, so the state is taken as it is.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has_staged(&self, ino: mboxfs_types::Ino) -> bool {
        self.lock().client.has_staged(ino)
    }

    /// A call of the kernel.
    pub(crate) fn call(&self, caller: Caller, call: Call, reply: Reply) {
        let mut inner = self.lock();
        inner.next_call += 1;
        let id = CallId(inner.next_call);
        inner.replies.insert(id, reply);
        self.step(inner, Input::Call { id, caller, call });
    }

    /// A call without an answer.
    pub(crate) fn tell(&self, call: Call) {
        let mut inner = self.lock();
        inner.next_call += 1;
        let id = CallId(inner.next_call);
        self.step(
            inner,
            Input::Call {
                id,
                caller: Caller::default(),
                call,
            },
        );
    }

    pub(crate) fn input(&self, input: Input) {
        self.step(self.lock(), input);
    }

    fn step(&self, mut inner: MutexGuard<'_, Inner>, input: Input) {
        let mut out = Vec::new();
        let stepped = catch_unwind(AssertUnwindSafe(|| inner.client.step(clock(), input, &mut out)));
        if stepped.is_err() {
            tracing::error!("a step of the mount panicked; the call is answered with ESTALE");
        }
        let mut answers: Vec<(Reply, Result<Answer, Errno>)> = Vec::new();
        for output in out {
            self.carry_out(&mut inner, output, &mut answers);
        }
        if stepped.is_err()
            && let Some(entry) = inner.replies.pop_last()
        {
            answers.push((entry.1, Err(Errno::ESTALE)));
        }
        drop(inner); // J2
        for (reply, result) in answers {
            reply(result);
        }
    }

    fn carry_out(&self, inner: &mut Inner, output: Output, answers: &mut Vec<(Reply, Result<Answer, Errno>)>) {
        match output {
            Output::Done { id, result } => {
                if let Some(reply) = inner.replies.remove(&id) {
                    answers.push((reply, result));
                }
            }
            Output::Send(frame) => {
                if let Some(link) = &inner.link
                    && link.send(frame).is_err()
                {
                    inner.link = None; // the receiving side ends too, and says so
                }
            }
            Output::Connect { address } => {
                inner.stream += 1;
                inner.link = None;
                // Fails only when the program ends.
                let _ = self.dials.send((inner.stream, address));
            }
            Output::Disconnect => {
                inner.stream += 1;
                inner.link = None;
            }
            Output::Poke { path } => {
                let path: PathBuf = path.iter().map(|n| OsStr::from_bytes(n.as_bytes())).collect();
                // A full queue: watchers are woken late, by their own polling.
                let _ = self.pokes.try_send(path);
            }
            Output::Refused { why } => self.report(News::Refused(why)),
            Output::Ready => self.report(News::Ready),
            Output::Finished => self.report(News::Finished),
            Output::Event(event) => log(&event),
        }
    }

    fn report(&self, news: News) {
        let _ = self.news.send(news);
    }

    fn wanted(&self, stream: u64) -> bool {
        self.lock().stream == stream
    }

    /// One stream to a brick, for as long as it lasts and is wanted.
    async fn serve(&self, stream: u64, address: String) {
        let link = match mboxfs_rpc::dial_mount(&address, DIAL).await {
            Ok(link) => link,
            Err(error) => {
                tracing::debug!("{error}");
                if self.wanted(stream) {
                    self.input(Input::Disconnected);
                }
                return;
            }
        };
        let mboxfs_rpc::Link { send, mut recv, .. } = link;
        {
            let mut inner = self.lock();
            if inner.stream != stream {
                return;
            }
            inner.link = Some(send);
            self.step(inner, Input::Connected);
        }
        while let Some(frame) = recv.recv().await {
            let inner = self.lock();
            if inner.stream != stream {
                return;
            }
            self.step(inner, Input::Frame(frame));
        }
        let mut inner = self.lock();
        if inner.stream == stream {
            tracing::info!("lost {address}: {}", recv.why_ended().unwrap_or_default());
            inner.link = None;
            self.step(inner, Input::Disconnected);
        }
    }

    /// Signals that are pending for those who wait, and makers of dotlocks that are gone.
    fn look_at_processes(&self, watched: bool) {
        let waiting = self.lock().client.waiting();
        for (id, pid) in waiting {
            if pid != 0 && process::interrupted(pid) {
                self.input(Input::Interrupt(id));
            }
        }
        if !watched {
            return;
        }
        let pids = self.lock().client.watched();
        for pid in pids {
            let now = process::started(pid);
            let before = *self.lock().started.entry(pid).or_insert(now);
            if now.is_none() || now != before {
                self.lock().started.remove(&pid);
                self.input(Input::Gone { pid });
            }
        }
    }
}

/// What the threads of the driver receive from.
pub(crate) struct Ends {
    dialled: async_mpsc::UnboundedReceiver<(u64, String)>,
    poked: mpsc::Receiver<PathBuf>,
}

/// Runs streams and timers until the program ends. `dir`: the mount point, for pokes.
pub(crate) fn run(driver: &'static Driver, ends: Ends, dir: &Path) -> std::io::Result<()> {
    let Ends { mut dialled, poked } = ends;
    let dir = dir.to_owned();
    std::thread::Builder::new().name("poke".into()).spawn(move || {
        for path in poked {
            poke(&dir.join(path));
        }
    })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("brick".into()).spawn(move || {
        runtime.block_on(async {
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            let mut count = 0u64;
            loop {
                tokio::select! {
                    Some((stream, address)) = dialled.recv() => {
                        tokio::spawn(driver.serve(stream, address));
                    }
                    _ = tick.tick() => {
                        driver.input(Input::Tick);
                        count += 1;
                        if count.is_multiple_of(5) {
                            driver.look_at_processes(count.is_multiple_of(25));
                        }
                    }
                }
            }
        });
    })?;
    Ok(())
}

/// Raises IN_MODIFY: a truncate to the own size, which the brain ignores because this process makes it.
fn poke(path: &Path) {
    if let Ok(file) = std::fs::OpenOptions::new().write(true).open(path)
        && let Ok(meta) = file.metadata()
    {
        let _ = file.set_len(meta.len());
    }
}

fn log(event: &Event) {
    match event {
        Event::Attached { address } => tracing::info!("attached to {address}"),
        Event::Lost => tracing::warn!("lost the brick"),
        Event::Expired { dead_handles } => {
            tracing::warn!("the session was expired; {dead_handles} open files answer ESTALE");
        }
        Event::DotlockReaped { name, pid } => tracing::info!("removed dotlock {name}: process {pid} is gone"),
        Event::SessionDropped { ino } => tracing::info!("dropped the lock session of a killed process on {ino}"),
        Event::SessionSplit { ino } => tracing::warn!("a lock session on {ino} was committed in pieces"),
    }
}
