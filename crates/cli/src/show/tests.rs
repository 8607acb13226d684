//! Golden texts. Those that gluster has too are its words and columns (RIVALS.md 1.1).

use super::*;
use crate::samples::{alone, fresh, pooled, serving};
use mboxfs_types::admin::{BrickSpec, VolumeVerb};

fn shown(command: &Command, state: &HostState) -> String {
    answer(command, state).unwrap()
}

fn both() -> HostState {
    serving(Phase::Started, Some((Status::Normal, Status::Normal)))
}

#[test]
fn what_is_done_is_said_as_gluster_says_it() {
    let state = fresh();
    let host = || String::from("H2");
    let probe = Command::Probe {
        host: host(),
        port: 1,
        fingerprint: None,
    };
    assert_eq!(shown(&probe, &state), "peer probe: success");
    let detach = Command::Detach {
        host: host(),
        port: None,
        force: false,
    };
    assert_eq!(shown(&detach, &state), "peer detach: success");
    let brick = || BrickSpec {
        host: host(),
        port: None,
        path: "/b".into(),
    };
    let create = Command::Create {
        name: "gVol0".into(),
        bricks: [brick(), brick()],
        force: false,
    };
    assert_eq!(
        shown(&create, &state),
        "volume create: gVol0: success: please start the volume to access data"
    );
    let start = Command::HealStart {
        name: None,
        full: false,
    };
    assert_eq!(
        shown(&start, &both()),
        "Launching heal operation to perform index self heal on volume gVol0 has been successful \nUse heal info commands to check status."
    );
    for (verb, text) in [
        (VolumeVerb::Start, "volume start: gVol0: success"),
        (VolumeVerb::Stop, "volume stop: gVol0: success"),
        (VolumeVerb::Delete, "volume delete: gVol0: success"),
    ] {
        let name = String::from("gVol0");
        assert_eq!(
            shown(
                &Command::Change {
                    name,
                    verb,
                    force: false
                },
                &state
            ),
            text
        );
    }
}

#[test]
fn the_pool() {
    assert_eq!(shown(&Command::PeerStatus, &fresh()), "peer status: No peers present");
    let up = "Number of Peers: 1\n\nHostname: H2\nUuid: 22222222-2222-2222-2222-222222222222\n\
              State: Peer in Cluster (Connected)\nOther names:\n10.0.0.2";
    assert_eq!(shown(&Command::PeerStatus, &pooled()), up);
    let down = shown(&Command::PeerStatus, &alone());
    assert_eq!(down, up.replace("(Connected)", "(Disconnected)"));
    let mut forgotten = pooled();
    forgotten.peers[0].state.as_mut().unwrap().peers.clear();
    assert_eq!(
        shown(&Command::PeerStatus, &forgotten),
        up.replace("in Cluster", "Rejected")
    );
    let [one, two] = ["11", "22"].map(|byte| byte.repeat(32));
    assert_eq!(
        shown(&Command::Pool, &pooled()),
        format!(
            "UUID\t\t\t\t\tHostname \tState\tFingerprint\n\
             22222222-2222-2222-2222-222222222222\tH2       \tConnected \t{two}\n\
             11111111-1111-1111-1111-111111111111\tlocalhost\tConnected \t{one}"
        )
    );
}

#[test]
fn the_volume() {
    assert_eq!(shown(&Command::List, &fresh()), "No volumes present in cluster");
    assert_eq!(shown(&Command::Info(None), &fresh()), "No volumes present");
    let nope = || Some(String::from("nope"));
    for command in [Command::Info(nope()), Command::Status(nope()), Command::Heal(nope())] {
        for state in [fresh(), both()] {
            assert_eq!(answer(&command, &state).unwrap_err(), "Volume nope does not exist");
        }
    }
    let created = serving(Phase::Created, None);
    assert_eq!(shown(&Command::List, &created), "gVol0");
    let info = " \nVolume Name: gVol0\nType: Replicate\nVolume ID: abababab-abab-abab-abab-abababababab\nStatus: Created\n\
                Snapshot Count: 0\nNumber of Bricks: 1 x 2 = 2\nTransport-type: tcp\nBricks:\n\
                Brick1: H1:/glusterfs/vol0\nBrick2: H2:/glusterfs/vol0";
    assert_eq!(shown(&Command::Info(None), &created), info);
    assert_eq!(
        shown(&Command::Info(Some("gVol0".into())), &both()),
        info.replace("Created", "Started")
    );
    let stopped = serving(Phase::Stopped, None);
    assert!(shown(&Command::Info(None), &stopped).contains("\nStatus: Stopped\n"));
    assert_eq!(
        answer(&Command::Status(None), &stopped).unwrap_err(),
        "Volume gVol0 is not started"
    );
}

