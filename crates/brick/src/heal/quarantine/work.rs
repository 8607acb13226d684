//! What is to be written when damaged messages are taken out of a mailbox: pure.
//!
//! Promises: Q4; of the bad blocks no byte stays in its place, so that each block has a checksum again.
//! Not here: doing it (`quarantine`), which messages are left (`mbox::merge::expunge`).

use super::{
    super::{
        decide::{name_of, with_suffix},
        gather::{From, Piece, Take},
    },
    MARK, Quarantine, SLASH,
};
use alloc::{collections::BTreeMap, format, string::String, vec, vec::Vec};
use bytes::Bytes;
use core::ops::Range;
use mboxfs_mbox::{
    merge::expunge::Expunged,
    plan::{Segment, Side},
};
use mboxfs_types::{BrickId, Ino, Name, Timestamp, limits::SUM_BLOCK_BYTES as BLOCK};

/// Bytes that are equal between two stretches that are not: what rots together lies together.
const GAP_MAX: usize = 16;

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Work {
    /// What each brick has of the damaged messages.
    pub(super) copies: Vec<Copy>,
    /// What becomes of the mailbox.
    pub(super) rest: Take,
    pub(super) messages: u64,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Copy {
    pub(super) name: Name,
    pub(super) pieces: Vec<Piece>,
    pub(super) size: u64,
}

impl Quarantine {
    /// Q4
    pub(super) fn doubtful(&self) -> Vec<Range<u64>> {
        let of = |block: &u64| {
            let start = block * BLOCK;
            let copies = self.ours.get(block).zip(self.theirs.get(block));
            let place = self.places.get(block);
            let stretches = copies.map_or_else(Vec::new, |(ours, theirs)| stretches(ours, theirs, place));
            stretches.into_iter().map(move |s| start + s.start..start + s.end)
        };
        self.blocks.iter().flat_map(of).collect()
    }

    /// `path` of the mailbox; `me`: which brick this is.
    pub(super) fn work(&self, expunged: &Expunged, (path, me): (&str, BrickId), mtime: Timestamp) -> Work {
        let messages = expunged.messages;
        let first = self.blocks.first().map_or(0, |block| block * BLOCK);
        // What is in front of both stays in place; the rest is written, so that no block keeps a byte of the bad ones.
        let cut = expunged.gone.first().map_or(first, |gone| gone.start.min(first));
        let mut rest = Pieces::new(&self.ours, self.ino);
        for segment in &expunged.left {
            match (segment, segment.offset_in(Side::Left)) {
                (Segment::Bytes(bytes), _) => rest.bytes(bytes.clone().into()),
                (_, Some(offset)) => rest.copy(offset..offset + segment.len(), cut),
                (_, None) => {}
            }
        }
        let name = |brick: &str| kept_name(path, messages, self.version, brick);
        let copy = |brick: &str, blocks: &BTreeMap<u64, Bytes>| {
            let mut pieces = Pieces::new(blocks, self.ino);
            for gone in &expunged.gone {
                pieces.copy(gone.clone(), 0);
            }
            Copy {
                name: name(brick),
                size: pieces.at,
                pieces: pieces.all,
            }
        };
        let copies = if self.ours == self.theirs {
            vec![copy("Bricks", &self.ours)]
        } else {
            let (ours, theirs) = (copy(&label(me), &self.ours), copy(&label(me.other()), &self.theirs));
            vec![ours, theirs]
        };
        Work {
            copies,
            rest: Take {
                into: self.ino,
                expect: self.version,
                cut,
                size: rest.at,
                mtime,
                pieces: rest.all,
                version: None,
            },
            messages,
        }
    }
}

/// Q6: of the file in `.mboxfs-conflict` that keeps damaged messages of a mailbox.
pub(in crate::heal) fn kept_name(path: &str, messages: u64, version: u64, brick: &str) -> Name {
    let path = path.trim_start_matches('/').replace('/', SLASH);
    with_suffix(
        &name_of(path.as_bytes()),
        &format!("{MARK}{messages}.{version}.{brick}"),
    )
}

/// As a name of such a file says it.
pub(in crate::heal) fn label(brick: BrickId) -> String {
    format!("Brick{}", brick.index() + 1)
}

impl Work {
    /// Bytes that are written in one go, at most.
    pub(super) fn moves(&self) -> u64 {
        let of = |pieces: &[Piece]| pieces.iter().map(|p| p.len).sum::<u64>();
        let copies = self.copies.iter().map(|copy| of(&copy.pieces));
        copies.chain([of(&self.rest.pieces)]).max().unwrap_or(0)
    }
}

/// Content made of parts of a file with bad blocks.
struct Pieces<'a> {
    /// These are taken from memory.
    blocks: &'a BTreeMap<u64, Bytes>,
    ino: Ino,
    at: u64,
    all: Vec<Piece>,
}

impl<'a> Pieces<'a> {
    const fn new(blocks: &'a BTreeMap<u64, Bytes>, ino: Ino) -> Self {
        Self {
            blocks,
            ino,
            at: 0,
            all: Vec::new(),
        }
    }

    fn bytes(&mut self, bytes: Bytes) {
        let len = bytes.len() as u64;
        self.put(0, len, From::Bytes(bytes));
    }

    /// A part of the file. What lies below `from` is in its place.
    fn copy(&mut self, range: Range<u64>, from: u64) {
        let skip = from.saturating_sub(self.at).min(range.end - range.start);
        self.at += skip;
        let mut offset = range.start + skip;
        while offset < range.end {
            let block = offset / BLOCK;
            let Some(bytes) = self.blocks.get(&block) else {
                let bad = self
                    .blocks
                    .range(block..)
                    .next()
                    .map_or(range.end, |(bad, _)| bad * BLOCK);
                let len = bad.min(range.end) - offset;
                self.put(offset, len, From::Ours(self.ino));
                offset += len;
                continue;
            };
            let start = usize::try_from(offset % BLOCK).unwrap_or(usize::MAX).min(bytes.len());
            let len = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
            let part = bytes.slice(start..start.saturating_add(len).min(bytes.len()));
            if part.is_empty() {
                return; // beyond the end of the file
            }
            offset += part.len() as u64;
            self.bytes(part);
        }
    }

    fn put(&mut self, offset: u64, len: u64, from: From) {
        if len > 0 {
            let at = self.at;
            self.all.push(Piece { at, offset, len, from });
            self.at += len;
        }
    }
}

/// Where two copies of a block differ; if they do not, the place where the damage is, or all of it. Within the block.
fn stretches(ours: &[u8], theirs: &[u8], place: Option<&Range<usize>>) -> Vec<Range<u64>> {
    let len = ours.len().max(theirs.len());
    let mut all: Vec<Range<usize>> = Vec::new();
    for at in (0..len).filter(|at| ours.get(*at) != theirs.get(*at)) {
        match all.last_mut() {
            Some(last) if at - last.end <= GAP_MAX => last.end = at + 1,
            _ => all.push(at..at + 1),
        }
    }
    if all.is_empty() {
        all.push(place.cloned().unwrap_or(0..len));
    }
    all.into_iter().map(|s| s.start as u64..s.end as u64).collect()
}
