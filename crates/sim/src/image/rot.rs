//! Bytes that rot on the device.
//!
//! Promises: mail is ASCII, and what rotted is not: whoever sees such a byte has seen rot. Only what the device alone holds
//! rots, not what is still in memory and will be written over it; and only where the other brick has a good copy.
//! Not drawn: rot in a block that a crash leaves in doubt, which nobody can know (store C3); it is as it was then.

use super::{File, Image, PAGE};
use crate::rng::Rng;
use mboxfs_store::Change;
use mboxfs_types::{
    Ino,
    disk::{Effect, Seen},
    limits::SUM_BLOCK_BYTES as BLOCK,
};
use std::{collections::BTreeSet, ops::Range};

/// Bytes of a block, as far as the file reaches.
pub(super) fn block_of(data: &[u8], block: u64) -> &[u8] {
    let from = ((block * BLOCK) as usize).min(data.len());
    let to = (((block + 1) * BLOCK) as usize).min(data.len());
    &data[from..to]
}

/// Mail has no such bytes.
pub(crate) fn has_rot(bytes: &[u8]) -> bool {
    !bytes.is_ascii()
}

impl Image {
    /// A byte rots: where; none: there is none of which `other` has a good copy.
    pub fn rot(&mut self, other: &Self, rng: &mut Rng) -> Option<(Ino, u64)> {
        let mut may: Vec<(Ino, Range<usize>)> = Vec::new();
        for (ino, file) in &self.durable.files {
            let (Some(now), Some(there)) = (self.now.files.get(ino), other.now.files.get(ino)) else {
                continue;
            };
            for from in (0..file.data.len()).step_by(PAGE) {
                let page = from..(from + PAGE).min(file.data.len());
                let block = from as u64 / BLOCK;
                let (here, bytes) = (block_of(&now.data, block), block_of(&there.data, block));
                if here == bytes
                    && other.is_good((*ino, there), block)
                    && self.is_good((*ino, now), block)
                    && now.data.get(page.clone()) == Some(&file.data[page.clone()])
                    && !self.is_dirty(*ino, &page)
                {
                    may.push((*ino, page));
                }
            }
        }
        let (ino, page) = may.get(rng.below((may.len() as u64).max(1)) as usize)?.clone();
        let at = rng.between(page.start as u64, page.end as u64 - 1);
        let was = self.durable.files[&ino].data[at as usize];
        let flipped = was ^ (0x80 | rng.below(0x80) as u8);
        for tree in [&mut self.now, &mut self.durable] {
            if let Some(file) = tree.files.get_mut(&ino) {
                file.data[at as usize] = flipped;
            }
        }
        self.rotten.insert((ino, at), was);
        self.beside = None;
        Some((ino, at))
    }

    /// Beyond doubt. (Of a brick that is down nobody knows.)
    fn is_good(&self, (ino, file): (Ino, &File), block: u64) -> bool {
        let seen = self.at_rest.as_ref().map(|at_rest| at_rest.block((ino, file), block));
        matches!(seen, Some(Ok(Some(Seen::Data(_)))))
    }

    /// Memory has a newer one.
    fn is_dirty(&self, ino: Ino, page: &Range<usize>) -> bool {
        self.since.iter().any(|effect| match effect {
            Effect::Write {
                ino: i, cut, extents, ..
            } if *i == ino => {
                let written = |e: &mboxfs_types::call::Extent| {
                    let (from, to) = (e.offset as usize, e.offset as usize + e.data.len());
                    from < page.end && page.start < to
                };
                usize::try_from(*cut).is_ok_and(|cut| cut < page.end) || extents.iter().any(written)
            }
            Effect::Revert { ino: i, .. } | Effect::Repair { ino: i, .. } => *i == ino,
            _ => false,
        })
    }

    /// Something has rotted, at some time.
    #[must_use]
    pub fn has_rotted(&self) -> bool {
        !self.rotten.is_empty()
    }

    /// It is open, and every file is what it should be, beyond doubt.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.at_rest.is_some() && !self.rots() && self.damage() == <_>::default()
    }

    /// Is anything rotten here, but for what is left of damaged messages?
    #[must_use]
    pub fn rots(&self) -> bool {
        let names = self.now.names.iter();
        let left = names.filter(|((_, name), _)| name.to_string().contains(".damaged-"));
        let left: BTreeSet<&Ino> = left.map(|(_, ino)| ino).collect();
        let files = self.now.files.iter();
        files
            .filter(|(ino, _)| !left.contains(ino))
            .any(|(_, file)| has_rot(&file.data))
    }

    /// See "not drawn". `change`: by a record that may have been in the file before.
    pub(super) fn forget_what_is_in_doubt(&mut self, ino: Ino, change: &Change<'_>) {
        let Some(file) = self.now.files.get_mut(&ino) else {
            return;
        };
        let extents = change.extents.iter().map(|(at, bytes)| (*at, at + bytes.len() as u64));
        let edges = [change.cut, change.size].map(|edge| (edge, edge.saturating_add(1)));
        for (from, to) in extents.chain(edges) {
            let blocks = (ino, from / BLOCK * BLOCK)..(ino, to.div_ceil(BLOCK).saturating_mul(BLOCK));
            for ((_, at), was) in self.rotten.range(blocks) {
                if let Some(byte) = file.data.get_mut(*at as usize).filter(|byte| !byte.is_ascii()) {
                    *byte = *was;
                }
            }
        }
    }
}
