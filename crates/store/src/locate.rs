//! Where in a block the damage is, when nothing is left of it but sums.
//!
//! P1  Beside its CRC-32 a block has the CRCs of its sectors, all XORed into one, and those of its pages: as if the rest of a
//!     short one were zeros, and so that zeros have none. If one sector is damaged, or one page, its CRC differs by as much
//!     as that sum does; and how this makes the CRC of the block differ depends on which one it is.
//! P2  Damage in several places fits one of them by chance once in 30 million times.
//! P3  All of it is linear: bytes that come, or go, change the sums by what they are alone, wherever the others are.
//!
//! Not here: what the bytes should be. That cannot be known.

use mboxfs_types::limits::SUM_BLOCK_BYTES as BLOCK;
use std::ops::Range;

/// Bytes that a device writes, or not; and those that the kernel does.
const UNITS: [usize; 2] = [512, 4096];

/// Of sectors and of pages (P1).
pub(crate) type Places = [u32; UNITS.len()];

/// What these bytes are for the sums of a block in which they begin at `from`.
pub(crate) fn places(from: usize, bytes: &[u8]) -> Places {
    UNITS.map(|unit| {
        let mut padded = vec![0; unit];
        let none = crc32fast::hash(&padded);
        let (mut sum, mut at) = (0, 0);
        while at < bytes.len() {
            let start = (from + at) % unit;
            let len = (unit - start).min(bytes.len() - at);
            let part = &bytes[at..at + len];
            let crc = if len == unit {
                crc32fast::hash(part)
            } else {
                padded.fill(0);
                padded[start..start + len].copy_from_slice(part);
                crc32fast::hash(&padded)
            };
            sum ^= crc ^ none;
            at += len;
        }
        sum
    })
}

/// The sector or page with all of the damage, of a block of `len` bytes; by what its CRC and its places differ from what
/// they should be. None: there is none, or more.
pub(crate) fn locate(len: usize, crc: u32, places: Places) -> Option<Range<usize>> {
    UNITS.iter().zip(places).find_map(|(unit, place)| {
        let count = len.div_ceil(*unit);
        // As the block's CRC sees it from the end of the last one on.
        let seen = shift(crc, count * unit - len);
        let mut would = place;
        let mut found = None;
        for at in (0..count).rev() {
            if would == seen && place != 0 {
                if found.is_some() {
                    return None;
                }
                found = Some(at * unit..len.min((at + 1) * unit));
            }
            would = shift(would, *unit);
        }
        found
    })
}

/// A linear CRC with so many zeros behind.
fn shift(mut crc: u32, zeros: usize) -> u32 {
    for _ in 0..8 * zeros {
        crc = (crc >> 1) ^ (0xEDB8_8320 & (crc & 1).wrapping_neg());
    }
    crc
}

const _: () = assert!(BLOCK.is_multiple_of(UNITS[1] as u64) && UNITS[1].is_multiple_of(UNITS[0]));

#[cfg(test)]
mod tests {
    use super::*;

    fn found(len: usize, damage: impl Fn(&mut [u8])) -> Option<Range<usize>> {
        let good: Vec<u8> = (0..len).map(|i| (i * 7 % 251) as u8).collect();
        let mut bad = good.clone();
        damage(&mut bad);
        let ([a, b], [c, d]) = (places(0, &good), places(0, &bad));
        let crc = crc32fast::hash(&good) ^ crc32fast::hash(&bad);
        locate(len, crc, [a ^ c, b ^ d])
    }

    #[test]
    fn damage_in_one_sector_or_page_is_found() {
        for len in [65_536, 65_535, 4097, 700, 512, 30] {
            for at in [0, 29, 511, 512, 600, 4095, 4096, 40_000, 65_000, 65_534] {
                if at >= len {
                    continue;
                }
                let sector = at / 512 * 512;
                let end = len.min(sector + 512);
                assert_eq!(found(len, |block| block[at] ^= 1), Some(sector..end), "{at} of {len}");
                assert_eq!(found(len, |block| block[sector..end].fill(0x55)), Some(sector..end));
            }
        }
        assert_eq!(found(65_536, |block| block[8190..8195].fill(1)), None, "two pages");
        assert_eq!(found(65_536, |block| block[8192..12_288].fill(1)), Some(8192..12_288));
        assert_eq!(found(65_536, |block| block[9000..9900].fill(1)), Some(8192..12_288));
        assert_eq!(found(65_536, |block| (block[1], block[60_000]) = (0, 0)), None);
        assert_eq!(found(65_536, |_| ()), None);
    }

    /// P3
    #[test]
    fn parts_add_up() {
        let block: Vec<u8> = (0..65_536_u32).map(|i| (i * 31 % 249) as u8).collect();
        let mut sum = Places::default();
        let mut from = 0;
        for len in [1, 510, 2, 600, 4096, 9000, 65_536] {
            let to = (from + len).min(block.len());
            let part = places(from, &block[from..to]);
            sum = [sum[0] ^ part[0], sum[1] ^ part[1]];
            from = to;
        }
        assert_eq!(sum, places(0, &block));
        assert_eq!(places(77, &[0; 9000]), Places::default());
    }
}
