//! Names of messages in a Maildir: `UNIQUE`, or `UNIQUE:2,FLAGS` once a mail reader saw it.
//!
//! D1  A message is what its unique name says, in whatever folder `new` or `cur` of one Maildir it is.
//! D2  Flags are merged like those of a mailbox (MAIL.md 6.6): the side that differs from the ancestor wins, letter by letter;
//!     without an ancestor all flags of both sides count, T (trashed) if both have it.
//!
//! Not here: whether a directory is a Maildir; messages that are gone.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

/// A name, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageName<'a> {
    /// What stays for the life of the message.
    pub unique: &'a [u8],
    /// Letters; none for a message that no reader saw.
    pub flags: Option<&'a [u8]>,
}

/// Takes a name apart. What looks otherwise is unique as a whole.
#[must_use]
pub fn parse(name: &[u8]) -> MessageName<'_> {
    let info = name.windows(3).rposition(|part| part == b":2,");
    let flags = info.map(|at| (&name[..at], &name[at + 3..]));
    match flags.filter(|(unique, flags)| !unique.is_empty() && flags.iter().all(u8::is_ascii_alphabetic)) {
        Some((unique, flags)) => MessageName {
            unique,
            flags: Some(flags),
        },
        None => MessageName {
            unique: name,
            flags: None,
        },
    }
}

/// D2: the name of a message that both sides have under the names `left` and `right`.
#[must_use]
pub fn merge(base: Option<&[u8]>, left: &[u8], right: &[u8]) -> Vec<u8> {
    let [in_left, in_right] = [left, right].map(parse);
    let mut name = Vec::from(in_left.unique);
    if in_left.flags.is_none() && in_right.flags.is_none() {
        return name;
    }
    let set = |of: MessageName<'_>| of.flags.unwrap_or_default().iter().copied().collect::<BTreeSet<u8>>();
    let before = base.map(|base| set(parse(base)));
    let (left, right) = (set(in_left), set(in_right));
    name.extend_from_slice(b":2,");
    name.extend(left.union(&right).filter(|flag| {
        let both = left.contains(flag) && right.contains(flag);
        both || before.as_ref().map_or(**flag != b'T', |before| !before.contains(flag))
    }));
    name
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn names() {
        let parts = |name| {
            let MessageName { unique, flags } = parse(name);
            (unique, flags)
        };
        assert_eq!(parts(b"1.M2P3.h,S=9"), (&b"1.M2P3.h,S=9"[..], None));
        assert_eq!(parts(b"1.M2P3.h:2,"), (&b"1.M2P3.h"[..], Some(&b""[..])));
        assert_eq!(parts(b"1.M2P3.h:2,FSa"), (&b"1.M2P3.h"[..], Some(&b"FSa"[..])));
        for whole in [&b"1.h:1,x"[..], b"1.h:2,S,x", b":2,S", b"", b":2,"] {
            assert_eq!(parts(whole), (whole, None));
        }
    }

    #[test]
    fn flags() {
        let merge = |base: Option<&str>, left: &str, right: &str| {
            let merged = merge(base.map(str::as_bytes), left.as_bytes(), right.as_bytes());
            String::from_utf8(merged).unwrap()
        };
        assert_eq!(merge(Some("x"), "x", "x"), "x");
        assert_eq!(merge(Some("x"), "x", "x:2,"), "x:2,");
        assert_eq!(merge(Some("x:2,"), "x:2,S", "x:2,F"), "x:2,FS");
        assert_eq!(
            merge(Some("x:2,FS"), "x:2,S", "x:2,FRS"),
            "x:2,RS",
            "one took F away, the other added R"
        );
        assert_eq!(merge(Some("x:2,T"), "x:2,", "x:2,T"), "x:2,");
        assert_eq!(merge(Some("x"), "x:2,ST", "x"), "x:2,ST");
        assert_eq!(merge(None, "x:2,ST", "x:2,F"), "x:2,FS");
        assert_eq!(merge(None, "x:2,aT", "x:2,T"), "x:2,Ta");
    }
}
