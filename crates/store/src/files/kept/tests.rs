//! Journals on a medium that loses what was not synced (J1 to J4).

use super::*;
use crate::lossy::{LossyFile, LossyMedium};
use proptest::prelude::*;

const KEY: Key = Key { fork: 100, ino: Ino(7) };
const MAIL: &str = "mail";
const MAIL_BYTES: usize = 6000;

fn all_of(medium: &LossyMedium, path: &str) -> Vec<u8> {
    let file = medium.open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(medium.len(&file).unwrap()).unwrap()];
    medium.read_at(&file, 0, &mut bytes).unwrap();
    bytes
}

fn put_back(kept: &Kept<LossyMedium>, mail: &mut [u8]) -> io::Result<()> {
    kept.put_back(KEY, |offset, bytes, sound| {
        assert!(sound);
        let offset = usize::try_from(offset).unwrap();
        mail[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    })
}

/// A change of a file of constant size.
type Change = (usize, Vec<u8>);

fn changes(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Change>> {
    let change = (0..MAIL_BYTES - 2000, 1..2000usize, any::<u8>()).prop_map(|(at, len, byte)| (at, vec![byte; len]));
    prop::collection::vec(change, count)
}

/// A brick with one mailbox.
struct World {
    medium: LossyMedium,
    /// Changes before the fork: none of them is covered by a checkpoint.
    before: Vec<Change>,
    after: Vec<Change>,
}

impl World {
    fn new(before: Vec<Change>, after: Vec<Change>) -> Self {
        let medium = LossyMedium::new();
        let mail = medium.create(MAIL).unwrap();
        medium.append(&mail, 0, &[1; MAIL_BYTES]).unwrap();
        medium.sync_dir("").unwrap();
        Self { medium, before, after }
    }

    fn at_fork(&self) -> Vec<u8> {
        let mut mail = vec![1; MAIL_BYTES];
        for (at, bytes) in &self.before {
            mail[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        mail
    }

    fn write(&self, mail: &LossyFile, (at, bytes): &Change) {
        self.medium.write_at(mail, *at as u64, bytes).unwrap();
    }

    /// A life of the brick: all changes are given (again), up to one after the fork. False: the disk failed in between.
    fn live(&self, upto: usize) -> bool {
        let mail = self.medium.open(MAIL).unwrap();
        let mut kept = Kept::new(self.medium.clone());
        self.before.iter().for_each(|change| self.write(&mail, change));
        for change in &self.after[..upto.min(self.after.len())] {
            let range = (change.0 as u64, (change.0 + change.1.len()) as u64);
            let read = |offset, bytes: &mut [u8]| self.medium.read_at(&mail, offset, bytes).map(|()| true);
            if kept.keep(KEY, &[range], read).is_err() {
                return false;
            }
            self.write(&mail, change);
        }
        true
    }

    /// What putting back makes of the mailbox, once the records up to the fork have been given again.
    fn put_back(&self) -> Vec<u8> {
        let mut mail = all_of(&self.medium, MAIL);
        for (at, bytes) in &self.before {
            mail[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        put_back(&Kept::new(self.medium.clone()), &mut mail).unwrap();
        mail
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    /// J1, J2: power fails or the process is killed, again and again, in the middle of keeping, too.
    #[test]
    fn what_was_at_the_fork_comes_back_after_any_crash(
        before in changes(0..4), after in changes(1..12),
        lives in prop::collection::vec((0..12usize, 0..30u64, any::<u64>(), any::<bool>()), 1..5),
    ) {
        let world = World::new(before, after);
        for (upto, good, mut dice, power) in lives {
            world.medium.fail_sync_after(good);
            world.live(upto);
            world.medium.repair();
            if !power {
                world.medium.crash(|| {
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    dice >> 63 == 1
                });
            }
            prop_assert!(world.put_back() == world.at_fork());
        }
        prop_assert!(world.live(usize::MAX));
        prop_assert!(world.put_back() == world.at_fork());
    }

    #[test]
    fn ranges_know_what_is_in_none_of_them(
        adds in prop::collection::vec((0..60u64, 1..20u64), 0..12), ask in (0..80u64, 0..40u64),
    ) {
        let mut ranges = Ranges::default();
        let mut bits = [false; 160];
        for (start, len) in adds {
            ranges.add(start, start + len);
            (start..start + len).for_each(|i| bits[i as usize] = true);
        }
        let (start, end) = (ask.0, ask.0 + ask.1);
        let mut missing = [false; 160];
        for (a, b) in ranges.gaps(start, end) {
            prop_assert!(a < b);
            (a..b).for_each(|i| missing[i as usize] = true);
        }
        for i in 0..160 {
            prop_assert_eq!(missing[i as usize], !bits[i as usize] && (start..end).contains(&i));
        }
        prop_assert!(ranges.0.iter().zip(ranges.0.iter().skip(1)).all(|(a, b)| a.1 < b.0), "joined");
    }
}

/// Keeps a range of a file that is `byte` all over.
fn keep(medium: &LossyMedium, key: Key, range: (u64, u64), byte: u8) -> io::Result<()> {
    let mut kept = Kept::new(medium.clone());
    kept.keep(key, &[range], |_, bytes| {
        bytes.fill(byte);
        Ok(true)
    })
}

#[test]
fn what_was_kept_first_stays() {
    let medium = LossyMedium::new();
    let mut kept = Kept::new(medium.clone());
    for (range, byte) in [((10, 20), 1), ((0, 30), 2), ((5, 25), 3)] {
        kept.keep(KEY, &[range], |_, bytes| {
            bytes.fill(byte);
            Ok(true)
        })
        .unwrap();
    }
    let syncs = medium.syncs();
    kept.keep(KEY, &[(0, 30)], |_, _| panic!("nothing to keep")).unwrap();
    assert_eq!(medium.syncs(), syncs, "and nothing to wait for");
    // Another process finds the same.
    keep(&medium, KEY, (0, 30), 4).unwrap();
    let mut mail = vec![9; 31];
    put_back(&kept, &mut mail).unwrap();
    assert_eq!(mail, [vec![2; 10], vec![1; 10], vec![2; 10], vec![9]].concat());
}

#[test]
fn a_long_range_goes_through_in_pieces() {
    let medium = LossyMedium::new();
    let mut kept = Kept::new(medium);
    let len = 3 * BLOCK + 5;
    let mut longest = 0;
    kept.keep(KEY, &[(3, len)], |offset, bytes| {
        longest = longest.max(bytes.len());
        bytes.fill((offset / 1000) as u8);
        Ok(true)
    })
    .unwrap();
    assert_eq!(longest as u64, BLOCK);
    let mut next = 3;
    kept.put_back(KEY, |offset, bytes, _| {
        assert_eq!((offset, bytes[0]), (next, (offset / 1000) as u8));
        next += bytes.len() as u64;
        Ok(())
    })
    .unwrap();
    assert_eq!(next, len);
}

/// J3, at every byte.
#[test]
fn a_torn_end_is_as_if_it_were_not_there_and_is_written_over() {
    let whole = LossyMedium::new();
    keep(&whole, KEY, (0, 40), 1).unwrap();
    let good = all_of(&whole, &KEY.path()).len();
    keep(&whole, KEY, (50, 90), 2).unwrap();
    let bytes = all_of(&whole, &KEY.path());
    for cut in good..=bytes.len() {
        for noise in [None, Some(0), Some(0xff)] {
            let medium = LossyMedium::new();
            let file = medium.create(&KEY.path()).unwrap();
            let mut torn = bytes[..cut].to_vec();
            torn.extend(noise.map_or(vec![], |byte| vec![byte; bytes.len() - cut]));
            medium.append(&file, 0, &torn).unwrap();
            let kept = torn == bytes;
            keep(&medium, KEY, (50, 60), 3).unwrap();
            let mut mail = vec![0; 100];
            put_back(&Kept::new(medium), &mut mail).unwrap();
            assert_eq!(mail[..50], [vec![1; 40], vec![0; 10]].concat());
            assert_eq!(mail[50..60], [if kept { 2 } else { 3 }; 10], "cut at {cut}");
            assert_eq!(mail[60..90], [if kept { 2 } else { 0 }; 30], "cut at {cut}");
        }
    }
}

/// J3, law L12.
#[test]
fn rot_is_an_error_and_not_a_torn_end() {
    let medium = LossyMedium::new();
    keep(&medium, KEY, (0, 40), 1).unwrap();
    keep(&medium, KEY, (50, 90), 2).unwrap();
    let file = medium.open(&KEY.path()).unwrap();
    medium.append(&file, HEAD_BYTES as u64 + 5, b"x").unwrap();
    let error = put_back(&Kept::new(medium.clone()), &mut [0; 100]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert_eq!(
        keep(&medium, KEY, (95, 96), 3).unwrap_err().kind(),
        ErrorKind::InvalidData
    );
}

/// J4.
#[test]
fn forks_do_not_know_each_other() {
    let medium = LossyMedium::new();
    let later = Key { fork: 101, ..KEY };
    keep(&medium, KEY, (0, 10), 1).unwrap();
    keep(&medium, later, (0, 10), 2).unwrap();
    let mut kept = Kept::new(medium.clone());
    // Given again by a replay of the time of the older fork.
    kept.forget(101).unwrap();
    assert_eq!(medium.names(FORK_DIR).unwrap().len(), 1);
    kept.put_back(later, |_, bytes, _| {
        assert_eq!(bytes, [2; 10]);
        Ok(())
    })
    .unwrap();
    kept.put_back(KEY, |_, _, _| panic!("forgotten")).unwrap();
    // A journal under another's name is not believed.
    let bytes = all_of(&medium, &later.path());
    let file = medium.create(&KEY.path()).unwrap();
    medium.append(&file, 0, &bytes).unwrap();
    kept.put_back(KEY, |_, _, _| panic!("of another fork")).unwrap();
    kept.forget(102).unwrap();
    assert!(medium.names(FORK_DIR).unwrap().iter().all(|name| !name.contains('-')));
    kept.put_back(later, |_, _, _| panic!("forgotten")).unwrap();
}

#[test]
fn a_failed_sync_is_told_and_what_it_covered_not_believed() {
    let medium = LossyMedium::new();
    let mut kept = Kept::new(medium.clone());
    let read = |_, bytes: &mut [u8]| {
        bytes.fill(1);
        Ok(true)
    };
    kept.keep(KEY, &[(0, 10)], read).unwrap();
    medium.fail_sync_after(0);
    assert!(kept.keep(KEY, &[(10, 20)], read).is_err());
    medium.crash(|| false);
    let mut mail = [0; 20];
    put_back(&kept, &mut mail).unwrap();
    assert_eq!(mail, [[1; 10], [0; 10]].concat()[..]);
}

/// M4.
#[test]
fn what_a_killed_process_left_is_made_durable_before_it_is_believed() {
    let world = World::new(vec![], vec![(0, vec![2; 1000])]);
    world.medium.create(&KEY.path()).unwrap();
    world.medium.sync_dir(FORK_DIR).unwrap();
    world.medium.fail_sync_after(2); // the journal is opened with two; then the process dies
    assert!(!world.live(1));
    world.medium.repair();
    assert!(world.live(1));
    let mail = world.medium.open(MAIL).unwrap();
    world.medium.sync(&mail).unwrap();
    world.medium.crash(|| false);
    assert!(world.put_back() == world.at_fork());
}

/// J6.
#[test]
fn what_is_damaged_is_kept_as_such() {
    let medium = LossyMedium::new();
    let mut kept = Kept::new(medium.clone());
    let read = |offset: u64, bytes: &mut [u8]| {
        bytes.fill(1);
        Ok(offset / BLOCK != 1)
    };
    kept.keep(KEY, &[(10, 3 * BLOCK)], read).unwrap();
    for kept in [kept, Kept::new(medium)] {
        let mut damaged = Vec::new();
        kept.put_back(KEY, |offset, bytes, sound| {
            if !sound {
                damaged.push((offset, bytes.len() as u64));
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(damaged, [(BLOCK, BLOCK)]);
    }
}
