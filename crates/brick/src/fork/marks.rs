//! What a brick that is alone keeps of the moments at which it went on alone again: the marks.
//!
//! A merge that is interrupted has brought some objects of this line into the other one. If such an object changes here
//! afterwards, what both sides know of it is no longer what they knew at the fork: messages that were merged, and expunged on
//! either side since, would return. The ancestor of the next merge is the version that was merged (PROTOCOL.md section 8).
//!
//! N1  While a brick yields it changes nothing, and the first record after that is its next going alone: so every version
//!     that was merged is what its object was at some mark.
//! N2  Of a file that had changed by then, a mark keeps what is overwritten later, as the fork does (K1, K2); what was made
//!     by then is not freed.
//! N3  Marks follow from the log, as the fork does (K3).
//! N4  Records that were not executed yet when the peer went may be in its log, too. So there is a mark before each of them as
//!     well: one of them is the moment at which the two lines parted, which is the ancestor, rather than the fork.
//!
//! Not here: which version was merged (the other side knows: `State::merged`).

use alloc::{
    collections::{BTreeMap, VecDeque},
    vec::Vec,
};
use mboxfs_types::{
    Ino, Kind,
    disk::{AtFork, Effect},
    heal::Node,
};

/// Older ones are forgotten. An object that changed between each two of so many interrupted merges is merged as of the fork.
const MARKS_MAX: usize = 16;
/// N4: records that are under way at a time. Of more the older ones count as of the fork.
const EARLY_MAX: usize = 64;

/// One of them.
#[derive(Debug)]
struct Mark {
    /// The record before which it is: the file is kept under this number, as for a fork.
    at: u64,
    /// Everything that was not as at the fork, and there.
    nodes: BTreeMap<Ino, Node>,
}

/// All of them, oldest first.
#[derive(Debug, Default)]
pub(super) struct Marks {
    /// N4
    early: VecDeque<Mark>,
    late: VecDeque<Mark>,
    alone: bool,
}

impl Marks {
    /// The brick has gone on alone.
    pub(super) const fn is_alone(&self) -> bool {
        self.alone
    }

    fn all(&self) -> impl DoubleEndedIterator<Item = &Mark> {
        self.early.iter().chain(&self.late)
    }

    /// N1: before the record that goes on alone. `nodes`: all that is not as at the fork.
    pub(super) fn go_alone(&mut self, at: u64, nodes: BTreeMap<Ino, Node>) {
        self.alone = true;
        if self.is_news(&nodes) {
            push(&mut self.late, MARKS_MAX, Mark { at, nodes });
        }
    }

    /// N4: before one that was numbered by then.
    pub(super) fn set_early(&mut self, at: u64, nodes: BTreeMap<Ino, Node>) {
        if self.is_news(&nodes) {
            push(&mut self.early, EARLY_MAX, Mark { at, nodes });
        }
    }

    /// Something happened since the last one, or at all.
    fn is_news(&self, nodes: &BTreeMap<Ino, Node>) -> bool {
        let last = self.all().next_back();
        last.map_or(!nodes.is_empty(), |last| last.nodes != *nodes)
    }

    /// N4: an object as it was when the lines parted, if that is not as at the fork. `common`: last record that both share.
    pub(super) fn shared(&self, ino: Ino, common: u64) -> Option<&Node> {
        let parted = self.all().take_while(|mark| mark.at <= common + 1).last()?;
        parted.nodes.get(&ino)
    }

    /// Everything that was there at a mark.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&Ino, &Node)> {
        self.all().rev().flat_map(|mark| &mark.nodes)
    }

    /// An object at each of them, where it is not as at the one before (`Change::marks`).
    pub(super) fn of(&self, ino: Ino) -> Vec<(u64, Option<Node>)> {
        let mut all: Vec<(u64, Option<Node>)> = Vec::new();
        for mark in self.all() {
            let node = mark.nodes.get(&ino);
            if all.last().map_or(node.is_some(), |(_, last)| last.as_ref() != node) {
                all.push((mark.at, node.cloned()));
            }
        }
        all
    }

    pub(super) fn knows(&self, ino: Ino) -> bool {
        self.all().any(|mark| mark.nodes.contains_key(&ino))
    }

    /// The file in this version.
    pub(super) fn find(&self, ino: Ino, version: u64) -> Option<AtFork> {
        self.all().rev().find_map(|mark| {
            let node = mark.nodes.get(&ino).filter(|node| node.attr.version == version)?;
            Some(AtFork {
                fork: mark.at,
                size: node.attr.size,
            })
        })
    }

    /// N2, for a write that overwrites these ranges of a file of the given size.
    pub(super) fn keep(&self, ino: Ino, overwritten: impl Fn(u64) -> Vec<(u64, u64)>) -> Vec<Effect> {
        let mut version = None;
        let mut kept = Vec::new();
        for mark in self.all().rev() {
            let Some(node) = mark.nodes.get(&ino).filter(|node| node.kind() == Kind::File) else {
                continue;
            };
            // An older mark of the same version is never asked for (`find`).
            if version.replace(node.attr.version) != Some(node.attr.version) {
                let ranges = overwritten(node.attr.size);
                if !ranges.is_empty() {
                    kept.push(Effect::Keep {
                        fork: mark.at,
                        ino,
                        ranges,
                    });
                }
            }
        }
        kept
    }
}

fn push(marks: &mut VecDeque<Mark>, max: usize, mark: Mark) {
    if marks.len() == max {
        marks.pop_front();
    }
    marks.push_back(mark);
}
