// SPDX-License-Identifier: MIT OR Apache-2.0

//! `/dev/nosigbus`: mappings of files that never raise SIGBUS past end-of-file.
//!
//! A process maps a file, and another process shrinks the file. SIGBUS kills the first process when
//! it accesses a page that the file no longer has. If the process has opted the mapping in, it gets
//! a stand-in for that page instead: zeros to read, and a page of the mapping's own to write to.
//! When the file grows, its own pages replace the stand-ins. This needs the Linux module
//! `nosigbus`.
//!
//! ```no_run
//! # fn f(file: std::fs::File, len: usize) -> std::io::Result<()> {
//! # let mut pixels = vec![0; len];
//! let device = nosigbus::Device::open()?;
//! let mapping = device.map(&file, len)?;
//! mapping.read_at(0, &mut pixels)?;
//! # Ok(())
//! # }
//! ```
//!
//! * [`Mapping`] maps a file and opts the mapping in, in one call. Its methods copy bytes in and
//!   out, so its users need no `unsafe`, whatever other processes do to the file. It can be
//!   resized.
//! * [`MapOptions::map_or_plain`] returns a plain mapping if the module is not loaded. The mapping
//!   says why it is plain.
//! * [`Device::protect`] opts in an existing mapping. With the feature `memmap2`, that includes
//!   mappings of the `memmap2` crate.
//! * [`Event`] wakes up an event loop at the first stand-in.
//! * [`MapOptions::record_errors`] prevents SIGBUS also if the disk is full or broken. The program
//!   asks for the error instead.
//!
//! # What is unsafe
//!
//! The ranges passed to [`Device`] are addresses, not borrowed memory. [`Device`] does not read or
//! write that memory, and the kernel refuses ranges that are not mapped. So only one question
//! remains: what does other code see that owns the memory at that address?
//!
//! [`Device::enable`] and [`Device::protect`] are safe. They only change what an access past
//! end-of-file gets instead of SIGBUS. A process that shrinks a file can also make parts of a plain
//! mapping read as zeros: the rest of the last page, and the whole file after it has grown again.
//!
//! [`Device::enable_recording`], [`Device::disable`] and [`Device::clear_error`] are unsafe. They
//! change memory, or allow it to change, although no code has written to it and its file has not
//! changed. The same operations are safe for a [`Mapping`], because there are no references to its
//! memory; see there.

#![warn(missing_docs)]

#[allow(missing_docs, non_camel_case_types, clippy::all)]
mod bindings;
mod copy;
mod device;
mod error;
mod event;
mod mapping;
mod notice;
mod protected;

// The command and the preload library of the repository use these too. They are not part of the API
// of this crate, and can change in any version.
#[doc(hidden)]
pub mod file;
#[doc(hidden)]
pub mod guards;
#[doc(hidden)]
pub mod uapi;

pub use copy::{copy_from_shared, copy_to_shared};
pub use device::Device;
pub use error::{Error, ErrorKind, Result};
pub use event::Event;
pub use mapping::{MapOptions, Mapping};
pub use notice::{Notice, StandIn, StandInKind};
pub use protected::{AsMapping, Protected};

use bitflags::bitflags;
use rustix::io::Errno;
use std::{fmt, io};

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

bitflags! {
    /// How a mapping is opted in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// I/O errors get a stand-in and are recorded ([`Device::enable_recording`]).
        const RECORD_ERRORS = uapi::NOSIGBUS_RECORD_ERRORS as u64;
        /// An eventfd is signalled.
        const EVENTFD = uapi::NOSIGBUS_EVENTFD as u64;
        /// [`Device::notices`] reports stand-ins of the mapping.
        const EVENTS = uapi::NOSIGBUS_EVENTS as u64;

        // Flags that only a newer module has.
        const _ = !0;
    }
}

