//! Everything an operator may say or hear crosses the wire unchanged; nonsense is refused by name.
//!
//! Not here: the calls themselves (`crate::admin`, tested with two brickd in `brickd::cluster`).

use super::*;
use mboxfs_types::admin::{
    Away, BadFile, BrickReport, Healing, KeptTwice, Quarantined, ResyncReport, ScrubReport, ScrubVerb, Status,
};
use mboxfs_types::call::{Space, View};
use mboxfs_types::disk::ScrubMark;
use mboxfs_types::quorum::Waits;
use mboxfs_types::{BrickId, Fingerprint, GenId, Ino, Nanos, SessionId, Timestamp};
use proptest::prelude::*;
use prost::Message;

fn brick(host: &str) -> BrickAt {
    BrickAt {
        host: host.into(),
        port: 24009,
        path: "/glusterfs/vol0".into(),
    }
}

fn volume(phase: Phase) -> Volume {
    Volume {
        name: "gVol0".into(),
        id: VolumeId([7; 16]),
        phase,
        bricks: [brick("h1"), brick("h2")],
    }
}

fn report(status: Status) -> BrickReport {
    BrickReport {
        brick: BrickId::B,
        status,
        primary: true,
        view: View {
            g: GenId {
                num: 3,
                brick: 1,
                nonce: 9,
            },
            v: 2,
        },
        peer_connected: true,
        peer_away: Some(Away {
            since: Timestamp { secs: 5, nanos: 6 },
            why: "no room".into(),
        }),
        last: 12,
        commit: 11,
        peer_durable: 10,
        on_both: 9,
        debt_records: 2,
        debt_bytes: 4711,
        debt_messages: 4,
        debt_files: vec!["alice".into(), "dir/bob".into()],
        conflicts: vec![
            KeptTwice {
                path: "/.mboxfs-conflict/x.Brick2.7".into(),
                of: Some(BrickId::B),
                since: Timestamp { secs: 13, nanos: 14 },
            },
            KeptTwice {
                path: "/.mboxfs-conflict/y.1".into(),
                of: None,
                since: Timestamp { secs: 15, nanos: 0 },
            },
        ],
        files_pending: 2,
        healing: Some(Healing {
            merges: true,
            elapsed: Nanos(7),
            done: 1,
            total: 2,
            at: "alice".into(),
            left: vec!["alice".into()],
        }),
        merged: 6,
        sessions: vec![(
            SessionId {
                client: [1; 16],
                nonce: 5,
            },
            "h1".into(),
            true,
        )],
        space: Space {
            total: 4,
            free: 3,
            inodes: 2,
            inodes_free: 1,
        },
        inodes: 6,
        round_trips: 7,
        requests: 8,
        flushes: 9,
        waits: Some(Waits::Survivor),
        witness: Some(false),
        resync: Some(ResyncReport {
            files: 5,
            files_done: 4,
            files_copied: 3,
            bytes: 100,
            bytes_done: 50,
            copied: 25,
            elapsed: Nanos(1),
        }),
        scrub: ScrubReport {
            mark: ScrubMark {
                started: Some(Timestamp { secs: 7, nanos: 8 }),
                ended: None,
                next: Ino(9),
                paused: true,
            },
            bytes: 10,
            checked: 5,
            bad: vec![BadFile {
                path: "/alice".into(),
                blocks: 2,
                both: 1,
            }],
            repaired: 3,
            quarantined: vec![Quarantined {
                path: "/bob".into(),
                messages: 2,
                since: Timestamp { secs: 11, nanos: 12 },
                kept: vec!["/.mboxfs-conflict/bob.damaged-2.7.Bricks".into()],
            }],
        },
    }
}

fn host_state(peers: Vec<PeerState>) -> HostState {
    HostState {
        id: HostId([1; 16]),
        fingerprint: Fingerprint([0x11; 32]),
        host: "h1".into(),
        port: 24009,
        pid: 42,
        data: "/glusterfs/vol0".into(),
        peers,
        volume: Some((volume(Phase::Started), BrickId::A)),
        report: Some(report(Status::Solo)),
        quorum: Quorum {
            policy: Policy::Witness,
            witness: Some(WitnessAt {
                host: "h3".into(),
                port: 24009,
                register: 77,
                fingerprint: Fingerprint([0x33; 32]),
            }),
        },
    }
}

fn asks() -> Vec<Ask> {
    let spec = |host: &str, port| BrickSpec {
        host: host.into(),
        port,
        path: "/b".into(),
    };
    let (from, id) = (HostId([3; 16]), [4; 16]);
    let mut all = vec![
        Ask::Status { deep: true },
        Ask::Probe {
            host: "h2".into(),
            port: 24009,
            fingerprint: None,
        },
        Ask::Probe {
            host: "h2".into(),
            port: 24009,
            fingerprint: Some(Fingerprint([9; 32])),
        },
        Ask::Detach {
            host: "h2".into(),
            port: None,
            force: true,
        },
        Ask::Create {
            name: "gVol0".into(),
            bricks: [spec("h1", None), spec("fe80::1", Some(7))],
            force: false,
        },
        Ask::Hello {
            from,
            port: 1,
            called: "h2".into(),
        },
        Ask::Part { from },
        Ask::Prepare {
            from,
            id,
            plan: Plan::Create {
                volume: volume(Phase::Created),
                force: true,
            },
        },
        Ask::Commit { id },
        Ask::Abort { id },
        Ask::ForceSolo { name: "gVol0".into() },
    ];
    for (verb, relayed) in [
        (ScrubVerb::Start, false),
        (ScrubVerb::Pause, true),
        (ScrubVerb::Resume, false),
    ] {
        let name = String::from("gVol0");
        all.push(Ask::Scrub { name, verb, relayed });
    }
    for (fault, here) in [
        (Fault::Crash, true),
        (Fault::SlowDisk, false),
        (Fault::Partition, false),
    ] {
        let name = String::from("gVol0");
        all.push(Ask::Drill { name, fault, here });
    }
    for policy in [None, Some(Policy::None), Some(Policy::Witness), Some(Policy::Both)] {
        all.push(Ask::Set {
            name: "gVol0".into(),
            options: Options {
                policy,
                witness: policy.map(|_| ("h3".into(), 24009)),
            },
            relayed: policy.is_none(),
        });
    }
    for verb in [VolumeVerb::Start, VolumeVerb::Stop, VolumeVerb::Delete] {
        let name = String::from("gVol0");
        all.push(Ask::Change {
            name: name.clone(),
            verb,
            force: false,
        });
        let plan = Plan::Change {
            id: VolumeId([9; 16]),
            name,
            verb,
        };
        all.push(Ask::Prepare { from, id, plan });
    }
    all
}

