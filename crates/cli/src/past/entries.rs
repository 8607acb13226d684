//! How entries of the history look, for people and for scripts.
//!
//! Promises: as `show` and `json`: control characters never reach a terminal, keys are only added.
//! Not here: asking for them (`past`).

use crate::show::{clean, utc};
use mboxfs_types::history::{Did, Entry, Gone, Who};
use serde_json::{Value, json};

fn who(who: &Who) -> String {
    match who {
        Who::Host(host) => host.clone(),
        Who::Merge => "(merge)".to_owned(),
        Who::Late => "(late)".to_owned(),
        Who::Quarantine => "(damage)".to_owned(),
    }
}

fn messages(count: u64) -> String {
    if count == 1 {
        "1 message".to_owned()
    } else {
        format!("{count} messages")
    }
}

fn places(kept: &[String]) -> String {
    clean(&kept.join(" and "))
}

/// One word for scripts.
fn kind(did: &Did) -> &'static str {
    match did {
        Did::Named => "make",
        Did::Unnamed => "remove",
        Did::Renamed { .. } => "rename",
        Did::Freed { .. } => "free",
        Did::Quarantined { .. } => "quarantine",
        Did::Content {
            before,
            after,
            added_count,
            removed,
            changed,
            ..
        } => match (removed.is_empty(), after) {
            (false, 0) => "truncate",
            (false, _) => "expunge",
            (true, _) if *added_count > 0 => "append",
            (true, _) if *changed > 0 && before == after => "flags",
            (true, _) if *changed > 0 => "rewrite",
            (true, _) if after < before => "truncate",
            (true, _) => "append",
        },
    }
}

/// What happened, in a few words.
fn what(did: &Did) -> String {
    match did {
        Did::Named => "made".to_owned(),
        Did::Unnamed => "removed".to_owned(),
        Did::Renamed { to } => format!("renamed to {}", clean(to)),
        Did::Quarantined { messages: 1, kept } => format!("1 damaged message was put to {}", places(kept)),
        Did::Quarantined { messages, kept } => format!("{messages} damaged messages were put to {}", places(kept)),
        Did::Freed { removed, .. } => format!("its space freed, {} in it", messages(removed.len() as u64)),
        Did::Content {
            before,
            after,
            added_count,
            removed,
            ..
        } => {
            let (gone, new) = (messages(removed.len() as u64), messages(*added_count));
            let sizes = format!("{before} -> {after} bytes");
            match kind(did) {
                "truncate" if !removed.is_empty() => format!("truncate, {gone} gone, {sizes}"),
                "expunge" if *added_count > 0 => format!("expunge of {gone}, {new} new, {sizes}"),
                "expunge" => format!("expunge of {gone}, {sizes}"),
                "append" if *added_count > 0 => format!("append of {new}, {sizes}"),
                "flags" => "flags".to_owned(),
                other => format!("{other}, {sizes}"),
            }
        }
    }
}

fn added(did: &Did) -> &[String] {
    match did {
        Did::Content { added, .. } => added,
        _ => &[],
    }
}

/// A line for the change, and one for each message that came or went.
pub(super) fn line(entry: &Entry) -> String {
    let mut text = format!(
        "{}  {:<8} {}",
        utc(entry.time),
        clean(&who(&entry.who)),
        what(&entry.did)
    );
    for id in added(&entry.did).iter().filter(|id| !id.is_empty()) {
        text += &format!("\n    + {}", clean(id));
    }
    for gone in entry.did.removed() {
        text += &format!("\n    - {} {}", clean(&gone.id), clean(&gone.subject));
    }
    text
}

/// What a change did to one message.
pub(super) fn traced(entry: &Entry, id: &str) -> String {
    let came = added(&entry.did).iter().any(|a| a == id);
    let went = entry.did.removed().iter().any(|gone| gone.id == id);
    let verb = match (came, went, &entry.who) {
        (true, false, Who::Merge) => "merged into",
        (true, false, _) => "accepted into",
        (true, true, _) => "rewritten in",
        (false, _, _) => "removed from",
    };
    let path = if entry.path.is_empty() {
        "a mailbox without a name"
    } else {
        &entry.path
    };
    format!(
        "{} {} {} through {} (record {})",
        utc(entry.time),
        verb,
        clean(path),
        clean(&who(&entry.who)),
        entry.n
    )
}

/// A message that was removed, for the list that one chooses from.
pub(super) fn lost(number: usize, entry: &Entry, gone: &Gone) -> String {
    let kept = if gone.place.is_none() {
        " (not kept: too large)"
    } else {
        ""
    };
    format!(
        "{number}. {}, removed {} through {}{kept}\n   From: {}\n   Date: {}\n   Subject: {}",
        clean(&gone.id),
        utc(entry.time),
        clean(&who(&entry.who)),
        clean(&gone.from),
        clean(&gone.date),
        clean(&gone.subject),
    )
}

fn gone_json(gone: &Gone) -> Value {
    json!({
        "id": gone.id, "from": gone.from, "date": gone.date, "subject": gone.subject, "bytes": gone.len,
        "kept": gone.place.is_some(),
    })
}

