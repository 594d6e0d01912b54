// SPDX-License-Identifier: GPL-2.0-only

//! How many pages the zero page is mapped at, at one read fault past EOF.
//!
//! Core mm maps pages of the file around the one that is accessed (`fault_around_bytes`), because
//! they are in memory anyway. The zero page always is; but whoever reads one page past EOF, and
//! not those before it, has no use for more.

use core::ops::RangeInclusive;
use kernel::prelude::*;

/// The pages (indexes) that core mm would map at a fault without being asked for them: at most
/// `fault_around_bytes`, inside one VMA and one page table.
///
/// # Invariants
///
/// `pages` is less than `1 << LEN_BITS`, and `first` fits in what that leaves of 64 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Around {
    first: u64,
    pages: u64,
}

/// Core mm takes no `fault_around_bytes` larger than a page table (`fault_around_bytes_set()`): 512
/// pages of 4 KiB, 8192 of 64 KiB.
const LEN_BITS: u32 = 14;

impl Around {
    /// No pages.
    pub(crate) const NONE: Self = Self { first: 0, pages: 0 };

    /// As core mm says it. What cannot be is none.
    pub(crate) fn new(around: RangeInclusive<u64>) -> Self {
        let (first, last) = around.into_inner();
        match last.checked_sub(first) {
            // INVARIANT: Asked for.
            Some(more) if more < (1 << LEN_BITS) - 1 && first >> (u64::BITS - LEN_BITS) == 0 => {
                Self {
                    first,
                    pages: more + 1,
                }
            }
            _ => Self::NONE,
        }
    }

    /// As one number.
    pub(crate) fn encode(self) -> u64 {
        self.first << LEN_BITS | self.pages
    }

    /// What [`Self::encode`] has made a number of.
    pub(crate) fn decode(number: u64) -> Self {
        // INVARIANT: By what is cut off.
        Self {
            first: number >> LEN_BITS,
            pages: number & ((1 << LEN_BITS) - 1),
        }
    }
}

/// How many pages from `pgoff` on, which is past EOF, the zero page is to be mapped at: at least
/// that one. What is behind it is past EOF as well.
///
/// `around` is what core mm has last wanted to map; it need not have been for this fault. `next` is
/// the index behind the last page that the zero page was mapped at: only who reads one page after
/// the other is given more than one.
pub(crate) fn pages_to_map(pgoff: u64, around: Around, next: u64) -> usize {
    match pgoff.checked_sub(around.first) {
        Some(before) if before < around.pages && pgoff == next => (around.pages - before) as usize,
        _ => 1,
    }
}

#[kunit_tests(nosigbus_policy_fault_around)]
mod tests {
    use super::*;

    #[test]
    fn one_page_after_the_other_gets_the_rest_of_the_window() {
        let around = Around::new(16..=31);
        assert_eq!(pages_to_map(16, around, 16), 16);
        assert_eq!(pages_to_map(17, around, 17), 15);
        assert_eq!(pages_to_map(31, around, 31), 1);
    }

    #[test]
    fn an_isolated_page_gets_one() {
        let around = Around::new(16..=31);
        for next in [0, 15, 17, 18, 32, u64::MAX] {
            assert_eq!(pages_to_map(16, around, next), 1);
        }
    }

    #[test]
    fn a_window_that_is_not_for_this_fault_is_not_used() {
        let around = Around::new(16..=31);
        for pgoff in [0, 15, 32, u64::MAX] {
            assert_eq!(pages_to_map(pgoff, around, pgoff), 1);
        }
        assert_eq!(pages_to_map(0, Around::NONE, 0), 1);
    }

    #[test]
    fn windows_are_numbers() {
        for window in [0..=0, 0..=15, 1..=512, (1 << 49)..=(1 << 49) + 8191] {
            let around = Around::new(window.clone());
            assert_eq!(Around::decode(around.encode()), around);
            assert_eq!(
                pages_to_map(*window.start(), around, *window.start()),
                window.count()
            );
        }
    }

    #[test]
    fn what_cannot_be_is_none() {
        for (first, last) in [
            (1, 0),
            (0, u64::MAX),
            (0, 1 << LEN_BITS),
            (1 << 50, 1 << 50),
            (u64::MAX, u64::MAX), //
        ] {
            assert_eq!(Around::new(RangeInclusive::new(first, last)), Around::NONE);
        }
        assert_eq!(Around::decode(Around::NONE.encode()), Around::NONE);
    }
}
