//! The link to a brick: which one, what was said and not answered, and what survives a change of view.
//!
//! F1  A request is kept until its reply and said again, with its number, in every new view, in order (types C1).
//! F2  After `View` nothing is served from leases before `Reclaimed` confirms which of them stand.
//! F3  A session that is over takes with it what it held: staged bytes, locks, dotlocks, and its stream; handles that had
//!     any are dead and never write again (I15). Clean handles live on under the next session. So it is with what the brick
//!     says is lost (arbiter A8), while the session goes on.
//! F4  The brick on this host is preferred; the other one serves while that one does not.
//!
//! Not here: leases and recalls themselves.

use crate::{
    calls::Wait,
    client::{Client, Handle, Kind},
    input::{CallId, Config, Fh},
    output::{Event, Output},
};
use alloc::{
    collections::BTreeSet,
    string::{String, ToString},
    vec::Vec,
};
use mboxfs_types::{
    Attr, Errno, Group, Ino, Key, Nanos, SessionId,
    call::{
        Attach, Attached, Found, Granted, Mode, Op, Query, Reclaim, Reclaimed, Reply, Request, ToBrick, ToMount, View,
    },
    kept::Kept,
    limits,
    planted::Bug,
};

/// Between two tries to reach a brick.
const RETRY: Nanos = Nanos::from_millis(50);
/// Between two tries to return to the preferred brick, at first; doubled up to the most.
const HOME: Nanos = Nanos::from_millis(300);
const HOME_MAX: Nanos = Nanos::from_millis(60_000);
/// It waits this long for a moment without requests.
const HOME_PATIENCE: Nanos = Nanos::from_millis(2000);
/// The same file's watchers are not woken more often.
const POKE: Nanos = Nanos::from_millis(300);

/// Who waits for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum For {
    Call(CallId),
    Commit(Ino),
    Piece(Ino),
    Nobody,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// No stream; the next try is due then.
    Down { retry: Nanos },
    /// A stream is being made.
    Dialling,
    /// It is up.
    Up,
}

/// State of the link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Link {
    bricks: Vec<String>,
    at: usize,
    phase: Phase,
    attach_no: u64,
    fresh: bool,
    view: View,
    /// The last view that was confirmed, by a former daemon, too.
    from: View,
    /// Both bricks work in it.
    together: bool,
    /// The view is confirmed: requests may be sent.
    pub(crate) confirmed: bool,
    pub(crate) serve_until: Nanos,
    heard: Nanos,
    next_ping: Nanos,
    /// Not confirmed since.
    pub(crate) lost_since: Option<Nanos>,
    home_at: Nanos,
    home_wait: Nanos,
    /// Attached a moment ago: the next view is the one that the brick has been in.
    arrived: bool,
    ready: bool,
    pub(crate) shed_at: Nanos,
}

impl Link {
    /// As left by a former daemon; not dialled before `retry`.
    pub(crate) fn resumed(mut self, kept: (u64, bool, View, Vec<String>), retry: Nanos) -> Self {
        (self.attach_no, self.fresh, self.from, self.bricks) = kept;
        self.ready = true;
        self.phase = Phase::Down { retry };
        self
    }

    pub(crate) const fn view(&self) -> View {
        self.view
    }

    pub(crate) fn attachment(&self) -> (u64, bool, View, &[String]) {
        (self.attach_no, self.fresh, self.from, &self.bricks)
    }

    pub(crate) fn new(config: &Config, now: Nanos) -> Self {
        Self {
            bricks: preferred(&config.bricks, &config.local),
            at: 0,
            phase: Phase::Down { retry: now },
            attach_no: 0,
            fresh: true,
            view: View::default(),
            from: View::default(),
            together: false,
            confirmed: false,
            serve_until: Nanos(0),
            heard: now,
            next_ping: now,
            lost_since: Some(now),
            home_at: now,
            home_wait: HOME,
            arrived: false,
            ready: false,
            shed_at: now,
        }
    }
}

/// F4: bricks on this host first, otherwise as given.
fn preferred(bricks: &[String], local: &[String]) -> Vec<String> {
    let is_local = |b: &&String| {
        let host = b.rsplit_once(':').map_or(b.as_str(), |(h, _)| h);
        local.iter().any(|l| l == host)
    };
    let (mut first, rest): (Vec<&String>, Vec<&String>) = bricks.iter().partition(is_local);
    first.extend(rest);
    first.into_iter().cloned().collect()
}

