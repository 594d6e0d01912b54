// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device, and its commands for address ranges.

use crate::{
    AsMapping, Error, ErrorKind, Features, Flags, MapOptions, Mapping, Protected, Query,
    RecordedError, Result, Status, uapi,
};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
    param::page_size,
};
use std::{fs, sync::Arc};

/// How first stand-ins are reported: by an eventfd, a cookie, both or neither.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Notify<'a> {
    pub(crate) eventfd: Option<BorrowedFd<'a>>,
    pub(crate) cookie: Option<u64>,
}

impl<'a> Notify<'a> {
    fn by(eventfd: Option<BorrowedFd<'a>>) -> Self {
        Self {
            eventfd,
            cookie: None,
        }
    }
}

/// `/dev/nosigbus`. Open it once; clones share it. Each call acts on the address space of the
/// calling process. The device can be dropped while mappings are opted in.
///
/// [`map`](Self::map) and [`protect`](Self::protect) are what most programs need. The other
/// methods take addresses.
#[derive(Clone, Debug)]
pub struct Device(Arc<OwnedFd>);

impl Device {
    /// Opens the device.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotLoaded`] if the module is not loaded, [`ErrorKind::Denied`] if the device
    /// may not be opened.
    pub fn open() -> Result<Self> {
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let opened = open(uapi::DEVICE, flags, Mode::empty());
        let fd = opened.map_err(|errno| {
            let kind = match errno {
                Errno::NOENT | Errno::NXIO | Errno::NODEV => ErrorKind::NotLoaded,
                Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
                _ => ErrorKind::Other,
            };
            Error::new(kind, uapi::DEVICE, Some(errno))
        })?;
        Ok(Self(Arc::new(fd)))
    }

    /// What the module can do.
    pub fn query(&self) -> Result<Query> {
        let query = uapi::query(self).map_err(|errno| refused("NOSIGBUS_QUERY", errno))?;
        Ok(Query {
            version: query.version,
            features: Features::from_bits_retain(query.features),
            enable_flags: Flags::from_bits_retain(query.enable_flags),
        })
    }

    /// Maps the first `len` bytes of a file, shared and read-only, and opts the mapping in.
    /// [`MapOptions`] maps in other ways.
    pub fn map(&self, file: impl AsFd, len: usize) -> Result<Mapping> {
        MapOptions::new(len).map(self, file)
    }

