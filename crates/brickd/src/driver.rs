//! The driver of a volume's brick: begins its lives, ends them, and lets one task at a time speak to the brain.
//!
//! D-1  Everything that is networked runs on one current_thread runtime; whoever receives steps the brain inline, so the
//!      only thread hops on the path of a write are to the log thread and back.
//! D-2  At most one life at a time holds the brick's directory; the next one opens it when the last one's threads are gone.
//! D-3  What belongs to a life that is over (frames, completions, timers) has no effect: each carries its life's number.
//!
//! Not here: a step and its outputs (`running`), the directory (`open`), streams (`mounts`, `peers`), volumes (`cluster`).

use crate::{
    clock,
    disk::{Disk, Load},
    drill,
    fatal::Fatal,
    local::{HistoryJob, Keep, Local, VolumeConfig},
    mounts,
    open::{self, Opening},
    peers,
    running::{End, Question, Running},
    trust::Trust,
};
use mboxfs_brick::{Brick, input::MountConn, quorum::Order};
use mboxfs_rpc::Sender;
use mboxfs_types::{
    BrickId,
    admin::{BrickReport, Fault},
    call::{Attach, Attached, ToMount},
    disk::Done,
    limits,
    quorum::Quorum,
};
use std::{
    mem,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Handle,
    sync::{
        Notify,
        mpsc::{UnboundedReceiver, unbounded_channel},
        oneshot, watch,
    },
    task::yield_now,
    time::sleep,
};
use tracing::{debug, info, warn};

/// The brain hears of time at least this often, and not more often than the shorter one.
const TICK_MAX: Duration = Duration::from_millis(100);
const TICK_MIN: Duration = Duration::from_millis(1);
/// The witness answers within this; the brain asks again after the same time.
const WITNESS_ANSWER: Duration = Duration::from_nanos(limits::WITNESS_RETRY.0);
/// After two lives in a row that were shorter than this the next one waits as long: lives that lead nowhere must not
/// become a storm.
const SHORT_LIFE: Duration = Duration::from_millis(500);

enum Phase {
    /// No volume is served.
    Off,
    /// One is.
    Running(Box<Running>),
    /// The last life's threads end, or the directory is opened again.
    Between,
}

struct Core {
    phase: Phase,
    /// The volume that is to be served, whatever is the case now.
    wanted: Option<VolumeConfig>,
    /// The daemon ends: no new life.
    quitting: bool,
    lives: u64,
    /// The last life that was reloaded was a short one.
    was_short: bool,
    /// Mount streams so far; numbers are never used again, in whatever life.
    mount_conns: u64,
    /// The policy that the last life knew, or the directory says.
    quorum: Quorum,
}

/// See above. Shared by all tasks.
pub(crate) struct Driver {
    me: Weak<Self>,
    core: Mutex<Core>,
    runtime: Handle,
    data: PathBuf,
    trust: Arc<Trust>,
    /// Bytes of log kept for an absent peer.
    kept_log: usize,
    fatal: Fatal,
    off: watch::Sender<bool>,
    /// Until when a drill cuts the link.
    deaf: Mutex<Option<Instant>>,
    /// How much of the history is kept, from the next life on.
    keep: Mutex<Keep>,
}

/// A mount that may speak to the brain.
pub(crate) struct Joined {
    pub(crate) life: u64,
    pub(crate) conn: MountConn,
    /// Resolves when the brain drops the stream.
    pub(crate) ended: oneshot::Receiver<()>,
    pub(crate) load: Arc<Load>,
}

impl Driver {
    /// Of the brick in `data`, whose directory says that `quorum` is the policy. To be made on the runtime that it will use.
    pub(crate) fn new(data: &Path, quorum: Quorum, kept_log: usize, trust: Arc<Trust>, fatal: Fatal) -> Arc<Self> {
        Arc::new_cyclic(|me| Self {
            me: Weak::clone(me),
            core: Mutex::new(Core {
                phase: Phase::Off,
                wanted: None,
                quitting: false,
                lives: 0,
                was_short: false,
                mount_conns: 0,
                quorum,
            }),
            runtime: Handle::current(),
            data: data.to_path_buf(),
            trust,
            kept_log,
            fatal,
            off: watch::Sender::new(true),
            deaf: Mutex::new(None),
            keep: Mutex::default(),
        })
    }