#[test]
fn the_status_table() {
    assert_eq!(
        shown(&Command::Status(None), &both()),
        "\
Status of volume: gVol0
Gluster process                             TCP Port  RDMA Port  Online  Pid
------------------------------------------------------------------------------
Brick H1:/glusterfs/vol0                    24009     0          Y       100
Brick H2:/glusterfs/vol0                    24009     0          Y       200
Self-heal Daemon on localhost               N/A       N/A        Y       100
Self-heal Daemon on H2                      N/A       N/A        Y       200
 \nTask Status of Volume gVol0
------------------------------------------------------------------------------
There are no active volume tasks
 "
    );
    let text = shown(&Command::Status(None), &alone());
    let down = "Brick H2:/glusterfs/vol0                    N/A       N/A        N       N/A\n";
    assert!(text.contains(down), "{text}");
    assert!(text.contains("Self-heal Daemon on H2                      N/A       N/A        N       N/A\n"));
}

#[test]
fn long_names_are_not_cut_and_the_columns_stay() {
    let mut state = both();
    let path = format!("/{}", "x".repeat(60));
    if let Some((volume, _)) = &mut state.volume {
        volume.bricks[0].path.clone_from(&path);
        volume.bricks[1].port = 7;
    }
    let text = shown(&Command::Status(None), &state);
    assert!(text.contains(&format!("Brick H1:{path} 24009 ")), "{text}");
    assert!(text.contains("Brick H2:7:/glusterfs/vol0 "));
    let column = |line: &str| line.find("Y  ").or_else(|| line.find("Online"));
    let columns: Vec<_> = text.lines().filter_map(column).collect();
    assert!(columns.len() == 5 && columns.iter().all(|c| *c == columns[0]), "{text}");
}