pub(super) fn lost_json(entry: &Entry, gone: &Gone) -> Value {
    let mut value = gone_json(gone);
    value["removed"] = utc(entry.time).into();
    value["host"] = who(&entry.who).into();
    value
}

pub(super) fn json(entry: &Entry) -> Value {
    let mut value = json!({
        "time": utc(entry.time), "host": who(&entry.who), "record": entry.n, "mailbox": entry.path, "kind": kind(&entry.did),
        "added": added(&entry.did), "removed": entry.did.removed().iter().map(gone_json).collect::<Vec<_>>(),
    });
    match &entry.did {
        Did::Content {
            before,
            after,
            added_count,
            changed,
            ..
        } => {
            value["bytes_before"] = (*before).into();
            value["bytes_after"] = (*after).into();
            value["added_count"] = (*added_count).into();
            value["changed"] = (*changed).into();
        }
        Did::Renamed { to } => value["to"] = to.as_str().into(),
        Did::Quarantined { messages, kept } => {
            value["messages"] = (*messages).into();
            value["kept"] = kept.clone().into();
        }
        Did::Named | Did::Unnamed | Did::Freed { .. } => {}
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;
    use mboxfs_types::{Ino, Timestamp};

    fn gone() -> Gone {
        Gone {
            identity: [1; 32],
            from: "a@b".into(),
            date: "today".into(),
            subject: "a \u{1b}[31mred one".into(),
            id: "<1@x>".into(),
            len: 100,
            place: None,
        }
    }

    fn content(sizes: (u64, u64), added: &[&str], removed: Vec<Gone>, changed: u64) -> Entry {
        Entry {
            n: 57,
            time: Timestamp {
                secs: 1_795_489_268,
                nanos: 0,
            },
            who: Who::Host("h1".into()),
            ino: Ino(9),
            path: "/alice".into(),
            did: Did::Content {
                before: sizes.0,
                after: sizes.1,
                added: added.iter().map(|id| (*id).to_owned()).collect(),
                added_count: added.len() as u64,
                removed,
                changed,
            },
        }
    }

    #[test]
    fn each_change_has_its_word() {
        let is = |entry: Entry, text: &str| {
            let line = line(&entry);
            assert_eq!(line, format!("2026-11-24 03:01:08 UTC  h1       {text}"));
        };
        is(
            content((0, 9), &["<1@x>"], vec![], 0),
            "append of 1 message, 0 -> 9 bytes\n    + <1@x>",
        );
        is(content((9, 9), &[], vec![], 2), "flags");
        is(content((9, 19), &[], vec![], 2), "rewrite, 9 -> 19 bytes");
        is(
            content((200, 100), &[], vec![gone()], 0),
            "expunge of 1 message, 200 -> 100 bytes\n    - <1@x> a \\u{1b}[31mred one",
        );
        is(content((9, 0), &[], vec![], 0), "truncate, 9 -> 0 bytes");
        let json = json(&content((200, 100), &[], vec![gone()], 0));
        assert_eq!(
            (&json["kind"], &json["removed"][0]["id"]),
            (&"expunge".into(), &"<1@x>".into())
        );
    }

    #[test]
    fn what_was_damaged_is_told_with_its_place() {
        let put = |messages, kept: &[&str]| Entry {
            who: Who::Quarantine,
            did: Did::Quarantined {
                messages,
                kept: kept.iter().map(|path| (*path).to_owned()).collect(),
            },
            ..content((0, 0), &[], vec![], 0)
        };
        assert_eq!(
            line(&put(1, &["/.mboxfs-conflict/a\u{1b}.damaged-1.7.Bricks"])),
            "2026-11-24 03:01:08 UTC  (damage) 1 damaged message was put to /.mboxfs-conflict/a\\u{1b}.damaged-1.7.Bricks"
        );
        let two = put(2, &["/x.Brick1", "/x.Brick2"]);
        assert!(line(&two).ends_with(" 2 damaged messages were put to /x.Brick1 and /x.Brick2"));
        let json = json(&two);
        assert_eq!(
            (&json["kind"], &json["messages"], &json["kept"][1]),
            (&"quarantine".into(), &2.into(), &"/x.Brick2".into())
        );
    }

    #[test]
    fn what_became_of_a_message() {
        assert_eq!(
            traced(&content((0, 9), &["<1@x>"], vec![], 0), "<1@x>"),
            "2026-11-24 03:01:08 UTC accepted into /alice through h1 (record 57)"
        );
        assert!(traced(&content((9, 0), &[], vec![gone()], 0), "<1@x>").contains(" removed from /alice "));
    }

    #[test]
    fn the_list_to_choose_from() {
        assert_eq!(
            lost(2, &content((9, 0), &[], vec![], 0), &gone()),
            "2. <1@x>, removed 2026-11-24 03:01:08 UTC through h1 (not kept: too large)\n   From: a@b\n   Date: today\n   \
             Subject: a \\u{1b}[31mred one"
        );
    }
}
