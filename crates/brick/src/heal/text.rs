//! Small files of Dovecot that both sides changed, and that are no mailboxes: sets of lines, and what it numbers mail with.
//!
//! Promises: the result takes the name as a new file, as Dovecot itself does it; under the merge's lock (Z3), the dotlock of
//! that name with it. What Dovecot can build again, and cannot be merged, is removed: a mail client loads its mail once more
//! rather than take one message for another.
//!
//! Not here: what the lines mean (`mbox`), other files (`decide`).

use super::{Step, Then, Wish, decide::Both};
use crate::{
    brick::Brick,
    output::{Mended, Output},
    query::Asker,
};
use alloc::{vec, vec::Vec};
use bytes::Bytes;
use mboxfs_mbox::{
    files::{self, Rule},
    plan::Side,
    uidlist,
};
use mboxfs_types::{
    Ino, Name,
    call::{Extent, Op},
    disk::{AtFork, Look},
    heal::{Ask, Change, Of},
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
    /// Nothing.
    Removed,
}

/// The rule for an object that both sides have as a file, if it is one of these.
pub(super) fn rule(change: &Change) -> Option<Rule> {
    let now = change.now.as_ref()?;
    let rule = files::rule(now.names.first()?.1.as_bytes());
    matches!(rule, Rule::Lines | Rule::UidList | Rule::UidValidity | Rule::Index).then_some(rule)
}

impl Texts {
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
        // A set of lines may become as large as both together.
        let bytes = if rule == Rule::Lines {
            ours.saturating_add(theirs)
        } else {
            ours.max(theirs)
        };
        let large = bytes > TEXT_BYTES_MAX as u64;
        if large && rule == Rule::Lines {
            return self.conflict(both, out);
        }
        let rule = if large { Rule::Index } else { rule };
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

    fn put_text(&mut self, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let Step::Texts(texts) = core::mem::replace(&mut heal.step, Step::List) else {
            return;
        };
        let (Some(change), Some(merged)) = (heal.todo.front(), texts.merge()) else {
            return;
        };
        let (theirs, version) = (change.ino, change.now.as_ref().map(|now| now.attr.version));
        let home = self
            .state
            .inode(texts.both.into)
            .ok()
            .and_then(|i| Some((i, i.home.clone()?)));
        let Some((inode, (dir, name))) = home else {
            return self.next_object(out);
        };
        let made = self.ino_to_come();
        let wish = match merged {
            Merged::Text(text) if Some(&text[..]) == texts.ours.as_deref() => {
                return version.map_or_else(|| (), |version| self.mark_front(version, out));
            }
            Merged::Text(text) => Wish {
                also: Some(content(made, text, self.clock.real)),
                ..Wish::making(
                    Op::Put {
                        dir,
                        name,
                        mode: inode.mode,
                        uid: inode.uid,
                        gid: inode.gid,
                        content: Bytes::new(),
                    },
                    Some(made),
                    version,
                    None,
                )
            },
            Merged::Removed => Wish::making(Op::Unlink { dir, name }, None, version, None),
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
