//! What is kept, what goes first, and what a crash leaves.

use super::*;
use crate::lossy::LossyMedium;
use mboxfs_types::history::{Gone, Question, Who};
use std::sync::atomic::AtomicBool;

const DAY: i64 = 86_400;

fn history(medium: &LossyMedium, last: u64) -> History<LossyMedium> {
    let mut history = History::open(medium.clone(), last).unwrap();
    history.retain(Retention {
        age_secs: 86_400,
        bytes: 1 << 20,
    });
    history
}

/// Record `n`, which removed a message of `len` bytes of a letter.
fn entry(n: u64, secs: i64, len: u64) -> Entry {
    let gone = Gone {
        identity: [n as u8; 32],
        from: String::new(),
        date: String::new(),
        subject: String::new(),
        id: format!("<{n}@x>"),
        len,
        place: None,
    };
    Entry {
        n,
        time: Timestamp { secs, nanos: 0 },
        who: Who::Merge,
        ino: Ino(7),
        path: "/alice".into(),
        did: Did::Freed {
            owner: (1, 2, 0o600),
            removed: vec![gone],
        },
    }
}

fn put(history: &mut History<LossyMedium>, n: u64, secs: i64, len: u64) {
    let letter = b'a' + (n % 26) as u8;
    let mut read = |_: u64, buf: &mut [u8]| {
        buf.fill(letter);
        Ok(())
    };
    history.write(&mut entry(n, secs, len), true, &mut read).unwrap();
}

fn all(history: &History<LossyMedium>) -> Vec<Entry> {
    let (mut all, mut question) = (Vec::new(), Question::default());
    loop {
        let page = history.past().page(&question, &[], &AtomicBool::new(false)).unwrap();
        all.extend(page.entries);
        match page.next {
            Some(next) => question.from = next,
            None => return all,
        }
    }
}

fn records(history: &History<LossyMedium>) -> Vec<u64> {
    all(history).iter().map(|e| e.n).collect()
}

#[test]
fn what_was_removed_can_be_read_piece_by_piece() {
    let medium = LossyMedium::new();
    let mut history = history(&medium, 0);
    put(&mut history, 1, 5, 300_000); // more than one frame
    put(&mut history, 2, 6, 3);
    for entry in all(&history) {
        let gone = &entry.did.removed()[0];
        let (place, letter) = (gone.place.unwrap(), b'a' + (entry.n % 26) as u8);
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < gone.len {
            let more = history
                .past()
                .message(place, gone.len, bytes.len() as u64, 100_000)
                .unwrap();
            assert!(!more.is_empty() && more.len() <= 100_000);
            bytes.extend(more);
        }
        assert_eq!(bytes, vec![letter; gone.len as usize]);
    }
}

#[test]
fn y3_what_the_log_does_not_have_is_forgotten() {
    let medium = LossyMedium::new();
    let mut first = history(&medium, 0);
    for n in 1..=5 {
        put(&mut first, n, 5, 10);
    }
    drop(first);
    let mut second = history(&medium, 3);
    assert_eq!(records(&second), [1, 2, 3]);
    assert!(second.has(3) && !second.has(4), "Y1: 4 is written again, differently");
    put(&mut second, 4, 9, 20);
    drop(second);
    assert_eq!(records(&history(&medium, 9)), [1, 2, 3, 4], "not the old 5 behind it");
}

#[test]
fn y1_y4_a_crash_leaves_whole_entries_and_all_that_were_durable() {
    for seed in 0..40_u64 {
        let medium = LossyMedium::new();
        let mut before = history(&medium, 0);
        for n in 1..=3 {
            put(&mut before, n, 5, 700);
        }
        // Not synced: may be lost, or torn.
        for n in 4..=6 {
            let mut unsynced = entry(n, 5, 0);
            unsynced.did = Did::Unnamed;
            before.write(&mut unsynced, false, &mut |_, _| Ok(())).unwrap();
        }
        drop(before);
        let mut state = seed;
        medium.crash(|| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 62 != 0
        });
        let mut after = history(&medium, 100);
        let left = records(&after);
        assert!(left.starts_with(&[1, 2, 3]), "{seed}: {left:?}");
        let next = *left.last().unwrap() + 1;
        assert!(after.has(next - 1) && !after.has(next));
        put(&mut after, next, 6, 10);
        assert_eq!(records(&after).last(), Some(&next));
    }
}

#[test]
fn the_oldest_goes_by_age_and_by_size() {
    let medium = LossyMedium::new();
    let mut history = history(&medium, 0);
    put(&mut history, 1, 0, 10);
    put(&mut history, 2, DAY / 2, 10);
    put(&mut history, 3, DAY - 1, 10);
    assert_eq!(records(&history), [1, 2, 3]);
    put(&mut history, 4, 2 * DAY, 10);
    let left = records(&history);
    assert!(
        left.ends_with(&[4]) && !left.contains(&1) && !left.contains(&2),
        "{left:?}"
    );
    for n in 5..60 {
        put(&mut history, n, 2 * DAY, 100_000);
    }
    assert!(history.bytes() <= 1 << 20, "{}", history.bytes());
    let left = records(&history);
    assert!(left.ends_with(&[58, 59]) && left.len() > 3, "{left:?}");
    // Larger than half of all: told, and not kept.
    put(&mut history, 60, 2 * DAY, 600_000);
    assert_eq!(all(&history).last().unwrap().did.removed()[0].place, None);
    while history.drop_oldest().unwrap() {}
    assert_eq!(history.bytes(), 0);
    put(&mut history, 61, 2 * DAY, 5);
    assert_eq!(records(&history), [61]);
}

#[test]
fn questions_are_about_a_file_a_message_or_a_time() {
    let medium = LossyMedium::new();
    let mut history = history(&medium, 0);
    for n in 1..=4 {
        put(&mut history, n, n as i64 * 10, 5);
    }
    let stop = AtomicBool::new(false);
    let asked = |question: Question, there: &[[u8; 32]]| {
        let page = history.past().page(&question, there, &stop).unwrap();
        page.entries.iter().map(|e| e.n).collect::<Vec<_>>()
    };
    let of = |path: &str| Question {
        path: Some(path.into()),
        ..Question::default()
    };
    assert_eq!(asked(of("/alice"), &[]), [1, 2, 3, 4]);
    assert!(asked(of("/bob"), &[]).is_empty());
    let id = Question {
        id: Some("<3@x>".into()),
        ..Question::default()
    };
    assert_eq!(asked(id, &[]), [3]);
    let late = Question {
        since: Timestamp { secs: 25, nanos: 0 },
        ..of("/alice")
    };
    assert_eq!(asked(late, &[]), [3, 4]);
    let gone = Question {
        gone: true,
        ..of("/alice")
    };
    assert_eq!(
        asked(gone, &[[2; 32], [3; 32]]),
        [1, 4],
        "what is there again is not gone"
    );
}

/// Y2. A full disk held up the brick for good: each try made a segment, and dropped it.
#[test]
fn on_a_full_disk_the_past_goes_and_what_finds_no_room_is_left_out() {
    let medium = LossyMedium::new();
    let mut history = history(&medium, 0);
    put(&mut history, 1, 5, 300);
    medium.fill(true);
    put(&mut history, 2, 6, 300);
    put(&mut history, 3, 7, 300);
    assert_eq!((records(&history), history.bytes()), (vec![], 0));
    assert_eq!(medium.names(HISTORY_DIR).unwrap(), Vec::<String>::new());
    medium.fill(false);
    put(&mut history, 4, 8, 300);
    assert_eq!(records(&history), [4]);
}
