// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files mapped by this crate.

use crate::{
    AsMapping, Device, Error, ErrorKind, Flags, Result, Status,
    copy::{copy_from_shared, copy_to_shared},
    device::Notify,
    file::Kind,
    guards::{self, Guards},
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::fcntl_get_seals,
    io::Errno,
    mm::{MapFlags, MremapFlags, MsyncFlags, ProtFlags, mmap, mremap, mremap_fixed, msync, munmap},
    param::page_size,
};
use std::{
    ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// Options for mapping a file. By default the mapping is shared and read-only, and begins at the
/// start of the file.
///
/// ```no_run
/// # fn f(file: std::fs::File) -> std::io::Result<()> {
/// let device = nosigbus::Device::open()?;
/// let mapping = nosigbus::MapOptions::new(1 << 20)
///     .offset(4096)
///     .write(true)
///     .map(&device, &file)?;
/// mapping.write_at(0, b"screenshot")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "nothing is mapped before map()"]
pub struct MapOptions<'a> {
    len: usize,
    offset: u64,
    write: bool,
    private: bool,
    record_errors: bool,
    tmpfs_only: bool,
    notify: Notify<'a>,
}

impl<'a> MapOptions<'a> {
    /// Creates options for a mapping of `len` bytes. The file may be shorter.
    pub const fn new(len: usize) -> Self {
        Self {
            len,
            offset: 0,
            write: false,
            private: false,
            record_errors: false,
            tmpfs_only: false,
            notify: Notify {
                eventfd: None,
                cookie: None,
            },
        }
    }

    /// Sets where in the file the mapping begins, in bytes: a multiple of the page size.
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Sets whether the mapping is writable. If it is, the file must be open for reading and
    /// writing, unless the mapping is private.
    pub const fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Sets whether writes stay in this process, instead of going to the file.
    pub const fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Sets whether I/O errors inside the file are recorded instead of raising SIGBUS. Such an
    /// error occurs when the file system cannot read a page, or has no space for one.
    /// [`Mapping::status`], [`Mapping::sync`] and [`Mapping::close`] report it. If a writable
    /// shared mapping is dropped without `close` and data is lost, a message is printed on stderr.
    ///
    /// ```no_run
    /// # fn link(output: &nosigbus::Mapping) -> std::io::Result<()> { Ok(()) }
    /// # fn f(file: std::fs::File, len: usize) -> std::io::Result<()> {
    /// let device = nosigbus::Device::open()?;
    /// file.set_len(len as u64)?;
    /// let options = nosigbus::MapOptions::new(len).write(true);
    /// let output = options.record_errors(true).map(&device, &file)?;
    /// link(&output)?;
    /// output.close()?; // "No space left on device", and where; or the file was cut off
    /// file.sync_all()?; // fails if the pages cannot be written back, as in any program
    /// # Ok(())
    /// # }
    /// ```
    pub const fn record_errors(mut self, record_errors: bool) -> Self {
        self.record_errors = record_errors;
        self
    }

    /// Sets whether to refuse a file that is neither on a tmpfs nor a memfd
    /// ([`ErrorKind::NotTmpfs`]).
    ///
    /// Use it for files that another process has sent. That process can send a file of its own file
    /// system (FUSE), or of a server that is gone. A read of such a file can wait for ever, whether
    /// or not the mapping is opted in. A tmpfs never makes a read wait for a server.
    ///
    /// The check asks the kernel for the file's seals, which only these files have. `fstat` and
    /// `fstatfs` would ask the server too, and wait for it. Closing such a file may also wait.
    pub const fn tmpfs_only(mut self, tmpfs_only: bool) -> Self {
        self.tmpfs_only = tmpfs_only;
        self
    }

    /// Sets the eventfd to signal: an [`Event`](crate::Event), or any other. The module keeps a
    /// reference to it.
    pub fn event(mut self, event: &'a impl AsFd) -> Self {
        self.notify.eventfd = Some(event.as_fd());
        self
    }

    /// Sets the cookie by which [`Device::notices`] reports the mapping. It can be any number.
    pub const fn cookie(mut self, cookie: u64) -> Self {
        self.notify.cookie = Some(cookie);
        self
    }

