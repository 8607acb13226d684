//! What a successor must know if this daemon dies, and how a successor begins with it.
//!
//! Promises
//! B1  What the kernel, a program or a brick may count on is said in `kept` by the step that makes it so: the driver
//!     writes it down before it carries out anything else of that step.
//! B2  A successor goes on with the session: open files, locks, dotlocks and staged bytes are as they were, requests are
//!     said again as they were (F1). No program learns anything but a pause.
//! B3  A call that the kernel asks again is executed once: its request's reply is waited for, what it made is made anew
//!     or is there already, what it wrote is staged once. So a reply is forgotten, here and at the brick, only when the caller has it.
//! B4  The kernel may keep attributes that the former daemon told; the successor gives up no lease before those are old.
//!
//! Leases are not kept, except those under staged bytes: the brick grants the others again. Not here: where it is kept
//! (`mount::journal`).

use crate::{
    calls::{Pending, Wait},
    client::{Client, Handle, Kind},
    dot_calls::DOT_BIT,
    input::{Call, CallId, Clock, Config, Fh},
    lease::{Held, Node},
    link::For,
    output::{Answer, Output},
    staging::Staging,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use mboxfs_types::{
    Attr, Group, Ino, Nanos, SessionId,
    call::{Mode, Request},
    kept::{Kept, Opened, Whose},
    limits,
};

/// State of the keeping.
#[derive(Debug, Default)]
pub(crate) struct Keep {
    words: Vec<Kept>,
    anew: bool,
    /// Replies that came for calls, until the callers have them.
    owed: BTreeMap<CallId, Vec<Request>>,
    /// Calls that made the dotlocks there are.
    dots_by: BTreeMap<Group, CallId>,
    /// Writes that are staged, until the callers know it.
    written: BTreeSet<CallId>,
    /// Inodes whose attributes the kernel may have kept from a former daemon.
    pub(crate) doubtful: Vec<Ino>,
    /// A successor's inheritance, of calls that the kernel asks again.
    resumed: bool,
    /// After this the kernel asks none of them again.
    heir_until: Option<Nanos>,
    early: BTreeMap<CallId, Vec<Attr>>,
    opened: BTreeMap<CallId, Fh>,
    undone: BTreeSet<CallId>,
    written_before: BTreeSet<CallId>,
}

impl Client {
    // ---- saying it

    /// What happened since the last time, in order. `true`: begin anew with it, all that was said before is void.
    pub fn kept(&mut self) -> (bool, Vec<Kept>) {
        if core::mem::take(&mut self.keep.anew) {
            self.keep.words.clear();
            return (true, self.kept_all());
        }
        (false, core::mem::take(&mut self.keep.words))
    }

    /// Everything, as it is now.
    #[must_use]
    pub fn kept_all(&self) -> Vec<Kept> {
        let mut all = Vec::from([self.session_word()]);
        all.extend(self.handles.iter().map(|(fh, h)| handle_word(*fh, h)));
        for (ino, locks) in &self.own_locks {
            let (ino, locks) = (*ino, locks.clone());
            all.push(Kept::Locks { ino, locks });
        }
        all.extend(self.own_dots.keys().map(|group| self.dot_word(group, CallId(0))));
        all.extend(self.lost_dots.iter().map(|((group, pid), dot)| Kept::Lost {
            group: group.clone(),
            pid: *pid,
            dot: Some(dot.clone()),
        }));
        for (ino, node) in &self.nodes {
            if node.staging.is_some() {
                all.push(self.staged_word(*ino));
            }
            if node.orphan {
                all.push(Kept::Orphan { ino: *ino });
            }
        }
        let written = self.keep.written.iter().chain(&self.keep.written_before);
        all.extend(written.map(|id| Kept::Written { call: id.0 }));
        for (id, owed) in &self.keep.owed {
            all.extend(owed.iter().map(|request| asked_word(request, For::Call(*id))));
        }
        all.extend(
            self.requests
                .values()
                .map(|(request, whose)| asked_word(request, *whose)),
        );
        all
    }

    /// The callers have these answers (B3).
    pub fn answered(&mut self, calls: &[CallId]) {
        for id in calls {
            self.keep.written.remove(id);
            for request in self.keep.owed.remove(id).unwrap_or_default() {
                self.keep(Kept::Answered { seq: request.seq });
            }
        }
    }

    pub(crate) fn keep(&mut self, word: Kept) {
        self.keep.words.push(word);
    }

    pub(crate) fn keep_anew(&mut self) {
        self.keep.anew = true;
        self.keep.owed.clear();
        self.keep.early.clear();
    }

    pub(crate) fn keep_session(&mut self) {
        let word = self.session_word();
        self.keep(word);
    }

    fn session_word(&self) -> Kept {
        let (attach_no, fresh, from, bricks) = self.link.attachment();
        Kept::Session {
            bricks: bricks.to_vec(),
            session: self.session,
            fresh,
            from,
            attach_no,
            next_seq: self.next_seq,
        }
    }

    pub(crate) fn keep_handle(&mut self, fh: Fh) {
        if let Some(handle) = self.handles.get(&fh) {
            let word = handle_word(fh, handle);
            self.keep(word);
        }
    }

    pub(crate) fn keep_locks(&mut self, ino: Ino) {
        let locks = self.own_locks.get(&ino).cloned().unwrap_or_default();
        self.keep(Kept::Locks { ino, locks });
    }

    /// `call`: the one that made or removed it; 0 for a change.
    pub(crate) fn keep_dot(&mut self, group: &Group, call: CallId) {
        if !self.own_dots.contains_key(group) {
            self.keep.dots_by.remove(group);
        } else if call != CallId(0) {
            self.keep.dots_by.insert(group.clone(), call);
        }
        let word = self.dot_word(group, call);
        self.keep(word);
    }

    fn dot_word(&self, group: &Group, call: CallId) -> Kept {
        Kept::Dot {
            group: group.clone(),
            dot: self.own_dots.get(group).cloned(),
            call: self.keep.dots_by.get(group).unwrap_or(&call).0,
        }
    }

    pub(crate) fn keep_staged(&mut self, ino: Ino) {
        let word = self.staged_word(ino);
        self.keep(word);
    }

    fn staged_word(&self, ino: Ino) -> Kept {
        let node = self.nodes.get(&ino);
        let overlay = node.and_then(|n| n.staging.as_ref()).map(Staging::kept);
        let attr = node.and_then(|n| n.attr);
        Kept::Staged { ino, attr, overlay }
    }

    pub(crate) fn keep_request(&mut self, request: &Request, whose: For) {
        let word = asked_word(request, whose);
        self.keep(word);
    }

    /// The reply to `request` is in, and the caller does not have it yet. Not for one that failed: it changed nothing, and if
    /// it were asked again after the caller was told so, it might be done.
    pub(crate) fn owes(&mut self, id: CallId, request: Request) {
        self.keep.owed.entry(id).or_default().push(request);
    }

    /// This write is staged, whatever becomes of it.
    pub(crate) fn keep_written(&mut self, id: CallId) {
        self.keep.written.insert(id);
        self.keep(Kept::Written { call: id.0 });
    }

    /// A former daemon staged this write, and could not say so any more.
    pub(crate) fn was_written(&mut self, id: CallId) -> bool {
        let was = self.keep.written_before.remove(&id);
        if was {
            self.keep.written.insert(id);
        }
        was
    }

    /// The brick must not forget replies from this one on.
    pub(crate) fn owed_from(&self) -> u64 {
        self.keep
            .owed
            .values()
            .flatten()
            .map(|r| r.seq)
            .min()
            .unwrap_or(u64::MAX)
    }

    // ---- a successor

    /// The brain of a daemon that takes the place of one that died, from the words that were kept. `life`: counts the
    /// daemons of this mount from 0, so that no number is used twice.
    #[must_use]
    pub fn resume(config: Config, clock: Clock, life: u32, words: Vec<Kept>) -> Self {
        let mut new = Self::new(config, clock);
        new.next_fh = u64::from(life) << 32;
        new.next_req = u64::from(life) << 32;
        new.next_query = u64::from(life) << 32;
        new.dots_made = life << 24;
        new.keep.resumed = true;
        new.keep.heir_until = Some(clock.mono + limits::OP_TIMEOUT);
        let mut asked: BTreeMap<u64, (Request, Whose)> = BTreeMap::new();
        let retry = clock.mono + limits::ATTR_TTL; // B4
        for word in words {
            match word {
                Kept::Session {
                    session,
                    fresh,
                    from,
                    attach_no,
                    next_seq,
                    bricks,
                } => {
                    new.session = session;
                    new.next_seq = new.next_seq.max(next_seq);
                    new.link = new.link.resumed((attach_no, fresh, from, bricks), retry);
                }
                Kept::Asked { request, whose } => {
                    new.next_seq = new.next_seq.max(request.seq + 1);
                    asked.insert(request.seq, (request, whose));
                }
                Kept::Answered { seq } => {
                    asked.remove(&seq);
                }
                word => new.inherit(word),
            }
        }
        new.inherit_opens();
        for (seq, (request, whose)) in asked {
            let whose = match whose {
                Whose::Call(id) => For::Call(CallId(id)),
                Whose::Commit(ino) => new.resume_commit(ino),
                Whose::Nobody => For::Nobody,
            };
            new.requests.insert(seq, (request, whose));
        }
        new.keep_anew();
        new
    }

    fn inherit(&mut self, word: Kept) {
        match word {
            Kept::Open {
                fh,
                ino,
                what,
                dead,
                lost,
                call,
            } => {
                let (kind, dead) = match what {
                    Opened::File { append, sync } => (Kind::File { append, sync }, dead),
                    Opened::Dot(group) => (Kind::Dot(group), dead),
                    Opened::Dir => (Kind::Dir(Vec::new()), true),
                };
                let by = CallId(call);
                let handle = Handle {
                    ino,
                    kind,
                    dead,
                    lost,
                    by,
                };
                self.handles.insert(Fh(fh), handle);
            }
            Kept::Closed { fh } => {
                self.handles.remove(&Fh(fh));
            }
            Kept::Locks { ino, locks } if locks.is_empty() => {
                self.own_locks.remove(&ino);
            }
            Kept::Locks { ino, locks } => {
                self.own_locks.insert(ino, locks);
            }
            Kept::Dot { group, dot, call } => match dot {
                Some(dot) => {
                    self.keep.dots_by.insert(group.clone(), CallId(call));
                    self.own_dots.insert(group, dot);
                }
                None => {
                    self.keep.undone.insert(CallId(call));
                    self.keep.dots_by.remove(&group);
                    self.own_dots.remove(&group);
                }
            },
            Kept::Staged { ino, attr, overlay } => {
                let node = self.node(ino);
                node.staging = overlay.map(Staging::resumed);
                // Claimed as it was (F2); without it the bytes could not be committed.
                node.held = (node.staging.is_some() && attr.is_some()).then_some(Held {
                    mode: Mode::W,
                    seq: 0,
                    used: Mode::W,
                });
                node.attr = attr.filter(|_| node.held.is_some());
            }
            Kept::Wrote { ino, fh, extent, mtime } => {
                if let Some(staging) = self.node(ino).staging.as_mut() {
                    staging.write(extent.offset, &extent.data);
                    staging.mtime = mtime;
                    staging.writers.insert(Fh(fh));
                }
            }
            Kept::Written { call } => {
                self.keep.written_before.insert(CallId(call));
            }
            Kept::Orphan { ino } => self.node(ino).orphan = true,
            Kept::Lost {
                group,
                pid,
                dot: Some(dot),
            } => {
                self.lost_dots.insert((group, pid), dot);
            }
            Kept::Lost { group, pid, dot: None } => {
                self.lost_dots.remove(&(group, pid));
            }
            Kept::Session { .. } | Kept::Asked { .. } | Kept::Answered { .. } => {}
        }
    }

    /// What follows from the files that are open.
    fn inherit_opens(&mut self) {
        let handles: Vec<(Fh, Ino, CallId, Option<Group>)> = self
            .handles
            .iter()
            .filter_map(|(fh, h)| match &h.kind {
                Kind::File { .. } => Some((*fh, h.ino, h.by, None)),
                Kind::Dot(group) => Some((*fh, h.ino, h.by, Some(group.clone()))),
                Kind::Dir(_) => None,
            })
            .collect();
        for (fh, ino, by, group) in handles {
            self.keep.opened.insert(by, fh);
            match group {
                Some(group) => {
                    self.dot_groups.insert(ino, group);
                }
                None => self.node(ino).opens += 1,
            }
        }
        let own = self.own_dots.iter().filter(|(_, d)| d.ino.0 & DOT_BIT != 0);
        let own: Vec<(Ino, Group)> = own.map(|(g, d)| (d.ino, g.clone())).collect();
        self.dot_groups.extend(own);
        for node in self.nodes.values_mut() {
            node.orphan &= node.opens > 0;
        }
    }

    /// A call that the former daemon may have begun, as far as it got; `None`: it was through but for the answer.
    pub(crate) fn inherited(&mut self, id: CallId, mut p: Pending, out: &mut Vec<Output>) -> Option<Pending> {
        if !self.keep.resumed {
            return Some(p);
        }
        if self.keep.undone.remove(&id) && matches!(p.call, Call::Unlink { .. }) {
            let result = Ok(Answer::Empty);
            out.push(Output::Done { id, result });
            return None;
        }
        if let Some(fh) = self.keep.opened.remove(&id) {
            self.close_handle(fh); // its number reached nobody
        }
        let under_way = self.requests.iter().find(|(_, (_, whose))| *whose == For::Call(id));
        if let Some((seq, _)) = under_way {
            p.wait = Wait::Request(*seq);
        }
        p.reply = self.keep.early.remove(&id).map(Ok);
        Some(p)
    }

    /// A reply for a call that the kernel has not asked again yet. False: it will not, the caller has its answer.
    pub(crate) fn early(&mut self, id: CallId, attrs: Vec<Attr>) -> bool {
        let comes = self.keep.heir_until.is_some();
        if comes {
            self.keep.early.insert(id, attrs);
        }
        comes
    }

    /// The kernel has asked again by now whatever it ever will.
    pub(crate) fn tick_keep(&mut self) {
        if self.keep.heir_until.is_none_or(|until| self.clock.mono < until) {
            return;
        }
        self.keep.heir_until = None;
        self.keep.opened.clear();
        self.keep.undone.clear();
        self.keep.written_before.clear();
        let answered: Vec<CallId> = core::mem::take(&mut self.keep.early).into_keys().collect();
        self.answered(&answered);
    }

    /// Did this call make the dotlock that is there?
    pub(crate) fn made_by(&self, id: CallId, group: &Group) -> bool {
        self.own_dots.contains_key(group) && self.keep.dots_by.get(group) == Some(&id)
    }

    /// The kernel has forgotten `ino`, as far as this daemon knows: lookups by a former one are not counted here.
    pub(crate) fn forgotten(&mut self, ino: Ino) {
        if self.keep.resumed && self.told.contains_key(&ino) {
            self.keep.doubtful.push(ino);
        }
        self.told.remove(&ino);
    }

    /// For the log: open files, files with staged bytes, locked files, dotlocks, requests without a reply.
    #[must_use]
    pub fn inheritance(&self) -> (SessionId, [usize; 5]) {
        let staged = |n: &&Node| n.staging.is_some();
        let counts = [
            self.handles.len(),
            self.nodes.values().filter(staged).count(),
            self.own_locks.len(),
            self.own_dots.len(),
            self.requests.len(),
        ];
        (self.session, counts)
    }
}

fn handle_word(fh: Fh, handle: &Handle) -> Kept {
    let what = match &handle.kind {
        Kind::File { append, sync } => Opened::File {
            append: *append,
            sync: *sync,
        },
        Kind::Dot(group) => Opened::Dot(group.clone()),
        Kind::Dir(_) => Opened::Dir,
    };
    Kept::Open {
        fh: fh.0,
        ino: handle.ino,
        what,
        dead: handle.dead,
        lost: handle.lost,
        call: handle.by.0,
    }
}

fn asked_word(request: &Request, whose: For) -> Kept {
    let whose = match whose {
        For::Call(id) => Whose::Call(id.0),
        For::Commit(ino) => Whose::Commit(ino),
        // The pieces of a commit that was not sent count for nothing: it begins again with others.
        For::Piece(_) | For::Nobody => Whose::Nobody,
    };
    Kept::Asked {
        request: request.clone(),
        whose,
    }
}
