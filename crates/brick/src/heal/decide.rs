//! What to do next with one object that the other line of history changed.
//!
//! Pure: a function of the state here and of what was changed there. Rules: what only one side changed is taken from that
//! side; directories are united; a change wins over a removal, but flags of a message in a Maildir do not; a name that both
//! gave to different things stays with the one here; content of files that are no mailboxes: the later one stays. What lost
//! is kept in `.mboxfs-conflict` (MAIL.md 6.9).
//!
//! Not here: names (`names`), mailboxes changed on both sides (`mailbox`), bytes (`gather`).

use super::{
    gather::{From, Piece, Take},
    mailbox::Part,
    quarantine::{kept_name, label},
};
use crate::state::{Data, Inode, State};
use alloc::{
    collections::{BTreeMap, VecDeque},
    format, vec,
    vec::Vec,
};
use mboxfs_mbox::files;
use mboxfs_types::{
    Attr, BrickId, Ino, Kind, Name, Timestamp,
    call::{Op, SetAttr},
    heal::{Change, Node, Of},
};

/// Version of what is gone.
const GONE: u64 = u64::MAX;

/// The next step.
#[derive(Debug)]
pub(super) enum Next {
    /// Nothing is left to do.
    Done,
    /// Here it is this inode; look again.
    Alias(Ino),
    /// Something else has to be done first.
    Later,
    /// Do this; what it makes gets this number (see `made`).
    Op(Op, Option<Ino>),
    /// As `Op`, for a file that was removed here and changed there: it begins empty.
    Again(Op, Ino),
    /// As `Again`, for a file that was moved there: all of it is to come.
    Moved(Op, Ino),
    /// As `Op`, for a name or content that both sides gave: in `.mboxfs-conflict`.
    Conflict(Op, Option<Ino>),
    /// Remember that this version is merged.
    Mark(u64),
    /// Take content.
    Take(Take),
    /// Content was changed on both sides.
    Both(Both),
}

/// Content that was changed on both sides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Both {
    /// The file here
    pub(super) into: Ino,
    /// and its version.
    pub(super) version: u64,
    /// What both knew of it; none: nothing.
    pub(super) base: Option<Of>,
    /// It was removed there.
    pub(super) gone: bool,
}

/// Files that are gone make room for names, directories come before what is in them.
pub(super) fn in_order(mut list: Vec<Change>) -> VecDeque<Change> {
    let class = |c: &Change| match (&c.now, &c.base) {
        (None, Some(base)) if base.kind() == Kind::Dir => 3,
        (None, _) => 0,
        (Some(now), _) if now.kind() == Kind::Dir => 1,
        (Some(_), _) => 2,
    };
    list.sort_by_key(class); // stable: inodes ascend within a class
    list.into()
}

/// Names that were taken from something there, with what that was: they will be free here too, as a rule.
pub(super) fn freed(list: &[Change]) -> BTreeMap<(Ino, Name), Ino> {
    let mut freed = BTreeMap::new();
    for change in list {
        let (Some(base), now) = (&change.base, &change.now) else {
            continue;
        };
        for name in &base.names {
            if !now.as_ref().is_some_and(|n| n.names.contains(name)) {
                freed.insert(name.clone(), change.ino);
            }
        }
    }
    freed
}

/// When nothing moves any more, what has no directory goes to the conflict directory, and names stay as they are here.
pub(super) fn next(look: &Look<'_>, c: &Change) -> Next {
    match &c.now {
        Some(now) => look.next_there(c, now),
        None => look.next_gone(c),
    }
}

/// What a decision is made from.
pub(super) struct Look<'a> {
    /// As it is here.
    pub(super) state: &'a State,
    /// Inodes there that are others here.
    pub(super) alias: &'a BTreeMap<Ino, Ino>,
    /// See `freed`.
    pub(super) freed: &'a BTreeMap<(Ino, Name), Ino>,
    /// Last record that both lines share.
    pub(super) common: u64,
    /// Of which moment the changes are: position of the last record there.
    pub(super) at: u64,
    /// Nothing could be done in a whole round.
    pub(super) stuck: bool,
}

