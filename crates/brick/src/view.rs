//! Views and generations: who is a member, who numbers, who may serve (PROTOCOL.md section 6).
//!
//! G1  A brick numbers records only under a view that it wrote to its superblock in this incarnation, or under a new
//!     generation of its own with a nonce: (n, g, v) names one record, ever.
//! G2  A brick that answered a ping does not go on alone before `PROMISE` is over; one that got no answer stops serving
//!     from leases after `SERVE` (L3).
//! G3  What a brick alone commits is durable together with the fact that it was alone: the superblock is written first.
//! G4  Both become members again by a record that both have; the survivor writes it down before the other one may.
//! G5  Two that meet again say that both are members when the one that lacked records has them durably: what a survivor
//!     committed alone may be among them.
//!
//! Not here: who may authorise going on alone (`quorum`), what the two make of each other's history (`line`), sessions and
//! grace (`attach`).

mod beats;
mod catch_up;

use crate::{
    attach::Place,
    brick::Brick,
    line::{self, Decision},
    output::{Event, Output},
    tree::batches,
};
use alloc::vec::Vec;
use mboxfs_types::{
    BrickId, Nanos, SessionId,
    admin::{Away, Status},
    call::View,
    disk::{DiskOp, Worth},
    heal::Ask,
    limits,
    peer::{Hello, ToPeer},
    planted::Bug,
    record::{Body, Members, Record},
};

/// Where the brick stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Stand {
    /// No peer, or not agreed with it yet. Does not serve. `alone_at`: when it may go on alone, if it may at all.
    Waiting { alone_at: Nanos },
    /// The superblock that says so is being written.
    GoingSolo,
    /// The only member. `catch_up`: the peer is back and gets what it lacks.
    Solo { catch_up: Option<CatchUp> },
    /// Gets from the survivor what it lacks; `commit` is the survivor's word.
    Learner { commit: u64 },
    /// Gets the survivor's files (`resync`).
    Copying,
    /// Both went on alone; the other one merges what this one has. `asked`: not answered yet.
    Yielding { asked: Option<(u64, Ask)> },
    /// All of it is there: this line of history is being dropped.
    GivingUp,
    /// Both are members and know it; logs are being made equal.
    Rejoining(Rejoin),
    /// Both work.
    Normal,
}

impl Stand {
    pub(crate) const fn waiting(alone_at: Nanos) -> Self {
        Self::Waiting { alone_at }
    }
}

/// The survivor's side of a catch-up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct CatchUp {
    /// First record that was not sent yet.
    next: u64,
    /// First record that was sent in this catch-up.
    began: u64,
    /// When that was.
    since: Nanos,
    /// The next batch waits for its turn, or is being read.
    reading: bool,
    /// Position of the record that makes both members: from it on commits need both.
    joint: Option<u64>,
    /// The superblock that says "both" is being written.
    promoting: bool,
}

/// A handshake of two members.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rejoin {
    /// In which both will work.
    view: View,
    primary: BrickId,
    source: BrickId,
    /// Everything up to here must be durable on both.
    until: u64,
    /// At the target: all was received. At the source: all was sent.
    complete: bool,
    /// The superblock that says "both" is being written.
    writing: bool,
    written: bool,
    since: Nanos,
}

/// The other brick, as far as its streams tell.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Peer {
    pub(crate) up: bool,
    pub(crate) hello: Option<Hello>,
    /// What was said to it on this stream.
    said: Option<Hello>,
    /// What it said before that.
    heard: Option<Hello>,
    /// Last record that it reported durable in this view.
    pub(crate) durable: u64,
    /// Last own record that it was told to be durable, in passing (`replicate` R5).
    pub(crate) told: u64,
    /// It is to be told more.
    pub(crate) owed: bool,
    /// Somebody there waits for this record.
    pub(crate) waits_for: u64,
    /// We promised not to go on alone before this.
    pub(crate) promise_until: Nanos,
    /// It promised us.
    pub(crate) serve_until: Nanos,
    /// When to be suspicious.
    pub(crate) lapse_at: Nanos,
    pub(crate) next_ping: Nanos,
    /// Worked together since this process started: our memory of leases is good.
    pub(crate) met: bool,
    /// Words of the peer that works already, while this side still writes its superblock.
    early: Vec<ToPeer>,
    /// Generations drawn by this process.
    pub(crate) generations: u32,
    /// It was in step, or is known to exist, and is not there now.
    pub(crate) away: Option<Away>,
}