impl Client {
    // ---- the stream

    pub(crate) fn tick_link(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        match self.link.phase {
            Phase::Down { retry } if now >= retry && !self.finished => self.dial(out),
            Phase::Up => {
                if now >= self.link.heard + limits::SILENCE {
                    out.push(Output::Disconnect);
                    self.on_disconnected(out);
                } else if now >= self.link.next_ping {
                    self.link.next_ping = now + limits::BEAT;
                    out.push(Output::Send(ToBrick::Ping { sent: now }));
                }
                self.try_home(out);
            }
            _ => {}
        }
    }

    fn dial(&mut self, out: &mut Vec<Output>) {
        self.link.phase = Phase::Dialling;
        self.link.heard = self.clock.mono;
        let address = self.link.bricks[self.link.at].clone();
        out.push(Output::Connect { address });
    }

    pub(crate) fn on_connected(&mut self, out: &mut Vec<Output>) {
        self.link.phase = Phase::Up;
        self.link.heard = self.clock.mono;
        self.link.attach_no += 1;
        self.keep_session();
        let attach = Attach {
            protocol: limits::PROTOCOL_VERSION,
            volume: self.config.volume.clone(),
            session: self.session,
            attach_no: self.link.attach_no,
            fresh: self.link.fresh,
        };
        out.push(Output::Send(ToBrick::Attach(attach)));
    }

    pub(crate) fn on_disconnected(&mut self, out: &mut Vec<Output>) {
        if self.link.confirmed {
            Self::event(Event::Lost, out);
        }
        self.unconfirm();
        self.link.at = (self.link.at + 1) % self.link.bricks.len();
        self.link.phase = Phase::Down {
            retry: self.clock.mono + RETRY,
        };
    }

    fn unconfirm(&mut self) {
        if Bug::LeaseKept.here() {
            return;
        }
        self.link.confirmed = false;
        self.link.serve_until = Nanos(0);
        self.link.lost_since = self.link.lost_since.or(Some(self.clock.mono));
        self.recalls.clear();
    }

    /// F4: back to the preferred brick when a moment is free. Not to one that is known to be away: each try costs the link that
    /// works, and one that is stopped or cut off costs the time of a connection too.
    fn try_home(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        let worth_it = self.link.at != 0 && self.link.together && self.link.confirmed;
        // What is under way is said again there (F1); a mount that is never idle goes all the same.
        let idle = self.requests.is_empty() || now >= self.link.home_at + HOME_PATIENCE;
        if !worth_it || now < self.link.home_at || !idle {
            return;
        }
        self.link.home_wait = Nanos(self.link.home_wait.0 * 2).min(HOME_MAX);
        self.link.home_at = now + self.link.home_wait;
        self.unconfirm();
        self.link.at = 0;
        out.push(Output::Disconnect);
        self.dial(out);
    }

    fn learn_bricks(&mut self, bricks: &[String]) {
        if bricks.is_empty() {
            return;
        }
        let current = self.link.bricks[self.link.at].clone();
        let mut all = preferred(bricks, &self.config.local);
        // The name it was reached by may be another one than the volume's.
        if !all.contains(&current) && !bricks.iter().any(|b| same_port_local(b, &current, &self.config.local)) {
            all.push(current.clone());
        }
        self.link.at = all
            .iter()
            .position(|b| *b == current || same_port_local(b, &current, &self.config.local))
            .unwrap_or(0);
        self.link.bricks = all;
    }

    // ---- the brick says

    pub(crate) fn on_frame(&mut self, frame: ToMount, out: &mut Vec<Output>) {
        self.link.heard = self.clock.mono;
        match frame {
            ToMount::Attached(attached) => self.on_attached(attached, out),
            ToMount::View { view, together } => self.on_view(view, together, out),
            ToMount::Reclaimed(reclaimed) => self.on_reclaimed(&reclaimed, out),
            ToMount::Reply(reply) => self.on_reply(reply, out),
            ToMount::Granted(granted) => self.on_granted(granted),
            ToMount::Recall(recall) => self.on_recall(recall),
            ToMount::Found { id, result } => self.on_found(id, result),
            ToMount::Pong { sent, serve } => {
                self.link.serve_until = self.link.serve_until.max(sent + serve);
                if self.may_serve() {
                    self.wake(|w| *w == Wait::Service);
                }
            }
            ToMount::Changed { ino, path } => {
                let now = self.clock.mono;
                if let Some(node) = self.nodes.get_mut(&ino)
                    && node.opens > 0
                    && now >= node.poked + POKE
                {
                    node.poked = now;
                    out.push(Output::Poke { path });
                }
            }
            ToMount::Orphaned { ino } => self.on_orphaned(ino, out),
            ToMount::SessionGone { session } => self.on_session_gone(session),
        }
    }