    /// Opts in a mapping that other code has created: one of the `memmap2` crate (feature
    /// `memmap2`), or of any type that implements [`AsMapping`]. Pass a reference to only opt the
    /// mapping in. Pass the mapping itself to keep it in the returned [`Protected`].
    ///
    /// This does not make references to the memory sound. If creating a `&[u8]` of the mapping was
    /// sound before, it still is. If it was unsound because other processes change the file, it
    /// still is unsound; use [`Mapping`] for such files.
    ///
    /// ```no_run
    /// # #[cfg(feature = "memmap2")]
    /// # fn f(file: std::fs::File) -> std::io::Result<()> {
    /// // SAFETY: Nobody writes to the file (but it may be shortened).
    /// let map = unsafe { memmap2::Mmap::map(&file) }?;
    /// let map = nosigbus::Device::open()?.protect(map)?;
    /// println!("{} lines", map.iter().filter(|&&byte| byte == b'\n').count());
    /// if map.status()?.stand_ins() > 0 {
    ///     println!("but somebody has cut the file off");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn protect<M: AsMapping>(&self, mapping: M) -> Result<Protected<M>> {
        self.protect_inner(mapping, Notify::default())
    }

    /// Opts in as [`protect`](Self::protect) does. The module signals the eventfd, which can be an
    /// [`Event`](crate::Event) or any other.
    pub fn protect_with_event<M: AsMapping>(
        &self,
        mapping: M,
        event: impl AsFd,
    ) -> Result<Protected<M>> {
        self.protect_inner(mapping, Notify::by(Some(event.as_fd())))
    }

    /// Opts in as [`protect`](Self::protect) does. [`notices`](Self::notices) reports the mapping
    /// by this cookie.
    pub fn protect_with_cookie<M: AsMapping>(
        &self,
        mapping: M,
        cookie: u64,
    ) -> Result<Protected<M>> {
        let notify = Notify {
            cookie: Some(cookie),
            ..Notify::default()
        };
        self.protect_inner(mapping, notify)
    }

    fn protect_inner<M: AsMapping>(&self, mapping: M, notify: Notify<'_>) -> Result<Protected<M>> {
        self.enable_checked(mapping.as_mapping(), Flags::empty(), notify)?;
        Ok(Protected::new(mapping, self.clone()))
    }

    /// Opts in the mappings in a range. The range must consist of whole mappings without a hole.
    /// If it fails, none of them is opted in. The length is rounded up to whole pages, as in mmap.
    ///
    /// The eventfd is signalled at the first stand-in, and at the first one after each
    /// [`status`](Self::status). It can be closed.
    ///
    /// Allocates no memory.
    pub fn enable(&self, range: *const [u8], eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.enable_with(range, Flags::empty(), Notify::by(eventfd))
    }

    /// Opts in as [`enable`](Self::enable) does, and records I/O errors inside the file. If the
    /// file system cannot read a page, or refuses a write to one, the access gets a stand-in.
    /// [`status`](Self::status) returns the error. Call it before unmapping.
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
    ) -> Result<()> {
        self.enable_with(range, Flags::RECORD_ERRORS, Notify::by(eventfd))
    }

    /// Opts in as [`enable_with`](Self::enable_with) does. Its error also tells whether the
    /// eventfd is wrong, or whether the module does not know cookies. Finding out about the
    /// eventfd allocates memory.
    pub(crate) fn enable_checked(
        &self,
        range: *const [u8],
        flags: Flags,
        notify: Notify<'_>,
    ) -> Result<()> {
        let result = self.enable_with(range, flags, notify);
        result.map_err(|error| {
            if error.kind() != ErrorKind::InvalidRange {
                return error;
            }
            if notify.eventfd.is_some_and(|fd| !is_eventfd(fd)) {
                return not_an_eventfd(Errno::INVAL);
            }
            let knows = |query: Query| query.features.contains(Features::EVENTS);
            if notify.cookie.is_some() && !self.query().is_ok_and(knows) {
                return Error::new(ErrorKind::TooOld, "NOSIGBUS_ENABLE", Some(Errno::INVAL));
            }
            error
        })
    }

    /// Opts in a range. With RECORD_ERRORS, the caller must meet the safety requirements of
    /// [`enable_recording`](Self::enable_recording).
    fn enable_with(&self, range: *const [u8], mut flags: Flags, notify: Notify<'_>) -> Result<()> {
        flags.set(Flags::EVENTFD, notify.eventfd.is_some());
        flags.set(Flags::EVENTS, notify.cookie.is_some());
        let (addr, len) = pages_of(range);
        let request = uapi::nosigbus_enable {
            addr,
            len,
            flags: flags.bits() as u32,
            eventfd: notify.eventfd.map_or(0, |fd| fd.as_raw_fd()),
            cookie: notify.cookie.unwrap_or(0),
            ..Default::default()
        };
        // SAFETY: With RECORD_ERRORS, the caller meets the requirements.
        unsafe { uapi::enable(self, request) }.map_err(|errno| match errno {
            Errno::BADF => not_an_eventfd(errno),
            _ => refused("NOSIGBUS_ENABLE", errno),
        })
    }

    /// Opts out the mappings in a range; the range is as for [`enable`](Self::enable). Drops the
    /// stand-ins with the data written to them, except private pages. After this, accesses past
    /// end-of-file raise SIGBUS again.
    ///
    /// # Safety
    ///
    /// No code may rely for memory safety on the content of stand-ins in the range: after an error
    /// that was recorded, the file's own page shows in their place.
    pub unsafe fn disable(&self, range: *const [u8]) -> Result<()> {
        let (addr, len) = pages_of(range);
        let request = uapi::nosigbus_disable {
            addr,
            len,
            ..Default::default()
        };
        // SAFETY: The caller's.
        unsafe { uapi::disable(self, request) }.map_err(|errno| refused("NOSIGBUS_DISABLE", errno))
    }

    /// Returns the status of the mapping that contains `addr`. After this call the next stand-in
    /// signals the eventfd again.
    pub fn status(&self, addr: *const u8) -> Result<Status> {
        self.status_with(addr, 0)
    }

    /// Returns the status as [`status`](Self::status) does, and then clears the error. It also
    /// drops the stand-ins that were mapped because of errors, with the data written to them: the
    /// next access to each of these pages asks the file system again. Private pages stay.
    ///
    /// # Safety
    ///
    /// No code may rely for memory safety on the content of these stand-ins, of any part or copy
    /// of the mapping.
    pub unsafe fn clear_error(&self, addr: *const u8) -> Result<Status> {
        self.status_with(addr, uapi::NOSIGBUS_CLEAR_ERROR)
    }

    fn status_with(&self, addr: *const u8, request: u32) -> Result<Status> {
        let mut status = uapi::nosigbus_status {
            addr: addr.addr() as u64,
            request,
            ..Default::default()
        };
        // SAFETY: The caller of `clear_error` answers for NOSIGBUS_CLEAR_ERROR.
        unsafe { uapi::status(self, &mut status) }.map_err(|errno| {
            let kind = match errno {
                Errno::NOMEM => ErrorKind::NoMemory,
                Errno::NOENT => ErrorKind::NotOptedIn,
                Errno::NOTTY => ErrorKind::TooOld,
                // EINTR: other threads met one error after the other. The caller can retry.
                _ => ErrorKind::Other,
            };
            Error::new(kind, "NOSIGBUS_STATUS", Some(errno))
        })?;
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

/// Returns address and length of a range for the module, which accepts only whole pages. A length
/// that cannot be rounded up stays as it is, and the module refuses it.
fn pages_of(range: *const [u8]) -> (u64, u64) {
    let len = range.len();
    let len = len.checked_next_multiple_of(page_size()).unwrap_or(len);
    (range.cast::<u8>().addr() as u64, len as u64)
}

/// Returns whether a file descriptor is an eventfd. If /proc cannot tell, returns `true`.
fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_or(true, |target| target.as_os_str() == "anon_inode:[eventfd]")
}