    /// A panic in a step ends the process (`lib.rs`): there is no poisoned brain to protect from.
    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn me(&self) -> Arc<Self> {
        self.me.upgrade().expect("a method is called through an Arc")
    }

    /// Who this host is, for those who dial.
    pub(crate) fn trust(&self) -> &Trust {
        &self.trust
    }

    // ---- for tasks

    /// D-3. Does something in that life; none if it is over.
    pub(crate) fn with<R>(&self, life: u64, f: impl FnOnce(&mut Running) -> R) -> Option<R> {
        let mut core = self.lock();
        let Phase::Running(running) = &mut core.phase else {
            return None;
        };
        if running.life() != life {
            return None;
        }
        let result = f(running);
        self.look_for_end(&mut core);
        Some(result)
    }

    /// How much of the history is kept, from the next life on.
    pub(crate) fn keep(&self, keep: Keep) {
        *self.keep.lock().unwrap_or_else(PoisonError::into_inner) = keep;
    }

    fn open(&self, volume: &VolumeConfig) -> Result<Opening, String> {
        let keep = *self.keep.lock().unwrap_or_else(PoisonError::into_inner);
        open::volume(&self.data, volume, self.kept_log, keep)
    }

    /// A drill: no stream to or from the peer before that. It outlasts the life that it begins in.
    fn deaf_until(&self, until: Instant) {
        *self.deaf.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    /// Is the link to the peer cut by a drill?
    pub(crate) fn is_deaf(&self) -> bool {
        let mut deaf = self.deaf.lock().unwrap_or_else(PoisonError::into_inner);
        *deaf = deaf.filter(|until| Instant::now() < *until);
        deaf.is_some()
    }

    /// The life that is on, if this brick is `own` of the volume.
    ///
    /// Errors: why there is none, for a log.
    pub(crate) fn current(&self, own: BrickId) -> Result<u64, &'static str> {
        match &self.lock().phase {
            Phase::Running(r) if r.is_stopping() => Err("this brick is about to stop"),
            Phase::Running(r) if r.volume().own != own => Err("this brick dials, it does not accept"),
            Phase::Running(r) => Ok(r.life()),
            Phase::Off => Err("no volume is started here"),
            Phase::Between => Err("this brick is about to start again"),
        }
    }

    /// Lets a mount's stream speak to the brain, or says what to answer. `known`: the volume that this brick belongs to.
    pub(crate) fn join(
        &self,
        attach: Attach,
        send: Sender<ToMount>,
        known: Option<&str>,
    ) -> Result<Joined, (Attached, Sender<ToMount>)> {
        let mut core = self.lock();
        let ready = matches!(&core.phase, Phase::Running(r) if !r.is_stopping());
        let wanted = core.wanted.as_ref().map(|v| (v.name.as_str(), v.bricks.as_slice()));
        if let Err(answer) = mounts::admit(&attach, wanted, known, ready) {
            return Err((answer, send));
        }
        core.mount_conns += 1;
        let conn = MountConn(core.mount_conns);
        let Phase::Running(running) = &mut core.phase else {
            unreachable!("admitted only when ready");
        };
        let life = running.life();
        let (ended, load) = running.mount_up(conn, attach, send);
        self.look_for_end(&mut core);
        Ok(Joined {
            life,
            conn,
            ended,
            load,
        })
    }

    // ---- lives

    fn look_for_end(&self, core: &mut Core) {
        let Phase::Running(running) = &mut core.phase else {
            return;
        };
        let Some(end) = running.take_end() else {
            return;
        };
        core.quorum = running.quorum();
        let Phase::Running(running) = mem::replace(&mut core.phase, Phase::Between) else {
            unreachable!("looked at above");
        };
        let me = self.me();
        // Waits for the disk: not on the runtime's thread.
        self.runtime.spawn_blocking(move || me.follow(*running, end));
    }

    /// After a life: ends its threads, cuts the log if it has to be cut, and begins the next life if one is wanted.
    fn follow(&self, last: Running, end: End) {
        let name = last.volume().name.clone();
        let age = last.age();
        let log = match last.halt() {
            Ok(log) => log,
            Err(why) => return self.fatal.end("end the brick's threads", why),
        };
        if let End::Reload { keep } = end {
            info!("log above record {keep} is dropped; volume {name} is opened anew");
            let mut log = log;
            if let Err(why) = log.drop_above(keep) {
                return self.fatal.end("drop the end of the log", why);
            }
            if self.is_storm(age) {
                thread::sleep(SHORT_LIFE); // a thread of its own: nothing else waits
            }
        } else {
            info!("volume {name} is stopped here");
            drop(log);
        }
        self.begin_next();
    }

