//! Mounts: their streams, their sessions, and what they hold after a change of view.
//!
//! M1  A session that is not attached anywhere for `REATTACH` is expired; its locks go when the expiry is durable (L7).
//!     While this brick's disk stands still nobody can come, and no time counts.
//! M2  At the start of a view nothing is granted before every living session has said what it holds, or was given up
//!     (grace, PROTOCOL 7.4): a lock that somebody holds is never granted to another one (L5).
//! M3  The backup keeps no word of its mounts to itself: what is not a read goes to the primary, in order.
//!
//! Not here: leases (`arbiter`), replies (`replicate`).

use crate::{
    arbiter::Names,
    brick::Brick,
    input::MountConn,
    output::{Event, Output},
    view::Stand,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::{String, ToString},
    vec::Vec,
};
use mboxfs_types::{
    Attr, Key, Kind, Nanos, SessionId,
    call::{Attach, Attached, Lease, Reclaim, Reclaimed, ToBrick, ToMount, View},
    limits,
    peer::ToPeer,
    planted::Bug,
    record::Body,
};

/// A mount's stream here.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Local {
    session: SessionId,
    attach: Attach,
    /// `Attached::Ok` was said.
    greeted: bool,
}

/// Where a session is, as the primary knows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Here,
    Peer,
    Nowhere { since: Nanos },
}

/// What a mount said that it holds.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Claim {
    /// Those that stand.
    leases: Vec<Lease>,
    /// Of its locks and dotlocks, those that do not.
    lost: Vec<Key>,
    known: Vec<Attr>,
    unanswered: u64,
}

/// All mounts.
#[derive(Debug, Default)]
pub(crate) struct Mounts {
    locals: BTreeMap<MountConn, Local>,
    conns: BTreeMap<SessionId, MountConn>,
    places: BTreeMap<SessionId, Place>,
    /// Primary: the last attachment of each session that was heard of.
    attach_nos: BTreeMap<SessionId, u64>,
    /// The view that mounts were told of.
    view: View,
    /// Primary: grace is over.
    pub(crate) open: bool,
    /// Primary: sessions that have not said yet what they hold.
    awaited: BTreeSet<SessionId>,
    grace_until: Nanos,
    /// Said it; confirmed when the view opens.
    reclaimed: BTreeMap<SessionId, Claim>,
    /// SessionOpen or SessionExpire is numbered.
    changing: BTreeSet<SessionId>,
}

impl Mounts {
    pub(crate) fn conn_of(&self, session: SessionId) -> Option<MountConn> {
        self.conns.get(&session).copied()
    }

    pub(crate) fn is_at_peer(&self, session: SessionId) -> bool {
        self.places.get(&session) == Some(&Place::Peer)
    }

    pub(crate) fn session_of(&self, conn: MountConn) -> Option<SessionId> {
        self.locals.get(&conn).map(|l| l.session)
    }
}

impl Brick {
    pub(crate) fn on_mount(&mut self, conn: MountConn, frame: ToBrick, out: &mut Vec<Output>) {
        if let ToBrick::Attach(attach) = frame {
            return self.on_attach(conn, attach, out);
        }
        let Some(session) = self.mounts.session_of(conn) else {
            return;
        };
        match frame {
            ToBrick::Ping { sent } => {
                let serve = self.serve_left();
                out.push(Output::Mount {
                    conn,
                    frame: ToMount::Pong { sent, serve },
                });
            }
            _ if !self.serving() => {} // it says it again in the next view
            ToBrick::Query { id, query } => self.on_query(conn, id, query, out),
            frame if self.is_primary() => self.on_session_frame(session, frame, Place::Here, out),
            frame => {
                if let ToBrick::Request(request) = &frame {
                    let kept = (request.acked, request.op.clone());
                    self.relayed.insert((session, request.seq), kept);
                } else if matches!(frame, ToBrick::Lease(_)) {
                    self.counters.round_trips += 1;
                }
                out.push(Output::Peer(ToPeer::Relay { session, frame }));
            }
        }
    }

