//! Files and their spans. Those marked so were counted by Dovecot 2.3.19, which agrees unless a comment says not.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;

const FROM: &str = "From s@t  Mon Nov 23 12:34:23 2026\n";

fn spans(file: &str) -> Vec<Span> {
    Scan::new(file.as_bytes()).collect()
}

/// The header `Content-Length: {length}` and a body of which it is said.
fn with_length(length: usize, body: &str) -> String {
    format!("{FROM}Content-Length: {length}\n\n{body}")
}

#[test]
fn parts_of_a_message() {
    let file = format!("{FROM}A: b\r\n\r\nbody\n\n{FROM}");
    let [first, second] = spans(&file)[..] else {
        panic!("two messages")
    };
    let bytes = file.as_bytes();
    assert_eq!(first.raw(bytes), format!("{FROM}A: b\r\n\r\nbody\n\n").as_bytes());
    assert_eq!(first.from_line(bytes), FROM.as_bytes());
    assert_eq!(first.headers(bytes), b"A: b\r\n\r\n");
    assert_eq!(first.body(bytes), b"body\n\n");
    assert_eq!(second.raw(bytes), FROM.as_bytes());
    assert_eq!((second.headers(bytes), second.body(bytes)), (&b""[..], &b""[..]));
    assert_eq!(second.raw(b"another file"), b"");
}

/// S1, S2.
#[test]
fn message_counts() {
    for (file, count) in [
        (String::new(), 0),
        (String::from("no mbox at all\n"), 0),
        (String::from(FROM), 1),
        // Dovecot: a From_ line directly behind another one is text.
        (format!("{FROM}{FROM}"), 1),
        (format!("{FROM}{FROM}{FROM}{FROM}"), 2),
        (format!("{FROM}\n{FROM}\n"), 2),
        (format!("{FROM}A: b\n\nx\n\n{FROM}A: b\n\ny\n\n"), 2),
        // Dovecot: no empty line is needed before a separator, neither in the body nor in the headers.
        (format!("{FROM}A: b\n\nx\n{FROM}A: b\n\ny\n"), 2),
        (format!("{FROM}A: b\n{FROM}B: c\n\ny\n"), 2),
        (format!("{FROM}A: b\n\n{FROM}B: c\n\n"), 2),
        (format!("{FROM}A: b\n\n>{FROM} {FROM}From bob\n"), 1),
        (format!("{FROM}A: b\r\n\r\nx\r\n\r\n{FROM}\r\n"), 2),
        // A separator without line end is one here; Dovecot waits for the line end.
        (format!("{FROM}A: b\n\nx\n\n{}", FROM.trim_end()), 2),
    ] {
        assert_eq!(spans(&file).len(), count, "{file:?}");
    }
}

/// S3, all counted by Dovecot.
#[test]
fn content_length_is_checked() {
    let inner = format!("hello\n{FROM}1");
    let len = inner.len();
    for (file, count) in [
        (with_length(len, &format!("{inner}\n")), 1),
        (with_length(len, &format!("{inner}\r\n")), 1),
        (with_length(len, &format!("{inner}\n{FROM}")), 2),
        (with_length(len, &format!("{inner}\r\n{FROM}")), 2),
        // The line end behind the body must be there.
        (with_length(len, &inner), 2),
        (with_length(len, &format!("{inner}{FROM}")), 2),
        // Too short, too long, far too long.
        (with_length(len - 1, &format!("{inner}\n{FROM}")), 3),
        (with_length(len + 1, &format!("{inner}\n{FROM}")), 3),
        (with_length(0, &format!("{inner}\n{FROM}")), 3),
        (with_length(usize::MAX, &format!("{inner}\n{FROM}")), 3),
        // What it points to looks like a separator and is none.
        (with_length(len, &format!("{inner}\nFrom bob\n")), 2),
        // The first good one counts.
        (
            format!("{FROM}Content-Length: x\nContent-Length: {len}\n\n{inner}\n"),
            1,
        ),
        (
            format!("{FROM}Content-Length: 3\nContent-Length: {len}\n\n{inner}\n"),
            2,
        ),
        // Headers cut short by a separator have no body to measure.
        (
            format!("{FROM}Content-Length: 46\n{FROM}B: c\n\ny\n\n12\n{FROM}B: c\n\ny\n"),
            3,
        ),
        // The body may begin with a From_ line.
        (with_length(FROM.len() - 1, &format!("{FROM}{FROM}")), 2),
    ] {
        assert_eq!(spans(&file).len(), count, "{file:?}");
    }
}

/// S1.
#[test]
fn junk_is_reported() {
    for (junk, messages) in [
        ("", 2),
        ("\n", 2),
        ("\0\0\0\n", 2),
        ("From bob\nA: b\n\n", 2),
        ("\0\0", 1),
    ] {
        let file = format!("{junk}{FROM}A: b\n\nx\n\n{FROM}");
        let scan = Scan::new(file.as_bytes());
        // Junk without line end makes text of the From_ line behind it.
        let junk_end = if messages == 2 {
            junk.len()
        } else {
            file.len() - FROM.len()
        };
        assert_eq!(scan.junk(), 0..junk_end as u64, "{junk:?}");
        assert_eq!(scan.count(), messages, "{junk:?}");
    }
    assert_eq!(Scan::new(b"junk").junk(), 0..4);
    assert_eq!(Scan::new(b"").junk(), 0..0);
}

#[test]
fn pseudo_is_the_first_message_only() {
    let pseudo = format!("{FROM}X-IMAP: 1000 0000000003\n\nnotes\n\n");
    let plain = format!("{FROM}X-IMAPbase: 1000 0000000003\n\nx\n\n");
    for (file, expected) in [
        (format!("{pseudo}{pseudo}{plain}"), &[true, false, false][..]),
        (format!("{plain}{pseudo}"), &[false, false]),
        (format!("junk\n{pseudo}{plain}"), &[true, false]),
    ] {
        assert_eq!(
            spans(&file).iter().map(|span| span.pseudo).collect::<Vec<_>>(),
            expected,
            "{file:?}"
        );
    }
}

/// S4. Were a line read again for each Content-Length which points to it, this would take minutes, not milliseconds.
#[test]
fn hostile_lengths_are_linear() {
    const MESSAGES: usize = 20_000;
    let header_len = FROM.len() + "Content-Length: 0000000000\n\n".len();
    let target = MESSAGES * header_len;
    let mut file = String::new();
    for message in 1..=MESSAGES {
        let length = target - message * header_len;
        file += &format!("{FROM}Content-Length: {length:010}\n\n");
    }
    file += &format!("\nFrom {}\n", "x".repeat(4 << 20));
    let mut scan = Scan::new(file.as_bytes());
    assert_eq!(scan.by_ref().count(), MESSAGES);
    assert_eq!(scan.refuted.len(), 1);
}
