// SPDX-License-Identifier: MIT OR Apache-2.0

//! The device: its commands, for addresses.

use crate::{
    AsMapping, Error, ErrorKind, Features, Flags, MapOptions, Mapping, Protected, Query,
    RecordedError, Result, Status, uapi,
};
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    fs::{FileType, Mode, OFlags, fstat, open},
    io::Errno,
    ioctl::{Getter, Setter, Updater, ioctl},
    param::page_size,
};
use std::{fs, sync::Arc};

/// Who is told of first stand-ins.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Told<'a> {
    pub(crate) eventfd: Option<BorrowedFd<'a>>,
    pub(crate) cookie: Option<u64>,
}

impl<'a> Told<'a> {
    fn by(eventfd: Option<BorrowedFd<'a>>) -> Self {
        Self {
            eventfd,
            cookie: None,
        }
    }
}

const PATH: &str = "/dev/nosigbus";

/// `/dev/nosigbus`. Open it once; clones share it. It acts on the address space of whoever calls,
/// and can be dropped while mappings are opted in.
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
        let opened = open(PATH, flags, Mode::empty());
        let fd = opened.map_err(|errno| {
            let kind = match errno {
                Errno::NOENT | Errno::NXIO | Errno::NODEV => ErrorKind::NotLoaded,
                Errno::ACCESS | Errno::PERM => ErrorKind::Denied,
                _ => ErrorKind::Other,
            };
            Error::new(kind, PATH, Some(errno))
        })?;
        Ok(Self(Arc::new(fd)))
    }

    /// What the module can do.
    pub fn query(&self) -> Result<Query> {
        // SAFETY: NOSIGBUS_QUERY fills in a `struct nosigbus_query`, and nothing else.
        let query = unsafe {
            ioctl(
                &self.0,
                Getter::<{ uapi::QUERY }, uapi::nosigbus_query>::new(),
            )
        }
        .map_err(|errno| refused("NOSIGBUS_QUERY", errno))?;
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

    /// Opts in a mapping that somebody else has made: one of the `memmap2` crate (feature
    /// `memmap2`), or of any type that is [`AsMapping`]. Give a reference if you only want it
    /// opted in, or the mapping itself to have both in one.
    ///
    /// This says nothing about what is in memory: if a `&[u8]` was sound to make of a mapping
    /// before, it is now, and if it was not because others change the file, it is not now.
    /// [`Mapping`] is for that.
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
        self.protect_inner(mapping, Told::default())
    }

    /// Opts in as [`protect`](Self::protect) does, and has an eventfd signalled: an
    /// [`Event`](crate::Event), or any other.
    pub fn protect_with_event<M: AsMapping>(
        &self,
        mapping: M,
        event: impl AsFd,
    ) -> Result<Protected<M>> {
        self.protect_inner(mapping, Told::by(Some(event.as_fd())))
    }

    /// Opts in as [`protect`](Self::protect) does, and has [`notices`](Self::notices) tell, by this
    /// cookie.
    pub fn protect_with_cookie<M: AsMapping>(
        &self,
        mapping: M,
        cookie: u64,
    ) -> Result<Protected<M>> {
        let told = Told {
            cookie: Some(cookie),
            ..Told::default()
        };
        self.protect_inner(mapping, told)
    }

    fn protect_inner<M: AsMapping>(&self, mapping: M, told: Told<'_>) -> Result<Protected<M>> {
        self.enable_checked(mapping.as_mapping(), Flags::empty(), told)?;
        Ok(Protected::new(mapping, self.clone()))
    }

    /// Opts in the mappings in a range: whole ones without a hole, all of them or, if that fails,
    /// none. The length is rounded up to whole pages, as mmap does with it.
    ///
    /// The eventfd is signalled at the first stand-in, and at the first one after each
    /// [`status`](Self::status). It can be closed.
    ///
    /// Allocates no memory.
    pub fn enable(&self, range: *const [u8], eventfd: Option<BorrowedFd<'_>>) -> Result<()> {
        self.enable_with(range, Flags::empty(), Told::by(eventfd))
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
    ) -> Result<()> {
        self.enable_with(range, Flags::RECORD_ERRORS, Told::by(eventfd))
    }

    /// As [`enable_with`](Self::enable_with); an error says whether it is the eventfd's, for which
    /// memory is allocated, or because the module knows no cookies.
    pub(crate) fn enable_checked(
        &self,
        range: *const [u8],
        flags: Flags,
        told: Told<'_>,
    ) -> Result<()> {
        let result = self.enable_with(range, flags, told);
        result.map_err(|error| {
            if error.kind() != ErrorKind::InvalidRange {
                return error;
            }
            if told.eventfd.is_some_and(|fd| !is_eventfd(fd)) {
                return not_an_eventfd(Errno::INVAL);
            }
            let knows = |query: Query| query.features.contains(Features::EVENTS);
            if told.cookie.is_some() && !self.query().is_ok_and(knows) {
                return Error::new(ErrorKind::TooOld, "NOSIGBUS_ENABLE", Some(Errno::INVAL));
            }
            error
        })
    }

    /// With RECORD_ERRORS, it is the caller who has to see to what
    /// [`enable_recording`](Self::enable_recording) says.
    fn enable_with(&self, range: *const [u8], mut flags: Flags, told: Told<'_>) -> Result<()> {
        flags.set(Flags::EVENTFD, told.eventfd.is_some());
        flags.set(Flags::EVENTS, told.cookie.is_some());
        let (addr, len) = pages_of(range);
        let request = uapi::nosigbus_enable {
            addr,
            len,
            flags: flags.bits() as u32,
            eventfd: told.eventfd.map_or(0, |fd| fd.as_raw_fd()),
            cookie: told.cookie.unwrap_or(0),
            reserved: [0; 2],
        };
        // SAFETY: NOSIGBUS_ENABLE reads a `struct nosigbus_enable`. What it does to memory: see
        // "What is unsafe" in the crate's documentation.
        unsafe { ioctl(&self.0, Setter::<{ uapi::ENABLE }, _>::new(request)) }.map_err(|errno| {
            match errno {
                Errno::BADF => not_an_eventfd(errno),
                _ => refused("NOSIGBUS_ENABLE", errno),
            }
        })
    }

    /// Opts out the mappings in a range, as [`enable`](Self::enable) opts them in. Stand-ins are
    /// dropped, with what was written to them, private pages excepted; SIGBUS is back.
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
            reserved: [0; 2],
        };
        // SAFETY: NOSIGBUS_DISABLE reads a `struct nosigbus_disable`. What it does to memory is
        // the caller's to answer for.
        unsafe { ioctl(&self.0, Setter::<{ uapi::DISABLE }, _>::new(request)) }
            .map_err(|errno| refused("NOSIGBUS_DISABLE", errno))
    }

    /// What has become of the mapping that has a byte at `addr`. The next stand-in signals the
    /// eventfd again.
    pub fn status(&self, addr: *const u8) -> Result<Status> {
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
    pub unsafe fn clear_error(&self, addr: *const u8) -> Result<Status> {
        self.status_with(addr, uapi::NOSIGBUS_CLEAR_ERROR)
    }

    fn status_with(&self, addr: *const u8, request: u32) -> Result<Status> {
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
        unsafe { ioctl(&self.0, Updater::<{ uapi::STATUS }, _>::new(&mut status)) }.map_err(
            |errno| {
                let kind = match errno {
                    Errno::NOMEM => ErrorKind::NoMemory,
                    Errno::NOENT => ErrorKind::NotOptedIn,
                    Errno::NOTTY => ErrorKind::TooOld,
                    // EINTR: other threads met one error after the other; it can be asked again.
                    _ => ErrorKind::Other,
                };
                Error::new(kind, "NOSIGBUS_STATUS", Some(errno))
            },
        )?;
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

/// Where it cannot be seen, it is given the benefit of the doubt.
fn is_eventfd(fd: BorrowedFd<'_>) -> bool {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
        .map_or(true, |target| target.as_os_str() == "anon_inode:[eventfd]")
}

fn not_an_eventfd(errno: Errno) -> Error {
    Error::new(ErrorKind::NotAnEventfd, "NOSIGBUS_ENABLE", Some(errno))
}

/// What an errno of the module says.
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

/// For a program that cannot open the device itself, say because of a sandbox, and is handed it. Not
/// `From`, as this asks the file whether it is the device ([`Device::query`]), and closes it if it is
/// not ([`ErrorKind::NotTheDevice`]).
impl TryFrom<OwnedFd> for Device {
    type Error = Error;

    fn try_from(fd: OwnedFd) -> Result<Self> {
        let other = Error::new(ErrorKind::NotTheDevice, PATH, Some(Errno::NOTTY));
        // What is no device may take the command for something else.
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
