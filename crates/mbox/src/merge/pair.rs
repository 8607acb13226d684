//! Which messages survive, and which message of one side is which of the other.
//!
//! Identities are multisets: of c equal messages of the ancestor, of which one side has a and the other b,
//! min(a, b, c) + max(a - c, b - c, 0) survive; without ancestor max(a, b) (MAIL.md 6.5). Among equal messages those of
//! one UID belong together, then those of one place.
//!
//! Not here: their order and their UIDs.

use alloc::vec::Vec;

use crate::manifest::Entry;
use crate::plan::Side;

/// A message of the result: its places in the lists it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Item {
    pub(super) base: Option<usize>,
    pub(super) sides: [Option<usize>; 2],
}

impl Item {
    pub(super) fn at(&self, side: Side) -> Option<usize> {
        self.sides[side as usize]
    }
}

/// The messages to be compared.
pub(super) struct Lists<'a> {
    pub(super) base: Option<Vec<&'a Entry>>,
    /// 0 if it gave none.
    pub(super) base_uid_last: u32,
    /// Messages at the start of the ancestor whose UIDs Dovecot takes as they are.
    pub(super) base_settled: usize,
    pub(super) sides: [Vec<&'a Entry>; 2],
    /// Does a message that is missing on this side count as removed there? Not if the file is damaged (Rule 0).
    pub(super) whole: [bool; 2],
}

/// What is left, and what is known of the rest.
#[derive(Default)]
pub(super) struct Survivors {
    /// In the ancestor, in its order; without ancestor those on both sides, in the order of the left one.
    pub(super) common: Vec<Item>,
    /// The others, in no order.
    pub(super) added: Vec<Item>,
    /// Messages of each side that came since the ancestor. One that was edited by hand did not, though it is new.
    pub(super) new: [u64; 2],
    /// Messages of the ancestor which had no good UID there, and are on this side no more.
    pub(super) lost_unsettled: [u64; 2],
}

impl Survivors {
    pub(super) fn of(lists: &Lists<'_>) -> Self {
        let no_base = Vec::new();
        let entries = [
            lists.base.as_ref().unwrap_or(&no_base),
            &lists.sides[0],
            &lists.sides[1],
        ];
        let sorted = entries.map(|entries| by_identity(entries));
        let mut rest = [&sorted[0][..], &sorted[1], &sorted[2]];
        let mut this = Self::default();
        loop {
            let first = |list: usize| Some(entries[list][*rest[list].first()?].identity);
            let Some(identity) = (0..3).filter_map(first).min() else {
                break;
            };
            let mut group = [&[][..]; 3];
            for list in 0..3 {
                let same = |&&at: &&usize| entries[list][at].identity == identity;
                let len = rest[list].iter().take_while(same).count();
                (group[list], rest[list]) = rest[list].split_at(len);
            }
            match &lists.base {
                Some(base) => this.three_way(group, lists, base),
                None => this.two_way(group, lists),
            }
        }
        let place = |item: &Item| item.base.or(item.sides[0]);
        this.common.sort_unstable_by_key(place);
        this
    }

    fn three_way(&mut self, [c, a, b]: [&[usize]; 3], lists: &Lists<'_>, base: &[&Entry]) {
        let mut slots: Vec<Item> = c
            .iter()
            .map(|&at| Item {
                base: Some(at),
                sides: [None; 2],
            })
            .collect();
        let mut extra = [Vec::new(), Vec::new()];
        for (side, members) in [a, b].into_iter().enumerate() {
            let pairs = pairs(c, members, |at| base[at].uid, |at| lists.sides[side][at].uid);
            for (c_at, at) in pairs.both {
                let slot = slots.binary_search_by_key(&Some(c_at), |slot| slot.base);
                slots[slot.expect("each pair holds a member of c")].sides[side] = Some(at);
            }
            let came = |at: &&usize| lists.sides[side][**at].uid.is_none_or(|uid| uid > lists.base_uid_last);
            self.new[side] += pairs.right.iter().filter(came).count() as u64;
            self.lost_unsettled[side] += pairs.left.iter().filter(|&&at| at >= lists.base_settled).count() as u64;
            extra[side] = pairs.right;
        }
        let mut halves = [Vec::new(), Vec::new()];
        for slot in slots {
            match slot.sides {
                [Some(_), Some(_)] => self.common.push(slot),
                [Some(_), None] => halves[0].push(slot),
                [None, Some(_)] => halves[1].push(slot),
                [None, None] => {}
            }
        }
        // Each side removed one, but not the same one: equal messages are as good as each other.
        let [left, right] = &halves;
        let matched = left.len().min(right.len());
        self.common.extend(left.iter().zip(right).map(|(left, right)| Item {
            base: left.base,
            sides: [left.sides[0], right.sides[1]],
        }));
        for (side, halves) in halves.iter().enumerate() {
            if !lists.whole[1 - side] {
                self.common.extend(halves.iter().skip(matched));
            }
        }
        let [a, b] = extra;
        self.added_on_both(&a, &b, lists);
    }

