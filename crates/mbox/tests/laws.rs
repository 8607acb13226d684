//! Laws that hold for every file, tried on arbitrary bytes, on bytes that look like an mbox, and on rendered messages.

use mboxfs_mbox::count::well_formed;
use mboxfs_mbox::from_line;
use mboxfs_mbox::header::{self, Metadata};
use mboxfs_mbox::identity::{Strength, VOLATILE, identify};
use mboxfs_mbox::scan::{Scan, Span};
use proptest::prelude::*;

/// Pieces of which the noise is made: everything the scanner looks at, whole and in halves.
const PIECES: &[&str] = &[
    "From s@t  Mon Nov 23 12:34:23 2026\n",
    "From s  Mon Nov 23 12:34:23 2026 +0100\r\n",
    "From \"a b\" Thu, 9 Nov 2002 22:33:52",
    "From ",
    "from \"",
    "Mon Nov 31 99:12 ??? ",
    "2026",
    "\n",
    "\n",
    "\r\n",
    "\r",
    "\0",
    " ",
    "\t",
    ":",
    "x",
    "\u{e9}",
    "Content-Length: ",
    "Content-Length: 0\n",
    "Content-Length: 36\n\n",
    "X-IMAP: 1 2\n",
    "X-IMAPbase: 1000 0000000003 k1 k2\n",
    "X-UID: 7   \n",
    "Status: RO\n",
    "X-Keywords: k1\n k2\n",
    "Message-ID: <1@t>\n",
    "18446744073709551615",
    "70",
];

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::collection::vec(prop::sample::select(PIECES), 0..60);
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..300),
        pieces.prop_map(|pieces| pieces.concat().into_bytes())
    ]
}

/// A message as a mail program would write it.
#[derive(Clone, Debug)]
struct Mail {
    sender: String,
    headers: Vec<(String, String)>,
    body: Vec<String>,
    /// mboxcl2: From_ lines in the body stay, Content-Length guards them. Otherwise mboxo: they get a `>`.
    with_length: bool,
    crlf: bool,
}

fn mail() -> impl Strategy<Value = Mail> {
    let header = ("X-[A-Z][a-z]{1,8}", "[ -~]{0,20}(\n [!-~]{1,10})?");
    let line = prop_oneof![3 => "[ -~]{0,30}", 1 => Just(String::from("From s@t  Mon Nov 23 12:34:23 2026"))];
    let headers = prop::collection::vec(header, 0..4);
    let body = prop::collection::vec(line, 0..6);
    ("[a-z]{0,5}", headers, body, any::<bool>(), any::<bool>()).prop_map(
        |(sender, headers, body, with_length, crlf)| Mail {
            sender,
            headers,
            body,
            with_length,
            crlf,
        },
    )
}

impl Mail {
    /// Its bytes from From_ line to the empty line behind the body, and the body alone.
    fn render(&self) -> (Vec<u8>, Vec<u8>) {
        let quote = |line: &String| match from_line::parse(line.as_bytes()) {
            Some(_) if !self.with_length => format!(">{line}\n"),
            _ => format!("{line}\n"),
        };
        let end = |text: String| if self.crlf { text.replace('\n', "\r\n") } else { text };
        let body = end(self.body.iter().map(quote).collect());
        let mut head = format!("From {}  Mon Nov 23 12:34:23 2026\n", self.sender);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\n");
        }
        if self.with_length {
            head += &format!("Content-Length: {}\n", body.len());
        }
        let raw = [end(head + "\n"), body.clone(), end(String::from("\n"))].concat();
        (raw.into_bytes(), body.into_bytes())
    }
}