impl Brick {
    pub(crate) fn boot(&mut self, out: &mut Vec<Output>) {
        // The previous incarnation may have promised (PROTOCOL 6.1).
        self.peer.promise_until = self.clock.mono + limits::PROMISE;
        self.stand = Stand::waiting(self.clock.mono + self.boot_wait());
        if let Some(at) = self.sb.giving_up {
            self.resume_giving_up(at, out);
        }
        self.forget_fork(out);
        self.write_superblock(out);
    }

    /// What operators see.
    pub(crate) fn status(&self) -> Status {
        match &self.stand {
            _ if self.stall.is_stalled() => Status::Stalled,
            Stand::Waiting { .. } if self.stall.keeps_away(self.clock.mono) => Status::Stalled,
            Stand::Waiting { .. } if self.asking.waits.is_some() => Status::Waiting,
            Stand::Waiting { .. } if self.peer.met => Status::Suspect,
            Stand::Waiting { .. } => Status::Boot,
            Stand::GoingSolo | Stand::Rejoining(_) => Status::Suspect,
            Stand::Solo { .. } if self.sb.diverged.is_some() => Status::Diverged,
            Stand::Solo { .. } => Status::Solo,
            Stand::Yielding { .. } => Status::Diverged,
            Stand::Learner { .. } | Stand::Copying | Stand::GivingUp => Status::Learner,
            Stand::Normal => Status::Normal,
        }
    }

    pub(crate) fn set_stand(&mut self, stand: Stand, why: &'static str, out: &mut Vec<Output>) {
        let from = self.status();
        self.stand = stand;
        self.forget_waits();
        let to = self.status();
        if from != to {
            Self::event(
                Event::Status {
                    from,
                    to,
                    g: self.view.g,
                    v: self.view.v,
                    why,
                },
                out,
            );
        }
    }

    /// May mounts be attached and served?
    pub(crate) const fn serving(&self) -> bool {
        matches!(self.stand, Stand::Normal | Stand::Solo { .. }) && !self.stall.is_stalled()
    }

    /// Is this brick the arbiter of the current view?
    pub(crate) fn is_primary(&self) -> bool {
        match self.stand {
            Stand::Solo { .. } => true,
            Stand::Normal => self.sb.primary == self.me,
            _ => false,
        }
    }

    /// How long leases may be served from now on.
    pub(crate) fn serve_left(&self) -> Nanos {
        match self.stand {
            Stand::Solo { .. } if !(self.is_joint() && self.is_witnessed()) => limits::SERVE,
            Stand::Normal | Stand::Solo { .. } => limits::SERVE.min(self.peer.serve_until - self.clock.mono),
            _ => Nanos(0),
        }
    }

    fn hello(&self) -> Hello {
        let changed = self
            .log
            .pending
            .iter()
            .rev()
            .find(|r| r.tag.n <= self.log.durable && !r.body.is_bookkeeping())
            .map(|r| r.tag.n);
        Hello {
            protocol: limits::PROTOCOL_VERSION,
            volume: self.sb.volume.unwrap_or_default(),
            brick: self.me,
            uuid: self.sb.uuid,
            inc: self.sb.inc,
            view: self.view,
            members: self.sb.members,
            history: self.sb.history.clone(),
            // What is on its way to the disk may not get there: the peer must not rely on it.
            last: self.log.durable,
            log_start: self.log.start,
            last_change: changed.unwrap_or(self.state.last_change),
            fresh: !self.peer.met,
            diverged: self.sb.diverged.is_some(),
            merging: !self.state.merged.is_empty(),
            joint: self.joint().filter(|_| self.sb.members == Members::Only(self.me)),
            overrun: self.sb.overrun,
            incomplete: self.sb.files == Worth::Copying,
        }
    }

    pub(crate) fn on_peer_up(&mut self, out: &mut Vec<Output>) {
        if self.stall.keeps_away(self.clock.mono) {
            return out.push(Output::DropPeer); // T2 of `stall`
        }
        self.peer.up = true;
        self.peer.hello = None;
        self.peer.durable = 0;
        self.peer.early.clear();
        self.give_up_asking();
        self.peer.said = None;
        self.peer.heard = None;
        self.say_hello(out);
    }

