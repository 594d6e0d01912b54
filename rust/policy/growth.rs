// SPDX-License-Identifier: GPL-2.0-only

//! What a change of a file's size means for stand-ins, and what a SIGBUS of the file system means
//! when the size has changed.

use super::fault::{
    first_past_eof,
    past_eof, //
};
use core::ops::Range;
use kernel::prelude::*;

/// What there is to do when a file has been modified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Modified {
    /// The file may have shrunk since the last time.
    pub(crate) shrunk: bool,
    /// The pages (indexes) that may have stand-ins, and that the file has now. May be empty.
    pub(crate) grown_over: Range<u64>,
    /// The index that no stand-in is below, afterwards.
    pub(crate) lowest: u64,
}

/// Decides what to do when a file has been modified.
///
/// `truncated` says that it was by a change of attributes, truncation being one, and not by a
/// change of content. `last_size` is the size in bytes as of the last modification, `i_size` as of
/// now, `lowest` the index that no stand-in past EOF is below, and `first_failed` the one that no
/// stand-in for an error is below.
pub(crate) fn modified(
    truncated: bool,
    last_size: u64,
    i_size: u64,
    lowest: u64,
    first_failed: u64,
) -> Modified {
    let end = first_past_eof(i_size);
    Modified {
        // A truncation may have undone a growth that has not been reported yet, so that the size is
        // what it was; of the changes of content only collapsing a range shrinks the file.
        shrunk: truncated || i_size != last_size,
        grown_over: lowest..end.max(lowest),
        // What stands in for an error and is past EOF now is a stand-in as any other.
        lowest: lowest.min(first_failed).max(end),
    }
}

/// Whether the file, of `i_size` bytes, has grown over stand-ins without their having been dropped:
/// nobody has said so yet, or never will. `lowest` is the index that no stand-in is below.
pub(crate) fn is_overdue(i_size: u64, lowest: u64) -> bool {
    !past_eof(lowest, i_size)
}

/// What reading the page has shown, done when the file system has answered a fault with SIGBUS
/// although the page is inside EOF, and no truncation has been seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// It could be read, or is past EOF now: a range of the file has been collapsed, and the file
    /// has grown again. Or the file system has failed for another reason than reading.
    Fine,
    /// It could not, while nothing could collapse a range: an error of the file system, whose
    /// (positive) errno this is.
    Failed(u32),
    /// It was not tried, because this file cannot shrink without being seen.
    NotTried,
}

/// How often the file system is asked at most, as long as the page can be read.
///
/// Each time takes a collapse and a growth between two looks at the size within one fault, neither
/// reported before the last attempt is over.
const ATTEMPTS: u32 = 32;

/// Whether a SIGBUS of the file system, for a page inside EOF, when no truncation has been seen, is
/// an error of the file system. If not, it is to be asked again. `attempt` counts from 1.
pub(crate) fn is_real_error(reading: Reading, attempt: u32) -> bool {
    reading != Reading::Fine || attempt >= ATTEMPTS
}

#[kunit_tests(nosigbus_policy_growth)]
mod tests {
    use super::*;
    use kernel::page::PAGE_SIZE;

    const PAGE: u64 = PAGE_SIZE as u64;
    const NONE: u64 = u64::MAX;

    #[test]
    fn growth_drops_what_is_inside_now() {
        for (i_size, lowest, grown_over, then) in [
            (0, 0, 0..0, 0),
            (0, NONE, NONE..NONE, NONE),
            (1, 0, 0..1, 1),
            (PAGE, 0, 0..1, 1),
            (PAGE + 1, 0, 0..2, 2),
            (PAGE, 1, 1..1, 1),
            (3 * PAGE, 1, 1..3, 3),
            (3 * PAGE, 7, 7..7, 7),
            (i64::MAX as u64, 5, 5..(1 << 63) / PAGE, (1 << 63) / PAGE),
            (i64::MAX as u64, NONE, NONE..NONE, NONE),
        ] {
            let modified = modified(false, i_size, i_size, lowest, NONE);
            assert_eq!(modified.grown_over, grown_over);
            assert_eq!(modified.lowest, then);
            assert_eq!(is_overdue(i_size, lowest), !grown_over.is_empty());
            assert!(!is_overdue(i_size, then));
        }
    }

    #[test]
    fn shrinking_is_noticed() {
        assert!(modified(true, 10, 5, NONE, NONE).shrunk);
        assert!(modified(true, 10, 10, NONE, NONE).shrunk);
        assert!(modified(false, 10, 5, NONE, NONE).shrunk);
        assert!(!modified(false, 10, 10, NONE, NONE).shrunk);
    }

    #[test]
    fn stand_ins_for_errors_that_were_cut_off_go_with_growth() {
        // Errors from page 3 on, nothing past EOF: the file has 8 pages, then 2, then 8.
        let before = modified(true, 0, 8 * PAGE, NONE, 3);
        assert_eq!((before.grown_over, before.lowest), (NONE..NONE, 8));
        let cut = modified(true, 8 * PAGE, 2 * PAGE, before.lowest, 3);
        assert_eq!((cut.grown_over, cut.lowest), (8..8, 3));
        let grown = modified(true, 2 * PAGE, 8 * PAGE, cut.lowest, 3);
        assert_eq!((grown.grown_over, grown.lowest), (3..8, 8));
        // Cut off in between: page 3 stays, since it was not past EOF.
        let cut = modified(true, 8 * PAGE, 5 * PAGE, grown.lowest, 3);
        assert_eq!((cut.grown_over, cut.lowest), (8..8, 5));
    }

    #[test]
    fn real_errors() {
        for attempt in [1, 2, ATTEMPTS - 1] {
            assert!(!is_real_error(Reading::Fine, attempt));
            assert!(is_real_error(Reading::Failed(5), attempt));
            assert!(is_real_error(Reading::NotTried, attempt));
        }
        assert!(is_real_error(Reading::Fine, ATTEMPTS));
    }
}
