//! What the mount knows under leases, and asking for them.
//!
//! E1  Nothing is answered from a lease unless the link is confirmed and the brick's word to serve still holds (L3).
//! E2  A node's lock table is complete only under W; own locks are true always (types C2).
//! E3  What is held without need ends with the view.
//!
//! Not here: giving leases back (`recall`).

use crate::{
    calls::{Pending, Wait},
    client::Client,
    commit::Committing,
    input::CallId,
    output::Output,
    staging::Staging,
};
use alloc::vec::Vec;
use mboxfs_types::{
    Attr, Dotlock, Group, HeldLock, Ino, Key, Nanos, SessionId,
    call::{Answer, Grant, Intent, LeaseRequest, Mode, NameState, ToBrick, Verdict, View},
    limits,
};

/// Leases that were not used for this long are given back unasked.
const LEASE_IDLE: Nanos = Nanos::from_millis(600_000);
/// And this long if there are more than `LEASES_MAX`.
const LEASE_IDLE_OF_MANY: Nanos = Nanos::from_millis(1_000);
/// How often that is looked at.
const SHED_EVERY: Nanos = Nanos::from_millis(10_000);
/// So many of each kind are given back at once: each is a message, and a stream holds 4096.
const SHED_MAX: usize = 500;
/// Then the next ones.
const SHED_AGAIN: Nanos = Nanos::from_millis(100);

/// A lease with its grant's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Held {
    pub(crate) mode: Mode,
    pub(crate) seq: u64,
    /// What it was needed for since it was granted.
    pub(crate) used: Mode,
}

/// What is known of a group of names.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NameLease {
    pub(crate) held: Held,
    pub(crate) entry: Option<Ino>,
    pub(crate) dot: Option<Dotlock>,
    /// When the kernel made one.
    pub(crate) dot_told: Nanos,
    pub(crate) touched: Nanos,
}

/// What is known of an inode.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Node {
    pub(crate) held: Option<Held>,
    /// As committed; valid while `held`.
    pub(crate) attr: Option<Attr>,
    /// Of all mounts (E2).
    pub(crate) locks: Vec<HeldLock>,
    pub(crate) staging: Option<Staging>,
    pub(crate) committing: Option<Committing>,
    /// Lookups that the kernel has not forgotten.
    pub(crate) lookups: u64,
    pub(crate) opens: u32,
    /// Without a name: to be freed at the last close.
    pub(crate) orphan: bool,
    pub(crate) touched: Nanos,
    pub(crate) poked: Nanos,
    /// The kernel has its size, as under this lease (`told` T5).
    pub(crate) sized: bool,
}

impl Node {
    /// Leased, and nobody here has it open.
    pub(crate) const fn is_idle(&self) -> bool {
        self.held.is_some() && self.opens == 0 && self.staging.is_none() && self.committing.is_none()
    }
}

impl Client {
    pub(crate) fn may_serve(&self) -> bool {
        self.link.confirmed && self.clock.mono < self.link.serve_until
    }

    /// The session and the view in which this mount may answer by itself now. For checkers.
    #[must_use]
    pub fn serves(&self) -> Option<(SessionId, View)> {
        self.may_serve().then(|| (self.session, self.link.view()))
    }

    pub(crate) fn node(&mut self, ino: Ino) -> &mut Node {
        self.nodes.entry(ino).or_default()
    }

    /// The committed attributes of `ino` under a lease of at least `mode`, or for this one answer; else waits.
    pub(crate) fn want_inode(
        &mut self,
        id: CallId,
        p: &mut Pending,
        ino: Ino,
        mode: Mode,
        intent: Intent,
        out: &mut Vec<Output>,
    ) -> Option<Attr> {
        let (serve, now) = (self.may_serve(), self.clock.mono);
        if let Some(node) = self.nodes.get_mut(&ino)
            && let Some(held) = node.held.as_mut().filter(|h| h.mode >= mode)
            && let Some(attr) = node.attr
        {
            if serve {
                held.used = held.used.max(mode);
                node.touched = now;
                return Some(attr);
            }
            p.wait = Wait::Service;
            return None;
        }
        if mode == Mode::R
            && let Some(attr) = p.once.as_ref().and_then(|g| g.attr).filter(|a| a.ino == ino)
        {
            return Some(attr);
        }
        self.ask(id, p, Key::Inode(ino), mode, intent, out);
        None
    }

