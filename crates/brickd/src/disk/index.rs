//! The thread that reads much: whole mailboxes for a merge, seconds for a large one, blocks for a resync, and the history, for
//! operators. The files thread goes on meanwhile.
//!
//! Promises: one after the other, in the order asked for; a file, and the history, is as the effects given before the look
//! left it, since the files thread opened it (K3); it stops soon when the disk is halted.
//!
//! Not here: whether the file changed meanwhile (`brick` tells by its version).

use super::Common;
use crate::local::{HistoryAsk, HistoryJob, HistoryTell};
use mboxfs_store::{Content, Files, Leisure, Past};
use mboxfs_types::{Errno, disk::Done, history::KEPT_BYTES_MAX};
use std::{
    io,
    sync::{atomic::AtomicBool, mpsc::Receiver},
};

/// Something to be read.
pub(super) enum IndexJob {
    Look {
        ticket: u64,
        leisure: Leisure,
    },
    History {
        past: Past,
        /// What the mailbox holds now.
        there: Result<Option<Content>, Errno>,
        job: HistoryJob,
    },
}

impl IndexJob {
    pub(super) fn history(files: &Files, job: HistoryJob) -> Self {
        let path = match &job.ask {
            HistoryAsk::Page(question) if question.gone => question.path.as_deref(),
            _ => None,
        };
        Self::History {
            past: files.past(),
            there: path.map_or(Ok(None), |path| files.messages_at(path)),
            job,
        }
    }
}

pub(super) fn run(jobs: &Receiver<IndexJob>, common: &Common) {
    let halted = &*common.halted;
    for job in jobs {
        match job {
            IndexJob::Look { ticket, leisure } => {
                let result = leisure.answer(halted);
                common.say(Done::Answer { ticket, result });
            }
            IndexJob::History { past, there, job } => {
                let there = there.and_then(|content| content.map_or(Ok(Vec::new()), |c| c.identities(halted)));
                let answer = match there {
                    Ok(there) => answer(&past, &job.ask, &there, halted).map_err(|e| refusal(&e)),
                    Err(_) => Err("the mailbox cannot be read".to_string()),
                };
                let _ = job.tell.send(answer); // who asked may have gone
            }
        }
    }
}

fn answer(past: &Past, ask: &HistoryAsk, there: &[[u8; 32]], halted: &AtomicBool) -> io::Result<HistoryTell> {
    Ok(match ask {
        HistoryAsk::Page(question) => HistoryTell::Page(past.page(question, there, halted)?),
        HistoryAsk::Message { place, len, skip } => {
            HistoryTell::Message(past.message(*place, *len, *skip, KEPT_BYTES_MAX)?)
        }
    })
}

fn refusal(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "it is not in the history any more".to_string(),
        io::ErrorKind::InvalidData => "its bytes in the history are damaged".to_string(),
        io::ErrorKind::Interrupted => "the brick is about to stop".to_string(),
        _ => error.to_string(),
    }
}
