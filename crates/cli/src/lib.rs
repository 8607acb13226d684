//! `mboxfs`, the operator's command: one-shot, or a prompt.
//!
//! C1  stdout is data, stderr is talk; a pipe that nobody reads any more is no error.
//! C2  Exit codes: 0 done, 1 refused or degraded, 2 wrong usage, 3 brickd not reachable; of `demo` and `drill` also 128 + signal.
//! C3  What destroys asks first; without a terminal it needs `--yes`, else nothing is done.
//!
//! Not here: what the verbs do (`brickd::cluster`), the demo (`demo`), drills (`drill`), `--watch` (`watch`), the past (`past`), how words are read (`words`), how answers look (`show`, `json`).

mod demo;
mod drill;
mod heal;
mod json;
mod past;
#[cfg(test)]
mod samples;
mod scrub;
mod show;
mod watch;
mod words;

use mboxfs_rpc::{Credentials, RpcError, admin, identity_path};
use mboxfs_types::admin::{HostState, Tell};
use std::{
    fmt::Display,
    io::{BufRead, IsTerminal, Write, stderr, stdin, stdout},
    process::ExitCode,
    time::Duration,
};
use words::{Command, Line, Options};

/// Longer than all that two brickd may say to one another about one verb.
const ANSWER: Duration = Duration::from_secs(60);

const DONE: u8 = 0;
const REFUSED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;
/// What a shell reports of a program that ended by a signal.
const SIGNALLED: u8 = 128;

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let named = std::env::var("MBOXFS_BRICKD").ok();
    let code = match Options::new(named.as_deref()).and_then(|options| words::line(options, &all)) {
        Ok((options, Line::Nothing)) => prompt(&options),
        Ok((options, line)) => obey(&options, line),
        Err(wrong) => wrong_usage(&wrong),
    };
    ExitCode::from(code)
}

/// Reads verbs until the end. The code is that of the last one, so that a script that is piped in can be checked.
fn prompt(options: &Options) -> u8 {
    let mut last = DONE;
    let person = stdin().is_terminal();
    loop {
        if person {
            let _ = write!(stderr(), "mboxfs> ");
        }
        let mut text = String::new();
        match stdin().lock().read_line(&mut text) {
            Ok(0) | Err(_) => {
                if person {
                    talk(""); // the shell's prompt belongs on a line of its own
                }
                return last;
            }
            Ok(_) => {}
        }
        let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        match words.first().map(String::as_str) {
            None => continue,
            Some(comment) if comment.starts_with('#') => continue,
            Some("quit" | "exit") => return last,
            Some(_) => {}
        }
        last = match words::line(options.clone(), &words) {
            Ok((options, line)) => obey(&options, line),
            Err(wrong) => wrong_usage(&wrong),
        };
    }
}

fn obey(options: &Options, line: Line) -> u8 {
    match line {
        Line::Nothing => DONE,
        Line::Help => say(words::HELP, DONE),
        Line::Version => say(concat!("mboxfs ", env!("CARGO_PKG_VERSION")), DONE),
        Line::Demo => demo::run(),
        Line::Drill(drill) => drill::run(options, &drill),
        Line::Past(past) => past::run(options, &past),
        Line::Command(command) if options.watch => watch::run(options, &command),
        Line::Command(command) => run(options, &command),
    }
}