    /// As soon as all that was numbered is durable; one who is alone and goes on numbering does not wait for that.
    pub(crate) fn say_hello(&mut self, out: &mut Vec<Output>) {
        let ready = self.log.durable == self.log.last || matches!(self.stand, Stand::Solo { .. });
        if !self.peer.up || self.peer.said.is_some() || !ready {
            return;
        }
        let hello = self.hello();
        self.peer.said = Some(hello.clone());
        out.push(Output::Peer(ToPeer::Hello(hello)));
        if let Some(theirs) = self.peer.heard.take() {
            self.on_hello(theirs, out);
        }
    }

    pub(crate) fn on_peer_lost(&mut self, out: &mut Vec<Output>) {
        self.peer.up = false;
        self.peer.hello = None;
        self.relayed.clear();
        let alone_at = self.alone_at();
        self.note_away("its stream broke", false);
        match &self.stand {
            Stand::Normal => self.suspect(alone_at, "the stream to the peer broke", out),
            Stand::Rejoining(_) => self.set_stand(Stand::waiting(alone_at), "the peer went away in the handshake", out),
            Stand::Learner { .. } => {
                let why = "the survivor went away before all was here";
                self.set_stand(Stand::waiting(alone_at), why, out);
            }
            Stand::Solo { .. } if self.is_joint() && self.is_witnessed() => {
                self.leave_joint("the peer went away while it was joining", out);
            }
            Stand::Solo { .. } if self.is_joint() => {
                // The peer may take itself for a member: a generation of one's own again, with a nonce.
                self.go_solo("the peer went away while it was joining", out);
            }
            Stand::Solo { .. } => self.stand = Stand::Solo { catch_up: None },
            Stand::Copying => {
                if self.stop_resync() {
                    let why = "the peer went away before all its files were here";
                    self.set_stand(Stand::waiting(alone_at), why, out);
                }
            }
            Stand::Yielding { .. } => self.yield_in_vain(out),
            Stand::Waiting { .. } | Stand::GoingSolo | Stand::GivingUp => {}
        }
        self.release(out);
        self.end_quarantine(out);
        (self.heal, self.merge_at) = (None, None);
        self.end_feed();
        self.arbiter.remove(SessionId::HEAL);
        self.looks.forget_bricks();
        self.stop_repairs(out);
    }

    /// The promise need not be waited for: it is there so that a peer that lives and lost its stream can come back. What its
    /// mounts may still serve from leases is over before anything is granted here (M2; GRACE is longer than SERVE).
    pub(crate) fn on_peer_dead(&mut self) {
        let now = self.clock.mono;
        if let Stand::Waiting { alone_at } = &mut self.stand
            && self.peer.met
            && !self.peer.up
            && *alone_at < Nanos(u64::MAX)
        {
            *alone_at = (*alone_at).min(now);
        }
    }

    /// When this brick may go on alone, or ask for it, if its peer is gone now.
    fn alone_at(&self) -> Nanos {
        let late = self.is_witnessed() && self.sb.primary != self.me;
        let delay = if late { limits::BACKUP_DELAY } else { Nanos(0) };
        self.peer.promise_until.max(self.clock.mono) + delay
    }

    /// T10: the peer may be a member, or not. The witness knows.
    pub(crate) fn leave_joint(&mut self, why: &'static str, out: &mut Vec<Output>) {
        self.suspect(self.alone_at(), why, out);
    }

    pub(crate) fn suspect(&mut self, alone_at: Nanos, why: &'static str, out: &mut Vec<Output>) {
        self.note_away(why, false);
        self.set_stand(Stand::waiting(alone_at), why, out);
        if self.peer.up {
            out.push(Output::DropPeer);
            self.peer.up = false;
        }
    }

