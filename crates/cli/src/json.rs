//! The same answers for scripts.
//!
//! Promises: keys are only added, never renamed; numbers are numbers; names are whole and unescaped but for JSON's rules.
//! Not here: words for people (`show`).

use crate::{
    heal,
    show::{self, Side},
    words::{Command, Key},
};
use mboxfs_types::admin::{Healing, KeptTwice, ScrubReport};
use mboxfs_types::quorum::Quorum;
use mboxfs_types::{
    Nanos,
    admin::{HostState, PeerState, ShownVolumeId, Volume},
};
use serde_json::{Value, json};

/// One JSON value.
///
/// Errors: as `show::answer`.
pub(crate) fn answer(command: &Command, state: &HostState) -> Result<String, String> {
    let value = match command {
        Command::PeerStatus => json!({ "peers": peers(state) }),
        Command::Pool => {
            let mut hosts = peers(state);
            hosts.push(json!({
                "uuid": state.id.to_string(), "host": "localhost", "port": state.port, "names": [state.host],
                "state": "Peer in Cluster", "connected": true, "fingerprint": state.fingerprint.to_string(),
            }));
            json!({ "hosts": hosts })
        }
        Command::List => {
            let names: Vec<&str> = state.volume.iter().map(|(v, _)| v.name.as_str()).collect();
            json!({ "volumes": names })
        }
        Command::Info(name) => {
            let found = show::volume(state, name.as_deref())?;
            json!({ "volumes": found.into_iter().map(|v| info(v, &state.quorum)).collect::<Vec<_>>() })
        }
        Command::Status(name) | Command::Heal(name) => served(state, name.as_deref())?,
        Command::Scrub { name, .. } => served(state, Some(name))?,
        Command::Get { name, .. } => {
            show::volume(state, Some(name))?;
            options(&state.quorum)
        }
        Command::HealInfo(name) | Command::HealSummary(name) | Command::HealSplit(name) => {
            served(state, name.as_deref())?
        }
        _ => Value::Null,
    };
    serde_json::to_string_pretty(&value).map_err(|e| e.to_string())
}

fn peers(state: &HostState) -> Vec<Value> {
    let peer = |p: &PeerState| {
        let (standing, connected) = show::peer_state(state, p);
        json!({
            "uuid": p.id.to_string(), "host": p.host, "port": p.port, "names": p.names, "state": standing,
            "connected": connected, "fingerprint": p.fingerprint.to_string(),
        })
    };
    state.peers.iter().map(peer).collect()
}

fn info(v: &Volume, quorum: &Quorum) -> Value {
    let bricks: Vec<Value> = v
        .bricks
        .iter()
        .map(|b| json!({ "host": b.host, "port": b.port, "path": b.path }))
        .collect();
    json!({
        "name": v.name, "id": ShownVolumeId(v.id).to_string(), "type": "Replicate", "replica": 2, "transport": "tcp",
        "status": show::shown_phase(v), "bricks": bricks, "options": options(quorum),
    })
}

fn options(quorum: &Quorum) -> Value {
    let pair = |key: Key| (key.word().to_owned(), Value::from(show::value(quorum, key)));
    let known = Key::ALL
        .into_iter()
        .filter(|k| *k == Key::Quorum || quorum.witness.is_some());
    Value::Object(known.map(pair).collect())
}

fn seconds(time: Nanos) -> f64 {
    time.0 as f64 / 1e9
}

fn served(state: &HostState, name: Option<&str>) -> Result<Value, String> {
    let Some(v) = show::started(state, name)? else {
        return Ok(json!({ "volumes": [] }));
    };
    let sides = show::sides(state, v);
    let healthy = sides.iter().all(|s| s.report.is_some_and(show::is_good));
    let told = |i: usize| show::trouble(&sides[i], &sides[1 - i]);
    let bricks: Vec<Value> = (0..2).map(|i| brick(&sides[i], told(i))).collect();
    Ok(json!({ "volumes": [{ "name": v.name, "healthy": healthy, "bricks": bricks }] }))
}

fn scrubbed(scrub: &ScrubReport) -> Value {
    let bad = scrub.bad.iter();
    let bad: Vec<Value> = bad
        .map(|f| json!({ "path": f.path, "blocks": f.blocks, "on_both_bricks": f.both }))
        .collect();
    let quarantined = scrub.quarantined.iter();
    let quarantined: Vec<Value> = quarantined
        .map(|q| json!({ "path": q.path, "messages": q.messages, "since": q.since.secs, "kept": q.kept }))
        .collect();
    json!({
        "state": crate::scrub::word(scrub), "last_completed": scrub.mark.ended.map(|t| t.secs),
        "last_started": scrub.mark.started.map(|t| t.secs), "bytes": scrub.bytes, "bytes_checked": scrub.checked,
        "blocks_repaired": scrub.repaired, "damaged": bad,
        "quarantined": quarantined,
    })
}

