//! Looking back: questions to the history, answered by another thread while it is written to.
//!
//! Promises: what was written before the look is in it, unless it is let go meanwhile; bytes of messages are checked
//! before they are given out (law L12).
//!
//! Not here: writing (`history`).

use super::{
    History, Segment,
    frame::{self, Frame, Kind},
};
use crate::medium::{DirMedium, Medium};
use mboxfs_types::{
    Ino, Timestamp, codec,
    history::{Did, Entry, PAGE_BYTES_MAX, Page, Place, Question},
};
use std::{
    collections::BTreeSet,
    fmt,
    io::{self, ErrorKind},
    sync::atomic::{AtomicBool, Ordering},
};

/// The history as it was at one moment.
pub struct Past<M: Medium = DirMedium> {
    medium: M,
    segments: Vec<Segment>,
}

impl<M: Medium> fmt::Debug for Past<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Past")
            .field("segments", &self.segments.len())
            .finish_non_exhaustive()
    }
}

impl<M: Medium> History<M> {
    /// For another thread.
    pub(crate) fn past(&self) -> Past<M> {
        Past {
            medium: self.medium.clone(),
            segments: self.segments.iter().copied().collect(),
        }
    }
}

impl<M: Medium> Past<M> {
    /// A page of what was asked for. `there`: what the file holds now, of which nothing is said to be gone. Gives up soon
    /// after `stop` is set.
    ///
    /// Errors: the medium's; `Interrupted`.
    pub fn page(&self, question: &Question, there: &[[u8; 32]], stop: &AtomicBool) -> io::Result<Page> {
        let there: BTreeSet<&[u8; 32]> = there.iter().collect();
        let begins = self.segments.first().map(|s| Timestamp {
            secs: s.start,
            nanos: 0,
        });
        let mut page = Page {
            begins,
            ..Page::default()
        };
        let mut inodes = BTreeSet::new();
        let mut bytes = 0;
        for (i, segment) in self.segments.iter().enumerate() {
            // Everything in it is older than the start of the next one.
            let is_old = self
                .segments
                .get(i + 1)
                .is_some_and(|next| next.start < question.since.secs);
            if segment.number < question.from.segment || is_old {
                continue;
            }
            let number = segment.number;
            self.walk(segment, stop, |mut entry, size, offset| {
                let place = Place {
                    segment: number,
                    offset,
                };
                if bytes > PAGE_BYTES_MAX {
                    page.next = Some(place);
                    return false;
                }
                let asked = is_asked_for(&entry, question, &mut inodes) && entry.time >= question.since;
                if !asked || place < question.from {
                    return true;
                }
                if question.gone {
                    keep_gone(&mut entry, &there);
                    if entry.did.removed().is_empty() {
                        return true;
                    }
                }
                bytes += size;
                page.entries.push(entry);
                true
            })?;
            if page.next.is_some() {
                break;
            }
        }
        Ok(page)
    }

    /// Calls `each` with the entries of a segment, their sizes and offsets, as long as it says so. A segment that was let
    /// go meanwhile has none.
    fn walk(
        &self,
        segment: &Segment,
        stop: &AtomicBool,
        mut each: impl FnMut(Entry, usize, u64) -> bool,
    ) -> io::Result<()> {
        let file = match self.medium.open(&segment.path()) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let (mut at, mut chain) = (0, frame::seed(segment.number));
        while let Some(frame) = Frame::read(&self.medium, &file, segment.bytes, at, chain)? {
            if stop.load(Ordering::Relaxed) {
                return Err(ErrorKind::Interrupted.into());
            }
            (at, chain) = (frame.end(), frame.chain);
            if frame.kind == Kind::Entry
                && let Some(body) = frame.body(&self.medium, &file)?
                && let Ok(entry) = codec::decode(&body)
                && !each(entry, body.len(), frame.at)
            {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Up to `max` bytes of a kept message of `len` bytes, from `skip` on.
    ///
    /// Errors: `NotFound` if it was let go, `InvalidData` if it is damaged; the medium's.
    pub fn message(&self, place: Place, len: u64, skip: u64, max: u32) -> io::Result<Vec<u8>> {
        let segment = self
            .segments
            .iter()
            .find(|s| s.number == place.segment)
            .ok_or(ErrorKind::NotFound)?;
        let file = self.medium.open(&segment.path())?;
        let (mut at, mut done) = (place.offset, 0);
        let mut found = Vec::new();
        while done < len && found.len() < max as usize {
            let frame = Frame::anywhere(&self.medium, &file, segment.bytes, at)?.ok_or(ErrorKind::InvalidData)?;
            at = frame.end();
            if done + u64::from(frame.len) > skip {
                let body = frame.body(&self.medium, &file)?.ok_or(ErrorKind::InvalidData)?;
                let from = usize::try_from(skip.saturating_sub(done)).map_err(io::Error::other)?;
                found.extend_from_slice(&body[from..]);
            }
            done += u64::from(frame.len);
        }
        found.truncate(max as usize);
        Ok(found)
    }
}

fn is_asked_for(entry: &Entry, question: &Question, inodes: &mut BTreeSet<Ino>) -> bool {
    if let Some(path) = &question.path {
        let renamed = matches!(&entry.did, Did::Renamed { to } if to == path);
        let named = entry.path == *path || renamed;
        if named {
            inodes.insert(entry.ino);
        }
        // What has no name any more was that file once.
        let late = entry.path.is_empty() && inodes.contains(&entry.ino);
        if !named && !late {
            return false;
        }
    }
    let Some(id) = &question.id else { return true };
    let added = matches!(&entry.did, Did::Content { added, .. } if added.contains(id));
    added || entry.did.removed().iter().any(|gone| gone.id == *id)
}

/// What the file holds again, or still, is not gone.
fn keep_gone(entry: &mut Entry, there: &BTreeSet<&[u8; 32]>) {
    if let Did::Content { removed, .. } | Did::Freed { removed, .. } = &mut entry.did {
        removed.retain(|gone| !there.contains(&gone.identity));
    }
}
