//! Commit of what a lock session has staged: one request, or several for a large one (L6).
//!
//! X1  While a commit is under way nothing is added to it: writers wait, readers see it.
//! X2  The pieces of a large one are sent before it and count only with it; if one is refused nothing is committed.
//! X3  A refused commit is told to the one who waits for it. ENOSPC leaves the staged bytes, so that the writer can undo
//!     its append by ftruncate; ESTALE drops them, and the handles that wrote are dead.
//!
//! Not here: when (`file_calls`, `lock_calls`, `recall`).

use crate::{calls::Wait, client::Client, link::For, output::Output};
use alloc::{collections::BTreeSet, vec::Vec};
use mboxfs_types::{
    Attr, Errno, Ino,
    call::{Extent, Op},
    limits,
};

/// A commit under way.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Committing {
    /// Pieces without a reply.
    pieces: BTreeSet<u64>,
    /// Sent when all pieces are there.
    commit: Option<Op>,
    failed: Option<Errno>,
}

impl Client {
    /// A former daemon sent this commit; its reply is awaited.
    pub(crate) fn resume_commit(&mut self, ino: Ino) -> For {
        let node = self.node(ino);
        if node.staging.is_none() {
            return For::Nobody;
        }
        node.committing = Some(Committing {
            pieces: BTreeSet::new(),
            commit: None,
            failed: None,
        });
        For::Commit(ino)
    }

    /// Begins to commit what is staged for `ino`. False if there is nothing to wait for.
    pub(crate) fn start_commit(&mut self, ino: Ino, out: &mut Vec<Output>) -> bool {
        let Some(node) = self.nodes.get_mut(&ino) else {
            return false;
        };
        if node.committing.is_some() {
            return true;
        }
        let Some(staging) = &node.staging else { return false };
        if staging.is_clean() {
            node.staging = None;
            self.keep_staged(ino);
            self.changed(ino); // an append that was undone: its times are too
            return false;
        }
        let (cut, extents) = staging.changes();
        let (size, mtime, atime) = (staging.size, staging.mtime, staging.atime);
        let total: usize = extents.iter().map(weight).sum();
        let mut committing = Committing {
            pieces: BTreeSet::new(),
            commit: None,
            failed: None,
        };
        if total <= limits::RECORD_BYTES_MAX {
            node.committing = Some(committing);
            self.request(
                Op::Commit {
                    ino,
                    staged: false,
                    cut,
                    extents,
                    size,
                    mtime,
                    atime,
                },
                For::Commit(ino),
                out,
            );
            return true;
        }
        committing.commit = Some(Op::Commit {
            ino,
            staged: true,
            cut,
            extents: Vec::new(),
            size,
            mtime,
            atime,
        });
        for (i, extents) in pieces(extents).into_iter().enumerate() {
            let seq = self.request(
                Op::Stage {
                    ino,
                    first: i == 0,
                    extents,
                },
                For::Piece(ino),
                out,
            );
            committing.pieces.insert(seq);
        }
        self.node(ino).committing = Some(committing);
        true
    }

    /// X2.
    pub(crate) fn on_piece(&mut self, ino: Ino, seq: u64, result: Result<(), Errno>, out: &mut Vec<Output>) {
        let Some(c) = self.nodes.get_mut(&ino).and_then(|n| n.committing.as_mut()) else {
            return;
        };
        c.pieces.remove(&seq);
        c.failed = c.failed.or(result.err());
        if !c.pieces.is_empty() {
            return;
        }
        match (c.failed, c.commit.take()) {
            (Some(errno), _) => self.on_committed(ino, Err(errno)),
            (None, Some(op)) => {
                self.request(op, For::Commit(ino), out);
            }
            (None, None) => {}
        }
    }

    pub(crate) fn on_committed(&mut self, ino: Ino, result: Result<Vec<Attr>, Errno>) {
        let Some(node) = self.nodes.get_mut(&ino) else { return };
        node.committing = None;
        let result = match result {
            Ok(attrs) => {
                if let Some(staging) = node.staging.take() {
                    let (cut, extents) = staging.changes();
                    for e in &extents {
                        self.cache.drop_range(ino, e.offset, e.offset + e.data.len() as u64);
                    }
                    let old = self.nodes.get(&ino).and_then(|n| n.attr).map_or(0, |a| a.size);
                    self.cache.drop_range(ino, cut.min(old).min(staging.size), u64::MAX);
                    self.keep_staged(ino);
                }
                self.absorb(&attrs);
                Ok(())
            }
            Err(Errno::ESTALE) => {
                self.drop_staging(ino);
                Err(Errno::ESTALE)
            }
            Err(errno) => {
                // Somebody else waits for the lease, and nobody here is left to undo: the bytes cannot be kept.
                if !self.calls.values().any(|p| p.wait == Wait::Commit(ino)) {
                    self.drop_staging(ino);
                }
                Err(errno)
            }
        };
        for p in self.calls.values_mut().filter(|p| p.wait == Wait::Commit(ino)) {
            p.committed = Some(result);
        }
        self.wake(|w| *w == Wait::Commit(ino));
    }

    /// What was written is gone; those who wrote it are told at their next call.
    pub(crate) fn drop_staging(&mut self, ino: Ino) {
        let Some(staging) = self.nodes.get_mut(&ino).and_then(|n| n.staging.take()) else {
            return;
        };
        self.changed(ino);
        self.keep_staged(ino);
        for fh in staging.writers {
            if let Some(handle) = self.handles.get_mut(&fh) {
                (handle.dead, handle.lost) = (true, true);
                self.keep_handle(fh);
            }
        }
    }
}

/// What an extent takes of a record.
fn weight(extent: &Extent) -> usize {
    extent.data.len() + limits::EXTENT_HEAD_BYTES
}

/// Groups extents into records of at most `RECORD_BYTES_MAX`.
fn pieces(extents: Vec<Extent>) -> Vec<Vec<Extent>> {
    let mut all: Vec<Vec<Extent>> = Vec::new();
    let mut bytes = usize::MAX;
    for extent in extents {
        if bytes.saturating_add(weight(&extent)) > limits::RECORD_BYTES_MAX {
            all.push(Vec::new());
            bytes = 0;
        }
        bytes += weight(&extent);
        if let Some(last) = all.last_mut() {
            last.push(extent);
        }
    }
    all
}