    /// Maps the file and opts the mapping in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRange`] if length or offset are invalid. [`ErrorKind::CannotMap`] if the
    /// kernel cannot map this file in this way. [`ErrorKind::Unsupported`] if it is not an ordinary
    /// file. After an error the file is not mapped.
    pub fn map(&self, device: &Device, file: impl AsFd) -> Result<Mapping> {
        let file = file.as_fd();
        let mut mapping = self.map_plain(file)?;
        match mapping.opt_in(self, device) {
            // The kernel may have merged the mapping with a neighbour that other code has mapped,
            // or is about to opt in. It does not merge opted-in mappings.
            Err(error) if error.kind() == ErrorKind::InvalidRange => {
                let (area, _guards) = Area::between_guards(self, file)?;
                let mut mapping = self.mapping(area);
                mapping.opt_in(self, device)?;
                Ok(mapping)
            }
            result => result.map(|()| mapping),
        }
    }

    /// Maps the file without opting the mapping in: an access past end-of-file raises SIGBUS. All
    /// other functions of [`Mapping`] work.
    ///
    /// # Errors
    ///
    /// As [`map`](Self::map).
    pub fn map_plain(&self, file: impl AsFd) -> Result<Mapping> {
        check_extent("mapping a file", self.len, self.offset)?;
        let file = file.as_fd();
        self.check_file(file)?;
        Ok(self.mapping(Area::new(self, file)?))
    }

    /// Maps the file, and opts the mapping in if possible. If there is no device, or the module
    /// does not support this file, the mapping is a plain mapping, as without this crate.
    /// [`Mapping::is_protected`] returns which of the two it is, and [`Mapping::why_plain`] why.
    ///
    /// ```no_run
    /// # fn f(file: std::fs::File, len: usize) -> std::io::Result<()> {
    /// let device = nosigbus::Device::open();
    /// let mapping = nosigbus::MapOptions::new(len).map_or_plain(&device, &file)?;
    /// if let Some(error) = mapping.why_plain() {
    ///     eprintln!("{error}: whoever cuts the file off ends this program");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`map`](Self::map), except for files that can be mapped but not opted in. After any
    /// other failure, such as [`ErrorKind::NoMemory`], the file is not mapped.
    pub fn map_or_plain(&self, device: &Result<Device>, file: impl AsFd) -> Result<Mapping> {
        let file = file.as_fd();
        let error = match device {
            Ok(device) => match self.map(device, file) {
                Err(error)
                    if matches!(error.kind(), ErrorKind::Unsupported | ErrorKind::TooOld) =>
                {
                    error
                }
                result => return result,
            },
            Err(error) => *error,
        };
        let mut mapping = self.map_plain(file)?;
        mapping.why_plain = Some(error);
        Ok(mapping)
    }

    fn mapping(&self, area: Area) -> Mapping {
        Mapping {
            area,
            len: self.len,
            offset: self.offset,
            write: self.write,
            device: None,
            why_plain: None,
            known: AtomicU64::new(0),
            must_not_lose: false,
        }
    }

    /// Refuses a file that is not an ordinary file, before it is mapped. The module refuses all
    /// other unsupported files.
    fn check_file(&self, file: BorrowedFd<'_>) -> Result<()> {
        let refuse = |kind, action| Err(Error::new(kind, action, Some(Errno::OPNOTSUPP)));
        // This check comes first, because the calls below may ask a server.
        if self.tmpfs_only && fcntl_get_seals(file).is_err() {
            return refuse(ErrorKind::NotTmpfs, "mapping a file that is not on tmpfs");
        }
        match Kind::of(file)? {
            Kind::Ordinary => Ok(()),
            Kind::HugePages => refuse(ErrorKind::Unsupported, "mapping a file of huge pages"),
            Kind::Other => refuse(ErrorKind::Unsupported, "mapping what is no ordinary file"),
        }
    }

