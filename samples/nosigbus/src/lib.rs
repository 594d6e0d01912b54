// SPDX-License-Identifier: MIT OR Apache-2.0

//! `/dev/nosigbus`: mappings of files that never raise SIGBUS past end-of-file.
//!
//! A process that maps a file which somebody else may shrink is killed by SIGBUS when it touches a
//! page that is gone. Once it has opted the mapping in, it finds a page there that stands in for
//! the lost one: zeros to read, and a page of the mapping's own to write to. When the file grows,
//! its own pages replace the stand-ins. This needs the Linux module `nosigbus`.
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
//! * [`Mapping`] is a file mapped and opted in, in one call. It copies in and out, so there is
//!   nothing unsafe for its users, whatever others do to the file. It can be resized.
//! * [`MapOptions::map_or_plain`] does without the module where there is none, and says so.
//! * [`Device::protect`] opts in what is mapped already; with the feature `memmap2` also what that
//!   crate has mapped.
//! * [`Event`] tells an event loop of the first stand-in.
//! * [`MapOptions::record_errors`] replaces SIGBUS by an error to ask for also where the disk is
//!   full or broken.
//!
//! # What is unsafe
//!
//! The ranges given to [`Device`] are addresses, not borrowed memory: nothing here reads or writes
//! it, and the kernel refuses what is not mapped. So the question is only what other code, which
//! believes in memory of its own at that address, gets to see.
//!
//! [`Device::enable`] is safe, and so is [`Device::protect`]. They change nothing but what comes
//! instead of SIGBUS past end-of-file, and whoever shrinks a file can have a mapping read as zeros
//! without them as well: the rest of the last page does, and the whole file once it has grown
//! again.
//!
//! [`Device::enable_recording`], [`Device::disable`] and [`Device::clear_error`] are unsafe. They
//! let memory change, or change it, that nobody has touched, and whose file is as it was. The same
//! is safe for a [`Mapping`], to which there are no references; see there.

#![warn(missing_docs)]

#[allow(dead_code, non_camel_case_types, clippy::all)]
mod bindings;
mod copy;
mod device;
mod error;
mod event;
mod mapping;
mod notice;
mod protected;
mod uapi;

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
        /// [`Device::notices`] tells.
        const EVENTS = uapi::NOSIGBUS_EVENTS as u64;

        // What a newer module knows as well.
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

        // What a newer module can do as well.
        const _ = !0;
    }
}

/// What [`Device::query`] tells.
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

/// What has become of a mapping since it was opted in: of all its parts and copies (mremap, fork)
/// together. A page that is mapped again counts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "it may tell of an error, or that the file was cut off"]
#[non_exhaustive]
pub struct Status {
    /// How it was opted in.
    pub flags: Flags,
    /// How many times the shared zero page was mapped.
    pub zero_pages: u64,
    /// How many writes were given a page of the process's own (private mappings), not counting
    /// writes to what the zero page stood in for.
    pub private_pages: u64,
    /// How many times a shadow page was mapped (writable shared mappings).
    pub shadow_pages: u64,
    /// How many shadow pages there are now. What was written to them is not in the file.
    pub shadow_pages_held: u64,
    /// How many shadow pages were freed because the file has grown over them.
    pub given_back: u64,
    /// How many times the file system has failed and the page was given a stand-in.
    pub errors: u64,
    /// The first error since opting in, or since the last [`Device::clear_error`].
    pub error: Option<RecordedError>,
}

impl Status {
    /// How many stand-ins there were, of all kinds: zero if nothing was missing so far.
    pub fn stand_ins(&self) -> u64 {
        [self.private_pages, self.shadow_pages]
            .iter()
            .fold(self.zero_pages, |sum, count| sum.saturating_add(*count))
    }

    /// Whether all that was read was the file's, and all that was written has gone to it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] if an error is recorded, [`ErrorKind::CutOff`] if there were stand-ins,
    /// even if the file has grown over them since: what was written to them is gone then.
    pub fn check(&self) -> Result<()> {
        self.check_since(0)
    }

    /// As [`Self::check`], but the first `known` stand-ins do not count.
    pub(crate) fn check_since(&self, known: u64) -> Result<()> {
        if self.error.is_some() || self.stand_ins() > known {
            return Err(Error::stood_in(self.error));
        }
        Ok(())
    }
}

/// An error that an access would have got SIGBUS for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordedError {
    /// The errno, for [`io::Error::from_raw_os_error`].
    pub errno: i32,
    /// Where in the file, in bytes: the start of the page.
    pub offset: u64,
    /// The file system has not said what the error was. `errno` is ENOSPC if it had no space left,
    /// and otherwise EIO, which can be any other as well, EDQUOT among them.
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
