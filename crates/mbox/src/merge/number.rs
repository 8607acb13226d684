//! UIDs: which messages keep theirs, in which order all stand, and what the others get (MAIL.md 6.7, 6.8).
//!
//! U1  A UID never names another message than the one that a client of either side may know by it. What a side's Dovecot
//!     has told its clients is not all in the file, so `Told::high` is a bound of it.
//! U2  UIDs ascend in the file, and a message that is new to a side has a UID above all that this side knew.
//!
//! Not here: how they are written (`write`).

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::pair::{Item, Lists, Survivors};
use crate::manifest::{Entry, Manifest, Numbering};
use crate::plan::Side;

/// Above this no UID is given out: then the mailbox gets a new UIDVALIDITY and its UIDs start again from 1.
const UID_MAX: u64 = u32::MAX as u64 - (1 << 16);

/// What a side knows of its UIDs.
pub(super) struct Party<'a> {
    pub(super) numbering: Option<&'a Numbering>,
    /// Some program read the mailbox since the ancestor.
    pub(super) observed: bool,
    /// Messages that came since the ancestor and are there no more.
    pub(super) gone: u64,
}

/// What a side's Dovecot may have told its clients under the UIDVALIDITY of the result.
struct Told {
    /// X-UIDs above this are forged (MAIL.md 5.3). None: those of the file do not count at all, its X-IMAPbase is gone.
    trusted_to: Option<u32>,
    last: u64,
    /// U1. No client of this side knows a UID above it.
    high: u64,
    /// UIDs in its file, ascending.
    used: Vec<u32>,
    /// Place of the first message to which Dovecot gives a new UID when it reads the file.
    unsettled_from: usize,
    /// That and the following messages are the only ones to have got new UIDs.
    foreseeable: bool,
}

/// Messages of the ancestor that had no good UID in it.
struct Unsettled {
    all: u64,
    /// Of these, those that the side has no more.
    there_no_more: u64,
}

impl Told {
    fn new(validity: u32, entries: &[&Entry], party: &Party<'_>, base: Option<&Numbering>, lost: Unsettled) -> Self {
        let same = |numbering: &&Numbering| numbering.uid_validity == validity;
        let own = party.numbering.filter(same);
        let base = base.filter(same);
        // With another UIDVALIDITY its clients start anew, and nothing that they know counts.
        // Without X-IMAPbase, because a mail reader removed the message that carried it, the index still knows.
        let uses = own.is_some() || (party.numbering.is_none() && base.is_some());
        let trusted_to = own.map(|own| own.uid_last);
        let last = u64::from(own.or(base).map_or(0, |numbering| numbering.uid_last));
        let unsettled_from = settled(entries, trusted_to);
        let unsettled = (entries.len() - unsettled_from) as u64;
        let known = last.max(base.map_or(0, |base| base.uid_last.into()));
        let gone = party.gone.saturating_add(lost.there_no_more);
        let mut used: Vec<u32> = entries.iter().filter_map(|entry| trusted(entry, trusted_to)).collect();
        used.sort_unstable();
        Self {
            trusted_to,
            used,
            last: known,
            high: match (uses, party.observed) {
                (false, _) => 0,
                // What was told before the ancestor was frozen need not be in it.
                (true, false) => known + base.map_or(0, |_| lost.all),
                (true, true) => (known + unsettled).saturating_add(gone),
            },
            unsettled_from,
            foreseeable: uses && gone == 0,
        }
    }

    fn uid(&self, entry: &Entry) -> Option<u32> {
        trusted(entry, self.trusted_to)
    }

    /// What Dovecot gives to the message at this place, or gave without writing it down, if that can be foreseen.
    fn gives(&self, at: usize) -> Option<u32> {
        let nth = at.checked_sub(self.unsettled_from).filter(|_| self.foreseeable)?;
        u32::try_from(self.last + 1 + nth as u64).ok()
    }
}