fn not_an_eventfd(errno: Errno) -> Error {
    Error::new(ErrorKind::NotAnEventfd, "NOSIGBUS_ENABLE", Some(errno))
}

/// Converts an errno of the module to an error.
fn refused(action: &'static str, errno: Errno) -> Error {
    let kind = match errno {
        Errno::INVAL => ErrorKind::InvalidRange,
        Errno::NOMEM => ErrorKind::NoMemory,
        Errno::OPNOTSUPP => ErrorKind::Unsupported,
        Errno::BUSY => ErrorKind::AlreadyOptedIn,
        Errno::NOENT => ErrorKind::NotOptedIn,
        Errno::NOTTY => ErrorKind::TooOld,
        _ => ErrorKind::Other,
    };
    Error::new(kind, action, Some(errno))
}

/// For a program that cannot open the device itself, for example because of a sandbox, and gets
/// the file descriptor from another program. The conversion can fail: it asks the file whether it
/// is the device ([`Device::query`]). If it is not, the conversion closes the file and returns
/// [`ErrorKind::NotTheDevice`].
impl TryFrom<OwnedFd> for Device {
    type Error = Error;

    fn try_from(fd: OwnedFd) -> Result<Self> {
        let other = Error::new(ErrorKind::NotTheDevice, uapi::DEVICE, Some(Errno::NOTTY));
        // A file that is not a character device may understand the command differently.
        let stat = fstat(&fd).map_err(|errno| Error::other("fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
            return Err(other);
        }
        let device = Self(Arc::new(fd));
        match device.query() {
            Ok(_) => Ok(device),
            Err(_) => Err(other),
        }
    }
}

impl AsFd for Device {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