    /// Was the life that was reloaded a short one, and the one before too?
    fn is_storm(&self, age: Duration) -> bool {
        let mut core = self.lock();
        let before = mem::replace(&mut core.was_short, age < SHORT_LIFE);
        before && core.was_short
    }

    /// D-2.
    fn begin_next(&self) {
        let wanted = {
            let mut core = self.lock();
            let wanted = core.wanted.clone().filter(|_| !core.quitting);
            if wanted.is_none() {
                core.phase = Phase::Off;
                self.off.send_replace(true);
            }
            wanted
        };
        let Some(volume) = wanted else {
            return;
        };
        let opening = match self.open(&volume) {
            Ok(opening) => opening,
            Err(why) => return self.fatal.end(&format!("open volume {} anew", volume.name), why),
        };
        let mut core = self.lock();
        if core.quitting || core.wanted.as_ref() != Some(&volume) {
            drop((core, opening));
            return self.begin_next();
        }
        if let Err(why) = self.begin(&mut core, volume, opening) {
            self.fatal.end("begin anew", why);
        }
    }

    /// Begins a life.
    fn begin(&self, core: &mut Core, volume: VolumeConfig, opening: Opening) -> Result<(), String> {
        let Opening { recovered, parts } = opening;
        core.lives += 1;
        let life = core.lives;
        let mut out = Vec::new();
        let brain = Brick::new(recovered, clock::now(), &mut out)?;
        let (done, completions) = unbounded_channel();
        let disk = Disk::start(parts, &done, &self.fatal).map_err(|e| format!("threads cannot be started: {e}"))?;
        let (asks, asked) = unbounded_channel();
        let mut running = Running::new(life, volume.clone(), brain, disk, asks, out);
        let me = || self.me();
        let due = running.due();
        running.own([
            self.runtime.spawn(release(me(), life, due)).abort_handle(),
            self.runtime.spawn(complete(me(), life, completions)).abort_handle(),
            self.runtime.spawn(tick(me(), life)).abort_handle(),
            self.runtime.spawn(ask_witness(me(), life, asked)).abort_handle(),
        ]);
        if volume.own == BrickId::B {
            running.own([
                self.runtime
                    .spawn(peers::dial_peers(me(), life, volume.clone()))
                    .abort_handle(),
                self.runtime
                    .spawn(peers::dial_beats(me(), life, volume.clone()))
                    .abort_handle(),
            ]);
        }
        info!("volume {} is served as Brick{}", volume.name, volume.own.index() + 1);
        core.phase = Phase::Running(Box::new(running));
        self.off.send_replace(false);
        self.look_for_end(core);
        Ok(())
    }

    /// The daemon cannot go on: tells the peer, so that it goes on at once, and sends the mounts to it.
    pub(crate) fn fail(&self, why: &str) {
        let mut core = self.lock();
        core.quitting = true;
        if let Phase::Running(running) = &mut core.phase {
            running.fail(why.to_owned());
        }
    }

    /// Stops for good and returns when the brick has stopped.
    pub(crate) async fn quit(&self) {
        {
            let mut core = self.lock();
            core.quitting = true;
            if let Phase::Running(running) = &mut core.phase {
                running.stop();
            }
            self.look_for_end(&mut core);
        }
        let mut off = self.off.subscribe();
        // The sender lives as long as `self`.
        let _ = off.wait_for(|off| *off).await;
    }
}

impl Local for Driver {
    fn start(&self, volume: VolumeConfig) -> Result<(), String> {
        {
            let mut core = self.lock();
            if core.quitting {
                return Err("this brick is about to stop".to_string());
            }
            match &core.phase {
                Phase::Running(r) if r.volume().id != volume.id => {
                    return Err(format!("this brick serves volume {} already", r.volume().name));
                }
                Phase::Running(_) | Phase::Between => {
                    core.wanted = Some(volume); // after a stop that is under way, `follow` begins it anew
                    return Ok(());
                }
                Phase::Off => core.phase = Phase::Between, // D-2: it is ours to open now
            }
            core.wanted = Some(volume.clone());
            self.off.send_replace(false);
        }
        // Without the lock, which the runtime's thread may want: this may read the whole log.
        let opening = self.open(&volume);
        let mut core = self.lock();
        let result = opening.and_then(|opening| self.begin(&mut core, volume, opening));
        if result.is_err() {
            core.phase = Phase::Off;
            core.wanted = None;
            self.off.send_replace(true);
        } else if core.wanted.is_none() || core.quitting {
            // Stopped again while it was opened.
            if let Phase::Running(running) = &mut core.phase {
                running.stop();
            }
            self.look_for_end(&mut core);
        }
        result
    }

