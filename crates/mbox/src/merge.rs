//! The three-way merge of two copies of a mailbox that went different ways (MAIL.md section 6).
//!
//! M1  Nothing is lost: a message that one side has and the ancestor has not is in the result, once. Nothing comes back:
//!     what the ancestor has and one side removed is not (L8).
//! M2  Deterministic: the plan is a function of the manifest and the two indexes, whoever computes it. Swapping the sides
//!     changes no message, only the order of messages of one second and the bytes that are copied from the left side
//!     where both would do.
//! M3  UIDs name what they named on either side, or nothing (`number`, U1).
//! M4  Fast paths come first. F1: equal files stay. F2, F3: of a side that says what the ancestor said the other side's
//!     file is taken, byte for byte. There is no F4 (two tails behind the ancestor's bytes): the general path copies the
//!     ancestor's bytes too, and does not double a message that reached both tails.
//!
//! Decided here, where MAIL.md section 9 leaves it open: in its case 3 the messages that may keep their UIDs keep them,
//! though others that came earlier are then listed behind them. A changed UID costs each IMAP client a download, and each
//! POP3 client that leaves mail on the server a second copy of the mail in its inbox, for good; the order costs nobody
//! anything, since mail readers sort by date.
//!
//! Where this is stricter than MAIL.md 6.7, each for M3:
//! - an X-UID above the last UID of its own X-IMAPbase does not count. Dovecot gives such a message a new UID (MAIL.md
//!   5.3), and a sender who writes `X-UID: 4294967295` could otherwise have every mailbox of the volume renumbered;
//! - the bound of what a Dovecot may have told its clients counts all messages from the first one on whose X-UID it does
//!   not accept, as Dovecot renumbers them all, and messages of the ancestor that had no good one and are gone;
//! - a message that has a UID on one side only keeps it only if the other side cannot know that UID as another message.
//!   As a rule it does keep it, as both Dovecots give the next UIDs to the same messages in the same order;
//! - if no side has an X-IMAPbase any more, the ancestor's counts: the Dovecots still have it in their indexes.
//!
//! And wider in one point: if nobody has read one side, messages of the other one keep the UIDs that its Dovecot has given
//! and not written down, as far as they can be foreseen.
//!
//! Not here: what is no mailbox (`files`), and the installing of the result.

pub mod expunge;
mod number;
mod pair;
mod write;

use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;

use self::number::{Numbered, Party, add_keywords, number};
use self::pair::{Item, Lists, Survivors};
use self::write::{Original, Segments, Wanted, merge_keywords};
use crate::header::Letters;
use crate::index::{Index, Message};
use crate::manifest::{Entry, Manifest, Numbering};
use crate::plan::{How, Plan, Side};

/// One side, as far as a merge has to know it. Only what was committed counts.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// None: the mailbox was removed, and that is on record.
    pub index: Option<&'a Index>,
    /// Rule 0. False for a brick that is new, restored or has no record of what it did: that it lacks something says
    /// nothing, and the other side is copied.
    pub votes: bool,
    /// Some program opened the mailbox for reading since the ancestor, so that its Dovecot may know new UIDs. True if
    /// that is not known.
    pub observed: bool,
    /// Messages ever appended since the ancestor, gone or not. 0 counts those that are still there only.
    pub appended: u64,
    /// The last message is a torn append: `suspects` named it, and its bytes are the beginning of the other message.
    pub torn: bool,
}

impl<'a> Input<'a> {
    /// A side that votes, of which nothing else is known.
    #[must_use]
    pub fn new(index: Option<&'a Index>) -> Self {
        Self {
            index,
            votes: true,
            observed: true,
            appended: 0,
            torn: false,
        }
    }
}

/// Neither side is a mailbox, so there are no messages to be merged; `files::later` decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotMbox;

impl fmt::Display for NotMbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("neither side begins as a mailbox does")
    }
}

impl core::error::Error for NotMbox {}

/// A message that may be the beginning of another one, by what the indexes say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The side whose last message it is.
    pub side: Side,
    /// Where it is.
    pub torn: Range<u64>,
    /// Where the other side's file has the bytes that it may be equal to; as many.
    pub whole: Range<u64>,
}

/// Suspects of one side at most.
pub const SUSPECTS_MAX: usize = 8;

/// Last messages that may be torn appends: what a mailer wrote before it died, while the whole message came to the other
/// side. Nearly always none.
///
/// Compare the bytes; if those of one suspect are equal, set `torn` of its side for `plan`. Who does not ask keeps the
/// fragments as messages of their own: they cost no mail.
#[must_use]
pub fn suspects(base: Option<&Manifest>, left: &Index, right: &Index) -> Vec<Suspect> {
    let mut found = Vec::new();
    for (side, own, other) in [(Side::Left, left, right), (Side::Right, right, left)] {
        let Some(last) = own.messages.last() else { continue };
        let known = |entry: &Entry| entry.identity == last.entry.identity;
        if base.is_some_and(|base| base.entries.iter().any(known)) || other.entries().any(known) {
            continue;
        }
        let torn = last.span();
        let len = torn.end - torn.from_offset;
        let may_be = |message: &&Message| {
            let span = message.span();
            let cut_in_headers = last.body_len == 0 && last.blank == 0;
            span.end - span.from_offset > len
                && (message.from_len, message.time_seconds) == (last.from_len, last.time_seconds)
                && (cut_in_headers || message.head == last.head)
        };
        found.extend(
            other
                .messages
                .iter()
                .filter(may_be)
                .take(SUSPECTS_MAX)
                .map(|message| Suspect {
                    side,
                    torn: torn.from_offset..torn.end,
                    whole: message.from_offset..message.from_offset + len,
                }),
        );
    }
    found
}

