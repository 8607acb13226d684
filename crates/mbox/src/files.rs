//! What becomes of files that are no mailboxes, or cannot be merged as such (MAIL.md 6.9).
//!
//! Not here: mailboxes (`merge`); moving anything anywhere.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use crate::plan::Side;

/// Where copies go that did not become the file, in the root of the volume.
pub const CONFLICT_DIR: &str = ".mboxfs-conflict";

/// What is to be done with a name that exists on at least one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// State of a session on one node: a lock, or a file on its way to become one. Never copied, never healed; gone with
    /// its owner.
    Session,
    /// Dovecot's index of a mailbox: removed on both sides, since Dovecot builds it again from the mailbox.
    Index,
    /// Dovecot's counter of UIDVALIDITY values: `greater_uid_validity`.
    UidValidity,
    /// A name that holds such a counter, and no bytes: the greatest stays, the others are removed.
    UidValidityName(u32),
    /// Dovecot's list of the UIDs of a Maildir: `uidlist::merge`; what is none is removed, so that Dovecot begins a new one.
    UidList,
    /// Dovecot's list of the keywords of a Maildir: `keywords::merge`; what cannot be merged is treated like any other file.
    Keywords,
    /// A set of lines: `merge_lines`.
    Lines,
    /// Anything else: a mailbox, if it looks like one (`merge::plan`); if not, `later`.
    Content,
}

/// The rule for a name, which is that of the last component of a path.
///
/// Names of mailboxes come from login names, which hold no dot followed by a number as a rule; what looks like a lock of
/// another program (`alice.HOST.PID`, mutt) is one.
#[must_use]
pub fn rule(name: &[u8]) -> Rule {
    if is_session(name) {
        Rule::Session
    } else if name == b".subscriptions" || name == b"subscriptions" {
        Rule::Lines
    } else if name == b"dovecot-uidlist" {
        Rule::UidList
    } else if name == b"dovecot-keywords" {
        Rule::Keywords
    } else if name == b"dovecot-uidvalidity" {
        Rule::UidValidity
    } else if let Some(value) = name.strip_prefix(b"dovecot-uidvalidity.").and_then(hexadecimal) {
        Rule::UidValidityName(value)
    } else if name.starts_with(b"dovecot.index") || name.starts_with(b"dovecot.list.index") {
        Rule::Index
    } else {
        Rule::Content
    }
}

/// `M.lock` and `M.lock` with something random behind it, `.temp.HOST.PID.*` (Dovecot), `.lkPID*` (liblockfile), `_*.HOST`
/// (procmail), `PID.n.HOST` (maildrop), `M.HOST.PID` (mutt).
fn is_session(name: &[u8]) -> bool {
    let mut parts = name.rsplit(|&byte| byte == b'.');
    let last = parts.next().unwrap_or_default();
    let before = parts.next().unwrap_or_default();
    let third = parts.next();
    let is_number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let mut first = name.split(|&byte| byte == b'.');
    let maildrop = [first.next(), first.next()]
        .into_iter()
        .all(|part| part.is_some_and(is_number))
        && first.next().is_some();
    let locked = name
        .windows(5)
        .position(|part| part == b".lock")
        .is_some_and(|at| at > 0);
    locked
        || name.starts_with(b".temp.")
        || name
            .strip_prefix(b".lk")
            .is_some_and(|rest| rest.first().is_some_and(u8::is_ascii_digit))
        || (name.starts_with(b"_") && name.contains(&b'.'))
        || maildrop
        || (is_number(last) && !before.is_empty() && third.is_some_and(|third| !third.is_empty()))
}

/// What is known of one copy, beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Changes that it has seen.
    pub version: u64,
    /// Its mtime, in nanoseconds since 1970.
    pub mtime_nanos: i128,
}

/// The side whose copy becomes the file: that of the later version, then of the later mtime, then the left one. The other
/// one goes to `conflict_path`, whole.
#[must_use]
pub fn later(left: Stamp, right: Stamp) -> Side {
    let rank = |stamp: Stamp| (stamp.version, stamp.mtime_nanos);
    if rank(left) >= rank(right) {
        Side::Left
    } else {
        Side::Right
    }
}

/// Mode, owner, one extended attribute: what the side says that changed it; of two changes that of the later side.
pub fn merge_attribute<T: PartialEq>(base: Option<&T>, left: T, right: T, later: Side) -> T {
    let changed = [&left, &right].map(|value| base != Some(value));
    match (changed, later) {
        ([true, false], _) | ([true, true] | [false, false], Side::Left) => left,
        ([false, true], _) | ([true, true] | [false, false], Side::Right) => right,
    }
}

/// Where the copy goes that did not become the file: `.mboxfs-conflict/NAME.BRICK.VERSION`.
#[must_use]
pub fn conflict_path(name: &[u8], brick: &str, version: u64) -> Vec<u8> {
    let mut path = Vec::from(CONFLICT_DIR.as_bytes());
    path.push(b'/');
    path.extend_from_slice(name);
    path.extend_from_slice(format!(".{brick}.{version}").as_bytes());
    path
}

