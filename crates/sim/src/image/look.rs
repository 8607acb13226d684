//! What may be known of files: looks and scrubs, through the checksums.
//!
//! Promises: as `store::Files` answers; bytes that do not fit are not given out.
//! Not here: the checksums (`store`).

use super::Image;
use bytes::Bytes;
use mboxfs_mbox::index::Index;
use mboxfs_store::AtRest;
use mboxfs_types::{
    Errno, Ino, codec,
    disk::{AtFork, Look, Seen, Xattrs},
    limits::{self, SUM_BLOCK_BYTES as BLOCK},
};
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    io,
};

/// File and block.
type Blocks = Vec<(Ino, u64)>;

impl Image {
    /// The answer to a look.
    ///
    /// # Errors
    /// As `store::Files`.
    pub fn look(&mut self, look: &Look) -> Result<Seen, Errno> {
        let seen = self.answer(look);
        if let Some(beside) = &mut self.beside {
            beside.look(look, &seen);
        }
        seen
    }

    fn answer(&self, look: &Look) -> Result<Seen, Errno> {
        let at_rest = self.at_rest.as_ref().ok_or(Errno::ESTALE)?;
        let file = |ino: &Ino| self.now.files.get(ino).ok_or(Errno::ESTALE);
        let seen = |seen: io::Result<Option<Seen>>| seen.map_err(|_| Errno::ESTALE)?.ok_or(Errno::ESTALE);
        match look {
            Look::Copy {
                ino,
                base: base @ Some(_),
                offset,
                len,
            } => Ok(match self.at_fork(at_rest, *ino, *base)? {
                Ok(data) => {
                    let end = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(data.len());
                    let (from, to) = (end(*offset), end(*offset + u64::from(*len)));
                    Seen::Data(Bytes::copy_from_slice(&data[from..to]))
                }
                Err(bad) => Seen::Rotten(bad),
            }),
            Look::Read { ino, offset, len } | Look::Copy { ino, offset, len, .. } => {
                seen(at_rest.read((*ino, file(ino)?), *offset, *len))
            }
            Look::Digests { ino, offset, len } => {
                let len = u32::try_from(*len).unwrap_or(u32::MAX);
                match seen(at_rest.read((*ino, file(ino)?), *offset, len))? {
                    Seen::Data(bytes) => Ok(Seen::Data(bytes.chunks(limits::BLOCK_BYTES).flat_map(digest).collect())),
                    other => Ok(other),
                }
            }
            Look::Block { ino, block, .. } => seen(at_rest.block((*ino, file(ino)?), *block)),
            Look::Raw { ino, block } => seen(at_rest.raw((*ino, file(ino)?), *block)),
            Look::RawIndex { ino } => {
                let index = Index::read(file(ino)?.data.as_slice()).map_err(|_| Errno::ESTALE)?;
                Ok(Seen::Data(index.encode().into()))
            }
            Look::Sums { ino, first, count } => at_rest.sums_of(*ino, *first, *count),
            Look::Xattrs { inos } => {
                let of = |ino: &Ino| self.now.files.get(ino).map(|f| f.xattrs.clone().into_iter().collect());
                let all: Xattrs = inos.iter().map(|ino| (*ino, of(ino).unwrap_or_default())).collect();
                Ok(Seen::Data(codec::encode(&all).into()))
            }
            Look::Index { ino, base } => match self.at_fork(at_rest, *ino, *base)? {
                Ok(data) => {
                    let index = Index::read(data.as_slice()).map_err(|_| Errno::ESTALE)?;
                    Ok(Seen::Data(index.encode().into()))
                }
                Err(bad) => Ok(Seen::Rotten(bad)),
            },
            Look::GetXattr { ino, name } => {
                let value = file(ino)?.xattrs.get(name).ok_or(Errno::ENODATA)?;
                Ok(Seen::Data(Bytes::copy_from_slice(value)))
            }
            Look::ListXattr { ino } => Ok(Seen::Names(file(ino)?.xattrs.keys().cloned().collect())),
        }
    }

    /// A file as it is or was, or the blocks in the way. What was kept for a fork has checksums of its own; the rest has to fit.
    fn at_fork(
        &self,
        at_rest: &AtRest<impl mboxfs_store::Medium>,
        ino: Ino,
        base: Option<AtFork>,
    ) -> Result<Result<Vec<u8>, Vec<u64>>, Errno> {
        let file = self.now.files.get(&ino).ok_or(Errno::ESTALE)?;
        let mut data = file.data.clone();
        let kept = base.and_then(|base| self.kept.get(&(base.fork, ino)));
        let size = base.map_or(data.len() as u64, |base| base.size);
        for block in 0..size.div_ceil(BLOCK) {
            let end = size.min((block + 1) * BLOCK);
            let needed = (block * BLOCK..end).any(|at| kept.is_none_or(|kept| !kept.contains_key(&at)));
            let bad = at_rest.suspects((ino, file), block, 1).map_err(|_| Errno::ESTALE)?;
            if needed && !bad.is_empty() {
                return Ok(Err(bad));
            }
        }
        data.resize(usize::try_from(size).map_err(|_| Errno::EFBIG)?, 0);
        for (at, byte) in kept.into_iter().flatten() {
            if let Some(old) = usize::try_from(*at).ok().and_then(|at| data.get_mut(at)) {
                *old = *byte;
            }
        }
        Ok(Ok(data))
    }

    /// Blocks of a file that do not fit.
    ///
    /// # Errors
    /// As the store's.
    pub fn scrub(&self, ino: Ino, first: u64, count: u64) -> io::Result<Vec<u64>> {
        let suspects = match (&self.at_rest, self.now.files.get(&ino)) {
            (Some(at_rest), Some(file)) => at_rest.suspects((ino, file), first, count)?,
            _ => Vec::new(),
        };
        if let Some(beside) = &self.beside {
            beside.scrub((ino, first, count), &suspects);
        }
        Ok(suspects)
    }

    /// What is known to be bad, and what is in doubt.
    #[must_use]
    pub fn damage(&self) -> (Blocks, Blocks) {
        self.at_rest.as_ref().map(AtRest::damage).unwrap_or_default()
    }
}

/// As long as a real one, and good enough for a world without malice.
fn digest(block: &[u8]) -> Vec<u8> {
    let mut hasher = DefaultHasher::new();
    block.hash(&mut hasher);
    let mut digest = vec![0; limits::DIGEST_BYTES];
    digest[..8].copy_from_slice(&hasher.finish().to_le_bytes());
    digest
}
