// SPDX-License-Identifier: GPL-2.0-only

//! What is recorded of errors that the file system has met.
//!
//! Fault handlers return `VM_FAULT_SIGBUS` for all of them (`vmf_error()`), so the errno has to be found
//! out in another way, or deduced.

use super::growth::Reading;
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

/// An errno is less than 4096 (`MAX_ERRNO`), a page index less than 2^51.
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
}
