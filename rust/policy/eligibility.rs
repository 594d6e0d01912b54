// SPDX-License-Identifier: GPL-2.0-only

//! Which mappings can be opted in.

use super::Class;
use kernel::prelude::*;

/// Properties of the file that decide eligibility.
#[derive(Clone, Copy)]
pub(crate) struct FileFacts {
    /// A regular file.
    pub(crate) regular: bool,
    /// A file that is internal to the kernel: secretmem, guest_memfd, MAP_SHARED|MAP_ANONYMOUS,
    /// SysV shm; or a sysfs attribute.
    pub(crate) kernel_internal: bool,
    /// Mapped from persistent memory without a page cache.
    pub(crate) dax: bool,
    /// Has a page cache: a_ops->read_folio, or write_begin (shmem).
    pub(crate) page_cache: bool,
}

/// Properties of a VMA that decide eligibility.
#[derive(Clone, Copy)]
pub(crate) struct Facts {
    /// Opted in already.
    pub(crate) opted_in: bool,
    /// Its file; `None` for anonymous memory.
    pub(crate) file: Option<FileFacts>,
    /// Device memory, pages of a driver, or hugetlb.
    pub(crate) special: bool,
    /// Made with `MAP_SHARED`.
    pub(crate) shared: bool,
    /// Writable now.
    pub(crate) writable: bool,
    /// Locked in memory by mlock(2) or mlockall(2).
    pub(crate) locked: bool,
    /// Registered with a userfaultfd.
    pub(crate) userfaultfd: bool,
}

/// Why a mapping is not opted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    /// It is already.
    OptedIn,
    /// It cannot be.
    Unsupported,
}

/// Decides whether a mapping can be opted in, and as what.
pub(crate) fn class(facts: &Facts) -> Result<Class, Refusal> {
    if facts.opted_in {
        return Err(Refusal::OptedIn);
    }

    let ordinary = facts
        .file
        .is_some_and(|file| file.regular && !file.kernel_internal && !file.dax && file.page_cache);
    // An opted-in VMA has VM_MIXEDMAP. Core mm neither locks such a VMA in memory nor registers it
    // with a userfaultfd. To drop either unasked would be a silent downgrade, so refuse.
    if !ordinary || facts.special || facts.locked || facts.userfaultfd {
        return Err(Refusal::Unsupported);
    }

    match (facts.shared, facts.writable) {
        (false, _) => Ok(Class::Private),
        (true, false) => Ok(Class::SharedRead),
        (true, true) => Ok(Class::SharedWrite),
    }
}

#[kunit_tests(nosigbus_policy_eligibility)]
mod tests {
    use super::*;

    const ORDINARY: FileFacts = FileFacts {
        regular: true,
        kernel_internal: false,
        dax: false,
        page_cache: true,
    };

    const ELIGIBLE: Facts = Facts {
        opted_in: false,
        file: Some(ORDINARY),
        special: false,
        shared: false,
        writable: false,
        locked: false,
        userfaultfd: false,
    };

    #[test]
    fn classes() {
        for (shared, writable, expected) in [
            (false, false, Ok(Class::Private)),
            (false, true, Ok(Class::Private)),
            (true, false, Ok(Class::SharedRead)),
            (true, true, Ok(Class::SharedWrite)),
        ] {
            let facts = Facts {
                shared,
                writable,
                ..ELIGIBLE
            };
            assert_eq!(class(&facts), expected);
        }
    }

    #[test]
    fn refused_whatever_the_class() {
        for (shared, writable) in [(false, false), (false, true), (true, false), (true, true)] {
            let eligible = Facts {
                shared,
                writable,
                ..ELIGIBLE
            };
            let file = |file| Facts {
                file: Some(file),
                ..eligible
            };
            for facts in [
                Facts {
                    file: None,
                    ..eligible
                },
                file(FileFacts {
                    regular: false,
                    ..ORDINARY
                }),
                file(FileFacts {
                    kernel_internal: true,
                    ..ORDINARY
                }),
                file(FileFacts {
                    dax: true,
                    ..ORDINARY
                }),
                file(FileFacts {
                    page_cache: false,
                    ..ORDINARY
                }),
                Facts {
                    special: true,
                    ..eligible
                },
                Facts {
                    locked: true,
                    ..eligible
                },
                Facts {
                    userfaultfd: true,
                    ..eligible
                },
            ] {
                assert_eq!(class(&facts), Err(Refusal::Unsupported));
            }
        }
    }

    #[test]
    fn opted_in_already_comes_first() {
        let facts = Facts {
            opted_in: true,
            // As every opted-in mapping is.
            special: true,
            ..ELIGIBLE
        };
        assert_eq!(class(&facts), Err(Refusal::OptedIn));
    }
}