fn tells() -> Vec<Tell> {
    let peer = |state| PeerState {
        id: HostId([2; 16]),
        fingerprint: Fingerprint([0x22; 32]),
        host: "h2".into(),
        port: 7,
        names: vec!["10.0.0.2".into()],
        state,
    };
    let inner = HostState {
        volume: None,
        report: None,
        ..host_state(Vec::new())
    };
    vec![
        Tell::Done(Box::new(host_state(vec![peer(None), peer(Some(Box::new(inner)))]))),
        Tell::Already("in peer list".into()),
        Tell::Refused {
            why: "no".into(),
            hint: String::new(),
        },
    ]
}

#[test]
fn v1_questions_and_answers_come_back_the_same() {
    for question in asks() {
        let bytes = ask_message(question.clone()).encode_to_vec();
        let message = w::AdminAsk::decode(&*bytes).unwrap();
        assert_eq!(message.protocol, limits::PROTOCOL_VERSION);
        assert_eq!(ask(message), Ok(question));
    }
    for answer in tells() {
        let bytes = tell_message(answer.clone()).encode_to_vec();
        assert_eq!(tell(w::AdminTell::decode(&*bytes).unwrap()), Ok(answer));
    }
    for status in [
        Status::Boot,
        Status::Suspect,
        Status::Normal,
        Status::Solo,
        Status::Learner,
        Status::Diverged,
        Status::Stalled,
    ] {
        assert_eq!(w::AdminReport::from(report(status)).try_into(), Ok(report(status)));
    }
}

fn refused(question: Ask) -> &'static str {
    ask(ask_message(question)).unwrap_err().what
}

#[test]
fn v1_nonsense_is_refused_by_name() {
    let probe = |host: &str, port| Ask::Probe {
        host: host.into(),
        port,
        fingerprint: None,
    };
    assert_eq!(refused(probe("a b", 1)), "not a host name");
    assert_eq!(refused(probe("--force", 1)), "not a host name");
    assert_eq!(refused(probe("h2", 0)), "port is not 1 to 65535");
    let change = Ask::Change {
        name: "../x".into(),
        verb: VolumeVerb::Stop,
        force: false,
    };
    assert_eq!(refused(change), "not a volume's name");
    let plan = |volume| Ask::Prepare {
        from: HostId([0; 16]),
        id: [0; 16],
        plan: Plan::Create { volume, force: false },
    };
    assert_eq!(refused(plan(volume(Phase::Started))), "a new volume is not started");
    let mut crooked = volume(Phase::Created);
    crooked.bricks[1].path = "vol0".into();
    assert_eq!(refused(plan(crooked)), "not a brick's path");
    let none = w::AdminAsk {
        protocol: limits::PROTOCOL_VERSION,
        ask: None,
    };
    assert_eq!(ask(none).unwrap_err().what, "no question");
    let three = w::AdminVolume {
        bricks: vec![brick("a").into(), brick("b").into(), brick("c").into()],
        ..volume(Phase::Created).into()
    };
    assert_eq!(Volume::try_from(three).unwrap_err().what, "a volume has two bricks");
    let short = w::AdminVolume {
        id: vec![1; 15].into(),
        ..volume(Phase::Created).into()
    };
    assert_eq!(Volume::try_from(short).unwrap_err().what, "id is not 16 bytes");
}

#[test]
fn long_reasons_are_cut_at_a_letter() {
    let why = "\u{fc}".repeat(TEXT_BYTES_MAX);
    let cut = tell(tell_message(Tell::Already(why))).unwrap();
    assert!(matches!(cut, Tell::Already(text) if text.len() == TEXT_BYTES_MAX));
}

proptest! {
    #[test]
    fn v3_noise_and_damage_are_no_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200), which in any::<usize>(), at in any::<usize>(), to in any::<u8>(),
    ) {
        let questions = asks();
        let answers = tells();
        let mut question = ask_message(questions[which % questions.len()].clone()).encode_to_vec();
        let mut answer = tell_message(answers[which % answers.len()].clone()).encode_to_vec();
        for bytes in [&mut question, &mut answer] {
            let at = at % bytes.len();
            bytes[at] = to;
        }
        for bytes in [&noise, &question, &answer] {
            if let Ok(message) = w::AdminAsk::decode(&bytes[..]) {
                let _ = ask(message);
            }
            if let Ok(message) = w::AdminTell::decode(&bytes[..]) {
                let _ = tell(message);
            }
        }
    }
}
