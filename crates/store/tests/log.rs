//! The log, the superblock and the snapshots on a medium that forgets what was not synced (log R1-R6, superblock B1-B2,
//! checkpoint C1-C3).
#![allow(clippy::unwrap_used, reason = "helpers of tests, too")]

use mboxfs_store::{
    LogError, LossyMedium, Medium, Options, Recovery, StoreError, Touched, format_medium, lossy::SECTOR_BYTES, recover,
};
use mboxfs_types::{
    BrickId, GenId, Ino, OpId, SessionId, Tag, Timestamp,
    call::{Extent, Op},
    ids::BrickUuid,
    record::{Body, Record},
};
use proptest::prelude::*;

const OPTIONS: Options = Options {
    segment_bytes: 4096,
    force: false,
    at_most: u64::MAX,
};
const FIRST_SEGMENT: &str = "log/0000000000000001";
const HEAD: u64 = 512;

fn medium() -> LossyMedium {
    let medium = LossyMedium::new();
    format_medium(&medium, BrickUuid([3; 16]), &OPTIONS).unwrap();
    medium
}

fn open(medium: &LossyMedium) -> Recovery<LossyMedium> {
    recover(medium, &OPTIONS).unwrap()
}

/// Record `n` with `bytes` bytes of mail, of the line of history `line`.
fn line(n: u64, bytes: usize, line: u32) -> Record {
    let data = bytes::Bytes::from(vec![u8::try_from(n % 251).unwrap(); bytes]);
    let session = SessionId {
        client: [0; 16],
        nonce: 1,
    };
    Record {
        tag: Tag {
            n,
            g: GenId {
                num: line,
                brick: 0,
                nonce: 0,
            },
            v: 0,
        },
        time: Timestamp::default(),
        ino: Ino(0),
        body: Body::Op {
            id: OpId { session, seq: n },
            acked: 0,
            op: Op::Stage {
                ino: Ino(5),
                first: true,
                extents: vec![Extent { offset: 0, data }],
            },
        },
    }
}

fn record(n: u64, bytes: usize) -> Record {
    line(n, bytes, 1)
}

fn numbers(records: &[Record]) -> Vec<u64> {
    records.iter().map(|r| r.tag.n).collect()
}

fn bytes_of(medium: &LossyMedium, path: &str) -> Vec<u8> {
    let file = medium.open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(medium.len(&file).unwrap()).unwrap()];
    medium.read_at(&file, 0, &mut bytes).unwrap();
    bytes
}

/// What the device does behind our back.
fn scribble(medium: &LossyMedium, path: &str, at: u64, bytes: &[u8]) {
    let file = medium.open(path).unwrap();
    medium.append(&file, at, bytes).unwrap();
}

#[test]
fn a_commit_is_one_flush_and_comes_back() {
    let medium = medium();
    let mut found = open(&medium);
    assert_eq!((found.log.start(), found.log.last(), found.superblock.inc), (1, 0, 1));
    let before = medium.syncs();
    assert_eq!(
        found
            .log
            .append(&[record(1, 10), record(2, 20), record(3, 30)])
            .unwrap(),
        3
    );
    assert_eq!((medium.syncs() - before, found.log.flushes()), (1, 1));
    assert!(found.log.bytes() > 60);
    medium.crash(|| false);
    let mut found = open(&medium);
    assert_eq!(found.superblock.inc, 2);
    assert_eq!(found.records, [record(1, 10), record(2, 20), record(3, 30)]);
    assert_eq!(numbers(&found.log.read(2, 1).unwrap()), [2]);
    assert_eq!(numbers(&found.log.read(2, 1 << 20).unwrap()), [2, 3]);
    assert_eq!(found.log.read(4, 1).unwrap(), []);
}

