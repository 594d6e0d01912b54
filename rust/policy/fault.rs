// SPDX-License-Identifier: GPL-2.0-only

//! How a fault is answered.

use super::Class;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// What a fault is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// How a fault is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// As the file system has it.
    Native,
    /// With the shared zero page, read-only.
    ZeroPage,
    /// With a private page, zero-filled.
    PrivateZeros,
    /// With the mapping's shadow page.
    ShadowPage,
    /// With the shadow page that is kept because the file system could not give its own.
    KeptPage,
}

/// How a write to a page that is mapped read-only is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MkwriteAnswer {
    /// As the file system has it.
    Native,
    /// The page is the mapping's own, and can be written to.
    Allow,
    /// By trying the access again: another page takes the place of this one.
    Again,
}

/// Whether the page `pgoff` (in pages) of a file of `i_size` bytes is past EOF.
///
/// The page that holds EOF is not.
pub(crate) fn past_eof(pgoff: u64, i_size: u64) -> bool {
    pgoff >= first_past_eof(i_size)
}

/// The index of the first page past EOF of a file of `i_size` bytes.
pub(crate) fn first_past_eof(i_size: u64) -> u64 {
    i_size.div_ceil(PAGE_SIZE as u64)
}

/// Decides how to answer a fault at the page `pgoff` (in pages) of a file of `i_size` bytes. `kept`
/// says whether a shadow page is kept there; it is asked inside the file only.
///
/// Asked when the file system has answered with SIGBUS: what was inside the file may be past EOF by now.
/// Once something has stood in for a page of the mapping, asked before the file system is as well.
pub(crate) fn answer(
    class: Class,
    access: Access,
    pgoff: u64,
    i_size: u64,
    kept: impl FnOnce() -> bool,
) -> Answer {
    if past_eof(pgoff, i_size) {
        stand_in(class, access)
    } else if kept() {
        Answer::KeptPage
    } else {
        Answer::Native
    }
}

/// What stands in for a page that there is not, or that the file system cannot give.
pub(crate) fn stand_in(class: Class, access: Access) -> Answer {
    match (class, access) {
        (Class::Private | Class::SharedRead, Access::Read) => Answer::ZeroPage,
        (Class::Private, Access::Write) => Answer::PrivateZeros,
        // Core mm answers it with SIGSEGV and does not ask.
        (Class::SharedRead, Access::Write) => Answer::Native,
        // A page of the mapping's own also for a read: the zero page could not be written later.
        (Class::SharedWrite, _) => Answer::ShadowPage,
    }
}

/// Decides how to answer a write to a page that is mapped read-only, a shadow page or not. `kept`
/// says whether a shadow page is kept in its place.
///
/// The file system must not be asked about a page that it does not know: ext4 has core mm try again
/// for ever.
pub(crate) fn answer_mkwrite(shadow: bool, kept: bool) -> MkwriteAnswer {
    match (shadow, kept) {
        (true, _) => MkwriteAnswer::Allow,
        (false, true) => MkwriteAnswer::Again,
        (false, false) => MkwriteAnswer::Native,
    }
}

#[kunit_tests(nosigbus_policy_fault)]
mod tests {
    use super::*;

    const PAGE: u64 = PAGE_SIZE as u64;
    /// The largest `i_size` there can be, `MAX_LFS_FILESIZE` on 64 bits.
    const LARGEST: u64 = i64::MAX as u64;

    /// Sizes of a file in bytes, and the first page past EOF of each.
    const FIRST_PAST_EOF: [(u64, u64); 10] = [
        (0, 0),
        (1, 1),
        (PAGE - 1, 1),
        (PAGE, 1),
        (PAGE + 1, 2),
        (2 * PAGE - 1, 2),
        (2 * PAGE, 2),
        (LARGEST - PAGE + 1, (LARGEST + 1) / PAGE - 1),
        (LARGEST - PAGE + 2, (LARGEST + 1) / PAGE),
        (LARGEST, (LARGEST + 1) / PAGE),
    ];

    #[test]
    fn eof_is_in_a_real_page() {
        for (i_size, first) in FIRST_PAST_EOF {
            assert!(first == 0 || !past_eof(first - 1, i_size));
            assert!(past_eof(first, i_size));
            assert!(past_eof(first + 1, i_size));
            assert!(past_eof(u64::MAX, i_size));
        }
    }

    const CLASSES: [Class; 3] = [Class::Private, Class::SharedRead, Class::SharedWrite];

    #[test]
    fn inside_the_file_system_answers() {
        for (i_size, first) in FIRST_PAST_EOF {
            for class in CLASSES {
                for access in [Access::Read, Access::Write] {
                    for pgoff in [0, first / 2, first.saturating_sub(1)] {
                        if pgoff < first {
                            let answer = |kept| answer(class, access, pgoff, i_size, || kept);
                            assert_eq!(answer(false), Answer::Native);
                            assert_eq!(answer(true), Answer::KeptPage);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn past_eof_the_class_and_the_access_decide() {
        for (class, access, expected) in [
            (Class::Private, Access::Read, Answer::ZeroPage),
            (Class::Private, Access::Write, Answer::PrivateZeros),
            (Class::SharedRead, Access::Read, Answer::ZeroPage),
            (Class::SharedRead, Access::Write, Answer::Native),
            (Class::SharedWrite, Access::Read, Answer::ShadowPage),
            (Class::SharedWrite, Access::Write, Answer::ShadowPage),
        ] {
            for (i_size, first) in FIRST_PAST_EOF {
                for pgoff in [first, first + 1, LARGEST / PAGE, u64::MAX] {
                    for kept in [false, true] {
                        let answer = answer(class, access, pgoff.max(first), i_size, || kept);
                        assert_eq!(answer, expected);
                    }
                }
            }
            assert_eq!(stand_in(class, access), expected);
        }
    }

    #[test]
    fn writes_to_read_only_pages() {
        assert_eq!(answer_mkwrite(true, true), MkwriteAnswer::Allow);
        assert_eq!(answer_mkwrite(true, false), MkwriteAnswer::Allow);
        assert_eq!(answer_mkwrite(false, true), MkwriteAnswer::Again);
        assert_eq!(answer_mkwrite(false, false), MkwriteAnswer::Native);
    }
}
