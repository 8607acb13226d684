//! What the history of the volume is told of a record: which file it changed, and on whose behalf.
//!
//! Promises: a record that changed nothing has no note; locks, temporary files and Dovecot's indexes have none either.
//! Not here: what became of messages (`store::history`).

use crate::{brick::Brick, state::Outcome};
use alloc::{format, string::String};
use mboxfs_mbox::files::{self, Rule};
use mboxfs_types::{
    BrickId, Ino, Name,
    admin::Quarantined,
    call::Op,
    disk::Effect,
    history::{Act, Note, Who},
    record::{Body, Record},
};

impl Brick {
    /// Of a record that was executed; `was`: the version before of what it commits to. None: nothing that a mailbox's history
    /// has to tell.
    pub(crate) fn note(&self, record: &Record, was: Option<(Ino, u64)>, outcome: &Outcome) -> Option<Note> {
        let done = outcome.reply.as_ref().is_some_and(|(_, result)| result.is_ok());
        if !done || outcome.effects.is_empty() {
            return None;
        }
        let (who, (ino, path, act)) = match &record.body {
            Body::Op { id, op, .. } => {
                let brick = self.state.sessions.get(&id.session)?.brick;
                (Who::Host(self.host_of(brick)), self.noted(op, outcome)?)
            }
            Body::Merge { ops, .. } => (Who::Merge, ops.iter().find_map(|op| self.noted(op, outcome))?),
            Body::Quarantine { .. } => (Who::Quarantine, self.taken_out(was?)?),
            _ => return None,
        };
        Some(Note {
            n: record.tag.n,
            time: record.time,
            who,
            ino,
            path,
            act,
        })
    }

    /// The last step of a quarantine is about the mailbox; what is left of the messages has its name and version in its own.
    fn taken_out(&self, (ino, version): (Ino, u64)) -> Option<(Ino, String, Act)> {
        let path = self.path_text(ino)?;
        let Quarantined { messages, kept, .. } = self.quarantined_from(&path, version)?;
        Some((ino, path, Act::Quarantined { messages, kept }))
    }

    /// The host of a brick, as the volume names it: a mount attaches to the brick of its own host first.
    fn host_of(&self, brick: BrickId) -> String {
        let address = self.bricks.get(usize::from(brick.index())).map_or("", String::as_str);
        address.rsplit_once(':').map_or(address, |(host, _)| host).into()
    }

    fn noted(&self, op: &Op, outcome: &Outcome) -> Option<(Ino, String, Act)> {
        match op {
            Op::Commit { ino, .. } => {
                let (_, name) = self.state.inode(*ino).ok()?.home.as_ref()?;
                is_mail(name).then_some(())?;
                Some((*ino, self.path_text(*ino)?, Act::Content { was: outcome.was }))
            }
            Op::Create { dir, name, .. } | Op::Link { dir, name, .. } => {
                Some((made(outcome)?, self.named(*dir, name)?, Act::Named))
            }
            Op::Unlink { dir, name } => Some((unlinked(outcome)?, self.named(*dir, name)?, Act::Unnamed)),
            Op::Rename {
                dir,
                name,
                to_dir,
                to_name,
                ..
            } => {
                let to = self.named(*to_dir, to_name)?;
                // A lock or a new mailbox on its way has a name of its own.
                let from = format!("{}/{name}", self.path_text(*dir)?);
                Some((made(outcome)?, from, Act::Renamed { to }))
            }
            _ => None,
        }
    }

    /// The path of a name that may be a mailbox's.
    fn named(&self, dir: Ino, name: &Name) -> Option<String> {
        is_mail(name).then_some(())?;
        Some(format!("{}/{name}", self.path_text(dir)?))
    }
}

fn is_mail(name: &Name) -> bool {
    files::rule(name.as_bytes()) == Rule::Content
}

/// The file that has a new name.
fn made(outcome: &Outcome) -> Option<Ino> {
    outcome.effects.iter().find_map(|effect| match effect {
        Effect::Make { ino, kind, .. } => (*kind == mboxfs_types::Kind::File).then_some(*ino),
        Effect::Link { ino, .. } => Some(*ino),
        _ => None,
    })
}

fn unlinked(outcome: &Outcome) -> Option<Ino> {
    outcome.effects.iter().find_map(|effect| match effect {
        Effect::Unlink { ino, .. } => Some(*ino),
        _ => None,
    })
}
