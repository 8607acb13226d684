//! Questions about what happened to mailboxes: answered from this brick's own history.
//!
//! Promises: nothing is changed; who asks waits for the disk, nobody else does.
//! Not here: what is remembered (`store::history`), words for people (`cli`).

use super::Cluster;
use crate::local::{HistoryAsk, HistoryJob, HistoryTell};
use mboxfs_types::admin::{Ask, Tell};
use std::time::Duration;
use tokio::{sync::oneshot, time::timeout};

/// A page may take the reading of a large mailbox.
const READ: Duration = Duration::from_secs(50);

/// Is it about the history?
pub(super) fn question(ask: &Ask) -> Option<HistoryAsk> {
    match ask {
        Ask::History(question) => Some(HistoryAsk::Page(question.clone())),
        Ask::Kept { place, len, skip } => Some(HistoryAsk::Message {
            place: *place,
            len: *len,
            skip: *skip,
        }),
        _ => None,
    }
}

impl Cluster {
    pub(super) async fn look_back(&self, ask: HistoryAsk) -> Tell {
        let (tell, told) = oneshot::channel();
        let refused = |why: String| Tell::Refused {
            why,
            hint: "mboxfs volume status".to_string(),
        };
        if let Err(why) = self.local.look_back(HistoryJob { ask, tell }) {
            return refused(why);
        }
        match timeout(READ, told).await {
            Ok(Ok(Ok(HistoryTell::Page(page)))) => Tell::History(page),
            Ok(Ok(Ok(HistoryTell::Message(bytes)))) => Tell::Kept(bytes.into()),
            Ok(Ok(Err(why))) => refused(why),
            Ok(Err(_)) => refused("the brick was stopped meanwhile".to_string()),
            Err(_) => refused(format!("the disk did not answer within {} s", READ.as_secs())),
        }
    }
}
