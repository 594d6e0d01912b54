// SPDX-License-Identifier: GPL-2.0-only

//! Ranges of addresses as user space passes them.

use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// A range of addresses.
///
/// # Invariants
///
/// `start` and `end` are multiples of the page size, and `start < end`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PageRange {
    start: usize,
    end: usize,
}

impl PageRange {
    /// Checks `len` bytes from `addr`.
    ///
    /// `EINVAL` if the range is empty, not of whole pages, or does not fit in an address space.
    pub(crate) fn new(addr: u64, len: u64) -> Result<Self> {
        let start = usize::try_from(addr)?;
        let len = usize::try_from(len)?;
        let end = start.checked_add(len).ok_or(EINVAL)?;
        if len == 0 || start % PAGE_SIZE != 0 || end % PAGE_SIZE != 0 {
            return Err(EINVAL);
        }
        // INVARIANT: Checked just now; `end` has not wrapped and `len` is not 0.
        Ok(Self { start, end })
    }

    /// Address of the first byte.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    /// Address after the last byte.
    pub(crate) fn end(&self) -> usize {
        self.end
    }

    /// Checks that a VMA from `start` to `end` lies in the range as a whole. `EINVAL` if part of
    /// it is outside.
    pub(crate) fn check_whole(&self, start: usize, end: usize) -> Result {
        if start < self.start || end > self.end {
            return Err(EINVAL);
        }
        Ok(())
    }
}

#[kunit_tests(nosigbus_policy_range)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;

    #[test]
    fn good_ranges() {
        for (addr, len) in [
            (0, PAGE),
            (PAGE, 3 * PAGE),
            (u64::MAX - 2 * PAGE + 1, PAGE), //
        ] {
            let range = PageRange::new(addr, len);
            assert!(range.is_ok_and(
                |range| range.start() as u64 == addr && range.end() as u64 == addr + len
            ));
        }
    }

    #[test]
    fn bad_ranges() {
        for (addr, len) in [
            (0, 0),
            (PAGE, 0),
            (1, PAGE),
            (PAGE - 1, 2 * PAGE),
            (PAGE, 1),
            (PAGE, PAGE + 1),
            (1, PAGE - 1),
            (PAGE, u64::MAX),
            (u64::MAX, 1),
            (u64::MAX - PAGE + 1, PAGE),
            (u64::MAX - PAGE + 1, 2 * PAGE),
            (PAGE, u64::MAX - PAGE + 1),
        ] {
            assert_eq!(PageRange::new(addr, len), Err(EINVAL));
        }
    }

    #[test]
    fn vmas_are_whole_or_refused() -> Result {
        let page = PAGE_SIZE;
        let range = PageRange::new(2 * PAGE, 3 * PAGE)?;
        assert_eq!(range.check_whole(2 * page, 5 * page), Ok(()));
        assert_eq!(range.check_whole(3 * page, 4 * page), Ok(()));
        assert_eq!(range.check_whole(page, 5 * page), Err(EINVAL));
        assert_eq!(range.check_whole(2 * page, 6 * page), Err(EINVAL));
        Ok(())
    }
}
