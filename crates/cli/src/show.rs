//! Answers as people and scripts know them from gluster (10.3); `--json` for the rest.
//!
//! Promises: names are never cut; exit code 1 with what is degraded. Not here: asking.

use crate::{peer_state, words::Command};
use mboxfs_rpc::admin::{AdminBrick, AdminState, AdminVolume};
use serde_json::{Value, json};
use std::fmt::Write;

/// The text and the exit code.
pub(crate) fn text(command: &Command, state: &AdminState) -> (String, u8) {
    let code = health(command, state);
    let text = match command {
        Command::Probe(_) => "peer probe: success".to_owned(),
        Command::Detach(_) => "peer detach: success".to_owned(),
        Command::Create { name, .. } => {
            format!("volume create: {name}: success: please start the volume to access data")
        }
        Command::Start(name) => format!("volume start: {name}: success"),
        Command::Stop(name) => format!("volume stop: {name}: success"),
        Command::Delete(name) => format!("volume delete: {name}: success"),
        Command::PeerStatus => peers(state),
        Command::Pool => pool(state),
        Command::List => state
            .volume
            .as_ref()
            .map_or("No volumes present in cluster".into(), |v| v.name.clone()),
        Command::Info(name) => volume(state, name).map_or_else(|e| e, info),
        Command::Status(name) => match volume(state, name) {
            Ok(v) if !v.started => format!("Volume {} is not started", v.name),
            Ok(v) => status(state, v),
            Err(e) => e,
        },
        Command::Heal(name) => volume(state, name).map_or_else(|e| e, |v| heal(state, v)),
    };
    (text, code)
}

fn volume<'a>(state: &'a AdminState, name: &Option<String>) -> Result<&'a AdminVolume, String> {
    match (&state.volume, name) {
        (None, None) => Err("No volumes present".into()),
        (Some(v), None) => Ok(v),
        (Some(v), Some(name)) if v.name == *name => Ok(v),
        (_, Some(name)) => Err(format!("Volume {name} does not exist")),
    }
}

/// Exit code: 1 if what was asked about is missing, stopped or degraded.
pub(crate) fn health(command: &Command, state: &AdminState) -> u8 {
    let healthy = |s: Option<&AdminState>| {
        s.and_then(|s| s.report.as_ref())
            .is_some_and(|r| r.status == "normal" && r.debt_records == 0)
    };
    let good = match command {
        Command::Info(Some(_)) => volume(state, &named(command)).is_ok(),
        Command::Status(name) | Command::Heal(name) => match volume(state, name) {
            Ok(v) => v.started && healthy(Some(state)) && healthy(peer_state(state)),
            Err(_) => state.volume.is_none() && name.is_none(),
        },
        _ => true,
    };
    u8::from(!good)
}

fn named(command: &Command) -> Option<String> {
    match command {
        Command::Info(name) | Command::Status(name) | Command::Heal(name) => name.clone(),
        _ => None,
    }
}

const fn connected(yes: bool) -> &'static str {
    if yes { "Connected" } else { "Disconnected" }
}

fn peers(state: &AdminState) -> String {
    if state.peers.is_empty() {
        return "peer status: No peers present".into();
    }
    let mut text = format!("Number of Peers: {}\n", state.peers.len());
    for p in &state.peers {
        let place = if p.port == 24009 {
            p.host.clone()
        } else {
            format!("{}:{}", p.host, p.port)
        };
        let state = connected(p.state.is_some());
        let _ = write!(
            text,
            "\nHostname: {place}\nUuid: {}\nState: Peer in Cluster ({state})",
            p.uuid
        );
    }
    text
}

fn pool(state: &AdminState) -> String {
    let mut text = "UUID\t\t\t\t\tHostname \tState\n".to_owned();
    for p in &state.peers {
        let _ = writeln!(text, "{}\t{}\t{}", p.uuid, p.host, connected(p.state.is_some()));
    }
    let _ = write!(text, "{}\tlocalhost\tConnected ", state.uuid);
    text
}

fn uuid(id: &[u8]) -> String {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    match hex.len() {
        32 => format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        ),
        _ => hex,
    }
}

fn place(brick: &AdminBrick) -> String {
    let port = if brick.port == 24009 {
        String::new()
    } else {
        format!(":{}", brick.port)
    };
    format!("{}{port}:{}", brick.host, brick.path)
}

fn info(v: &AdminVolume) -> String {
    let status = if v.started { "Started" } else { "Created" };
    let mut text = format!(
        " \nVolume Name: {}\nType: Replicate\nVolume ID: {}\nStatus: {status}\nSnapshot Count: 0\n\
         Number of Bricks: 1 x 2 = 2\nTransport-type: tcp\nBricks:",
        v.name,
        uuid(&v.id)
    );
    for (i, brick) in v.bricks.iter().enumerate() {
        let _ = write!(text, "\nBrick{}: {}", i + 1, place(brick));
    }
    text
}