impl Look<'_> {
    /// Who has the name here. Later: who has it will lose it.
    pub(super) fn holder(&self, dir: Ino, name: &Name) -> Result<Option<Ino>, Next> {
        let holder = self.state.lookup(dir, name).ok().flatten();
        let leaves = holder.is_some() && self.freed.get(&(dir, name.clone())).copied() == holder;
        if leaves && !self.stuck {
            Err(Next::Later)
        } else {
            Ok(holder)
        }
    }

    /// The inode here, if it has a name.
    pub(super) fn here(&self, ino: Ino) -> Option<&Inode> {
        self.state.inode(ino).ok().filter(|i| i.orphan.is_none())
    }

    /// Its number here.
    pub(super) fn number(&self, ino: Ino) -> Ino {
        self.alias.get(&ino).copied().unwrap_or(ino)
    }

    /// The directory here that is `dir` there.
    pub(super) fn dir(&self, dir: Ino) -> Result<Ino, Next> {
        let dir = self.number(dir);
        match self.here(dir) {
            Some(inode) if inode.kind() == Kind::Dir => Ok(dir),
            _ if self.stuck => conflict_dir(self.state),
            _ => Err(Next::Later),
        }
    }

    fn next_there(&self, c: &Change, now: &Node) -> Next {
        let ino = self.number(c.ino);
        let Some(inode) = self.here(ino) else {
            return self.make(c, now).unwrap_or_else(|next| next);
        };
        if ino != c.ino {
            return self.content(c, now, ino, inode);
        }
        let base = self.base_of(c);
        let old_names = base.map_or(&[][..], |b| &b.names);
        if let Some(next) = self.names(ino, old_names, now) {
            return next;
        }
        // Of what was made there the directory here may have changed the group, or the bits.
        let old = base.map_or(inode.attr(ino), |b| b.attr);
        if let Some(set) = attrs(&old, &now.attr, &inode.attr(ino)) {
            return Next::Op(Op::SetAttr { ino, set }, None);
        }
        match self.content(c, now, ino, inode) {
            Next::Done if !base.is_some_and(|base| is_named_alike(base, now)) && !self.is_merged(c.ino) => {
                Next::Mark(now.attr.version)
            }
            next => next,
        }
    }

    /// What both knew of its names and attributes: what was merged last; else what was there at the fork.
    pub(super) fn base_of<'c>(&self, c: &'c Change) -> Option<&'c Node> {
        let at = self.state.merged.get(&c.ino).map_or(0, |m| m.at);
        if at > 0 && at == self.at {
            return c.now.as_ref();
        }
        // That line went on with the next record.
        let mark = c.marks.iter().rev().find(|(mark, _)| at > 0 && *mark <= at + 1);
        mark.and_then(|(_, node)| node.as_ref()).or(c.base.as_ref())
    }

    /// Its names and attributes are merged, as they are now.
    fn is_merged(&self, theirs: Ino) -> bool {
        self.state.merged.get(&theirs).is_some_and(|m| m.at == self.at)
    }

    /// It is not here: made there since, or removed here.
    fn make(&self, c: &Change, now: &Node) -> Result<Next, Next> {
        let known = self.state.merged.get(&c.ino);
        let again = c.base.is_some() || known.is_some();
        if again && now.kind() != Kind::File {
            return Ok(Next::Done); // removed here
        }
        let is_old = |version: u64| version == now.attr.version;
        let moved = known.is_some_and(|m| is_old(m.version)) || c.base.as_ref().is_some_and(|b| is_old(b.attr.version));
        let place = if moved {
            // Removed here; moved there, it is kept as a whole. With other attributes only, or flags, it is gone.
            self.base_of(c).and_then(|base| self.moved(&base.names, now))
        } else {
            now.names.first()
        };
        let Some((dir, name)) = place else {
            return Ok(Next::Done);
        };
        let dir = self.dir(*dir)?;
        let Some(taken) = self.holder(dir, name)? else {
            let op = creation(now, dir, name.clone());
            return Ok(match (moved, again) {
                (true, _) => Next::Moved(op, c.ino),
                (false, true) => Next::Again(op, c.ino),
                (false, false) => Next::Op(op, Some(c.ino)),
            });
        };
        let other = self.state.inode(taken).map_err(|_| Next::Done)?;
        match (now.kind(), &other.data) {
            (Kind::Dir, Data::Dir { .. }) | (Kind::File, Data::File) => Ok(Next::Alias(taken)),
            (Kind::Symlink, Data::Symlink { target }) if *target == now.target => Ok(Next::Done),
            _ => {
                let dir = conflict_dir(self.state)?;
                let op = creation(now, dir, free_name(self.state, dir, name));
                Ok(match (moved, again) {
                    (true, _) => Next::Moved(op, c.ino),
                    (false, true) => Next::Again(op, c.ino),
                    (false, false) => Next::Conflict(op, Some(c.ino)),
                })
            }
        }
    }

    fn content(&self, c: &Change, now: &Node, into: Ino, inode: &Inode) -> Next {
        let last = self.state.merged.get(&c.ino);
        let known = last.map(|m| m.version);
        let made_here = known == Some(0);
        let changed = c.base.as_ref().is_none_or(|b| b.attr.version != now.attr.version) || made_here;
        let merged = known == Some(now.attr.version);
        let shared = inode.version == now.attr.version && inode.version <= self.common && into == c.ino;
        if now.kind() != Kind::File || !changed || merged || shared {
            return Next::Done;
        }
        let own = into == c.ino;
        let untouched = own && c.base.as_ref().is_some_and(|b| b.attr.version == inode.version);
        let fresh = known.map_or(c.base.is_none(), |_| made_here);
        let new = own && fresh && (inode.version == 0 || last.is_some_and(|m| m.by == inode.version));
        if untouched || new {
            let from = if new {
                0
            } else {
                c.intact.min(now.attr.size).min(inode.size)
            };
            let mtime = if new {
                now.attr.mtime
            } else {
                after(inode.mtime.max(now.attr.mtime))
            };
            return Next::Take(Take {
                into,
                expect: inode.version,
                cut: from,
                size: now.attr.size,
                mtime,
                pieces: whole(from, now.attr.size - from, From::Theirs),
                version: Some(now.attr.version),
            });
        }
        if now.attr.size == 0 && fresh {
            return Next::Mark(now.attr.version);
        }
        Next::Both(Both {
            into,
            version: inode.version,
            // Also if it was removed here and another one made in its place: what was in it is not new.
            base: if made_here {
                None
            } else {
                known.map(Of::Version).or(c.base.is_some().then_some(Of::Fork))
            },
            gone: false,
        })
    }

    /// It was removed there.
    fn next_gone(&self, c: &Change) -> Next {
        let Some(base) = self.base_of(c) else { return Next::Done };
        let Some(inode) = self.here(c.ino) else {
            return self.gone_of_another(c, base);
        };
        let name = base.names.iter().find_map(|name| self.name_here(c.ino, name));
        let Some((dir, name)) = name else {
            return Next::Done; // renamed here
        };
        let known = self.state.merged.get(&c.ino);
        let merged = known.is_some_and(|m| m.version == GONE);
        // Above the fork both lines give the same numbers.
        let untouched = inode.version == base.attr.version && inode.version <= self.common;
        match &inode.data {
            Data::Dir { entries, .. } if entries.is_empty() => Next::Op(Op::Rmdir { dir, name }, None),
            Data::Dir { .. } if self.stuck => Next::Done,
            Data::Dir { .. } => Next::Later,
            Data::Symlink { .. } => Next::Op(Op::Unlink { dir, name }, None),
            Data::File if untouched || (merged && inode.size == 0) => Next::Op(Op::Unlink { dir, name }, None),
            Data::File if merged => Next::Done,
            Data::File => Next::Both(Both {
                into: c.ino,
                version: inode.version,
                base: Some(known.map_or(Of::Fork, |m| Of::Version(m.version))),
                gone: true,
            }),
        }
    }
}

