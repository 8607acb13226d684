//! `heal status --watch`: asked again every second, until nothing is left to heal.
//!
//! Promises: on a terminal the screen is drawn anew with progress bars; elsewhere (a log, a pipe) an answer is written only
//! when it differs from the last one. Ends with code 0 when both bricks have everything; a brickd that is away for a moment is waited for.
//! Not here: the text (`heal`), JSON (`json`).

use crate::{
    DONE, Options, REFUSED, SIGNALLED, ask, complain, demo::Signals, hint_at, json, say, show, talk, words::Command,
};
use mboxfs_rpc::RpcError;
use mboxfs_types::admin::Tell;
use std::{
    io::{IsTerminal, stdout},
    time::Duration,
};

const EVERY: Duration = Duration::from_secs(1);
/// Cursor to the corner, and everything from there on erased (ECMA-48).
const CLEAR: &str = "\x1b[H\x1b[J";

/// The exit code.
pub(crate) fn run(options: &Options, command: &Command) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(watch(options, command)),
        Err(error) => complain(command, error, "", REFUSED),
    }
}

async fn watch(options: &Options, command: &Command) -> u8 {
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return complain(command, error, "", REFUSED),
    };
    let drawn = stdout().is_terminal() && !options.json;
    let mut last = String::new();
    loop {
        let (text, code) = look(options, command, drawn).await;
        match code {
            Some(code) if text.is_empty() => return code,
            _ if drawn => {
                say(format!("{CLEAR}{text}"), DONE);
            }
            _ if text != last => {
                say(&text, DONE);
            }
            _ => {}
        }
        if let Some(code) = code {
            return code;
        }
        last = text;
        tokio::select! {
            number = signals.next() => return SIGNALLED + number,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

/// The text, and the exit code if this is the end. No text: what there is to say was said.
async fn look(options: &Options, command: &Command, drawn: bool) -> (String, Option<u8>) {
    let state = match ask(options, command).await {
        Ok(Tell::Done(state)) => state,
        Ok(Tell::Already(why)) => return (why, Some(DONE)),
        Ok(Tell::History(_) | Tell::Kept(_)) => return ("that is no answer".to_owned(), None),
        Ok(Tell::Refused { why, hint }) => return (String::new(), Some(complain(command, why, &hint, REFUSED))),
        Err(RpcError::Refused { why, .. }) => {
            return (String::new(), Some(complain(command, why, "mboxfs --version", REFUSED)));
        }
        Err(error) => return (format!("brickd at {}: {error}", options.brickd), None),
    };
    let shown = if options.json {
        json::answer(command, &state)
    } else {
        show::watched(command, &state, drawn)
    };
    match shown {
        Ok(text) => (text, show::is_healthy(command, &state).then_some(DONE)),
        Err(why) => {
            talk(why);
            hint_at("mboxfs volume list");
            (String::new(), Some(REFUSED))
        }
    }
}
