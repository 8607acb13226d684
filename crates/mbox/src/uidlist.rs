//! `dovecot-uidlist`, in which Dovecot keeps the UIDs of a Maildir, changed on both sides.
//!
//! U1  No UID names two messages: what either side's clients may know a UID as, it stays, or it names nothing any more.
//!     Dovecot gives new ones, from the list's next UID on, to messages that the list does not name.
//! U2  As few messages as possible get another UID: each costs every client a download.
//! U3  Of two UIDVALIDITYs the greater one counts, with its side's list (MAIL.md 6.7).
//!
//! Format, as Dovecot writes it (version 3): a line `3 V<uidvalidity> N<next uid> ...`, then a line `UID ... :NAME` for each
//! message, UIDs ascending. Dovecot appends lines without changing the next UID of the first line.
//!
//! Not here: which messages there are; what the list says of them beside the UID is kept as it is.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::str;

/// One side's list.
struct List<'a> {
    /// Words of the first line.
    head: Vec<&'a [u8]>,
    uid_validity: u32,
    uid_next: u32,
    /// UID and line, by name.
    messages: BTreeMap<&'a [u8], (u32, &'a [u8])>,
}

/// The merged list; none if a side is no list of this version.
#[must_use]
pub fn merge(left: &[u8], right: &[u8]) -> Option<Vec<u8>> {
    let sides = [List::parse(left)?, List::parse(right)?];
    let [a, b] = &sides;
    if a.uid_validity != b.uid_validity {
        return Some(Vec::from(if a.uid_validity > b.uid_validity { left } else { right })); // U3
    }
    let uid_next = a.uid_next.max(b.uid_next);
    let mut kept = BTreeMap::new();
    for (own, other) in [(a, b), (b, a)] {
        for (name, &(uid, line)) in &own.messages {
            // U1: below its next UID the other side may know the UID as anything.
            let keeps = other
                .messages
                .get(name)
                .map_or(uid >= other.uid_next, |there| there.0 == uid);
            if keeps {
                kept.entry(uid).or_insert(line);
            }
        }
    }
    let mut merged = Vec::new();
    for (at, word) in a.head.iter().enumerate() {
        merged.extend_from_slice(if at > 0 { b" " } else { b"" });
        match word.first() {
            Some(b'N') => merged.extend_from_slice(format!("N{uid_next}").as_bytes()),
            _ => merged.extend_from_slice(word),
        }
    }
    merged.push(b'\n');
    for line in kept.values() {
        merged.extend_from_slice(line);
        merged.push(b'\n');
    }
    Some(merged)
}

impl<'a> List<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let mut lines = text.strip_suffix(b"\n")?.split(|&byte| byte == b'\n');
        let head: Vec<&[u8]> = lines.next()?.split(|&byte| byte == b' ').collect();
        let number = |letter: u8| head.iter().find_map(|word| decimal(word.strip_prefix(&[letter])?));
        let (uid_validity, uid_next) = (number(b'V')?, number(b'N')?);
        if head.first() != Some(&&b"3"[..]) {
            return None;
        }
        let mut messages = BTreeMap::new();
        let mut uids = BTreeSet::new();
        for line in lines {
            let at = line.windows(2).position(|part| part == b" :")?;
            let uid = decimal(line[..at].split(|&byte| byte == b' ').next()?)?;
            uids.insert(uid);
            messages.insert(&line[at + 2..], (uid, line)); // a later line is a newer UID
        }
        let last = uids.last().copied().unwrap_or(0);
        Some(Self {
            head,
            uid_validity,
            uid_next: uid_next.max(last.checked_add(1)?),
            messages,
        })
    }
}

fn decimal(text: &[u8]) -> Option<u32> {
    let digits = text.first().is_some_and(u8::is_ascii_digit);
    digits.then(|| str::from_utf8(text).ok()?.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    /// `V N` and messages, as `1a 2b` for UIDs 1 and 2.
    fn list(validity: u32, next: u32, messages: &str) -> String {
        let lines = messages.split_whitespace().map(|word| {
            let (uid, name) = word.split_at(word.len() - 1);
            format!("{uid} G1 :17.{name},S=5\n")
        });
        format!("3 V{validity} N{next} Gabc\n{}", lines.collect::<String>())
    }

    #[track_caller]
    fn merged(left: &str, right: &str, expected: &str) {
        for (left, right) in [(left, right), (right, left)] {
            let merged = merge(left.as_bytes(), right.as_bytes()).map(|list| String::from_utf8(list).unwrap());
            assert_eq!(merged.as_deref(), Some(expected));
        }
    }

    #[test]
    fn what_both_call_the_same_stays() {
        merged(&list(9, 3, "1a 2b"), &list(9, 3, "1a 2b"), &list(9, 3, "1a 2b"));
        // Expunged on one side; and what that side's clients cannot know keeps its UID.
        merged(&list(9, 3, "2b"), &list(9, 4, "1a 2b 3c"), &list(9, 4, "2b 3c"));
    }

    /// U1: 3 is c to the one and d to the other.
    #[test]
    fn a_uid_names_one_message() {
        merged(&list(9, 4, "1a 2b 3c"), &list(9, 4, "1a 2b 3d"), &list(9, 4, "1a 2b"));
        merged(&list(9, 5, "1a 3c 4e"), &list(9, 4, "1a 3d"), &list(9, 5, "1a 4e"));
        // Dovecot appended: the first line says 2 still.
        merged(&list(9, 2, "1a 2b 3c"), &list(9, 2, "1a 2d"), &list(9, 4, "1a 3c"));
        merged(&list(9, 9, "1a 2b"), &list(9, 9, "1b 2a"), &list(9, 9, ""));
        // A message that got another UID on one side has the last one.
        merged(&list(9, 4, "1a 2b 3a"), &list(9, 3, "1a 2b"), &list(9, 4, "2b"));
    }

    /// U3.
    #[test]
    fn the_greater_uid_validity_counts() {
        merged(&list(9, 4, "1a 2b 3c"), &list(10, 2, "1d"), &list(10, 2, "1d"));
    }

    #[test]
    fn what_is_no_list_is_not_merged() {
        let good = list(9, 3, "1a 2b");
        for bad in [
            "",
            "3 V9\n",
            "3 V9 N2",
            "1 9 2\n",
            "3 V9 Nx\n",
            "3 V9 N2\nx :a\n",
            "3 V9 N2\n1 a\n",
            "3 V9 N2\n4294967295 :a\n",
        ] {
            assert_eq!(merge(good.as_bytes(), bad.as_bytes()), None, "{bad:?}");
            assert_eq!(merge(bad.as_bytes(), good.as_bytes()), None, "{bad:?}");
        }
    }
}