    /// What a group of names is, under a lease of at least `mode`, or for this one answer; else waits.
    pub(crate) fn want_name(
        &mut self,
        id: CallId,
        p: &mut Pending,
        group: &Group,
        mode: Mode,
        intent: Intent,
        out: &mut Vec<Output>,
    ) -> Option<NameState> {
        let (serve, now) = (self.may_serve(), self.clock.mono);
        if let Some(lease) = self.names.get_mut(group)
            && lease.held.mode >= mode
        {
            if serve {
                lease.held.used = lease.held.used.max(mode);
                lease.touched = now;
                return Some(NameState {
                    group: group.clone(),
                    entry: lease.entry,
                    dot: lease.dot.clone(),
                });
            }
            p.wait = Wait::Service;
            return None;
        }
        // A dotlock in the way is all that there is to know for who wants to make one.
        if let Some(state) = p
            .once
            .as_ref()
            .and_then(|g| g.name.as_ref())
            .filter(|n| n.group == *group && (mode == Mode::R || intent == Intent::Excl && n.dot.is_some()))
        {
            return Some(state.clone());
        }
        self.ask(id, p, Key::Name(group.clone()), mode, intent, out);
        None
    }

    fn ask(&mut self, id: CallId, p: &mut Pending, key: Key, mode: Mode, intent: Intent, out: &mut Vec<Output>) {
        self.next_req += 1;
        let request = LeaseRequest {
            req: self.next_req,
            key,
            mode,
            intent,
        };
        p.wait = Wait::Lease(request.req);
        if self.link.confirmed {
            out.push(Output::Send(ToBrick::Lease(request.clone())));
        }
        self.wishes.insert(request.req, (request, id));
    }

    pub(crate) fn cancel_wish(&mut self, req: u64, out: &mut Vec<Output>) {
        if self.wishes.remove(&req).is_some() && self.link.confirmed {
            out.push(Output::Send(ToBrick::Cancel { req }));
        }
    }

    /// Leases and state arrived. Also for a wish that was given up: the leases are held all the same.
    pub(crate) fn install(&mut self, grant: &Grant) {
        let now = self.clock.mono;
        for lease in &grant.leases {
            let held = Held {
                mode: lease.mode,
                seq: lease.seq,
                used: Mode::R,
            };
            match &lease.key {
                Key::Name(group) => {
                    let state = grant.name.as_ref().filter(|n| n.group == *group);
                    let dot = state.and_then(|s| s.dot.clone());
                    if dot.as_ref().is_none_or(|d| d.session != self.session) {
                        // Somebody removed it as stale, by name, on the other node.
                        if self.own_dots.remove(group).is_some() {
                            self.keep_dot(group, CallId(0));
                        }
                    }
                    let entry = state.and_then(|s| s.entry);
                    let dot_told = self.names.get(group).map_or(Nanos(0), |l| l.dot_told);
                    self.names.insert(
                        group.clone(),
                        NameLease {
                            held,
                            entry,
                            dot,
                            dot_told,
                            touched: now,
                        },
                    );
                }
                Key::Inode(ino) => {
                    let mut locks: Vec<HeldLock> = grant
                        .locks
                        .iter()
                        .filter(|l| l.owner.session != self.session)
                        .copied()
                        .collect();
                    locks.extend(self.own_locks.get(ino).into_iter().flatten());
                    let attr = grant.attr.filter(|a| a.ino == *ino);
                    if self.nodes.get(ino).and_then(|n| n.held).is_none() {
                        self.cache.clear(*ino);
                        self.lease_begins(*ino);
                    }
                    let node = self.node(*ino);
                    node.held = Some(held);
                    node.attr = attr;
                    node.locks = locks;
                    node.touched = now;
                    self.changed(*ino);
                }
            }
        }
    }

