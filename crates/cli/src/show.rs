//! Answers as people and scripts know them from gluster 10.3 (RIVALS.md 1.1).
//!
//! Promises: names are never cut; control characters in names never reach a terminal.
//! Not here: asking, what is to heal (`heal`), JSON (`json`).

use crate::{
    heal, scrub,
    words::{Command, Key},
};
use mboxfs_types::{
    BrickId, Timestamp,
    admin::{BrickAt, BrickReport, HostState, PeerState, Phase, ShownVolumeId, Status, Volume},
    limits,
    quorum::{Policy, Quorum, Waits},
};
use std::fmt::Write;

/// Width of the first column of `volume status`, as in gluster; more if a name needs it.
const PROCESS_WIDTH: usize = 43;
const LINE: &str = "------------------------------------------------------------------------------";

/// The text for stdout, without the last newline.
///
/// Errors: gluster's line about a volume that is not there or not started, for stderr.
pub(crate) fn answer(command: &Command, state: &HostState) -> Result<String, String> {
    Ok(match command {
        Command::Create { name, .. } => {
            format!("volume create: {name}: success: please start the volume to access data")
        }
        Command::Change { name, .. } => format!("{}: {name}: success", command.prefix()),
        Command::Probe { .. } | Command::Detach { .. } => format!("{}: success", command.prefix()),
        Command::Set { .. } => "volume set: success".into(),
        Command::Replace { reset: false, .. } => {
            "volume replace-brick: success: replace-brick commit force operation successful".into()
        }
        Command::Replace { force, .. } => format!(
            "volume reset-brick: success: reset-brick commit {}operation successful",
            if *force { "force " } else { "" }
        ),
        Command::Retire { .. } => "volume reset-brick: success: reset-brick start operation successful".into(),
        Command::ForceSolo(name) => format!("volume force-solo: {name}: success: this brick goes on alone"),
        Command::Get { name, key } => volume(state, Some(name))?.map_or_else(none, |_| options(&state.quorum, *key)),
        Command::PeerStatus => peers(state),
        Command::Pool => pool(state),
        Command::List => state
            .volume
            .as_ref()
            .map_or_else(|| "No volumes present in cluster".into(), |(v, _)| v.name.clone()),
        Command::Info(name) => volume(state, name.as_deref())?.map_or_else(none, |v| info(v, &state.quorum)),
        Command::Status(name) => served(state, name, |v| status(state, v))?,
        Command::Heal(name) => served(state, name, |v| heal::status(state, v, false))?,
        Command::HealInfo(name) => served(state, name, |v| heal::info(state, v))?,
        Command::HealSummary(name) => served(state, name, |v| heal::summary(state, v))?,
        Command::HealSplit(name) => served(state, name, |v| heal::split_brain(state, v))?,
        Command::HealStart { full, .. } => {
            let name = state.volume.as_ref().map_or("", |(v, _)| v.name.as_str());
            format!(
                "Launching heal operation to perform {} self heal on volume {name} has been successful \n\
                 Use heal info commands to check status.",
                crawl(*full)
            )
        }
        Command::Scrub { name, verb: None } => {
            started(state, Some(name))?.map_or_else(none, |v| scrub::status(state, v))
        }
        Command::Scrub { name, .. } => format!("volume scrub: {name}: success"),
    })
}

/// What `heal status --watch` shows.
///
/// Errors: as `answer`.
pub(crate) fn watched(command: &Command, state: &HostState, drawn: bool) -> Result<String, String> {
    match command {
        Command::Heal(name) => served(state, name, |v| heal::status(state, v, drawn)),
        _ => answer(command, state),
    }
}

/// gluster's names for what it looks through.
pub(crate) const fn crawl(full: bool) -> &'static str {
    if full { "full" } else { "index" }
}

fn served(state: &HostState, name: &Option<String>, text: impl FnOnce(&Volume) -> String) -> Result<String, String> {
    Ok(started(state, name.as_deref())?.map_or_else(none, text))
}

fn none() -> String {
    "No volumes present".into()
}

/// The volume that is meant; none: there is none, and none was named.
pub(crate) fn volume<'a>(state: &'a HostState, name: Option<&str>) -> Result<Option<&'a Volume>, String> {
    match (&state.volume, name) {
        (None, None) => Ok(None),
        (Some((v, _)), None) => Ok(Some(v)),
        (Some((v, _)), Some(name)) if v.name == name => Ok(Some(v)),
        (_, Some(name)) => Err(format!("Volume {name} does not exist")),
    }
}

