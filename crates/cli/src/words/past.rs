//! Words about the past: `log`, `trace`, `undelete`.
//!
//! Not here: the clock that "2h ago" is counted from (`past`).

use super::{Wrong, wrong};

const UNDELETE: &str = "mboxfs undelete USER --since 2h [--list]";
const LOG: &str = "mboxfs log USER [--since 2h]";
const TRACE: &str = "mboxfs trace '<MESSAGE-ID>'";
const TIMES: &str = "for example 90m, 2h, 3d, 2026-11-27 or 2026-11-27T10:00:00 (UTC)";
/// Longest Message-ID, and longest path.
const TEXT_BYTES_MAX: usize = 1000;

/// What of the past.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Past {
    Undelete { path: String, since: Since, list: bool },
    Log { path: String, since: Option<Since> },
    Trace { id: String },
}

/// A moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Since {
    /// So many seconds ago.
    Ago(i64),
    /// Seconds since 1970-01-01 00:00 UTC.
    At(i64),
}

impl Past {
    pub(crate) fn phrase(&self) -> String {
        match self {
            Self::Undelete { path, .. } => format!("undelete messages of {path}"),
            Self::Log { path, .. } => format!("show the history of {path}"),
            Self::Trace { id } => format!("trace {id}"),
        }
    }
}

/// None: it is about something else.
pub(super) fn past(words: &[&str]) -> Option<Result<Past, Wrong>> {
    match words {
        ["undelete", rest @ ..] => Some(undelete(rest)),
        ["log", rest @ ..] => Some(log(rest)),
        ["trace", id] => Some(trace(id)),
        ["trace", ..] => Some(wrong("one Message-ID is needed", TRACE)),
        _ => None,
    }
}

/// One word, `--since T` and `--list`, in any order.
struct Words<'a> {
    user: Option<&'a str>,
    since: Option<Since>,
    list: bool,
}

fn words<'a>(words: &[&'a str], usage: &str) -> Result<Words<'a>, Wrong> {
    let mut found = Words {
        user: None,
        since: None,
        list: false,
    };
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "--list" => found.list = true,
            "--since" => match rest.next() {
                Some(text) => found.since = Some(since(text)?),
                None => return wrong("--since needs a time", TIMES),
            },
            _ => match word.strip_prefix("--since=") {
                Some(text) => found.since = Some(since(text)?),
                None if word.starts_with("--") || found.user.is_some() => {
                    return wrong(format!("unknown word '{word}'"), usage);
                }
                None => found.user = Some(word),
            },
        }
    }
    Ok(found)
}

fn undelete(all: &[&str]) -> Result<Past, Wrong> {
    let Words { user, since, list } = words(all, UNDELETE)?;
    let path = path(user, UNDELETE)?;
    let Some(since) = since else {
        return wrong("the time is missing since when messages are looked for", UNDELETE);
    };
    Ok(Past::Undelete { path, since, list })
}

fn log(all: &[&str]) -> Result<Past, Wrong> {
    let Words { user, since, list } = words(all, LOG)?;
    if list {
        return wrong("--list is for undelete", LOG);
    }
    let path = path(user, LOG)?;
    Ok(Past::Log { path, since })
}

/// A mailbox in the root of the volume, or a path from there.
fn path(user: Option<&str>, usage: &str) -> Result<String, Wrong> {
    let Some(user) = user else {
        return wrong("the user is missing", usage);
    };
    let plain = !user.is_empty() && user.len() <= TEXT_BYTES_MAX && !user.chars().any(char::is_control);
    let inside = user.split('/').all(|name| name != ".." && name != ".");
    if !plain || !inside || user.ends_with('/') {
        return wrong(format!("'{user}' is no mailbox"), usage);
    }
    Ok(format!("/{}", user.trim_start_matches('/')))
}

