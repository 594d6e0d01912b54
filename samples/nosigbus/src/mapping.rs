// SPDX-License-Identifier: MIT OR Apache-2.0

//! Files mapped by this crate.

use crate::{
    AsMapping, Device, Error, ErrorKind, Flags, Result, Status,
    copy::{copy_from_shared, copy_to_shared},
    device::Told,
};
use rustix::{
    fd::{AsFd, BorrowedFd},
    fs::{FileType, fcntl_get_seals, fstat, fstatfs},
    io::Errno,
    mm::{
        MapFlags, MremapFlags, MsyncFlags, ProtFlags, mmap, mmap_anonymous, mremap, mremap_fixed,
        msync, munmap,
    },
    param::page_size,
};
use std::{
    mem, ptr,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

const HUGETLBFS_MAGIC: u32 = 0x9584_58f6;

/// How to map a file: shared and read-only, from its start, unless told otherwise.
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
    told: Told<'a>,
}

impl<'a> MapOptions<'a> {
    /// `len` bytes, of which the file need not have any.
    pub const fn new(len: usize) -> Self {
        Self {
            len,
            offset: 0,
            write: false,
            private: false,
            record_errors: false,
            tmpfs_only: false,
            told: Told {
                eventfd: None,
                cookie: None,
            },
        }
    }

    /// Where in the file it begins, in bytes: a multiple of the page size.
    pub const fn offset(mut self, offset: u64) -> Self {
        self.offset = offset;
        self
    }

    /// Whether it can be written to. The file must be open for reading and writing then, unless
    /// the mapping is private.
    pub const fn write(mut self, write: bool) -> Self {
        self.write = write;
        self
    }

    /// Whether what is written stays in this process, instead of going into the file.
    pub const fn private(mut self, private: bool) -> Self {
        self.private = private;
        self
    }

    /// Whether an I/O error inside the file, where the file system cannot read a page or has no
    /// space for one, is recorded instead of raising SIGBUS. [`Mapping::status`], [`Mapping::sync`]
    /// and [`Mapping::close`] tell of it. If a writable shared mapping is dropped without `close`,
    /// and something is lost, that is said on stderr.
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
    /// file.sync_all()?; // what fails only now is told here, as ever
    /// # Ok(())
    /// # }
    /// ```
    pub const fn record_errors(mut self, record_errors: bool) -> Self {
        self.record_errors = record_errors;
        self
    }

    /// Whether a file that is neither on a tmpfs nor a memfd is refused
    /// ([`ErrorKind::NotTmpfs`]).
    ///
    /// For files that somebody else has sent: with one of a file system of his own (FUSE), or of a
    /// server that is gone, he can have whoever reads it wait for ever, opted in or not. The memory
    /// of a tmpfs is there, or not there, at once.
    ///
    /// To find out, the kernel is asked for the file's seals, which no other files have. `fstat` and
    /// `fstatfs` would ask the server as well, and wait for it; so may closing such a file.
    pub const fn tmpfs_only(mut self, tmpfs_only: bool) -> Self {
        self.tmpfs_only = tmpfs_only;
        self
    }

    /// An eventfd to signal: an [`Event`](crate::Event), or any other. The module holds on to it.
    pub fn event(mut self, event: &'a impl AsFd) -> Self {
        self.told.eventfd = Some(event.as_fd());
        self
    }

    /// Has [`Device::notices`] tell of the mapping, by this number, which can be any.
    pub const fn cookie(mut self, cookie: u64) -> Self {
        self.told.cookie = Some(cookie);
        self
    }

    /// Maps the file and opts the mapping in.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRange`] if length or offset are no good, [`ErrorKind::CannotMap`] if the
    /// kernel does not map this file in this way, [`ErrorKind::Unsupported`] if it is no ordinary
    /// file. It is not mapped then.
    pub fn map(&self, device: &Device, file: impl AsFd) -> Result<Mapping> {
        let file = file.as_fd();
        let mut mapping = self.map_plain(file)?;
        match mapping.opt_in(self, device) {
            // The kernel may have made one with a neighbour that somebody else has mapped, or is
            // about to opt in. Once it is opted in, it does not do that.
            Err(error) if error.kind() == ErrorKind::InvalidRange => {
                let (area, _guards) = Area::between_guards(self, file)?;
                let mut mapping = self.mapping(area);
                mapping.opt_in(self, device)?;
                Ok(mapping)
            }
            result => result.map(|()| mapping),
        }
    }

