//! The brain of the mount under its lock: what goes in, and carrying out what comes out.
//!
//! J1  The event thread never waits for the brick: it steps the brain, and answers what can be answered at once.
//! J2  The lock is never held over an answer to the kernel or over a system call on the own mount.
//! J3  Frames leave in the order in which the brain said them: they go into the stream's queue under the lock.
//! J4  A panic in the brain costs the call that it happened in (ESTALE, never EIO), not the mount.
//! J5  What a successor must know is written down before anything else of a step is carried out.
//!
//! Not here: decoding calls (`ops`), the stream itself (`stream`).

use crate::{journal::Journal, process, reply::Reply};
use fuser::{INodeNo, Notifier};
use mboxfs_client::{
    Client,
    input::{Call, CallId, Caller, Clock, Input},
    output::{Answer, Event, Output},
};
use mboxfs_rpc::Sender;
use mboxfs_types::{
    Errno, Ino, Name, Nanos, Timestamp,
    call::{ToBrick, ToMount},
    limits,
};
use rustix::time::{ClockId, clock_gettime};
use std::{
    any::Any,
    collections::BTreeMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc,
    },
};
use tokio::sync::watch;

/// What the program wants to know of the mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum News {
    /// The volume is served.
    Ready,
    /// It never will be.
    Refused(String),
    /// Shutdown is complete.
    Finished,
    /// The stream has ended after that: what was said on it has been heard.
    HungUp,
    /// A signal asks for the end.
    Signal,
    /// The supervisor asks for it, whatever is open.
    EndNow,
    /// The supervisor is gone.
    Alone,
    /// The kernel's side has ended: somebody unmounted the volume.
    Unmounted,
}

/// The stream that the brain wants; a new number for each wish, so that words of an older stream are told apart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) stream: u64,
    /// `host:port`; none: no stream.
    pub(crate) address: Option<String>,
}

/// An answer on its way out of the lock.
type Answered = (CallId, Reply, Result<Answer, Errno>);

struct Inner {
    client: Client,
    journal: Journal,
    replies: BTreeMap<CallId, Reply>,
    /// What the kernel asked so far, by kind.
    counts: BTreeMap<&'static str, u64>,
    /// Number of the stream wanted now.
    stream: u64,
    link: Option<Sender<ToBrick>>,
    /// When the brain wants its next tick.
    due: Option<Nanos>,
    /// After a panic: these calls may have been lost in it; they are given up then (J4).
    suspects: Option<(Vec<CallId>, Nanos)>,
    /// Why no stream could be had, for the one who mounts.
    trouble: Option<String>,
    finished: bool,
}

/// The brain with everything that it needs.
pub(crate) struct Driver {
    inner: Mutex<Inner>,
    /// Calls whose answers the kernel has; the brain is told at its next step.
    answered: Mutex<Vec<CallId>>,
    wanted: watch::Sender<Wanted>,
    pokes: mpsc::SyncSender<PathBuf>,
    news: mpsc::Sender<News>,
    /// `Client::has_lost_dots`, as of the last step.
    lost_dots: AtomicBool,
    /// Who wakes watchers; 0 as long as there is nobody.
    poker: AtomicU32,
    /// Those of former daemons, with their start times.
    old_pokers: Vec<(u32, u64)>,
    /// Speaks to the kernel; there from the moment of mounting.
    notifier: OnceLock<Notifier>,
}

