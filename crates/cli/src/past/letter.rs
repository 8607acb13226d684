//! A removed message as a new one: what its old mailbox had written into it goes.
//!
//! Promises: everything that makes it this message stays, byte for byte (`mbox::identity` is the same).
//! Not here: putting it into a mailbox (`past`).

/// Headers that number a message, or its mailbox.
const NUMBERS: [&[u8]; 3] = [b"X-UID", b"X-IMAPbase", b"X-IMAP"];

/// Ends with an empty line, so that another message may follow.
pub(super) fn fresh(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 2);
    let mut lines = bytes.split_inclusive(|b| *b == b'\n');
    out.extend_from_slice(lines.next().unwrap_or_default()); // From_
    let mut skips = false;
    let mut in_headers = true;
    for line in lines {
        if in_headers {
            in_headers = !matches!(line, b"\n" | b"\r\n");
            let continued = matches!(line.first(), Some(b' ' | b'\t'));
            if !continued {
                skips = NUMBERS.iter().any(|name| is(line, name));
                if is(line, b"X-Status") {
                    out.extend(
                        line.iter()
                            .enumerate()
                            .filter(|(i, b)| *i < 9 || !matches!(**b, b'D' | b'T'))
                            .map(|(_, b)| *b),
                    );
                    continue;
                }
            }
            if skips && in_headers {
                continue;
            }
        }
        out.extend_from_slice(line);
    }
    while !out.ends_with(b"\n\n") && !out.ends_with(b"\n\r\n") {
        out.push(b'\n');
    }
    out
}

fn is(line: &[u8], name: &[u8]) -> bool {
    line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) && line[name.len()] == b':'
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &str) -> String {
        String::from_utf8(fresh(bytes.as_bytes())).unwrap()
    }

    #[test]
    fn numbers_and_marks_for_deletion_go() {
        assert_eq!(
            text(
                "From a@b date\nX-IMAPbase: 7 3\n  Junk\nSubject: X-UID: 5\nX-Status: AD\nx-uid: 3   \nStatus: RO\n\nX-UID: 9\n\n"
            ),
            "From a@b date\nSubject: X-UID: 5\nX-Status: A\nStatus: RO\n\nX-UID: 9\n\n"
        );
    }

    #[test]
    fn another_message_may_follow() {
        assert_eq!(text("From a@b date\nA: b\n\nbody"), "From a@b date\nA: b\n\nbody\n\n");
        assert_eq!(
            text("From a@b date\r\nA: b\r\n\r\nbody\r\n\r\n"),
            "From a@b date\r\nA: b\r\n\r\nbody\r\n\r\n"
        );
        assert_eq!(text("From a@b date\nX-UID: 3\n"), "From a@b date\n\n");
    }
}