fn run(options: &Options, command: &Command) -> u8 {
    if let Some(question) = command.question().filter(|_| !options.yes) {
        match confirmed(&question) {
            Some(true) => {}
            Some(false) => return DONE, // gluster's way: a no is no failure
            None => {
                let again = format!("mboxfs --yes {}", command.words());
                return complain(
                    command,
                    "it asks first, and there is no terminal to answer on",
                    &again,
                    USAGE,
                );
            }
        }
    }
    match asked(options, command) {
        Ok(Tell::Done(state)) => show(options, command, &state),
        Ok(Tell::Already(why)) => say(format!("{}: {why}", command.prefix()), DONE),
        Ok(Tell::History(_) | Tell::Kept(_)) => {
            complain(command, "that is no answer to it", "mboxfs --version", REFUSED)
        }
        Ok(Tell::Refused { why, hint }) => {
            match command.refusal(&why) {
                Some(line) => talk(line),
                None => talk(format!("error: could not {}: {}", command.phrase(), show::clean(&why))),
            }
            hint_at(&hint);
            REFUSED
        }
        Err(RpcError::Refused { why, .. }) => complain(command, why, "mboxfs --version, brickd --version", REFUSED),
        Err(error @ RpcError::NotAllowed { .. }) => complain(command, error, "sudo mboxfs ...", REFUSED),
        Err(error @ (RpcError::WrongKey { .. } | RpcError::Unwanted { .. } | RpcError::NoKey { .. })) => complain(
            command,
            error,
            "ask as root, on a host of the cluster: mboxfs pool list",
            REFUSED,
        ),
        Err(error) => {
            let hint = format!("is brickd running at {}? systemctl status brickd", options.brickd);
            complain(command, error, &hint, UNREACHABLE)
        }
    }
}

fn show(options: &Options, command: &Command, state: &HostState) -> u8 {
    let shown = match (options.json, command.is_question()) {
        (true, true) => json::answer(command, state),
        _ => show::answer(command, state),
    };
    match shown {
        Ok(text) => {
            if let Some(line) = show::met(command, state) {
                talk(line);
            }
            say(
                text,
                if show::is_healthy(command, state) {
                    DONE
                } else {
                    REFUSED
                },
            )
        }
        Err(why) => {
            let hint = match (why.ends_with("is not started"), &state.volume) {
                (true, Some((volume, _))) => format!("mboxfs volume start {}", volume.name),
                _ => "mboxfs volume list".to_owned(),
            };
            talk(why);
            hint_at(&hint);
            REFUSED
        }
    }
}

fn asked(options: &Options, command: &Command) -> Result<Tell, RpcError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| RpcError::Serve { why: e.to_string() })?;
    runtime.block_on(ask(options, command))
}

async fn ask(options: &Options, command: &Command) -> Result<Tell, RpcError> {
    admin::ask(&options.brickd, &credentials(), command.ask(), ANSWER).await
}

/// Of this host, for a brickd on another one.
fn credentials() -> Credentials {
    Credentials::File(identity_path())
}

/// C3. None: there is nobody to ask.
fn confirmed(question: &str) -> Option<bool> {
    if !stdin().is_terminal() {
        return None;
    }
    loop {
        let _ = write!(stderr(), "{question} (y/n) ");
        let mut answer = String::new();
        match stdin().lock().read_line(&mut answer) {
            Ok(0) | Err(_) => return Some(false),
            Ok(_) => {}
        }
        match answer.trim().to_ascii_lowercase().as_str() {
            "y" | "yes" => return Some(true),
            "n" | "no" => return Some(false),
            _ => talk("Invalid input, please enter y/n"),
        }
    }
}

fn wrong_usage(wrong: &words::Wrong) -> u8 {
    talk(format!(
        "error: could not understand the command: {}",
        show::clean(&wrong.why)
    ));
    hint_at(&wrong.hint);
    USAGE
}

fn complain(command: &Command, why: impl Display, hint: &str, code: u8) -> u8 {
    talk(format!(
        "error: could not {}: {}",
        command.phrase(),
        show::clean(&why.to_string())
    ));
    hint_at(hint);
    code
}

/// C1.
fn say(text: impl Display, code: u8) -> u8 {
    let _ = writeln!(stdout(), "{text}");
    code
}

/// C1.
fn talk(text: impl Display) {
    let _ = writeln!(stderr(), "{text}");
}

fn hint_at(hint: &str) {
    if !hint.is_empty() {
        talk(format!("hint: {}", show::clean(hint)));
    }
}
