//! The parts of the brain of a mount, and who gets which input.
//!
//! N1  `step` never blocks, reads no clock, does no I/O.
//! N2  Every call is answered once; none waits for ever: without an answer of a brick within `OP_TIMEOUT` it gets ESTALE
//!     (L9, L13, `calls` H3).
//!
//! Not here: the parts.

use crate::{
    cache::Cache,
    calls::{Pending, Wait},
    input::{Call, CallId, Clock, Config, Fh, Input},
    keep::Keep,
    lease::{NameLease, Node},
    link::{For, Link},
    output::{Event, Listed, Output},
    recall::Asked,
    told::{Seen, Told},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use mboxfs_types::{
    Dotlock, Group, HeldLock, Ino, Nanos, SessionId,
    call::{LeaseRequest, Query, Request},
};

/// What a handle is open on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    File { append: bool, sync: bool },
    Dot(Group),
    Dir(Vec<Listed>),
}

/// An open file or directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Handle {
    pub(crate) ino: Ino,
    pub(crate) kind: Kind,
    /// Its session ended under it while it held a lock or staged bytes: it never writes again (I15).
    pub(crate) dead: bool,
    /// Bytes written through it are gone, and whoever wrote them was not told yet.
    pub(crate) lost: bool,
    /// The call that opened it.
    pub(crate) by: CallId,
}

/// The brain.
#[derive(Debug)]
pub struct Client {
    pub(crate) config: Config,
    pub(crate) clock: Clock,
    pub(crate) session: SessionId,
    pub(crate) link: Link,
    pub(crate) nodes: BTreeMap<Ino, Node>,
    pub(crate) names: BTreeMap<Group, NameLease>,
    /// Locks of this mount's own processes: true whatever lease is held (types C2).
    pub(crate) own_locks: BTreeMap<Ino, Vec<HeldLock>>,
    pub(crate) own_dots: BTreeMap<Group, Dotlock>,
    /// Dotlocks that went with a session, by maker: those do not know yet (`dot_calls` O4).
    pub(crate) lost_dots: BTreeMap<(Group, u32), Dotlock>,
    /// Inode numbers of dotlocks that the kernel may know.
    pub(crate) dot_groups: BTreeMap<Ino, Group>,
    pub(crate) dots_made: u32,
    /// Makers of dotlocks: since when gone.
    pub(crate) gone: BTreeMap<u32, Nanos>,
    pub(crate) handles: BTreeMap<Fh, Handle>,
    pub(crate) next_fh: u64,
    pub(crate) calls: BTreeMap<CallId, Pending>,
    pub(crate) ready: VecDeque<CallId>,
    /// The last tick.
    pub(crate) ticked: Nanos,
    pub(crate) requests: BTreeMap<u64, (Request, For)>,
    pub(crate) next_seq: u64,
    pub(crate) wishes: BTreeMap<u64, (LeaseRequest, CallId)>,
    pub(crate) next_req: u64,
    pub(crate) queries: BTreeMap<u64, (Query, CallId)>,
    pub(crate) next_query: u64,
    pub(crate) recalls: Vec<Asked>,
    pub(crate) cache: Cache,
    /// Attributes that the kernel may keep (`told`).
    pub(crate) told: BTreeMap<Ino, Told>,
    /// What each thread was last answered about a file (`told`).
    pub(crate) seen: BTreeMap<u32, Seen>,
    pub(crate) changed: Vec<Ino>,
    pub(crate) keep: Keep,
    pub(crate) shutdown: bool,
    pub(crate) finished: bool,
}

impl Client {
    /// A mount that has not reached a brick yet; the first `step` begins to try.
    #[must_use]
    pub fn new(config: Config, clock: Clock) -> Self {
        let session = SessionId {
            client: config.client,
            nonce: config.nonce,
        };
        let link = Link::new(&config, clock.mono);
        Self {
            config,
            clock,
            session,
            link,
            nodes: BTreeMap::new(),
            names: BTreeMap::new(),
            own_locks: BTreeMap::new(),
            own_dots: BTreeMap::new(),
            lost_dots: BTreeMap::new(),
            dot_groups: BTreeMap::new(),
            dots_made: 0,
            gone: BTreeMap::new(),
            handles: BTreeMap::new(),
            next_fh: 0,
            calls: BTreeMap::new(),
            ready: VecDeque::new(),
            ticked: clock.mono,
            requests: BTreeMap::new(),
            next_seq: 1,
            wishes: BTreeMap::new(),
            next_req: 0,
            queries: BTreeMap::new(),
            next_query: 0,
            recalls: Vec::new(),
            cache: Cache::default(),
            told: BTreeMap::new(),
            seen: BTreeMap::new(),
            changed: Vec::new(),
            keep: Keep::default(),
            shutdown: false,
            finished: false,
        }
    }