    fn on_attach(&mut self, conn: MountConn, attach: Attach, out: &mut Vec<Output>) {
        if !self.serving() {
            let why = format!("brick {} does not serve now ({:?})", self.me.index() + 1, self.status());
            let frame = ToMount::Attached(Attached::NotServing {
                why,
                bricks: self.bricks.clone(),
            });
            out.push(Output::Mount { conn, frame });
            out.push(Output::DropMount { conn });
            return;
        }
        let session = attach.session;
        if let Some(old) = self.mounts.conns.insert(session, conn) {
            self.mounts.locals.remove(&old);
            out.push(Output::DropMount { conn: old });
        }
        let frame = ToBrick::Attach(attach.clone());
        self.mounts.locals.insert(
            conn,
            Local {
                session,
                attach,
                greeted: false,
            },
        );
        if self.is_primary() {
            self.on_session_frame(session, frame, Place::Here, out);
        } else {
            out.push(Output::Peer(ToPeer::Relay { session, frame }));
        }
    }

    pub(crate) fn on_mount_lost(&mut self, conn: MountConn, out: &mut Vec<Output>) {
        let Some(local) = self.mounts.locals.remove(&conn) else {
            return;
        };
        self.mounts.conns.remove(&local.session);
        self.forget_looks(conn);
        if self.is_primary() {
            self.on_lost(local.session, Place::Here);
        } else if self.serving() {
            let session = local.session;
            out.push(Output::Peer(ToPeer::Lost { session }));
        }
    }

    /// Primary: what a mount says, from here or passed on by the backup. A mount that moves from one brick to the other is
    /// attached where it said so last: what it said before at the other brick, and arrives late, has no effect.
    pub(crate) fn on_session_frame(&mut self, session: SessionId, frame: ToBrick, from: Place, out: &mut Vec<Output>) {
        if let ToBrick::Attach(attach) = &frame {
            let last = self.mounts.attach_nos.entry(session).or_default();
            if attach.attach_no < *last {
                return;
            }
            *last = attach.attach_no;
            if from == Place::Peer
                && let Some(old) = self.mounts.conns.remove(&session)
            {
                self.mounts.locals.remove(&old);
                self.forget_looks(old);
                out.push(Output::DropMount { conn: old });
            }
        } else if self.mounts.places.get(&session) != Some(&from) {
            return;
        }
        match frame {
            ToBrick::Attach(attach) => self.on_session_attach(&attach, from, out),
            ToBrick::Reclaim(reclaim) => self.on_reclaim(session, &reclaim, out),
            ToBrick::Detach { end } => self.on_detach(session, end, out),
            ToBrick::Answer(answer) => {
                self.arbiter.answer(session, answer);
                self.pump(out);
            }
            ToBrick::Cancel { req } => self.arbiter.cancel(session, req),
            // What comes before the view is open comes again after it (C1).
            _ if !self.mounts.open => {}
            ToBrick::Request(request) => self.on_request(session, request, out),
            ToBrick::Lease(request) => {
                if self.state.sessions.contains_key(&session) {
                    let want = crate::arbiter::Want::Lease {
                        req: request.req,
                        key: request.key,
                        mode: request.mode,
                        intent: request.intent,
                    };
                    self.arbiter.want(session, want);
                    self.pump(out);
                }
            }
            ToBrick::Query { id, query } => self.on_session_query(session, id, query, out),
            ToBrick::Ping { .. } => {}
        }
    }