    fn on_attached(&mut self, attached: Attached, out: &mut Vec<Output>) {
        match attached {
            Attached::Ok { bricks, .. } => {
                self.learn_bricks(&bricks);
                self.link.fresh = false;
                self.keep_session();
                self.link.arrived = true;
                let address = self.link.bricks[self.link.at].clone();
                Self::event(Event::Attached { address }, out);
            }
            Attached::Expired => {
                self.begin_session(out);
                out.push(Output::Disconnect);
                self.link.phase = Phase::Down { retry: self.clock.mono };
            }
            Attached::NotServing { bricks, .. } => {
                self.learn_bricks(&bricks);
                out.push(Output::Disconnect);
                self.on_disconnected(out);
            }
            Attached::Refused { why } => {
                if !self.link.ready {
                    out.push(Output::Refused { why });
                }
                out.push(Output::Disconnect);
                self.on_disconnected(out);
                self.link.phase = Phase::Down {
                    retry: self.clock.mono + Nanos::from_millis(1000),
                };
            }
        }
    }

    /// F2.
    fn on_view(&mut self, view: View, together: bool, out: &mut Vec<Output>) {
        self.unconfirm();
        self.link.view = view;
        self.link.together = together;
        if !core::mem::replace(&mut self.link.arrived, false) {
            // The bricks have changed something among themselves: the preferred one may serve again.
            self.link.home_wait = HOME;
        }
        self.link.home_at = self.clock.mono + self.link.home_wait;
        self.drop_unneeded();
        let mut leases: Vec<(Key, Mode)> = Vec::new();
        leases.extend(self.names.iter().map(|(g, l)| (Key::Name(g.clone()), l.held.mode)));
        leases.extend(
            self.nodes
                .iter()
                .filter_map(|(i, n)| n.held.map(|h| (Key::Inode(*i), h.mode))),
        );
        let locks = self
            .own_locks
            .iter()
            .flat_map(|(i, locks)| locks.iter().map(|l| (*i, *l)))
            .collect();
        let dots = self.own_dots.iter().map(|(g, d)| (g.clone(), d.clone())).collect();
        let held = self.nodes.values().filter(|n| n.held.is_some());
        let known = held.filter_map(|n| n.attr).collect();
        let unanswered = self.requests.keys().next().copied().unwrap_or(self.next_seq);
        out.push(Output::Send(ToBrick::Reclaim(Reclaim {
            view,
            from: self.link.from,
            leases,
            locks,
            dots,
            known,
            unanswered,
        })));
    }