impl Look<'_> {
    /// It was removed there, and is not here either: but it may have been merged into what has its name here.
    fn gone_of_another(&self, c: &Change, base: &Node) -> Next {
        let known = self.state.merged.get(&c.ino).filter(|m| m.version != GONE);
        let holder = |(dir, name): &(Ino, Name)| self.state.lookup(*dir, name).ok().flatten();
        let into = base.names.iter().find_map(holder);
        let file = |ino: Ino| self.here(ino).filter(|i| i.kind() == Kind::File);
        match (known, into.and_then(|ino| Some((ino, file(ino)?)))) {
            (Some(m), Some((into, inode))) => Next::Both(Both {
                into,
                version: inode.version,
                base: Some(Of::Version(m.version)),
                gone: true,
            }),
            _ => Next::Done,
        }
    }
}

/// What is left in a file that was removed, and is kept for the fork, is not in it any more.
pub(super) const fn emptied(ino: Ino, mtime: Timestamp) -> Op {
    Op::Commit {
        ino,
        staged: false,
        cut: 0,
        extents: Vec::new(),
        size: 0,
        mtime,
        atime: None,
    }
}

/// Names, mode and owner are the same.
fn is_named_alike(a: &Node, b: &Node) -> bool {
    let who = |n: &Node| (n.attr.mode, n.attr.uid, n.attr.gid);
    who(a) == who(b) && a.names == b.names
}

