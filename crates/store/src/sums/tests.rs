//! What the sums of a file become with its changes.

use super::*;
use proptest::prelude::*;

fn change(cut: u64, extents: Vec<(u64, &[u8])>, size: u64) -> Change<'_> {
    Change { cut, extents, size }
}

/// The file itself.
fn apply(file: &mut Vec<u8>, change: &Change<'_>) {
    file.truncate(usize::try_from(change.cut).unwrap_or(usize::MAX));
    for (offset, bytes) in &change.extents {
        let (from, to) = (*offset as usize, *offset as usize + bytes.len());
        file.resize(file.len().max(to), 0);
        file[from..to].copy_from_slice(bytes);
    }
    file.resize(change.size as usize, 0);
}

fn block_of(file: &[u8], block: u64, len: usize) -> Option<Vec<u8>> {
    let from = (block * BLOCK) as usize;
    file.get(from..from + len).map(<[u8]>::to_vec)
}

fn expected(file: &[u8]) -> Vec<u32> {
    file.chunks(BLOCK as usize).map(crc32fast::hash).collect()
}

fn make(sums: &mut FileSums, file: &mut Vec<u8>, change: &Change<'_>) -> u64 {
    let mut read = 0;
    let plan = sums.plan(change, |block, len| {
        read += len as u64;
        block_of(file, block, len)
    });
    assert!(sums.unknown(&plan).is_empty());
    apply(file, change);
    sums.carry_out(plan, |_, _| None);
    read
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_follow_every_change(
        steps in prop::collection::vec((0_u64..300_000, prop::collection::vec((0_u64..250_000, 0_usize..90_000, any::<u8>()), 0..3), 0_u64..300_000), 1..12),
    ) {
        let (mut sums, mut file) = (FileSums::default(), Vec::new());
        for (cut, extents, size) in steps {
            let bytes: Vec<(u64, Vec<u8>)> = extents.iter().map(|(at, len, byte)| (*at, vec![*byte; *len])).collect();
            let extents = bytes.iter().map(|(at, bytes)| (*at, &bytes[..])).collect();
            make(&mut sums, &mut file, &change(cut, extents, size));
            let all: Vec<u32> = (0..sums.count()).map(|block| sums.sum(block)).collect();
            prop_assert_eq!(all, expected(&file));
            for (block, bytes) in (0..).zip(file.chunks(BLOCK as usize)) {
                prop_assert_eq!(sums.known(block), Sum::of(bytes));
            }
            let again = Sums([(Ino(7), Arc::new(sums.clone()))].into());
            prop_assert_eq!(Sums::decode(&again.encode()), Some(again));
        }
    }
}

#[test]
fn an_append_reads_nothing_and_a_patch_one_block() {
    let (mut sums, mut file) = (FileSums::default(), Vec::new());
    let mail = [b'm'; 5000];
    for _ in 0..60 {
        let end = file.len() as u64;
        let append = change(end, vec![(end, &mail)], end + 5000);
        assert_eq!(make(&mut sums, &mut file, &append), 0);
    }
    let end = file.len() as u64;
    assert_eq!(
        make(&mut sums, &mut file, &change(end, vec![(70_000, b"RO")], end)),
        BLOCK
    );
    // What an expunge does: the rest is written anew from the middle of a block on.
    let rest = vec![b'r'; 200_000];
    let expunge = change(70_000, vec![(70_000, &rest)], 270_000);
    assert_eq!(make(&mut sums, &mut file, &expunge), BLOCK);
}

#[test]
fn a_huge_hole_costs_nothing() {
    let (mut sums, size) = (FileSums::default(), 1 << 40);
    let plan = sums.plan(&change(0, vec![], size), |_, _| None);
    sums.carry_out(plan, |_, _| None);
    assert_eq!((sums.blocks.len(), sums.count()), (0, 1 << 24));
    assert_eq!(sums.fit(9, &vec![0; BLOCK as usize]), Fit::Good);
    assert_eq!(sums.fit(9, &vec![1; BLOCK as usize]), Fit::Bad);
}

#[test]
fn a_change_in_the_middle_of_a_bad_block_loses_its_sum_and_a_whole_one_heals_it() {
    let (mut sums, mut file) = (FileSums::default(), Vec::new());
    let whole = vec![b'a'; BLOCK as usize];
    make(&mut sums, &mut file, &change(0, vec![(0, &whole)], BLOCK));
    file[5] ^= 1;
    let patch = change(u64::MAX, vec![(100, b"x")], BLOCK);
    let plan = sums.plan(&patch, |block, len| block_of(&file, block, len));
    assert_eq!(sums.unknown(&plan), [0]);
    sums.carry_out(plan, |_, _| None);
    // What it holds now would fit what it was: nothing does any more.
    assert_eq!(sums.fit(0, &whole), Fit::Bad);
    assert!(sums.is_lost(0));
    make(&mut sums, &mut file, &change(u64::MAX, vec![(0, &whole)], BLOCK));
    assert_eq!((sums.fit(0, &whole), sums.bad.len()), (Fit::Good, 0));
}

/// C5
#[test]
fn damage_is_found_where_it_is() {
    let (mut sums, mut file) = (FileSums::default(), Vec::new());
    for _ in 0..30 {
        let end = file.len() as u64;
        make(
            &mut sums,
            &mut file,
            &change(end, vec![(end, &[b'm'; 5000])], end + 5000),
        );
    }
    let (at, len) = (131_072 + 700, 150_000 - 131_072);
    file[at..at + 100].fill(b'x');
    let block = block_of(&file, 2, len).unwrap();
    assert_eq!(sums.damage(2, &block), Some(512..1024));
    assert_eq!(sums.damage(2, &block[1..]), None);
    file[at + 9000] = 0;
    assert_eq!(sums.damage(2, &block_of(&file, 2, len).unwrap()), None);
}
