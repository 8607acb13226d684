//! Small files of Dovecot that both sides changed, and that are no mailboxes: sets of lines, and what it numbers mail and
//! keywords with.
//!
//! Promises: the result takes the name as a new file, as Dovecot itself does it; under the merge's lock (Z3), the dotlock of
//! that name with it. What Dovecot can build again, and cannot be merged, is removed: a mail client loads its mail once more
//! rather than take one message for another.
//!
//! What both knew of a set of lines is what was merged last, else what was there at the fork.
//!
//! Not here: what the lines mean (`mbox`), other files (`decide`).

use super::{
    Heal, Step, Then, Wish,
    decide::{Both, Look, Next, after, name_of},
};
use crate::{
    brick::Brick,
    output::{Mended, Output},
    query::Asker,
};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec,
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_mbox::{
    files::{self, Rule},
    keywords,
    plan::Side,
    uidlist,
};
use mboxfs_types::{
    Group, Ino, Name,
    call::{Extent, Op},
    disk::{self, AtFork},
    heal::{Ask, Change, Node, Of},
    limits,
};

/// All of it is one extent of one record: the UIDs of some 15000 messages.
const TEXT_BYTES_MAX: usize = limits::RECORD_BYTES_MAX - limits::EXTENT_HEAD_BYTES;

/// One that is being merged, and what is known of it.
#[derive(Debug)]
pub(super) struct Texts {
    pub(super) both: Both,
    rule: Rule,
    base: Base,
    theirs: Option<Bytes>,
    ours: Option<Bytes>,
}

/// What both knew.
#[derive(Debug)]
enum Base {
    /// It is what was there at the fork.
    Fork(Ino, AtFork),
    /// It is this version of the other line, which was merged.
    Merged(Ino, u64),
    Known(Bytes),
    None,
}

/// What became of such files on the other line, where Dovecot makes a new file with each change.
#[derive(Debug, Default)]
pub(super) struct Before {
    /// Sets of lines that were merged last, if any was: where that line was then, the object, its version.
    merged: BTreeMap<(Ino, Name), (u64, Ino, u64)>,
    /// Gone, and another one has the name: nothing was removed.
    replaced: BTreeSet<Ino>,
}

impl Before {
    pub(super) fn of(look: &Look<'_>, changes: &[Change]) -> Self {
        let mut before = Self::default();
        let has_rule = |(_, name): &&(Ino, Name)| is_text(files::rule(name.as_bytes()));
        let there = changes.iter().filter_map(|c| c.now.as_ref());
        let there: BTreeSet<_> = there.flat_map(|now| &now.names).filter(has_rule).collect();
        for change in changes {
            let Some(node) = look.base_of(change) else { continue };
            let mut places = node.names.iter().filter(has_rule);
            if change.now.is_none() && places.clone().any(|place| there.contains(place)) {
                before.replaced.insert(change.ino);
            }
            let merged = look.state.merged.get(&change.ino);
            let is_it = |version| version == node.attr.version && node.attr.size <= TEXT_BYTES_MAX as u64;
            if let Some(merged) = merged.filter(|m| is_it(m.version))
                && let Some(place) = places.find(|(_, name)| files::rule(name.as_bytes()) == Rule::Lines)
            {
                let last = before.merged.entry(place.clone()).or_default();
                *last = (*last).max((merged.at, change.ino, merged.version));
            }
        }
        before
    }
}

const fn is_text(rule: Rule) -> bool {
    use Rule::{Index, Keywords, Lines, UidList, UidValidity};
    matches!(rule, Lines | UidList | UidValidity | Index | Keywords)
}

/// What becomes of it.
enum Merged {
    /// This.
    Text(Vec<u8>),
    /// This, and what becomes of letters.
    Keywords(keywords::Merged),
    /// Nothing.
    Removed,
    /// It is treated like any other file.
    Kept,
}

impl Heal {
    /// The rule for an object that both sides have as a file, if it is one of these.
    pub(super) fn text_rule(&self, change: &Change) -> Option<Rule> {
        let now = change.now.as_ref()?;
        let rule = files::rule(now.names.first()?.1.as_bytes());
        let wanted = rule != Rule::Keywords || self.unread.has(change.ino);
        (is_text(rule) && wanted).then_some(rule)
    }
}

