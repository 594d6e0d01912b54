// SPDX-License-Identifier: GPL-2.0-only

//! How a fault is answered.

use super::Class;
use kernel::{
    page::PAGE_SIZE,
    prelude::*, //
};

/// The kind of access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Access {
    Read,
    Write,
}

/// How a fault is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    /// By the file system.
    Native,
    /// With the shared zero page, read-only.
    ZeroPage,
    /// With a private page, zero-filled.
    PrivateZeros,
    /// With the mapping's shadow page.
    ShadowPage,
    /// With the kept page (inside EOF).
    KeptPage,
}

/// How a write to a page that is mapped read-only is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum MkwriteAnswer {
    /// By the file system.
    Native,
    /// The page is the mapping's own, and can be written to.
    Allow,
    /// `VM_FAULT_NOPAGE`: the access is retried. Its page has been replaced by a kept page, or
    /// dropped.
    Retry,
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
/// Called after the file system returned SIGBUS, since the page may be past EOF by now. Once the
/// mapping has had a zero page or a shadow page, also called before the file system.
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

/// The kind of stand-in for a page past EOF, or for a page that the file system failed to provide.
pub(crate) fn stand_in(class: Class, access: Access) -> Answer {
    match (class, access) {
        (Class::Private | Class::SharedRead, Access::Read) => Answer::ZeroPage,
        (Class::Private, Access::Write) => Answer::PrivateZeros,
        // Cannot happen: without `VM_WRITE` core mm raises SIGSEGV before ->fault.
        (Class::SharedRead, Access::Write) => Answer::Native,
        // A shadow page for reads, too: core mm refuses the zero page in a shared writable VMA.
        (Class::SharedWrite, _) => Answer::ShadowPage,
    }
}

/// Whose page is mapped read-only where a task writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Owner {
    /// It is in the page cache.
    File,
    /// It is a shadow page of the mapping.
    Shadow,
    /// It was one of the two when core mm looked at the PTE, and has been dropped since.
    Nobody,
}

/// Decides how to answer a write to a page that is mapped read-only. `kept` says whether a shadow
/// page is kept in its place.
///
/// Only a page of the file may be passed to the file system's `->page_mkwrite`. ext4 takes a shadow
/// page for a truncated page and returns `VM_FAULT_NOPAGE` forever. Others look at its `index`,
/// which is not set, or write it back because it is dirty.
pub(crate) fn answer_mkwrite(owner: Owner, kept: bool) -> MkwriteAnswer {
    match (owner, kept) {
        (Owner::Shadow, _) => MkwriteAnswer::Allow,
        (Owner::Nobody, _) | (Owner::File, true) => MkwriteAnswer::Retry,
        (Owner::File, false) => MkwriteAnswer::Native,
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
        for kept in [false, true] {
            assert_eq!(answer_mkwrite(Owner::Shadow, kept), MkwriteAnswer::Allow);
            assert_eq!(answer_mkwrite(Owner::Nobody, kept), MkwriteAnswer::Retry);
        }
        assert_eq!(answer_mkwrite(Owner::File, true), MkwriteAnswer::Retry);
        assert_eq!(answer_mkwrite(Owner::File, false), MkwriteAnswer::Native);
    }
}
