//! `dovecot-keywords`, in which Dovecot numbers the keywords of a Maildir, changed on both sides.
//!
//! K1  Each keyword of either side has a number, and no number has said something else on either side: a Dovecot looks into
//!     the list only for numbers that it does not know, so a session that is open would go on to read the old name.
//!     Where both sides gave one number to two keywords both get new ones, behind all that either side knows.
//! K2  A message has its keywords as letters in its name, `a` for number 0. Where a keyword has another number the names
//!     change with it ([`Letters`]), so that each message says what it said.
//! K3  A number that is not used any more keeps a name, `moved:` and that of its keyword: a Dovecot that still meets the letter
//!     must not make up a keyword, and messages that have no other name yet can be given one later.
//!
//! Format, as Dovecot writes it: a line `NUMBER NAME` for each keyword. Names that differ in case only are one keyword.
//!
//! Not here: which messages there are, and their other flags (`maildir`).

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::vec::Vec;
use core::str;

use crate::maildir;

/// As many as there are letters.
const KEYWORDS_MAX: u8 = 26;

/// What becomes of letters in names of messages.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Letters([u8; KEYWORDS_MAX as usize]);

/// Two lists as one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Merged {
    /// The list.
    pub list: Vec<u8>,
    /// For messages of the side that stays,
    pub stays: Letters,
    /// and of the other one.
    pub other: Letters,
}

/// K3
const MOVED: &[u8] = b"moved:";

/// Names by number.
type List<'a> = BTreeMap<u8, &'a [u8]>;

