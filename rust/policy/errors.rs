// SPDX-License-Identifier: GPL-2.0-only

//! What is recorded of errors that the file system has met.
//!
//! Fault handlers return `VM_FAULT_SIGBUS` for all of them (`vmf_error()`), so the errno has to be found
//! out in another way, or deduced.

use super::growth::{
    Reading,
    NO_PAGES, //
};
use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// An error of the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileError {
    /// Positive.
    pub(crate) errno: u32,
    /// Whether the file system has not said so itself.
    pub(crate) deduced: bool,
}

fn deduced(error: Error) -> FileError {
    FileError {
        errno: error.to_errno().unsigned_abs(),
        deduced: true,
    }
}

/// The error of a fault that the file system has failed at, from what reading the page has shown.
pub(crate) fn failed(reading: Reading) -> FileError {
    match reading {
        Reading::Failed(errno) => FileError {
            errno,
            deduced: false,
        },
        Reading::Fine | Reading::NotTried => deduced(EIO),
    }
}

/// A file system with less space, in bytes, is full: some is always set aside for metadata.
const FULL: u64 = 16 * PAGE_SIZE as u64;

/// The error of a write to a page that the file system has refused. `free` is the space that it has
/// left, in bytes, if that is known.
pub(crate) fn refused(free: Option<u64>) -> FileError {
    match free {
        Some(free) if free < FULL => deduced(ENOSPC),
        _ => deduced(EIO),
    }
}

/// The first error of a mapping, and the page (index) that it was met at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FirstError {
    pub(crate) pgoff: u64,
    pub(crate) error: FileError,
}

/// An errno is less than 4096 (`MAX_ERRNO`); a page index less than 2^51, because the page was inside
/// EOF.
const ERRNO_BITS: u32 = 12;

impl FirstError {
    /// Where in the file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.pgoff * PAGE_SIZE as u64
    }

    /// As one number that can be stored at once; not 0, which stands for none.
    pub(crate) fn encode(&self) -> u64 {
        let errno = u64::from(self.error.errno) & ((1 << ERRNO_BITS) - 1);
        (self.pgoff << ERRNO_BITS | errno) << 1 | u64::from(self.error.deduced)
    }

    /// Undoes [`Self::encode`].
    pub(crate) fn decode(encoded: u64) -> Option<Self> {
        (encoded != 0).then_some(Self {
            pgoff: encoded >> (ERRNO_BITS + 1),
            error: FileError {
                errno: (encoded >> 1) as u32 & ((1 << ERRNO_BITS) - 1),
                deduced: encoded & 1 != 0,
            },
        })
    }
}

/// How many ranges of failed pages are told apart.
const RANGES: usize = 4;

/// The pages of a mapping (indexes) that have stand-ins because of errors, as ranges.
///
/// If there were more than [`RANGES`], those with the fewest pages between them count as one. That
/// bounds the memory, and how often [`Self::ranges`] has the file's VMAs walked.
pub(crate) struct FailedPages(
    /// In ascending order, with pages between each two.
    KVec<Range<u64>>,
);

impl FailedPages {
    /// None, and no room for any.
    pub(crate) const NONE: Self = Self(KVec::new());

    /// None yet. Fails with `ENOMEM`.
    pub(crate) fn with_room() -> Result<Self> {
        Ok(Self(KVec::with_capacity(RANGES + 1, GFP_KERNEL_ACCOUNT)?))
    }

    /// Adds a page.
    pub(crate) fn add(&mut self, pgoff: u64) {
        // The first range that may have it.
        let at = self.0.partition_point(|range| range.end <= pgoff);
        if self.0.get(at).is_some_and(|range| range.start <= pgoff) {
            return;
        }
        // There is room for one more than stay.
        let _ = self.0.insert_within_capacity(at, pgoff..pgoff + 1);
        while let Some((at, between)) = self.nearest() {
            if between > 0 && self.0.len() <= RANGES {
                return;
            }
            if let Ok(second) = self.0.remove(at + 1) {
                if let Some(first) = self.0.get_mut(at) {
                    first.end = second.end;
                }
            }
        }
    }