    /// One thing happened at `now`; what follows from it is appended to `out`.
    pub fn step(&mut self, now: Clock, input: Input, out: &mut Vec<Output>) {
        self.clock = now;
        match input {
            Input::Call {
                call: Call::Forget { ino, count },
                ..
            } => self.forget(ino, count),
            Input::Call { id, caller, call } => {
                self.heard(caller.thread);
                self.begin_call(id, Pending::new(caller, call, now.mono), out);
            }
            Input::Interrupt(id) => self.interrupt(id, out),
            Input::Connected => self.on_connected(out),
            Input::Disconnected => self.on_disconnected(out),
            Input::Frame(frame) => self.on_frame(frame, out),
            Input::Gone { pid } => {
                self.gone.entry(pid).or_insert(now.mono);
            }
            Input::Tick => self.on_tick(out),
            Input::Shutdown => self.on_shutdown(out),
        }
        self.settle(out);
        self.untell(out);
    }

    fn begin_call(&mut self, id: CallId, pending: Pending, out: &mut Vec<Output>) {
        if let Some(pending) = self.inherited(id, pending, out) {
            let waits = pending.wait != Wait::Nothing;
            self.calls.insert(id, pending);
            if !waits {
                self.ready.push_back(id);
            }
        }
    }

    /// Runs what can run, answers recalls that can be answered, until nothing more follows.
    pub(crate) fn settle(&mut self, out: &mut Vec<Output>) {
        self.answer_recalls(out);
        while let Some(id) = self.ready.pop_front() {
            self.attempt(id, out);
            // Before the next local waiter: a lock that was freed goes to the other node if that one waits, or busy nodes
            // would starve each other.
            self.answer_recalls(out);
        }
        self.try_finish(out);
    }

    fn on_tick(&mut self, out: &mut Vec<Output>) {
        self.tick_link(out);
        self.tick_calls(out);
        self.tick_keep();
        self.forget_threads();
        self.reap_dotlocks(out);
        self.shed_leases(out);
    }

    fn on_shutdown(&mut self, out: &mut Vec<Output>) {
        self.shutdown = true;
        let staged: Vec<Ino> = self
            .nodes
            .iter()
            .filter(|(_, n)| n.staging.is_some())
            .map(|(i, _)| *i)
            .collect();
        for ino in staged {
            self.start_commit(ino, out);
        }
    }

    fn try_finish(&mut self, out: &mut Vec<Output>) {
        if !self.shutdown || self.finished || self.nodes.values().any(|n| n.committing.is_some()) {
            return;
        }
        self.finished = true;
        if self.link.confirmed {
            out.push(Output::Send(mboxfs_types::call::ToBrick::Detach { end: true }));
        }
        out.push(Output::Finished);
    }

    /// When `Input::Tick` is wanted next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Nanos> {
        Some(self.clock.mono + Nanos::from_millis(20))
    }

    /// Pids whose end must be reported by `Input::Gone`: makers of dotlocks, and their parents.
    #[must_use]
    pub fn watched(&self) -> Vec<u32> {
        let dots = self.own_dots.values().chain(self.lost_dots.values());
        let pids = dots.flat_map(|d| [d.pid, d.ppid]).filter(|p| *p > 1);
        let mut pids: Vec<u32> = pids.filter(|p| !self.gone.contains_key(p)).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Are there makers of dotlocks that do not know that they have none any more? Who calls matters for all files then.
    #[must_use]
    pub fn has_lost_dots(&self) -> bool {
        !self.lost_dots.is_empty()
    }

    /// Does it matter whether the process that closes this file was killed? It has written, or made a dotlock.
    #[must_use]
    pub fn end_matters(&self, ino: Ino, pid: u32) -> bool {
        self.has_staged(ino) || self.own_dots.values().any(|d| d.pid == pid)
    }

    /// Are there written bytes of this file that are not committed?
    pub(crate) fn has_staged(&self, ino: Ino) -> bool {
        self.nodes.get(&ino).is_some_and(|n| n.staging.is_some())
    }

    pub(crate) fn event(event: Event, out: &mut Vec<Output>) {
        out.push(Output::Event(event));
    }
}
