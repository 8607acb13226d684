//! `mboxfs log`, `mboxfs trace` and `mboxfs undelete`: what happened to mailboxes, and how to get messages back.
//!
//! T1  What is shown is what the asked brick remembers (`types::history`); how far back that reaches is said.
//! T2  Messages come back as a delivery: through the mount, under dotlock and fcntl lock, behind what is there, without the
//!     UID and the marks for deletion that they had. Which of them are there again is looked up under the lock: run twice,
//!     or by two people, each is there once.
//!
//! Not here: words (`words`), how entries look (`entries`).

mod entries;
mod letter;

use crate::{
    ANSWER, DONE, Options, REFUSED, UNREACHABLE, USAGE, credentials,
    demo::delivery,
    drill, hint_at, say, show, talk,
    words::{Past, Since},
};
use mboxfs_rpc::{RpcError, admin};
use mboxfs_types::{
    Timestamp,
    admin::{Ask, HostState, Tell},
    history::{Did, Entry, Gone, Page, Place, Question},
};
use serde_json::json;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, BufRead, IsTerminal, Write, stderr, stdin},
    os::unix::fs::PermissionsExt,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Why not.
struct Refused {
    why: String,
    hint: String,
    code: u8,
}

fn refused<T>(why: impl Into<String>, hint: impl Into<String>) -> Result<T, Refused> {
    let (why, hint, code) = (why.into(), hint.into(), REFUSED);
    Err(Refused { why, hint, code })
}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        let (why, hint, code) = (error.to_string(), String::new(), REFUSED);
        Self { why, hint, code }
    }
}

/// A message that was removed, and by what.
struct Lost {
    entry: Entry,
    gone: Gone,
}

/// The exit code.
pub(crate) fn run(options: &Options, past: &Past) -> u8 {
    let done = match past {
        Past::Log { path, since } => log(options, path, *since),
        Past::Trace { id } => trace(options, id),
        Past::Undelete { path, since, list } => undelete(options, past, path, *since, *list),
    };
    done.unwrap_or_else(|r| {
        talk(format!(
            "error: could not {}: {}",
            show::clean(&past.phrase()),
            show::clean(&r.why)
        ));
        hint_at(&r.hint);
        r.code
    })
}

fn ask(options: &Options, ask: Ask) -> Result<Tell, Refused> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(admin::ask(&options.brickd, &credentials(), ask, ANSWER)) {
        Ok(Tell::Refused { why, hint }) => refused(why, hint),
        Ok(tell) => Ok(tell),
        Err(RpcError::Refused { why, .. }) => refused(why, "mboxfs --version, brickd --version"),
        Err(error) => Err(Refused {
            why: error.to_string(),
            hint: format!("is brickd running at {}? systemctl status brickd", options.brickd),
            code: UNREACHABLE,
        }),
    }
}

fn state(options: &Options) -> Result<HostState, Refused> {
    match ask(options, Ask::Status { deep: true })? {
        Tell::Done(state) => Ok(*state),
        _ => refused("brickd does not say how it is", "mboxfs volume status"),
    }
}

/// All pages of an answer, and since when there is a history.
fn pages(options: &Options, question: Question) -> Result<(Vec<Entry>, Option<Timestamp>), Refused> {
    let (mut all, mut from) = (Vec::new(), Place::default());
    loop {
        let ask_for = Question {
            from,
            ..question.clone()
        };
        let Tell::History(Page { entries, next, begins }) = ask(options, Ask::History(ask_for))? else {
            return refused("brickd does not tell its history", "mboxfs --version, brickd --version");
        };
        all.extend(entries);
        match next {
            Some(next) if next > from => from = next,
            _ => return Ok((all, begins)),
        }
    }
}

fn moment(since: Since) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let secs = match since {
        Since::Ago(seconds) => i64::try_from(now).unwrap_or(i64::MAX).saturating_sub(seconds),
        Since::At(secs) => secs,
    };
    Timestamp { secs, nanos: 0 }
}

fn kept_since(begins: Option<Timestamp>) -> String {
    begins.map_or_else(
        || "there is no history yet".to_owned(),
        |time| format!("the history begins at {}", show::utc(time)),
    )
}

// ---- log and trace

fn log(options: &Options, path: &str, since: Option<Since>) -> Result<u8, Refused> {
    let question = Question {
        path: Some(path.to_owned()),
        since: since.map_or_else(Timestamp::default, moment),
        ..Question::default()
    };
    let (found, begins) = pages(options, question)?;
    if options.json {
        let list: Vec<_> = found.iter().map(entries::json).collect();
        return Ok(say_json(
            &json!({ "mailbox": path, "entries": list, "history_begins": begins.map(show::utc) }),
        ));
    }
    if found.is_empty() {
        return Ok(say(
            format!("No changes of {} are known; {}", show::clean(path), kept_since(begins)),
            DONE,
        ));
    }
    let text: Vec<String> = found.iter().map(entries::line).collect();
    Ok(say(text.join("\n"), DONE))
}