    /// Maps the file and leaves it as it is: past end-of-file, an access raises SIGBUS. Of what else
    /// a [`Mapping`] is good for nothing is missing.
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

    /// Maps the file, and opts the mapping in if that can be done here. If not, because there is no
    /// device, or because the module does not take this file, it is a plain mapping, as it would be
    /// without this crate; [`Mapping::is_protected`] says which it is, and [`Mapping::why_plain`]
    /// why.
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
    /// As [`map`](Self::map), but for files that can be mapped and not be opted in: a failure that
    /// has another cause, such as [`ErrorKind::NoMemory`], leaves nothing mapped.
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

    /// Refuses what is no ordinary file before it is mapped, which devices may take for more than it
    /// is. The module refuses what else there is.
    fn check_file(&self, file: BorrowedFd<'_>) -> Result<()> {
        let refuse = |kind, action| Err(Error::new(kind, action, Some(Errno::OPNOTSUPP)));
        // First, as what follows may ask a server.
        if self.tmpfs_only && fcntl_get_seals(file).is_err() {
            return refuse(ErrorKind::NotTmpfs, "mapping a file that is not on tmpfs");
        }
        let stat = fstat(file).map_err(|errno| Error::other("fstat", errno))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return refuse(ErrorKind::Unsupported, "mapping what is no ordinary file");
        }
        let statfs = fstatfs(file).map_err(|errno| Error::other("fstatfs", errno))?;
        if statfs.f_type as u32 == HUGETLBFS_MAGIC {
            // Their mappings are longer than what was asked for.
            return refuse(ErrorKind::Unsupported, "mapping a file of huge pages");
        }
        Ok(())
    }

    /// Maps the file.
    ///
    /// # Safety
    ///
    /// As that of mmap: with an address, nobody uses what is there.
    unsafe fn mmap(&self, addr: *mut u8, file: BorrowedFd<'_>) -> Result<*mut u8> {
        let mut protection = ProtFlags::READ;
        protection.set(ProtFlags::WRITE, self.write);
        let mut flags = MapFlags::empty();
        flags.set(MapFlags::PRIVATE, self.private);
        flags.set(MapFlags::SHARED, !self.private);
        flags.set(MapFlags::FIXED, !addr.is_null());
        // SAFETY: Anywhere, or where the caller says.
        unsafe { mmap(addr.cast(), self.len, protection, flags, file, self.offset) }
            .map(|addr| addr.cast())
            .map_err(|errno| cannot_map("mmap", errno))
    }
}

fn cannot_map(action: &'static str, errno: Errno) -> Error {
    Error::new(ErrorKind::CannotMap, action, Some(errno))
}

/// Refuses what no file has, and what would not be one length in all calculations.
fn check_extent(action: &'static str, len: usize, offset: u64) -> Result<()> {
    let page = page_size();
    // With room for what rounds it up, and for guards.
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

/// Address space, whole pages of it, that is given back.
#[derive(Debug)]
struct Area {
    addr: *mut u8,
    len: usize,
}

impl Area {
    /// The file, mapped where the kernel chooses.
    fn new(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<Self> {
        // SAFETY: Where the kernel chooses.
        let addr = unsafe { options.mmap(ptr::null_mut(), file) }?;
        Ok(Self {
            addr,
            len: options.len.next_multiple_of(page_size()),
        })
    }

    /// Address space that nobody can access.
    fn reserve(len: usize) -> Result<Self> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: Where the kernel chooses.
        let addr = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) }
            .map_err(|errno| cannot_map("mmap", errno))?;
        Ok(Self {
            addr: addr.cast(),
            len,
        })
    }

    /// The file, mapped with an inaccessible page on each side, as long as these are there: it has
    /// no neighbour that the kernel could make one mapping with.
    fn between_guards(options: &MapOptions<'_>, file: BorrowedFd<'_>) -> Result<(Self, [Self; 2])> {
        let page = page_size();
        let len = options.len.next_multiple_of(page);
        let all = mem::ManuallyDrop::new(Self::reserve(len + 2 * page)?);
        let part = |start: usize, len| Self {
            addr: all.addr.wrapping_add(start),
            len,
        };
        let guards = [part(0, page), part(page + len, page)];
        // SAFETY: Inside of that, to which nobody else has a pointer. If it fails, that part is not
        // unmapped here: the kernel may have done so, and somebody else be using it.
        let addr = unsafe { options.mmap(all.addr.wrapping_add(page), file) }?;
        Ok((Self { addr, len }, guards))
    }

    /// Makes it longer or shorter, and perhaps moves it. If it fails, nothing has changed.
    fn resize(&mut self, len: usize, opted_in: bool) -> Result<()> {
        let grown = if opted_in && len > self.len {
            // The kernel does not let an opted-in mapping grow where it is, and, if there is room
            // behind it, does not move it either, unless it is told where to.
            let place = mem::ManuallyDrop::new(Self::reserve(len)?);
            // SAFETY: To a place of its own. All pointers to where it was come from a borrow of
            // the mapping, which has ended. If this fails, the place is left alone: the kernel may
            // have unmapped it, and somebody else be using it.
            unsafe {
                mremap_fixed(
                    self.addr.cast(),
                    self.len,
                    len,
                    MremapFlags::MAYMOVE,
                    place.addr.cast(),
                )
            }
        } else {
            // SAFETY: Where the kernel chooses, and as above.
            unsafe { mremap(self.addr.cast(), self.len, len, MremapFlags::MAYMOVE) }
        };
        self.addr = grown.map_err(|errno| cannot_map("mremap", errno))?.cast();
        self.len = len;
        Ok(())
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        // SAFETY: Nothing refers to it any more. It is there, so this cannot fail, unless it has
        // to split a neighbour when there are too many mappings; then it just stays.
        let _ = unsafe { munmap(self.addr.cast(), self.len) };
    }
}