pub(crate) fn started<'a>(state: &'a HostState, name: Option<&str>) -> Result<Option<&'a Volume>, String> {
    match volume(state, name)? {
        Some(v) if v.phase != Phase::Started => Err(format!("Volume {} is not started", v.name)),
        found => Ok(found),
    }
}

/// Do both bricks serve, with nothing on one copy only, and nothing damaged? Asked by the verbs whose exit code says so.
pub(crate) fn is_healthy(command: &Command, state: &HostState) -> bool {
    match command {
        Command::Status(_) | Command::Heal(_) | Command::Scrub { verb: None, .. } => match &state.volume {
            Some((v, _)) => sides(state, v).into_iter().all(|s| {
                // Without the witness all mail is safe, and one more failure stops it.
                let lame = matches!(command, Command::Status(_)) && s.report.is_some_and(|r| r.witness == Some(false));
                s.report.is_some_and(is_good) && !lame
            }),
            None => true,
        },
        _ => true,
    }
}

pub(crate) fn is_good(report: &BrickReport) -> bool {
    report.status == Status::Normal && report.debt_records == 0 && damage(report).is_none()
}

/// What an operator has to look at although both bricks are in step.
fn damage(report: &BrickReport) -> Option<&'static str> {
    match (report.scrub.quarantined.is_empty(), report.scrub.bad.is_empty()) {
        (false, _) => Some("damaged messages were taken out of mailboxes: mboxfs heal status"),
        (true, false) => Some("files are damaged: mboxfs heal status"),
        (true, true) => None,
    }
}

/// One brick of the volume, as far as it is known.
pub(crate) struct Side<'a> {
    pub(crate) brick: &'a BrickAt,
    pub(crate) here: bool,
    /// Its brickd, if it answered.
    pub(crate) host: Option<&'a HostState>,
    /// Its brain, if it serves.
    pub(crate) report: Option<&'a BrickReport>,
}

/// Brick1 first.
pub(crate) fn sides<'a>(state: &'a HostState, v: &'a Volume) -> [Side<'a>; 2] {
    let own = state.volume.as_ref().map(|(_, own)| *own);
    [BrickId::A, BrickId::B].map(|id| {
        let here = own == Some(id);
        // A brickd of another volume says nothing about this brick.
        let is_it = |s: &&HostState| s.volume.as_ref().is_some_and(|(w, side)| w.id == v.id && *side == id);
        let there = || state.peers.iter().filter_map(|p| p.state.as_deref()).find(is_it);
        let host = if here { Some(state) } else { there() };
        Side {
            brick: v.side(id),
            here,
            host,
            report: host.and_then(|s| s.report.as_ref()),
        }
    })
}

/// Names come from mailboxes and other hosts: nothing in them may steer a terminal.
pub(crate) fn clean(text: &str) -> String {
    let plain = |c: char| {
        if c.is_control() {
            c.escape_default().to_string()
        } else {
            c.to_string()
        }
    };
    text.chars().map(plain).collect()
}

fn at(host: &str, port: u16) -> String {
    let shown = if host.contains(':') {
        format!("[{host}]")
    } else {
        host.to_owned()
    };
    if port == limits::PORT {
        shown
    } else {
        format!("{shown}:{port}")
    }
}

pub(crate) fn place(brick: &BrickAt) -> String {
    format!("{}:{}", at(&brick.host, brick.port), brick.path)
}

// ---- the pool

/// Does it answer, and does it know us?
pub(crate) fn peer_state(state: &HostState, peer: &PeerState) -> (&'static str, bool) {
    match &peer.state {
        Some(there) if there.peers.iter().any(|p| p.id == state.id) => ("Peer in Cluster", true),
        Some(_) => ("Peer Rejected", true), // it was detached there
        None => ("Peer in Cluster", false),
    }
}

const fn connected(yes: bool) -> &'static str {
    if yes { "Connected" } else { "Disconnected" }
}

fn peers(state: &HostState) -> String {
    if state.peers.is_empty() {
        return "peer status: No peers present".into();
    }
    let mut text = format!("Number of Peers: {}", state.peers.len());
    for peer in &state.peers {
        let (standing, up) = peer_state(state, peer);
        let (host, id) = (at(&peer.host, peer.port), peer.id);
        let _ = write!(
            text,
            "\n\nHostname: {host}\nUuid: {id}\nState: {standing} ({})",
            connected(up)
        );
        if !peer.names.is_empty() {
            let _ = write!(text, "\nOther names:\n{}", peer.names.join("\n"));
        }
    }
    text
}

