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

use alloc::vec::Vec;
use core::fmt;

use crate::header::{Header, headers};
use crate::scan::{self, Span};
use crate::source::{Source, Window};

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

/// The identity of the message at `span` of the file `bytes`.
#[must_use]
pub fn identify(bytes: &[u8], span: &Span) -> (Identity, Strength) {
    let Ok(answer) = identify_in(&mut Window::new(bytes), span, |_| ());
    answer
}

/// The identity of the message at `span` of the file under `window`. `raw` sees each byte of the message once, in order.
pub(crate) fn identify_in<S: Source>(
    window: &mut Window<S>,
    span: &Span,
    mut raw: impl FnMut(&[u8]),
) -> Result<(Identity, Strength), S::Error> {
    let block = scan::block(window, span.header_offset..span.body_offset)?;
    let named = headers(block).any(|header| is_one_of(&header, &NAMING) && !header.value.is_empty());
    let mut hash = Normalised::new(usize::try_from(span.end - span.from_offset).unwrap_or(GATHERED_LEN));
    window.pieces(span.from_offset..span.header_offset, |piece| {
        raw(piece);
        if !named {
            hash.text(piece);
        }
    })?;
    if !named {
        hash.line_end();
    }
    let block = scan::block(window, span.header_offset..span.body_offset)?;
    raw(block);
    for header in headers(block).filter(|header| !is_one_of(header, &VOLATILE)) {
        hash.text(header.raw);
        hash.line_end();
    }
    // The empty line, whether the message has one or is cut off before it. No line above is empty, so it tells headers
    // from body; and only strong messages have a naming header above it, so that no weak one comes to the same bytes.
    hash.line_end();
    window.pieces(span.body_offset..span.end, |piece| {
        raw(piece);
        hash.text(piece);
    })?;
    let strength = if named { Strength::Strong } else { Strength::Weak };
    Ok((hash.finish(), strength))
}

fn is_one_of(header: &Header<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| header.is(name))
}

/// Bytes that are gathered at most.
const GATHERED_LEN: usize = 64 << 10;

/// Hashes text that comes in pieces, with each CRLF turned into LF, and without the line ends it ends with.
struct Normalised {
    hasher: blake3::Hasher,
    /// Text on its way to the hasher, which is three times as fast on many kilobytes at once as on lines.
    gathered: Vec<u8>,
    /// LFs at the end of what came; they count once something follows.
    held_lf: u64,
    /// A CR behind them, which counts if something other than LF follows. At the very end it is half a line end: whoever
    /// completes the file makes it a whole one.
    held_cr: bool,
}

impl Normalised {
    /// `len`: bytes that will come, about.
    fn new(len: usize) -> Self {
        Self {
            hasher: blake3::Hasher::new_derive_key(HASH_CONTEXT),
            gathered: Vec::with_capacity(len.min(GATHERED_LEN)),
            held_lf: 0,
            held_cr: false,
        }
    }

    fn text(&mut self, mut text: &[u8]) {
        if core::mem::take(&mut self.held_cr) && !text.starts_with(b"\n") {
            if text.is_empty() {
                self.held_cr = true;
                return;
            }
            self.plain(b"\r");
        }
        // Most text has no CR at all, and then is hashed in one piece.
        while text.contains(&b'\r') {
            let at = text.iter().position(|&byte| byte == b'\r').unwrap_or_default();
            let (before, behind) = text.split_at_checked(at).unwrap_or((text, &[]));
            self.plain(before);
            text = behind.get(1..).unwrap_or_default();
            match text.first() {
                None => self.held_cr = true,
                Some(b'\n') => {}
                Some(_) => self.plain(b"\r"),
            }
        }
        self.plain(text);
    }

    /// Text whose CRs are no line ends.
    fn plain(&mut self, text: &[u8]) {
        let lf = text.iter().rev().take_while(|&&byte| byte == b'\n').count();
        let line = text.get(..text.len() - lf).unwrap_or_default();
        if !line.is_empty() {
            for _ in 0..self.held_lf {
                self.put(b"\n");
            }
            self.held_lf = 0;
            self.put(line);
        }
        self.held_lf += lf as u64;
    }

    /// What came ends with one LF, whether it did so by itself or not.
    fn line_end(&mut self) {
        (self.held_cr, self.held_lf) = (false, 0);
        self.put(b"\n");
    }

    fn put(&mut self, text: &[u8]) {
        if self.gathered.len() + text.len() > GATHERED_LEN {
            self.hasher.update(&self.gathered);
            self.gathered.clear();
        }
        if text.len() > GATHERED_LEN {
            self.hasher.update(text);
        } else {
            self.gathered.extend_from_slice(text);
        }
    }

    fn finish(mut self) -> Identity {
        self.hasher.update(&self.gathered);
        Identity(*self.hasher.finalize().as_bytes())
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