impl Texts {
    /// Whose lock Dovecot has when it changes this one, beside its own.
    pub(super) fn locked_by(&self, dir: Ino) -> Option<Group> {
        (self.rule == Rule::Keywords).then(|| Group::of(dir, &name_of(b"dovecot-uidlist")))
    }

    pub(super) const fn wants_base(&self) -> bool {
        self.theirs.is_some() && matches!(self.base, Base::Fork(..) | Base::Merged(..))
    }

    /// It cannot be read, and counts for nothing.
    pub(super) fn forget_base(&mut self) {
        self.base = Base::None;
    }

    pub(super) fn take(&mut self, data: Bytes, from_peer: bool) {
        if from_peer && self.theirs.is_none() {
            self.theirs = Some(data);
        } else if self.wants_base() {
            self.base = Base::Known(data);
        } else {
            self.ours = Some(data);
        }
    }

    fn merge(&self) -> Option<Merged> {
        let (ours, theirs) = (self.ours.as_deref()?, self.theirs.as_deref()?);
        Some(match self.rule {
            Rule::Lines => {
                let base = match &self.base {
                    Base::Known(base) => Some(&base[..]),
                    _ => None,
                };
                Merged::Text(files::merge_lines(base, ours, theirs))
            }
            Rule::UidList => {
                let list = uidlist::merge(ours, theirs).filter(|list| list.len() <= TEXT_BYTES_MAX);
                list.map_or(Merged::Removed, Merged::Text)
            }
            Rule::UidValidity => match files::greater_uid_validity(ours, theirs) {
                Side::Left => Merged::Text(ours.to_vec()),
                Side::Right => Merged::Text(theirs.to_vec()),
            },
            Rule::Keywords => keywords::merge(ours, theirs).map_or(Merged::Kept, Merged::Keywords),
            _ => Merged::Removed,
        })
    }
}

impl Brick {
    /// The front of `todo` is such a file. What is too large for one record is removed, or treated like any other file.
    pub(super) fn begin_texts(&mut self, both: Both, rule: Rule, out: &mut Vec<Output>) {
        let theirs = self
            .heal
            .as_ref()
            .and_then(|h| h.todo.front()?.now.as_ref())
            .map_or(0, |now| now.attr.size);
        let ours = self.state.inode(both.into).map_or(0, |i| i.size);
        // What is united may become as large as both together.
        let bytes = match rule {
            Rule::Lines | Rule::Keywords => ours.saturating_add(theirs),
            _ => ours.max(theirs),
        };
        let rule = match rule {
            _ if bytes <= TEXT_BYTES_MAX as u64 => rule,
            Rule::Lines => return self.conflict(both, out),
            Rule::Keywords => return self.keep_text(out),
            _ => Rule::Index,
        };
        let base = if rule == Rule::Lines {
            self.base_of_lines(both.into)
        } else {
            Base::None
        };
        if let Some(heal) = &mut self.heal {
            heal.step = Step::Texts(Texts {
                both,
                rule,
                base,
                theirs: (rule == Rule::Index).then(Bytes::new),
                ours: None,
            });
            self.gather_texts(out);
        }
    }

    /// What to do next with the front of the list.
    pub(super) fn unless_replaced(&self, next: Next) -> Next {
        let replaced = self.heal.as_ref().is_some_and(|heal| {
            let front = heal.todo.front();
            front.is_some_and(|change| heal.before.replaced.contains(&change.ino))
        });
        match next {
            Next::Both(Both { gone: true, .. }) if replaced => Next::Done,
            _ => next,
        }
    }

    /// By its name, too. `into`: the file here.
    fn base_of_lines(&self, into: Ino) -> Base {
        let front = self
            .heal
            .as_ref()
            .and_then(|heal| Some((heal, heal.todo.front()?.now.as_ref()?)));
        let merged = front.and_then(|(heal, now)| now.names.iter().find_map(|place| heal.before.merged.get(place)));
        if let Some((_, ino, version)) = merged {
            return Base::Merged(*ino, *version);
        }
        let at_fork = || {
            let (dir, name) = self.state.inode(into).ok()?.home.as_ref()?;
            let fork = self.fork.as_ref()?;
            let ino = fork.base().lookup(*dir, name).ok()??;
            let at = fork.find(ino, Of::Fork, self.sb.diverged.unwrap_or_default())?;
            (at.size <= TEXT_BYTES_MAX as u64).then_some(Base::Fork(ino, at))
        };
        at_fork().unwrap_or(Base::None)
    }

