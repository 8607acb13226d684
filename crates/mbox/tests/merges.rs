//! The promises of MAIL.md 6.10, tried on random histories of two sides.
//!
//! A history is lived by a mailbox together with a Dovecot that reads it now and then, tells its client UIDs, and writes
//! them into the mailbox at once, later or never (MAIL.md 3.8, 5.3). The merge sees the mailbox only.

#[path = "common/notation.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod notation;

use std::collections::{BTreeMap, BTreeSet};

use mboxfs_mbox::identity::Identity;
use mboxfs_mbox::index::Index;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{Input, plan};
use mboxfs_mbox::plan::{How, Plan, Side};
use notation::{Mail, Mbox, carry_out, index};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const NOW: u32 = 1_700_000_000;

/// What may happen to a mailbox. Numbers choose a message, by remainder.
#[derive(Clone, Debug)]
enum Op {
    Append(u8, u8),
    Expunge(u8),
    Flag(u8, char),
    Keyword(u8, u8),
    Edit(u8),
    /// A mail reader writes the messages in another order.
    Swap(u8, u8),
    /// Somebody reads; Dovecot keeps the new UIDs in its index.
    Observe,
    /// And writes them.
    Number,
    /// A mail reader empties the file.
    Empty,
    /// The last message has no final newline.
    Cut,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..24_u8, 0..60_u8).prop_map(|(name, time)| Op::Append(name, time)),
        4 => any::<u8>().prop_map(Op::Expunge),
        3 => (any::<u8>(), prop::sample::select(vec!['R', 'O', 'A', 'F', 'T', 'D'])).prop_map(|(at, c)| Op::Flag(at, c)),
        2 => (any::<u8>(), 0..4_u8).prop_map(|(at, word)| Op::Keyword(at, word)),
        1 => any::<u8>().prop_map(Op::Edit),
        1 => (any::<u8>(), any::<u8>()).prop_map(|(i, j)| Op::Swap(i, j)),
        3 => Just(Op::Observe),
        3 => Just(Op::Number),
        1 => Just(Op::Empty),
        1 => Just(Op::Cut),
    ]
}

/// A mailbox, and what the client of its Dovecot knows.
#[derive(Clone, Debug, Default)]
struct Node {
    mbox: Mbox,
    /// UIDs that Dovecot has in its index only, in the order of the mailbox.
    hidden: Vec<Option<u32>>,
    next: u32,
    /// What its Dovecot has in the index; `invents` is what it takes where there is none.
    validity: Option<u32>,
    invents: u32,
    known: BTreeMap<u32, Identity>,
    edited: BTreeSet<String>,
    swapped: bool,
    observed: bool,
    appended: u64,
}

impl Node {
    fn live(&mut self, ops: &[Op]) {
        for op in ops {
            self.step(op);
        }
    }