fn brick(side: &Side<'_>, trouble: Option<String>) -> Value {
    let mut value = json!({
        "host": side.brick.host, "port": side.brick.port, "path": side.brick.path, "here": side.here,
        "connected": side.host.is_some(), "online": side.report.is_some(), "pid": side.host.map(|h| h.pid), "trouble": trouble,
    });
    if let (Some(report), Some(map)) = (side.report, value.as_object_mut()) {
        let behind = heal::behind(side);
        let mounts = report.sessions.iter().filter(|s| s.2).count();
        let more = json!({
            "status": show::words(report.status), "primary": report.primary, "peer_connected": report.peer_connected,
            "records_on_one_copy": report.debt_records, "bytes_on_one_copy": report.debt_bytes,
            "messages_on_one_copy": report.debt_messages,
            "files_pending": behind.iter().map(|b| b.path).collect::<Vec<_>>(), "last": report.last, "commit": report.commit,
            "peer_durable": report.peer_durable, "mounts": mounts, "inodes": report.inodes,
            "bytes_total": report.space.total, "bytes_free": report.space.free, "round_trips": report.round_trips,
            "requests": report.requests, "flushes": report.flushes, "waits_for": report.waits.map(show::waiting),
            "witness_answers": report.witness, "scrub": scrubbed(&report.scrub),
            "copying": report.resync.map(|r| json!({
                "files": r.files, "files_done": r.files_done, "files_copied": r.files_copied, "bytes": r.bytes,
                "bytes_done": r.bytes_done, "bytes_copied": r.copied, "seconds": seconds(r.elapsed),
                "seconds_left": r.left().map(seconds),
            })),
        });
        map.extend(more.as_object().cloned().unwrap_or_default());
        let why = |b: &heal::Behind<'_>| json!({ "path": b.path, "why": b.why, "healing": b.busy });
        let counts = heal::counts(report);
        let more = json!({
            "pending": behind.iter().map(why).collect::<Vec<_>>(),
            "mailboxes": {
                "pending": counts.pending, "healing": counts.healing, "merged": counts.merged,
                "quarantined": counts.quarantined,
            },
            "healing": report.healing.as_ref().map(healing), "last_scrub": report.scrub.mark.ended.map(|t| t.secs),
            "kept_twice": report.conflicts.iter().map(kept_twice).collect::<Vec<_>>(),
        });
        map.extend(more.as_object().cloned().unwrap_or_default());
    }
    value
}

fn kept_twice(kept: &KeptTwice) -> Value {
    json!({ "path": kept.path, "why": heal::why_twice(kept), "since": kept.since.secs })
}

fn healing(healing: &Healing) -> Value {
    let (rate, left) = heal::rate(healing);
    json!({
        "what": if healing.merges { "merge" } else { "send" }, "done": healing.done, "total": healing.total,
        "unit": if healing.merges { "files" } else { "records" }, "per_second": rate, "seconds_left": left,
        "seconds": healing.elapsed.0 as f64 / 1e9, "now": healing.at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{alone, fresh, pooled};

    fn value(command: &Command, state: &HostState) -> Value {
        serde_json::from_str(&answer(command, state).unwrap()).unwrap()
    }

    #[test]
    fn each_question_has_an_answer_for_scripts() {
        assert_eq!(value(&Command::PeerStatus, &fresh()), json!({ "peers": [] }));
        assert_eq!(value(&Command::List, &fresh()), json!({ "volumes": [] }));
        assert_eq!(value(&Command::Status(None), &fresh()), json!({ "volumes": [] }));
        let pool = value(&Command::Pool, &pooled());
        assert_eq!(pool["hosts"][0]["host"], "H2");
        assert_eq!(pool["hosts"][1]["host"], "localhost");
        assert_eq!(pool["hosts"][0]["fingerprint"], "22".repeat(32));
        assert_eq!(pool["hosts"][1]["fingerprint"], "11".repeat(32));
        let info = value(&Command::Info(None), &alone());
        assert_eq!(info["volumes"][0]["status"], "Started");
        assert_eq!(info["volumes"][0]["bricks"][1]["path"], "/glusterfs/vol0");
        for command in [Command::Heal(None), Command::HealInfo(Some("gVol0".into()))] {
            let heal = &value(&command, &alone())["volumes"][0];
            assert_eq!(heal["healthy"], false);
            assert_eq!(heal["bricks"][0]["status"], "alone");
            assert_eq!(heal["bricks"][0]["records_on_one_copy"], 3);
            assert_eq!(heal["bricks"][0]["files_pending"][1], "/b\u{1b}[31mob");
            assert_eq!(heal["bricks"][0]["messages_on_one_copy"], 2);
            assert_eq!(heal["bricks"][0]["pending"][0]["path"], "/alice");
            assert_eq!(heal["bricks"][0]["mailboxes"]["pending"], 2);
            assert_eq!(heal["bricks"][1]["online"], false);
            assert_eq!(heal["bricks"][1]["pid"], Value::Null);
        }
        let nope = Command::Info(Some("nope".into()));
        assert_eq!(answer(&nope, &alone()).unwrap_err(), "Volume nope does not exist");
    }
}