#[test]
fn what_is_to_heal() {
    assert_eq!(
        shown(&Command::Heal(None), &both()),
        "\
Volume gVol0: healthy

Brick H1:/glusterfs/vol0
Status: Connected, normal
On one copy only: 0 messages, 0 bytes in 0 records
Mailboxes: 0 pending, 0 healing, 0 merged, 0 quarantined
Last scrub: never

Brick H2:/glusterfs/vol0
Status: Connected, normal
On one copy only: 0 messages, 0 bytes in 0 records
Mailboxes: 0 pending, 0 healing, 0 merged, 0 quarantined
Last scrub: never"
    );
    assert_eq!(
        shown(&Command::Heal(None), &alone()),
        "\
Volume gVol0: degraded

Brick H1:/glusterfs/vol0
Status: Connected, alone
On one copy only: 2 messages, 5120 bytes in 3 records
Mailboxes: 2 pending, 0 healing, 0 merged, 0 quarantined
Last scrub: never
/alice: changed while the other brick was away
/b\\u{1b}[31mob: changed while the other brick was away

Brick H2:/glusterfs/vol0
Status: Transport endpoint is not connected
On one copy only: unknown"
    );
    assert_eq!(
        shown(&Command::HealInfo(Some("gVol0".into())), &alone()),
        "\
Brick H1:/glusterfs/vol0
/alice
/b\\u{1b}[31mob
Status: Connected
Number of entries: 2

Brick H2:/glusterfs/vol0
Status: Transport endpoint is not connected
Number of entries: -
"
    );
}

#[test]
fn why_a_brick_is_away_is_told_by_the_other_one() {
    let mut state = alone();
    let away = mboxfs_types::admin::Away {
        since: Timestamp {
            secs: 1_795_489_268,
            nanos: 5,
        },
        why: "could not append to the log: \u{1b}[31m Input/output error".into(),
    };
    state.report.as_mut().unwrap().peer_away = Some(away);
    let told = "away since 2026-11-24 03:01:08 UTC: could not append to the log: \\u{1b}[31m Input/output error";
    let status = shown(&Command::Status(None), &state);
    assert!(
        status.ends_with(&format!(
            "\nBrick H1:/glusterfs/vol0: alone\nBrick H2:/glusterfs/vol0: {told}"
        )),
        "{status}"
    );
    assert!(shown(&Command::Heal(None), &state).ends_with(&format!("\nTrouble: {told}")));
    assert!(!shown(&Command::Status(None), &both()).contains("Brick H2:/glusterfs/vol0:"));
}

#[test]
fn the_exit_code_tells_what_is_degraded() {
    let asked = [Command::Status(None), Command::Heal(None)];
    let degraded = |state: &HostState| asked.iter().all(|c| !is_healthy(c, state));
    assert!(asked.iter().all(|c| is_healthy(c, &both())));
    assert!(
        asked.iter().all(|c| is_healthy(c, &fresh())),
        "nothing is wrong with no volume"
    );
    assert!(degraded(&alone()));
    for (a, b) in [
        (Status::Normal, Status::Learner),
        (Status::Diverged, Status::Diverged),
        (Status::Suspect, Status::Normal),
        (Status::Boot, Status::Normal),
    ] {
        assert!(degraded(&serving(Phase::Started, Some((a, b)))));
    }
    let mut half = both();
    half.peers[0].state.as_mut().unwrap().report = None;
    assert!(degraded(&half));
    let mut other = both();
    other.peers[0].state.as_mut().unwrap().volume.as_mut().unwrap().0.id = mboxfs_types::VolumeId([1; 16]);
    assert!(degraded(&other), "a brickd of another volume is no brick of this one");
    assert!(
        is_healthy(&Command::HealInfo(Some("gVol0".into())), &alone()),
        "as in gluster"
    );
}

fn witnessed() -> HostState {
    let mut state = both();
    state.quorum = Quorum {
        policy: Policy::Witness,
        witness: Some(mboxfs_types::quorum::WitnessAt {
            host: "H3".into(),
            port: 7,
            register: 1,
            fingerprint: mboxfs_types::Fingerprint::default(),
        }),
    };
    state
}

#[test]
fn options_as_gluster_shows_them() {
    assert!(!shown(&Command::Info(None), &both()).contains("Options"));
    assert!(
        shown(&Command::Info(None), &witnessed()).ends_with("\nOptions Reconfigured:\nquorum: witness\nwitness: H3:7")
    );
    let get = |key| Command::Get {
        name: "gVol0".into(),
        key,
    };
    let one = shown(&get(Some(Key::Quorum)), &both());
    let rows: Vec<&str> = one.lines().map(str::trim_end).collect();
    assert_eq!(
        rows,
        [
            "Option                                  Value",
            "------                                  -----",
            "quorum                                  none"
        ]
    );
    assert!(
        shown(&get(None), &both())
            .trim_end()
            .ends_with("witness                                 (null)")
    );
    assert!(shown(&get(None), &witnessed()).contains("H3:7"));
}

#[test]
fn the_witness_and_who_waits_are_in_the_status() {
    let mut state = witnessed();
    let text = shown(&Command::Status(None), &state);
    assert!(
        text.contains("\nWitness H3:7                                N/A       N/A        N       N/A\n"),
        "{text}"
    );
    if let Some(report) = &mut state.report {
        report.witness = Some(true);
    }
    let text = shown(&Command::Status(None), &state);
    assert!(
        text.contains("\nWitness H3:7                                7         0          Y       N/A\n"),
        "{text}"
    );
    assert!(is_healthy(&Command::Status(None), &state));
    if let Some(report) = &mut state.report {
        report.witness = Some(false);
    }
    assert!(
        !is_healthy(&Command::Status(None), &state),
        "one more failure stops the mail"
    );
    assert!(
        is_healthy(&Command::Heal(None), &state),
        "but all of it is on both copies"
    );

    let mut state = serving(Phase::Started, Some((Status::Waiting, Status::Normal)));
    state.peers[0].state = None;
    if let Some(report) = &mut state.report {
        report.waits = Some(Waits::Survivor);
    }
    let text = shown(&Command::Status(None), &state);
    assert!(
        text.contains(
            "\nBrick H1:/glusterfs/vol0 waits for its peer, which was alone last and has mail that is missing here; \
             if its peer is lost for good, on H1: mboxfs volume force-solo gVol0\n"
        ),
        "{text}"
    );
    assert!(!is_healthy(&Command::Status(None), &state));
}