    /// Maps the file.
    ///
    /// # Safety
    ///
    /// That of mmap. If `addr` is not null, no other code may use the memory there.
    unsafe fn mmap(&self, addr: *mut u8, file: BorrowedFd<'_>) -> Result<*mut u8> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, self.write);
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::PRIVATE, self.private);
        flags.set(MapFlags::SHARED, !self.private);
        flags.set(MapFlags::FIXED, !addr.is_null());
        // SAFETY: The kernel chooses the address, or the caller guarantees that it is unused.
        unsafe { mmap(addr.cast(), self.len, protection, flags, file, self.offset) }
            .map(|addr| addr.cast())
            .map_err(|errno| cannot_map("mmap", errno))
    }
}

fn cannot_map(action: &'static str, errno: Errno) -> Error {
    Error::new(ErrorKind::CannotMap, action, Some(errno))
}

/// Refuses an extent that no file can have, or with which later calculations could overflow.
fn check_extent(action: &'static str, len: usize, offset: u64) -> Result<()> {
    let page = page_size();
    // Leaves room for rounding up, and for the guard pages.
    let fits = len <= isize::MAX as usize - 4 * page
        && offset
            .checked_add(len as u64)
            .is_some_and(|end| end <= i64::MAX as u64);
    if len == 0 || offset % page as u64 != 0 || !fits {
        return Err(Error::new(
            ErrorKind::InvalidRange,
            action,
            Some(Errno::INVAL),
        ));
    }
    Ok(())
}

/// Whole pages of address space. Dropping it unmaps them.
#[derive(Debug)]
struct Area {
    addr: *mut u8,
    len: usize,
}

impl Area {
    /// Maps the file where the kernel chooses.
    fn new(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: Where the kernel chooses.
        let addr = unsafe { options.mmap(ptr::null_mut(), file) }?;
        Ok(Self {
            addr,
            len: options.len.next_multiple_of(page_size()),
        })
    }