    fn step(&mut self, op: &Op) {
        // What Dovecot made of messages that changed places cannot be seen any more once they are gone.
        let renumbered = |(mail, hidden): (&Mail, &Option<u32>)| {
            mail.uid.is_some() && hidden.is_some_and(|uid| mail.uid != Some(uid))
        };
        if matches!(op, Op::Expunge(_) | Op::Empty) && self.mbox.mails.iter().zip(&self.hidden).any(renumbered) {
            self.step(&Op::Number);
        }
        let len = self.mbox.mails.len();
        let at = |number: &u8| usize::from(*number) % len.max(1);
        match op {
            // A mail that somebody edited in place does not come again: two messages of one UID, one after the other.
            Op::Append(name, _) if self.edited.contains(&name_of(*name, 0)[..2]) => {}
            Op::Append(name, time) => {
                if let Some(last) = self.mbox.mails.last_mut() {
                    last.name = last.name.replace('!', ""); // Whoever appends ends the line first.
                }
                self.mbox.mails.push(Mail {
                    name: name_of(*name, *time),
                    ..Mail::default()
                });
                self.hidden.push(None);
                self.appended += 1;
            }
            Op::Number => {
                self.observe();
                self.write();
            }
            Op::Observe => self.observe(),
            _ if len == 0 => {}
            Op::Expunge(number) => {
                self.mbox.mails.remove(at(number));
                self.hidden.remove(at(number));
                self.observed = true;
            }
            Op::Flag(number, letter) => {
                let flags = &mut self.mbox.mails[at(number)].flags;
                match flags.find(*letter) {
                    Some(place) => drop(flags.remove(place)),
                    None => flags.push(*letter),
                }
            }
            Op::Keyword(number, word) => {
                let word = format!("k{word}");
                let keywords = &mut self.mbox.mails[at(number)].keywords;
                match keywords.iter().position(|keyword| *keyword == word) {
                    Some(place) => drop(keywords.remove(place)),
                    None => keywords.push(word.clone()),
                }
                if self.mbox.numbers.is_some() && !self.mbox.keywords.contains(&word) {
                    self.mbox.keywords.push(word);
                }
            }
            // Dovecot knows messages by their headers, so an edited body keeps its UID, and its clients do not notice.
            // Nor is one edited that is there twice.
            Op::Edit(number) if self.copies(at(number)) > 1 => {}
            Op::Edit(number) => {
                let name = &mut self.mbox.mails[at(number)].name;
                if name.starts_with('n') && !name.contains('\'') {
                    self.edited.insert(name[..2].to_owned());
                    name.insert(2, '\'');
                    let uid = self.hidden[at(number)].or(self.mbox.mails[at(number)].uid).unwrap_or(0);
                    let edited = index(&self.mbox.render())
                        .entries()
                        .nth(at(number))
                        .map(|entry| entry.identity);
                    self.known
                        .entry(uid)
                        .and_modify(|known| *known = edited.expect("it is there"));
                }
            }
            // Who knows what a Dovecot makes of messages that change places before it has written their UIDs.
            Op::Swap(..) if self.mbox.mails.iter().any(|mail| mail.uid.is_none()) => {}
            Op::Swap(i, j) => {
                self.mbox.mails.swap(at(i), at(j));
                self.hidden.swap(at(i), at(j));
                self.swapped = true;
                self.observed = true;
            }
            // What UIDs a Dovecot gave anew and wrote is gone with the file, and no brick has counted that.
            Op::Empty if self.swapped => {}
            Op::Empty => {
                self.mbox.mails.clear();
                self.hidden.clear();
                self.mbox.numbers = None;
                self.mbox.keywords.clear();
                self.observed = true;
            }
            Op::Cut if self.mbox.mails[len - 1].name.contains("inner") => {}
            Op::Cut => self.mbox.mails[len - 1].name += "!",
        }
        // Dovecot leaves a pseudo message, and takes it away when it rewrites what came behind.
        self.mbox.pseudo &= self.mbox.numbers.is_some() && !matches!(op, Op::Number);
        self.mbox.pseudo |= self.mbox.numbers.is_some() && self.mbox.mails.is_empty();
        let last = self.mbox.mails.len().saturating_sub(1);
        for mail in &mut self.mbox.mails[..last] {
            mail.name = mail.name.replace('!', "");
        }
    }

    fn copies(&self, at: usize) -> usize {
        let name = &self.mbox.mails[at].name[..2];
        self.mbox
            .mails
            .iter()
            .filter(|mail| mail.name.starts_with(name))
            .count()
    }

    /// MAIL.md 5.3: from the first message on whose X-UID is missing or bad, all get new UIDs, unless the index has them.
    fn observe(&mut self) {
        self.observed = true;
        let Some((validity, last)) = self.mbox.numbers else {
            return;
        };
        self.validity = Some(validity);
        self.next = self.next.max(last + 1);
        let identities: Vec<Identity> = index(&self.mbox.render())
            .entries()
            .map(|entry| entry.identity)
            .collect();
        assert_eq!(identities.len(), self.mbox.mails.len(), "{:?}", self.mbox);
        let (mut previous, mut settled) = (0, true);
        for (at, mail) in self.mbox.mails.iter().enumerate() {
            settled &= mail.uid.is_some_and(|uid| uid > previous && uid <= last);
            let own = if settled {
                mail.uid
            } else {
                self.hidden[at].filter(|&uid| uid > previous)
            };
            let uid = own.unwrap_or(self.next);
            self.next = self.next.max(uid + 1);
            self.hidden[at] = Some(uid);
            let before = self.known.insert(uid, identities[at]);
            let edited = mail.name.contains('\'');
            assert!(
                edited || before.is_none_or(|before| before == identities[at]),
                "the model reuses UID {uid} for {}: {self:?}",
                mail.name
            );
            previous = uid;
        }
    }

    fn write(&mut self) {
        let validity = *self.validity.get_or_insert(self.invents);
        let numbers = self.mbox.numbers.get_or_insert((validity, 0));
        if self.hidden.contains(&None) {
            self.observe(); // The mailbox had no numbers before.
            return self.write();
        }
        numbers.1 = numbers.1.max(self.next.saturating_sub(1));
        for (mail, uid) in self.mbox.mails.iter_mut().zip(&self.hidden) {
            mail.uid = *uid;
        }
        for keyword in self.mbox.mails.iter().flat_map(|mail| &mail.keywords) {
            if !self.mbox.keywords.contains(keyword) {
                self.mbox.keywords.push(keyword.clone());
            }
        }
    }

    fn input<'a>(&self, index: &'a Index) -> Input<'a> {
        Input {
            observed: self.observed,
            appended: self.appended,
            ..Input::new(Some(index))
        }
    }
}

