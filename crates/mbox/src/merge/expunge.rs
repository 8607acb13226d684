//! Messages taken out of a mailbox that is damaged: what is left, as a plan.
//!
//! X1  As if a mail program had expunged them: every other message stays as it is, byte for byte, and keeps its UID; no UID
//!     ever names another message.
//! X2  If the message goes that carries X-IMAPbase the next one gets it, so that the UIDs of all others still count.
//! X3  A message goes if one of its bytes is in doubt: its From_ line and headers are then no more to be trusted than its body.
//!     What lies in front of the first message goes only as a whole, too.
//!
//! Not here: which bytes are in doubt.

use alloc::vec::Vec;
use core::ops::Range;

use super::write::{Original, Segments, Wanted};
use crate::index::{Index, Message};
use crate::plan::Segment;

/// What is left, and what is not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Expunged {
    /// The mailbox without them, from start to end: copies are of the left side.
    pub left: Vec<Segment>,
    /// Where they were, ascending; neighbours are joined.
    pub gone: Vec<Range<u64>>,
    /// How many messages that is.
    pub messages: u64,
}

/// Takes out what overlaps `doubtful`. None: the file is no mailbox, as far as it can be told.
#[must_use]
pub fn expunge(index: &Index, doubtful: &[Range<u64>]) -> Option<Expunged> {
    let in_doubt = |range: &Range<u64>| doubtful.iter().any(|d| d.start < range.end && range.start < d.end);
    let junk = 0..index.junk_len;
    if index.junk_len > 0 && (!in_doubt(&junk) || index.messages.is_empty()) {
        return None;
    }
    let mut result = Expunged::default();
    let mut segments = Segments::default();
    if index.junk_len > 0 {
        result.take_out(junk);
        result.messages += 1; // whose From_ line is damaged
    }
    // What told the numbering goes: the first message that stays has to tell it.
    let mut heir = index.junk_len > 0;
    let whole = |message: &Message| message.from_offset..message.span().end;
    let messages = index
        .messages
        .iter()
        .enumerate()
        .map(|(at, message)| (message, at == 0));
    let pseudo = index.pseudo.iter().map(|pseudo| (pseudo, true));
    for (at, (message, first)) in pseudo.chain(messages).enumerate() {
        let is_pseudo = at == 0 && index.pseudo.is_some();
        let carrier = first && (is_pseudo || index.pseudo.is_none());
        if in_doubt(&whole(message)) {
            result.take_out(whole(message));
            result.messages += u64::from(!is_pseudo);
            heir |= carrier;
            continue;
        }
        let own = Original {
            side: crate::plan::Side::Left,
            index,
            message,
            carrier,
        };
        if core::mem::take(&mut heir) {
            let wanted = Wanted {
                entry: &message.entry,
                numbering: index.numbering.as_ref(),
                numbered: true,
            };
            segments.message(&own, None, &wanted); // X2
        } else {
            segments.verbatim(&own, None);
        }
    }
    result.left = segments.into_vec();
    Some(result)
}