fn trace(id: &str) -> Result<Past, Wrong> {
    let bare = id.trim_start_matches('<').trim_end_matches('>');
    if bare.is_empty() || bare.len() > TEXT_BYTES_MAX || bare.chars().any(|c| c.is_control() || c == ' ') {
        return wrong(format!("'{id}' is no Message-ID"), TRACE);
    }
    Ok(Past::Trace {
        id: format!("<{bare}>"),
    })
}

/// `2h`, or a date with or without a time, UTC.
fn since(text: &str) -> Result<Since, Wrong> {
    let found = ago(text).or_else(|| at(text));
    found.map_or_else(|| wrong(format!("'{text}' is no time"), TIMES), Ok)
}

fn ago(text: &str) -> Option<Since> {
    let unit = text.chars().last()?;
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text.strip_suffix(unit)?.parse().ok()?;
    Some(Since::Ago(i64::from(number) * factor))
}

/// Days from a date as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
fn at(text: &str) -> Option<Since> {
    let text = text.strip_suffix('Z').unwrap_or(text);
    let (date, time) = text.split_once('T').unwrap_or((text, "0:0"));
    let numbers = |text: &str, by: char| {
        text.split(by)
            .map(|n| n.parse::<u16>().ok().map(i64::from))
            .collect::<Option<Vec<i64>>>()
    };
    let [year, month, day] = numbers(date, '-')?.try_into().ok()?;
    let mut time = numbers(time, ':')?;
    time.resize(3, 0);
    let [hour, minute, second] = time.try_into().ok()?;
    if !(1970..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let shifted = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (shifted.div_euclid(400), shifted.rem_euclid(400));
    let moon = (month + 9) % 12;
    let of_year = (153 * moon + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    Some(Since::At(days * 86_400 + hour * 3600 + minute * 60 + second))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Past, Wrong> {
        let all: Vec<&str> = text.split_whitespace().collect();
        past(&all).expect("it is about the past")
    }

    #[test]
    fn users_times_and_ids() {
        let undelete = |path: &str, since, list| {
            let path = path.to_owned();
            Ok(Past::Undelete { path, since, list })
        };
        assert_eq!(
            parsed("undelete alice --since 2h"),
            undelete("/alice", Since::Ago(7200), false)
        );
        assert_eq!(
            parsed("undelete --list --since=3d dir/box"),
            undelete("/dir/box", Since::Ago(259_200), true)
        );
        let log = |path: &str, since| {
            Ok(Past::Log {
                path: path.into(),
                since,
            })
        };
        assert_eq!(parsed("log alice"), log("/alice", None));
        assert_eq!(
            parsed("log /alice --since 1970-01-02"),
            log("/alice", Some(Since::At(86_400)))
        );
        assert_eq!(
            parsed("log a --since 2026-11-24T03:01:08Z"),
            log("/a", Some(Since::At(1_795_489_268)))
        );
        assert_eq!(
            parsed("log a --since 2024-02-29T00:00"),
            log("/a", Some(Since::At(1_709_164_800)))
        );
        let traced = Ok(Past::Trace { id: "<a@b>".into() });
        assert_eq!(parsed("trace a@b"), traced);
        assert_eq!(parsed("trace <a@b>"), traced);
        assert!(past(&["volume", "list"]).is_none());
    }

    #[test]
    fn nonsense_is_named() {
        for (text, why) in [
            (
                "undelete alice",
                "the time is missing since when messages are looked for",
            ),
            ("undelete --since 2h", "the user is missing"),
            ("undelete alice bob --since 2h", "unknown word 'bob'"),
            ("undelete alice --since", "--since needs a time"),
            ("undelete alice --since soon", "'soon' is no time"),
            ("log alice --since 2026-13-01", "'2026-13-01' is no time"),
            ("log ../alice", "'../alice' is no mailbox"),
            ("log alice --list", "--list is for undelete"),
            ("trace", "one Message-ID is needed"),
            ("trace <>", "'<>' is no Message-ID"),
        ] {
            assert_eq!(parsed(text).unwrap_err().why, why, "{text}");
        }
    }
}
