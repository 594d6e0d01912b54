// SPDX-License-Identifier: GPL-2.0-only

//! Errors of the file system: how to tell one from a race with a change of size, and the set of
//! failed pages.
//!
//! File systems return `VM_FAULT_SIGBUS` for nearly all errors (`vmf_error()`), and past EOF. So
//! the errno is learned by reading the page, or deduced.

use core::ops::Range;
use kernel::{
    page::PAGE_SIZE,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    }, //
};

/// An error of the file system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FileError {
    /// Positive.
    pub(crate) errno: u32,
    /// `true` if the errno is a guess: the file system returned only `VM_FAULT_SIGBUS`.
    pub(crate) deduced: bool,
}

fn deduced(error: Error) -> FileError {
    FileError {
        errno: error.to_errno().unsigned_abs(),
        deduced: true,
    }
}

/// What to do about a `VM_FAULT_SIGBUS` of `->fault` inside EOF.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Have the access tried again: the page was past EOF when the file system looked.
    Retry,
    /// Call `->fault` again.
    AskAgain,
    /// The file system has failed.
    Failed(FileError),
}

/// How many calls of `->fault` must fail if reading the page tells nothing.
///
/// The SIGBUS that is accepted then is wrong only if each of the calls has met a shrink, and the
/// file has grown again before `i_size` was loaded. More calls would cost more: each may wait for
/// the timeout of a disk or server.
const ATTEMPTS: u32 = 8;

/// Judges a `VM_FAULT_SIGBUS` inside EOF. `reading` is the result of reading the page while it
/// could not be truncated; `None` if that is not possible: the file system's `->fault` takes locks
/// that a read here would miss (gfs2, ocfs2, ceph, orangefs). `attempt` counts the calls of
/// `->fault` from 1.
pub(crate) fn judge(reading: Option<Result>, attempt: u32) -> Verdict {
    match reading {
        Some(Ok(())) => Verdict::Retry,
        None if attempt < ATTEMPTS => Verdict::AskAgain,
        None => Verdict::Failed(deduced(EIO)),
        // These may be about this task and not about the page. But a server may return them, too.
        // So give up after `ATTEMPTS`.
        Some(Err(error)) if [EINTR, ERESTARTSYS, ENOMEM].contains(&error) && attempt < ATTEMPTS => {
            Verdict::AskAgain
        }
        Some(Err(error)) => Verdict::Failed(FileError {
            errno: error.to_errno().unsigned_abs(),
            deduced: false,
        }),
    }
}

/// Below this many free bytes, a failed write is assumed to be ENOSPC.
const ENOSPC_BELOW: u64 = 16 * PAGE_SIZE as u64;

/// The error of a write to a page that the file system has refused. `free` is the space that it has
/// left, in bytes, if that is known.
pub(crate) fn error_of_write(free: Option<u64>) -> FileError {
    match free {
        Some(free) if free < ENOSPC_BELOW => deduced(ENOSPC),
        _ => deduced(EIO),
    }
}

/// The first error of a mapping, and the page (index) that it was met at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct FirstError {
    pub(crate) pgoff: u64,
    pub(crate) error: FileError,
}

/// An errno is less than 4096 (`MAX_ERRNO`). A page index is less than 2^51, because the page was
/// inside EOF.
const ERRNO_BITS: u32 = 12;

impl FirstError {
    /// Where in the file, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.pgoff * PAGE_SIZE as u64
    }

    /// Packs the error into a non-zero u64, so that it can be stored atomically; 0 means no error.
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

/// How many ranges there are at most, which bounds the memory.
const MAX_RANGES: usize = 1 << 16;

/// A set of page indexes, stored as ranges. When there would be more than `max` ranges, merges
/// neighbours, so the set may contain extra pages.
///
/// # Invariants
///
/// - `ranges` maps the start of each range to its (exclusive) end.
/// - Ranges neither overlap nor touch.
/// - `count` is the number of ranges.
pub(crate) struct PageSet {
    ranges: RBTree<u64, u64>,
    count: usize,
    max: usize,
}

/// Memory for one more page of a [`PageSet`].
pub(crate) struct Room(RBTreeNodeReservation<u64, u64>);

impl Room {
    /// Sleeps; fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(RBTreeNodeReservation::new(GFP_KERNEL_ACCOUNT)?))
    }
}

impl PageSet {
    /// No pages.
    pub(crate) fn new() -> Self {
        Self::of_at_most(MAX_RANGES)
    }

    fn of_at_most(max: usize) -> Self {
        // INVARIANT: No range.
        Self {
            ranges: RBTree::new(),
            count: 0,
            max,
        }
    }