/// After a probe: whose key was taken without being compared.
pub(crate) fn met(command: &Command, state: &HostState) -> Option<String> {
    let Command::Probe {
        host,
        port,
        fingerprint: None,
    } = command
    else {
        return None;
    };
    let is_it = |p: &&PeerState| p.port == *port && (p.host == *host || p.names.contains(host));
    let peer = state.peers.iter().find(is_it)?;
    let key = peer.fingerprint;
    Some(format!(
        "{host} has the fingerprint {key}: there, mboxfs pool list shows it for localhost"
    ))
}

fn pool(state: &HostState) -> String {
    let peer = |p: &PeerState| (p.id, at(&p.host, p.port), peer_state(state, p).1, p.fingerprint);
    let mut rows: Vec<_> = state.peers.iter().map(peer).collect();
    rows.push((state.id, "localhost".into(), true, state.fingerprint));
    let width = rows.iter().map(|r| r.1.len()).max().unwrap_or_default();
    let mut text = format!("UUID\t\t\t\t\t{:<width$}\tState\tFingerprint", "Hostname");
    for (id, host, up, key) in rows {
        let _ = write!(text, "\n{id}\t{host:<width$}\t{} \t{key}", connected(up));
    }
    text
}

// ---- the volume

const fn phase(phase: Phase) -> &'static str {
    match phase {
        Phase::Created => "Created",
        Phase::Started => "Started",
        Phase::Stopped => "Stopped",
    }
}

pub(crate) fn shown_phase(volume: &Volume) -> &'static str {
    phase(volume.phase)
}

fn info(v: &Volume, quorum: &Quorum) -> String {
    let mut text = format!(
        " \nVolume Name: {}\nType: Replicate\nVolume ID: {}\nStatus: {}\nSnapshot Count: 0\nNumber of Bricks: 1 x 2 = 2\n\
         Transport-type: tcp\nBricks:",
        v.name,
        ShownVolumeId(v.id),
        phase(v.phase)
    );
    for (i, brick) in v.bricks.iter().enumerate() {
        let _ = write!(text, "\nBrick{}: {}", i + 1, place(brick));
    }
    if *quorum != Quorum::default() {
        text.push_str("\nOptions Reconfigured:");
        for key in Key::ALL {
            let _ = write!(text, "\n{}: {}", key.word(), value(quorum, key));
        }
    }
    text
}

/// An option as `volume set` takes it.
pub(crate) fn value(quorum: &Quorum, key: Key) -> String {
    match (key, &quorum.witness) {
        (Key::Quorum, _) => quorum.policy.word().into(),
        (Key::Witness, Some(w)) => at(&w.host, w.port),
        (Key::Witness, None) => "(null)".into(), // gluster's word for what was never set
    }
}

/// gluster's table.
fn options(quorum: &Quorum, key: Option<Key>) -> String {
    let mut text = format!("{:<40}{:<40}\n{:<40}{:<40}", "Option", "Value", "------", "-----");
    for key in Key::ALL.into_iter().filter(|k| key.is_none_or(|one| one == *k)) {
        let _ = write!(text, "\n{:<40}{:<40}", key.word(), value(quorum, key));
    }
    text
}