/// None: a side is no such list, or there are more numbers than letters.
#[must_use]
pub fn merge(stays: &[u8], other: &[u8]) -> Option<Merged> {
    let sides = [parse(stays)?, parse(other)?];
    let ends = sides
        .each_ref()
        .map(|side| side.last_key_value().map_or(0, |(last, _)| last + 1));
    let mut fresh = ends[0].max(ends[1]);
    let mut merged: BTreeMap<u8, Vec<u8>> = sides[0].iter().map(|(number, name)| (*number, name.to_vec())).collect();
    let mut letters = [Letters::same(); 2];
    let used = |side| List::iter(side).filter(|(_, name)| !is_moved(side, name));
    for (number, name) in sides.iter().flat_map(used) {
        let is_it = |known: &[u8]| known.eq_ignore_ascii_case(name);
        let known = merged.iter().find(|(_, known)| is_it(known)).map(|(known, _)| *known);
        let mut now = known.unwrap_or(*number);
        let is_good = |(side, end): (&List<'_>, u8)| side.get(&now).map_or(now >= end, |known| is_it(known));
        if !sides.iter().zip(ends).all(is_good) {
            (now, fresh) = (fresh, fresh + 1); // K1
        }
        if now >= KEYWORDS_MAX {
            return None;
        }
        if let Some(old) = known.filter(|known| *known != now) {
            merged.insert(old, [MOVED, name].concat()); // K3
        }
        merged.entry(now).or_insert_with(|| name.to_vec());
        for (side, letters) in sides.iter().zip(&mut letters) {
            let all = side
                .iter()
                .filter(|(_, known)| is_it(known.strip_prefix(MOVED).unwrap_or(known)));
            all.for_each(|(number, _)| letters.0[usize::from(*number)] = b'a' + now);
        }
    }
    let mut list = Vec::new();
    for (number, name) in &merged {
        list.extend_from_slice(format!("{number} ").as_bytes());
        list.extend_from_slice(name);
        list.push(b'\n');
    }
    let [stays, other] = letters;
    Some(Merged { list, stays, other })
}

impl Letters {
    fn same() -> Self {
        let mut letters = [0; KEYWORDS_MAX as usize];
        letters.iter_mut().zip(b'a'..).for_each(|(to, from)| *to = from);
        Self(letters)
    }

    /// No message has to be renamed.
    #[must_use]
    pub fn is_same(&self) -> bool {
        *self == Self::same()
    }

    /// K2: what a message is called now; none: as before.
    #[must_use]
    pub fn rename(&self, name: &[u8]) -> Option<Vec<u8>> {
        let before = maildir::parse(name);
        let flags = before.flags?;
        let letter = |flag: &u8| match flag.checked_sub(b'a') {
            Some(number) if number < KEYWORDS_MAX => self.0[usize::from(number)],
            _ => *flag,
        };
        if flags.iter().all(|flag| letter(flag) == *flag) {
            return None;
        }
        let mut renamed = Vec::from(before.unique);
        renamed.extend_from_slice(b":2,");
        renamed.extend(flags.iter().map(letter).collect::<BTreeSet<u8>>());
        Some(renamed)
    }
}

/// K3: its keyword has another number.
fn is_moved(side: &List<'_>, name: &[u8]) -> bool {
    let keyword = name.strip_prefix(MOVED);
    keyword.is_some_and(|keyword| side.values().any(|other| other.eq_ignore_ascii_case(keyword)))
}

fn parse(text: &[u8]) -> Option<List<'_>> {
    let mut list = List::new();
    let Some(lines) = text.strip_suffix(b"\n") else {
        return text.is_empty().then_some(list);
    };
    for line in lines.split(|&byte| byte == b'\n') {
        let at = line.iter().position(|&byte| byte == b' ')?;
        let (number, name) = (str::from_utf8(&line[..at]).ok()?, &line[at + 1..]);
        let number = number.parse().ok().filter(|number| *number < KEYWORDS_MAX)?;
        if name.is_empty() || list.insert(number, name).is_some() {
            return None;
        }
    }
    Some(list)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    /// The lists, as `a=Work b=Home`.
    fn list(words: &str) -> String {
        let line = |word: &str| {
            let (letter, name) = word.split_once('=').unwrap();
            format!("{} {name}\n", letter.as_bytes()[0] - b'a')
        };
        words.split(' ').filter(|word| !word.is_empty()).map(line).collect()
    }

    /// The list, and what becomes of letters of the side that stays, and of the other one.
    #[track_caller]
    fn merged(stays: &str, other: &str, expected: &str, letters: [(&str, &str); 2]) {
        let merged = merge(list(stays).as_bytes(), list(other).as_bytes()).unwrap();
        assert_eq!(text(merged.list.clone()), list(expected));
        for ((before, after), side) in letters.into_iter().zip([merged.stays, merged.other]) {
            let name = format!("x:2,S{before}");
            let renamed = side.rename(name.as_bytes()).map_or(name, text);
            assert_eq!(renamed, format!("x:2,S{after}"));
        }
        // However often it is done.
        let again = merge(&merged.list, list(other).as_bytes()).unwrap();
        assert_eq!((again.list, again.other), (merged.list, merged.other));
        for (before, after) in [letters[0], (letters[0].1, letters[0].1), (letters[1].1, letters[1].1)] {
            let name = format!("x:2,S{before}");
            let renamed = again.stays.rename(name.as_bytes()).map_or(name, text);
            assert_eq!(renamed, format!("x:2,S{after}"), "again");
        }
    }

    #[test]
    fn lists_that_do_not_contradict_are_united() {
        merged("", "", "", [("ab", "ab"), ("a", "a")]);
        merged("a=Work", "a=WORK", "a=Work", [("a", "a"), ("a", "a")]);
        merged("a=Work", "a=Work b=Home", "a=Work b=Home", [("a", "a"), ("ab", "ab")]);
        merged("a=Work b=Home", "a=Work", "a=Work b=Home", [("ab", "ab"), ("a", "a")]);
        merged("a=Work", "a=Work h=Home", "a=Work h=Home", [("a", "a"), ("ah", "ah")]);
        merged("", "a=Home", "a=Home", [("", ""), ("az", "az")]);
    }

    /// K1
    #[test]
    fn a_number_says_one_thing() {
        merged(
            "a=Work",
            "a=Home",
            "a=moved:Work b=Work c=Home",
            [("a", "b"), ("a", "c")],
        );
        merged(
            "a=Old b=Work",
            "a=Old b=Home c=More",
            "a=Old b=moved:Work c=More d=Work e=Home",
            [("ab", "ad"), ("abc", "ace")],
        );
        merged(
            "a=A b=B",
            "a=B b=A",
            "a=moved:A b=moved:B c=A d=B",
            [("ab", "cd"), ("a", "d")],
        );
        // One keyword of two numbers.
        merged(
            "a=A b=B",
            "a=A b=C c=B",
            "a=A b=moved:B d=B e=C",
            [("b", "d"), ("bc", "de")],
        );
        // Again, while messages of the former time are there still; and one that is called so.
        merged(
            "a=moved:Work b=Work c=Home d=One",
            "a=moved:Work b=Work c=Home d=Two",
            "a=moved:Work b=Work c=Home d=moved:One e=One f=Two",
            [("abcd", "bce"), ("abd", "bf")],
        );
        merged(
            "a=moved:x",
            "a=moved:x b=B",
            "a=moved:x b=B",
            [("a", "a"), ("ab", "ab")],
        );
        merged("a=A", "a=A b=moved:x", "a=A b=moved:x", [("a", "a"), ("ab", "ab")]);
        // A hole is no number that is not known.
        merged("a=A c=C", "a=A b=B", "a=A c=C d=B", [("ac", "ac"), ("ab", "ad")]);
    }

    #[test]
    fn names_that_are_no_messages_with_flags_stay() {
        let letters = merge(b"0 A\n", b"0 B\n").unwrap().other;
        for name in ["a", "x:1,a", "x:2,a b", "x:2,", "x:2,FS"] {
            assert_eq!(letters.rename(name.as_bytes()), None);
        }
        assert_eq!(letters.rename(b"x:2,Saz").map(text).as_deref(), Some("x:2,Scz"));
        assert!(!letters.is_same() && Letters::same().is_same());
    }

    #[test]
    fn what_is_no_list_or_too_long_is_not_merged() {
        let full = |first: u8| (0..26).map(|n| format!("{n} {}\n", n + first)).collect::<String>();
        let is_merged = |stays: &str, other: &str| merge(stays.as_bytes(), other.as_bytes()).is_some();
        assert!(is_merged(&full(0), &full(0)));
        assert!(!is_merged(&full(0), "0 A\n"));
        assert!(!is_merged(&full(0), &full(1)));
        for bad in [
            "0 A",
            "\n",
            "A\n",
            "26 A\n",
            "x A\n",
            "0 \n",
            "0 A\n\n",
            "0 A\n0 B\n",
            "-1 A\n",
        ] {
            assert!(!is_merged("0 A\n", bad) && !is_merged(bad, "0 A\n"), "{bad:?}");
        }
    }
}
