// SPDX-License-Identifier: GPL-2.0-only

//! `/dev/nosigbus`: mappings of files that never raise SIGBUS past end-of-file.
//!
//! A process that maps a file which somebody else may shrink is killed by SIGBUS when it touches a
//! page that is gone. Once it has opted the mapping in, it finds a page there that stands in for
//! the lost one: zeros to read, and a page of the mapping's own to write to.
//!
//! ```no_run
//! # fn f(addr: *const u8, len: usize) -> std::io::Result<()> {
//! // What mmap has returned, and the length that it was given.
//! let mapping = std::ptr::slice_from_raw_parts(addr, len);
//! let device = nosigbus::Device::open()?;
//! device.enable(mapping, None)?;
//! # Ok(())
//! # }
//! ```
//!
//! # What is unsafe
//!
//! The ranges given to [`Device`] are addresses, not borrowed memory: nothing here reads or writes
//! it, and the kernel refuses what is not mapped. So the question is only what other code, which
//! believes in memory of its own at that address, gets to see.
//!
//! [`Device::enable`] is safe. It changes nothing but what comes instead of SIGBUS past
//! end-of-file, and whoever shrinks a file can have a mapping read as zeros without it as well:
//! the rest of the last page does, and the whole file once it has grown again.
//!
//! [`Device::enable_recording`], [`Device::disable`] and [`Device::clear_error`] are unsafe. They
//! let memory change, or change it, that nobody has touched, and whose file is as it was.

#![warn(missing_docs)]

mod uapi;

use bitflags::bitflags;
use rustix::{
    fd::{AsRawFd, BorrowedFd, OwnedFd},
    fs::{Mode, OFlags, open},
    io::Errno,
    ioctl::{Getter, Setter, Updater, ioctl},
    param::page_size,
};
use std::{fmt, io};
use uapi::nosigbus_query;

const PATH: &str = "/dev/nosigbus";