proptest! {
    /// scan S1, S2: junk and spans tile the file, parts tile the span, and each span begins with a separator.
    #[test]
    fn spans_tile_the_file(file in noise()) {
        let mut scan = Scan::new(&file);
        let mut at = usize::try_from(scan.junk().end).expect("a small file");
        prop_assert_eq!(scan.junk().start, 0);
        for span in scan.by_ref() {
            prop_assert_eq!(span.from_offset, at as u64);
            prop_assert!(span.from_offset < span.header_offset);
            prop_assert!(at == 0 || file[at - 1] == b'\n');
            prop_assert!(from_line::parse(&file[at..]).is_some());
            let parts = [span.from_line(&file), span.headers(&file), span.body(&file)].concat();
            prop_assert_eq!(&parts, span.raw(&file));
            at += parts.len();
            prop_assert_eq!(span.end, at as u64);
        }
        prop_assert_eq!(at, file.len());
        prop_assert_eq!(scan.next(), None);
    }

    /// header H1: the raw headers are the block, and neither of the readers of state falls over it.
    #[test]
    fn headers_tile_the_block(block in noise()) {
        let raw: Vec<u8> = header::headers(&block).flat_map(|header| header.raw).copied().collect();
        prop_assert!(block.starts_with(&raw));
        let rest = &block[raw.len()..];
        prop_assert!(rest.is_empty() || rest.starts_with(b"\n") || rest.starts_with(b"\r\n"));
        prop_assert_eq!(Metadata::parse(&block), Metadata::parse(&raw));
    }

    /// The scanner and the reader of metadata mean the same message by "pseudo".
    #[test]
    fn pseudo_is_said_once(file in noise()) {
        for (at, span) in Scan::new(&file).enumerate() {
            let base = Metadata::parse(span.headers(&file)).base;
            prop_assert_eq!(span.pseudo, at == 0 && base.is_some_and(|base| base.pseudo));
        }
    }

    /// count C1, C2: the audit agrees with the scanner.
    #[test]
    fn audit_agrees_with_scan(file in noise()) {
        let sound = file.is_empty() || (Scan::new(&file).junk().is_empty() && file.ends_with(b"\n"));
        let count = Scan::new(&file).filter(|span| !span.pseudo).count();
        prop_assert_eq!(well_formed(&file).ok(), sound.then_some(count));
    }

    /// scan S3: what was written one after the other is read back as the same list.
    #[test]
    fn rendered_mails_scan_back(mails in prop::collection::vec(mail(), 0..8)) {
        let rendered: Vec<_> = mails.iter().map(Mail::render).collect();
        let file: Vec<u8> = rendered.iter().flat_map(|(raw, _)| raw).copied().collect();
        let spans: Vec<Span> = Scan::new(&file).collect();
        prop_assert_eq!(well_formed(&file), Ok(mails.len()));
        prop_assert_eq!(spans.len(), mails.len());
        for (span, (raw, body)) in spans.iter().zip(&rendered) {
            prop_assert_eq!(span.raw(&file), &raw[..]);
            prop_assert!(span.body(&file).starts_with(body));
        }
    }

    /// identity I1, I4: state headers, line ends and empty lines at the end change no name, wherever the message is.
    #[test]
    fn identity_survives_rewrites(mail in mail(), volatile in prop::sample::select(&VOLATILE[..]), before in mail()) {
        let plain = Mail { with_length: false, ..mail.clone() };
        let mut rewritten = Mail { with_length: true, crlf: !mail.crlf, ..plain.clone() };
        // The body as the other style has it: quoting is not undone by anybody.
        rewritten.body.iter_mut().filter(|line| line.starts_with("From ")).for_each(|line| line.insert(0, '>'));
        if volatile != "Content-Length" && !volatile.starts_with("X-IMAP") {
            rewritten.headers.insert(0, (volatile.into(), "1\n 2".into()));
        }
        rewritten.body.push(String::new());
        let file = [before.render().0, rewritten.render().0].concat();
        prop_assert_eq!(identify_at(&plain.render().0, 0), identify_at(&file, 1));
    }

    /// identity I2: another body is another message.
    #[test]
    fn identity_sees_edits(mail in mail(), word in "[a-z]{1,5}") {
        let mut edited = mail.clone();
        edited.body.push(word);
        prop_assert_ne!(identify_at(&mail.render().0, 0), identify_at(&edited.render().0, 0));
    }

    /// identity I3: strong names do not depend on the From_ line, weak ones do.
    #[test]
    fn strength_decides_on_the_from_line(mail in mail(), named in any::<bool>()) {
        let mut mail = mail;
        if named {
            mail.headers.push(("Message-ID".into(), "<1@t>".into()));
        }
        let other = Mail { sender: mail.sender.clone() + "x", ..mail.clone() };
        let (name, strength) = identify_at(&mail.render().0, 0);
        prop_assert_eq!(strength == Strength::Strong, named);
        prop_assert_eq!(name == identify_at(&other.render().0, 0).0, named);
    }

    /// No byte sequence makes the readers panic, even with spans of another file.
    #[test]
    fn nothing_panics(file in noise(), other in noise()) {
        let _ = from_line::parse(&file);
        for span in Scan::new(&other) {
            let _ = identify(&file, &span);
        }
    }
}

fn identify_at(file: &[u8], at: usize) -> (mboxfs_mbox::identity::Identity, Strength) {
    let span = Scan::new(file).nth(at).expect("the file has that many messages");
    identify(file, &span)
}
