//! Two damaged copies of a block and the checksum of the undamaged one make the block again, as a rule.
//!
//! N1  Where both copies agree they are believed; where they differ, one of them is right. Each stretch in which they differ
//!     is taken from either, and the combination that fits the checksum is the block.
//! N2  At most 2^`STRETCHES_MAX` combinations are tried: one that fits by chance is as likely as one in a million. Beyond
//!     that neighbours are joined, from the nearest on, since what rots together lies together.
//! N3  No combination is written out to be tried: CRC-32 is linear, so what a stretch does to it is worked out once.
//!
//! Not here: damage that both copies have in one place (`brick::quarantine`).

/// Stretches that are told apart.
const STRETCHES_MAX: usize = 12;

/// The block with this CRC-32, if it can be made of the two. Both have its length.
pub(crate) fn combine(sum: u32, ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    if ours.len() != theirs.len() {
        return None;
    }
    let stretches = stretches(ours, theirs);
    let mut change = vec![0; ours.len()];
    let none = crc32fast::hash(&change);
    let mut does = Vec::new();
    for (from, to) in &stretches {
        for at in *from..*to {
            change[at] = ours[at] ^ theirs[at];
        }
        does.push(crc32fast::hash(&change) ^ none); // N3
        change[*from..*to].fill(0);
    }
    let start = crc32fast::hash(ours);
    let fits = |which: &usize| {
        let all = does.iter().enumerate().filter(|(i, _)| which >> i & 1 == 1);
        all.fold(start, |crc, (_, does)| crc ^ does) == sum
    };
    let which = (0..1 << stretches.len()).find(fits)?;
    let mut block = ours.to_vec();
    for (_, (from, to)) in stretches.iter().enumerate().filter(|(i, _)| which >> i & 1 == 1) {
        block[*from..*to].copy_from_slice(&theirs[*from..*to]);
    }
    (crc32fast::hash(&block) == sum).then_some(block)
}

/// Where they differ: first byte and end, ascending (N2).
fn stretches(ours: &[u8], theirs: &[u8]) -> Vec<(usize, usize)> {
    let differ = (0..ours.len()).filter(|at| ours[*at] != theirs[*at]);
    let mut all: Vec<(usize, usize)> = differ.map(|at| (at, at + 1)).collect();
    let mut gap = 0;
    while all.len() > STRETCHES_MAX {
        let mut joined: Vec<(usize, usize)> = Vec::new();
        for (from, to) in all {
            match joined.last_mut() {
                Some((_, end)) if from - *end <= gap => *end = to,
                _ => joined.push((from, to)),
            }
        }
        all = joined;
        gap = (2 * gap).max(1);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block() -> Vec<u8> {
        (0..65_536_u32).map(|i| (i * 7 % 251) as u8).collect()
    }

    fn damaged(at: &[usize]) -> Vec<u8> {
        let mut block = block();
        for at in at {
            block[*at] ^= 0x20;
        }
        block
    }

    #[test]
    fn different_bits_are_taken_from_the_copy_that_has_them_right() {
        let sum = crc32fast::hash(&block());
        let ours = damaged(&[3, 70, 4096, 65_535]);
        let theirs = damaged(&[0, 71, 5000, 30_000]);
        assert!(combine(sum, &ours, &theirs) == Some(block()));
        assert!(combine(sum, &theirs, &ours) == Some(block()));
        assert!(combine(sum, &ours, &block()) == Some(block()));
        assert!(combine(sum, &block(), &ours) == Some(block()));
    }

    #[test]
    fn a_sector_that_cannot_be_read_here_is_taken_from_there() {
        let sum = crc32fast::hash(&block());
        let mut ours = block();
        ours[8192..12_288].fill(0); // with holes, since some bytes are zero anyhow
        let theirs = damaged(&[60_000, 60_001]);
        assert!(stretches(&ours, &theirs).len() <= STRETCHES_MAX);
        assert!(combine(sum, &ours, &theirs) == Some(block()));
    }

    #[test]
    fn what_both_have_wrong_is_not_made_up() {
        let sum = crc32fast::hash(&block());
        let ours = damaged(&[5]);
        assert_eq!(combine(sum, &ours, &ours), None);
        assert_eq!(combine(sum, &ours, &damaged(&[5, 900])), None);
        assert_eq!(combine(sum, &ours, &block()[1..]), None);
        assert_eq!(combine(sum, &[], &[]), None);
    }
}