/// The state of the brickd of each brick, Brick1 first.
fn sides<'a>(state: &'a AdminState, v: &'a AdminVolume) -> Vec<(&'a AdminBrick, Option<&'a AdminState>)> {
    let side = |i: usize| {
        if i == v.own as usize {
            Some(state)
        } else {
            peer_state(state)
        }
    };
    v.bricks.iter().enumerate().map(|(i, b)| (b, side(i))).collect()
}

fn status(state: &AdminState, v: &AdminVolume) -> String {
    let line = "-".repeat(78);
    let mut text = format!(
        "Status of volume: {}\n{:<43} {:>8}  {:>9}  {:<6}  Pid\n{line}",
        v.name, "Gluster process", "TCP Port", "RDMA Port", "Online"
    );
    let mut row = |what: &str, side: Option<&AdminState>, port: bool| {
        let up = side.filter(|s| s.report.is_some());
        let cell = |yes: bool, value: String| if yes { value } else { "N/A".into() };
        let (port, pid) = up.map_or((String::from("N/A"), String::from("N/A")), |s| {
            (cell(port, s.port.to_string()), s.pid.to_string())
        });
        let online = if up.is_some() { "Y" } else { "N" };
        let rdma = if up.is_some() && port != "N/A" { "0" } else { "N/A" };
        let _ = write!(text, "\n{what:<43} {port:<8}  {rdma:<9}  {online:<6}  {pid}");
    };
    for (brick, side) in sides(state, v) {
        row(&format!("Brick {}", place(brick)), side, true);
    }
    for (i, (brick, side)) in sides(state, v).into_iter().enumerate() {
        let host = if i == v.own as usize { "localhost" } else { &brick.host };
        row(&format!("Self-heal Daemon on {host}"), side, false);
    }
    let _ = write!(
        text,
        "\n \nTask Status of Volume {}\n{line}\nThere are no active volume tasks",
        v.name
    );
    text
}

fn heal(state: &AdminState, v: &AdminVolume) -> String {
    let mut text = String::new();
    for (brick, side) in sides(state, v) {
        let _ = writeln!(text, "Brick {}", place(brick));
        let Some(report) = side.and_then(|s| s.report.as_ref()) else {
            let why = if side.is_some() {
                "Volume is not started"
            } else {
                "Transport endpoint is not connected"
            };
            let _ = writeln!(text, "Status: {why}\nNumber of entries: -\n");
            continue;
        };
        for file in &report.debt_files {
            let _ = writeln!(text, "{file}");
        }
        let _ = writeln!(
            text,
            "Status: Connected\nState: {}\nChanges on this copy only: {} ({} bytes)\nNumber of entries: {}\n",
            words(&report.status),
            report.debt_records,
            report.debt_bytes,
            report.debt_files.len()
        );
    }
    text.trim_end().to_owned()
}

fn words(status: &str) -> &str {
    match status {
        "solo" => "alone",
        "learner" => "catching up",
        "boot" => "starting",
        other => other,
    }
}

/// Everything that is known, for scripts.
pub(crate) fn json(state: &AdminState) -> String {
    let brick = |b: &AdminBrick| json!({"host": b.host, "port": b.port, "path": b.path});
    let report = |s: &AdminState| -> Value {
        s.report.as_ref().map_or(Value::Null, |r| {
            json!({
                "state": words(&r.status), "peer_connected": r.peer_connected, "changes_on_this_copy_only": r.debt_records,
                "bytes_on_this_copy_only": r.debt_bytes, "files": r.debt_files, "round_trips": r.round_trips,
                "requests": r.requests, "mounts": r.mounts,
            })
        })
    };
    let peers: Vec<Value> = state
        .peers
        .iter()
        .map(|p| {
            let brick = p.state.as_ref().map_or(Value::Null, report);
            json!({"uuid": p.uuid, "host": p.host, "port": p.port, "connected": p.state.is_some(), "brick": brick})
        })
        .collect();
    let volume = state.volume.as_ref().map(|v| {
        json!({
            "name": v.name, "id": uuid(&v.id), "started": v.started, "type": "Replicate",
            "bricks": v.bricks.iter().map(brick).collect::<Vec<_>>(),
        })
    });
    let all = json!({
        "uuid": state.uuid, "port": state.port, "pid": state.pid, "data": state.data, "peers": peers, "volume": volume,
        "brick": report(state),
    });
    serde_json::to_string_pretty(&all).unwrap_or_default()
}
