//! Is this file a sound mbox, and how many messages has it? For audits, which read boxes that nobody writes to.
//!
//! C1  Sound means: Dovecot opens it, and a message appended to it becomes a message of its own.
//! C2  The number is that which a mail reader shows: the pseudo message does not count.
//!
//! Not here: whether the messages are the right ones (`identity`), or whether their UIDs ascend.

use core::fmt;

use crate::from_line;
use crate::scan::Scan;

/// A file that is no sound mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Where it fails, from the start of the file.
    pub offset: usize,
    /// How it fails.
    pub why: Why,
}

/// How a file fails to be an mbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It does not begin with a valid From_ line. Dovecot refuses to open it.
    NoFromLine,
    /// It does not end with LF, as a torn append does. Most programs would append to the last line.
    NoFinalNewline,
}

/// Number of messages in the file `bytes`. An empty file is a sound box of none.
///
/// Errors: `NoFromLine` at offset 0, else `NoFinalNewline` at the end of the file.
pub fn well_formed(bytes: &[u8]) -> Result<usize, Malformed> {
    if bytes.is_empty() {
        return Ok(0);
    }
    if from_line::parse(bytes).is_none() {
        return Err(Malformed {
            offset: 0,
            why: Why::NoFromLine,
        }); // C1
    }
    if !bytes.ends_with(b"\n") {
        return Err(Malformed {
            offset: bytes.len(),
            why: Why::NoFinalNewline,
        }); // C1
    }
    Ok(Scan::new(bytes).filter(|span| !span.pseudo).count()) // C2
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.why {
            Why::NoFromLine => write!(f, "no valid From_ line at offset {}", self.offset),
            Why::NoFinalNewline => write!(f, "no newline before the end of the file at offset {}", self.offset),
        }
    }
}

impl core::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    const FROM: &str = "From s@t  Mon Nov 23 12:34:23 2026\n";

    /// C1.
    #[test]
    fn malformed() {
        for (file, offset, why) in [
            ("\n", 0, Why::NoFromLine),
            ("\0\0\0", 0, Why::NoFromLine),
            ("From bob\n\nhello\n", 0, Why::NoFromLine),
            (&["\n", FROM].concat(), 0, Why::NoFromLine),
            (&[FROM, "A: b\n\nx"].concat(), 42, Why::NoFinalNewline),
            (&[FROM, "A: b\n\nx\r"].concat(), 43, Why::NoFinalNewline),
            (FROM.trim_end(), 34, Why::NoFinalNewline),
        ] {
            assert_eq!(well_formed(file.as_bytes()), Err(Malformed { offset, why }), "{file:?}");
        }
        let error = Malformed {
            offset: 41,
            why: Why::NoFinalNewline,
        };
        assert_eq!(error.to_string(), "no newline before the end of the file at offset 41");
    }

    /// C2.
    #[test]
    fn counts() {
        let pseudo = [FROM, "X-IMAP: 1000 0000000003\n\nnotes\n\n"].concat();
        let message = [FROM, "A: b\n\nx\n\n"].concat();
        for (file, count) in [
            (&[][..], 0),
            (&[FROM], 1),
            (&[&message], 1),
            (&[&message, &message], 2),
            (&[&pseudo], 0),
            (&[&pseudo, &message], 1),
            (&[&message, &pseudo], 2),
        ] {
            assert_eq!(well_formed(file.concat().as_bytes()), Ok(count), "{file:?}");
        }
    }
}