/// A file, or part of one, mapped and opted in: no access to it raises SIGBUS because the file is
/// shorter. Dropping it unmaps it. ([`MapOptions::map_or_plain`] and [`MapOptions::map_plain`] make
/// ones that are not opted in; [`is_protected`](Self::is_protected) says so.)
///
/// # Why this is safe
///
/// Others, in this process and elsewhere, may write to the file at any time, and shrink it, so the
/// memory can change between any two looks at it. No Rust reference to plain bytes can be made of
/// that. Instead [`read_at`](Self::read_at) and [`write_at`](Self::write_at) copy:
///
/// * Every access is a relaxed atomic one of one aligned `usize`, whatever is copied. Parts of words
///   are written by compare-and-exchange. So any number of threads may copy at once, without data
///   races and without accesses of mixed sizes. Relaxed loads of that size may be made of read-only
///   memory.
/// * What is read is bytes, which may have any value. A copy that others write into meanwhile is
///   part old, part new: anything that has to be checked has to be checked in the copy.
/// * The memory is there as long as the `Mapping`: what others do to the file never makes an access
///   fail, past end-of-file. (Inside the file an I/O error is SIGBUS still, without
///   [`MapOptions::record_errors`]. That ends the process, and is not undefined behaviour.)
///
/// With errors recorded, pages can come to read as zeros, and stores not to reach the file.
/// [`Device::enable_recording`] is unsafe because code may depend on its memory for safety. Here
/// none does: all that there is are these copies, for which others could write the same zeros.
/// So [`clear_error`](Self::clear_error) is safe as well.
///
/// Whoever goes by [`as_ptr`](Self::as_ptr) writes `unsafe`, and has all of the above to answer for.
#[derive(Debug)]
pub struct Mapping {
    area: Area,
    len: usize,
    /// Where in the file it begins.
    offset: u64,
    write: bool,
    /// What it is opted in by, if it is.
    device: Option<Device>,
    why_plain: Option<Error>,
    /// How many stand-ins [`Self::clear_error`] has told of.
    known: AtomicU64,
    /// Whether it is to be said if it is dropped and something is lost.
    must_not_lose: bool,
}

