//! What programs were promised, as they see it.
//!
//! Promises: nothing in here comes from the product but answers to system calls.
//! Not here: whether the promises are kept (`invariants`).

use crate::letter::Id;
use std::collections::{BTreeMap, BTreeSet};

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Nobody was told anything: it may be there once, or not.
    Doubt,
    /// fsync or close said that it is there.
    Kept,
    /// Refused before anything had changed, and undone: it must not be there.
    Refused,
}

/// What became of its removal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Removal {
    No,
    /// Somebody tried to.
    Doubt,
    /// It was acknowledged.
    Done,
}

/// An attempt to deliver a message.
#[derive(Clone, Debug)]
pub struct Letter {
    pub mailbox: String,
    pub lines: u32,
    pub fate: Fate,
    /// When it was acknowledged.
    pub kept_at: u64,
    pub removal: Removal,
    /// Its header was changed by a reader.
    pub flagged: bool,
    /// In which brick's line of history it surely is.
    pub lines_of: [bool; 2],
}

/// See above.
#[derive(Clone, Debug, Default)]
pub struct Oracle {
    pub letters: BTreeMap<Id, Letter>,
    pub mailboxes: BTreeSet<String>,
    /// Lock sessions at each mount: begun so far, and whose are not ended.
    sessions: BTreeMap<(usize, String), (u64, BTreeSet<u32>)>,
    /// In a line of its own, each brick's mounts may be promised things that the other one cannot know.
    pub own_line: [bool; 2],
    /// Both have had one at the same time.
    pub forked: bool,
    /// The bricks that the mounts are attached to.
    pub attached: [Option<usize>; 2],
    /// How many messages of a mailbox were taken out, since they rotted on both bricks.
    pub taken_out: BTreeMap<String, usize>,
}

impl Oracle {
    /// A new attempt.
    pub fn begin(&mut self, mailbox: &str, lines: u32) -> Id {
        let id = self.letters.len() as Id + 1;
        let letter = Letter {
            mailbox: mailbox.into(),
            lines,
            fate: Fate::Doubt,
            kept_at: 0,
            removal: Removal::No,
            flagged: false,
            lines_of: [false; 2],
        };
        self.letters.insert(id, letter);
        self.mailboxes.insert(mailbox.into());
        id
    }

    /// A program begins to write under its lock, at this mount.
    pub fn session_begins(&mut self, mount: usize, mailbox: &str, pid: u32) {
        let (begun, open) = self.sessions.entry((mount, mailbox.into())).or_default();
        *begun += 1;
        open.insert(pid);
    }

    /// If it had begun: a program that gets no lock ends as well.
    pub fn session_ends(&mut self, mount: usize, mailbox: &str, pid: u32) {
        let (_, open) = self.sessions.entry((mount, mailbox.into())).or_default();
        open.remove(&pid);
    }

    /// Who reads without a lock sees what others at this mount write, as they write it: sessions begun, and not ended.
    #[must_use]
    pub fn sessions(&self, mount: usize, mailbox: &str) -> (u64, u64) {
        let sessions = self.sessions.get(&(mount, mailbox.into()));
        sessions.map_or((0, 0), |(begun, open)| (*begun, open.len() as u64))
    }

    /// fsync or close of its last byte said yes, at this mount.
    pub fn keeps(&mut self, id: Id, now: u64, mount: usize) {
        let lines_of = self.lines_at(mount);
        if let Some(letter) = self.letters.get_mut(&id) {
            letter.fate = Fate::Kept;
            letter.kept_at = now;
            letter.lines_of = lines_of;
        }
    }

    /// Where a promise of this mount is known: everywhere, unless its brick has a line of its own.
    fn lines_at(&self, mount: usize) -> [bool; 2] {
        match self.attached[mount] {
            Some(brick) if self.own_line[brick] => [brick == 0, brick == 1],
            None if self.own_line[0] || self.own_line[1] => [false; 2],
            _ => [true; 2],
        }
    }

    /// Both bricks have one line again.
    pub fn joined(&mut self) {
        self.own_line = [false; 2];
        for letter in self.letters.values_mut() {
            if letter.fate == Fate::Kept {
                letter.lines_of = [true; 2];
            }
        }
    }

    /// Somebody removes these (and is told so when `done`).
    pub fn removes(&mut self, ids: &[Id], done: bool) {
        for id in ids {
            if let Some(letter) = self.letters.get_mut(id) {
                letter.removal = if done { Removal::Done } else { Removal::Doubt };
            }
        }
    }

    /// Messages of a mailbox that a reader at this mount must see who begins to read now.
    #[must_use]
    pub fn due(&self, mailbox: &str, mount: usize) -> Vec<Id> {
        let due = |l: &Letter| l.mailbox == mailbox && self.is_due(l, mount);
        self.letters.iter().filter(|(_, l)| due(l)).map(|(id, _)| *id).collect()
    }

    /// A brick that is in the same line as the one that acknowledged must know it, or not serve.
    fn is_due(&self, letter: &Letter, mount: usize) -> bool {
        let known = |brick: usize| letter.lines_of[brick] || !self.own_line[brick];
        letter.fate == Fate::Kept && letter.removal == Removal::No && self.attached[mount].is_some_and(known)
    }

    /// Those of `due` that are missing in what was read and should not be: nobody removed them meanwhile, nor did the mount
    /// move to a brick with another line, nor were so many taken out (L12).
    #[must_use]
    pub fn missing(&self, due: &[Id], read: &[Id], mount: usize) -> Vec<Id> {
        let still = |id: &Id| self.letters.get(id).is_some_and(|l| self.is_due(l, mount));
        let lacks = due.iter().filter(|id| !read.contains(id) && still(id));
        let missing: Vec<Id> = lacks.copied().collect();
        let mailbox = missing.first().and_then(|id| self.letters.get(id)).map(|l| &l.mailbox);
        let taken_out = mailbox.and_then(|name| self.taken_out.get(name));
        if missing.len() <= taken_out.copied().unwrap_or(0) {
            return Vec::new();
        }
        missing
    }
}