    /// Maps the file between guard pages, so that the kernel cannot merge the mapping.
    fn between_guards(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<(Self, Guards)> {
        let page = page_size();
        let len = options.len.next_multiple_of(page);
        let guards = Guards::around(len, page).map_err(|errno| cannot_map("mmap", errno))?;
        // SAFETY: The place is reserved for it, and no other code has a pointer to it.
        let addr = unsafe { options.mmap(guards.place(), file) }?;
        Ok((Self { addr, len }, guards))
    }

    /// Makes the area longer or shorter. That may move it. If it fails, nothing has changed.
    fn resize(&mut self, len: usize, opted_in: bool) -> Result<()> {
        let grown = if opted_in && len > self.len {
            // The kernel does not grow an opted-in mapping in place. If there is room behind the
            // mapping, it does not move it either, unless the caller passes an address.
            let place = guards::reserve(len).map_err(|errno| cannot_map("mmap", errno))?;
            // SAFETY: The new place is reserved for it. All pointers to the old place come from a
            // borrow of the mapping, which has ended. If mremap fails, the new place is not
            // unmapped: the kernel may have unmapped it, and another thread may use it.
            unsafe {
                mremap_fixed(
                    self.addr.cast(),
                    self.len,
                    len,
                    MremapFlags::MAYMOVE,
                    place.cast(),
                )
            }
        } else {
            // SAFETY: The kernel chooses the new place. All pointers to the old place come from a
            // borrow of the mapping, which has ended.
            unsafe { mremap(self.addr.cast(), self.len, len, MremapFlags::MAYMOVE) }
        };
        self.addr = grown.map_err(|errno| cannot_map("mremap", errno))?.cast();
        self.len = len;
        Ok(())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to it any more. The area is mapped, so munmap can fail only if it
        // must split a VMA and there are too many mappings. Then the area stays mapped.
        let _ = unsafe { munmap(self.addr.cast(), self.len) };
    }
}

/// An opted-in mapping of a file, or of a part of one. No access to it raises SIGBUS because the
/// file is shorter. Dropping it unmaps it. ([`MapOptions::map_or_plain`] and
/// [`MapOptions::map_plain`] can return plain mappings; [`is_protected`](Self::is_protected) tells
/// them apart.)
///
/// # Why this is safe
///
/// Other code, in this process and in others, may write to the file or shrink it at any time. So
/// the memory can change between any two accesses, and a Rust reference to plain bytes would be
/// unsound. Instead, [`read_at`](Self::read_at) and [`write_at`](Self::write_at) copy:
///
/// * Every access is a relaxed atomic access of one aligned `usize`, whatever the size of the copy.
///   Parts of words are written by compare-and-exchange. So any number of threads may copy at the
///   same time, without data races and without accesses of mixed sizes. Relaxed loads of that size
///   are allowed on read-only memory.
/// * A read returns bytes, and any byte value is valid. If other code writes during the copy, the
///   copy is partly old and partly new. So check the copy, not the mapping.
/// * The memory stays mapped as long as the `Mapping` exists. Past end-of-file, no change of the
///   file makes an access fail. (Without [`MapOptions::record_errors`], an I/O error inside the
///   file still raises SIGBUS. That ends the process, but is not undefined behaviour.)
///
/// With errors recorded, pages can change to zeros, and stores can fail to reach the file.
/// [`Device::enable_recording`] is unsafe because other code may depend on the memory for safety.
/// No code depends on the memory of a `Mapping`: there are only these copies, and other processes
/// could write the same zeros into the file. So [`clear_error`](Self::clear_error) is safe too.
///
/// Code that uses [`as_ptr`](Self::as_ptr) needs `unsafe`, and must guarantee all of the above
/// itself.
#[derive(Debug)]
pub struct Mapping {
    area: Area,
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    write: bool,
    /// The device that has opted it in; `None` if it is a plain mapping.
    device: Option<Device>,
    why_plain: Option<Error>,
    /// The number of stand-ins that [`Self::clear_error`] returned last.
    known: AtomicU64,
    /// Whether dropping it prints a message if data is lost.
    must_not_lose: bool,
}

// SAFETY: Memory can be accessed and unmapped by any thread.
unsafe impl Send for Mapping {}
// SAFETY: All accesses through a reference are atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Returns the address of the first byte. It is valid until the next [`resize`](Self::resize),
    /// or until the mapping is dropped. See "Why this is safe" before you use it. Use atomic or
    /// volatile accesses ([`copy_from_shared`]), and create no references to plain bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.area.addr
    }

    /// Returns how many bytes are mapped, whether or not the file has them. It is never 0.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies bytes from `offset` of the mapping into `bytes`. Bytes that the file does not have
    /// read as zeros, or as the data that was written to the stand-ins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if the range is not inside the mapping. Then nothing is copied.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check("reading outside of a mapping", offset, bytes.len())?;
        // SAFETY: All words of the pages are mapped as long as `self` exists. Safe code of this
        // program writes to them only atomically. Unsafe code answers for itself, and other writes
        // do not come from this program.
        unsafe { copy_from_shared(self.as_ptr().wrapping_add(offset), bytes) };
        Ok(())
    }

    /// Copies `bytes` to `offset` of the mapping.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if the range is not inside the mapping. [`ErrorKind::ReadOnly`]
    /// without [`MapOptions::write`]. In both cases nothing is copied.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check("writing outside of a mapping", offset, bytes.len())?;
        if !self.write {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "writing to a mapping that is read-only",
                None,
            ));
        }
        // SAFETY: As in `read_at`, and it is writable.
        unsafe { copy_to_shared(self.as_ptr().wrapping_add(offset), bytes) };
        Ok(())
    }

    /// Returns whether it is opted in.
    pub const fn is_protected(&self) -> bool {
        self.device.is_some()
    }

    /// Returns why [`MapOptions::map_or_plain`] could not opt it in.
    pub const fn why_plain(&self) -> Option<&Error> {
        self.why_plain.as_ref()
    }

    /// Changes the length to `len` bytes, whether or not the file has them. The address may change.
    /// If it fails, nothing has changed.
    ///
    /// It stays the same mapping: it is opted in as before, with the same event and counts.
    /// Stand-ins keep the data that was written to them. Private pages and a recorded error stay
    /// too. [`status`](Self::status) and [`close`](Self::close) report everything since the
    /// mapping was created. If it becomes shorter, stand-ins beyond the new end are dropped with
    /// the data in them, but are still counted.
    ///
    /// (mremap alone does not grow an opted-in mapping if there is room behind it.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRange`] if the length is invalid. [`ErrorKind::CannotMap`] if there is
    /// no space for the mapping.
    pub fn resize(&mut self, len: usize) -> Result<()> {
        check_extent("resizing a mapping", len, self.offset)?;
        let pages = len.next_multiple_of(page_size());
        if pages != self.area.len {
            self.area.resize(pages, self.device.is_some())?;
        }
        self.len = len;
        Ok(())
    }

    fn opt_in(&mut self, options: &MapOptions<'_>, device: &Device) -> Result<()> {
        let mut flags = Flags::empty();
        flags.set(Flags::RECORD_ERRORS, options.record_errors);
        // "Why this is safe" explains why RECORD_ERRORS is sound here.
        device.enable_checked(self.as_mapping(), flags, options.notify)?;
        self.device = Some(device.clone());
        self.must_not_lose = options.record_errors && options.write && !options.private;
        Ok(())
    }

    fn device(&self) -> Result<&Device> {
        let plain = Error::new(
            ErrorKind::NotOptedIn,
            "asking for the status of a plain mapping",
            Some(Errno::NOENT),
        );
        self.device.as_ref().ok_or(plain)
    }

    /// Returns the status of the mapping. After this call the next stand-in signals the eventfd
    /// again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotOptedIn`] if it is a plain mapping.
    pub fn status(&self) -> Result<Status> {
        self.device()?.status(self.as_ptr())
    }

    /// Returns the status as [`status`](Self::status) does, and then clears the error. It also
    /// drops the stand-ins that were mapped because of errors, with the data written to them: the
    /// next access to each of these pages asks the file system again. Private pages stay.
    ///
    /// [`sync`](Self::sync) and [`close`](Self::close) do not report the returned errors and
    /// stand-ins again.
    pub fn clear_error(&self) -> Result<Status> {
        // SAFETY: No code relies on the content of the memory; see "Why this is safe".
        let status = unsafe { self.device()?.clear_error(self.as_ptr()) }?;
        self.known.store(status.stand_ins(), Relaxed);
        Ok(status)
    }

    /// Makes the file system write back the mapping (`msync` with `MS_SYNC`). Checks that all
    /// writes have gone to the file.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Self::close), and [`ErrorKind::Other`] with the errno of `msync`.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: It is mapped, and its content does not change.
        let written = unsafe { msync(self.as_ptr().cast(), self.len, MsyncFlags::SYNC) };
        // This error comes first, because it says where in the file.
        self.check_content()?;
        written.map_err(|errno| Error::other("msync", errno))
    }

    /// Checks that all data was read from the file and that all writes have gone to it, and unmaps
    /// the mapping. No code can access the mapping between the two. A plain mapping needs no
    /// check: an error would have raised SIGBUS.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] if the file system has failed ([`MapOptions::record_errors`]).
    /// [`ErrorKind::CutOff`] if an access found the file too short, even if the file has grown
    /// since. The mapping is unmapped after an error too.
    pub fn close(mut self) -> Result<()> {
        self.must_not_lose = false;
        self.check_content()
    }

    /// Checks for errors and stand-ins. A plain mapping has none: it would have raised SIGBUS.
    fn check_content(&self) -> Result<()> {
        if !self.is_protected() {
            return Ok(());
        }
        self.status()?.check_since(self.known.load(Relaxed))
    }

    fn check(&self, action: &'static str, offset: usize, len: usize) -> Result<()> {
        if offset <= self.len && len <= self.len - offset {
            return Ok(());
        }
        Err(Error::new(ErrorKind::OutOfBounds, action, None))
    }
}

/// See [`MapOptions::record_errors`].
impl Drop for Mapping {
    fn drop(&mut self) {
        if self.must_not_lose {
            if let Err(error) = self.check_content() {
                eprintln!("nosigbus: a mapping is dropped: {error}");
            }
        }
    }
}

impl AsMapping for Mapping {
    fn as_mapping(&self) -> *const [u8] {
        ptr::slice_from_raw_parts(self.as_ptr(), self.len)
    }
}
