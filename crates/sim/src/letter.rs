//! How the messages of a world look, and which of them a mailbox holds.
//!
//! Promises: every byte of a message follows from its number and length, so a torn, doubled or mixed one is told from a whole
//! one (L6); header lines that mail readers add or change (Status, X-UID and so on) do not count.
//! Not here: which messages there should be (`oracle`).

/// Number of a message: one attempt to deliver it.
pub type Id = u32;

const FROM: &str = "From sim@mail  Mon Nov 23 12:00:00 2026\n";
const ADDED: [&str; 5] = ["Status:", "X-Status:", "X-UID:", "X-IMAPbase:", "X-Keywords:"];

/// The message `id`, with a body of so many lines.
#[must_use]
pub fn write(id: Id, lines: u32) -> Vec<u8> {
    let mut text = format!("{FROM}Subject: m{id:06} x{lines}\n\n");
    for line in 0..lines {
        text.push_str(&format!(
            "m{id:06} {line:05} what was written to somebody by somebody\n"
        ));
    }
    text.push('\n');
    text.into_bytes()
}

/// The messages in a mailbox, in order, each with its bytes.
///
/// # Errors
/// Where something begins that is no whole message.
pub fn split(content: &[u8]) -> Result<Vec<(Id, &[u8])>, String> {
    let mut letters = Vec::new();
    let mut at = 0;
    while at < content.len() {
        let rest = &content[at..];
        let len = length(rest);
        let letter = &rest[..len];
        let id = whole(letter).ok_or_else(|| {
            let shown = String::from_utf8_lossy(&letter[..letter.len().min(120)]);
            format!("no whole message at byte {at} of {}: {shown:?}", content.len())
        })?;
        letters.push((id, letter));
        at += len;
    }
    Ok(letters)
}

/// Up to the next message, or the end.
fn length(rest: &[u8]) -> usize {
    let from = FROM.as_bytes();
    let mut at = 1;
    while let Some(next) = rest[at..].iter().position(|b| *b == b'\n') {
        at += next + 1;
        if rest[at..].starts_with(from) {
            return at;
        }
    }
    rest.len()
}

/// The number of a message that is whole.
fn whole(letter: &[u8]) -> Option<Id> {
    let text = std::str::from_utf8(letter).ok()?;
    let head = text.strip_prefix(FROM)?;
    let subject = head.lines().find_map(|line| line.strip_prefix("Subject: m"))?;
    let (id, lines) = subject.split_once(" x")?;
    let (id, lines) = (id.parse().ok()?, lines.parse().ok()?);
    let (head, body) = text.split_once("\n\n")?;
    let kept = head.lines().filter(|line| !ADDED.iter().any(|a| line.starts_with(a)));
    let plain = kept.collect::<Vec<_>>().join("\n") + "\n\n" + body;
    (plain.as_bytes() == write(id, lines)).then_some(id)
}

/// The message with another `Status:` line.
#[must_use]
pub fn with_status(letter: &[u8], status: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(letter);
    let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
    let mut out = String::new();
    for line in head.lines().filter(|l| !l.starts_with("Status:")) {
        out.push_str(line);
        out.push('\n');
    }
    out.push_str(&format!("Status: {status}\n\n{body}"));
    out.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_messages_are_told_from_torn_ones() {
        let two = [write(1, 3), with_status(&write(2, 0), "RO")].concat();
        let ids: Vec<Id> = split(&two).expect("both are whole").iter().map(|l| l.0).collect();
        assert_eq!(ids, [1, 2]);
        let tail = write(2, 0).len();
        assert!(split(&two[..two.len() - 2]).is_err());
        assert!(split(&two[1..]).is_err());
        assert!(split(&[&two[..two.len() - tail], b"\0\0".as_slice()].concat()).is_err());
        let long = write(3, 9);
        assert!(split(&[&long[..60], &long[80..]].concat()).is_err());
    }
}
