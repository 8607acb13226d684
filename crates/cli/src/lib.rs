//! `mboxfs`, the operator's command: one-shot, or a prompt.
//!
//! Promises: stdout is data, stderr is talk. Exit codes: 0 done, 1 refused or degraded, 2 wrong usage, 3 brickd not
//! reachable. What destroys asks first; without a terminal it needs `--yes`.
//! Not here: what the verbs do (`brickd::cluster`), how answers look (`show`), how words are read (`words`).

mod show;
mod words;

use mboxfs_rpc::admin::{self, AdminSet, AdminState, AdminStatus, AdminTell, AdminWhat, Verb};
use std::{
    io::{BufRead, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};
use words::{Command, Options};

/// A brickd that starts a volume reads its log first.
const ANSWER: Duration = Duration::from_secs(30);

const HELP: &str = "usage: mboxfs [--brickd HOST:PORT] [--json] [--yes] [VERB ...]

  peer probe HOST | peer status | peer detach HOST | pool list
  volume create NAME replica 2 transport tcp HOST1:/PATH HOST2:/PATH [force]
  volume info | start NAME | stop NAME | delete NAME | status [NAME] | list
  heal status [NAME]

Without a verb: a prompt. Exit codes: 0 done, 1 refused or degraded, 2 wrong usage, 3 brickd not reachable.";

/// The whole program.
#[must_use]
pub fn main() -> ExitCode {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let (options, rest) = match words::options(&all) {
        Ok(parsed) => parsed,
        Err(why) => return ExitCode::from(wrong(&why)),
    };
    if options.version {
        println!("mboxfs {}", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    ExitCode::from(if rest.is_empty() && !options.help {
        prompt(&options)
    } else {
        once(&options, &rest)
    })
}

fn prompt(options: &Options) -> u8 {
    let mut last = 0;
    let talk = std::io::stdin().is_terminal();
    loop {
        if talk {
            print!("mboxfs> ");
            let _ = std::io::stdout().flush();
        }
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {}
        }
        let rest: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        match rest.first().map(String::as_str) {
            None => {}
            Some("quit" | "exit") => return last,
            Some(_) => last = once(options, &rest),
        }
    }
}

fn wrong(why: &str) -> u8 {
    eprintln!("error: could not understand the command: {why}\nhint: mboxfs help");
    2
}

fn once(options: &Options, rest: &[String]) -> u8 {
    if options.help || rest.first().is_some_and(|w| w == "help") {
        println!("{HELP}");
        return 0;
    }
    let command = match words::command(rest) {
        Ok(command) => command,
        Err(why) => return wrong(&why),
    };
    if let Some(question) = command.question()
        && !options.yes
        && !asked(&question)
    {
        eprintln!("error: could not {}: not confirmed\nhint: add --yes", command.phrase());
        return 2;
    }
    let tell = match ask(options, command.verb()) {
        Ok(tell) => tell,
        Err(why) => {
            eprintln!(
                "error: could not {}: {why}\nhint: is brickd running? systemctl status brickd",
                command.phrase()
            );
            return 3;
        }
    };
    if !tell.refused.is_empty() {
        eprintln!("{}", command.refusal(&tell.refused));
        if !tell.hint.is_empty() {
            eprintln!("hint: {}", tell.hint);
        }
        return 1;
    }
    let state = tell.state.unwrap_or_default();
    let (text, code) = if options.json && command.is_question() {
        (show::json(&state), show::health(&command, &state))
    } else {
        show::text(&command, &state)
    };
    let out = if code == 0 || command.is_question() {
        writeln!(std::io::stdout(), "{text}")
    } else {
        writeln!(std::io::stderr(), "{text}")
    };
    let _ = out; // a closed pipe is nobody's fault
    code
}

fn asked(question: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        return false;
    }
    print!("{question} (y/n) ");
    let _ = std::io::stdout().flush();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).is_ok() && line.trim().eq_ignore_ascii_case("y")
}

fn ask(options: &Options, verb: Verb) -> Result<AdminTell, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| e.to_string())?;
    runtime
        .block_on(admin::ask(&options.brickd, verb, ANSWER))
        .map_err(|e| e.to_string())
}

impl Command {
    fn verb(&self) -> Verb {
        let set = |name: &String, what: AdminWhat| {
            Verb::Set(AdminSet {
                name: name.clone(),
                what: what.into(),
                here: false,
            })
        };
        match self {
            Self::Probe(host) => Verb::Probe(admin::AdminProbe { host: host.clone() }),
            Self::Detach(host) => Verb::Detach(admin::AdminDetach { host: host.clone() }),
            Self::Create { name, bricks, force } => Verb::Create(admin::AdminCreate {
                name: name.clone(),
                bricks: bricks.clone(),
                force: *force,
            }),
            Self::Start(name) => set(name, AdminWhat::AdminStart),
            Self::Stop(name) => set(name, AdminWhat::AdminStop),
            Self::Delete(name) => set(name, AdminWhat::AdminDelete),
            _ => Verb::Status(AdminStatus { deep: true }),
        }
    }
}

/// The other brickd's state, if it answered.
fn peer_state(state: &AdminState) -> Option<&AdminState> {
    state.peers.first().and_then(|p| p.state.as_ref())
}