/// Attributes that the other side changed, and this one did not, or not as late.
fn attrs(base: &Attr, theirs: &Attr, ours: &Attr) -> Option<SetAttr> {
    fn pick<T: PartialEq + Copy>(base: T, (theirs, is_later): (T, bool), ours: T) -> Option<T> {
        (theirs != base && theirs != ours && (ours == base || is_later)).then_some(theirs)
    }
    let is_later = theirs.ctime > ours.ctime;
    let is_dir = base.kind == Kind::Dir;
    let has_mode = base.kind != Kind::Symlink;
    let only_times = base.version == theirs.version && base.version == ours.version && !is_dir;
    let set = SetAttr {
        mode: has_mode
            .then(|| pick(base.mode, (theirs.mode, is_later), ours.mode))
            .flatten(),
        uid: pick(base.uid, (theirs.uid, is_later), ours.uid),
        gid: pick(base.gid, (theirs.gid, is_later), ours.gid),
        atime: None,
        mtime: only_times
            .then(|| pick(base.mtime, (theirs.mtime, is_later), ours.mtime))
            .flatten(),
    };
    (set != SetAttr::default()).then_some(set)
}

fn creation(now: &Node, dir: Ino, name: Name) -> Op {
    let (mode, uid, gid) = (now.attr.mode, now.attr.uid, now.attr.gid);
    match now.kind() {
        Kind::Dir => Op::Mkdir {
            dir,
            name,
            mode,
            uid,
            gid,
        },
        Kind::Symlink => Op::Symlink {
            dir,
            name,
            target: now.target.clone(),
            uid,
            gid,
        },
        Kind::File => Op::Create {
            dir,
            name,
            mode,
            uid,
            gid,
            excl: true,
        },
    }
}

/// Which version of it is merged when it is made here: of a file the empty one, before any content.
pub(super) fn made(ino: Option<Ino>, c: &Change) -> Option<u64> {
    let now = c.now.as_ref().filter(|_| ino.is_some())?;
    Some(if now.kind() == Kind::File { 0 } else { now.attr.version })
}

pub(super) fn name_of(bytes: &[u8]) -> Name {
    // Our own suffixes are short: what is cut off a long name leaves room for them.
    Name::new(&bytes[..bytes.len().min(255)]).unwrap_or_else(|_| Name::new(b"unnamed").expect("a plain name"))
}

pub(super) fn with_suffix(name: &Name, suffix: &str) -> Name {
    let keep = name.as_bytes().len().min(255 - suffix.len());
    let mut bytes = name.as_bytes()[..keep].to_vec();
    bytes.extend_from_slice(suffix.as_bytes());
    name_of(&bytes)
}

fn free_name(state: &State, dir: Ino, name: &Name) -> Name {
    let mut n = 1;
    loop {
        let candidate = with_suffix(name, &format!(".{n}"));
        if !matches!(state.lookup(dir, &candidate), Ok(Some(_))) {
            return candidate;
        }
        n += 1;
    }
}

/// The conflict directory, or how to make it.
pub(super) fn conflict_dir(state: &State) -> Result<Ino, Next> {
    let name = name_of(files::CONFLICT_DIR.as_bytes());
    if let Ok(Some(dir)) = state.lookup(Ino::ROOT, &name) {
        return Ok(dir);
    }
    let op = Op::Mkdir {
        dir: Ino::ROOT,
        name,
        mode: 0o700,
        uid: 0,
        gid: 0,
    };
    Err(Next::Conflict(op, None))
}

/// The next step for a file that is no mailbox. `peer`: whose the other line is.
pub(super) fn conflict(state: &State, c: &Change, both: Both, peer: BrickId) -> Next {
    let Ok(ours) = state.inode(both.into) else {
        return Next::Done;
    };
    let Some(now) = &c.now else {
        let is = |(dir, name): &&(Ino, Name)| state.lookup(*dir, name) == Ok(Some(both.into));
        let name = c.base.as_ref().and_then(|b| b.names.iter().find(is));
        // Taken from there since the fork, and as it was.
        let taken = state.merged.get(&c.ino).is_some_and(|m| m.by == ours.version);
        return match name.cloned() {
            Some((dir, name)) if taken => Next::Op(Op::Unlink { dir, name }, None),
            _ => Next::Mark(GONE), // changed here: that wins
        };
    };
    let later = now.attr.mtime > ours.mtime;
    let (brick, version, size) = if later {
        (peer.other(), ours.version, ours.size)
    } else {
        (peer, now.attr.version, now.attr.size)
    };
    let dir = match conflict_dir(state) {
        Ok(dir) => dir,
        Err(next) => return next,
    };
    let known = now.names.first().map_or_else(|| name_of(b"unnamed"), |n| n.1.clone());
    let name = with_suffix(&known, &format!(".{}.{version}", label(brick)));
    let Ok(Some(kept)) = state.lookup(dir, &name) else {
        let (uid, gid) = (ours.uid, ours.gid);
        let op = Op::Create {
            dir,
            name,
            mode: 0o600,
            uid,
            gid,
            excl: true,
        };
        return Next::Conflict(op, None);
    };
    let there = state.inode(kept).map_or((0, 0), |i| (i.size, i.version));
    if there.0 != size {
        let from = if later { From::Ours(both.into) } else { From::Theirs };
        return Next::Take(Take {
            into: kept,
            expect: there.1,
            cut: 0,
            size,
            mtime: if later { ours.mtime } else { now.attr.mtime },
            pieces: whole(0, size, from),
            version: None,
        });
    }
    if !later {
        return Next::Mark(now.attr.version);
    }
    Next::Take(Take {
        into: both.into,
        expect: both.version,
        cut: 0,
        size: now.attr.size,
        mtime: after(now.attr.mtime),
        pieces: whole(0, now.attr.size, From::Theirs),
        version: Some(now.attr.version),
    })
}