    pub(crate) fn on_hello(&mut self, theirs: Hello, out: &mut Vec<Output>) {
        let Some(said) = self.peer.said.clone() else {
            self.peer.heard = Some(theirs);
            return;
        };
        let decision = self.stranger(&theirs).unwrap_or_else(|| line::decide(&said, &theirs)); // line V1: as it was said
        let as_said = said.last == self.log.durable && said.view == self.view;
        let stays = match &decision {
            Decision::Learn { source, .. } => *source == self.me,
            Decision::Rejoin { .. } => false,
            Decision::Diverged { .. } | Decision::Refuse(_) => true,
        };
        if matches!(self.stand, Stand::GoingSolo | Stand::GivingUp | Stand::Copying) || !as_said && !stays {
            // Another decision was taken already, or there is more to lose: meet again when it can be told.
            out.push(Output::DropPeer);
            self.peer.up = false;
            return;
        }
        self.peer.hello = Some(theirs.clone());
        self.sb.peer_inc = self.sb.peer_inc.max(theirs.inc); // written with the next superblock
        match decision {
            Decision::Refuse(why) => {
                Self::event(Event::PeerRefused { why }, out);
                out.push(Output::DropPeer);
                self.peer.up = false;
            }
            Decision::Diverged { common } => self.on_diverged(common, &said, &theirs, out),
            Decision::Learn { source, common, whole } if source == self.me => {
                self.on_learner(common, whole, &theirs, out);
            }
            Decision::Learn { common, whole, .. } => self.learn(common, whole, &theirs, out),
            Decision::Rejoin {
                view,
                primary,
                source,
                common,
            } => {
                self.rejoin(view, primary, source, common, &theirs, out);
            }
        }
    }

    /// I29: another directory in the place of the peer's, with a history that nobody knows.
    fn stranger(&self, theirs: &Hello) -> Option<Decision> {
        let known = self.sb.peer_uuid.filter(|_| self.sb.files != Worth::Copying)?;
        (known != theirs.uuid && !theirs.incomplete).then(|| {
            Decision::Refuse(
                "its directory is not the one that this brick knows, and not a new one; see reset-brick".into(),
            )
        })
    }

    // ---- two members

    fn rejoin(
        &mut self,
        view: View,
        primary: BrickId,
        source: BrickId,
        common: u64,
        theirs: &Hello,
        out: &mut Vec<Output>,
    ) {
        if source != self.me && self.log.last > common {
            // Never committed: a committed record is on both (V2).
            if !self.saves_first(common, out) {
                out.push(Output::Reload { keep: common });
            }
            return;
        }
        let until = self.log.last.max(theirs.last.max(common));
        let until = if source == self.me { self.log.last } else { until };
        self.sb.peer_uuid = Some(theirs.uuid); // written with all else
        self.forget_waits();
        // Nothing is known to be durable there before it says so: the last records may be on their way to its disk.
        self.peer.durable = 0;
        let rejoin = Rejoin {
            view,
            primary,
            source,
            until,
            complete: false,
            writing: false,
            written: false,
            since: self.clock.mono,
        };
        self.stand = Stand::Rejoining(rejoin);
        if source == self.me {
            self.send_suffix(common + 1, out);
        }
    }

    /// Source: what the peer lacks, a batch at a time as far as it was executed, and that it was the last one. The rest is in
    /// memory still, and nowhere else if its place in the log rots: nobody goes on alone by it under `quorum both`.
    fn send_suffix(&mut self, from: u64, out: &mut Vec<Output>) {
        if from <= self.state.applied {
            let bytes = limits::SUFFIX_BYTES_MAX;
            out.push(Output::Disk(DiskOp::ReadLog { from, bytes }));
            return;
        }
        let records: Vec<_> = self.log.pending.iter().filter(|r| r.tag.n >= from).cloned().collect();
        if !records.is_empty() {
            out.push(Output::Peer(ToPeer::Suffix { records }));
        }
        out.push(Output::Peer(ToPeer::Suffix { records: Vec::new() }));
        out.push(Output::Peer(ToPeer::Durable { n: self.log.durable }));
        if let Stand::Rejoining(r) = &mut self.stand {
            r.complete = true;
        }
    }

