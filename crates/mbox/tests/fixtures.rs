//! Mailboxes written by real programs (`fixtures/make.sh` makes them anew): what is read there is what the programs meant.

#[path = "common/notation.rs"]
#[allow(dead_code, reason = "each test program uses its own part")]
mod notation;

use mboxfs_mbox::count::well_formed;
use mboxfs_mbox::identity::Identity;
use mboxfs_mbox::manifest::Manifest;
use mboxfs_mbox::merge::{Input, plan};
use notation::{carry_out, describe, index};

const POSTFIX: &[u8] = include_bytes!("fixtures/postfix-local.mbox");
const LDA: &[u8] = include_bytes!("fixtures/dovecot-lda.mbox");
const IMAP: &[u8] = include_bytes!("fixtures/dovecot-imap.mbox");
const MUTT: &[u8] = include_bytes!("fixtures/mutt-flags.mbox");
const S_NAIL: &[u8] = include_bytes!("fixtures/s-nail-delete.mbox");
const PSEUDO: &[u8] = include_bytes!("fixtures/dovecot-pseudo.mbox");

const ALL: [&[u8]; 6] = [POSTFIX, LDA, IMAP, MUTT, S_NAIL, PSEUDO];

/// Without UIDVALIDITY, which is the time at which the fixtures were made.
fn said(file: &[u8]) -> String {
    let text = describe(file, &ALL);
    let words = text
        .split(' ')
        .filter(|word| !(word.starts_with('V') && word[1..].parse::<u32>().is_ok()));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_programs_wrote() {
    for (file, count, expected) in [
        (POSTFIX, 2, "postfix.1 postfix.2"),
        (LDA, 4, "postfix.1:1 postfix.2:2 lda.1:3 lda.2:4 L4"),
        // FETCH of the first one, STORE, EXPUNGE of the second one.
        (
            IMAP,
            3,
            "postfix.1:1/OR{Home} lda.1:3/AFO{Work} lda.2:4/O L4 K=Work,Home",
        ),
        (
            MUTT,
            3,
            "postfix.1:1/FOR{Home} lda.1:3/AFO{Work} lda.2:4/AOR L4 K=Work,Home",
        ),
        (S_NAIL, 2, "postfix.1:1/FOR{Home} lda.2:4/AOR L4 K=Work,Home"),
        (PSEUDO, 0, "pseudo L4"),
    ] {
        assert_eq!(said(file), expected);
        assert_eq!(well_formed(file), Ok(count), "{expected}");
        assert_eq!(index(file).len, file.len() as u64);
    }
}

/// Each program changed headers, lengths, flags; nobody made another message of any.
#[test]
fn messages_keep_their_names() {
    let identities = |file: &[u8]| -> Vec<Identity> { index(file).entries().map(|entry| entry.identity).collect() };
    let [p1, p2, l1, l2] = identities(LDA)[..] else {
        panic!("four messages")
    };
    assert_eq!(identities(POSTFIX), [p1, p2]);
    assert_eq!(identities(IMAP), [p1, l1, l2]);
    assert_eq!(identities(MUTT), [p1, l1, l2]);
    assert_eq!(identities(S_NAIL), [p1, l2]);
}

/// One side had the mail reader, the other one Dovecot: expunges of both, flags of both.
#[test]
fn they_merge() {
    for (base, left, right, expected) in [
        (LDA, POSTFIX, LDA, "postfix.1 postfix.2"),
        (IMAP, MUTT, S_NAIL, "postfix.1:1/FOR{Home} lda.2:4/AOR L4 K=Work,Home"),
    ] {
        let [left_index, right_index] = [index(left), index(right)];
        let base = Manifest::of(&index(base));
        let inputs = [Input::new(Some(&left_index)), Input::new(Some(&right_index))];
        let plan = plan(Some(&base), &inputs[0], &inputs[1], 0).expect("mailboxes");
        let merged = carry_out(&plan, left, right);
        assert_eq!(said(&merged), expected);
        assert_eq!(plan.check(&index(&merged)), Ok(()));
    }
}