#[test]
fn only_the_next_record_is_taken() {
    let mut found = open(&medium());
    for bad in [vec![record(2, 1)], vec![record(1, 1), record(3, 1)], vec![record(0, 1)]] {
        let error = found.log.append(&bad).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    }
    assert_eq!(found.log.append(&[]).unwrap(), 0);
    assert_eq!(found.log.append(&[record(1, 1)]).unwrap(), 1);
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_the_log_goes_on() {
    let medium = medium();
    let mut log = open(&medium).log;
    log.append(&[record(1, 100)]).unwrap();
    let acked = HEAD + log.bytes();
    log.append(&[record(2, 100), record(3, 50)]).unwrap();
    let end = HEAD + log.bytes();
    let whole = bytes_of(&medium, FIRST_SEGMENT);
    for torn in acked..=end {
        let mut bytes = whole.clone();
        bytes[usize::try_from(torn).unwrap()..].fill(0);
        scribble(&medium, FIRST_SEGMENT, 0, &bytes);
        let mut found = open(&medium);
        let last = found.log.last();
        assert!(
            (1..=3).contains(&last) && (last == 3) == (bytes == whole),
            "torn at {torn}: {last}"
        );
        assert_eq!(numbers(&found.records), (1..=last).collect::<Vec<_>>());
        found.log.append(&[line(last + 1, 70, 2)]).unwrap();
        let found = open(&medium);
        assert_eq!(found.records.last(), Some(&line(last + 1, 70, 2)));
    }
}

#[test]
fn a_garbage_sector_in_the_unacknowledged_tail_is_cut() {
    let medium = medium();
    let mut log = open(&medium).log;
    log.append(&[record(1, 100)]).unwrap();
    let acked = HEAD + log.bytes();
    // One write of three records: their sectors reach the device in any order, so a later one may be whole.
    log.append(&[record(2, 600), record(3, 600), record(4, 600)]).unwrap();
    scribble(
        &medium,
        FIRST_SEGMENT,
        acked.next_multiple_of(SECTOR_BYTES as u64),
        &[0xa5; SECTOR_BYTES],
    );
    let mut found = open(&medium);
    assert_eq!(found.log.last(), 1);
    found.log.append(&[line(2, 600, 2)]).unwrap();
    // R3: the old record 3, which is whole and at the right place, does not follow the new record 2.
    let found = open(&medium);
    assert_eq!(found.records, [record(1, 100), line(2, 600, 2)]);
}

#[test]
fn rot_below_an_acknowledged_record_is_an_error_and_never_cut() {
    let medium = medium();
    let mut log = open(&medium).log;
    let mut ends = vec![HEAD];
    for n in 1..=4 {
        log.append(&[record(n, 100)]).unwrap();
        ends.push(HEAD + log.bytes());
    }
    let whole = bytes_of(&medium, FIRST_SEGMENT);
    for bad in HEAD..ends[3] {
        let n = ends.iter().filter(|end| **end <= bad).count() as u64;
        let frame_end = ends[usize::try_from(n).unwrap()];
        scribble(
            &medium,
            FIRST_SEGMENT,
            bad,
            &[whole[usize::try_from(bad).unwrap()] ^ 0x10],
        );
        match recover(&medium, &OPTIONS) {
            Err(StoreError::Log(LogError::Rot { n: found })) => assert_eq!(found, n, "at {bad}"),
            Ok(found) => assert!(frame_end - bad <= 7 && found.log.last() == 4, "padding only, not {bad}"),
            Err(other) => panic!("{other}"),
        }
        assert_eq!(
            bytes_of(&medium, FIRST_SEGMENT)[usize::try_from(ends[3]).unwrap()..],
            whole[usize::try_from(ends[3]).unwrap()..]
        );
        scribble(&medium, FIRST_SEGMENT, 0, &whole);
    }
    // The last one has no witness: it is cut.
    scribble(&medium, FIRST_SEGMENT, ends[3] + 60, &[0xff; 8]);
    assert_eq!(open(&medium).log.last(), 3);
}

#[test]
fn rot_in_an_older_segment_is_found_when_it_is_read() {
    let medium = medium();
    let mut log = open(&medium).log;
    for n in 1..=30 {
        log.append(&[record(n, 500)]).unwrap();
    }
    assert!(medium.names("log").unwrap().len() > 3);
    scribble(&medium, FIRST_SEGMENT, HEAD + 700, &[0xff; 8]);
    assert!(matches!(
        recover(&medium, &OPTIONS),
        Err(StoreError::Log(LogError::Rot { n: 2 }))
    ));
    // The head of a segment too.
    let second = medium.names("log").unwrap()[1].clone();
    scribble(&medium, &format!("log/{second}"), 9, &[0xff]);
    assert!(matches!(
        recover(&medium, &OPTIONS),
        Err(StoreError::Log(LogError::Rot { .. }))
    ));
}

/// Damages record `n` of the log.
fn rot(medium: &LossyMedium, n: u64) {
    let words = [u8::try_from(n % 251).unwrap(); 200];
    for name in medium.names("log").unwrap() {
        let path = format!("log/{name}");
        let bytes = bytes_of(medium, &path);
        if let Some(at) = bytes.windows(words.len()).position(|w| w == words) {
            return scribble(medium, &path, at as u64 + 100, &[0xff]);
        }
    }
    panic!("record {n} is in the log");
}

#[test]
fn whoever_needs_no_damaged_record_goes_on_behind_it() {
    for bad in [vec![3], vec![12], vec![1, 11, 12], vec![25], vec![26, 28]] {
        let worst = *bad.last().unwrap();
        for position in [worst - 1, worst, worst + 1] {
            let medium = medium();
            let mut found = open(&medium);
            for n in 1..=30 {
                found.log.append(&[record(n, 300)]).unwrap();
            }
            found
                .checkpointer
                .checkpoint(Touched::default(), position, b"state")
                .unwrap();
            drop(found);
            bad.iter().for_each(|n| rot(&medium, *n));
            if position < worst {
                let refused = recover(&medium, &OPTIONS).unwrap_err();
                assert!(
                    matches!(refused, StoreError::Log(LogError::Rot { n }) if n == worst),
                    "{bad:?} {position}: {refused}"
                );
                assert_eq!(medium.names("snapshot").unwrap().len(), 1, "nothing is removed");
                continue;
            }
            let mut found = open(&medium);
            assert_eq!(
                numbers(&found.records),
                (position + 1..=30).collect::<Vec<_>>(),
                "{bad:?}"
            );
            assert!(matches!(found.log.read(worst, 1), Err(LogError::Rot { n }) if n == worst));
            assert_eq!(found.log.start(), worst + 1, "R7");
            found.log.append(&[record(31, 300)]).unwrap();
            // This line is given up, down to the first record that there is.
            let keep = worst.max(position);
            found.log.drop_above(keep).unwrap();
            found.log.append(&[line(keep + 1, 300, 2)]).unwrap();
            medium.crash(|| false);
            let found = open(&medium);
            assert_eq!(
                (found.log.last(), found.records.last()),
                (keep + 1, Some(&line(keep + 1, 300, 2)))
            );
        }
    }
}

#[test]
fn rot_that_comes_while_the_log_is_open_is_as_if_it_had_been_trimmed() {
    let last = 30;
    for bad in [1, 2, 7, 24, 29, last] {
        let medium = medium();
        let mut log = open(&medium).log;
        for n in 1..=last {
            log.append(&[record(n, 300)]).unwrap();
        }
        rot(&medium, bad);
        for from in [1, bad, bad] {
            assert!(matches!(log.read(from, 1 << 20), Err(LogError::Rot { n }) if n == bad));
            assert_eq!((log.start(), log.damaged()), (bad + 1, bad), "R7");
        }
        let refused = log.drop_above(bad - 1).unwrap_err();
        assert!(matches!(refused, LogError::Gone { .. }), "{refused}");
        for n in last + 1..=last + 9 {
            log.append(&[record(n, 300)]).unwrap();
            assert_eq!(
                numbers(&log.read(bad + 1, 1 << 20).unwrap()),
                (bad + 1..=n).collect::<Vec<_>>()
            );
        }
        log.trim(last + 1).unwrap();
        assert!(log.start() <= last + 1 && log.start() > bad);
    }
}

#[test]
fn what_rotted_unseen_is_not_cut_with_the_end_that_is_dropped() {
    let medium = medium();
    let mut found = open(&medium);
    for n in 1..=30 {
        found.log.append(&[record(n, 300)]).unwrap();
    }
    rot(&medium, 8);
    assert!(matches!(found.log.drop_above(9), Err(LogError::Rot { n: 8 })));
    assert!(found.log.append(&[record(31, 1)]).is_err(), "R4");
    let refused = recover(&medium, &OPTIONS).unwrap_err();
    assert!(matches!(refused, StoreError::Log(LogError::Rot { n: 8 })), "{refused}");
}

#[test]
fn a_letter_that_looks_like_a_record_proves_nothing() {
    // The log of another brick holds records 2 and 3 at the very place; a mail could carry their bytes.
    let other = LossyMedium::new();
    format_medium(&other, BrickUuid([9; 16]), &OPTIONS).unwrap();
    let medium = medium();
    for medium in [&other, &medium] {
        open(medium).log.append(&[record(1, 100)]).unwrap();
    }
    let mut log = open(&other).log;
    log.append(&[record(2, 100)]).unwrap();
    log.append(&[record(3, 100)]).unwrap();
    let at = bytes_of(&medium, FIRST_SEGMENT).iter().rposition(|b| *b != 0).unwrap() as u64 + 1;
    let at = at.next_multiple_of(8);
    let foreign = bytes_of(&other, FIRST_SEGMENT)[usize::try_from(at).unwrap()..].to_vec();
    scribble(&medium, FIRST_SEGMENT, at, &foreign);
    assert_eq!(open(&medium).log.last(), 1);
}

#[test]
fn a_record_of_another_line_does_not_continue_this_one() {
    let (own, other) = (medium(), medium());
    open(&own).log.append(&[line(1, 100, 1)]).unwrap();
    let mut log = open(&other).log;
    log.append(&[line(1, 100, 2)]).unwrap();
    let at = HEAD + log.bytes();
    log.append(&[line(2, 100, 2)]).unwrap();
    let foreign = bytes_of(&other, FIRST_SEGMENT)[usize::try_from(at).unwrap()..].to_vec();
    scribble(&own, FIRST_SEGMENT, at, &foreign);
    assert_eq!(open(&own).records, [line(1, 100, 1)], "R3");
}

#[test]
fn trimmed_segments_are_used_again_and_their_old_records_never_come_back() {
    let medium = medium();
    let mut log = open(&medium).log;
    let mut files = 0;
    for n in 1..=200 {
        log.append(&[record(n, 600)]).unwrap();
        if n > 20 {
            log.trim(n - 20).unwrap();
        }
        files = files.max(medium.names("log").unwrap().len());
        if n % 7 == 0 {
            medium.crash(|| true);
            // What a trim removed cannot be asked for; the log holds from its start on.
            let mut found = recover_from(&medium, log.start());
            assert_eq!((found.log.start(), found.log.last()), (log.start(), n));
            assert_eq!(
                numbers(&found.log.read(log.start(), 1 << 30).unwrap()),
                (log.start()..=n).collect::<Vec<_>>()
            );
            assert!(matches!(found.log.read(log.start() - 1, 1), Err(LogError::Gone { .. })) || log.start() == 1);
            log = found.log;
        }
    }
    assert!(files <= 9, "{files} files");
}

/// Opens a log that was trimmed: a checkpoint just below `start` says that it may.
fn recover_from(medium: &LossyMedium, start: u64) -> Recovery<LossyMedium> {
    if start > 1 {
        let whole = LossyMedium::new();
        format_medium(&whole, BrickUuid([3; 16]), &OPTIONS).unwrap();
        open(&whole)
            .checkpointer
            .checkpoint(Touched::default(), start - 1, b"state")
            .unwrap();
        let name = format!("snapshot/{:016x}", start - 1);
        let content = bytes_of(&whole, &name);
        medium
            .replace("snapshot", &format!("{:016x}", start - 1), &content)
            .unwrap();
    }
    open(medium)
}

#[test]
fn dropping_the_end_is_durable_and_the_dropped_line_never_comes_back() {
    for keep in 0..=40 {
        let medium = medium();
        let mut found = open(&medium);
        for n in 1..=40 {
            found.log.append(&[record(n, 300)]).unwrap();
        }
        found.checkpointer.checkpoint(Touched::default(), 2, b"two").unwrap();
        found
            .checkpointer
            .checkpoint(Touched::default(), 30, b"thirty")
            .unwrap();
        found.log.drop_above(keep).unwrap();
        medium.crash(|| false);
        let mut found = open(&medium);
        assert_eq!(found.log.last(), keep);
        let expected: (u64, &[u8]) = match keep {
            0 | 1 => (0, b""),
            2..30 => (2, b"two"),
            _ => (30, b"thirty"),
        };
        assert_eq!((found.position, &*found.snapshot), expected);
        // Another line of history passes the position of the snapshot that was dropped.
        for n in keep + 1..=50 {
            found.log.append(&[line(n, 300, 2)]).unwrap();
        }
        medium.crash(|| false);
        let found = open(&medium);
        assert_eq!((found.position, &*found.snapshot), expected);
        let own = found.records.iter().filter(|r| r.tag.n > keep);
        assert!(own.clone().count() as u64 == 50 - keep && own.clone().all(|r| r.tag.g.num == 2));
    }
}

#[test]
fn dropping_is_all_or_a_shorter_prefix_wherever_the_power_goes() {
    for fail in 0..12 {
        let medium = medium();
        let mut log = open(&medium).log;
        for n in 1..=40 {
            log.append(&[record(n, 300)]).unwrap();
        }
        medium.fail_sync_after(fail);
        let done = log.drop_above(11).is_ok();
        medium.repair();
        assert!(log.append(&[record(log.last() + 1, 1)]).is_ok() == done, "R4");
        medium.crash(|| fail % 2 == 0);
        let found = open(&medium);
        let last = found.log.last();
        assert!((11..=40).contains(&last));
        assert_eq!(numbers(&found.records), (1..=last).collect::<Vec<_>>());
    }
}

#[test]
fn a_log_restarts_elsewhere_wherever_the_power_goes() {
    for fail in 0..8 {
        for next in [2, 12, 1000] {
            let medium = medium();
            let mut found = open(&medium);
            for n in 1..=40 {
                found.log.append(&[record(n, 300)]).unwrap();
            }
            found.log.trim(20).unwrap();
            found.checkpointer.checkpoint(Touched::default(), 39, b"old").unwrap();
            found
                .checkpointer
                .checkpoint(Touched::default(), next - 1, b"of the peer")
                .unwrap();
            medium.fail_sync_after(fail);
            let done = found.log.restart(next).is_ok();
            medium.crash(|| fail % 2 == 0);
            let found = open(&medium);
            let at = (found.log.last(), found.position, found.records.len());
            let restarted = at == (next - 1, next - 1, 0);
            let old = at == (40, 39, 1);
            assert!(restarted || (!done && old), "{next} {fail}: {at:?}");
        }
    }
}

#[test]
fn a_failed_flush_ends_the_log() {
    let medium = medium();
    let mut log = open(&medium).log;
    log.append(&[record(1, 1)]).unwrap();
    medium.fail_sync_after(0);
    assert!(log.append(&[record(2, 1)]).is_err());
    assert!(log.append(&[record(2, 1)]).is_err(), "R4: never tried again");
    assert_eq!(log.last(), 1);
    medium.crash(|| false);
    assert_eq!(open(&medium).log.last(), 1);
}

#[test]
fn a_log_without_room_for_a_segment_goes_on_when_there_is_some() {
    let medium = medium();
    let mut log = open(&medium).log;
    let records: Vec<Record> = (1..=40).map(|n| record(n, 300)).collect();
    medium.fill(true);
    let full = log.append(&records).unwrap_err();
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let last = log.last();
    assert!((1..40).contains(&last), "what fits is durable: {last}");
    let names = medium.names("log").unwrap();
    assert_eq!(names.len(), 1, "nothing half made takes room: {names:?}");
    let rest = || &records[usize::try_from(last).unwrap()..];
    assert!(log.append(rest()).is_err(), "there is none yet");
    medium.fill(false);
    assert_eq!(log.append(rest()).unwrap(), 40, "R4: it is no failure");
    drop(log);
    medium.crash(|| false);
    assert_eq!(open(&medium).records, records);
}

#[test]
fn what_a_killed_process_wrote_is_durable_before_it_is_believed() {
    let medium = medium();
    let mut log = open(&medium).log;
    medium.fail_sync_after(0);
    assert!(log.append(&[record(1, 1)]).is_err()); // written, never synced
    let found = open(&medium); // the process starts again; the machine has not stopped
    assert_eq!(found.log.last(), 1);
    medium.crash(|| false);
    assert_eq!(open(&medium).log.last(), 1, "medium M4");
}

#[test]
fn a_record_longer_than_a_segment_is_refused() {
    let mut log = open(&medium()).log;
    assert!(log.append(&[record(1, 5000)]).is_err());
}

#[test]
fn a_torn_or_rotten_superblock_slot_leaves_the_other() {
    for rotten in [false, true] {
        let medium = medium();
        let mut found = open(&medium);
        found.superblock.brick = BrickId::B;
        found.superblock_writer.write(&found.superblock).unwrap();
        if rotten {
            medium.crash(|| true);
        }
        for slot in [0, 64 << 10] {
            let whole = bytes_of(&medium, "superblock");
            scribble(&medium, "superblock", slot + 30, &[0xff; 4]);
            let found = open(&medium);
            assert_eq!(found.superblock.brick, BrickId::B, "B2: never back");
            scribble(&medium, "superblock", 0, &whole);
        }
        scribble(&medium, "superblock", 30, &[0xff; 4]);
        scribble(&medium, "superblock", (64 << 10) + 30, &[0xff; 4]);
        assert!(matches!(recover(&medium, &OPTIONS), Err(StoreError::Superblock)));
    }
}

#[test]
fn a_superblock_of_a_later_version_is_refused() {
    let medium = medium();
    let mut found = open(&medium);
    found.superblock.format = 99;
    found.superblock_writer.write(&found.superblock).unwrap();
    assert!(matches!(
        recover(&medium, &OPTIONS),
        Err(StoreError::Newer { found: 99, known: 1 })
    ));
}

#[test]
fn the_newest_good_snapshot_counts_if_the_log_goes_on_from_it() {
    let medium = medium();
    let mut found = open(&medium);
    for n in 1..=30 {
        found.log.append(&[record(n, 300)]).unwrap();
    }
    for n in [5, 10, 20] {
        found
            .checkpointer
            .checkpoint(Touched::default(), n, &[u8::try_from(n).unwrap()])
            .unwrap();
    }
    assert_eq!(found.checkpointer.positions().unwrap(), [10, 20], "C2");
    medium.crash(|| false);
    let at_most = Options { at_most: 19, ..OPTIONS };
    assert_eq!(recover(&medium, &at_most).unwrap().position, 10);
    let whole = bytes_of(&medium, "snapshot/0000000000000014");
    for bad in 0..whole.len() {
        let mut torn = whole.clone();
        torn[bad] ^= 1;
        medium.replace("snapshot", "0000000000000014", &torn).unwrap();
        let found = open(&medium);
        assert_eq!(
            (found.position, found.records.len()),
            (10, 20),
            "falls back, byte {bad}"
        );
        medium.replace("snapshot", "0000000000000014", &whole[..bad]).unwrap();
        assert_eq!(open(&medium).position, 10, "torn at {bad}");
    }
    medium.replace("snapshot", "0000000000000014", &whole).unwrap();
    found.log.trim(21).unwrap();
    assert_eq!(open(&medium).position, 20);
    medium.replace("snapshot", "0000000000000014", &whole[1..]).unwrap();
    let error = recover(&medium, &OPTIONS).unwrap_err();
    assert!(matches!(error, StoreError::Snapshot { .. }), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn pinned_snapshots_stay() {
    let medium = medium();
    let mut found = open(&medium);
    for n in 1..=30 {
        found.log.append(&[record(n, 1)]).unwrap();
    }
    let mut checkpointer = found.checkpointer;
    checkpointer.checkpoint(Touched::default(), 3, b"x").unwrap();
    assert!(checkpointer.pin(3).unwrap());
    assert!(!checkpointer.pin(4).unwrap());
    for n in [6, 9, 12] {
        checkpointer.checkpoint(Touched::default(), n, b"x").unwrap();
    }
    assert_eq!(checkpointer.positions().unwrap(), [3, 9, 12]);
    checkpointer.unpin(3);
    checkpointer.checkpoint(Touched::default(), 15, b"x").unwrap();
    assert_eq!(checkpointer.positions().unwrap(), [12, 15]);
}

/// One thing that a brick does to its log.
#[derive(Clone, Debug)]
enum Act {
    Append(Vec<usize>),
    FailingAppend(Vec<usize>, u64),
    Crash(Vec<bool>),
    Restart,
    Checkpoint,
    Trim,
    Drop(u8),
}

fn acts() -> impl Strategy<Value = Act> {
    let sizes = || prop::collection::vec(0_usize..1200, 1..6);
    let coins = prop::collection::vec(any::<bool>(), 1..40);
    prop_oneof![
        8 => sizes().prop_map(Act::Append),
        3 => (sizes(), 0_u64..3).prop_map(|(sizes, fail)| Act::FailingAppend(sizes, fail)),
        4 => coins.prop_map(Act::Crash),
        1 => Just(Act::Restart),
        2 => Just(Act::Checkpoint),
        2 => Just(Act::Trim),
        1 => any::<u8>().prop_map(Act::Drop),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// L1 for one disk: acknowledged records are there after any crash, in order, and nothing else but what was on its way.
    #[test]
    fn acknowledged_records_survive_any_crash(acts in prop::collection::vec(acts(), 1..60)) {
        let medium = medium();
        let mut found = open(&medium);
        let mut acked: Vec<Record> = Vec::new();
        let mut way: Vec<Record> = Vec::new();
        let (mut base, mut epoch) = (0, 1);
        for act in acts {
            match act {
                Act::Append(sizes) | Act::FailingAppend(sizes, _) if found.log.last() != acked.len() as u64 => {
                    let _ = sizes; // the log has ended; only a start helps
                }
                Act::Append(sizes) => {
                    let new: Vec<Record> = sizes.iter().zip(acked.len() as u64 + 1..).map(|(s, n)| line(n, *s, epoch)).collect();
                    if found.log.append(&new).is_ok() {
                        acked.extend(new);
                    } else if way.is_empty() {
                        way = new; // a failure ordered before
                    }
                }
                Act::FailingAppend(sizes, fail) => {
                    let new: Vec<Record> = sizes.iter().zip(acked.len() as u64 + 1..).map(|(s, n)| line(n, *s, epoch)).collect();
                    medium.fail_sync_after(fail);
                    if found.log.append(&new).is_ok() {
                        acked.extend(new);
                    } else if way.is_empty() {
                        way = new;
                    }
                    medium.repair();
                }
                Act::Checkpoint => {
                    let n = acked.len() as u64;
                    if found.checkpointer.checkpoint(Touched::default(), n, &n.to_le_bytes()).is_ok() {
                        base = n;
                    }
                }
                Act::Trim => {
                    let _ = found.log.trim(base + 1);
                }
                Act::Drop(back) => {
                    let keep = (acked.len() as u64).saturating_sub(u64::from(back % 20)).max(base);
                    if found.log.last() == acked.len() as u64 && found.log.drop_above(keep).is_ok() {
                        acked.truncate(usize::try_from(keep).unwrap());
                        way.clear();
                        epoch += 1;
                        found = open(&medium);
                    }
                }
                Act::Restart | Act::Crash(_) => {
                    if let Act::Crash(coins) = &act {
                        let mut coins = coins.iter().cycle();
                        medium.crash(|| *coins.next().unwrap());
                    }
                    found = open(&medium);
                    prop_assert_eq!(found.position, base);
                    let last = usize::try_from(found.log.last()).unwrap();
                    let extra = last.checked_sub(acked.len()).expect("an acknowledged record is gone");
                    prop_assert!(extra <= way.len(), "more than what was on its way");
                    acked.extend(way.drain(..).take(extra));
                    way.clear();
                    prop_assert_eq!(&found.records[..], &acked[usize::try_from(base).unwrap()..]);
                    epoch += 1;
                }
            }
        }
    }
}