/// Merges. `base`: what both sides said when they last agreed; None if nobody knows, and then nothing is removed that one
/// side has. `now_seconds`: since 1970; only used if the UIDs run out and a new UIDVALIDITY is needed.
///
/// Costs O(n log n) in the number of messages, whatever their sizes.
///
/// Errors: `NotMbox`, if neither side begins with a message.
pub fn plan(base: Option<&Manifest>, left: &Input<'_>, right: &Input<'_>, now_seconds: u32) -> Result<Plan, NotMbox> {
    let sides = [*left, *right];
    if left.index == right.index {
        return Ok(take(&sides, Side::Left, How::Same));
    }
    let begins_with_junk = |side: &Input<'_>| side.index.is_some_and(|index| index.junk_len > 0);
    let is_readable = |side: &Input<'_>| side.index.is_some() && !begins_with_junk(side);
    if sides.iter().any(begins_with_junk) && !sides.iter().any(is_readable) {
        return Err(NotMbox);
    }
    // A file of nothing but junk is as good as none: that it lacks a message says nothing.
    let is_garbage = |side: &Input<'_>| {
        let index = side.index.filter(|index| index.junk_len > 0);
        index.is_some_and(|index| index.messages.is_empty())
    };
    let votes = sides.map(|side| side.votes && !is_garbage(&side));
    let says_base = |side: &Input<'_>| base.zip(side.index).is_some_and(|(base, index)| base.describes(index));
    let took = |side| take(&sides, side, How::Took(side));
    // Junk is never taken over: Dovecot would not open the mailbox.
    let [left_fit, right_fit] = [left, right].map(|side| !begins_with_junk(side));
    Ok(match votes {
        [true, false] if left_fit => took(Side::Left),
        [false, true] if right_fit => took(Side::Right),
        [true, true] if right_fit && says_base(left) => took(Side::Right),
        [true, true] if left_fit && says_base(right) => took(Side::Left),
        [true, true] => merge(base, &sides, now_seconds),
        // A side without memory has no ancestor to speak of.
        _ => merge(None, &sides, now_seconds),
    })
}

/// The file of one side as it is, in the other side's bytes as far as that has them.
fn take(sides: &[Input<'_>; 2], side: Side, how: How) -> Plan {
    let [own, other] = [side, side.other()].map(|side| sides[side as usize].index);
    let mut plan = Plan {
        how,
        exists: own.is_some(),
        segments: Vec::new(),
        junk: [0; 2],
        numbering: own.and_then(|index| index.numbering.clone()),
        entries: own.map_or(Vec::new(), |index| index.entries().cloned().collect()),
    };
    let Some(index) = own else { return plan };
    let mut segments = Segments::default();
    if how == How::Same {
        segments.copy([Some(0); 2], index.len);
        plan.segments = segments.into_vec();
        return plan;
    }
    let nothing = Index::default();
    let other = other.unwrap_or(&nothing);
    plan.junk[side.other() as usize] = other.junk_len;
    let lists = Lists {
        base: None,
        base_uid_last: 0,
        base_settled: 0,
        sides: [entries(index), entries(other)],
        whole: [true; 2],
    };
    let mut twins = alloc::vec![None; index.messages.len()];
    for item in Survivors::of(&lists).common {
        if let [Some(own), Some(twin)] = item.sides {
            twins[own] = other.messages.get(twin);
        }
    }
    segments.copy_from(side, 0..index.junk_len);
    let own = |message, carrier| Original {
        side,
        index,
        message,
        carrier,
    };
    if let Some(pseudo) = &index.pseudo {
        segments.verbatim(&own(pseudo, true), pseudo_twin(pseudo, other));
    }
    for (message, twin) in index.messages.iter().zip(twins) {
        segments.verbatim(&own(message, false), twin);
    }
    plan.segments = segments.into_vec();
    plan
}

fn pseudo_twin<'a>(pseudo: &Message, other: &'a Index) -> Option<&'a Message> {
    let same = |other: &&Message| other.entry.identity == pseudo.entry.identity;
    other.pseudo.as_ref().filter(same)
}

fn entries(index: &Index) -> Vec<&Entry> {
    index.entries().collect()
}