pub(crate) fn clock() -> Clock {
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
    /// The driver, and what it wants `stream` to do.
    pub(crate) fn new(
        client: Client,
        mut journal: Journal,
        old_pokers: Vec<(u32, u64)>,
        pokes: mpsc::SyncSender<PathBuf>,
        news: mpsc::Sender<News>,
    ) -> (Self, watch::Receiver<Wanted>) {
        let (wanted, wishes) = watch::channel(Wanted::default());
        let now = clock();
        journal.begin(&client.kept_all());
        let inner = Inner {
            client,
            journal,
            replies: BTreeMap::new(),
            counts: BTreeMap::new(),
            stream: 0,
            link: None,
            due: Some(now.mono),
            suspects: None,
            trouble: None,
            finished: false,
        };
        (
            Self {
                inner: Mutex::new(inner),
                answered: Mutex::default(),
                wanted,
                pokes,
                news,
                lost_dots: AtomicBool::new(false),
                poker: AtomicU32::new(0),
                old_pokers,
                notifier: OnceLock::new(),
            },
            wishes,
        )
    }

    // Panics of the brain are caught inside; whatever else poisons the lock, mail must go on.
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- what the threads around it ask

    pub(crate) fn end_matters(&self, ino: Ino, pid: u32) -> bool {
        self.lock().client.end_matters(ino, pid)
    }

    pub(crate) fn has_lost_dots(&self) -> bool {
        self.lost_dots.load(Ordering::Relaxed)
    }

    pub(crate) fn dot_maker(&self, dir: Ino, name: &Name) -> Option<u32> {
        self.lock().client.dot_maker(dir, name)
    }

    /// One that was answered without the brain.
    pub(crate) fn count(&self, word: &'static str) {
        *self.lock().counts.entry(word).or_default() += 1;
    }

    /// What the kernel asked since the mount began: a line `word number` for each kind of request.
    pub(crate) fn counts(&self) -> String {
        let inner = self.lock();
        inner.counts.iter().map(|(word, n)| format!("{word} {n}\n")).collect()
    }

    /// Calls that wait for a lock, with the thread that waits.
    pub(crate) fn waiting(&self) -> Vec<(CallId, u32)> {
        self.lock().client.waiting()
    }

    /// Processes whose end the brain wants to know.
    pub(crate) fn watched(&self) -> Vec<u32> {
        self.lock().client.watched()
    }

    pub(crate) fn mounted(&self, notifier: Notifier) {
        let _ = self.notifier.set(notifier); // once only
    }

    pub(crate) fn poker_is(&self, pid: u32) {
        self.poker.store(pid, Ordering::Relaxed);
    }

    /// Is this a process that makes the mount's own truncates?
    pub(crate) fn is_poker(&self, pid: u32) -> bool {
        let old = || {
            self.old_pokers
                .iter()
                .any(|(p, since)| *p == pid && process::started(*p) == Some(*since))
        };
        pid != 0 && (self.poker.load(Ordering::Relaxed) == pid || old())
    }

    /// Why the last try to reach a brick failed.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.lock().trouble.clone()
    }

    pub(crate) fn troubled_by(&self, why: String) {
        self.lock().trouble = Some(why);
    }

    pub(crate) fn tell(&self, news: News) {
        // Nobody listens any more only when the program is ending.
        let _ = self.news.send(news);
    }

    // ---- inputs

    /// A call of the kernel, with its number there. True: it was answered at once, and no other one waits.
    pub(crate) fn call(&self, id: CallId, caller: Caller, call: Call, reply: Reply) -> bool {
        let mut inner = self.lock();
        inner.replies.insert(id, reply);
        *inner.counts.entry(call.word()).or_default() += 1;
        self.step(inner, Input::Call { id, caller, call })
    }

    /// Calls without an answer.
    pub(crate) fn forget(&self, all: impl Iterator<Item = (Ino, u64)>) {
        for (ino, count) in all {
            let mut inner = self.lock();
            let id = CallId(0);
            let call = Call::Forget { ino, count };
            *inner.counts.entry(call.word()).or_default() += 1;
            let caller = Caller::default();
            self.step(inner, Input::Call { id, caller, call });
        }
    }

    pub(crate) fn input(&self, input: Input) {
        self.step(self.lock(), input);
    }

    /// Something happened on this stream. False: the stream is not wanted any more.
    pub(crate) fn on_stream(&self, stream: u64, what: OnStream) -> bool {
        let mut inner = self.lock();
        if inner.stream != stream {
            return false;
        }
        let input = match what {
            OnStream::Up(send) => {
                inner.link = Some(send);
                Input::Connected
            }
            OnStream::Frame(frame) => Input::Frame(frame),
            OnStream::Down if inner.finished => {
                // As it should be: the brain has said all that it had to say.
                inner.link = None;
                self.tell(News::HungUp);
                return true;
            }
            OnStream::Down => {
                inner.link = None;
                Input::Disconnected
            }
        };
        self.step(inner, input);
        true
    }

    /// A tick, if the brain wants one or a call waits.
    pub(crate) fn tick(&self) {
        let mut inner = self.lock();
        let now = clock().mono;
        if inner.suspects.as_ref().is_some_and(|(_, until)| now >= *until) {
            self.give_up_suspects(&mut inner);
        }
        if inner.due.is_some_and(|due| due <= now) || !inner.replies.is_empty() {
            inner.due = None;
            self.step(inner, Input::Tick);
        }
    }

    // ---- the step

    /// True: no call waits for its answer.
    fn step(&self, mut inner: MutexGuard<'_, Inner>, input: Input) -> bool {
        let call = if let Input::Call { id, .. } = input {
            Some(id)
        } else {
            None
        };
        let mut out = Vec::new();
        let now = clock();
        let answered = std::mem::take(&mut *self.answered.lock().unwrap_or_else(PoisonError::into_inner));
        let stepped = catch_unwind(AssertUnwindSafe(|| {
            inner.client.answered(&answered);
            inner.client.step(now, input, &mut out);
        }));
        Self::keep(&mut inner); // J5
        let mut answers = Vec::new();
        for output in out {
            self.carry_out(&mut inner, output, &mut answers);
        }
        if let Err(panic) = stepped {
            self.on_panic(&mut inner, call, now.mono, panic.as_ref(), &mut answers);
        }
        // A deadline stays due until a tick has seen it, however often other inputs move the brain's own one on.
        inner.due = match (inner.due, inner.client.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let idle = inner.replies.is_empty();
        self.lost_dots.store(inner.client.has_lost_dots(), Ordering::Relaxed);
        drop(inner); // J2
        let mut done = Vec::with_capacity(answers.len());
        for (id, reply, result) in answers {
            reply.answer(result);
            done.push(id);
        }
        if !done.is_empty() {
            let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
            answered.append(&mut done);
        }
        idle
    }

    /// J5.
    fn keep(inner: &mut Inner) {
        let (anew, words) = inner.client.kept();
        if anew {
            inner.journal.begin(&words);
        } else {
            inner.journal.add(&words);
            if inner.journal.is_long() {
                inner.journal.begin(&inner.client.kept_all());
            }
        }
    }

    fn carry_out(&self, inner: &mut Inner, output: Output, answers: &mut Vec<Answered>) {
        match output {
            Output::Done { id, result } => {
                if let Some(reply) = inner.replies.remove(&id) {
                    answers.push((id, reply, result));
                }
            }
            Output::Send(frame) => {
                if let Some(link) = &inner.link
                    && link.send(frame).is_err()
                {
                    inner.link = None; // the receiving half ends too, and `stream` says so
                }
            }
            Output::Connect { address } => self.want(inner, Some(address)),
            Output::Disconnect => self.want(inner, None),
            Output::Invalidate { ino } => self.invalidate(ino),
            Output::Poke { path } => {
                let path: PathBuf = path.iter().map(|n| OsStr::from_bytes(n.as_bytes())).collect();
                // No room: see `poke`.
                let _ = self.pokes.try_send(path);
            }
            Output::Refused { why } => self.tell(News::Refused(why)),
            Output::Ready => self.tell(News::Ready),
            Output::Finished => self.finish(inner),
            Output::Event(event) => log(&event),
        }
    }

    /// The attributes alone: that takes no lock in the kernel which a call could hold that waits for this daemon, so it may
    /// be said here, in order with what follows from it.
    fn invalidate(&self, ino: Ino) {
        let Some(notifier) = self.notifier.get() else { return };
        if let Err(e) = notifier.inval_inode(INodeNo(ino.0), -1, 0) {
            tracing::warn!("the kernel does not forget what it knows of inode {}: {e}", ino.0);
        }
    }

    fn want(&self, inner: &mut Inner, address: Option<String>) {
        inner.stream += 1;
        inner.link = None;
        if inner.finished {
            self.tell(News::HungUp);
        }
        self.wanted.send_replace(Wanted {
            stream: inner.stream,
            address,
        });
    }

    /// The queue is emptied towards the brick after its sender is dropped, and the brick then closes the stream.
    fn finish(&self, inner: &mut Inner) {
        inner.finished = true;
        self.tell(News::Finished);
        if inner.link.take().is_none() {
            self.tell(News::HungUp);
        }
    }

    // ---- after a panic (J4)

    fn on_panic(
        &self,
        inner: &mut Inner,
        call: Option<CallId>,
        now: Nanos,
        panic: &(dyn Any + Send),
        answers: &mut Vec<Answered>,
    ) {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text
            .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("no words");
        tracing::error!("the brain of the mount panicked: {text}");
        if let Some((id, reply)) = call.and_then(|id| inner.replies.remove_entry(&id)) {
            answers.push((id, reply, Err(Errno::ESTALE)));
        }
        // A call that was only woken by this input is gone from the brain too, and its number is not known here. Whatever
        // has no answer after the time in which the brain answers everything but waits for locks is taken for lost.
        inner.suspects = Some((inner.replies.keys().copied().collect(), now + limits::OP_TIMEOUT));
    }

    fn give_up_suspects(&self, inner: &mut Inner) {
        let Some((suspects, _)) = inner.suspects.take() else {
            return;
        };
        let waiting = inner.client.waiting();
        for id in suspects.into_iter().filter(|id| !waiting.iter().any(|(w, _)| w == id)) {
            if let Some(reply) = inner.replies.remove(&id) {
                tracing::error!("a call was lost in a panic; it is answered with ESTALE");
                // On a thread of its own: J2, and rare enough.
                std::thread::spawn(move || drop(reply));
            }
        }
    }
}

