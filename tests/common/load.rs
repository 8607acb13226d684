//! Mail traffic on both hosts at once, and the ledger of what was promised to whom.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::Duration;

use serde_json::{Value, json};

use super::host::{Host, users};
use super::mail::MailServer;
use super::wait::holds_within;

/// What happens on each of the two hosts.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seconds: u64,
    /// How many mailboxes take part. Fewer means more writers meet in one.
    pub(crate) mailboxes: usize,
    /// Messages per second over SMTP; 0 for none.
    pub(crate) smtp_rate: f64,
    /// Messages per second through dovecot-lda; 0 for none.
    pub(crate) lda_rate: f64,
    /// Sessions that read, flag and expunge, side by side.
    pub(crate) imap_readers: u32,
    pub(crate) pop3_readers: u32,
    pub(crate) seed: u64,
}

/// A running load. Its clients are killed by pid if it is dropped before `finish`.
pub(crate) struct Load {
    seconds: u64,
    clients: Vec<Client>,
}

struct Client {
    name: String,
    host: &'static str,
    child: Child,
    reports: PathBuf,
    /// Its host was killed on purpose: it counts with what it had reported by then.
    forgiven: bool,
}

/// What became of all messages, as the clients were told.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// By Message-ID.
    pub(crate) sent: BTreeMap<String, Sent>,
    /// Message-IDs whose EXPUNGE was answered OK.
    pub(crate) expunged: BTreeSet<String>,
    /// Message-IDs that a client began to expunge, whatever came of it.
    pub(crate) undecided: BTreeSet<String>,
    /// What no client may ever see: each line is a failure.
    pub(crate) wrong: Vec<String>,
    /// Refused or broken commands, which a client would try again.
    pub(crate) trouble: Vec<String>,
    /// (mailbox, UIDVALIDITY, UID) that named more than one message, with all their Message-IDs.
    pub(crate) uid_conflicts: Vec<String>,
    /// IMAP and POP3 sessions that ended well.
    pub(crate) visits: usize,
    /// The longest that a client waited for its 250 or exit 0.
    pub(crate) accept_seconds_max: f64,
}

/// One message on its way.
#[derive(Debug)]
pub(crate) struct Sent {
    pub(crate) user: String,
    /// Checksum of the canonical body (`clients.py`).
    pub(crate) sum: String,
    /// False if the answer was lost: then the message may be there, once, or not at all.
    pub(crate) accepted: bool,
}

impl Ledger {
    pub(crate) fn accepted_count(&self) -> usize {
        self.sent.values().filter(|sent| sent.accepted).count()
    }
}

impl Load {
    /// Starts the same traffic on both servers, to the same mailboxes.
    #[track_caller]
    pub(crate) fn start(servers: [&MailServer; 2], plan: &Plan) -> Self {
        let names: Vec<String> = users().into_iter().map(|user| user.name).take(plan.mailboxes).collect();
        let mut clients = Vec::new();
        for server in servers {
            let host = server.host().name();
            let base = |mode: &str| {
                json!({ "tag": format!("{mode}.{host}.{}", plan.seed), "users": names, "seconds": plan.seconds,
                        "seed": format!("{} {host} {mode}", plan.seed), "pause": 0.05 })
            };
            let mut start = |mode: &str, client_plan: Value| {
                let name = format!("{host} {mode}");
                let reports = server.host().dir().join(format!("load-{mode}-{}", plan.seed));
                let child = server.client(mode, client_plan, &reports);
                clients.push(Client {
                    name,
                    host,
                    child,
                    reports,
                    forgiven: false,
                });
            };
            for (mode, rate) in [("smtp", plan.smtp_rate), ("lda", plan.lda_rate)] {
                if rate > 0.0 {
                    let mut writer = base(mode);
                    writer["rate"] = json!(rate);
                    start(mode, writer);
                }
            }
            if plan.imap_readers + plan.pop3_readers > 0 {
                let mut readers = base("readers");
                readers["imap"] = json!(plan.imap_readers);
                readers["pop3"] = json!(plan.pop3_readers);
                start("readers", readers);
            }
        }
        Self {
            seconds: plan.seconds,
            clients,
        }
    }

    /// Says that the clients on this host may end early: the test is about to kill everything on it.
    pub(crate) fn forgive(&mut self, host: &Host) {
        self.clients
            .iter_mut()
            .filter(|client| client.host == host.name())
            .for_each(|client| client.forgiven = true);
    }

    /// Waits until all clients are through (as long again as planned, and a minute for locks) and adds up their reports.
    #[track_caller]
    pub(crate) fn finish(mut self) -> Ledger {
        let deadline = Duration::from_secs(2 * self.seconds + 60);
        let mut ledger = Ledger::default();
        let mut uids = BTreeMap::new();
        for client in &mut self.clients {
            let mut status = None;
            let ended = holds_within(deadline, || {
                status = client.child.try_wait().expect("the child can be waited for");
                status.is_some()
            });
            assert!(
                ended,
                "{}: the load did not end within {deadline:?}; it hangs in a session",
                client.name
            );
            if !client.forgiven && !status.is_some_and(|status| status.success()) {
                ledger
                    .wrong
                    .push(format!("{}: the client itself failed: {status:?}", client.name));
            }
            let text = fs::read_to_string(&client.reports).expect("the report file is there");
            for line in text.lines() {
                let report: Value = serde_json::from_str(line).expect("a report is one line of JSON");
                ledger.add(&client.name, &report, &mut uids);
            }
        }
        ledger.uid_conflicts = uids
            .into_iter()
            .filter(|(_, idents): &(_, BTreeSet<String>)| idents.len() > 1)
            .map(|(uid, idents)| format!("{uid}: {idents:?}"))
            .collect();
        ledger
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        for client in &mut self.clients {
            // An error means that it has ended already.
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

impl Ledger {
    fn add(&mut self, client: &str, report: &Value, uids: &mut BTreeMap<String, BTreeSet<String>>) {
        let idents = || report["ids"].as_array().into_iter().flatten().map(text);
        match &*text(&report["what"]) {
            "sending" => {
                let sent = Sent {
                    user: text(&report["user"]),
                    sum: text(&report["sum"]),
                    accepted: false,
                };
                let before = self.sent.insert(text(&report["id"]), sent);
                assert!(before.is_none(), "the rig sent a Message-ID twice: {report}");
            }
            "accepted" => {
                let sent = self.sent.get_mut(&text(&report["id"])).expect("said to be sent before");
                sent.accepted = true;
                let seconds = report["seconds"].as_f64().unwrap_or_default();
                self.accept_seconds_max = self.accept_seconds_max.max(seconds);
            }
            "expunging" => self.undecided.extend(idents()),
            "expunged" => self.expunged.extend(idents()),
            "uid" => {
                let uid = format!("{} {} {}", report["user"], report["validity"], report["uid"]);
                uids.entry(uid).or_default().insert(text(&report["id"]));
            }
            "visit" => self.visits += 1,
            "wrong" => self.wrong.push(format!(
                "{client}: {}: {}",
                text(&report["where"]),
                text(&report["text"])
            )),
            "trouble" => self.trouble.push(format!(
                "{client}: {}: {}",
                text(&report["where"]),
                text(&report["text"])
            )),
            other => panic!("clients.py and load.rs disagree about {other:?}"),
        }
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
