//! Mail clients on a test host that stay connected for as long as a test likes, and what they saw.
//!
//! Not here: what they do (`sessions.py`).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::time::Duration;

use serde_json::{Value, json};

use super::actor::Actor;
use super::mail::MailServer;
use super::mail_conf::PASSWORD;

const SCRIPT: &str = include_str!("sessions.py");

/// For all that one line orders. The script's own patience is a minute for each of them.
const ANSWER_MAX: Duration = Duration::from_secs(180);

/// A view: UIDs, and what is to be said of each message.
pub(crate) type View = Vec<(u64, String)>;

/// User -> what its clients are to do.
pub(crate) type Orders = BTreeMap<String, String>;

/// The clients of one host.
pub(crate) struct Sessions {
    host: &'static str,
    actor: Actor,
}

impl Sessions {
    pub(crate) fn new(server: &MailServer) -> Self {
        let plan = json!({
            "host": server.host().addr().to_string(), "spool": server.spool(), "password": PASSWORD,
            "lda": "/usr/lib/dovecot/dovecot-lda", "dovecot_conf": server.dovecot_conf(),
        });
        Self {
            host: server.host().name(),
            actor: Actor::running(server.host(), SCRIPT, OsStr::new(&plan.to_string())),
        }
    }

    fn tell(&mut self, orders: &Orders) {
        let line = serde_json::to_string(orders).expect("texts");
        self.actor.tell(&line);
    }

    /// The views of each user, in order; and all that was wrong.
    fn hear(&mut self, wrong: &mut Vec<String>) -> BTreeMap<String, Vec<View>> {
        let Some(said) = self.actor.answer(ANSWER_MAX) else {
            wrong.push(format!(
                "{}: the clients do not answer within {ANSWER_MAX:?}",
                self.host
            ));
            return BTreeMap::new();
        };
        let json = said.strip_prefix("ok ").expect("the script says ok");
        let all: BTreeMap<String, Value> = serde_json::from_str(json).expect("the script says JSON");
        let mut seen = BTreeMap::new();
        for (user, said) in all {
            for text in said["wrong"].as_array().into_iter().flatten() {
                wrong.push(format!("{}: {user}: {text}", self.host));
            }
            let views = serde_json::from_value(said["views"].clone()).expect("views");
            seen.insert(user, views);
        }
        seen
    }
}

/// Both hosts' clients do this at once. Panics with everything that was wrong.
#[track_caller]
pub(crate) fn at_once(both: &mut [Sessions; 2], orders: [&Orders; 2]) -> [BTreeMap<String, Vec<View>>; 2] {
    for (sessions, orders) in both.iter_mut().zip(orders) {
        sessions.tell(orders);
    }
    let mut wrong = Vec::new();
    let seen = both.each_mut().map(|sessions| sessions.hear(&mut wrong));
    assert!(wrong.is_empty(), "clients met this:\n{}", wrong.join("\n"));
    seen
}
