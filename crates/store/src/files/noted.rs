//! What the history is told of the effects that are applied: before each is done.
//!
//! Promises: Y1 of `history`, Y2 but for messages that are damaged. One record's messages are written before its other entries, so that a record which is in the
//! history is there with all that it removed.
//!
//! Not here: what a write comes to (`history::diff`).

use super::Files;
use crate::{
    at_rest::is_damage,
    history::diff::{self, Change, Found},
};
use mboxfs_types::{
    Errno, Ino,
    call::Extent,
    history::{Act, Did, Entry, Note, Who},
};
use rustix::io::Errno as Sys;
use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::{FileExt, MetadataExt},
};

impl Files {
    pub(super) fn begin_note(&mut self, note: &Note) {
        self.is_known = self.history.has(note.n);
        self.note = Some(note.clone()).filter(|_| !self.is_known);
    }

    /// The record's effects are done.
    pub(super) fn end_note(&mut self) -> io::Result<()> {
        let Some(note) = self.note.take() else { return Ok(()) };
        let did = match note.act {
            Act::Content { .. } => return Ok(()),
            Act::Named => Did::Named,
            Act::Unnamed => Did::Unnamed,
            Act::Renamed { to } => Did::Renamed { to },
            Act::Quarantined { messages, kept } => Did::Quarantined { messages, kept },
        };
        let mut entry = Entry {
            n: note.n,
            time: note.time,
            who: note.who,
            ino: note.ino,
            path: note.path,
            did,
        };
        self.history.write(&mut entry, false, &mut |_, _| Ok(()))
    }

    /// None: it is not there, or no plain file.
    fn to_note(&self, ino: Ino) -> io::Result<Option<File>> {
        match self.open_to_read(ino) {
            Ok(file) => Ok(Some(file.into())),
            Err(Sys::NOENT | Sys::LOOP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn note_write(&mut self, ino: Ino, cut: u64, extents: &[Extent], size: u64) -> io::Result<()> {
        let of_it = |note: &Note| note.ino == ino && matches!(note.act, Act::Content { .. });
        let Some(note) = self.note.clone().filter(of_it) else {
            return Ok(());
        };
        let Act::Content { was } = note.act else { return Ok(()) };
        let Some(file) = self.to_note(ino)? else { return Ok(()) };
        // Over a file of the future (Y1) it may be shorter than it was: what it lost was noted.
        let change = Change {
            file: &file,
            was: was.min(file.metadata()?.len()),
            cut,
            extents,
            size,
        };
        let mut found = known(change.examine())?;
        self.leave_out_damaged((ino, &file), Some(note.n), &mut found)?;
        let Found {
            added,
            added_count,
            removed,
            ranges,
            changed,
            moves,
        } = found;
        let mut entry = Entry {
            n: note.n,
            time: note.time,
            who: note.who,
            ino,
            path: note.path,
            did: Did::Content {
                before: was,
                after: size,
                added,
                added_count,
                removed,
                changed,
            },
        };
        self.history
            .write(&mut entry, moves, &mut |at, buf| read(&file, &ranges, at, buf))?;
        self.note = None;
        Ok(())
    }

    pub(super) fn note_free(&mut self, ino: Ino) -> io::Result<()> {
        // Without a note it is late: that is told again in a replay, which does no harm.
        let (n, time, who) = match &self.note {
            Some(note) => (note.n, note.time, note.who.clone()),
            None if self.is_known => return Ok(()),
            None => {
                let (n, time) = self.history.last();
                (n, time, Who::Late)
            }
        };
        let Some(file) = self.to_note(ino)? else { return Ok(()) };
        let stat = file.metadata()?;
        if !stat.is_file() {
            return Ok(());
        }
        let mut found = known(diff::whole(&file, stat.len()))?;
        self.leave_out_damaged((ino, &file), self.note.as_ref().map(|note| note.n), &mut found)?;
        let Found { removed, ranges, .. } = found;
        if removed.is_empty() {
            return Ok(());
        }
        let path = match &self.note {
            Some(note) if note.ino == ino => note.path.clone(),
            _ => self.history.unnamed(ino),
        };
        let owner = (stat.uid(), stat.gid(), stat.mode() & 0o7777);
        let mut entry = Entry {
            n,
            time,
            who,
            ino,
            path,
            did: Did::Freed { owner, removed },
        };
        self.history
            .write(&mut entry, true, &mut |at, buf| read(&file, &ranges, at, buf))
    }

    /// Damaged messages are not kept as if they were good (law L12): who wants them back would get wrong bytes.
    fn leave_out_damaged(&self, file: (Ino, &File), n: Option<u64>, found: &mut Found) -> io::Result<()> {
        let mut sound = Vec::with_capacity(found.ranges.len());
        for range in &found.ranges {
            sound.push(self.at_rest.is_sound(file, n, *range)?);
        }
        let mut one = sound.iter();
        found.ranges.retain(|_| one.next() != Some(&false));
        let mut one = sound.iter();
        found.removed.retain(|_| one.next() != Some(&false));
        Ok(())
    }

    /// Which messages the file at a path from the root holds now (`mbox::identity`); none if there is no such file.
    ///
    /// Errors: as [`super::Content::index`].
    pub fn messages_at(&self, path: &str) -> Result<Option<super::Content>, Errno> {
        let mut dir = None;
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            let at = dir.as_ref().unwrap_or(&*self.root);
            if names.peek().is_none() {
                return super::content::at(at, name);
            }
            dir = match crate::medium::open_dir(at, name) {
                Ok(fd) => Some(fd),
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(_) => return Err(Errno::ESTALE),
            };
        }
        Ok(None)
    }
}

/// A sector that cannot be read must not keep the record from being done: then nothing is known of the messages.
fn known(found: io::Result<Found>) -> io::Result<Found> {
    match found {
        Err(error) if is_damage(&error) => Ok(Found::default()),
        found => found,
    }
}

/// Bytes of the messages at `ranges`, one after the other.
fn read(file: &File, ranges: &[(u64, u64)], mut at: u64, mut buf: &mut [u8]) -> io::Result<()> {
    for (from, to) in ranges {
        let len = to - from;
        if at >= len {
            at -= len;
            continue;
        }
        let part = usize::try_from(len - at).unwrap_or(usize::MAX).min(buf.len());
        let (now, later) = buf.split_at_mut(part);
        file.read_exact_at(now, from + at)?;
        (buf, at) = (later, 0);
        if buf.is_empty() {
            break;
        }
    }
    Ok(())
}