    fn on_reclaimed(&mut self, reclaimed: &Reclaimed, out: &mut Vec<Output>) {
        if reclaimed.view != self.link.view {
            return;
        }
        self.fence(|key| reclaimed.lost.contains(key)); // while it is known which file a dotlock stands for
        let stands = |key: &Key| reclaimed.leases.iter().find(|l| l.key == *key);
        let cache = &mut self.cache;
        let mut void = Vec::new();
        self.names.retain(|group, lease| {
            let Some(l) = stands(&Key::Name(group.clone())) else {
                return false;
            };
            lease.held.seq = l.seq;
            lease.held.mode = l.mode;
            lease.dot = reclaimed.dots.iter().find(|(g, _)| g == group).map(|(_, d)| d.clone());
            lease.entry = reclaimed.entries.iter().find(|(g, _)| g == group).map(|(_, ino)| *ino);
            true
        });
        for (ino, node) in &mut self.nodes {
            if let Some(l) = stands(&Key::Inode(*ino)) {
                node.held = Some(crate::lease::Held {
                    mode: l.mode,
                    seq: l.seq,
                    used: Mode::R,
                });
                node.locks = reclaimed
                    .locks
                    .iter()
                    .filter(|(i, _)| i == ino)
                    .map(|(_, l)| *l)
                    .collect();
            } else {
                node.held = None;
                node.attr = None;
                node.locks.clear();
                cache.clear(*ino);
                self.changed.push(*ino);
                // What is on its way is answered; the rest was meant for a file that is another one by now.
                if node.staging.is_some() && node.committing.is_none() {
                    void.push(*ino);
                }
            }
        }
        for ino in void {
            self.drop_staging(ino);
        }
        self.link.confirmed = true;
        self.link.from = self.link.view;
        self.keep_session();
        self.link.lost_since = None;
        self.link.next_ping = self.clock.mono + limits::BEAT;
        out.push(Output::Send(ToBrick::Ping { sent: self.clock.mono }));
        // F1: everything without an answer, in order.
        for (request, _) in self.requests.values() {
            out.push(Output::Send(ToBrick::Request(request.clone())));
        }
        for (request, _) in self.wishes.values() {
            out.push(Output::Send(ToBrick::Lease(request.clone())));
        }
        for (id, (query, _)) in &self.queries {
            out.push(Output::Send(ToBrick::Query {
                id: *id,
                query: query.clone(),
            }));
        }
        self.wake(|w| matches!(w, Wait::Service | Wait::Lock(..)));
        if !core::mem::replace(&mut self.link.ready, true) {
            out.push(Output::Ready);
        }
    }

    /// Lock sessions end, and with them the handles of their files: who has one locked has read a part of it as it was, and
    /// would go on with what others have made of it (L6). A dotlock alone is a lock too, of the mailbox it is named after.
    /// Returns how many handles are dead.
    fn fence(&mut self, over: impl Fn(&Key) -> bool) -> usize {
        let is_over = |group: &Group| over(&Key::Name(group.clone()));
        let dots: Vec<Group> = self.own_dots.keys().filter(|group| is_over(group)).cloned().collect();
        let entry = |group: &Group| self.names.get(group).and_then(|n| n.entry);
        let locked = self.own_locks.keys().copied().filter(|ino| over(&Key::Inode(*ino)));
        let files: BTreeSet<Ino> = dots.iter().filter_map(entry).chain(locked).collect();
        for group in dots {
            self.lose_dot(&group);
        }
        let was_locked = |handle: &Handle| match &handle.kind {
            Kind::File { .. } => files.contains(&handle.ino),
            Kind::Dot(group) => is_over(group),
            Kind::Dir(_) => false,
        };
        let handles = self.handles.iter().filter(|(_, handle)| was_locked(handle));
        let dead: Vec<Fh> = handles.map(|(fh, _)| *fh).collect();
        for fh in &dead {
            self.end_handle(*fh);
        }
        dead.len()
    }

    fn on_reply(&mut self, reply: Reply, out: &mut Vec<Output>) {
        let Some((request, whose)) = self.requests.remove(&reply.seq) else {
            return;
        };
        if let Ok(attrs) = &reply.result
            && !matches!(whose, For::Commit(_))
        {
            self.absorb(&attrs.clone());
        }
        match whose {
            For::Call(id) => {
                let mut done = reply.result.is_ok();
                if let Some(p) = self.calls.get_mut(&id) {
                    p.reply = Some(reply.result);
                    self.ready.push_back(id);
                } else if let Ok(attrs) = reply.result {
                    self.name_as_done(&request.op, &attrs);
                    done = self.early(id, attrs);
                }
                if done {
                    return self.owes(id, request);
                }
            }
            For::Commit(ino) => self.on_committed(ino, reply.result),
            For::Piece(ino) => self.on_piece(ino, reply.seq, reply.result.map(|_| ()), out),
            For::Nobody => {}
        }
        self.keep(Kept::Answered { seq: reply.seq });
    }

    fn on_granted(&mut self, granted: Granted) {
        if !self.link.confirmed {
            return; // of an attachment before this one: it is void, and asked for again (F2)
        }
        let wish = self.wishes.remove(&granted.req);
        if let Ok(grant) = &granted.result {
            self.install(grant);
        }
        let Some((_, id)) = wish else { return };
        if let Some(p) = self.calls.get_mut(&id) {
            match granted.result {
                Ok(grant) => p.once = Some(grant),
                Err(errno) => p.failed = Some(errno),
            }
            self.ready.push_back(id);
        }
    }

