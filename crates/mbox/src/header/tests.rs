//! Tables of header blocks and what is read from them.

use alloc::vec;

use super::*;

/// H1.
#[test]
fn headers_are_the_block() {
    let block = b"A: b\r\nlong :\t1 \n  2\t\n\t3\r\nno colon\n:x\nStatus: R \n\nC: body\n";
    let found: Vec<_> = headers(block).collect();
    let parts: [(&[u8], &[u8]); 5] = [
        (b"A", b"b"),
        (b"long", b"1 \n  2\t\n\t3"),
        (b"", b""),
        (b"", b"x"),
        (b"Status", b"R"),
    ];
    assert_eq!(
        found
            .iter()
            .map(|header| (header.name, header.value))
            .collect::<Vec<_>>(),
        parts
    );
    let raw: Vec<u8> = found.iter().flat_map(|header| header.raw).copied().collect();
    assert!(block.starts_with(&raw));
    assert_eq!(&block[raw.len()..], b"\nC: body\n");
}

#[test]
fn header_block_edges() {
    assert_eq!(headers(b"").count(), 0);
    assert_eq!(headers(b"\r\nA: b").count(), 0);
    assert_eq!(headers(b"A: b").next().map(|header| header.value), Some(&b"b"[..]));
    // A blank line of blanks is a continuation, not the end.
    assert_eq!(headers(b"A: b\n \nC: d\n").count(), 2);
    // A continuation of nothing has no name, so that it is nobody's state.
    assert_eq!(
        headers(b" Status: R\n").next().map(|header| header.name),
        Some(&b""[..])
    );
    assert_eq!(
        headers(b"A:\0\xff\n").next().map(|header| header.value),
        Some(&b"\0\xff"[..])
    );
}

/// H2, H3.
#[test]
fn content_lengths() {
    for (block, expected) in [
        (&b"Content-Length: 42\n"[..], Some(42)),
        (b"content-length:42 \t\r\n", Some(42)),
        (b"Content-Length : 042\n", Some(42)),
        (b"Content-Length:\n", Some(0)),
        (b"Content-Length: 18446744073709551615\n", Some(u64::MAX)),
        (b"Content-Length: 18446744073709551616\n", None),
        (b"Content-Length: +42\n", None),
        (b"Content-Length: -1\n", None),
        (b"Content-Length: 4 2\n", None),
        (b"Content-Length:\n 42\n", None),
        (b"Content-Length: x\nContent-Length: 42\n", Some(42)),
        (b"Content-Length: 3\nContent-Length: 42\n", Some(3)),
        (b"\nContent-Length: 42\n", None),
    ] {
        assert_eq!(Metadata::parse(block).content_length, expected, "{block:?}");
        assert_eq!(block_content_length(block), expected, "{block:?}");
    }
}

/// H2, H3.
#[test]
fn uids() {
    for (block, expected) in [
        (&b"X-UID: 7                    \n"[..], Some(7)),
        (b"X-UID: 4294967295\n", Some(u32::MAX)),
        (b"X-UID: 4294967296\n", None),
        (b"X-UID: 0\n", None),
        (b"X-UID: 7x\nX-UID: 8\nX-UID: 9\n", Some(8)),
    ] {
        assert_eq!(Metadata::parse(block).uid, expected, "{block:?}");
    }
}

/// H3.
#[test]
fn letters_and_keywords_add_up() {
    let meta = Metadata::parse(
        b"Status: RO\nX-Status: A F\n D\nstatus: z-9\nX-Keywords: k1  k2\nX-Keywords:  \nX-Keywords: k3\n",
    );
    assert!(meta.status.iter().eq(*b"ORz"));
    assert!(meta.x_status.iter().eq(*b"ADF"));
    assert!(!meta.status.contains(b'-') && !meta.status.contains(b'9') && !meta.status.contains(0xff));
    assert_eq!(meta.keywords, [b"k1", b"k2", b"k3"]);
    assert_eq!(Letters::new(b"RO"), Letters::new(b"ORR"));
    assert_eq!(Letters::new(&[0, 64, 91, 96, 123, 255]), Letters::default());
}

/// H2, H3. What hides a message was measured with Dovecot 2.3.19.
#[test]
fn bases() {
    let base = |uid_validity, uid_last, pseudo| {
        Some(Base {
            uid_validity,
            uid_last,
            keywords: vec![],
            pseudo,
        })
    };
    for (block, expected) in [
        (&b"X-IMAPbase: 1000 0000000003\n"[..], base(1000, 3, false)),
        (b"X-IMAP: 1 2\n", base(1, 2, true)),
        (b"X-IMAP: 1\n", base(1, 0, true)),
        (b"X-IMAP: 1  5\n", base(1, 5, true)),
        (b"X-IMAP: 1 99999999999\n", base(1, u32::MAX, true)),
        (b"X-IMAP: 1 99999999999999999999999\n", base(1, u32::MAX, true)),
        (b"X-IMAP: 0 5\n", None),
        (b"X-IMAP: 1 kw\n", None),
        (b"X-IMAP: 1 5x\n", None),
        (b"X-IMAP: 1x 5\n", None),
        (b"X-IMAP: +1 5\n", None),
        (b"X-IMAP: 1\t5\n", None),
        (b"X-IMAP: 1\n 5\n", None),
        (b"X-IMAP:\n 1 5\n", None),
        (b"X-IMAP: 4294967296 5\n", None),
        (b"X-IMAP: 0 5\nX-IMAP: 2 5\n", base(2, 5, true)),
        (b"X-IMAPbase: 1 2\nX-IMAP: 3 4\n", base(1, 2, false)),
        (b"X-IMAP: 3 4\nX-IMAPbase: 1 2\n", base(3, 4, true)),
        (b"X-UID: 1\nX-IMAPbase: 1 2\n", None),
        (b"X-UID: 1\nX-IMAP: 1 2\n", base(1, 2, true)),
        (b"X-UID: 1\nX-IMAPbase: 1 2\nX-IMAP: 1 2\n", None),
        (b"X-IMAPbase: 0 2\nX-IMAP: 1 2\n", base(1, 2, true)),
        (b"", None),
    ] {
        assert_eq!(
            is_pseudo(block),
            expected.as_ref().is_some_and(|base| base.pseudo),
            "{block:?}"
        );
        assert_eq!(Metadata::parse(block).base, expected, "{block:?}");
    }
    let meta = Metadata::parse(b"X-IMAPbase: 1000 0000000003 $Label1 NonJunk\n  Work\n");
    let words: [&[u8]; 3] = [b"$Label1", b"NonJunk", b"Work"];
    assert_eq!(meta.base.map(|base| base.keywords), Some(words.to_vec()));
}