    pub(crate) fn on_log_read(&mut self, from: u64, records: Vec<Record>, out: &mut Vec<Output>) {
        let Some(last) = records.last().map(|r| r.tag.n) else {
            return;
        };
        if !self.peer.up {
            return;
        }
        match &mut self.stand {
            Stand::Rejoining(r) if r.source == self.me => {
                out.push(Output::Peer(ToPeer::Suffix { records }));
                self.send_suffix(last + 1, out);
            }
            Stand::Solo { catch_up: Some(c) } if c.next == from => {
                c.next = last + 1;
                c.reading = false;
                self.fed(&records);
                out.push(Output::Peer(ToPeer::Suffix { records }));
                if last >= self.log.last {
                    self.join(out);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn on_suffix(&mut self, records: Vec<Record>, out: &mut Vec<Output>) {
        if !matches!(self.stand, Stand::Rejoining(_) | Stand::Learner { .. }) {
            return;
        }
        if records.is_empty() {
            if let Stand::Rejoining(r) = &mut self.stand {
                r.complete = true;
                r.until = self.log.last;
            }
            return;
        }
        for record in records {
            self.append_foreign(record, out);
        }
    }

    /// Both logs equal: that is written down (G5); then work.
    pub(crate) fn try_rejoin(&mut self, out: &mut Vec<Output>) {
        let Stand::Rejoining(r) = &mut self.stand else { return };
        let here = r.complete && self.log.durable >= r.until;
        let there = r.source != self.me || self.peer.durable >= r.until;
        if !here || !there {
            return;
        }
        let (primary, until) = (r.primary, r.until);
        if !core::mem::replace(&mut r.writing, true) {
            if r.source != self.me {
                // The source waits for this word, also when nothing was missing.
                out.push(Output::Peer(ToPeer::Durable { n: self.log.durable }));
            }
            self.view = r.view;
            return self.write_both(primary, out);
        }
        if !r.written {
            return;
        }
        line::extend_empty(&mut self.sb.history, self.view, until + 1); // the source may number already
        self.enter_normal(primary, "both bricks are together", out);
    }

    /// Both are members, in this view.
    fn write_both(&mut self, primary: BrickId, out: &mut Vec<Output>) {
        self.sb.g = self.view.g;
        self.sb.v = self.view.v;
        self.sb.members = Members::Both;
        self.sb.primary = primary;
        self.sb.fork = None;
        self.sb.overrun = false;
        self.sb.forced = false;
        self.sb.files = Worth::Whole;
        self.write_superblock(out);
    }

    fn enter_normal(&mut self, primary: BrickId, why: &'static str, out: &mut Vec<Output>) {
        self.sb.primary = primary;
        self.peer.met = true;
        self.peer.away = None;
        self.stall.met();
        self.peer.serve_until = Nanos(0);
        self.peer.lapse_at = self.clock.mono + limits::SERVE;
        self.peer.next_ping = self.clock.mono;
        self.pay(u64::MAX, out);
        self.forget_debt();
        self.end_feed();
        self.end_fork(out);
        self.readers.end();
        self.set_stand(Stand::Normal, why, out);
        self.begin_view(out);
        self.ping(out);
        for message in core::mem::take(&mut self.peer.early) {
            self.on_peer(message, out);
        }
    }

    // ---- going on alone

    pub(crate) fn go_solo(&mut self, why: &'static str, out: &mut Vec<Output>) {
        let g = self.new_generation();
        self.go_on(View { g, v: 0 }, why, out);
    }

    /// Alone in `view`, which nobody else numbers under, by whatever authority.
    pub(crate) fn go_on(&mut self, view: View, why: &'static str, out: &mut Vec<Output>) {
        self.view = view;
        self.sb.g = view.g;
        self.sb.v = view.v;
        if self.sb.members != Members::Only(self.me) || self.sb.fork.is_none() {
            // What was in the log at the start may be in the files already: only behind it can be guarded what they hold.
            let replayed = self.rot.replay_end.min(self.log.last);
            self.sb.fork = Some(self.state.applied.max(replayed));
            self.sb.overrun = false;
            self.readers.begin();
            // What a fork that ended in between kept from being freed.
            let unfreed = self.fork.take().map(|fork| fork.freed(&self.state));
            self.unfreed.extend(unfreed.into_iter().flatten());
            // A crash may have left some of an older one, and positions of a line that was given up come again.
            out.push(crate::give_up::forget_forks());
            self.forget_debt();
            self.catch_fork();
        }
        self.sb.members = if Bug::SoloUnrecorded.here() {
            Members::Both
        } else {
            Members::Only(self.me)
        };
        self.sb.primary = self.me;
        self.sb.files = Worth::Whole;
        self.write_superblock(out);
        if self.peer.up {
            out.push(Output::DropPeer);
            self.peer.up = false;
        }
        self.set_stand(Stand::GoingSolo, why, out);
    }

    pub(crate) fn on_superblock(&mut self, out: &mut Vec<Output>) {
        self.sb_writes -= 1;
        if self.sb_writes > 0 {
            return;
        }
        self.write_checkpoint(out);
        let me = self.me;
        match &mut self.stand {
            Stand::GoingSolo => {
                let unfreed = core::mem::take(&mut self.unfreed);
                let unfreed = batches(unfreed).into_iter();
                out.extend(unfreed.map(|effects| Output::Disk(DiskOp::Apply(effects))));
                self.set_stand(Stand::Solo { catch_up: None }, "goes on alone", out);
                // G3: from here on everything in the own log is committed. What waits for leases of the view before must
                // not be numbered in this one.
                self.execute_committed(out);
                line::extend_empty(&mut self.sb.history, self.view, self.log.last + 1);
                self.number(
                    Body::NewGen {
                        g: self.view.g,
                        members: Members::Only(me),
                        primary: me,
                    },
                    out,
                );
                self.begin_view(out);
            }
            Stand::GivingUp => self.put_back(out),
            Stand::Rejoining(r) => r.written = r.writing,
            Stand::Solo { catch_up: Some(c) } if c.promoting => {
                let records = self.log.last + 1 - c.began;
                // G4: the learner hears of it only now.
                let n = c.joint.unwrap_or(0);
                out.push(Output::Peer(ToPeer::Commit { n }));
                Self::event(Event::Healed { records }, out);
                self.enter_normal(me, "the peer has everything again", out);
            }
            Stand::Solo { .. } => self.leave_fork(out),
            Stand::Copying => self.on_resync_written(out),
            Stand::Learner { .. } if self.sb.members == Members::Both => {
                self.peer.durable = self.peer.durable.max(self.state.applied);
                self.enter_normal(self.sb.primary, "has everything again", out);
            }
            _ => {}
        }
    }
}

impl Brick {
    pub(crate) fn on_peer(&mut self, message: ToPeer, out: &mut Vec<Output>) {
        if !self.peer.up {
            return; // P2: of a stream that was given up
        }
        if matches!(self.stand, Stand::Rejoining(_))
            && matches!(
                message,
                ToPeer::Relay { .. } | ToPeer::Lost { .. } | ToPeer::Deliver { .. }
            )
        {
            self.peer.early.push(message);
            return;
        }
        match message {
            ToPeer::Hello(hello) => self.on_hello(hello, out),
            ToPeer::Suffix { records } => self.on_suffix(records, out),
            ToPeer::Append { entry } => self.on_append(entry, out),
            ToPeer::Durable { n } => self.on_durable(n, out),
            ToPeer::Commit { n } => self.on_commit(n),
            ToPeer::Ask { ticket, ask } => self.on_ask(ticket, ask, out),
            ToPeer::Part { ticket, data, last } => self.on_part(ticket, data, last, out),
            ToPeer::Check { ticket, check } => self.on_check(ticket, check, out),
            ToPeer::Checked {
                ticket,
                version,
                sure,
                data,
            } => self.on_checked(ticket, (version, sure), data, out),
            ToPeer::Merged => self.on_merged(out),
            ToPeer::Copied { n } => self.on_copied(n, out),
            ToPeer::Goodbye { why } => self.on_goodbye(&why, out),
            ToPeer::Relay { session, frame } if self.is_primary() => {
                self.on_session_frame(session, frame, Place::Peer, out)
            }
            ToPeer::Lost { session } if self.is_primary() => self.on_lost_at_peer(session),
            ToPeer::Deliver { session, frame } if self.stand == Stand::Normal => self.deliver(session, frame, out),
            // Of a view that has ended on this side.
            ToPeer::Relay { .. } | ToPeer::Lost { .. } | ToPeer::Deliver { .. } => {}
        }
    }

    pub(crate) fn on_tick(&mut self, out: &mut Vec<Output>) {
        if self.stopping {
            return;
        }
        self.tick_view(out);
        self.mend_log(out);
        self.tick_heal(out);
        self.tick_resync(out);
        self.tick_rot(out);
        self.tick_scrub(out);
        self.tick_mounts(out);
    }

    /// Is somebody catching up who wants to hear what is committed?
    pub(crate) const fn peer_is_learning(&self) -> bool {
        matches!(self.stand, Stand::Solo { catch_up: Some(_) })
    }

    /// What the learner may execute: the record that makes it a member only when that is written down here (G4).
    pub(crate) fn committed_alone(&self) -> u64 {
        match &self.stand {
            Stand::Solo {
                catch_up: Some(CatchUp { joint: Some(joint), .. }),
            } => joint - 1,
            _ => self.state.applied,
        }
    }
}