/// The general path.
fn merge(base: Option<&Manifest>, sides: &[Input<'_>; 2], now_seconds: u32) -> Plan {
    let nothing = Index::default();
    let indexes = [0, 1].map(|side| sides[side].index.unwrap_or(&nothing));
    let base_entries = base.map(|base| base.entries.iter().collect::<Vec<_>>());
    let base_uid_last = base.and_then(|base| base.numbering.as_ref()).map(|base| base.uid_last);
    let lists = Lists {
        base_settled: base_entries
            .as_ref()
            .map_or(0, |entries| number::settled(entries, base_uid_last)),
        base: base_entries,
        base_uid_last: base_uid_last.unwrap_or(0),
        sides: [0, 1].map(|side| {
            let mut entries = entries(indexes[side]);
            entries.truncate(entries.len() - usize::from(sides[side].torn && !entries.is_empty()));
            entries
        }),
        whole: indexes.map(|index| index.junk_len == 0),
    };
    let survivors = Survivors::of(&lists);
    let parties = [0, 1].map(|side| {
        let gone = sides[side].appended.saturating_sub(survivors.new[side]);
        Party {
            numbering: indexes[side].numbering.as_ref(),
            observed: sides[side].observed || base.is_none(),
            gone: (if base.is_some() { gone } else { 0 }).saturating_add(sides[side].torn.into()),
        }
    });
    let time = |item: &Item| {
        let message = |side: usize| indexes[side].messages.get(item.sides[side]?);
        message(0).or(message(1)).map_or(0, |message| message.time_seconds)
    };
    let Numbered { mut numbering, items } = number(survivors, &lists, &parties, base, now_seconds, time);
    let merged: Vec<Entry> = items
        .iter()
        .map(|&(item, uid)| merge_entry(&item, uid, &lists))
        .collect();
    if let Some(numbering) = &mut numbering {
        add_keywords(&mut numbering.keywords, merged.iter().flat_map(|entry| &entry.keywords));
    }
    let result = Writer {
        indexes,
        numbering: numbering.as_ref(),
    };
    let mut segments = Segments::default();
    for (at, ((item, _), entry)) in items.iter().zip(&merged).enumerate() {
        result.write(item, entry, at == 0, &mut segments);
    }
    if items.is_empty() && !result.write_pseudo(&mut segments) {
        numbering = None;
    }
    Plan {
        how: How::Merged,
        exists: true,
        segments: segments.into_vec(),
        junk: indexes.map(|index| index.junk_len),
        numbering,
        entries: merged,
    }
}

fn merge_entry(item: &Item, uid: u32, lists: &Lists<'_>) -> Entry {
    let of = |side: usize| item.sides[side].map(|at| lists.sides[side][at]);
    let base = lists.base.as_ref().zip(item.base).map(|(base, at)| base[at]);
    let (left, right) = match (of(0), of(1)) {
        (Some(left), Some(right)) => (left, right),
        (Some(only), None) | (None, Some(only)) => (only, only),
        (None, None) => unreachable!("an item is on one side at least"),
    };
    Entry {
        identity: left.identity,
        uid: Some(uid).filter(|&uid| uid > 0),
        status: Letters::merge(base.map(|base| base.status), left.status, right.status),
        x_status: Letters::merge(base.map(|base| base.x_status), left.x_status, right.x_status),
        keywords: merge_keywords(base, left, right),
    }
}

/// Writes messages of two sides under one numbering.
struct Writer<'a> {
    indexes: [&'a Index; 2],
    numbering: Option<&'a Numbering>,
}

impl Writer<'_> {
    fn original(&self, item: &Item, side: Side) -> Option<Original<'_>> {
        let index = self.indexes[side as usize];
        let at = item.at(side)?;
        Some(Original {
            side,
            index,
            message: index.messages.get(at)?,
            carrier: at == 0 && index.pseudo.is_none(),
        })
    }

    /// From the left side, unless only the right one says already what is wanted.
    fn write(&self, item: &Item, entry: &Entry, is_first: bool, segments: &mut Segments) {
        let wanted = Wanted {
            entry,
            numbering: self.numbering.filter(|_| is_first),
            numbered: self.numbering.is_some(),
        };
        match (self.original(item, Side::Left), self.original(item, Side::Right)) {
            (Some(left), Some(right)) if !left.is_all_right(&wanted) && right.is_all_right(&wanted) => {
                segments.message(&right, Some(left.message), &wanted);
            }
            (Some(left), Some(right)) => segments.message(&left, Some(right.message), &wanted),
            (Some(only), None) | (None, Some(only)) => segments.message(&only, None, &wanted),
            (None, None) => {}
        }
    }

    /// For a mailbox of no messages: a message that tells the last UID, if one side has such a one.
    fn write_pseudo(&self, segments: &mut Segments) -> bool {
        let of = |side: Side| Some((side, self.indexes[side as usize].pseudo.as_ref()?));
        let Some(((side, message), numbering)) = of(Side::Left).or(of(Side::Right)).zip(self.numbering) else {
            return false;
        };
        let index = self.indexes[side as usize];
        let twin = pseudo_twin(message, self.indexes[side.other() as usize]);
        segments.pseudo(
            &Original {
                side,
                index,
                message,
                carrier: true,
            },
            twin,
            numbering,
        );
        true
    }
}