    fn stop(&self) -> Result<(), String> {
        let mut core = self.lock();
        core.wanted = None;
        if let Phase::Running(running) = &mut core.phase {
            running.stop();
        }
        self.look_for_end(&mut core);
        Ok(())
    }

    fn take_over(&self, volume: &VolumeConfig) -> Result<(), String> {
        let core = self.lock();
        match core.phase {
            Phase::Off => open::take_over(&self.data, volume),
            Phase::Running(_) | Phase::Between => Err("this brick serves".to_string()),
        }
    }

    fn report(&self) -> Option<BrickReport> {
        match &self.lock().phase {
            Phase::Running(running) => Some(running.report()),
            Phase::Off | Phase::Between => None,
        }
    }

    fn drill(&self, fault: Fault) -> Result<(), String> {
        let mut core = self.lock();
        let Phase::Running(running) = &mut core.phase else {
            return Err("this brick does not serve".to_string());
        };
        warn!("drill: {fault:?}");
        let time = Duration::from_nanos(limits::DRILL.0);
        match fault {
            Fault::Crash => drill::crash(),
            Fault::SlowDisk => running.hold_log(time),
            Fault::Partition => {
                self.deaf_until(Instant::now() + time);
                running.drop_peer();
            }
        }
        self.look_for_end(&mut core);
        Ok(())
    }

    fn quorum(&self) -> Quorum {
        let core = self.lock();
        match &core.phase {
            Phase::Running(running) => running.quorum(),
            Phase::Off | Phase::Between => core.quorum.clone(),
        }
    }

    fn order(&self, order: Order) -> Result<(), String> {
        let mut core = self.lock();
        let Phase::Running(running) = &mut core.phase else {
            return Err("the brick is not served now".to_string());
        };
        let result = running.order(order);
        self.look_for_end(&mut core);
        result
    }

    fn look_back(&self, job: HistoryJob) -> Result<(), String> {
        match &mut self.lock().phase {
            Phase::Running(running) => {
                running.look_back(job);
                Ok(())
            }
            Phase::Off | Phase::Between => Err("this brick does not serve now".to_string()),
        }
    }

    fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }
}

/// Gives the brain what the disk threads have done.
async fn complete(driver: Arc<Driver>, life: u64, mut completions: UnboundedReceiver<Done>) {
    while let Some(done) = completions.recv().await {
        if driver.with(life, |r| r.done(done)).is_none() {
            return;
        }
    }
}

/// Gives the disk its work when all that can go on without it has gone on: frames are in their sockets, and further inputs
/// that have come meanwhile were taken, so that many wake a thread once.
async fn release(driver: Arc<Driver>, life: u64, due: Arc<Notify>) {
    while driver.with(life, Running::release).is_some() {
        due.notified().await;
        yield_now().await;
    }
}

/// Asks the witness what the brain wants to know, one question after the other, and gives it the answers.
async fn ask_witness(driver: Arc<Driver>, life: u64, mut asks: UnboundedReceiver<Question>) {
    while let Some(Question { ticket, at, ask }) = asks.recv().await {
        let as_whom = driver.trust.to(Some(at.fingerprint));
        let tell = match mboxfs_rpc::ask_witness(&at.address(), &as_whom, ask, WITNESS_ANSWER).await {
            Ok((tell, _)) => Some(tell),
            Err(why) => {
                debug!("no answer of the witness: {why}");
                None
            }
        };
        if driver.with(life, |r| r.witness(ticket, tell)).is_none() {
            return;
        }
    }
}

/// Gives the brain the time.
async fn tick(driver: Arc<Driver>, life: u64) {
    loop {
        let Some(next) = driver.with(life, Running::tick) else {
            return;
        };
        let pause = next.map_or(TICK_MAX, |n| Duration::from_nanos(n.0).clamp(TICK_MIN, TICK_MAX));
        sleep(pause).await;
    }
}