    pub(super) fn gather_texts(&mut self, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let (Step::Texts(t), Some(change)) = (&heal.step, heal.todo.front()) else {
            return;
        };
        let (into, ino, offset) = (t.both.into, change.ino, 0);
        let len = limits::EXTENT_BYTES_MAX as u32; // 1 MiB
        if t.theirs.is_none() {
            let of = Of::Now;
            return self.ask_peer(Ask::Read { ino, of, offset, len }, out);
        }
        match t.base {
            Base::Merged(ino, version) => {
                let of = Of::Version(version);
                return self.ask_peer(Ask::Read { ino, of, offset, len }, out);
            }
            Base::Fork(ino, at) => {
                let base = Some(at);
                return self.look(Asker::Heal, disk::Look::Copy { ino, base, offset, len }, out);
            }
            Base::Known(_) | Base::None => {}
        }
        if heal.held.as_ref().is_none_or(|(held, _)| *held != into) {
            if let Step::Texts(texts) = core::mem::replace(&mut heal.step, Step::List) {
                self.hold(into, Then::Texts(texts), out);
            }
            return;
        }
        if t.ours.is_none() {
            return self.look(Asker::Heal, disk::Look::Read { ino: into, offset, len }, out);
        }
        self.put_text(out);
    }

    /// A list of keywords that cannot be merged.
    fn keep_text(&mut self, out: &mut Vec<Output>) {
        if let Some(heal) = &mut self.heal
            && let Some(change) = heal.todo.front()
        {
            heal.unread.forget(change.ino);
        }
        self.next_object(out);
    }

    fn put_text(&mut self, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let Step::Texts(texts) = core::mem::replace(&mut heal.step, Step::List) else {
            return;
        };
        let (Some(change), Some(merged)) = (heal.todo.front(), texts.merge()) else {
            return;
        };
        let (theirs, version) = (change.ino, change.now.as_ref().map(|now| now.attr.version));
        let is_merged = self.state.merged.get(&theirs).map(|m| m.version) == version;
        let late = change.now.as_ref().map_or(self.clock.real, Node::mtime);
        let text = match merged {
            Merged::Text(text) => Some(text),
            Merged::Keywords(k) if heal.renumber(theirs, k.stays, &k.other) => Some(k.list),
            Merged::Keywords(..) | Merged::Kept => return self.keep_text(out),
            Merged::Removed => None,
        };
        let Some((inode, (dir, name))) = self
            .state
            .inode(texts.both.into)
            .ok()
            .and_then(|i| Some((i, i.home.clone()?)))
        else {
            return self.next_object(out);
        };
        let made = self.ino_to_come();
        let (mode, uid, gid) = (inode.mode, inode.uid, inode.gid);
        let wish = match text {
            Some(text) if Some(&text[..]) == texts.ours.as_deref() => {
                return match version.filter(|_| !is_merged) {
                    Some(version) => self.mark_front(version, out),
                    None => self.next_object(out),
                };
            }
            Some(text) => Wish {
                also: Some(content(made, text, after(self.clock.real.max(inode.mtime).max(late)))),
                ..Wish::making(
                    Op::Put {
                        dir,
                        name,
                        mode,
                        uid,
                        gid,
                        content: Bytes::new(),
                    },
                    Some(made),
                    version,
                    None,
                )
            },
            None => Wish::making(Op::Unlink { dir, name }, None, version, None),
        };
        if let Some(heal) = &mut self.heal
            && let Some((_, keys)) = heal.held.take()
        {
            heal.did = Some(Mended::Merged);
            self.number_wish(theirs, wish, keys, out);
        }
    }
}

fn content(ino: Ino, text: Vec<u8>, mtime: mboxfs_types::Timestamp) -> Op {
    let size = text.len() as u64;
    let data = Bytes::from(text);
    let extents = if data.is_empty() {
        vec![]
    } else {
        vec![Extent { offset: 0, data }]
    };
    Op::Commit {
        ino,
        staged: false,
        cut: 0,
        extents,
        size,
        mtime,
        atime: None,
    }
}
