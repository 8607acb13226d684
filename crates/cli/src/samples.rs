//! States as a brickd would tell them, for the tests of `show` and `json`.

use mboxfs_types::{
    BrickId, Fingerprint, GenId, VolumeId,
    admin::{BrickAt, BrickReport, HostId, HostState, PeerState, Phase, ScrubReport, Status, Volume},
    call::{Space, View},
    quorum::Quorum,
};

pub(crate) fn report(brick: BrickId, status: Status) -> BrickReport {
    BrickReport {
        brick,
        status,
        primary: brick == BrickId::A,
        view: View {
            g: GenId::default(),
            v: 1,
        },
        peer_connected: status == Status::Normal,
        peer_away: None,
        last: 10,
        commit: 10,
        peer_durable: 10,
        on_both: 9,
        debt_records: 0,
        debt_bytes: 0,
        debt_messages: 0,
        debt_files: Vec::new(),
        conflicts: Vec::new(),
        resync: None,
        files_pending: 0,
        healing: None,
        merged: 0,
        sessions: Vec::new(),
        space: Space {
            total: 100,
            free: 50,
            inodes: 10,
            inodes_free: 5,
        },
        inodes: 3,
        round_trips: 7,
        requests: 9,
        flushes: 5,
        waits: None,
        witness: None,
        scrub: ScrubReport::default(),
    }
}

/// A brickd alone in the world.
pub(crate) fn fresh() -> HostState {
    HostState {
        id: HostId([0x11; 16]),
        fingerprint: Fingerprint([0x11; 32]),
        host: "H1".into(),
        port: 24009,
        pid: 100,
        data: "/glusterfs/vol0".into(),
        peers: Vec::new(),
        volume: None,
        report: None,
        quorum: Quorum::default(),
    }
}

fn brick(host: &str) -> BrickAt {
    BrickAt {
        host: host.into(),
        port: 24009,
        path: "/glusterfs/vol0".into(),
    }
}

/// Both in the pool, no volume.
pub(crate) fn pooled() -> HostState {
    let peer = |id, host: &str, state| PeerState {
        id: HostId([id; 16]),
        fingerprint: Fingerprint([id; 32]),
        host: host.into(),
        port: 24009,
        names: vec!["10.0.0.2".into()],
        state,
    };
    let there = HostState {
        id: HostId([0x22; 16]),
        fingerprint: Fingerprint([0x22; 32]),
        host: "H2".into(),
        pid: 200,
        peers: vec![peer(0x11, "H1", None)],
        ..fresh()
    };
    HostState {
        peers: vec![peer(0x22, "H2", Some(Box::new(there)))],
        ..fresh()
    }
}

/// A volume that was started if `statuses` are given, Brick1 here.
pub(crate) fn serving(phase: Phase, statuses: Option<(Status, Status)>) -> HostState {
    let volume = Volume {
        name: "gVol0".into(),
        id: VolumeId([0xab; 16]),
        phase,
        bricks: [brick("H1"), brick("H2")],
    };
    let mut state = pooled();
    state.report = statuses.map(|s| report(BrickId::A, s.0));
    if let Some(there) = state.peers[0].state.as_mut() {
        there.report = statuses.map(|s| report(BrickId::B, s.1));
        there.volume = Some((volume.clone(), BrickId::B));
    }
    state.volume = Some((volume, BrickId::A));
    state
}

/// The peer does not answer, and mail came in.
pub(crate) fn alone() -> HostState {
    let mut state = serving(Phase::Started, Some((Status::Solo, Status::Normal)));
    state.peers[0].state = None;
    if let Some(report) = &mut state.report {
        report.debt_records = 3;
        report.debt_messages = 2;
        report.debt_bytes = 5120;
        report.files_pending = 2;
        report.debt_files = vec!["/alice".into(), "/b\u{1b}[31mob".into()];
    }
    state
}