/// The side whose `dovecot-uidvalidity` holds the greater number; what is no number is less than any.
#[must_use]
pub fn greater_uid_validity(left: &[u8], right: &[u8]) -> Side {
    let value = |text: &[u8]| hexadecimal(text.trim_ascii());
    if value(left) >= value(right) {
        Side::Left
    } else {
        Side::Right
    }
}

fn hexadecimal(text: &[u8]) -> Option<u32> {
    let digits = text.first().is_some_and(u8::is_ascii_hexdigit);
    digits.then(|| u32::from_str_radix(core::str::from_utf8(text).ok()?, 16).ok())?
}

/// Three-way merge of files that are sets of lines, such as `.subscriptions`: in the order of the left side, then of the
/// right one, each line once. A file that does not exist is empty. Dovecot's begin with its version, and an empty line.
#[must_use]
pub fn merge_lines(base: Option<&[u8]>, left: &[u8], right: &[u8]) -> Vec<u8> {
    let [(_, base), (left_head, left), (right_head, right)] = [base.unwrap_or_default(), left, right].map(versioned);
    let lines = |file| <[u8]>::split(file, |&byte| byte == b'\n').filter(|line| !line.is_empty());
    let [in_base, in_left, in_right] = [base, left, right].map(|file| lines(file).collect::<BTreeSet<_>>());
    let mut written = BTreeSet::new();
    let mut merged = Vec::from(left_head.max(right_head));
    for line in lines(left).chain(lines(right)) {
        let on_both = in_left.contains(line) && in_right.contains(line);
        if (on_both || !in_base.contains(line)) && written.insert(line) {
            merged.extend_from_slice(line);
            merged.push(b'\n');
        }
    }
    merged
}

/// `V<TAB>2` and an empty line, and the rest.
fn versioned(file: &[u8]) -> (&[u8], &[u8]) {
    let end = file.windows(2).position(|part| part == b"\n\n");
    let end = end.filter(|_| file.starts_with(b"V\t"));
    file.split_at(end.map_or(0, |at| at + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cases 47 and 48, and the names of MAIL.md 3.1.
    #[test]
    fn rules() {
        for name in [
            "alice.lock",
            "alice.lockXYZ12+host",
            ".temp.h1.123.abc",
            ".lk00123h1",
            "_Q4c.h1",
            "4711.0.h1",
            "alice.h1.4711",
            "a.b.lock",
        ] {
            assert_eq!(rule(name.as_bytes()), Rule::Session, "{name}");
        }
        for (name, expected) in [
            ("dovecot.index.log", Rule::Index),
            ("dovecot.list.index", Rule::Index),
            ("dovecot-uidvalidity", Rule::UidValidity),
            ("dovecot-uidvalidity.5f3b0a11", Rule::UidValidityName(0x5f3b_0a11)),
            (".subscriptions", Rule::Lines),
            ("dovecot-uidlist", Rule::UidList),
            ("dovecot-keywords", Rule::Keywords),
            ("dovecot-keywords.lock", Rule::Session),
            ("alice", Rule::Content),
            ("alice.2024", Rule::Content),
            ("alice.smith", Rule::Content),
            (".lock", Rule::Content),
            ("_alice", Rule::Content),
            (".lkml", Rule::Content),
            ("", Rule::Content),
        ] {
            assert_eq!(rule(name.as_bytes()), expected, "{name}");
        }
    }

    /// Case 49.
    #[test]
    fn subscriptions() {
        let merge = |base: Option<&[u8]>, left: &[u8], right: &[u8]| merge_lines(base, left, right);
        assert_eq!(merge(Some(b"x\ny\n"), b"x\ny\nz\n", b"y\n"), b"y\nz\n");
        assert_eq!(merge(None, b"x\ny", b"z\ny\n"), b"x\ny\nz\n");
        assert_eq!(merge(Some(b"x\n"), b"", b"x\n"), b"");
        let base = b"V\t2\n\nx\ny\n";
        assert_eq!(
            merge(Some(base), b"V\t2\n\nx\ny\nz\n", b"V\t2\n\ny\n"),
            b"V\t2\n\ny\nz\n"
        );
        assert_eq!(merge(None, b"", b"V\t2\n\ny\n"), b"V\t2\n\ny\n");
    }

    /// Case 50.
    #[test]
    fn whole_files() {
        let stamp = |version, mtime_nanos| Stamp { version, mtime_nanos };
        assert_eq!(later(stamp(1, 9), stamp(2, 0)), Side::Right);
        assert_eq!(later(stamp(2, 9), stamp(2, 10)), Side::Right);
        assert_eq!(later(stamp(2, 10), stamp(2, 10)), Side::Left);
        assert_eq!(conflict_path(b"old.gz", "b2", 7), b".mboxfs-conflict/old.gz.b2.7");
        assert_eq!(greater_uid_validity(b"5f3b0a11", b"5f3b0a12\n"), Side::Right);
        assert_eq!(greater_uid_validity(b"1", b"rubbish"), Side::Left);
        for (base, left, right, later, expected) in [
            (Some(1), 1, 2, Side::Left, 2),
            (Some(1), 2, 1, Side::Right, 2),
            (Some(1), 2, 3, Side::Right, 3),
            (None, 2, 3, Side::Left, 2),
        ] {
            assert_eq!(merge_attribute(base.as_ref(), left, right, later), expected);
        }
    }
}
