//! The name of a message: equal for two messages if and only if they are the same mail.
//!
//! I1  What mail programs change in passing does not count: the volatile headers, LF or CRLF, empty lines at the end.
//! I2  Everything else counts, each byte of it. An edited body is another message, and nobody's edit is dropped.
//! I3  The From_ line counts if and only if nothing else tells two mails apart (weak). Then two equal texts of
//!     different times stay two messages.
//! I4  A UID is never identity.
//!
//! I1 and I2 do not hold for header hashes, such as Dovecot's GUID, nor for dsync's Date and Message-ID: both call an
//! edited body the same message.
//!
//! Not here: what becomes of equal messages within one file. They are a multiset; whoever compares files counts them.

use core::fmt;

use crate::header::{Header, headers};
use crate::line::{line_end_len, without_line_end};
use crate::scan::Span;

/// Headers which mail programs write for themselves, and which are left out (I1), in any case.
pub const VOLATILE: [&str; 11] = [
    "Status",
    "X-Status",
    "X-UID",
    "X-Keywords",
    "X-IMAP",
    "X-IMAPbase",
    "Content-Length",
    "Lines",
    "X-Mozilla-Status",
    "X-Mozilla-Status2",
    "X-Mozilla-Keys",
];

/// Headers which name one delivery of one mail. A message that has one of them, not empty, is strong (I3).
const NAMING: [&str; 3] = ["Message-ID", "Received", "X-Delivery-ID"];

/// Name of a message: a BLAKE3 hash of 256 bits, so that nobody can craft two mails of one name.
///
/// Stored by bricks and sent between them: what goes into it may change only together with `HASH_CONTEXT`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(pub [u8; 32]);

/// Keeps these hashes apart from all other uses of BLAKE3, and one version of the rules above from the next.
const HASH_CONTEXT: &str = "mboxfs 2026-11 message identity 1";

/// What an identity rests on (I3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// On headers and body alone; one of the headers names this mail.
    Strong,
    /// On the From_ line too. The same mail delivered twice may have two names.
    Weak,
}

/// The identity of the message at `span` of the file `bytes`. Cost: two passes over its headers, one over its body.
#[must_use]
pub fn identify(bytes: &[u8], span: &Span) -> (Identity, Strength) {
    let block = span.headers(bytes);
    let named = headers(block).any(|header| is_one_of(&header, &NAMING) && !header.value.is_empty());
    let mut hash = Normalised {
        hasher: blake3::Hasher::new_derive_key(HASH_CONTEXT),
    };
    let strength = if named {
        Strength::Strong
    } else {
        hash.line(span.from_line(bytes));
        Strength::Weak
    };
    for header in headers(block).filter(|header| !is_one_of(header, &VOLATILE)) {
        hash.line(header.raw);
    }
    // The empty line, whether the message has one or is cut off before it. No line above is empty, so it tells headers
    // from body; and only strong messages have a naming header above it, so that no weak one comes to the same bytes.
    hash.line(b"");
    hash.text(without_trailing_line_ends(span.body(bytes)));
    (Identity(*hash.hasher.finalize().as_bytes()), strength)
}

fn is_one_of(header: &Header<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| header.is(name))
}

fn without_trailing_line_ends(mut body: &[u8]) -> &[u8] {
    while body.last() == Some(&b'\n') {
        body = without_line_end(body);
    }
    body
}

/// Hashes text with each CRLF turned into LF.
struct Normalised {
    hasher: blake3::Hasher,
}

impl Normalised {
    /// One or more lines; the last one ends with LF here even if it does not in the file.
    fn line(&mut self, line: &[u8]) {
        self.text(without_line_end(line));
        self.hasher.update(b"\n");
    }

    fn text(&mut self, mut text: &[u8]) {
        // Most text has no CR at all, and then is hashed in one piece.
        let mut searched = 0;
        while let Some(found) = text
            .get(searched..)
            .and_then(|rest| rest.iter().position(|&byte| byte == b'\r'))
        {
            let at = searched + found;
            let (before, behind) = text.split_at_checked(at).unwrap_or((text, &[]));
            if line_end_len(behind) > 0 {
                self.hasher.update(before);
                text = behind.get(1..).unwrap_or_default();
                searched = 0;
            } else {
                searched = at + 1;
            }
        }
        self.hasher.update(text);
    }
}

impl fmt::Debug for Identity {
    /// The first eight bytes in hexadecimal: enough for a reader of logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().take(8).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests;