    fn on_session_attach(&mut self, attach: &Attach, at: Place, out: &mut Vec<Output>) {
        let session = attach.session;
        self.mounts.places.insert(session, at);
        let comes = self.coming_sessions().contains(&session);
        // (If its end is numbered, it would be over in the midst of what it is granted now.)
        if comes && self.state.sessions.contains_key(&session) {
            self.arbiter.reattached(session);
            // It will say again what it holds. An answer to what it said before would come between that and the answer to
            // it, and what it does in between would be forgotten.
            if self.mounts.reclaimed.remove(&session).is_some() {
                self.mounts.awaited.insert(session);
            }
            self.tell(session, self.new_view(), out);
        } else if comes {
            // Told when its opening is executed (`on_opened`).
        } else if attach.fresh && !self.state.is_expired(session) && !self.state.sessions.contains_key(&session) {
            if self.mounts.changing.insert(session) {
                let brick = if at == Place::Here { self.me } else { self.me.other() };
                let host: String = attach
                    .session
                    .client
                    .iter()
                    .take(4)
                    .map(|b| format!("{b:02x}"))
                    .collect();
                self.number(Body::SessionOpen { session, brick, host }, out);
            }
        } else {
            self.tell(session, ToMount::Attached(Attached::Expired), out);
            self.mounts.places.remove(&session);
            self.mounts.attach_nos.remove(&session);
        }
    }

    fn new_view(&self) -> ToMount {
        ToMount::View {
            view: self.mounts.view,
            together: self.stand == Stand::Normal,
        }
    }

    /// The sessions that there are when all records of the log are executed. After a crash of both bricks those are most.
    fn coming_sessions(&self) -> BTreeSet<SessionId> {
        let mut sessions: BTreeSet<SessionId> = self.state.sessions.keys().copied().collect();
        for record in &self.log.pending {
            match &record.body {
                Body::SessionOpen { session, .. } => {
                    sessions.retain(|s| s.client != session.client);
                    sessions.insert(*session);
                }
                Body::SessionExpire { session } => {
                    sessions.remove(session);
                }
                _ => {}
            }
        }
        sessions
    }

    /// A session's opening is committed; both bricks get here.
    pub(crate) fn on_opened(&mut self, session: SessionId, out: &mut Vec<Output>) {
        self.mounts.changing.remove(&session);
        if self.is_primary() && self.mounts.places.contains_key(&session) {
            self.tell(session, self.new_view(), out);
        }
    }

    /// A session's end is committed; both bricks get here.
    pub(crate) fn on_ended(&mut self, session: SessionId, out: &mut Vec<Output>) {
        Self::event(Event::SessionExpired { session }, out);
        self.mounts.changing.remove(&session);
        self.mounts.places.remove(&session);
        self.mounts.attach_nos.remove(&session);
        self.mounts.awaited.remove(&session);
        self.mounts.reclaimed.remove(&session);
        if !Bug::LocksOutlive.here() {
            self.arbiter.remove(session);
        }
        self.relayed.retain(|(s, _), _| *s != session);
        if let Some(conn) = self.mounts.conns.remove(&session) {
            self.mounts.locals.remove(&conn);
            self.forget_looks(conn);
            out.push(Output::Mount {
                conn,
                frame: ToMount::Attached(Attached::Expired),
            });
            out.push(Output::DropMount { conn });
        }
        self.tell_local(&ToMount::SessionGone { session }, None, out);
    }

    fn on_detach(&mut self, session: SessionId, end: bool, out: &mut Vec<Output>) {
        if end && self.state.sessions.contains_key(&session) {
            if self.mounts.changing.insert(session) {
                self.number(Body::SessionExpire { session }, out);
            }
        } else {
            let at = self.mounts.places.get(&session).copied().unwrap_or(Place::Here);
            self.on_lost(session, at);
        }
    }

    /// Backup's word that a mount's stream there ended.
    pub(crate) fn on_lost_at_peer(&mut self, session: SessionId) {
        self.on_lost(session, Place::Peer);
    }

    fn on_lost(&mut self, session: SessionId, at: Place) {
        // A word about an older attachment, after the mount moved to the other brick, changes nothing.
        if self.mounts.places.get(&session) == Some(&at) {
            self.mounts
                .places
                .insert(session, Place::Nowhere { since: self.clock.mono });
            self.arbiter.reattached(session);
        }
    }

    // ---- views