/// Strong, weak, CRLF, with a length that guards a From_ line; some often, so that equal ones meet.
fn name_of(number: u8, time: u8) -> String {
    match number {
        0..=9 => format!("n{number}@{time}"),
        10..=12 => format!("cron{number}@{}", time % 3),
        13 => "crlf".into(),
        14 => "inner".into(),
        _ => format!("n{}@{time}", number % 10),
    }
}

#[derive(Clone, Debug)]
struct Case {
    base: Option<Node>,
    nodes: [Node; 2],
}

fn case() -> impl Strategy<Value = Case> {
    let ops = |max| prop::collection::vec(op(), 0..max);
    (ops(14), ops(9), ops(9), prop::bool::weighted(0.85)).prop_map(|(before, left, right, three_way)| {
        let mut base = Node {
            invents: 1000,
            ..Node::default()
        };
        base.live(&before);
        // What was told and is gone has to be on record when the ancestor is frozen: nobody counts before that.
        let told = base.mbox.mails.iter().zip(&base.hidden);
        let unnumbered = told
            .filter(|(mail, hidden)| mail.uid.is_none() && hidden.is_some())
            .count() as u32;
        if base.next > base.mbox.numbers.map_or(0, |(_, last)| last) + unnumbered + 1 {
            base.step(&Op::Number);
        }
        if base.mbox.numbers.is_none() {
            base = Node {
                mbox: base.mbox,
                hidden: vec![None; base.hidden.len()],
                invents: 1000,
                ..Node::default()
            };
        }
        (base.observed, base.appended) = (false, 0);
        let nodes = [(left, 2000), (right, 3000)].map(|(ops, invents)| {
            let mut node = Node {
                invents,
                ..base.clone()
            };
            node.live(&ops);
            node
        });
        Case {
            base: three_way.then_some(base),
            nodes,
        }
    })
}

fn identities(index: &Index) -> BTreeMap<Identity, usize> {
    let mut counts = BTreeMap::new();
    index
        .entries()
        .for_each(|entry| *counts.entry(entry.identity).or_default() += 1);
    counts
}

fn merge(base: Option<&Manifest>, nodes: [&Node; 2], files: [&[u8]; 2]) -> (Plan, Vec<u8>) {
    let indexes = files.map(index);
    let inputs = [0, 1].map(|side: usize| nodes[side].input(&indexes[side]));
    let plan = plan(base, &inputs[0], &inputs[1], NOW).expect("both are mailboxes");
    let bytes = carry_out(&plan, files[0], files[1]);
    (plan, bytes)
}

/// 1: the formula of MAIL.md 6.5, counted here anew.
fn expected(base: Option<&Index>, left: &Index, right: &Index) -> BTreeMap<Identity, usize> {
    let [a, b] = [left, right].map(identities);
    let c = base.map(identities);
    let all: BTreeSet<Identity> = a.keys().chain(b.keys()).copied().collect();
    let of = |counts: &BTreeMap<Identity, usize>, id| counts.get(&id).copied().unwrap_or(0);
    let count = |id| {
        let (a, b) = (of(&a, id), of(&b, id));
        match &c {
            Some(c) => a.min(b).min(of(c, id)) + a.saturating_sub(of(c, id)).max(b.saturating_sub(of(c, id))),
            None => a.max(b),
        }
    };
    all.into_iter()
        .map(|id| (id, count(id)))
        .filter(|&(_, count)| count > 0)
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, rng_seed: RngSeed::Fixed(6), ..ProptestConfig::default() })]

    #[test]
    fn promises(case in case()) {
        let [left, right] = &case.nodes;
        let files = [left.mbox.render(), right.mbox.render()];
        let base_file = case.base.as_ref().map(|base| base.mbox.render());
        let base_index = base_file.as_deref().map(index);
        let manifest = base_index.as_ref().map(Manifest::of);
        let indexes = [index(&files[0]), index(&files[1])];
        let (made, bytes) = merge(manifest.as_ref(), [left, right], [&files[0], &files[1]]);
        let result = index(&bytes);

        // 1, 9: what is there is what has to be, and what was planned.
        prop_assert_eq!(identities(&result), expected(base_index.as_ref(), &indexes[0], &indexes[1]));
        prop_assert_eq!(made.check(&result), Ok(()));
        // 2.
        match made.how {
            How::Same | How::Took(Side::Left) => prop_assert_eq!(&bytes, &files[0]),
            How::Took(Side::Right) => prop_assert_eq!(&bytes, &files[1]),
            How::Merged => prop_assert!(bytes.is_empty() || bytes.starts_with(b"From ")),
        }
        // 4.
        let swapped = merge(manifest.as_ref(), [right, left], [&files[1], &files[0]]);
        prop_assert_eq!(identities(&index(&swapped.1)), identities(&result));
        let validity = |plan: &Plan| plan.numbering.as_ref().map(|numbering| numbering.uid_validity);
        prop_assert_eq!(validity(&swapped.0), validity(&made));
        // 3: one side has the result, the other one is stale: then that one's manifest is the ancestor.
        let stale = Manifest::of(&indexes[0]);
        let again = merge(Some(&stale), [left, left], [&bytes, &files[0]]);
        prop_assert_eq!(&again.1, &bytes);
        // The old ancestor would do as well, were it not for equal messages.
        if indexes.iter().all(|index| identities(index).values().all(|&count| count == 1)) {
            let again = merge(manifest.as_ref(), [left, left], [&bytes, &files[0]]);
            prop_assert_eq!(identities(&index(&again.1)), identities(&result));
        }
        let again = merge(manifest.as_ref(), [left, right], [&bytes, &bytes]);
        prop_assert_eq!((again.0.how, &again.1), (How::Same, &bytes));

        if made.how == How::Merged {
            uids_hold(&case, &result)?;
            bodies_are_whole(&bytes, &result, &[&files[0], &files[1]])?;
        }
    }

    /// What is sent and kept comes back, and makes the same plan.
    #[test]
    fn encoded_is_decoded(case in case(), cut in any::<prop::sample::Index>(), bit in any::<prop::sample::Index>()) {
        let files = [0, 1].map(|side: usize| case.nodes[side].mbox.render());
        let indexes = [index(&files[0]), index(&files[1])];
        for index in &indexes {
            let bytes = index.encode();
            let decoded = Index::decode(&bytes);
            prop_assert_eq!(decoded.as_ref(), Ok(index));
            prop_assert!(Index::decode(&bytes[..cut.index(bytes.len())]).is_err());
            let mut turned = bytes.clone();
            let at = bit.index(bytes.len() * 8);
            turned[at / 8] ^= 1 << (at % 8);
            prop_assert!(Index::decode(&turned).is_err());
            let manifest = Manifest::of(index);
            let bytes = manifest.encode();
            prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest));
            prop_assert!(Manifest::decode(&bytes[..cut.index(bytes.len())]).is_err());
        }
    }
}