    /// Of the two ranges with the fewest pages between them: where the first is, and how many that are.
    fn nearest(&self) -> Option<(usize, u64)> {
        let between = |at: usize| Some(self.0.get(at + 1)?.start - self.0.get(at)?.end);
        (0..self.0.len())
            .filter_map(|at| Some((at, between(at)?)))
            .min_by_key(|&(_, between)| between)
    }

    /// All pages, in ascending order.
    pub(crate) fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// From the first page to behind the last.
    pub(crate) fn bounds(&self) -> Range<u64> {
        match (self.0.first(), self.0.last()) {
            (Some(first), Some(last)) => first.start..last.end,
            _ => NO_PAGES,
        }
    }

    /// Removes all pages.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

#[kunit_tests(nosigbus_policy_errors)]
mod tests {
    use super::*;

    #[test]
    fn told_or_deduced() {
        let eio = EIO.to_errno().unsigned_abs();
        let enospc = ENOSPC.to_errno().unsigned_abs();
        for (error, errno, deduced) in [
            (failed(Reading::Failed(117)), 117, false),
            (failed(Reading::Fine), eio, true),
            (failed(Reading::NotTried), eio, true),
            (refused(Some(0)), enospc, true),
            (refused(Some(FULL - 1)), enospc, true),
            (refused(Some(FULL)), eio, true),
            (refused(None), eio, true),
        ] {
            assert_eq!(error, FileError { errno, deduced });
        }
    }

    #[test]
    fn one_number_says_it_all() {
        assert_eq!(FirstError::decode(0), None);
        for pgoff in [0, 1, 77, (1 << 51) - 1] {
            for errno in [1, 5, 28, 4095] {
                for deduced in [false, true] {
                    let error = FileError { errno, deduced };
                    let first = FirstError { pgoff, error };
                    assert_ne!(first.encode(), 0);
                    assert_eq!(FirstError::decode(first.encode()), Some(first));
                    assert_eq!(first.offset(), pgoff * PAGE_SIZE as u64);
                }
            }
        }
    }

    fn with(pages: impl IntoIterator<Item = u64>) -> Result<FailedPages> {
        let mut failed = FailedPages::with_room()?;
        pages.into_iter().for_each(|pgoff| failed.add(pgoff));
        Ok(failed)
    }

    #[test]
    fn failed_pages_are_kept_as_ranges() -> Result {
        let none: [Range<u64>; 0] = [];
        assert_eq!(with([])?.ranges(), none);
        assert_eq!(with([])?.bounds(), NO_PAGES);
        // Each order.
        for pages in [
            [4, 5, 6],
            [4, 6, 5],
            [5, 4, 6],
            [5, 6, 4],
            [6, 4, 5],
            [6, 5, 4],
        ] {
            let mut failed = with(Iterator::chain(pages.into_iter(), [5, 9, 2, 9]))?;
            assert_eq!(failed.ranges(), [2..3, 4..7, 9..10]);
            assert_eq!(failed.bounds(), 2..10);
            failed.add(3);
            assert_eq!(failed.ranges(), [2..7, 9..10]);
            failed.add(8);
            failed.add(0);
            assert_eq!(failed.ranges(), [0..1, 2..7, 8..10]);
            failed.clear();
            assert_eq!(failed.bounds(), NO_PAGES);
        }
        Ok(())
    }

    #[test]
    fn failed_pages_take_little_memory() -> Result {
        let all = RANGES as u64;
        let even = || (1..=all).map(|index| 10 * index);
        assert_eq!(with(even())?.ranges().len(), RANGES);
        // One more, at each place: none is forgotten, and little is added.
        for more in (0..=10 * all + 5).filter(|page| page % 10 != 0) {
            let failed = with(Iterator::chain(even(), [more]))?;
            assert_eq!(failed.ranges().len(), RANGES);
            for page in Iterator::chain(even(), [more]) {
                assert!(failed.ranges().iter().any(|range| range.contains(&page)));
            }
            let count: u64 = failed
                .ranges()
                .iter()
                .map(|range| range.end - range.start)
                .sum();
            assert!(count <= all + 9);
        }
        // Far away from all others.
        assert_eq!(
            with(Iterator::chain(even(), [1 << 40]))?.ranges().last(),
            Some(&((1 << 40)..(1 << 40) + 1))
        );
        Ok(())
    }
}