    /// A view begins: at the primary all leases are void until reclaimed (M2); the backup says who is here (M3).
    pub(crate) fn begin_view(&mut self, out: &mut Vec<Output>) {
        self.arbiter = crate::arbiter::Arbiter::default();
        self.relayed.clear();
        self.busy.clear();
        self.looks.clear_barriers();
        self.mounts.places.clear();
        self.mounts.reclaimed.clear();
        self.mounts.changing.clear();
        self.mounts.open = false;
        self.mounts.view = self.view;
        let here: Vec<Attach> = self.mounts.locals.values().map(|l| l.attach.clone()).collect();
        if !self.is_primary() {
            for attach in here {
                let (session, frame) = (attach.session, ToBrick::Attach(attach));
                out.push(Output::Peer(ToPeer::Relay { session, frame }));
            }
            return;
        }
        self.mounts.awaited = if Bug::GraceSkipped.here() {
            BTreeSet::new()
        } else {
            self.coming_sessions()
        };
        self.mounts.grace_until = self.clock.mono + limits::GRACE;
        for attach in here {
            self.on_session_attach(&attach, Place::Here, out);
        }
        self.try_open(out);
    }

    fn on_reclaim(&mut self, session: SessionId, reclaim: &Reclaim, out: &mut Vec<Output>) {
        if reclaim.view != self.mounts.view || !self.state.sessions.contains_key(&session) {
            return;
        }
        let from = reclaim.from.g;
        let crossed = from != self.view.g && self.sb.history.iter().all(|epoch| epoch.g != from);
        let (leases, lost) = self.arbiter.reclaim(session, reclaim, self.mounts.open, crossed);
        self.mounts.awaited.remove(&session);
        let claim = Claim {
            leases,
            lost,
            known: reclaim.known.clone(),
            unanswered: reclaim.unanswered,
        };
        self.mounts.reclaimed.insert(session, claim);
        if self.mounts.open {
            self.confirm(session, out);
            self.pump(out);
        } else {
            self.try_open(out);
        }
    }

    fn confirm(&mut self, session: SessionId, out: &mut Vec<Output>) {
        let Some(mut claim) = self.mounts.reclaimed.remove(&session) else {
            return;
        };
        let (void, leases): (Vec<Lease>, Vec<Lease>) = core::mem::take(&mut claim.leases)
            .into_iter()
            .partition(|l| self.is_other(session, &l.key, &claim));
        self.arbiter.ungrant(session, &void);
        let (locks, dots) = self.arbiter.tables(session);
        let entry = |lease: &Lease| match &lease.key {
            Key::Name(group) => Some((group.clone(), self.state.named(group)?)),
            Key::Inode(_) => None,
        };
        let entries = leases.iter().filter_map(entry).collect();
        let mut lost = claim.lost;
        lost.extend(void.into_iter().map(|lease| lease.key));
        let frame = ToMount::Reclaimed(Reclaimed {
            view: self.mounts.view,
            leases,
            locks,
            dots,
            lost,
            entries,
        });
        self.tell(session, frame, out);
    }

    /// Is this another file than the mount knows? It comes from the other side of a partition, which had a line of history of
    /// its own: what it has staged must not land in this one (L6, L8). (What its unanswered requests did meanwhile is its own.
    /// What answered ones did it knows; if it does not, they were executed here, and answered there.)
    fn is_other(&self, session: SessionId, key: &Key, claim: &Claim) -> bool {
        let Key::Inode(ino) = key else { return false };
        let Some(there) = claim.known.iter().find(|a| a.ino == *ino) else {
            return false;
        };
        let Ok(here) = self.state.attr(*ino) else { return true };
        let same = (here.version, here.size, here.mtime) == (there.version, there.size, there.mtime);
        let own = self.state.made_by(session, claim.unanswered, &here);
        !same && !own && here.kind == Kind::File
    }