fn trace(options: &Options, id: &str) -> Result<u8, Refused> {
    let question = Question {
        id: Some(id.to_owned()),
        ..Question::default()
    };
    let (found, begins) = pages(options, question)?;
    let Some(last) = found.last() else {
        return refused(
            format!("it is not known; {}", kept_since(begins)),
            "for messages of before: grep the mailboxes",
        );
    };
    let state = state(options)?;
    let places = durable(&state, last.n);
    let (on, off): (Vec<_>, Vec<_>) = places.iter().partition(|(_, there)| *there);
    let names = |list: &[&(String, bool)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    let code = if off.is_empty() { DONE } else { REFUSED };
    if options.json {
        let list: Vec<_> = found.iter().map(entries::json).collect();
        say_json(&json!({ "id": id, "entries": list, "durable_on": names(&on), "not_yet_on": names(&off) }));
        return Ok(code);
    }
    let mut text = show::clean(id);
    for entry in &found {
        text.push('\n');
        text += &entries::traced(entry, id);
    }
    text += &format!("\ndurable on {}", show::clean(&names(&on).join(" and ")));
    if !off.is_empty() {
        text += &format!("\nnot yet on {}", show::clean(&names(&off).join(" and ")));
    }
    Ok(say(text, code))
}

/// Which bricks have record `n`, by the words of the one that told of it.
fn durable(state: &HostState, n: u64) -> Vec<(String, bool)> {
    let Some((volume, _)) = &state.volume else {
        return Vec::new();
    };
    let on_both = state.report.as_ref().map_or(0, |r| r.on_both);
    let sides = show::sides(state, volume);
    sides
        .iter()
        .map(|side| (show::place(side.brick), side.here || n <= on_both))
        .collect()
}

fn say_json(value: &serde_json::Value) -> u8 {
    say(format!("{value:#}"), DONE)
}

// ---- undelete

/// What is gone from a mailbox, each message once, as it was removed last; oldest first.
fn lost(options: &Options, path: &str, since: Timestamp) -> Result<(Vec<Lost>, Option<Timestamp>), Refused> {
    let question = Question {
        path: Some(path.to_owned()),
        since,
        gone: true,
        ..Question::default()
    };
    let (found, begins) = pages(options, question)?;
    let mut all: Vec<Lost> = Vec::new();
    for entry in found {
        for gone in entry.did.removed() {
            all.retain(|l| l.gone.identity != gone.identity);
            let (entry, gone) = (entry.clone(), gone.clone());
            all.push(Lost { entry, gone });
        }
    }
    Ok((all, begins))
}

fn undelete(options: &Options, past: &Past, path: &str, since: Since, list: bool) -> Result<u8, Refused> {
    let since = moment(since);
    let (all, begins) = lost(options, path, since)?;
    if options.json && list {
        let list: Vec<_> = all.iter().map(|l| entries::lost_json(&l.entry, &l.gone)).collect();
        return Ok(say_json(
            &json!({ "mailbox": path, "messages": list, "history_begins": begins.map(show::utc) }),
        ));
    }
    if all.is_empty() {
        let text = format!(
            "Nothing that was removed from {} is missing; {}",
            show::clean(path),
            kept_since(begins)
        );
        return Ok(if options.json {
            say_json(&json!({ "mailbox": path, "restored": 0 }))
        } else {
            say(text, DONE)
        });
    }
    let shown: Vec<String> = all
        .iter()
        .enumerate()
        .map(|(i, l)| entries::lost(i + 1, &l.entry, &l.gone))
        .collect();
    if list {
        return Ok(say(shown.join("\n"), DONE));
    }
    let chosen = if options.yes {
        (0..all.len()).collect()
    } else {
        talk(shown.join("\n"));
        choose(all.len(), past)?
    };
    let chosen: BTreeSet<[u8; 32]> = chosen.into_iter().map(|i| all[i].gone.identity).collect();
    if chosen.is_empty() {
        return Ok(DONE);
    }
    let state = state(options)?;
    let Some((volume, _)) = &state.volume else {
        return refused("there is no volume", "mboxfs volume list");
    };
    let Some(spool) = drill::mounted(&volume.name) else {
        let why = format!("volume {} is not mounted on this host", volume.name);
        return refused(why, format!("mount -t mboxfs localhost:/{} DIR", volume.name));
    };
    let mailbox = spool.join(path.trim_start_matches('/'));
    let count = restore(options, path, since, &mailbox, &chosen)?;
    if options.json {
        return Ok(say_json(&json!({ "mailbox": path, "restored": count })));
    }
    Ok(say(
        format!("undelete: {}: {count} messages are back", show::clean(path)),
        DONE,
    ))
}

/// Numbers of the list, from 0.
fn choose(count: usize, past: &Past) -> Result<Vec<usize>, Refused> {
    if !stdin().is_terminal() {
        let Past::Undelete { path, .. } = past else {
            return Ok(Vec::new());
        };
        return Err(Refused {
            why: "it asks which ones, and there is no terminal to answer on".to_owned(),
            hint: format!("mboxfs --yes undelete {path} --since ... for all, --list to see them"),
            code: USAGE,
        });
    }
    loop {
        let _ = write!(stderr(), "Which ones are to come back? (numbers, all, none) ");
        let mut answer = String::new();
        if stdin().lock().read_line(&mut answer).unwrap_or(0) == 0 {
            return Ok(Vec::new());
        }
        match numbers(answer.trim(), count) {
            Some(chosen) => return Ok(chosen),
            None => talk("Invalid input"),
        }
    }
}

fn numbers(answer: &str, count: usize) -> Option<Vec<usize>> {
    match answer.to_ascii_lowercase().as_str() {
        "all" => return Some((0..count).collect()),
        "none" | "" => return Some(Vec::new()),
        _ => {}
    }
    let words = answer.split([' ', ',']).filter(|w| !w.is_empty());
    let number = |word: &str| {
        word.parse::<usize>()
            .ok()
            .filter(|n| (1..=count).contains(n))
            .map(|n| n - 1)
    };
    words.map(number).collect()
}

/// T2. How many came back.
fn restore(
    options: &Options,
    path: &str,
    since: Timestamp,
    mailbox: &Path,
    chosen: &BTreeSet<[u8; 32]>,
) -> Result<usize, Refused> {
    let mut failure = None;
    let done = delivery::locked(mailbox, |file| {
        let fetched = lost(options, path, since).and_then(|(all, _)| {
            let wanted = all.into_iter().filter(|l| chosen.contains(&l.gone.identity));
            wanted
                .map(|l| fetch(options, &l.gone).map(|bytes| (l, bytes)))
                .collect::<Result<Vec<_>, _>>()
        });
        match fetched {
            Ok(letters) => append(file, &letters).map(|()| letters.len()),
            Err(why) => {
                failure = Some(why);
                Ok(0)
            }
        }
    });
    match (failure, done) {
        (Some(why), _) => Err(why),
        (None, done) => Ok(done?),
    }
}

fn fetch(options: &Options, gone: &Gone) -> Result<Vec<u8>, Refused> {
    let Some(place) = gone.place else {
        let why = format!("of {} no bytes are kept: it was too large for the history", gone.id);
        return refused(why, "choose the other ones");
    };
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < gone.len {
        let ask_for = Ask::Kept {
            place,
            len: gone.len,
            skip: bytes.len() as u64,
        };
        match ask(options, ask_for)? {
            Tell::Kept(more) if !more.is_empty() => bytes.extend_from_slice(&more),
            _ => return refused(format!("{} ends too early", gone.id), "mboxfs volume status"),
        }
    }
    Ok(bytes)
}

/// All of them or, as far as the file system says so, none.
fn append(file: &mut File, letters: &[(Lost, Vec<u8>)]) -> io::Result<()> {
    let empty = file.metadata()?.len() == 0;
    let owner = letters.iter().find_map(|(lost, _)| match &lost.entry.did {
        Did::Freed { owner, .. } => Some(*owner),
        _ => None,
    });
    if let (true, Some((uid, gid, mode))) = (empty, owner) {
        // Its mailbox was removed with it: made anew as it was.
        std::os::unix::fs::fchown(&*file, Some(uid), Some(gid))?;
        file.set_permissions(fs::Permissions::from_mode(mode))?;
    }
    let all: Vec<u8> = letters.iter().flat_map(|(_, bytes)| letter::fresh(bytes)).collect();
    file.write_all(&all)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_numbers_of_the_list() {
        assert_eq!(numbers("1, 3", 3), Some(vec![0, 2]));
        assert_eq!(numbers("ALL", 2), Some(vec![0, 1]));
        assert_eq!(numbers("none", 2), Some(vec![]));
        assert_eq!(numbers("0", 2), None);
        assert_eq!(numbers("3", 2), None);
        assert_eq!(numbers("x", 2), None);
    }
}
