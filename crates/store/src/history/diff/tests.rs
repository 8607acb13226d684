//! Writes as mail programs make them, and what is found of them.

use super::*;
use bytes::Bytes;

fn mail(id: &str, flags: &str) -> String {
    format!(
        "From a@b  Mon Nov 23 12:00:00 2026\nFrom: a@b\nSubject: about {id}\nMessage-ID: <{id}@x>\n{flags}\nthis is {id}\n\n"
    )
}

/// The file `old` is written to.
fn found(old: &str, cut: Option<usize>, writes: &[(usize, &str)], size: usize) -> Found {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("box");
    std::fs::write(&path, old).unwrap();
    let file = File::open(&path).unwrap();
    let extents: Vec<Extent> = writes
        .iter()
        .map(|(offset, text)| Extent {
            offset: *offset as u64,
            data: Bytes::copy_from_slice(text.as_bytes()),
        })
        .collect();
    let change = Change {
        file: &file,
        was: old.len() as u64,
        cut: cut.map_or(u64::MAX, |c| c as u64),
        extents: &extents,
        size: size as u64,
    };
    let found = change.examine().unwrap();
    let texts: Vec<&str> = found
        .ranges
        .iter()
        .map(|(a, b)| &old[*a as usize..*b as usize])
        .collect();
    for (gone, text) in found.removed.iter().zip(&texts) {
        assert!(text.contains(&gone.id) && text.len() as u64 == gone.len, "{text}");
    }
    found
}

fn ids(found: &Found) -> Vec<&str> {
    found.removed.iter().map(|g| g.id.as_str()).collect()
}

#[test]
fn a_delivery_adds_and_nothing_is_read() {
    let (one, two) = (mail("1", ""), mail("2", ""));
    let found = found(&one, None, &[(one.len(), &two)], one.len() + two.len());
    assert_eq!(found.added, ["<2@x>"]);
    assert!(!found.moves && found.removed.is_empty() && found.changed == 0);
}

#[test]
fn flags_are_no_move() {
    let old = mail("1", "Status: O \n") + &mail("2", "");
    let at = old.find("O \n").unwrap();
    let found = found(&old, None, &[(at, "RO")], old.len());
    assert!(!found.moves && found.removed.is_empty() && found.added.is_empty());
    assert_eq!(found.changed, 1);
}

#[test]
fn an_expunge_is_what_is_not_there_any_more() {
    let (one, two, three) = (mail("1", ""), mail("2", ""), mail("3", ""));
    let old = one.clone() + &two + &three;
    let size = one.len() + three.len();
    // Dovecot moves the rest down, in pieces, and cuts.
    let (head, tail) = three.split_at(30);
    let moved = [(one.len(), head), (one.len() + 30, tail)];
    let middle = found(&old, Some(size), &moved, size);
    assert!(middle.moves);
    assert_eq!((ids(&middle), middle.changed), (vec!["<2@x>"], 0));
    assert_eq!(middle.removed[0].subject, "about 2");
    let last = found(&old, Some(one.len() + two.len()), &[], one.len() + two.len());
    assert_eq!(ids(&last), ["<3@x>"]);
    let all = found(&old, Some(0), &[], 0);
    assert_eq!(ids(&all), ["<1@x>", "<2@x>", "<3@x>"]);
}

#[test]
fn a_whole_rewrite_is_compared_message_by_message() {
    let old = mail("1", "") + &mail("2", "") + &mail("2", "");
    let new = mail("1", "Status: RO\nX-UID: 1\n") + &mail("2", "") + &mail("4", "");
    let found = found(&old, Some(0), &[(0, &new)], new.len());
    assert_eq!(ids(&found), ["<2@x>"], "one of two equal ones");
    assert_eq!(found.added, ["<4@x>"]);
    assert_eq!(found.changed, 1, "a flag is no other message");
}

#[test]
fn a_header_that_grows_moves_what_follows() {
    let (one, two) = (mail("1", ""), mail("2", ""));
    let old = one.clone() + &two;
    let grown = mail("1", "Status: RO\n");
    let at = one.find("\nthis is").unwrap();
    let rest = grown[at..].to_owned() + &two;
    let found = found(&old, None, &[(at, &rest)], grown.len() + two.len());
    assert!(found.moves && found.removed.is_empty() && found.added.is_empty());
}

#[test]
fn a_large_message_before_the_change_is_no_problem() {
    let big = mail("1", &format!("X-Fill: {}\n", "x".repeat(300_000)));
    let old = big.clone() + &mail("2", "") + &mail("3", "");
    let at = big.len();
    let three = mail("3", "");
    let end = at + three.len();
    assert_eq!(ids(&found(&old, Some(end), &[(at, &three)], end)), ["<2@x>"]);
    let cut = at - 100_000;
    assert_eq!(
        ids(&found(&old, Some(cut), &[], cut)),
        ["<1@x>", "<2@x>", "<3@x>"],
        "cut in the middle"
    );
}

#[test]
fn what_is_no_mailbox_has_no_messages() {
    let found = found("just text\nFrom here on\n", Some(3), &[(0, "abc")], 3);
    assert!(found.removed.is_empty() && !found.moves);
}

#[test]
fn later_extents_win() {
    let (one, two) = (mail("1", ""), mail("2", ""));
    let old = one.clone() + &two;
    let size = two.len();
    // First something else at the same place.
    let found = found(&old, Some(size), &[(0, &"y".repeat(40)), (0, &two)], size);
    assert_eq!(ids(&found), ["<1@x>"]);
}

#[test]
fn f1_what_lies_behind_the_change_is_not_looked_at() {
    let (one, two, three) = (mail("1", ""), mail("2", ""), mail("3", ""));
    let old = one.clone() + &two + &three;
    // Another message over the second one, of the same length.
    let other = mail("x", "");
    let found = found(&old, None, &[(one.len(), &other)], old.len());
    assert_eq!(ids(&found), ["<2@x>"]);
    assert_eq!(found.added, ["<x@x>"]);
    assert_eq!(found.ranges, [(one.len() as u64, (one.len() + two.len()) as u64)]);
}

#[test]
fn an_append_in_the_session_of_a_rewrite_counts_once() {
    let (one, two) = (mail("1", ""), mail("2", ""));
    let other = mail("y", "");
    let old = one.clone() + &two;
    let found = found(
        &old,
        None,
        &[(0, &other), (old.len(), &mail("3", ""))],
        old.len() + two.len(),
    );
    assert_eq!(ids(&found), ["<1@x>"]);
    assert_eq!(found.added, ["<y@x>", "<3@x>"]);
}