impl Expunged {
    fn take_out(&mut self, range: Range<u64>) {
        match self.gone.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.gone.push(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Side;
    use alloc::format;
    use alloc::string::String;

    fn mail(n: u32, head: &str) -> String {
        format!("From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <{n}@t>\n{head}X-UID: {n}\n\nthis is {n}\n\n")
    }

    fn mailbox() -> String {
        let base = "X-IMAPbase: 1700000000 0000000009 one two\n";
        mail(3, base) + &mail(5, "Content-Length: 9\n") + &mail(6, "Status: RO\n") + &mail(9, "")
    }

    /// What is left, and what went, when the byte is in doubt where these words begin.
    fn without(mailbox: &str, at: &str) -> (String, Expunged) {
        let at = mailbox.find(at).expect("it is there") as u64;
        let index = Index::read(mailbox.as_bytes()).unwrap();
        let expunged = expunge(&index, core::slice::from_ref(&(at..at + 1))).expect("a mailbox");
        let mut text = String::new();
        for segment in &expunged.left {
            match segment {
                Segment::Bytes(bytes) => text += core::str::from_utf8(bytes).unwrap(),
                copy => {
                    let from = copy.offset_in(Side::Left).expect("of the left side") as usize;
                    text += &mailbox[from..from + copy.len() as usize];
                }
            }
        }
        (text, expunged)
    }

    #[test]
    fn others_stay_byte_for_byte() {
        let mailbox = mailbox();
        for (at, gone) in [("this is 5", 5), ("<5@t>", 5), ("this is 6", 6), ("this is 9", 9)] {
            let (text, expunged) = without(&mailbox, at);
            let from = mailbox.find(&format!("From s@t  Mon Nov 23 12:34:23 2026\nMessage-ID: <{gone}@t>"));
            let from = from.expect("it is there");
            let to = mailbox[from + 1..]
                .find("From ")
                .map_or(mailbox.len(), |to| from + 1 + to);
            assert_eq!(text, format!("{}{}", &mailbox[..from], &mailbox[to..]));
            let range = from as u64..to as u64;
            assert_eq!((expunged.gone, expunged.messages), (Vec::from([range]), 1));
        }
    }

    #[test]
    fn the_next_one_tells_the_numbering() {
        let (text, _) = without(&mailbox(), "this is 3");
        let index = Index::read(text.as_bytes()).unwrap();
        assert_eq!(index.numbering, Index::read(mailbox().as_bytes()).unwrap().numbering);
        let uids: Vec<_> = index.entries().filter_map(|entry| entry.uid).collect();
        assert_eq!(uids, [5, 6, 9]);
        assert!(
            text.contains("\nX-IMAPbase: 1700000000 0000000009 one two\nX-UID: 5\n"),
            "{text}"
        );
    }

    #[test]
    fn a_damaged_separator_takes_both_sides_of_it_along() {
        let mut mailbox = mailbox();
        let third = mailbox.match_indices("From ").nth(2).expect("four of them").0;
        mailbox.replace_range(third..third + 5, "Xrom ");
        let (text, expunged) = without(&mailbox, "Xrom ");
        assert!(text.contains("this is 3") && text.contains("this is 9"));
        assert!(!text.contains("this is 5") && !text.contains("this is 6"));
        assert_eq!(expunged.gone.len(), 1);
        // The first one: what is left of it is in front of the first message.
        let mut mailbox = self::mailbox();
        mailbox.replace_range(..1, "X");
        let (text, expunged) = without(&mailbox, "Xrom");
        assert!(text.starts_with("From s@t") && !text.contains("this is 3") && text.contains("this is 5"));
        assert_eq!((expunged.gone[0].start, expunged.messages), (0, 1));
    }

    #[test]
    fn a_pseudo_message_tells_what_it_told() {
        let pseudo =
            "From MAILER-DAEMON Mon Nov 23 12:34:23 2026\nSubject: DON'T DELETE\nX-IMAP: 7 0000000009\n\nnotes\n\n";
        let mailbox = String::from(pseudo) + &mail(5, "") + &mail(6, "");
        let (text, _) = without(&mailbox, "this is 5");
        assert_eq!(text, String::from(pseudo) + &mail(6, ""));
        let (text, expunged) = without(&mailbox, "notes");
        assert!(text.contains("\nX-IMAPbase: 7 0000000009\nX-UID: 5\n"), "{text}");
        assert_eq!(expunged.messages, 0);
    }

    #[test]
    fn what_is_no_mailbox_is_left_alone() {
        let junk = Index::read(&b"hello\nworld\n"[..]).unwrap();
        assert_eq!(expunge(&junk, core::slice::from_ref(&(0..3))), None);
        let text = String::from("junk\n") + &mailbox();
        let index = Index::read(text.as_bytes()).unwrap();
        assert_eq!(expunge(&index, core::slice::from_ref(&(100..101))), None);
        assert_eq!(expunge(&Index::default(), &[]), Some(Expunged::default()));
    }
}