/// What happens on a stream.
pub(crate) enum OnStream {
    Up(Sender<ToBrick>),
    Frame(ToMount),
    Down,
}

fn log(event: &Event) {
    match event {
        Event::Attached { address } => tracing::info!("attached to {address}"),
        Event::Lost => tracing::warn!("lost the brick"),
        Event::Unanswered { calls, session } => {
            let after = limits::OP_TIMEOUT.0 / 1_000_000_000;
            let given_up = if *session { "; the session is given up" } else { "" };
            tracing::error!("{calls} calls had no answer of the brick for {after} s and fail with ESTALE{given_up}");
        }
        Event::Expired { dead_handles } => {
            tracing::warn!("the session was expired; {dead_handles} open files answer ESTALE");
        }
        Event::DotlockReaped { name, pid } => tracing::info!("removed dotlock {name}: process {pid} is gone"),
        Event::SessionDropped { ino } => tracing::info!("dropped the lock session of a killed process on {ino}"),
        Event::SessionSplit { ino } => tracing::warn!("a lock session on {ino} was committed in pieces"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_client::input::Config;

    fn driver() -> (Driver, watch::Receiver<Wanted>, mpsc::Receiver<News>) {
        let (pokes, _) = mpsc::sync_channel(1);
        let (news, heard) = mpsc::channel();
        let config = Config {
            volume: "v".into(),
            client: [7; 16],
            nonce: 1,
            bricks: vec!["h1:1".into()],
            local: Vec::new(),
        };
        let (journal, _) = Journal::open(crate::journal::files().unwrap());
        let own = std::process::id();
        let old = vec![(own, process::started(own).unwrap()), (1, 1)];
        let (driver, wanted) = Driver::new(Client::new(config, clock()), journal, old, pokes, news);
        (driver, wanted, heard)
    }

    #[test]
    fn the_first_tick_wants_a_stream() {
        let (driver, mut wanted, _heard) = driver();
        driver.tick();
        assert_eq!(wanted.borrow_and_update().address.as_deref(), Some("h1:1"));
    }

    #[test]
    fn words_of_an_older_stream_reach_nobody() {
        let (driver, mut wanted, _heard) = driver();
        driver.tick();
        let stream = wanted.borrow_and_update().stream;
        assert!(!driver.on_stream(stream - 1, OnStream::Down));
        assert!(driver.on_stream(stream, OnStream::Down));
    }

    #[test]
    fn without_a_brick_the_end_comes_at_once() {
        let (driver, _wanted, heard) = driver();
        driver.input(Input::Shutdown);
        assert_eq!(heard.try_iter().collect::<Vec<_>>(), [News::Finished, News::HungUp]);
    }

    #[test]
    fn who_makes_the_own_truncates() {
        let (driver, _wanted, _heard) = driver();
        assert!(!driver.is_poker(0) && !driver.is_poker(5));
        driver.poker_is(5);
        assert!(driver.is_poker(5) && !driver.is_poker(6));
        assert!(driver.is_poker(std::process::id()), "one of a former daemon");
        assert!(!driver.is_poker(1), "a later process of its number");
    }
}
