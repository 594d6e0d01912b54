// SPDX-License-Identifier: GPL-2.0-only

//! How many pages the zero page is mapped at, at one read fault past EOF.
//!
//! Core mm maps pages of the file around the one that is accessed (`fault_around_bytes`), because
//! they are in memory anyway. The zero page always is; but whoever reads one page past EOF, and
//! not those before it, has no use for more.

use core::ops::RangeInclusive;
use kernel::prelude::*;

/// How many pages from `pgoff` on, which is past EOF, the zero page is to be mapped at: at least
/// that one. What is behind it is past EOF as well.
///
/// `around` is what core mm would map at this fault if it were in the page cache: inside one VMA and
/// one page table. `next` is the index behind the last page that the zero page was mapped at: only
/// who reads one page after the other is given more than one.
pub(crate) fn pages_to_map(pgoff: u64, around: &RangeInclusive<u64>, next: u64) -> usize {
    if pgoff == next && around.contains(&pgoff) {
        (around.end() - pgoff) as usize + 1
    } else {
        1
    }
}

#[kunit_tests(nosigbus_policy_fault_around)]
mod tests {
    use super::*;

    #[test]
    fn one_page_after_the_other_gets_the_rest_of_the_window() {
        assert_eq!(pages_to_map(16, &(16..=31), 16), 16);
        assert_eq!(pages_to_map(17, &(16..=31), 17), 15);
        assert_eq!(pages_to_map(31, &(16..=31), 31), 1);
    }

    #[test]
    fn an_isolated_page_gets_one() {
        for next in [0, 15, 17, 18, 32, u64::MAX] {
            assert_eq!(pages_to_map(16, &(16..=31), next), 1);
        }
    }

    #[test]
    fn a_window_of_other_pages_is_not_used() {
        for pgoff in [0, 15, 32, u64::MAX] {
            assert_eq!(pages_to_map(pgoff, &(16..=31), pgoff), 1);
        }
        assert_eq!(pages_to_map(16, &RangeInclusive::new(31, 16), 16), 1);
    }
}