/// How many messages from the first one on have UIDs that Dovecot takes as they are. It gives new ones to all others.
pub(super) fn settled(entries: &[&Entry], trusted_to: Option<u32>) -> usize {
    let mut previous = 0;
    let ascends = |entry: &&&Entry| {
        let uid = trusted(entry, trusted_to).filter(|&uid| uid > previous);
        previous = uid.unwrap_or(u32::MAX);
        uid.is_some()
    };
    entries.iter().take_while(ascends).count()
}

fn trusted(entry: &Entry, to: Option<u32>) -> Option<u32> {
    entry.uid.filter(|&uid| to.is_some_and(|to| uid <= to))
}

/// The messages of the result in order, with their UIDs.
pub(super) struct Numbered {
    /// None: UIDs are none of this mailbox's business, and all those below are 0.
    pub(super) numbering: Option<Numbering>,
    pub(super) items: Vec<(Item, u32)>,
}

pub(super) fn number(
    survivors: Survivors,
    lists: &Lists<'_>,
    parties: &[Party<'_>; 2],
    base: Option<&Manifest>,
    now_seconds: u32,
    time: impl Fn(&Item) -> i64,
) -> Numbered {
    let base_numbering = base.and_then(|base| base.numbering.as_ref());
    let sides = parties.iter().filter_map(|party| party.numbering);
    let validity = sides.map(|numbering| numbering.uid_validity).max();
    let Some(validity) = validity.or(base_numbering.map(|base| base.uid_validity)) else {
        let items = survivors.common.into_iter().chain(by_time(survivors.added, time));
        return Numbered {
            numbering: None,
            items: items.map(|item| (item, 0)).collect(),
        };
    };
    let unsettled = lists.base.as_ref().map_or(0, |base| base.len() - lists.base_settled) as u64;
    let told = [0, 1].map(|side| {
        let lost = Unsettled {
            all: unsettled,
            there_no_more: survivors.lost_unsettled[side],
        };
        Told::new(validity, &lists.sides[side], &parties[side], base_numbering, lost)
    });
    let base_uid = |item: &Item| {
        let base_last = base_numbering.filter(|base| base.uid_validity == validity)?.uid_last;
        trusted(lists.base.as_ref()?[item.base?], Some(base_last))
    };
    let kept = |item: &Item| kept(item, parties, &told, lists, base_uid(item));
    let (mut items, unnumbered) = keep_ascending(survivors, kept, time);
    let high = told[0].high.max(told[1].high);
    let fresh = unnumbered.len() as u64;
    items.extend(unnumbered.into_iter().map(|item| (item, 0)));
    let mut numbering = Numbering {
        uid_validity: validity,
        uid_last: 0,
        keywords: keywords(parties),
    };
    let highest = items.iter().map(|&(_, uid)| u64::from(uid)).fold(high, u64::max);
    let mut last = highest;
    if high > UID_MAX || last.saturating_add(fresh) > u32::MAX.into() {
        items.iter_mut().for_each(|(_, uid)| *uid = 0);
        numbering.uid_validity = next_validity(validity.max(now_seconds), now_seconds);
        last = 0;
    }
    for (_, uid) in items.iter_mut().filter(|(_, uid)| *uid == 0) {
        last += 1;
        *uid = u32::try_from(last).expect("the bounds were checked above");
    }
    numbering.uid_last = u32::try_from(last).expect("the bounds were checked above");
    Numbered {
        numbering: Some(numbering),
        items,
    }
}

/// A greater one (RFC 3501, 2.3.1.1). After the greatest there is none, and any other is better than the same.
fn next_validity(above: u32, now_seconds: u32) -> u32 {
    above.checked_add(1).unwrap_or(now_seconds.wrapping_sub(1).max(1))
}

/// The UID that a message may keep, if any.
fn kept(
    item: &Item,
    parties: &[Party<'_>; 2],
    told: &[Told; 2],
    lists: &Lists<'_>,
    base_uid: Option<u32>,
) -> Option<u32> {
    let uid = |side: usize| told[side].uid(lists.sides[side][item.sides[side]?]);
    let (side, uid) = match (uid(0), uid(1)) {
        (Some(left), Some(right)) => return (left == right).then_some(left),
        (Some(uid), None) => (0, uid),
        (None, Some(uid)) => (1, uid),
        // Its own side's clients may know it, without a word of that in the file, and nobody has read the other side.
        (None, None) if item.base.is_none() => match (item.sides, [parties[0].observed, parties[1].observed]) {
            ([Some(at), None], [true, false]) => (0, told[0].gives(at)?),
            ([None, Some(at)], [false, true]) => (1, told[1].gives(at)?),
            _ => return None,
        },
        (None, None) => return None,
    };
    // The other side knows the message by this UID, or knows nothing by it.
    let other = &told[1 - side];
    let foreseen = item.sides[1 - side].is_some_and(|at| other.gives(at) == Some(uid));
    // Unless it gave it to another one: an edit by hand leaves the X-UID, and the edited message has it now.
    let known = item.base.is_some() && base_uid == Some(uid) && other.used.binary_search(&uid).is_err();
    (known || foreseen || u64::from(uid) > other.high).then_some(uid)
}

/// The messages that keep their UIDs, in the order of the result; and behind them all others.
fn keep_ascending(
    survivors: Survivors,
    kept: impl Fn(&Item) -> Option<u32>,
    time: impl Fn(&Item) -> i64,
) -> (Vec<(Item, u32)>, Vec<Item>) {
    let mut items = Vec::with_capacity(survivors.common.len() + survivors.added.len());
    let mut fresh = Vec::new();
    let mut fresh_added = Vec::new();
    let mut last = 0;
    for item in survivors.common {
        match kept(&item).filter(|&uid| uid > last) {
            Some(uid) => {
                last = uid;
                items.push((item, uid));
            }
            None => fresh.push(item),
        }
    }
    let mut added: Vec<(Option<u32>, Item)> = survivors.added.into_iter().map(|item| (kept(&item), item)).collect();
    added.sort_by_key(|&(uid, item)| (uid, item.sides));
    for (uid, item) in added {
        match uid.filter(|&uid| uid > last) {
            Some(uid) => {
                last = uid;
                items.push((item, uid));
            }
            None => fresh_added.push(item),
        }
    }
    fresh.extend(by_time(fresh_added, time));
    (items, fresh)
}

/// Both sides' messages merged by the time of their From_ lines. Each side's order stays, even where time runs backwards
/// in it; of two messages of one time the left one is first.
fn by_time(items: Vec<Item>, time: impl Fn(&Item) -> i64) -> Vec<Item> {
    let (mut left, mut right): (Vec<Item>, Vec<Item>) =
        items.into_iter().partition(|item| item.at(Side::Left).is_some());
    left.sort_unstable_by_key(|item| item.at(Side::Left));
    right.sort_unstable_by_key(|item| item.at(Side::Right));
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(one), Some(other)) = (left.peek(), right.peek()) {
        let next = if time(one) <= time(other) {
            left.next()
        } else {
            right.next()
        };
        merged.extend(next);
    }
    merged.extend(left.chain(right));
    merged
}

/// All that may be used, in the order of the left side, then of the right one.
fn keywords(parties: &[Party<'_>; 2]) -> Vec<Box<[u8]>> {
    let all = parties
        .iter()
        .filter_map(|party| party.numbering)
        .flat_map(|numbering| &numbering.keywords);
    let mut keywords = Vec::new();
    add_keywords(&mut keywords, all);
    keywords
}

/// Appends those that are not there yet.
pub(super) fn add_keywords<'a>(keywords: &mut Vec<Box<[u8]>>, more: impl Iterator<Item = &'a Box<[u8]>>) {
    let mut seen: alloc::collections::BTreeSet<Box<[u8]>> = keywords.iter().cloned().collect();
    keywords.extend(more.filter(|&keyword| seen.insert(keyword.clone())).cloned());
}