fn status(state: &HostState, v: &Volume) -> String {
    // Process, TCP port, online, pid.
    let mut rows: Vec<(String, Option<u16>, bool, Option<u32>)> = Vec::new();
    let sides = sides(state, v);
    for side in &sides {
        let serving = side.host.filter(|_| side.report.is_some());
        let name = format!("Brick {}", place(side.brick));
        rows.push((name, serving.map(|h| h.port), serving.is_some(), serving.map(|h| h.pid)));
    }
    if let Some(witness) = state
        .quorum
        .witness
        .as_ref()
        .filter(|_| state.quorum.policy == Policy::Witness)
    {
        let heard = |s: &Side<'_>| s.report.and_then(|r| r.witness) == Some(true);
        let online = sides.iter().any(heard);
        let name = format!("Witness {}", at(&witness.host, witness.port));
        rows.push((name, online.then_some(witness.port), online, None));
    }
    // The daemon that heals is brickd itself; gluster names the own host first.
    for side in sides.iter().filter(|s| s.here).chain(sides.iter().filter(|s| !s.here)) {
        let host = if side.here {
            "localhost".into()
        } else {
            at(&side.brick.host, side.brick.port)
        };
        let name = format!("Self-heal Daemon on {host}");
        rows.push((name, None, side.host.is_some(), side.host.map(|h| h.pid)));
    }
    let width = rows
        .iter()
        .map(|r| r.0.len())
        .max()
        .unwrap_or_default()
        .max(PROCESS_WIDTH);
    let line = LINE.to_owned() + &"-".repeat(width - PROCESS_WIDTH);
    let mut text = format!("Status of volume: {}\n", v.name);
    let _ = write!(
        text,
        "{:<width$} TCP Port  RDMA Port  Online  Pid\n{line}",
        "Gluster process"
    );
    for (name, port, online, pid) in rows {
        let cell = |n: Option<String>| n.unwrap_or_else(|| "N/A".into());
        let rdma = port.map(|_| "0".into());
        let (port, rdma, pid) = (
            cell(port.map(|p| p.to_string())),
            cell(rdma),
            cell(pid.map(|p| p.to_string())),
        );
        let online = if online { "Y" } else { "N" };
        let _ = write!(text, "\n{name:<width$} {port:<9} {rdma:<10} {online:<7} {pid}");
    }
    for side in &sides {
        if let Some(what) = side.report.and_then(|r| r.waits) {
            let _ = write!(text, "\n \nBrick {} {}", place(side.brick), waiting(what));
            if what != Waits::Soon {
                let host = &side.brick.host;
                let _ = write!(
                    text,
                    "; if its peer is lost for good, on {host}: mboxfs volume force-solo {}",
                    v.name
                );
            }
        }
    }
    let _ = write!(
        text,
        "\n \nTask Status of Volume {}\n{line}\nThere are no active volume tasks\n ",
        v.name
    );
    for (i, side) in sides.iter().enumerate() {
        if let Some(why) = trouble(side, &sides[1 - i]) {
            let _ = write!(text, "\nBrick {}: {why}", place(side.brick));
        }
    }
    text
}

/// Why a brick is not in step, by its own words or by those of the other one; or what is wrong with its files.
pub(crate) fn trouble(side: &Side<'_>, other: &Side<'_>) -> Option<String> {
    if let Some(report) = side.report.filter(|r| r.status == Status::Normal) {
        return damage(report).map(str::to_owned);
    }
    let own = side.report.map(|r| words(r.status));
    let told = other.report.and_then(|r| r.peer_away.as_ref());
    let told = told.map(|a| format!("away since {}: {}", utc(a.since), clean(&a.why)));
    match (own, told) {
        (Some(own), Some(told)) => Some(format!("{own}; {told}")),
        (own, told) => told.or_else(|| own.map(str::to_owned)),
    }
}

/// `2026-11-24 02:54:28 UTC`. Days to a date as in Howard Hinnant's "chrono-Compatible Low-Level Date Algorithms".
pub(crate) fn utc(time: Timestamp) -> String {
    let (days, rest) = (time.secs.div_euclid(86_400), time.secs.rem_euclid(86_400));
    let z = days + 719_468;
    let (era, of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let moon = (5 * of_year + 2) / 153;
    let (day, month) = (
        of_year - (153 * moon + 2) / 5 + 1,
        if moon < 10 { moon + 3 } else { moon - 9 },
    );
    let year = year + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

// ---- what is to heal

/// Why a brick says nothing, in gluster's place for it.
pub(crate) const fn silence(side: &Side<'_>) -> &'static str {
    match side.host {
        Some(_) => "Volume is not served there",
        None => "Transport endpoint is not connected",
    }
}

pub(crate) const fn words(status: Status) -> &'static str {
    match status {
        Status::Boot => "starting",
        Status::Suspect => "lost its peer",
        Status::Normal => "normal",
        Status::Solo => "alone",
        Status::Learner => "catching up",
        Status::Diverged => "diverged",
        Status::Stalled => "disk stalled",
        Status::Waiting => "waiting",
    }
}

/// What a brick waits for.
pub(crate) const fn waiting(what: Waits) -> &'static str {
    match what {
        Waits::Soon => "waits some seconds for its peer",
        Waits::Survivor => "waits for its peer, which was alone last and has mail that is missing here",
        Waits::Both => "waits for its peer: quorum both",
        Waits::Witness => "waits for its peer or the witness, and reaches neither",
        Waits::Amnesia => "waits for its peer: the witness has lost this volume's register",
        Waits::Unsettled => "waits for its peer: a change of the quorum was cut off",
    }
}

#[cfg(test)]
mod tests;