/// 5, 6, 7: towards the clients of both sides, with what their Dovecots never wrote down.
fn uids_hold(case: &Case, result: &Index) -> Result<(), TestCaseError> {
    let Some(numbering) = &result.numbering else {
        return Ok(());
    };
    let mut last = 0;
    for entry in result.entries() {
        let uid = entry.uid.unwrap_or(0);
        prop_assert!(uid > last && uid <= numbering.uid_last, "{} after {}", uid, last);
        last = uid;
    }
    for node in &case.nodes {
        if node.validity != Some(numbering.uid_validity) {
            continue;
        }
        let own = index(&node.mbox.render());
        // Without ancestor nobody knows how many messages came and went, so only what is written holds.
        let written = own.entries().filter_map(|entry| Some((entry.uid?, entry.identity)));
        let told = if case.base.is_some() {
            node.known.clone()
        } else {
            written.collect()
        };
        let highest = told.keys().next_back().copied().unwrap_or(0);
        let known: BTreeSet<Identity> = told.values().copied().collect();
        let own: BTreeMap<Identity, Option<u32>> = own.entries().map(|entry| (entry.identity, entry.uid)).collect();
        for entry in result.entries() {
            let uid = entry.uid.unwrap_or(0);
            let before = told.get(&uid);
            // An edit in place leaves the X-UID, so Dovecot's clients have to live with it.
            let renamed = own.get(&entry.identity) == Some(&Some(uid));
            let fits = renamed || before.is_none_or(|&before| before == entry.identity);
            prop_assert!(fits, "UID {} named another message", uid);
            if !known.contains(&entry.identity) && !own.contains_key(&entry.identity) {
                prop_assert!(uid > highest, "UID {} is new, but {} was known", uid, highest);
            }
        }
    }
    Ok(())
}

/// 8.
fn bodies_are_whole(bytes: &[u8], result: &Index, files: &[&[u8]]) -> Result<(), TestCaseError> {
    let trimmed = |file: &[u8], index: &Index| -> Vec<Vec<u8>> {
        index
            .spans()
            .map(|span| span.body(file).trim_ascii_end().to_vec())
            .collect()
    };
    let sources: BTreeSet<Vec<u8>> = files.iter().flat_map(|file| trimmed(file, &index(file))).collect();
    for body in trimmed(bytes, result) {
        prop_assert!(sources.contains(&body), "{:?}", String::from_utf8_lossy(&body));
    }
    // An empty line in front of each separator, unless a length says where the message ends.
    for span in result.spans().skip(1) {
        let before = &bytes[..usize::try_from(span.from_offset).expect("small")];
        prop_assert!(before.ends_with(b"\n\n") || before.ends_with(b"\r\n\r\n") || before.ends_with(b"more\n\n"));
    }
    Ok(())
}
