//! Small files of Dovecot that both sides changed, and that are no mailboxes: sets of lines, and what it numbers mail and
//! keywords with.
//!
//! Promises: the result takes the name as a new file, as Dovecot itself does it; under the merge's lock (Z3), the dotlock of
//! that name with it. What Dovecot can build again, and cannot be merged, is removed: a mail client loads its mail once more
//! rather than take one message for another.
//!
//! Not here: what the lines mean (`mbox`), other files (`decide`).

use super::{
    Heal, Step, Then, Wish,
    decide::{Both, after, name_of},
};
use crate::{
    brick::Brick,
    output::{Mended, Output},
    query::Asker,
};
use alloc::{vec, vec::Vec};
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
    disk::{AtFork, Look},
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
    /// At the fork, if it was there and that matters; looked for when there is an answer.
    base: Base,
    theirs: Option<Bytes>,
    ours: Option<Bytes>,
}

#[derive(Debug)]
enum Base {
    Wanted(Ino, AtFork),
    Known(Bytes),
    None,
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
        match rule {
            Rule::Lines | Rule::UidList | Rule::UidValidity | Rule::Index => Some(rule),
            Rule::Keywords => self.unread.has(change.ino).then_some(rule),
            _ => None,
        }
    }
}

impl Texts {
    /// Whose lock Dovecot has when it changes this one, beside its own.
    pub(super) fn locked_by(&self, dir: Ino) -> Option<Group> {
        (self.rule == Rule::Keywords).then(|| Group::of(dir, &name_of(b"dovecot-uidlist")))
    }

    pub(super) fn take(&mut self, data: Bytes, from_peer: bool) {
        if from_peer {
            self.theirs = Some(data);
        } else if matches!(self.base, Base::Wanted(..)) {
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
        let home = self.state.inode(both.into).ok().and_then(|i| i.home.clone());
        let base = home
            .filter(|_| rule == Rule::Lines)
            .and_then(|home| self.text_at_fork(&home));
        if let Some(heal) = &mut self.heal {
            heal.step = Step::Texts(Texts {
                both,
                rule,
                base: base.map_or(Base::None, |(ino, at)| Base::Wanted(ino, at)),
                theirs: (rule == Rule::Index).then(Bytes::new),
                ours: None,
            });
            self.gather_texts(out);
        }
    }

    /// By its name: Dovecot makes a new file of it with each change.
    fn text_at_fork(&self, (dir, name): &(Ino, Name)) -> Option<(Ino, AtFork)> {
        let fork = self.fork.as_ref()?;
        let ino = fork.base().lookup(*dir, name).ok()??;
        let at = fork.find(ino, Of::Fork)?;
        (at.size <= TEXT_BYTES_MAX as u64).then_some((ino, at))
    }

    pub(super) fn gather_texts(&mut self, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let (Step::Texts(t), Some(change)) = (&heal.step, heal.todo.front()) else {
            return;
        };
        let (into, ino, offset) = (t.both.into, change.ino, 0);
        let len = limits::EXTENT_BYTES_MAX as u32; // 1 MiB
        if t.theirs.is_none() {
            return self.ask_peer(Ask::Read { ino, offset, len }, out);
        }
        if let Base::Wanted(ino, at) = t.base {
            let base = Some(at);
            let look = Look::Copy { ino, base, offset, len };
            return self.look(Asker::Heal, look, out);
        }
        if heal.held.as_ref().is_none_or(|(held, _)| *held != into) {
            if let Step::Texts(texts) = core::mem::replace(&mut heal.step, Step::List) {
                self.hold(into, Then::Texts(texts), out);
            }
            return;
        }
        if t.ours.is_none() {
            return self.look(Asker::Heal, Look::Read { ino: into, offset, len }, out);
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
        let merged = match merged {
            Merged::Keywords(k) if heal.renumber(theirs, k.stays, &k.other) => Merged::Text(k.list),
            Merged::Keywords(..) | Merged::Kept => return self.keep_text(out),
            other => other,
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
        let wish = match merged {
            Merged::Text(text) if Some(&text[..]) == texts.ours.as_deref() => {
                return match version.filter(|_| !is_merged) {
                    Some(version) => self.mark_front(version, out),
                    None => self.next_object(out),
                };
            }
            Merged::Text(text) => Wish {
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
            _ => Wish::making(Op::Unlink { dir, name }, None, version, None),
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