    /// Attributes that a reply brought, kept where a lease covers them.
    pub(crate) fn absorb(&mut self, attrs: &[Attr]) {
        for attr in attrs {
            if let Some(node) = self.nodes.get_mut(&attr.ino)
                && node.held.is_some()
            {
                node.attr = Some(*attr);
                self.changed(attr.ino);
            }
        }
    }

    /// As processes of this mount see it: staged changes included, dotlocks made by link(2) counted.
    pub(crate) fn shown(&self, attr: Attr) -> Attr {
        let mut attr = attr;
        if let Some(staging) = self.nodes.get(&attr.ino).and_then(|n| n.staging.as_ref()) {
            attr.size = staging.size;
            attr.mtime = staging.mtime;
            attr.ctime = attr.ctime.max(staging.mtime);
            attr.atime = staging.atime.unwrap_or(attr.atime);
        }
        attr.nlink += self.own_dots.values().filter(|d| d.ino == attr.ino).count() as u32;
        attr
    }

    pub(crate) fn forget(&mut self, ino: Ino, count: u64) {
        if let Some(node) = self.nodes.get_mut(&ino) {
            node.lookups = node.lookups.saturating_sub(count);
            if node.lookups == 0 {
                self.forgotten(ino);
            }
        }
        if !self.own_dots.values().any(|d| d.ino == ino) {
            self.dot_groups.remove(&ino);
        }
    }

    /// E3. Leases are claimed anew in each view: only what locks, dotlocks and staged bytes depend on, or a mount that has
    /// looked at a hundred thousand mailboxes would claim as many, in one message. The others are asked for when needed.
    pub(crate) fn drop_unneeded(&mut self) {
        let dots = &self.own_dots;
        self.names.retain(|group, _| dots.contains_key(group));
        let mut dropped: Vec<Ino> = Vec::new();
        for (ino, node) in &mut self.nodes {
            let needed = node.staging.is_some() || node.committing.is_some() || self.own_locks.contains_key(ino);
            if node.held.is_some() && !needed {
                node.held = None;
                node.attr = None;
                node.locks.clear();
                dropped.push(*ino);
            }
        }
        // Bytes also of what is needed: who reads them in this view reads them at its brick (`brick::readers`).
        for ino in self.nodes.keys() {
            self.cache.clear(*ino);
        }
        for ino in dropped {
            self.changed(ino);
        }
    }

    /// Gives back, a few times a minute, what nobody used for long.
    pub(crate) fn shed_leases(&mut self, out: &mut Vec<Output>) {
        let now = self.clock.mono;
        if now < self.link.shed_at || !self.link.confirmed {
            return;
        }
        let many = self.names.len() + self.nodes.len() > limits::LEASES_MAX;
        let idle = if many { LEASE_IDLE_OF_MANY } else { LEASE_IDLE };
        let old = |touched: Nanos| now >= touched + idle;
        let old_names = self.names.iter().filter(|(_, l)| l.dot.is_none() && old(l.touched));
        let names: Vec<Group> = old_names.map(|(g, _)| g.clone()).take(SHED_MAX).collect();
        let old_nodes = self.nodes.iter().filter(|(_, n)| n.is_idle() && old(n.touched));
        let inodes: Vec<Ino> = old_nodes.map(|(i, _)| *i).take(SHED_MAX).collect();
        let more = names.len() == SHED_MAX || inodes.len() == SHED_MAX;
        self.link.shed_at = now + if more { SHED_AGAIN } else { SHED_EVERY };
        for group in names {
            if let Some(lease) = self.names.remove(&group) {
                let verdict = Verdict::Give {
                    keep: None,
                    locks: Vec::new(),
                    dot: None,
                };
                let answer = Answer {
                    id: 0,
                    key: Key::Name(group),
                    seq: lease.held.seq,
                    verdict,
                };
                out.push(Output::Send(ToBrick::Answer(answer)));
            }
        }
        for ino in inodes {
            if !self.own_locks.contains_key(&ino) {
                self.give_inode(ino, 0, None, out);
            }
        }
        self.nodes
            .retain(|_, n| n.held.is_some() || n.lookups > 0 || n.opens > 0 || n.staging.is_some());
    }
}