    /// Adds `pgoff`. Returns `room` if no new range was needed.
    pub(crate) fn add(&mut self, pgoff: u64, room: Room) -> Option<Room> {
        let before = self.at_or_before(pgoff);
        if before.as_ref().is_some_and(|before| pgoff < before.end) {
            return Some(room);
        }
        let mut pages = pgoff..pgoff + 1;
        // INVARIANT: Merged with adjacent ranges; if the set is full, with the preceding range
        // (else the following one).
        let is_full = self.count >= self.max;
        if let Some(before) = before.filter(|before| before.end == pgoff || is_full) {
            pages.start = before.start;
        }
        let behind = self.next(pgoff);
        if let Some(behind) =
            behind.filter(|behind| behind.start == pages.end || is_full && pages.start == pgoff)
        {
            self.ranges.remove(&behind.start);
            self.count -= 1;
            pages.end = behind.end;
        }
        if let Some(end) = self.ranges.get_mut(&pages.start) {
            *end = pages.end;
            return Some(room);
        }
        self.ranges.insert(room.0.into_node(pages.start, pages.end));
        self.count += 1;
        None
    }

    /// The first run of consecutive pages at or after `pgoff`.
    pub(crate) fn next(&self, pgoff: u64) -> Option<Range<u64>> {
        match self.at_or_before(pgoff) {
            Some(range) if pgoff < range.end => Some(pgoff..range.end),
            _ => {
                let (&start, &end) = self.ranges.cursor_lower_bound(&pgoff)?.current();
                Some(start..end)
            }
        }
    }

    /// The first page.
    pub(crate) fn first(&self) -> Option<u64> {
        Some(self.next(0)?.start)
    }

    /// The last range that starts at `pgoff` or before it.
    fn at_or_before(&self, pgoff: u64) -> Option<Range<u64>> {
        let range = |(&start, &end): (&u64, &u64)| start..end;
        match self.ranges.cursor_lower_bound(&pgoff) {
            Some(found) if *found.current().0 == pgoff => Some(range(found.current())),
            Some(behind) => behind.peek_prev().map(range),
            None => self.ranges.cursor_back().map(|last| range(last.current())),
        }
    }
}

#[kunit_tests(nosigbus_policy_errors)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_cannot_be_read_is_an_error() {
        for attempt in [1, 2, ATTEMPTS, u32::MAX] {
            assert_eq!(judge(Some(Ok(())), attempt), Verdict::Retry);
            for error in [EIO, ENOSPC, EAGAIN] {
                assert_eq!(judge(Some(Err(error)), attempt), failed(error));
            }
        }
    }

    fn failed(error: Error) -> Verdict {
        Verdict::Failed(FileError {
            errno: error.to_errno().unsigned_abs(),
            deduced: false,
        })
    }

    #[test]
    fn the_file_system_is_asked_again_if_the_read_tells_nothing() {
        let gives_up = [EINTR, ERESTARTSYS, ENOMEM];
        for attempt in [1, 2, ATTEMPTS - 1] {
            assert_eq!(judge(None, attempt), Verdict::AskAgain);
            for error in gives_up {
                assert_eq!(judge(Some(Err(error)), attempt), Verdict::AskAgain);
            }
        }
        assert_eq!(judge(None, ATTEMPTS), Verdict::Failed(deduced(EIO)));
        for error in gives_up {
            assert_eq!(judge(Some(Err(error)), ATTEMPTS), failed(error));
        }
    }

    #[test]
    fn a_refused_write_is_enospc_if_there_is_no_space() {
        for (free, error) in [
            (Some(0), ENOSPC),
            (Some(ENOSPC_BELOW - 1), ENOSPC),
            (Some(ENOSPC_BELOW), EIO),
            (None, EIO),
        ] {
            assert_eq!(error_of_write(free), deduced(error));
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

    fn with(pages: impl IntoIterator<Item = u64>) -> Result<PageSet> {
        let mut set = PageSet::new();
        for pgoff in pages {
            set.add(pgoff, Room::new()?);
        }
        Ok(set)
    }

    #[test]
    fn page_sets_are_ranges() -> Result {
        assert!(with([])?.first().is_none());
        // Each order.
        for pages in [
            [4, 5, 6],
            [4, 6, 5],
            [5, 4, 6],
            [5, 6, 4],
            [6, 4, 5],
            [6, 5, 4],
        ] {
            let mut set = with(Iterator::chain(pages.into_iter(), [5, 9, 2, 9]))?;
            assert_eq!(set.first(), Some(2));
            assert!(set.add(3, Room::new()?).is_some());
            assert!(set.add(8, Room::new()?).is_none());
            assert!(set.add(0, Room::new()?).is_none());
            assert_eq!(set.count, 3);
            assert_eq!(set.next(0), Some(0..1));
            assert_eq!(set.next(1), Some(2..7));
            assert_eq!(set.next(3), Some(3..7));
            assert_eq!(set.next(7), Some(8..10));
            assert_eq!(set.next(9), Some(9..10));
            assert_eq!(set.next(10), None);
        }
        Ok(())
    }

    #[test]
    fn page_sets_take_little_memory() -> Result {
        let mut set = PageSet::of_at_most(4);
        for pgoff in [10, 20, 30, 40] {
            assert!(set.add(pgoff, Room::new()?).is_none());
        }
        assert!(set.add(15, Room::new()?).is_some());
        assert!(set.add(3, Room::new()?).is_none());
        assert_eq!(set.count, 4);
        assert_eq!(set.next(0), Some(3..16));
        assert_eq!(set.next(12), Some(12..16));
        assert_eq!(set.next(16), Some(20..21));
        Ok(())
    }
}
