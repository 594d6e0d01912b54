// SPDX-License-Identifier: GPL-2.0-only

//! How many pages the zero page is mapped at, at one read fault past EOF.
//!
//! Core mm maps pages of the file around the one that is accessed (`fault_around_bytes`), because
//! they are in memory anyway. The zero page always is; but whoever reads one page past EOF, and
//! not those before it, has no use for more.

use core::ops::RangeInclusive;
use kernel::prelude::*;

/// How many readers of a mapping are known that each read one page after the other.
pub(crate) const READERS: usize = 4;

/// How many pages from `pgoff` on, which is past EOF, the zero page is to be mapped at: at least
/// that one. What is behind it is past EOF as well. And which of `READERS` it is that reads.
///
/// `around` is what core mm would map at this fault if it were in the page cache: inside one VMA and
/// one page table. `nexts` has, of each reader, the index behind the last page that the zero page
/// was mapped at: only who reads one page after the other is given more than one.
pub(crate) fn pages_to_map(
    pgoff: u64,
    around: &RangeInclusive<u64>,
    mut nexts: impl Iterator<Item = u64>,
) -> (usize, usize) {
    match nexts.position(|next| next == pgoff) {
        Some(reader) if around.contains(&pgoff) => ((around.end() - pgoff) as usize + 1, reader),
        _ => (1, new_reader(pgoff)),
    }
}

/// In whose place who begins to read at `pgoff` is remembered: for readers that begin at regular
/// distances, not always in that of the one before.
fn new_reader(pgoff: u64) -> usize {
    // GOLDEN_RATIO_64, of include/linux/hash.h.
    const GOLDEN_RATIO: u64 = 0x61c8_8646_80b5_83eb;
    let hash = pgoff.wrapping_mul(GOLDEN_RATIO);
    (hash >> (u64::BITS - READERS.ilog2())) as usize
}

#[kunit_tests(nosigbus_policy_fault_around)]
mod tests {
    use super::*;

    const NOBODY: u64 = u64::MAX;

    #[test]
    fn one_page_after_the_other_gets_the_rest_of_the_window() {
        for (pgoff, pages) in [(16, 16), (17, 15), (31, 1)] {
            for reader in 0..READERS {
                let mut nexts = [NOBODY; READERS];
                nexts[reader] = pgoff;
                assert_eq!(
                    pages_to_map(pgoff, &(16..=31), nexts.into_iter()),
                    (pages, reader)
                );
            }
        }
    }

    #[test]
    fn an_isolated_page_gets_one() {
        for next in [0, 15, 17, 18, 32, NOBODY] {
            let (pages, reader) = pages_to_map(16, &(16..=31), [next; READERS].into_iter());
            assert_eq!(pages, 1);
            assert!(reader < READERS);
        }
    }

    #[test]
    fn a_window_of_other_pages_is_not_used() {
        for pgoff in [0, 15, 32, u64::MAX] {
            assert_eq!(pages_to_map(pgoff, &(16..=31), [pgoff].into_iter()).0, 1);
        }
        let empty = RangeInclusive::new(31, 16);
        assert_eq!(pages_to_map(16, &empty, [16].into_iter()).0, 1);
    }

    #[test]
    fn readers_at_regular_distances_do_not_share_a_place() {
        for distance in (0..20).map(|order| 1 << order) {
            let mut met = [false; READERS];
            for i in 0..32 {
                met[new_reader(i * distance)] = true;
            }
            assert_eq!(met, [true; READERS]);
        }
    }
}