bitflags! {
    /// What a module can do.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Features: u64 {
        /// Opts in private mappings.
        const PRIVATE = uapi::NOSIGBUS_FEATURE_PRIVATE as u64;
        /// Opts in shared mappings that are not writable.
        const SHARED_READ = uapi::NOSIGBUS_FEATURE_SHARED_READ as u64;
        /// Opts in shared mappings that are writable.
        const SHARED_WRITE = uapi::NOSIGBUS_FEATURE_SHARED_WRITE as u64;
        /// Has [`Device::disable`].
        const DISABLE = uapi::NOSIGBUS_FEATURE_DISABLE as u64;
        /// Has [`Device::status`] and [`Device::clear_error`].
        const STATUS = uapi::NOSIGBUS_FEATURE_STATUS as u64;
        /// Has [`Device::notices`].
        const EVENTS = uapi::NOSIGBUS_FEATURE_EVENTS as u64;

        // Features that only a newer module has.
        const _ = !0;
    }
}

/// The result of [`Device::query`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Query {
    /// The version of the interface, 1 so far.
    pub version: u32,
    /// What the module can do.
    pub features: Features,
    /// The flags that it knows.
    pub enable_flags: Flags,
}

/// The counts and the first error of a mapping since it was opted in. They cover all its parts and
/// copies (mremap, fork) together. A page that is mapped again counts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may tell of an error, or that the file was cut off"]
#[non_exhaustive]
pub struct Status {
    /// How it was opted in.
    pub flags: Flags,
    /// How many times the shared zero page was mapped.
    pub zero_pages: u64,
    /// How many writes got a page of the process's own as a stand-in (private mappings). Writes to
    /// a page that the zero page stood in for do not count.
    pub private_pages: u64,
    /// How many times a shadow page was mapped (writable shared mappings).
    pub shadow_pages: u64,
    /// How many shadow pages there are now. Data written to them is not in the file.
    pub shadow_pages_held: u64,
    /// How many shadow pages were freed because the file has grown over them.
    pub given_back: u64,
    /// How many times the file system failed and the page got a stand-in.
    pub errors: u64,
    /// The first error since opting in, or since the last [`Device::clear_error`].
    pub error: Option<RecordedError>,
}

impl Status {
    /// Returns how many stand-ins there were, of all kinds. It is 0 if no page was missing so far.
    pub fn stand_ins(&self) -> u64 {
        [self.private_pages, self.shadow_pages]
            .iter()
            .fold(self.zero_pages, |sum, count| sum.saturating_add(*count))
    }

    /// Checks that all data was read from the file, and that all writes have gone to the file.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] if an error is recorded. [`ErrorKind::CutOff`] if there were
    /// stand-ins, even if the file has grown over them since: data written to those stand-ins is
    /// lost.
    pub fn check(&self) -> Result<()> {
        self.check_since(0)
    }

    /// Checks as [`Self::check`] does, but ignores the first `known` stand-ins.
    pub(crate) fn check_since(&self, known: u64) -> Result<()> {
        if self.error.is_some() || self.stand_ins() > known {
            return Err(Error::stood_in(self.error));
        }
        Ok(())
    }
}

/// An error of the file system. Without recording, the access would have got SIGBUS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedError {
    /// The errno, for [`io::Error::from_raw_os_error`].
    pub errno: i32,
    /// Where in the file, in bytes: the start of the page.
    pub offset: u64,
    /// Whether `errno` is a guess, because the file system did not report which error it was. It is
    /// ENOSPC if the file system had no space left, and otherwise EIO. That EIO can stand for any
    /// other error, such as EDQUOT.
    pub deduced: bool,
}

impl fmt::Display for RecordedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Errno::from_raw_os_error(self.errno) {
            Errno::NOSPC => f.write_str("ENOSPC: ")?,
            Errno::DQUOT => f.write_str("EDQUOT: ")?,
            Errno::IO => f.write_str("EIO: ")?,
            _ => {}
        }
        write!(f, "{}", io::Error::from_raw_os_error(self.errno))?;
        if self.deduced {
            f.write_str(", or perhaps another error")?;
        }
        write!(f, ", at byte {} of the file", self.offset)
    }
}

impl std::error::Error for RecordedError {}

/// Keeps the errno.
impl From<RecordedError> for io::Error {
    fn from(error: RecordedError) -> Self {
        Self::from_raw_os_error(error.errno)
    }
}