// SAFETY: Memory can be accessed and unmapped by any thread.
unsafe impl Send for Mapping {}
// SAFETY: All accesses through a reference are atomic.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Address of the first byte. It is good as long as the mapping is, until the next
    /// [`resize`](Self::resize). See "Why this is safe" before you use it: atomic or volatile
    /// accesses ([`copy_from_shared`]), and no references to plain bytes.
    pub fn as_ptr(&self) -> *mut u8 {
        self.area.addr
    }

    /// How many bytes are mapped, whether or not the file has them. Never zero.
    #[expect(clippy::len_without_is_empty)]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Copies what is at `offset` of the mapping into `bytes`. What the file does not have reads
    /// as zeros, or as what was written to stand-ins.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if not all of it lies in the mapping; nothing is copied then.
    pub fn read_at(&self, offset: usize, bytes: &mut [u8]) -> Result<()> {
        self.check("reading outside of a mapping", offset, bytes.len())?;
        // SAFETY: All words of the pages are mapped as long as `self` is there. Nobody writes to
        // them but atomically, or by unsafe code, or in ways that are not this program's.
        unsafe { copy_from_shared(self.as_ptr().wrapping_add(offset), bytes) };
        Ok(())
    }

    /// Copies `bytes` to `offset` of the mapping.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::OutOfBounds`] if not all of it would lie in the mapping, [`ErrorKind::ReadOnly`]
    /// without [`MapOptions::write`]; nothing is copied then.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) -> Result<()> {
        self.check("writing outside of a mapping", offset, bytes.len())?;
        if !self.write {
            return Err(Error::new(
                ErrorKind::ReadOnly,
                "writing to a mapping that is read-only",
                None,
            ));
        }
        // SAFETY: As above, and it is writable.
        unsafe { copy_to_shared(self.as_ptr().wrapping_add(offset), bytes) };
        Ok(())
    }

    /// Whether it is opted in.
    pub const fn is_protected(&self) -> bool {
        self.device.is_some()
    }

    /// Why it is not opted in, if [`MapOptions::map_or_plain`] could not do that.
    pub const fn why_plain(&self) -> Option<&Error> {
        self.why_plain.as_ref()
    }

    /// Makes it `len` bytes long, whether or not the file has them. The address may be another one
    /// then. If it fails, nothing has changed.
    ///
    /// It is the same mapping, moved: opted in as it was, with the same event and numbers. What
    /// stands in for pages stays, with what was written to it, and so do private pages, and an
    /// error that was recorded; [`status`](Self::status) and [`close`](Self::close) tell of all
    /// there ever was. If it becomes shorter, what stood in for pages of the rest is gone, with
    /// what was written there, and is still told of.
    ///
    /// (By itself, mremap does not let an opted-in mapping grow where there is room behind it.)
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRange`] if that is no length, [`ErrorKind::CannotMap`] if there is no
    /// space for it.
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
        // For the safety of that see "Why this is safe".
        device.enable_checked(self.as_mapping(), flags, options.told)?;
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

    /// What has become of the mapping. The next stand-in signals the eventfd again.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotOptedIn`] if it is plain.
    pub fn status(&self) -> Result<Status> {
        self.device()?.status(self.as_ptr())
    }

    /// Tells as [`status`](Self::status) does, and then forgets the error, and drops what stands in
    /// for pages of the file because of errors, with what was written to it: the next access to
    /// each of them asks the file system again. Private pages stay.
    ///
    /// What this has told of, [`sync`](Self::sync) and [`close`](Self::close) do not tell again.
    pub fn clear_error(&self) -> Result<Status> {
        // SAFETY: No code relies on the content, see "Why this is safe".
        let status = unsafe { self.device()?.clear_error(self.as_ptr()) }?;
        self.known.store(status.stand_ins(), Relaxed);
        Ok(status)
    }

    /// Has the file system write back what was written (`msync` with `MS_SYNC`), and checks that
    /// all of it has gone to the file.
    ///
    /// # Errors
    ///
    /// Those of [`close`](Self::close), and [`ErrorKind::Other`] with the errno of `msync`.
    pub fn sync(&self) -> Result<()> {
        // SAFETY: It is mapped, and its content does not change.
        let written = unsafe { msync(self.as_ptr().cast(), self.len, MsyncFlags::SYNC) };
        // This says where.
        self.check_content()?;
        written.map_err(|errno| Error::other("msync", errno))
    }

    /// Unmaps it, and checks that all that was read was the file's, and that all that was written
    /// has gone to it. Nobody can access it between the two. Of a plain mapping there is nothing to
    /// check: SIGBUS would have told.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Failed`] if the file system has failed ([`MapOptions::record_errors`]),
    /// [`ErrorKind::CutOff`] if the file was too short at any time, also if it has grown since. It
    /// is unmapped then as well.
    pub fn close(mut self) -> Result<()> {
        self.must_not_lose = false;
        self.check_content()
    }

    /// A plain one would have had SIGBUS.
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