    /// Grace ends when all have come, or were given up.
    pub(crate) fn try_open(&mut self, out: &mut Vec<Output>) {
        if self.mounts.open || !self.is_primary() || !self.mounts.awaited.is_empty() {
            return;
        }
        // Records of the former view may still be on their way: what they do to leases must be over first.
        if self.log.pending.iter().any(|r| !r.body.is_bookkeeping()) {
            return;
        }
        self.mounts.open = true;
        let sessions: Vec<SessionId> = self.mounts.reclaimed.keys().copied().collect();
        for session in sessions {
            self.confirm(session, out);
        }
        self.pump(out);
    }

    pub(crate) fn tick_mounts(&mut self, out: &mut Vec<Output>) {
        if !self.is_primary() {
            return;
        }
        if self.stall.is_stalled() {
            return self.part_with_all(); // M1
        }
        let now = self.clock.mono;
        let late = |since: Nanos| now >= since + limits::REATTACH;
        let mut gone: Vec<SessionId> = Vec::new();
        for session in self.state.sessions.keys() {
            let expired = match self.mounts.places.get(session) {
                Some(Place::Nowhere { since }) => late(*since),
                // It is there and does not say what it holds: nobody waits for ever (L13).
                Some(_) => self.mounts.awaited.contains(session) && late(self.mounts.grace_until),
                None => now >= self.mounts.grace_until,
            };
            if expired {
                gone.push(*session);
            }
        }
        for session in gone {
            if self.mounts.changing.insert(session) {
                self.number(Body::SessionExpire { session }, out);
            }
        }
    }

    /// This brick will not serve for a while: its mounts go to the other one.
    pub(crate) fn drop_mounts(&mut self, out: &mut Vec<Output>) {
        for conn in core::mem::take(&mut self.mounts.locals).into_keys() {
            out.push(Output::DropMount { conn });
        }
        self.mounts.conns.clear();
        self.part_with_all();
    }

    /// M1, for all from now on.
    fn part_with_all(&mut self) {
        let places = self.mounts.places.iter().map(|(session, at)| (*session, *at));
        for (session, at) in places.collect::<Vec<_>>() {
            self.on_lost(session, at);
        }
    }

    // ---- words to mounts

    /// Primary to a session, wherever it is.
    pub(crate) fn tell(&mut self, session: SessionId, frame: ToMount, out: &mut Vec<Output>) {
        match self.mounts.places.get(&session) {
            Some(Place::Peer) => out.push(Output::Peer(ToPeer::Deliver { session, frame })),
            Some(Place::Here) => self.deliver(session, frame, out),
            _ => {} // it will ask again
        }
    }

    /// To a mount attached here.
    pub(crate) fn deliver(&mut self, session: SessionId, frame: ToMount, out: &mut Vec<Output>) {
        let Some(conn) = self.mounts.conn_of(session) else {
            return;
        };
        let (brick, bricks) = (self.me, self.bricks.clone());
        let Some(local) = self.mounts.locals.get_mut(&conn) else {
            return;
        };
        if matches!(frame, ToMount::View { .. }) && !core::mem::replace(&mut local.greeted, true) {
            let hello = ToMount::Attached(Attached::Ok { brick, bricks });
            out.push(Output::Mount { conn, frame: hello });
        }
        let over = matches!(frame, ToMount::Attached(Attached::Expired));
        out.push(Output::Mount { conn, frame });
        if over {
            self.mounts.conns.remove(&session);
            self.mounts.locals.remove(&conn);
            out.push(Output::DropMount { conn });
        }
    }

    /// To every mount attached here but one.
    pub(crate) fn tell_local(&self, frame: &ToMount, but: Option<SessionId>, out: &mut Vec<Output>) {
        for (session, conn) in &self.mounts.conns {
            if Some(*session) != but {
                out.push(Output::Mount {
                    conn: *conn,
                    frame: frame.clone(),
                });
            }
        }
    }

    /// Sessions for operators: id, host, attached here?
    pub(crate) fn session_list(&self) -> Vec<(SessionId, String, bool)> {
        let sessions = self.state.sessions.iter();
        sessions
            .map(|(id, s)| (*id, s.host.to_string(), self.mounts.conns.contains_key(id)))
            .collect()
    }
}
