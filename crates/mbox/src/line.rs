//! Lines of a byte slice. A line ends with LF, which is part of it; the last line may lack one.
//!
//! Not here: what a line means.

/// Length of the first line of `bytes`, its LF included. 0 only if `bytes` is empty.
pub(crate) fn line_len(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([0x01; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    const LF: u64 = u64::from_ne_bytes([b'\n'; 8]);
    // Eight bytes at a time: a mailbox is mostly text between line ends, and this reads all of it.
    let (words, _) = bytes.as_chunks::<8>();
    let plain = words.iter().take_while(|word| {
        let zero_at_lf = u64::from_ne_bytes(**word) ^ LF;
        zero_at_lf.wrapping_sub(LOW) & !zero_at_lf & HIGH == 0
    });
    let skipped = plain.count() * 8;
    let rest = bytes.get(skipped..).unwrap_or_default();
    rest.iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |at| skipped + at + 1)
}

/// `line` without its LF or CRLF. A CR without LF is text and stays.
pub(crate) fn without_line_end(line: &[u8]) -> &[u8] {
    match line {
        [text @ .., b'\r', b'\n'] | [text @ .., b'\n'] => text,
        text => text,
    }
}

/// How many bytes of line end `bytes` begins with: 1 for LF, 2 for CRLF, 0 for anything else.
pub(crate) fn line_end_len(bytes: &[u8]) -> usize {
    match bytes {
        [b'\n', ..] => 1,
        [b'\r', b'\n', ..] => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends() {
        for (line, len, text, end) in [
            (&b""[..], 0, &b""[..], 0),
            (b"\n", 1, b"", 1),
            (b"\r\n", 2, b"", 2),
            (b"\r", 1, b"\r", 0),
            (b"a\r\r\n", 4, b"a\r", 0),
            (b"a", 1, b"a", 0),
            (b"0123456789\r\n0123456789\n", 12, b"0123456789\r\n0123456789", 0),
            (
                b"\x8a\x8a\x0b\x09\x8a\x8a\x0b\x09\n",
                9,
                b"\x8a\x8a\x0b\x09\x8a\x8a\x0b\x09",
                0,
            ),
            (b"0123456789", 10, b"0123456789", 0),
        ] {
            assert_eq!(
                (line_len(line), without_line_end(line), line_end_len(line)),
                (len, text, end),
                "{line:?}"
            );
        }
    }
}