    fn two_way(&mut self, [_, a, b]: [&[usize]; 3], lists: &Lists<'_>) {
        let pairs = side_pairs(a, b, lists);
        self.common
            .extend(pairs.both.into_iter().map(|(a, b)| of_sides(Some(a), Some(b))));
        self.alone(&pairs.left, &pairs.right);
    }

    fn added_on_both(&mut self, a: &[usize], b: &[usize], lists: &Lists<'_>) {
        let pairs = side_pairs(a, b, lists);
        self.added
            .extend(pairs.both.into_iter().map(|(a, b)| of_sides(Some(a), Some(b))));
        self.alone(&pairs.left, &pairs.right);
    }

    fn alone(&mut self, left: &[usize], right: &[usize]) {
        self.added.extend(left.iter().map(|&at| of_sides(Some(at), None)));
        self.added.extend(right.iter().map(|&at| of_sides(None, Some(at))));
    }
}

fn of_sides(left: Option<usize>, right: Option<usize>) -> Item {
    Item {
        base: None,
        sides: [left, right],
    }
}

/// Places in `entries`, by identity and then by place.
fn by_identity(entries: &[&Entry]) -> Vec<usize> {
    // Most are told apart by eight bytes, which are at hand; the rest of an identity is far away in memory.
    let first = |entry: &Entry| {
        entry
            .identity
            .0
            .first_chunk()
            .map_or(0, |first| u64::from_be_bytes(*first))
    };
    let mut sorted: Vec<(u64, usize)> = entries
        .iter()
        .enumerate()
        .map(|(at, entry)| (first(entry), at))
        .collect();
    sorted.sort_unstable_by(|one, other| {
        let rest = || (entries[one.1].identity, one.1).cmp(&(entries[other.1].identity, other.1));
        one.0.cmp(&other.0).then_with(rest)
    });
    sorted.into_iter().map(|(_, at)| at).collect()
}

/// Members of two lists, each in one pair or in none.
struct Pairs {
    both: Vec<(usize, usize)>,
    left: Vec<usize>,
    right: Vec<usize>,
}

fn side_pairs(a: &[usize], b: &[usize], lists: &Lists<'_>) -> Pairs {
    pairs(a, b, |at| lists.sides[0][at].uid, |at| lists.sides[1][at].uid)
}

/// Pairs the members of two ascending lists: first those of equal UIDs and those of none, then in order as long as there
/// are two.
fn pairs(
    left: &[usize],
    right: &[usize],
    left_uid: impl Fn(usize) -> Option<u32>,
    right_uid: impl Fn(usize) -> Option<u32>,
) -> Pairs {
    let mut found = Pairs {
        both: Vec::new(),
        left: Vec::new(),
        right: Vec::new(),
    };
    if let ([left], [right]) = (left, right) {
        found.both.push((*left, *right)); // Nearly all of them.
        return found;
    }
    let by_uid = |list: &[usize], uid: &dyn Fn(usize) -> Option<u32>| {
        let mut sorted: Vec<(Option<u32>, usize)> = list.iter().map(|&at| (uid(at), at)).collect();
        sorted.sort_unstable();
        sorted
    };
    let (a, b) = (by_uid(left, &left_uid), by_uid(right, &right_uid));
    let (mut i, mut j) = (0, 0);
    while let (Some(&(a_uid, a_at)), Some(&(b_uid, b_at))) = (a.get(i), b.get(j)) {
        if a_uid == b_uid {
            found.both.push((a_at, b_at));
            (i, j) = (i + 1, j + 1);
        } else if a_uid < b_uid {
            found.left.push(a_at);
            i += 1;
        } else {
            found.right.push(b_at);
            j += 1;
        }
    }
    found.left.extend(a.iter().skip(i).map(|&(_, at)| at));
    found.right.extend(b.iter().skip(j).map(|&(_, at)| at));
    found.left.sort_unstable();
    found.right.sort_unstable();
    let matched = found.left.len().min(found.right.len());
    found
        .both
        .extend(found.left.drain(..matched).zip(found.right.drain(..matched)));
    found
}
