//! Lock tables: byte-range locks of one inode, as fcntl(2) defines them.
//!
//! K1  Locks of different owners in a table never conflict (L5).
//! K2  A new lock of an owner replaces what it had on those bytes; what is left on both sides stays.
//!
//! Pure functions on a list. Not here: who may change a table (W lease, `recall`), waiting (`lock_calls`).

use alloc::vec::Vec;
use mboxfs_types::{HeldLock, LockKind, Owner, Range};

/// The first lock in the way of `owner` taking `kind` on `range`.
pub(crate) fn conflict(table: &[HeldLock], owner: Owner, range: Range, kind: LockKind) -> Option<HeldLock> {
    table.iter().copied().find(|l| l.conflicts(owner, range, kind))
}

/// `owner` has nothing on `range` any more. True if it had something.
pub(crate) fn clear(table: &mut Vec<HeldLock>, owner: Owner, range: Range) -> bool {
    let mut rest = Vec::new();
    let mut hit = false;
    table.retain(|lock| {
        if lock.owner != owner || !lock.range.overlaps(range) {
            return true;
        }
        hit = true;
        if lock.range.start < range.start {
            rest.push(HeldLock {
                range: Range {
                    start: lock.range.start,
                    end: range.start - 1,
                },
                ..*lock
            });
        }
        if lock.range.end > range.end {
            rest.push(HeldLock {
                range: Range {
                    start: range.end + 1,
                    end: lock.range.end,
                },
                ..*lock
            });
        }
        false
    });
    table.extend(rest);
    hit
}

/// Takes the lock; the caller has checked for conflicts (K1).
pub(crate) fn set(table: &mut Vec<HeldLock>, lock: HeldLock) {
    debug_assert!(conflict(table, lock.owner, lock.range, lock.kind).is_none(), "K1");
    clear(table, lock.owner, lock.range); // K2
    table.push(lock);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::SessionId;
    use proptest::prelude::*;

    fn owner(id: u64) -> Owner {
        Owner {
            session: SessionId {
                client: [0; 16],
                nonce: 0,
            },
            id,
        }
    }

    proptest! {
        /// K1, K2 against a byte-by-byte model: for each byte who has it how.
        #[test]
        fn a_table_is_a_map_of_bytes(steps in prop::collection::vec((0u64..3, 0u64..20, 0u64..20, 0u8..3), 1..60)) {
            let mut table = Vec::new();
            let mut model = [[None::<LockKind>; 40]; 3];
            for (who, start, len, what) in steps {
                let range = Range { start, end: start + len };
                let bytes = start as usize..=(start + len) as usize;
                let kind = [None, Some(LockKind::Shared), Some(LockKind::Exclusive)][what as usize];
                let Some(kind) = kind else {
                    clear(&mut table, owner(who), range);
                    for b in bytes { model[who as usize][b] = None; }
                    continue;
                };
                let blocked = (0..3u64).filter(|o| *o != who).any(|o| bytes.clone().any(|b| match model[o as usize][b] {
                    Some(LockKind::Exclusive) => true,
                    Some(LockKind::Shared) => kind == LockKind::Exclusive,
                    None => false,
                }));
                prop_assert_eq!(conflict(&table, owner(who), range, kind).is_some(), blocked);
                if !blocked {
                    set(&mut table, HeldLock { owner: owner(who), range, kind, pid: 1 });
                    for b in bytes { model[who as usize][b] = Some(kind); }
                }
            }
            for who in 0..3u64 {
                for b in 0..40u64 {
                    let at = Range { start: b, end: b };
                    let held = table.iter().find(|l| l.owner == owner(who) && l.range.overlaps(at)).map(|l| l.kind);
                    prop_assert_eq!(held, model[who as usize][b as usize]);
                }
            }
        }
    }
}
