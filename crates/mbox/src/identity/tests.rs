//! Pairs of messages which are, or are not, the same.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::scan::Scan;

const FROM: &str = "From s@t  Mon Nov 23 12:34:23 2026\n";
const LATER: &str = "From s@t  Mon Nov 23 12:34:24 2026\n";
const STRONG: &str = "Message-ID: <1@t>\nSubject: x\n\nbody\n";
const WEAK: &str = "Subject: x\n\nbody\n";

fn name(message: &str) -> (Identity, Strength) {
    let spans: Vec<_> = Scan::new(message.as_bytes()).collect();
    let [span] = spans[..] else {
        panic!("one message: {message:?}")
    };
    identify(message.as_bytes(), &span)
}

/// I1, I4.
#[test]
fn volatile_parts_do_not_count() {
    let strong = name(&format!("{FROM}{STRONG}"));
    for message in [
        format!("{FROM}{STRONG}\n\n"),
        format!("{FROM}{STRONG}\r\n"),
        format!("{FROM}{STRONG}\r"),
        format!("{FROM}{}", STRONG.trim_end()),
        format!("{FROM}{STRONG}").replace('\n', "\r\n"),
        format!("{FROM}X-UID: 7    \nstatus: RO\nX-IMAPbase: 1 2\n k1\n\tk2\n{STRONG}"),
        format!("{FROM}Message-ID: <1@t>\nX-Keywords: a\n b\nSubject: x\nCONTENT-LENGTH : 4\nLines: 1\n\nbody\n"),
    ] {
        assert_eq!(name(&message), strong, "{message:?}");
    }
    for volatile in VOLATILE {
        assert_eq!(name(&format!("{FROM}{volatile}: 0\n{STRONG}")), strong, "{volatile}");
    }
}

/// I2.
#[test]
fn everything_else_counts() {
    let messages = [
        format!("{FROM}{STRONG}"),
        format!("{FROM}{STRONG}more\n"),
        format!("{FROM}{STRONG}\nmore\n"),
        format!("{FROM}{STRONG}\r\r"),
        format!("{FROM}{STRONG} \n"),
        format!("{FROM}X-Other: 1\n{STRONG}"),
        format!("{FROM}X-Other: 1\n 2\n{STRONG}"),
        format!("{FROM}Message-ID: <1@t>\nSubject: x\nbody\n"),
        format!("{FROM}Message-ID: <1@t>\nSubject: x\n\n\nbody\n"),
        format!("{FROM}Message-ID: <1@t>\nsubject: x\n\nbody\n"),
        format!("{FROM}Subject: x\nMessage-ID: <1@t>\n\nbody\n"),
        format!("{FROM}Message-ID: <1@t>\nSubject: x\n\nbo\rdy\n"),
        format!("{FROM}{WEAK}"),
        String::from(FROM),
    ];
    for (at, message) in messages.iter().enumerate() {
        for other in messages.iter().skip(at + 1) {
            assert_ne!(name(message).0, name(other).0, "{message:?} {other:?}");
        }
    }
}

/// I3.
#[test]
fn from_line_counts_if_nothing_else_names_the_mail() {
    for naming in [
        "Message-ID: <1@t>\n",
        "message-id:<1@t>\n",
        "Received: by t;\n now\n",
        "X-Delivery-ID: 1\n",
    ] {
        let (now, later) = (
            name(&format!("{FROM}{naming}{WEAK}")),
            name(&format!("{LATER}{naming}{WEAK}")),
        );
        assert_eq!(now, later, "{naming}");
        assert_eq!(now.1, Strength::Strong, "{naming}");
    }
    for naming in ["", "Message-ID:\n", "Date: now\n", "X-UID: 3\n", "Message-ID\n"] {
        let (now, later) = (
            name(&format!("{FROM}{naming}{WEAK}")),
            name(&format!("{LATER}{naming}{WEAK}")),
        );
        assert_ne!(now.0, later.0, "{naming}");
        assert_eq!(now.1, Strength::Weak, "{naming}");
    }
    // A naming header in the body names nothing.
    assert_eq!(name(&format!("{FROM}A: b\n\nMessage-ID: <1@t>\n")).1, Strength::Weak);
    assert_eq!(
        name(&format!("{FROM}{WEAK}")),
        name(&format!("{FROM}{WEAK}").replace('\n', "\r\n"))
    );
}

/// A header block that the end of the file cut short is the same as one with its empty line: a merge adds that line.
#[test]
fn missing_empty_line_does_not_count() {
    let whole = name(&format!("{FROM}Message-ID: <1@t>\n\n"));
    assert_eq!(name(&format!("{FROM}Message-ID: <1@t>\n")), whole);
    assert_eq!(name(&format!("{FROM}Message-ID: <1@t>")), whole);
}

/// Bricks of different builds must agree. If this fails, identities stored on disk are lost: change `HASH_CONTEXT` too.
#[test]
fn golden() {
    let (identity, _) = name(&format!("{FROM}{STRONG}"));
    assert_eq!(format!("{identity:?}"), "cced4554d47c3e99");
}
