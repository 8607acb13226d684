//! The merge cases of MAIL.md section 7: what is expected of each is in `cases.txt`.
//!
//! Cases 47 to 50 are no mailboxes: `files` tests them.

#[path = "common/notation.rs"]
mod notation;

use mboxfs_mbox::count::well_formed;
use notation::{Mbox, Row, carry_out, describe, index};

/// Number and rest of each row.
fn rows() -> Vec<(&'static str, Row)> {
    let rows = include_str!("cases.txt")
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    let split = |line: &'static str| {
        let (number, row) = line.split_once('|').expect("columns");
        (number.trim_end_matches(['D', ' ']).trim(), Row::parse(row))
    };
    rows.map(split).collect()
}

#[test]
fn table() {
    let mut wrong = Vec::new();
    for (number, row) in rows() {
        let (plan, bytes) = row.plan();
        let [left, right] = &row.files;
        let found: String = match row.expected.as_str() {
            "A" if &bytes == left => "A".into(),
            "B" if &bytes == right => "B".into(),
            _ => describe(&bytes, &[left, right]),
        };
        // A file that is taken as it is may have messages without UIDs.
        let broken = if found.len() > 1 {
            broken(&row, &bytes)
        } else {
            String::new()
        };
        if found != row.expected || !broken.is_empty() || plan.check(&index(&bytes)).is_err() {
            wrong.push(format!(
                "{number}: expected {}\n    found {found} {broken}",
                row.expected
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Which promise of MAIL.md 6.10 a result breaks towards clients; empty for none.
fn broken(row: &Row, result: &[u8]) -> String {
    let result = index(result);
    let mut broken = String::new();
    let mut last = 0;
    let Some(numbering) = &result.numbering else {
        return broken;
    };
    for entry in result.entries() {
        let uid = entry.uid.unwrap_or(0);
        if uid <= last || uid > numbering.uid_last {
            broken += &format!("[{uid} after {last}, uidlast {}]", numbering.uid_last);
        }
        last = uid;
    }
    for (side, file) in row.sides.iter().zip(&row.files) {
        let own = index(file);
        if side.absent
            || own
                .numbering
                .as_ref()
                .is_none_or(|own| own.uid_validity != numbering.uid_validity)
        {
            continue;
        }
        let known = own.entries().filter_map(|entry| Some((entry.uid?, entry.identity)));
        for (uid, identity) in known {
            let mut named = result.entries().filter(|entry| entry.uid == Some(uid));
            if named.any(|entry| entry.identity != identity) && !is_repeated(&own, uid) {
                broken += &format!("[UID {uid} names another message]");
            }
        }
    }
    broken
}

/// Of two messages of one UID a client knows one by it at most.
fn is_repeated(index: &mboxfs_mbox::index::Index, uid: u32) -> bool {
    index.entries().filter(|entry| entry.uid == Some(uid)).count() > 1
}

/// Case 54: what must not pass, so that what passes above says something.
#[test]
fn naive_concatenation_fails() {
    let row = Row::parse(" | = a1:4 a2:5 L5 | = b1:4 L4 | ");
    let naive = Mbox::parse("m1:1 m2:2 m3:3 a1:4 a2:5 b1:4 V1000 L5", &Mbox::default()).render();
    let said = broken(&row, &naive);
    assert!(
        said.contains("UID 4 names another message") && said.contains("[4 after 5"),
        "{said}"
    );
}

/// F2 and F3, and that nothing is fetched which is there already.
#[test]
fn only_what_is_missing_is_fetched() {
    use mboxfs_mbox::plan::Side::{Left, Right};
    let row = Row::parse(" | = a1:4 L4 | = b1 unobserved | ");
    let (plan, bytes) = row.plan();
    let [left, right] = &row.files;
    let fetched = |own, from: &[u8]| {
        let texts: Vec<_> = plan
            .needs(own)
            .map(|range| from[range.start as usize..range.end as usize].to_vec())
            .collect();
        String::from_utf8(texts.concat()).expect("ASCII")
    };
    let b1 = Mbox::parse("b1", &Mbox::default()).render();
    assert_eq!(fetched(Left, right), String::from_utf8(b1).expect("ASCII"));
    // The first message, whose X-IMAPbase both change, and a1.
    assert!(fetched(Right, left).len() < left.len() / 2, "{}", fetched(Right, left));
    assert_eq!(bytes, carry_out(&plan, left, right));
    assert_eq!(well_formed(&bytes), Ok(5));
}

#[test]
fn junk_goes_to_quarantine() {
    for (row, junk) in [
        (" | junk = a1 | = b1 | ", [17, 0]),
        (" | NUL | = b1 | ", [200, 0]),
        (" | = b1 | NUL | ", [0, 200]),
    ] {
        assert_eq!(Row::parse(row).plan().0.junk, junk, "{row}");
    }
}