    fn on_found(&mut self, query: u64, result: Result<Found, Errno>) {
        let Some((_, id)) = self.queries.remove(&query) else {
            return;
        };
        if let Some(p) = self.calls.get_mut(&id) {
            p.found = Some(result);
            self.ready.push_back(id);
        }
    }

    fn on_orphaned(&mut self, ino: Ino, out: &mut Vec<Output>) {
        let open = self.nodes.get(&ino).is_some_and(|n| n.opens > 0);
        if open {
            self.node(ino).orphan = true;
            self.keep(Kept::Orphan { ino });
        } else {
            self.request(Op::Free { ino }, For::Nobody, out);
        }
    }

    fn on_session_gone(&mut self, session: SessionId) {
        let mut freed: Vec<Ino> = Vec::new();
        for (ino, node) in &mut self.nodes {
            let before = node.locks.len();
            node.locks.retain(|l| l.owner.session != session);
            if node.locks.len() < before {
                freed.push(*ino);
            }
        }
        for lease in self.names.values_mut() {
            if lease.dot.as_ref().is_some_and(|d| d.session == session) {
                lease.dot = None;
            }
        }
        self.wake(|w| matches!(w, Wait::Lock(ino, _) if freed.contains(ino)));
    }

    // ---- the mount says

    /// Sends a request, or keeps it for the next view (F1). Returns its number.
    pub(crate) fn request(&mut self, op: Op, whose: For, out: &mut Vec<Output>) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        let acked = self
            .requests
            .keys()
            .next()
            .copied()
            .unwrap_or(seq)
            .min(self.owed_from());
        let request = Request { seq, acked, op };
        self.keep_request(&request, whose);
        if self.link.confirmed {
            out.push(Output::Send(ToBrick::Request(request.clone())));
        }
        self.requests.insert(seq, (request, whose));
        seq
    }

    pub(crate) fn query(&mut self, query: Query, id: CallId, out: &mut Vec<Output>) -> Wait {
        self.next_query += 1;
        if self.link.confirmed {
            out.push(Output::Send(ToBrick::Query {
                id: self.next_query,
                query: query.clone(),
            }));
        }
        self.queries.insert(self.next_query, (query, id));
        Wait::Query(self.next_query)
    }

    // ---- the session's end

    /// No brick for so long that the session cannot be alive: end it on this side too.
    pub(crate) fn abandon(&mut self, out: &mut Vec<Output>) {
        self.fail_calls(out);
        self.begin_session(out);
        if self.link.phase == Phase::Up {
            // The stream is one of the session that ended: the brick would take the new one's requests for those.
            out.push(Output::Disconnect);
            self.on_disconnected(out);
        }
    }

    /// F3.
    fn begin_session(&mut self, out: &mut Vec<Output>) {
        self.unconfirm();
        self.fail_calls(out);
        let staged: Vec<Ino> = self.nodes.keys().copied().collect();
        for ino in staged {
            self.drop_staging(ino);
            if let Some(node) = self.nodes.get_mut(&ino) {
                node.committing = None;
                node.held = None;
                node.attr = None;
                node.locks.clear();
            }
            self.cache.clear(ino);
            self.changed(ino);
        }
        let dead = self.fence(|_| true);
        self.own_locks.clear();
        self.names.clear();
        self.requests.clear();
        self.wishes.clear();
        self.queries.clear();
        if !self.link.fresh {
            Self::event(Event::Expired { dead_handles: dead }, out);
        }
        self.session = SessionId {
            client: self.session.client,
            nonce: self.session.nonce.wrapping_add(1),
        };
        self.next_seq = 1;
        self.link.fresh = true;
        self.keep_anew();
    }

    /// A reply's attributes, the subject first.
    pub(crate) fn subject(attrs: &[Attr]) -> Result<Attr, Errno> {
        attrs.first().copied().ok_or(Errno::ESTALE)
    }
}

/// Two names of one brick on this host.
fn same_port_local(a: &str, b: &str, local: &[String]) -> bool {
    let (Some((ah, ap)), Some((bh, bp))) = (a.rsplit_once(':'), b.rsplit_once(':')) else {
        return false;
    };
    let here = |h: &str| local.contains(&h.to_string());
    ap == bp && here(ah) && here(bh)
}
