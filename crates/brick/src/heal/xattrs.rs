//! Extended attributes in a merge: one after the other, the side that changed it; of two changes the later one.
//!
//! Promises: whatever one line did to an attribute, the line that goes on has a record of what becomes of it, so that the
//! brick that gives up its line gets it from there: nothing of its own is put back (`fork`).
//! Not here: mode and owner (`decide`).

use super::{Step, Wish};
use crate::{brick::Brick, output::Output, query::Asker};
use alloc::{
    collections::{BTreeMap, VecDeque},
    vec,
    vec::Vec,
};
use bytes::Bytes;
use mboxfs_types::{
    Ino, Timestamp,
    call::Op,
    codec,
    disk::{Look, Xattrs},
    heal::{Ask, Change},
};

/// An attribute to be set or removed, and when the other line did that; none: it is what it is here.
type Write = (Vec<u8>, Option<Timestamp>, Op);

/// How far the front of `todo` is.
#[derive(Debug, Default)]
pub(super) enum Progress {
    #[default]
    Begins,
    Writes(VecDeque<Write>),
}

impl Brick {
    /// The front of `todo` is done but for this. True: this is, too.
    pub(super) fn xattrs_done(&mut self, out: &mut Vec<Output>) -> bool {
        loop {
            let Some(heal) = &mut self.heal else { return false };
            let Some(change) = heal.todo.front() else { return true };
            let target = heal.alias.get(&change.ino).copied().unwrap_or(change.ino);
            let is_here = self.state.inode(target).is_ok_and(|i| i.orphan.is_none());
            if (change.xattrs.is_empty() && !heal.made_again) || !is_here {
                return true;
            }
            match &mut heal.xattrs {
                Progress::Begins => {
                    self.ask_xattrs(target, out);
                    return false;
                }
                Progress::Writes(writes) => {
                    let Some((name, time, op)) = writes.pop_front() else {
                        return true;
                    };
                    if self
                        .fork
                        .as_ref()
                        .is_some_and(|fork| !fork.is_newer(target, &name, time))
                    {
                        continue; // changed here meanwhile
                    }
                    self.request(Wish::plain(op, None), out);
                    return false;
                }
            }
        }
    }

    fn ask_xattrs(&mut self, target: Ino, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        heal.step = Step::Xattrs(target);
        let front = heal.todo.front().map(|c| (c.ino, c.now.is_some()));
        match front {
            Some((ino, true)) => {
                let after = Some(Ino(ino.0.saturating_sub(1)));
                self.ask_peer(Ask::Xattrs { after }, out);
            }
            // It is gone there, and what was done to it before with it: it stays what it is here.
            _ => self.look(Asker::Heal, Look::Xattrs { inos: vec![target] }, out),
        }
    }

    /// Of the file on the side that tells.
    pub(super) fn on_xattrs_told(&mut self, data: &Bytes, target: Ino, from_peer: bool, out: &mut Vec<Output>) {
        let Some(heal) = &mut self.heal else { return };
        let Some(change) = heal.todo.front() else { return };
        let source = if from_peer { change.ino } else { target };
        let told = codec::decode::<Xattrs>(data).ok();
        let Some((_, all)) = told.and_then(|all| all.into_iter().find(|(ino, _)| *ino == source)) else {
            return self.stop_merge("extended attributes are malformed", out);
        };
        let values = all.into_iter().collect();
        heal.xattrs = Progress::Writes(if heal.made_again {
            all_of(target, values)
        } else {
            writes(change, target, values, from_peer)
        });
        self.next_object(out);
    }
}

/// What was made again has none of its own.
fn all_of(target: Ino, values: BTreeMap<Vec<u8>, Vec<u8>>) -> VecDeque<Write> {
    let last = Timestamp {
        secs: i64::MAX,
        nanos: 0,
    };
    let all = values.into_iter();
    all.map(|(name, value)| (name.clone(), Some(last), set(target, name, value)))
        .collect()
}

const fn set(ino: Ino, name: Vec<u8>, value: Vec<u8>) -> Op {
    Op::SetXattr {
        ino,
        name,
        value,
        create: false,
        replace: false,
    }
}

fn writes(change: &Change, target: Ino, values: BTreeMap<Vec<u8>, Vec<u8>>, from_peer: bool) -> VecDeque<Write> {
    let op = |name: &Vec<u8>| match values.get(name).cloned() {
        Some(value) => set(target, name.clone(), value),
        None => Op::RemoveXattr {
            ino: target,
            name: name.clone(),
        },
    };
    let all = change.xattrs.iter();
    all.map(|(name, time)| (name.clone(), from_peer.then_some(*time), op(name)))
        .collect()
}