bitflags! {
    /// How a mapping is opted in.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Flags: u64 {
        /// I/O errors get a stand-in and are recorded ([`Device::enable_recording`]).
        const RECORD_ERRORS = uapi::NOSIGBUS_RECORD_ERRORS as u64;
        /// An eventfd is signalled.
        const EVENTFD = uapi::NOSIGBUS_EVENTFD as u64;

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

/// `/dev/nosigbus`. It acts on the address space of whoever calls, and can be dropped while
/// mappings are opted in.
#[derive(Debug)]
pub struct Device(OwnedFd);

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::NotFound`] if the module is not loaded.
    pub fn open() -> io::Result<Self> {
        match open(PATH, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()) {
            Ok(fd) => Ok(Self(fd)),
            Err(errno) => {
                let error = io::Error::from(errno);
                let to_do = match errno {
                    Errno::NOENT | Errno::NXIO | Errno::NODEV => {
                        ": is the module loaded? (as root: modprobe nosigbus, or insmod nosigbus.ko)"
                    }
                    _ => "",
                };
                Err(io::Error::new(
                    error.kind(),
                    format!("{PATH}: {error}{to_do}"),
                ))
            }
        }
    }

    /// What the module can do.
    pub fn query(&self) -> io::Result<Query> {
        // SAFETY: NOSIGBUS_QUERY fills in a `struct nosigbus_query`, and nothing else.
        let query = unsafe { ioctl(&self.0, Getter::<{ uapi::QUERY }, nosigbus_query>::new()) }?;
        Ok(Query {
            version: query.version,
            features: Features::from_bits_retain(query.features),
            enable_flags: Flags::from_bits_retain(query.enable_flags),
        })
    }

    /// Opts in the mappings in a range: whole ones without a hole, all of them or, if that fails,
    /// none. The length is rounded up to whole pages, as mmap does with it.
    ///
    /// The eventfd is signalled at the first stand-in, and at the first one after each
    /// [`status`](Self::status). It can be closed.
    pub fn enable(&self, range: *const [u8], eventfd: Option<BorrowedFd<'_>>) -> io::Result<()> {
        self.enable_with(range, Flags::empty(), eventfd)
    }

    /// Opts in as [`enable`](Self::enable) does, and has I/O errors inside the file recorded: where
    /// the file system cannot read a page or refuses a write to one, the access gets a stand-in,
    /// and [`status`](Self::status) tells of the error. Ask before unmapping.
    ///
    /// # Safety
    ///
    /// As long as the mappings are opted in, no code may rely for memory safety on their pages
    /// keeping their content, nor on stores reaching the file and other mappings of it. A page can
    /// be dropped from memory and read as zeros when it cannot be read again.
    pub unsafe fn enable_recording(
        &self,
        range: *const [u8],
        eventfd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        self.enable_with(range, Flags::RECORD_ERRORS, eventfd)
    }

    fn enable_with(
        &self,
        range: *const [u8],
        mut flags: Flags,
        eventfd: Option<BorrowedFd<'_>>,
    ) -> io::Result<()> {
        flags.set(Flags::EVENTFD, eventfd.is_some());
        let (addr, len) = pages_of(range);
        let request = uapi::nosigbus_enable {
            addr,
            len,
            flags: flags.bits() as u32,
            eventfd: eventfd.map_or(0, |fd| fd.as_raw_fd()),
            reserved: [0; 3],
        };
        // SAFETY: NOSIGBUS_ENABLE reads a `struct nosigbus_enable`. What it does to memory: see
        // "What is unsafe" above.
        Ok(unsafe { ioctl(&self.0, Setter::<{ uapi::ENABLE }, _>::new(request)) }?)
    }

    /// Opts out the mappings in a range, as [`enable`](Self::enable) opts them in. Stand-ins are
    /// dropped, with what was written to them, private pages excepted; SIGBUS is back.
    ///
    /// # Safety
    ///
    /// No code may rely for memory safety on the content of stand-ins in the range: after an error
    /// that was recorded, the file's own page shows in their place.
    pub unsafe fn disable(&self, range: *const [u8]) -> io::Result<()> {
        let (addr, len) = pages_of(range);
        let request = uapi::nosigbus_disable {
            addr,
            len,
            reserved: [0; 2],
        };
        // SAFETY: NOSIGBUS_DISABLE reads a `struct nosigbus_disable`. What it does to memory is
        // the caller's to answer for.
        Ok(unsafe { ioctl(&self.0, Setter::<{ uapi::DISABLE }, _>::new(request)) }?)
    }

    /// What has become of the mapping that has a byte at `addr`. The next stand-in signals the
    /// eventfd again.
    pub fn status(&self, addr: *const u8) -> io::Result<Status> {
        self.status_with(addr, 0)
    }

    /// Tells as [`status`](Self::status) does, and then forgets the error, and drops what stands in
    /// for pages of the file because of errors, with what was written to it: the next access to
    /// each of them asks the file system again. Private pages stay.
    ///
    /// # Safety
    ///
    /// No code may rely for memory safety on the content of these stand-ins, of any part or copy
    /// of the mapping.
    pub unsafe fn clear_error(&self, addr: *const u8) -> io::Result<Status> {
        self.status_with(addr, uapi::NOSIGBUS_CLEAR_ERROR)
    }

    fn status_with(&self, addr: *const u8, request: u32) -> io::Result<Status> {
        let mut status = uapi::nosigbus_status {
            addr: addr.addr() as u64,
            request,
            flags: 0,
            zero_pages: 0,
            private_pages: 0,
            shadow_pages: 0,
            shadow_pages_held: 0,
            given_back: 0,
            errors: 0,
            error_offset: 0,
            error: 0,
            error_flags: 0,
            reserved: [0; 6],
        };
        // SAFETY: NOSIGBUS_STATUS reads and fills in a `struct nosigbus_status`. What it does to
        // memory if `request` says so is the caller's caller's to answer for.
        unsafe { ioctl(&self.0, Updater::<{ uapi::STATUS }, _>::new(&mut status)) }?;
        Ok(Status {
            flags: Flags::from_bits_retain(status.flags.into()),
            zero_pages: status.zero_pages,
            private_pages: status.private_pages,
            shadow_pages: status.shadow_pages,
            shadow_pages_held: status.shadow_pages_held,
            given_back: status.given_back,
            errors: status.errors,
            error: (status.error != 0).then_some(RecordedError {
                errno: status.error as i32,
                offset: status.error_offset,
                deduced: status.error_flags & uapi::NOSIGBUS_ERROR_DEDUCED != 0,
            }),
        })
    }
}

/// Address and length of a range for the module, which takes whole pages only. What does not fit
/// stays as it is, and is refused.
fn pages_of(range: *const [u8]) -> (u64, u64) {
    let len = range.len();
    let len = len.checked_next_multiple_of(page_size()).unwrap_or(len);
    (range.cast::<u8>().addr() as u64, len as u64)
}