/// By the name of what `conflict` kept: the brick that had changed it so.
pub(crate) fn whose(name: &str) -> Option<BrickId> {
    let (rest, version) = name.rsplit_once('.')?;
    version.parse::<u64>().ok()?;
    let (_, brick) = rest.rsplit_once('.')?;
    [BrickId::A, BrickId::B].into_iter().find(|b| label(*b) == brick)
}

/// The next step for a file of which one copy is damaged, so that its messages cannot be told: ours stays, theirs is kept
/// as it is. `path`: as users know it.
pub(super) fn damaged(state: &State, c: &Change, path: &str, peer: BrickId) -> Next {
    let Some(now) = &c.now else {
        return Next::Mark(GONE); // changed here: that wins
    };
    let dir = match conflict_dir(state) {
        Ok(dir) => dir,
        Err(next) => return next,
    };
    let messages = u64::from(c.appended.max(1));
    let name = kept_name(path, messages, now.attr.version, &label(peer));
    let Ok(Some(kept)) = state.lookup(dir, &name) else {
        let op = Op::Create {
            dir,
            name,
            mode: 0o600,
            uid: now.attr.uid,
            gid: now.attr.gid,
            excl: true,
        };
        return Next::Conflict(op, None);
    };
    let there = state.inode(kept).map_or((0, 0), |i| (i.size, i.version));
    if there.0 == now.attr.size {
        return Next::Mark(now.attr.version);
    }
    Next::Take(Take {
        into: kept,
        expect: there.1,
        cut: 0,
        size: now.attr.size,
        mtime: now.attr.mtime,
        pieces: whole(0, now.attr.size, From::TheirsRaw),
        version: None,
    })
}

fn whole(offset: u64, len: u64, from: From) -> Vec<Piece> {
    if len == 0 {
        return vec![];
    }
    vec![Piece {
        at: offset,
        offset,
        len,
        from,
    }]
}

/// The merged mailbox: what stands in its place already is not written again.
pub(super) fn take_plan(state: &State, c: &Change, both: Both, plan: Vec<Part>, now: Timestamp) -> Take {
    let mut at = 0;
    let mut pieces = Vec::new();
    for part in plan {
        let (from, offset, len) = match part {
            Part::Ours { offset, len } => (From::Ours(both.into), offset, len),
            Part::Theirs { offset, len } => (From::Theirs, offset, len),
            Part::Bytes(bytes) => {
                let len = bytes.len() as u64;
                (From::Bytes(bytes.into()), 0, len)
            }
        };
        let in_place = matches!(from, From::Ours(_)) && offset == at;
        if !in_place && len > 0 {
            pieces.push(Piece { at, offset, len, from });
        }
        at += len;
    }
    let ours = state.inode(both.into).map_or(now, |i| i.mtime);
    let theirs = c.now.as_ref().map_or(ours, Node::mtime);
    Take {
        into: both.into,
        expect: both.version,
        cut: u64::MAX,
        size: at,
        mtime: after(now.max(ours).max(theirs)),
        pieces,
        version: Some(c.now.as_ref().map_or(GONE, |n| n.attr.version)),
    }
}

/// A whole second later than any of both sides, so that every reader notices (MAIL.md 6.11).
pub(super) const fn after(time: Timestamp) -> Timestamp {
    Timestamp {
        secs: time.secs + 1 + (time.nanos > 0) as i64,
        nanos: 0,
    }
}
